"""Frames of a mesh whose lips are one skin, with the vertices of the cut between them."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import scipy

from ..geometry.meshes import mesh_edges
from ..geometry.rigid import rigid_motion
from .binding import Binding


def uncut(binding: Binding) -> Binding:
    """Return a binding without the vertices of its cut; the mesh's own move as in the cut mesh."""
    if binding.cut is None:
        return binding
    shown = binding.shown
    own = shown.moving < len(binding.rest)
    return replace(
        binding,
        moving=shown.moving[own],
        targets=shown.targets[:, own],
        canonical=shown.canonical[own],
        cut=None,
    )


class CutFrames:
    """Adds the vertices of a cut to frames of the mesh without them.

    They are where the motion puts them beside their neighbours of the mesh, whose distance from
    where the motion puts those they follow.

    Parameters
    ----------
    binding : Binding
        Of a mesh of N vertices that was cut, with A vertices more.
    """

    def __init__(self, binding: Binding):
        self._shown, count = binding.shown, len(binding.rest)
        edges, _ = mesh_edges(self._shown.mesh.faces)
        size = len(self._shown.rest)
        graph = scipy.sparse.coo_matrix((np.ones(len(edges)), edges.T), (size, size)).tocsr()
        graph = graph + graph.T
        new = graph[count:]
        # A drop of stiffness keeps vertices that hang on no other solvable.
        degrees = scipy.sparse.diags(np.asarray(new.sum(1))[:, 0] + 1e-9)
        solver = scipy.sparse.linalg.splu((degrees - new[:, count:]).tocsc())
        self._neighbours = np.unique(new[:, :count].indices)  # (B,)
        self._follow = solver.solve(new[:, self._neighbours].toarray())  # (A, B)

    def complete(self, vertices: np.ndarray, coordinates: np.ndarray) -> np.ndarray:
        """Return frames (T, N + A, 3) float32.

        Parameters
        ----------
        vertices : (T, N, 3)
            Of the mesh without the cut, in any pose of the head.
        coordinates : (T, S)
            Of the motion that they show.
        """
        count = vertices.shape[1]
        moved = self._shown.vertices(coordinates.astype(np.float32, copy=False))
        near, new = moved[:, self._neighbours], moved[:, count:]
        rotation, shift = rigid_motion(near, vertices[:, self._neighbours])
        placed = lambda points: points @ rotation.transpose(0, 2, 1) + shift[:, None]
        added = placed(new) + self._follow @ (vertices[:, self._neighbours] - placed(near))
        return np.concatenate([vertices, added.astype(np.float32)], axis=1, dtype=np.float32)
