"""Pictures by pyrender on EGL or OSMesa, without a window."""

from __future__ import annotations

import os
import sys
import types
from typing import Any

import numpy as np

from ..geometry.meshes import vertex_normals
from .appearance import Appearance
from .view import View, background_rows, lit


def _import_pyrender(platform: str) -> Any:
    """pyrender on a platform. Its viewer is left out: it would ask for pyglet, X11 and libGL even without a window."""
    os.environ["PYOPENGL_PLATFORM"] = platform
    if "pyrender" not in sys.modules:
        stub = types.ModuleType("pyrender.viewer")
        stub.Viewer = None  # type: ignore[attr-defined]
        sys.modules.setdefault("pyrender.viewer", stub)
    import pyrender

    return pyrender


LINEAR = 9729  # GL's number of that filter


class GLRenderer:
    """Draws frames of one mesh; the camera stands still and the vertex buffers are replaced."""

    def __init__(self, appearance: Appearance, view: View, size: tuple[int, int], platform: str):
        self.pyrender = _import_pyrender(platform)
        self.name = platform
        self.appearance, self.view = appearance, view
        self.surface = appearance.vertex[appearance.faces]  # the triangles by vertices, for normals
        self.background = background_rows(size[1])
        self.renderer = self.pyrender.OffscreenRenderer(*size)
        # Without smaller copies of the texture, in which parts that are not connected would run into each other.
        smooth = self.pyrender.Sampler(minFilter=LINEAR, magFilter=LINEAR)
        self.material = self.pyrender.MetallicRoughnessMaterial(
            baseColorTexture=self.pyrender.Texture(
                source=appearance.texture, source_channels="RGB", sampler=smooth
            ),
            doubleSided=True,
        )
        # What lights do is computed here, at the vertices, as the software rasteriser does it at each pixel: both look alike.
        self.scene = self.pyrender.Scene(bg_color=[0.0, 0.0, 0.0, 0.0])
        field = 2 * np.arctan(view.half / view.distance)
        camera = self.pyrender.PerspectiveCamera(
            field, aspectRatio=size[0] / size[1], znear=0.05 * view.distance
        )
        pose = np.eye(4)
        pose[2, 3] = view.distance
        self.scene.add(camera, pose=pose)
        self.node: Any = None

    def draw(self, vertices: np.ndarray) -> np.ndarray:
        """A picture (H, W, 3) uint8 of vertices (N, 3)."""
        appearance = self.appearance
        seen = self.view.to_camera(appearance.points(vertices)).astype(np.float32)
        normals = vertex_normals(seen, self.surface).astype(np.float32)
        primitive = self.pyrender.Primitive(
            positions=seen[appearance.vertex],
            normals=normals[appearance.vertex],
            color_0=np.column_stack([lit(normals), np.ones(len(normals))])[
                appearance.vertex
            ].astype(np.float32),
            texcoord_0=(appearance.place + 0.5) / appearance.texture.shape[1::-1] * [1, -1]
            + [0, 1],
            indices=appearance.faces,
            material=self.material,
        )
        if self.node is not None:
            self.scene.remove_node(self.node)
        self.node = self.scene.add(self.pyrender.Mesh([primitive]))
        picture, _ = self.renderer.render(
            self.scene, flags=self.pyrender.RenderFlags.RGBA | self.pyrender.RenderFlags.FLAT
        )
        share = picture[..., 3:] / np.float32(255)
        return (share * picture[..., :3] + (1 - share) * self.background[:, None]).astype(np.uint8)

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
