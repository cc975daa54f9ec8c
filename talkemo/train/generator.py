"""Building the emotion generator: bases of geometry maps, its linear maps, and maps in and out."""

from __future__ import annotations

import numpy as np
import torch
from torch.nn import functional

from ..capture.landmarks import observed_shapes
from ..face.canonical import Face
from ..face.geometry_map import MAP_SIZE, geometry_map
from ..networks.emotion import GENERATOR_MAP_SIZE, MAP_UNIT_MM, Generator, LinearMaps
from ..networks.judges import DISCRIMINATOR_MAP_SIZE, to_maps


def map_basis(face: Face, size: int = MAP_SIZE) -> torch.Tensor:
    """Geometry maps (S, 3, size, size) in MAP_UNIT_MM of the face's blend shapes at weight 1."""
    return to_maps(face, face.expression_basis, size)


def residual_basis(face: Face) -> tuple[torch.Tensor, np.ndarray]:
    """Orthonormal basis of the maps of `observed_shapes`, in which residuals are expressed.

    Shapes that captures do not show, such as gaze, are left out: the discriminator could not tell
    their values apart.

    Returns
    -------
    maps : (Z, 3, 128, 128) float32 in MAP_UNIT_MM
    displacements : (Z, V, 3) mm
        What the maps decode to.
    """
    seen = observed_shapes(face)
    maps = map_basis(face)[seen]
    flat = maps.flatten(1)
    triangle = torch.linalg.cholesky((flat @ flat.T).double()).float()
    basis = torch.linalg.solve_triangular(triangle, flat, upper=False).view_as(maps)
    return basis, geometry_map(face).decode(basis.numpy()) * np.float32(MAP_UNIT_MM)


def linear_maps(face: Face) -> LinearMaps:
    """The linear maps of a face's generator, see `networks.emotion.LinearMaps`."""
    basis, displacements = residual_basis(face)
    small_basis = functional.adaptive_avg_pool2d(basis, GENERATOR_MAP_SIZE).flatten(1)
    mask = torch.from_numpy(geometry_map(face).mask)[None, None].float()
    line = torch.linspace(-1, 1, GENERATOR_MAP_SIZE)
    place = torch.stack(torch.meshgrid(line, line, indexing="ij"))[None]
    span = face.span.reshape(len(face.span), -1)
    return LinearMaps(
        picture=to_maps(face, face.span, GENERATOR_MAP_SIZE).flatten(1),
        measure=torch.linalg.pinv(small_basis.double()).float(),
        residual=torch.from_numpy(displacements.reshape(len(displacements), -1) @ span.T),
        opening=torch.from_numpy(face.lip_opening(displacements)),
        place=torch.cat([functional.adaptive_avg_pool2d(mask, GENERATOR_MAP_SIZE), place], dim=1),
    )


def new_generator(face: Face, channels: int, blocks: int) -> Generator:
    """An untrained generator for a face."""
    return Generator(linear_maps(face), channels, blocks)


class MapGenerator(torch.nn.Module):
    """A generator from maps to maps, as StarGAN's losses need it.

    Maps (N, 3, 64, 64) in MAP_UNIT_MM and labels (N, 8) → residual maps (N, 3, 64, 64). `rows` are the
    maps of `residual_basis`.
    """

    rows: torch.Tensor

    def __init__(self, generator: Generator, rows: torch.Tensor):
        super().__init__()
        self.generator = generator
        self.register_buffer(
            "rows", functional.adaptive_avg_pool2d(rows, DISCRIMINATOR_MAP_SIZE), persistent=False
        )

    def forward(self, x: torch.Tensor, label: torch.Tensor) -> torch.Tensor:
        coordinates = self.generator(functional.adaptive_avg_pool2d(x, GENERATOR_MAP_SIZE), label)
        return (coordinates @ self.rows.flatten(1)).view(-1, *self.rows.shape[1:])
