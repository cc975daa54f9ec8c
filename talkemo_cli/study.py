"""talkemo study: a user study that compares pairs of videos, and its results."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from pathlib import Path
from typing import Annotated

import typer

from talkemo import InputError
from talkemo.options import CheckedOptions, option
from talkemo.pipelines.options import RuntimeOptions
from talkemo.weights.names import DEFAULT_SET

from .console import console
from .options import command, use_all_cores


class StudyAction(str, Enum):
    """The actions of `talkemo study`."""

    make = "make"
    tally = "tally"


@dataclass(frozen=True)
class PaperStudyOptions(CheckedOptions):
    """Options of `talkemo study make --paper`."""

    data: Path | None = option(None, "--paper: the folder of the corpora.")
    captures: Path | None = option(
        None, "--paper: a folder of captures; missing ones are made there."
    )
    variants: Path | None = option(
        None,
        "--paper: a folder for trainings and videos, which later studies use again; by default "
        "OUTPUT_variants.",
    )
    steps: int | None = option(None, "--paper: steps of each training.", minimum=1)


@command(
    "study",
    "talkemo study make ours/ theirs/ others/ -o study/",
    "talkemo study make --paper *.wav --data DATA -o study/",
    "talkemo study tally study/ answers_*.json -o preferences.png",
)
def study(
    action: Annotated[
        StudyAction,
        typer.Argument(help="make a study's page, or tally the answers of participants."),
    ],
    paths: Annotated[
        list[Path],
        typer.Argument(
            help="make: a folder of videos per method; with --paper recordings. tally: the study's "
            "folder, and participants' files."
        ),
    ],
    paper_options: PaperStudyOptions,
    runtime: RuntimeOptions,
    output: Annotated[
        Path | None,
        typer.Option(
            "-o", "--output", help="make: a new folder. tally: a .png of bars with 95 % intervals."
        ),
    ] = None,
    queries: Annotated[
        int | None,
        typer.Option(min=1, max=200, help="make: pairs per participant, by default 15."),
    ] = None,
    seed: Annotated[
        int, typer.Option(min=0, help="make: seed of the choice of videos, order and sides.")
    ] = 0,
    paper: Annotated[
        bool,
        typer.Option(
            "--paper",
            help="make: render the recordings by the paper's six methods: full, without local "
            "weights, without augmentation, PointNet, VOCA, Karras et al. 2017. Four of them are "
            "trained first, for some hours.",
        ),
    ] = False,
) -> None:
    """Make a user study of pairs of videos, or count which were chosen."""
    _check(action, paper, paper_options, runtime, queries)
    if action is StudyAction.tally:
        _tally(paths[0], paths[1:], output)
        return
    if output is None:
        raise InputError("a study is a folder", "name a new one with -o")
    if paper:
        paths = _render_paper_methods(paths, paper_options, runtime, output)
    _make(paths, output, queries, seed)


def _check(
    action: StudyAction,
    paper: bool,
    paper_options: PaperStudyOptions,
    runtime: RuntimeOptions,
    queries: int | None,
) -> None:
    """Raise InputError for options that belong to another action."""
    weights = None if runtime.weights == DEFAULT_SET else runtime.weights
    for name, value in {"weights": weights, **vars(paper_options)}.items():
        if value is not None and not (paper and action is StudyAction.make):
            raise InputError(f"--{name} belongs to study make --paper", "leave it out")
    if action is StudyAction.tally:
        for name, is_given in {"paper": paper, "queries": queries is not None}.items():
            if is_given:
                raise InputError(f"--{name} belongs to study make", "leave it out")


def _make(folders: list[Path], output: Path, queries: int | None, seed: int) -> None:
    """Write the study's page, videos and key."""
    from talkemo.paper.study import QUERIES, make_study

    key = make_study(folders, output, queries=queries or QUERIES, seed=seed, notice=console.message)
    console.message(
        "give participants index.html and media; keep key.json, which says which method made each "
        "video"
    )
    console.result({"study": str(output), **key}, [str(output / "index.html")])


def _tally(study_folder: Path, answers: list[Path], output: Path | None) -> None:
    """Print, and draw to the output, how often each method was chosen."""
    from talkemo.files.writing import check_output
    from talkemo.paper.study import as_rows, draw, tally

    if output is not None:
        check_output(output, (".png",), study_folder, *answers)
    preferences = tally(study_folder, answers)
    rows = []
    for preference in preferences:
        shares = (preference.share, preference.low, preference.high)
        rows.append(
            [
                preference.question,
                preference.first,
                preference.second,
                preference.chose_first,
                preference.chose_second,
                preference.none,
                *("" if share is None else share for share in shares),
            ]
        )
    choices = ["first", "second", "chose first", "chose second", "none"]
    console.table(
        f"{len(answers)} participants; share: of those who saw a difference, with a 95 % interval "
        "(Wilson)",
        ["question", *choices, "share of first", "from", "to"],
        rows,
    )
    if output is not None:
        draw(preferences, output)
    data = {"participants": len(answers), "preferences": as_rows(preferences)}
    console.result(data, [str(output)] if output else [])


def _render_paper_methods(
    recordings: list[Path], options: PaperStudyOptions, runtime: RuntimeOptions, output: Path
) -> list[Path]:
    """Render the recordings by the paper's six methods; returns a folder of videos for each."""
    from talkemo import load_models
    from talkemo.paper.variants import render_variants

    if options.data is None or not options.data.is_dir():
        raise InputError("study make --paper needs --data", "name the folder of the corpora")
    if output.exists():
        raise InputError(f"{output} exists already", "choose a new folder")
    variants = options.variants or Path(f"{output}_variants")
    use_all_cores()
    models = load_models(runtime.weights, device=runtime.device)
    with console.progress("the paper's methods") as update:
        return render_variants(
            recordings,
            options.data,
            options.captures or variants / "captures",
            models,
            variants,
            steps=options.steps,
            progress=lambda what, done, total: update(done, total, what),
        )
