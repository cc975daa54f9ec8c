"""The talking model (3D-TalkEmo, section 3.3): VOCA's encoder and a linear decoder from speech to the canonical face.

The decoder's output lies in the span of the face's blend shapes, where all captured motion lies too. The decoder is
therefore 50 → S coordinates of a `Motion`; followed by the fixed basis (S, V·3) it is VOCA's linear 50 → V·3 decoder,
initialised with the first principal components, at a hundredth of the arithmetic.
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
from ..face.motion import Motion, in_parts
from .building import build_network
from .speech_encoder import FEATURE_RATE, SILENCE_MARGIN_FEATURES, ENCODER_CHUNK_S, SpeechEncoder

WINDOW_FEATURES = 16  # features around a frame, t − 8 … t + 7 sixtieths of a second, as in VOCA
WINDOW_RATE_HZ = 60.0  # Hz, of the features within a window
TALKING_CHANNELS = (128, 128, 128, 128)
TALKING_HIDDEN_WIDTH, TALKING_COMPONENTS = 256, 50
# Loudness, 72 and 64 dB under loud, below which there is no sound and above which there surely is.
SILENCE_LOUDNESS, SPEECH_LOUDNESS = 0.1, 0.2
FULL_MOTION_AUDIBLE_SHARE = 0.6  # of a window that has to hold sound for the face to move fully
LIP_PRESS_LIMIT_MM = 0.4  # mm beyond their distance at rest by which lips can be closed


class TalkingNetwork(nn.Module):
    """Windows (N, 16, D) and a style one-hot (N, K) → coordinates (N, S) of the displacement.

    The style is VOCA's subject one-hot; all zeros stand for an unknown voice, and training shows such zeros too. Being
    the same at all 16 features, it joins after the first convolution instead of widening its input.
    """

    def __init__(self, features: int, styles: int, coordinates: int, dropout: float = 0.0):
        super().__init__()
        self.normalise = nn.BatchNorm1d(features, affine=False)
        before, layers = features, []
        for channels in TALKING_CHANNELS:
            layers.append(nn.Linear(3 * before, channels))
            before = channels
        self.convolutions = nn.ModuleList(layers)
        self.style = nn.Linear(styles, TALKING_CHANNELS[0], bias=False)
        self.hidden = nn.Linear(before + styles, TALKING_HIDDEN_WIDTH)
        self.code = nn.Linear(TALKING_HIDDEN_WIDTH, TALKING_COMPONENTS)
        self.decoder = nn.Linear(TALKING_COMPONENTS, coordinates)
        self.dropout = nn.Dropout(dropout)

    def prepare(self, feature: torch.Tensor) -> torch.Tensor:
        """Features (T', D) as windows of them are expected: VOCA's batch norm, done once instead of 16 times."""
        return self.dropout(self.normalise(feature))

    def forward(self, window: torch.Tensor, style: torch.Tensor) -> torch.Tensor:
        x = window
        for number, convolution in enumerate(self.convolutions):
            # Three taps, stride two, as one matrix: quicker on a CPU than a convolution so short. Features 2·t and
            # 2·t + 1 already lie side by side; before them comes feature 2·t − 1, zero for the first.
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
    """Windows (T, 16, D) of features (T', D) around times (T,) s on the features' clock, by linear interpolation.

    Beyond the first and the last feature, which stand for silence, these two are repeated.
    """
    offsets = (
        torch.arange(WINDOW_FEATURES, dtype=torch.float64, device=times.device) - WINDOW_FEATURES // 2
    ) / WINDOW_RATE_HZ
    position = ((times.double()[:, None] + offsets) * FEATURE_RATE).clamp(0, len(feature) - 1)
    low = position.floor().long().clamp(0, len(feature) - 2)
    fraction = (position - low).to(feature.dtype)
    index = low.flatten()
    near, far = feature.index_select(0, index), feature.index_select(0, index + 1)
    return near.lerp_(far, fraction.flatten()[:, None]).unflatten(0, low.shape)


class TalkingModel:
    """A trained talking network with its speech encoder, for a face."""

    def __init__(
        self,
        network: TalkingNetwork,
        encoder: SpeechEncoder,
        face: Face,
        settings: dict[str, Any],
        device: torch.device | str = "cpu",
    ):
        self.device = torch.device(device)
        self.network = network.eval().to(self.device)
        self.encoder = encoder
        self.face = face
        self.styles: list[str] = settings["styles"]
        self.settings = settings

    def style(self, name: str | None) -> int | None:
        """The index of a style; None for the default, an unknown voice. Raises InputError for an unknown name."""
        if name in (None, "", "default"):
            return None
        if name not in self.styles:
            few = ", ".join(self.styles[:: max(1, len(self.styles) // 6)])
            raise InputError(
                f"unknown style '{name}'",
                f"choose default, or a speaker's: {few} … ({len(self.styles)})",
            )
        return self.styles.index(name)

    @property
    def lookahead_s(self) -> float:
        """How many seconds of sound after a frame it depends on."""
        mel = FFT_SAMPLES / 2 / SAMPLE_RATE
        return self.encoder.lookahead_s / FEATURE_RATE + (WINDOW_FEATURES / 2 - 1) / WINDOW_RATE_HZ + mel

    def motion(self, audio: Audio, times: np.ndarray, style: str | None = None) -> Motion:
        """The motion of a recording at ascending times (T,) s."""
        return Motion.joined(self.stream(audio, in_parts(times), style), self.face)

    def stream(
        self,
        audio: AudioSource,
        parts: Iterable[np.ndarray],
        style: str | None = None,
        piece: float = ENCODER_CHUNK_S,
    ) -> Iterator[Motion]:
        """The same in consecutive parts of times (T,), the sound being encoded in pieces of `piece` seconds.

        Neither changes the result. A part comes as soon as the sound has come that it depends on. A face rests while its
        window holds no sound.
        """
        number = self.style(style)
        source = self.encoder.stream(audio, piece)
        held = np.zeros((0, self.encoder.width + 1), np.float32)
        first = -SILENCE_MARGIN_FEATURES  # the number of the first feature held
        for part in parts:
            last = part[-1] + (WINDOW_FEATURES / 2 - 1) / WINDOW_RATE_HZ
            while len(held) < 2 or (first + len(held) - 1) / FEATURE_RATE < last:
                more = next(source, None)
                if more is None:
                    break
                held = np.concatenate([held, more])
            yield Motion(part, *self._predict(held, part - first / FEATURE_RATE, number))
            done = int((part[-1] - WINDOW_FEATURES / WINDOW_RATE_HZ) * FEATURE_RATE) - first
            done = min(
                done, len(held) - 2
            )  # for times beyond the sound, the end of the sound is kept
            if done > 0:
                held, first = held[done:], first + done

    def _predict(
        self, features: np.ndarray, times: np.ndarray, style: int | None
    ) -> tuple[np.ndarray, np.ndarray]:
        """Coordinates (T, S) and loudness (T,) at times (T,) s after the first of the features (T', D + 1)."""
        one_hot = torch.zeros(len(times), len(self.styles), device=self.device)
        if style is not None:
            one_hot[:, style] = 1
        with torch.inference_mode():
            held = torch.from_numpy(features).to(self.device)
            at = torch.from_numpy(times).to(self.device)
            result = (
                self.network(windows(self.network.prepare(held[:, :-1]), at), one_hot).cpu().numpy()
            )
            loudness = windows(held[:, -1:], at)[..., 0].cpu().numpy()
        # Sound fades the face in and out of its rest, over the quarter of a second of its window.
        audible = np.clip((loudness - SILENCE_LOUDNESS) / (SPEECH_LOUDNESS - SILENCE_LOUDNESS), 0, 1).mean(1)
        result *= np.clip(audible / FULL_MOTION_AUDIBLE_SHARE, 0, 1)[:, None]
        # Lips press each other and do not pass through each other.
        passed = np.minimum(result @ self.face.opening_row + LIP_PRESS_LIMIT_MM, 0)
        return result - passed[:, None] * self.face.jaw_row, loudness[:, WINDOW_FEATURES // 2]


def talking_tensors(network: TalkingNetwork) -> dict[str, np.ndarray]:
    """What a weights file keeps of a network: float16, but for the batch norm."""
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
    """The talking model of a weights file's tensors and settings.

    Tensors named `encoder/…` are what the speech encoder changed by when it was trained along, see `encoder_changes`.
    """
    tensors = dict(tensors)
    changes = {name[8:]: tensors.pop(name) for name in [*tensors] if name.startswith("encoder/")}
    if changes:
        encoder = encoder.changed(changes)
    tensors["normalise.num_batches_tracked"] = np.zeros((), np.int64)
    styles, coordinates = len(settings["styles"]), len(face.expression_names)
    network = build_network(lambda: TalkingNetwork(encoder.width, styles, coordinates), tensors)
    return TalkingModel(network, encoder, face, settings, device)
