"""Emotions: their names, mixes such as `happy:0.6,surprised:0.4`, and timelines of emotions that come and go."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from ..errors import InputError
from ..files.reading import printable, read_text
from ..geometry.numerics import smoothstep

EMOTIONS = ("neutral", "calm", "happy", "sad", "angry", "fearful", "disgust", "surprised")
PAPER_EMOTIONS = ("neutral", "happy", "angry", "surprised")
MAX_INTENSITY = 1.5  # more than an emotion in full, for faces that have to be read from afar
EXCESS_INTENSITY_GAIN = (
    0.6  # by how much of its excess over 1 an amount counts: faces at 1.5 are strong, not broken
)
CROSS_FADE = 0.4  # s, duration of the change from one emotion of a timeline to the next
LARGEST_TIMELINE = 1 << 20  # bytes
MOST_SPANS = 10_000  # of a timeline
SPELLINGS = {
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
    """Amounts (8,) float32, in the order of EMOTIONS, of an emotion, an everyday spelling of one, or a mix.

    A mix is `happy:0.6,surprised:0.4`, its shares adding up to 1 at most. Raises InputError for an unknown emotion or a
    share that is not a number from 0 to 1.
    """
    amounts = np.zeros(len(EMOTIONS), np.float32)
    for part in text.split(","):
        name, _, share = part.partition(":")
        name = name.strip().lower()
        name = SPELLINGS.get(name, name)
        if name not in EMOTIONS:
            raise InputError(
                f"unknown emotion '{printable(name, 40)}'",
                f"choose from {', '.join(EMOTIONS)}, or mix: happy:0.6,sad:0.4",
            )
        if share and not re.fullmatch(r"\s*(0(\.\d*)?|1(\.0*)?|\.\d+)\s*", share):
            raise InputError(
                f"'{printable(part, 40)}': the share of an emotion is a number from 0 to 1",
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
    """Amounts (8,) float32 of one emotion of EMOTIONS at full strength."""
    return np.eye(len(EMOTIONS), dtype=np.float32)[EMOTIONS.index(emotion)]


def effective_amounts(amounts: np.ndarray) -> np.ndarray:
    """How far amounts of an emotion move a face, relative to an amount of 1: as far as they say up to 1, then less."""
    return np.minimum(amounts, 1) + EXCESS_INTENSITY_GAIN * np.maximum(amounts - 1, 0)


@dataclass(frozen=True)
class Span:
    """A part of a timeline: start and end in s, and the amount of each emotion (8,) in between."""

    start: float
    end: float
    amounts: np.ndarray


class Timeline:
    """Emotions over time, as a list of spans. Make one by `Timeline.constant` or `Timeline.read`."""

    def __init__(self, spans: list[Span]):
        self.spans = spans

    @classmethod
    def constant(cls, emotion: str, intensity: float = 1.0) -> Timeline:
        """One emotion or mix from beginning to end. Raises InputError for an intensity outside [0, 1.5]."""
        return cls([Span(0.0, np.inf, parse_emotion(emotion))]).scaled(intensity)

    @classmethod
    def read(cls, path: str | Path) -> Timeline:
        """The timeline of a text file with a line `start end emotion [intensity]` for each span, times in s.

        An emotion may be a mix; intensity is 1 where it is left out; # begins a comment. Raises InputError with the
        number of the first line that cannot be read.
        """
        text = read_text(
            path,
            "a timeline",
            "name a text file with lines like: 0.5 2.0 happy 0.8",
            LARGEST_TIMELINE,
        )
        lines = [
            (number, line)
            for number, line in enumerate(text.splitlines(), 1)
            if line.split("#")[0].strip()
        ]
        if not lines:
            raise InputError(
                f"{printable(path)}: no line of it names an emotion",
                "for instance: 0.5 2.0 happy 0.8",
            )
        if len(lines) > MOST_SPANS:
            raise InputError(
                f"{printable(path)}: {len(lines)} lines with emotions",
                f"at most {MOST_SPANS} are read",
            )
        spans = [_span(printable(path), number, line) for number, line in lines]
        return cls(spans)

    def scaled(self, intensity: float) -> Timeline:
        """The same timeline with all amounts multiplied by an intensity, up to 1.5. Raises InputError outside [0, 1.5]."""
        if not 0 <= intensity <= MAX_INTENSITY:
            raise InputError(
                f"intensity {intensity:g} is not between 0 and {MAX_INTENSITY:g}",
                "0 changes nothing, 1 is full strength",
            )
        amounts = [np.minimum(s.amounts * np.float32(intensity), MAX_INTENSITY) for s in self.spans]
        return Timeline([Span(s.start, s.end, own) for s, own in zip(self.spans, amounts)])

    @property
    def shown(self) -> np.ndarray:
        """(8,) bool, the emotions that occur at all."""
        return np.any([span.amounts > 0 for span in self.spans], axis=0)

    def amounts(self, times: np.ndarray) -> np.ndarray:
        """Amount of each emotion (T, 8) float32 at times (T,) s.

        Changes take CROSS_FADE seconds, half of them before a span begins or ends; a span that begins at 0 is there
        from the start. Where spans overlap, the amounts are scaled to add up to no more than those of one span do, or 1.
        """
        times = np.asarray(times, np.float64)
        result = np.zeros((len(times), len(EMOTIONS)))
        for span in self.spans:
            rise = (
                np.ones(len(times))
                if span.start <= 0
                else smoothstep((times - span.start) / CROSS_FADE + 0.5)
            )
            result += (rise * smoothstep((span.end - times) / CROSS_FADE + 0.5))[
                :, None
            ] * span.amounts
        most = max([1.0, *(float(span.amounts.sum()) for span in self.spans)])
        return (result / np.maximum(result.sum(1, keepdims=True) / most, 1)).astype(np.float32)


def _span(path: str, number: int, line: str) -> Span:
    """One line of a timeline file."""
    example = "for instance: 0.5 2.0 happy 0.8"
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
        raise InputError(f"{where}: a span begins at 0 or later and ends after it begins", example)
    try:
        return Span(start, end, Timeline.constant(fields[2], intensity).spans[0].amounts)
    except InputError as error:
        raise InputError(f"{path}: line {number}: {error}", error.hint) from None
