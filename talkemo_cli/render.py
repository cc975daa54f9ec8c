"""talkemo render: an animation as a video, a picture or frames."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from .console import console
from .options import command


@command("render")
def render(
    animation: Annotated[Path, typer.Argument(help="An animation: npz, glb or a folder of meshes.")],
    output: Annotated[Path, typer.Option("-o", "--output", help="A .mp4, or a .png of the middle frame.")],
    audio: Annotated[Path | None, typer.Option(help="Sound for the video.")] = None,
    size: Annotated[int, typer.Option(help="Pixels on a side.")] = 512,
    view: Annotated[str, typer.Option(help="front, left or right.")] = "front",
    time: Annotated[float | None, typer.Option(help="Second of a .png.")] = None,
    fps: Annotated[float | None, typer.Option(help="Frames a second of a folder of meshes. By default 30.")] = None,
) -> None:
    """Render an animation to an mp4, or one frame of it to a png."""
    from talkemo.pipelines.render import render as draw

    with console.progress("rendering") as update:
        draw(animation, output, audio=audio, size=size, view=view, time=time, fps=fps, progress=update)
    console.result({"outputs": [str(output)]}, [str(output)])
