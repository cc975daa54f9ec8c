"""Programs that run in the background: started, looked at now and then, ended."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

KILL_AFTER_S = 5.0  # after it was asked to end
TAIL_BYTES = 1 << 14  # of its messages that are read


class Background:
    """Runs commands one after the other, until one fails. Nothing here waits.

    Parameters
    ----------
    commands : sequence of sequence of str
        Programs with their arguments.
    environment : mapping of str to str
    log : Path
        A file for what they print. A pipe that nobody reads would fill up, and reading one waits.

    Attributes
    ----------
    status : int or None
        None while a command runs; then the exit status of the last one.

    Raises
    ------
    OSError
        The first program cannot be started.
    """

    def __init__(
        self, commands: Sequence[Sequence[str]], environment: Mapping[str, str], log: Path
    ):
        self.waiting = list(commands)
        self.environment = dict(environment)
        self.started = time.monotonic()
        self.cancelled: float | None = None  # when
        self.status: int | None = None
        self.log = log
        log.write_bytes(b"")
        self._start()

    def _start(self) -> None:
        """Start the next command, in a group of its own, so that all its children can be ended."""
        group: dict[str, Any] = {"start_new_session": True}
        if sys.platform == "win32":
            flags = subprocess.CREATE_NEW_PROCESS_GROUP | subprocess.CREATE_NO_WINDOW
            group = {"creationflags": flags}
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(
                list(self.waiting.pop(0)),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                env=self.environment,
                **group,
            )

    def poll(self) -> bool:
        """Return whether all is over; start the next command where one has ended."""
        if self.status is not None:
            return True
        status = self.process.poll()
        if status is None:
            if self.cancelled and time.monotonic() - self.cancelled > KILL_AFTER_S:
                self.kill()
            return False
        if status or self.cancelled or not self.waiting:
            self.status = status
            return True
        try:
            self._start()
        except OSError as error:
            with self.log.open("ab") as log:
                log.write(f"{error}\n".encode())
            self.status = 1
            return True
        return False

    def cancel(self) -> None:
        """Ask the command to end; it is killed if it does not. Keep polling."""
        if self.cancelled is None:
            self.cancelled = time.monotonic()
            self._signal("SIGTERM")

    def kill(self) -> None:
        """End the command at once."""
        self.cancelled = self.cancelled or time.monotonic()
        self._signal("SIGKILL")

    def _signal(self, name: str) -> None:
        """Send a signal to the command and its children."""
        if self.process.poll() is not None:
            return
        with contextlib.suppress(OSError):
            if sys.platform == "win32":
                self.process.kill()  # its launcher ends the children
            else:
                os.killpg(self.process.pid, getattr(signal, name))

    def text(self) -> str:
        """Return the last of what the commands have printed."""
        with self.log.open("rb") as log:
            log.seek(max(0, os.fstat(log.fileno()).st_size - TAIL_BYTES))
            content = log.read()
        return content.decode("utf-8", "replace").replace("\r", "\n")

    @property
    def seconds(self) -> float:
        """How long it has run."""
        return time.monotonic() - self.started

    def wait(self) -> None:
        """Wait for the end; for scripts, where there is no window."""
        while not self.poll():
            time.sleep(0.05)
