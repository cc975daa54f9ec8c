"""The chart of the geometry map, made once when a face is trained (3D-TalkEmo, section 3.2).

Geodesics between all vertices by the heat method (Crane et al. 2013), classical multidimensional scaling to the plane,
and the tables by which `geomap.GeometryMap` samples displacements on a grid and reads them back.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from ..face.geometry_map import MAP_SIZE
from ..geometry.meshes import closest_on_triangles

MARGIN = 2.0  # pixels left free around the chart
REACH = 0.75  # pixels, largest distance of a mask pixel's centre from the surface
OVERLAP = 1e-6  # pixels; distances from triangles that differ by less are equal but for rounding
NEIGHBOURS = 32  # nearest pixels that a vertex is interpolated from
RIDGE = 1e-7  # of the regression that fits the interpolation weights, relative to its normal matrix


def geodesics(
    vertices: np.ndarray, faces: np.ndarray, batch: int = 128, progress: Any = None
) -> np.ndarray:
    """All geodesic distances (V, V) float32 between the vertices (V, 3) of a triangle mesh, in its unit.

    The heat method: diffuse a unit of heat from each source for a short time, follow the normalised gradient, and solve
    the Poisson equation for the function with that gradient. `progress(done, total)` is called after each batch.
    """
    import scipy.sparse as sp
    from scipy.sparse.linalg import splu

    def stiffness(weight: Any) -> Any:
        return (sp.diags(np.asarray(weight.sum(1)).ravel()) - weight).tocsc()

    count = len(vertices)
    vertices = vertices.astype(np.float64)
    corners = vertices[faces]  # (F, 3, 3)
    opposite = np.roll(corners, -1, 1) - np.roll(
        corners, -2, 1
    )  # edge facing each corner, (F, 3, 3)
    normal = np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0])
    double_area = np.maximum(np.linalg.norm(normal, axis=1), 1e-12)
    # Cotangent of the angle at each corner: -(dot of the two edges that meet there) / (2·area).
    cotangent = (
        -np.einsum("fkc,fkc->fk", np.roll(opposite, -1, 1), np.roll(opposite, -2, 1))
        / double_area[:, None]
    )
    i, j = np.roll(faces, -1, 1).ravel(), np.roll(faces, -2, 1).ravel()
    weight = sp.coo_matrix((cotangent.ravel() / 2, (i, j)), (count, count)).tocsr()
    weight = weight + weight.T
    laplacian = stiffness(weight)
    mass = np.bincount(faces.ravel(), np.repeat(double_area / 6, 3), count)
    edge = np.linalg.norm(opposite, axis=2).mean()
    # Far from its source the heat falls below 1e-60. It stays positive and exact only if no weight is negative. Obtuse
    # triangles have negative weights, so these are raised for the diffusion, not for the Poisson equation.
    conductive = weight.copy()
    conductive.data = np.maximum(conductive.data, 1e-3)
    heat = splu((sp.diags(mass) + edge**2 * stiffness(conductive)).tocsc())
    poisson = splu((laplacian + 1e-9 * sp.diags(mass)).tocsc())

    # Gradient (3F, V) and its adjoint, the integrated divergence (V, 3F).
    unit = normal / double_area[:, None]
    slope = np.cross(unit[:, None], opposite) / double_area[:, None, None]  # (F, 3 corners, 3)
    rows = (np.arange(len(faces))[:, None, None] * 3 + np.arange(3)).repeat(3, axis=1)
    columns = np.broadcast_to(faces[:, :, None], rows.shape)
    gradient = sp.csr_matrix(
        (slope.ravel(), (rows.ravel(), columns.ravel())), (3 * len(faces), count)
    )
    divergence = (gradient.T @ sp.diags(np.repeat(double_area / 2, 3))).tocsr()

    distances = np.empty((count, count), np.float32)
    for start in range(0, count, batch):
        sources = np.arange(start, min(start + batch, count))
        impulse = np.zeros((count, len(sources)))
        impulse[sources, np.arange(len(sources))] = 1
        field = (gradient @ heat.solve(impulse)).reshape(len(faces), 3, -1)
        field = -field / np.maximum(np.linalg.norm(field, axis=1, keepdims=True), 1e-300)
        phi = poisson.solve(divergence @ field.reshape(3 * len(faces), -1))
        distances[sources] = (phi - phi[sources, np.arange(len(sources))]).T
        if progress:
            progress(sources[-1] + 1, count)
    return np.abs((distances + distances.T) / 2)


def classical_mds(distances: np.ndarray) -> tuple[np.ndarray, float]:
    """Classical scaling of distances (V, V) to the plane: points (V, 2) and the relative least-squares stress.

    The stress is sqrt(Σ(d − d̂)² / Σd²) over all pairs, at the scale of the chart that minimises it.
    """
    from scipy.sparse.linalg import LinearOperator, eigsh

    count = len(distances)
    squared = distances**2
    row_mean = squared.mean(1, dtype=np.float64)
    total = row_mean.mean()

    def centred(x: np.ndarray) -> np.ndarray:
        x = x.ravel()
        return -0.5 * (
            squared @ x.astype(np.float32) - row_mean * x.sum() - row_mean @ x + total * x.sum()
        )

    operator = LinearOperator((count, count), matvec=centred, dtype=np.float64)
    values, vectors = eigsh(operator, k=2, tol=1e-6, v0=np.linspace(-1, 1, count))
    points = vectors[:, ::-1] * np.sqrt(values[::-1])
    return points, stress(points, distances)


def stress(points: np.ndarray, distances: np.ndarray) -> float:
    """Relative least-squares stress of a plane embedding (V, 2) against distances (V, V)."""
    squared_error = product = plane_squared = distance_squared = 0.0
    for start in range(0, len(points), 1024):
        plane = np.linalg.norm(points[start : start + 1024, None] - points[None], axis=2)
        block = distances[start : start + 1024].astype(np.float64)
        product += (plane * block).sum()
        plane_squared += (plane**2).sum()
        distance_squared += (block**2).sum()
    scale = product / plane_squared
    squared_error = distance_squared - 2 * scale * product + scale**2 * plane_squared
    return float(np.sqrt(max(squared_error, 0) / distance_squared))


def make_chart(
    vertices: np.ndarray, faces: np.ndarray, mirror: np.ndarray, progress: Any = None
) -> tuple[np.ndarray, float]:
    """The chart (V, 2) mm of the mean face, upright and left-right symmetric, and its relative stress."""
    distances = geodesics(vertices, faces, progress=progress)
    points, _ = classical_mds(distances)
    # The order and signs of eigenvectors are arbitrary: the axis that follows y becomes up, the other follows x.
    height = vertices[:, 1] - vertices[:, 1].mean()
    if abs(points[:, 0] @ height) > abs(points[:, 1] @ height):
        points = points[:, ::-1]
    points = points * np.sign([points[:, 0] @ vertices[:, 0], points[:, 1] @ height])
    points = (points + points[mirror] * [-1, 1]) / 2
    return points.astype(np.float32), stress(points, distances)


def to_pixels(chart: np.ndarray) -> np.ndarray:
    """Pixel coordinates (V, 2), row and column, of chart points (V, 2) mm; the chart fills the picture undistorted."""
    low, high = chart.min(0), chart.max(0)
    scale = (MAP_SIZE - 1 - 2 * MARGIN) / (high - low).max()
    centred = (chart - (low + high) / 2) * scale
    return np.stack(
        [(MAP_SIZE - 1) / 2 - centred[:, 1], (MAP_SIZE - 1) / 2 + centred[:, 0]], axis=1
    )


def make_tables(
    chart: np.ndarray, faces: np.ndarray, examples: np.ndarray
) -> dict[str, np.ndarray]:
    """The tables of `geomap.geometry_map`, made once when a face is trained.

    A pixel of the mask is sampled inside the chart's triangle under it: `map_vertices`, `map_vertex_weights` (M, 3).
    On the way back each vertex is interpolated from NEIGHBOURS pixels around it: `map_pixels`, `map_pixel_weights`
    (V, 32). Bilinear weights alone would mix the lips where the slit between them is narrower than a pixel. So ridge
    regression moves them towards weights that reproduce `examples` (N, V, 3), displacements of many faces and
    expressions.
    """
    from scipy.spatial import cKDTree

    points = to_pixels(chart)
    triangle, barycentric, distance = closest_in_plane(points, faces)
    mask = (distance <= REACH).reshape(MAP_SIZE, MAP_SIZE)
    pixels = np.flatnonzero(mask)
    sampled_vertices, sampled_weights = (
        faces[triangle[pixels]],
        barycentric[pixels].astype(np.float32),
    )
    grid = np.stack(np.unravel_index(pixels, mask.shape), axis=1)
    _, near = cKDTree(grid).query(points, k=NEIGHBOURS)
    offset = np.abs(grid[near] - points[:, None])
    bilinear = np.clip(1 - offset, 0, None).prod(2) + 1e-9 * np.exp(-offset.sum(2))
    bilinear /= bilinear.sum(1, keepdims=True)

    fields = examples.transpose(1, 0, 2).reshape(len(points), -1).astype(np.float32)  # (V, 3N)
    fields /= np.sqrt((fields**2).mean(0)) + 1e-9
    values = np.einsum("mkn,mk->mn", fields[sampled_vertices], sampled_weights)
    weights = np.empty_like(bilinear)
    for start in range(0, len(points), 256):
        block = slice(start, start + 256)
        known = values[near[block]]  # (256, K, 3N)
        # A constant field must be reproduced; the division below makes it exact.
        known = np.concatenate(
            [known, np.full((*known.shape[:2], 1), 100.0, np.float32)], axis=2
        ).astype(np.float64)
        wanted = np.column_stack([fields[block], np.full(len(known), 100.0)])
        rest = wanted - np.einsum("vkn,vk->vn", known, bilinear[block])
        gram = known @ known.transpose(0, 2, 1)
        gram += RIDGE * np.einsum("vkk->v", gram)[:, None, None] * np.eye(NEIGHBOURS)
        correction = np.linalg.solve(gram, np.einsum("vkn,vn->vk", known, rest)[..., None])[..., 0]
        weights[block] = bilinear[block] + correction
    weights /= weights.sum(1, keepdims=True)
    return {
        "map_mask": mask.astype(np.uint8),
        "map_vertices": sampled_vertices.astype(np.int32),
        "map_vertex_weights": sampled_weights,
        "map_pixels": near.astype(np.int32),
        "map_pixel_weights": weights.astype(np.float32),
    }


def closest_in_plane(
    points: np.ndarray, faces: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The triangle of a plane mesh nearest to each pixel: index (N,), barycentric (N, 3), distance (N,) in pixels."""
    best = np.full(MAP_SIZE * MAP_SIZE, np.inf)
    triangle = np.zeros(MAP_SIZE * MAP_SIZE, np.int64)
    barycentric = np.zeros((MAP_SIZE * MAP_SIZE, 3))
    corners = points[faces]
    low = np.floor(corners.min(1) - 1).astype(int).clip(0, MAP_SIZE - 1)
    high = np.ceil(corners.max(1) + 1).astype(int).clip(0, MAP_SIZE - 1)
    for f in range(len(faces)):
        rows, columns = np.arange(low[f, 0], high[f, 0] + 1), np.arange(low[f, 1], high[f, 1] + 1)
        grid = np.stack(np.meshgrid(rows, columns, indexing="ij"), -1).reshape(-1, 2)
        weights, distance = closest_on_triangles(
            grid.astype(float), np.broadcast_to(corners[f], (len(grid), 3, 2))
        )
        flat = grid[:, 0] * MAP_SIZE + grid[:, 1]
        nearer = (
            distance < best[flat] - OVERLAP
        )  # where the chart overlaps itself, the first triangle counts
        best[flat[nearer]] = distance[nearer]
        triangle[flat[nearer]] = f
        barycentric[flat[nearer]] = weights[nearer]
    return triangle, barycentric, best
