"""Geometry that several parts share: triangle meshes, closest points, rigid fits, bounded least squares. Plain arrays in and out."""

from __future__ import annotations

import numpy as np

POINTS_AT_A_TIME = (
    50_000  # points whose nearest triangles are compared at a time, which bounds the memory
)


def vertex_normals(vertices: np.ndarray, faces: np.ndarray) -> np.ndarray:
    """Area-weighted unit normals (V, 3) of a mesh with vertices (V, 3) and triangles (F, 3)."""
    corners = vertices[faces]
    face_normals = np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0])
    normals = np.stack(
        [
            np.bincount(faces.ravel(), np.repeat(face_normals[:, axis], 3), len(vertices))
            for axis in range(3)
        ],
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
        t = np.einsum("nc,nc->n", points - corners[:, i], edge) / np.maximum(
            np.einsum("nc,nc->n", edge, edge), 1e-12
        )
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
        weights, distance = closest_on_triangles(
            np.repeat(points[part], candidates, 0), vertices[faces[flat]]
        )
        cost = distance
        if face_normals is not None and point_normals is not None:
            bend = np.linalg.norm(
                face_normals[flat] - np.repeat(point_normals[part], candidates, 0), axis=1
            )
            cost = np.hypot(distance, normal_weight * bend)
        best = np.arange(len(near)) * candidates + cost.reshape(-1, candidates).argmin(1)
        found.append((flat[best], weights[best], distance[best]))
    triangle, weights, distance = (np.concatenate(parts) for parts in zip(*found))
    return triangle, weights, distance
