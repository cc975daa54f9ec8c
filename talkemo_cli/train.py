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
        float | None, typer.Option(min=0.01, help="Stop training the talking or emotion stage after so long.")
    ] = None,
    jobs: Annotated[int, typer.Option(min=1, help="Processes that fit the corpora.")] = 2,
    seed: Annotated[int, typer.Option(help="Of what is random in training.", rich_help_panel="Shared")] = 0,
) -> None:
    """Train the face model, the talking model or the emotion transfer from the corpora."""
    from talkemo.train import jobs as train_jobs

    stages = ["face", "talking", "emotion"] if stage is Stage.all else [stage.value]
    results: dict[str, object] = {}
    for name in stages:
        with console.progress(name) as update:
            report = lambda what, done, total, update=update: update(done, total, what)
            results[name] = train_jobs.train(name, data, output, resume, max_minutes, jobs, seed, report)
    console.result(results)
