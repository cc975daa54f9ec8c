"""The two sides of a mouth, which speak alike but not as twins.

In 50 people who speak freely, the corners' motion has r = 0.8 from side to side, part of which is
the tracker's noise; a talking model's are mirror images.
"""

from __future__ import annotations

import numpy as np

from ..audio.prosody import Voice, VoiceEvent
from ..face.canonical import Face
from ..face.motion import Motion
from .gestures import STRESS_LEAD_S, Gestures
from .waves import SlowWaves

SIDE_WIDTH_MM = 18.0  # distance from the middle at which a vertex belongs to its side
SIDE_DRIFT_STD = 0.16  # of what one side moves more and the other less, relative to both
MAX_SIDE = 0.4
LATERAL_DRIFT_STD = 0.02  # weight of mouthLeft or mouthRight
STRESS_SIDES = 0.4  # share of the stresses that one side accompanies more than the other
STRESS_SIDE = 0.18  # by how much, at most


class MouthSides:
    """Moves the two sides of the mouth differently in consecutive batches of speech.

    `amount`, from 0 to 1, scales the difference.
    """

    def __init__(self, face: Face, seed: int = 0, amount: float = 1.0):
        self._seed, self._amount = seed, amount
        side = np.tanh(face.mean[:, 0] / SIDE_WIDTH_MM) * face.mouth_weight
        span = face.span.reshape(len(face.span), -1)
        self._to_side = (span * np.repeat(side, 3)) @ span.T
        left, right = (face.expression_names.index(f"mouth{name}") for name in ("Left", "Right"))
        self._lateral = face.weights_to_coordinates[left] - face.weights_to_coordinates[right]
        self._lateral = self._lateral / 2
        # They do not open the lips.
        for motion in (self._lateral, self._to_side):
            motion -= np.multiply.outer(motion @ face.lip_opening_gradient, face.unit_jaw_opening)
        self._gestures = Gestures(1)
        self._waves = SlowWaves(np.random.default_rng((seed, 19)), 2)

    def add(self, speech: Motion, voice: Voice) -> Motion:
        """Return a motion of speech with sides that differ."""
        for event in voice.events:
            self._react(event)
        waves = self._waves(speech.times)
        side = SIDE_DRIFT_STD * waves[:, :1] + self._gestures.at(speech.times)
        sided = np.clip(side, -MAX_SIDE, MAX_SIDE) * (speech.coordinates @ self._to_side)
        lateral = LATERAL_DRIFT_STD * waves[:, 1:] * self._lateral
        moved = self._amount * (sided + lateral)
        coordinates = speech.coordinates + moved.astype(np.float32)
        return Motion(speech.times, coordinates, speech.loudness)

    def _react(self, event: VoiceEvent) -> None:
        """Let one side accompany a stress more than the other."""
        random = event.random(self._seed, 23)
        if event.kind == "start":
            self._waves = SlowWaves(random, 2)
        elif event.kind == "stress" and random.random() < STRESS_SIDES * event.strength:
            height = random.uniform(-STRESS_SIDE, STRESS_SIDE, 1)
            self._gestures.pulse(event.time - STRESS_LEAD_S, 0.15, 0.1, 0.4, height)
