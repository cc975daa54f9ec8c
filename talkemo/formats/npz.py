"""Animations as npz files without pickles, written frame by frame.

Keys: `vertices` (T, N, 3) float32 in the input mesh's own order, unit and position; `faces` (F, 3) int32; `fps`;
`landmarks68` (T, 68, 3) iBUG points on that mesh; `arkit` (T, 52) float32 with `arkit_names`; `rest` (N, 3), the mesh
without motion; `focus` (N,) bool, the vertices of the face; `facing` (3, 3), the rotation of the face in the mesh;
`meta`, JSON text.
"""

from __future__ import annotations

import json
import shutil
import tempfile
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

import numpy as np

from ..errors import InputError
from ..face import ARKIT_NAMES
from ..files import readable
from .animation import FileWriter, Frames, Header, facing_of

if TYPE_CHECKING:
    from .mesh import Appearance

LARGEST_ARRAY = 1 << 40  # bytes that an entry may claim


class NpzWriter(FileWriter):
    """Streams an animation into an npz: vertices at once, landmarks and ARKit weights by way of temporary files."""

    def __init__(self, path: Path, header: Header):
        super().__init__(path)
        self.header = header
        self.zip = zipfile.ZipFile(self.partial.path, "w", zipfile.ZIP_STORED, allowZip64=True)
        self.entry: IO[bytes] = self.zip.open("vertices.npy", "w", force_zip64=True)
        _write_array_header(self.entry, (header.frames, len(header.rest), 3))
        # A zip is written one entry after the other; what belongs into later ones waits beside it.
        self.waiting = {
            name: tempfile.TemporaryFile(dir=path.parent)  # noqa: SIM115 (closed by `close`)
            for name in ("landmarks68", "arkit")
        }

    def write(self, frames: Frames) -> None:
        self.entry.write(np.ascontiguousarray(frames.vertices, "<f4").data)
        self.waiting["landmarks68"].write(np.ascontiguousarray(frames.landmarks68, "<f4").data)
        self.waiting["arkit"].write(np.ascontiguousarray(frames.arkit, "<f4").data)

    def finish(self) -> None:
        header = self.header
        self.entry.close()
        for name, width in (("landmarks68", (68, 3)), ("arkit", (len(ARKIT_NAMES),))):
            self.waiting[name].seek(0)
            with self.zip.open(f"{name}.npy", "w", force_zip64=True) as entry:
                _write_array_header(entry, (header.frames, *width))
                shutil.copyfileobj(self.waiting[name], entry, 1 << 20)
        rest = {
            "faces": header.faces.astype(np.int32),
            "fps": np.float64(header.fps),
            "arkit_names": np.array(ARKIT_NAMES),
            "focus": header.focus,
            "rest": header.rest.astype(np.float32),
            "meta": np.array(json.dumps(header.meta)),
            **({} if header.facing is None else {"facing": np.asarray(header.facing, np.float64)}),
        }
        for name, array in rest.items():
            with self.zip.open(f"{name}.npy", "w") as entry:
                np.lib.format.write_array(entry, np.asarray(array), allow_pickle=False)
        self.zip.close()

    def close(self) -> None:
        for file in self.waiting.values():
            file.close()
        self.entry.close()
        self.zip.close()


def _write_array_header(entry: IO[bytes], shape: tuple[int, ...]) -> None:
    """Begin a .npy of float32 in a zip."""
    description = {"descr": "<f4", "fortran_order": False, "shape": shape}
    np.lib.format.write_array_header_1_0(entry, description)


class NpzAnimation:
    """An animation read from an npz, ours or another's; only `vertices`, `faces` and `fps` must be in it.

    A `Source`.
    """

    def __init__(self, path: str | Path):
        self.path = Path(path)
        if not self.path.is_file():
            raise InputError(f"{path}: no such animation", "is the path right?")
        layout = "an npz with vertices (T, V, 3), faces (F, 3) and fps"
        with readable(path, "an animation of talkemo", layout):
            with self.path.open("rb") as handle, np.load(handle, allow_pickle=False) as file:
                self.faces = file["faces"].astype(np.int32)
                self.fps = float(file["fps"])
                meta = json.loads(str(file["meta"])) if "meta" in file else {}
                self.meta: dict[str, Any] = meta if isinstance(meta, dict) else {}
                self.focus = file.get("focus")
                turn = {"facing": file["facing"].tolist()} if "facing" in file else self.meta
                self.facing = facing_of(turn)  # versions before 0.2 kept it in the metadata
                self.appearance: Appearance | None = None
                self.rest = file["rest"].astype(np.float64) if "rest" in file else None
            with zipfile.ZipFile(self.path) as archive, archive.open("vertices.npy") as entry:
                self.shape, self.dtype = _array_header(entry)
        if len(self.shape) != 3 or self.shape[2] != 3 or self.faces.ndim != 2 or self.faces.shape[1] != 3:
            raise InputError(f"{path}: vertices are {self.shape} and faces {self.faces.shape}", layout)
        if (
            not 0 < self.fps < np.inf
            or not self.shape[1]
            or (len(self.faces) and not 0 <= self.faces.min() <= self.faces.max() < self.shape[1])
        ):
            raise InputError(f"{path}: fps or faces are out of range", layout)
        if self.rest is not None and (self.rest.shape != self.shape[1:] or not np.isfinite(self.rest).all()):
            raise InputError(f"{path}: rest is {self.rest.shape}, the animation has {self.shape[1]} vertices", layout)

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
                    raise InputError(f"{self.path}: cut off after {start} frames", "copy or make it again")
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
