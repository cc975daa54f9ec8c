"""Files that appear whole or not at all, and the one boundary around reading: regular files only, sizes known before
anything is allocated, and every failure an InputError of one line that names the file.
"""

from __future__ import annotations

import json
import logging
import math
import os
import re
import stat
import threading
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

import numpy as np

from ..errors import InputError, TalkemoError

LONGEST_SHOWN = 200  # characters of a path, a reason or a line of a file that a message has
DEEPEST_JSON = 64  # objects and lists within each other


def printable(text: object, longest: int = LONGEST_SHOWN) -> str:
    """A path, a reason or a line of a file as a message may have it: on one line, printable, and not too long."""
    whole = "".join(c if c.isprintable() else "�" for c in str(text)[: longest + 1])
    return whole if len(whole) <= longest else f"{whole[: longest - 1]}…"


def open_file(path: str | Path, what: str, hint: str, largest: int | None = None) -> IO[bytes]:
    """A file opened for reading in binary. Only regular files are opened, and links to them.

    what: what it should be, such as "a timeline"; hint: of the error; largest: its size at most, in bytes
    Raises InputError for anything that is not there, cannot be opened, is no regular file or is too large.
    """
    noun = re.sub(r"^(an?|the) ", "", what)
    name = printable(path)
    try:
        mode = os.stat(path).st_mode
        if stat.S_ISDIR(mode):
            raise InputError(f"{name} is a folder, not {what}", hint)
        if stat.S_ISREG(mode):  # opening anything else may wait for ever or do something
            # Nor may it wait if the file was replaced meanwhile.
            flags = (
                os.O_RDONLY
                | getattr(os, "O_NONBLOCK", 0)
                | getattr(os, "O_CLOEXEC", 0)
                | getattr(os, "O_BINARY", 0)
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
    raise InputError(
        f"{name}: a pipe or device, not {what}", f"only regular files are read; {hint}"
    )


def _size(count: int) -> str:
    """A number of bytes for people."""
    return (
        f"{count >> 30} GiB"
        if count >= 1 << 30
        else f"{count >> 20} MiB"
        if count >= 1 << 20
        else f"{count} bytes"
    )


def read_bytes(path: str | Path, what: str, hint: str, largest: int) -> bytes:
    """The content of a file, see `open_file`."""
    with reading_errors(path, what, hint), open_file(path, what, hint, largest) as file:
        return file.read(
            os.fstat(file.fileno()).st_size
        )  # reading makes room for all that is asked for


def read_text(path: str | Path, what: str, hint: str, largest: int, errors: str = "replace") -> str:
    """The text of a file in UTF-8, see `open_file`. errors: "strict" refuses bytes that are none."""
    with reading_errors(path, what, hint):
        return read_bytes(path, what, hint, largest).decode("utf-8", errors)


def _reason(error: BaseException) -> str:
    """Why reading failed, on one line."""
    if isinstance(error, MemoryError):
        return "it takes more memory than there is"
    if isinstance(error, RecursionError):
        return "too many levels within each other"
    if isinstance(error, OSError) and error.strerror:
        return error.strerror
    text = (
        f"it has no {error.args[0]}" if isinstance(error, KeyError) and error.args else str(error)
    )
    lines = [line for line in text.splitlines() if line.strip()]
    return printable(lines[0].strip() if lines else type(error).__name__)


@contextmanager
def reading_errors(path: str | Path, what: str, hint: str) -> Iterator[None]:
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
        raise InputError(f"{printable(path)}: not {what} ({_reason(error)})", hint) from None


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
    with reading_errors(path, what, hint):
        found = parse_json(read_text(path, what, hint, largest))
    if not isinstance(found, dict):
        raise InputError(f"{printable(path)}: not {what} (it holds no JSON object)", hint)
    return found
