"""Weights files: one safetensors file per training stage.

The JSON header names the stage, the settings of its network, and the face and speech encoder that
it was trained for. A file therefore rebuilds its own network and cannot be combined with files of
another training.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from ..errors import InputError
from ..files.reading import parse_json, quiet_libraries
from ..files.writing import atomic_write

WEIGHT_STAGES = (
    "face",
    "anatomy",
    "speech",
    "talking",
    "emotion",
    "discriminator",
    "classifier",
    "voice",
)
MAX_WEIGHTS_BYTES = 1 << 31  # of a weights file
MAX_SAFETENSORS_HEADER_BYTES = 1 << 24
DAMAGED_HINT = "fetch or train it again"
# Bytes of a float → bit masks of its magnitude and of infinity; NaN has larger magnitudes.
FLOAT_BIT_MASKS = {
    2: (0x7FFF, 0x7C00),
    4: (0x7FFFFFFF, 0x7F800000),
    8: (0x7FFFFFFFFFFFFFFF, 0x7FF0000000000000),
}
# Stages whose weights are written by the training of another stage.
TRAINED_BY_STAGE = {"anatomy": "face", "discriminator": "emotion", "classifier": "emotion"}


def save_weights(
    path: str | Path, stage: str, tensors: dict[str, np.ndarray], settings: dict[str, Any]
) -> None:
    """Write tensors and settings (JSON values) to a safetensors file, atomically."""
    from safetensors.numpy import save_file

    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    header = {"talkemo": json.dumps({"stage": stage, **settings})}
    contiguous = {name: np.ascontiguousarray(array) for name, array in tensors.items()}
    with atomic_write(path) as partial:
        save_file(contiguous, partial, metadata=header)


def load_weights(path: str | Path, stage: str) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
    """Return the tensors and settings of a stage's weights file.

    Raises InputError if the file is missing, too large, not a safetensors file, of another stage,
    or contains NaN or infinity.
    """
    path = Path(path)
    with _weights_errors(path, stage):
        tensors, settings = _read_safetensors(path)
        _check_sizes(tensors, settings)
    _check_stage(path, settings.pop("stage", None), stage)
    for name, tensor in tensors.items():
        if not _is_finite(tensor):
            raise InputError(f"{path}: its tensor {name} contains NaN or infinity", DAMAGED_HINT)
    return tensors, settings


def load_settings(path: str | Path, stage: str) -> dict[str, Any]:
    """Return the settings of a stage's weights file without its tensors; raises as `load_weights`."""
    path = Path(path)
    with _weights_errors(path, stage):
        settings = _read_settings(path)
    _check_stage(path, settings.pop("stage", None), stage)
    return settings


@contextmanager
def _weights_errors(path: Path, stage: str) -> Iterator[None]:
    """Check the size of a weights file; turn errors while it is read into an InputError."""
    from safetensors import SafetensorError

    if not path.is_file():
        raise InputError(f"{path}: no such weights file", training_hint(stage))
    if path.stat().st_size > MAX_WEIGHTS_BYTES:
        limit = f"larger than {MAX_WEIGHTS_BYTES >> 30} GiB"
        raise InputError(f"{path}: {limit}", "this is not a weights file of talkemo")
    try:
        yield
    except (
        SafetensorError,
        OSError,
        ValueError,
        TypeError,
        AttributeError,
        RecursionError,
    ) as error:
        raise InputError(f"{path}: not a weights file of talkemo ({error})", DAMAGED_HINT) from None


def _check_stage(path: Path, saved_stage: object, stage: str) -> None:
    """Raise InputError for a file of another stage than the wanted one."""
    if saved_stage == stage:
        return
    reason = f"not weights of '{stage}'"
    if saved_stage in WEIGHT_STAGES:
        reason = f"weights of the stage '{saved_stage}', not '{stage}'"
    raise InputError(f"{path}: {reason}", "is the file's name right?")


def _read_safetensors(path: Path) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
    """Return the tensors and the JSON header of a file. Raises ValueError for a wrong header."""
    from safetensors import safe_open

    settings = _read_settings(path)
    with safe_open(path, "numpy") as file:
        return {name: file.get_tensor(name) for name in file.keys()}, settings  # noqa: SIM118


def _read_settings(path: Path) -> dict[str, Any]:
    """Return the JSON header of a file. Raises ValueError for a wrong one."""
    from safetensors import safe_open

    with path.open("rb") as start:
        if int.from_bytes(start.read(8), "little") > MAX_SAFETENSORS_HEADER_BYTES:
            raise ValueError("its header is too large")
    with safe_open(path, "numpy") as file:
        settings = parse_json((file.metadata() or {}).get("talkemo", "{}"))
    if not isinstance(settings, dict):
        raise ValueError("its settings are not a JSON object")
    return settings


def training_hint(stage: str) -> str:
    """Return a hint that names the command which trains a stage."""
    return f"train it with: talkemo train {TRAINED_BY_STAGE.get(stage, stage)} --data DIR -o DIR"


def _check_sizes(tensors: dict[str, np.ndarray], settings: dict[str, Any]) -> None:
    """Raise ValueError for settings of a network that is larger than the tensors.

    Building such a network could use up the memory.
    """
    longest = max((size for tensor in tensors.values() for size in tensor.shape), default=0)
    limits = {"channels": longest, "width": longest, "past": longest, "blocks": len(tensors)}
    for name, limit in limits.items():
        if name in settings and not _is_count(settings[name], limit):
            raise ValueError(f"its setting {name} does not fit its tensors")
    future = settings.get("future", [])  # one for each layer of an encoder
    if (
        not isinstance(future, list)
        or len(future) > len(tensors)
        or not all(_is_count(features, longest) for features in future)
    ):
        raise ValueError("its setting future does not fit its tensors")


def _is_count(value: Any, limit: int) -> bool:
    return isinstance(value, int) and 0 < value <= limit


def _is_finite(array: np.ndarray) -> bool:
    """Return whether an array has no NaN or infinity; on float16 faster than np.isfinite."""
    if array.dtype.kind != "f":
        return True
    size = array.dtype.itemsize
    magnitude, infinity = FLOAT_BIT_MASKS[size]
    bits = array.view(f"u{size}")
    return bool((bits & bits.dtype.type(magnitude)).max(initial=0) < infinity)


@contextmanager
def check_compatible(path: str | Path, stage: str) -> Iterator[None]:
    """Turn errors from tensors or settings of another version into an InputError with the path."""
    try:
        with quiet_libraries():  # PyTorch warns about empty tensors
            yield
    except (KeyError, TypeError, ValueError, IndexError, AttributeError, RuntimeError) as error:
        if isinstance(error, InputError):
            raise
        # PyTorch names the tensor in the second line of its message.
        lines = [line.strip() for line in str(error).splitlines()[:2]] or [type(error).__name__]
        raise InputError(
            f"{path}: weights of another version of talkemo ({' '.join(lines)})",
            training_hint(stage),
        ) from None


def check_made_for(path: str | Path, settings: dict[str, Any], **required: Any) -> None:
    """Raise InputError unless the settings of a file have the required values.

    For example `face=fingerprint, expression_names=names`.
    """
    for name, value in required.items():
        saved = settings.get(name)
        if (tuple(saved) if isinstance(saved, list) else saved) == value:
            continue
        kind = name.replace("_", " ")
        reason = f"does not say what {kind} it was made for"
        if saved is not None:
            values = f"{_summary(saved)}, not {_summary(value)}"
            reason = f"made for another {kind} than this set has ({values})"
        raise InputError(
            f"{path}: {reason}",
            "keep files of one training together, or train this stage for that face and encoder",
        )


def _summary(value: Any) -> str:
    return f"{len(value)} names" if isinstance(value, list | tuple) else str(value)
