"""How head and eyes of a glTF that exists turn: tracks of its joints, or of nodes that are added."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np

from .animation import MeshTurner
from .gltf_arrays import ExtendedGlb
from .gltf_parts import Part, grouped, own_mesh
from .gltf_rig import NodeTree, Rig, as_own_rotation, half_turns, turned_rotations
from .head_nodes import BODY_NODE, HEAD_NODE, MIN_RIGID_SHARE, HeadNodes

MAX_JOINT_DISTANCE_M = 0.25  # of a head's joint from where the head turns; one farther off moves


@dataclass(eq=False)
class HeadTracks:
    """Turns head and eyes of a file.

    Attributes
    ----------
    tree : dict
        Of the file that is written; nodes and skins are added to it.
    nodes : NodeTree
    rig : Rig
    parts : list of Part
    head_nodes : HeadNodes
        The rotations, in the scene's axes.
    metres : float
        Per unit of the file.
    tracks : list of (node, path, values)
        What `build` returned.
    head : int or None
        The node that moves what is added to the head.
    """

    tree: dict[str, Any]
    nodes: NodeTree
    rig: Rig
    parts: list[Part]
    head_nodes: HeadNodes
    metres: float
    tracks: list[tuple[int, str, np.ndarray]] = field(default_factory=list)
    head: int | None = None

    def build(self, arrays: ExtendedGlb, needs_head: bool) -> None:
        """Make the tracks, and the nodes and skins that they need.

        `needs_head`: whether something will be added to the head, so that it needs a node.
        """
        head, eyes = self.head_nodes.rotations()
        turner = self.head_nodes.turn
        if turner is None or not (len(head) or len(eyes)):
            self.head = self.rig.head
        elif self.rig.head is not None:
            self._turn_joints(head, eyes, turner)
        elif len(head) and not any(part.surface.placement.ndim == 3 for part in self.parts):
            self._turn_nodes(head, turner, arrays, needs_head)

    # --------------------------------------------------------------------------------- a skeleton

    def _turn_joints(self, head: np.ndarray, eyes: np.ndarray, turner: MeshTurner) -> None:
        """Turn the joints of head, neck and eyes."""
        self.head = self.rig.head
        if len(head):
            pivots = [
                self._turn_skeleton(joint, neck, head, turner) for joint, neck in self.rig.heads
            ]
            self._turn_loose_nodes(head, pivots[0], turner)
        if len(eyes):
            for eye in self.rig.eyes:
                self._turn(eye, eyes)

    def _turn_skeleton(
        self, joint: int, neck: int | None, turns: np.ndarray, turner: MeshTurner
    ) -> np.ndarray:
        """Turn a head's joint, and its neck's by half of it; return about which point (3,)."""
        position = self.nodes.matrices[joint][:3, 3]
        pivot = np.asarray(turner.pivot, np.float64)
        if np.linalg.norm(position - pivot) * self.metres > MAX_JOINT_DISTANCE_M:
            self._turn(joint, turns, pivot)
            return pivot
        if neck is not None and neck not in self._turned and self._turn(neck, half_turns(turns)):
            self._turn(joint, half_turns(turns))
        else:
            self._turn(joint, turns)
        return np.asarray(position)

    @property
    def _turned(self) -> set[int]:
        """The nodes that have a track."""
        return {node for node, _, _ in self.tracks}

    def _turn(self, number: int, turns: np.ndarray, pivot: np.ndarray | None = None) -> bool:
        """Add the track of a node's rotation, also of its position if it turns about a pivot (3,).

        Returns False if the node or its parent shears, or has no volume.
        """
        node, parent = self.tree["nodes"][number], self.nodes.parent_matrix(number)
        if abs(np.linalg.det(parent[:3, :3])) < 1e-30 or not as_own_rotation(node):
            return False
        quaternions, _ = turned_rotations(turns, parent, node)
        self.tracks.append((number, "rotation", quaternions))
        if pivot is not None:
            position = self.nodes.matrices[number][:3, 3]
            places = pivot + turns @ (position - pivot) - parent[:3, 3]
            local = places @ np.linalg.inv(parent[:3, :3]).T
            self.tracks.append((number, "translation", local.astype(np.float32)))
        return True

    def _turn_loose_nodes(self, head: np.ndarray, pivot: np.ndarray, turner: MeshTurner) -> None:
        """Turn meshes of the head that neither a skin nor the head's node moves."""
        turned: set[int] = set()
        for number in sorted({part.surface.node for part in self.parts}):
            is_moved = any(self.nodes.is_below(number, joint) for joint, _ in self.rig.heads)
            if (
                is_moved
                or turned & set(self.nodes.above(number))
                or not self._is_rigid(number, turner)
            ):
                continue
            if self._turn(number, head, pivot):
                turned.add(number)

    def _parts_of(self, number: int) -> list[Part]:
        return [part for part in self.parts if part.surface.node == number]

    def _share(self, part: Part, turner: MeshTurner) -> np.ndarray:
        """How far vertices of a part follow the head (V + A,)."""
        return np.asarray(turner.share[part.rows, 0])

    def _is_rigid(self, number: int, turner: MeshTurner) -> bool:
        """Whether a node without skin follows the head as a whole."""
        return all(
            part.surface.placement.ndim == 2
            and self._share(part, turner).min(initial=1) >= MIN_RIGID_SHARE
            for part in self._parts_of(number)
        )

    # ------------------------------------------------------------------------------- no skeleton

    def _turn_nodes(
        self, head: np.ndarray, turner: MeshTurner, arrays: ExtendedGlb, needs_head: bool
    ) -> None:
        """Let the head's rotation move the meshes, some of them by the node of a head."""
        partly = self._partly_turned(turner)
        pivot = np.asarray(turner.pivot, np.float64)
        if partly or needs_head:
            self.head = self._add_node({"name": HEAD_NODE, "translation": pivot.tolist()})
            turns = self.head_nodes.quaternions()[HEAD_NODE]
            self.tracks.append((self.head, "rotation", turns))
        if partly:
            body = self._add_node({"name": BODY_NODE, "children": [self.head]})
            for number in partly:
                self._bind(number, body, turner, arrays)
            add_root(self.tree, body)
        elif self.head is not None:
            add_root(self.tree, self.head)
        self._turn_loose_nodes(head, pivot, turner)

    def _partly_turned(self, turner: MeshTurner) -> list[int]:
        """The nodes some of whose vertices follow the head more than others."""
        return [
            number
            for number in sorted({part.surface.node for part in self.parts})
            if not self._is_rigid(number, turner)
            and any(self._share(part, turner).any() for part in self._parts_of(number))
        ]

    def _add_node(self, node: dict[str, Any]) -> int:
        self.tree["nodes"].append(node)
        return len(self.tree["nodes"]) - 1

    def _bind(self, number: int, body: int, turner: MeshTurner, arrays: ExtendedGlb) -> None:
        """Make a skin of a node's mesh, whose joints are a still body and the head below it."""
        assert self.head is not None
        matrix = self.nodes.matrices[number]
        inverse = np.stack([matrix, matrix])
        inverse[1, :3, 3] -= np.asarray(turner.pivot)
        columns = inverse.transpose(0, 2, 1).reshape(2, 16).astype(np.float32)
        skin = {"joints": [body, self.head], "inverseBindMatrices": arrays.add(columns)}
        node = self.tree["nodes"][number]
        skins = self.tree.setdefault("skins", [])
        node["skin"] = len(skins)
        skins.append({"skeleton": body, **skin})
        mesh = own_mesh(self.tree, number)
        for group in grouped(self._parts_of(number)):
            attributes = skin_attributes(arrays, turner.share[group.rows, 0])
            for part in group.parts:
                mesh["primitives"][part.primitive]["attributes"] |= attributes


def skin_attributes(arrays: ExtendedGlb, shares: np.ndarray) -> dict[str, int]:
    """Joints and weights of vertices that follow the second joint by shares (V,)."""
    weights = np.zeros((len(shares), 4), np.float32)
    weights[:, 0], weights[:, 1] = 1 - shares, shares
    joints = np.where(weights > 0, np.arange(4), 0)
    return {"JOINTS_0": arrays.add_joints(joints), "WEIGHTS_0": arrays.add_vertices(weights)}


def add_root(tree: dict[str, Any], node: int) -> None:
    """Add a node to the scene that is shown; without scenes all nodes are."""
    if tree.get("scenes"):
        tree["scenes"][tree.get("scene", 0)].setdefault("nodes", []).append(node)
