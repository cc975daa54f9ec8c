"""Polylines and polygons in the plane: distances and what lies inside."""

from __future__ import annotations

from itertools import pairwise

import numpy as np


def distance_to_polyline(points: np.ndarray, line: np.ndarray) -> np.ndarray:
    """Return the distance (N,) of points (N, 2) from the polyline through vertices (P, 2)."""
    distance = np.full(len(points), np.inf)
    for a, b in pairwise(line):
        along = np.clip((points - a) @ (b - a) / max(float((b - a) @ (b - a)), 1e-9), 0, 1)
        offset = points - a - along[:, None] * (b - a)
        distance = np.minimum(distance, np.linalg.norm(offset, axis=1))
    return distance


def inside_polygon(points: np.ndarray, polygon: np.ndarray) -> np.ndarray:
    """Return which points (N, 2) lie in a polygon (P, 2), by the even-odd rule."""
    odd = np.zeros(len(points), bool)
    x, y = points.T
    for (ax, ay), (bx, by) in zip(polygon, np.roll(polygon, -1, axis=0)):
        between = (ay > y) != (by > y)
        odd ^= between & (x < ax + (y - ay) * (bx - ax) / np.where(between, by - ay, 1.0))
    return odd
