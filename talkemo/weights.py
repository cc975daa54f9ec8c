"""Weights: safetensors files with a JSON header that says what they are, so a file rebuilds its own network.

Bundled weights are listed in weights/registry.toml with size and sha256. A user's own file is named by its path.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from .errors import InputError
from .files import whole

STAGES = ("face", "speech", "talking", "emotion", "discriminator", "classifier")


def folder() -> Path:
    """Where the bundled weights are: inside the installed package, or beside it in a checkout."""
    installed = Path(__file__).parent / "_weights"
    return installed if installed.is_dir() else Path(__file__).parent.parent / "weights"


def registry() -> dict[str, dict[str, Any]]:
    """What registry.toml lists: stage → {file, bytes, sha256, licence, about}.

    The file is written by weights/register.py and holds only `[stage]` tables of strings and integers;
    these few lines read it on Python 3.10 too, which has no tomllib.
    """
    entries: dict[str, dict[str, Any]] = {}
    current: dict[str, Any] = {}
    for line in (folder() / "registry.toml").read_text("utf-8").splitlines():
        line = line.strip()
        if line.startswith("["):
            current = entries.setdefault(line.strip("[]"), {})
        elif "=" in line and not line.startswith("#"):
            key, _, value = line.partition("=")
            current[key.strip()] = json.loads(value.strip())
    return entries


def sha256(path: Path) -> str:
    """Hex digest of a file."""
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while block := file.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()


def save(path: str | Path, stage: str, tensors: dict[str, np.ndarray], settings: dict[str, Any]) -> None:
    """Write tensors and settings; the file appears under its name only when it is whole."""
    from safetensors.numpy import save_file

    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    header = {"talkemo": json.dumps({"stage": stage, **settings})}
    with whole(path) as partial:
        save_file({name: np.ascontiguousarray(array) for name, array in tensors.items()}, partial, metadata=header)


def load(path: str | Path | None, stage: str) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
    """Tensors and settings of a stage's weights, the bundled ones if path is None.

    Raises InputError where the file is missing, is no safetensors file or holds another stage.
    """
    from safetensors import SafetensorError, safe_open

    path = folder() / f"{stage}.safetensors" if path is None else Path(path)
    if not path.is_file():
        raise InputError(f"{path}: no such weights file", f"train it with: talkemo train {stage} --data DIR -o DIR")
    try:
        with safe_open(path, "numpy") as file:
            settings = json.loads((file.metadata() or {}).get("talkemo", "{}"))
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 (not a dict)
    except (SafetensorError, OSError, ValueError) as error:
        raise InputError(f"{path}: not a weights file of talkemo ({error})") from None
    if settings.pop("stage", None) != stage:
        raise InputError(f"{path}: these are not weights of the stage '{stage}'")
    return tensors, settings


@contextmanager
def understood(path: str | Path | None, stage: str) -> Iterator[None]:
    """Turn what building a network from another version's tensors raises in the block into an InputError."""
    try:
        yield
    except (KeyError, TypeError, ValueError, IndexError, RuntimeError) as error:
        if isinstance(error, InputError):
            raise
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise InputError(
            f"{path or f'the bundled {stage}.safetensors'}: weights of another version of talkemo ({reason})",
            f"train them anew: talkemo train {stage}",
        ) from None


def intact(entry: dict[str, Any]) -> bool:
    """Whether the file of a registry entry has the size and checksum that the entry gives."""
    path = folder() / Path(entry["file"]).name
    return path.is_file() and path.stat().st_size == entry["bytes"] and sha256(path) == entry["sha256"]
