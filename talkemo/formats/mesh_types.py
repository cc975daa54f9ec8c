"""What a mesh is: vertices in its file's own order, triangles, what its file has beside them, and what is refused."""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from ..errors import InputError

LARGEST_COORDINATE = 1e12  # of a vertex, in any unit
LARGEST_FILE = 1 << 30  # bytes
LARGEST_PICTURE = 1 << 28  # bytes
MOST_VERTICES = 10_000_000  # of a mesh
MOST_FACES = 20_000_000  # triangles of a mesh
FEWEST_TRIANGLES = 100  # with fewer a mouth cannot be found
SMALLEST_SIZE = 1e-9  # of a mesh, in any unit


@dataclass(frozen=True, eq=False)
class MeshAttributes:
    """What a mesh file has beside its surface, kept for what is written of it.

    uv: (U, 2) float32 with uv_faces (F, 3) int32, the texture coordinates of each triangle's corners; v is upwards
    texture: a PNG or JPEG file's content, if there is one
    text: an OBJ's lines between its positions, and in their place how many there are: faces with all their corners,
    groups, materials and texture coordinates, no normals
    companions: files that the text names, by their path beside the OBJ
    colours: (V, 3) uint8, of the vertices, if there are any
    """

    uv: np.ndarray | None = None
    uv_faces: np.ndarray | None = None
    texture: bytes | None = None
    text: tuple[str | int, ...] = ()
    companions: dict[str, Path] = field(default_factory=dict)
    colours: np.ndarray | None = None


@dataclass(frozen=True, eq=False)
class Mesh:
    """vertices (V, 3) float64 in the file's own order and unit, faces (F, 3) int32 triangles; name: of the file."""

    vertices: np.ndarray
    faces: np.ndarray
    attributes: MeshAttributes | None = None
    name: str = "the mesh"


def check_mesh(mesh: Mesh, name: str) -> None:
    """Raise InputError for a mesh without a surface that could hold a face. name: in messages."""
    vertices, faces = mesh.vertices, mesh.faces
    if not len(vertices):
        raise InputError(f"{name}: a mesh without vertices", "export it again")
    if not len(faces):
        raise InputError(
            f"{name}: a mesh without faces", "talkemo needs a surface, not a point cloud"
        )
    check_counts(name, len(vertices), len(faces))
    if not np.isfinite(vertices).all():
        count = int((~np.isfinite(vertices)).any(1).sum())
        raise InputError(
            f"{name}: vertices contain NaN or infinity, {count} of them", "export it again"
        )
    if faces.min() < 0 or faces.max() >= len(vertices):
        raise InputError(f"{name}: faces name vertices that are not there", "export it again")
    if len(faces) < FEWEST_TRIANGLES:
        raise InputError(
            f"{name}: {len(faces)} triangles are too few for a face",
            f"it takes at least {FEWEST_TRIANGLES}",
        )
    if np.abs(vertices).max() > LARGEST_COORDINATE:
        raise InputError(
            f"{name}: coordinates of up to {np.abs(vertices).max():.0e}",
            f"at most {LARGEST_COORDINATE:.0e} are read",
        )
    extent = np.ptp(vertices, axis=0)
    if extent.max() < SMALLEST_SIZE:
        raise InputError(
            f"{name}: all vertices are nearly in one place",
            f"a mesh is at least {SMALLEST_SIZE:.0e} large",
        )
    if extent.min() <= 0:
        raise InputError(
            f"{name}: the mesh is flat, there is no face in it", "name a mesh in three dimensions"
        )
    if not _has_area(vertices / extent.max(), faces):
        raise InputError(
            f"{name}: the mesh has no area, its triangles are points or lines", "export it again"
        )


def check_counts(name: str, vertices: int, faces: int) -> None:
    """Raise InputError for a mesh of more vertices or triangles than are read. name: in messages."""
    if vertices > MOST_VERTICES or faces > MOST_FACES:
        raise InputError(
            f"{name}: {vertices} vertices and {faces} triangles",
            f"at most {MOST_VERTICES} and {MOST_FACES} are read; decimate it, or export the head alone",
        )


def _has_area(vertices: np.ndarray, faces: np.ndarray) -> bool:
    """Whether any triangle of a mesh of about size 1 is more than a point or a line."""
    for start in range(0, len(faces), 1 << 18):
        a, b, c = (vertices[faces[start : start + (1 << 18), k]] for k in range(3))
        if np.abs(np.cross(b - a, c - a)).max() > 1e-14:
            return True
    return False


def as_colours(values: np.ndarray) -> np.ndarray | None:
    """Colours of vertices (V, 3) as uint8, of whole numbers to 255 or of floats to 1; None where they are neither."""
    if not len(values) or not np.isfinite(values).all() or values.min() < 0 or values.max() > 255:
        return None
    full = 255 if values.dtype.kind == "u" or values.max() > 1 else 1
    return np.round(values * (255 / full)).astype(np.uint8)


def beside(path: Path, name: str, largest: int) -> Path | None:
    """A regular file of a size up to `largest` that is in the folder of another, or below; None for any other place."""
    try:
        folder = Path(os.path.realpath(path.parent))
        file = Path(os.path.realpath(folder / name.replace("\\", "/")))
        inside = file.is_relative_to(folder) and file.is_file()
        return file if inside and file.stat().st_size <= largest else None
    except (
        OSError,
        ValueError,
    ):  # links in a circle, folders that may not be read, null characters
        return None


def picture_type(content: bytes) -> str | None:
    """image/png or image/jpeg by a file's first bytes, None for anything else."""
    if content.startswith(b"\x89PNG\r\n\x1a\n"):
        return "image/png"
    return "image/jpeg" if content.startswith(b"\xff\xd8\xff") else None
