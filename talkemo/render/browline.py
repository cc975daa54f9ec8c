"""Where a head's brows lie: along its own brow ridge, seen from the front."""

from __future__ import annotations

import numpy as np

from ..face.canonical import BROWS

UPPER_LIDS = (slice(37, 39), slice(43, 45))  # iBUG landmarks; the second is the left eye's
# The iBUG landmarks lie on a brow's upper edge, its middle lies lower: a face tracker then sees
# resting brows as neither raised nor lowered. By how much without a ridge, and the limits with one,
# as shares of the landmarks' height over the upper lid.
BROW_DROP, LEAST_BROW_DROP, MOST_BROW_DROP = 0.33, 0.15, 0.42
# Brows begin this far beside the middle of the face, as a share of the eyes' inner corners'.
BROW_START = 0.62
LINE_POINTS = 9
# Box of a brow that is a mesh: around its landmarks, and by how much of their width it is as wide.
BESIDE_BROW_MM, BELOW_BROW_MM, ABOVE_BROW_MM = 8.0, 12.0, 12.0
BROW_WIDTH_SHARE, FLOATS_MM = 0.5, 12.0
# The ridge is sought in profiles from the lid's fold, which bulges too, to the forehead: their ends
# as shares of the landmarks' height, their step, how far a ridge stands out, and in how many
# profiles of both brows.
PROFILE_ENDS, STEP_MM = (0.4, 1.9), 0.5
BELOW_RIDGE = 0.1  # of a brow's middle, as a share of the landmarks' height
RIDGE_MM, PROFILES, LEAST_RIDGES = 1.2, 6, 9


def brow_lines(landmarks: np.ndarray, surface: np.ndarray | None = None) -> dict[bool, np.ndarray]:
    """Return the middle lines (9, 2) of the brows in canonical mm, from the lower to the higher x.

    Keys tell whether it is the left eye's brow, at positive x. A brow whose landmarks tell no line
    is left out.

    Parameters
    ----------
    landmarks : (68, 3)
        iBUG landmarks.
    surface : (F, 3, 3), optional
        Corners of the skin's triangles, whose ridge is followed.
    """
    lines = {left: _arch(landmarks[:, :2], left) for left in (False, True)}
    found = {left: line for left, line in lines.items() if line is not None}
    height = np.median([_height(landmarks, left) for left in (False, True)])
    drop = BROW_DROP * height
    if surface is not None and found:
        ridge = _ridge_drop(landmarks, surface, found, height)
        drop = drop if ridge is None else ridge
    return {left: line - [0, drop] for left, line in found.items()}


def own_brows(
    points: np.ndarray, faces: np.ndarray, pieces: np.ndarray, landmarks: np.ndarray
) -> np.ndarray:
    """Return which vertices (N,) belong to brows that are meshes of their own, over the skin.

    Parameters
    ----------
    points : (N, 3)
        The mesh at rest, in canonical mm.
    faces : (F, 3)
        Triangles of its skin.
    pieces : (N,)
        Number of the connected piece that each vertex belongs to.
    landmarks : (68, 3)
        iBUG landmarks.
    """
    found = np.zeros(len(points), bool)
    for rows in BROWS:
        brow = landmarks[rows]
        above = points[:, 1] - np.interp(points[:, 0], brow[:, 0], brow[:, 1])
        beside = np.abs(points[:, 0] - brow[:, 0].mean()) - np.ptp(brow[:, 0]) / 2
        near = (above > -BELOW_BROW_MM) & (above < ABOVE_BROW_MM) & (beside < BESIDE_BROW_MM)
        outside = np.bincount(pieces, ~near) > 0
        of_brow = ~outside[pieces]
        if of_brow.any() and _lies_over_skin(points, faces, of_brow, np.ptp(brow[:, 0])):
            found |= of_brow
    return found


def _lies_over_skin(
    points: np.ndarray, faces: np.ndarray, of_brow: np.ndarray, width: float
) -> bool:
    """Whether vertices (N,) bool are wide enough for a brow and lie close over other skin."""
    brow, skin = points[of_brow], points[faces[~of_brow[faces].any(1)]]
    if np.ptp(brow[:, 0]) < BROW_WIDTH_SHARE * width:
        return False
    samples = brow[np.linspace(0, len(brow) - 1, PROFILES).astype(int)]
    under = [_profile(skin, x, np.array([y]))[0] for x, y, _ in samples]
    return bool((np.abs(samples[:, 2] - under) < FLOATS_MM).all())  # nan where there is none


def _height(landmarks: np.ndarray, left: bool) -> float:
    """Return how high a brow's landmarks lie over the upper lid."""
    lid = landmarks[UPPER_LIDS[left], 1].mean()
    return max(float(np.median(landmarks[BROWS[left], 1]) - lid), 0.0)


def _arch(marks: np.ndarray, left: bool) -> np.ndarray | None:
    """Return the smooth line (9, 2) through a brow's landmarks, without what crosses the nose."""
    brow = marks[BROWS[left]]
    # Vertices near five landmarks form a jagged line, and on a coarse mesh they coincide.
    distinct = len(np.unique(brow[:, 0].round(3)))
    if distinct < 2:
        return None
    middle = marks[[39, 42], 0].mean()
    start = BROW_START * np.abs(marks[[39, 42], 0] - middle).mean()
    low, high = brow[:, 0].min(), brow[:, 0].max()
    low, high = (max(low, middle + start), high) if left else (low, min(high, middle - start))
    if high <= low:
        return None
    arch = np.polyfit(brow[:, 0] - brow[2, 0], brow[:, 1], min(2, distinct - 1))
    across = np.linspace(low, high, LINE_POINTS)
    return np.column_stack([across, np.polyval(arch, across - brow[2, 0])])


def _ridge_drop(
    landmarks: np.ndarray, surface: np.ndarray, lines: dict[bool, np.ndarray], height: float
) -> float | None:
    """Return how far the ridge lies below the landmarks' lines; None for a face without a ridge."""
    drops = []
    for left, line in lines.items():
        lid = landmarks[UPPER_LIDS[left], 1].mean()
        low, high = lid + np.array(PROFILE_ENDS) * height
        heights = np.arange(low, high, STEP_MM)
        for x in np.linspace(line[0, 0], line[-1, 0], PROFILES + 2)[1:-1]:
            ridge = _ridge(heights, _profile(surface, x, heights))
            if ridge is not None:
                drops.append(np.interp(x, *line.T) - ridge)
    if len(drops) < LEAST_RIDGES:
        return None
    drop = np.median(drops) + BELOW_RIDGE * height
    return float(np.clip(drop, LEAST_BROW_DROP * height, MOST_BROW_DROP * height))


def _ridge(heights: np.ndarray, depths: np.ndarray) -> float | None:
    """Return the height at which a profile (H,), (H,) stands out most from its chord."""
    known = np.isfinite(depths)
    if known.sum() < 3:
        return None
    y, z = heights[known], depths[known]
    bulge = z - np.interp(y, y[[0, -1]], z[[0, -1]])
    return float(y[bulge.argmax()]) if bulge.max() > RIDGE_MM else None


def _profile(surface: np.ndarray, x: float, heights: np.ndarray) -> np.ndarray:
    """Return the foremost depth (H,) of triangles at one x and heights (H,); nan beside them."""
    flat = surface[:, :, :2]
    near = (flat[..., 0].min(1) <= x) & (flat[..., 0].max(1) >= x)
    near &= (flat[..., 1].max(1) >= heights[0]) & (flat[..., 1].min(1) <= heights[-1])
    a, b, c = (surface[near, k][:, None] for k in range(3))
    area = (b - a)[..., 0] * (c - a)[..., 1] - (c - a)[..., 0] * (b - a)[..., 1]
    area = np.where(np.abs(area) < 1e-9, np.inf, area)  # seen from their edge
    u = ((b[..., 0] - x) * (c[..., 1] - heights) - (c[..., 0] - x) * (b[..., 1] - heights)) / area
    v = ((c[..., 0] - x) * (a[..., 1] - heights) - (a[..., 0] - x) * (c[..., 1] - heights)) / area
    w = np.where(np.isinf(area), -1, 1 - u - v)
    inside = np.minimum(np.minimum(u, v), w) >= -1e-6
    depth = np.where(inside, u * a[..., 2] + v * b[..., 2] + w * c[..., 2], -np.inf)
    foremost = depth.max(0, initial=-np.inf)
    return np.where(np.isfinite(foremost), foremost, np.nan)
