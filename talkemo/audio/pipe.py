"""Audio that is still arriving: from a pipe, a microphone or a program."""

from __future__ import annotations

import wave
from collections.abc import Iterable, Iterator
from typing import IO

import numpy as np

from ..errors import InputError
from ..files.reading import printable
from .samples import (
    Converter,
    check_array,
    check_duration,
    check_finite,
    check_peak,
    check_rate,
)

PIPE_CHUNK_S = 0.02  # read from a pipe at a time
RAW_SAMPLE_TYPE = np.dtype("<i2")  # of samples without a header
PIPE_HINT = (
    "send a wav, or raw 16-bit samples with their rate: "
    "... | talkemo animate MESH - --stream --raw 16000"
)


class AudioStream:
    """Mono samples at 16 kHz as they arrive; can be read once. An `AudioSource`.

    Parameters
    ----------
    pieces : iterable of (N,) or (N, channels)
        Consecutive samples: floats in [-1, 1], or integers in the range of their type.
    rate : int
        Hz.
    title : str
        The stream's name in messages.

    Attributes
    ----------
    seconds : float
        Length of the audio that has arrived.
    ended : bool
        Whether the stream has ended.

    Raises
    ------
    InputError
        The rate is unusable. While reading: samples are unusable, or more than a day of them.
    """

    peak = float("inf")  # unknown

    def __init__(self, pieces: Iterable[np.ndarray], rate: int, title: str = "the stream"):
        check_rate(rate, title)
        self.pieces, self.rate, self.name = pieces, rate, title
        self.seconds, self.ended = 0.0, False

    def chunks(self) -> Iterator[np.ndarray]:
        """Yield consecutive chunks (N,) float32 in about [-1, 1] at 16 kHz."""
        convert = Converter(self.rate)
        for piece in self.pieces:
            block = self._to_floats(piece)
            self.seconds += len(block) / self.rate
            check_duration(self.seconds, self.name)
            samples = convert(block, last=False)
            if len(samples):
                yield samples
        self.ended = True
        rest = convert(np.zeros((0, 1), np.float32), last=True)
        if len(rest):
            yield rest

    def _to_floats(self, piece: np.ndarray) -> np.ndarray:
        """Return a piece as (N, channels) floats. Raises InputError for unusable samples."""
        piece = np.asarray(piece)
        check_array(piece, self.name)
        block = piece.reshape(len(piece), -1)
        if block.dtype.kind in "iu":
            block = block / np.float32(np.iinfo(block.dtype).max + 1.0)
        check_finite(block, self.name)
        check_peak(block, self.name)
        return block


def open_pipe(source: IO[bytes], raw_rate: int | None = None, title: str = "stdin") -> AudioStream:
    """Return the audio that is being written to a pipe.

    Parameters
    ----------
    raw_rate : int, optional
        Rate in Hz of 16-bit little-endian mono samples without a header; a wav if omitted.
    title : str
        The stream's name in messages.

    Raises
    ------
    InputError
        The pipe is empty or has something else.
    """
    if raw_rate is not None:
        samples = max(1, int(PIPE_CHUNK_S * raw_rate))
        return AudioStream(_read_raw(source, samples), raw_rate, title)
    try:
        file = wave.open(source, "rb")  # noqa: SIM115 (the caller closes the pipe)
    except EOFError:
        raise InputError(f"{title}: no audio arrives", PIPE_HINT) from None
    except (wave.Error, ValueError) as error:
        reason = printable(str(error))
        raise InputError(f"{title}: not a wav of integers ({reason})", PIPE_HINT) from None
    return AudioStream(_read_wav(file), file.getframerate(), title)


def _read_raw(source: IO[bytes], samples: int) -> Iterator[np.ndarray]:
    while block := source.read(samples * RAW_SAMPLE_TYPE.itemsize):
        whole = len(block) // RAW_SAMPLE_TYPE.itemsize * RAW_SAMPLE_TYPE.itemsize
        yield np.frombuffer(block[:whole], RAW_SAMPLE_TYPE)


def _read_wav(file: wave.Wave_read) -> Iterator[np.ndarray]:
    """Yield the samples of a wav as (N, channels) integers that use the range of their type."""
    channels, width = file.getnchannels(), file.getsampwidth()
    size = max(1, int(PIPE_CHUNK_S * file.getframerate()))
    while block := file.readframes(size):
        whole = len(block) // (channels * width) * channels * width
        raw = np.frombuffer(block[:whole], np.uint8).reshape(-1, width)
        if width == 1:  # unsigned, unlike all others
            samples = (raw[:, 0].astype(np.int16) - 128).astype(np.int8)
        else:  # the highest bytes of 32 bits
            padded = np.zeros((len(raw), 4), np.uint8)
            padded[:, 4 - width :] = raw
            samples = padded.view("<i4")[:, 0]
        yield samples.reshape(-1, channels)
