"""The door to every format: the reader or the writer of a path's ending. To add a format, add it here."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

from ..errors import InputError
from ..files.reading import open_file, printable
from .animation import Header, Source, Writer

if TYPE_CHECKING:
    from ..audio.recording import Audio

FORMATS = (".mp4", ".html", ".npz", ".glb", ".csv", ".usda", ".usdc")
BAKED_FORMATS = (".glb", ".usda", ".usdc")
SEQUENCE_FORMATS = ("obj", "ply")


def open_animation(path: str | Path, fps: float | None = None) -> Source:
    """An npz, a GLB with morph targets, or a folder of meshes. Raises InputError for anything else.

    fps: of a folder, which does not say its own, and of what a GLB is sampled at; an npz has its own.
    """
    from .gltf_reader import GlbAnimation
    from .npz import NpzAnimation
    from .sequence import MeshSequence

    path = Path(path)
    if os.path.isdir(path):
        return MeshSequence(path, fps)
    kinds = "talkemo reads .npz, .glb and folders of meshes"
    with open_file(path, "an animation", kinds):
        pass
    if path.suffix.lower() == ".glb":
        return GlbAnimation(path, fps)
    if path.suffix.lower() != ".npz":
        raise InputError(f"{printable(path)}: unknown kind of animation", kinds)
    animation = NpzAnimation(path)
    if fps is not None and abs(fps - animation.fps) > 1e-6:
        raise InputError(
            f"{path} has {animation.fps:g} frames a second of its own", "leave --fps out"
        )
    return animation


def open_writer(
    path: Path,
    header: Header,
    *,
    audio: Audio | None = None,
    size: int | tuple[int, int] = 512,
    bake: bool = False,
    sequence: str = "obj",
) -> Writer:
    """The writer for a path's ending; without one it is a folder of meshes.

    audio: sound of a video; size: pixels on a side of a video; bake: whether GLB and USD hold each frame as it is
    instead of ARKit's shapes; sequence: obj or ply, the meshes of a folder
    """
    ending = path.suffix.lower()
    if ending == ".npz":
        from .npz import NpzWriter

        return NpzWriter(path, header)
    if ending == ".glb":
        from .gltf_writer import GlbWriter

        return GlbWriter(path, header, bake)
    if ending in (".usda", ".usdc"):
        from .usd import UsdWriter

        return UsdWriter(path, header, bake)
    if ending == ".csv":
        from .live_link import LiveLinkWriter

        return LiveLinkWriter(path, header)
    if not ending:
        from .sequence import SequenceWriter

        return SequenceWriter(path, header, sequence)
    if ending == ".html":
        from ..render.page import PageWriter

        return PageWriter(path, header, audio)
    from ..render.video_writer import VideoWriter

    return VideoWriter(path, header, audio, size)
