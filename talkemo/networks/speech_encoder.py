"""The speech encoder: 16 kHz sound → features at 50 Hz, in the place of DeepSpeech (3D-TalkEmo, section 3.3).

The lowest layers of a small Whisper encoder (Radford et al. 2022, "Robust Speech Recognition via Large-Scale Weak
Supervision"), whose attention is changed so that a feature sees a second before it and a fifth of a second after it per
layer, at distances instead of places in a 30 s window. Sound of any length is therefore encoded in pieces with the same
result as in one. Its second output is log-probabilities of the blank and 28 characters, which is DeepSpeech's own output.
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
WIDTH = 384  # D, size of a feature
LAYERS = 3
HEAD = 64  # size of a head of the attention
PAST, FUTURE = 48, 10  # features before and after one that it attends to, in each layer
CHUNK = 32  # features whose attention is computed together
HIDDEN_LOGIT = -1e4  # of what is not attended to
PIECE = 20.0  # s encoded at a time
MARGIN = 12  # features of silence that are encoded before and after a recording
SCALE, SMALLEST_SCALE = "/scale", 2.0**-24  # the end of the name of a change's scale, and the least that float16 holds
SYMBOLS = 29  # blank, a … z, apostrophe, space


class Attention(nn.Module):
    """Self-attention to what is near, by content and by a learnt bias for each distance; (N, T, W) → (N, T, W)."""

    def __init__(self, width: int, past: int, future: int):
        super().__init__()
        self.heads, self.past, self.future = width // HEAD, past, future
        self.queries_keys_values, self.attended = nn.Linear(width, 3 * width), nn.Linear(width, width)
        self.near = nn.Parameter(torch.zeros(self.heads, past + 1 + future))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        count, length, width = x.shape
        chunks = -(-length // CHUNK)
        span, more = self.past + CHUNK + self.future, chunks * CHUNK - length
        parts = self.queries_keys_values(x).unflatten(2, (3, self.heads, HEAD)).permute(2, 0, 3, 1, 4)
        query = functional.pad(parts[0], (0, 0, 0, more)).reshape(count, -1, CHUNK, HEAD)
        around = functional.pad(parts[1:], (0, 0, self.past, more + self.future)).unfold(3, span, CHUNK)
        key, value = around.transpose(4, 5).flatten(2, 3)
        bias = self._bias(length, chunks, x.device).to(query.dtype)
        found = functional.scaled_dot_product_attention(query, key, value, attn_mask=bias)
        found = found.reshape(count, self.heads, -1, HEAD)[:, :, :length]
        return self.attended(found.transpose(1, 2).reshape(count, length, width))  # type: ignore[no-any-return]

    def _bias(self, length: int, chunks: int, device: torch.device) -> torch.Tensor:
        """What is added to the logits, (heads · chunks, CHUNK, span): of queries of a chunk, and keys around it."""
        query = torch.arange(CHUNK, device=device)[:, None]
        key = torch.arange(self.past + CHUNK + self.future, device=device)
        distance = key - query  # from the earliest key that a query attends to
        inside = (distance >= 0) & (distance < self.near.shape[1])
        place = CHUNK * torch.arange(chunks, device=device)[:, None, None] + key - self.past
        seen = inside & (place >= 0) & (place < length)
        near = self.near[:, distance.clamp(0, self.near.shape[1] - 1)]
        return torch.where(seen, near[:, None], HIDDEN_LOGIT).flatten(0, 1)


class Layer(nn.Module):
    """Attention and a perceptron, each behind a layer norm and beside an identity; (N, T, W) → (N, T, W)."""

    def __init__(self, width: int, past: int, future: int):
        super().__init__()
        self.attention_norm, self.norm = nn.LayerNorm(width), nn.LayerNorm(width)
        self.attention = Attention(width, past, future)
        self.wide, self.narrow = nn.Linear(width, 4 * width), nn.Linear(4 * width, width)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = x + self.attention(self.attention_norm(x))
        return x + self.narrow(functional.gelu(self.wide(self.norm(x))))


class EncoderNetwork(nn.Module):
    """Log-mel rows (N, 2·T, bands) at 100 Hz → features (N, T, W) at 50 Hz; feature k is centred on row 2·k."""

    def __init__(
        self,
        bands: int = sound.MELS,
        width: int = WIDTH,
        layers: int = LAYERS,
        past: int = PAST,
        future: int = FUTURE,
    ):
        super().__init__()
        self.past, self.future = past, future
        self.reach = layers * past + 1, layers * future + 1  # features before and after one that it depends on
        self.first = nn.Conv1d(bands, width, 3)
        self.second = nn.Conv1d(width, width, 3, stride=STEP)
        self.place = nn.Parameter(torch.zeros(width))  # in the place of Whisper's code of positions
        self.blocks = nn.ModuleList([Layer(width, past, future) for _ in range(layers)])
        self.norm = nn.LayerNorm(width)
        self.symbols = nn.Linear(width, SYMBOLS)

    def forward(self, mel: torch.Tensor) -> torch.Tensor:
        # Before the first row and after the last one there is silence.
        x = functional.gelu(self.first(functional.pad(mel.transpose(1, 2), (2, 1))))
        x = functional.gelu(self.second(x)).transpose(1, 2) + self.place
        for block in self.blocks:
            x = block(x)
        return self.norm(x)  # type: ignore[no-any-return]

    def log_probabilities(self, features: torch.Tensor) -> torch.Tensor:
        """Of blank and characters (N, T, 29), from features (N, T, W)."""
        return functional.log_softmax(self.symbols(features).float(), 2)


class LogMel(nn.Module):
    """The identity encoder, for comparison: two log-mel rows side by side. (N, 2·T, bands) → (N, T, 2·bands)."""

    past, reach = 0, (0, 0)

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

    def changed(self, changes: dict[str, np.ndarray]) -> SpeechEncoder:
        """A copy of this encoder, trained further, see `encoder_changes`. Raises KeyError for an unknown tensor."""
        network = copy.deepcopy(self.network)
        own, tensors = network.state_dict(), {}
        for name, change in changes.items():
            if not name.endswith(SCALE):
                scale = changes.get(name + SCALE, np.ones((), np.float16)).astype(np.float32)
                tensors[name] = own[name].cpu().numpy() + scale * change.astype(np.float32)
        load_tensors(network, tensors, some=True)
        return SpeechEncoder(network, self.filters, self.width, self.settings, self.device)

    @property
    def reach(self) -> tuple[int, int]:
        """How many features before and after one it depends on."""
        reach: tuple[int, int] = self.network.reach  # type: ignore[assignment]
        return reach

    def encode(self, rows: np.ndarray, before: int, after: int) -> np.ndarray:
        """Features and loudness (n, D + 1) of normalised mel rows (2 · (before + n + after), bands)."""
        count = len(rows) // STEP - after
        with torch.inference_mode():
            feature = self.network(torch.from_numpy(rows)[None].to(self.device))[0, before:count].cpu().numpy()
        loudness = rows[STEP * before : STEP * count].max(1).reshape(-1, STEP).max(1)
        return np.concatenate([feature, loudness[:, None]], 1)

    def stream(self, audio: Audio, seconds: float = PIECE) -> Iterator[np.ndarray]:
        """Consecutive rows (n, D + 1) float32 at 50 Hz, row k at (k − MARGIN) / 50 s; the last column is the loudness.

        Loudness is the loudest band's level: 1 where the recording is loud, 0 for 80 dB under that, see
        `audio.normalise`. The result does not depend on `seconds`, the length of the pieces.
        """
        level = sound.loud_level(audio, self.filters)
        before, after = self.reach
        count = max(1, round(seconds * FEATURE_RATE))  # features at a time
        silent = lambda features: np.zeros((STEP * features, len(self.filters)), np.float32)
        # What a piece depends on is encoded along and dropped: `known` features before it, and `after` of them. Beyond
        # the recording there is silence, of which as much is enough as one layer sees: more of it would change nothing.
        known: int = self.network.past  # type: ignore[assignment]
        held, source, ended = silent(known + MARGIN), sound.mel_rows(audio, self.filters), False
        while not ended or len(held) > STEP * (known + after):
            while not ended and len(held) < STEP * (known + count + after):
                piece = next(source, None)
                if piece is None:
                    ended = True
                    held = np.concatenate([held, silent(1)[: len(held) % STEP], silent(MARGIN + after)])
                else:
                    held = np.concatenate([held, sound.normalise(piece, level)])
            new = min(count, len(held) // STEP - known - after)
            yield self.encode(held[: STEP * (known + new + after)], known, after)
            kept = min(known + new, before)
            held, known = held[STEP * (known + new - kept) :], kept

    def features(self, audio: Audio) -> np.ndarray:
        """The whole recording with its margins, (T' + 2 · MARGIN, D + 1) float32."""
        return np.concatenate(list(self.stream(audio)))


def encoder_tensors(network: EncoderNetwork, filters: np.ndarray) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
    """What a weights file keeps of an encoder: tensors in float16 with the filter bank, and the network's dimensions."""
    tensors = {name: tensor.detach().cpu().numpy().astype(np.float16) for name, tensor in network.state_dict().items()}
    dimensions = {"width": len(network.place), "layers": len(network.blocks)}
    return {**tensors, "filters": filters}, {**dimensions, "past": network.past, "future": network.future}


def encoder_changes(network: nn.Module, before: nn.Module, names: list[str]) -> dict[str, np.ndarray]:
    """What training changed in some tensors of an encoder, as a weights file keeps it.

    Matrices are kept as int8 with a scale for each row, a power of two of which the largest change there is 64 to 127
    times as large: half of float16's size, and finer than the training. Kept again, they stay the same.
    """
    now, then, found = network.state_dict(), before.state_dict(), {}
    for name in names:
        change = (now[name] - then[name]).detach().cpu().numpy()
        if change.ndim != 2:
            found[name] = change.astype(np.float16)
            continue
        least = np.maximum(np.abs(change).max(1, keepdims=True) / 127, SMALLEST_SCALE)
        scale = np.exp2(np.ceil(np.log2(least))).astype(np.float16)
        found[name] = np.clip(np.round(change / scale.astype(np.float32)), -127, 127).astype(np.int8)
        found[name + SCALE] = scale
    return found


def build_encoder(
    tensors: dict[str, np.ndarray], settings: dict[str, Any], device: torch.device | str = "cpu"
) -> SpeechEncoder:
    """The encoder of a weights file's tensors and settings."""
    tensors = dict(tensors)
    filters = tensors.pop("filters")
    width, layers, past, future = (settings[name] for name in ("width", "layers", "past", "future"))
    network = build_network(lambda: EncoderNetwork(len(filters), width, layers, past, future), tensors)
    return SpeechEncoder(network, filters, settings["width"], settings, device)


def log_mel_encoder(filters: np.ndarray | None = None, device: torch.device | str = "cpu") -> SpeechEncoder:
    """Log-mel bands in the encoder's place, by a filter bank (80, 257); librosa's if None."""
    filters = sound.mel_filters() if filters is None else filters
    return SpeechEncoder(LogMel(), filters, STEP * sound.MELS, {}, device)
