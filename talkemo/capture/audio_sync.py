"""How late a film's sound is: the lips that are seen against those that its sound asks for."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from ..audio.recording import Audio, open_audio
from ..errors import InputError
from ..face.canonical import Face
from ..networks.protocols import SpeechToMotion
from ..video.reader import IMAGE_ENDINGS
from .fitting import PER_FRAME, Capture

FARTHEST = 0.5  # s, that the sound may be early or late
STEP = 0.01  # s
LEAST = 0.4  # Pearson r of the lips' openings from which on a delay is believed
SHORTEST = 1.0  # s of a film in which it can be measured


@dataclass(frozen=True)
class Delay:
    """seconds: by which the sound comes after the lips; r: Pearson r of the two openings then."""

    seconds: float
    r: float


def video_audio(path: Path) -> Audio | None:
    """The sound of a film, None where it has none."""
    if path.suffix.lower() in IMAGE_ENDINGS:
        return None
    try:
        return open_audio(path)
    except InputError:
        return None


def sound_delay(
    capture: Capture, face: Face, talking: SpeechToMotion, sound: Audio
) -> Delay | None:
    """How late the sound of a film is, by the talking model; None where that cannot be told."""
    end = min(float(capture.time[-1]), sound.duration)
    if end < SHORTEST:
        return None
    times = np.arange(0, end, STEP)
    heard = talking.motion(sound, times).lip_opening(face)
    seen = np.interp(times, capture.time, capture.motion(face).lip_opening(face))
    return best_delay(seen, heard)


def best_delay(seen: np.ndarray, heard: np.ndarray) -> Delay | None:
    """The delay at which openings (T,) that are heard are most like those that are seen, both every STEP s."""
    found = []
    for lag in range(-round(FARTHEST / STEP), round(FARTHEST / STEP) + 1):
        before, after = max(-lag, 0), max(lag, 0)
        a, b = seen[before : len(seen) - after], heard[after : len(heard) - before]
        if len(a) >= SHORTEST / STEP / 2 and a.std() > 0 and b.std() > 0:
            found.append(Delay(round(lag * STEP, 3), float(np.corrcoef(a, b)[0, 1])))
    best = max(found, key=lambda delay: delay.r, default=None)
    return best if best is not None and best.r >= LEAST else None


def delayed(capture: Capture, seconds: float) -> Capture:
    """A capture whose lips move `seconds` later; its first or last frame is held where it ends."""
    places = np.clip(
        np.interp(capture.time - seconds, capture.time, np.arange(len(capture.time))), 0, None
    )
    low = np.minimum(places.astype(int), len(capture.time) - 1)
    high = np.minimum(low + 1, len(capture.time) - 1)
    share = places - low
    moved = {"seen": capture.seen[np.round(places).astype(int)]}
    for name in set(PER_FRAME) - {"time", "seen"}:
        array = getattr(capture, name)
        part = share.reshape(-1, *[1] * (array.ndim - 1)).astype(array.dtype)
        moved[name] = array[low] * (1 - part) + array[high] * part
    return replace(capture, **moved)
