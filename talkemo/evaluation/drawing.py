"""Matplotlib, shared by the plots of metrics (plots.py) and by the paper's figures (paper/)."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from ..errors import TalkemoError
from ..extras import install_command
from ..face.canonical import Face
from ..files.reading import quiet_libraries
from ..files.writing import atomic_write

EMOTION_COLOURS = {
    "neutral": "#888888",
    "calm": "#4a90d9",
    "happy": "#e8a13a",
    "sad": "#5560b8",
    "angry": "#d0382e",
    "fearful": "#8e5aa8",
    "disgust": "#5a9e4b",
    "surprised": "#2bb3a8",
}
PLOT_DPI = 110
FACE_TILE_PX = (240, 264)  # width and height of a face in `draw_faces`


@contextmanager
def plotting_packages() -> Iterator[None]:
    """Turn the ImportError of a missing package into a TalkemoError that says how to install it."""
    try:
        yield
    except ImportError as error:
        raise TalkemoError(
            f"plots need a package that is not installed: {error.name}",
            install_command("figures"),
        ) from None


def new_plot(size: tuple[float, float]) -> Any:
    """An empty matplotlib figure of a size in inches. Raises TalkemoError without matplotlib."""
    with plotting_packages():
        from matplotlib.figure import Figure  # draws without a screen, unlike pyplot

    return Figure(size, layout="constrained")


def save_plot(figure: Any, output: Path) -> None:
    """Write a matplotlib figure to a png, atomically. A $ in its texts is shown as it is.

    Warnings, such as those about characters that the font lacks, are suppressed.
    """
    for text in figure.findobj(match=lambda artist: hasattr(artist, "set_parse_math")):
        text.set_parse_math(False)  # names may contain dollar signs
    with quiet_libraries(), atomic_write(output) as partial:
        figure.savefig(partial, dpi=PLOT_DPI)


def draw_faces(
    face: Face,
    rows: Sequence[Sequence[np.ndarray]],
    names: Sequence[str],
    columns: Sequence[str],
    output: Path,
) -> None:
    """Write a png with a table of rendered faces.

    Parameters
    ----------
    face : Face
        The canonical face, whose topology all faces have.
    rows : sequence of sequences of (V, 3)
        The vertices of each face in mm.
    names, columns : sequence of str
        Titles of the rows and of the columns.
    output : Path
        The png.
    """
    from ..render.appearance import canonical_appearance
    from ..render.software import SoftwareRenderer
    from ..render.view import frame_view

    figure = new_plot((2.2 * len(columns), 2.5 * len(rows)))
    axes = figure.subplots(len(rows), len(columns), squeeze=False)
    appearance, view = canonical_appearance(face, fill=False), frame_view(face.mean)
    renderer = SoftwareRenderer(appearance, view, FACE_TILE_PX)
    for row_axes, row, name in zip(axes, rows, names):
        for cell, vertices in zip(row_axes, row):
            cell.imshow(renderer.draw(vertices))
            cell.set(xticks=[], yticks=[])
        row_axes[0].set_ylabel(name)
    for cell, column in zip(axes[0], columns):
        cell.set_title(column)
    renderer.close()
    save_plot(figure, output)
