"""The arrays of a glTF that is written, and its container: glb, vrm, or gltf with a bin beside it."""

from __future__ import annotations

import json
import struct
from pathlib import Path
from types import TracebackType
from typing import Any
from urllib.parse import quote

import numpy as np

from ..files.writing import PartialOutput, check_output
from .animation import FileWriter, output_errors
from .gltf_file import ACCESSOR_WIDTHS, BINARY_CHUNK, COMPONENT_TYPES, GLTF_MAGIC, JSON_CHUNK

COMPONENT_CODES = {np.dtype(name).str[1:]: code for code, name in COMPONENT_TYPES.items()}
FLOAT_COMPONENT, UINT_COMPONENT = COMPONENT_CODES["f4"], COMPONENT_CODES["u4"]
ACCESSOR_TYPES = {width: name for name, width in ACCESSOR_WIDTHS.items()}
INDEX_BUFFER = 34963  # glTF's code of a buffer of triangles
MAX_SPARSE_FRACTION = 0.7  # of moving vertices up to which a morph target is stored sparsely
DATA_ENDING = ".bin"  # of the file beside a gltf


class GltfArrays:
    """Collects arrays for the block of bytes of a glTF, and their views and accessors.

    Those of a file that exists are given by its accessors, views and blocks; new ones follow them.
    """

    def __init__(
        self,
        accessors: list[dict[str, Any]] | None = None,
        views: list[dict[str, Any]] | None = None,
        blocks: list[bytes | memoryview] | None = None,
    ) -> None:
        self.accessors = [] if accessors is None else accessors
        self.views = [] if views is None else views
        self.blocks: list[bytes | memoryview] = blocks or []
        self.size = sum(map(len, self.blocks))
        self._zeros: dict[int, int] = {}  # accessors of zeros by their counts

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

    def zeros(self, count: int) -> int:
        """Return the accessor of `count` displacements of zero, without data."""
        if count not in self._zeros:
            self._zeros[count] = self.add_target(np.zeros((count, 3), np.float32))
        return self._zeros[count]


def _bounds(array: np.ndarray) -> dict[str, list[float]]:
    rows = array if array.ndim == 2 else array[:, None]
    return {"min": rows.min(0).tolist(), "max": rows.max(0).tolist()}


class AnimationTracks:
    """The channels and samplers of one animation whose tracks have a key per frame.

    Attributes
    ----------
    animation : dict
    """

    def __init__(self, arrays: GltfArrays, times: np.ndarray):
        self.arrays = arrays
        self.time_accessor = arrays.add(times.astype(np.float32), bounds=True)
        self.animation: dict[str, Any] = {"channels": [], "samplers": []}

    def add(self, node: int, path: str, values: np.ndarray) -> int:
        """Add a track of values, one row per frame; return the number of its sampler."""
        sampler = {
            "input": self.time_accessor,
            "output": self.arrays.add(values),
            "interpolation": "LINEAR",
        }
        self.animation["samplers"].append(sampler)
        return self.add_same(node, path, len(self.animation["samplers"]) - 1)

    def add_same(self, node: int, path: str, sampler: int) -> int:
        """Add the track of a sampler that exists; return its number."""
        target = {"node": node, "path": path}
        self.animation["channels"].append({"sampler": sampler, "target": target})
        return sampler


class GltfFileWriter(FileWriter):
    """Base class of writers of glb, vrm and gltf; the data of a gltf lie in a bin beside it."""

    def __init__(self, path: Path):
        data = path.with_suffix(DATA_ENDING)
        has_data_file = path.suffix.lower() == ".gltf"
        if has_data_file:
            check_output(data, (DATA_ENDING,))
        super().__init__(path)
        self.data = PartialOutput(data, together_with=path) if has_data_file else None

    def store(self, tree: dict[str, Any], arrays: GltfArrays, buffers: list[Any]) -> None:
        """Write a JSON tree with arrays.

        `buffers` are those of the tree, the arrays' first.
        """
        tree |= {"accessors": arrays.accessors, "bufferViews": arrays.views}
        first = {**buffers[0], "byteLength": arrays.size}
        if self.data is not None:
            first["uri"] = quote(self.data.final.name)
        tree["buffers"] = [first, *buffers[1:]]
        text = json.dumps(tree, separators=(",", ":")).encode()
        if self.data is not None:
            self.partial.path.write_bytes(text)
            with self.data.path.open("wb") as file:
                file.writelines(arrays.blocks)
            return
        text += b" " * (-len(text) % 4)
        with self.partial.path.open("wb") as file:
            file.write(struct.pack("<3I", GLTF_MAGIC, 2, 28 + len(text) + arrays.size))
            file.write(struct.pack("<2I", len(text), JSON_CHUNK) + text)
            file.write(struct.pack("<2I", arrays.size, BINARY_CHUNK))
            file.writelines(arrays.blocks)

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        try:
            if kind is None and self.data is not None:
                self.complete()
                with output_errors(self.data.final):
                    self.data.finish()
            super().__exit__(kind, error, trace)
        finally:
            if self.data is not None:
                self.data.discard()
