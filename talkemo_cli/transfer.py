"""talkemo transfer: the emotion of an animation that exists."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from . import options
from .animate import name_of, report
from .console import console
from .options import command


@command(
    "transfer",
    "talkemo transfer talk.npz --emotion sad -o sad.npz",
    "talkemo transfer talk.glb --emotion neutral -o plain.glb",
)
def transfer(
    animation: Annotated[
        Path,
        typer.Argument(
            help="An animation: npz, glb with morph targets, or a folder of meshes, a frame each."
        ),
    ],
    emotion: Annotated[
        str | None,
        typer.Option(
            help="As of animate: one of the eight, or a mix; neutral removes what emotion there is."
        ),
    ] = None,
    intensity: options.Intensity = 1.0,
    timeline: options.TimelineFile = None,
    neutral: Annotated[
        Path | None,
        typer.Option(help="The mesh at rest. By default the animation's own, or its first frame."),
    ] = None,
    audio: Annotated[
        Path | None,
        typer.Option(
            help="Sound for a video. By default what an npz names, where it lies beside it."
        ),
    ] = None,
    fps: Annotated[
        float | None, typer.Option(help="Frames a second of a folder of meshes. By default 30.")
    ] = None,
    output: Annotated[list[Path] | None, options.outputs_option("ANIMATION_EMOTION.mp4")] = None,
    size: options.PictureSize = "512",
    bake: options.Bake = False,
    sequence: options.Sequence = "obj",
    binding: options.SavedBinding = None,
    up: options.Up = None,
    forward: options.Forward = None,
    landmarks: options.Landmarks = None,
    no_cache: options.NoCache = False,
    weights: options.Weights = "default",
    device: str = "auto",
) -> None:
    """Change the emotion of an animation that exists, whoever made it."""
    import talkemo

    if (emotion is None) == (timeline is None):
        raise talkemo.InputError(
            "name one --emotion, or a --timeline", "for instance: --emotion happy"
        )
    with console.progress("transferring") as update:
        result = talkemo.transfer(
            animation,
            output or [Path(f"{animation.stem}_{name_of(emotion or '', timeline)}.mp4")],
            emotion="neutral" if emotion is None else emotion,
            intensity=intensity,
            timeline=timeline,
            neutral=neutral,
            audio=audio,
            fps=fps,
            export=talkemo.ExportOptions(options.picture_size(size), bake, sequence),
            hint=talkemo.FaceHint(binding, up, forward, landmarks),
            models=talkemo.load_models(weights, device=device),
            cache=not no_cache,
            progress=update,
        )
    report(result)
