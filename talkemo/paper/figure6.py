"""Figure 6 of the paper: the discriminator's last feature layer in two dimensions."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch

from ..data.captures import FittedRecording, Report
from ..data.motion import acted_frames
from ..evaluation.drawing import EMOTION_COLOURS, plotting_packages, new_plot, save_plot
from ..evaluation.emotion import frames_motion, map_batches, recordings_of
from ..expression.emotions import PAPER_EMOTIONS, one_hot
from ..face.canonical import Face
from ..face.motion import Motion
from ..weights.models import Models

EVERY_NEUTRAL = 12  # every so many'th neutral frame is given each emotion
RECORDED = 300  # about so many recorded frames of each emotion are shown
PERPLEXITY = 30  # of t-SNE, less where there are few points
DOT = 7  # points², size of a frame


def figure6(
    data: Path,
    cache: Path,
    models: Models,
    output: Path,
    *,
    jobs: int = 1,
    progress: Report | None = None,
) -> dict[str, Any]:
    """Write the discriminator's last feature layer by PCA and t-SNE, coloured by emotion, to a png.

    Above, frames of the dev actors as they were recorded; below, their neutral frames given each emotion. Returns the
    silhouette of the emotions in the feature layer itself, and the number of points, of either row. Captures are read
    from `cache` and made there where missing. Raises TalkemoError where matplotlib or scikit-learn is not installed.
    """
    with plotting_packages():
        from sklearn.metrics import silhouette_score
    figure = new_plot((10, 9))
    dev = recordings_of(data, cache, models, jobs=jobs, progress=progress)
    faces = {"recorded": _recorded(models.face, dev), "generated": _generated(models, dev)}
    result: dict[str, Any] = {
        "layer": "last feature layer of the discriminator",
        "output": str(output),
    }
    axes = figure.subplots(2, 2)
    for row, (whose, by_emotion) in enumerate(faces.items()):
        features = np.concatenate([_features(models, motion) for motion in by_emotion.values()])
        labels = np.concatenate([[name] * len(motion) for name, motion in by_emotion.items()])
        result[f"silhouette_{whose}"] = float(silhouette_score(features, labels))
        result[f"points_{whose}"] = len(features)
        for column, (title, points) in enumerate(_plane(features).items()):
            for name in PAPER_EMOTIONS:
                chosen = labels == name
                axes[row, column].scatter(
                    *points[chosen].T, s=DOT, c=EMOTION_COLOURS[name], label=name, linewidths=0
                )
            axes[row, column].set(title=f"{title}, {whose} faces", xticks=[], yticks=[])
        if progress:
            progress("figure 6", row + 1, len(faces))
    axes[0, 0].legend(markerscale=2)
    save_plot(figure, output)
    return result


def _recorded(face: Face, dev: list[FittedRecording]) -> dict[str, Motion]:
    """Recorded frames by emotion, of those that there are."""
    found = {}
    for name in PAPER_EMOTIONS:
        recordings = [r for r in dev if r.emotion == name]
        if recordings:
            shapes = acted_frames(recordings).shapes
            found[name] = frames_motion(face, shapes[:: max(1, len(shapes) // RECORDED)])
    return found


def _generated(models: Models, dev: list[FittedRecording]) -> dict[str, Motion]:
    """The neutral frames with each emotion."""
    shapes = acted_frames([r for r in dev if r.emotion == "neutral"]).shapes
    neutral = frames_motion(models.face, shapes[::EVERY_NEUTRAL])
    return {name: models.emotion.transfer(neutral, one_hot(name)) for name in PAPER_EMOTIONS}


def _features(models: Models, motion: Motion) -> np.ndarray:
    """The discriminator's last feature layer (N, F) of the frames of a motion."""
    judge = models.discriminator
    with torch.inference_mode():
        found = [
            judge.features(maps.to(models.device)).cpu().numpy()
            for maps in map_batches(models.face, motion)
        ]
    return np.concatenate(found)


def _plane(features: np.ndarray) -> dict[str, np.ndarray]:
    """Features (N, F) in two dimensions (N, 2), by PCA and by t-SNE."""
    from sklearn.decomposition import PCA
    from sklearn.manifold import TSNE

    perplexity = min(PERPLEXITY, (len(features) - 1) / 3)
    return {
        "PCA": PCA(2, random_state=0).fit_transform(features),
        "t-SNE": TSNE(2, perplexity=perplexity, init="pca", random_state=0).fit_transform(features),
    }
