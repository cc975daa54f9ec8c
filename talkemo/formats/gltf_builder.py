"""Collects the arrays of a GLB, and writes the file."""

from __future__ import annotations

import json
import struct
from pathlib import Path
from typing import Any

import numpy as np

from .gltf_file import ACCESSOR_WIDTHS, BINARY_CHUNK, GLTF_MAGIC, JSON_CHUNK

COMPONENT_CODES = {"f4": 5126, "u4": 5125, "u1": 5121}  # of glTF, by numpy's types
FLOAT_COMPONENT, UINT_COMPONENT = COMPONENT_CODES["f4"], COMPONENT_CODES["u4"]
ACCESSOR_TYPES = {width: name for name, width in ACCESSOR_WIDTHS.items()}
VERTEX_BUFFER, INDEX_BUFFER = 34962, 34963  # glTF's codes of a buffer of vertices, of triangles
MAX_SPARSE_FRACTION = 0.7  # of moving vertices up to which a morph target is stored sparsely


class GlbBuilder:
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
        """Return a new accessor of an array (N,) or (N, 2 to 4 or 16) of one of COMPONENT_CODES.

        `target` is VERTEX_BUFFER, INDEX_BUFFER, or None for what is neither.
        """
        width = array.shape[1] if array.ndim == 2 else 1
        accessor = {
            "bufferView": self._view(array, target),
            "componentType": COMPONENT_CODES[array.dtype.str[1:]],
            "count": len(array),
            "type": ACCESSOR_TYPES[width],
        }
        self.accessors.append({**accessor, **(_bounds(array) if bounds else {})})
        return len(self.accessors) - 1

    def add_vertices(self, array: np.ndarray, bounds: bool = False) -> int:
        """Return a new accessor of an attribute of vertices (V,) or (V, 2 to 4)."""
        return self.add(array, bounds, VERTEX_BUFFER)

    def add_triangles(self, faces: np.ndarray) -> int:
        """Return a new accessor of the corners of triangles (F, 3)."""
        return self.add(faces.astype(np.uint32).ravel(), target=INDEX_BUFFER)

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
            accessor = {"bufferView": self._view(target, VERTEX_BUFFER), **accessor}
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
