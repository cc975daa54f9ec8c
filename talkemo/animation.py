"""An animation of a mesh, and its file: an npz without pickles, written frame by frame.

Keys: `vertices` (T, V, 3) float32 in the input mesh's own order, unit and position; `faces` (F, 3) int32; `fps`;
`landmarks68` (T, 68, 3) iBUG points on that mesh; `arkit` (T, 52) float32 with `arkit_names`; `meta`, JSON text.
"""

from __future__ import annotations

import json
import os
import zipfile
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import IO, TYPE_CHECKING, Any

import numpy as np

from .errors import InputError
from .face import ARKIT_NAMES
from .files import partial_name, readable

if TYPE_CHECKING:
    from typing_extensions import Self

LARGEST_ARRAY = 1 << 40  # bytes that an entry may claim


@dataclass(frozen=True, eq=False)
class Chunk:
    """Consecutive frames: vertices (T, V, 3) of the mesh, landmarks68 (T, 68, 3), arkit (T, 52) in [0, 1]."""

    vertices: np.ndarray
    landmarks68: np.ndarray
    arkit: np.ndarray


@dataclass(frozen=True, eq=False)
class Header:
    """What is known of an animation before its first frame."""

    frames: int
    fps: float
    faces: np.ndarray
    rest: np.ndarray  # (V, 3) the mesh at rest
    focus: np.ndarray  # (V,) bool, the vertices of the face: what a camera should look at
    meta: dict[str, Any]


class Writer:
    """Writes an animation to a file that appears under its name only when it is whole.

    Use as a context manager and call `write` for each chunk; leaving it by an exception leaves no file.
    """

    def __init__(self, path: Path):
        self.path = path
        self.partial = partial_name(path)

    def write(self, chunk: Chunk) -> None:
        """Append frames."""
        raise AssertionError(f"{type(self).__name__} does not say how it writes")

    def finish(self) -> None:
        """Complete the partial file."""

    def abort(self) -> None:
        """Let go of the partial file."""

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if kind is None:
            try:
                self.finish()
                os.replace(self.partial, self.path)
                return
            except BaseException:
                self._discard()
                raise
        self._discard()

    def _discard(self) -> None:
        with suppress(Exception):
            self.abort()
        self.partial.unlink(missing_ok=True)


class NpzWriter(Writer):
    """The animation as an npz, `vertices` streamed into it; landmarks and ARKit weights, a hundredth of it, are kept."""

    def __init__(self, path: Path, header: Header):
        super().__init__(path)
        self.header = header
        self.landmarks: list[np.ndarray] = []
        self.arkit: list[np.ndarray] = []
        self.zip = zipfile.ZipFile(self.partial, "w", zipfile.ZIP_STORED, allowZip64=True)
        self.entry: IO[bytes] = self.zip.open("vertices.npy", "w", force_zip64=True)
        shape = (header.frames, len(header.rest), 3)
        description = {"descr": "<f4", "fortran_order": False, "shape": shape}
        np.lib.format.write_array_header_1_0(self.entry, description)

    def write(self, chunk: Chunk) -> None:
        self.entry.write(np.ascontiguousarray(chunk.vertices, "<f4").data)
        self.landmarks.append(chunk.landmarks68)
        self.arkit.append(chunk.arkit)

    def finish(self) -> None:
        self.entry.close()
        rest = {
            "faces": self.header.faces.astype(np.int32),
            "fps": np.float64(self.header.fps),
            "landmarks68": np.concatenate(self.landmarks).astype(np.float32),
            "arkit": np.concatenate(self.arkit).astype(np.float32),
            "arkit_names": np.array(ARKIT_NAMES),
            "focus": self.header.focus,
            "meta": np.array(json.dumps(self.header.meta)),
        }
        for name, array in rest.items():
            with self.zip.open(f"{name}.npy", "w") as entry:
                np.lib.format.write_array(entry, np.asarray(array), allow_pickle=False)
        self.zip.close()

    def abort(self) -> None:
        self.entry.close()
        self.zip.close()


class Animation:
    """An animation read from an npz, ours or another's; only `vertices`, `faces` and `fps` must be in it."""

    def __init__(self, path: str | Path):
        self.path = Path(path)
        if not self.path.is_file():
            raise InputError(f"{path}: no such animation")
        layout = "an npz with vertices (T, V, 3), faces (F, 3) and fps"
        with readable(path, "an animation of talkemo", layout):
            with np.load(self.path, allow_pickle=False) as file:
                self.faces = file["faces"].astype(np.int32)
                self.fps = float(file["fps"])
                self.meta = json.loads(str(file["meta"])) if "meta" in file else {}
                self.focus = file.get("focus")
            with zipfile.ZipFile(self.path) as archive, archive.open("vertices.npy") as entry:
                self.shape, self.dtype = _array_header(entry)
        if len(self.shape) != 3 or self.shape[2] != 3 or self.faces.ndim != 2 or self.faces.shape[1] != 3:
            raise InputError(
                f"{path}: vertices are {self.shape} and faces {self.faces.shape}, not (T, V, 3) and (F, 3)"
            )
        if (
            not 0 < self.fps < np.inf
            or not self.shape[1]
            or (len(self.faces) and not 0 <= self.faces.min() <= self.faces.max() < self.shape[1])
        ):
            raise InputError(f"{path}: fps or faces are out of range")

    def __len__(self) -> int:
        return self.shape[0]

    def chunks(self, frames: int = 64) -> Iterator[np.ndarray]:
        """Consecutive vertices (≤ frames, V, 3) float32."""
        size = self.dtype.itemsize * self.shape[1] * 3
        with zipfile.ZipFile(self.path) as archive, archive.open("vertices.npy") as entry:
            _array_header(entry)
            for start in range(0, len(self), frames):
                count = min(frames, len(self) - start)
                block = entry.read(count * size)
                if len(block) < count * size:
                    raise InputError(f"{self.path}: cut off after {start} frames")
                yield np.frombuffer(block, self.dtype).reshape(count, self.shape[1], 3).astype(np.float32)

    def vertices(self) -> np.ndarray:
        """All vertices (T, V, 3) float32."""
        return np.concatenate(list(self.chunks()))


def _array_header(entry: IO[bytes]) -> tuple[tuple[int, ...], np.dtype]:
    """Shape and type of a .npy stream, which then stands at its first number."""
    version = np.lib.format.read_magic(entry)
    read = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
    shape, fortran, dtype = read(entry)
    if fortran or dtype.kind != "f" or np.prod(shape, dtype=float) * dtype.itemsize > LARGEST_ARRAY:
        raise ValueError("vertices are not a C-ordered array of floats")
    return shape, dtype
