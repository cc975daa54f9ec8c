"""Reading a user's mesh: vertices in the file's own order, triangles, and nothing believed that was not checked."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from .errors import InputError
from .files import whole

FORMATS = (".obj", ".ply", ".stl", ".off", ".glb", ".gltf")
LARGEST_FILE = 1 << 30  # bytes
FEWEST_TRIANGLES = 100  # below that there is no telling where a face has its mouth


@dataclass(frozen=True, eq=False)
class Mesh:
    """vertices (V, 3) float64 in the file's own order and unit, faces (F, 3) int32 triangles."""

    vertices: np.ndarray
    faces: np.ndarray


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
        vertices, faces = _read_obj(path) if path.suffix.lower() == ".obj" else _read_other(path)
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
    return Mesh(vertices, faces)


def _read_obj(path: Path) -> tuple[np.ndarray, np.ndarray]:
    """Positions and faces of an OBJ; polygons are cut into fans. General loaders split vertices along texture seams."""
    vertices: list[list[float]] = []
    faces: list[tuple[int, int, int]] = []
    with path.open(encoding="utf-8", errors="replace") as file:
        for number, line in enumerate(file, 1):
            parts = line.split()
            try:
                if not parts:
                    continue
                if parts[0] == "v":
                    vertices.append([float(x) for x in parts[1:4]])
                    if len(vertices[-1]) != 3:
                        raise ValueError
                elif parts[0] == "f":
                    corners = [int(part.split("/")[0]) for part in parts[1:]]
                    corners = [c - 1 if c > 0 else len(vertices) + c for c in corners]
                    faces += [(corners[0], corners[k], corners[k + 1]) for k in range(1, len(corners) - 1)]
            except ValueError:
                raise InputError(f"{path}: line {number} is no OBJ ('{line.strip()[:40]}')") from None
    return np.array(vertices, np.float64).reshape(-1, 3), np.array(faces, np.int32).reshape(-1, 3)


def _read_other(path: Path) -> tuple[np.ndarray, np.ndarray]:
    import trimesh

    loaded: Any = trimesh.load(path, force="mesh", process=False)
    return np.asarray(loaded.vertices, np.float64), np.asarray(getattr(loaded, "faces", []), np.int32).reshape(-1, 3)


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
