"""Prosody: where a voice stresses words, pauses, begins and ends phrases, asks, laughs and sighs.

Features and events depend on the audio up to PROSODY_LOOKAHEAD_S after them, so they are the same
for a recording and for audio that is still arriving. Pitch is the lag of the highest peak of the
autocorrelation, divided by that of the window (Boersma 1993, "Accurate short-term analysis of the
fundamental frequency").
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from .mel import HOP_SAMPLES
from .nonverbal import (
    AFTER_PHRASE_ROWS,
    BANDS,
    BURST_AHEAD_ROWS,
    MIN_BAND_LOG10,
    SIGH_ROWS,
    LaughterFinder,
    band_rows,
    is_sigh,
)
from .recording import SAMPLE_RATE, AudioSource

ROW_S = HOP_SAMPLES / SAMPLE_RATE  # 10 ms, from one row of analysis to the next
WINDOW_SAMPLES, PITCH_FFT_SAMPLES = 640, 2048  # 40 ms a row
MIN_PITCH_HZ, MAX_PITCH_HZ = 65.0, 400.0
VOICED_STRENGTH = 0.45  # autocorrelation at the lag of the pitch, from which a row is voiced
OCTAVE_TOLERANCE = 0.9  # the shortest lag is taken whose peak has this fraction of the highest one
MIN_POWER_LOG10 = -10.0  # mean square of silence
MIN_SPEECH_LOG10 = -6.5  # mean square below which nothing is speech
SPEECH_RANGE_LOG10 = 2.0  # below the running mean of speech: fainter voiced rows are not speech
MEAN_S = 3.0  # time constant of the running means of log power and pitch, in speech
# Excess over the running mean that makes a stress of 1: 5 dB, or 4 semitones.
STRESS_LOG10, STRESS_SEMITONES = 0.5, 4.0
MAX_STRESS = 1.5
SMOOTHING_ROWS = 6  # half width of the Hann window that smooths the stress
PEAK_ROWS = 15  # a stress is the largest within this many rows before it
MIN_STRESS = 0.4  # of a peak
PAUSE_ROWS = 25  # rows without speech between two phrases
# Rows after a row that decide about it. A pause is longer, so its event comes later than its first
# row does.
AHEAD_ROWS = 15
PAUSE_EVENT_ROWS = PAUSE_ROWS - AHEAD_ROWS
QUESTION_ROWS = 45  # end of a phrase, in which the pitch of a question rises
QUESTION_SEMITONES = 4.0  # rise of the pitch from which a phrase is a question
SURE_QUESTION_SEMITONES = 5.0  # of a question of strength 1
ANTICIPATION_S = 0.24  # how long before its time an event is announced
# Audio after a frame that its prosody depends on.
PROSODY_LOOKAHEAD_S = ANTICIPATION_S + (AHEAD_ROWS + 2) * ROW_S
# The same with the window of its last row.
PROSODY_DELAY_S = PROSODY_LOOKAHEAD_S + WINDOW_SAMPLES / 2 / SAMPLE_RATE
# Rows whose levels are an event's signature, the last of them AHEAD_ROWS after the event.
SIGNATURE_ROWS, SIGNATURE_PARTS = 40, 4
SURE_LAUGHS = 2  # bursts that are found, of a laugh of strength 1
LAUGH_S = (AHEAD_ROWS - BURST_AHEAD_ROWS) * ROW_S  # from a `laugh` to its burst
KEPT_ROWS = 400  # rows that are kept for later decisions
ONSET_S = AHEAD_ROWS * ROW_S  # from an `onset` to the phrase that it announces
# Numbers of a row: log10 power, semitones, whether it is speech, its stress before smoothing, the
# running mean of the log10 power of speech, activity, and the sum of activities in s.
POWER, PITCH, SPEECH, STRESS, MEAN, ACTIVITY, SPOKEN = range(7)
SPECTRUM = slice(7, 7 + BANDS)  # log10 power of its bands

ROWS_PER_VOICED_ROW = 1.5  # in running speech


def _hann(half_width: int) -> np.ndarray:
    """Return a Hann window (2·half_width + 1,) whose sum is 1."""
    window = np.hanning(2 * half_width + 3)[1:-1]
    return window / window.sum()


_STRESS_WINDOW, _ACTIVITY_WINDOW = _hann(SMOOTHING_ROWS), _hann(AHEAD_ROWS)
_LAGS = slice(int(SAMPLE_RATE / MAX_PITCH_HZ), int(SAMPLE_RATE / MIN_PITCH_HZ) + 1)
_WINDOW = np.hanning(WINDOW_SAMPLES + 2)[1:-1].astype(np.float32)


@dataclass(frozen=True)
class VoiceEvent:
    """Something that a voice does at a time.

    Attributes
    ----------
    kind : str
        `start` (of the audio), `onset` (a phrase begins ONSET_S later), `phrase` (one begins),
        `stress`, `pause` or `question` (one ends), `laugh` (a burst of laughter, from the fifth
        on, LAUGH_S later), or `sigh` (one has lasted for half a second).
    time : float
        Seconds.
    strength : float
        0 to 1.5.
    signature : tuple of int
        Depends on the time and on the audio around it; a seed of whatever the event causes.
    """

    kind: str
    time: float
    strength: float
    signature: tuple[int, ...]

    def random(self, *seed: int) -> np.random.Generator:
        """Return random numbers that depend on a seed and on the event's audio."""
        return np.random.default_rng((*seed, *self.signature))


@dataclass(frozen=True, eq=False)
class Voice:
    """What a voice does at consecutive times (T,).

    Attributes
    ----------
    events : list of VoiceEvent
        By time, up to ANTICIPATION_S after the last of the times, none of them reported before.
    activity : (T,)
        Share of speech around each time, 0 to 1.
    spoken : (T,) s
        Integral of the activity from the beginning.
    """

    events: list[VoiceEvent]
    activity: np.ndarray
    spoken: np.ndarray

    @classmethod
    def unknown(cls, times: np.ndarray) -> Voice:
        """Return a voice that speaks all the time and stresses nothing."""
        return cls([], np.ones(len(times)), np.asarray(times, np.float64))


def voice_rows(samples: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return loudness and pitch of windows of samples.

    Parameters
    ----------
    samples : (n − 1) · 160 + 640
        At 16 kHz.

    Returns
    -------
    power : (n,)
        log10 of the mean square.
    semitones : (n,)
        Pitch above MIN_PITCH_HZ; NaN where there is no voice.
    """
    frames = _windows(samples)
    windowed = (frames - frames.mean(1, keepdims=True)) * _WINDOW
    power = (windowed**2).sum(1) / (_WINDOW**2).sum()
    correlation = _autocorrelation(windowed)
    correlation = correlation / np.maximum(correlation[:, :1], 1e-12)
    correlation = correlation / (_autocorrelation(_WINDOW[None]) / (_WINDOW**2).sum())
    candidates = correlation[:, _LAGS]
    before = correlation[:, _LAGS.start - 1 : _LAGS.stop - 1]
    after = correlation[:, _LAGS.start + 1 : _LAGS.stop + 1]
    peaks = np.where((candidates >= before) & (candidates >= after), candidates, 0)
    highest = peaks.max(1)
    lag = (peaks >= OCTAVE_TOLERANCE * highest[:, None]).argmax(1)
    semitones = 12 * np.log2(SAMPLE_RATE / MIN_PITCH_HZ / (lag + _LAGS.start))
    voiced = (highest > VOICED_STRENGTH) & (power > 10**MIN_POWER_LOG10)
    log_power = np.log10(np.maximum(power, 10**MIN_POWER_LOG10))
    return log_power, np.where(voiced, semitones, np.nan)


def _windows(samples: np.ndarray) -> np.ndarray:
    """Return the windows (n, WINDOW_SAMPLES) of the rows of samples."""
    return np.lib.stride_tricks.sliding_window_view(samples, WINDOW_SAMPLES)[::HOP_SAMPLES]


def _autocorrelation(windowed: np.ndarray) -> np.ndarray:
    """Return the autocorrelation (n, lags) of windows (n, WINDOW_SAMPLES)."""
    spectrum = np.fft.rfft(windowed, PITCH_FFT_SAMPLES)
    return np.fft.irfft(np.abs(spectrum) ** 2)[:, : _LAGS.stop + 1]


class Prosody:
    """Passes audio on to a talking model, and reports the prosody of what passes. An `AudioSource`.

    Parameters
    ----------
    audio : AudioSource
        Its chunks are read once, by `chunks` and, where that has not read enough, by `until`.
    """

    def __init__(self, audio: AudioSource):
        self.peak = audio.peak
        self._source = audio.chunks()
        self._passed: deque[np.ndarray] = deque()  # read here, but not yet passed on
        self._samples = np.zeros(WINDOW_SAMPLES // 2, np.float32)
        self._analysis = VoiceAnalysis()
        self._ended = False

    def chunks(self) -> Iterator[np.ndarray]:
        """Yield the chunks of the audio."""
        while self._passed or self._read():
            yield self._passed.popleft()

    def until(self, times: np.ndarray) -> Voice:
        """Return what the voice does at ascending times (T,) s, which follow those before."""
        needed = math.ceil((float(times[-1]) + PROSODY_LOOKAHEAD_S) / ROW_S)
        while self._analysis.count < needed:
            if not self._read():
                self._hear(np.zeros(SAMPLE_RATE, np.float32))
        return self._analysis.until(times)

    def _read(self) -> bool:
        """Read and analyse the next chunk. Returns whether there was one."""
        chunk = next(self._source, None)
        if chunk is None:
            return False
        self._passed.append(chunk)
        self._hear(chunk)
        return True

    def _hear(self, samples: np.ndarray) -> None:
        """Analyse the next samples (N,)."""
        samples = np.concatenate([self._samples, samples])
        rows = (len(samples) - WINDOW_SAMPLES) // HOP_SAMPLES + 1
        if rows > 0:
            end = (rows - 1) * HOP_SAMPLES + WINDOW_SAMPLES
            bands = band_rows(_windows(samples[:end]))
            self._analysis.add(*voice_rows(samples[:end]), bands)
            samples = samples[rows * HOP_SAMPLES :]
        self._samples = samples


class VoiceAnalysis:
    """Finds the events of a voice in rows of power, pitch and bands, as they come."""

    def __init__(self) -> None:
        self.count = 0  # rows so far
        self._first = 0  # number of the first of the rows that are kept
        self._rows = np.zeros((SPECTRUM.stop, 0))
        self._spoken = 0.0
        self._mean, self._heard_rows = np.zeros(2), 0  # log10 power and semitones of speech
        self._decided = 0  # the next row whose events are decided
        self._last_speech = -PAUSE_ROWS - 1  # the last row of speech before it
        self._laughter = LaughterFinder()
        self._has_sighed = False  # since the last speech
        self._events: deque[VoiceEvent] = deque()

    def add(self, power: np.ndarray, semitones: np.ndarray, bands: np.ndarray) -> None:
        """Add rows (n,) of log10 power, of pitch in semitones, NaN without voice, and of bands."""
        rows = np.zeros((SPECTRUM.stop, len(power)))
        rows[POWER], rows[PITCH], rows[SPECTRUM] = power, semitones, bands.T
        rows[MEAN] = self._mean[0] if self._heard_rows else np.nan
        for k in np.flatnonzero(np.isfinite(semitones) & (power > MIN_SPEECH_LOG10)):
            values = rows[[POWER, PITCH], k]
            if self._heard_rows and values[0] < self._mean[0] - SPEECH_RANGE_LOG10:
                continue
            self._heard_rows += 1
            excess = (values - self._mean) / (STRESS_LOG10, STRESS_SEMITONES)
            self._mean += (values - self._mean) / min(self._heard_rows, MEAN_S / ROW_S)
            stress = 0.0 if self._heard_rows == 1 else float(np.clip(excess, -1, 2).sum())
            rows[[SPEECH, STRESS], k] = 1, stress
            rows[MEAN, k:] = self._mean[0]
        self._rows = np.concatenate([self._rows, rows], 1)
        self.count += len(power)

    def until(self, times: np.ndarray) -> Voice:
        """Return what `Prosody.until` does; the rows that it needs must have been added."""
        announced = float(times[-1]) + ANTICIPATION_S
        while self._decided * ROW_S <= announced + ROW_S:
            self._decide(self._decided)
            self._decided += 1
        events = []
        while self._events and self._events[0].time <= announced:
            events.append(self._events.popleft())
        row_times = (self._first + np.arange(self._rows.shape[1])) * ROW_S
        activity, spoken = (np.interp(times, row_times, self._rows[k]) for k in (ACTIVITY, SPOKEN))
        unused = min(self._decided, int(times[-1] / ROW_S)) - KEPT_ROWS - self._first
        if unused > 0:
            self._rows, self._first = self._rows[:, unused:], self._first + unused
        return Voice(events, activity, spoken)

    def _decide(self, row: int) -> None:
        """Find the activity and the events at a row."""
        self._measure_activity(row)
        if row == 0:
            self._announce("start", 0, 1.0)
        self._decide_onset(row)
        if self._between(row, row + 1)[SPEECH].any():
            if row - self._last_speech > PAUSE_ROWS:
                self._announce("phrase", row, 1.0)
            self._last_speech, self._has_sighed = row, False
        last = row - PAUSE_EVENT_ROWS
        if (
            last == self._last_speech
            and not self._between(last + 1, last + 1 + PAUSE_ROWS)[SPEECH].any()
        ):
            self._announce("pause", row, 1.0)
            rise = self._final_rise(last)
            if rise > QUESTION_SEMITONES:
                self._announce("question", row, min(rise / SURE_QUESTION_SEMITONES, 1.0))
        stress = self._smooth_stress(row - PEAK_ROWS, row + AHEAD_ROWS + 1 - SMOOTHING_ROWS)
        if stress[PEAK_ROWS] >= max(MIN_STRESS, stress.max()):
            self._announce("stress", row, min(float(stress[PEAK_ROWS]), MAX_STRESS))
        laughs = self._laughter.at(row + AHEAD_ROWS - BURST_AHEAD_ROWS, self._heard)
        if laughs:
            self._announce("laugh", row, min(laughs / SURE_LAUGHS, 1.0))
        self._decide_sigh(row)

    def _decide_onset(self, row: int) -> None:
        """Find a phrase that begins AHEAD_ROWS after a row."""
        speech = self._between(row + AHEAD_ROWS - PAUSE_ROWS, row + AHEAD_ROWS + 1)[SPEECH]
        if speech[-1] and not speech[:-1].any():
            self._announce("onset", row, 1.0)

    def _decide_sigh(self, row: int) -> None:
        """Find a sigh whose first SIGH_ROWS end AHEAD_ROWS after a row; one for each phrase."""
        end = row + AHEAD_ROWS + 1
        if self._has_sighed or end < SIGH_ROWS:
            return
        around = self._between(end - SIGH_ROWS - AFTER_PHRASE_ROWS, end)
        if around[SPEECH, -1]:
            return
        self._has_sighed = is_sigh(end, around[SPEECH], around[MEAN, -1], self._heard)
        if self._has_sighed:
            self._announce("sigh", row, 1.0)

    def _heard(self, first: int, last: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Return log10 power (n,), voicing (n,) and bands (n, BANDS) of rows."""
        rows = self._between(first, last)
        return rows[POWER], np.isfinite(rows[PITCH]), rows[SPECTRUM].T

    def _final_rise(self, row: int) -> float:
        """Return the rise in semitones of the pitch at the end of the phrase that ends at a row."""
        pitch = self._between(row + 1 - QUESTION_ROWS, row + 1)[PITCH]
        pitch = pitch[np.isfinite(pitch)]
        part = len(pitch) // 3
        return float(np.median(pitch[-part:]) - np.median(pitch[:-part])) if part > 3 else 0.0

    def _smooth_stress(self, first: int, last: int) -> np.ndarray:
        """Return the smoothed stress of the rows from `first` to before `last`."""
        stress = self._between(first - SMOOTHING_ROWS, last + SMOOTHING_ROWS)[STRESS]
        return np.convolve(stress, _STRESS_WINDOW, "valid")

    def _measure_activity(self, row: int) -> None:
        """Set a row's activity, and the sum of the activities so far."""
        speech = self._between(row - AHEAD_ROWS, row + AHEAD_ROWS + 1)[SPEECH]
        activity = min(float(speech @ _ACTIVITY_WINDOW) * ROWS_PER_VOICED_ROW, 1.0)
        self._spoken += activity * ROW_S
        self._rows[[ACTIVITY, SPOKEN], row - self._first] = activity, self._spoken

    def _announce(self, kind: str, row: int, strength: float) -> None:
        """Add an event at a row."""
        last = row + AHEAD_ROWS + 1
        power = self._between(last - SIGNATURE_ROWS, last)[POWER]
        levels = -10 * power.reshape(SIGNATURE_PARTS, -1).mean(1)  # dB, at least 0
        signature = (row, *np.maximum(np.round(levels), 0).astype(int).tolist())
        self._events.append(VoiceEvent(kind, row * ROW_S, strength, signature))

    def _between(self, first: int, last: int) -> np.ndarray:
        """Return rows (15, last − first); before the audio and after what was added is silence."""
        known = self._rows[:, max(first - self._first, 0) : max(last - self._first, 0)]
        before = min(max(self._first - first, 0), last - first)
        after = last - first - before - known.shape[1]
        if not before and not after:
            return known
        silence = np.zeros((SPECTRUM.stop, 1))
        silence[POWER], silence[PITCH], silence[MEAN] = MIN_POWER_LOG10, np.nan, np.nan
        silence[SPECTRUM] = MIN_BAND_LOG10
        return np.hstack([silence.repeat(before, 1), known, silence.repeat(after, 1)])
