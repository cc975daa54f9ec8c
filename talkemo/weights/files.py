"""Weights: one safetensors file a stage, sets of such files, and the registries that pin them.

A file's JSON header says what it is and what it was made for (stage, settings of its network, face, encoder), so that it
rebuilds its own network and cannot be mixed up with another's. A *set* is a folder with a file for some or all stages
and a `registry.toml` that lists size and sha256 of each. Sets are the bundled ones, folders that `talkemo train` wrote,
and repositories on the Hugging Face Hub.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from ..errors import InputError
from ..files.writing import atomic_write

WEIGHT_STAGES = ("face", "speech", "talking", "emotion", "discriminator", "classifier")
LARGEST_FILE = 1 << 31  # bytes of a weights file
LARGEST_HEADER = 1 << 24  # bytes of a safetensors header
# Bytes of a float → all its bits but the sign's, and those of infinity; NaN has larger ones.
FLOAT_BITS = {
    2: (0x7FFF, 0x7C00),
    4: (0x7FFFFFFF, 0x7F800000),
    8: (0x7FFFFFFFFFFFFFFF, 0x7FF0000000000000),
}
TRAINED_WITH = {
    "discriminator": "emotion",
    "classifier": "emotion",
}  # stages that another one's training writes


def save_weights(
    path: str | Path, stage: str, tensors: dict[str, np.ndarray], settings: dict[str, Any]
) -> None:
    """Write tensors and settings (JSON values) to a safetensors file, at once or not at all."""
    from safetensors.numpy import save_file

    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    header = {"talkemo": json.dumps({"stage": stage, **settings})}
    with atomic_write(path) as partial:
        save_file(
            {name: np.ascontiguousarray(array) for name, array in tensors.items()},
            partial,
            metadata=header,
        )


def load_weights(path: str | Path, stage: str) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
    """Tensors and settings of a stage's weights file.

    Raises InputError where the file is missing, too large, not a safetensors file, holds another stage, or holds NaN or
    infinity.
    """
    from safetensors import SafetensorError, safe_open

    path = Path(path)
    if not path.is_file():
        raise InputError(f"{path}: no such weights file", _how_to_train(stage))
    if path.stat().st_size > LARGEST_FILE:
        raise InputError(
            f"{path}: larger than {LARGEST_FILE >> 30} GiB", "this is not a weights file of talkemo"
        )
    try:
        with path.open("rb") as start:
            if int.from_bytes(start.read(8), "little") > LARGEST_HEADER:
                raise ValueError("its header is too large")
        with safe_open(path, "numpy") as file:
            settings = json.loads((file.metadata() or {}).get("talkemo", "{}"))
            if not isinstance(settings, dict):
                raise ValueError("its settings are not a JSON object")
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 (not a dict)
        _check_sizes(tensors, settings)
    except (
        SafetensorError,
        OSError,
        ValueError,
        TypeError,
        AttributeError,
        RecursionError,
    ) as error:
        raise InputError(
            f"{path}: not a weights file of talkemo ({error})", "fetch or train it again"
        ) from None
    found = settings.pop("stage", None)
    if found != stage:
        says = (
            f"weights of the stage '{found}', not '{stage}'"
            if found in WEIGHT_STAGES
            else f"not weights of '{stage}'"
        )
        raise InputError(f"{path}: {says}", "is the file's name right?")
    for name, tensor in tensors.items():
        if not _finite(tensor):
            raise InputError(
                f"{path}: its tensor {name} contains NaN or infinity", "fetch or train it again"
            )
    return tensors, settings


def _how_to_train(stage: str) -> str:
    return f"train it with: talkemo train {TRAINED_WITH.get(stage, stage)} --data DIR -o DIR"


def _check_sizes(tensors: dict[str, np.ndarray], settings: dict[str, Any]) -> None:
    """Raise ValueError for settings of a network larger than the tensors, which would take all memory to build."""
    longest = max((size for tensor in tensors.values() for size in tensor.shape), default=0)
    fits = lambda value, most: isinstance(value, int) and 0 < value <= most
    for name, most in (
        ("channels", longest),
        ("width", longest),
        ("past", longest),
        ("blocks", len(tensors)),
    ):
        if name in settings and not fits(settings[name], most):
            raise ValueError(f"its setting {name} does not fit its tensors")
    future = settings.get("future", [])  # of each of an encoder's layers
    if not (
        isinstance(future, list)
        and len(future) <= len(tensors)
        and all(fits(value, longest) for value in future)
    ):
        raise ValueError("its setting future does not fit its tensors")


def _finite(array: np.ndarray) -> bool:
    """Whether an array has no NaN or infinity. By its bits, on float16 quicker than np.isfinite."""
    if array.dtype.kind != "f":
        return True
    size = array.dtype.itemsize
    magnitude, infinity = FLOAT_BITS[size]
    bits = array.view(f"u{size}")
    return bool((bits & bits.dtype.type(magnitude)).max(initial=0) < infinity)


@contextmanager
def check_compatible(path: str | Path, stage: str) -> Iterator[None]:
    """Turn errors that another version's tensors or settings raise in the block into an InputError naming the file."""
    try:
        yield
    except (KeyError, TypeError, ValueError, IndexError, AttributeError, RuntimeError) as error:
        if isinstance(error, InputError):
            raise
        # PyTorch names what does not fit in the lines after the first.
        lines = [line.strip() for line in str(error).splitlines()[:2]] or [type(error).__name__]
        raise InputError(
            f"{path}: weights of another version of talkemo ({' '.join(lines)})",
            _how_to_train(stage),
        ) from None


def check_made_for(path: str | Path, settings: dict[str, Any], **parts: Any) -> None:
    """Raise InputError unless a file was made for these parts, such as face=fingerprint and expression_names=names."""
    for name, value in parts.items():
        found = settings.get(name)
        if (tuple(found) if isinstance(found, list) else found) != value:
            kind = name.replace("_", " ")
            says = (
                f"made for another {kind} than this set has ({_short(found)}, not {_short(value)})"
            )
            raise InputError(
                f"{path}: {says if found is not None else f'does not say what {kind} it was made for'}",
                "keep files of one training together, or train this stage for that face and encoder",
            )


def _short(value: Any) -> str:
    return f"{len(value)} names" if isinstance(value, list | tuple) else str(value)
