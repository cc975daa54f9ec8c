"""Emotion transfer of performances, which keeps what is the person's own.

An emotion changes what a face holds for seconds, alike on both sides. How its brows move with what is
said, and how one corner of the mouth rises above the other, is the person's and stays. An emotion takes
the place of the expression that is held; what rises above it stays as well.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import tee
from typing import TYPE_CHECKING

import numpy as np

from ..face.canonical import Face
from ..face.lip_measures import without_opening
from ..face.motion import Motion
from .emotional import with_emotion
from .emotions import NEUTRAL_INDEX, Timeline
from .lip_contact import LipContact

if TYPE_CHECKING:
    from ..networks.protocols import EmotionTransfer

HELD_WINDOW_S = 1.5  # on either side of a frame: what lasts longer is held
MOST_HELD = 2.0  # weight of a blend shape: a strong emotion moves the brows farther than 1 does
HELD_PERCENTILE = 50  # of a blend shape's weight in the window is held
SMOOTHING_S = 0.5  # standard deviation of the Gaussian that smooths the held weights
SMOOTHED_DEVIATIONS = 2.0  # of the Gaussian, on either side
MAX_FPS = 240.0  # of the window: at higher rates it is shorter, which bounds the memory
# Blend shapes (first parts of names) that are taken away where they are held. The others belong
# to speech, to the gaze, or to how low the lids hang.
TAKEN_AWAY = (
    *("brow", "eyeSquint", "eyeWide", "cheekSquint", "noseSneer", "mouthSmile", "mouthFrown"),
    *("mouthDimple", "mouthStretch", "mouthPress", "mouthRoll", "mouthShrug"),
)


@dataclass(frozen=True, eq=False)
class Held:
    """What a face holds in each of T frames."""

    mean: np.ndarray  # (T, S) float32 mm, mean coordinates of the window
    weights: np.ndarray  # (T, S) float32, blend-shape weights that are held


def held_expressions(face: Face, motions: Iterable[Motion], fps: float) -> Iterator[Held]:
    """Yield what a face holds in each of consecutive motions.

    A motion's result depends on the 2.5 s after it, which are read first.
    """
    window = _Window.of(fps)
    radius = window.margin
    known = np.zeros((0, len(face.expression_names)), np.float32)  # coordinates from frame `first`
    first = done = end = 0
    waiting: deque[int] = deque()  # lengths of the motions whose result is missing
    for motion in motions:
        known = np.concatenate([known, motion.coordinates])
        waiting.append(len(motion))
        end += len(motion)
        while waiting and done + waiting[0] + radius <= end:
            count = waiting.popleft()
            yield window.held(face, known, slice(done - first, done - first + count))
            done += count
            keep_from = max(first, done - radius)
            known, first = known[keep_from - first :], keep_from
    for count in waiting:
        yield window.held(face, known, slice(done - first, done - first + count))
        done += count


@dataclass(frozen=True)
class _Window:
    """The frames on either side of a frame on which its `Held` depends."""

    radius: int  # frames whose percentile is held
    smoothed: int  # frames over which that is smoothed

    @classmethod
    def of(cls, fps: float) -> _Window:
        """Return the window at a frame rate."""
        fps = min(fps, MAX_FPS)
        smoothed = round(SMOOTHED_DEVIATIONS * SMOOTHING_S * fps)
        return cls(max(1, round(HELD_WINDOW_S * fps)), max(1, smoothed))

    @property
    def margin(self) -> int:
        """Frames on either side in all."""
        return self.radius + self.smoothed

    def held(self, face: Face, known: np.ndarray, frames: slice) -> Held:
        """Return what is held in some frames of coordinates (T, S)."""
        from scipy.ndimage import gaussian_filter1d, percentile_filter, uniform_filter1d

        before = min(frames.start, self.margin)
        around = known[frames.start - before : frames.stop + self.margin]
        inside = slice(before, before + frames.stop - frames.start)
        size = (2 * self.radius + 1, 1)
        deviation = self.smoothed / SMOOTHED_DEVIATIONS

        def smooth(values: np.ndarray) -> np.ndarray:
            rows = gaussian_filter1d(
                values, deviation, axis=0, mode="nearest", radius=self.smoothed
            )
            return np.asarray(rows[inside], np.float32)

        weights = face.fit_weights(around, gaze=False, most=MOST_HELD).astype(np.float32)
        held = percentile_filter(weights, HELD_PERCENTILE, size=size, mode="nearest")
        mean = uniform_filter1d(around, size[0], axis=0, mode="nearest")
        return Held(smooth(mean), smooth(held))


class PerformanceTransfer:
    """Changes the emotion of a person's performance.

    Parameters
    ----------
    model : EmotionTransfer
    face : Face
    lip_gap : (J,) mm, optional
        Of a mesh, see `LipContact`.
    """

    def __init__(self, model: EmotionTransfer, face: Face, lip_gap: np.ndarray | None = None):
        self.model, self.face = model, face
        self._lip_contact = LipContact(face, lip_gap)
        mirrored = face.span[:, face.mirror] * np.array([-1, 1, 1], np.float32)
        # (S, S), the coordinates of the mirror image of each coordinate.
        self._mirror = mirrored.reshape(len(mirrored), -1) @ face.span.reshape(len(mirrored), -1).T
        # (S, S), what is taken away of each weight. It leaves the opening of the mouth.
        expressive = np.array([name.startswith(TAKEN_AWAY) for name in face.expression_names])
        of_weights = expressive[:, None] * face.weights_to_coordinates
        self._taken_away = of_weights @ without_opening(face)

    def changed(
        self, motions: Iterable[Motion], timeline: Timeline, fps: float
    ) -> Iterator[Motion]:
        """Yield consecutive motions with the emotions of a timeline; see `held_expressions`."""
        before, ahead = tee(motions)
        for motion, held in zip(before, held_expressions(self.face, ahead, fps)):
            yield self(motion, held, timeline.amounts(motion.times))

    def __call__(self, motion: Motion, held: Held, amounts: np.ndarray) -> Motion:
        """Return a motion with amounts (T, 8) of emotions; frames without any stay bit-identical."""
        changed = amounts.any(1)
        if not changed.any():
            return motion
        emotions = amounts.copy()
        emotions[:, NEUTRAL_INDEX] = 0
        # An emotion takes the place of what both sides hold: it is not added to it. neutral also
        # takes away what one side holds more than the other.
        held_away = held.weights @ self._taken_away
        neutral, all_emotions = (
            np.minimum(amount, 1)[:, None] for amount in (amounts[:, NEUTRAL_INDEX], amounts.sum(1))
        )
        taken = neutral * held_away + (all_emotions - neutral) * self._of_both_sides(held_away)
        calm = Motion(motion.times, held.mean - taken)
        shown = with_emotion(self.model, calm, emotions, self.face, from_neutral=False)
        added = shown.coordinates - calm.coordinates
        change = self._of_both_sides(added) - taken
        after = Motion(motion.times, motion.coordinates + change, motion.loudness)
        coordinates = motion.coordinates.copy()
        coordinates[changed] = self._lip_contact(after, motion).coordinates[changed]
        return Motion(motion.times, coordinates, motion.loudness)

    def _of_both_sides(self, coordinates: np.ndarray) -> np.ndarray:
        """Return the part of coordinates (T, S) that is alike on both sides."""
        return np.asarray((coordinates + coordinates @ self._mirror) / 2)
