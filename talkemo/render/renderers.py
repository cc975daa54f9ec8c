"""The choice between two renderers.

pyrender is used if EGL or OSMesa finds a GPU, else the software rasteriser, because OpenGL on a CPU
is three times slower. TALKEMO_RENDERER (`software`, `egl`, `osmesa`) overrides the choice.
"""

from __future__ import annotations

import ctypes.util
import os
import sys
from pathlib import Path
from typing import Protocol

import numpy as np

from ..errors import InputError
from ..formats.appearance import Appearance
from .view import View

# Device files of GPUs under Linux. Without one, importing pyrender only takes time.
GPU_DEVICES = ("nvidia[0-9]*", "dri/renderD*", "dxg")


class Renderer(Protocol):
    """What a renderer must offer: it draws frames of one mesh.

    Attributes
    ----------
    name : str
        software, egl or osmesa.
    view : View
        The camera, which may change between frames.
    """

    name: str
    view: View

    def draw(self, vertices: np.ndarray) -> np.ndarray:
        """Return an image (H, W, 3) uint8 of vertices (N, 3)."""
        ...

    def close(self) -> None:
        """Free the renderer's resources."""
        ...


def new_renderer(appearance: Appearance, view: View, size: tuple[int, int]) -> Renderer:
    """Return a renderer for a mesh with an appearance; `size` is (W, H) pixels."""
    platform = gl_platform()
    if platform:
        try:
            from .gl import GLRenderer

            renderer = GLRenderer(appearance, view, size, platform)
            renderer.draw(np.zeros((appearance.vertices, 3), np.float32))  # compiles the shaders
            if renderer.on_gpu or os.environ.get("TALKEMO_RENDERER"):
                return renderer
            renderer.close()
        except Exception:  # on headless machines, an installed OpenGL can fail in many ways
            if os.environ.get("TALKEMO_RENDERER"):
                raise
    from .software import SoftwareRenderer

    return SoftwareRenderer(appearance, view, size)


def gl_platform() -> str | None:
    """Return `egl` or `osmesa` if there is a GPU and off-screen OpenGL, else None.

    Raises
    ------
    InputError
        If TALKEMO_RENDERER names no renderer.
    """
    choice = os.environ.get("TALKEMO_RENDERER", "").lower()
    if choice:
        if choice not in ("software", "egl", "osmesa"):
            raise InputError(
                f"TALKEMO_RENDERER={choice}: unknown renderer", "choose software, egl or osmesa"
            )
        return None if choice == "software" else choice
    if sys.platform == "linux" and not any(
        any(Path("/dev").glob(pattern)) for pattern in GPU_DEVICES
    ):
        return None
    return gl_library()


def gl_library() -> str | None:
    """Return `egl` or `osmesa` if its library is installed, with or without a GPU, else None."""
    find = ctypes.util.find_library
    if find("EGL") and find("OpenGL"):  # EGL alone cannot draw
        return "egl"
    return "osmesa" if find("OSMesa") else None
