"""The options that commands share, and how a function becomes a command."""

from __future__ import annotations

import functools
import inspect
import re
from collections.abc import Callable
from enum import Enum
from pathlib import Path
from typing import Annotated, Any

import typer

from . import THREADS_CHOSEN
from .console import console


class Device(str, Enum):
    """Where networks run."""

    auto = "auto"
    cpu = "cpu"
    cuda = "cuda"


app = typer.Typer(
    name="talkemo",
    help="Make a 3D face speak a recorded sentence with an emotion.",
    add_completion=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)

# What commands that make animations have in common.
Intensity = Annotated[
    float,
    typer.Option(
        help="Strength of the emotion or of the whole timeline: 0 (unchanged) to 1 (in full) and on to 1.5."
    ),
]
TimelineFile = Annotated[
    Path | None,
    typer.Option(
        help="A text file instead of --emotion, a line `start end emotion intensity` a span, in seconds."
    ),
]
PictureSize = Annotated[
    str,
    typer.Option(
        metavar="PIXELS|WIDTHxHEIGHT", help="Pixels on a side of a picture, or width and height."
    ),
]
Bake = Annotated[
    bool,
    typer.Option(
        "--bake",
        help="A .glb or USD with each frame as it is, exact, instead of ARKit's 52 shapes.",
    ),
]
Sequence = Annotated[str, typer.Option(help="The meshes of a folder: obj or ply.")]
SavedBinding = Annotated[
    Path | None, typer.Option(help="What talkemo bind wrote for this mesh.", rich_help_panel="Face")
]
Up = Annotated[
    str | None,
    typer.Option(
        help="The mesh's axis that points up: x, y, z, -x, -y, -z.", rich_help_panel="Face"
    ),
]
Forward = Annotated[
    str | None,
    typer.Option(help="The mesh's axis along which its face looks.", rich_help_panel="Face"),
]
Landmarks = Annotated[
    Path | None,
    typer.Option(
        help="A file with a line a landmark: its iBUG number 1-68, then a vertex counted from 0, or x y z.",
        rich_help_panel="Face",
    ),
]
NoCache = Annotated[
    bool,
    typer.Option(
        "--no-cache",
        help="Find the face anew, and do not remember it for the next time.",
        rich_help_panel="Face",
    ),
]
Weights = Annotated[
    str,
    typer.Option(
        help="A bundled set of weights, a folder that talkemo train wrote, or hf://owner/repo@revision.",
        rich_help_panel="Shared",
    ),
]


def picture_size(text: str) -> int | tuple[int, int]:
    """The pixels on a side, or width and height. Raises InputError where the text is neither."""
    match = re.fullmatch(r"(\d{1,5})(?:[x×](\d{1,5}))?", text)
    if not match:
        from talkemo import InputError

        raise InputError(f"--size {text}: not a size", "write pixels, such as 512 or 1280x720")
    return int(match[1]) if match[2] is None else (int(match[1]), int(match[2]))


def outputs_option(default: str) -> Any:
    """-o of a command that makes animations, with what it writes where there is none."""
    return typer.Option(
        "-o",
        "--output",
        help="A .mp4, .html, .npz, .glb, .usda, .usdc or .csv (Live Link Face) file, or a folder for meshes; may be repeated. "
        f"By default {default}.",
    )


SHARED = {
    "device": (
        Annotated[
            Device,
            typer.Option(
                help="Where networks run; auto is a CUDA GPU if there is one.",
                rich_help_panel="Shared",
            ),
        ],
        Device.auto,
    ),
    "as_json": (
        Annotated[
            bool, typer.Option("--json", help="Print one JSON object.", rich_help_panel="Shared")
        ],
        False,
    ),
    "quiet": (
        Annotated[
            bool, typer.Option("--quiet", "-q", help="No progress.", rich_help_panel="Shared")
        ],
        False,
    ),
    "debug": (
        Annotated[bool, typer.Option("--debug", help="Tracebacks.", rich_help_panel="Shared")],
        False,
    ),
}


def use_all_cores() -> None:
    """Let networks use every core, as their training wants it, unless the user has chosen a number of threads."""
    import torch

    from talkemo.compute.devices import available_cores

    if not THREADS_CHOSEN:
        torch.set_num_threads(available_cores())


def command(name: str, *examples: str) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """Register a function as a subcommand that also takes the shared options. examples: command lines for its --help

    The function is given the device, as text, only where it names a parameter `device`.
    """

    def register(function: Callable[..., None]) -> Callable[..., None]:
        signature = inspect.signature(function, eval_str=True)

        @functools.wraps(function)
        def run(**arguments: Any) -> None:
            shared = {key: arguments.pop(key) for key in SHARED}
            console.as_json, console.quiet, console.debug = (
                shared["as_json"],
                shared["quiet"],
                shared["debug"],
            )
            if "device" in signature.parameters:
                arguments["device"] = shared["device"].value
            function(**arguments)

        own = [
            parameter.replace(kind=inspect.Parameter.KEYWORD_ONLY)
            for parameter in signature.parameters.values()
            if parameter.name not in SHARED
        ]
        extra = [
            inspect.Parameter(
                key, inspect.Parameter.KEYWORD_ONLY, default=default, annotation=annotation
            )
            for key, (annotation, default) in SHARED.items()
        ]
        run.__signature__ = signature.replace(parameters=own + extra)  # type: ignore[attr-defined]
        run.__annotations__ = {p.name: p.annotation for p in own + extra}
        return app.command(name, epilog="\n\n".join(examples))(run)

    return register
