"""Eyes, mouth and teeth for a mesh that lacks them, and how they move with skull and jaw."""

from __future__ import annotations

from itertools import pairwise
from typing import NamedTuple

import numpy as np

from ..binding.binding import Binding
from ..formats.appearance import AddedVertices
from ..geometry.rigid import eye_rotation, rigid_motion
from .textures import EYEBALL_RADIUS_MM, SWATCH_PIXELS

# Canonical mm above the line between the lips at rest.
UPPER_TEETH_MM, LOWER_TEETH_MM = (-1.5, 8.0), (-8.5, -2.0)
TEETH_BEHIND_LIPS_MM = 7.0
THROAT_DEPTH_MM = 34.0  # behind the mouth corners
EXTRA_DEPTH_MM = 14.0  # added if the mesh has its own teeth
# Fraction of the chin's motion that the lower teeth follow: they are nearer the joint.
JAW_FOLLOWING = 0.8
CHIN_LANDMARKS = slice(6, 11)
SKULL_LANDMARKS = [27, 28, 36, 39, 42, 45]  # iBUG landmarks that move with the skull
GAUSS_NEWTON_STEPS = 8
BOWL_POINTS = 24  # points in each ring of the mouth's inside


class AddedPart(NamedTuple):
    """An added surface: points (A, 3) in canonical mm, triangles (F, 3), texture coordinates.

    `texels` (A, 2) are column and row; `jaw` (A,) is the fraction of the jaw's motion that a point
    follows, 0 for the skull.
    """

    points: np.ndarray
    faces: np.ndarray
    texels: np.ndarray
    jaw: np.ndarray


def eyeball(centre: np.ndarray) -> AddedPart:
    """Return an eyeball at a centre (3,), textured with `textures.eye_image`."""
    ball, faces = _sphere(24, 32)
    return AddedPart(
        centre + EYEBALL_RADIUS_MM * ball, faces, eye_texels(ball), np.zeros(len(ball))
    )


def eye_texels(directions: np.ndarray) -> np.ndarray:
    """Return column and row (P, 2) in `textures.eye_image` for directions (P, 3)."""
    unit = directions / np.maximum(np.linalg.norm(directions, axis=1, keepdims=True), 1e-9)
    angle = np.arccos(np.clip(unit[:, 2], -1, 1)) / np.pi  # 0 ahead, 1 behind
    flat = unit[:, :2] / np.maximum(np.linalg.norm(unit[:, :2], axis=1, keepdims=True), 1e-9)
    return (SWATCH_PIXELS / 2) * (1 + 0.98 * angle[:, None] * flat * [1, -1])


def eyeball_centre(lids: np.ndarray, expected: np.ndarray) -> np.ndarray:
    """Return the centre (3,) of an eyeball whose surface touches the lids.

    Parameters
    ----------
    lids : (6, 3)
        Landmarks of the eyelids in canonical mm.
    expected : (3,)
        Expected centre. The lids determine the depth of the eyeball, but hardly its lateral
        position.
    """
    weight = np.array([1.0, 1.0, 0.2])
    centre = expected.astype(np.float64)
    for _ in range(GAUSS_NEWTON_STEPS):
        from_lids = centre - lids
        distance = np.maximum(np.linalg.norm(from_lids, axis=1), 1e-6)
        jacobian = np.concatenate([from_lids / distance[:, None], np.diag(weight)])
        error = np.append(distance - EYEBALL_RADIUS_MM, weight * (centre - expected))
        centre = centre - np.linalg.lstsq(jacobian, error, rcond=None)[0]
    return centre


def mouth_parts(landmarks: np.ndarray, has_teeth: bool) -> list[AddedPart]:
    """Return a dark bowl behind the lips and, unless the mesh has teeth, two rows of teeth.

    Parameters
    ----------
    landmarks : (68, 3)
        iBUG landmarks in canonical mm.
    has_teeth : bool
        Whether the mesh has its own teeth; the bowl then lies behind them.
    """
    inner = landmarks[60:68]
    middle = inner.mean(0)
    width = float(np.linalg.norm(landmarks[54] - landmarks[48]))
    corner = landmarks[[48, 54], 2].mean()
    front = float(min(inner[2, 2], inner[6, 2])) - TEETH_BEHIND_LIPS_MM
    extra = EXTRA_DEPTH_MM if has_teeth else 0.0
    bowl = _bowl(middle, width, min(corner, front), extra)
    if has_teeth:
        return [bowl]
    side = corner - TEETH_BEHIND_LIPS_MM
    arch = (middle, 0.45 * width, front, side)
    return [bowl, _teeth_row(UPPER_TEETH_MM, False, *arch), _teeth_row(LOWER_TEETH_MM, True, *arch)]


def _bowl(middle: np.ndarray, width: float, front: float, extra: float) -> AddedPart:
    """Return three rings that narrow towards the throat; the lower half follows the jaw."""
    angle = np.linspace(0, 2 * np.pi, BOWL_POINTS + 1)[:-1]
    rings = []
    for depth, wide, high in (
        (14.0, 0.62, 25.0),
        (24.0, 0.52, 22.0),
        (THROAT_DEPTH_MM, 0.25, 10.0),
    ):
        x, y = wide * width * np.cos(angle), high * np.sin(angle)
        z = np.full(BOWL_POINTS, front - depth - extra)
        rings.append(np.column_stack([middle[0] + x, middle[1] + y, z]))
    points = np.concatenate(rings)
    k = np.arange(BOWL_POINTS)
    after = (k + 1) % BOWL_POINTS
    faces = []
    for a, b in pairwise((0, BOWL_POINTS, 2 * BOWL_POINTS)):
        faces.append(np.column_stack([a + k, b + k, a + after]))
        faces.append(np.column_stack([b + k, b + after, a + after]))
    fan, first = k[: BOWL_POINTS - 2], 2 * BOWL_POINTS
    faces.append(np.column_stack([np.full(len(fan), first), first + 1 + fan, first + 2 + fan]))
    shade = np.repeat([0.1, 0.3, 0.6], BOWL_POINTS)
    texels = np.column_stack([np.full(len(points), SWATCH_PIXELS / 2), SWATCH_PIXELS * shade])
    jaw = np.where(points[:, 1] >= middle[1] - 1e-6, 0.0, 1.0)
    return AddedPart(points, np.concatenate(faces), texels, jaw)


def _teeth_row(
    range_mm: tuple[float, float],
    is_lower: bool,
    middle: np.ndarray,
    half: float,
    front: float,
    side: float,
) -> AddedPart:
    """Return a strip along an arch: `front` in its middle and back to `side` at its ends."""
    low, high = range_mm
    across = np.linspace(-1, 1, 33)
    z = front + (min(side, front - 6) - front) * across**2
    x = middle[0] + half * np.sin(across * np.pi / 2)
    edge = np.where(np.abs(across) < 0.95, 1.0, 0.7)
    rows = []
    for share, bulge in ((0.0, -1.5), (0.35, 0.0), (1.0, -1.0)):
        y = middle[1] + (low + share * (high - low)) * edge
        rows.append(np.column_stack([x, y, z + bulge]))
    count = len(across)
    faces = []
    for a, b in pairwise((0, count, 2 * count)):
        for k in range(count - 1):
            faces += [[a + k, a + k + 1, b + k], [b + k, a + k + 1, b + k + 1]]
    length = np.concatenate([[0], np.cumsum(np.hypot(np.diff(x), np.diff(z)))])
    column = SWATCH_PIXELS * np.clip(np.tile(length / length.max(), 3) * 0.98 + 0.01, 0, 1)
    height = np.repeat([0.0, 0.35, 1.0], count)
    if is_lower:
        height = 1 - height
    texels = np.column_stack([column, SWATCH_PIXELS * (0.02 + 0.96 * height)])
    points = np.concatenate(rows)
    return AddedPart(points, np.array(faces), texels, np.full(len(points), float(is_lower)))


def _sphere(rings: int, sectors: int) -> tuple[np.ndarray, np.ndarray]:
    """Return vertices (V, 3) and triangles (F, 3) of a unit sphere with its poles along z."""
    polar, azimuth = np.linspace(0, np.pi, rings + 1), np.linspace(0, 2 * np.pi, sectors + 1)[:-1]
    grid = np.stack(np.meshgrid(polar, azimuth, indexing="ij"), 2).reshape(-1, 2)
    sine = np.sin(grid[:, 0])
    x, y = sine * np.cos(grid[:, 1]), sine * np.sin(grid[:, 1])
    row, column = np.divmod(np.arange(rings * sectors), sectors)
    a, b = row * sectors + column, row * sectors + (column + 1) % sectors
    upper = np.column_stack([a, a + sectors, b])
    lower = np.column_stack([b, a + sectors, b + sectors])
    return np.column_stack([x, y, np.cos(grid[:, 0])]), np.concatenate([upper, lower])


class SkullAndJawFollowers(AddedVertices):
    """Added vertices that move with the skull, wherever it turns, and with the jaw.

    Parameters
    ----------
    binding : Binding
        The mesh that they are added to.
    parts : list of Part
        In canonical mm.
    balls : list of (slice, (3,))
        Rows of each eyeball among all added points, and its centre in canonical mm.
    """

    def __init__(
        self, binding: Binding, parts: list[AddedPart], balls: list[tuple[slice, np.ndarray]]
    ):
        super().__init__()
        to_mesh = binding.placement.to_mesh
        self.balls = [(rows, to_mesh(centre)) for rows, centre in balls]
        self.axes = binding.placement.rotation
        self.skull = binding.landmarks68[SKULL_LANDMARKS]
        self.chin = binding.landmarks68[CHIN_LANDMARKS]
        self.skull_at_rest = binding.rest[self.skull].astype(np.float64)
        self.chin_at_rest = binding.rest[self.chin].mean(0).astype(np.float64)
        if parts:
            self.points = np.concatenate([to_mesh(part.points) for part in parts])
        self.jaw = np.concatenate([part.jaw for part in parts] or [np.zeros(0)])

    def __call__(self, vertices: np.ndarray) -> np.ndarray:
        """Return the added vertices (A, 3) for a frame of the mesh (N, 3)."""
        if not len(self.points):
            return self.points
        points = self.points
        if self.gaze is not None and self.balls:
            turned = eye_rotation(self.gaze, self.axes)
            points = points.copy()
            for rows, centre in self.balls:
                points[rows] = (points[rows] - centre) @ turned.T + centre
        skull = vertices[self.skull].astype(np.float64)
        (rotation,), (shift,) = rigid_motion(self.skull_at_rest[None], skull[None])
        chin = vertices[self.chin].mean(0) - (self.chin_at_rest @ rotation.T + shift)
        return points @ rotation.T + shift + self.jaw[:, None] * (JAW_FOLLOWING * chin)
