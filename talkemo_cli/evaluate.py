"""talkemo evaluate: how good the models are on recordings that were never trained on."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from talkemo import InputError

from .console import console
from .options import command


@command("evaluate")
def evaluate(
    suite: Annotated[str, typer.Option(help="dev: lips and emotions on the dev split of the corpora.")] = "dev",
    data: Annotated[Path | None, typer.Option(help="The folder of the corpora.")] = None,
    captures: Annotated[
        Path | None,
        typer.Option(help="A folder of captures, see `talkemo reconstruct`; made there where missing."),
    ] = None,
    weights: Annotated[Path | None, typer.Option(help="A folder of weights instead of the bundled.")] = None,
    jobs: Annotated[int, typer.Option(min=1, help="Processes that fit the corpora.")] = 2,
) -> None:
    """Measure the models on the dev split, which training never sees."""
    if suite != "dev":
        raise InputError(f"unknown suite '{suite}'", "there is one so far: dev")
    if data is None or captures is None:
        raise InputError("--data and --captures are needed for the dev suite")
    from talkemo.evaluation import evaluate_emotion, evaluate_lips, evaluate_map

    with console.progress("evaluating") as update:
        report = lambda what, done, total: update(done, total, what)
        lips = evaluate_lips(data, captures, weights, jobs, report)
        emotions = evaluate_emotion(data, captures, weights, jobs, report)
        chart = evaluate_map(data, captures, weights, jobs, report)
    console.table(
        "Geometry map: captured expressions on random people",
        ["stress", "faces", "round trip, mean mm", "on lips and eyelids, max mm"],
        [[*chart.values()]],
    )
    console.table(
        f"Lips on the dev split ({lips['mask_vertices']} lip vertices; RE mm, VE mm a frame at the corpus's own fps)",
        ["corpus", "clips", "RE", "RE still", "RE mean", "VE", "VE still", "r opening", "r width", "amplitude"],
        [
            [
                row["corpus"],
                row["clips"],
                row["re_mm"],
                row["re_still_mm"],
                row["re_mean_motion_mm"],
                row["ve_mm"],
                row["ve_still_mm"],
                row["r_opening"],
                row["r_width"],
                row["amplitude"],
            ]
            for row in lips["corpora"]
        ],
    )
    console.table(
        "Emotions of the ravdess dev actors, by a classifier trained on real frames of other actors (four classes)",
        ["emotion", "real recognised", "generated recognised", "mouth opening r"],
        [[row["emotion"], row["real"], row["generated"], row["r_opening"]] for row in emotions["emotions"]],
    )
    if console.as_json:
        console.result({"lips": lips, "emotions": emotions, "map": chart})
