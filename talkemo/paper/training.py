"""What the tables and figures share that train models by themselves: where, for how long, and on what."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from ..data.captures import Report
from ..data.motion import ActedFrames
from ..expression.emotions import EMOTIONS, PAPER_EMOTIONS
from ..train.emotion import EmotionConfig
from ..train.run import Run
from ..weights.models import Models

ITERATIONS = 6000  # of each training of emotion transfer, unless another number is asked for


def spread(values: list[float]) -> dict[str, Any]:
    """Mean and standard deviation over the seeds, and the figure of each."""
    return {"mean": float(np.mean(values)), "spread": float(np.std(values)), "seeds": values}


def temporary_run(
    folder: Path,
    data: Path,
    cache: Path,
    models: Models,
    jobs: int = 1,
    progress: Report | None = None,
) -> Run:
    """A training in a folder that goes away, with the face and the speech encoder of models, and their device."""
    return Run(
        data=data,
        out=folder,
        weights=models.name,
        jobs=jobs,
        device=models.device.type,
        captures_folder=cache,
        progress=progress,
    )


def labelled(run: Run, label: str) -> Run:
    """The same run, reporting under a label: several trainings follow each other, and they have one name."""
    if run.progress is None:
        return run
    progress = run.progress
    return replace(run, progress=lambda _, done, total: progress(label, done, total))


def emotion_config(steps: int | None) -> EmotionConfig:
    """The usual settings of emotion transfer for fewer iterations: ITERATIONS, or as many as asked for."""
    usual = EmotionConfig()
    iterations = steps or ITERATIONS
    return replace(
        usual, iterations=iterations, classifier_steps=min(usual.classifier_steps, iterations)
    )


def of_paper_emotions(frames: ActedFrames) -> ActedFrames:
    """The frames of the paper's four emotions."""
    keep = np.isin(frames.emotion, [EMOTIONS.index(name) for name in PAPER_EMOTIONS])
    return replace(
        frames, shapes=frames.shapes[keep], emotion=frames.emotion[keep], clip=frames.clip[keep]
    )
