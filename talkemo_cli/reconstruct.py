"""talkemo reconstruct: videos, images, landmarks and corpora to 3D."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, fields, replace
from functools import partial
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

from .animate import emotion_name
from .batch import FORMAT_NAMES, is_done, made_folders, output_folder, run_batch
from .completion import offering
from .console import console, unit_data
from .facts import animation_facts, metric_facts
from .options import command, is_folder_of_outputs, output_option

if TYPE_CHECKING:
    from talkemo import Result
    from talkemo.pipelines.batch import Outcome
    from talkemo.pipelines.batch_tasks import ReconstructionTask

PERFORMANCES = "performances"  # folder of a corpus's animations
# Options that have no meaning for the videos of a folder.
OPTIONS_OF_ONE_VIDEO = (
    "fps",
    "picture",
    "neutral",
    "preview",
    "number",
    "field_of_view",
    "rest",
    "audio",
)


@dataclass(frozen=True)
class Performances:
    """What the command line asks of the performances that are written."""

    options: ReconstructOptions
    export: ExportOptions
    target: BindingOptions
    runtime: RuntimeOptions
    onto: Path | None
    formats: list[str]

    def output_name(self, video: Path) -> str:
        """Return the name of a video's outputs, without ending."""
        emotion = self.options.emotion
        return video.name if emotion is None else f"{video.name}_{emotion_name(emotion, None)}"

    def task(
        self, source: Path, folder: Path, name: str, video: Path | None = None
    ) -> ReconstructionTask:
        """Return the task of a source, or of a fitted clip of a video."""
        from talkemo.pipelines.batch_tasks import ReconstructionTask

        return ReconstructionTask(
            source,
            [folder / f"{name}.{ending}" for ending in self.formats or ["mp4"]],
            None if self.onto is None else str(self.onto),
            self.options if video is None else replace(self.options, sync="off"),
            self.export,
            self.target,
            self.runtime,
            video,
        )

    def check(self, tasks: list[ReconstructionTask]) -> None:
        """Check the tasks of a batch. Raises InputError for anything unusable."""
        from talkemo.pipelines.batch import check_reconstructions

        check_reconstructions(tasks)

    def remark(self, outcome: Outcome) -> None:
        """Report what is odd about a video of a batch."""
        if outcome.result is not None:
            _warn(outcome.source, outcome.result, self.options.number)

    def refuse(self, names: Iterable[str], where: str) -> None:
        """Raise InputError if an option of these names is given."""
        for field in fields(ReconstructOptions):
            if field.name in names and getattr(self.options, field.name) != field.default:
                flag = field.metadata.get("names", (f"--{field.name}",))[0]
                raise InputError(f"{flag} has no effect {where}", "leave it out")

    def refuse_all(self, where: str, but: tuple[str, ...] = ()) -> None:
        """Raise InputError if an option of performances is given, except those in `but`."""
        if self.onto is not None:
            raise InputError(f"--onto has no effect {where}", "leave it out")
        names = {field.name for field in fields(ReconstructOptions)} - set(but)
        self.refuse(names, where)


@command(
    "reconstruct",
    "talkemo reconstruct clip.mp4 --onto face.obj -o talk.glb --preview look.mp4",
    "talkemo reconstruct clip.mp4 --emotion sad -o sad.mp4 --neutral person.obj",
    "talkemo reconstruct *.mp4 --onto face.obj -o out/ --format glb",
    "talkemo reconstruct videos/ --corpus folder --onto face.obj -o out/ --jobs 4",
)
def reconstruct(
    inputs: Annotated[
        list[Path],
        typer.Argument(
            metavar="INPUT...",
            help="Videos or images of a person; landmarks (npz, npy, csv, json), Live Link Face curves "
            "(csv) or fitted clips (clips/*.npz); or corpus folders.",
        ),
    ],
    output: Annotated[list[Path], output_option("For corpora, a folder of captures.")],
    options: ReconstructOptions,
    export: ExportOptions,
    target: BindingOptions,
    batch: BatchOptions,
    runtime: RuntimeOptions,
    onto: Annotated[
        Path | None, typer.Option(help="A mesh with a face that replaces the person's own.")
    ] = None,
    corpus: Annotated[
        str | None,
        typer.Option(
            help="The input is a folder of videos: ravdess or grid, by the names of their files, "
            "or folder; written to the folder -o with a manifest.csv. With --onto or --format also a "
            "performance for each video, in its folder performances.",
            autocompletion=offering(("ravdess", "grid", "folder")),
        ),
    ] = None,
    formats: Annotated[
        list[str] | None,
        typer.Option(
            "--format",
            help=f"For many videos: {', '.join(FORMAT_NAMES)}; written to the folder -o as "
            "VIDEO.FORMAT; may be repeated. By default mp4.",
            autocompletion=offering(FORMAT_NAMES),
        ),
    ] = None,
) -> None:
    """Turn a video of a person into a 3D performance: of the person's own face, or of any mesh.

    Prints the mean residual of the fit; for corpora also how many recordings were rejected and why.
    """
    performances = Performances(options, export, target, runtime, onto, formats or [])
    if corpus is not None:
        _fit_folder(inputs, corpus, output, performances, batch)
        return
    if all(map(_is_corpus, inputs)):
        performances.refuse_all("for corpora of landmarks")
        _fit_corpora(inputs, output, runtime, batch)
        return
    _announce_download(inputs)
    if len(inputs) > 1 or formats or any(map(is_folder_of_outputs, output)):
        _reconstruct_many(inputs, output, performances, batch)
    else:
        named = (options.neutral, options.preview)
        written = [*output, *(path for path in named if path is not None)]
        # More processes than there are videos do no harm.
        if not is_done(replace(batch, jobs=1), written):
            _reconstruct_one(inputs[0], output, performances)


def _is_corpus(source: Path) -> bool:
    """Whether an input is a folder of a corpus of landmarks."""
    from talkemo.data.corpora import CORPORA
    from talkemo.data.custom_corpora import is_custom_corpus

    return os.path.isdir(source) and (source.name in CORPORA or is_custom_corpus(source))


def _reconstruct_many(
    sources: list[Path], output: list[Path], performances: Performances, batch: BatchOptions
) -> None:
    """Reconstruct each source into one folder, and go on after one that fails."""
    folder = output_folder(output, performances.formats)
    name = performances.output_name
    tasks = [performances.task(source, folder, name(Path(source.stem))) for source in sources]
    check = partial(performances.check, tasks)
    run_batch(tasks, batch, folder, check, remark=performances.remark)


def _reconstruct_one(source: Path, output: list[Path], performances: Performances) -> None:
    """Reconstruct one source, and print its metrics and the files written."""
    import talkemo

    options, target, runtime = performances.options, performances.target, performances.runtime
    with console.progress(source.name) as update:
        result = talkemo.reconstruct(
            source,
            output,
            **vars(options),
            onto=performances.onto,
            export=performances.export,
            hint=target.hint,
            weights=runtime.weights,
            device=runtime.device,
            cache=target.cache,
            progress=update,
        )
    row = {"input": source.name, "frames": result.frames, **result.metrics}
    console.messages(animation_facts(result))
    _warn(source, result, options.number)
    written = (*result.outputs, options.neutral, options.preview)
    _report([row], [str(path) for path in written if path is not None], unit_data(result))


def _announce_download(inputs: list[Path]) -> None:
    """Say that the landmark tracker is downloaded, if videos need it and it is missing."""
    from importlib.util import find_spec

    from talkemo.capture.landmarker_bundle import LANDMARKER_BYTES, installed_landmarker
    from talkemo.capture.sources import is_video

    has_runtime = find_spec("ai_edge_litert") is not None  # else the extra is reported as missing
    if has_runtime and any(map(is_video, inputs)) and installed_landmarker() is None:
        console.message(
            "downloading MediaPipe's Face Landmarker, once: "
            f"{LANDMARKER_BYTES / 1e6:.1f} MB, Apache-2.0"
        )


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
    performances: Performances,
    batch: BatchOptions,
) -> None:
    """Fit a folder of videos, and write a performance for each if --onto or --format asks for it."""
    if len(inputs) > 1 or len(output) > 1:
        raise InputError("one folder of videos, and one folder for its captures", "run it for each")
    if performances.onto is None and not performances.formats:
        performances.refuse_all("with --corpus, without --onto or --format", but=("sync",))
        captures = _capture(inputs[0], corpus, output[0], performances, batch)
        console.result(captures, [captures["manifest"]])
        return
    performances.refuse(OPTIONS_OF_ONE_VIDEO, "with --corpus")
    output_folder(output, performances.formats)
    tasks = _clip_tasks(inputs[0], corpus, output[0], performances)
    with made_folders(task.outputs[0].parent for task in tasks):
        performances.check(tasks)  # before hours of capture
        captures = _capture(inputs[0], corpus, output[0], performances, batch)
        fitted = [task for task in tasks if task.source.is_file()]
        if not fitted or not console.as_json:
            console.result({"captures": captures}, [captures["manifest"]])
        if fitted:
            run_batch(fitted, batch, output[0], lambda: None, {"captures": captures})


def _clip_tasks(
    folder: Path, corpus: str, output: Path, performances: Performances
) -> list[ReconstructionTask]:
    """Return the task of each clip, with outputs in folders like those of the videos."""
    from talkemo.data.video_folders import clip_files

    return [
        performances.task(
            clip,
            output / PERFORMANCES / video.parent,
            performances.output_name(Path(video.stem)),
            folder / video,
        )
        for video, clip in clip_files(folder, corpus, output)
    ]


def _capture(
    folder: Path, corpus: str, output: Path, performances: Performances, batch: BatchOptions
) -> dict[str, Any]:
    """Fit a folder of videos; return the path of its manifest and the metrics."""
    import talkemo
    from talkemo.data.video_folders import FAILED, MANIFEST, capture_folder

    weights = performances.runtime.weights
    talkemo.load_models(weights).path("face")  # missing weights are reported before processes begin
    with console.progress(folder.name) as update:
        metrics = capture_folder(
            folder,
            corpus,
            output,
            weights,
            sync=performances.options.sync,
            jobs=batch.jobs,
            scheduler=batch.scheduler,
            progress=update,
        )
    console.messages(metric_facts(metrics))
    if metrics["failed"]:
        clips = "1 clip" if metrics["failed"] == 1 else f"{metrics['failed']} clips"
        console.message(f"{clips} failed: see the column failed, and the folder {output / FAILED}")
    return {"manifest": str(output / MANIFEST), **metrics}
