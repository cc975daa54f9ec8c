"""What an animated mesh does, as a motion of the canonical face and the head's rotation."""

from __future__ import annotations

import numpy as np

from ..face.motion import Motion
from ..geometry.rigid import rigid_motion
from .binding import Binding

POINTS = 3000  # vertices that the motion is read from
STEADY = (
    0.3  # share of them that moves least when a face speaks and acts; they show the head's motion
)
RIDGE = 0.002  # of each blend shape's own square: some are nearly sums of others
ROUNDS = 4  # alternations between the head's motion and the face's


class MeshToMotion:
    """Splits the frames of a bound mesh into the head's motion and blend shapes, both by least squares.

    binding: of the mesh at rest
    """

    def __init__(self, binding: Binding):
        self.face = binding.face
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
        self.solver = np.linalg.solve(
            gram + RIDGE * np.diag(np.diag(gram)), self.shapes
        )  # (S, P·3)

    def track(self, vertices: np.ndarray, times: np.ndarray) -> tuple[Motion, np.ndarray]:
        """Frames (T, N, 3) at times (T,) s → their motion, and the head's rotations (T, 3, 3) from rest."""
        points = vertices[:, self.vertices].astype(np.float64)
        steady = self.steady
        moved = np.broadcast_to(self.rest, points.shape)
        for _ in range(ROUNDS):
            rotation, shift = rigid_motion(moved[:, steady], points[:, steady])
            still = np.einsum(
                "tpi,tij->tpj", points - shift[:, None], rotation
            )  # the head's motion removed
            weights = (still - self.rest).reshape(len(points), -1) @ self.solver.T
            moved = self.rest + (weights @ self.shapes).reshape(points.shape)
        return Motion.from_weights(self.face, times, weights), rotation
