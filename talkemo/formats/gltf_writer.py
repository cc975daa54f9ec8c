"""Writing GLB files with morph targets (glTF 2.0), which Blender, Unity and Unreal open."""

from __future__ import annotations

import json
import struct
from pathlib import Path
from typing import Any

import numpy as np

from .. import __version__
from ..face.canonical import ARKIT_NAMES
from ..geometry.meshes import vertex_normals
from .animation import FileWriter, Frames, Header, check_blend_shapes
from .gltf_reader import BINARY_CHUNK, GLTF_MAGIC, JSON_CHUNK
from .head_nodes import HEAD_NODE, HeadNodes
from .mesh_types import MeshAttributes, image_type

FLOAT_COMPONENT, UINT_COMPONENT = 5126, 5125  # glTF's codes of float32 and uint32
INDEX_BUFFER = 34963  # glTF's code of a buffer of triangles
MAX_SPARSE_FRACTION = 0.7  # of moving vertices up to which a morph target is stored sparsely
RESIDUAL_STEP_FRAMES = 8  # between frames at which the residual of ARKit's shapes is measured


class GlbWriter(FileWriter):
    """Writes a GLB with ARKit's 52 shapes as morph targets and their weights as an animation.

    `metrics` then contains their residual: the mean distance of the face's vertices from where they
    should be, in units of the mesh. If `bake`, each frame is a morph target of its own, and the
    animation is exact.

    Rotations of head and eyes are stored as nodes beside the mesh; see `head_nodes`.
    """

    def __init__(self, path: Path, header: Header, bake: bool = False):
        check_blend_shapes(path, header, bake)
        super().__init__(path)
        self.header, self.bake = header, bake
        self.head_nodes = HeadNodes(header.turn)
        self.focus = np.flatnonzero(header.focus)
        self.targets = None if bake or header.targets is None else header.targets()
        self.baked: list[np.ndarray] = []
        self.weights: list[np.ndarray] = []
        self.count = 0
        self.residual_sum, self.residual_count = 0.0, 0

    def write(self, frames: Frames) -> None:
        self.head_nodes.write(frames)
        if self.bake:
            self.baked.append(frames.vertices - self.header.rest)
            return
        assert self.targets is not None
        self.weights.append(frames.arkit)
        rows = slice(-self.count % RESIDUAL_STEP_FRAMES, None, RESIDUAL_STEP_FRAMES)
        self.count += len(frames.vertices)
        if len(self.focus) and len(frames.vertices[rows]):
            targets = self.targets[:, self.focus]
            shown = self.header.rest[self.focus] + np.tensordot(frames.arkit[rows], targets, 1)
            distances = np.linalg.norm(frames.vertices[rows][:, self.focus] - shown, axis=2)
            self.residual_sum += float(distances.sum())
            self.residual_count += distances.size

    def finish(self) -> None:
        if self.bake:
            targets = np.concatenate(self.baked)
            weights = np.eye(len(targets), dtype=np.float32)
            names = [f"frame{k:05d}" for k in range(len(targets))]
        else:
            assert self.targets is not None
            targets, names = self.targets, list(ARKIT_NAMES)
            weights = np.concatenate(self.weights).astype(np.float32)
            if self.residual_count:
                residual = self.residual_sum / self.residual_count
                self.metrics["arkit_residual_mesh_units"] = residual
        glb = _Glb()
        mesh = self._mesh(glb, targets, names)
        nodes, animation = self._nodes_and_animation(glb, weights)
        meta = self.header.meta
        asset = {"version": "2.0", "generator": f"talkemo {__version__}", "extras": meta}
        tree = {
            **self._materials(glb, mesh["primitives"][0]),
            "asset": asset,
            "scene": 0,
            "scenes": [{"nodes": [0, 1] if len(nodes) > 1 else [0]}],
            "nodes": nodes,
            "meshes": [mesh],
            "animations": [{"name": str(meta.get("emotion", "talkemo")), **animation}],
        }
        glb.write(self.partial.path, tree)

    def _mesh(self, glb: _Glb, targets: np.ndarray, names: list[str]) -> dict[str, Any]:
        """The mesh with morph targets (K, N, 3), as one primitive."""
        header = self.header
        rest = header.rest.astype(np.float32)
        # A vertex on a seam of the texture is written once for each of its texture coordinates.
        origin, faces, uv = _split_at_seams(header.faces, header.attributes)
        attributes = {
            "POSITION": glb.add(rest[origin], bounds=True),
            "NORMAL": glb.add(vertex_normals(rest, header.faces).astype(np.float32)[origin]),
        }
        if uv is not None:
            attributes |= {"TEXCOORD_0": glb.add(uv), "_VERTEX": glb.add(origin.astype(np.float32))}
        primitive: dict[str, Any] = {
            "attributes": attributes,
            "indices": glb.add(faces.astype(np.uint32).ravel(), target=INDEX_BUFFER),
            "targets": [{"POSITION": glb.add_target(target[origin])} for target in targets],
        }
        return {
            "name": "face",
            "primitives": [primitive],
            "weights": [0.0] * len(names),
            "extras": {"targetNames": names},
        }

    def _materials(self, glb: _Glb, primitive: dict[str, Any]) -> dict[str, Any]:
        """The material of a primitive and the images it uses, if the mesh has a texture."""
        texture = self.header.attributes.texture if self.header.attributes else None
        if texture is None or "TEXCOORD_0" not in primitive["attributes"]:
            return {}
        primitive["material"] = 0
        image = {"bufferView": glb.add_bytes(texture), "mimeType": image_type(texture)}
        skin = {"baseColorTexture": {"index": 0}, "metallicFactor": 0.0, "roughnessFactor": 0.8}
        return {
            "images": [image],
            "textures": [{"source": 0}],
            "materials": [{"pbrMetallicRoughness": skin}],
        }

    def _nodes_and_animation(
        self, glb: _Glb, weights: np.ndarray
    ) -> tuple[list[dict[str, Any]], dict[str, Any]]:
        """The nodes of mesh, head and eyes, and channels and samplers that move them.

        The mesh is node 0 and sampler 0, with weights (T, K); the head is node 1.
        """
        times = (np.arange(len(weights)) / self.header.fps).astype(np.float32)
        time_accessor = glb.add(times, bounds=True)
        nodes: list[dict[str, Any]] = [{"name": "face", "mesh": 0}]
        samplers: list[dict[str, Any]] = []
        channels: list[dict[str, Any]] = []

        def animate(node: int, path: str, values: np.ndarray) -> None:
            channels.append({"sampler": len(samplers), "target": {"node": node, "path": path}})
            sampler = {"input": time_accessor, "output": glb.add(values), "interpolation": "LINEAR"}
            samplers.append(sampler)

        animate(0, "weights", weights.ravel())
        quaternions, positions = self.head_nodes.quaternions(), self.head_nodes.positions
        if quaternions:
            nodes.append({"name": HEAD_NODE, "translation": positions[HEAD_NODE].tolist()})
        for name, values in quaternions.items():
            if name == HEAD_NODE:
                animate(1, "rotation", values)
                continue
            nodes[1].setdefault("children", []).append(len(nodes))
            animate(len(nodes), "rotation", values)
            nodes.append({"name": name, "translation": positions[name].tolist()})
        return nodes, {"channels": channels, "samplers": samplers}


def _split_at_seams(
    faces: np.ndarray, attributes: MeshAttributes | None
) -> tuple[np.ndarray, np.ndarray, np.ndarray | None]:
    """Split the vertices of a mesh so that each has one pair of texture coordinates.

    Returns
    -------
    origin : (V,)
        The mesh's vertex that each new vertex comes from.
    faces : (F, 3)
        Triangles of new vertices.
    uv : (V, 2) or None
        Texture coordinates, v pointing down.
    """
    count = int(faces.max()) + 1
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
        """Return a new accessor of an array (N,) or (N, 2 to 4), float32 or uint32."""
        accessor = {
            "bufferView": self._view(array, target),
            "componentType": UINT_COMPONENT if array.dtype.kind == "u" else FLOAT_COMPONENT,
            "count": len(array),
            "type": f"VEC{array.shape[1]}" if array.ndim == 2 else "SCALAR",
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
