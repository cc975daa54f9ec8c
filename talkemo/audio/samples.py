"""Checks of audio samples, and their conversion to mono at 16 kHz."""

from __future__ import annotations

import numpy as np

from ..errors import InputError
from ..option_limits import SAMPLE_RATE_RANGE

SAMPLE_RATE = 16000  # Hz
MAX_AUDIO_CHANNELS = 64
MAX_AUDIO_S = 24 * 3600.0
MAX_ABS_SAMPLE = 1e6  # integers that were stored as floats stay well below it
HIGH_PASS_CUTOFF_HZ = 5.0  # removes the constant offset of a microphone
HIGH_PASS_BLOCK_SAMPLES = 256  # filtered by one matrix product
MIX_FRAME_S = 0.02  # channels are compared once in this time
MIX_MEMORY_S = 1.0  # time constant with which older power is forgotten
# The mean of the channels is left for the loudest one where its power is a smaller share of that
# channel's: voices in opposite phases cancel each other.
MIN_MEAN_SHARE = 0.1


def check_rate(rate: float, name: str) -> None:
    """Raise InputError unless a rate in Hz lies in SAMPLE_RATE_RANGE."""
    lowest, highest = SAMPLE_RATE_RANGE
    if not lowest <= rate <= highest:
        raise InputError(
            f"{name}: {rate} samples per second", f"from {lowest} to {highest} are read"
        )


def check_channels(channels: int, name: str) -> None:
    """Raise InputError for no channels, or more than MAX_AUDIO_CHANNELS."""
    if not 1 <= channels <= MAX_AUDIO_CHANNELS:
        hint = f"at most {MAX_AUDIO_CHANNELS} are read; mix it down"
        raise InputError(f"{name}: samples of {channels} channels", hint)


def check_duration(seconds: float, name: str) -> None:
    """Raise InputError for more than MAX_AUDIO_S."""
    if seconds > MAX_AUDIO_S:
        limit = f"more than {MAX_AUDIO_S / 3600:.0f} hours of audio"
        raise InputError(f"{name}: {limit}", "cut it into pieces")


def check_array(samples: np.ndarray, name: str) -> None:
    """Raise InputError unless an array has samples (N,) or (N, channels) of a number type."""
    if samples.ndim not in (1, 2) or not len(samples) or samples.dtype.kind not in "fiu":
        raise InputError(
            f"{name}: samples are {samples.dtype} {samples.shape}",
            "give (N,) or (N, channels) floats in [-1, 1]",
        )
    check_channels(samples.shape[1] if samples.ndim == 2 else 1, name)


def as_floats(samples: np.ndarray) -> np.ndarray:
    """Return samples as floats: integers of B bits become -1 to 1, where 2^(B-1) is 1.

    Half of the range of unsigned integers is silence, as in 8-bit wav files.
    """
    if samples.dtype.kind not in "iu":
        return samples
    one = np.float32(2.0 ** (8 * samples.dtype.itemsize - 1))
    return samples / one - (samples.dtype.kind == "u")


def check_finite(samples: np.ndarray, name: str) -> None:
    """Raise InputError for NaN or infinity."""
    if not np.isfinite(samples).all():
        raise InputError(
            f"{name}: samples contain NaN or infinity", "export it again, with samples in [-1, 1]"
        )


def check_peak(samples: np.ndarray, name: str) -> float:
    """Return the largest absolute sample. Raises InputError above MAX_ABS_SAMPLE."""
    peak = float(np.abs(samples).max(initial=0.0))
    if peak > MAX_ABS_SAMPLE:
        raise InputError(
            f"{name}: samples of {peak:.0e}; samples lie between -1 and 1", "export it again"
        )
    return peak


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
        # Decay of the output before a block, at each sample of the block.
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


class MonoMixer:
    """Mixes consecutive pieces of audio down to mono.

    The result is the mean of the channels, or the loudest channel while the mean has lost the
    voice, as it does where channels have opposite phases. The choice depends on the audio up to
    then, not on how it is cut into pieces.

    Parameters
    ----------
    rate : float
        In Hz.
    """

    def __init__(self, rate: float):
        self.frame_samples = max(1, round(MIX_FRAME_S * rate))
        self.decay = float(np.exp(-MIX_FRAME_S / MIX_MEMORY_S))
        self.filled = 0  # samples of the present frame
        # Power of the mean and of each channel: decaying over earlier frames, and in this frame.
        self.earlier: np.ndarray | float = 0.0
        self.present: np.ndarray | float = 0.0
        self.channel: int | None = None  # that is used instead of the mean

    def __call__(self, block: np.ndarray) -> np.ndarray:
        """Return the next samples (N, channels) as (N,)."""
        if block.shape[1] == 1:
            return block[:, 0]
        mean = block.mean(1)
        mono = np.empty_like(mean)
        start = 0
        while start < len(block):
            stop = min(len(block), start + self.frame_samples - self.filled)
            piece = slice(start, stop)
            mono[piece] = mean[piece] if self.channel is None else block[piece, self.channel]
            self._measure(mean[piece], block[piece])
            start = stop
        return mono

    def _measure(self, mean: np.ndarray, block: np.ndarray) -> None:
        """Add the power of samples, and choose again at the end of a frame."""
        powers = [float(mean @ mean), *np.einsum("nc,nc->c", block, block, dtype=np.float64)]
        self.present = self.present + np.array(powers)
        self.filled += len(mean)
        if self.filled < self.frame_samples:
            return
        self.earlier = self.decay * (self.earlier + self.present)
        self.filled, self.present = 0, 0.0
        of_mean, of_channels = self.earlier[0], self.earlier[1:]
        loudest = int(of_channels.argmax())
        lost = of_mean < MIN_MEAN_SHARE * of_channels[loudest]
        self.channel = loudest if lost else None


class Converter:
    """Converts consecutive pieces of audio to mono at 16 kHz without a constant offset."""

    def __init__(self, rate: float):
        import soxr

        self.mix, self.high_pass = MonoMixer(rate), HighPass(rate)
        self.resampler = None
        if rate != SAMPLE_RATE:
            self.resampler = soxr.ResampleStream(rate, SAMPLE_RATE, 1, dtype="float32")

    def __call__(self, block: np.ndarray, last: bool) -> np.ndarray:
        """Return the next samples (N, channels) in [-1, 1] as (M,) float32.

        The resampler holds back samples until it is given the `last` block.
        """
        mono = self.high_pass(self.mix(block))
        return mono if self.resampler is None else self.resampler.resample_chunk(mono, last=last)
