"""The talking model (3D-TalkEmo, section 3.3): VOCA's encoder and a linear decoder from speech to the canonical face.

The decoder's output lies in the span of the face's blend shapes, where all captured motion lies too. It is therefore
kept as 50 → S coordinates in an orthonormal basis of that span, followed by the fixed basis (S, V·3): the same linear
50 → V·3 decoder, initialised with the first principal components, at a hundredth of the arithmetic in training.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from . import encoder, speech, weights
from .encoder import SpeechEncoder
from .errors import InputError
from .face import Face, orthonormal_span

WINDOW = 16  # features around a frame, t − 8 … t + 7 sixtieths of a second, as in VOCA
WINDOW_RATE = 60.0  # Hz, of the features within a window
CHANNELS = (128, 128, 128, 128)
HIDDEN, COMPONENTS = 256, 50
HISS, SPEECH = 0.1, 0.2  # loudness, 72 and 64 dB under loud: no sound, and surely sound (mouths move before it)
BATCH = 256  # windows at a time when animating


class TalkingNetwork(nn.Module):
    """Windows (N, 16, D) and a style one-hot (N, K) → coordinates (N, S) of the displacement.

    The style is VOCA's subject one-hot; all zeros stand for an unknown voice, and training shows such zeros too. Being
    the same at all 16 features, it joins after the first convolution instead of widening its input.
    """

    def __init__(self, features: int, styles: int, coordinates: int, dropout: float = 0.0):
        super().__init__()
        self.normalise = nn.BatchNorm1d(features, affine=False)
        before, layers = features, []
        for channels in CHANNELS:
            layers.append(nn.Linear(3 * before, channels))
            before = channels
        self.convolutions = nn.ModuleList(layers)
        self.style = nn.Linear(styles, CHANNELS[0], bias=False)
        self.hidden = nn.Linear(before + styles, HIDDEN)
        self.code = nn.Linear(HIDDEN, COMPONENTS)
        self.decoder = nn.Linear(COMPONENTS, coordinates)
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
    offsets = (torch.arange(WINDOW, dtype=torch.float64) - WINDOW // 2) / WINDOW_RATE
    position = ((times.double()[:, None] + offsets) * encoder.RATE).clamp(0, len(feature) - 1)
    low = position.floor().long().clamp(0, len(feature) - 2)
    fraction = (position - low).to(feature.dtype)
    index = low.flatten()
    near, far = feature.index_select(0, index), feature.index_select(0, index + 1)
    return near.lerp_(far, fraction.flatten()[:, None]).unflatten(0, low.shape)


class TalkingModel:
    """A trained talking network with its speech encoder, on a face."""

    def __init__(self, network: TalkingNetwork, ear: SpeechEncoder, span: np.ndarray, settings: dict[str, Any]):
        self.network = network.eval()
        self.encoder = ear
        self.span = span  # (S, V·3) mm, orthonormal rows
        self.styles: list[str] = settings["styles"]
        self.settings = settings

    def style(self, name: str | None) -> int | None:
        """The number of a style; None for the default, an unknown voice. Raises InputError for a name it has not."""
        if name in (None, "", "default"):
            return None
        if name not in self.styles:
            few = ", ".join(self.styles[:: max(1, len(self.styles) // 6)])
            raise InputError(f"unknown style '{name}'", f"choose default, or a speaker's: {few} … ({len(self.styles)})")
        return self.styles.index(name)

    def displacement(self, audio: speech.Audio, times: np.ndarray, style: str | None = None) -> np.ndarray:
        """Displacement (T, V, 3) mm of the canonical face at ascending times (T,) s of a recording."""
        parts = list(self.stream(audio, times, style))
        return np.concatenate(parts) if parts else np.zeros((0, self.span.shape[1] // 3, 3), np.float32)

    def stream(
        self,
        audio: speech.Audio,
        times: np.ndarray,
        style: str | None = None,
        batch: int = BATCH,
        piece: float = encoder.PIECE,
    ) -> Iterator[np.ndarray]:
        """The same in consecutive parts of `batch` frames, the sound being heard in pieces of `piece` seconds.

        Neither changes the result. A face rests while its window holds no sound.
        """
        for coordinates in self.coordinates(audio, times, style, batch, piece):
            yield (coordinates @ self.span).reshape(len(coordinates), -1, 3)

    def coordinates(
        self,
        audio: speech.Audio,
        times: np.ndarray,
        style: str | None = None,
        batch: int = BATCH,
        piece: float = encoder.PIECE,
    ) -> Iterator[np.ndarray]:
        """The same as coordinates (n, S) in the span."""
        number = self.style(style)
        source = self.encoder.stream(audio, piece)
        held = np.zeros((0, self.encoder.width + 1), np.float32)
        first = -encoder.MARGIN  # the number of the first feature held
        for start in range(0, len(times), batch):
            part = np.asarray(times[start : start + batch], np.float64)
            last = part[-1] + WINDOW / 2 / WINDOW_RATE
            while len(held) < 2 or (first + len(held) - 3) / encoder.RATE < last:
                more = next(source, None)
                if more is None:
                    break
                held = np.concatenate([held, more])
            times_held = torch.from_numpy(part - first / encoder.RATE)
            one_hot = torch.zeros(len(part), len(self.styles))
            if number is not None:
                one_hot[:, number] = 1
            with torch.inference_mode():
                feature = self.network.prepare(torch.from_numpy(held[:, :-1]))
                result = self.network(windows(feature, times_held), one_hot).numpy()
            loudness = windows(torch.from_numpy(held[:, -1:]), times_held)[..., 0].numpy()
            # Sound fades a face in and out of its rest, over the quarter of a second of its window: nothing heard,
            # nothing moves.
            heard = np.clip((loudness - HISS) / (SPEECH - HISS), 0, 1).mean(1)
            yield result * np.clip(heard / 0.6, 0, 1)[:, None]
            done = int((part[-1] - WINDOW / WINDOW_RATE) * encoder.RATE) - first
            done = min(done, len(held) - 2)  # for times beyond the sound, its end is what is left to hear
            if done > 0:
                held, first = held[done:], first + done


def save_talking(
    path: str | Path,
    network: TalkingNetwork,
    upper: dict[str, torch.Tensor],
    settings: dict[str, Any],
    filters: np.ndarray | None = None,
) -> None:
    """Write a network to a safetensors file, in float16 but for the batch norm; `upper` are the tensors of the speech
    encoder that were trained along with it and take the place of the encoder's own, `filters` the mel filter bank where
    there is no encoder."""
    tensors = {}
    for name, tensor in network.state_dict().items():
        array = tensor.detach().cpu().numpy()
        tensors[name] = array if name.startswith("normalise") else array.astype(np.float16)
    if filters is not None:
        tensors["filters"] = filters
    for name, tensor in upper.items():
        tensors[f"encoder/{name}"] = tensor.detach().cpu().numpy().astype(np.float16)
    weights.save(path, "talking", tensors, settings)


@lru_cache(maxsize=2)
def load_talking(face: Face, path: str | Path | None = None, encoder_path: str | Path | None = None) -> TalkingModel:
    """The talking model of a weights file with the speech encoder it was trained on, the bundled ones by default."""
    tensors, settings = weights.load(path, "talking")
    with weights.understood(path, "talking"):
        return _build(face, tensors, settings, encoder_path)


def _build(
    face: Face, tensors: dict[str, np.ndarray], settings: dict[str, Any], encoder_path: str | Path | None
) -> TalkingModel:
    upper = {name[8:]: tensors.pop(name) for name in [*tensors] if name.startswith("encoder/")}
    if settings["features"] == "log-mel":
        ear = encoder.log_mel_encoder(tensors.pop("filters"))
    else:
        ear = encoder.load_encoder(encoder_path)
    if settings["encoder"] != ear.fingerprint:
        raise InputError(
            "the talking model was trained on another speech encoder's features",
            "keep speech.safetensors and talking.safetensors of one training together",
        )
    if upper:
        ear = ear.with_tensors(upper)
    span, _ = orthonormal_span(face)
    network = TalkingNetwork(ear.width, len(settings["styles"]), len(span))
    state = {name: torch.from_numpy(array.astype(np.float32)) for name, array in tensors.items()}
    state["normalise.num_batches_tracked"] = torch.zeros((), dtype=torch.long)
    network.load_state_dict(state)
    return TalkingModel(network, ear, span, settings)
