"""Reading a user's mesh: vertices in the file's own order, triangles, and nothing believed that was not checked."""

from __future__ import annotations

import io
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from ..errors import InputError
from ..files import atomic_write

MESH_FORMATS = (".obj", ".ply", ".stl", ".off", ".glb", ".gltf")
LARGEST_FILE = 1 << 30  # bytes
LARGEST_MATERIALS, LARGEST_PICTURE = 1 << 24, 1 << 28
FEWEST_TRIANGLES = 100  # with fewer a mouth cannot be found


@dataclass(frozen=True, eq=False)
class Appearance:
    """What a mesh file has beside its surface, kept for what is written of it.

    uv: (U, 2) float32 with uv_faces (F, 3) int32, the texture coordinates of each triangle's corners; v is upwards
    texture: a PNG or JPEG file's content, if there is one
    text: an OBJ's lines between its positions, and in their place how many there are: faces with all their corners,
    groups, materials and texture coordinates, no normals
    companions: files that the text names, by their path beside the OBJ
    """

    uv: np.ndarray | None = None
    uv_faces: np.ndarray | None = None
    texture: bytes | None = None
    text: tuple[str | int, ...] = ()
    companions: dict[str, Path] = field(default_factory=dict)


@dataclass(frozen=True, eq=False)
class Mesh:
    """vertices (V, 3) float64 in the file's own order and unit, faces (F, 3) int32 triangles."""

    vertices: np.ndarray
    faces: np.ndarray
    appearance: Appearance | None = None


def as_mesh(source: str | Path | Mesh | tuple[np.ndarray, np.ndarray]) -> Mesh:
    """A mesh of a file's path, or of (vertices (V, 3), faces (F, 3)). Raises InputError for an unusable one."""
    if isinstance(source, str | Path):
        return load_mesh(source)
    if not isinstance(source, Mesh):
        vertices, faces = (np.asarray(array) for array in source)
        if vertices.ndim != 2 or vertices.shape[1] != 3 or vertices.dtype.kind not in "fiu":
            raise InputError(f"vertices are {vertices.dtype} {vertices.shape}", "give (V, 3) floats")
        if faces.ndim != 2 or faces.shape[1] != 3 or faces.dtype.kind not in "iu":
            raise InputError(f"faces are {faces.dtype} {faces.shape}", "give (F, 3) integers, triangles")
        source = Mesh(vertices.astype(np.float64), faces.astype(np.int32))
    _check(source, "the mesh")
    return source


def load_mesh(path: str | Path) -> Mesh:
    """Read obj, ply, stl, off or glb. Raises InputError for anything that is not a usable mesh."""
    path = Path(path)
    kinds = f"talkemo reads {', '.join(MESH_FORMATS)}"
    if path.is_dir():
        raise InputError(f"{path} is a folder, not a mesh", kinds)
    if not path.exists():
        raise InputError(f"{path}: no such mesh file", "is the path right?")
    if path.suffix.lower() not in MESH_FORMATS:
        raise InputError(f"{path}: unknown kind of mesh", kinds)
    if path.stat().st_size > LARGEST_FILE:
        raise InputError(f"{path}: larger than {LARGEST_FILE >> 30} GiB", "decimate it, or export the head alone")
    try:
        vertices, faces, appearance = _read_obj(path) if path.suffix.lower() == ".obj" else _read_other(path)
    except InputError:
        raise
    except Exception as error:  # a loader may fail in any way on a broken file
        reason = str(error).splitlines()[0] if str(error) else "broken file"
        raise InputError(f"{path}: not a readable mesh ({reason})", "export it again") from None
    mesh = Mesh(vertices, faces, appearance)
    _check(mesh, str(path))
    return mesh


def _check(mesh: Mesh, name: str) -> None:
    """Raise InputError for a mesh without a surface that could hold a face."""
    vertices, faces = mesh.vertices, mesh.faces
    if not len(vertices):
        raise InputError(f"{name}: a mesh without vertices", "export it again")
    if not len(faces):
        raise InputError(f"{name}: a mesh without faces", "talkemo needs a surface, not a point cloud")
    if not np.isfinite(vertices).all():
        count = int((~np.isfinite(vertices)).any(1).sum())
        raise InputError(f"{name}: vertices contain NaN or infinity, {count} of them", "export it again")
    if faces.min() < 0 or faces.max() >= len(vertices):
        raise InputError(f"{name}: faces name vertices that are not there", "export it again")
    if len(faces) < FEWEST_TRIANGLES:
        raise InputError(
            f"{name}: {len(faces)} triangles are too few for a face", f"it takes at least {FEWEST_TRIANGLES}"
        )
    if np.ptp(vertices, axis=0).min() <= 0:
        raise InputError(f"{name}: the mesh is flat, there is no face in it", "name a mesh in three dimensions")


class _ObjLines:
    """The lines of an OBJ, sorted as they come: positions, texture coordinates, faces, and all that is kept as text."""

    def __init__(self) -> None:
        self.vertices: list[list[str]] = []
        self.uv: list[list[float]] = []
        self.faces: list[tuple[int, int, int]] = []
        self.uv_faces: list[tuple[int, int, int]] = []
        self.libraries: list[str] = []
        self.text: list[str | int] = []  # see Appearance
        self.lines: list[str] = []  # of the text, since the last positions

    def add(self, line: str) -> None:
        """Take a line. Raises ValueError where it is not one of an OBJ."""
        parts = line.split()
        if not parts or parts[0] in ("vn", "#"):  # normals are another pose's as soon as something moves
            return
        if parts[0] == "v":
            if len(parts) < 4:
                raise ValueError
            self.vertices.append(parts[1:4])
            if self.lines or not self.text:
                self.text += ["\n".join([*self.lines, ""]), 0] if self.lines else [0]
                self.lines = []
            self.text[-1] = int(self.text[-1]) + 1
            return
        if parts[0] == "vt":
            self.uv.append([float(x) for x in (*parts[1:3], "0")[:2]])
        elif parts[0] == "f":
            line = self._add_face(parts[1:])
        elif parts[0] == "mtllib":
            self.libraries.append(line.split(maxsplit=1)[1].strip())
        self.lines.append(line.rstrip("\r\n"))

    def _add_face(self, parts: list[str]) -> str:
        """Cut a polygon into a fan; returns its line without normals."""
        if len(parts) == 3 and "/" not in parts[0]:  # what most files consist of
            a, b, c = (int(part) for part in parts)
            if min(a, b, c) > 0:
                self.faces.append((a - 1, b - 1, c - 1))
                self.uv_faces.append((-1, -1, -1))
                return "f " + " ".join(parts)
        corners = [[int(x) if x else 0 for x in part.split("/")] for part in parts]
        own = [c[0] - 1 if c[0] > 0 else len(self.vertices) + c[0] for c in corners]
        at = [_nth(c[1], len(self.uv)) if len(c) > 1 else -1 for c in corners]
        self.faces += [(own[0], own[k], own[k + 1]) for k in range(1, len(own) - 1)]
        self.uv_faces += [(at[0], at[k], at[k + 1]) for k in range(1, len(at) - 1)]
        return "f " + " ".join("/".join(part.split("/")[:2]).rstrip("/") for part in parts)


def _read_obj(path: Path) -> tuple[np.ndarray, np.ndarray, Appearance]:
    """Positions, faces and the rest of an OBJ. General loaders split vertices at seams."""
    content = _ObjLines()
    with path.open(encoding="utf-8", errors="replace") as file:
        for number, line in enumerate(file, 1):
            try:
                content.add(line)
            except ValueError:
                raise _not_an_obj_line(path, number, line) from None
    try:
        vertices = np.array(content.vertices, dtype=np.str_).astype(np.float64).reshape(-1, 3)
    except ValueError:  # much quicker than number by number, but it does not say which
        raise _first_bad_position(path) from None
    content.text.append("\n".join([*content.lines, ""]))
    companions, texture = _materials(path, content.libraries)
    corners_uv = np.array(content.uv_faces, np.int32).reshape(-1, 3)
    count = len(content.uv)
    known = count > 0 and corners_uv.size > 0 and corners_uv.max() >= 0
    appearance = Appearance(
        uv=np.array([*content.uv, [0, 0]], np.float32) if known else None,
        uv_faces=np.where((corners_uv >= 0) & (corners_uv < count), corners_uv, count).astype(np.int32)
        if known
        else None,
        texture=texture,
        text=tuple(content.text),
        companions=companions,
    )
    return vertices, np.array(content.faces, np.int32).reshape(-1, 3), appearance


def _first_bad_position(path: Path) -> InputError:
    """The error for the first position of an OBJ that is not three numbers."""
    with path.open(encoding="utf-8", errors="replace") as file:
        for number, line in enumerate(file, 1):
            parts = line.split()
            if parts[:1] == ["v"]:
                try:
                    [float(x) for x in parts[1:4]]
                except ValueError:
                    return _not_an_obj_line(path, number, line)
    return InputError(f"{path}: a position is not three numbers", "export it again")


def _not_an_obj_line(path: Path, number: int, line: str) -> InputError:
    return InputError(f"{path}: line {number} ('{line.strip()[:40]}') is not a line of an OBJ", "export it again")


def _nth(index: int, count: int) -> int:
    """The place of an OBJ's index, which counts from one, or backwards from the last; -1 for none."""
    return index - 1 if index > 0 else count + index if index < 0 else -1


def _materials(path: Path, libraries: list[str]) -> tuple[dict[str, Path], bytes | None]:
    """The material files and pictures that an OBJ names, those in its own folder only, and its first texture."""
    found: dict[str, Path] = {}
    texture = None
    for name in libraries:
        library = _beside(path, name)
        if library is None or library.stat().st_size > LARGEST_MATERIALS:
            continue
        found[name] = library
        for line in library.read_text("utf-8", errors="replace").splitlines():
            words = line.split()
            if len(words) < 2 or not words[0].lower().startswith(("map_", "bump", "norm", "disp", "refl")):
                continue
            picture = _beside(path, words[-1])
            if picture is None or picture.stat().st_size > LARGEST_PICTURE:
                continue
            found[words[-1]] = picture
            if texture is None and words[0].lower() == "map_kd":
                content = picture.read_bytes()
                texture = content if picture_type(content) else None
    return found, texture


def _beside(path: Path, name: str) -> Path | None:
    """A file that is in the folder of another, or below; None for any other place."""
    folder = path.parent.resolve()
    file = (folder / name.replace("\\", "/")).resolve()
    return file if file.is_relative_to(folder) and file.is_file() else None


def picture_type(content: bytes) -> str | None:
    """image/png or image/jpeg by a file's first bytes, None for anything else."""
    if content.startswith(b"\x89PNG\r\n\x1a\n"):
        return "image/png"
    return "image/jpeg" if content.startswith(b"\xff\xd8\xff") else None


def _read_other(path: Path) -> tuple[np.ndarray, np.ndarray, Appearance | None]:
    import trimesh

    loaded: Any = trimesh.load(path, force="mesh", process=False)
    vertices = np.asarray(loaded.vertices, np.float64)
    faces = np.asarray(getattr(loaded, "faces", []), np.int32).reshape(-1, 3)
    uv = getattr(getattr(loaded, "visual", None), "uv", None)
    if uv is None or np.shape(uv) != (len(vertices), 2):
        return vertices, faces, None
    material = getattr(loaded.visual, "material", None)
    picture = getattr(material, "baseColorTexture", None) or getattr(material, "image", None)
    content = None
    if picture is not None:
        with io.BytesIO() as buffer:
            picture.convert("RGB").save(buffer, "PNG")
            content = buffer.getvalue()
    return vertices, faces, Appearance(np.asarray(uv, np.float32), faces, content)


def obj_text(appearance: Appearance, vertices: np.ndarray) -> str:
    """An OBJ as it was read, with other positions (V, 3)."""
    rows, done, parts = [f"v {x:.7g} {y:.7g} {z:.7g}" for x, y, z in vertices], 0, []
    for part in appearance.text:
        if isinstance(part, int):
            parts.append("\n".join(rows[done : done + part]) + "\n")
            done += part
        else:
            parts.append(part)
    return "".join(parts)


def save_obj(path: str | Path, vertices: np.ndarray, faces: np.ndarray) -> None:
    """Write an OBJ of vertices (V, 3) and triangles (F, 3)."""
    lines = [f"v {x:.5f} {y:.5f} {z:.5f}" for x, y, z in vertices]
    lines += [f"f {a} {b} {c}" for a, b, c in faces + 1]
    with atomic_write(path) as partial:
        partial.write_text("\n".join(lines) + "\n", "utf-8")


def save_ply(path: str | Path, vertices: np.ndarray, faces: np.ndarray) -> None:
    """Write a binary PLY of vertices (V, 3) float32 and triangles (F, 3)."""
    head = (
        f"ply\nformat binary_little_endian 1.0\nelement vertex {len(vertices)}\n"
        "property float x\nproperty float y\nproperty float z\n"
        f"element face {len(faces)}\nproperty list uchar int vertex_indices\nend_header\n"
    )
    rows = np.empty(len(faces), [("count", "u1"), ("corners", "<i4", 3)])
    rows["count"], rows["corners"] = 3, faces
    with atomic_write(path) as partial:
        partial.write_bytes(head.encode() + np.ascontiguousarray(vertices, "<f4").tobytes() + rows.tobytes())
