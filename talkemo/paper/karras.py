"""Karras et al. 2017, the paper's reference 18: speech to motion with an emotional state.

"Audio-driven facial animation by joint end-to-end learning of pose and emotion" (SIGGRAPH 2017): half
a second of audio around a frame as autocorrelation coefficients; convolutions along the
coefficients (formant analysis), then along time (articulation), where each layer is given a vector
of the emotional state, which is learned with the network; a decoder that starts at the principal
components of the motion. Three things differ here: many actors instead of one, a state for each
recording instead of each frame, and a decoder of blend shapes, in whose span the captures lie. For
an emotion the state is the mean over its recordings, where Karras et al. choose states by hand.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from ..audio.recording import SAMPLE_RATE, Audio, open_audio
from ..data.captures import FittedRecording
from ..data.rest_relative import relative_to_rest
from ..expression.emotions import EMOTIONS
from ..face.canonical import Face
from ..face.motion import Motion
from ..networks.building import float16_tensors, load_tensors
from ..train.batches import captured_recordings
from ..train.loop import Intervals, Loop, Losses
from ..train.run import Run
from ..train.talking import start_decoder_at_components
from ..weights.files import load_weights, save_weights

COEFFICIENTS = 32  # of the autocorrelation of a piece of audio
PIECE_SAMPLES, PIECE_STEP = 256, 128  # 16 ms, every 8 ms
PIECE_RATE_HZ = SAMPLE_RATE / PIECE_STEP
WINDOW_PIECES = 64  # 0.52 s
FORMANT_CHANNELS = (72, 108, 162, 243, 256)
ARTICULATION_CHANNELS = 256
ARTICULATION_STRIDES = (2, 2, 2, 2, 4)  # 64 pieces → 1
STATE_SIZE = 16
COMPONENTS = 50  # fewer than the 150 of Karras et al.: the captures have no more dimensions
NOISE_BASE = 1.4  # of the multiplicative noise on feature maps in training
MOTION_WEIGHT = 2.0  # of the squared differences of adjacent frames
SCALE_DECAY = 0.99  # of the running size of each term of the loss
KARRAS_INTERVALS = Intervals(progress=20, log=500)
KARRAS_FILE = "karras.safetensors"


@dataclass(frozen=True)
class KarrasConfig:
    """Settings of the training."""

    steps: int = 10_000
    batch: int = 50  # pairs of adjacent frames
    learning_rate: float = 1e-4
    corpora: tuple[str, ...] = ("ravdess", "grid_s1")
    seed: int = 0


def autocorrelation(samples: np.ndarray) -> np.ndarray:
    """Return the autocorrelation (P, 32) float32 of pieces of audio, 1 for the first coefficient.

    Piece k is centred at k · 8 ms. Silence has zeros.
    """
    padded = np.pad(samples.astype(np.float32), PIECE_SAMPLES // 2)
    starts = np.arange(0, len(samples) + 1, PIECE_STEP)
    pieces = padded[starts[:, None] + np.arange(PIECE_SAMPLES)]
    pieces = (pieces - pieces.mean(1, keepdims=True)) * np.hanning(PIECE_SAMPLES).astype(np.float32)
    power = np.abs(np.fft.rfft(pieces, 2 * PIECE_SAMPLES)) ** 2
    result = np.fft.irfft(power)[:, :COEFFICIENTS]
    energy = result[:, :1]
    return np.asarray(np.where(energy > 1e-6, result / np.maximum(energy, 1e-6), 0), np.float32)


def windows_at(pieces: np.ndarray, times: np.ndarray) -> np.ndarray:
    """Return the windows (T, 64, 32) of pieces (P, 32) around times (T,) s; silence lies outside."""
    first = np.round(times * PIECE_RATE_HZ).astype(int) - WINDOW_PIECES // 2
    index = first[:, None] + np.arange(WINDOW_PIECES)
    inside = (index >= 0) & (index < len(pieces))
    return np.where(inside[..., None], pieces[index.clip(0, len(pieces) - 1)], np.float32(0))


class KarrasNetwork(nn.Module):
    """Maps windows (N, 64, 32) and states (N, 16) to coordinates (N, S) of the displacement."""

    def __init__(self, coordinates: int, recordings: int):
        super().__init__()
        self.states = nn.Embedding(recordings, STATE_SIZE)
        formant, inputs = [], 1
        for channels in FORMANT_CHANNELS:
            formant.append(nn.Conv2d(inputs, channels, (1, 3), (1, 2), (0, 1)))
            inputs = channels
        self.formant = nn.ModuleList(formant)
        articulation = []
        for stride in ARTICULATION_STRIDES:
            kernel, padding = (4, 0) if stride == 4 else (3, 1)
            articulation.append(nn.Conv1d(inputs, ARTICULATION_CHANNELS, kernel, stride, padding))
            inputs = ARTICULATION_CHANNELS + STATE_SIZE
        self.articulation = nn.ModuleList(articulation)
        self.code = nn.Linear(inputs, COMPONENTS)
        self.decoder = nn.Linear(COMPONENTS, coordinates)

    def forward(self, window: torch.Tensor, state: torch.Tensor) -> torch.Tensor:
        x = window[:, None]
        for layer in self.formant:
            x = torch.relu(layer(self._noisy(x)))
        x = x[..., 0]
        for layer in self.articulation:
            x = torch.relu(layer(self._noisy(x)))
            x = torch.cat([x, state[..., None].expand(-1, -1, x.shape[2])], 1)
        return torch.as_tensor(self.decoder(self.code(x[..., 0])))

    def _noisy(self, x: torch.Tensor) -> torch.Tensor:
        """Multiply each feature map by noise in training."""
        if not self.training:
            return x
        size = (*x.shape[:2], *(1 for _ in x.shape[2:]))
        return x * NOISE_BASE ** torch.randn(size, device=x.device)


@dataclass(frozen=True, eq=False)
class KarrasModel:
    """A trained network and the state of each emotion."""

    network: KarrasNetwork
    face: Face
    states: dict[str, np.ndarray]  # (16,)
    device: torch.device

    def motion(self, audio: Audio, times: np.ndarray, emotion: str = "neutral") -> Motion:
        """Return the motion of a recording at times (T,) s with an emotion."""
        windows = windows_at(autocorrelation(audio.samples()), times)
        state = torch.from_numpy(self.states[emotion]).to(self.device)
        with torch.inference_mode():
            coordinates = [
                self.network(torch.from_numpy(part).to(self.device), state.expand(len(part), -1))
                for part in np.array_split(windows, -(-len(windows) // 256))
            ]
        return Motion(times, torch.cat(coordinates).cpu().numpy())


def train_karras(run: Run, config: KarrasConfig) -> KarrasModel:
    """Train the network on the training split's acted and neutral speech, or go on with it."""
    training = KarrasTraining(run, config)
    training.loop.train(config.steps, training.step, KARRAS_INTERVALS)
    return training.save()


class TermSizes(nn.Module):
    """The running sizes of the loss's two terms, by which each is divided: both count alike."""

    sizes: torch.Tensor

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("sizes", torch.zeros(2, dtype=torch.float64))  # 0: none was seen yet

    def forward(self, number: int, term: torch.Tensor) -> torch.Tensor:
        """Return a term divided by its running size."""
        size = float(term.detach())
        before = float(self.sizes[number]) or size
        self.sizes[number] = SCALE_DECAY * before + (1 - SCALE_DECAY) * size
        return term / float(self.sizes[number])


class KarrasTraining:
    """The network in training."""

    def __init__(self, run: Run, config: KarrasConfig):
        self.run, self.config = run, config
        self.face, self.device = run.models().face, run.torch_device
        self.recordings = training_recordings(run, config.corpora, self.face)
        self.pieces = [
            autocorrelation(open_audio(run.data / r.audio).samples()) for r in self.recordings
        ]
        self.targets = [r.capture.motion(self.face).coordinates for r in self.recordings]
        torch.manual_seed(config.seed)
        self.network = KarrasNetwork(len(self.face.span), len(self.recordings))
        sample = np.concatenate(self.targets)[:: max(1, sum(map(len, self.targets)) // 20_000)]
        start_decoder_at_components(self.network.decoder, torch.from_numpy(sample))
        self.network.to(self.device)
        self.scales = TermSizes()
        optimisers = {"adam": torch.optim.Adam(self.network.parameters(), config.learning_rate)}
        settings = {**asdict(config), "steps": None, "face": self.face.fingerprint}
        networks = {"network": self.network, "scales": self.scales}
        self.loop = Loop("karras", run, networks, optimisers, settings, config.seed)

    def step(self) -> Losses:
        """Take a step on pairs of adjacent frames; return the terms of the loss in mm²."""
        window, state, target = self._draw(self.loop.rng)
        self.network.train()
        states = self.network.states(state.to(self.device))
        output = self.network(window.to(self.device), states)
        error = (output - target.to(self.device)).unflatten(0, (-1, 2))
        vertices = len(self.face.mean)
        position = error.square().sum(2).mean() / vertices
        motion = MOTION_WEIGHT * (error[:, 1] - error[:, 0]).square().sum(1).mean() / vertices
        loss = self.scales(0, position) + self.scales(1, motion)
        self.loop.descend(loss)
        return {"position_mm2": position, "motion_mm2": motion}

    def _draw(self, rng: np.random.Generator) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """Draw windows (2·B, 64, 32), recordings (2·B,) and targets (2·B, S) of adjacent frames."""
        windows, states, targets = [], [], []
        for number in rng.integers(len(self.recordings), size=self.config.batch):
            time, target = self.recordings[number].capture.time, self.targets[number]
            k = int(rng.integers(len(time) - 1))
            shift = rng.uniform(-0.5, 0.5)  # frames, of both audio and motion
            after = min(k + 2, len(time) - 1) if shift > 0 else max(k - 1, 0)
            both = np.array([k, k + 1])
            other = np.array([k + 1, after]) if shift > 0 else np.array([after, k])
            part = abs(shift)
            windows.append(windows_at(self.pieces[number], _between(time, both, other, part)))
            targets.append(_between(target, both, other, part))
            states += [number, number]
        return (
            torch.from_numpy(np.concatenate(windows)),
            torch.tensor(states),
            torch.from_numpy(np.concatenate(targets).astype(np.float32)),
        )

    def save(self) -> KarrasModel:
        """Write the network to a file, and return it with the mean state of each emotion."""
        table = self.network.states.weight.detach().cpu().numpy()
        emotion = np.array([r.emotion for r in self.recordings])
        states = {
            name: table[emotion == name].mean(0) for name in EMOTIONS if (emotion == name).any()
        }
        path: Path = self.run.out / KARRAS_FILE
        settings: dict[str, Any] = {"recordings": len(table), "steps": self.loop.step}
        save_weights(path, "karras", float16_tensors(self.network), settings)
        load_tensors(self.network, load_weights(path, "karras")[0])
        return KarrasModel(self.network.eval(), self.face, states, self.device)


def _between(values: np.ndarray, at: np.ndarray, other: np.ndarray, part: float) -> np.ndarray:
    return np.asarray((1 - part) * values[at] + part * values[other])


def training_recordings(run: Run, corpora: tuple[str, ...], face: Face) -> list[FittedRecording]:
    """Return the training split's recordings of at least two frames, relative to rest."""
    present = tuple(name for name in corpora if (run.data / name).is_dir())
    recordings = relative_to_rest(list(captured_recordings(run, present)), face)
    return [
        r
        for r in recordings
        if r.split == "train" and r.emotion in EMOTIONS and len(r.capture.time) > 1
    ]
