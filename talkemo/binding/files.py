"""Bindings as npz files, for `--binding` and for the cache."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

import numpy as np

from ..errors import InputError
from ..face import Face
from ..files import atomic_write, read_npz
from ..formats.mesh import Mesh
from ..geometry import Similarity
from .binding import Binding


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
    data = read_npz(path, "a binding")
    try:
        if str(data["mesh"]) != mesh_fingerprint(mesh):
            raise InputError(f"{path} belongs to another mesh", "bind this one: talkemo bind MESH -o FILE.npz")
        if str(data["face"]) != face.fingerprint:
            raise InputError(f"{path} was made with another face model", "bind the mesh again")
        binding = _assemble(data, face, mesh)
    except (KeyError, ValueError, TypeError, AttributeError, IndexError) as error:
        if isinstance(error, InputError):
            raise
        raise InputError(f"{path}: not a binding ({error})", "make it again: talkemo bind MESH -o FILE.npz") from None
    return binding


def _assemble(data: dict[str, np.ndarray], face: Face, mesh: Mesh) -> Binding:
    """A binding of arrays read from a file. Raises ValueError where they do not belong together."""
    moving, shapes, canonical = data["moving"], data["shapes"], data["canonical"]
    landmarks, centres = data["landmarks68"], np.asarray(data["eye_centres"], np.float64)
    eyes = [data[f"eye{k}"] for k in range(len(centres))]
    rotation, translation = data["rotation"].astype(np.float64), data["translation"].astype(np.float64)
    placement = Similarity(float(data["scale"]), rotation, translation)
    error, relief = float(data["error"]), float(data["relief"])
    parts = dict(zip(map(str, data["part_names"]), map(int, data["part_counts"])))
    checks = {
        "shapes": shapes.shape == (len(face.expression_names), len(moving), 3) and shapes.dtype == np.float32,
        "canonical": canonical.shape == moving.shape == (len(moving),),
        "landmarks68": landmarks.shape == (68,),
        "rotation": rotation.shape == (3, 3) and bool(np.allclose(rotation @ rotation.T, np.eye(3), atol=1e-3)),
        "translation": translation.shape == (3,) and bool(np.isfinite(translation).all()),
        "scale": 0 < placement.scale < np.inf,
        "error and relief": bool(np.isfinite([error, relief]).all()),
        "eyes": centres.ndim == 2 and centres.shape[1:] == (3,) and bool(np.isfinite(centres).all()),
        "indices": all(n.ndim == 1 and n.dtype.kind == "i" for n in (moving, canonical, landmarks, *eyes)),
    }
    wrong = [name for name, right in checks.items() if not right]
    if wrong:
        raise ValueError(f"{', '.join(wrong)} do not fit")
    count = len(mesh.vertices)
    if any(n.min() < 0 or n.max() >= count for n in (moving, landmarks, *eyes) if n.size):
        raise ValueError("it names vertices that the mesh lacks")
    if canonical.min() < -1 or canonical.max() >= len(face.mean):
        raise ValueError("it names vertices that the canonical face lacks")
    size = np.ptp(mesh.vertices, axis=0).max()
    if not np.isfinite(shapes).all() or np.abs(shapes).max() > size:
        raise ValueError("its shapes hold NaN or infinity, or move further than the mesh is large")
    return Binding(
        mesh, face, moving, shapes, canonical, landmarks, placement, error, relief, parts, tuple(zip(eyes, centres))
    )
