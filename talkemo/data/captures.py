"""Captures of corpora: the bilinear model fitted to every recording, in one npz per corpus.

Recordings whose landmarks are bad are rejected by rule.
"""

from __future__ import annotations

import json
import re
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from functools import lru_cache, partial
from pathlib import Path
from typing import Any

import numpy as np

from ..capture.fitting import FRAME_FIELDS, Capture, Fitter
from ..capture.landmarks import LandmarkSchema
from ..capture.video_capture import expected_shapes
from ..compute.workers import map_tasks
from ..errors import InputError
from ..face.canonical import Face, face_of_tensors
from ..files.arrays import NpzFile, read_npz
from ..files.cache import corpus_digest, digest, read_cached, sha256, write_cached
from ..files.reading import open_file, parse_json, reading_errors
from ..files.writing import atomic_write
from ..weights.files import load_weights
from ..weights.models import Models
from .corpora import CORPORA, read_corpus
from .recordings import Recording

StepProgress = Callable[[str, int, int], None]  # called with a step's name, steps done, their total

# A recording is rejected if tracking failed. Jumps are relative to the distance between the eyes,
# so that the rule means the same at every image size (RAVDESS: 30 of about 150 px). They are those
# of the median landmark: single landmarks jump in a blink.
EYE_DISTANCE_MM = 63.0  # between the centres of the eyes on the canonical face
MAX_JUMP_EYE_DISTANCES = 0.2  # of the median landmark from one frame to the next
MAX_MEAN_RESIDUAL_MM = 4.0  # over the recording
MAX_SCALE_CHANGE = 0.25  # of the camera's scale, relative to the recording's median
MIN_SEEN_FRACTION = 0.7  # of frames in which a face was found
MAX_RESTING_RECORDINGS = 16  # recordings of a person to which the identity is fitted

# Version of the fit: raised when this module or capture/ changes its results, which makes older
# captures stale.
FIT_VERSION = 2
# Names of the files of FinishedPeople, and of half-written ones that a killed process left.
FINISHED_FILE = re.compile(
    r"[A-Za-z0-9_-]+-[0-9a-f]{8}\.(offset|captures)\.npz|\.talkemo-\d+-\w+\.npz"
)
CAPTURES_FILE = "a file of captures"
STALE_HINT = "remove the file, and it is made again"


@dataclass(frozen=True, eq=False)
class FittedRecording:
    """A fitted recording of a corpus."""

    corpus: str
    name: str
    speaker: str
    emotion: str
    split: str
    audio: str  # path under the data folder
    capture: Capture
    rejected: str  # reason why it is not used, or empty


def reconstruct_corpus(
    folder: Path,
    out: Path,
    models: Models,
    jobs: int = 1,
    progress: Callable[[int, int], None] | None = None,
    scheduler: str | None = None,
) -> dict[str, object]:
    """Fit a corpus folder, write `out`/CORPUS.npz and return its name and `fit_summary`.

    Other parameters as in `make_captures`. Raises InputError if `out` is not a folder, or the
    corpus cannot be read.
    """
    if out.suffix == ".npz" or (out.exists() and not out.is_dir()):
        raise InputError(f"{out}: captures of a corpus go into a folder", "choose a folder's name")
    folder = folder.resolve()
    path = out.resolve() / f"{folder.name}.npz"  # workers may be in another folder
    fitted = make_captures(folder.name, folder.parent, path, models, jobs, progress, scheduler)
    return {"input": folder.name, **fit_summary(fitted)}


def make_captures(
    corpus: str,
    data: Path,
    path: Path,
    models: Models,
    jobs: int = 1,
    progress: Callable[[int, int], None] | None = None,
    scheduler: str | None = None,
) -> list[FittedRecording]:
    """Fit a corpus and write it to `path`; other parameters and the result as in `fit_corpus`.

    Until all people are fitted, those that are finished are stored beside it, in the folder
    CORPUS.partial: a run that was interrupted continues with the others.
    """
    finished = finished_people(path)
    finished.check()
    fitted = fit_corpus(corpus, data, models, jobs, progress, finished, scheduler)
    save_captures(path, fitted, models.face, captures_fingerprint(corpus, data))
    finished.remove()
    return fitted


def load_captures(
    data: Path,
    cache: Path,
    models: Models,
    names: tuple[str, ...] = CORPORA,
    jobs: int = 1,
    progress: StepProgress | None = None,
) -> Iterator[FittedRecording]:
    """Yield the fitted recordings of some corpora, without the rejected ones.

    Missing captures are made first; for the parameters see `bring_up_to_date`.
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
    progress: StepProgress | None = None,
    refit_if_face_changed: bool = False,
) -> Path:
    """Fit a corpus if its captures are missing or stale.

    Captures without their corpus are up to date.

    Parameters
    ----------
    data, cache : Path
        The folders of the corpora and of the captures.
    models : Models
        With the face model that is fitted.
    progress : callable, optional
        Called with the corpus, the number of recordings done and their total.
    refit_if_face_changed : bool
        Whether captures of another face model are stale; if not, reading them raises InputError.

    Returns
    -------
    Path
        The file of captures, `cache`/CORPUS.npz.
    """
    path = cache / f"{corpus}.npz"
    if path.is_file() and _is_up_to_date(
        path, corpus, data, models if refit_if_face_changed else None
    ):
        finished_people(path).remove()  # left by a run that was interrupted at its very end
    else:
        report = partial(progress, corpus) if progress else None
        make_captures(corpus, data, path, models, jobs, report)
    return path


def _is_up_to_date(path: Path, corpus: str, data: Path, models: Models | None) -> bool:
    """Whether captures were fitted to the present corpus, and with the models' face if given."""
    with (
        reading_errors(path, CAPTURES_FILE, STALE_HINT),
        open_file(path, CAPTURES_FILE, STALE_HINT) as file,
        NpzFile(file) as arrays,
    ):
        present = [name for name in ("origin", "face") if name in arrays.names]
        fingerprints = {name: str(arrays.read([name])[name]) for name in present}
    if models is not None and fingerprints.get("face") != models.face.fingerprint:
        return False
    if not (data / corpus).is_dir():
        return True
    return fingerprints.get("origin") == captures_fingerprint(corpus, data)


def fit_summary(fitted: list[FittedRecording]) -> dict[str, object]:
    """Return the metrics of a fitted corpus: counts, and residuals in mm of used recordings."""
    used = [f.capture for f in fitted if not f.rejected]
    residual = np.concatenate([c.residual[c.seen] for c in used] or [np.full(1, np.nan)])
    return {
        "recordings": len(fitted),
        "rejected": dict(Counter(f.rejected for f in fitted if f.rejected)),
        "frames": len(residual),
        "people": len({f.speaker for f in fitted}),
        "residual_mm": round(float(residual.mean()), 3),
        "residual_p95_mm": round(float(np.percentile(residual, 95)), 3),
    }


# ----------------------------------------------------------------------------------------- fitting


@dataclass(frozen=True, eq=False)
class PersonTask:
    """What a process needs to fit one person."""

    person: str
    recordings: list[Recording]
    schema: LandmarkSchema
    offset: np.ndarray  # (P, 3) mm, the corpus's, see Fitter
    face_path: Path
    data: Path
    fingerprint: str  # of all that the fit depends on
    finished: FinishedPeople | None


def fit_corpus(
    corpus: str,
    data: Path,
    models: Models,
    jobs: int = 1,
    progress: Callable[[int, int], None] | None = None,
    finished: FinishedPeople | None = None,
    scheduler: str | None = None,
) -> list[FittedRecording]:
    """Fit every recording of a corpus; rejected ones are marked, not left out.

    A first pass over the people of the training split measures how far this corpus's landmarks are
    from their vertices; the second pass fits everybody with that offset.

    Parameters
    ----------
    data : Path
        The folder of the corpora.
    jobs, scheduler
        See `map_tasks`; machines of a cluster must see all folders by the same names.
    progress : callable, optional
        Called with the number of recordings done and their total.
    finished : FinishedPeople, optional
        Where people are stored as soon as they are fitted, and read from if they are there.

    Raises
    ------
    InputError
        If the corpus is missing or has no recording with a face.
    """
    people = _people(corpus, data, progress)
    mesh_ids = next(iter(people.values()))[0].mesh_ids
    schema = LandmarkSchema.of(models.face, mesh_ids)
    face_path = models.path("face").resolve()
    common = digest(FIT_VERSION, sha256(face_path), mesh_ids)
    fingerprints = {
        person: digest(common, *(_fingerprint(recording, data) for recording in recordings))
        for person, recordings in people.items()
    }
    offset = _corpus_offset(people, Fitter(models.face, schema), schema, fingerprints, finished)
    fitted: dict[str, list[FittedRecording]] = {}
    tasks = []
    for person, recordings in people.items():
        mark = digest(fingerprints[person], offset)
        stored = finished.recordings(person, mark, models.face) if finished else None
        if stored is not None:
            fitted[person] = stored
        else:
            task = PersonTask(person, recordings, schema, offset, face_path, data, mark, finished)
            tasks.append(task)
    done, total = sum(map(len, fitted.values())), sum(map(len, people.values()))
    if done and progress:
        progress(done, total)
    if tasks:
        for results in map_tasks(_fit_person, tasks, jobs, scheduler):
            fitted[results[0].speaker] = results
            done += len(results)
            if progress:
                progress(done, total)
    return [recording for person in people for recording in fitted[person]]


def _people(
    corpus: str, data: Path, progress: Callable[[int, int], None] | None = None
) -> dict[str, list[Recording]]:
    """Return the recordings of each person; see `read_corpus`.

    Raises InputError if none has a face.
    """
    people: dict[str, list[Recording]] = defaultdict(list)
    for recording in read_corpus(corpus, data, progress):
        # A recording without a face can neither be fitted, nor measured and rejected.
        if np.isfinite(recording.landmarks).all((1, 2)).sum() > 1:
            people[recording.speaker].append(recording)
    if not people:
        raise InputError(
            f"{data / corpus}: no recording with a face in it",
            "the corpus may be incomplete; fetch it again",
        )
    return people


def _fingerprint(recording: Recording, data: Path) -> str:
    """Return a digest of all that a fit reads of a recording."""
    r, audio = recording, recording.audio.relative_to(data).as_posix()
    return digest(
        r.corpus, r.name, r.speaker, r.emotion, r.split, audio, r.time, r.landmarks, r.scores
    )


def _corpus_offset(
    people: dict[str, list[Recording]],
    fitter: Fitter,
    schema: LandmarkSchema,
    fingerprints: dict[str, str],
    finished: FinishedPeople | None,
) -> np.ndarray:
    """Return the corpus's mean offset (P, 3) mm of landmarks, over people of the training split."""
    offsets = []
    for person, recordings in people.items():
        if not any(recording.split == "train" for recording in recordings):
            continue
        offset = finished.offset(person, fingerprints[person]) if finished else None
        if offset is None:
            _, offset = fitter.fit_person(_resting_landmarks(recordings, schema))
            if finished:
                finished.save_offset(person, fingerprints[person], offset)
        offsets.append(offset)
    return np.mean(offsets, axis=0)


def _resting_landmarks(recordings: list[Recording], schema: LandmarkSchema) -> list[np.ndarray]:
    """Return the landmarks of a person's recordings that begin at rest.

    Those are the neutral and calm ones if there are any, else all. If a person has recordings in
    both splits, only those of the training split are used.
    """
    recordings = [r for r in recordings if r.split == "train"] or recordings
    calm = [r for r in recordings if r.emotion in ("neutral", "calm")] or recordings
    return [
        r.landmarks[:, schema.rows]
        for r in calm[:MAX_RESTING_RECORDINGS]
        if np.isfinite(r.landmarks[:, 0, 0]).any()
    ]


@lru_cache(maxsize=1)
def _face_of_process(path: Path) -> Face:
    """Return the face of a weights file, read once in each process."""
    return face_of_tensors(*load_weights(path, "face"))


def _fit_person(task: PersonTask) -> list[FittedRecording]:
    """Fit a person's recordings."""
    face, schema = _face_of_process(task.face_path), task.schema
    resting = _resting_landmarks(task.recordings, schema)
    identity, offset = Fitter(face, schema, task.offset).fit_person(resting)
    # The weight of a person's own offset grows with the number of recordings.
    trust = len(resting) / (len(resting) + 2)
    fitter = Fitter(face, schema, task.offset + trust * offset)
    fitter.learn_closed_mouth(resting, identity)
    fitted = []
    for recording in task.recordings:
        landmarks = recording.landmarks[:, schema.rows]
        scores = recording.scores
        expected = None if scores is None else expected_shapes(face, scores)
        capture = fitter.fit(landmarks, recording.time, identity, expected=expected)
        fitted.append(
            FittedRecording(
                recording.corpus,
                recording.name,
                recording.speaker,
                recording.emotion,
                recording.split,
                recording.audio.relative_to(task.data).as_posix(),
                capture,
                rejection_reason(landmarks, schema.weights, capture),
            )
        )
    if task.finished:
        task.finished.save_recordings(task.person, task.fingerprint, fitted, face)
    return fitted


def rejection_reason(landmarks: np.ndarray, weights: np.ndarray, capture: Capture) -> str:
    """Return why a recording of landmarks (T, P, 2) px is rejected, or an empty string.

    `weights` (P,) are the landmarks' weights in the fit. Jumps are measured on the landmarks with
    the highest weight, which excludes the outline of the face.
    """
    if capture.seen.mean() < MIN_SEEN_FRACTION:
        return "face not found"
    reliable = landmarks[:, weights == weights.max()]
    eye_distance_px = EYE_DISTANCE_MM * np.median(capture.scale)
    jumps = np.median(np.linalg.norm(np.diff(reliable, axis=0), axis=2), axis=1)
    if np.nanmax(jumps) > MAX_JUMP_EYE_DISTANCES * eye_distance_px:
        return "face jumps"
    if np.abs(capture.scale / np.median(capture.scale) - 1).max() > MAX_SCALE_CHANGE:
        return "size jumps"
    if capture.residual.mean() > MAX_MEAN_RESIDUAL_MM:
        return "no face fits"
    return ""


@dataclass(frozen=True)
class FinishedPeople:
    """A folder of the people of a corpus that are fitted, so that an interrupted run continues.

    Each person has a file of the first pass and one of the second. Both hold the fingerprint of
    what they come from: the recordings, the face, the version of the code, and in the second pass
    the offset. Stale files are made again.
    """

    folder: Path

    def offset(self, person: str, fingerprint: str) -> np.ndarray | None:
        """Return the person's own offset (P, 3) mm, None if it is missing or stale."""
        return read_cached(self._path(person, "offset"), fingerprint).get("offset")

    def save_offset(self, person: str, fingerprint: str, offset: np.ndarray) -> None:
        """Store the person's own offset (P, 3) mm."""
        self._write(self._path(person, "offset"), fingerprint, {"offset": offset})

    def recordings(self, person: str, fingerprint: str, face: Face) -> list[FittedRecording] | None:
        """Return the person's recordings, None if they are missing or stale."""
        path = self._path(person, "captures")
        arrays = read_cached(path, fingerprint)
        try:
            return _recordings_of(arrays, path, face) if arrays else None
        except InputError:
            return None

    def save_recordings(
        self, person: str, fingerprint: str, fitted: list[FittedRecording], face: Face
    ) -> None:
        """Store the person's recordings."""
        self._write(self._path(person, "captures"), fingerprint, _arrays_of(fitted, face))

    def check(self) -> None:
        """Raise InputError if something else has the folder's name."""
        if self.folder.is_symlink() or (self.folder.exists() and not self.folder.is_dir()):
            raise InputError(
                f"{self.folder}: not a folder", "fitted people are stored there; rename it"
            )

    def remove(self) -> None:
        """Remove the files that this class writes, and the folder if nothing else is in it."""
        if self.folder.is_symlink() or not self.folder.is_dir():
            return
        for path in self.folder.iterdir():
            if FINISHED_FILE.fullmatch(path.name):
                path.unlink(missing_ok=True)
        with suppress(OSError):  # something else is in it
            self.folder.rmdir()

    def _write(self, path: Path, fingerprint: str, arrays: dict[str, Any]) -> None:
        # Another process that fits the same corpus may remove the folder when it is done.
        with suppress(FileNotFoundError):
            write_cached(path, fingerprint, arrays)

    def _path(self, person: str, kind: str) -> Path:
        """Return a person's file. Names of people in a corpus may contain any characters."""
        readable = re.sub(r"[^A-Za-z0-9_-]", "_", person)[:40]
        return self.folder / f"{readable}-{digest(person)[:8]}.{kind}.npz"


def finished_people(path: Path) -> FinishedPeople:
    """Return the finished people of a corpus whose captures will be in the file `path`."""
    return FinishedPeople(path.with_suffix(".partial"))


# ------------------------------------------------------------------------------------------- files


def captures_fingerprint(corpus: str, data: Path) -> str:
    """Return a digest of what a corpus's captures come from besides the face: files and version."""
    return digest(FIT_VERSION, corpus_digest(data / corpus))


def save_captures(
    path: Path, fitted: list[FittedRecording], face: Face, fingerprint: str = ""
) -> None:
    """Write recordings fitted with a face to an npz, with the `captures_fingerprint`."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with atomic_write(path) as partial:
        np.savez_compressed(partial, origin=np.array(fingerprint), **_arrays_of(fitted, face))


def read_captures(path: Path, face: Face) -> list[FittedRecording]:
    """Read the recordings that `save_captures` wrote.

    Raises InputError for another file, or for captures of another face.
    """
    with reading_errors(path, CAPTURES_FILE, STALE_HINT):
        arrays = read_npz(path, CAPTURES_FILE)
        arrays.pop("origin", None)
        return _recordings_of(arrays, path, face)


def _arrays_of(fitted: list[FittedRecording], face: Face) -> dict[str, Any]:
    """Return recordings as arrays.

    The per-frame fields of all R recordings are joined; `start` (R + 1,) says where each begins,
    `identity` is (R, I), and `recordings` is a table as JSON.
    """
    arrays: dict[str, Any] = {
        name: np.concatenate([getattr(f.capture, name) for f in fitted]) for name in FRAME_FIELDS
    }
    arrays["start"] = np.cumsum([0] + [len(f.capture.time) for f in fitted])
    arrays["identity"] = np.stack([f.capture.identity for f in fitted])
    table = [[f.corpus, f.name, f.speaker, f.emotion, f.split, f.audio, f.rejected] for f in fitted]
    return {"recordings": json.dumps(table), "face": face.fingerprint, **arrays}


def _recordings_of(arrays: dict[str, Any], path: Path, face: Face) -> list[FittedRecording]:
    """Return the recordings of arrays read from `path`. Raises InputError as `read_captures`."""
    with reading_errors(path, CAPTURES_FILE, STALE_HINT):
        table = parse_json(str(arrays.pop("recordings")))
        start, identity = arrays.pop("start"), arrays.pop("identity")
        if "gap" not in arrays:
            raise InputError(f"{path}: fitted by an older talkemo", STALE_HINT)
        if str(arrays.pop("face")) != face.fingerprint:
            raise InputError(f"{path}: fitted with another face model", STALE_HINT)
        fitted = []
        for k, (corpus, name, speaker, emotion, split, audio, rejected) in enumerate(table):
            frames = {field: array[start[k] : start[k + 1]] for field, array in arrays.items()}
            capture = Capture(**frames, identity=identity[k])
            fitted.append(
                FittedRecording(corpus, name, speaker, emotion, split, audio, capture, rejected)
            )
    return fitted
