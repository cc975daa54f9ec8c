"""The talkemo command: its subcommands, and the boundary where exceptions become messages."""

from __future__ import annotations

import errno
import sys
from typing import Annotated

import typer

from talkemo import InputError, __version__
from talkemo.compute.signals import end_on_signals
from talkemo.errors import explain

# Importing a command registers it.
from . import (
    animate,
    bind,
    doctor,
    emotion,
    evaluate,
    geomap,
    live,
    reconstruct,
    render,
    study,
    styles,
    train,
    transfer,
    weights,
)
from .console import console
from .options import app, remember_folders
from .standard_streams import print_any_text
from .usage import usage_text

UNUSABLE_PATH_ERRORS = (errno.ENAMETOOLONG, errno.ELOOP, errno.ENOTDIR)

# Depending on its version, Typer has its own copy of Click or uses the installed one.
UsageError: type[Exception] = typer.BadParameter.__mro__[1]


def _version(requested: bool) -> None:
    if requested:
        print(f"talkemo {__version__}")
        raise typer.Exit


@app.callback(invoke_without_command=True)
def _options(
    context: typer.Context,
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Show the version.")
    ] = False,
) -> None:
    if context.invoked_subcommand is None:
        print(context.get_help())
        raise typer.Exit(2)


def main(arguments: list[str] | None = None) -> int:
    """Run the command line and return its exit status.

    Parameters
    ----------
    arguments : list of str, optional
        Arguments without the program's name; by default those of the process.

    Returns
    -------
    int
        0 done, 1 failed while running, 2 wrong usage or unusable input, 130 interrupted.
    """
    if arguments is None:
        end_on_signals("SIGINT", "SIGTERM", "SIGHUP")
    remember_folders(sys.argv[1:] if arguments is None else arguments)
    print_any_text()
    console.configure()
    try:
        status = app(arguments, prog_name="talkemo", standalone_mode=False)
        return status if isinstance(status, int) else 0
    except UsageError as error:
        context = getattr(error, "ctx", None)
        command = context.command_path if context else "talkemo"
        given = list(sys.argv[1:] if arguments is None else arguments)
        message, hint = usage_text(error, given)
        console.error(message, f"{hint}see {command} --help")
        return 2
    except typer.Exit as error:
        return error.exit_code
    except (typer.Abort, KeyboardInterrupt):
        return 130
    except SystemExit as error:
        if error.code == 1:  # Click and rich end like this when the reader of stdout has ended
            return 0
        raise
    except Exception as error:
        if console.debug:
            raise
        return report(error)


def report(error: Exception) -> int:
    """Print an error and a hint, a line each, and return the exit status."""
    console.error(*explain(error))
    if isinstance(error, OSError) and error.errno in UNUSABLE_PATH_ERRORS:
        return 2
    return 2 if isinstance(error, InputError) else 1
