"""Files that appear whole or not at all, and npz files that are believed only after a look."""

from __future__ import annotations

import os
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np

from .errors import InputError

# All that numpy, zipfile and indexing raise for a file that is not the array file it should be.
NOT_AN_ARRAY_FILE = (
    OSError,
    ValueError,
    LookupError,
    TypeError,
    AttributeError,
    EOFError,
    zipfile.BadZipFile,
    zlib.error,
)


def partial_name(path: Path) -> Path:
    """Where a file is written until it is whole: beside its name, hidden, with the same ending."""
    return path.with_name(f".{path.stem}.partial{path.suffix}")


def check_output(path: Path, endings: tuple[str, ...], *inputs: str | Path) -> None:
    """Raise InputError unless a file may be written there: the ending, the folder, and none of the inputs lost."""
    if path.suffix.lower() not in endings:
        raise InputError(f"{path}: cannot write this kind of file", f"choose an ending from {', '.join(endings)}")
    if not path.parent.is_dir():
        raise InputError(f"{path.parent}: no such folder", "make it first, or choose another")
    if path.is_dir():
        raise InputError(f"{path} is a folder")
    if path.resolve() in [Path(source).resolve() for source in inputs]:
        raise InputError(f"{path} is an input and would be overwritten", "choose another name")


@contextmanager
def readable(path: str | Path, what: str, hint: str = "") -> Iterator[None]:
    """Turn whatever reading an array file raises in the block into an InputError: the file is not `what`."""
    try:
        yield
    except InputError:
        raise
    except NOT_AN_ARRAY_FILE as error:
        reason = str(error).splitlines()[0] if str(error) else "unreadable"
        raise InputError(f"{path}: not {what} ({reason})", hint) from None


@contextmanager
def whole(path: str | Path) -> Iterator[Path]:
    """A path beside `path` to write to; it takes that name when the block ends well, and is removed when it does not."""
    path = Path(path)
    if path.is_dir():
        raise InputError(f"{path} is a folder")
    partial = partial_name(path)
    try:
        yield partial
        os.replace(partial, path)
    finally:
        partial.unlink(missing_ok=True)


def read_npz(path: str | Path, what: str, *names: str) -> dict[str, np.ndarray]:
    """The arrays `names` of an npz, or all of them. Raises InputError: the file is not `what`."""
    with readable(path, what), np.load(path, allow_pickle=False) as file:
        return {name: file[name] for name in (names or file.files)}
