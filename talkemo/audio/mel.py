"""Log-mel bands at 100 Hz."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from .recording import SAMPLE_RATE, AudioSource

HOP_SAMPLES = 160  # 10 ms
FFT_SAMPLES = 512  # 32 ms
MEL_BANDS = 80
MIN_MEL_POWER = 1e-10  # −100 dB, for silence


def mel_filters() -> np.ndarray:
    """Return the mel filter bank (80, 257).

    The encoder's weights contain it, so only training needs librosa.
    """
    from ..compute.compilation import store_compiled_code

    store_compiled_code()
    import librosa

    filters = librosa.filters.mel(
        sr=SAMPLE_RATE, n_fft=FFT_SAMPLES, n_mels=MEL_BANDS, fmin=50, fmax=7600
    )
    return filters.astype(np.float32)


def log_mel(samples: np.ndarray, filters: np.ndarray) -> np.ndarray:
    """Return the log10 mel power of samples.

    Parameters
    ----------
    samples : (N,)
        At 16 kHz.
    filters : (B, 257)
        Mel filter bank.

    Returns
    -------
    ((N − 512) // 160 + 1, B) float32
        Row k is centred on sample 256 + 160·k.
    """
    import torch

    spectrum = torch.stft(
        torch.from_numpy(np.ascontiguousarray(samples, np.float32)),
        FFT_SAMPLES,
        HOP_SAMPLES,
        window=torch.hann_window(FFT_SAMPLES),
        center=False,
        return_complex=True,
    )
    power = torch.from_numpy(filters) @ spectrum.abs().square()
    return power.clamp_min(MIN_MEL_POWER).log10().T.numpy()


def mel_rows(audio: AudioSource, filters: np.ndarray) -> Iterator[np.ndarray]:
    """Yield consecutive log10 mel rows (n, B) as audio arrives; row k is centred on k / 100 s."""
    rest = np.zeros(FFT_SAMPLES // 2, np.float32)
    for chunk in audio.chunks():
        rest = np.concatenate([rest, chunk])
        rows = (len(rest) - FFT_SAMPLES) // HOP_SAMPLES + 1
        if rows > 0:
            yield log_mel(rest[: (rows - 1) * HOP_SAMPLES + FFT_SAMPLES], filters)
            rest = rest[rows * HOP_SAMPLES :]
    tail = np.concatenate([rest, np.zeros(FFT_SAMPLES // 2, np.float32)])
    if len(tail) >= FFT_SAMPLES:
        yield log_mel(tail, filters)
