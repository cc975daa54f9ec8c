"""The depth of a mesh's foremost surface in an image, by which hidden vertices are found."""

from __future__ import annotations

import numpy as np

from .raster import draw_band


def foremost_depth(screen: np.ndarray, faces: np.ndarray, side: int) -> np.ndarray:
    """Return the depth (side, side) float32 of the foremost surface; EMPTY_DEPTH where none is.

    Parameters
    ----------
    screen : (N, 3)
        Column, row and depth of the vertices; larger depth is nearer.
    faces : (F, 3)
    side : int
        Width and height of the image.
    """
    triangles = np.ascontiguousarray(faces, np.int32)
    members = np.arange(len(triangles), dtype=np.int32)
    opaque = (np.full((1, 1), 255, np.uint8), len(triangles))
    values = np.zeros((len(screen), 5), np.float32)
    depth = np.empty((side, side), np.float32)
    image = np.empty((side, side, 5), np.float32)
    corners = np.ascontiguousarray(screen, np.float32)
    draw_band(corners, values, triangles, members, 0, opaque, depth, image)
    return depth
