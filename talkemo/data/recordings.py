"""A recording of a corpus, as all readers of corpora yield it, and tables of recordings."""

from __future__ import annotations

import csv
import io
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from ..errors import InputError
from ..files.reading import printable, read_text, reading_errors

SPLITS = ("train", "dev", "test")  # only the first is ever trained on
MAX_CLIPS_TABLE_BYTES = 1 << 27  # of a table of recordings


@dataclass(frozen=True, eq=False)
class Recording:
    """Landmarks and audio of one clip of a corpus."""

    corpus: str
    name: str
    speaker: str
    emotion: str
    split: str  # of SPLITS
    audio: Path
    time: np.ndarray  # (T,) s of the audio
    landmarks: np.ndarray  # (T, P, 2) px, y down, NaN where no face was found
    mesh_ids: np.ndarray | None  # (P,) ids on MediaPipe's mesh, None for the 68 iBUG landmarks
    scores: np.ndarray | None = None  # (T, 52) of the tracker, as SCORE_NAMES; NaN without a face


def read_table(path: Path, columns: tuple[str, ...]) -> list[dict[str, str]]:
    """Return the rows of a table whose columns are separated by tabs, by column name.

    Raises InputError if it cannot be read or lacks one of the `columns`.
    """
    hint = "a text file with a row of column names, and tabs between the columns"
    text = read_text(path, "a table of recordings", hint, MAX_CLIPS_TABLE_BYTES)
    with reading_errors(path, "a table of recordings", hint):
        lines = io.StringIO(text.removeprefix("\ufeff"), newline="")
        reader = csv.DictReader(lines, delimiter="\t", quoting=csv.QUOTE_NONE, restval="")
        rows, names = list(reader), reader.fieldnames or []
    missing = set(columns) - set(names)
    if missing:
        raise InputError(
            f"{printable(path)}: lacks the columns {', '.join(sorted(missing))}",
            "separate columns by tabs",
        )
    return rows
