"""Emotion transfer (3D-TalkEmo, section 3.4): StarGAN on geometry maps, light enough for real time on two cores.

The generator sees a map at a quarter of its resolution and predicts a residual (Choi et al. 2018 predict the picture
itself at full resolution, which takes a hundred times the arithmetic). What no face of the model can do is projected
out of the residual, so an emotion moves skin and does not crumple it.
"""

from __future__ import annotations

import re
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn
from torch.nn import functional

from . import weights
from .capture.fitting import UNSEEN
from .data.corpora import EMOTIONS
from .errors import InputError
from .face import Face
from .geomap import SIZE, GeometryMap, geometry_map

UNIT = 4.0  # mm that the networks see as one
INNER = 32  # pixels on a side inside the generator
BATCH = 64  # maps at a time when animating
SPELLINGS = {
    "none": "neutral",
    "calmness": "calm",
    "happiness": "happy",
    "joy": "happy",
    "joyful": "happy",
    "sadness": "sad",
    "anger": "angry",
    "fear": "fearful",
    "afraid": "fearful",
    "scared": "fearful",
    "disgusted": "disgust",
    "surprise": "surprised",
}


def parse_emotion(text: str) -> np.ndarray:
    """Label (8,) float32 in the order of EMOTIONS: `happy`, everyday spellings, or a mix `happy:0.6,surprised:0.4`.

    Raises InputError for an unknown emotion or a share that is no number in [0, 1].
    """
    label = np.zeros(len(EMOTIONS), np.float32)
    for part in text.split(","):
        name, _, share = part.partition(":")
        name = name.strip().lower()
        name = SPELLINGS.get(name, name)
        if name not in EMOTIONS:
            raise InputError(
                f"unknown emotion '{name}'", f"choose from {', '.join(EMOTIONS)}, or mix: happy:0.6,sad:0.4"
            )
        if share and not re.fullmatch(r"\s*(0(\.\d*)?|1(\.0*)?|\.\d+)\s*", share):
            raise InputError(f"'{part}': the share of an emotion is a number from 0 to 1")
        label[EMOTIONS.index(name)] += float(share) if share else 1.0
    if label.sum() > 1 + 1e-6:
        raise InputError(f"'{text}': the shares add up to {label.sum():g}, more than 1")
    return label


class ResidualBlock(nn.Module):
    """Two 3×3 convolutions beside an identity."""

    def __init__(self, channels: int):
        super().__init__()
        self.first = nn.Conv2d(channels, channels, 3, padding=1)
        self.second = nn.Conv2d(channels, channels, 3, padding=1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x + self.second(functional.relu(self.first(functional.relu(x))))


class Generator(nn.Module):
    """G(x, c): maps (N, 3, R, R) in UNIT and labels (N, 8) → residual maps (N, 3, R, R).

    It works at 32×32 and 8×8 pixels inside; the residual it draws is measured by `span` (S, 3, R, R), orthonormal maps
    of the face model's blend shapes, and comes out in their resolution R: 128, or less in training, which is quicker
    and the same but for the sampling. No normalisation layers: instance norm would take away how far a face is moved.
    """

    span: torch.Tensor
    measure: torch.Tensor
    place: torch.Tensor

    def __init__(self, span: torch.Tensor, mask: torch.Tensor, channels: int, blocks: int):
        super().__init__()
        inner = functional.adaptive_avg_pool2d(span, INNER).flatten(1)
        # The coordinates of a 32×32 picture in the span, by least squares at that resolution.
        self.register_buffer("measure", torch.linalg.pinv(inner.double()).float(), persistent=False)
        self.register_buffer("span", span, persistent=False)
        pooled = functional.adaptive_avg_pool2d(mask[None, None].float(), INNER)
        line = torch.linspace(-1, 1, INNER)
        place = torch.stack(torch.meshgrid(line, line, indexing="ij"))[None]
        self.register_buffer("place", torch.cat([pooled, place], dim=1), persistent=False)
        few, some, many = channels // 4, channels // 2, channels
        self.entry = nn.Conv2d(3 + 3 + len(EMOTIONS), few, 3, padding=1)
        self.down = nn.Conv2d(few, some, 4, stride=2, padding=1)
        self.down_again = nn.Conv2d(some, many, 4, stride=2, padding=1)
        self.blocks = nn.Sequential(*(ResidualBlock(many) for _ in range(blocks)))
        self.up = nn.ConvTranspose2d(many, some, 4, stride=2, padding=1)
        self.up_again = nn.ConvTranspose2d(some, few, 4, stride=2, padding=1)
        self.exit = nn.Conv2d(few, 3, 3, padding=1)

    def forward(self, x: torch.Tensor, label: torch.Tensor) -> torch.Tensor:
        small = functional.adaptive_avg_pool2d(x, INNER)
        wide = label[:, :, None, None].expand(-1, -1, INNER, INNER)
        first = self.entry(torch.cat([small, self.place.expand(len(x), -1, -1, -1), wide], dim=1))
        second = self.down(functional.relu(first))
        third = self.blocks(self.down_again(functional.relu(second)))
        second = second + self.up(functional.relu(third))
        raw = self.exit(functional.relu(first + self.up_again(functional.relu(second))))
        coordinates = raw.flatten(1) @ self.measure
        return (coordinates @ self.span.flatten(1)).view(-1, *self.span.shape[1:])


class EmotionModel:
    """A trained generator on a face."""

    def __init__(self, generator: Generator, sampling: GeometryMap, settings: dict[str, Any]):
        self.generator = generator.eval()
        self.sampling = sampling
        self.settings = settings

    def transfer(self, displacement: np.ndarray, label: np.ndarray, intensity: float = 1.0) -> np.ndarray:
        """Displacement (T, V, 3) mm with the emotion of label (8,); neutral or intensity 0 leave it exactly as it was.

        A label of shares under 1 in all leaves the rest of the face's expression as it is.
        """
        if intensity == 0 or not label[1:].any():
            return displacement
        result = np.empty_like(displacement)
        for start in range(0, len(displacement), BATCH):
            part = displacement[start : start + BATCH]
            maps = self.transfer_maps(self.sampling.encode(part), label)
            result[start : start + BATCH] = part + intensity * self.sampling.decode(maps)
        return result

    def transfer_maps(self, maps: np.ndarray, label: np.ndarray) -> np.ndarray:
        """Residual maps (T, 3, 128, 128) mm of maps (T, 3, 128, 128) mm. Mixes are mixes of residuals."""
        with torch.inference_mode():
            x = torch.from_numpy(maps) / UNIT
            residual = torch.zeros_like(x)
            for k in np.flatnonzero(label[1:]) + 1:  # the neutral share leaves the face as it is
                one_hot = functional.one_hot(torch.full((len(x),), int(k)), len(label)).float()
                residual += float(label[k]) * self.generator(x, one_hot)
            return (residual * UNIT).numpy()


def map_basis(face: Face, size: int = SIZE) -> torch.Tensor:
    """Maps (S, 3, size, size) in UNIT of the face's blend shapes at weight 1."""
    maps = torch.from_numpy(geometry_map(face).encode(face.expression_basis) / UNIT)
    return maps if size == SIZE else functional.adaptive_avg_pool2d(maps, size)


def seen_shapes(face: Face) -> np.ndarray:
    """Indices of the blend shapes that captures can show."""
    return np.flatnonzero([not name.startswith(UNSEEN) for name in face.expression_names])


def new_generator(face: Face, channels: int, blocks: int, size: int = SIZE) -> Generator:
    """An untrained generator for maps of a face, size × size."""
    # What no capture shows (gaze, say) no emotion may use: there every value would look equally true to a critic.
    maps = map_basis(face)[seen_shapes(face)]
    # Orthonormal at full resolution, whatever the resolution asked for, so that the weights mean the same.
    flat = maps.flatten(1)
    triangle = torch.linalg.cholesky((flat @ flat.T).double())
    rows = torch.linalg.solve_triangular(triangle.float(), flat, upper=False).view_as(maps)
    if size != SIZE:
        rows = functional.adaptive_avg_pool2d(rows, size)
    return Generator(rows, torch.from_numpy(geometry_map(face).mask), channels, blocks)


class Classifier(nn.Module):
    """The judge of an emotion's visibility: a small perceptron on maps, trained on real faces only.

    Another network than the discriminator: that one is what the generator learned to please.
    """

    def __init__(self, classes: int):
        super().__init__()
        self.layers = nn.Sequential(
            nn.AdaptiveAvgPool2d(INNER),
            nn.Flatten(),
            nn.Dropout(0.2),
            nn.Linear(3 * INNER * INNER, 64),
            nn.ReLU(),
            nn.Dropout(0.3),
            nn.Linear(64, classes),
        )

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.layers(x)


def save_network(path: str | Path, stage: str, network: nn.Module, settings: dict[str, Any]) -> None:
    """Write a network to a safetensors file in float16."""
    tensors = {n: t.detach().cpu().numpy().astype(np.float16) for n, t in network.state_dict().items()}
    weights.save(path, stage, tensors, settings)


def _load_into(network: nn.Module, tensors: dict[str, np.ndarray]) -> None:
    network.load_state_dict({n: torch.from_numpy(a.astype(np.float32)) for n, a in tensors.items()})


@lru_cache(maxsize=2)
def load_emotion(face: Face, path: str | Path | None = None) -> EmotionModel:
    """The emotion model of a weights file, the bundled one by default."""
    tensors, settings = weights.load(path, "emotion")
    generator = new_generator(face, settings["channels"], settings["blocks"])
    _load_into(generator, tensors)
    return EmotionModel(generator, geometry_map(face), settings)


def load_classifier(path: str | Path | None = None) -> tuple[Classifier, list[str]]:
    """The classifier of a weights file, the bundled one by default, and the names of its classes."""
    tensors, settings = weights.load(path, "classifier")
    classifier = Classifier(len(settings["classes"]))
    _load_into(classifier, tensors)
    return classifier.eval(), settings["classes"]
