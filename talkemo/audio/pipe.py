"""Audio that is still arriving: from a pipe, a microphone or a program."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import IO

import numpy as np

from ..errors import InputError
from .recording import Audio, copy_stream, open_copy
from .samples import (
    Converter,
    as_floats,
    check_array,
    check_channels,
    check_duration,
    check_finite,
    check_peak,
    check_rate,
)
from .wav import MIN_REST_S, WavHeader, read_wav_header, sample_blocks

PIPE_CHUNK_S = 0.02  # read from a pipe at a time
RAW_SAMPLE_TYPE = np.dtype("<i2")  # of samples without a header
PIPE_HINT = (
    "send an audio file, or raw 16-bit samples with their rate: "
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
    notes : list of str
        What was odd about it, once it has ended.

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
        self.notes: list[str] = []

    def chunks(self) -> Iterator[np.ndarray]:
        """Yield consecutive chunks (N,) float32 in about [-1, 1] at 16 kHz."""
        convert, channels = Converter(self.rate), None
        for piece in self.pieces:
            if np.size(piece) == 0:  # as of a microphone that has nothing yet
                continue
            block = self._to_floats(piece)
            if block.shape[1] != (channels or block.shape[1]):
                raise InputError(
                    f"{self.name}: {channels} channels, and then {block.shape[1]}",
                    "all pieces need the same number of channels",
                )
            channels = block.shape[1]
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
        block = as_floats(block)
        check_finite(block, self.name)
        check_peak(block, self.name)
        return block


def open_pipe(
    source: IO[bytes], raw_rate: int | None = None, title: str = "stdin"
) -> AudioStream | Audio:
    """Return the audio that is being written to a pipe.

    A wav is read as it arrives, whatever its header says about its length. Any other file, and a
    wav of coded samples (ADPCM, GSM, MP3), is read to its end first.

    Parameters
    ----------
    raw_rate : int, optional
        Rate in Hz of 16-bit little-endian mono samples without a header.
    title : str
        The stream's name in messages.

    Raises
    ------
    InputError
        The pipe is empty or has something else.
    """
    if raw_rate is not None:
        samples = max(1, int(PIPE_CHUNK_S * raw_rate))
        return AudioStream(_read_raw(source, samples, title), raw_rate, title)
    recorder = _Recorder(source)
    try:
        header = read_wav_header(recorder)
    except ValueError:
        header = None  # libsndfile says what is wrong
    if not recorder.content:
        raise InputError(f"{title}: no audio arrives", PIPE_HINT)
    if header is None or header.decode is None:
        try:
            return open_copy(copy_stream(source, title, bytes(recorder.content)), title)
        except InputError as error:
            raise InputError(error.message, PIPE_HINT) from None
    check_channels(header.channels, title)
    stream = AudioStream((), header.rate, title)
    stream.pieces = _read_wav(source, header, stream)
    return stream


class _Recorder:
    """Reads from a stream and keeps what was read."""

    def __init__(self, source: IO[bytes]):
        self.source, self.content = source, bytearray()

    def read(self, size: int) -> bytes:
        block = self.source.read(size)
        self.content += block
        return block


def _read_raw(source: IO[bytes], samples: int, title: str) -> Iterator[np.ndarray]:
    is_empty = True
    while block := source.read(samples * RAW_SAMPLE_TYPE.itemsize):
        is_empty = False
        whole = len(block) // RAW_SAMPLE_TYPE.itemsize * RAW_SAMPLE_TYPE.itemsize
        if whole:
            yield np.frombuffer(block[:whole], RAW_SAMPLE_TYPE)
    if is_empty:
        raise InputError(f"{title}: no audio arrives", PIPE_HINT)


def _read_wav(source: IO[bytes], header: WavHeader, stream: AudioStream) -> Iterator[np.ndarray]:
    """Yield the samples (N, channels) of a wav, and note a length that the header has wrong."""
    decode = header.decode
    assert decode is not None
    found = 0
    for block in sample_blocks(source, header, int(PIPE_CHUNK_S * header.bytes_per_s)):
        found += len(block)
        yield decode(block)
    if not found:
        raise InputError(f"{stream.name}: no audio in it", PIPE_HINT)
    if header.says_length and header.seconds(abs(found - header.data_bytes)) >= MIN_REST_S:
        stream.notes.append(f"{stream.name}: {header.note(found)}")
