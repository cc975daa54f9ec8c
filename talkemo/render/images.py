"""Pictures to look at: how a binding moves a mesh."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from ..binding.binding import Binding
from ..files.writing import atomic_write
from . import new_renderer
from .appearance import appearance_of
from .view import frame_view

# Blend shapes of the pictures of a binding, one pose after the other.
POSES: tuple[dict[str, float], ...] = (
    {},
    {"jawOpen": 0.7},
    {"mouthPucker": 0.8},
    {"mouthSmile": 1.0},
    {"browInnerUp": 1.0, "browOuterUp": 1.0},
    {"eyeBlink": 1.0},
)
DOT = np.array([40, 220, 120], np.uint8)  # colour of a landmark


def binding_image(binding: Binding, size: int = 360) -> np.ndarray:
    """How a bound mesh moves, to look at: at rest with the landmarks found, then one pose after the other."""
    rest = binding.mesh.vertices.astype(np.float32)
    camera = frame_view(rest, binding.focus, "front", binding.placement.rotation)
    shapes = np.stack([binding.face.weight_vector(pose) for pose in POSES])
    frames = binding.vertices(shapes @ binding.face.weights_to_coordinates)
    renderer = new_renderer(appearance_of(binding), camera, (size, size))
    try:
        pictures = [renderer.draw(frame) for frame in frames]
    finally:
        renderer.close()
    places = camera.to_pixels(camera.to_camera(rest[binding.landmarks68]), size, size)
    for column, row in places[:, :2].round().astype(int):
        pictures[0][max(row - 1, 0) : row + 2, max(column - 1, 0) : column + 2] = DOT
    return np.hstack(pictures)


def save_image(path: Path, image: np.ndarray) -> None:
    """Write a png; it appears under its name when it is whole."""
    import imageio.v3 as imageio

    with atomic_write(path) as partial:
        imageio.imwrite(partial, image)
