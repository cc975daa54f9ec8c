"""Audio-visual synchronisation: delay of a video's audio, from captured and predicted lips."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from ..audio.recording import Audio, open_audio
from ..errors import InputError
from ..face.canonical import Face
from ..networks.talking import TalkingModel
from ..video.reader import IMAGE_ENDINGS
from .fitting import FRAME_FIELDS, Capture

MAX_DELAY_S = 0.5  # delays are searched up to this, both ways
DELAY_STEP_S = 0.01  # resolution of the search
MIN_DELAY_CORRELATION = 0.4  # Pearson r below which no delay is reported
MIN_SYNC_S = 1.0  # shorter videos are not measured


@dataclass(frozen=True)
class Delay:
    """A delay of audio against lips."""

    seconds: float  # positive if the audio comes after the lips
    r: float  # Pearson r of seen and predicted lip opening at this delay


def video_audio(path: Path) -> Audio | None:
    """Return the audio of a video, None if the video has no audio."""
    if path.suffix.lower() in IMAGE_ENDINGS:
        return None
    try:
        return open_audio(path)
    except InputError:
        return None


def audio_delay(capture: Capture, face: Face, talking: TalkingModel, audio: Audio) -> Delay | None:
    """Measure how late a video's audio is, None if that cannot be determined.

    The captured lip opening is compared with the one that the talking model predicts.
    """
    end = min(float(capture.time[-1]), audio.duration)
    if end < MIN_SYNC_S:
        return None
    times = np.arange(0, end, DELAY_STEP_S)
    predicted = talking.motion(audio, times).lip_opening(face)
    seen = np.interp(times, capture.time, capture.motion(face).lip_opening(face))
    return best_delay(seen, predicted)


def best_delay(seen: np.ndarray, predicted: np.ndarray) -> Delay | None:
    """Return the delay of `predicted` against `seen` with the highest correlation.

    Both are lip openings (T,), sampled every DELAY_STEP_S. None if the correlation stays below
    MIN_DELAY_CORRELATION.
    """
    delays = []
    steps = round(MAX_DELAY_S / DELAY_STEP_S)
    for lag in range(-steps, steps + 1):
        before, after = max(-lag, 0), max(lag, 0)
        a, b = seen[before : len(seen) - after], predicted[after : len(predicted) - before]
        if len(a) >= MIN_SYNC_S / DELAY_STEP_S / 2 and a.std() > 0 and b.std() > 0:
            delays.append(Delay(round(lag * DELAY_STEP_S, 3), float(np.corrcoef(a, b)[0, 1])))
    best = max(delays, key=lambda delay: delay.r, default=None)
    return best if best is not None and best.r >= MIN_DELAY_CORRELATION else None


def delayed(capture: Capture, seconds: float) -> Capture:
    """Return a capture whose lips move `seconds` later; its first or last frame is held."""
    count = len(capture.time)
    position = np.interp(capture.time - seconds, capture.time, np.arange(count))
    low = position.astype(int)
    high = np.minimum(low + 1, count - 1)
    fraction = position - low
    moved = {"seen": capture.seen[np.round(position).astype(int)]}
    for name in set(FRAME_FIELDS) - {"time", "seen"}:
        array = getattr(capture, name)
        weight = fraction.reshape(-1, *[1] * (array.ndim - 1)).astype(array.dtype)
        moved[name] = array[low] * (1 - weight) + array[high] * weight
    return replace(capture, **moved)
