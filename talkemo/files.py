"""Files that appear whole or not at all, and the one boundary around reading: regular files only, sizes known before
anything is allocated, and every failure an InputError of one line that names the file.
"""

from __future__ import annotations

import hashlib
import io
import json
import logging
import math
import os
import platform
import re
import shutil
import stat
import tempfile
import threading
import time
import warnings
import weakref
import zipfile
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

import numpy as np

from .errors import InputError, TalkemoError

LONGEST_NAME = 255  # bytes, what file systems allow
LONGEST_SHOWN = 200  # characters of a path, a reason or a line of a file that a message has
STALE = 3600.0  # s after which what a process that is gone has left half-written is removed

LARGEST_ARRAYS = 1 << 32  # bytes of the arrays of one file that are in memory together
ALWAYS_LOADED = 1 << 26  # bytes that arrays may always take, however small their file is
EXPANSION = 32  # times a file's size that its arrays may take beyond that: compressed zeros fill any memory
LARGEST_READ = 1 << 20  # bytes of a zip read at a time, its directory among them
LARGEST_ARRAY_HEADER = 10_000  # bytes, numpy's own limit
DEFLATE_RATIO = 1032  # to 1, which deflate cannot exceed
METHODS = (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED)  # what numpy writes
ARRAY_KINDS = "?biufcSU"  # of numpy's types; not O, Python objects, nor V, records
DEEPEST_JSON = 64  # objects and lists within each other


def available_cores() -> int:
    """Cores that this process may use, at least one."""
    return max(1, len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1)


# ------------------------------------------------------------------------------------------------------------- writing


class Partial:
    """A file or folder beside its final name while it is written, made exclusively for this writer.

    path: where to write. `finish` gives it the final name, `discard` removes it; nothing else is ever touched. What is
    neither finished nor discarded, because making a writer failed or the process ends, is removed all the same; after
    a kill that nothing can catch, by a later Partial in the same folder.
    """

    def __init__(self, final: Path, folder: bool = False):
        self.final = final
        _sweep(final.parent)
        prefix, suffix = f".talkemo-{os.getpid()}-{_host()}", final.suffix if len(final.suffix) < 16 else ""
        if folder:
            self.path = Path(tempfile.mkdtemp(suffix, prefix, final.parent))
        else:
            handle, name = tempfile.mkstemp(suffix, prefix, final.parent)
            os.close(handle)
            self.path = Path(name)
        self._remove = weakref.finalize(self, _remove, self.path)

    def finish(self) -> None:
        """Give the file its final name, in the place of a file or an empty folder of that name."""
        mask = os.umask(0)
        os.umask(mask)
        # Temporary files are their owner's alone; what a user asked for has the usual permissions.
        self.path.chmod((0o777 if self.path.is_dir() else 0o666) & ~mask)
        if self.path.is_dir() and self.final.is_dir():
            self.final.rmdir()
        os.replace(self.path, self.final)
        self._remove.detach()

    def discard(self) -> None:
        """Remove the file or folder, if it is still there."""
        self._remove()


def _remove(path: Path) -> None:
    """Remove a file or a folder with all that is in it, if it is there."""
    if path.is_dir():
        shutil.rmtree(path, ignore_errors=True)
    else:
        path.unlink(missing_ok=True)


_PARTIAL_NAME = re.compile(r"\.talkemo-([1-9]\d{0,9})-([0-9a-f]{6})[a-z0-9_]{8}(\.[^.]{1,14})?")
_swept: set[str] = set()  # folders that this process has looked through


def _host() -> str:
    """What tells this machine from others that write to the same disk, six hexadecimal digits."""
    return hashlib.sha256(platform.node().encode("utf-8", "replace")).hexdigest()[:6]


def _sweep(folder: Path) -> None:
    """Remove partials in a folder that this user's processes on this machine, which are gone, left over an hour ago."""
    where = os.path.realpath(folder)
    if os.name != "posix" or where in _swept:
        return
    _swept.add(where)
    with suppress(OSError), os.scandir(where) as entries:
        for entry in entries:
            match = _PARTIAL_NAME.fullmatch(entry.name)
            if match is None or match[2] != _host() or not _is_gone(int(match[1])):
                continue
            with suppress(OSError):
                about = entry.stat(follow_symlinks=False)
                ours = about.st_uid == os.getuid() and (stat.S_ISREG(about.st_mode) or stat.S_ISDIR(about.st_mode))
                if ours and time.time() - about.st_mtime > STALE:
                    _remove(Path(entry.path))


def _is_gone(process: int) -> bool:
    """Whether there is no process of that number."""
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return True
    except (OSError, OverflowError):  # it is somebody else's
        return False
    return False


@contextmanager
def atomic_write(path: str | Path) -> Iterator[Path]:
    """A path beside `path` to write to; it takes that name when the block ends well, and is removed when it does not."""
    path = Path(path)
    if path.is_dir():
        raise InputError(f"{path} is a folder", "choose the name of a file")
    partial = Partial(path)
    try:
        yield partial.path
        partial.finish()
    finally:
        partial.discard()


def check_output(path: Path, endings: tuple[str, ...], *inputs: str | Path) -> None:
    """Raise InputError unless a file may be written there: the ending, the folder, and none of the inputs lost."""
    if path.suffix.lower() not in endings:
        raise InputError(f"{path}: cannot write this kind of file", f"choose an ending from {', '.join(endings)}")
    check_folder(path)
    if len(os.fsencode(path.name)) > LONGEST_NAME:
        raise InputError(f"{path.name[:60]}…: a name of {len(path.name)} characters", "choose a shorter name")
    if os.path.isdir(path):
        raise InputError(f"{path} is a folder", "choose the name of a file")
    if real_path(path) in [real_path(source) for source in inputs]:
        raise InputError(f"{path} is an input and would be overwritten", "choose another name")


def check_folder(path: Path) -> None:
    """Raise InputError unless the folder is there that a path is to be written into."""
    if not os.path.isdir(path.parent):
        raise InputError(f"{shown(path.parent)}: no such folder", "make it first, or choose another")


def real_path(path: str | Path) -> str:
    """A path without links, as far as they can be followed; for comparing paths that need not be there."""
    try:
        return os.path.realpath(path)
    except (OSError, ValueError):  # a null character
        return os.path.abspath(path)


# ------------------------------------------------------------------------------------------------------- reading files


def shown(text: object, longest: int = LONGEST_SHOWN) -> str:
    """A path, a reason or a line of a file as a message may have it: on one line, printable, and not too long."""
    whole = "".join(c if c.isprintable() else "�" for c in str(text)[: longest + 1])
    return whole if len(whole) <= longest else f"{whole[: longest - 1]}…"


def open_file(path: str | Path, what: str, hint: str, largest: int | None = None) -> IO[bytes]:
    """A file opened for reading in binary. Only regular files are opened, and links to them.

    what: what it should be, such as "a timeline"; hint: of the error; largest: its size at most, in bytes
    Raises InputError for anything that is not there, cannot be opened, is no regular file or is too large.
    """
    noun = re.sub(r"^(an?|the) ", "", what)
    name = shown(path)
    try:
        mode = os.stat(path).st_mode
        if stat.S_ISDIR(mode):
            raise InputError(f"{name} is a folder, not {what}", hint)
        if stat.S_ISREG(mode):  # opening anything else may wait for ever or do something
            # Nor may it wait if the file was replaced meanwhile.
            flags = (
                os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_CLOEXEC", 0) | getattr(os, "O_BINARY", 0)
            )
            file = open(os.open(path, flags), "rb")  # noqa: SIM115 (the caller closes it)
            about = os.fstat(file.fileno())
            if stat.S_ISREG(about.st_mode):
                if largest is not None and about.st_size > largest:
                    file.close()
                    raise InputError(
                        f"{name}: too large for {what}, {about.st_size} bytes",
                        f"{hint}; at most {_size(largest)} are read",
                    )
                return file
            file.close()
    except (FileNotFoundError, ValueError) as error:  # ValueError: a null character in the name
        if isinstance(error, InputError):
            raise
        raise InputError(f"{name}: no such {noun}", "is the path right?") from None
    except OSError as error:
        raise InputError(f"{name}: {what} that cannot be opened ({_reason(error)})", hint) from None
    raise InputError(f"{name}: a pipe or device, not {what}", f"only regular files are read; {hint}")


def _size(count: int) -> str:
    """A number of bytes for people."""
    return f"{count >> 30} GiB" if count >= 1 << 30 else f"{count >> 20} MiB" if count >= 1 << 20 else f"{count} bytes"


def read_bytes(path: str | Path, what: str, hint: str, largest: int) -> bytes:
    """The content of a file, see `open_file`."""
    with readable(path, what, hint), open_file(path, what, hint, largest) as file:
        return file.read(os.fstat(file.fileno()).st_size)  # reading makes room for all that is asked for


def read_text(path: str | Path, what: str, hint: str, largest: int, errors: str = "replace") -> str:
    """The text of a file in UTF-8, see `open_file`. errors: "strict" refuses bytes that are none."""
    with readable(path, what, hint):
        return read_bytes(path, what, hint, largest).decode("utf-8", errors)


def _reason(error: BaseException) -> str:
    """Why reading failed, on one line."""
    if isinstance(error, MemoryError):
        return "it takes more memory than there is"
    if isinstance(error, RecursionError):
        return "too many levels within each other"
    if isinstance(error, OSError) and error.strerror:
        return error.strerror
    text = f"it has no {error.args[0]}" if isinstance(error, KeyError) and error.args else str(error)
    lines = [line for line in text.splitlines() if line.strip()]
    return shown(lines[0].strip() if lines else type(error).__name__)


@contextmanager
def readable(path: str | Path, what: str, hint: str) -> Iterator[None]:
    """Turn whatever reading a file raises in the block into an InputError: the file is not `what`.

    Whatever it is: numpy, zipfile, zlib, json and others raise a dozen kinds of exceptions for a broken file. What
    libraries say of it by warnings and logs is not shown.
    """
    try:
        with quiet_libraries():
            yield
    except TalkemoError:
        raise
    except Exception as error:
        raise InputError(f"{shown(path)}: not {what} ({_reason(error)})", hint) from None


@contextmanager
def quiet_libraries() -> Iterator[None]:
    """Keep the warnings that libraries give for broken files, and what they log, from being shown."""
    log, silent = logging.getLogger("trimesh"), logging.NullHandler()
    passes_on, log.propagate = log.propagate, False
    log.addHandler(silent)
    try:
        with warnings.catch_warnings(), np.errstate(all="ignore"):
            warnings.simplefilter("ignore")
            yield
    finally:
        log.removeHandler(silent)
        log.propagate = passes_on


_stderr_lock = threading.Lock()


@contextmanager
def quiet_stderr(needed: bool = True) -> Iterator[None]:
    """Keep what a library writes to standard error by itself from being shown; for moments, as all threads share it."""
    if not needed:
        yield
        return
    with _stderr_lock, open(os.devnull, "wb") as nothing:
        try:
            before = os.dup(2)
        except OSError:  # standard error is closed
            yield
            return
        try:
            os.dup2(nothing.fileno(), 2)
            yield
        finally:
            os.dup2(before, 2)
            os.close(before)


def parse_json(text: str | bytes) -> Any:
    """The value of a JSON text. Raises ValueError for NaN, infinity, and more than DEEPEST_JSON levels."""

    def finite(number: str) -> float:
        value = float(number)
        if not math.isfinite(value):
            raise ValueError(f"JSON with the number {number[:20]}")
        return value

    value = json.loads(text, parse_float=finite, parse_constant=finite)
    level = [value]
    for _ in range(DEEPEST_JSON):
        level = [
            part
            for item in level
            if isinstance(item, list | dict)
            for part in (item.values() if isinstance(item, dict) else item)
            if isinstance(part, list | dict)
        ]
        if not level:
            return value
    raise ValueError(f"JSON of more than {DEEPEST_JSON} levels")


def read_json_object(path: Path, what: str, hint: str, largest: int) -> dict[str, Any]:
    """The JSON object that a file of at most `largest` bytes holds. Raises InputError where the file is not `what`."""
    with readable(path, what, hint):
        found = parse_json(read_text(path, what, hint, largest))
    if not isinstance(found, dict):
        raise InputError(f"{shown(path)}: not {what} (it holds no JSON object)", hint)
    return found


# ------------------------------------------------------------------------------------------------------ reading arrays


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


def read_npz(path: str | Path, what: str, *names: str, largest: int = LARGEST_ARRAYS) -> dict[str, np.ndarray]:
    """The arrays `names` of an npz, or all of them. Raises InputError: the file is not `what`.

    largest: bytes that they may take together in memory; see `largest_loaded` for what else limits them
    """
    hint = "is it the right file?"
    with open_file(path, what, hint) as file, readable(path, what, hint), NpzFile(file) as arrays:
        return arrays.read(names or arrays.names, largest)


def read_npy(path: str | Path, what: str, hint: str, largest: int = LARGEST_ARRAYS) -> np.ndarray:
    """The array of a .npy. Raises InputError: the file is not `what`."""
    with open_file(path, what, hint) as file, readable(path, what, hint):
        header = read_array_header(file)
        if header.size > os.fstat(file.fileno()).st_size - file.tell():
            raise ValueError("its header claims more than it holds")
        if header.size > largest:
            raise ValueError(f"its array takes more than {_size(largest)}")
        return _read_array(file, header)


class NpzFile:
    """The arrays of an npz, by their names, in a file that is open. All its methods raise ValueError, or what zipfile
    and zlib raise, for what is wrong; see `readable`.

    names: of its arrays
    """

    def __init__(self, file: IO[bytes]):
        self._size = os.fstat(file.fileno()).st_size
        self._archive = zipfile.ZipFile(_SmallReads(io.FileIO(file.fileno(), closefd=False)))  # type: ignore[call-overload]
        self._entries = {i.filename[:-4]: i for i in self._archive.infolist() if i.filename.endswith(".npy")}
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
        possible = DEFLATE_RATIO * (entry.compress_size + 1) if entry.compress_type else entry.compress_size
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
        total, most = sum(self.header(name).size for name in names), min(largest, largest_loaded(self._size))
        if total > most:
            raise ValueError(f"its arrays take {total} bytes, more than the {most} that a file like this may")
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
