"""How well emotion transfer does: the dev split's figures, Table 2 and Figures 6 and 7 of the paper.

All on ravdess's dev actors, whom neither the networks nor the classifiers have seen, and on java_sed's where it is named.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import torch
from torch import nn
from torch.nn import functional

from . import metrics, speech
from .data import augmentation
from .data.captures import Fitted, captures
from .data.corpora import EMOTIONS
from .data.motion import Acted, acted, from_rest
from .emotion import (
    FOUR,
    TRAINED_SIZE,
    UNIT,
    Classifier,
    Discriminator,
    EmotionModel,
    load_classifier,
    load_discriminator,
    load_emotion,
    load_into,
)
from .errors import TalkemoError
from .evaluation import Progress, weights_of
from .face import Face, load_face, mesh_edges
from .geomap import SIZE, geometry_map
from .weights import load

COLOURS = dict(zip(EMOTIONS, ("#888888", "#4a90d9", "#e8a13a", "#5560b8", "#d0382e", "#8e5aa8", "#5a9e4b", "#2bb3a8")))
SHORT = 6000  # iterations of each training that a suite does by itself


def dev_recordings(
    face: Face,
    data: Path,
    cache: Path,
    corpus: str = "ravdess",
    face_path: str | None = None,
    jobs: int = 1,
    progress: Progress = None,
) -> list[Fitted]:
    """The dev recordings of a corpus of acted emotion, from each person's rest."""
    recordings = from_rest(list(captures(data, cache, (corpus,), face_path, jobs, progress)), face)
    return [r for r in recordings if r.split == "dev"]


def label_of(emotion: str) -> np.ndarray:
    """(8,) float32"""
    return np.eye(len(EMOTIONS), dtype=np.float32)[EMOTIONS.index(emotion)]


def evaluate_emotion(
    data: Path, cache: Path, weights: Path | None, jobs: int, progress: Progress = None, corpus: str = "ravdess"
) -> dict[str, Any]:
    """What emotion transfer makes of the neutral recordings of the dev actors, a row an emotion.

    Recognised is the share of frames that a classifier names rightly which saw only real frames of other actors, of four
    classes and of eight; beside it, the same of these actors' real frames. Then, of generated frames: the correlation of
    the mouth opening with before, the acceleration relative to before, the distance in mm between a person's neutral
    face and the one recovered from the result, and how far the face was moved, mm.
    """
    face_path = weights_of(weights, "face")
    face = load_face(face_path)
    model = load_emotion(face, weights_of(weights, "emotion"))
    judges = {name: load_classifier(weights_of(weights, "classifier"), name) for name in ("four", "eight")}
    dev = dev_recordings(face, data, cache, corpus, face_path, jobs, progress)
    neutral = [r for r in dev if r.emotion == "neutral"]
    spoken = [np.tensordot(acted([r]).shapes, face.expression_basis, 1) for r in neutral]
    still = np.concatenate(spoken)
    recovery = Recovery(face)
    rows = []
    for number, name in enumerate(EMOTIONS):
        real = [r for r in dev if r.emotion == name]
        if not real:
            continue
        shown = np.tensordot(acted(real).shapes[::3], face.expression_basis, 1)
        generated, correlation, acceleration, identity = [], [], [], []
        for r, before in zip(neutral, spoken):
            after = model.transfer(before, label_of(name))
            generated.append(after)
            correlation.append(metrics.pearson(metrics.mouth_opening(before, face), metrics.mouth_opening(after, face)))
            acceleration.append(_acceleration(after) / _acceleration(before))
            identity.append(recovery.error(after[::8], r.capture.identity))
        every = np.concatenate(generated)
        row: dict[str, Any] = {"emotion": name}
        for judge, (classifier, classes) in judges.items():
            for whose, faces in (("real", shown), ("generated", every)):
                row[f"{whose}_{judge}"] = _recognised(classifier, classes, face, faces, name)
        row |= {
            "r_opening": float(np.mean(correlation)),
            "acceleration": float(np.mean(acceleration)),
            "identity_mm": float(np.mean(identity)),
            "moved_mm": float(np.linalg.norm(every - still, axis=2).mean()),
        }
        rows.append(row)
        if progress:
            progress("emotions", number + 1, len(EMOTIONS))
    return {
        "corpus": corpus,
        "recordings": len(neutral),
        "classifier": "perceptrons on maps, real frames of the training actors",
        "classes": {name: classes for name, (_, classes) in judges.items()},
        "emotions": rows,
    }


def _acceleration(motion: np.ndarray) -> float:
    return float(np.linalg.norm(np.diff(motion, 2, axis=0), axis=2).mean())


def _recognised(classifier: Classifier, classes: list[str], face: Face, faces: np.ndarray, name: str) -> float | None:
    """Share of displacements (N, V, 3) in mm that a classifier names rightly; None where it has no such class."""
    if name not in classes:
        return None
    found = _answers(lambda maps: classifier(maps), face, faces)
    return float((found == classes.index(name)).mean())


def _answers(judge: Callable[[torch.Tensor], torch.Tensor], face: Face, faces: np.ndarray) -> np.ndarray:
    """The class (N,) with the largest logit."""
    return np.concatenate([judge(maps).argmax(1).numpy() for maps in _map_batches(face, faces)])


def _map_batches(face: Face, faces: np.ndarray):
    for start in range(0, len(faces), 128):
        with torch.inference_mode():
            yield torch.from_numpy(geometry_map(face).encode(faces[start : start + 128]) / UNIT)


class Recovery:
    """Recovers the neutral face under an expression: the identity and the blend shapes that explain it best."""

    def __init__(self, face: Face, modes: int = 30, step: int = 5):
        neutral = np.einsum("rei,e->ri", face.core, face.expression_factor[0])
        basis = face.basis[:, ::step]
        self.modes = np.tensordot((neutral @ face.identity_scale[:, :modes]).T, basis, 1).reshape(modes, -1)
        shapes = face.expression_basis[:, ::step].reshape(len(face.expression_names), -1)
        design = np.concatenate([self.modes, shapes]).astype(np.float64)
        gram = design @ design.T
        # A prior for both, as wide as people and expressions are, against a millimetre of error a coordinate.
        gram[np.diag_indices(len(gram))] += 1
        self.solver, self.shapes, self.step = np.linalg.solve(gram, design), shapes, step

    def error(self, displacement: np.ndarray, identity: np.ndarray) -> float:
        """Mean distance, mm, of the neutral face of a person from what is recovered of it under (T, V, 3) mm."""
        known = identity[: len(self.modes)] @ self.modes[: len(identity)]
        seen = known + displacement[:, :: self.step].reshape(len(displacement), -1)
        found = (seen @ self.solver.T)[:, : len(self.modes)] @ self.modes
        return float(np.linalg.norm((found - known).reshape(len(found), -1, 3), axis=2).mean())


def table2(
    data: Path,
    cache: Path,
    jobs: int = 1,
    steps: int | None = None,
    progress: Progress = None,
    face: Face | None = None,
) -> dict[str, Any]:
    """Table 2 of the paper: emotion transfer trained with and without augmentation, from the same start.

    D: on real dev faces, made as those of the training are. D-CE is the share that the discriminator, as the paper
    does it, classifies wrongly; D-RE the mean vertex distance, mm, between a face and itself after transfer to another
    emotion and back. G: the same on generated faces, emotions given to the talking model's own output. Beside them the
    error of the classifiers that saw real faces only. Four classes.
    """
    from .talking import load_talking
    from .train.emotion import fit, train_classifiers, training_frames

    face = face or load_face()
    usual = _config(steps)
    frames = _of_four(training_frames(face, data, cache, ("ravdess",), None, jobs, progress))
    dev = dev_recordings(face, data, cache, jobs=jobs)
    talking = load_talking(face)
    spoken = [r for r in dev if r.emotion == "neutral"]
    talked = [
        talking.displacement(speech.open_audio(data / r.audio), np.linspace(r.capture.time[0], r.capture.time[-1], 25))
        for r in spoken
    ]
    talked_faces = np.concatenate(talked)
    rows = []
    with TemporaryDirectory() as folder:
        path = train_classifiers(face, frames, Path(folder), usual)
        classifier, classes = load_classifier(path, "four")
        for name, weight in (("with augmentation", usual.augmentation), ("without", 0.0)):
            config = replace(usual, augmentation=weight)
            report = None if progress is None else (lambda _, done, total, name=name: progress(name, done, total))
            weights = fit(face, frames, Path(folder), config, progress=report)
            load_emotion.cache_clear()
            model = load_emotion(face, str(weights))
            judge = load_discriminator(Path(folder) / "discriminator.safetensors")
            real, answers = [], []
            for emotion in FOUR:
                for r in (r for r in dev if r.emotion == emotion):
                    shapes = acted([r]).shapes[::6]
                    moved = np.tensordot(shapes, face.expression_basis, 1)
                    real.append(
                        augmentation.augment(
                            face, moved, emotion, augmentation.calm_features(face, r.capture.identity), weight
                        )
                        if weight
                        else moved
                    )
                    answers.append(np.full(len(moved), FOUR.index(emotion)))
            faces, wanted = np.concatenate(real), np.concatenate(answers)
            row: dict[str, Any] = {"training": name}
            row["D-CE"] = float((_answers(_four_of(judge), face, faces) != wanted).mean())
            row["D-RE"] = float(np.mean([_there_and_back(model, f, FOUR[int(w[0])]) for f, w in zip(real, answers)]))
            wrong, fooled, back = [], [], []
            for emotion in FOUR[1:]:
                made = model.transfer(talked_faces, label_of(emotion))
                wrong.append(float((_answers(_four_of(judge), face, made) != FOUR.index(emotion)).mean()))
                fooled.append(1 - (_recognised(classifier, classes, face, made, emotion) or 0.0))
                again = model.transfer(made, label_of("neutral"), from_neutral=False)
                back.append(metrics.reconstruction_error(again, talked_faces))
            row["G-CE"], row["G-RE"] = float(np.mean(wrong)), float(np.mean(back))
            row["G-CE classifier"] = float(np.mean(fooled))
            rows.append(row)
    return {
        "iterations": usual.iterations,
        "real_frames": len(wanted),
        "generated_frames": 3 * len(talked_faces),
        "mask": "all",
        "mask_vertices": len(face.mean),
        "rows": rows,
    }


def _config(steps: int | None) -> Any:
    """The settings of a suite's own trainings."""
    from .train.emotion import EmotionConfig

    usual = replace(EmotionConfig(), iterations=steps or SHORT)
    return replace(usual, classifier_steps=min(usual.classifier_steps, usual.iterations))


def _of_four(frames: Acted) -> Acted:
    """The frames of the paper's four emotions."""
    keep = np.isin(frames.emotion, [EMOTIONS.index(name) for name in FOUR])
    return replace(frames, shapes=frames.shapes[keep], emotion=frames.emotion[keep], clip=frames.clip[keep])


def _four_of(judge: Discriminator) -> Callable[[torch.Tensor], torch.Tensor]:
    columns = [EMOTIONS.index(name) for name in FOUR]
    return lambda maps: judge.logits(maps)[:, columns]


def _there_and_back(model: EmotionModel, faces: np.ndarray, emotion: str) -> float:
    other = "neutral" if emotion != "neutral" else "happy"
    there = model.transfer(faces, label_of(other), from_neutral=False)
    return metrics.reconstruction_error(model.transfer(there, label_of(emotion), from_neutral=False), faces)


def figure6(
    data: Path,
    cache: Path,
    output: Path,
    weights: Path | None = None,
    jobs: int = 1,
    progress: Progress = None,
) -> dict[str, Any]:
    """Figure 6 of the paper: the discriminator's last feature layer by PCA and t-SNE, coloured by emotion.

    Above, frames of the dev actors as they were recorded; below, their neutral frames given each emotion. Returns how
    well the classes are apart: the silhouette in the feature layer itself, and the number of points.
    """
    plot, silhouette, pca, tsne = _drawing()
    face = load_face(weights_of(weights, "face"))
    model = load_emotion(face, weights_of(weights, "emotion"))
    judge = load_discriminator(weights_of(weights, "discriminator"))
    dev = dev_recordings(face, data, cache, jobs=jobs, progress=progress)
    neutral = np.tensordot(acted([r for r in dev if r.emotion == "neutral"]).shapes[::12], face.expression_basis, 1)
    result: dict[str, Any] = {"layer": "last feature layer of the discriminator", "output": str(output)}
    figure, axes = plot.subplots(2, 2, figsize=(10, 9), layout="constrained")
    for row, whose in enumerate(("recorded", "generated")):
        points, names = [], []
        for name in FOUR:
            if whose == "recorded":
                recordings = [r for r in dev if r.emotion == name]
                if not recordings:
                    continue
                shapes = acted(recordings).shapes
                faces = np.tensordot(shapes[:: max(1, len(shapes) // 300)], face.expression_basis, 1)
            else:
                faces = model.transfer(neutral, label_of(name))
            points += [judge.features(maps).detach().numpy() for maps in _map_batches(face, faces)]
            names += [name] * len(faces)
        features, labels = np.concatenate(points), np.array(names)
        result[f"silhouette_{whose}"] = float(silhouette(features, labels))
        result[f"points_{whose}"] = len(features)
        for column, (title, flat) in enumerate((("PCA", pca(features)), ("t-SNE", tsne(features)))):
            for name in FOUR:
                chosen = labels == name
                axes[row, column].scatter(*flat[chosen].T, s=7, c=COLOURS[name], label=name, linewidths=0)
            axes[row, column].set(title=f"{title}, {whose} faces", xticks=[], yticks=[])
        if progress:
            progress("figure 6", row + 1, 2)
    axes[0, 0].legend(markerscale=2)
    _write(figure, output)
    return result


def figure7(
    data: Path,
    cache: Path,
    output: Path,
    jobs: int = 1,
    steps: int | None = None,
    progress: Progress = None,
) -> dict[str, Any]:
    """Figure 7 of the paper: a PointNet as the generator beside the geometry map's, same data, losses and budget.

    The picture shows a talking face with each emotion by either. Rows of the result: the share of generated dev frames
    that a classifier names rightly, and how rough the result is, the mean distance in mm of what a vertex was moved by
    from the mean of its neighbours.
    """
    from .train.emotion import fit, train_classifiers, training_frames

    plot, *_ = _drawing()
    face = load_face()
    usual = _config(steps)
    frames = _of_four(training_frames(face, data, cache, ("ravdess",), None, jobs, progress))
    dev = dev_recordings(face, data, cache, jobs=jobs)
    shapes = acted([r for r in dev if r.emotion == "neutral"]).shapes
    before = np.tensordot(shapes[::12], face.expression_basis, 1)
    shown = int(metrics.mouth_opening(before, face).argmax())
    sampling = geometry_map(face)
    rough = Roughness(face)
    pictures, rows = [[], [], []], []  # type: ignore[var-annotated]
    with TemporaryDirectory() as folder:
        path = train_classifiers(face, frames, Path(folder), usual)
        classifier, classes = load_classifier(path, "four")
        for place, (name, make) in enumerate((("PointNet", PointNetGenerator.of), ("geometry map", None))):
            report = None if progress is None else (lambda _, done, total, name=name: progress(name, done, total))
            weights = fit(face, frames, Path(folder), usual, progress=report, generator_of=make)
            if make:
                # Points are points: trained on fewer of them, it is measured on all.
                generator: nn.Module = PointNetGenerator.of(face, usual, SIZE)
                load_into(generator.eval(), load(weights, "emotion")[0])
            else:
                load_emotion.cache_clear()
                generator = load_emotion(face, str(weights)).generator
            for emotion in FOUR[1:]:
                label = torch.from_numpy(label_of(emotion))[None]
                residual = []
                for maps in _map_batches(face, before):
                    with torch.inference_mode():
                        found = generator(maps, label.expand(len(maps), -1))
                        residual.append(sampling.decode((found * UNIT).numpy()))
                moved = np.concatenate(residual)
                rows.append(
                    {
                        "generator": name,
                        "emotion": emotion,
                        "recognised": _recognised(classifier, classes, face, before + moved, emotion),
                        "roughness_mm": rough(moved),
                        "moved_mm": float(np.linalg.norm(moved, axis=2).mean()),
                    }
                )
                pictures[place + 1].append(face.mean + before[shown] + moved[shown])
    pictures[0] = [face.mean + before[shown]] * 3
    _draw_faces(plot, face, pictures, ("as spoken", "PointNet", "geometry map"), FOUR[1:], output)
    return {"iterations": usual.iterations, "frames": len(before), "output": str(output), "rows": rows}


class PointNetGenerator(nn.Module):
    """G(x, c) on points (Qi et al. 2017): each point by itself, with the maximum over all points and the label.

    Takes and gives maps (N, 3, R, R) whose pixels inside the mask are the points, so that all else stays the same.
    """

    def __init__(self, mask: torch.Tensor, place: torch.Tensor, width: int = 64):
        super().__init__()
        self.register_buffer("pixels", mask.flatten().nonzero()[:, 0], persistent=False)
        self.register_buffer("place", place, persistent=False)  # (P, 3) of the points on the face at rest
        self.local = nn.Sequential(nn.Linear(6, width), nn.ReLU(), nn.Linear(width, width), nn.ReLU())
        self.common = nn.Sequential(nn.Linear(width, 4 * width), nn.ReLU())
        # One layer on a point, the maximum and the label together; what all points share is multiplied once.
        self.from_point = nn.Linear(width, 2 * width)
        self.from_all = nn.Linear(4 * width + len(EMOTIONS), 2 * width, bias=False)
        self.exit = nn.Sequential(nn.ReLU(), nn.Linear(2 * width, width), nn.ReLU(), nn.Linear(width, 3))

    @staticmethod
    def of(face: Face, config: Any, size: int = TRAINED_SIZE) -> PointNetGenerator:
        """One for maps of a face, size × size."""
        maps = torch.from_numpy(geometry_map(face).encode((face.mean - face.mean.mean(0))[None]))
        place = functional.adaptive_avg_pool2d(maps, size)[0].flatten(1).T / 50
        mask = functional.adaptive_avg_pool2d(torch.from_numpy(geometry_map(face).mask)[None].float(), size)
        inside = mask[0] > 0.5
        return PointNetGenerator(inside, place[inside.flatten()], config.channels)

    def forward(self, x: torch.Tensor, label: torch.Tensor) -> torch.Tensor:
        pixels: torch.Tensor = self.pixels  # type: ignore[assignment]
        place: torch.Tensor = self.place  # type: ignore[assignment]
        points = x.flatten(2)[:, :, pixels].transpose(1, 2)
        local = self.local(torch.cat([points, place.expand(len(x), -1, -1)], 2))
        common = self.common(local).amax(1)
        shared = self.from_all(torch.cat([common, label.to(common.dtype)], 1))[:, None]
        moved = self.exit(self.from_point(local) + shared)
        result = torch.zeros_like(x, dtype=moved.dtype).flatten(2)
        result[:, :, pixels] = moved.transpose(1, 2)
        return result.view_as(x)


class Roughness:
    """Mean distance in mm of displacements (T, V, 3) of a face from the mean over each vertex's neighbours."""

    def __init__(self, face: Face):
        import scipy.sparse as sp

        edges, _ = mesh_edges(face.faces)
        count = len(face.mean)
        graph = sp.coo_matrix((np.ones(2 * len(edges)), np.vstack([edges, edges[:, ::-1]]).T), (count, count)).tocsr()
        self.operator = sp.diags(1 / np.asarray(graph.sum(1))[:, 0]) @ graph - sp.identity(count)

    def __call__(self, displacement: np.ndarray) -> float:
        columns = displacement.transpose(1, 0, 2).reshape(displacement.shape[1], -1)
        return float(np.linalg.norm((self.operator @ columns).reshape(len(columns), -1, 3), axis=2).mean())


def _drawing() -> tuple[Any, Any, Any, Any]:
    """pyplot, the silhouette, and PCA and t-SNE to two dimensions. Raises TalkemoError where they are not installed."""
    try:
        import matplotlib

        matplotlib.use("Agg")
        from matplotlib import pyplot
        from sklearn.decomposition import PCA
        from sklearn.manifold import TSNE
        from sklearn.metrics import silhouette_score
    except ImportError as error:
        raise TalkemoError(
            f"figures need a package that is not installed: {error.name}", "pip install 'talkemo[figures]'"
        ) from None
    return (
        pyplot,
        silhouette_score,
        lambda x: PCA(2, random_state=0).fit_transform(x),
        lambda x: TSNE(2, perplexity=min(30, (len(x) - 1) / 3), init="pca", random_state=0).fit_transform(x),
    )


def _write(figure: Any, output: Path) -> None:
    from .files import whole

    with whole(output) as partial:
        figure.savefig(partial, dpi=110)


def _draw_faces(plot: Any, face: Face, rows: list[list[np.ndarray]], names, columns, output: Path) -> None:
    from .render import frame_view
    from .render.software import SoftwareRenderer

    renderer = SoftwareRenderer(face.faces, frame_view(face.mean), (240, 264))
    figure, axes = plot.subplots(
        len(rows), len(rows[0]), figsize=(2.2 * len(rows[0]), 2.5 * len(rows)), layout="constrained"
    )
    try:
        for line, (row, name) in enumerate(zip(rows, names)):
            for place, (vertices, column) in enumerate(zip(row, columns)):
                axes[line, place].imshow(renderer.draw(vertices))
                axes[line, place].set(xticks=[], yticks=[])
                if line == 0:
                    axes[line, place].set_title(column)
            axes[line, 0].set_ylabel(name)
    finally:
        renderer.close()
    _write(figure, output)
