"""The classifiers that judge generated emotions: trained on real frames only."""

from __future__ import annotations

from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch.nn import functional

from ..capture.landmarks import observed_shapes
from ..data.rest_relative import ActedFrames
from ..expression.emotions import EMOTIONS, PAPER_EMOTIONS
from ..face.canonical import Face
from ..files.artefact import Artefact, State
from ..files.cache import digest
from ..networks.judges import DISCRIMINATOR_MAP_SIZE, Classifier, classifier_tensors
from ..weights.files import load_weights
from .checkpoint import checkpoint_path
from .generator import map_basis
from .loop import Intervals, Loop, Losses
from .run import Run

if TYPE_CHECKING:
    from .emotion_config import EmotionConfig

# Classes of each classifier: the paper's, and RAVDESS's.
CLASSIFIER_CLASSES = {"four": PAPER_EMOTIONS, "eight": EMOTIONS}
CLASSIFIER_BATCH = 64  # frames
CLASSIFIER_RATE, CLASSIFIER_WEIGHT_DECAY = 1e-3, 1e-4  # of Adam
CLASSIFIER_INTERVALS = Intervals(progress=50)


def train_classifiers(face: Face, frames: ActedFrames, run: Run, config: EmotionConfig) -> Path:
    """Train a classifier of four emotions and one of eight.

    They see real frames with noise on their blend-shape weights, and none of the animator's. A run
    that resumes keeps classifiers that were trained on the same frames with the same settings.

    Returns
    -------
    Path
        `out`/classifier.safetensors.
    """
    path, fingerprint = run.out / "classifier.safetensors", _fingerprint(face, frames, config)
    classifiers = Artefact(path, fingerprint, _stored_fingerprint)
    is_up_to_date = run.resume and classifiers.state is State.UP_TO_DATE
    run.processes.wait()  # until all processes have read the file, before the main one writes
    if not is_up_to_date:
        networks = {
            name: _train_classifier(face, frames, name, fingerprint, run, config)
            for name in CLASSIFIER_CLASSES
        }
        settings = {
            "classes": {name: list(classes) for name, classes in CLASSIFIER_CLASSES.items()},
            "frames": len(frames.shapes),
            "trained_on": fingerprint,
            "config": asdict(config),
        }
        run.save("classifier", classifier_tensors(networks), settings)
    if run.processes.is_main:
        for name in CLASSIFIER_CLASSES:
            checkpoint_path(run, f"classifier-{name}").unlink(missing_ok=True)
    return path


def _stored_fingerprint(path: Path) -> str | None:
    return load_weights(path, "classifier")[1].get("trained_on")


def _fingerprint(face: Face, frames: ActedFrames, config: EmotionConfig) -> str:
    """Return a digest of all that the classifiers are made from."""
    steps, noise, seed = config.classifier_steps, config.noise, config.seed
    settings = (face.fingerprint, steps, noise, seed, CLASSIFIER_CLASSES)
    return digest(*settings, frames.shapes, frames.emotion)[:16]


def _train_classifier(
    face: Face, frames: ActedFrames, name: str, fingerprint: str, run: Run, config: EmotionConfig
) -> Classifier:
    """Train a classifier of CLASSIFIER_CLASSES, whatever the run's time limit."""
    device = run.torch_device
    seen = torch.from_numpy(observed_shapes(face)).to(device)
    shapes = torch.from_numpy(frames.shapes).to(device)
    basis = map_basis(face, DISCRIMINATOR_MAP_SIZE).flatten(1).to(device)
    torch.manual_seed(config.seed)
    emotions = [EMOTIONS.index(emotion) for emotion in CLASSIFIER_CLASSES[name]]
    frames_of_class = [np.flatnonzero(frames.emotion == emotion) for emotion in emotions]
    present = [k for k, numbers in enumerate(frames_of_class) if len(numbers)]
    network = Classifier(len(emotions)).to(device)
    optimiser = torch.optim.Adam(
        network.parameters(), CLASSIFIER_RATE, weight_decay=CLASSIFIER_WEIGHT_DECAY
    )
    loop = Loop(
        f"classifier-{name}",
        replace(run, max_minutes=None),
        {"network": network},
        {"adam": optimiser},
        {"trained_on": fingerprint},
        config.seed,
    )

    def take_step() -> Losses:
        target = loop.rng.choice(present, CLASSIFIER_BATCH)
        rows = np.array([loop.rng.choice(frames_of_class[k]) for k in target])
        noisy = shapes[torch.from_numpy(rows).to(device)]
        noisy[:, seen] += config.noise * torch.randn(len(rows), len(seen), device=device)
        maps = (noisy @ basis).view(-1, 3, DISCRIMINATOR_MAP_SIZE, DISCRIMINATOR_MAP_SIZE)
        loss = functional.cross_entropy(network(maps), torch.from_numpy(target).to(device))
        loop.descend(loss)
        return {}

    loop.train(config.classifier_steps, take_step, CLASSIFIER_INTERVALS)
    return network
