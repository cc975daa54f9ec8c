"""Readers of the corpora: RAVDESS landmarks, and the tracked corpora GRID, talking and Java-SED.

A reader yields `Recording`s; nothing here fits or trains. Folders are laid out as the data's own description says:
ravdess/landmarks/Actor_AA.npz with ravdess/audio/Actor_AA/KEY.flac, and for the tracked ones tracks.npz, xyz.npy.xz,
audio/NAME.ogg and, but for GRID, clips.tsv.
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

CORPORA = ("ravdess", "grid_s1", "talking", "java_sed")
EMOTIONS = ("neutral", "calm", "happy", "sad", "angry", "fearful", "disgust", "surprised")
RAVDESS_DEV = (20, 21, 23, 24)
LARGEST_TABLE = 1 << 30  # bytes that a compressed table may unpack to


@dataclass(frozen=True, eq=False)
class Recording:
    """One clip: its landmarks (T, P, 2) px (y down, NaN where no face was found) at `time` (T,) s of its sound."""

    corpus: str
    name: str
    speaker: str
    emotion: str
    split: str  # train or dev
    audio: Path
    time: np.ndarray
    landmarks: np.ndarray
    points: np.ndarray | None  # ids on MediaPipe's mesh, None for the 68 iBUG points


def read(corpus: str, data: Path) -> Iterator[Recording]:
    """The recordings of a corpus under the folder `data`. Raises InputError where it is not there."""
    folder = data / corpus
    if not folder.is_dir():
        raise InputError(f"{folder}: no such corpus folder", f"talkemo knows the corpora {', '.join(CORPORA)}")
    yield from (_ravdess(folder) if corpus == "ravdess" else _tracked(corpus, folder))


def _ravdess(folder: Path) -> Iterator[Recording]:
    for path in sorted((folder / "landmarks").glob("Actor_*.npz")):
        with np.load(path, allow_pickle=False) as trials:
            for key in trials.files:
                landmarks = trials[key].astype(np.float32)
                fields = key.split("-")
                actor = int(fields[-1])
                yield Recording(
                    corpus="ravdess",
                    name=key,
                    speaker=f"ravdess_{actor:02d}",
                    emotion=EMOTIONS[int(fields[1]) - 1],
                    split="dev" if actor in RAVDESS_DEV else "train",
                    audio=folder / "audio" / f"Actor_{actor:02d}" / f"{key}.flac",
                    time=np.arange(len(landmarks)) * 1001 / 30000,
                    landmarks=landmarks,
                    points=None,
                )


def _tracked(corpus: str, folder: Path) -> Iterator[Recording]:
    try:
        with np.load(folder / "tracks.npz", allow_pickle=False) as tracks:
            names, starts, index = tracks["clips"], tracks["start"], tracks["index"]
            time = tracks["time"]
        with lzma.open(folder / "xyz.npy.xz") as file:
            content = file.read(LARGEST_TABLE + 1)
        if len(content) > LARGEST_TABLE:
            raise InputError(f"{folder}: xyz.npy.xz unpacks to more than {LARGEST_TABLE >> 20} MiB")
        table = np.load(io.BytesIO(content), allow_pickle=False)
    except (OSError, ValueError, KeyError, lzma.LZMAError) as error:
        raise InputError(f"{folder}: not a tracked corpus ({error})") from None
    rows = {}
    if (folder / "clips.tsv").is_file():
        with (folder / "clips.tsv").open(encoding="utf-8", newline="") as file:
            rows = {row["name"]: row for row in csv.DictReader(file, delimiter="\t")}
    # Stored as differences along time, in sixteenths of a pixel.
    xyz = np.cumsum(table, axis=-1, dtype=np.int16)
    for number, name in enumerate(names):
        clip = slice(int(starts[number]), int(starts[number + 1]))
        points = np.moveaxis(xyz[..., clip], -1, 0) / np.float32(16)
        landmarks = points[..., :2].copy()
        landmarks[(points == -1).all((1, 2))] = np.nan
        row = rows.get(str(name), {})
        dev = number % 10 == 0 if corpus == "grid_s1" else row.get("split") == "dev"
        yield Recording(
            corpus=corpus,
            name=str(name),
            speaker=f"{corpus}_{row.get('speaker', 's1')}",
            emotion=row.get("emotion", "neutral"),
            split="dev" if dev else "train",
            audio=folder / "audio" / f"{name}.ogg",
            time=time[clip].astype(np.float64),
            landmarks=landmarks,
            points=index,
        )
