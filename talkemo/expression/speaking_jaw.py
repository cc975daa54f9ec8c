"""A jaw that an emotion leaves to the speech: whatever closes the lips, it is not the jaw.

What an emotion parts between the lips is closed again, as lips belong to the speech. Where the change
does it by closing the jaw, the lower teeth rise before the upper ones, though the lips are as far
apart as before: in surprise by 6 mm. Here the jaw stays where speech has it, and the lips close.
"""

from __future__ import annotations

from dataclasses import replace
from functools import lru_cache

import numpy as np

from ..face.canonical import Face
from ..face.motion import Motion
from ..face.openings import face_lips

# The shapes (first parts of names) that open the jaw behind lips whose opening stays the same.
MOVED = ("jaw", "mouth", "cheek")
KEPT_OPENING = 1e5  # penalty on the square of the opening's change, mm² by mm² of the face


@lru_cache(maxsize=2)
def jaw_behind_lips(face: Face) -> tuple[np.ndarray, np.ndarray]:
    """Return how far a jaw is open, and the motion that opens it behind the lips.

    Returns
    -------
    gradient : (S,)
        Regularised weight of jawOpen, as teeth and tongue follow it, by 1 mm of each coordinate.
    motion : (S,) mm
        The smallest motion of the face that changes this weight by 1 and no opening of the lips.
    """
    jaw = face.expression_names.index("jawOpen")
    gradient = face.regularised_weights[:, jaw]
    rows = [k for k, name in enumerate(face.expression_names) if name.startswith(MOVED)]
    to_mm = face.weights_to_coordinates[rows].astype(np.float64)
    opened = to_mm @ face_lips(face).gap(face.span).astype(np.float64)
    gram = face.regularised_gram[np.ix_(rows, rows)] + KEPT_OPENING * opened @ opened.T
    motion = np.linalg.solve(gram, to_mm @ gradient) @ to_mm
    return gradient, motion / (motion @ gradient)


def jaw_of_speech(motion: Motion, speech: Motion, face: Face) -> Motion:
    """Return a motion with emotions whose jaw is at least as far open as that of its speech.

    The lips stay as far apart as they are. Frames with nothing to change keep bit-identical
    coordinates.
    """
    gradient, opened = jaw_behind_lips(face)
    lacking = (speech.coordinates - motion.coordinates) @ gradient
    changed = lacking > 0
    if not changed.any():
        return motion
    coordinates = motion.coordinates.copy()
    coordinates[changed] += np.outer(lacking[changed], opened).astype(np.float32)
    return replace(motion, coordinates=coordinates)
