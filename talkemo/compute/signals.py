"""Signals that end a process as an exception does, so that partial outputs are removed."""

from __future__ import annotations

import signal
import sys
import threading
from functools import partial
from types import FrameType

RETRY_SIGNAL_S = 0.05  # after which a signal that came during an import is raised again


def end_on_signals(*names: str, once: bool = False) -> None:
    """Let signals, such as SIGTERM, raise SystemExit, and SIGINT raise KeyboardInterrupt.

    A signal that is ignored, as SIGHUP is by nohup, stays ignored. With `once`, the same signal does
    nothing when it comes again, so that it does not end the removal of partial outputs.
    """
    for name in names:
        number = getattr(signal, name, None)
        if number is not None and signal.getsignal(number) is not signal.SIG_IGN:
            signal.signal(number, partial(_end, once))


def _end(once: bool, number: int, frame: FrameType | None) -> None:
    """End the process because of a signal, as soon as no module is being imported.

    An exception within the import of an extension module passes through its C++ code, which would
    abort the process.
    """
    importing = frame
    while importing is not None:
        if importing.f_code.co_filename.startswith("<frozen importlib"):
            threading.Timer(RETRY_SIGNAL_S, signal.raise_signal, (number,)).start()
            return
        importing = importing.f_back
    if once:
        signal.signal(number, signal.SIG_IGN)
    if number == signal.SIGINT:
        raise KeyboardInterrupt
    sys.exit(128 + number)
