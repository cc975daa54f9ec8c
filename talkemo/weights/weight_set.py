"""Sets of weights: folders with a weights file for some or all stages.

Sets are bundled with the package, written by `talkemo train`, or downloaded from the Hub. Files are
checked against the set's registry, if there is one.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

from ..errors import InputError
from ..files.cache import sha256
from .files import WEIGHT_STAGES
from .registry import DEFAULT_SET, HUB_PREFIX, REGISTRY_NAME, RegistryEntry, read_registry


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
