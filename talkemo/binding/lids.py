"""Lids that close: fits the motion of the lids to the opening that there is on a mesh.

The canonical face's lids travel its own opening. On a mesh each blend shape changes the opening by
the same fraction as on the canonical face, in each column of it (face/openings.py). Coordinates
that close the canonical face's lids therefore close any mesh's, whatever else they contain.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from ..face.openings import EdgePoints, Lids, edge_points, face_lids
from ..geometry.numerics import smoothstep
from .body import Body
from .parts import eye_centres

SEARCH_MM = 9.0  # above and below the fitted lids, in which a mesh's opening is searched
SEARCH_DEPTH_MM = 7.0  # behind the fitted lids; what is deeper is a socket
MIN_GAP_MM = 0.4  # of an opening; smaller ones count as closed
MIN_OPEN_COLUMNS = 0.6  # fraction of the columns that must be open
# The correction is whole up to the first distance from the lid's edge, and ends at the second; the
# second grows with the correction, so that skin is not folded.
WHOLE_MM, REACH_MM, REACH_PER_CORRECTION = 2.0, 9.0, 1.6
CORRECTION_ROUNDS = 4
EYE_CLEARANCE_MM = 0.3  # between moving lids and the ball that their edges touch at rest
CLEARED_STEPS = (0.35, 0.5, 0.65, 0.8, 1.0)  # fractions of a blink at which this is checked
MAX_CLEARANCE_PUSH_MM = 3.0


@dataclass(frozen=True, eq=False)
class _MeshLids:
    """The opening of one eye of a mesh, in the columns of the canonical face's."""

    lids: Lids
    columns: np.ndarray  # (J,), columns in which the mesh is open
    upper: EdgePoints
    lower: EdgePoints


def fit_lids(body: Body) -> dict[str, float]:
    """Let the lids of a body meet where the canonical face's do.

    Returns the mean height in mm of the openings found, by side; meshes without openings, such as
    painted eyes, keep their motion.
    """
    heights = {}
    centres = eye_centres(body.face, body.fitted)
    for side, lids, centre in zip(("right", "left"), face_lids(body.face), centres):
        found = _find_opening(body, lids)
        if found is None:
            continue
        gap = found.upper.of(body.points)[:, 1] - found.lower.of(body.points)[:, 1]
        for _ in range(CORRECTION_ROUNDS):
            _correct(body, found, gap)
        _keep_off_eye(body, found, centre)
        heights[side] = float(gap.mean())
    return heights


# ------------------------------------------------------------------------------- finding the opening


def _find_opening(body: Body, lids: Lids) -> _MeshLids | None:
    """Return the opening of a body's skin near the fitted lids, or None if there is none."""
    top, bottom = lids.opening.upper.of(body.fitted), lids.opening.lower.of(body.fitted)
    low = np.minimum(top, bottom).min(0) - [1.0, SEARCH_MM, SEARCH_DEPTH_MM]
    high = np.maximum(top, bottom).max(0) + [1.0, SEARCH_MM, 2 * SEARCH_DEPTH_MM]
    near = body.skin & ((body.points > low) & (body.points < high)).all(1)
    faces = body.faces[near[body.faces].any(1) & body.skin[body.faces].all(1)]
    planes = (top[:, 0] + bottom[:, 0]) / 2
    columns, upper, lower = [], [], []
    for number, plane in enumerate(planes):
        depth = min(top[number, 2], bottom[number, 2]) - SEARCH_DEPTH_MM
        window = bottom[number, 1] - SEARCH_MM, top[number, 1] + SEARCH_MM
        found = _widest_gap(body.points, faces, plane, depth, window)
        if found is not None:
            columns.append(number)
            lower.append(found[0])
            upper.append(found[1])
    if len(columns) < MIN_OPEN_COLUMNS * len(planes):
        return None
    return _MeshLids(lids, np.array(columns), edge_points(upper), edge_points(lower))


Crossing = tuple[int, int, float]  # an edge's two vertices, and a position between them


def _widest_gap(
    points: np.ndarray, faces: np.ndarray, plane: float, depth: float, window: tuple[float, float]
) -> tuple[Crossing, Crossing] | None:
    """Return the points below and above the largest gap of a surface in the plane x = `plane`.

    What lies behind z = `depth`, or outside the window of y, does not count.
    """
    side = points[faces, 0] < plane
    cut = faces[side.any(1) & ~side.all(1)]
    if not len(cut):
        return None
    starts = cut[:, [0, 1, 2]].reshape(-1)
    ends = cut[:, [1, 2, 0]].reshape(-1)
    x0, x1 = points[starts, 0], points[ends, 0]
    crossing = (x0 < plane) != (x1 < plane)  # two of the three edges of each triangle
    starts, ends = starts[crossing], ends[crossing]
    fraction = (plane - x0[crossing]) / (x1 - x0)[crossing]
    position = points[starts] + fraction[:, None] * (points[ends] - points[starts])
    y, z = position[:, 1].reshape(-1, 2), position[:, 2].reshape(-1, 2)
    used = (z.max(1) > depth) & (y.max(1) > window[0]) & (y.min(1) < window[1])
    if used.sum() < 2:
        return None
    segments = np.flatnonzero(used)
    order = segments[np.argsort(y[segments].min(1))]
    top, top_row = -np.inf, -1
    best, rows = MIN_GAP_MM, None
    for segment in order:
        lower_row = 2 * segment + int(y[segment].argmin())
        if top_row >= 0 and y.flat[lower_row] - top > best:
            best, rows = y.flat[lower_row] - top, (top_row, lower_row)
        if y[segment].max() > top:
            top_row = 2 * segment + int(y[segment].argmax())
            top = y.flat[top_row]
    if rows is None:
        return None
    below, above = ((int(starts[r]), int(ends[r]), float(fraction[r])) for r in rows)
    return below, above


# ----------------------------------------------------------------------------- fitting the motion


def _correct(body: Body, found: _MeshLids, gap: np.ndarray) -> None:
    """Move the lids of a body by what they lack of the canonical lids' relative motion.

    gap : (J,) mm, height of the body's opening.
    """
    lids, columns = found.lids, found.columns
    for edge, motion, sign in ((found.upper, lids.upper, 1), (found.lower, lids.lower, -1)):
        wanted = motion[:, columns] * gap
        lacking = wanted - edge.of(body.targets)[..., 1]
        _spread(body, found, edge, sign, lacking)


def _spread(
    body: Body,
    found: _MeshLids,
    edge: EdgePoints,
    sign: int,
    lacking: np.ndarray,
) -> None:
    """Add a vertical correction (S, J) of an edge to the skin of its lid, fading from the edge.

    sign : 1 for the upper lid, which lies above the middle of the opening, -1 for the lower.
    """
    from scipy.spatial import cKDTree

    line = edge.of(body.points)
    middle = (found.upper.of(body.points) + found.lower.of(body.points)) / 2
    reach = max(REACH_MM, float(REACH_PER_CORRECTION * np.abs(lacking).max()))
    low, high = line.min(0) - reach, line.max(0) + reach
    rows = np.flatnonzero(body.skin & ((body.points > low) & (body.points < high)).all(1))
    points = body.points[rows]
    dense = _densify(line)
    distance = cKDTree(dense).query(points)[0]
    height = points[:, 1] - np.interp(points[:, 0], middle[:, 0], middle[:, 1])
    own = (sign * height > 0) & (distance < reach)
    rows, points, distance = rows[own], points[own], distance[own]
    weight = smoothstep((reach - distance) / max(reach - WHOLE_MM, 1e-6))
    beyond = np.maximum(line[0, 0] - points[:, 0], points[:, 0] - line[-1, 0])
    span = line[-1, 0] - line[0, 0]
    weight *= smoothstep(1 - np.maximum(beyond, 0) / (0.12 * span))
    # Between columns the correction is interpolated, beyond the last ones it is theirs.
    place = np.interp(points[:, 0], line[:, 0], np.arange(len(line)))
    column = np.minimum(place.astype(int), len(line) - 2)
    share = place - column
    along = lacking[:, column] * (1 - share) + lacking[:, column + 1] * share
    body.targets[:, rows, 1] += (weight * along).astype(np.float32)


def _densify(line: np.ndarray, per_segment: int = 6) -> np.ndarray:
    """Return points (P, 3) on a polyline (J, 3)."""
    steps = np.linspace(0, 1, per_segment, endpoint=False)[:, None]
    pieces = [a + steps * (b - a) for a, b in zip(line[:-1], line[1:])]
    return np.concatenate([*pieces, line[-1:]])


def _keep_off_eye(body: Body, found: _MeshLids, centre: np.ndarray) -> None:
    """Let blinking lids slide over the eyeball: a straight path would lead through it.

    The ball around `centre` (3,) is the one that the lids' edges touch at rest.
    """
    edges = np.concatenate([found.upper.of(body.points), found.lower.of(body.points)])
    radius = float(np.quantile(np.linalg.norm(edges - centre, axis=1), 0.25))
    near = body.skin & (np.linalg.norm(body.points - centre, axis=1) < 2 * radius)
    rows = np.flatnonzero(near)
    points, moved = body.points[rows] - centre, body.targets[found.lids.blink, rows]
    outside = (np.linalg.norm(points, axis=1) > radius - EYE_CLEARANCE_MM) & (points[:, 2] > 0)
    outside &= np.abs(moved).max(1) > 0.1
    rows, points, moved = rows[outside], points[outside], moved[outside]
    push = np.zeros(len(rows))
    for step in CLEARED_STEPS:
        at = points + step * moved
        flat = np.square(at[:, :2]).sum(1)
        surface = np.sqrt(np.maximum((radius + EYE_CLEARANCE_MM) ** 2 - flat, 0))
        push = np.maximum(push, (surface - at[:, 2]) / step)
    push = np.clip(push, 0, MAX_CLEARANCE_PUSH_MM)
    body.targets[found.lids.blink, rows, 2] += push.astype(np.float32)
