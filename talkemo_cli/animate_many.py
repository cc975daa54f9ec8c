"""talkemo animate with many recordings: those of the command line, or of a manifest."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path

from talkemo import InputError
from talkemo.pipelines.options import AnimateOptions, BatchOptions

from .batch import output_folder, run_batch

# Returns the name of an output, without its ending.
OutputName = Callable[[Path, AnimateOptions], str]


def animate_many(
    face: Path,
    audio: list[Path],
    outputs: list[Path],
    formats: list[str],
    options: AnimateOptions,
    batch: BatchOptions,
    name: OutputName,
) -> None:
    """Animate recordings into one folder, and go on after one that fails.

    Raises TalkemoError at the end if any has failed.
    """
    from talkemo.pipelines.batch import check_animations
    from talkemo.pipelines.batch_tasks import AnimationTask

    folder = output_folder(outputs, formats)
    if any(str(source) == "-" for source in audio) and (batch.jobs > 1 or batch.scheduler):
        raise InputError(
            "audio from standard input cannot be sent to other processes",
            "name a file, or leave --jobs and --scheduler out",
        )
    tasks = [
        AnimationTask(str(face), path, _outputs(folder, name(path, options), formats), options)
        for path in audio
    ]
    run_batch(tasks, batch, folder, partial(check_animations, tasks))


def animate_manifest(
    face: Path,
    manifest: Path,
    outputs: list[Path],
    formats: list[str],
    options: AnimateOptions,
    batch: BatchOptions,
    name: OutputName,
) -> None:
    """Animate the recordings of a manifest; outputs that it does not name go into one folder."""
    from talkemo.pipelines.batch import check_animations
    from talkemo.pipelines.batch_tasks import AnimationTask
    from talkemo.pipelines.manifest import read_manifest

    folder = output_folder(outputs, formats)
    tasks = []
    for line in read_manifest(manifest, options):
        paths = _outputs(folder, name(line.audio, line.options), formats)
        if line.output is not None:
            paths = [line.output]
        tasks.append(AnimationTask(str(face), line.audio, paths, line.options, line.where))
    run_batch(tasks, batch, folder, partial(check_animations, tasks))


def _outputs(folder: Path, name: str, formats: list[str]) -> list[Path]:
    return [folder / f"{name}.{ending}" for ending in formats or ["mp4"]]
