"""Reading a GLB whose mesh moves by morph targets, ours or another's (glTF 2.0, sections 3.7.2 and 3.11).

The container is a header, a JSON text and a block of bytes; every size in it is checked before it is believed.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from ..errors import InputError
from ..files.arrays import largest_loaded
from ..files.reading import parse_json, printable, read_bytes, reading_errors
from .animation import check_coordinates, frames_at_a_time
from .mesh_types import LARGEST_COORDINATE, MOST_FACES, MeshAttributes

LARGEST_FILE = 1 << 31  # bytes
LARGEST_JSON = 1 << 25  # bytes
LONGEST = 24 * 3600.0  # s
MOST_FRAMES = 1_000_000  # that the keys of an animation may become
LARGEST_WEIGHT = 1e6  # of a morph target
MOST_TARGETS = 4096
USUAL_FPS = 30.0
TRIANGLES = 4  # glTF's mode of a primitive
MAGIC, JSON_CHUNK, BINARY_CHUNK = 0x46546C67, 0x4E4F534A, 0x004E4942
TYPES = {5120: "i1", 5121: "u1", 5122: "<i2", 5123: "<u2", 5125: "<u4", 5126: "<f4"}
WIDTHS = {"SCALAR": 1, "VEC2": 2, "VEC3": 3, "VEC4": 4, "MAT4": 16}


@dataclass(frozen=True, eq=False)
class _Part:
    """A primitive: its node, which of all vertices are its own, morph targets (K, V, 3) and weights (K,) at rest."""

    node: int
    vertices: slice
    shapes: np.ndarray
    weights: np.ndarray


def container(content: bytes) -> tuple[dict[str, Any], memoryview]:
    """The JSON tree and the block of bytes of a GLB. Raises ValueError."""
    if len(content) < 20:
        raise ValueError("not a glTF 2.0 binary")
    magic, version, length = struct.unpack_from("<3I", content)
    if magic != MAGIC or version != 2 or length > len(content):
        raise ValueError("not a glTF 2.0 binary")
    size, kind = struct.unpack_from("<2I", content, 12)
    if kind != JSON_CHUNK or size > min(len(content) - 20, LARGEST_JSON):
        raise ValueError("its first chunk is not JSON, or too long")
    tree = parse_json(content[20 : 20 + size])
    if not isinstance(tree, dict):
        raise ValueError("its JSON is not an object")
    if 28 + size <= len(content):
        count, kind = struct.unpack_from("<2I", content, 20 + size)
        if kind == BINARY_CHUNK:
            return tree, memoryview(content)[28 + size : 28 + size + count]
    return tree, memoryview(b"")


def _first_of_each(origin: np.ndarray, count: int) -> np.ndarray:
    """For numbers (N,) of vertices, each of 0 … n at least once, where each is found first. Raises ValueError."""
    if origin.shape != (count,) or not np.isfinite(origin).all():
        raise ValueError("_VERTEX is not a number for each vertex")
    numbers, first = np.unique(origin, return_index=True)
    if not np.array_equal(numbers, np.arange(len(numbers))):
        raise ValueError("_VERTEX does not number the vertices")
    return first


class GlbAnimation:
    """The meshes of a GLB, all in one, as its first animation of morph target weights moves them.

    rest: (V, 3) with all weights at zero. Nodes are placed as they stand; bones and moving nodes are not followed.
    """

    def __init__(self, path: str | Path, fps: float | None = None):
        self.path = Path(path)
        what, hint = "a GLB that can be read", "export it again, with morph targets"
        content = read_bytes(self.path, what, hint, LARGEST_FILE)
        with reading_errors(path, what, hint):
            self._read(content, fps)

    def _read(self, content: bytes, fps: float | None) -> None:
        """Read container, meshes and curves."""
        self.tree, self.block = container(content)
        self._most = min(
            largest_loaded(len(content)), LARGEST_FILE
        )  # bytes of all vertices and morph targets
        needed = self.tree.get("extensionsRequired", [])
        if needed:
            raise ValueError(f"it needs {', '.join(map(str, needed))}, which talkemo does not read")
        self.meta: dict[str, Any] = {}
        self.focus: np.ndarray | None = None
        self.facing: np.ndarray | None = None
        self.attributes: MeshAttributes | None = None
        self._parts: list[_Part] = []
        rests, faces = self._read_meshes()
        self.rest: np.ndarray | None = np.concatenate(rests)
        self.faces = np.concatenate(faces).astype(np.int32)
        if not 0 < len(self.faces) <= MOST_FACES:
            raise ValueError(f"{len(self.faces)} triangles, of 1 to {MOST_FACES}")
        self._curves = self._weight_curves()
        ends = [times[-1] for times, _ in self._curves.values()]
        if not ends:
            raise ValueError("no animation of morph target weights in it")
        if max(ends) > LONGEST:
            raise ValueError(f"an animation of {max(ends) / 3600:.0f} hours")
        self.fps = fps or _rate(max((times for times, _ in self._curves.values()), key=len))
        self.shape: tuple[int, ...] = (round(max(ends) * self.fps) + 1, len(self.rest), 3)
        if len(self) > MOST_FRAMES:
            raise InputError(
                f"{printable(self.path)}: keys up to {max(ends):.0f} s are {len(self)} frames at {self.fps:g} a second",
                f"at most {MOST_FRAMES} are read: lower --fps, or move the last keys",
            )
        self.block, self.tree = memoryview(b""), {}  # what was needed of it is read

    def _read_meshes(self) -> tuple[list[np.ndarray], list[np.ndarray]]:
        """Vertices at rest and triangles of all primitives, placed as their nodes stand; fills `_parts`."""
        rests: list[np.ndarray] = []
        faces: list[np.ndarray] = []
        vertices = total = 0
        for number, matrix in self._placed_nodes():
            node = self.tree["nodes"][number]
            if "mesh" not in node:
                continue
            mesh = self.tree["meshes"][node["mesh"]]
            for primitive in mesh["primitives"]:
                if primitive.get("mode", TRIANGLES) != TRIANGLES:
                    continue
                targets = primitive.get("targets", [])
                total += int(
                    self.tree["accessors"][primitive["attributes"]["POSITION"]]["count"]
                ) * (2 + len(targets))
                if total * 12 > self._most or len(targets) > MOST_TARGETS:
                    raise ValueError("more vertices and morph targets than any face has")
                points, triangles, shapes = self._primitive(primitive, matrix)
                steady = np.array(
                    node.get("weights") or mesh.get("weights") or [0.0] * len(shapes), np.float32
                )
                if steady.shape != (len(shapes),) or not _within(steady, LARGEST_WEIGHT):
                    raise ValueError(
                        "there are not as many weights as morph targets, or they are out of range"
                    )
                rests.append(points)
                faces.append(triangles + vertices)
                self._parts.append(
                    _Part(number, slice(vertices, vertices + len(points)), shapes, steady)
                )
                vertices += len(points)
        if not rests:
            raise ValueError("no mesh of triangles in it")
        return rests, faces

    def _primitive(
        self, primitive: dict[str, Any], matrix: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Vertices (V, 3), triangles (F, 3) and morph targets (K, V, 3) of a primitive, placed by a matrix (4, 4)."""
        points = self._accessor(primitive["attributes"]["POSITION"]).astype(np.float64)
        if "indices" in primitive:
            triangles = self._accessor(primitive["indices"])
            if triangles.dtype.kind != "u":
                raise ValueError("triangles are not unsigned integers")
            triangles = triangles.astype(np.int64).reshape(-1, 3)
        else:
            triangles = np.arange(len(points)).reshape(-1, 3)
        if (
            points.shape[1:] != (3,)
            or not _within(points, LARGEST_COORDINATE)
            or triangles.max(initial=0) >= len(points)
        ):
            raise ValueError("positions or triangles are out of range")
        moves = [
            self._accessor(target["POSITION"])
            if "POSITION" in target
            else np.zeros_like(points, np.float32)
            for target in primitive.get("targets", [])
        ]
        if any(move.shape != points.shape for move in moves):
            raise ValueError("a morph target is not of its mesh's size")
        linear = matrix[:3, :3].T
        turned = [(move @ linear).astype(np.float32) for move in moves]
        shapes = np.stack(turned) if turned else np.zeros((0, *points.shape), np.float32)
        placed = points @ linear + matrix[:3, 3]
        if not _within(placed, LARGEST_COORDINATE) or not _within(shapes, LARGEST_COORDINATE):
            raise ValueError("positions or morph targets are out of range")
        if (
            "_VERTEX" in primitive["attributes"]
        ):  # ours: which vertices a seam of the texture has split
            origin = self._accessor(primitive["attributes"]["_VERTEX"])
            first = _first_of_each(origin, len(points))
            triangles = np.asarray(origin, np.int64)[triangles]
            placed, shapes = placed[first], shapes[:, first]
        return placed, triangles, shapes

    def _accessor(self, number: int) -> np.ndarray:
        """The values of an accessor, (N,) or (N, width); normalised integers as floats."""
        accessor = self.tree["accessors"][number]
        count, width = int(accessor["count"]), WIDTHS[accessor["type"]]
        kind = np.dtype(TYPES[accessor["componentType"]])
        if "bufferView" in accessor:
            values = self._view(
                accessor["bufferView"], int(accessor.get("byteOffset", 0)), kind, count, width
            )
        else:
            if not 0 <= count * width * kind.itemsize <= self._most:
                raise ValueError("an accessor larger than any mesh")
            values = np.zeros((count, width), kind)
        if "sparse" in accessor:
            sparse = accessor["sparse"]
            some, at, new = int(sparse["count"]), sparse["indices"], sparse["values"]
            offset = int(at.get("byteOffset", 0))
            index = self._view(
                at["bufferView"], offset, np.dtype(TYPES[at["componentType"]]), some, 1
            )[:, 0]
            values = values.copy()
            values[index] = self._view(
                new["bufferView"], int(new.get("byteOffset", 0)), kind, some, width
            )
        if accessor.get("normalized") and kind.kind in "iu":
            values = np.maximum(values / np.float32(np.iinfo(kind).max), -1)
        return values[:, 0] if width == 1 else values

    def _view(self, number: int, offset: int, kind: np.dtype, count: int, width: int) -> np.ndarray:
        view = self.tree["bufferViews"][number]
        if view.get("buffer", 0) != 0 or "uri" in self.tree["buffers"][0]:
            raise ValueError("its data are in another file")
        row = width * kind.itemsize
        stride = int(view.get("byteStride", row))
        first = int(view.get("byteOffset", 0)) + offset
        if count < 0 or offset < 0 or first < 0 or stride < row:
            raise ValueError("an accessor out of range")
        if count and first + (count - 1) * stride + row > len(self.block):
            raise ValueError("an accessor reaches beyond its data")
        if not count:
            return np.zeros((0, width), kind)
        return np.ndarray((count, width), kind, self.block, first, (stride, kind.itemsize))

    def _placed_nodes(self) -> list[tuple[int, np.ndarray]]:
        """The nodes of the scene with their matrices (4, 4) into it."""
        nodes = self.tree.get("nodes", [])
        scenes = self.tree.get("scenes")
        if scenes:
            roots = scenes[self.tree.get("scene", 0)].get("nodes", [])
        else:
            children = {child for node in nodes for child in node.get("children", [])}
            roots = [k for k in range(len(nodes)) if k not in children]
        placed: list[tuple[int, np.ndarray]] = []
        todo = [(k, np.eye(4)) for k in roots]
        while todo:
            number, parent = todo.pop()
            if len(placed) >= len(nodes):
                raise ValueError("its nodes go in a circle")
            matrix = parent @ _matrix(nodes[number])
            placed.append((number, matrix))
            todo += [(child, matrix) for child in nodes[number].get("children", [])]
        return sorted(placed, key=lambda item: item[0])

    def _weight_curves(self) -> dict[int, tuple[np.ndarray, np.ndarray]]:
        """Node → key times (K,) s and weights (K, targets) of the first animation that moves any."""
        targets: dict[int, int] = {}
        for part in self._parts:
            if targets.setdefault(part.node, len(part.shapes)) != len(part.shapes):
                raise ValueError("parts of one mesh have different numbers of morph targets")
        for animation in self.tree.get("animations", []):
            curves = {}
            for channel in animation["channels"]:
                number = channel["target"].get("node")
                if channel["target"].get("path") != "weights" or not targets.get(number):
                    continue
                sampler = animation["samplers"][channel["sampler"]]
                times = self._accessor(sampler["input"]).astype(np.float64)
                values = self._accessor(sampler["output"]).astype(np.float32)
                way = sampler.get("interpolation", "LINEAR")
                values = values.reshape(len(times), 3 if way == "CUBICSPLINE" else 1, -1)
                # Of a spline the keys themselves: they come as densely as frames.
                values = values[:, values.shape[1] // 2]
                if values.shape[1] != targets[number] or not len(times):
                    raise ValueError("an animation has not as many weights as morph targets")
                if not np.isfinite(times).all() or times[0] < 0 or (np.diff(times) <= 0).any():
                    raise ValueError("key times that do not ascend")
                if not _within(values, LARGEST_WEIGHT):
                    raise ValueError("weights that are out of range")
                if way == "STEP":
                    times, values = _stairs(times, values)
                curves[number] = times, values
            if curves:
                return curves
        return {}

    def __len__(self) -> int:
        return self.shape[0]

    def chunks(self, frames: int = 64) -> Iterator[np.ndarray]:
        """Consecutive vertices (≤ frames, V, 3) float32."""
        rest = np.asarray(self.rest, np.float32)
        frames = frames_at_a_time(frames, len(rest))
        for start in range(0, len(self), frames):
            times = np.arange(start, min(start + frames, len(self))) / self.fps
            result = np.repeat(rest[None], len(times), axis=0)
            for part in self._parts:
                if not len(part.shapes):
                    continue
                weights = np.broadcast_to(part.weights, (len(times), len(part.shapes)))
                if part.node in self._curves:
                    keys, values = self._curves[part.node]
                    weights = np.stack(
                        [np.interp(times, keys, column) for column in values.T], axis=1
                    )
                result[:, part.vertices] += np.tensordot(weights.astype(np.float32), part.shapes, 1)
            check_coordinates(self.path, result)
            yield result


def _within(values: np.ndarray, largest: float) -> bool:
    """Whether numbers are finite and no larger than that."""
    return bool(np.abs(values).max(initial=0.0) <= largest)  # not so for NaN


def _rate(times: np.ndarray) -> float:
    """Frames a second of key times (K,) that come a key a frame; USUAL_FPS where they do not."""
    if len(times) < 2:
        return USUAL_FPS
    steps = np.diff(times)
    found = 1 / float(np.median(steps))
    if (
        np.abs(steps * found - 1).max() < 0.05
    ):  # evenly: over all of them the rounding of each key no longer matters
        found = (len(times) - 1) / float(times[-1] - times[0])
    for usual in (round(found), round(found) * 1000 / 1001):
        if abs(found - usual) < 2e-3:
            found = usual
    return float(found) if 5 <= found <= 240 else USUAL_FPS


def _stairs(times: np.ndarray, values: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Keys that hold until the next one, as keys that are joined by lines."""
    before = times[1:] - 1e-6 * np.diff(times)
    order = np.argsort(np.concatenate([times, before]), kind="stable")
    return np.concatenate([times, before])[order], np.concatenate([values, values[:-1]])[order]


def _matrix(node: dict[str, Any]) -> np.ndarray:
    """(4, 4) of a node: its matrix, or translation × rotation × scale."""
    if "matrix" in node:
        return np.array(node["matrix"], np.float64).reshape(4, 4).T
    x, y, z, w = np.array(node.get("rotation", (0, 0, 0, 1)), np.float64)
    result = np.eye(4)
    result[:3, :3] = [
        [1 - 2 * (y * y + z * z), 2 * (x * y - z * w), 2 * (x * z + y * w)],
        [2 * (x * y + z * w), 1 - 2 * (x * x + z * z), 2 * (y * z - x * w)],
        [2 * (x * z - y * w), 2 * (y * z + x * w), 1 - 2 * (x * x + y * y)],
    ]
    result[:3, :3] *= np.array(node.get("scale", (1, 1, 1)), np.float64)
    result[:3, 3] = np.array(node.get("translation", (0, 0, 0)), np.float64)
    return result
