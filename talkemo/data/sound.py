"""Augmentation of sound, for training only: other voices, rooms, microphones and lines."""

from __future__ import annotations

import io
from functools import lru_cache

import numpy as np
import torch

from ..audio import mel
from ..audio.loudness import LOUDNESS_RANGE_LOG10, reference_level
from ..audio.mel import FFT_SAMPLES, HOP_SAMPLES
from ..audio.recording import SAMPLE_RATE

# Lengths of the vocal tract relative to the speaker's own, as warps of the frequency axis; the middle one is 1.
TRACTS = 1 + 0.025 * np.arange(-7, 8)
TAIL = 6400  # samples of reverberation


def change_speed(samples: np.ndarray, speed: float) -> np.ndarray:
    """Played `speed` times as fast: tempo, pitch and formants move together; (N,) → (N / speed,)."""
    import soxr

    return (
        soxr.resample(samples, SAMPLE_RATE * speed, SAMPLE_RATE).astype(np.float32)
        if speed != 1
        else samples
    )


def through_codec(samples: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """The samples after a lossy codec at a low rate, of the same length."""
    import soundfile

    form, subtype = (("MP3", "MPEG_LAYER_III"), ("OGG", "VORBIS"), ("OGG", "OPUS"))[rng.integers(3)]
    file = io.BytesIO()
    with soundfile.SoundFile(
        file, "w", SAMPLE_RATE, 1, subtype, format=form, compression_level=rng.uniform(0.7, 1)
    ) as out:
        out.write(samples)
    file.seek(0)
    decoded = soundfile.read(file, dtype="float32")[0]
    delay = best_delay(samples, decoded) if form == "MP3" else 0
    decoded = decoded[delay:] if delay > 0 else decoded
    return np.pad(decoded, (0, max(0, len(samples) - len(decoded))))[: len(samples)].astype(
        np.float32
    )


def best_delay(samples: np.ndarray, late: np.ndarray, most: int = 3000) -> int:
    """How many samples `late` comes after `samples`, up to `most`, by their correlation."""
    n = 1 << (min(len(samples), len(late), 4 * SAMPLE_RATE) + most).bit_length()
    product = np.fft.irfft(
        np.fft.rfft(late[: n // 2], n) * np.conj(np.fft.rfft(samples[: n // 2], n))
    )
    return int(product[:most].argmax())


@lru_cache(maxsize=1)
def tract_filters() -> torch.Tensor:
    """Mel filter banks (15, 80, 257) that shift formants as vocal tracts of the lengths TRACTS do."""
    plain = mel.mel_filters()
    bins = np.arange(FFT_SAMPLES // 2 + 1)
    warped = np.stack(
        [[np.interp(bins * tract, bins, row, right=0) for row in plain] for tract in TRACTS]
    )
    return torch.from_numpy(warped.astype(np.float32))


def augment(wave: torch.Tensor) -> torch.Tensor:
    """A batch (N, S) of sound in rooms, over telephone lines, with noise. Sounds stay where they are in time.

    The batch itself is changed.
    Random numbers are torch's, drawn on the device of the sound: `torch.manual_seed` repeats them.
    """
    return _over_lines(_with_noise(_in_rooms(wave)))


def _in_rooms(wave: torch.Tensor) -> torch.Tensor:
    """Reverberation on some rows: the sound itself, followed by decaying noise."""
    rows, device = _some_rows(0.4, wave), wave.device
    if not len(rows):  # there is no Fourier transform of nothing
        return wave
    taps = torch.arange(1, TAIL, device=device)
    decay = 10 ** (-3 * taps / (_uniform(0.1, 0.7, len(rows), device) * SAMPLE_RATE))
    tail = torch.randn(len(rows), len(taps), device=device) * decay
    tail = tail * _uniform(0.1, 0.9, len(rows), device) / tail.square().sum(1, keepdim=True).sqrt()
    response = torch.cat([torch.ones(len(rows), 1, device=device), tail], 1)
    size = wave.shape[1] + TAIL
    spectrum = torch.fft.rfft(wave[rows], size) * torch.fft.rfft(response, size)
    wave[rows] = torch.fft.irfft(spectrum, size)[:, : wave.shape[1]]
    return wave


def _with_noise(wave: torch.Tensor) -> torch.Tensor:
    """Coloured noise, or all other voices of the batch together, 3 to 40 dB under the sound on some rows."""
    rows, device = _some_rows(0.6, wave), wave.device
    noise = wave.sum(0, keepdim=True) - wave[rows]
    coloured = _some_rows(0.7, rows)
    if len(coloured):
        spectrum = torch.fft.rfft(torch.randn(len(coloured), wave.shape[1], device=device))
        bins = torch.arange(1, spectrum.shape[1] + 1, dtype=torch.float32, device=device)
        slope = _uniform(0, 1, len(coloured), device)
        noise[coloured] = torch.fft.irfft(spectrum * bins ** (-slope), wave.shape[1])
    decibels = _uniform(3, 40, len(rows), device)
    wave[rows] += (
        _loudness(wave[rows]) / _loudness(noise).clamp_min(1e-8) * 10 ** (-decibels / 20) * noise
    )
    return wave


def _over_lines(wave: torch.Tensor) -> torch.Tensor:
    """Some rows over a telephone, some through a recorder whose input is driven too hard."""
    rows = _some_rows(0.1, wave)
    if len(rows):
        spectrum = torch.fft.rfft(wave[rows])
        hertz = torch.linspace(0, SAMPLE_RATE / 2, spectrum.shape[1], device=wave.device)
        passed = torch.where((hertz < 300) | (hertz > 3400), 0.003, 1.0)
        wave[rows] = torch.fft.irfft(spectrum * passed, wave.shape[1])
    rows = _some_rows(0.05, wave)
    limit = wave[rows].abs().amax(1, keepdim=True) * 0.3
    wave[rows] = wave[rows].clamp(-limit, limit)
    return wave


def _some_rows(share: float, batch: torch.Tensor) -> torch.Tensor:
    """Numbers of a random share of a batch's rows."""
    return torch.nonzero(torch.rand(len(batch), device=batch.device) < share)[:, 0]


def _uniform(low: float, high: float, count: int, device: torch.device) -> torch.Tensor:
    """(count, 1) random numbers between two."""
    return low + (high - low) * torch.rand(count, 1, device=device)


def _loudness(wave: torch.Tensor) -> torch.Tensor:
    return wave.square().mean(1, keepdim=True).sqrt()


def mel_batch(
    wave: torch.Tensor, levels: torch.Tensor | None = None, vary: bool = False
) -> torch.Tensor:
    """Normalised log-mel rows (N, 2·T, 80) of sound (N, S), T = S // 320; row k is centred on sample 160·k.

    levels: (N,) what counts as loud, see `loudness.loud_level`; measured in the sound itself if None
    vary: whether the vocal tract, the microphone's tone and the level that counts as loud vary from row to row
    """
    device, count = wave.device, len(wave)
    padded = torch.nn.functional.pad(wave, (FFT_SAMPLES // 2, FFT_SAMPLES // 2))
    window = torch.hann_window(FFT_SAMPLES, device=device)
    power = (
        torch.stft(
            padded, FFT_SAMPLES, HOP_SAMPLES, window=window, center=False, return_complex=True
        )
        .abs()
        .square()
    )
    own = len(TRACTS) // 2
    tract = torch.full((count,), own, device=device)
    if vary:
        rows = _some_rows(0.6, wave)
        tract[rows] = torch.randint(len(TRACTS), (len(rows),), device=device)
    bands = (
        torch.bmm(tract_filters().to(device)[tract], power)
        .clamp_min(mel.MIN_MEL_POWER)
        .log10()
        .transpose(1, 2)
    )
    if vary:
        # A tone control: a smooth curve over the bands, ± 5 dB.
        knots = 0.25 * torch.randn(count, 1, 5, device=device)
        tone = torch.nn.functional.interpolate(
            knots, size=mel.MEL_BANDS, mode="linear", align_corners=True
        )
        bands = bands + tone
    if levels is None:
        found = [reference_level(band) for band in bands.amax(2).cpu().numpy()]
        levels = torch.tensor(found, dtype=torch.float32, device=device)
    silent, levels = torch.isinf(levels)[:, None, None], levels[:, None].expand(-1, bands.shape[1])
    if vary:
        # How loud a voice is, is not known yet where it begins, see `loudness.Level`; here far less than there.
        time = torch.arange(bands.shape[1], device=device) * HOP_SAMPLES / SAMPLE_RATE
        rise = _uniform(-0.5, 2.5, count, device) * (torch.rand(count, 1, device=device) < 0.4)
        rise = rise * torch.exp(-time / _uniform(0.2, 1.5, count, device))
        levels = levels + 0.25 * torch.randn(count, 1, device=device) + rise
    rows = (1 + (bands - levels[..., None]) / LOUDNESS_RANGE_LOG10).clamp(0, 1.2)
    return torch.where(silent, 0.0, rows)[:, : wave.shape[1] // (2 * HOP_SAMPLES) * 2]
