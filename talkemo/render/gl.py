"""Pictures by pyrender on EGL or OSMesa, without a window."""

from __future__ import annotations

import os
import sys
import types
from typing import Any

import numpy as np

from ..geometry import vertex_normals
from .view import BACKGROUND, LIGHTS, SKIN, View


def _import_pyrender(platform: str) -> Any:
    """pyrender on a platform. Its viewer is left out: it would ask for pyglet, X11 and libGL even without a window."""
    os.environ["PYOPENGL_PLATFORM"] = platform
    if "pyrender" not in sys.modules:
        stub = types.ModuleType("pyrender.viewer")
        stub.Viewer = None  # type: ignore[attr-defined]
        sys.modules.setdefault("pyrender.viewer", stub)
    import pyrender

    return pyrender


class GLRenderer:
    """Draws frames of one mesh; the camera stands still and the vertex buffers are replaced."""

    def __init__(self, faces: np.ndarray, view: View, size: tuple[int, int], platform: str):
        self.pyrender = _import_pyrender(platform)
        self.name = platform
        self.faces, self.view = faces, view
        self.renderer = self.pyrender.OffscreenRenderer(*size)
        # pyrender's colours are linear.
        colour = [*(SKIN / 255.0) ** 2.2, 1.0]
        self.material = self.pyrender.MetallicRoughnessMaterial(
            baseColorFactor=colour, metallicFactor=0.0, roughnessFactor=0.6, doubleSided=True
        )
        self.scene = self.pyrender.Scene(bg_color=[*(BACKGROUND / 255.0), 1.0], ambient_light=[0.12] * 3)
        field = 2 * np.arctan(view.half / view.distance)
        camera = self.pyrender.PerspectiveCamera(field, aspectRatio=size[0] / size[1], znear=0.05 * view.distance)
        pose = np.eye(4)
        pose[2, 3] = view.distance
        self.scene.add(camera, pose=pose)
        for light in LIGHTS:
            self.scene.add(self.pyrender.DirectionalLight(intensity=3.6 * float(light[3])), pose=_looking(-light[:3]))
        self.node: Any = None

    def draw(self, vertices: np.ndarray) -> np.ndarray:
        """A picture (H, W, 3) uint8 of vertices (V, 3)."""
        seen = self.view.to_camera(vertices).astype(np.float32)
        normals = vertex_normals(seen, self.faces).astype(np.float32)
        primitive = self.pyrender.Primitive(positions=seen, normals=normals, indices=self.faces, material=self.material)
        if self.node is not None:
            self.scene.remove_node(self.node)
        self.node = self.scene.add(self.pyrender.Mesh([primitive]))
        picture, _ = self.renderer.render(self.scene)
        return np.ascontiguousarray(picture)

    @property
    def on_gpu(self) -> bool:
        """Whether hardware draws; Mesa's renderers for the processor say their names."""
        from OpenGL.GL import GL_RENDERER, glGetString

        self.renderer._platform.make_current()
        name = (glGetString(GL_RENDERER) or b"").decode("utf-8", "replace").lower()
        return not any(word in name for word in ("llvmpipe", "softpipe", "swrast", "software"))

    def close(self) -> None:
        """Free the context."""
        self.renderer.delete()


def _looking(direction: np.ndarray) -> np.ndarray:
    """Pose (4, 4) of a light that shines along a direction: its own −z."""
    z = -direction / np.linalg.norm(direction)
    x = np.cross([0.0, 1.0, 0.0] if abs(z[1]) < 0.9 else [1.0, 0.0, 0.0], z)
    x /= np.linalg.norm(x)
    pose = np.eye(4)
    pose[:3, :3] = np.column_stack([x, np.cross(z, x), z])
    return pose
