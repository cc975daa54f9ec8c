"""The type of a mesh, what else its file contains, and the limits for meshes that are read."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from ..errors import InputError
from ..files.limits import limit
from .texture_atlas import Placement

if TYPE_CHECKING:
    from .gltf_origin import GltfOrigin
    from .usd_origin import UsdOrigin

MAX_COORDINATE = 1e12  # of a vertex, in any unit
MAX_MESH_FILE_BYTES = limit("MAX_MESH_FILE_BYTES", 1 << 30)
MAX_IMAGE_BYTES = 1 << 28  # an image that a mesh names
MAX_MESH_VERTICES = limit("MAX_MESH_VERTICES", 10_000_000)
MAX_MESH_TRIANGLES = limit("MAX_MESH_TRIANGLES", 20_000_000)
MAX_MORPH_TARGETS = 4096  # of an animated mesh
MIN_MESH_TRIANGLES = 100  # with fewer a mouth cannot be found
MIN_MESH_EXTENT = 1e-9  # largest side of the bounding box, in any unit
MIN_TRIANGLE_AREA = 1e-14  # twice the area, of a mesh scaled to size 1; smaller ones count as lines


@dataclass(frozen=True, eq=False)
class MeshAttributes:
    """What a mesh file contains beside its surface, kept for the files that are written of it.

    Attributes
    ----------
    uv : (U, 2) float32, optional
        Texture coordinates; v points up.
    uv_faces : (F, 3) int32, optional
        Texture coordinates of each triangle's corners.
    texture : bytes, optional
        Content of a PNG or JPEG file.
    text : tuple of str and int
        An OBJ file without positions and normals; an int stands for that number of positions.
    companions : dict of str to Path
        Files that the text names, by the name that it uses.
    colours : (V, 3) uint8, optional
        Colours of the vertices.
    groups : (V,) str, optional
        Kind of each vertex, see `groups.GROUP_KINDS`; None if only the text names groups.
    named : (V,) str, optional
        Kind of the part that each vertex belongs to by the names in a glTF, see
        `groups.WORDS_OF_KINDS`, empty where they say nothing. Only a hint: shape has to confirm it.
    has_opacity : bool
        Whether the alpha of the texture is its opacity. Otherwise it does not count.
    tiles : tuple of Placement
        The images that the texture is made of, in their own sizes; none if it is one image.
    """

    uv: np.ndarray | None = None
    uv_faces: np.ndarray | None = None
    texture: bytes | None = None
    text: tuple[str | int, ...] = ()
    companions: dict[str, Path] = field(default_factory=dict)
    colours: np.ndarray | None = None
    groups: np.ndarray | None = None
    named: np.ndarray | None = None
    has_opacity: bool = False
    tiles: tuple[Placement, ...] = ()


@dataclass(frozen=True, eq=False)
class MeshShape:
    """A blend shape that a mesh's file contains, or a mix of them that the file names.

    Attributes
    ----------
    name : str
        As the file spells it.
    count : int
        Vertices N of the mesh.
    rows : (R,) int32
        Vertices that it moves, ascending.
    values : (R, 3) float32
        Their displacements at weight 1.
    at_rest : float
        Its weight in `Mesh.vertices`.
    mix : tuple of (str, float)
        Names and weights of the shapes that it consists of, such as those of a VRM's expression;
        empty for a shape of its own.
    """

    name: str
    count: int
    rows: np.ndarray
    values: np.ndarray
    at_rest: float = 0.0
    mix: tuple[tuple[str, float], ...] = ()

    @property
    def displacement(self) -> np.ndarray:
        """(N, 3) float32, of all vertices at weight 1."""
        result = np.zeros((self.count, 3), np.float32)
        result[self.rows] = self.values
        return result


@dataclass(frozen=True, eq=False)
class Mesh:
    """A surface of triangles, with vertices in the order and unit of its file."""

    vertices: np.ndarray  # (V, 3) float64
    faces: np.ndarray  # (F, 3) int32
    attributes: MeshAttributes | None = None
    name: str = "the mesh"  # of its file, for messages
    notes: tuple[str, ...] = ()  # what its file contains that is left out, as sentences
    origin: GltfOrigin | UsdOrigin | None = None  # the glTF or USD that it was read from
    # Reads the blend shapes of its file, which are large; None if there cannot be any.
    load_shapes: Callable[[], tuple[MeshShape, ...]] | None = None

    @cached_property
    def shapes(self) -> tuple[MeshShape, ...]:
        """Blend shapes of its file, read when they are first used. Raises InputError."""
        return () if self.load_shapes is None else self.load_shapes()


def check_mesh(mesh: Mesh, name: str) -> None:
    """Raise InputError, naming the mesh, if it has no surface that could contain a face."""
    again = "export it again"
    vertices, faces = mesh.vertices, mesh.faces
    if not len(vertices):
        raise InputError(
            f"{name}: not a mesh, it has no vertices",
            "export it again, with its vertices and triangles",
        )
    if not len(faces):
        raise InputError(
            f"{name}: a mesh without faces", "talkemo needs a surface, not a point cloud"
        )
    check_counts(name, len(vertices), len(faces))
    if not np.isfinite(vertices).all():
        count = int((~np.isfinite(vertices)).any(1).sum())
        raise InputError(f"{name}: vertices contain NaN or infinity, {count} of them", again)
    if faces.min() < 0 or faces.max() >= len(vertices):
        raise InputError(f"{name}: faces refer to vertices that do not exist", again)
    if len(faces) < MIN_MESH_TRIANGLES:
        raise InputError(
            f"{name}: {len(faces)} triangles are too few for a face",
            f"at least {MIN_MESH_TRIANGLES} are needed",
        )
    if np.abs(vertices).max() > MAX_COORDINATE:
        raise InputError(
            f"{name}: coordinates of up to {np.abs(vertices).max():.0e}",
            f"at most {MAX_COORDINATE:.0e} are read",
        )
    extent = np.ptp(vertices, axis=0)
    if extent.max() < MIN_MESH_EXTENT:
        raise InputError(
            f"{name}: all vertices are nearly in one place",
            f"a mesh is at least {MIN_MESH_EXTENT:.0e} large",
        )
    if extent.min() <= 0:
        raise InputError(f"{name}: the mesh is flat and has no face", "use a mesh with depth")
    if not _has_area(vertices / extent.max(), faces):
        raise InputError(f"{name}: the mesh has no area, its triangles are points or lines", again)


def check_counts(name: str, vertices: int, triangles: int) -> None:
    """Raise InputError, naming the mesh, for more vertices or triangles than are read."""
    if vertices > MAX_MESH_VERTICES or triangles > MAX_MESH_TRIANGLES:
        raise InputError(
            f"{name}: {vertices} vertices and {triangles} triangles",
            f"at most {MAX_MESH_VERTICES} and {MAX_MESH_TRIANGLES} are read; decimate it, or "
            "export the head alone",
        )


def _has_area(vertices: np.ndarray, faces: np.ndarray) -> bool:
    """Whether any triangle of a mesh of about size 1 is more than a point or a line."""
    step = 1 << 18  # triangles at once, to bound memory
    for start in range(0, len(faces), step):
        a, b, c = (vertices[faces[start : start + step, k]] for k in range(3))
        if np.abs(np.cross(b - a, c - a)).max() > MIN_TRIANGLE_AREA:
            return True
    return False


def as_colours(values: np.ndarray) -> np.ndarray | None:
    """Convert colours (V, 3), integers up to 255 or floats up to 1, to uint8; None if invalid."""
    if not len(values) or not np.isfinite(values).all() or values.min() < 0 or values.max() > 255:
        return None
    full = 255 if values.dtype.kind == "u" or values.max() > 1 else 1
    return np.round(values * (255 / full)).astype(np.uint8)


def companion_path(path: Path, name: str, max_bytes: int) -> Path | None:
    """Return a file that a mesh names, if it is regular, small enough, and in the mesh's folder."""
    try:
        folder = Path(os.path.realpath(path.parent))
        file = Path(os.path.realpath(folder / name.replace("\\", "/")))
        allowed = file.is_relative_to(folder) and file.is_file()
        return file if allowed and file.stat().st_size <= max_bytes else None
    except (OSError, ValueError):  # circular links, unreadable folders, null characters
        return None


def image_type(content: bytes) -> str | None:
    """Return the media type of a PNG or JPEG by its first bytes, None for anything else."""
    if content.startswith(b"\x89PNG\r\n\x1a\n"):
        return "image/png"
    return "image/jpeg" if content.startswith(b"\xff\xd8\xff") else None
