"""Files that appear whole or not at all, and the one boundary around reading: regular files only, sizes known before
anything is allocated, and every failure an InputError of one line that names the file.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from ..errors import InputError

if TYPE_CHECKING:
    import torch

import os


def available_cores() -> int:
    """Cores that this process may use, at least one."""
    return max(
        1, len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    )


DEVICES = ("auto", "cpu", "cuda")


def choose_device(device: str) -> torch.device:
    """The torch device of auto, cpu or cuda. Raises InputError where CUDA is asked for and there is none."""
    import torch

    available = torch.cuda.is_available()
    if device == "cuda" and not available:
        raise InputError(
            "no CUDA device on this machine", "leave --device out, or say --device cpu"
        )
    return torch.device("cuda" if device != "cpu" and available else "cpu")
