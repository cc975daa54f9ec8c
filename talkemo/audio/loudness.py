"""Loudness normalisation of log-mel bands, so that faint and loud voices give the same features.

The level is causal: it is estimated from the audio received so far, for files as for streams, so a
recording moves a face in the same way from a file and from a pipe. Its lower bound is the level of
speech 65 dB fainter than usual. Rows that are 100 dB fainter than usual speech are silence, so that
the noise of a converter is not amplified. Training uses the level of the whole recording, with
random deviations like those of the causal level.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from .mel import HOP_SAMPLES, mel_rows
from .recording import SAMPLE_RATE, Audio, AudioSource

LOUDNESS_RANGE_LOG10 = 8.0  # log10 power below the level that is normalised to 0
# Rows fainter than the loudest one by more than this (log10 power) are ignored for the level.
AUDIBLE_RANGE_LOG10 = 4.0
LOUD_QUANTILE = 0.95  # quantile of the audible rows' power that is the level
# Lower bound of a recording's level (log10 mel power), so that noise is not amplified to speech.
MIN_RECORDING_LEVEL = -4.0
MIN_CAUSAL_LEVEL = -4.5  # log10 mel power; fainter audio moves a face less
# The same where audio begins: what comes before the first word is noise or breath, which must not
# count as loud. The bound falls to MIN_CAUSAL_LEVEL while audio is heard for ADAPTATION_S.
MIN_FIRST_LEVEL = -0.5
ADAPTATION_S = 1.0
SILENT_ROW_LEVEL = -8.0  # log10 mel power of a row's loudest band, below which it is silence
SILENT_PEAK = 1e-4  # −80 dB; a recording below it is silence
LOUDNESS_MEMORY_S = 30.0  # time constant of the histogram's exponential decay
ROWS_PER_LEVEL = 2  # 20 ms
LEVEL_BINS_LOG10 = np.arange(-10.0, 8.0, 0.05)  # log10 mel power, of the histogram of levels


class CausalLevel:
    """Normalises log-mel rows by the level of the audio so far, from a decaying histogram."""

    def __init__(self) -> None:
        self.counts = np.zeros(len(LEVEL_BINS_LOG10))
        self.heard_s = 0.0  # audio above SILENT_ROW_LEVEL

    def normalise(self, rows: np.ndarray) -> np.ndarray:
        """Return the next rows (m, B) at 100 Hz, normalised; m is even."""
        loudest = np.clip(rows.max(1), LEVEL_BINS_LOG10[0], LEVEL_BINS_LOG10[-1])
        bins = np.searchsorted(LEVEL_BINS_LOG10, loudest, side="right") - 1
        levels = np.array([self._update(pair) for pair in bins.reshape(-1, ROWS_PER_LEVEL)])
        normalised = normalise(rows, np.repeat(levels, ROWS_PER_LEVEL)[:, None])
        normalised[loudest < SILENT_ROW_LEVEL] = 0
        return normalised

    def _update(self, bins: np.ndarray) -> float:
        """Return the level in log10 mel power after rows whose loudest bands lie in `bins`."""
        self.counts *= np.exp(-len(bins) * HOP_SAMPLES / SAMPLE_RATE / LOUDNESS_MEMORY_S)
        np.add.at(self.counts, bins, 1.0)
        heard = LEVEL_BINS_LOG10[bins] >= SILENT_ROW_LEVEL
        self.heard_s += float(heard.sum()) * HOP_SAMPLES / SAMPLE_RATE
        loudest = LEVEL_BINS_LOG10[np.flatnonzero(self.counts > 0.01)[-1]]
        audible = loudest - AUDIBLE_RANGE_LOG10 < LEVEL_BINS_LOG10
        count = np.cumsum(np.where(audible, self.counts, 0.0))
        loud = LEVEL_BINS_LOG10[np.searchsorted(count, LOUD_QUANTILE * count[-1])]
        adapted = min(self.heard_s / ADAPTATION_S, 1.0)
        lowest = MIN_FIRST_LEVEL + adapted * (MIN_CAUSAL_LEVEL - MIN_FIRST_LEVEL)
        return max(float(loud), lowest)


def normalised_rows(audio: AudioSource, filters: np.ndarray) -> Iterator[np.ndarray]:
    """Yield normalised log-mel rows (m, B) as audio arrives; zeros for a silent recording."""
    level, rest = CausalLevel(), np.zeros((0, len(filters)), np.float32)
    silent = audio.peak < SILENT_PEAK
    for new_rows in mel_rows(audio, filters):
        rows = np.concatenate([rest, new_rows])
        whole = len(rows) - len(rows) % ROWS_PER_LEVEL
        rows, rest = rows[:whole], rows[whole:]
        if whole:
            yield np.zeros_like(rows) if silent else level.normalise(rows)
    if len(rest):
        padded = np.repeat(rest, ROWS_PER_LEVEL, 0)
        yield np.zeros_like(rest) if silent else level.normalise(padded)[: len(rest)]


def normalise(bands: np.ndarray, level: np.ndarray | float) -> np.ndarray:
    """Return bands relative to a level: 1 at the level, 0 at LOUDNESS_RANGE_LOG10 below.

    Parameters
    ----------
    bands : (T', B)
        log10 mel power.
    level : (T', 1) or float
        log10 mel power that is loud; infinity gives silence.
    """
    if np.isscalar(level) and np.isinf(level):
        return np.zeros_like(bands)
    return np.clip(1 + (bands - level) / LOUDNESS_RANGE_LOG10, 0, 1.2).astype(np.float32)


def loud_level(audio: Audio, filters: np.ndarray) -> float:
    """Return the level of a whole recording in log10 mel power, for training; inf for silence."""
    if audio.peak < SILENT_PEAK:
        return float("inf")
    loudest = [rows.max(1) for rows in mel_rows(audio, filters)]
    return reference_level(np.concatenate(loudest or [np.zeros(1)]))


def reference_level(loudest: np.ndarray) -> float:
    """Return the level of a recording, from the loudest band (T',) of each row.

    Only audible rows count: a minute with one word in it is mostly noise.
    """
    audible = loudest[loudest > loudest.max() - AUDIBLE_RANGE_LOG10]
    return max(float(np.percentile(audible, 100 * LOUD_QUANTILE)), MIN_RECORDING_LEVEL)
