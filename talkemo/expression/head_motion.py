"""How a head and its eyes move while their owner speaks, and how a mesh turns with them.

The movement has the spectrum of people who speak freely to a camera, measured on 57 of them (`benchmarks/heads.py`): waves
of random phase in octave bands. Loudness drives it no more than it does theirs: the speed of a head and the loudness of the
voice, both over 0.6 s, correlate by −0.05 in these, and by 0.09 in nine others.

Eyes stay on the camera while the head turns, as the vestibulo-ocular reflex has it, and leap a few degrees aside every
second or two (Lee, Badler, Badler 2002, "Eyes alive": most saccades are small, and last 25 ms and 2.4 ms a degree).
"""

from __future__ import annotations

import numpy as np

from ..binding.binding import GAZE
from ..face.canonical import ARKIT_NAMES
from ..geometry.numerics import smoothstep

HEAD_MOTION_BANDS_HZ = np.array(
    [0.1, 0.167, 0.278, 0.464, 0.775, 1.292, 2.156, 3.597, 6.0]
)  # Hz, edges
# Degrees, standard deviation of pitch, yaw and roll in each band: the median person's; clips are too short to tell the first,
# which is a guess.
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
HEAD_MOTION_SCALE = 0.6  # of that: a head without shoulders seems to move more
WAVES = 2  # in each band
FIXATION, SHORTEST_FIXATION = 1.4, 0.3  # s between leaps of the eyes: on average, and at least
SACCADE, LARGEST_SACCADE = 2.8, 9.0  # degrees: on average, and at most
AWAY = 0.6  # share of the leaps that lead aside; others lead back to the camera
LARGEST_GAZE = np.radians(25)


class HeadMotion:
    """A head's rotation as a function of time. seed: of the phases"""

    def __init__(self, seed: int = 0):
        rng = np.random.default_rng((seed, 7))
        low, high = HEAD_MOTION_BANDS_HZ[:-1, None, None], HEAD_MOTION_BANDS_HZ[1:, None, None]
        self.hertz = rng.uniform(low, high, (len(HEAD_MOTION_STD_DEG), 3, WAVES))
        self.phase = rng.uniform(0, 2 * np.pi, self.hertz.shape)
        self.size = (
            np.radians(HEAD_MOTION_SCALE * HEAD_MOTION_STD_DEG)[..., None] * (2 / WAVES) ** 0.5
        )

    def angles(self, times: np.ndarray) -> np.ndarray:
        """Pitch, yaw and roll (T, 3) in radians; at 0 s the head looks ahead."""
        wave = lambda t: (
            self.size * np.sin(2 * np.pi * self.hertz * t[:, None, None, None] + self.phase)
        ).sum((1, 3))
        return np.asarray(wave(times) - wave(np.zeros(1)) * np.exp(-times[:, None] / 2))

    def rotations(self, times: np.ndarray) -> np.ndarray:
        """(T, 3, 3) float32, of a face that looks along +z with y up."""
        (px, yx, rx), (pc, yc, rc) = np.sin(self.angles(times)).T, np.cos(self.angles(times)).T
        zero, one = np.zeros(len(times)), np.ones(len(times))
        matrix = lambda *rows: np.stack([np.stack(row, 1) for row in rows], 1)
        pitch = matrix((one, zero, zero), (zero, pc, -px), (zero, px, pc))
        yaw = matrix((yc, zero, yx), (zero, one, zero), (-yx, zero, yc))
        roll = matrix((rc, -rx, zero), (rx, rc, zero), (zero, zero, one))
        return np.asarray(roll @ yaw @ pitch, np.float32)


class Gaze:
    """Where the eyes look as a function of ascending times. seed: of when and where to they leap"""

    def __init__(self, seed: int = 0):
        self._random = np.random.default_rng((seed, 11))
        self._begins, self._aims = [0.0], [np.zeros(2)]

    def angles(self, times: np.ndarray, head: np.ndarray | None = None) -> np.ndarray:
        """Pitch, down, and yaw, to the face's left, (T, 2) in radians, relative to the head.

        head: (T, 3, 3), its rotations, that the eyes make up for
        """
        while self._begins[-1] < times[-1]:
            wait = max(SHORTEST_FIXATION, self._random.exponential(FIXATION))
            size = min(self._random.exponential(SACCADE), LARGEST_SACCADE)
            direction = self._random.uniform(0, 2 * np.pi)
            away = self._random.random() < AWAY
            aim = np.radians(size) * np.array([0.6 * np.sin(direction), np.cos(direction)])
            self._begins.append(self._begins[-1] + wait)
            self._aims.append(aim if away else np.zeros(2))
        begins, aims = np.array(self._begins), np.array(self._aims)
        last = np.clip(np.searchsorted(begins, times, side="right") - 1, 0, None)
        before = aims[np.maximum(last - 1, 0)]
        leap = np.degrees(np.linalg.norm(aims[last] - before, axis=1))
        share = smoothstep((times - begins[last]) / (0.025 + 0.0024 * leap))[:, None]
        found = before + share * (aims[last] - before)
        if head is not None:
            found = found - np.column_stack(
                [-np.arcsin(head[:, 1, 2]), np.arctan2(head[:, 0, 2], head[:, 2, 2])]
            )
        return np.clip(found, -LARGEST_GAZE, LARGEST_GAZE)


def weights_with_gaze(arkit: np.ndarray, gaze: np.ndarray) -> np.ndarray:
    """ARKit weights (T, 52) with the eyes' shapes for a gaze (T, 2) in radians."""
    result = arkit.copy()
    pitch, yaw = np.degrees(gaze.T) / GAZE
    for name, weight in {
        "eyeLookDownLeft": pitch, "eyeLookDownRight": pitch, "eyeLookUpLeft": -pitch, "eyeLookUpRight": -pitch,
        "eyeLookOutLeft": yaw, "eyeLookInRight": yaw, "eyeLookInLeft": -yaw, "eyeLookOutRight": -yaw,
    }.items():  # fmt: skip
        result[:, ARKIT_NAMES.index(name)] = np.clip(weight, 0, 1) + 0.0
    return result


def gaze_from_weights(arkit: np.ndarray) -> np.ndarray:
    """The inverse of `weights_with_gaze`: pitch and yaw (T, 2) in radians of ARKit weights (T, 52), the mean of both eyes."""
    of = lambda name: arkit[:, ARKIT_NAMES.index(f"eyeLook{name}")]
    pitch = of("DownLeft") + of("DownRight") - of("UpLeft") - of("UpRight")
    yaw = of("OutLeft") + of("InRight") - of("InLeft") - of("OutRight")
    return np.radians(GAZE / 2 * np.column_stack([pitch, yaw]))
