"""Headers of wav files: the layout of the samples, and how many of them there are.

Programs that write to a pipe, or that are stopped, leave a length of 0, of the largest number or of
any other. The data is right and the header is not: what follows the header is read.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import lru_cache
from typing import IO, Protocol

import numpy as np

WAV_SIGNATURES = (b"RIFF", b"RIFX", b"RF64", b"BW64")  # RIFX is big-endian
MAX_WAV_CHUNKS = 10_000  # RIFF chunks before the samples
MAX_WAV_HEADER_BYTES = 1 << 26  # of all chunks before the samples
MAX_FMT_BYTES = 1 << 16  # of the chunk with the layout
MIN_FMT_BYTES = 16
SUBFORMAT_OFFSET = 24  # of the sample format in the layout of EXTENSIBLE
UNKNOWN_SIZE = 0x7FFFF000  # bytes from which on a length says that it is not known
FULL_SIZE = 0xFFFFFFFF  # stands for an unknown length, and for one in the chunk ds64
PCM, FLOAT, ALAW, MULAW, EXTENSIBLE = 1, 3, 6, 7, 0xFFFE  # codes of sample formats
CHUNK_HEADER_BYTES = 8
DRAINED_BYTES = 1 << 20  # copied or discarded at a time
# Names of chunks that follow the samples, whatever size they claim; TAG is ID3's older one.
TRAILING_CHUNKS = tuple(
    b"LIST,list,id3 ,ID3 ,TAG,bext,cue ,fact,PEAK,smpl,inst,iXML,axml,JUNK,junk,PAD ,FLLR,MD5 ".split(
        b","
    )
)
MIN_REST_S = 0.1  # s of bytes behind the samples that are more samples, and no padding


@dataclass(frozen=True)
class WavHeader:
    """What stands before the samples of a wav.

    Attributes
    ----------
    fmt : bytes
        The chunk with the layout.
    big_endian : bool
    code : int
        Sample format, such as PCM.
    channels : int
    rate : int
        Hz.
    bytes_per_s : int
        Of the samples.
    block_bytes : int
        Bytes of a sample of all channels, or of a block of coded samples.
    bits : int
        Of a sample.
    data_bytes : int
        Bytes of samples that the header claims.
    """

    fmt: bytes
    big_endian: bool
    code: int
    channels: int
    rate: int
    bytes_per_s: int
    block_bytes: int
    bits: int
    data_bytes: int

    @property
    def says_length(self) -> bool:
        """Whether the claimed length is meant as one."""
        return 0 < self.data_bytes < UNKNOWN_SIZE or self.data_bytes > FULL_SIZE

    def seconds(self, size: int) -> float:
        """Duration of a number of bytes of samples."""
        return size / max(self.bytes_per_s, 1)

    def note(self, found_bytes: int) -> str:
        """Return a remark on a length that is not the one of the data that was found."""
        return (
            f"its header says {_as_text(self.seconds(self.data_bytes))}, "
            f"but {_as_text(self.seconds(found_bytes))} of audio are there"
        )

    @property
    def decode(self) -> Callable[[bytes], np.ndarray] | None:
        """A function from bytes of samples to an array (N, channels); None if libsndfile is needed.

        Integers use the range of their type.
        """
        width = self.block_bytes // max(self.channels, 1)
        if self.channels < 1 or width * self.channels != self.block_bytes:
            return None
        if self.code == PCM and 1 <= width <= 4 and width == -(-self.bits // 8):
            convert = self._integers
        elif self.code == FLOAT and width in (4, 8) and self.bits == 8 * width:
            convert = self._floats
        elif self.code in (ALAW, MULAW) and width == 1:
            convert = self._companded
        else:
            return None
        return lambda block: convert(block, width).reshape(-1, self.channels)

    def _integers(self, block: bytes, width: int) -> np.ndarray:
        raw = np.frombuffer(block, np.uint8).reshape(-1, width)
        if width == 1:  # unsigned, unlike all others
            return (raw[:, 0].astype(np.int16) - 128).astype(np.int8)
        padded = np.zeros((len(raw), 4), np.uint8)  # the highest bytes of 32 bits
        padded[:, 4 - width :] = raw[:, ::-1] if self.big_endian else raw
        return padded.view("<i4")[:, 0]

    def _floats(self, block: bytes, width: int) -> np.ndarray:
        return np.frombuffer(block, f"{'>' if self.big_endian else '<'}f{width}")

    def _companded(self, block: bytes, width: int) -> np.ndarray:
        table = _companding_table("ALAW" if self.code == ALAW else "ULAW")
        return table[np.frombuffer(block, np.uint8)]


def _as_text(seconds: float) -> str:
    if not seconds:
        return "0 s"
    return f"{seconds:.1f} s" if seconds >= 0.1 else f"{seconds:.4f} s"


@lru_cache
def _companding_table(subtype: str) -> np.ndarray:
    """The int16 values of the 256 codes of A-law or µ-law, by libsndfile."""
    import io

    import soundfile

    codes = io.BytesIO(bytes(range(256)))
    table, _ = soundfile.read(
        codes, dtype="int16", samplerate=8000, channels=1, format="RAW", subtype=subtype
    )
    return table


class Readable(Protocol):
    """What a header is read from."""

    def read(self, size: int, /) -> bytes: ...


def read_wav_header(source: Readable) -> WavHeader | None:
    """Read a wav up to its first sample; return None for anything else.

    Parameters
    ----------
    source : binary file
        At its start. It need not be able to seek.

    Raises
    ------
    ValueError
        A wav without samples or layout, or with too much before the samples.
    """
    start = source.read(12)
    if start[:4] not in WAV_SIGNATURES or start[8:] != b"WAVE":
        return None
    order = ">" if start[:4] == b"RIFX" else "<"
    fmt, long_size, read = b"", None, 12
    for _ in range(MAX_WAV_CHUNKS):
        head = source.read(CHUNK_HEADER_BYTES)
        if len(head) < CHUNK_HEADER_BYTES:
            raise ValueError("cut off before its first sample")
        (size,) = struct.unpack(f"{order}I", head[4:])
        if head[:4] == b"data":
            data_bytes = long_size if size == FULL_SIZE and long_size is not None else size
            return _header(fmt, order, data_bytes)
        read += size + size % 2
        if read > MAX_WAV_HEADER_BYTES:
            break
        body = source.read(size + size % 2)
        if head[:4] == b"fmt " and size <= MAX_FMT_BYTES:
            fmt = body[:size]
        elif head[:4] == b"ds64":
            long_size = int.from_bytes(body[8:16], "little")
    raise ValueError("too many parts before its first sample")


def _header(fmt: bytes, order: str, data_bytes: int) -> WavHeader:
    if len(fmt) < MIN_FMT_BYTES:
        raise ValueError("its header does not say how the samples are stored")
    fields = struct.unpack(f"{order}HHIIHH", fmt[:MIN_FMT_BYTES])
    code, channels, rate, bytes_per_s, block_bytes, bits = fields
    if code == EXTENSIBLE and len(fmt) >= SUBFORMAT_OFFSET + 2:
        (code,) = struct.unpack_from(f"{order}H", fmt, SUBFORMAT_OFFSET)
    if code in (PCM, FLOAT, ALAW, MULAW):  # programs often leave the bytes a second wrong
        bytes_per_s = rate * (block_bytes or channels * -(-bits // 8))
    return WavHeader(
        fmt, order == ">", code, channels, rate, bytes_per_s, block_bytes, bits, data_bytes
    )


def sample_blocks(source: IO[bytes], header: WavHeader, size: int) -> Iterator[bytes]:
    """Yield the samples that follow a header in a pipe, in pieces of about `size` bytes.

    A header that claims fewer than there are is wrong, unless chunks of another kind follow.
    An incomplete sample at the end is left out.
    """
    step = max(size // header.block_bytes, 1) * header.block_bytes
    rest = b""
    for piece in _pieces(source, header, step):
        block = rest + piece
        whole = len(block) // header.block_bytes * header.block_bytes
        if whole:
            yield block[:whole]
        rest = block[whole:]


def _pieces(source: IO[bytes], header: WavHeader, size: int) -> Iterator[bytes]:
    claimed = header.data_bytes if header.says_length else 0
    done = 0
    while done < claimed:
        piece = source.read(min(size, claimed - done))
        if not piece:
            return
        done += len(piece)
        yield piece
    if header.data_bytes == claimed:
        ahead = source.read(CHUNK_HEADER_BYTES + 1)
        if _starts_chunk(ahead, header):
            while source.read(DRAINED_BYTES):  # so that the writer can end
                pass
            return
        yield ahead
    while piece := source.read(size):
        yield piece


def found_bytes(file: IO[bytes], header: WavHeader, size: int) -> int:
    """Return how many bytes of samples follow a header in a file, whatever the header claims.

    Parameters
    ----------
    file : binary file
        Behind the header; it can seek.
    size : int
        Bytes of the file.
    """
    start, claimed = file.tell(), header.data_bytes
    available = size - start
    behind = available - claimed
    if behind <= 0:
        return available
    file.seek(start + claimed)
    ahead = file.read(CHUNK_HEADER_BYTES + 1)
    file.seek(start)
    is_padding = claimed > 0 and header.seconds(behind) < MIN_REST_S
    return claimed if is_padding or _starts_chunk(ahead, header, behind) else available


def _starts_chunk(ahead: bytes, header: WavHeader, available: int | None = None) -> bool:
    """Whether what follows the claimed end of the samples is a chunk, and not more samples.

    A chunk of unknown name is recognised if it fits into the bytes that are available.
    """
    order = "big" if header.big_endian else "little"
    for start in {0, header.data_bytes % 2}:  # behind an odd length there is a byte of padding
        name, size = ahead[start : start + 4], ahead[start + 4 : start + CHUNK_HEADER_BYTES]
        if name.startswith(TRAILING_CHUNKS):
            return True
        is_name = len(name) == 4 and all(0x20 <= character < 0x7F for character in name)
        fits = available is not None and (
            int.from_bytes(size, order) <= available - CHUNK_HEADER_BYTES  # type: ignore[arg-type]
        )
        if is_name and fits:
            return True
    return False


def write_repaired(source: IO[bytes], header: WavHeader, size: int, target: IO[bytes]) -> None:
    """Write a wav with the right length: the layout, and `size` bytes of samples from a file.

    The file stands behind its header. A length beyond 4 GiB is written as unknown.
    """
    order = ">" if header.big_endian else "<"
    fmt = header.fmt + bytes(len(header.fmt) % 2)
    around = 4 + 2 * CHUNK_HEADER_BYTES + len(fmt)  # bytes in the file beside the samples
    number = lambda value: struct.pack(f"{order}I", min(value, FULL_SIZE))
    target.write(b"RIFX" if header.big_endian else b"RIFF")
    target.write(number(around + size) + b"WAVE")
    target.write(b"fmt " + number(len(header.fmt)) + fmt + b"data" + number(size))
    while size > 0 and (block := source.read(min(size, DRAINED_BYTES))):
        target.write(block)
        size -= len(block)
