"""How a head moves while its owner speaks, and how a mesh turns with it.

The movement has the spectrum of people who speak freely to a camera, measured on 57 of them (`benchmarks/heads.py`): waves
of random phase in octave bands. Loudness drives it no more than it does theirs: the speed of a head and the loudness of the
voice, both over 0.6 s, correlate by −0.05 in these, and by 0.07 in nine others.
"""

from __future__ import annotations

import numpy as np

from .binding.binding import Binding
from .errors import InputError
from .geometry import smoothstep

MODES = ("off", "auto")
BANDS = np.array([0.1, 0.167, 0.278, 0.464, 0.775, 1.292, 2.156, 3.597, 6.0])  # Hz, edges
# Degrees, standard deviation of pitch, yaw and roll in each band: the median person's.
SPECTRUM = np.array(
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
SHARE = 0.6  # of that: a head without shoulders seems to move more
WAVES = 2  # in each band
PIVOT = np.array([0.0, -20.0, 0.0])  # canonical mm, where the head sits on the neck
NECK = (30.0, 140.0)  # mm under the chin between which the neck goes along less and less


def check_head(head: str) -> bool:
    """Whether a head moves by itself. Raises InputError for a word that is none of MODES."""
    if head not in MODES:
        raise InputError(f"unknown head motion '{head}'", f"choose {' or '.join(MODES)}")
    return head == "auto"


class HeadMotion:
    """A head's rotation as a function of time. seed: of the phases"""

    def __init__(self, seed: int = 0):
        rng = np.random.default_rng((seed, 7))
        low, high = BANDS[:-1, None, None], BANDS[1:, None, None]
        self.hertz = rng.uniform(low, high, (len(SPECTRUM), 3, WAVES))
        self.phase = rng.uniform(0, 2 * np.pi, self.hertz.shape)
        self.size = np.radians(SHARE * SPECTRUM)[..., None] * (2 / WAVES) ** 0.5

    def angles(self, times: np.ndarray) -> np.ndarray:
        """Pitch, yaw and roll (T, 3) in radians; at 0 s the head looks ahead."""
        wave = lambda t: (self.size * np.sin(2 * np.pi * self.hertz * t[:, None, None, None] + self.phase)).sum((1, 3))
        return np.asarray(wave(times) - wave(np.zeros(1)) * np.exp(-times[:, None] / 2))

    def rotations(self, times: np.ndarray) -> np.ndarray:
        """(T, 3, 3) float32, of a face that looks along +z with y up."""
        from scipy.spatial.transform import Rotation

        return Rotation.from_euler("xyz", self.angles(times)).as_matrix().astype(np.float32)


class Turner:
    """Turns a bound mesh as its head turns: what is far below the chin stays."""

    def __init__(self, binding: Binding):
        placement = binding.placement
        points = placement.to_canonical(binding.rest.astype(np.float64))
        under = points[binding.landmarks68[8], 1] - points[:, 1]
        self.share = smoothstep(1 - (under - NECK[0]) / (NECK[1] - NECK[0])).astype(np.float32)[:, None]
        self.pivot = placement.to_mesh(PIVOT[None])[0].astype(np.float32)
        self.axes = placement.rotation

    def __call__(self, vertices: np.ndarray, rotation: np.ndarray) -> np.ndarray:
        """Vertices (N, 3) of a frame, turned by a rotation (3, 3) of the canonical face."""
        turn = (self.axes @ rotation @ self.axes.T).astype(np.float32)
        arm = vertices - self.pivot
        return np.asarray(vertices + self.share * (arm @ turn.T - arm), np.float32)
