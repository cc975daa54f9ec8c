"""Pictures of what is measured: the error over time and on the face, and what classifiers take emotions for."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from ..formats.mesh_types import Mesh
from ..geometry.meshes import vertex_normals
from .drawing import new_plot, save_plot
from .metrics import Comparison

SHOWN = ("all", "lips")  # masks whose error is drawn over time


def plot_comparison(comparison: Comparison, mesh: Mesh, fps: float, output: Path) -> None:
    """Write a png: RE of each frame, and the mean error of each vertex on the mesh, seen along z.

    Raises TalkemoError where matplotlib is not installed.
    """
    figure = new_plot((11, 4))
    course, place = figure.add_subplot(1, 2, 1), figure.add_subplot(1, 2, 2)
    for name in SHOWN:
        if name in comparison.course:
            error = np.concatenate(comparison.course[name])
            course.plot(np.arange(len(error)) / fps, error, label=name, linewidth=1)
    course.set(xlabel="s", ylabel=f"RE, {comparison.unit}", ylim=(0, None))
    course.legend()
    points = mesh.vertices
    ahead = vertex_normals(points, mesh.faces)[mesh.faces].mean(1)[:, 2] > 0
    faces = mesh.faces[ahead]
    faces = faces[np.argsort(points[faces].mean(1)[:, 2])]  # what is nearer is drawn later
    error = comparison.where / comparison.frames
    drawn = place.tripcolor(
        points[:, 0], points[:, 1], faces, error, cmap="turbo", shading="gouraud", vmin=0
    )
    place.set(aspect="equal", title="mean error of each vertex")
    place.axis("off")
    figure.colorbar(drawn, ax=place, label=comparison.unit)
    save_plot(figure, output)


def plot_confusion(emotions: list[dict[str, Any]], output: Path) -> None:
    """Write a png of the confusion matrices of what `evaluate_emotion` found for one corpus or several.

    A row of pictures for each corpus and for its real and generated frames, a column for each judge; in a picture a row
    has the shares of an emotion's frames that are taken for each class. Raises TalkemoError where matplotlib is missing.
    """

    judges = list(emotions[0]["confusion"])
    lines = [(found, kind) for found in emotions for kind in ("real", "generated")]
    figure = new_plot((4.4 * len(judges), 3.6 * len(lines)))
    for line, (found, kind) in enumerate(lines):
        for column, judge in enumerate(judges):
            matrix = found["confusion"][judge]
            counts = np.array(matrix[kind], float)
            share = counts / counts.sum(1, keepdims=True).clip(1)
            axes = figure.add_subplot(len(lines), len(judges), line * len(judges) + column + 1)
            axes.imshow(share, cmap="Blues", vmin=0, vmax=1, aspect="auto")
            for row, cell in np.ndindex(share.shape):
                color = "white" if share[row, cell] > 0.5 else "black"
                axes.text(
                    cell,
                    row,
                    f"{share[row, cell]:.2f}",
                    ha="center",
                    va="center",
                    fontsize=7,
                    color=color,
                )
            axes.set_xticks(
                range(len(matrix["classes"])),
                matrix["classes"],
                rotation=40,
                ha="right",
                fontsize=8,
            )
            axes.set_yticks(range(len(matrix["emotions"])), matrix["emotions"], fontsize=8)
            name = judge if judge == "discriminator" else f"classifier of {judge}"
            axes.set_title(f"{found['corpus']}, {kind} frames, {name}", fontsize=9)
    save_plot(figure, output)
