"""Figure 7 of the paper: a PointNet and the geometry map's generator of emotion transfer."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import torch
from torch.nn import functional

from ..data.captures import StepProgress
from ..data.rest_relative import ActedFrames, acted_frames
from ..evaluation import metrics
from ..evaluation.drawing import draw_faces, new_plot
from ..evaluation.emotion import frames_motion, map_batches, recognition_rate, recordings_of
from ..expression.emotions import one_hot
from ..face.canonical import Face
from ..face.geometry_map import geometry_map
from ..geometry.meshes import mesh_edges
from ..networks.building import load_tensors
from ..networks.emotion import GENERATOR_MAP_SIZE, MAP_UNIT_MM
from ..networks.judges import DISCRIMINATOR_MAP_SIZE, Classifier
from ..train import emotion
from ..train.emotion import EmotionConfig
from ..train.generator import residual_basis
from ..train.run import Run
from ..weights.files import load_weights
from ..weights.models import Models
from .pointnet import new_pointnet
from .training import (
    TRANSFERRED_EMOTIONS,
    of_paper_emotions,
    paper_emotion_config,
    training_run,
    with_label,
)

FIGURE7_NEUTRAL_STRIDE = 12  # every n-th neutral dev frame is transferred to each emotion

# Maps (N, 3, 128, 128) in MAP_UNIT_MM and labels (N, 8) → displacements (N, V, 3) mm.
Generate = Callable[[torch.Tensor, torch.Tensor], np.ndarray]


def figure7(
    data: Path,
    cache: Path,
    models: Models,
    output: Path,
    *,
    steps: int | None = None,
    jobs: int = 1,
    progress: StepProgress | None = None,
) -> dict[str, Any]:
    """Render a face with each emotion by a PointNet and by the geometry map's generator, to a png.

    Both are trained on the same data, with the same losses, for the same iterations. Raises
    TalkemoError if matplotlib is not installed.

    Parameters
    ----------
    data, cache, models, jobs, progress
        As in `load_captures`; only the face of the models is used.
    output : Path
        The png.
    steps : int, optional
        Iterations of either training. Default: EMOTION_ITERATIONS.

    Returns
    -------
    dict
        `rows`, of each generator and emotion: the share of generated dev frames that a classifier
        recognises, their roughness (see `Roughness`) and the mean distance that a vertex is moved.
    """
    new_plot((1, 1))  # a missing matplotlib is reported now rather than after the trainings
    face, config = models.face, paper_emotion_config(steps)
    rows = []
    with TemporaryDirectory() as folder:
        run = training_run(Path(folder), data, cache, models, jobs, progress)
        frames = of_paper_emotions(emotion.training_frames(run, ("ravdess",)))
        dev = recordings_of(data, cache, models, jobs=jobs)
        weights = acted_frames([r for r in dev if r.emotion == "neutral"]).shapes
        before = frames_motion(face, weights[::FIGURE7_NEUTRAL_STRIDE]).displacement(face)
        shown = int(metrics.mouth_opening(before, face).argmax())
        emotion.train_classifiers(face, frames, run, config)
        judge = run.models().classifier("four")
        images = [[face.mean + before[shown]] * len(TRANSFERRED_EMOTIONS)]
        for name, train in (("PointNet", trained_pointnet), ("geometry map", _trained_generator)):
            generate = train(face, frames, with_label(run, name), config)
            changes = {
                target: emotion_displacement(face, generate, before, target)
                for target in TRANSFERRED_EMOTIONS
            }
            rows += [{"generator": name, **row} for row in _rows(face, judge, before, changes)]
            images.append(
                [face.mean + before[shown] + change[shown] for change in changes.values()]
            )
    names = ("as spoken", "PointNet", "geometry map")
    draw_faces(face, images, names, TRANSFERRED_EMOTIONS, output)
    iterations, count = config.iterations, len(before)
    return {"iterations": iterations, "frames": count, "output": str(output), "rows": rows}


def _rows(
    face: Face,
    judge: tuple[Classifier, list[str]],
    before: np.ndarray,
    changes: dict[str, np.ndarray],
) -> list[dict[str, Any]]:
    """Metrics of a generator's displacements (N, V, 3) mm of faces `before`, by emotion."""
    roughness = Roughness(face)
    return [
        {
            "emotion": name,
            "recognised": recognition_rate(*judge, face, before + change, name),
            "roughness_mm": roughness(change),
            "moved_mm": float(np.linalg.norm(change, axis=2).mean()),
        }
        for name, change in changes.items()
    ]


def trained_pointnet(face: Face, frames: ActedFrames, run: Run, config: EmotionConfig) -> Generate:
    """Train a PointNet as the generator, on the points of a smaller map than it is used with."""
    path = emotion.train_stargan(face, frames, run, config, make_generator=_small_pointnet)
    network, device = new_pointnet(face, config.channels), run.torch_device
    load_tensors(network, load_weights(path, "emotion")[0])
    network.eval().to(device)

    def generate(maps: torch.Tensor, label: torch.Tensor) -> np.ndarray:
        residual = network(maps.to(device), label.to(device)) * MAP_UNIT_MM
        return geometry_map(face).decode(residual.cpu().numpy())

    return generate


def _small_pointnet(face: Face, config: EmotionConfig) -> torch.nn.Module:
    return new_pointnet(face, config.channels, DISCRIMINATOR_MAP_SIZE)


def _trained_generator(
    face: Face, frames: ActedFrames, run: Run, config: EmotionConfig
) -> Generate:
    """Train the geometry map's generator."""
    emotion.train_stargan(face, frames, run, config)
    model = run.models().emotion
    _, residuals = residual_basis(face)

    def generate(maps: torch.Tensor, label: torch.Tensor) -> np.ndarray:
        pooled = functional.adaptive_avg_pool2d(maps, GENERATOR_MAP_SIZE).to(model.device)
        coordinates = model.generator(pooled, label.to(model.device))
        return np.tensordot(coordinates.cpu().numpy(), residuals, 1)

    return generate


def emotion_displacement(
    face: Face, generate: Generate, displacement: np.ndarray, name: str
) -> np.ndarray:
    """The change (N, V, 3) mm that a generator makes to displacements for an emotion."""
    label = torch.from_numpy(one_hot(name))[None]
    with torch.inference_mode():
        return np.concatenate(
            [
                generate(maps, label.expand(len(maps), -1))
                for maps in map_batches(face, displacement)
            ]
        )


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
