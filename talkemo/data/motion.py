"""Captured motion as training and test data: blend shapes from a person's rest, with the sound they belong to."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import replace

import numpy as np

from .captures import Fitted
from .corpora import EMOTIONS

# Of each trial: actors come from and go back to rest, and a resting face shows no emotion whatever its label.
ACTED = (0.25, 0.8)
# Of a blend shape over a person's neutral recordings: what the face shows all the time is no motion.
REST_PERCENTILE = 5


def from_rest(recordings: list[Fitted]) -> list[Fitted]:
    """The recordings with each person's resting face taken off: shapes in [0, 1] from that person's neutral."""
    trained = {r.speaker for r in recordings if r.split == "train"}
    neutral: dict[str, list[np.ndarray]] = defaultdict(list)
    everything: dict[str, list[np.ndarray]] = defaultdict(list)
    for r in recordings:
        everything[r.speaker].append(r.capture.shapes)
        if r.split == "dev" and r.speaker in trained:
            continue
        if r.emotion in ("neutral", "calm"):
            neutral[r.speaker].append(r.capture.shapes)
    # What is known of people who are trained and tested on comes from their recordings for training alone.
    rest = {
        person: np.percentile(np.concatenate(neutral.get(person) or shapes), REST_PERCENTILE, axis=0)
        for person, shapes in everything.items()
    }
    return [
        replace(
            r, capture=replace(r.capture, shapes=np.clip(r.capture.shapes - rest[r.speaker], 0, 1).astype(np.float32))
        )
        for r in recordings
    ]


def acted_shapes(recordings: list[Fitted]) -> tuple[np.ndarray, np.ndarray]:
    """Blend shapes (N, S) of the acted part of recordings, and their emotions (N,) as indices of EMOTIONS."""
    shapes, labels = [], []
    for r in recordings:
        count = len(r.capture.time)
        part = r.capture.shapes[int(ACTED[0] * count) : int(ACTED[1] * count)]
        shapes.append(part)
        labels.append(np.full(len(part), EMOTIONS.index(r.emotion)))
    return np.concatenate(shapes), np.concatenate(labels)
