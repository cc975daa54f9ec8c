"""talkemo render: an animation as a video, a picture or frames."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from . import options
from .console import console
from .options import command


@command(
    "render",
    "talkemo render talk.npz --audio speech.wav -o talk.mp4",
    "talkemo render talk.npz --compare other.npz --sheet -o sheet.png",
    "talkemo render talk.npz --turntable -o turn.gif --size 300",
)
def render(
    animation: Annotated[
        Path, typer.Argument(help="An animation: npz, glb or a folder of meshes.")
    ],
    output: Annotated[
        Path, typer.Option("-o", "--output", help="A .mp4, .webm or .gif, or a .png of one frame.")
    ],
    audio: Annotated[Path | None, typer.Option(help="Sound for the film.")] = None,
    size: options.PictureSize = "512",
    view: Annotated[str, typer.Option(help="front, three-quarter, side, left or right.")] = "front",
    time: Annotated[
        float | None, typer.Option(help="Second of a .png, by default the middle.")
    ] = None,
    fps: Annotated[
        float | None, typer.Option(help="Frames a second of a folder of meshes. By default 30.")
    ] = None,
    no_fill: Annotated[
        bool,
        typer.Option(
            "--no-fill", help="Show the mesh as it is: no eyes, teeth or brows where it has none."
        ),
    ] = False,
    compare: Annotated[
        list[Path] | None,
        typer.Option(
            help="Another animation, shown beside it; may be repeated.", show_default=False
        ),
    ] = None,
    caption: Annotated[
        str | None, typer.Option(help="A line below the picture.", show_default=False)
    ] = None,
    turntable: Annotated[
        bool, typer.Option("--turntable", help="Go once around the face.")
    ] = False,
    wireframe: Annotated[
        bool, typer.Option("--wireframe", help="Draw the edges of the triangles.")
    ] = False,
    heatmap: Annotated[
        bool,
        typer.Option(
            "--heatmap",
            help="Colour the mesh by how far it is from rest, or from the animation of --compare.",
        ),
    ] = False,
    sheet: Annotated[bool, typer.Option("--sheet", help="Eight frames in one .png.")] = False,
    weights: options.Weights = "default",
) -> None:
    """Render an animation to a film, or frames of it to a png."""
    from talkemo.pipelines.rendering import render as draw

    with console.progress("rendering") as update:
        draw(
            animation,
            output,
            audio=audio,
            size=options.picture_size(size),
            view=view,
            time=time,
            fps=fps,
            fill=not no_fill,
            compare=compare or (),
            caption=caption,
            turntable=turntable,
            wireframe=wireframe,
            heatmap=heatmap,
            sheet=sheet,
            weights=weights,
            progress=update,
        )
    console.result({"outputs": [str(output)]}, [str(output)])
