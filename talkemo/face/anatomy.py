"""Teeth, gums, tongue and mouth socket of the canonical face, for meshes that lack them.

They lie in the space of the canonical face: millimetres, y up, looking along +z. Teeth, gums and
tongue are rigid: they stand with the skull or go with the jaw. The mouth socket is a grid that
continues the edge of the lips inwards, and every blend shape displaces it.
"""

from __future__ import annotations

from dataclasses import dataclass, fields

import numpy as np

MATERIALS = ("teeth", "gums", "tongue")  # of the rigid parts, by number


@dataclass(frozen=True, eq=False)
class Anatomy:
    """What lies behind the lips of the canonical face. Arrays are stored by these names.

    A points, F triangles, R rings of C columns, S blend shapes.
    """

    points: np.ndarray  # (A, 3) float32 mm, of teeth, gums and tongue
    faces: np.ndarray  # (F, 3) uint16 triangles
    material: np.ndarray  # (A,) uint8, index in MATERIALS
    jaw: np.ndarray  # (A,) uint8, 1 for points that go with the jaw, 0 with the skull
    # (R, C, 3) float32 mm, rings from the edge of the lips to the throat. Columns begin at the
    # right corner of the mouth and run along the upper lip, then back along the lower one.
    socket: np.ndarray
    socket_offsets: np.ndarray  # (S, R, C, 3) float16 mm, displacement by each blend shape


def tensors_of_anatomy(anatomy: Anatomy) -> dict[str, np.ndarray]:
    """Return the tensors of a weights file; inverts `anatomy_of_tensors`."""
    return {field.name: getattr(anatomy, field.name) for field in fields(anatomy)}


def anatomy_of_tensors(tensors: dict[str, np.ndarray], shapes: int) -> Anatomy:
    """Make an anatomy of the tensors of a weights file, for a number of blend shapes.

    Raises ValueError unless they fit together and all indices are in range.
    """
    count, (rings, columns, _) = len(tensors["points"]), tensors["socket"].shape
    expected = {
        "points": (count, 3),
        "faces": (len(tensors["faces"]), 3),
        "material": (count,),
        "jaw": (count,),
        "socket": (rings, columns, 3),
        "socket_offsets": (shapes, rings, columns, 3),
    }
    for name, shape in expected.items():
        if tensors[name].shape != shape:
            raise ValueError(f"its {name} is {tensors[name].shape}, not {shape}")
    for name, limit in (("faces", count), ("material", len(MATERIALS)), ("jaw", 2)):
        index = tensors[name]
        if index.dtype.kind not in "iu" or index.min(initial=0) < 0 or index.max() >= limit:
            raise ValueError(f"its {name} are not numbers under {limit}")
    if rings < 2 or columns < 4:
        raise ValueError(f"its socket has {rings} rings of {columns} columns")
    return Anatomy(**{name: tensors[name] for name in expected})
