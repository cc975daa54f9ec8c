"""talkemo bind: a mesh made ready once, to be used again."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from .console import console
from .options import Forward, Landmarks, Up, command

JOINED = 0.5  # of the canonical opening: below that a viewer sees lips that stick together


@command("bind")
def bind(
    face: Annotated[Path, typer.Argument(help="A mesh with a face, in any unit and orientation.")],
    output: Annotated[
        list[Path] | None,
        typer.Option(
            "-o",
            "--output",
            help="An .npz for animate and transfer --binding, or a .png to look at; may be repeated. "
            "[default: FACE.binding.npz]",
        ),
    ] = None,
    up: Up = None,
    forward: Forward = None,
    landmarks: Landmarks = None,
) -> None:
    """Find the face of a mesh, say how well it fits, and save how the mesh is to move."""
    from talkemo import pipeline
    from talkemo.binding import Placing

    outputs = output or [Path(f"{face.stem}.binding.npz")]
    figures = pipeline.bind_face(face, [*outputs], Placing(None, up, forward, landmarks))
    console.message(
        f"{figures['moving']} of {figures['vertices']} vertices move; the model's face is {figures['error_mm']:.1f} mm off"
    )
    console.message("parts: " + ", ".join(f"{name} {count}" for name, count in figures["parts"].items()))
    if figures["lip_opening"] < JOINED:
        console.message("the lips are joined or were not told apart: the mouth will hardly open")
    console.result({"outputs": [str(path) for path in outputs], **figures}, [str(path) for path in outputs])
