"""Rotations, and rigid and similarity fits between sets of points."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import permutations, product

import numpy as np


def eye_rotation(gaze: np.ndarray, axes: np.ndarray | None = None) -> np.ndarray:
    """Rotate an eye from looking straight ahead to a gaze.

    Parameters
    ----------
    gaze : (..., 2)
        Pitch (positive is down) and yaw (positive is to the face's left) in radians.
    axes : (3, 3), optional
        Rotation of the face that the eye belongs to; by default the face looks along +z, y up.

    Returns
    -------
    (..., 3, 3), rotations in the space of `axes`.
    """
    pitch, yaw = np.moveaxis(np.asarray(gaze), -1, 0)
    rotation = rotation_matrices(pitch, yaw, np.zeros_like(pitch))
    return rotation if axes is None else axes @ rotation @ axes.T


def gaze_of(rotation: np.ndarray) -> np.ndarray:
    """Return pitch and yaw (T, 2) in radians of rotations (T, 3, 3), which `eye_rotation` makes."""
    x, y, z = rotation[:, :, 2].T  # where it looks
    return np.stack([-np.arcsin(y.clip(-1, 1)), np.arctan2(x, z)], axis=1)


def rotation_matrices(pitch: np.ndarray, yaw: np.ndarray, roll: np.ndarray) -> np.ndarray:
    """Return rotations (..., 3, 3) about x, then y, then z, by angles (...) in radians.

    In numpy: importing scipy's Rotation takes longer than animating a second of speech, and
    `talkemo animate` needs nothing else of scipy.
    """
    (px, yx, rx), (pc, yc, rc) = np.sin([pitch, yaw, roll]), np.cos([pitch, yaw, roll])
    zero, one = np.zeros_like(px), np.ones_like(px)
    about_x = _matrix((one, zero, zero), (zero, pc, -px), (zero, px, pc))
    about_y = _matrix((yc, zero, yx), (zero, one, zero), (-yx, zero, yc))
    about_z = _matrix((rc, -rx, zero), (rx, rc, zero), (zero, zero, one))
    return np.asarray(about_z @ about_y @ about_x)


def _matrix(*rows: tuple[np.ndarray, ...]) -> np.ndarray:
    """Return matrices (..., 3, 3) of rows of entries (...)."""
    return np.stack([np.stack(row, -1) for row in rows], -2)


def cube_rotations() -> list[np.ndarray]:
    """Return the 24 rotations that take axes to axes.

    The identity comes first, then z up and looking along -y, as in Blender.
    """
    rotations = []
    for order in permutations(range(3)):
        for signs in product((1, -1), repeat=3):
            matrix = np.zeros((3, 3))
            matrix[range(3), order] = signs
            if np.linalg.det(matrix) > 0:
                rotations.append(matrix)
    z_up = np.array([[1.0, 0, 0], [0, 0, -1], [0, 1, 0]])

    def unlikeliness(rotation: np.ndarray) -> tuple[bool, bool, float]:
        is_identity, is_z_up = (np.array_equal(rotation, r) for r in (np.eye(3), z_up))
        return not is_identity, not is_z_up, -np.trace(rotation)

    return sorted(rotations, key=unlikeliness)


def as_rotation(value: object) -> np.ndarray | None:
    """Return a rotation (3, 3) that a file names as an array or JSON, None if it is not one."""
    try:
        rotation = np.array(value, np.float64)
    except (TypeError, ValueError, OverflowError):
        return None
    if rotation.shape != (3, 3) or not np.allclose(rotation @ rotation.T, np.eye(3), atol=1e-3):
        return None
    return rotation


def nearest_cube_rotation(rotation: np.ndarray) -> np.ndarray:
    """Return the rotation (3, 3) that takes axes to axes and is nearest to a rotation."""
    cube = cube_rotations()
    return cube[int(np.argmax([np.sum(candidate * rotation) for candidate in cube]))]


@dataclass(frozen=True, eq=False)
class Similarity:
    """The map p → scale · p @ rotation.T + translation from canonical mm to a mesh's own space."""

    scale: float  # mesh units a mm
    rotation: np.ndarray  # (3, 3); its columns are the face's left, up and forward
    translation: np.ndarray  # (3,), the canonical origin in the mesh

    def to_canonical(self, points: np.ndarray) -> np.ndarray:
        """Map points (..., 3) of the mesh to canonical mm."""
        return (points - self.translation) @ self.rotation / self.scale

    def to_mesh(self, points: np.ndarray) -> np.ndarray:
        """Map points (..., 3) from canonical mm to the mesh."""
        return self.scale * points @ self.rotation.T + self.translation

    def compose(self, scale: float, rotation: np.ndarray, shift: np.ndarray) -> Similarity:
        """Return this similarity after one in canonical space: p → self(scale · R p + shift)."""
        return Similarity(self.scale * scale, self.rotation @ rotation, self.to_mesh(shift))


def fit_similarity(
    source: np.ndarray, target: np.ndarray, weight: np.ndarray | None = None
) -> tuple[float, np.ndarray, np.ndarray]:
    """Fit target ≈ scale · source @ rotation.T + shift by least squares (Umeyama 1991).

    Parameters
    ----------
    source, target : (P, 3)
    weight : (P,), optional
        Weight of each pair of points.

    Returns
    -------
    scale : float
    rotation : (3, 3)
    shift : (3,)
    """
    w = np.full(len(source), 1 / len(source)) if weight is None else weight / weight.sum()
    source_mean, target_mean = w @ source, w @ target
    centred = source - source_mean
    rotation, values = nearest_rotation((target - target_mean).T @ (w[:, None] * centred))
    scale = float(values.sum() / (w @ np.square(centred)).sum())
    return scale, rotation, target_mean - scale * rotation @ source_mean


def rigid_motion(source: np.ndarray, target: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Fit target ≈ source @ rotation.T + shift in each frame.

    Parameters
    ----------
    source, target : (T, P, 3)

    Returns
    -------
    rotation : (T, 3, 3)
    shift : (T, 3)
    """
    source_mean, target_mean = source.mean(1), target.mean(1)
    rotation, _ = nearest_rotation(
        np.einsum("tpi,tpj->tij", target - target_mean[:, None], source - source_mean[:, None])
    )
    return rotation, target_mean - np.einsum("tij,tj->ti", rotation, source_mean)


def nearest_rotation(covariance: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the rotations (..., 3, 3) nearest to matrices, and their signed singular values."""
    left, values, right = np.linalg.svd(covariance)
    sign = np.ones_like(values)
    sign[..., 2] = np.sign(np.linalg.det(left @ right))
    return (left * sign[..., None, :]) @ right, values * sign
