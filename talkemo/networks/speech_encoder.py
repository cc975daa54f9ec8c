"""The speech encoder: 16 kHz sound → features at 50 Hz, in the place of DeepSpeech (3D-TalkEmo, section 3.3).

A residual network of dilated convolutions over log-mel bands. A feature depends on 0.64 s of sound to either side and
on nothing beyond, so that sound of any length is encoded in pieces with the same result as in one. Its second output is
log-probabilities of the blank and 28 characters, which is DeepSpeech's own output.
"""

from __future__ import annotations

import copy
import hashlib
from collections.abc import Iterator
from functools import cached_property
from typing import Any

import numpy as np
import torch
from torch import nn
from torch.nn import functional

from .. import audio as sound
from ..audio import Audio
from .building import build_network, load_tensors

FEATURE_RATE = 50.0  # features a second
SAMPLES = int(sound.SAMPLE_RATE / FEATURE_RATE)  # to a feature
STEP = 2  # mel rows to a feature
WIDTH = 256  # D, size of a feature
DILATIONS = (1, 2, 4, 8, 1, 2, 4, 8)  # features, of each block's three taps
REACH = sum(DILATIONS) + 2  # features on either side that a feature depends on
PIECE = 20.0  # s encoded at a time
MARGIN = 12  # features of silence that are encoded before and after a recording
SYMBOLS = 29  # blank, a … z, apostrophe, space


class Block(nn.Module):
    """x + a network of three taps, one hidden layer wide twice the width; (N, T, W) → (N, T, W)."""

    def __init__(self, width: int, dilation: int):
        super().__init__()
        self.dilation = dilation
        self.norm = nn.LayerNorm(width)
        self.taps = nn.Linear(3 * width, 2 * width)
        self.out = nn.Linear(2 * width, width)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        # Three taps side by side and one matrix: quicker on a CPU than a dilated convolution.
        d, length = self.dilation, x.shape[1]
        y = functional.pad(self.norm(x), (0, 0, d, d))
        y = torch.cat([y[:, k * d : k * d + length] for k in range(3)], 2)
        return x + self.out(functional.gelu(self.taps(y)))


class EncoderNetwork(nn.Module):
    """Log-mel rows (N, 2·T, bands) at 100 Hz → features (N, T, W) at 50 Hz; feature k is centred on row 2·k."""

    def __init__(self, bands: int = sound.MELS, width: int = WIDTH, dilations: tuple[int, ...] = DILATIONS):
        super().__init__()
        self.first = nn.Conv1d(bands, width, 3, padding=1)
        self.second = nn.Conv1d(width, width, 3, stride=STEP, padding=1)
        self.blocks = nn.ModuleList([Block(width, dilation) for dilation in dilations])
        self.norm = nn.LayerNorm(width)
        self.symbols = nn.Linear(width, SYMBOLS)

    def forward(self, mel: torch.Tensor) -> torch.Tensor:
        x = functional.gelu(self.first(mel.transpose(1, 2)))
        x = functional.gelu(self.second(x)).transpose(1, 2)
        for block in self.blocks:
            x = block(x)
        return self.norm(x)

    def log_probabilities(self, features: torch.Tensor) -> torch.Tensor:
        """Of blank and characters (N, T, 29), from features (N, T, W)."""
        return functional.log_softmax(self.symbols(features).float(), 2)


class LogMel(nn.Module):
    """The identity encoder, for comparison: two log-mel rows side by side. (N, 2·T, bands) → (N, T, 2·bands)."""

    def forward(self, mel: torch.Tensor) -> torch.Tensor:
        return mel.reshape(len(mel), -1, STEP * mel.shape[2])


class SpeechEncoder:
    """A trained encoder with its mel filter bank (bands, 257), on a device."""

    def __init__(
        self,
        network: nn.Module,
        filters: np.ndarray,
        width: int,
        settings: dict[str, Any],
        device: torch.device | str = "cpu",
    ):
        self.device = torch.device(device)
        self.network = network.eval().to(self.device)
        self.filters = filters
        self.width = width
        self.settings = settings

    @cached_property
    def fingerprint(self) -> str:
        """Identifies these features: a talking model is trained on one encoder's and cannot use another's."""
        digest = hashlib.sha256(np.ascontiguousarray(self.filters).tobytes())
        for _, tensor in sorted(self.network.state_dict().items()):
            digest.update(tensor.cpu().numpy().tobytes())
        return digest.hexdigest()[:16]

    def with_tensors(self, tensors: dict[str, np.ndarray]) -> SpeechEncoder:
        """A copy of this encoder with some of its tensors replaced."""
        network = copy.deepcopy(self.network)
        load_tensors(network, tensors, some=True)
        return SpeechEncoder(network, self.filters, self.width, self.settings, self.device)

    def encode(self, rows: np.ndarray) -> np.ndarray:
        """Features and loudness (n, D + 1) of normalised mel rows (2 · (n + 2 · REACH), bands).

        The REACH features at either end are encoded and dropped: their context is incomplete.
        """
        with torch.inference_mode():
            feature = self.network(torch.from_numpy(rows)[None].to(self.device))[0, REACH:-REACH].cpu().numpy()
        loudness = rows[STEP * REACH : -STEP * REACH].max(1).reshape(-1, STEP).max(1)
        return np.concatenate([feature, loudness[:, None]], 1)

    def stream(self, audio: Audio, seconds: float = PIECE) -> Iterator[np.ndarray]:
        """Consecutive rows (n, D + 1) float32 at 50 Hz, row k at (k − MARGIN) / 50 s; the last column is the loudness.

        Loudness is the loudest band's level: 1 where the recording is loud, 0 for 80 dB under that, see
        `audio.normalise`. The result does not depend on `seconds`, the length of the pieces.
        """
        level = sound.loud_level(audio, self.filters)
        rows = max(STEP, STEP * round(seconds * FEATURE_RATE))
        # The network pads with zeros at every layer; what stands at the ends of a piece is encoded along and dropped,
        # and beyond the recording there is silence.
        reach = STEP * REACH
        silence = np.zeros((reach + STEP * MARGIN, len(self.filters)), np.float32)
        held, source, ended = silence, sound.mel_rows(audio, self.filters), False
        while not ended or len(held) > 2 * reach:
            while not ended and len(held) < rows + 2 * reach:
                piece = next(source, None)
                if piece is None:
                    ended = True
                    held = np.concatenate([held, silence[: len(held) % STEP], silence])
                else:
                    held = np.concatenate([held, sound.normalise(piece, level)])
            yield self.encode(held[: rows + 2 * reach])
            held = held[rows:]

    def features(self, audio: Audio) -> np.ndarray:
        """The whole recording with its margins, (T' + 2 · MARGIN, D + 1) float32."""
        return np.concatenate(list(self.stream(audio)))


def encoder_tensors(network: EncoderNetwork, filters: np.ndarray) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
    """What a weights file keeps of an encoder: tensors in float16 with the filter bank, and the network's dimensions."""
    tensors = {name: tensor.detach().cpu().numpy().astype(np.float16) for name, tensor in network.state_dict().items()}
    dilations = [block.dilation for block in network.blocks]
    return {**tensors, "filters": filters}, {"width": network.norm.normalized_shape[0], "dilations": dilations}


def build_encoder(
    tensors: dict[str, np.ndarray], settings: dict[str, Any], device: torch.device | str = "cpu"
) -> SpeechEncoder:
    """The encoder of a weights file's tensors and settings."""
    tensors = dict(tensors)
    filters = tensors.pop("filters")
    dilations = tuple(settings["dilations"])
    network = build_network(lambda: EncoderNetwork(len(filters), settings["width"], dilations), tensors)
    return SpeechEncoder(network, filters, settings["width"], settings, device)


def log_mel_encoder(filters: np.ndarray | None = None, device: torch.device | str = "cpu") -> SpeechEncoder:
    """Log-mel bands in the encoder's place, by a filter bank (80, 257); librosa's if None."""
    filters = sound.mel_filters() if filters is None else filters
    return SpeechEncoder(LogMel(), filters, STEP * sound.MELS, {}, device)
