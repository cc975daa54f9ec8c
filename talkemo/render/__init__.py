"""Pictures of meshes, by one of two renderers.

pyrender draws where EGL or OSMesa is found and a GPU behind it; the software rasteriser draws everywhere else, for GL
drawn by the processor is three times slower. TALKEMO_RENDERER (`software`, `egl`, `osmesa`) overrides the choice.
"""

from __future__ import annotations

import ctypes.util
import os
import sys
from pathlib import Path
from typing import Protocol

import numpy as np

from ..errors import InputError
from .appearance import Appearance
from .view import View

# Files in /dev by which Linux shows a GPU. Without one, importing pyrender would only take time.
GPU_DEVICES = ("nvidia[0-9]*", "dri/renderD*", "dxg")


class Renderer(Protocol):
    """Draws frames of one mesh. name: software, egl or osmesa; view: the camera, which may be turned between frames."""

    name: str
    view: View

    def draw(self, vertices: np.ndarray) -> np.ndarray:
        """A picture (H, W, 3) uint8 of vertices (N, 3)."""
        ...

    def close(self) -> None:
        """Free what the renderer holds."""
        ...


def new_renderer(appearance: Appearance, view: View, size: tuple[int, int]) -> Renderer:
    """A renderer with `draw(vertices) → (H, W, 3) uint8` and `close()` for a mesh with a look; size (W, H)."""
    platform = gl_platform()
    if platform:
        try:
            from .gl import GLRenderer

            renderer = GLRenderer(appearance, view, size, platform)
            renderer.draw(
                np.zeros((appearance.vertices, 3), np.float32)
            )  # shaders are compiled at the first frame
            # GL drawn by the processor takes three times as long as our own rasteriser.
            if renderer.on_gpu or os.environ.get("TALKEMO_RENDERER"):
                return renderer
            renderer.close()
        except (
            Exception
        ):  # a library that is there but does not work: headless machines have many ways to fail
            if os.environ.get("TALKEMO_RENDERER"):
                raise
    from .software import SoftwareRenderer

    return SoftwareRenderer(appearance, view, size)


def gl_platform() -> str | None:
    """`egl` or `osmesa` where a GPU and a library for off-screen GL are found, None where there is neither."""
    wish = os.environ.get("TALKEMO_RENDERER", "").lower()
    if wish:
        if wish not in ("software", "egl", "osmesa"):
            raise InputError(
                f"TALKEMO_RENDERER={wish}: unknown renderer", "choose software, egl or osmesa"
            )
        return None if wish == "software" else wish
    if sys.platform == "linux" and not any(
        any(Path("/dev").glob(pattern)) for pattern in GPU_DEVICES
    ):
        return None
    return gl_library()


def gl_library() -> str | None:
    """`egl` or `osmesa` where a library for off-screen GL is installed, whatever it draws on; None where there is neither."""
    for platform, library in (("egl", "EGL"), ("osmesa", "OSMesa")):
        # EGL alone draws nothing: it needs a GL library beside it.
        if ctypes.util.find_library(library) and (
            platform == "osmesa" or ctypes.util.find_library("OpenGL")
        ):
            return platform
    return None
