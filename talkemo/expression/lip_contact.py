"""Lips that meet: where speech closes them, no emotion leaves a gap, and they never cross.

The height of the opening is linear in a motion's coordinates, in each column of the mouth
(face/openings.py). What a frame lacks is added as the smallest motion of the face that changes the
opening so.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from ..face.canonical import Face
from ..face.motion import Motion
from ..face.openings import face_lips
from ..geometry.numerics import smoothstep

# Height in mm of the opening in the middle of the mouth, in speech without emotion: below the first
# the lips are closed along their whole line, above the second they are left alone.
CLOSED_MM, OPEN_MM = 0.4, 1.6
# A face at rest keeps its own gap, and speech that closes it by this much none.
REST_MM = 0.4
# Ridge of the smallest motion, in mm² of the opening by 1 mm² of coordinates: leaves 0.3 mm at most.
CONTACT_RIDGE = 1e-4
MIN_LACK_MM = 1e-6  # what rounding makes of nothing
LIP_COLUMNS = slice(1, -1)  # the outermost columns lie in the corners


class LipContact:
    """Closes the lips of a face's motions where speech does.

    Parameters
    ----------
    face : Face
    gap : (J,) mm, optional
        Height of the mouth's opening at rest, in the columns of `face_lips`: 0 for lips that touch.
        By default the canonical face's.
    """

    def __init__(self, face: Face, gap: np.ndarray | None = None):
        lips = face_lips(face)
        own_gap = lips.gap(face.mean)
        gradient = lips.gap(face.span).astype(np.float64)  # (S, J)
        middle = len(own_gap) // 2
        self._middle_gap = float(own_gap[middle - 1 : middle + 1].mean())
        self._middle_gradient = gradient[:, middle - 1 : middle + 1].mean(1)
        self._rest = np.maximum(own_gap if gap is None else gap, 0)[LIP_COLUMNS]
        self._gradient = gradient[:, LIP_COLUMNS]
        gram = self._gradient.T @ self._gradient
        gram += CONTACT_RIDGE * np.eye(len(gram))
        self._smallest_motion = np.linalg.solve(gram, self._gradient.T)  # (J, S)

    def closure(self, speech: Motion) -> np.ndarray:
        """Return how closed (T,) the lips are in a motion of speech, from 0 to 1."""
        height = self._middle_gap + speech.coordinates @ self._middle_gradient
        return 1 - smoothstep((height - CLOSED_MM) / (OPEN_MM - CLOSED_MM))

    def __call__(self, motion: Motion, speech: Motion) -> Motion:
        """Return a motion whose lips meet where those of `speech`, without its emotion, do.

        Frames in which nothing lacks keep bit-identical coordinates.
        """
        height = self._rest + motion.coordinates @ self._gradient
        closure = self.closure(speech)[:, None]
        at_rest = smoothstep(speech.coordinates @ self._middle_gradient / REST_MM + 1)[:, None]
        wanted = np.maximum((1 - closure) * height + closure * at_rest * self._rest, 0)
        lacking = wanted - height
        changed = np.abs(lacking).max(1, initial=0) > MIN_LACK_MM
        if not changed.any():
            return motion
        coordinates = motion.coordinates.copy()
        coordinates[changed] += (lacking[changed] @ self._smallest_motion).astype(np.float32)
        return replace(motion, coordinates=coordinates)
