"""Table 2 of the paper: emotion transfer trained with and without augmentation."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from ..audio.recording import open_audio
from ..data import emotion_augmentation
from ..data.captures import FittedRecording, StepProgress
from ..data.rest_relative import ActedFrames, acted_frames
from ..evaluation import metrics
from ..evaluation.emotion import (
    classify,
    joined_frames,
    map_batches,
    recognition_rate,
    recordings_of,
)
from ..expression.emotions import EMOTIONS, PAPER_EMOTIONS, one_hot
from ..face.canonical import Face
from ..face.motion import Motion
from ..files.writing import atomic_write
from ..networks.emotion import GENERATOR_MAP_SIZE, EmotionModel
from ..networks.judges import Classifier, Discriminator, to_maps
from ..train import emotion
from ..train.emotion_config import EmotionConfig
from ..train.run import Run
from ..weights.models import Models
from . import PAPER_SEEDS
from .training import (
    TRANSFERRED_EMOTIONS,
    Trainings,
    mean_and_spread,
    of_paper_emotions,
    paper_emotion_config,
    trainings_folder,
)

TABLE2_REAL_FRAME_STRIDE = 6  # every n-th real dev frame is measured
TALKING_FRAMES = 25  # frames of the talking model's output that each dev recording contributes
FOUR_COLUMNS = [EMOTIONS.index(name) for name in PAPER_EMOTIONS]  # of the discriminator's eight


@dataclass(frozen=True)
class Networks:
    """The networks of one training, and the names of the classifier's classes."""

    transfer: EmotionModel
    discriminator: Discriminator
    classifier: Classifier
    classes: list[str]

    @classmethod
    def read(cls, run: Run, folder: Path, judge: tuple[Classifier, list[str]]) -> Networks:
        """Read the networks of a training from a folder; `judge` classifies real faces."""
        models = replace(run, out=folder).models()
        transfer = models.emotion
        transfer.mean_change = None  # the generator alone, as in the paper
        return cls(transfer, models.discriminator, *judge)

    @property
    def face(self) -> Face:
        """The canonical face."""
        return self.transfer.face

    def of_paper(self, maps: torch.Tensor) -> torch.Tensor:
        """The discriminator's logits (N, 4) of the paper's emotions, for maps."""
        return self.discriminator.logits(maps)[:, FOUR_COLUMNS]


def table2(
    data: Path,
    cache: Path,
    models: Models,
    *,
    seeds: int = PAPER_SEEDS,
    steps: int | None = None,
    trainings: Path | None = None,
    jobs: int = 1,
    progress: StepProgress | None = None,
) -> dict[str, Any]:
    """Errors of emotion transfer trained with and without augmentation from the same start.

    Parameters
    ----------
    data, cache, models, jobs, progress
        As in `load_captures`.
    seeds, steps : int, optional
        Trainings of each variant, and iterations of each. Default: as many as the bundled emotion
        transfer has. Each seed has a classifier of its own.
    trainings : Path, optional
        Folder that keeps the trainings, so that an interrupted run goes on. Default: none are kept.

    Returns
    -------
    dict
        `rows`, one per variant, with mean and standard deviation over seeds of the columns of
        `_on_real_faces` (D) and `_on_generated_faces` (G), on the paper's emotions. `curve`: the
        same after every 3,000 iterations of these trainings.
    """
    face = models.face
    usual = paper_emotion_config(steps)
    errors: dict[str, list[dict[int, dict[str, float]]]] = {"with augmentation": [], "without": []}
    dev = recordings_of(data, cache, models, jobs=jobs)
    talking = _talking_frames(models, data, dev)
    with trainings_folder(trainings) as folder:
        kept = Trainings(folder / "table2", data, cache, models, jobs, progress)
        frames = of_paper_emotions(emotion.training_frames(kept.run("classifier-0"), ("ravdess",)))
        for seed in range(seeds):
            config = replace(usual, seed=seed)
            judged_by = kept.run(f"classifier-{seed}")
            emotion.train_classifiers(face, frames, judged_by, config)
            judge = judged_by.models().classifier("four")
            for name, weight in zip(errors, (usual.augmentation, 0.0)):
                run = kept.seeded(name, seed, seeds)
                saved = _trained(face, frames, run, replace(config, augmentation=weight))
                real = list(_real_faces(face, dev, weight))
                errors[name].append(
                    {
                        iterations: _errors(Networks.read(run, path, judge), real, talking)
                        for iterations, path in saved.items()
                    }
                )
    rows = [
        {
            "training": name,
            "iterations": iterations,
            **_means([seed[iterations] for seed in of_seeds]),
        }
        for name, of_seeds in errors.items()
        for iterations in of_seeds[0]
    ]
    return {
        "iterations": usual.iterations,
        "real_frames": sum(len(faces) for _, faces in real),
        "generated_frames": len(TRANSFERRED_EMOTIONS) * len(talking),
        "mask": "all",
        "mask_vertices": len(face.mean),
        "rows": [row for row in rows if row["iterations"] == usual.iterations],
        "curve": rows,
    }


def _trained(face: Face, frames: ActedFrames, run: Run, config: EmotionConfig) -> dict[int, Path]:
    """Train emotion transfer, or go on with it; return the folders of its networks by iterations."""

    def path(iterations: int) -> Path:
        return run.out / f"after-{iterations:06d}"

    def keep(iterations: int) -> None:
        path(iterations).mkdir(exist_ok=True)
        for stage in ("emotion", "discriminator"):
            with atomic_write(path(iterations) / f"{stage}.safetensors") as partial:
                shutil.copyfile(run.out / f"{stage}.safetensors", partial)

    emotion.train_stargan(face, frames, run, config, on_save=keep)
    interval = emotion.EMOTION_INTERVALS.weights
    wanted = {*range(interval, config.iterations, interval), config.iterations}
    return {iterations: path(iterations) for iterations in sorted(wanted)}


def _means(errors: list[dict[str, float]]) -> dict[str, Any]:
    """Mean and standard deviation over seeds of each column."""
    return {column: mean_and_spread([row[column] for row in errors]) for column in errors[0]}


def _errors(
    networks: Networks, real: list[tuple[str, np.ndarray]], talking: Motion
) -> dict[str, float]:
    """All columns of a training."""
    return {**_on_real_faces(networks, real), **_on_generated_faces(networks, talking)}


def _talking_frames(models: Models, data: Path, dev: list[FittedRecording]) -> Motion:
    """Frames of the talking model's output for the neutral recordings."""
    parts = []
    for r in dev:
        if r.emotion == "neutral":
            times = np.linspace(r.capture.time[0], r.capture.time[-1], TALKING_FRAMES)
            parts.append(models.talking.motion(open_audio(data / r.audio), times))
    return joined_frames(parts)


def _real_faces(
    face: Face, dev: list[FittedRecording], weight: float
) -> Iterator[tuple[str, np.ndarray]]:
    """Emotion and displacements (N, V, 3) mm of each recording, augmented by a weight."""
    for name in PAPER_EMOTIONS:
        for r in (r for r in dev if r.emotion == name):
            moved = face.displacement(acted_frames([r]).shapes[::TABLE2_REAL_FRAME_STRIDE])
            if weight:
                landmarks = emotion_augmentation.calm_features(face, r.capture.identity)
                moved = emotion_augmentation.add_expression(face, moved, name, landmarks, weight)
            yield name, moved


def _on_real_faces(networks: Networks, real: list[tuple[str, np.ndarray]]) -> dict[str, float]:
    """Errors on real dev faces, augmented as in training.

    D-CE is the discriminator's error rate, as in the paper; `D-CE classifier` is that of a
    classifier trained on real faces only. D-RE is the mean vertex distance in mm between a face and
    its reconstruction after transfer to another emotion and back; `D-RE features` is the mean
    distance in the discriminator's last feature layer, which is the paper's wording.
    """
    face, device = networks.face, networks.transfer.device
    faces = np.concatenate([displacement for _, displacement in real])
    emotions = np.concatenate([[name] * len(displacement) for name, displacement in real])
    by_discriminator = np.array(PAPER_EMOTIONS)[classify(networks.of_paper, face, faces, device)]
    by_classifier = np.array(networks.classes)[classify(networks.classifier, face, faces, device)]
    distance, features = [], []
    for name, before in real:
        after = _there_and_back(networks.transfer, before, name)
        distance.append(metrics.reconstruction_error(after, before))
        features.append(_feature_distance(networks.discriminator, face, after, before))
    return {
        "D-CE": float((by_discriminator != emotions).mean()),
        "D-RE": float(np.mean(distance)),
        "D-RE features": float(np.mean(features)),
        "D-CE classifier": float((by_classifier != emotions).mean()),
    }


def _on_generated_faces(networks: Networks, talking: Motion) -> dict[str, float]:
    """The same errors on the talking model's frames given each emotion; means over emotions."""
    face, transfer = networks.face, networks.transfer
    wrong, wrong_of_classifier, distance, features = [], [], [], []
    for name in TRANSFERRED_EMOTIONS:
        generated = transfer.transfer(talking, one_hot(name))
        answers = classify(networks.of_paper, face, generated, transfer.device)
        wrong.append(float((answers != PAPER_EMOTIONS.index(name)).mean()))
        rate = recognition_rate(networks.classifier, networks.classes, face, generated, name)
        wrong_of_classifier.append(1 - (rate or 0.0))
        back = transfer.transfer(generated, one_hot("neutral"), from_neutral=False)
        after, before = back.displacement(face), talking.displacement(face)
        distance.append(metrics.reconstruction_error(after, before))
        features.append(_feature_distance(networks.discriminator, face, after, before))
    return {
        "G-CE": float(np.mean(wrong)),
        "G-RE": float(np.mean(distance)),
        "G-RE features": float(np.mean(features)),
        "G-CE classifier": float(np.mean(wrong_of_classifier)),
    }


def _there_and_back(transfer: EmotionModel, faces: np.ndarray, name: str) -> np.ndarray:
    """Faces (N, V, 3) mm of an emotion after transfer to another one and back."""
    changed = faces + _residual(transfer, faces, "happy" if name == "neutral" else "neutral")
    return changed + _residual(transfer, changed, name)


def _residual(transfer: EmotionModel, faces: np.ndarray, name: str) -> np.ndarray:
    """The change (N, V, 3) mm of faces (N, V, 3) mm by an emotion.

    `EmotionModel.transfer` takes motions. Augmented faces are not in the span of the blend shapes;
    the generator sees their own maps, as in training.
    """
    maps = to_maps(transfer.face, faces, GENERATOR_MAP_SIZE).flatten(1).to(transfer.device)
    amounts = np.broadcast_to(one_hot(name), (len(faces), len(EMOTIONS))).copy()
    coordinates = transfer.residual(maps, transfer.face.lip_opening(faces), amounts)
    return Motion(np.arange(len(faces)), coordinates).displacement(transfer.face)


def _feature_distance(
    discriminator: Discriminator, face: Face, a: np.ndarray, b: np.ndarray
) -> float:
    """Mean distance of faces (N, V, 3) mm in the discriminator's last feature layer."""
    device, distances = next(discriminator.parameters()).device, []
    with torch.inference_mode():
        for maps_a, maps_b in zip(map_batches(face, a), map_batches(face, b)):
            features = discriminator.features
            difference = features(maps_a.to(device)) - features(maps_b.to(device))
            distances.append(difference.norm(dim=1).cpu().numpy())
    return float(np.concatenate(distances).mean())
