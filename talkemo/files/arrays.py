"""Files that appear whole or not at all, and the one boundary around reading: regular files only, sizes known before
anything is allocated, and every failure an InputError of one line that names the file.
"""

from __future__ import annotations

import io
import math
import os
import re
import zipfile
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO

import numpy as np

from .reading import _size, open_file, reading_errors

LARGEST_ARRAYS = 1 << 32  # bytes of the arrays of one file that are in memory together
ALWAYS_LOADED = 1 << 26  # bytes that arrays may always take, however small their file is
EXPANSION = (
    32  # times a file's size that its arrays may take beyond that: compressed zeros fill any memory
)
LARGEST_READ = 1 << 20  # bytes of a zip read at a time, its directory among them
LARGEST_ARRAY_HEADER = 10_000  # bytes, numpy's own limit
DEFLATE_RATIO = 1032  # to 1, which deflate cannot exceed
METHODS = (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED)  # what numpy writes
ARRAY_KINDS = "?biufcSU"  # of numpy's types; not O, Python objects, nor V, records


@dataclass(frozen=True)
class ArrayHeader:
    """What the header of a .npy says: shape and type of its array, and whether the first index changes fastest."""

    shape: tuple[int, ...]
    dtype: np.dtype
    fortran: bool

    @property
    def size(self) -> int:
        """Bytes of the array."""
        return math.prod(self.shape) * self.dtype.itemsize


def largest_loaded(file_size: int) -> int:
    """The bytes that arrays of a file of that size may take in memory."""
    return min(LARGEST_ARRAYS, max(ALWAYS_LOADED, EXPANSION * file_size))


def read_npz(
    path: str | Path, what: str, *names: str, largest: int = LARGEST_ARRAYS
) -> dict[str, np.ndarray]:
    """The arrays `names` of an npz, or all of them. Raises InputError: the file is not `what`.

    largest: bytes that they may take together in memory; see `largest_loaded` for what else limits them
    """
    hint = "is it the right file?"
    with (
        open_file(path, what, hint) as file,
        reading_errors(path, what, hint),
        NpzFile(file) as arrays,
    ):
        return arrays.read(names or arrays.names, largest)


def read_npy(path: str | Path, what: str, hint: str, largest: int = LARGEST_ARRAYS) -> np.ndarray:
    """The array of a .npy. Raises InputError: the file is not `what`."""
    with open_file(path, what, hint) as file, reading_errors(path, what, hint):
        header = read_array_header(file)
        if header.size > os.fstat(file.fileno()).st_size - file.tell():
            raise ValueError("its header claims more than it holds")
        if header.size > largest:
            raise ValueError(f"its array takes more than {_size(largest)}")
        return _read_array(file, header)


class NpzFile:
    """The arrays of an npz, by their names, in a file that is open. All its methods raise ValueError, or what zipfile
    and zlib raise, for what is wrong; see `reading_errors`.

    names: of its arrays
    """

    def __init__(self, file: IO[bytes]):
        self._size = os.fstat(file.fileno()).st_size
        self._archive = zipfile.ZipFile(_SmallReads(io.FileIO(file.fileno(), closefd=False)))  # type: ignore[call-overload]
        self._entries = {
            i.filename[:-4]: i for i in self._archive.infolist() if i.filename.endswith(".npy")
        }
        self.names = tuple(self._entries)

    def __enter__(self) -> NpzFile:
        return self

    def __exit__(self, *error: object) -> None:
        self._archive.close()

    @contextmanager
    def stream(self, name: str) -> Iterator[tuple[IO[bytes], ArrayHeader]]:
        """An array's header, and its content as a stream that stands at the first number."""
        if name not in self._entries:
            raise ValueError(f"it has no array {name}")
        entry = self._entries[name]
        if entry.compress_type not in METHODS or entry.flag_bits & 1:
            raise ValueError(f"{name} is compressed or encrypted in a way that is not read")
        possible = (
            DEFLATE_RATIO * (entry.compress_size + 1)
            if entry.compress_type
            else entry.compress_size
        )
        if entry.compress_size > self._size or entry.file_size > possible:
            raise ValueError(f"{name} claims more than the file holds")
        with self._archive.open(entry) as content:
            header = read_array_header(content)
            if header.size + content.tell() > entry.file_size:
                raise ValueError(f"the header of {name} claims more than it holds")
            yield content, header

    def header(self, name: str) -> ArrayHeader:
        """What an array's header says."""
        with self.stream(name) as (_, header):
            return header

    def read(self, names: Iterable[str], largest: int = LARGEST_ARRAYS) -> dict[str, np.ndarray]:
        """Arrays that together take at most `largest` bytes, added up before any is read."""
        names = list(names)
        total, most = (
            sum(self.header(name).size for name in names),
            min(largest, largest_loaded(self._size)),
        )
        if total > most:
            raise ValueError(
                f"its arrays take {total} bytes, more than the {most} that a file like this may"
            )
        found = {}
        for name in names:
            with self.stream(name) as (content, header):
                found[name] = _read_array(content, header)
        return found


class _SmallReads(io.BufferedReader):
    """A file that is read in small pieces only: a zip's directory can claim any size."""

    def read(self, size: int | None = -1) -> bytes:
        if size is not None and 0 <= size <= LARGEST_READ:
            return super().read(size)
        content = super().read(LARGEST_READ + 1)
        if len(content) > LARGEST_READ:
            raise ValueError("its directory is too large")
        return content


_HEADER_PARTS = {
    "descr": re.compile(rb"""['"]descr['"]\s*:\s*['"]([<>|=]?([?a-zA-Z])\d{0,9})['"]"""),
    "fortran_order": re.compile(rb"""['"]fortran_order['"]\s*:\s*(True|False)"""),
    "shape": re.compile(rb"""['"]shape['"]\s*:\s*\(([\d\s,L]*)\)"""),
}


def read_array_header(content: IO[bytes]) -> ArrayHeader:
    """The header of a .npy stream, which then stands at its first number. Raises ValueError.

    numpy's own reader evaluates it as Python, and reads as much of it as it claims to be long.
    """
    start = content.read(8)
    if len(start) < 8 or start[:6] != b"\x93NUMPY" or start[6] not in (1, 2, 3):
        raise ValueError("not an array of numpy")
    length = int.from_bytes(content.read(2 if start[6] == 1 else 4), "little")
    if length > LARGEST_ARRAY_HEADER:
        raise ValueError("an array's header is too long")
    text = content.read(length)
    found = {name: pattern.search(text) for name, pattern in _HEADER_PARTS.items()}
    kind, order, shape = (found[name] for name in _HEADER_PARTS)
    if len(text) < length or kind is None or order is None or shape is None:
        raise ValueError("an array's header is broken, or it holds records")
    if kind[2].decode() not in ARRAY_KINDS:
        raise ValueError("an array holds Python objects or something else that is not read")
    numbers = [int(number.strip(b" L")) for number in shape[1].split(b",") if number.strip()]
    if len(numbers) > 32 or any(number >= 1 << 62 for number in numbers):
        raise ValueError("an array claims to be endless")
    dtype = np.dtype(kind[1].decode())
    if not dtype.itemsize:  # as many as one likes would take no memory
        raise ValueError("an array of empty texts")
    return ArrayHeader(tuple(numbers), dtype, order[1] == b"True")


def _read_array(content: IO[bytes], header: ArrayHeader) -> np.ndarray:
    """The array that follows a header."""
    raw = read_exactly(content, header.size)
    content.read(1)  # at the end of an entry its checksum is compared
    if header.dtype.kind == "b":  # other bytes than 0 and 1 are no truth values
        array: np.ndarray = raw != 0
    else:
        array = raw.view(header.dtype)
        array = array if array.dtype.isnative else array.astype(array.dtype.newbyteorder("="))
    return array.reshape(header.shape[::-1]).T if header.fortran else array.reshape(header.shape)


def read_exactly(content: IO[bytes], size: int) -> np.ndarray:
    """The next bytes (size,) uint8 of a stream. Raises ValueError where there are fewer."""
    raw = np.empty(size, np.uint8)
    done = 0
    while done < size:
        block = content.read(min(LARGEST_READ, size - done))
        if not block:
            raise ValueError(f"cut off, {done} of {size} bytes of an array are there")
        raw[done : done + len(block)] = np.frombuffer(block, np.uint8)
        done += len(block)
    return raw
