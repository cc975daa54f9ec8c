"""Stage 4: emotion transfer, StarGAN with WGAN-GP on geometry maps of acted emotion (3D-TalkEmo, Eq. 4–9).

L_D = −L_adv + λ_cls L_cls^r and L_G = L_adv + λ_cls L_cls^f + λ_rec L_rec. An iteration is one of the discriminator's,
as StarGAN counts them; the generator has its turn every `critic` iterations. One thing differs from the paper: realness
is judged per emotion (as StarGAN v2 does), not for all faces together. A generator that only has to look real and to be
classified as happy squints; one that has to look like the happy faces smiles.
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

from ..data.captures import captures
from ..data.corpora import EMOTIONS
from ..data.motion import acted_shapes, from_rest
from ..emotion import Classifier, map_basis, new_generator, save_network, seen_shapes
from ..face import Face
from .loop import Loop

TRAINED_SIZE = 64  # pixels on a side of the maps in training
CLASSES = ("neutral", "happy", "angry", "surprised")  # of the classifier that judges, as in the paper


@dataclass(frozen=True)
class EmotionConfig:
    """Settings of the emotion transfer's training."""

    iterations: int = 22_000  # of the discriminator; 200,000 in the paper
    batch: int = 16
    learning_rate: float = 2e-4  # 1e-4 in StarGAN; constant for the first half, then falling to 0
    critic: int = 3
    classification: float = 1.0
    reconstruction: float = 10.0
    penalty: float = 10.0
    # Standard deviation of blend-shape weights added to all that the discriminator sees. Without it the generator turns
    # a class over by a tenth of a millimetre that no eye would find.
    noise: float = 0.12
    average: float = 0.998  # decay of the running mean of the generator, each of its turns
    channels: int = 64
    blocks: int = 3
    classifier_steps: int = 2500
    seed: int = 0


class Discriminator(nn.Module):
    """D: maps (N, 3, 64, 64) in UNIT and emotions (N,) → realness (N,) as a face of that emotion, and logits (N, 8)."""

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
    """Train on RAVDESS without its dev actors; writes and returns `out`/emotion.safetensors, and the classifier's."""
    recordings = from_rest(list(captures(data, out / "captures", ("ravdess",), face_path, jobs, progress)), face)
    recordings = [r for r in recordings if r.split == "train"]
    shapes, labels = acted_shapes(recordings)
    basis = map_basis(face, TRAINED_SIZE).flatten(1)
    train_classifier(basis, seen_shapes(face), shapes, labels, out, config)

    torch.manual_seed(config.seed)
    by_emotion = [np.flatnonzero(labels == k) for k in range(len(EMOTIONS))]
    source = torch.from_numpy(shapes)
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    generator = new_generator(face, config.channels, config.blocks, TRAINED_SIZE).to(device)
    discriminator, basis = Discriminator().to(device), basis.to(device)
    average = deepcopy(generator)  # its running mean is what is kept: a generator goes to and fro
    rate, betas = config.learning_rate, (0.5, 0.999)
    optimisers: dict[str, torch.optim.Optimizer] = {
        "generator_adam": torch.optim.Adam(generator.parameters(), rate, betas),
        "discriminator_adam": torch.optim.Adam(discriminator.parameters(), rate, betas),
    }
    modules: dict[str, nn.Module] = {"generator": generator, "discriminator": discriminator, "average": average}
    loop = Loop("emotion", out, modules, optimisers, resume, max_minutes)
    rng = np.random.default_rng(config.seed + loop.step)
    torch.manual_seed(config.seed + loop.step)
    other_side = [face.expression_names.index(_mirrored(name)) for name in face.expression_names]
    figures: dict[str, float] = {}
    seen = basis[torch.from_numpy(seen_shapes(face)).to(device)]

    def blurred(maps: torch.Tensor) -> torch.Tensor:
        shapes = config.noise * torch.randn(len(maps), len(seen), device=device)
        return maps + (shapes @ seen).view_as(maps)

    while loop.step < config.iterations and not loop.out_of_time:
        rate = config.learning_rate * min(1, 2 - 2 * loop.step / config.iterations)
        for optimiser in optimisers.values():
            for group in optimiser.param_groups:
                group["lr"] = rate
        original = torch.from_numpy(rng.integers(len(EMOTIONS), size=config.batch))
        order = torch.from_numpy(rng.permutation(config.batch))
        target = original[order]
        rows = np.array([rng.choice(by_emotion[int(k)]) for k in original])
        chosen = source[rows]
        # A face and its mirror image show the same emotion.
        flipped = torch.from_numpy(rng.random(config.batch) < 0.5)
        chosen[flipped] = chosen[flipped][:, other_side]
        real = (chosen.to(device) @ basis).view(-1, 3, TRAINED_SIZE, TRAINED_SIZE)
        original, target = original.to(device), target.to(device)
        wanted = functional.one_hot(target, len(EMOTIONS)).float()

        with torch.no_grad():
            fake = real + generator(real, wanted)
        shown, fake = blurred(real), blurred(fake)
        realness, logits = discriminator(shown, original)
        adversarial = realness.mean() - discriminator(fake, target)[0].mean()
        classified = functional.cross_entropy(logits, original)
        mix = torch.rand(len(real), 1, 1, 1, device=device)
        between = (mix * shown[order] + (1 - mix) * fake).requires_grad_()  # two faces of one emotion
        slope = torch.autograd.grad(discriminator(between, target)[0].sum(), between, create_graph=True)[0]
        penalty = (slope.flatten(1).norm(dim=1) - 1).square().mean()
        loss = -adversarial + config.penalty * penalty + config.classification * classified
        optimisers["discriminator_adam"].zero_grad()
        loss.backward()
        optimisers["discriminator_adam"].step()
        figures |= {"D_adv": adversarial.item(), "D_cls": classified.item(), "D_gp": penalty.item()}

        loop.step += 1
        if loop.step % config.critic == 0:
            fake = real + generator(real, wanted)
            realness, logits = discriminator(blurred(fake), target)
            classified = functional.cross_entropy(logits, target)
            back = fake + generator(fake, functional.one_hot(original, len(EMOTIONS)).float())
            reconstruction = (back - real).abs().mean()
            loss = -realness.mean() + config.classification * classified + config.reconstruction * reconstruction
            optimisers["generator_adam"].zero_grad()
            loss.backward()
            optimisers["generator_adam"].step()
            with torch.no_grad():
                for mean, now in zip(average.parameters(), generator.parameters()):
                    mean.lerp_(now, 1 - config.average)
            figures |= {"G_cls": classified.item(), "G_rec": reconstruction.item()}
        if loop.step % 300 == 0:
            loop.log(**figures)
            if progress:
                progress("emotion", loop.step, config.iterations)
        if loop.step % 3000 == 0:
            loop.save()
            _export(out, average, config, loop, len(shapes))
    loop.save()
    return _export(out, average, config, loop, len(shapes))


def _mirrored(name: str) -> str:
    """The blend shape of the other side."""
    for a, b in (("_L", "_R"), ("_R", "_L"), ("Left", "Right"), ("Right", "Left")):
        if name.endswith(a):
            return name[: -len(a)] + b
    return name


def _export(out: Path, generator: nn.Module, config: EmotionConfig, loop: Loop, frames: int) -> Path:
    path = out / "emotion.safetensors"
    settings = {"channels": config.channels, "blocks": config.blocks, "config": asdict(config)}
    settings |= {"iterations": loop.step, "minutes": round(loop.minutes, 1), "frames": frames}
    save_network(path, "emotion", generator, settings)
    return path


def train_classifier(
    basis: torch.Tensor, seen: np.ndarray, shapes: np.ndarray, labels: np.ndarray, out: Path, config: EmotionConfig
) -> Path:
    """The classifier that judges generated emotions, on real frames of the four classes of the paper, with noise."""
    torch.manual_seed(config.seed)
    classes = [EMOTIONS.index(name) for name in CLASSES]
    chosen = [np.flatnonzero(labels == k) for k in classes]
    source = torch.from_numpy(shapes)
    network = Classifier(len(classes))
    optimiser = torch.optim.Adam(network.parameters(), 1e-3, weight_decay=1e-4)
    rng = np.random.default_rng(config.seed)
    for _ in range(config.classifier_steps):
        answer = rng.integers(len(classes), size=64)
        rows = np.array([rng.choice(chosen[k]) for k in answer])
        blurred = source[rows]
        blurred[:, seen] += config.noise * torch.randn(len(rows), len(seen))
        x = (blurred @ basis).view(-1, 3, TRAINED_SIZE, TRAINED_SIZE)
        loss = functional.cross_entropy(network(x), torch.from_numpy(answer))
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
    path = out / "classifier.safetensors"
    save_network(path, "classifier", network, {"classes": list(CLASSES), "frames": sum(map(len, chosen))})
    return path
