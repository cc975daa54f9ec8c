"""Stage 3: emotion transfer, StarGAN with WGAN-GP on geometry maps of acted emotion (3D-TalkEmo, Eq. 4–9).

L_D = −L_adv + λ_cls L_cls^r and L_G = L_adv + λ_cls L_cls^f + λ_rec L_rec. An iteration is one of the discriminator's,
as StarGAN counts them; the generator has its turn every `critic` iterations.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import torch
from torch import nn
from torch.nn import functional

from ..data.captures import Fitted, captures
from ..data.corpora import EMOTIONS
from ..data.motion import from_rest
from ..emotion import Classifier, map_basis, new_generator, save_network, seen_shapes
from ..face import Face
from .loop import Loop

# Of each trial: actors come from and go back to rest, and a resting face shows no emotion whatever its label.
ACTED = (0.25, 0.8)
TRAINED_SIZE = 64  # pixels on a side of the maps in training
CLASSES = ("neutral", "happy", "angry", "surprised")  # of the classifier that judges, as in the paper


@dataclass(frozen=True)
class EmotionConfig:
    """Settings of the emotion transfer's training."""

    iterations: int = 40_000  # of the discriminator; 200,000 in the paper
    batch: int = 16
    learning_rate: float = 2e-4  # 1e-4 in StarGAN; constant for the first half, then falling to 0
    critic: int = 3
    classification: float = 1.0
    reconstruction: float = 10.0
    penalty: float = 10.0
    # Standard deviation of blend-shape weights added to all that the discriminator sees. Without it the generator turns
    # a class over by a tenth of a millimetre that no eye would find.
    noise: float = 0.12
    channels: int = 64
    blocks: int = 3
    classifier_steps: int = 2500
    seed: int = 0


class Discriminator(nn.Module):
    """D: maps (N, 3, 64, 64) in UNIT → realness of patches (N, 1, 4, 4) and emotion logits (N, 8)."""

    def __init__(self, channels: int = 16):
        super().__init__()
        layers: list[nn.Module] = []
        before = 3
        for width in (channels, 2 * channels, 4 * channels, 6 * channels):
            layers += [nn.Conv2d(before, width, 4, stride=2, padding=1), nn.LeakyReLU(0.01)]
            before = width
        self.body = nn.Sequential(*layers)
        self.real = nn.Conv2d(before, 1, 3, padding=1)
        self.emotion = nn.Conv2d(before, len(EMOTIONS), TRAINED_SIZE // 16)

    def forward(self, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        x = self.body(x)
        return self.real(x), self.emotion(x).flatten(1)


def acted_shapes(recordings: list[Fitted]) -> tuple[np.ndarray, np.ndarray]:
    """Blend shapes (N, S) of the acted part of recordings, and their emotions (N,) as indices of EMOTIONS."""
    shapes, labels = [], []
    for r in recordings:
        count = len(r.capture.time)
        part = r.capture.shapes[int(ACTED[0] * count) : int(ACTED[1] * count)]
        shapes.append(part)
        labels.append(np.full(len(part), EMOTIONS.index(r.emotion)))
    return np.concatenate(shapes), np.concatenate(labels)


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
    recordings = from_rest(list(captures(data, out / "captures", ("ravdess",), face_path, jobs, progress)))
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
    rate, betas = config.learning_rate, (0.5, 0.999)
    optimisers: dict[str, torch.optim.Optimizer] = {
        "generator_adam": torch.optim.Adam(generator.parameters(), rate, betas),
        "discriminator_adam": torch.optim.Adam(discriminator.parameters(), rate, betas),
    }
    modules: dict[str, nn.Module] = {"generator": generator, "discriminator": discriminator}
    loop = Loop("emotion", out, modules, optimisers, resume, max_minutes)
    rng = np.random.default_rng(config.seed + loop.step)
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
        target = original[torch.from_numpy(rng.permutation(config.batch))]
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
        realness, logits = discriminator(shown)
        adversarial = realness.mean() - discriminator(fake)[0].mean()
        classified = functional.cross_entropy(logits, original)
        mix = torch.rand(len(real), 1, 1, 1, device=device)
        between = (mix * shown + (1 - mix) * fake).requires_grad_()
        slope = torch.autograd.grad(discriminator(between)[0].sum(), between, create_graph=True)[0]
        penalty = (slope.flatten(1).norm(dim=1) - 1).square().mean()
        loss = -adversarial + config.penalty * penalty + config.classification * classified
        optimisers["discriminator_adam"].zero_grad()
        loss.backward()
        optimisers["discriminator_adam"].step()
        figures |= {"D_adv": adversarial.item(), "D_cls": classified.item(), "D_gp": penalty.item()}

        loop.step += 1
        if loop.step % config.critic == 0:
            fake = real + generator(real, wanted)
            realness, logits = discriminator(blurred(fake))
            classified = functional.cross_entropy(logits, target)
            back = fake + generator(fake, functional.one_hot(original, len(EMOTIONS)).float())
            reconstruction = (back - real).abs().mean()
            loss = -realness.mean() + config.classification * classified + config.reconstruction * reconstruction
            optimisers["generator_adam"].zero_grad()
            loss.backward()
            optimisers["generator_adam"].step()
            figures |= {"G_cls": classified.item(), "G_rec": reconstruction.item()}
        if loop.step % 300 == 0:
            loop.log(**figures)
            if progress:
                progress("emotion", loop.step, config.iterations)
        if loop.step % 3000 == 0:
            loop.save()
            _export(out, generator, config, loop, len(shapes))
    loop.save()
    return _export(out, generator, config, loop, len(shapes))


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
