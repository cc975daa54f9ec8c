"""talkemo train: each stage of the paper, or all."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import replace
from enum import Enum
from importlib.util import find_spec
from pathlib import Path
from typing import Annotated, Any

import typer

from .console import console
from .options import command, use_all_cores


class Stage(str, Enum):
    """What to train."""

    face = "face"
    capture = "capture"
    speech = "speech"
    lips = "lips"
    talking = "talking"
    emotion = "emotion"
    all = "all"


@command(
    "train",
    "talkemo train talking --data DATA -o run/",
    "talkemo train all --data DATA -o run/ --resume",
)
def train(
    stage: Annotated[Stage, typer.Argument(help="The stage to train.")],
    data: Annotated[Path, typer.Option(help="The folder of the corpora.")],
    output: Annotated[
        Path,
        typer.Option(
            "-o", "--output", help="A folder for weights, checkpoints, logs and captures."
        ),
    ],
    weights: Annotated[
        str | None,
        typer.Option(
            help="Start from this set: a bundled set's name, a folder that talkemo train wrote, or "
            "hf://owner/repo@revision. The stage's network begins at its weights, and earlier stages come from it. "
            "Without it, networks begin at random weights and earlier stages come from the default set."
        ),
    ] = None,
    resume: Annotated[
        bool,
        typer.Option(
            help="Go on from the checkpoints in the output folder. all: leave out the stages that are done."
        ),
    ] = False,
    max_minutes: Annotated[
        float | None,
        typer.Option(
            min=0.01, help="Stop training a stage after so long, and keep what it has learnt."
        ),
    ] = None,
    paper: Annotated[
        bool,
        typer.Option(
            "--paper",
            help="talking: the paper's variant, neutral ravdess and grid, its Adam and rate.",
        ),
    ] = False,
    constant_weights: Annotated[
        bool,
        typer.Option("--constant-weights", help="talking: all vertices count alike, as in VOCA."),
    ] = False,
    log_mel: Annotated[
        bool,
        typer.Option(
            "--log-mel", help="talking: log-mel bands instead of the speech encoder's features."
        ),
    ] = False,
    freeze_encoder: Annotated[
        bool, typer.Option("--freeze-encoder", help="talking: leave the speech encoder as it is.")
    ] = False,
    no_augmentation: Annotated[
        bool,
        typer.Option(
            "--no-augmentation",
            help="emotion: the actors alone, without an animator's brows and grins.",
        ),
    ] = False,
    free: Annotated[
        bool,
        typer.Option(
            "--free",
            help="capture, lips, talking, emotion: only corpora that may be used for any purpose.",
        ),
    ] = False,
    people: Annotated[
        float | None,
        typer.Option(
            min=0.05, max=1, help="lips: a share of the speakers, to see what more of them bring."
        ),
    ] = None,
    java_sed: Annotated[
        bool, typer.Option("--java-sed", help="emotion: java_sed's actors besides ravdess's.")
    ] = False,
    steps: Annotated[
        int | None, typer.Option(min=1, help="All stages but the face: steps to train for.")
    ] = None,
    hold_out: Annotated[
        int | None,
        typer.Option(
            min=0,
            help="lips, talking: keep every so many'th training speaker for the figures in the log, 0 for none.",
        ),
    ] = None,
    jobs: Annotated[int, typer.Option(min=1, help="Processes that fit the corpora.")] = 2,
    seed: Annotated[
        int, typer.Option(min=0, help="Of what is random in training.", rich_help_panel="Shared")
    ] = 0,
    device: str = "auto",
) -> None:
    """Train the face model, the speech encoder, the talking model or the emotion transfer from the corpora."""
    from talkemo.train.options import TrainOptions
    from talkemo.train.run import Run
    from talkemo.train.stages import train as train_stage
    from talkemo.train.stages import train_all
    from talkemo.weights.registry import DEFAULT_SET

    options = TrainOptions(
        paper=paper,
        constant_weights=constant_weights,
        log_mel=log_mel,
        freeze_encoder=freeze_encoder,
        no_augmentation=no_augmentation,
        java_sed=java_sed,
        free=free,
        people=people,
        steps=steps,
        hold_out=hold_out,
    )
    options.check(stage.value)
    run = Run(
        data=data,
        out=output,
        weights=weights or DEFAULT_SET,
        start=weights is not None,
        resume=resume,
        max_minutes=max_minutes,
        jobs=jobs,
        device=device,
        notice=console.message,
    )
    if run.processes.is_main and any(
        find_spec(name) is None for name in ("tensorboard", "matplotlib")
    ):
        console.message(
            "no TensorBoard files or no pictures of curves are written: pip install 'talkemo[log]'"
        )
    if run.processes.count == 1 and any(name.startswith("ACCELERATE_") for name in os.environ):
        console.message(
            "one process trains; accelerate launch starts several by --multi_gpu, on CPUs too"
        )
    use_all_cores()
    with console.progress(stage.value) as update:
        if run.processes.is_main:
            run = replace(run, progress=_report_to(update))
        if stage is Stage.all:
            results = train_all(run, seed=seed, options=options)
        else:
            results = {stage.value: train_stage(stage.value, run, seed=seed, options=options)}
    if run.processes.is_main:
        console.result(results)


def _report_to(update: Any) -> Callable[[str, int, int], None]:
    """A report of training's steps that updates a progress bar."""
    return lambda what, done, total: update(done, total, what)
