"""Corpora that users make: folders of the data folder with a corpus.toml.

    my_corpus/corpus.toml              licence and use, see `CustomCorpus`
    my_corpus/clips.tsv                a row per clip: name, speaker and further columns
    my_corpus/audio/NAME.wav           or .flac, .ogg, .mp3
    my_corpus/landmarks/NAME.npy       or .npz, .csv, .json, as `talkemo reconstruct` reads them
    my_corpus/videos/NAME.mp4          instead of landmarks, or of landmarks and audio

docs/data.md describes the columns and the manifest. The landmarks of videos are tracked once, and
kept in the user's cache folder.
"""

from __future__ import annotations

import math
import os
import re
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, fields
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from ..capture.landmark_files import LANDMARK_ENDINGS, LandmarkFile, read_landmark_file
from ..capture.landmark_tracker import LandmarkTracker, LandmarkTrackerProtocol
from ..capture.landmarks import check_spread, mesh_ids_of
from ..capture.video_capture import track_landmarks
from ..errors import InputError
from ..expression.emotions import EMOTION_SYNONYMS, EMOTIONS
from ..files.cache import (
    cache_folder,
    digest,
    read_cached,
    remove_least_recent,
    sha256,
    write_cached,
)
from ..files.reading import printable, read_text
from ..video.reader import VIDEO_ENDINGS, open_video
from .recordings import SPLITS, Recording, read_table

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

MANIFEST_NAME = "corpus.toml"
CLIPS_TABLE = "clips.tsv"
CORPUS_MANIFEST_HINT = 'it needs lines such as: licence = "CC BY 4.0"'
MAX_CORPUS_MANIFEST_BYTES = 1 << 12  # dotted keys of a longer one would take minutes
CLIP_AUDIO_ENDINGS = (".wav", ".flac", ".ogg", ".mp3")
CORPUS_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{0,63}")
CLIP_NAME = re.compile(r"(?!\.)[^/\\\x00-\x1f\x7f]{1,200}")
# Names that a custom corpus cannot have: folders that talkemo reads differently, and names that
# `train talking` uses.
RESERVED_NAMES = frozenset(
    "ravdess grid_s1 talking talking_more arabic_news java_sed facegood speech ict_facekit meshes models "
    "emotional_speech noise pseudo_labelled".split()
)
LANDMARK_FPS_RANGE = (1.0, 1000.0)  # frame rates of landmarks that are accepted
MAX_SOUND_DELAY_S = 10.0
TRACKING_VERSION = 2  # part of the fingerprint of tracked landmarks: raise it when they change
TRACKED_ENDING = ".landmarks.npz"
MAX_TRACKED_BYTES = 1 << 31  # total size of the tracked landmarks in the cache


@dataclass(frozen=True)
class CustomCorpus:
    """A corpus that a user made. The fields are the keys of its corpus.toml, except the name."""

    name: str  # of the folder
    licence: str
    # Whether it may be used for any purpose, products included: `train --free` uses it then.
    any_use: bool = False
    acted: bool = False  # whether its emotions are acted: `train emotion` learns from them
    share: float = 0.2  # of a batch of `train talking` and `train lips`, relative to the others
    fps: float | None = None  # of landmarks whose file and row do not state it


def find_custom_corpora(data: Path) -> list[CustomCorpus]:
    """Return the custom corpora in the folder `data`, by name.

    Raises InputError for an unusable manifest, and for one in a folder with a reserved name.
    """
    folders = sorted(path.parent for path in data.glob(f"*/{MANIFEST_NAME}") if path.is_file())
    for folder in folders:
        if folder.name in RESERVED_NAMES or not CORPUS_NAME.fullmatch(folder.name):
            raise InputError(
                f"{printable(folder)}: a corpus of one's own cannot have this name",
                "rename the folder: letters, digits, _ and -, and no name that talkemo uses",
            )
    return [read_manifest(folder) for folder in folders]


def is_custom_corpus(folder: Path) -> bool:
    """Whether a folder is a custom corpus."""
    return folder.name not in RESERVED_NAMES and (folder / MANIFEST_NAME).is_file()


def read_manifest(folder: Path) -> CustomCorpus:
    """Read a folder's corpus.toml. Raises InputError if it lacks the licence or has other keys."""
    path = folder / MANIFEST_NAME
    text = read_text(
        path, "a manifest of a corpus", CORPUS_MANIFEST_HINT, MAX_CORPUS_MANIFEST_BYTES
    )
    try:
        table = tomllib.loads(text)
        _check_manifest(table)
    except (ValueError, RecursionError) as error:
        raise InputError(
            f"{printable(path)}: not a manifest of a corpus ({printable(error)})",
            CORPUS_MANIFEST_HINT,
        ) from None
    return CustomCorpus(folder.name, **table)


def _check_manifest(table: dict[str, Any]) -> None:
    """Raise ValueError for a key that is missing, unknown, or has an unusable value."""
    known = {field.name for field in fields(CustomCorpus)} - {"name"}
    unknown = sorted(table.keys() - known)
    if unknown:
        raise ValueError(f"unknown key {unknown[0]}; the keys are {', '.join(sorted(known))}")
    licence = table.get("licence")
    if not isinstance(licence, str) or not licence.strip():
        raise ValueError("it has no licence")
    for name in ("any_use", "acted"):
        if not isinstance(table.get(name, False), bool):
            raise ValueError(f"{name} is true or false")
    _number(table.get("share", 1), "share", 0.001, 100)
    if "fps" in table:
        _number(table["fps"], "fps", *LANDMARK_FPS_RANGE)


def _number(value: Any, name: str, minimum: float, maximum: float) -> float:
    """Return a number, or a text with one. Raises ValueError outside [minimum, maximum]."""
    try:
        number = math.nan if isinstance(value, bool) else float(value)
    except (TypeError, ValueError):
        number = math.nan
    if not minimum <= number <= maximum:
        raise ValueError(f"{name} is a number from {minimum:g} to {maximum:g}, not {value}")
    return number


# ------------------------------------------------------------------------------------------- clips


@dataclass(frozen=True)
class CustomClip:
    """A row of clips.tsv, checked, with the files of the clip."""

    name: str
    speaker: str
    emotion: str
    split: str
    fps: float | None  # None if neither the row nor the manifest states it
    sound_delay_s: float  # delay of the audio after the landmarks
    audio: Path  # the video if the clip has no file of audio
    landmarks: Path | None  # None if they are tracked in the video
    video: Path | None

    @cached_property
    def source(self) -> Path:
        """The file that the landmarks come from."""
        source = self.landmarks or self.video
        assert source is not None  # see `read_clips`
        return source


def read_custom(
    folder: Path, manifest: CustomCorpus, progress: Callable[[int, int], None] | None = None
) -> Iterator[Recording]:
    """Yield the recordings of a custom corpus; all rows are checked before the first.

    `progress` is called with the number of videos that are tracked and their total. Raises
    InputError for an unusable row or file.
    """
    clips = read_clips(folder, manifest)
    tracking = VideoTracking(sum(clip.landmarks is None for clip in clips), progress)
    first: Recording | None = None
    for clip in clips:
        scores = None
        if clip.landmarks is None:
            landmarks, scores, fps = tracking.track(clip)
        else:
            landmarks, fps = _read_landmarks(clip)
        recording = Recording(
            corpus=folder.name,
            name=clip.name,
            speaker=f"{folder.name}_{clip.speaker}",
            emotion=clip.emotion,
            split=clip.split,
            audio=clip.audio,
            time=np.arange(len(landmarks)) / fps + clip.sound_delay_s,
            landmarks=landmarks,
            mesh_ids=mesh_ids_of(landmarks),
            scores=scores,
        )
        first = first or recording
        if landmarks.shape[1] != first.landmarks.shape[1]:
            raise InputError(
                f"{printable(clip.source)}: {landmarks.shape[1]} landmarks, but "
                f"{first.landmarks.shape[1]} in {printable(first.name)}",
                "a corpus has one kind of landmarks; make two corpora",
            )
        yield recording


def read_clips(folder: Path, manifest: CustomCorpus) -> list[CustomClip]:
    """Return the rows of a custom corpus's clips.tsv. Raises InputError for an unusable one."""
    path = folder / CLIPS_TABLE
    clips: dict[str, CustomClip] = {}
    for number, row in enumerate(read_table(path, ("name", "speaker")), 2):
        try:
            clip = _clip_of_row(folder, manifest, row)
            if clip.name in clips:
                raise ValueError(f"a second clip called {clip.name}")
        except ValueError as error:
            raise InputError(
                f"{printable(path)}: line {number}: {printable(error)}",
                "see the page about data in talkemo's documentation",
            ) from None
        clips[clip.name] = clip
    if not clips:
        raise InputError(f"{printable(path)}: no clips in it", "add a row for each clip")
    return list(clips.values())


def _clip_of_row(folder: Path, manifest: CustomCorpus, row: dict[str, str]) -> CustomClip:
    """Return the clip of a row. Raises ValueError for unusable values and missing files."""
    values = {column: (text or "").strip() for column, text in row.items() if column}
    name, speaker = values["name"], values["speaker"]
    if not CLIP_NAME.fullmatch(name):
        raise ValueError(f"'{name}' cannot be a clip's name: it is a file's name without folders")
    if not speaker:
        raise ValueError(f"{name} has no speaker")
    emotion = (values.get("emotion") or "neutral").lower()
    emotion = EMOTION_SYNONYMS.get(emotion, emotion)
    _check_choice(emotion, "emotion", EMOTIONS)
    split = values.get("split") or "train"
    _check_choice(split, "split", SPLITS)
    fps, delay = values.get("fps") or manifest.fps, values.get("sound_delay_s") or 0
    landmarks = _find_file(folder / "landmarks", name, LANDMARK_ENDINGS)
    video = _find_file(folder / "videos", name, VIDEO_ENDINGS)
    audio = _find_file(folder / "audio", name, CLIP_AUDIO_ENDINGS) or video
    if landmarks is None and video is None:
        raise ValueError(f"{name} has neither landmarks/{name}.npy nor videos/{name}.mp4")
    if audio is None:
        raise ValueError(f"{name} has neither audio/{name}.wav nor videos/{name}.mp4")
    return CustomClip(
        name=name,
        speaker=speaker,
        emotion=emotion,
        split=split,
        fps=None if fps is None else _number(fps, "fps", *LANDMARK_FPS_RANGE),
        sound_delay_s=_number(delay, "sound_delay_s", -MAX_SOUND_DELAY_S, MAX_SOUND_DELAY_S),
        audio=audio,
        landmarks=landmarks,
        video=video,
    )


def _check_choice(value: str, column: str, choices: Sequence[str]) -> None:
    """Raise ValueError unless the value of a column is one of several."""
    if value not in choices:
        raise ValueError(f"unknown {column} '{value}'; choose from {', '.join(choices)}")


def _find_file(folder: Path, name: str, endings: Iterable[str]) -> Path | None:
    """Return the first file called NAME with one of several endings, None if there is none."""
    paths = (folder / f"{name}{ending}" for ending in endings)
    return next((path for path in paths if path.is_file()), None)


def _read_landmarks(clip: CustomClip) -> tuple[np.ndarray, float]:
    """Return a clip's landmarks (T, P, 2) px, NaN in frames without a face, and its frame rate."""
    path = clip.source
    content = read_landmark_file(path)
    if not isinstance(content, LandmarkFile) or len(content.recordings) != 1:
        raise InputError(
            f"{printable(path)}: not the landmarks of one clip",
            "a file for each clip, with 68 points or MediaPipe's 478 a frame",
        )
    fps = clip.fps or content.fps
    if fps is None:
        raise InputError(
            f"{printable(path)}: no frame rate is known",
            f"add a column fps to {CLIPS_TABLE}, or fps to {MANIFEST_NAME}",
        )
    landmarks = content.recordings[0].astype(np.float32)
    check_spread([landmarks], printable(path))
    landmarks[~np.isfinite(landmarks).all((1, 2))] = np.nan
    return landmarks, fps


def landmarks_cache() -> Path:
    """Return the folder of the landmarks of videos that were tracked."""
    return cache_folder() / "landmarks"


class VideoTracking:
    """Tracks the landmarks of videos, or reads them from the cache."""

    def __init__(self, total: int, progress: Callable[[int, int], None] | None):
        self.done, self.total, self.progress = 0, total, progress
        self.folder = landmarks_cache()

    @cached_property
    def tracker(self) -> LandmarkTrackerProtocol:
        """The landmark tracker, which is loaded only if a video is not in the cache."""
        return LandmarkTracker()

    def track(self, clip: CustomClip) -> tuple[np.ndarray, np.ndarray, float]:
        """Return landmarks (T, 478, 2) px, scores (T, 52) and the frame rate of a clip's video."""
        path = clip.source
        fingerprint = digest(TRACKING_VERSION, sha256(path))
        cached = self.folder / f"{fingerprint[:40]}{TRACKED_ENDING}"
        arrays = read_cached(cached, fingerprint)
        if not {"landmarks", "scores", "fps"} <= arrays.keys():
            with open_video(path) as video:
                landmarks, scores, _ = track_landmarks(
                    self.tracker.follow(video.frames, 1), video.scale, path
                )
                arrays = {"landmarks": np.array(landmarks), "scores": scores}
                arrays["fps"] = np.array(video.fps)
            with suppress(OSError):  # if the disk is full, the video is tracked again next time
                write_cached(cached, fingerprint, arrays)
                remove_least_recent(self.folder.glob(f"*{TRACKED_ENDING}"), MAX_TRACKED_BYTES)
        else:
            with suppress(OSError):
                os.utime(cached)  # the time of the last use
        self.done += 1
        if self.progress:
            self.progress(self.done, self.total)
        return arrays["landmarks"], arrays["scores"], float(arrays["fps"])
