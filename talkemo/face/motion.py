"""Motion of the canonical face, between speech, captures or animations and the animated mesh.

All motion lies in the span of the canonical face's S blend shapes (S about 54), so a frame is S
coordinates. Vertices and geometry maps are linear in them and computed only where they are needed:
by writers, metrics and the paper's figures.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from ..deprecated import keep_old_names
from .canonical import Face
from .openings import exported_weights

MOTION_BATCH_FRAMES = 256  # default number of frames in a batch of times


@dataclass(frozen=True, eq=False)
class Motion:
    """Coordinates of the canonical face's displacement over time.

    Attributes
    ----------
    times : (T,) float64
        Seconds, ascending.
    coordinates : (T, S) float32
        Millimetres in the orthonormal basis `Face.span`; a frame's norm is the norm of the
        displacement of all vertices.
    loudness : (T,) or None
        Loudness of the speech that the motion was made from, from 0 (silence) to 1 (loud); None
        for motion that was not made from speech.
    """

    times: np.ndarray
    coordinates: np.ndarray
    loudness: np.ndarray | None = None

    def __len__(self) -> int:
        return len(self.times)

    @classmethod
    def from_weights(cls, face: Face, times: np.ndarray, weights: np.ndarray) -> Motion:
        """Make a motion from blend-shape weights (T, S)."""
        return cls(times, np.asarray(weights, np.float32) @ face.weights_to_coordinates)

    @classmethod
    def from_displacement(cls, face: Face, times: np.ndarray, displacement: np.ndarray) -> Motion:
        """Project displacements (T, V, 3) mm of the canonical face onto the span."""
        span = face.span.reshape(len(face.span), -1)
        return cls(times, displacement.reshape(len(displacement), -1).astype(np.float32) @ span.T)

    @classmethod
    def concatenate(cls, motions: Iterable[Motion], face: Face) -> Motion:
        """Join consecutive motions; without any, the result is an empty motion."""
        motions = list(motions)
        if not motions:
            return cls(np.zeros(0), np.zeros((0, len(face.expression_names)), np.float32))
        return cls.of_parts(motions)

    @classmethod
    def of_parts(cls, motions: Sequence[Motion]) -> Motion:
        """Join one or more consecutive motions."""
        loudness = [m.loudness for m in motions if m.loudness is not None]
        return cls(
            np.concatenate([m.times for m in motions]),
            np.concatenate([m.coordinates for m in motions]),
            np.concatenate(loudness) if len(loudness) == len(motions) else None,
        )

    def displacement(self, face: Face) -> np.ndarray:
        """Return the displacement (T, V, 3) float32 mm of the canonical face's vertices."""
        span = face.span
        return (self.coordinates @ span.reshape(len(span), -1)).reshape(len(self), *span.shape[1:])

    def lip_opening(self, face: Face) -> np.ndarray:
        """Return the vertical opening (T,) mm of the lips, see `Face.lip_opening`."""
        return self.coordinates @ face.lip_opening_gradient

    def arkit(self, face: Face) -> np.ndarray:
        """Fit the weights (T, 52) float32 in [0, 1] of ARKit's blend shapes, in Apple's order."""
        return exported_weights(face, self.coordinates) @ face.arkit_matrix


def split_times(times: np.ndarray, size: int = MOTION_BATCH_FRAMES) -> Iterator[np.ndarray]:
    """Yield times (T,) in consecutive float64 batches of at most `size`."""
    for start in range(0, len(times), size):
        yield np.asarray(times[start : start + size], np.float64)


keep_old_names(
    Motion,
    {"of_shapes": "from_weights", "of_displacement": "from_displacement", "joined": "concatenate"},
)
