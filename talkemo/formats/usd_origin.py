"""Where the vertices of a mesh come from that was read from a USD, to write the stage back."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np


@dataclass(frozen=True)
class UsdPart:
    """The consecutive vertices of a joined mesh that are those of one mesh of a stage."""

    path: str  # of the prim
    first: int
    count: int


@dataclass(frozen=True, eq=False)
class UsdOrigin:
    """The stage that a mesh was read from.

    Attributes
    ----------
    path : Path
    parts : tuple of UsdPart
        Of all vertices, in their order.
    to_mesh : (4, 4)
        From the stage's space into the mesh's: metres, y up.
    """

    path: Path
    parts: tuple[UsdPart, ...]
    to_mesh: np.ndarray

    def is_of(self, vertices: int) -> bool:
        """Return whether a mesh of so many vertices is the stage's, so that it is written back."""
        return sum(part.count for part in self.parts) == vertices

    def with_cut(self, between: np.ndarray, fraction: np.ndarray) -> None:
        """Return None: a mesh with vertices that are added is not the stage's any more."""
