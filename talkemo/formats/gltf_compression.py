"""Compressed data of glTF files: meshes by Draco, buffer views by meshoptimizer.

Draco is decoded by DracoPy, an extra. meshoptimizer's streams are decoded here, from the
description of EXT_meshopt_compression by the Khronos Group (appendices A and B): no package of it
exists for each version of Python.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from ..errors import InputError
from ..extras import install_command
from ..files.reading import printable
from .meshopt_streams import decode_attributes, decode_indices, decode_triangles

DRACO_HEADER_BYTES = 11  # what a stream begins with: DRACO, version, kind, method, flags
DRACO_MESH = 1  # kind of a stream; the other is a point cloud
DRACO_EDGEBREAKER = 1  # method of a mesh; the other lists its triangles
DRACO_HAS_METADATA = 0x8000  # a flag
ATTRIBUTE_HEADER, TRIANGLE_HEADER, INDEX_HEADER = 0xA0, 0xE1, 0xD1  # first bytes of streams
MAX_ATTRIBUTE_STRIDE = 256


def decode_draco(
    path: Path, content: bytes, names: dict[str, int], vertices: int, corners: int
) -> dict[str, np.ndarray]:
    """Return the vertex attributes (V, width) and the `indices` (3F,) of a mesh in Draco's form.

    Parameters
    ----------
    path : Path
        Of the file, for messages.
    content : bytes
    names : dict of str to int
        Draco's number of each attribute.
    vertices, corners : int
        How many the file promises.

    Raises
    ------
    InputError
        If DracoPy is not installed.
    ValueError
        If the stream is malformed, or holds more than the file promises.
    """
    try:
        import DracoPy
    except ImportError:
        raise InputError(
            f"{printable(path)}: its mesh is compressed by Draco, which needs DracoPy",
            f"{install_command('compressed')}, or export it without compression",
        ) from None
    _check_draco(content, vertices, corners)
    mesh = DracoPy.decode(content)
    arrays = {attribute["unique_id"]: attribute["data"] for attribute in mesh.attributes}
    result = {"indices": np.asarray(mesh.faces, np.uint32).reshape(-1)}
    for name, number in names.items():
        if number not in arrays:
            raise ValueError(f"a mesh of Draco lacks the attribute {printable(number, 20)}")
        values = np.asarray(arrays[number])
        result[name] = values[:, 0] if values.ndim == 2 and values.shape[1] == 1 else values
    if len(result["indices"]) > corners or len(result["POSITION"]) != vertices:
        raise ValueError("a mesh of Draco has another size than the file says")
    return result


def _check_draco(content: bytes, vertices: int, corners: int) -> None:
    """Raise ValueError for a stream that is no mesh, or claims more than the file promises.

    Draco reserves memory for what the stream claims.
    """
    if len(content) < DRACO_HEADER_BYTES or content[:5] != b"DRACO" or content[7] != DRACO_MESH:
        raise ValueError("its compressed mesh is none of Draco")
    method, flags = content[8], int.from_bytes(content[9:11], "little")
    if flags & DRACO_HAS_METADATA:
        raise ValueError("its mesh in Draco's form has metadata, which no glTF has")
    at = DRACO_HEADER_BYTES
    if method == DRACO_EDGEBREAKER:
        at += 1  # kind of the traversal
        points, at = _variable_integer(content, at)
        faces, at = _variable_integer(content, at)
    else:
        faces, at = _variable_integer(content, at)
        points, at = _variable_integer(content, at)
    if 3 * faces > corners or points > vertices:
        raise ValueError("a mesh of Draco is larger than the file says")


def _variable_integer(content: bytes, at: int) -> tuple[int, int]:
    """An integer of 7 bits a byte that begins at `at`, the lowest first, and where it ends."""
    value = 0
    for k in range(5):
        byte = content[at + k]
        value |= (byte & 127) << (7 * k)
        if byte < 128:
            return value, at + k + 1
    raise ValueError("a number of more than 32 bits")


def decode_meshopt(
    content: bytes, count: int, stride: int, mode: str, filter_name: str = "NONE"
) -> bytes:
    """Return the `count` elements of `stride` bytes of a stream of meshoptimizer.

    Parameters
    ----------
    content : bytes
    count, stride : int
    mode : str
        ATTRIBUTES, TRIANGLES or INDICES.
    filter_name : str
        NONE, OCTAHEDRAL, QUATERNION or EXPONENTIAL.

    Raises
    ------
    ValueError
        If the stream is malformed.
    """
    if mode == "ATTRIBUTES":
        if not 0 < stride <= MAX_ATTRIBUTE_STRIDE or stride % 4:
            raise ValueError(f"compressed attributes of {stride} bytes")
        _check_stream(content, ATTRIBUTE_HEADER, 1 + max(stride, 32))
        return _filtered(decode_attributes(content, count, stride), stride, filter_name).tobytes()
    if mode not in ("TRIANGLES", "INDICES") or stride not in (2, 4):
        raise ValueError(f"compressed data of the unknown kind {printable(mode, 20)}")
    if mode == "TRIANGLES":
        if count % 3:
            raise ValueError("compressed triangles that are incomplete")
        _check_stream(content, TRIANGLE_HEADER, 1 + count // 3 + 16)
        indices = decode_triangles(content, count)
    else:
        _check_stream(content, INDEX_HEADER, 1 + count + 4)
        indices = decode_indices(content, count)
    return indices.astype(np.uint16 if stride == 2 else np.uint32).tobytes()


def _check_stream(data: bytes, header: int, smallest: int) -> None:
    """Raise ValueError for a stream with another first byte or fewer bytes."""
    if len(data) < smallest or data[0] != header:
        raise ValueError("compressed data of an unknown kind, or that end early")


def _filtered(elements: np.ndarray, stride: int, name: str) -> np.ndarray:
    """The elements after meshoptimizer's filter."""
    if name == "NONE":
        return elements
    strides: dict[str, Any] = {"OCTAHEDRAL": (4, 8), "QUATERNION": (8,)}
    if name == "EXPONENTIAL":
        words = elements.view("<i4")
        exponents = np.clip(words >> 24, -100, 100)
        return np.ldexp((words << 8 >> 8).astype(np.float32), exponents).astype("<f4")
    if stride not in strides.get(name, ()):
        raise ValueError(f"an unknown filter {printable(name, 20)} of compressed data")
    rows = elements.view("<i2" if stride == 8 else "i1").reshape(-1, 4)
    return _directions(rows) if name == "OCTAHEDRAL" else _rotations(rows)


def _directions(rows: np.ndarray) -> np.ndarray:
    """Directions (N, 4) of the octahedral filter; the fourth number is kept."""
    x, y = (rows[:, k] / np.maximum(rows[:, 2], 1).astype(np.float32) for k in range(2))
    z = 1 - np.abs(x) - np.abs(y)
    below = np.minimum(z, 0)
    unit = np.stack([x - np.copysign(below, x), y - np.copysign(below, y), z], axis=1)
    unit /= np.maximum(np.linalg.norm(unit, axis=1, keepdims=True), 1e-9)
    result = rows.copy()
    result[:, :3] = np.round(unit * np.iinfo(rows.dtype).max)
    return result


def _rotations(rows: np.ndarray) -> np.ndarray:
    """Quaternions (N, 4) of the quaternion filter, as fractions of 32767."""
    three = rows[:, :3] / (rows[:, 3:] | 3).astype(np.float32) / np.float32(np.sqrt(2))
    largest = np.sqrt(np.maximum(1 - (three**2).sum(1), 0))
    place = (rows[:, 3] & 3).astype(int)
    result = np.zeros_like(rows)
    row = np.arange(len(rows))
    for k, values in enumerate((largest, *three.T)):
        result[row, (place + k) % 4] = np.round(values * 32767)
    return result
