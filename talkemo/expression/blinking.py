"""Blinks: when they come, and how lids close and open. Nothing that the talking model learns from has any.

People who speak freely blink 26 times a minute (Bentivoglio et al. 1997, "Analysis of blink rate patterns in normal
subjects"); those of the corpora at hand 24 to 32 times, with lids that close in 0.08 to 0.1 s and open in 0.2 s. A blink
closes faster than it opens (Trutoiu et al. 2011, "Modeling and animating eye blinks"). All of it is a function of time,
sound and a seed, whatever the frame rate and the length of the parts that it is asked for.
"""

from __future__ import annotations

import math

import numpy as np

from ..errors import InputError
from ..face.canonical import Face
from ..face.motion import Motion

USUAL_RATE = 24.0  # blinks a minute
RATES = (0.0, 60.0)
CLOSING, CLOSED, OPENING = 0.08, 0.03, 0.2  # s
REST = 0.6  # s after a blink in which none begins
IN_PAUSES = 1.5  # times as many in pauses of speech as in speech
PAUSE = 0.35  # loudness below which speech pauses
STEP = 0.01  # s, in which a blink begins or not
SPREAD = 0.15  # standard deviation of the logarithm of a blink's duration
LEAST_CLOSED = 0.85  # of the way that lids go in a blink, at least
UNEVEN = 0.04  # largest share by which one eye closes less than the other
# Facing points of upper and lower lid, iBUG, of the right and the left eye.
LIDS = (((37, 41), (38, 40)), ((43, 47), (44, 46)))


def blink_rate(blink: str | float) -> float:
    """Blinks a minute: of auto, off or a number. Raises InputError for anything else."""
    named = {"auto": USUAL_RATE, "off": 0.0}
    if isinstance(blink, str) and blink in named:
        return named[blink]
    try:
        rate = float(blink)
    except ValueError:
        rate = math.nan
    if not RATES[0] <= rate <= RATES[1]:
        raise InputError(
            f"blinks: '{blink}'", f"choose auto, off, or how many a minute, up to {RATES[1]:g}"
        )
    return rate


class Blinking:
    """Adds blinks to a motion, part by part of one animation. rate: a minute; seed: of when they come"""

    def __init__(self, face: Face, rate: float = USUAL_RATE, seed: int = 0):
        self.rate = rate
        self._random = np.random.default_rng((seed, 5))
        self._step = 0  # the next one that is decided
        self._heard = np.zeros((2, 0))  # the time and loudness of the last frame so far
        self._free = REST * 1.5  # s, from when on a blink may begin
        self._blinks: list[
            tuple[float, float, float, float]
        ] = []  # begin s, duration, and how far each eye closes
        names = face.expression_names
        self._shapes = np.stack(
            [face.weights_to_coordinates[names.index(f"eyeBlink_{side}")] for side in "RL"]
        )
        upper, lower = (np.array([[pair[k] for pair in side] for side in LIDS]) for k in (0, 1))
        place = face.landmarks68
        self._rest = (face.mean[place[upper], 1] - face.mean[place[lower], 1]).mean(
            1
        )  # (2,) mm between the lids
        moves = lambda points: face.span[:, place[points], 1].mean(2)
        self._rows = (moves(upper) - moves(lower)).astype(
            np.float32
        )  # (S, 2) mm that coordinates open them by
        self._closes = -np.array([row @ self._rows[:, k] for k, row in enumerate(self._shapes)])

    def add(self, motion: Motion) -> Motion:
        """A motion with blinks in it. Parts come one after the other."""
        if not self.rate or not len(motion):
            return motion
        times = motion.times
        loudness = np.ones(len(times)) if motion.loudness is None else motion.loudness
        heard = np.concatenate([self._heard, [times, loudness]], 1)
        self._decide(*heard)
        self._heard = heard[:, -1:]
        closed = np.zeros((len(times), 2), np.float32)
        for begin, duration, *sides in self._blinks:
            course = lid_closure((times - begin) / duration)
            closed = np.maximum(closed, course[:, None] * np.array(sides, np.float32))
        self._blinks = [blink for blink in self._blinks if blink[0] + 2 * blink[1] > times[-1]]
        if not closed.any():
            return motion
        # Lids that squint have less of a way to go: they meet, and do not pass each other.
        between = np.maximum(self._rest + motion.coordinates @ self._rows, 0)
        amount = (closed * between / self._closes).astype(np.float32)
        return Motion(times, motion.coordinates + amount @ self._shapes, motion.loudness)

    def _decide(self, times: np.ndarray, loudness: np.ndarray) -> None:
        """Draw the blinks that begin up to the last of the times."""
        length = CLOSING + CLOSED + OPENING
        waits = max(60 / self.rate - REST - length, STEP)
        # So that with pauses in a third of the time the rate is what it should be.
        usual = STEP / waits / (1 + (IN_PAUSES - 1) / 3)
        while self._step * STEP <= times[-1]:
            time = self._step * STEP
            chance, *drawn = self._random.random(4)
            self._step += 1
            pauses = np.interp(time, times, loudness) < PAUSE
            if time < self._free or chance > usual * (IN_PAUSES if pauses else 1):
                continue
            duration = length * math.exp(SPREAD * (2 * drawn[0] - 1) * 3**0.5)
            far = LEAST_CLOSED + (1 - LEAST_CLOSED) * drawn[1] ** 0.5
            sides = [far, far]
            sides[int(drawn[2] < 0.5)] *= 1 - UNEVEN * abs(2 * drawn[2] - 1)
            self._blinks.append((time, duration, *sides))
            self._free = time + duration + REST


def lid_closure(share: np.ndarray) -> np.ndarray:
    """How far lids are closed, 0 to 1, at shares (T,) of a blink's duration: quickly down, slowly up."""
    down, still = CLOSING / (CLOSING + CLOSED + OPENING), CLOSED / (CLOSING + CLOSED + OPENING)
    falling = np.clip(share / down, 0, 1)
    rising = np.clip((share - down - still) / (1 - down - still), 0, 1)
    ease = lambda x: x * x * (3 - 2 * x)
    # Opening begins at once and ends slowly.
    return np.asarray(ease(falling) * (1 - ease(1 - (1 - rising) ** 1.6)))
