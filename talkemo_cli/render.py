"""talkemo render: an animation as a video or an image."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from talkemo.pipelines.options import RenderOptions, RuntimeOptions

from .console import console
from .options import Only, command


@command(
    "render",
    "talkemo render talk.npz --audio speech.wav -o talk.mp4",
    "talkemo render talk.npz --compare other.npz --sheet -o sheet.png",
    "talkemo render talk.npz --turntable -o turn.gif --size 300",
)
def render(
    animation: Annotated[
        Path, typer.Argument(help="An animation: npz, glb, npy with --mesh, or a folder of meshes.")
    ],
    output: Annotated[
        Path, typer.Option("-o", "--output", help="A .mp4, .webm or .gif, or a .png of one frame.")
    ],
    options: RenderOptions,
    runtime: Annotated[RuntimeOptions, Only("weights")],
) -> None:
    """Render an animation to a video, or frames of it to a png."""
    from talkemo.pipelines import rendering

    with console.progress("rendering") as update:
        rendering.render(
            animation,
            output,
            **vars(options),
            weights=runtime.weights,
            progress=update,
            notice=console.message,
        )
    console.result({"outputs": [str(output)]}, [str(output)])
