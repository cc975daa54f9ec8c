"""An animation of a mesh, and its file: an npz without pickles, written frame by frame.

Keys: `vertices` (T, V, 3) float32 in the input mesh's own order, unit and position; `faces` (F, 3) int32; `fps`;
`landmarks68` (T, 68, 3) iBUG points on that mesh; `arkit` (T, 52) float32 with `arkit_names`; `rest` (V, 3), the mesh
without motion; `focus` (V,) bool, what can move; `meta`, JSON text. GLB files and folders of meshes are read too.
"""

from __future__ import annotations

import json
import os
import re
import zipfile
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import IO, TYPE_CHECKING, Any

import numpy as np

from .errors import InputError
from .face import ARKIT_NAMES
from .files import partial_name, readable
from .gltf import GlbAnimation
from .mesh import FORMATS, Look, load_mesh

if TYPE_CHECKING:
    from typing_extensions import Self

LARGEST_ARRAY = 1 << 40  # bytes that an entry may claim
SEQUENCE_FPS = 30.0  # of a folder of meshes


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
    # (52, V, 3) what ARKit's shapes, at weight 1, move each vertex by: made when a writer asks for it.
    targets: Callable[[], np.ndarray] | None = None
    look: Look | None = None  # what the mesh's file has beside its surface


class Writer:
    """Writes an animation to a file that appears under its name only when it is whole.

    Use as a context manager and call `write` for each chunk; leaving it by an exception leaves no file.
    """

    def __init__(self, path: Path):
        self.path = path
        self.partial = partial_name(path)
        self.figures: dict[str, float] = {}  # what is worth telling of the result, known when it is finished

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
            "rest": self.header.rest.astype(np.float32),
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
                meta = json.loads(str(file["meta"])) if "meta" in file else {}
                self.meta: dict[str, Any] = meta if isinstance(meta, dict) else {}
                self.focus = file.get("focus")
                self.look: Look | None = None
                self.rest = file["rest"].astype(np.float64) if "rest" in file else None
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
        if self.rest is not None and (self.rest.shape != self.shape[1:] or not np.isfinite(self.rest).all()):
            raise InputError(f"{path}: rest is {self.rest.shape}, the animation has {self.shape[1]} vertices")

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


class MeshSequence:
    """A folder of mesh files as an animation, a frame each in the natural order of their names.

    All must have the vertices of the first, in its order; its faces count.
    """

    def __init__(self, folder: str | Path, fps: float | None = None):
        self.path = Path(folder)
        self.files = sorted(
            (file for file in self.path.iterdir() if file.suffix.lower() in FORMATS and not file.name.startswith(".")),
            key=lambda file: [int(part) if part.isdecimal() else part for part in re.split(r"(\d+)", file.name)],
        )
        if not self.files:
            raise InputError(f"{folder}: no meshes in it", f"talkemo reads {', '.join(FORMATS)}")
        first = load_mesh(self.files[0])
        self.faces, self.fps = first.faces, fps or SEQUENCE_FPS
        self.shape = (len(self.files), len(first.vertices), 3)
        self.meta: dict[str, Any] = {}
        self.focus, self.rest = None, None
        self.look = first.look  # its polygons, texture and materials

    def __len__(self) -> int:
        return self.shape[0]

    def chunks(self, frames: int = 64) -> Iterator[np.ndarray]:
        """Consecutive vertices (≤ frames, V, 3) float32."""
        for start in range(0, len(self), frames):
            part = []
            for file in self.files[start : start + frames]:
                vertices = load_mesh(file).vertices
                if len(vertices) != self.shape[1]:
                    raise InputError(f"{file} has {len(vertices)} vertices, {self.files[0]} {self.shape[1]}")
                part.append(vertices.astype(np.float32))
            yield np.stack(part)


Source = Animation | GlbAnimation | MeshSequence


def open_animation(path: str | Path, fps: float | None = None) -> Source:
    """An npz, a GLB with morph targets, or a folder of meshes. Raises InputError for anything else.

    fps: of a folder, which does not say its own, and of what a GLB is sampled at; an npz has its own.
    """
    path = Path(path)
    if path.is_dir():
        return MeshSequence(path, fps)
    if not path.is_file():
        raise InputError(f"{path}: no such animation")
    if path.suffix.lower() == ".glb":
        return GlbAnimation(path, fps)
    if path.suffix.lower() != ".npz":
        raise InputError(f"{path}: unknown kind of animation", "talkemo reads .npz, .glb and folders of meshes")
    animation = Animation(path)
    if fps is not None and abs(fps - animation.fps) > 1e-6:
        raise InputError(f"{path} has {animation.fps:g} frames a second of its own", "leave --fps out")
    return animation


def _array_header(entry: IO[bytes]) -> tuple[tuple[int, ...], np.dtype]:
    """Shape and type of a .npy stream, which then stands at its first number."""
    version = np.lib.format.read_magic(entry)
    read = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
    shape, fortran, dtype = read(entry)
    if fortran or dtype.kind != "f" or np.prod(shape, dtype=float) * dtype.itemsize > LARGEST_ARRAY:
        raise ValueError("vertices are not a C-ordered array of floats")
    return shape, dtype
