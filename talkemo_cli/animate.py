"""talkemo animate: the main job."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from .console import console
from .options import command


@command("animate")
def animate(
    face: Annotated[Path, typer.Argument(help="A mesh with a face that looks along +z, y up, in any unit.")],
    audio: Annotated[Path, typer.Argument(help="Speech: wav, flac, ogg, opus, mp3 or m4a.")],
    emotion: Annotated[
        str,
        typer.Option(
            help="neutral, calm, happy, sad, angry, fearful, disgust, surprised, or a mix like happy:0.6,surprised:0.4."
        ),
    ] = "neutral",
    intensity: Annotated[float, typer.Option(help="Strength of the emotion, 0 to 1.")] = 1.0,
    style: Annotated[
        str, typer.Option(help="Whose way of speaking: default, or a training speaker such as grid_s1_s1.")
    ] = "default",
    fps: Annotated[float, typer.Option(help="Frames a second; a video shows at most 30 of them.")] = 60.0,
    output: Annotated[
        list[Path] | None,
        typer.Option("-o", "--output", help="A .mp4 or .npz file; may be repeated. [default: AUDIO_EMOTION.mp4]"),
    ] = None,
    size: Annotated[int, typer.Option(help="Pixels on a side of a video.")] = 512,
    seed: Annotated[int, typer.Option(help="Kept in the npz; nothing here is random.", rich_help_panel="Shared")] = 0,
) -> None:
    """Make the face of a mesh speak a recording with an emotion."""
    from talkemo import pipeline

    name = emotion.replace(":", "").replace(",", "_").replace(" ", "")
    outputs = output or [Path(f"{audio.stem}_{name}.mp4")]
    done = 0
    with console.progress("animating") as update:

        def report(frames: int, total: int) -> None:
            nonlocal done
            done += frames
            update(done, total)

        result = pipeline.animate(face, audio, [*outputs], emotion, intensity, fps, size, seed, style, report)
    console.message(f"{result.frames} frames at {result.fps:g} fps; the mesh is {result.binding_error_mm:.1f} mm off")
    console.result(
        {
            "outputs": [str(path) for path in result.outputs],
            "frames": result.frames,
            "fps": result.fps,
            "seconds": result.seconds,
            "binding_error_mm": result.binding_error_mm,
        },
        [str(path) for path in result.outputs],
    )
