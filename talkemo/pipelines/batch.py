"""Many recordings animated in several processes, or on the machines of a Dask cluster."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING

from ..binding import Binding, FaceHint
from ..errors import TalkemoError
from ..options import with_keywords
from ..weights.models import Models, load_models
from .animate import animate
from .bind import bind
from .options import AnimateKeywords, AnimateOptions, PathLike
from .outputs import Result

if TYPE_CHECKING:
    from typing_extensions import Unpack


@dataclass(frozen=True)
class AnimationTask:
    """One recording to be animated, as it is sent to a process."""

    face: str
    audio: Path
    outputs: list[Path]
    options: AnimateOptions


@dataclass(frozen=True)
class AnimationOutcome:
    """The result of one recording, or the error and its hint."""

    audio: Path
    result: Result | None
    error: str = ""
    hint: str = ""


def animate_many(
    face: PathLike,
    recordings: Sequence[tuple[Path, list[Path]]],
    options: AnimateOptions | None = None,
    *,
    jobs: int = 1,
    scheduler: str | None = None,
    **keywords: Unpack[AnimateKeywords],
) -> Iterator[AnimationOutcome]:
    """Animate recordings in several processes or on a cluster; yield each result when it is done.

    Face and models are loaded once per process. A recording that fails does not stop the others.

    Parameters
    ----------
    face : path
        A mesh file.
    recordings : sequence of (path, list of paths)
        Audio files, each with its outputs.
    options, **keywords
        As in `animate`.
    jobs : int
        Number of processes on this machine.
    scheduler : str, optional
        Address of a Dask cluster's scheduler, whose machines see the files under the same paths.
    """
    from ..compute.workers import map_tasks

    options = with_keywords(options or AnimateOptions(), keywords)
    tasks = [AnimationTask(str(face), audio, outputs, options) for audio, outputs in recordings]
    yield from map_tasks(_animate_one, tasks, jobs, scheduler)


def _animate_one(task: AnimationTask) -> AnimationOutcome:
    """Animate a recording in a worker process."""

    def make() -> Result:
        options = task.options
        settings = (options.hint, options.cache, str(options.weights), options.device)
        models, binding = _models_and_binding(task.face, *settings)
        return animate(binding, task.audio, task.outputs, options, models=models)

    return attempt(task.audio, make)


def attempt(audio: Path, make: Callable[[], Result], debug: bool = False) -> AnimationOutcome:
    """Process one recording and report failures instead of raising.

    With `debug`, exceptions other than TalkemoError are raised again.
    """
    try:
        return AnimationOutcome(audio, make())
    except TalkemoError as error:
        return AnimationOutcome(audio, None, error.message, error.hint)
    except Exception as error:
        if debug:
            raise
        hint = "run this one again with --debug for the traceback"
        return AnimationOutcome(audio, None, f"{audio}: {type(error).__name__}: {error}", hint)


@lru_cache(maxsize=1)
def _models_and_binding(
    face: str, hint: FaceHint, cache: bool, weights: str, device: str
) -> tuple[Models, Binding]:
    """Models and binding, loaded once per process."""
    models = load_models(weights, device=device)
    return models, bind(face, hint=hint, models=models, cache=cache)
