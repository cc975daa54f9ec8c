"""A person's rest: the frames in which the face is quietest, and the tracker's scores at rest.

A tracker scores how a face looks, and some faces look as if they frowned or squinted at rest. A clip
in which a person frowns from the first frame to the last does not show which. Scores are therefore
compared with those of many people at rest: what goes beyond them is an expression, unless a neutral
moment of this person is given.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from .landmark_tracker import SCORE_NAMES

# Scores of people at rest, by the first part of a score's name: median and 90th percentile over 201
# people of each one's 10th percentile, in clips without acted emotion (java_sed, arabic_news,
# grid_s1, talking and talking_more, training splits; `benchmarks/own_expression.py --at-rest DATA`).
# Scores that are not listed are below 0.05 in nine of ten people. Lids hang differently low, and a
# blink is short: of eyeBlink as much is a person's own as nine of ten have when they look up.
SCORES_AT_REST = {
    "browDown": (0.0, 0.2),
    "browInnerUp": (0.0, 0.19),
    "browOuterUp": (0.02, 0.25),
    "eyeBlink": (0.2, 1.0),
    "eyeSquint": (0.2, 0.44),
}
# Scores of the mouth in speech, whose level at rest is the person's own without a limit: some lips
# score 0.7 as pucker all the time.
SPEECH_SCORES = ("mouthPucker", "mouthFunnel", "mouthRoll", "mouthShrug", "mouthClose")
SPEECH_REST_PERCENTILE = 10  # of a recording's frames
# Scores that the network never moves: 0.00 in all frames of those corpora.
UNUSED_SCORES = ("_neutral", "cheekPuff", "cheekSquint", "noseSneer")
GAZE = "eyeLook"  # first part of the names of scores that do not belong to an expression
QUIET_FRACTION = 0.1  # of a recording's frames are its quietest
MIN_QUIET_FRAMES = 12
MIN_SCORE_RANGE = 0.1  # of a score that is nearly 1 at rest


@dataclass(frozen=True, eq=False)
class RestingScores:
    """A person's scores at rest, and how other scores become blend-shape weights."""

    rest: np.ndarray  # (52,) scores that show no expression
    # (52,) scores that certainly show one: from here on, the weight is the score itself. Between
    # `rest` and here, it rises from 0 to the score.
    certain: np.ndarray

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
        return cls(rest, certain)

    @classmethod
    def of_moment(cls, scores: np.ndarray) -> RestingScores:
        """Return the scores of a person who is at rest in all frames of scores (T, 52)."""
        return cls(np.median(scores, axis=0), np.ones(len(SCORE_NAMES)))

    def weights(self, scores: np.ndarray) -> np.ndarray:
        """Return the weights (T, 52) in [0, 1] that scores (T, 52) show, NaN where unknown."""
        slope = self.certain / np.maximum(self.certain - self.rest, MIN_SCORE_RANGE)
        weights = np.where(scores < self.certain, (scores - self.rest) * slope, scores)
        weights[:, [name.startswith(UNUSED_SCORES) for name in SCORE_NAMES]] = np.nan
        return weights.clip(0, 1)


def quiet_frames(scores: np.ndarray) -> np.ndarray:
    """Return the indices of the frames of scores (T, 52) with the least expression.

    They are the QUIET_FRACTION of all, at least MIN_QUIET_FRAMES, the quietest first.
    """
    usual, _ = _levels_at_rest()
    counted = [not name.startswith((GAZE, *UNUSED_SCORES)) for name in SCORE_NAMES]
    expression = np.maximum(scores - usual, 0)[:, counted].sum(1)
    count = max(MIN_QUIET_FRAMES, round(QUIET_FRACTION * len(scores)))
    return np.argsort(expression, kind="stable")[:count]


def _levels_at_rest() -> tuple[np.ndarray, np.ndarray]:
    """Return the two values (52,) of SCORES_AT_REST for each score, 0 where it is not listed."""
    levels = np.zeros((2, len(SCORE_NAMES)))
    for start, values in SCORES_AT_REST.items():
        levels[:, [name.startswith(start) for name in SCORE_NAMES]] = np.array(values)[:, None]
    return levels[0], levels[1]

