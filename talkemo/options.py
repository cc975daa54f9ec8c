"""Options as fields of dataclasses: the default, the help text and the limits of each stand once.

The command line makes its options from these fields, the documentation its tables, and the Python
functions take the dataclasses as they are.
"""

from __future__ import annotations

import dataclasses
from typing import Any


def option(default: Any, help_text: str, **settings: Any) -> Any:
    """Return a dataclass field that is also an option of the command line.

    Parameters
    ----------
    default : object
        Value of the field where the user names none.
    help_text : str
        What the option does, in one sentence, for `--help` and the documentation.
    **settings
        How the command line shows it: `names` (tuple of str, default `--field-name`; further names
        are accepted as well), `metavar` (str), `minimum` (a number), `panel` (str, the heading in
        `--help`), `hidden` (bool), `on_command_line` (bool, default True).
    """
    return dataclasses.field(default=default, metadata={"help": help_text, **settings})


def help_of(options: type, name: str) -> str:
    """Return the help text of a field of a dataclass of options."""
    fields = {field.name: field for field in dataclasses.fields(options)}
    return str(fields[name].metadata["help"])
