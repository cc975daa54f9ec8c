"""Wrong arguments in words: which one it is, and what is expected instead."""

from __future__ import annotations

import re
from collections.abc import Container, Sequence
from typing import Any

from talkemo import InputError
from talkemo.files.reading import printable

# What the libraries behind Typer, which depend on its version, say of a value that is no number.
NO_NUMBER = re.compile(r"valid (number|integer|float)")
EXAMPLE = "2"  # if an option has no default
EMPTY_HINT = "name a file; an empty variable of a shell looks like this, too"


def usage_text(error: Exception, arguments: Sequence[str]) -> tuple[str, str]:
    """Return what is wrong with the arguments of a command line, and the beginning of a hint."""
    message = " ".join(error.format_message().split())  # type: ignore[attr-defined]
    found, parameter = NO_NUMBER.search(message), getattr(error, "param", None)
    if found is None or parameter is None:
        return message.replace("Value error, ", ""), ""  # of a library that Typer uses
    flag, value = _given(parameter, arguments)
    what = "a whole number" if found[1] == "integer" else "a number"
    default = parameter.default
    example = f"{default:g}" if _is_number(default) else EXAMPLE
    message = f"{flag} '{printable(value, 40)}': not {what}"
    return message, f"write {what} alone, without a unit, such as {flag} {example}; "


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _given(parameter: Any, arguments: Sequence[str]) -> tuple[str, str]:
    """Return the name of an option on the command line, and the last value that it was given."""
    flag, value = parameter.opts[0], ""
    for number, argument in enumerate(arguments):
        name, equals, rest = argument.partition("=")
        if name not in parameter.opts:
            continue
        if equals:
            flag, value = name, rest
        elif number + 1 < len(arguments):
            flag, value = name, arguments[number + 1]
    return flag, value


def check_no_path_is_empty(
    parameters: Sequence[Any], paths: Container[str], arguments: Sequence[str]
) -> None:
    """Raise InputError for a path that is empty, which would mean the folder that one is in.

    `paths` are the names of the parameters that take paths.
    """
    takes_path = {name: one.name in paths for one in parameters for name in one.opts}
    flag = ""  # the option whose value is next
    for argument in arguments:
        name, equals, value = argument.partition("=")
        if flag:
            is_empty, flag_of = not argument and takes_path[flag], flag
            flag = ""
        elif name in takes_path and name.startswith("-"):
            is_empty, flag_of = bool(equals) and not value and takes_path[name], name
            flag = "" if equals or _takes_no_value(parameters, name) else name
        else:
            is_empty, flag_of = not argument, "an argument"
        if is_empty:
            raise InputError(f"{flag_of} is empty", EMPTY_HINT)


def _takes_no_value(parameters: Sequence[Any], name: str) -> bool:
    return any(getattr(p, "is_flag", False) for p in parameters if name in p.opts)
