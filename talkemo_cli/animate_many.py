"""talkemo animate with many recordings: one after the other, or in worker processes."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager, suppress
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from talkemo import TalkemoError
from talkemo.pipelines.options import AnimateOptions, BatchOptions

from .console import animation_data, console

if TYPE_CHECKING:
    from talkemo import Binding, Models, Result
    from talkemo.pipelines.batch import AnimationOutcome

Recordings = list[tuple[Path, list[Path]]]  # audio files, each with its outputs


def animate_many(
    face: Path, recordings: Recordings, options: AnimateOptions, batch: BatchOptions
) -> None:
    """Animate recordings into one folder, and go on after one that fails.

    Raises TalkemoError at the end if any has failed.
    """
    with _folder(recordings[0][1][0].parent):
        models, binding = _check(face, recordings, options)
        if batch.resume:
            recordings = [
                (audio, paths)
                for audio, paths in recordings
                if not all(path.is_file() for path in paths)
            ]
        if batch.jobs > 1 or batch.scheduler is not None:
            from talkemo.pipelines import batch as processes

            outcomes = processes.animate_many(
                face, recordings, options, jobs=batch.jobs, scheduler=batch.scheduler
            )
        else:
            outcomes = _in_this_process(binding, models, recordings, options)
        _report(outcomes, len(recordings))


def _check(face: Path, recordings: Recordings, options: AnimateOptions) -> tuple[Models, Binding]:
    """Check all inputs and outputs before any work; return models and binding.

    Raises InputError for anything unusable.
    """
    import talkemo
    from talkemo.pipelines.acting import timeline_of
    from talkemo.pipelines.outputs import check_fps, output_paths
    from talkemo.render.view import width_and_height

    audio = [source for source, _ in recordings]
    for _, paths in recordings:
        output_paths(paths, options.export, [face, *audio, options.timeline, *options.hint.files])
    timeline_of(options)
    check_fps(options.fps)
    width_and_height(options.export.size)
    models = talkemo.load_models(options.weights, device=options.device)
    models.talking.style(options.style)
    return models, talkemo.bind(face, hint=options.hint, models=models, cache=options.cache)


def _in_this_process(
    binding: Binding, models: Models, recordings: Recordings, options: AnimateOptions
) -> Iterator[AnimationOutcome]:
    """Animate recordings one after the other, each with a progress bar."""
    import talkemo
    from talkemo.pipelines.batch import attempt

    def animate_one(audio: Path, paths: list[Path]) -> Result:
        with console.progress(audio.name) as update:
            return talkemo.animate(binding, audio, paths, options, models=models, progress=update)

    for audio, paths in recordings:
        yield attempt(audio, partial(animate_one, audio, paths), console.debug)


def _report(outcomes: Iterator[AnimationOutcome], total: int) -> None:
    """Print results and failures as they come. Raises TalkemoError if there are failures."""
    results: list[dict[str, Any]] = []
    failed: list[dict[str, str]] = []
    for outcome in outcomes:
        if outcome.result is None:
            console.error(outcome.error, outcome.hint)
            failed.append({"audio": str(outcome.audio), "error": outcome.error})
            continue
        results.append({"audio": str(outcome.audio), **animation_data(outcome.result)})
        if not console.as_json:
            console.result({}, [str(path) for path in outcome.result.outputs])
    if console.as_json:
        console.result({"results": results, "failed": failed})
    if failed:
        names = ", ".join(item["audio"] for item in failed)
        hint = "the others are done" if len(failed) < total else "see the message of each"
        raise TalkemoError(f"{len(failed)} of {total} recordings failed: {names}", hint)


@contextmanager
def _folder(folder: Path) -> Iterator[None]:
    """Make the folder of a batch if it is missing, and remove it again if it stays empty."""
    from talkemo.files.writing import check_folder

    is_new = not folder.is_dir()
    if is_new:
        check_folder(folder)
        folder.mkdir()
    try:
        yield
    finally:
        if is_new:
            with suppress(OSError):  # it is not empty
                folder.rmdir()
