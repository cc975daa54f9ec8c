"""A film of a person talking, as the bilinear model sees it: points of a tracker, fitted by Eq. 2 and 3."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from ..errors import InputError
from ..face import ARKIT_NAMES, Face
from ..files import shown
from .detector import POINTS, SCORES, Tracked, Tracker
from .fitting import PER_FRAME, Capture, Fitter
from .landmark_files import points_of
from .landmarks import check_spread, lip_pairs, schema
from .video import open_film

PIECE, OVERLAP = 1500, 50  # frames that are fitted together, which bounds the memory, and of the next piece's start
LONGEST = 3600 * 60  # frames of a film


@dataclass(frozen=True, eq=False)
class FilmCapture:
    """A fitted film.

    capture: its rotation, scale and translation are of the film's own pixels
    fps: frames a second; points: (T, 478, 2) px of the film, NaN where no face was found
    residual_px: (T,) mean distance of the points from the model's
    """

    capture: Capture
    fps: float
    points: np.ndarray
    residual_px: np.ndarray


def capture_film(
    face: Face, path: Path, tracker: Tracker, progress: Callable[[int, int], None] | None = None
) -> FilmCapture:
    """Fit the bilinear model to a film or a photograph; frames without a face are interpolated, see `Capture.seen`.

    progress: called with the frames looked at, and 0 for their total, which is not known
    Raises InputError for a file that cannot be read, and one in which no frame shows a face.
    """
    with open_film(path) as film:
        fps = film.fps
        points, scores = _track(tracker.follow(film.pictures), progress, path)
        points *= np.float32(film.scale)
    if not np.isfinite(points).any():
        raise InputError(f"{shown(path)}: no face found in it", "it should be well lit and look at the camera")
    check_spread([points], shown(path))
    capture = _with_gaze(fit_recording(face, [points], fps), face, scores)
    return FilmCapture(capture, fps, points, capture.residual * capture.scale)


def _track(
    found: Iterator[Tracked | None], progress: Callable[[int, int], None] | None, path: Path
) -> tuple[np.ndarray, np.ndarray]:
    """Points (T, 478, 2) px of the pictures and scores (T, 52), NaN in pictures without a face."""
    points, scores = [], []
    for number, one in enumerate(found):
        if number >= LONGEST:
            raise InputError(f"{shown(path)}: more than {LONGEST} frames", "cut it into pieces")
        points.append(np.full((POINTS, 2), np.nan, np.float32) if one is None else one.points[:, :2])
        scores.append(np.full(len(SCORES), np.nan, np.float32) if one is None else one.scores)
        if progress:
            progress(number + 1, 0)
    if not points:
        raise InputError(f"{shown(path)}: no picture in it", "is it a film?")
    return np.stack(points).astype(np.float32), np.stack(scores)


def fit_recording(face: Face, recordings: list[np.ndarray], fps: float) -> Capture:
    """The first of a person's recordings, each (T, P, 2) px, as the bilinear model sees it.

    The points are the 68 of iBUG or MediaPipe's mesh, the same of all recordings. Raises InputError for points that no
    face fits.
    """
    points = points_of(recordings[0])
    keep, operator, weights = schema(face, points)
    pairs = lip_pairs(None if points is None else points[keep])
    every = [recording[:, keep] for recording in recordings]
    identity, own = Fitter(face, operator, weights, pairs=pairs).fit_person(every)
    # A person's own distance of the points from their vertices counts the more, the more recordings show it.
    fitter = Fitter(face, operator, weights, own * len(every) / (len(every) + 2), pairs)
    fitter.learn_closed_mouth([some[np.isfinite(some).all((1, 2))][:PIECE] for some in every], identity)
    pixels, time = every[0], np.arange(len(every[0])) / fps
    # Every piece has a frame with a face in it: others are interpolated from these.
    seen = np.isfinite(pixels).all((1, 2))
    bounds = [0]
    for start in range(PIECE, len(pixels), PIECE):
        if seen[bounds[-1] : start].any() and seen[start:].any():
            bounds.append(start)
    parts = []
    for start, end in zip(bounds, [*bounds[1:], len(pixels)]):
        around = slice(max(0, start - OVERLAP), min(len(pixels), end + OVERLAP))
        part = fitter.fit(pixels[around], time[around], identity)
        parts.append(_cut(part, slice(start - around.start, end - around.start)))
    joined = {name: np.concatenate([getattr(part, name) for part in parts]) for name in PER_FRAME}
    return Capture(**joined, identity=parts[0].identity)


def _cut(capture: Capture, inside: slice) -> Capture:
    """Some frames of a capture."""
    return replace(capture, **{name: getattr(capture, name)[inside] for name in PER_FRAME})


def _with_gaze(capture: Capture, face: Face, scores: np.ndarray) -> Capture:
    """A capture whose eyes look where the tracker's scores (T, 52) say: points on the skin do not show that."""
    shapes = capture.shapes.copy()
    seen = np.isfinite(scores[:, 0])
    frames = np.arange(len(scores))
    for number, name in enumerate(face.expression_names):
        arkit = ARKIT_NAMES[int(face.arkit_matrix[number].argmax())]
        if name.startswith("eyeLook") and arkit in SCORES:
            shapes[:, number] = np.interp(frames, frames[seen], scores[seen, SCORES.index(arkit)]).clip(0, 1)
    return replace(capture, shapes=shapes)
