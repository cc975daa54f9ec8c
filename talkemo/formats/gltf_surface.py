"""The vertices, normals and texture coordinates of a primitive of a GLB."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from ..geometry.meshes import vertex_normals
from .animation import Header
from .appearance import AddedMesh
from .gltf_builder import GlbBuilder
from .gltf_paint import Paint

MAX_NORMAL_ERROR = 1e-4  # of a normal's length
TEXELS_PER_PIXEL = 16  # that are told apart where texture coordinates are compared


@dataclass(frozen=True, eq=False)
class Surface:
    """What a primitive shows, in the file's axes and unit.

    Attributes
    ----------
    points : (V, 3) float32
    normals : (V, 3) float32
    faces : (F, 3)
        Triangles.
    origin : (V,)
        The vertex of the mesh that each one comes from.
    uv : tuple of (V, 2)
        Sets of texture coordinates, v pointing down.
    colours : (V, 3), optional
        Linear in light.
    """

    points: np.ndarray
    normals: np.ndarray
    faces: np.ndarray
    origin: np.ndarray
    uv: tuple[np.ndarray, ...] = ()
    colours: np.ndarray | None = None

    def part(self, triangles: np.ndarray) -> Surface:
        """Return some triangles (F,) bool with the vertices that they use."""
        used, corners = np.unique(self.faces[triangles], return_inverse=True)
        return Surface(
            self.points[used],
            self.normals[used],
            corners.reshape(-1, 3),
            self.origin[used],
            tuple(uv[used] for uv in self.uv),
            None if self.colours is None else self.colours[used],
        )


def surface_of_mesh(header: Header, points: np.ndarray, paint: Paint | None) -> Surface:
    """Return the mesh of a header, whose vertices (N, 3) are `points` in the file.

    A vertex on a seam of a texture is there once for each of its texture coordinates. If the paint
    is finer than the vertices, it is the last set of texture coordinates; otherwise the vertices
    have its colours.
    """
    faces, attributes = header.faces, header.attributes
    keys, sets = [], []
    if attributes is not None and attributes.uv is not None and attributes.uv_faces is not None:
        upwards = attributes.uv[attributes.uv_faces]
        keys.append(attributes.uv_faces)
        sets.append(upwards * np.array([1, -1], np.float32) + np.array([0, 1], np.float32))
    is_textured = paint is not None and paint.is_finer_than_vertices
    if paint is not None and paint.uv is not None and paint.corners is not None and is_textured:
        texels = np.round(paint.corners.reshape(-1, 2) * TEXELS_PER_PIXEL)
        _, number = np.unique(texels, axis=0, return_inverse=True)
        keys.append(number.reshape(-1, 3))
        sets.append(paint.uv)
    origin, faces, corner = _split(faces, keys, len(points))
    uv = [values.reshape(-1, 2)[corner] for values in sets]
    for values in uv:
        values[corner < 0] = 0
    colours = None if paint is None or is_textured else paint.colours[origin]
    normals = unit_normals(points, header.faces)[origin]
    return Surface(points[origin], normals, faces, origin, tuple(uv), colours)


def surface_of_part(part: AddedMesh, points: np.ndarray) -> Surface:
    """Return an added part, whose vertices (P, 3) are `points` in the file."""
    points = points.astype(np.float32)
    uv = () if part.uv is None else ((part.uv * [1, -1] + [0, 1]).astype(np.float32),)
    return Surface(points, unit_normals(points, part.faces), part.faces, part.rows, uv)


def surface_attributes(glb: GlbBuilder, surface: Surface) -> dict[str, int]:
    """Return new accessors of a surface's vertices, by the names of glTF's attributes."""
    attributes = {
        "POSITION": glb.add_vertices(surface.points, bounds=True),
        "NORMAL": glb.add_vertices(surface.normals),
    }
    for number, uv in enumerate(surface.uv):
        attributes[f"TEXCOORD_{number}"] = glb.add_vertices(uv)
    if surface.colours is not None:
        attributes["COLOR_0"] = glb.add_vertices(surface.colours)
    return attributes


def _split(
    faces: np.ndarray, keys: list[np.ndarray], count: int
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Split the `count` vertices of a mesh so that all corners of each have the same keys (F, 3).

    Returns
    -------
    origin : (V,)
        The mesh's vertex that each new vertex comes from.
    faces : (F, 3)
        Triangles of new vertices.
    corner : (V,)
        One of the corners (3 F) of each new vertex; -1 for a vertex without triangles.
    """
    if not keys:
        return np.arange(count), faces, np.zeros(count, np.int64)
    columns = [faces.ravel(), *(key.ravel() for key in keys)]
    corners = np.stack(columns, axis=1).astype(np.int64)
    unused = np.setdiff1d(np.arange(count), faces)
    padding = np.zeros((len(unused), len(columns)), np.int64)
    padding[:, 0] = unused
    unique, first, number = np.unique(
        np.concatenate([corners, padding]), axis=0, return_index=True, return_inverse=True
    )
    new_faces = number.reshape(-1)[: faces.size].reshape(-1, 3)
    return unique[:, 0], new_faces, np.where(first < faces.size, first, -1)


def unit_normals(points: np.ndarray, faces: np.ndarray) -> np.ndarray:
    """Return normals (V, 3) float32 of length 1, also of vertices without a triangle of any area.

    glTF allows no others; these face forwards.
    """
    normals = vertex_normals(points, faces)
    lengths = np.linalg.norm(normals, axis=1)
    normals[~(np.abs(lengths - 1) < MAX_NORMAL_ERROR)] = (0, 0, 1)
    return normals.astype(np.float32)


def skin_attributes(glb: GlbBuilder, shares: np.ndarray) -> dict[str, int]:
    """Joints and weights of vertices that follow the head by shares (V,), see `SceneTree`."""
    weights = np.zeros((len(shares), 4), np.float32)
    weights[:, 0], weights[:, 1] = 1 - shares, shares
    joints = np.where(weights > 0, np.arange(4), 0).astype(np.uint8)
    return {"JOINTS_0": glb.add_vertices(joints), "WEIGHTS_0": glb.add_vertices(weights)}
