"""Inputs of reconstruction: a video or an image, landmarks, curves, or a fitted clip.

A source checks its input when it is opened, and gives a `Performance` when it is fitted.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Protocol, TypeGuard

import numpy as np

from ..audio.recording import Audio
from ..errors import InputError
from ..files.content import named_as
from ..files.reading import printable
from ..formats.live_link import head_rotation
from ..video.reader import CAPTURE_ENDINGS, IMAGE_ENDINGS, VIDEO_ENDINGS, check_video
from ..weights.models import Models
from .audio_sync import Delay, audio_delay, delayed, video_audio
from .fitted_clips import read_fitted_clip
from .fitting import FITTED_IDENTITY_MODES, Capture
from .landmark_files import (
    LANDMARK_ENDINGS,
    Curves,
    as_landmarks,
    check_recordings,
    read_landmark_file,
)
from .landmark_tracker import LandmarkTracker
from .resting import MIN_SCORE_RANGE, RestingMoment, frames_at
from .video_capture import TrackingProgress, VideoCapture, capture_video, fit_recording

SOURCE_HINT = (
    f"videos ({', '.join(VIDEO_ENDINGS)}), images ({', '.join(IMAGE_ENDINGS)}) and landmarks or curves "
    f"({', '.join(LANDMARK_ENDINGS)}) are read; a folder of videos with --corpus folder"
)
DEFAULT_LANDMARK_FPS = 30.0  # of landmarks whose file does not state a frame rate


@dataclass(frozen=True, eq=False)
class Performance:
    """A person's expression and head pose, fitted to a source."""

    name: str  # of the source's file
    capture: Capture
    fps: float
    video: VideoCapture | None = None  # of a video: its fit, before any synchronisation
    audio: Audio | None = None
    delay: Delay | None = None  # of the audio against the lips
    is_curves: bool = False  # whether nothing was fitted: the source had blend-shape weights


class PerformanceSource(Protocol):
    """An input that has been checked and can be fitted."""

    def fit(self, models: Models, progress: TrackingProgress | None = None) -> Performance:
        """Return the performance. Raises InputError if no face fits."""
        ...


def is_video(source: object) -> TypeGuard[str | Path]:
    """Whether a source is the path of a video or an image."""
    return isinstance(source, str | Path) and Path(source).suffix.lower() in CAPTURE_ENDINGS


class VideoSource:
    """A video or an image of a person; face number, field of view, rest as in `capture_video`.

    With `synchronise`, the lip motion is shifted in time to match the audio.
    """

    def __init__(
        self,
        path: Path,
        face_number: int,
        field_of_view: float | None,
        synchronise: bool,
        rest: float | Path | None = None,
    ):
        check_video(path)
        if isinstance(rest, Path):
            check_resting_picture(rest)
        self.path, self.face_number, self.field_of_view = path, face_number, field_of_view
        self.rest = rest
        self.synchronise = synchronise
        self.tracker = LandmarkTracker()  # a missing package is reported before any work

    def fit(self, models: Models, progress: TrackingProgress | None = None) -> Performance:
        """Track and fit the face, and measure the delay of the audio."""
        video = capture_video(
            models.face,
            self.path,
            self.tracker,
            progress,
            self.face_number,
            self.field_of_view,
            self.rest,
        )
        capture, delay, audio = video.capture, None, video_audio(self.path)
        if audio is not None:
            delay = audio_delay(capture, models.face, models.talking, audio)
        if self.synchronise and delay is not None:
            capture = delayed(capture, delay.seconds)
        return Performance(self.path.name, capture, video.fps, video, audio, delay)


@dataclass(frozen=True)
class LandmarkSource:
    """Landmarks of recordings of one person; the first recording is animated."""

    name: str
    recordings: list[np.ndarray]  # each (T, P, 2) px
    fps: float
    rest: RestingMoment | None = None

    def __post_init__(self) -> None:
        check_recordings(self.recordings, self.name)

    def fit(self, models: Models, progress: TrackingProgress | None = None) -> Performance:
        """Fit the face to the landmarks."""
        try:
            capture = fit_recording(models.face, self.recordings, self.fps, rest=self.rest)
        except InputError as error:
            raise InputError(f"{self.name}: {error.message}", error.hint) from None
        return Performance(self.name, capture, self.fps)


@dataclass(frozen=True)
class CurveSource:
    """Animation curves, shown by the mean person.

    `rest`, a time in s, is when the person is at rest: the curves of that moment are subtracted.
    """

    name: str
    curves: Curves
    rest: float | None = None

    def __post_init__(self) -> None:
        if self.rest is not None:
            frames_at(self.rest, len(self.curves.arkit), self.curves.fps, self.name)

    def fit(self, models: Models, progress: TrackingProgress | None = None) -> Performance:
        """Return the curves as a capture; nothing is fitted."""
        curves, arkit = self.curves, self.curves.arkit
        if self.rest is not None:
            frames = frames_at(self.rest, len(arkit), curves.fps, self.name)
            rest = np.median(arkit[frames], axis=0)
            arkit = ((arkit - rest) / np.maximum(1 - rest, MIN_SCORE_RANGE)).clip(0, 1)
        shapes = arkit @ (models.face.arkit_matrix > 0).T
        time = np.arange(len(shapes)) / curves.fps
        rotation = head_rotation(curves.head)
        capture = Capture.from_weights(shapes, time, FITTED_IDENTITY_MODES, rotation)
        return Performance(self.name, capture, curves.fps, is_curves=True)


@dataclass(frozen=True)
class ClipSource:
    """A fitted clip of a folder of videos."""

    path: Path

    def fit(self, models: Models, progress: TrackingProgress | None = None) -> Performance:
        """Return the capture; motion is shifted if its times were shifted to match the audio."""
        clip = read_fitted_clip(self.path, models.face)
        count, shift = len(clip.capture.time), float(clip.capture.time[0])
        capture = replace(clip.capture, time=np.arange(count) / clip.fps)
        if shift:
            capture = delayed(capture, shift)
        return Performance(self.path.name, capture, clip.fps)


@dataclass(frozen=True)
class WithAudio:
    """A source that has no audio, with a recording for it."""

    source: PerformanceSource
    audio: Audio

    def fit(self, models: Models, progress: TrackingProgress | None = None) -> Performance:
        """Return the performance of the source, with the audio."""
        return replace(self.source.fit(models, progress), audio=self.audio)


def landmark_source(
    source: str | Path | np.ndarray,
    fps: float | None,
    image_size: tuple[int, int] | None,
    rest: float | Path | None = None,
) -> LandmarkSource | CurveSource:
    """Open landmarks, in an array or a file, or a file of curves; see `ReconstructOptions`.

    Raises InputError for anything that is neither landmarks of a face nor curves.
    """
    if not isinstance(source, str | Path):
        landmarks = as_landmarks(np.asarray(source), "landmarks", image_size)
        opened = LandmarkSource("landmarks", [landmarks], fps or DEFAULT_LANDMARK_FPS)
        return _with_rest(opened, rest, image_size)
    path = Path(source)
    if path.suffix.lower() not in LANDMARK_ENDINGS:
        raise _wrong_kind(path)
    content = read_landmark_file(path, image_size)
    fps = fps or content.fps or DEFAULT_LANDMARK_FPS
    if isinstance(content, Curves):
        if isinstance(rest, Path):
            raise InputError(
                f"{printable(rest)}: curves are at rest at a moment of their own",
                "give --rest in seconds",
            )
        return CurveSource(path.name, replace(content, fps=fps), rest)
    return _with_rest(LandmarkSource(path.name, content.recordings, fps), rest, image_size)


def _wrong_kind(path: Path) -> InputError:
    """Return the error for a path whose ending is none of a performance."""
    if path.is_dir():
        return InputError(
            f"{printable(path)} is a folder, not a video, an image, landmarks or curves",
            "name a file in it, or add --corpus folder to take all of its videos",
        )
    if not path.exists():
        return InputError(f"{printable(path)}: no such file", "check the path")
    kind = named_as(path) or "unknown kind of file"
    return InputError(
        f"{printable(path)}: {kind}, not a video, an image, landmarks or curves", SOURCE_HINT
    )


def _with_rest(
    source: LandmarkSource, rest: float | Path | None, image_size: tuple[int, int] | None
) -> LandmarkSource:
    """Return landmarks with a moment at which the person is at rest: in s, or another file."""
    if rest is None:
        return source
    first = source.recordings[0]
    if not isinstance(rest, Path):
        return replace(source, rest=RestingMoment.at(rest, first, source.fps, source.name))
    hint = "name landmarks of the person at rest, of the same kind, or a time in seconds"
    if rest.suffix.lower() not in LANDMARK_ENDINGS:
        raise InputError(f"{printable(rest)}: not a file of landmarks", hint)
    content = read_landmark_file(rest, image_size)
    if isinstance(content, Curves):
        raise InputError(f"{printable(rest)}: curves, not landmarks", hint)
    check_recordings(content.recordings, rest.name)
    landmarks = np.concatenate(content.recordings)
    if landmarks.shape[1] != first.shape[1]:
        points = f"{landmarks.shape[1]} landmarks, {source.name} has {first.shape[1]}"
        raise InputError(f"{printable(rest)}: {points}", hint)
    seen = np.isfinite(landmarks).all((1, 2))
    return replace(source, rest=RestingMoment(landmarks[seen]))


def check_resting_picture(path: Path) -> None:
    """Raise InputError for a file that is neither an image nor a video of a person at rest."""
    if path.suffix.lower() not in CAPTURE_ENDINGS:
        raise InputError(
            f"{printable(path)}: neither a picture nor a video of the person at rest",
            "name one, or a time in seconds",
        )
    check_video(path)
