"""The skeletons of a stage that exists: their joints, what these move, and how a head turns them."""

from __future__ import annotations

from typing import Any

import numpy as np

from .gltf_rig import NodeTree, Rig, find_rig, half_turns, turned_rotations
from .gltf_scene import MAX_SCENE_NODES, within
from .head_nodes import HeadNodes
from .mesh_types import MAX_COORDINATE
from .usd_reader import UsdMesh, column_matrix
from .usd_stage import halves, quaternions, vectors

MIN_JOINT_SHARE = 0.5  # of a point that counts as moved by a joint


class StageSkeleton:
    """A skeleton of a stage.

    Parameters
    ----------
    prim : Usd.Prim
    to_scene : (4, 4)
        From the skeleton's space into the mesh's.

    Attributes
    ----------
    paths : list of str
        Of the joints.
    rest : (J, 4, 4)
        Matrices of the joints at rest into the skeleton.
    bind : (J, 4, 4)
        Those in the pose in which meshes were bound.
    rig : Rig
        Numbers of the joints that turn head and eyes.
    """

    def __init__(self, prim: Any, to_scene: np.ndarray):
        from pxr import UsdSkel

        skeleton = UsdSkel.Skeleton(prim)
        self.prim, self.to_scene = prim, to_scene
        self.paths = [str(path) for path in skeleton.GetJointsAttr().Get() or []]
        if len(self.paths) > MAX_SCENE_NODES:
            raise ValueError("more joints than any skeleton has")
        self.bind = self._matrices(skeleton.GetBindTransformsAttr().Get())
        numbers = {path: k for k, path in enumerate(self.paths)}
        self.parents = {
            k: numbers[parent]
            for k, path in enumerate(self.paths)
            if (parent := path.rpartition("/")[0]) in numbers
        }
        local = self._matrices(skeleton.GetRestTransformsAttr().Get())
        has_rest = len(local) == len(self.paths)
        self.rest = self._joined(local) if has_rest else self.bind.copy()
        if len(self.bind) != len(self.paths):
            self.bind = self.rest.copy()
        nodes = [{"name": path.rpartition("/")[2]} for path in self.paths]
        tree = NodeTree([dict(node) for node in nodes], self.to_scene @ self.rest)
        tree.parents = self.parents
        self.nodes = tree
        self.rig: Rig = find_rig({}, tree, set(range(len(nodes))), set())

    def _matrices(self, values: Any) -> np.ndarray:
        matrices = np.array([column_matrix(value) for value in values or []])
        matrices = matrices.reshape(-1, 4, 4)
        if not within(matrices, MAX_COORDINATE):
            raise ValueError("joints out of range")
        return matrices

    def _joined(self, local: np.ndarray) -> np.ndarray:
        """Matrices of joints (J, 4, 4) into the skeleton from those into the joints above."""
        result = local.copy()
        for k in sorted(range(len(local)), key=lambda k: self.paths[k].count("/")):
            if k in self.parents:
                result[k] = result[self.parents[k]] @ local[k]
        return result

    @property
    def head(self) -> int | None:
        """The joint of the head."""
        return self.rig.head

    def place_of(self, joint: int) -> np.ndarray:
        """Return the matrix (4, 4) by which what hangs on a joint is bound where it is at rest."""
        return np.asarray(self.bind[joint] @ np.linalg.pinv(self.rest[joint]))

    def moved_by(self, query: Any, mesh: UsdMesh, joints: tuple[int, ...]) -> np.ndarray:
        """Return which points (V,) bool of a mesh joints move, or those below them."""
        still = np.zeros(len(mesh.points), bool)
        if not joints or not query or not query.HasJointInfluences():
            return still
        found = query.ComputeVaryingJointInfluences(len(mesh.points))
        if not found:
            return still
        numbers, shares = (np.array(values) for values in found)
        order = query.GetJointOrder()
        names = self.paths if order is None else [str(path) for path in order]
        below = [
            k
            for k, name in enumerate(names)
            if any(name == self.paths[j] or name.startswith(f"{self.paths[j]}/") for j in joints)
        ]
        width = query.GetNumInfluencesPerComponent()
        moved = np.where(np.isin(numbers, below), shares, 0).reshape(-1, width).sum(1)
        return np.asarray(moved > MIN_JOINT_SHARE)

    def tracks(self, head_nodes: HeadNodes, with_eyes: bool) -> dict[int, np.ndarray]:
        """Return the rotations (T, 4) x, y, z, w of joints that the head and the eyes turn."""
        head, eyes = head_nodes.rotations()
        result: dict[int, np.ndarray] = {}
        if len(head):
            for joint, neck in self.rig.heads:
                turns = head
                if neck is not None and neck not in result:
                    turns = half_turns(head)
                    result[neck] = self._turned(neck, turns)
                result[joint] = self._turned(joint, turns)
        if len(eyes) and with_eyes:
            result |= {eye: self._turned(eye, eyes) for eye in self.rig.eyes}
        return result

    def _turned(self, joint: int, turns: np.ndarray) -> np.ndarray:
        parent = self.nodes.parent_matrix(joint) if joint in self.parents else self.to_scene
        _, rotation, _ = self.at_rest(joint)
        return turned_rotations(turns, parent, {"rotation": rotation.tolist()})[0]

    def at_rest(self, joint: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Return translation (3,), rotation (4,) x, y, z, w and scale (3,) of a joint at rest."""
        from scipy.spatial.transform import Rotation

        parent = self.rest[self.parents[joint]] if joint in self.parents else np.eye(4)
        local = np.linalg.pinv(parent) @ self.rest[joint]
        scale = np.linalg.norm(local[:3, :3], axis=0)
        scale[0] *= np.sign(np.linalg.det(local[:3, :3])) or 1.0
        turn = local[:3, :3] / np.where(np.abs(scale) > 0, scale, 1.0)
        return local[:3, 3], Rotation.from_matrix(turn).as_quat(canonical=True), scale

    def animate(self, animation: Any, tracks: dict[int, np.ndarray], times: np.ndarray) -> None:
        """Give an animation the tracks of joints at time codes (T,); other joints are at rest."""
        if not tracks:
            return
        joints = sorted(tracks)
        animation.CreateJointsAttr([self.paths[joint] for joint in joints])
        translations, _, scales = zip(*(self.at_rest(joint) for joint in joints))
        animation.CreateTranslationsAttr(vectors(np.stack(translations)))
        animation.CreateScalesAttr(halves(np.stack(scales)))
        rotations = animation.CreateRotationsAttr()
        for time, values in zip(times.tolist(), np.stack([tracks[j] for j in joints], axis=1)):
            rotations.Set(quaternions(values), time)
