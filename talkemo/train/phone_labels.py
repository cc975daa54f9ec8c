"""Corrections of pseudo-labels where phones are known: closed lips in p b m, bitten ones in f v.

The teachers learn from captures, and a tracker sees neither that lips touch nor that the lower lip
is under the upper teeth. Where the phones of an utterance are known, its labels get both.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from ..data.phones import BILABIALS, LABIODENTALS, Phone, phone_times, read_phones
from ..face.canonical import Face
from ..geometry.numerics import smoothstep
from ..networks.speech_encoder import FEATURE_RATE
from .talking import TalkingConfig
from .talking_objective import position_matrix

HOLD_S = 0.03  # s around the middle of a phone in which the lips stay in its pose
EASE_S = 0.05  # s before and after that in which they come and go


@dataclass(frozen=True)
class LipPose:
    """What lips do in some phones that a tracker does not see."""

    phones: tuple[str, ...]
    opening: float  # mm above the lips' distance at rest
    by_jaw: bool  # whether the jaw brings about that opening, else the lips close if they are open
    weights: dict[str, float] = field(default_factory=dict)  # of blend shapes that are added


# In f and v the lower lip turns inwards until its rim is under the upper teeth, which the raised
# upper lip shows.
LIP_POSES = (
    LipPose(BILABIALS, 0.0, False),
    LipPose(
        LABIODENTALS,
        2.5,
        True,
        {"mouthRollLower": 0.45, "mouthUpperUp_L": 0.15, "mouthUpperUp_R": 0.15},
    ),
)


def read_utterance_phones(path: Path) -> dict[str, list[Phone]]:
    """Return the phones of utterances, by file in the data folder."""
    return {f"speech/{file}": phones for file, phones in read_phones(path).items()}


def closing_direction(face: Face) -> np.ndarray:
    """Return coordinates (S,) that close the lips by 1 mm and hardly move anything else."""
    position = position_matrix(face, TalkingConfig().mouth, 0.0).astype(np.float64)
    direction = np.linalg.solve(position @ position.T, face.lip_opening_gradient.astype(np.float64))
    return (direction / (direction @ face.lip_opening_gradient)).astype(np.float32)


class PhoneLabels:
    """Puts the lips of a motion into the poses of its phones."""

    def __init__(self, face: Face):
        self.opening = face.lip_opening_gradient
        self.closing, self.jaw = closing_direction(face), face.unit_jaw_opening
        self.poses = [
            (pose, face.weight_vector(pose.weights) @ face.weights_to_coordinates)
            for pose in LIP_POSES
        ]

    def corrected(
        self, motion: np.ndarray, phones: Sequence[Phone], speed: float = 1.0
    ) -> np.ndarray:
        """Return a motion (T, S) at 50 Hz with the poses of an utterance's phones.

        `speed` is that of the motion's audio, relative to the audio whose phones were aligned.
        """
        for pose, added in self.poses:
            middles = phone_times(phones, pose.phones).mean(1) / speed
            if len(middles):
                motion = self._posed(motion, middles, pose, added)
        return motion

    def _posed(
        self, motion: np.ndarray, middles: np.ndarray, pose: LipPose, added: np.ndarray
    ) -> np.ndarray:
        """Return a motion with a pose around times (K,) in s."""
        share = pose_share(np.arange(len(motion)) / FEATURE_RATE, middles)
        opening = motion @ self.opening
        missing = pose.opening - opening - added @ self.opening
        if pose.by_jaw:
            change = added + missing[:, None] * self.jaw
        else:
            change = added + np.minimum(missing, 0)[:, None] * self.closing
        return (motion + share[:, None] * change).astype(np.float32)


def pose_share(times: np.ndarray, middles: np.ndarray) -> np.ndarray:
    """Return how far lips are in a pose at times (T,) in s, for middles (K,) of its phones."""
    distance = np.abs(times[:, None] - middles).min(1, initial=np.inf)
    return smoothstep(1 - (distance - HOLD_S) / EASE_S)
