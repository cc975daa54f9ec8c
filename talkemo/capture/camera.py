"""The scaled orthographic camera of 3D-TalkEmo and its correction for perspective.

Eq. 3: SOP(R, T, s, V) = s·[1 0 0; 0 1 0]·R·V + T.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np


class Pose(NamedTuple):
    """Pose of a face in each of T frames."""

    rotation: np.ndarray  # (T, 3, 3) float32
    scale: np.ndarray  # (T,) float32, px per mm
    translation: np.ndarray  # (T, 2) float32, px


@dataclass(frozen=True)
class Lens:
    """A perspective camera, as a correction of the scaled orthographic one.

    Close to the camera, the nose looks larger than in scaled orthography.
    """

    focal: float  # focal length, px
    centre: tuple[float, float]  # principal point: column and row, px

    @classmethod
    def of_view(cls, degrees: float, width: float, height: float) -> Lens:
        """Return the lens with a horizontal field of view, for images of width × height px."""
        return cls(width / 2 / math.tan(math.radians(degrees) / 2), (width / 2, height / 2))

    def to_orthographic(
        self, pixels: np.ndarray, points: np.ndarray, rotation: np.ndarray, scale: np.ndarray
    ) -> np.ndarray:
        """Return the pixels at which scaled orthography would show points.

        With these pixels Eq. 3 holds for a perspective camera (DeMenthon and Davis 1995, POSIT).

        Parameters
        ----------
        pixels : (T, P, 2)
            Where this lens shows the points.
        points : (T, P, 3)
            The points in mm.
        rotation : (T, 3, 3)
        scale : (T,)
            px per mm.
        """
        return self._scaled(pixels, self._relative_depth(points, rotation, scale))

    def to_perspective(
        self, pixels: np.ndarray, points: np.ndarray, rotation: np.ndarray, scale: np.ndarray
    ) -> np.ndarray:
        """Return the inverse of `to_orthographic`: where this lens shows the points."""
        return self._scaled(pixels, 1 / self._relative_depth(points, rotation, scale))

    def _relative_depth(
        self, points: np.ndarray, rotation: np.ndarray, scale: np.ndarray
    ) -> np.ndarray:
        """Return each point's depth relative to that of the face's origin, (T, P)."""
        towards_camera = (points @ rotation[:, 2, :, None])[..., 0] * scale[:, None]
        return np.maximum(1 - towards_camera / self.focal, 0.1)

    def _scaled(self, pixels: np.ndarray, factor: np.ndarray) -> np.ndarray:
        """Scale pixels (T, P, 2) about the principal point by factors (T, P)."""
        centre = np.asarray(self.centre, pixels.dtype)
        return ((pixels - centre) * factor[..., None] + centre).astype(pixels.dtype)


def project(
    points: np.ndarray, rotation: np.ndarray, scale: np.ndarray, translation: np.ndarray
) -> np.ndarray:
    """Project points by scaled orthography (Eq. 3).

    Parameters
    ----------
    points : (T, P, 3)
        In mm, y up.
    rotation : (T, 3, 3)
    scale : (T,)
        px per mm.
    translation : (T, 2)
        In px.

    Returns
    -------
    (T, P, 2)
        Pixels, y down.
    """
    projected = points @ image_axes(rotation).transpose(0, 2, 1)
    return scale[:, None, None] * projected + translation[:, None]


def image_axes(rotation: np.ndarray) -> np.ndarray:
    """Return [1 0 0; 0 −1 0]·R, (T, 2, 3): the image's axes, x right and y down, in the face's."""
    return rotation[:, :2] * np.array([[1], [-1]], rotation.dtype)


def estimate_pose(points: np.ndarray, pixels: np.ndarray, weights: np.ndarray) -> Pose:
    """Estimate the pose that projects points onto pixels.

    A weighted affine fit whose matrix is replaced by the nearest scaled rotation. It is exact for
    exact points, and else within a few hundredths of a pixel of the least-squares pose.

    Parameters
    ----------
    points : (T, P, 3)
        In mm, y up.
    pixels : (T, P, 2)
        Where they are in the image, y down.
    weights : (T, P)
        Weight of each point; zero excludes it.
    """
    total = weights.sum(1, keepdims=True)
    centre3 = np.einsum("tp,tpc->tc", weights, points) / total
    centre2 = np.einsum("tp,tpc->tc", weights, pixels) / total
    x, y = points - centre3[:, None], pixels - centre2[:, None]
    moment = (weights[..., None] * x).transpose(0, 2, 1).astype(np.float64) @ x
    moment += 1e-6 * np.trace(moment, axis1=1, axis2=2)[:, None, None] * np.eye(3)
    cross = (weights[..., None] * y).transpose(0, 2, 1) @ x
    affine = np.linalg.solve(moment, cross.transpose(0, 2, 1)).transpose(0, 2, 1)
    affine = affine * np.array([[1.0], [-1.0]])
    left, values, right = np.linalg.svd(affine, full_matrices=False)
    upper = left @ right
    scale = values.mean(1)
    rotation = np.concatenate([upper, np.cross(upper[:, 0], upper[:, 1])[:, None]], axis=1)
    shift = np.einsum("trc,tc->tr", image_axes(rotation), centre3)
    translation = centre2 - scale[:, None] * shift
    return Pose(*(array.astype(np.float32) for array in (rotation, scale, translation)))
