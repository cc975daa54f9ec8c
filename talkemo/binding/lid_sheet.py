"""Sheets in place of eyes: where skin without an opening closes the lids of a mesh.

Masks and sculptures are often one skin from lid to lid. What lies between the fitted lids is then
taken away, so that an eyeball is seen, and the lids can close over it.
"""

from __future__ import annotations

import numpy as np

from ..face.canonical import LEFT_EYE, RIGHT_EYE
from ..face.openings import Lids
from ..geometry.plane import distance_to_polyline, inside_polygon
from .body import Body

SHEET_DEPTH_MM = 14.6  # between the lids' middle and a sheet
# A triangle is part of the sheet if its corners lie between the lids, or this close to their edges:
# the first distance with which the sheet fills enough of the opening.
MARGINS_MM = (0.5, 1.5, 2.5)
MIN_FILLED = 0.5  # fraction of the opening that a sheet fills
MIN_HEIGHT_MM = 3.0  # of the opening; lids that are modelled closed have no sheet


def lid_contour(body: Body, lids: Lids) -> np.ndarray:
    """Return the closed edge (P, 3) of the fitted lids of one eye, in canonical mm."""
    opening, fitted = lids.opening, body.fitted
    upper, lower = opening.upper.of(fitted), opening.lower.of(fitted)
    eyes = [body.fitted[body.face.landmarks68[eye]] for eye in (RIGHT_EYE, LEFT_EYE)]
    eye = min(eyes, key=lambda eye: abs(eye[:, 0].mean() - upper[:, 0].mean()))
    right, left = eye[eye[:, 0].argmin()], eye[eye[:, 0].argmax()]
    return np.concatenate([right[None], upper, left[None], lower[::-1]])


def sheet_between_lids(points: np.ndarray, faces: np.ndarray, contour: np.ndarray) -> np.ndarray:
    """Return which triangles (F,) lie between lids with an edge (P, 3); none if they fill too little.

    `points` (N, 3) are the vertices, in canonical mm as well.
    """
    none = np.zeros(len(faces), bool)
    area = _area(contour[:, :2])
    if area < MIN_HEIGHT_MM * np.ptp(contour[:, 0]):
        return none
    depth = np.abs(points[:, 2] - contour[:, 2].mean()) < SHEET_DEPTH_MM
    beyond = MARGINS_MM[-1]
    low, high = contour.min(0)[:2] - beyond, contour.max(0)[:2] + beyond
    near = np.flatnonzero(depth & ((points[:, :2] > low) & (points[:, :2] < high)).all(1))
    flat = points[near, :2]
    distance = distance_to_polyline(flat, np.concatenate([contour, contour[:1]])[:, :2])
    distance[inside_polygon(flat, contour[:, :2])] = 0
    to_opening = np.full(len(points), np.inf)
    to_opening[near] = distance
    farthest = to_opening[faces].max(1)
    for margin in MARGINS_MM:
        sheet = farthest <= margin
        corners = points[faces[sheet]][..., :2]
        if np.abs(_areas(corners)).sum() > MIN_FILLED * area:
            return sheet
    return none


def _area(polygon: np.ndarray) -> float:
    """Return the area of a polygon (P, 2)."""
    x, y = polygon.T
    return abs(float(x @ np.roll(y, -1) - y @ np.roll(x, -1))) / 2


def _areas(corners: np.ndarray) -> np.ndarray:
    """Return the signed areas (F,) of triangles with corners (F, 3, 2)."""
    first, second = corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0]
    return np.asarray(first[:, 0] * second[:, 1] - first[:, 1] * second[:, 0]) / 2
