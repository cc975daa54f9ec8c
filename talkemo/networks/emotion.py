"""Emotion transfer (3D-TalkEmo, section 3.4): StarGAN on geometry maps, in real time on a CPU.

The generator takes the face's geometry map, pooled to 32×32 pixels, and predicts a residual. (Choi
et al. 2018 predict the image itself at full resolution, at a hundred times the cost.) A motion's
map is linear in its coordinates, and the residual is projected onto the span of the face's blend
shapes, so that an emotion moves skin without crumpling it. Both linear maps are computed once, when
the generator is created (train/generator.py). A transfer therefore maps coordinates to coordinates,
and no map is rendered.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import torch
from torch import nn
from torch.nn import functional

from ..expression.emotions import EMOTIONS, NEUTRAL_INDEX
from ..face.canonical import Face
from ..face.lip_measures import lip_gap_gradients, unit_side_openings, without_opening
from ..face.motion import Motion
from .building import build_network, to_tensor
from .protocols import EmotionTransfer

MAP_UNIT_MM = 4.0  # displacement that has the value 1 in the networks' maps
GENERATOR_MAP_SIZE = 32  # pixels on a side of the generator's input
TRANSFER_BATCH_FRAMES = 64  # frames at a time
# An emotion must not open lips that are closed for a b, m or p. The fraction of its mouth opening
# that is cancelled is a + (1 − a) · exp(−opening / decay), where a is ALWAYS_CANCELLED_OPENING.
LIP_CLOSING_DECAY_MM = 2.0
ALWAYS_CANCELLED_OPENING = 0.5
# Intensities that the generator was trained with. Its residual does not grow in proportion to the
# intensity, but emotion amounts are proportional: see `EmotionModel.labels`.
INTENSITY_LEVELS = np.linspace(0.15, 1.5, 28, dtype=np.float32)
MEAN_CHANGE = "mean_change"  # name of the tensor of `EmotionModel.mean_change` in a weights file
MIN_RELATIVE_STRENGTH = 0.05  # of the lowest intensity, relative to intensity 1
# Share that is kept of how an emotion's change differs from the mean change while a face speaks. The
# whole of it moves lips by millimetres to where that emotion's actors had them.
BEYOND_MEAN = 0.4
FLOAT32_TENSORS = ("picture", "measure", "residual", "opening", "place")  # others are float16


class ResidualBlock(nn.Module):
    """Two 3×3 convolutions with a skip connection."""

    def __init__(self, channels: int):
        super().__init__()
        self.first = nn.Conv2d(channels, channels, 3, padding=1)
        self.second = nn.Conv2d(channels, channels, 3, padding=1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x + self.second(functional.relu(self.first(functional.relu(x))))


@dataclass(frozen=True, eq=False)
class LinearMaps:
    """Linear maps between S coordinates of a motion, geometry maps, and Z of a residual.

    The fields are named as the tensors in weights files.
    """

    picture: torch.Tensor  # (S, 3·32·32) pooled map in MAP_UNIT_MM of each coordinate, at 1 mm
    measure: torch.Tensor  # (3·32·32, Z) least-squares projection of a map to residual coordinates
    residual: torch.Tensor  # (Z, S) mm, motion coordinates of each residual coordinate, at 1
    opening: torch.Tensor  # (Z,) mm that each residual coordinate opens the lips by, at 1
    place: torch.Tensor  # (1, 3, 32, 32) mask of the chart, row and column of each pixel


class Generator(nn.Module):
    """StarGAN's generator: pooled maps and labels to coordinates of a residual.

    Maps are (N, 3, 32, 32) in MAP_UNIT_MM. A label (N, 8) is zero but for the intensity of the
    wanted emotion; neutral has intensity 1. Residual coordinates are (N, Z).

    The network works at 32×32 and 8×8 pixels. It has no normalisation layers: instance norm would
    discard how far a face is moved.
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
        half, quarter = channels // 2, channels // 4
        self.entry = nn.Conv2d(3 + 3 + len(EMOTIONS), quarter, 3, padding=1)
        self.down = nn.Conv2d(quarter, half, 4, stride=2, padding=1)
        self.down_again = nn.Conv2d(half, channels, 4, stride=2, padding=1)
        self.blocks = nn.Sequential(*(ResidualBlock(channels) for _ in range(blocks)))
        self.up = nn.ConvTranspose2d(channels, half, 4, stride=2, padding=1)
        self.up_again = nn.ConvTranspose2d(half, quarter, 4, stride=2, padding=1)
        self.exit = nn.Conv2d(quarter, 3, 3, padding=1)

    def forward(self, x: torch.Tensor, label: torch.Tensor) -> torch.Tensor:
        return self.residual_maps(x, label).flatten(1) @ self.measure

    def residual_maps(self, x: torch.Tensor, label: torch.Tensor) -> torch.Tensor:
        """Return the residual as maps (N, 3, 32, 32), before it is expressed as coordinates."""
        size = GENERATOR_MAP_SIZE
        label_maps = label[:, :, None, None].expand(-1, -1, size, size)
        first = self.entry(torch.cat([x, self.place.expand(len(x), -1, -1, -1), label_maps], dim=1))
        second = self.down(functional.relu(first))
        third = self.blocks(self.down_again(functional.relu(second)))
        second = second + self.up(functional.relu(third))
        last = self.exit(functional.relu(first + self.up_again(functional.relu(second))))
        return torch.as_tensor(last)


class EmotionModel(EmotionTransfer):
    """A trained generator for a face, on a device."""

    def __init__(
        self,
        generator: Generator,
        face: Face,
        settings: dict[str, Any],
        device: torch.device | str = "cpu",
        mean_change: np.ndarray | None = None,
    ):
        self.device = torch.device(device)
        self.generator = generator.eval().to(self.device)
        self.face = face
        self.settings = settings
        # (8, S) mm, the change of a face at rest by each emotion at amount 1, which replaces the
        # generator's; None leaves the generator's. See train/emotion.py.
        self.mean_change = mean_change
        self._at_rest: dict[int, torch.Tensor] = {}  # cache of `_levels_at_rest` by emotion
        self._strengths: dict[int, np.ndarray] = {}  # cache of `strength` by emotion

    def transfer(self, motion: Motion, amounts: np.ndarray, from_neutral: bool = True) -> Motion:
        """Return the motion with emotions, see `EmotionTransfer`.

        Amounts are at most 1.5; the residuals of a mix are added. Frames whose amounts are all
        zero keep bit-identical coordinates.
        """
        amounts = np.array(np.broadcast_to(amounts, (len(motion), len(EMOTIONS))), np.float32)
        if from_neutral:
            amounts[:, NEUTRAL_INDEX] = 0
        # At most the whole emotion can be removed.
        amounts[:, NEUTRAL_INDEX] = np.minimum(amounts[:, NEUTRAL_INDEX], 1)
        changed = np.flatnonzero(amounts.any(1))
        if not len(changed):
            return motion
        coordinates = motion.coordinates.copy()
        for start in range(0, len(changed), TRANSFER_BATCH_FRAMES):
            rows = changed[start : start + TRANSFER_BATCH_FRAMES]
            maps = torch.from_numpy(coordinates[rows]).to(self.device) @ self.generator.picture
            opening = coordinates[rows] @ self.face.lip_opening_gradient
            coordinates[rows] += self.residual(maps, opening, amounts[rows])
        return Motion(motion.times, coordinates, motion.loudness)

    def residual(self, maps: torch.Tensor, opening: np.ndarray, amounts: np.ndarray) -> np.ndarray:
        """Return the change (N, S) mm of the coordinates of N faces by emotions.

        Parameters
        ----------
        maps : (N, 3·32·32)
            Pooled maps of the faces, in MAP_UNIT_MM.
        opening : (N,) mm
            Lip openings of the faces.
        amounts : (N, 8)
            Amount of each emotion.
        """
        generator = self.generator
        with torch.inference_mode():
            maps = maps.view(-1, 3, GENERATOR_MAP_SIZE, GENERATOR_MAP_SIZE)
            total = torch.zeros(len(maps), generator.measure.shape[1], device=self.device)
            beyond_mean = torch.zeros_like(total)
            for emotion in np.flatnonzero(amounts.any(0)):
                label = torch.zeros(len(maps), len(EMOTIONS), device=self.device)
                level, factor = self.labels(int(emotion), amounts[:, emotion])
                label[:, emotion] = torch.from_numpy(level).to(self.device)
                residual = generator(maps, label)
                if emotion == NEUTRAL_INDEX:
                    residual = residual - self._neutral_at_rest
                share = torch.from_numpy(factor).to(self.device)[:, None]
                if emotion == NEUTRAL_INDEX or self.mean_change is None:
                    total += share * residual
                else:
                    at_rest = self._residual_of_levels(int(emotion), level)
                    beyond_mean += share * (residual - at_rest)
            moved = (total @ generator.residual).cpu().numpy()
            opened = (total @ generator.opening).cpu().numpy()
        # A loss term of the training keeps closed lips closed, but only in part for anger, because
        # actors shout.
        closed = np.exp(-np.maximum(opening, 0) / LIP_CLOSING_DECAY_MM)
        cancelled = ALWAYS_CANCELLED_OPENING + (1 - ALWAYS_CANCELLED_OPENING) * closed
        jaw = self.face.unit_jaw_opening
        # The jaw closes the middle of the lips. A smile or a sneer also parts their sides, and
        # corners that are pulled down cross them.
        gap_gradients, side_openings = self._sides_of_lips
        sides_opened = (moved - opened[:, None] * jaw) @ gap_gradients
        sides = (closed[:, None] * sides_opened) @ side_openings
        changed = moved - (opened * cancelled)[:, None] * jaw - sides
        if self.mean_change is not None:  # how wide the mouth opens is up to the speech
            beyond = (beyond_mean @ generator.residual).cpu().numpy() @ self._without_opening
            changed = changed + amounts @ self.mean_change + BEYOND_MEAN * beyond
        return np.asarray(changed, np.float32)

    @cached_property
    def _without_opening(self) -> np.ndarray:
        """(S, S), see `lip_measures.without_opening`."""
        return without_opening(self.face)

    @cached_property
    def _sides_of_lips(self) -> tuple[np.ndarray, np.ndarray]:
        """Gradients (S, 2) of the opening beside the middle of the lips, and its units (2, S)."""
        return lip_gap_gradients(self.face)[:, [0, 2]], unit_side_openings(self.face)

    @cached_property
    def _neutral_at_rest(self) -> torch.Tensor:
        """(1, Z) residual that the neutral label gives for the face at rest.

        It shows the resting mouth of the average actor, and is subtracted from neutral residuals.
        """
        label = torch.zeros(1, len(EMOTIONS), device=self.device)
        label[:, NEUTRAL_INDEX] = 1
        return self._residual_at_rest(label)

    def _residual_at_rest(self, label: torch.Tensor) -> torch.Tensor:
        """Return the residual (N, Z) of labels (N, 8) for the face at rest."""
        size = GENERATOR_MAP_SIZE
        with torch.inference_mode():
            return self.generator(torch.zeros(len(label), 3, size, size, device=self.device), label)

    def _residual_of_levels(self, emotion: int, level: np.ndarray) -> torch.Tensor:
        """Return the residual (N, Z) that labels of intensities (N,) give for the face at rest."""
        of_level = self._levels_at_rest(emotion)
        place = np.interp(level, INTENSITY_LEVELS, np.arange(len(INTENSITY_LEVELS)))
        low = place.astype(int).clip(0, len(INTENSITY_LEVELS) - 2)
        part = torch.from_numpy((place - low).astype(np.float32)).to(self.device)[:, None]
        return (1 - part) * of_level[low] + part * of_level[low + 1]

    def _levels_at_rest(self, emotion: int) -> torch.Tensor:
        """Return the residual (L + 1, Z) of INTENSITY_LEVELS and of 1 for the face at rest."""
        if emotion not in self._at_rest:
            levels = torch.from_numpy(np.append(INTENSITY_LEVELS, np.float32(1))).to(self.device)
            label = torch.zeros(len(levels), len(EMOTIONS), device=self.device)
            label[:, emotion] = levels
            self._at_rest[emotion] = self._residual_at_rest(label)
        return self._at_rest[emotion]

    def labels(self, emotion: int, amounts: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Return the label and the factor of the residual that make up amounts of an emotion.

        Together they move a face in proportion to the amount, above 1 too.

        Parameters
        ----------
        emotion : int
            Index in EMOTIONS.
        amounts : (N,)
            Amounts of the emotion.

        Returns
        -------
        level, factor : (N,) float32
            The intensity for the generator's label, and what to multiply the residual by.
        """
        if emotion == NEUTRAL_INDEX:  # has a single intensity
            return np.ones_like(amounts), amounts
        strength = self.strength(emotion)
        level = np.interp(amounts, strength, INTENSITY_LEVELS).astype(np.float32)
        reached = np.interp(level, INTENSITY_LEVELS, strength)
        return level, (amounts / reached).astype(np.float32)

    def strength(self, emotion: int) -> np.ndarray:
        """Return how far each of INTENSITY_LEVELS moves the face at rest, relative to level 1.

        The result (L,) is strictly ascending.
        """
        if emotion not in self._strengths:
            with torch.inference_mode():
                residual = self._levels_at_rest(emotion) @ self.generator.residual
            moved = residual.cpu().numpy()
            along = moved @ moved[-1] / max(float(moved[-1] @ moved[-1]), 1e-9)
            ascending = np.maximum.accumulate(np.maximum(along[:-1], MIN_RELATIVE_STRENGTH))
            self._strengths[emotion] = ascending + 1e-6 * np.arange(len(INTENSITY_LEVELS))
        return self._strengths[emotion]


def emotion_tensors(generator: Generator) -> dict[str, np.ndarray]:
    """Return a generator's tensors for a weights file: FLOAT32_TENSORS, and float16 otherwise."""
    tensors = {}
    for name, tensor in generator.state_dict().items():
        dtype = np.float32 if name in FLOAT32_TENSORS else np.float16
        tensors[name] = tensor.detach().cpu().numpy().astype(dtype)
    return tensors


def build_emotion(
    tensors: dict[str, np.ndarray],
    settings: dict[str, Any],
    face: Face,
    device: torch.device | str = "cpu",
) -> EmotionModel:
    """Return the emotion model of a weights file's tensors and settings."""
    maps = LinearMaps(**{name: to_tensor(tensors[name]) for name in FLOAT32_TENSORS})
    if maps.picture.shape != (len(face.expression_names), 3 * GENERATOR_MAP_SIZE**2):
        raise ValueError(f"its picture is {tuple(maps.picture.shape)}")
    of_generator = {name: tensor for name, tensor in tensors.items() if name != MEAN_CHANGE}
    generator = build_network(
        lambda: Generator(maps, settings["channels"], settings["blocks"]), of_generator
    )
    mean_change = tensors.get(MEAN_CHANGE)
    if mean_change is not None and mean_change.shape != (len(EMOTIONS), len(face.span)):
        raise ValueError(f"its mean change is {mean_change.shape}")
    return EmotionModel(generator, face, settings, device, mean_change)
