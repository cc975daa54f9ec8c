"""Readers of corpora: RAVDESS's landmarks, tracked landmarks of GRID and others, custom corpora.

A reader yields `Recording`s; nothing is fitted or trained here. RAVDESS is
ravdess/landmarks/Actor_AA.npz with ravdess/audio/Actor_AA/KEY.flac. A tracked corpus is a folder
(GRID, talking, Arabic news, Java-SED) with tracks.npz, xyz.npy.xz, audio/NAME.ogg and, except for
GRID, clips.tsv. Corpora that users make are read by custom_corpora.py.
"""

from __future__ import annotations

import io
import lzma
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

import numpy as np

from ..capture.landmark_tracker import SCORE_NAMES
from ..errors import InputError
from ..expression.emotions import EMOTIONS
from ..files.arrays import read_npz
from ..files.reading import printable, reading_errors
from .custom_corpora import MANIFEST_NAME, find_custom_corpora, read_custom, read_manifest
from .recordings import SPLITS, Recording, read_table

CORPORA = ("ravdess", "grid_s1", "talking", "talking_more", "arabic_news", "java_sed")
RAVDESS_DEV_ACTORS = (20, 21, 23, 24)
# Seconds at either end of clips cut out of running speech, whose audio lacks its context.
CUT_MARGIN_S = {"arabic_news": 0.1}
GRID_DEV_INTERVAL = 10  # every tenth clip of GRID belongs to the dev split
MAX_TABLE_BYTES = 1 << 30  # a compressed table may unpack to this size
TRACKS_FILE = "tracks.npz"  # of a tracked corpus
INCOMPLETE_HINT = "the corpus is incomplete; fetch it again"


def with_context(corpus: str, time: np.ndarray, duration: float) -> np.ndarray:
    """Return which frames, at `time` (T,) s of a clip, have audio around them, (T,) bool.

    `duration` is the length of the clip's audio in s; see CUT_MARGIN_S.
    """
    margin = CUT_MARGIN_S.get(corpus)
    if margin is None:
        return np.ones(len(time), bool)
    return (time >= margin) & (time <= duration - margin)


def present_corpora(data: Path) -> tuple[str, ...]:
    """Return the corpora in the folder `data`: those of CORPORA, then custom ones by name."""
    known = tuple(name for name in CORPORA if (data / name).is_dir())
    return known + tuple(corpus.name for corpus in find_custom_corpora(data))


def require_corpora(data: Path, names: Iterable[str]) -> tuple[str, ...]:
    """Return those of some corpora that are in the folder `data`; raise InputError if none is."""
    names = tuple(names)
    present = tuple(name for name in names if (data / name).is_dir())
    if not present:
        raise InputError(
            f"{printable(data)}: none of the corpora {', '.join(names)}",
            f"is it the folder of the corpora? A corpus of your own needs a {MANIFEST_NAME}",
        )
    return present


def read_corpus(
    corpus: str, data: Path, progress: Callable[[int, int], None] | None = None
) -> Iterator[Recording]:
    """Read the recordings of a corpus under the folder `data`.

    `progress` is called with the number of videos that are tracked and their total, of a custom
    corpus. Raises InputError if the corpus is missing or damaged.
    """
    folder = data / corpus
    if not folder.is_dir():
        raise InputError(
            f"{printable(folder)}: no such corpus folder",
            f"talkemo knows the corpora {', '.join(CORPORA)}; another needs a {MANIFEST_NAME}",
        )
    if corpus == "ravdess":
        yield from _read_ravdess(folder)
    elif corpus in CORPORA:
        yield from _read_tracked(corpus, folder)
    else:
        manifest = read_manifest(folder)
        has_tracks = (folder / TRACKS_FILE).is_file()
        yield from (
            _read_tracked(corpus, folder) if has_tracks else read_custom(folder, manifest, progress)
        )


def _read_ravdess(folder: Path) -> Iterator[Recording]:
    kind = "landmarks of RAVDESS"
    for path in sorted((folder / "landmarks").glob("Actor_*.npz")):
        with reading_errors(path, kind, INCOMPLETE_HINT):
            trials = [_ravdess_trial(folder, *trial) for trial in read_npz(path, kind).items()]
        yield from trials


def _ravdess_trial(folder: Path, key: str, landmarks: np.ndarray) -> Recording:
    """Return one trial; `key` is channel-emotion-intensity-statement-repetition-actor."""
    fields = key.split("-")
    actor = int(fields[5])
    if landmarks.ndim != 3 or landmarks.shape[1:] != (68, 2):
        raise ValueError(f"{key} is {landmarks.shape}, not (T, 68, 2)")
    return Recording(
        corpus="ravdess",
        name=key,
        speaker=f"ravdess_{actor:02d}",
        emotion=EMOTIONS[int(fields[1]) - 1],
        split="dev" if actor in RAVDESS_DEV_ACTORS else "train",
        audio=folder / "audio" / f"Actor_{actor:02d}" / f"{key}.flac",
        time=np.arange(len(landmarks)) * 1001 / 30000,  # 29.97 frames per second
        landmarks=landmarks.astype(np.float32),
        mesh_ids=None,
    )


def _read_tracked(corpus: str, folder: Path) -> Iterator[Recording]:
    names_in_file = ("clips", "start", "index", "time")
    tracks = read_npz(folder / TRACKS_FILE, "the tracks of a corpus", *names_in_file)
    names, starts, mesh_ids, time = (tracks[name] for name in names_in_file)
    table = _unpacked(folder / "xyz.npy.xz")
    scores = _scores(folder, len(time))
    rows = {}
    if (folder / "clips.tsv").is_file():
        rows = {row["name"]: row for row in read_table(folder / "clips.tsv", ("name",))}
    # Stored as differences along time, in sixteenths of a pixel.
    xyz = np.cumsum(table, axis=-1, dtype=np.int16)
    lengths_match = xyz.ndim == 3 and len(time) == int(starts[-1]) == xyz.shape[-1]
    if len(starts) != len(names) + 1 or not lengths_match:
        raise InputError(
            f"{folder}: tracks.npz and xyz.npy.xz do not have matching lengths", INCOMPLETE_HINT
        )
    for number, name in enumerate(names):
        clip = slice(int(starts[number]), int(starts[number + 1]))
        points = np.moveaxis(xyz[..., clip], -1, 0) / np.float32(16)
        landmarks = points[..., :2].copy()
        landmarks[(points == -1).all((1, 2))] = np.nan
        row = rows.get(str(name), {})
        split = row.get("split")
        if corpus == "grid_s1":
            split = "dev" if number % GRID_DEV_INTERVAL == 0 else "train"
        yield Recording(
            corpus=corpus,
            name=str(name),
            speaker=f"{corpus}_{row.get('speaker', 's1')}",
            emotion=row.get("emotion", "neutral"),
            split=split if split in SPLITS else "train",
            audio=folder / "audio" / f"{name}.ogg",
            time=time[clip].astype(np.float64),
            landmarks=landmarks,
            mesh_ids=mesh_ids,
            scores=None if scores is None else _scores_of_clip(scores[:, clip], landmarks),
        )


def _scores(folder: Path, frames: int) -> np.ndarray | None:
    """Return the scores (52, `frames`) uint8 of a corpus in 255ths, None if it has none."""
    path = folder / "arkit.npy.xz"
    if not path.is_file():
        return None
    # Stored as differences along time, which wrap around.
    scores = np.cumsum(_unpacked(path), axis=-1, dtype=np.uint8)
    if scores.shape != (len(SCORE_NAMES), frames):
        raise InputError(
            f"{path}: {scores.shape}, not ({len(SCORE_NAMES)}, {frames})", INCOMPLETE_HINT
        )
    return scores


def _scores_of_clip(scores: np.ndarray, landmarks: np.ndarray) -> np.ndarray:
    """Return the scores (T, 52) float32 of a clip, NaN where landmarks (T, P, 2) are."""
    result = scores.T / np.float32(255)
    result[np.isnan(landmarks[:, 0, 0])] = np.nan
    return result


def _unpacked(path: Path) -> np.ndarray:
    """Read a compressed npy. Raises InputError if it cannot be read or is too large."""
    try:
        with lzma.open(path) as file:
            content = file.read(MAX_TABLE_BYTES + 1)
        if len(content) > MAX_TABLE_BYTES:
            raise ValueError(f"it unpacks to more than {MAX_TABLE_BYTES >> 20} MiB")
        return np.load(io.BytesIO(content), allow_pickle=False)
    except (OSError, ValueError, EOFError, lzma.LZMAError) as error:
        raise InputError(
            f"{path}: not the points of a tracked corpus ({error})", INCOMPLETE_HINT
        ) from None
