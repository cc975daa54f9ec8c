"""Slow waves of random phase, by which a face drifts."""

from __future__ import annotations

import numpy as np

WAVES_PER_DRIFT = 3
DRIFT_BAND_HZ = (0.04, 0.3)
FADE_IN_S = 1.0  # time constant with which drifts begin


class SlowWaves:
    """Drifts as a function of time, each with a standard deviation of 1."""

    def __init__(self, random: np.random.Generator, drifts: int, fade_in: bool = True):
        self._hertz = random.uniform(*DRIFT_BAND_HZ, (drifts, WAVES_PER_DRIFT))
        self._phase = random.uniform(0, 2 * np.pi, self._hertz.shape)
        self._fade_in = fade_in

    def __call__(self, times: np.ndarray) -> np.ndarray:
        """Return the drifts (T, D) at times (T,) s; those that fade in are 0 at 0 s."""
        waves = np.sin(2 * np.pi * times[:, None, None] * self._hertz + self._phase)
        drifts = waves.sum(2) * (2 / WAVES_PER_DRIFT) ** 0.5
        return drifts * -np.expm1(-times[:, None] / FADE_IN_S) if self._fade_in else drifts
