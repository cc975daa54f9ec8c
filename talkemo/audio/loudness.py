"""How loud is loud: what log-mel bands are relative to, so that a faint or a loud voice looks alike.

Of sound that is still coming only what came so far is known, so loud is what was heard up to now, and not less than speech
25 dB under a usual recording's. Files are heard in the same way: a recording moves a face as the same sound from a pipe.
Training takes the level of the whole recording, and varies it as it varies here.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from .mel import HOP_SAMPLES, mel_rows
from .recording import SAMPLE_RATE, Audio, AudioSource

LOUDNESS_RANGE_LOG10 = 8.0  # log10 units under loud that are distinguished
AUDIBLE_RANGE_LOG10 = 4.0  # log10 units under the loudest moment that count as sound when the level is measured
LOUD_QUANTILE = 0.95  # share of what is audible that is not louder than loud
MIN_RECORDING_LEVEL = -4.0  # lower bound of a recording's level, log10 mel power: noise alone stays faint
SILENT_PEAK = 1e-3  # peak, −60 dB, under which a recording is silence
MIN_CAUSAL_LEVEL = (
    -0.5
)  # lower bound of the level of sound as it comes: what is fainter moves a face a little less
LOUDNESS_MEMORY_S = 30.0  # s, time constant in which what was heard is forgotten
ROWS_PER_LEVEL = 2  # rows, 20 ms, that have one level
LEVEL_BINS_LOG10 = np.arange(-10.0, 8.0, 0.05)  # log10 mel power, of the histogram of what was heard


class Level:
    """Normalises log-mel rows by what was loud in the sound so far."""

    def __init__(self) -> None:
        self.counts = np.zeros(len(LEVEL_BINS_LOG10))

    def normalise(self, rows: np.ndarray) -> np.ndarray:
        """The next rows (m, B) at 100 Hz, normalised; m is a multiple of ROWS_PER_LEVEL."""
        loudest = np.clip(rows.max(1), LEVEL_BINS_LOG10[0], LEVEL_BINS_LOG10[-1])
        places = np.searchsorted(LEVEL_BINS_LOG10, loudest, side="right").reshape(-1, ROWS_PER_LEVEL) - 1
        levels = np.array([self._after(place) for place in places])
        return normalise(rows, np.repeat(levels, ROWS_PER_LEVEL)[:, None])

    def _after(self, places: np.ndarray) -> float:
        """What is loud, in log10 mel power, once rows were heard whose loudest bands lie in bins (m,)."""
        self.counts *= np.exp(-len(places) * HOP_SAMPLES / SAMPLE_RATE / LOUDNESS_MEMORY_S)
        np.add.at(self.counts, places, 1.0)
        audible = LEVEL_BINS_LOG10[np.flatnonzero(self.counts > 0.01)[-1]] - AUDIBLE_RANGE_LOG10
        share = np.cumsum(np.where(audible < LEVEL_BINS_LOG10, self.counts, 0.0))
        return max(float(LEVEL_BINS_LOG10[np.searchsorted(share, LOUD_QUANTILE * share[-1])]), MIN_CAUSAL_LEVEL)


def normalised_rows(sound: AudioSource, filters: np.ndarray) -> Iterator[np.ndarray]:
    """Log-mel rows of sound in pieces (m, B), normalised, as it comes; zeros for a recording that is hiss at most."""
    level, held = Level(), np.zeros((0, len(filters)), np.float32)
    silent = sound.peak < SILENT_PEAK
    for piece in mel_rows(sound, filters):
        rows = np.concatenate([held, piece])
        whole = len(rows) - len(rows) % ROWS_PER_LEVEL
        held = rows[whole:]
        if whole:
            yield np.zeros_like(rows[:whole]) if silent else level.normalise(rows[:whole])
    if len(held):
        yield (
            np.zeros_like(held)
            if silent
            else level.normalise(np.repeat(held, ROWS_PER_LEVEL, 0))[: len(held)]
        )


def normalise(bands: np.ndarray, level: np.ndarray | float) -> np.ndarray:
    """Bands (T', B) in log10 mel power to about 1 where it is loud and 0 for LOUDNESS_RANGE_LOG10 under that; silent for inf.

    level: (T', 1) or one for all, log10 mel power that is loud
    """
    if np.isscalar(level) and np.isinf(level):
        return np.zeros_like(bands)
    return np.clip(1 + (bands - level) / LOUDNESS_RANGE_LOG10, 0, 1.2).astype(np.float32)


# --------------------------------------------------------------------------------------------------- whole recordings


def loud_level(audio: Audio, filters: np.ndarray) -> float:
    """What is loud in a whole recording, in log10 mel power, as training takes it; inf for silence."""
    if audio.peak < SILENT_PEAK:
        return float("inf")
    return reference_level(
        np.concatenate([rows.max(1) for rows in mel_rows(audio, filters)] or [np.zeros(1)])
    )


def reference_level(level: np.ndarray) -> float:
    """The same from the loudest band (T',) of each row."""
    # Of what can be heard at all: a minute with one word in it is mostly noise floor.
    return max(float(np.percentile(level[level > level.max() - AUDIBLE_RANGE_LOG10], 100 * LOUD_QUANTILE)), MIN_RECORDING_LEVEL)
