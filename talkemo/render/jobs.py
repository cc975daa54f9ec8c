"""Rendering animations from files."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from .. import speech
from ..animation import Header, Source, open_animation
from ..errors import InputError
from ..files import check_output, whole
from . import facing_of, frame_view, new_renderer
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
            camera = frame_view(header.rest, header.focus, view, facing_of(header.meta))
            renderer = new_renderer(header.faces, camera, (size, size))
            try:
                return renderer.draw(chunk[wanted - start])
            finally:
                renderer.close()
        start += len(chunk)
    raise InputError(f"{moving.path}: no frame {wanted}")


if TYPE_CHECKING:
    from ..binding import Binding

POSES: tuple[dict[str, float], ...] = ({}, {"jawOpen": 0.7}, {"mouthPucker": 0.8}, {"mouthSmile": 1.0}, {"browInnerUp": 1.0, "browOuterUp": 1.0}, {"eyeBlink": 1.0})  # fmt: skip
DOT = np.array([40, 220, 120], np.uint8)


def binding_picture(binding: Binding, size: int = 360) -> np.ndarray:
    """How a bound mesh moves, to look at: at rest with the landmarks found, then one pose after the other."""
    from ..data.augmentation import shape_vector

    rest = binding.mesh.vertices.astype(np.float32)
    camera = frame_view(rest, binding.focus, "front", binding.placement.rotation)
    shapes = np.stack([shape_vector(binding.face, pose) for pose in POSES])
    frames = binding.apply(np.tensordot(shapes, binding.face.expression_basis, 1).astype(np.float32))
    renderer = new_renderer(binding.mesh.faces, camera, (size, size))
    try:
        pictures = [renderer.draw(frame) for frame in frames]
    finally:
        renderer.close()
    places = camera.to_pixels(camera.to_camera(rest[binding.landmarks68]), size, size)
    for column, row in places[:, :2].round().astype(int):
        pictures[0][max(row - 1, 0) : row + 2, max(column - 1, 0) : column + 2] = DOT
    return np.hstack(pictures)


def save_picture(path: Path, image: np.ndarray) -> None:
    """Write a png; it appears under its name when it is whole."""
    import imageio.v3 as imageio

    with whole(path) as partial:
        imageio.imwrite(partial, image)


def _focus(moving: Source) -> np.ndarray:
    if moving.focus is not None and moving.focus.shape == (moving.shape[1],):
        return moving.focus.astype(bool)
    return np.ones(moving.shape[1], bool)
