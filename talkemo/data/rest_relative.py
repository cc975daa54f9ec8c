"""Fitted recordings relative to each person's expression at rest, and acted frames of them."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass, replace

import numpy as np

from ..expression.emotions import EMOTIONS
from ..face.canonical import Face
from .captures import FittedRecording

# The span of each trial, in fractions of its length, that shows the emotion: actors begin and end
# at rest.
ACTED_SPAN = (0.25, 0.8)
# The mouth at rest is the mean of this fraction of a person's neutral frames, those with the
# closest lips.
CLOSED_FRACTION = 0.06
# Percentile over a person's neutral frames that is a blend shape of eyes and brows at rest.
REST_PERCENTILE = 5
# Largest weight of mouthClose that is added or removed to bring the lips to the measured gap.
MAX_MOUTH_CLOSE = 0.3


def relative_to_rest(recordings: list[FittedRecording], face: Face) -> list[FittedRecording]:
    """Return recordings whose weights, from −1 to 1, are relative to the person's face at rest.

    Around the mouth, rest is the mean of the frames with the closest lips, so that lips that meet
    in the recording meet on the canonical face. A shape that is active at rest may become negative.
    """
    opening = face.lip_opening(face.expression_basis)
    jaw_open, mouth_close = map(face.expression_names.index, ("jawOpen", "mouthClose"))
    rest = _rest(recordings, face, opening)
    result = []
    for recording in recordings:
        capture = recording.capture
        shapes = np.clip(capture.shapes - rest[recording.speaker], -1, 1)
        # Least squares over all landmarks leaves a closed mouth slightly open, and on another face
        # the same weights close it less or more; but the lips must meet for a b. So mouthClose
        # brings the lips to the measured gap.
        measured = capture.gap * opening[jaw_open]
        gap = np.where(np.isfinite(capture.gap), measured, shapes @ opening)
        change = (gap - shapes @ opening) / opening[mouth_close]
        shapes[:, mouth_close] += np.clip(change, -MAX_MOUTH_CLOSE, MAX_MOUTH_CLOSE)
        capture = replace(capture, shapes=shapes.astype(np.float32))
        result.append(replace(recording, capture=capture))
    return result


def _rest(
    recordings: list[FittedRecording], face: Face, opening: np.ndarray
) -> dict[str, np.ndarray]:
    """Return each person's blend-shape weights at rest (S,).

    `opening` (S,) is the lip opening that each shape makes. The rest of people with recordings in
    both splits comes from the training split.
    """
    mouth = np.array([name.startswith(("jaw", "mouth")) for name in face.expression_names])
    trained = {recording.speaker for recording in recordings if recording.split == "train"}
    neutral: dict[str, list[np.ndarray]] = defaultdict(list)
    every_shape: dict[str, list[np.ndarray]] = defaultdict(list)
    for recording in recordings:
        every_shape[recording.speaker].append(recording.capture.shapes)
        held_out = recording.split == "dev" and recording.speaker in trained
        if recording.emotion in ("neutral", "calm") and not held_out:
            neutral[recording.speaker].append(recording.capture.shapes)
    rest = {}
    for person in every_shape:
        shapes = np.concatenate(neutral.get(person) or every_shape[person])
        lips = shapes @ opening
        closed = shapes[lips <= np.quantile(lips, CLOSED_FRACTION)].mean(0)
        rest[person] = np.where(mouth, closed, np.percentile(shapes, REST_PERCENTILE, axis=0))
    return rest


@dataclass(frozen=True, eq=False)
class ActedFrames:
    """N frames of acted emotion from several recordings."""

    shapes: np.ndarray  # (N, S) blend-shape weights relative to rest
    emotion: np.ndarray  # (N,) indices of EMOTIONS
    clip: np.ndarray  # (N,) number of the recording that a frame is from
    identity: np.ndarray  # (clips, I) standardised identity coefficients
    strong: np.ndarray  # (clips,) bool, False if the actor was asked for a weak emotion


def acted_frames(recordings: list[FittedRecording]) -> ActedFrames:
    """Return the acted span of recordings."""
    shapes, emotions, clips = [], [], []
    for number, recording in enumerate(recordings):
        first, last = (int(share * len(recording.capture.time)) for share in ACTED_SPAN)
        acted = recording.capture.shapes[first:last]
        shapes.append(acted)
        emotions.append(np.full(len(acted), EMOTIONS.index(recording.emotion)))
        clips.append(np.full(len(acted), number))
    return ActedFrames(
        np.concatenate(shapes),
        np.concatenate(emotions),
        np.concatenate(clips),
        identity=np.stack([recording.capture.identity for recording in recordings]),
        strong=~np.array([_is_weak(recording) for recording in recordings]),
    )


def _is_weak(recording: FittedRecording) -> bool:
    """Whether the actor was asked for a weak emotion.

    The third field of a RAVDESS name is the intensity, 01 or 02; neutral recordings have only 01.
    """
    is_graded = recording.corpus == "ravdess" and recording.emotion != "neutral"
    return is_graded and recording.name[6:8] == "01"
