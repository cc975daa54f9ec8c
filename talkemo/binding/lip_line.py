"""The line between closed lips on a mesh, and whether the skin is whole there."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import scipy

from ..face.openings import face_lips
from .body import Body

INNER_CORNERS = (60, 64)  # iBUG landmarks at the ends of the line
LINE_COLUMNS = 24  # planes in which the skin is followed across the lips
LINE_MARGIN = 0.06  # fraction of the width at either end without a plane
LIP_HEIGHT_MM = 7.0  # from the line to skin that is surely of the upper or lower lip
LIP_DEPTH_MM = 5.0  # behind the line; skin that goes deeper is the inside of a mouth
CREASE_REACH_MM = 5.0  # between the fitted line and the crease
CREASE_SLOPE = 0.25  # mm in depth that 1 mm of distance from the fitted line weighs
MIN_WHOLE_COLUMNS = 0.7  # fraction of the planes in which the skin is whole
SMOOTHING_ROUNDS = 3


@dataclass(frozen=True, eq=False)
class LipLine:
    """Where closed lips touch, as height and depth over x, in canonical mm."""

    x: np.ndarray  # (C,), ascending, from one corner to the other
    y: np.ndarray  # (C,)
    z: np.ndarray  # (C,)

    def height(self, points: np.ndarray) -> np.ndarray:
        """Return how far points (P, 3) lie above the line, (P,) mm."""
        return points[:, 1] - np.interp(points[:, 0], self.x, self.y)

    def depth(self, points: np.ndarray) -> np.ndarray:
        """Return how far points (P, 3) lie behind the line, (P,) mm."""
        return np.interp(points[:, 0], self.x, self.z) - points[:, 2]

    def position(self, points: np.ndarray) -> np.ndarray:
        """Return where points (P, 3) lie along the line, 0 and 1 at its ends, (P,)."""
        return (points[:, 0] - self.x[0]) / (self.x[-1] - self.x[0])


def whole_lip_line(body: Body) -> LipLine | None:
    """Return the line between the lips of a body whose skin is whole there, or None.

    A mouth that is open, has a boundary between its lips, or goes on inside, is not whole.
    """
    fitted, lips = body.fitted, face_lips(body.face)
    contact = (lips.upper.of(fitted) + lips.lower.of(fitted)) / 2
    ends = fitted[body.face.landmarks68[list(INNER_CORNERS)]]
    order = np.argsort(ends[:, 0])
    rough = np.vstack([ends[order[:1]], contact[1:-1], ends[order[1:]]])
    position = np.linspace(LINE_MARGIN, 1 - LINE_MARGIN, LINE_COLUMNS)
    planes = rough[0, 0] + position * (rough[-1, 0] - rough[0, 0])
    low = rough.min(0) - np.array([5, 2 * LIP_HEIGHT_MM, LIP_DEPTH_MM])
    high = rough.max(0) + np.array([5, 2 * LIP_HEIGHT_MM, 6 * LIP_DEPTH_MM])
    near = body.skin & ((body.points > low) & (body.points < high)).all(1)
    faces = body.faces[near[body.faces].all(1)]
    crease = []
    for plane in planes:
        expected = np.array([np.interp(plane, rough[:, 0], rough[:, axis]) for axis in (1, 2)])
        crease.append(_crease(body.points, faces, plane, expected))
    whole = [point for point in crease if point is not None]
    if len(whole) < MIN_WHOLE_COLUMNS * LINE_COLUMNS:
        return None
    known = np.array([point is not None for point in crease])
    x = np.concatenate([rough[:1, 0], planes[known], rough[-1:, 0]])
    y, z = np.vstack([rough[:1, 1:], np.array(whole), rough[-1:, 1:]]).T
    return LipLine(x, _smooth(y), _smooth(z))


def _crease(
    points: np.ndarray, faces: np.ndarray, plane: float, expected: np.ndarray
) -> np.ndarray | None:
    """Return y and z of the crease between the lips in the plane x = `plane`, or None.

    None means that the surface is not whole from the upper lip to the lower one. `expected` (2,) is
    where the fitted face has the crease.
    """
    side = points[faces, 0] < plane
    cut = faces[side.any(1) & ~side.all(1)]
    pairs = np.sort(cut[:, [0, 1, 1, 2, 2, 0]].reshape(-1, 2), axis=1)
    x = points[pairs, 0]
    pairs = pairs[(x[:, 0] < plane) != (x[:, 1] < plane)]  # two of the edges of each triangle
    if not len(pairs):
        return None
    edges, node = np.unique(pairs, axis=0, return_inverse=True)
    a, b = points[edges[:, 0]], points[edges[:, 1]]
    at = a + ((plane - a[:, 0]) / (b[:, 0] - a[:, 0]))[:, None] * (b - a)
    offset = at[:, 1:] - expected
    shallow = offset[:, 1] > -LIP_DEPTH_MM
    ends = node.reshape(-1, 2)
    ends = ends[shallow[ends].all(1)]
    graph = scipy.sparse.coo_matrix((np.ones(len(ends)), ends.T), (len(edges),) * 2)
    _, label = scipy.sparse.csgraph.connected_components(graph, directed=False)
    above = np.unique(label[shallow & (offset[:, 0] > LIP_HEIGHT_MM)])
    below = np.unique(label[shallow & (offset[:, 0] < -LIP_HEIGHT_MM)])
    joining = np.isin(label, np.intersect1d(above, below))
    candidates = np.flatnonzero(joining & (np.abs(offset[:, 0]) < CREASE_REACH_MM))
    if not len(candidates):
        return None
    cost = offset[candidates, 1] + CREASE_SLOPE * np.abs(offset[candidates, 0])
    return np.asarray(at[candidates[cost.argmin()], 1:])


def _smooth(values: np.ndarray) -> np.ndarray:
    """Return values (C,) without outliers, averaged with their neighbours; both ends stay."""
    windows = np.lib.stride_tricks.sliding_window_view(np.pad(values, 2, mode="edge"), 5)
    result = np.median(windows, axis=1)
    result[[0, -1]] = values[[0, -1]]
    for _ in range(SMOOTHING_ROUNDS):
        result[1:-1] = (result[:-2] + 2 * result[1:-1] + result[2:]) / 4
    return result
