"""Fitted corpora: the bilinear model fitted to every recording, bad recordings rejected by rule, one npz a corpus."""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import lru_cache
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import numpy as np

from ..capture.fitting import Capture, Fitter
from ..capture.landmarks import lip_pairs, schema
from ..errors import InputError
from ..face import Face, face_of_tensors
from ..files import atomic_write, read_npz, readable
from ..models import Models
from ..weights import load_weights
from . import corpora

Report = Callable[[str, int, int], None]  # called with what is being done, the steps done and their total

# A recording is rejected where tracking failed. Jumps are relative to the distance between the eyes, so that the rule
# means the same at every picture size (RAVDESS: 30 of about 150 px), and are the median's: single ones jump in a blink.
EYE_DISTANCE = 63.0  # mm between the middles of the eyes on the canonical face
LARGEST_JUMP = 0.2  # eye distances, of the median landmark from one frame to the next
LARGEST_RESIDUAL = 4.0  # mm, mean over the recording
LARGEST_SCALE_CHANGE = 0.25  # of the camera's scale, relative to the recording's median
LEAST_SEEN = 0.7  # share of the frames in which a face was found
RESTING_RECORDINGS = 16  # of a person, at most, that the identity is fitted to


@dataclass(frozen=True, eq=False)
class Fitted:
    """A fitted recording of a corpus. rejected: why it is not used, or empty."""

    corpus: str
    name: str
    speaker: str
    emotion: str
    split: str
    audio: str  # path under the data folder
    capture: Capture
    rejected: str


def fit_corpus(
    corpus: str, data: Path, models: Models, jobs: int = 1, progress: Callable[[int, int], None] | None = None
) -> list[Fitted]:
    """Every recording of a corpus, fitted; those that the rules reject are marked, not left out.

    A first pass over all people measures where this corpus's landmarks lie beside their vertices; the second pass fits
    with that offset. Raises InputError where the corpus is not there or has no recording with a face in it.
    """
    face = models.face
    people: dict[str, list[corpora.Recording]] = defaultdict(list)
    for recording in corpora.read(corpus, data):
        # A recording without a face cannot be fitted, nor measured to be rejected.
        if np.isfinite(recording.landmarks).all((1, 2)).sum() > 1:
            people[recording.speaker].append(recording)
    if not people:
        raise InputError(f"{data / corpus}: no recording with a face in it", "is the corpus complete?")
    points = next(iter(people.values()))[0].points
    keep, operator, weights = schema(face, points)
    # Measured on people of the training split, the offset holds for the others too.
    trained = [p for p, recordings in people.items() if any(r.split == "train" for r in recordings)]
    pairs = lip_pairs(None if points is None else points[keep])
    fitter = Fitter(face, operator, weights, pairs=pairs)
    offsets = [fitter.fit_person(_resting(people[person], keep))[1] for person in trained]
    offset = np.mean(offsets, axis=0)

    tasks = [
        (person, people[person], keep, operator, weights, offset, pairs, models.path("face"), data) for person in people
    ]
    total, done, fitted = sum(map(len, people.values())), 0, []
    with get_context("spawn").Pool(jobs) as pool:
        for part in pool.imap(_fit_one_person, tasks):
            fitted += part
            done += len(part)
            if progress:
                progress(done, total)
    return fitted


def _resting(recordings: list[corpora.Recording], keep: np.ndarray) -> list[np.ndarray]:
    """Landmarks of a person's recordings that begin at rest: the neutral and calm ones, if there are any.

    Of a person with recordings in both splits, only those of the training split.
    """
    recordings = [r for r in recordings if r.split == "train"] or recordings
    calm = [r for r in recordings if r.emotion in ("neutral", "calm")] or recordings
    return [r.landmarks[:, keep] for r in calm[:RESTING_RECORDINGS] if np.isfinite(r.landmarks[:, 0, 0]).any()]


@lru_cache(maxsize=1)
def _face_of_process(path: Path) -> Face:
    """The face of a weights file, read once in each process."""
    return face_of_tensors(*load_weights(path, "face"))


def _fit_one_person(task: tuple) -> list[Fitted]:
    _, recordings, keep, operator, weights, offset, pairs, face_path, data = task
    face = _face_of_process(face_path)
    resting = _resting(recordings, keep)
    identity, own = Fitter(face, operator, weights, offset, pairs).fit_person(resting)
    # A person's own offset counts the more, the more recordings show it.
    trust = len(resting) / (len(resting) + 2)
    fitter = Fitter(face, operator, weights, offset + trust * own, pairs)
    fitter.learn_closed_mouth(resting, identity)
    result = []
    for r in recordings:
        landmarks = r.landmarks[:, keep]
        capture = fitter.fit(landmarks, r.time, identity)
        reason = why_rejected(landmarks, weights, capture)
        audio = r.audio.relative_to(data).as_posix()
        result.append(Fitted(r.corpus, r.name, r.speaker, r.emotion, r.split, audio, capture, reason))
    return result


def why_rejected(landmarks: np.ndarray, weights: np.ndarray, capture: Capture) -> str:
    """Why a recording is rejected, or an empty string. landmarks: (T, P, 2) px, weights: (P,)."""
    if capture.seen.mean() < LEAST_SEEN:
        return "face not found"
    inner = landmarks[:, weights == weights.max()]
    eyes = EYE_DISTANCE * np.median(capture.scale)
    jumps = np.median(np.linalg.norm(np.diff(inner, axis=0), axis=2), axis=1)
    if np.nanmax(jumps) > LARGEST_JUMP * eyes:
        return "face jumps"
    if np.abs(capture.scale / np.median(capture.scale) - 1).max() > LARGEST_SCALE_CHANGE:
        return "size jumps"
    if capture.residual.mean() > LARGEST_RESIDUAL:
        return "no face fits"
    return ""


def save_captures(path: Path, fitted: list[Fitted], face: Face) -> None:
    """Write recordings fitted with a face to one npz without pickles."""
    arrays: dict[str, Any] = {
        name: np.concatenate([getattr(f.capture, name) for f in fitted])
        for name in ("shapes", "rotation", "scale", "translation", "residual", "time", "seen", "gap")
    }
    arrays["start"] = np.cumsum([0] + [len(f.capture.time) for f in fitted])
    arrays["identity"] = np.stack([f.capture.identity for f in fitted])
    table = [[f.corpus, f.name, f.speaker, f.emotion, f.split, f.audio, f.rejected] for f in fitted]
    path.parent.mkdir(parents=True, exist_ok=True)
    with atomic_write(path) as partial:
        np.savez_compressed(partial, recordings=json.dumps(table), face=face.fingerprint, **arrays)


def read_captures(path: Path, face: Face) -> list[Fitted]:
    """The recordings of a file that `save_captures` wrote.

    Raises InputError where it is another file, or was fitted with another face.
    """
    with readable(path, "a file of captures", "remove it to have it made anew"):
        arrays = read_npz(path, "a file of captures")
        table, start, identity = json.loads(str(arrays.pop("recordings"))), arrays.pop("start"), arrays.pop("identity")
        if "gap" not in arrays:
            raise InputError(f"{path}: fitted by an older talkemo", "remove the file to have it made anew")
        if str(arrays.pop("face")) != face.fingerprint:
            raise InputError(f"{path}: fitted with another face model", "remove the file to have it made anew")
        fitted = []
        for k, (corpus, name, speaker, emotion, split, audio, rejected) in enumerate(table):
            own = {key: array[start[k] : start[k + 1]] for key, array in arrays.items()}
            capture = Capture(**own, identity=identity[k])
            fitted.append(Fitted(corpus, name, speaker, emotion, split, audio, capture, rejected))
    return fitted


def load_captures(
    data: Path,
    cache: Path,
    models: Models,
    names: tuple[str, ...] = corpora.CORPORA,
    jobs: int = 1,
    progress: Report | None = None,
) -> Iterator[Fitted]:
    """The recordings of corpora that are not rejected, from `cache`/CORPUS.npz.

    Corpora without such a file are fitted, and the file is written, first. progress: called with the corpus, the
    recordings done and their total
    """
    face = models.face
    for corpus in names:
        path = cache / f"{corpus}.npz"
        if not path.is_file():
            report = None if progress is None else (lambda d, t, c=corpus: progress(c, d, t))
            save_captures(path, fit_corpus(corpus, data, models, jobs, report), face)
        yield from (f for f in read_captures(path, face) if not f.rejected)


def summary(fitted: list[Fitted]) -> dict[str, object]:
    """Figures of a fitted corpus: recordings, rejected by reason, frames, residual in mm of those kept."""
    reasons: dict[str, int] = defaultdict(int)
    for f in fitted:
        if f.rejected:
            reasons[f.rejected] += 1
    kept = [f.capture for f in fitted if not f.rejected]
    residual = np.concatenate([c.residual[c.seen] for c in kept] or [np.full(1, np.nan)])
    return {
        "recordings": len(fitted),
        "rejected": dict(reasons),
        "frames": len(residual),
        "people": len({f.speaker for f in fitted}),
        "residual_mm": round(float(residual.mean()), 3),
        "residual_p95_mm": round(float(np.percentile(residual, 95)), 3),
    }
