"""Meshes that trimesh reads: ply, stl and off, once the sizes they claim are checked."""

from __future__ import annotations

import os
import re
import shutil
import tempfile
from pathlib import Path
from typing import IO, Any

import numpy as np

from ..files.reading import BYTE_ORDER_MARK, printable, read_bytes
from .mesh_types import (
    MAX_MESH_FILE_BYTES,
    MAX_MESH_TRIANGLES,
    MAX_MESH_VERTICES,
    Mesh,
    MeshAttributes,
    as_colours,
    check_counts,
    companion_path,
)
from .texture_atlas import as_png

MAX_PLY_HEADER_BYTES = 1 << 16
MAX_TEXT_MESH_BYTES = 1 << 29  # a ply, stl or off that is text
MIN_PLY_LINE_BYTES = 4  # of an element of a ply that is text
# All line separators of `str.splitlines`.
LINE_ENDS = (
    b"\n",
    b"\r",
    b"\x0b",
    b"\x0c",
    b"\x1c",
    b"\x1d",
    b"\x1e",
    b"\xc2\x85",
    b"\xe2\x80\xa8",
    b"\xe2\x80\xa9",
)
MAX_EMPTY_LINES = 1000  # of a mesh that is text
MAX_MESH_ELEMENTS = 100  # kinds of elements of a ply, solids of an stl


def read_with_trimesh(path: Path, file: IO[bytes]) -> Mesh:
    """Read an open mesh file with its texture or colours.

    Raises InputError if it is too large, and any exception if it is malformed.
    """
    import trimesh

    kind = path.suffix.lower()[1:]
    file = _without_mark(file)
    resolver = _resolver(path)
    if kind == "ply":
        _check_ply(path, file)
    elif kind == "stl":
        _check_stl(path, file)
    else:
        _check_text(file, MAX_MESH_VERTICES + MAX_MESH_TRIANGLES)
    file.seek(0)
    loaded: Any = trimesh.load(file, file_type=kind, resolver=resolver, force="mesh", process=False)
    vertices = np.asarray(loaded.vertices, np.float64)
    faces = np.asarray(getattr(loaded, "faces", []))
    if faces.size and not -1 < faces.min() <= faces.max() < 1 << 31:
        raise ValueError("faces refer to vertices that do not exist")
    faces = faces.astype(np.int32).reshape(-1, 3)
    attributes = _attributes(getattr(loaded, "visual", None), len(vertices), faces)
    return Mesh(vertices, faces, attributes, path.name)


def _without_mark(file: IO[bytes]) -> IO[bytes]:
    """A file without the byte-order mark that it may begin with."""
    mark = BYTE_ORDER_MARK.encode()
    start = file.read(len(mark))
    file.seek(0)
    if start != mark:
        return file
    if os.fstat(file.fileno()).st_size > MAX_TEXT_MESH_BYTES:
        raise ValueError(f"text of more than {MAX_TEXT_MESH_BYTES >> 20} MiB; export it as binary")
    plain = tempfile.TemporaryFile()  # noqa: SIM115 (closed when it is collected)
    file.seek(len(mark))
    shutil.copyfileobj(file, plain)
    plain.seek(0)
    return plain


def _attributes(visual: Any, vertices: int, faces: np.ndarray) -> MeshAttributes | None:
    """The texture or the vertex colours of trimesh's visual of a mesh; None without either."""
    uv = getattr(visual, "uv", None)
    if uv is not None and np.shape(uv) == (vertices, 2):
        material = getattr(visual, "material", None)
        image = getattr(material, "baseColorTexture", None) or getattr(material, "image", None)
        texture = None if image is None else as_png(image)
        return MeshAttributes(np.nan_to_num(np.asarray(uv, np.float32)), faces, texture)
    if visual is None or not visual.defined or visual.kind != "vertex":
        return None
    values = np.asarray(visual.vertex_colors)[:, :3]
    colours = as_colours(values) if len(values) == vertices else None
    return None if colours is None else MeshAttributes(colours=colours)


def _resolver(path: Path) -> Any:
    """A trimesh resolver that gives it files only from the mesh's folder or below."""
    from trimesh.resolvers import Resolver

    class FolderResolver(Resolver):
        def __init__(self) -> None:
            self.bytes_left = MAX_MESH_FILE_BYTES  # of all files together
            self.contents: dict[str, bytes] = {}

        def get(self, key: str) -> bytes:
            if key in self.contents:
                return self.contents[key]
            name = key.strip()
            companion = companion_path(path, name, self.bytes_left)
            companion = companion or companion_path(path, name.lstrip("/"), self.bytes_left)
            if companion is None:
                raise ValueError(f"it needs the file {key[:60]}, which is not beside it")
            content = read_bytes(
                companion, "a part of a mesh", "copy all its files together", self.bytes_left
            )
            self.bytes_left -= len(content)
            self.contents[key] = content
            return content

        def keys(self) -> list[str]:
            return []

        def write(self, name: str, data: Any) -> None:
            raise ValueError("nothing is written")

        def namespaced(self, namespace: str) -> Any:
            raise ValueError("there are no namespaces")

    return FolderResolver()


# -------------------------------------------------------------------------------------------------
# ply, stl, off


def _check_ply(path: Path, file: IO[bytes]) -> None:
    """Raise for a ply whose header claims more than is read, or more than the file holds."""
    header, end, _ = file.read(MAX_PLY_HEADER_BYTES).partition(b"end_header")
    lines = [line.split() for line in header.splitlines() if line.strip()]
    if not end or len(lines) < 2:
        raise ValueError("a ply without an end of its header")
    counts = {words[1]: int(words[2]) for words in lines if b"element" in words[0]}
    if len(counts) > MAX_MESH_ELEMENTS or any(count < 0 for count in counts.values()):
        raise ValueError("too many kinds of elements, or a negative number of them")
    total = sum(counts.values())
    vertices = counts.get(b"vertex", 0)
    check_counts(printable(path), vertices, total - vertices)
    if b"ascii" in b" ".join(lines[1]).lower():
        if os.fstat(file.fileno()).st_size < MIN_PLY_LINE_BYTES * total:
            raise ValueError("more elements than there are lines")
        _check_text(file, total + len(lines))


def _check_text(file: IO[bytes], lines: int) -> None:
    """Raise ValueError for a text with many more lines than expected: each takes memory."""
    if os.fstat(file.fileno()).st_size > MAX_TEXT_MESH_BYTES:
        raise ValueError(f"text of more than {MAX_TEXT_MESH_BYTES >> 20} MiB; export it as binary")
    file.seek(0)
    count = 0
    while block := file.read(1 << 20):
        count += sum(block.count(end) for end in LINE_ENDS) - block.count(b"\r\n")
    if count > lines + MAX_EMPTY_LINES:
        raise ValueError("more lines than elements")


def _check_stl(path: Path, file: IO[bytes]) -> None:
    """Raise for an stl of too many triangles or solids."""
    size = os.fstat(file.fileno()).st_size
    triangles = int.from_bytes(file.read(84)[80:], "little")
    if size == 84 + 50 * triangles:  # binary
        check_counts(printable(path), 3 * triangles, triangles)
        return
    _check_text(file, MAX_MESH_VERTICES + MAX_MESH_TRIANGLES)
    file.seek(0)
    if len(re.findall(rb"endsolid", file.read(), re.IGNORECASE)) > MAX_MESH_ELEMENTS:
        raise ValueError(f"more than {MAX_MESH_ELEMENTS} solids")
