"""What keeps an emotion alive while a face speaks.

It swells on stressed words and eases in pauses: brows and smiles follow the voice as batons and underliners (Ekman 1979,
"About brows: emotional and conversational signals"). Brows and corners of the mouth drift slowly, each side for itself,
so that no face is a frozen mask. All of it is a function of time, sound and a seed, whatever the length of the parts
that it is asked for.
"""

from __future__ import annotations

import numpy as np

from ..face.canonical import Face
from ..face.motion import Motion
from .emotions import MAX_INTENSITY

SMOOTH = 0.08  # s, time constant of loudness, so that no face jumps
ATTACK, RELEASE = (
    0.12,
    0.45,
)  # s, time constants of the effort of speaking, as loudness rises and as it falls
USUAL = 4.0  # s, time constant of what is usual
STRESSED = 0.25  # loudness above the usual at which a word is stressed in full
STRESS_SWELL = 0.2  # share of an emotion that stress adds, and a pause takes away
DRIFTS = 3  # waves that a drift is made of
SLOWEST, FASTEST = 0.04, 0.3  # Hz
BREATH = 0.06  # standard deviation of the drift of an emotion's amount, as a share of it
# Blend shapes that drift, and by how much for an emotion in full, as standard deviations of their weight.
DRIFTING = {
    "browInnerUp": 0.05,
    "browOuterUp": 0.04,
    "browDown": 0.04,
    "mouthSmile": 0.03,
    "mouthFrown": 0.03,
}


class Liveliness:
    """Makes emotions live, part by part of one animation. seed: of the drifts"""

    def __init__(self, face: Face, seed: int = 0):
        rng = np.random.default_rng(seed)
        names = face.expression_names
        drifting = [k for k, name in enumerate(names) if name[:-2] in DRIFTING]
        self._shapes = np.stack(
            [face.weights_to_coordinates[k] * DRIFTING[names[k][:-2]] for k in drifting]
        )
        self._hertz = rng.uniform(SLOWEST, FASTEST, (1 + len(drifting), DRIFTS))
        self._phase = rng.uniform(0, 2 * np.pi, self._hertz.shape)
        self._heard = self._effort = self._usual = self._time = float("nan")

    def amounts(self, motion: Motion, amounts: np.ndarray) -> np.ndarray:
        """Amounts (T, 8) of emotions as they live in a motion that was made from speech, from the amounts asked for."""
        factor = 1 + BREATH * self._drift(motion.times)[:, 0]
        if motion.loudness is not None:
            factor = factor + STRESS_SWELL * self._stress(motion.times, motion.loudness)
        return np.clip(amounts * factor[:, None], 0, MAX_INTENSITY).astype(np.float32)

    def drift(self, motion: Motion, amounts: np.ndarray) -> Motion:
        """A motion whose brows and corners of the mouth drift where emotions are shown, amounts (T, 8)."""
        shown = np.minimum(amounts.sum(1, keepdims=True), 1)
        if not shown.any():
            return motion
        moved = (self._drift(motion.times)[:, 1:] * shown) @ self._shapes
        return Motion(motion.times, motion.coordinates + moved.astype(np.float32), motion.loudness)

    def _drift(self, times: np.ndarray) -> np.ndarray:
        """Slow waves (T, 1 + drifting shapes) with a standard deviation of 1."""
        waves = np.sin(2 * np.pi * times[:, None, None] * self._hertz + self._phase)
        return waves.sum(2) * (2 / DRIFTS) ** 0.5

    def _stress(self, times: np.ndarray, loudness: np.ndarray) -> np.ndarray:
        """How stressed speech is, (T,) from −1 in pauses to 1, by its loudness (T,) relative to what is usual."""
        result = np.zeros(len(times))
        for k, (time, level) in enumerate(zip(times.tolist(), loudness.tolist())):
            if np.isnan(self._time):
                self._heard = self._effort = self._usual = level
            else:
                passed = time - self._time
                self._heard = _towards(self._heard, level, passed, SMOOTH)
                effort_time = ATTACK if self._heard > self._effort else RELEASE
                self._effort = _towards(self._effort, self._heard, passed, effort_time)
                self._usual = _towards(self._usual, level, passed, USUAL)
            self._time = time
            result[k] = (self._effort - self._usual) / STRESSED
        return np.clip(result, -1, 1)


def _towards(value: float, aim: float, passed: float, constant: float) -> float:
    """A value that has gone towards an aim for a while, s, with a time constant in s."""
    return value - (aim - value) * float(np.expm1(-passed / constant))
