"""Sets of weights: folders with a weights file for some or all stages.

A set's `registry.toml` lists the size and sha256 of each file, its licence and where it comes from.
Sets are bundled with the package, written by `talkemo train`, or downloaded from the Hub.
"""

from __future__ import annotations

import json
import re
import sys
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from ..errors import InputError
from ..files.cache import sha256
from ..files.writing import atomic_write
from .files import MAX_WEIGHTS_BYTES, WEIGHT_STAGES

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

DEFAULT_SET = "default"
REGISTRY_NAME = "registry.toml"
HUB_PREFIX = "hf://"
MAX_REGISTRY_BYTES = 1 << 20
WEIGHTS_FILE_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*\.safetensors")  # without a folder
SHA256 = re.compile(r"[0-9a-f]{64}")
# Licence and description of each stage's weights, unless a registry states others.
LICENCES = {
    "face": ("MIT", "canonical face, bilinear model, geometry map"),
    "speech": ("MIT", "audio to speech features"),
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


@dataclass(frozen=True)
class RegistryEntry:
    """A weights file as its registry lists it. The fields are the keys of the TOML table."""

    file: str  # name in the registry's folder
    bytes: int
    sha256: str
    licence: str | None = None
    about: str | None = None
    # Commit, seed and data of the training, if known.
    commit: str | None = None
    seed: int | None = None
    data: str | None = None

    @classmethod
    def parse(cls, stage: str, table: Any) -> RegistryEntry:
        """Return the checked entry of a stage's TOML table. Raises ValueError."""
        if stage not in WEIGHT_STAGES or not isinstance(table, dict):
            raise ValueError(f"there is no stage called {stage!r}")
        name, size, digest = table.get("file"), table.get("bytes"), table.get("sha256")
        if not isinstance(name, str) or not WEIGHTS_FILE_NAME.fullmatch(name):
            raise ValueError(
                f"the file of {stage}, {name!r}, "
                "is not the name of a safetensors file in its folder"
            )
        if type(size) is not int or not 0 < size <= MAX_WEIGHTS_BYTES:
            raise ValueError(f"{name} has no size, or one beyond {MAX_WEIGHTS_BYTES >> 30} GiB")
        if not isinstance(digest, str) or not SHA256.fullmatch(digest):
            raise ValueError(f"{name} has no sha256")
        seed = table.get("seed")
        if seed is not None and not isinstance(seed, int):
            raise ValueError(f"the seed of {name} is not a number")
        texts = {key: table.get(key) for key in ("licence", "about", "commit", "data")}
        if not all(text is None or isinstance(text, str) for text in texts.values()):
            raise ValueError(f"the licence or the description of {name} is not a text")
        return cls(name, size, digest, seed=seed, **texts)

    def to_toml(self, stage: str) -> str:
        """Return the entry as a TOML table."""
        values = {key: value for key, value in asdict(self).items() if value is not None}
        return "".join(
            [f"\n[{stage}]\n", *(f"{key} = {json.dumps(value)}\n" for key, value in values.items())]
        )


def read_registry(path: Path) -> dict[str, RegistryEntry]:
    """Return the entries of a registry by stage.

    Raises InputError if it cannot be read, or lists a file that is too large or outside its folder.
    """
    try:
        if path.stat().st_size > MAX_REGISTRY_BYTES:
            raise ValueError("it is too large")
        tables = tomllib.loads(path.read_text("utf-8"))
        return {stage: RegistryEntry.parse(stage, table) for stage, table in tables.items()}
    except (OSError, ValueError, RecursionError) as error:
        raise InputError(
            f"{path}: not a registry of weights ({error})", "fetch or train the set again"
        ) from None


def write_registry(folder: Path) -> Path:
    """Write folder/registry.toml for the weights files in a folder, and return its path.

    An existing registry's licences and descriptions are kept. Commit, seed and data come from the
    file's header; if they are missing there, those of an unchanged file are kept.
    """
    path = folder / REGISTRY_NAME
    existing = read_registry(path) if path.is_file() else {}
    text = (
        "# Size and sha256 of each weights file; "
        "written by talkemo, checked whenever one is loaded.\n"
    )
    for stage in WEIGHT_STAGES:
        file = folder / f"{stage}.safetensors"
        if not file.is_file():
            continue
        size, digest = file.stat().st_size, sha256(file)
        licence, about = LICENCES[stage]
        origin = {}
        previous = existing.get(stage)
        if previous is not None:
            licence = licence if previous.licence is None else previous.licence
            about = about if previous.about is None else previous.about
            if previous.sha256 == digest:
                origin = {key: getattr(previous, key) for key in ("commit", "seed", "data")}
        origin |= _origin_in_header(file)
        text += RegistryEntry(file.name, size, digest, licence, about, **origin).to_toml(stage)
    with atomic_write(path) as partial:
        partial.write_text(text, "utf-8")
    return path


def _origin_in_header(file: Path) -> dict[str, Any]:
    """Return commit, seed and data from the header of a weights file; empty if they are missing."""
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(file, "numpy") as opened:
            origin = json.loads((opened.metadata() or {})["talkemo"])["made"]
        data = ", ".join(f"{name} {digest}" for name, digest in origin["data"].items())
        return {"commit": str(origin["commit"]), "seed": int(origin["seed"]), "data": data}
    except (SafetensorError, OSError, LookupError, TypeError, ValueError, AttributeError):
        return {}


@dataclass(frozen=True)
class WeightSet:
    """A folder of weights files."""

    name: str  # as the user gave it
    folder: Path
    entries: dict[str, RegistryEntry] = field(default_factory=dict)  # empty without a registry

    @property
    def stages(self) -> list[str]:
        """The stages that the set has weights for."""
        return [stage for stage in WEIGHT_STAGES if self.path(stage) is not None]

    def path(self, stage: str) -> Path | None:
        """Return the file of a stage, or None if the set does not have the stage."""
        if self.entries:
            return self.folder / self.entries[stage].file if stage in self.entries else None
        path = self.folder / f"{stage}.safetensors"
        return path if path.is_file() else None

    def check(self, stage: str) -> None:
        """Raise InputError if a stage's file is missing, a link out of the folder, or damaged.

        A damaged file has another size or sha256 than the registry lists.
        """
        path, entry = self.path(stage), self.entries.get(stage)
        if path is None:
            return
        if not path.is_file():
            raise InputError(
                f"{path}: listed in {REGISTRY_NAME} and not there", self._repair_hint()
            )
        self.check_inside(path)
        if entry is None:
            return
        size = path.stat().st_size
        if size != entry.bytes:
            raise InputError(
                f"{path}: has {size} bytes, and {REGISTRY_NAME} lists {entry.bytes}",
                self._repair_hint(),
            )
        if sha256(path) != entry.sha256:
            raise InputError(
                f"{path}: its sha256 is not the one that {REGISTRY_NAME} lists",
                self._repair_hint(),
            )

    def check_inside(self, path: Path) -> None:
        """Raise InputError for a link that leads out of the set's folder.

        Links of the bundled sets and of the Hub's cache are allowed: installers and the Hub's
        client make them. In the cache they lead to the folder `blobs` beside `snapshots`.
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

    def _repair_hint(self) -> str:
        if self.name == DEFAULT_SET:
            return "install talkemo again"
        if self.name.startswith(HUB_PREFIX):
            return f"fetch it again: talkemo weights fetch {self.name}"
        return "it is damaged or was replaced; if that was meant, delete its registry.toml"


def bundled_folder() -> Path:
    """Return the folder of the bundled sets, in the installed package or in a checkout."""
    package = Path(__file__).parent.parent
    installed = package / "_weights"
    return installed if installed.is_dir() else package.parent / "weights"


def bundled_sets() -> list[str]:
    """Return the names of the sets that come with the package."""
    return sorted(path.parent.name for path in bundled_folder().glob(f"*/{REGISTRY_NAME}"))


def folder_set(folder: Path, name: str) -> WeightSet:
    """Return the set of weights in a folder.

    Raises InputError if there are none, or a weights file that the registry does not list.
    """
    registry = folder / REGISTRY_NAME
    entries = read_registry(registry) if registry.is_file() else {}
    paths = [folder / f"{stage}.safetensors" for stage in WEIGHT_STAGES]
    paths = [path for path in paths if path.is_file()]
    if not entries and not paths:
        raise InputError(f"{folder}: no weights in it", "name a folder that talkemo train wrote to")
    listed = {entry.file for entry in entries.values()}
    for path in paths:
        if registry.is_file() and path.name not in listed:
            raise InputError(
                f"{path}: not listed in {registry}",
                f"delete {REGISTRY_NAME} if the folder's files are to be used as they are",
            )
    return WeightSet(name, folder, entries)
