"""Plots of metrics: errors over time and on the face, and confusion matrices of emotions."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from ..audio.recording import Audio
from ..expression.emotions import EMOTIONS
from ..expression.heard import HeardEmotion
from ..formats.mesh_types import Mesh
from ..geometry.meshes import vertex_normals
from .drawing import EMOTION_COLOURS, new_plot, save_plot
from .metrics import Comparison

WAVEFORM_COLUMNS = 900  # of samples, each drawn as its range
PLOTTED_MASKS = ("all", "lips")  # whose error is plotted over time


def plot_comparison(comparison: Comparison, mesh: Mesh, fps: float, output: Path) -> None:
    """Write a png of the RE over time, and of the mean error of each vertex on the mesh.

    The mesh is seen along z. Raises TalkemoError if matplotlib is not installed.
    """
    figure = new_plot((11, 4))
    over_time, on_mesh = figure.add_subplot(1, 2, 1), figure.add_subplot(1, 2, 2)
    for name in PLOTTED_MASKS:
        if name in comparison.frame_distances:
            error = np.concatenate(comparison.frame_distances[name])
            over_time.plot(np.arange(len(error)) / fps, error, label=name, linewidth=1)
    over_time.set(xlabel="s", ylabel=f"RE, {comparison.unit}", ylim=(0, None))
    over_time.legend()
    points = mesh.vertices
    faces_viewer = vertex_normals(points, mesh.faces)[mesh.faces].mean(1)[:, 2] > 0
    faces = mesh.faces[faces_viewer]
    # Painter's algorithm: nearer triangles are drawn last.
    faces = faces[np.argsort(points[faces].mean(1)[:, 2])]
    error = comparison.vertex_distance_sum / comparison.frames
    drawn = on_mesh.tripcolor(
        points[:, 0], points[:, 1], faces, error, cmap="turbo", shading="gouraud", vmin=0
    )
    on_mesh.set(aspect="equal", title="mean error of each vertex")
    on_mesh.axis("off")
    figure.colorbar(drawn, ax=on_mesh, label=comparison.unit)
    save_plot(figure, output)


def plot_heard(heard: HeardEmotion, audio: Audio, output: Path) -> None:
    """Write a png of what is heard in a recording, over its waveform.

    Below the waveform, coloured by what is shown, are the probabilities and the arousal of the
    voice. Raises TalkemoError if matplotlib is not installed.
    """
    figure = new_plot((9, 4))
    wave, curves = figure.subplots(2, 1, sharex=True, height_ratios=(2, 3))
    samples = audio.samples()
    columns = np.array_split(samples, min(WAVEFORM_COLUMNS, len(samples)))
    times = np.linspace(0, audio.duration, len(columns))
    low, high = (np.array([f(column) for column in columns]) for f in (np.min, np.max))
    wave.fill_between(times, low, high, color="#404040", linewidth=0)
    for span in heard.spans:
        wave.axvspan(span.start, span.end, color=EMOTION_COLOURS[span.emotion], alpha=0.35, lw=0)
        middle = (span.start + span.end) / 2
        is_sure = span.emotion == span.likeliest
        label = f"{span.emotion}\n" + (f"{100 * span.probability:.0f} %" if is_sure else "not sure")
        wave.text(middle, 0.97, label, ha="center", va="top", fontsize=7, transform=_above(wave))
    readings = heard.readings
    for emotion, probability in zip(EMOTIONS, readings.probabilities.T):
        shown = np.where(readings.spoken, probability, np.nan)
        curves.plot(readings.times, shown, label=emotion, color=EMOTION_COLOURS[emotion])
    arousal = np.where(readings.spoken, readings.arousal, np.nan)
    curves.plot(readings.times, arousal, label="arousal", color="black", linestyle="--")
    curves.axhline(readings.sure, color="#999999", linewidth=0.8)
    wave.set(yticks=[], xlim=(0, audio.duration))
    curves.set(xlabel="s", ylabel="probability", ylim=(0, 1))
    curves.legend(
        fontsize=7, ncols=9, loc="upper center", bbox_to_anchor=(0.5, 1.14), frameon=False
    )
    save_plot(figure, output)


def _above(axes: Any) -> Any:
    """Return the transform of texts whose x is data and whose y is a share of the axes."""
    return axes.get_xaxis_transform()


def plot_voice(voice: dict[str, Any], output: Path) -> None:
    """Write a png of the confusion matrix and the calibration in the result of `evaluate_voice`.

    Raises TalkemoError if matplotlib is not installed.
    """
    figure = new_plot((9, 4))
    matrix, diagram = figure.subplots(1, 2)
    names = voice["confusion"]["emotions"]
    _draw_matrix(matrix, np.array(voice["confusion"]["counts"], float), names, names)
    matrix.set(title="acted (rows), heard (columns)")
    bins = voice["reliability"]["bins"]
    diagram.plot((0, 1), (0, 1), color="#999999", linewidth=0.8)
    diagram.plot([b["probability"] for b in bins], [b["right"] for b in bins], marker="o")
    error = voice["reliability"]["ece"]
    diagram.set(xlabel="probability", ylabel="share that is right", xlim=(0, 1), ylim=(0, 1))
    diagram.set(title=f"calibration, expected error {error:.3f}", aspect="equal")
    save_plot(figure, output)


def plot_confusion(emotions: list[dict[str, Any]], output: Path) -> None:
    """Write a png of the confusion matrices in the results of `evaluate_emotion`.

    There is a row of plots for each corpus and for its real and its generated frames, and a column
    for each judge. Cells are shares of the frames of a true emotion. Raises TalkemoError if
    matplotlib is not installed.
    """
    judges = list(emotions[0]["confusion"])
    rows = [(result, kind) for result in emotions for kind in ("real", "generated")]
    figure = new_plot((4.4 * len(judges), 3.6 * len(rows)))
    axes = figure.subplots(len(rows), len(judges), squeeze=False)
    for row_axes, (result, kind) in zip(axes, rows):
        for cell, judge in zip(row_axes, judges):
            matrix = result["confusion"][judge]
            _draw_matrix(cell, np.array(matrix[kind], float), matrix["emotions"], matrix["classes"])
            name = judge if judge == "discriminator" else f"classifier of {judge}"
            cell.set_title(f"{result['corpus']}, {kind} frames, {name}", fontsize=9)
    save_plot(figure, output)


def _draw_matrix(axes: Any, counts: np.ndarray, emotions: list[str], classes: list[str]) -> None:
    """Draw counts (emotions, classes) as shares of each emotion's frames."""
    share = counts / counts.sum(1, keepdims=True).clip(1)
    axes.imshow(share, cmap="Blues", vmin=0, vmax=1, aspect="auto")
    for (row, column), value in np.ndenumerate(share):
        color = "white" if value > 0.5 else "black"
        axes.text(column, row, f"{value:.2f}", ha="center", va="center", fontsize=7, color=color)
    axes.set_xticks(range(len(classes)), classes, rotation=40, ha="right", fontsize=8)
    axes.set_yticks(range(len(emotions)), emotions, fontsize=8)
