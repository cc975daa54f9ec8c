"""The camera that finds the face, and the colours and lights that both renderers share."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from ..errors import InputError

SIZES = (64, 4096)  # pixels on a side of a picture
SKIN = np.array([224, 178, 152], np.float32)  # RGB
BACKGROUND = np.array([46, 50, 56], np.float32)
SHEEN = np.array([26, 27, 28], np.float32)  # how much lighter the background is above than below
# How far light reaches around a curve, red, green and blue: 0 ends where the surface turns away.
SOFTNESS = np.array([0.28, 0.14, 0.1], np.float32)
# Direction in camera space (towards the light) and strength: key, fill, rim.
_DIRECTIONS = np.array([[-0.45, 0.55, 0.75], [0.8, 0.1, 0.55], [0.0, 0.9, -0.2]])
LIGHTS = np.column_stack(
    [_DIRECTIONS / np.linalg.norm(_DIRECTIONS, axis=1, keepdims=True), [0.62, 0.3, 0.15]]
).astype(np.float32)
AMBIENT, AMBIENT_ABOVE = (
    0.2,
    0.07,
)  # light from all around, and how much more of it comes from above
GLOSS, SHARPNESS = 0.1, 18  # of what skin mirrors
INSIDE = 0.35  # of the light, on the inside of a surface: seen through the mouth and the eyes
VIEWS = {
    "front": 0.0,
    "three-quarter": 35.0,
    "side": 90.0,
    "left": 35.0,
    "right": -35.0,
}  # degrees that the camera stands to the face's left


@dataclass(frozen=True, eq=False)
class View:
    """A perspective camera that looks at `centre` from `distance` in front of a face, turned by `yaw` radians.

    `half` is half the height, in mesh units at the centre, that the picture shows; `facing` (3, 3) takes a face that
    looks along +z with y up to the mesh's.
    """

    centre: np.ndarray
    half: float
    distance: float
    yaw: float
    facing: np.ndarray

    @property
    def rotation(self) -> np.ndarray:
        """(3, 3) world to camera."""
        c, s = np.cos(self.yaw), np.sin(self.yaw)
        return np.array([[c, 0, -s], [0, 1, 0], [s, 0, c]]) @ self.facing.T

    def to_camera(self, vertices: np.ndarray) -> np.ndarray:
        """Vertices (V, 3) in camera space: x right, y up, z towards the camera, origin at the centre."""
        return (vertices - self.centre) @ self.rotation.T

    def to_pixels(self, seen: np.ndarray, width: int, height: int) -> np.ndarray:
        """Column, row, depth (V, 3) of camera-space points; larger depth is nearer."""
        scale = (
            self.distance
            / np.maximum(self.distance - seen[:, 2], 1e-3 * self.distance)
            * (height / 2 / self.half)
        )
        return np.stack(
            [width / 2 - 0.5 + seen[:, 0] * scale, height / 2 - 0.5 - seen[:, 1] * scale, scale],
            axis=1,
        )


def frame_view(
    vertices: np.ndarray,
    focus: np.ndarray | None = None,
    view: str = "front",
    facing: np.ndarray | None = None,
) -> View:
    """A camera that shows the vertices (V, 3) of `focus` (V,) bool, or all, with a margin.

    facing: (3, 3), the rotation of the face in the mesh; None for one that looks along +z with y up
    """
    if view not in VIEWS:
        raise InputError(f"unknown view '{view}'", f"choose from {', '.join(VIEWS)}")
    turn = np.eye(3) if facing is None else facing
    part = (vertices if focus is None or not focus.any() else vertices[focus]) @ turn
    low, high = part.min(0).astype(float), part.max(0).astype(float)
    half = 0.5 * 1.16 * max(high[1] - low[1], high[0] - low[0])
    # Seen from seven half-heights away: the perspective of a portrait lens.
    return View(turn @ ((low + high) / 2), half, 7 * half, np.radians(VIEWS[view]), turn)


def lit(normals: np.ndarray) -> np.ndarray:
    """What skin with unit normals (V, 3) in camera space is multiplied by, (V, 3): the software rasteriser's light."""
    inside = normals[:, 2] < 0
    normals = np.where(inside[:, None], -normals, normals)
    cosine = normals @ LIGHTS[:, :3].T
    wrapped = np.maximum((cosine[..., None] + SOFTNESS) / (1 + SOFTNESS), 0)
    light = (AMBIENT + AMBIENT_ABOVE * normals[:, 1])[:, None] + np.einsum(
        "vlc,l->vc", wrapped, LIGHTS[:, 3]
    )
    mirrored = np.where(cosine > 0, np.maximum(2 * cosine * normals[:, 2:] - LIGHTS[:, 2], 0), 0)
    light = light + (GLOSS * mirrored**SHARPNESS @ LIGHTS[:, 3])[:, None] * 255 / SKIN
    return np.asarray(np.where(inside[:, None], INSIDE, 1) * light)


def background_rows(height: int) -> np.ndarray:
    """The background's colour in each row, (height, 3) float32: a little lighter above."""
    share = 1 - np.linspace(0, 1, height, dtype=np.float32)[:, None]
    return (BACKGROUND + share * SHEEN).astype(np.float32)


def width_and_height(size: int | tuple[int, int]) -> tuple[int, int]:
    """Pixels across and down of a picture, by its side or by both. Raises InputError where it is too small or large."""
    width, height = (size, size) if isinstance(size, int) else size
    check_size(width)
    check_size(height)
    return width, height


def fitted(view: View, aspect: float) -> View:
    """A view whose picture, so many times as wide as high, still shows all of the face's width."""
    return (
        view
        if aspect >= 1
        else replace(view, half=view.half / aspect, distance=view.distance / aspect)
    )


def check_size(size: int) -> None:
    """Raise InputError for a picture that is too small or too large."""
    if not SIZES[0] <= size <= SIZES[1]:
        raise InputError(
            f"a picture of {size} pixels", f"choose a size from {SIZES[0]} to {SIZES[1]}"
        )
