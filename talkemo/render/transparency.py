"""Which triangles are drawn as opaque, which are cut out, and which are seen through.

The renderers draw a partly transparent surface twice: first what of it is solid, like any other
surface, then what is seen through, from back to front. So cards of hair hide each other rightly,
but for their soft edges, without being sorted texel by texel.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from ..formats.appearance import Appearance

# Opacity, of 255, from which on a texel hides what is behind it, and below which nothing is drawn.
SOLID_OPACITY, FAINT_OPACITY = 250, 4
EDGE_TEXELS = 1  # beside a triangle, which smooth sampling reaches


@dataclass(frozen=True, eq=False)
class DrawOrder:
    """Triangles in the order in which they are drawn.

    Attributes
    ----------
    faces : (F', 3) int32
        Triangles of corners: opaque ones, those that have holes, and those that are seen through
        somewhere. Entirely transparent ones are left out.
    solid, cut : int
        Numbers of opaque triangles, and of opaque ones and those with holes.
    """

    faces: np.ndarray
    solid: int
    cut: int

    @property
    def tested(self) -> np.ndarray:
        """Triangles (F'', 3) that are not opaque everywhere."""
        return self.faces[self.solid :]

    @property
    def veils(self) -> np.ndarray:
        """Triangles (F''', 3) that are seen through somewhere."""
        return self.faces[self.cut :]


def draw_order(appearance: Appearance) -> DrawOrder:
    """Return the triangles of an appearance in the order in which they are drawn."""
    faces = np.ascontiguousarray(appearance.faces, np.int32)
    if appearance.opacity is None:
        return DrawOrder(faces, len(faces), len(faces))
    columns, rows = np.moveaxis(appearance.place[faces], -1, 0)  # (F, 3) each
    box = (
        *(np.floor(rows.min(1)) - EDGE_TEXELS, np.ceil(rows.max(1)) + EDGE_TEXELS),
        *(np.floor(columns.min(1)) - EDGE_TEXELS, np.ceil(columns.max(1)) + EDGE_TEXELS),
    )
    opacity = appearance.opacity
    has_holes = _any_in_boxes(opacity < SOLID_OPACITY, *box)
    is_seen = _any_in_boxes(opacity >= FAINT_OPACITY, *box)
    is_veil = _any_in_boxes((opacity >= FAINT_OPACITY) & (opacity < SOLID_OPACITY), *box)
    kinds = [faces[~has_holes], faces[has_holes & is_seen & ~is_veil], faces[is_veil]]
    return DrawOrder(np.concatenate(kinds), len(kinds[0]), len(kinds[0]) + len(kinds[1]))


def _any_in_boxes(
    mask: np.ndarray, top: np.ndarray, bottom: np.ndarray, left: np.ndarray, right: np.ndarray
) -> np.ndarray:
    """Return whether any pixel of a mask (H, W) is set in boxes (F,), whose ends belong to them."""
    sums = np.zeros((mask.shape[0] + 1, mask.shape[1] + 1), np.int32)
    sums[1:, 1:] = mask.cumsum(0, dtype=np.int32).cumsum(1, dtype=np.int32)
    first_row, last_row = (x.clip(0, mask.shape[0]).astype(int) for x in (top, bottom + 1))
    first_column, last_column = (x.clip(0, mask.shape[1]).astype(int) for x in (left, right + 1))
    count = sums[last_row, last_column] - sums[first_row, last_column]
    count += sums[first_row, first_column] - sums[last_row, first_column]
    return np.asarray(count > 0)


def back_to_front(faces: np.ndarray, depth: np.ndarray) -> np.ndarray:
    """Return triangles (F, 3) by the mean of their corners' depth (C,), the nearest ones last."""
    return faces[np.argsort(depth[faces].sum(1), kind="stable")]
