"""Many recordings animated in several processes, or on the machines of a Dask cluster."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

from ..binding import Binding, FaceHint
from ..errors import TalkemoError
from ..weights.models import Models, load_models
from .animate import animate
from .bind import bind
from .outputs import PathLike, Result


@dataclass(frozen=True)
class Task:
    """One recording to be animated. options: of `animate`, but for those that all recordings have in common"""

    face: str
    hint: FaceHint
    cache: bool
    weights: str
    device: str
    audio: Path
    outputs: list[Path]
    options: dict[str, Any]


@dataclass(frozen=True)
class Done:
    """What became of a recording: a result, or what went wrong and what to do about it."""

    audio: Path
    result: Result | None
    error: str = ""
    hint: str = ""


def animate_many(
    face: PathLike,
    recordings: Sequence[tuple[Path, list[Path]]],
    *,
    jobs: int = 1,
    scheduler: str | None = None,
    hint: FaceHint | None = None,
    cache: bool = True,
    weights: PathLike = "default",
    device: str = "auto",
    **options: Any,
) -> Iterator[Done]:
    """Animate recordings, each with its outputs, in `jobs` processes or on a cluster; yields each as it is done.

    scheduler: the address of a Dask cluster's scheduler, whose machines see the files by the same names
    The others: see `animate`. Face and models are loaded once a process; a recording that fails stops no other.
    """
    from ..compute.workers import map_tasks

    common = (str(face), hint or FaceHint(), cache, str(weights), device)
    tasks = [Task(*common, audio, outputs, options) for audio, outputs in recordings]
    yield from map_tasks(_animate_one, tasks, jobs, scheduler)


def _animate_one(task: Task) -> Done:
    """Animate a recording in a process of its own."""

    def make() -> Result:
        models, binding = _loaded(task.face, task.hint, task.cache, task.weights, task.device)
        return animate(binding, task.audio, task.outputs, models=models, **task.options)

    return attempt(task.audio, make)


def attempt(audio: Path, make: Callable[[], Result], debug: bool = False) -> Done:
    """What becomes of a recording, of which a failure is told; debug: whether one that is no refusal is raised."""
    try:
        return Done(audio, make())
    except TalkemoError as error:
        return Done(audio, None, error.message, error.hint)
    except Exception as error:  # of one recording; the others need not wait for it
        if debug:
            raise
        again = "run this one again with --debug for the traceback"
        return Done(audio, None, f"{audio}: {type(error).__name__}: {error}", again)


@lru_cache(maxsize=1)
def _loaded(
    face: str, hint: FaceHint, cache: bool, weights: str, device: str
) -> tuple[Models, Binding]:
    """Models and binding, kept for the next recording of this process."""
    models = load_models(weights, device=device)
    return models, bind(face, hint=hint, models=models, cache=cache)
