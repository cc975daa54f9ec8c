"""Files that appear whole or not at all, and npz files that are checked before they are believed."""

from __future__ import annotations

import os
import shutil
import tempfile
import weakref
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np

from .errors import InputError

LONGEST_NAME = 255  # bytes, what file systems allow

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


def available_cores() -> int:
    """Cores that this process may use, at least one."""
    return max(1, len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1)


class Partial:
    """A file or folder beside its final name while it is written, made exclusively for this writer.

    path: where to write. `finish` gives it the final name, `discard` removes it; nothing else is ever touched. What is
    neither finished nor discarded, because making a writer failed or the process ends, is removed all the same.
    """

    def __init__(self, final: Path, folder: bool = False):
        self.final = final
        prefix, suffix = f".talkemo-{os.getpid()}-", final.suffix if len(final.suffix) < 16 else ""
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
    if path.is_dir():
        raise InputError(f"{path} is a folder", "choose the name of a file")
    if path.resolve() in [Path(source).resolve() for source in inputs]:
        raise InputError(f"{path} is an input and would be overwritten", "choose another name")


def check_folder(path: Path) -> None:
    """Raise InputError unless the folder is there that a path is to be written into."""
    if not path.parent.is_dir():
        raise InputError(f"{path.parent}: no such folder", "make it first, or choose another")


@contextmanager
def readable(path: str | Path, what: str, hint: str) -> Iterator[None]:
    """Turn whatever reading an array file raises in the block into an InputError: the file is not `what`."""
    try:
        yield
    except InputError:
        raise
    except NOT_AN_ARRAY_FILE as error:
        reason = str(error).splitlines()[0] if str(error) else "unreadable"
        raise InputError(f"{path}: not {what} ({reason})", hint) from None


def read_npz(path: str | Path, what: str, *names: str) -> dict[str, np.ndarray]:
    """The arrays `names` of an npz, or all of them. Raises InputError: the file is not `what`."""
    # Opened here, for numpy leaves a file open that turns out not to be a zip.
    with (
        readable(path, what, "is it the right file?"),
        open(path, "rb") as handle,
        np.load(handle, allow_pickle=False) as file,
    ):
        return {name: file[name] for name in (names or file.files)}
