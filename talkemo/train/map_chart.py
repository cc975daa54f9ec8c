"""Planar parameterisation of the mean face, for the geometry map (3D-TalkEmo, section 3.2).

Geodesic distances between all vertices by the heat method (Crane et al. 2013), classical
multidimensional scaling (MDS) to the plane, and the tables by which `GeometryMap` samples
displacements on a grid and reads them back.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np

from ..data.captures import StepProgress
from ..face.geometry_map import MAP_SIZE
from ..geometry.meshes import closest_on_triangles

CHART_MARGIN_PIXELS = 2.0  # left free around the chart
MASK_REACH_PIXELS = 0.75  # largest distance of a mask pixel's centre from the surface
DISTANCE_TOLERANCE_PIXELS = 1e-6  # distances from triangles that differ by less are equal
VERTEX_PIXELS = 32  # nearest pixels that a vertex is interpolated from
DECODING_RIDGE = 1e-7  # of the regression of decoding weights, relative to its normal matrix
MIN_CONDUCTANCE = 1e-3  # lower bound of the cotangent weights in the diffusion of heat


def geodesic_distances(
    vertices: np.ndarray,
    faces: np.ndarray,
    batch: int = 128,
    progress: Callable[[int, int], None] | None = None,
) -> np.ndarray:
    """All pairwise geodesic distances on a triangle mesh, by the heat method (Crane et al. 2013).

    Diffuse a unit of heat from each source for a short time, normalise its gradient, and solve the
    Poisson equation for the function with that gradient.

    Parameters
    ----------
    vertices : (V, 3)
    faces : (F, 3) int
    batch
        Sources that are solved for at once.
    progress
        Called after each batch with the number of sources done, and their total.

    Returns
    -------
    (V, V) float32, in the unit of the vertices.
    """
    heat, poisson, gradient, divergence = _heat_method_operators(vertices, faces)
    count = len(vertices)
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


def _heat_method_operators(vertices: np.ndarray, faces: np.ndarray) -> tuple[Any, Any, Any, Any]:
    """Factorised heat and Poisson matrices, gradient (3·F, V), integrated divergence (V, 3·F)."""
    import scipy.sparse as sp
    from scipy.sparse.linalg import splu

    def stiffness(weight: Any) -> Any:
        return (sp.diags(np.asarray(weight.sum(1)).ravel()) - weight).tocsc()

    count = len(vertices)
    corners = vertices.astype(np.float64)[faces]  # (F, 3, 3)
    # The edge that faces each corner, (F, 3, 3).
    opposite = np.roll(corners, -1, 1) - np.roll(corners, -2, 1)
    normal = np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0])
    double_area = np.maximum(np.linalg.norm(normal, axis=1), 1e-12)
    # Cotangent of the angle at each corner: −(dot product of the two edges there) / (2·area).
    products = np.einsum("fkc,fkc->fk", np.roll(opposite, -1, 1), np.roll(opposite, -2, 1))
    cotangent = -products / double_area[:, None]
    i, j = np.roll(faces, -1, 1).ravel(), np.roll(faces, -2, 1).ravel()
    weight = sp.coo_matrix((cotangent.ravel() / 2, (i, j)), (count, count)).tocsr()
    weight = weight + weight.T
    laplacian = stiffness(weight)
    mass = np.bincount(faces.ravel(), np.repeat(double_area / 6, 3), count)
    edge = np.linalg.norm(opposite, axis=2).mean()
    # Far from its source heat falls below 1e-60 and stays positive and exact only without negative
    # weights, which obtuse triangles have. They are raised for the diffusion alone.
    conductance = weight.copy()
    conductance.data = np.maximum(conductance.data, MIN_CONDUCTANCE)
    heat = splu((sp.diags(mass) + edge**2 * stiffness(conductance)).tocsc())
    poisson = splu((laplacian + 1e-9 * sp.diags(mass)).tocsc())

    unit = normal / double_area[:, None]
    slope = np.cross(unit[:, None], opposite) / double_area[:, None, None]  # (F, 3 corners, 3)
    rows = (np.arange(len(faces))[:, None, None] * 3 + np.arange(3)).repeat(3, axis=1)
    columns = np.broadcast_to(faces[:, :, None], rows.shape)
    gradient = sp.csr_matrix(
        (slope.ravel(), (rows.ravel(), columns.ravel())), (3 * len(faces), count)
    )
    divergence = (gradient.T @ sp.diags(np.repeat(double_area / 2, 3))).tocsr()
    return heat, poisson, gradient, divergence


def classical_mds(distances: np.ndarray) -> tuple[np.ndarray, float]:
    """Embed distances (V, V) in the plane: points (V, 2), and their relative stress."""
    from scipy.sparse.linalg import LinearOperator, eigsh

    count = len(distances)
    squared = distances**2
    row_mean = squared.mean(1, dtype=np.float64)
    total = row_mean.mean()

    def double_centred(x: np.ndarray) -> np.ndarray:
        x = x.ravel()
        return -0.5 * (
            squared @ x.astype(np.float32) - row_mean * x.sum() - row_mean @ x + total * x.sum()
        )

    operator = LinearOperator((count, count), matvec=double_centred, dtype=np.float64)
    values, vectors = eigsh(operator, k=2, tol=1e-6, v0=np.linspace(-1, 1, count))
    points = vectors[:, ::-1] * np.sqrt(values[::-1])
    return points, mds_stress(points, distances)


def mds_stress(points: np.ndarray, distances: np.ndarray) -> float:
    """Relative stress sqrt(Σ(d − d̂)² / Σd²) of points (V, 2), scaled to minimise it."""
    product = plane_squared = distance_squared = 0.0
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
    vertices: np.ndarray,
    faces: np.ndarray,
    mirror: np.ndarray,
    progress: StepProgress = lambda step, done, total: None,
) -> tuple[np.ndarray, float]:
    """Chart (V, 2) mm of the mean face, upright and left-right symmetric, and its relative stress.

    mirror : (V,), the index of each vertex's mirror image.
    progress : called with the name of a step, the parts of it that are done and their total.
    """
    distances = geodesic_distances(vertices, faces, progress=partial(progress, "geodesics"))
    progress("chart", 0, 2)
    points, _ = classical_mds(distances)
    progress("chart", 1, 2)
    # Eigenvectors have arbitrary order and signs: the axis that follows y becomes up.
    height = vertices[:, 1] - vertices[:, 1].mean()
    if abs(points[:, 0] @ height) > abs(points[:, 1] @ height):
        points = points[:, ::-1]
    points = points * np.sign([points[:, 0] @ vertices[:, 0], points[:, 1] @ height])
    points = (points + points[mirror] * [-1, 1]) / 2
    return points.astype(np.float32), mds_stress(points, distances)


def chart_to_pixels(chart: np.ndarray) -> np.ndarray:
    """Row and column (V, 2) of chart points (V, 2) mm; the chart fills the map undistorted."""
    low, high = chart.min(0), chart.max(0)
    scale = (MAP_SIZE - 1 - 2 * CHART_MARGIN_PIXELS) / (high - low).max()
    centred = (chart - (low + high) / 2) * scale
    return np.stack(
        [(MAP_SIZE - 1) / 2 - centred[:, 1], (MAP_SIZE - 1) / 2 + centred[:, 0]], axis=1
    )


def make_tables(
    chart: np.ndarray,
    faces: np.ndarray,
    displacements: np.ndarray,
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> dict[str, np.ndarray]:
    """Tables by which `GeometryMap` encodes and decodes displacements; fields of `Face` by name.

    Encoding samples a pixel of the mask inside the chart's triangle under it. Decoding interpolates
    a vertex from the VERTEX_PIXELS pixels around it. Where the slit between the lips is narrower
    than a pixel, bilinear weights would mix the lips; so ridge regression moves them towards
    weights that reproduce example displacements.

    Parameters
    ----------
    chart : (V, 2) mm
    faces : (F, 3) int
    displacements : (N, V, 3)
        Of many faces and expressions.
    progress
        Called with the number of vertices whose weights are computed, and their total.

    Returns
    -------
    map_mask : (MAP_SIZE, MAP_SIZE) uint8
    map_vertices, map_vertex_weights : (M, 3) int32, float32
    map_pixels, map_pixel_weights : (V, VERTEX_PIXELS) int32, float32
    """
    from scipy.spatial import cKDTree

    points = chart_to_pixels(chart)
    triangle, barycentric, distance = closest_triangles(points, faces)
    mask = (distance <= MASK_REACH_PIXELS).reshape(MAP_SIZE, MAP_SIZE)
    pixels = np.flatnonzero(mask)
    vertices, weights = faces[triangle[pixels]], barycentric[pixels].astype(np.float32)
    grid = np.stack(np.unravel_index(pixels, mask.shape), axis=1)
    _, nearest_pixels = cKDTree(grid).query(points, k=VERTEX_PIXELS)
    offset = np.abs(grid[nearest_pixels] - points[:, None])
    bilinear = np.clip(1 - offset, 0, None).prod(2) + 1e-9 * np.exp(-offset.sum(2))
    bilinear /= bilinear.sum(1, keepdims=True)

    fields = displacements.transpose(1, 0, 2).reshape(len(points), -1).astype(np.float32)  # (V, 3N)
    fields /= np.sqrt((fields**2).mean(0)) + 1e-9
    pixel_values = np.einsum("mkn,mk->mn", fields[vertices], weights)
    return {
        "map_mask": mask.astype(np.uint8),
        "map_vertices": vertices.astype(np.int32),
        "map_vertex_weights": weights,
        "map_pixels": nearest_pixels.astype(np.int32),
        "map_pixel_weights": _decoding_weights(
            fields, pixel_values, nearest_pixels, bilinear, progress
        ),
    }


def _decoding_weights(
    fields: np.ndarray,
    pixel_values: np.ndarray,
    pixels: np.ndarray,
    initial: np.ndarray,
    progress: Callable[[int, int], None],
) -> np.ndarray:
    """Weights (V, K) float32 near the initial ones that reproduce fields (V, 3·N) from pixels."""
    result = np.empty_like(initial)
    for start in range(0, len(fields), 256):
        progress(start, len(fields))
        block = slice(start, start + 256)
        inputs = pixel_values[pixels[block]]  # (256, K, 3N)
        # A constant field must be reproduced; the division below makes it exact.
        constant = np.full((*inputs.shape[:2], 1), 100.0, np.float32)
        inputs = np.concatenate([inputs, constant], axis=2).astype(np.float64)
        target = np.column_stack([fields[block], np.full(len(inputs), 100.0)])
        error = target - np.einsum("vkn,vk->vn", inputs, initial[block])
        gram = inputs @ inputs.transpose(0, 2, 1)
        trace = np.einsum("vkk->v", gram)[:, None, None]
        gram += DECODING_RIDGE * trace * np.eye(VERTEX_PIXELS)
        moment = np.einsum("vkn,vn->vk", inputs, error)[..., None]
        result[block] = initial[block] + np.linalg.solve(gram, moment)[..., 0]
    result /= result.sum(1, keepdims=True)
    return result.astype(np.float32)


def closest_triangles(
    points: np.ndarray, faces: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Closest triangle of a plane mesh to each pixel of the map.

    Returns
    -------
    triangle : (SIZE²,) int64
    barycentric : (SIZE², 3)
    distance : (SIZE²,), in pixels; infinite far from the mesh
    """
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
        pixel = grid[:, 0] * MAP_SIZE + grid[:, 1]
        # Where the chart overlaps itself, the first triangle counts.
        nearer = distance < best[pixel] - DISTANCE_TOLERANCE_PIXELS
        best[pixel[nearer]] = distance[nearer]
        triangle[pixel[nearer]] = f
        barycentric[pixel[nearer]] = weights[nearer]
    return triangle, barycentric, best
