"""A PointNet as the generator of emotion transfer, which the paper compares the geometry map with (Figure 7)."""

from __future__ import annotations

import torch
from torch import nn
from torch.nn import functional

from ..expression.emotions import EMOTIONS
from ..face.canonical import Face
from ..face.geometry_map import MAP_SIZE, geometry_map

PLACE_UNIT = 50.0  # mm of a point's position on the face at rest that the network sees as one


class PointNetGenerator(nn.Module):
    """G(x, c) on points (Qi et al. 2017): each point by itself, with the maximum over all points and the label.

    Takes maps (N, 3, R, R) in MAP_UNIT_MM and labels (N, 8), gives residual maps of that size. The points are the pixels inside
    the mask, so that data, losses and the discriminator stay those of the geometry map's generator.

    pixels: (P,) flat indices of the points in a map; place: (P, 3) their positions on the face at rest, in PLACE_UNIT
    """

    pixels: torch.Tensor
    place: torch.Tensor

    def __init__(self, pixels: torch.Tensor, place: torch.Tensor, width: int = 64):
        super().__init__()
        self.register_buffer("pixels", pixels, persistent=False)
        self.register_buffer("place", place, persistent=False)
        self.local = nn.Sequential(
            nn.Linear(6, width), nn.ReLU(), nn.Linear(width, width), nn.ReLU()
        )
        self.common = nn.Sequential(nn.Linear(width, 4 * width), nn.ReLU())
        # One layer on a point, the maximum and the label together; what all points share is multiplied once.
        self.from_point = nn.Linear(width, 2 * width)
        self.from_all = nn.Linear(4 * width + len(EMOTIONS), 2 * width, bias=False)
        self.exit = nn.Sequential(
            nn.ReLU(), nn.Linear(2 * width, width), nn.ReLU(), nn.Linear(width, 3)
        )

    def forward(self, x: torch.Tensor, label: torch.Tensor) -> torch.Tensor:
        points = x.flatten(2)[:, :, self.pixels].transpose(1, 2)
        local = self.local(torch.cat([points, self.place.expand(len(x), -1, -1)], 2))
        common = self.common(local).amax(1)
        shared = self.from_all(torch.cat([common, label.to(common.dtype)], 1))[:, None]
        moved = self.exit(self.from_point(local) + shared)
        result = torch.zeros_like(x, dtype=moved.dtype).flatten(2)
        result[:, :, self.pixels] = moved.transpose(1, 2)
        return result.view_as(x)


def new_pointnet(face: Face, width: int, size: int = MAP_SIZE) -> PointNetGenerator:
    """An untrained PointNet for maps of a face, size × size. Its weights do not depend on the size."""
    sampling = geometry_map(face)
    maps = torch.from_numpy(sampling.encode((face.mean - face.mean.mean(0))[None]))
    place = functional.adaptive_avg_pool2d(maps, size)[0].flatten(1).T / PLACE_UNIT
    mask = functional.adaptive_avg_pool2d(torch.from_numpy(sampling.mask)[None].float(), size)
    pixels = (mask[0] > 0.5).flatten().nonzero()[:, 0]
    return PointNetGenerator(pixels, place[pixels], width)
