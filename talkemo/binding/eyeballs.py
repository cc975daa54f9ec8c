"""Finds eyeballs: spheres behind the eyelids, whole or in halves, of any number of triangles."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import scipy

from ..geometry.meshes import area_vectors
from .body import Body
from .features import Features

EYE_RADIUS_MM = (4.5, 30.0)  # of eyeballs, from small ones of animals to those of cartoons
MIN_BALL_VERTICES = 6
SPHERE_ROUNDS = 4  # of the robust fit, each without the vertices off the sphere before
# Of the radius: largest distance of a vertex on the sphere from it; least extents of a ball across
# and in depth, which a lens or a lash lacks; largest extent of what turns with a ball.
ON_SPHERE, MIN_BALL_WIDTH, MIN_BALL_DEPTH, IN_BALL = 0.12, 1.1, 0.5, 1.15
MIN_ON_SPHERE = 0.7  # fraction of a ball's vertices that lie on its sphere
# Distance of a ball from where an eye is expected: across, in radii and mm, and of its front from
# the lids.
EYE_SIDE_RADII, EYE_SIDE_MM, EYE_FRONT_MM = 0.5, 6.0, 14.0
# Largest distance between a ball and the mirror image of the other, in radii, and ratio of radii.
MIRROR_RADII, MIRROR_RATIO = 0.8, 1.4
PAIR_SIDE_FACTOR = 2.0  # how much farther off two balls may lie that mirror each other
# Of a ball around another, by the radius of that: largest distance of centres, and radius.
SHELL_OFFSET, SHELL_RATIO = 0.3, 1.4
MAX_TILT_COSINE = 0.6  # of the direction of what turns with a ball, from ahead: lids lie above

# Balls that are joined with other parts are searched among vertices this far around the lids, of
# which some lie behind them. Guesses are centres where two normals meet; vertices within the
# tolerance of the radius, whose normals point away from the centre, are the ball's; their area is
# at least this fraction of the sphere's, which a modelled eye without a back does not reach.
JOINED_REACH_MM, JOINED_BEHIND_MM, JOINED_GUESSES = 30.0, 8.0, 400
JOINED_TOLERANCE, JOINED_COSINE, MIN_JOINED_AREA = 0.06, 0.85, 0.4
JOINED_GROWTH = 2  # rings of neighbours on the sphere that are added, whatever their normals


@dataclass(frozen=True, eq=False)
class Ball:
    """A sphere: its centre (3,) and radius in mm, and the number of the part it is."""

    centre: np.ndarray
    radius: float
    part: int


def fit_sphere(points: np.ndarray) -> tuple[np.ndarray, float, np.ndarray]:
    """Fit a sphere to points (P, 3), robustly.

    Returns
    -------
    centre : (3,)
    radius : float
    off : (P,)
        Distance of each point from the sphere, by its radius.
    """
    chosen = np.ones(len(points), bool)
    for _ in range(SPHERE_ROUNDS):
        middle = points[chosen].mean(0)
        p = points[chosen] - middle
        design = np.column_stack([2 * p, np.ones(len(p))])
        solution = np.linalg.lstsq(design, np.square(p).sum(1), rcond=None)[0]
        centre = middle + solution[:3]
        radius = float(np.sqrt(max(solution[3] + solution[:3] @ solution[:3], 1e-9)))
        off = np.abs(np.linalg.norm(points - centre, axis=1) - radius) / radius
        threshold = max(ON_SPHERE, float(np.quantile(off, MIN_ON_SPHERE)))
        if (off <= threshold).sum() < MIN_BALL_VERTICES or ((off <= threshold) == chosen).all():
            break
        chosen = off <= threshold
    return centre, radius, off


def find_eyeballs(features: Features, parts: list[np.ndarray]) -> list[Ball | None]:
    """Return the right and the left eyeball among parts, each the vertices (P, 3) of one.

    None for a side without one. An eye that is no ball is found as the mirror image of the other.
    """
    balls = [ball for k, points in enumerate(parts) if (ball := _ball_of(points, k)) is not None]
    pairs = [
        (distance, right, left)
        for right in balls
        for left in balls
        if right.part != left.part
        and (distance := _mirror_distance(features, right, left)) < MIRROR_RADII
        and all(
            _is_behind_lids(features, s, b, PAIR_SIDE_FACTOR) for s, b in enumerate((right, left))
        )
    ]
    if pairs:
        rank = lambda pair: (-_size(parts, pair[1]) - _size(parts, pair[2]), pair[0])
        _, right, left = min(pairs, key=rank)
        return [right, left]
    found = [_best_ball(features, side, balls, parts) for side in range(2)]
    for side, other in ((0, 1), (1, 0)):
        ball = found[other]
        if found[side] is None and ball is not None:
            found[side] = _mirror_image(features, ball, parts)
    return found


def _size(parts: list[np.ndarray], ball: Ball) -> float:
    """Return the extents of a ball, so that a whole one is preferred to its half, without units."""
    return float(np.round(np.ptp(parts[ball.part], axis=0).sum() / ball.radius, 1))


def _ball_of(points: np.ndarray, part: int) -> Ball | None:
    """Return the ball that a part is, None if it is none."""
    extent = np.ptp(points, axis=0)
    if (
        len(points) < MIN_BALL_VERTICES
        or not EYE_RADIUS_MM[0] < extent.max() < 2.4 * EYE_RADIUS_MM[1]
    ):
        return None
    centre, radius, off = fit_sphere(points)
    if not EYE_RADIUS_MM[0] < radius < EYE_RADIUS_MM[1] or (off < ON_SPHERE).mean() < MIN_ON_SPHERE:
        return None
    if min(extent[:2]) < MIN_BALL_WIDTH * radius or extent[2] < MIN_BALL_DEPTH * radius:
        return None
    if points[:, 2].max() < centre[2] + MIN_BALL_DEPTH * radius:  # the back of a socket
        return None
    return Ball(centre, radius, part)


def _is_behind_lids(features: Features, side: int, ball: Ball, factor: float = 1.0) -> bool:
    """Whether a ball lies where the eye of a side is: its front is where the lids are."""
    from_lids = ball.centre - features.lids[side].mean(0)
    across = float(np.hypot(*from_lids[:2]))
    reach = factor * (EYE_SIDE_RADII * ball.radius + EYE_SIDE_MM)
    front = abs(float(from_lids[2]) + ball.radius)
    return across < reach and front < factor * EYE_FRONT_MM


def _mirrored(features: Features, point: np.ndarray) -> np.ndarray:
    """Return the mirror image of a point (3,) of the face."""
    return np.array([2 * features.middle_x - point[0], point[1], point[2]])


def _mirror_distance(features: Features, right: Ball, left: Ball) -> float:
    """Return how far two balls are from being mirror images, by their radius; inf for others."""
    ratio = right.radius / left.radius
    if right.centre[0] >= left.centre[0] or not 1 / MIRROR_RATIO < ratio < MIRROR_RATIO:
        return np.inf
    distance = np.linalg.norm(_mirrored(features, right.centre) - left.centre)
    return float(distance / min(right.radius, left.radius))


def _best_ball(
    features: Features, side: int, balls: list[Ball], parts: list[np.ndarray]
) -> Ball | None:
    """Return the ball behind the lids of a side, the largest of several around one centre."""
    behind = [ball for ball in balls if _is_behind_lids(features, side, ball)]
    return max(behind, key=lambda ball: _size(parts, ball), default=None)


def _mirror_image(features: Features, ball: Ball, parts: list[np.ndarray]) -> Ball | None:
    """Return the other eye of a ball: the part whose middle is nearest to its mirror image."""
    centre = _mirrored(features, ball.centre)
    best, best_distance = None, MIRROR_RADII * ball.radius
    width = float(np.ptp(parts[ball.part], axis=0).max())
    for k, points in enumerate(parts):
        middle = (points.min(0) + points.max(0)) / 2
        size = float(np.ptp(points, axis=0).max())
        distance = float(np.linalg.norm(middle - centre))
        if k != ball.part and distance < best_distance and 0.5 < size / width < 2:
            best, best_distance = Ball(centre, ball.radius, k), distance
    return best


def turns_with(ball: Ball, points: np.ndarray) -> bool:
    """Whether a part with vertices (P, 3) is in, on or around a ball, as iris and cornea are.

    Spherical lids are not: they lie above or below.
    """
    shell = _ball_of(points, ball.part)
    if shell is not None and _is_around(shell, ball):
        return True
    direction = points - ball.centre
    distance = np.linalg.norm(direction, axis=1)
    if distance.max() > IN_BALL * ball.radius:
        return False
    mean = direction.mean(0)
    length = float(np.linalg.norm(mean))
    return length < 0.35 * ball.radius or float(mean[2]) > MAX_TILT_COSINE * length


def _is_around(shell: Ball, ball: Ball) -> bool:
    """Whether a ball lies around another, with about the same centre."""
    offset = np.linalg.norm(shell.centre - ball.centre)
    return bool(offset < SHELL_OFFSET * ball.radius and shell.radius < SHELL_RATIO * ball.radius)


# ------------------------------------------------------------------ balls joined with other parts


def joined_eyeballs(body: Body, features: Features) -> list[np.ndarray]:
    """Return the vertices of the right and the left eyeball that triangles join with other parts.

    Empty where there is none.
    """
    size = np.linalg.norm(area_vectors(body.points, body.faces), axis=1) / 2
    area = np.bincount(body.faces.ravel(), np.repeat(size / 3, 3), len(body.points))
    return [_joined_ball(body, features, side, area) for side in range(2)]


def _joined_ball(body: Body, features: Features, side: int, area: np.ndarray) -> np.ndarray:
    """Return the vertices of the ball behind the lids of a side; `area` (N,) is the vertices'."""
    from_lids = body.points - features.lids[side].mean(0)
    rows = np.flatnonzero((np.abs(from_lids) < JOINED_REACH_MM).all(1) & (area > 0))
    behind = from_lids[rows, 2] < -JOINED_BEHIND_MM
    behind &= np.hypot(*from_lids[rows, :2].T) < JOINED_REACH_MM / 2
    none = np.zeros(0, int)
    if behind.sum() < MIN_BALL_VERTICES:
        return none
    points, normals, weight = body.points[rows], body.normals[rows], area[rows]
    best, best_fraction = None, MIN_JOINED_AREA
    for centre, radius in _guesses(points, normals, weight):
        if not _is_behind_lids(features, side, Ball(centre, radius, -1)):
            continue
        near, outwards = _on_sphere(points, normals, centre, radius)
        on_ball = near & (outwards > JOINED_COSINE)
        fraction = weight[on_ball].sum() / (4 * np.pi * radius**2)
        if fraction > best_fraction:
            best, best_fraction = (centre, radius, on_ball), fraction
    if best is None:
        return none
    centre, radius, on_ball = best
    near, outwards = _on_sphere(points, normals, centre, radius)
    graph = body.graph[rows][:, rows]
    on_ball = _largest_patch(graph, on_ball, weight)
    for _ in range(JOINED_GROWTH):  # where triangles join it, normals lean to them
        on_ball |= near & (outwards > 0) & (graph @ on_ball.astype(float) > 0)
    return rows[on_ball]


def _on_sphere(
    points: np.ndarray, normals: np.ndarray, centre: np.ndarray, radius: float
) -> tuple[np.ndarray, np.ndarray]:
    """Return which points (P, 3) lie on a sphere, and the cosines of their normals with it."""
    direction = points - centre
    distance = np.maximum(np.linalg.norm(direction, axis=1), 1e-9)
    outwards = np.einsum("pc,pc->p", direction, normals) / distance
    return np.abs(distance - radius) < JOINED_TOLERANCE * radius, outwards


def _largest_patch(
    graph: scipy.sparse.spmatrix, chosen: np.ndarray, weight: np.ndarray
) -> np.ndarray:
    """Return the connected part of chosen vertices (P,) bool that has the largest weight (P,)."""
    rows = np.flatnonzero(chosen)
    _, label = scipy.sparse.csgraph.connected_components(graph[rows][:, rows], directed=False)
    result = np.zeros(len(chosen), bool)
    result[rows[label == np.bincount(label, weight[rows]).argmax()]] = True
    return result


def _guesses(
    points: np.ndarray, normals: np.ndarray, weight: np.ndarray
) -> list[tuple[np.ndarray, float]]:
    """Return centres (3,) and radii of spheres through two points (P, 3) with their normals.

    Points are drawn by their weight (P,).
    """
    drawn = np.random.default_rng(0).choice(
        len(points), (JOINED_GUESSES, 2), p=weight / weight.sum()
    )
    (a, b), (na, nb) = points[drawn].transpose(1, 0, 2), normals[drawn].transpose(1, 0, 2)
    # Equal radii: a - r·na = b - r·nb, by least squares.
    difference = na - nb
    size = np.square(difference).sum(1)
    radius = np.einsum("gc,gc->g", a - b, difference) / np.maximum(size, 1e-9)
    centre = (a + b - radius[:, None] * (na + nb)) / 2
    fits = np.linalg.norm(a - b - radius[:, None] * difference, axis=1) < 0.1 * np.abs(radius)
    fits &= (radius > EYE_RADIUS_MM[0]) & (radius < EYE_RADIUS_MM[1]) & (size > 0.1)
    return list(zip(centre[fits], radius[fits].tolist()))
