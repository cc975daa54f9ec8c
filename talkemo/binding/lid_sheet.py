"""Sheets in place of eyes: where skin without an opening closes the lids of a mesh.

Masks and sculptures are often one skin from lid to lid. What lies between the fitted lids is then
taken away, so that an eyeball is seen, and the lids can close over it.
"""

from __future__ import annotations

import numpy as np

from ..face.canonical import LEFT_EYE, RIGHT_EYE
from ..face.openings import face_lids
from ..geometry.plane import distance_to_polyline, inside_polygon
from .body import Body

SHEET_DEPTH_MM = 14.6  # between the lids' middle and a sheet
# A triangle is part of the sheet if its corners lie between the lids, or this close to their edges:
# the first distance in mm with which the sheet fills this fraction of the opening.
MARGINS = ((0.05, 0.9), (0.5, 0.5), (1.5, 0.5), (2.5, 0.5))
MIN_HEIGHT_MM = 3.0  # of the opening; lids that are modelled closed have no sheet


def lid_contours(body: Body) -> np.ndarray:
    """Return the closed edges (2, P, 3) of the fitted right and left lids, in canonical mm.

    Skin hardly shows where lids end: both sides get the mean of their shapes.
    """
    fitted, landmarks = body.fitted, body.fitted[body.face.landmarks68]
    contours, middles = [], []
    for lids, eye in zip(face_lids(body.face), (RIGHT_EYE, LEFT_EYE)):
        upper, lower = lids.opening.upper.of(fitted), lids.opening.lower.of(fitted)
        corners = landmarks[eye][[0, 3]]
        # Ascending in x along the upper lid, and back along the lower one.
        contours.append(np.concatenate([corners[:1], upper, corners[1:], lower[::-1]]))
        middles.append(corners.mean(0))
    shapes = np.stack(contours) - np.stack(middles)[:, None]
    # The left corner, half way around, is the mirror image of the right one, which comes first.
    half = shapes.shape[1] // 2
    opposite = (half - np.arange(2 * half)) % (2 * half)
    shapes = (shapes + (shapes[::-1] * [-1, 1, 1])[:, opposite]) / 2
    return np.stack(middles)[:, None] + shapes


def sheet_between_lids(points: np.ndarray, faces: np.ndarray, contour: np.ndarray) -> np.ndarray:
    """Return which triangles (F,) lie between lids with an edge (P, 3); none if they fill too little.

    `points` (N, 3) are the vertices, in canonical mm as well.
    """
    none = np.zeros(len(faces), bool)
    area = _area(contour[:, :2])
    if area < MIN_HEIGHT_MM * np.ptp(contour[:, 0]):
        return none
    beyond = MARGINS[-1][0]
    low, high = contour.min(0)[:2] - beyond, contour.max(0)[:2] + beyond
    near = ((points[:, :2] > low) & (points[:, :2] < high)).all(1) & _is_near(points, contour)
    rows = np.flatnonzero(near)
    outline = np.concatenate([contour, contour[:1]])[:, :2]
    to_opening = np.full(len(points), np.inf)
    to_opening[rows] = distance_to_polyline(points[rows, :2], outline)
    to_opening[rows[between_lids(points[rows], contour)]] = 0
    farthest = to_opening[faces].max(1)
    for margin, filled in MARGINS:
        sheet = farthest <= margin
        chosen = faces[sheet]
        chosen = chosen[between_lids(points[chosen].mean(1), contour)]
        if np.abs(_areas(points[chosen][..., :2])).sum() > filled * area:
            return sheet
    return none


def between_lids(points: np.ndarray, contour: np.ndarray) -> np.ndarray:
    """Return which points (N, 3) lie between lids with an edge (P, 3)."""
    return inside_polygon(points[:, :2], contour[:, :2]) & _is_near(points, contour)


def _is_near(points: np.ndarray, contour: np.ndarray) -> np.ndarray:
    """Return which points (N, 3) are about as deep as an edge (P, 3)."""
    return np.asarray(np.abs(points[:, 2] - contour[:, 2].mean()) < SHEET_DEPTH_MM)


def _area(polygon: np.ndarray) -> float:
    """Return the area of a polygon (P, 2)."""
    x, y = polygon.T
    return abs(float(x @ np.roll(y, -1) - y @ np.roll(x, -1))) / 2


def _areas(corners: np.ndarray) -> np.ndarray:
    """Return the signed areas (F,) of triangles with corners (F, 3, 2)."""
    first, second = corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0]
    return np.asarray(first[:, 0] * second[:, 1] - first[:, 1] * second[:, 0]) / 2
