"""The talkemo command: its subcommands, and the boundary where errors become lines."""

from __future__ import annotations

import signal
import sys
from typing import Annotated

import typer

from talkemo import InputError, TalkemoError, __version__

# Importing a command registers it.
from . import animate, bind, doctor, evaluate, geomap, reconstruct, render, train, transfer, weights  # noqa: F401
from .console import console
from .options import app


def _version(wanted: bool) -> None:
    if wanted:
        print(f"talkemo {__version__}")
        raise typer.Exit


@app.callback()
def _options(
    version: Annotated[bool, typer.Option("--version", callback=_version, is_eager=True, help="Show it.")] = False,
) -> None:
    pass


def main() -> None:
    """Run the command line; exit status 0 done, 1 failed while running, 2 wrong usage or unusable input."""
    # Asked to end, a run clears away what it has half written, as it does for an error.
    signal.signal(signal.SIGTERM, lambda number, frame: sys.exit(128 + number))
    try:
        app()
    except TalkemoError as error:
        if console.debug:
            raise
        console.error(error.message, error.hint)
        sys.exit(2 if isinstance(error, InputError) else 1)
    except Exception as error:
        if console.debug:
            raise
        console.error(
            f"failed: {type(error).__name__}: {str(error).splitlines()[0] if str(error) else ''}",
            "run it again with --debug for the traceback",
        )
        sys.exit(1)
