"""A film of a person talking, as the bilinear model sees it: points of a tracker, fitted by Eq. 2 and 3."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from ..errors import InputError
from ..face.canonical import ARKIT_NAMES, Face
from ..files.reading import printable
from ..video.reader import open_video
from .camera import Lens
from .fitting import PER_FRAME, STEADY, Capture, Fitter, Stiffness
from .landmark_files import points_of
from .landmark_tracker import POINTS, SCORE_NAMES, LandmarkTracker, Tracked
from .landmarks import check_spread, lip_pairs, schema

PIECE, OVERLAP = (
    1500,
    50,
)  # frames that are fitted together, which bounds the memory, and of the next piece's start
BEGINNING = 1500  # frames from the first with a face, that a person's identity and closed mouth are measured in
CUT = 0.2  # share of a film's length without pictures from which on it is told: sound may be a little longer
LONGEST = 3600 * 60  # frames of a film
# What a tracker's scores of a face at rest are: up to these levels in nine of ten people who speak freely, and at one
# person's RESTING_PERCENTILE.
RESTING_SCORES = (
    ("browDown", 0.2),
    ("browInnerUp", 0.2),
    ("browOuterUp", 0.3),
    ("eyeSquint", 0.4),
    ("eyeBlink", 0.2),
)
RESTING_PERCENTILE = 10


@dataclass(frozen=True, eq=False)
class VideoCapture:
    """A fitted film.

    capture: its rotation, scale and translation are of the film's own pixels
    fps: frames a second; points: (T, 478, 2) px of the film, NaN where no face was found
    scores: (T, 52) of the tracker, in the order of detector.SCORE_NAMES, NaN where no face was found
    residual_px: (T,) mean distance of the points from the model's
    faces: how many there were where this one was found; missing: seconds that the file lacks of what it says, if it is cut
    lens: of a perspective camera, None for an orthographic one
    """

    capture: Capture
    fps: float
    points: np.ndarray
    scores: np.ndarray
    residual_px: np.ndarray
    faces: int = 1
    missing: float = 0.0
    lens: Lens | None = None


def capture_video(
    face: Face,
    path: Path,
    tracker: LandmarkTracker,
    progress: Callable[[int, int], None] | None = None,
    number: int = 1,
    view: float | None = None,
) -> VideoCapture:
    """Fit the bilinear model to a film or a photograph; frames without a face are interpolated, see `Capture.seen`.

    progress: called with the frames looked at, and 0 for their total, which is not known
    number: which face, where there are several, counted from the largest
    view: degrees that a perspective camera sees across a picture; None for Eq. 3's scaled orthography
    Raises InputError for a file that cannot be read, and one in which no frame shows that face.
    """
    with open_video(path) as film:
        fps = film.fps
        lens = None if view is None else Lens.of_view(view, *film.size)
        points, scores, faces = track_landmarks(
            tracker.follow(film.pictures, number), film.scale, path, progress
        )
    if not faces:
        which = "no face" if number == 1 else f"no face number {number}"
        raise InputError(
            f"{printable(path)}: {which} found in it",
            "it should be well lit and look at the camera",
        )
    check_spread([points], printable(path))
    missing = film.seconds - len(points) / fps
    if missing < max(CUT * film.seconds, 1.0):
        missing = 0.0
    return replace(fit_landmarks(face, points, scores, fps, lens), faces=faces, missing=missing)


def track_landmarks(
    found: Iterator[Tracked | None],
    scale: float,
    path: Path,
    progress: Callable[[int, int], None] | None = None,
) -> tuple[np.ndarray, np.ndarray, int]:
    """Points (T, 478, 2) px of the pictures and scores (T, 52), NaN in pictures without the face; how many there are.

    scale: of the points. They are kept in a file without a name: those of an hour would fill half a gigabyte.
    """
    scores, faces = [], 0
    with tempfile.TemporaryFile() as kept:
        for number, one in enumerate(found):
            if number >= LONGEST:
                raise InputError(
                    f"{printable(path)}: more than {LONGEST} frames", "cut it into pieces"
                )
            missing = np.full((POINTS, 2), np.nan, np.float32)
            kept.write(
                (missing if one is None else one.points[:, :2] * scale).astype(np.float32).tobytes()
            )
            scores.append(np.full(len(SCORE_NAMES), np.nan, np.float32) if one is None else one.scores)
            faces = faces if one is None else max(faces, one.faces)
            if progress:
                progress(number + 1, 0)
        if not scores:
            raise InputError(f"{printable(path)}: no picture in it", "is it a film?")
        kept.flush()
        points = np.memmap(kept, np.float32, "r", shape=(len(scores), POINTS, 2))
    return points, np.stack(scores), faces


def fit_landmarks(
    face: Face, points: np.ndarray, scores: np.ndarray, fps: float, lens: Lens | None = None
) -> VideoCapture:
    """The fit of what `track_landmarks` found."""
    expected = expected_shapes(face, scores)
    capture = _with_gaze(fit_recording(face, [points], fps, expected, STEADY, lens), face, expected)
    return VideoCapture(capture, fps, points, scores, capture.residual * capture.scale, lens=lens)


def expected_shapes(face: Face, scores: np.ndarray) -> np.ndarray:
    """Blend-shape weights (T, S) that a tracker's scores (T, 52) tell, NaN where they tell nothing.

    A score of a face at rest is not always 0: what it is at least most of the time is taken off, up to what it is in
    many people's.
    """
    seen = np.isfinite(scores[:, 0])
    usual = np.array(
        [next((level for part, level in RESTING_SCORES if n.startswith(part)), 0.0) for n in SCORE_NAMES]
    )
    rest = np.minimum(np.percentile(scores[seen], RESTING_PERCENTILE, axis=0), usual)
    told = ((scores - rest) / (1 - rest)).clip(0, 1)
    result = np.full((len(scores), len(face.expression_names)), np.nan, np.float32)
    for number in range(len(face.expression_names)):
        arkit = ARKIT_NAMES[int(face.arkit_matrix[number].argmax())]
        if face.arkit_matrix[number].any() and arkit in SCORE_NAMES:
            result[:, number] = told[:, SCORE_NAMES.index(arkit)]
    return result


def fit_recording(
    face: Face,
    recordings: list[np.ndarray],
    fps: float,
    expected: np.ndarray | None = None,
    stiffness: Stiffness = Stiffness(),  # noqa: B008 (frozen)
    lens: Lens | None = None,
) -> Capture:
    """The first of a person's recordings, each (T, P, 2) px, as the bilinear model sees it.

    expected: (T, S), see `Fitter.fit`; stiffness, lens: see `Fitter`
    The points are the 68 of iBUG or MediaPipe's mesh, the same of all recordings. Raises InputError for points that no
    face fits.
    """
    from threadpoolctl import threadpool_limits

    # Many products of small matrices: several threads would mostly wait for each other.
    with threadpool_limits(1):
        points = points_of(recordings[0])
        keep, operator, weights = schema(face, points)
        pairs = lip_pairs(None if points is None else points[keep])
        faces = [_with_a_face(recording, keep) for recording in recordings]
        seen = faces[0]
        firsts = [
            recording[start : start + BEGINNING][:, keep]
            for recording, start in zip(recordings, (int(there.argmax()) for there in faces))
        ]
        identity, own = Fitter(
            face, operator, weights, pairs=pairs, stiffness=stiffness, lens=lens
        ).fit_person(firsts)
        # A person's own distance of the points from their vertices counts the more, the more recordings show it.
        fitter = Fitter(
            face, operator, weights, own * len(firsts) / (len(firsts) + 1), pairs, stiffness, lens
        )
        fitter.learn_closed_mouth(firsts, identity)
        time = np.arange(len(seen)) / fps
        # Every piece has a frame with a face in it: others are interpolated from these.
        bounds = [0]
        for start in range(PIECE, len(seen), PIECE):
            if seen[bounds[-1] : start].any() and seen[start:].any():
                bounds.append(start)
        parts = []
        for start, end in zip(bounds, [*bounds[1:], len(seen)]):
            around = slice(max(0, start - OVERLAP), min(len(seen), end + OVERLAP))
            likely = None if expected is None else expected[around]
            part = fitter.fit(
                recordings[0][around][:, keep], time[around], identity, expected=likely
            )
            parts.append(_cut(part, slice(start - around.start, end - around.start)))
        joined = {
            name: np.concatenate([getattr(part, name) for part in parts]) for name in PER_FRAME
        }
        return Capture(**joined, identity=parts[0].identity)


def _with_a_face(recording: np.ndarray, keep: np.ndarray) -> np.ndarray:
    """(T,) bool: the frames of a recording (T, P, 2) in which all points to keep are known."""
    starts = range(0, len(recording), PIECE)
    return np.concatenate(
        [np.isfinite(recording[k : k + PIECE][:, keep]).all((1, 2)) for k in starts]
    )


def _cut(capture: Capture, inside: slice) -> Capture:
    """Some frames of a capture."""
    return replace(capture, **{name: getattr(capture, name)[inside] for name in PER_FRAME})


def _with_gaze(capture: Capture, face: Face, expected: np.ndarray) -> Capture:
    """A capture whose eyes look where the tracker says, (T, S): points on the skin do not show that."""
    shapes = capture.shapes.copy()
    seen = np.flatnonzero(capture.seen)
    for number, name in enumerate(face.expression_names):
        if name.startswith("eyeLook") and np.isfinite(expected[seen, number]).all():
            shapes[:, number] = np.interp(np.arange(len(shapes)), seen, expected[seen, number])
    return replace(capture, shapes=shapes)
