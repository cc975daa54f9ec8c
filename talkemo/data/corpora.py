"""Readers of the corpora: RAVDESS landmarks, and the tracked corpora GRID, talking, Arabic news and Java-SED.

A reader yields `Recording`s; nothing here fits or trains. RAVDESS is ravdess/landmarks/Actor_AA.npz with
ravdess/audio/Actor_AA/KEY.flac. A tracked corpus is a folder with tracks.npz, xyz.npy.xz, audio/NAME.ogg and, except
for GRID, clips.tsv.
"""

from __future__ import annotations

import csv
import io
import lzma
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from ..errors import InputError
from ..expression.emotions import EMOTIONS
from ..files.arrays import read_npz
from ..files.reading import reading_errors

CORPORA = ("ravdess", "grid_s1", "talking", "arabic_news", "java_sed")
SPLITS = ("train", "dev", "test")  # only the first is ever trained on
RAVDESS_DEV = (20, 21, 23, 24)  # actors of the dev split
# s at either end of clips that are cut out of running speech, whose sound lacks its context.
CUT_ENDS = {"arabic_news": 0.1}
GRID_DEV = 10  # every so many'th clip of GRID belongs to the dev split
LARGEST_TABLE = 1 << 30  # bytes that a compressed table may unpack to
COMPLETE = "is the corpus complete? fetch it again"


@dataclass(frozen=True, eq=False)
class Recording:
    """One clip: its landmarks (T, P, 2) px (y down, NaN where no face was found) at `time` (T,) s of its sound."""

    corpus: str
    name: str
    speaker: str
    emotion: str
    split: str  # of SPLITS
    audio: Path
    time: np.ndarray
    landmarks: np.ndarray
    points: np.ndarray | None  # ids on MediaPipe's mesh, None for the 68 iBUG points


def with_context(corpus: str, time: np.ndarray, duration: float) -> np.ndarray:
    """(T,) bool: which frames at `time` (T,) s of a clip of a corpus have their sound around them, see CUT_ENDS."""
    cut = CUT_ENDS.get(corpus)
    return np.ones(len(time), bool) if cut is None else (time >= cut) & (time <= duration - cut)


def read_corpus(corpus: str, data: Path) -> Iterator[Recording]:
    """The recordings of a corpus under the folder `data`. Raises InputError where it is not there."""
    folder = data / corpus
    if not folder.is_dir():
        raise InputError(
            f"{folder}: no such corpus folder", f"talkemo knows the corpora {', '.join(CORPORA)}"
        )
    yield from (_ravdess(folder) if corpus == "ravdess" else _tracked(corpus, folder))


def _ravdess(folder: Path) -> Iterator[Recording]:
    for path in sorted((folder / "landmarks").glob("Actor_*.npz")):
        with reading_errors(path, "landmarks of RAVDESS", COMPLETE):
            trials = [
                _ravdess_trial(folder, *trial)
                for trial in read_npz(path, "landmarks of RAVDESS").items()
            ]
        yield from trials


def _ravdess_trial(folder: Path, key: str, landmarks: np.ndarray) -> Recording:
    """One trial. Its name is channel-emotion-intensity-statement-repetition-actor, two digits each."""
    fields = key.split("-")
    actor = int(fields[5])
    if landmarks.ndim != 3 or landmarks.shape[1:] != (68, 2):
        raise ValueError(f"{key} is {landmarks.shape}, not (T, 68, 2)")
    return Recording(
        corpus="ravdess",
        name=key,
        speaker=f"ravdess_{actor:02d}",
        emotion=EMOTIONS[int(fields[1]) - 1],
        split="dev" if actor in RAVDESS_DEV else "train",
        audio=folder / "audio" / f"Actor_{actor:02d}" / f"{key}.flac",
        time=np.arange(len(landmarks)) * 1001 / 30000,  # 29.97 frames a second
        landmarks=landmarks.astype(np.float32),
        points=None,
    )


def _tracked(corpus: str, folder: Path) -> Iterator[Recording]:
    tracks = read_npz(
        folder / "tracks.npz", "the tracks of a corpus", "clips", "start", "index", "time"
    )
    names, starts, index, time = (tracks[name] for name in ("clips", "start", "index", "time"))
    table = _unpacked(folder / "xyz.npy.xz")
    rows = {}
    if (folder / "clips.tsv").is_file():
        with (folder / "clips.tsv").open(encoding="utf-8", newline="") as file:
            rows = {row["name"]: row for row in csv.DictReader(file, delimiter="\t")}
    # Stored as differences along time, in sixteenths of a pixel.
    xyz = np.cumsum(table, axis=-1, dtype=np.int16)
    if (
        len(starts) != len(names) + 1
        or xyz.ndim != 3
        or not len(time) == int(starts[-1]) == xyz.shape[-1]
    ):
        raise InputError(
            f"{folder}: tracks.npz and xyz.npy.xz do not have matching lengths", COMPLETE
        )
    for number, name in enumerate(names):
        clip = slice(int(starts[number]), int(starts[number + 1]))
        points = np.moveaxis(xyz[..., clip], -1, 0) / np.float32(16)
        landmarks = points[..., :2].copy()
        landmarks[(points == -1).all((1, 2))] = np.nan
        row = rows.get(str(name), {})
        split = (
            row.get("split") if corpus != "grid_s1" else "dev" if number % GRID_DEV == 0 else None
        )
        yield Recording(
            corpus=corpus,
            name=str(name),
            speaker=f"{corpus}_{row.get('speaker', 's1')}",
            emotion=row.get("emotion", "neutral"),
            split=split if split in SPLITS else "train",
            audio=folder / "audio" / f"{name}.ogg",
            time=time[clip].astype(np.float64),
            landmarks=landmarks,
            points=index,
        )


def _unpacked(path: Path) -> np.ndarray:
    """The array of a compressed npy. Raises InputError where it cannot be read or is too large."""
    try:
        with lzma.open(path) as file:
            content = file.read(LARGEST_TABLE + 1)
        if len(content) > LARGEST_TABLE:
            raise ValueError(f"it unpacks to more than {LARGEST_TABLE >> 20} MiB")
        return np.load(io.BytesIO(content), allow_pickle=False)
    except (OSError, ValueError, EOFError, lzma.LZMAError) as error:
        raise InputError(
            f"{path}: not the points of a tracked corpus ({error})", COMPLETE
        ) from None
