"""Files of what a long computation has so far, with a digest of what it comes from: where it was ended, it goes on."""

from __future__ import annotations

import hashlib
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np

from ..errors import InputError
from ..files import atomic_write, read_npz
from ..weights import sha256


def digest(*parts: Any) -> str:
    """A digest of arrays, and of other values by their `repr`."""
    found = hashlib.sha256()
    for part in parts:
        if isinstance(part, np.ndarray):
            found.update(f"{part.dtype} {part.shape} ".encode())
            found.update(np.ascontiguousarray(part).tobytes())
        else:
            found.update(f"{part!r} ".encode())
    return found.hexdigest()


@lru_cache(maxsize=64)
def folder_digest(folder: Path) -> str:
    """A digest of the names and contents of all files in a folder; read once a process."""
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    return digest(*((path.relative_to(folder).as_posix(), sha256(path)) for path in files))


def read_kept(path: Path, origin: str) -> dict[str, np.ndarray]:
    """The arrays that `write_kept` wrote; none where the file is missing, damaged, or has another origin."""
    try:
        arrays = read_npz(path, "a file of arrays")
    except InputError:
        return {}
    return arrays if str(arrays.pop("origin", "")) == origin else {}


def write_kept(path: Path, origin: str, arrays: dict[str, Any]) -> None:
    """Write arrays to an npz, at once or not at all. origin: a digest of all that they come from"""
    path.parent.mkdir(parents=True, exist_ok=True)
    with atomic_write(path) as partial:
        np.savez(partial, origin=np.array(origin), **arrays)
