"""Rotations of head and eyes for files that store them as nodes beside a mesh.

The nodes do not move the mesh: the user of a file attaches objects that should follow them.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from .animation import Frames, MeshTurner

HEAD_NODE, EYE_NODES = "head", ("eye_right", "eye_left")


@dataclass(eq=False)
class HeadNodes:
    """Collects the rotations of head and eyes of an animation; there are none without `turn`."""

    turn: MeshTurner | None  # see `Header.turn`
    _head: list[np.ndarray] = field(default_factory=list)
    _eyes: list[np.ndarray] = field(default_factory=list)

    def write(self, frames: Frames, rows: slice = slice(None)) -> None:
        """Append frames, or some rows of them."""
        if self.turn is None:
            return
        if frames.head is not None:
            self._head.append(self.turn.head(frames.head[rows]))
        if frames.gaze is not None:
            self._eyes.append(self.turn.eye_rotations(frames.gaze[rows]))

    @property
    def positions(self) -> dict[str, np.ndarray]:
        """Position (3,) of each node in its parent: the mesh for the head, the head for an eye."""
        if self.turn is None:
            return {}
        pivot = np.asarray(self.turn.pivot)
        eyes = {name: socket - pivot for name, socket in zip(EYE_NODES, self.turn.sockets)}
        return {HEAD_NODE: pivot, **eyes}

    def rotations(self) -> tuple[np.ndarray, np.ndarray]:
        """Return rotations of head and eyes (T, 3, 3) in the mesh's axes; (0, 3, 3) if still."""
        still = np.zeros((1, 0, 3, 3), np.float32)
        return np.concatenate(self._head or still), np.concatenate(self._eyes or still)

    def quaternions(self) -> dict[str, np.ndarray]:
        """Return x, y, z, w (T, 4) float32 of each node that rotates, by its name."""
        from scipy.spatial.transform import Rotation

        result: dict[str, np.ndarray] = {}
        head, eyes = self.rotations()
        for names, rotations in (((HEAD_NODE,), head), (EYE_NODES, eyes)):
            if len(rotations):
                quaternions = Rotation.from_matrix(rotations).as_quat(canonical=True)
                result |= dict.fromkeys(names, quaternions.astype(np.float32))
        return result
