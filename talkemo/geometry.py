"""Geometry that several parts share: triangle meshes, closest points, rigid fits, bounded least squares. Plain arrays in and out."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

POINTS_AT_A_TIME = 50_000  # points whose nearest triangles are compared at a time, which bounds the memory


def smoothstep(x: np.ndarray) -> np.ndarray:
    """Hermite interpolation from 0 (x ≤ 0) to 1 (x ≥ 1) with zero slope at both ends."""
    x = np.clip(x, 0, 1)
    return x * x * (3 - 2 * x)


# ------------------------------------------------------------------------------------------------- triangle meshes


def vertex_normals(vertices: np.ndarray, faces: np.ndarray) -> np.ndarray:
    """Area-weighted unit normals (V, 3) of a mesh with vertices (V, 3) and triangles (F, 3)."""
    corners = vertices[faces]
    face_normals = np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0])
    normals = np.stack(
        [np.bincount(faces.ravel(), np.repeat(face_normals[:, axis], 3), len(vertices)) for axis in range(3)],
        axis=1,
    )
    return normals / np.maximum(np.linalg.norm(normals, axis=1, keepdims=True), 1e-12)


def mesh_edges(faces: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Unique edges (E, 2) of triangles (F, 3), smaller vertex first, and the number of triangles at each edge (E,)."""
    edges = np.sort(faces[:, [0, 1, 1, 2, 2, 0]].reshape(-1, 2).astype(np.int64), axis=1)
    count = int(edges.max(initial=0)) + 1
    # As one number each: several times quicker than comparing rows.
    keys, times = np.unique(edges[:, 0] * count + edges[:, 1], return_counts=True)
    return np.stack([keys // count, keys % count], axis=1), times


def boundary_loops(faces: np.ndarray, count: int) -> list[np.ndarray]:
    """Sorted vertex indices of each boundary loop of triangles (F, 3) over `count` vertices.

    A boundary edge belongs to one triangle only; a loop is a connected set of such edges.
    """
    import scipy.sparse as sp

    edges, times = mesh_edges(faces)
    border = edges[times == 1]
    graph = sp.coo_matrix((np.ones(len(border)), border.T), (count, count))
    number, label = sp.csgraph.connected_components(graph, directed=False)
    sizes = np.bincount(label, minlength=number)
    return [np.flatnonzero(label == k) for k in np.flatnonzero(sizes > 1)]


# -------------------------------------------------------------------------------------------------- closest points


def closest_on_triangles(points: np.ndarray, corners: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Barycentric weights (N, 3) and distance (N,) of the point of triangle n nearest to point n.

    points: (N, D), corners: (N, 3, D), in the plane (D = 2) or in space (D = 3)
    """
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


def closest_points(
    vertices: np.ndarray,
    faces: np.ndarray,
    points: np.ndarray,
    *,
    vertex_normals: np.ndarray | None = None,
    point_normals: np.ndarray | None = None,
    normal_weight: float = 0.0,
    candidates: int = 6,
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """For points (P, 3) the nearest point of a triangle mesh: triangle (P,), barycentric (P, 3) and distance (P,).

    vertex_normals (V, 3), point_normals (P, 3): if given, places whose normals point the same way are preferred;
        opposite normals count like `normal_weight` · 2 of distance
    candidates: the search looks at the triangles around so many nearest triangle centres
    """
    from scipy.spatial import cKDTree

    centres = vertices[faces].mean(1)
    keys, queries = centres, points
    face_normals = None
    if vertex_normals is not None and point_normals is not None:
        face_normals = vertex_normals[faces].mean(1)
        face_normals /= np.maximum(np.linalg.norm(face_normals, axis=1, keepdims=True), 1e-12)
        keys = np.hstack([centres, normal_weight * face_normals])
        queries = np.hstack([points, normal_weight * point_normals])
    tree = cKDTree(keys)
    found: list[tuple[np.ndarray, np.ndarray, np.ndarray]] = []
    for start in range(0, max(len(points), 1), POINTS_AT_A_TIME):
        part = slice(start, start + POINTS_AT_A_TIME)
        _, near = tree.query(queries[part], k=candidates)
        flat = near.ravel()
        weights, distance = closest_on_triangles(np.repeat(points[part], candidates, 0), vertices[faces[flat]])
        cost = distance
        if face_normals is not None and point_normals is not None:
            bend = np.linalg.norm(face_normals[flat] - np.repeat(point_normals[part], candidates, 0), axis=1)
            cost = np.hypot(distance, normal_weight * bend)
        best = np.arange(len(near)) * candidates + cost.reshape(-1, candidates).argmin(1)
        found.append((flat[best], weights[best], distance[best]))
    triangle, weights, distance = (np.concatenate(parts) for parts in zip(*found))
    return triangle, weights, distance


# ------------------------------------------------------------------------------------------------------ rigid fits


def eye_rotation(gaze: np.ndarray, axes: np.ndarray | None = None) -> np.ndarray:
    """The rotation (3, 3) of an eye that looks ahead, by pitch, down, and yaw, to the left, (2,) in radians.

    axes: (3, 3), the rotation of the face that the eye is in, from looking along +z with y up; None for none
    """
    (ps, ys), (pc, yc) = np.sin(gaze), np.cos(gaze)
    own = np.array([[yc, 0, ys], [0, 1, 0], [-ys, 0, yc]]) @ np.array([[1, 0, 0], [0, pc, -ps], [0, ps, pc]])
    return own if axes is None else np.asarray(axes @ own @ axes.T)


@dataclass(frozen=True, eq=False)
class Similarity:
    """Takes points p, here canonical millimetres, to scale · p @ rotation.T + translation, here a mesh's own space."""

    scale: float
    rotation: np.ndarray  # (3, 3)
    translation: np.ndarray  # (3,)

    def to_canonical(self, points: np.ndarray) -> np.ndarray:
        """Points (..., 3) of the mesh in canonical mm."""
        return (points - self.translation) @ self.rotation / self.scale

    def to_mesh(self, points: np.ndarray) -> np.ndarray:
        """Points (..., 3) in canonical mm where they are in the mesh."""
        return self.scale * points @ self.rotation.T + self.translation

    def after(self, scale: float, rotation: np.ndarray, shift: np.ndarray) -> Similarity:
        """This similarity applied after another one within canonical space."""
        return Similarity(self.scale * scale, self.rotation @ rotation, self.to_mesh(shift))


def fit_similarity(
    source: np.ndarray, target: np.ndarray, weight: np.ndarray | None = None
) -> tuple[float, np.ndarray, np.ndarray]:
    """Scale, rotation (3, 3) and shift (3,) with target ≈ scale · source @ rotation.T + shift (Umeyama 1991).

    source, target: (P, 3); weight: (P,), how much each pair counts
    """
    w = np.full(len(source), 1 / len(source)) if weight is None else weight / weight.sum()
    a, b = w @ source, w @ target
    rotation, values = nearest_rotation((target - b).T @ (w[:, None] * (source - a)))
    scale = float(values.sum() / (w @ np.square(source - a)).sum())
    return scale, rotation, b - scale * rotation @ a


def rigid_motion(source: np.ndarray, target: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Rotations (T, 3, 3) and shifts (T, 3) with target ≈ source @ rotation.T + shift, for points (T, P, 3) each."""
    a, b = source.mean(1), target.mean(1)
    rotation, _ = nearest_rotation(np.einsum("tpi,tpj->tij", target - b[:, None], source - a[:, None]))
    return rotation, b - np.einsum("tij,tj->ti", rotation, a)


def nearest_rotation(covariance: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The rotation (..., 3, 3) nearest to a covariance (..., 3, 3), and its singular values, the last signed."""
    left, values, right = np.linalg.svd(covariance)
    sign = np.ones_like(values)
    sign[..., 2] = np.sign(np.linalg.det(left @ right))
    return (left * sign[..., None, :]) @ right, values * sign


# --------------------------------------------------------------------------------------------------- least squares


def bounded_least_squares(
    gram: np.ndarray, target: np.ndarray, iterations: int, most: np.ndarray | float = 1.0
) -> np.ndarray:
    """argmin over 0 ≤ x ≤ most of x·gram·x / 2 − target·x, for right-hand sides (T, S), by projected FISTA.

    gram: (S, S), positive definite; most: upper bounds, a number or (S,). Beck and Teboulle 2009.
    """
    step = 1.0 / np.linalg.norm(gram, 2)
    return accelerated_projection(lambda y: y @ gram - target, np.zeros_like(target), step, iterations, most)


def accelerated_projection(slope, start: np.ndarray, step: float, iterations: int, most: np.ndarray | float = 1.0):
    """Minimise a convex function over 0 ≤ x ≤ most by projected gradient steps with Nesterov's momentum (FISTA).

    slope: the function's gradient, of an array like `start` at which the search begins; step: 1 / its largest curvature
    """
    x = start
    y, momentum = x, 1.0
    for _ in range(iterations):
        new = np.clip(y - step * slope(y), 0.0, most)
        following = (1 + np.sqrt(1 + 4 * momentum**2)) / 2
        y = new + y.dtype.type((momentum - 1) / following) * (new - x)
        x, momentum = new, following
    return x
