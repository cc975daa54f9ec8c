"""Weights: one safetensors file a stage, sets of such files, and the registries that pin them.

A file's JSON header says what it is and what it was made for (stage, settings of its network, face, encoder), so that it
rebuilds its own network and cannot be mixed up with another's. A *set* is a folder with a file for some or all stages
and a `registry.toml` that lists size and sha256 of each. Sets are the bundled ones, folders that `talkemo train` wrote,
and repositories on the Hugging Face Hub.
"""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ..errors import InputError
from ..files.cache import sha256
from ..files.writing import atomic_write
from .files import LARGEST_FILE, WEIGHT_STAGES, _how_to_train

DEFAULT_SET = "default"
REGISTRY_NAME = "registry.toml"
HUB_PREFIX = "hf://"
LARGEST_REGISTRY = 1 << 20  # bytes
FILE_NAME = re.compile(
    r"[A-Za-z0-9][A-Za-z0-9._-]*\.safetensors"
)  # in a registry; a name in its own folder
DIGEST = re.compile(r"[0-9a-f]{64}")  # a sha256
LICENCES = {
    "face": ("MIT", "canonical face, bilinear model, geometry map"),
    "speech": ("MIT", "sound to speech features"),
    "talking": (
        "research and non-commercial use",
        "speech features to the motion of the canonical face",
    ),
    "emotion": ("CC BY-NC-SA 4.0", "emotion transfer on geometry maps"),
    "discriminator": (
        "CC BY-NC-SA 4.0",
        "what emotion transfer was trained against, for evaluation",
    ),
    "classifier": ("CC BY-NC-SA 4.0", "judge of generated emotions, for evaluation"),
}


def read_registry(path: Path) -> dict[str, dict[str, Any]]:
    """The entries of a registry.toml: stage → {file, bytes, sha256, licence, about}, and {commit, seed, data} of some.

    Raises InputError for a registry that cannot be read, or that names a file outside its folder or one too large.
    """
    if sys.version_info >= (3, 11):
        import tomllib
    else:
        import tomli as tomllib

    try:
        if path.stat().st_size > LARGEST_REGISTRY:
            raise ValueError("it is too large")
        entries = tomllib.loads(path.read_text("utf-8"))
        for stage, entry in entries.items():
            if stage not in WEIGHT_STAGES or not isinstance(entry, dict):
                raise ValueError(f"there is no stage called {stage!r}")
            name, size, digest = entry.get("file"), entry.get("bytes"), entry.get("sha256")
            if not isinstance(name, str) or not FILE_NAME.fullmatch(name):
                raise ValueError(
                    f"the file of {stage}, {name!r}, is not the name of a safetensors file in its folder"
                )
            if type(size) is not int or not 0 < size <= LARGEST_FILE:
                raise ValueError(f"{name} has no size, or one beyond {LARGEST_FILE >> 30} GiB")
            if not isinstance(digest, str) or not DIGEST.fullmatch(digest):
                raise ValueError(f"{name} has no sha256")
            if not isinstance(entry.get("seed", 0), int):
                raise ValueError(f"the seed of {name} is not a number")
            if not all(
                isinstance(entry.get(key, ""), str)
                for key in ("licence", "about", "commit", "data")
            ):
                raise ValueError(f"the licence of {name}, or what it says about it, is not a text")
    except (OSError, ValueError, RecursionError) as error:
        raise InputError(
            f"{path}: not a registry of weights ({error})", "fetch or train the set again"
        ) from None
    return entries


def write_registry(folder: Path) -> Path:
    """Write folder/registry.toml for the weights files that are there, keeping what it says of licences.

    An entry has size and sha256, and from which commit, seed and data the file was made where its header says so.
    """
    path = folder / REGISTRY_NAME
    before = read_registry(path) if path.is_file() else {}
    lines = [
        "# Size and sha256 of each weights file; written by talkemo, checked whenever one is loaded."
    ]
    for stage in WEIGHT_STAGES:
        file = folder / f"{stage}.safetensors"
        if not file.is_file():
            continue
        licence, about = LICENCES[stage]
        entry = {
            "file": file.name,
            "bytes": file.stat().st_size,
            "sha256": sha256(file),
            "licence": before.get(stage, {}).get("licence", licence),
            "about": before.get(stage, {}).get("about", about),
        }
        known = before.get(stage, {})
        if (
            known.get("sha256") != entry["sha256"]
        ):  # what an older file does not say of itself was written by hand
            known = {}
        entry |= {key: known[key] for key in ("commit", "seed", "data") if key in known} | _made(
            file
        )
        lines += [
            "",
            f"[{stage}]",
            *(f"{key} = {json.dumps(value)}" for key, value in entry.items()),
        ]
    with atomic_write(path) as partial:
        partial.write_text("\n".join(lines) + "\n", "utf-8")
    return path


def _made(file: Path) -> dict[str, Any]:
    """What a weights file says of where it comes from, as a registry has it; nothing where it says nothing."""
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(file, "numpy") as opened:
            made = json.loads((opened.metadata() or {})["talkemo"])["made"]
        data = ", ".join(f"{name} {digest}" for name, digest in made["data"].items())
        return {"commit": str(made["commit"]), "seed": int(made["seed"]), "data": data}
    except (SafetensorError, OSError, LookupError, TypeError, ValueError, AttributeError):
        return {}


@dataclass(frozen=True)
class WeightSet:
    """A folder of weights. name: as the user named it; entries: of its registry, empty where it has none."""

    name: str
    folder: Path
    entries: dict[str, dict[str, Any]] = field(default_factory=dict)

    @property
    def stages(self) -> list[str]:
        """The stages that the set has."""
        return [stage for stage in WEIGHT_STAGES if self.path(stage) is not None]

    def path(self, stage: str) -> Path | None:
        """The file of a stage, None where the set does not have that stage."""
        if self.entries:
            return self.folder / str(self.entries[stage]["file"]) if stage in self.entries else None
        path = self.folder / f"{stage}.safetensors"
        return path if path.is_file() else None

    def check(self, stage: str) -> None:
        """Raise InputError unless a stage's file is in the folder, with the size and checksum that the registry gives."""
        path, entry = self.path(stage), self.entries.get(stage)
        if path is None:
            return
        if not path.is_file():
            raise InputError(f"{path}: listed in {REGISTRY_NAME} and not there", self._mend())
        self.check_inside(path)
        if entry is None:
            return
        size = path.stat().st_size
        if size != entry["bytes"]:
            raise InputError(
                f"{path}: has {size} bytes, and {REGISTRY_NAME} lists {entry['bytes']}",
                self._mend(),
            )
        if sha256(path) != entry["sha256"]:
            raise InputError(
                f"{path}: its sha256 is not the one that {REGISTRY_NAME} lists", self._mend()
            )

    def check_inside(self, path: Path) -> None:
        """Raise InputError for a link that leads out of the set's folder.

        Installers and the Hub's cache make such links themselves; in the cache they lead to blobs beside the snapshots.
        """
        if self.name.startswith(HUB_PREFIX) or self.folder.parent == bundled_folder():
            return
        root = folder = self.folder.resolve()
        if folder.parent.name == "snapshots" and folder.parent.parent.name.startswith("models--"):
            root = folder.parents[2]
        if not path.resolve().is_relative_to(root):
            raise InputError(
                f"{path}: a link to a file outside its folder", "copy the file itself to the folder"
            )

    def _mend(self) -> str:
        if self.name == DEFAULT_SET:
            return "install talkemo again"
        if self.name.startswith(HUB_PREFIX):
            return f"fetch it again: talkemo weights fetch {self.name}"
        return "it is damaged or was replaced; if that was meant, delete its registry.toml"


def bundled_folder() -> Path:
    """Where the bundled sets are: inside the installed package, or beside it in a checkout."""
    package = Path(__file__).parent.parent
    installed = package / "_weights"
    return installed if installed.is_dir() else package.parent / "weights"


def bundled_sets() -> list[str]:
    """Names of the sets that come with the package."""
    return sorted(path.parent.name for path in bundled_folder().glob(f"*/{REGISTRY_NAME}"))


def folder_set(folder: Path, name: str) -> WeightSet:
    """The set of a folder with weights in it. Raises InputError where there are none, or some that its registry lacks."""
    registry = folder / REGISTRY_NAME
    entries = read_registry(registry) if registry.is_file() else {}
    there = [path for stage in WEIGHT_STAGES if (path := folder / f"{stage}.safetensors").is_file()]
    if not entries and not there:
        raise InputError(f"{folder}: no weights in it", "name a folder that talkemo train wrote to")
    listed = {entry["file"] for entry in entries.values()}
    for path in there:
        if registry.is_file() and path.name not in listed:
            raise InputError(
                f"{path}: not listed in {registry}",
                f"delete {REGISTRY_NAME} if the folder's files are to be used as they are",
            )
    return WeightSet(name, folder, entries)


def first_with(sets: Iterable[WeightSet], stage: str) -> WeightSet:
    """The first of several sets that has a stage. Raises InputError where none has."""
    sets = list(sets)
    for one in sets:
        if one.path(stage) is not None:
            return one
    raise InputError(
        f"no weights of the stage '{stage}' in {', '.join(one.name for one in sets)}",
        _how_to_train(stage),
    )
