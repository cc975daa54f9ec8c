"""talkemo bind: a mesh made ready once, to be used again."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from . import options
from .console import console
from .options import command

JOINED = 0.5  # of the canonical lip opening, below which a viewer sees lips that stick together


@command(
    "bind",
    "talkemo bind face.obj -o face.png",
    "talkemo bind scan.ply --up z --forward -y -o scan.npz",
)
def bind(
    face: Annotated[Path, typer.Argument(help="A mesh with a face, in any unit and orientation.")],
    output: Annotated[
        list[Path] | None,
        typer.Option(
            "-o",
            "--output",
            help="An .npz for animate and transfer --binding, or a .png to look at; may be repeated. "
            "By default FACE.binding.npz.",
        ),
    ] = None,
    up: options.Up = None,
    forward: options.Forward = None,
    landmarks: options.Landmarks = None,
    no_cache: options.NoCache = False,
    weights: options.Weights = "default",
) -> None:
    """Find the face of a mesh, say how well it fits, and save how the mesh is to move."""
    import talkemo
    from talkemo.pipelines.bind import describe

    outputs = output or [Path(f"{face.stem}.binding.npz")]
    hint = talkemo.FaceHint(None, up, forward, landmarks)
    binding = talkemo.bind(face, outputs, hint=hint, weights=weights, cache=not no_cache)
    metrics = describe(binding)
    console.message(
        f"{metrics['moving']} of {metrics['vertices']} vertices move; "
        f"the model's face is {metrics['error_mm']:.1f} mm off"
    )
    console.message(
        "parts: " + ", ".join(f"{name} {count}" for name, count in metrics["parts"].items())
    )
    if metrics["lip_opening"] < JOINED:
        console.message("the lips are joined or were not told apart: the mouth will hardly open")
    console.result(
        {"outputs": [str(path) for path in outputs], **metrics}, [str(path) for path in outputs]
    )
