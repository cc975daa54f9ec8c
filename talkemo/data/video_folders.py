"""Fits every video of a folder: RAVDESS and GRID as they are published, or any videos.

Each clip becomes a small npz, see capture/fitted_clips.py. A manifest lists the speaker, sentence
and emotion of each clip, and the quality of its fit. An interrupted run continues with the clips
that were not tried yet.
"""

from __future__ import annotations

import csv
import hashlib
import os
import re
from collections.abc import Callable
from dataclasses import asdict, dataclass, fields, replace
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np

from ..capture.audio_sync import audio_delay, video_audio
from ..capture.fitted_clips import FITTED_CLIP, FittedClip, save_fitted_clip
from ..capture.landmark_tracker import LandmarkTracker
from ..capture.video_capture import capture_video
from ..errors import InputError, TalkemoError, explain
from ..expression.emotions import EMOTIONS
from ..files.arrays import read_npz
from ..files.reading import printable, reading_errors
from ..files.writing import atomic_write
from ..pipelines.outputs import check_mode
from ..video.reader import VIDEO_ENDINGS
from ..weights.models import Models, load_models
from ..weights.registry import DEFAULT_SET
from ..weights.weight_set import bundled_sets
from .corpora import RAVDESS_DEV_ACTORS

CORPUS_KINDS = ("ravdess", "grid", "folder")
MANIFEST = "manifest.csv"
CLIPS, FAILED = "clips", "failed"  # folders of fitted clips, and of reasons why others failed
DEV_SPEAKER_INTERVAL = 10  # about every tenth speaker is in the dev split, chosen by the name
MAX_REASON_LENGTH = 200  # characters of a failure in the manifest
RAVDESS_NAME = re.compile(r"0[12]-0([12])-0([1-8])-0([12])-0([12])-0([12])-(\d\d)")
RAVDESS_SENTENCES = ("Kids are talking by the door", "Dogs are sitting by the door")
GRID_DIGITS = "zero one two three four five six seven eight nine".split()
GRID_WORDS = (
    {"b": "bin", "l": "lay", "p": "place", "s": "set"},
    {"b": "blue", "g": "green", "r": "red", "w": "white"},
    {"a": "at", "b": "by", "i": "in", "w": "with"},
    {letter: letter for letter in "abcdefghijklmnopqrstuvxyz"},
    dict(zip("z123456789", GRID_DIGITS)),
    {"a": "again", "n": "now", "p": "please", "s": "soon"},
)


@dataclass(frozen=True)
class VideoClip:
    """A video of a corpus; the fields are columns of the manifest."""

    path: str  # under the corpus's folder
    speaker: str
    emotion: str
    level: str  # normal or strong, of acted emotion
    sentence: str
    split: str


@dataclass(frozen=True)
class ClipResult:
    """How a clip was fitted, or why it failed; the fields are columns of the manifest."""

    file: str = ""  # the npz, under the output folder
    seconds: float = 0.0
    fps: float | None = None
    frames: int = 0
    found: float | None = None  # fraction of the frames in which a face was found
    residual_mm: float | None = None
    residual_px: float | None = None
    sound_delay_s: float | None = None
    sound_r: float | None = None
    failed: str = ""


# ------------------------------------------------------------------------------------------- clips


def find_clips(folder: Path, kind: str) -> list[VideoClip]:
    """Return the videos under a folder, sorted by path; links are not followed.

    `kind`, one of CORPUS_KINDS, says what their names mean. Raises InputError if there is none.
    """
    if kind not in CORPUS_KINDS:
        raise InputError(f"unknown kind of corpus '{kind}'", f"choose {', '.join(CORPUS_KINDS)}")
    if not folder.is_dir():
        raise InputError(f"{folder}: no such folder", "name the folder of a corpus's videos")
    clip_of = {"ravdess": _ravdess_clip, "grid": _grid_clip, "folder": _any_clip}[kind]
    paths = sorted(
        path
        for path in folder.rglob("*")
        if path.suffix.lower() in VIDEO_ENDINGS and path.is_file() and not path.is_symlink()
    )
    clips = [clip for path in paths if (clip := clip_of(path.relative_to(folder)))]
    if not clips:
        raise InputError(
            f"{folder}: no videos of the kind {kind} in it",
            f"{', '.join(VIDEO_ENDINGS)} are read; see --corpus",
        )
    return clips


def _ravdess_clip(path: Path) -> VideoClip | None:
    """Read modality-channel-emotion-intensity-statement-repetition-actor; channel 02 is song."""
    match = RAVDESS_NAME.fullmatch(path.stem)
    if match is None or match[1] != "1":
        return None
    emotion, level, sentence, _, actor = match.groups()[1:]
    return VideoClip(
        path=path.as_posix(),
        speaker=f"ravdess_{actor}",
        emotion=EMOTIONS[int(emotion) - 1],
        level="strong" if level == "2" else "normal",
        sentence=RAVDESS_SENTENCES[int(sentence) - 1],
        split="dev" if int(actor) in RAVDESS_DEV_ACTORS else "train",
    )


def _grid_clip(path: Path) -> VideoClip | None:
    """Read six letters for six words; the speaker is the folder called s and a number."""
    letters = path.stem.lower()
    if len(letters) != 6 or not all(letter in words for letter, words in zip(letters, GRID_WORDS)):
        return None
    sentence = " ".join(words[letter] for letter, words in zip(letters, GRID_WORDS))
    numbered = [folder for folder in path.parts[:-1] if re.fullmatch(r"s\d+", folder)]
    speaker = f"grid_{numbered[-1]}" if numbered else "grid"
    return VideoClip(path.as_posix(), speaker, "neutral", "normal", sentence, split_of(speaker))


def _any_clip(path: Path) -> VideoClip:
    """Return a clip whose speaker is the first folder, or else the video itself."""
    speaker = path.parts[0] if len(path.parts) > 1 else path.stem
    return VideoClip(path.as_posix(), speaker, "neutral", "normal", "", split_of(speaker))


def split_of(speaker: str) -> str:
    """Return train or dev, always the same for a speaker."""
    number = int(hashlib.sha256(os.fsencode(speaker)).hexdigest(), 16)
    return "dev" if number % DEV_SPEAKER_INTERVAL == 0 else "train"


# ------------------------------------------------------------------------------------------ fitting


@dataclass(frozen=True)
class FolderTask:
    """What a process needs to fit one clip of a folder."""

    clip: VideoClip
    folder: Path
    out: Path
    weights: str
    synchronise: bool

    @property
    def fitted_path(self) -> Path:
        """Where the fit is written."""
        return self.out / CLIPS / f"{clip_file_name(self.clip)}.npz"

    @property
    def failed_path(self) -> Path:
        """Where a failure is written."""
        return self.out / FAILED / f"{clip_file_name(self.clip)}.txt"


def clip_file_name(clip: VideoClip) -> str:
    """Return a name for the files of a clip: its path, readable and without folders."""
    readable = re.sub(r"[^A-Za-z0-9_.-]", "_", clip.path)[-80:]
    return f"{readable}-{hashlib.sha256(os.fsencode(clip.path)).hexdigest()[:8]}"


def capture_folder(
    folder: Path,
    kind: str,
    out: Path,
    weights: str | Path = DEFAULT_SET,
    *,
    sync: str = "off",
    jobs: int = 1,
    scheduler: str | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> dict[str, Any]:
    """Fit every video of a folder to `out`/clips, and write `out`/manifest.csv.

    Clips that are fitted or have failed are not tried again. The delay of every clip's audio is
    measured and listed. `folder` and `kind` are those of `find_clips`.

    Parameters
    ----------
    sync : str
        auto or off: whether a clip's times are those of its audio.
    jobs, scheduler
        Number of processes on this machine; or the address of a Dask cluster whose machines see the
        folders by the same names.
    progress : callable, optional
        Called with the number of clips done and their total.

    Returns
    -------
    dict
        Metrics over all clips, by name.

    Raises
    ------
    InputError
        If there is nothing to do, or `out` is not a folder.
    TalkemoError
        If clips could not be tried, for example because the disk is full. The others are fitted.
    """
    synchronise = check_mode(sync, "way to synchronise")
    clips = find_clips(folder, kind)
    if out.suffix in (".npz", ".csv") or (out.exists() and not out.is_dir()):
        raise InputError(f"{out}: a corpus goes into a folder", "choose a folder's name")
    LandmarkTracker()  # reports what is not installed
    for name in (CLIPS, FAILED):
        (out / name).mkdir(parents=True, exist_ok=True)
    tasks = [
        FolderTask(clip, folder.resolve(), out.resolve(), _absolute(weights), synchronise)
        for clip in clips
    ]
    untried = _capture_clips(tasks, jobs, scheduler, progress)
    results = [_clip_result(task, untried.get(task.clip.path, "not tried")) for task in tasks]
    _write_manifest(out / MANIFEST, clips, results)
    if untried:
        path, reason = next(iter(untried.items()))
        raise TalkemoError(
            f"{len(untried)} of {len(tasks)} clips were not fitted, such as {printable(path)}: "
            f"{printable(reason)}",
            "run it again: clips that are finished are kept",
        )
    return _folder_metrics(clips, results)


def _capture_clips(
    tasks: list[FolderTask],
    jobs: int,
    scheduler: str | None,
    progress: Callable[[int, int], None] | None,
) -> dict[str, str]:
    """Fit the clips that are neither fitted nor have failed.

    Returns why clips could not be tried, by the path of the clip. These are errors of the machine,
    so a later run may succeed.
    """
    from ..compute.workers import map_tasks

    todo = [t for t in tasks if not t.fitted_path.is_file() and not t.failed_path.is_file()]
    done = len(tasks) - len(todo)
    if progress:
        progress(done, len(tasks))
    untried: dict[str, str] = {}
    if todo:
        outcomes = map_tasks(_capture_clip, todo, jobs, scheduler, on_failure=_not_tried)
        for number, reasons in enumerate(outcomes, done + 1):
            untried |= reasons
            if progress:
                progress(number, len(tasks))
    return untried


def _absolute(weights: str | Path) -> str:
    """Return a set of weights for a process in another folder."""
    path = Path(weights)
    return (
        str(path.resolve())
        if path.is_dir() and str(weights) not in bundled_sets()
        else str(weights)
    )


def clip_files(folder: Path, kind: str, out: Path) -> list[tuple[Path, Path]]:
    """Return each video's path under `folder`, and the npz that `capture_folder` writes for it."""
    tasks = [FolderTask(clip, folder, out, "", False) for clip in find_clips(folder, kind)]
    return [(Path(task.clip.path), task.fitted_path) for task in tasks]


@lru_cache(maxsize=1)
def _models_of_process(weights: str) -> tuple[Models, LandmarkTracker]:
    """Return what a process needs, loaded once."""
    import torch

    torch.set_num_threads(1)  # there are as many processes as cores
    return load_models(weights, device="cpu"), LandmarkTracker()


def _not_tried(task: FolderTask, error: Exception) -> dict[str, str]:
    """The reason why a clip could not be tried, by the clip."""
    return {task.clip.path: explain(error)[0]}


def _capture_clip(task: FolderTask) -> dict[str, str]:
    """Fit a clip, or write the reason why it failed; return what `_not_tried` does."""
    try:
        _fit_clip(task)
    except (OSError, MemoryError, TalkemoError) as error:
        return _not_tried(task, error)
    return {}


def _fit_clip(task: FolderTask) -> None:
    """Fit a clip, or write why it failed. Raises errors of the machine, such as a full disk."""
    models, tracker = _models_of_process(task.weights)
    path = task.folder / task.clip.path
    try:
        video = capture_video(models.face, path, tracker)
        audio = video_audio(path)
        delay = None
        if audio is not None:
            delay = audio_delay(video.capture, models.face, models.talking, audio)
    except InputError as error:
        _write_failure(task, error.message)
        return
    except (OSError, MemoryError, TalkemoError):  # of the machine: a later run may succeed
        raise
    except Exception as error:  # of this clip; the others go on
        _write_failure(task, f"{type(error).__name__}: {error}")
        return
    capture = video.capture
    if delay is not None and task.synchronise:
        capture = replace(capture, time=capture.time + delay.seconds)
    clip = FittedClip(capture, video.fps, video.residual_px, delay, asdict(task.clip))
    save_fitted_clip(task.fitted_path, clip, models.face)


def _write_failure(task: FolderTask, reason: str) -> None:
    with atomic_write(task.failed_path) as partial:
        partial.write_text(reason, "utf-8")


# ----------------------------------------------------------------------------------------- manifest


def _clip_result(task: FolderTask, untried: str) -> ClipResult:
    """Read the result of a clip; `untried` is the reason if there is none."""
    path = task.fitted_path
    if not path.is_file():
        failed = task.failed_path.is_file()
        reason = task.failed_path.read_text("utf-8") if failed else untried
        return ClipResult(failed=reason[:MAX_REASON_LENGTH])
    with reading_errors(path, FITTED_CLIP, "remove it to have it made again"):
        names = ("residual", "residual_px", "seen", "fps", "sound")
        arrays = read_npz(path, FITTED_CLIP, *names)
        seen, fps = arrays["seen"].astype(bool), float(arrays["fps"])
        measured = bool(np.isfinite(arrays["sound"]).all())
        delay_s, correlation = arrays["sound"]
        return ClipResult(
            file=path.relative_to(task.out).as_posix(),
            seconds=round(len(seen) / fps, 3),
            fps=round(fps, 3),
            frames=len(seen),
            found=round(float(seen.mean()), 3),
            residual_mm=round(float(arrays["residual"][seen].mean()), 3),
            residual_px=round(float(arrays["residual_px"][seen].mean()), 3),
            sound_delay_s=round(float(delay_s), 3) if measured else None,
            sound_r=round(float(correlation), 3) if measured else None,
        )


def _write_manifest(path: Path, clips: list[VideoClip], results: list[ClipResult]) -> None:
    """Write a csv with a row for each clip."""
    columns = [field.name for field in (*fields(VideoClip), *fields(ClipResult))]
    with (
        atomic_write(path) as partial,
        partial.open("w", newline="", encoding="utf-8", errors="replace") as file,
    ):
        writer = csv.DictWriter(file, columns, lineterminator="\n")
        writer.writeheader()
        for clip, result in zip(clips, results):
            writer.writerow(asdict(clip) | asdict(result))


def _folder_metrics(clips: list[VideoClip], results: list[ClipResult]) -> dict[str, Any]:
    """Return metrics over all clips."""
    fitted = [result for result in results if not result.failed]
    delays = [r.sound_delay_s for r in fitted if r.sound_delay_s is not None]
    residuals = [r.residual_mm for r in fitted if r.residual_mm is not None]
    return {
        "clips": len(clips),
        "failed": len(clips) - len(fitted),
        "speakers": len({clip.speaker for clip in clips}),
        "minutes": round(sum(result.seconds for result in fitted) / 60, 2),
        "residual_mm": round(float(np.mean(residuals)), 3) if residuals else None,
        "sound_delay_s": round(float(np.median(delays)), 3) if delays else None,
    }
