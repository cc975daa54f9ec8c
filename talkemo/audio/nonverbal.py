"""Laughter and sighs: what a voice does without words, found in rows of 10 ms.

Laughter is a series of short bursts of the same vowel, about five a second, with a dip of the level
after each (Bachorowski, Smoski, Owren 2001, "The acoustic features of human laughter"). Speech has as
many syllables a second, but they differ in their spectrum and come less regularly. A sigh is breath
after a phrase: noise of middle frequencies that falls slowly.

Both are strict: a face that laughs for nothing is worse than one that misses a laugh
(`benchmarks/gestures.py` counts both).
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from .recording import SAMPLE_RATE

BAND_FFT_SAMPLES = 512
# Corners of triangular bands, each of which overlaps with the next: a harmonic passes smoothly from
# one to the next as the pitch changes.
BAND_CORNERS_HZ = (80, 200, 450, 800, 1250, 1850, 2700, 3800, 5500, 7600)
BANDS = len(BAND_CORNERS_HZ) - 2
MIN_BAND_LOG10 = -10.0  # power of silence

SMOOTHING = np.array([1.0, 3.0, 4.0, 3.0, 1.0]) / 12
SMOOTHING_ROWS = len(SMOOTHING) // 2
PEAK_ROWS = 6  # a burst is the loudest within this many rows on either side
BURST_AHEAD_ROWS = PEAK_ROWS + SMOOTHING_ROWS  # rows after a burst that decide about it
MIN_BURST_LOG10 = -6.0  # of a burst's power
BURSTS = 4  # of a series that is laughter
MIN_INTERVAL_ROWS, MAX_INTERVAL_ROWS = 15, 40  # from burst to burst
MAX_INTERVAL_RATIO = 1.6  # of the longest to the shortest interval of a series
MIN_DIP_LOG10 = 0.5  # by which the level falls between two bursts
MAX_BURST_ROWS = 22  # width of a burst at half of the dip before it
MAX_SPECTRUM_DISTANCE = 0.25  # log10, between the spectra of neighbouring bursts, mean of a series
MAX_RISE_LOG10, MAX_STEP_LOG10 = 0.25, 0.6  # of the level, in a series and from burst to burst
LENIENCE = 1.6  # by which dips and spectra may differ more once a series is laughter
MIN_VOICED_BURSTS, MAX_VOICED_DIPS = 0.4, 0.8  # share of voiced rows at bursts and in dips
NEAR_ROWS = 2  # on either side of a burst or a dip

SIGH_ROWS = 50  # of noise, after which it is a sigh
# Rows before the noise, and of them at least of speech: single voiced rows occur in noise, too.
AFTER_PHRASE_ROWS, MIN_PHRASE_ROWS = 40, 5
FLOOR_ROWS, MIN_FLOOR_ROWS = 400, 100  # rows before a sigh whose quietest are the noise floor
FLOOR_PERCENTILE, MIN_ABOVE_FLOOR_LOG10 = 5, 0.6
MIN_SIGH_LOG10, MAX_SIGH_LOG10 = -1.6, -0.3  # level of its loudest third, relative to speech
MIN_SIGH_FALL_LOG10, MAX_SIGH_FALL_LOG10 = 0.25, 1.2  # from its first third to its last
MIN_SIGH_STEP_LOG10 = 0.08  # from each third to the next: noise that ends does not fall before
MAX_VOICED_SIGH = 0.3  # share of voiced rows
BREATH_BANDS = slice(2, 6)  # around 800 to 2700 Hz
MIN_BREATH_SHARE = 0.4  # of the power, in these bands

# Returns log10 power (n,), whether rows are voiced (n,), and log10 power of bands (n, BANDS), of the
# rows from the first to before the last.
RowsBetween = Callable[[int, int], tuple[np.ndarray, np.ndarray, np.ndarray]]


def band_rows(windows: np.ndarray) -> np.ndarray:
    """Return log10 power of bands (n, BANDS) in the middle of windows of samples (n, ≥ 512)."""
    margin = (windows.shape[1] - BAND_FFT_SAMPLES) // 2
    middle = windows[:, margin : margin + BAND_FFT_SAMPLES] * _BAND_WINDOW
    power = np.abs(np.fft.rfft(middle)) ** 2 @ _BAND_MATRIX
    return np.log10(np.maximum(power, 10**MIN_BAND_LOG10))


def _band_matrix() -> np.ndarray:
    """Return the matrix (257, BANDS) that sums a power spectrum in bands."""
    hertz = np.fft.rfftfreq(BAND_FFT_SAMPLES, 1 / SAMPLE_RATE)[:, None]
    corners = np.array(BAND_CORNERS_HZ, float)
    low, middle, high = corners[:-2], corners[1:-1], corners[2:]
    rising, falling = (hertz - low) / (middle - low), (high - hertz) / (high - middle)
    weights = np.maximum(np.minimum(rising, falling), 0)
    return np.asarray(weights / (BAND_FFT_SAMPLES * float((_BAND_WINDOW**2).sum())))


_BAND_WINDOW = np.hanning(BAND_FFT_SAMPLES + 1)[:-1].astype(np.float32)
_BAND_MATRIX = _band_matrix()


@dataclass(frozen=True, eq=False)
class _Burst:
    """A peak of the level."""

    row: int
    level: float  # log10 power
    spectrum: np.ndarray  # (BANDS,) log10, mean 0
    voiced: float  # share of the rows around it


@dataclass(frozen=True)
class _Step:
    """From one burst to the next."""

    rows: int
    dip: float  # log10
    rise: float  # log10, of the level
    distance: float  # log10, between the spectra
    width: int  # rows, of the second burst
    voiced: float  # share of the rows around the second burst
    voiced_dip: float  # share of the rows around the lowest one


class LaughterFinder:
    """Finds bursts of laughter in ascending rows."""

    def __init__(self) -> None:
        self._last: _Burst | None = None
        self._steps: deque[_Step] = deque(maxlen=BURSTS - 1)
        self._laughs = 0  # of the present series: bursts from the BURSTS-th on

    def at(self, row: int, between: RowsBetween) -> int:
        """Return 0, or a number that counts the bursts of a series of laughter.

        It is 1 at the burst after the BURSTS-th: in speech, four syllables may be alike, but hardly
        ever five. The rows up to BURST_AHEAD_ROWS after it must be known.
        """
        margin = BURST_AHEAD_ROWS
        power, voiced, bands = between(row - margin, row + margin + 1)
        level = np.convolve(power, SMOOTHING, "valid")
        if level[PEAK_ROWS] < max(MIN_BURST_LOG10, level.max()):
            return 0
        spectrum = SMOOTHING @ bands[margin - SMOOTHING_ROWS : margin + SMOOTHING_ROWS + 1]
        near = voiced[margin - NEAR_ROWS : margin + NEAR_ROWS + 1]
        burst = _Burst(row, float(level[PEAK_ROWS]), spectrum - spectrum.mean(), float(near.mean()))
        before, self._last = self._last, burst
        if before is None or row - before.row > MAX_INTERVAL_ROWS:
            self._steps.clear()
            self._laughs = 0
            return 0
        self._steps.append(_step(before, burst, between))
        begins = len(self._steps) == BURSTS - 1 and _is_laughter(self._steps)
        goes_on = self._laughs > 0 and _goes_on(self._steps[-1])
        self._laughs = self._laughs + 1 if begins or goes_on else 0
        return max(self._laughs - 1, 0)


def _step(first: _Burst, second: _Burst, between: RowsBetween) -> _Step:
    """Return what lies between two bursts."""
    start = first.row - SMOOTHING_ROWS
    power, voiced, _ = between(start, second.row + BURST_AHEAD_ROWS + 1)
    level = np.convolve(power, SMOOTHING, "valid")  # from the first burst on
    rows = second.row - first.row
    lowest = int(level[: rows + 1].argmin())
    dip = min(first.level, second.level) - float(level[lowest])
    loud = level > second.level - dip / 2
    before, after = np.flatnonzero(~loud[:rows]), np.flatnonzero(~loud[rows:])
    left = rows - int(before[-1]) if len(before) else rows + 1
    right = int(after[0]) if len(after) else len(level) - rows
    around = lowest + SMOOTHING_ROWS
    voiced_dip = voiced[max(around - NEAR_ROWS, 0) : around + NEAR_ROWS + 1].mean()
    distance = float(np.abs(first.spectrum - second.spectrum).mean())
    rise = second.level - first.level
    return _Step(rows, dip, rise, distance, left + right - 1, second.voiced, float(voiced_dip))


def _is_laughter(steps: deque[_Step]) -> bool:
    """Return whether bursts are short, alike, regular and not rising, with dips between them."""
    intervals, rises = [step.rows for step in steps], [step.rise for step in steps]
    return bool(
        min(intervals) >= MIN_INTERVAL_ROWS
        and max(intervals) <= MAX_INTERVAL_RATIO * min(intervals)
        and min(step.dip for step in steps) >= MIN_DIP_LOG10
        and max(step.width for step in steps) <= MAX_BURST_ROWS
        and np.mean([step.distance for step in steps]) <= MAX_SPECTRUM_DISTANCE
        and np.mean([step.voiced for step in steps]) >= MIN_VOICED_BURSTS
        and np.mean([step.voiced_dip for step in steps]) <= MAX_VOICED_DIPS
        and sum(rises) <= MAX_RISE_LOG10
        and max(rises) <= MAX_STEP_LOG10
    )


def _goes_on(step: _Step) -> bool:
    """Return whether a step leads to another burst of a series that is laughter."""
    return (
        step.rows >= MIN_INTERVAL_ROWS
        and step.dip >= MIN_DIP_LOG10 / LENIENCE
        and step.distance <= LENIENCE * MAX_SPECTRUM_DISTANCE
        and step.rise <= MAX_STEP_LOG10
        and step.width <= MAX_BURST_ROWS
    )


def is_sigh(row: int, speech: np.ndarray, speech_level: float, between: RowsBetween) -> bool:
    """Return whether the SIGH_ROWS rows before a row are a sigh.

    Parameters
    ----------
    row : int
        The rows before it must be known.
    speech : (AFTER_PHRASE_ROWS + SIGH_ROWS,)
        Whether the rows before it are speech.
    speech_level : float
        Running mean of the log10 power of speech.
    """
    if speech[-SIGH_ROWS:].any() or speech[:-SIGH_ROWS].sum() < MIN_PHRASE_ROWS:
        return False
    first = max(row - FLOOR_ROWS, 0)
    if row - first < MIN_FLOOR_ROWS:
        return False
    power, voiced, _ = between(row - SIGH_ROWS, row)
    level = np.convolve(power, SMOOTHING, "valid")
    third = len(level) // 3
    loud, middle, faint = level[:third].mean(), level[third:-third].mean(), level[-third:].mean()
    if not (
        MIN_SIGH_LOG10 <= loud - speech_level <= MAX_SIGH_LOG10
        and MIN_SIGH_FALL_LOG10 <= loud - faint <= MAX_SIGH_FALL_LOG10
        and min(loud - middle, middle - faint) >= MIN_SIGH_STEP_LOG10
        and voiced.mean() <= MAX_VOICED_SIGH
    ):
        return False
    before, _, _ = between(first, row)
    floor = np.percentile(np.convolve(before, SMOOTHING, "valid"), FLOOR_PERCENTILE)
    bands = 10 ** between(row - SIGH_ROWS, row)[2]
    share = bands[:, BREATH_BANDS].sum() / bands.sum()
    return bool(level.min() >= floor + MIN_ABOVE_FLOOR_LOG10 and share >= MIN_BREATH_SHARE)
