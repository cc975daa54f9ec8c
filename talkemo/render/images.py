"""An image that shows how a binding moves a mesh, and writing of png files."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path

import numpy as np

from ..binding.binding import Binding
from ..files.reading import printable
from ..files.writing import atomic_write
from ..formats.animation import OwnShapes
from .appearance import appearance_of
from .renderers import new_renderer
from .view import View, frame_view

# Blend-shape weights of the poses in the image of a binding, from left to right.
BINDING_POSES: tuple[dict[str, float], ...] = (
    {},
    {"jawOpen": 0.7},
    {"mouthPucker": 0.8},
    {"mouthSmile": 1.0},
    {"browInnerUp": 1.0, "browOuterUp": 1.0},
    {"eyeBlink": 1.0},
)
MAX_CAPTION_CHARACTERS, MIN_CAPTION_PX, CAPTION_COLOUR = 36, 9, (236, 236, 236)
LANDMARK_COLOUR = np.array([40, 220, 120], np.uint8)  # RGB


def binding_image(binding: Binding, size: int = 360, own: OwnShapes | None = None) -> np.ndarray:
    """Return an image (H, 6·size, 3) of a bound mesh: at rest with landmarks, then in poses.

    Below that row, each of the mesh's `own` shapes is shown at weight 1, with its name.
    """
    shown = binding.shown
    weights = np.stack([binding.face.weight_vector(pose) for pose in BINDING_POSES])
    frames = shown.vertices(weights @ binding.face.weights_to_coordinates)
    images, camera = _drawn(shown, frames, size)
    rest = shown.mesh.vertices.astype(np.float32)
    pixels = camera.to_pixels(camera.to_camera(rest[binding.landmarks68]), size, size)
    for column, row in pixels[:, :2].round().astype(int):
        dot = images[0][max(row - 1, 0) : row + 2, max(column - 1, 0) : column + 2]
        dot[:] = LANDMARK_COLOUR
    if own is not None:
        plain = replace(binding, cut=None)
        at_full = (plain.rest + target for target in own.targets())
        drawn, _ = _drawn(plain, at_full, size)
        for image, name in zip(drawn, own.names):
            draw_caption(image, name)
        images += drawn
        images += [np.zeros_like(images[0])] * (-len(images) % len(BINDING_POSES))
    row_starts = range(0, len(images), len(BINDING_POSES))
    return np.vstack([np.hstack(images[k : k + len(BINDING_POSES)]) for k in row_starts])


def _drawn(
    binding: Binding, frames: Iterable[np.ndarray], size: int
) -> tuple[list[np.ndarray], View]:
    """Images (size, size, 3) of a mesh's frames (N, 3) from the front, and their view."""
    rest = binding.mesh.vertices.astype(np.float32)
    appearance, facing = appearance_of(binding), binding.placement.rotation
    camera = frame_view(rest, binding.focus, "front", facing, appearance.drawn)
    renderer = new_renderer(appearance, camera, (size, size))
    try:
        return [renderer.draw(frame) for frame in frames], camera
    finally:
        renderer.close()


def draw_caption(image: np.ndarray, text: str) -> None:
    """Write a line of text at the bottom of an image (H, W, 3) uint8, in place."""
    from PIL import Image, ImageDraw, ImageFont

    height, width = image.shape[:2]
    canvas = Image.fromarray(image)
    font = ImageFont.load_default(max(MIN_CAPTION_PX, height // 20))
    shown = printable(text, MAX_CAPTION_CHARACTERS)
    ImageDraw.Draw(canvas).text(
        (width // 2, height - height // 40), shown, CAPTION_COLOUR, font, anchor="md"
    )
    image[:] = np.array(canvas)


def save_image(path: Path, image: np.ndarray) -> None:
    """Write a png atomically."""
    import imageio.v3 as imageio

    with atomic_write(path) as partial:
        imageio.imwrite(partial, image)
