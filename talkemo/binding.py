"""Any mesh ↔ the canonical face.

The canonical face is laid over the mesh by a similarity (iterative closest points from several starts), then by the
identity of the bilinear model; each vertex of the mesh takes its motion from the place of the canonical surface that
is nearest and faces the same way. The motion fades out with the distance from that surface.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from scipy.spatial import cKDTree

from .errors import InputError
from .face import Face, smoothstep, vertex_normals
from .mesh import Mesh

NORMAL_WEIGHT = 8.0  # mm of distance that opposite normals count for, over two: keeps upper and lower lip apart
SAMPLES = 700  # canonical vertices that the similarity is sought with
GOOD_FIT = 2.5  # mm: mean distance at which no further start is tried
WORST_FIT = 9.0  # mm: above that there is no face
IDENTITY_MODES = 30
STIFFNESS = 3.0  # mm² a unit of an identity coefficient costs each point
FULL, FADE = 3.0, 45.0  # mm off the canonical surface: full motion up to FULL, none FADE further


@dataclass(frozen=True, eq=False)
class Binding:
    """How a mesh follows the canonical face.

    mesh: the user's mesh
    moving: (M,) int, its vertices that can move
    operator: sparse (M, V), the place of each on the canonical surface
    turn: (M, 3, 3), canonical displacement in mm → the mesh's own, its unit, orientation and fade included
    landmarks68: (68,) int, vertices of the mesh nearest to the iBUG points
    scale: mesh units per canonical mm; rotation (3, 3); translation (3,)
    error: mean distance in canonical mm between the fitted canonical face and the mesh
    """

    mesh: Mesh
    moving: np.ndarray
    operator: Any
    turn: np.ndarray
    landmarks68: np.ndarray
    scale: float
    rotation: np.ndarray
    translation: np.ndarray
    error: float

    @cached_property
    def _start(self) -> np.ndarray:
        return self.mesh.vertices.astype(np.float32)

    def apply(self, displacement: np.ndarray) -> np.ndarray:
        """Vertices (T, N, 3) float32 of the mesh for canonical displacements (T, V, 3) mm."""
        frames, count = displacement.shape[:2]
        columns = np.ascontiguousarray(displacement.transpose(1, 0, 2)).reshape(count, -1)
        moved = (self.operator @ columns).reshape(-1, frames, 3) @ self.turn.transpose(0, 2, 1)
        result = np.repeat(self._start[None], frames, axis=0)
        result[:, self.moving] += moved.transpose(1, 0, 2)
        return result


def bind(face: Face, mesh: Mesh) -> Binding:
    """Bind a mesh whose face points roughly along +z with y up, in any unit. Raises InputError where no face is found."""
    normals = vertex_normals(mesh.vertices, mesh.faces)
    scale, rotation, translation, error = _align(face, mesh.vertices, normals)
    if error > WORST_FIT:
        raise InputError(
            f"no face found in the mesh (the best try is {error:.0f} mm off)", "the face must look along +z, with y up"
        )
    # From here on the mesh is seen in canonical millimetres.
    points = (mesh.vertices - translation) @ rotation / scale
    point_normals = normals @ rotation
    fitted, error = _fit_identity(face, points, point_normals)
    near = cKDTree(fitted[::4]).query(points, distance_upper_bound=FULL + FADE + 15)[0] < np.inf
    moving = np.flatnonzero(near & ~_closed_parts(mesh, near))
    if not len(moving):
        raise InputError("no skin found in the mesh where its face should be")
    fitted_normals = vertex_normals(fitted, face.faces)
    triangle, weights, distance = closest_points(
        fitted, face.faces, fitted_normals, points[moving], point_normals[moving]
    )
    fade = smoothstep(1 - (distance - FULL) / FADE)
    keep = fade > 1e-3
    moving, triangle, weights, fade = moving[keep], triangle[keep], weights[keep], fade[keep]

    import scipy.sparse as sp

    corners = face.faces[triangle]
    rows = np.repeat(np.arange(len(moving)), 3)
    operator = sp.csr_matrix((weights.ravel().astype(np.float32), (rows, corners.ravel())), (len(moving), len(fitted)))
    maps = _local_maps(face.mean, fitted)
    at_vertex = np.einsum("mk,mkij->mij", weights, maps[corners])
    turn = (scale * fade)[:, None, None] * (rotation @ at_vertex)
    # With normals: on closed lips the nearest vertex alone could be the other lip's.
    tree = cKDTree(np.hstack([points, NORMAL_WEIGHT * point_normals]))
    _, landmarks = tree.query(np.hstack([fitted, NORMAL_WEIGHT * fitted_normals])[face.landmarks68])
    return Binding(
        mesh, moving, operator, turn.astype(np.float32), landmarks, float(scale), rotation, translation, float(error)
    )


def _align(face: Face, vertices: np.ndarray, normals: np.ndarray) -> tuple[float, np.ndarray, np.ndarray, float]:
    """Scale, rotation, translation with vertices ≈ scale · canonical @ rotation.T + translation, and the error in mm."""
    low, high = vertices.min(0), vertices.max(0)
    extent = high - low
    face_low, face_high = face.mean.min(0), face.mean.max(0)
    face_extent = face_high - face_low
    nose = face.mean[face.landmarks68[30]]
    step = max(1, len(face.mean) // SAMPLES)
    source, source_normals = face.mean[::step].astype(np.float64), vertex_normals(face.mean, face.faces)[::step]
    centre_x = np.median(vertices[:, 0])
    best = (1.0, np.eye(3), np.zeros(3), np.inf)
    # The face's share of the mesh's height: a mask, a head, a head with neck, a bust, a body.
    for share in (1.0, 0.85, 0.7, 0.55, 0.4, 0.25, 0.14, 0.115, 0.095):
        scale = share * extent[1] / face_extent[1]
        if not 0.4 < face_extent[0] * scale / extent[0] < 1.6 and share > 0.5:
            continue
        # Above the face there is at most a scalp with hair, whatever there is below.
        slack = min(extent[1] * (1 - share), 0.6 * face_extent[1] * scale)
        for top in np.linspace(0, slack, 1 if share > 0.95 else 4):
            nose_y = high[1] - top - (face_high[1] - nose[1]) * scale
            column = np.abs(vertices[:, 0] - centre_x) < 12 * scale
            column &= np.abs(vertices[:, 1] - nose_y) < 25 * scale
            if not column.any():
                continue
            nose_z = vertices[column, 2].max()
            start = np.array([centre_x, nose_y, nose_z]) - scale * nose
            found = _icp(source, source_normals, vertices, normals, scale, start)
            if found[3] < best[3]:
                best = found
        if best[3] < GOOD_FIT:
            break
    return best


def _icp(source, source_normals, vertices, normals, scale, translation, iterations=25):
    """Iterative closest points with scale; the worst fifth of the pairs is left out."""
    rotation = np.eye(3)
    start = scale
    box = (source.min(0) - 40) * scale + translation, (source.max(0) + 40) * scale + translation
    inside = ((vertices > box[0]) & (vertices < box[1])).all(1)
    if inside.sum() < 40:
        return scale, rotation, translation, np.inf
    target, target_normals = vertices[inside], normals[inside]
    weight = NORMAL_WEIGHT * 2 * start
    tree = cKDTree(np.hstack([target, weight * target_normals]))
    error = np.inf
    for _ in range(iterations):
        placed = scale * source @ rotation.T + translation
        _, index = tree.query(np.hstack([placed, weight * source_normals @ rotation.T]))
        distance = np.linalg.norm(target[index] - placed, axis=1)
        keep = distance <= np.quantile(distance, 0.8)
        now = distance[keep].mean() / scale
        if now > error - 1e-3:
            break
        error = now
        x, y = source[keep], target[index[keep]]
        xc, yc = x.mean(0), y.mean(0)
        left, values, right = np.linalg.svd((y - yc).T @ (x - xc))
        flip = np.array([1, 1, np.sign(np.linalg.det(left @ right))])
        rotation = (left * flip) @ right
        # A face that shrinks fits anywhere.
        scale = np.clip((values * flip).sum() / ((x - xc) ** 2).sum(), 0.6 * start, 1.6 * start)
        translation = yc - scale * rotation @ xc
    return scale, rotation, translation, error


def _fit_identity(face: Face, points: np.ndarray, normals: np.ndarray, rounds: int = 6) -> tuple[np.ndarray, float]:
    """The bilinear model's neutral face (V, 3) nearest to a mesh in canonical mm, and the mean distance of the two."""
    neutral = np.einsum("rei,e->ri", face.core, face.expression_factor[0])
    modes = np.tensordot((neutral @ face.identity_scale[:, :IDENTITY_MODES]).T, face.basis, 1)  # (Z, V, 3)
    rest = face.mean + np.tensordot(neutral @ face.identity_mean, face.basis, 1)
    chosen = slice(None, None, 4)
    tree = cKDTree(np.hstack([points, NORMAL_WEIGHT * normals]))
    z, shift = np.zeros(IDENTITY_MODES), np.zeros(3)
    # A small affine change goes along with the identity: heads are more various than the model's people.
    for _ in range(rounds):
        fitted = rest + np.tensordot(z, modes, 1) + shift
        query = np.hstack([fitted[chosen], NORMAL_WEIGHT * vertex_normals(fitted, face.faces)[chosen]])
        _, index = tree.query(query)
        gap = points[index] - fitted[chosen]
        distance = np.linalg.norm(gap, axis=1)
        weight = 1 / (1 + (distance / 4) ** 2) ** 2
        design = np.concatenate([modes[:, chosen], np.broadcast_to(np.eye(3)[:, None], (3, len(gap), 3))])
        weighted = design * weight[:, None]
        normal = np.einsum("ivc,jvc->ij", weighted, design, optimize=True)
        normal[:IDENTITY_MODES, :IDENTITY_MODES] += STIFFNESS * weight.sum() / 10 * np.eye(IDENTITY_MODES)
        target = gap + np.tensordot(np.concatenate([z, shift]), design, 1)
        solution = np.linalg.solve(normal, np.einsum("ivc,vc->i", weighted, target, optimize=True))
        z, shift = solution[:IDENTITY_MODES], solution[IDENTITY_MODES:]
    return rest + np.tensordot(z, modes, 1) + shift, float(np.quantile(distance, 0.5))


def _closed_parts(mesh: Mesh, near: np.ndarray) -> np.ndarray:
    """Vertices (N,) of parts that are closed and not the skin: eyeballs, teeth, tongue.

    The skin is the part with the most vertices near the face, as `near` (N,) bool tells."""
    import scipy.sparse as sp

    edges = mesh.faces[:, [0, 1, 1, 2, 2, 0]].reshape(-1, 2)
    count = len(mesh.vertices)
    graph = sp.coo_matrix((np.ones(len(edges)), edges.T), (count, count))
    number, label = sp.csgraph.connected_components(graph, directed=False)
    if number == 1:
        return np.zeros(count, bool)
    unique, times = np.unique(np.sort(edges, axis=1), axis=0, return_counts=True)
    open_part = np.zeros(number, bool)
    open_part[label[unique[times == 1, 0]]] = True
    open_part[np.bincount(label[near], minlength=number).argmax()] = True
    return ~open_part[label]


def _local_maps(mean: np.ndarray, fitted: np.ndarray, controls: int = 900, neighbours: int = 120) -> np.ndarray:
    """Linear maps (V, 3, 3) from each vertex's surroundings on the mean face to those on the fitted one, so that a wide
    mouth opens wide. Least squares at some control vertices, held towards a uniform scaling, and blended in between."""
    some = np.arange(0, len(mean), max(1, len(mean) // controls))
    _, index = cKDTree(mean).query(mean[some], k=neighbours)
    x = mean[index] - mean[index].mean(1, keepdims=True)
    y = fitted[index] - fitted[index].mean(1, keepdims=True)
    own, cross = x.transpose(0, 2, 1) @ x, y.transpose(0, 2, 1) @ x
    spread = np.trace(own, axis1=1, axis2=2)[:, None, None]
    scale = np.trace(cross, axis1=1, axis2=2)[:, None, None] / spread
    hold = 0.05 * spread * np.eye(3)
    maps = np.linalg.solve(own + hold, (cross + scale * hold).transpose(0, 2, 1)).transpose(0, 2, 1)
    distance, near = cKDTree(mean[some]).query(mean, k=6)
    weight = np.exp(-((distance / 8) ** 2)) + 1e-12
    return np.einsum("vk,vkij->vij", weight / weight.sum(1, keepdims=True), maps[near], optimize=True)


def closest_points(
    vertices: np.ndarray,
    faces: np.ndarray,
    normals: np.ndarray,
    points: np.ndarray,
    point_normals: np.ndarray | None,
    candidates: int = 6,
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """For points (P, 3) the nearest place of a triangle mesh: triangle (P,), barycentric (P, 3) and distance (P,).

    Where `point_normals` (P, 3) are given, places whose normals point the same way are preferred. The search looks at
    the triangles around the nearest `candidates` triangle centres.
    """
    centres = vertices[faces].mean(1)
    keys, queries = centres, points
    if point_normals is not None:
        face_normals = normals[faces].mean(1)
        face_normals /= np.maximum(np.linalg.norm(face_normals, axis=1, keepdims=True), 1e-12)
        keys = np.hstack([centres, NORMAL_WEIGHT * face_normals])
        queries = np.hstack([points, NORMAL_WEIGHT * point_normals])
    _, near = cKDTree(keys).query(queries, k=candidates)
    flat = near.ravel()
    corners = vertices[faces[flat]]
    weights, distance = closest_on_triangles(np.repeat(points, candidates, 0), corners)
    cost = distance
    if point_normals is not None:
        bend = np.linalg.norm(face_normals[flat] - np.repeat(point_normals, candidates, 0), axis=1)
        cost = np.hypot(distance, NORMAL_WEIGHT * bend)
    best = cost.reshape(-1, candidates).argmin(1)
    rows = np.arange(len(points)) * candidates + best
    return flat[rows], weights[rows], distance[rows]


def closest_on_triangles(points: np.ndarray, corners: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Barycentric weights (N, 3) and distance (N,) of the place of triangle n (N, 3, 3) nearest to point n (N, 3)."""
    a, b, c = corners[:, 0], corners[:, 1], corners[:, 2]
    ab, ac, ap = b - a, c - a, points - a
    d00, d01, d11 = (np.einsum("nc,nc->n", *pair) for pair in ((ab, ab), (ab, ac), (ac, ac)))
    d20, d21 = np.einsum("nc,nc->n", ap, ab), np.einsum("nc,nc->n", ap, ac)
    determinant = np.maximum(d00 * d11 - d01**2, 1e-12)
    v, w = (d11 * d20 - d01 * d21) / determinant, (d00 * d21 - d01 * d20) / determinant
    weights = np.stack([1 - v - w, v, w], axis=1)
    best = np.where((weights >= 0).all(1), 0.0, np.inf)
    for i, j in ((0, 1), (1, 2), (2, 0)):
        edge = corners[:, j] - corners[:, i]
        t = np.einsum("nc,nc->n", points - corners[:, i], edge) / np.maximum(np.einsum("nc,nc->n", edge, edge), 1e-12)
        t = np.clip(t, 0, 1)
        distance = np.linalg.norm(points - corners[:, i] - t[:, None] * edge, axis=1)
        nearer = distance < best
        best = np.where(nearer, distance, best)
        on_edge = np.zeros_like(weights)
        on_edge[:, i], on_edge[:, j] = 1 - t, t
        weights = np.where(nearer[:, None], on_edge, weights)
    distance = np.linalg.norm(points - np.einsum("nk,nkc->nc", weights, corners), axis=1)
    return weights, distance
