"""A motion: what passes from speech, capture or an animation to the meshes that show it.

Everything that moves between sound and mesh lies in the span of the canonical face's S blend shapes (S about 54) and is
linear in it. A motion is therefore a time and S coordinates a frame. Vertices and geometry maps are drawn from it by
whoever looks at them: writers, metrics, the paper's figures.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import numpy as np

from .canonical import Face

TOGETHER = 256  # frames that are made at a time, where all are known


@dataclass(frozen=True, eq=False)
class Motion:
    """Coordinates of the canonical face's displacement over time.

    times: (T,) float64 s, ascending
    coordinates: (T, S) float32 mm, in the orthonormal basis `Face.span`
    loudness: (T,) of the speech that the motion was made from, 1 where it is loud, 0 for silence; None for others
    """

    times: np.ndarray
    coordinates: np.ndarray
    loudness: np.ndarray | None = None

    def __len__(self) -> int:
        return len(self.times)

    @classmethod
    def from_weights(cls, face: Face, times: np.ndarray, shapes: np.ndarray) -> Motion:
        """The motion of blend-shape weights (T, S)."""
        return cls(times, np.asarray(shapes, np.float32) @ face.weights_to_coordinates)

    @classmethod
    def from_displacement(cls, face: Face, times: np.ndarray, displacement: np.ndarray) -> Motion:
        """The motion nearest to displacements (T, V, 3) mm of the canonical face."""
        span = face.span.reshape(len(face.span), -1)
        return cls(times, displacement.reshape(len(displacement), -1).astype(np.float32) @ span.T)

    @classmethod
    def concatenate(cls, parts: Iterable[Motion], face: Face) -> Motion:
        """Consecutive motions as one; an empty motion where there are none."""
        parts = list(parts)
        if not parts:
            return cls(np.zeros(0), np.zeros((0, len(face.expression_names)), np.float32))
        heard = [p.loudness for p in parts if p.loudness is not None]
        loudness = np.concatenate(heard) if len(heard) == len(parts) else None
        return cls(
            np.concatenate([p.times for p in parts]),
            np.concatenate([p.coordinates for p in parts]),
            loudness,
        )

    def displacement(self, face: Face) -> np.ndarray:
        """Displacement (T, V, 3) float32 mm of the canonical face's vertices."""
        span = face.span
        return (self.coordinates @ span.reshape(len(span), -1)).reshape(len(self), *span.shape[1:])

    def lip_opening(self, face: Face) -> np.ndarray:
        """Vertical opening (T,) mm of the lips from rest, see `Face.lip_opening`."""
        return self.coordinates @ face.lip_opening_gradient

    def arkit(self, face: Face) -> np.ndarray:
        """Weights (T, 52) float32 in [0, 1] of ARKit's blend shapes, in Apple's order, that come nearest."""
        return face.fit_weights(self.coordinates, gaze=False) @ face.arkit_matrix


def split_times(times: np.ndarray, size: int = TOGETHER) -> Iterator[np.ndarray]:
    """Times (T,) in consecutive parts of a size, as float64."""
    for start in range(0, len(times), size):
        yield np.asarray(times[start : start + size], np.float64)
