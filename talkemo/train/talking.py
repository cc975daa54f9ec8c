"""Stage 2: the talking model, on neutral speech with captured motion (3D-TalkEmo, section 3.3)."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import torch

from .. import speech
from ..data.captures import captures
from ..data.motion import from_rest
from ..face import Face
from ..talking import COMPONENTS, TalkingNetwork, orthonormal_span, save_talking
from .loop import Loop


@dataclass(frozen=True)
class TalkingConfig:
    """Settings of the talking model's training."""

    learning_rate: float = 1e-4  # Adam, as in the paper
    batch: int = 64
    epochs: int = 100
    velocity: float = 10.0  # weight of the velocity term, as in VOCA
    mouth: float = 4.0  # how much more the lips count than the rest of the face, in the position term
    style_dropout: float = 0.5  # share of windows shown without their style
    # Share of each corpus in a batch: many people speaking freely teach more than one reading a grammar.
    shares: tuple[tuple[str, float], ...] = (("talking", 0.45), ("grid_s1", 0.3), ("ravdess", 0.2), ("java_sed", 0.05))
    seed: int = 0


def train_talking(
    face: Face,
    data: Path,
    out: Path,
    config: TalkingConfig,
    resume: bool = False,
    max_minutes: float | None = None,
    jobs: int = 1,
    face_path: str | None = None,
    progress: Callable[[str, int, int], None] | None = None,
) -> Path:
    """Train on the corpora under `data`; captures are read from `out`/captures and made there where missing.

    Writes and returns `out`/talking.safetensors.
    """
    corpora = tuple(name for name, _ in config.shares)
    recordings = from_rest(list(captures(data, out / "captures", corpora, face_path, jobs, progress)))
    recordings = [r for r in recordings if r.split == "train" and r.emotion in ("neutral", "calm")]
    styles = sorted({r.speaker for r in recordings})
    filters = speech.mel_filters()
    span, triangle = orthonormal_span(face)

    window, target, style, group = [], [], [], []
    for number, r in enumerate(recordings):
        feature = speech.features(speech.open_audio(data / r.audio), filters)
        window.append(speech.windows(feature, r.capture.time).astype(np.float16))
        target.append(r.capture.shapes @ triangle)
        style.append(np.full(len(r.capture.time), styles.index(r.speaker)))
        group.append(np.full(len(r.capture.time), corpora.index(r.corpus)))
        if progress:
            progress("features", number + 1, len(recordings))
    first = np.cumsum([0] + [len(t) for t in target[:-1]])
    windows, targets = torch.from_numpy(np.concatenate(window)), torch.from_numpy(np.concatenate(target))
    style_of, group_of = torch.from_numpy(np.concatenate(style)), np.concatenate(group)
    follows = np.setdiff1d(np.arange(len(targets)), first)  # frames with one before them
    by_corpus = [follows[group_of[follows] == k] for k in range(len(corpora))]
    shares = np.array([share if len(frames) else 0 for (_, share), frames in zip(config.shares, by_corpus)])
    shares /= shares.sum()

    torch.manual_seed(config.seed)
    network = TalkingNetwork(len(filters), len(styles), len(span))
    _start_decoder_at_components(network, targets)
    # A weighted sum of squares over all vertices is a quadratic form of the coordinates; its root makes it a norm.
    position = _root(span, 1 + config.mouth * face.mouth_weight)
    even = _root(span, np.ones_like(face.mouth_weight))

    optimiser = torch.optim.Adam(network.parameters(), config.learning_rate)
    loop = Loop("talking", out, {"network": network}, {"adam": optimiser}, resume, max_minutes)
    steps = config.epochs * (len(follows) // config.batch)
    settings = {"styles": styles, "config": asdict(config), "frames": len(targets), "corpora": corpora}
    rng = np.random.default_rng(config.seed + loop.step)
    network.train()
    sums = torch.zeros(2)
    while loop.step < steps and not loop.out_of_time:
        rows = np.concatenate([rng.choice(f, n) for f, n in zip(by_corpus, rng.multinomial(config.batch, shares)) if n])
        pair = np.concatenate([rows - 1, rows])
        x = _augment(windows[pair].float(), config.batch, rng)
        one_hot = torch.nn.functional.one_hot(style_of[pair], len(styles)).float()
        shown = torch.from_numpy((rng.random(len(rows)) >= config.style_dropout).astype(np.float32)).repeat(2)
        output = network(x, one_hot * shown[:, None])
        error = output - targets[pair]
        position_loss = (error @ position).square().sum(1).mean()
        before, after = error.chunk(2)
        velocity_loss = ((after - before) @ even).square().sum(1).mean()
        optimiser.zero_grad()
        (position_loss + config.velocity * velocity_loss).backward()
        optimiser.step()
        sums += torch.stack([position_loss, velocity_loss]).detach()
        loop.step += 1
        if loop.step % 1000 == 0:
            loop.log(position_mm2=float(sums[0] / 1000), velocity_mm2=float(sums[1] / 1000))
            sums.zero_()
            if progress:
                progress("talking", loop.step, steps)
        if loop.step % 10000 == 0:
            loop.save()
    loop.save()
    path = out / "talking.safetensors"
    save_talking(path, network, filters, {**settings, "steps": loop.step, "minutes": round(loop.minutes, 1)})
    return path


def _start_decoder_at_components(network: TalkingNetwork, targets: torch.Tensor) -> None:
    """The decoder starts as the data's principal components and mean, scaled so that codes are about one."""
    mean = targets.mean(0)
    _, values, right = torch.linalg.svd(targets - mean, full_matrices=False)
    scale = values[:COMPONENTS] / len(targets) ** 0.5
    with torch.no_grad():
        network.decoder.weight.copy_((right[:COMPONENTS] * scale[:, None]).T)
        network.decoder.bias.copy_(mean)


def _root(span: np.ndarray, weight: np.ndarray) -> torch.Tensor:
    """(S, S) matrix R with ‖c @ R‖² = Σ_v weight_v ‖(c @ span)_v‖² / Σ weight, in mm²."""
    per_value = np.repeat(weight / weight.sum(), 3)
    gram = ((span * per_value) @ span.T).astype(np.float64)
    return torch.from_numpy(np.linalg.cholesky(gram + 1e-9 * np.eye(len(gram)))).float()


def _augment(window: torch.Tensor, batch: int, rng: np.random.Generator) -> torch.Tensor:
    """Level, tilt and noise, the same for the two frames of a pair; what is silent stays silent."""
    bands = window.shape[2]
    level = torch.from_numpy(rng.normal(0, 0.04, (batch, 1, 1)).astype(np.float32)).repeat(2, 1, 1)
    tilt = torch.from_numpy(rng.normal(0, 0.06, (batch, 1, 1)).astype(np.float32)).repeat(2, 1, 1)
    noise = torch.from_numpy(rng.normal(0, 0.02, (batch, 1, bands)).astype(np.float32)).repeat(2, 1, 1)
    return window + (level + tilt * torch.linspace(-1, 1, bands) + noise) * (window > 0)
