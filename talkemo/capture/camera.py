"""The scaled orthographic camera of 3D-TalkEmo, Eq. 3: SOP(R, T, s, V) = s·[1 0 0; 0 1 0]·R·V + T."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

FIELD_OF_VIEW = (5.0, 150.0)  # degrees across a picture


@dataclass(frozen=True)
class Lens:
    """What a perspective camera has besides the scaled orthographic one: who is near the lens has a large nose.

    focal: its focal length in pixels; centre: column and row of the picture that lie straight ahead
    """

    focal: float
    centre: tuple[float, float]

    @classmethod
    def of_view(cls, degrees: float, width: float, height: float) -> Lens:
        """The lens that sees so many degrees across a picture, straight ahead in its middle."""
        return cls(width / 2 / math.tan(math.radians(degrees) / 2), (width / 2, height / 2))

    def flat(
        self, pixels: np.ndarray, points: np.ndarray, rotation: np.ndarray, scale: np.ndarray
    ) -> np.ndarray:
        """The pixels (T, P, 2) where scaled orthography would have seen points (T, P, 3) mm that are seen at `pixels`.

        With them Eq. 3 holds for a perspective camera (DeMenthon, Davis 1995, POSIT).
        """
        return self._around_centre(pixels, self._nearness(points, rotation, scale))

    def bent(
        self, pixels: np.ndarray, points: np.ndarray, rotation: np.ndarray, scale: np.ndarray
    ) -> np.ndarray:
        """The inverse of `flat`: where the lens sees what scaled orthography sees at `pixels`."""
        return self._around_centre(pixels, 1 / self._nearness(points, rotation, scale))

    def _nearness(self, points: np.ndarray, rotation: np.ndarray, scale: np.ndarray) -> np.ndarray:
        """(T, P): the distance of points from the camera in distances of the face's origin."""
        depth = (points @ rotation[:, 2, :, None])[..., 0] * scale[:, None]
        return np.maximum(1 - depth / self.focal, 0.1)

    def _around_centre(self, pixels: np.ndarray, factor: np.ndarray) -> np.ndarray:
        centre = np.asarray(self.centre, pixels.dtype)
        return ((pixels - centre) * factor[..., None] + centre).astype(pixels.dtype)


def project(
    points: np.ndarray, rotation: np.ndarray, scale: np.ndarray, translation: np.ndarray
) -> np.ndarray:
    """Pixels (T, P, 2), y down, of points (T, P, 3) mm, y up.

    rotation: (T, 3, 3); scale: (T,) px/mm; translation: (T, 2) px
    """
    return (
        scale[:, None, None] * (points @ rows(rotation).transpose(0, 2, 1)) + translation[:, None]
    )


def rows(rotation: np.ndarray) -> np.ndarray:
    """[1 0 0; 0 −1 0]·R, (T, 2, 3): the rows of rotations that give pixels, whose y axis points down."""
    return rotation[:, :2] * np.array([[1], [-1]], rotation.dtype)


def estimate_pose(
    points: np.ndarray, pixels: np.ndarray, weights: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Rotation (T, 3, 3), scale (T,) and translation (T, 2) that take points (T, P, 3) onto pixels (T, P, 2).

    A weighted affine fit, replaced by the nearest scaled rotation, by singular value decomposition. Exact for points
    without error, and otherwise a few per cent of a pixel from the least-squares pose. weights: (T, P), zeros leave
    points out.
    """
    total = weights.sum(1, keepdims=True)
    centre3 = np.einsum("tp,tpc->tc", weights, points) / total
    centre2 = np.einsum("tp,tpc->tc", weights, pixels) / total
    x, y = points - centre3[:, None], pixels - centre2[:, None]
    moment = (weights[..., None] * x).transpose(0, 2, 1).astype(np.float64) @ x
    moment += 1e-6 * np.trace(moment, axis1=1, axis2=2)[:, None, None] * np.eye(3)
    cross = (weights[..., None] * y).transpose(0, 2, 1) @ x
    affine = np.linalg.solve(moment, cross.transpose(0, 2, 1)).transpose(0, 2, 1) * np.array(
        [[1.0], [-1.0]]
    )
    left, values, right = np.linalg.svd(affine, full_matrices=False)
    upper = left @ right
    scale = values.mean(1)
    rotation = np.concatenate([upper, np.cross(upper[:, 0], upper[:, 1])[:, None]], axis=1)
    translation = centre2 - scale[:, None] * np.einsum("trc,tc->tr", rows(rotation), centre3)
    rotation, scale, translation = (a.astype(np.float32) for a in (rotation, scale, translation))
    return rotation, scale, translation
