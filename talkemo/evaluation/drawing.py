"""What the figures share: the packages that draw them, colours, saving, and rows of faces."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from ..errors import TalkemoError
from ..expression.emotions import EMOTIONS
from ..face.canonical import Face
from ..files.writing import atomic_write

EMOTION_COLOURS = dict(
    zip(
        EMOTIONS,
        ("#888888", "#4a90d9", "#e8a13a", "#5560b8", "#d0382e", "#8e5aa8", "#5a9e4b", "#2bb3a8"),
    )
)
DOTS_PER_INCH = 110
FACE_SIZE = (240, 264)  # pixels, width and height, of a face in `draw_faces`


@contextmanager
def plotting_packages() -> Iterator[None]:
    """Turn the ImportError of a package that figures need into a TalkemoError that says how to install it."""
    try:
        yield
    except ImportError as error:
        raise TalkemoError(
            f"figures need a package that is not installed: {error.name}",
            "pip install 'talkemo[figures]'",
        ) from None


def new_plot(size: tuple[float, float]) -> Any:
    """An empty matplotlib figure of a size in inches, drawn without a screen. Raises TalkemoError without matplotlib."""
    with plotting_packages():
        from matplotlib.figure import Figure

    return Figure(size, layout="constrained")


def save_plot(figure: Any, output: Path) -> None:
    """Write a figure to a png; it appears under its name when it is whole."""
    with atomic_write(output) as partial:
        figure.savefig(partial, dpi=DOTS_PER_INCH)


def draw_faces(
    face: Face,
    rows: Sequence[Sequence[np.ndarray]],
    names: Sequence[str],
    columns: Sequence[str],
    output: Path,
) -> None:
    """Write a picture of rows of faces, vertices (V, 3) mm each, with a name for each row and for each column."""
    from ..render.appearance import canonical_appearance
    from ..render.software import SoftwareRenderer
    from ..render.view import frame_view

    figure = new_plot((2.2 * len(columns), 2.5 * len(rows)))
    axes = figure.subplots(len(rows), len(columns), squeeze=False)
    renderer = SoftwareRenderer(
        canonical_appearance(face, fill=False), frame_view(face.mean), FACE_SIZE
    )
    for line, (row, name) in enumerate(zip(rows, names)):
        for place, vertices in enumerate(row):
            axes[line, place].imshow(renderer.draw(vertices))
            axes[line, place].set(xticks=[], yticks=[])
        axes[line, 0].set_ylabel(name)
    for place, column in enumerate(columns):
        axes[0, place].set_title(column)
    renderer.close()
    save_plot(figure, output)
