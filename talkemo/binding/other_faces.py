"""Whether a mesh has more faces than the one that was bound, such as a file of two people."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from ..geometry.meshes import connected_pieces
from .binding import Binding
from .body import weld
from .registration import fit_face
from .surface import sample_surface

SIZE_RATIO = 1.3  # of the sides of two pieces that may be heads of the same kind
MAX_OTHER_PIECES = 4  # that are looked at, the largest first
MIN_DISTANCE_MM = 100.0  # between two faces


def count_other_faces(binding: Binding) -> int:
    """Return how many faces a mesh has beside the one that was bound; they do not move.

    They are looked for in pieces of the mesh as large as the one that has the bound face.
    """
    mesh = binding.mesh
    welded = weld(mesh)
    vertices, faces = mesh.vertices[welded.first], welded.faces
    piece = connected_pieces(faces, len(vertices))
    focus = welded.merged[np.flatnonzero(binding.focus)]
    count = int(piece.max(initial=-1)) + 1
    own = int(np.bincount(piece[focus], minlength=count).argmax()) if len(focus) else -1
    low, high = _boxes(vertices, piece, count)
    size = high - low
    ratio = np.maximum(size, 1e-12) / np.maximum(size[own], 1e-12)
    alike = (ratio < SIZE_RATIO).all(1) & (ratio > 1 / SIZE_RATIO).all(1)
    alike[own] = False
    numbers = np.flatnonzero(alike)
    ranked = numbers[np.argsort(-size[numbers].max(1), kind="stable")][:MAX_OTHER_PIECES]
    others = 0
    for number in ranked:
        step = (low[number] + high[number] - low[own] - high[own]) / 2
        if np.linalg.norm(step) / binding.scale < MIN_DISTANCE_MM:
            continue  # the inside of the same head
        chosen = faces[(piece[faces] == number).all(1)]
        placement = binding.placement
        start = replace(placement, translation=placement.translation + step)
        surface = sample_surface(vertices, chosen)
        others += (
            len(surface.points) > 0 and fit_face(binding.face, surface, start).likeness.is_face
        )
    return others


def other_faces_note(count: int) -> str | None:
    """Return a sentence on other faces of a mesh; None without one."""
    if not count:
        return None
    what = "another face" if count == 1 else f"{count} other faces"
    return f"{what} in the file: only the one that was found speaks; export the others alone"


def _boxes(vertices: np.ndarray, piece: np.ndarray, count: int) -> tuple[np.ndarray, np.ndarray]:
    """The lowest and highest coordinates (C, 3) of each piece."""
    low, high = np.full((count, 3), np.inf), np.full((count, 3), -np.inf)
    np.minimum.at(low, piece, vertices)
    np.maximum.at(high, piece, vertices)
    return low, high
