"""Emotion transfer (3D-TalkEmo, section 3.4): StarGAN on geometry maps, light enough for real time on two cores.

The generator sees the face's geometry map pooled to 32×32 pixels and predicts a residual (Choi et al. 2018 predict the
picture itself at full resolution, at a hundred times the cost). A motion's map is linear in its coordinates, and the
residual is measured in the span of the face's blend shapes: an emotion moves skin and does not crumple it. Both linear
maps are computed once, when the generator is made (train/maps.py), so that a transfer takes coordinates and gives
coordinates, and no map is drawn.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import torch
from torch import nn
from torch.nn import functional

from ..expression.emotions import EMOTIONS, effective
from ..face.canonical import Face
from ..face.motion import Motion
from .building import build_network, to_tensor

MAP_UNIT_MM = 4.0  # mm of displacement that the networks see as one
GENERATOR_MAP_SIZE = 32  # pixels on a side of the map that the generator sees
TRANSFER_BATCH_FRAMES = 64  # frames at a time when animating
# An emotion must not open lips that are closed for a b, m or p. The share of its mouth opening that is cancelled is
# ALWAYS_CANCELLED_OPENING + (1 − ALWAYS_CANCELLED_OPENING) · exp(−opening / LIP_CLOSING_DECAY_MM).
LIP_CLOSING_DECAY_MM = 2.0  # mm, decay length
ALWAYS_CANCELLED_OPENING = 0.5  # share that is always cancelled
# Intensities that the generator was trained with. What it adds does not grow in proportion to them, amounts do: see
# `EmotionModel.labels`.
INTENSITY_LEVELS = np.linspace(0.15, 1.5, 28, dtype=np.float32)
MIN_RELATIVE_STRENGTH = 0.05  # relative to level 1, of the lowest level
NEUTRAL_INDEX = EMOTIONS.index("neutral")
FLOAT32_TENSORS = (
    "picture",
    "measure",
    "residual",
    "opening",
    "place",
)  # tensors that weights files keep in float32


class ResidualBlock(nn.Module):
    """Two 3×3 convolutions beside an identity."""

    def __init__(self, channels: int):
        super().__init__()
        self.first = nn.Conv2d(channels, channels, 3, padding=1)
        self.second = nn.Conv2d(channels, channels, 3, padding=1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x + self.second(functional.relu(self.first(functional.relu(x))))


@dataclass(frozen=True, eq=False)
class LinearMaps:
    """What the generator knows of the face, all linear. S coordinates of a motion, Z of a residual.

    picture: (S, 3·32·32), the pooled geometry map in MAP_UNIT_MM of a unit of each coordinate, mm
    measure: (3·32·32, Z), coordinates of a residual by least squares on its pooled map
    residual: (Z, S) mm, a motion's coordinates of a unit of each of a residual's
    opening: (Z,) mm, by which a unit of each of a residual's coordinates opens the lips
    place: (1, 3, 32, 32), the mask of the chart, row and column of each pixel
    """

    picture: torch.Tensor
    measure: torch.Tensor
    residual: torch.Tensor
    opening: torch.Tensor
    place: torch.Tensor


class Generator(nn.Module):
    """G(x, c): pooled maps (N, 3, 32, 32) in MAP_UNIT_MM and labels (N, 8) → coordinates (N, Z) of a residual.

    A label has the intensity of the wanted emotion in its place and zeros elsewhere; neutral is 1.

    It works at 32×32 and 8×8 pixels. No normalisation layers: instance norm would take away how far a face is moved.
    """

    picture: torch.Tensor
    measure: torch.Tensor
    residual: torch.Tensor
    opening: torch.Tensor
    place: torch.Tensor

    def __init__(self, maps: LinearMaps, channels: int, blocks: int):
        super().__init__()
        for name in FLOAT32_TENSORS:
            self.register_buffer(name, getattr(maps, name))
        few, some, many = channels // 4, channels // 2, channels
        self.entry = nn.Conv2d(3 + 3 + len(EMOTIONS), few, 3, padding=1)
        self.down = nn.Conv2d(few, some, 4, stride=2, padding=1)
        self.down_again = nn.Conv2d(some, many, 4, stride=2, padding=1)
        self.blocks = nn.Sequential(*(ResidualBlock(many) for _ in range(blocks)))
        self.up = nn.ConvTranspose2d(many, some, 4, stride=2, padding=1)
        self.up_again = nn.ConvTranspose2d(some, few, 4, stride=2, padding=1)
        self.exit = nn.Conv2d(few, 3, 3, padding=1)

    def forward(self, x: torch.Tensor, label: torch.Tensor) -> torch.Tensor:
        wide = label[:, :, None, None].expand(-1, -1, GENERATOR_MAP_SIZE, GENERATOR_MAP_SIZE)
        first = self.entry(torch.cat([x, self.place.expand(len(x), -1, -1, -1), wide], dim=1))
        second = self.down(functional.relu(first))
        third = self.blocks(self.down_again(functional.relu(second)))
        second = second + self.up(functional.relu(third))
        raw = self.exit(functional.relu(first + self.up_again(functional.relu(second))))
        return raw.flatten(1) @ self.measure


class EmotionModel:
    """A trained generator for a face, on a device."""

    def __init__(
        self,
        generator: Generator,
        face: Face,
        settings: dict[str, Any],
        device: torch.device | str = "cpu",
    ):
        self.device = torch.device(device)
        self.generator = generator.eval().to(self.device)
        self.face = face
        self.settings = settings
        self._strengths: dict[int, np.ndarray] = {}  # of the emotions that were asked for

    def transfer(self, motion: Motion, amounts: np.ndarray, from_neutral: bool = True) -> Motion:
        """The motion with emotions: amounts (8,) throughout, or (T, 8) a frame, in the order of EMOTIONS.

        An amount of 1 is an emotion in full, 1.5 the most; mixes are mixes of residuals. Frames whose amounts are all 0
        stay as they are, to the bit.
        from_neutral: whether the face shows no emotion yet. A neutral amount then changes nothing; otherwise it removes
            what emotion there is
        """
        shares = np.array(np.broadcast_to(amounts, (len(motion), len(EMOTIONS))), np.float32)
        if from_neutral:
            shares[:, NEUTRAL_INDEX] = 0
        shares[:, NEUTRAL_INDEX] = np.minimum(
            shares[:, NEUTRAL_INDEX], 1
        )  # no more can be removed than there is
        moved = np.flatnonzero(shares.any(1))
        if not len(moved):
            return motion
        coordinates = motion.coordinates.copy()
        for start in range(0, len(moved), TRANSFER_BATCH_FRAMES):
            rows = moved[start : start + TRANSFER_BATCH_FRAMES]
            own = torch.from_numpy(coordinates[rows]).to(self.device)
            opening = coordinates[rows] @ self.face.opening_row
            coordinates[rows] += self.residual(own @ self.generator.picture, opening, shares[rows])
        return Motion(motion.times, coordinates, motion.loudness)

    def residual(
        self, picture: torch.Tensor, opening: np.ndarray, shares: np.ndarray
    ) -> np.ndarray:
        """What emotions add to the coordinates of N faces, (N, S) mm.

        picture: (N, 3·32·32), the faces' pooled maps in MAP_UNIT_MM; opening: (N,) mm, of their lips; shares: (N, 8)
        """
        generator = self.generator
        with torch.inference_mode():
            maps = picture.view(-1, 3, GENERATOR_MAP_SIZE, GENERATOR_MAP_SIZE)
            residual = torch.zeros(len(maps), generator.measure.shape[1], device=self.device)
            for k in np.flatnonzero(shares.any(0)):
                label = torch.zeros(len(maps), len(EMOTIONS), device=self.device)
                level, part = self.labels(int(k), shares[:, k])
                label[:, k] = torch.from_numpy(level).to(self.device)
                own = generator(maps, label)
                if k == NEUTRAL_INDEX:
                    own = own - self._neutral_at_rest
                residual += torch.from_numpy(part).to(self.device)[:, None] * own
            moved = (residual @ generator.residual).cpu().numpy()
            opened = (residual @ generator.opening).cpu().numpy()
        # Training has a term for the same purpose, which anger, shouted by actors, learns only in part.
        closed = np.exp(-np.maximum(opening, 0) / LIP_CLOSING_DECAY_MM)
        return moved - (opened * (ALWAYS_CANCELLED_OPENING + (1 - ALWAYS_CANCELLED_OPENING) * closed))[:, None] * self.face.jaw_row

    @cached_property
    def _neutral_at_rest(self) -> torch.Tensor:
        """(1, S) what neutral adds to the face at rest: the mouth of the average actor, who is not the one at hand."""
        rest = torch.zeros(1, 3, GENERATOR_MAP_SIZE, GENERATOR_MAP_SIZE, device=self.device)
        label = torch.zeros(1, len(EMOTIONS), device=self.device)
        label[:, NEUTRAL_INDEX] = 1
        with torch.inference_mode():
            return self.generator(rest, label)

    def labels(self, emotion: int, amounts: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Levels (N,) float32 to label an emotion with for amounts (N,), and the share (N,) of its residual to add.

        Together they move a face in proportion to the amount, of which the part beyond 1 counts less.
        """
        if emotion == NEUTRAL_INDEX:  # has no intensities: less of it is less of its residual
            return np.ones_like(amounts), amounts
        wanted = effective(amounts)
        strength = self.strength(emotion)
        level = np.interp(wanted, strength, INTENSITY_LEVELS).astype(np.float32)
        reached = np.interp(level, INTENSITY_LEVELS, strength)
        return level, (wanted / reached).astype(np.float32)

    def strength(self, emotion: int) -> np.ndarray:
        """(L,) how far an emotion at each of INTENSITY_LEVELS moves the face at rest, relative to level 1; ascending."""
        if emotion not in self._strengths:
            levels = torch.from_numpy(np.append(INTENSITY_LEVELS, np.float32(1))).to(self.device)
            rest = torch.zeros(len(levels), 3, GENERATOR_MAP_SIZE, GENERATOR_MAP_SIZE, device=self.device)
            label = torch.zeros(len(levels), len(EMOTIONS), device=self.device)
            label[:, emotion] = levels
            with torch.inference_mode():
                moved = (self.generator(rest, label) @ self.generator.residual).cpu().numpy()
            along = moved @ moved[-1] / max(float(moved[-1] @ moved[-1]), 1e-9)
            ascending = np.maximum.accumulate(np.maximum(along[:-1], MIN_RELATIVE_STRENGTH))
            self._strengths[emotion] = ascending + 1e-6 * np.arange(len(INTENSITY_LEVELS))
        return self._strengths[emotion]


def emotion_tensors(generator: Generator) -> dict[str, np.ndarray]:
    """What a weights file keeps of a generator: float16, but for the linear maps."""
    return {
        name: tensor.detach()
        .cpu()
        .numpy()
        .astype(np.float32 if name in FLOAT32_TENSORS else np.float16)
        for name, tensor in generator.state_dict().items()
    }


def build_emotion(
    tensors: dict[str, np.ndarray],
    settings: dict[str, Any],
    face: Face,
    device: torch.device | str = "cpu",
) -> EmotionModel:
    """The emotion model of a weights file's tensors and settings."""
    maps = LinearMaps(**{name: to_tensor(tensors[name]) for name in FLOAT32_TENSORS})
    if maps.picture.shape != (len(face.expression_names), 3 * GENERATOR_MAP_SIZE**2):
        raise ValueError(f"its picture is {tuple(maps.picture.shape)}")
    generator = build_network(
        lambda: Generator(maps, settings["channels"], settings["blocks"]), tensors
    )
    return EmotionModel(generator, face, settings, device)
