"""An image that shows how a binding moves a mesh, and writing of png files."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from ..binding.binding import Binding
from ..files.writing import atomic_write
from .appearance import appearance_of
from .renderers import new_renderer
from .view import frame_view

# Blend-shape weights of the poses in the image of a binding, from left to right.
BINDING_POSES: tuple[dict[str, float], ...] = (
    {},
    {"jawOpen": 0.7},
    {"mouthPucker": 0.8},
    {"mouthSmile": 1.0},
    {"browInnerUp": 1.0, "browOuterUp": 1.0},
    {"eyeBlink": 1.0},
)
LANDMARK_COLOUR = np.array([40, 220, 120], np.uint8)  # RGB


def binding_image(binding: Binding, size: int = 360) -> np.ndarray:
    """Return an image (size, 6·size, 3) of a bound mesh: at rest with landmarks, then in poses."""
    binding = binding.shown
    rest = binding.mesh.vertices.astype(np.float32)
    appearance, facing = appearance_of(binding), binding.placement.rotation
    camera = frame_view(rest, binding.focus, "front", facing, appearance.drawn)
    weights = np.stack([binding.face.weight_vector(pose) for pose in BINDING_POSES])
    frames = binding.vertices(weights @ binding.face.weights_to_coordinates)
    renderer = new_renderer(appearance, camera, (size, size))
    try:
        images = [renderer.draw(frame) for frame in frames]
    finally:
        renderer.close()
    pixels = camera.to_pixels(camera.to_camera(rest[binding.landmarks68]), size, size)
    for column, row in pixels[:, :2].round().astype(int):
        dot = images[0][max(row - 1, 0) : row + 2, max(column - 1, 0) : column + 2]
        dot[:] = LANDMARK_COLOUR
    return np.hstack(images)


def save_image(path: Path, image: np.ndarray) -> None:
    """Write a png atomically."""
    import imageio.v3 as imageio

    with atomic_write(path) as partial:
        imageio.imwrite(partial, image)
