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
    "talkemo transfer talk.npz --onto avatar.glb -o out.glb",
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
    """Change the emotion of an existing animation, made by any tool, or put it onto another mesh."""
    import talkemo
    from talkemo import Timeline

    if emotion is not None and options.timeline is not None:
        raise InputError("name one --emotion, or a --timeline", "for instance: --emotion happy")
    if emotion is None and options.timeline is None:
        if options.onto is None:
            raise InputError("name one --emotion, or a --timeline", "for instance: --emotion happy")
        name = Path(options.onto).stem
        options = replace(options, timeline=Timeline.unchanged())
    else:
        options = replace(options, emotion="neutral" if emotion is None else emotion)
        name = emotion_name(options.emotion, options.timeline)
    outputs = output or [Path(f"{animation.stem}_{name}.mp4")]
    with console.progress("transferring") as update:
        result = talkemo.transfer(
            animation, outputs, options, progress=update, notice=console.message
        )
    console.animation(result)
