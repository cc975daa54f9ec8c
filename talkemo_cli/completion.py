"""What the shell offers for the value of an option (`talkemo --install-completion`)."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import typer

from talkemo import TalkemoError
from talkemo.options import Values

Completion = Callable[[typer.Context, str], list[str]]


def offering(values: Values | None) -> Completion | None:
    """Return a function that offers an option's values to the shell, None without values.

    Of a mix such as `happy:0.6,sad:0.4` the name after the last comma is completed.
    """
    if values is None:
        return None

    def offer(context: typer.Context, incomplete: str) -> list[str]:
        earlier, comma, begun = incomplete.rpartition(",")
        names = _names(values, context.params)
        return [f"{earlier}{comma}{name}" for name in names if name.startswith(begun)]

    return offer


def _names(values: Values, given: dict[str, Any]) -> Iterable[str]:
    """The values of an option, given the other options; none if they cannot be found."""
    if not callable(values):
        return values
    try:
        return values(given)
    except TalkemoError:  # such as an unknown set: the command will report it
        return ()
