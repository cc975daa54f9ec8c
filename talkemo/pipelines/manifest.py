"""Manifests: a csv with a line for each recording, and how the face acts in it."""

from __future__ import annotations

import csv
import difflib
import io
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

from ..errors import InputError
from ..files.reading import open_file, printable, read_text, reading_errors
from .acting import ActingPlan
from .batch import with_place
from .options import AnimateOptions, PathLike

MANIFEST_COLUMNS = (
    *("audio", "emotion", "timeline", "intensity", "style", "liveliness", "seed", "output"),
)
MANIFEST_HINT = f"name a csv with a column audio, and any of {', '.join(MANIFEST_COLUMNS[1:])}"
MANIFEST_FILE = "a manifest"
MAX_MANIFEST_BYTES = 1 << 26
MAX_MANIFEST_LINES = 1_000_000
DELIMITERS = ",;\t"  # the one that is most frequent in the header is used


@dataclass(frozen=True)
class ManifestLine:
    """A recording of a manifest."""

    where: str  # file and number of the line, for messages
    audio: Path
    output: Path | None  # None: by the name of the recording
    options: AnimateOptions


def read_manifest(path: PathLike, options: AnimateOptions) -> list[ManifestLine]:
    """Read the lines of a manifest, and check each of them.

    Parameters
    ----------
    path : path
        A csv in UTF-8 with a header: `audio`, and any of `emotion`, `timeline`, `intensity`,
        `style`, `liveliness`, `seed`, `output`. Paths are relative to the manifest's folder.
    options : AnimateOptions
        Used where a line has no value.

    Raises
    ------
    InputError
        The file is not a manifest, a column is unknown, or a line cannot be used; the message
        names the line.
    """
    path = Path(path)
    with reading_errors(path, MANIFEST_FILE, MANIFEST_HINT):
        text = read_text(path, MANIFEST_FILE, MANIFEST_HINT, MAX_MANIFEST_BYTES, "strict")
        rows = _rows(text.removeprefix("\ufeff"))
    name = printable(path)
    if not rows:
        raise InputError(f"{name}: an empty manifest", MANIFEST_HINT)
    columns = [cell.strip().lower() for cell in rows[0][1]]
    _check_columns(name, columns)
    if len(rows) == 1:
        raise InputError(f"{name}: no recordings below its header", "add a line for each")
    lines = []
    for number, cells in rows[1:]:
        where = f"{name}: line {number}"
        if len(cells) > len(columns):
            raise InputError(
                f"{where}: {len(cells)} values for {len(columns)} columns",
                "put quotes around a value with a comma",
            )
        values = {key: cell.strip() for key, cell in zip(columns, cells) if cell.strip()}
        lines.append(_line(where, path.parent, values, options))
    return lines


def _rows(text: str) -> list[tuple[int, list[str]]]:
    """Return the lines that are not empty, with the number of their last line in the file."""
    header = text.lstrip().partition("\n")[0]
    reader = csv.reader(io.StringIO(text), delimiter=max(DELIMITERS, key=header.count), strict=True)
    rows = [(reader.line_num, cells) for cells in reader if any(cell.strip() for cell in cells)]
    if len(rows) > MAX_MANIFEST_LINES:
        raise ValueError(f"more than {MAX_MANIFEST_LINES} lines")
    return rows


def _check_columns(name: str, columns: list[str]) -> None:
    """Raise InputError for unknown, repeated or missing columns."""
    for column in columns:
        if column not in MANIFEST_COLUMNS:
            close = difflib.get_close_matches(column, MANIFEST_COLUMNS, 1)
            guess = f"did you mean {close[0]}? " if close else ""
            raise InputError(
                f"{name}: unknown column '{printable(column, 40)}'",
                f"{guess}columns are {', '.join(MANIFEST_COLUMNS)}",
            )
        if columns.count(column) > 1:
            raise InputError(f"{name}: two columns {column}", "leave one out")
    if "audio" not in columns:
        raise InputError(f"{name}: no column audio", MANIFEST_HINT)


def _line(
    where: str, folder: Path, values: dict[str, str], options: AnimateOptions
) -> ManifestLine:
    """Return a line after checking its values."""
    if "audio" not in values:
        raise InputError(f"{where}: no audio", "name a recording in each line")
    audio = folder / values["audio"]
    changed = with_place(where, partial(_changed_options, folder, values, options))
    with_place(where, lambda: open_file(audio, "an audio file", "check the manifest").close())
    with_place(where, partial(ActingPlan.of, changed))
    output = folder / values["output"] if "output" in values else None
    return ManifestLine(where, audio, output, changed)


def _changed_options(
    folder: Path, values: dict[str, str], options: AnimateOptions
) -> AnimateOptions:
    """Return the options with a line's values."""
    if "emotion" in values and "timeline" in values:
        raise InputError("an emotion and a timeline", "leave one of them empty")
    if "emotion" in values:
        options = replace(options, emotion=values["emotion"], timeline=None)
    if "timeline" in values:
        options = replace(options, emotion="neutral", timeline=folder / values["timeline"])
    if "intensity" in values:
        options = replace(options, intensity=_number("intensity", values["intensity"]))
    if "style" in values:
        options = replace(options, style=values["style"])
    if "liveliness" in values:
        options = replace(options, liveliness=values["liveliness"])
    if "seed" in values:
        seed = _number("seed", values["seed"])
        if seed < 0 or seed != int(seed):
            raise InputError(f"seed {seed:g}", "a seed is a whole number, 0 or more")
        options = replace(options, seed=int(seed))
    return options


def _number(column: str, text: str) -> float:
    """Return a finite number."""
    try:
        value = float(text)
    except ValueError:
        value = float("nan")
    if not abs(value) < float("inf"):
        raise InputError(f"{column} '{printable(text, 40)}'", "write a number, such as 1")
    return value
