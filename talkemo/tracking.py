"""What an animated mesh does, as motion of the canonical face: how emotion transfer sees animations it did not make."""

from __future__ import annotations

import numpy as np

from .binding import Binding
from .face import Face

POINTS = 3000  # vertices that the motion is read from
STEADY = 0.3  # share of them that move least when a face speaks and acts: these tell the head's motion
RIDGE = 0.002  # of each blend shape's own square: some are nearly sums of others
ROUNDS = 4


class FaceTracker:
    """Splits the frames of a bound mesh into the head's motion and blend shapes, both by least squares.

    binding: of the mesh at rest
    """

    def __init__(self, face: Face, binding: Binding):
        rest = binding.mesh.vertices
        skin = np.flatnonzero(binding.canonical >= 0)
        rows = skin[np.unique(np.linspace(0, len(skin) - 1, POINTS).astype(int))]
        self.vertices = binding.moving[rows]
        self.rest = rest[self.vertices]
        shapes = binding.shapes[:, rows]
        mobility = np.sqrt(np.square(shapes).sum((0, 2)))
        self.steady = mobility <= np.quantile(mobility, STEADY)
        self.shapes = shapes.reshape(len(shapes), -1).astype(np.float64)
        gram = self.shapes @ self.shapes.T
        self.solver = np.linalg.solve(gram + RIDGE * np.diag(np.diag(gram)), self.shapes)  # (S, P·3)

    def track(self, vertices: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Frames (T, V, 3) → blend shapes (T, S) and rotations (T, 3, 3) of the head from rest."""
        points = vertices[:, self.vertices].astype(np.float64)
        steady = self.steady
        moved = np.broadcast_to(self.rest, points.shape)
        for _ in range(ROUNDS):
            rotation, shift = rigid(moved[:, steady], points[:, steady])
            still = np.einsum("tpi,tij->tpj", points - shift[:, None], rotation)  # the head's motion taken off
            weights = (still - self.rest).reshape(len(points), -1) @ self.solver.T
            moved = self.rest + (weights @ self.shapes).reshape(points.shape)
        return weights.astype(np.float32), rotation


def rigid(source: np.ndarray, target: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Rotations (T, 3, 3) and shifts (T, 3) with target ≈ source @ rotation.T + shift, for points (T, P, 3) each."""
    a, b = source.mean(1), target.mean(1)
    left, _, right = np.linalg.svd(np.einsum("tpi,tpj->tij", target - b[:, None], source - a[:, None]))
    flip = np.ones((len(left), 3))
    flip[:, 2] = np.sign(np.linalg.det(left @ right))
    rotation = (left * flip[:, None]) @ right
    return rotation, b - np.einsum("tij,tj->ti", rotation, a)
