"""Heads with wide eyes or with lips of one skin, made from the example face, and their openings."""

from __future__ import annotations

import numpy as np
from scipy.interpolate import LinearNDInterpolator

from talkemo.formats.mesh_types import Mesh
from talkemo.geometry.meshes import vertex_normals


def with_wide_eyes(mesh: Mesh, middles: np.ndarray, factor: float = 1.6) -> Mesh:
    """The mesh with its eyes, around middles (2, 3), higher by a factor."""
    vertices = mesh.vertices.copy()
    for middle in middles:
        offset = mesh.vertices - middle
        near = np.exp(-(np.square(offset[:, :2] / [22, 14]).sum(1) ** 2))
        vertices[:, 1] += (factor - 1) * near * offset[:, 1]
    return Mesh(vertices, mesh.faces)


def one_skin(mesh: Mesh, step_mm: float, voxel_mm: float = 0.0) -> Mesh:
    """The mesh as a scanner ahead of it sees it: without openings, its lips are one skin.

    Its depth is rounded to `voxel_mm`.
    """
    front = mesh.vertices[vertex_normals(mesh.vertices, mesh.faces)[:, 2] > 0.25]
    across, up = np.arange(-72, 72.1, step_mm), np.arange(-100, 92.1, step_mm)
    grid = np.stack(np.meshgrid(across, up, indexing="ij"), 2)
    depth = LinearNDInterpolator(front[:, :2], front[:, 2])(grid)
    if voxel_mm:
        depth = np.round(depth / voxel_mm) * voxel_mm
    known = np.isfinite(depth)
    number = np.full(depth.shape, -1)
    number[known] = np.arange(known.sum())
    corners = (number[:-1, :-1], number[1:, :-1], number[1:, 1:], number[:-1, 1:])
    squares = np.stack(corners, -1).reshape(-1, 4)
    squares = squares[(squares >= 0).all(1)]
    faces = np.concatenate([squares[:, [0, 1, 2]], squares[:, [0, 2, 3]]])
    return Mesh(np.dstack([grid, depth])[known], faces.astype(np.int32))


def heights(
    points: np.ndarray, faces: np.ndarray, planes: np.ndarray, window: tuple[float, float]
) -> np.ndarray:
    """The height (P,) mm of the largest gap in a surface as seen from ahead, in planes x = planes.

    Only what crosses a plane within a window of y counts.
    """
    result = []
    for plane in planes:
        side = points[faces, 0] < plane
        triangles = points[faces[side.any(1) & ~side.all(1)]]
        a, b = triangles, np.roll(triangles, -1, axis=1)
        crossing = (a[..., 0] < plane) != (b[..., 0] < plane)
        share = (plane - a[..., 0][crossing]) / (b[..., 0] - a[..., 0])[crossing]
        y = (a[..., 1][crossing] + share * (b[..., 1] - a[..., 1])[crossing]).reshape(-1, 2)
        low, high = np.sort(y, axis=1).T
        used = (high > window[0]) & (low < window[1])
        order = np.argsort(low[used])
        low, top = low[used][order], np.maximum.accumulate(high[used][order])
        result.append(max((low[1:] - top[:-1]).max(initial=0.0), 0.0))
    return np.array(result)


def least_cover(points: np.ndarray, corners: np.ndarray) -> float:
    """How far the outermost of triangles (F, 3, 3) lie ahead of the points (P, 3), at least.

    Minus infinity if none lies ahead of a point.
    """
    covers = []
    for point in points:
        flat = corners[:, :, :2] - point[:2]
        after = np.roll(flat, -1, axis=1)
        around = flat[..., 0] * after[..., 1] - flat[..., 1] * after[..., 0]
        inside = (around >= 0).all(1) | (around <= 0).all(1)
        shares = np.roll(around[inside], -1, axis=1)  # of the corner opposite each edge
        shares /= shares.sum(1, keepdims=True)
        covers.append((shares * corners[inside, :, 2]).sum(1).max(initial=-np.inf) - point[2])
    return float(min(covers))
