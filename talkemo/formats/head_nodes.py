"""Rotations of head and eyes for files that store them as nodes.

The head's node moves the mesh. A mesh that is only a face or a head moves as a whole; if there is a
neck or a body, each vertex moves by its share. In a GLB the eyes' nodes turn the eyeballs. In a USD
they are for objects that should follow the eyes, which ARKit's weights turn.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from .animation import Frames, MeshTurner

HEAD_NODE, EYE_NODES = "head", ("eye_right", "eye_left")
BODY_NODE = "body"  # stays still; the joint of vertices that do not follow the head
MIN_RIGID_SHARE = 0.999  # of the head's rotation; from it on, a mesh moves rigidly


@dataclass(eq=False)
class HeadNodes:
    """Collects the rotations of head and eyes of an animation; there are none without `turn`."""

    turn: MeshTurner | None  # see `Header.turn`
    upright: np.ndarray = field(default_factory=lambda: np.eye(3))  # see `Header.upright`
    metres: float = 1.0  # per unit of the mesh
    # Centres (3,) in the mesh of eyeballs that nodes turn, by the node's name; sockets elsewhere.
    centres: dict[str, np.ndarray] = field(default_factory=dict)
    _head: list[np.ndarray] = field(default_factory=list)
    _eyes: list[np.ndarray] = field(default_factory=list)

    def write(self, frames: Frames, rows: slice = slice(None)) -> None:
        """Append frames, or some rows of them."""
        if self.turn is None:
            return
        if frames.head is not None and self.turn.turns_head:
            self._head.append(self.turn.head(frames.head[rows]))
        if frames.gaze is not None:
            self._eyes.append(self.turn.eye_rotations(frames.gaze[rows]))

    @property
    def positions(self) -> dict[str, np.ndarray]:
        """Position (3,) of each node in its parent: the mesh for the head, the head for an eye."""
        if self.turn is None:
            return {}
        pivot = np.asarray(self.turn.pivot)
        eyes = {
            name: np.asarray(self.centres.get(name, socket)) - pivot
            for name, socket in zip(EYE_NODES, self.turn.sockets)
        }
        nodes = {HEAD_NODE: pivot, **eyes}
        return {name: self.metres * position @ self.upright for name, position in nodes.items()}

    @property
    def moves_head(self) -> bool:
        """Whether the head rotates."""
        return bool(self._head)

    @property
    def moves_eyes(self) -> bool:
        """Whether the eyes rotate."""
        return bool(self._eyes)

    def eye_node(self, centre: np.ndarray) -> str:
        """Return the name of the node whose socket is the closest to the centre (3,) of an eye."""
        assert self.turn is not None
        distances = np.linalg.norm(np.asarray(self.turn.sockets) - centre, axis=1)
        return EYE_NODES[int(distances.argmin())]

    @property
    def shares(self) -> np.ndarray | None:
        """Fraction (N,) of the head's rotation that each vertex follows; None if all follow it."""
        if self.turn is None or self.turn.share.min() >= MIN_RIGID_SHARE:
            return None
        return self.turn.share[:, 0]

    def rotations(self) -> tuple[np.ndarray, np.ndarray]:
        """Return rotations of head and eyes (T, 3, 3) in the mesh's axes; (0, 3, 3) if still."""
        still = np.zeros((1, 0, 3, 3), np.float32)
        return np.concatenate(self._head or still), np.concatenate(self._eyes or still)

    def quaternions(self) -> dict[str, np.ndarray]:
        """Return x, y, z, w (T, 4) float32 of each node that rotates, in the upright axes."""
        from scipy.spatial.transform import Rotation

        result: dict[str, np.ndarray] = {}
        head, eyes = self.rotations()
        for names, rotations in (((HEAD_NODE,), head), (EYE_NODES, eyes)):
            if len(rotations):
                upright = self.upright.T @ rotations @ self.upright
                quaternions = Rotation.from_matrix(upright).as_quat(canonical=True)
                result |= dict.fromkeys(names, quaternions.astype(np.float32))
        return result
