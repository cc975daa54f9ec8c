"""Stage 5: emotion transfer, StarGAN with WGAN-GP on geometry maps (3D-TalkEmo, Eq. 4–9).

L_D = −L_adv + λ_cls L_cls^r + λ_gp L_gp and L_G = L_adv + λ_cls L_cls^f + λ_rec L_rec. As in
StarGAN, an iteration is a step of the discriminator; the generator takes one every `critic`
iterations. Three things differ from the paper:

- Realness is judged per emotion (as in StarGAN v2), not for all faces together. A generator that
  only has to look real and be classified as happy squints; one that has to look like the happy
  faces smiles.
- Two terms preserve the speech: the residuals of two frames of a recording have to be the same on
  the lips, and closed lips have to stay closed.
- An emotion's intensity is part of its label. A real face's intensity is how much the animator
  added and how strongly the actor was asked to play; the discriminator learns to estimate it, and
  the generator has to produce the requested one.
"""

from __future__ import annotations

from collections.abc import Callable
from copy import deepcopy
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn
from torch.nn import functional

from ..capture.landmarks import observed_shapes
from ..data.corpora import require_corpora
from ..data.emotion_augmentation import EMFACS_EXPRESSIONS, add_expression
from ..data.rest_relative import ActedFrames, acted_frames, relative_to_rest
from ..expression.emotions import EMOTIONS
from ..face.canonical import Face
from ..face.geometry_map import geometry_map
from ..face.lip_measures import lip_gap_gradients, unit_lip_gaps
from ..face.motion import Motion
from ..networks.building import load_tensors
from ..networks.emotion import (
    FLOAT32_TENSORS,
    LIP_CLOSING_DECAY_MM,
    MEAN_CHANGE,
    NEUTRAL_INDEX,
    EmotionModel,
    emotion_tensors,
)
from ..networks.judges import DISCRIMINATOR_MAP_SIZE, Discriminator, float16_tensors
from ..weights.files import check_compatible
from .batches import captured_recordings
from .checkpoint import checkpoint_path
from .classifiers import train_classifiers
from .emotion_batches import EmotionBatch, FrameSampler
from .emotion_config import EmotionConfig
from .generator import MapGenerator, map_basis, new_generator, residual_basis
from .loop import Intervals, Loop, Losses, half_precision
from .run import Run, StartWeights
from .training_log import LastLosses

EMOTION_INTERVALS = Intervals(progress=20, log=300, weights=3000)  # iterations
MAX_OF_POSE = 1.3  # component of `mean_changes` along the animator's expression
SAMPLE_SHEET_ROWS = 5  # real faces
SAMPLE_IMAGE_SIZE = (160, 176)  # pixels, width and height of each face on a sample sheet


# Makes a generator, which takes maps (N, 3, 64, 64) in MAP_UNIT_MM and labels (N, 8), and returns
# residual maps (N, 3, 64, 64).
GeneratorMaker = Callable[[Face, EmotionConfig], nn.Module]


def train_emotion(run: Run, config: EmotionConfig) -> Path:
    """Train the emotion transfer and the classifiers on acted emotion, without the dev actors.

    Also writes `out`/discriminator.safetensors and `out`/classifier.safetensors.

    Returns
    -------
    Path
        `out`/emotion.safetensors.

    Raises
    ------
    InputError
        The start weights do not fit, or a corpus is missing or damaged.
    """
    read_start_weights(run, config)  # refuse weights that do not fit before corpora are read
    face = run.models().face
    frames = training_frames(run, config.corpora)
    if not run.resume:
        # If this run ends in the classifiers, the next must not resume an earlier checkpoint.
        run.on_main_process(lambda: checkpoint_path(run, "emotion").unlink(missing_ok=True))
    train_classifiers(face, frames, run, config)
    return train_stargan(face, frames, run, config)


def training_frames(run: Run, corpora: tuple[str, ...]) -> ActedFrames:
    """Return the acted frames of corpora without their dev splits.

    Corpora that do not exist are left out; raises InputError if none exists.
    """
    present = require_corpora(run.data, corpora)
    if missing := [corpus for corpus in corpora if corpus not in present]:
        run.notify(f"{', '.join(missing)}: not in {run.data}, left out")
    face = run.models().face
    recordings = relative_to_rest(list(captured_recordings(run, present)), face)
    return acted_frames([r for r in recordings if r.split == "train" and r.emotion in EMOTIONS])


def train_stargan(
    face: Face,
    frames: ActedFrames,
    run: Run,
    config: EmotionConfig,
    make_generator: GeneratorMaker | None = None,
    on_save: Callable[[int], None] | None = None,
) -> Path:
    """Train generator and discriminator on acted frames; return the generator's file.

    Parameters
    ----------
    face : Face
    frames : ActedFrames
        The real faces.
    run : Run
        Where to write emotion.safetensors and discriminator.safetensors.
    config : EmotionConfig
    make_generator : callable, optional
        Makes another generator than the usual one; its tensors are saved as they are, in float16.
    on_save : callable, optional
        Called with the iterations done whenever both files have been written.
    """
    training = StarGAN(face, frames, run, config, make_generator)

    def save_weights() -> None:
        training.save_with_samples()
        if on_save is not None:
            on_save(training.loop.step)

    training.loop.train(
        config.iterations,
        training.step,
        EMOTION_INTERVALS,
        rate_factor=training.rate_factor,
        save_weights=save_weights,
    )
    path = training.save()
    if on_save is not None:
        on_save(training.loop.step)
    return path


class StarGAN:
    """Generator and discriminator in training."""

    def __init__(
        self,
        face: Face,
        frames: ActedFrames,
        run: Run,
        config: EmotionConfig,
        make_generator: GeneratorMaker | None = None,
    ):
        self.frames, self.run, self.config = frames, run, config
        self.device, self.processes = run.torch_device, run.processes
        self.is_usual = make_generator is None
        start = read_start_weights(run, config) if self.is_usual else None
        torch.manual_seed(config.seed)
        generator = (make_generator or _new_map_generator)(face, config)
        discriminator = Discriminator()
        if start:
            start_networks(generator, discriminator, start, run)
        self.generator = generator.to(self.device)
        self.discriminator = discriminator.to(self.device)
        # The exponential moving average is what ships: the raw generator oscillates.
        self.average = deepcopy(self.generator)
        rate, betas = config.learning_rate, (0.5, 0.999)
        optimisers: dict[str, torch.optim.Optimizer] = {
            "generator_adam": torch.optim.Adam(self.generator.parameters(), rate, betas),
            "discriminator_adam": torch.optim.Adam(self.discriminator.parameters(), rate, betas),
        }
        networks = {
            "generator": self.generator,
            "discriminator": self.discriminator,
            "average": self.average,
        }
        settings = {**asdict(config), "iterations": None, "face": face.fingerprint}
        torch.manual_seed(config.seed)  # whatever the generator's initial values have drawn
        self.loop = Loop("emotion", run, networks, optimisers, settings, config.seed, LastLosses())
        seen_maps = map_basis(face, DISCRIMINATOR_MAP_SIZE)[torch.from_numpy(observed_shapes(face))]
        self.noise_maps = seen_maps.flatten(1).to(self.device)
        self.lip_mask = lip_mask(face).to(self.device)
        self.opening = lip_opening_of_maps(face).to(self.device)
        batch = config.batch * self.processes.count
        self.sampler = FrameSampler(face, frames, replace(config, batch=batch), self.device)

    def rate_factor(self, iteration: int) -> float:
        """Return the factor of the learning rates: 1 in the first half, then falling to 0."""
        return min(1, 2 - 2 * iteration / self.config.iterations)

    def step(self) -> Losses:
        """Take a step of the discriminator, and of the generator if it is due; return losses."""
        batch = self.sampler.draw(self.loop.rng)
        losses = self.discriminator_step(batch)
        if (self.loop.step + 1) % self.config.critic == 0:
            losses |= self.generator_step(batch)
        return losses

    def discriminator_step(self, batch: EmotionBatch) -> Losses:
        """Take a step of the discriminator; return its losses."""
        config, own_rows = self.config, self.processes.own_rows
        real, original, target = map(own_rows, (batch.real, batch.original, batch.target))
        with torch.no_grad():
            fake = real + self._residual(real, target, own_rows(batch.target_level))
        noisy, fake = batch.real + self._noise(batch.real), fake + own_rows(self._noise(batch.real))
        realness, level, logits = self._judge(own_rows(noisy), original)
        adversarial = realness.mean() - self._judge(fake, target)[0].mean()
        classification = functional.cross_entropy(logits, original)
        level_error = (level - own_rows(batch.level)).square().mean()
        # Interpolation between a real and a generated face of the same emotion.
        mix = own_rows(torch.rand(len(noisy), 1, 1, 1, device=self.device))
        penalty = self._gradient_penalty(own_rows(noisy[batch.order]), fake, target, mix)
        loss = (
            -adversarial
            + config.penalty * penalty
            + config.classification * classification
            + config.level * level_error
        )
        self.loop.descend(loss, "discriminator_adam")
        return self.processes.mean(
            {
                "D_adv": adversarial,
                "D_cls": classification,
                "D_level": level_error,
                "D_gp": penalty,
            }
        )

    def generator_step(self, batch: EmotionBatch) -> Losses:
        """Take a step of the generator and of its average; return its losses."""
        config, own_rows = self.config, self.processes.own_rows
        real, target = own_rows(batch.real), own_rows(batch.target)
        target_level = own_rows(batch.target_level)
        both = torch.cat([real, own_rows(batch.same_recording)])
        residuals = self._residual(both, target.repeat(2), target_level.repeat(2))
        residual, residual_of_other = residuals.chunk(2)
        fake = real + residual
        squared = (residual - residual_of_other).square() * self.lip_mask
        speech = squared.sum((1, 2, 3)).mean() / self.lip_mask.sum()
        closed = torch.exp(-(real.flatten(1) @ self.opening).clamp_min(0) / LIP_CLOSING_DECAY_MM)
        gap = ((residual.flatten(1) @ self.opening).square() * closed).mean()
        realness, level, logits = self._judge(fake + own_rows(self._noise(batch.real)), target)
        classification = functional.cross_entropy(logits, target)
        level_error = (level - target_level).square().mean()
        back = fake + self._residual(fake, own_rows(batch.original), own_rows(batch.level))
        reconstruction = (back - real).abs().mean()
        loss = (
            -realness.mean() + config.classification * classification + config.level * level_error
        )
        loss = loss + config.reconstruction * reconstruction
        loss = loss + config.speech * speech + config.gap * gap
        self.loop.descend(loss, "generator_adam")
        with torch.no_grad():
            for mean, current in zip(self.average.parameters(), self.generator.parameters()):
                mean.lerp_(current, 1 - config.average)
        return self.processes.mean(
            {
                "G_cls": classification,
                "G_level": level_error,
                "G_rec": reconstruction,
                "G_speech": speech,
                "G_gap": gap,
            }
        )

    def save(self) -> Path:
        """Write the averaged generator and the discriminator; return the generator's file."""
        config, iterations = self.config, self.loop.step
        settings: dict[str, Any] = {
            "channels": config.channels,
            "blocks": config.blocks,
            "config": asdict(config),
            "iterations": iterations,
            "frames": len(self.frames.shapes),
        }
        average = self.average
        if isinstance(average, MapGenerator):
            tensors = emotion_tensors(average.generator)
            if config.augmentation:
                tensors[MEAN_CHANGE] = mean_changes(
                    self.run.models().face, self.frames, self.sampler.shapes
                )
        else:
            tensors = float16_tensors(average)
        path = self.run.save("emotion", tensors, settings)
        judge_settings = {"iterations": iterations, "config": settings["config"]}
        self.run.save("discriminator", float16_tensors(self.discriminator), judge_settings)
        return path

    def save_with_samples(self) -> None:
        """Write the weights and, of the usual generator, a sample sheet."""
        self.save()
        if self.is_usual and self.processes.is_main:
            path = self.run.out / f"samples-{self.loop.step:06d}.png"
            sample_sheet(self.run.models().emotion, self.frames, path)

    def _residual(
        self, maps: torch.Tensor, emotion: torch.Tensor, level: torch.Tensor
    ) -> torch.Tensor:
        """Return the residual maps (N, 3, 64, 64) of emotions (N,) at intensities (N,)."""
        with half_precision(self.device):
            label = functional.one_hot(emotion, len(EMOTIONS)).float() * level[:, None]
            return self.generator(maps, label).float()

    def _judge(
        self, maps: torch.Tensor, emotion: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """Judge maps (N, 3, 64, 64) that should show emotions (N,).

        Returns the realness (N,) as faces of these emotions, the estimated intensity (N,), and the
        logits (N, 8) of the emotion classes.
        """
        maps = maps.contiguous(memory_format=torch.channels_last)  # the quicker layout on CPUs
        with half_precision(self.device):
            realness, level, logits = self.discriminator(maps, emotion)
        return realness.float(), level.float(), logits.float()

    def _noise(self, maps: torch.Tensor) -> torch.Tensor:
        """Return maps of noise on blend-shape weights, in the shape of given maps."""
        size = (len(maps), len(self.noise_maps))
        weights = self.config.noise * torch.randn(size, device=self.device)
        return (weights @ self.noise_maps).view_as(maps)

    def _gradient_penalty(
        self, real: torch.Tensor, fake: torch.Tensor, emotion: torch.Tensor, mix: torch.Tensor
    ) -> torch.Tensor:
        """Return WGAN-GP's penalty: the squared deviation from 1 of the slope of realness.

        The slope is measured at `mix` (N, 1, 1, 1) of the way from fake to real maps.
        """
        between = (mix * real + (1 - mix) * fake).requires_grad_()
        realness = self._judge(between, emotion)[0]
        slope = torch.autograd.grad(realness.sum(), between, create_graph=True)[0]
        return (slope.flatten(1).norm(dim=1) - 1).square().mean()


def _new_map_generator(face: Face, config: EmotionConfig) -> nn.Module:
    generator = new_generator(face, config.channels, config.blocks)
    return MapGenerator(generator, residual_basis(face)[0])


def lip_opening_of_maps(face: Face) -> torch.Tensor:
    """Return a row (3·64·64,) that gives the lip opening in mm of a map in MAP_UNIT_MM.

    The map has to be in the span of the maps of `observed_shapes`.
    """
    seen = observed_shapes(face)
    opening = face.lip_opening(face.expression_basis[seen])
    basis = map_basis(face, DISCRIMINATOR_MAP_SIZE).flatten(1)[torch.from_numpy(seen)].double()
    gram = basis @ basis.T
    ridge = 1e-6 * gram.diagonal().mean() * torch.eye(len(seen), device=gram.device)
    return (torch.linalg.solve(gram + ridge, torch.from_numpy(opening).double()) @ basis).float()


def mean_changes(face: Face, frames: ActedFrames, shapes: np.ndarray) -> np.ndarray:
    """Return the mean change (8, S) mm of the real faces by each emotion at intensity 1.

    That of the actors' strong frames from their neutral ones, plus the animator's expression, with
    the lips as far open as they were: how wide a mouth opens is up to the speech. It is at most
    MAX_OF_POSE of that expression, as actors and animator together smile too widely.

    An adversarial training ends near the real faces of an emotion, but at 0.7 to 1.4 of their mean
    change, and with other proportions of mouth and brows. The mean is known, so it replaces the
    generator's change of a face at rest; how the change of other faces differs from that is the
    generator's.

    `shapes` (N, S) are the frames' weights that the training uses, see `without_actors_mean`.
    """
    still = np.zeros((1, len(face.mean), 3), np.float32)
    strong = frames.strong[frames.clip]
    neutral, jaw = frames.emotion == NEUTRAL_INDEX, face.expression_names.index("jawOpen")
    span = face.span.reshape(len(face.span), -1)
    means = np.zeros((len(EMOTIONS), len(face.span)), np.float32)
    for number, emotion in enumerate(EMOTIONS):
        if number == NEUTRAL_INDEX:
            continue
        pose = span @ add_expression(face, still, emotion)[0].reshape(-1)
        jaw_open = EMFACS_EXPRESSIONS[emotion]["lower"].get("jawOpen", 0.0)
        pose = _closed(face, pose, jaw_open)
        means[number] = pose
        acted = (frames.emotion == number) & strong
        if acted.any() and neutral.any():
            weights = shapes[acted].mean(0) - shapes[neutral].mean(0)
            added = _closed(face, weights @ face.weights_to_coordinates, float(weights[jaw]))
            along = float(added @ pose / max(float(pose @ pose), 1e-9))
            means[number] += min((MAX_OF_POSE - 1) / max(along, 1e-9), 1) * added
    return means


def _closed(face: Face, change: np.ndarray, jaw_open: float) -> np.ndarray:
    """Return a change (S,) mm without its opening of the lips.

    The jaw closes what its own weight has opened, lips close the rest: if the jaw did, the lower
    teeth would rise.
    """
    of_jaw = face.weights_to_coordinates[face.expression_names.index("jawOpen")]
    opened = float(change @ face.lip_opening_gradient)
    by_jaw = min(opened, jaw_open * float(of_jaw @ face.lip_opening_gradient))
    change = change - max(by_jaw, 0.0) * face.unit_jaw_opening
    return np.asarray(change - change @ lip_gap_gradients(face) @ unit_lip_gaps(face))


def lip_mask(face: Face) -> torch.Tensor:
    """Return the share (64, 64) of the lips in each pixel of a map."""
    lips = np.repeat(face.regions["lips"][None, :, None], 3, 2).astype(np.float32)
    mask = torch.from_numpy(geometry_map(face).encode(lips)[:, 0])
    return functional.adaptive_avg_pool2d(mask, DISCRIMINATOR_MAP_SIZE)[0].clamp(0, 1)


def sample_sheet(model: EmotionModel, frames: ActedFrames, path: Path) -> None:
    """Write an image of real faces, a row each: as they are, then with each emotion."""
    from ..render.appearance import canonical_appearance
    from ..render.images import save_image
    from ..render.software import SoftwareRenderer
    from ..render.view import frame_view

    face = model.face
    rows = np.linspace(0, len(frames.shapes) - 1, SAMPLE_SHEET_ROWS).astype(int)
    before = Motion.from_weights(face, np.arange(len(rows), dtype=np.float64), frames.shapes[rows])
    labels = np.eye(len(EMOTIONS), dtype=np.float32)
    motions = [before, *(model.transfer(before, label, from_neutral=False) for label in labels)]
    columns = [face.mean + motion.displacement(face) for motion in motions]
    view = frame_view(face.mean)
    renderer = SoftwareRenderer(canonical_appearance(face), view, SAMPLE_IMAGE_SIZE)
    try:
        sheet = [
            np.hstack([renderer.draw(column[row]) for column in columns])
            for row in range(len(rows))
        ]
    finally:
        renderer.close()
    save_image(path, np.vstack(sheet))


# ------------------------------------------------------------------------- start from weights


def read_start_weights(run: Run, config: EmotionConfig) -> StartWeights | None:
    """Return the weights that a run starts from, None for random ones; raise if they do not fit."""
    start = run.start_weights("emotion")
    if start:
        names = list(run.models().face.expression_names)
        with check_compatible(start.path, "emotion"):
            start.check(
                channels=(start.settings["channels"], config.channels),
                blocks=(start.settings["blocks"], config.blocks),
                expression_names=(start.settings["expression_names"], names),
            )
    return start


def start_networks(
    generator: nn.Module, discriminator: Discriminator, start: StartWeights, run: Run
) -> None:
    """Give networks the start weights; a discriminator that the set lacks stays random."""
    assert isinstance(generator, MapGenerator)
    with check_compatible(start.path, "emotion"):
        # Keep the linear maps of the face in this run.
        tensors = emotion_tensors(generator.generator)
        fixed = {name: tensors[name] for name in FLOAT32_TENSORS}
        learned = {
            name: a
            for name, a in start.tensors.items()
            if name not in (*FLOAT32_TENSORS, MEAN_CHANGE)
        }
        load_tensors(generator.generator, {**fixed, **learned})
    judge = run.start_weights("discriminator")
    if judge:
        with check_compatible(judge.path, "discriminator"):
            load_tensors(discriminator, judge.tensors)
