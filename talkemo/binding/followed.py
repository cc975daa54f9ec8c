"""Skin whose motion other vertices follow: search trees of it and of its halves, built once."""

from __future__ import annotations

from functools import cached_property

import numpy as np
import scipy

from .body import Body
from .features import Features

SKIN_NEIGHBOURS = 8  # vertices of the skin whose motion a vertex behind them follows
LIP_HALF_MM = 0.5  # skin this far above the line of the lips may still be the lower lip's


class Followed:
    """Vertices `rows` (R,) of a body, whose motion others follow."""

    def __init__(self, body: Body, rows: np.ndarray):
        self.body, self.rows = body, rows

    @cached_property
    def points(self) -> np.ndarray:
        """(R, 3) canonical mm."""
        return self.body.points[self.rows]

    @cached_property
    def tree(self) -> scipy.spatial.cKDTree:
        """Search tree of the vertices."""
        return scipy.spatial.cKDTree(self.points)

    def motion(self, points: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Return the motion (S, P, 3) of the vertices nearest to points (P, 3).

        And the distance (P,) of the nearest one.
        """
        count = min(SKIN_NEIGHBOURS, len(self.rows))
        distance, near = self.tree.query(points, k=count)
        distance, near = distance.reshape(-1, count), near.reshape(-1, count)
        weight = 1 / (distance**2 + 0.25 * distance[:, :1] ** 2 + 0.01)
        weight /= weight.sum(1, keepdims=True)
        used, column = np.unique(near, return_inverse=True)
        starts = count * np.arange(len(points) + 1)
        mean = scipy.sparse.csr_matrix(
            (weight.ravel(), column.ravel(), starts), (len(points), len(used))
        )
        rows = self.rows[used]
        return np.stack([mean @ target[rows] for target in self.body.targets]), distance[:, 0]


class FollowedSkin(Followed):
    """Skin of a body, of which vertices may follow one half alone."""

    def __init__(self, body: Body, features: Features, rows: np.ndarray):
        super().__init__(body, rows)
        self.features = features

    @cached_property
    def _lips(self) -> tuple[Followed, Followed]:
        """The skin above and below the line of the lips."""
        above = self.points[:, 1] - self.features.lip_height(self.points[:, 0])
        upper, lower = above > -LIP_HALF_MM, above < LIP_HALF_MM
        return Followed(self.body, self.rows[upper]), Followed(self.body, self.rows[lower])

    @cached_property
    def _lids(self) -> tuple[Followed, Followed]:
        """The skin above and below the corners of the eyes."""
        above = self.features.above_eyes(self.points)
        return Followed(self.body, self.rows[above > 0]), Followed(self.body, self.rows[above < 0])

    def motion_of_lips(self, points: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Return the motion (S, P, 3) of the skin nearest to points (P, 3), and its distance (P,).

        Above the line of the lips it is that of the upper lip, below that of the lower one.
        """
        above = points[:, 1] > self.features.lip_height(points[:, 0])
        return self._motion_of_halves(points, above, self._lips)

    def motion_of_lids(
        self, points: np.ndarray, is_upper: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray]:
        """Return the motion (S, P, 3) of the lids' skin near points (P, 3), and its distance (P,).

        `is_upper` (P,) bool says which points follow the upper lid.
        """
        upper, lower = (lid if len(lid.rows) else self for lid in self._lids)
        return self._motion_of_halves(points, is_upper, (upper, lower))

    def _motion_of_halves(
        self, points: np.ndarray, is_first: np.ndarray, halves: tuple[Followed, Followed]
    ) -> tuple[np.ndarray, np.ndarray]:
        """Motion (S, P, 3) of the first half near some points, and of the second near the others."""
        motion = np.zeros((len(self.body.targets), *points.shape))
        distance = np.full(len(points), np.inf)
        for chosen, half in zip((is_first, ~is_first), halves):
            if chosen.any() and len(half.rows):
                motion[:, chosen], distance[chosen] = half.motion(points[chosen])
        return motion, distance
