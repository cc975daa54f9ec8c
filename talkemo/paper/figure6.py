"""Figure 6 of the paper: the discriminator's last feature layer in two dimensions."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch

from ..data.captures import FittedRecording, StepProgress
from ..data.rest_relative import acted_frames
from ..evaluation.drawing import EMOTION_COLOURS, new_plot, plotting_packages, save_plot
from ..evaluation.emotion import frames_motion, map_batches, recordings_of
from ..expression.emotions import PAPER_EMOTIONS, one_hot
from ..face.canonical import Face
from ..face.motion import Motion
from ..weights.models import Models

FIGURE6_NEUTRAL_STRIDE = 12  # every n-th neutral frame is transferred to each emotion
FIGURE6_RECORDED_FRAMES = 300  # of each emotion, about
TSNE_PERPLEXITY = 30  # less where there are few frames
FIGURE6_MARKER_AREA_PT2 = 7


def figure6(
    data: Path,
    cache: Path,
    models: Models,
    output: Path,
    *,
    jobs: int = 1,
    progress: StepProgress | None = None,
) -> dict[str, Any]:
    """Plot the discriminator's last feature layer by PCA and t-SNE, coloured by emotion, to a png.

    The upper row shows recorded frames of the dev actors, the lower row their neutral frames after
    transfer to each emotion. Raises TalkemoError if matplotlib or scikit-learn is missing.

    Parameters
    ----------
    data, cache, models, jobs, progress
        As in `load_captures`.
    output : Path
        The png.

    Returns
    -------
    dict
        For either row, the silhouette of the emotions in the feature layer, and the frames.
    """
    with plotting_packages():
        from sklearn.metrics import silhouette_score
    figure = new_plot((10, 9))
    dev = recordings_of(data, cache, models, jobs=jobs, progress=progress)
    rows = {"recorded": _recorded(models.face, dev), "generated": _generated(models, dev)}
    result: dict[str, Any] = {
        "layer": "last feature layer of the discriminator",
        "output": str(output),
    }
    axes = figure.subplots(2, 2)
    for number, (source, by_emotion) in enumerate(rows.items()):
        features = np.concatenate([_features(models, motion) for motion in by_emotion.values()])
        labels = np.repeat(list(by_emotion), [len(motion) for motion in by_emotion.values()])
        result[f"silhouette_{source}"] = float(silhouette_score(features, labels))
        result[f"points_{source}"] = len(features)
        for cell, (title, points) in zip(axes[number], _plane(features).items()):
            for name in PAPER_EMOTIONS:
                x, y = points[labels == name].T
                style: dict[str, Any] = {"s": FIGURE6_MARKER_AREA_PT2, "linewidths": 0}
                cell.scatter(x, y, c=EMOTION_COLOURS[name], label=name, **style)
            cell.set(title=f"{title}, {source} faces", xticks=[], yticks=[])
        if progress:
            progress("figure 6", number + 1, len(rows))
    axes[0, 0].legend(markerscale=2)
    save_plot(figure, output)
    return result


def _recorded(face: Face, dev: list[FittedRecording]) -> dict[str, Motion]:
    """Recorded frames of each of the paper's emotions that has recordings."""
    frames = {}
    for name in PAPER_EMOTIONS:
        recordings = [r for r in dev if r.emotion == name]
        if recordings:
            weights = acted_frames(recordings).shapes
            stride = max(1, len(weights) // FIGURE6_RECORDED_FRAMES)
            frames[name] = frames_motion(face, weights[::stride])
    return frames


def _generated(models: Models, dev: list[FittedRecording]) -> dict[str, Motion]:
    """Neutral frames after transfer to each of the paper's emotions."""
    weights = acted_frames([r for r in dev if r.emotion == "neutral"]).shapes
    neutral = frames_motion(models.face, weights[::FIGURE6_NEUTRAL_STRIDE])
    return {name: models.emotion.transfer(neutral, one_hot(name)) for name in PAPER_EMOTIONS}


def _features(models: Models, motion: Motion) -> np.ndarray:
    """The discriminator's last feature layer (N, F) of the frames of a motion."""
    with torch.inference_mode():
        features = [
            models.discriminator.features(maps.to(models.device)).cpu().numpy()
            for maps in map_batches(models.face, motion)
        ]
    return np.concatenate(features)


def _plane(features: np.ndarray) -> dict[str, np.ndarray]:
    """Features (N, F) in two dimensions (N, 2), by PCA and by t-SNE."""
    from sklearn.decomposition import PCA
    from sklearn.manifold import TSNE

    perplexity = min(TSNE_PERPLEXITY, (len(features) - 1) / 3)
    return {
        "PCA": PCA(2, random_state=0).fit_transform(features),
        "t-SNE": TSNE(2, perplexity=perplexity, init="pca", random_state=0).fit_transform(features),
    }
