"""Eyeballs that fill the lids of a mesh without eyes."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import numpy as np

from ..face.canonical import EYE_CENTRES_MM, EYEBALL_RADIUS_MM, LEFT_EYE, RIGHT_EYE
from .binding import Binding
from .mouth_edge import membranes

RADIUS_LIMITS = (0.5, 2.5)  # relative to the canonical one
# Height of the opening by its width, relative to the canonical one: limits of what an eyeball is
# shrunk to.
OPENNESS_LIMITS = (0.7, 1.0)
LID_POINTS = [1, 2, 4, 5]  # of the six iBUG points of an eye: those on upper and lower lid
LID_THICKNESS_MM = 0.4  # between an eyeball and the edges of the lids, on the canonical face
STRIP_END = 0.92  # distance of the end of a lid's strip from the centre of the eyeball, in radii
# Poses in which no lid may lie within an eyeball, the least distance from its centre in radii for
# nearly all of the lids, and how far it is moved back at most.
LID_POSES: tuple[dict[str, float], ...] = (
    {},
    {"eyeBlink": 0.35},
    {"eyeBlink": 0.7},
    {"eyeBlink": 1.0},
    {"eyeSquint": 1.0},
)
LID_QUANTILE, MAX_PUSH_MM = 0.95, 3.0
# Angles from the front at which a sphere has rings; some lie on both sides of the edges of pupil
# and iris.
SPHERE_RINGS_DEG = (0, 6, 10, 11.5, 18, 24, 26.5, 33, 42, 52, 63, 75, 88, 102, 118, 136, 157, 180)
SPHERE_SECTORS = 32


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

    Narrow lids get smaller eyeballs, so that they cover no more of the iris than the canonical ones
    and look awake.
    """
    face = binding.face
    lids = [rest[binding.landmarks68[points]] for points in (RIGHT_EYE, LEFT_EYE)]
    canonical = [face.mean[face.landmarks68[points]] for points in (RIGHT_EYE, LEFT_EYE)]
    (width, height), (canonical_width, canonical_height) = map(_size_of_lids, (lids, canonical))
    size = float(np.clip(width / canonical_width, *RADIUS_LIMITS))
    openness = float(np.clip(height / (size * canonical_height), *OPENNESS_LIMITS))
    radius = openness * size * EYEBALL_RADIUS_MM
    skin = _lid_samples(binding, rest)
    result = []
    for eye, canonical_eye, centre in zip(lids, canonical, EYE_CENTRES_MM):
        middle = (eye[0] + eye[3]) / 2
        canonical_middle = (canonical_eye[0] + canonical_eye[3]) / 2
        place = middle + size * (centre - canonical_middle)
        above = openness * size * (centre - canonical_eye[LID_POINTS].mean(0))[1]
        place[1] += (1 - openness) * (eye[LID_POINTS, 1].mean() + above - place[1])
        distance = radius + size * LID_THICKNESS_MM
        place[2] = _depth(place, eye, distance)
        place[2] -= min(_push(place, skin, distance), size * MAX_PUSH_MM)
        result.append(Eyeball(slice(0), place, radius))
    return result


def _size_of_lids(eyes: list[np.ndarray]) -> tuple[float, float]:
    """Return the mean width and height in mm of the openings between lids (6, 3)."""
    width = np.mean([np.linalg.norm(eye[3] - eye[0]) for eye in eyes])
    height = np.mean([eye[[1, 2], 1].mean() - eye[[4, 5], 1].mean() for eye in eyes])
    return float(width), float(height)


def lid_strip(edge: np.ndarray, eyeball: Eyeball) -> tuple[np.ndarray, np.ndarray]:
    """Return points (2·K, 3) and triangles of a strip from an edge (K, 3) into an eyeball.

    The points of the edge come first. The strip hides what is behind the corners of an eye, where
    the eyeball recedes.
    """
    count = len(edge)
    outwards = edge - eyeball.centre
    outwards /= np.maximum(np.linalg.norm(outwards, axis=1, keepdims=True), 1e-9)
    inner = eyeball.centre + STRIP_END * eyeball.radius * outwards
    here = np.arange(count)
    after = (here + 1) % count
    near = np.column_stack([after, here, here + count])
    far = np.column_stack([after, here + count, after + count])
    return np.concatenate([edge, inner]), np.concatenate([near, far])


def _depth(place: np.ndarray, lids: np.ndarray, distance: float) -> float:
    """Return z of a centre with x and y of `place`, at a distance from the edges of lids (L, 3).

    The median over upper and lower lid; the corners of an eye lie apart from the ball.
    """
    edges = lids[LID_POINTS]
    aside = np.linalg.norm(edges[:, :2] - place[:2], axis=1)
    behind = np.sqrt(np.maximum(distance**2 - aside**2, (0.3 * distance) ** 2))
    return float(np.median(edges[:, 2] - behind))


def _lid_samples(binding: Binding, rest: np.ndarray) -> np.ndarray:
    """Return points (P, 3) of the lids in all LID_POSES, in canonical mm."""
    on_lids = np.zeros(len(rest), bool)
    on_lids[binding.region("eyelids")] = True
    faces = binding.mesh.faces
    faces = faces[on_lids[faces].all(1) & ~membranes(binding, rest)]
    if not len(faces):
        return np.zeros((0, 3))
    weights = np.stack([binding.face.weight_vector(pose) for pose in LID_POSES])
    frames = binding.vertices(weights @ binding.face.weights_to_coordinates)
    corners = binding.placement.to_canonical(frames[:, faces].astype(np.float64))
    middles = (corners + np.roll(corners, 1, axis=2)) / 2
    samples = np.concatenate([corners.mean(2, keepdims=True), middles], axis=2)
    return np.asarray(samples.reshape(-1, 3))


def _push(place: np.ndarray, skin: np.ndarray, distance: float) -> float:
    """Return how far a centre has to move back so that lids (P, 3) in front keep a distance."""
    offset = skin - place
    aside = np.linalg.norm(offset[:, :2], axis=1)
    near = (aside < 0.9 * distance) & (offset[:, 2] > 0)
    if not near.any():
        return 0.0
    wanted = np.sqrt(distance**2 - aside[near] ** 2) - offset[near, 2]
    return max(0.0, float(np.quantile(wanted, LID_QUANTILE)))


@lru_cache(maxsize=1)
def unit_sphere() -> tuple[np.ndarray, np.ndarray]:
    """Return vertices (V, 3) and triangles (F, 3) of a unit sphere with its poles along z."""
    rings, sectors = len(SPHERE_RINGS_DEG) - 1, SPHERE_SECTORS
    polar = np.radians(SPHERE_RINGS_DEG)
    azimuth = np.linspace(0, 2 * np.pi, sectors + 1)[:-1]
    grid = np.stack(np.meshgrid(polar, azimuth, indexing="ij"), 2).reshape(-1, 2)
    sine = np.sin(grid[:, 0])
    x, y = sine * np.cos(grid[:, 1]), sine * np.sin(grid[:, 1])
    row, column = np.divmod(np.arange(rings * sectors), sectors)
    a, b = row * sectors + column, row * sectors + (column + 1) % sectors
    upper = np.column_stack([a, a + sectors, b])
    lower = np.column_stack([b, a + sectors, b + sectors])
    return np.column_stack([x, y, np.cos(grid[:, 0])]), np.concatenate([upper, lower])
