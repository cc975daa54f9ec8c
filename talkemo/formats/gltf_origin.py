"""Where the vertices of a mesh come from that was read from a glTF, to write the whole file back."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from urllib.parse import unquote

import numpy as np

from .gltf_file import GltfFile


@dataclass(frozen=True)
class OriginPart:
    """The consecutive vertices of a joined mesh that are those of one primitive, in its order."""

    node: int
    mesh: int
    primitive: int  # number within the mesh
    first: int  # the joined mesh's vertex
    count: int


@dataclass(frozen=True, eq=False)
class GltfOrigin:
    """The file that a mesh was read from.

    Attributes
    ----------
    path : Path
    content : bytes
        Of the file, as it was when the mesh was read.
    companions : dict of str to bytes
        Content of the files beside it that were read, by their URI.
    parts : tuple of OriginPart
        Of all vertices, in their order.
    is_kept : bool
        Whether the whole file is written again; a file of one mesh that talkemo wrote is not.
    between : (A, 2) int, optional
        If the mesh was cut: the vertices between which each of the A vertices after them lies.
    fraction : (A,), optional
        Their places between these, from 0 to 1.
    animation : int, optional
        Number of the animation that was read, whose other tracks a changed one has, too.
    """

    path: Path
    content: bytes
    companions: dict[str, bytes]
    parts: tuple[OriginPart, ...]
    is_kept: bool = True
    between: np.ndarray | None = None
    fraction: np.ndarray | None = None
    animation: int | None = None

    def is_of(self, vertices: int) -> bool:
        """Return whether a mesh of so many vertices is the file's, so that it is written back."""
        added = 0 if self.between is None else len(self.between)
        return self.is_kept and self.count + added == vertices

    @property
    def count(self) -> int:
        """The number of the file's vertices."""
        return sum(part.count for part in self.parts)

    @property
    def companion_paths(self) -> list[Path]:
        """The files beside it that were read."""
        return [self.path.parent / unquote(uri) for uri in self.companions]

    def open(self) -> GltfFile:
        """Return the file, opened again. Raises what `GltfFile` raises."""
        return GltfFile(self.path, self.content, self.companions)

    def with_cut(self, between: np.ndarray, fraction: np.ndarray) -> GltfOrigin:
        """Return the origin of the mesh with more vertices added; see `between` and `fraction`."""
        if self.between is not None and self.fraction is not None:
            between = np.concatenate([self.between, between])
            fraction = np.concatenate([self.fraction, fraction])
        return replace(self, between=between, fraction=fraction)
