"""The joints of a glTF's skeleton that turn the head, the neck and the eyes.

They are found by the bones of VRM's humanoid, else by their names, else the head by the vertices
that it moves.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any

import numpy as np

# Words in names of joints that do not say which part they move.
OTHER_WORDS = re.compile(
    r"mixamorig\d*|bip\d*|bips|valve|biped|cc|base|def|org|jnt|joint|bone|bn|bind|b|j|c|m|x|s|sk|"
    r"skel|center|centre|mid|adj|rig|armature|character\d*|\d+"
)
SIDES = {"l": "left", "left": "left", "r": "right", "right": "right"}
WORDS = re.compile(r"[A-Z]+(?![a-z])|[A-Z]?[a-z]+\d*|\d+|[^\W\d_a-zA-Z]+")
JAPANESE = {"頭": "head", "首": "neck", "左目": "left eye", "右目": "right eye"}
PARTS_BY_WORDS = {
    ("head",): "head",
    ("neck",): "neck",
    **{(word,): "eye" for word in ("eye", "eyeball", "eyes")},
}
VRM_BONES = {"head": "head", "neck": "neck", "leftEye": "eye", "rightEye": "eye"}
MIN_HEAD_SHARE = 0.9  # of the head's rotation: mean over vertices of a joint that may be the head's
MIN_FACE_FRACTION = 0.6  # of the face's vertices that such a joint moves


@dataclass(frozen=True)
class Rig:
    """Numbers of the nodes that turn the head; empty where there are none.

    Attributes
    ----------
    heads : tuple of (int, int or None)
        The head's joint, and the neck's above it, of each skeleton; the face's first.
    eyes : tuple of int
    """

    heads: tuple[tuple[int, int | None], ...] = ()
    eyes: tuple[int, ...] = ()

    @property
    def head(self) -> int | None:
        """The joint of the face's head."""
        return self.heads[0][0] if self.heads else None


class NodeTree:
    """The nodes of a file, and who is above whom.

    Attributes
    ----------
    nodes : list of dict
    matrices : (N, 4, 4)
        Of nodes into the scene.
    parents : dict of int to int
    """

    def __init__(self, nodes: list[dict[str, Any]], matrices: np.ndarray):
        self.nodes, self.matrices = nodes, matrices
        self.parents = {c: k for k, node in enumerate(nodes) for c in node.get("children", [])}

    def above(self, node: int) -> list[int]:
        """Return the nodes above a node, the nearest first."""
        result = []
        while node in self.parents:
            node = self.parents[node]
            result.append(node)
        return result

    def is_below(self, node: int, other: int) -> bool:
        """Return whether a node is another one, or below it."""
        return node == other or other in self.above(node)

    def parent_matrix(self, node: int) -> np.ndarray:
        """Return the matrix (4, 4) of a node's parent into the scene."""
        return self.matrices[self.parents[node]] if node in self.parents else np.eye(4)


def find_rig(tree: dict[str, Any], nodes: NodeTree, joints: set[int], of_face: set[int]) -> Rig:
    """Return the joints of head, neck and eyes.

    Parameters
    ----------
    tree : dict
        Of the file.
    nodes : NodeTree
    joints : set of int
        Nodes that may be joints: those of the skins, or without skins all that have no mesh.
    of_face : set of int
        Those that move the face.
    """
    found = _humanoid(tree, len(nodes.nodes)) or _by_names(nodes, joints)
    heads: list[tuple[int, int | None]] = []
    for head in sorted(found["head"], key=lambda k: k not in of_face):
        above = nodes.above(head)
        if not any(other in above for other in found["head"]):
            heads.append((head, next((k for k in above if k in found["neck"]), None)))
    return Rig(tuple(heads), tuple(found["eye"]))


def part_of_joint(name: str) -> str | None:
    """Return what a joint of a name moves: head, neck or eye; None if anything else."""
    name = re.split(r"[:|]", name)[-1]
    name = JAPANESE.get(name, name)
    words = [word.lower() for word in WORDS.findall(name)]
    sides = [word for word in words if word in SIDES]
    words = [word for word in words if word not in SIDES and not OTHER_WORDS.fullmatch(word)]
    if len(words) == 2 and words[0] in ("face", "facial"):
        words = words[1:]
    part = PARTS_BY_WORDS.get(tuple(word.rstrip("0123456789") for word in words))
    return part if part is None or (part == "eye") == (len(sides) == 1) else None


def _by_names(nodes: NodeTree, joints: set[int]) -> dict[str, list[int]]:
    """The joints of each part by their names, those nearest to the root first."""
    found: dict[str, list[int]] = {"head": [], "neck": [], "eye": []}
    for number in sorted(joints, key=lambda k: (len(nodes.above(k)), k)):
        part = part_of_joint(str(nodes.nodes[number].get("name", "")))
        if part is not None:
            found[part].append(number)
    return found


def _humanoid(tree: dict[str, Any], count: int) -> dict[str, list[int]] | None:
    """The joints of each part by a VRM's humanoid, of `count` nodes; None if it names no head."""
    found: dict[str, list[int]] = {"head": [], "neck": [], "eye": []}
    for bone, number in humanoid_bones(tree).items():
        if bone in VRM_BONES and isinstance(number, int) and 0 <= number < count:
            found[VRM_BONES[bone]].append(number)
    return found if found["head"] else None


def humanoid_bones(tree: dict[str, Any]) -> dict[str, Any]:
    """Return the node of each bone of a VRM's humanoid, of version 1 or 0; {} without one."""
    extensions = tree.get("extensions", {})
    for name in ("VRMC_vrm", "VRM"):
        bones = extensions.get(name, {}).get("humanoid", {}).get("humanBones")
        if isinstance(bones, dict):
            return {str(bone): about.get("node") for bone, about in bones.items()}
        if isinstance(bones, list):
            return {str(about.get("bone")): about.get("node") for about in bones}
    return {}


def head_by_weights(
    joints: np.ndarray, shares: np.ndarray, focus: np.ndarray, follows: np.ndarray
) -> int | None:
    """Return the joint that moves the face, and hardly anything that does not follow the head.

    Parameters
    ----------
    joints, shares : (N, J)
        Nodes that move each vertex, and how far.
    focus : (N,) bool
        Vertices of the face.
    follows : (N,)
        How far each vertex should follow the head's rotation, from 0 to 1.
    """
    count = int(joints.max(initial=0)) + 1
    every, of_head, of_face = (
        np.bincount(joints.ravel(), (shares * rows[:, None]).ravel(), count)
        for rows in (np.ones(len(joints)), follows, focus.astype(float))
    )
    of_face[of_head < MIN_HEAD_SHARE * every] = 0
    best = int(of_face.argmax())
    return best if of_face[best] > MIN_FACE_FRACTION * max(int(focus.sum()), 1) else None


# --------------------------------------------------------------------------------------- rotations


def as_own_rotation(node: dict[str, Any]) -> bool:
    """Give a node a rotation of its own instead of a matrix; return whether that is possible."""
    if "matrix" not in node:
        return True
    matrix = np.array(node["matrix"], np.float64).reshape(4, 4).T
    scale = np.linalg.norm(matrix[:3, :3], axis=0)
    if scale.min() <= 0:
        return False
    scale[0] *= np.sign(np.linalg.det(matrix[:3, :3]))
    rotation = matrix[:3, :3] / scale
    if not np.allclose(rotation @ rotation.T, np.eye(3), atol=1e-3):  # it shears
        return False
    del node["matrix"]
    node["translation"], node["scale"] = matrix[:3, 3].tolist(), scale.tolist()
    node["rotation"] = _quaternions(rotation[None])[0].tolist()
    return True


def turned_rotations(
    turns: np.ndarray, parent: np.ndarray, node: dict[str, Any]
) -> tuple[np.ndarray, np.ndarray]:
    """Return the rotations of a node that its world rotations make of its rotation at rest.

    Parameters
    ----------
    turns : (T, 3, 3)
        In the scene's axes.
    parent : (4, 4)
        Matrix of the node's parent into the scene, at rest.
    node : dict

    Returns
    -------
    quaternions : (T, 4) float32
        x, y, z, w in the parent's space.
    in_parent : (T, 3, 3)
        The same turns in the axes of the parent.
    """
    from scipy.spatial.transform import Rotation

    linear = parent[:3, :3]
    left, _, right = np.linalg.svd(np.linalg.inv(linear) @ turns @ linear)
    in_parent = left @ right
    rest = Rotation.from_quat(node.get("rotation", [0.0, 0.0, 0.0, 1.0]))
    rotations = Rotation.from_matrix(in_parent) * rest
    return rotations.as_quat().astype(np.float32), in_parent


def half_turns(turns: np.ndarray) -> np.ndarray:
    """Return rotations (T, 3, 3) by half the angle."""
    from scipy.spatial.transform import Rotation

    vectors = Rotation.from_matrix(turns).as_rotvec()
    return np.asarray(Rotation.from_rotvec(vectors / 2).as_matrix())


def _quaternions(rotations: np.ndarray) -> np.ndarray:
    from scipy.spatial.transform import Rotation

    return np.asarray(Rotation.from_matrix(rotations).as_quat())
