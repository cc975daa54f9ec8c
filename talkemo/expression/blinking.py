"""Blinks: when they happen, and how lids close and open. The talking model produces none.

People who speak freely blink 26 times a minute (Bentivoglio et al. 1997, "Analysis of blink rate
patterns in normal subjects"); in the corpora used here 24 to 32 times, closing the lids in 0.08 to
0.1 s and opening them in 0.2 s. A blink closes faster than it opens (Trutoiu et al. 2011, "Modeling
and animating eye blinks"). Blinks are more frequent in pauses, and where a word is stressed or a phrase
ends. They depend on time, the audio and a seed, not on the frame rate or on how the motion is split
into batches.
"""

from __future__ import annotations

import math

import numpy as np

from ..audio.prosody import Voice
from ..errors import InputError
from ..face.canonical import ARKIT_NAMES, Face
from ..face.motion import Motion
from ..face.openings import face_lids, lid_opening_gradient
from ..geometry.numerics import smoothstep

DEFAULT_BLINK_RATE = 24.0  # blinks per minute
MAX_BLINK_RATE = 60.0  # blinks per minute
LID_CLOSING_S, LID_CLOSED_S, LID_OPENING_S = 0.08, 0.03, 0.2  # phases of a blink
BLINK_S = LID_CLOSING_S + LID_CLOSED_S + LID_OPENING_S
MIN_BLINK_INTERVAL_S = 0.6  # from the end of a blink to the beginning of the next
PAUSE_BLINK_FACTOR = 1.5  # blink rate in pauses of speech, relative to that in speech
PAUSE_ACTIVITY = 0.3  # speech pauses below this share of speech
EVENT_BLINK_FACTOR = 2.5  # blink rate after a stress or at the end of a phrase, relative to speech
EVENT_BLINK_S = 0.2  # how long that lasts
FREQUENT_BLINK_SHARE = 1 / 3  # of the time of a usual recording, in which blinks are more frequent
FIRST_BLINK_S = 0.4  # when the first blink may begin
BLINK_STEP_S = 0.01  # time step of the random decision whether a blink begins
BLINK_DURATION_SPREAD = 0.15  # standard deviation of the logarithm of a blink's duration
# A blink's course is scaled by up to this factor and cut off where the lids meet: a deep blink stays
# closed longer. The least one is closed in a frame at any rate from 24 fps on.
MIN_BLINK_DEPTH, MAX_BLINK_DEPTH = 1.1, 1.3
BLINK_OPENING = 0.5  # of the opening at rest, below which lids are taken to blink
MAX_BLINK_ASYMMETRY = 0.04  # largest fraction by which one eye's course is lower than the other's


def blink_rate(blink: str | float) -> float:
    """Return blinks per minute for `auto`, `off` or a number. Raises InputError otherwise."""
    named = {"auto": DEFAULT_BLINK_RATE, "off": 0.0}
    try:
        rate = named[blink] if isinstance(blink, str) and blink in named else float(blink)
    except ValueError:
        rate = math.nan
    if not 0 <= rate <= MAX_BLINK_RATE:
        raise InputError(
            f"blinks: '{blink}'",
            f"choose auto, off, or how many a minute, up to {MAX_BLINK_RATE:g}",
        )
    return rate


class Blinking:
    """Adds `rate` blinks per minute to the consecutive batches of a motion."""

    def __init__(self, face: Face, rate: float = DEFAULT_BLINK_RATE, seed: int = 0):
        self.rate, self._seed = rate, seed
        self._random = np.random.default_rng((seed, 5))
        self._step = 0  # the next step of BLINK_STEP_S for which a blink is drawn
        self._last_frame = np.zeros((2, 0))  # time and activity of the last frame so far
        self._earliest = FIRST_BLINK_S  # when the next blink may begin
        self._event_times: list[float] = []  # of stresses and ends of phrases
        # Start and duration in s, and how far each eye closes.
        self._blinks: list[tuple[float, float, float, float]] = []
        blink_rows = [face.expression_names.index(f"eyeBlink_{side}") for side in "RL"]
        self._blink_coordinates = face.weights_to_coordinates[blink_rows]
        self._opening_gradient = lid_opening_gradient(face)  # (S, 2), relative to rest

    def add(self, motion: Motion, voice: Voice | None = None) -> Motion:
        """Return a batch of motion with blinks; batches follow each other in time."""
        if not self.rate or not len(motion):
            return motion
        times = motion.times
        voice = Voice.unknown(times) if voice is None else voice
        for event in voice.events:
            if event.kind == "start":
                self._random = event.random(self._seed, 5)
            elif event.kind in ("stress", "pause"):
                self._event_times.append(event.time)
        known = np.concatenate([self._last_frame, [times, voice.activity]], 1)
        self._draw_blinks(*known)
        self._last_frame = known[:, -1:]
        closure = np.zeros((len(times), 2), np.float32)
        for start, duration, *depths in self._blinks:
            phase = lid_closure((times - start) / duration)
            closed = np.minimum(phase[:, None] * np.array(depths, np.float32), 1)
            closure = np.maximum(closure, closed)
        self._blinks = [blink for blink in self._blinks if blink[0] + 2 * blink[1] > times[-1]]
        if not closure.any():
            return motion
        # Squinting lids move less: they meet, and do not pass each other.
        opening = 1 + motion.coordinates @ self._opening_gradient
        weights = (closure * opening).astype(np.float32)
        coordinates = motion.coordinates + weights @ self._blink_coordinates
        return Motion(times, coordinates, motion.loudness)

    def _draw_blinks(self, times: np.ndarray, activity: np.ndarray) -> None:
        """Draw the blinks that begin up to the last of the times (T,)."""
        mean_wait = max(60 / self.rate - MIN_BLINK_INTERVAL_S - BLINK_S, BLINK_STEP_S)
        # Gives the requested rate in a usual recording.
        mean_factor = 1 + FREQUENT_BLINK_SHARE * (EVENT_BLINK_FACTOR + PAUSE_BLINK_FACTOR - 2) / 2
        probability = BLINK_STEP_S / mean_wait / mean_factor
        while self._step * BLINK_STEP_S <= times[-1]:
            time = self._step * BLINK_STEP_S
            chance, duration_draw, depth_draw, side_draw = self._random.random(4)
            self._step += 1
            factor = self._factor(time, float(np.interp(time, times, activity)))
            if time < self._earliest or chance > probability * factor:
                continue
            spread = BLINK_DURATION_SPREAD * (2 * duration_draw - 1) * 3**0.5
            duration = BLINK_S * math.exp(spread)
            depth = MIN_BLINK_DEPTH + (MAX_BLINK_DEPTH - MIN_BLINK_DEPTH) * depth_draw
            depths = [depth, depth]
            depths[int(side_draw < 0.5)] *= 1 - MAX_BLINK_ASYMMETRY * abs(2 * side_draw - 1)
            self._blinks.append((time, duration, depths[0], depths[1]))
            self._earliest = time + duration + MIN_BLINK_INTERVAL_S

    def _factor(self, time: float, activity: float) -> float:
        """Return the blink rate at a time, later than those before, relative to that in speech."""
        while self._event_times and self._event_times[0] + EVENT_BLINK_S < time:
            self._event_times.pop(0)
        if self._event_times and self._event_times[0] <= time:
            return EVENT_BLINK_FACTOR
        return PAUSE_BLINK_FACTOR if activity < PAUSE_ACTIVITY else 1.0


def weights_with_blinks(arkit: np.ndarray, motion: Motion, face: Face) -> np.ndarray:
    """Return ARKit weights (T, 52) whose eyeBlink closes what the others leave open in a blink.

    A fit of all weights at once may leave half a millimetre between the lids. `motion` is what the
    weights, (T, 52), were fitted to.
    """
    used = (face.arkit_matrix > 0).astype(np.float32)  # (S, 52)
    changes = np.stack([lids.change for lids in face_lids(face)], axis=1)
    by_weights = 1 + arkit @ (used.T @ changes)
    opening = 1 + motion.coordinates @ lid_opening_gradient(face)
    in_blink = smoothstep(1 - opening / BLINK_OPENING)
    columns = [ARKIT_NAMES.index(f"eyeBlink{side}") for side in ("Right", "Left")]
    result = arkit.copy()
    result[:, columns] = np.clip(arkit[:, columns] + in_blink * (by_weights - opening), 0, 1)
    return result


def lid_closure(phase: np.ndarray) -> np.ndarray:
    """Return how far lids are closed, 0 to 1, at phases (T,) of a blink from 0 to 1."""
    closing, closed = LID_CLOSING_S / BLINK_S, LID_CLOSED_S / BLINK_S
    falling = smoothstep(phase / closing)
    rising = np.clip((phase - closing - closed) / (1 - closing - closed), 0, 1)
    # Opening begins abruptly and ends slowly.
    return falling * (1 - smoothstep(1 - (1 - rising) ** 1.6))
