"""The processor cores and the torch device to compute on."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from ..errors import InputError

if TYPE_CHECKING:
    import torch

DEVICES = ("auto", "cpu", "cuda")


def available_cores() -> int:
    """Return the number of cores that this process may use, at least one."""
    if hasattr(os, "sched_getaffinity"):
        return max(1, len(os.sched_getaffinity(0)))
    return os.cpu_count() or 1


def choose_device(device: str) -> torch.device:
    """Return the torch device for auto, cpu or cuda. Raises InputError if CUDA is unavailable."""
    import torch

    available = torch.cuda.is_available()
    if device == "cuda" and not available:
        raise InputError(
            "no CUDA device on this machine", "leave --device out, or say --device cpu"
        )
    return torch.device("cuda" if device != "cpu" and available else "cpu")
