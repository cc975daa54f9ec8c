"""Animations as npz files, written frame by frame and without pickles.

Arrays: `vertices` (T, N, 3) float32 in the order, unit and position of the input mesh; `faces`
(F, 3) int32; `fps`; `landmarks68` (T, 68, 3), the iBUG points on the mesh; `arkit` (T, 52) float32
with `arkit_names`; `rest` (N, 3), the mesh without motion; `focus` (N,) bool, the vertices of the
face; `facing` (3, 3), the rotation of the face in the mesh; `head` (T, 3, 3), rotations of the
head, if known; `groups` (N,) uint8 with `group_names`, what each vertex belongs to, if the mesh's
file names groups; `meta`, JSON text.

With `arrays="shapes"`, `arkit_targets` (52, N, 3) takes the place of `vertices`: the displacements
of ARKit's blend shapes at weight 1. Then `head_pivot` (3,) and `head_share` (N,) say how the head
turns, if it does: the point that it turns about, and each vertex's fraction of the rotation. What
the mesh lacks is added, as in a GLB: `added_names` (A,), and for the part number k `addedK_rest`
(P, 3), `addedK_faces` (F, 3), `addedK_targets` (52, P, 3), `addedK_surface` (4,), the linear RGB and
roughness, and maybe `addedK_uv` (P, 2) with `addedK_texture`, the bytes of a PNG.
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
from typing import IO, Any

import numpy as np

from ..errors import InputError
from ..face.canonical import ARKIT_NAMES
from ..files.arrays import ArrayHeader, NpzFile, read_exactly
from ..files.reading import open_file, parse_json, printable, reading_errors
from ..geometry.rigid import as_rotation
from .animation import FileWriter, Frames, Header, check_coordinates, frames_per_chunk
from .groups import GROUP_KINDS, vertex_groups
from .mesh_types import MAX_COORDINATE, MAX_MESH_TRIANGLES, MAX_MESH_VERTICES, MeshAttributes
from .registry import ARRAY_KINDS

MAX_NPZ_FRAMES = 24 * 3600 * 240  # a day at the highest rate that is written
SHAPES = ARRAY_KINDS[1]
NPZ_FPS_RANGE = (0.01, 10_000.0)  # frame rates that are read
MAX_ARKIT_WEIGHT = 10.0  # of those that are read
MAX_META_CHARACTERS = 1 << 20
NPZ_KIND = "an animation of talkemo"
NPZ_LAYOUT = "an npz with vertices (T, V, 3), faces (F, 3) and fps"
# Arrays with a row per frame that follow the vertices, and the shape of a row.
FRAME_ARRAYS = {"landmarks68": (68, 3), "arkit": (len(ARKIT_NAMES),), "head": (3, 3)}
# Arrays that are read with the header, and the `dtype.kind` that each may have.
HEADER_ARRAYS = {
    "faces": "iuf",
    "fps": "iuf",
    "meta": "U",
    "focus": "biu",
    "facing": "f",
    "rest": "iuf",
    "groups": "u",
}


class NpzWriter(FileWriter):
    """Writes an npz: vertices directly, the other frame arrays first to temporary files.

    `arrays`: one of ARRAY_KINDS; with shapes, the file holds no vertices of frames.
    """

    def __init__(self, path: Path, header: Header, arrays: str = ARRAY_KINDS[0]):
        self.targets = _arkit_targets(path, header) if arrays == SHAPES else None
        super().__init__(path)
        self.header = header
        self.zip = zipfile.ZipFile(self.partial.path, "w", zipfile.ZIP_STORED, allowZip64=True)
        self.entry: IO[bytes] | None = None
        if self.targets is None:
            self.entry = self.zip.open("vertices.npy", "w", force_zip64=True)
            _write_array_header(self.entry, (header.frames, len(header.rest), 3))
        # The entries of a zip are written one after the other, so the other arrays are collected in
        # temporary files until the vertices are complete.
        self.waiting = {
            name: tempfile.TemporaryFile(dir=path.parent)  # noqa: SIM115 (closed by `close`)
            for name in FRAME_ARRAYS
        }

    def write(self, frames: Frames) -> None:
        """Append frames: vertices to the zip, other arrays to their temporary files."""
        if self.entry is not None:
            self.entry.write(np.ascontiguousarray(frames.vertices, "<f4").data)
        for name, file in self.waiting.items():
            rows = getattr(frames, name)
            if rows is not None:
                file.write(np.ascontiguousarray(rows, "<f4").data)

    def finish(self) -> None:
        header = self.header
        if self.entry is not None:
            self.entry.close()
        for name, shape in FRAME_ARRAYS.items():
            file = self.waiting[name]
            if not file.tell():
                continue
            file.seek(0)
            with self.zip.open(f"{name}.npy", "w", force_zip64=True) as entry:
                _write_array_header(entry, (header.frames, *shape))
                shutil.copyfileobj(file, entry, 1 << 20)
        arrays = {
            "faces": header.faces.astype(np.int32),
            "fps": np.float64(header.fps),
            "arkit_names": np.array(ARKIT_NAMES),
            "focus": header.focus,
            "rest": header.rest.astype(np.float32),
            "meta": np.array(json.dumps(header.meta)),
        }
        if header.facing is not None:
            arrays["facing"] = np.asarray(header.facing, np.float64)
        groups = vertex_groups(header.attributes, len(header.rest))
        if (groups != GROUP_KINDS[0]).any():
            numbers = [GROUP_KINDS.index(kind) for kind in groups]
            arrays |= {"groups": np.array(numbers, np.uint8), "group_names": np.array(GROUP_KINDS)}
        if self.targets is not None:
            arrays |= self._shapes(self.targets)
        for name, array in arrays.items():
            with self.zip.open(f"{name}.npy", "w", force_zip64=True) as entry:
                np.lib.format.write_array(entry, np.asarray(array), allow_pickle=False)
        self.zip.close()

    def _shapes(self, targets: np.ndarray) -> dict[str, np.ndarray]:
        """The arrays in place of vertices: displacements, and how the head turns."""
        arrays = {"arkit_targets": targets.astype(np.float32)}
        turn = self.header.turner_of_nodes(bake=False)
        if turn is not None and turn.turns_head and self.waiting["head"].tell():
            arrays["head_pivot"] = np.asarray(turn.pivot, np.float32)
            arrays["head_share"] = np.asarray(turn.share[:, 0], np.float32)
        return arrays | _added_parts(self.header)

    def close(self) -> None:
        for file in self.waiting.values():
            file.close()
        if self.entry is not None:
            self.entry.close()
        self.zip.close()


def _arkit_targets(path: Path, header: Header) -> np.ndarray:
    """Displacements (52, N, 3) of ARKit's blend shapes; raise InputError if there are none."""
    if header.targets is None:
        raise InputError(
            f"{printable(path)}: no ARKit shapes are known for this mesh",
            "write its vertices: leave --arrays out",
        )
    return header.targets()


def _added_parts(header: Header) -> dict[str, np.ndarray]:
    """The arrays of what is added to a mesh; none if nothing is."""
    added = header.added_meshes()
    if added is None:
        return {}
    arrays = {"added_names": np.array([part.name for part in added.meshes])}
    targets = added.targets()
    for number, part in enumerate(added.meshes):
        name = f"added{number}"
        arrays |= {
            f"{name}_rest": added.vertices.points[part.rows].astype(np.float32),
            f"{name}_faces": part.faces.astype(np.int32),
            f"{name}_targets": targets[:, part.rows].astype(np.float32),
            f"{name}_surface": np.array([*part.linear_colour, part.roughness], np.float32),
        }
        if part.uv is not None and part.texture is not None:
            arrays[f"{name}_uv"] = part.uv.astype(np.float32)
            arrays[f"{name}_texture"] = np.frombuffer(part.texture, np.uint8)
    return arrays


def _write_array_header(entry: IO[bytes], shape: tuple[int, ...]) -> None:
    """Begin a .npy of float32 in a zip."""
    description = {"descr": "<f4", "fortran_order": False, "shape": shape}
    np.lib.format.write_array_header_1_0(entry, description)


class NpzAnimation:
    """A `Source` that reads an npz; only `vertices`, `faces` and `fps` are required.

    Parameters
    ----------
    path : str or Path
    fps : float, optional
        Expected frame rate; another one in the file raises InputError.
    """

    def __init__(self, path: str | Path, fps: float | None = None):
        self.path = Path(path)
        with (
            open_file(path, NPZ_KIND, NPZ_LAYOUT) as file,
            reading_errors(path, NPZ_KIND, NPZ_LAYOUT),
            NpzFile(file) as arrays,
        ):
            headers = {name: arrays.header(name) for name in arrays.names}
            _check_headers(headers)
            self._header = headers["vertices"]
            self.shape: tuple[int, ...] = self._header.shape
            self._set_fields(arrays.read(name for name in HEADER_ARRAYS if name in headers))
            # Rotations (T, 3, 3) of the head, if the file has them.
            self.head: np.ndarray | None = None
            if "head" in headers and headers["head"].shape == (len(self), 3, 3):
                self._set_head(arrays.read(["head"])["head"])
            # ARKit's weights (T, 52), if the file has them.
            self.arkit: np.ndarray | None = None
            if "arkit" in headers and headers["arkit"].shape == (len(self), len(ARKIT_NAMES)):
                self._set_arkit(arrays.read(["arkit"])["arkit"])
        if fps is not None and abs(fps - self.fps) > 1e-6:
            raise InputError(
                f"{path} has its own frame rate, {self.fps:g} frames per second", "leave --fps out"
            )

    def _set_head(self, head: np.ndarray) -> None:
        """Set the rotations of the head, unless they are none."""
        is_turn = head.dtype.kind == "f" and bool((np.abs(head) <= 1 + 1e-3).all())
        if is_turn and np.allclose(head @ head.transpose(0, 2, 1), np.eye(3), atol=1e-3):
            self.head = head.astype(np.float32)

    def _set_arkit(self, weights: np.ndarray) -> None:
        """Set ARKit's weights, unless they are none."""
        if weights.dtype.kind == "f" and bool((np.abs(weights) <= MAX_ARKIT_WEIGHT).all()):
            self.arkit = weights.astype(np.float32)

    def _set_fields(self, arrays: dict[str, np.ndarray]) -> None:
        """Set the fields from arrays whose headers are valid."""
        name = printable(self.path)
        faces = arrays["faces"]
        if not np.isfinite(faces).all() or faces.min() < 0 or faces.max() >= self.shape[1]:
            raise InputError(
                f"{name}: faces refer to vertices that do not exist", "export it again"
            )
        self.faces = faces.astype(np.int32)
        self.fps = float(arrays["fps"].reshape(-1)[0])
        if not NPZ_FPS_RANGE[0] <= self.fps <= NPZ_FPS_RANGE[1]:
            raise InputError(f"{name}: {self.fps:g} frames per second", NPZ_LAYOUT)
        meta = parse_json(str(arrays["meta"].reshape(-1)[0])) if "meta" in arrays else {}
        self.meta: dict[str, Any] = meta if isinstance(meta, dict) else {}
        groups = arrays.get("groups")
        self.attributes: MeshAttributes | None = None
        if groups is not None:
            if groups.max(initial=0) >= len(GROUP_KINDS):
                raise InputError(f"{name}: groups without a name", "export it again")
            self.attributes = MeshAttributes(groups=np.array(GROUP_KINDS)[groups])
        focus, rest = arrays.get("focus"), arrays.get("rest")
        self.focus: np.ndarray | None = None if focus is None else focus.astype(bool)
        # Versions before 0.2 stored the rotation in the metadata.
        self.facing = as_rotation(arrays.get("facing", self.meta.get("facing")))
        self.rest: np.ndarray | None = None if rest is None else rest.astype(np.float64)
        if self.rest is not None and not np.abs(self.rest).max() <= MAX_COORDINATE:
            raise InputError(
                f"{name}: the mesh at rest contains NaN, infinity or huge numbers",
                "export it again",
            )

    def __len__(self) -> int:
        return self.shape[0]

    def chunks(self, frames: int = 64) -> Iterator[np.ndarray]:
        """Yield the vertices of consecutive frames, (≤ frames, V, 3) float32."""
        frames = frames_per_chunk(frames, self.shape[1])
        frame_bytes = self._header.dtype.itemsize * self.shape[1] * 3
        with open_file(self.path, NPZ_KIND, NPZ_LAYOUT) as file, ExitStack() as stack:
            with reading_errors(self.path, NPZ_KIND, NPZ_LAYOUT):
                arrays = stack.enter_context(NpzFile(file))
                content, header = stack.enter_context(arrays.stream("vertices"))
                if header != self._header:
                    raise ValueError("it was replaced while it was read")
            for start in range(0, len(self), frames):
                count = min(frames, len(self) - start)
                with reading_errors(self.path, NPZ_KIND, NPZ_LAYOUT):
                    block = read_exactly(content, count * frame_bytes).view(header.dtype)
                    chunk = block.reshape(count, self.shape[1], 3).astype(np.float32)
                    if start + count == len(self):
                        content.read(1)  # at its end zipfile compares the checksum
                    check_coordinates(self.path, chunk)
                yield chunk

    def vertices(self) -> np.ndarray:
        """Return all vertices, (T, V, 3) float32."""
        return np.concatenate(list(self.chunks()))


def _check_headers(headers: dict[str, ArrayHeader]) -> None:
    """Raise ValueError unless the arrays are those of an animation, by their headers."""
    for name in ("vertices", "faces", "fps"):
        if name not in headers:
            raise ValueError(f"it has no array {name}")
    _check_vertices(headers["vertices"])
    vertices = headers["vertices"].shape[1]
    triangles = headers["faces"].shape[:1]
    shapes = {
        "faces": (*triangles, 3),
        "focus": (vertices,),
        "facing": (3, 3),
        "rest": (vertices, 3),
        "groups": (vertices,),
    }
    for name, kinds in HEADER_ARRAYS.items():
        if name not in headers:
            continue
        shape, dtype = headers[name].shape, headers[name].dtype
        fits = shape == shapes[name] if name in shapes else math.prod(shape) == 1
        if not fits or dtype.kind not in kinds:
            raise ValueError(f"{name} is {dtype} {shape}")
    if not 0 < triangles[0] <= MAX_MESH_TRIANGLES:
        raise ValueError(f"{triangles[0]} triangles, of 1 to {MAX_MESH_TRIANGLES}")
    if "meta" in headers and headers["meta"].size > 4 * MAX_META_CHARACTERS:
        raise ValueError(f"metadata of more than {MAX_META_CHARACTERS} characters")


def _check_vertices(header: ArrayHeader) -> None:
    """Raise ValueError for vertices that are not frames of a mesh."""
    shape = header.shape
    if len(shape) != 3 or shape[2] != 3 or header.dtype.kind != "f" or header.fortran:
        raise ValueError(f"vertices are {header.dtype} {shape}, not C-ordered floats (T, V, 3)")
    if not 0 < shape[1] <= MAX_MESH_VERTICES or shape[0] > MAX_NPZ_FRAMES:
        raise ValueError(
            f"{shape[0]} frames of {shape[1]} vertices; up to {MAX_NPZ_FRAMES} of "
            f"{MAX_MESH_VERTICES} are read"
        )
