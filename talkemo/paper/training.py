"""Training runs of the paper's tables and figures: where, for how long, and on what."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from ..data.captures import StepProgress
from ..data.rest_relative import ActedFrames
from ..expression.emotions import EMOTIONS, PAPER_EMOTIONS
from ..train.emotion import EmotionConfig
from ..train.run import Run
from ..weights.models import Models

EMOTION_ITERATIONS = 6000  # of each training of emotion transfer, by default
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


def with_label(run: Run, label: str) -> Run:
    """The same run with another label of its progress, to tell several trainings apart."""
    if run.progress is None:
        return run
    progress = run.progress
    return replace(run, progress=lambda _, done, total: progress(label, done, total))


def paper_emotion_config(steps: int | None) -> EmotionConfig:
    """The usual settings of emotion transfer for `steps` iterations, or EMOTION_ITERATIONS."""
    usual = EmotionConfig()
    iterations = steps or EMOTION_ITERATIONS
    classifier_steps = min(usual.classifier_steps, iterations)
    return replace(usual, iterations=iterations, classifier_steps=classifier_steps)


def of_paper_emotions(frames: ActedFrames) -> ActedFrames:
    """The frames of the paper's four emotions."""
    keep = np.isin(frames.emotion, [EMOTIONS.index(name) for name in PAPER_EMOTIONS])
    return replace(
        frames, shapes=frames.shapes[keep], emotion=frames.emotion[keep], clip=frames.clip[keep]
    )
