"""The talking model (3D-TalkEmo, section 3.3): VOCA's encoder and a linear decoder from speech to the canonical face.

The decoder's output lies in the span of the face's blend shapes, where all captured motion lies too. It is therefore
kept as 50 → S coordinates in an orthonormal basis of that span, followed by the fixed basis (S, V·3): the same linear
50 → V·3 decoder, initialised with the first principal components, at a hundredth of the arithmetic in training.
"""

from __future__ import annotations

from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from . import speech, weights
from .face import Face

CHANNELS = (32, 32, 64, 64)
HIDDEN, COMPONENTS = 128, 50
HISS, SPEECH = 0.1, 0.2  # feature levels, 72 and 64 dB under loud: no sound, and surely sound (mouths move before it)
BATCH = 1024  # windows at a time when animating


class TalkingNetwork(nn.Module):
    """Windows (N, 16, D) and a style one-hot (N, K) → coordinates (N, S) of the displacement.

    The style is VOCA's subject one-hot; all zeros stand for an unknown voice, and training shows such zeros too.
    """

    def __init__(self, bands: int, styles: int, coordinates: int):
        super().__init__()
        self.normalise = nn.BatchNorm1d(bands)
        layers: list[nn.Module] = []
        before = bands + styles
        for channels in CHANNELS:
            layers += [nn.Conv1d(before, channels, 3, stride=2, padding=1), nn.ReLU()]
            before = channels
        self.encoder = nn.Sequential(*layers)
        self.hidden = nn.Linear(before + styles, HIDDEN)
        self.code = nn.Linear(HIDDEN, COMPONENTS)
        self.decoder = nn.Linear(COMPONENTS, coordinates)

    def forward(self, window: torch.Tensor, style: torch.Tensor) -> torch.Tensor:
        x = self.normalise(window.transpose(1, 2))
        x = torch.cat([x, style[:, :, None].expand(-1, -1, x.shape[2])], dim=1)
        x = self.encoder(x).flatten(1)
        x = torch.tanh(self.hidden(torch.cat([x, style], dim=1)))
        return self.decoder(self.code(x))


class TalkingModel:
    """A trained talking network on a face."""

    def __init__(self, network: TalkingNetwork, filters: np.ndarray, span: np.ndarray, settings: dict[str, Any]):
        self.network = network.eval()
        self.filters = filters
        self.span = span  # (S, V·3) mm, orthonormal rows
        self.styles: list[str] = settings["styles"]
        self.settings = settings

    def features(self, audio: speech.Audio) -> np.ndarray:
        """Speech features (T', D) of a recording."""
        return speech.features(audio, self.filters)

    def displacement(self, feature: np.ndarray, times: np.ndarray, style: int | None = None) -> np.ndarray:
        """Displacement (T, V, 3) mm of the canonical face at times (T,) s, from features (T', D).

        A face rests while its window holds no sound.
        """
        if not len(times):
            return np.zeros((0, self.span.shape[1] // 3, 3), np.float32)
        coordinates = self.coordinates(feature, times, style)
        return (coordinates @ self.span).reshape(len(times), -1, 3)

    def coordinates(self, feature: np.ndarray, times: np.ndarray, style: int | None = None) -> np.ndarray:
        """The same as coordinates (T, S) in the span."""
        rows = []
        for start in range(0, len(times), BATCH):
            window = speech.windows(feature, times[start : start + BATCH])
            one_hot = torch.zeros(len(window), len(self.styles))
            if style is not None:
                one_hot[:, style] = 1
            with torch.inference_mode():
                rows.append(self.network(torch.from_numpy(window), one_hot).numpy())
            # Sound fades a face in and out of its rest, over the quarter of a second of its window: nothing heard,
            # nothing moves.
            heard = np.clip((window.max(2) - HISS) / (SPEECH - HISS), 0, 1).mean(1)
            rows[-1] *= np.clip(heard / 0.6, 0, 1)[:, None]
        return np.concatenate(rows)


def orthonormal_span(face: Face) -> tuple[np.ndarray, np.ndarray]:
    """Rows (S, V·3) float32 that span the face's blend shapes, and the triangular (S, S) with shapes = triangle @ rows."""
    shapes = face.expression_basis.reshape(len(face.expression_names), -1)
    # By Cholesky of the normal matrix: ten times quicker than a QR of the shapes, and exact enough for 53 of them.
    triangle = np.linalg.cholesky((shapes @ shapes.T).astype(np.float64))
    return (np.linalg.inv(triangle).astype(np.float32) @ shapes), triangle.astype(np.float32)


def save_talking(path: str | Path, network: TalkingNetwork, filters: np.ndarray, settings: dict[str, Any]) -> None:
    """Write a network to a safetensors file, in float16 but for the batch norm."""
    tensors = {}
    for name, tensor in network.state_dict().items():
        array = tensor.detach().cpu().numpy()
        tensors[name] = array if name.startswith("normalise") else array.astype(np.float16)
    weights.save(path, "talking", {**tensors, "filters": filters}, settings)


@lru_cache(maxsize=2)
def load_talking(face: Face, path: str | Path | None = None) -> TalkingModel:
    """The talking model of a weights file, the bundled one by default."""
    tensors, settings = weights.load(path, "talking")
    filters = tensors.pop("filters")
    span, _ = orthonormal_span(face)
    network = TalkingNetwork(len(filters), len(settings["styles"]), len(span))
    state = {name: torch.from_numpy(array.astype(np.float32)) for name, array in tensors.items()}
    state["normalise.num_batches_tracked"] = torch.zeros((), dtype=torch.long)
    network.load_state_dict(state)
    return TalkingModel(network, filters, span, settings)
