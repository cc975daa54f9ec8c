"""Recordings: audio files, standard input and samples in memory, as mono samples at 16 kHz."""

from __future__ import annotations

import atexit
import io
import os
import re
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import IO, Any, Protocol

import numpy as np

from ..errors import InputError
from ..files.reading import printable
from .decoding import AUDIO_CHUNK_S, read_chunks, repaired_wav
from .samples import (
    SAMPLE_RATE,
    HighPass,
    MonoMixer,
    as_floats,
    check_array,
    check_duration,
    check_finite,
    check_peak,
    check_rate,
)

STANDARD_INPUT = "-"  # in the place of a path
MAX_STDIN_BYTES = 1 << 32  # of audio from standard input
SIGNATURE_BYTES = 64  # at the start of a stream, which show its format
MAX_IN_MEMORY_S = 120.0  # samples of longer files are read again when needed
# How files that ffmpeg decodes begin, and their endings, for standard input.
AUDIO_SIGNATURES = (
    (re.compile(rb"....ftyp", re.DOTALL), ".m4a"),
    (re.compile(rb"\x1a\x45\xdf\xa3"), ".webm"),
    (re.compile(rb"\x30\x26\xb2\x75\x8e\x66\xcf\x11"), ".wma"),
    (re.compile(rb"\xff[\xf0\xf1\xf8\xf9]"), ".aac"),
)


class AudioSource(Protocol):
    """Audio that a face can speak: a recording, or a stream that is still arriving."""

    @property
    def peak(self) -> float:
        """Largest absolute sample; infinity if unknown."""

    def chunks(self) -> Iterator[np.ndarray]:
        """Yield consecutive chunks (N,) float32 in about [-1, 1], mono at 16 kHz."""


@dataclass(frozen=True, eq=False)
class Audio:
    """A recording whose samples are read from a file when needed, or are in memory."""

    path: Path | None  # None for samples in memory
    duration: float  # s
    peak: float  # largest absolute sample
    held: np.ndarray | None = None  # (N,) float32 at 16 kHz, if in memory
    title: str = ""  # its name, if not the file's
    notes: tuple[str, ...] = ()  # what is odd about it, for the user
    copy: Any = None  # the temporary file that `path` names, while this recording exists

    @property
    def name(self) -> str:
        """The recording's name in messages and metadata."""
        return self.title or (self.path.name if self.path is not None else "samples")

    def chunks(self, chunk_s: float = AUDIO_CHUNK_S) -> Iterator[np.ndarray]:
        """Yield consecutive chunks (N,) float32 at 16 kHz, `duration` seconds in all."""
        if self.held is None:
            assert self.path is not None
            yield from read_chunks(self.path, self.title or printable(self.path), chunk_s)
            return
        size = max(1, int(chunk_s * SAMPLE_RATE))
        for start in range(0, len(self.held), size):
            yield self.held[start : start + size]

    def samples(self) -> np.ndarray:
        """Return the whole signal (N,) float32."""
        return np.concatenate(list(self.chunks()))


def load_audio(source: str | Path | tuple[np.ndarray, int] | Audio) -> Audio:
    """Return a recording.

    Parameters
    ----------
    source : path, (samples, rate) or Audio
        An audio file, "-" for standard input, or samples (N,) or (N, channels) in [-1, 1] with
        their rate in Hz.

    Raises
    ------
    InputError
        The source has no usable audio.
    """
    if isinstance(source, Audio):
        return source
    if isinstance(source, tuple):
        return audio_of_samples(*source)
    return open_audio(source)


def audio_of_samples(samples: np.ndarray, rate: int) -> Audio:
    """Return a recording of samples.

    Parameters
    ----------
    samples : (N,) or (N, channels)
        Floats in [-1, 1], or integers in the range of their type.
    rate : int
        Hz.

    Raises
    ------
    InputError
        The samples or the rate cannot be used.
    """
    import soxr

    samples, name = np.asarray(samples), "audio"
    check_array(samples, name)
    check_rate(rate, name)
    check_duration(len(samples) / rate, name)
    samples = as_floats(samples)
    mono = MonoMixer(rate)(samples) if samples.ndim == 2 else samples
    check_finite(mono, name)
    filtered = HighPass(rate)(mono)  # removes a constant offset
    if rate != SAMPLE_RATE:
        filtered = soxr.resample(filtered, rate, SAMPLE_RATE).astype(np.float32)
    if not len(filtered):
        raise InputError(f"{name}: no samples at 16 kHz", "it is too short")
    check_finite(filtered, name)
    return Audio(None, len(filtered) / SAMPLE_RATE, check_peak(filtered, name), filtered)


def open_audio(path: str | Path) -> Audio:
    """Return the recording of an audio file, or of standard input for "-".

    The file is read once from end to end, to check and measure it. Of a wav whose header has a
    wrong length, all is read that is there, and a note says so. Raises InputError if it is not a
    regular file, longer than a day, or has no usable audio.
    """
    if str(path) == STANDARD_INPUT:
        return open_copy(_copy_of_stdin(), "stdin")
    return _open(Path(path), "")


def open_copy(copy: IO[bytes], title: str) -> Audio:
    """Return the recording in a temporary file that `copy_stream` returned; see `open_audio`."""
    return _open(Path(copy.name), title, copy)


def _open(path: Path, title: str, copy: Any = None) -> Audio:
    name = title or printable(path)
    repaired = repaired_wav(path, name)
    notes: tuple[str, ...] = ()
    if repaired is not None:
        notes = (repaired.note,)
        if repaired.copy is not None:
            title, copy = title or path.name, repaired.copy
            path = Path(copy.name)
    count, peak = 0, 0.0
    held: list[np.ndarray] = []
    for chunk in read_chunks(path, name, AUDIO_CHUNK_S):
        check_finite(chunk, name)
        peak = max(peak, check_peak(chunk, name))
        count += len(chunk)
        check_duration(count / SAMPLE_RATE, name)
        held.append(chunk)
        if count > MAX_IN_MEMORY_S * SAMPLE_RATE:
            held.clear()
    if count == 0:
        raise InputError(
            f"{name}: no audio in it", "the file is empty or cut off before its first sample"
        )
    samples = np.concatenate(held) if held else None
    return Audio(path, count / SAMPLE_RATE, peak, samples, title, notes, copy)


@lru_cache(maxsize=1)
def _copy_of_stdin() -> IO[bytes]:
    """Return a temporary file with all of standard input, removed when the process ends."""
    copy = copy_stream(standard_input(), "stdin")
    atexit.register(copy.close)
    return copy


def standard_input() -> IO[bytes]:
    """Return standard input. Raises InputError if it is closed, a terminal, or cannot be read."""
    hint = "for instance: talkemo animate MESH - < speech.wav"
    source = None if sys.stdin is None or sys.stdin.closed else sys.stdin.buffer
    if source is None or source.isatty():
        raise InputError("stdin: no audio on standard input", hint)
    try:
        os.read(source.fileno(), 0)
    except io.UnsupportedOperation:  # it was replaced by an object without a descriptor
        return source
    except OSError as error:
        raise InputError(f"stdin: cannot be read ({error.strerror})", hint) from None
    return source


def copy_stream(source: IO[bytes], title: str, start: bytes = b"") -> IO[bytes]:
    """Return a temporary file with all that a stream holds, removed when it is closed.

    Parameters
    ----------
    title : str
        The stream's name in messages.
    start : bytes
        What was read from the stream before.

    Raises
    ------
    InputError
        The stream is longer than MAX_STDIN_BYTES.
    """
    start += source.read(max(SIGNATURE_BYTES - len(start), 0))
    endings = (ending for signature, ending in AUDIO_SIGNATURES if signature.match(start))
    copy = tempfile.NamedTemporaryFile(prefix="talkemo-", suffix=next(endings, ""))  # noqa: SIM115
    size = 0
    block = start
    while block:
        size += len(block)
        if size > MAX_STDIN_BYTES:
            copy.close()
            limit = f"more than {MAX_STDIN_BYTES >> 30} GiB of audio"
            raise InputError(f"{title}: {limit}", "name a file instead")
        copy.write(block)
        block = source.read(1 << 20)
    copy.flush()
    return copy
