"""The inverse of a binding: from an animated mesh to a motion and head rotations."""

from __future__ import annotations

import numpy as np

from ..face.motion import Motion
from ..geometry.rigid import rigid_motion
from .binding import Binding

MAX_MOTION_POINTS = 3000  # vertices that the motion is estimated from
# Fraction of these points, those that expressions move least, that determine the head's motion.
RIGID_FRACTION = 0.3
WEIGHT_RIDGE = 0.002  # relative to each shape's squared norm; some shapes are nearly dependent
ALTERNATIONS = 4  # between estimating the head's motion and the blend-shape weights


class MeshToMotion:
    """Splits the frames of a mesh, bound at rest, into head motion and blend-shape weights.

    Both are estimated alternately by least squares.
    """

    def __init__(self, binding: Binding):
        self._face = binding.face
        skin = np.flatnonzero(binding.canonical >= 0)
        rows = skin[np.unique(np.linspace(0, len(skin) - 1, MAX_MOTION_POINTS).astype(int))]
        self._vertices = binding.moving[rows]
        self._rest = binding.mesh.vertices[self._vertices]
        targets = binding.targets[:, rows]
        mobility = np.sqrt(np.square(targets).sum((0, 2)))
        self._rigid = mobility <= np.quantile(mobility, RIGID_FRACTION)
        self._targets = targets.reshape(len(targets), -1).astype(np.float64)
        gram = self._targets @ self._targets.T
        ridge = WEIGHT_RIDGE * np.diag(np.diag(gram))
        self._solver = np.linalg.solve(gram + ridge, self._targets)  # (S, P·3)

    def motion_of_mesh(self, vertices: np.ndarray, times: np.ndarray) -> tuple[Motion, np.ndarray]:
        """Estimate the motion of an animated mesh.

        Parameters
        ----------
        vertices : (T, N, 3)
            Frames of the mesh, in the order, unit and orientation of the binding's mesh.
        times : (T,)
            Seconds.

        Returns
        -------
        motion : Motion
            Motion of the face, without that of the head.
        rotation : (T, 3, 3)
            Rotation of the head relative to its pose at rest.
        """
        points = vertices[:, self._vertices].astype(np.float64)
        deformed = np.broadcast_to(self._rest, points.shape)
        for _ in range(ALTERNATIONS):
            rotation, shift = rigid_motion(deformed[:, self._rigid], points[:, self._rigid])
            aligned = np.einsum("tpi,tij->tpj", points - shift[:, None], rotation)
            weights = (aligned - self._rest).reshape(len(points), -1) @ self._solver.T
            deformed = self._rest + (weights @ self._targets).reshape(points.shape)
        return Motion.from_weights(self._face, times, weights), rotation
