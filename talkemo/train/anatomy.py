"""What lies behind the lips of the canonical face, from ICT-FaceKit (MIT, Li et al. 2020).

Part of the stage `face`. Teeth, gums and tongue are decimated; the mouth socket becomes a grid.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import scipy.sparse as sp

from ..errors import InputError
from ..face.anatomy import MATERIALS, Anatomy
from ..geometry.meshes import boundary_loops, connected_pieces
from .decimation import decimate

# ICT-FaceKit's vertices of the parts.
SOCKET_VERTICES, GUM_VERTICES = slice(11248, 13294), slice(14062, 17039)
UPPER_TEETH_VERTICES, LOWER_TEETH_VERTICES = slice(17039, 19247), slice(19247, 21451)
# Fraction of vertices after decimation. Incisors and canines show more than molars.
KEPT_VERTICES = {"front teeth": 0.75, "teeth": 0.35, "gums": 0.4, "tongue": 0.4}
FRONT_TEETH_MM = 84.0  # least z of the middle of a front tooth
JAW_MOTION_MM = 5.0  # of a part by jawOpen at weight 1, from which on it goes with the jaw
MIN_GUM_VERTICES = 100  # of a texture's island; the uvula is smaller
TONGUE_HALF_WIDTH_MM = 22.0
TONGUE_TOP_MM = -35.0  # height that the tongue's upper side reaches, and its underside does not
SOCKET_RINGS = (0, 2, 5, 8, 11, 15, 19, 23, 27, 31)  # edges from the lips, of the grid's rings


def build_anatomy(path: Path, expression_names: tuple[str, ...]) -> Anatomy:
    """Build the anatomy from ICT-FaceKit's model.npz, for the blend shapes of the canonical face.

    Raises InputError if the model lacks an array or a part.
    """
    try:
        arrays = np.load(path, allow_pickle=False)
        neutral = arrays["neutral"].astype(np.float64) * 10  # cm → mm
        names = [str(name) for name in arrays["expression_names"]]
        shapes = [names.index(name) for name in expression_names]
        expression = arrays["expression"][shapes].astype(np.float32) * 10
        quads, quads_uv = arrays["quads"], arrays["quads_uv"]
    except (OSError, ValueError, KeyError) as error:
        raise InputError(
            f"{path}: cannot be read as ICT-FaceKit's model ({error})",
            "it needs the arrays neutral, expression, expression_names, quads and quads_uv",
        ) from None
    if len(neutral) < LOWER_TEETH_VERTICES.stop:
        raise InputError(f"{path}: has no teeth", "it needs all of ICT-FaceKit's vertices")
    jaw_motion = np.linalg.norm(expression[expression_names.index("jawOpen")], axis=1)
    solid = rigid_parts(neutral, quads, quads_uv, jaw_motion)
    rows = socket_grid(neutral, quads)
    return Anatomy(
        *solid,
        socket=neutral[rows].astype(np.float32),
        socket_offsets=expression[:, rows].astype(np.float16),
    )


def part_triangles(quads: np.ndarray, part: slice) -> tuple[np.ndarray, np.ndarray]:
    """Return triangles (F, 3) of a part's quads, and the quad (F,) that each comes from."""
    inside = ((quads >= part.start) & (quads < part.stop) | (quads < 0)).all(1)
    number = np.flatnonzero(inside)
    chosen = quads[number]
    full = chosen[:, 3] >= 0  # -1 pads a triangle
    triangles = np.concatenate([chosen[:, :3], chosen[full][:, [0, 2, 3]]])
    return triangles, np.concatenate([number, number[full]])


# ------------------------------------------------------------------------- teeth, gums and tongue


def rigid_parts(
    neutral: np.ndarray, quads: np.ndarray, quads_uv: np.ndarray, jaw_motion: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Return points, triangles, material and jaw of teeth, gums and tongue, see `Anatomy`.

    `jaw_motion` (V,) mm is how far jawOpen moves each vertex.
    """
    points, faces, material, jaw, count = [], [], [], [], 0
    for kind, triangles in _pieces(neutral, quads, quads_uv, jaw_motion):
        used, local = np.unique(triangles, return_inverse=True)
        is_front = kind == "teeth" and neutral[used, 2].mean() > FRONT_TEETH_MM
        kept = int(np.ceil(KEPT_VERTICES["front teeth" if is_front else kind] * len(used)))
        places, corners = decimate(neutral[used], local.reshape(-1, 3), kept)
        points.append(places)
        faces.append(corners + count)
        count += len(places)
        material.append(np.full(len(places), MATERIALS.index(kind)))
        jaw.append(np.full(len(places), np.median(jaw_motion[used]) > JAW_MOTION_MM))
    return (
        np.concatenate(points).astype(np.float32),
        np.concatenate(faces).astype(np.uint16),
        np.concatenate(material).astype(np.uint8),
        np.concatenate(jaw).astype(np.uint8),
    )


def _pieces(
    neutral: np.ndarray, quads: np.ndarray, quads_uv: np.ndarray, jaw_motion: np.ndarray
) -> list[tuple[str, np.ndarray]]:
    """Return the kind and the triangles of each tooth, gum and of the tongue."""
    pieces = []
    for part in (UPPER_TEETH_VERTICES, LOWER_TEETH_VERTICES):
        triangles, _ = part_triangles(quads, part)
        component = connected_pieces(triangles, int(triangles.max()) + 1)[triangles[:, 0]]
        pieces += [("teeth", triangles[component == k]) for k in np.unique(component)]
    # Gums, tongue and throat are one surface, cut into islands by its texture coordinates.
    triangles, quad = part_triangles(quads, GUM_VERTICES)
    corners = quads_uv[quad][:, :3]
    island = connected_pieces(corners, int(corners.max()) + 1)[corners[:, 0]]
    for k in np.unique(island):
        rows = triangles[island == k]
        used = np.unique(rows)
        moves = jaw_motion[used] > JAW_MOTION_MM
        if len(used) < MIN_GUM_VERTICES or moves.any() != moves.all():
            continue  # uvula and throat, which the socket hides
        if np.abs(neutral[used, 0]).max() > TONGUE_HALF_WIDTH_MM:
            pieces.append(("gums", rows))
        elif neutral[used, 1].max() > TONGUE_TOP_MM:
            pieces.append(("tongue", rows))
    return pieces


# ------------------------------------------------------------------------------------------ socket


def socket_grid(neutral: np.ndarray, quads: np.ndarray) -> np.ndarray:
    """Return the vertices (R, C) of the mouth socket's grid, see `Anatomy.socket`.

    A column follows the socket's edges from its rim to the throat; every second one is kept.
    """
    triangles, _ = part_triangles(quads, SOCKET_VERTICES)
    triangles = triangles - SOCKET_VERTICES.start
    points = neutral[SOCKET_VERTICES]
    (rim,) = boundary_loops(triangles, len(points))
    pairs = np.concatenate([triangles[:, [0, 1]], triangles[:, [1, 2]], triangles[:, [2, 0]]])
    graph = sp.csr_matrix((np.ones(len(pairs)), pairs.T), (len(points),) * 2)
    graph = graph + graph.T
    ring = sp.csgraph.dijkstra(graph, unweighted=True, indices=rim, min_only=True).astype(int)
    columns = [_column(int(start), points, graph, ring) for start in _ordered_rim(rim, points)]
    depth = min(len(column) for column in columns)
    rings = [k for k in SOCKET_RINGS if k < depth]
    return SOCKET_VERTICES.start + np.array([c for c in columns])[:, rings].T


def _ordered_rim(rim: np.ndarray, points: np.ndarray) -> np.ndarray:
    """Return every second vertex of a rim from the right corner along the upper lip and back."""
    right, left = (points[rim[points[rim, 0].argsort()[k]]] for k in (0, -1))
    middle = (right[1] + left[1]) / 2
    upper = rim[points[rim, 1] >= middle]
    lower = rim[points[rim, 1] < middle]
    upper, lower = upper[points[upper, 0].argsort()], lower[(-points[lower, 0]).argsort()]
    return np.concatenate([upper, lower])[::2]


def _column(start: int, points: np.ndarray, graph: sp.csr_matrix, ring: np.ndarray) -> list[int]:
    """Return the vertices from one of the rim to the innermost ring, as straight as possible.

    Where no neighbour lies in the next ring, the nearest vertex of that ring continues the column.
    """
    column = [start]
    for k in range(1, ring.max() + 1):
        neighbours = graph[column[-1]].indices
        candidates = neighbours[ring[neighbours] == k]
        if not len(candidates):
            candidates = np.flatnonzero(ring == k)
        ahead = points[column[-1]]
        if len(column) > 1:
            ahead = 2 * ahead - points[column[-2]]
        column.append(int(candidates[np.linalg.norm(points[candidates] - ahead, axis=1).argmin()]))
    return column
