"""Fitted corpora: the bilinear model fitted to every recording, bad recordings rejected by rule, one npz a corpus."""

from __future__ import annotations

import json
import re
from collections import defaultdict
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np

from ..capture.fitting import PER_FRAME, Capture, Fitter
from ..capture.landmarks import lip_pairs, schema
from ..compute.workers import map_tasks
from ..errors import InputError
from ..face.canonical import Face, face_of_tensors
from ..files.arrays import NpzFile, read_npz
from ..files.cache import corpus_digest, digest, read_cached, sha256, write_cached
from ..files.reading import open_file, reading_errors
from ..files.writing import atomic_write
from ..weights.files import load_weights
from ..weights.models import Models
from . import corpora

Report = Callable[
    [str, int, int], None
]  # called with what is being done, the steps done and their total

# A recording is rejected where tracking failed. Jumps are relative to the distance between the eyes, so that the rule
# means the same at every picture size (RAVDESS: 30 of about 150 px), and are the median's: single ones jump in a blink.
EYE_DISTANCE = 63.0  # mm between the middles of the eyes on the canonical face
LARGEST_JUMP = 0.2  # eye distances, of the median landmark from one frame to the next
LARGEST_RESIDUAL = 4.0  # mm, mean over the recording
LARGEST_SCALE_CHANGE = 0.25  # of the camera's scale, relative to the recording's median
LEAST_SEEN = 0.7  # share of the frames in which a face was found
RESTING_RECORDINGS = 16  # of a person, at most, that the identity is fitted to

FIT_VERSION = 1  # of this module and of capture/: raised when they fit otherwise, so that no older fit is gone on with
# Files of a folder of finished people: those of people, and what a process that was killed left half written.
KEPT_NAME = re.compile(r"[A-Za-z0-9_-]+-[0-9a-f]{8}\.(offset|captures)\.npz|\.talkemo-\d+-\w+\.npz")


@dataclass(frozen=True, eq=False)
class FittedRecording:
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
    corpus: str,
    data: Path,
    models: Models,
    jobs: int = 1,
    progress: Callable[[int, int], None] | None = None,
    finished: FinishedPeople | None = None,
    scheduler: str | None = None,
) -> list[FittedRecording]:
    """Every recording of a corpus, fitted; those that the rules reject are marked, not left out.

    A first pass over all people measures where this corpus's landmarks lie beside their vertices; the second pass fits
    with that offset. Raises InputError where the corpus is not there or has no recording with a face in it.

    finished: where people are kept as soon as they are fitted, and taken from instead of being fitted again
    jobs, scheduler: see `workers.map_tasks`; the machines of a cluster see all folders by the same names
    """
    people = _people(corpus, data)
    face, face_path = models.face, models.path("face")
    points = next(iter(people.values()))[0].points
    keep, operator, weights = schema(face, points)
    pairs = lip_pairs(None if points is None else points[keep])
    total = sum(map(len, people.values()))
    common = digest(FIT_VERSION, sha256(face_path), points)
    origin = {
        person: digest(common, *(_origin(r, data) for r in recordings))
        for person, recordings in people.items()
    }

    # Measured on people of the training split, the offset holds for the others too.
    trained = [
        person
        for person, recordings in people.items()
        if any(r.split == "train" for r in recordings)
    ]
    fitter = Fitter(face, operator, weights, pairs=pairs)
    offsets = []
    for person in trained:
        own = finished.offset(person, origin[person]) if finished else None
        if own is None:
            _, own = fitter.fit_person(_resting(people[person], keep))
            if finished:
                finished.keep_offset(person, origin[person], own)
        offsets.append(own)
    offset = np.mean(offsets, axis=0)

    origin = {person: digest(known, offset) for person, known in origin.items()}
    kept = (
        {person: finished.recordings(person, origin[person], face) for person in people}
        if finished
        else {}
    )
    done = {person: found for person, found in kept.items() if found is not None}
    tasks = [
        Task(
            person,
            recordings,
            keep,
            operator,
            weights,
            offset,
            pairs,
            face_path,
            data,
            origin[person],
            finished,
        )
        for person, recordings in people.items()
        if person not in done
    ]
    if done and progress:
        progress(sum(map(len, done.values())), total)
    if tasks:
        for part in map_tasks(_fit_one_person, tasks, jobs, scheduler):
            done[part[0].speaker] = part
            if progress:
                progress(sum(map(len, done.values())), total)
    return [recording for person in people for recording in done[person]]


def _people(corpus: str, data: Path) -> dict[str, list[corpora.Recording]]:
    """The recordings of each person of a corpus. Raises InputError where it is not there or has no face in it."""
    people: dict[str, list[corpora.Recording]] = defaultdict(list)
    for recording in corpora.read(corpus, data):
        # A recording without a face cannot be fitted, nor measured to be rejected.
        if np.isfinite(recording.landmarks).all((1, 2)).sum() > 1:
            people[recording.speaker].append(recording)
    if not people:
        raise InputError(
            f"{data / corpus}: no recording with a face in it", "is the corpus complete?"
        )
    return people


def _resting(recordings: list[corpora.Recording], keep: np.ndarray) -> list[np.ndarray]:
    """Landmarks of a person's recordings that begin at rest: the neutral and calm ones, if there are any.

    Of a person with recordings in both splits, only those of the training split.
    """
    recordings = [r for r in recordings if r.split == "train"] or recordings
    calm = [r for r in recordings if r.emotion in ("neutral", "calm")] or recordings
    return [
        r.landmarks[:, keep]
        for r in calm[:RESTING_RECORDINGS]
        if np.isfinite(r.landmarks[:, 0, 0]).any()
    ]


@lru_cache(maxsize=1)
def _face_of_process(path: Path) -> Face:
    """The face of a weights file, read once in each process."""
    return face_of_tensors(*load_weights(path, "face"))


@dataclass(frozen=True, eq=False)
class Task:
    """What a process needs to fit one person. origin: see `FinishedPeople`"""

    person: str
    recordings: list[corpora.Recording]
    keep: np.ndarray
    operator: np.ndarray
    weights: np.ndarray
    offset: np.ndarray
    pairs: np.ndarray
    face_path: Path
    data: Path
    origin: str
    finished: FinishedPeople | None


def _fit_one_person(task: Task) -> list[FittedRecording]:
    """The person's recordings, fitted."""
    face, weights, offset = _face_of_process(task.face_path), task.weights, task.offset
    resting = _resting(task.recordings, task.keep)
    identity, own = Fitter(face, task.operator, weights, offset, task.pairs).fit_person(resting)
    # A person's own offset counts the more, the more recordings show it.
    trust = len(resting) / (len(resting) + 2)
    fitter = Fitter(face, task.operator, weights, offset + trust * own, task.pairs)
    fitter.learn_closed_mouth(resting, identity)
    result = []
    for r in task.recordings:
        landmarks = r.landmarks[:, task.keep]
        capture = fitter.fit(landmarks, r.time, identity)
        reason = why_rejected(landmarks, weights, capture)
        audio = r.audio.relative_to(task.data).as_posix()
        result.append(
            FittedRecording(r.corpus, r.name, r.speaker, r.emotion, r.split, audio, capture, reason)
        )
    if task.finished:
        task.finished.keep_recordings(task.person, task.origin, result, face)
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


# ------------------------------------------------------------------------------------------------------------- people


@dataclass(frozen=True)
class FinishedPeople:
    """A folder of the people of a corpus that are fitted already, so that a run that was ended goes on with the others.

    For each person there are files of the first and the second pass. In each is a digest of what it comes from: the
    recordings, the face, the code, and in the second pass the offset. Others are fitted again and overwritten.
    """

    folder: Path

    def offset(self, person: str, origin: str) -> np.ndarray | None:
        """The person's own offset (P, 3), None where it is not known."""
        return read_cached(self._path(person, "offset"), origin).get("offset")

    def keep_offset(self, person: str, origin: str, offset: np.ndarray) -> None:
        """Keep the person's own offset (P, 3)."""
        self._write(self._path(person, "offset"), origin, {"offset": offset})

    def recordings(self, person: str, origin: str, face: Face) -> list[FittedRecording] | None:
        """The person's recordings, None where they are not fitted yet."""
        path = self._path(person, "captures")
        arrays = read_cached(path, origin)
        try:
            return _fitted_of_arrays(arrays, path, face) if arrays else None
        except InputError:
            return None

    def keep_recordings(
        self, person: str, origin: str, fitted: list[FittedRecording], face: Face
    ) -> None:
        """Keep the person's recordings."""
        self._write(self._path(person, "captures"), origin, _arrays_of_fitted(fitted, face))

    def check(self) -> None:
        """Raise InputError where something else has the folder's name."""
        if self.folder.is_symlink() or (self.folder.exists() and not self.folder.is_dir()):
            raise InputError(
                f"{self.folder}: not a folder", "fitted people are kept there; give it another name"
            )

    def remove(self) -> None:
        """Remove the files that this class writes, and the folder if nothing else is in it."""
        if self.folder.is_symlink() or not self.folder.is_dir():
            return
        for path in self.folder.iterdir():
            if KEPT_NAME.fullmatch(path.name):
                path.unlink(missing_ok=True)
        with suppress(OSError):  # something else is in it
            self.folder.rmdir()

    def _write(self, path: Path, origin: str, arrays: dict[str, Any]) -> None:
        # Another process that fits the same corpus removes the folder when it has done.
        with suppress(FileNotFoundError):
            write_cached(path, origin, arrays)

    def _path(self, person: str, kind: str) -> Path:
        """The file of a person. Names of people come from a corpus and may hold anything."""
        plain = re.sub(r"[^A-Za-z0-9_-]", "_", person)[:40]
        return self.folder / f"{plain}-{digest(person)[:8]}.{kind}.npz"


def _origin(r: corpora.Recording, data: Path) -> str:
    """A digest of all that a fit reads of a recording."""
    audio = r.audio.relative_to(data).as_posix()
    return digest(r.corpus, r.name, r.speaker, r.emotion, r.split, audio, r.time, r.landmarks)


# -------------------------------------------------------------------------------------------------------------- files


def make_captures(
    corpus: str,
    data: Path,
    path: Path,
    models: Models,
    jobs: int = 1,
    progress: Callable[[int, int], None] | None = None,
    scheduler: str | None = None,
) -> list[FittedRecording]:
    """Fit a corpus and write it to `path`; returns every recording, see `fit_corpus`.

    People are kept in the folder CORPUS.partial beside it until all are fitted: after a run that was ended, the next one
    goes on with the others.
    """
    finished = finished_people(path)
    finished.check()
    fitted = fit_corpus(corpus, data, models, jobs, progress, finished, scheduler)
    save_captures(path, fitted, models.face, captures_origin(corpus, data))
    finished.remove()
    return fitted


def captures_origin(corpus: str, data: Path) -> str:
    """A digest of what the captures of a corpus come from besides the face: its files, and this code's version."""
    return digest(FIT_VERSION, corpus_digest(data / corpus))


def finished_people(path: Path) -> FinishedPeople:
    """Where the people of a corpus are kept whose captures will be in the file `path`."""
    return FinishedPeople(path.with_suffix(".partial"))


def save_captures(path: Path, fitted: list[FittedRecording], face: Face, origin: str = "") -> None:
    """Write recordings fitted with a face to one npz without pickles. origin: see `captures_origin`"""
    path.parent.mkdir(parents=True, exist_ok=True)
    with atomic_write(path) as partial:
        np.savez_compressed(partial, origin=np.array(origin), **_arrays_of_fitted(fitted, face))


def _arrays_of_fitted(fitted: list[FittedRecording], face: Face) -> dict[str, Any]:
    """Recordings as arrays: per-frame ones of all recordings joined, `start` (R + 1,) and `identity` (R, I)."""
    arrays: dict[str, Any] = {
        name: np.concatenate([getattr(f.capture, name) for f in fitted]) for name in PER_FRAME
    }
    arrays["start"] = np.cumsum([0] + [len(f.capture.time) for f in fitted])
    arrays["identity"] = np.stack([f.capture.identity for f in fitted])
    table = [[f.corpus, f.name, f.speaker, f.emotion, f.split, f.audio, f.rejected] for f in fitted]
    return {"recordings": json.dumps(table), "face": face.fingerprint, **arrays}


def read_captures(path: Path, face: Face) -> list[FittedRecording]:
    """The recordings of a file that `save_captures` wrote.

    Raises InputError where it is another file, or was fitted with another face.
    """
    with reading_errors(path, "a file of captures", "remove it to have it made anew"):
        arrays = read_npz(path, "a file of captures")
        arrays.pop("origin", None)
        return _fitted_of_arrays(arrays, path, face)


def _fitted_of_arrays(arrays: dict[str, Any], path: Path, face: Face) -> list[FittedRecording]:
    """The recordings of arrays that were read from a file. Raises InputError as `read_captures`."""
    with reading_errors(path, "a file of captures", "remove it to have it made anew"):
        table, start, identity = (
            json.loads(str(arrays.pop("recordings"))),
            arrays.pop("start"),
            arrays.pop("identity"),
        )
        if "gap" not in arrays:
            raise InputError(
                f"{path}: fitted by an older talkemo", "remove the file to have it made anew"
            )
        if str(arrays.pop("face")) != face.fingerprint:
            raise InputError(
                f"{path}: fitted with another face model", "remove the file to have it made anew"
            )
        fitted = []
        for k, (corpus, name, speaker, emotion, split, audio, rejected) in enumerate(table):
            own = {key: array[start[k] : start[k + 1]] for key, array in arrays.items()}
            capture = Capture(**own, identity=identity[k])
            fitted.append(
                FittedRecording(corpus, name, speaker, emotion, split, audio, capture, rejected)
            )
    return fitted


def load_captures(
    data: Path,
    cache: Path,
    models: Models,
    names: tuple[str, ...] = corpora.CORPORA,
    jobs: int = 1,
    progress: Report | None = None,
) -> Iterator[FittedRecording]:
    """The recordings of corpora that are not rejected, from `cache`/CORPUS.npz.

    Corpora without such a file, or whose files have changed since it was written, are fitted first, and it is written.
    progress: called with the corpus, the recordings done and their total
    """
    for corpus in names:
        path = bring_up_to_date(corpus, data, cache, models, jobs, progress)
        yield from (f for f in read_captures(path, models.face) if not f.rejected)


def bring_up_to_date(
    corpus: str,
    data: Path,
    cache: Path,
    models: Models,
    jobs: int = 1,
    progress: Report | None = None,
    face_too: bool = False,
) -> Path:
    """Fit a corpus unless that is done; returns the file of captures, `cache`/CORPUS.npz.

    It is done, too, where only the file is there, and not the corpus.
    face_too: whether it is fitted again where that was done with another face, which reading the file refuses otherwise
    """
    path = cache / f"{corpus}.npz"
    if path.is_file() and _is_up_to_date(path, corpus, data, models if face_too else None):
        finished_people(path).remove()  # of a run that was ended after its last line but one
    else:
        report = None if progress is None else (lambda done, total: progress(corpus, done, total))
        make_captures(corpus, data, path, models, jobs, report)
    return path


def _is_up_to_date(path: Path, corpus: str, data: Path, models: Models | None) -> bool:
    """Whether a file of captures comes from the corpus as it is now, and from the face of models unless they are None."""
    what, hint = "a file of captures", "remove it to have it made anew"
    with (
        reading_errors(path, what, hint),
        open_file(path, what, hint) as file,
        NpzFile(file) as arrays,
    ):
        said = {
            name: str(arrays.read([name])[name])
            for name in ("origin", "face")
            if name in arrays.names
        }
    if models is not None and said.get("face") != models.face.fingerprint:
        return False
    return not (data / corpus).is_dir() or said.get("origin") == captures_origin(corpus, data)


def summary(fitted: list[FittedRecording]) -> dict[str, object]:
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
