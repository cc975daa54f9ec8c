"""talkemo animate: one recording here; many in animate_many.py, a stream in animate_stream.py."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from talkemo import InputError
from talkemo.files.reading import printable
from talkemo.pipelines.options import STREAM_FORMATS, AnimateOptions, BatchOptions, StreamOptions

from .animate_many import animate_manifest, animate_many
from .animate_stream import animate_stream
from .batch import FORMAT_NAMES, check_one, is_done
from .completion import offering
from .console import console
from .options import Only, command, is_folder_of_outputs, output_option


@command(
    "animate",
    "talkemo animate face.obj speech.wav --emotion happy",
    "talkemo animate face.obj speech.wav --emotion angry --intensity 0.7 -o talk.glb -o talk.html",
    "talkemo animate face.obj *.wav -o out/ --format csv --format mp4",
    "talkemo animate - speech.wav -o curves.csv --curves oculus",
    "talkemo animate face.obj --manifest lines.csv -o out/ --format csv --resume",
    "arecord -q -f S16_LE -r 16000 -t wav | talkemo animate face.obj - --stream",
)
def animate(
    face: Annotated[
        Path,
        typer.Argument(
            help="A mesh with a face, in any unit and orientation; - for talkemo's own face, if only "
            "curves are wanted."
        ),
    ],
    options: AnimateOptions,
    batch: BatchOptions,
    stream_options: Annotated[StreamOptions, Only("raw")],
    audio: Annotated[
        list[Path] | None,
        typer.Argument(help="Speech: wav, flac, ogg, opus, mp3 or m4a; one file or many."),
    ] = None,
    manifest: Annotated[
        Path | None,
        typer.Option(
            "--manifest",
            help="Instead of AUDIO, a csv with a line for each recording. Columns: audio, and any of "
            "emotion, timeline, intensity, style, liveliness, seed and output, which replace the "
            "options. Paths are relative to the csv.",
            rich_help_panel="Many recordings",
        ),
    ] = None,
    output: Annotated[list[Path] | None, output_option("By default AUDIO_EMOTION.mp4.")] = None,
    formats: Annotated[
        list[str] | None,
        typer.Option(
            "--format",
            help=f"For many recordings: {', '.join(FORMAT_NAMES)}; written to the folder -o as "
            "AUDIO_EMOTION.FORMAT; may be repeated. By default mp4. For --stream: "
            f"{' or '.join(STREAM_FORMATS)}, by default {STREAM_FORMATS[0]}.",
            autocompletion=offering((*FORMAT_NAMES, *STREAM_FORMATS)),
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
    audio = _recordings(face, audio, manifest, stream)
    if options.timeline and options.emotion != "neutral":
        raise InputError("--emotion or a --timeline, not both", "leave one out")
    if stream:
        check_one(batch)
        if batch.resume:
            raise InputError("--resume is not for --stream", "leave one out")
        animate_stream(face, audio, output or [Path("-")], formats or [], stream_options)
        return
    if stream_options.raw is not None:
        raise InputError(
            "--raw belongs to --stream",
            "without it, give a wav: its header says how it is to be read",
        )
    arguments = (output or [], formats or [], options, batch, _output_name)
    if manifest is not None:
        animate_manifest(face, manifest, *arguments)
    elif len(audio) > 1 or formats or any(map(is_folder_of_outputs, output or [])):
        animate_many(face, audio, *arguments)
    else:
        outputs = output or [Path(f"{_output_name(audio[0], options)}.mp4")]
        if not is_done(batch, outputs):
            _animate_one(face, audio[0], outputs, options)


def _animate_one(face: Path, audio: Path, outputs: list[Path], options: AnimateOptions) -> None:
    import talkemo

    with console.progress("animating") as update:
        result = talkemo.animate(face, audio, outputs, options, progress=update)
    console.animation(result)


def _recordings(
    face: Path, audio: list[Path] | None, manifest: Path | None, stream: bool
) -> list[Path]:
    """Return the recordings of the command line. Raises InputError unless they come from one place."""
    if manifest is not None and (audio or stream):
        raise InputError(
            "recordings and a --manifest, which names recordings"
            if audio
            else "--stream takes one recording, not a --manifest",
            "leave one out",
        )
    if audio:
        _check_order(face, audio[0])
    if manifest is None and not audio:
        raise InputError("no recording is named", "name audio files, or a --manifest of them")
    return audio or []


def _check_order(face: Path, audio: Path) -> None:
    """Raise InputError if the endings say that face and recording are exchanged."""
    from talkemo.audio.decoding import FFMPEG_AUDIO_ENDINGS, LIBSNDFILE_FORMATS
    from talkemo.formats.mesh import MESH_ENDINGS

    is_audio = face.suffix.lower() in (*LIBSNDFILE_FORMATS, *FFMPEG_AUDIO_ENDINGS)
    if is_audio and audio.suffix.lower() in MESH_ENDINGS:
        raise InputError(
            f"{printable(face)} is a recording, and {printable(audio)} a mesh",
            "name the mesh first, then the recording",
        )


def _output_name(audio: Path, options: AnimateOptions) -> str:
    """The name of a recording's outputs, without ending."""
    stem = "stdin" if str(audio) == "-" else audio.stem
    return f"{stem}_{emotion_name(options.emotion, options.timeline)}"


def emotion_name(emotion: str, timeline: object) -> str:
    """Return the part of an output's name that says which emotion it shows."""
    if isinstance(timeline, Path):
        return timeline.stem
    return emotion.replace(":", "").replace(",", "_").replace(" ", "")
