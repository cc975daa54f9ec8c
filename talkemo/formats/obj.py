"""OBJ files: reading a mesh, and writing it with new positions but the same groups and materials.

Everything but positions, normals and comments is kept as text. General loaders would split
vertices at texture seams and drop the rest.
"""

from __future__ import annotations

import io
from collections.abc import Iterable, Sequence
from dataclasses import replace
from itertools import groupby, islice, zip_longest
from pathlib import Path
from typing import IO

import numpy as np

from ..errors import InputError
from ..files.reading import printable
from ..files.writing import atomic_write
from .mesh_types import Mesh, MeshAttributes, as_colours, check_counts
from .obj_materials import ObjMaterials

MAX_LINE_BYTES = 1 << 20  # a polygon may have many corners
MAX_POSITION_CHARACTERS = 256  # of a line with a position
MAX_WAITING_LINES = 16384  # lines that are kept one by one before they are joined to a text
MAX_OBJ_RUNS = 3_000_000  # of lines of a kind; each takes some microseconds
OBJ_BLOCK_CHARACTERS = 1 << 20  # of an OBJ that are parsed at once
IGNORED_KEYWORDS = ("", "#", "vn")  # normals are wrong as soon as the mesh moves
NORMAL_OR_COMMENT = ("vn ", "# ")  # beginnings of most ignored lines


class _ObjContent:
    """Collects the content of an OBJ, from runs of consecutive lines with the same keyword."""

    def __init__(self) -> None:
        self.vertex_count = self.uv_count = self.triangle_count = 0
        self.positions = [np.zeros((0, 3))]
        self.colours: list[np.ndarray] | None = []  # None as soon as a position lacks one
        self.uv = [np.zeros((0, 2))]
        self.faces = [np.zeros((0, 3), np.int32)]
        self.uv_faces = [np.zeros((0, 3), np.int32)]  # -1 for corners without texture coordinates
        self.libraries: list[str] = []  # material files
        self.materials: list[tuple[int, str]] = []  # first triangle and name of each that is used
        self.text: list[str | int] = []  # see `MeshAttributes.text`
        self.run_count = 0
        self.waiting: list[str] = []  # lines of the text that are not joined yet

    def add(self, keyword: str, lines: list[str]) -> None:
        """Add a run of lines; raise ValueError or OverflowError if one of them is malformed."""
        if keyword in IGNORED_KEYWORDS:
            return
        self.run_count += 1
        if keyword == "v":
            if max(map(len, lines)) > MAX_POSITION_CHARACTERS:
                raise ValueError("a line with a position is too long")
            self._add_positions(_position_columns(lines))
            return
        rows = [line.split() for line in lines]
        if keyword == "vt":
            u, v = _columns(rows, 2)
            self.uv.append(_floats([u, [word or "0" for word in v]]))
            self.uv_count += len(lines)
        elif keyword == "f":
            lines = [self._add_faces(rows)]
        elif keyword == "mtllib":
            self.libraries += [
                line.split(maxsplit=1)[1].strip() for line in lines if line.split()[1:]
            ]
        elif keyword == "usemtl" and rows[-1][1:]:
            self.materials.append((self.triangle_count, lines[-1].split(maxsplit=1)[1].strip()))
        self.waiting += [line.rstrip("\r\n") for line in lines]
        if len(self.waiting) >= MAX_WAITING_LINES:
            self.join_lines()

    def _add_positions(self, columns: Sequence[Sequence[str]]) -> None:
        """Add positions, and their colours if none of the six columns lacks words."""
        self.positions.append(_floats(columns[:3]))
        if self.colours is not None:
            try:
                self.colours.append(_floats(columns[3:]).astype(np.float32))
            except ValueError:
                self.colours = None
        count = len(columns[0])
        self.vertex_count += count
        if self.waiting:
            self.join_lines()
        if not self.text or isinstance(self.text[-1], str):
            self.text.append(0)
        self.text[-1] = int(self.text[-1]) + count

    def _add_faces(self, rows: list[list[str]]) -> str:
        """Add polygons as fans of triangles; return their lines without normals."""
        corners = [corner for row in rows for corner in row[1:]]
        sizes = np.array([len(row) - 1 for row in rows])
        text = "\n".join([" ".join(row) for row in rows])
        if "/" in text:
            # position/texture/normal; the last two may be missing
            padded = [corner + "//"[corner.count("/") :] for corner in corners]
            indices = "/".join(padded).split("/")
            if len(indices) != 3 * len(corners):
                raise ValueError("a corner with more than three indices")
            vertex, uv = _integers(indices[::3]), _integers(indices[1::3])
            _integers(indices[2::3])  # only checked
            pairs = zip(indices[::3], indices[1::3])
            shown = iter(
                [f"{position}/{texture}" if texture else position for position, texture in pairs]
            )
            text = "\n".join([" ".join(["f", *islice(shown, size)]) for size in sizes.tolist()])
        else:
            vertex, uv = _integers(corners), np.zeros(len(corners), np.int64)
        # Indices count from 1, or backwards from the latest line; 0 stands for none.
        vertex = np.where(vertex > 0, vertex - 1, self.vertex_count + vertex)
        uv = np.where(uv > 0, uv - 1, np.where(uv < 0, self.uv_count + uv, -1))
        triangles = _fans(sizes)
        self.faces.append(_as_int32(vertex)[triangles])
        self.uv_faces.append(_as_int32(uv)[triangles])
        self.triangle_count += len(triangles)
        return text

    def join_lines(self) -> None:
        """Move the waiting lines to the text."""
        self.text.append("\n".join([*self.waiting, ""]))
        self.waiting = []


def _position_columns(lines: list[str]) -> Sequence[Sequence[str]]:
    """The words of positions and their colours in columns (6, R); missing words are empty."""
    words = " ".join(lines).split()
    if len(words) == 4 * len(lines) and set(words[::4]) == {"v"}:  # the quick way of most files
        return [words[1::4], words[2::4], words[3::4], *([""] * len(lines) for _ in range(3))]
    return _columns([line.split() for line in lines], 6)


def _columns(rows: list[list[str]], width: int) -> list[tuple[str, ...]]:
    """The first words after the keyword in columns (width, R); missing words are empty."""
    columns = list(zip_longest(*(row[1 : width + 1] for row in rows), fillvalue=""))
    return columns + [("",) * len(rows)] * (width - len(columns))


def _floats(columns: Iterable[Iterable[str]]) -> np.ndarray:
    """Numbers (R, C) of columns of words; raise ValueError if there are others."""
    return np.column_stack([np.fromiter(map(float, column), float) for column in columns])


def _integers(words: list[str]) -> np.ndarray:
    """Indices (W,) int64 of words, 0 for an empty one."""
    if "" in words:
        words = [word or "0" for word in words]
    return np.fromiter(map(int, words), np.int64, len(words))


def _as_int32(indices: np.ndarray) -> np.ndarray:
    if np.abs(indices).max(initial=0) > np.iinfo(np.int32).max:
        raise OverflowError("an index is too large")
    return indices.astype(np.int32)


def _fans(sizes: np.ndarray) -> np.ndarray:
    """Triangles (F, 3) of polygons with these numbers of corners, as fans around the first one."""
    counts = np.maximum(sizes - 2, 0)
    first = np.repeat(np.cumsum(sizes) - sizes, counts)
    step = np.arange(counts.sum()) - np.repeat(np.cumsum(counts) - counts, counts)
    return np.column_stack([first, first + step + 1, first + step + 2])


def read_obj(path: Path, file: IO[bytes]) -> Mesh:
    """Read an OBJ; raise InputError or ValueError if it is malformed or exceeds a limit.

    Parameters
    ----------
    path : Path
        Of the file, for messages and for the files that it names.
    file : file object
        The open file.
    """
    content = _ObjContent()
    _check_line_lengths(file)
    file.seek(0)
    reader = io.TextIOWrapper(
        io.FileIO(file.fileno(), closefd=False), "utf-8-sig", errors="replace"
    )
    first_number = 1  # of the block's first line
    while block := reader.readlines(OBJ_BLOCK_CHARACTERS):
        relevant = [line for line in block if not line.startswith(NORMAL_OR_COMMENT)]
        for keyword, run in groupby(relevant, key=_keyword):
            lines = list(run)
            try:
                content.add(keyword, lines)
            except (ValueError, OverflowError):
                line = _malformed_line(content, keyword, lines)
                number = first_number + next(k for k, read in enumerate(block) if read is line)
                shown = f"line {number} ('{printable(line.strip(), 40)}')"
                raise InputError(
                    f"{printable(path)}: {shown} is not a line of an OBJ", "export it again"
                ) from None
        first_number += len(block)
        check_counts(printable(path), content.vertex_count, content.triangle_count)
        if content.run_count > MAX_OBJ_RUNS:
            raise ValueError(f"its kinds of lines alternate more than {MAX_OBJ_RUNS} times")
    content.join_lines()
    materials = ObjMaterials(path, content.libraries)
    uv, uv_faces = _texture_coordinates(content)
    texture = materials.texture(content.triangle_count, content.materials)
    attributes = MeshAttributes(uv, uv_faces, texture)
    if uv is not None and uv_faces is not None:
        attributes = materials.joined(uv, uv_faces, content.materials) or attributes
    faces = np.concatenate(content.faces)
    if content.colours:
        colours = as_colours(np.concatenate(content.colours))
    else:
        colours = materials.vertex_colours(faces, content.vertex_count, content.materials)
    attributes = replace(
        attributes,
        text=tuple(content.text),
        companions=materials.companions,
        colours=colours,
    )
    notes = materials.notes(len(faces), content.materials)
    return Mesh(np.concatenate(content.positions), faces, attributes, path.name, notes)


def _check_line_lengths(file: IO[bytes]) -> None:
    """Raise ValueError for a file with a line that would fill the memory."""
    while len(block := file.read(MAX_LINE_BYTES)) == MAX_LINE_BYTES:
        if b"\n" not in block and b"\r" not in block:
            raise ValueError(f"a line of more than {MAX_LINE_BYTES >> 20} MiB")


def _keyword(line: str) -> str:
    if line.startswith(("v ", "f ")):  # most lines
        return line[0]
    words = line.split(maxsplit=1)
    return words[0] if words else ""


def _malformed_line(content: _ObjContent, keyword: str, lines: list[str]) -> str:
    """The first malformed line of a run of lines that cannot be added together."""
    for line in lines:
        try:
            content.add(keyword, [line])
        except (ValueError, OverflowError):
            return line
    return lines[0]


def _texture_coordinates(content: _ObjContent) -> tuple[np.ndarray | None, np.ndarray | None]:
    """Texture coordinates (U, 2) float32 and those of the triangles' corners (F, 3), or None."""
    uv_faces = np.concatenate(content.uv_faces)
    if not content.uv_count or uv_faces.max(initial=-1) < 0:
        return None, None
    # Corners without texture coordinates, or with an invalid index, get an additional (0, 0).
    uv = np.concatenate([*content.uv, np.zeros((1, 2))]).astype(np.float32)
    valid = (uv_faces >= 0) & (uv_faces < content.uv_count)
    return np.nan_to_num(uv), np.where(valid, uv_faces, content.uv_count).astype(np.int32)


def obj_text(attributes: MeshAttributes, vertices: np.ndarray) -> str:
    """Return an OBJ as it was read, with other positions (V, 3)."""
    rows = [f"v {x:.7g} {y:.7g} {z:.7g}\n" for x, y, z in vertices]
    done, blocks = 0, []
    for block in attributes.text:
        if isinstance(block, int):
            blocks += rows[done : done + block]
            done += block
        else:
            blocks.append(block)
    return "".join(blocks)


def save_obj(path: str | Path, vertices: np.ndarray, faces: np.ndarray) -> None:
    """Write vertices (V, 3) and triangles (F, 3) as an OBJ with five decimals."""
    lines = [f"v {x:.5f} {y:.5f} {z:.5f}" for x, y, z in vertices]
    lines += [f"f {a} {b} {c}" for a, b, c in faces + 1]
    with atomic_write(path) as partial:
        partial.write_text("\n".join(lines) + "\n", "utf-8")
