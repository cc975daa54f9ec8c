"""How well emotion transfer does: recognition, speech and identity, on dev actors whom no network has seen."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch

from ..data.captures import FittedRecording, Report, load_captures
from ..data.motion import acted_frames, from_rest
from ..errors import InputError
from ..expression.emotions import EMOTIONS, one_hot
from ..face.canonical import Face
from ..face.motion import Motion
from ..networks.emotion import EmotionModel
from ..networks.judges import Classifier, to_maps
from ..weights.models import Models
from . import metrics

CORPORA = ("ravdess", "java_sed")  # corpora of acted emotion that have a dev split
MAPS_AT_A_TIME = 128  # maps judged at a time, which bounds the memory
EVERY_REAL = 3  # every so many'th real frame is classified
EVERY_RECOVERED = 8  # from every so many'th generated frame the person is recovered
RECOVERY_MODES = 30  # identity coefficients that are recovered
RECOVERY_STEP = 5  # every so many'th vertex is used for it

Judge = Callable[
    [torch.Tensor], torch.Tensor
]  # maps (N, 3, 128, 128) in UNIT → logits (N, classes)


def evaluate_emotion(
    data: Path,
    cache: Path,
    models: Models,
    *,
    corpus: str = "ravdess",
    split: str = "dev",
    jobs: int = 1,
    progress: Report | None = None,
) -> dict[str, Any]:
    """What emotion transfer makes of the neutral recordings of a split's actors, a row an emotion.

    real_*, generated_*: accuracy, 1 − classification error, of classifiers trained on real frames of the training
        actors, of four classes and of eight, and of the discriminator, on these actors' real frames and on generated ones
    r_opening: correlation of the mouth opening after and before; acceleration: after, relative to before
    identity_mm: mean distance of a person's neutral face from the one recovered under the emotion, see `Recovery`
    moved_mm: mean distance that the emotion moves a vertex by
    back_mm: mean distance of the lips' vertices from before after the emotion is taken off again, and r_back the
        correlation of the mouth opening
    `confusion` of the result: for each judge its classes, and how many real and generated frames of each emotion it
    takes for each class
    Captures are read from `cache` and made there where missing, see `load_captures`.
    """
    face, model = models.face, models.emotion
    judges: dict[str, tuple[Judge, list[str]]] = {
        name: models.classifier(name) for name in ("four", "eight")
    }
    judges["discriminator"] = models.discriminator.logits, list(EMOTIONS)
    dev = recordings_of(data, cache, models, corpus, split, jobs, progress)
    neutral = [r for r in dev if r.emotion == "neutral"]
    if not neutral:
        raise InputError(
            f"{data / corpus}: no neutral recordings of {split} actors",
            "is it the folder of the corpora, and the split?",
        )
    recovery = Recovery(face)
    rows = []
    confusion: dict[str, dict[str, Any]] = {
        judge: {"classes": classes, "emotions": [], "real": [], "generated": []}
        for judge, (_, classes) in judges.items()
    }
    for number, name in enumerate(EMOTIONS):
        real = [r for r in dev if r.emotion == name]
        if not real:
            continue
        shown = frames_motion(face, acted_frames(real).shapes[::EVERY_REAL])
        generated, changes = _generated(face, model, recovery, neutral, name)
        row: dict[str, Any] = {"emotion": name}
        for judge, (classifier, classes) in judges.items():
            confusion[judge]["emotions"].append(name)
            for kind, faces in (("real", shown), ("generated", generated)):
                answers = classify(classifier, face, faces, model.device)
                counts = np.bincount(answers, minlength=len(classes))
                confusion[judge][kind].append(counts.tolist())
                own = counts[classes.index(name)] / len(answers) if name in classes else None
                row[f"{kind}_{judge}"] = None if own is None else float(own)
        rows.append({**row, **changes})
        if progress:
            progress("emotions", number + 1, len(EMOTIONS))
    return {
        "corpus": corpus,
        "recordings": len(neutral),
        "classifier": "perceptrons on maps, real frames of the training actors",
        "classes": {name: classes for name, (_, classes) in judges.items()},
        "split": split,
        "emotions": rows,
        "confusion": confusion,
    }


def _generated(
    face: Face,
    model: EmotionModel,
    recovery: Recovery,
    neutral: list[FittedRecording],
    emotion: str,
) -> tuple[Motion, dict[str, float]]:
    """The acted frames of neutral recordings with an emotion, and how that changed them."""
    parts, correlation, acceleration, identity, moved, back, r_back = [], [], [], [], [], [], []
    lips = face.regions["lips"]
    for r in neutral:
        before = frames_motion(face, acted_frames([r]).shapes)
        after = model.transfer(before, one_hot(emotion))
        parts.append(after)
        old, new = before.displacement(face), after.displacement(face)
        correlation.append(
            metrics.pearson(metrics.mouth_opening(old, face), metrics.mouth_opening(new, face))
        )
        acceleration.append(_acceleration(new) / _acceleration(old))
        identity.append(recovery.error(after.coordinates[::EVERY_RECOVERED], r.capture.identity))
        moved.append(metrics.reconstruction_error(new, old))
        again = model.transfer(after, one_hot("neutral"), from_neutral=False).displacement(face)
        back.append(metrics.reconstruction_error(again[:, lips], old[:, lips]))
        r_back.append(
            metrics.pearson(metrics.mouth_opening(old, face), metrics.mouth_opening(again, face))
        )
    return joined_frames(parts), {
        "r_opening": float(np.mean(correlation)),
        "acceleration": float(np.mean(acceleration)),
        "identity_mm": float(np.mean(identity)),
        "moved_mm": float(np.average(moved, weights=[len(part) for part in parts])),
        "back_mm": float(np.mean(back)),
        "r_back": float(np.mean(r_back)),
    }


def _acceleration(displacement: np.ndarray) -> float:
    """Mean length of the second differences of displacements (T, V, 3), mm a frame²."""
    return float(np.linalg.norm(np.diff(displacement, 2, axis=0), axis=2).mean())


def recordings_of(
    data: Path,
    cache: Path,
    models: Models,
    corpus: str = "ravdess",
    split: str = "dev",
    jobs: int = 1,
    progress: Report | None = None,
) -> list[FittedRecording]:
    """The recordings of a split of a corpus of acted emotion, as motion from each person's rest."""
    recordings = from_rest(
        list(load_captures(data, cache, models, (corpus,), jobs, progress)), models.face
    )
    return [r for r in recordings if r.split == split]


def frames_motion(face: Face, shapes: np.ndarray) -> Motion:
    """Frames of blend-shape weights (T, S) as a motion. Its times only count them: transfer treats each by itself."""
    return Motion.of_shapes(face, np.arange(len(shapes), dtype=np.float64), shapes)


def joined_frames(parts: list[Motion]) -> Motion:
    """The frames of several motions as one, whose times only count them."""
    coordinates = np.concatenate([part.coordinates for part in parts])
    return Motion(np.arange(len(coordinates), dtype=np.float64), coordinates)


def recognition_rate(
    classifier: Classifier, classes: list[str], face: Face, faces: Motion | np.ndarray, emotion: str
) -> float | None:
    """Share of faces that a classifier takes for an emotion; None where it has no such class. faces: see `map_batches`."""
    if emotion not in classes:
        return None
    return float(
        (classify(classifier, face, faces, _device(classifier)) == classes.index(emotion)).mean()
    )


def classify(
    judge: Judge, face: Face, faces: Motion | np.ndarray, device: torch.device
) -> np.ndarray:
    """Index (N,) of the largest logit of each face, see `map_batches`. device: the judge's"""
    with torch.inference_mode():
        found = [
            judge(maps.to(device)).argmax(1).cpu().numpy() for maps in map_batches(face, faces)
        ]
    return np.concatenate(found)


def map_batches(face: Face, faces: Motion | np.ndarray) -> Iterator[torch.Tensor]:
    """Consecutive maps (≤ 128, 3, 128, 128) in UNIT of the frames of a motion, or of displacements (N, V, 3) mm."""
    for start in range(0, len(faces), MAPS_AT_A_TIME):
        part = slice(start, start + MAPS_AT_A_TIME)
        if isinstance(faces, Motion):
            yield to_maps(
                face, Motion(faces.times[part], faces.coordinates[part]).displacement(face)
            )
        else:
            yield to_maps(face, faces[part])


def _device(network: torch.nn.Module) -> torch.device:
    return next(network.parameters()).device


class Recovery:
    """Recovers a person's neutral face under an expression: the identity and the blend shapes that explain it best."""

    def __init__(self, face: Face):
        neutral = np.einsum("rei,e->ri", face.core, face.expression_factor[0])
        basis = face.basis[:, ::RECOVERY_STEP]
        modes = (neutral @ face.identity_scale[:, :RECOVERY_MODES]).T  # (modes, R)
        self.modes = np.tensordot(modes, basis, 1).reshape(RECOVERY_MODES, -1)
        self.span = face.span[:, ::RECOVERY_STEP].reshape(len(face.span), -1)
        shapes = face.expression_basis[:, ::RECOVERY_STEP].reshape(len(face.expression_names), -1)
        design = np.concatenate([self.modes, shapes]).astype(np.float64)
        gram = design @ design.T
        # A prior on both: a standard deviation of 1 for either coefficient, 1 mm for a vertex coordinate.
        gram[np.diag_indices(len(gram))] += 1
        self.solver = np.linalg.solve(gram, design)

    def error(self, coordinates: np.ndarray, identity: np.ndarray) -> float:
        """Mean distance in mm between a person's neutral face and the one recovered from frames of its motion.

        coordinates: (T, S) mm of a motion; identity: (I,) standardised coefficients of the person
        """
        known = identity[:RECOVERY_MODES] @ self.modes[: len(identity)]
        shown = known + coordinates @ self.span
        found = (shown @ self.solver.T)[:, :RECOVERY_MODES] @ self.modes
        return float(np.linalg.norm((found - known).reshape(len(found), -1, 3), axis=2).mean())
