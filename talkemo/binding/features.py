"""Where the features of a fitted face are: lids, brows, the line of the lips, and its surface."""

from __future__ import annotations

from functools import cached_property

import numpy as np
import scipy

from ..face.canonical import BROWS, EYE_CENTRES_MM, LEFT_EYE, RIGHT_EYE, Face
from ..geometry.plane import distance_to_polyline

INNER_LIP_LINE = slice(60, 65)  # iBUG landmarks of the inner upper lip, from corner to corner
FRONT_NEIGHBOURS = 12  # vertices of the fitted face whose foremost is the surface before a point


class Features:
    """Positions on a fitted face (V, 3), in canonical mm; it looks along +z with y up."""

    def __init__(self, face: Face, fitted: np.ndarray):
        self.face, self.fitted = face, fitted
        points = fitted[face.landmarks68]
        self.lids = [points[RIGHT_EYE], points[LEFT_EYE]]  # (6, 3) each
        self.brows = np.concatenate([points[side] for side in BROWS])  # (10, 3)
        self.lip_line = points[INNER_LIP_LINE]  # (5, 3), from the right corner to the left
        self.middle_x = float(points[27:31, 0].mean())  # of the nose
        self.chin = float(points[8, 1])
        self.eye_line = float(points[36:48, 1].mean())

    @cached_property
    def eye_centres(self) -> np.ndarray:
        """(2, 3), expected centres of the eyeballs, right first."""
        at_rest = [self.face.landmarks68[points] for points in (RIGHT_EYE, LEFT_EYE)]
        shift = [
            lids.mean(0) - self.face.mean[rows].mean(0) for lids, rows in zip(self.lids, at_rest)
        ]
        return EYE_CENTRES_MM + np.stack(shift)

    @cached_property
    def tree(self) -> scipy.spatial.cKDTree:
        """Search tree of the fitted face."""
        return scipy.spatial.cKDTree(self.fitted)

    @cached_property
    def _front_view(self) -> scipy.spatial.cKDTree:
        return scipy.spatial.cKDTree(self.fitted[:, :2])

    def depth(self, points: np.ndarray) -> np.ndarray:
        """Return how far points (P, 3) lie behind the face's foremost surface there, (P,) mm."""
        _, nearest = self._front_view.query(points[:, :2], k=FRONT_NEIGHBOURS)
        return np.asarray(self.fitted[nearest, 2].max(1) - points[:, 2])

    def lip_height(self, x: np.ndarray) -> np.ndarray:
        """Return the height (P,) of the line between the lips at x (P,)."""
        return np.interp(x, self.lip_line[:, 0], self.lip_line[:, 1])

    def brow_height(self, x: np.ndarray) -> np.ndarray:
        """Return the height (P,) of the brows at x (P,)."""
        return np.interp(x, self.brows[:, 0], self.brows[:, 1])

    def above_eyes(self, points: np.ndarray) -> np.ndarray:
        """Return how far points (P, 3) lie above the line through the corners of the eyes, (P,)."""
        corners = np.concatenate([lids[[0, 3]] for lids in self.lids])
        return np.asarray(points[:, 1] - np.interp(points[:, 0], corners[:, 0], corners[:, 1]))

    def distance_to_lids(self, points: np.ndarray) -> np.ndarray:
        """Return the distance (P,) of points (P, 3) from the closer eye's ring of lids."""
        rings = [np.concatenate([lids, lids[:1]]) for lids in self.lids]
        return np.min([distance_to_polyline(points, ring) for ring in rings], axis=0)
