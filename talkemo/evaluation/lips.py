"""How well the talking model moves the lips, on neutral recordings of the dev split."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from ..audio.recording import open_audio
from ..data import facegood
from ..data.captures import FittedRecording, Report, load_captures
from ..data.corpora import CORPORA, with_context
from ..data.motion import from_rest
from ..data.phones import Phone
from ..errors import InputError
from ..face.canonical import Face
from ..weights.models import Models
from . import metrics
from .closures import Closures, count_closures

CLOSING_WORDS = (
    "bin",
    "blue",
    "by",
    "place",
    "please",
    "b",
    "m",
    "p",
)  # GRID's words with a b, m or p at which lips close
ALIGN_RATE = 25000  # time units a second in GRID's alignments
CLOSED = 2.5  # mm between the middles of the lips up to which they count as closed; the canonical face at rest has 0.8
NO_CLOSURES = Closures()
FINE_FPS = 60  # frames a second at which closures at phones are sought
# s around the beginning of a word, and around its end for the letter m, which is spoken em, in which its lips close.
AT_BEGINNING, AT_END = (-0.08, 0.12), (-0.16, 0.08)


def evaluate_lips(
    data: Path,
    cache: Path,
    models: Models,
    *,
    split: str = "dev",
    phones: dict[str, list[Phone]] | None = None,
    jobs: int = 1,
    progress: Report | None = None,
) -> dict[str, Any]:
    """RE, VE and correlations of the talking model on neutral recordings of a split, a row a corpus; means over clips.

    The speakers of the dev split are unknown to the model except in grid_s1 and facegood, which have one: there the
    sentences are unknown. The bundled sets have been trained on the recordings of the training split.
    Beside the model stand a face that does not move (`still`) and the mean shape of the training recordings
    (`mean_motion`). Captures are read from `cache` and made there where missing, see `load_captures`.
    phones: of recordings by name, see `read_phones`; a row's `phones` then has recall and precision of closures, of the
    predicted and of the captured lips, see `Closures`
    Raises InputError where the split has no neutral recording, or the training's.
    """
    face = models.face
    present = tuple(corpus for corpus in CORPORA if (data / corpus).is_dir())
    recordings = from_rest(list(load_captures(data, cache, models, present, jobs, progress)), face)
    if (data / facegood.CORPUS).is_dir():
        recordings += facegood.read(data, face)
    neutral = [r for r in recordings if r.emotion in ("neutral", "calm")]
    trained = [r.capture.shapes for r in neutral if r.split == "train"]
    if not trained:
        raise InputError(
            f"{data}: no neutral recordings of the training split",
            "is it the folder of the corpora?",
        )
    lips = face.regions["lips"]
    average = face.displacement(np.concatenate(trained).mean(0))[lips]
    if not any(r.split == split for r in neutral):
        there = ", ".join(sorted({r.split for r in neutral}))
        raise InputError(
            f"{data}: no neutral recordings of the split '{split}'", f"there are those of {there}"
        )
    tested = [r for r in neutral if r.split == split]
    if phones is not None and not any(r.name in phones for r in tested):
        raise InputError(
            "the file of phones has none of the recordings of this split",
            "its keys are recordings' names",
        )
    rows = []
    for corpus in (*present, facegood.CORPUS):
        of_corpus = [r for r in tested if r.corpus == corpus]
        measured = []
        for number, clip in enumerate(_measured(of_corpus, data, models, average, phones or {})):
            measured.append(clip)
            if progress:
                progress(corpus, number + 1, len(of_corpus))
        if measured:
            rows.append(_row(corpus, measured))
    return {
        "mask": "lips",
        "mask_vertices": int(lips.sum()),
        "together_mm": CLOSED,
        "split": split,
        "corpora": rows,
    }


@dataclass(frozen=True)
class _Measured:
    """What is measured of a clip.

    metrics: by their names; closed: for each closure that GRID's alignment says, whether the predicted and whether the
    captured lips are closed; predicted, captured: closures by phones, none where these are not known
    """

    metrics: dict[str, float]
    closed: list[tuple[bool, bool]]
    predicted: Closures = NO_CLOSURES
    captured: Closures = NO_CLOSURES


def _measured(
    tested: list[FittedRecording],
    data: Path,
    models: Models,
    average: np.ndarray,
    phones: dict[str, list[Phone]],
) -> Iterator[_Measured]:
    """The metrics of each recording. average: (lips, 3) mm, the mean motion of training."""
    for r in tested:
        audio = open_audio(data / r.audio)
        kept = with_context(r.corpus, r.capture.time, audio.duration)
        motion = models.talking.motion(audio, r.capture.time[kept])
        predicted = motion.displacement(models.face)
        reference = r.capture.motion(models.face).displacement(models.face)[kept]
        closed = []
        align = data / r.corpus / "align" / f"{r.name}.align"
        if align.is_file():
            opening = [metrics.mouth_opening(d, models.face) for d in (predicted, reference)]
            for frame in closing_frames(align, r.capture.time, opening[1]):
                near = slice(max(0, frame - 1), frame + 2)
                closed.append((opening[0][near].min() <= CLOSED, opening[1][near].min() <= CLOSED))
        of_clip = _clip_metrics(predicted, reference, average, models.face)
        if r.name not in phones:
            yield _Measured(of_clip, closed)
            continue
        # Closures are short: the model is asked for more frames than the corpus has.
        fine = models.talking.motion(audio, np.arange(int(audio.duration * FINE_FPS)) / FINE_FPS)
        captured = r.capture.motion(models.face).lip_opening(models.face)
        yield _Measured(
            of_clip,
            closed,
            count_closures(fine.times, fine.lip_opening(models.face), phones[r.name]),
            count_closures(r.capture.time, captured, phones[r.name]),
        )


def _clip_metrics(
    predicted: np.ndarray, reference: np.ndarray, average: np.ndarray, face: Face
) -> dict[str, float]:
    """The metrics of displacements (T, V, 3) mm of one clip."""
    opening, true_opening = (
        metrics.mouth_opening(predicted, face),
        metrics.mouth_opening(reference, face),
    )
    width, true_width = metrics.mouth_width(predicted, face), metrics.mouth_width(reference, face)
    lips = face.regions["lips"]
    p, g = predicted[:, lips], reference[:, lips]
    still = np.zeros_like(g)
    return {
        "re_mm": metrics.reconstruction_error(p, g),
        "re_still_mm": metrics.reconstruction_error(still, g),
        "re_mean_motion_mm": metrics.reconstruction_error(still + average, g),
        "ve_mm": metrics.velocity_error(p, g),
        "ve_still_mm": metrics.velocity_error(still, g),
        "r_opening": metrics.pearson(opening, true_opening),
        "r_width": metrics.pearson(width, true_width),
        "amplitude": float(opening.std() / max(true_opening.std(), 1e-9)),
    }


def _row(corpus: str, clips: list[_Measured]) -> dict[str, Any]:
    """The means of a corpus, and the shares of its closures at which predicted and captured lips are together."""
    row: dict[str, Any] = {"corpus": corpus, "clips": len(clips)}
    row |= {
        name: float(np.mean([clip.metrics[name] for clip in clips])) for name in clips[0].metrics
    }
    closed = [pair for clip in clips for pair in clip.closed]
    if closed:
        row["closures"] = len(closed)
        row["together"], row["together_reference"] = np.mean(closed, axis=0).tolist()
    of_phones = {
        kind: sum((getattr(c, kind) for c in clips), NO_CLOSURES)
        for kind in ("predicted", "captured")
    }
    if of_phones["predicted"].spoken:
        row["phones"] = {
            kind: {
                "spoken": c.spoken,
                "closures": c.found,
                "recall": c.recall,
                "precision": c.precision if c.found else None,
            }
            for kind, c in of_phones.items()
        }
    return row


def closing_frames(align: Path, time: np.ndarray, opening: np.ndarray) -> list[int]:
    """Frames in which the lips of a GRID recording close for the b, m or p of a word, by its alignment file.

    opening: (T,) mm of the reference at time (T,) s. Around each such word the frame with the least opening is taken.
    """
    frames = []
    for line in align.read_text("utf-8").splitlines():
        fields = line.split()
        if len(fields) != 3 or fields[2] not in CLOSING_WORDS:
            continue
        start, end = int(fields[0]) / ALIGN_RATE, int(fields[1]) / ALIGN_RATE
        (before, after), at = (AT_END, end) if fields[2] == "m" else (AT_BEGINNING, start)
        inside = np.flatnonzero((time >= at + before) & (time <= at + after))
        if len(inside):
            frames.append(int(inside[opening[inside].argmin()]))
    return frames
