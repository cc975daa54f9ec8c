"""Animations as folders of meshes, one file per frame."""

from __future__ import annotations

import os
import re
import shutil
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np

from ..errors import InputError
from ..files.reading import open_file, printable, reading_errors
from .animation import FileWriter, Frames, Header, VertexSource, frames_per_chunk
from .groups import visible_triangles
from .mesh import MESH_ENDINGS, load_mesh, save_ply
from .mesh_types import MeshAttributes
from .obj import obj_text, save_obj

SEQUENCE_FPS = 30.0  # of a folder of meshes, which does not state a frame rate
FRAME_NAME = re.compile(r"\d{6,}\.obj", re.IGNORECASE)  # of the frames that are written


class MeshSequence(VertexSource):
    """A `Source` that reads a folder of mesh files, one per frame in natural order of their names.

    All meshes must have the vertices of the first in the same order; its faces are used.
    """

    def __init__(self, folder: str | Path, fps: float | None = None):
        hint = f"talkemo reads {', '.join(MESH_ENDINGS)}"
        with reading_errors(folder, "a folder of meshes that can be read", hint):
            files = [
                file
                for file in Path(folder).iterdir()
                if file.suffix.lower() in MESH_ENDINGS and not file.name.startswith(".")
            ]
            self.files = sorted(files, key=_natural_order)
        if not self.files:
            raise InputError(f"{printable(folder)}: no meshes in it", hint)
        first = load_mesh(self.files[0])
        super().__init__(Path(folder), len(self.files), fps or SEQUENCE_FPS, first)

    def chunks(self, frames: int = 64) -> Iterator[np.ndarray]:
        """Yield the vertices of consecutive frames, (≤ frames, V, 3) float32."""
        frames = frames_per_chunk(frames, self.shape[1])
        for start in range(0, len(self), frames):
            chunk = []
            for file in self.files[start : start + frames]:
                vertices = load_mesh(file).vertices
                if len(vertices) != self.shape[1]:
                    raise InputError(
                        f"{file} has {len(vertices)} vertices, {self.files[0]} {self.shape[1]}",
                        "all files of the folder must be frames of one mesh",
                    )
                chunk.append(vertices.astype(np.float32))
            yield np.stack(chunk)


def _natural_order(file: Path) -> list[int | str]:
    """Sorting key by which frame10 follows frame9."""
    pieces = re.split(r"(\d+)", file.name)
    return [int(piece) if piece.isdecimal() else piece for piece in pieces]


class SequenceWriter(FileWriter):
    """Writes a folder of meshes, 000000.obj, 000001.obj, … or ply.

    The folder must not exist, or be empty. If the mesh was read from an OBJ, each frame is that OBJ
    with other positions and keeps its polygons, groups and materials.
    """

    def __init__(self, path: Path, header: Header, sequence: str = "obj"):
        if path.exists() and (not path.is_dir() or any(path.iterdir())):
            raise InputError(
                f"{path} exists and is not an empty folder", "choose another name for the sequence"
            )
        self.ending, self.faces, self.count = sequence, header.faces, 0
        attributes = header.attributes
        if not (attributes and attributes.text and sequence == "obj"):  # no groups in these files
            self.faces = self.faces[visible_triangles(self.faces, attributes, len(header.rest))]
        self.attributes: MeshAttributes | None = None
        if attributes and attributes.text:
            self.attributes = _without_frame_names(attributes)
        super().__init__(path, folder=True)

    def write(self, frames: Frames) -> None:
        for vertices in frames.vertices:
            path = self.partial.path / f"{self.count:06d}.{self.ending}"
            if self.ending == "ply":
                save_ply(path, vertices, self.faces)
            elif self.attributes:
                path.write_text(obj_text(self.attributes, vertices), "utf-8")
            else:
                save_obj(path, vertices, self.faces)
            self.count += 1

    def finish(self) -> None:
        if self.attributes is None or self.ending != "obj":
            return
        folder = self.partial.path.resolve()
        for name, source in self.attributes.companions.items():
            target = (folder / name.replace("\\", "/")).resolve()
            if not target.is_relative_to(folder):
                continue
            target.parent.mkdir(parents=True, exist_ok=True)
            with (
                open_file(source, "a material file", "export the mesh again") as content,
                target.open("wb") as copy,
            ):
                shutil.copyfileobj(content, copy, 1 << 20)


def _without_frame_names(attributes: MeshAttributes) -> MeshAttributes:
    """Rename material files that are named like a frame, and drop images that are."""
    companions, text = dict(attributes.companions), list(attributes.text)
    for name in attributes.companions:
        if not FRAME_NAME.fullmatch(os.path.normpath(name.replace("\\", "/"))):
            continue
        source = companions.pop(name)
        line = re.compile(rf"^([ \t]*mtllib[ \t]+){re.escape(name)}[ \t]*$", re.MULTILINE)
        if not any(isinstance(block, str) and line.search(block) for block in text):
            continue
        number = 0
        while f"materials{number}.mtl" in companions:
            number += 1
        companions[f"materials{number}.mtl"] = source
        renamed = rf"\g<1>materials{number}.mtl"
        text = [line.sub(renamed, block) if isinstance(block, str) else block for block in text]
    return replace(attributes, companions=companions, text=tuple(text))
