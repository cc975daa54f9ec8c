"""Capture of a video of a person talking: tracked landmarks, fitted by Eq. 2 and 3."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from ..errors import InputError
from ..face.canonical import ARKIT_NAMES, Face
from ..files.reading import printable
from ..video.reader import MAX_VIDEO_FRAMES, open_video
from .camera import Lens
from .fitting import FRAME_FIELDS, VIDEO_FIT_SETTINGS, Capture, FitSettings, Fitter
from .landmark_tracker import (
    MESH_LANDMARKS,
    SCORE_NAMES,
    LandmarkTrackerProtocol,
    TrackedLandmarks,
)
from .landmarks import LandmarkSchema, check_spread, mesh_ids_of
from .resting import MIN_SCORE_RANGE, RestingMoment, RestingScores, quiet_frames

FIT_CHUNK_FRAMES = 1500  # frames fitted at a time, which bounds the memory
FIT_OVERLAP_FRAMES = 50  # frames on either side that are fitted with a chunk
PERSON_FRAMES = 1500  # frames, from the first with a face, that show identity and closed mouth
# Report a truncated video if more than this fraction of its duration, and at least 1 s, has no
# frames. Audio may run slightly longer.
TRUNCATED_FRACTION = 0.2
# A tracker's scores of faces at rest stay below these levels in nine of ten people who speak
# freely. A person's own level is the RESTING_SCORE_PERCENTILE of the scores, at most this.
RESTING_SCORES = (
    ("browDown", 0.2),
    ("browInnerUp", 0.2),
    ("browOuterUp", 0.3),
    ("eyeSquint", 0.4),
    ("eyeBlink", 0.2),
)
# Scores of the mouth's shapes whose level at rest depends on the person without a limit: some lips
# score 0.7 as pucker all the time.
UNLIMITED_RESTING_SCORES = (
    *("mouthPucker", "mouthFunnel", "mouthPress", "mouthRoll", "mouthShrug", "mouthDimple"),
    *("mouthStretch", "mouthFrown", "mouthClose", "mouthLowerDown", "mouthUpperUp"),
)
RESTING_SCORE_PERCENTILE = 10
IDENTITY_FRAMES = 48  # frames to which the identity is fitted
QUIET_FRACTION = 0.25  # of the frames with a face, from which they are chosen
SAMPLED_FRAMES = 240  # frames of landmarks without scores, in which quiet ones are searched

# Called with the number of frames tracked, and 0 for their total, which is not known.
TrackingProgress = Callable[[int, int], None]


@dataclass(frozen=True, eq=False)
class VideoCapture:
    """A fitted video of T frames."""

    capture: Capture  # rotation, scale and translation in the video's own pixels
    fps: float
    landmarks: np.ndarray  # (T, 478, 2) px of the video, NaN where no face was found
    scores: np.ndarray  # (T, 52) of the tracker, as SCORE_NAMES, NaN where no face was found
    residual_px: np.ndarray  # (T,) mean distance of the landmarks from the model's
    face_count: int = 1  # faces in the frame in which this one was detected
    missing_s: float = 0.0  # how much shorter a truncated video is than its file states
    lens: Lens | None = None  # of a perspective camera, None for scaled orthography


def capture_video(
    face: Face,
    path: Path,
    tracker: LandmarkTrackerProtocol,
    progress: TrackingProgress | None = None,
    face_number: int = 1,
    field_of_view: float | None = None,
    rest: float | Path | None = None,
) -> VideoCapture:
    """Fit the bilinear model to a video or an image.

    Frames without a face are interpolated, see `Capture.seen`.

    Parameters
    ----------
    face, path, tracker
        The face model, the video, and what tracks landmarks in it.
    face_number : int
        Number of the face to track, counted from 1 for the largest.
    field_of_view : float, optional
        Horizontal field of view of a perspective camera in degrees; scaled orthography if None.
    rest : float or path, optional
        When the person is at rest, in s, or an image or video of the person at rest. By default the
        video's quietest frames show the person's rest.

    Raises
    ------
    InputError
        For a file that cannot be read, or in which no frame shows that face.
    """
    moment = resting_moment(rest, tracker) if isinstance(rest, Path) else None
    with open_video(path) as video:
        lens = None if field_of_view is None else Lens.of_view(field_of_view, *video.size)
        tracked = tracker.follow(video.frames, face_number)
        landmarks, scores, face_count = track_landmarks(tracked, video.scale, path, progress)
    if not face_count:
        which = "no face" if face_number == 1 else f"no face number {face_number}"
        raise InputError(
            f"{printable(path)}: {which} found in it",
            "it should be well lit and look at the camera",
        )
    check_spread([landmarks], printable(path))
    missing_s = video.duration_s - len(landmarks) / video.fps
    if missing_s < max(TRUNCATED_FRACTION * video.duration_s, 1.0):
        missing_s = 0.0
    if isinstance(rest, float):
        moment = RestingMoment.at(rest, landmarks, video.fps, printable(path), scores)
    result = fit_landmarks(face, landmarks, scores, video.fps, lens, moment)
    return replace(result, face_count=face_count, missing_s=missing_s)


def track_landmarks(
    tracked: Iterator[TrackedLandmarks | None],
    scale: float,
    path: Path,
    progress: TrackingProgress | None = None,
) -> tuple[np.ndarray, np.ndarray, int]:
    """Collect the landmarks and scores of a video's frames.

    Parameters
    ----------
    tracked : iterator
        The tracker's result for each frame.
    scale : float
        Video pixels per pixel of a frame.
    path, progress
        As in `capture_video`.

    Returns
    -------
    landmarks : (T, 478, 2) float32
        In pixels of the video, NaN in frames without the face. They are mapped from an unnamed
        temporary file: those of an hour would fill half a gigabyte.
    scores : (T, 52) float32
        NaN in frames without the face.
    face_count : int
        Faces in the frame in which this one was detected.
    """
    scores, face_count = [], 0
    missing = TrackedLandmarks(
        np.full((MESH_LANDMARKS, 2), np.nan, np.float32),
        np.full(len(SCORE_NAMES), np.nan, np.float32),
        face_count=0,
    )
    with tempfile.TemporaryFile() as file:
        for number, face in enumerate(tracked):
            if number >= MAX_VIDEO_FRAMES:
                raise InputError(
                    f"{printable(path)}: more than {MAX_VIDEO_FRAMES} frames", "cut it into pieces"
                )
            result = face or missing
            file.write((result.landmarks[:, :2] * scale).astype(np.float32).tobytes())
            scores.append(result.scores)
            face_count = max(face_count, result.face_count)
            if progress:
                progress(number + 1, 0)
        if not scores:
            raise InputError(f"{printable(path)}: no frames in it", "check that it is a video")
        file.flush()
        landmarks = np.memmap(file, np.float32, "r", shape=(len(scores), MESH_LANDMARKS, 2))
    return landmarks, np.stack(scores), face_count


def resting_moment(path: Path, tracker: LandmarkTrackerProtocol) -> RestingMoment:
    """Return the quietest frames of an image or a video of a person at rest.

    Raises InputError for a file that cannot be read, or that shows no face.
    """
    with open_video(path) as video:
        landmarks, scores, _ = track_landmarks(tracker.follow(video.frames, 1), video.scale, path)
    seen = np.flatnonzero(np.isfinite(scores[:, 0]))
    if not len(seen):
        raise InputError(
            f"{printable(path)}: no face found in it", "name a picture of the person at rest"
        )
    quiet = seen[quiet_frames(scores[seen])]
    return RestingMoment(np.array(landmarks[quiet]), scores[quiet])


def fit_landmarks(
    face: Face,
    landmarks: np.ndarray,
    scores: np.ndarray,
    fps: float,
    lens: Lens | None = None,
    rest: RestingMoment | None = None,
    mesh_ids: np.ndarray | None = None,
) -> VideoCapture:
    """Fit the bilinear model to what `track_landmarks` returned.

    `rest` is a moment of the person at rest, by default what `RestingScores.of_recording` finds;
    `mesh_ids` as in `fit_recording`.
    """
    if rest is not None and rest.scores is not None:
        resting = RestingScores.of_moment(rest.scores)
    else:
        resting = RestingScores.of_recording(scores[np.isfinite(scores[:, 0])])
    expected = shapes_of_scores(face, resting.weights(_without_gaps(scores)))
    capture = fit_recording(
        face, [landmarks], fps, expected, VIDEO_FIT_SETTINGS, lens, rest, mesh_ids
    )
    capture = _with_gaze(capture, face, expected)
    residual_px = capture.residual * capture.scale
    return VideoCapture(capture, fps, landmarks, scores, residual_px, lens=lens)


def _without_gaps(scores: np.ndarray) -> np.ndarray:
    """Return scores (T, 52) whose frames without a face are interpolated."""
    seen = np.flatnonzero(np.isfinite(scores[:, 0]))
    result = np.empty_like(scores)
    for number, column in enumerate(scores.T):
        result[:, number] = np.interp(np.arange(len(scores)), seen, column[seen])
    return result


def expected_shapes(face: Face, scores: np.ndarray) -> np.ndarray:
    """Return the blend-shape weights that a tracker's scores predict.

    Scores at rest are not always 0: the video's RESTING_SCORE_PERCENTILE is subtracted, capped at
    the population's resting level.

    Parameters
    ----------
    face : Face
    scores : (T, 52)

    Returns
    -------
    (T, S) float32
        NaN in frames without a face, and for shapes without a score.
    """
    resting_level = np.zeros(len(SCORE_NAMES))
    for start, level in RESTING_SCORES:
        resting_level[[name.startswith(start) for name in SCORE_NAMES]] = level
    resting_level[[name.startswith(UNLIMITED_RESTING_SCORES) for name in SCORE_NAMES]] = 1
    seen = np.isfinite(scores[:, 0])
    percentile = np.percentile(scores[seen], RESTING_SCORE_PERCENTILE, axis=0)
    rest = np.minimum(percentile, resting_level)
    return shapes_of_scores(
        face, ((scores - rest) / np.maximum(1 - rest, MIN_SCORE_RANGE)).clip(0, 1)
    )


def shapes_of_scores(face: Face, weights: np.ndarray) -> np.ndarray:
    """Return weights (T, 52), as SCORE_NAMES, as those of the face's blend shapes.

    The result (T, S) float32 has NaN for shapes without a score.
    """
    result = np.full((len(weights), len(face.expression_names)), np.nan, np.float32)
    for number in range(len(face.expression_names)):
        name = ARKIT_NAMES[int(face.arkit_matrix[number].argmax())]
        if face.arkit_matrix[number].any() and name in SCORE_NAMES:
            result[:, number] = weights[:, SCORE_NAMES.index(name)]
    return result


def fit_recording(
    face: Face,
    recordings: list[np.ndarray],
    fps: float,
    expected: np.ndarray | None = None,
    settings: FitSettings = FitSettings(),  # noqa: B008 (frozen)
    lens: Lens | None = None,
    rest: RestingMoment | None = None,
    mesh_ids: np.ndarray | None = None,
) -> Capture:
    """Fit the bilinear model to the first of a person's recordings.

    The identity is fitted to the quietest frames of the whole recordings, or to those of `rest`.

    Parameters
    ----------
    face : Face
    recordings : list of (T, P, 2) arrays
        Landmarks in pixels, all of iBUG's 68 or all of MediaPipe's mesh. The others help to
        determine the identity.
    fps : float
        Frames per second of the first.
    expected, settings, lens
        See `Fitter.fit` and `Fitter`.
    rest : RestingMoment, optional
        The person at rest, with landmarks of the same kind.
    mesh_ids : (P,) int, optional
        Ids on MediaPipe's mesh, if the landmarks are only some of its.

    Raises
    ------
    InputError
        For landmarks that no face fits.
    """
    from threadpoolctl import threadpool_limits

    ids = mesh_ids_of(recordings[0]) if mesh_ids is None else mesh_ids
    schema = LandmarkSchema.of(face, ids)
    # Many products of small matrices: several threads would mostly wait for each other.
    with threadpool_limits(1):
        seen = [_seen_frames(landmarks, schema.rows) for landmarks in recordings]
        firsts = []
        for landmarks, with_face in zip(recordings, seen):
            start = int(with_face.argmax())
            firsts.append(landmarks[start : start + PERSON_FRAMES][:, schema.rows])
        fitter = Fitter(face, schema, None, settings, lens)
        if rest is not None:
            at_rest = rest.landmarks[_spread_out(len(rest.landmarks), IDENTITY_FRAMES)]
            identity, offset = fitter.fit_identity(at_rest[:, schema.rows], resting=True)
        elif expected is not None:
            quiet = _quietest(expected, np.flatnonzero(seen[0]))
            pixels = np.array(recordings[0][quiet][:, schema.rows])
            identity, offset = fitter.fit_identity(pixels, expected[quiet])
        else:
            identity, offset = _identity_of_quiet_frames(fitter, schema.rows, recordings, seen)
        # The weight of the person's own offset grows with the number of recordings. At rest, all that
        # the identity does not explain is the person's own.
        offset = offset * (1.0 if rest is not None else len(firsts) / (len(firsts) + 1))
        fitter = Fitter(face, schema, offset, settings, lens)
        fitter.learn_closed_mouth(firsts, identity)
        time = np.arange(len(seen[0])) / fps
        chunks = []
        for start, end in _chunks(seen[0]):
            first, last = max(0, start - FIT_OVERLAP_FRAMES), end + FIT_OVERLAP_FRAMES
            capture = fitter.fit(
                recordings[0][first:last][:, schema.rows],
                time[first:last],
                identity,
                expected=None if expected is None else expected[first:last],
            )
            chunk = slice(start - first, end - first)
            chunks.append({name: getattr(capture, name)[chunk] for name in FRAME_FIELDS})
        frames = {name: np.concatenate([chunk[name] for chunk in chunks]) for name in FRAME_FIELDS}
        return Capture(**frames, identity=capture.identity)


def _quietest(shapes: np.ndarray, frames: np.ndarray) -> np.ndarray:
    """Return IDENTITY_FRAMES of `frames` with small weights (T, S), in order and spread out."""
    expression = np.nansum(shapes[frames], axis=1)
    count = max(IDENTITY_FRAMES, round(QUIET_FRACTION * len(frames)))
    quiet = np.sort(frames[np.argsort(expression, kind="stable")[:count]])
    return quiet[_spread_out(len(quiet), IDENTITY_FRAMES)]


def _spread_out(length: int, count: int) -> np.ndarray:
    """Return at most `count` indices of a sequence, evenly spread out from its first to its last."""
    return np.unique(np.linspace(0, length - 1, min(count, length)).round().astype(int))


def _identity_of_quiet_frames(
    fitter: Fitter, rows: np.ndarray, recordings: list[np.ndarray], seen: list[np.ndarray]
) -> tuple[np.ndarray, np.ndarray]:
    """Fit the identity to the frames of recordings in which it explains most of the landmarks.

    Returns what `Fitter.fit_identity` returns. Without scores, a first fit to frames of all the
    recordings shows which ones are quiet. `rows` are those of the fitter's schema, and `seen` (T,)
    says for each recording which frames have a face.
    """
    count = max(IDENTITY_FRAMES, SAMPLED_FRAMES // len(recordings))
    sampled = []
    for landmarks, with_face in zip(recordings, seen):
        frames = np.flatnonzero(with_face)
        sampled.append(landmarks[frames[_spread_out(len(frames), count)]][:, rows])
    pixels = np.concatenate(sampled)
    identity, _ = fitter.fit_identity(pixels)
    shapes = fitter.fit(pixels, np.arange(len(pixels), dtype=float), identity).shapes
    return fitter.fit_identity(pixels[_quietest(shapes, np.arange(len(pixels)))])


def _chunks(seen: np.ndarray) -> list[tuple[int, int]]:
    """Return the first and last frame of each chunk of a recording whose faces are `seen` (T,).

    Every chunk has a frame with a face, from which the others are interpolated.
    """
    bounds = [0]
    for start in range(FIT_CHUNK_FRAMES, len(seen), FIT_CHUNK_FRAMES):
        if seen[bounds[-1] : start].any() and seen[start:].any():
            bounds.append(start)
    return list(zip(bounds, [*bounds[1:], len(seen)]))


def _seen_frames(landmarks: np.ndarray, rows: np.ndarray) -> np.ndarray:
    """Return which frames of landmarks (T, P, 2) have all those in `rows`, (T,) bool."""
    starts = range(0, len(landmarks), FIT_CHUNK_FRAMES)
    chunks = (landmarks[start : start + FIT_CHUNK_FRAMES][:, rows] for start in starts)
    return np.concatenate([np.isfinite(chunk).all((1, 2)) for chunk in chunks])


def _with_gaze(capture: Capture, face: Face, expected: np.ndarray) -> Capture:
    """Take the gaze from the predicted weights (T, S): landmarks on the skin do not show it."""
    shapes = capture.shapes.copy()
    for number, name in enumerate(face.expression_names):
        if name.startswith("eyeLook") and np.isfinite(expected[:, number]).all():
            shapes[:, number] = expected[:, number]
    return replace(capture, shapes=shapes)
