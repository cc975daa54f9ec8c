"""Pictures of meshes: a camera that finds the face, and two renderers behind one call.

pyrender draws where EGL or OSMesa is found and a GPU behind it; the software rasteriser draws everywhere else, for GL
drawn by the processor is three times slower. TALKEMO_RENDERER (`software`, `egl`, `osmesa`) overrides the choice.
"""

from __future__ import annotations

import ctypes.util
import os
from dataclasses import dataclass
from typing import Any

import numpy as np

from ..errors import InputError

SKIN = np.array([224, 178, 152], np.float32)  # RGB
BACKGROUND = np.array([46, 50, 56], np.float32)
# Direction in camera space (towards the light) and strength: key, fill, rim.
_DIRECTIONS = np.array([[-0.45, 0.55, 0.75], [0.8, 0.1, 0.55], [0.0, 0.9, -0.2]])
LIGHTS = np.column_stack([_DIRECTIONS / np.linalg.norm(_DIRECTIONS, axis=1, keepdims=True), [0.62, 0.3, 0.15]]).astype(
    np.float32
)
VIEWS = {"front": 0.0, "left": 35.0, "right": -35.0}  # degrees that the camera stands to the face's left


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
        scale = self.distance / np.maximum(self.distance - seen[:, 2], 1e-3 * self.distance) * (height / 2 / self.half)
        return np.stack([width / 2 - 0.5 + seen[:, 0] * scale, height / 2 - 0.5 - seen[:, 1] * scale, scale], axis=1)


def frame_view(
    vertices: np.ndarray, focus: np.ndarray | None = None, view: str = "front", facing: np.ndarray | None = None
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


def facing_of(meta: dict[str, Any]) -> np.ndarray | None:
    """The rotation (3, 3) of the face in an animation's mesh, if its meta tells one."""
    try:
        turn = np.array(meta.get("facing"), np.float64)
    except (TypeError, ValueError):
        return None
    if turn.shape != (3, 3) or not np.allclose(turn @ turn.T, np.eye(3), atol=1e-3):
        return None
    return turn


def new_renderer(faces: np.ndarray, view: View, size: tuple[int, int]) -> Any:
    """A renderer with `draw(vertices) → (H, W, 3) uint8` and `close()` for a mesh of triangles (F, 3); size (W, H)."""
    platform = gl_platform()
    if platform:
        try:
            from .gl import GLRenderer

            renderer = GLRenderer(faces, view, size, platform)
            renderer.draw(np.zeros((int(faces.max()) + 1, 3), np.float32))  # shaders are compiled at the first frame
            # GL drawn by the processor takes three times as long as our own rasteriser.
            if renderer.on_gpu or os.environ.get("TALKEMO_RENDERER"):
                return renderer
            renderer.close()
        except Exception:  # a library that is there but does not work: headless machines have many ways to fail
            if os.environ.get("TALKEMO_RENDERER"):
                raise
    from .software import SoftwareRenderer

    return SoftwareRenderer(faces, view, size)


def gl_platform() -> str | None:
    """`egl` or `osmesa` where a library for off-screen GL is found, None where there is neither."""
    wish = os.environ.get("TALKEMO_RENDERER", "").lower()
    if wish:
        if wish not in ("software", "egl", "osmesa"):
            raise InputError(f"TALKEMO_RENDERER={wish}: choose software, egl or osmesa")
        return None if wish == "software" else wish
    for platform, library in (("egl", "EGL"), ("osmesa", "OSMesa")):
        # EGL alone draws nothing: it needs a GL library beside it.
        if ctypes.util.find_library(library) and (platform == "osmesa" or ctypes.util.find_library("OpenGL")):
            return platform
    return None
