"""talkemo animate: one recording here; many in animate_many.py, a stream in animate_stream.py."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from talkemo import InputError
from talkemo.formats.registry import OUTPUT_ENDINGS
from talkemo.pipelines.options import STREAM_FORMATS, AnimateOptions, BatchOptions, StreamOptions

from .animate_many import animate_many
from .animate_stream import animate_stream
from .console import console
from .options import Only, command, output_option

FORMAT_NAMES = tuple(ending.lstrip(".") for ending in OUTPUT_ENDINGS)


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
    options: AnimateOptions,
    batch: BatchOptions,
    stream_options: Annotated[StreamOptions, Only("raw")],
    output: Annotated[list[Path] | None, output_option("By default AUDIO_EMOTION.mp4.")] = None,
    formats: Annotated[
        list[str] | None,
        typer.Option(
            "--format",
            help=f"For many recordings: {', '.join(FORMAT_NAMES)}; written to the folder -o as "
            "AUDIO_EMOTION.FORMAT; may be repeated. By default mp4. For --stream: "
            f"{' or '.join(STREAM_FORMATS)}, by default {STREAM_FORMATS[0]}.",
        ),
    ] = None,
    stream: Annotated[
        bool,
        typer.Option(
            "--stream",
            help="Write frames while the audio is coming, to stdout or the named pipe -o; or to a "
            "file -o, which appears when the audio has ended. Each is a line of JSON with 52 ARKit "
            "weights, or its vertices as bytes.",
        ),
    ] = False,
) -> None:
    """Make the face of a mesh speak recordings with an emotion."""
    if options.timeline and options.emotion != "neutral":
        raise InputError("--emotion or a --timeline, not both", "leave one out")
    if stream:
        animate_stream(face, audio, output or [Path("-")], formats or [], stream_options)
        return
    if stream_options.raw is not None:
        raise InputError(
            "--raw belongs to --stream",
            "without it, give a wav: its header says how it is to be read",
        )
    name = emotion_name(options.emotion, options.timeline)
    if len(audio) > 1 or formats:
        outputs = _batch_outputs(audio, name, output or [Path()], formats or ["mp4"])
        animate_many(face, list(zip(audio, outputs)), options, batch)
    elif batch.jobs > 1 or batch.scheduler is not None:
        raise InputError(
            "--jobs and --scheduler are for many recordings",
            "leave them out, or name more recordings",
        )
    else:
        _animate_one(face, audio[0], output or [Path(f"{_stem(audio[0])}_{name}.mp4")], options)


def _animate_one(face: Path, audio: Path, outputs: list[Path], options: AnimateOptions) -> None:
    import talkemo

    with console.progress("animating") as update:
        result = talkemo.animate(face, audio, outputs, options, progress=update)
    console.animation(result)


def _batch_outputs(
    audio: list[Path], name: str, folders: list[Path], formats: list[str]
) -> list[list[Path]]:
    """The output files of each recording."""
    if any(ending not in FORMAT_NAMES for ending in formats):
        raise InputError(
            f"unknown format in {', '.join(formats)}", f"choose from {', '.join(FORMAT_NAMES)}"
        )
    if len(folders) > 1 or (folders[0].suffix and not folders[0].is_dir()):
        raise InputError(
            "many recordings go into one folder",
            "name it with -o, and the kinds of files with --format",
        )
    outputs = [
        [folders[0] / f"{_stem(source)}_{name}.{ending}" for ending in formats] for source in audio
    ]
    paths = [path for paths in outputs for path in paths]
    if len(set(paths)) < len(paths):
        raise InputError(
            "two recordings with the same name would be written to the same file",
            "rename one, or animate them one at a time",
        )
    return outputs


def _stem(audio: Path) -> str:
    """The name of a recording's outputs, without emotion and ending."""
    return "stdin" if str(audio) == "-" else audio.stem


def emotion_name(emotion: str, timeline: object) -> str:
    """Return the part of an output's name that says which emotion it shows."""
    if isinstance(timeline, Path):
        return timeline.stem
    return emotion.replace(":", "").replace(",", "_").replace(" ", "")
