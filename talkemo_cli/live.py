"""talkemo live: a face that follows a microphone, in a web page or in other programs."""

from __future__ import annotations

import threading
import webbrowser
from pathlib import Path
from typing import Annotated

import typer

from talkemo import InputError
from talkemo.pipelines.options import (
    ActingOptions,
    BindingOptions,
    ExportOptions,
    RuntimeOptions,
    StreamOptions,
)

from .completion import offering
from .console import console
from .live_send import send_frames
from .options import Only, command

Face = Annotated[
    Path,
    typer.Argument(
        help="A mesh with a face, in any unit and orientation; with --to, - for talkemo's own."
    ),
]
Acting = Annotated[
    ActingOptions,
    Only(
        *("emotion", "voice", "intensity", "style", "articulation", "seed"),
        *("blink", "head", "gaze", "liveliness"),
    ),
]
Speech = Annotated[
    Path | None,
    typer.Argument(
        help="With --to: - for audio from stdin, as for animate --stream, or a recording, as if "
        "it were spoken now. By default a microphone of this machine."
    ),
]
Addresses = Annotated[
    list[str] | None,
    typer.Option(
        "--to",
        metavar="ADDRESS",
        help="Send frames to a program instead of a page: vmc://HOST:PORT (the VMC protocol; "
        "/arkit at the end for ARKit's shapes), livelink://HOST:PORT (Unreal) or ws://:PORT (a "
        "WebSocket server; /own for the character's own blend shapes). Without a host, this machine. May be repeated.",
        autocompletion=offering(("vmc://", "livelink://", "ws://")),
    ),
]
Microphone = Annotated[
    str | None,
    typer.Option(
        metavar="NAME|NUMBER", help="With --to: the microphone; by default the system's choice."
    ),
]
PagePort = Annotated[
    int, typer.Option(min=0, max=65535, help="Port of the page; 0 for any free one.")
]
Browser = Annotated[
    bool, typer.Option("--browser/--no-browser", help="Whether the page is opened.")
]


@command(
    "live",
    "talkemo live face.obj",
    "talkemo live face.obj --emotion happy --port 8000 --no-browser",
    "talkemo live face.obj --to vmc:// --to livelink://192.168.1.20:11111",
    "arecord -q -f S16_LE -r 16000 -t wav | talkemo live face.obj - --to ws://:8765",
)
def live(
    face: Face,
    acting: Acting,
    options: BindingOptions,
    runtime: RuntimeOptions,
    export: Annotated[ExportOptions, Only("fill")],
    streaming: Annotated[StreamOptions, Only("fps", "raw", "shape_map")],
    audio: Speech = None,
    to: Addresses = None,
    microphone: Microphone = None,
    port: PagePort = 0,
    browser: Browser = True,
) -> None:
    """Show a face that follows the microphone, in a web page on this machine, until Ctrl-C.

    The page can change the emotion. With --to, the frames go to other programs instead.
    """
    if to:
        if port or not browser:
            raise InputError("--to and an option of the page", "leave --port and --no-browser out")
        send_frames(face, audio, to, microphone, streaming)
        return
    only_sent = {
        "AUDIO": audio,
        "--microphone": microphone,
        "--raw": streaming.raw,
        "--map": streaming.shape_map,
    }
    for name, value in only_sent.items():
        if value is not None:
            raise InputError(
                f"{name} is for sending frames to other programs",
                "name one: --to vmc://HOST:PORT, livelink://HOST:PORT or ws://:PORT",
            )
    _serve(face, acting, options, runtime, streaming.fps, export.fill, port, browser)


def _serve(
    face: Path,
    acting: ActingOptions,
    options: BindingOptions,
    runtime: RuntimeOptions,
    fps: float,
    fill: str,
    port: int,
    browser: bool,
) -> None:
    """Serve the page until Ctrl-C."""
    import talkemo
    from talkemo.pipelines.live_server import Live

    models = talkemo.load_models(runtime.weights, device=runtime.device)
    binding = talkemo.bind(face, hint=options.hint, models=models, cache=options.cache)
    console.messages(models.licence_notes("talking", "emotion"))
    with Live(models, binding, acting, fps=fps, port=port, fill=fill) as server:
        console.message("only this machine can open the page; Ctrl-C ends it")
        console.result({"address": server.address}, [server.address])
        if browser:
            threading.Thread(target=webbrowser.open, args=(server.address,), daemon=True).start()
        try:
            server.serve_forever(poll_interval=0.2)
        finally:
            metrics = server.metrics
            if metrics.audio_s:
                console.message(
                    f"{metrics.audio_s:.0f} s of audio, {metrics.frames / metrics.audio_s:.0f} "
                    f"frames per second, {metrics.latency_s:.2f} s behind it"
                )
