"""All animation formats: endings, readers, writers, and the sentences that describe them.

To add a format, add an entry to `ANIMATION_FORMATS`. Readers and writers are named by text and
loaded when they are used, so importing this module loads neither numpy nor a renderer.
"""

from __future__ import annotations

import importlib
import os
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..errors import InputError
from .target_names import OWN_CURVES

if TYPE_CHECKING:
    from ..audio.recording import Audio
    from .animation import Header, Source, Writer
    from .mesh_types import Mesh


@dataclass(frozen=True)
class AnimationFormat:
    """A file format of animations, or a folder of meshes."""

    ending: str  # of the file's name, with the dot; "" for a folder
    about: str  # what it contains, for help texts
    # Dotted name of a class that is called with the path and fps, and with a mesh if it
    # `needs_mesh`.
    reader: str = ""
    writer: str = ""  # dotted name of a class or function, called with path, header and `options`
    options: tuple[str, ...] = ()  # keyword arguments of `open_writer` that the writer takes
    needs_mesh: bool = False  # whether the file lacks triangles, so that a mesh is given
    own_mesh: bool = False  # whether vertices and triangles are exactly those of the user's mesh
    extra: str = ""  # optional dependencies that the writer needs, see `extras.install_command`

    @property
    def can_bake(self) -> bool:
        """Whether each frame can be stored exactly, instead of as weights of ARKit's shapes."""
        return "bake" in self.options

    @property
    def is_video(self) -> bool:
        """Whether the writer draws frames of a certain size."""
        return "size" in self.options


GLTF_WRITER = "talkemo.formats.gltf_character.gltf_writer"
USD_WRITER = "talkemo.formats.usd_character.usd_writer"
ANIMATION_FORMATS = (
    AnimationFormat(
        ".mp4",
        "video with audio",
        writer="talkemo.render.video_writer.VideoWriter",
        options=("audio", "size"),
    ),
    AnimationFormat(
        ".html",
        "interactive page in one file, with a slider for each emotion",
        writer="talkemo.render.page.PageWriter",
        options=("audio",),
    ),
    AnimationFormat(
        ".npz",
        "arrays for numpy",
        "talkemo.formats.npz.NpzAnimation",
        "talkemo.formats.npz.NpzWriter",
        ("arrays",),
        own_mesh=True,
    ),
    AnimationFormat(
        ".glb",
        "ARKit's blend shapes as morph targets, for Blender, Unity and Unreal; "
        "of a glTF or VRM the whole file",
        "talkemo.formats.gltf_reader.GlbAnimation",
        GLTF_WRITER,
        ("bake",),
    ),
    AnimationFormat(
        ".gltf",
        "the same with its data in a .bin beside it",
        "talkemo.formats.gltf_reader.GlbAnimation",
        GLTF_WRITER,
        ("bake",),
    ),
    AnimationFormat(
        ".vrm",
        "the same of a VRM",
        "talkemo.formats.gltf_reader.GlbAnimation",
        GLTF_WRITER,
        ("bake",),
    ),
    AnimationFormat(
        ".csv",
        "ARKit curves in Live Link Face's layout, or Oculus visemes or VRM expressions",
        writer="talkemo.formats.curves.csv_writer",
        options=("curves",),
    ),
    AnimationFormat(
        ".json",
        "the same curves as JSON",
        writer="talkemo.formats.curves.JsonCurveWriter",
        options=("curves",),
    ),
    AnimationFormat(
        ".usda",
        "the same as GLB in USD, as text; of a glTF, VRM or USD the whole character",
        "",
        USD_WRITER,
        ("bake",),
        extra="usd",
    ),
    AnimationFormat(
        ".usdc", "the same as GLB in USD, binary", "", USD_WRITER, ("bake",), extra="usd"
    ),
    AnimationFormat(
        ".usdz",
        "the same in one file with its textures, for Reality Composer and Quick Look",
        "",
        USD_WRITER,
        ("bake",),
        extra="usd",
    ),
    AnimationFormat(
        ".mdd",
        "point cache: every frame's vertices, for Blender, Maya, LightWave",
        "talkemo.formats.point_cache.MddAnimation",
        "talkemo.formats.point_cache.MddWriter",
        needs_mesh=True,
    ),
    AnimationFormat(
        ".pc2",
        "the same, for 3ds Max and Blender",
        "talkemo.formats.point_cache.Pc2Animation",
        "talkemo.formats.point_cache.Pc2Writer",
        needs_mesh=True,
    ),
    AnimationFormat(
        ".vmd",
        "morphs and head of an MMD model, at 30 fps",
        writer="talkemo.formats.vmd.VmdWriter",
    ),
    AnimationFormat(
        ".vrma",
        "expressions, head and gaze of a VRM avatar",
        writer="talkemo.formats.vrma.VrmaWriter",
    ),
    AnimationFormat(
        ".npy",
        "vertices of other methods, without triangles",
        "talkemo.formats.vertex_array.VertexArray",
        needs_mesh=True,
    ),
    AnimationFormat(
        "",
        "folder with a mesh per frame",
        "talkemo.formats.sequence.MeshSequence",
        "talkemo.formats.sequence.SequenceWriter",
        ("sequence",),
        own_mesh=True,
    ),
)
CURVE_KINDS = ("arkit", "oculus", "vrm", OWN_CURVES)  # what a file of curves holds
ARRAY_KINDS = ("vertices", "shapes")  # what an npz holds: frames, or blend shapes and weights
SEQUENCE_MESH_TYPES = ("obj", "ply")  # of the meshes that are written to a folder

MESH_HINT = "; talkemo bind MESH -o face.png draws a mesh"

_FILES = [entry for entry in ANIMATION_FORMATS if entry.ending]
OUTPUT_ENDINGS = tuple(entry.ending for entry in _FILES if entry.writer)
INPUT_ENDINGS = tuple(entry.ending for entry in _FILES if entry.reader)
CURVE_ENDINGS = tuple(entry.ending for entry in ANIMATION_FORMATS if "curves" in entry.options)
ARRAY_ENDINGS = tuple(entry.ending for entry in ANIMATION_FORMATS if "arrays" in entry.options)
BAKED_ENDINGS = tuple(entry.ending for entry in ANIMATION_FORMATS if entry.can_bake)


def find_format(path: Path) -> AnimationFormat:
    """Return the format of a path's ending; raise InputError for an unknown one."""
    ending = path.suffix.lower()
    for entry in ANIMATION_FORMATS:
        if entry.ending == ending:
            return entry
    raise InputError(
        f"{path}: unknown kind of file", f"choose an ending from {', '.join(OUTPUT_ENDINGS)}"
    )


def describe_outputs() -> str:
    """Return the formats that can be written as one line for help texts."""
    sentences = []
    for entry in ANIMATION_FORMATS:
        if entry.writer:
            needs = f"; needs the extra {entry.extra}" if entry.extra else ""
            sentences.append(f"{entry.ending or 'no ending'} ({entry.about}{needs})")
    return ", ".join(sentences)


def needs_mesh(path: str | Path) -> bool:
    """Whether a path is that of a format without triangles, such as .npy."""
    ending = Path(path).suffix.lower()
    return any(entry.needs_mesh for entry in _FILES if entry.ending == ending)


def open_animation(
    path: str | Path,
    fps: float | None = None,
    mesh: str | Path | Mesh | None = None,
    neutral: str | Path | Mesh | None = None,
) -> Source:
    """Open an npz, a glTF with morph targets, vertices (.npy, .mdd, .pc2), or a folder of meshes.

    Parameters
    ----------
    path : str or Path
    fps : float, optional
        Frame rate of a .npy or .pc2, of a folder of meshes (default 30), or to sample a GLB at. An
        npz and an .mdd have their own.
    mesh : str, Path or Mesh, optional
        The mesh whose vertices a .npy, .mdd or .pc2 has; other animations have triangles of their
        own.
    neutral : str, Path or Mesh, optional
        Used as `mesh` for such a file if that is None; not used otherwise.

    Raises
    ------
    InputError
        If the path cannot be read, the frame rate contradicts that of an npz, a .npy has no mesh
        or frame rate, or another animation has a `mesh`.
    """
    from ..files.content import named_as
    from ..files.reading import open_file, printable

    path = Path(path)
    hint = f"talkemo reads {', '.join(INPUT_ENDINGS)} and folders of meshes"
    if os.path.isdir(path):
        ending = ""
    else:
        with open_file(path, "an animation", hint):
            ending = path.suffix.lower()
        if ending not in INPUT_ENDINGS:
            kind = named_as(path)
            what = f"{kind}, not an animation" if kind else "unknown kind of animation"
            mesh_hint = MESH_HINT if kind == "a mesh" else ""
            raise InputError(f"{printable(path)}: {what}", f"{hint}{mesh_hint}")
    entry = next(entry for entry in ANIMATION_FORMATS if entry.ending == ending)
    if mesh is not None and not entry.needs_mesh:
        raise InputError(f"{printable(path)} has triangles of its own", "leave --mesh out")
    options = {"mesh": mesh if mesh is not None else neutral} if entry.needs_mesh else {}
    animation: Source = _load(entry.reader)(path, fps, **options)
    return animation


def open_writer(
    path: Path,
    header: Header,
    *,
    audio: Audio | None = None,
    size: int | tuple[int, int] = 512,
    bake: bool = False,
    sequence: str = "obj",
    curves: str = "arkit",
    arrays: str = "vertices",
) -> Writer:
    """Open the writer for a path's ending; without an ending it writes a folder of meshes.

    Parameters
    ----------
    path : Path
    header : Header
    audio : Audio, optional
        Audio of a video or page.
    size : int or (int, int)
        Side of a video in pixels, or its width and height.
    bake : bool
        Whether a GLB or USD stores each frame exactly, instead of weights of ARKit's shapes.
    sequence : str
        One of SEQUENCE_MESH_TYPES, for the meshes of a folder.
    curves : str
        One of CURVE_KINDS, for a csv or json.
    arrays : str
        One of ARRAY_KINDS, for an npz.
    """
    options = {
        "audio": audio,
        "size": size,
        "bake": bake,
        "sequence": sequence,
        "curves": curves,
        "arrays": arrays,
    }
    entry = find_format(path)
    writer: Writer = _load(entry.writer)(
        path, header, **{name: options[name] for name in entry.options}
    )
    return writer


def _load(name: str) -> Any:
    """Import a class by its dotted name."""
    module, _, attribute = name.rpartition(".")
    return getattr(importlib.import_module(module), attribute)
