"""Cutting a mesh whose lips are one skin along their line, with a lining behind each edge.

The mesh's own vertices keep their places and come first. New ones follow: those of both edges, which
coincide, and rows of lining that lead from each edge into the mouth.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from itertools import pairwise

import numpy as np

from ..formats.mesh_types import Mesh
from ..geometry.numerics import smoothstep
from ..geometry.rigid import Similarity
from .cut_attributes import CUT_FRACTIONS, AddedVertices, cut_attributes
from .lid_cut import cut_lids
from .lip_line import LipLine

CUT_DEPTH_MM = 4.0  # in front of and behind the line; edges of triangles that are farther off stay
# Rows of the lining: how far behind the line and above (below) it, in mm.
LINING_MM = ((1.0, 0.1), (2.5, 0.9), (5.0, 2.5), (8.0, 5.0))
LINING_TAPER = (
    0.18  # fraction of the line's length at either end over which the lining gets shallow
)
MIN_CUT_TRIANGLES = 4


@dataclass(frozen=True, eq=False)
class Seam:
    """Where lips were cut apart: P vertices, each with Q of lining."""

    line: LipLine
    upper: np.ndarray  # (P,), seam's vertices on the upper lip
    lower: np.ndarray  # (P,), the same on the lower lip; equal to `upper` at the ends of the cut
    upper_lining: np.ndarray  # (P, Q)
    lower_lining: np.ndarray  # (P, Q)

    def renumbered(self, merged: np.ndarray) -> Seam:
        """Return the seam in a mesh of which (N,) are the merged vertices."""
        edges = self.upper, self.lower, self.upper_lining, self.lower_lining
        return Seam(self.line, *(merged[edge] for edge in edges))


@dataclass(frozen=True, eq=False)
class CutMesh:
    """A mesh that was cut along its lips."""

    mesh: Mesh  # the mesh's own vertices first
    seam: Seam

    @property
    def apart(self) -> np.ndarray:
        """(N,) bool, vertices that must not be merged with others in the same place."""
        result = np.zeros(len(self.mesh.vertices), bool)
        result[self.seam.lower[self.seam.lower != self.seam.upper]] = True
        return result


def cut_lips(
    mesh: Mesh,
    merged: np.ndarray,
    skin: np.ndarray,
    placement: Similarity,
    line: LipLine,
    lid_contours: np.ndarray | None = None,
) -> CutMesh | None:
    """Cut a mesh along the line between its lips, and along the edges of lids that it lacks.

    Parameters
    ----------
    mesh : Mesh
    merged : (N,)
        Merged vertex of each one, see `body.weld`: where a texture has a seam, the cut goes on.
    skin : (N,) bool
        The vertices that may be cut.
    placement : Similarity
        Of the canonical face in the mesh.
    line : LipLine
    lid_contours : (2, P, 3), optional
        See `Binding.lid_contours`.

    Returns
    -------
    CutMesh, or None if the line crosses too few triangles.
    """
    cutter = _Cutter(mesh, merged, skin, placement, line)
    if cutter.split.sum() < MIN_CUT_TRIANGLES:
        return None
    cut = cutter.cut()
    if lid_contours is None:
        return cut
    added = len(cut.mesh.vertices) - len(skin)
    uncut = np.append(skin, np.zeros(added, bool))
    return replace(cut, mesh=cut_lids(cut.mesh, uncut, placement, lid_contours))


class _Cutter:
    """Finds which triangles of a mesh are cut, and makes the new mesh."""

    def __init__(
        self,
        mesh: Mesh,
        merged: np.ndarray,
        skin: np.ndarray,
        placement: Similarity,
        line: LipLine,
    ):
        self.mesh, self.placement, self.line = mesh, placement, line
        self.points = placement.to_canonical(mesh.vertices)
        self.above = line.height(self.points) >= 0
        corners = mesh.faces
        # Edge k of a triangle leads from corner k to the next.
        self.starts, self.ends = corners, np.roll(corners, -1, axis=1)
        crossing = (self.above[self.starts] != self.above[self.ends]) & skin[corners].all(1)[
            :, None
        ]
        active = np.zeros_like(crossing)
        active[crossing] = self._near_line(self.starts[crossing], self.ends[crossing])
        self.split = active.sum(1) == 2  # triangles (F,) that the line crosses
        a, b = merged[self.starts].astype(np.int64), merged[self.ends]
        key = np.minimum(a, b) * len(merged) + np.maximum(a, b)
        _, edge = np.unique(key, return_inverse=True)
        self.edge = edge.reshape(-1, 3)  # number of each edge of each triangle
        of_split = np.zeros(self.edge.max() + 1, bool)
        of_split[self.edge[self.split[:, None] & active]] = True
        # At an end of the cut, an edge also belongs to a triangle that is not split.
        self.cut_edge = of_split[self.edge] & (self.above[self.starts] != self.above[self.ends])
        ends = np.zeros_like(of_split)
        ends[self.edge[~self.split[:, None] & self.cut_edge]] = True
        self.is_end = ends

    def _near_line(self, starts: np.ndarray, ends: np.ndarray) -> np.ndarray:
        """Return which edges (E,) from and to vertices cross the line, not only its height."""
        at, _ = self._crossing(starts, ends)
        along = self.line.position(at)
        return (along > 0) & (along < 1) & (np.abs(self.line.depth(at)) < CUT_DEPTH_MM)

    def _crossing(self, starts: np.ndarray, ends: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Return where edges cross the line's height, (E, 3) mm, and the position on them (E,)."""
        a, b = self.points[starts], self.points[ends]
        height_a, height_b = self.line.height(a), self.line.height(b)
        difference = np.where(height_a == height_b, 1, height_a - height_b)
        fraction = np.clip(height_a / difference, *CUT_FRACTIONS)
        return a + fraction[:, None] * (b - a), fraction

    def cut(self) -> CutMesh:
        """Return the mesh with the cut."""
        # Vertices of the mesh on an edge: those on a texture's seam give a new vertex each.
        pairs = np.sort(np.stack([self.starts, self.ends], -1)[self.cut_edge], axis=1)
        seam, row = np.unique(pairs, axis=0, return_inverse=True)
        seam_row = np.full(self.cut_edge.shape, -1)
        seam_row[self.cut_edge] = row
        at, fraction = self._crossing(seam[:, 0], seam[:, 1])
        number_of_edge = np.zeros(len(seam), int)
        number_of_edge[row] = self.edge[self.cut_edge]
        own, count = len(self.mesh.vertices), len(seam)
        upper = own + np.arange(count)
        parted = ~self.is_end[number_of_edge]
        lower = np.where(parted, own + count - 1 + np.cumsum(parted), upper)
        first_lining = own + count + int(parted.sum())
        rows = len(LINING_MM)
        upper_lining = first_lining + np.arange(count * rows).reshape(count, rows)
        lower_lining = upper_lining + count * rows
        lining = [self._lining(at, sign) for sign in (1, -1)]
        new = np.concatenate([at, at[parted], *(points.reshape(-1, 3) for points in lining)])
        number = np.arange(count)
        of_lining = np.tile(np.repeat(number, rows), 2)
        source = np.concatenate([number, number[parted], of_lining])  # row of each added vertex
        faces, parents = self._faces(seam_row, upper, lower, upper_lining, lower_lining)
        vertices = np.concatenate([self.mesh.vertices, self.placement.to_mesh(new)])
        added = AddedVertices(seam[source], fraction[source])
        attributes = cut_attributes(self.mesh, added, faces, parents)
        origin = self.mesh.origin
        if origin is not None:
            origin = origin.with_cut(added.between, added.fraction)
        mesh = Mesh(vertices, faces.astype(np.int32), attributes, self.mesh.name, origin=origin)
        return CutMesh(mesh, Seam(self.line, upper, lower, upper_lining, lower_lining))

    def _lining(self, at: np.ndarray, sign: int) -> np.ndarray:
        """Return the lining (P, Q, 3) behind points (P, 3) of the seam; sign 1: the upper lip's."""
        position = self.line.position(at)
        deep = smoothstep(np.minimum(position, 1 - position) / LINING_TAPER)
        offsets = np.array([(0.0, sign * up, -behind) for behind, up in LINING_MM])
        return at[:, None] + (0.1 + 0.9 * deep)[:, None, None] * offsets

    def _faces(
        self,
        seam_row: np.ndarray,
        upper: np.ndarray,
        lower: np.ndarray,
        upper_lining: np.ndarray,
        lower_lining: np.ndarray,
    ) -> tuple[np.ndarray, np.ndarray]:
        """Return the triangles (F', 3) of the cut mesh, and the one each was part of (F',)."""
        touched = self.cut_edge.any(1)
        kept = np.flatnonzero(~touched)
        faces, parents = [self.mesh.faces[kept]], [kept]
        for face in np.flatnonzero(touched):
            triangles = []
            for is_upper, edge, lining in (
                (True, upper, upper_lining),
                (False, lower, lower_lining),
            ):
                polygon, seam_edge = self._piece(int(face), is_upper, seam_row, edge)
                triangles += _fan(polygon)
                if seam_edge is not None:
                    triangles += _strip(*seam_edge, edge, lining)
                if not self.split[face]:  # one piece: the edge is divided, the triangle is whole
                    break
            faces.append(np.array(triangles).reshape(-1, 3))
            parents.append(np.full(len(triangles), face))
        return np.concatenate(faces), np.concatenate(parents)

    def _piece(
        self, face: int, is_upper: bool, seam_row: np.ndarray, edge: np.ndarray
    ) -> tuple[list[int], tuple[int, int] | None]:
        """Return the polygon of one side of a triangle, and the rows of its edge on the seam.

        A triangle that is not split is returned whole, with its divided edge's point.
        """
        polygon: list[int] = []
        seam: list[tuple[int, int]] = []  # place in the polygon, row
        whole = not self.split[face]
        for k, corner in enumerate(self.mesh.faces[face]):
            if whole or self.above[corner] == is_upper:
                polygon.append(int(corner))
            row = int(seam_row[face, k])
            if row >= 0:
                seam.append((len(polygon), row))
                polygon.append(int(edge[row]))
        if whole or len(seam) < 2:
            return _from_divided_edge(polygon, [place for place, _ in seam]), None
        (place, first), (next_place, second) = seam
        # The seam's edge is where the polygon jumps over the other side's corners.
        if next_place == place + 1:
            return polygon, (first, second)
        return polygon, (second, first)


def _from_divided_edge(polygon: list[int], places: list[int]) -> list[int]:
    """Return a polygon that begins with its first new vertex, for a fan without flat triangles."""
    return polygon[places[0] :] + polygon[: places[0]] if places else polygon


def _fan(polygon: list[int]) -> list[list[int]]:
    """Return the triangles of a convex polygon, all at its first corner."""
    first, *others = polygon
    return [[first, *edge] for edge in pairwise(others)]


def _strip(first: int, second: int, edge: np.ndarray, lining: np.ndarray) -> list[list[int]]:
    """Return the triangles of the lining behind the seam's edge from row `first` to `second`."""
    triangles = []
    rows = np.column_stack([edge[[first, second]], lining[[first, second]]])
    for a, b, c, d in zip(rows[0, :-1], rows[1, :-1], rows[0, 1:], rows[1, 1:]):
        triangles += [[b, a, c], [b, c, d]]
    return [[int(corner) for corner in triangle] for triangle in triangles]
