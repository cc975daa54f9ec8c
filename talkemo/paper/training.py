"""Training runs of the paper's tables and figures: where, for how long, and on what."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
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


@dataclass(frozen=True)
class Trainings:
    """The trainings of variants, each in a folder of its own below `folder`.

    The other fields are those of `training_run`.
    """

    folder: Path
    data: Path
    cache: Path
    models: Models
    jobs: int = 1
    progress: StepProgress | None = None

    def run(self, name: str) -> Run:
        """Return a variant's run, which is resumed unless the corpora or the code have changed."""
        folder = self.folder / name.replace(", ", "-").replace(" ", "-")
        run = training_run(folder, self.data, self.cache, self.models, self.jobs, self.progress)
        code = code_digest(*TRAINING_MODULES)
        fingerprint = digest(*corpora_digests(self.data, ("ravdess", "grid_s1")), code)
        run = replace(run, resume=True, discard_stale=True, fingerprint=fingerprint)
        return with_label(run, name)

    def seeded(self, name: str, seed: int, seeds: int) -> Run:
        """Return the run of a variant with one of several seeds."""
        return with_label(self.run(f"{name}-{seed}"), f"{name}, {seed + 1} of {seeds}")


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
