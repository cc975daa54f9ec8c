"""numba's compiler, whose compiled code is stored where this user can write.

numba stores it beside the source, else in the user's cache folder. It fails if neither can be
written, as for a user without a home folder in another user's installation.
"""

from __future__ import annotations

import os
import tempfile
from pathlib import Path
from typing import Any

import numba
import platformdirs
from numba import njit

__all__ = ["njit", "store_compiled_code"]
_temporary_folders: list[tempfile.TemporaryDirectory[str]] = []  # removed when the process ends


def store_compiled_code() -> None:
    """Let numba store compiled code in a temporary folder if there is no other place.

    It has to be called before talkemo's or librosa's functions are compiled.
    """
    config: Any = numba.config
    sources = (Path(__file__).parent, Path(numba.__file__).parent)
    if config.CACHE_DIR or all(os.access(folder, os.W_OK) for folder in sources):
        return
    if _is_writable(Path(platformdirs.user_cache_dir("numba", appauthor=False))):
        return
    # A new folder for each process: numba executes what it reads there, so no other user may be
    # able to write to it.
    folder = tempfile.TemporaryDirectory(prefix="talkemo-")
    _temporary_folders.append(folder)
    config.CACHE_DIR = folder.name
    os.environ["NUMBA_CACHE_DIR"] = folder.name  # for worker processes


def _is_writable(folder: Path) -> bool:
    """Whether files can be made in a folder, which is made if it is missing."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            return True
    except OSError:
        return False


store_compiled_code()
