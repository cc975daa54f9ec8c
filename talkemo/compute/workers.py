"""Processes that work for this one and end with it, and other machines that work for it."""

from __future__ import annotations

import multiprocessing
import os
import signal
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from multiprocessing import get_context
from typing import Any

from ..errors import InputError, TalkemoError

ANSWERS_WITHIN = "10s"  # a cluster's scheduler


def map_tasks(
    function: Callable[[Any], Any], tasks: Sequence[Any], jobs: int, scheduler: str | None = None
) -> Iterator[Any]:
    """Do a task after the other, in processes of this machine or on a Dask cluster; yields what each returns when it is done.

    The function writes what is large to files, which all machines of a cluster have to see by the same names.
    scheduler: the address of a cluster's scheduler, such as tcp://host:8786; None for `jobs` processes here
    Raises InputError where no cluster answers, TalkemoError where it is not installed or a process is ended.
    """
    if scheduler is None:
        with worker_pool(jobs) as pool:
            yield from pool.map(function, tasks)
        return
    try:
        from distributed import Client, as_completed
    except ImportError:
        raise TalkemoError(
            "no Dask to reach a cluster by", "pip install 'talkemo[cluster]'"
        ) from None
    try:
        client = Client(scheduler, timeout=ANSWERS_WITHIN)
    except (OSError, ValueError) as error:
        raise InputError(
            f"{scheduler}: no cluster answers ({type(error).__name__})",
            "name its scheduler, such as tcp://host:8786",
        ) from None
    with client:
        futures = client.map(function, list(tasks), pure=False, retries=0)
        try:
            for future in as_completed(futures):
                failure = future.exception()
                if failure is not None:
                    raise TalkemoError(
                        f"a worker of the cluster failed: {type(failure).__name__}: {failure}"[
                            :200
                        ],
                        "are talkemo, its weights and the files on every machine? What is done is kept",
                    )
                yield future.result()
        finally:
            client.cancel(futures)


@contextmanager
def worker_pool(jobs: int) -> Iterator[ProcessPoolExecutor]:
    """A pool of fresh processes, which end when this one does, even by a signal that it cannot catch.

    Raises TalkemoError where one of them is ended from outside, as systems do that run out of memory.
    """
    pool = ProcessPoolExecutor(jobs, get_context("spawn"), _begin)
    try:
        yield pool
    except BaseException as error:
        for process in list(
            (pool._processes or {}).values()
        ):  # what they have begun is of no use any more
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
    signal.signal(
        signal.SIGINT, signal.SIG_IGN
    )  # of Ctrl-C the process that made the pool takes care
    threading.Thread(target=_end_with_parent, daemon=True).start()


def _end_with_parent() -> None:
    """Wait for the end of the parent, then end this process: it would wait for more work for ever."""
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)
