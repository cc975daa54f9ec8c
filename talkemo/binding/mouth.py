"""The inside of the mouth: where it is, which vertices belong to the jaw, and how the jaw moves."""

from __future__ import annotations

from functools import cached_property, lru_cache

import numpy as np
import scipy

from ..face.canonical import LIPS, MOUTH_CORNERS, Face
from ..geometry.numerics import smoothstep
from ..geometry.rigid import rotation_matrices
from .body import Body

# Motion of ICT-FaceKit's lower teeth at weight 1: rotation about x, y and z in degrees, shift in mm.
JAW_MOTION = {
    "jawOpen": ((25.33, 0.0, 0.0), (0.0, 7.11, 4.21)),
    "jawForward": ((0.0, 0.0, 0.0), (0.0, -1.70, 8.88)),
    "jawLeft": ((0.0, 1.89, 0.05), (3.80, -0.59, 0.64)),
    "jawRight": ((0.0, -1.89, -0.05), (-3.80, -0.59, 0.64)),
}
LOWER_INCISORS_MM = np.array([0.0, -37.0, 106.0])  # on the canonical face
# The incisors and the last molars of the lower row, which no motion raises above the bite.
LOWER_ROW_MM = LOWER_INCISORS_MM + np.array([[0.0, 0, 0], [-26, 5, -53], [26, 5, -53]])
CHORD_SHARE = 0.87  # of a rotation's shortening, which is its symmetric part
CHIN_POINTS = [4, 6, 8, 10, 12, 57]  # iBUG points, from 0, that show the position of the jaw
LIP_LINE_POINTS = [0, 6, 14, 18]  # of the 20 lip points: those at the height where the lips meet
# Box of teeth and tongue: below and above the line of the lips, and behind the foremost lip.
MOUTH_BELOW_MM, MOUTH_ABOVE_MM, MOUTH_DEPTH_MM = 30.0, 25.0, 110.0
MOUTH_HALF_WIDTH = 0.7  # of the box, in widths of the mouth
JAW_FACING_MM = 8.0  # by which vertices that face up count as lower, those that face down as higher
# Vertices belong to a jaw for certain if they lie this far above or below the cut between the jaws,
# and are not among this fraction of the deepest.
CERTAIN_JAW_MM, CERTAIN_JAW_DEPTH = 4.0, 0.4
SHARE_EDGE = 0.25  # shares of the jaw below it become 0, above 1 minus it 1
LOOSE_STIFFNESS = 1e-6  # of a share by height alone, for vertices without a certain neighbour


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
    def _front_view(self) -> scipy.spatial.cKDTree:
        """Search tree of the fitted face as seen from the front."""
        return scipy.spatial.cKDTree(self.fitted[:, :2])

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

    def jaw_share(self, body: Body, rows: np.ndarray, cut: float | None = None) -> np.ndarray:
        """Return how far vertices `rows` of a body belong to the lower jaw; (R,) in [0, 1].

        Vertices above and below `cut`, by default the line of the lips, belong to a jaw for
        certain; where they face counts as well: a tongue that fills the mouth touches the palate,
        but the palate faces down. From them shares spread along edges, so that rows of teeth are
        rigid, and change only where the jaws are joined.
        """
        points = body.points[rows]
        height = points[:, 1] - JAW_FACING_MM * body.normals[rows, 1]
        height -= self.line if cut is None else cut
        certain = np.abs(height) > CERTAIN_JAW_MM
        certain &= points[:, 2] >= np.quantile(points[:, 2], CERTAIN_JAW_DEPTH)
        share = (height < 0).astype(float)
        graph = body.graph[rows][:, rows]
        free = np.flatnonzero(~certain)
        if certain.any() and len(free):
            near_half = smoothstep(0.5 - height[free] / (4 * CERTAIN_JAW_MM))
            laplacian = scipy.sparse.diags(np.asarray(graph.sum(1))[free, 0] + LOOSE_STIFFNESS)
            laplacian = laplacian - graph[free][:, free]
            right = graph[free][:, certain] @ share[certain] + LOOSE_STIFFNESS * near_half
            share[free] = scipy.sparse.linalg.splu(laplacian.tocsc()).solve(right)
        return smoothstep((share - SHARE_EDGE) / (1 - 2 * SHARE_EDGE))

    def jaw_motion(self, points: np.ndarray) -> np.ndarray:
        """Return the displacement (S, P, 3) mm of points (P, 3) of the jaw by each blend shape."""
        canonical = (points - self.shift) / self.size
        return self.size * jaw_displacement(self.face.expression_names, canonical)


def jaw_displacement(names: tuple[str, ...], points: np.ndarray, gain: float = 1.0) -> np.ndarray:
    """Return the displacement (S, P, 3) mm of points (P, 3) of the canonical jaw by each shape (S).

    `gain` scales angles and shifts.

    A displacement is linear in the weight, a rotation is not: halfway, points on the chord are
    nearer to each other. CHORD_SHARE makes lengths err by less than 2 % at all weights.
    """
    result = np.zeros((len(names), *points.shape))
    from_incisors = points - LOWER_INCISORS_MM
    for name, (rotation_deg, shift) in JAW_MOTION.items():
        rotation = rotation_matrices(*np.radians(gain * np.array(rotation_deg))) - np.eye(3)
        symmetric = (rotation + rotation.T) / 2
        linear = rotation - (1 - CHORD_SHARE) * symmetric
        result[names.index(name)] = from_incisors @ linear.T + rotation @ LOWER_INCISORS_MM
        result[names.index(name)] += gain * np.array(shift)
    return result


@lru_cache(maxsize=2)
def bite_gradient(face: Face) -> np.ndarray:
    """Return how far the jaw is open (3, S) float32 by 1 mm of each coordinate.

    At each of LOWER_ROW_MM: the weight of jawOpen that lowers it as far as all shapes together do.
    Below 0 the lower row is above the closed bite, see `face.bite.Bite`.
    """
    heights = jaw_displacement(face.expression_names, LOWER_ROW_MM)[..., 1]  # (S, 3)
    jaw = face.expression_names.index("jawOpen")
    return np.asarray((face.regularised_weights @ (heights / heights[jaw])).T, np.float32)
