"""Judges of emotion on geometry maps: the discriminator that StarGAN trains against, and classifiers of real faces."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import nn
from torch.nn import functional

from ..expression.emotions import EMOTIONS
from ..face.canonical import Face
from ..face.geometry_map import SIZE, geometry_map
from .building import build_network
from .emotion import GENERATOR_MAP_SIZE, MAP_UNIT_MM

DISCRIMINATOR_MAP_SIZE = 64  # pixels on a side of the maps that the discriminator is trained on


def to_maps(face: Face, displacement: np.ndarray, size: int = SIZE) -> torch.Tensor:
    """Maps (T, 3, size, size) in MAP_UNIT_MM of displacements (T, V, 3) mm of a face."""
    maps = torch.from_numpy(geometry_map(face).encode(displacement) / MAP_UNIT_MM)
    return maps if size == SIZE else functional.adaptive_avg_pool2d(maps, size)


class Classifier(nn.Module):
    """Measures whether an emotion is visible: a small perceptron on maps (N, 3, R, R), trained on real faces only.

    A separate network from the discriminator, which the generator has learned to please.
    """

    def __init__(self, classes: int):
        super().__init__()
        self.layers = nn.Sequential(
            nn.AdaptiveAvgPool2d(GENERATOR_MAP_SIZE),
            nn.Flatten(),
            nn.Dropout(0.2),
            nn.Linear(3 * GENERATOR_MAP_SIZE * GENERATOR_MAP_SIZE, 64),
            nn.ReLU(),
            nn.Dropout(0.3),
            nn.Linear(64, classes),
        )

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.layers(x)


class Discriminator(nn.Module):
    """D: maps (N, 3, 64, 64) in MAP_UNIT_MM and emotions (N,) → realness (N,) as a face of that emotion, its intensity (N,), and
    logits (N, 8).

    Used in training, and to measure as the paper does.
    """

    def __init__(self, channels: int = 16):
        super().__init__()
        layers: list[nn.Module] = []
        before = 3
        for width in (channels, 2 * channels, 4 * channels, 6 * channels):
            layers += [nn.Conv2d(before, width, 4, stride=2, padding=1), nn.LeakyReLU(0.01)]
            before = width
        self.body = nn.Sequential(*layers)
        self.real = nn.Conv2d(before, len(EMOTIONS), 3, padding=1)
        self.emotion = nn.Conv2d(before, len(EMOTIONS), DISCRIMINATOR_MAP_SIZE // 16)
        self.level = nn.Conv2d(before, len(EMOTIONS), DISCRIMINATOR_MAP_SIZE // 16)

    def forward(
        self, x: torch.Tensor, emotion: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        x, own = self.body(x), emotion[:, None]
        realness = self.real(x).mean((2, 3)).gather(1, own)[:, 0]
        level = self.level(x).flatten(1).gather(1, own)[:, 0]
        return realness, level, self.emotion(x).flatten(1)

    def features(self, maps: torch.Tensor) -> torch.Tensor:
        """The last feature layer (N, F) for maps (N, 3, R, R)."""
        return self.body(functional.adaptive_avg_pool2d(maps, DISCRIMINATOR_MAP_SIZE)).flatten(1)

    def logits(self, maps: torch.Tensor) -> torch.Tensor:
        """(N, 8) for maps (N, 3, R, R)."""
        return self.emotion(self.body(functional.adaptive_avg_pool2d(maps, DISCRIMINATOR_MAP_SIZE))).flatten(
            1
        )


def network_tensors(network: nn.Module) -> dict[str, np.ndarray]:
    """What a weights file keeps of a judge: its tensors in float16."""
    return {
        name: tensor.detach().cpu().numpy().astype(np.float16)
        for name, tensor in network.state_dict().items()
    }


def build_discriminator(
    tensors: dict[str, np.ndarray], device: torch.device | str = "cpu"
) -> Discriminator:
    """The discriminator of a weights file's tensors."""
    return build_network(Discriminator, tensors).eval().to(device)


def classifier_tensors(networks: dict[str, Classifier]) -> dict[str, np.ndarray]:
    """What a weights file keeps of several classifiers, by name."""
    return {
        f"{name}/{key}": array
        for name, network in networks.items()
        for key, array in network_tensors(network).items()
    }


def build_classifier(
    tensors: dict[str, np.ndarray],
    settings: dict[str, Any],
    name: str,
    device: torch.device | str = "cpu",
) -> tuple[Classifier, list[str]]:
    """A classifier of a weights file, by name, and the names of its classes."""
    classes = settings["classes"][name]
    prefix = f"{name}/"
    own = {
        key.removeprefix(prefix): array for key, array in tensors.items() if key.startswith(prefix)
    }
    return build_network(lambda: Classifier(len(classes)), own).eval().to(device), classes
