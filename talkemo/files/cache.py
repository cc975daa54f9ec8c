"""Files of what a long computation has so far, with a digest of what it comes from: where it was ended, it goes on."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterable
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np

from ..errors import InputError
from .arrays import read_npz
from .writing import atomic_write

WINDOWS_PICTURES = "Thumbs.db"  # which Windows leaves in folders that somebody looks at


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


def folder_digest(folder: Path) -> str:
    """A digest of the names and contents of all files in a folder but hidden ones. Links are followed, each once."""
    files, seen = [], set()
    for place, folders, names in os.walk(folder, followlinks=True):
        real = os.path.realpath(place)
        if real in seen:  # a link to a folder above it
            folders.clear()
            continue
        seen.add(real)
        folders[:] = [name for name in folders if not name.startswith(".")]
        found = [
            Path(place) / name
            for name in names
            if not name.startswith(".") and name != WINDOWS_PICTURES
        ]
        files += [path for path in found if path.is_file()]
    named = sorted((path.relative_to(folder).as_posix(), path) for path in files)
    return digest(*((name, sha256(path)) for name, path in named))


@lru_cache(maxsize=64)
def corpus_digest(folder: Path) -> str:
    """`folder_digest` of a corpus, which does not change while a process runs: read once."""
    return folder_digest(folder)


def corpora_digests(data: Path, corpora: Iterable[str]) -> list[str]:
    """`corpus_digest` of those corpora that are there."""
    return [corpus_digest(data / corpus) for corpus in corpora if (data / corpus).is_dir()]


def read_cached(path: Path, origin: str) -> dict[str, np.ndarray]:
    """The arrays that `write_cached` wrote; none where the file is missing, damaged, or has another origin."""
    try:
        arrays = read_npz(path, "a file of arrays")
    except InputError:
        return {}
    return arrays if str(arrays.pop("origin", "")) == origin else {}


def write_cached(path: Path, origin: str, arrays: dict[str, Any]) -> None:
    """Write arrays to an npz, at once or not at all. origin: a digest of all that they come from"""
    path.parent.mkdir(parents=True, exist_ok=True)
    with atomic_write(path) as partial:
        np.savez(partial, origin=np.array(origin), **arrays)


def sha256(path: Path) -> str:
    """Hexadecimal SHA-256 digest of a file."""
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while block := file.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()
