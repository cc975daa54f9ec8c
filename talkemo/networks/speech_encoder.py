"""The speech encoder: 16 kHz sound → features at 50 Hz, in the place of DeepSpeech (3D-TalkEmo, section 3.3).

The lowest layers of a small Whisper encoder (Radford et al. 2022, "Robust Speech Recognition via Large-Scale Weak
Supervision"), whose attention is changed so that a feature sees a second before it and little after it in each layer,
at distances instead of places in a 30 s window. Sound of any length is therefore encoded in pieces as it comes, with the
same result as in one, 0.46 s later. Its second output is log-probabilities of the blank and 28 characters, which is
DeepSpeech's own output.
"""

from __future__ import annotations

import copy
import hashlib
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from functools import cached_property
from itertools import chain
from typing import Any

import numpy as np
import torch
from torch import nn
from torch.nn import functional

from ..audio.loudness import normalised_rows
from ..audio.mel import MEL_BANDS, mel_filters
from ..audio.recording import SAMPLE_RATE, Audio, AudioSource
from .building import build_network, load_tensors

FEATURE_RATE = 50.0  # features a second
SAMPLES_PER_FEATURE = int(SAMPLE_RATE / FEATURE_RATE)  # to a feature
ROWS_PER_FEATURE = 2  # mel rows to a feature
FEATURE_WIDTH = 384  # D, size of a feature
ATTENTION_HEAD_WIDTH = 64  # size of a head of the attention
ATTENTION_PAST_FEATURES = 48  # features before one that it attends to, in each layer
ATTENTION_FUTURE_FEATURES = (8, 8, 4)  # features after one that it attends to, in each of the layers
ATTENTION_CHUNK_FEATURES = 32  # features whose attention is computed together
MASKED_LOGIT = -1e4  # of what is not attended to
ENCODER_CHUNK_S = 20.0  # s encoded at a time
SILENCE_MARGIN_FEATURES = 12  # features of silence that are encoded before and after a recording
SCALE_SUFFIX, MIN_CHANGE_SCALE = (
    "/scale",
    2.0**-24,
)  # the end of the name of a change's scale, and the least that float16 holds
CTC_SYMBOLS = 29  # blank, a … z, apostrophe, space


@dataclass(frozen=True, eq=False)
class Stage:
    """A part of an encoder that sees `past` features before and `future` features after one; `step` rows are a feature.

    compute: rows (N, step · (before + T + after), …), before, after → (N, T, …)
    """

    compute: Callable[[torch.Tensor, int, int], torch.Tensor]
    past: int
    future: int
    step: int = 1


class Attention(nn.Module):
    """Self-attention to what is near, by content and by a learnt bias for each distance.

    Queries, keys and values (N, before + T + after, 3·W) → (N, T, W): the first and last are attended to only.
    """

    def __init__(self, width: int, past: int, future: int):
        super().__init__()
        self.heads, self.past, self.future = width // ATTENTION_HEAD_WIDTH, past, future
        self.queries_keys_values, self.attended = (
            nn.Linear(width, 3 * width),
            nn.Linear(width, width),
        )
        self.near = nn.Parameter(torch.zeros(self.heads, past + 1 + future))

    def forward(self, x: torch.Tensor, before: int = 0, after: int = 0) -> torch.Tensor:
        count, every, _ = x.shape
        length = every - before - after
        chunks = -(-length // ATTENTION_CHUNK_FEATURES)
        span, more = self.past + ATTENTION_CHUNK_FEATURES + self.future, chunks * ATTENTION_CHUNK_FEATURES - length
        parts = x.unflatten(2, (3, self.heads, ATTENTION_HEAD_WIDTH)).permute(2, 0, 3, 1, 4)
        query = functional.pad(parts[0][:, :, before : every - after], (0, 0, 0, more)).reshape(
            count, -1, ATTENTION_CHUNK_FEATURES, ATTENTION_HEAD_WIDTH
        )
        room = (self.past - before, more + self.future - after)
        around = functional.pad(parts[1:], (0, 0, *room)).unfold(3, span, ATTENTION_CHUNK_FEATURES)
        key, value = around.transpose(4, 5).flatten(2, 3)
        bias = self._bias(every, chunks, before, x.device).to(query.dtype)
        found = functional.scaled_dot_product_attention(query, key, value, attn_mask=bias)
        found = found.reshape(count, self.heads, -1, ATTENTION_HEAD_WIDTH)[:, :, :length]
        return self.attended(found.transpose(1, 2).flatten(2))  # type: ignore[no-any-return]

    def _bias(self, every: int, chunks: int, before: int, device: torch.device) -> torch.Tensor:
        """What is added to the logits, (heads · chunks, ATTENTION_CHUNK_FEATURES, span): of queries of a chunk, and keys around it."""
        query = torch.arange(ATTENTION_CHUNK_FEATURES, device=device)[:, None]
        key = torch.arange(self.past + ATTENTION_CHUNK_FEATURES + self.future, device=device)
        distance = key - query  # from the earliest key that a query attends to
        inside = (distance >= 0) & (distance < self.near.shape[1])
        place = (
            ATTENTION_CHUNK_FEATURES * torch.arange(chunks, device=device)[:, None, None] + key - self.past + before
        )
        seen = inside & (place >= 0) & (place < every)
        near = self.near[:, distance.clamp(0, self.near.shape[1] - 1)]
        return torch.where(seen, near[:, None], MASKED_LOGIT).flatten(0, 1)


class Layer(nn.Module):
    """Attention and a perceptron, each behind a layer norm and beside an identity; (N, T, W) → (N, T, W)."""

    def __init__(self, width: int, past: int, future: int):
        super().__init__()
        self.attention_norm, self.norm = nn.LayerNorm(width), nn.LayerNorm(width)
        self.attention = Attention(width, past, future)
        self.wide, self.narrow = nn.Linear(width, 4 * width), nn.Linear(4 * width, width)

    def stages(self) -> list[Stage]:
        """The parts of the layer; what is kept of a feature that is past lies between them."""
        return [
            Stage(lambda x, *_: self.project(x), 0, 0),
            Stage(self.attend, self.attention.past, self.attention.future),
        ]

    def project(self, x: torch.Tensor) -> torch.Tensor:
        """Features with their queries, keys and values beside them, (N, T, W) → (N, T, 4·W)."""
        return torch.cat([x, self.attention.queries_keys_values(self.attention_norm(x))], 2)

    def attend(self, projected: torch.Tensor, before: int, after: int) -> torch.Tensor:
        """The rest of the layer, (N, before + T + after, 4·W) → (N, T, W)."""
        x, parts = projected.split([projected.shape[2] // 4, 3 * projected.shape[2] // 4], 2)
        x = x[:, before : x.shape[1] - after] + self.attention(parts, before, after)
        return x + self.narrow(functional.gelu(self.wide(self.norm(x))))  # type: ignore[no-any-return]


class EncoderNetwork(nn.Module):
    """Log-mel rows (N, 2·T, bands) at 100 Hz → features (N, T, W) at 50 Hz; feature k is centred on row 2·k."""

    def __init__(
        self,
        bands: int = MEL_BANDS,
        width: int = FEATURE_WIDTH,
        past: int = ATTENTION_PAST_FEATURES,
        future: tuple[int, ...] = ATTENTION_FUTURE_FEATURES,
    ):
        super().__init__()
        self.past, self.future = past, tuple(future)
        self.first = nn.Conv1d(bands, width, 3)
        self.second = nn.Conv1d(width, width, 3, stride=ROWS_PER_FEATURE)
        self.place = nn.Parameter(torch.zeros(width))  # in the place of Whisper's code of positions
        self.blocks = nn.ModuleList([Layer(width, past, after) for after in self.future])
        self.norm = nn.LayerNorm(width)
        self.symbols = nn.Linear(width, CTC_SYMBOLS)

    def stages(self) -> list[Stage]:
        """The parts that features pass through, one after the other."""
        layers = [
            stage for block in self.blocks if isinstance(block, Layer) for stage in block.stages()
        ]
        return [
            Stage(self.convolutions, 1, 1, ROWS_PER_FEATURE),
            *layers,
            Stage(lambda x, *_: self.norm(x), 0, 0),
        ]

    def convolutions(self, mel: torch.Tensor, before: int = 0, after: int = 0) -> torch.Tensor:
        """Log-mel rows to the first layer's input. Before the first row and after the last one there is silence."""
        # A feature sees two rows before its own, and two after.
        rows = functional.pad(mel.transpose(1, 2), (ROWS_PER_FEATURE * (1 - before), 1 - ROWS_PER_FEATURE * after))
        x = functional.gelu(self.second(functional.gelu(self.first(rows))))
        return x.transpose(1, 2) + self.place

    def forward(self, mel: torch.Tensor) -> torch.Tensor:
        for stage in self.stages():
            mel = stage.compute(mel, 0, 0)
        return mel

    def log_probabilities(self, features: torch.Tensor) -> torch.Tensor:
        """Of blank and characters (N, T, 29), from features (N, T, W)."""
        return functional.log_softmax(self.symbols(features).float(), 2)


class LogMel(nn.Module):
    """The identity encoder, for comparison: two log-mel rows side by side. (N, 2·T, bands) → (N, T, 2·bands)."""

    past = 0

    def stages(self) -> list[Stage]:
        """As an encoder's."""
        return [Stage(lambda mel, *_: self(mel), 0, 0, ROWS_PER_FEATURE)]

    def forward(self, mel: torch.Tensor) -> torch.Tensor:
        return mel.reshape(len(mel), -1, ROWS_PER_FEATURE * mel.shape[2])


class Encoding:
    """A network's features of log-mel rows as they come: of each stage the input is kept that its next output sees."""

    def __init__(self, network: EncoderNetwork | LogMel):
        self.stages = network.stages()
        self.held: list[torch.Tensor | None] = [None] * len(self.stages)
        self.known = [0] * len(
            self.stages
        )  # features at the start of what is held whose output is there already

    def __call__(self, rows: torch.Tensor) -> torch.Tensor:
        """The features (N, T, W) that more rows (N, M, bands) make known; T may be 0."""
        x = rows
        for number, stage in enumerate(self.stages):
            held = self.held[number]
            x = x if held is None else torch.cat([held, x], 1)
            known = self.known[number]
            new = x.shape[1] // stage.step - known - stage.future
            if new <= 0:
                self.held[number] = x
                return rows.new_zeros(len(rows), 0, 1)
            kept = min(known + new, stage.past)
            # A copy: a part of a large array would keep all of it in memory.
            self.held[number] = x[:, stage.step * (known + new - kept) :].clone()
            self.known[number] = kept
            x = stage.compute(
                x[:, : stage.step * (known + new + stage.future)], known, stage.future
            )
        return x


class SpeechEncoder:
    """A trained encoder with its mel filter bank (bands, 257), on a device."""

    def __init__(
        self,
        network: EncoderNetwork | LogMel,
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
            if not name.endswith(SCALE_SUFFIX):
                scale = changes.get(name + SCALE_SUFFIX, np.ones((), np.float16)).astype(np.float32)
                tensors[name] = own[name].cpu().numpy() + scale * change.astype(np.float32)
        load_tensors(network, tensors, some=True)
        return SpeechEncoder(network, self.filters, self.width, self.settings, self.device)

    @property
    def lookahead_s(self) -> int:
        """How many features after one it depends on."""
        return sum(stage.future for stage in self.network.stages())

    def stream(self, audio: AudioSource, seconds: float = ENCODER_CHUNK_S) -> Iterator[np.ndarray]:
        """Consecutive rows (n, D + 1) float32 at 50 Hz, row k at (k − SILENCE_MARGIN_FEATURES) / 50 s; the last column is the loudness.

        Loudness is the loudest band's level: 1 where the sound is loud, 0 for 80 dB under that, see `loudness`. The
        result does not depend on `seconds`, the length of the pieces.
        """
        # Beyond the recording there is silence, of which as much is enough as one layer sees: more would change nothing.
        before, after = self.network.past, self.lookahead_s
        silent = lambda features: np.zeros((ROWS_PER_FEATURE * features, len(self.filters)), np.float32)
        encoding, dropped, loudness = Encoding(self.network), before, np.zeros(0, np.float32)
        pieces = normalised_rows(audio, self.filters)
        surrounded = chain([silent(before + SILENCE_MARGIN_FEATURES)], pieces, [silent(SILENCE_MARGIN_FEATURES + after)])
        for rows in _regrouped(surrounded, ROWS_PER_FEATURE * max(1, round(seconds * FEATURE_RATE))):
            with torch.inference_mode():
                feature = encoding(torch.from_numpy(rows)[None].to(self.device))[0].cpu().numpy()
            loudness = np.concatenate([loudness, rows.max(1).reshape(-1, ROWS_PER_FEATURE).max(1)])
            count, skipped = len(feature), min(dropped, len(feature))
            if count > skipped:
                yield np.column_stack([feature[skipped:], loudness[skipped:count]])
            loudness, dropped = loudness[count:], dropped - skipped

    def features(self, audio: Audio) -> np.ndarray:
        """The whole recording with its margins, (T' + 2 · SILENCE_MARGIN_FEATURES, D + 1) float32."""
        return np.concatenate(list(self.stream(audio)))


def _regrouped(pieces: Iterable[np.ndarray], size: int) -> Iterator[np.ndarray]:
    """Rows that come in pieces, in groups of `size`; the last one is shorter and, with a row of zeros, even."""
    held: list[np.ndarray] = []
    for piece in pieces:
        held.append(piece)
        count = sum(map(len, held))
        if count >= size:
            rows = np.concatenate(held)
            whole = count - count % size
            yield from np.split(rows[:whole], whole // size)
            held = [rows[whole:]]
    rows = np.concatenate(held)
    if len(rows):
        yield np.pad(rows, ((0, len(rows) % ROWS_PER_FEATURE), (0, 0)))


def encoder_tensors(
    network: EncoderNetwork, filters: np.ndarray
) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
    """What a weights file keeps of an encoder: tensors in float16 with the filter bank, and the network's dimensions."""
    tensors = {
        name: tensor.detach().cpu().numpy().astype(np.float16)
        for name, tensor in network.state_dict().items()
    }
    dimensions = {"width": len(network.place), "past": network.past, "future": list(network.future)}
    return {**tensors, "filters": filters}, dimensions


def encoder_changes(
    network: nn.Module, before: nn.Module, names: list[str]
) -> dict[str, np.ndarray]:
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
        least = np.maximum(np.abs(change).max(1, keepdims=True) / 127, MIN_CHANGE_SCALE)
        scale = np.exp2(np.ceil(np.log2(least))).astype(np.float16)
        found[name] = np.clip(np.round(change / scale.astype(np.float32)), -127, 127).astype(
            np.int8
        )
        found[name + SCALE_SUFFIX] = scale
    return found


def build_encoder(
    tensors: dict[str, np.ndarray], settings: dict[str, Any], device: torch.device | str = "cpu"
) -> SpeechEncoder:
    """The encoder of a weights file's tensors and settings."""
    tensors = dict(tensors)
    filters = tensors.pop("filters")
    width, past, future = (settings[name] for name in ("width", "past", "future"))
    network = build_network(lambda: EncoderNetwork(len(filters), width, past, future), tensors)
    return SpeechEncoder(network, filters, settings["width"], settings, device)


def log_mel_encoder(
    filters: np.ndarray | None = None, device: torch.device | str = "cpu"
) -> SpeechEncoder:
    """Log-mel bands in the encoder's place, by a filter bank (80, 257); librosa's if None."""
    filters = mel_filters() if filters is None else filters
    return SpeechEncoder(LogMel(), filters, ROWS_PER_FEATURE * MEL_BANDS, {}, device)
