"""talkemo animate --stream: frames while the audio is arriving."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

from talkemo import InputError
from talkemo.pipelines.options import STREAM_FORMATS, StreamOptions

from .console import console
from .standard_streams import CLOSED_STREAMS


def animate_stream(
    face: Path, audio: list[Path], outputs: list[Path], formats: list[str], options: StreamOptions
) -> None:
    """Write the frames of one recording, or of standard input, as they come."""
    import talkemo

    if len(audio) > 1 or len(outputs) > 1 or len(formats) > 1:
        raise InputError("a stream takes one recording, one output and one format", "see --help")
    path, to_stdout = outputs[0], str(outputs[0]) == "-"
    form = _format(path, formats)
    if options.raw is not None and str(audio[0]) != "-":
        raise InputError("--raw is for audio from stdin", "name it: - in the place of a file")
    if to_stdout and "stdout" in CLOSED_STREAMS:
        raise InputError("the frames go to stdout, which is closed", "name a file with -o")
    if to_stdout and console.as_json:
        raise InputError("--json and a stream to stdout", "name a file for the stream with -o")
    if not to_stdout and not path.is_fifo():
        _check_file(path, [face, audio[0], options.timeline, *options.hint.files])
    stream = talkemo.stream(face, audio[0], options)
    console.message(
        f"frames come {stream.latency:.2f} s after their audio, plus the time of computation"
    )
    try:
        with _opened(path) as file:
            count = stream.write(file, form)
    except BrokenPipeError:  # the reader has ended
        console.mute()
        return
    for note in stream.notes:
        console.message(note)
    if stream.heard:
        from talkemo.pipelines.hearing import heard_fact

        console.message(heard_fact(stream.heard))
    if not to_stdout:
        data = {
            "outputs": [str(path)],
            "frames": count,
            "fps": stream.fps,
            "latency": round(stream.latency, 3),
            "notes": stream.notes,
            **({"heard": stream.heard} if stream.heard else {}),
        }
        console.result(data, [str(path)])


@contextmanager
def _opened(path: Path) -> Iterator[IO[bytes]]:
    """Open the output: stdout, a named pipe, or a file that appears when the stream has ended."""
    if str(path) == "-":
        yield sys.stdout.buffer
    elif path.is_fifo():
        with path.open("wb") as file:
            yield file
    else:
        from talkemo.files.writing import atomic_write
        from talkemo.formats.animation import output_errors

        with output_errors(path), atomic_write(path) as partial, partial.open("wb") as file:
            yield file


def _format(path: Path, formats: list[str]) -> str:
    """The format of --format, else of the output's ending, else the first."""
    ending = path.suffix.lower().lstrip(".")
    if not formats:
        return ending if ending in STREAM_FORMATS else STREAM_FORMATS[0]
    if formats[0] not in STREAM_FORMATS:
        raise InputError(
            f"--stream: unknown format '{formats[0]}'", f"choose from {', '.join(STREAM_FORMATS)}"
        )
    return formats[0]


def _check_file(path: Path, inputs: list[object]) -> None:
    """Raise InputError if the stream cannot be written to a file or would overwrite an input."""
    from talkemo.files.writing import check_output

    files = [source for source in inputs if isinstance(source, str | Path)]
    check_output(path, tuple(f".{name}" for name in STREAM_FORMATS), *files)
