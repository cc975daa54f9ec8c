"""The arrays and tracks that are added to a glTF that exists, and a gltf with a bin beside it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any
from urllib.parse import quote

import numpy as np

from ..files.writing import check_output
from .animation import FileWriter, Header
from .gltf_builder import VERTEX_BUFFER, GlbBuilder
from .gltf_file import read_container
from .gltf_origin import GltfOrigin

UINT16_COMPONENT = 5123
DATA_ENDING = ".bin"  # of the file beside a gltf


class ExtendedGlb(GlbBuilder):
    """Adds arrays behind those of a file.

    Parameters
    ----------
    accessors, views : list of dict
        Those of the file, to which others are added.
    blocks : list of bytes
        The content of its first buffer.
    buffers : list of dict
        All of its buffers.
    """

    def __init__(
        self,
        accessors: list[dict[str, Any]],
        views: list[dict[str, Any]],
        blocks: list[bytes],
        buffers: list[dict[str, Any]],
    ) -> None:
        super().__init__()
        self.accessors, self.views = accessors, views
        self.blocks, self.buffers = blocks, buffers
        self.size = sum(map(len, blocks))
        self._zeros: dict[int, int] = {}  # accessors of zeros by their counts

    def zeros(self, count: int) -> int:
        """Return the accessor of `count` displacements of zero, without data."""
        if count not in self._zeros:
            self._zeros[count] = self.add_target(np.zeros((count, 3), np.float32))
        return self._zeros[count]

    def add_joints(self, joints: np.ndarray) -> int:
        """Return a new accessor of the numbers of joints (V, 4)."""
        if joints.max(initial=0) <= np.iinfo(np.uint8).max:
            return self.add_vertices(joints.astype(np.uint8))
        view = self._view(joints.astype(np.uint16), VERTEX_BUFFER)
        about = {"componentType": UINT16_COMPONENT, "count": len(joints), "type": "VEC4"}
        self.accessors.append({"bufferView": view, **about})
        return len(self.accessors) - 1


class WithDataFile(FileWriter):
    """Mixin of a writer of GLB that makes a gltf of it: JSON, and its data in a bin beside it."""

    def __init__(self, path: Path, header: Header, *arguments: Any):
        data, origin = path.with_suffix(DATA_ENDING), header.origin
        inputs = origin.companion_paths if isinstance(origin, GltfOrigin) else []
        check_output(data, (DATA_ENDING,), *inputs)
        super().__init__(path, header, *arguments)  # type: ignore[arg-type]
        self.data = self.companion(data)

    def finish(self) -> None:
        super().finish()
        tree, block = read_container(self.partial.path.read_bytes())
        tree["buffers"][0]["uri"] = quote(self.data.final.name)
        self.partial.path.write_text(json.dumps(tree), "utf-8")
        self.data.path.write_bytes(block)
