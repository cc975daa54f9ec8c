"""talkemo reconstruct: landmarks and corpora to 3D."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from talkemo import InputError

from .console import console
from .options import command


@command("reconstruct")
def reconstruct(
    inputs: Annotated[
        list[Path], typer.Argument(metavar="INPUT...", help="Corpus folders, or files of 68 landmarks (npz, npy).")
    ],
    output: Annotated[
        Path, typer.Option("-o", "--output", help="A folder for captures of corpora; an .npz animation for landmarks.")
    ],
    fps: Annotated[float, typer.Option(help="Frames a second of a landmark file.")] = 30.0,
    jobs: Annotated[int, typer.Option(min=1, help="Processes.")] = 1,
) -> None:
    """Fit the bilinear face model to landmarks: pose, identity and expression of every frame.

    Prints the mean residual in mm, and how many recordings were rejected and why.
    """
    from talkemo.capture.jobs import reconstruct_corpus, reconstruct_landmarks
    from talkemo.data.corpora import CORPORA

    files = [source for source in inputs if not (source.is_dir() and source.name in CORPORA)]
    if files and len(inputs) > 1:
        raise InputError(f"{len(inputs)} inputs for one output", "one landmark file at a time, or corpus folders only")
    results: list[dict[str, object]] = []
    for source in inputs:
        with console.progress(source.name) as update:
            if source in files:
                results.append(reconstruct_landmarks(source, output, fps))
            else:
                results.append(reconstruct_corpus(source, output, jobs, update))
    keys = [key for key in results[0] if key != "input"]
    console.table(
        "Residuals of the fit", ["input", *keys], [[r["input"], *(r.get(k, "") for k in keys)] for r in results]
    )
    if console.as_json:
        console.result({"results": results})
