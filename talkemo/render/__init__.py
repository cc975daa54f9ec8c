"""Drawing: the appearance of meshes, two renderers, images, videos and the web page."""

from .renderers import Renderer, gl_library, gl_platform, new_renderer

__all__ = ["Renderer", "gl_library", "gl_platform", "new_renderer"]
