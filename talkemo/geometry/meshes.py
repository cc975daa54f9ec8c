"""Triangle meshes: normals, edges, boundaries and closest points."""

from __future__ import annotations

import numpy as np

CLOSEST_POINTS_BATCH = 50_000  # points per batch of `closest_points`; bounds its memory


def vertex_normals(vertices: np.ndarray, faces: np.ndarray) -> np.ndarray:
    """Return the area-weighted unit normals (V, 3) of vertices (V, 3) with triangles (F, 3)."""
    face_normals = np.repeat(area_vectors(vertices, faces), 3, axis=0)
    corners = faces.ravel()
    sums = [np.bincount(corners, face_normals[:, axis], len(vertices)) for axis in range(3)]
    normals = np.stack(sums, axis=1)
    return normals / np.maximum(np.linalg.norm(normals, axis=1, keepdims=True), 1e-12)


def area_vectors(vertices: np.ndarray, faces: np.ndarray) -> np.ndarray:
    """Return the normals (F, 3) of triangles, each as long as twice the triangle's area."""
    corners = vertices[faces]
    return np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0])


def vertex_areas(vertices: np.ndarray, faces: np.ndarray) -> np.ndarray:
    """Return each vertex's share (V,) of the area of its triangles (F, 3)."""
    area = np.linalg.norm(area_vectors(vertices, faces), axis=1) / 6
    return np.bincount(faces.ravel(), np.repeat(area, 3), len(vertices))


def mesh_edges(faces: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the unique edges of triangles (F, 3).

    Returns
    -------
    edges : (E, 2) int64
        Vertices of each edge, the smaller one first.
    triangles : (E,)
        Number of triangles at each edge; 1 on a boundary.
    """
    edges = np.sort(faces[:, [0, 1, 1, 2, 2, 0]].reshape(-1, 2).astype(np.int64), axis=1)
    count = int(edges.max(initial=0)) + 1
    # Each edge as one number: several times faster than comparing rows.
    keys, triangles = np.unique(edges[:, 0] * count + edges[:, 1], return_counts=True)
    return np.stack([keys // count, keys % count], axis=1), triangles


def boundary_loops(faces: np.ndarray, count: int) -> list[np.ndarray]:
    """Return the sorted vertices of each boundary loop of triangles (F, 3) over `count` vertices.

    A boundary edge belongs to one triangle only; a loop is a connected set of such edges.
    """
    import scipy.sparse as sp

    edges, triangles = mesh_edges(faces)
    border = edges[triangles == 1]
    graph = sp.coo_matrix((np.ones(len(border)), border.T), (count, count))
    number, label = sp.csgraph.connected_components(graph, directed=False)
    sizes = np.bincount(label, minlength=number)
    return [np.flatnonzero(label == k) for k in np.flatnonzero(sizes > 1)]


def connected_pieces(faces: np.ndarray, count: int) -> np.ndarray:
    """Return the number (V,) of the connected piece that each of `count` vertices belongs to."""
    import scipy.sparse as sp

    edges = faces[:, [0, 1, 1, 2]].reshape(-1, 2)
    graph = sp.coo_matrix((np.ones(len(edges), np.int8), edges.T), (count, count))
    return np.asarray(sp.csgraph.connected_components(graph, directed=False)[1])


def edge_lengths(points: np.ndarray, edges: np.ndarray) -> np.ndarray:
    """Return the distances (E,) between the ends of edges (E, 2) in points (V, 3)."""
    difference = points.take(edges[:, 0], 0) - points.take(edges[:, 1], 0)
    return np.sqrt(np.einsum("ec,ec->e", difference, difference))


def closest_on_triangles(points: np.ndarray, corners: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the point of triangle n that is closest to point n.

    Parameters
    ----------
    points : (N, D)
        In the plane (D = 2) or in space (D = 3).
    corners : (N, 3, D)

    Returns
    -------
    weights : (N, 3)
        Barycentric coordinates of the closest point.
    distance : (N,)
    """
    a, b, c = corners[:, 0], corners[:, 1], corners[:, 2]
    ab, ac, ap = b - a, c - a, points - a
    d00, d01, d11 = _dot(ab, ab), _dot(ab, ac), _dot(ac, ac)
    d20, d21 = _dot(ap, ab), _dot(ap, ac)
    determinant = np.maximum(d00 * d11 - d01**2, 1e-12)
    v, w = (d11 * d20 - d01 * d21) / determinant, (d00 * d21 - d01 * d20) / determinant
    weights = np.stack([1 - v - w, v, w], axis=1)
    # Points that project outside their triangle are closest to one of its edges.
    closest = np.where((weights >= 0).all(1), 0.0, np.inf)
    for i, j in ((0, 1), (1, 2), (2, 0)):
        edge = corners[:, j] - corners[:, i]
        t = _dot(points - corners[:, i], edge) / np.maximum(_dot(edge, edge), 1e-12)
        t = np.clip(t, 0, 1)
        distance = np.linalg.norm(points - corners[:, i] - t[:, None] * edge, axis=1)
        closer = distance < closest
        closest = np.where(closer, distance, closest)
        on_edge = np.zeros_like(weights)
        on_edge[:, i], on_edge[:, j] = 1 - t, t
        weights = np.where(closer[:, None], on_edge, weights)
    distance = np.linalg.norm(points - np.einsum("nk,nkc->nc", weights, corners), axis=1)
    return weights, distance


def _dot(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Return the dot products (N,) of rows (N, D)."""
    return np.einsum("nc,nc->n", a, b)


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
    """Return the closest point on a triangle mesh for each of several points.

    Parameters
    ----------
    vertices, faces : (V, 3), (F, 3)
    points : (P, 3)
    vertex_normals, point_normals : (V, 3), (P, 3), optional
        If given, surface points whose normals agree are preferred.
    normal_weight : float
        Opposite normals count like twice this distance.
    candidates : int
        Number of closest triangle centres whose triangles are compared.

    Returns
    -------
    triangle : (P,)
    weights : (P, 3)
        Barycentric coordinates in the triangle.
    distance : (P,)
    """
    from scipy.spatial import cKDTree

    keys, queries, face_normals = vertices[faces].mean(1), points, None
    if vertex_normals is not None and point_normals is not None:
        face_normals = vertex_normals[faces].mean(1)
        face_normals /= np.maximum(np.linalg.norm(face_normals, axis=1, keepdims=True), 1e-12)
        keys = np.hstack([keys, normal_weight * face_normals])
        queries = np.hstack([points, normal_weight * point_normals])
    tree = cKDTree(keys)
    triangles, weights, distances = [], [], []
    for start in range(0, max(len(points), 1), CLOSEST_POINTS_BATCH):
        batch = slice(start, start + CLOSEST_POINTS_BATCH)
        near = tree.query(queries[batch], k=candidates)[1].ravel()
        near_weights, near_distances = closest_on_triangles(
            np.repeat(points[batch], candidates, 0), vertices[faces[near]]
        )
        cost = near_distances
        if face_normals is not None and point_normals is not None:
            difference = face_normals[near] - np.repeat(point_normals[batch], candidates, 0)
            cost = np.hypot(near_distances, normal_weight * np.linalg.norm(difference, axis=1))
        cost = cost.reshape(-1, candidates)
        best = np.arange(len(cost)) * candidates + cost.argmin(1)
        triangles.append(near[best])
        weights.append(near_weights[best])
        distances.append(near_distances[best])
    return np.concatenate(triangles), np.concatenate(weights), np.concatenate(distances)
