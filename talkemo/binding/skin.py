"""Motion of the skin: the canonical surface's where it lies on it, harmonic between that and what does not move."""

from __future__ import annotations

from functools import lru_cache

import numpy as np
from scipy.spatial import cKDTree

from ..face.canonical import Face
from ..geometry.meshes import closest_points, mesh_edges, vertex_normals
from ..geometry.rigid import fit_similarity
from .body import Body
from .mouth import Mouth, mouth_size
from .registration import NORMAL_WEIGHT

ON_SKIN = 3.0  # mm off the canonical surface up to which a vertex takes its motion from there
INSIDE = 8.0  # mm off it behind which skin belongs to the inside of the mouth
REACH = 48.0  # mm off it beyond which nothing moves
FACING = 0.2  # cosine of the angle between normals above which skin and canonical surface face the same way
SKIN_SHARE = 0.02  # of the canonical face that a part must lie under to be skin
# Times the canonical face's usual (99.9th percentile) and largest strain: where an edge counts as torn, and its limit.
STRAIN, MOST = 1.5, 1.2
SHORTEST_TORN, SHORTEST_RELAXED = (
    0.3,
    0.01,
)  # mm, lower bounds of an edge's length where strain is judged and limited
TEAR_ROUNDS = 4  # times that torn vertices are set free
RELAX_ROUNDS = 60  # iterations that take excessive strain from edges
CONTROLS = 500  # canonical vertices around which proportions are compared
AROUND_CONTROL = 30.0  # mm


def place_skin(body: Body, mouth: Mouth) -> None:
    """Find the skin of a body and give it its motion."""
    face, fitted, points = body.face, body.fitted, body.points
    low, high = fitted.min(0) - REACH, fitted.max(0) + REACH
    near = np.flatnonzero(((points > low) & (points < high)).all(1))
    fitted_normals = vertex_normals(fitted, face.faces)
    triangle, weights, distance = closest_points(
        fitted,
        face.faces,
        points[near],
        vertex_normals=fitted_normals,
        point_normals=body.normals[near],
        normal_weight=NORMAL_WEIGHT,
    )
    corners = face.faces[triangle]
    facing = np.einsum(
        "vc,vc->v", np.einsum("vk,vkc->vc", weights, fitted_normals[corners]), body.normals[near]
    )
    on = (distance < max(ON_SKIN, 1.5 * body.fit.error)) & (facing > FACING)
    body.canonical[near] = corners[np.arange(len(near)), weights.argmax(1)]
    body.skin = _skin_parts(body, near[on])
    ours = body.skin[near]
    near, corners, weights, distance, on = (
        near[ours],
        corners[ours],
        weights[ours],
        distance[ours],
        on[ours],
    )

    maps = local_maps(face, fitted)
    at = np.einsum("mk,mkij->mij", weights[on], maps[corners[on]])
    for k, shape in enumerate(face.expression_basis):
        moved = np.einsum("mk,mkc->mc", weights[on], shape[corners[on]])
        body.shapes[k, near[on]] = np.einsum("mij,mj->mi", at, moved)
    far = np.ones(len(points), bool)
    far[near] = distance > REACH
    inside = near[~on & (distance > INSIDE) & mouth.contains(points[near])]
    far[inside] = False
    if len(inside):  # cheeks and tongue of a mouth that is one with the skin
        body.shapes[:, inside] = mouth.jaw_share(body, inside)[:, None] * mouth.jaw_motion(
            points[inside]
        )
    fixed = far.copy()
    fixed[near] |= on
    fixed[inside] = True
    body.fill(~fixed)
    _mend(body, fixed, far)
    body.canonical[~body.skin] = -1


def _skin_parts(body: Body, on: np.ndarray) -> np.ndarray:
    """(N,) bool, vertices of the connected parts that lie under a good deal of the canonical face.

    on: vertices that lie on the canonical surface
    """
    covered = np.unique(np.stack([body.label[on], body.canonical[on]]), axis=1)
    area = np.bincount(covered[0], minlength=body.parts) / max(covered.shape[1], 1)
    is_skin = area >= SKIN_SHARE
    if area[is_skin].sum() < 0.5:  # many small pieces
        is_skin = area > 0
    return is_skin[body.label]


def _mend(body: Body, fixed: np.ndarray, far: np.ndarray) -> None:
    """Set vertices free that were matched to the wrong lip or eyelid, then limit what strain is left.

    A vertex that separates from most of its neighbours was matched wrongly. Where a mesh has no slit between the lips,
    what joins them is torn too, but each vertex there stays with its own lip: that has to stretch.
    """
    usual, most = _strain_limits(body.face)
    own = body.edges[body.skin[body.edges].all(1)]
    length = edge_lengths(body.points, own)
    degree = np.bincount(own.ravel(), minlength=len(body.points))
    stretch = _stretches(body.shapes, own)
    for _ in range(TEAR_ROUNDS):
        torn = own[(stretch > usual[:, None] * np.maximum(length, SHORTEST_TORN)).any(0)]
        lone = np.bincount(torn.ravel(), minlength=len(body.points)) > 0.5 * degree
        lone &= fixed & ~far
        if not lone.any():
            break
        fixed &= ~lone
        body.fill(~fixed)
        stretch = _stretches(body.shapes, own)
    limit = most[:, None] * np.maximum(length, SHORTEST_RELAXED)
    for shape, most_of_shape, over in zip(body.shapes, limit, stretch > limit):
        if over.any():
            _relax(shape, own, most_of_shape, over)


def edge_lengths(points: np.ndarray, edges: np.ndarray) -> np.ndarray:
    """(E,) distance between the ends of edges (E, 2) in points (V, 3)."""
    apart = points.take(edges[:, 0], 0) - points.take(edges[:, 1], 0)
    return np.sqrt(np.einsum("ec,ec->e", apart, apart))


def _stretches(shapes: np.ndarray, edges: np.ndarray) -> np.ndarray:
    """(S, E) mm, how far each blend shape at weight 1 moves the ends of an edge apart."""
    return np.stack([edge_lengths(shape, edges) for shape in shapes])


@lru_cache(maxsize=2)
def _strain_limits(face: Face) -> tuple[np.ndarray, np.ndarray]:
    """(S,) each: the strain of an edge beyond which a blend shape tears it, and beyond which no edge may go.

    Both come from the canonical face's own edges, few of which, in the corners of the mouth, are strained most.
    """
    edges, _ = mesh_edges(face.faces)
    strain = _stretches(face.expression_basis, edges) / edge_lengths(face.mean, edges)
    rank = int(0.999 * (len(edges) - 1))
    usual = np.partition(strain, rank, axis=1)[:, rank]
    return STRAIN * usual + 0.1, MOST * strain.max(1) + 0.05


def _relax(shape: np.ndarray, edges: np.ndarray, most: np.ndarray, over: np.ndarray) -> None:
    """Take from edges what one shape (N, 3) moves their ends apart beyond `most` (E,), half from either end.

    over: (E,) bool, the edges where that happens: folds of lids, corners of the mouth
    """
    around = np.zeros(len(shape), bool)
    around[edges[over].ravel()] = True
    for _ in range(3):
        around[edges[around[edges].any(1)].ravel()] = True
    chosen = around[edges].all(1)
    rows, ends = np.unique(edges[chosen].T, return_inverse=True)
    shape[rows] = _shorten(shape[rows], ends.reshape(2, -1), most[chosen])


def _shorten(values: np.ndarray, ends: np.ndarray, most: np.ndarray) -> np.ndarray:
    """Values (R, 3) moved until those at the two ends (2, E) of edges differ by at most `most` (E,)."""
    i, j = ends
    count = len(values)
    for _ in range(RELAX_ROUNDS):
        apart = values[i] - values[j]
        size = np.sqrt(np.einsum("ec,ec->e", apart, apart))
        excess = np.maximum(size - most, 0)
        if not excess.any():
            break
        step = (0.5 * excess / np.maximum(size, 1e-9))[:, None] * apart
        hits = np.bincount(i, excess > 0, count) + np.bincount(j, excess > 0, count)
        change = np.stack(
            [
                np.bincount(j, step[:, c], count) - np.bincount(i, step[:, c], count)
                for c in range(3)
            ],
            1,
        )
        # The mean over a vertex's edges, over-relaxed where there are several.
        values = (
            values + change / np.maximum(hits, 1)[:, None] * np.where(hits > 1, 1.4, 1.0)[:, None]
        )
    return values


def local_maps(face: Face, fitted: np.ndarray) -> np.ndarray:
    """(V, 3, 3), rotation and scale from each vertex's surroundings on the canonical face to those on the fitted one.

    On the lips the scale is that of the mouth's width: a wide mouth opens wide.
    """
    mean = face.mean
    some = np.arange(0, len(mean), max(1, len(mean) // CONTROLS))
    near = cKDTree(mean[some]).query_ball_point(mean[some], AROUND_CONTROL)
    maps, sizes = np.empty((len(some), 3, 3)), np.empty(len(some))
    for k, rows in enumerate(near):
        sizes[k], maps[k], _ = fit_similarity(mean[some[rows]], fitted[some[rows]])
    distance, index = cKDTree(mean[some]).query(mean, k=6)
    weight = np.exp(-((distance / 10) ** 2)) + 1e-12
    weight /= weight.sum(1, keepdims=True)
    size = np.einsum("vk,vk->v", weight, sizes[index])
    share = face.mouth_weight
    size = (1 - share) * size + share * mouth_size(face, fitted)
    return size[:, None, None] * np.einsum("vk,vkij->vij", weight, maps[index], optimize=True)
