"""How well two motions of the lips agree in time: alignment by dynamic time warping.

Signals are openings of the mouth (T,), one value a frame. They are standardised first, so that the
values do not depend on how widely a mouth moves.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np

WARP_WINDOW_S = 0.4  # frames that are farther apart are never aligned
SOFT_DTW_GAMMA = 0.1  # smoothing of the minimum; 0 would be plain dynamic time warping
MIN_EXTREMUM_DEPTH = 0.25  # of a peak or valley over its neighbours, in standard deviations
STILL_MM = 0.05  # standard deviation of a mouth that does not move


def temporal_misalignment(predicted: np.ndarray, reference: np.ndarray, fps: float) -> float | None:
    """Return the mean temporal misalignment (MTM) in s, None if a motion has no peaks.

    The peaks and valleys of the reference are looked up in the prediction along the path of
    derivative dynamic time warping; the result is the mean time between both (after Chae-Yeon et
    al., "Perceptually Accurate 3D Talking Head Generation", CVPR 2025).

    Parameters
    ----------
    predicted, reference : (T,)
    fps : float
    """
    if min(predicted.std(), reference.std()) < STILL_MM:
        return None
    a, b = _standardised(predicted), _standardised(reference)
    extrema = _extrema(b)
    if not len(extrema):
        return None
    path = _alignment(np.gradient(a), np.gradient(b), max(1, round(WARP_WINDOW_S * fps)))
    distances = [np.abs(path[path[:, 1] == frame, 0] - frame).mean() for frame in extrema]
    return float(np.mean(distances) / fps)


def soft_dtw(predicted: np.ndarray, reference: np.ndarray, fps: float) -> float | None:
    """Return the soft dynamic-time-warping distance a frame, None if a motion is still.

    The mean of squared differences along soft alignments (Cuturi and Blondel 2017, γ
    SOFT_DTW_GAMMA) of the standardised signals (T,): 0 for equal ones.
    """
    if min(predicted.std(), reference.std()) < STILL_MM:
        return None
    a, b = _standardised(predicted), _standardised(reference)
    window = max(1, round(WARP_WINDOW_S * fps))
    # The divergence: with the distances of each signal from itself taken off, equal ones give 0.
    own = (_soft_distance(a, a, window) + _soft_distance(b, b, window)) / 2
    return (_soft_distance(a, b, window) - own) / len(a)


def intensity_correlation(opening: np.ndarray, loudness: np.ndarray, fps: float) -> float | None:
    """Return the speech-lip intensity correlation coefficient (SLCC), None if either is constant.

    Pearson's r of how much lips move and how loud speech is, both over windows of half a second
    (after Chae-Yeon et al., CVPR 2025).

    Parameters
    ----------
    opening : (T,)
    loudness : (T,)
        Level of the audio at the frames, in dB.
    fps : float
    """
    size = max(1, round(0.5 * fps))
    count = len(opening) // size
    if count < 3:
        return None
    movement = opening[: count * size].reshape(count, size).std(1)
    level = loudness[: count * size].reshape(count, size).mean(1)
    if movement.std() < 1e-9 or level.std() < 1e-9:
        return None
    return float(np.corrcoef(movement, level)[0, 1])


def frame_rate(times: np.ndarray) -> float:
    """Return the frames per second of ascending times (T,) s, from their median distance."""
    return float(1 / np.median(np.diff(times)))


def _standardised(signal: np.ndarray) -> np.ndarray:
    return (signal - signal.mean()) / signal.std()


def _extrema(signal: np.ndarray) -> np.ndarray:
    """Return the frames of the peaks and valleys of a standardised signal (T,)."""
    from scipy.signal import find_peaks

    frames = [find_peaks(sign * signal, prominence=MIN_EXTREMUM_DEPTH)[0] for sign in (1, -1)]
    return np.sort(np.concatenate(frames))


def _alignment(a: np.ndarray, b: np.ndarray, window: int) -> np.ndarray:
    """Return the path (P, 2) of frames of two signals (T,) with the least squared differences."""
    total = _accumulated(a, b, window, min)
    step = len(a) - 1, len(b) - 1
    path = [step]
    while step != (0, 0):
        i, j = step
        before = [(i - 1, j - 1), (i - 1, j), (i, j - 1)]
        step = min(before, key=lambda cell: total.get(cell, np.inf))
        path.append(step)
    return np.array(path[::-1])


def _soft_distance(a: np.ndarray, b: np.ndarray, window: int) -> float:
    """Return the soft minimum of the summed squared differences over all alignments."""
    return _accumulated(a, b, window, _soft_minimum)[len(a) - 1, len(b) - 1]


def _soft_minimum(values: tuple[float, float, float]) -> float:
    least = min(values)
    total = sum(math.exp((least - value) / SOFT_DTW_GAMMA) for value in values)
    return least - SOFT_DTW_GAMMA * math.log(total)


def _accumulated(
    a: np.ndarray,
    b: np.ndarray,
    window: int,
    minimum: Callable[[tuple[float, float, float]], float],
) -> dict[tuple[int, int], float]:
    """Return the cost of the best alignment up to each pair of frames that may be aligned."""
    total: dict[tuple[int, int], float] = {(-1, -1): 0.0}
    x, y = a.tolist(), b.tolist()
    for i in range(len(x)):
        for j in range(max(0, i - window), min(len(y), i + window + 1)):
            before = (
                total.get((i - 1, j - 1), math.inf),
                total.get((i - 1, j), math.inf),
                total.get((i, j - 1), math.inf),
            )
            total[i, j] = (x[i] - y[j]) ** 2 + minimum(before)
    return total
