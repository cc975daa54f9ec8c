"""The ffmpeg program: the one that imageio-ffmpeg contains, or one that the user names.

All of talkemo starts ffmpeg here, so that it always runs under limits, and reads one file only.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import tempfile
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import lru_cache
from typing import IO

from ..errors import InputError, TalkemoError
from ..files.limits import limit

# ffmpeg's demuxers of video and of audio. Others, such as those of playlists, open further files.
VIDEO_DEMUXERS = ("mov,mp4,m4a,3gp,3g2,mj2", "matroska,webm", "avi", "mpeg", "mpegvideo", "mpegts")
AUDIO_DEMUXERS = (*VIDEO_DEMUXERS, "aac", "asf", "wav", "flac", "ogg", "mp3")
MAX_FFMPEG_BYTES = limit("MAX_FFMPEG_BYTES", 1 << 32)  # address space of a process that reads
MAX_ENCODER_BYTES = 4 * MAX_FFMPEG_BYTES  # of one that encodes, with a thread for each core
# Largest size of a file that a reading process may write: its messages, and audio for a page.
MAX_WRITTEN_BYTES = 1 << 28
MAX_MESSAGE_BYTES = 1 << 20  # of a process's messages; the rest is ignored
MAX_RUN_S = 600.0  # a process that `run_ffmpeg` starts is ended after this time
MAX_STALL_S = 120.0  # a process is ended if it is waited for longer, see `Watchdog`
DECODER_THREADS = "4"  # each takes memory; with four, decoding outruns tracking
NO_MEMORY = (
    "cannot allocate memory",
    "could not allocate memory",
    "out of memory",
)  # in ffmpeg's messages
# Sets the limits of address space (KiB) and written files (blocks of 512 bytes), and becomes the
# program. Unlike a function between fork and exec, it is safe in a process with threads.
LAUNCHER = (
    'ulimit -v "$1" 2>/dev/null; [ "$2" = 0 ] || ulimit -f "$2" 2>/dev/null; shift 2; exec "$@"'
)


def ffmpeg_program() -> str:
    """Return the path of ffmpeg. Raises TalkemoError if there is none."""
    import imageio_ffmpeg

    hint = "pip install imageio-ffmpeg, or name a program by IMAGEIO_FFMPEG_EXE"
    try:
        program = imageio_ffmpeg.get_ffmpeg_exe()
    except RuntimeError:
        raise TalkemoError("no ffmpeg on this machine", hint) from None
    if shutil.which(program) is None:
        raise TalkemoError(
            f"{program}: no such program; ffmpeg is needed for video and some kinds of audio", hint
        )
    return program


def input_arguments(source: str, demuxers: tuple[str, ...]) -> list[str]:
    """Return the arguments that let ffmpeg read one file, with these demuxers only."""
    allowed = ["-protocol_whitelist", "file,pipe", "-format_whitelist", ",".join(demuxers)]
    return [*allowed, "-threads", DECODER_THREADS, "-i", f"file:{source}"]


def start_ffmpeg(
    arguments: Sequence[str],
    *,
    stdin: int = subprocess.DEVNULL,
    stdout: int = subprocess.DEVNULL,
    stderr: int | IO[bytes],
    descriptors: tuple[int, ...] = (),
    encodes: bool = False,
) -> subprocess.Popen[bytes]:
    """Start ffmpeg under limits of memory and, unless it `encodes`, of the files it writes.

    Parameters
    ----------
    arguments
        Its arguments; foreign files by `input_arguments`.
    stdin, stdout, stderr
        As of `subprocess.Popen`.
    descriptors
        Descriptors that it inherits.
    encodes
        Whether it encodes frames of talkemo's own. It then runs in a session of its own: Ctrl-C
        reaches this process only, which ends the encoder.

    Raises
    ------
    TalkemoError
        If there is no ffmpeg.
    """
    command = [ffmpeg_program(), "-hide_banner", *arguments]
    if os.name == "posix":
        memory = _not_above("RLIMIT_AS", MAX_ENCODER_BYTES if encodes else MAX_FFMPEG_BYTES)
        written = 0 if encodes else _not_above("RLIMIT_FSIZE", MAX_WRITTEN_BYTES)
        limits = [str(memory >> 10), str(written >> 9)]
        command = ["/bin/sh", "-c", LAUNCHER, "sh", *limits, *command]
    return subprocess.Popen(
        command,
        stdin=stdin,
        stdout=stdout,
        stderr=stderr,
        pass_fds=descriptors if os.name == "posix" else (),
        start_new_session=encodes,
    )


def _not_above(kind: str, size: int) -> int:
    """Return a limit, or that of this process if it is lower."""
    import resource

    present = resource.getrlimit(getattr(resource, kind))[0]
    return size if present == resource.RLIM_INFINITY else min(size, present)


def run_ffmpeg(arguments: Sequence[str]) -> tuple[int, str]:
    """Run ffmpeg to its end; return its exit status and the start of its messages.

    What it writes to standard output is read as messages too. A process that takes longer than
    MAX_RUN_S is ended.
    """
    with (
        tempfile.TemporaryFile() as log,
        start_ffmpeg(arguments, stdout=log.fileno(), stderr=log) as process,
    ):
        try:
            process.wait(MAX_RUN_S)
        except subprocess.TimeoutExpired:
            process.kill()
        log.seek(0)
        text = log.read(MAX_MESSAGE_BYTES).decode("utf-8", "replace")
        return process.wait(), text


class Watchdog:
    """Ends a process that makes no progress: if memory runs out, ffmpeg may hang forever.

    Attributes
    ----------
    ended : bool
        Whether the process was ended.
    """

    def __init__(self, process: subprocess.Popen[bytes], max_stall_s: float = MAX_STALL_S):
        self.ended = False
        self._process, self._max_stall_s = process, max_stall_s
        self._waiting_since: float | None = None
        self._closed = threading.Event()
        threading.Thread(target=self._watch, daemon=True).start()

    @contextmanager
    def waiting(self) -> Iterator[None]:
        """Measure the time of a block that waits for the process."""
        self._waiting_since = time.monotonic()
        try:
            yield
        finally:
            self._waiting_since = None

    def end(self) -> None:
        """End the process."""
        self.ended = True
        self._process.kill()

    def close(self) -> None:
        """Stop watching."""
        self._closed.set()

    def _watch(self) -> None:
        while not self._closed.wait(min(1.0, self._max_stall_s)):
            since = self._waiting_since
            if since is not None and time.monotonic() - since > self._max_stall_s:
                self.end()
                return


@lru_cache(maxsize=4)
def _passthrough(program: str) -> tuple[str, str]:
    """Return the option with which this version neither repeats nor drops frames."""
    version = re.search(r"version \D?(\d+)\.(\d+)", run_ffmpeg(["-version"])[1])
    is_old = version is not None and (int(version[1]), int(version[2])) < (5, 1)
    return ("-vsync" if is_old else "-fps_mode", "passthrough")


def passthrough_arguments() -> tuple[str, str]:
    """Return the arguments of an output whose frames are neither repeated nor dropped."""
    return _passthrough(ffmpeg_program())


def lacks_memory(log: str) -> bool:
    """Whether ffmpeg's messages say that it ran out of memory."""
    return any(phrase in log.lower() for phrase in NO_MEMORY)


def check_end(name: str, log: str, ended: bool = False) -> None:
    """Raise InputError if ffmpeg ran out of memory, or was ended by a `Watchdog`.

    Parameters
    ----------
    name
        Of the file that it read.
    log
        Its messages.
    ended
        Whether a watchdog ended it.
    """
    if lacks_memory(log):
        raise InputError(
            f"{name}: decoding it takes more than {MAX_FFMPEG_BYTES >> 20} MiB of memory",
            "scale it down, or raise the limit: TALKEMO_MAX_FFMPEG_BYTES",
        )
    if ended:
        raise InputError(f"{name}: decoding it does not go on", "write it again: ffmpeg -i OLD NEW")
