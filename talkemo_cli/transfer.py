"""talkemo transfer: change the emotion of an existing animation."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Annotated

import typer

from talkemo import InputError
from talkemo.expression.emotion_names import AUTO_EMOTION, EMOTIONS
from talkemo.pipelines.options import TransferOptions

from .animate import emotion_name
from .completion import offering
from .console import console
from .options import command, output_option


@command(
    "transfer",
    "talkemo transfer talk.npz --emotion sad -o sad.npz",
    "talkemo transfer talk.glb --emotion neutral -o plain.glb",
)
def transfer(
    animation: Annotated[
        Path,
        typer.Argument(
            help="An animation: npz, glb with morph targets, npy of vertices with --mesh, or a folder with a mesh per frame."
        ),
    ],
    options: TransferOptions,
    emotion: Annotated[
        str | None,
        typer.Option(
            help="One of the emotions of animate, or a mix; neutral removes the emotion, auto reads it "
            "from the voice.",
            autocompletion=offering((*EMOTIONS, AUTO_EMOTION)),
        ),
    ] = None,
    output: Annotated[list[Path] | None, output_option("By default ANIMATION_EMOTION.mp4.")] = None,
) -> None:
    """Change the emotion of an existing animation, made by any tool."""
    import talkemo

    if (emotion is None) == (options.timeline is None):
        raise InputError("name one --emotion, or a --timeline", "for instance: --emotion happy")
    options = replace(options, emotion="neutral" if emotion is None else emotion)
    name = emotion_name(options.emotion, options.timeline)
    outputs = output or [Path(f"{animation.stem}_{name}.mp4")]
    with console.progress("transferring") as update:
        result = talkemo.transfer(
            animation, outputs, options, progress=update, notice=console.message
        )
    console.animation(result)
