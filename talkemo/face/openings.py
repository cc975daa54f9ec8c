"""The openings of a face, between its lids and between its lips, measured in columns.

A column is a vertical plane through an opening, with one point on the upper and one on the lower
edge. The points belong to the skin, so the height of an opening is linear in the displacement.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import scipy

from ..geometry.meshes import boundary_loops, mesh_edges
from .canonical import EYE_CENTRES_MM, INNER_LIPS, Face

COLUMNS = 20  # of each opening
CORNER_MARGIN = 0.08  # fraction of the width at either corner that no column covers
EDGE_REACH_MM = 9.0  # skin that belongs to an edge, measured along the surface from the rim
LIP_PENALTY, LIP_ITERATIONS = 1000.0, 300  # on a column's error, mm² of the face by mm²; of the fit
LIP_REACH_MM = 25.0  # skin around each lip, measured likewise


@dataclass(frozen=True, eq=False)
class EdgePoints:
    """One point (J, 3) a column, each on an edge of a mesh."""

    vertices: np.ndarray  # (J, 2), ends of the edges
    fraction: np.ndarray  # (J,), position between the ends

    def of(self, values: np.ndarray) -> np.ndarray:
        """Interpolate values (..., N, 3) of vertices at the points, (..., J, 3)."""
        fraction = self.fraction[:, None]
        first, second = self.vertices.T
        return (1 - fraction) * values[..., first, :] + fraction * values[..., second, :]


@dataclass(frozen=True, eq=False)
class Opening:
    """Facing points of the upper and the lower edge of an opening, by position along it."""

    position: np.ndarray  # (J,), 0 to 1 from the corner with the smallest x to the other
    upper: EdgePoints
    lower: EdgePoints

    def gap(self, values: np.ndarray) -> np.ndarray:
        """Return the height (..., J) of the opening, or its change, for values (..., N, 3)."""
        return self.upper.of(values)[..., 1] - self.lower.of(values)[..., 1]


@dataclass(frozen=True, eq=False)
class Lids:
    """How the blend shapes move the edges of one eye's lids, in its J columns."""

    opening: Opening
    gap: np.ndarray  # (J,) mm, height of the opening at rest
    upper: np.ndarray  # (S, J), vertical motion of the upper edge relative to `gap`
    lower: np.ndarray  # (S, J), the same of the lower edge
    change: np.ndarray  # (S,), mean motion of the upper edge relative to the lower one
    blink: int  # the blend shape that closes it: `change` is -1


@lru_cache(maxsize=2)
def face_lids(face: Face) -> tuple[Lids, Lids]:
    """Return the lids of the right and of the left eye of the canonical face.

    eyeBlink closes the lids in all columns here, which the face model's only nearly does.
    """
    return _lids(face, "R", 0), _lids(face, "L", 1)


@lru_cache(maxsize=2)
def face_lips(face: Face) -> Opening:
    """Return the opening between the lips of the canonical face."""
    middle = face.mean[face.landmarks68[list(INNER_LIPS)]].mean(0)
    return _opening_at(face, middle)


@lru_cache(maxsize=2)
def lip_sides(face: Face) -> tuple[np.ndarray, np.ndarray]:
    """Return the canonical face's vertices (V,) bool around its upper and around its lower lip."""
    middle = face.mean[face.landmarks68[list(INNER_LIPS)]].mean(0)
    return _sides(face, *_arcs(face, middle), LIP_REACH_MM)


def _lids(face: Face, side: str, eye: int) -> Lids:
    """Return the lids of eye number `eye` on a side, L or R.

    All columns close by the same fraction, so that a blink on top of a squint leaves no gap.
    """
    opening = _opening_at(face, EYE_CENTRES_MM[eye])
    gap = opening.gap(face.mean)
    upper, lower = (
        edge.of(face.expression_basis)[..., 1] / gap for edge in (opening.upper, opening.lower)
    )
    change = (upper - lower).mean(1)
    blink = face.expression_names.index(f"eyeBlink_{side}")
    change[blink] = -1.0
    excess = upper - lower - change[:, None]
    size_upper, size_lower = np.abs(upper).mean(1), np.abs(lower).mean(1)
    upper_share = (size_upper / np.maximum(size_upper + size_lower, 1e-9))[:, None]
    upper -= upper_share * excess
    lower += (1 - upper_share) * excess
    return Lids(opening, gap, upper, lower, change, blink)


def exported_weights(face: Face, coordinates: np.ndarray) -> np.ndarray:
    """Fit blend-shape weights (T, S) in [0, 1] to coordinates (T, S), without those of the gaze.

    Coordinates may need weights below 0. A fit of the whole face then parts lips that meet by up to
    2 mm, which is little on average and much to see.
    """
    kept = np.sqrt(LIP_PENALTY) * face_lips(face).gap(face.expression_basis).astype(np.float64)
    weights = face.fit_weights(coordinates, LIP_ITERATIONS, gaze=False, kept=kept)
    return weights.astype(np.float32)


def lid_opening_gradient(face: Face) -> np.ndarray:
    """Return the change (S, 2) of both eyes' openings, relative to rest, by 1 mm of coordinates.

    The right eye comes first; at -1 its lids meet.
    """
    changes = np.stack([lids.change for lids in face_lids(face)], axis=1)
    return (face.coordinates_to_weights @ changes).astype(np.float32)


def _opening_at(face: Face, centre: np.ndarray) -> Opening:
    """Return the opening of the canonical face whose rim lies around a point (3,)."""
    upper_rim, lower_rim = _arcs(face, centre)
    is_upper, is_lower = _sides(face, upper_rim, lower_rim, EDGE_REACH_MM)
    x = face.mean[np.concatenate([upper_rim, lower_rim]), 0]
    edges = _edges(face)
    position = np.linspace(CORNER_MARGIN, 1 - CORNER_MARGIN, COLUMNS)
    planes = x.min() + position * (x.max() - x.min())
    upper = [_extreme_crossing(face, edges[is_upper[edges].all(1)], plane, 1) for plane in planes]
    lower = [_extreme_crossing(face, edges[is_lower[edges].all(1)], plane, -1) for plane in planes]
    return Opening(position, edge_points(upper), edge_points(lower))


def _arcs(face: Face, centre: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the vertices of the upper and of the lower rim of the opening around a point (3,)."""
    loops = _rims(face)
    middles = np.stack([(face.mean[loop].min(0) + face.mean[loop].max(0)) / 2 for loop in loops])
    rim = loops[int(np.linalg.norm((middles - centre)[:, :2], axis=1).argmin())]
    x, y = face.mean[rim, 0], face.mean[rim, 1]
    corners = [x.argmin(), x.argmax()]
    above = y > np.interp(x, x[corners], y[corners])
    return rim[above], rim[~above]


@lru_cache(maxsize=2)
def _edges(face: Face) -> np.ndarray:
    """Return the edges (E, 2) of the canonical face."""
    return mesh_edges(face.faces)[0]


@lru_cache(maxsize=2)
def _rims(face: Face) -> list[np.ndarray]:
    """Return the vertices of the rim of each opening, and of the face itself."""
    return boundary_loops(face.faces, len(face.mean))


def _sides(
    face: Face, upper: np.ndarray, lower: np.ndarray, reach_mm: float
) -> tuple[np.ndarray, np.ndarray]:
    """Return the vertices (V,) bool within reach of the upper and of the lower rim."""
    a, b = _edges(face).T
    length = np.linalg.norm(face.mean[a] - face.mean[b], axis=1)
    graph = scipy.sparse.csr_matrix((length, (a, b)), (len(face.mean),) * 2)
    to_upper, to_lower = (
        scipy.sparse.csgraph.dijkstra(graph, False, rows, min_only=True, limit=reach_mm)
        for rows in (upper, lower)
    )
    return np.isfinite(to_upper) & (to_upper <= to_lower), (to_lower < to_upper)


def _extreme_crossing(
    face: Face, edges: np.ndarray, plane: float, sign: int
) -> tuple[int, int, float]:
    """Return where an edge crosses the plane x = `plane` lowest (sign 1) or highest (-1).

    The result is the edge's two vertices and the position between them.
    """
    x, y = face.mean[:, 0][edges], face.mean[:, 1][edges]
    crossing = np.flatnonzero((x[:, 0] < plane) != (x[:, 1] < plane))
    x, y = x[crossing], y[crossing]
    fraction = (plane - x[:, 0]) / (x[:, 1] - x[:, 0])
    height = y[:, 0] + fraction * (y[:, 1] - y[:, 0])
    best = int((sign * height).argmin())
    first, second = edges[crossing[best]]
    return int(first), int(second), float(fraction[best])


def edge_points(crossings: list[tuple[int, int, float]]) -> EdgePoints:
    """Return edge points of crossings, each the two vertices of an edge and a position on it."""
    vertices = np.array([crossing[:2] for crossing in crossings], int).reshape(-1, 2)
    return EdgePoints(vertices, np.array([crossing[2] for crossing in crossings], float))
