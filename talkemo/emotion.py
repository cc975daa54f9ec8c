"""Emotion transfer (3D-TalkEmo, section 3.4): StarGAN on geometry maps, light enough for real time on two cores.

The generator sees a map at a quarter of its resolution and predicts a residual (Choi et al. 2018 predict the picture
itself at full resolution, which takes a hundred times the arithmetic). What no face of the model can do is projected
out of the residual, so an emotion moves skin and does not crumple it.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
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
from .face import Face, smoothstep
from .geomap import SIZE, GeometryMap, geometry_map

UNIT = 4.0  # mm that the networks see as one
TRAINED_SIZE = 64  # pixels on a side of the maps in training
INNER = 32  # pixels on a side inside the generator
FOUR = ("neutral", "happy", "angry", "surprised")  # the emotions of the paper
BATCH = 64  # maps at a time when animating
SHUT = 2.0  # mm between the lips by which they count as shut e times less
SPOKEN = 0.5  # share of what an emotion opens the mouth by that yields to what is said, however open it is
CHANGE = 0.4  # s that one emotion of a timeline takes to become another
LARGEST_TIMELINE = 1 << 20  # bytes
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


@dataclass(frozen=True)
class Span:
    """A part of a timeline: seconds, and how much of each emotion (8,) is shown."""

    start: float
    end: float
    amounts: np.ndarray


class Timeline:
    """Emotions that come and go: how much of each is shown at any time."""

    def __init__(self, spans: list[Span]):
        self.spans = spans

    def scaled(self, intensity: float) -> Timeline:
        """The same, less strong. Raises InputError for an intensity outside [0, 1]."""
        if not 0 <= intensity <= 1:
            raise InputError(f"intensity {intensity:g} is not between 0 and 1")
        return Timeline([Span(s.start, s.end, s.amounts * np.float32(intensity)) for s in self.spans])

    @property
    def shown(self) -> np.ndarray:
        """(8,) bool, the emotions that occur at all."""
        return np.any([span.amounts > 0 for span in self.spans], axis=0)

    def amounts(self, times: np.ndarray) -> np.ndarray:
        """(T, 8) float32 at times (T,) s. Changes take CHANGE seconds, half of them before a span begins or ends;
        what begins at 0 is there from the start. Where spans lie over each other, the shares are scaled to 1 in all.
        """
        times = np.asarray(times, np.float64)
        result = np.zeros((len(times), len(EMOTIONS)))
        for span in self.spans:
            rise = np.ones(len(times)) if span.start <= 0 else smoothstep((times - span.start) / CHANGE + 0.5)
            result += (rise * smoothstep((span.end - times) / CHANGE + 0.5))[:, None] * span.amounts
        return (result / np.maximum(result.sum(1, keepdims=True), 1)).astype(np.float32)


def constant(emotion: str, intensity: float = 1.0) -> Timeline:
    """One emotion or mix, from the beginning to the end. Raises InputError for an intensity outside [0, 1]."""
    return Timeline([Span(0.0, np.inf, parse_emotion(emotion))]).scaled(intensity)


def read_timeline(path: str | Path) -> Timeline:
    """A text file with a line `start end emotion [intensity]` for each span, in seconds; # begins a comment.

    An emotion may be a mix; intensity is 1 where it is left out. Raises InputError naming the line that is none.
    """
    path = Path(path)
    if not path.is_file():
        raise InputError(f"{path}: no such timeline")
    if path.stat().st_size > LARGEST_TIMELINE:
        raise InputError(f"{path}: too large for a timeline")
    spans = []
    for number, line in enumerate(path.read_text("utf-8", errors="replace").splitlines(), 1):
        fields = line.split("#")[0].split()
        if not fields:
            continue
        form = f"{path}: line {number} ('{line.strip()[:40]}')"
        if len(fields) not in (3, 4):
            raise InputError(f"{form} is not 'start end emotion [intensity]'", "for instance: 0.5 2.0 happy 0.8")
        try:
            start, end = float(fields[0]), float(fields[1])
            intensity = float(fields[3]) if len(fields) == 4 else 1.0
        except ValueError:
            raise InputError(
                f"{form}: times and intensity must be numbers", "for instance: 0.5 2.0 happy 0.8"
            ) from None
        if not 0 <= start < end < np.inf:
            raise InputError(f"{form}: a span begins at 0 or later and ends after it begins")
        try:
            spans.append(Span(start, end, constant(fields[2], intensity).spans[0].amounts))
        except InputError as error:
            raise InputError(f"{path}: line {number}: {error}", error.hint) from None
    if not spans:
        raise InputError(f"{path}: no line of it names an emotion", "for instance: 0.5 2.0 happy 0.8")
    return Timeline(spans)


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

    def __init__(self, generator: Generator, face: Face, settings: dict[str, Any]):
        self.generator = generator.eval()
        self.face = face
        self.sampling: GeometryMap = geometry_map(face)
        self.settings = settings
        jaw = face.expression_basis[face.expression_names.index("jawOpen")]
        self.opens = jaw / face.lip_opening(jaw)  # (V, 3), a jaw that opens the lips by a millimetre

    def transfer(
        self, displacement: np.ndarray, label: np.ndarray, intensity: float = 1.0, from_neutral: bool = True
    ) -> np.ndarray:
        """Displacement (T, V, 3) mm with the emotions of a label (8,), or of one for each frame (T, 8).

        intensity: 0 leaves the face exactly as it was, 1 is as strong as the actors; in between residuals are scaled
        from_neutral: whether the face shows no emotion yet. The neutral share then leaves it as it is; otherwise it
            takes off what emotion there is
        A label of shares under 1 in all leaves the rest of the face's expression as it is.
        """
        amounts = np.broadcast_to(np.float32(intensity) * label, (len(displacement), len(EMOTIONS)))
        if from_neutral:
            amounts = amounts * (np.arange(len(EMOTIONS)) > 0)
        if not amounts.any():
            return displacement
        result = displacement.copy()
        for start in range(0, len(displacement), BATCH):
            part, share = displacement[start : start + BATCH], amounts[start : start + BATCH]
            moved = share.any(1)  # the others stay as they are, to the bit
            if moved.any():
                maps = self.transfer_maps(self.sampling.encode(part[moved]), share[moved])
                residual = self.sampling.decode(maps)
                result[start : start + BATCH][moved] += residual - self._opened(part[moved], residual)
        return result

    def _opened(self, before: np.ndarray, residual: np.ndarray) -> np.ndarray:
        """How far the jaw has to go back, (T, V, 3) mm, for lips that were shut to be so under an emotion.

        Training says the same by a term of its loss, and anger, which actors shout, learns it by halves.
        """
        shut = SPOKEN + (1 - SPOKEN) * np.exp(-np.maximum(self.face.lip_opening(before), 0) / SHUT)
        return (self.face.lip_opening(residual) * shut)[:, None, None] * self.opens

    def transfer_maps(self, maps: np.ndarray, amounts: np.ndarray) -> np.ndarray:
        """Residual maps (T, 3, 128, 128) mm of maps (T, 3, 128, 128) mm and amounts (T, 8). Mixes are mixes of
        residuals."""
        with torch.inference_mode():
            x = torch.from_numpy(maps) / UNIT
            residual = torch.zeros_like(x)
            share = torch.from_numpy(np.ascontiguousarray(amounts, np.float32))
            for k in np.flatnonzero(amounts.any(0)):
                one_hot = functional.one_hot(torch.full((len(x),), int(k)), len(EMOTIONS)).float()
                residual += share[:, k, None, None, None] * self.generator(x, one_hot)
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


class Discriminator(nn.Module):
    """D: maps (N, 3, 64, 64) in UNIT and emotions (N,) → realness (N,) as a face of that emotion, and logits (N, 8).

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
        self.emotion = nn.Conv2d(before, len(EMOTIONS), TRAINED_SIZE // 16)

    def forward(self, x: torch.Tensor, emotion: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        x = self.body(x)
        realness = self.real(x).mean((2, 3)).gather(1, emotion[:, None])[:, 0]
        return realness, self.emotion(x).flatten(1)

    def features(self, maps: torch.Tensor) -> torch.Tensor:
        """The last feature layer (N, F) for maps (N, 3, R, R)."""
        return self.body(functional.adaptive_avg_pool2d(maps, TRAINED_SIZE)).flatten(1)

    def logits(self, maps: torch.Tensor) -> torch.Tensor:
        """(N, 8) for maps (N, 3, R, R)."""
        return self.emotion(self.body(functional.adaptive_avg_pool2d(maps, TRAINED_SIZE))).flatten(1)


def save_network(path: str | Path, stage: str, network: nn.Module, settings: dict[str, Any]) -> None:
    """Write a network to a safetensors file in float16."""
    tensors = {n: t.detach().cpu().numpy().astype(np.float16) for n, t in network.state_dict().items()}
    weights.save(path, stage, tensors, settings)


def load_into(network: nn.Module, tensors: dict[str, np.ndarray]) -> None:
    """Give a network the tensors of a weights file."""
    network.load_state_dict({n: torch.from_numpy(a.astype(np.float32)) for n, a in tensors.items()})


@lru_cache(maxsize=2)
def load_emotion(face: Face, path: str | Path | None = None) -> EmotionModel:
    """The emotion model of a weights file, the bundled one by default."""
    tensors, settings = weights.load(path, "emotion")
    with weights.understood(path, "emotion"):
        generator = new_generator(face, settings["channels"], settings["blocks"])
        load_into(generator, tensors)
    return EmotionModel(generator, face, settings)


def load_discriminator(path: str | Path | None = None) -> Discriminator:
    """The discriminator that the emotion model was trained against, the bundled one by default."""
    tensors, _ = weights.load(path, "discriminator")
    discriminator = Discriminator()
    with weights.understood(path, "discriminator"):
        load_into(discriminator, tensors)
    return discriminator.eval()


def save_classifiers(
    path: str | Path, networks: dict[str, Classifier], classes: dict[str, list[str]], frames: int
) -> None:
    """Write classifiers, by name, to one safetensors file in float16."""
    tensors = {
        f"{name}/{key}": tensor.detach().numpy().astype(np.float16)
        for name, network in networks.items()
        for key, tensor in network.state_dict().items()
    }
    weights.save(path, "classifier", tensors, {"classes": classes, "frames": frames})


def load_classifier(path: str | Path | None = None, name: str = "four") -> tuple[Classifier, list[str]]:
    """A classifier of a weights file, the bundled one by default, and the names of its classes, four or eight."""
    tensors, settings = weights.load(path, "classifier")
    with weights.understood(path, "classifier"):
        classes = settings["classes"][name]
        classifier = Classifier(len(classes))
        own = {key.removeprefix(f"{name}/"): tensor for key, tensor in tensors.items() if key.startswith(f"{name}/")}
        load_into(classifier, own)
    return classifier.eval(), classes
