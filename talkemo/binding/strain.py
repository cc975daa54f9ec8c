"""Strain of the skin: frees vertices that tear edges, and limits how far edges are stretched."""

from __future__ import annotations

from functools import lru_cache

import numpy as np
import scipy

from ..face.canonical import Face
from ..geometry.meshes import edge_lengths, mesh_edges
from .body import Body

# Factor and offset on the strain (relative change of length) of the canonical face's edges. Edges
# beyond TEAR_STRAIN times the 99.9th percentile are torn; the strain of the others is limited to
# STRAIN_LIMIT times the maximum.
TEAR_STRAIN, STRAIN_LIMIT = (1.5, 0.1), (1.2, 0.05)
MIN_TORN_EDGE_MM, MIN_LIMITED_EDGE_MM = 0.3, 0.01  # lower bounds of edge lengths for both
TEAR_ROUNDS = 4  # iterations of freeing torn vertices
STRAIN_ITERATIONS = 60  # of the strain limit
AFFECTED_RINGS = 3  # of neighbours around edges that are too long, which move as well


def mend_tears(body: Body, fixed: np.ndarray, still: np.ndarray, lining: np.ndarray) -> None:
    """Free vertices that were matched to the wrong lip or eyelid, then limit the remaining strain.

    A vertex that separates from most of its neighbours was matched to the wrong one. Where a mesh
    has no slit between the lips, the edges that join them are torn too, but each vertex there stays
    with its own lip: these edges have to stretch. `still` (N,) bool marks vertices that never move,
    `fixed` (N,) bool those whose motion is not interpolated; it is cleared for freed vertices.
    `lining` are the vertices that got their motion after that of the others was interpolated.
    """
    edges = body.edges[body.skin[body.edges].all(1)]
    degree = np.bincount(edges.ravel(), minlength=len(body.points))
    strain = _Strain(body, edges)
    changed = np.zeros(len(body.points), bool)
    changed[body.graph[lining].indices] = True
    for _ in range(TEAR_ROUNDS):
        torn = edges[strain.torn]
        mismatched = np.bincount(torn.ravel(), minlength=len(body.points)) > 0.5 * degree
        mismatched &= fixed & ~still
        if not mismatched.any():
            break
        fixed &= ~mismatched
        body.fill_harmonic(~fixed, changed | mismatched)
        changed[:] = False
        strain.measure(np.flatnonzero(~fixed[edges].all(1)))
    strain.limit()


def limit_strain(body: Body, edges: np.ndarray) -> None:
    """Limit how far each blend shape stretches edges (E, 2) of a body."""
    _Strain(body, edges).limit()


class _Strain:
    """How far the blend shapes stretch edges (E, 2) of a body.

    Attributes
    ----------
    torn : (E,) bool
        Edges that a blend shape stretches so far that their ends belong to different lips or lids.
    """

    def __init__(self, body: Body, edges: np.ndarray):
        self.body = body
        self.starts, self.ends = np.ascontiguousarray(edges.T)
        self.length = edge_lengths(body.points, edges)
        self.tear_strain, self.strain_limit = _strain_limits(body.face)
        self.torn = np.zeros(len(edges), bool)
        # For each blend shape, the edges that it stretches farther than the skin may be.
        self.excessive = [np.zeros(0, int) for _ in body.targets]
        self.measure(np.arange(len(edges)))

    def measure(self, rows: np.ndarray) -> None:
        """Measure edges (R,) anew, after their ends were given another motion."""
        starts, ends = self.starts[rows], self.ends[rows]
        # Squares of lengths in single precision: there are many edges and blend shapes.
        tear = np.square(np.maximum(self.length[rows], MIN_TORN_EDGE_MM)).astype(np.float32)
        limit = np.square(np.maximum(self.length[rows], MIN_LIMITED_EDGE_MM)).astype(np.float32)
        torn = np.zeros(len(rows), bool)
        measured = np.zeros(len(self.torn), bool)
        measured[rows] = True
        for k, displacement in enumerate(self.body.targets):
            stretch = _squared_stretch(displacement, starts, ends)
            torn |= stretch > np.float32(self.tear_strain[k] ** 2) * tear
            excessive = stretch > np.float32(self.strain_limit[k] ** 2) * limit
            before = self.excessive[k]
            self.excessive[k] = np.concatenate([before[~measured[before]], rows[excessive]])
        self.torn[rows] = torn

    def limit(self) -> None:
        """Limit the stretch of all edges, as they were measured last."""
        if not any(map(len, self.excessive)):
            return
        count, numbers = len(self.body.points), np.arange(1, len(self.starts) + 1)
        half = scipy.sparse.csr_matrix((numbers, (self.starts, self.ends)), (count, count))
        edge_numbers = half + half.T  # sparse (N, N), number of each edge, from 1
        lengths = np.maximum(self.length, MIN_LIMITED_EDGE_MM)
        for displacement, strain, excessive in zip(
            self.body.targets, self.strain_limit, self.excessive
        ):
            if not len(excessive):
                continue
            ends = np.concatenate([self.starts[excessive], self.ends[excessive]])
            rows, chosen = _surroundings(edge_numbers, ends)
            i, j = (np.searchsorted(rows, side[chosen]) for side in (self.starts, self.ends))
            displacement[rows] = _shorten(displacement[rows], i, j, strain * lengths[chosen])


def _squared_stretch(displacement: np.ndarray, starts: np.ndarray, ends: np.ndarray) -> np.ndarray:
    """Return the squares (R,) of how far displacements (N, 3) move ends of edges apart, mm²."""
    axes = np.ascontiguousarray(displacement.T)
    difference = axes.take(starts, 1)
    difference -= axes.take(ends, 1)
    difference *= difference
    return np.asarray(difference[0] + difference[1] + difference[2])


def _surroundings(
    edge_numbers: scipy.sparse.csr_matrix, rows: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Return vertices and all within AFFECTED_RINGS edges of them, and the edges between them.

    Both are ascending. `edge_numbers` (N, N) has the number of each edge, from 1.
    """
    rows = np.unique(rows)
    for _ in range(AFFECTED_RINGS):
        rows = np.union1d(rows, edge_numbers[rows].indices)
    return rows, np.unique(edge_numbers[rows][:, rows].data) - 1


@lru_cache(maxsize=2)
def _strain_limits(face: Face) -> tuple[np.ndarray, np.ndarray]:
    """Return the strain (S,) beyond which each blend shape tears an edge, and the largest allowed.

    Both are derived from the strain of the canonical face's edges. The first uses a high quantile
    instead of the maximum: a few edges, in the corners of the mouth, are strained much more than
    the others.
    """
    edges, _ = mesh_edges(face.faces)
    stretch = np.stack([edge_lengths(moved, edges) for moved in face.expression_basis])
    strain = stretch / edge_lengths(face.mean, edges)
    rank = int(0.999 * (len(edges) - 1))
    quantile = np.partition(strain, rank, axis=1)[:, rank]
    tear_factor, tear_offset = TEAR_STRAIN
    limit_factor, limit_offset = STRAIN_LIMIT
    return tear_factor * quantile + tear_offset, limit_factor * strain.max(1) + limit_offset


def _shorten(values: np.ndarray, i: np.ndarray, j: np.ndarray, limit: np.ndarray) -> np.ndarray:
    """Move values (R, 3) until those at ends i and j of edges differ by at most `limit` (E,)."""
    count = len(values)
    for _ in range(STRAIN_ITERATIONS):
        difference = values[i] - values[j]
        size = np.sqrt(np.einsum("ec,ec->e", difference, difference))
        excess = np.maximum(size - limit, 0)
        if not excess.any():
            break
        step = (0.5 * excess / np.maximum(size, 1e-9))[:, None] * difference
        hits = np.bincount(i, excess > 0, count) + np.bincount(j, excess > 0, count)
        change = np.empty_like(values, float)
        for axis, along in enumerate(step.T):
            change[:, axis] = np.bincount(j, along, count) - np.bincount(i, along, count)
        # The mean over a vertex's edges, over-relaxed where there are several.
        relaxation = np.where(hits > 1, 1.4, 1.0)[:, None]
        values = values + change / np.maximum(hits, 1)[:, None] * relaxation
    return values
