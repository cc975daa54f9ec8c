"""talkemo live: a face that follows the microphone of a browser."""

from __future__ import annotations

import threading
import webbrowser
from pathlib import Path
from typing import Annotated

import typer

from talkemo.pipelines.options import ActingOptions, BindingOptions, ExportOptions, RuntimeOptions

from .console import console
from .options import Only, command


@command(
    "live",
    "talkemo live face.obj",
    "talkemo live face.obj --emotion happy --port 8000 --no-browser",
)
def live(
    face: Annotated[Path, typer.Argument(help="A mesh with a face, in any unit and orientation.")],
    acting: Annotated[ActingOptions, Only("emotion", "intensity", "style", "articulation", "seed")],
    options: BindingOptions,
    runtime: RuntimeOptions,
    export: Annotated[ExportOptions, Only("fill")],
    port: Annotated[
        int, typer.Option(min=0, max=65535, help="Port to listen on; 0 for any free one.")
    ] = 0,
    browser: Annotated[
        bool, typer.Option("--browser/--no-browser", help="Whether the page is opened.")
    ] = True,
) -> None:
    """Show a face that follows the microphone, in a web page on this machine, until Ctrl-C.

    The page can change the emotion.
    """
    import talkemo
    from talkemo.pipelines.live_server import Live

    models = talkemo.load_models(runtime.weights, device=runtime.device)
    binding = talkemo.bind(face, hint=options.hint, models=models, cache=options.cache)
    console.messages(models.licence_notes("talking", "emotion"))
    with Live(models, binding, acting, port=port, fill=export.fill) as server:
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
