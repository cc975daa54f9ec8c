"""Attributes of a mesh that was cut: groups, colours and texture coordinates of added vertices."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from ..formats.groups import vertex_groups
from ..formats.mesh_types import Mesh, MeshAttributes

CUT_FRACTIONS = (0.03, 0.97)  # of an edge, between which it is cut: no needle-like triangles


@dataclass(frozen=True, eq=False)
class AddedVertices:
    """Vertices that a cut added to a mesh: A of them, each on an edge."""

    between: np.ndarray  # (A, 2), ends of the edge
    fraction: np.ndarray  # (A,), place between them


def cut_attributes(
    mesh: Mesh, added: AddedVertices, faces: np.ndarray, parents: np.ndarray
) -> MeshAttributes | None:
    """Return the attributes of a mesh after it was cut.

    Parameters
    ----------
    mesh : Mesh
        Before the cut.
    added : AddedVertices
        They follow the mesh's own.
    faces, parents : (F', 3), (F',)
        The triangles, and the mesh's ones that they were part of.
    """
    attributes = mesh.attributes
    if attributes is None:
        return None
    colours, first = attributes.colours, added.between[:, 0]
    if colours is not None:
        share = added.fraction[:, None]
        mixed = (1 - share) * colours[first] + share * colours[added.between[:, 1]]
        colours = np.concatenate([colours, mixed.round().astype(np.uint8)])
    groups = vertex_groups(attributes, len(mesh.vertices))
    groups = np.concatenate([groups, groups[first]])
    uv, uv_faces, named = attributes.uv, attributes.uv_faces, attributes.named
    if uv is not None and uv_faces is not None:
        corner_uv = _corner_uv(
            mesh.faces[parents], uv[uv_faces[parents]], added, faces, len(groups)
        )
        flat, inverse = np.unique(corner_uv.reshape(-1, 2), axis=0, return_inverse=True)
        uv, uv_faces = flat.astype(np.float32), inverse.reshape(-1, 3).astype(np.int32)
    return replace(
        attributes,
        uv=uv,
        uv_faces=uv_faces,
        colours=colours,
        groups=groups,
        named=None if named is None else np.concatenate([named, named[first]]),
        text=(),
        companions={},
    )


def _corner_uv(
    own: np.ndarray, before: np.ndarray, added: AddedVertices, faces: np.ndarray, total: int
) -> np.ndarray:
    """Return the texture coordinates (F', 3, 2) of triangles' corners.

    `own` (F', 3) are the corners of the triangles that they were part of, `before` (F', 3, 2) their
    coordinates, and `total` is the number of vertices after the cut.
    """
    count = total - len(added.fraction)

    def of(vertex: np.ndarray) -> np.ndarray:
        """Return the coordinates (F', 3, 2) of vertices (F', 3) in their parent triangles."""
        corner = (own[:, None] == vertex[..., None]).argmax(2)
        return np.take_along_axis(before, corner[..., None], 1)

    is_new = faces >= count
    row = np.where(is_new, faces - count, 0)
    first = of(np.where(is_new, added.between[row, 0], faces))
    second = of(np.where(is_new, added.between[row, 1], faces))
    share = np.where(is_new, added.fraction[row], 0)[..., None]
    return np.asarray((1 - share) * first + share * second)
