"""Captured motion as training and test data: blend shapes from a person's rest, with the sound they belong to."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import replace

import numpy as np

from .captures import Fitted

REST_PERCENTILE = (
    5  # of a blend shape over a person's neutral recordings: what the face shows all the time is no motion
)


def from_rest(recordings: list[Fitted]) -> list[Fitted]:
    """The recordings with each person's resting face taken off: shapes in [0, 1] from that person's neutral."""
    neutral: dict[str, list[np.ndarray]] = defaultdict(list)
    everything: dict[str, list[np.ndarray]] = defaultdict(list)
    for r in recordings:
        everything[r.speaker].append(r.capture.shapes)
        if r.emotion in ("neutral", "calm"):
            neutral[r.speaker].append(r.capture.shapes)
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
