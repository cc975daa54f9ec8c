"""The talking model (3D-TalkEmo, section 3.3): VOCA's encoder and a linear decoder.

The decoder's output lies in the span of the face's blend shapes, as all captured motion does. The
decoder therefore maps 50 components to the S coordinates of a `Motion`. Followed by the fixed basis
(S, V·3) it equals VOCA's linear decoder of 50 components to V·3 displacements, initialised with the
first principal components, at a hundredth of the cost.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

import numpy as np
import torch
from torch import nn

from ..audio.mel import FFT_SAMPLES
from ..audio.recording import SAMPLE_RATE, Audio, AudioSource
from ..errors import InputError
from ..face.canonical import Face
from ..face.motion import Motion, split_times
from .building import build_network
from .protocols import DEFAULT_STYLE, FeatureEncoder, SpeechToMotion
from .speech_encoder import (
    ENCODER_CHUNK_S,
    FEATURE_RATE,
    SILENCE_MARGIN_FEATURES,
    SpeechEncoder,
)

WINDOW_FEATURES = 16  # features around a frame, t − 8 … t + 7 sixtieths of a second, as in VOCA
WINDOW_RATE_HZ = 60.0  # of the features within a window
# Time from a frame to the last feature of its window.
WINDOW_FUTURE_S = (WINDOW_FEATURES / 2 - 1) / WINDOW_RATE_HZ
TALKING_CHANNELS = (128, 128, 128, 128)  # of the convolutions
TALKING_HIDDEN_WIDTH, TALKING_COMPONENTS = 256, 50
# Loudness from the encoder (1 is loud): below −72 dB re loud is silence, above −64 dB speech.
SILENCE_LOUDNESS, SPEECH_LOUDNESS = 0.1, 0.2
FULL_MOTION_AUDIBLE_SHARE = 0.6  # share of a window that must be audible for the full motion
LIP_PRESS_LIMIT_MM = 0.4  # how much closer than at rest the lips can be


class TalkingNetwork(nn.Module):
    """Maps windows of features and a style to coordinates of the displacement.

    Windows are (N, 16, D), coordinates (N, S). The style is VOCA's subject one-hot (N, K). All
    zeros stand for an unknown speaker; the training includes such zeros. As the style is the same
    for all 16 features, it is added after the first convolution instead of widening its input.
    """

    def __init__(self, features: int, styles: int, coordinates: int, dropout: float = 0.0):
        super().__init__()
        self.normalise = nn.BatchNorm1d(features, affine=False)
        inputs, layers = features, []
        for channels in TALKING_CHANNELS:
            layers.append(nn.Linear(3 * inputs, channels))
            inputs = channels
        self.convolutions = nn.ModuleList(layers)
        self.style = nn.Linear(styles, TALKING_CHANNELS[0], bias=False)
        self.hidden = nn.Linear(inputs + styles, TALKING_HIDDEN_WIDTH)
        self.code = nn.Linear(TALKING_HIDDEN_WIDTH, TALKING_COMPONENTS)
        self.decoder = nn.Linear(TALKING_COMPONENTS, coordinates)
        self.dropout = nn.Dropout(dropout)

    def prepare(self, feature: torch.Tensor) -> torch.Tensor:
        """Normalise features (T', D) once, before they are cut into overlapping windows."""
        return self.dropout(self.normalise(feature))

    def forward(self, window: torch.Tensor, style: torch.Tensor) -> torch.Tensor:
        x = window
        for number, convolution in enumerate(self.convolutions):
            # A convolution with three taps and stride two as one matrix product, which is faster on
            # a CPU. Features 2·t and 2·t + 1 are adjacent in memory; feature 2·t − 1 comes before
            # them, zero for the first.
            pairs = x.reshape(len(x), -1, 2 * x.shape[2])
            before = nn.functional.pad(pairs[:, :-1, x.shape[2] :], (0, 0, 1, 0))
            x = convolution(torch.cat([before, pairs], 2))
            if number == 0:
                x = x + self.style(style)[:, None]
            x = torch.relu(x)
        x = self.dropout(x.flatten(1))
        x = torch.tanh(self.hidden(torch.cat([x, style], dim=1)))
        return self.decoder(self.code(self.dropout(x)))


def windows(feature: torch.Tensor, times: torch.Tensor) -> torch.Tensor:
    """Return linearly interpolated windows (T, 16, D) of features (T', D).

    Parameters
    ----------
    times : (T,) s
        Centres of the windows; the first feature is at 0. The first and the last feature, which
        are of silence, are repeated beyond the ends.
    """
    steps = torch.arange(WINDOW_FEATURES, dtype=torch.float64, device=times.device)
    offsets = (steps - WINDOW_FEATURES // 2) / WINDOW_RATE_HZ
    position = ((times.double()[:, None] + offsets) * FEATURE_RATE).clamp(0, len(feature) - 1)
    low = position.floor().long().clamp(0, len(feature) - 2)
    fraction = (position - low).to(feature.dtype)
    index = low.flatten()
    earlier, later = feature.index_select(0, index), feature.index_select(0, index + 1)
    return earlier.lerp_(later, fraction.flatten()[:, None]).unflatten(0, low.shape)


class TalkingModel(SpeechToMotion):
    """A trained talking network with its speech encoder, for a face."""

    def __init__(
        self,
        network: TalkingNetwork,
        encoder: FeatureEncoder,
        face: Face,
        settings: dict[str, Any],
        device: torch.device | str = "cpu",
    ):
        self.device = torch.device(device)
        self.network = network.eval().to(self.device)
        self.encoder = encoder
        self.face = face
        self.styles = settings["styles"]
        self.settings = settings

    def style(self, name: str | None) -> int | None:
        """Return the index of a style, or None for the default. Raises InputError if unknown."""
        if name in (None, "", DEFAULT_STYLE):
            return None
        if name not in self.styles:
            examples = ", ".join(self.styles[:: max(1, len(self.styles) // 6)])
            raise InputError(
                f"unknown style '{name}'",
                f"choose default, or a speaker's: {examples} … ({len(self.styles)} in all: "
                "talkemo styles)",
            )
        return self.styles.index(name)

    @property
    def lookahead_s(self) -> float:
        """How many seconds of audio after it a frame depends on."""
        mel_row = FFT_SAMPLES / 2 / SAMPLE_RATE
        return self.encoder.lookahead_features / FEATURE_RATE + WINDOW_FUTURE_S + mel_row

    def motion(self, audio: Audio, times: np.ndarray, style: str | None = None) -> Motion:
        """Return the motion of a recording at ascending times (T,) s."""
        return Motion.concatenate(self.stream(audio, split_times(times), style), self.face)

    def stream(
        self,
        audio: AudioSource,
        parts: Iterable[np.ndarray],
        style: str | None = None,
        chunk_s: float = ENCODER_CHUNK_S,
    ) -> Iterator[Motion]:
        """Yield the motion at consecutive parts of ascending times, see `SpeechToMotion`.

        The face is at rest while its window is silent.
        """
        style_index = self.style(style)
        source = self.encoder.stream(audio, chunk_s)
        features = np.zeros((0, self.encoder.width + 1), np.float32)
        first = -SILENCE_MARGIN_FEATURES  # number of the first of the features
        for times in parts:
            last_s = times[-1] + WINDOW_FUTURE_S
            while len(features) < 2 or (first + len(features) - 1) / FEATURE_RATE < last_s:
                more = next(source, None)
                if more is None:
                    break
                features = np.concatenate([features, more])
            coordinates, loudness = self.predict(
                features, times - first / FEATURE_RATE, style_index
            )
            yield Motion(times, self._with_lips_apart(coordinates), loudness)
            done = int((times[-1] - WINDOW_FEATURES / WINDOW_RATE_HZ) * FEATURE_RATE) - first
            # The end of the audio is kept, for times beyond it.
            done = min(done, len(features) - 2)
            if done > 0:
                features, first = features[done:], first + done

    def predict(
        self, features: np.ndarray, times: np.ndarray, style: int | None
    ) -> tuple[np.ndarray, np.ndarray]:
        """Return coordinates (T, S) and loudness (T,) at times after the first of the features.

        Parameters
        ----------
        features : (T', D + 1)
            Features, with the loudness in the last column.
        times : (T,) s
        """
        one_hot = torch.zeros(len(times), len(self.styles), device=self.device)
        if style is not None:
            one_hot[:, style] = 1
        with torch.inference_mode():
            feature = torch.from_numpy(features).to(self.device)
            centres = torch.from_numpy(times).to(self.device)
            window = windows(self.network.prepare(feature[:, :-1]), centres)
            coordinates = self.network(window, one_hot).cpu().numpy()
            loudness = windows(feature[:, -1:], centres)[..., 0].cpu().numpy()
        # The motion fades in and out with the audible share of its window, a quarter of a second.
        audible = (loudness - SILENCE_LOUDNESS) / (SPEECH_LOUDNESS - SILENCE_LOUDNESS)
        share = np.clip(audible, 0, 1).mean(1)
        coordinates *= np.clip(share / FULL_MOTION_AUDIBLE_SHARE, 0, 1)[:, None]
        return coordinates, loudness[:, WINDOW_FEATURES // 2]

    def _with_lips_apart(self, coordinates: np.ndarray) -> np.ndarray:
        """Return coordinates (T, S) whose lips press together, but do not pass through each other."""
        excess = np.minimum(coordinates @ self.face.lip_opening_gradient + LIP_PRESS_LIMIT_MM, 0)
        return np.asarray(coordinates - excess[:, None] * self.face.unit_jaw_opening)


def talking_tensors(network: TalkingNetwork) -> dict[str, np.ndarray]:
    """Return a network's tensors for a weights file: float16, but the batch norm in float32."""
    tensors = {}
    for name, tensor in network.state_dict().items():
        array = tensor.detach().cpu().numpy()
        tensors[name] = array if name.startswith("normalise") else array.astype(np.float16)
    return tensors


def build_talking(
    tensors: dict[str, np.ndarray],
    settings: dict[str, Any],
    encoder: SpeechEncoder,
    face: Face,
    device: torch.device | str = "cpu",
) -> TalkingModel:
    """Return the talking model of a weights file's tensors and settings.

    Tensors called `encoder/…` are changes of the speech encoder, if it was trained together with
    the talking model; see `encoder_changes`.
    """
    tensors = dict(tensors)
    changes = {
        name.removeprefix("encoder/"): tensors.pop(name)
        for name in list(tensors)
        if name.startswith("encoder/")
    }
    encoder = encoder.narrowed(settings.get("future"))
    if changes:
        encoder = encoder.changed(changes)
    tensors["normalise.num_batches_tracked"] = np.zeros((), np.int64)
    styles, coordinates = len(settings["styles"]), len(face.expression_names)
    network = build_network(lambda: TalkingNetwork(encoder.width, styles, coordinates), tensors)
    return TalkingModel(network, encoder, face, settings, device)
