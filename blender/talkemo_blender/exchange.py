"""What passes between Blender and talkemo: a mesh out as OBJ, shapes and weights back as npz."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np


@dataclass(frozen=True, eq=False)
class Part:
    """The mesh of one object, in the world.

    Attributes
    ----------
    vertices : (N, 3)
        Without shape keys and modifiers.
    corners : (C,)
        Vertices of the polygons, one polygon after the other.
    sizes : (P,)
        Number of each polygon's corners.
    groups : sequence of str
        A name for each polygon, which may say that it belongs to eyes, teeth or a hidden helper.
    mirrored : bool
        Whether the object's transform turns polygons inside out.
    """

    vertices: np.ndarray
    corners: np.ndarray
    sizes: np.ndarray
    groups: Sequence[str]
    mirrored: bool = False


@dataclass(frozen=True, eq=False)
class AddedPart:
    """A part that the face lacks, such as teeth, in the world.

    Attributes
    ----------
    name : str
    vertices : (P, 3)
    faces : (F, 3)
    targets : (K, P, 3)
        See `Animation`.
    surface : (4,)
        Linear red, green and blue, and the roughness.
    uv : (P, 2) or None
    texture : bytes
        A PNG; empty for none.
    """

    name: str
    vertices: np.ndarray
    faces: np.ndarray
    targets: np.ndarray
    surface: np.ndarray
    uv: np.ndarray | None
    texture: bytes


@dataclass(frozen=True, eq=False)
class Animation:
    """What talkemo returns.

    Attributes
    ----------
    fps : float
    names : list of str
        Of the K blend shapes.
    weights : (T, K)
        In [0, 1].
    targets : (K, N, 3) or None
        Displacements of the mesh's vertices at weight 1; None without a mesh.
    head : (T, 3, 3) or None
        Rotations of the head, in the axes of the canonical face: x to the left of the face, y up,
        z ahead. None if it stays still.
    facing : (3, 3)
        Rotation of the canonical face in the mesh.
    pivot, share : (3,), (N,)
        The point that the head turns about, and each vertex's fraction of the rotation.
    added : sequence of AddedPart
        What the face lacks.
    one_skin : bool
        Whether no edge of the mesh lies between the lips, so that they cannot part.
    """

    fps: float
    names: list[str]
    weights: np.ndarray
    targets: np.ndarray | None
    head: np.ndarray | None
    facing: np.ndarray
    pivot: np.ndarray
    share: np.ndarray
    added: Sequence[AddedPart] = ()
    one_skin: bool = False


def obj_text(parts: Sequence[Part]) -> str:
    """Return parts as one OBJ, with their vertices in order and a group where the name changes."""
    lines: list[str] = []
    for part in parts:
        lines += [f"v {x:.9g} {y:.9g} {z:.9g}" for x, y, z in part.vertices.tolist()]
    first, group = 1, ""
    for part in parts:
        corners = (part.corners + first).tolist()
        step = -1 if part.mirrored else 1
        start = 0
        for size, name in zip(part.sizes.tolist(), part.groups):
            if name != group:
                group = name
                lines.append(f"g {_one_line(name)}")
            lines.append("f " + " ".join(map(str, corners[start : start + size][::step])))
            start += size
        first += len(part.vertices)
    return "\n".join([*lines, ""])


def _one_line(name: str) -> str:
    """A name without characters that end a line; a word if it is empty."""
    return " ".join(name.split()) or "skin"


def read_animation(path: Path, has_mesh: bool = True) -> Animation:
    """Read what talkemo wrote with `--arrays shapes`.

    `has_mesh`: whether the displacements are those of a mesh that was given. Raises ValueError or
    KeyError if the file lacks something.
    """
    with np.load(path, allow_pickle=False) as arrays:
        count = len(arrays["rest"])
        head = arrays["head"].astype(float) if "head" in arrays else None
        turns = head is not None and "head_pivot" in arrays
        return Animation(
            fps=float(arrays["fps"]),
            names=[str(name) for name in arrays["arkit_names"]],
            weights=arrays["arkit"],
            targets=arrays["arkit_targets"] if has_mesh else None,
            head=head if turns else None,
            facing=arrays["facing"].astype(float),
            pivot=arrays["head_pivot"].astype(float) if turns else np.zeros(3),
            share=arrays["head_share"] if turns else np.zeros(count, np.float32),
            added=_added_parts(arrays) if has_mesh else (),
            one_skin=bool(json.loads(str(arrays["meta"])).get("lips_are_one_skin")),
        )


def _added_parts(arrays: Any) -> list[AddedPart]:
    """The added parts among the arrays of a file."""
    names = arrays["added_names"].tolist() if "added_names" in arrays else []
    return [
        AddedPart(
            name=name,
            vertices=arrays[f"added{k}_rest"],
            faces=arrays[f"added{k}_faces"],
            targets=arrays[f"added{k}_targets"],
            surface=arrays[f"added{k}_surface"],
            uv=arrays.get(f"added{k}_uv"),
            texture=arrays[f"added{k}_texture"].tobytes() if f"added{k}_uv" in arrays else b"",
        )
        for k, name in enumerate(names)
    ]


def split_rows(array: np.ndarray, counts: Sequence[int], axis: int = 0) -> list[np.ndarray]:
    """Return an array over the vertices of all parts as one for each part."""
    return np.split(array, np.cumsum(counts)[:-1], axis=axis)


def to_local(displacements: np.ndarray, matrix: np.ndarray) -> np.ndarray:
    """Return displacements (..., 3) in the world in the axes of an object with a matrix (4, 4)."""
    to_object = np.linalg.inv(np.asarray(matrix, float)[:3, :3]).T.astype(np.float32)
    return (displacements.reshape(-1, 3) @ to_object).reshape(displacements.shape)


def nearest_rotation(matrix: np.ndarray) -> np.ndarray:
    """Return the rotation (3, 3) of a matrix (≥ 3, ≥ 3), without its scale, shear and mirroring."""
    left, _, right = np.linalg.svd(np.asarray(matrix, float)[:3, :3])
    sign = np.diag([1.0, 1.0, np.linalg.det(left @ right)])
    return left @ sign @ right


def in_axes(rotations: np.ndarray, axes: np.ndarray) -> np.ndarray:
    """Return rotations (T, 3, 3) given in some axes, the columns of (3, 3), in the axes' own frame.

    With `facing` as the axes, rotations of the head become those of the mesh.
    """
    return axes @ rotations @ axes.T


def quaternions(rotations: np.ndarray) -> np.ndarray:
    """Return w, x, y, z (T, 4) of rotations (T, 3, 3), each as near to the one before as can be."""
    m = np.asarray(rotations, float)
    trace = np.trace(m, axis1=1, axis2=2)
    # Of each rotation's 4 × 4 matrix of products w², wx, …, the row with the largest diagonal.
    products = np.empty((len(m), 4, 4))
    products[:, 0, 0] = 1 + trace
    for i in range(3):
        j, k = (i + 1) % 3, (i + 2) % 3
        products[:, i + 1, i + 1] = 1 + m[:, i, i] - m[:, j, j] - m[:, k, k]
        products[:, 0, i + 1] = products[:, i + 1, 0] = m[:, k, j] - m[:, j, k]
        products[:, j + 1, k + 1] = products[:, k + 1, j + 1] = m[:, k, j] + m[:, j, k]
    row = np.einsum("tii->ti", products).argmax(1)
    result = products[np.arange(len(m)), row]
    result /= np.linalg.norm(result, axis=1, keepdims=True)
    if len(result):
        result[0] *= 1 if result[0, 0] >= 0 else -1
    flips = np.sign((result[1:] * result[:-1]).sum(1))
    result[1:] *= np.cumprod(np.where(flips < 0, -1, 1))[:, None]
    return result
