"""Reading a user's mesh, with vertices in the order of its file."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from ..errors import InputError
from ..files.content import named_as
from ..files.reading import naming_content, open_file, printable, reading_errors
from ..files.writing import atomic_write
from .mesh_types import MAX_MESH_FILE_BYTES, Mesh, check_mesh
from .obj import read_obj
from .usd_layers import USD_ENDINGS

GLTF_ENDINGS = (".glb", ".gltf", ".vrm")
MESH_ENDINGS = (".obj", ".ply", ".stl", ".off", *GLTF_ENDINGS, *USD_ENDINGS)


def as_mesh(source: str | Path | Mesh | tuple[np.ndarray, np.ndarray]) -> Mesh:
    """Return a mesh from a path, a Mesh, or vertices (V, 3) and triangles (F, 3).

    Raises
    ------
    InputError
        If it is not a usable mesh; see `check_mesh`.
    """
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
        # Checked before the conversion to int32, which would wrap large indices.
        if faces.size and (faces.min() < 0 or faces.max() >= len(vertices)):
            raise InputError("faces refer to vertices that do not exist", "count vertices from 0")
        source = Mesh(vertices.astype(np.float64), faces.astype(np.int32))
    check_mesh(source, source.name)
    return source


def load_mesh(path: str | Path) -> Mesh:
    """Read a file with one of MESH_ENDINGS; raise InputError if it is not a usable mesh."""
    path = Path(path)
    hint = f"talkemo reads {', '.join(MESH_ENDINGS)}"
    with open_file(path, "a mesh file", hint, MAX_MESH_FILE_BYTES) as file:
        if path.suffix.lower() not in MESH_ENDINGS:
            kind = named_as(path)
            what = f"{kind}, not a mesh" if kind else "unknown kind of mesh"
            raise InputError(f"{printable(path)}: {what}", hint)
        what = "a readable mesh"
        again = reading_errors(path, what, f"export it again; {hint}")
        with naming_content(path, what, hint), again:
            if path.suffix.lower() == ".obj":
                mesh = read_obj(path, file)
            elif path.suffix.lower() in GLTF_ENDINGS:
                from .gltf_reader import read_gltf

                mesh = read_gltf(path, file)
            elif path.suffix.lower() in USD_ENDINGS:
                from .usd_reader import read_usd

                mesh = read_usd(path)
            else:
                from .trimesh_reader import read_with_trimesh

                mesh = read_with_trimesh(path, file)
            check_mesh(mesh, printable(path))
    return mesh


def save_ply(path: str | Path, vertices: np.ndarray, faces: np.ndarray) -> None:
    """Write vertices (V, 3) and triangles (F, 3) as a binary PLY with float32 positions."""
    header = (
        f"ply\nformat binary_little_endian 1.0\nelement vertex {len(vertices)}\n"
        "property float x\nproperty float y\nproperty float z\n"
        f"element face {len(faces)}\nproperty list uchar int vertex_indices\nend_header\n"
    )
    rows = np.empty(len(faces), [("count", "u1"), ("corners", "<i4", 3)])
    rows["count"], rows["corners"] = 3, faces
    with atomic_write(path) as partial:
        partial.write_bytes(
            header.encode() + np.ascontiguousarray(vertices, "<f4").tobytes() + rows.tobytes()
        )
