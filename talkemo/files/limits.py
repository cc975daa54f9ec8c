"""Limits on what is read, which an environment variable can raise."""

from __future__ import annotations

import os
import re

from ..errors import InputError

LIMIT_PREFIX = "TALKEMO_"


def limit(name: str, default: int) -> int:
    """Return a limit: what the environment variable TALKEMO_{name} states, or the default.

    Raises InputError if the variable is not a positive whole number.
    """
    variable = f"{LIMIT_PREFIX}{name}"
    value = os.environ.get(variable)
    if not value:
        return default
    if not re.fullmatch(r"[1-9][0-9]{0,17}", value):
        raise InputError(
            f"{variable} is not a positive whole number",
            f"unset it, or set it to {default} or more",
        )
    return int(value)
