"""Landmarks and corpora to 3D."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np

from .. import __version__
from ..capture.fitting import Capture, Fitter
from ..capture.landmarks import check_spread, schema
from ..errors import InputError
from ..face import Face
from ..files import read_npy, read_npz
from ..formats.animation import Frames, Header
from ..models import Models, load_models
from ..motion import Motion
from ..weights import DEFAULT
from .outputs import (
    FRAMES_AT_A_TIME,
    ExportOptions,
    PathLike,
    Progress,
    Result,
    check_fps,
    output_paths,
    write_animation,
)

VIDEO = (".mp4", ".mpg", ".avi", ".mov", ".mkv", ".webm", ".jpg", ".jpeg", ".png")


def reconstruct(
    landmarks: PathLike | np.ndarray,
    outputs: PathLike | Sequence[PathLike] | None = None,
    *,
    fps: float = 30.0,
    export: ExportOptions | None = None,
    weights: PathLike = DEFAULT,
    models: Models | None = None,
    progress: Progress | None = None,
) -> Result:
    """Fit the bilinear model to the 68 iBUG landmarks of a filmed person: an animation of the person's own face.

    landmarks: (T, 68, 2) px, y down, NaN where no face was found, or an npy or npz file of them; an npz with several
        arrays holds several recordings of one person, of which the first is animated
    outputs, export, weights, models, progress: as of `animate`. fps: frames a second of the landmarks
    `metrics` of the result has `residual_mm`, the mean distance of the landmarks from the model's. Raises InputError
    for landmarks that cannot be used.
    """
    export = export or ExportOptions()
    if isinstance(landmarks, str | Path):
        name, recordings = Path(landmarks).name, _read_landmarks(Path(landmarks))
        paths = output_paths(outputs, export, [landmarks])
    else:
        name, recordings = "landmarks", [np.asarray(landmarks)]
        paths = output_paths(outputs, export, [])
    check_fps(fps)
    recordings = _check_landmarks(recordings, name)
    face = (models or load_models(weights)).face
    try:
        capture = fit_recording(face, recordings, fps)
    except InputError as error:
        raise InputError(f"{name}: {error.message}", error.hint) from None
    person = Person(face, capture.identity)
    header = Header(
        frames=len(capture.shapes),
        fps=fps,
        faces=face.faces,
        rest=person.neutral,
        focus=np.ones(len(face.mean), bool),
        meta={"talkemo": __version__, "landmarks": name},
        targets=person.arkit_targets,
    )
    result = write_animation(paths, header, person.frames(capture), export=export, progress=progress)
    result.metrics["residual_mm"] = round(float(capture.residual[capture.seen].mean()), 3)
    return result


def fit_recording(face: Face, recordings: list[np.ndarray], fps: float) -> Capture:
    """The first of a person's recordings, each (T, 68, 2) px, as the bilinear model sees it."""
    keep, operator, weights = schema(face, None)
    identity, offset = Fitter(face, operator, weights).fit_person(recordings)
    # A person's own offset counts the more, the more recordings show it.
    fitter = Fitter(face, operator, weights, offset * len(recordings) / (len(recordings) + 2))
    return fitter.fit(recordings[0][:, keep], np.arange(len(recordings[0])) / fps, identity)


class Person:
    """The face of standardised identity coefficients (I,), with its own expressions."""

    def __init__(self, face: Face, identity: np.ndarray):
        self.face = face
        self.core = face.core @ face.identity_weights(identity)  # (R, E)
        self.neutral = self.vertices(np.zeros((1, len(face.expression_names)), np.float32))[0]

    def vertices(self, shapes: np.ndarray) -> np.ndarray:
        """Vertices (T, V, 3) float32 mm for blend-shape weights (T, S)."""
        coefficients = self.face.expression_weights(shapes) @ self.core.T
        return (self.face.mean + np.tensordot(coefficients, self.face.basis, 1)).astype(np.float32)

    def arkit_targets(self) -> np.ndarray:
        """(52, V, 3) float32 mm, what ARKit's shapes at weight 1 move this face by."""
        return self.vertices((self.face.arkit_matrix > 0).T.astype(np.float32)) - self.neutral

    def frames(self, capture: Capture) -> Iterator[tuple[Motion, Frames]]:
        """The frames of a capture of this person, part by part."""
        for start in range(0, len(capture.shapes), FRAMES_AT_A_TIME):
            part = slice(start, start + FRAMES_AT_A_TIME)
            shapes = capture.shapes[part]
            vertices = self.vertices(shapes)
            frames = Frames(vertices, vertices[:, self.face.landmarks68], shapes @ self.face.arkit_matrix)
            yield Motion.of_shapes(self.face, capture.time[part], shapes), frames


def _read_landmarks(path: Path) -> list[np.ndarray]:
    """The recordings of a file of landmarks."""
    if path.suffix.lower() in VIDEO:
        raise InputError(
            f"{path}: talkemo has no landmark detector yet", "give it landmarks: an npy or npz (T, 68, 2) in px"
        )
    if path.suffix.lower() == ".npy":
        return [read_npy(path, "a file of landmarks", "give landmarks: an npy or npz (T, 68, 2) in px")]
    return list(read_npz(path, "a file of landmarks").values())


def _check_landmarks(recordings: list[np.ndarray], name: str) -> list[np.ndarray]:
    """Recordings as float32. Raises InputError where they are not landmarks."""
    hint = "landmarks are (T, 68, 2) numbers in pixels"
    if not all(r.dtype.kind in "iuf" for r in recordings):
        raise InputError(f"{name}: its arrays do not hold numbers", hint)
    with np.errstate(over="ignore", invalid="ignore"):  # what becomes infinity or NaN is no frame with a face
        recordings = [r.astype(np.float32) for r in recordings]
    if not recordings or any(r.ndim != 3 or r.shape[1:] != (68, 2) or not len(r) for r in recordings):
        raise InputError(f"{name}: its arrays are {[r.shape for r in recordings][:3]}", hint)
    if not all(np.isfinite(r).all((1, 2)).any() for r in recordings):
        raise InputError(f"{name}: a recording in which no frame has a face", "leave it out")
    check_spread(recordings, name)
    return recordings


def reconstruct_corpus(
    folder: Path, out: Path, models: Models, jobs: int = 1, progress: Progress | None = None
) -> dict[str, object]:
    """Fit a corpus folder and write `out`/CORPUS.npz; returns the figures of data.captures.summary.

    A call that was ended goes on with the people that it has not fitted: they are kept in `out`/CORPUS.partial.
    """
    from ..data import captures

    if out.suffix == ".npz" or (out.exists() and not out.is_dir()):
        raise InputError(f"{out}: captures of a corpus go into a folder", "choose a folder's name")
    folder = folder.resolve()
    path = out / f"{folder.name}.npz"
    fitted = captures.make_captures(folder.name, folder.parent, path, models, jobs, progress)
    return {"input": folder.name, **captures.summary(fitted)}
