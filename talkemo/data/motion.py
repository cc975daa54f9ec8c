"""Captured motion as training and test data: blend shapes from a person's rest, with the sound they belong to."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass, replace

import numpy as np

from ..face import Face
from .captures import Fitted
from .corpora import EMOTIONS

# Of each trial: actors come from and go back to rest, and a resting face shows no emotion whatever its label.
ACTED = (0.25, 0.8)
# Rest is a closed mouth: of a person's neutral frames, the share with the lips closest.
CLOSED = 0.06
# Of a blend shape of eyes and brows over the same frames: what the face shows all the time is no motion.
REST_PERCENTILE = 5


def from_rest(recordings: list[Fitted], face: Face) -> list[Fitted]:
    """The recordings with each person's resting face taken off: shapes from about -1 to 1, zero being that person's neutral.

    Around the mouth rest is the mean of the frames whose lips are closest, taken off as it is, so that lips that meet
    in the recording meet on the canonical face; a shape that is at work at rest may become negative.
    """
    opens = face.lip_opening(face.expression_basis)
    names = face.expression_names
    mouth = np.array([name.startswith(("jaw", "mouth")) for name in names])
    trained = {r.speaker for r in recordings if r.split == "train"}
    neutral: dict[str, list[np.ndarray]] = defaultdict(list)
    everything: dict[str, list[np.ndarray]] = defaultdict(list)
    for r in recordings:
        everything[r.speaker].append(r.capture.shapes)
        if r.split == "dev" and r.speaker in trained:
            continue
        if r.emotion in ("neutral", "calm"):
            neutral[r.speaker].append(r.capture.shapes)
    rest = {}
    # What is known of people who are trained and tested on comes from their recordings for training alone.
    for person, every in everything.items():
        shapes = np.concatenate(neutral.get(person) or every)
        opening = shapes @ opens
        closed = shapes[opening <= np.quantile(opening, CLOSED)].mean(0)
        rest[person] = np.where(mouth, closed, np.percentile(shapes, REST_PERCENTILE, axis=0))
    result = []
    for r in recordings:
        shapes = np.clip(r.capture.shapes - rest[r.speaker], -1, 1)
        # Least squares over all landmarks shuts a mouth only nearly, and on another face the same shapes shut it less
        # or more; a b with the lips nearly together is no b. So the gap that was seen is put between the lips.
        gap = np.where(np.isfinite(r.capture.gap), r.capture.gap * opens[names.index("jawOpen")], shapes @ opens)
        shapes[:, names.index("mouthClose")] += np.clip(
            (gap - shapes @ opens) / opens[names.index("mouthClose")], -0.3, 0.3
        )
        result.append(replace(r, capture=replace(r.capture, shapes=shapes.astype(np.float32))))
    return result


@dataclass(frozen=True, eq=False)
class Acted:
    """Frames of acted emotion.

    shapes: (N, S) blend-shape weights from rest; emotion: (N,) indices of EMOTIONS
    clip: (N,) the number of the recording a frame is from; identity: (clips, I) standardised coefficients of its person
    strong: (clips,) bool, whether it was to be acted strongly, or cannot be told apart
    """

    shapes: np.ndarray
    emotion: np.ndarray
    clip: np.ndarray
    identity: np.ndarray
    strong: np.ndarray


def acted(recordings: list[Fitted]) -> Acted:
    """The acted part of recordings."""
    shapes, emotions, clips = [], [], []
    for number, r in enumerate(recordings):
        count = len(r.capture.time)
        part = r.capture.shapes[int(ACTED[0] * count) : int(ACTED[1] * count)]
        shapes.append(part)
        emotions.append(np.full(len(part), EMOTIONS.index(r.emotion)))
        clips.append(np.full(len(part), number))
    # The third field of a RAVDESS name, VV-EE-II-SS-RR-AA, is the intensity; neutral is never strong.
    weak = [r.corpus == "ravdess" and r.emotion != "neutral" and r.name[6:8] == "01" for r in recordings]
    identity = np.stack([r.capture.identity for r in recordings])
    return Acted(np.concatenate(shapes), np.concatenate(emotions), np.concatenate(clips), identity, ~np.array(weak))
