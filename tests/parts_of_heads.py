"""Parts that heads come with, built for the example face: eyes, teeth, mouth bags, hair, glasses.

Positions are in mm, as in examples/face.obj; the face looks along +z with y up.
"""

from __future__ import annotations

import numpy as np
import trimesh
from scipy.spatial import cKDTree

from talkemo.formats.mesh_types import Mesh
from talkemo.geometry.meshes import boundary_loops

Surface = tuple[np.ndarray, np.ndarray]  # vertices (V, 3) and triangles (F, 3)


def grid(points: np.ndarray) -> Surface:
    """Triangles of a grid of points (R, C, 3)."""
    rows, columns = points.shape[:2]
    corner = (np.arange(rows - 1)[:, None] * columns + np.arange(columns - 1)).ravel()
    lower = np.stack([corner, corner + 1, corner + columns], 1)
    upper = np.stack([corner + 1, corner + columns + 1, corner + columns], 1)
    return points.reshape(-1, 3), np.concatenate([lower, upper])


def joined(*surfaces: Surface) -> Surface:
    """Several surfaces as one, still unconnected."""
    starts = np.cumsum([0, *(len(points) for points, _ in surfaces)])
    triangles = [faces + start for (_, faces), start in zip(surfaces, starts)]
    return np.concatenate([points for points, _ in surfaces]), np.concatenate(triangles)


def eyeball(lids: np.ndarray, radius: float, subdivisions: int) -> Surface:
    """A ball whose surface touches the lids (6, 3)."""
    ball = trimesh.creation.icosphere(subdivisions, radius)
    middle, half_width = lids.mean(0), np.ptp(lids[:, 0]) / 2
    sunk = np.sqrt(max(radius**2 - (0.6 * half_width) ** 2, 0.2 * radius**2))
    return np.array(ball.vertices) + middle - [0, 0, sunk], np.array(ball.faces)


def teeth_row(landmarks: np.ndarray, behind_mm: float, heights: tuple[float, float]) -> Surface:
    """A strip along the inner lips, `behind_mm` behind them; heights above the line of the lips."""
    lips = landmarks[60:65]
    x = np.linspace(0.85 * lips[0, 0], 0.85 * lips[-1, 0], 21)
    z = np.interp(x, lips[:, 0], lips[:, 2]) - behind_mm
    y = landmarks[[60, 62, 64, 66], 1].mean() + np.linspace(*heights, 4)
    return grid(np.stack(np.broadcast_arrays(x, y[:, None], z), 2))


def tongue(landmarks: np.ndarray) -> Surface:
    """A flat ellipsoid in the middle of the mouth."""
    ball = trimesh.creation.icosphere(3)
    middle = landmarks[60:68].mean(0)
    return np.array(ball.vertices) * [14, 6, 22] + middle - [0, 7, 32], np.array(ball.faces)


def mouth_loop(mesh: Mesh) -> np.ndarray:
    """The vertices (R,) around the opening of the mouth, in order."""
    loops = boundary_loops(mesh.faces, len(mesh.vertices))
    (loop,) = [rows for rows in loops if mesh.vertices[rows, 1].max() < 0 and len(rows) < 150]
    points = mesh.vertices[loop]
    middle = points.mean(0)
    return loop[np.argsort(np.arctan2(3 * (points[:, 1] - middle[1]), points[:, 0] - middle[0]))]


def mouth_bag(mesh: Mesh, gap_mm: float, rings: int = 10, behind_mm: float = 3.0) -> Surface:
    """A bag that begins `gap_mm` behind the lips' inner edge and widens into cheeks and chin.

    It stays `behind_mm` behind the skin.
    """
    rim = mesh.vertices[mouth_loop(mesh)]
    middle = rim.mean(0)
    angle = np.arctan2(3 * (rim[:, 1] - middle[1]), rim[:, 0] - middle[0])
    wide = np.stack([36 * np.cos(angle), 30 * np.sin(angle)], 1)
    rings_of_points = []
    for share in np.linspace(0, 1, rings):
        size = np.sin(np.pi * (0.5 + 0.5 * max(2 * share - 1, 0)))
        blend = min(3 * share, 1.0)
        ring = rim - [0, 0, gap_mm + 45 * share]
        ring[:, :2] = middle[:2] + (1 - blend) * (rim - middle)[:, :2] + blend * size * wide
        surface = front_surface(mesh.vertices, ring[:, :2]) - behind_mm
        ring[:, 2] = np.minimum(ring[:, 2], surface) if share else ring[:, 2]
        rings_of_points.append(ring)
    closed = np.stack(rings_of_points)
    return grid(np.concatenate([closed, closed[:, :1]], 1))


def front_surface(vertices: np.ndarray, positions: np.ndarray) -> np.ndarray:
    """The depth (P,) of the foremost of the vertices (V, 3) near positions (P, 2) seen from ahead."""
    _, near = cKDTree(vertices[:, :2]).query(positions, k=6)
    return vertices[near, 2].max(1)


def hair_card(x: float, top: float, bottom: float, front: np.ndarray, off_mm: float) -> Surface:
    """A strip 8 mm wide from `top` down to `bottom`, `off_mm` over the skin (V, 3)."""
    points = np.stack(np.meshgrid(np.linspace(top, bottom, 15), x + np.linspace(-4, 4, 3)), 2)
    flat = points.reshape(-1, 2)[:, ::-1]
    z = front_surface(front, flat) + off_mm
    return grid(np.column_stack([flat, z]).reshape(3, 15, 3))


def lens(lids: np.ndarray, ahead_mm: float) -> Surface:
    """A plate of 44 by 32 mm in front of an eye."""
    middle = lids.mean(0)
    x, y = np.meshgrid(np.linspace(-22, 22, 7), np.linspace(-16, 16, 5))
    return grid(np.stack([x, y, np.full(x.shape, ahead_mm)], 2) + middle)


def brow(landmarks: np.ndarray, off_mm: float) -> Surface:
    """A strip 6 mm high along the landmarks (5, 3) of a brow, `off_mm` in front of them."""
    heights = np.linspace(-3, 3, 3)[:, None, None] * [0, 1, 0]
    return grid(landmarks + heights + [0, 0, off_mm])


def lash(landmarks: np.ndarray, tilt: float) -> Surface:
    """A strip that leaves a lid's landmarks (4, 3) forwards by 6 mm and up by `tilt` mm."""
    steps = np.linspace(0.1, 1, 4)[:, None, None] * [0, tilt, 6]
    return grid(landmarks + steps)


def beard(mesh: Mesh, landmarks: np.ndarray, off_mm: float) -> Surface:
    """The skin below the mouth and around the chin, `off_mm` outwards."""
    from talkemo.geometry.meshes import vertex_normals

    points = mesh.vertices + off_mm * vertex_normals(mesh.vertices, mesh.faces)
    low = mesh.vertices[:, 1] < landmarks[57, 1] - 4
    faces = mesh.faces[low[mesh.faces].all(1)]
    used, renumbered = np.unique(faces, return_inverse=True)
    return points[used], renumbered.reshape(-1, 3)


def with_parts(mesh: Mesh, **parts: Surface) -> tuple[Mesh, dict[str, np.ndarray]]:
    """The mesh with surfaces added, and the rows of each by name; the mesh itself is `skin`."""
    surfaces = [(mesh.vertices, mesh.faces), *parts.values()]
    vertices, faces = joined(*surfaces)
    starts = np.cumsum([0, *(len(points) for points, _ in surfaces)])
    rows = {
        name: np.arange(start, stop)
        for name, start, stop in zip(("skin", *parts), starts[:-1], starts[1:])
    }
    return Mesh(vertices, faces.astype(np.int32)), rows


def coarse(mesh: Mesh, cell_mm: float) -> Mesh:
    """The mesh with vertices merged in cells; the lips stay apart, as their normals differ."""
    from talkemo.geometry.meshes import vertex_normals

    normals = vertex_normals(mesh.vertices, mesh.faces)
    keys = np.column_stack([np.round(mesh.vertices / cell_mm), normals[:, 1] > 0]).astype(int)
    _, first, cell = np.unique(keys, axis=0, return_index=True, return_inverse=True)
    faces = cell.reshape(-1)[mesh.faces]
    kept = (faces != np.roll(faces, 1, axis=1)).all(1)
    return Mesh(mesh.vertices[first], faces[kept].astype(np.int32))
