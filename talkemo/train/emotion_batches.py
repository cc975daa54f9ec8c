"""Batches of the emotion transfer's training: frames of acted emotion as geometry maps."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch

from ..data import emotion_augmentation
from ..data.rest_relative import ActedFrames
from ..expression.emotions import EMOTIONS
from ..face.canonical import Face
from ..networks.emotion import NEUTRAL_INDEX
from ..networks.judges import DISCRIMINATOR_MAP_SIZE
from .generator import map_basis, to_maps

if TYPE_CHECKING:
    from .emotion_config import EmotionConfig

# Lowest intensity of frames in which actors were asked for a strong emotion.
STRONG_INTENSITY = 0.6


@dataclass(frozen=True, eq=False)
class EmotionBatch:
    """The N faces of a step, on the training's device."""

    real: torch.Tensor  # (N, 3, 64, 64) geometry maps in MAP_UNIT_MM
    same_recording: torch.Tensor  # (N, 3, 64, 64) maps of another frame of each face's recording
    original: torch.Tensor  # (N,) int, emotion of each face
    level: torch.Tensor  # (N,) intensity of each face's emotion, 1 for neutral
    # (N,) int, a permutation: the generator gives each face the emotion and intensity of another.
    order: torch.Tensor

    @property
    def target(self) -> torch.Tensor:
        """The emotion (N,) that each face is given."""
        return self.original[self.order]

    @property
    def target_level(self) -> torch.Tensor:
        """The intensity (N,) that each face is given."""
        return self.level[self.order]


class FrameSampler:
    """Draws faces: all emotions equally often, at all intensities."""

    def __init__(
        self, face: Face, frames: ActedFrames, config: EmotionConfig, device: torch.device
    ):
        self.frames, self.config, self.device = frames, config, device
        self.shapes = frames.shapes
        self.by_emotion = [_weak_and_strong(frames, k) for k in range(len(EMOTIONS))]
        if config.augmentation:
            self.shapes = without_actors_mean(face, frames)
            # For emotions that no actor shows, the animator's expression is added to neutral faces.
            for k, emotion in enumerate(EMOTIONS):
                if emotion in emotion_augmentation.EMFACS_EXPRESSIONS and not len(
                    self.by_emotion[k][1]
                ):
                    self.by_emotion[k] = self.by_emotion[NEUTRAL_INDEX]
        self.present = [k for k, (_, strong) in enumerate(self.by_emotion) if len(strong)]
        # The first frame of each recording.
        self.first = np.searchsorted(frames.clip, np.arange(len(frames.strong) + 1))
        self.basis = map_basis(face, DISCRIMINATOR_MAP_SIZE).flatten(1).to(device)
        added, self.added_index = animated_maps(face, frames)
        self.added = torch.from_numpy(added).to(device)
        names = face.expression_names
        self.mirrored = [names.index(_mirrored_name(name)) for name in names]

    def draw(self, rng: np.random.Generator) -> EmotionBatch:
        """Draw a batch."""
        count = self.config.batch
        original = rng.choice(self.present, count)
        order = rng.permutation(count)
        intensity = rng.uniform(*self.config.levels, count)
        level = np.where(original == NEUTRAL_INDEX, 1, intensity).astype(np.float32)
        rows = []
        for emotion, face_level in zip(original, level):
            candidates = self.by_emotion[emotion][int(face_level >= STRONG_INTENSITY)]
            rows.append(rng.choice(candidates))
        clips = self.frames.clip[np.array(rows)]
        lengths = self.first[clips + 1] - self.first[clips]
        others = self.first[clips] + (rng.random(count) * lengths).astype(int)
        flipped = rng.random(count) < 0.5  # a face's mirror image shows the same emotion
        numbers = torch.from_numpy(self.added_index[clips, original]).to(self.device)
        weight = torch.from_numpy(self.config.augmentation * level).to(self.device)
        added = weight[:, None] * self.added[numbers]
        labels = [torch.from_numpy(array).to(self.device) for array in (original, level, order)]
        real = self._maps(np.array(rows), flipped, added)
        return EmotionBatch(real, self._maps(others, flipped, added), *labels)

    def _maps(self, rows: np.ndarray, flipped: np.ndarray, added: torch.Tensor) -> torch.Tensor:
        """Return maps (N, 3, 64, 64) of frames, some mirrored, plus added maps (N, 3·64·64)."""
        shapes = self.shapes[rows]
        shapes[flipped] = shapes[flipped][:, self.mirrored]
        maps = torch.from_numpy(shapes).to(self.device) @ self.basis + added
        return maps.view(-1, 3, DISCRIMINATOR_MAP_SIZE, DISCRIMINATOR_MAP_SIZE)


def _weak_and_strong(frames: ActedFrames, emotion: int) -> list[np.ndarray]:
    """Return the numbers of an emotion's weak and strong frames; all frames for a missing kind."""
    of_emotion = np.flatnonzero(frames.emotion == emotion)
    is_strong = frames.strong[frames.clip[of_emotion]]
    kinds = [of_emotion[is_strong == strong] for strong in (False, True)]
    return [kind if len(kind) else of_emotion for kind in kinds]


def without_actors_mean(face: Face, frames: ActedFrames) -> np.ndarray:
    """Return the frames' weights (N, S) without what the augmentation shows instead.

    The mean change of nose, cheeks, eyes and brows from neutral to an emotion is removed: fitted to
    landmarks, it is a fifth of the animator's and partly its opposite (surprised brows are lowered,
    angry and calm lids move the wrong way). Actors also open their mouths wider than in neutral
    speech, by 8 mm if they shout; but how wide a mouth opens is up to the speech. So jawOpen scales
    the lip opening down to the mean of neutral frames, which leaves closed lips closed.
    """
    shapes = frames.shapes.copy()
    opening = face.lip_opening(face.expression_basis)
    jaw_open = face.expression_names.index("jawOpen")
    upper = np.array([not name.startswith(("jaw", "mouth")) for name in face.expression_names])
    neutral = frames.shapes[frames.emotion == NEUTRAL_INDEX]
    if not len(neutral):
        return shapes
    neutral_opening = (neutral @ opening).clip(0).mean()
    for emotion in range(len(EMOTIONS)):
        for group in _weak_and_strong(frames, emotion):
            if emotion == NEUTRAL_INDEX or not len(group):
                continue
            acted = frames.shapes[group]
            shapes[group] = acted - upper * (acted.mean(0) - neutral.mean(0))
            opened = (acted @ opening).clip(0)
            excess = max(1 - neutral_opening / max(opened.mean(), 1e-6), 0) * opened
            shapes[group, jaw_open] = acted[:, jaw_open] - excess / opening[jaw_open]
    return shapes


def animated_maps(face: Face, frames: ActedFrames) -> tuple[np.ndarray, np.ndarray]:
    """Return what the animator adds to the faces of each clip.

    Returns
    -------
    maps : (K, 3·64·64) float32
        In MAP_UNIT_MM; the first one is zero.
    index : (clips, 8) int
        The map that each clip's faces get with each emotion.
    """
    candidates = emotion_augmentation.candidates(face)
    maps = [np.zeros((1, 3 * DISCRIMINATOR_MAP_SIZE**2), np.float32)]
    number_of: dict[tuple[int, str], int] = {}
    index = []
    people, person_of_clip = np.unique(frames.identity, axis=0, return_inverse=True)
    for identity in people:
        person = candidates.nearest(emotion_augmentation.calm_features(face, identity))
        row = []
        for emotion in EMOTIONS:
            if emotion not in candidates.displacement:
                row.append(0)
                continue
            if (person, emotion) not in number_of:
                displacement = candidates.displacement[emotion][person][None]
                number_of[person, emotion] = len(maps)
                maps.append(to_maps(face, displacement, DISCRIMINATOR_MAP_SIZE).flatten(1).numpy())
            row.append(number_of[person, emotion])
        index.append(row)
    return np.concatenate(maps), np.array(index)[person_of_clip.reshape(-1)]


def _mirrored_name(name: str) -> str:
    """Return the name of the other side's blend shape."""
    for a, b in (("_L", "_R"), ("_R", "_L"), ("Left", "Right"), ("Right", "Left")):
        if name.endswith(a):
            return name[: -len(a)] + b
    return name
