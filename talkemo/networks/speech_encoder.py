"""The speech encoder: 16 kHz audio to features at 50 Hz, in place of DeepSpeech (section 3.3).

It consists of the lowest layers of a small Whisper encoder (Radford et al. 2022, "Robust Speech
Recognition via Large-Scale Weak Supervision"). Their attention is changed: in each layer a feature
sees about a second before it and little after it, at relative instead of absolute positions in a
30 s window. Audio of any length can therefore be encoded in chunks as it arrives, with the same
result as at once; a feature is available 0.46 s after its audio. A second output is the
log-probabilities of the CTC blank and 28 characters, which are DeepSpeech's own output.
"""

from __future__ import annotations

import copy
import hashlib
from collections.abc import Callable, Iterable, Iterator, Sequence
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
from ..errors import InputError
from .building import build_network, float16_tensors, load_tensors
from .protocols import FeatureEncoder

FEATURE_RATE = 50.0  # features a second
SAMPLES_PER_FEATURE = int(SAMPLE_RATE / FEATURE_RATE)
ROWS_PER_FEATURE = 2  # log-mel rows
FEATURE_WIDTH = 384  # D, the number of values of a feature
ATTENTION_HEAD_WIDTH = 64
ATTENTION_PAST_FEATURES = 48  # how many features before it a feature attends to, in each layer
ATTENTION_FUTURE_FEATURES = (8, 8, 4)  # how many after it, in each of the layers
ATTENTION_CHUNK_FEATURES = 32  # features whose attention is computed together
MASKED_LOGIT = -1e4  # added to the logits of features that are not attended to
ENCODER_CHUNK_S = 20.0  # audio that is encoded at a time
SILENCE_MARGIN_FEATURES = 12  # features of silence encoded before and after a recording
SCALE_SUFFIX = "/scale"  # in the name of a tensor that scales a change, see `encoder_changes`
MIN_CHANGE_SCALE = 2.0**-24  # the smallest positive float16
CTC_SYMBOLS = 29  # blank, a … z, apostrophe, space


@dataclass(frozen=True, eq=False)
class StreamedLayer:
    """A layer whose outputs depend on a limited number of inputs around them.

    `compute` maps (inputs, before, after) to outputs (N, T, …), where inputs are
    (N, rows_per_output · (before + T + after), …).
    """

    compute: Callable[[torch.Tensor, int, int], torch.Tensor]
    # An output depends on the inputs of this many outputs before and after it, besides its own.
    past: int
    future: int
    rows_per_output: int = 1  # inputs per output


class Attention(nn.Module):
    """Self-attention to nearby features, by content and by a learnt bias for each distance.

    Called with queries, keys and values (N, before + T + after, 3·W), it returns (N, T, W): the
    first `before` and the last `after` features are attended to, but have no output. Features are
    processed in chunks, each with the keys and values around it, so that memory grows linearly
    with T.
    """

    def __init__(self, width: int, past: int, future: int):
        super().__init__()
        self.heads, self.past, self.future = width // ATTENTION_HEAD_WIDTH, past, future
        self.queries_keys_values = nn.Linear(width, 3 * width)
        self.attended = nn.Linear(width, width)  # the output projection
        # A bias for each distance, from `past` features before to `future` after.
        self.near = nn.Parameter(torch.zeros(self.heads, past + 1 + future))

    def forward(self, x: torch.Tensor, before: int = 0, after: int = 0) -> torch.Tensor:
        size, head_width = ATTENTION_CHUNK_FEATURES, ATTENTION_HEAD_WIDTH
        count, inputs, _ = x.shape
        outputs = inputs - before - after
        chunks = -(-outputs // size)
        padding = chunks * size - outputs
        heads = x.unflatten(2, (3, self.heads, head_width)).permute(2, 0, 3, 1, 4)
        query = functional.pad(heads[0][:, :, before : inputs - after], (0, 0, 0, padding))
        query = query.reshape(count, -1, size, head_width)
        # Keys and values of a chunk overlap those of its neighbours.
        margins = (0, 0, self.past - before, padding + self.future - after)
        around = functional.pad(heads[1:], margins).unfold(3, self.past + size + self.future, size)
        key, value = around.transpose(4, 5).flatten(2, 3)
        bias = self._bias(inputs, chunks, before, x.device).to(query.dtype)
        attended = functional.scaled_dot_product_attention(query, key, value, attn_mask=bias)
        attended = attended.reshape(count, self.heads, -1, head_width)[:, :, :outputs]
        return self.attended(attended.transpose(1, 2).flatten(2))

    def narrow(self, future: int) -> None:
        """Attend to `future` features after each, at most as many as now."""
        self.future = future
        self.near = nn.Parameter(self.near.detach()[:, : self.past + 1 + future].clone())

    def _bias(self, inputs: int, chunks: int, before: int, device: torch.device) -> torch.Tensor:
        """Return the bias of the logits (heads · chunks, queries of a chunk, keys around it).

        It masks keys that are too far from a query, and those outside the inputs.
        """
        size = ATTENTION_CHUNK_FEATURES
        query = torch.arange(size, device=device)[:, None]
        key = torch.arange(self.past + size + self.future, device=device)
        distance = key - query  # from the earliest key that a query attends to
        in_reach = (distance >= 0) & (distance < self.near.shape[1])
        chunk = torch.arange(chunks, device=device)[:, None, None]
        index = size * chunk + key - self.past + before  # of a key in the inputs
        visible = in_reach & (index >= 0) & (index < inputs)
        near = self.near[:, distance.clamp(0, self.near.shape[1] - 1)]
        return torch.where(visible, near[:, None], MASKED_LOGIT).flatten(0, 1)


class EncoderLayer(nn.Module):
    """A pre-norm transformer layer, (N, T, W) → (N, T, W)."""

    def __init__(self, width: int, past: int, future: int):
        super().__init__()
        self.attention_norm, self.norm = nn.LayerNorm(width), nn.LayerNorm(width)
        self.attention = Attention(width, past, future)
        self.wide, self.narrow = nn.Linear(width, 4 * width), nn.Linear(4 * width, width)

    def streamed_layers(self) -> list[StreamedLayer]:
        """Return `project` and `attend` as two layers: streaming stores past projections."""
        return [
            StreamedLayer(lambda x, *_: self.project(x), 0, 0),
            StreamedLayer(self.attend, self.attention.past, self.attention.future),
        ]

    def project(self, x: torch.Tensor) -> torch.Tensor:
        """Return features and their queries, keys and values, (N, T, W) → (N, T, 4·W)."""
        return torch.cat([x, self.attention.queries_keys_values(self.attention_norm(x))], 2)

    def attend(self, projected: torch.Tensor, before: int, after: int) -> torch.Tensor:
        """Return the layer's output (N, T, W).

        `projected` (N, before + T + after, 4·W) is the output of `project`; its first `before` and
        last `after` features are only attended to.
        """
        width = projected.shape[2] // 4
        x, queries_keys_values = projected.split([width, 3 * width], 2)
        x = x[:, before : x.shape[1] - after] + self.attention(queries_keys_values, before, after)
        return x + self.narrow(functional.gelu(self.wide(self.norm(x))))


class EncoderNetwork(nn.Module):
    """Log-mel rows (N, 2·T, bands) at 100 Hz → features (N, T, W) at 50 Hz.

    Feature k is centred on row 2·k.
    """

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
        self.place = nn.Parameter(torch.zeros(width))  # replaces Whisper's positional embedding
        self.blocks = nn.ModuleList([EncoderLayer(width, past, after) for after in self.future])
        self.norm: nn.Module = nn.LayerNorm(width)
        self.symbols = nn.Linear(width, CTC_SYMBOLS)

    def narrow(self, future: Sequence[int]) -> None:
        """Let the layers attend to no more than `future` features after each.

        Raises InputError if there is not one number for each layer, or one is too large.
        """
        fits = len(future) == len(self.future) and all(
            0 <= fewer <= now for fewer, now in zip(future, self.future)
        )
        if not fits:
            raise InputError(
                f"layers that attend to {list(self.future)} features after each cannot be narrowed "
                f"to {list(future)}",
                "take weights that fit together",
            )
        self.future = tuple(future)
        for block, after in zip(self.blocks, self.future):
            assert isinstance(block, EncoderLayer)
            block.attention.narrow(after)

    def streamed_layers(self) -> list[StreamedLayer]:
        """Return the layers in their order."""
        layers = [StreamedLayer(self.convolutions, 1, 1, ROWS_PER_FEATURE)]
        for block in self.blocks:
            assert isinstance(block, EncoderLayer)
            layers += block.streamed_layers()
        return [*layers, StreamedLayer(lambda x, *_: self.norm(x), 0, 0)]

    def convolutions(self, mel: torch.Tensor, before: int = 0, after: int = 0) -> torch.Tensor:
        """Return the first attention layer's input; rows outside the input are silence."""
        # A feature depends on the two rows before its own, and the two after.
        padding = (ROWS_PER_FEATURE * (1 - before), 1 - ROWS_PER_FEATURE * after)
        rows = functional.pad(mel.transpose(1, 2), padding)
        x = functional.gelu(self.second(functional.gelu(self.first(rows))))
        return x.transpose(1, 2) + self.place

    def forward(self, mel: torch.Tensor) -> torch.Tensor:
        for layer in self.streamed_layers():
            mel = layer.compute(mel, 0, 0)
        return mel

    def log_probabilities(self, features: torch.Tensor) -> torch.Tensor:
        """Return the log-probabilities of CTC_SYMBOLS (N, T, 29) for features (N, T, W)."""
        return functional.log_softmax(self.symbols(features).float(), 2)


class LogMel(nn.Module):
    """The identity encoder, a baseline: (N, 2·T, bands) → (N, T, 2·bands)."""

    past = 0

    def streamed_layers(self) -> list[StreamedLayer]:
        """Return the layers in their order."""
        return [StreamedLayer(lambda mel, *_: self(mel), 0, 0, ROWS_PER_FEATURE)]

    def forward(self, mel: torch.Tensor) -> torch.Tensor:
        return mel.reshape(len(mel), -1, ROWS_PER_FEATURE * mel.shape[2])


class IncrementalEncoder:
    """Computes a network's features of log-mel rows as they arrive.

    Each layer's past inputs are stored as long as later outputs depend on them.
    """

    def __init__(self, network: EncoderNetwork | LogMel):
        self.layers = network.streamed_layers()
        self.inputs: list[torch.Tensor | None] = [None] * len(self.layers)
        # Outputs already computed from the first of the stored inputs.
        self.computed = [0] * len(self.layers)

    def __call__(self, rows: torch.Tensor) -> torch.Tensor:
        """Return the features (N, T, W) that further rows (N, M, bands) complete; T may be 0."""
        x = rows
        for number, layer in enumerate(self.layers):
            inputs, computed = self.inputs[number], self.computed[number]
            x = x if inputs is None else torch.cat([inputs, x], 1)
            new = x.shape[1] // layer.rows_per_output - computed - layer.future
            if new <= 0:
                self.inputs[number] = x
                return rows.new_zeros(len(rows), 0, 1)
            past = min(computed + new, layer.past)
            # A copy: a view of a large array would keep all of it in memory.
            self.inputs[number] = x[:, layer.rows_per_output * (computed + new - past) :].clone()
            self.computed[number] = past
            stop = layer.rows_per_output * (computed + new + layer.future)
            x = layer.compute(x[:, :stop], computed, layer.future)
        return x


class SpeechEncoder(FeatureEncoder):
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
        """Digest of all tensors, see `FeatureEncoder`."""
        digest = hashlib.sha256(np.ascontiguousarray(self.filters).tobytes())
        for _, tensor in sorted(self.network.state_dict().items()):
            digest.update(tensor.cpu().numpy().tobytes())
        return digest.hexdigest()[:16]

    def narrowed(self, future: Sequence[int] | None) -> SpeechEncoder:
        """Return a copy whose layers attend to fewer features after each; itself for None.

        It keeps the fingerprint: it has the same weights, less the biases of what it leaves out.
        Raises InputError if there is not one number for each layer, or one is too large.
        """
        if future is None:
            return self
        assert isinstance(self.network, EncoderNetwork)
        network = copy.deepcopy(self.network)
        network.narrow(future)
        result = SpeechEncoder(network, self.filters, self.width, self.settings, self.device)
        result.fingerprint = self.fingerprint
        return result

    def lowest(self, layers: int) -> SpeechEncoder:
        """Return a copy with that many of the lowest attention layers, or all if there are fewer.

        Its features are the output of the highest of these. It keeps the fingerprint. Raises
        InputError for an encoder without attention.
        """
        if not isinstance(self.network, EncoderNetwork):
            raise InputError(
                "a speech encoder without attention layers", "take weights that fit together"
            )
        network = copy.deepcopy(self.network)
        network.blocks, network.future = network.blocks[:layers], network.future[:layers]
        network.norm = nn.Identity()
        result = SpeechEncoder(network, self.filters, self.width, self.settings, self.device)
        result.fingerprint = self.fingerprint
        return result

    def changed(self, changes: dict[str, np.ndarray]) -> SpeechEncoder:
        """Return a copy with the changes that further training made, see `encoder_changes`.

        Raises KeyError for a tensor that the network does not have.
        """
        network = copy.deepcopy(self.network)
        before, tensors = network.state_dict(), {}
        for name, change in changes.items():
            if not name.endswith(SCALE_SUFFIX):
                scale = changes.get(name + SCALE_SUFFIX, np.ones((), np.float16)).astype(np.float32)
                tensors[name] = before[name].cpu().numpy() + scale * change.astype(np.float32)
        load_tensors(network, tensors, partial=True)
        return SpeechEncoder(network, self.filters, self.width, self.settings, self.device)

    @property
    def lookahead_features(self) -> int:
        """How many features after it a feature depends on."""
        return sum(layer.future for layer in self.network.streamed_layers())

    def stream(self, audio: AudioSource, chunk_s: float = ENCODER_CHUNK_S) -> Iterator[np.ndarray]:
        """Yield consecutive features with their loudness, see `FeatureEncoder`.

        The loudness of a feature is the level of its loudest mel band.
        """
        # Around the recording there is silence, as much as one layer depends on: more silence
        # would not change the result.
        before, after = self.network.past, self.lookahead_features
        encoder = IncrementalEncoder(self.network)
        dropped, loudness = before, np.zeros(0, np.float32)
        rows_with_silence = chain(
            [_silence(before + SILENCE_MARGIN_FEATURES, len(self.filters))],
            normalised_rows(audio, self.filters),
            [_silence(SILENCE_MARGIN_FEATURES + after, len(self.filters))],
        )
        chunk_rows = ROWS_PER_FEATURE * max(1, round(chunk_s * FEATURE_RATE))
        for rows in _regrouped(rows_with_silence, chunk_rows):
            with torch.inference_mode():
                features = encoder(torch.from_numpy(rows)[None].to(self.device))[0].cpu().numpy()
            row_loudness = rows.max(1).reshape(-1, ROWS_PER_FEATURE).max(1)
            loudness = np.concatenate([loudness, row_loudness])
            count, skipped = len(features), min(dropped, len(features))
            if count > skipped:
                yield np.column_stack([features[skipped:], loudness[skipped:count]])
            loudness, dropped = loudness[count:], dropped - skipped

    def features(self, audio: Audio) -> np.ndarray:
        """Return all rows of `stream`, (T + 2 · SILENCE_MARGIN_FEATURES, D + 1) float32."""
        return np.concatenate(list(self.stream(audio)))


def _silence(features: int, bands: int) -> np.ndarray:
    """Return normalised log-mel rows of silence for some features."""
    return np.zeros((ROWS_PER_FEATURE * features, bands), np.float32)


def _regrouped(pieces: Iterable[np.ndarray], size: int) -> Iterator[np.ndarray]:
    """Yield rows in groups of `size`; the last is shorter, and padded to whole features."""
    waiting: list[np.ndarray] = []
    for piece in pieces:
        waiting.append(piece)
        count = sum(map(len, waiting))
        if count >= size:
            rows = np.concatenate(waiting)
            whole = count - count % size
            yield from np.split(rows[:whole], whole // size)
            waiting = [rows[whole:]]
    rows = np.concatenate(waiting)
    if len(rows):
        yield np.pad(rows, ((0, len(rows) % ROWS_PER_FEATURE), (0, 0)))


def encoder_tensors(
    network: EncoderNetwork, filters: np.ndarray
) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
    """Return the tensors and the settings of an encoder's weights file.

    The tensors are the network's in float16, and the mel filter bank.
    """
    settings = {"width": len(network.place), "past": network.past, "future": list(network.future)}
    return {**float16_tensors(network), "filters": filters}, settings


def encoder_changes(
    network: nn.Module, before: nn.Module, names: list[str]
) -> dict[str, np.ndarray]:
    """Return how training changed some tensors of an encoder, compressed for a weights file.

    Matrices are stored as int8 with a scale for each row: the power of two for which the row's
    largest change is 64 to 127 times as much. That is half the size of float16, and finer than the
    training's steps. Compressing the result again does not change it.
    """
    state, state_before, changes = network.state_dict(), before.state_dict(), {}
    for name in names:
        change = (state[name] - state_before[name]).detach().cpu().numpy()
        if change.ndim != 2:
            changes[name] = change.astype(np.float16)
            continue
        min_scale = np.maximum(np.abs(change).max(1, keepdims=True) / 127, MIN_CHANGE_SCALE)
        scale = np.exp2(np.ceil(np.log2(min_scale))).astype(np.float16)
        steps = np.round(change / scale.astype(np.float32))
        changes[name] = np.clip(steps, -127, 127).astype(np.int8)
        changes[name + SCALE_SUFFIX] = scale
    return changes


def build_encoder(
    tensors: dict[str, np.ndarray], settings: dict[str, Any], device: torch.device | str = "cpu"
) -> SpeechEncoder:
    """Return the encoder of a weights file's tensors and settings."""
    tensors = dict(tensors)
    filters = tensors.pop("filters")
    width, past, future = (settings[name] for name in ("width", "past", "future"))
    network = build_network(lambda: EncoderNetwork(len(filters), width, past, future), tensors)
    return SpeechEncoder(network, filters, width, settings, device)


def log_mel_encoder(
    filters: np.ndarray | None = None, device: torch.device | str = "cpu"
) -> SpeechEncoder:
    """Return log-mel bands as an encoder, by a filter bank (80, 257); librosa's if None."""
    filters = mel_filters() if filters is None else filters
    return SpeechEncoder(LogMel(), filters, ROWS_PER_FEATURE * MEL_BANDS, {}, device)
