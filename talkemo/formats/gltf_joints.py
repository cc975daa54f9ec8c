"""Which joints of a glTF turn the head and the eyes of the mesh that was read from it."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from .animation import MeshTurner
from .gltf_file import GltfFile
from .gltf_parts import Part
from .gltf_rig import NodeTree, Rig, find_rig, head_by_weights
from .gltf_scene import influences

MIN_JOINT_SHARE = 0.5  # of a vertex that counts as moved by a joint
MIN_VOLUME = 1e-30  # determinant of a joint's matrix; one with less cannot turn anything


class Joints:
    """The joints of a file, and what they move.

    Parameters
    ----------
    file : GltfFile
    nodes : NodeTree
    parts : list of Part
        All primitives of the mesh.
    """

    def __init__(self, file: GltfFile, nodes: NodeTree, parts: list[Part]):
        self.file, self.nodes, self.parts = file, nodes, parts
        self.skinned = [part for part in parts if part.surface.placement.ndim == 3]

    def rig(self, focus: np.ndarray, turner: MeshTurner | None) -> Rig:
        """Return the joints that turn head and eyes.

        Parameters
        ----------
        focus : (N,) bool
            The mesh's vertices of the face.
        turner : MeshTurner, optional
            How the head turns, if it does.
        """
        skins = self.file.tree.get("skins", [])
        joints = {int(joint) for skin in skins for joint in skin["joints"]}
        if not joints:
            joints = {k for k, node in enumerate(self.nodes.nodes) if "mesh" not in node}
        volumes = np.abs(np.linalg.det(self.nodes.matrices[:, :3, :3]))
        joints = {k for k in joints if volumes[k] > MIN_VOLUME}
        rig = find_rig(self.file.tree, self.nodes, joints, self._of_face(focus))
        rig = replace(rig, heads=tuple(pair for pair in rig.heads if volumes[pair[0]] > MIN_VOLUME))
        if rig.head is None and turner is not None and self.skinned:
            head = self._head_by_weights(focus, turner)
            if head is not None and volumes[head] > MIN_VOLUME:
                return replace(rig, heads=((head, None),))
        return rig

    def _of_face(self, focus: np.ndarray) -> set[int]:
        """The joints of the skin that most vertices of the face have."""
        if not self.skinned:
            return set()
        face = max(self.skinned, key=lambda part: int(focus[part.rows].sum()))
        return set(self._joints_of(face).tolist())

    def _head_by_weights(self, focus: np.ndarray, turner: MeshTurner) -> int | None:
        """The joint that moves the face and hardly anything else, None without one."""
        numbers, shares = zip(*(self._influences(part) for part in self.skinned))
        width = max(part.shape[1] for part in numbers)
        rows = np.concatenate([part.rows[: part.own] for part in self.skinned])
        return head_by_weights(
            np.concatenate([_widened(part, width) for part in numbers]),
            np.concatenate([_widened(part, width) for part in shares]),
            focus[rows],
            turner.share[rows, 0],
        )

    def _joints_of(self, part: Part) -> np.ndarray:
        """The nodes (J,) that are the joints of a skinned part."""
        skin = self.file.item("skins", self.nodes.nodes[part.surface.node]["skin"])
        return np.array(skin["joints"])

    def _influences(self, part: Part) -> tuple[np.ndarray, np.ndarray]:
        """The nodes (V, K) that move each vertex of a skinned part, and how far they do."""
        numbers, shares = influences(self.file, part.surface.primitive, part.own)
        return self._joints_of(part)[np.where(shares > 0, numbers, 0)], shares

    def moved_by(self, joints: tuple[int, ...]) -> np.ndarray:
        """Return the mesh's vertices that nodes, or those below them, move."""
        return np.concatenate([self._moved(part, joints) for part in self.parts])

    def _moved(self, part: Part, joints: tuple[int, ...]) -> np.ndarray:
        """The same of one part."""
        if part.surface.placement.ndim == 2:
            is_moved = any(self.nodes.is_below(part.surface.node, joint) for joint in joints)
            return part.rows if is_moved else part.rows[:0]
        numbers, shares = self._influences(part)
        below = [
            number
            for number in np.unique(numbers)
            if any(self.nodes.is_below(int(number), joint) for joint in joints)
        ]
        moved = (shares * np.isin(numbers, below)).sum(1)
        return part.rows[: part.own][moved > MIN_JOINT_SHARE * shares.sum(1)]


def _widened(values: np.ndarray, width: int) -> np.ndarray:
    """Rows (V, J) with columns of zeros added, (V, width)."""
    return np.pad(values, ((0, 0), (0, width - values.shape[1])))
