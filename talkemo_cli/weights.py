"""talkemo weights: what is installed."""

from __future__ import annotations

from enum import Enum
from typing import Annotated

import typer

from talkemo import TalkemoError

from .console import console
from .options import command


class Action(str, Enum):
    """What to do with the weights."""

    list = "list"
    verify = "verify"


@command("weights")
def weights(action: Annotated[Action, typer.Argument(help="list them, or verify their checksums.")]) -> None:
    """List the bundled weights, or verify their size and checksum."""
    from talkemo import weights as library

    entries = library.registry()
    if action is Action.verify:
        wrong = [name for name, entry in entries.items() if not library.intact(entry)]
        if wrong:
            raise TalkemoError(f"weights differ from the registry: {', '.join(wrong)}", "install talkemo again")
    console.table(
        "Bundled weights",
        ["stage", "file", "MB", "licence", "about"],
        [[n, e["file"], e["bytes"] / 1e6, e["licence"], e["about"]] for n, e in entries.items()],
    )
    if console.as_json:
        console.result({"weights": entries, "verified": action is Action.verify})
