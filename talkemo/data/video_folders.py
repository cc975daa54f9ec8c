"""Folders of films as they are published, RAVDESS's and GRID's, or anybody's: every clip fitted, and a list of them.

Each clip becomes one small npz (blend-shape weights, pose, residuals, identity; `sound`: by how many seconds it comes
after the lips, and Pearson r of the two then), and the list says who speaks, what, with which emotion, how long, and how
well the fit is. A run that was ended goes on with the clips that it has not tried.
"""

from __future__ import annotations

import csv
import hashlib
import json
import os
import re
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, fields
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np

from ..capture.audio_sync import sound_delay, video_audio
from ..capture.fitting import Capture
from ..capture.landmark_tracker import LandmarkTracker
from ..capture.video_capture import capture_video
from ..errors import InputError, TalkemoError
from ..expression.emotions import EMOTIONS
from ..files.arrays import read_npz
from ..files.reading import reading_errors
from ..files.writing import atomic_write
from ..pipelines.outputs import check_mode
from ..video.reader import VIDEO_ENDINGS
from ..weights.models import Models, load_models
from ..weights.registry import DEFAULT_SET

KINDS = ("ravdess", "grid", "folder")
MANIFEST = "manifest.csv"
CLIPS, FAILED = "clips", "failed"  # folders of what was fitted, and of why not
DEV_SHARE = 10  # one speaker of so many is of the dev split, chosen by the name
RAVDESS_NAME = re.compile(r"0[12]-0([12])-0([1-8])-0([12])-0([12])-0([12])-(\d\d)")
SENTENCES = ("Kids are talking by the door", "Dogs are sitting by the door")
GRID_WORDS = (
    {"b": "bin", "l": "lay", "p": "place", "s": "set"},
    {"b": "blue", "g": "green", "r": "red", "w": "white"},
    {"a": "at", "b": "by", "i": "in", "w": "with"},
    {letter: letter for letter in "abcdefghijklmnopqrstuvxyz"},
    dict(zip("z123456789", "zero one two three four five six seven eight nine".split())),
    {"a": "again", "n": "now", "p": "please", "s": "soon"},
)


@dataclass(frozen=True)
class Clip:
    """A film of a corpus. path: under the corpus's folder; level: normal or strong, of acted emotion."""

    path: str
    speaker: str
    emotion: str
    level: str
    sentence: str
    split: str


def find_clips(folder: Path, kind: str) -> list[Clip]:
    """The films under a folder, sorted by path; links are not followed. Raises InputError where there is none."""
    if kind not in KINDS:
        raise InputError(f"unknown kind of corpus '{kind}'", f"choose {', '.join(KINDS)}")
    if not folder.is_dir():
        raise InputError(f"{folder}: no such folder", "name the folder of a corpus's films")
    read = {"ravdess": _ravdess, "grid": _grid, "folder": _any}[kind]
    paths = [
        p
        for p in folder.rglob("*")
        if p.suffix.lower() in VIDEO_ENDINGS and p.is_file() and not p.is_symlink()
    ]
    found = [read(path.relative_to(folder)) for path in sorted(paths)]
    clips = [clip for clip in found if clip is not None]
    if not clips:
        raise InputError(
            f"{folder}: no films of the kind {kind} in it",
            f"{', '.join(VIDEO_ENDINGS)} are read; see --corpus",
        )
    return clips


def _ravdess(path: Path) -> Clip | None:
    """MODALITY-CHANNEL-EMOTION-INTENSITY-STATEMENT-REPETITION-ACTOR; of the songs, channel 02, none."""
    from .corpora import RAVDESS_DEV

    match = RAVDESS_NAME.fullmatch(path.stem)
    if match is None or match[1] != "1":
        return None
    emotion, level, sentence, _, actor = match.groups()[1:]
    split = "dev" if int(actor) in RAVDESS_DEV else "train"
    strong = "strong" if level == "2" else "normal"
    name = f"ravdess_{actor}"
    return Clip(
        path.as_posix(),
        name,
        EMOTIONS[int(emotion) - 1],
        strong,
        SENTENCES[int(sentence) - 1],
        split,
    )


def _grid(path: Path) -> Clip | None:
    """Six letters for six words; the speaker is the folder called s and a number."""
    letters = path.stem.lower()
    if len(letters) != 6 or not all(letter in words for letter, words in zip(letters, GRID_WORDS)):
        return None
    words = " ".join(words[letter] for letter, words in zip(letters, GRID_WORDS))
    own = [part for part in path.parts[:-1] if re.fullmatch(r"s\d+", part)]
    speaker = f"grid_{own[-1]}" if own else "grid"
    return Clip(path.as_posix(), speaker, "neutral", "normal", words, split_of(speaker))


def _any(path: Path) -> Clip:
    """The speaker is the first folder, or else the film itself."""
    speaker = path.parts[0] if len(path.parts) > 1 else path.stem
    return Clip(path.as_posix(), speaker, "neutral", "normal", "", split_of(speaker))


def split_of(speaker: str) -> str:
    """train or dev: the same for all clips of a speaker, today and tomorrow."""
    return (
        "dev" if int(hashlib.sha256(speaker.encode()).hexdigest(), 16) % DEV_SHARE == 0 else "train"
    )


# ----------------------------------------------------------------------------------------------------------- fitting


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
    """Fit every film of a folder to `out`/clips, and write `out`/manifest.csv; returns figures for the screen.

    What is there already, fitted or failed, is not tried again. The delay of every clip's sound is measured and listed.
    weights: a set of them, see `load_models`
    sync: auto or off: whether a clip's times are on its sound's clock
    jobs: processes on this machine; scheduler: of a Dask cluster whose machines see the folders by the same names
    Raises InputError where there is nothing to do or `out` is no folder.
    """
    from ..compute.workers import map_tasks

    check_mode(sync, "way to synchronise")
    clips = find_clips(folder, kind)
    if out.suffix in (".npz", ".csv") or (out.exists() and not out.is_dir()):
        raise InputError(f"{out}: a corpus goes into a folder", "choose a folder's name")
    LandmarkTracker()  # says what is not installed
    for name in (CLIPS, FAILED):
        (out / name).mkdir(parents=True, exist_ok=True)
    settings = Settings(folder.resolve(), out.resolve(), str(weights), sync)
    tasks = [(settings, clip) for clip in clips if not _is_done(out, clip)]
    done = len(clips) - len(tasks)
    if progress:
        progress(done, len(clips))
    if tasks:
        for number, _ in enumerate(map_tasks(_capture_one, tasks, jobs, scheduler)):
            if progress:
                progress(done + number + 1, len(clips))
    rows = list(_manifest_rows(out, clips))
    with (
        atomic_write(out / MANIFEST) as partial,
        partial.open("w", newline="", encoding="utf-8", errors="replace") as file,
    ):
        writer = csv.DictWriter(file, list(rows[0]), lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)
    fitted = [row for row in rows if not row["failed"]]
    delays = [row["sound_delay_s"] for row in fitted if row["sound_delay_s"] != ""]
    return {
        "clips": len(rows),
        "failed": len(rows) - len(fitted),
        "speakers": len({row["speaker"] for row in rows}),
        "minutes": round(sum(float(row["seconds"]) for row in fitted) / 60, 2),
        "residual_mm": round(float(np.mean([row["residual_mm"] for row in fitted])), 3)
        if fitted
        else None,
        "sound_delay_s": round(float(np.median(delays)), 3) if delays else None,
    }


@dataclass(frozen=True)
class Settings:
    """How the films of a folder are fitted, see `capture_folder`."""

    folder: Path
    out: Path
    weights: str
    sync: str


def kept_name(clip: Clip) -> str:
    """A name for the files of a clip: its path, readable and without folders."""
    plain = re.sub(r"[^A-Za-z0-9_.-]", "_", clip.path)[-80:]
    return f"{plain}-{hashlib.sha256(os.fsencode(clip.path)).hexdigest()[:8]}"


def _is_done(out: Path, clip: Clip) -> bool:
    name = kept_name(clip)
    return (out / CLIPS / f"{name}.npz").is_file() or (out / FAILED / f"{name}.txt").is_file()


@lru_cache(maxsize=1)
def _of_process(weights: str) -> tuple[Models, LandmarkTracker]:
    """What a process needs, loaded once."""
    import torch

    torch.set_num_threads(1)  # there are as many processes as cores
    return load_models(weights, device="cpu"), LandmarkTracker()


def _capture_one(task: tuple[Settings, Clip]) -> None:
    """Fit a clip, or write why not."""
    settings, clip = task
    models, tracker = _of_process(settings.weights)
    name, path = kept_name(clip), settings.folder / clip.path
    try:
        film = capture_video(models.face, path, tracker)
        sound = video_audio(path)
        delay = (
            None if sound is None else sound_delay(film.capture, models.face, models.talking, sound)
        )
    except Exception as error:  # of one clip, which the others need not wait for
        of_machine = isinstance(error, OSError | MemoryError | TalkemoError) and not isinstance(
            error, InputError
        )
        if of_machine:  # it may be better next time
            raise
        with atomic_write(settings.out / FAILED / f"{name}.txt") as partial:
            reason = (
                error.message
                if isinstance(error, TalkemoError)
                else f"{type(error).__name__}: {error}"
            )
            partial.write_text(reason, "utf-8")
        return
    arrays = {f.name: getattr(film.capture, f.name) for f in fields(Capture)}
    about: dict[str, Any] = {
        "clip": json.dumps(asdict(clip)),
        "fps": film.fps,
        "residual_px": film.residual_px,
    }
    about["sound"] = [np.nan, np.nan] if delay is None else [delay.seconds, delay.r]
    if delay is not None and settings.sync == "auto":
        arrays["time"] = arrays["time"] + delay.seconds
    with atomic_write(settings.out / CLIPS / f"{name}.npz") as partial, partial.open("wb") as file:
        np.savez_compressed(
            file,
            **arrays,
            **about,
            face=models.face.fingerprint,
            names=np.array(models.face.expression_names),
        )


def _manifest_rows(out: Path, clips: list[Clip]) -> Iterator[dict[str, Any]]:
    """A row for each clip: what it is, its file, and how well it was fitted or why not."""
    for clip in clips:
        name = kept_name(clip)
        path, why = out / CLIPS / f"{name}.npz", out / FAILED / f"{name}.txt"
        row: dict[str, Any] = {
            **asdict(clip),
            "file": "",
            "seconds": 0.0,
            "fps": "",
            "frames": 0,
            "found": "",
        }
        row |= {
            "residual_mm": "",
            "residual_px": "",
            "sound_delay_s": "",
            "sound_r": "",
            "failed": "",
        }
        if path.is_file():
            with reading_errors(path, "a fitted clip", "remove it to have it made anew"):
                arrays = read_npz(
                    path, "a fitted clip", "residual", "residual_px", "seen", "fps", "sound"
                )
                seen = arrays["seen"].astype(bool)
                fps = float(arrays["fps"])
                row |= {
                    "file": path.relative_to(out).as_posix(),
                    "seconds": round(len(seen) / fps, 3),
                    "fps": round(fps, 3),
                    "frames": len(seen),
                    "found": round(float(seen.mean()), 3),
                    "residual_mm": round(float(arrays["residual"][seen].mean()), 3),
                    "residual_px": round(float(arrays["residual_px"][seen].mean()), 3),
                }
                if np.isfinite(arrays["sound"]).all():
                    row |= {"sound_delay_s": round(float(arrays["sound"][0]), 3)}
                    row |= {"sound_r": round(float(arrays["sound"][1]), 3)}
        else:
            row["failed"] = why.read_text("utf-8")[:200] if why.is_file() else "not tried"
        yield row
