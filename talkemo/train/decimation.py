"""Decimation of a triangle mesh by edge collapses with quadric errors (Garland, Heckbert 1997)."""

from __future__ import annotations

from heapq import heapify, heappop, heappush

import numpy as np

from ..geometry.meshes import area_vectors, mesh_edges

BOUNDARY_WEIGHT = 10.0  # of the planes through boundary edges, which keep boundaries in place


def decimate(points: np.ndarray, faces: np.ndarray, vertices: int) -> tuple[np.ndarray, np.ndarray]:
    """Collapse edges of a mesh until at most `vertices` vertices are left, or none can collapse.

    Parameters
    ----------
    points : (V, 3)
    faces : (F, 3)
        Triangles that use all vertices.

    Returns
    -------
    points : (V', 3)
    faces : (F', 3)
    """
    return _Decimation(points, faces).run(vertices)


class _Decimation:
    """A mesh while its edges are collapsed."""

    def __init__(self, points: np.ndarray, faces: np.ndarray):
        self.points = points.astype(np.float64).copy()
        self.faces = [tuple(map(int, face)) for face in faces]
        self.incident: list[set[int]] = [set() for _ in points]  # triangles at each vertex
        for number, face in enumerate(self.faces):
            for vertex in face:
                self.incident[vertex].add(number)
        self.quadrics = _quadrics(self.points, np.asarray(faces))
        self.version = [0] * len(points)  # changes when a vertex moves
        edges, _ = mesh_edges(np.asarray(faces))
        self.heap = [self._candidate(a, b) for a, b in edges.tolist()]
        heapify(self.heap)

    def _candidate(self, a: int, b: int) -> tuple[float, int, int, int, int, tuple]:
        """Return the cost of collapsing an edge, its ends with their versions, and the new place."""
        quadric = self.quadrics[a] + self.quadrics[b]
        places = np.array([self.points[a], self.points[b], (self.points[a] + self.points[b]) / 2])
        extended = np.column_stack([places, np.ones(3)])
        costs = np.einsum("pi,ij,pj->p", extended, quadric, extended)
        best = int(costs.argmin())
        return float(costs[best]), a, b, self.version[a], self.version[b], tuple(places[best])

    def _neighbours(self, vertex: int) -> set[int]:
        return {other for face in self.incident[vertex] for other in self.faces[face]} - {vertex}

    def _flips(self, vertex: int, other: int, place: np.ndarray) -> bool:
        """Return whether moving a vertex would turn over one of its triangles that remain."""
        for number in self.incident[vertex]:
            face = self.faces[number]
            if other in face:
                continue
            before = self.points[list(face)]
            after = np.array([place if v == vertex else self.points[v] for v in face])
            normals = [np.cross(t[1] - t[0], t[2] - t[0]) for t in (before, after)]
            if normals[0] @ normals[1] <= 0.2 * np.linalg.norm(normals[0]) * np.linalg.norm(
                normals[1]
            ):
                return True
        return False

    def run(self, vertices: int) -> tuple[np.ndarray, np.ndarray]:
        """Collapse edges, the cheapest first; see `decimate`."""
        left = len(self.points)
        while self.heap and left > vertices:
            _, a, b, version_a, version_b, place = heappop(self.heap)
            if (version_a, version_b) == (self.version[a], self.version[b]):
                left -= self._collapse(a, b, np.array(place))
        faces = np.array([self.faces[k] for k in sorted(set().union(*self.incident))])
        used, renumbered = np.unique(faces, return_inverse=True)
        return self.points[used], renumbered.reshape(-1, 3)

    def _collapse(self, a: int, b: int, place: np.ndarray) -> bool:
        """Merge vertex b into a, unless the surface would fold or be pinched."""
        shared = self.incident[a] & self.incident[b]
        if len(self._neighbours(a) & self._neighbours(b)) != len(shared):
            return False
        if self._flips(a, b, place) or self._flips(b, a, place):
            return False
        for number in shared:
            for vertex in self.faces[number]:
                self.incident[vertex].discard(number)
        for number in self.incident[b]:
            self.faces[number] = tuple(a if v == b else v for v in self.faces[number])
        self.incident[a] |= self.incident[b]
        self.incident[b] = set()
        self.points[a] = place
        self.quadrics[a] += self.quadrics[b]
        self.version[a] += 1
        self.version[b] += 1
        for other in self._neighbours(a):
            heappush(self.heap, self._candidate(a, other))
        return True


def _quadrics(points: np.ndarray, faces: np.ndarray) -> np.ndarray:
    """Return the error quadrics (V, 4, 4) of vertices, weighted by area, with boundary planes."""
    area = area_vectors(points, faces)
    size = np.linalg.norm(area, axis=1, keepdims=True)
    normal = area / np.maximum(size, 1e-12)
    result = np.zeros((len(points), 4, 4))
    edges, count = mesh_edges(faces)
    border = {tuple(edge) for edge in edges[count == 1].tolist()}
    for face, unit, weight in zip(faces.tolist(), normal, size[:, 0]):
        plane = np.append(unit, -unit @ points[face[0]])
        result[face] += weight * np.outer(plane, plane)
        for a, b in zip(face, face[1:] + face[:1]):
            if (min(a, b), max(a, b)) in border:
                across = np.cross(points[b] - points[a], unit)
                length = max(float(np.linalg.norm(across)), 1e-12)
                plane = np.append(across, -across @ points[a]) / length
                result[[a, b]] += BOUNDARY_WEIGHT * length**2 * np.outer(plane, plane)
    return result
