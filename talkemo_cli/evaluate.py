"""talkemo evaluate: how good the models are on recordings that were never trained on."""

from __future__ import annotations

from contextlib import ExitStack
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Annotated

import typer

from talkemo import InputError
from talkemo.files import check_output

from .console import console
from .options import command

SUITES = ("dev", "table1", "table2", "figure6", "figure7")


@command("evaluate")
def evaluate(
    predicted: Annotated[
        Path | None, typer.Argument(metavar="PRED", help="An animation: npz, glb or a folder of meshes.")
    ] = None,
    reference: Annotated[Path | None, typer.Argument(metavar="REF", help="What it should be.")] = None,
    neutral: Annotated[
        Path | None, typer.Option(help="The mesh at rest. [default: the reference's own, or its first frame]")
    ] = None,
    mask: Annotated[Path | None, typer.Option(help="A text file of vertex numbers, for RE and VE over them.")] = None,
    suite: Annotated[
        str | None,
        typer.Option(
            help="dev: lips and emotions on the dev split. table1: constant against local weights. "
            "table2: with and without augmentation. figure6, figure7: pictures of the paper."
        ),
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
    steps: Annotated[
        int | None, typer.Option(min=1, help="Steps of each training of table1, table2 and figure7.")
    ] = None,
    output: Annotated[
        Path | None, typer.Option("-o", "--output", help="A png for a figure. [default: figure6.png, figure7.png]")
    ] = None,
) -> None:
    """Compare an animation with a reference, or measure the models on what training never sees."""
    if suite is None:
        if predicted is None or reference is None:
            raise InputError("name two animations, PRED and REF, or a --suite", f"suites are {', '.join(SUITES)}")
        if data or captures or weights or against or output:
            raise InputError("--data, --captures, --weights, --against and -o belong to a --suite")
        _compare(predicted, reference, neutral, mask)
        return
    if predicted is not None:
        raise InputError("PRED and REF, or a --suite, not both")
    if suite not in SUITES:
        raise InputError(f"unknown suite '{suite}'", f"suites are {', '.join(SUITES)}")
    if neutral or mask:
        raise InputError("--neutral and --mask belong to PRED and REF, not to a suite")
    if suite not in ("dev", "figure6") and weights:
        raise InputError(f"{suite} trains its own models; --weights belongs to dev and figure6")
    if suite != "dev" and against:
        raise InputError("--against belongs to the suite dev")
    if output and not suite.startswith("figure"):
        raise InputError("-o belongs to figure6 and figure7; tables are printed, or with --json one object")
    picture = output or Path(f"{suite}.png")
    if suite.startswith("figure"):
        check_output(picture, (".png",))
    if data is None:
        raise InputError(f"--data is needed for the suite {suite}")
    with ExitStack() as stack:
        folder = captures or Path(stack.enter_context(TemporaryDirectory()))
        if suite == "dev":
            _dev(data, folder, weights, against, jobs)
        elif suite == "table1":
            _table1(data, folder, jobs, seeds, steps)
        elif suite == "table2":
            _table2(data, folder, jobs, steps)
        else:
            _figure(suite, data, folder, picture, weights, jobs, steps)


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


def _table2(data: Path, captures: Path, jobs: int, steps: int | None) -> None:
    from talkemo.emotion_evaluation import table2

    with console.progress("table 2") as update:
        result = table2(data, captures, jobs, steps, lambda what, done, total: update(done, total, what))
    columns = ["D-CE", "D-RE", "G-CE", "G-RE", "G-CE classifier"]
    console.table(
        f"Table 2: CE share of frames, RE mm over all {result['mask_vertices']} vertices, after {result['iterations']} "
        f"iterations; D {result['real_frames']} real frames of the dev actors, G {result['generated_frames']} generated",
        ["training", *columns],
        [[row["training"], *(row[c] for c in columns)] for row in result["rows"]],
    )
    if console.as_json:
        console.result(result)


def _figure(
    suite: str, data: Path, captures: Path, picture: Path, weights: Path | None, jobs: int, steps: int | None
) -> None:
    from talkemo.emotion_evaluation import figure6, figure7

    with console.progress(suite) as update:
        report = lambda what, done, total: update(done, total, what)
        if suite == "figure6":
            result = figure6(data, captures, picture, weights, jobs, report)
        else:
            result = figure7(data, captures, picture, jobs, steps, report)
    if "rows" in result:
        columns = ["generator", "emotion", "recognised", "roughness_mm", "moved_mm"]
        console.table(
            f"Figure 7: {result['frames']} frames of the dev actors after {result['iterations']} iterations",
            columns,
            [[row[c] for c in columns] for row in result["rows"]],
        )
    else:
        console.table(
            f"Figure 6: silhouette of the emotions in the {result['layer']}",
            ["recorded faces", "generated faces"],
            [[result["silhouette_recorded"], result["silhouette_generated"]]],
        )
    console.result(result, [str(picture)])


def _dev(data: Path, captures: Path, weights: Path | None, against: Path | None, jobs: int) -> None:
    from talkemo.emotion_evaluation import evaluate_emotion
    from talkemo.evaluation import evaluate_lips, evaluate_map

    with console.progress("evaluating") as update:
        report = lambda what, done, total: update(done, total, what)
        lips = evaluate_lips(data, captures, weights, jobs, report)
        other = evaluate_lips(data, captures, against, jobs, report) if against else None
        emotions = [evaluate_emotion(data, captures, weights, jobs, report, name) for name in ("ravdess", "java_sed")]
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
    columns = {
        "real_four": "real, 4",
        "generated_four": "generated, 4",
        "real_eight": "real, 8",
        "generated_eight": "generated, 8",
        "r_opening": "mouth opening r",
        "acceleration": "acceleration",
        "identity_mm": "identity mm",
        "moved_mm": "moved mm",
    }
    for found in emotions:
        console.table(
            f"Emotions given to {found['recordings']} neutral recordings of the {found['corpus']} dev actors; "
            "recognised: share of frames, by classifiers of four and of eight classes that saw real frames of ravdess's "
            "training actors",
            ["emotion", *columns.values()],
            [[row["emotion"], *("" if row[f] is None else row[f] for f in columns)] for row in found["emotions"]],
        )
    if console.as_json:
        console.result({"lips": lips, "lips_against": other, "emotions": emotions, "map": chart})
