"""Lids that close: fits the motion of the lids to the opening that there is on a mesh.

The canonical face's lids travel its own opening. On a mesh each blend shape changes the opening by
the same fraction as on the canonical face, in each column of it (face/openings.py). Coordinates
that close the canonical face's lids therefore close any mesh's, whatever else they contain.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import pairwise

import numpy as np

from ..face.canonical import EYEBALL_RADIUS_MM
from ..face.openings import EdgePoints, Lids, edge_points, face_lids, face_lips
from ..geometry.meshes import mesh_edges
from ..geometry.numerics import smoothstep
from .body import Body
from .eyeballs import Ball
from .features import Features
from .lid_sheet import lid_contours, sheet_between_lids
from .mouth import mouth_size
from .strain import limit_strain

SEARCH_MM = 9.0  # above and below the fitted lids, in which a mesh's opening is searched
SEARCH_DEPTH_MM = 7.0  # behind the fitted lids; what is deeper is a socket
MIN_GAP_MM, MIN_LIP_GAP_MM = 0.4, 0.05  # of lids and lips that count as open
MIN_OPEN_COLUMNS = 0.6  # fraction of the columns that must be open
# Planes between an eye's outermost column (1) and its corner (0), and beyond: a mesh's corner may lie
# elsewhere than the fitted one.
CORNER_PLANES = (-0.8, -0.4, 0.0, 0.25, 0.5, 0.75)
# Distances from the edge of a lid: up to WHOLE_MM its skin moves as the edge does, from MARGIN_MM on
# as the canonical skin does with a correction, which ends at the reach. That is larger for a large
# opening, so that the skin is not folded.
WHOLE_MM, MARGIN_MM, REACH_MM, REACH_PER_GAP = 1.0, 3.0, 9.0, 1.0
DEPTH_SHARE = 0.5  # of depth in these distances: a thick lid moves as one from back to front
CORNER_FADING = 0.25  # of the width of the eye, over which corrections end beyond the corners
CORRECTION_ROUNDS = 4
EDGE_SMOOTHING_ROUNDS = 2
STRAIN_RADII = 2.0  # of the eyeball, around its centre, in which the skin's strain is limited again
MIN_EYE_RATIO = 1.1  # least radius of the eyeball that the lids slide over, relative to the distance of the lids' edges from its axis
# Where the mesh has no eyeball: fraction of the lids' edges that may lie in it, of those this far
# from the corners, by the width of the eye.
TOUCHING_QUANTILE, TOUCHING_MARGIN = 0.85, 0.2
EYE_CLEARANCE_MM = 0.5  # between it and closed lids
# Fraction of the width at either corner over which a lid's margin begins to move as one and to slide
# over the eyeball.
SLIDE_MARGIN = 0.15
CLEARED_STEPS = (0.35, 0.5, 0.65, 0.8, 1.0)  # fractions of a blink at which lids are checked
MIN_CLEARED_MOTION_MM, MAX_PUSH_MM = 0.1, 1.5
MIN_CLOSING = 0.02  # fraction of the opening; blend shapes that close less do not slide


@dataclass(frozen=True, eq=False)
class _MeshLids:
    """The opening of one eye of a mesh, in J planes from corner to corner."""

    lids: Lids
    columns: np.ndarray  # (J,), the canonical face's columns that are closest to the planes
    position: np.ndarray  # (J,), of the planes, see `Opening.position`
    upper: EdgePoints
    lower: EdgePoints


def fit_lids(
    body: Body, features: Features, balls: Sequence[Ball | None] = (None, None)
) -> dict[str, float]:
    """Let the lids of a body meet where the canonical face's do, and slide over its eyeballs.

    `balls` are the right and the left eyeball, None where the body has none. Returns the mean height in mm of the openings found, by side; meshes without openings, such as
    painted eyes, keep their motion.
    """
    heights, contours = {}, lid_contours(body)
    for eye, (side, lids, centre, own) in enumerate(
        zip(("right", "left"), face_lids(body.face), features.eye_centres, balls)
    ):
        found = _find_lids(body, lids)
        if found is None and own is None:
            found = _open_sheet(body, lids, eye, contours[eye])
        if found is None:
            continue
        gap = found.upper.of(body.points)[:, 1] - found.lower.of(body.points)[:, 1]
        ball = _touching_ball(body, found, centre) if own is None else _Ball(own.centre, own.radius)
        ball = replace(ball, radius=ball.radius + EYE_CLEARANCE_MM)
        zones = _lid_zone(body, found, found.upper, 1), _lid_zone(body, found, found.lower, -1)
        for _ in range(CORRECTION_ROUNDS):
            _correct(body, found, zones, gap, ball)
        _keep_off_ball(body, found, zones, ball)
        near = np.linalg.norm(body.points - ball.centre, axis=1) < STRAIN_RADII * ball.radius
        limit_strain(body, _edges_of_skin(body, near & body.skin))
        heights[side] = float(gap.mean())
    return heights


def lip_gap(body: Body) -> np.ndarray:
    """Return the height (J,) of a body's mouth at rest in the columns of `face_lips`.

    In mm of the canonical face's mouth; 0 where the lips touch.
    """
    opening = face_lips(body.face)
    lips = _FittedEdges(opening.upper.of(body.fitted), opening.lower.of(body.fitted))
    columns, upper, lower = _find_opening(body, lips, MIN_LIP_GAP_MM)
    height = np.zeros(len(opening.position), np.float32)
    height[columns] = (upper.of(body.points) - lower.of(body.points))[:, 1]
    return height / np.float32(mouth_size(body.face, body.fitted))


# ------------------------------------------------------------------------------- finding the opening


@dataclass(frozen=True, eq=False)
class _FittedEdges:
    """Points (J, 3) of the edges of an opening on the fitted face."""

    upper: np.ndarray
    lower: np.ndarray


def _find_lids(body: Body, lids: Lids) -> _MeshLids | None:
    """Return the opening of one of a body's eyes; None if it is not open along most of it."""
    position = lids.opening.position
    first = position[0]
    towards_corner = first * np.array(CORNER_PLANES)
    planes = np.concatenate([towards_corner, position, 1 - towards_corner[::-1]])
    edges = _FittedEdges(
        *(
            _extrapolated(edge.of(body.fitted), position, planes)
            for edge in (lids.opening.upper, lids.opening.lower)
        )
    )
    found, upper, lower = _find_opening(body, edges, MIN_GAP_MM)
    columns = np.clip(found - len(CORNER_PLANES), 0, len(position) - 1)
    if len(np.unique(columns)) < MIN_OPEN_COLUMNS * len(position):
        return None
    return _MeshLids(lids, columns, planes[found], upper, lower)


def _open_sheet(body: Body, lids: Lids, eye: int, contour: np.ndarray) -> _MeshLids | None:
    """Return the opening of an eye that a sheet closes, without the sheet; None if there is none."""
    skin = body.skin[body.faces].all(1)
    before = body.sheet.copy()
    body.sheet[skin] |= sheet_between_lids(body.points, body.faces[skin], contour)
    found = _find_lids(body, lids)
    if found is None:
        body.sheet = before
    else:
        body.lid_contours[eye] = contour
    return found


def _edges_of_skin(body: Body, rows: np.ndarray) -> np.ndarray:
    """Return the edges (E, 2) between some vertices (N,) bool that no sheet alone has."""
    edges = body.edges[rows[body.edges].all(1)]
    if not body.sheet.any():
        return edges
    kept, _ = mesh_edges(body.faces[~body.sheet])
    count = len(body.points)
    return edges[np.isin(edges @ [count, 1], kept @ [count, 1])]


def _extrapolated(points: np.ndarray, position: np.ndarray, wanted: np.ndarray) -> np.ndarray:
    """Return points (K, 3) at wanted positions (K,), from those (J, 3) at positions (J,).

    Beyond them x goes on as before; y and z stay.
    """
    result = np.stack([np.interp(wanted, position, axis) for axis in points.T], axis=1)
    for end, inner in ((0, 2), (-1, -3)):
        slope = (points[end, 0] - points[inner, 0]) / (position[end] - position[inner])
        beyond = wanted < position[0] if end == 0 else wanted > position[-1]
        result[beyond, 0] += slope * (wanted[beyond] - position[end])
    return result


def _find_opening(
    body: Body, fitted: _FittedEdges, min_gap: float
) -> tuple[np.ndarray, EdgePoints, EdgePoints]:
    """Return the opening of a body's skin near a fitted one.

    Returns
    -------
    columns : (K,)
        The columns in which the skin is open by at least `min_gap` mm.
    upper, lower : EdgePoints
        The edges in these columns.
    """
    top, bottom = fitted.upper, fitted.lower
    low = np.minimum(top, bottom).min(0) - np.array([1.0, SEARCH_MM, SEARCH_DEPTH_MM])
    high = np.maximum(top, bottom).max(0) + np.array([1.0, SEARCH_MM, 2 * SEARCH_DEPTH_MM])
    near = body.skin & ((body.points > low) & (body.points < high)).all(1)
    of_skin = body.skin[body.faces].all(1) & ~body.sheet
    faces = body.faces[near[body.faces].any(1) & of_skin]
    columns, upper, lower = [], [], []
    for number, plane in enumerate((top[:, 0] + bottom[:, 0]) / 2):
        depth = min(top[number, 2], bottom[number, 2]) - SEARCH_DEPTH_MM
        window = bottom[number, 1] - SEARCH_MM, top[number, 1] + SEARCH_MM
        found = _widest_gap(body.points, faces, plane, depth, window, min_gap)
        if found is not None:
            columns.append(number)
            lower.append(found[0])
            upper.append(found[1])
    return np.array(columns, int), edge_points(upper), edge_points(lower)


Crossing = tuple[int, int, float]  # an edge's two vertices, and a position between them


def _widest_gap(
    points: np.ndarray,
    faces: np.ndarray,
    plane: float,
    depth: float,
    window: tuple[float, float],
    min_gap: float,
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
    best, rows = min_gap, None
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


def _correct(
    body: Body, found: _MeshLids, zones: tuple[_LidZone, _LidZone], gap: np.ndarray, ball: _Ball
) -> None:
    """Move the lids of a body by what they lack of the canonical lids' relative motion.

    `zones` are the upper and the lower lid's; `gap` (J,) is the height of the body's opening in mm.
    """
    lids, columns = found.lids, found.columns
    edges, motions = (found.upper, found.lower), (lids.upper, lids.lower)
    both = [edge.of(body.targets) for edge in edges]  # (S, J, 3) each
    # Points that meet stay opposite each other: shifted apart, they would miss where lids rise.
    sideways = _smoothed((both[0] + both[1]) / 2)[..., 0]
    closes = (lids.change < -MIN_CLOSING)[:, None]
    for edge, motion, zone, present in zip(edges, motions, zones, both):
        wanted = _smoothed(present)
        wanted[..., 0] = np.where(closes, sideways, wanted[..., 0])
        wanted[..., 1] = motion[:, columns] * gap
        outwards = _slide(ball, edge.of(body.points), wanted[..., 1], lids.change)
        from_corner = np.minimum(found.position, 1 - found.position)
        in_middle = smoothstep(from_corner / SLIDE_MARGIN)
        wanted[..., 2] += in_middle * np.maximum(outwards - wanted[..., 2], 0)
        missing = wanted - present
        for k, target in enumerate(body.targets):
            moved = target[zone.rows] + zone.fading[:, None] * zone.along(missing[k])
            difference = zone.along(wanted[k]) - moved
            difference[:, 2] = np.maximum(difference[:, 2], 0)  # the front of a lid swings out
            target[zone.rows] = moved + zone.at_edge[:, None] * difference


def _smoothed(values: np.ndarray) -> np.ndarray:
    """Return values (S, J, 3) averaged over neighbouring columns."""
    for _ in range(EDGE_SMOOTHING_ROUNDS):
        padded = np.concatenate([values[:, :1], values, values[:, -1:]], axis=1)
        values = (padded[:, :-2] + 2 * padded[:, 1:-1] + padded[:, 2:]) / 4
    return values


@dataclass(frozen=True, eq=False)
class _LidZone:
    """The skin around the edge of one lid."""

    rows: np.ndarray  # (R,), its vertices
    at_edge: np.ndarray  # (R,), 1 on the lid's margin, which moves as one, 0 beyond
    fading: np.ndarray  # (R,), 1 at the edge, 0 at the end of the zone
    column: np.ndarray  # (R,), the last column before each vertex
    share: np.ndarray  # (R,), position between this column and the next

    def along(self, values: np.ndarray) -> np.ndarray:
        """Interpolate values (J, 3) of columns at the vertices, (R, 3) float32."""
        share, column = self.share[:, None], self.column
        result = values[column] * (1 - share) + values[column + 1] * share
        return result.astype(np.float32)


def _lid_zone(body: Body, found: _MeshLids, edge: EdgePoints, sign: int) -> _LidZone:
    """Return the skin of a lid; `sign` is 1 for the upper one, -1 for the lower."""
    from scipy.spatial import cKDTree

    line = edge.of(body.points)
    middle = (found.upper.of(body.points) + found.lower.of(body.points)) / 2
    height = (found.upper.of(body.points) - found.lower.of(body.points))[:, 1].max()
    reach = max(REACH_MM, REACH_PER_GAP * float(height))
    low, high = line.min(0) - reach, line.max(0) + reach
    rows = np.flatnonzero(body.skin & ((body.points > low) & (body.points < high)).all(1))
    across = np.array([1, 1, DEPTH_SHARE])
    distance = cKDTree(_densify(line) * across).query(body.points[rows] * across)[0]
    x, y = body.points[rows, 0], body.points[rows, 1]
    own = (sign * (y - np.interp(x, middle[:, 0], middle[:, 1])) > 0) & (distance < reach)
    rows, x, distance = rows[own], x[own], distance[own]
    beyond = np.maximum(np.maximum(line[0, 0] - x, x - line[-1, 0]), 0)
    inside = smoothstep(1 - beyond / (CORNER_FADING * (line[-1, 0] - line[0, 0])))
    place = np.interp(x, line[:, 0], np.arange(len(line)))
    column = np.minimum(place.astype(int), len(line) - 2)
    position = np.interp(x, line[:, 0], found.position)
    off_corner = smoothstep(np.minimum(position, 1 - position) / SLIDE_MARGIN)
    return _LidZone(
        rows,
        inside * off_corner * smoothstep((MARGIN_MM - distance) / (MARGIN_MM - WHOLE_MM)),
        inside * smoothstep((reach - distance) / (reach - WHOLE_MM)),
        column,
        place - column,
    )


def _densify(line: np.ndarray, per_segment: int = 6) -> np.ndarray:
    """Return points (P, 3) on a polyline (J, 3)."""
    steps = np.linspace(0, 1, per_segment, endpoint=False)[:, None]
    pieces = [a + steps * (b - a) for a, b in pairwise(line)]
    return np.concatenate([*pieces, line[-1:]])


# --------------------------------------------------------------------------------- the eyeball


@dataclass(frozen=True, eq=False)
class _Ball:
    """The eyeball that may lie behind the lids, in canonical mm."""

    centre: np.ndarray  # (3,)
    radius: float

    def front(self, flat: np.ndarray) -> np.ndarray:
        """Return z (...) of its surface at x and y (..., 2); of its middle beside it."""
        from_centre = np.square(flat - self.centre[:2]).sum(-1)
        return self.centre[2] + np.sqrt(np.maximum(self.radius**2 - from_centre, 0))


def _touching_ball(body: Body, found: _MeshLids, centre: np.ndarray) -> _Ball:
    """Return the ball around x and y of `centre` (3,) that touches the lids' edges from behind."""
    middle = np.minimum(found.position, 1 - found.position) > TOUCHING_MARGIN
    edges = np.concatenate([edge.of(body.points)[middle] for edge in (found.upper, found.lower)])
    wide = np.linalg.norm((edges - centre)[:, :2], axis=1).max()
    ball = _Ball(np.array([*centre[:2], 0.0]), max(EYEBALL_RADIUS_MM, MIN_EYE_RATIO * float(wide)))
    depth = np.quantile(edges[:, 2] - ball.front(edges[:, :2]), TOUCHING_QUANTILE)
    return _Ball(np.array([*centre[:2], depth]), ball.radius)


def _slide(ball: _Ball, edge: np.ndarray, rise: np.ndarray, change: np.ndarray) -> np.ndarray:
    """Return the motion (S, J) along z that keeps an edge (J, 3) in front of a ball.

    rise (S, J) mm is its vertical motion, and `change` (S,) the relative one of the opening. The
    motion of closed lids is the sum of several blend shapes', so each contributes what it closes.
    """
    closing = np.maximum(-change, 0)[:, None]
    closed = edge[:, 1] + rise / np.maximum(closing, MIN_CLOSING)
    height = np.clip(closed, edge[:, 1].min() - ball.radius / 2, edge[:, 1].max() + ball.radius / 2)
    flat = np.stack([np.broadcast_to(edge[:, 0], height.shape), height], axis=-1)
    outwards = closing * np.maximum(ball.front(flat) - edge[:, 2], 0)
    return np.where(closing > MIN_CLOSING, outwards, -np.inf)


def _keep_off_ball(
    body: Body, found: _MeshLids, zones: tuple[_LidZone, _LidZone], ball: _Ball
) -> None:
    """Let blinking lids slide over the eyeball: a straight path would lead through it.

    The lids' margins move with their edges, see `_slide`; this is for the skin above and below.
    """
    blink = body.targets[found.lids.blink]
    from_centre = np.linalg.norm(body.points - ball.centre, axis=1)
    near = body.skin & (from_centre < 2 * ball.radius)
    near &= np.abs(blink).max(1) > MIN_CLEARED_MOTION_MM
    near &= body.points[:, 2] > ball.front(body.points[:, :2])
    at_edge = np.zeros(len(body.points))
    for zone in zones:
        at_edge[zone.rows] = np.maximum(at_edge[zone.rows], zone.at_edge)
    rows = np.flatnonzero(near)
    points, motion, push = body.points[rows], blink[rows], np.zeros(len(rows))
    for step in CLEARED_STEPS:
        at = points + step * motion
        push = np.maximum(push, (ball.front(at[:, :2]) - at[:, 2]) / step)
    push = np.minimum(push, MAX_PUSH_MM) * (1 - at_edge[rows])
    blink[rows, 2] += push.astype(np.float32)
