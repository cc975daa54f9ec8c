"""Figure 7 of the paper: emotion transfer by a PointNet, by the geometry map, and by a perceptron."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from ..data.captures import FittedRecording, StepProgress
from ..data.emotion_augmentation import add_expression
from ..data.rest_relative import ActedFrames, acted_frames
from ..evaluation import metrics
from ..evaluation.drawing import draw_faces, new_plot
from ..evaluation.emotion import Recovery, frames_motion, recognition_rate, recordings_of
from ..face.canonical import Face
from ..geometry.meshes import mesh_edges
from ..networks.judges import Classifier
from ..train import emotion
from ..train.emotion import EmotionConfig
from ..train.run import Run
from ..weights.models import Models
from . import PAPER_SEEDS
from .generators import GENERATORS, TrainedGenerator
from .seen import SeenEmotions
from .training import (
    TRANSFERRED_EMOTIONS,
    Trainings,
    mean_and_spread,
    of_paper_emotions,
    paper_emotion_config,
    trainings_folder,
)

FIGURE7_NEUTRAL_STRIDE = 12  # every n-th neutral dev frame is transferred to each emotion
FIGURE7_COLUMNS = ("recognised", "seen", "roughness_mm", "moved_mm", "identity_mm")
POSE = "the animator's pose"  # in place of a generator


def figure7(
    data: Path,
    cache: Path,
    models: Models,
    output: Path,
    *,
    seeds: int = PAPER_SEEDS,
    steps: int | None = None,
    trainings: Path | None = None,
    jobs: int = 1,
    progress: StepProgress | None = None,
) -> dict[str, Any]:
    """Give spoken faces each emotion by each of GENERATORS; render those of the first seed to a png.

    All are trained on the same data, with the same losses, for the same iterations. Raises
    TalkemoError if matplotlib is not installed.

    Parameters
    ----------
    data, cache, models, jobs, progress
        As in `load_captures`; only the face of the models is used.
    output : Path
        The png.
    seeds : int
        Trainings of each generator.
    steps : int, optional
        Iterations of each training. Default: as many as the bundled emotion transfer has.
    trainings : Path, optional
        Folder that keeps the trainings, so that an interrupted run goes on. Default: none are kept.

    Returns
    -------
    dict
        `rows`, of each generator and emotion, means and spreads over seeds: `recognised`, the share
        of dev frames that a classifier of real faces recognises; `seen`, the share of seeds
        whose mean change a face tracker finds nearest to that of java_sed's actors with the same
        emotion, None without tracker or corpus; `roughness_mm`, see `Roughness`; `moved_mm`,
        the mean distance that a vertex is moved; `identity_mm`, the error of the person's neutral
        face when it is recovered from the result. The last three rows are POSE, without spread.
    """
    new_plot((1, 1))  # a missing matplotlib is reported now rather than after the trainings
    face, config = models.face, paper_emotion_config(steps)
    dev = recordings_of(data, cache, models, jobs=jobs)
    spoken = SpokenFrames.of_recordings(face, [r for r in dev if r.emotion == "neutral"])
    with trainings_folder(trainings) as folder:
        kept = Trainings(folder / "figure7", data, cache, models, jobs, progress)
        judged_by = kept.run("classifier")
        frames = of_paper_emotions(emotion.training_frames(judged_by, ("ravdess",)))
        emotion.train_classifiers(face, frames, judged_by, config)
        classifier = judged_by.models().classifier("four")
        judge = Figure7Judge(face, spoken, classifier, SeenEmotions.of_corpus(face, data))
        measured, images = _measure_generators(kept, frames, judge, config, seeds)
    poses = {
        target: add_expression(face, spoken.displacement, target) - spoken.displacement
        for target in TRANSFERRED_EMOTIONS
    }
    measured[POSE] = [judge.measure(poses)]
    draw_faces(face, images, ("as spoken", *GENERATORS), TRANSFERRED_EMOTIONS, output)
    return {
        "iterations": config.iterations,
        "frames": len(spoken.displacement),
        "output": str(output),
        "rows": [row for name, of_seeds in measured.items() for row in _rows(name, of_seeds)],
    }


def _measure_generators(
    trainings: Trainings,
    frames: ActedFrames,
    judge: Figure7Judge,
    config: EmotionConfig,
    seeds: int,
) -> tuple[dict[str, list[dict[str, dict[str, Any]]]], list[list[np.ndarray]]]:
    """Train all generators.

    Returns
    -------
    measured : dict
        Of each generator and seed, the metrics by emotion.
    images : list of lists of (V, 3)
        The shown frame as spoken, and by each generator of the first seed, with each emotion.
    """
    face, spoken = judge.face, judge.spoken
    measured: dict[str, list[dict[str, dict[str, Any]]]] = {name: [] for name in GENERATORS}
    images = [[face.mean + spoken.shown] * len(TRANSFERRED_EMOTIONS)]
    for seed in range(seeds):
        for name in GENERATORS:
            run = trainings.seeded(name, seed, seeds)
            generator = trained_generator(name, face, frames, run, config, seed)
            changes = {
                target: generator.change(spoken.displacement, target)
                for target in TRANSFERRED_EMOTIONS
            }
            measured[name].append(judge.measure(changes))
            if seed == 0:
                images.append([spoken.image(face, change) for change in changes.values()])
    return measured, images


def trained_generator(
    name: str, face: Face, frames: ActedFrames, run: Run, config: EmotionConfig, seed: int = 0
) -> TrainedGenerator:
    """Train one of GENERATORS on acted frames, or go on with its training."""
    path = emotion.train_stargan(
        face, frames, run, replace(config, seed=seed), make_generator=GENERATORS[name]
    )
    return TrainedGenerator.read(name, path, face, config, run.torch_device)


def _rows(name: str, of_seeds: list[dict[str, dict[str, Any]]]) -> list[dict[str, Any]]:
    """The rows of a generator, of its metrics by seed and emotion."""
    rows = []
    for target in TRANSFERRED_EMOTIONS:
        columns = {
            column: None if None in values else mean_and_spread(values)
            for column in FIGURE7_COLUMNS
            if (values := [seed[target][column] for seed in of_seeds])
        }
        rows.append({"generator": name, "emotion": target, **columns})
    return rows


@dataclass(frozen=True, eq=False)
class SpokenFrames:
    """Neutral frames of the dev actors, which are given emotions."""

    displacement: np.ndarray  # (N, V, 3) mm
    person: np.ndarray  # (N,) index of `identities`
    identities: np.ndarray  # (P, I) standardised identity coefficients
    widest: int  # the frame with the widest mouth, which the figure shows

    @classmethod
    def of_recordings(cls, face: Face, recordings: list[FittedRecording]) -> SpokenFrames:
        """Take every FIGURE7_NEUTRAL_STRIDE-th acted frame of recordings."""
        acted = acted_frames(recordings)
        displacement = frames_motion(face, acted.shapes[::FIGURE7_NEUTRAL_STRIDE])
        moved = displacement.displacement(face)
        person = acted.clip[::FIGURE7_NEUTRAL_STRIDE]
        widest = int(metrics.mouth_opening(moved, face).argmax())
        return cls(moved, person, acted.identity, widest)

    @property
    def shown(self) -> np.ndarray:
        """(V, 3) mm, the displacement of the frame that the figure shows."""
        return np.asarray(self.displacement[self.widest])

    def image(self, face: Face, change: np.ndarray) -> np.ndarray:
        """Return the vertices (V, 3) mm of the shown frame with its part of a change (N, V, 3)."""
        return np.asarray(face.mean + self.shown + change[self.widest])


class Figure7Judge:
    """Measures the changes by emotions that a generator makes to spoken frames."""

    def __init__(
        self,
        face: Face,
        spoken: SpokenFrames,
        classifier: tuple[Classifier, list[str]],
        seen: SeenEmotions | None,
    ):
        self.face, self.spoken, self.classifier, self.seen = face, spoken, classifier, seen
        self.spoken_scores = seen.mean_scores(spoken.displacement) if seen is not None else None
        self.roughness, self.recovery = Roughness(face), Recovery(face)
        self.span = face.span.reshape(len(face.span), -1)

    def measure(self, changes: dict[str, np.ndarray]) -> dict[str, dict[str, Any]]:
        """Return FIGURE7_COLUMNS of changes (N, V, 3) mm, by emotion."""
        before = self.spoken.displacement
        nearest = {}
        if self.seen is not None and self.spoken_scores is not None:
            shown = {name: before + change for name, change in changes.items()}
            nearest = self.seen.nearest(self.spoken_scores, shown)
        return {
            name: {
                "recognised": recognition_rate(*self.classifier, self.face, before + change, name),
                "seen": float(nearest[name] == name) if name in nearest else None,
                "roughness_mm": self.roughness(change),
                "moved_mm": float(np.linalg.norm(change, axis=2).mean()),
                "identity_mm": self._identity_error(before + change),
            }
            for name, change in changes.items()
        }

    def _identity_error(self, displacement: np.ndarray) -> float:
        """Mean error in mm of people's neutral faces, recovered from displacements (N, V, 3)."""
        coordinates = displacement.reshape(len(displacement), -1) @ self.span.T
        errors = [
            self.recovery.error(row[None], self.spoken.identities[person])
            for row, person in zip(coordinates, self.spoken.person)
        ]
        return float(np.mean(errors))


class Roughness:
    """Mean distance of a vertex's displacement from the mean of its neighbours', in mm.

    It is called with displacements (T, V, 3) mm.
    """

    def __init__(self, face: Face):
        import scipy.sparse as sp

        edges, _ = mesh_edges(face.faces)
        count = len(face.mean)
        ends = np.vstack([edges, edges[:, ::-1]]).T
        graph = sp.coo_matrix((np.ones(2 * len(edges)), ends), (count, count)).tocsr()
        # Graph Laplacian: the mean of a vertex's neighbours minus the vertex.
        self.operator = sp.diags(1 / np.asarray(graph.sum(1))[:, 0]) @ graph - sp.identity(count)

    def __call__(self, displacement: np.ndarray) -> float:
        columns = displacement.transpose(1, 0, 2).reshape(displacement.shape[1], -1)
        deviation = (self.operator @ columns).reshape(len(columns), -1, 3)
        return float(np.linalg.norm(deviation, axis=2).mean())
