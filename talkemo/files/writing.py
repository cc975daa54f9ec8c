"""Files and folders that appear under their final names complete, or not at all."""

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
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from contextvars import ContextVar
from dataclasses import dataclass
from pathlib import Path

from ..errors import InputError, TalkemoError
from .reading import printable

MAX_NAME_BYTES = 255  # of a file's name, what file systems allow
MAX_SUFFIX_CHARACTERS = 15  # longer suffixes are left out of temporary names
ABANDONED_AFTER_S = 3600.0  # age at which partial output of a process that ended is removed


class PartialOutput:
    """A temporary file or folder beside its final name, created exclusively for one writer.

    `finish` gives it the final name and `discard` removes it. If neither is called, it is removed
    when the object is collected or the process ends; after SIGKILL, a later PartialOutput in the
    same folder removes it. Nothing else is ever touched.

    Parameters
    ----------
    final : Path
    folder : bool
    together_with : Path, optional
        The output that this one belongs to, within whose `all_or_none` it gets its name.

    Attributes
    ----------
    path : Path
        Where to write.
    final : Path
    """

    def __init__(self, final: Path, folder: bool = False, together_with: Path | None = None):
        self.final = final
        self._group_name = final if together_with is None else together_with
        _remove_abandoned(final.parent)
        prefix = f".talkemo-{os.getpid()}-{_host()}"
        suffix = final.suffix if len(final.suffix) <= MAX_SUFFIX_CHARACTERS else ""
        if folder:
            self.path = Path(tempfile.mkdtemp(suffix, prefix, final.parent))
            handle = _open_folder(self.path)
        else:
            handle, name = tempfile.mkstemp(suffix, prefix, final.parent)
            self.path = Path(name)
        self._remove = weakref.finalize(self, _remove, self.path)
        self._waits = False  # whether it is complete, but not renamed yet
        _set_usual_mode(handle, self.path, folder)

    def finish(self) -> None:
        """Give the file its final name, replacing a file or an empty folder of that name.

        Within `all_or_none` that happens at the end of its block. Raises TalkemoError if another
        program has put a link in its place.
        """
        group = _group.get()
        if group is not None and real_path(self._group_name) in group.names:
            self._waits = True
            group.complete.append(self)
            return
        if self.path.is_symlink():
            raise TalkemoError(
                f"{printable(self.final)}: replaced by a link while it was written",
                "write into a folder that no one else may change",
            )
        if self.path.is_dir() and self.final.is_dir():
            self.final.rmdir()
        os.replace(self.path, self.final)
        self._remove.detach()

    def discard(self) -> None:
        """Remove the file or folder, if it is still there and does not wait for its name."""
        if not self._waits:
            self._remove()

    def settle(self, keep: bool) -> None:
        """Give the waiting file its final name, or remove it."""
        self._waits = False
        if keep:
            self.finish()
        self.discard()


@dataclass(frozen=True)
class _Group:
    """Outputs of one run that get their final names together."""

    names: frozenset[str]  # the real paths of the outputs
    complete: list[PartialOutput]


_group: ContextVar[_Group | None] = ContextVar("_group", default=None)


@contextmanager
def all_or_none(outputs: Iterable[str | Path]) -> Iterator[None]:
    """Give outputs that are completed in the block their final names at its end.

    If the block raises, for example because the disk is full, none of them appears. Blocks inside
    another have no effect on outputs of the outer one.
    """
    outer = _group.get()
    names = frozenset(real_path(output) for output in outputs)
    if outer is not None and names <= outer.names:
        yield
        return
    group = _Group(names, [])
    token = _group.set(group)
    done = False
    try:
        yield
        done = True
    finally:
        _group.reset(token)
        # Folders first: a folder of that name may have been filled meanwhile.
        waiting = sorted(group.complete, key=lambda partial: partial.path.is_dir())
        try:
            while waiting:
                waiting[-1].settle(keep=done)
                waiting.pop()
        finally:
            for partial in waiting:
                partial.settle(keep=False)


def _open_folder(path: Path) -> int | None:
    """Return a descriptor of a folder that is no link, None where the system has none."""
    if os.name != "posix":
        return None
    return os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)


def _set_usual_mode(handle: int | None, path: Path, folder: bool) -> None:
    """Give a temporary file or folder the usual permissions, and close its descriptor.

    It is created for its owner only. The mode is set on the descriptor: in a folder that others may
    change, its name could have become a link to another file.
    """
    mask = os.umask(0)
    os.umask(mask)
    mode = (0o777 if folder else 0o666) & ~mask
    try:
        if handle is not None and hasattr(os, "fchmod"):
            if os.fstat(handle).st_uid == os.geteuid():
                os.fchmod(handle, mode)
        else:
            path.chmod(mode)
    finally:
        if handle is not None:
            os.close(handle)


def _remove(path: Path) -> None:
    """Remove a file, or a folder with its contents, if it exists."""
    if path.is_dir():
        shutil.rmtree(path, ignore_errors=True)
    else:
        path.unlink(missing_ok=True)


_PARTIAL_NAME = re.compile(r"\.talkemo-([1-9]\d{0,9})-([0-9a-f]{6})[a-z0-9_]{8}(\.[^.]{1,14})?")
_searched: set[str] = set()  # folders in which this process has removed abandoned output


def _host() -> str:
    """Six hexadecimal digits that identify this machine among others that share a disk."""
    return hashlib.sha256(platform.node().encode("utf-8", "replace")).hexdigest()[:6]


def _remove_abandoned(folder: Path) -> None:
    """Remove partial output that ended processes of this user on this machine left in a folder."""
    real = os.path.realpath(folder)
    if os.name != "posix" or real in _searched:
        return
    _searched.add(real)
    with suppress(OSError), os.scandir(real) as entries:
        for entry in entries:
            match = _PARTIAL_NAME.fullmatch(entry.name)
            if match is None or match[2] != _host() or not _has_ended(int(match[1])):
                continue
            with suppress(OSError):
                status = entry.stat(follow_symlinks=False)
                is_link = not (stat.S_ISREG(status.st_mode) or stat.S_ISDIR(status.st_mode))
                if status.st_uid != os.getuid() or is_link:
                    continue
                if time.time() - status.st_mtime > ABANDONED_AFTER_S:
                    _remove(Path(entry.path))


def _has_ended(process_id: int) -> bool:
    """Whether no process has this id."""
    try:
        os.kill(process_id, 0)
    except ProcessLookupError:
        return True
    except (OSError, OverflowError):  # a process of another user
        return False
    return False


@contextmanager
def atomic_write(path: str | Path) -> Iterator[Path]:
    """Yield a temporary path to write to; it becomes `path` unless the block raises."""
    path = Path(path)
    if path.is_dir():
        raise InputError(f"{path} is a folder", "choose the name of a file")
    partial = PartialOutput(path)
    try:
        yield partial.path
        partial.finish()
    except OSError as error:  # such as a full disk, whose error names no file
        if error.filename is None:
            error.filename = str(path)
        raise
    finally:
        partial.discard()


def check_output(path: Path, endings: tuple[str, ...], *inputs: str | Path) -> None:
    """Raise InputError unless a file can be written to `path` without overwriting an input.

    Parameters
    ----------
    path : Path
    endings : tuple of str
        Allowed endings of the name, such as ".png".
    *inputs : str or Path
        Files that must not be overwritten.
    """
    if path.suffix.lower() not in endings:
        raise InputError(
            f"{path}: cannot write this kind of file", f"choose an ending from {', '.join(endings)}"
        )
    check_folder(path)
    if len(os.fsencode(path.name)) > MAX_NAME_BYTES:
        raise InputError(
            f"{path.name[:60]}…: a name of {len(path.name)} characters", "choose a shorter name"
        )
    if os.path.isdir(path):
        raise InputError(f"{path} is a folder", "choose the name of a file")
    if real_path(path) in [real_path(source) for source in inputs]:
        raise InputError(f"{path} is an input and would be overwritten", "choose another name")


def check_folder(path: Path) -> None:
    """Raise InputError unless the folder that a path lies in exists."""
    if not os.path.isdir(path.parent):
        raise InputError(
            f"{printable(path.parent)}: no such folder", "make it first, or choose another"
        )


def real_path(path: str | Path) -> str:
    """Return a path with its links resolved as far as possible; it need not exist."""
    try:
        return os.path.realpath(path)
    except (OSError, ValueError):  # a null character
        return os.path.abspath(path)
