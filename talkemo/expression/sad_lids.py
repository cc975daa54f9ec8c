"""Lids of a sad face: lowered, but awake.

The emotion network lowers sad lids by a third of their opening, which reads as sleepy: the lids
cover half of the pupil. Grief is in the brows and in the corners of the mouth; upper lids droop a
little (EMFACS: AU 1 + 4 + 15).
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from ..face.canonical import Face
from ..face.motion import Motion
from .emotion_names import EMOTIONS

SAD = EMOTIONS.index("sad")
OPENED_WEIGHT = 0.15  # of eyeBlink, which a full sadness has less than the network gives it


def awake(motion: Motion, amounts: np.ndarray, face: Face) -> Motion:
    """Return a motion with emotions whose sad lids are less lowered.

    Parameters
    ----------
    motion : Motion
        With T frames.
    amounts : (T or 1, 8)
        Of the emotions.
    face : Face
    """
    sadness = amounts[:, SAD]
    if not sadness.any():
        return motion
    rows = [face.expression_names.index(f"eyeBlink_{side}") for side in "LR"]
    opened = OPENED_WEIGHT * face.weights_to_coordinates[rows].sum(0)
    coordinates = motion.coordinates - sadness[:, None] * opened
    return replace(motion, coordinates=coordinates.astype(np.float32))
