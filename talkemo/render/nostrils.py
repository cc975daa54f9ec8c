"""How dark the nostrils of a mesh are: neither renderer casts shadows, so they would be lit."""

from __future__ import annotations

import numpy as np
from scipy.spatial.transform import Rotation

from ..geometry.meshes import vertex_normals
from ..geometry.numerics import smoothstep
from .depth import foremost_depth
from .raster import EMPTY_DEPTH

# Degrees to the side and upwards, from where the nose is looked at.
YAWS, PITCHES = (-60, -30, 0, 30, 60), (-50, -30, -10, 10, 30, 50)
IMAGE_SIDE = 120  # samples
AROUND_NOSE_MM = 30.0  # what may hide a nostril
BEHIND_MM = 1.0  # so far behind the foremost surface a vertex is hidden
DARK_SHARE, LIT_SHARE = 0.3, 0.8  # shares of directions from which a vertex is seen
# Box of the nostrils around the landmarks of the nose.
BESIDE_MM, BELOW_MM, BEHIND_NOSE_MM = 2.0, 5.0, 30.0
FACING = 0.1  # least cosine between a vertex's normal and the direction it is looked at from


def nostril_light(points: np.ndarray, faces: np.ndarray, landmarks: np.ndarray) -> np.ndarray:
    """Return the share of light (N,), from 0 to 1, that reaches each vertex; 1 beside the nostrils.

    Parameters
    ----------
    points : (N, 3)
        The mesh at rest in canonical mm.
    faces : (F, 3)
    landmarks : (68, 3)
        iBUG landmarks.
    """
    light = np.ones(len(points))
    wings, base = landmarks[[31, 35]], landmarks[33]
    low = np.array([wings[:, 0].min() - BESIDE_MM, base[1] - BELOW_MM, base[2] - BEHIND_NOSE_MM])
    high = np.array([wings[:, 0].max() + BESIDE_MM, landmarks[30, 1], landmarks[30, 2]])
    around = faces[_within(points, low - AROUND_NOSE_MM, high + AROUND_NOSE_MM)[faces].all(1)]
    inside = np.intersect1d(np.flatnonzero(_within(points, low, high)), around)
    if not len(inside):
        return light
    rows, local = np.unique(around, return_inverse=True)
    share = _seen_share(points[rows], local.reshape(-1, 3))
    chosen = np.searchsorted(rows, inside)
    light[inside] = smoothstep((share[chosen] - DARK_SHARE) / (LIT_SHARE - DARK_SHARE))
    return light


def _within(points: np.ndarray, low: np.ndarray, high: np.ndarray) -> np.ndarray:
    """Return which points (N,) lie in a box."""
    return np.asarray(((points > low) & (points < high)).all(1))


def _seen_share(points: np.ndarray, faces: np.ndarray) -> np.ndarray:
    """Return of the directions that each vertex (N,) faces the share from which it is seen."""
    normals = vertex_normals(points, faces)
    centred = points - (points.min(0) + points.max(0)) / 2
    scale = 0.48 * IMAGE_SIDE / np.linalg.norm(centred, axis=1).max()
    seen, faced = np.zeros(len(points)), np.zeros(len(points))
    for yaw in YAWS:
        for pitch in PITCHES:
            turn = Rotation.from_euler("xy", [pitch, -yaw], degrees=True).as_matrix()
            turned = centred @ turn.T
            screen = turned * [scale, -scale, 1] + [IMAGE_SIDE / 2, IMAGE_SIDE / 2, 0]
            column, row = screen[:, :2].round().astype(int).T
            foremost = foremost_depth(screen, faces, IMAGE_SIDE)[row, column]
            visible = (turned[:, 2] > foremost - BEHIND_MM) | (foremost <= EMPTY_DEPTH)
            facing = (normals @ turn.T)[:, 2] > FACING
            seen += visible & facing
            faced += facing
    return np.where(faced > 0, seen / np.maximum(faced, 1), 0)
