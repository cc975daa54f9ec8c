"""The user's hints about where the face of a mesh is; imports nothing that loads slowly."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from ..options import option

AXES = ("x", "y", "z", "-x", "-y", "-z")


@dataclass(frozen=True)
class FaceHint:
    """Where the face of a mesh is, for meshes whose face is not found automatically."""

    binding: str | Path | None = option(
        None, "Binding of this mesh, saved by talkemo bind; replaces the other hints.", panel="Face"
    )
    up: str | None = option(
        None,
        "Axis of the mesh that points up: x, y, z, -x, -y or -z.",
        panel="Face",
        values=AXES,
    )
    forward: str | None = option(
        None,
        "Axis of the mesh that the face looks along, such as -y.",
        panel="Face",
        values=AXES,
    )
    landmarks: str | Path | None = option(
        None,
        "Text file with one landmark a line: its iBUG number (1 to 68), then a vertex counted "
        "from 0, or x y z.",
        panel="Face",
    )
    tracker: bool = option(
        True,
        "Find the face by its shape alone, even if the landmark tracker of the extra video is "
        "installed.",
        panel="Face",
    )

    @property
    def files(self) -> list[str | Path]:
        """The files that the hint names."""
        return [path for path in (self.binding, self.landmarks) if path is not None]
