"""Motion of the head and the eyes of a speaker.

The head moves like those of people who speak freely to a camera: sums of waves of random phase with
the spectrum of 57 speakers (`benchmarks/heads.py`). It follows the voice as 50 of them do
(`benchmarks/upper_face.py`): it is slower in pauses, turns where a phrase begins, and nods a little
with stressed words. How loud the voice is does not matter: head speed and loudness, both smoothed
over 0.6 s, have a correlation of −0.05, and of 0.09 in nine other speakers.

The eyes stay on the camera while the head turns (vestibulo-ocular reflex), and leap a few degrees
aside every second or two (Lee, Badler, Badler 2002, "Eyes alive": most saccades are small, and last
25 ms plus 2.4 ms a degree).
"""

from __future__ import annotations

import numpy as np

from ..audio.prosody import ANTICIPATION_S, Voice, VoiceEvent
from ..face.canonical import ARKIT_GAZE_DEG, ARKIT_NAMES, Face
from ..geometry.numerics import smoothstep
from ..geometry.rigid import gaze_of, rotation_matrices
from .gestures import STRESS_LEAD_S, Gestures
from .laughter import LAUGH_LEAD_S

# Edges of the frequency bands.
HEAD_MOTION_BANDS_HZ = np.array([0.1, 0.167, 0.278, 0.464, 0.775, 1.292, 2.156, 3.597, 6.0])
# Standard deviation of pitch, yaw and roll in each band, median over speakers. The first row is a
# guess: the recordings are too short to measure it.
HEAD_MOTION_STD_DEG = np.array(
    [
        [1.2, 1.2, 1.1],
        [1.302, 1.297, 1.16],
        [1.488, 1.371, 1.22],
        [1.107, 1.349, 1.132],
        [0.847, 1.091, 0.715],
        [0.603, 0.631, 0.423],
        [0.389, 0.288, 0.198],
        [0.194, 0.131, 0.093],
    ]
)
HEAD_MOTION_SCALE = 0.6  # reduces the amplitude: a head without shoulders seems to move more
WAVES_PER_BAND = 2
# The waves' clock runs at these speeds; turns and nods add motion in speech.
PAUSE_CLOCK, SPEECH_CLOCK = 0.5, 0.95
TURN_STD_DEG = np.array([0.8, 1.5, 0.9])  # pitch, yaw and roll of a turn where a phrase begins
MIN_TURN_S, MAX_TURN_S = 0.5, 0.9
STRESS_TURNS = 0.08  # share of the stresses at which the head turns, in long phrases
STRESS_NODS = 0.3  # share of the stresses of strength 1 with a nod
MIN_NOD_DEG, MAX_NOD_DEG = 0.3, 0.8
MAX_NOD_TURN_DEG = 0.4  # yaw and roll of a nod
MIN_BOB_DEG, MAX_BOB_DEG = 0.5, 1.2  # nod with a burst of laughter of strength 1
SIGH_SINK_DEG = 1.6  # pitch by which the head sinks with a sigh
FIXATION_MEAN_S, FIXATION_MIN_S = 1.4, 0.3  # time between leaps of the eyes
SACCADE_MEAN_DEG, SACCADE_MAX_DEG = 2.8, 9.0  # size of the leaps
SACCADE_BASE_S, SACCADE_S_PER_DEG = 0.025, 0.0024  # duration of a leap, by its size
AVERTED_FRACTION = 0.6  # leaps that lead aside; the others lead back to the camera
MAX_GAZE_RAD = np.radians(25)
# ARKit's gaze shapes: the angle that each shows (0 pitch, 1 yaw) and its sign.
GAZE_SHAPES = {
    "eyeLookDownLeft": (0, 1), "eyeLookDownRight": (0, 1),
    "eyeLookUpLeft": (0, -1), "eyeLookUpRight": (0, -1),
    "eyeLookOutLeft": (1, 1), "eyeLookInRight": (1, 1),
    "eyeLookInLeft": (1, -1), "eyeLookOutRight": (1, -1),
}  # fmt: skip


class HeadMotion:
    """Rotation of a head over time; the seed and the voice decide it.

    `liveliness`, from 0 to 1, scales nods and what else accompanies single words and sounds.
    """

    def __init__(self, seed: int = 0, liveliness: float = 1.0):
        self._seed, self._liveliness = seed, liveliness
        self._gestures = Gestures(3)
        std = np.radians(HEAD_MOTION_SCALE * HEAD_MOTION_STD_DEG)
        self._amplitude = std[..., None] * (2 / WAVES_PER_BAND) ** 0.5
        self._draw_waves(np.random.default_rng((seed, 7)))

    def angles(self, times: np.ndarray, voice: Voice | None = None) -> np.ndarray:
        """Return pitch, yaw and roll (T, 3) in radians; all zero at 0 s.

        Parameters
        ----------
        times : (T,)
            Seconds; with a voice, never earlier than those of previous calls.
        voice : Voice, optional
            Of these times; without it the seed alone decides.
        """
        clock, gestures = times, np.zeros((1, 3))
        if voice is not None:
            for event in voice.events:
                self._react(event)
            clock = PAUSE_CLOCK * times + (SPEECH_CLOCK - PAUSE_CLOCK) * voice.spoken
            gestures = self._gestures.at(times)
        return (
            self._waves(clock) - self._waves(np.zeros(1)) * np.exp(-times[:, None] / 2) + gestures
        )

    def rotations(self, times: np.ndarray, voice: Voice | None = None) -> np.ndarray:
        """Return rotations (T, 3, 3) float32 of a face that looks along +z with y up."""
        return rotation_matrices(*self.angles(times, voice).T).astype(np.float32)

    def _draw_waves(self, random: np.random.Generator) -> None:
        low, high = HEAD_MOTION_BANDS_HZ[:-1, None, None], HEAD_MOTION_BANDS_HZ[1:, None, None]
        self._hertz = random.uniform(low, high, (len(HEAD_MOTION_STD_DEG), 3, WAVES_PER_BAND))
        self._phase = random.uniform(0, 2 * np.pi, self._hertz.shape)

    def _waves(self, times: np.ndarray) -> np.ndarray:
        """Return the sum of all waves (T, 3) in radians."""
        arguments = 2 * np.pi * self._hertz * times[:, None, None, None] + self._phase
        return (self._amplitude * np.sin(arguments)).sum((1, 3))

    def _react(self, event: VoiceEvent) -> None:
        """Begin the turn or the nod of an event."""
        random = event.random(self._seed, 29)
        if event.kind == "start":
            self._draw_waves(random)
        elif event.kind == "phrase":
            self._turn(event, random)
        elif event.kind == "stress":
            if random.random() < STRESS_NODS * event.strength:
                aside = random.uniform(-MAX_NOD_TURN_DEG, MAX_NOD_TURN_DEG, 2)
                nod = event.strength * random.uniform(MIN_NOD_DEG, MAX_NOD_DEG)
                rise, fall = random.uniform((0.12, 0.22), (0.18, 0.4))
                self._nod(event.time - STRESS_LEAD_S, (rise, 0.0, fall), [nod, *aside])
            if random.random() < STRESS_TURNS:
                self._turn(event, random)
        elif event.kind == "laugh":
            bob = event.strength * random.uniform(MIN_BOB_DEG, MAX_BOB_DEG)
            self._nod(event.time - LAUGH_LEAD_S, (0.1, 0.0, 0.14), [bob, 0, 0])
        elif event.kind == "sigh":
            sink = SIGH_SINK_DEG * random.uniform(0.7, 1.3)
            self._nod(event.time - ANTICIPATION_S, (0.5, 0.3, 0.9), [sink, 0, 0])

    def _nod(
        self, start: float, durations: tuple[float, float, float], degrees: list[float]
    ) -> None:
        """Turn for a while by pitch, yaw and roll; durations of rising, holding and falling in s."""
        height = self._liveliness * np.radians(degrees)
        self._gestures.pulse(start, *durations, height)

    def _turn(self, event: VoiceEvent, random: np.random.Generator) -> None:
        """Turn to a new direction."""
        target = np.radians(random.normal(0, TURN_STD_DEG))
        self._gestures.shift(
            event.time - ANTICIPATION_S, random.uniform(MIN_TURN_S, MAX_TURN_S), target
        )


class Gaze:
    """Direction of the eyes at ascending times; the seed and the voice decide their leaps."""

    def __init__(self, seed: int = 0):
        self._seed = seed
        self._random = np.random.default_rng((seed, 11))
        self._starts, self._targets = [0.0], [np.zeros(2)]

    def angles(
        self, times: np.ndarray, head: np.ndarray | None = None, voice: Voice | None = None
    ) -> np.ndarray:
        """Return pitch (down) and yaw (to the face's left) of the eyes relative to the head.

        Parameters
        ----------
        times : (T,)
            Seconds; never earlier than those of previous calls.
        head : (T, 3, 3), optional
            Rotations of the head, for which the eyes compensate.
        voice : Voice, optional
            Of these times; without it the seed alone decides.

        Returns
        -------
        (T, 2), radians
        """
        for event in [] if voice is None else voice.events:
            if event.kind == "start":
                self._random = event.random(self._seed, 11)
        while self._starts[-1] < times[-1]:
            self._draw_leap()
        starts, targets = np.array(self._starts), np.array(self._targets)
        current = np.clip(np.searchsorted(starts, times, side="right") - 1, 0, None)
        previous = targets[np.maximum(current - 1, 0)]
        leap = targets[current] - previous
        duration = SACCADE_BASE_S + SACCADE_S_PER_DEG * np.degrees(np.linalg.norm(leap, axis=1))
        gaze = previous + smoothstep((times - starts[current]) / duration)[:, None] * leap
        if head is not None:
            gaze = gaze - gaze_of(head)
        return np.clip(gaze, -MAX_GAZE_RAD, MAX_GAZE_RAD)

    def _draw_leap(self) -> None:
        """Draw the time and the target of the next leap."""
        wait = max(FIXATION_MIN_S, self._random.exponential(FIXATION_MEAN_S))
        size = min(self._random.exponential(SACCADE_MEAN_DEG), SACCADE_MAX_DEG)
        direction = self._random.uniform(0, 2 * np.pi)
        averted = self._random.random() < AVERTED_FRACTION
        target = np.radians(size) * np.array([0.6 * np.sin(direction), np.cos(direction)])
        self._starts.append(self._starts[-1] + wait)
        self._targets.append(target if averted else np.zeros(2))


def lids_of_gaze(face: Face, gaze: np.ndarray) -> np.ndarray:
    """Return coordinates (T, S) float32 of lids that follow a gaze (T, 2) in radians."""
    arkit = weights_with_gaze(np.zeros((len(gaze), len(ARKIT_NAMES)), np.float32), gaze)
    rows = [k for k, name in enumerate(face.expression_names) if name.startswith("eyeLook")]
    weights = arkit @ face.arkit_matrix[rows].T
    return np.asarray(weights @ face.weights_to_coordinates[rows], np.float32)


def weights_with_gaze(arkit: np.ndarray, gaze: np.ndarray) -> np.ndarray:
    """Return ARKit weights (T, 52) with the gaze shapes set from a gaze (T, 2) in radians."""
    result = arkit.copy()
    angles = np.degrees(gaze) / ARKIT_GAZE_DEG
    for name, (angle, sign) in GAZE_SHAPES.items():
        # Adding 0 turns -0.0 into 0.0.
        result[:, ARKIT_NAMES.index(name)] = np.clip(sign * angles[:, angle], 0, 1) + 0.0
    return result


def gaze_from_weights(arkit: np.ndarray) -> np.ndarray:
    """Return pitch and yaw (T, 2) in radians, mean of both eyes, of ARKit weights (T, 52)."""
    gaze = np.zeros((len(arkit), 2))
    for name, (angle, sign) in GAZE_SHAPES.items():
        gaze[:, angle] += sign * arkit[:, ARKIT_NAMES.index(name)]
    return np.radians(ARKIT_GAZE_DEG / 2 * gaze)
