"""Options as fields of frozen dataclasses: default, help text and limits of each stand once.

The command line makes its options from these fields (`talkemo_cli/options.py`), and the Python
functions take the dataclasses, or their fields as keywords.
"""

from __future__ import annotations

import dataclasses
import numbers
import sys
from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeVar

from .errors import InputError

# The values that a shell offers for an option: all of them, or a function that returns them, given
# the other options of the command line by name.
Values = Sequence[str] | Callable[[Mapping[str, Any]], Sequence[str]]
Options = TypeVar("Options")


def option(default: Any, help_text: str, **settings: Any) -> Any:
    """Return a dataclass field that is also an option of the command line.

    Parameters
    ----------
    default : object
        Value of the field if the user gives none. A `bool` that is True becomes `--no-NAME`.
    help_text : str
        What the option does, in one sentence, for `--help` and the documentation.
    **settings
        How the command line shows it: `names` (tuple of str, default `--field-name`), `aliases`
        (tuple of str, older names that still work and are not shown), `metavar` (str), `panel`
        (str, the heading in `--help`), `choices` (tuple of str),
        `values` (`Values` that the shell offers, where others are allowed or the check is later),
        `kind` (the type that is read, where the field allows several), `hidden` (bool),
        `on_command_line` (bool, default True). Numbers may have a `minimum` and a `maximum`, which
        the help shows, or `limits` (lowest, highest), with a `quantity` (str, the value in a
        message, such as "{:g} frames per second") and a `limits_hint` (str).
    """
    return dataclasses.field(default=default, metadata={"help": help_text, **settings})


class CheckedOptions:
    """Base class of dataclasses of options: raises InputError for a number out of its limits."""

    def __post_init__(self) -> None:
        for field in dataclasses.fields(self):  # type: ignore[arg-type]
            value = getattr(self, field.name)
            for number in value if isinstance(value, tuple) else (value,):
                _check_number(field, number)


def _check_number(field: dataclasses.Field[Any], number: Any) -> None:
    """Raise InputError for NaN, and for a number out of the limits of a field."""
    if isinstance(number, bool) or not isinstance(number, numbers.Real):
        return
    settings = field.metadata
    lowest, highest = settings.get("limits", (settings.get("minimum"), settings.get("maximum")))
    lowest = -sys.float_info.max if lowest is None else lowest
    highest = sys.float_info.max if highest is None else highest
    if lowest <= float(number) <= highest:
        return
    quantity = settings.get("quantity", field.name.replace("_", " ") + " {:g}")
    choice = f"choose from {lowest:.9g} to {highest:.9g}"
    if highest == sys.float_info.max:
        choice = "choose a finite number" if lowest == -highest else f"choose {lowest:.9g} or more"
    raise InputError(quantity.format(float(number)), settings.get("limits_hint", choice))


def with_keywords(options: Options, keywords: Mapping[str, Any]) -> Options:
    """Return options with the fields that keywords name; a keyword that is None changes nothing.

    Raises
    ------
    TypeError
        A keyword is not a field of the options.
    """
    for name in keywords:
        if not hasattr(options, name):
            raise TypeError(f"unexpected keyword argument '{name}'")
    changes = {name: value for name, value in keywords.items() if value is not None}
    return dataclasses.replace(options, **changes)  # type: ignore[type-var]


def help_of(options: type, name: str) -> str:
    """Return the help text of a field of a dataclass of options."""
    fields = {field.name: field for field in dataclasses.fields(options)}
    return str(fields[name].metadata["help"])
