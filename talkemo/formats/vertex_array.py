"""Vertex sequences as .npy files, as VOCA, FaceFormer and other methods write them.

An array (T, 3·V) or (T, V, 3) of floats has neither triangles nor a frame rate; both are given.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import IO

import numpy as np

from ..errors import InputError
from ..files.arrays import ArrayHeader, read_array_header, read_exactly
from ..files.reading import open_file, printable, reading_errors
from .animation import VertexSource, check_coordinates, frames_per_chunk
from .mesh import load_mesh
from .mesh_types import Mesh
from .npz import MAX_NPZ_FRAMES, NPZ_FPS_RANGE

VERTEX_ARRAY_KIND = "a sequence of vertices"
VERTEX_ARRAY_LAYOUT = "a .npy with floats (T, 3·V) or (T, V, 3), in C order"


class VertexArray(VertexSource):
    """A `Source` that reads a .npy of vertices, with the triangles of a mesh.

    Parameters
    ----------
    path : str or Path
    fps : float, optional
        Frame rate. Required; None raises InputError.
    mesh : str, Path or Mesh, optional
        A mesh with the same vertices in the same order. Required as well.
    """

    def __init__(
        self,
        path: str | Path,
        fps: float | None = None,
        mesh: str | Path | Mesh | None = None,
    ):
        name = printable(path)
        if mesh is None:
            raise InputError(f"{name}: an array of vertices has no triangles", "name its --mesh")
        if fps is None:
            raise InputError(f"{name}: an array of vertices has no frame rate", "name its --fps")
        if not NPZ_FPS_RANGE[0] <= fps <= NPZ_FPS_RANGE[1]:
            raise InputError(
                f"{fps:g} frames per second",
                f"name an --fps from {NPZ_FPS_RANGE[0]:g} to {NPZ_FPS_RANGE[1]:g}",
            )
        surface = mesh if isinstance(mesh, Mesh) else load_mesh(mesh)
        with (
            open_file(path, VERTEX_ARRAY_KIND, VERTEX_ARRAY_LAYOUT) as file,
            reading_errors(path, VERTEX_ARRAY_KIND, VERTEX_ARRAY_LAYOUT),
        ):
            self._header = _read_header(file)
        frames, numbers = self._header.shape[0], int(np.prod(self._header.shape[1:]))
        count = len(surface.vertices)
        if numbers != 3 * count:
            raise InputError(
                f"{name} has {numbers / 3:g} vertices, the mesh "
                f"{surface.name if isinstance(mesh, Mesh) else printable(mesh)} {count}",
                "name the mesh whose vertices it has",
            )
        super().__init__(Path(path), frames, float(fps), surface)

    def chunks(self, frames: int = 64) -> Iterator[np.ndarray]:
        """Yield the vertices of consecutive frames, (≤ frames, V, 3) float32."""
        frames = frames_per_chunk(frames, self.shape[1])
        frame_bytes = self._header.dtype.itemsize * self.shape[1] * 3
        with open_file(self.path, VERTEX_ARRAY_KIND, VERTEX_ARRAY_LAYOUT) as file:
            with reading_errors(self.path, VERTEX_ARRAY_KIND, VERTEX_ARRAY_LAYOUT):
                if _read_header(file) != self._header:
                    raise ValueError("it was replaced while it was read")
            for start in range(0, len(self), frames):
                count = min(frames, len(self) - start)
                with reading_errors(self.path, VERTEX_ARRAY_KIND, VERTEX_ARRAY_LAYOUT):
                    block = read_exactly(file, count * frame_bytes).view(self._header.dtype)
                    chunk = block.reshape(count, self.shape[1], 3).astype(np.float32)
                    check_coordinates(self.path, chunk)
                yield chunk


def _read_header(file: IO[bytes]) -> ArrayHeader:
    """Read the header of a .npy of vertices. Raises ValueError for another array."""
    header = read_array_header(file)
    shape = header.shape
    is_flat = len(shape) == 2 and shape[1] > 0 and shape[1] % 3 == 0
    if not (is_flat or (len(shape) == 3 and shape[2] == 3)) or header.dtype.kind != "f":
        raise ValueError(f"it is {header.dtype} {shape}")
    if header.fortran and shape[0] > 1:
        raise ValueError("it is in Fortran order")
    if shape[0] > MAX_NPZ_FRAMES:
        raise ValueError(f"{shape[0]} frames; up to {MAX_NPZ_FRAMES} are read")
    if header.size > os.fstat(file.fileno()).st_size - file.tell():
        raise ValueError("its header claims more than it holds")
    return header
