"""Animations as npz files without pickles, written frame by frame.

Keys: `vertices` (T, N, 3) float32 in the input mesh's own order, unit and position; `faces` (F, 3) int32; `fps`;
`landmarks68` (T, 68, 3) iBUG points on that mesh; `arkit` (T, 52) float32 with `arkit_names`; `rest` (N, 3), the mesh
without motion; `focus` (N,) bool, the vertices of the face; `facing` (3, 3), the rotation of the face in the mesh;
`head` (T, 3, 3), the head's rotation where it is known; `meta`, JSON text.
"""

from __future__ import annotations

import json
import math
import shutil
import tempfile
import zipfile
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

import numpy as np

from ..errors import InputError
from ..face.canonical import ARKIT_NAMES
from ..files.arrays import ArrayHeader, NpzFile, read_exactly
from ..files.reading import open_file, parse_json, printable, reading_errors
from .animation import FileWriter, Frames, Header, check_coordinates, facing_of, frames_at_a_time
from .mesh_types import LARGEST_COORDINATE, MOST_FACES, MOST_VERTICES

if TYPE_CHECKING:
    from .mesh_types import MeshAttributes

MOST_FRAMES = 24 * 3600 * 240  # a day at the highest rate that is written
FRAME_RATES = (0.01, 10_000.0)  # frames a second
LONGEST_META = 1 << 20  # characters of metadata
WHAT, LAYOUT = "an animation of talkemo", "an npz with vertices (T, V, 3), faces (F, 3) and fps"


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
            for name in ("landmarks68", "arkit", "head")
        }

    def write(self, frames: Frames) -> None:
        self.entry.write(np.ascontiguousarray(frames.vertices, "<f4").data)
        self.waiting["landmarks68"].write(np.ascontiguousarray(frames.landmarks68, "<f4").data)
        self.waiting["arkit"].write(np.ascontiguousarray(frames.arkit, "<f4").data)
        if frames.head is not None:
            self.waiting["head"].write(np.ascontiguousarray(frames.head, "<f4").data)

    def finish(self) -> None:
        header = self.header
        self.entry.close()
        for name, width in (
            ("landmarks68", (68, 3)),
            ("arkit", (len(ARKIT_NAMES),)),
            ("head", (3, 3)),
        ):
            if not self.waiting[name].tell():
                continue
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
        with (
            open_file(path, WHAT, LAYOUT) as file,
            reading_errors(path, WHAT, LAYOUT),
            NpzFile(file) as arrays,
        ):
            self._header = arrays.header("vertices")
            self.shape: tuple[int, ...] = self._header.shape
            _check_vertices(self._header)
            about = {name: arrays.header(name) for name in arrays.names}
            _check_headers(about, self.shape[1])
            known = ("faces", "fps", "meta", "focus", "facing", "rest")
            self._take(arrays.read(name for name in known if name in about), printable(path))
        self.attributes: MeshAttributes | None = None

    def _take(self, found: dict[str, np.ndarray], name: str) -> None:
        """Keep arrays whose headers are as they should be. name: of the file, in messages."""
        faces = found["faces"]
        if not np.isfinite(faces).all() or faces.min() < 0 or faces.max() >= self.shape[1]:
            raise InputError(f"{name}: faces name vertices that are not there", "export it again")
        self.faces = faces.astype(np.int32)
        self.fps = float(found["fps"].reshape(-1)[0])
        if not FRAME_RATES[0] <= self.fps <= FRAME_RATES[1]:
            raise InputError(f"{name}: {self.fps:g} frames a second", LAYOUT)
        meta = parse_json(str(found["meta"].reshape(-1)[0])) if "meta" in found else {}
        self.meta: dict[str, Any] = meta if isinstance(meta, dict) else {}
        self.focus: np.ndarray | None = found["focus"].astype(bool) if "focus" in found else None
        # Versions before 0.2 kept the direction in the metadata.
        self.facing = facing_of({"facing": found["facing"]} if "facing" in found else self.meta)
        self.rest: np.ndarray | None = found["rest"].astype(np.float64) if "rest" in found else None
        if self.rest is not None and not np.abs(self.rest).max() <= LARGEST_COORDINATE:
            raise InputError(
                f"{name}: the mesh at rest contains NaN, infinity or huge numbers",
                "export it again",
            )

    def __len__(self) -> int:
        return self.shape[0]

    def chunks(self, frames: int = 64) -> Iterator[np.ndarray]:
        """Consecutive vertices (≤ frames, V, 3) float32."""
        frames = frames_at_a_time(frames, self.shape[1])
        size = self._header.dtype.itemsize * self.shape[1] * 3
        with open_file(self.path, WHAT, LAYOUT) as file, ExitStack() as stack:
            with reading_errors(self.path, WHAT, LAYOUT):
                content, header = stack.enter_context(
                    stack.enter_context(NpzFile(file)).stream("vertices")
                )
                if header != self._header:
                    raise ValueError("it was replaced while it was read")
            for start in range(0, len(self), frames):
                count = min(frames, len(self) - start)
                with reading_errors(self.path, WHAT, LAYOUT):
                    block = read_exactly(content, count * size).view(header.dtype)
                    part = block.reshape(count, self.shape[1], 3).astype(np.float32)
                    if start + count == len(self):
                        content.read(1)  # at the end its checksum is compared
                    check_coordinates(self.path, part)
                yield part

    def vertices(self) -> np.ndarray:
        """All vertices (T, V, 3) float32."""
        return np.concatenate(list(self.chunks()))


def _check_vertices(header: ArrayHeader) -> None:
    """Raise ValueError for vertices that are not frames of a mesh."""
    shape = header.shape
    if len(shape) != 3 or shape[2] != 3 or header.dtype.kind != "f" or header.fortran:
        raise ValueError(f"vertices are {header.dtype} {shape}, not C-ordered floats (T, V, 3)")
    if not 0 < shape[1] <= MOST_VERTICES or shape[0] > MOST_FRAMES:
        raise ValueError(
            f"{shape[0]} frames of {shape[1]} vertices; up to {MOST_FRAMES} of {MOST_VERTICES} are read"
        )


def _check_headers(about: dict[str, ArrayHeader], vertices: int) -> None:
    """Raise ValueError unless the headers of an animation's other arrays are what they should be."""
    for name in ("faces", "fps"):
        if name not in about:
            raise ValueError(f"it has no array {name}")
    checks = {
        "faces": lambda h: len(h.shape) == 2 and h.shape[1] == 3 and 0 < h.shape[0] <= MOST_FACES,
        "fps": lambda h: math.prod(h.shape) == 1,
        "meta": lambda h: (
            math.prod(h.shape) == 1 and h.dtype.kind == "U" and h.size <= 4 * LONGEST_META
        ),
        "focus": lambda h: h.shape == (vertices,),
        "facing": lambda h: h.shape == (3, 3),
        "rest": lambda h: h.shape == (vertices, 3),
    }
    kinds = {
        "faces": "iuf",
        "fps": "iuf",
        "meta": "U",
        "focus": "biu",
        "facing": "f",
        "rest": "iuf",
    }
    for name, right in checks.items():
        if name in about and not (right(about[name]) and about[name].dtype.kind in kinds[name]):
            raise ValueError(f"{name} is {about[name].dtype} {about[name].shape}")
