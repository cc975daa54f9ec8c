"""Fingerprints of files and arrays, and cached arrays that are read back only if up to date."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterable
from contextlib import suppress
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np

from ..errors import InputError
from .arrays import read_npz
from .writing import atomic_write

WINDOWS_THUMBNAILS = "Thumbs.db"  # Windows leaves this file in folders of images
FINGERPRINT_KEY = "origin"  # array of a cache file that holds its fingerprint


def cache_folder() -> Path:
    """Return `TALKEMO_CACHE`, or talkemo's folder in the user's cache folder."""
    from platformdirs import user_cache_dir

    return Path(os.environ.get("TALKEMO_CACHE") or user_cache_dir("talkemo", appauthor=False))


def remove_least_recent(paths: Iterable[Path], max_bytes: int) -> None:
    """Remove the least recently used files until their total size is at most `max_bytes`.

    The last one used is always kept. The time of use is the file's time of modification.
    """
    files = []
    for path in paths:
        with suppress(OSError):  # another process may have removed it
            status = path.stat()
            files.append((status.st_mtime, status.st_size, path))
    total = sum(size for _, size, _ in files)
    for _, size, path in sorted(files)[:-1]:
        if total <= max_bytes:
            break
        with suppress(OSError):
            path.unlink()
        total -= size


def digest(*values: Any) -> str:
    """Return a hexadecimal SHA-256 digest of arrays, and of other values by their `repr`."""
    result = hashlib.sha256()
    for value in values:
        if isinstance(value, np.ndarray):
            result.update(f"{value.dtype} {value.shape} ".encode())
            result.update(np.ascontiguousarray(value).tobytes())
        else:
            result.update(f"{value!r} ".encode())
    return result.hexdigest()


def sha256(path: Path) -> str:
    """Return the hexadecimal SHA-256 digest of a file."""
    result = hashlib.sha256()
    with path.open("rb") as file:
        while block := file.read(1 << 20):
            result.update(block)
    return result.hexdigest()


def folder_digest(folder: Path, without: tuple[str, ...] = ()) -> str:
    """Return a digest of the names and contents of all files in a folder.

    Hidden files and folders are ignored, and files directly in it whose names are in `without`.
    Links are followed; each folder is visited once.
    """
    files, visited = [], set()
    for parent, folders, names in os.walk(folder, followlinks=True):
        real = os.path.realpath(parent)
        if real in visited:  # a link to a folder above it
            folders.clear()
            continue
        visited.add(real)
        folders[:] = [name for name in folders if not name.startswith(".")]
        visible = [name for name in names if not name.startswith(".")]
        paths = [Path(parent) / name for name in visible if name != WINDOWS_THUMBNAILS]
        files += [path for path in paths if path.is_file()]
    named = sorted((path.relative_to(folder).as_posix(), path) for path in files)
    named = [(name, path) for name, path in named if name not in without]
    return digest(*((name, sha256(path)) for name, path in named))


@lru_cache(maxsize=64)
def corpus_digest(folder: Path) -> str:
    """Return `folder_digest` of a corpus, computed once per process: corpora do not change.

    Its manifest is left out, since its content is part of the settings of the stages.
    """
    return folder_digest(folder, without=("corpus.toml",))


def corpora_digests(data: Path, corpora: Iterable[str]) -> list[str]:
    """Return `corpus_digest` of each corpus that exists in the folder `data`."""
    return [corpus_digest(data / corpus) for corpus in corpora if (data / corpus).is_dir()]


def read_cached(path: Path, fingerprint: str) -> dict[str, np.ndarray]:
    """Read the arrays that `write_cached` wrote.

    Returns an empty dictionary if the file is missing, damaged or stale, that is, if it was written
    with another fingerprint.
    """
    try:
        arrays = read_npz(path, "a file of arrays")
    except InputError:
        return {}
    return arrays if str(arrays.pop(FINGERPRINT_KEY, "")) == fingerprint else {}


def write_cached(path: Path, fingerprint: str, arrays: dict[str, Any]) -> None:
    """Write arrays to an npz atomically, with the fingerprint of the inputs they derive from."""
    path.parent.mkdir(parents=True, exist_ok=True)
    content: dict[str, Any] = {FINGERPRINT_KEY: np.array(fingerprint), **arrays}
    with atomic_write(path) as partial:
        np.savez(partial, **content)
