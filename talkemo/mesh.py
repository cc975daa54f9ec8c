"""Reading a user's mesh: vertices in the file's own order, triangles, and nothing believed that was not checked."""

from __future__ import annotations

import io
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from .errors import InputError
from .files import whole

FORMATS = (".obj", ".ply", ".stl", ".off", ".glb", ".gltf")
LARGEST_FILE = 1 << 30  # bytes
LARGEST_MATERIALS, LARGEST_PICTURE = 1 << 24, 1 << 28
FEWEST_TRIANGLES = 100  # below that there is no telling where a face has its mouth


@dataclass(frozen=True, eq=False)
class Look:
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
    look: Look | None = None


def load_mesh(path: str | Path) -> Mesh:
    """Read obj, ply, stl, off or glb. Raises InputError for anything that is no usable mesh."""
    path = Path(path)
    if path.is_dir():
        raise InputError(f"{path} is a folder, not a mesh")
    if not path.exists():
        raise InputError(f"{path}: no such mesh file")
    if path.suffix.lower() not in FORMATS:
        raise InputError(f"{path}: unknown kind of mesh", f"talkemo reads {', '.join(FORMATS)}")
    if path.stat().st_size > LARGEST_FILE:
        raise InputError(f"{path}: larger than {LARGEST_FILE >> 30} GiB")
    try:
        vertices, faces, look = _read_obj(path) if path.suffix.lower() == ".obj" else _read_other(path)
    except InputError:
        raise
    except Exception as error:  # a loader may fail in any way on a broken file
        raise InputError(
            f"{path}: not a readable mesh ({str(error).splitlines()[0] if str(error) else 'broken file'})"
        ) from None
    if not len(vertices):
        raise InputError(f"{path}: a mesh without vertices")
    if not len(faces):
        raise InputError(f"{path}: a mesh without faces", "talkemo needs a surface, not a point cloud")
    if not np.isfinite(vertices).all():
        raise InputError(
            f"{path}: {int((~np.isfinite(vertices)).any(1).sum())} vertices have coordinates that are no numbers"
        )
    if faces.min() < 0 or faces.max() >= len(vertices):
        raise InputError(f"{path}: faces name vertices that are not there")
    if len(faces) < FEWEST_TRIANGLES:
        raise InputError(
            f"{path}: {len(faces)} triangles are too few for a face", f"it takes at least {FEWEST_TRIANGLES}"
        )
    if np.ptp(vertices, axis=0).min() <= 0:
        raise InputError(f"{path}: the mesh is flat, there is no face in it")
    return Mesh(vertices, faces, look)


def _read_obj(path: Path) -> tuple[np.ndarray, np.ndarray, Look]:
    """Positions, faces and the rest of an OBJ; polygons are cut into fans. General loaders split vertices at seams."""
    vertices: list[list[float]] = []
    uv: list[list[float]] = []
    faces: list[tuple[int, int, int]] = []
    uv_faces: list[tuple[int, int, int]] = []
    text: list[str | int] = []
    lines: list[str] = []
    libraries: list[str] = []
    with path.open(encoding="utf-8", errors="replace") as file:
        for number, line in enumerate(file, 1):
            parts = line.split()
            try:
                if not parts or parts[0] in ("vn", "#"):  # normals are another pose's as soon as something moves
                    continue
                if parts[0] == "v":
                    vertices.append([float(x) for x in parts[1:4]])
                    if len(vertices[-1]) != 3:
                        raise ValueError
                    if lines or not text:
                        text += ["\n".join([*lines, ""]), 0] if lines else [0]
                        lines = []
                    text[-1] = int(text[-1]) + 1
                    continue
                if parts[0] == "vt":
                    uv.append([float(x) for x in (*parts[1:3], "0")[:2]])
                elif parts[0] == "f":
                    corners = [[int(x) if x else 0 for x in part.split("/")] for part in parts[1:]]
                    own = [c[0] - 1 if c[0] > 0 else len(vertices) + c[0] for c in corners]
                    at = [_nth(c[1], len(uv)) if len(c) > 1 else -1 for c in corners]
                    faces += [(own[0], own[k], own[k + 1]) for k in range(1, len(own) - 1)]
                    uv_faces += [(at[0], at[k], at[k + 1]) for k in range(1, len(at) - 1)]
                    line = "f " + " ".join("/".join(part.split("/")[:2]).rstrip("/") for part in parts[1:])
                elif parts[0] == "mtllib":
                    libraries.append(line.split(maxsplit=1)[1].strip())
                lines.append(line.rstrip("\r\n"))
            except ValueError:
                raise InputError(f"{path}: line {number} is no OBJ ('{line.strip()[:40]}')") from None
    text.append("\n".join([*lines, ""]))
    companions, texture = _materials(path, libraries)
    corners_uv = np.array(uv_faces, np.int32).reshape(-1, 3)
    known = len(uv) > 0 and corners_uv.size > 0 and corners_uv.max() >= 0
    look = Look(
        np.array([*uv, [0, 0]], np.float32) if known else None,
        np.where((corners_uv >= 0) & (corners_uv < len(uv)), corners_uv, len(uv)).astype(np.int32) if known else None,
        texture,
        tuple(text),
        companions,
    )
    return np.array(vertices, np.float64).reshape(-1, 3), np.array(faces, np.int32).reshape(-1, 3), look


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


def _read_other(path: Path) -> tuple[np.ndarray, np.ndarray, Look | None]:
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
    return vertices, faces, Look(np.asarray(uv, np.float32), faces, content)


def obj_text(look: Look, vertices: np.ndarray) -> str:
    """An OBJ as it was read, with other positions (V, 3)."""
    rows, done, parts = [f"v {x:.7g} {y:.7g} {z:.7g}" for x, y, z in vertices], 0, []
    for part in look.text:
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
    with whole(path) as partial:
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
    with whole(path) as partial:
        partial.write_bytes(head.encode() + np.ascontiguousarray(vertices, "<f4").tobytes() + rows.tobytes())
