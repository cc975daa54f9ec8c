"""Prototypes of emotions by real actors: how their captured faces change from neutral, on average.

An emotion that a face is given is compared with them by angle. How wide the mouth opens is left
out: actors open it wider the louder they speak, the transfer leaves it to the speech. Directions in
which actors differ from each other count less, as in linear discriminant analysis. Unlike the augmentation's poses,
on which the transfer is trained, these prototypes are people's. But actors differ, and landmarks
show little of a frown: how often an actor's own emotions are recognised by the other actors'
prototypes is the number to compare with.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np

from ..data.captures import FittedRecording
from ..data.rest_relative import acted_frames
from ..expression.emotions import EMOTIONS
from ..face.canonical import Face

# Variance that is added in each direction, relative to the mean variance. With 0.3 most of the
# actors' own emotions are recognised.
SHRINKAGE = 0.3


@dataclass(frozen=True, eq=False)
class Judge:
    """Names the emotion of a change by the nearest of some prototypes."""

    prototypes: dict[str, np.ndarray]  # (S,) by emotion, multiplied by `scale`
    scale: np.ndarray  # (S, S), by which changes are multiplied before angles are compared

    @classmethod
    def of_prototypes(cls, prototypes: dict[str, np.ndarray]) -> Judge:
        """Make a judge that compares angles without scaling."""
        return cls(prototypes, np.eye(len(next(iter(prototypes.values())))))

    def nearest(self, change: np.ndarray) -> str:
        """Return the emotion whose prototype has the smallest angle to a change (S,)."""
        scaled = change @ self.scale
        return max(self.prototypes, key=lambda name: cosine(scaled, self.prototypes[name]))


@dataclass(frozen=True, eq=False)
class Recognition:
    """How many changes of each emotion are recognised."""

    right: dict[str, int]
    of: dict[str, int]

    @classmethod
    def count(cls, judged: Iterable[tuple[Judge, str, np.ndarray]]) -> Recognition:
        """Count changes (S,), each with its judge and its emotion, which the judge may not know."""
        right, of = defaultdict[str, int](int), defaultdict[str, int](int)
        for judge, emotion, change in judged:
            if emotion in judge.prototypes and len(judge.prototypes) > 1:
                right[emotion] += judge.nearest(change) == emotion
                of[emotion] += 1
        return cls(right, of)

    def as_json(self) -> dict[str, object]:
        """Return the sums, and both counts by emotion."""
        return {
            "right": sum(self.right.values()),
            "of": sum(self.of.values()),
            "by_emotion": {emotion: [self.right[emotion], self.of[emotion]] for emotion in self.of},
        }


@dataclass(frozen=True, eq=False)
class ActorChanges:
    """Changes of blend-shape weights from neutral to each emotion, for each actor of a corpus."""

    changes: dict[str, dict[str, np.ndarray]]  # actor → emotion → (S,) weights

    @classmethod
    def of_recordings(cls, recordings: list[FittedRecording]) -> ActorChanges:
        """Average the acted frames of recordings that are relative to the face at rest.

        Actors without a neutral recording are left out.
        """
        of_actor: dict[str, dict[str, list[FittedRecording]]] = {}
        for recording in recordings:
            if recording.emotion in EMOTIONS:
                of_emotion = of_actor.setdefault(recording.speaker, {})
                of_emotion.setdefault(recording.emotion, []).append(recording)
        changes = {}
        for actor, of_emotion in of_actor.items():
            if "neutral" in of_emotion:
                means = {name: acted_frames(of_emotion[name]).shapes.mean(0) for name in of_emotion}
                neutral = means.pop("neutral")
                changes[actor] = {name: mean - neutral for name, mean in means.items()}
        return cls(changes)

    def prototypes(self, without: str | None = None) -> dict[str, np.ndarray]:
        """Return the mean change (S,) of weights of each emotion, if wanted without one actor."""
        rows = self._rows(without)
        return {name: np.mean(rows[name], axis=0) for name in EMOTIONS if name in rows}

    def judge(self, face: Face, without: str | None = None) -> Judge | None:
        """Return a judge of changes of coordinates (S,) mm; None without any actor."""
        prototypes, rows = self.prototypes(without), self._rows(without)
        if not prototypes:
            return None
        to_mm = face.weights_to_coordinates
        # The jaw closes the lips as far as they were opened.
        to_mm = to_mm - np.outer(to_mm @ face.lip_opening_gradient, face.unit_jaw_opening)
        residuals = [row - prototypes[name] for name in prototypes for row in rows[name]]
        differences = np.array(residuals) @ to_mm
        covariance = differences.T @ differences / len(differences)
        # A positive number keeps directions without any difference finite.
        added = SHRINKAGE * np.trace(covariance) / len(covariance) + 1e-6
        variance, directions = np.linalg.eigh(covariance + added * np.eye(len(covariance)))
        scale = directions / np.sqrt(variance)
        scaled = {name: prototypes[name] @ to_mm @ scale for name in prototypes}
        closed = np.eye(len(scale)) - np.outer(face.lip_opening_gradient, face.unit_jaw_opening)
        return Judge(scaled, closed @ scale)

    def held_out(self, face: Face) -> Recognition:
        """Return how often an actor's emotions are recognised by the other actors' prototypes."""
        judged = []
        for actor, of_emotion in self.changes.items():
            judge = self.judge(face, without=actor)
            if judge is None:
                continue
            for emotion, change in of_emotion.items():
                judged.append((judge, emotion, change @ face.weights_to_coordinates))
        return Recognition.count(judged)

    def _rows(self, without: str | None) -> dict[str, list[np.ndarray]]:
        """The changes of all actors but one, by emotion."""
        rows: dict[str, list[np.ndarray]] = defaultdict(list)
        for actor, of_emotion in self.changes.items():
            for emotion, change in of_emotion.items() if actor != without else ():
                rows[emotion].append(change)
        return rows


def cosine(a: np.ndarray, b: np.ndarray) -> float:
    """Return the cosine of the angle between two vectors, 0 if one of them is zero."""
    return float(a @ b / max(float(np.linalg.norm(a) * np.linalg.norm(b)), 1e-12))
