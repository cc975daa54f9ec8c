"""OBJ files: positions, faces, and all that is kept as text, so that frames can be written with the same groups and materials."""

from __future__ import annotations

import io
import re
from array import array
from itertools import groupby
from pathlib import Path
from typing import IO

import numpy as np

from ..errors import InputError
from ..files.reading import printable, read_bytes, read_text
from ..files.writing import atomic_write
from .mesh_types import (
    LARGEST_PICTURE,
    MeshAttributes,
    as_colours,
    beside,
    check_counts,
    picture_type,
)

LARGEST_MATERIALS = 1 << 24  # bytes of a material file
MOST_COMPANIONS = 1000  # material files and pictures of an OBJ that are kept
LONGEST_LINE = 1 << 20  # bytes of an OBJ's line: a polygon may have many corners
LONGEST_POSITION = 256  # characters of a line with a position
LINES_AT_A_TIME = (
    16384  # lines of an OBJ that are kept one by one, before they become an array or a text
)
CHARACTERS_AT_A_TIME = 1 << 20  # of an OBJ that are read at once
ALIKE = 16  # lines of one kind in a row that are worth reading together
MOST_CORNERS_ALIKE = 8  # of faces that are read together
CORNER = re.compile(
    "[0-9]+(?:/[0-9]+|//[0-9]+|/[0-9]+/[0-9]+)?"
)  # position, texture coordinates, normal


class _ObjLines:
    """The lines of an OBJ, sorted as they come: positions, texture coordinates, faces, and all that is kept as text."""

    def __init__(self) -> None:
        self.count = 0  # vertices
        self.positions: list[np.ndarray] = []
        self.waiting: list[list[str]] = []  # positions that are still text
        self.colours: (
            list[np.ndarray] | None
        ) = []  # of the positions, as long as all of them have some
        self.uv = array("d")
        self.faces = array("i")
        self.uv_faces: array | None = None  # while there are none
        self.libraries: list[str] = []
        self.text: list[str | int] = []  # see Appearance
        self.lines: list[str] = []  # of the text, since the last positions

    def add(self, line: str) -> None:
        """Take a line. Raises ValueError or OverflowError where it is not one of an OBJ."""
        parts = line.split()
        if not parts or parts[0] in (
            "vn",
            "#",
        ):  # normals are another pose's as soon as something moves
            return
        if parts[0] == "v":
            if len(parts) < 4 or len(line) > LONGEST_POSITION:
                raise ValueError
            self.waiting.append(parts[1:])
            self._count_positions(1)
            return
        if parts[0] == "vt":
            self.uv.extend([float(x) for x in (*parts[1:3], "0")[:2]])
        elif parts[0] == "f":
            line = self._add_face(parts[1:])
        elif parts[0] == "mtllib" and len(parts) > 1:
            self.libraries.append(line.split(maxsplit=1)[1].strip())
        self.lines.append(line.rstrip("\r\n"))

    def add_alike(self, lines: list[str]) -> bool:
        """Take lines of one kind together, several times as fast as one by one; False where that cannot be done.

        No positions may wait.
        """
        try:
            if lines[0].startswith("v "):
                return self._add_positions(lines)
            if lines[0].startswith("vt "):
                return self._add_uv(lines)
            return lines[0].startswith("f ") and self._add_faces(lines)
        except ValueError:  # one of them is not as the others
            return False

    def _add_positions(self, lines: list[str]) -> bool:
        """Take lines with three or six numbers each. Raises ValueError where others are among them."""
        if max(map(len, lines)) > LONGEST_POSITION:
            return False
        numbers = _numbers(lines)
        if numbers.shape[1] not in (3, 6):
            return False
        self.positions.append(numbers[:, :3])
        if self.colours is not None:
            self.colours = (
                [*self.colours, numbers[:, 3:].astype(np.float32)]
                if numbers.shape[1] == 6
                else None
            )
        self._count_positions(len(lines))
        return True

    def _add_uv(self, lines: list[str]) -> bool:
        """Take lines with two or three numbers each. Raises ValueError where others are among them."""
        numbers = _numbers(lines)
        if numbers.shape[1] not in (2, 3):
            return False
        self.uv.frombytes(numbers[:, :2].tobytes())
        self.lines += [line.rstrip("\r\n") for line in lines]
        return True

    def _add_faces(self, lines: list[str]) -> bool:
        """Take faces that all have as many corners, and as many positive numbers a corner."""
        corners = lines[0].split()[1:]
        if not 3 <= len(corners) <= MOST_CORNERS_ALIKE or not CORNER.fullmatch(corners[0]):
            return False
        text = "".join(lines) if lines[-1].endswith("\n") else "".join([*lines, "\n"])
        corner = re.sub("[0-9]+", "[0-9]{1,9}", corners[0])
        if not re.fullmatch("(?:f" + f" {corner}" * len(corners) + " ?\n)+", text):
            return False
        text = text.replace(" \n", "\n")
        numbers = np.loadtxt(
            text.replace("f ", "").replace("/", " ").splitlines(), np.int64, comments=None, ndmin=2
        )
        if numbers.min() < 1:
            return False
        numbers = (numbers - 1).reshape(len(lines), len(corners), -1)
        has_uv = "/" in corners[0] and "//" not in corners[0]
        if has_uv and self.uv_faces is None:
            self.uv_faces = array("i", [-1]) * len(self.faces)
        fan = [corner for k in range(1, len(corners) - 1) for corner in (0, k, k + 1)]
        self.faces.frombytes(numbers[:, fan, 0].astype(np.intc).tobytes())
        if self.uv_faces is not None:
            uv = numbers[:, fan, 1] if has_uv else np.full((len(lines), len(fan)), -1)
            self.uv_faces.frombytes(uv.astype(np.intc).tobytes())
        normals = "/+[0-9]+(?=[ \n])" if "//" in corners[0] or corners[0].count("/") == 2 else ""
        self.lines += (re.sub(normals, "", text) if normals else text).splitlines()
        return True

    def _count_positions(self, count: int) -> None:
        """Note in the text that positions follow what is there."""
        self.count += count
        if self.lines:
            self.join_lines()
        if not self.text or isinstance(self.text[-1], str):
            self.text.append(0)
        self.text[-1] = int(self.text[-1]) + count

    def join_lines(self) -> None:
        """Move lines that wait to the text."""
        self.text.append("\n".join([*self.lines, ""]))
        self.lines = []

    def join_positions(self) -> None:
        """Turn positions that wait into numbers. Raises ValueError."""
        if not self.waiting:
            return
        # Much quicker than number by number.
        positions = [parts[:3] for parts in self.waiting]
        self.positions.append(np.array(positions, dtype=np.str_).astype(np.float64).reshape(-1, 3))
        if self.colours is not None:
            self.colours = self._more_colours(self.colours)
        self.waiting = []

    def _more_colours(self, colours: list[np.ndarray]) -> list[np.ndarray] | None:
        """Colours, after the coordinates of the positions that wait; none where one has none, or it is no number."""
        if any(len(parts) < 6 for parts in self.waiting):
            return None
        try:
            return [
                *colours,
                np.array([parts[3:6] for parts in self.waiting], np.str_).astype(np.float32),
            ]
        except ValueError:
            return None

    def _add_face(self, parts: list[str]) -> str:
        """Cut a polygon into a fan; returns its line without normals."""
        if len(parts) == 3 and "/" not in parts[0]:  # what most files consist of
            a, b, c = (int(part) for part in parts)
            if min(a, b, c) > 0:
                self.faces.extend((a - 1, b - 1, c - 1))
                if self.uv_faces is not None:
                    self.uv_faces.extend((-1, -1, -1))
                return "f " + " ".join(parts)
        corners = [[int(x) if x else 0 for x in part.split("/")] for part in parts]
        own = [c[0] - 1 if c[0] > 0 else self.count + c[0] for c in corners]
        at = [_nth(c[1], len(self.uv) // 2) if len(c) > 1 else -1 for c in corners]
        if self.uv_faces is None and max(at, default=-1) >= 0:
            self.uv_faces = array("i", [-1]) * len(self.faces)
        for k in range(1, len(own) - 1):
            self.faces.extend((own[0], own[k], own[k + 1]))
            if self.uv_faces is not None:
                self.uv_faces.extend((at[0], at[k], at[k + 1]))
        return "f " + " ".join("/".join(part.split("/")[:2]).rstrip("/") for part in parts)


def read_obj(path: Path, file: IO[bytes]) -> tuple[np.ndarray, np.ndarray, MeshAttributes]:
    """Positions, faces and the rest of an OBJ. General loaders split vertices at seams."""
    content = _ObjLines()
    _check_lines(file)
    read, number = _lines(file), 0
    while block := read.readlines(CHARACTERS_AT_A_TIME):
        for _, alike in groupby(block, lambda line: line[: line.find(" ") + 1]):
            lines = list(alike)
            if len(lines) >= ALIKE:
                _join_positions(path, file, content)
                if content.add_alike(lines):
                    number += len(lines)
                    continue
            for line in lines:
                number += 1
                try:
                    content.add(line)
                except (ValueError, OverflowError):
                    raise _not_an_obj_line(path, number, line) from None
                if len(content.waiting) == LINES_AT_A_TIME:
                    _join_positions(path, file, content)
        if len(content.lines) >= LINES_AT_A_TIME:
            content.join_lines()
        check_counts(printable(path), content.count, len(content.faces) // 3)
    _join_positions(path, file, content)
    content.join_lines()
    companions, texture = _materials(path, content.libraries)
    faces = np.frombuffer(content.faces, np.int32) if content.faces else np.zeros(0, np.int32)
    uv = uv_faces = None
    if len(content.uv) and content.uv_faces is not None:
        count = len(content.uv) // 2
        corners = np.frombuffer(content.uv_faces, np.int32).reshape(-1, 3)
        # What has no coordinates, or some that are not there, gets the last ones, zeros.
        uv = np.nan_to_num(
            np.append(np.frombuffer(content.uv).reshape(-1, 2), [[0, 0]], axis=0).astype(np.float32)
        )
        uv_faces = np.where((corners >= 0) & (corners < count), corners, count).astype(np.int32)
    colours = as_colours(np.concatenate(content.colours)) if content.colours else None
    attributes = MeshAttributes(uv, uv_faces, texture, tuple(content.text), companions, colours)
    positions = np.concatenate([np.zeros((0, 3)), *content.positions])
    return positions, faces.reshape(-1, 3).copy(), attributes


def _numbers(lines: list[str]) -> np.ndarray:
    """The numbers (L, K) of lines after each one's first word. Raises ValueError where they are not as many in each."""
    numbers = np.loadtxt([line.partition(" ")[2] for line in lines], comments=None, ndmin=2)
    if len(numbers) != len(lines):  # it leaves empty ones out
        raise ValueError
    return numbers


def _lines(file: IO[bytes]) -> io.TextIOWrapper:
    """A file's lines of text, from its first one."""
    file.seek(0)
    text = io.TextIOWrapper(io.FileIO(file.fileno(), closefd=False), "utf-8", errors="replace")
    text.seek(0)
    return text


def _check_lines(file: IO[bytes]) -> None:
    """Raise ValueError for a file with a line that would fill the memory."""
    while len(block := file.read(LONGEST_LINE)) == LONGEST_LINE:
        if b"\n" not in block and b"\r" not in block:
            raise ValueError(f"a line of more than {LONGEST_LINE >> 20} MiB")


def _join_positions(path: Path, file: IO[bytes], content: _ObjLines) -> None:
    """Turn the positions that wait into numbers. Raises InputError that names the line of the first that is none."""
    try:
        content.join_positions()
    except ValueError:  # it does not say which
        for number, line in enumerate(_lines(file), 1):
            parts = line.split()
            if parts[:1] == ["v"]:
                try:
                    [float(x) for x in parts[1:4]]
                except ValueError:
                    raise _not_an_obj_line(path, number, line) from None
        raise InputError(
            f"{printable(path)}: a position is not three numbers", "export it again"
        ) from None
    check_counts(printable(path), content.count, len(content.faces) // 3)


def _not_an_obj_line(path: Path, number: int, line: str) -> InputError:
    says = printable(line.strip(), 40)
    return InputError(
        f"{printable(path)}: line {number} ('{says}') is not a line of an OBJ", "export it again"
    )


def _nth(index: int, count: int) -> int:
    """The place of an OBJ's index, which counts from one, or backwards from the last; -1 for none."""
    return index - 1 if index > 0 else count + index if index < 0 else -1


def _materials(path: Path, libraries: list[str]) -> tuple[dict[str, Path], bytes | None]:
    """The material files and pictures that an OBJ names, those in its own folder only, and its first texture.

    What cannot be read is left out: the mesh works without its materials.
    """
    found: dict[str, Path] = {}
    texture = None
    for name in libraries[:MOST_COMPANIONS]:
        library = beside(path, name, LARGEST_MATERIALS)
        if library is None:
            continue
        try:
            lines = read_text(
                library, "a file of materials", "export it again", LARGEST_MATERIALS
            ).splitlines()
        except InputError:
            continue
        found[name] = library
        for line in lines:
            words = line.split()
            if len(words) < 2 or not words[0].lower().startswith(
                ("map_", "bump", "norm", "disp", "refl")
            ):
                continue
            picture = (
                beside(path, words[-1], LARGEST_PICTURE) if len(found) < MOST_COMPANIONS else None
            )
            if picture is None:
                continue
            found[words[-1]] = picture
            if texture is None and words[0].lower() == "map_kd":
                texture = _picture(picture)
    return found, texture


def _picture(path: Path) -> bytes | None:
    """The content of a PNG or JPEG file, None for anything else."""
    try:
        content = read_bytes(path, "a picture", "export it again", LARGEST_PICTURE)
    except InputError:
        return None
    return content if picture_type(content) else None


def obj_text(attributes: MeshAttributes, vertices: np.ndarray) -> str:
    """An OBJ as it was read, with other positions (V, 3)."""
    rows, done, parts = [f"v {x:.7g} {y:.7g} {z:.7g}" for x, y, z in vertices], 0, []
    for part in attributes.text:
        if isinstance(part, int):
            parts.append("\n".join(rows[done : done + part]) + "\n")
            done += part
        else:
            parts.append(part)
    return "".join(parts)


def save_obj(path: str | Path, vertices: np.ndarray, faces: np.ndarray) -> None:
    """Write an OBJ of vertices (V, 3) and triangles (F, 3)."""
    lines = [f"v {x:.5f} {y:.5f} {z:.5f}" for x, y, z in vertices]
    lines += [f"f {a} {b} {c}" for a, b, c in faces + 1]
    with atomic_write(path) as partial:
        partial.write_text("\n".join(lines) + "\n", "utf-8")
