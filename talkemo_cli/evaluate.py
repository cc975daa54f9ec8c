"""talkemo evaluate: two animations compared, or the models measured on recordings that were never trained on."""

from __future__ import annotations

import os
from contextlib import ExitStack
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Annotated, Any

import typer

from talkemo.paper import SEEDS

from . import options
from .console import console
from .options import command

SUITES = ("dev", "table1", "table2", "figure6", "figure7", "paper")
JOBS = 2  # processes that fit the corpora, if not said otherwise
PAIR = "PRED and REF"  # what is evaluated where no suite is named

ON_CORPORA, OF_PAPER = (
    "The models, on corpora",
    "The paper, made anew",
)  # panels of the help, besides PAIR

# Unit and mask of the figures of the suite dev.
UNITS = {
    **dict.fromkeys(("re_mm", "re_still_mm", "re_mean_motion_mm"), ("mm", "lips")),
    **dict.fromkeys(("ve_mm", "ve_still_mm"), ("mm a frame", "lips")),
    "r_opening": ("correlation", "mouth opening"),
    "r_width": ("correlation", "mouth width"),
    "amplitude": ("ratio", "mouth opening"),
    "closures": ("words with b, m or p", "mouth opening"),
    **dict.fromkeys(("together", "together_reference"), ("share", "mouth opening")),
    "acceleration": ("ratio", "all"),
    **dict.fromkeys(("identity_mm", "moved_mm"), ("mm", "all")),
    "back_mm": ("mm", "lips"),
    "r_back": ("correlation", "mouth opening"),
}

# Options that only some suites take: the option, what takes it, and what is said where anything else is evaluated.
ONLY_FOR = (
    ("--data", SUITES, "--data, --captures and --against belong to a --suite"),
    ("--captures", SUITES, "--data, --captures and --against belong to a --suite"),
    ("--neutral", (PAIR,), "--neutral and --mask belong to PRED and REF, not to a suite"),
    ("--mask", (PAIR,), "--neutral and --mask belong to PRED and REF, not to a suite"),
    (
        "--weights",
        (PAIR, "dev", "figure6", "paper"),
        "table1, table2 and figure7 train their own models; --weights belongs to PRED and REF, dev, figure6 and paper",
    ),
    ("--jobs", SUITES, "--jobs belongs to a --suite"),
    ("--against", ("dev",), "--against belongs to the suite dev"),
    ("--split", ("dev",), "--split belongs to the suite dev"),
    ("--phones", (PAIR, "dev"), "--phones belongs to PRED and REF and to the suite dev"),
    (
        "--seeds",
        ("table1", "table2", "paper"),
        "--seeds belongs to the suites table1, table2 and paper",
    ),
    (
        "--steps",
        ("table1", "table2", "figure7", "paper"),
        "--steps belongs to table1, table2, figure7 and paper",
    ),
    ("--study", ("paper",), "--study belongs to the suite paper"),
    (
        "-o",
        (PAIR, "dev", "figure6", "figure7", "paper"),
        "-o belongs to PRED and REF, dev, figure6, figure7 and paper; tables are printed, or with --json one object",
    ),
)


@command(
    "evaluate",
    "talkemo evaluate mine.npz reference.npz -o error.png",
    "talkemo evaluate mine/ references/ -o metrics.csv",
    "talkemo evaluate --data DATA --split dev --captures CAPTURES -o confusion.png",
)
def evaluate(
    predicted: Annotated[
        Path | None,
        typer.Argument(
            metavar="PRED",
            help="An animation: npz, glb or a folder of meshes; or a folder of npz and glb.",
        ),
    ] = None,
    reference: Annotated[
        Path | None,
        typer.Argument(metavar="REF", help="What it should be; of two folders, files of one name."),
    ] = None,
    output: Annotated[
        Path | None,
        typer.Option(
            "-o",
            "--output",
            help="Of PRED and REF a png with plots, or a csv; of dev a png of confusion matrices, or a csv; of figure6 and figure7 "
            "the png; of paper a folder, by default paper, whose parts are kept as long as what they come from is the same.",
        ),
    ] = None,
    phones: Annotated[
        Path | None,
        typer.Option(
            help="PRED and REF, dev: a JSON file of aligned phones, by recording a list of each one's name, start and end in s, "
            "for recall and precision of the lips' closures."
        ),
    ] = None,
    neutral: Annotated[
        Path | None,
        typer.Option(
            help="The mesh at rest. By default the reference's own, or its first frame.",
            rich_help_panel=PAIR,
        ),
    ] = None,
    mask: Annotated[
        Path | None,
        typer.Option(
            help="A text file of vertex numbers, for RE and VE over them.", rich_help_panel=PAIR
        ),
    ] = None,
    suite: Annotated[
        str | None,
        typer.Option(
            help="dev: lips and emotions on a split of the corpora; what is done where only --data is named. table1: constant against local weights. "
            "table2: with and without augmentation. figure6, figure7: pictures of the paper. paper: all of them on a page.",
            rich_help_panel=ON_CORPORA,
        ),
    ] = None,
    data: Annotated[
        Path | None, typer.Option(help="The folder of the corpora.", rich_help_panel=ON_CORPORA)
    ] = None,
    captures: Annotated[
        Path | None,
        typer.Option(
            help="A folder of captures, see `talkemo reconstruct`; made there where missing.",
            rich_help_panel=ON_CORPORA,
        ),
    ] = None,
    jobs: Annotated[
        int, typer.Option(min=1, help="Processes that fit the corpora.", rich_help_panel=ON_CORPORA)
    ] = JOBS,
    split: Annotated[
        str | None,
        typer.Option(
            help="dev: the split that is measured: dev by default, train, or test where a corpus has one.",
            rich_help_panel=ON_CORPORA,
        ),
    ] = None,
    against: Annotated[
        str | None,
        typer.Option(
            help="dev: another set of weights, whose lips are measured in the same run.",
            rich_help_panel=ON_CORPORA,
        ),
    ] = None,
    seeds: Annotated[
        int | None,
        typer.Option(
            min=1,
            help=f"How often table1 and table2 train each variant. By default {SEEDS}.",
            rich_help_panel=OF_PAPER,
        ),
    ] = None,
    steps: Annotated[
        int | None,
        typer.Option(
            min=1,
            help="Steps of each training of table1, table2 and figure7. By default each one's own.",
            rich_help_panel=OF_PAPER,
        ),
    ] = None,
    study: Annotated[
        Path | None,
        typer.Option(
            help="paper: a study's folder, with its participants' answers_*.json, for figure 8.",
            rich_help_panel=OF_PAPER,
        ),
    ] = None,
    weights: options.Weights = "default",
    device: str = "auto",
) -> None:
    """Compare an animation with a reference, or measure the models on what training never sees."""
    from talkemo import InputError, load_models

    what = _what(predicted, reference, suite, data)
    given = {
        "--neutral": neutral,
        "--mask": mask,
        "--data": data,
        "--captures": captures,
        "--weights": None if weights == "default" else weights,
        "--jobs": None if jobs == JOBS else jobs,
        "--against": against,
        "--split": split,
        "--phones": phones,
        "--seeds": seeds,
        "--steps": steps,
        "--study": study,
        "-o": output,
    }
    _check_options(what, given)
    if what == PAIR:
        assert predicted is not None and reference is not None
        _compare(
            predicted,
            reference,
            neutral,
            mask,
            phones,
            output,
            load_models(weights, device=device).face,
        )
        return
    if data is None:
        raise InputError(f"--data is needed for the suite {what}", "name the folder of the corpora")
    options.use_all_cores()
    picture = output or Path(f"{what}.png")
    _check_paths(what, data, captures, picture)
    models = load_models(weights, device=device)
    other = None if against is None else load_models(against, device=device)
    with ExitStack() as stack:
        folder = captures or Path(stack.enter_context(TemporaryDirectory()))
        common = {"data": data, "cache": folder, "models": models, "jobs": jobs}
        if what == "dev":
            _dev(common, other, split or "dev", phones, output)
        elif what == "table1":
            _table1({**common, "seeds": seeds or SEEDS, "steps": steps})
        elif what == "table2":
            _table2({**common, "seeds": seeds or SEEDS, "steps": steps})
        elif what == "paper":
            own = {
                "seeds": seeds or SEEDS,
                "steps": steps,
                "study": study,
                "output": output or Path("paper"),
            }
            _paper({**common, **own})
        elif what == "figure6":
            _figure6({**common, "output": picture})
        else:
            _figure7({**common, "output": picture, "steps": steps})


def _what(
    predicted: Path | None, reference: Path | None, suite: str | None, data: Path | None
) -> str:
    """What is to be evaluated: PAIR, or one of SUITES."""
    from talkemo import InputError

    suites = f"suites are {', '.join(SUITES)}"
    if suite is None and predicted is None and data is not None:
        return "dev"
    if suite is None:
        if predicted is None or reference is None:
            raise InputError("name two animations, PRED and REF, or a --suite", suites)
        return PAIR
    if predicted is not None:
        raise InputError("PRED and REF, or a --suite, not both", "leave one out")
    if suite not in SUITES:
        raise InputError(f"unknown suite '{suite}'", suites)
    return suite


def _check_options(what: str, given: dict[str, Any]) -> None:
    """Raise InputError for an option that is given, not None, and does not belong to what is evaluated."""
    from talkemo import InputError

    for option, belongs_to, message in ONLY_FOR:
        if given[option] is not None and what not in belongs_to:
            raise InputError(message, f"leave {option} out")


def _check_paths(suite: str, data: Path, captures: Path | None, picture: Path) -> None:
    """Raise InputError for folders that are none, and for a picture that cannot be written."""
    from talkemo import InputError
    from talkemo.files.writing import check_output

    if suite.startswith("figure"):
        check_output(picture, (".png",))
    if suite == "dev":
        check_output(picture, (".png", ".csv"))
    if not data.is_dir():
        raise InputError(f"{data}: no such folder of corpora", "name it with --data")
    if captures is not None and captures.exists() and not captures.is_dir():
        raise InputError(f"{captures} is not a folder", "name a folder of captures, or a new one")


def _compare(
    predicted: Path,
    reference: Path,
    neutral: Path | None,
    mask: Path | None,
    phones: Path | None,
    output: Path | None,
    face: Any,
) -> None:
    from talkemo import InputError
    from talkemo.data.phones import read_phones
    from talkemo.evaluation.compare import compare_folders, is_folder_of_animations, measure
    from talkemo.files.writing import check_output

    several = is_folder_of_animations(predicted) and is_folder_of_animations(reference)
    if output is not None:
        check_output(output, (".csv",) if several else (".png", ".csv"), predicted, reference)
    if not several and is_folder_of_animations(predicted) and os.path.isdir(reference):
        raise InputError(
            f"{reference}: no npz or glb in it",
            "compare two folders of animations, or two animations",
        )
    spoken = None if phones is None else read_phones(phones)
    if spoken is not None and not several and not {predicted.stem, reference.stem} & spoken.keys():
        raise InputError(
            f"{phones}: no recording called {reference.stem}",
            "name recordings as the files, without ending",
        )
    how: dict[str, Any] = {"neutral": neutral, "mask": mask, "phones": spoken, "face": face}
    if several:
        with console.progress("comparing") as update:
            result = compare_folders(predicted, reference, **how, progress=update)
        for name in result["alone"]:
            console.message(f"{name}: in one of the folders only")
        console.table(
            f"{predicted} against {reference}: mean ± spread over {len(result['pairs'])} pairs of one name",
            ["metric", "mean", "spread", "unit", "mask", "pairs"],
            [
                [f["name"], f["mean"], f["spread"], f["unit"], f["mask"], f["pairs"]]
                for f in result["mean"]
            ],
        )
        pairs = result["pairs"]
    else:
        result, comparison, mesh = measure(predicted, reference, **how)
        console.table(
            f"{predicted} against {reference}: {result['frames']} frames at {result['fps']:g} fps",
            ["metric", "value", "unit", "mask", "vertices", "what"],
            [
                [f["name"], f["value"], f["unit"], f["mask"], f["vertices"], f["about"]]
                for f in result["figures"]
            ],
        )
        pairs = [result]
    if output is not None and output.suffix.lower() == ".csv":
        _write_csv(pairs, output)
    elif output is not None:
        from talkemo.evaluation.plots import plot_comparison

        plot_comparison(comparison, mesh, result["fps"], output)
    if console.as_json:
        console.result(result)


def _write_csv(pairs: list[dict[str, Any]], output: Path) -> None:
    """A row for each pair of animations and metric."""
    columns = ("name", "value", "unit", "mask", "vertices")
    rows: list[list[Any]] = []
    for pair in pairs:
        start = [pair["predicted"], pair["reference"], pair["frames"], pair["fps"]]
        rows += [[*start, *(figure[column] for column in columns)] for figure in pair["figures"]]
    _write_rows(["predicted", "reference", "frames", "fps", "metric", *columns[1:]], rows, output)


def _write_rows(header: list[str], rows: list[list[Any]], output: Path) -> None:
    """Write a table as a csv."""
    import csv

    from talkemo.files.writing import atomic_write

    with atomic_write(output) as partial, partial.open("w", newline="", encoding="utf-8") as file:
        csv.writer(file, lineterminator="\n").writerows([header, *rows])


def _dev(
    common: dict[str, Any], other: Any, split: str, phones: Path | None, output: Path | None
) -> None:
    from talkemo import InputError
    from talkemo.data.corpora import SPLITS
    from talkemo.data.phones import read_phones
    from talkemo.evaluation import emotion
    from talkemo.evaluation.lips import evaluate_lips
    from talkemo.evaluation.map_error import evaluate_map

    if split not in SPLITS:
        raise InputError(f"unknown split '{split}'", f"choose from {', '.join(SPLITS)}")
    if output is not None and output.suffix.lower() == ".png":
        from talkemo.evaluation.drawing import new_plot

        new_plot((1, 1))  # refused now rather than after the minutes of measuring
    with console.progress("evaluating") as update:
        common = {**common, "progress": lambda what, done, total: update(done, total, what)}
        of_lips = {
            **common,
            "split": split,
            "phones": None if phones is None else read_phones(phones),
        }
        lips = evaluate_lips(**of_lips)
        lips_against = None if other is None else evaluate_lips(**{**of_lips, "models": other})
        emotions = []
        for name in emotion.CORPORA:
            try:
                emotions.append(emotion.evaluate_emotion(**common, corpus=name, split=split))
            except InputError as error:  # other corpora may have the split
                if split == "dev":
                    raise
                console.message(f"{error.message}: left out")
        chart = evaluate_map(**common)
    console.table(
        "Geometry map: captured expressions on random people",
        ["stress", "faces", "round trip, mean mm", "on lips and eyelids, max mm"],
        [[*chart.values()]],
    )
    _lips_tables(lips, "")
    if lips_against is not None:
        _lips_tables(lips_against, f", weights in {other.name}")
    for found in emotions:
        _emotions_table(found)
    if output is not None and output.suffix.lower() == ".csv":
        against = {} if lips_against is None else {other.name: lips_against}
        _write_dev_csv({common["models"].name: lips, **against}, emotions, output)
    elif output is not None:
        from talkemo.evaluation.plots import plot_confusion

        plot_confusion(emotions, output)
    if console.as_json:
        console.result(
            {"lips": lips, "lips_against": lips_against, "emotions": emotions, "map": chart}
        )


def _write_dev_csv(
    lips: dict[str, dict[str, Any]], emotions: list[dict[str, Any]], output: Path
) -> None:
    """A row for each corpus and metric of the talking models, by the names of their sets, and of emotion transfer.

    count: of the clips, closures, recordings or frames that the value is of
    """
    rows: list[list[Any]] = []
    for name, found in lips.items():
        for row in found["corpora"]:
            start = [name, found["split"], row["corpus"], "talking", "neutral"]
            for metric, value in row.items():
                if metric not in ("corpus", "clips", "phones"):
                    rows.append([*start, metric, value, *UNITS[metric], row["clips"]])
            for kind, counts in row.get("phones", {}).items():
                for metric, of in (("recall", "spoken"), ("precision", "closures")):
                    rows.append(
                        [*start, f"{kind} {metric}", counts[metric], "share", "lips", counts[of]]
                    )
    for found in emotions:
        for number, row in enumerate(found["emotions"]):
            start = [next(iter(lips)), found["split"], found["corpus"], "emotion", row["emotion"]]
            for judge, matrix in found["confusion"].items():
                for kind in ("real", "generated"):
                    own, frames = row[f"{kind}_{judge}"], sum(matrix[kind][number])
                    told = ["", ""] if own is None else [own, 1 - own]
                    rows.append([*start, f"{kind}_{judge}", told[0], "share", "all", frames])
                    rows.append([*start, f"CE {kind}_{judge}", told[1], "share", "all", frames])
            rows += [
                [*start, metric, row[metric], *UNITS[metric], found["recordings"]]
                for metric in row
                if metric in UNITS
            ]
    header = [
        "weights",
        "split",
        "corpus",
        "model",
        "emotion",
        "metric",
        "value",
        "unit",
        "mask",
        "count",
    ]
    _write_rows(header, rows, output)


def _lips_tables(found: dict[str, Any], whose: str) -> None:
    fields = (
        "re_mm",
        "re_still_mm",
        "re_mean_motion_mm",
        "ve_mm",
        "ve_still_mm",
        "r_opening",
        "r_width",
        "amplitude",
    )
    console.table(
        f"Lips on the {found['split']} split ({found['mask_vertices']} lip vertices; RE mm, VE mm a frame at the corpus's own fps)"
        + whose,
        [
            "corpus",
            "clips",
            "RE",
            "RE still",
            "RE mean",
            "VE",
            "VE still",
            "r opening",
            "r width",
            "amplitude",
        ],
        [
            [row["corpus"], row["clips"], *(row[field] for field in fields)]
            for row in found["corpora"]
        ],
    )
    for row in found["corpora"]:
        if "closures" in row:
            console.table(
                f"Lips together on b, m, p of {row['corpus']}: under {found['together_mm']} mm within a frame"
                + whose,
                ["cases", "predicted", "captured"],
                [[row["closures"], row["together"], row["together_reference"]]],
            )
        if "phones" in row:
            console.table(
                f"Closures of {row['corpus']} by aligned phones: recall of p, b, m; precision, with f and v"
                + whose,
                ["lips", "p, b, m", "recall", "closures", "precision"],
                [
                    [
                        kind,
                        c["spoken"],
                        c["recall"],
                        c["closures"],
                        "" if c["precision"] is None else c["precision"],
                    ]
                    for kind, c in row["phones"].items()
                ],
            )


def _emotions_table(found: dict[str, Any]) -> None:
    given = f"given to {found['recordings']} neutral recordings of the {found['corpus']} {found['split']} actors"
    recognition = {
        "real_four": "real, 4",
        "generated_four": "generated, 4",
        "real_eight": "real, 8",
        "generated_eight": "generated, 8",
        "real_discriminator": "real, D",
        "generated_discriminator": "generated, D",
    }
    changes = {
        "r_opening": "mouth opening r",
        "acceleration": "acceleration",
        "identity_mm": "identity mm",
        "moved_mm": "moved mm",
        "back_mm": "back, lips mm",
        "r_back": "back, opening r",
    }
    titles = {
        f"Emotions {given}; recognised: accuracy (1 − classification error) of classifiers of four and of eight classes, trained on "
        "real frames of ravdess's training actors, and of the discriminator, D": recognition,
        f"What the emotions {given} change": changes,
    }
    for title, columns in titles.items():
        console.table(
            title,
            ["emotion", *columns.values()],
            [
                [row["emotion"], *("" if row[f] is None else row[f] for f in columns)]
                for row in found["emotions"]
            ],
        )


def _table1(arguments: dict[str, Any]) -> None:
    from talkemo.paper.table1 import table1

    with console.progress("table 1") as update:
        result = table1(**arguments, progress=lambda what, done, total: update(done, total, what))
    columns = ["T-RE", "T-VE", "V-RE", "V-VE"]
    console.table(
        f"Table 1: RE in mm, VE in mm a frame, mean ± spread of {arguments['seeds']} seeds after {result['steps']} "
        f"steps; T {result['clips']['T']} training clips, V {result['clips']['V']} of actors and sentences never "
        "trained on",
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


def _table2(arguments: dict[str, Any]) -> None:
    from talkemo.paper.table2 import table2

    with console.progress("table 2") as update:
        result = table2(**arguments, progress=lambda what, done, total: update(done, total, what))
    columns = [name for name in result["rows"][0] if name != "training"]
    console.table(
        f"Table 2: CE share of frames, RE mm over all {result['mask_vertices']} vertices, mean ± spread of "
        f"{arguments['seeds']} seeds after {result['iterations']} iterations; D {result['real_frames']} real frames of the dev actors, G {result['generated_frames']} generated",
        ["training", *columns],
        [
            [row["training"], *(f"{row[c]['mean']:.3f} ± {row[c]['spread']:.3f}" for c in columns)]
            for row in result["rows"]
        ],
    )
    if console.as_json:
        console.result(result)


def _paper(arguments: dict[str, Any]) -> None:
    from talkemo.paper.report import paper_report

    with console.progress("the paper") as update:
        result = paper_report(
            **arguments, progress=lambda what, done, total: update(done, total, what)
        )
    console.result(result, [result["page"]])


def _figure6(arguments: dict[str, Any]) -> None:
    from talkemo.paper.figure6 import figure6

    with console.progress("figure 6") as update:
        result = figure6(**arguments, progress=lambda what, done, total: update(done, total, what))
    console.table(
        f"Figure 6: silhouette of the emotions in the {result['layer']}",
        ["recorded faces", "generated faces"],
        [[result["silhouette_recorded"], result["silhouette_generated"]]],
    )
    console.result(result, [result["output"]])


def _figure7(arguments: dict[str, Any]) -> None:
    from talkemo.paper.figure7 import figure7

    with console.progress("figure 7") as update:
        result = figure7(**arguments, progress=lambda what, done, total: update(done, total, what))
    columns = ["generator", "emotion", "recognised", "roughness_mm", "moved_mm"]
    console.table(
        f"Figure 7: {result['frames']} frames of the dev actors after {result['iterations']} iterations",
        columns,
        [[row[c] for c in columns] for row in result["rows"]],
    )
    console.result(result, [result["output"]])
