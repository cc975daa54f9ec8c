"""Augmentation of sound, for training only: other voices, rooms, microphones and lines."""

from __future__ import annotations

import io
from functools import lru_cache

import numpy as np
import torch

from .. import audio
from ..audio import FFT, HOP, SAMPLE_RATE

# Lengths of the vocal tract relative to the speaker's own, as warps of the frequency axis; the middle one is 1.
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
    """Mel filter banks (15, 80, 257) that shift formants as vocal tracts of the lengths TRACTS do."""
    plain = audio.mel_filters()
    bins = np.arange(FFT // 2 + 1)
    warped = np.stack([[np.interp(bins * tract, bins, row, right=0) for row in plain] for tract in TRACTS])
    return torch.from_numpy(warped.astype(np.float32))


def augment(wave: torch.Tensor, rng: np.random.Generator) -> torch.Tensor:
    """A batch (N, S) of sound in rooms, over telephone lines, with noise. Sounds stay where they are in time.

    The batch itself may be changed. Random numbers are drawn on the CPU, so that every device gets the same ones.
    """
    wave = _in_rooms(wave, rng)
    wave = _with_noise(wave, rng)
    return _over_lines(wave, rng)


def _in_rooms(wave: torch.Tensor, rng: np.random.Generator) -> torch.Tensor:
    """Reverberation on some rows: the sound itself, followed by decaying noise."""
    chosen = np.flatnonzero(rng.random(len(wave)) < 0.4)
    if not len(chosen):
        return wave
    taps = np.arange(1, 6400)
    decay = 10 ** (-3 * taps / (rng.uniform(0.1, 0.7, (len(chosen), 1)) * SAMPLE_RATE))
    tail = rng.standard_normal((len(chosen), len(taps))) * decay
    tail *= rng.uniform(0.1, 0.9, (len(chosen), 1)) / np.sqrt((tail**2).sum(1, keepdims=True))
    response = _tensor(np.concatenate([np.ones((len(tail), 1)), tail], 1), wave.device)
    rows = torch.from_numpy(chosen).to(wave.device)
    length = wave.shape[1]
    size = length + response.shape[1]
    spectrum = torch.fft.rfft(wave[rows], size) * torch.fft.rfft(response, size)
    wave[rows] = torch.fft.irfft(spectrum, size)[:, :length]
    return wave


def _with_noise(wave: torch.Tensor, rng: np.random.Generator) -> torch.Tensor:
    """Coloured noise, or all other voices of the batch together, 3 to 40 dB under the sound on some rows."""
    device, (count, length) = wave.device, wave.shape
    noise = _tensor(rng.standard_normal((count, length)), device)
    spectrum = torch.fft.rfft(noise)
    bins = torch.arange(1, spectrum.shape[1] + 1, dtype=torch.float32, device=device)
    slope = _tensor(rng.uniform(0, 1, (count, 1)), device)
    noise = torch.fft.irfft(spectrum * bins ** (-slope), length)
    babble = torch.from_numpy(np.flatnonzero(rng.random(count) < 0.3)).to(device)
    noise[babble] = (wave.sum(0, keepdim=True) - wave)[babble]
    decibels = _tensor(rng.uniform(3, 40, (count, 1)), device)
    share = _loudness(wave) / _loudness(noise).clamp_min(1e-8) * 10 ** (-decibels / 20)
    noisy = _tensor(rng.random((count, 1)) < 0.6, device)
    return wave + noisy * share * noise


def _over_lines(wave: torch.Tensor, rng: np.random.Generator) -> torch.Tensor:
    """Some rows over a telephone, some through a recorder whose input is driven too hard."""
    device, (count, length) = wave.device, wave.shape
    telephone = np.flatnonzero(rng.random(count) < 0.1)
    if len(telephone):
        rows = torch.from_numpy(telephone).to(device)
        spectrum = torch.fft.rfft(wave[rows])
        hertz = np.linspace(0, SAMPLE_RATE / 2, spectrum.shape[1])
        spectrum[:, torch.from_numpy(np.flatnonzero((hertz < 300) | (hertz > 3400))).to(device)] *= 0.003
        wave[rows] = torch.fft.irfft(spectrum, length)
    hard = torch.from_numpy(rng.random(count) < 0.05).to(device)
    limit = wave.abs().amax(1, keepdim=True) * 0.3
    return torch.where(hard[:, None], wave.clamp(-limit, limit), wave)


def _tensor(array: np.ndarray, device: torch.device) -> torch.Tensor:
    return torch.from_numpy(array.astype(np.float32)).to(device)


def _loudness(wave: torch.Tensor) -> torch.Tensor:
    return wave.square().mean(1, keepdim=True).sqrt()


def mel_batch(
    wave: torch.Tensor, rng: np.random.Generator | None = None, levels: np.ndarray | None = None
) -> torch.Tensor:
    """Normalised log-mel rows (N, 2·T, 80) of sound (N, S), T = S // 320; row k is centred on sample 160·k.

    levels: (N,) what counts as loud, see `audio.loud_level`; measured in the sound itself if None.
    With a generator the vocal tract, the microphone's tone and the level that counts as loud vary from row to row.
    """
    device = wave.device
    padded = torch.nn.functional.pad(wave, (FFT // 2, FFT // 2))
    window = torch.hann_window(FFT, device=device)
    power = torch.stft(padded, FFT, HOP, window=window, center=False, return_complex=True).abs().square()
    own = len(TRACTS) // 2
    tract = np.full(len(wave), own)
    if rng is not None:
        tract = np.where(rng.random(len(wave)) < 0.6, rng.integers(0, len(TRACTS), len(wave)), own)
    power = torch.bmm(tract_filters()[torch.from_numpy(tract)].to(device), power)
    bands = power.clamp_min(audio.FLOOR).log10().transpose(1, 2)
    rows = []
    for number, band in enumerate(bands):
        if rng is not None:
            # A tone control: a smooth curve over the bands, ± 5 dB.
            tone = np.interp(np.arange(audio.MELS), np.linspace(0, audio.MELS - 1, 5), rng.normal(0, 0.25, 5))
            band = band + _tensor(tone, device)
        level = audio.reference_level(band.amax(1).cpu().numpy()) if levels is None else float(levels[number])
        level += 0 if rng is None else rng.normal(0, 0.25)
        rows.append(_normalise(band, level))
    return torch.stack(rows)[:, : wave.shape[1] // (2 * HOP) * 2]


def _normalise(band: torch.Tensor, level: float) -> torch.Tensor:
    """`audio.normalise` on a tensor."""
    if np.isinf(level):
        return torch.zeros_like(band)
    return (1 + (band - level) / audio.RANGE).clamp(0, 1.2)
