"""Opening and reading files of unknown origin.

Only regular files are opened, sizes are known before memory is allocated, and every failure is an
InputError of one line that names the file.
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

from ..errors import InputError, TalkemoError
from .content import START_BYTES, other_content
from .limits import limit

MAX_SHOWN_CHARACTERS = 200  # of a path, a reason or a line of a file in a message
MAX_JSON_DEPTH = 64  # nested objects and lists
MAX_JSON_VALUES = limit("MAX_JSON_VALUES", 2_000_000)  # of a JSON text that is parsed at once
MAX_JSON_TEXT_BYTES = 1 << 28  # of such a text
BYTE_ORDER_MARK = "\ufeff"
CONTENT_HINT = "name another file, or make this one again"

# Opening must not wait even if the file was replaced by a pipe after it was checked.
OPEN_FLAGS = os.O_RDONLY
for _flag in ("O_NONBLOCK", "O_CLOEXEC", "O_BINARY"):
    OPEN_FLAGS |= getattr(os, _flag, 0)


def printable(text: object, max_characters: int = MAX_SHOWN_CHARACTERS) -> str:
    """Return a text for use in a message: on one line, printable, and shortened."""
    shown = "".join(c if c.isprintable() else "�" for c in str(text)[: max_characters + 1])
    return shown if len(shown) <= max_characters else f"{shown[: max_characters - 1]}…"


def format_bytes(count: int) -> str:
    """Return a number of bytes in whole GiB, MiB or bytes."""
    if count >= 1 << 30:
        return f"{count >> 30} GiB"
    if count >= 1 << 20:
        return f"{count >> 20} MiB"
    return f"{count} bytes"


def open_file(path: str | Path, what: str, hint: str, max_bytes: int | None = None) -> IO[bytes]:
    """Open a regular file, or a link to one, for reading in binary.

    Parameters
    ----------
    path : str or Path
    what : str
        What the file should be, with an article, for error messages: "a timeline".
    hint : str
        Hint of the errors.
    max_bytes : int, optional
        Largest size of the file.

    Raises
    ------
    InputError
        If the file does not exist, cannot be opened, is not a regular file, or is too large.
    """
    name = printable(path)
    try:
        mode = os.stat(path).st_mode
        if stat.S_ISDIR(mode):
            raise InputError(f"{name} is a folder, not {what}", hint)
        if stat.S_ISREG(mode):  # opening anything else could block or have side effects
            file = open(os.open(path, OPEN_FLAGS), "rb")  # noqa: SIM115 (the caller closes it)
            status = os.fstat(file.fileno())
            regular = stat.S_ISREG(status.st_mode)
            if regular and (max_bytes is None or status.st_size <= max_bytes):
                return file
            file.close()
            if regular and max_bytes is not None:
                raise InputError(
                    f"{name}: too large for {what}, {status.st_size} bytes",
                    f"{hint}; at most {format_bytes(max_bytes)} are read",
                )
    except InputError:
        raise
    except (FileNotFoundError, ValueError):  # ValueError: a null character in the name
        noun = re.sub(r"^(an?|the) ", "", what)
        raise InputError(f"{name}: no such {noun}", "check the path") from None
    except OSError as error:
        raise InputError(f"{name}: {what} that cannot be opened ({_reason(error)})", hint) from None
    raise InputError(
        f"{name}: a pipe or device, not {what}", f"only regular files are read; {hint}"
    )


def read_bytes(path: str | Path, what: str, hint: str, max_bytes: int) -> bytes:
    """Return the content of a file; see `open_file`."""
    with reading_errors(path, what, hint), open_file(path, what, hint, max_bytes) as file:
        return file.read(os.fstat(file.fileno()).st_size)  # even if the file grows meanwhile


def read_text(
    path: str | Path, what: str, hint: str, max_bytes: int, errors: str = "replace"
) -> str:
    """Return the text of a UTF-8 file; see `open_file`. `errors` is that of `bytes.decode`.

    A byte-order mark, which programs on Windows write, is not part of the text.
    """
    with reading_errors(path, what, hint, endings=()):
        return read_bytes(path, what, hint, max_bytes).decode("utf-8-sig", errors)


def finite_number(number: str) -> float:
    """Return a number of a JSON text; raise ValueError for NaN and infinity."""
    value = float(number)
    if not math.isfinite(value):
        raise ValueError(f"JSON with the number {number[:20]}")
    return value


def parse_json(text: str | bytes) -> Any:
    """Parse JSON, with or without a byte-order mark.

    Raises ValueError for NaN, infinity, and more than MAX_JSON_VALUES values, MAX_JSON_DEPTH levels
    or MAX_JSON_TEXT_BYTES of text.
    """
    if len(text) > MAX_JSON_TEXT_BYTES:
        raise ValueError(f"JSON of more than {format_bytes(MAX_JSON_TEXT_BYTES)}")
    # Each value is preceded by one of these; counting takes no memory.
    marks: Any = (",", "[", "{") if isinstance(text, str) else (b",", b"[", b"{")
    if sum(text.count(mark) for mark in marks) > MAX_JSON_VALUES:
        raise ValueError(f"JSON of more than {MAX_JSON_VALUES} values")
    if isinstance(text, str):
        text = text.removeprefix(BYTE_ORDER_MARK)
    value = json.loads(text, parse_float=finite_number, parse_constant=finite_number)
    check_json_depth(value)
    return value


def check_json_depth(value: Any) -> None:
    """Raise ValueError for objects and lists in more than MAX_JSON_DEPTH levels."""
    level = [value]
    for _ in range(MAX_JSON_DEPTH):
        children: list[Any] = []
        for item in level:
            if isinstance(item, dict):
                children += item.values()
            elif isinstance(item, list):
                children += item
        level = [child for child in children if isinstance(child, list | dict)]
        if not level:
            return
    raise ValueError(f"JSON of more than {MAX_JSON_DEPTH} levels")


def read_json_object(path: Path, what: str, hint: str, max_bytes: int) -> dict[str, Any]:
    """Return the JSON object in a file; raise InputError if the file is not `what`."""
    with reading_errors(path, what, hint):
        value = parse_json(read_text(path, what, hint, max_bytes))
    if not isinstance(value, dict):
        raise InputError(f"{printable(path)}: not {what} (it holds no JSON object)", hint)
    return value


def _reason(error: BaseException) -> str:
    """Why reading failed, on one line."""
    if isinstance(error, MemoryError):
        return "it takes more memory than is available"
    if isinstance(error, RecursionError):
        return "it is nested too deeply"
    if isinstance(error, OSError) and error.strerror:
        return error.strerror
    text = str(error)
    if isinstance(error, KeyError) and error.args:
        text = f"it has no {error.args[0]}"
    lines = [line for line in text.splitlines() if line.strip()]
    return printable(lines[0].strip() if lines else type(error).__name__)


@contextmanager
def reading_errors(
    path: str | Path, what: str, hint: str, endings: tuple[str, ...] | None = None
) -> Iterator[None]:
    """Turn any exception raised while reading a file into an InputError: the file is not `what`.

    numpy, zipfile, zlib, json and others raise a dozen kinds of exceptions for broken files; their
    warnings and log messages about them are suppressed. `endings` as in `naming_content`.
    """
    with naming_content(path, what, hint, endings):
        try:
            with quiet_libraries():
                yield
        except TalkemoError:
            raise
        except Exception as error:
            raise InputError(f"{printable(path)}: not {what} ({_reason(error)})", hint) from None


@contextmanager
def naming_content(
    path: str | Path,
    what: str,
    hint: str,
    endings: tuple[str, ...] | None = None,
    name: str = "",
) -> Iterator[None]:
    """Replace an InputError about a file that holds something else, or nothing, by one that says so.

    `hint` says what is read. `endings` are those of the kinds of files that it may be; by default
    that of its name. `name` is the file's in messages, by default its path.
    """
    try:
        yield
    except InputError:
        content = content_of(path, endings)
        if not content:
            raise
        shown = name or printable(path)
        again = CONTENT_HINT if shown == printable(path) else ""  # standard input is no file
        accepted = hint if any(word in hint for word in ("read", "name ", "give ")) else ""
        raise InputError(
            f"{shown}: not {what}, {content}", "; ".join(filter(None, (again, accepted)))
        ) from None


def content_of(path: str | Path, endings: tuple[str, ...] | None) -> str:
    """Return `other_content` of a file; an empty text if it cannot be opened."""
    try:
        with open_file(path, "a file", "") as file:
            return other_content(file.read(START_BYTES), path, endings)
    except (TalkemoError, OSError):
        return ""


@contextmanager
def quiet_libraries() -> Iterator[None]:
    """Suppress warnings of libraries and what trimesh logs."""
    import numpy as np

    log, silent = logging.getLogger("trimesh"), logging.NullHandler()
    propagate, log.propagate = log.propagate, False
    log.addHandler(silent)
    try:
        with warnings.catch_warnings(), np.errstate(all="ignore"):
            warnings.simplefilter("ignore")
            yield
    finally:
        log.removeHandler(silent)
        log.propagate = propagate


_stderr_lock = threading.Lock()


@contextmanager
def quiet_stderr(needed: bool = True) -> Iterator[None]:
    """Suppress what C libraries write to standard error, of all threads: keep the block short."""
    if not needed:
        yield
        return
    with _stderr_lock, open(os.devnull, "wb") as devnull:
        try:
            stderr = os.dup(2)
        except OSError:  # standard error is closed
            yield
            return
        try:
            os.dup2(devnull.fileno(), 2)
            yield
        finally:
            os.dup2(stderr, 2)
            os.close(stderr)
