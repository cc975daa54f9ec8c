"""Writing GLB files with morph targets (glTF 2.0), which Blender, Unity and Unreal open."""

from __future__ import annotations

import json
import struct
from pathlib import Path
from typing import Any

import numpy as np

from .. import __version__
from ..geometry.meshes import vertex_normals
from .animation import FileWriter, Frames, Header, check_blend_shapes
from .appearance import AddedMesh
from .gltf_file import ACCESSOR_WIDTHS, BINARY_CHUNK, GLTF_MAGIC, JSON_CHUNK
from .gltf_reader import ALL_TRIANGLES, MESH_SPACE
from .gltf_scene import ADDED_PART
from .groups import visible_triangles
from .head_nodes import BODY_NODE, HEAD_NODE, HeadNodes
from .mesh_types import MeshAttributes, image_type
from .target_sets import Residual, points_without_weights, target_sets

COMPONENT_CODES = {"f4": 5126, "u4": 5125, "u1": 5121}  # of glTF, by numpy's types
FLOAT_COMPONENT, UINT_COMPONENT = COMPONENT_CODES["f4"], COMPONENT_CODES["u4"]
ACCESSOR_TYPES = {width: name for name, width in ACCESSOR_WIDTHS.items()}
INDEX_BUFFER = 34963  # glTF's code of a buffer of triangles
MAX_SPARSE_FRACTION = 0.7  # of moving vertices up to which a morph target is stored sparsely


class GlbWriter(FileWriter):
    """Writes a GLB with ARKit's 52 shapes as morph targets and their weights as an animation.

    If the header has the mesh's own shapes, these are written instead, or in front of ARKit's with
    an animation for each of the two. `metrics` then contains the residual of each: the mean
    distance of the face's vertices from where they should be, in units of the mesh. If `bake`, each
    frame is a morph target of its own, and the animation is exact.

    Vertices are converted to metres, with y up and the face along +z. Rotations of head and eyes
    are stored as nodes; that of the head moves the mesh, see `head_nodes`.

    What the mesh lacks (`Header.added_meshes`) becomes meshes of their own, with the same morph
    targets and weights. Their nodes are marked, so that talkemo does not take them for the user's.
    """

    def __init__(self, path: Path, header: Header, bake: bool = False):
        check_blend_shapes(path, header, bake)
        super().__init__(path)
        self.header, self.bake = header, bake
        self.head_nodes = HeadNodes(
            header.turner_of_nodes(bake), header.upright, header.unit.metres
        )
        self.to_file = header.unit.metres * header.upright  # (3, 3), vertices @ to_file
        self.sets = [] if bake else target_sets(header)
        self.residuals = [Residual(header, shapes) for shapes in self.sets]
        self.added = header.added_meshes()
        self.baked: list[np.ndarray] = []
        self.baked_added: list[np.ndarray] = []
        self.weights: list[list[np.ndarray]] = [[] for _ in self.sets]

    def write(self, frames: Frames) -> None:
        self.head_nodes.write(frames)
        if self.bake:
            self.baked.append(frames.vertices - self.header.rest)
            if self.added is not None:
                self.baked_added.append(self.added.frames(frames) - self.added.vertices.points)
            return
        for shapes, residual, chunks in zip(self.sets, self.residuals, self.weights):
            weights = shapes.weights(frames)
            residual.add(frames, weights)
            chunks.append(weights)

    def finish(self) -> None:
        if self.bake:
            targets = np.concatenate(self.baked)
            animations = [np.eye(len(targets), dtype=np.float32)]
            names, kinds = [f"frame{k:05d}" for k in range(len(targets))], ["baked"]
        else:
            targets = np.concatenate([shapes.targets for shapes in self.sets])
            names = [name for shapes in self.sets for name in shapes.names]
            animations = self._animations()
            kinds = [shapes.kind for shapes in self.sets]
            for residual in self.residuals:
                self.metrics |= residual.metrics
        glb = _Glb()
        mesh = self._mesh(glb, targets, names)
        scene = _Scene(glb, np.arange(len(animations[0])) / self.header.fps)
        scene.add_face(animations[0])
        scene.add_head(self.head_nodes)
        materials = _Materials(glb)
        if self.header.attributes is not None and self.header.attributes.texture is not None:
            materials.add_skin(mesh["primitives"][0], self.header.attributes.texture)
        meshes = [mesh, *self._added_meshes(glb, materials, names)]
        for number, added in enumerate(meshes[1:], 1):
            scene.add_part(added["name"], number)
        meta = self.header.meta
        extras = {**meta, MESH_SPACE: self._mesh_space()}
        asset = {"version": "2.0", "generator": f"talkemo {__version__}", "extras": extras}
        tree = {
            **materials.tree,
            "asset": asset,
            "scene": 0,
            "scenes": [{"nodes": scene.roots}],
            "nodes": scene.nodes,
            "meshes": meshes,
            **({"skins": scene.skins} if scene.skins else {}),
            "animations": scene.animations(
                str(meta.get("emotion", "talkemo")), dict(zip(kinds[1:], animations[1:]))
            ),
        }
        glb.write(self.partial.path, tree)

    def _animations(self) -> list[np.ndarray]:
        """The weights (T, K) of all targets for each set of them; those of other sets are at rest."""
        at_rest = np.concatenate([shapes.at_rest for shapes in self.sets]).astype(np.float32)
        result, first = [], 0
        for shapes, chunks in zip(self.sets, self.weights):
            weights = np.concatenate(chunks).astype(np.float32)
            every = np.tile(at_rest, (len(weights), 1))
            every[:, first : first + len(shapes.names)] = weights
            result.append(every)
            first += len(shapes.names)
        return result

    def _at_rest(self, names: list[str]) -> list[float]:
        """The weights of all targets in the mesh at rest."""
        if self.bake:
            return [0.0] * len(names)
        return [float(weight) for shapes in self.sets for weight in shapes.at_rest]

    def _mesh_space(self) -> dict[str, Any]:
        """How the mesh's coordinates were converted to the file's, for `GlbAnimation`."""
        header = self.header
        facing = None if header.facing is None else np.asarray(header.facing).tolist()
        return {
            "unit": header.unit.name,
            "metres_per_unit": header.unit.metres,
            "to_file": self.to_file.tolist(),
            "facing": facing,
        }

    def _mesh(self, glb: _Glb, targets: np.ndarray, names: list[str]) -> dict[str, Any]:
        """The mesh with morph targets (K, N, 3), as one primitive."""
        header = self.header
        points = points_without_weights(header, self.sets)
        rest = (points @ self.to_file).astype(np.float32)
        # A vertex on a seam of the texture is written once for each of its texture coordinates.
        origin, faces, uv = _split_at_seams(header.faces, header.attributes, len(rest))
        visible = visible_triangles(header.faces, header.attributes, len(rest))
        attributes = {
            "POSITION": glb.add(rest[origin], bounds=True),
            "NORMAL": glb.add(vertex_normals(rest, header.faces).astype(np.float32)[origin]),
        }
        if uv is not None:
            attributes |= {"TEXCOORD_0": glb.add(uv), "_VERTEX": glb.add(origin.astype(np.float32))}
        if self.head_nodes.moves_head and self.head_nodes.shares is not None:
            attributes |= _skin_attributes(glb, self.head_nodes.shares[origin])
        primitive: dict[str, Any] = {
            "attributes": attributes,
            "indices": glb.add(faces[visible].astype(np.uint32).ravel(), target=INDEX_BUFFER),
            "targets": [
                {"POSITION": glb.add_target(target[origin] @ self.to_file)} for target in targets
            ],
        }
        if not visible.all():
            # Other programs draw the triangles above only.
            every = glb.add(faces.astype(np.uint32).ravel(), target=INDEX_BUFFER)
            primitive["extras"] = {ALL_TRIANGLES: every}
        return {
            "name": "face",
            "primitives": [primitive],
            "weights": self._at_rest(names),
            "extras": {"targetNames": names},
        }

    def _added_meshes(
        self, glb: _Glb, materials: _Materials, names: list[str]
    ) -> list[dict[str, Any]]:
        """The meshes of added parts, with morph targets of the same names as the face's."""
        if self.added is None:
            return []
        if self.bake:
            targets = np.concatenate(self.baked_added)
        else:
            recipes = np.concatenate([shapes.recipes for shapes in self.sets])
            targets = np.tensordot(recipes.astype(np.float32), self.added.targets(), 1)
        points = self.added.vertices.points @ self.to_file
        meshes = []
        for part in self.added.meshes:
            rest = points[part.rows].astype(np.float32)
            attributes = {
                "POSITION": glb.add(rest, bounds=True),
                "NORMAL": glb.add(vertex_normals(rest, part.faces).astype(np.float32)),
            }
            if part.uv is not None:
                uv = part.uv * [1, -1] + [0, 1]
                attributes["TEXCOORD_0"] = glb.add(uv.astype(np.float32))
            primitive = {
                "attributes": attributes,
                "indices": glb.add(part.faces.astype(np.uint32).ravel(), target=INDEX_BUFFER),
                "material": materials.add_part(part),
                "targets": [
                    {"POSITION": glb.add_target(target[part.rows] @ self.to_file)}
                    for target in targets
                ],
            }
            meshes.append(
                {
                    "name": part.name,
                    "primitives": [primitive],
                    "weights": [0.0] * len(names),
                    "extras": {"targetNames": names},
                }
            )
        return meshes


class _Materials:
    """The materials of a file, and the images that they use."""

    def __init__(self, glb: _Glb):
        self.glb = glb
        self.tree: dict[str, list[dict[str, Any]]] = {}  # fields of the file's JSON

    def add_skin(self, primitive: dict[str, Any], texture: bytes) -> None:
        """Give a primitive with texture coordinates the texture of the mesh's file."""
        if "TEXCOORD_0" in primitive["attributes"]:
            skin = {"baseColorTexture": self._texture(texture), "roughnessFactor": 0.8}
            primitive["material"] = self._add({"pbrMetallicRoughness": skin})

    def add_part(self, part: AddedMesh) -> int:
        """Return the number of a new material for an added part."""
        surface: dict[str, Any] = {"roughnessFactor": part.roughness}
        if part.texture is None:
            surface["baseColorFactor"] = [*part.linear_colour, 1.0]
        else:
            surface["baseColorTexture"] = self._texture(part.texture)
        return self._add({"name": part.name, "doubleSided": True, "pbrMetallicRoughness": surface})

    def _add(self, material: dict[str, Any]) -> int:
        material["pbrMetallicRoughness"]["metallicFactor"] = 0.0
        materials = self.tree.setdefault("materials", [])
        materials.append(material)
        return len(materials) - 1

    def _texture(self, content: bytes) -> dict[str, int]:
        """Add an image and a texture that shows it; return a reference to the texture."""
        images, textures = (self.tree.setdefault(name, []) for name in ("images", "textures"))
        image = {"bufferView": self.glb.add_bytes(content), "mimeType": image_type(content)}
        images.append(image)
        textures.append({"source": len(images) - 1})
        return {"index": len(textures) - 1}


class _Scene:
    """The nodes of mesh, head and eyes, and the tracks that move them.

    The mesh is node 0 and sampler 0; the head is node 1.
    """

    def __init__(self, glb: _Glb, times: np.ndarray):
        self.glb = glb
        self.time_accessor = glb.add(times.astype(np.float32), bounds=True)
        self.nodes: list[dict[str, Any]] = []
        self.roots: list[int] = []  # nodes without a parent
        self.head: int | None = None  # the node that moves the mesh
        self.skins: list[dict[str, Any]] = []
        self.animation: dict[str, list[dict[str, Any]]] = {"channels": [], "samplers": []}

    def _add_node(self, node: dict[str, Any], parent: int | None = None) -> int:
        """Add a node below another, or to the scene; return its number."""
        self.nodes.append(node)
        number = len(self.nodes) - 1
        siblings = self.roots if parent is None else self.nodes[parent].setdefault("children", [])
        siblings.append(number)
        return number

    def _animate(self, node: int, path: str, values: np.ndarray) -> None:
        """Add a track of values, one row per frame."""
        target = {"node": node, "path": path}
        sampler = {
            "input": self.time_accessor,
            "output": self.glb.add(values),
            "interpolation": "LINEAR",
        }
        self.animation["channels"].append(
            {"sampler": len(self.animation["samplers"]), "target": target}
        )
        self.animation["samplers"].append(sampler)

    def add_face(self, weights: np.ndarray) -> None:
        """Add the mesh, whose morph targets have weights (T, K)."""
        self._animate(self._add_node({"name": "face", "mesh": 0}), "weights", weights.ravel())

    def add_head(self, head_nodes: HeadNodes) -> None:
        """Add the nodes of head and eyes, if any of them moves, and let the head move the mesh."""
        quaternions, positions = head_nodes.quaternions(), head_nodes.positions
        if not quaternions:
            return
        head = self._add_node({"name": HEAD_NODE, "translation": positions[HEAD_NODE].tolist()})
        for name, values in quaternions.items():
            node = head
            if name != HEAD_NODE:
                node = self._add_node({"name": name, "translation": positions[name].tolist()}, head)
            self._animate(node, "rotation", values)
        if not head_nodes.moves_head:
            return
        self.head = head
        if head_nodes.shares is None:
            self._hang_face_on(head, positions[HEAD_NODE])
        else:
            self._bind_face_to(head, positions[HEAD_NODE])

    def animations(self, name: str, others: dict[str, np.ndarray]) -> list[dict[str, Any]]:
        """Return the animation, and one for other weights (T, K) of each kind of targets.

        The others are called as the first is, with their kind, and move the same nodes.
        """
        result: list[dict[str, Any]] = [{"name": name, **self.animation}]
        for kind, weights in others.items():
            samplers = [dict(sampler) for sampler in self.animation["samplers"]]
            samplers[0]["output"] = self.glb.add(weights.ravel())
            channels = self.animation["channels"]
            result.append({"name": f"{name}.{kind}", "channels": channels, "samplers": samplers})
        return result

    def add_part(self, name: str, mesh: int) -> None:
        """Add an added mesh, which the head moves, and which has the weights of the face."""
        node: dict[str, Any] = {"name": name, "mesh": mesh, "extras": {ADDED_PART: True}}
        if self.head is not None:
            node["translation"] = (-np.array(self.nodes[self.head]["translation"])).tolist()
        target = {"node": self._add_node(node, self.head), "path": "weights"}
        self.animation["channels"].append({"sampler": 0, "target": target})

    def _hang_face_on(self, head: int, pivot: np.ndarray) -> None:
        """Make the mesh a child of the head, without changing its place at rest."""
        self.roots.remove(0)
        self.nodes[0]["translation"] = (-pivot).tolist()
        self.nodes[head]["children"].append(0)

    def _bind_face_to(self, head: int, pivot: np.ndarray) -> None:
        """Make a skin of the mesh, whose joints are a still body and the head below it."""
        self.roots.remove(head)
        body = self._add_node({"name": BODY_NODE, "children": [head]})
        inverse = np.tile(np.eye(4, dtype=np.float32), (2, 1, 1))  # stored column by column
        inverse[1, 3, :3] = -pivot
        self.nodes[0]["skin"] = 0
        matrices = self.glb.add(inverse.reshape(2, 16))
        self.skins.append(
            {"joints": [body, head], "skeleton": body, "inverseBindMatrices": matrices}
        )


def _skin_attributes(glb: _Glb, shares: np.ndarray) -> dict[str, int]:
    """Joints and weights of vertices that follow the head by shares (V,), see `_Scene`."""
    weights = np.zeros((len(shares), 4), np.float32)
    weights[:, 0], weights[:, 1] = 1 - shares, shares
    joints = np.where(weights > 0, np.arange(4), 0).astype(np.uint8)
    return {"JOINTS_0": glb.add(joints), "WEIGHTS_0": glb.add(weights)}


def _split_at_seams(
    faces: np.ndarray, attributes: MeshAttributes | None, count: int
) -> tuple[np.ndarray, np.ndarray, np.ndarray | None]:
    """Split the `count` vertices of a mesh so that each has one pair of texture coordinates.

    Returns
    -------
    origin : (V,)
        The mesh's vertex that each new vertex comes from.
    faces : (F, 3)
        Triangles of new vertices.
    uv : (V, 2) or None
        Texture coordinates, v pointing down.
    """
    if attributes is None or attributes.uv is None or attributes.uv_faces is None:
        return np.arange(count), faces, None
    pairs = np.stack([faces.ravel(), attributes.uv_faces.ravel()], axis=1).astype(np.int64)
    unused = np.setdiff1d(np.arange(count), faces)
    pairs = np.concatenate([pairs, np.stack([unused, np.zeros_like(unused)], axis=1)])
    unique, number = np.unique(pairs, axis=0, return_inverse=True)
    uv = attributes.uv[unique[:, 1]] * np.array([1, -1], np.float32) + np.array([0, 1], np.float32)
    return unique[:, 0], number.reshape(-1)[: faces.size].reshape(-1, 3), uv


class _Glb:
    """Collects arrays for the block of bytes of a GLB, and their views and accessors."""

    def __init__(self) -> None:
        self.views: list[dict[str, Any]] = []
        self.accessors: list[dict[str, Any]] = []
        self.blocks: list[bytes] = []
        self.size = 0

    def _view(self, array: np.ndarray, target: int | None = None) -> int:
        block = np.ascontiguousarray(array).tobytes()
        view = {"buffer": 0, "byteOffset": self.size, "byteLength": len(block)}
        self.views.append(view if target is None else {**view, "target": target})
        block += bytes(-len(block) % 4)
        self.blocks.append(block)
        self.size += len(block)
        return len(self.views) - 1

    def add(self, array: np.ndarray, bounds: bool = False, target: int | None = None) -> int:
        """Return a new accessor of an array (N,) or (N, 2 to 4 or 16) of one of COMPONENT_CODES."""
        width = array.shape[1] if array.ndim == 2 else 1
        accessor = {
            "bufferView": self._view(array, target),
            "componentType": COMPONENT_CODES[array.dtype.str[1:]],
            "count": len(array),
            "type": ACCESSOR_TYPES[width],
        }
        self.accessors.append({**accessor, **(_bounds(array) if bounds else {})})
        return len(self.accessors) - 1

    def add_bytes(self, content: bytes) -> int:
        """Return a new view of a file's content."""
        return self._view(np.frombuffer(content, np.uint8))

    def add_target(self, target: np.ndarray) -> int:
        """Return a new accessor of displacements (V, 3), sparse if few vertices move."""
        target = target.astype(np.float32)
        accessor = {"componentType": FLOAT_COMPONENT, "count": len(target), "type": "VEC3"}
        accessor |= _bounds(target)
        moving = np.flatnonzero(target.any(1))
        if len(moving) > MAX_SPARSE_FRACTION * len(target):
            accessor = {"bufferView": self._view(target), **accessor}
        elif len(moving):  # otherwise the accessor has no data, which stands for zeros
            indices = self._view(moving.astype(np.uint32))
            accessor["sparse"] = {
                "count": len(moving),
                "indices": {"bufferView": indices, "componentType": UINT_COMPONENT},
                "values": {"bufferView": self._view(target[moving])},
            }
        self.accessors.append(accessor)
        return len(self.accessors) - 1

    def write(self, path: Path, tree: dict[str, Any]) -> None:
        """Write the file with a JSON tree, to which accessors, views and the buffer are added."""
        tree |= {
            "accessors": self.accessors,
            "bufferViews": self.views,
            "buffers": [{"byteLength": self.size}],
        }
        text = json.dumps(tree).encode()
        text += b" " * (-len(text) % 4)
        with path.open("wb") as file:
            file.write(struct.pack("<3I", GLTF_MAGIC, 2, 28 + len(text) + self.size))
            file.write(struct.pack("<2I", len(text), JSON_CHUNK) + text)
            file.write(struct.pack("<2I", self.size, BINARY_CHUNK))
            for block in self.blocks:
                file.write(block)


def _bounds(array: np.ndarray) -> dict[str, list[float]]:
    rows = array if array.ndim == 2 else array[:, None]
    return {"min": rows.min(0).tolist(), "max": rows.max(0).tolist()}
