"""talkemo animate: the main job, on one recording or on many."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext, suppress
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from . import options
from .console import console
from .options import command

if TYPE_CHECKING:
    from talkemo import Result

ENDINGS = ("mp4", "npz", "glb", "csv", "usda", "usdc")
STREAMED = ("jsonl", "vertices")


@command(
    "animate",
    "talkemo animate face.obj speech.wav --emotion happy",
    "talkemo animate face.obj speech.wav --emotion angry --intensity 0.7 -o talk.glb -o talk.html",
    "talkemo animate face.obj *.wav -o out/ --format csv --format mp4",
    "arecord -q -f S16_LE -r 16000 -t wav | talkemo animate face.obj - --stream",
)
def animate(
    face: Annotated[Path, typer.Argument(help="A mesh with a face, in any unit and orientation.")],
    audio: Annotated[
        list[Path],
        typer.Argument(help="Speech: wav, flac, ogg, opus, mp3 or m4a; one file or many."),
    ],
    emotion: Annotated[
        str,
        typer.Option(
            help="neutral, calm, happy, sad, angry, fearful, disgust, surprised, or a mix like happy:0.6,surprised:0.4."
        ),
    ] = "neutral",
    intensity: options.Intensity = 1.0,
    style: Annotated[
        str,
        typer.Option(
            help="Whose way of speaking: default, or a training speaker such as grid_s1_s1."
        ),
    ] = "default",
    timeline: options.TimelineFile = None,
    fps: Annotated[
        float, typer.Option(help="Frames a second; a video shows at most 30 of them.")
    ] = 60.0,
    output: Annotated[list[Path] | None, options.outputs_option("AUDIO_EMOTION.mp4")] = None,
    formats: Annotated[
        list[str] | None,
        typer.Option(
            "--format",
            help="Of many recordings: mp4, npz, glb, csv, usda or usdc, written as FOLDER/AUDIO_EMOTION.FORMAT, where "
            "-o names the folder; may be repeated. By default mp4. Of --stream: jsonl (by default) or vertices.",
        ),
    ] = None,
    resume: Annotated[
        bool,
        typer.Option(
            "--resume",
            help="Of many recordings: go on, and leave out those whose files are there already.",
        ),
    ] = False,
    jobs: Annotated[
        int, typer.Option(min=1, help="Of many recordings: processes that animate them.")
    ] = 1,
    scheduler: Annotated[
        str | None,
        typer.Option(
            metavar="tcp://HOST:PORT",
            help="Of many recordings: a Dask cluster's scheduler, whose machines animate them and see the files by the same names.",
        ),
    ] = None,
    stream: Annotated[
        bool,
        typer.Option(
            "--stream",
            help="Write frames as the sound comes, to stdout or a file of -o: a line of JSON each with 52 ARKit weights, or "
            "vertices as bytes.",
        ),
    ] = False,
    raw: Annotated[
        int | None,
        typer.Option(
            metavar="RATE",
            help="Sound from stdin is 16-bit mono samples without a header, so many a second.",
        ),
    ] = None,
    seed: Annotated[
        int,
        typer.Option(
            min=0,
            help="Of the slow drift of brows and mouth while an emotion is shown, and of blinks.",
        ),
    ] = 0,
    blink: Annotated[
        str,
        typer.Option(
            metavar="auto|off|RATE",
            help="Blinks: as people who speak have them, none, or so many a minute.",
        ),
    ] = "auto",
    head: Annotated[
        str,
        typer.Option(
            metavar="auto|off",
            help="Whether the head moves as a speaker's does, in a film; csv and npz tell how.",
        ),
    ] = "auto",
    gaze: Annotated[
        str,
        typer.Option(
            metavar="auto|off", help="Whether the eyes leap a little and stay on the camera."
        ),
    ] = "auto",
    size: options.PictureSize = "512",
    bake: options.Bake = False,
    sequence: options.Sequence = "obj",
    binding: options.SavedBinding = None,
    up: options.Up = None,
    forward: options.Forward = None,
    landmarks: options.Landmarks = None,
    no_cache: options.NoCache = False,
    weights: options.Weights = "default",
    device: str = "auto",
) -> None:
    """Make the face of a mesh speak recordings with an emotion."""
    from talkemo import ExportOptions, FaceHint, InputError

    if timeline and emotion != "neutral":
        raise InputError("--emotion or a --timeline, not both", "leave one out")
    settings: dict[str, Any] = {
        "emotion": emotion,
        "intensity": intensity,
        "style": style,
        "timeline": timeline,
        "seed": seed,
        "blink": blink,
        "head": head,
        "gaze": gaze,
        "fps": fps,
        "hint": FaceHint(binding, up, forward, landmarks),
        "cache": not no_cache,
    }
    if stream:
        _stream(face, audio, output or [Path("-")], formats or [], raw, weights, device, settings)
        return
    if raw is not None:
        raise InputError(
            "--raw belongs to --stream",
            "without it, give a wav: its header says how it is to be read",
        )
    settings["export"] = ExportOptions(options.picture_size(size), bake, sequence)
    name = name_of(emotion, timeline)
    if len(audio) > 1 or formats:
        batch = list(zip(audio, _batch_outputs(audio, name, output, formats)))
        with _folder(batch[0][1][0].parent):
            _many(face, batch, weights, device, settings, resume, jobs, scheduler)
    elif jobs > 1 or scheduler is not None:
        raise InputError(
            "--jobs and --scheduler are for many recordings",
            "leave them out, or name more recordings",
        )
    else:
        _one(
            face,
            audio[0],
            output or [Path(f"{stem(audio[0])}_{name}.mp4")],
            weights,
            device,
            settings,
        )


def _one(
    face: Path,
    audio: Path,
    outputs: list[Path],
    weights: str,
    device: str,
    settings: dict[str, Any],
) -> None:
    """Animate one recording."""
    import talkemo

    with console.progress("animating") as update:
        result = talkemo.animate(
            face,
            audio,
            outputs,
            **settings,
            models=talkemo.load_models(weights, device=device),
            progress=update,
        )
    report(result)


def _stream(
    face: Path,
    audio: list[Path],
    outputs: list[Path],
    formats: list[str],
    raw: int | None,
    weights: str,
    device: str,
    settings: dict[str, Any],
) -> None:
    """Write the frames of one sound as it comes."""
    import talkemo
    from talkemo.files.writing import check_output

    if len(audio) > 1 or len(outputs) > 1 or len(formats) > 1:
        raise talkemo.InputError(
            "a stream is of one sound, into one output, in one format", "see --help"
        )
    path, to_stdout = outputs[0], str(outputs[0]) == "-"
    ending = path.suffix.lower().lstrip(".")
    form = formats[0] if formats else ending if ending in STREAMED else "jsonl"
    if form not in STREAMED:
        raise talkemo.InputError(
            f"--stream: unknown format '{form}'", f"choose from {', '.join(STREAMED)}"
        )
    if raw is not None and str(audio[0]) != "-":
        raise talkemo.InputError(
            "--raw is for sound from stdin", "name it: - in the place of a file"
        )
    if to_stdout and console.as_json:
        raise talkemo.InputError(
            "--json and a stream to stdout", "name a file for the stream by -o"
        )
    if not to_stdout and not path.is_fifo():
        inputs = [face, audio[0], settings["timeline"], *settings["hint"].files]
        check_output(
            path,
            tuple(f".{name}" for name in STREAMED),
            *(name for name in inputs if name is not None),
        )
    models = talkemo.load_models(weights, device=device)
    made = talkemo.stream(face, audio[0], raw=raw, models=models, **settings)
    console.message(
        f"frames come {made.latency:.2f} s after their sound, and the time that computing takes"
    )
    try:
        with nullcontext(sys.stdout.buffer) if to_stdout else path.open("wb") as file:
            count = made.write(file, form)
    except BrokenPipeError:  # whoever reads them has seen enough
        console.mute()
        return
    if not to_stdout:
        about = {
            "outputs": [str(path)],
            "frames": count,
            "fps": made.fps,
            "latency": round(made.latency, 3),
        }
        console.result(about, [str(path)])


def _many(
    face: Path,
    batch: list[tuple[Path, list[Path]]],
    weights: str,
    device: str,
    settings: dict[str, Any],
    resume: bool,
    jobs: int,
    scheduler: str | None,
) -> None:
    """Animate recordings, one after the other or in processes, with face and models loaded once; go on after one that fails.

    batch: recordings, each with its outputs, which appear when they are whole; resume: whether to leave out what is there
    """
    import talkemo
    from talkemo.pipelines.batch import animate_many, attempt
    from talkemo.pipelines.outputs import check_fps, output_paths
    from talkemo.pipelines.performance import make_timeline
    from talkemo.render.view import width_and_height

    every = [sound for sound, _ in batch]
    for _, paths in batch:  # before any work
        output_paths(
            paths, settings["export"], [face, *every, settings["timeline"], *settings["hint"].files]
        )
    make_timeline(settings["emotion"], settings["intensity"], settings["timeline"])
    check_fps(settings["fps"])
    width_and_height(settings["export"].size)
    models = talkemo.load_models(weights, device=device)
    models.talking.style(settings["style"])
    own = {name: settings.pop(name) for name in ("hint", "cache")}
    bound = talkemo.bind(face, **own, models=models)
    batch = [
        (sound, paths)
        for sound, paths in batch
        if not (resume and all(path.is_file() for path in paths))
    ]
    done: list[dict[str, Any]] = []
    failed: list[dict[str, str]] = []

    def one_here(sound: Path, paths: list[Path]) -> Result:
        with console.progress(sound.name) as update:
            return talkemo.animate(bound, sound, paths, **settings, models=models, progress=update)

    here = (
        attempt(sound, partial(one_here, sound, paths), console.debug) for sound, paths in batch
    )
    elsewhere = {
        "jobs": jobs,
        "scheduler": scheduler,
        **own,
        "weights": weights,
        "device": device,
        **settings,
    }
    apart = jobs > 1 or scheduler is not None
    for one in animate_many(face, batch, **elsewhere) if apart else here:
        if one.result is not None:
            done.append({"audio": str(one.audio), **about(one.result)})
            if not console.as_json:
                console.result({}, [str(path) for path in one.result.outputs])
        else:
            console.error(one.error, one.hint)
            failed.append({"audio": str(one.audio), "error": one.error})
    if console.as_json:
        console.result({"results": done, "failed": failed})
    if failed:
        names = ", ".join(item["audio"] for item in failed)
        hint = "the others are done" if len(failed) < len(batch) else "see the message of each"
        raise talkemo.TalkemoError(
            f"{len(failed)} of {len(batch)} recordings failed: {names}", hint
        )


def _batch_outputs(
    audio: list[Path], name: str, output: list[Path] | None, formats: list[str] | None
) -> list[list[Path]]:
    """For each recording the files that are written of it, in the folder of -o."""
    from talkemo import InputError

    endings = formats or ["mp4"]
    if any(ending not in ENDINGS for ending in endings):
        raise InputError(
            f"unknown format in {', '.join(endings)}", f"choose from {', '.join(ENDINGS)}"
        )
    folders = output or [Path()]
    if len(folders) > 1 or (folders[0].suffix and not folders[0].is_dir()):
        raise InputError(
            "many recordings go into one folder",
            "name it by -o, and the kinds of files by --format",
        )
    folder = folders[0]
    outputs = [[folder / f"{stem(sound)}_{name}.{ending}" for ending in endings] for sound in audio]
    flat = [path for paths in outputs for path in paths]
    if len(set(flat)) < len(flat):
        raise InputError(
            "two recordings of one name would be written to one file", "animate them one at a time"
        )
    return outputs


@contextmanager
def _folder(folder: Path) -> Iterator[None]:
    """The folder of a batch, made where it is missing, and removed again if nothing came to lie in it."""
    from talkemo.files.writing import check_folder

    new = not folder.is_dir()
    if new:
        check_folder(folder)
        folder.mkdir()
    try:
        yield
    finally:
        if new:
            with suppress(OSError):  # it holds something
                folder.rmdir()


def stem(source: Path) -> str:
    """What a source calls its outputs: its name without the ending."""
    return "stdin" if str(source) == "-" else source.stem


def name_of(emotion: str, timeline: Path | None) -> str:
    """What an output is called after."""
    return (
        timeline.stem if timeline else emotion.replace(":", "").replace(",", "_").replace(" ", "")
    )


def about(result: Result) -> dict[str, Any]:
    """What --json says of a result."""
    return {
        "outputs": [str(path) for path in result.outputs],
        "frames": result.frames,
        "fps": result.fps,
        "seconds": result.seconds,
        "binding_error_mm": result.binding_error_mm,
        **result.metrics,
    }


def report(result: Result) -> None:
    """Print what was made."""
    console.message(
        f"{result.frames} frames at {result.fps:g} fps; the mesh is {result.binding_error_mm:.1f} mm off"
    )
    for name, value in result.metrics.items():
        console.message(f"{name.replace('_', ' ')}: {value:.3g}")
    console.result(about(result), [str(path) for path in result.outputs])
