"""The binding of the canonical face itself, for curves without a user's mesh."""

from __future__ import annotations

import numpy as np

from ..face.canonical import Face
from ..formats.mesh_types import Mesh
from ..geometry.rigid import Similarity
from .binding import Binding

NO_MESH = "-"  # given instead of a mesh: the canonical face of the weights
CANONICAL_NAME = "canonical face"  # in metadata and messages


def bind_canonical(face: Face) -> Binding:
    """Return the exact binding of the canonical face, in mm, y up, looking along +z."""
    vertices = np.arange(len(face.mean))
    mesh = Mesh(face.mean.astype(np.float64), face.faces, name=CANONICAL_NAME)
    return Binding(
        mesh=mesh,
        face=face,
        moving=vertices,
        targets=face.expression_basis,
        canonical=vertices,
        landmarks68=face.landmarks68,
        placement=Similarity(1.0, np.eye(3), np.zeros(3)),
        error=0.0,
        relief=1.0,
        parts={"skin": len(vertices)},
    )
