"""Where the skin of a mesh goes on behind the lips: its own inside of the mouth."""

from __future__ import annotations

import numpy as np
import scipy

from ..geometry.meshes import mesh_edges
from .depth import foremost_depth

# All lengths in canonical mm. Skin this far behind the line where the lips meet may lie inside.
BEHIND_LIPS_MM, DEPTH_MM = 3.0, 120.0
# By which other skin must lie before it, as seen from the front; and skin within GAP_SAMPLES, as
# closed lips may leave a gap.
HIDDEN_MM, FAR_HIDDEN_MM, GAP_SAMPLES = 3.0, 15.0, 5
# Of the box it lies in: half its width and its height above the lips, in widths of the mouth; and
# below the chin.
HALF_WIDTH, ABOVE_WIDTHS, BELOW_CHIN_MM = 1.0, 0.9, 10.0
MIN_DEPTH_MM = 15.0  # what is less deep is the inner side of lips
IMAGE_SIDE = 160  # samples of the image from the front


def inside_of_mouth(points: np.ndarray, faces: np.ndarray, landmarks: np.ndarray) -> np.ndarray:
    """Return which vertices (N,) bool of a skin lie in the mouth, behind the inner sides of lips.

    Parameters
    ----------
    points : (N, 3)
        The mesh at rest in canonical mm; the face looks along +z.
    faces : (F, 3)
        Triangles of the skin.
    landmarks : (68, 3)
        iBUG landmarks.
    """
    result = np.zeros(len(points), bool)
    lips = landmarks[60:68]
    order = np.argsort(lips[:, 0])
    x, y, z = points.T
    depth = np.interp(x, lips[order, 0], lips[order, 2]) - z
    middle, width = lips.mean(0), float(np.ptp(lips[:, 0]))
    near = np.abs(x - middle[0]) < HALF_WIDTH * width
    near &= (y > landmarks[8, 1] - BELOW_CHIN_MM) & (y < middle[1] + ABOVE_WIDTHS * width)
    candidates = near & (depth > BEHIND_LIPS_MM) & (depth < DEPTH_MM)
    around = faces[near[faces].any(1) & (depth < DEPTH_MM)[faces].all(1)]
    if not candidates[around].any():
        return result
    candidates[candidates] = _hidden_from_front(points, around, np.flatnonzero(candidates))
    edges, _ = mesh_edges(faces[candidates[faces].any(1)])
    edges = edges[candidates[edges].all(1)]
    graph = scipy.sparse.csr_matrix((np.ones(len(edges)), edges.T), (len(points), len(points)))
    _, component = scipy.sparse.csgraph.connected_components(graph, directed=False)
    begins = candidates & (np.abs(depth) < MIN_DEPTH_MM) & (np.abs(y - middle[1]) < width / 2)
    deep = candidates & (depth > MIN_DEPTH_MM)
    result[candidates] = np.isin(
        component[candidates], np.intersect1d(component[begins], component[deep])
    )
    return result


def _hidden_from_front(points: np.ndarray, faces: np.ndarray, rows: np.ndarray) -> np.ndarray:
    """Return which vertices (R,) triangles hide, as seen from the front."""
    used = points[np.unique(faces)]
    low, size = used.min(0), float(np.ptp(used[:, :2], axis=0).max())
    scale = (IMAGE_SIDE - 2) / max(size, 1e-9)
    screen = (points - low) * [scale, scale, 1] + [1, 1, 0]
    column, row = screen[rows, :2].round().astype(int).clip(0, IMAGE_SIDE - 1).T
    foremost = foremost_depth(screen, faces, IMAGE_SIDE)
    nearby = scipy.ndimage.maximum_filter(foremost, GAP_SAMPLES)
    z = screen[rows, 2]
    hidden = z < foremost[row, column] - HIDDEN_MM
    return np.asarray(hidden | (z < nearby[row, column] - FAR_HIDDEN_MM))
