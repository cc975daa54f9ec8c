"""Stage 4: emotion transfer, StarGAN with WGAN-GP on geometry maps of acted emotion (3D-TalkEmo, Eq. 4–9).

L_D = −L_adv + λ_cls L_cls^r and L_G = L_adv + λ_cls L_cls^f + λ_rec L_rec. An iteration is one of the discriminator's,
as StarGAN counts them; the generator has its turn every `critic` iterations. One thing differs from the paper: realness
is judged per emotion (as StarGAN v2 does), not for all faces together. A generator that only has to look real and to be
classified as happy squints; one that has to look like the happy faces smiles. And two terms are added, so that what is
said stays what it was: the residuals of two frames of a recording have to be the same on the lips, and lips that are
shut stay shut.
"""

from __future__ import annotations

from collections.abc import Callable
from copy import deepcopy
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import torch
from torch import nn
from torch.nn import functional

from ..data import augmentation
from ..data.captures import captures
from ..data.corpora import EMOTIONS
from ..data.motion import Acted, acted, from_rest
from ..emotion import (
    FOUR,
    SHUT,
    TRAINED_SIZE,
    UNIT,
    Classifier,
    Discriminator,
    EmotionModel,
    load_emotion,
    map_basis,
    new_generator,
    save_classifiers,
    save_network,
    seen_shapes,
)
from ..face import Face
from ..geomap import geometry_map
from .loop import Loop, half_precision

# The classes of the classifiers that judge: the paper's, and the corpus's.
CLASSES = {"four": FOUR, "eight": EMOTIONS}


@dataclass(frozen=True)
class EmotionConfig:
    """Settings of the emotion transfer's training."""

    iterations: int = 22_000  # of the discriminator; 200,000 in the paper
    batch: int = 16
    learning_rate: float = 2e-4  # 1e-4 in StarGAN; constant for the first half, then falling to 0
    critic: int = 3
    classification: float = 1.0
    reconstruction: float = 10.0
    speech: float = 5.0  # weight of the difference, on the lips, of the residuals of two frames of a recording
    gap: float = 2.0  # weight, a mm², of what an emotion opens shut lips by: b, m and p must stay shut
    augmentation: float = 0.7  # the animator's weight, see data.augmentation; 0 for none
    weak: float = 0.25  # share of the frames that were not acted strongly
    corpora: tuple[str, ...] = ("ravdess",)
    penalty: float = 10.0
    # Standard deviation of blend-shape weights added to all that the discriminator sees. Without it the generator turns
    # a class over by a tenth of a millimetre that no eye would find.
    noise: float = 0.12
    average: float = 0.998  # decay of the running mean of the generator, each of its turns
    channels: int = 64
    blocks: int = 3
    classifier_steps: int = 2500
    seed: int = 0


def train_emotion(
    face: Face,
    data: Path,
    out: Path,
    config: EmotionConfig,
    resume: bool = False,
    max_minutes: float | None = None,
    jobs: int = 1,
    face_path: str | None = None,
    progress: Callable[[str, int, int], None] | None = None,
) -> Path:
    """Train on the corpora's acted emotion without their dev actors; writes and returns `out`/emotion.safetensors, and the classifier's."""
    frames = training_frames(face, data, out / "captures", config.corpora, face_path, jobs, progress)
    if not (resume and (out / "classifier.safetensors").is_file()):
        train_classifiers(face, frames, out, config)
    return fit(face, frames, out, config, resume, max_minutes, progress)


def training_frames(
    face: Face,
    data: Path,
    cache: Path,
    corpora: tuple[str, ...],
    face_path: str | None = None,
    jobs: int = 1,
    progress: Callable[[str, int, int], None] | None = None,
) -> Acted:
    """The acted frames of corpora without their dev splits."""
    recordings = from_rest(list(captures(data, cache, corpora, face_path, jobs, progress)), face)
    return acted([r for r in recordings if r.split == "train" and r.emotion in EMOTIONS])


def animated_maps(face: Face, frames: Acted) -> tuple[torch.Tensor, torch.Tensor]:
    """What an animator adds: maps (K, 3·64·64) in UNIT, and which of them each clip has with each emotion (clips, 8),
    the first being nothing."""
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
                moved = torch.from_numpy(geometry_map(face).encode(known.displacement[emotion][person][None]) / UNIT)
                maps.append(functional.adaptive_avg_pool2d(moved, TRAINED_SIZE).flatten(1).numpy())
                found[person, emotion] = len(maps) - 1
            row.append(found[person, emotion])
        index.append(row)
    return torch.from_numpy(np.concatenate(maps)), torch.tensor(index)[torch.from_numpy(person_of.reshape(-1))]


def fit(
    face: Face,
    frames: Acted,
    out: Path,
    config: EmotionConfig,
    resume: bool = False,
    max_minutes: float | None = None,
    progress: Callable[[str, int, int], None] | None = None,
    generator_of: Callable[[Face, EmotionConfig], nn.Module] | None = None,
) -> Path:
    """Train on acted frames; writes `out`/emotion.safetensors and `out`/discriminator.safetensors, returns the first.

    generator_of: makes another generator than the usual one
    """
    make = generator_of or (lambda face, c: new_generator(face, c.channels, c.blocks, TRAINED_SIZE))
    torch.manual_seed(config.seed)
    strong = frames.strong[frames.clip]
    by_emotion = [
        [
            found
            if len(found := np.flatnonzero((frames.emotion == k) & (strong == s)))
            else np.flatnonzero(frames.emotion == k)
            for s in (False, True)
        ]
        for k in range(len(EMOTIONS))
    ]
    present = [k for k, found in enumerate(by_emotion) if len(found[1])]
    first = np.searchsorted(frames.clip, np.arange(len(frames.strong) + 1))
    source = torch.from_numpy(frames.shapes)
    added, added_index = animated_maps(face, frames)
    lips, opens = lip_mask(face), opening_row(face)
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    generator, discriminator = make(face, config).to(device), Discriminator().to(device)
    basis = map_basis(face, TRAINED_SIZE).flatten(1).to(device)
    added, lips, opens = added.to(device), lips.to(device), opens.to(device)
    average = deepcopy(generator)  # its running mean is what is kept: a generator goes to and fro
    rate, betas = config.learning_rate, (0.5, 0.999)
    optimisers: dict[str, torch.optim.Optimizer] = {
        "generator_adam": torch.optim.Adam(generator.parameters(), rate, betas),
        "discriminator_adam": torch.optim.Adam(discriminator.parameters(), rate, betas),
    }
    modules: dict[str, nn.Module] = {"generator": generator, "discriminator": discriminator, "average": average}
    settings = {**asdict(config), "iterations": None}
    loop = Loop("emotion", out, modules, optimisers, resume, max_minutes, settings)
    rng = np.random.default_rng(config.seed + loop.step)
    torch.manual_seed(config.seed + loop.step)
    other_side = [face.expression_names.index(_mirrored(name)) for name in face.expression_names]
    figures: dict[str, float] = {}
    seen = basis[torch.from_numpy(seen_shapes(face)).to(device)]

    def blurred(maps: torch.Tensor) -> torch.Tensor:
        shapes = config.noise * torch.randn(len(maps), len(seen), device=device)
        return maps + (shapes @ seen).view_as(maps)

    def drawn(maps: torch.Tensor, label: torch.Tensor) -> torch.Tensor:
        with half_precision():
            return generator(maps, label).float()

    def judged(maps: torch.Tensor, emotion: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        with half_precision():
            realness, logits = discriminator(maps, emotion)
        return realness.float(), logits.float()

    while loop.step < config.iterations and not loop.out_of_time:
        rate = config.learning_rate * min(1, 2 - 2 * loop.step / config.iterations)
        for optimiser in optimisers.values():
            for group in optimiser.param_groups:
                group["lr"] = rate
        original = torch.from_numpy(rng.choice(present, config.batch))
        order = torch.from_numpy(rng.permutation(config.batch))
        target = original[order]
        rows = np.array([rng.choice(by_emotion[int(k)][int(rng.random() >= config.weak)]) for k in original])
        clips = frames.clip[rows]
        others = first[clips] + (rng.random(config.batch) * (first[clips + 1] - first[clips])).astype(int)
        # A face and its mirror image show the same emotion.
        flipped = torch.from_numpy(rng.random(config.batch) < 0.5)
        amount = config.augmentation * added[added_index[clips, original].to(device)]

        def maps_of(numbers: np.ndarray, flipped=flipped, amount=amount) -> torch.Tensor:
            chosen = source[numbers]
            chosen[flipped] = chosen[flipped][:, other_side]
            return (chosen.to(device) @ basis + amount).view(-1, 3, TRAINED_SIZE, TRAINED_SIZE)

        real = maps_of(rows)
        original, target = original.to(device), target.to(device)
        wanted = functional.one_hot(target, len(EMOTIONS)).float()

        with torch.no_grad():
            fake = real + drawn(real, wanted)
        shown, fake = blurred(real), blurred(fake)
        realness, logits = judged(shown, original)
        adversarial = realness.mean() - judged(fake, target)[0].mean()
        classified = functional.cross_entropy(logits, original)
        mix = torch.rand(len(real), 1, 1, 1, device=device)
        between = (mix * shown[order] + (1 - mix) * fake).requires_grad_()  # two faces of one emotion
        slope = torch.autograd.grad(judged(between, target)[0].sum(), between, create_graph=True)[0]
        penalty = (slope.flatten(1).norm(dim=1) - 1).square().mean()
        loss = -adversarial + config.penalty * penalty + config.classification * classified
        optimisers["discriminator_adam"].zero_grad()
        loss.backward()
        optimisers["discriminator_adam"].step()
        figures |= {"D_adv": adversarial.item(), "D_cls": classified.item(), "D_gp": penalty.item()}

        loop.step += 1
        if loop.step % config.critic == 0:
            other = maps_of(others)
            residual, residual_of_other = drawn(torch.cat([real, other]), wanted.repeat(2, 1)).chunk(2)
            fake = real + residual
            same = ((residual - residual_of_other).square() * lips).sum((1, 2, 3)).mean() / lips.sum()
            shut = torch.exp(-(real.flatten(1) @ opens).clamp_min(0) / SHUT)
            gap = ((residual.flatten(1) @ opens).square() * shut).mean()
            realness, logits = judged(blurred(fake), target)
            classified = functional.cross_entropy(logits, target)
            back = fake + drawn(fake, functional.one_hot(original, len(EMOTIONS)).float())
            reconstruction = (back - real).abs().mean()
            loss = -realness.mean() + config.classification * classified
            loss = loss + config.reconstruction * reconstruction + config.speech * same + config.gap * gap
            optimisers["generator_adam"].zero_grad()
            loss.backward()
            optimisers["generator_adam"].step()
            with torch.no_grad():
                for mean, now in zip(average.parameters(), generator.parameters()):
                    mean.lerp_(now, 1 - config.average)
            figures |= {
                "G_cls": classified.item(),
                "G_rec": reconstruction.item(),
                "G_speech": same.item(),
                "G_gap": gap.item(),
            }
        if loop.step % 300 == 0:
            loop.log(**figures)
            if progress:
                progress("emotion", loop.step, config.iterations)
        if loop.step % 3000 == 0:
            loop.save()
            path = _export(out, average, discriminator, config, loop, len(frames.shapes))
            if not generator_of:
                load_emotion.cache_clear()
                sample_sheet(face, load_emotion(face, str(path)), frames, out / f"samples-{loop.step:06d}.png")
    loop.save()
    return _export(out, average, discriminator, config, loop, len(frames.shapes))


def opening_row(face: Face) -> torch.Tensor:
    """(3·64·64,) mm that a map in the span of the blend shapes, in UNIT, opens the middle of the lips by."""
    seen = seen_shapes(face)
    opens = face.lip_opening(face.expression_basis[seen])
    basis = map_basis(face, TRAINED_SIZE).flatten(1)[seen].double()
    gram = basis @ basis.T
    ridge = 1e-6 * gram.diagonal().mean() * torch.eye(len(seen))
    return (torch.linalg.solve(gram + ridge, torch.from_numpy(opens).double()) @ basis).float()


def lip_mask(face: Face) -> torch.Tensor:
    """(64, 64) share of the lips in each pixel of a map."""
    mask = geometry_map(face).encode(np.repeat(face.regions["lips"][None, :, None], 3, 2).astype(np.float32))
    return functional.adaptive_avg_pool2d(torch.from_numpy(mask[:, 0]), TRAINED_SIZE)[0].clamp(0, 1)


def sample_sheet(face: Face, model: EmotionModel, frames: Acted, path: Path) -> None:
    """A picture to look at: real faces, a row each, as they are and with each emotion."""
    import imageio.v3 as imageio

    from ..render import frame_view
    from ..render.software import SoftwareRenderer

    rows = np.linspace(0, len(frames.shapes) - 1, 5).astype(int)
    before = np.tensordot(frames.shapes[rows], face.expression_basis, 1)
    labels = np.eye(len(EMOTIONS), dtype=np.float32)
    columns = [before, *(model.transfer(before, label, from_neutral=False) for label in labels)]
    renderer = SoftwareRenderer(face.faces, frame_view(face.mean), (160, 176))
    try:
        pictures = [np.hstack([renderer.draw(face.mean + c[k]) for c in columns]) for k in range(len(rows))]
    finally:
        renderer.close()
    imageio.imwrite(path, np.vstack(pictures))


def _mirrored(name: str) -> str:
    """The blend shape of the other side."""
    for a, b in (("_L", "_R"), ("_R", "_L"), ("Left", "Right"), ("Right", "Left")):
        if name.endswith(a):
            return name[: -len(a)] + b
    return name


def _export(
    out: Path, generator: nn.Module, discriminator: nn.Module, config: EmotionConfig, loop: Loop, frames: int
) -> Path:
    path = out / "emotion.safetensors"
    settings = {"channels": config.channels, "blocks": config.blocks, "config": asdict(config)}
    settings |= {"iterations": loop.step, "minutes": round(loop.minutes, 1), "frames": frames}
    save_network(path, "emotion", generator, settings)
    save_network(out / "discriminator.safetensors", "discriminator", discriminator, {"iterations": loop.step})
    return path


def train_classifiers(face: Face, frames: Acted, out: Path, config: EmotionConfig) -> Path:
    """The classifiers that judge generated emotions, of four classes and of eight, on real frames only, with noise.

    What an animator added they have never seen.
    """
    source, seen = torch.from_numpy(frames.shapes), seen_shapes(face)
    basis = map_basis(face, TRAINED_SIZE).flatten(1)
    networks = {}
    for name, classes in CLASSES.items():
        torch.manual_seed(config.seed)
        rng = np.random.default_rng(config.seed)
        chosen = [np.flatnonzero(frames.emotion == EMOTIONS.index(emotion)) for emotion in classes]
        present = [k for k, found in enumerate(chosen) if len(found)]
        network = Classifier(len(classes))
        optimiser = torch.optim.Adam(network.parameters(), 1e-3, weight_decay=1e-4)
        for _ in range(config.classifier_steps):
            answer = rng.choice(present, 64)
            rows = np.array([rng.choice(chosen[k]) for k in answer])
            blurred = source[rows]
            blurred[:, seen] += config.noise * torch.randn(len(rows), len(seen))
            x = (blurred @ basis).view(-1, 3, TRAINED_SIZE, TRAINED_SIZE)
            loss = functional.cross_entropy(network(x), torch.from_numpy(answer))
            optimiser.zero_grad()
            loss.backward()
            optimiser.step()
        networks[name] = network
    path = out / "classifier.safetensors"
    save_classifiers(path, networks, {name: list(classes) for name, classes in CLASSES.items()}, len(source))
    return path
