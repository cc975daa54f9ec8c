"""talkemo evaluate: how good the models are on recordings that were never trained on."""

from __future__ import annotations

from contextlib import ExitStack
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Annotated

import typer

from talkemo import InputError

from .console import console
from .options import command

SUITES = ("dev", "table1")


@command("evaluate")
def evaluate(
    predicted: Annotated[Path | None, typer.Argument(metavar="PRED", help="An animation, npz.")] = None,
    reference: Annotated[Path | None, typer.Argument(metavar="REF", help="What it should be, npz.")] = None,
    neutral: Annotated[
        Path | None, typer.Option(help="The mesh at rest. [default: the reference's first frame]")
    ] = None,
    mask: Annotated[Path | None, typer.Option(help="A text file of vertex numbers, for RE and VE over them.")] = None,
    suite: Annotated[
        str | None,
        typer.Option(help="dev: lips and emotions on the dev split. table1: constant against local weights."),
    ] = None,
    data: Annotated[Path | None, typer.Option(help="The folder of the corpora.")] = None,
    captures: Annotated[
        Path | None,
        typer.Option(help="A folder of captures, see `talkemo reconstruct`; made there where missing."),
    ] = None,
    weights: Annotated[Path | None, typer.Option(help="A folder of weights instead of the bundled.")] = None,
    against: Annotated[
        Path | None, typer.Option(help="dev: another folder of weights, whose lips are measured in the same run.")
    ] = None,
    jobs: Annotated[int, typer.Option(min=1, help="Processes that fit the corpora.")] = 2,
    seeds: Annotated[int, typer.Option(min=1, help="How often table1 trains each variant.")] = 3,
    steps: Annotated[int | None, typer.Option(min=1, help="Steps of each of table1's trainings.")] = None,
) -> None:
    """Compare an animation with a reference, or measure the models on what training never sees."""
    if suite is None:
        if predicted is None or reference is None:
            raise InputError("name two animations, PRED and REF, or a --suite", f"suites are {', '.join(SUITES)}")
        if data or captures or weights or against:
            raise InputError("--data, --captures, --weights and --against belong to a --suite")
        _compare(predicted, reference, neutral, mask)
        return
    if predicted is not None:
        raise InputError("PRED and REF, or a --suite, not both")
    if suite not in SUITES:
        raise InputError(f"unknown suite '{suite}'", f"suites are {', '.join(SUITES)}")
    if neutral or mask:
        raise InputError("--neutral and --mask belong to PRED and REF, not to a suite")
    if suite == "table1" and (weights or against):
        raise InputError("table1 trains its own models; --weights and --against belong to dev")
    if data is None:
        raise InputError(f"--data is needed for the suite {suite}")
    with ExitStack() as stack:
        folder = captures or Path(stack.enter_context(TemporaryDirectory()))
        if suite == "dev":
            _dev(data, folder, weights, against, jobs)
        else:
            _table1(data, folder, jobs, seeds, steps)


def _compare(predicted: Path, reference: Path, neutral: Path | None, mask: Path | None) -> None:
    from talkemo.evaluation import compare

    result = compare(predicted, reference, neutral, mask)
    console.table(
        f"{predicted} against {reference}: {result['frames']} frames at {result['fps']:g} fps",
        ["metric", "value", "unit", "mask", "vertices", "what"],
        [[f["name"], f["value"], f["unit"], f["mask"], f["vertices"], f["about"]] for f in result["figures"]],
    )
    if console.as_json:
        console.result(result)


def _table1(data: Path, captures: Path, jobs: int, seeds: int, steps: int | None) -> None:
    from talkemo.evaluation import table1

    with console.progress("table 1") as update:
        result = table1(data, captures, jobs, seeds, steps, lambda what, done, total: update(done, total, what))
    columns = ["T-RE", "T-VE", "V-RE", "V-VE"]
    console.table(
        f"Table 1: RE in mm, VE in mm a frame, mean ± spread of {seeds} seeds after {result['steps']} steps; "
        f"T {result['clips']['T']} training clips, V {result['clips']['V']} of actors and sentences never trained on",
        ["weights", "mask", "vertices", *columns],
        [
            [
                row["weights"],
                row["mask"],
                result["masks"][row["mask"]],
                *(f"{row[c]['mean']:.3f} ± {row[c]['spread']:.3f}" for c in columns),
            ]
            for row in result["rows"]
        ],
    )
    if console.as_json:
        console.result(result)


def _dev(data: Path, captures: Path, weights: Path | None, against: Path | None, jobs: int) -> None:
    from talkemo.evaluation import evaluate_emotion, evaluate_lips, evaluate_map

    with console.progress("evaluating") as update:
        report = lambda what, done, total: update(done, total, what)
        lips = evaluate_lips(data, captures, weights, jobs, report)
        other = evaluate_lips(data, captures, against, jobs, report) if against else None
        emotions = evaluate_emotion(data, captures, weights, jobs, report)
        chart = evaluate_map(data, captures, weights, jobs, report)
    console.table(
        "Geometry map: captured expressions on random people",
        ["stress", "faces", "round trip, mean mm", "on lips and eyelids, max mm"],
        [[*chart.values()]],
    )
    fields = ("re_mm", "re_still_mm", "re_mean_motion_mm", "ve_mm", "ve_still_mm", "r_opening", "r_width", "amplitude")
    for found, whose in ((lips, ""), (other, f", weights in {against}")):
        if found is None:
            continue
        console.table(
            f"Lips on the dev split ({found['mask_vertices']} lip vertices; RE mm, VE mm a frame at the corpus's own fps)"
            + whose,
            ["corpus", "clips", "RE", "RE still", "RE mean", "VE", "VE still", "r opening", "r width", "amplitude"],
            [[row["corpus"], row["clips"], *(row[field] for field in fields)] for row in found["corpora"]],
        )
        for row in found["corpora"]:
            if "closures" in row:
                console.table(
                    f"Lips together on b, m, p of {row['corpus']}: under {found['together_mm']} mm within a frame"
                    + whose,
                    ["cases", "predicted", "captured"],
                    [[row["closures"], row["together"], row["together_reference"]]],
                )
    console.table(
        "Emotions of the ravdess dev actors, by a classifier trained on real frames of other actors (four classes)",
        ["emotion", "real recognised", "generated recognised", "mouth opening r"],
        [[row["emotion"], row["real"], row["generated"], row["r_opening"]] for row in emotions["emotions"]],
    )
    if console.as_json:
        console.result({"lips": lips, "lips_against": other, "emotions": emotions, "map": chart})
