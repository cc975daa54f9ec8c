"""Bindings as npz files, for `--binding` and for the cache."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

import numpy as np

from ..errors import InputError
from ..face.canonical import Face
from ..files.arrays import read_npz
from ..files.reading import printable, reading_errors
from ..files.writing import atomic_write
from ..formats.mesh_types import Mesh
from ..geometry.rigid import Similarity
from .binding import Binding

MOST_EYES = 2  # of a binding
MOST_PARTS, LONGEST_PART = 64, 64  # of a binding, and characters of their names
LARGEST_ERROR = 1000.0  # mm, between the face model and the mesh
LARGEST_FACE = (
    100.0  # times the mesh's size that the face may be larger or smaller than, or lie beside it
)


def mesh_fingerprint(mesh: Mesh) -> str:
    """Identifies a mesh by its vertices and triangles."""
    digest = hashlib.sha256(np.ascontiguousarray(mesh.vertices, "<f8").tobytes())
    digest.update(np.ascontiguousarray(mesh.faces, "<i4").tobytes())
    return digest.hexdigest()[:32]


def save_binding(path: str | Path, binding: Binding, compressed: bool = True) -> None:
    """Write a binding to an npz, to be used again with the same mesh."""
    eyes: dict[str, Any] = {f"eye{k}": vertices for k, (vertices, _) in enumerate(binding.eyes)}
    write = np.savez_compressed if compressed else np.savez
    with atomic_write(path) as partial, partial.open("wb") as file:
        write(
            file,
            mesh=mesh_fingerprint(binding.mesh),
            face=binding.face.fingerprint,
            moving=binding.moving.astype(np.int32),
            shapes=binding.shapes,
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
    """A binding of this mesh that was saved. Raises InputError for another file, or another mesh's binding."""
    what, hint = "a binding", "make it again: talkemo bind MESH -o FILE.npz"
    vertices, shapes = len(mesh.vertices), len(face.expression_names)
    with reading_errors(path, what, hint):
        # A number of each shape and a few others for each vertex, and some small arrays.
        data = read_npz(path, what, max_bytes=vertices * (12 * shapes + 64) + (1 << 20))
        if str(data["mesh"]) != mesh_fingerprint(mesh):
            raise InputError(
                f"{printable(path)} belongs to another mesh",
                "bind this one: talkemo bind MESH -o FILE.npz",
            )
        if str(data["face"]) != face.fingerprint:
            raise InputError(
                f"{printable(path)} was made with another face model", "bind the mesh again"
            )
        return _assemble(data, face, mesh)


def _assemble(data: dict[str, np.ndarray], face: Face, mesh: Mesh) -> Binding:
    """A binding of arrays read from a file. Raises ValueError where they do not belong together."""
    moving, shapes, canonical = data["moving"], data["shapes"], data["canonical"]
    landmarks, centres = data["landmarks68"], np.asarray(data["eye_centres"], np.float64)
    eyes = [data[f"eye{k}"] for k in range(min(len(centres), MOST_EYES))]
    rotation, translation = (
        data["rotation"].astype(np.float64),
        data["translation"].astype(np.float64),
    )
    placement = Similarity(float(data["scale"]), rotation, translation)
    error, relief = float(data["error"]), float(data["relief"])
    names, counts = data["part_names"], data["part_counts"]
    vertices = len(mesh.vertices)
    checks = {
        "shapes": shapes.shape == (len(face.expression_names), len(moving), 3)
        and shapes.dtype == np.float32,
        "canonical": canonical.shape == moving.shape == (len(moving),) and len(moving) > 0,
        "landmarks68": landmarks.shape == (68,),
        "rotation": rotation.shape == (3, 3)
        and bool(np.allclose(rotation @ rotation.T, np.eye(3), atol=1e-3))
        and bool(np.linalg.det(rotation) > 0),
        "translation": translation.shape == (3,) and bool(np.isfinite(translation).all()),
        "scale": 0 < placement.scale < np.inf,
        "error and relief": bool(0 <= error < LARGEST_ERROR and -1.001 <= relief <= 1.001),
        "parts": names.shape == counts.shape == (len(names),)
        and len(names) <= MOST_PARTS
        and (not len(names) or (names.dtype.kind == "U" and counts.dtype.kind in "iu"))
        and bool((counts >= 0).all() and (counts <= vertices).all()),
        "eyes": centres.shape == (len(eyes), 3) and bool(np.isfinite(centres).all()),
        "indices": all(
            n.ndim == 1 and n.dtype.kind == "i" for n in (moving, canonical, landmarks, *eyes)
        ),
    }
    wrong = [name for name, right in checks.items() if not right]
    if wrong:
        raise ValueError(f"{', '.join(wrong)} do not fit")
    if any(n.min() < 0 or n.max() >= vertices for n in (moving, landmarks, *eyes) if n.size):
        raise ValueError("it names vertices that the mesh lacks")
    if (np.diff(moving) <= 0).any():
        raise ValueError("it names vertices twice, or not in their order")
    if canonical.min() < -1 or canonical.max() >= len(face.mean) or canonical.max() < 0:
        raise ValueError("it names vertices that the canonical face lacks, or no skin")
    _check_sizes(face, mesh, placement, centres, shapes)
    parts = dict(zip(map(str, names), map(int, counts)))
    if any(not name.isprintable() or len(name) > LONGEST_PART for name in parts):
        raise ValueError("parts do not fit")
    return Binding(
        mesh,
        face,
        moving,
        shapes,
        canonical,
        landmarks,
        placement,
        error,
        relief,
        parts,
        tuple(zip(eyes, centres)),
    )


def _check_sizes(
    face: Face, mesh: Mesh, placement: Similarity, centres: np.ndarray, shapes: np.ndarray
) -> None:
    """Raise ValueError for lengths that do not fit the mesh's own."""
    low, high = mesh.vertices.min(0), mesh.vertices.max(0)
    size = float((high - low).max())
    if (
        not 1 / LARGEST_FACE
        < placement.scale * np.ptp(face.mean, axis=0).max() / size
        < LARGEST_FACE
    ):
        raise ValueError("its scale does not fit the mesh's size")
    # The canonical face's origin lies near it.
    for place in (placement.translation, *centres):
        if (place < low - LARGEST_FACE * size).any() or (place > high + LARGEST_FACE * size).any():
            raise ValueError("its translation or eyes lie far from the mesh")
    # By its largest and smallest: an array of absolute values would take as much memory again. NaN is in both.
    if not (shapes.max() <= size and shapes.min() >= -size):
        raise ValueError("its shapes hold NaN or infinity, or move further than the mesh is large")
