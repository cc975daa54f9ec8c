"""talkemo reconstruct: landmarks and corpora to 3D."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated, Any

import typer

from . import options
from .console import console
from .options import command


@command("reconstruct")
def reconstruct(
    inputs: Annotated[
        list[Path], typer.Argument(metavar="INPUT...", help="Corpus folders, or a file of 68 landmarks (npz, npy).")
    ],
    output: Annotated[
        Path,
        typer.Option(
            "-o", "--output", help="A folder for captures of corpora; of landmarks an animation, as of animate."
        ),
    ],
    fps: Annotated[float, typer.Option(help="Frames a second of a landmark file.")] = 30.0,
    jobs: Annotated[int, typer.Option(min=1, help="Processes.")] = 1,
    weights: options.Weights = "default",
) -> None:
    """Fit the bilinear face model to landmarks: pose, identity and expression of every frame.

    Prints the mean residual in mm, and how many recordings were rejected and why.
    """
    import talkemo
    from talkemo.data.corpora import CORPORA
    from talkemo.pipelines.reconstruct import reconstruct_corpus

    files = [source for source in inputs if not (os.path.isdir(source) and source.name in CORPORA)]
    if files and len(inputs) > 1:
        raise talkemo.InputError(
            f"{len(inputs)} inputs for one output", "one landmark file at a time, or corpus folders only"
        )
    models = talkemo.load_models(weights)
    rows: list[dict[str, Any]] = []
    for source in inputs:
        with console.progress(source.name) as update:
            if source in files:
                result = talkemo.reconstruct(source, output, fps=fps, models=models, progress=update)
                rows.append({"input": source.name, "frames": result.frames, **result.metrics})
            else:
                rows.append(reconstruct_corpus(source, output, models, jobs, update))
    keys = [key for key in rows[0] if key != "input"]
    console.table(
        "Residuals of the fit", ["input", *keys], [[row["input"], *(row.get(k, "") for k in keys)] for row in rows]
    )
    if console.as_json:
        console.result({"results": rows})
