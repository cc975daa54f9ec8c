"""A PointNet as the generator of emotion transfer, the paper's alternative to the geometry map."""

from __future__ import annotations

import torch
from torch import nn
from torch.nn import functional

from ..expression.emotions import EMOTIONS
from ..face.canonical import Face
from ..face.geometry_map import MAP_SIZE, geometry_map

POSITION_UNIT_MM = 50.0  # mm that are 1 in the network's input of positions at rest


class PointNetGenerator(nn.Module):
    """G(x, c) on points (Qi et al. 2017): local features, their maximum over all points, the label.

    Takes maps (N, 3, R, R) in MAP_UNIT_MM and labels (N, 8), and returns residual maps of the same
    shape. The points are the pixels inside the mask, so that data, losses and the discriminator are
    those of the geometry map's generator.

    Attributes
    ----------
    pixels : (P,) int
        Flat indices of the points in a map.
    position : (P, 3)
        Positions of the points on the face at rest, in POSITION_UNIT_MM.
    """

    pixels: torch.Tensor
    position: torch.Tensor

    def __init__(self, pixels: torch.Tensor, position: torch.Tensor, width: int = 64):
        super().__init__()
        self.register_buffer("pixels", pixels, persistent=False)
        self.register_buffer("position", position, persistent=False)
        self.local = nn.Sequential(
            nn.Linear(6, width), nn.ReLU(), nn.Linear(width, width), nn.ReLU()
        )
        self.common = nn.Sequential(nn.Linear(width, 4 * width), nn.ReLU())
        # Equal to one linear layer on point, maximum and label; computes the maximum's part once.
        self.from_point = nn.Linear(width, 2 * width)
        self.from_all = nn.Linear(4 * width + len(EMOTIONS), 2 * width, bias=False)
        self.exit = nn.Sequential(
            nn.ReLU(), nn.Linear(2 * width, width), nn.ReLU(), nn.Linear(width, 3)
        )

    def forward(self, x: torch.Tensor, label: torch.Tensor) -> torch.Tensor:
        points = x.flatten(2)[:, :, self.pixels].transpose(1, 2)
        local = self.local(torch.cat([points, self.position.expand(len(x), -1, -1)], 2))
        common = self._maximum(local)
        shared = self.from_all(torch.cat([common, label.to(common.dtype)], 1))[:, None]
        residual = self.exit(self.from_point(local) + shared)
        result = torch.zeros_like(x, dtype=residual.dtype).flatten(2)
        result[:, :, self.pixels] = residual.transpose(1, 2)
        return result.view_as(x)

    def _maximum(self, local: torch.Tensor) -> torch.Tensor:
        """Return `common` of local features (N, P, width), its maximum (N, 4·width) over points.

        A maximum has a gradient at one point only, so each feature is computed with gradients
        there alone. This takes a third of the time of gradients at all points.
        """
        linear = self.common[0]
        assert isinstance(linear, nn.Linear)
        with torch.no_grad():
            places = [(linear.weight.to(one.dtype) @ one.T).max(1).indices for one in local]
        width = local.shape[2]
        at_maximum = local.gather(1, torch.stack(places)[..., None].expand(-1, -1, width))
        return torch.relu((at_maximum * linear.weight).sum(2) + linear.bias)


def new_pointnet(face: Face, width: int, size: int = MAP_SIZE) -> PointNetGenerator:
    """An untrained PointNet for maps of size² pixels; its weights do not depend on the size."""
    sampling = geometry_map(face)
    maps = torch.from_numpy(sampling.encode((face.mean - face.mean.mean(0))[None]))
    position = functional.adaptive_avg_pool2d(maps, size)[0].flatten(1).T / POSITION_UNIT_MM
    mask = functional.adaptive_avg_pool2d(torch.from_numpy(sampling.mask)[None].float(), size)
    pixels = (mask[0] > 0.5).flatten().nonzero()[:, 0]
    return PointNetGenerator(pixels, position[pixels], width)
