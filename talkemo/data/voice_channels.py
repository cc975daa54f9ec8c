"""Augmentation of voices: how a speaker sounds through rooms, microphones and noise.

All recordings of a speaker get the same changes, as in one session: louder speech stays louder, and
what a speaker sounds like on average can be taken off.
"""

from __future__ import annotations

import zlib

import numpy as np

from ..audio.recording import SAMPLE_RATE
from .audio_augmentation import change_speed

SPEED_RANGE, CHANGED_SPEED_SHARE = (0.92, 1.08), 0.5
# Some corpora end at 5.5 kHz, telephones at 3.4: no emotion may be known by its bandwidth.
LOW_PASS_HZ, LOW_PASS_SHARE, LOW_PASS_ORDER = (3000.0, 7500.0), 0.6, 8
HIGH_PASS_HZ, HIGH_PASS_SHARE = (80.0, 300.0), 0.3
ROOM_S, ROOM_DECAY_S, ROOM_STRENGTH, ROOM_SHARE = 0.4, (0.15, 0.6), (0.1, 0.6), 0.3
NOISE_DB, NOISE_SHARE = (10.0, 45.0), 0.6  # below the speaker's first recording
GAIN_DB = (-15.0, 10.0)


class Channel:
    """The changes of all recordings of a speaker in one copy of a corpus."""

    def __init__(self, speaker: str, copy: int, seed: int):
        rng = np.random.default_rng([seed, copy, zlib.crc32(speaker.encode())])
        draw = lambda limits, share: rng.uniform(*limits) if rng.random() < share else None
        self.gain = 10 ** (rng.uniform(*GAIN_DB) / 20)
        self.speed = draw(SPEED_RANGE, CHANGED_SPEED_SHARE) or 1.0
        self.low_pass_hz = draw(LOW_PASS_HZ, LOW_PASS_SHARE)
        self.high_pass_hz = draw(HIGH_PASS_HZ, HIGH_PASS_SHARE)
        self.room = _room(rng) if rng.random() < ROOM_SHARE else None
        self.noise_db = draw(NOISE_DB, NOISE_SHARE)
        self.noise_slope = rng.uniform(0, 1)
        self._rng, self._level = rng, 0.0

    def __call__(self, samples: np.ndarray) -> np.ndarray:
        """Return samples (N,) float32 after the changes; the speed changes their number."""
        from scipy.signal import butter, fftconvolve, sosfilt

        samples = change_speed(samples, self.speed)
        if self.low_pass_hz is not None:
            low = butter(LOW_PASS_ORDER, self.low_pass_hz, fs=SAMPLE_RATE, output="sos")
            samples = sosfilt(low, samples)
        if self.high_pass_hz is not None:
            high = butter(2, self.high_pass_hz, "high", fs=SAMPLE_RATE, output="sos")
            samples = sosfilt(high, samples)
        if self.room is not None:
            samples = fftconvolve(samples, self.room)[: len(samples)]
        if self.noise_db is not None:
            self._level = self._level or float(np.sqrt(np.mean(np.square(samples))))
            samples = samples + self._noise(len(samples))
        return np.clip(self.gain * samples, -1, 1).astype(np.float32)

    def _noise(self, count: int) -> np.ndarray:
        """Return coloured noise (count,), as far below the speaker's level as the channel says."""
        spectrum = np.fft.rfft(self._rng.standard_normal(count))
        noise = np.fft.irfft(spectrum * np.arange(1, len(spectrum) + 1) ** -self.noise_slope, count)
        level = self._level * 10 ** (-(self.noise_db or 0.0) / 20)
        return noise * level / max(float(np.sqrt(np.mean(noise**2))), 1e-12)


def _room(rng: np.random.Generator) -> np.ndarray:
    """Return the response of a room: an impulse followed by decaying noise."""
    count = int(ROOM_S * SAMPLE_RATE)
    decay = 10 ** (-3 * np.arange(count) / SAMPLE_RATE / rng.uniform(*ROOM_DECAY_S))
    response = rng.standard_normal(count) * decay
    response *= rng.uniform(*ROOM_STRENGTH) / np.sqrt(np.sum(response**2))
    response[0] += 1
    return response
