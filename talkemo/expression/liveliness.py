"""Variation that keeps an emotion alive while a face speaks.

Emotions grow on stressed words and ease in pauses: brows and smiles follow the voice as batons and
underliners (Ekman 1979, "About brows: emotional and conversational signals"). Brows and corners of
the mouth drift slowly, each side independently, so that the face does not look frozen. The result
depends on time, the audio and a seed, not on how the motion is split into batches.
"""

from __future__ import annotations

import math

import numpy as np

from ..audio.prosody import Voice
from ..errors import InputError
from ..face.canonical import Face
from ..face.motion import Motion
from .emotions import MAX_INTENSITY
from .waves import SlowWaves

LOUDNESS_SMOOTHING_S = 0.08  # time constant that keeps the face from jumping
EFFORT_ATTACK_S, EFFORT_RELEASE_S = 0.12, 0.45  # time constants as loudness rises and falls
MEAN_LOUDNESS_S = 4.0  # time constant of the running mean of loudness
STRESSED_LOUDNESS = 0.25  # excess of effort over the mean at which a word is fully stressed
STRESS_SWELL = 0.2  # fraction of an emotion that stress adds, and a pause removes
AMOUNT_DRIFT = 0.06  # standard deviation of the drift of an emotion's amount, relative to it
# Standard deviation of the drift of blend-shape weights, for an emotion at full strength.
WEIGHT_DRIFT = {
    "browInnerUp": 0.05,
    "browOuterUp": 0.04,
    "browDown": 0.04,
    "mouthSmile": 0.03,
    "mouthFrown": 0.03,
}


NAMED_AMOUNTS = {1.0: "auto", 0.0: "off"}  # of liveliness


def liveliness_amount(liveliness: str | float) -> float:
    """Return 1 for `auto`, 0 for `off`, or a number from 0 to 1. Raises InputError otherwise."""
    named: dict[str | float, float] = {name: amount for amount, name in NAMED_AMOUNTS.items()}
    try:
        amount = float(named.get(liveliness, liveliness))
    except (TypeError, ValueError):
        amount = math.nan
    if not 0 <= amount <= 1:
        raise InputError(f"liveliness '{liveliness}'", "choose auto, off, or a number from 0 to 1")
    return amount


class Liveliness:
    """Varies the emotions of consecutive batches of a motion.

    Parameters
    ----------
    face : Face
    seed : int
        Decides the drifts.
    amount : float
        Of the variation, 0 to 1.
    """

    def __init__(self, face: Face, seed: int = 0, amount: float = 1.0):
        self._seed, self._amount = seed, amount
        names = face.expression_names
        rows = [k for k, name in enumerate(names) if name[:-2] in WEIGHT_DRIFT]
        self._drift_coordinates = np.stack(
            [face.weights_to_coordinates[k] * WEIGHT_DRIFT[names[k][:-2]] for k in rows]
        )
        self._draw_drift(np.random.default_rng(seed))
        self._loudness = self._effort = self._mean = self._time = math.nan

    def hear(self, voice: Voice) -> None:
        """Let the beginning of the audio decide the drifts, besides the seed."""
        for event in voice.events:
            if event.kind == "start":
                self._draw_drift(event.random(self._seed))

    def amounts(self, motion: Motion, amounts: np.ndarray) -> np.ndarray:
        """Vary the requested amounts (T, 8) of emotions with the motion's loudness, and slowly."""
        change = AMOUNT_DRIFT * self._drift(motion.times)[:, 0]
        if motion.loudness is not None:
            change = change + STRESS_SWELL * self._stress(motion.times, motion.loudness)
        factor = 1 + self._amount * change
        return np.clip(amounts * factor[:, None], 0, MAX_INTENSITY).astype(np.float32)

    def drift(self, motion: Motion, amounts: np.ndarray) -> Motion:
        """Add a slow drift of brows and mouth corners, in proportion to emotion amounts (T, 8)."""
        strength = self._amount * np.minimum(amounts.sum(1, keepdims=True), 1)
        if not strength.any():
            return motion
        moved = (self._drift(motion.times)[:, 1:] * strength) @ self._drift_coordinates
        return Motion(motion.times, motion.coordinates + moved.astype(np.float32), motion.loudness)

    def _draw_drift(self, random: np.random.Generator) -> None:
        self._drift = SlowWaves(random, 1 + len(self._drift_coordinates), fade_in=False)

    def _stress(self, times: np.ndarray, loudness: np.ndarray) -> np.ndarray:
        """Return the stress (T,) of speech, −1 to 1, by its loudness relative to the mean."""
        result = np.zeros(len(times))
        for k, (time, level) in enumerate(zip(times.tolist(), loudness.tolist())):
            if math.isnan(self._time):
                self._loudness = self._effort = self._mean = level
            else:
                step = time - self._time
                self._loudness = _approach(self._loudness, level, step, LOUDNESS_SMOOTHING_S)
                rising = self._loudness > self._effort
                effort_s = EFFORT_ATTACK_S if rising else EFFORT_RELEASE_S
                self._effort = _approach(self._effort, self._loudness, step, effort_s)
                self._mean = _approach(self._mean, level, step, MEAN_LOUDNESS_S)
            self._time = time
            result[k] = (self._effort - self._mean) / STRESSED_LOUDNESS
        return np.clip(result, -1, 1)


def _approach(value: float, target: float, step: float, time_constant: float) -> float:
    """Move a value exponentially towards a target for a step in s."""
    return value - (target - value) * float(np.expm1(-step / time_constant))
