"""Laughter that is heard, and seen: a smile, cheeks that rise and eyes that narrow.

The mouth's opening is left to the talking model, which hears the bursts. A single burst that sounds
like laughter hardly shows; what lasts grows to a laugh. The head bobs with the bursts
(head_motion.py).
"""

from __future__ import annotations

import numpy as np

from ..audio.prosody import ANTICIPATION_S, LAUGH_S, Voice, VoiceEvent
from ..face.canonical import Face
from ..face.lip_measures import without_opening
from ..face.motion import Motion
from .gestures import Gestures, with_gestures

LAUGH_LEAD_S = 0.1 - LAUGH_S  # from the beginning of a bob, which takes 0.1 s, to its event
# Blend-shape weights of a laugh.
LAUGH_SHAPES = {"mouthSmile": 0.45, "cheekSquint": 0.35, "eyeSquint": 0.3, "noseSneer": 0.05}
RISE_S, LAST_S, FALL_S = 0.3, 0.5, 1.1  # how long a laugh rises, lasts after a burst, and falls
SPREAD = 0.2  # of the size of a laugh
SIDE_SPREAD = 0.08  # of a laugh, from side to side


class Laughter:
    """Lets a face laugh with its voice, in consecutive batches of a motion.

    Parameters
    ----------
    face : Face
    seed : int
        Decides sizes, besides the audio.
    amount : float
        Of the laugh, 0 to 1.
    """

    def __init__(self, face: Face, seed: int = 0, amount: float = 1.0):
        self._seed, self._amount = seed, amount
        self._coordinates = np.stack([_laugh(face, side) for side in "LR"])
        self._gestures = Gestures(2)
        self._shown = np.zeros(2)  # where the last laugh leads, left and right
        self._end = -np.inf  # s, when it falls

    def add(self, motion: Motion, voice: Voice, emotion: np.ndarray) -> Motion:
        """Return a motion with its laughs; parameters as in `Brows.add`."""
        for event in voice.events:
            if event.kind == "laugh":
                self._laugh(event)
        if self._shown.any() and motion.times[-1] >= self._end:
            self._fall()
        weights = self._gestures.at(motion.times)
        if not weights.any():
            return motion
        return with_gestures(motion, self._amount * weights, self._coordinates, emotion)

    def _laugh(self, event: VoiceEvent) -> None:
        """Begin a laugh, or let it grow and go on."""
        start = event.time - ANTICIPATION_S
        if self._shown.any() and start > self._end:
            self._fall()
        random = event.random(self._seed, 31)
        size = event.strength * (1 + SPREAD * random.uniform(-1, 1))
        asymmetry = SIDE_SPREAD * random.uniform(-1, 1)
        target = np.maximum(self._shown, size * np.array([1 + asymmetry, 1 - asymmetry]))
        self._gestures.shift(start, RISE_S, target)
        self._shown, self._end = target, event.time + LAST_S

    def _fall(self) -> None:
        """End the laugh."""
        self._gestures.shift(self._end, FALL_S, np.zeros(2))
        self._shown = np.zeros(2)


def _laugh(face: Face, side: str) -> np.ndarray:
    """Return coordinates (S,) of a laugh of one side, L or R, which leaves the lips' opening."""
    names = face.expression_names
    rows = [names.index(f"{name}_{side}") for name in LAUGH_SHAPES]
    weights = np.array(list(LAUGH_SHAPES.values()))
    return np.asarray(weights @ face.weights_to_coordinates[rows] @ without_opening(face))
