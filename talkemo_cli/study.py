"""talkemo study: pairs of films for people to judge, and what they chose."""

from __future__ import annotations

from enum import Enum
from pathlib import Path
from typing import Annotated

import typer

from .console import console
from .options import command


class Action(str, Enum):
    """What is done."""

    make = "make"
    tally = "tally"


@command(
    "study",
    "talkemo study make ours/ theirs/ others/ -o study/",
    "talkemo study tally study/ answers_*.json -o preferences.png",
)
def study(
    action: Annotated[Action, typer.Argument(help="make a study's page, or tally the answers of participants.")],
    paths: Annotated[
        list[Path],
        typer.Argument(help="make: a folder of films a method. tally: the study's folder, and participants' files."),
    ],
    output: Annotated[
        Path | None,
        typer.Option("-o", "--output", help="make: a new folder. tally: a .png of bars with 95 % intervals."),
    ] = None,
    queries: Annotated[int | None, typer.Option(min=1, max=200, help="make: pairs for each participant; 15.")] = None,
    seed: Annotated[int, typer.Option(min=0, help="make: of the films, their order and their sides.")] = 0,
) -> None:
    """Make a user study of pairs of films, or count which were chosen."""
    from talkemo import InputError
    from talkemo.files import check_output
    from talkemo.paper.study import QUERIES, as_rows, draw, make_study, tally

    if action is Action.make:
        if output is None:
            raise InputError("a study is a folder", "name a new one by -o")
        made = make_study(paths, output, queries=queries or QUERIES, seed=seed)
        console.message("give participants index.html and media; keep key.json, which says whose film is whose")
        console.result({"study": str(output), **made}, [str(output / "index.html")])
        return
    if queries is not None:
        raise InputError("--queries belongs to study make", "leave it out")
    if output is not None:
        check_output(output, (".png",), *paths)
    found = tally(paths[0], paths[1:])
    console.table(
        f"{len(paths) - 1} participants; share: of those who saw a difference, with a 95 % interval (Wilson)",
        ["question", "first", "second", "chose first", "chose second", "none", "share of first", "from", "to"],
        [
            [p.question, p.first, p.second, p.chose_first, p.chose_second, p.none]
            + ["" if value is None else value for value in (p.share, p.low, p.high)]
            for p in found
        ],
    )
    if output is not None:
        draw(found, output)
    console.result({"participants": len(paths) - 1, "preferences": as_rows(found)}, [str(output)] if output else [])
