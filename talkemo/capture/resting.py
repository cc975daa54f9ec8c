"""A person's rest: the frames in which the face is quietest, and the tracker's scores at rest.

A tracker scores how a face looks, and some faces look as if they frowned or squinted at rest. A clip
in which a person frowns from the first frame to the last does not show which. Scores are therefore
compared with those of many people at rest: what goes beyond them is an expression, unless a neutral
moment of this person is given.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from ..errors import InputError
from .landmark_tracker import SCORE_NAMES

# Scores of people at rest, by the first part of a score's name: lower and upper quartile over 201
# people of each one's 10th percentile, in clips without acted emotion (java_sed, arabic_news,
# grid_s1, talking and talking_more, training splits; `benchmarks/own_expression.py --at-rest DATA`).
# Scores that are not listed are below 0.03 in three of four people.
SCORES_AT_REST = {
    "browDown": (0.0, 0.03),
    "browInnerUp": (0.0, 0.03),
    "browOuterUp": (0.0, 0.11),
    "eyeSquint": (0.12, 0.32),
    # Lids hang differently low, and only a score near 1 is a closed eye: what nine of ten people
    # have with their eyes open is no expression, and all above it is.
    "eyeBlink": (0.2, 1.0),
}
# Scores of the mouth in speech, whose level at rest is the person's own without a limit: some lips
# score 0.7 as pucker all the time.
SPEECH_SCORES = ("mouthPucker", "mouthFunnel", "mouthRoll", "mouthShrug", "mouthClose")
SPEECH_REST_PERCENTILE = 10  # of a recording's frames
# How much farther a brow moves from its level in quiet frames than its score does, where the score is
# low. The brows of the fitted model move 0.74 times as far as the landmarks without it, 0.89 with it.
BROW_GAIN = 1.0
GAZE = "eyeLook"  # first part of the names of scores that do not belong to an expression
QUIET_FRACTION = 0.1  # of a recording's frames are its quietest
MIN_QUIET_FRAMES = 12
MIN_SCORE_RANGE = 0.1  # of a score that is nearly 1 at rest
MOMENT_S = 0.2  # length of a moment at which a person is at rest


@dataclass(frozen=True, eq=False)
class RestingMoment:
    """A person at rest in R frames, all of which show the face."""

    landmarks: np.ndarray  # (R, P, 2) px
    scores: np.ndarray | None = None  # (R, 52) of the tracker

    @classmethod
    def at(
        cls,
        seconds: float,
        landmarks: np.ndarray,
        fps: float,
        name: str,
        scores: np.ndarray | None = None,
    ) -> RestingMoment:
        """Return the frames of a recording that are at most MOMENT_S / 2 from a time.

        Parameters
        ----------
        seconds : float
        landmarks : (T, P, 2)
        fps : float
        name : str
            The recording's name in messages.
        scores : (T, 52), optional

        Raises
        ------
        InputError
            If none of these frames has a face.
        """
        frames = frames_at(seconds, len(landmarks), fps, name)
        known = landmarks[frames] if scores is None else scores[frames]
        seen = frames[np.isfinite(known.reshape(len(frames), -1)).all(1)]
        if not len(seen):
            raise InputError(
                f"{name}: no face at {seconds:g} s", "name a moment at which the face is seen"
            )
        return cls(np.array(landmarks[seen]), None if scores is None else scores[seen])


def frames_at(seconds: float, count: int, fps: float, name: str) -> np.ndarray:
    """Return the indices of those of `count` frames that are at most MOMENT_S / 2 from a time.

    Raises InputError for a time after the last frame. `name` is the recording's in messages.
    """
    if seconds * fps >= count:
        raise InputError(
            f"{name}: no moment at {seconds:g} s, it lasts {count / fps:.2f} s",
            "name a moment in it at which the person is at rest",
        )
    first, last = np.array([seconds - MOMENT_S / 2, seconds + MOMENT_S / 2]) * fps
    return np.arange(max(0, round(first)), min(count, max(round(last), round(first)) + 1))


@dataclass(frozen=True, eq=False)
class RestingScores:
    """A person's scores at rest, and how other scores become blend-shape weights."""

    rest: np.ndarray  # (52,) float32 scores that show no expression
    # (52,) float32 scores that certainly show one: from here on, the weight is the score itself. Between
    # `rest` and here, it rises from 0 to the score.
    certain: np.ndarray
    quiet: np.ndarray  # (52,) float32 scores in the person's quietest frames, at least `rest`
    # Whether `rest` is known to be the person's. Then brows that are less low than it are raised.
    known: bool = False

    @classmethod
    def of_recording(cls, scores: np.ndarray) -> RestingScores:
        """Return the scores at rest of a person whose recording has scores (T, 52), without NaN.

        They are those of the recording's quietest frames, but not more than is usual for people.
        """
        own = np.median(scores[quiet_frames(scores)], axis=0)
        usual, certain = _levels_at_rest()
        rest = np.minimum(own, usual)
        speech = [name.startswith(SPEECH_SCORES) for name in SCORE_NAMES]
        rest[speech] = np.percentile(scores[:, speech], SPEECH_REST_PERCENTILE, axis=0)
        certain[speech] = 1
        return cls(rest.astype(np.float32), certain.astype(np.float32), own.astype(np.float32))

    @classmethod
    def of_moment(cls, scores: np.ndarray) -> RestingScores:
        """Return the scores of a person who is at rest in all frames of scores (T, 52)."""
        rest = np.median(scores, axis=0).astype(np.float32)
        return cls(rest, np.ones(len(SCORE_NAMES), np.float32), rest, known=True)

    def weights(self, scores: np.ndarray) -> np.ndarray:
        """Return the weights (T, 52) in [0, 1] that scores (T, 52) show."""
        weights = self._linear(scores)
        if self.known:
            weights = np.minimum(weights + self._raised(scores), 1)
        brows = [name.startswith("brow") for name in SCORE_NAMES]
        moved = np.maximum(weights - self._linear(self.quiet), 0)[:, brows]
        weights[:, brows] += BROW_GAIN * moved * (1 - weights[:, brows])
        return weights

    def _raised(self, scores: np.ndarray) -> np.ndarray:
        """Return the weights (T, 52) by which brows are raised that score less browDown than at rest.

        Low brows that rise score as less frowning, and not as raised.
        """
        raised = np.zeros_like(scores)
        for side in ("Left", "Right"):
            down = SCORE_NAMES.index(f"browDown{side}")
            amount = np.maximum(self.rest[down] - scores[:, down], 0)
            raised[:, SCORE_NAMES.index(f"browOuterUp{side}")] = amount
            raised[:, SCORE_NAMES.index("browInnerUp")] += amount / 2
        return raised

    def _linear(self, scores: np.ndarray) -> np.ndarray:
        """Return the weights (..., 52) in [0, 1] of scores (..., 52), see `certain`."""
        slope = self.certain / np.maximum(self.certain - self.rest, MIN_SCORE_RANGE)
        return np.where(scores < self.certain, (scores - self.rest) * slope, scores).clip(0, 1)


def quiet_frames(scores: np.ndarray) -> np.ndarray:
    """Return the indices of the frames of scores (T, 52) with the least expression.

    They are the QUIET_FRACTION of all, at least MIN_QUIET_FRAMES if there are as many, the
    quietest first.
    """
    usual, _ = _levels_at_rest()
    counted = [not name.startswith(GAZE) for name in SCORE_NAMES]
    expression = np.maximum(scores - usual, 0)[:, counted].sum(1)
    count = max(MIN_QUIET_FRAMES, round(QUIET_FRACTION * len(scores)))
    return np.argsort(expression, kind="stable")[:count]


def _levels_at_rest() -> tuple[np.ndarray, np.ndarray]:
    """Return the two values (52,) of SCORES_AT_REST for each score, 0 where it is not listed."""
    levels = np.zeros((2, len(SCORE_NAMES)))
    for start, values in SCORES_AT_REST.items():
        levels[:, [name.startswith(start) for name in SCORE_NAMES]] = np.array(values)[:, None]
    return levels[0], levels[1]
