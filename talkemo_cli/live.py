"""talkemo live: a face that follows the microphone of a browser."""

from __future__ import annotations

import threading
import webbrowser
from pathlib import Path
from typing import Annotated, Any

import typer

from . import options
from .console import console
from .options import command


@command(
    "live",
    "talkemo live face.obj",
    "talkemo live face.obj --emotion happy --port 8000 --no-browser",
)
def live(
    face: Annotated[Path, typer.Argument(help="A mesh with a face, in any unit and orientation.")],
    emotion: Annotated[str, typer.Option(help="At first; the page has a choice.")] = "neutral",
    intensity: options.Intensity = 1.0,
    style: Annotated[
        str, typer.Option(help="Whose way of speaking: default, or a training speaker.")
    ] = "default",
    port: Annotated[
        int, typer.Option(min=0, max=65535, help="To listen on, of this machine only; 0 for any.")
    ] = 0,
    browser: Annotated[
        bool, typer.Option("--browser/--no-browser", help="Whether the page is opened.")
    ] = True,
    seed: Annotated[int, typer.Option(min=0, help="Of drifts, blinks, head and gaze.")] = 0,
    binding: options.SavedBinding = None,
    up: options.Up = None,
    forward: options.Forward = None,
    landmarks: options.Landmarks = None,
    no_cache: options.NoCache = False,
    weights: options.Weights = "default",
    device: str = "auto",
) -> None:
    """Show a face that follows the microphone, in a web page on this machine, until Ctrl-C."""
    import talkemo
    from talkemo.pipelines.live import Live

    models = talkemo.load_models(weights, device=device)
    hint = talkemo.FaceHint(binding, up, forward, landmarks)
    bound = talkemo.bind(face, hint=hint, models=models, cache=not no_cache)
    own: dict[str, Any] = {"emotion": emotion, "intensity": intensity, "style": style, "seed": seed}
    with Live(models, bound, port=port, **own) as server:
        console.message("the page is open to this machine alone, until Ctrl-C")
        console.result({"address": server.address}, [server.address])
        if browser:
            threading.Thread(target=webbrowser.open, args=(server.address,), daemon=True).start()
        try:
            server.serve_forever(poll_interval=0.2)
        finally:
            told = server.figures
            if told.sound:
                rate = told.frames / told.sound
                console.message(
                    f"{told.sound:.0f} s of sound, {rate:.0f} frames a second, {told.latency:.2f} s behind it"
                )
