"""Lips that part for breath: before a phrase, and with a sigh.

People's lips part 0.2 to 0.4 s before the first sound of a phrase (`benchmarks/gestures.py`). The
talking model has learned that from them, and does it at nine of ten phrases. Here lips that are
still closed then are opened a little. Lips that speech presses together stay so.
"""

from __future__ import annotations

import numpy as np

from ..audio.prosody import ANTICIPATION_S, ONSET_S, Voice, VoiceEvent
from ..face.canonical import Face
from ..face.motion import Motion
from ..geometry.numerics import smoothstep
from .gestures import Gestures

PARTINGS = 0.6  # share of the phrases before which lips part
MIN_PARTED_MM, MAX_PARTED_MM = 0.6, 1.8  # opening of the lips before a phrase
PART_S, CLOSE_S = 0.12, 0.08  # how long lips part, and take to close
# Before the first sound, at which they are closed again: lips that b, m and p close do so later.
CLOSED_BEFORE_S = 0.14
MIN_SIGH_MM, MAX_SIGH_MM = 2.0, 3.5  # opening of the lips with a sigh
PRESSED_MM = 0.5  # closer than at rest, from which lips are pressed together


class LipParting:
    """Parts the lips of consecutive batches of a motion.

    Parameters
    ----------
    face : Face
    seed : int
        Decides sizes, besides the audio.
    amount : float
        Of the opening, 0 to 1.
    """

    def __init__(self, face: Face, seed: int = 0, amount: float = 1.0):
        self._face, self._seed, self._amount = face, seed, amount
        self._gestures = Gestures(1)

    def add(self, motion: Motion, voice: Voice) -> Motion:
        """Return a motion whose lips are at least as open as breathing needs; others stay as is."""
        for event in voice.events:
            self._react(event)
        wanted = self._gestures.at(motion.times)[:, 0]
        if not wanted.any():
            return motion
        opening = motion.lip_opening(self._face)
        lacking = np.maximum(wanted - np.maximum(opening, 0), 0)
        lacking *= self._amount * smoothstep(1 + opening / PRESSED_MM)
        added = np.multiply.outer(lacking.astype(np.float32), self._face.unit_jaw_opening)
        return Motion(motion.times, motion.coordinates + added, motion.loudness)

    def _react(self, event: VoiceEvent) -> None:
        """Begin the parting of an event."""
        random = event.random(self._seed, 37)
        if event.kind == "onset":
            if random.random() > PARTINGS:
                return
            start = event.time - ANTICIPATION_S + random.uniform(0, 0.03)
            end = event.time + ONSET_S - CLOSED_BEFORE_S
            height = random.uniform(MIN_PARTED_MM, MAX_PARTED_MM, 1)
            self._gestures.pulse(start, PART_S, end - start - PART_S - CLOSE_S, CLOSE_S, height)
        elif event.kind == "sigh":
            height = random.uniform(MIN_SIGH_MM, MAX_SIGH_MM, 1)
            self._gestures.pulse(event.time - ANTICIPATION_S, 0.25, 0.4, 0.5, height)
