"""talkemo study: pairs of films for people to judge, and what they chose."""

from __future__ import annotations

from enum import Enum
from pathlib import Path
from typing import Annotated

import typer

from . import options
from .console import console
from .options import command


class Action(str, Enum):
    """What is done."""

    make = "make"
    tally = "tally"


@command(
    "study",
    "talkemo study make ours/ theirs/ others/ -o study/",
    "talkemo study make --paper *.wav --data DATA -o study/",
    "talkemo study tally study/ answers_*.json -o preferences.png",
)
def study(
    action: Annotated[
        Action, typer.Argument(help="make a study's page, or tally the answers of participants.")
    ],
    paths: Annotated[
        list[Path],
        typer.Argument(
            help="make: a folder of films a method; with --paper recordings. tally: the study's folder, and "
            "participants' files."
        ),
    ],
    output: Annotated[
        Path | None,
        typer.Option(
            "-o", "--output", help="make: a new folder. tally: a .png of bars with 95 % intervals."
        ),
    ] = None,
    queries: Annotated[
        int | None, typer.Option(min=1, max=200, help="make: pairs for each participant; 15.")
    ] = None,
    seed: Annotated[
        int, typer.Option(min=0, help="make: of the films, their order and their sides.")
    ] = 0,
    paper: Annotated[
        bool,
        typer.Option(
            "--paper",
            help="make: render the recordings by the paper's five methods: full, without local weights, without "
            "augmentation, PointNet, VOCA. Three of them are trained first, for an hour or two.",
        ),
    ] = False,
    data: Annotated[Path | None, typer.Option(help="--paper: the folder of the corpora.")] = None,
    captures: Annotated[
        Path | None, typer.Option(help="--paper: a folder of captures; made there where missing.")
    ] = None,
    variants: Annotated[
        Path | None,
        typer.Option(
            help="--paper: a folder for trainings and films, kept for the next study; OUTPUT_variants."
        ),
    ] = None,
    steps: Annotated[
        int | None, typer.Option(min=1, help="--paper: steps of each training.")
    ] = None,
    weights: options.Weights = "default",
    device: str = "auto",
) -> None:
    """Make a user study of pairs of films, or count which were chosen."""
    from talkemo import InputError
    from talkemo.files.writing import check_output
    from talkemo.paper.study import QUERIES, as_rows, draw, make_study, tally

    chosen = None if weights == "default" else weights
    of_paper = {
        "--weights": chosen,
        "--data": data,
        "--captures": captures,
        "--variants": variants,
        "--steps": steps,
    }
    for option, value in of_paper.items():
        if value is not None and not (paper and action is Action.make):
            raise InputError(f"{option} belongs to study make --paper", "leave it out")
    if action is Action.make:
        if output is None:
            raise InputError("a study is a folder", "name a new one by -o")
        if paper:
            if data is None or not data.is_dir():
                raise InputError(
                    "study make --paper needs --data", "name the folder of the corpora"
                )
            if output.exists():
                raise InputError(f"{output} is there already", "choose a new folder")
            paths = _of_paper(
                paths,
                data,
                captures,
                variants or Path(f"{output}_variants"),
                steps,
                weights,
                device,
            )
        made = make_study(paths, output, queries=queries or QUERIES, seed=seed)
        console.message(
            "give participants index.html and media; keep key.json, which says whose film is whose"
        )
        console.result({"study": str(output), **made}, [str(output / "index.html")])
        return
    if paper:
        raise InputError("--paper belongs to study make", "leave it out")
    if queries is not None:
        raise InputError("--queries belongs to study make", "leave it out")
    if output is not None:
        check_output(output, (".png",), *paths)
    found = tally(paths[0], paths[1:])
    console.table(
        f"{len(paths) - 1} participants; share: of those who saw a difference, with a 95 % interval (Wilson)",
        [
            "question",
            "first",
            "second",
            "chose first",
            "chose second",
            "none",
            "share of first",
            "from",
            "to",
        ],
        [
            [p.question, p.first, p.second, p.chose_first, p.chose_second, p.none]
            + ["" if value is None else value for value in (p.share, p.low, p.high)]
            for p in found
        ],
    )
    if output is not None:
        draw(found, output)
    console.result(
        {"participants": len(paths) - 1, "preferences": as_rows(found)},
        [str(output)] if output else [],
    )


def _of_paper(
    recordings: list[Path],
    data: Path,
    captures: Path | None,
    variants: Path,
    steps: int | None,
    weights: str,
    device: str,
) -> list[Path]:
    """The folders of films of the paper's five methods."""
    from talkemo import load_models
    from talkemo.paper.variants import render_variants

    options.use_all_cores()
    models = load_models(weights, device=device)
    with console.progress("the paper's methods") as update:
        report = lambda what, done, total: update(done, total, what)
        return render_variants(
            recordings,
            data,
            captures or variants / "captures",
            models,
            variants,
            steps=steps,
            progress=report,
        )
