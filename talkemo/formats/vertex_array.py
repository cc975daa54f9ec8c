"""Vertex sequences as .npy files, as VOCA, FaceFormer and other methods write them.

An array (T, 3·V) or (T, V, 3) of floats has neither triangles nor a frame rate; both are given.
"""

from __future__ import annotations

import os
from abc import ABC, abstractmethod
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
FPS_TOLERANCE = 1e-3  # relative, between a file's frame rate and the one that is named


class VertexFile(VertexSource, ABC):
    """Base class of a `Source` of vertices that a file has frame by frame, without triangles.

    Parameters
    ----------
    path : str or Path
    fps : float, optional
        Frame rate. Required unless the file has one.
    mesh : str, Path or Mesh, optional
        A mesh with the same vertices in the same order. Required as well.
    """

    noun: str  # what the file has, with an article, for messages
    kind: str  # what the file should be
    layout: str  # what is read, for the hint

    def __init__(
        self,
        path: str | Path,
        fps: float | None = None,
        mesh: str | Path | Mesh | None = None,
    ):
        name = printable(path)
        if mesh is None:
            raise InputError(f"{name}: {self.noun} has no triangles", "name its --mesh")
        with (
            open_file(path, self.kind, self.layout) as file,
            reading_errors(path, self.kind, self.layout),
        ):
            self._header, own_fps = self._read_header(file)
        fps = self._checked_fps(name, fps, own_fps)
        surface = mesh if isinstance(mesh, Mesh) else load_mesh(mesh)
        frames, numbers = self._header.shape[0], int(np.prod(self._header.shape[1:]))
        count = len(surface.vertices)
        if numbers != 3 * count:
            raise InputError(
                f"{name} has {numbers / 3:g} vertices, the mesh "
                f"{surface.name if isinstance(mesh, Mesh) else printable(mesh)} {count}",
                "name the mesh whose vertices it has",
            )
        super().__init__(Path(path), frames, fps, surface)

    @abstractmethod
    def _read_header(self, file: IO[bytes]) -> tuple[ArrayHeader, float | None]:
        """Read up to the first frame; return the array and the file's frame rate, if it has one.

        Raises ValueError for another file.
        """

    def _checked_fps(self, name: str, fps: float | None, own: float | None) -> float:
        """Return the frame rate; raise InputError if it is unknown, impossible or contradicted."""
        if fps is None and own is None:
            raise InputError(f"{name}: {self.noun} has no frame rate", "name its --fps")
        rate = fps if own is None else own
        assert rate is not None
        if not NPZ_FPS_RANGE[0] <= rate <= NPZ_FPS_RANGE[1]:
            if own is not None:
                raise InputError(f"{name}: {rate:g} frames per second", self.layout)
            raise InputError(
                f"{rate:g} frames per second",
                f"name an --fps from {NPZ_FPS_RANGE[0]:g} to {NPZ_FPS_RANGE[1]:g}",
            )
        if fps is not None and abs(fps - rate) > FPS_TOLERANCE * rate:
            raise InputError(f"{name} has {rate:g} frames per second", "leave --fps out")
        return float(rate)

    def chunks(self, frames: int = 64) -> Iterator[np.ndarray]:
        """Yield the vertices of consecutive frames, (≤ frames, V, 3) float32."""
        frames = frames_per_chunk(frames, self.shape[1])
        frame_bytes = self._header.dtype.itemsize * self.shape[1] * 3
        with open_file(self.path, self.kind, self.layout) as file:
            with reading_errors(self.path, self.kind, self.layout):
                if self._read_header(file)[0] != self._header:
                    raise ValueError("it was replaced while it was read")
            for start in range(0, len(self), frames):
                count = min(frames, len(self) - start)
                with reading_errors(self.path, self.kind, self.layout):
                    block = read_exactly(file, count * frame_bytes).view(self._header.dtype)
                    chunk = block.reshape(count, self.shape[1], 3).astype(np.float32)
                    check_coordinates(self.path, chunk)
                yield chunk


class VertexArray(VertexFile):
    """A `Source` that reads a .npy of vertices, with the triangles of a mesh."""

    noun, kind, layout = "an array of vertices", VERTEX_ARRAY_KIND, VERTEX_ARRAY_LAYOUT

    def _read_header(self, file: IO[bytes]) -> tuple[ArrayHeader, float | None]:
        header = read_array_header(file)
        shape = header.shape
        is_flat = len(shape) == 2 and shape[1] > 0 and shape[1] % 3 == 0
        if not (is_flat or (len(shape) == 3 and shape[2] == 3)) or header.dtype.kind != "f":
            raise ValueError(f"it is {header.dtype} {shape}")
        if header.fortran and shape[0] > 1:
            raise ValueError("it is in Fortran order")
        check_claims(file, header)
        return header, None


def check_claims(file: IO[bytes], header: ArrayHeader) -> None:
    """Raise ValueError if an open file has too many frames, or fewer than its header claims."""
    if header.shape[0] > MAX_NPZ_FRAMES:
        raise ValueError(f"{header.shape[0]} frames; up to {MAX_NPZ_FRAMES} are read")
    if header.size > os.fstat(file.fileno()).st_size - file.tell():
        raise ValueError("its header claims more than it holds")
