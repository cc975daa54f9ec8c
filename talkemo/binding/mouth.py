"""The inside of the mouth: where it is, which vertices belong to the jaw, and how the jaw moves."""

from __future__ import annotations

from functools import cached_property

import numpy as np
import scipy.sparse as sp
from scipy.spatial import cKDTree
from scipy.spatial.transform import Rotation

from ..face.canonical import LIPS, MOUTH_CORNERS, Face
from ..geometry.numerics import smoothstep
from .body import Body

# Motion of ICT-FaceKit's lower teeth at weight 1: rotation vector in degrees, shift in mm.
JAW_MOTION = {
    "jawOpen": ((25.33, 0.0, 0.0), (0.0, 7.11, 4.21)),
    "jawForward": ((0.0, 0.0, 0.0), (0.0, -1.70, 8.88)),
    "jawLeft": ((0.0, 1.89, 0.05), (3.80, -0.59, 0.64)),
    "jawRight": ((0.0, -1.89, -0.05), (-3.80, -0.59, 0.64)),
}
CHIN_POINTS = [4, 6, 8, 10, 12, 57]  # iBUG points, from 0, that show the position of the jaw
LIP_LINE_POINTS = [0, 6, 14, 18]  # of the 20 lip points: those at the height where the lips meet
# Box of teeth and tongue: below and above the line of the lips, and behind the foremost lip.
MOUTH_BELOW_MM, MOUTH_ABOVE_MM, MOUTH_DEPTH_MM = 30.0, 25.0, 110.0
MOUTH_HALF_WIDTH = 0.7  # of the box, in widths of the mouth
JAW_BLEND_MM = 8.0  # height over which the jaw's share goes from 1 to 0
JAW_SMOOTHING_ROUNDS = 8  # averaging steps of the jaw's share over the mesh's edges


def mouth_size(face: Face, fitted: np.ndarray) -> float:
    """Return the width of a fitted face's (V, 3) mouth relative to the canonical one."""
    right, left = face.landmarks68[list(MOUTH_CORNERS)]
    return float(
        np.linalg.norm(fitted[right] - fitted[left])
        / np.linalg.norm(face.mean[right] - face.mean[left])
    )


class Mouth:
    """The mouth of a fitted face (V, 3). All lengths are in canonical mm."""

    def __init__(self, face: Face, fitted: np.ndarray):
        self.face, self.fitted = face, fitted
        lips = fitted[face.landmarks68[LIPS]]
        self.line = float(lips[LIP_LINE_POINTS, 1].mean())  # y where the lips meet
        self.right, self.left = float(lips[:, 0].min()), float(lips[:, 0].max())  # x of corners
        self.front = float(lips[:, 2].max())  # z of the foremost lip
        self.size = mouth_size(face, fitted)  # width relative to the canonical mouth
        # Translation of the chin, after scaling by `size`.
        chin = face.landmarks68[CHIN_POINTS]
        self.shift = fitted[chin].mean(0) - self.size * face.mean[chin].mean(0)

    @property
    def width(self) -> float:
        """Distance between the corners in mm."""
        return self.left - self.right

    @cached_property
    def _front_view(self) -> cKDTree:
        """Search tree of the fitted face as seen from the front."""
        return cKDTree(self.fitted[:, :2])

    def contains(self, points: np.ndarray) -> np.ndarray:
        """Return which points (P, 3) lie where teeth and tongue are, behind the lips; (P,) bool."""
        x, y, z = points[:, 0], points[:, 1], points[:, 2]
        result = np.abs(x - (self.right + self.left) / 2) < MOUTH_HALF_WIDTH * self.width
        result &= (y > self.line - MOUTH_BELOW_MM) & (y < self.line + MOUTH_ABOVE_MM)
        result &= z > self.front - MOUTH_DEPTH_MM
        if result.any():
            _, nearest = self._front_view.query(points[result][:, :2], k=12)
            result[result] = z[result] < np.median(self.fitted[nearest, 2], axis=1) - 2
        return result

    def jaw_share(self, body: Body, rows: np.ndarray) -> np.ndarray:
        """Return how far vertices `rows` of a body belong to the lower jaw; (R,) in [0, 1].

        It depends on their height and on where they face: a tongue that fills the mouth touches the
        palate, but the palate faces down.
        """
        height = body.points[rows, 1] - JAW_BLEND_MM * body.normals[rows, 1]
        share = smoothstep((self.line + JAW_BLEND_MM / 2 - height) / JAW_BLEND_MM)
        average = body.graph[rows][:, rows]
        average = sp.diags(1 / np.maximum(np.asarray(average.sum(1))[:, 0], 1e-9)) @ average
        for _ in range(JAW_SMOOTHING_ROUNDS):
            share = 0.5 * share + 0.5 * (average @ share)
        return share

    def jaw_motion(self, points: np.ndarray) -> np.ndarray:
        """Return the displacement (S, P, 3) mm of points (P, 3) of the jaw by each blend shape."""
        canonical = (points - self.shift) / self.size
        return self.size * jaw_displacement(self.face.expression_names, canonical)


def jaw_displacement(names: tuple[str, ...], points: np.ndarray) -> np.ndarray:
    """Return how far each blend shape (S) moves points (P, 3) of the canonical jaw, (S, P, 3) mm."""
    result = np.zeros((len(names), *points.shape))
    for name, (rotation_deg, shift) in JAW_MOTION.items():
        rotation = Rotation.from_rotvec(np.radians(rotation_deg)).as_matrix()
        result[names.index(name)] = points @ rotation.T + shift - points
    return result
