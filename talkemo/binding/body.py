"""The mesh that is bound: duplicate vertices are merged, lengths are canonical millimetres.

skin.py, parts.py and mouth.py assign the motion of its vertices, one part after the other.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import scipy

from ..face.canonical import Face
from ..face.openings import COLUMNS
from ..formats.mesh_types import Mesh
from ..geometry.meshes import connected_pieces, mesh_edges, vertex_normals
from .registration import Fit

# Distance within which vertices count as duplicates, relative to the mesh's size.
WELD_TOLERANCE = 1e-6
MAX_OPPOSITE_COSINE = -0.3  # between normals: below, duplicate vertices stay separate
CONTOUR_POINTS = 2 * COLUMNS + 2  # of the edge of the lids of an eye
MIN_EDGE_MM = 0.05  # lower bound of edge lengths, whose inverse is the weight of an edge


@dataclass(frozen=True, eq=False)
class Welded:
    """A mesh with duplicate vertices merged."""

    first: np.ndarray  # (W,), first original vertex of each merged one
    faces: np.ndarray  # (F, 3), triangles of merged vertices
    merged: np.ndarray  # (N,), merged vertex of each original one


def weld(mesh: Mesh, apart: np.ndarray | None = None) -> Welded:
    """Merge duplicate vertices; return first index, faces and the vertex-to-merged map.

    Duplicates with opposite normals stay separate, as where closed lips touch, and so do those that
    `apart` (N,) bool marks from those that it does not. The rim of a part that touches the middle of
    another, as lashes and tear lines do, is not joined with it.
    """
    size = np.ptp(mesh.vertices, axis=0).max()
    cell = np.round(mesh.vertices / (WELD_TOLERANCE * size)).astype(np.int64)
    cell -= cell.min(0)  # below 2^21, so that a cell is one number: faster than comparing rows
    key = (cell[:, 0] << 42) + (cell[:, 1] << 21) + cell[:, 2]
    _, first, place = np.unique(key, return_index=True, return_inverse=True)
    if apart is None:  # else the normals of a cut's edges are alike
        normals = vertex_normals(mesh.vertices, mesh.faces)
        apart = np.einsum("vc,vc->v", normals, normals[first[place]]) < MAX_OPPOSITE_COSINE
    part = _touching_part(mesh.faces, place)
    key = (2 * place + apart) * (int(part.max()) + 1) + part
    _, first, merged = np.unique(key, return_index=True, return_inverse=True)
    faces = merged[mesh.faces]
    degenerate = (faces == faces[:, [1, 2, 0]]).any(1)
    return Welded(first, faces[~degenerate], merged)


def _touching_part(faces: np.ndarray, place: np.ndarray) -> np.ndarray:
    """Return the number (N,) of the part whose rim touches the middle of another at a vertex; else 0.

    `place` (N,) is where vertices are; `faces` have them as the file does, without merging any.
    """
    count = len(place)
    is_double = np.bincount(place)[place] > 1
    near = faces[is_double[faces].any(1)]
    edges, triangles = mesh_edges(near)
    rim = np.zeros(count, bool)
    rim[edges[triangles == 1].ravel()] = True
    inside = np.zeros(count, bool)
    inside[near] = True
    inside &= is_double & ~rim
    touches = is_double & rim & np.isin(place, place[inside])
    if not touches.any():
        return np.zeros(count, np.int64)
    # Parts are connected where rims meet at seams, too.
    node = np.where(touches, count + np.arange(count), place)
    return np.where(touches, connected_pieces(node[faces], 2 * count)[node] + 1, 0)


class Body:
    """A welded mesh of N vertices, and the motion assigned to its vertices so far.

    Parameters
    ----------
    face : Face
    fit : Fit
        The bilinear model fitted to the mesh.
    fitted : (V, 3)
        The canonical face after non-rigid registration, in canonical mm.
    vertices, faces : (N, 3), (F, 3)
        Of the welded mesh, in its own space.
    groups : (N,) str, optional
        Kinds of the vertices by the groups of the file, see `groups.GROUP_KINDS`. Eyes, teeth
        and tongue are parts of their own, even if triangles join them with the skin.
    named : (N,) str, optional
        Kinds of parts by the names in the file, see `MeshAttributes.named`.
    """

    def __init__(
        self,
        face: Face,
        fit: Fit,
        fitted: np.ndarray,
        vertices: np.ndarray,
        faces: np.ndarray,
        groups: np.ndarray | None = None,
        named: np.ndarray | None = None,
    ):
        count = len(vertices)
        self.face, self.fit, self.fitted = face, fit, fitted
        self.faces, self.groups, self.named = faces, groups, named
        self.points = fit.placement.to_canonical(vertices)  # (N, 3) canonical mm
        self.normals = vertex_normals(self.points, faces)
        # (S, N, 3), displacement in mm by each blend shape at weight 1.
        self.targets = np.zeros((len(face.expression_names), count, 3), np.float32)
        self.canonical = np.full(count, -1)  # nearest canonical vertex
        self.skin = np.zeros(count, bool)
        self.other = np.zeros(count, bool)  # vertices of parts that are recognised as no skin
        # Triangles (F,) that close an eye, and the edges of the right and the left lids around them.
        self.sheet = np.zeros(len(faces), bool)
        self.lid_contours = np.zeros((2, CONTOUR_POINTS, 3))
        self.edges, triangles = mesh_edges(faces)
        self.rim = np.zeros(count, bool)  # vertices on a boundary of the mesh
        self.rim[self.edges[triangles == 1].ravel()] = True
        a, b = self.edges.T
        if groups is not None:
            kinds = np.where(groups == "hidden", "skin", groups)
            same_kind = kinds[a] == kinds[b]
            self.rim[self.edges[~same_kind].ravel()] = True
            a, b = a[same_kind], b[same_kind]
        length = np.linalg.norm(self.points[a] - self.points[b], axis=1)
        graph = scipy.sparse.csr_matrix(
            (1 / np.maximum(length, MIN_EDGE_MM), (a, b)), (count, count)
        )
        self.graph = graph + graph.T  # sparse (N, N), inverse lengths of edges
        components = scipy.sparse.csgraph.connected_components(self.graph, directed=False)
        self.component_count, self.component = components  # component of each vertex

    def separate(self, rows: np.ndarray) -> None:
        """Make vertices a part of their own, though triangles join them with others."""
        inside = np.zeros(len(self.points), bool)
        inside[rows] = True
        graph = self.graph.tocoo()
        kept = inside[graph.row] == inside[graph.col]
        entries = graph.data[kept], (graph.row[kept], graph.col[kept])
        self.graph = scipy.sparse.csr_matrix(entries, graph.shape)
        self.rim[np.unique(np.stack([graph.row, graph.col])[:, ~kept])] = True
        components = scipy.sparse.csgraph.connected_components(self.graph, directed=False)
        self.component_count, self.component = components

    def fill_harmonic(self, free: np.ndarray, freed: np.ndarray | None = None) -> None:
        """Interpolate the motion of free vertices (N,) bool harmonically between the others.

        Connected parts that consist of free vertices only do not move. If the others were filled
        before, `freed` (N,) bool marks the new ones: only what is connected with them changes.
        """
        rows = np.flatnonzero(free)
        if not len(rows):
            return
        graph = self.graph[rows]
        count, component = scipy.sparse.csgraph.connected_components(graph[:, rows], directed=False)
        if freed is not None:
            changes = np.zeros(count, bool)
            changes[component[freed[rows]]] = True
            kept = changes[component]
            rows, graph, component = rows[kept], graph[kept], component[kept]
        bounded = np.zeros(count, bool)
        bounded[component[np.asarray(graph @ (~free).astype(float)) > 0]] = True
        self.targets[:, rows[~bounded[component]]] = 0
        rows = rows[bounded[component]]
        if not len(rows):
            return
        self._solve(free, rows, np.full(len(rows), 1e-9), None)

    def fill_smoothly(self, rows: np.ndarray, aim: np.ndarray, stiffness: np.ndarray) -> None:
        """Interpolate the motion of vertices (R,), each drawn to an aim.

        Parameters
        ----------
        rows : (R,)
            Their neighbours that are not among them keep their motion.
        aim : (S, R, 3)
            Displacement in mm that a vertex without neighbours has.
        stiffness : (R,)
            Of the aim, beside the inverse lengths of the edges.
        """
        free = np.zeros(len(self.points), bool)
        free[rows] = True
        self._solve(free, rows, stiffness, aim)

    def _solve(
        self, free: np.ndarray, rows: np.ndarray, stiffness: np.ndarray, aim: np.ndarray | None
    ) -> None:
        """Set the motion of vertices (R,), those that are `free` (N,), to the smoothest one."""
        graph = self.graph[rows]
        laplacian = scipy.sparse.diags(np.asarray(graph.sum(1))[:, 0] + stiffness) - graph[:, rows]
        boundary = np.unique(graph.indices)
        boundary = boundary[~free[boundary]]
        flat = lambda targets: targets.transpose(1, 0, 2).reshape(-1, 3 * len(targets))
        right = np.asarray(graph[:, boundary] @ flat(self.targets[:, boundary]), np.float64)
        if aim is not None:
            right += stiffness[:, None] * flat(aim)
        solved = scipy.sparse.linalg.splu(laplacian.tocsc()).solve(right)
        self.targets[:, rows] = solved.reshape(len(rows), -1, 3).transpose(1, 0, 2)
