"""The welded mesh in canonical millimetres, whose vertices are given their motion one part after the other."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import scipy.sparse as sp
from scipy.sparse.linalg import splu

from ..face.canonical import Face
from ..formats.mesh_types import Mesh
from ..geometry.meshes import mesh_edges, vertex_normals
from .registration import Fit

WELD = 1e-6  # of the mesh's size, within which vertices are at one place
OPPOSITE = (
    -0.3
)  # cosine of the angle between normals below which vertices at one place stay separate
SHORTEST_EDGE = 0.05  # mm, lower bound of an edge's length where its stiffness is the inverse


@dataclass(frozen=True, eq=False)
class Welded:
    """A mesh with duplicate vertices merged.

    first: (W,) index of the first original vertex of each merged one; faces: (F, 3) of merged vertices;
    merged: (N,) for each original vertex the merged one
    """

    first: np.ndarray
    faces: np.ndarray
    merged: np.ndarray


def weld(mesh: Mesh) -> Welded:
    """Merge duplicate vertices. Where closed lips touch, opposite normals keep the upper and the lower one apart."""
    size = np.ptp(mesh.vertices, axis=0).max()
    key = np.round(mesh.vertices / (WELD * size)).astype(np.int64)
    _, first, merged = np.unique(key, axis=0, return_index=True, return_inverse=True)
    merged = merged.reshape(-1)
    normals = vertex_normals(mesh.vertices, mesh.faces)
    opposite = np.einsum("vc,vc->v", normals, normals[first[merged]]) < OPPOSITE
    _, first, merged = np.unique(2 * merged + opposite, return_index=True, return_inverse=True)
    faces = merged[mesh.faces]
    real = (
        (faces[:, 0] != faces[:, 1]) & (faces[:, 1] != faces[:, 2]) & (faces[:, 2] != faces[:, 0])
    )
    return Welded(first, faces[real], merged)


class Body:
    """A welded mesh of N vertices with what is known of it so far.

    fit: the canonical face laid over the mesh; fitted: (V, 3) the same, moved onto the mesh freely
    points, normals: (N, 3) in canonical mm; shapes: (S, N, 3) mm, the motion that its vertices have been given
    canonical: (N,) nearest canonical vertex; skin: (N,) bool
    edges: (E, 2); rim: (N,) bool, vertices on an edge of one triangle only; label: (N,) connected part, of `parts`
    """

    def __init__(
        self, face: Face, fit: Fit, fitted: np.ndarray, vertices: np.ndarray, faces: np.ndarray
    ):
        self.face, self.fit, self.fitted, self.faces = face, fit, fitted, faces
        self.points = fit.placement.to_canonical(vertices)
        self.normals = vertex_normals(self.points, faces)
        count = len(vertices)
        self.shapes = np.zeros((len(face.expression_names), count, 3), np.float32)
        self.canonical = np.full(count, -1)
        self.skin = np.zeros(count, bool)
        self.edges, times = mesh_edges(faces)
        self.rim = np.zeros(count, bool)
        self.rim[self.edges[times == 1].ravel()] = True
        length = np.linalg.norm(
            self.points[self.edges[:, 0]] - self.points[self.edges[:, 1]], axis=1
        )
        graph = sp.csr_matrix((1 / np.maximum(length, SHORTEST_EDGE), self.edges.T), (count, count))
        self.graph = graph + graph.T
        self.parts, self.label = sp.csgraph.connected_components(self.graph, directed=False)

    def fill(self, free: np.ndarray) -> None:
        """Give free vertices (N,) bool the harmonic motion over the edges between those that are not free."""
        reached = self._reached(free)
        self.shapes[:, free & ~reached] = 0
        rows = np.flatnonzero(free & reached)
        if not len(rows):
            return
        part = self.graph[rows]
        laplacian = sp.diags(np.asarray(part.sum(1))[:, 0] + 1e-9) - part[:, rows]
        boundary = np.unique(part.indices)
        boundary = boundary[~free[boundary]]
        values = self.shapes[:, boundary].transpose(1, 0, 2).reshape(len(boundary), -1)
        outer = part[:, boundary]
        solved = splu(laplacian.tocsc()).solve(np.asarray(outer @ values, np.float64))
        self.shapes[:, rows] = solved.reshape(len(rows), -1, 3).transpose(1, 0, 2)

    def _reached(self, free: np.ndarray) -> np.ndarray:
        """(N,) bool, free vertices that are connected through free ones to a vertex that is not free."""
        rows = np.flatnonzero(free)
        result = np.zeros(len(free), bool)
        if not len(rows):
            return result
        part = self.graph[rows]
        number, label = sp.csgraph.connected_components(part[:, rows], directed=False)
        outside = np.asarray(part @ (~free).astype(float)) > 0
        touches = np.zeros(number, bool)
        touches[label[outside]] = True
        result[rows] = touches[label]
        return result
