"""Emotions: names, mixes such as `happy:0.6,surprised:0.4`, and timelines of emotions."""

from __future__ import annotations

import csv
import difflib
import io
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from ..errors import InputError
from ..files.reading import naming_content, parse_json, printable, read_text
from ..geometry.numerics import smoothstep
from ..option_limits import MAX_INTENSITY
from .emotion_names import AUTO_EMOTION, EMOTIONS

NEUTRAL_INDEX = EMOTIONS.index("neutral")
PAPER_EMOTIONS = ("neutral", "happy", "angry", "surprised")
CROSS_FADE_S = 0.4  # duration of the change from one emotion of a timeline to the next
MAX_TIMELINE_BYTES = 1 << 20
MAX_TIMELINE_SPANS = 10_000
AMOUNT_TOLERANCE = 1e-3  # of amounts that are compared with a limit
CUT_OFF_S = 0.1  # by which a span may end after the audio, as rounded times do
TIMELINE_EXAMPLE = "0.5 2.0 happy 0.8"
TIMELINE_COLUMNS = ("start", "end", "emotion", "intensity")  # of a table
TABLE_ENDINGS = (".csv", ".json")
EMOTION_SYNONYMS = {
    "none": "neutral",
    "calmness": "calm",
    "happiness": "happy",
    "joy": "happy",
    "joyful": "happy",
    "sadness": "sad",
    "anger": "angry",
    "fear": "fearful",
    "afraid": "fearful",
    "scared": "fearful",
    "disgusted": "disgust",
    "surprise": "surprised",
}


def parse_emotion(text: str) -> np.ndarray:
    """Parse an emotion, a synonym of one, or a mix such as `happy:0.6,surprised:0.4`.

    Returns
    -------
    (8,) float32
        Amount of each emotion in the order of EMOTIONS; the sum is at most 1.

    Raises
    ------
    InputError
        For an unknown emotion, a share that is not a number from 0 to 1, or a sum above 1.
    """
    amounts = np.zeros(len(EMOTIONS), np.float32)
    for item in text.split(","):
        name, _, share = item.partition(":")
        name = name.strip().lower()
        name = EMOTION_SYNONYMS.get(name, name)
        if name == AUTO_EMOTION:
            raise InputError(
                f"'{printable(text, 40)}': auto stands alone",
                "write --emotion auto, with --intensity for its strength",
            )
        if not name and text.strip():
            raise InputError(
                f"'{printable(text, 40)}': the name of an emotion is missing",
                f"choose from {', '.join(EMOTIONS)}, or mix: happy:0.6,sad:0.4",
            )
        if name not in EMOTIONS:
            close = difflib.get_close_matches(name, [*EMOTIONS, *EMOTION_SYNONYMS], 1)
            guess = f"did you mean {close[0]}? " if close else ""
            raise InputError(
                f"unknown emotion '{printable(name, 40)}'",
                f"{guess}choose from {', '.join(EMOTIONS)}, or mix: happy:0.6,sad:0.4",
            )
        if share and not re.fullmatch(r"\s*(0(\.\d*)?|1(\.0*)?|\.\d+)\s*", share):
            raise InputError(
                f"'{printable(item, 40)}': the share of an emotion is a number from 0 to 1",
                "for instance: happy:0.6",
            )
        amounts[EMOTIONS.index(name)] += float(share) if share else 1.0
    if amounts.sum() > 1 + 1e-6:
        raise InputError(
            f"'{printable(text, 80)}': the shares add up to {amounts.sum():g}, more than 1",
            "lower some of them",
        )
    return amounts


def one_hot(emotion: str) -> np.ndarray:
    """Return the amounts (8,) float32 of one emotion of EMOTIONS at full strength."""
    return np.eye(len(EMOTIONS), dtype=np.float32)[EMOTIONS.index(emotion)]


def check_intensity(intensity: float) -> None:
    """Raise InputError for an intensity that is not in [0, 1.5]."""
    if not 0 <= intensity <= MAX_INTENSITY:
        raise InputError(
            f"intensity {intensity:g} is not between 0 and {MAX_INTENSITY:g}",
            "0 changes nothing, 1 is full strength",
        )


@dataclass(frozen=True, eq=False)
class Span:
    """A section of a timeline with constant emotion."""

    start: float  # s
    end: float  # s
    amounts: np.ndarray  # (8,) float32, in the order of EMOTIONS


@dataclass(frozen=True, eq=False)
class Timeline:
    """Emotions over time, made by `Timeline.constant` or `Timeline.read`.

    Between spans the face is neutral. Changes take CROSS_FADE_S and are centred on the start or the
    end of a span; a span that starts at 0 is fully there from the first frame.
    """

    spans: list[Span]  # in any order; they may overlap
    limited: int = 0  # spans whose amounts `scaled` limited

    @classmethod
    def constant(cls, emotion: str, intensity: float = 1.0) -> Timeline:
        """Make a timeline of one emotion or mix throughout, see `parse_emotion` and `scaled`."""
        return cls([Span(0.0, np.inf, parse_emotion(emotion))]).scaled(intensity)

    @classmethod
    def read(cls, path: str | Path) -> Timeline:
        """Read a text file with a line `start end emotion [intensity]` for each span, times in s.

        An emotion may be a mix; intensity is 1 by default; # begins a comment. A .csv has columns
        of these names, a .json a list `spans` of objects with them, as `talkemo emotion` writes.
        Raises InputError with the number of the first line that cannot be read.
        """
        hint = f"name a text file with lines like: {TIMELINE_EXAMPLE}"
        with naming_content(path, "a timeline", hint, ()):
            return cls._read(path, hint)

    @classmethod
    def _read(cls, path: str | Path, hint: str) -> Timeline:
        text = read_text(path, "a timeline", hint, MAX_TIMELINE_BYTES)
        lines = _lines_of(Path(path), text)
        name = printable(path)
        if not lines:
            example = f"for instance: {TIMELINE_EXAMPLE}"
            raise InputError(f"{name}: no line names an emotion", example)
        if len(lines) > MAX_TIMELINE_SPANS:
            raise InputError(
                f"{name}: {len(lines)} lines with emotions",
                f"at most {MAX_TIMELINE_SPANS} are read",
            )
        return cls([_parse_span(name, number, line) for number, line in lines.items()])

    def scaled(self, intensity: float) -> Timeline:
        """Multiply all amounts by an intensity in [0, 1.5], limiting them to 1.5.

        Raises InputError for any other intensity.
        """
        check_intensity(intensity)
        amounts = [span.amounts * np.float32(intensity) for span in self.spans]
        return Timeline(
            [
                Span(span.start, span.end, np.minimum(scaled, MAX_INTENSITY))
                for span, scaled in zip(self.spans, amounts)
            ],
            sum(bool((scaled > MAX_INTENSITY + AMOUNT_TOLERANCE).any()) for scaled in amounts),
        )

    @classmethod
    def unchanged(cls) -> Timeline:
        """Make a timeline of no emotion, not even neutral: `transfer` leaves a performance alone."""
        return cls([Span(0.0, np.inf, np.zeros(len(EMOTIONS), np.float32))])

    @property
    def changes(self) -> bool:
        """Whether there is any emotion in it, or neutral."""
        return bool(self.shown.any())

    @property
    def shown(self) -> np.ndarray:
        """(8,) bool, the emotions that occur anywhere."""
        return np.any([span.amounts > 0 for span in self.spans], axis=0)

    def overlaps(self) -> list[tuple[Span, Span]]:
        """Return pairs of spans that overlap, the one that begins first in front."""
        pairs = []
        ordered = sorted(self.spans, key=lambda span: (span.start, span.end))
        longest = None  # the span so far that ends last
        for span in ordered:
            if longest is not None and span.start < longest.end:
                pairs.append((longest, span))
            if longest is None or span.end > longest.end:
                longest = span
        return pairs

    def notes(self, duration: float | None, what: str = "the audio") -> list[str]:
        """Return what is odd about the spans, in words.

        Parameters
        ----------
        duration : float or None
            Of what shows them, s; None if it is not known yet.
        what : str
            What it is the duration of.
        """
        notes = []
        if duration is not None:
            notes += self._notes_on_end(duration, f"the end of {what} at {duration:.2f} s")
        overlaps = self.overlaps()
        if overlaps:
            first, second = overlaps[0]
            notes.append(
                f"{_spans(len(overlaps))} before an earlier one ends, first that from "
                f"{second.start:g} s in that from {first.start:g} to {first.end:g} s; their "
                "emotions are mixed"
            )
        if self.limited:
            which = "one of its spans is" if self.limited == 1 else f"{self.limited} spans are"
            notes.append(f"{which} stronger than {MAX_INTENSITY:g}, the most, and limited to it")
        return notes

    def _notes_on_end(self, duration: float, end: str) -> list[str]:
        """Return which spans lie after the end, or are cut off by it."""
        after = [span for span in self.spans if span.start >= duration]
        if len(after) == len(self.spans):
            return [f"all of its spans begin after {end}, so no emotion of them is shown"]
        notes = []
        if after:
            notes.append(f"{_spans(len(after))} after {end}, first at {after[0].start:g} s")
        cut = [
            span
            for span in self.spans
            if span.start < duration and np.isfinite(span.end) and span.end > duration + CUT_OFF_S
        ]
        if cut:
            longest = max(cut, key=lambda span: span.end)
            notes.append(
                f"the span from {longest.start:g} to {longest.end:g} s is cut off by {end}"
            )
        return notes

    def amounts(self, times: np.ndarray) -> np.ndarray:
        """Return the amount of each emotion (T, 8) float32 at times (T,) s.

        Where spans overlap, the sum is limited to the largest sum of a single span, or 1.
        """
        times = np.asarray(times, np.float64)
        result = np.zeros((len(times), len(EMOTIONS)))
        for span in self.spans:
            strength = smoothstep((span.end - times) / CROSS_FADE_S + 0.5)
            if span.start > 0:
                strength = smoothstep((times - span.start) / CROSS_FADE_S + 0.5) * strength
            result += strength[:, None] * span.amounts
        limit = max([1.0, *(float(span.amounts.sum()) for span in self.spans)])
        return (result / np.maximum(result.sum(1, keepdims=True) / limit, 1)).astype(np.float32)


def _spans(count: int) -> str:
    return "one of its spans begins" if count == 1 else f"{count} of its spans begin"


def _lines_of(path: Path, text: str) -> dict[int, str]:
    """Return the lines of a timeline's file that name an emotion, by their number."""
    ending = path.suffix.lower()
    if ending not in TABLE_ENDINGS:
        lines = enumerate(text.splitlines(), 1)
        return {number: line for number, line in lines if line.split("#")[0].strip()}
    hint = f"it needs {', '.join(TIMELINE_COLUMNS[:3])} of each span, and may have an intensity"
    try:
        if ending == ".csv":
            rows: Any = list(csv.DictReader(io.StringIO(text.removeprefix("\ufeff"))))
            return {number: _line_of(row) for number, row in enumerate(rows, 2)}
        content = parse_json(text)
        rows = content.get("spans") if isinstance(content, dict) else None
        if not isinstance(rows, list) or not all(isinstance(row, dict) for row in rows):
            raise ValueError("it has no list `spans` of objects")
        return {number: _line_of(row) for number, row in enumerate(rows, 1)}
    except KeyError as error:
        reason = f"a span has no {error.args[0]}"
        raise InputError(f"{printable(path)}: not a timeline ({reason})", hint) from None
    except (TypeError, ValueError, AttributeError, csv.Error) as error:
        raise InputError(f"{printable(path)}: not a timeline ({printable(error)})", hint) from None


def _line_of(row: dict[str, Any]) -> str:
    """Return a row of a table as a line of text. Raises KeyError for a missing column."""
    start, end, emotion = (str(row[name]).strip() for name in TIMELINE_COLUMNS[:3])
    intensity = row.get(TIMELINE_COLUMNS[3])
    emotion = emotion.replace(" ", "") or "?"
    return f"{start} {end} {emotion} {1 if intensity in (None, '') else intensity}"


def _parse_span(path: str, number: int, line: str) -> Span:
    """Parse a line of a timeline file; `path` and `number` are for messages."""
    example = f"for instance: {TIMELINE_EXAMPLE}"
    where = f"{path}: line {number} ('{printable(line.strip(), 40)}')"
    fields = line.split("#")[0].split()
    if len(fields) not in (3, 4):
        raise InputError(f"{where} is not 'start end emotion [intensity]'", example)
    try:
        start, end = float(fields[0]), float(fields[1])
        intensity = float(fields[3]) if len(fields) == 4 else 1.0
    except ValueError:
        raise InputError(f"{where}: times and intensity must be numbers", example) from None
    if not 0 <= start < end < np.inf:
        raise InputError(
            f"{where}: a span must begin at 0 or later and end after its beginning", example
        )
    try:
        return Span(start, end, Timeline.constant(fields[2], intensity).spans[0].amounts)
    except InputError as error:
        raise InputError(f"{path}: line {number}: {error}", error.hint) from None
