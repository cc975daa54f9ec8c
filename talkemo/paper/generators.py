"""Generators of emotion transfer that figure 7 compares, on maps, on points and on coordinates.

All take maps (N, 3, 64, 64) in MAP_UNIT_MM and labels (N, 8), and return residual maps of the same
shape, so that data, losses and discriminator are the same for each:

map          the convolutions of the bundled generator
PointNet     local features and their maximum, on the points of the map
perceptron   fully connected layers on the coordinates of the blend shapes, without any map

Map and PointNet are trained twice: *raw*, so that their output is what they compute, and
*projected*, so that it is the nearest map of the face's blend shapes. The bundled generator is
projected. The perceptron's output is coordinates of these blend shapes in any case.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch import nn
from torch.nn import functional

from ..evaluation.emotion import JUDGED_MAPS_AT_A_TIME
from ..expression.emotions import EMOTIONS, one_hot
from ..face.canonical import Face
from ..face.geometry_map import MAP_SIZE, geometry_map
from ..networks.building import load_tensors
from ..networks.emotion import GENERATOR_MAP_SIZE, MAP_UNIT_MM, Generator
from ..networks.judges import DISCRIMINATOR_MAP_SIZE, to_maps
from ..train.emotion_config import EmotionConfig
from ..train.generator import new_generator, residual_basis
from ..weights.files import load_weights
from .pointnet import new_pointnet

PERCEPTRON_WIDTH = 256
COORDINATE_UNIT = 20.0  # length of a residual's coordinates that is 1 in the perceptron


class ConvolutionalGenerator(nn.Module):
    """The bundled generator's convolutions, whose output stays a map."""

    mask: torch.Tensor

    def __init__(self, generator: Generator, mask: torch.Tensor):
        super().__init__()
        self.generator = generator
        self.register_buffer("mask", mask, persistent=False)  # (1, 1, 64, 64), 1 inside

    def forward(self, x: torch.Tensor, label: torch.Tensor) -> torch.Tensor:
        small = functional.adaptive_avg_pool2d(x, GENERATOR_MAP_SIZE)
        residual = self.generator.residual_maps(small, label)
        share = self.generator.place[:, :1]  # of each pixel that is inside the mask
        # Pixels outside the mask, whose values mean nothing, do not reach those inside.
        return self.mask * _enlarged(residual * share) / _enlarged(share).clamp_min(1e-6)


def _enlarged(maps: torch.Tensor) -> torch.Tensor:
    return functional.interpolate(
        maps, size=(DISCRIMINATOR_MAP_SIZE, DISCRIMINATOR_MAP_SIZE), mode="bilinear"
    )


class CoordinateGenerator(nn.Module, ABC):
    """A generator whose output is a map of blend shapes, given by its Z coordinates.

    Attributes
    ----------
    rows : (Z, 3, 64, 64)
        The maps of `residual_basis`.
    measure : (3·64·64, Z)
        Least-squares projection of a map to coordinates.
    """

    rows: torch.Tensor
    measure: torch.Tensor

    def __init__(self, rows: torch.Tensor):
        super().__init__()
        self.register_buffer("rows", rows, persistent=False)
        measure = torch.linalg.pinv(rows.flatten(1).double()).float()
        self.register_buffer("measure", measure, persistent=False)

    @abstractmethod
    def coordinates(self, x: torch.Tensor, label: torch.Tensor) -> torch.Tensor:
        """Return the coordinates (N, Z) of the residual."""

    def forward(self, x: torch.Tensor, label: torch.Tensor) -> torch.Tensor:
        return (self.coordinates(x, label) @ self.rows.flatten(1)).view_as(x)


class Projected(CoordinateGenerator):
    """Another generator, of whose output the part remains that blend shapes can make."""

    def __init__(self, raw: nn.Module, rows: torch.Tensor):
        super().__init__(rows)
        self.raw = raw

    def coordinates(self, x: torch.Tensor, label: torch.Tensor) -> torch.Tensor:
        return torch.as_tensor(self.raw(x, label).flatten(1) @ self.measure)


class Perceptron(CoordinateGenerator):
    """Fully connected layers on the coordinates of a face and the label."""

    def __init__(self, rows: torch.Tensor):
        super().__init__(rows)
        width, count = PERCEPTRON_WIDTH, len(rows)
        self.layers = nn.Sequential(
            nn.Linear(count + len(EMOTIONS), width),
            nn.ReLU(),
            nn.Linear(width, width),
            nn.ReLU(),
            nn.Linear(width, width),
            nn.ReLU(),
            nn.Linear(width, count),
        )

    def coordinates(self, x: torch.Tensor, label: torch.Tensor) -> torch.Tensor:
        shown = x.flatten(1) @ self.measure / COORDINATE_UNIT
        return torch.as_tensor(COORDINATE_UNIT * self.layers(torch.cat([shown, label], dim=1)))


def _map(face: Face, config: EmotionConfig) -> nn.Module:
    share = torch.from_numpy(geometry_map(face).mask)[None, None].float()
    mask = functional.adaptive_avg_pool2d(share, DISCRIMINATOR_MAP_SIZE) > 0.5
    generator = new_generator(face, config.channels, config.blocks)
    return ConvolutionalGenerator(generator, mask.float())


def _pointnet(face: Face, config: EmotionConfig) -> nn.Module:
    return new_pointnet(face, config.channels, DISCRIMINATOR_MAP_SIZE)


def _rows(face: Face) -> torch.Tensor:
    return functional.adaptive_avg_pool2d(residual_basis(face)[0], DISCRIMINATOR_MAP_SIZE)


# By name, what makes an untrained generator.
GENERATORS: dict[str, Callable[[Face, EmotionConfig], nn.Module]] = {
    "map, raw": _map,
    "map, projected": lambda face, config: Projected(_map(face, config), _rows(face)),
    "PointNet, raw": _pointnet,
    "PointNet, projected": lambda face, config: Projected(_pointnet(face, config), _rows(face)),
    "perceptron": lambda face, config: Perceptron(_rows(face)),
}


class TrainedGenerator:
    """A trained generator as a function from displacements to their change by an emotion."""

    def __init__(self, network: nn.Module, face: Face, device: torch.device):
        self.network, self.face, self.device = network.eval().to(device), face, device
        if isinstance(network, CoordinateGenerator):
            self._displacements = residual_basis(face)[1]
        else:
            self._enlarge = enlarging_matrix(face)

    @classmethod
    def read(
        cls, name: str, path: Any, face: Face, config: EmotionConfig, device: torch.device
    ) -> TrainedGenerator:
        """Read one of GENERATORS, as `train_stargan` has written it."""
        network = GENERATORS[name](face, config)
        load_tensors(network, load_weights(path, "emotion")[0])
        return cls(network, face, device)

    def change(self, displacement: np.ndarray, emotion: str) -> np.ndarray:
        """Return the change (N, V, 3) mm of displacements (N, V, 3) mm by an emotion."""
        label = torch.from_numpy(one_hot(emotion))[None].to(self.device)
        starts = range(0, len(displacement), JUDGED_MAPS_AT_A_TIME)
        batches = [displacement[start : start + JUDGED_MAPS_AT_A_TIME] for start in starts]
        with torch.inference_mode():
            return np.concatenate([self._change(batch, label) for batch in batches])

    def _change(self, displacement: np.ndarray, label: torch.Tensor) -> np.ndarray:
        maps = to_maps(self.face, displacement, DISCRIMINATOR_MAP_SIZE).to(self.device)
        labels = label.expand(len(maps), -1)
        if isinstance(self.network, CoordinateGenerator):
            coordinates = self.network.coordinates(maps, labels).cpu().numpy()
            return np.tensordot(coordinates, self._displacements, 1).astype(np.float32)
        residual = self.network(maps, labels).flatten(2).cpu().numpy()
        large = np.stack([self._enlarge @ one.T for one in residual]).transpose(0, 2, 1)
        large = large.reshape(len(maps), 3, MAP_SIZE, MAP_SIZE).astype(np.float32)
        return geometry_map(self.face).decode(large) * np.float32(MAP_UNIT_MM)


def enlarging_matrix(face: Face) -> Any:
    """Sparse matrix (128², 64²): bilinear interpolation of a small map inside the mask.

    Only pixels of the small map that are mostly inside count. A pixel of the large map that has none
    beside it takes the nearest one's value.
    """
    import scipy.sparse as sp
    from scipy.ndimage import distance_transform_edt

    size, factor = DISCRIMINATOR_MAP_SIZE, MAP_SIZE // DISCRIMINATOR_MAP_SIZE
    mask = geometry_map(face).mask
    inside = mask.reshape(size, factor, size, factor).mean((1, 3)) > 0.5
    place = (np.arange(MAP_SIZE) + 0.5) / factor - 0.5
    low = np.clip(np.floor(place).astype(int), 0, size - 2)
    part = np.clip(place - low, 0, 1)
    line = sp.csr_matrix(
        (
            np.concatenate([1 - part, part]),
            (np.tile(np.arange(MAP_SIZE), 2), np.concatenate([low, low + 1])),
        ),
        (MAP_SIZE, size),
    )
    weights = sp.kron(line, line, "csr") @ sp.diags(inside.ravel().astype(float))
    total = np.asarray(weights.sum(1))[:, 0]
    scaled = sp.diags(np.where(total > 0, 1 / np.maximum(total, 1e-12), 0)) @ weights
    nearest = distance_transform_edt(~inside, return_distances=False, return_indices=True)
    alone = np.flatnonzero((total == 0) & mask.ravel())
    row, column = alone // MAP_SIZE // factor, alone % MAP_SIZE // factor
    pixel = nearest[0][row, column] * size + nearest[1][row, column]
    extra = sp.csr_matrix((np.ones(len(alone)), (alone, pixel)), weights.shape)
    return (scaled + extra).tocsr()
