"""How head and eyes turn, kept beside the mesh: a file's user decides what goes along with them."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from .animation import Frames, Turn

HEAD, EYES = "head", ("eye_right", "eye_left")


@dataclass(eq=False)
class Tracks:
    """Rotations over time. turn: of the mesh, see `Header.turn`; without it there are none"""

    turn: Turn | None
    _head: list[np.ndarray] = field(default_factory=list)
    _eyes: list[np.ndarray] = field(default_factory=list)

    def write(self, frames: Frames, rows: slice = slice(None)) -> None:
        """Take the next frames, or some of them."""
        if self.turn is None:
            return
        if frames.head is not None:
            self._head.append(self.turn.head(frames.head[rows]))
        if frames.gaze is not None:
            self._eyes.append(self.turn.eye_rotations(frames.gaze[rows]))

    @property
    def places(self) -> dict[str, np.ndarray]:
        """Where each track is, (3,) in the mesh's space; eyes are in the head, and turn relative to it."""
        if self.turn is None:
            return {}
        return {HEAD: np.asarray(self.turn.pivot), **dict(zip(EYES, self.turn.sockets))}

    def rotations(self) -> tuple[np.ndarray, np.ndarray]:
        """The head's and the eyes' rotations (T, 3, 3) in the mesh's axes; none (0, 3, 3) of what does not turn."""
        none = np.zeros((1, 0, 3, 3), np.float32)
        return np.concatenate(self._head or none), np.concatenate(self._eyes or none)

    def quaternions(self) -> dict[str, np.ndarray]:
        """x, y, z, w (T, 4) float32 of each track that turns."""
        found, (head, eyes) = {}, self.rotations()
        if len(head):
            found[HEAD] = _quaternions(head)
        if len(eyes):
            found |= dict.fromkeys(EYES, _quaternions(eyes))
        return found


def _quaternions(rotation: np.ndarray) -> np.ndarray:
    """x, y, z, w (T, 4) float32 of rotations (T, 3, 3) by much less than half a turn."""
    w = np.sqrt(1 + np.trace(rotation, axis1=1, axis2=2)) / 2
    parts = [
        rotation[:, 2, 1] - rotation[:, 1, 2],
        rotation[:, 0, 2] - rotation[:, 2, 0],
        rotation[:, 1, 0] - rotation[:, 0, 1],
    ]
    return np.column_stack([*(part / (4 * w) for part in parts), w]).astype(np.float32)
