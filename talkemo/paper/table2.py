"""Table 2 of the paper: emotion transfer trained with and without augmentation."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import torch

from ..audio.recording import open_audio
from ..data import emotion_augmentation as augmentation
from ..data.captures import FittedRecording, Report
from ..data.motion import acted_frames
from ..evaluation import metrics
from ..evaluation.emotion import (
    Judge,
    classify,
    joined_frames,
    map_batches,
    recognised,
    recordings_of,
)
from ..expression.emotions import EMOTIONS, PAPER_EMOTIONS, one_hot
from ..face.canonical import Face
from ..face.motion import Motion
from ..networks.emotion import INNER, EmotionModel
from ..networks.judges import Classifier, Discriminator, to_maps
from ..train import emotion
from ..weights.models import Models
from . import SEEDS
from .emotion_training import emotion_config, labelled, of_paper_emotions, spread, temporary_run

EVERY_REAL = 6  # every so many'th real dev frame is measured
SPOKEN_FRAMES = 25  # frames of the talking model's output for each dev recording
FOUR_COLUMNS = [EMOTIONS.index(name) for name in PAPER_EMOTIONS]  # of the discriminator's eight


def table2(
    data: Path,
    cache: Path,
    models: Models,
    *,
    seeds: int = SEEDS,
    steps: int | None = None,
    jobs: int = 1,
    progress: Report | None = None,
) -> dict[str, Any]:
    """Errors of emotion transfer trained with and without augmentation from the same start, on the paper's emotions.

    D: on real dev faces, augmented as those of the training are. D-CE is the share that the discriminator, as the paper
    does it, classifies wrongly; D-RE the mean vertex distance, mm, between a face and itself after transfer to another
    emotion and back, and `D-RE features` the mean distance in the discriminator's last feature layer, which is how the
    paper words it. G: the same on generated faces, emotions given to the talking model's own output. `D-CE classifier` and
    `G-CE classifier` are the error of a classifier that saw real faces only. Each figure has the mean and the spread over seeds. models: gives the face and the talking model. Captures are
    read from `cache` and made there where missing, see `load_captures`.
    """
    face, usual = models.face, emotion_config(steps)
    found: dict[str, list[dict[str, float]]] = {"with augmentation": [], "without": []}
    dev = recordings_of(data, cache, models, jobs=jobs)
    talked = _talked(models, data, dev)
    for seed in range(seeds):
        with TemporaryDirectory() as folder:
            run = temporary_run(Path(folder), data, cache, models, jobs, progress)
            frames = of_paper_emotions(emotion.training_frames(run, ("ravdess",)))
            emotion.train_classifiers(face, frames, run, usual)
            for name, weight in zip(found, (usual.augmentation, 0.0)):
                config = replace(usual, augmentation=weight, seed=seed)
                emotion.fit(face, frames, labelled(run, f"{name}, {seed + 1} of {seeds}"), config)
                trained = run.models()
                classifier, classes = trained.classifier("four")
                real = list(_real_faces(face, dev, weight))
                judges = trained.discriminator, classifier, classes
                figures = _on_real_faces(face, trained.emotion, *judges, real)
                figures |= _on_generated_faces(face, trained.emotion, *judges, talked)
                found[name].append(figures)
    rows = [
        {"training": name, **{c: spread([f[c] for f in every]) for c in every[0]}}
        for name, every in found.items()
    ]
    return {
        "iterations": usual.iterations,
        "real_frames": sum(len(faces) for _, faces in real),
        "generated_frames": (len(PAPER_EMOTIONS) - 1) * len(talked),
        "mask": "all",
        "mask_vertices": len(face.mean),
        "rows": rows,
    }


def _talked(models: Models, data: Path, dev: list[FittedRecording]) -> Motion:
    """Frames of the talking model's output for the neutral recordings."""
    parts = []
    for r in dev:
        if r.emotion == "neutral":
            times = np.linspace(r.capture.time[0], r.capture.time[-1], SPOKEN_FRAMES)
            parts.append(models.talking.motion(open_audio(data / r.audio), times))
    return joined_frames(parts)


def _real_faces(
    face: Face, dev: list[FittedRecording], weight: float
) -> Iterator[tuple[str, np.ndarray]]:
    """The emotion and the displacements (N, V, 3) mm of each recording, augmented with a weight, 0 for not at all."""
    for name in PAPER_EMOTIONS:
        for r in (r for r in dev if r.emotion == name):
            moved = face.displacement(acted_frames([r]).shapes[::EVERY_REAL])
            if weight:
                calm = augmentation.calm_features(face, r.capture.identity)
                moved = augmentation.add_expression(face, moved, name, calm, weight)
            yield name, moved


def _on_real_faces(
    face: Face,
    model: EmotionModel,
    judge: Discriminator,
    classifier: Classifier,
    classes: list[str],
    real: list[tuple[str, np.ndarray]],
) -> dict[str, float]:
    """The columns D of a row."""
    every = np.concatenate([faces for _, faces in real])
    wanted = np.concatenate([[name] * len(faces) for name, faces in real])
    by_judge = np.array(PAPER_EMOTIONS)[classify(_of_four(judge), face, every, model.device)]
    by_classifier = np.array(classes)[classify(classifier, face, every, model.device)]
    back = [_there_and_back(model, faces, name) for name, faces in real]
    distance = [metrics.reconstruction_error(after, faces) for (_, faces), after in zip(real, back)]
    features = [
        _feature_distance(judge, face, after, faces) for (_, faces), after in zip(real, back)
    ]
    return {
        "D-CE": float((by_judge != wanted).mean()),
        "D-RE": float(np.mean(distance)),
        "D-RE features": float(np.mean(features)),
        "D-CE classifier": float((by_classifier != wanted).mean()),
    }


def _on_generated_faces(
    face: Face,
    model: EmotionModel,
    judge: Discriminator,
    classifier: Classifier,
    classes: list[str],
    talked: Motion,
) -> dict[str, float]:
    """The columns G of a row, means over the emotions."""
    wrong, wrong_of_classifier, back, features = [], [], [], []
    for name in PAPER_EMOTIONS[1:]:
        made = model.transfer(talked, one_hot(name))
        answers = classify(_of_four(judge), face, made, model.device)
        wrong.append(float((answers != PAPER_EMOTIONS.index(name)).mean()))
        wrong_of_classifier.append(1 - (recognised(classifier, classes, face, made, name) or 0.0))
        again = model.transfer(made, one_hot("neutral"), from_neutral=False)
        faces = again.displacement(face), talked.displacement(face)
        back.append(metrics.reconstruction_error(*faces))
        features.append(_feature_distance(judge, face, *faces))
    return {
        "G-CE": float(np.mean(wrong)),
        "G-RE": float(np.mean(back)),
        "G-RE features": float(np.mean(features)),
        "G-CE classifier": float(np.mean(wrong_of_classifier)),
    }


def _of_four(judge: Discriminator) -> Judge:
    """The discriminator's logits (N, 4) of the paper's emotions."""
    return lambda maps: judge.logits(maps)[:, FOUR_COLUMNS]


def _there_and_back(model: EmotionModel, faces: np.ndarray, name: str) -> np.ndarray:
    """Faces (N, V, 3) mm of an emotion after transfer to another one and back."""
    other = "neutral" if name != "neutral" else "happy"
    there = Motion(np.arange(len(faces)), _residual(model, faces, other)).displacement(model.face)
    back = Motion(np.arange(len(faces)), _residual(model, faces + there, name)).displacement(
        model.face
    )
    return faces + there + back


def _feature_distance(judge: Discriminator, face: Face, a: np.ndarray, b: np.ndarray) -> float:
    """Mean distance of faces (N, V, 3) mm from others in the discriminator's last feature layer."""
    device, found = next(judge.parameters()).device, []
    with torch.inference_mode():
        for one, other in zip(map_batches(face, a), map_batches(face, b)):
            apart = judge.features(one.to(device)) - judge.features(other.to(device))
            found.append(apart.norm(dim=1).cpu().numpy())
    return float(np.concatenate(found).mean())


def _residual(model: EmotionModel, faces: np.ndarray, name: str) -> np.ndarray:
    """What an emotion adds to displacements (N, V, 3) mm: coordinates (N, S) mm of a motion.

    `EmotionModel.transfer` takes motions. Augmented faces do not lie in the span of the blend shapes, so that they are
    shown to the generator as maps of their own, as they are in training.
    """
    maps = to_maps(model.face, faces, INNER).flatten(1).to(model.device)
    shares = np.broadcast_to(one_hot(name), (len(faces), len(EMOTIONS))).copy()
    return model.residual(maps, model.face.lip_opening(faces), shares)
