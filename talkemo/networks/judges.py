"""Judges of emotion on geometry maps: StarGAN's discriminator, and classifiers of real faces."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import nn
from torch.nn import functional

from ..expression.emotions import EMOTIONS
from ..face.canonical import Face
from ..face.geometry_map import MAP_SIZE, geometry_map
from .building import build_network, float16_tensors
from .emotion import GENERATOR_MAP_SIZE, MAP_UNIT_MM

DISCRIMINATOR_MAP_SIZE = 64  # pixels on a side of the maps that the discriminator is trained on


def to_maps(face: Face, displacement: np.ndarray, size: int = MAP_SIZE) -> torch.Tensor:
    """Return maps (T, 3, size, size) in MAP_UNIT_MM of displacements (T, V, 3) mm of a face."""
    maps = torch.from_numpy(geometry_map(face).encode(displacement) / MAP_UNIT_MM)
    return maps if size == MAP_SIZE else functional.adaptive_avg_pool2d(maps, size)


class Classifier(nn.Module):
    """A small perceptron that classifies the emotion of maps (N, 3, R, R); returns logits.

    It is trained on real faces only. Unlike the discriminator, it takes no part in the training of
    the generator, so it measures whether an emotion is visible.
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
    """StarGAN's discriminator, used in training and for the paper's metrics."""

    def __init__(self, channels: int = 16):
        super().__init__()
        layers: list[nn.Module] = []
        inputs = 3
        for outputs in (channels, 2 * channels, 4 * channels, 6 * channels):
            layers += [nn.Conv2d(inputs, outputs, 4, stride=2, padding=1), nn.LeakyReLU(0.01)]
            inputs = outputs
        self.body = nn.Sequential(*layers)
        self.real = nn.Conv2d(inputs, len(EMOTIONS), 3, padding=1)
        self.emotion = nn.Conv2d(inputs, len(EMOTIONS), DISCRIMINATOR_MAP_SIZE // 16)
        self.level = nn.Conv2d(inputs, len(EMOTIONS), DISCRIMINATOR_MAP_SIZE // 16)

    def forward(
        self, x: torch.Tensor, emotion: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """Judge maps as faces that show given emotions.

        Parameters
        ----------
        x : (N, 3, 64, 64)
            Maps in MAP_UNIT_MM.
        emotion : (N,) int
            Index in EMOTIONS.

        Returns
        -------
        realness : (N,)
            As a face of that emotion.
        level : (N,)
            Intensity of that emotion.
        logits : (N, 8)
            Of all emotions.
        """
        x, index = self.body(x), emotion[:, None]
        realness = self.real(x).mean((2, 3)).gather(1, index)[:, 0]
        level = self.level(x).flatten(1).gather(1, index)[:, 0]
        return realness, level, self.emotion(x).flatten(1)

    def features(self, maps: torch.Tensor) -> torch.Tensor:
        """Return the last feature layer (N, F) for maps (N, 3, R, R)."""
        return self._body_at_training_size(maps).flatten(1)

    def logits(self, maps: torch.Tensor) -> torch.Tensor:
        """Return the logits (N, 8) of the emotions for maps (N, 3, R, R)."""
        return self.emotion(self._body_at_training_size(maps)).flatten(1)

    def _body_at_training_size(self, maps: torch.Tensor) -> torch.Tensor:
        return self.body(functional.adaptive_avg_pool2d(maps, DISCRIMINATOR_MAP_SIZE))


def build_discriminator(
    tensors: dict[str, np.ndarray], device: torch.device | str = "cpu"
) -> Discriminator:
    """Return the discriminator of a weights file's tensors."""
    return build_network(Discriminator, tensors).eval().to(device)


def classifier_tensors(networks: dict[str, Classifier]) -> dict[str, np.ndarray]:
    """Return the tensors of several classifiers, by name, for a weights file."""
    return {
        f"{name}/{key}": array
        for name, network in networks.items()
        for key, array in float16_tensors(network).items()
    }


def build_classifier(
    tensors: dict[str, np.ndarray],
    settings: dict[str, Any],
    name: str,
    device: torch.device | str = "cpu",
) -> tuple[Classifier, list[str]]:
    """Return a classifier of a weights file by its name, and the names of its classes."""
    classes = settings["classes"][name]
    prefix = f"{name}/"
    tensors = {
        key.removeprefix(prefix): array for key, array in tensors.items() if key.startswith(prefix)
    }
    return build_network(lambda: Classifier(len(classes)), tensors).eval().to(device), classes
