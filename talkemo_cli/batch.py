"""Batches on the command line: their outputs, progress, a line for each recording, and a summary."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

from talkemo import InputError, TalkemoError
from talkemo.files.reading import printable
from talkemo.formats.registry import OUTPUT_ENDINGS
from talkemo.pipelines.options import BatchOptions

from .console import animation_data, console

if TYPE_CHECKING:
    from talkemo.pipelines.batch import Outcome, Task

FORMAT_NAMES = tuple(ending.lstrip(".") for ending in OUTPUT_ENDINGS)
MAX_NAMES_IN_SUMMARY = 5


def output_folder(outputs: list[Path], formats: list[str]) -> Path:
    """Return the folder that a batch is written to. Raises InputError for files and formats."""
    for name in formats:
        if name not in FORMAT_NAMES:
            raise InputError(f"unknown format in {', '.join(formats)}", _choose_format())
    if len(outputs) > 1 or (outputs and outputs[0].suffix and not outputs[0].is_dir()):
        raise InputError(
            "many recordings go into one folder",
            "name it with -o, and the kinds of files with --format",
        )
    return outputs[0] if outputs else Path()


def _choose_format() -> str:
    return f"choose from {', '.join(FORMAT_NAMES)}"


def is_done(batch: BatchOptions, outputs: Sequence[str | Path]) -> bool:
    """Return whether the outputs of a single recording exist and --resume keeps them.

    Raises InputError for options of batches with a single recording.
    """
    check_one(batch)
    if not (batch.resume and _exist(outputs)):
        return False
    paths = [str(path) for path in outputs]
    console.message("skipped: its outputs exist")
    console.result({"outputs": paths, "skipped": True}, [])
    return True


def check_one(batch: BatchOptions) -> None:
    """Raise InputError for options of batches with a single recording."""
    if batch.jobs > 1 or batch.scheduler is not None:
        raise InputError(
            "--jobs and --scheduler are for many recordings",
            "leave them out, or name more recordings",
        )


def run_batch(
    tasks: Sequence[Task],
    batch: BatchOptions,
    folder: Path,
    check: Callable[[], None],
    about: dict[str, Any] | None = None,
    remark: Callable[[Outcome], None] | None = None,
) -> None:
    """Do tasks and report each; go on after one that fails.

    Parameters
    ----------
    tasks : sequence of Task
    batch : BatchOptions
    folder : Path
        Made if it is missing, and removed again if it stays empty.
    check : callable
        Called before any work; raises InputError for anything unusable.
    about : dict, optional
        Further values of the JSON object.
    remark : callable, optional
        Called with each outcome after it was printed.

    Raises
    ------
    TalkemoError
        At the end, if any task has failed.
    """
    from talkemo.pipelines.batch import run_tasks

    with _folder(folder):
        done = [batch.resume and _exist(task.outputs) for task in tasks]
        todo = [task for task, is_done in zip(tasks, done) if not is_done]
        report = _Report(tasks, [task for task, is_done in zip(tasks, done) if is_done], about)
        if todo:
            check()
        with console.progress("starting") as update:
            outcomes = run_tasks(
                todo,
                processes=batch.jobs,
                scheduler=batch.scheduler,
                progress=update,
                debug=console.debug,
            )
            for outcome in outcomes:
                report.add(outcome)
                if remark is not None:
                    remark(outcome)
        report.finish()


def _exist(outputs: Iterable[str | Path]) -> bool:
    return all(os.path.exists(path) for path in outputs)


class _Report:
    """What a batch prints: a line for each recording, and the summary."""

    def __init__(
        self, tasks: Sequence[Task], skipped: Sequence[Task], about: dict[str, Any] | None
    ):
        self.tasks, self.skipped, self.about = tasks, skipped, about or {}
        self.outcomes: list[Outcome] = []
        self.notes: set[str] = set()  # that were printed
        self.started = time.monotonic()

    def add(self, outcome: Outcome) -> None:
        """Print the outcome of a recording."""
        self.outcomes.append(outcome)
        if outcome.result is None:
            console.error(outcome.error, outcome.hint)
            return
        for note in outcome.result.notes:
            if note not in self.notes:  # most are the same for all recordings
                self.notes.add(note)
                console.message(note)
        paths = [str(path) for path in outcome.result.outputs]
        done, total = len(self.outcomes), len(self.tasks) - len(self.skipped)
        name = printable(outcome.source.name)
        line = f"{done} of {total}: {name}, {outcome.result.seconds:.1f} s"
        if not console.shows_progress and done < total:  # a progress bar shows it
            left = (time.monotonic() - self.started) / done * (total - done)
            line += f", about {_duration(left)} left"
        if console.as_json:
            console.message(line)
        elif sys.stdout is not None and sys.stdout.isatty():
            console.result({}, [f"{line}: {', '.join(map(printable, paths))}"])
        else:  # for other programs, a path a line
            console.message(line)
            console.result({}, paths)

    def finish(self) -> None:
        """Print the JSON object and the summary. Raises TalkemoError if recordings have failed."""
        failed = [outcome for outcome in self.outcomes if outcome.result is None]
        if console.as_json:
            console.result(self._data())
        total, done = len(self.tasks), len(self.outcomes) - len(failed)
        skipped = f", {len(self.skipped)} skipped: their outputs exist" if self.skipped else ""
        if failed:
            names = ", ".join(
                printable(outcome.source) for outcome in failed[:MAX_NAMES_IN_SUMMARY]
            )
            if len(failed) > MAX_NAMES_IN_SUMMARY:
                names += f" and {len(failed) - MAX_NAMES_IN_SUMMARY} more"
            hint = "the others are done" if len(failed) < total else "see the message of each"
            raise TalkemoError(f"{len(failed)} of {_count(total)} failed: {names}", hint)
        if not self.outcomes:
            recordings = "the recording" if total == 1 else f"all {total} recordings"
            console.message(f"nothing to do: the outputs of {recordings} exist")
        else:
            console.message(f"{done} of {_count(total)} done{skipped}")

    def _data(self) -> dict[str, Any]:
        """The JSON object: every recording, in the order in which they were named."""
        kind = self.tasks[0].kind
        results, failed = [], []
        order = {os.path.abspath(task.outputs[0]): n for n, task in enumerate(self.tasks)}
        for outcome in sorted(self.outcomes, key=lambda one: order[os.path.abspath(one.output)]):
            source = {kind: str(outcome.source)}
            if outcome.result is None:
                failed.append({**source, "error": outcome.error, "hint": outcome.hint})
            else:
                results.append({**source, **animation_data(outcome.result)})
        skipped = [
            {kind: str(task.source), "outputs": [str(path) for path in task.outputs]}
            for task in self.skipped
        ]
        return {
            **self.about,
            "recordings": len(self.tasks),
            "results": results,
            "failed": failed,
            "skipped": skipped,
        }


def _count(recordings: int) -> str:
    return "1 recording" if recordings == 1 else f"{recordings} recordings"


def _duration(seconds: float) -> str:
    """A duration in seconds, minutes or hours."""
    if seconds < 100:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 6000 else f"{seconds / 3600:.1f} h"


@contextmanager
def _folder(folder: Path) -> Iterator[None]:
    """Make the folder of a batch if it is missing, and remove it again if it stays empty."""
    from talkemo.files.writing import check_folder

    check_folder(folder)
    with made_folders([folder]):
        yield


@contextmanager
def made_folders(folders: Iterable[Path]) -> Iterator[None]:
    """Make missing folders and their parents; at the end those that are empty are removed."""
    places = {place for folder in folders for place in (folder, *folder.parents)}
    missing = sorted(place for place in places if not place.exists())  # parents first
    for place in missing:
        place.mkdir(exist_ok=True)
    try:
        yield
    finally:
        for place in reversed(missing):
            with suppress(OSError):  # it is not empty
                place.rmdir()
