"""Figures 3, 4 and 5 of the paper: the augmentation, the geometry map, and the mouth's weights."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from ..data.emotion_augmentation import EMFACS_EXPRESSIONS, add_expression
from ..evaluation.drawing import draw_faces, new_plot, save_plot
from ..face.canonical import Face
from ..face.geometry_map import geometry_map
from ..train.emotion import EmotionConfig
from ..train.talking import PAPER_TALKING_CONFIG

FIGURE3_PEOPLE = 3  # random people of the face model
FIGURE3_IDENTITY_MODES = 30  # identity coefficients that they differ by


def figure3(face: Face, output: Path) -> None:
    """Write a png of random people at rest and with the animator's expressions (section 3.1)."""
    at_rest = face.expression_weights(np.zeros(len(face.expression_names)))
    weight, rows = EmotionConfig().augmentation, []
    rng = np.random.default_rng(4)
    for person in rng.standard_normal((FIGURE3_PEOPLE, FIGURE3_IDENTITY_MODES)):
        neutral = face.vertices(at_rest, face.identity_weights(person))
        still, landmarks = np.zeros((1, *neutral.shape), np.float32), neutral[face.landmarks68]
        augmented = [
            add_expression(face, still, name, landmarks, weight)[0] for name in EMFACS_EXPRESSIONS
        ]
        rows.append([neutral, *(neutral + displacement for displacement in augmented)])
    names = [f"person {number + 1}" for number in range(FIGURE3_PEOPLE)]
    draw_faces(face, rows, names, ["at rest", *EMFACS_EXPRESSIONS], output)


def figure4(face: Face, output: Path) -> None:
    """Write a png of the mean face's geometry map, as colours, and of its mask (section 3.2)."""
    chart = geometry_map(face)
    centred = (face.mean - face.mean.mean(0))[None].astype(np.float32)
    image = chart.encode(centred)[0].transpose(1, 2, 0)  # (128, 128, 3)
    mask = np.abs(image).sum(2) > 0
    low, high = image[mask].min(0), image[mask].max(0)
    colours = np.where(mask[:, :, None], (image - low) / (high - low), 1)
    figure = new_plot((8, 4.2))
    axes = figure.subplots(1, 2)
    images = {"x, y, z as red, green, blue": colours, "mask": mask}
    for cell, (title, shown) in zip(axes, images.items()):
        cell.imshow(shown, cmap="gray")
        cell.set(title=title, xticks=[], yticks=[])
    save_plot(figure, output)


def figure5(face: Face, output: Path) -> None:
    """Write a png of each vertex's weight in the talking model's position loss (section 3.3)."""
    figure = new_plot((5, 5))
    axes = figure.add_subplot()
    weight, mean = 1 + PAPER_TALKING_CONFIG.mouth * face.mouth_weight, face.mean
    faces = face.faces[np.argsort(mean[face.faces].mean(1)[:, 2])]
    drawn = axes.tripcolor(mean[:, 0], mean[:, 1], faces, weight, cmap="viridis", shading="gouraud")
    axes.set(aspect="equal", title="weight of a vertex")
    axes.axis("off")
    figure.colorbar(drawn, ax=axes)
    save_plot(figure, output)
