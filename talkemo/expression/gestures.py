"""Gestures: short moves and changes of posture, which begin at events of a voice."""

from __future__ import annotations

import numpy as np

from ..face.motion import Motion
from ..geometry.numerics import smoothstep

# How long before a stress its gestures begin: they are at their height when people's are.
STRESS_LEAD_S = 0.15
EMOTION_CALMS = 0.5  # by how much a full emotion, with an expression of its own, reduces gestures


class Gestures:
    """A sum of moves of D values over ascending times.

    Moves that are over are forgotten, so that an hour takes no more memory than a minute.
    """

    def __init__(self, values: int):
        self._posture = np.zeros(values)  # where the shifts that are over have led
        self._target = np.zeros(values)  # where all shifts lead
        # Start and duration in s, and the change (D,) of the posture.
        self._shifts: list[tuple[float, float, np.ndarray]] = []
        # Start, times of rising, holding and falling in s, and the height (D,).
        self._pulses: list[tuple[float, float, float, float, np.ndarray]] = []

    def shift(self, start: float, duration: float, target: np.ndarray) -> None:
        """Move to a target (D,), and stay there."""
        self._shifts.append((start, duration, target - self._target))
        self._target = np.asarray(target, float)

    def pulse(
        self, start: float, rise: float, hold: float, fall: float, height: np.ndarray
    ) -> None:
        """Rise by a height (D,), hold it and return; all durations are in s."""
        self._pulses.append((start, rise, hold, fall, np.asarray(height, float)))

    def at(self, times: np.ndarray) -> np.ndarray:
        """Return the values (T, D) at times (T,) s; moves that have ended by the last are over."""
        result = np.tile(self._posture, (len(times), 1))
        for start, duration, change in self._shifts:
            result += smoothstep((times - start) / duration)[:, None] * change
        for start, rise, hold, fall, height in self._pulses:
            after = times - start
            shape = smoothstep(after / rise) - smoothstep((after - rise - hold) / fall)
            result += shape[:, None] * height
        last = times[-1]
        over = [s for s in self._shifts if s[0] + s[1] <= last]
        self._posture = self._posture + sum((change for *_, change in over), np.zeros(1))
        self._shifts = [s for s in self._shifts if s[0] + s[1] > last]
        self._pulses = [p for p in self._pulses if p[0] + sum(p[1:4]) > last]
        return result


def with_gestures(
    motion: Motion, weights: np.ndarray, coordinates: np.ndarray, emotion: np.ndarray
) -> Motion:
    """Return a motion with gestures, calmer where there is an emotion.

    Parameters
    ----------
    motion : Motion
    weights : (T, D)
        Of the gestures.
    coordinates : (D, S)
        mm, what each gesture adds at a weight of 1.
    emotion : (T,)
        Strength of the emotion, 0 to 1.
    """
    calmed = weights * (1 - EMOTION_CALMS * emotion)[:, None]
    moved = motion.coordinates + (calmed @ coordinates).astype(np.float32)
    return Motion(motion.times, moved, motion.loudness)
