"""Many recordings or videos: one after the other, in several processes, or on a Dask cluster.

One that fails does not stop the others, whatever the reason.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Protocol, TypeVar

from ..errors import InputError, TalkemoError, explain
from ..files.reading import printable
from ..files.writing import real_path
from ..options import with_keywords
from .batch_tasks import (
    AnimationTask,
    ReconstructionTask,
    binding_of_process,
    forget_models_and_bindings,
    models_of_process,
)
from .options import AnimateKeywords, AnimateOptions, PathLike
from .outputs import Progress, Result

if TYPE_CHECKING:
    from typing_extensions import Unpack

Checked = TypeVar("Checked")
# Called with the number of recordings done, a fraction of one included, their total, and a label.
BatchProgress = Callable[[float, int, str], None]


class Task(Protocol):
    """One recording or video of a batch, as it is sent to a process."""

    kind: ClassVar[str]  # what the source is called in JSON

    @property
    def source(self) -> Path:
        """The recording or video."""
        ...

    @property
    def outputs(self) -> list[Path]:
        """The files to be written."""
        ...

    @property
    def where(self) -> str:
        """Where the task is defined, for messages: a line of a manifest, or empty."""
        ...

    def run(self, progress: Progress | None = None) -> Result:
        """Do the work. Raises any exception that it meets."""
        ...

    def absolute(self) -> Task:
        """Return the task with absolute paths, for processes in another folder."""
        ...


@dataclass(frozen=True)
class Outcome:
    """The result of one recording or video, or the error and its hint."""

    source: Path
    output: Path  # the first of its outputs
    result: Result | None
    error: str = ""
    hint: str = ""

    @property
    def audio(self) -> Path:
        """The source, by its name in `animate_many`."""
        return self.source


AnimationOutcome = Outcome  # its older name


# ------------------------------------------------------------------------------------------ running


def run_tasks(
    tasks: Sequence[Task],
    *,
    processes: int = 1,
    scheduler: str | None = None,
    progress: BatchProgress | None = None,
    debug: bool = False,
) -> Iterator[Outcome]:
    """Do tasks and yield each outcome when it is known; a task that fails does not stop the others.

    Parameters
    ----------
    tasks : sequence of Task
    processes : int
        Number of processes on this machine; with one, the tasks are done in this process.
    scheduler : str, optional
        Address of a Dask cluster's scheduler, whose machines see the files under the same paths.
        Paths are made absolute: workers may have been started in another folder.
    progress : callable, optional
        See BatchProgress.
    debug : bool
        Whether unexpected exceptions in this process are raised again.
    """
    from ..compute.workers import map_tasks

    if not tasks:
        return
    if processes == 1 and scheduler is None:
        for number, task in enumerate(tasks):
            yield _run_here(task, number, len(tasks), progress, debug)
        return
    if scheduler is not None:
        tasks = [task.absolute() for task in tasks]
    outcomes = map_tasks(attempt, tasks, processes, scheduler, on_failure=_failed)
    for done, outcome in enumerate(outcomes, 1):
        if progress:
            progress(done, len(tasks), f"{done} of {len(tasks)}")
        yield outcome


def _run_here(
    task: Task, number: int, total: int, progress: BatchProgress | None, debug: bool
) -> Outcome:
    """Do a task in this process; the progress counts the fraction of it that is done."""
    label = f"{number + 1} of {total}: {printable(task.source.name, 40)}"

    def update(frames: int, count: int) -> None:
        if progress:
            progress(number + (frames / count if count else 0.0), total, label)

    update(0, 1)
    outcome = attempt(task, update, debug)
    update(1, 1)
    return outcome


def attempt(task: Task, progress: Progress | None = None, debug: bool = False) -> Outcome:
    """Do a task and report its failure instead of raising it.

    With `debug`, exceptions other than TalkemoError are raised again.
    """
    try:
        return Outcome(task.source, task.outputs[0], task.run(progress))
    except Exception as error:
        if debug and not isinstance(error, TalkemoError):
            raise
        return _failed(task, error)


def _failed(task: Task, error: Exception) -> Outcome:
    """The outcome of a task that failed; its message names the source."""
    message, hint = explain(error)
    if task.source.name not in message and printable(task.source) not in message:
        message = f"{printable(task.source)}: {message}"
    return Outcome(task.source, task.outputs[0], None, message, hint)


# ------------------------------------------------------------------------------------------- checks


def check_tasks(
    tasks: Sequence[Task],
    check_options: Callable[[Any], object],
    read: Iterable[object] = (),
) -> None:
    """Raise InputError, which names the task, for options or outputs that cannot be used.

    Parameters
    ----------
    tasks : sequence of Task
    check_options : callable
        Called with each task; raises InputError. Also checks the outputs, except against the
        inputs of the tasks.
    read : iterable
        What tasks read beside their sources; only paths count.
    """
    files = (value for value in read if isinstance(value, str | Path))
    sources = {real_path(path) for path in (*(task.source for task in tasks), *files)}
    first_of: dict[str, Task] = {}
    for task in tasks:
        with_place(task.where, partial(check_options, task))
        for path in task.outputs:
            name = real_path(path)
            if name in sources:
                raise _problem(
                    task, f"{printable(path)} is an input and would be overwritten", "rename one"
                )
            other = first_of.setdefault(name, task)
            if other is not task:
                if _place(other) == _place(task):
                    raise InputError(f"{_place(task)} is given twice", "leave one out")
                names = f"{_place(other)} and {_place(task)}"
                raise InputError(
                    f"{names} would both be written to {printable(path)}",
                    "rename one, or write them to different folders, one at a time",
                )


def with_place(where: str, check: Callable[[], Checked]) -> Checked:
    """Return what a check returns; its InputError names the place, such as a line of a manifest."""
    try:
        return check()
    except InputError as error:
        message = f"{where}: {error.message}" if where else error.message
        raise InputError(message, error.hint) from None


def _problem(task: Task, message: str, hint: str) -> InputError:
    return InputError(f"{task.where}: {message}" if task.where else message, hint)


def _place(task: Task) -> str:
    """The name of a task in messages."""
    return task.where or printable(task.source)


def check_animations(tasks: Sequence[AnimationTask]) -> None:
    """Check all but the audio of tasks with the same face and weights, and load what they need.

    Raises InputError for anything unusable.
    """
    from .acting import ActingPlan, is_auto
    from .outputs import output_paths

    first = tasks[0].options
    inputs = [tasks[0].face, *first.hint.files]

    def check(task: AnimationTask) -> None:
        read = [*inputs, task.options.timeline, task.options.voice]
        output_paths(task.outputs, task.options.export, read)
        ActingPlan.of(task.options)

    named = (value for task in tasks for value in (task.options.timeline, task.options.voice))
    check_tasks(tasks, check, named)
    forget_models_and_bindings()
    models = models_of_process(str(first.weights), first.device)
    for task in tasks:
        with_place(task.where, partial(models.talking.style, task.options.style))
        if is_auto(task.options):
            with_place(task.where, lambda: models.voice)
    binding_of_process(tasks[0].face, first.hint, first.cache, str(first.weights), first.device)


def check_reconstructions(tasks: Sequence[ReconstructionTask]) -> None:
    """Check all but the sources of tasks with the same options, and load what they need.

    Raises InputError for anything unusable, TalkemoError if a video needs what is not installed.
    """
    from ..capture.landmark_tracker import LandmarkTracker
    from ..capture.sources import is_video
    from .outputs import output_paths
    from .reconstruct import check_options, check_unit_of_target

    first = tasks[0]
    given = first.options
    named = (first.onto, given.model, given.audio, given.resting, *first.target.hint.files)
    inputs = [path for path in named if isinstance(path, str | Path)]
    if first.options.neutral is not None or first.options.preview is not None:
        raise InputError(
            "the face at rest and the preview are of one video", "leave --neutral and --preview out"
        )

    def check(task: ReconstructionTask) -> None:
        output_paths(task.outputs, task.export, inputs)

    check_tasks(tasks, check)
    check_options(first.options, first.source, first.onto, [])
    check_unit_of_target(first.options, first.onto, first.export)
    if any(is_video(task.source) for task in tasks):
        LandmarkTracker()
    forget_models_and_bindings()
    weights, device = str(first.runtime.weights), first.runtime.device
    models_of_process(weights, device).path("face")
    if first.onto is not None:
        target = first.target
        binding_of_process(first.onto, target.hint, target.cache, weights, device)


# ------------------------------------------------------------------------------------------- Python


def animate_many(
    face: PathLike,
    recordings: Sequence[tuple[Path, list[Path]]],
    options: AnimateOptions | None = None,
    *,
    jobs: int = 1,
    scheduler: str | None = None,
    **keywords: Unpack[AnimateKeywords],
) -> Iterator[Outcome]:
    """Animate recordings in several processes or on a cluster; yield each result when it is done.

    Face and models are loaded once per process. A recording that fails does not stop the others.

    Parameters
    ----------
    face : path
        A mesh file, or "-" for the canonical face.
    recordings : sequence of (path, list of paths)
        Audio files, each with its outputs.
    options, **keywords
        As in `animate`.
    jobs : int
        Number of processes on this machine.
    scheduler : str, optional
        Address of a Dask cluster's scheduler, whose machines see the files under the same paths.
    """
    options = with_keywords(options or AnimateOptions(), keywords)
    yield from run_tasks(
        [AnimationTask(str(face), audio, outputs, options) for audio, outputs in recordings],
        processes=jobs,
        scheduler=scheduler,
    )
