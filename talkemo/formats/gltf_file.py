"""The JSON tree and the arrays of a glTF 2.0 file: glb, gltf and vrm.

A GLB is a header, a JSON text and a block of bytes; a gltf is a JSON text whose data are in base 64
or in files beside it. Every size in the file is checked before it is used. Section numbers refer to
the glTF 2.0 specification.
"""

from __future__ import annotations

import base64
import struct
from pathlib import Path
from typing import Any
from urllib.parse import unquote, unquote_to_bytes

import numpy as np

from ..errors import InputError
from ..files.arrays import max_loaded_bytes
from ..files.reading import parse_json, printable, read_bytes
from .gltf_compression import decode_draco, decode_meshopt
from .mesh_types import MAX_IMAGE_BYTES, MAX_MESH_FILE_BYTES, companion_path

MAX_GLB_BYTES = 1 << 31
MAX_GLTF_JSON_BYTES = 1 << 25  # of a GLB; that of a gltf contains data as well
GLTF_MAGIC, JSON_CHUNK, BINARY_CHUNK = 0x46546C67, 0x4E4F534A, 0x004E4942
COMPONENT_TYPES = {5120: "i1", 5121: "u1", 5122: "<i2", 5123: "<u2", 5125: "<u4", 5126: "<f4"}
ACCESSOR_WIDTHS = {"SCALAR": 1, "VEC2": 2, "VEC3": 3, "VEC4": 4, "MAT4": 16}
UNREAD_WIDTHS = {"MAT2": 4, "MAT3": 9}  # of accessors that no mesh or animation uses
DRACO = "KHR_draco_mesh_compression"
MESHOPT = "EXT_meshopt_compression"
# Extensions without which a mesh is read rightly, or that are read. Anything else that a file
# requires is refused.
KNOWN_EXTENSIONS = {
    *(DRACO, MESHOPT, "KHR_mesh_quantization", "KHR_texture_transform"),
    *("EXT_texture_webp", "KHR_texture_basisu", "EXT_texture_avif", "MSFT_texture_dds", "VRM"),
    *("KHR_xmp_json_ld", "KHR_node_visibility", "KHR_animation_pointer", "MSFT_lod"),
}
KNOWN_EXTENSION_FAMILIES = ("KHR_materials_", "KHR_lights_", "EXT_lights_", "VRMC_")


def read_container(content: bytes) -> tuple[dict[str, Any], memoryview]:
    """Return the JSON tree and the block of bytes of a GLB; raise ValueError if malformed."""
    if len(content) < 20:
        raise ValueError("not a glTF 2.0 binary")
    magic, version, length = struct.unpack_from("<3I", content)
    if magic != GLTF_MAGIC or version != 2:
        raise ValueError("not a glTF 2.0 binary")
    if length > len(content):
        raise ValueError(f"it is cut: {len(content)} of {length} bytes are there")
    size, kind = struct.unpack_from("<2I", content, 12)
    if kind != JSON_CHUNK or size > min(len(content) - 20, MAX_GLTF_JSON_BYTES):
        raise ValueError("its first chunk is not JSON, or too long")
    tree = as_object(parse_json(content[20 : 20 + size]))
    if 28 + size <= len(content):
        count, kind = struct.unpack_from("<2I", content, 20 + size)
        if kind == BINARY_CHUNK:
            if 28 + size + count > len(content):
                raise ValueError(f"its data are cut: {len(content) - 28 - size} of {count} bytes")
            return tree, memoryview(content)[28 + size : 28 + size + count]
    return tree, memoryview(b"")


class GltfFile:
    """Checked access to the JSON tree and the arrays of a file.

    Its methods raise InputError, ValueError, or whatever Python raises for a tree of another form;
    use it within `reading_errors`.

    Attributes
    ----------
    tree : dict
    companions : dict of str to bytes
        Content of the files beside it that were read, by their URI.
    buffers : list of memoryview or None
        None for one whose views are all compressed elsewhere.
    notes : list of str
        What was left out, as sentences for the user.
    """

    def __init__(self, path: Path, content: bytes, companions: dict[str, bytes] | None = None):
        self.path = path
        self.notes: list[str] = []
        self._block = memoryview(b"")
        if path.suffix.lower() == ".gltf":
            self.tree = as_object(parse_json(content))
        else:
            self.tree, self._block = read_container(content)
        self._file_bytes = len(content)  # with those of its companions
        self.companions = dict(companions or {})
        self._decoded: dict[int, bytes] = {}  # buffer views that were compressed
        self._draco: dict[int, dict[str, np.ndarray]] = {}  # arrays by buffer view
        self._check_version()
        self.buffers = [self._buffer(k) for k in range(len(self.tree.get("buffers", [])))]
        self._check_lengths()

    @property
    def max_bytes(self) -> int:
        """How many bytes the arrays of the file may take in memory."""
        return min(max_loaded_bytes(self._file_bytes), MAX_GLB_BYTES)

    def _check_version(self) -> None:
        """Raise InputError for another version than 2, and for extensions that are not read."""
        asset = self.tree.get("asset")
        version = str(asset.get("version", "2.0")) if isinstance(asset, dict) else "2.0"
        if version.split(".")[0] != "2":
            raise InputError(
                f"{printable(self.path)}: glTF of version {printable(version, 9)}",
                "talkemo reads version 2.0; convert it, for example with Blender",
            )
        required = [str(name) for name in self.tree.get("extensionsRequired", [])]
        unknown = sorted(
            name
            for name in set(required) - KNOWN_EXTENSIONS
            if not name.startswith(KNOWN_EXTENSION_FAMILIES)
        )
        if unknown:
            raise InputError(
                f"{printable(self.path)}: it needs {printable(', '.join(unknown))}, which is not "
                "supported",
                "export it without this extension",
            )

    def _check_lengths(self) -> None:
        """Raise ValueError for a length or an offset beyond the file, also of what is not used."""
        for number, buffer in enumerate(self.buffers):
            claimed = _count(self.item("buffers", number).get("byteLength", 0))
            if buffer is not None and claimed > len(buffer):
                raise ValueError(f"buffer {number} claims {claimed} bytes and has {len(buffer)}")
        sizes = [self._view_bytes(k) for k in range(len(self.tree.get("bufferViews", [])))]
        for number in range(len(self.tree.get("accessors", []))):
            self._check_accessor(number, sizes)
        for number in range(len(self.tree.get("images", []))):
            image = self.item("images", number)
            if "bufferView" in image:
                self.item("bufferViews", image["bufferView"])

    def _view_bytes(self, number: int) -> int:
        """Return the size of a buffer view once it is decompressed, after checking its place."""
        view = self.item("bufferViews", number)
        compressed = as_object(view.get("extensions", {})).get(MESHOPT)
        if compressed is None:
            return len(self._slice(view))
        self._slice(as_object(compressed))
        return self._decompressed_bytes(compressed)

    def _check_accessor(self, number: int, sizes: list[int]) -> None:
        """Raise ValueError for an accessor that reaches beyond the buffer views of these sizes."""
        accessor = self.item("accessors", number)
        count, element = _count(accessor["count"]), _element_bytes(accessor)
        if count * element > self.max_bytes:
            raise ValueError("an accessor larger than any mesh")
        self._check_reference(accessor, count, element, sizes)
        if "sparse" in accessor:
            sparse = as_object(accessor["sparse"])
            changed, indices = _count(sparse["count"]), as_object(sparse["indices"])
            index = np.dtype(COMPONENT_TYPES[indices["componentType"]]).itemsize
            self._check_reference(indices, changed, index, sizes)
            self._check_reference(as_object(sparse["values"]), changed, element, sizes)

    def _check_reference(
        self, reference: dict[str, Any], count: int, element: int, sizes: list[int]
    ) -> None:
        """Raise ValueError if elements of some bytes reach beyond their buffer view."""
        if "bufferView" not in reference or not count:
            return
        view = self.item("bufferViews", reference["bufferView"])
        stride = _count(view.get("byteStride", element))
        first = _count(reference.get("byteOffset", 0))
        if first + (count - 1) * stride + element > sizes[reference["bufferView"]]:
            raise ValueError("an accessor reaches beyond its data")

    # ------------------------------------------------------------------------------------ content

    def item(self, kind: str, number: Any) -> dict[str, Any]:
        """Return an object of one of the tree's lists; raise ValueError if it does not exist."""
        items = self.tree.get(kind, [])
        if not isinstance(number, int) or not 0 <= number < len(items):
            raise ValueError(f"it has no {kind} {printable(number, 20)}")
        return as_object(items[number])

    def _buffer(self, number: int) -> memoryview | None:
        """The content of a buffer; None for one whose views are all compressed elsewhere."""
        buffer = self.item("buffers", number)
        if "uri" in buffer:
            return memoryview(self.uri_content(buffer["uri"]))
        if number == 0 and len(self._block):
            return self._block
        return None

    def uri_content(self, uri: str) -> bytes:
        """Return the content of a URI: data in the text, or a file beside this one.

        Raises InputError for a file that is not in the folder of this one or below.
        """
        if uri.startswith("data:"):
            head, _, text = uri.partition(",")
            return base64.b64decode(text) if ";base64" in head else unquote_to_bytes(text)
        if uri not in self.companions:
            bytes_left = MAX_MESH_FILE_BYTES - sum(map(len, self.companions.values()))
            file = companion_path(self.path, uri, bytes_left)
            file = file or companion_path(self.path, unquote(uri), bytes_left)
            if file is None:
                raise InputError(
                    f"{printable(self.path)}: it needs the file {printable(uri, 60)}, which is "
                    "not beside it",
                    "copy all its files together, or export it as one .glb",
                )
            content = read_bytes(file, "a part of a mesh", "copy all its files together", 1 << 40)
            self.companions[uri] = content
            self._file_bytes += len(content)
        return self.companions[uri]

    def image(self, number: Any) -> bytes:
        """Return the content of an image's file."""
        image = self.item("images", number)
        if "bufferView" in image:
            content = bytes(self._view(image["bufferView"])[0])
        else:
            content = self.uri_content(image["uri"])
        if len(content) > MAX_IMAGE_BYTES:
            raise ValueError("an image out of range")
        return content

    def _view(self, number: Any) -> tuple[memoryview | bytes, int | None]:
        """The content of a buffer view, and the bytes from one element to the next if it says."""
        view = self.item("bufferViews", number)
        stride = None if "byteStride" not in view else _count(view["byteStride"])
        compressed = view.get("extensions", {}).get(MESHOPT)
        if compressed is not None:
            if number not in self._decoded:
                self._decoded[number] = self._decompressed(compressed)
            return self._decoded[number], stride or _count(compressed["byteStride"])
        return self._slice(view), stride

    def _slice(self, view: dict[str, Any]) -> memoryview:
        """The bytes of a buffer that a buffer view, or its compressed form, refers to."""
        number = view.get("buffer")
        self.item("buffers", number)
        buffer = self.buffers[number]  # type: ignore[index]
        start, size = _count(view.get("byteOffset", 0)), _count(view["byteLength"])
        if buffer is None or start + size > len(buffer):
            raise ValueError(f"buffer {number} is shorter than the data in it")
        return buffer[start : start + size]

    def _decompressed(self, view: dict[str, Any]) -> bytes:
        """The content of a buffer view that meshoptimizer compressed."""
        self._decompressed_bytes(view)
        count, stride = _count(view["count"]), _count(view["byteStride"])
        mode, filter_name = str(view["mode"]), str(view.get("filter", "NONE"))
        return decode_meshopt(bytes(self._slice(view)), count, stride, mode, filter_name)

    def _decompressed_bytes(self, view: dict[str, Any]) -> int:
        """The size of such a buffer view when it is decompressed, after checking it."""
        size = _count(view["count"]) * _count(view["byteStride"])
        if size > self.max_bytes:
            raise ValueError("a buffer view larger than any mesh")
        return size

    # ---------------------------------------------------------------------------------- accessors

    def accessor(self, number: Any) -> np.ndarray:
        """Return the values of an accessor, (N,) or (N, width); normalised integers as floats.

        Sections 3.6.2 and 3.11 (integers that stand for fractions).
        """
        accessor = self.item("accessors", number)
        count, width = _count(accessor["count"]), ACCESSOR_WIDTHS[accessor["type"]]
        dtype = np.dtype(COMPONENT_TYPES[accessor["componentType"]])
        if count * width * dtype.itemsize > self.max_bytes:
            raise ValueError("an accessor larger than any mesh")
        if "bufferView" in accessor:
            values = self._elements(accessor, dtype, count, width)
        else:
            values = np.zeros((count, width), dtype)
        if "sparse" in accessor:
            sparse = accessor["sparse"]
            changed = _count(sparse["count"])
            index_type = np.dtype(COMPONENT_TYPES[sparse["indices"]["componentType"]])
            if changed > count or index_type.kind != "u":
                raise ValueError("an accessor with more changes than values, or none by number")
            rows = self._elements(sparse["indices"], index_type, changed, 1)[:, 0]
            values = values.copy()
            values[rows] = self._elements(sparse["values"], dtype, changed, width)
        values = _fractions(values, accessor)
        return values[:, 0] if width == 1 else values

    def count(self, number: Any) -> int:
        """Return how many elements an accessor claims to have."""
        return _count(self.item("accessors", number)["count"])

    def _elements(
        self, reference: dict[str, Any], dtype: np.dtype, count: int, width: int
    ) -> np.ndarray:
        """Elements (count, width) of the buffer view that an accessor refers to."""
        content, stride = self._view(reference["bufferView"])
        first, row = _count(reference.get("byteOffset", 0)), width * dtype.itemsize
        stride = row if stride is None else stride
        if stride < row:
            raise ValueError("the elements of an accessor overlap")
        if not count:
            return np.zeros((0, width), dtype)
        if first + (count - 1) * stride + row > len(content):
            raise ValueError("an accessor reaches beyond its data")
        return np.ndarray((count, width), dtype, content, first, (stride, dtype.itemsize))

    # --------------------------------------------------------------------------------- primitives

    def attribute(self, primitive: dict[str, Any], name: str) -> np.ndarray | None:
        """Return a vertex attribute of a primitive, compressed by Draco or not; None if absent."""
        number = primitive["attributes"].get(name)
        if number is None:
            return None
        decoded = self._decoded_by_draco(primitive)
        if name not in decoded:
            return self.accessor(number)
        accessor = self.item("accessors", number)
        if len(decoded[name]) != self.count(number):
            raise ValueError(f"{name} of Draco has another length than it says")
        return _fractions(decoded[name], accessor)

    def indices(self, primitive: dict[str, Any]) -> np.ndarray | None:
        """Return the indices (N,) of a primitive's corners; None if its vertices are in order."""
        decoded = self._decoded_by_draco(primitive)
        if decoded:
            return decoded["indices"]
        if "indices" not in primitive:
            return None
        indices = self.accessor(primitive["indices"])
        if indices.dtype.kind != "u" or indices.ndim != 1:
            raise ValueError("triangles are not unsigned integers")
        return indices

    def _decoded_by_draco(self, primitive: dict[str, Any]) -> dict[str, np.ndarray]:
        """The arrays of a primitive that Draco compressed, with its `indices`; {} without Draco."""
        compressed = primitive.get("extensions", {}).get(DRACO)
        if compressed is None:
            return {}
        number = compressed["bufferView"]
        if number not in self._draco:
            vertices = self.count(primitive["attributes"]["POSITION"])
            corners = self.count(primitive["indices"]) if "indices" in primitive else 3 * vertices
            content = bytes(self._view(number)[0])
            self._draco[number] = decode_draco(
                self.path, content, compressed["attributes"], vertices, corners
            )
        return self._draco[number]


def as_object(value: Any, name: str = "a part of its JSON") -> dict[str, Any]:
    """Return a JSON object. Raises ValueError, with its name, for another value."""
    if not isinstance(value, dict):
        raise ValueError(f"{name} is not an object")
    return value


def _count(value: Any) -> int:
    """A number of bytes or elements; raise ValueError for anything else."""
    if isinstance(value, bool) or not isinstance(value, int | float) or value != int(value):
        raise ValueError("a length that is no whole number")
    if value < 0:
        raise ValueError("a negative length")
    return int(value)


def _element_bytes(accessor: dict[str, Any]) -> int:
    """The least bytes of an element of an accessor."""
    width = {**ACCESSOR_WIDTHS, **UNREAD_WIDTHS}[accessor["type"]]
    return width * np.dtype(COMPONENT_TYPES[accessor["componentType"]]).itemsize


def _fractions(values: np.ndarray, accessor: dict[str, Any]) -> np.ndarray:
    """Integers of a normalised accessor as fractions in [-1, 1], all other values as they are."""
    if not accessor.get("normalized") or values.dtype.kind not in "iu":
        return values
    largest = np.float32(np.iinfo(values.dtype).max)
    return np.maximum(values.astype(np.float32) / largest, np.float32(-1))
