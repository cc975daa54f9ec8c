"""Variation that keeps an emotion alive while a face speaks.

Emotions grow on stressed words and ease in pauses: brows and smiles follow the voice as batons and
underliners (Ekman 1979, "About brows: emotional and conversational signals"). Brows and corners of
the mouth drift slowly, each side independently, so that the face does not look frozen. The result
depends on time, loudness and a seed only, not on how the motion is split into batches.
"""

from __future__ import annotations

import math

import numpy as np

from ..face.canonical import Face
from ..face.motion import Motion
from .emotions import MAX_INTENSITY

LOUDNESS_SMOOTHING_S = 0.08  # time constant that keeps the face from jumping
EFFORT_ATTACK_S, EFFORT_RELEASE_S = 0.12, 0.45  # time constants as loudness rises and falls
MEAN_LOUDNESS_S = 4.0  # time constant of the running mean of loudness
STRESSED_LOUDNESS = 0.25  # excess of effort over the mean at which a word is fully stressed
STRESS_SWELL = 0.2  # fraction of an emotion that stress adds, and a pause removes
DRIFT_WAVES = 3  # sine waves that a drift is made of
DRIFT_BAND_HZ = (0.04, 0.3)
AMOUNT_DRIFT = 0.06  # standard deviation of the drift of an emotion's amount, relative to it
# Standard deviation of the drift of blend-shape weights, for an emotion at full strength.
WEIGHT_DRIFT = {
    "browInnerUp": 0.05,
    "browOuterUp": 0.04,
    "browDown": 0.04,
    "mouthSmile": 0.03,
    "mouthFrown": 0.03,
}


class Liveliness:
    """Varies the emotions of consecutive batches of a motion; the seed decides the drifts."""

    def __init__(self, face: Face, seed: int = 0):
        rng = np.random.default_rng(seed)
        names = face.expression_names
        rows = [k for k, name in enumerate(names) if name[:-2] in WEIGHT_DRIFT]
        self._drift_coordinates = np.stack(
            [face.weights_to_coordinates[k] * WEIGHT_DRIFT[names[k][:-2]] for k in rows]
        )
        self._hertz = rng.uniform(*DRIFT_BAND_HZ, (1 + len(rows), DRIFT_WAVES))
        self._phase = rng.uniform(0, 2 * np.pi, self._hertz.shape)
        self._loudness = self._effort = self._mean = self._time = math.nan

    def amounts(self, motion: Motion, amounts: np.ndarray) -> np.ndarray:
        """Vary the requested amounts (T, 8) of emotions with the motion's loudness, and slowly."""
        factor = 1 + AMOUNT_DRIFT * self._drift(motion.times)[:, 0]
        if motion.loudness is not None:
            factor = factor + STRESS_SWELL * self._stress(motion.times, motion.loudness)
        return np.clip(amounts * factor[:, None], 0, MAX_INTENSITY).astype(np.float32)

    def drift(self, motion: Motion, amounts: np.ndarray) -> Motion:
        """Add a slow drift of brows and mouth corners, in proportion to emotion amounts (T, 8)."""
        strength = np.minimum(amounts.sum(1, keepdims=True), 1)
        if not strength.any():
            return motion
        moved = (self._drift(motion.times)[:, 1:] * strength) @ self._drift_coordinates
        return Motion(motion.times, motion.coordinates + moved.astype(np.float32), motion.loudness)

    def _drift(self, times: np.ndarray) -> np.ndarray:
        """Return slow waves (T, 1 + drifting shapes) with a standard deviation of 1."""
        waves = np.sin(2 * np.pi * times[:, None, None] * self._hertz + self._phase)
        return waves.sum(2) * (2 / DRIFT_WAVES) ** 0.5

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
