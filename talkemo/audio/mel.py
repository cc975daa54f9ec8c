"""Sound of any kind as mono samples at 16 kHz, and its log-mel bands at 100 Hz."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from .recording import SAMPLE_RATE, AudioSource

HOP_SAMPLES = 160  # samples, 10 ms
FFT_SAMPLES = 512  # samples, 32 ms
MEL_BANDS = 80
MIN_MEL_POWER = 1e-10  # of the mel power: −100 dB


def mel_filters() -> np.ndarray:
    """The mel filter bank (80, 257); kept in the encoder's weights, so librosa is needed in training only."""
    import librosa

    return librosa.filters.mel(sr=SAMPLE_RATE, n_fft=FFT_SAMPLES, n_mels=MEL_BANDS, fmin=50, fmax=7600).astype(
        np.float32
    )


def log_mel(samples: np.ndarray, filters: np.ndarray) -> np.ndarray:
    """Log10 mel power ((N − 512) // 160 + 1, B) float32 of samples (N,); row k is centred on sample 256 + 160·k."""
    import torch

    signal = torch.from_numpy(np.ascontiguousarray(samples, np.float32))
    spectrum = torch.stft(
        signal,
        FFT_SAMPLES,
        HOP_SAMPLES,
        window=torch.hann_window(FFT_SAMPLES, device=signal.device),
        center=False,
        return_complex=True,
    )
    power = torch.from_numpy(filters) @ spectrum.abs().square()
    return power.clamp_min(MIN_MEL_POWER).log10().T.numpy()


def mel_rows(audio: AudioSource, filters: np.ndarray) -> Iterator[np.ndarray]:
    """Consecutive log10 mel rows (n, B) at 100 Hz of sound; row k is centred on k / 100 s."""
    rest = np.zeros(FFT_SAMPLES // 2, np.float32)
    for piece in audio.chunks():
        rest = np.concatenate([rest, piece])
        whole = (len(rest) - FFT_SAMPLES) // HOP_SAMPLES + 1
        if whole > 0:
            yield log_mel(rest[: (whole - 1) * HOP_SAMPLES + FFT_SAMPLES], filters)
            rest = rest[whole * HOP_SAMPLES :]
    tail = np.concatenate([rest, np.zeros(FFT_SAMPLES // 2, np.float32)])
    if len(tail) >= FFT_SAMPLES:
        yield log_mel(tail, filters)
