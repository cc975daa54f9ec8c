"""VRM Animation: expressions, head and gaze for any VRM avatar (.vrma, VRMC_vrm_animation 1.0).

The file is a GLB without a mesh. Its nodes are a skeleton in T-pose with the bones that every VRM
has, a node for each expression, whose x is the expression's weight, and a node that turns as the
eyes do. The extension names them. Source: the specification of VRMC_vrm_animation by the VRM
Consortium. It has no tracks for the bones of the eyes and for the expressions lookUp, lookDown,
lookLeft and lookRight, because its lookAt moves the eyes of every avatar.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from .. import __version__
from ..errors import InputError
from ..face.viseme_curves import VRM_GAZE_SHAPES, CurveFit
from ..geometry.rigid import eye_rotation
from .animation import FileWriter, Frames, Header
from .gltf_builder import GlbBuilder
from .gltf_tree import SceneTree

VRM_ANIMATION = "VRMC_vrm_animation"
VRM_ANIMATION_VERSION = "1.0"
NECK_SHARE = 1 / 3  # of the head's rotation; the head bone has the rest
LOOK_AT_OFFSET_M = (0.0, 0.06, 0.08)  # of the point between the eyes from the head bone
# Parent and position in it, in m, of each bone in T-pose, facing +z: those that VRM 1.0 demands,
# and the neck. An avatar has bones of its own length.
_SPINE: dict[str, tuple[str | None, tuple[float, float, float]]] = {
    "hips": (None, (0.0, 0.95, 0.0)),
    "spine": ("hips", (0.0, 0.1, 0.0)),
    "neck": ("spine", (0.0, 0.4, 0.0)),
    "head": ("neck", (0.0, 0.1, 0.0)),
}
_LIMBS: dict[str, tuple[str, tuple[float, float, float]]] = {  # of the left side, which is at +x
    "UpperArm": ("spine", (0.16, 0.34, 0.0)),
    "LowerArm": ("UpperArm", (0.27, 0.0, 0.0)),
    "Hand": ("LowerArm", (0.25, 0.0, 0.0)),
    "UpperLeg": ("hips", (0.09, -0.05, 0.0)),
    "LowerLeg": ("UpperLeg", (0.0, -0.42, 0.0)),
    "Foot": ("LowerLeg", (0.0, -0.4, 0.0)),
}


class VrmaWriter(FileWriter):
    """Writes VRM's presets, the rotations of neck and head, and the direction of the gaze.

    The curves of all frames stay in memory until the end: about 200 bytes per frame.
    """

    def __init__(self, path: Path, header: Header):
        if header.canonical is None:
            raise InputError(
                f"{path}: no expressions are known for this mesh", "write another kind of file"
            )
        self.fit, self.header = CurveFit(header.canonical, "vrm"), header
        self._curves: list[np.ndarray] = []
        self._head: list[np.ndarray] = []
        self._gaze: list[np.ndarray] = []
        super().__init__(path)

    def write(self, frames: Frames) -> None:
        self._curves.append(self.fit(frames.arkit, frames.speech, frames.emotion))
        if frames.head is not None:
            self._head.append(frames.head)
        if frames.gaze is not None:
            self._gaze.append(eye_rotation(frames.gaze, np.eye(3)))

    def finish(self) -> None:
        curves = np.concatenate(self._curves).astype(np.float32)
        glb = GlbBuilder()
        scene = SceneTree(glb, np.arange(len(curves)) / self.header.fps)
        bones = _add_skeleton(scene)
        if self._head:
            for bone, rotation in _neck_and_head(np.concatenate(self._head)).items():
                scene.animate(bones[bone], "rotation", scene.add_sampler(rotation))
        extension: dict[str, Any] = {
            "specVersion": VRM_ANIMATION_VERSION,
            "humanoid": {"humanBones": {name: {"node": node} for name, node in bones.items()}},
            "expressions": {"preset": self._add_expressions(scene, curves)},
        }
        if self._gaze:
            node = scene.add_node({"name": "lookAt"})
            turned = _quaternions(np.concatenate(self._gaze))
            scene.animate(node, "rotation", scene.add_sampler(turned))
            extension["lookAt"] = {"node": node, "offsetFromHeadBone": list(LOOK_AT_OFFSET_M)}
        asset = {
            "version": "2.0",
            "generator": f"talkemo {__version__}",
            "extras": dict(self.header.meta),
        }
        tree = {
            "asset": asset,
            "scene": 0,
            "scenes": [{"nodes": scene.roots}],
            "nodes": scene.nodes,
            "animations": [
                {"name": str(self.header.meta.get("emotion", "talkemo")), **scene.animation}
            ],
            "extensionsUsed": [VRM_ANIMATION],
            "extensions": {VRM_ANIMATION: extension},
        }
        glb.write(self.partial.path, tree)

    def _add_expressions(self, scene: SceneTree, curves: np.ndarray) -> dict[str, dict[str, int]]:
        """Add a node for each expression with its curve; return the nodes by their names."""
        nodes = {}
        for name, weights in zip(self.fit.names, curves.T):
            if name == "neutral" or name in VRM_GAZE_SHAPES:
                continue
            places = np.zeros((len(weights), 3), np.float32)
            places[:, 0] = weights
            nodes[name] = {"node": scene.add_node({"name": name})}
            scene.animate(nodes[name]["node"], "translation", scene.add_sampler(places))
        return nodes


def _add_skeleton(scene: SceneTree) -> dict[str, int]:
    """Add the bones; return their nodes by the names of VRM's human bones."""
    bones: dict[str, int] = {}

    def add(name: str, parent: str | None, place: tuple[float, ...]) -> None:
        node = {"name": name, "translation": list(place)}
        bones[name] = scene.add_node(node, None if parent is None else bones[parent])

    for name, (parent, place) in _SPINE.items():
        add(name, parent, place)
    for side, mirror in (("left", 1), ("right", -1)):
        for name, (above, (x, y, z)) in _LIMBS.items():
            parent = above if above in _SPINE else side + above
            add(side + name, parent, (mirror * x, y, z))
    return bones


def _neck_and_head(rotations: np.ndarray) -> dict[str, np.ndarray]:
    """Return the quaternions (T, 4) of neck and head that together are rotations (T, 3, 3)."""
    from scipy.spatial.transform import Rotation

    vectors = Rotation.from_matrix(rotations).as_rotvec()
    shares = {"neck": NECK_SHARE, "head": 1 - NECK_SHARE}
    return {
        bone: _quaternions(Rotation.from_rotvec(share * vectors).as_matrix())
        for bone, share in shares.items()
    }


def _quaternions(rotations: np.ndarray) -> np.ndarray:
    """Return rotations (T, 3, 3) as x, y, z, w (T, 4) float32."""
    from scipy.spatial.transform import Rotation

    return Rotation.from_matrix(rotations).as_quat(canonical=True).astype(np.float32)
