"""Reading a user's mesh: vertices in the file's own order, triangles, and nothing believed that was not checked."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from ..errors import InputError
from ..files.reading import open_file, printable, reading_errors
from ..files.writing import atomic_write
from .mesh_types import LARGEST_FILE, Mesh, MeshAttributes, check_mesh
from .obj import read_obj

MESH_FORMATS = (".obj", ".ply", ".stl", ".off", ".glb", ".gltf")


def as_mesh(source: str | Path | Mesh | tuple[np.ndarray, np.ndarray]) -> Mesh:
    """A mesh of a file's path, or of (vertices (V, 3), faces (F, 3)). Raises InputError for an unusable one."""
    if isinstance(source, str | Path):
        return load_mesh(source)
    if not isinstance(source, Mesh):
        vertices, faces = (np.asarray(array) for array in source)
        if vertices.ndim != 2 or vertices.shape[1] != 3 or vertices.dtype.kind not in "fiu":
            raise InputError(
                f"vertices are {vertices.dtype} {vertices.shape}", "give (V, 3) floats"
            )
        if faces.ndim != 2 or faces.shape[1] != 3 or faces.dtype.kind not in "iu":
            raise InputError(
                f"faces are {faces.dtype} {faces.shape}", "give (F, 3) integers, triangles"
            )
        if faces.size and (
            faces.min() < 0 or faces.max() >= len(vertices)
        ):  # before int32 wraps them
            raise InputError("faces name vertices that are not there", "count vertices from 0")
        source = Mesh(vertices.astype(np.float64), faces.astype(np.int32))
    check_mesh(source, source.name)
    return source


def load_mesh(path: str | Path) -> Mesh:
    """Read obj, ply, stl, off or glb. Raises InputError for anything that is not a usable mesh."""
    path = Path(path)
    kinds, again = f"talkemo reads {', '.join(MESH_FORMATS)}", "export it again"
    with open_file(path, "a mesh file", kinds, LARGEST_FILE) as file:
        if path.suffix.lower() not in MESH_FORMATS:
            raise InputError(f"{printable(path)}: unknown kind of mesh", kinds)
        attributes: MeshAttributes | None
        with reading_errors(path, "a readable mesh", again):
            if path.suffix.lower() == ".obj":
                vertices, faces, attributes = read_obj(path, file)
            else:
                from .trimesh_reader import read_with_trimesh

                vertices, faces, attributes = read_with_trimesh(path, file)
            mesh = Mesh(vertices, faces, attributes, path.name)
            check_mesh(mesh, printable(path))
    return mesh


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
        partial.write_bytes(
            head.encode() + np.ascontiguousarray(vertices, "<f4").tobytes() + rows.tobytes()
        )
