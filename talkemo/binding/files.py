"""Bindings as npz files, for `--binding` and for the cache."""

from __future__ import annotations

import hashlib
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from ..errors import InputError
from ..face.canonical import Face
from ..face.openings import COLUMNS
from ..files.arrays import read_npz
from ..files.reading import printable, reading_errors
from ..files.writing import atomic_write
from ..formats.mesh_types import Mesh
from ..geometry.rigid import Similarity
from .binding import Binding, LipCut
from .body import CONTOUR_POINTS

# Limits of what is read from a file.
MAX_BINDING_EYES = 2
MAX_BINDING_PARTS, MAX_PART_NAME_CHARACTERS = 64, 64
MAX_BINDING_ERROR_MM = 1000.0  # between the face model and the mesh
MAX_LIP_GAP_MM, MAX_CONTOUR_MM = 100.0, 1000.0
OPTIONAL_ARRAYS = "lip_gap", "lid_contours", "other_faces"  # old versions did not store them
MAX_OTHER_FACES = 64
MAX_CUT_VERTICES, MAX_LINE_POINTS = 200_000, 256  # of a cut between lips
# Face and mesh may differ in size by up to this factor, and the face's origin and eyes may be up to
# this many sizes of the mesh away from it.
MAX_FACE_RATIO = 100.0


# Largest distance between a vertex and that of the bound mesh, relative to the mesh's size, at
# which both meshes count as the same. Files round positions to float32 or a few decimals, and
# convert units.
MAX_ROUNDING = 1e-4


def mesh_fingerprint(mesh: Mesh) -> str:
    """Return a hash of a mesh's exact vertices and triangles."""
    digest = hashlib.sha256(np.ascontiguousarray(mesh.vertices, "<f8").tobytes())
    digest.update(np.ascontiguousarray(mesh.faces, "<i4").tobytes())
    return digest.hexdigest()[:32]


def save_binding(path: str | Path, binding: Binding, compressed: bool = False) -> None:
    """Write a binding to an npz file, for the same mesh; `load_binding` reads it.

    Compression makes it 7 % smaller, and takes seconds for a mesh with many vertices.
    """
    eyes: dict[str, Any] = {f"eye{k}": vertices for k, (vertices, _) in enumerate(binding.eyes)}
    optional: dict[str, Any] = _cut_arrays(binding.cut)
    for name in OPTIONAL_ARRAYS:
        if getattr(binding, name) is not None:
            optional[name] = getattr(binding, name)
    write = np.savez_compressed if compressed else np.savez
    with atomic_write(path) as partial, partial.open("wb") as file:
        write(
            file,
            mesh=mesh_fingerprint(binding.mesh),
            mesh_vertices=binding.mesh.vertices.astype(np.float32),
            mesh_faces=_triangle_fingerprint(binding.mesh),
            face=binding.face.fingerprint,
            moving=binding.moving.astype(np.int32),
            shapes=binding.targets,
            canonical=binding.canonical.astype(np.int32),
            landmarks68=binding.landmarks68,
            scale=binding.placement.scale,
            rotation=binding.placement.rotation,
            translation=binding.placement.translation,
            error=binding.error,
            relief=binding.relief,
            part_names=list(binding.parts),
            part_counts=list(binding.parts.values()),
            eye_centres=np.array([centre for _, centre in binding.eyes]).reshape(-1, 3),
            **eyes,
            **optional,
        )


def _cut_arrays(cut: LipCut | None) -> dict[str, np.ndarray]:
    """Return the arrays of a cut. The cut mesh itself is made again when they are read."""
    if cut is None:
        return {}
    return {
        "cut_line": cut.line,
        "cut_skin": cut.skin,
        "cut_moving": cut.binding.moving.astype(np.int32),
        "cut_shapes": cut.binding.targets,
        "cut_canonical": cut.binding.canonical.astype(np.int32),
    }


def load_binding(path: str | Path, face: Face, mesh: Mesh) -> Binding:
    """Read the saved binding of a mesh.

    Raises InputError if the file is not a binding, or one of another mesh or face model.
    """
    what, hint = "a binding", "make it again: talkemo bind MESH -o FILE.npz"
    vertices, shapes = len(mesh.vertices), len(face.expression_names)
    with reading_errors(path, what, hint):
        # One displacement per shape and a few numbers for each vertex, and some small arrays; once
        # more for a mesh that was cut, with up to MAX_CUT_VERTICES.
        cut_bytes = (vertices + MAX_CUT_VERTICES) * (12 * shapes + 64)
        max_bytes = vertices * (12 * shapes + 64) + cut_bytes + (1 << 20)
        data = read_npz(path, what, max_bytes=max_bytes)
        if not _is_same_mesh(data, mesh):
            raise InputError(
                f"{printable(path)} belongs to another mesh",
                "bind this one: talkemo bind MESH -o FILE.npz",
            )
        if str(data["face"]) != face.fingerprint:
            raise InputError(
                f"{printable(path)} was made with another face model", "bind the mesh again"
            )
        return _binding_of_arrays(data, face, mesh)


def _triangle_fingerprint(mesh: Mesh) -> str:
    """A hash of a mesh's triangles."""
    return hashlib.sha256(np.ascontiguousarray(mesh.faces, "<i4").tobytes()).hexdigest()[:32]


def _is_same_mesh(data: dict[str, np.ndarray], mesh: Mesh) -> bool:
    """Whether a binding's arrays belong to a mesh, exact or rounded.

    Raises ValueError if they name no mesh.
    """
    if data["mesh"].shape != ():
        raise ValueError("mesh is not one fingerprint")
    if str(data["mesh"]) == mesh_fingerprint(mesh):
        return True
    vertices = data.get("mesh_vertices")  # versions before 0.2 stored the hash only
    if vertices is None or vertices.shape != mesh.vertices.shape or vertices.dtype.kind != "f":
        return False
    if str(data.get("mesh_faces")) != _triangle_fingerprint(mesh):
        return False
    size = np.ptp(mesh.vertices, axis=0).max()
    return bool(np.abs(vertices - mesh.vertices).max() <= MAX_ROUNDING * size)


def _binding_of_arrays(data: dict[str, np.ndarray], face: Face, mesh: Mesh) -> Binding:
    """Make a binding of the arrays of a file. Raises ValueError if they do not fit the mesh."""
    centres = np.asarray(data["eye_centres"], np.float64).reshape(-1, 3)
    eyes = [f"eye{k}" for k in range(len(centres))]
    if len(eyes) > MAX_BINDING_EYES or len(data["part_names"]) > MAX_BINDING_PARTS:
        raise ValueError("too many eyes or parts")
    _check_arrays(data, eyes, face, mesh)
    moving, rotation = data["moving"], data["rotation"].astype(np.float64)
    names = [str(name) for name in data["part_names"]]
    if not len(moving) or (np.diff(moving) <= 0).any():
        raise ValueError("moving is empty or not ascending")
    if data["canonical"].max() < 0:
        raise ValueError("canonical names no skin")
    if not np.allclose(rotation @ rotation.T, np.eye(3), atol=1e-3) or np.linalg.det(rotation) < 0:
        raise ValueError("rotation is not a rotation matrix")
    if any(not name.isprintable() or len(name) > MAX_PART_NAME_CHARACTERS for name in names):
        raise ValueError("part_names cannot be used")
    binding = Binding(
        mesh=mesh,
        face=face,
        moving=moving,
        targets=data["shapes"],
        canonical=data["canonical"],
        landmarks68=data["landmarks68"],
        placement=Similarity(
            float(data["scale"]), rotation, data["translation"].astype(np.float64)
        ),
        error=float(data["error"]),
        relief=float(data["relief"]),
        parts=dict(zip(names, map(int, data["part_counts"]))),
        eyes=tuple((data[eye], centre) for eye, centre in zip(eyes, centres)),
        lip_gap=data.get("lip_gap"),
        lid_contours=data.get("lid_contours"),
        other_faces=int(data["other_faces"]) if "other_faces" in data else None,
    )
    return replace(binding, cut=_cut_of_arrays(data, binding)) if "cut_line" in data else binding


def _cut_of_arrays(data: dict[str, np.ndarray], binding: Binding) -> LipCut | None:
    """Cut a binding's mesh as when it was bound; None if rounding made that another cut.

    Raises ValueError if the arrays do not fit the mesh.
    """
    from .body import weld
    from .lip_cut import cut_lips
    from .lip_line import LipLine

    line, skin, moving = data["cut_line"], data["cut_skin"], data["cut_moving"]
    if line.ndim != 2 or len(line) != 3 or not 2 <= line.shape[1] <= MAX_LINE_POINTS:
        raise ValueError("cut_line is no line")
    if line.dtype.kind != "f" or not np.isfinite(line).all() or (np.diff(line[0]) <= 0).any():
        raise ValueError("cut_line is no line")
    mesh = binding.mesh
    if skin.shape != (len(mesh.vertices),) or skin.dtype != bool:
        raise ValueError("cut_skin does not fit the mesh")
    if not len(moving) or (np.diff(moving) <= 0).any():
        raise ValueError("cut_moving is empty or not ascending")
    merged, contours = weld(mesh).merged, binding.lid_contours
    cut = cut_lips(mesh, merged, skin, binding.placement, LipLine(*line), contours)
    if cut is None or moving[-1] >= len(cut.mesh.vertices):
        return None
    shown = replace(
        binding,
        mesh=cut.mesh,
        moving=moving,
        targets=data["cut_shapes"],
        canonical=data["cut_canonical"],
    )
    return LipCut(shown, line, skin)


def _check_arrays(data: dict[str, np.ndarray], eyes: list[str], face: Face, mesh: Mesh) -> None:
    """Raise ValueError unless arrays have the shapes, types and bounds of a binding's."""
    index, real, last_vertex = np.signedinteger, np.floating, len(mesh.vertices) - 1
    moving, parts = data["moving"].size, data["part_names"].size
    low, high = mesh.vertices.min(0), mesh.vertices.max(0)
    size = float((high - low).max())
    scale = size / float(np.ptp(face.mean, axis=0).max())
    nearby = low - MAX_FACE_RATIO * size, high + MAX_FACE_RATIO * size
    specifications: dict[str, tuple[tuple[int, ...], type, Any, Any]] = {
        # name: shape, type, lowest and highest value (of each column, if an array)
        "moving": ((moving,), index, 0, last_vertex),
        "shapes": ((len(face.expression_names), moving, 3), np.float32, -size, size),
        "canonical": ((moving,), index, -1, len(face.mean) - 1),
        "landmarks68": ((68,), index, 0, last_vertex),
        "scale": ((), real, scale / MAX_FACE_RATIO, scale * MAX_FACE_RATIO),
        "rotation": ((3, 3), real, -1.001, 1.001),
        "translation": ((3,), real, *nearby),
        "error": ((), real, 0, MAX_BINDING_ERROR_MM),
        "relief": ((), real, -1.001, 1.001),
        "part_names": ((parts,), np.str_, None, None),
        "part_counts": ((parts,), np.integer, 0, last_vertex + 1),
        "eye_centres": ((len(eyes), 3), real, *nearby),
        **{eye: ((data[eye].size,), index, 0, last_vertex) for eye in eyes},
    }
    if "cut_line" in data:
        moved = data["cut_moving"].size
        specifications |= {
            "cut_moving": ((moved,), index, 0, last_vertex + MAX_CUT_VERTICES),
            "cut_shapes": ((len(face.expression_names), moved, 3), np.float32, -size, size),
            "cut_canonical": ((moved,), index, -1, len(face.mean) - 1),
        }
    if "lip_gap" in data:
        specifications["lip_gap"] = ((COLUMNS,), real, 0, MAX_LIP_GAP_MM)
    if "other_faces" in data:
        specifications["other_faces"] = ((), np.integer, 0, MAX_OTHER_FACES)
    if "lid_contours" in data:
        limits = -MAX_CONTOUR_MM, MAX_CONTOUR_MM
        specifications["lid_contours"] = ((2, CONTOUR_POINTS, 3), real, *limits)
    for name, (shape, dtype, lowest, highest) in specifications.items():
        array = data[name]
        if array.shape != shape or (array.size and not np.issubdtype(array.dtype, dtype)):
            raise ValueError(f"{name} has the shape {array.shape} and type {array.dtype}")
        if array.size and lowest is not None:
            # Only the extremes: comparing all values takes memory. With a NaN, both are NaN.
            values = array.reshape(-1, np.size(lowest))
            if not ((values.min(0) >= lowest).all() and (values.max(0) <= highest).all()):
                raise ValueError(f"{name} contains NaN or values out of range")
