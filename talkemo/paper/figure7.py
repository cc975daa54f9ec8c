"""Figure 7 of the paper: a PointNet as the generator of emotion transfer beside the geometry map's."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import torch
from torch.nn import functional

from ..data.captures import Report
from ..data.motion import ActedFrames, acted_frames
from ..evaluation import metrics
from ..evaluation.drawing import draw_faces, new_figure
from ..evaluation.emotion import frames_motion, map_batches, recognised, recordings_of
from ..expression.emotions import PAPER_EMOTIONS, one_hot
from ..face.canonical import Face
from ..face.geometry_map import geometry_map
from ..geometry.meshes import mesh_edges
from ..networks.building import load_tensors
from ..networks.emotion import INNER, UNIT
from ..networks.judges import TRAINED_SIZE
from ..train import emotion
from ..train.emotion import EmotionConfig
from ..train.generator import residual_basis
from ..train.run import Run
from ..weights.files import load_weights
from ..weights.models import Models
from .emotion_training import emotion_config, labelled, of_paper_emotions, temporary_run
from .pointnet import new_pointnet

EVERY_NEUTRAL = 12  # every so many'th neutral dev frame is given each emotion
SHOWN = PAPER_EMOTIONS[1:]  # emotions, the columns of the picture

# What a generator moves the faces of maps (N, 3, 128, 128) in UNIT by, with labels (N, 8): (N, V, 3) mm.
Generate = Callable[[torch.Tensor, torch.Tensor], np.ndarray]


def figure7(
    data: Path,
    cache: Path,
    models: Models,
    output: Path,
    *,
    steps: int | None = None,
    jobs: int = 1,
    progress: Report | None = None,
) -> dict[str, Any]:
    """Write a png of a talking face with each emotion by a PointNet and by the geometry map's generator.

    Both are trained on the same data, with the same losses, for the same iterations. Rows of the result: the share of
    generated dev frames that a classifier recognises; the roughness, the mean distance in mm of a vertex's displacement
    from the mean of its neighbours'; and how far a vertex is moved, mm. models: gives the face. Captures are read from
    `cache` and made there where missing. Raises TalkemoError where matplotlib is not installed.
    """
    new_figure((1, 1))  # refused now rather than after the trainings
    face, config = models.face, emotion_config(steps)
    rows = []
    with TemporaryDirectory() as folder:
        run = temporary_run(Path(folder), data, cache, models, jobs, progress)
        frames = of_paper_emotions(emotion.training_frames(run, ("ravdess",)))
        dev = recordings_of(data, cache, models, jobs=jobs)
        shapes = acted_frames([r for r in dev if r.emotion == "neutral"]).shapes
        before = frames_motion(face, shapes[::EVERY_NEUTRAL]).displacement(face)
        shown = int(metrics.mouth_opening(before, face).argmax())
        emotion.train_classifiers(face, frames, run, config)
        classifier, classes = run.models().classifier("four")
        roughness = Roughness(face)
        pictures = [[face.mean + before[shown]] * len(SHOWN)]
        for name, trained in (("PointNet", trained_pointnet), ("geometry map", _trained_generator)):
            generate = trained(face, frames, labelled(run, name), config)
            pictures.append([])
            for which in SHOWN:
                shift = moved(face, generate, before, which)
                rows.append(
                    {
                        "generator": name,
                        "emotion": which,
                        "recognised": recognised(classifier, classes, face, before + shift, which),
                        "roughness_mm": roughness(shift),
                        "moved_mm": float(np.linalg.norm(shift, axis=2).mean()),
                    }
                )
                pictures[-1].append(face.mean + before[shown] + shift[shown])
    draw_faces(face, pictures, ("as spoken", "PointNet", "geometry map"), SHOWN, output)
    return {
        "iterations": config.iterations,
        "frames": len(before),
        "output": str(output),
        "rows": rows,
    }


def trained_pointnet(face: Face, frames: ActedFrames, run: Run, config: EmotionConfig) -> Generate:
    """A PointNet trained as the generator. It is trained on the points of a smaller map, and measured on all."""
    path = emotion.fit(face, frames, run, config, generator_of=_small_pointnet)
    network, device, sampling = (
        new_pointnet(face, config.channels),
        run.torch_device,
        geometry_map(face),
    )
    load_tensors(network, load_weights(path, "emotion")[0])
    network.eval().to(device)

    def generate(maps: torch.Tensor, label: torch.Tensor) -> np.ndarray:
        return sampling.decode((network(maps.to(device), label.to(device)) * UNIT).cpu().numpy())

    return generate


def _small_pointnet(face: Face, config: EmotionConfig) -> torch.nn.Module:
    return new_pointnet(face, config.channels, TRAINED_SIZE)


def _trained_generator(
    face: Face, frames: ActedFrames, run: Run, config: EmotionConfig
) -> Generate:
    """The geometry map's generator, trained."""
    emotion.fit(face, frames, run, config)
    model = run.models().emotion
    _, residuals = residual_basis(face)

    def generate(maps: torch.Tensor, label: torch.Tensor) -> np.ndarray:
        pooled = functional.adaptive_avg_pool2d(maps, INNER).to(model.device)
        return np.tensordot(
            model.generator(pooled, label.to(model.device)).cpu().numpy(), residuals, 1
        )

    return generate


def moved(face: Face, generate: Generate, before: np.ndarray, name: str) -> np.ndarray:
    """What an emotion moves displacements (N, V, 3) mm by."""
    label = torch.from_numpy(one_hot(name))[None]
    with torch.inference_mode():
        return np.concatenate(
            [generate(maps, label.expand(len(maps), -1)) for maps in map_batches(face, before)]
        )


class Roughness:
    """Mean distance in mm of displacements (T, V, 3) of a face from the mean over each vertex's neighbours."""

    def __init__(self, face: Face):
        import scipy.sparse as sp

        edges, _ = mesh_edges(face.faces)
        count = len(face.mean)
        graph = sp.coo_matrix(
            (np.ones(2 * len(edges)), np.vstack([edges, edges[:, ::-1]]).T), (count, count)
        ).tocsr()
        self.operator = sp.diags(1 / np.asarray(graph.sum(1))[:, 0]) @ graph - sp.identity(count)

    def __call__(self, displacement: np.ndarray) -> float:
        columns = displacement.transpose(1, 0, 2).reshape(displacement.shape[1], -1)
        return float(
            np.linalg.norm((self.operator @ columns).reshape(len(columns), -1, 3), axis=2).mean()
        )
