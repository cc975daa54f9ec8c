"""DH_live's speech-to-lips network as a teacher of lip motion; used in training only.

A causal LSTM with 0.65 M parameters, published by its author (kleinlee, DH_live) under the MIT
licence; what it was trained on is not stated. It maps Kaldi's log-mel bands to six components of a
mouth at 25 Hz. The weights are a file in the folder of the corpora.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from torch import nn
from torch.nn import functional

from ..audio.recording import SAMPLE_RATE
from ..errors import InputError
from ..networks.speech_encoder import SAMPLES_PER_FEATURE

DH_LIVE_PATH = "models/dh_live/dh_live.safetensors"  # in the folder of the corpora
DH_LIVE_HIDDEN, DH_LIVE_COMPONENTS = 192, 6
DH_LIVE_WIDTH = DH_LIVE_HIDDEN + DH_LIVE_COMPONENTS  # of the features
MAX_DH_LIVE_BYTES = 1 << 24
# Kaldi's filter banks: frames of 50 ms every 20 ms, centred, without dither.
FBANK_BANDS = 80
FBANK_FRAME_SAMPLES, FBANK_FFT_SAMPLES = 800, 1024
FBANK_HOP_SAMPLES = SAMPLES_PER_FEATURE
PREEMPHASIS = 0.97
LOWEST_HZ = 20.0
LOG_FLOOR = 1.1920929e-07  # float32's epsilon, the least energy


class DhLive(nn.Module):
    """Audio (N, S) at 16 kHz in [−1, 1] → features (N, S // 320, 198) at 50 Hz.

    The features are the LSTM's states and the six components; each of the network's steps, at
    25 Hz, is repeated.

    Parameters
    ----------
    path : Path
        The weights.

    Raises
    ------
    InputError
        If the file is missing or is not this network's.
    """

    window: torch.Tensor
    bands: torch.Tensor

    def __init__(self, path: Path):
        super().__init__()
        self.downsample = nn.Sequential(
            nn.Linear(2 * FBANK_BANDS, FBANK_BANDS),
            nn.BatchNorm1d(FBANK_BANDS),
            nn.LeakyReLU(0.2),
            nn.Linear(FBANK_BANDS, FBANK_BANDS),
        )
        self.LSTM = nn.LSTM(FBANK_BANDS, DH_LIVE_HIDDEN, 2, batch_first=True)
        layers: list[nn.Module] = []
        for inputs in (DH_LIVE_HIDDEN, 256):
            layers += [nn.Linear(inputs, 256), nn.BatchNorm1d(256), nn.LeakyReLU(0.2)]
        self.fc = nn.Sequential(*layers, nn.Linear(256, DH_LIVE_COMPONENTS))
        self.register_buffer("window", povey_window(), persistent=False)
        self.register_buffer("bands", mel_bands(), persistent=False)
        self.load_state_dict(_read_weights(path, self.state_dict()))
        self.requires_grad_(False)
        self.eval()

    def train(self, mode: bool = True) -> DhLive:
        """Stay in evaluation mode: the network is not trained."""
        return super().train(False)

    def forward(self, wave: torch.Tensor) -> torch.Tensor:
        count = wave.shape[1] // SAMPLES_PER_FEATURE
        rows = kaldi_fbank(wave, self.window, self.bands)[:, : count // 2 * 2]
        pairs = rows.reshape(len(rows), -1, 2 * FBANK_BANDS)
        x = self.downsample(pairs.flatten(0, 1)).unflatten(0, pairs.shape[:2])
        states, _ = self.LSTM(x)
        components = self.fc(states.flatten(0, 1)).unflatten(0, states.shape[:2])
        features = torch.cat([states, components], 2).repeat_interleave(2, 1)
        return functional.pad(features, (0, 0, 0, count - features.shape[1]))


def kaldi_fbank(wave: torch.Tensor, window: torch.Tensor, bands: torch.Tensor) -> torch.Tensor:
    """Return Kaldi's log-mel rows (N, S // 320, 80) of audio (N, S).

    Each frame is centred on its 20 ms, has its mean removed and is pre-emphasised.
    """
    count = wave.shape[1] // FBANK_HOP_SAMPLES
    margin = (FBANK_FRAME_SAMPLES - FBANK_HOP_SAMPLES) // 2
    # Kaldi mirrors the audio at its ends, the outermost sample included.
    before, after = wave[:, :margin].flip(1), wave[:, -margin:].flip(1)
    padded = torch.cat([before, wave, after], 1)
    frames = padded.unfold(1, FBANK_FRAME_SAMPLES, FBANK_HOP_SAMPLES)[:, :count]
    frames = frames - frames.mean(2, keepdim=True)
    previous = torch.cat([frames[..., :1], frames[..., :-1]], 2)
    frames = (frames - PREEMPHASIS * previous) * window
    power = torch.fft.rfft(frames, FBANK_FFT_SAMPLES).abs().square()[..., :-1]
    return (power @ bands).clamp_min(LOG_FLOOR).log()


def povey_window() -> torch.Tensor:
    """Return Kaldi's default window (800,): Hann's to the power of 0.85."""
    return torch.hann_window(FBANK_FRAME_SAMPLES, periodic=False) ** 0.85


def mel_bands() -> torch.Tensor:
    """Return Kaldi's triangular bands (512, 80), evenly spaced on its mel scale."""

    def mel(hertz: np.ndarray | float) -> np.ndarray:
        return 1127 * np.log(1 + np.asarray(hertz) / 700)

    edges = np.linspace(mel(LOWEST_HZ), mel(SAMPLE_RATE / 2), FBANK_BANDS + 2)
    bins = mel(np.arange(FBANK_FFT_SAMPLES // 2) * SAMPLE_RATE / FBANK_FFT_SAMPLES)[:, None]
    rising = (bins - edges[:-2]) / np.diff(edges)[:-1]
    falling = (edges[2:] - bins) / np.diff(edges)[1:]
    return torch.from_numpy(np.minimum(rising, falling).clip(0).astype(np.float32))


def _read_weights(path: Path, expected: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """Return the tensors of the weights' file. Raises InputError if they do not fit."""
    from safetensors import SafetensorError
    from safetensors.torch import load

    from ..files.reading import read_bytes

    content = read_bytes(path, "the weights of DH_live", "see docs/data.md", MAX_DH_LIVE_BYTES)
    try:
        tensors = load(content)
        for name, tensor in expected.items():
            if name.endswith("num_batches_tracked"):
                tensors.setdefault(name, tensor)
            elif tensors[name].shape != tensor.shape or not tensors[name].isfinite().all():
                raise ValueError(f"its {name} does not fit")
    except (SafetensorError, KeyError, ValueError) as error:
        raise InputError(
            f"{path}: not the weights of DH_live ({error})", "fetch it again"
        ) from None
    return {name: tensors[name] for name in expected}
