"""From what is heard in a voice to the emotion that a face shows: sure, smooth and never jumping.

An emotion is shown where its probability says so. Elsewhere the face is neutral, with a faint mix
of what is likely if the voice is aroused. How strongly an emotion is shown follows the arousal of
the voice, compared with the arousal that the emotion usually has.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import Any

import numpy as np

from ..geometry.numerics import smoothstep
from .emotion_names import EMOTIONS
from .emotions import NEUTRAL_INDEX, Span, Timeline

# Usual arousal of each emotion, 0 (calm) to 1 (agitated), after Russell's circumplex (1980).
USUAL_AROUSAL = (0.3, 0.15, 0.7, 0.25, 0.9, 0.75, 0.5, 0.75)
SURE_RANGE = 0.12  # of probability around `sure`, over which an emotion fades in
MIX_SHARE = 0.6  # of the probability of the likeliest emotion, which others need to be mixed in
STRENGTH, STRENGTH_PER_AROUSAL = 0.8, 0.9  # of an emotion at its usual arousal, and its change
STRENGTH_RANGE = (0.4, 1.1)
# Of what is unsure, at most, in a voice of this arousal; nothing is shown below the first.
FAINT_STRENGTH, FAINT_AROUSAL = 0.2, (0.5, 0.9)
# Half widths of the Hann windows over readings of a recording, 1.2 and 6 s, whose means are
# averaged: an emotion changes within a sentence, but seldom.
SMOOTHING_READINGS = (6, 30)
MIN_SPEECH_SHARE = 0.15  # of the shorter window, from which something is heard
MIN_SPAN_S, MAX_SPAN_S = 0.6, 2.4  # of a timeline; the strength changes from span to span
MIN_AMOUNT = 0.02  # smaller ones are left out of spans
FOLLOW_S = (0.6, 5.0)  # time constants with which a face that listens follows the readings
# Voice around a time, and duration of a recording, below which nothing can be told of an emotion,
# and from which all of what is read counts. The network looks at 2 s.
VOICE_RANGE_S, DURATION_RANGE_S = (0.3, 0.8), (1.0, 2.0)
REST_S = 0.8  # time constant with which it fades to neutral in a pause
EASE_S = 0.25  # time constant of the change of its amounts
SHARE_STEPS = 100  # of a mix in a file
NEUTRAL = np.eye(len(EMOTIONS))[NEUTRAL_INDEX]  # amounts (8,) of a neutral face
# Probabilities (8,) where nothing can be told: neutral, and hardly sure of it.
UNHEARD = 0.1 + 0.2 * NEUTRAL


@dataclass(frozen=True, eq=False)
class VoiceReadings:
    """What is heard in a voice at R times.

    Attributes
    ----------
    times : (R,) s
    probabilities : (R, 8)
        Of EMOTIONS.
    arousal : (R,)
        0 to 1.
    spoken : (R,) bool
        Whether there is speech around the time; elsewhere the values mean nothing.
    sure : float
        Probability from which an emotion is named.
    voiced_s : (R,), optional
        For how long there is a voice from each time to the next, s; by default long enough.
    certainty : (R,), optional
        How much of the judgement counts, from 0 where there is too little voice to 1, see `faded`.
    """

    times: np.ndarray
    probabilities: np.ndarray
    arousal: np.ndarray
    spoken: np.ndarray
    sure: float
    voiced_s: np.ndarray | None = None
    certainty: np.ndarray | None = None

    def smoothed(self) -> VoiceReadings:
        """Return the readings averaged over the speech around each."""
        if not len(self.times):
            return self
        weights = self.spoken.astype(np.float64)
        columns = np.column_stack([self.probabilities, self.arousal])
        means, shares = [], []
        for half_width in SMOOTHING_READINGS:
            window = np.hanning(2 * half_width + 3)[1:-1]
            total = _blurred(weights, window)
            mean = np.stack([_blurred(weights * column, window) for column in columns.T], 1)
            means.append(mean / np.maximum(total, 1e-6)[:, None])
            shares.append(total / window.sum())
        mean, spoken = np.mean(means, 0), shares[0] > MIN_SPEECH_SHARE
        # The arousal follows the voice faster than the emotion.
        return replace(self, probabilities=mean[:, :-1], arousal=means[0][:, -1], spoken=spoken)

    def faded(self, duration: float) -> VoiceReadings:
        """Return readings that fade to neutral where a recording of `duration` s is too short.

        The voice around each time counts, as far as it is smoothed. The arousal is kept.
        """
        if self.voiced_s is None or not len(self.times):
            return self
        around = np.ones(2 * SMOOTHING_READINGS[-1] + 1)
        certainty = certainty_of(_blurred(self.voiced_s, around), duration)
        probabilities = faded(self.probabilities, certainty[:, None], UNHEARD)
        known = self.spoken | (self.arousal > 0)
        arousal = np.where(known, self.arousal, USUAL_AROUSAL[NEUTRAL_INDEX])
        return replace(self, probabilities=probabilities, arousal=arousal, certainty=certainty)

    def mean_certainty(self) -> float:
        """Return how much of the judgement counts, on average over the speech; 0 without speech."""
        if not self.spoken.any():
            return 0.0
        return 1.0 if self.certainty is None else float(self.certainty[self.spoken].mean())

    def mean(self) -> tuple[np.ndarray, float]:
        """Return probabilities (8,) and arousal of the whole, over its speech."""
        if not self.spoken.any():
            return UNHEARD.copy(), USUAL_AROUSAL[NEUTRAL_INDEX]
        return self.probabilities[self.spoken].mean(0), float(self.arousal[self.spoken].mean())

    def amounts(self) -> np.ndarray:
        """Return what the face shows of each emotion (R, 8); neutral is what remains of 1."""
        result = shown_amounts(self.probabilities, self.arousal, self.sure)
        if self.certainty is not None:
            result = faded(result, self.certainty[:, None], NEUTRAL)
        result[~self.spoken] = NEUTRAL
        return result


def certainty_of(voiced_s: np.ndarray | float, duration: float = np.inf) -> np.ndarray:
    """Return how much of a judgement counts, 0 to 1, by the voice (R,) s and the recording's s."""
    share = lambda value, low, high: smoothstep((np.asarray(value) - low) / (high - low))
    return share(voiced_s, *VOICE_RANGE_S) * share(duration, *DURATION_RANGE_S)


def faded(values: np.ndarray, certainty: np.ndarray | float, unheard: np.ndarray) -> np.ndarray:
    """Return values (..., 8) as far as they are certain, and for the rest those of no voice (8,)."""
    return np.where(np.asarray(certainty) < 1, unheard + certainty * (values - unheard), values)


def _blurred(values: np.ndarray, window: np.ndarray) -> np.ndarray:
    return np.convolve(np.pad(values, len(window) // 2), window, "valid")


def shown_amounts(probabilities: np.ndarray, arousal: np.ndarray, sure: float) -> np.ndarray:
    """Return what a face shows of each emotion (R, 8); neutral is what remains of 1.

    Parameters
    ----------
    probabilities : (R, 8)
    arousal : (R,)
    sure : float
        Probability of an emotion from which it is shown.
    """
    emotional = np.array(probabilities, np.float64)
    emotional[:, NEUTRAL_INDEX] = 0
    top = emotional.max(1, keepdims=True)
    named = smoothstep((top - sure + SURE_RANGE / 2) / SURE_RANGE)
    named *= probabilities[:, [NEUTRAL_INDEX]] <= top
    mix = np.where(emotional >= MIX_SHARE * top, emotional, 0)
    mix /= np.maximum(mix.sum(1, keepdims=True), 1e-9)
    excess = arousal[:, None] - mix @ np.array(USUAL_AROUSAL)[:, None]
    strength = np.clip(STRENGTH + STRENGTH_PER_AROUSAL * excess, *STRENGTH_RANGE)
    low, high = FAINT_AROUSAL
    faint = FAINT_STRENGTH * smoothstep((arousal[:, None] - low) / (high - low))
    likely = emotional**2  # what is unlikely hardly counts
    faint = faint * likely / np.maximum(likely.sum(1, keepdims=True), 1e-9)
    amounts = named * strength * mix + (1 - named) * faint
    amounts[:, NEUTRAL_INDEX] = np.maximum(1 - amounts.sum(1), 0) * (1 - named[:, 0])
    return amounts


@dataclass(frozen=True, eq=False)
class HeardSpan:
    """A stretch of a recording in which one emotion is heard."""

    start: float  # s
    end: float  # s
    emotion: str  # that is named; neutral if none is sure
    probability: float  # of that emotion
    likeliest: str  # emotion, whether it is sure or not
    arousal: float  # 0 to 1
    amounts: np.ndarray  # (8,), what is shown

    def as_json(self) -> dict[str, Any]:
        """Return the span as a row of a timeline's file."""
        mix, intensity = mix_of(self.amounts)
        return {
            "start": round(self.start, 2),
            "end": round(self.end, 2),
            "emotion": mix,
            "intensity": intensity,
            "heard": self.emotion,
            "probability": round(self.probability, 3),
            "likeliest": self.likeliest,
            "arousal": round(self.arousal, 3),
        }


def mix_of(amounts: np.ndarray) -> tuple[str, float]:
    """Return amounts (8,) as a mix that `parse_emotion` reads, and its intensity."""
    total = float(amounts.sum())
    shares = np.floor(SHARE_STEPS * amounts / max(total, 1e-9) + 1e-6).astype(int)
    shares[int(shares.argmax())] += SHARE_STEPS - shares.sum()
    order = [k for k in np.argsort(-shares, kind="stable") if shares[k] > 0]
    if len(order) == 1:
        return EMOTIONS[order[0]], round(total, 2)
    mix = ",".join(f"{EMOTIONS[k]}:{shares[k] / SHARE_STEPS:g}" for k in order)
    return mix, round(total, 2)


@dataclass(frozen=True, eq=False)
class HeardEmotion:
    """The emotion of a recording over time, as it is heard.

    Attributes
    ----------
    readings : VoiceReadings
        Smoothed.
    spans : list of HeardSpan
        One after the other, from the beginning to the end.
    """

    readings: VoiceReadings
    spans: list[HeardSpan]

    @classmethod
    def of(cls, readings: VoiceReadings, duration: float) -> HeardEmotion:
        """Return the emotion in the readings of a recording of `duration` s."""
        smooth = readings.smoothed().faded(duration)
        return cls(smooth, list(_spans(smooth, duration)))

    @property
    def timeline(self) -> Timeline:
        """What a face shows, with a change of 0.4 s from one span to the next."""
        return Timeline([Span(s.start, s.end, s.amounts.astype(np.float32)) for s in self.spans])

    def as_json(self) -> dict[str, Any]:
        """Return what was heard, as JSON values."""
        probabilities, arousal = self.readings.mean()
        likeliest = int(probabilities.argmax())
        voiced_s = self.readings.voiced_s
        return {
            "likeliest": EMOTIONS[likeliest],
            "probability": round(float(probabilities[likeliest]), 3),
            "arousal": round(arousal, 3),
            "probabilities": dict(zip(EMOTIONS, np.round(probabilities, 3).tolist())),
            "certainty": round(self.readings.mean_certainty(), 3),
            **({} if voiced_s is None else {"voiced_s": round(float(voiced_s.sum()), 2)}),
            "sure": self.readings.sure,
            "spans": [span.as_json() for span in self.spans],
        }


def _spans(readings: VoiceReadings, duration: float) -> Iterator[HeardSpan]:
    """Yield the spans of smoothed readings."""
    amounts = readings.amounts()
    named = np.where(readings.spoken, _named(readings), NEUTRAL_INDEX)
    step = float(readings.times[1] - readings.times[0]) if len(readings.times) > 1 else duration
    runs = _merged_runs(named, max(1, round(MIN_SPAN_S / step)))
    for first, last in _divided(runs, max(1, round(MAX_SPAN_S / step))):
        part = slice(first, last)
        shown = amounts[part].mean(0)
        shown[shown < MIN_AMOUNT] = 0
        spoken = readings.spoken[part]
        chosen = part if not spoken.any() else np.flatnonzero(spoken) + first
        probabilities = readings.probabilities[chosen].mean(0)
        emotion = int(np.bincount(named[part]).argmax())
        start = 0.0 if first == 0 else float(readings.times[first]) - step / 2
        end = duration if last == len(named) else float(readings.times[last]) - step / 2
        yield HeardSpan(
            start,
            max(end, start),
            EMOTIONS[emotion],
            float(probabilities[emotion]),
            EMOTIONS[int(probabilities.argmax())] if spoken.any() else EMOTIONS[NEUTRAL_INDEX],
            float(readings.arousal[chosen].mean()),
            shown,
        )


def _named(readings: VoiceReadings) -> np.ndarray:
    """Return the emotion (R,) that is sure at each reading, else neutral."""
    top = readings.probabilities.argmax(1)
    is_sure = readings.probabilities.max(1) >= readings.sure
    return np.where(is_sure, top, NEUTRAL_INDEX)


def _merged_runs(labels: np.ndarray, shortest: int) -> list[tuple[int, int]]:
    """Return runs of equal labels; short ones are joined to the run before, or the next one."""
    ends = [*np.flatnonzero(np.diff(labels)) + 1, len(labels)] if len(labels) else []
    runs: list[tuple[int, int]] = []
    first = 0
    for end in ends:
        is_short = end - first < shortest
        same = runs and labels[runs[-1][0]] == labels[first]
        if runs and (is_short or same):
            runs[-1] = (runs[-1][0], int(end))
        else:
            runs.append((first, int(end)))
        first = int(end)
    if len(runs) > 1 and runs[0][1] - runs[0][0] < shortest:
        runs[:2] = [(0, runs[1][1])]
    return runs


def _divided(runs: list[tuple[int, int]], longest: int) -> Iterator[tuple[int, int]]:
    """Yield the runs, long ones in about equal parts."""
    for first, last in runs:
        parts = -(-(last - first) // longest)
        edges = np.linspace(first, last, parts + 1).round().astype(int)
        yield from ((int(a), int(b)) for a, b in pairwise(edges))


class FollowedVoice:
    """Amounts of emotions that follow readings as they come."""

    def __init__(self, sure: float):
        self.sure = sure
        neutral = np.append(NEUTRAL, USUAL_AROUSAL[NEUTRAL_INDEX])
        self._means = [neutral.copy() for _ in FOLLOW_S]
        self._heard_s = 0.0  # speech so far
        self.target = NEUTRAL  # (8,) amounts

    def hear(
        self, probabilities: np.ndarray, arousal: float, seconds: float, certainty: float = 1.0
    ) -> None:
        """Take a reading (8,), `seconds` after the one before; `certainty` of it counts."""
        self._heard_s += seconds
        probabilities = faded(probabilities, certainty, UNHEARD)
        for mean, constant in zip(self._means, FOLLOW_S):
            # At the beginning the slow mean follows as fast as what was heard allows.
            share = 1 - np.exp(-seconds / min(constant, max(self._heard_s, FOLLOW_S[0])))
            mean += share * (np.append(probabilities, arousal) - mean)
        mean = self._mean
        shown = shown_amounts(mean[None, :-1], mean[None, -1], self.sure)[0]
        self.target = faded(shown, certainty, NEUTRAL)

    def rest(self, seconds: float) -> None:
        """Fade to neutral, where there is no speech; what was heard before is kept in part."""
        self.target = self.target + (1 - np.exp(-seconds / REST_S)) * (NEUTRAL - self.target)

    @property
    def _mean(self) -> np.ndarray:
        """Probabilities and arousal (9,) as they are heard now; the arousal is the fast one."""
        mean = np.mean(self._means, 0)
        mean[-1] = self._means[0][-1]
        return mean

    @property
    def heard(self) -> tuple[str, float, float]:
        """The likeliest emotion now, its probability, and the arousal of the voice."""
        mean = self._mean
        top = int(mean[:-1].argmax())
        return EMOTIONS[top], float(mean[top]), float(mean[-1])
