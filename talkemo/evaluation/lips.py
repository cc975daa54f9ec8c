"""Metrics of the talking model's lips on the neutral recordings of a split."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from ..audio.recording import Audio, open_audio
from ..data import facegood
from ..data.captures import FittedRecording, StepProgress, load_captures
from ..data.corpora import present_corpora, with_context
from ..data.phones import Phone
from ..data.rest_relative import relative_to_rest
from ..errors import InputError
from ..face.canonical import Face
from ..weights.models import Models
from . import metrics
from .by_phone import lip_measures, lips_by_phone
from .closures import Closures, count_closures
from .timing import (
    frame_rate,
    intensity_correlation,
    soft_dtw,
    temporal_misalignment,
)

# Words of GRID with a b, m or p, for which lips close.
GRID_CLOSING_WORDS = ("bin", "blue", "by", "place", "please", "b", "m", "p")
GRID_TICKS_PER_S = 25000  # time unit of GRID's alignments
# Where lips close, in s around the beginning of a word, and around the end of the letter m (em).
WORD_BEGINNING_S, LETTER_M_END_S = (-0.08, 0.12), (-0.16, 0.08)
CLOSED_LIPS_MM = 2.5  # greatest distance of closed inner lips; the canonical face at rest has 0.8
CLOSURE_FPS = 60  # of predictions searched for closures, which are short
NO_CLOSURES = Closures()
PhoneRecording = tuple[np.ndarray, np.ndarray, list[Phone]]  # see `lips_by_phone`


def evaluate_lips(
    data: Path,
    cache: Path,
    models: Models,
    *,
    split: str = "dev",
    phones: dict[str, list[Phone]] | None = None,
    jobs: int = 1,
    progress: StepProgress | None = None,
) -> dict[str, Any]:
    """Measure the talking model on the neutral recordings of a split.

    The model has not seen the speakers of the dev split, except for grid_s1 and facegood, which
    have one speaker: there it has not seen the sentences.

    Parameters
    ----------
    data, cache, models, jobs, progress
        As in `load_captures`.
    split : str
        One of `recordings.SPLITS`. The bundled sets of weights were trained on `train`.
    phones : dict of str to list of Phone, optional
        Phones by recording, see `read_phones`, for recall and precision of closures.

    Returns
    -------
    dict
        `corpora`: one row per corpus, means over clips of RE, VE, correlations, amplitude, also for
        a motionless face (`still`) and for the mean motion of the training split (`mean_motion`).

    Raises
    ------
    InputError
        If the split or the training split has no neutral recording, or `phones` none of the split.
    """
    present = present_corpora(data)
    captured = load_captures(data, cache, models, present, jobs, progress)
    recordings = relative_to_rest(list(captured), models.face)
    if (data / facegood.CORPUS).is_dir():
        recordings += facegood.read_facegood(data, models.face)
    neutral = [r for r in recordings if r.emotion in ("neutral", "calm")]
    mean_motion = _mean_training_motion(neutral, data, models.face)
    tested = _recordings_of_split(neutral, data, split, phones)
    rows = []
    for corpus in (*present, facegood.CORPUS):
        of_corpus = [r for r in tested if r.corpus == corpus]
        clips = []
        for clip in _measured_clips(of_corpus, data, models, mean_motion, phones or {}):
            clips.append(clip)
            if progress:
                progress(corpus, len(clips), len(of_corpus))
        if clips:
            rows.append(_corpus_row(corpus, clips))
    return {
        "mask": "lips",
        "mask_vertices": int(models.face.regions["lips"].sum()),
        "together_mm": CLOSED_LIPS_MM,
        "split": split,
        "corpora": rows,
    }


def _mean_training_motion(recordings: list[FittedRecording], data: Path, face: Face) -> np.ndarray:
    """Mean displacement (lip vertices, 3) mm of the lips over the training split's frames."""
    weights = [r.capture.shapes for r in recordings if r.split == "train"]
    if not weights:
        raise InputError(
            f"{data}: no neutral recordings of the training split",
            "check the folder of the corpora",
        )
    return face.displacement(np.concatenate(weights).mean(0))[face.regions["lips"]]


def _recordings_of_split(
    recordings: list[FittedRecording],
    data: Path,
    split: str,
    phones: dict[str, list[Phone]] | None,
) -> list[FittedRecording]:
    """The recordings of a split; raises InputError if none exist, or none of them in `phones`."""
    tested = [r for r in recordings if r.split == split]
    if not tested:
        splits = ", ".join(sorted({r.split for r in recordings}))
        raise InputError(
            f"{data}: no neutral recordings of the split '{split}'", f"choose from {splits}"
        )
    if phones is not None and not any(r.name in phones for r in tested):
        raise InputError(
            "the file of phones contains no recording of this split",
            "its keys are recordings' names",
        )
    return tested


@dataclass(frozen=True)
class _MeasuredClip:
    """Metrics and closures of one recording."""

    metrics: dict[str, float]  # NaN for those that a clip does not have
    closed: list[tuple[bool, bool]]  # at each closure of GRID's alignment: predicted, captured
    predicted: Closures = NO_CLOSURES  # by phones
    captured: Closures = NO_CLOSURES
    # Times, `lip_measures` and phones: predicted, captured; None without phones.
    at_phones: tuple[PhoneRecording, PhoneRecording] | None = None


def _measured_clips(
    recordings: list[FittedRecording],
    data: Path,
    models: Models,
    mean_motion: np.ndarray,
    phones: dict[str, list[Phone]],
) -> Iterator[_MeasuredClip]:
    """Predict each recording from its audio and measure it against the capture."""
    face = models.face
    for r in recordings:
        audio = open_audio(data / r.audio)
        with_audio = with_context(r.corpus, r.capture.time, audio.duration)
        motion = models.talking.motion(audio, r.capture.time[with_audio])
        predicted = motion.displacement(face)
        reference = r.capture.motion(face).displacement(face)[with_audio]
        closed = []
        align = data / r.corpus / "align" / f"{r.name}.align"
        if align.is_file():
            opening = metrics.mouth_opening(predicted, face)
            true_opening = metrics.mouth_opening(reference, face)
            for frame in closing_frames(align, r.capture.time, true_opening):
                near = slice(max(0, frame - 1), frame + 2)
                closed.append(
                    (
                        opening[near].min() <= CLOSED_LIPS_MM,
                        true_opening[near].min() <= CLOSED_LIPS_MM,
                    )
                )
        of_clip = _clip_metrics(predicted, reference, mean_motion, face)
        of_clip |= _timing_of_clip(
            predicted, reference, motion.loudness, r.capture.time[with_audio], face
        )
        if r.name in phones:
            at_phones = _lips_at_phones(models, audio, r, phones[r.name])
            predicted_closures, captured_closures = (
                count_closures(times, lips[:, 0], spoken) for times, lips, spoken in at_phones
            )
            yield _MeasuredClip(of_clip, closed, predicted_closures, captured_closures, at_phones)
        else:
            yield _MeasuredClip(of_clip, closed)


def _lips_at_phones(
    models: Models, audio: Audio, recording: FittedRecording, phones: list[Phone]
) -> tuple[PhoneRecording, PhoneRecording]:
    """The predicted and the captured lips of a recording, and its phones."""
    times = np.arange(int(audio.duration * CLOSURE_FPS)) / CLOSURE_FPS
    predicted = models.talking.motion(audio, times).coordinates
    captured = recording.capture.motion(models.face).coordinates
    return (
        (times, lip_measures(models.face, predicted), phones),
        (recording.capture.time, lip_measures(models.face, captured), phones),
    )


def _timing_of_clip(
    predicted: np.ndarray,
    reference: np.ndarray,
    loudness: np.ndarray | None,
    times: np.ndarray,
    face: Face,
) -> dict[str, float]:
    """Metrics of timing of displacements (T, V, 3) mm at `times` (T,) s; NaN where undefined."""
    fps = frame_rate(times)
    opening = metrics.mouth_opening(predicted, face)
    true_opening = metrics.mouth_opening(reference, face)
    level = np.zeros(len(times)) if loudness is None else loudness
    misalignment = temporal_misalignment(opening, true_opening, fps)
    values = {
        "mtm_ms": None if misalignment is None else 1000 * misalignment,
        "soft_dtw": soft_dtw(opening, true_opening, fps),
        "slcc": intensity_correlation(opening, level, fps),
        "slcc_reference": intensity_correlation(true_opening, level, fps),
    }
    return {name: float("nan") if value is None else value for name, value in values.items()}


def _clip_metrics(
    predicted: np.ndarray, reference: np.ndarray, mean_motion: np.ndarray, face: Face
) -> dict[str, float]:
    """Metrics of displacements (T, V, 3) mm of one clip; `mean_motion` (lip vertices, 3) mm."""
    opening = metrics.mouth_opening(predicted, face)
    true_opening = metrics.mouth_opening(reference, face)
    width, true_width = metrics.mouth_width(predicted, face), metrics.mouth_width(reference, face)
    lips = face.regions["lips"]
    p, g = predicted[:, lips], reference[:, lips]
    still = np.zeros_like(g)
    return {
        "re_mm": metrics.reconstruction_error(p, g),
        "re_still_mm": metrics.reconstruction_error(still, g),
        "re_mean_motion_mm": metrics.reconstruction_error(still + mean_motion, g),
        "ve_mm": metrics.velocity_error(p, g),
        "ve_still_mm": metrics.velocity_error(still, g),
        "r_opening": metrics.pearson(opening, true_opening),
        "r_width": metrics.pearson(width, true_width),
        "amplitude": float(opening.std() / max(true_opening.std(), 1e-9)),
        "amplitude_width": float(width.std() / max(true_width.std(), 1e-9)),
    }


def _corpus_row(corpus: str, clips: list[_MeasuredClip]) -> dict[str, Any]:
    """Means over the clips of a corpus, and shares of the closures with closed lips."""
    row: dict[str, Any] = {"corpus": corpus, "clips": len(clips)}
    for name in clips[0].metrics:
        values = [clip.metrics[name] for clip in clips]
        row[name] = float(np.nanmean(values)) if np.isfinite(values).any() else None
    closed = [pair for clip in clips for pair in clip.closed]
    if closed:
        row["closures"] = len(closed)
        row["together"], row["together_reference"] = np.mean(closed, axis=0).tolist()
    predicted = sum((clip.predicted for clip in clips), NO_CLOSURES)
    captured = sum((clip.captured for clip in clips), NO_CLOSURES)
    if predicted.bilabials:
        row["phones"] = {
            name: {
                "spoken": counts.bilabials,
                "closures": counts.total_closures,
                "recall": counts.recall,
                "precision": counts.precision if counts.total_closures else None,
            }
            for name, counts in (("predicted", predicted), ("captured", captured))
        }
    at_phones = [clip.at_phones for clip in clips if clip.at_phones is not None]
    if at_phones:
        row["by_phone"] = {
            name: lips_by_phone(recordings).table()
            for name, recordings in zip(("predicted", "captured"), zip(*at_phones))
        }
    return row


def closing_frames(align: Path, times: np.ndarray, opening: np.ndarray) -> list[int]:
    """Frames of a GRID recording in which the lips close for the b, m or p of a word.

    Around each such word of the alignment file, the frame with the smallest opening is taken.

    Parameters
    ----------
    align : Path
        GRID's alignment: lines of start, end and word.
    times : (T,)
        Times of the frames in s.
    opening : (T,)
        Opening of the reference's mouth in mm.
    """
    frames = []
    for line in align.read_text("utf-8").splitlines():
        fields = line.split()
        if len(fields) != 3 or fields[2] not in GRID_CLOSING_WORDS:
            continue
        start, end = int(fields[0]) / GRID_TICKS_PER_S, int(fields[1]) / GRID_TICKS_PER_S
        at_end = fields[2] == "m"
        at, (before, after) = (end, LETTER_M_END_S) if at_end else (start, WORD_BEGINNING_S)
        inside = np.flatnonzero((times >= at + before) & (times <= at + after))
        if len(inside):
            frames.append(int(inside[opening[inside].argmin()]))
    return frames
