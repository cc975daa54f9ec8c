"""talkemo reconstruct: films, landmarks and corpora to 3D."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated, Any

import typer

from . import options
from .console import console
from .options import command


@command(
    "reconstruct",
    "talkemo reconstruct clip.mp4 --onto face.obj -o talk.glb --preview look.mp4",
    "talkemo reconstruct clip.mp4 --emotion sad -o sad.mp4 --neutral person.obj",
    "talkemo reconstruct films/ --corpus folder -o captures/ --jobs 4",
)
def reconstruct(
    inputs: Annotated[
        list[Path],
        typer.Argument(
            metavar="INPUT...",
            help="A film or photograph of a person, 68 landmarks of one (npz, npy), or corpus folders.",
        ),
    ],
    output: Annotated[
        list[Path],
        typer.Option(
            "-o",
            "--output",
            help="An animation, as of animate; may be repeated. A folder for corpora.",
        ),
    ],
    onto: Annotated[
        Path | None,
        typer.Option(
            help="A mesh with a face, in the place of the person's own.", show_default=False
        ),
    ] = None,
    model: Annotated[
        Path | None,
        typer.Option(
            help="A face model of yours, whose topology the person's face gets: FaceScape's npz, FLAME's pkl, the folder "
            "of ICT FaceKit.",
            show_default=False,
        ),
    ] = None,
    head: Annotated[
        bool, typer.Option("--head", help="Turn the mesh as the person's head turns.")
    ] = False,
    emotion: Annotated[
        str | None,
        typer.Option(help="Change the performance to this emotion, or mix.", show_default=False),
    ] = None,
    intensity: options.Intensity = 1.0,
    neutral: Annotated[
        Path | None,
        typer.Option(
            help="Write the face that is animated, at rest, to an obj or ply.", show_default=False
        ),
    ] = None,
    preview: Annotated[
        Path | None,
        typer.Option(
            help="Write the film with the points and the fitted face over it, to an mp4.",
            show_default=False,
        ),
    ] = None,
    sync: Annotated[
        str,
        typer.Option(
            metavar="auto|off",
            help="auto moves the lips to where a film's sound has them, if it is early or late. The delay is printed.",
        ),
    ] = "off",
    face: Annotated[
        int, typer.Option(help="Which of several faces in a film, from the largest.")
    ] = 1,
    fov: Annotated[
        float | None,
        typer.Option(
            metavar="DEGREES",
            help="What a film's camera sees from left to right, for a face near it: 65 for a webcam.",
            show_default=False,
        ),
    ] = None,
    fps: Annotated[
        float | None,
        typer.Option(help="Frames a second of landmarks, 30 by default.", show_default=False),
    ] = None,
    picture: Annotated[
        str | None,
        typer.Option(
            metavar="WIDTHxHEIGHT",
            help="Pixels, of landmarks in shares of a picture's sides.",
            show_default=False,
        ),
    ] = None,
    corpus: Annotated[
        str | None,
        typer.Option(
            help="A folder of films: ravdess or grid, by the names of their files, or folder; written to the folder -o "
            "with a manifest.csv.",
            show_default=False,
        ),
    ] = None,
    jobs: Annotated[int, typer.Option(min=1, help="Processes that fit corpora.")] = 1,
    scheduler: Annotated[
        str | None,
        typer.Option(
            metavar="ADDRESS",
            help="Of a Dask cluster, tcp://host:8786, that fits the films of --corpus, or the people of a corpus folder.",
            show_default=False,
        ),
    ] = None,
    size: options.PictureSize = "512",
    bake: options.Bake = False,
    sequence: options.Sequence = "obj",
    binding: options.SavedBinding = None,
    up: options.Up = None,
    forward: options.Forward = None,
    landmarks: options.Landmarks = None,
    no_cache: options.NoCache = False,
    weights: options.Weights = "default",
) -> None:
    """Make a film of a person a 3D performance: on the person's own face, or on any mesh.

    Prints the mean residual of the fit; of corpora also how many recordings were rejected and why.
    """
    import talkemo
    from talkemo.data.captures import reconstruct_corpus
    from talkemo.data.corpora import CORPORA

    if corpus is not None:
        _corpus(inputs, corpus, output, weights, sync=sync, jobs=jobs, scheduler=scheduler)
        return
    files = [source for source in inputs if not (os.path.isdir(source) and source.name in CORPORA)]
    if files and scheduler is not None:
        raise talkemo.InputError(
            "a cluster fits folders of films and corpora", "say what kind of folder by --corpus"
        )
    if files and len(inputs) > 1:
        raise talkemo.InputError(
            f"{len(inputs)} inputs for one output",
            "one film or landmark file at a time, or corpus folders only",
        )
    if not files and len(output) > 1:
        raise talkemo.InputError("captures of corpora go into one folder", "name it by one -o")
    shape = _picture(picture) if picture else None
    models = talkemo.load_models(weights)
    rows: list[dict[str, Any]] = []
    written: list[str] = []
    for source in inputs:
        with console.progress(source.name) as update:
            if source in files:
                result = talkemo.reconstruct(
                    source,
                    output,
                    fps=fps,
                    picture=shape,
                    onto=onto,
                    model=model,
                    head=head,
                    emotion=emotion,
                    intensity=intensity,
                    neutral=neutral,
                    preview=preview,
                    sync=sync,
                    number=face,
                    field_of_view=fov,
                    export=talkemo.ExportOptions(options.picture_size(size), bake, sequence),
                    hint=talkemo.FaceHint(binding, up, forward, landmarks),
                    models=models,
                    cache=not no_cache,
                    progress=update,
                )
                rows.append({"input": source.name, "frames": result.frames, **result.metrics})
                if "missing_s" in result.metrics:
                    console.message(
                        f"{source.name}: its last {result.metrics['missing_s']:g} s have no pictures: is it whole?"
                    )
                if result.metrics.get("faces", 1) > 1:
                    console.message(
                        f"{source.name} shows {result.metrics['faces']:.0f} faces: number {face}, from the largest, is "
                        "followed; choose by --face"
                    )
                written += [
                    str(path) for path in (*result.outputs, neutral, preview) if path is not None
                ]
            else:
                rows.append(reconstruct_corpus(source, output[0], models, jobs, update, scheduler))
    keys = [key for key in rows[0] if key != "input"]
    console.table(
        "Residuals of the fit",
        ["input", *keys],
        [[row["input"], *(row.get(k, "") for k in keys)] for row in rows],
    )
    console.result({"results": rows, "outputs": written}, written)


def _corpus(inputs: list[Path], kind: str, output: list[Path], weights: str, **how: Any) -> None:
    """Fit a folder of films."""
    import talkemo
    from talkemo.data.video_folders import FAILED, MANIFEST, capture_folder

    if len(inputs) > 1 or len(output) > 1:
        raise talkemo.InputError(
            "one folder of films, and one folder for what is made of them", "run it once for each"
        )
    talkemo.load_models(weights).path(
        "face"
    )  # weights that are not there are reported before processes begin
    with console.progress(inputs[0].name) as update:
        figures = capture_folder(inputs[0], kind, output[0], weights, progress=update, **how)
    console.result({"manifest": str(output[0] / MANIFEST), **figures}, [str(output[0] / MANIFEST)])
    if figures["failed"]:
        console.message(
            f"{figures['failed']} clips failed: see the column failed, and the folder {output[0] / FAILED}"
        )


def _picture(text: str) -> tuple[int, int]:
    """Width and height. Raises InputError where the text is not WIDTHxHEIGHT."""
    import re

    from talkemo import InputError

    match = re.fullmatch(r"(\d{1,5})[x×](\d{1,5})", text)
    if not match or "0" in match.groups():
        raise InputError(
            f"--picture {text}: not a size", "write width and height in pixels, such as 1280x720"
        )
    return int(match[1]), int(match[2])
