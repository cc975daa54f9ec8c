"""Synthetic audio without speech, on which a face has to stay at rest: noise and music."""

from __future__ import annotations

import numpy as np

from ..audio.recording import SAMPLE_RATE

# Steps of a major scale and its neighbours, in semitones above the lowest note.
SCALE_STEPS = (-12, -5, 0, 2, 4, 5, 7, 9, 11, 12, 14, 16)
TONIC_RANGE_HZ = (110.0, 330.0)
BEATS_PER_MINUTE = (60.0, 160.0)
MAX_PARTIALS = 10
ATTACK_S = (0.003, 0.15)
NOTE_S = (0.1, 2.0)


def noise(count: int, rng: np.random.Generator) -> np.ndarray:
    """Return noise of a random colour, even or in gusts, (count,) with a peak of 1."""
    spectrum = np.fft.rfft(rng.standard_normal(count))
    result = np.fft.irfft(spectrum * np.arange(1, count // 2 + 2) ** -rng.uniform(0, 1), count)
    if rng.random() < 0.5:  # gusts and clatter
        swell = np.interp(np.arange(count), np.linspace(0, count, 40), rng.uniform(0, 1, 40))
        result = result * swell**2
    return result / np.abs(result).max()  # type: ignore[no-any-return]


def music(count: int, rng: np.random.Generator) -> np.ndarray:
    """Return chords, melodies and drums at a random tempo, (count,) with a peak of 1."""
    result = np.zeros(count)
    tonic = np.exp(rng.uniform(*np.log(TONIC_RANGE_HZ)))
    beat_s = 60 / rng.uniform(*BEATS_PER_MINUTE) / rng.choice([1, 2, 4])
    voices, is_plucked = rng.integers(1, 4), rng.random() < 0.6
    brightness, vibrato = rng.uniform(0.6, 2.0), rng.choice([0.0, 0.006])
    drums = rng.random() < 0.6
    for start in np.arange(0, count / SAMPLE_RATE, beat_s):
        first = int(start * SAMPLE_RATE)
        for step in rng.choice(SCALE_STEPS, voices):
            tone = note(tonic * 2 ** (step / 12), brightness, is_plucked, vibrato, rng)
            tone = tone[: count - first]
            result[first : first + len(tone)] += tone
        if drums and rng.random() < 0.7:
            stroke = drum(rng)[: count - first]
            result[first : first + len(stroke)] += stroke
    return result / max(np.abs(result).max(), 1e-6)  # type: ignore[no-any-return]


def note(
    pitch_hz: float, brightness: float, is_plucked: bool, vibrato: float, rng: np.random.Generator
) -> np.ndarray:
    """Return a harmonic tone (N,) that decays, or swells and ends."""
    duration = rng.uniform(*NOTE_S)
    time = np.arange(int(duration * SAMPLE_RATE)) / SAMPLE_RATE
    partials = np.arange(1, MAX_PARTIALS + 1)
    partials = partials[partials * pitch_hz < SAMPLE_RATE / 2]
    phase = 2 * np.pi * pitch_hz * (time + vibrato / 6 * np.sin(2 * np.pi * 6 * time))
    waves = np.sin(partials[:, None] * phase + rng.uniform(0, 2 * np.pi, (len(partials), 1)))
    tone = partials**-brightness @ waves
    attack = np.minimum(1, time / rng.uniform(*ATTACK_S))
    decay = (
        np.exp(-time * rng.uniform(1, 8)) if is_plucked else np.minimum(1, (duration - time) / 0.05)
    )
    return rng.uniform(0.3, 1) * tone * attack * decay  # type: ignore[no-any-return]


def drum(rng: np.random.Generator) -> np.ndarray:
    """Return a stroke of noise or of a falling tone (N,)."""
    time = np.arange(int(0.25 * SAMPLE_RATE)) / SAMPLE_RATE
    if rng.random() < 0.5:
        body = rng.standard_normal(len(time))
    else:
        body = np.sin(2 * np.pi * rng.uniform(5, 9) * (1 - np.exp(-time * 12)))
    return rng.uniform(0.5, 2) * body * np.exp(-time * rng.uniform(12, 60))  # type: ignore[no-any-return]
