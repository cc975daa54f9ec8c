"""Training runs of the paper's tables and figures: where, for how long, and on what."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np

from ..data.captures import StepProgress
from ..data.rest_relative import ActedFrames
from ..expression.emotions import EMOTIONS, PAPER_EMOTIONS
from ..files.cache import corpora_digests, digest
from ..train.emotion import EmotionConfig
from ..train.run import Run
from ..weights.models import Models
from .code import code_digest

# The code of all trainings for the paper.
TRAINING_MODULES = tuple(
    f"talkemo.{name}"
    for name in (
        *("train.emotion", "train.talking"),
        *("paper.generators", "paper.decoders", "paper.karras"),
    )
)
TRANSFERRED_EMOTIONS = PAPER_EMOTIONS[1:]  # all but neutral


def mean_and_spread(values: list[float]) -> dict[str, Any]:
    """Mean and standard deviation over seeds, and the value of each seed."""
    return {"mean": float(np.mean(values)), "spread": float(np.std(values)), "seeds": values}


def training_run(
    folder: Path,
    data: Path,
    cache: Path,
    models: Models,
    jobs: int = 1,
    progress: StepProgress | None = None,
) -> Run:
    """A training run in a folder, with the models' face, speech encoder and device."""
    return Run(
        data=data,
        out=folder,
        weights=models.name,
        jobs=jobs,
        device=models.device.type,
        captures_folder=cache,
        progress=progress,
    )


@contextmanager
def trainings_folder(folder: Path | None) -> Iterator[Path]:
    """Make the folder that keeps trainings, or a temporary one if None is named."""
    if folder is None:
        with TemporaryDirectory() as temporary:
            yield Path(temporary)
        return
    folder.mkdir(parents=True, exist_ok=True)
    yield folder


def variant_run(
    folder: Path,
    name: str,
    data: Path,
    cache: Path,
    models: Models,
    jobs: int = 1,
    progress: StepProgress | None = None,
) -> Run:
    """The training run of a variant in `folder`/`name`.

    It is resumed unless the corpora or the code of the trainings have changed.
    """
    run = training_run(folder / name, data, cache, models, jobs, progress)
    code = code_digest(*TRAINING_MODULES)
    fingerprint = digest(*corpora_digests(data, ("ravdess", "grid_s1")), code)
    return with_label(replace(run, resume=True, discard_stale=True, fingerprint=fingerprint), name)


def with_label(run: Run, label: str) -> Run:
    """The same run with another label of its progress, to tell several trainings apart."""
    if run.progress is None:
        return run
    progress = run.progress
    return replace(run, progress=lambda _, done, total: progress(label, done, total))


def paper_emotion_config(steps: int | None) -> EmotionConfig:
    """The usual settings of emotion transfer, for `steps` iterations if given."""
    usual = EmotionConfig()
    iterations = steps or usual.iterations
    classifier_steps = min(usual.classifier_steps, iterations)
    return replace(usual, iterations=iterations, classifier_steps=classifier_steps)


def of_paper_emotions(frames: ActedFrames) -> ActedFrames:
    """The frames of the paper's four emotions."""
    keep = np.isin(frames.emotion, [EMOTIONS.index(name) for name in PAPER_EMOTIONS])
    return replace(
        frames, shapes=frames.shapes[keep], emotion=frames.emotion[keep], clip=frames.clip[keep]
    )
