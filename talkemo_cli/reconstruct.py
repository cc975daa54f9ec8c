"""talkemo reconstruct: videos, images, landmarks and corpora to 3D."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from talkemo import InputError
from talkemo.pipelines.options import (
    BatchOptions,
    BindingOptions,
    ExportOptions,
    ReconstructOptions,
    RuntimeOptions,
)

from .completion import offering
from .console import console, unit_data
from .facts import animation_facts, metric_facts
from .options import Only, command, output_option

if TYPE_CHECKING:
    from talkemo import Result


@command(
    "reconstruct",
    "talkemo reconstruct clip.mp4 --onto face.obj -o talk.glb --preview look.mp4",
    "talkemo reconstruct clip.mp4 --emotion sad -o sad.mp4 --neutral person.obj",
    "talkemo reconstruct videos/ --corpus folder -o captures/ --jobs 4",
)
def reconstruct(
    inputs: Annotated[
        list[Path],
        typer.Argument(
            metavar="INPUT...",
            help="A video or image of a person; landmarks (npz, npy, csv, json) or Live Link Face "
            "curves (csv); or corpus folders.",
        ),
    ],
    output: Annotated[list[Path], output_option("For corpora, a folder of captures.")],
    options: ReconstructOptions,
    export: ExportOptions,
    target: BindingOptions,
    batch: Annotated[BatchOptions, Only("jobs", "scheduler")],
    runtime: RuntimeOptions,
    onto: Annotated[
        Path | None, typer.Option(help="A mesh with a face that replaces the person's own.")
    ] = None,
    corpus: Annotated[
        str | None,
        typer.Option(
            help="The input is a folder of videos: ravdess or grid, by the names of their files, "
            "or folder; written to the folder -o with a manifest.csv.",
            autocompletion=offering(("ravdess", "grid", "folder")),
        ),
    ] = None,
) -> None:
    """Turn a video of a person into a 3D performance: of the person's own face, or of any mesh.

    Prints the mean residual of the fit; for corpora also how many recordings were rejected and why.
    """
    import talkemo
    from talkemo.data.corpora import CORPORA
    from talkemo.data.custom_corpora import is_custom_corpus

    if corpus is not None:
        _fit_folder(inputs, corpus, output, runtime.weights, options.sync, batch)
        return
    is_corpus = [
        os.path.isdir(source) and (source.name in CORPORA or is_custom_corpus(source))
        for source in inputs
    ]
    if all(is_corpus):
        _fit_corpora(inputs, output, runtime, batch)
        return
    _check_one_input(inputs, batch)
    with console.progress(inputs[0].name) as update:
        result = talkemo.reconstruct(
            inputs[0],
            output,
            **vars(options),
            onto=onto,
            export=export,
            hint=target.hint,
            weights=runtime.weights,
            device=runtime.device,
            cache=target.cache,
            progress=update,
        )
    row = {"input": inputs[0].name, "frames": result.frames, **result.metrics}
    console.messages(animation_facts(result))
    _warn(inputs[0], result, options.number)
    written = (*result.outputs, options.neutral, options.preview)
    _report([row], [str(path) for path in written if path is not None], unit_data(result))


def _fit_corpora(
    folders: list[Path], output: list[Path], runtime: RuntimeOptions, batch: BatchOptions
) -> None:
    """Fit corpus folders into one folder of captures."""
    import talkemo
    from talkemo.data.captures import reconstruct_corpus

    if len(output) > 1:
        raise InputError("captures of corpora go into one folder", "name it with one -o")
    models = talkemo.load_models(runtime.weights, device=runtime.device)
    rows = []
    for folder in folders:
        with console.progress(folder.name) as update:
            rows.append(
                reconstruct_corpus(folder, output[0], models, batch.jobs, update, batch.scheduler)
            )
        console.messages(_corpus_facts(rows[-1]))
    _report(rows, [str(output[0] / f"{folder.resolve().name}.npz") for folder in folders])


def _corpus_facts(row: dict[str, Any]) -> Iterator[str]:
    """Yield the metrics of a fitted corpus, in words."""
    for fact in metric_facts({name: row[name] for name in row if name != "input"}):
        yield f"{row['input']}: {fact}"


def _report(
    rows: list[dict[str, Any]], paths: list[str], more: dict[str, Any] | None = None
) -> None:
    """Print the files written or, as JSON, the metrics of each input and `more` too."""
    results = [{**row, **(more or {})} for row in rows]
    console.result({"results": results, "outputs": paths}, paths)


def _check_one_input(inputs: list[Path], batch: BatchOptions) -> None:
    """Raise InputError for options and inputs that only corpora can have."""
    if batch.scheduler is not None:
        raise InputError(
            "a cluster fits folders of videos and corpora", "name the kind of folder with --corpus"
        )
    if len(inputs) > 1:
        raise InputError(
            f"{len(inputs)} inputs for one output",
            "one video or landmark file at a time, or corpus folders only",
        )


def _warn(source: Path, result: Result, number: int) -> None:
    """Report faces that were not tracked."""
    metrics = result.metrics
    if metrics.get("faces", 1) > 1:
        console.message(
            f"{source.name} shows {metrics['faces']:.0f} faces: number {number}, counted from the "
            "largest, is tracked; choose with --face"
        )


def _fit_folder(
    inputs: list[Path],
    corpus: str,
    output: list[Path],
    weights: str | Path,
    sync: str,
    batch: BatchOptions,
) -> None:
    """Fit a folder of videos."""
    import talkemo
    from talkemo.data.video_folders import FAILED, MANIFEST, capture_folder

    if len(inputs) > 1 or len(output) > 1:
        raise InputError("one folder of videos, and one folder for its captures", "run it for each")
    talkemo.load_models(weights).path("face")  # missing weights are reported before processes begin
    with console.progress(inputs[0].name) as update:
        metrics = capture_folder(
            inputs[0],
            corpus,
            output[0],
            weights,
            sync=sync,
            jobs=batch.jobs,
            scheduler=batch.scheduler,
            progress=update,
        )
    manifest = str(output[0] / MANIFEST)
    console.messages(metric_facts(metrics))
    console.result({"manifest": manifest, **metrics}, [manifest])
    if metrics["failed"]:
        console.message(
            f"{metrics['failed']} clips failed: see the column failed, and the folder "
            f"{output[0] / FAILED}"
        )
