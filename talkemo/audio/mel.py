"""Sound of any kind as mono samples at 16 kHz, and its log-mel bands at 100 Hz."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from .recording import SAMPLE_RATE, AudioSource

HOP = 160  # samples, 10 ms
FFT = 512  # samples, 32 ms
MELS = 80
FLOOR = 1e-10  # of the mel power: −100 dB


def mel_filters() -> np.ndarray:
    """The mel filter bank (80, 257); kept in the encoder's weights, so librosa is needed in training only."""
    import librosa

    return librosa.filters.mel(sr=SAMPLE_RATE, n_fft=FFT, n_mels=MELS, fmin=50, fmax=7600).astype(
        np.float32
    )


def log_mel(samples: np.ndarray, filters: np.ndarray) -> np.ndarray:
    """Log10 mel power ((N − 512) // 160 + 1, B) float32 of samples (N,); row k is centred on sample 256 + 160·k."""
    import torch

    signal = torch.from_numpy(np.ascontiguousarray(samples, np.float32))
    spectrum = torch.stft(
        signal,
        FFT,
        HOP,
        window=torch.hann_window(FFT, device=signal.device),
        center=False,
        return_complex=True,
    )
    power = torch.from_numpy(filters) @ spectrum.abs().square()
    return power.clamp_min(FLOOR).log10().T.numpy()


def mel_rows(audio: AudioSource, filters: np.ndarray) -> Iterator[np.ndarray]:
    """Consecutive log10 mel rows (n, B) at 100 Hz of sound; row k is centred on k / 100 s."""
    rest = np.zeros(FFT // 2, np.float32)
    for piece in audio.chunks():
        rest = np.concatenate([rest, piece])
        whole = (len(rest) - FFT) // HOP + 1
        if whole > 0:
            yield log_mel(rest[: (whole - 1) * HOP + FFT], filters)
            rest = rest[whole * HOP :]
    tail = np.concatenate([rest, np.zeros(FFT // 2, np.float32)])
    if len(tail) >= FFT:
        yield log_mel(tail, filters)
