"""Figures 3, 4 and 5 of the paper: the augmentation, the geometry map, and the mouth's weights."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from ..data.emotion_augmentation import EMFACS_EXPRESSIONS, add_expression
from ..evaluation.drawing import draw_faces, new_figure, save_figure
from ..face.canonical import Face
from ..face.geometry_map import geometry_map
from ..train.emotion import EmotionConfig
from ..train.talking import PAPER

PEOPLE, MODES = 3, 30  # drawn from the face model, by so many of its identity modes


def figure3(face: Face, output: Path) -> None:
    """Write a png of three people of the face model, at rest and with each of the animator's expressions (section 3.1)."""
    calm = face.expression_weights(np.zeros(len(face.expression_names)))
    weight, rows = EmotionConfig().augmentation, []
    for person in np.random.default_rng(4).standard_normal((PEOPLE, MODES)):
        neutral = face.vertices(calm, face.identity_weights(person))
        still, marks = np.zeros((1, *neutral.shape), np.float32), neutral[face.landmarks68]
        rows.append(
            [
                neutral,
                *(
                    neutral + add_expression(face, still, name, marks, weight)[0]
                    for name in EMFACS_EXPRESSIONS
                ),
            ]
        )
    names = [f"person {number + 1}" for number in range(PEOPLE)]
    draw_faces(face, rows, names, ["at rest", *EMFACS_EXPRESSIONS], output)


def figure4(face: Face, output: Path) -> None:
    """Write a png of the mean face as a geometry map: its three coordinates as colours, and the mask (section 3.2)."""
    chart = geometry_map(face)
    mean = chart.encode((face.mean - face.mean.mean(0))[None].astype(np.float32))[
        0
    ]  # (3, 128, 128)
    inside = np.abs(mean).sum(0) > 0
    low, high = mean[:, inside].min(1), mean[:, inside].max(1)
    picture = np.where(
        inside, (mean - low[:, None, None]) / (high - low)[:, None, None], 1
    ).transpose(1, 2, 0)
    figure = new_figure((8, 4.2))
    for place, (title, shown) in enumerate(
        {"x, y, z as red, green, blue": picture, "mask": inside}.items()
    ):
        axis = figure.add_subplot(1, 2, place + 1)
        axis.imshow(shown, cmap="gray")
        axis.set(title=title, xticks=[], yticks=[])
    save_figure(figure, output)


def figure5(face: Face, output: Path) -> None:
    """Write a png of how much each vertex counts in the talking model's position loss (section 3.3)."""
    figure = new_figure((5, 5))
    axis = figure.add_subplot()
    weight, mean = 1 + PAPER.mouth * face.mouth_weight, face.mean
    faces = face.faces[np.argsort(mean[face.faces].mean(1)[:, 2])]
    drawn = axis.tripcolor(mean[:, 0], mean[:, 1], faces, weight, cmap="viridis", shading="gouraud")
    axis.set(aspect="equal", title="weight of a vertex")
    axis.axis("off")
    figure.colorbar(drawn, ax=axis)
    save_figure(figure, output)
