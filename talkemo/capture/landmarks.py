"""Which landmarks there are, where they lie on the canonical face, and how much each counts in a fit."""

from __future__ import annotations

import numpy as np

from ..face import Face

CONTOUR_WEIGHT = 0.1  # the face's outline slides over the skin as the head turns
# MediaPipe's face oval.
OVAL = frozenset(
    map(
        int,
        "10 338 297 332 284 251 389 356 454 323 361 288 397 365 379 378 400 377 152 148 176 149 150 136 172 58 132 93 234 "
        "127 162 21 54 103 67 109".split(),
    )
)

# Upper and lower lip, facing each other: iBUG's numbers from 0, and MediaPipe's ids.
LIP_PAIRS = ((61, 67), (62, 66), (63, 65))
MESH_LIP_PAIRS = ((13, 14), (82, 87), (312, 317), (81, 178), (311, 402))


def lip_pairs(points: np.ndarray | None) -> np.ndarray:
    """Rows (Q, 2) of the kept landmarks of a schema that face each other across the mouth."""
    if points is None:
        return np.array(LIP_PAIRS)
    rows = {int(k): i for i, k in enumerate(points)}
    return np.array([(rows[a], rows[b]) for a, b in MESH_LIP_PAIRS if a in rows and b in rows], int).reshape(-1, 2)


def schema(face: Face, points: np.ndarray | None) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """How to fit a kind of landmarks: those to keep (P',), the operator (P', V) and the weights (P',).

    points: ids of MediaPipe's mesh, or None for the 68 iBUG points. The irises are no part of the skin and are left out.
    """
    if points is None:
        weights = np.ones(68)
        weights[:17] = CONTOUR_WEIGHT
        return np.arange(68), face.landmark_operator(), weights
    keep = np.flatnonzero(np.isin(points, face.mesh_points))
    weights = np.array([CONTOUR_WEIGHT if int(points[k]) in OVAL else 1.0 for k in keep])
    return keep, face.mesh_operator(points[keep]), weights
