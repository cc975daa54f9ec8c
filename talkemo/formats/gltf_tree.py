"""The materials, nodes and tracks of a GLB that is written."""

from __future__ import annotations

from typing import Any

import numpy as np

from .animation import FROWN_META, Header
from .appearance import AddedMesh
from .gltf_builder import GlbBuilder
from .gltf_scene import ADDED_PART
from .head_nodes import BODY_NODE, HEAD_NODE, HeadNodes
from .mesh_types import image_type

SKIN_ROUGHNESS, EYE_ROUGHNESS = 0.6, 0.15
SKIN_COLOUR = (0.74, 0.45, 0.31)  # linear RGB, where nothing tells the colours of a mesh


def mesh_space(header: Header, to_file: np.ndarray) -> dict[str, Any]:
    """Return how a mesh's coordinates were converted to a file's (3, 3), for `GlbAnimation`."""
    facing = None if header.facing is None else np.asarray(header.facing).tolist()
    space = {
        "unit": header.unit.name,
        "metres_per_unit": header.unit.metres,
        "to_file": to_file.tolist(),
        "facing": facing,
    }
    if FROWN_META in header.meta and header.own_shapes is None:  # those frown by themselves
        space[FROWN_META] = header.meta[FROWN_META]
    return space


class Materials:
    """The materials of a file, and the images that they use."""

    def __init__(self, glb: GlbBuilder):
        self.glb = glb
        self.tree: dict[str, list[dict[str, Any]]] = {}  # fields of the file's JSON

    def add_plain_skin(self, is_coloured: bool) -> int:
        """Return the number of a new material of skin, whose vertices have colours or not."""
        factor = (1.0, 1.0, 1.0) if is_coloured else SKIN_COLOUR
        surface = {"baseColorFactor": [*factor, 1.0], "roughnessFactor": SKIN_ROUGHNESS}
        return self._add("skin", surface)

    def add_textured(
        self, name: str, texture: bytes, roughness: float, uv: int = 0, is_cut: bool = False
    ) -> int:
        """Return the number of a new material that shows a PNG or JPEG.

        `uv` is the number of the set of texture coordinates. If `is_cut`, what the image shows less
        than half is cut out: viewers do not sort a mesh that is blended.
        """
        reference = {**self._texture(texture), **({"texCoord": uv} if uv else {})}
        surface = {"baseColorTexture": reference, "roughnessFactor": roughness}
        number = self._add(name, surface)
        if is_cut:
            self.tree["materials"][number]["alphaMode"] = "MASK"
        return number

    def add_part(self, part: AddedMesh) -> int:
        """Return the number of a new material for an added part."""
        if part.texture is not None:
            return self.add_textured(part.name, part.texture, part.roughness)
        factor = [*part.linear_colour, 1.0]
        return self._add(part.name, {"baseColorFactor": factor, "roughnessFactor": part.roughness})

    def _add(self, name: str, surface: dict[str, Any]) -> int:
        """Add a material; faces are often open meshes, so that both sides are drawn."""
        materials = self.tree.setdefault("materials", [])
        surface["metallicFactor"] = 0.0
        materials.append({"name": name, "doubleSided": True, "pbrMetallicRoughness": surface})
        return len(materials) - 1

    def _texture(self, content: bytes) -> dict[str, int]:
        """Add an image and a texture that shows it; return a reference to the texture."""
        images, textures = (self.tree.setdefault(name, []) for name in ("images", "textures"))
        image = {"bufferView": self.glb.add_bytes(content), "mimeType": image_type(content)}
        images.append(image)
        textures.append({"source": len(images) - 1})
        return {"index": len(textures) - 1}


class AnimationTracks:
    """The channels and samplers of one animation whose tracks have a key per frame.

    Attributes
    ----------
    animation : dict
    """

    def __init__(self, glb: GlbBuilder, times: np.ndarray):
        self.glb = glb
        self.time_accessor = glb.add(times.astype(np.float32), bounds=True)
        self.animation: dict[str, list[dict[str, Any]]] = {"channels": [], "samplers": []}
        self._shared: dict[bytes, int] = {}  # samplers by their values

    def add_sampler(self, values: np.ndarray) -> int:
        """Return the number of a new sampler of values, one row per frame."""
        output = self.glb.add(values)
        sampler = {"input": self.time_accessor, "output": output, "interpolation": "LINEAR"}
        self.animation["samplers"].append(sampler)
        return len(self.animation["samplers"]) - 1

    def animate(self, node: int, path: str, sampler: int) -> None:
        """Let a sampler change a property of a node."""
        target = {"node": node, "path": path}
        self.animation["channels"].append({"sampler": sampler, "target": target})

    def add(self, node: int, path: str, values: np.ndarray) -> None:
        """Add a track of values, one row per frame; equal tracks share a sampler."""
        key = values.tobytes()
        if key not in self._shared:
            self._shared[key] = self.add_sampler(values)
        self.animate(node, path, self._shared[key])


class SceneTree(AnimationTracks):
    """The nodes of mesh, head and eyes, and the tracks that move them.

    The mesh is node 0 and sampler 0; the head is node 1.
    """

    def __init__(self, glb: GlbBuilder, times: np.ndarray):
        super().__init__(glb, times)
        self.nodes: list[dict[str, Any]] = []
        self.roots: list[int] = []  # nodes without a parent
        self.head: int | None = None  # the node that moves the mesh
        self.eyes: dict[str, int] = {}  # the nodes that turn eyeballs
        self.skins: list[dict[str, Any]] = []
        # By the kind of targets that an animation moves, for all but the first: the accessors of
        # its weights, by the sampler.
        self.others: dict[str, dict[int, int]] = {}

    def add_node(self, node: dict[str, Any], parent: int | None = None) -> int:
        """Add a node below another, or to the scene; return its number."""
        self.nodes.append(node)
        number = len(self.nodes) - 1
        siblings = self.roots if parent is None else self.nodes[parent].setdefault("children", [])
        siblings.append(number)
        return number

    def add_weights(self, animations: dict[str, np.ndarray]) -> int:
        """Return the number of a new sampler of weights (T, K), by the kind of targets that move."""
        first, *others = animations
        sampler = self.add_sampler(animations[first].ravel())
        for kind in others:
            accessor = self.glb.add(animations[kind].ravel())
            self.others.setdefault(kind, {})[sampler] = accessor
        return sampler

    def animations(self, name: str) -> list[dict[str, Any]]:
        """Return the animation, and one for each other kind of targets, called NAME.KIND."""
        result: list[dict[str, Any]] = [{"name": name, **self.animation}]
        for kind, accessors in self.others.items():
            samplers = [
                {**sampler, "output": accessors.get(number, sampler["output"])}
                for number, sampler in enumerate(self.animation["samplers"])
            ]
            channels = self.animation["channels"]
            result.append({"name": f"{name}.{kind}", "channels": channels, "samplers": samplers})
        return result

    def add_face(self, animations: dict[str, np.ndarray]) -> None:
        """Add the mesh, whose morph targets have weights (T, K); see `add_weights`."""
        node = self.add_node({"name": "face", "mesh": 0})
        self.animate(node, "weights", self.add_weights(animations))

    def add_head(self, head_nodes: HeadNodes) -> None:
        """Add the nodes of head and eyes, if any of them moves, and let the head move the mesh."""
        quaternions, positions = head_nodes.quaternions(), head_nodes.positions
        if not quaternions:
            return
        head = self.add_node({"name": HEAD_NODE, "translation": positions[HEAD_NODE].tolist()})
        for name, values in quaternions.items():
            node = head
            if name != HEAD_NODE:
                node = self.add_node({"name": name, "translation": positions[name].tolist()}, head)
                self.eyes[name] = node
            self.animate(node, "rotation", self.add_sampler(values))
        if not head_nodes.moves_head:
            return
        self.head = head
        if head_nodes.shares is None:
            self._hang_face_on(head, positions[HEAD_NODE])
        else:
            self._bind_face_to(head, positions[HEAD_NODE])

    def add_part(self, name: str, mesh: int, eye: str | None = None, sampler: int = 0) -> None:
        """Add a part of the face that the head moves, or the node `eye` of EYE_NODES.

        `sampler` is that of its weights, by default the face's.
        """
        node: dict[str, Any] = {"name": name, "mesh": mesh, "extras": {ADDED_PART: True}}
        parent = self.head if eye is None else self.eyes[eye]
        if parent is not None:
            node["translation"] = (-self._position(parent)).tolist()
        self.animate(self.add_node(node, parent), "weights", sampler)

    def _position(self, node: int) -> np.ndarray:
        """Return where the head's or an eye's node (3,) is at rest."""
        chain = {node}
        if node in self.eyes.values():
            chain |= {k for k, other in enumerate(self.nodes) if node in other.get("children", [])}
        return np.sum([self.nodes[k]["translation"] for k in chain], axis=0)

    def _hang_face_on(self, head: int, pivot: np.ndarray) -> None:
        """Make the mesh a child of the head, without changing its place at rest."""
        self.roots.remove(0)
        self.nodes[0]["translation"] = (-pivot).tolist()
        self.nodes[head].setdefault("children", []).append(0)

    def _bind_face_to(self, head: int, pivot: np.ndarray) -> None:
        """Make a skin of the mesh, whose joints are a still body and the head below it."""
        self.roots.remove(head)
        body = self.add_node({"name": BODY_NODE, "children": [head]})
        inverse = np.tile(np.eye(4, dtype=np.float32), (2, 1, 1))  # stored column by column
        inverse[1, 3, :3] = -pivot
        self.nodes[0]["skin"] = 0
        matrices = self.glb.add(inverse.reshape(2, 16))
        self.skins.append(
            {"joints": [body, head], "skeleton": body, "inverseBindMatrices": matrices}
        )
