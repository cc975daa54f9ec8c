"""Articulation: how widely a face speaks."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from ..face.canonical import Face
from ..face.motion import Motion
from ..geometry.numerics import smoothstep

KEPT_GAP_MM = 0.5  # lips that are at most this far apart are not opened by wide articulation
FULL_EFFECT_MM = 2.5  # opening from which it has its full effect


def articulated(motion: Motion, articulation: float, face: Face) -> Motion:
    """Return a motion of speech that is `articulation` times as wide.

    Closures are kept: a wide articulation does not part lips that meet.
    """
    if articulation == 1.0:
        return motion
    factor: np.ndarray | float = articulation
    if articulation > 1:
        opening = motion.lip_opening(face)
        is_open = smoothstep((opening - KEPT_GAP_MM) / (FULL_EFFECT_MM - KEPT_GAP_MM))
        factor = (1 + (articulation - 1) * is_open)[:, None]
    return replace(motion, coordinates=(motion.coordinates * factor).astype(np.float32))
