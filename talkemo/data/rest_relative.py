"""Fitted recordings as training and test data: blend shapes relative to each person's rest, and acted frames."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass, replace

import numpy as np

from ..expression.emotions import EMOTIONS
from ..face.canonical import Face
from .captures import FittedRecording

# Part of each trial in which the emotion shows; actors begin and end at rest.
ACTED = (0.25, 0.8)
# Share of a person's neutral frames, those with the closest lips, whose mean is the mouth at rest.
CLOSED = 0.06
REST_PERCENTILE = 5  # of a blend shape of eyes and brows over a person's neutral frames, taken as its value at rest
MOST_CLOSING = (
    0.3  # weight of mouthClose that is added or taken away to bring the lips to the measured gap
)


def relative_to_rest(recordings: list[FittedRecording], face: Face) -> list[FittedRecording]:
    """The recordings relative to each person's resting face: shapes from about -1 to 1, 0 being that person's rest.

    Around the mouth rest is the mean of the frames whose lips are closest, so that lips that meet in the recording meet
    on the canonical face. A shape that is active at rest may become negative.
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
    # The rest of people with recordings in both splits comes from those of the training split.
    for person, every in everything.items():
        shapes = np.concatenate(neutral.get(person) or every)
        opening = shapes @ opens
        closed = shapes[opening <= np.quantile(opening, CLOSED)].mean(0)
        rest[person] = np.where(mouth, closed, np.percentile(shapes, REST_PERCENTILE, axis=0))
    result = []
    for r in recordings:
        shapes = np.clip(r.capture.shapes - rest[r.speaker], -1, 1)
        # Least squares over all landmarks leaves a closed mouth slightly open, and on another face the same shapes
        # close it less or more; a b whose lips do not meet is not a b. So mouthClose brings lips to the measured gap.
        gap = np.where(
            np.isfinite(r.capture.gap),
            r.capture.gap * opens[names.index("jawOpen")],
            shapes @ opens,
        )
        shapes[:, names.index("mouthClose")] += np.clip(
            (gap - shapes @ opens) / opens[names.index("mouthClose")], -MOST_CLOSING, MOST_CLOSING
        )
        result.append(replace(r, capture=replace(r.capture, shapes=shapes.astype(np.float32))))
    return result


@dataclass(frozen=True, eq=False)
class ActedFrames:
    """Frames of acted emotion.

    shapes: (N, S) blend-shape weights from rest; emotion: (N,) indices of EMOTIONS
    clip: (N,) number of the recording that a frame is from; identity: (clips, I) its person's standardised coefficients
    strong: (clips,) bool, false where the actor was asked for a weak emotion
    """

    shapes: np.ndarray
    emotion: np.ndarray
    clip: np.ndarray
    identity: np.ndarray
    strong: np.ndarray


def acted_frames(recordings: list[FittedRecording]) -> ActedFrames:
    """The acted part of recordings."""
    shapes, emotions, clips = [], [], []
    for number, r in enumerate(recordings):
        count = len(r.capture.time)
        part = r.capture.shapes[int(ACTED[0] * count) : int(ACTED[1] * count)]
        shapes.append(part)
        emotions.append(np.full(len(part), EMOTIONS.index(r.emotion)))
        clips.append(np.full(len(part), number))
    # The third field of a RAVDESS name is the intensity, 01 or 02; neutral has 01 only.
    weak = [
        r.corpus == "ravdess" and r.emotion != "neutral" and r.name[6:8] == "01" for r in recordings
    ]
    identity = np.stack([r.capture.identity for r in recordings])
    return ActedFrames(
        np.concatenate(shapes),
        np.concatenate(emotions),
        np.concatenate(clips),
        identity,
        ~np.array(weak),
    )
