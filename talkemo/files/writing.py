"""Files that appear whole or not at all, and the one boundary around reading: regular files only, sizes known before
anything is allocated, and every failure an InputError of one line that names the file.
"""

from __future__ import annotations

import hashlib
import os
import platform
import re
import shutil
import stat
import tempfile
import time
import weakref
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from ..errors import InputError
from ..files.reading import printable

LONGEST_NAME = 255  # bytes, what file systems allow
STALE = 3600.0  # s after which what a process that is gone has left half-written is removed


class Partial:
    """A file or folder beside its final name while it is written, made exclusively for this writer.

    path: where to write. `finish` gives it the final name, `discard` removes it; nothing else is ever touched. What is
    neither finished nor discarded, because making a writer failed or the process ends, is removed all the same; after
    a kill that nothing can catch, by a later Partial in the same folder.
    """

    def __init__(self, final: Path, folder: bool = False):
        self.final = final
        _sweep(final.parent)
        prefix, suffix = (
            f".talkemo-{os.getpid()}-{_host()}",
            final.suffix if len(final.suffix) < 16 else "",
        )
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


_PARTIAL_NAME = re.compile(r"\.talkemo-([1-9]\d{0,9})-([0-9a-f]{6})[a-z0-9_]{8}(\.[^.]{1,14})?")
_swept: set[str] = set()  # folders that this process has looked through


def _host() -> str:
    """What tells this machine from others that write to the same disk, six hexadecimal digits."""
    return hashlib.sha256(platform.node().encode("utf-8", "replace")).hexdigest()[:6]


def _sweep(folder: Path) -> None:
    """Remove partials in a folder that this user's processes on this machine, which are gone, left over an hour ago."""
    where = os.path.realpath(folder)
    if os.name != "posix" or where in _swept:
        return
    _swept.add(where)
    with suppress(OSError), os.scandir(where) as entries:
        for entry in entries:
            match = _PARTIAL_NAME.fullmatch(entry.name)
            if match is None or match[2] != _host() or not _is_gone(int(match[1])):
                continue
            with suppress(OSError):
                about = entry.stat(follow_symlinks=False)
                ours = about.st_uid == os.getuid() and (
                    stat.S_ISREG(about.st_mode) or stat.S_ISDIR(about.st_mode)
                )
                if ours and time.time() - about.st_mtime > STALE:
                    _remove(Path(entry.path))


def _is_gone(process: int) -> bool:
    """Whether there is no process of that number."""
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return True
    except (OSError, OverflowError):  # it is somebody else's
        return False
    return False


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
        raise InputError(
            f"{path}: cannot write this kind of file", f"choose an ending from {', '.join(endings)}"
        )
    check_folder(path)
    if len(os.fsencode(path.name)) > LONGEST_NAME:
        raise InputError(
            f"{path.name[:60]}…: a name of {len(path.name)} characters", "choose a shorter name"
        )
    if os.path.isdir(path):
        raise InputError(f"{path} is a folder", "choose the name of a file")
    if real_path(path) in [real_path(source) for source in inputs]:
        raise InputError(f"{path} is an input and would be overwritten", "choose another name")


def check_folder(path: Path) -> None:
    """Raise InputError unless the folder is there that a path is to be written into."""
    if not os.path.isdir(path.parent):
        raise InputError(
            f"{printable(path.parent)}: no such folder", "make it first, or choose another"
        )


def real_path(path: str | Path) -> str:
    """A path without links, as far as they can be followed; for comparing paths that need not be there."""
    try:
        return os.path.realpath(path)
    except (OSError, ValueError):  # a null character
        return os.path.abspath(path)
