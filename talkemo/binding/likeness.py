"""How much a mesh looks like the face that was fitted to it, and what is missing if it does not.

No score tells faces from other shapes alone: a smooth ball follows the fitted face closely but has
no relief, a crumpled lump has relief but does not follow it, and a belly has both while the figure's
legs rise above it.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import scipy

from ..face.canonical import LEFT_EYE, LIPS, RIGHT_EYE, Face
from ..geometry.meshes import vertex_normals
from ..geometry.rigid import Similarity
from .surface import ClosestPoints, Surface

MIDDLE_RADIUS_MM = 75.0  # of the part of the face whose relief counts
RELIEF_VERTICES = 1500  # at most, in that part
RELIEF_RADIUS_MM = 14.0  # around a point, within which its normal is compared with the others'
SMOOTHING_RADIUS_MM = 8.0  # of the relief of single features: scans are rough, sculptures blunt
FEATURE_RADIUS_MM = {"eyes": 20.0, "nose": 28.0, "mouth": 28.0}
NOSE_TIP = 30  # iBUG landmark
# Where the mesh follows the fitted face: largest distance, smallest cosine between the normals.
FOLLOWING_DISTANCE_MM, FOLLOWING_COSINE = 5.0, 0.7
# Nothing but hair, a hat or raised arms is more than the height of a face above a face.
MAX_SHARE_ABOVE = 0.2  # of the points of the mesh
MIN_LIKENESS = 0.28  # of a face that the mesh follows in more than MIN_COVERAGE of its area
MIN_COVERAGE, PARTIAL_LIKENESS = 0.58, 0.4  # with less coverage, so much likeness is asked for
MIN_FEATURE = 0.12  # correlation of the relief of each feature of a face
SURE_LIKENESS = 0.55  # from which on a face needs no second opinion
SEEN_GAIN, UNSEEN_LOSS = 0.12, 0.1  # change of the likeness by a second opinion


@dataclass(frozen=True)
class Likeness:
    """Scores of a fitted face."""

    relief: float  # correlation of the mesh's relief with the face's, in [-1, 1]
    coverage: float  # share of the middle of the face that the mesh follows
    features: dict[str, float]  # correlation of the relief at the eyes, the nose and the mouth
    above: float  # share of the mesh that lies farther above the face than any head reaches
    seen: bool | None = None  # whether a second opinion sees this face; None if it was not asked

    @property
    def score(self) -> float:
        """Likeness in [-1, 1] by the shape alone."""
        return self.relief * self.coverage

    @property
    def belief(self) -> float:
        """Likeness by the shape and the second opinion."""
        opinion = {None: 0.0, True: SEEN_GAIN, False: -UNSEEN_LOSS}
        return self.score + opinion[self.seen]

    @property
    def rank(self) -> tuple[bool, float]:
        """Compares fits to one mesh: a face before what is none, then by the belief."""
        return self.is_face, self.belief

    @property
    def is_sure(self) -> bool:
        """Whether this is a face beyond doubt."""
        return self.score > SURE_LIKENESS and self.above <= MAX_SHARE_ABOVE

    @property
    def is_face(self) -> bool:
        """Whether this counts as a face."""
        return self.is_sure or self.doubt is None

    @property
    def doubt(self) -> str | None:
        """What the place has or is that a face is not, in words; None if nothing is in doubt."""
        missing = [name for name, relief in self.features.items() if relief < MIN_FEATURE]
        if self.above > MAX_SHARE_ABOVE and self.score < SURE_LIKENESS:
            return f"has {self.above:.0%} of the mesh above it, as a belly or a knee has"
        partial = self.coverage < MIN_COVERAGE
        needed = PARTIAL_LIKENESS if partial else MIN_LIKENESS
        if self.belief > needed and (self.seen or not missing):
            return None
        if missing:
            words = " and ".join(", ".join(missing).rsplit(", ", 1))
            return f"has no {words}"
        if partial:
            return f"follows a face in {self.coverage:.0%} of its area only"
        if self.seen is False and self.score > MIN_LIKENESS:
            return "is hardly like one, and the landmark tracker sees none there"
        return f"has hardly a face's relief (correlation {self.relief:.2f})"


@dataclass(frozen=True, eq=False)
class _Template:
    """Vertices (R,) in the middle of the face, and what is expected of the normals there."""

    rows: np.ndarray  # (R,) canonical vertices
    neighbours: np.ndarray  # (R, K) rows of the R within RELIEF_RADIUS_MM, see `_within`
    near: np.ndarray  # (R, K') rows of the R within SMOOTHING_RADIUS_MM
    relief: np.ndarray  # (R, 3) difference of a normal from the mean of its neighbours'
    features: dict[str, np.ndarray]  # (R,) bool, around the middles of the eyes, nose and mouth


@lru_cache(maxsize=2)
def _template(face: Face) -> _Template:
    landmarks = face.mean[face.landmarks68]
    middle = landmarks[17:].mean(0)
    rows = np.flatnonzero(np.linalg.norm(face.mean - middle, axis=1) < MIDDLE_RADIUS_MM)
    rows = rows[:: max(1, len(rows) // RELIEF_VERTICES)]
    points = face.mean[rows]
    neighbours = _within(points, RELIEF_RADIUS_MM, 160)
    normals = vertex_normals(face.mean, face.faces)[rows]
    centres = {
        "eyes": [landmarks[RIGHT_EYE].mean(0), landmarks[LEFT_EYE].mean(0)],
        "nose": [landmarks[NOSE_TIP]],
        "mouth": [landmarks[LIPS].mean(0)],
    }
    features = {
        name: np.min([np.linalg.norm(points - centre, axis=1) for centre in found], axis=0)
        < FEATURE_RADIUS_MM[name]
        for name, found in centres.items()
    }
    relief = normals - normals[neighbours].mean(1)
    return _Template(rows, neighbours, _within(points, SMOOTHING_RADIUS_MM, 60), relief, features)


def _within(points: np.ndarray, radius: float, count: int) -> np.ndarray:
    """Return the rows (P, K) of up to `count` points within a radius of each of points (P, 3).

    The point itself stands for missing ones.
    """
    distance, rows = scipy.spatial.cKDTree(points).query(
        points, k=min(count, len(points)), distance_upper_bound=radius
    )
    return np.where(np.isfinite(distance), rows, np.arange(len(points))[:, None])


def likeness(
    face: Face,
    fitted: np.ndarray,
    closest: ClosestPoints,
    placement: Similarity,
    surface: Surface,
) -> Likeness:
    """Compare a mesh with the face (V, 3) that was fitted to it.

    Parameters
    ----------
    face : Face
    fitted : (V, 3)
        In canonical mm.
    closest : ClosestPoints
        Search on the part of the mesh around the face.
    placement : Similarity
        Of the fitted face in the mesh.
    surface : Surface
        Of the whole mesh.
    """
    template = _template(face)
    index, distance = closest.match(placement, fitted, template.rows)
    normals = closest.normals[index] @ placement.rotation
    relief = normals - normals[template.neighbours].mean(1)
    fitted_normals = vertex_normals(fitted, face.faces)[template.rows]
    follows = np.einsum("rc,rc->r", normals, fitted_normals) > FOLLOWING_COSINE
    smooth, expected = (x[template.near].mean(1) for x in (relief, template.relief))
    low, high = fitted[:, 1].min(), fitted[:, 1].max()
    heights = placement.to_canonical(surface.coarse.points)[:, 1]
    return Likeness(
        relief=_correlation(relief, template.relief),
        coverage=float((follows & (distance < FOLLOWING_DISTANCE_MM)).mean()),
        features={
            name: _correlation(smooth[rows], expected[rows])
            for name, rows in template.features.items()
        },
        above=float((heights > 2 * high - low).mean()),
    )


def _correlation(a: np.ndarray, b: np.ndarray) -> float:
    """Return the cosine between two fields of vectors (R, 3)."""
    return float((a * b).sum() / max(np.linalg.norm(a) * np.linalg.norm(b), 1e-9))
