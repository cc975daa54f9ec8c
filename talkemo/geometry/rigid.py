"""Geometry that several parts share: triangle meshes, closest points, rigid fits, bounded least squares. Plain arrays in and out."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np


def eye_rotation(gaze: np.ndarray, axes: np.ndarray | None = None) -> np.ndarray:
    """The rotation (3, 3) of an eye that looks ahead, by pitch, down, and yaw, to the left, (2,) in radians.

    axes: (3, 3), the rotation of the face that the eye is in, from looking along +z with y up; None for none
    """
    (ps, ys), (pc, yc) = np.sin(gaze), np.cos(gaze)
    own = np.array([[yc, 0, ys], [0, 1, 0], [-ys, 0, yc]]) @ np.array(
        [[1, 0, 0], [0, pc, -ps], [0, ps, pc]]
    )
    return own if axes is None else np.asarray(axes @ own @ axes.T)


@dataclass(frozen=True, eq=False)
class Similarity:
    """Takes points p, here canonical millimetres, to scale · p @ rotation.T + translation, here a mesh's own space."""

    scale: float
    rotation: np.ndarray  # (3, 3)
    translation: np.ndarray  # (3,)

    def to_canonical(self, points: np.ndarray) -> np.ndarray:
        """Points (..., 3) of the mesh in canonical mm."""
        return (points - self.translation) @ self.rotation / self.scale

    def to_mesh(self, points: np.ndarray) -> np.ndarray:
        """Points (..., 3) in canonical mm where they are in the mesh."""
        return self.scale * points @ self.rotation.T + self.translation

    def after(self, scale: float, rotation: np.ndarray, shift: np.ndarray) -> Similarity:
        """This similarity applied after another one within canonical space."""
        return Similarity(self.scale * scale, self.rotation @ rotation, self.to_mesh(shift))


def fit_similarity(
    source: np.ndarray, target: np.ndarray, weight: np.ndarray | None = None
) -> tuple[float, np.ndarray, np.ndarray]:
    """Scale, rotation (3, 3) and shift (3,) with target ≈ scale · source @ rotation.T + shift (Umeyama 1991).

    source, target: (P, 3); weight: (P,), how much each pair counts
    """
    w = np.full(len(source), 1 / len(source)) if weight is None else weight / weight.sum()
    a, b = w @ source, w @ target
    rotation, values = nearest_rotation((target - b).T @ (w[:, None] * (source - a)))
    scale = float(values.sum() / (w @ np.square(source - a)).sum())
    return scale, rotation, b - scale * rotation @ a


def rigid_motion(source: np.ndarray, target: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Rotations (T, 3, 3) and shifts (T, 3) with target ≈ source @ rotation.T + shift, for points (T, P, 3) each."""
    a, b = source.mean(1), target.mean(1)
    rotation, _ = nearest_rotation(
        np.einsum("tpi,tpj->tij", target - b[:, None], source - a[:, None])
    )
    return rotation, b - np.einsum("tij,tj->ti", rotation, a)


def nearest_rotation(covariance: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The rotation (..., 3, 3) nearest to a covariance (..., 3, 3), and its singular values, the last signed."""
    left, values, right = np.linalg.svd(covariance)
    sign = np.ones_like(values)
    sign[..., 2] = np.sign(np.linalg.det(left @ right))
    return (left * sign[..., None, :]) @ right, values * sign
