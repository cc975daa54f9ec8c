"""Rendering animations from files."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np

from .. import speech
from ..animation import Header, Source, open_animation
from ..errors import InputError
from ..files import check_output, whole
from . import frame_view, new_renderer
from .video import SIZES, VideoWriter


def render_animation(
    animation: str | Path,
    output: str | Path,
    audio: str | Path | None = None,
    size: int = 512,
    view: str = "front",
    time: float | None = None,
    fps: float | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> None:
    """Render an npz, a GLB or a folder of meshes to .mp4, or the frame at `time` s (by default the middle one) to .png.

    fps: of a folder of meshes, 30 if None
    Raises InputError for an unusable animation, an unknown ending or view, a missing folder.
    """
    output = Path(output)
    check_output(output, (".mp4", ".png"), *([] if audio is None else [audio]))
    moving = open_animation(animation, fps)
    if not len(moving):
        raise InputError(f"{animation}: no frames in it")
    rest = next(moving.chunks(1))[0] if moving.rest is None else moving.rest
    header = Header(len(moving), moving.fps, moving.faces, rest, _focus(moving), moving.meta)
    if output.suffix.lower() == ".png":
        if not SIZES[0] <= size <= SIZES[1]:
            raise InputError(f"a picture of {size} pixels: choose from {SIZES[0]} to {SIZES[1]}")
        save_picture(output, picture(moving, header, size, view, time))
        return
    sound = None if audio is None else speech.open_audio(audio).path
    with VideoWriter(output, header, sound, size, view) as writer:
        done = 0
        for chunk in moving.chunks():
            writer.write_vertices(chunk)
            done += len(chunk)
            if progress:
                progress(done, len(moving))


def picture(moving: Source, header: Header, size: int, view: str, time: float | None) -> np.ndarray:
    """One frame (size, size, 3) uint8 of an animation."""
    wanted = len(moving) // 2 if time is None else int(np.clip(round(time * moving.fps), 0, len(moving) - 1))
    start = 0
    for chunk in moving.chunks():
        if wanted < start + len(chunk):
            renderer = new_renderer(header.faces, frame_view(header.rest, header.focus, view), (size, size))
            try:
                return renderer.draw(chunk[wanted - start])
            finally:
                renderer.close()
        start += len(chunk)
    raise InputError(f"{moving.path}: no frame {wanted}")


def save_picture(path: Path, image: np.ndarray) -> None:
    """Write a png; it appears under its name when it is whole."""
    import imageio.v3 as imageio

    with whole(path) as partial:
        imageio.imwrite(partial, image)


def _focus(moving: Source) -> np.ndarray:
    if moving.focus is not None and moving.focus.shape == (moving.shape[1],):
        return moving.focus.astype(bool)
    return np.ones(moving.shape[1], bool)
