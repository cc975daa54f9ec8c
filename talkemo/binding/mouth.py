"""The inside of the mouth: where it is, which of it belongs to the jaw, and how the jaw moves."""

from __future__ import annotations

from functools import cached_property

import numpy as np
import scipy.sparse as sp
from scipy.spatial import cKDTree
from scipy.spatial.transform import Rotation

from ..face.canonical import LIPS, MOUTH_CORNERS, Face
from ..geometry.numerics import smoothstep
from .body import Body

# Motion of the lower teeth at weight 1, from ICT-FaceKit: rotation in degrees about the axes and shift in mm.
JAW = {
    "jawOpen": ((25.33, 0.0, 0.0), (0.0, 7.11, 4.21)),
    "jawForward": ((0.0, 0.0, 0.0), (0.0, -1.70, 8.88)),
    "jawLeft": ((0.0, 1.89, 0.05), (3.80, -0.59, 0.64)),
    "jawRight": ((0.0, -1.89, -0.05), (-3.80, -0.59, 0.64)),
}
CHIN = [4, 6, 8, 10, 12, 57]  # iBUG points, from 0, that tell where the jaw is
MIDDLE_LINE = [
    0,
    6,
    14,
    18,
]  # of the 20 iBUG points of the lips, those at the height where the lips meet
# mm around the lips' line where teeth and tongue lie: below, above, and behind what is foremost of the lips.
BELOW, ABOVE, BEHIND = 30.0, 25.0, 110.0
BESIDE = 0.7  # of the mouth's width, to either side of its middle
BLEND = 8.0  # mm of height over which the jaw's share goes from 1 to 0
SMOOTHING_ROUNDS = 8  # of the jaw's share over the edges


def mouth_size(face: Face, fitted: np.ndarray) -> float:
    """Width of a fitted face's (V, 3) mouth relative to the canonical one."""
    right, left = face.landmarks68[list(MOUTH_CORNERS)]
    return float(
        np.linalg.norm(fitted[right] - fitted[left])
        / np.linalg.norm(face.mean[right] - face.mean[left])
    )


class Mouth:
    """The mouth of a fitted face (V, 3) mm. line: height where the lips meet; front: depth of the foremost lip;
    left, right: x of the corners. All in canonical mm."""

    def __init__(self, face: Face, fitted: np.ndarray):
        self.face, self.fitted = face, fitted
        lips = fitted[face.landmarks68[LIPS]]
        self.line = float(lips[MIDDLE_LINE, 1].mean())
        self.right, self.left = float(lips[:, 0].min()), float(lips[:, 0].max())
        self.front = float(lips[:, 2].max())
        self.size = mouth_size(face, fitted)
        chin = face.landmarks68[CHIN]
        self.shift = fitted[chin].mean(0) - self.size * face.mean[chin].mean(0)

    @property
    def width(self) -> float:
        """mm between the corners."""
        return self.left - self.right

    @cached_property
    def _outline(self) -> cKDTree:
        """The fitted face as seen from the front."""
        return cKDTree(self.fitted[:, :2])

    def contains(self, places: np.ndarray) -> np.ndarray:
        """(P,) bool, which places (P, 3) mm lie where teeth and tongue are: behind the lips, between nose and chin."""
        beside = np.abs(places[:, 0] - (self.right + self.left) / 2) < BESIDE * self.width
        high = (places[:, 1] > self.line - BELOW) & (places[:, 1] < self.line + ABOVE)
        result = beside & high & (places[:, 2] > self.front - BEHIND)
        if result.any():
            _, nearest = self._outline.query(places[result][:, :2], k=12)
            result[result] = places[result][:, 2] < np.median(self.fitted[nearest, 2], axis=1) - 2
        return result

    def jaw_share(self, body: Body, rows: np.ndarray) -> np.ndarray:
        """(R,) in [0, 1], how far vertices `rows` of a body belong to the lower jaw.

        By their height beside the lips' line, and by where they face: a tongue that fills the mouth lies under a palate
        that looks down.
        """
        height = body.points[rows, 1] - BLEND * body.normals[rows, 1]
        share = smoothstep((self.line + BLEND / 2 - height) / BLEND)
        around = body.graph[rows][:, rows]
        around = sp.diags(1 / np.maximum(np.asarray(around.sum(1))[:, 0], 1e-9)) @ around
        for _ in range(SMOOTHING_ROUNDS):
            share = 0.5 * share + 0.5 * (around @ share)
        return share

    def jaw_motion(self, places: np.ndarray) -> np.ndarray:
        """(S, P, 3) mm, what each blend shape at weight 1 moves places (P, 3) mm of the jaw by."""
        names = self.face.expression_names
        result = np.zeros((len(names), *places.shape))
        at = (places - self.shift) / self.size
        for name, (turn, step) in JAW.items():
            matrix = Rotation.from_rotvec(np.radians(turn)).as_matrix()
            result[names.index(name)] = self.size * (at @ matrix.T + step - at)
        return result
