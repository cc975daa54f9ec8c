"""Augmentation of sound: more voices, rooms, microphones and lines out of few (for training only)."""

from __future__ import annotations

import io
from functools import lru_cache

import numpy as np
import torch

from .. import speech
from ..speech import FFT, HOP, SAMPLE_RATE

# Vocal-tract lengths relative to the speaker's own, as warps of the frequency axis; the middle one is the own.
TRACTS = 1 + 0.025 * np.arange(-7, 8)


def change_speed(samples: np.ndarray, speed: float) -> np.ndarray:
    """Played `speed` times as fast: tempo, pitch and formants move together; (N,) → (N / speed,)."""
    import soxr

    return soxr.resample(samples, SAMPLE_RATE * speed, SAMPLE_RATE).astype(np.float32) if speed != 1 else samples


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
    return np.pad(decoded, (0, max(0, len(samples) - len(decoded))))[: len(samples)].astype(np.float32)


def best_delay(samples: np.ndarray, late: np.ndarray, most: int = 3000) -> int:
    """How many samples `late` comes after `samples`, up to `most`, by their correlation."""
    n = 1 << (min(len(samples), len(late), 4 * SAMPLE_RATE) + most).bit_length()
    product = np.fft.irfft(np.fft.rfft(late[: n // 2], n) * np.conj(np.fft.rfft(samples[: n // 2], n)))
    return int(product[:most].argmax())


@lru_cache(maxsize=1)
def tract_filters() -> torch.Tensor:
    """Mel filter banks (15, 80, 257) that hear a vocal tract of another length, those of TRACTS."""
    plain = speech.mel_filters()
    bins = np.arange(FFT // 2 + 1)
    warped = np.stack([[np.interp(bins * tract, bins, row, right=0) for row in plain] for tract in TRACTS])
    return torch.from_numpy(warped.astype(np.float32))


def augment(wave: torch.Tensor, rng: np.random.Generator) -> torch.Tensor:
    """A batch (N, S) of sound in rooms, over lines, with noise; what is heard stays where it is in time."""
    count, length = wave.shape
    # A room: the sound itself, then noise that decays; the tail never comes before its sound.
    rooms = rng.random(count) < 0.4
    if rooms.any():
        taps = np.arange(1, 6400)
        decay = 10 ** (-3 * taps / (rng.uniform(0.1, 0.7, (rooms.sum(), 1)) * SAMPLE_RATE))
        tail = rng.standard_normal((rooms.sum(), len(taps))) * decay
        tail *= rng.uniform(0.1, 0.9, (rooms.sum(), 1)) / np.sqrt((tail**2).sum(1, keepdims=True))
        response = torch.from_numpy(np.concatenate([np.ones((len(tail), 1)), tail], 1).astype(np.float32))
        size = length + response.shape[1]
        spectrum = torch.fft.rfft(wave[rooms], size) * torch.fft.rfft(response, size)
        wave[rooms] = torch.fft.irfft(spectrum, size)[:, :length]
    # Noise: coloured, or the other voices of the batch together.
    noise = torch.from_numpy(rng.standard_normal((count, length)).astype(np.float32))
    spectrum = torch.fft.rfft(noise)
    bins = torch.arange(1, spectrum.shape[1] + 1, dtype=torch.float32)
    slope = torch.from_numpy(rng.uniform(0, 1, (count, 1)).astype(np.float32))
    noise = torch.fft.irfft(spectrum * bins ** (-slope), length)
    babble = torch.from_numpy(rng.random(count) < 0.3)
    noise[babble] = (wave.sum(0, keepdim=True) - wave)[babble]
    decibels = torch.from_numpy(rng.uniform(3, 40, (count, 1)).astype(np.float32))
    share = _loudness(wave) / _loudness(noise).clamp_min(1e-8) * 10 ** (-decibels / 20)
    noisy = torch.from_numpy((rng.random((count, 1)) < 0.6).astype(np.float32))
    wave = wave + noisy * share * noise
    # A telephone, or a recorder that drives its input too hard.
    lines = rng.random(count) < 0.1
    if lines.any():
        spectrum = torch.fft.rfft(wave[lines])
        hertz = torch.linspace(0, SAMPLE_RATE / 2, spectrum.shape[1])
        spectrum[:, (hertz < 300) | (hertz > 3400)] *= 0.003
        wave[lines] = torch.fft.irfft(spectrum, length)
    hard = torch.from_numpy(rng.random(count) < 0.05)
    limit = wave.abs().amax(1, keepdim=True) * 0.3
    return torch.where(hard[:, None], wave.clamp(-limit, limit), wave)


def _loudness(wave: torch.Tensor) -> torch.Tensor:
    return wave.square().mean(1, keepdim=True).sqrt()


def mel_batch(
    wave: torch.Tensor, rng: np.random.Generator | None = None, levels: np.ndarray | None = None
) -> torch.Tensor:
    """Normalised log-mel rows (N, 2·T, 80) of sound (N, S), T = S // 320; row k is centred on sample 160·k.

    levels: (N,) what counts as loud, see `speech.loud_level`; measured in the sound itself if None.
    With a generator the vocal tract, the microphone's tone and the level that counts as loud vary from row to row.
    """
    padded = torch.nn.functional.pad(wave, (FFT // 2, FFT // 2))
    spectrum = torch.stft(padded, FFT, HOP, window=torch.hann_window(FFT), center=False, return_complex=True)
    power = spectrum.abs().square()
    own = len(TRACTS) // 2
    tract = np.full(len(wave), own)
    if rng is not None:
        tract = np.where(rng.random(len(wave)) < 0.6, rng.integers(0, len(TRACTS), len(wave)), own)
    power = torch.bmm(tract_filters()[torch.from_numpy(tract)], power)
    bands = power.clamp_min(speech.FLOOR).log10().transpose(1, 2)
    rows = []
    for number, band in enumerate(bands.numpy()):
        if rng is not None:
            # A tone control: a smooth curve over the bands, ± 5 dB.
            tone = np.interp(np.arange(speech.MELS), np.linspace(0, speech.MELS - 1, 5), rng.normal(0, 0.25, 5))
            band = band + tone.astype(np.float32)
        level = speech.reference_level(band.max(1)) if levels is None else float(levels[number])
        level += 0 if rng is None else rng.normal(0, 0.25)
        rows.append(torch.from_numpy(speech.normalise(band, level)))
    return torch.stack(rows)[:, : wave.shape[1] // (2 * HOP) * 2]
