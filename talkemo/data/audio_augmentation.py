"""Augmentation of audio for training: vocal tracts, speed, rooms, noise, microphones and codecs."""

from __future__ import annotations

import io
from functools import lru_cache

import numpy as np
import torch

from ..audio import mel
from ..audio.loudness import LOUDNESS_RANGE_LOG10, reference_level
from ..audio.mel import FFT_SAMPLES, HOP_SAMPLES
from ..audio.recording import SAMPLE_RATE

# Vocal tract lengths relative to the speaker's, as factors of the frequency axis; the middle is 1.
TRACT_LENGTHS = 1 + 0.025 * np.arange(-7, 8)
REVERBERATION_SAMPLES = 6400
CODEC_FORMATS = (("MP3", "MPEG_LAYER_III"), ("OGG", "VORBIS"), ("OGG", "OPUS"))


def change_speed(samples: np.ndarray, speed: float) -> np.ndarray:
    """Play samples (N,) `speed` times as fast: (N / speed,); pitch and formants change with it."""
    import soxr

    if speed == 1:
        return samples
    return soxr.resample(samples, SAMPLE_RATE * speed, SAMPLE_RATE).astype(np.float32)


def through_codec(samples: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """The samples after a random lossy codec at a low bit rate, (N,) → (N,) float32, in sync."""
    import soundfile

    container, subtype = CODEC_FORMATS[rng.integers(len(CODEC_FORMATS))]
    compression = rng.uniform(0.7, 1)
    file = io.BytesIO()
    with soundfile.SoundFile(
        file, "w", SAMPLE_RATE, 1, subtype, format=container, compression_level=compression
    ) as writer:
        writer.write(samples)
    file.seek(0)
    decoded = soundfile.read(file, dtype="float32")[0]
    if container == "MP3":
        decoded = decoded[codec_delay(samples, decoded) :]
    missing = max(0, len(samples) - len(decoded))
    return np.pad(decoded, (0, missing))[: len(samples)].astype(np.float32)


def codec_delay(samples: np.ndarray, delayed: np.ndarray, max_delay: int = 3000) -> int:
    """Delay in samples, below `max_delay`, that maximises the cross-correlation."""
    n = 1 << (min(len(samples), len(delayed), 4 * SAMPLE_RATE) + max_delay).bit_length()
    spectrum = np.fft.rfft(delayed[: n // 2], n) * np.conj(np.fft.rfft(samples[: n // 2], n))
    return int(np.fft.irfft(spectrum, n)[:max_delay].argmax())


@lru_cache(maxsize=1)
def tract_filters() -> torch.Tensor:
    """Mel filter banks (15, 80, 257) that shift formants as vocal tracts of TRACT_LENGTHS do."""
    filters = mel.mel_filters()
    bins = np.arange(FFT_SAMPLES // 2 + 1)
    warped = [
        [np.interp(bins * length, bins, row, right=0) for row in filters]
        for length in TRACT_LENGTHS
    ]
    return torch.from_numpy(np.stack(warped).astype(np.float32))


def augment(wave: torch.Tensor) -> torch.Tensor:
    """Add rooms, noise and telephone lines to audio (N, S), in place; timing is unchanged.

    Random numbers are drawn from torch's generator of the audio's device.
    """
    return _distort(_add_noise(_add_reverberation(wave)))


def _add_reverberation(wave: torch.Tensor) -> torch.Tensor:
    """Convolve some rows with a room's response: an impulse followed by decaying noise."""
    rows, device = _random_rows(0.4, wave), wave.device
    if not len(rows):  # an empty Fourier transform raises
        return wave
    taps = torch.arange(1, REVERBERATION_SAMPLES, device=device)
    decay = 10 ** (-3 * taps / (_uniform(0.1, 0.7, len(rows), device) * SAMPLE_RATE))
    tail = torch.randn(len(rows), len(taps), device=device) * decay
    tail = tail * _uniform(0.1, 0.9, len(rows), device) / tail.square().sum(1, keepdim=True).sqrt()
    response = torch.cat([torch.ones(len(rows), 1, device=device), tail], 1)
    size = wave.shape[1] + REVERBERATION_SAMPLES
    spectrum = torch.fft.rfft(wave[rows], size) * torch.fft.rfft(response, size)
    wave[rows] = torch.fft.irfft(spectrum, size)[:, : wave.shape[1]]
    return wave


def _add_noise(wave: torch.Tensor) -> torch.Tensor:
    """Add coloured noise, or all other voices of the batch, 3 to 40 dB below some rows."""
    rows, device = _random_rows(0.6, wave), wave.device
    noise = wave.sum(0, keepdim=True) - wave[rows]
    coloured = _random_rows(0.7, rows)
    if len(coloured):
        spectrum = torch.fft.rfft(torch.randn(len(coloured), wave.shape[1], device=device))
        bins = torch.arange(1, spectrum.shape[1] + 1, dtype=torch.float32, device=device)
        slope = _uniform(0, 1, len(coloured), device)
        noise[coloured] = torch.fft.irfft(spectrum * bins ** (-slope), wave.shape[1])
    decibels = _uniform(3, 40, len(rows), device)
    ratio = _root_mean_square(wave[rows]) / _root_mean_square(noise).clamp_min(1e-8)
    wave[rows] += ratio * 10 ** (-decibels / 20) * noise
    return wave


def _distort(wave: torch.Tensor) -> torch.Tensor:
    """Filter some rows as a telephone does, and clip some as an overdriven recorder does."""
    rows = _random_rows(0.1, wave)
    if len(rows):
        spectrum = torch.fft.rfft(wave[rows])
        hertz = torch.linspace(0, SAMPLE_RATE / 2, spectrum.shape[1], device=wave.device)
        gain = torch.where((hertz < 300) | (hertz > 3400), 0.003, 1.0)
        wave[rows] = torch.fft.irfft(spectrum * gain, wave.shape[1])
    rows = _random_rows(0.05, wave)
    limit = wave[rows].abs().amax(1, keepdim=True) * 0.3
    wave[rows] = wave[rows].clamp(-limit, limit)
    return wave


def _random_rows(fraction: float, batch: torch.Tensor) -> torch.Tensor:
    """Indices of a random fraction of a batch's rows."""
    return torch.nonzero(torch.rand(len(batch), device=batch.device) < fraction)[:, 0]


def _uniform(low: float, high: float, count: int, device: torch.device) -> torch.Tensor:
    """(count, 1) uniform random numbers."""
    return low + (high - low) * torch.rand(count, 1, device=device)


def _root_mean_square(wave: torch.Tensor) -> torch.Tensor:
    """(N, 1) root mean square of audio (N, S)."""
    return wave.square().mean(1, keepdim=True).sqrt()


def mel_batch(
    wave: torch.Tensor, levels: torch.Tensor | None = None, vary: bool = False
) -> torch.Tensor:
    """Normalised log-mel rows of a batch of audio at 16 kHz.

    Parameters
    ----------
    wave : (N, S)
    levels : (N,)
        Log10 power that counts as loud, see `loudness.loud_level`; None measures it in the audio.
    vary
        Vary vocal tract, microphone and loudness level from row to row.

    Returns
    -------
    (N, 2·T, 80), T = S // 320; row k is centred on sample 160·k.
    """
    device, count = wave.device, len(wave)
    padded = torch.nn.functional.pad(wave, (FFT_SAMPLES // 2, FFT_SAMPLES // 2))
    window = torch.hann_window(FFT_SAMPLES, device=device)
    spectrum = torch.stft(
        padded, FFT_SAMPLES, HOP_SAMPLES, window=window, center=False, return_complex=True
    )
    tract = torch.full((count,), len(TRACT_LENGTHS) // 2, device=device)
    if vary:
        rows = _random_rows(0.6, wave)
        tract[rows] = torch.randint(len(TRACT_LENGTHS), (len(rows),), device=device)
    bands = torch.bmm(tract_filters().to(device)[tract], spectrum.abs().square())
    bands = bands.clamp_min(mel.MIN_MEL_POWER).log10().transpose(1, 2)
    if vary:
        # The microphone: a smooth gain over the bands, ± 5 dB.
        knots = 0.25 * torch.randn(count, 1, 5, device=device)
        bands = bands + torch.nn.functional.interpolate(
            knots, size=mel.MEL_BANDS, mode="linear", align_corners=True
        )
    if levels is None:
        measured = [reference_level(band) for band in bands.amax(2).cpu().numpy()]
        levels = torch.tensor(measured, dtype=torch.float32, device=device)
    silent, levels = torch.isinf(levels)[:, None, None], levels[:, None].expand(-1, bands.shape[1])
    if vary:
        # At the start of an utterance the causal loudness estimate is unreliable, see
        # `loudness.Level`; simulate a milder version of that error.
        time = torch.arange(bands.shape[1], device=device) * HOP_SAMPLES / SAMPLE_RATE
        rise = _uniform(-0.5, 2.5, count, device) * (torch.rand(count, 1, device=device) < 0.4)
        rise = rise * torch.exp(-time / _uniform(0.2, 1.5, count, device))
        levels = levels + 0.25 * torch.randn(count, 1, device=device) + rise
    rows = (1 + (bands - levels[..., None]) / LOUDNESS_RANGE_LOG10).clamp(0, 1.2)
    return torch.where(silent, 0.0, rows)[:, : wave.shape[1] // (2 * HOP_SAMPLES) * 2]
