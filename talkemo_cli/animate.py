"""talkemo animate: the main job."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from . import options
from .console import console
from .options import command

if TYPE_CHECKING:
    from talkemo.pipeline import Result


@command("animate")
def animate(
    face: Annotated[Path, typer.Argument(help="A mesh with a face, in any unit and orientation.")],
    audio: Annotated[Path, typer.Argument(help="Speech: wav, flac, ogg, opus, mp3 or m4a.")],
    emotion: Annotated[
        str,
        typer.Option(
            help="neutral, calm, happy, sad, angry, fearful, disgust, surprised, or a mix like happy:0.6,surprised:0.4."
        ),
    ] = "neutral",
    intensity: options.Intensity = 1.0,
    style: Annotated[
        str, typer.Option(help="Whose way of speaking: default, or a training speaker such as grid_s1_s1.")
    ] = "default",
    timeline: options.TimelineFile = None,
    fps: Annotated[float, typer.Option(help="Frames a second; a video shows at most 30 of them.")] = 60.0,
    output: Annotated[list[Path] | None, options.outputs_option("AUDIO_EMOTION.mp4")] = None,
    size: options.VideoSize = 512,
    bake: options.Bake = False,
    sequence: options.Sequence = "obj",
    binding: options.SavedBinding = None,
    up: options.Up = None,
    forward: options.Forward = None,
    landmarks: options.Landmarks = None,
    seed: options.KeptSeed = 0,
) -> None:
    """Make the face of a mesh speak a recording with an emotion."""
    from talkemo import InputError, pipeline
    from talkemo.binding import Placing

    if timeline and emotion != "neutral":
        raise InputError("--emotion or a --timeline, not both")
    outputs = output or [Path(f"{audio.stem}_{name_of(emotion, timeline)}.mp4")]
    placing = Placing(binding, up, forward, landmarks)
    with console.progress("animating") as update:
        report = summing(update)
        result = pipeline.animate(
            face,
            audio,
            [*outputs],
            emotion,
            intensity,
            fps,
            size,
            seed,
            style,
            timeline,
            bake,
            sequence,
            placing,
            report,
        )
    tell(result)


def name_of(emotion: str, timeline: Path | None) -> str:
    """What an output is called after."""
    return timeline.stem if timeline else emotion.replace(":", "").replace(",", "_").replace(" ", "")


def summing(update: Callable[[int, int], None]) -> Callable[[int, int], None]:
    """A report of how many frames were done of how many, from one of how many more were done."""
    done = 0

    def report(frames: int, total: int) -> None:
        nonlocal done
        done += frames
        update(done, total)

    return report


def tell(result: Result) -> None:
    """Print what was made."""
    console.message(f"{result.frames} frames at {result.fps:g} fps; the mesh is {result.binding_error_mm:.1f} mm off")
    for name, value in result.figures.items():
        console.message(f"{name.replace('_', ' ')}: {value:.3g}")
    console.result(
        {
            "outputs": [str(path) for path in result.outputs],
            "frames": result.frames,
            "fps": result.fps,
            "seconds": result.seconds,
            "binding_error_mm": result.binding_error_mm,
            **result.figures,
        },
        [str(path) for path in result.outputs],
    )
