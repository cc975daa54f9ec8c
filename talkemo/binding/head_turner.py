"""Rotates the head and the eyes of a mesh."""

from __future__ import annotations

from collections.abc import Sequence
from copy import copy

import numpy as np

from ..face.canonical import EYE_CENTRES_MM
from ..geometry.numerics import smoothstep
from ..geometry.rigid import Similarity, eye_rotation
from .binding import Binding

HEAD_PIVOT_MM = np.array([0.0, -20.0, 0.0])  # canonical position of the joint between head and neck
# Heights of the neck in mm below the chin: it rotates with the head at the top, not at the bottom.
NECK_TOP_MM, NECK_BOTTOM_MM = 30.0, 140.0


class Turner:
    """Rotates a mesh of N vertices, each by its share of the head's rotation, and its eyes.

    Parameters
    ----------
    share : (N, 1)
        Fraction of the head's rotation that each vertex follows.
    pivot : (3,)
        The point about which the head rotates.
    axes : (3, 3)
        Rotation of the canonical face in the mesh.
    eyes : sequence of ((E,), (3,))
        Vertices and centre of each of the mesh's own eyeballs.
    sockets : (2, 3)
        Centres of the right and the left eye, whether the mesh has eyeballs or not.

    Attributes
    ----------
    turns_head : bool
        Whether the head rotates, and not only the eyes.
    """

    turns_head = True

    def __init__(
        self,
        share: np.ndarray,
        pivot: np.ndarray,
        axes: np.ndarray,
        eyes: Sequence[tuple[np.ndarray, np.ndarray]],
        sockets: np.ndarray,
    ):
        self.share, self.pivot, self.axes = share, pivot.astype(np.float32), axes
        self.eyes = [(rows, np.asarray(centre)) for rows, centre in eyes if len(rows)]
        self.sockets = sockets

    @classmethod
    def of_whole_mesh(
        cls,
        placement: Similarity,
        count: int,
        pivot: np.ndarray,
        eyes: Sequence[tuple[np.ndarray, np.ndarray]] = (),
    ) -> Turner:
        """Return a turner that rotates all `count` vertices of a mesh, and its own eyeballs."""
        share = np.ones((count, 1), np.float32)
        return cls(share, pivot, placement.rotation, eyes, sockets_of(placement, eyes))

    def with_still_head(self) -> Turner:
        """Return a turner that rotates the eyes only."""
        result = copy(self)
        result.turns_head = False
        return result

    def head(self, rotation: np.ndarray) -> np.ndarray:
        """Return rotations (..., 3, 3) of the canonical face in the mesh's axes, float32."""
        return np.asarray(self.axes @ rotation @ self.axes.T, np.float32)

    def eye_rotations(self, gaze: np.ndarray) -> np.ndarray:
        """Return eye rotations (T, 3, 3) float32 in the mesh's axes by pitch and yaw (T, 2)."""
        return np.asarray(eye_rotation(gaze, self.axes), np.float32)

    def __call__(
        self, vertices: np.ndarray, rotation: np.ndarray, gaze: np.ndarray | None = None
    ) -> np.ndarray:
        """Return the vertices (N, 3) float32 of a frame, rotated by head and gaze.

        `rotation` (3, 3) is the head's, in the axes of the canonical face (looking along +z, y up).
        `gaze` (2,) is the pitch and yaw of the eyes in radians.
        """
        if gaze is not None:
            (vertices,) = self.looking(vertices[None], gaze[None])
        from_pivot = vertices - self.pivot
        shift = from_pivot @ self.head(rotation).T - from_pivot
        return np.asarray(vertices + self.share * shift, np.float32)

    def looking(self, vertices: np.ndarray, gaze: np.ndarray) -> np.ndarray:
        """Return vertices (T, N, 3) whose own eyeballs are rotated by the gaze (T, 2)."""
        if not self.eyes:
            return vertices
        turns, result = self.eye_rotations(gaze).transpose(0, 2, 1), vertices.copy()
        for rows, centre in self.eyes:
            result[:, rows] = (vertices[:, rows] - centre) @ turns + centre
        return result


def sockets_of(placement: Similarity, eyes: Sequence[tuple[np.ndarray, np.ndarray]]) -> np.ndarray:
    """Return the centres (2, 3) of a mesh's eyes, of its own eyeballs if it has two."""
    centres = np.array([centre for _, centre in eyes])
    return centres if len(centres) == 2 else placement.to_mesh(EYE_CENTRES_MM)


class HeadTurner(Turner):
    """Rotates the head and the eyes of a bound mesh of N vertices; the shoulders stay still."""

    def __init__(self, binding: Binding):
        placement = binding.placement
        points = placement.to_canonical(binding.rest.astype(np.float64))
        below_chin = points[binding.landmarks68[8], 1] - points[:, 1]
        share = smoothstep(1 - (below_chin - NECK_TOP_MM) / (NECK_BOTTOM_MM - NECK_TOP_MM))
        pivot = placement.to_mesh(HEAD_PIVOT_MM[None])[0]
        sockets = sockets_of(placement, binding.eyes)
        super().__init__(
            share.astype(np.float32)[:, None], pivot, placement.rotation, binding.eyes, sockets
        )
