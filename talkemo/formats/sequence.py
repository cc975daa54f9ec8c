"""Animations as folders of meshes, one file a frame."""

from __future__ import annotations

import os
import re
import shutil
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from ..errors import InputError
from ..files.reading import open_file, printable, reading_errors
from .animation import FileWriter, Frames, Header, frames_at_a_time
from .mesh import MESH_FORMATS, load_mesh, save_ply
from .mesh_types import MeshAttributes
from .obj import obj_text, save_obj

SEQUENCE_FPS = 30.0  # of a folder of meshes, which does not say its own
FRAME_NAME = re.compile(r"\d{6,}\.obj", re.IGNORECASE)  # what frames are called


class MeshSequence:
    """A folder of mesh files as an animation, a frame each in the natural order of their names.

    All must have the vertices of the first, in its order; its faces count. A `Source`.
    """

    def __init__(self, folder: str | Path, fps: float | None = None):
        self.path = Path(folder)
        kinds = f"talkemo reads {', '.join(MESH_FORMATS)}"
        with reading_errors(folder, "a folder of meshes that can be read", kinds):
            self.files = sorted(
                (
                    file
                    for file in self.path.iterdir()
                    if file.suffix.lower() in MESH_FORMATS and not file.name.startswith(".")
                ),
                key=lambda file: [
                    int(part) if part.isdecimal() else part
                    for part in re.split(r"(\d+)", file.name)
                ],
            )
        if not self.files:
            raise InputError(f"{printable(folder)}: no meshes in it", kinds)
        first = load_mesh(self.files[0])
        self.faces, self.fps = first.faces, fps or SEQUENCE_FPS
        self.shape: tuple[int, ...] = (len(self.files), len(first.vertices), 3)
        self.meta: dict[str, Any] = {}
        self.focus: np.ndarray | None = None
        self.facing: np.ndarray | None = None
        self.rest: np.ndarray | None = None
        self.attributes: MeshAttributes | None = (
            first.attributes
        )  # its polygons, texture and materials

    def __len__(self) -> int:
        return self.shape[0]

    def chunks(self, frames: int = 64) -> Iterator[np.ndarray]:
        """Consecutive vertices (≤ frames, V, 3) float32."""
        frames = frames_at_a_time(frames, self.shape[1])
        for start in range(0, len(self), frames):
            part = []
            for file in self.files[start : start + frames]:
                vertices = load_mesh(file).vertices
                if len(vertices) != self.shape[1]:
                    raise InputError(
                        f"{file} has {len(vertices)} vertices, {self.files[0]} {self.shape[1]}",
                        "a folder holds the frames of one mesh",
                    )
                part.append(vertices.astype(np.float32))
            yield np.stack(part)


class SequenceWriter(FileWriter):
    """A folder of meshes, one a frame: 000000.obj, 000001.obj, … or ply. It must not be there yet, or be empty.

    Frames of a mesh that was an OBJ are that OBJ with other positions: polygons, groups and materials stay.
    """

    def __init__(self, path: Path, header: Header, form: str = "obj"):
        if path.exists() and (not path.is_dir() or any(path.iterdir())):
            raise InputError(
                f"{path} is there already, and not an empty folder",
                "choose another name for the sequence",
            )
        self.form, self.faces, self.count = form, header.faces, 0
        self.attributes = (
            header.attributes if header.attributes and header.attributes.text else None
        )
        if self.attributes:
            self.attributes = _beside_frames(self.attributes)
        super().__init__(path, folder=True)

    def write(self, frames: Frames) -> None:
        for vertices in frames.vertices:
            path = self.partial.path / f"{self.count:06d}.{self.form}"
            if self.form == "ply":
                save_ply(path, vertices, self.faces)
            elif self.attributes:
                path.write_text(obj_text(self.attributes, vertices), "utf-8")
            else:
                save_obj(path, vertices, self.faces)
            self.count += 1

    def finish(self) -> None:
        if self.attributes and self.form == "obj":
            for name, source in self.attributes.companions.items():
                place = (self.partial.path / name.replace("\\", "/")).resolve()
                if place.is_relative_to(self.partial.path.resolve()):
                    place.parent.mkdir(parents=True, exist_ok=True)
                    copied = open_file(source, "a file of materials", "export the mesh again")
                    with copied as content, place.open("wb") as copy:
                        shutil.copyfileobj(content, copy, 1 << 20)


def _beside_frames(attributes: MeshAttributes) -> MeshAttributes:
    """The same with other names for material files that are called like a frame, and without such pictures."""
    companions, text = dict(attributes.companions), list(attributes.text)
    for name in attributes.companions:
        if not FRAME_NAME.fullmatch(os.path.normpath(name.replace("\\", "/"))):
            continue
        source = companions.pop(name)
        line = re.compile(rf"^([ \t]*mtllib[ \t]+){re.escape(name)}[ \t]*$", re.MULTILINE)
        if not any(isinstance(part, str) and line.search(part) for part in text):
            continue
        number = next(
            k for k in range(len(companions) + 1) if f"materials{k}.mtl" not in companions
        )
        companions[f"materials{number}.mtl"] = source
        text = [
            line.sub(rf"\g<1>materials{number}.mtl", part) if isinstance(part, str) else part
            for part in text
        ]
    return replace(attributes, companions=companions, text=tuple(text))
