"""Rendering animations from files."""

from __future__ import annotations

import numpy as np

from ..audio import load_audio
from ..errors import InputError
from ..files import check_output
from ..formats.animation import Header, Source
from ..formats.open import open_animation
from ..render.view import check_size
from .outputs import Path, PathLike, Progress


def render(
    animation: PathLike,
    output: PathLike,
    *,
    audio: PathLike | None = None,
    size: int = 512,
    view: str = "front",
    time: float | None = None,
    fps: float | None = None,
    progress: Progress | None = None,
) -> None:
    """Render an npz, a GLB or a folder of meshes to .mp4, or the frame at `time` s (by default the middle one) to .png.

    audio: sound of a video; size: pixels on a side; view: front, left or right; fps: of a folder of meshes, 30 if None
    progress: called with the frames done and their total
    Raises InputError for an unusable animation, an unknown ending or view, a missing folder.
    """
    output = Path(output)
    check_output(output, (".mp4", ".png"), *([] if audio is None else [audio]))
    check_size(size)
    if time is not None and not 0 <= time < np.inf:
        raise InputError(f"no frame at {time:g} s", "name a time of 0 or more, in seconds")
    source = open_animation(animation, fps)
    if not len(source):
        raise InputError(f"{animation}: no frames in it", "is it the right file?")
    header = header_of(source)
    if output.suffix.lower() == ".png":
        from ..render.pictures import frame_picture, save_picture

        save_picture(output, frame_picture(source, header, size, view, time))
        return
    from ..render.video import VideoWriter

    with VideoWriter(output, header, None if audio is None else load_audio(audio), size, view) as writer:
        done = 0
        for vertices in source.chunks():
            writer.write_vertices(vertices)
            done += len(vertices)
            if progress:
                progress(done, len(source))


def header_of(source: Source) -> Header:
    """What a picture needs to know of an animation."""
    rest = next(source.chunks(1))[0] if source.rest is None else source.rest
    focus = np.ones(source.shape[1], bool)
    if source.focus is not None and source.focus.shape == (source.shape[1],):
        focus = source.focus.astype(bool)
    return Header(len(source), source.fps, source.faces, rest, focus, source.facing, source.meta)
