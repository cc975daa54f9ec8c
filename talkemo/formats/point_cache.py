"""Point caches: every frame's vertices in a file, as MDD (LightWave) and PC2 (3ds Max, Blender).

Both hold the coordinates of the mesh's own file, in its order, axes and unit, with the head and the
eyes rotated as in a video. The mesh is not in the file. All numbers are 32-bit:

    MDD, big-endian: number of frames, number of vertices, the time of each frame in s, x y z of
    each vertex of each frame
    PC2, little-endian: "POINTCACHE2" and a zero byte, 1 (the version), number of vertices, first
    frame, frames per sample (two floats), number of frames, x y z of each vertex of each frame

Sources: the Mesh Cache modifier in Blender's manual; the PC2 page of the Point Cache 2 plug-in for
3ds Max (footools.com).
"""

from __future__ import annotations

import struct
from abc import ABC, abstractmethod
from pathlib import Path
from typing import IO, ClassVar

import numpy as np

from ..files.arrays import ArrayHeader, read_exactly
from .animation import FileWriter, Frames, Header
from .npz import MAX_NPZ_FRAMES
from .vertex_array import VertexFile, check_claims

PC2_SIGNATURE = b"POINTCACHE2\0"
PC2_VERSION = 1
PC2_HEADER = struct.Struct("<12siiffi")
MDD_HEADER = struct.Struct(">ii")


class PointCacheWriter(FileWriter, ABC):
    """Base class: writes the frames' vertices after what `preamble` returns."""

    dtype: ClassVar[str]  # of the coordinates

    def __init__(self, path: Path, header: Header):
        super().__init__(path)
        self.turn = header.turn
        self.file: IO[bytes] = self.partial.path.open("wb")
        self.file.write(self.preamble(header))

    @abstractmethod
    def preamble(self, header: Header) -> bytes:
        """Return the bytes before the first frame."""

    def write(self, frames: Frames) -> None:
        for k in range(len(frames.vertices)):
            vertices = frames.turned(k, self.turn)
            self.file.write(np.ascontiguousarray(vertices, self.dtype).tobytes())

    def finish(self) -> None:
        self.file.close()

    def close(self) -> None:
        self.file.close()


class MddWriter(PointCacheWriter):
    """Writes an .mdd."""

    dtype = ">f4"

    def preamble(self, header: Header) -> bytes:
        """Return the counts and the frames' times."""
        times = np.arange(header.frames) / header.fps
        return MDD_HEADER.pack(header.frames, len(header.rest)) + times.astype(">f4").tobytes()


class Pc2Writer(PointCacheWriter):
    """Writes a .pc2, a sample per frame."""

    dtype = "<f4"

    def preamble(self, header: Header) -> bytes:
        """Return the header."""
        count = len(header.rest)
        return PC2_HEADER.pack(PC2_SIGNATURE, PC2_VERSION, count, 0.0, 1.0, header.frames)


class MddAnimation(VertexFile):
    """A `Source` that reads an .mdd, with the triangles of a mesh."""

    noun, kind, layout = "a point cache", "a point cache (.mdd)", "export it again"

    def _read_header(self, file: IO[bytes]) -> tuple[ArrayHeader, float | None]:
        frames, count = MDD_HEADER.unpack(read_exactly(file, MDD_HEADER.size).tobytes())
        header = _array(frames, count, ">f4")
        times = read_exactly(file, 4 * frames).view(">f4").astype(np.float64)
        check_claims(file, header)
        steps = np.diff(times)
        if not np.isfinite(times).all() or (steps <= 0).any():
            raise ValueError("the times of its frames do not increase")
        # Rounded, because times of 32 bits are.
        return header, float(f"{1 / steps.mean():.6g}") if len(steps) else None


class Pc2Animation(VertexFile):
    """A `Source` that reads a .pc2, with the triangles of a mesh."""

    noun, kind, layout = "a point cache", "a point cache (.pc2)", "export it again"

    def _read_header(self, file: IO[bytes]) -> tuple[ArrayHeader, float | None]:
        fields = PC2_HEADER.unpack(read_exactly(file, PC2_HEADER.size).tobytes())
        signature, _, count, _, _, frames = fields
        if signature != PC2_SIGNATURE:
            raise ValueError("it does not begin with POINTCACHE2")
        header = _array(frames, count, "<f4")
        check_claims(file, header)
        return header, None


def _array(frames: int, count: int, dtype: str) -> ArrayHeader:
    """The header of the frames' coordinates. Raises ValueError for impossible counts."""
    if not 0 < frames <= MAX_NPZ_FRAMES or count <= 0:
        raise ValueError(f"it claims {frames} frames of {count} vertices")
    return ArrayHeader((frames, count, 3), np.dtype(dtype), False)
