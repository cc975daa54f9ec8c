"""GLB files with morph targets (glTF 2.0), which Blender, Unity and Unreal open."""

from __future__ import annotations

import json
import struct
from pathlib import Path
from typing import Any

import numpy as np

from .. import __version__
from ..face.canonical import ARKIT_NAMES
from ..geometry.meshes import vertex_normals
from .animation import FileWriter, Frames, Header
from .baking import check_writable
from .gltf_reader import BINARY_CHUNK, JSON_CHUNK, MAGIC
from .mesh_types import MeshAttributes, picture_type
from .tracks import HEAD, Tracks

FLOAT, UNSIGNED = 5126, 5125  # glTF's component types
SPARSE = 0.7  # share of the vertices that move under which a morph target lists them one by one
RESIDUAL_EVERY = 8  # frames between those whose residual of ARKit's shapes is measured


class GlbWriter(FileWriter):
    """A GLB of the mesh with ARKit's 52 shapes as morph targets and their weights as an animation.

    With `bake` every frame is a morph target of its own instead, and the animation is exact. `metrics` then has the
    residual of the 52: the mean distance of the moving vertices from where they should be, in units of the mesh.

    How head and eyes turn is written as rotations of nodes beside the mesh, which move nothing by themselves.
    """

    def __init__(self, path: Path, header: Header, bake: bool = False):
        check_writable(path, header, bake)
        super().__init__(path)
        self.header, self.bake = header, bake
        self.tracks = Tracks(header.turn)
        self.moving = np.flatnonzero(header.focus)
        self.targets = None if bake or header.targets is None else header.targets()
        self.baked: list[np.ndarray] = []
        self.weights: list[np.ndarray] = []
        self.distance, self.measured, self.count = 0.0, 0, 0

    def write(self, frames: Frames) -> None:
        self.tracks.write(frames)
        if self.bake:
            self.baked.append(frames.vertices - self.header.rest)
            return
        assert self.targets is not None
        self.weights.append(frames.arkit)
        some = slice(-self.count % RESIDUAL_EVERY, None, RESIDUAL_EVERY)
        self.count += len(frames.vertices)
        if len(self.moving) and len(frames.vertices[some]):
            targets = self.targets[:, self.moving]
            drawn = self.header.rest[self.moving] + np.tensordot(frames.arkit[some], targets, 1)
            off = np.linalg.norm(frames.vertices[some][:, self.moving] - drawn, axis=2)
            self.distance, self.measured = (
                self.distance + float(off.sum()),
                self.measured + off.size,
            )

    def finish(self) -> None:
        header = self.header
        glb = _Glb()
        rest = header.rest.astype(np.float32)
        # A vertex on a seam of the texture has several texture coordinates, and is written once for each.
        origin, faces, uv = _split_at_seams(header.faces, header.attributes)
        attributes = {
            "POSITION": glb.add(rest[origin], bounds=True),
            "NORMAL": glb.add(vertex_normals(rest, header.faces).astype(np.float32)[origin]),
        }
        if uv is not None:
            attributes |= {"TEXCOORD_0": glb.add(uv), "_VERTEX": glb.add(origin.astype(np.float32))}
        primitive: dict[str, Any] = {
            "attributes": attributes,
            "indices": glb.add(faces.astype(np.uint32).ravel(), target=34963),
        }
        if self.bake:
            targets = np.concatenate(self.baked)
            weights = np.eye(len(targets), dtype=np.float32)
            names = [f"frame{k:05d}" for k in range(len(targets))]
        else:
            assert self.targets is not None
            targets, weights, names = (
                self.targets,
                np.concatenate(self.weights).astype(np.float32),
                list(ARKIT_NAMES),
            )
            if self.measured:
                self.metrics["arkit_residual_mesh_units"] = self.distance / self.measured
        # A head that turns moves more than its face.
        primitive["targets"] = [{"POSITION": glb.add_target(target[origin])} for target in targets]
        times = (np.arange(len(weights)) / header.fps).astype(np.float32)
        sampler = {
            "input": glb.add(times, bounds=True),
            "output": glb.add(weights.ravel()),
            "interpolation": "LINEAR",
        }
        nodes, samplers, channels = self._turning(glb, sampler["input"])
        mesh = {
            "name": "face",
            "primitives": [primitive],
            "weights": [0.0] * len(names),
            "extras": {"targetNames": names},
        }
        texture = header.attributes.texture if header.attributes and uv is not None else None
        materials: dict[str, Any] = {}
        if texture is not None:
            image = {"bufferView": glb.add_bytes(texture), "mimeType": picture_type(texture)}
            skin = {"baseColorTexture": {"index": 0}, "metallicFactor": 0.0, "roughnessFactor": 0.8}
            materials = {
                "images": [image],
                "textures": [{"source": 0}],
                "materials": [{"pbrMetallicRoughness": skin}],
            }
            primitive["material"] = 0
        glb.write(
            self.partial.path,
            {
                **materials,
                "asset": {
                    "version": "2.0",
                    "generator": f"talkemo {__version__}",
                    "extras": header.meta,
                },
                "scene": 0,
                "scenes": [{"nodes": [0, 1] if nodes else [0]}],
                "nodes": [{"name": "face", "mesh": 0}, *nodes],
                "meshes": [mesh],
                "animations": [
                    {
                        "name": str(header.meta.get("emotion", "talkemo")),
                        "channels": [
                            {"sampler": 0, "target": {"node": 0, "path": "weights"}},
                            *channels,
                        ],
                        "samplers": [sampler, *samplers],
                    }
                ],
            },
        )

    def _turning(self, glb: _Glb, times: Any) -> tuple[list[Any], list[Any], list[Any]]:
        """Nodes of head and eyes, from number 1 on, with the samplers, from 1 on, and the channels that turn them."""
        turned, places = self.tracks.quaternions(), self.tracks.places
        if not turned:
            return [], [], []
        eyes = [name for name in turned if name != HEAD]
        nodes: list[Any] = [{"name": HEAD, "translation": places[HEAD].tolist()}]
        if eyes:
            nodes[0]["children"] = [2 + k for k in range(len(eyes))]
        nodes += [
            {"name": name, "translation": (places[name] - places[HEAD]).tolist()} for name in eyes
        ]
        samplers, channels = [], []
        for name, quaternions in turned.items():
            samplers.append(
                {"input": times, "output": glb.add(quaternions), "interpolation": "LINEAR"}
            )
            node = 1 if name == HEAD else 2 + eyes.index(name)
            channels.append(
                {"sampler": len(samplers), "target": {"node": node, "path": "rotation"}}
            )
        return nodes, samplers, channels


def _split_at_seams(
    faces: np.ndarray, attributes: MeshAttributes | None
) -> tuple[np.ndarray, np.ndarray, np.ndarray | None]:
    """For each vertex to be written the mesh's own, the faces (F, 3) of those, and their texture coordinates, v down."""
    if attributes is None or attributes.uv is None or attributes.uv_faces is None:
        return np.arange(int(faces.max()) + 1), faces, None
    pairs = np.stack([faces.ravel(), attributes.uv_faces.ravel()], axis=1).astype(np.int64)
    unused = np.setdiff1d(np.arange(int(faces.max()) + 1), faces)
    pairs = np.concatenate([pairs, np.stack([unused, np.zeros_like(unused)], axis=1)])
    found, number = np.unique(pairs, axis=0, return_inverse=True)
    uv = attributes.uv[found[:, 1]] * np.array([1, -1], np.float32) + np.array([0, 1], np.float32)
    return found[:, 0], number.reshape(-1)[: faces.size].reshape(-1, 3), uv


class _Glb:
    """Arrays on their way into the one block of bytes of a GLB."""

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
        """The accessor of an array (N, 4), (N, 3), (N, 2) or (N,), float32 or uint32."""
        kind: dict[str, Any] = {
            "componentType": UNSIGNED if array.dtype.kind == "u" else FLOAT,
            "count": len(array),
        }
        kind["type"] = f"VEC{array.shape[1]}" if array.ndim == 2 else "SCALAR"
        self.accessors.append(
            {"bufferView": self._view(array, target), **kind, **(_bounds(array) if bounds else {})}
        )
        return len(self.accessors) - 1

    def add_bytes(self, content: bytes) -> int:
        """The view of a file's content."""
        return self._view(np.frombuffer(content, np.uint8))

    def add_target(self, target: np.ndarray) -> int:
        """The accessor of a displacement (V, 3), sparse where few vertices move."""
        target = target.astype(np.float32)
        about = {"componentType": FLOAT, "count": len(target), "type": "VEC3", **_bounds(target)}
        moving = np.flatnonzero(target.any(1))
        if not len(moving):  # an accessor without data is zero
            self.accessors.append(about)
        elif len(moving) > SPARSE * len(target):
            self.accessors.append({"bufferView": self._view(target), **about})
        else:
            sparse = {
                "count": len(moving),
                "indices": {
                    "bufferView": self._view(moving.astype(np.uint32)),
                    "componentType": UNSIGNED,
                },
                "values": {"bufferView": self._view(target[moving])},
            }
            self.accessors.append({**about, "sparse": sparse})
        return len(self.accessors) - 1

    def write(self, path: Path, tree: dict[str, Any]) -> None:
        tree |= {
            "accessors": self.accessors,
            "bufferViews": self.views,
            "buffers": [{"byteLength": self.size}],
        }
        text = json.dumps(tree).encode()
        text += b" " * (-len(text) % 4)
        with path.open("wb") as file:
            file.write(struct.pack("<3I", MAGIC, 2, 28 + len(text) + self.size))
            file.write(struct.pack("<2I", len(text), JSON_CHUNK) + text)
            file.write(struct.pack("<2I", self.size, BINARY_CHUNK))
            for block in self.blocks:
                file.write(block)


def _bounds(array: np.ndarray) -> dict[str, list[float]]:
    flat = array if array.ndim == 2 else array[:, None]
    return {"min": flat.min(0).tolist(), "max": flat.max(0).tolist()}
