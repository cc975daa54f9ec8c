"""Sound as it comes, of which nobody knows how long it will be: from a pipe, a microphone, or a program."""

from __future__ import annotations

import wave
from collections.abc import Iterable, Iterator
from typing import IO

import numpy as np

from ..errors import InputError
from ..files.reading import printable
from .recording import MAX_ABS_SAMPLE, MAX_AUDIO_S, MAX_AUDIO_CHANNELS, SAMPLE_RATE_RANGE, Converter

PIPE_CHUNK_S = 0.02  # s of a pipe that are read at a time
RAW_SAMPLE_TYPE = np.dtype("<i2")  # of samples that come without a header
PIPE_HINT = "send a wav, or raw 16-bit samples with their rate: ... | talkemo animate MESH - --stream --raw 16000"


class AudioStream:
    """Mono samples at 16 kHz as they come, once.

    pieces: consecutive samples (N,) or (N, channels), floats in [-1, 1] or whole numbers that use the range of their type
    rate: samples a second; title: what the sound is called in messages
    seconds: of sound that have come; ended: whether nothing follows
    peak: not known
    Raises InputError for an unusable rate, and as they come for unusable samples and for more than a day.
    """

    peak = float("inf")

    def __init__(self, pieces: Iterable[np.ndarray], rate: int, title: str = "the sound"):
        if not SAMPLE_RATE_RANGE[0] <= rate <= SAMPLE_RATE_RANGE[1]:
            raise InputError(
                f"{title}: {rate} samples a second", f"from {SAMPLE_RATE_RANGE[0]} to {SAMPLE_RATE_RANGE[1]} are read"
            )
        self.pieces, self.rate, self.name = pieces, rate, title
        self.seconds, self.ended = 0.0, False

    def chunks(self) -> Iterator[np.ndarray]:
        """Consecutive pieces (N,) float32 in about [-1, 1], at 16 kHz."""
        convert = Converter(self.rate)
        for piece in self.pieces:
            block = self._floats(piece)
            self.seconds += len(block) / self.rate
            if self.seconds > MAX_AUDIO_S:
                raise InputError(
                    f"{self.name}: more than {MAX_AUDIO_S / 3600:.0f} hours of sound", "begin again"
                )
            samples = convert(block, last=False)
            if len(samples):
                yield samples
        self.ended = True
        rest = convert(np.zeros((0, 1), np.float32), last=True)
        if len(rest):
            yield rest

    def _floats(self, piece: np.ndarray) -> np.ndarray:
        """A piece as (N, channels) floats."""
        piece = np.asarray(piece)
        if (
            piece.ndim not in (1, 2)
            or piece.dtype.kind not in "fiu"
            or not 1 <= piece.size // max(len(piece), 1) <= MAX_AUDIO_CHANNELS
        ):
            raise InputError(
                f"{self.name}: samples are {piece.dtype} {piece.shape}",
                "give (N,) or (N, channels) floats in [-1, 1]",
            )
        block = piece.reshape(len(piece), -1)
        if block.dtype.kind in "iu":
            block = block / np.float32(np.iinfo(block.dtype).max + 1.0)
        if not np.isfinite(block).all():
            raise InputError(
                f"{self.name}: its samples contain NaN or infinity",
                "give finite numbers in [-1, 1]",
            )
        if np.abs(block).max(initial=0.0) > MAX_ABS_SAMPLE:
            raise InputError(
                f"{self.name}: samples of {np.abs(block).max():.0e}", "sound lies between -1 and 1"
            )
        return block


def open_pipe(source: IO[bytes], raw_rate: int | None = None, title: str = "stdin") -> AudioStream:
    """The sound of a wav that is being written to a pipe, or with `raw_rate` of raw 16-bit mono samples, little-endian.

    Raises InputError for anything else.
    """
    if raw_rate is not None:
        return AudioStream(_raw(source, max(1, int(PIPE_CHUNK_S * raw_rate))), raw_rate, title)
    try:
        file = wave.open(source, "rb")  # noqa: SIM115 (the pipe is its owner's)
    except EOFError:
        raise InputError(f"{title}: no sound comes", PIPE_HINT) from None
    except (wave.Error, ValueError) as error:
        raise InputError(
            f"{title}: not a wav of whole numbers ({printable(str(error))})", PIPE_HINT
        ) from None
    return AudioStream(_wav(file), file.getframerate(), title)


def _raw(source: IO[bytes], samples: int) -> Iterator[np.ndarray]:
    while block := source.read(samples * RAW_SAMPLE_TYPE.itemsize):
        yield np.frombuffer(block[: len(block) // RAW_SAMPLE_TYPE.itemsize * RAW_SAMPLE_TYPE.itemsize], RAW_SAMPLE_TYPE)


def _wav(file: wave.Wave_read) -> Iterator[np.ndarray]:
    channels, width, size = (
        file.getnchannels(),
        file.getsampwidth(),
        max(1, int(PIPE_CHUNK_S * file.getframerate())),
    )
    while block := file.readframes(size):
        whole = np.frombuffer(
            block[: len(block) // (channels * width) * channels * width], np.uint8
        ).reshape(-1, width)
        if width == 1:  # the only ones without a sign
            samples = (whole[:, 0].astype(np.int16) - 128).astype(np.int8)
        else:  # as the highest bytes of 32 bits
            bytes_ = np.zeros((len(whole), 4), np.uint8)
            bytes_[:, 4 - width :] = whole
            samples = bytes_.view("<i4")[:, 0]
        yield samples.reshape(-1, channels)
