"""Results on disk with a fingerprint of their inputs: up to date, stale or missing."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from enum import Enum
from pathlib import Path

from .writing import atomic_write

FINGERPRINT_FILE = "about.txt"  # holds the fingerprint of the inputs that a folder was made from


class State(Enum):
    """Whether an artefact can be used as it is."""

    MISSING = "missing"
    STALE = "stale"
    UP_TO_DATE = "up to date"


def read_fingerprint(path: Path) -> str | None:
    """Return the fingerprint in a folder's about.txt or in a file's NAME.txt; None without one."""
    note = _note(path)
    return note.read_text("utf-8") if note.is_file() else None


@dataclass(frozen=True)
class Artefact:
    """A file or folder, and the fingerprint of the inputs that it should be made from."""

    path: Path
    fingerprint: (
        str  # digest of all inputs and settings that decide the content, see `cache.digest`
    )
    # Reads the stored fingerprint, by default from a text file (see `read_fingerprint`); None if
    # there is none.
    stored_fingerprint: Callable[[Path], str | None] = read_fingerprint

    @property
    def state(self) -> State:
        """Whether the artefact is missing, stale (made from other inputs) or up to date."""
        stored = self.stored_fingerprint(self.path) if self.path.exists() else None
        if stored is None:
            return State.MISSING
        return State.UP_TO_DATE if stored == self.fingerprint else State.STALE

    def sign(self) -> None:
        """Write the fingerprint to the text file that `read_fingerprint` reads."""
        note = _note(self.path)
        note.parent.mkdir(parents=True, exist_ok=True)
        with atomic_write(note) as partial:
            partial.write_text(self.fingerprint, "utf-8")


def _note(path: Path) -> Path:
    """Return the text file with an artefact's fingerprint; a path without a suffix is a folder."""
    return path.with_suffix(".txt") if path.suffix else path / FINGERPRINT_FILE
