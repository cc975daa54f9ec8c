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

# All that numpy raises for a file that is not the npz it should be.
NOT_AN_NPZ = (OSError, ValueError, KeyError, TypeError, AttributeError, EOFError, zipfile.BadZipFile, zlib.error)


@contextmanager
def whole(path: str | Path) -> Iterator[Path]:
    """A path beside `path` to write to; it takes that name when the block ends well, and is removed when it does not."""
    path = Path(path)
    if path.is_dir():
        raise InputError(f"{path} is a folder")
    partial = path.with_name(f".{path.stem}.partial{path.suffix}")
    try:
        yield partial
        os.replace(partial, path)
    finally:
        partial.unlink(missing_ok=True)


def read_npz(path: str | Path, what: str, *names: str) -> dict[str, np.ndarray]:
    """The arrays `names` of an npz, or all of them. Raises InputError: the file is not `what`."""
    try:
        with np.load(path, allow_pickle=False) as file:
            return {name: file[name] for name in (names or file.files)}
    except NOT_AN_NPZ as error:
        reason = str(error).splitlines()[0] if str(error) else "unreadable"
        raise InputError(f"{path}: not {what} ({reason})") from None
