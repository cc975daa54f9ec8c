"""Arrays from npz and npy files of unknown origin, read by numpy once their sizes are checked.

A zip's directory, a compressed entry and an array's header can each claim gigabytes in a file of a
few bytes, so all claims are compared with the file's size before memory is allocated.
"""

from __future__ import annotations

import math
import os
import zipfile
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

import numpy as np

from .limits import limit
from .reading import format_bytes, open_file, reading_errors

MAX_ARRAYS_BYTES = limit("MAX_ARRAYS_BYTES", 1 << 32)  # of a file's arrays in memory
MIN_LOADABLE_BYTES = 1 << 26  # size of arrays that is allowed however small their file is
MAX_EXPANSION = 32  # bytes in memory per byte of the file: compressed zeros would fill any memory
MAX_READ_BYTES = 1 << 20  # read at once from a zip, which also bounds the size of its directory
MAX_ARRAY_HEADER_BYTES = 10_000  # numpy's own limit
MAX_DEFLATE_RATIO = 1032  # no deflate stream can exceed it
ZIP_METHODS = (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED)  # those that numpy writes
HEADER_READERS = {
    (1, 0): np.lib.format.read_array_header_1_0,
    (2, 0): np.lib.format.read_array_header_2_0,  # version 3 is only for records
}
ARRAY_KINDS = "biufcSU"  # each `dtype.kind` that is read: no Python objects, no records


@dataclass(frozen=True)
class ArrayHeader:
    """The header of a .npy: shape, data type, and whether the array is in Fortran order."""

    shape: tuple[int, ...]
    dtype: np.dtype
    fortran: bool

    @property
    def size(self) -> int:
        """Bytes of the array."""
        return math.prod(self.shape) * self.dtype.itemsize


def max_loaded_bytes(file_size: int) -> int:
    """Return how many bytes the arrays of a file of `file_size` bytes may take in memory."""
    return min(MAX_ARRAYS_BYTES, max(MIN_LOADABLE_BYTES, MAX_EXPANSION * file_size))


def read_npz(
    path: str | Path, what: str, *names: str, max_bytes: int = MAX_ARRAYS_BYTES
) -> dict[str, np.ndarray]:
    """Read arrays of an npz.

    Parameters
    ----------
    path : str or Path
    what : str
        What the file should be, with an article, for error messages: "a binding".
    *names : str
        Arrays to read; all of them by default.
    max_bytes : int
        Limit for the arrays together, in memory; `max_loaded_bytes` limits them as well.

    Returns
    -------
    dict of str to ndarray

    Raises
    ------
    InputError
        If the file cannot be read, lacks an array or exceeds a limit.
    """
    hint = "check that it is the right file"
    with (
        open_file(path, what, hint) as file,
        reading_errors(path, what, hint, (".npz",)),
        NpzFile(file) as arrays,
    ):
        return arrays.read(names or arrays.names, max_bytes)


def read_npy(
    path: str | Path, what: str, hint: str, max_bytes: int = MAX_ARRAYS_BYTES
) -> np.ndarray:
    """Read the array of a .npy file; raise InputError if it is not `what` (see `read_npz`)."""
    naming = reading_errors(path, what, hint, (".npy",))
    with open_file(path, what, hint) as file, naming:
        header = read_array_header(file)
        if header.size > os.fstat(file.fileno()).st_size - file.tell():
            raise ValueError("its header claims more than it holds")
        if header.size > max_bytes:
            raise ValueError(f"its array takes more than {format_bytes(max_bytes)}")
        file.seek(0)
        return _native(np.lib.format.read_array(file, allow_pickle=False))


class NpzFile:
    """Checked access to the arrays of an open npz file.

    Its methods raise ValueError, or whatever numpy, zipfile and zlib raise, for a broken file; use
    it within `reading_errors`.

    Attributes
    ----------
    names : tuple of str
        Names of the arrays.
    """

    def __init__(self, file: IO[bytes]):
        self._file_size = os.fstat(file.fileno()).st_size
        bounded: Any = _BoundedReads(file, MAX_READ_BYTES)
        self._arrays = np.lib.npyio.NpzFile(
            bounded, allow_pickle=False, max_header_size=MAX_ARRAY_HEADER_BYTES
        )
        assert self._arrays.zip is not None  # as long as it is open
        self._zip = self._arrays.zip
        self._entries = {
            entry.filename.removesuffix(".npy"): entry
            for entry in self._zip.infolist()
            if entry.filename.endswith(".npy")
        }
        self.names = tuple(self._entries)

    def __enter__(self) -> NpzFile:
        return self

    def __exit__(self, *error: object) -> None:
        self._arrays.close()

    @contextmanager
    def stream(self, name: str) -> Iterator[tuple[IO[bytes], ArrayHeader]]:
        """Open an array: yield its content, positioned at the first number, and its header."""
        if name not in self._entries:
            raise ValueError(f"it has no array {name}")
        entry = self._entries[name]
        if entry.compress_type not in ZIP_METHODS or entry.flag_bits & 1:
            raise ValueError(f"{name} is encrypted, or compressed by another method than deflate")
        possible = entry.compress_size
        if entry.compress_type == zipfile.ZIP_DEFLATED:
            possible = MAX_DEFLATE_RATIO * (entry.compress_size + 1)
        if entry.compress_size > self._file_size or entry.file_size > possible:
            raise ValueError(f"{name} claims more than the file holds")
        with self._zip.open(entry) as content:
            header = read_array_header(content)
            if header.size + content.tell() > entry.file_size:
                raise ValueError(f"the header of {name} claims more than it holds")
            yield content, header

    def header(self, name: str) -> ArrayHeader:
        """Return the checked header of an array."""
        with self.stream(name) as (_, header):
            return header

    def read(
        self, names: Iterable[str], max_bytes: int = MAX_ARRAYS_BYTES
    ) -> dict[str, np.ndarray]:
        """Read arrays by name; their sizes are added up before any of them is loaded."""
        names = list(names)
        total = sum(self.header(name).size for name in names)
        limit = min(max_bytes, max_loaded_bytes(self._file_size))
        if total > limit:
            raise ValueError(f"its arrays take {total} bytes, more than the allowed {limit}")
        return {name: _native(self._arrays[f"{name}.npy"]) for name in names}


class _BoundedReads:
    """A file that refuses to read more than `max_bytes` at once.

    zipfile and numpy allocate what a directory or header claims to be long before they read it.
    """

    def __init__(self, file: IO[bytes], max_bytes: int):
        self._file, self._max_bytes = file, max_bytes

    def read(self, size: int = -1) -> bytes:
        bounded = size if 0 <= size <= self._max_bytes else self._max_bytes + 1
        content = self._file.read(bounded)
        if len(content) > self._max_bytes:
            raise ValueError("its directory or the header of an array is too large")
        return content

    def __getattr__(self, name: str) -> Any:
        return getattr(self._file, name)


def read_array_header(content: IO[bytes]) -> ArrayHeader:
    """Read the header of a .npy stream, which is then positioned at the first number.

    Raises ValueError for a broken header and for arrays of objects, records or empty strings.
    """
    bounded: Any = _BoundedReads(content, MAX_ARRAY_HEADER_BYTES)
    try:
        read_header = HEADER_READERS[np.lib.format.read_magic(bounded)]
        shape, fortran, dtype = read_header(bounded, max_header_size=MAX_ARRAY_HEADER_BYTES)
    except Exception as error:  # numpy's messages contain the whole header
        raise ValueError("the header of an array is malformed or too long") from error
    if dtype.kind not in ARRAY_KINDS:
        raise ValueError(f"an array of {dtype}, which is not read")
    if not dtype.itemsize:  # any number of them would take no memory
        raise ValueError("an array of empty strings")
    if any(not 0 <= length < 1 << 62 for length in shape):
        raise ValueError("an array of impossible shape")
    return ArrayHeader(tuple(shape), dtype, fortran)


def _native(array: np.ndarray) -> np.ndarray:
    """The array in the machine's byte order; nonzero bytes of a boolean array become True."""
    if array.dtype.kind == "b":  # for numpy, bytes other than 0 and 1 are undefined behaviour
        return np.asarray(array.view(np.uint8) != 0)
    return array.astype(array.dtype.newbyteorder("="), copy=False)


def read_exactly(content: IO[bytes], size: int) -> np.ndarray:
    """Read the next bytes of a stream as (size,) uint8; raise ValueError if there are fewer."""
    raw = np.empty(size, np.uint8)
    done = 0
    while done < size:
        block = content.read(min(MAX_READ_BYTES, size - done))
        if not block:
            raise ValueError(f"truncated: {done} of {size} bytes of an array are there")
        raw[done : done + len(block)] = np.frombuffer(block, np.uint8)
        done += len(block)
    return raw
