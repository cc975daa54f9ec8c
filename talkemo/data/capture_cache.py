"""Captures of corpora in the user's cache folder, for evaluations that name no folder for them."""

from __future__ import annotations

import os
from contextlib import suppress
from pathlib import Path

from ..face.canonical import Face
from ..files.cache import cache_folder, digest, remove_least_recent

MAX_CAPTURES_BYTES = 1 << 31  # total size of all cached captures
CACHED_CAPTURES = "[0-9a-f]*/*.npz"  # pattern of their files in the cache's folder


def captures_cache() -> Path:
    """Return the folder of all cached captures."""
    return cache_folder() / "captures"


def cached_captures_folder(data: Path, face: Face) -> Path:
    """Make and return the cache's folder for captures of the corpora in `data` with a face.

    Each file of captures states the corpus and the version of the fit that it comes from, so that
    stale ones are made again. Raises OSError if the folder cannot be made.
    """
    folder = captures_cache() / digest(os.path.realpath(data), face.fingerprint)[:16]
    folder.mkdir(parents=True, exist_ok=True)
    return folder


def mark_captures_used(folder: Path) -> None:
    """Remember that a folder's captures were used, and remove the least recently used ones."""
    for path in folder.glob("*.npz"):
        with suppress(OSError):
            os.utime(path)
    remove_least_recent(captures_cache().glob(CACHED_CAPTURES), MAX_CAPTURES_BYTES)
