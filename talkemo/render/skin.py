"""Make-up for a mesh without a texture: brows, lips, lashes and blush, painted from the front.

Without brows, anger cannot be recognised.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import numpy as np

from ..geometry.plane import distance_to_polyline, inside_polygon
from .browline import brow_lines
from .view import SKIN

# RGB.
BROW_COLOUR = np.array([82.0, 58, 46])
LIP_COLOUR = np.array([196.0, 118, 108])
LASH_COLOUR = np.array([60.0, 42, 36])
BLUSH_COLOUR = np.array([226.0, 150, 130])
# Canonical mm.
BROW_HALF_WIDTH_MM = 3.3
BROW_TAIL_HALF_WIDTH_MM = 1.3  # at the temple
BROW_EDGE_MM = 2.4  # over which a brow fades
LIP_EDGE_MM = 1.6
LASH_WIDTH_MM = 0.9
SKIN_MARGIN_MM = 26.0  # painted around the landmarks
SKIN_PIXELS_PER_MM = 3


def skin_coordinates(points: np.ndarray, landmarks: np.ndarray) -> np.ndarray:
    """Return column and row (P, 2) of canonical points in the image that `paint_skin` paints."""
    low = landmarks[:, :2].min(0) - SKIN_MARGIN_MM
    high = landmarks[:, :2].max(0) + SKIN_MARGIN_MM
    return (points[..., :2] - [low[0], high[1]]) * [SKIN_PIXELS_PER_MM, -SKIN_PIXELS_PER_MM]


def paint_skin(
    landmarks: np.ndarray, surface: np.ndarray | None = None, brows: bool = True
) -> np.ndarray:
    """Return the face as seen from the front, (H, W, 3) uint8.

    Parameters
    ----------
    landmarks : (68, 3)
        iBUG landmarks in canonical mm.
    surface : (F, 3, 3), optional
        Corners of the skin's triangles, along whose ridge the brows lie.
    brows : bool
        Whether brows are painted.
    """
    marks = landmarks[:, :2]
    canvas = _Canvas(marks.min(0) - SKIN_MARGIN_MM, marks.max(0) + SKIN_MARGIN_MM)
    for cheek in (marks[[2, 31, 36]].mean(0), marks[[14, 35, 45]].mean(0), marks[30]):
        canvas.blend(cheek[None], 45, partial(_blush_opacity, cheek), BLUSH_COLOUR)
    outline, parting = marks[48:60], marks[60:65]
    canvas.blend(outline, 3, partial(_lip_opacity, outline), LIP_COLOUR)
    canvas.blend(outline, 3, partial(_parting_opacity, parting), LASH_COLOUR)
    for left, line in (brow_lines(landmarks, surface) if brows else {}).items():
        _paint_brow(canvas, line, -1 if left else 0)
    for upper_lid in (marks[36:40], marks[42:46]):
        canvas.blend(upper_lid, 4, partial(_lash_opacity, upper_lid, 0.85), LASH_COLOUR)
    for lower_lid in (marks[[39, 40, 41, 36]], marks[[45, 46, 47, 42]]):
        canvas.blend(lower_lid, 4, partial(_lash_opacity, lower_lid, 0.3), LASH_COLOUR)
    return canvas.image.clip(0, 255).astype(np.uint8)


def _paint_brow(canvas: _Canvas, line: np.ndarray, outer: int) -> None:
    """Paint a brow along its middle line (9, 2); point `outer` is at the temple."""
    across = line[:, 0]
    hair_slant = 1.1 if outer == 0 else -1.1

    def opacity(points: np.ndarray) -> np.ndarray:
        length = np.abs(across[-1] - across[0])
        along = np.clip(np.abs(points[:, 0] - line[outer, 0]) / length, 0, 1)
        widening = BROW_HALF_WIDTH_MM - BROW_TAIL_HALF_WIDTH_MM
        half = BROW_TAIL_HALF_WIDTH_MM + widening * np.minimum(1, 1.6 * along)
        hairs = 1 - 0.14 * np.abs(np.sin(1.9 * points[:, 0] + hair_slant * points[:, 1]))
        edge = (half - distance_to_polyline(points, line)) / BROW_EDGE_MM + 0.5
        return 0.9 * hairs * np.clip(edge, 0, 1)

    canvas.blend(line, 2 * BROW_HALF_WIDTH_MM, opacity, BROW_COLOUR)


def _blush_opacity(cheek: np.ndarray, points: np.ndarray) -> np.ndarray:
    return np.asarray(0.28 * np.exp(-(((points - cheek) / [17, 14]) ** 2).sum(1)))


def _lip_opacity(outline: np.ndarray, points: np.ndarray) -> np.ndarray:
    edge = distance_to_polyline(points, np.vstack([outline, outline[:1]]))
    signed = np.where(inside_polygon(points, outline), edge, -edge)
    return 0.85 * np.clip(0.5 + signed / (2 * LIP_EDGE_MM), 0, 1)


def _parting_opacity(parting: np.ndarray, points: np.ndarray) -> np.ndarray:
    """Opacity of the dark line where the lips meet."""
    return 0.5 * np.clip(1 - distance_to_polyline(points, parting) / 2, 0, 1)


def _lash_opacity(lid: np.ndarray, strength: float, points: np.ndarray) -> np.ndarray:
    distance = distance_to_polyline(points, lid)
    return np.asarray(strength * np.clip(1.5 - distance / LASH_WIDTH_MM, 0, 1))


class _Canvas:
    """An image of the plane between two corners (2,), skin-coloured, painted region by region."""

    def __init__(self, low: np.ndarray, high: np.ndarray):
        self.low, self.high = low, high
        width, height = np.ceil((high - low) * SKIN_PIXELS_PER_MM).astype(int)
        self.image = np.tile(SKIN.astype(np.float32), (height, width, 1))

    def blend(
        self,
        marks: np.ndarray,
        margin: float,
        opacity: Callable[[np.ndarray], np.ndarray],
        colour: np.ndarray,
    ) -> None:
        """Blend a colour over the box around marks (M, 2); `opacity` maps points (P, 2) to (P,)."""
        low = ((marks.min(0) - margin - self.low) * SKIN_PIXELS_PER_MM).astype(int)
        high = ((marks.max(0) + margin - self.low) * SKIN_PIXELS_PER_MM).astype(int) + 1
        height, width = self.image.shape[:2]
        columns = np.arange(max(low[0], 0), min(high[0], width))
        rows = np.arange(max(height - high[1], 0), min(height - low[1], height))
        x = self.low[0] + (columns + 0.5) / SKIN_PIXELS_PER_MM
        y = self.high[1] - (rows + 0.5) / SKIN_PIXELS_PER_MM
        if not len(x) or not len(y):
            return
        points = np.stack(np.meshgrid(x, y), 2).reshape(-1, 2)
        region = self.image[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]
        region += opacity(points).reshape(len(rows), len(columns), 1) * (colour - region)
