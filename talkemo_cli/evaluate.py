"""talkemo evaluate: compare animations, measure the models on corpora, or reproduce the paper."""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Annotated, Any

import typer

from talkemo.evaluation.options import (
    CORPORA_PANEL,
    PAIR_PANEL,
    CorpusOptions,
    PairOptions,
    SplitOptions,
)
from talkemo.paper import PAPER_SEEDS
from talkemo.paper.options import PaperOptions
from talkemo.pipelines.options import RuntimeOptions
from talkemo.weights.names import DEFAULT_SET

from . import evaluate_tables as tables
from .console import console
from .options import command, use_all_cores

if TYPE_CHECKING:
    from talkemo import Models
    from talkemo.data.captures import StepProgress

# Two uses of the command: compare two animations, and measure the models on a split. All others
# reproduce tables or figures of the paper.
PAIR, SPLIT = PAIR_PANEL, "dev"
SUITES = (SPLIT, "table1", "table2", "figure6", "figure7", "paper")

# Options that each use takes, besides those that all commands share.
CORPUS_OPTION_NAMES = ("data", "captures", "jobs")
OPTIONS_OF_USE = {
    PAIR: ("neutral", "mesh", "fps", "mask", "emotion", "phones", "weights", "output"),
    SPLIT: (*CORPUS_OPTION_NAMES, "split", "against", "phones", "weights", "output"),
    "table1": (*CORPUS_OPTION_NAMES, "seeds", "steps", "trainings"),
    "table2": (*CORPUS_OPTION_NAMES, "seeds", "steps", "trainings"),
    "figure6": (*CORPUS_OPTION_NAMES, "weights", "output"),
    "figure7": (*CORPUS_OPTION_NAMES, "seeds", "steps", "trainings", "output"),
    "paper": (*CORPUS_OPTION_NAMES, "seeds", "steps", "study", "weights", "output"),
}

# Stages of weights that each suite uses.
STAGES_OF_SUITE = {
    "table1": ("face", "speech"),
    "table2": ("face", "talking"),
    "figure6": ("face", "emotion", "discriminator"),
    "figure7": ("face",),
    "paper": ("face", "talking", "emotion", "discriminator"),
}


@command(
    "evaluate",
    "talkemo evaluate mine.npz reference.npz -o error.png",
    "talkemo evaluate mine/ references/ -o metrics.csv",
    "talkemo evaluate --data DATA --split dev --captures CAPTURES -o confusion.png",
)
def evaluate(
    pair: PairOptions,
    corpora: CorpusOptions,
    splits: SplitOptions,
    paper: PaperOptions,
    runtime: RuntimeOptions,
    predicted: Annotated[
        Path | None,
        typer.Argument(
            metavar="PRED",
            help="An animation: npz, glb, npy of vertices with --mesh, or a folder of meshes; or a "
            "folder of npz, glb and npy.",
        ),
    ] = None,
    reference: Annotated[
        Path | None,
        typer.Argument(metavar="REF", help="The target; of two folders, files of the same name."),
    ] = None,
    output: Annotated[
        Path | None,
        typer.Option(
            "-o",
            "--output",
            help="PRED and REF: a png of plots, or a csv. dev: a png of confusion matrices (and NAME_voice.png of the voice "
            "model), or a csv. figure6, figure7: the png. paper: a folder (default: paper); parts that are up "
            "to date are kept.",
        ),
    ] = None,
    phones: Annotated[
        Path | None,
        typer.Option(
            help="PRED and REF, dev: a JSON file of aligned phones, by recording a list of name, "
            "start and end in s, for recall and precision of lip closures."
        ),
    ] = None,
    suite: Annotated[
        str | None,
        typer.Option(
            help="dev: lips and emotions on a split of the corpora; the default with --data. "
            "table1: constant against local weights. table2: with and without augmentation. "
            "figure6, figure7: these figures of the paper. paper: all of them on a page.",
            rich_help_panel=CORPORA_PANEL,
        ),
    ] = None,
) -> None:
    """Compare an animation with a reference, or measure the models on unseen recordings."""
    from talkemo import load_models

    use = _use(predicted, reference, suite, corpora.data)
    named = [name for group in (pair, corpora, splits, paper) for name in _named_options(group)]
    _check_options(use, [*named, *_named_shared_options(phones, output, runtime)])
    if use == PAIR:
        assert predicted is not None and reference is not None
        models = load_models(runtime.weights, device=runtime.device)
        _compare(predicted, reference, pair, phones, output, models)
        return
    _check_paths(use, corpora, output or Path(f"{use}.png"))
    use_all_cores()
    models = load_models(runtime.weights, device=runtime.device)
    if use == SPLIT:
        rival = splits.against and load_models(splits.against, device=runtime.device)
        _evaluate_split(corpora, splits, models, rival or None, phones, output)
    else:
        _reproduce(use, corpora, paper, models, output)


def _use(
    predicted: Path | None, reference: Path | None, suite: str | None, data: Path | None
) -> str:
    """Return the kind of evaluation: PAIR, or one of SUITES."""
    from talkemo import InputError

    suites = f"suites are {', '.join(SUITES)}"
    if suite is None and predicted is None and data is not None:
        return SPLIT
    if suite is None:
        if predicted is None or reference is None:
            raise InputError("name two animations, PRED and REF, or a --suite", suites)
        return PAIR
    if predicted is not None:
        raise InputError("PRED and REF, or a --suite, not both", "leave one out")
    if suite not in SUITES:
        raise InputError(f"unknown suite '{suite}'", suites)
    return suite


def _named_options(group: Any) -> list[str]:
    """The options of a dataclass that have another value than their default."""
    return [
        field.name
        for field in dataclasses.fields(group)
        if getattr(group, field.name) != field.default
    ]


def _named_shared_options(
    phones: Path | None, output: Path | None, runtime: RuntimeOptions
) -> list[str]:
    """The options of several uses that have another value than their default."""
    is_named = {
        "phones": phones is not None,
        "output": output is not None,
        "weights": runtime.weights != DEFAULT_SET,
    }
    return [name for name in is_named if is_named[name]]


def _check_options(use: str, names: list[str]) -> None:
    """Raise InputError for an option that does not belong to a use."""
    from talkemo import InputError

    for name in names:
        if name in OPTIONS_OF_USE[use]:
            continue
        option = "-o" if name == "output" else f"--{name}"
        suites = [suite for suite in SUITES if name in OPTIONS_OF_USE[suite]]
        uses = [PAIR] if name in OPTIONS_OF_USE[PAIR] else []
        if len(suites) == len(SUITES):
            uses.append("a --suite")
        elif suites:
            uses.append(f"the suite {' or '.join(suites)}")
        hint = f"leave {option} out"
        if name == "weights":
            hint += f": {use} trains its own models"
        raise InputError(f"{option} belongs to {' or '.join(uses)}", hint)


def _check_paths(suite: str, corpora: CorpusOptions, output: Path) -> None:
    """Raise InputError for inputs that are not folders, and an output that cannot be written."""
    from talkemo import InputError
    from talkemo.files.writing import check_output

    data, captures = corpora.data, corpora.captures
    if data is None:
        raise InputError(
            f"--data is needed for the suite {suite}", "name the folder of the corpora"
        )
    if suite.startswith("figure"):
        check_output(output, (".png",))
    if suite == SPLIT:
        check_output(output, (".png", ".csv"))
    if not data.is_dir():
        raise InputError(f"{data}: no such folder of corpora", "name it with --data")
    if captures is not None and captures.exists() and not captures.is_dir():
        raise InputError(f"{captures} is not a folder", "name a folder of captures, or a new one")


def _compare(
    predicted: Path,
    reference: Path,
    pair: PairOptions,
    phones: Path | None,
    output: Path | None,
    models: Models,
) -> None:
    """Compare two animations, or two folders of them."""
    from talkemo import InputError
    from talkemo.evaluation.compare import compare_folders, compare_pair, is_folder_of_animations
    from talkemo.files.writing import check_output

    predicted_folder = is_folder_of_animations(predicted)
    folders = predicted_folder and is_folder_of_animations(reference)
    if output is not None:
        check_output(output, (".csv",) if folders else (".png", ".csv"), predicted, reference)
    if predicted_folder and not folders and os.path.isdir(reference):
        raise InputError(
            f"{reference}: no npz, glb or npy in it",
            "compare two folders of animations, or two animations",
        )
    settings = _comparison_settings(pair, phones, models)
    if folders:
        with console.progress("comparing") as update:
            result = compare_folders(predicted, reference, **settings, progress=update)
        tables.print_folders(result, f"{predicted} against {reference}")
        pairs = result["pairs"]
    else:
        if phones is not None and not {predicted.stem, reference.stem} & settings["phones"].keys():
            raise InputError(
                f"{phones}: no recording called {reference.stem}",
                "its keys must be the names of the files, without ending",
            )
        compared = compare_pair(predicted, reference, **settings)
        result = compared.result
        tables.print_pair(result)
        pairs = [result]
    if output is not None and _is_csv(output):
        tables.write_pairs_csv(pairs, output)
    elif output is not None:
        from talkemo.evaluation.plots import plot_comparison

        plot_comparison(compared.comparison, compared.mesh, result["fps"], output)
    if console.as_json:
        console.result(result)


def _comparison_settings(pair: PairOptions, phones: Path | None, models: Models) -> dict[str, Any]:
    """The keywords of `compare_pair`. Raises InputError for an unknown emotion or broken phones."""
    from talkemo.data.phones import read_phones
    from talkemo.expression.emotions import parse_emotion

    if pair.emotion is not None:
        parse_emotion(pair.emotion)
    return {
        "options": pair,
        "phones": None if phones is None else read_phones(phones),
        "face": models.face,
        "discriminator": models.discriminator,
    }


def _evaluate_split(
    corpora: CorpusOptions,
    splits: SplitOptions,
    models: Models,
    against: Models | None,
    phones: Path | None,
    output: Path | None,
) -> None:
    """Measure the talking model, emotion transfer and the geometry map on a split."""
    from talkemo.data.phones import read_phones
    from talkemo.evaluation.plots import plot_voice
    from talkemo.evaluation.split import DEFAULT_SPLIT, evaluate_split

    if output is not None and not _is_csv(output):
        _check_confusion_plot(output, corpora.data or Path())
    spoken = None if phones is None else read_phones(phones)
    with _corpora(corpora, models) as (data, captures), _progress("evaluating") as progress:
        result = evaluate_split(
            dataclasses.replace(corpora, data=data, captures=captures),
            models,
            split=splits.split or DEFAULT_SPLIT,
            against=against,
            phones=spoken,
            progress=progress,
            notice=console.message,
        )
    lips = {models.name: result["lips"]}
    tables.print_map(result["map"])
    tables.print_lips(result["lips"], "")
    if against is not None:
        lips[against.name] = result["lips_against"]
        tables.print_lips(result["lips_against"], f", weights in {against.name}")
    for emotions in result["emotions"]:
        tables.print_emotions(emotions)
    if result["voice"] is not None:
        tables.print_voice(result["voice"])
    if output is not None:
        _write_split(output, lips, result["emotions"])
        if result["voice"] is not None and not _is_csv(output):
            plot_voice(result["voice"], output.with_name(f"{output.stem}_voice.png"))
    if console.as_json:
        console.result(result)


def _is_csv(output: Path) -> bool:
    return output.suffix.lower() == ".csv"


def _check_confusion_plot(output: Path, data: Path) -> None:
    """Raise InputError if confusion matrices cannot be measured, or matplotlib is missing."""
    from talkemo import InputError
    from talkemo.evaluation.drawing import new_plot
    from talkemo.evaluation.emotion import emotion_corpora

    if not emotion_corpora(data):
        raise InputError(
            f"{output}: no confusion matrices, since {data} has no corpus of acted emotion",
            "write a csv",
        )
    new_plot((1, 1))  # a missing matplotlib is reported now, not after minutes of measuring


def _write_split(
    output: Path, lips: dict[str, dict[str, Any]], emotions: list[dict[str, Any]]
) -> None:
    """Write the metrics of a split as a csv, or its confusion matrices as an image."""
    from talkemo.evaluation.plots import plot_confusion

    if _is_csv(output):
        tables.write_split_csv(lips, emotions, output)
    elif emotions:
        plot_confusion(emotions, output)
    else:
        console.message(f"{output} is not written: no emotions were measured")


def _reproduce(
    suite: str, corpora: CorpusOptions, paper: PaperOptions, models: Models, output: Path | None
) -> None:
    """Reproduce a table or figure of the paper, or all of them on a page."""
    from talkemo.data.corpora import require_corpora
    from talkemo.paper.figure6 import figure6
    from talkemo.paper.figure7 import figure7
    from talkemo.paper.report import paper_report
    from talkemo.paper.table1 import table1
    from talkemo.paper.table2 import table2

    if output is None:
        output = Path("paper" if suite == "paper" else f"{suite}.png")
    seeds = paper.seeds or PAPER_SEEDS
    assert corpora.data is not None
    # What is missing or unusable is refused before corpora are fitted.
    require_corpora(corpora.data, ("ravdess", "grid_s1") if suite == "table1" else ("ravdess",))
    for stage in STAGES_OF_SUITE[suite]:
        models.check(stage)
    with _corpora(corpora, models) as (data, captures), _progress(suite) as progress:
        common: dict[str, Any] = {"jobs": corpora.jobs, "progress": progress}
        trained: dict[str, Any] = {
            **common,
            "seeds": seeds,
            "steps": paper.steps,
            "trainings": paper.trainings,
        }
        if suite == "table1":
            result = table1(data, captures, models, **trained)
        elif suite == "table2":
            result = table2(data, captures, models, **trained)
        elif suite == "figure6":
            result = figure6(data, captures, models, output, **common)
        elif suite == "figure7":
            result = figure7(data, captures, models, output, **trained)
        else:
            result = paper_report(data, captures, models, output, paper, **common)
    if suite in tables.PRINTED_SUITES:
        tables.PRINTED_SUITES[suite](result)
    written = result.get("page", result.get("output"))
    console.result(result, [] if written is None else [written])


@contextmanager
def _corpora(corpora: CorpusOptions, models: Models) -> Iterator[tuple[Path, Path]]:
    """The folders of the corpora and of captures, the latter in the cache unless it is named."""
    from talkemo.data.capture_cache import cached_captures_folder, mark_captures_used

    assert corpora.data is not None
    if corpora.captures is not None:
        yield corpora.data, corpora.captures
        return
    try:
        folder = cached_captures_folder(corpora.data, models.face)
    except OSError as error:
        console.message(f"the cache cannot be used ({error}): the fits of the corpora are not kept")
        with TemporaryDirectory() as captures:
            yield corpora.data, Path(captures)
        return
    console.message(f"the fits of the corpora are kept in {folder}")
    try:
        yield corpora.data, folder
    finally:
        mark_captures_used(folder)


@contextmanager
def _progress(label: str) -> Iterator[StepProgress]:
    """Show a progress bar; yield the function that the library calls with its progress.

    The function takes the name of the step, the number of parts done and their total.
    """
    with console.progress(label) as update:

        def report(step: str, done: int, total: int) -> None:
            update(done, total, step)

        yield report
