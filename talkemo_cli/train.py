"""talkemo train: one stage of the paper, or all."""

from __future__ import annotations

import os
from dataclasses import replace
from enum import Enum
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from talkemo.extras import install_command
from talkemo.pipelines.options import set_names
from talkemo.train.options import TrainOptions

from .completion import offering
from .console import console
from .facts import metric_facts
from .options import command, use_all_cores

if TYPE_CHECKING:
    from talkemo.train.run import Run


class StageName(str, Enum):
    """The stages of `talkemo train`, and all of them."""

    face = "face"
    capture = "capture"
    speech = "speech"
    lips = "lips"
    talking = "talking"
    emotion = "emotion"
    voice = "voice"
    all = "all"


@command(
    "train",
    "talkemo train talking --data DATA -o run/",
    "talkemo train all --data DATA -o run/ --resume",
)
def train(
    stage: Annotated[StageName, typer.Argument(help="The stage to train.")],
    data: Annotated[Path, typer.Option(help="The folder of the corpora.")],
    output: Annotated[
        Path,
        typer.Option(
            "-o", "--output", help="A folder for weights, checkpoints, logs and captures."
        ),
    ],
    options: TrainOptions,
    weights: Annotated[
        str | None,
        typer.Option(
            help="Start from this set: a bundled set's name, a folder that talkemo train wrote, or "
            "hf://owner/repo@revision. The stage's network starts from its weights, and earlier "
            "stages come from it. By default, networks start from random weights and earlier "
            "stages come from the default set.",
            autocompletion=offering(set_names),
        ),
    ] = None,
    resume: Annotated[
        bool,
        typer.Option(
            help="Continue from the checkpoints in the output folder. all: skip stages that are "
            "up to date."
        ),
    ] = False,
    max_minutes: Annotated[
        float | None,
        typer.Option(
            min=0.01,
            help="Stop training a stage after this time, and save its weights. The face has "
            "none before its end, so it is refused then.",
        ),
    ] = None,
    jobs: Annotated[int, typer.Option(min=1, help="Processes that fit the corpora.")] = 2,
    seed: Annotated[
        int, typer.Option(min=0, help="Seed of training.", rich_help_panel="Shared")
    ] = 0,
    device: str = "auto",
) -> None:
    """Train the face model, the speech encoder, the talking model, the emotion transfer or the
    voice model."""
    from talkemo.train.run import Run
    from talkemo.weights.registry import DEFAULT_SET

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
    _warn(run)
    use_all_cores()
    _train(stage, run, options, seed)


def _train(stage: StageName, run: Run, options: TrainOptions, seed: int) -> None:
    """Train with a progress bar, and print the metrics."""
    from talkemo.train.stages import train as train_stage
    from talkemo.train.stages import train_all

    with console.progress(stage.value) as update:
        if run.processes.is_main:
            run = replace(run, progress=lambda what, done, total: update(done, total, what))
        if stage is StageName.all:
            results = train_all(run, seed=seed, options=options)
        else:
            metrics = train_stage(stage.value, run, seed=seed, options=options)
            results = {stage.value: metrics}
    if run.processes.is_main:
        lines = [
            f"{name}, {fact}" for name, metrics in results.items() for fact in metric_facts(metrics)
        ]
        console.result(results, lines)


def _warn(run: Run) -> None:
    """Report packages that are not installed, and processes that were not started."""
    if run.processes.is_main and not (find_spec("tensorboard") and find_spec("matplotlib")):
        console.message(
            f"no TensorBoard files or plots of curves are written: {install_command('log')}"
        )
    if run.processes.count == 1 and any(name.startswith("ACCELERATE_") for name in os.environ):
        console.message(
            "one process trains; accelerate launch starts several with --multi_gpu, on CPUs too"
        )
