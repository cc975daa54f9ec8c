"""Cutting the triangles of a mesh along the edges of lids that it does not have.

The surface of a closed eye goes on as skin. Its triangles are divided where the lids' edges cross
them, so that what is taken away between the lids (lid_sheet.py) ends smoothly.
"""

from __future__ import annotations

import numpy as np

from ..formats.mesh_types import Mesh
from ..geometry.rigid import Similarity
from .cut_attributes import CUT_FRACTIONS, AddedVertices, cut_attributes
from .lid_sheet import between_lids, sheet_between_lids

SEARCH_STEPS = 14  # halvings in the search for where an edge crosses the lids'


def cut_lids(mesh: Mesh, skin: np.ndarray, placement: Similarity, contours: np.ndarray) -> Mesh:
    """Return a mesh whose triangles are divided along the edges of lids.

    The mesh's own vertices come first.

    Parameters
    ----------
    mesh : Mesh
    skin : (N,) bool
        The vertices that may be cut.
    placement : Similarity
        Of the canonical face in the mesh.
    contours : (2, P, 3)
        See `Binding.lid_contours`. A web between modelled lids has no vertices of its own: there
        the mesh's edges are those of the lids, and nothing is cut.
    """
    points = placement.to_canonical(mesh.vertices)
    for contour in contours:
        if contour.any():
            mesh = _cut_along(mesh, points, skin, contour)
            added = len(mesh.vertices) - len(points)
            points = np.concatenate([points, placement.to_canonical(mesh.vertices[len(points) :])])
            skin = np.append(skin, np.zeros(added, bool))
    return mesh


def _cut_along(mesh: Mesh, points: np.ndarray, skin: np.ndarray, contour: np.ndarray) -> Mesh:
    """Return a mesh with vertices (N, 3) in canonical mm, divided along one contour (P, 3)."""
    of_skin = np.flatnonzero(skin[mesh.faces].all(1))
    faces = mesh.faces[of_skin]
    sheet = sheet_between_lids(points, faces, contour)
    if not len(np.setdiff1d(faces[sheet], faces[~sheet])):
        return mesh
    inside = between_lids(points, contour)
    corners = inside[faces].sum(1)
    split, faces = (chosen[(corners == 1) | (corners == 2)] for chosen in (of_skin, faces))
    # The corner that lies alone on its side of the contour comes first.
    alone = (inside[faces] == (inside[faces].sum(1) == 1)[:, None]).argmax(1)
    faces = np.take_along_axis(faces, (alone[:, None] + np.arange(3)) % 3, 1)
    pairs = faces[:, [[0, 1], [0, 2]]].reshape(-1, 2)
    pairs = np.where(inside[pairs[:, :1]], pairs, pairs[:, ::-1])  # the inner end comes first
    edges, row = np.unique(pairs, axis=0, return_inverse=True)
    added = AddedVertices(edges, _crossing(points, edges, contour))
    first, second = (len(points) + row.reshape(-1, 2)).T
    lone, left, right = faces.T
    pieces = [(lone, first, second), (first, left, right), (first, right, second)]
    new_faces = np.concatenate(
        [np.delete(mesh.faces, split, axis=0), *(np.column_stack(piece) for piece in pieces)]
    ).astype(np.int32)
    parents = np.concatenate([np.delete(np.arange(len(mesh.faces)), split), *3 * [split]])
    ends = mesh.vertices[edges]
    new = ends[:, 0] + added.fraction[:, None] * (ends[:, 1] - ends[:, 0])
    origin = mesh.origin
    if origin is not None:
        origin = origin.with_cut(added.between, added.fraction)
    attributes = cut_attributes(mesh, added, new_faces, parents)
    vertices = np.concatenate([mesh.vertices, new])
    return Mesh(vertices, new_faces, attributes, mesh.name, origin=origin)


def _crossing(points: np.ndarray, edges: np.ndarray, contour: np.ndarray) -> np.ndarray:
    """Return where edges (E, 2) from inside a contour cross it, as fractions (E,)."""
    start, end = points[edges[:, 0]], points[edges[:, 1]]
    low, high = np.zeros(len(edges)), np.ones(len(edges))
    for _ in range(SEARCH_STEPS):
        middle = (low + high) / 2
        inside = between_lids(start + middle[:, None] * (end - start), contour)
        low, high = np.where(inside, middle, low), np.where(inside, high, middle)
    return np.clip((low + high) / 2, *CUT_FRACTIONS)
