"""Eyeballs that fill the lids of a mesh without eyes."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import numpy as np

from ..face.canonical import EYE_CENTRES_MM, LEFT_EYE, RIGHT_EYE
from .binding import Binding

EYEBALL_RADIUS_MM = 14.6  # of the canonical face
RADIUS_LIMITS = (0.5, 2.5)  # relative to the canonical one
LID_THICKNESS_MM = 0.4  # between an eyeball and the edges of the lids, on the canonical face
SPHERE_RINGS, SPHERE_SECTORS = 20, 28


@dataclass(frozen=True, eq=False)
class Eyeball:
    """A sphere behind lids: its rows among added points, centre (3,) and radius in canonical mm."""

    rows: slice
    centre: np.ndarray
    radius: float

    def sphere(self) -> tuple[np.ndarray, np.ndarray]:
        """Return its points (P, 3) and triangles (F, 3)."""
        ball, faces = unit_sphere()
        return self.centre + self.radius * ball, faces


def fitted_eyeballs(binding: Binding, rest: np.ndarray) -> list[Eyeball]:
    """Return the right and the left eyeball in canonical mm; `rest` (N, 3) is the mesh there.

    Both have one radius, in proportion to the width of the eyes, and look straight ahead: sideways
    and in height they lie behind the lids as the canonical ones do. In depth they touch the lids.
    """
    face = binding.face
    lids = [rest[binding.landmarks68[points]] for points in (RIGHT_EYE, LEFT_EYE)]
    canonical = [face.mean[face.landmarks68[points]] for points in (RIGHT_EYE, LEFT_EYE)]
    width, canonical_width = (
        float(np.mean([np.linalg.norm(eye[3] - eye[0]) for eye in eyes]))
        for eyes in (lids, canonical)
    )
    size = float(np.clip(width / canonical_width, *RADIUS_LIMITS))
    radius = size * EYEBALL_RADIUS_MM
    result = []
    for eye, canonical_eye, centre in zip(lids, canonical, EYE_CENTRES_MM):
        middle = (eye[0] + eye[3]) / 2
        canonical_middle = (canonical_eye[0] + canonical_eye[3]) / 2
        place = middle + size * (centre - canonical_middle)
        place[2] = _depth(place, eye, radius + size * LID_THICKNESS_MM)
        result.append(Eyeball(slice(0), place, radius))
    return result


def _depth(place: np.ndarray, lids: np.ndarray, distance: float) -> float:
    """Return z of a centre with x and y of `place`, at a distance from the edges of lids (L, 3).

    The median over upper and lower lid; the corners of an eye lie apart from the ball.
    """
    edges = lids[[1, 2, 4, 5]]
    aside = np.linalg.norm(edges[:, :2] - place[:2], axis=1)
    behind = np.sqrt(np.maximum(distance**2 - aside**2, (0.3 * distance) ** 2))
    return float(np.median(edges[:, 2] - behind))


@lru_cache(maxsize=1)
def unit_sphere() -> tuple[np.ndarray, np.ndarray]:
    """Return vertices (V, 3) and triangles (F, 3) of a unit sphere with its poles along z."""
    rings, sectors = SPHERE_RINGS, SPHERE_SECTORS
    polar, azimuth = np.linspace(0, np.pi, rings + 1), np.linspace(0, 2 * np.pi, sectors + 1)[:-1]
    grid = np.stack(np.meshgrid(polar, azimuth, indexing="ij"), 2).reshape(-1, 2)
    sine = np.sin(grid[:, 0])
    x, y = sine * np.cos(grid[:, 1]), sine * np.sin(grid[:, 1])
    row, column = np.divmod(np.arange(rings * sectors), sectors)
    a, b = row * sectors + column, row * sectors + (column + 1) % sectors
    upper = np.column_stack([a, a + sectors, b])
    lower = np.column_stack([b, a + sectors, b + sectors])
    return np.column_stack([x, y, np.cos(grid[:, 0])]), np.concatenate([upper, lower])
