"""Metrics of emotion transfer on actors that no network has seen: recognition, speech, identity."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from ..data.captures import FittedRecording, StepProgress, load_captures
from ..data.custom_corpora import find_custom_corpora
from ..data.emotion_augmentation import EMFACS_EXPRESSIONS, add_expression
from ..data.rest_relative import acted_frames, relative_to_rest
from ..errors import InputError
from ..expression.emotions import EMOTIONS, one_hot
from ..face.canonical import Face
from ..face.motion import Motion
from ..networks.judges import Classifier, to_maps
from ..weights.models import Models
from . import metrics
from .actors import ActorChanges, Recognition
from .actors import Judge as PrototypeJudge

# Corpora of acted emotion that have a dev split.
EMOTION_CORPORA = ("ravdess", "java_sed")
JUDGED_MAPS_AT_A_TIME = 128  # bounds the memory
REAL_FRAME_STRIDE = 3  # every n-th real frame is classified
RECOVERED_FRAME_STRIDE = 8  # every n-th generated frame is used for the recovery
RECOVERED_MODES = 30  # identity coefficients that are recovered
RECOVERY_VERTEX_STRIDE = 5  # every n-th vertex is used for the recovery

# Maps (N, 3, 128, 128) in MAP_UNIT_MM → logits (N, classes).
Judge = Callable[[torch.Tensor], torch.Tensor]


@dataclass(frozen=True, eq=False)
class MeanChange:
    """Mean change of a neutral recording by an emotion."""

    speaker: str
    emotion: str
    coordinates: np.ndarray  # (S,) mm


def emotion_corpora(data: Path) -> tuple[str, ...]:
    """Return the corpora of acted emotion in the folder `data`, custom ones last."""
    known = tuple(corpus for corpus in EMOTION_CORPORA if (data / corpus).is_dir())
    return known + tuple(corpus.name for corpus in find_custom_corpora(data) if corpus.acted)


def evaluate_emotion(
    data: Path,
    cache: Path,
    models: Models,
    *,
    corpus: str = "ravdess",
    split: str = "dev",
    actors: dict[str, ActorChanges] | None = None,
    jobs: int = 1,
    progress: StepProgress | None = None,
) -> dict[str, Any]:
    """Measure emotion transfer on the neutral recordings of a split's actors.

    Raises InputError if there are none.

    Parameters
    ----------
    data, cache, models, jobs, progress
        As in `load_captures`.
    corpus, split : str
        One of `emotion_corpora`, and one of `recordings.SPLITS`.
    actors : dict of str to ActorChanges, optional
        By corpus, the actors whose prototypes judge, see `changes_of_actors`.

    Returns
    -------
    dict
        `confusion`: for each judge its classes, and the counts (emotions, classes) of real and of
        generated frames. Judges are the discriminator, and classifiers of four and of eight classes
        trained on real frames of the training actors. `emotions`: one row per emotion, with
        each judge's accuracy, 1 − CE, and the effects of the transfer, see `_transfer_all`.
        `prototypes`: how many of the mean changes by the transfer are nearest to the prototype of
        their emotion, see `_recognised_by_prototypes`.
    """
    face = models.face
    recordings = recordings_of(data, cache, models, corpus, split, jobs, progress)
    neutral = [r for r in recordings if r.emotion == "neutral"]
    if not neutral:
        raise InputError(
            f"{data / corpus}: no neutral recordings of {split} actors",
            "check the folder of the corpora, and the split",
        )
    recovery = Recovery(face)
    real, generated, changes = {}, {}, {}
    mean_changes: list[MeanChange] = []
    for number, emotion in enumerate(EMOTIONS):
        acted = [r for r in recordings if r.emotion == emotion]
        if acted:
            real[emotion] = frames_motion(face, acted_frames(acted).shapes[::REAL_FRAME_STRIDE])
            generated[emotion], changes[emotion], moved = _transfer_all(
                models, recovery, neutral, emotion
            )
            mean_changes += moved
            if progress:
                progress("emotions", number + 1, len(EMOTIONS))
    confusion = _confusion(models, real, generated)
    return {
        "corpus": corpus,
        "recordings": len(neutral),
        "classifier": "perceptrons on maps, real frames of the training actors",
        "classes": {judge: matrix["classes"] for judge, matrix in confusion.items()},
        "split": split,
        "emotions": [
            {"emotion": emotion, **_accuracies(confusion, emotion), **changes[emotion]}
            for emotion in real
        ],
        "confusion": confusion,
        "prototypes": _recognised_by_prototypes(face, mean_changes, actors or {}),
    }


def changes_of_actors(
    data: Path,
    cache: Path,
    models: Models,
    corpus: str,
    jobs: int = 1,
    progress: StepProgress | None = None,
) -> ActorChanges:
    """Return the changes by emotions of all actors of a corpus of acted emotion.

    Parameters as in `load_captures`. Raises InputError if the corpus cannot be used.
    """
    captured = load_captures(data, cache, models, (corpus,), jobs, progress)
    return ActorChanges.of_recordings(relative_to_rest(list(captured), models.face))


def _recognised_by_prototypes(
    face: Face, changes: list[MeanChange], actors: dict[str, ActorChanges]
) -> list[dict[str, Any]]:
    """Count the changes by the transfer that are nearest to the prototype of their emotion.

    Returns
    -------
    list of dict
        One for the augmentation's poses, `prototypes` is `poses`, and one for the actors of each
        corpus. `generated`: the changes by the transfer. A person is left out of the prototypes
        that the own recordings are compared with. `actors`: each actor's changes by the other
        actors' prototypes; None for the poses. See `Recognition.as_json`.
    """
    recognised = Recognition.count((_pose_judge(face), c.emotion, c.coordinates) for c in changes)
    rows: list[dict[str, Any]] = [
        {"prototypes": "poses", "generated": recognised.as_json(), "actors": None}
    ]
    for corpus, of_corpus in actors.items():
        judges = {
            speaker: of_corpus.judge(face, without=speaker)
            for speaker in {change.speaker for change in changes}
        }
        recognised = Recognition.count(
            (judge, c.emotion, c.coordinates) for c in changes if (judge := judges[c.speaker])
        )
        rows.append(
            {
                "prototypes": corpus,
                "generated": recognised.as_json(),
                "actors": of_corpus.held_out(face).as_json(),
            }
        )
    return rows


def _pose_judge(face: Face) -> PrototypeJudge:
    """A judge by the augmentation's poses."""
    still = np.zeros((1, len(face.mean), 3), np.float32)
    span = face.span.reshape(len(face.span), -1)
    return PrototypeJudge.of_prototypes(
        {
            name: span @ add_expression(face, still, name)[0].reshape(-1)
            for name in EMFACS_EXPRESSIONS
        }
    )


def _confusion(
    models: Models, real: dict[str, Motion], generated: dict[str, Motion]
) -> dict[str, dict[str, Any]]:
    """The classes of each judge, and how many frames of each emotion it assigns to each class."""
    judges: dict[str, tuple[Judge, list[str]]] = {
        "four": models.classifier("four"),
        "eight": models.classifier("eight"),
        "discriminator": (models.discriminator.logits, list(EMOTIONS)),
    }
    confusion: dict[str, dict[str, Any]] = {}
    for name, (judge, classes) in judges.items():
        confusion[name] = {"classes": classes, "emotions": list(real)}
        for kind, motions in (("real", real), ("generated", generated)):
            answers = [
                classify(judge, models.face, motion, models.emotion.device)
                for motion in motions.values()
            ]
            confusion[name][kind] = [
                np.bincount(classes_of_frames, minlength=len(classes)).tolist()
                for classes_of_frames in answers
            ]
    return confusion


def _accuracies(confusion: dict[str, dict[str, Any]], emotion: str) -> dict[str, float | None]:
    """Accuracy of each judge on real and generated frames; None if it lacks the class."""
    row: dict[str, float | None] = {}
    for judge, matrix in confusion.items():
        for kind in ("real", "generated"):
            counts = matrix[kind][matrix["emotions"].index(emotion)]
            has_class = emotion in matrix["classes"]
            correct = counts[matrix["classes"].index(emotion)] if has_class else 0
            row[f"{kind}_{judge}"] = correct / sum(counts) if has_class else None
    return row


def _transfer_all(
    models: Models, recovery: Recovery, neutral: list[FittedRecording], emotion: str
) -> tuple[Motion, dict[str, float], list[MeanChange]]:
    """Transfer an emotion to the acted frames of neutral recordings.

    Returns
    -------
    motion : Motion
        All generated frames.
    changes : dict
        Means over recordings. `r_opening`: correlation of the mouth opening before and after the
        transfer; `acceleration`: ratio of the acceleration after to that before; `identity_mm`:
        error of the person's neutral face, recovered from the generated frames; `moved_mm`: mean
        displacement of a vertex. After a second transfer back to neutral, `back_mm` is the mean
        distance of the lips from the original frames, and `r_back` the correlation of the mouth
        opening with the original.
    moved : list of MeanChange
        One per recording.
    """
    face, model = models.face, models.emotion
    motions, clips, moved = [], [], []
    lips = face.regions["lips"]
    for r in neutral:
        before = frames_motion(face, acted_frames([r]).shapes)
        after = model.transfer(before, one_hot(emotion))
        motions.append(after)
        change = (after.coordinates - before.coordinates).mean(0)
        moved.append(MeanChange(r.speaker, emotion, change))
        old, new = before.displacement(face), after.displacement(face)
        back = model.transfer(after, one_hot("neutral"), from_neutral=False).displacement(face)
        opening = metrics.mouth_opening(old, face)
        clips.append(
            {
                "r_opening": metrics.pearson(opening, metrics.mouth_opening(new, face)),
                "acceleration": _acceleration(new) / _acceleration(old),
                "identity_mm": recovery.error(
                    after.coordinates[::RECOVERED_FRAME_STRIDE], r.capture.identity
                ),
                "moved_mm": metrics.reconstruction_error(new, old),
                "back_mm": metrics.reconstruction_error(back[:, lips], old[:, lips]),
                "r_back": metrics.pearson(opening, metrics.mouth_opening(back, face)),
            }
        )
    means = {name: float(np.mean([clip[name] for clip in clips])) for name in clips[0]}
    frames = [len(motion) for motion in motions]
    moved_mm = [clip["moved_mm"] for clip in clips]
    means["moved_mm"] = float(np.average(moved_mm, weights=frames))
    return joined_frames(motions), means, moved


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
    progress: StepProgress | None = None,
) -> list[FittedRecording]:
    """The recordings of a split of a corpus, relative to each person's expression at rest."""
    captured = load_captures(data, cache, models, (corpus,), jobs, progress)
    return [r for r in relative_to_rest(list(captured), models.face) if r.split == split]


def frames_motion(face: Face, weights: np.ndarray) -> Motion:
    """A motion of unrelated frames of blend-shape weights (T, S); its times are frame numbers.

    Emotion transfer treats each frame independently.
    """
    return Motion.from_weights(face, np.arange(len(weights), dtype=np.float64), weights)


def joined_frames(motions: list[Motion]) -> Motion:
    """The frames of several motions as one motion, whose times are frame numbers."""
    coordinates = np.concatenate([motion.coordinates for motion in motions])
    return Motion(np.arange(len(coordinates), dtype=np.float64), coordinates)


def recognition_rate(
    classifier: Classifier,
    classes: list[str],
    face: Face,
    frames: Motion | np.ndarray,
    emotion: str,
) -> float | None:
    """Share of frames (see `map_batches`) classified as an emotion; None without its class."""
    if emotion not in classes:
        return None
    device = next(classifier.parameters()).device
    return float((classify(classifier, face, frames, device) == classes.index(emotion)).mean())


def classify(
    judge: Judge, face: Face, frames: Motion | np.ndarray, device: torch.device
) -> np.ndarray:
    """Class (N,) with the largest logit of each frame, see `map_batches`, on the judge's device."""
    with torch.inference_mode():
        answers = [
            judge(maps.to(device)).argmax(1).cpu().numpy() for maps in map_batches(face, frames)
        ]
    return np.concatenate(answers)


def map_batches(face: Face, frames: Motion | np.ndarray) -> Iterator[torch.Tensor]:
    """Yield geometry maps of frames, in batches.

    Parameters
    ----------
    face : Face
        The face that the frames move.
    frames : Motion or (N, V, 3)
        A motion, or displacements in mm.

    Yields
    ------
    (≤ 128, 3, 128, 128) float32
        Consecutive maps in MAP_UNIT_MM.
    """
    for start in range(0, len(frames), JUDGED_MAPS_AT_A_TIME):
        batch = slice(start, start + JUDGED_MAPS_AT_A_TIME)
        if isinstance(frames, Motion):
            motion = Motion(frames.times[batch], frames.coordinates[batch])
            yield to_maps(face, motion.displacement(face))
        else:
            yield to_maps(face, frames[batch])


class Recovery:
    """Recovers a person's neutral face from an expression.

    Identity coefficients and blend-shape weights are fitted together by regularised least squares.
    """

    def __init__(self, face: Face):
        neutral = np.einsum("rei,e->ri", face.core, face.expression_factor[0])
        basis = face.basis[:, ::RECOVERY_VERTEX_STRIDE]
        modes = (neutral @ face.identity_scale[:, :RECOVERED_MODES]).T  # (modes, R)
        self.modes = np.tensordot(modes, basis, 1).reshape(RECOVERED_MODES, -1)
        self.span = face.span[:, ::RECOVERY_VERTEX_STRIDE].reshape(len(face.span), -1)
        targets = face.expression_basis[:, ::RECOVERY_VERTEX_STRIDE]
        design = np.concatenate([self.modes, targets.reshape(len(targets), -1)]).astype(np.float64)
        gram = design @ design.T
        # A prior on both: a standard deviation of 1 for a coefficient, 1 mm for a coordinate.
        gram[np.diag_indices(len(gram))] += 1
        self.solver = np.linalg.solve(gram, design)

    def error(self, coordinates: np.ndarray, identity: np.ndarray) -> float:
        """Mean distance in mm between a person's neutral face and its recovery from each frame.

        Parameters
        ----------
        coordinates : (T, S)
            Frames of a motion, mm.
        identity : (I,)
            Standardised identity coefficients of the person.
        """
        neutral = identity[:RECOVERED_MODES] @ self.modes[: len(identity)]
        expression = neutral + coordinates @ self.span
        recovered = (expression @ self.solver.T)[:, :RECOVERED_MODES] @ self.modes
        error = (recovered - neutral).reshape(len(recovered), -1, 3)
        return float(np.linalg.norm(error, axis=2).mean())
