"""Off-screen rendering by pyrender on EGL or OSMesa."""

from __future__ import annotations

import os
import sys
import types
from typing import Any

import numpy as np

from ..formats.appearance import Appearance
from ..geometry.meshes import vertex_normals
from .transparency import back_to_front, draw_order
from .view import View, background_rows, catch_light, lit

GL_LINEAR = 9729  # texture filter
CATCH_GAIN = 4  # light per share of white, on an iris
BACKDROP_DISTANCE = 10  # behind the mesh, in distances of the camera


def _import_pyrender(platform: str) -> Any:
    """Import pyrender without its viewer, which needs pyglet, X11 and libGL."""
    os.environ["PYOPENGL_PLATFORM"] = platform
    if "pyrender" not in sys.modules:
        stub = types.ModuleType("pyrender.viewer")
        stub.Viewer = None  # type: ignore[attr-defined]
        sys.modules.setdefault("pyrender.viewer", stub)
    import pyrender

    return pyrender


class GLRenderer:
    """Draws frames of one mesh, see `Renderer`; only the vertex buffers change per frame."""

    def __init__(self, appearance: Appearance, view: View, size: tuple[int, int], platform: str):
        self.pyrender = _import_pyrender(platform)
        self.name = platform
        self.appearance, self.view = appearance, view
        self.surface = appearance.vertex[appearance.faces]  # triangles of vertices, for normals
        self.background = background_rows(size[1])
        self.renderer = self.pyrender.OffscreenRenderer(*size)
        self.order = draw_order(appearance)
        self.materials = [self._material(appearance.texture, "OPAQUE")]
        if appearance.opacity is not None:
            self.materials.append(
                self._material(np.dstack([appearance.texture, appearance.opacity]), "BLEND")
            )
        # Light is computed here, per vertex, as the software renderer does per pixel.
        self.scene = self.pyrender.Scene(bg_color=[0.0, 0.0, 0.0, 0.0])
        field = 2 * np.arctan(view.half / view.distance)
        camera = self.pyrender.PerspectiveCamera(
            field, aspectRatio=size[0] / size[1], znear=0.05 * view.distance
        )
        pose = np.eye(4)
        pose[2, 3] = view.distance
        self.scene.add(camera, pose=pose)
        self.aspect = size[0] / size[1]
        self.node: Any = None

    def draw(self, vertices: np.ndarray) -> np.ndarray:
        """Return an image (H, W, 3) uint8 of vertices (N, 3)."""
        appearance = self.appearance
        seen = self.view.to_camera(appearance.points(vertices)).astype(np.float32)
        normals = vertex_normals(seen, self.surface).astype(np.float32)[appearance.vertex]
        two_sided = np.zeros(len(normals), bool)
        two_sided[self.order.tested] = True
        normals[two_sided & (normals[:, 2] < 0)] *= -1
        light = np.column_stack([lit(normals), np.ones(len(normals))])
        light[:, :3] += self._catch_light(normals)
        uv = (appearance.places() + 0.5) / appearance.texture.shape[1::-1] * [1, -1] + [0, 1]
        positions = seen[appearance.vertex]
        # Partly transparent triangles come last, from back to front, and are blended.
        parts = [self.order.faces[: self.order.solid]]
        parts.append(back_to_front(self.order.tested, positions[:, 2]))
        primitives = [
            self.pyrender.Primitive(
                positions=positions,
                normals=normals,
                color_0=light.astype(np.float32),
                texcoord_0=uv,
                indices=faces,
                material=material,
            )
            for faces, material in zip(parts, self.materials)
            if len(faces)
        ]
        if len(self.order.tested):
            primitives.insert(0, self._backdrop())
        if self.node is not None:
            self.scene.remove_node(self.node)
        self.node = self.scene.add(self.pyrender.Mesh(primitives))
        flags = self.pyrender.RenderFlags.RGBA | self.pyrender.RenderFlags.FLAT
        image, _ = self.renderer.render(self.scene, flags=flags)
        if len(self.order.tested):
            return np.ascontiguousarray(image[..., :3])
        alpha = image[..., 3:] / np.float32(255)
        return (alpha * image[..., :3] + (1 - alpha) * self.background[:, None]).astype(np.uint8)

    def _material(self, texture: np.ndarray, mode: str) -> Any:
        """Return a material with a texture (H, W, 3 or 4)."""
        # No mipmaps: in these, unconnected regions of the texture would bleed into each other.
        smooth = self.pyrender.Sampler(minFilter=GL_LINEAR, magFilter=GL_LINEAR)
        source = self.pyrender.Texture(
            source=texture, source_channels="RGBA"[: texture.shape[2]], sampler=smooth
        )
        return self.pyrender.MetallicRoughnessMaterial(
            baseColorTexture=source, doubleSided=True, alphaMode=mode
        )

    def _backdrop(self) -> Any:
        """Return the background as a rectangle behind the mesh, over which triangles are blended.

        Over an empty image they would get a wrong alpha.
        """
        view = self.view
        far = BACKDROP_DISTANCE * view.distance
        high = view.half * (view.distance + far) / view.distance
        wide = high * self.aspect
        corners = [[-wide, high, -far], [wide, high, -far], [-wide, -high, -far]]
        rows = self.background[[0, 0, -1, -1]] / 255
        return self.pyrender.Primitive(
            positions=np.array([*corners, [wide, -high, -far]], np.float32),
            color_0=np.column_stack([rows, np.ones(4)]).astype(np.float32),
            indices=np.array([[0, 2, 1], [1, 2, 3]]),
            material=self.pyrender.MetallicRoughnessMaterial(doubleSided=True),
        )

    def _catch_light(self, normals: np.ndarray) -> np.ndarray:
        """Return the light (C, 1) that whitens the corners (C, 3) of eyes that reflect it."""
        if self.appearance.eye is None:
            return np.zeros((len(normals), 1))
        column, row, per_radian = self.appearance.eye
        offsets = (self.appearance.places() - [column, row]) / per_radian * [1, -1]
        return CATCH_GAIN * catch_light(normals, offsets)[:, None]

    @property
    def on_gpu(self) -> bool:
        """Whether a GPU draws; Mesa's CPU renderers are known by their names."""
        from OpenGL.GL import GL_RENDERER, glGetString

        self.renderer._platform.make_current()
        name = (glGetString(GL_RENDERER) or b"").decode("utf-8", "replace").lower()
        return not any(word in name for word in ("llvmpipe", "softpipe", "swrast", "software"))

    def close(self) -> None:
        """Free the context."""
        self.renderer.delete()
