"""talkemo emotion: what a voice expresses, as a timeline."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from talkemo.pipelines.options import HearOptions

from .console import console
from .options import command

IMAGE_ENDING = ".png"


@command(
    "emotion",
    "talkemo emotion speech.wav",
    "talkemo emotion speech.wav -o timeline.json",
    "talkemo animate face.obj speech.wav --timeline timeline.json",
)
def emotion(
    audio: Annotated[Path, typer.Argument(help="Speech: wav, flac, ogg, opus, mp3 or m4a.")],
    options: HearOptions,
    output: Annotated[
        list[Path] | None,
        typer.Option(
            "-o",
            "--output",
            help="A .json, .csv or .txt, which can be edited and given to --timeline; or a .png of "
            "the timeline over the waveform. May be repeated.",
        ),
    ] = None,
) -> None:
    """Read emotion and arousal from a voice, and print them as a timeline."""
    import talkemo
    from talkemo.audio.recording import load_audio
    from talkemo.files.writing import check_output
    from talkemo.pipelines.hearing import TIMELINE_ENDINGS, heard_fact, write_timeline

    outputs = output or []
    for path in outputs:
        inputs = [source for source in (audio, options.voice) if isinstance(source, Path)]
        check_output(path, (*TIMELINE_ENDINGS, IMAGE_ENDING), *inputs)
    recording = load_audio(audio)
    models = talkemo.load_models(options.weights, device=options.device)
    heard = talkemo.hear_emotion(recording, options, models=models)
    console.messages(
        [*recording.notes, *models.licence_notes("voice"), heard_fact(heard.as_json())]
    )
    columns = ("start", "end", "emotion", "intensity", "likeliest", "arousal")
    rows = [[span.as_json()[name] for name in columns] for span in heard.spans]
    if not outputs:
        console.table(f"The emotion of {recording.name}", list(columns), rows)
    for path in outputs:
        if path.suffix.lower() == IMAGE_ENDING:
            from talkemo.evaluation.plots import plot_heard

            plot_heard(heard, recording, path)
        else:
            write_timeline(heard, recording, path)
    names = [str(path) for path in outputs]
    content = {"audio": recording.name, "seconds": recording.duration, **heard.as_json()}
    if outputs or console.as_json:
        console.result({**content, "outputs": names}, names)
