"""Processes that work for this one and end with it."""

from __future__ import annotations

import multiprocessing
import os
import signal
import threading
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from multiprocessing import get_context

from ..errors import TalkemoError


@contextmanager
def worker_pool(jobs: int) -> Iterator[ProcessPoolExecutor]:
    """A pool of fresh processes, which end when this one does, even by a signal that it cannot catch.

    Raises TalkemoError where one of them is ended from outside, as systems do that run out of memory.
    """
    pool = ProcessPoolExecutor(jobs, get_context("spawn"), _begin)
    try:
        yield pool
    except BaseException as error:
        for process in list((pool._processes or {}).values()):  # what they have begun is of no use any more
            process.terminate()
        if isinstance(error, BrokenProcessPool):
            raise TalkemoError(
                "a process that computed was ended by the system",
                "run it again, with fewer --jobs if memory is short: what is done is kept",
            ) from None
        raise
    finally:
        pool.shutdown(cancel_futures=True)


def _begin() -> None:
    """Prepare a process of the pool."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # of Ctrl-C the process that made the pool takes care
    threading.Thread(target=_end_with_parent, daemon=True).start()


def _end_with_parent() -> None:
    """Wait for the end of the parent, then end this process: it would wait for more work for ever."""
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)
