"""talkemo train: each stage of the paper, or all."""

from __future__ import annotations

from enum import Enum
from pathlib import Path
from typing import Annotated

import typer

from .console import console
from .options import command


class Stage(str, Enum):
    """What to train."""

    face = "face"
    speech = "speech"
    talking = "talking"
    emotion = "emotion"
    all = "all"


@command("train")
def train(
    stage: Annotated[Stage, typer.Argument(help="The stage to train.")],
    data: Annotated[Path, typer.Option(help="The folder of the corpora.")],
    output: Annotated[
        Path, typer.Option("-o", "--output", help="A folder for weights, checkpoints, logs and captures.")
    ],
    resume: Annotated[bool, typer.Option(help="Go on from the checkpoints in the output folder.")] = False,
    max_minutes: Annotated[
        float | None, typer.Option(min=0.01, help="Stop training a stage after so long, and keep what it has learnt.")
    ] = None,
    paper: Annotated[
        bool, typer.Option("--paper", help="talking: the paper's variant, neutral ravdess and grid, its Adam and rate.")
    ] = False,
    constant_weights: Annotated[
        bool, typer.Option("--constant-weights", help="talking: all vertices count alike, as in VOCA.")
    ] = False,
    log_mel: Annotated[
        bool, typer.Option("--log-mel", help="talking: log-mel bands instead of the speech encoder's features.")
    ] = False,
    freeze_encoder: Annotated[
        bool, typer.Option("--freeze-encoder", help="talking: do not train the speech encoder's upper half along.")
    ] = False,
    no_augmentation: Annotated[
        bool,
        typer.Option("--no-augmentation", help="emotion: the actors alone, without an animator's brows and grins."),
    ] = False,
    java_sed: Annotated[bool, typer.Option("--java-sed", help="emotion: java_sed's actors besides ravdess's.")] = False,
    steps: Annotated[int | None, typer.Option(min=1, help="speech, talking, emotion: steps to train for.")] = None,
    hold_out: Annotated[
        int, typer.Option(min=0, help="talking: keep every so many'th training speaker for the figures in the log.")
    ] = 0,
    jobs: Annotated[int, typer.Option(min=1, help="Processes that fit the corpora.")] = 2,
    seed: Annotated[int, typer.Option(help="Of what is random in training.", rich_help_panel="Shared")] = 0,
) -> None:
    """Train the face model, the speech encoder, the talking model or the emotion transfer from the corpora."""
    from talkemo.train import jobs as train_jobs

    stages = ["face", "speech", "talking", "emotion"] if stage is Stage.all else [stage.value]
    if "speech" in stages:
        train_jobs.require_teacher()  # rather now than after the minutes that the stage before it takes
    results: dict[str, object] = {}
    options = {
        "paper": paper,
        "constant_weights": constant_weights,
        "log_mel": log_mel,
        "freeze_encoder": freeze_encoder,
        "no_augmentation": no_augmentation,
        "java_sed": java_sed,
        "steps": steps,
        "hold_out": hold_out,
    }
    for name in stages:
        with console.progress(name) as update:
            report = lambda what, done, total, update=update: update(done, total, what)
            results[name] = train_jobs.train(name, data, output, resume, max_minutes, jobs, seed, report, options)
    console.result(results)
