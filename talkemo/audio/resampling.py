"""Conversion of samples to mono at 16 kHz, and the limits of what is accepted."""

from __future__ import annotations

import numpy as np

SAMPLE_RATE = 16000  # Hz
SAMPLE_RATE_RANGE = (1000, 1_000_000)  # Hz, lowest and highest rate of a recording
MAX_AUDIO_CHANNELS = 64
MAX_AUDIO_S = 24 * 3600.0
MAX_ABS_SAMPLE = 1e6  # float files that contain integers stay well below it
HIGH_PASS_CUTOFF_HZ = 5.0  # removes the constant offset of a microphone
HIGH_PASS_BLOCK_SAMPLES = 256  # filtered by one matrix product


class HighPass:
    """First-order high-pass filter of consecutive pieces: y[n] = x[n] − x[n−1] + pole · y[n−1].

    The filter starts as if the first sample had always been there, so that an offset does not click
    at the start. Within a block, the recursion is a product with a triangular matrix: importing
    scipy.signal for `lfilter` takes longer than decoding and filtering a recording.
    """

    def __init__(self, rate: float):
        pole = np.exp(-2 * np.pi * HIGH_PASS_CUTOFF_HZ / rate)
        samples = np.arange(HIGH_PASS_BLOCK_SAMPLES)
        lag = samples[:, None] - samples
        self.within_block = np.where(lag >= 0, pole ** np.maximum(lag, 0), 0.0).T
        # What remains of the output before a block, at each of its samples.
        self.decay = pole ** np.arange(1, HIGH_PASS_BLOCK_SAMPLES + 1)
        self.last_input: float | None = None
        self.last_output = 0.0

    @np.errstate(invalid="ignore", over="ignore")  # callers check the result for NaN and infinity
    def __call__(self, samples: np.ndarray) -> np.ndarray:
        """Return the next piece (N,), filtered, in float32."""
        if not len(samples):
            return samples.astype(np.float32)
        x = samples.astype(np.float64)
        steps = np.diff(x, prepend=x[0] if self.last_input is None else self.last_input)
        padded = np.pad(steps, (0, -len(steps) % HIGH_PASS_BLOCK_SAMPLES))
        blocks = padded.reshape(-1, HIGH_PASS_BLOCK_SAMPLES) @ self.within_block
        output_before = np.empty(len(blocks))
        last = self.last_output
        for block, block_end in enumerate(blocks[:, -1]):
            output_before[block] = last
            last = block_end + self.decay[-1] * last
        y = (blocks + output_before[:, None] * self.decay).ravel()[: len(x)]
        self.last_input, self.last_output = x[-1], y[-1]
        return y.astype(np.float32)


class Converter:
    """Converts consecutive pieces of audio to mono at 16 kHz without a constant offset."""

    def __init__(self, rate: float):
        import soxr

        self.high_pass = HighPass(rate)
        self.resampler = None
        if rate != SAMPLE_RATE:
            self.resampler = soxr.ResampleStream(rate, SAMPLE_RATE, 1, dtype="float32")

    def __call__(self, block: np.ndarray, last: bool) -> np.ndarray:
        """Return the next samples (N, channels) in [-1, 1] as (M,) float32.

        The resampler holds back samples until it is given the `last` block.
        """
        mono = self.high_pass(block.mean(1))
        return mono if self.resampler is None else self.resampler.resample_chunk(mono, last=last)
