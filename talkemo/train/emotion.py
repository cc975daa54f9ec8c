"""Stage 4: emotion transfer, StarGAN with WGAN-GP on geometry maps of acted emotion (3D-TalkEmo, Eq. 4–9).

L_D = −L_adv + λ_cls L_cls^r + λ_gp L_gp and L_G = L_adv + λ_cls L_cls^f + λ_rec L_rec. As StarGAN counts them, an
iteration is a step of the discriminator; the generator makes one every `critic` iterations. Two things are changed.

Realness is judged per emotion (as StarGAN v2 does), not for all faces together: a generator that only has to look real
and to be classified as happy squints; one that has to look like the happy faces smiles. And two terms keep the speech:
the residuals of two frames of a recording have to be the same on the lips, and closed lips have to stay closed.

An emotion's intensity is part of its label. Real faces have one by what an animator added to them and by how strongly
the actor was asked to play; the discriminator learns to read it, and the generator has to produce the one it is asked
for.
"""

from __future__ import annotations

from collections.abc import Callable
from copy import deepcopy
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn
from torch.nn import functional

from ..capture.landmarks import seen_shapes
from ..data import emotion_augmentation as augmentation
from ..data.motion import ActedFrames, acted_frames, from_rest
from ..data.utterances import FREE_CORPORA
from ..expression.emotions import EMOTIONS, PAPER_EMOTIONS, effective
from ..face.canonical import Face
from ..face.geometry_map import geometry_map
from ..face.motion import Motion
from ..files.cache import digest
from ..networks.building import load_tensors
from ..networks.emotion import FULL_PRECISION, NEUTRAL, SHUT, EmotionModel, emotion_tensors
from ..networks.judges import (
    TRAINED_SIZE,
    Classifier,
    Discriminator,
    classifier_tensors,
    network_tensors,
)
from ..weights.files import check_compatible, load_weights
from .batches import captured_recordings
from .generator import MapGenerator, map_basis, new_generator, residual_basis, to_maps
from .loop import Latest, Loop, checkpoint_path, half_precision
from .run import Run, StartWeights

# The classes of the classifiers that judge generated emotions: the paper's, and RAVDESS's.
CLASSES = {"four": PAPER_EMOTIONS, "eight": EMOTIONS}
LOG_EVERY, SAVE_EVERY = 300, 3000  # iterations
STRONG = 0.6  # intensity from which on the frames of actors who were asked for a strong emotion are taken
LARGE_ITERATIONS, LARGE_BATCH = 60_000, 32  # where a GPU is present
FREE_ITERATIONS = 11_000  # of the few actors whose recordings are free
SHEET_ROWS = 5  # real faces on a sample sheet
SHEET_SIZE = (160, 176)  # pixels, width and height of each of its pictures


@dataclass(frozen=True)
class EmotionConfig:
    """Settings of the emotion transfer's training."""

    iterations: int = 22_000  # of the discriminator; 200,000 in the paper
    batch: int = 16
    learning_rate: float = (
        2e-4  # Adam; 1e-4 in StarGAN; constant for the first half, then falling to 0
    )
    critic: int = 3  # iterations to a step of the generator
    classification: float = 1.0  # weight, λ_cls
    reconstruction: float = 10.0  # weight, λ_rec
    penalty: float = 10.0  # weight of the gradient penalty, λ_gp
    speech: float = (
        5.0  # weight of the difference, on the lips, of the residuals of two frames of a recording
    )
    level: float = 2.0  # weight of the squared error of the intensity
    gap: float = 2.0  # weight, a mm², of what an emotion opens closed lips by: lips stay closed for b, m and p
    augmentation: float = (
        1.0  # the animator's weight at intensity 1, see data.augmentation; 0 for none
    )
    levels: tuple[float, float] = (0.15, 1.5)  # the least and the largest intensity
    corpora: tuple[str, ...] = ("ravdess",)
    # Standard deviation of blend-shape weights added to all that the discriminator sees. Without it the generator turns
    # a class over by a tenth of a millimetre that no eye would find.
    noise: float = 0.12
    average: float = 0.998  # decay, a step of the generator, of its exponential moving average
    channels: int = 64  # of the generator
    blocks: int = 3  # of the generator
    classifier_steps: int = 2500
    seed: int = 0


# Makes another generator than the usual one: maps (N, 3, 64, 64) in UNIT and labels (N, 8) → residual maps.
GeneratorMaker = Callable[[Face, EmotionConfig], nn.Module]


def emotion_config(seed: int, options: dict[str, Any]) -> EmotionConfig:
    """The settings of `talkemo train emotion` with its options, see `run.train`."""
    config = EmotionConfig(seed=seed)
    if options.get("no_augmentation"):
        config = replace(config, augmentation=0.0)
    if options.get("large"):
        config = replace(config, iterations=LARGE_ITERATIONS, batch=LARGE_BATCH)
    if options.get("java_sed"):
        config = replace(config, corpora=("ravdess", "java_sed"))
    if options.get("free"):
        config = replace(config, corpora=FREE_CORPORA, iterations=FREE_ITERATIONS)
    if options.get("steps") is not None:
        config = replace(config, iterations=options["steps"])
    return config


def train_emotion(run: Run, config: EmotionConfig) -> Path:
    """Train on the corpora's acted emotion without their dev actors; writes and returns `out`/emotion.safetensors.

    Also writes `out`/discriminator.safetensors and `out`/classifier.safetensors.
    """
    read_start(
        run, config
    )  # weights that cannot be started from are refused before the corpora are read
    face = run.models().face
    frames = training_frames(run, config.corpora)
    if not run.resume:  # a checkpoint of an earlier training would be gone on with if this one ends in the classifiers
        run.alone(lambda: checkpoint_path(run, "emotion").unlink(missing_ok=True))
    train_classifiers(face, frames, run, config)
    return fit(face, frames, run, config)


def training_frames(run: Run, corpora: tuple[str, ...]) -> ActedFrames:
    """The acted frames of corpora without their dev splits."""
    models = run.models()
    neutralised = from_rest(list(captured_recordings(run, corpora)), models.face)
    return acted_frames([r for r in neutralised if r.split == "train" and r.emotion in EMOTIONS])


# ------------------------------------------------------------------------------------------------------------- batches


@dataclass(frozen=True, eq=False)
class Batch:
    """Faces of a step, on the training's device.

    real: (N, 3, 64, 64) in UNIT; other: the same of another frame of each face's recording
    original: (N,) the emotion of each face; level: (N,) its intensity, 1 for neutral
    order: (N,) numbers of the faces whose emotion and intensity each face is given
    """

    real: torch.Tensor
    other: torch.Tensor
    original: torch.Tensor
    level: torch.Tensor
    order: torch.Tensor

    @property
    def target(self) -> torch.Tensor:
        """(N,) the emotion that each face is given."""
        return self.original[self.order]

    @property
    def target_level(self) -> torch.Tensor:
        """(N,) the intensity that each face is given."""
        return self.level[self.order]


class FrameSampler:
    """Draws faces: every emotion as often as any other, at all intensities."""

    def __init__(
        self, face: Face, frames: ActedFrames, config: EmotionConfig, device: torch.device
    ):
        self.frames, self.config, self.device = frames, config, device
        self.by_emotion = [_weak_and_strong(frames, k) for k in range(len(EMOTIONS))]
        if (
            config.augmentation
        ):  # emotions that no actor shows: an animator's alone, on neutral faces
            for k, emotion in enumerate(EMOTIONS):
                if emotion in augmentation.EMFACS_EXPRESSIONS and not len(self.by_emotion[k][1]):
                    self.by_emotion[k] = self.by_emotion[NEUTRAL]
        self.present = [k for k, (_, strong) in enumerate(self.by_emotion) if len(strong)]
        self.first = np.searchsorted(
            frames.clip, np.arange(len(frames.strong) + 1)
        )  # frame of each recording
        self.basis = map_basis(face, TRAINED_SIZE).flatten(1).to(device)
        added, self.added_index = animated_maps(face, frames)
        self.added = torch.from_numpy(added).to(device)
        self.other_side = [
            face.expression_names.index(_mirrored(name)) for name in face.expression_names
        ]

    def draw(self, rng: np.random.Generator) -> Batch:
        """The faces of a batch."""
        count = self.config.batch
        original = rng.choice(self.present, count)
        order = rng.permutation(count)
        level = np.where(original == NEUTRAL, 1, rng.uniform(*self.config.levels, count)).astype(
            np.float32
        )
        rows = np.array([self._row(*wanted, rng) for wanted in zip(original, level)])
        clips = self.frames.clip[rows]
        others = self.first[clips] + (
            rng.random(count) * (self.first[clips + 1] - self.first[clips])
        ).astype(int)
        flipped = rng.random(count) < 0.5  # a face and its mirror image show the same emotion
        numbers = torch.from_numpy(self.added_index[clips, original]).to(self.device)
        weight = self.config.augmentation * effective(level)
        added = torch.from_numpy(weight).to(self.device)[:, None] * self.added[numbers]
        on_device = [torch.from_numpy(array).to(self.device) for array in (original, level, order)]
        return Batch(
            self._maps(rows, flipped, added), self._maps(others, flipped, added), *on_device
        )

    def _row(self, emotion: int, level: float, rng: np.random.Generator) -> int:
        """A frame of an emotion at an intensity."""
        return rng.choice(self.by_emotion[emotion][int(level >= STRONG)])

    def _maps(self, rows: np.ndarray, flipped: np.ndarray, added: torch.Tensor) -> torch.Tensor:
        """Maps (N, 3, 64, 64) of frames, some of them mirrored, with what an animator added (N, 3·64·64)."""
        shapes = self.frames.shapes[rows]
        shapes[flipped] = shapes[flipped][:, self.other_side]
        maps = torch.from_numpy(shapes).to(self.device) @ self.basis + added
        return maps.view(-1, 3, TRAINED_SIZE, TRAINED_SIZE)


def _weak_and_strong(frames: ActedFrames, emotion: int) -> list[np.ndarray]:
    """Frames of an emotion that were acted weakly, and strongly; all of them where there are none of a kind."""
    every = np.flatnonzero(frames.emotion == emotion)
    kinds = [every[frames.strong[frames.clip[every]] == strong] for strong in (False, True)]
    return [kind if len(kind) else every for kind in kinds]


def animated_maps(face: Face, frames: ActedFrames) -> tuple[np.ndarray, np.ndarray]:
    """What an animator adds to faces: maps (K, 3·64·64) float32 in UNIT, the first of them zeros.

    Second, which of the maps each clip is given with each emotion, (clips, 8).
    """
    known = augmentation.candidates(face)
    maps, index, found = [np.zeros((1, 3 * TRAINED_SIZE**2), np.float32)], [], {}
    people, person_of = np.unique(frames.identity, axis=0, return_inverse=True)
    for identity in people:
        person, row = known.nearest(augmentation.calm_features(face, identity)), []
        for emotion in EMOTIONS:
            if emotion not in known.displacement:
                row.append(0)
                continue
            if (person, emotion) not in found:
                moved = to_maps(face, known.displacement[emotion][person][None], TRAINED_SIZE)
                maps.append(moved.flatten(1).numpy())
                found[person, emotion] = len(maps) - 1
            row.append(found[person, emotion])
        index.append(row)
    return np.concatenate(maps), np.array(index)[person_of.reshape(-1)]


def _mirrored(name: str) -> str:
    """The blend shape of the other side."""
    for a, b in (("_L", "_R"), ("_R", "_L"), ("Left", "Right"), ("Right", "Left")):
        if name.endswith(a):
            return name[: -len(a)] + b
    return name


# ------------------------------------------------------------------------------------------------------------ training


def fit(
    face: Face,
    frames: ActedFrames,
    run: Run,
    config: EmotionConfig,
    generator_of: GeneratorMaker | None = None,
) -> Path:
    """Train on acted frames; writes `out`/emotion.safetensors and `out`/discriminator.safetensors, returns the first.

    generator_of: makes another generator than the usual one; its tensors are saved as they are, in float16
    """
    training = StarGAN(face, run, config, generator_of)
    loop = training.loop
    sampler = FrameSampler(
        face, frames, replace(config, batch=config.batch * run.together.count), training.device
    )
    with loop.whole_steps():
        while loop.step < config.iterations and not loop.out_of_time:
            training.set_rate(config.learning_rate * min(1, 2 - 2 * loop.step / config.iterations))
            batch = sampler.draw(loop.rng)
            loop.figures.add(training.discriminator_step(batch))
            loop.step += 1
            if loop.step % config.critic == 0:
                loop.figures.add(training.generator_step(batch))
            if loop.step % LOG_EVERY == 0:
                loop.log()
                run.report("emotion", loop.step, config.iterations)
            if loop.step % SAVE_EVERY == 0:
                training.save(len(frames.shapes))
                if generator_of is None and run.together.is_main:
                    sample_sheet(
                        run.models().emotion, frames, run.out / f"samples-{loop.step:06d}.png"
                    )
            loop.end_step()
    loop.save()
    return training.save(len(frames.shapes))


class StarGAN:
    """Generator and discriminator with their optimisers and checkpoints, and a step of each."""

    def __init__(
        self,
        face: Face,
        run: Run,
        config: EmotionConfig,
        generator_of: GeneratorMaker | None = None,
    ):
        self.run, self.config, self.device, self.together = (
            run,
            config,
            run.torch_device,
            run.together,
        )
        self.usual = generator_of is None
        start = read_start(run, config) if self.usual else None
        torch.manual_seed(config.seed)
        if generator_of is None:
            generator: nn.Module = MapGenerator(
                new_generator(face, config.channels, config.blocks), residual_basis(face)[0]
            )
        else:
            generator = generator_of(face, config)
        discriminator = Discriminator()
        if start:
            start_networks(generator, discriminator, start, run)
        self.generator, self.discriminator = (
            generator.to(self.device),
            discriminator.to(self.device),
        )
        # The exponential moving average is kept: the raw generator oscillates.
        self.average = deepcopy(self.generator)
        betas = (0.5, 0.999)
        self.optimisers: dict[str, torch.optim.Optimizer] = {
            "generator_adam": torch.optim.Adam(
                self.generator.parameters(), config.learning_rate, betas
            ),
            "discriminator_adam": torch.optim.Adam(
                self.discriminator.parameters(), config.learning_rate, betas
            ),
        }
        modules = {
            "generator": self.generator,
            "discriminator": self.discriminator,
            "average": self.average,
        }
        settings = {**asdict(config), "iterations": None, "face": face.fingerprint}
        torch.manual_seed(
            config.seed
        )  # so that what a generator draws when it is made does not count
        rng = np.random.default_rng(config.seed)
        self.loop = Loop("emotion", run, modules, self.optimisers, settings, rng, Latest())
        self.noise_maps = (
            map_basis(face, TRAINED_SIZE)[torch.from_numpy(seen_shapes(face))]
            .flatten(1)
            .to(self.device)
        )
        self.lips = lip_mask(face).to(self.device)
        self.opening = opening_row(face).to(self.device)

    def set_rate(self, rate: float) -> None:
        """Set the learning rate of both optimisers."""
        for optimiser in self.optimisers.values():
            for group in optimiser.param_groups:
                group["lr"] = rate

    def discriminator_step(self, batch: Batch) -> dict[str, torch.Tensor]:
        """A step of the discriminator; returns its losses."""
        config, part = self.config, self.together.part
        real, original, target = part(batch.real), part(batch.original), part(batch.target)
        with torch.no_grad():
            fake = real + self._residual(real, target, part(batch.target_level))
        shown, fake = batch.real + self._noise(batch.real), fake + part(self._noise(batch.real))
        realness, level, logits = self._judged(part(shown), original)
        adversarial = realness.mean() - self._judged(fake, target)[0].mean()
        classified = functional.cross_entropy(logits, original)
        measured = (level - part(batch.level)).square().mean()
        # Between two faces of one emotion.
        mix = part(torch.rand(len(shown), 1, 1, 1, device=self.device))
        penalty = self._gradient_penalty(part(shown[batch.order]), fake, target, mix)
        loss = (
            -adversarial
            + config.penalty * penalty
            + config.classification * classified
            + config.level * measured
        )
        self._descend("discriminator_adam", loss)
        return self.together.mean(
            {"D_adv": adversarial, "D_cls": classified, "D_level": measured, "D_gp": penalty}
        )

    def generator_step(self, batch: Batch) -> dict[str, torch.Tensor]:
        """A step of the generator and of its average; returns its losses."""
        config, part = self.config, self.together.part
        real, target, target_level = part(batch.real), part(batch.target), part(batch.target_level)
        both = torch.cat([real, part(batch.other)])
        targets, levels = target.repeat(2), target_level.repeat(2)
        residual, residual_of_other = self._residual(both, targets, levels).chunk(2)
        fake = real + residual
        same = ((residual - residual_of_other).square() * self.lips).sum(
            (1, 2, 3)
        ).mean() / self.lips.sum()
        closed = torch.exp(-(real.flatten(1) @ self.opening).clamp_min(0) / SHUT)
        gap = ((residual.flatten(1) @ self.opening).square() * closed).mean()
        realness, level, logits = self._judged(fake + part(self._noise(batch.real)), target)
        classified = functional.cross_entropy(logits, target)
        measured = (level - target_level).square().mean()
        back = fake + self._residual(fake, part(batch.original), part(batch.level))
        reconstruction = (back - real).abs().mean()
        loss = -realness.mean() + config.classification * classified + config.level * measured
        loss = (
            loss + config.reconstruction * reconstruction + config.speech * same + config.gap * gap
        )
        self._descend("generator_adam", loss)
        with torch.no_grad():
            for mean, now in zip(self.average.parameters(), self.generator.parameters()):
                mean.lerp_(now, 1 - config.average)
        losses = {
            "G_cls": classified,
            "G_level": measured,
            "G_rec": reconstruction,
            "G_speech": same,
            "G_gap": gap,
        }
        return self.together.mean(losses)

    def save(self, frames: int) -> Path:
        """Write the averaged generator and the discriminator as they are. frames: the number that was trained on."""
        average = self.average
        tensors = (
            emotion_tensors(average.generator)
            if isinstance(average, MapGenerator)
            else network_tensors(average)
        )
        config, loop = self.config, self.loop
        settings: dict[str, Any] = {
            "channels": config.channels,
            "blocks": config.blocks,
            "config": asdict(config),
        }
        settings |= {"iterations": loop.step, "frames": frames}
        path = self.run.save("emotion", tensors, settings)
        of_judge = {"iterations": loop.step, "config": settings["config"]}
        self.run.save("discriminator", network_tensors(self.discriminator), of_judge)
        return path

    def _residual(
        self, maps: torch.Tensor, emotion: torch.Tensor, level: torch.Tensor
    ) -> torch.Tensor:
        """Residual maps (N, 3, 64, 64) that give maps the emotions (N,) at intensities (N,)."""
        with half_precision(self.device):
            label = functional.one_hot(emotion, len(EMOTIONS)).float() * level[:, None]
            return self.generator(maps, label).float()

    def _judged(
        self, maps: torch.Tensor, emotion: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """Realness (N,) of maps as faces of the emotions (N,), their intensity (N,), and logits (N, 8)."""
        with half_precision(self.device):
            realness, level, logits = self.discriminator(maps, emotion)
        return realness.float(), level.float(), logits.float()

    def _noise(self, maps: torch.Tensor) -> torch.Tensor:
        """What noise on their blend-shape weights adds to maps."""
        shapes = self.config.noise * torch.randn(
            len(maps), len(self.noise_maps), device=self.device
        )
        return (shapes @ self.noise_maps).view_as(maps)

    def _gradient_penalty(
        self, real: torch.Tensor, fake: torch.Tensor, emotion: torch.Tensor, mix: torch.Tensor
    ) -> torch.Tensor:
        """WGAN-GP: squared distance from 1 of the slope of realness between real and generated maps.

        mix: (N, 1, 1, 1), how far between them
        """
        between = (mix * real + (1 - mix) * fake).requires_grad_()
        realness = self._judged(between, emotion)[0]
        slope = torch.autograd.grad(realness.sum(), between, create_graph=True)[0]
        return (slope.flatten(1).norm(dim=1) - 1).square().mean()

    def _descend(self, optimiser: str, loss: torch.Tensor) -> None:
        """A step of one of the optimisers down a loss."""
        self.optimisers[optimiser].zero_grad()
        self.together.share(loss).backward()
        self.together.add_up(
            p for group in self.optimisers[optimiser].param_groups for p in group["params"]
        )
        self.optimisers[optimiser].step()


def opening_row(face: Face) -> torch.Tensor:
    """(3·64·64,) mm that a map in the span of the blend shapes, in UNIT, opens the middle of the lips by."""
    seen = seen_shapes(face)
    opens = face.lip_opening(face.expression_basis[seen])
    basis = map_basis(face, TRAINED_SIZE).flatten(1)[torch.from_numpy(seen)].double()
    gram = basis @ basis.T
    ridge = 1e-6 * gram.diagonal().mean() * torch.eye(len(seen), device=gram.device)
    return (torch.linalg.solve(gram + ridge, torch.from_numpy(opens).double()) @ basis).float()


def lip_mask(face: Face) -> torch.Tensor:
    """(64, 64) share of the lips in each pixel of a map."""
    mask = geometry_map(face).encode(
        np.repeat(face.regions["lips"][None, :, None], 3, 2).astype(np.float32)
    )
    return functional.adaptive_avg_pool2d(torch.from_numpy(mask[:, 0]), TRAINED_SIZE)[0].clamp(0, 1)


def sample_sheet(model: EmotionModel, frames: ActedFrames, path: Path) -> None:
    """Write a picture to look at: some real faces, a row each, as they are and then with each emotion."""
    from ..render.appearance import canonical_appearance
    from ..render.images import save_image
    from ..render.software import SoftwareRenderer
    from ..render.view import frame_view

    face = model.face
    rows = np.linspace(0, len(frames.shapes) - 1, SHEET_ROWS).astype(int)
    before = Motion.of_shapes(face, np.arange(len(rows), dtype=np.float64), frames.shapes[rows])
    labels = np.eye(len(EMOTIONS), dtype=np.float32)
    motions = [before, *(model.transfer(before, label, from_neutral=False) for label in labels)]
    columns = [motion.displacement(face) for motion in motions]
    renderer = SoftwareRenderer(canonical_appearance(face), frame_view(face.mean), SHEET_SIZE)
    try:
        pictures = [
            np.hstack([renderer.draw(face.mean + column[k]) for column in columns])
            for k in range(len(rows))
        ]
    finally:
        renderer.close()
    save_image(path, np.vstack(pictures))


# -------------------------------------------------------------------------------------------------------- classifiers


def train_classifiers(face: Face, frames: ActedFrames, run: Run, config: EmotionConfig) -> Path:
    """Train the classifiers that judge generated emotions; writes and returns `out`/classifier.safetensors.

    There is one of four classes and one of eight. They see real frames only, with noise, and never an animator's. A run
    that resumes keeps those that were trained on the same frames with the same settings.
    """
    path, origin = run.out / "classifier.safetensors", _classifiers_origin(face, frames, config)
    known = (
        run.resume
        and path.is_file()
        and load_weights(path, "classifier")[1].get("trained_on") == origin
    )
    run.together.wait()  # until all know, before the main process writes
    if not known:
        networks = {
            name: _train_classifier(face, frames, name, origin, run, config) for name in CLASSES
        }
        settings = {
            "classes": {name: list(classes) for name, classes in CLASSES.items()},
            "frames": len(frames.shapes),
        }
        run.save(
            "classifier",
            classifier_tensors(networks),
            {**settings, "trained_on": origin, "config": asdict(config)},
        )
    if run.together.is_main:
        for name in CLASSES:
            checkpoint_path(run, f"classifier-{name}").unlink(missing_ok=True)
    return path


def _classifiers_origin(face: Face, frames: ActedFrames, config: EmotionConfig) -> str:
    """Identifies all that the classifiers come from."""
    settings = (face.fingerprint, config.classifier_steps, config.noise, config.seed, CLASSES)
    return digest(*settings, frames.shapes, frames.emotion)[:16]


def _train_classifier(
    face: Face, frames: ActedFrames, name: str, origin: str, run: Run, config: EmotionConfig
) -> Classifier:
    """A classifier of CLASSES, with checkpoints of its own. origin: see `_classifiers_origin`"""
    classes = CLASSES[name]
    device, seen = run.torch_device, torch.from_numpy(seen_shapes(face)).to(run.torch_device)
    source = torch.from_numpy(frames.shapes).to(device)
    basis = map_basis(face, TRAINED_SIZE).flatten(1).to(device)
    torch.manual_seed(config.seed)
    chosen = [np.flatnonzero(frames.emotion == EMOTIONS.index(emotion)) for emotion in classes]
    present = [k for k, found in enumerate(chosen) if len(found)]
    network = Classifier(len(classes)).to(device)
    optimiser = torch.optim.Adam(network.parameters(), 1e-3, weight_decay=1e-4)
    rng = np.random.default_rng(config.seed)
    stage = f"classifier-{name}"
    loop = Loop(stage, run, {"network": network}, {"adam": optimiser}, {"trained_on": origin}, rng)
    with loop.whole_steps():
        while loop.step < config.classifier_steps:
            answer = rng.choice(present, 64)
            rows = np.array([rng.choice(chosen[k]) for k in answer])
            blurred = source[torch.from_numpy(rows).to(device)]
            blurred[:, seen] += config.noise * torch.randn(len(rows), len(seen), device=device)
            x = (blurred @ basis).view(-1, 3, TRAINED_SIZE, TRAINED_SIZE)
            loss = functional.cross_entropy(network(x), torch.from_numpy(answer).to(device))
            optimiser.zero_grad()
            loss.backward()
            optimiser.step()
            loop.step += 1
            if loop.step % LOG_EVERY == 0:
                run.report(stage, loop.step, config.classifier_steps)
            loop.end_step()
    loop.save()
    return network


# ------------------------------------------------------------------------------------------- starting from weights


def read_start(run: Run, config: EmotionConfig) -> StartWeights | None:
    """The generator's weights that a run starts from, None for random ones. Raises InputError where they do not fit."""
    start = run.start_weights("emotion")
    if start:
        with check_compatible(start.path, "emotion"):
            start.check(
                channels=(start.settings["channels"], config.channels),
                blocks=(start.settings["blocks"], config.blocks),
                expression_names=(
                    start.settings["expression_names"],
                    list(run.models().face.expression_names),
                ),
            )
    return start


def start_networks(
    generator: nn.Module, discriminator: Discriminator, start: StartWeights, run: Run
) -> None:
    """Give networks the weights that a run starts from; the discriminator stays random where the set has none."""
    assert isinstance(generator, MapGenerator)
    with check_compatible(start.path, "emotion"):
        # The linear maps are those of the face that is trained for.
        own = emotion_tensors(generator.generator)
        kept = {name: array for name, array in start.tensors.items() if name not in FULL_PRECISION}
        load_tensors(generator.generator, {**{name: own[name] for name in FULL_PRECISION}, **kept})
    judge = run.start_weights("discriminator")
    if judge:
        with check_compatible(judge.path, "discriminator"):
            load_tensors(discriminator, judge.tensors)
