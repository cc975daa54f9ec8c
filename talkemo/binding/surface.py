"""Points sampled on the surface of a mesh, and the closest of them to a fitted face."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
import scipy

from ..face.canonical import Face
from ..geometry.meshes import area_vectors, vertex_normals
from ..geometry.rigid import Similarity

# Weight of unit normals beside positions in the search for closest points. Opposite normals count
# like twice this distance, which keeps the upper and lower lip apart.
NORMAL_WEIGHT_MM = 8.0
MIN_SURFACE_POINTS = 20_000  # coarser meshes get this number of random points as well
MATCH_MARGIN_MM = 30.0  # around the canonical face's box, within which closest points are searched
# Of more points than these, one is kept in each cell of a grid for each octant of the normals: in a
# search around a face, and in one of the whole mesh, whose cells are relative to its longest side.
MAX_POINTS, MATCH_CELL_MM, SEARCH_CELL = 50_000, 1.0, 1 / 250


@dataclass(frozen=True, eq=False)
class Surface:
    """Points (N, 3) on a mesh with unit normals (N, 3)."""

    points: np.ndarray
    normals: np.ndarray

    @cached_property
    def coarse(self) -> Surface:
        """The surface, with fewer points if it has many: enough to find out where a face may be."""
        return self.thinned(SEARCH_CELL * float(np.ptp(self.points, axis=0).max()))

    def inside(self, chosen: np.ndarray, cell: float) -> Surface:
        """Return the surface of chosen points (N,) bool; many are thinned, see `thinned`."""
        return Surface(self.points[chosen], self.normals[chosen]).thinned(cell)

    def thinned(self, cell: float) -> Surface:
        """Return the surface with one point in each cell, for each octant of the normals.

        `cell` is in the mesh's unit. A surface of at most MAX_POINTS stays as it is.
        """
        if len(self.points) <= MAX_POINTS:
            return self
        place = ((self.points - self.points.min(0)) / cell).astype(np.int64)
        octant = (self.normals > 0) @ np.array([1, 2, 4])
        sides = place.max(0) + 1
        key = ((place[:, 0] * sides[1] + place[:, 1]) * sides[2] + place[:, 2]) * 8 + octant
        kept = np.unique(key, return_index=True)[1]
        return Surface(self.points[kept], self.normals[kept])


def sample_surface(vertices: np.ndarray, faces: np.ndarray) -> Surface:
    """Return the vertices of triangles, and random points of the triangles of a coarse mesh."""
    normals = vertex_normals(vertices, faces)
    used = np.unique(faces)
    used = used[np.linalg.norm(normals[used], axis=1) > 0.5]
    if len(used) >= MIN_SURFACE_POINTS:
        return Surface(vertices[used], normals[used])
    cross = area_vectors(vertices, faces)
    area = np.linalg.norm(cross, axis=1)
    stations = (np.arange(MIN_SURFACE_POINTS) + 0.5) / MIN_SURFACE_POINTS * area.sum()
    chosen = np.searchsorted(np.cumsum(area), stations)
    chosen = chosen[chosen < len(faces)]
    u = np.random.default_rng(0).random((len(chosen), 2))
    u[u.sum(1) > 1] = 1 - u[u.sum(1) > 1]
    a, b, c = vertices[faces[chosen]].transpose(1, 0, 2)
    points = a + u[:, :1] * (b - a) + u[:, 1:] * (c - a)
    directions = cross[chosen] / np.maximum(area[chosen, None], 1e-300)
    return Surface(
        np.concatenate([vertices[used], points]), np.concatenate([normals[used], directions])
    )


class ClosestPoints:
    """Searches the points of a surface that are closest to a fitted face and face the same way.

    Parameters
    ----------
    face : Face
    surface : Surface
    placement : Similarity
        Approximate placement of the face: only points around it are searched.
    """

    def __init__(self, face: Face, surface: Surface, placement: Similarity):
        points = placement.to_canonical(surface.points)
        low, high = face.mean.min(0) - MATCH_MARGIN_MM, face.mean.max(0) + MATCH_MARGIN_MM
        inside = ((points > low) & (points < high)).all(1)
        near = surface.inside(inside, MATCH_CELL_MM * placement.scale)
        self.points, self.normals = near.points, near.normals
        self._faces = face.faces
        self._normal_weight = NORMAL_WEIGHT_MM * placement.scale
        self._tree = scipy.spatial.cKDTree(
            np.hstack([self.points, self._normal_weight * self.normals])
        )

    def match(
        self, placement: Similarity, fitted: np.ndarray, rows: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray]:
        """Return the closest points of vertices of a fitted face.

        Parameters
        ----------
        placement : Similarity
            Of the fitted face in the mesh.
        fitted : (V, 3)
            In canonical mm.
        rows : (R,)
            The vertices to match.

        Returns
        -------
        index : (R,)
            Into `points`.
        distance : (R,)
            In canonical mm.
        """
        normals = vertex_normals(fitted, self._faces)[rows] @ placement.rotation.T
        placed = placement.to_mesh(fitted[rows])
        _, index = self._tree.query(np.hstack([placed, self._normal_weight * normals]))
        return index, np.linalg.norm(self.points[index] - placed, axis=1) / placement.scale
