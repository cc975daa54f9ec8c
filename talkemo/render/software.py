"""A rasteriser for machines without any GL: z-buffer, interpolated normals, 2×2 supersampling, compiled by numba."""

from __future__ import annotations

import numpy as np
from numba import njit, prange

BANDS = 8  # horizontal strips, drawn in parallel


@njit(cache=True, fastmath=True)
def _normals(vertices, faces, out):
    out[:] = 0
    for f in range(faces.shape[0]):
        a, b, c = faces[f, 0], faces[f, 1], faces[f, 2]
        ux, uy, uz = vertices[b, 0] - vertices[a, 0], vertices[b, 1] - vertices[a, 1], vertices[b, 2] - vertices[a, 2]
        vx, vy, vz = vertices[c, 0] - vertices[a, 0], vertices[c, 1] - vertices[a, 1], vertices[c, 2] - vertices[a, 2]
        nx, ny, nz = uy * vz - uz * vy, uz * vx - ux * vz, ux * vy - uy * vx
        for k in (a, b, c):
            out[k, 0] += nx
            out[k, 1] += ny
            out[k, 2] += nz
    for k in range(out.shape[0]):
        length = (out[k, 0] ** 2 + out[k, 1] ** 2 + out[k, 2] ** 2) ** 0.5 + 1e-20
        out[k] /= length


@njit(cache=True, fastmath=True, parallel=True)
def _draw(points, normals, faces, depth, image):
    """points (V, 3): column, row and depth (larger is nearer); image (H, W, 3) gets unit normals where it is hit."""
    height, width = depth.shape
    for band in prange(BANDS):
        first, last = band * height // BANDS, (band + 1) * height // BANDS
        for f in range(faces.shape[0]):
            a, b, c = faces[f, 0], faces[f, 1], faces[f, 2]
            ax, ay, bx, by, cx, cy = points[a, 0], points[a, 1], points[b, 0], points[b, 1], points[c, 0], points[c, 1]
            top, bottom = int(np.ceil(min(ay, by, cy))), int(np.floor(max(ay, by, cy)))
            if bottom < first or top >= last:
                continue
            area = (bx - ax) * (cy - ay) - (cx - ax) * (by - ay)
            if area == 0:
                continue
            left, right = int(np.ceil(min(ax, bx, cx))), int(np.floor(max(ax, bx, cx)))
            left, right = max(left, 0), min(right, width - 1)
            for row in range(max(top, first), min(bottom, last - 1) + 1):
                for column in range(left, right + 1):
                    u = ((bx - column) * (cy - row) - (cx - column) * (by - row)) / area
                    v = ((cx - column) * (ay - row) - (ax - column) * (cy - row)) / area
                    w = 1 - u - v
                    if u < 0 or v < 0 or w < 0:
                        continue
                    z = u * points[a, 2] + v * points[b, 2] + w * points[c, 2]
                    if z > depth[row, column]:
                        depth[row, column] = z
                        for k in range(3):
                            image[row, column, k] = u * normals[a, k] + v * normals[b, k] + w * normals[c, k]


@njit(cache=True, fastmath=True, parallel=True)
def _shade(depth, image, lights, skin, background, out):
    """Average 2×2 shaded samples into each pixel of out (H, W, 3) uint8."""
    for row in prange(out.shape[0]):
        for column in range(out.shape[1]):
            red, green, blue = 0.0, 0.0, 0.0
            for sample in range(4):
                r, c = 2 * row + sample // 2, 2 * column + sample % 2
                if depth[r, c] <= -1e30:
                    red += background[0]
                    green += background[1]
                    blue += background[2]
                    continue
                nx, ny, nz = image[r, c, 0], image[r, c, 1], image[r, c, 2]
                length = (nx * nx + ny * ny + nz * nz) ** 0.5 + 1e-9
                if nz < 0:  # the inside of the surface: seen through the mouth and the eyes
                    length = -length
                    dark = 0.35
                else:
                    dark = 1.0
                nx, ny, nz = nx / length, ny / length, nz / length
                light, gloss = 0.22, 0.0
                for k in range(lights.shape[0]):
                    cosine = nx * lights[k, 0] + ny * lights[k, 1] + nz * lights[k, 2]
                    if cosine > 0:
                        light += lights[k, 3] * cosine
                        mirrored = 2 * cosine * nz - lights[k, 2]
                        if mirrored > 0:
                            gloss += 0.1 * lights[k, 3] * mirrored**18
                red += dark * (skin[0] * light + 255 * gloss)
                green += dark * (skin[1] * light + 255 * gloss)
                blue += dark * (skin[2] * light + 255 * gloss)
            out[row, column, 0] = min(255.0, red / 4)
            out[row, column, 1] = min(255.0, green / 4)
            out[row, column, 2] = min(255.0, blue / 4)


class SoftwareRenderer:
    """Draws frames of one mesh. `view` is the camera of talkemo.render."""

    name = "software"

    def __init__(self, faces: np.ndarray, view, size: tuple[int, int]):
        self.faces = np.ascontiguousarray(faces, np.int32)
        self.view = view
        self.width, self.height = size
        self.depth = np.empty((2 * self.height, 2 * self.width), np.float32)
        self.image = np.empty((2 * self.height, 2 * self.width, 3), np.float32)
        self.out = np.empty((self.height, self.width, 3), np.uint8)

    def draw(self, vertices: np.ndarray) -> np.ndarray:
        """A picture (H, W, 3) uint8 of vertices (V, 3)."""
        from . import BACKGROUND, LIGHTS, SKIN

        seen = np.ascontiguousarray(self.view.to_camera(vertices), np.float32)
        normals = np.empty_like(seen)
        _normals(seen, self.faces, normals)
        points = np.ascontiguousarray(self.view.to_pixels(seen, 2 * self.width, 2 * self.height), np.float32)
        self.depth[:] = -1e38
        _draw(points, normals, self.faces, self.depth, self.image)
        _shade(self.depth, self.image, LIGHTS, SKIN, BACKGROUND, self.out)
        return self.out.copy()

    def close(self) -> None:
        """Nothing to let go of."""
