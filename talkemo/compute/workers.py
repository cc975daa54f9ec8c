"""Worker processes that end with this process, and workers on a Dask cluster."""

from __future__ import annotations

import gc
import multiprocessing
import os
import signal
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from functools import partial
from multiprocessing import get_context
from typing import Any

from ..errors import InputError, TalkemoError
from ..extras import install_command
from .signals import end_on_signals

FORGETTING_S = 1.0  # that a pool has to forget tasks
CLEANING_S = 5.0  # that a worker has to remove partial outputs
SCHEDULER_TIMEOUT = "10s"  # how long to wait for the scheduler of a cluster


class WorkerKilledError(TalkemoError):
    """A worker process was killed by the system, for example because memory ran out."""


def map_tasks(
    function: Callable[[Any], Any],
    tasks: Sequence[Any],
    jobs: int,
    scheduler: str | None = None,
    on_failure: Callable[[Any, TalkemoError], Any] | None = None,
) -> Iterator[Any]:
    """Yield `function(task)` for each task, computed in local processes or on a Dask cluster.

    Local results come in the order of the tasks, results of a cluster as they finish. The function
    should write large results to files; all machines of a cluster must see the same paths.

    Parameters
    ----------
    jobs : int
        Number of local processes; ignored with a scheduler.
    scheduler : str, optional
        Address of a cluster's scheduler, such as tcp://host:8786.
    on_failure : callable, optional
        Called with a task that failed on the cluster, or whose process was killed, and the error.
        What it returns is the task's result, and the other tasks go on; by default the error is
        raised.

    Raises
    ------
    InputError
        The scheduler does not answer.
    TalkemoError
        Dask is not installed, a task failed on the cluster, or a local process was killed.
    """
    if scheduler is not None:
        yield from _map_on_cluster(function, tasks, scheduler, on_failure)
        return
    run = partial(_in_worker, function)
    if on_failure is None:
        with _worker_pool(jobs) as pool:
            yield from pool.map(run, tasks)
    else:
        yield from _map_despite_kills(run, tasks, jobs, on_failure)


def _map_despite_kills(
    function: Callable[[Any], Any],
    tasks: Sequence[Any],
    jobs: int,
    on_failure: Callable[[Any, TalkemoError], Any],
) -> Iterator[Any]:
    """Yield results of local processes as `map_tasks`; a task whose process is killed has failed.

    If a process is killed, the unfinished tasks are started again in a single process, to find the
    one that was the cause.
    """
    waiting, processes = list(tasks), jobs
    while waiting:
        try:
            with _worker_pool(processes) as pool:
                for result in pool.map(function, waiting):
                    yield result
                    del waiting[0]
        except WorkerKilledError as error:
            if processes == 1:
                yield on_failure(waiting.pop(0), error)
                processes = jobs
            else:
                processes = 1


def _map_on_cluster(
    function: Callable[[Any], Any],
    tasks: Sequence[Any],
    scheduler: str,
    on_failure: Callable[[Any, TalkemoError], Any] | None,
) -> Iterator[Any]:
    """Yield results of a cluster as `map_tasks`."""
    try:
        from distributed import Client, as_completed
    except ImportError:
        hint = install_command("cluster")
        raise TalkemoError("no Dask installed, which a cluster needs", hint) from None
    try:
        client = Client(scheduler, timeout=SCHEDULER_TIMEOUT)
    except (OSError, ValueError, TypeError, RuntimeError) as error:  # the last two: TLS
        raise InputError(
            f"{scheduler}: no cluster answers ({type(error).__name__})",
            "name its scheduler, such as tcp://host:8786; tls:// needs certificates in Dask's settings",
        ) from None
    with client:
        futures = client.map(function, list(tasks), pure=False, retries=0)
        task_of = dict(zip((future.key for future in futures), tasks))
        try:
            for future in as_completed(futures):
                failure = future.exception()
                if failure is None:
                    yield future.result()
                    continue
                reason = f"{type(failure).__name__}: {failure}"
                problem = TalkemoError(
                    f"a worker of the cluster failed: {reason}"[:200],
                    "check that every machine has talkemo, its weights and the files; "
                    "finished tasks are kept",
                )
                if on_failure is None:
                    raise problem
                yield on_failure(task_of[future.key], problem)
        finally:
            client.cancel(futures)


@contextmanager
def _worker_pool(jobs: int) -> Iterator[ProcessPoolExecutor]:
    """Yield a pool of new processes, which end with this process even if it is killed.

    Raises WorkerKilledError if one of them is killed, for example because memory ran out.
    """
    pool = ProcessPoolExecutor(jobs, get_context("spawn"), _prepare_worker)
    try:
        yield pool
    except BaseException as error:
        _abandon(pool)
        if isinstance(error, BrokenProcessPool):
            raise WorkerKilledError(
                "a worker process was killed by the system",
                "run it again, with fewer --jobs if memory is short; finished tasks are kept",
            ) from None
        raise
    finally:
        pool.shutdown(cancel_futures=True)


def _abandon(pool: ProcessPoolExecutor) -> None:
    """End the processes of a pool, and give them time to remove their partial outputs."""
    processes = list((pool._processes or {}).values())
    manager: Any = pool._executor_manager_thread
    # The pool forgets the tasks that have not begun before its processes end: in Python 3.11 its
    # thread fails with a traceback when it reports an end to tasks that are cancelled already.
    pool.shutdown(wait=False, cancel_futures=True)
    deadline = time.monotonic() + FORGETTING_S
    while (
        manager is not None
        and manager.is_alive()
        and pool._cancel_pending_futures
        and time.monotonic() < deadline
    ):
        time.sleep(0.005)
    for process in processes:
        process.terminate()
    deadline = time.monotonic() + CLEANING_S
    for process in processes:
        process.join(max(0, deadline - time.monotonic()))
        if process.is_alive():
            process.kill()
    if manager is not None:
        manager.join()


def _prepare_worker() -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent handles Ctrl-C
    end_on_signals("SIGTERM", once=True)
    threading.Thread(target=_end_with_parent, daemon=True).start()


def _in_worker(function: Callable[[Any], Any], task: Any) -> Any:
    """Return the result of a task, or end this process if it shall end."""
    try:
        return function(task)
    except SystemExit:
        pass
    gc.collect()  # what the task was about to write is removed when nothing refers to it any more
    os._exit(1)  # the executor would take SystemExit for a result, and begin the next task


def _end_with_parent() -> None:
    """End this process when its parent ends; otherwise it would wait for tasks forever."""
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
        os.kill(os.getpid(), signal.SIGTERM)  # also wakes a main thread that waits for a task
        time.sleep(CLEANING_S)
        os._exit(1)
