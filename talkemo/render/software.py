"""A software renderer: z-buffer, interpolated normals, 2×2 supersampling, compiled by numba."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import numpy as np

from ..compute.devices import available_cores
from ..formats.appearance import Appearance
from .raster import RASTER_BANDS, draw_bands, sort_into_bands, vertex_normals_of
from .transparency import back_to_front, draw_order
from .view import CATCH_DIRECTION, LIGHTS, SOFTNESS, View, background_rows

MAX_RENDER_THREADS = 8  # more would wait for each other
# See `raster._light`.
LIGHTING = np.vstack([LIGHTS, np.append(SOFTNESS, 0), np.append(1 / (1 + SOFTNESS), 0)])
LIGHTING = LIGHTING.astype(np.float32)


class SoftwareRenderer:
    """Draws frames of one mesh, see `Renderer`; `size` is (W, H). Threads share the bands."""

    name = "software"

    def __init__(self, appearance: Appearance, view: View, size: tuple[int, int]):
        self.appearance, self.view = appearance, view
        self.order = draw_order(appearance)
        # Triangles of vertices instead of corners, for normals.
        self.surface = np.ascontiguousarray(appearance.vertex[appearance.faces], np.int32)
        self.width, self.height = size
        self.bands, self.veil_bands = _Bands(self.order.faces), _Bands(self.order.veils)
        self.out = np.empty((self.height, self.width, 3), np.uint8)
        self.eye = np.array([*(appearance.eye or (0, 0, 0)), *CATCH_DIRECTION], np.float32)
        self.opacity = np.full((1, 1), 255, np.uint8)
        if appearance.opacity is not None:
            self.opacity = appearance.opacity
        self.values = np.empty((len(appearance.vertex), 5), np.float32)
        self.background = background_rows(self.height)
        self.threads = min(available_cores(), MAX_RENDER_THREADS)
        self.pool = ThreadPoolExecutor(self.threads - 1) if self.threads > 1 else None
        self.samples = [self._new_samples() for _ in range(self.threads)]

    def _new_samples(self) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Memory for the samples of a band, see `draw_bands`."""
        rows, width = 2 * (self.height // RASTER_BANDS + 1), 2 * self.width
        veil_rows = rows if len(self.order.veils) else 0
        shapes = (rows, width), (rows, width, 5), (veil_rows, width, 4)
        depth, image, veil = (np.empty(shape, np.float32) for shape in shapes)
        return depth, image, veil

    def draw(self, vertices: np.ndarray) -> np.ndarray:
        """Return an image (H, W, 3) uint8 of vertices (N, 3)."""
        appearance = self.appearance
        seen = np.ascontiguousarray(self.view.to_camera(appearance.points(vertices)), np.float32)
        normals = np.empty_like(seen)
        vertex_normals_of(seen, self.surface, normals)
        self.values[:, :3] = normals[appearance.vertex]
        self.values[:, 3:] = appearance.places()
        points = self.view.to_pixels(seen, 2 * self.width, 2 * self.height).astype(np.float32)
        points = np.ascontiguousarray(points[appearance.vertex])
        veils = back_to_front(self.order.veils, points[:, 2])
        screen = (
            *(points, self.values, self.order.faces, self.order.solid),
            *self.bands.sort(points, self.order.faces, self.height),
            *(veils, *self.veil_bands.sort(points, veils, self.height)),
        )
        skin = (appearance.texture, self.opacity, self.eye)
        scene = (LIGHTING, self.background)
        work = [
            (k, self.threads, screen, self.samples[k], skin, scene, self.out)
            for k in range(self.threads)
        ]
        futures = []
        if self.pool:
            futures = [self.pool.submit(draw_bands, *arguments) for arguments in work[1:]]
        draw_bands(*work[0])
        for future in futures:
            future.result()
        return self.out.copy()

    def close(self) -> None:
        """End the threads."""
        if self.pool:
            self.pool.shutdown()


class _Bands:
    """Memory for the triangles of each band."""

    def __init__(self, faces: np.ndarray):
        self.starts = np.empty(RASTER_BANDS + 1, np.int64)
        self.members = np.empty(RASTER_BANDS * len(faces), np.int32)

    def sort(
        self, points: np.ndarray, faces: np.ndarray, height: int
    ) -> tuple[np.ndarray, np.ndarray]:
        """Return `starts` and `members` of triangles, see `sort_into_bands`."""
        sort_into_bands(points, faces, height, self.starts, self.members)
        return self.starts, self.members
