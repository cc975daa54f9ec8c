"""Reading GLB files whose mesh is animated by morph targets (glTF 2.0, sections 3.7.2 and 3.11).

The container is a header, a JSON text and a block of bytes; every size in it is checked before it
is used.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from ..errors import InputError
from ..files.arrays import max_loaded_bytes
from ..files.reading import parse_json, printable, read_bytes, reading_errors
from ..geometry.rigid import as_rotation
from .animation import check_coordinates, frames_per_chunk
from .mesh_types import MAX_COORDINATE, MAX_MESH_TRIANGLES, MAX_MORPH_TARGETS, MeshAttributes
from .units import METRES_PER_UNIT

MAX_GLB_BYTES = 1 << 31
MAX_GLTF_JSON_BYTES = 1 << 25
MAX_GLB_SECONDS = 24 * 3600.0
MAX_GLB_FRAMES = 1_000_000  # that the keys of an animation may become
MAX_MORPH_WEIGHT = 1e6
DEFAULT_GLB_FPS = 30.0  # if the keys of an animation do not come at a steady rate
KEY_RATE_RANGE = (5, 240)  # rates of keys in 1/s that are taken for a frame rate
TRIANGLE_LIST, TRIANGLE_STRIP = 4, 5  # modes of a primitive that are surfaces
GLTF_MAGIC, JSON_CHUNK, BINARY_CHUNK = 0x46546C67, 0x4E4F534A, 0x004E4942
COMPONENT_TYPES = {5120: "i1", 5121: "u1", 5122: "<i2", 5123: "<u2", 5125: "<u4", 5126: "<f4"}
# Fields that talkemo adds to its own files, in extras of the asset, of a node and of a primitive.
MESH_SPACE = "mesh_space"  # how the mesh's coordinates were converted to the file's
ADDED_PART = "added_part"  # of a node: its mesh is no part of the user's, and is not read
ALL_TRIANGLES = "all_triangles"  # accessor of all triangles, also those that are never drawn
MAX_SPACE_RATIO = 1e12  # of lengths in the mesh and in the file
ACCESSOR_WIDTHS = {"SCALAR": 1, "VEC2": 2, "VEC3": 3, "VEC4": 4, "MAT4": 16}


@dataclass(frozen=True, eq=False)
class _Primitive:
    """A surface that is moved by the morph targets of its node."""

    node: int
    rows: slice  # its vertices among those of all primitives
    shapes: np.ndarray  # morph targets (K, V, 3)
    weights: np.ndarray  # (K,), those at rest


def is_added_part(node: dict[str, Any]) -> bool:
    """Return whether a node is a part that talkemo added to the user's mesh, such as teeth."""
    extras = node.get("extras")
    return isinstance(extras, dict) and bool(extras.get(ADDED_PART))


def read_container(content: bytes) -> tuple[dict[str, Any], memoryview]:
    """Return the JSON tree and the block of bytes of a GLB; raise ValueError if malformed."""
    if len(content) < 20:
        raise ValueError("not a glTF 2.0 binary")
    magic, version, length = struct.unpack_from("<3I", content)
    if magic != GLTF_MAGIC or version != 2 or length > len(content):
        raise ValueError("not a glTF 2.0 binary")
    size, kind = struct.unpack_from("<2I", content, 12)
    if kind != JSON_CHUNK or size > min(len(content) - 20, MAX_GLTF_JSON_BYTES):
        raise ValueError("its first chunk is not JSON, or too long")
    tree = parse_json(content[20 : 20 + size])
    if not isinstance(tree, dict):
        raise ValueError("its JSON is not an object")
    if 28 + size <= len(content):
        count, kind = struct.unpack_from("<2I", content, 20 + size)
        if kind == BINARY_CHUNK:
            return tree, memoryview(content)[28 + size : 28 + size + count]
    return tree, memoryview(b"")


class GlbAnimation:
    """A `Source` that reads the meshes of a GLB as one, with its first morph target animation.

    `rest` (V, 3) is the mesh with all weights at zero. Nodes keep their positions; skeletal
    animation and moving nodes are not read. A file that talkemo wrote is read in the unit, the axes
    and the triangles of the mesh it was made of; `meta` then names the unit.

    Parameters
    ----------
    path : str or Path
    fps : float, optional
        Frame rate to sample the animation at; by default the rate of its keys.
    """

    def __init__(self, path: str | Path, fps: float | None = None):
        self.path = Path(path)
        what, hint = "a GLB that can be read", "export it again, with morph targets"
        content = read_bytes(self.path, what, hint, MAX_GLB_BYTES)
        with reading_errors(path, what, hint):
            self._read(content, fps)

    def _read(self, content: bytes, fps: float | None) -> None:
        """Read container, meshes and animation."""
        self.tree, self.block = read_container(content)
        self._max_bytes = min(max_loaded_bytes(len(content)), MAX_GLB_BYTES)
        required = self.tree.get("extensionsRequired", [])
        if required:
            raise ValueError(f"it needs {', '.join(map(str, required))}, which is not supported")
        self.meta: dict[str, Any] = {}
        self.focus: np.ndarray | None = None
        self.facing: np.ndarray | None = None
        self.attributes: MeshAttributes | None = None
        self._to_mesh = self._read_mesh_space()
        self._primitives: list[_Primitive] = []
        self._hidden: list[np.ndarray] = []  # whether each vertex is drawn, by primitive
        rests, faces = self._read_meshes()
        self.rest: np.ndarray | None = np.concatenate(rests)
        self.faces = np.concatenate(faces).astype(np.int32)
        hidden = np.concatenate(self._hidden)
        if hidden.any():
            self.attributes = MeshAttributes(groups=np.where(hidden, "hidden", "skin"))
        if not 0 < len(self.faces) <= MAX_MESH_TRIANGLES:
            raise ValueError(f"{len(self.faces)} triangles, of 1 to {MAX_MESH_TRIANGLES}")
        self._curves = self._weight_curves()
        if not self._curves:
            raise ValueError("no animation of morph target weights in it")
        end = max(times[-1] for times, _ in self._curves.values())
        if end > MAX_GLB_SECONDS:
            raise ValueError(f"an animation of {end / 3600:.0f} hours")
        self.fps = fps or _key_rate(max((times for times, _ in self._curves.values()), key=len))
        self.shape: tuple[int, ...] = (round(end * self.fps) + 1, len(self.rest), 3)
        if len(self) > MAX_GLB_FRAMES:
            raise InputError(
                f"{printable(self.path)}: keys up to {end:.0f} s are {len(self)} frames at "
                f"{self.fps:g} a second",
                f"at most {MAX_GLB_FRAMES} are read: lower --fps, or move the last keys",
            )
        self.block, self.tree = memoryview(b""), {}  # everything needed has been read

    def _read_mesh_space(self) -> np.ndarray:
        """Set facing and unit from talkemo's extras; return the matrix (4, 4) into the mesh."""
        extras = self.tree.get("asset", {}).get("extras")
        space = extras.get(MESH_SPACE) if isinstance(extras, dict) else None
        if space is None:
            return np.eye(4)
        to_file = np.array(space["to_file"], np.float64)
        if to_file.shape != (3, 3) or not _within(to_file, MAX_SPACE_RATIO):
            raise ValueError("its mesh space is out of range")
        scale = np.cbrt(np.linalg.det(to_file))
        if scale < 1 / MAX_SPACE_RATIO:
            raise ValueError("its mesh space is out of range")
        if space.get("facing") is not None:
            self.facing = as_rotation(space["facing"])
        if as_rotation(to_file / scale) is None:
            raise ValueError("its mesh space is no similarity")
        if space.get("unit") in METRES_PER_UNIT:
            self.meta["unit"] = space["unit"]
        to_mesh = np.eye(4)
        to_mesh[:3, :3] = np.linalg.inv(to_file).T
        return to_mesh

    def _read_meshes(self) -> tuple[list[np.ndarray], list[np.ndarray]]:
        """Vertices at rest and triangles of all primitives, which are added to `_primitives`."""
        rests: list[np.ndarray] = []
        faces: list[np.ndarray] = []
        vertices = elements = 0
        for number, matrix in self._placed_nodes():
            node = self.tree["nodes"][number]
            if "mesh" not in node or is_added_part(node):
                continue
            mesh = self.tree["meshes"][node["mesh"]]
            for primitive in mesh["primitives"]:
                if primitive.get("mode", TRIANGLE_LIST) != TRIANGLE_LIST:
                    continue
                targets = primitive.get("targets", [])
                position = self.tree["accessors"][primitive["attributes"]["POSITION"]]
                elements += int(position["count"]) * (2 + len(targets))
                if elements * 12 > self._max_bytes or len(targets) > MAX_MORPH_TARGETS:
                    raise ValueError("more vertices and morph targets than any face has")
                points, triangles, shapes = self._primitive(primitive, matrix)
                weights = node.get("weights") or mesh.get("weights") or [0.0] * len(shapes)
                at_rest = np.array(weights, np.float32)
                if at_rest.shape != (len(shapes),) or not _within(at_rest, MAX_MORPH_WEIGHT):
                    raise ValueError("weights out of range, or not as many as morph targets")
                rests.append(points)
                faces.append(triangles + vertices)
                rows = slice(vertices, vertices + len(points))
                self._primitives.append(_Primitive(number, rows, shapes, at_rest))
                vertices += len(points)
        if not rests:
            raise ValueError("no mesh of triangles in it")
        return rests, faces

    def _primitive(
        self, primitive: dict[str, Any], matrix: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Vertices (V, 3), triangles (F, 3) and morph targets (K, V, 3), placed by (4, 4)."""
        points = self._accessor(primitive["attributes"]["POSITION"]).astype(np.float64)
        if points.shape[1:] != (3,) or not _within(points, MAX_COORDINATE):
            raise ValueError("positions are out of range")
        triangles, hidden = self._triangles(primitive, len(points))
        linear = matrix[:3, :3].T
        targets = primitive.get("targets", [])
        shapes = np.zeros((len(targets), *points.shape), np.float32)
        for shape, target in zip(shapes, targets):
            if "POSITION" not in target:
                continue
            displacement = self._accessor(target["POSITION"])
            if displacement.shape != points.shape:
                raise ValueError("a morph target and its mesh have different numbers of vertices")
            shape[:] = displacement @ linear
        placed = points @ linear + matrix[:3, 3]
        if not _within(placed, MAX_COORDINATE) or not _within(shapes, MAX_COORDINATE):
            raise ValueError("positions or morph targets are out of range")
        if "_VERTEX" in primitive["attributes"]:  # written by talkemo: undo the split at seams
            origin = self._accessor(primitive["attributes"]["_VERTEX"])
            first = _first_of_each(origin, len(points))
            triangles = np.asarray(origin, np.int64)[triangles]
            placed, shapes, hidden = placed[first], shapes[:, first], hidden[first]
        self._hidden.append(hidden)
        return placed, triangles, shapes

    def _triangles(self, primitive: dict[str, Any], count: int) -> tuple[np.ndarray, np.ndarray]:
        """Triangles (F, 3) of a primitive of `count` vertices, and which of these are hidden."""
        if "indices" not in primitive:
            return np.arange(count).reshape(-1, 3), np.zeros(count, bool)
        triangles = self._indices(primitive["indices"], count)
        extras = primitive.get("extras")
        if not isinstance(extras, dict) or ALL_TRIANGLES not in extras:
            return triangles, np.zeros(count, bool)
        every = self._indices(extras[ALL_TRIANGLES], count)
        hidden = np.zeros(count, bool)
        hidden[every] = True
        hidden[triangles] = False
        return every, hidden

    def _indices(self, number: int, count: int) -> np.ndarray:
        """The triangles (F, 3) int64 of an accessor, below `count`."""
        indices = self._accessor(number)
        if indices.dtype.kind != "u":
            raise ValueError("triangles are not unsigned integers")
        triangles = indices.astype(np.int64).reshape(-1, 3)
        if triangles.max(initial=0) >= count:
            raise ValueError("triangles are out of range")
        return triangles

    def _accessor(self, number: int) -> np.ndarray:
        """Values of an accessor, (N,) or (N, width); normalised integers as floats."""
        accessor = self.tree["accessors"][number]
        count, width = int(accessor["count"]), ACCESSOR_WIDTHS[accessor["type"]]
        dtype = np.dtype(COMPONENT_TYPES[accessor["componentType"]])
        if "bufferView" in accessor:
            values = self._view(accessor, dtype, count, width)
        else:
            if not 0 <= count * width * dtype.itemsize <= self._max_bytes:
                raise ValueError("an accessor larger than any mesh")
            values = np.zeros((count, width), dtype)
        if "sparse" in accessor:
            sparse = accessor["sparse"]
            count = int(sparse["count"])
            index_type = np.dtype(COMPONENT_TYPES[sparse["indices"]["componentType"]])
            rows = self._view(sparse["indices"], index_type, count, 1)[:, 0]
            values = values.copy()
            values[rows] = self._view(sparse["values"], dtype, count, width)
        if accessor.get("normalized") and dtype.kind in "iu":
            values = np.maximum(values / np.float32(np.iinfo(dtype).max), -1)
        return values[:, 0] if width == 1 else values

    def _view(
        self, reference: dict[str, Any], dtype: np.dtype, count: int, width: int
    ) -> np.ndarray:
        """Elements (count, width) of the buffer view that an accessor refers to."""
        view = self.tree["bufferViews"][reference["bufferView"]]
        offset = int(reference.get("byteOffset", 0))
        if view.get("buffer", 0) != 0 or "uri" in self.tree["buffers"][0]:
            raise ValueError("its data are in another file")
        row = width * dtype.itemsize
        stride = int(view.get("byteStride", row))
        first = int(view.get("byteOffset", 0)) + offset
        if count < 0 or offset < 0 or first < 0 or stride < row:
            raise ValueError("an accessor out of range")
        if count and first + (count - 1) * stride + row > len(self.block):
            raise ValueError("an accessor reaches beyond its data")
        if not count:
            return np.zeros((0, width), dtype)
        return np.ndarray((count, width), dtype, self.block, first, (stride, dtype.itemsize))

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
        todo = [(k, self._to_mesh) for k in roots]
        while todo:
            number, parent = todo.pop()
            if len(placed) >= len(nodes):
                raise ValueError("its nodes form a circle")
            matrix = parent @ _matrix(nodes[number])
            placed.append((number, matrix))
            todo += [(child, matrix) for child in nodes[number].get("children", [])]
        return sorted(placed, key=lambda item: item[0])

    def _weight_curves(self) -> dict[int, tuple[np.ndarray, np.ndarray]]:
        """Key times (K,) in s and weights (K, targets) by node, of the first animation with any."""
        targets: dict[int, int] = {}
        for primitive in self._primitives:
            count = len(primitive.shapes)
            if targets.setdefault(primitive.node, count) != count:
                raise ValueError("parts of one mesh have different numbers of morph targets")
        for animation in self.tree.get("animations", []):
            curves = {}
            for channel in animation["channels"]:
                node = channel["target"].get("node")
                if channel["target"].get("path") == "weights" and targets.get(node):
                    sampler = animation["samplers"][channel["sampler"]]
                    curves[node] = self._weight_curve(sampler, targets[node])
            if curves:
                return curves
        return {}

    def _weight_curve(self, sampler: dict[str, Any], targets: int) -> tuple[np.ndarray, np.ndarray]:
        """Key times (K,) and weights (K, targets) of a sampler."""
        times = self._accessor(sampler["input"]).astype(np.float64)
        values = self._accessor(sampler["output"]).astype(np.float32)
        interpolation = sampler.get("interpolation", "LINEAR")
        values = values.reshape(len(times), 3 if interpolation == "CUBICSPLINE" else 1, -1)
        # A spline stores tangents around each value. They are ignored: keys are as dense as frames.
        values = values[:, values.shape[1] // 2]
        if values.shape[1] != targets or not len(times):
            raise ValueError("an animation has not as many weights as morph targets")
        if not np.isfinite(times).all() or times[0] < 0 or (np.diff(times) <= 0).any():
            raise ValueError("key times that do not ascend")
        if not _within(values, MAX_MORPH_WEIGHT):
            raise ValueError("weights that are out of range")
        return _stairs(times, values) if interpolation == "STEP" else (times, values)

    def __len__(self) -> int:
        return self.shape[0]

    def chunks(self, frames: int = 64) -> Iterator[np.ndarray]:
        """Yield the vertices of consecutive frames, (≤ frames, V, 3) float32."""
        rest = np.asarray(self.rest, np.float32)
        frames = frames_per_chunk(frames, len(rest))
        for start in range(0, len(self), frames):
            times = np.arange(start, min(start + frames, len(self))) / self.fps
            chunk = np.repeat(rest[None], len(times), axis=0)
            for primitive in self._primitives:
                if not len(primitive.shapes):
                    continue
                weights = np.broadcast_to(primitive.weights, (len(times), len(primitive.shapes)))
                if primitive.node in self._curves:
                    keys, values = self._curves[primitive.node]
                    columns = [np.interp(times, keys, column) for column in values.T]
                    weights = np.stack(columns, axis=1)
                moved = np.tensordot(weights.astype(np.float32), primitive.shapes, 1)
                chunk[:, primitive.rows] += moved
            check_coordinates(self.path, chunk)
            yield chunk


def _first_of_each(origin: np.ndarray, count: int) -> np.ndarray:
    """The first row of each vertex number 0 … n in `origin` (N,); raise ValueError for gaps."""
    if origin.shape != (count,) or not np.isfinite(origin).all():
        raise ValueError("_VERTEX is not a number for each vertex")
    numbers, first = np.unique(origin, return_index=True)
    if not np.array_equal(numbers, np.arange(len(numbers))):
        raise ValueError("_VERTEX does not number the vertices")
    return first


def _within(values: np.ndarray, limit: float) -> bool:
    """Whether all numbers are finite and at most `limit` in absolute value."""
    return bool(np.abs(values).max(initial=0.0) <= limit)  # False for NaN


def _key_rate(times: np.ndarray) -> float:
    """Frame rate of key times (K,) with one key per frame, DEFAULT_GLB_FPS for others."""
    if len(times) < 2:
        return DEFAULT_GLB_FPS
    steps = np.diff(times)
    rate = 1 / float(np.median(steps))
    if np.abs(steps * rate - 1).max() < 0.05:  # steady: average out the rounding of each key
        rate = (len(times) - 1) / float(times[-1] - times[0])
    for nominal in (round(rate), round(rate) * 1000 / 1001):
        if abs(rate - nominal) < 2e-3:
            rate = nominal
    return float(rate) if KEY_RATE_RANGE[0] <= rate <= KEY_RATE_RANGE[1] else DEFAULT_GLB_FPS


def _stairs(times: np.ndarray, values: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Convert the keys of STEP interpolation to keys of linear interpolation.

    Each value is repeated just before the next key, so that it is held until then.
    """
    before = times[1:] - 1e-6 * np.diff(times)
    order = np.argsort(np.concatenate([times, before]), kind="stable")
    return np.concatenate([times, before])[order], np.concatenate([values, values[:-1]])[order]


def _matrix(node: dict[str, Any]) -> np.ndarray:
    """Matrix (4, 4) of a node: its own, or translation × rotation × scale."""
    from scipy.spatial.transform import Rotation

    if "matrix" in node:
        return np.array(node["matrix"], np.float64).reshape(4, 4).T
    matrix = np.eye(4)
    if "rotation" in node:
        matrix[:3, :3] = Rotation.from_quat(node["rotation"]).as_matrix()
    matrix[:3, :3] *= np.array(node.get("scale", (1, 1, 1)), np.float64)
    matrix[:3, 3] = np.array(node.get("translation", (0, 0, 0)), np.float64)
    return matrix
