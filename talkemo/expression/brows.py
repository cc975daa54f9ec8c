"""Brows of a speaker: they rise with stresses and questions, and change posture between phrases.

A rise with a stressed word is Ekman's baton, a longer one an underliner or a question (1979, "About
brows: emotional and conversational signals"). Brows follow the jaw hardly at all: in 50 people who
speak freely (`benchmarks/upper_face.py`) browInnerUp and jawOpen have r = 0.05. What the talking
model moves in the upper face follows the jaw, so it is replaced.
"""

from __future__ import annotations

import numpy as np

from ..audio.prosody import ANTICIPATION_S, Voice, VoiceEvent
from ..face.canonical import Face
from ..face.motion import Motion
from .gestures import STRESS_LEAD_S, Gestures, with_gestures
from .waves import SlowWaves

# Blend shapes of the upper face that speech does not move.
UPPER_SHAPES = ("browDown", "browInnerUp", "browOuterUp", "eyeBlink", "eyeWide", "eyeSquint")
MIN_UPPER_MOTION_MM = 0.5  # of a vertex by one of these shapes, at which it belongs to the region
BROW_SHAPES = tuple(
    f"{name}_{side}" for name in ("browInnerUp", "browOuterUp", "browDown") for side in "LR"
)
RAISE, INNER_RAISE, LOWER = (
    np.array(weights, float)
    for weights in ([1, 1, 1, 1, 0, 0], [1, 1, 0, 0, 0, 0], [0] * 4 + [1] * 2)
)
DRIFT_STD = np.array([0.06, 0.06, 0.06, 0.06, 0.03, 0.03])  # of the weights, together
SIDE_DRIFT_STD = 0.012  # of each weight by itself
STRESS_GESTURES = 0.15  # share of the stresses of strength 1 that move the brows
GESTURES_CHANCES = (0.65, 0.85)  # up to which a gesture raises brows, raises inner brows; or lowers
MIN_GESTURE, MAX_GESTURE = 0.08, 0.26  # weight at a stress of 1
QUESTION_RAISE = 0.13  # weight, at a strength of 1; people's is 0.12
SIGH_SINK = 0.08  # weight
SIDE_SPREAD = 0.15  # of a gesture, from side to side
POSTURE_STD = np.array(
    [0.09, 0.09, 0.09, 0.09, 0.05, 0.05]
)  # of the weights, from phrase to phrase
STRESS_POSTURES = 0.15  # share of the stresses at which the posture changes, in long phrases
POSTURE_S = 0.8


class Brows:
    """Gives consecutive batches of a motion brows of their own.

    `amount`, from 0 to 1, is the share of these motions, and that of the learned ones that they
    replace.
    """

    def __init__(self, face: Face, seed: int = 0, amount: float = 1.0):
        self._seed, self._amount = seed, amount
        names = face.expression_names
        self._coordinates = face.weights_to_coordinates[[names.index(n) for n in BROW_SHAPES]]
        self._learned = np.float32(amount) * learned_upper_face(face)
        self._gestures = Gestures(len(BROW_SHAPES))
        self._draw_drift(np.random.default_rng((seed, 13)))

    def without_learned(self, speech: Motion) -> Motion:
        """Return a motion of speech without (the amount of) its motion of brows and lids."""
        coordinates = speech.coordinates - speech.coordinates @ self._learned
        return Motion(speech.times, coordinates.astype(np.float32), speech.loudness)

    def add(self, motion: Motion, voice: Voice, emotion: np.ndarray) -> Motion:
        """Return a motion with its brows moved.

        Parameters
        ----------
        voice : Voice
            Of the motion's times.
        emotion : (T,)
            Strength of the emotion, 0 to 1.
        """
        for event in voice.events:
            self._react(event)
        weights = self._gestures.at(motion.times) + self._drift(motion.times)
        return with_gestures(motion, self._amount * weights, self._coordinates, emotion)

    def _draw_drift(self, random: np.random.Generator) -> None:
        """Draw the waves of all brows together and of each weight."""
        self._waves = SlowWaves(random, 2 + len(BROW_SHAPES))

    def _drift(self, times: np.ndarray) -> np.ndarray:
        """Return the weights (T, 6) of the drift; 0 at 0 s."""
        waves = self._waves(times)
        together = waves[:, [0, 0, 0, 0, 1, 1]] * DRIFT_STD
        return together + SIDE_DRIFT_STD * waves[:, 2:]

    def _react(self, event: VoiceEvent) -> None:
        """Begin the gesture of an event."""
        random = event.random(self._seed, 17)
        if event.kind == "start":
            self._draw_drift(random)
        elif event.kind == "stress":
            if random.random() < STRESS_GESTURES * event.strength:
                self._accompany_stress(event, random)
            if random.random() < STRESS_POSTURES:
                self._change_posture(event, random)
        elif event.kind == "question":
            height = QUESTION_RAISE * event.strength * RAISE * self._sides(random)
            self._gestures.pulse(event.time - ANTICIPATION_S, 0.25, 0.5, 0.6, height)
        elif event.kind == "sigh":
            height = SIGH_SINK * LOWER * self._sides(random)
            self._gestures.pulse(event.time - ANTICIPATION_S, 0.4, 0.4, 0.8, height)
        elif event.kind == "phrase":
            self._change_posture(event, random)

    def _accompany_stress(self, event: VoiceEvent, random: np.random.Generator) -> None:
        """Raise or lower the brows with a stressed word."""
        chance, raising = random.random(), GESTURES_CHANCES
        shape = RAISE if chance < raising[0] else INNER_RAISE if chance < raising[1] else LOWER
        height = event.strength * random.uniform(MIN_GESTURE, MAX_GESTURE)
        rise, hold, fall = random.uniform((0.14, 0.03, 0.35), (0.22, 0.3, 0.6))
        sided = height * shape * self._sides(random)
        self._gestures.pulse(event.time - STRESS_LEAD_S, rise, hold, fall, sided)

    def _change_posture(self, event: VoiceEvent, random: np.random.Generator) -> None:
        """Move to a new posture."""
        together = random.normal(0, 1, 3).repeat(2) * POSTURE_STD
        self._gestures.shift(event.time - ANTICIPATION_S, POSTURE_S, together * self._sides(random))

    @staticmethod
    def _sides(random: np.random.Generator) -> np.ndarray:
        """Return factors (6,) by which the left and the right brow move."""
        asymmetry = random.normal(0, SIDE_SPREAD / 2)
        return np.tile([1 + asymmetry, 1 - asymmetry], len(BROW_SHAPES) // 2)


def learned_upper_face(face: Face) -> np.ndarray:
    """Return the matrix (S, S) that maps coordinates to their motion of brows and lids.

    That is the combination of UPPER_SHAPES which explains most of the region that these move.
    """
    rows = [k for k, name in enumerate(face.expression_names) if name[:-2] in UPPER_SHAPES]
    shapes = face.weights_to_coordinates[rows].astype(np.float64)
    moved = np.linalg.norm(face.expression_basis[rows], axis=2).max(0) > MIN_UPPER_MOTION_MM
    span = face.span[:, moved].reshape(len(face.span), -1).astype(np.float64)
    gram = span @ span.T
    weights = np.linalg.solve(shapes @ gram @ shapes.T, shapes @ gram)
    return (weights.T @ shapes).astype(np.float32)
