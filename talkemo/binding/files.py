"""Bindings as npz files, for `--binding` and for the cache."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from ..errors import InputError
from ..face.canonical import Face
from ..files.arrays import read_npz
from ..files.reading import printable, reading_errors
from ..files.writing import atomic_write
from ..formats.mesh_types import Mesh
from ..geometry.rigid import Similarity
from .binding import Binding

# Limits of what is read from a file.
MAX_BINDING_EYES = 2
MAX_BINDING_PARTS, MAX_PART_NAME_CHARACTERS = 64, 64
MAX_BINDING_ERROR_MM = 1000.0  # between the face model and the mesh
# Size of the face relative to the mesh, or the inverse; and distance of its origin and eyes from
# the mesh, relative to the mesh's size.
MAX_FACE_RATIO = 100.0


def mesh_fingerprint(mesh: Mesh) -> str:
    """Return a hash of a mesh's vertices and triangles."""
    digest = hashlib.sha256(np.ascontiguousarray(mesh.vertices, "<f8").tobytes())
    digest.update(np.ascontiguousarray(mesh.faces, "<i4").tobytes())
    return digest.hexdigest()[:32]


def save_binding(path: str | Path, binding: Binding, compressed: bool = True) -> None:
    """Write a binding to an npz file, for the same mesh; `load_binding` reads it."""
    eyes: dict[str, Any] = {f"eye{k}": vertices for k, (vertices, _) in enumerate(binding.eyes)}
    write = np.savez_compressed if compressed else np.savez
    with atomic_write(path) as partial, partial.open("wb") as file:
        write(
            file,
            mesh=mesh_fingerprint(binding.mesh),
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
        )


def load_binding(path: str | Path, face: Face, mesh: Mesh) -> Binding:
    """Read the saved binding of a mesh.

    Raises InputError if the file is not a binding, or one of another mesh or face model.
    """
    what, hint = "a binding", "make it again: talkemo bind MESH -o FILE.npz"
    vertices, shapes = len(mesh.vertices), len(face.expression_names)
    with reading_errors(path, what, hint):
        # One displacement per shape and a few numbers for each vertex, and some small arrays.
        data = read_npz(path, what, largest=vertices * (12 * shapes + 64) + (1 << 20))
        if str(data["mesh"]) != mesh_fingerprint(mesh):
            raise InputError(
                f"{printable(path)} belongs to another mesh",
                "bind this one: talkemo bind MESH -o FILE.npz",
            )
        if str(data["face"]) != face.fingerprint:
            raise InputError(
                f"{printable(path)} was made with another face model", "bind the mesh again"
            )
        return _binding_of_arrays(data, face, mesh)


def _binding_of_arrays(data: dict[str, np.ndarray], face: Face, mesh: Mesh) -> Binding:
    """Make a binding of the arrays of a file. Raises ValueError if they do not fit the mesh."""
    centres = np.asarray(data["eye_centres"], np.float64).reshape(-1, 3)
    eyes = [f"eye{k}" for k in range(len(centres))]
    names = [str(name) for name in data["part_names"]]
    if len(eyes) > MAX_BINDING_EYES or len(names) > MAX_BINDING_PARTS:
        raise ValueError("it has too many eyes or parts")
    for name, spec in _array_specs(data["moving"].size, len(names), eyes, face, mesh).items():
        spec.check(name, data[name])
    moving, rotation = data["moving"], data["rotation"].astype(np.float64)
    if not len(moving) or (np.diff(moving) <= 0).any():
        raise ValueError("it has no moving vertices, or not in their order")
    if data["canonical"].max() < 0:
        raise ValueError("it has no skin")
    if not np.allclose(rotation @ rotation.T, np.eye(3), atol=1e-3) or np.linalg.det(rotation) < 0:
        raise ValueError("its rotation is none")
    if any(not name.isprintable() or len(name) > MAX_PART_NAME_CHARACTERS for name in names):
        raise ValueError("its parts have unusable names")
    return Binding(
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
    )


class _ArraySpec(NamedTuple):
    """What an array of a file has to be."""

    shape: tuple[int | None, ...]  # None for any length
    dtype: Any  # numpy type, of which the array's is a subtype
    low: float | np.ndarray | None = None  # bounds of the values, of each column if an array
    high: float | np.ndarray | None = None
    reason: str = "it has values out of range"  # why values out of bounds cannot be used

    def check(self, name: str, array: np.ndarray) -> None:
        """Raise ValueError unless an array is as specified."""
        lengths = [
            length if size is None else size for size, length in zip(self.shape, array.shape)
        ]
        if array.ndim != len(self.shape) or list(array.shape) != lengths:
            raise ValueError(f"{name} has the shape {array.shape}")
        if not array.size:
            return
        if not np.issubdtype(array.dtype, self.dtype):
            raise ValueError(f"{name} has the type {array.dtype}")
        if self.low is not None and self.high is not None:
            # By the extremes, because comparing all values takes memory. NaN is in both of them.
            values = array.reshape(-1, np.size(self.low))
            if not ((values.min(0) >= self.low).all() and (values.max(0) <= self.high).all()):
                raise ValueError(f"{name}: {self.reason}")


def _array_specs(
    moving: int, parts: int, eyes: list[str], face: Face, mesh: Mesh
) -> dict[str, _ArraySpec]:
    """Return what each array of a file has to be, for numbers of moving vertices and of parts."""
    index, real, vertices = np.signedinteger, np.floating, len(mesh.vertices)
    low, high = mesh.vertices.min(0), mesh.vertices.max(0)
    size = float((high - low).max())
    scale = size / float(np.ptp(face.mean, axis=0).max())
    nearby = low - MAX_FACE_RATIO * size, high + MAX_FACE_RATIO * size
    no_vertex, far = "it names vertices that the mesh lacks", "it lies far from the mesh"
    shapes = (len(face.expression_names), moving, 3)
    too_far = "displacements contain NaN or infinity, or move further than the mesh is large"
    vertex_range = (0, vertices - 1, no_vertex)
    return {
        "moving": _ArraySpec((moving,), index, *vertex_range),
        "shapes": _ArraySpec(shapes, np.float32, -size, size, too_far),
        "canonical": _ArraySpec(
            (moving,), index, -1, len(face.mean) - 1, "it names vertices that the face lacks"
        ),
        "landmarks68": _ArraySpec((68,), index, *vertex_range),
        "scale": _ArraySpec((), real, scale / MAX_FACE_RATIO, scale * MAX_FACE_RATIO),
        "rotation": _ArraySpec((3, 3), real, -1.001, 1.001),
        "translation": _ArraySpec((3,), real, *nearby, far),
        "error": _ArraySpec((), real, 0, MAX_BINDING_ERROR_MM),
        "relief": _ArraySpec((), real, -1.001, 1.001),
        "part_names": _ArraySpec((parts,), np.str_),
        "part_counts": _ArraySpec((parts,), np.integer, 0, vertices),
        "eye_centres": _ArraySpec((len(eyes), 3), real, *nearby, far),
        **{eye: _ArraySpec((None,), index, *vertex_range) for eye in eyes},
    }
