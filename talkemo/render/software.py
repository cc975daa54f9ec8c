"""A rasteriser for machines without any GL: z-buffer, interpolated normals, 2×2 supersampling, compiled by numba."""

from __future__ import annotations

import numpy as np
from numba import njit, prange

from .view import BACKGROUND, LIGHTS, SKIN, View

BANDS = 16  # horizontal strips, drawn in parallel
EDGE = np.float32(1e-3)  # pixels that a triangle reaches beyond its edge, so that neighbours leave no gap
NOTHING = np.float32(-1e38)  # depth where nothing is drawn


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


@njit(cache=True, fastmath=True)
def _sort_into_bands(points, faces, height, starts, members):
    """Lists the triangles that touch each horizontal band: members[starts[b]:starts[b + 1]] are those of band b.

    points (V, 3): column, row and depth; starts (BANDS + 1,), members (BANDS · F,) are written
    """
    count = faces.shape[0]
    reach = np.empty((count, 2), np.int8)  # first and last band of each triangle
    sizes = np.zeros(BANDS + 1, np.int64)
    for f in range(count):
        a, b, c = points[faces[f, 0], 1], points[faces[f, 1], 1], points[faces[f, 2], 1]
        top, bottom = int(np.ceil(min(a, b, c))), int(np.floor(max(a, b, c)))
        reach[f, 0], reach[f, 1] = 0, -1
        if bottom >= top and bottom >= 0 and top < height:
            # Band b begins at row b · height // BANDS, hence the last band that begins at or above a row:
            reach[f, 0] = min(((max(top, 0) + 1) * BANDS - 1) // height, BANDS - 1)
            reach[f, 1] = min(((min(bottom, height - 1) + 1) * BANDS - 1) // height, BANDS - 1)
        for band in range(reach[f, 0], reach[f, 1] + 1):
            sizes[band + 1] += 1
    starts[:] = np.cumsum(sizes)
    filled = starts.copy()
    for f in range(count):
        for band in range(reach[f, 0], reach[f, 1] + 1):
            members[filled[band]] = f
            filled[band] += 1


@njit(cache=True, fastmath=True)
def _positive(value, step, low, high):
    """The part of the interval from low to high in which value + step · x is not negative."""
    if step > 0:
        return max(low, -value / step - EDGE), high
    if step < 0:
        return low, min(high, -value / step + EDGE)
    return (low, high) if value >= -EDGE else (low, low - 1)


@njit(cache=True, fastmath=True, parallel=True)
def _draw(points, normals, faces, starts, members, depth, image):
    """points (V, 3): column, row and depth (larger is nearer); image (H, W, 3) gets normals where it is hit."""
    height, width = depth.shape
    for band in prange(BANDS):
        first, last = band * height // BANDS, (band + 1) * height // BANDS
        for row in range(first, last):
            for column in range(width):
                depth[row, column] = NOTHING
        for n in range(starts[band], starts[band + 1]):
            f = members[n]
            a, b, c = faces[f, 0], faces[f, 1], faces[f, 2]
            ax, ay, bx, by, cx, cy = points[a, 0], points[a, 1], points[b, 0], points[b, 1], points[c, 0], points[c, 1]
            area = (bx - ax) * (cy - ay) - (cx - ax) * (by - ay)
            if area == 0:
                continue
            inverse = np.float32(1) / area
            top = max(int(np.ceil(min(ay, by, cy))), first)
            bottom = min(int(np.floor(max(ay, by, cy))), last - 1)
            left = max(min(ax, bx, cx), np.float32(0))
            right = min(max(ax, bx, cx), np.float32(width - 1))
            # Barycentric coordinates u, v, w are linear in column and row.
            u_step, v_step = (by - cy) * inverse, (cy - ay) * inverse
            w_step = -u_step - v_step
            za, zb, zc = points[a, 2], points[b, 2], points[c, 2]
            z_step = u_step * za + v_step * zb + w_step * zc
            for row in range(top, bottom + 1):
                y = np.float32(row)
                u_row = (bx * (cy - y) - cx * (by - y)) * inverse
                v_row = (cx * (ay - y) - ax * (cy - y)) * inverse
                w_row = np.float32(1) - u_row - v_row
                low, high = _positive(u_row, u_step, left, right)
                low, high = _positive(v_row, v_step, low, high)
                low, high = _positive(w_row, w_step, low, high)
                z_row = u_row * za + v_row * zb + w_row * zc
                for column in range(int(np.ceil(low)), int(np.floor(high)) + 1):
                    x = np.float32(column)
                    z = z_row + z_step * x
                    if z > depth[row, column]:
                        depth[row, column] = z
                        u, v, w = u_row + u_step * x, v_row + v_step * x, w_row + w_step * x
                        for k in range(3):
                            image[row, column, k] = u * normals[a, k] + v * normals[b, k] + w * normals[c, k]


@njit(cache=True, fastmath=True)
def _light(nx, ny, nz, lights):
    """Diffuse light and gloss on a surface with a normal (not of unit length) that is seen along −z."""
    scale = np.float32(1) / (np.sqrt(nx * nx + ny * ny + nz * nz) + np.float32(1e-9))
    dark = np.float32(1)
    if nz < 0:  # the inside of the surface: seen through the mouth and the eyes
        scale, dark = -scale, np.float32(0.35)
    nx, ny, nz = nx * scale, ny * scale, nz * scale
    light, gloss = np.float32(0.22), np.float32(0)
    for k in range(lights.shape[0]):
        cosine = nx * lights[k, 0] + ny * lights[k, 1] + nz * lights[k, 2]
        if cosine > 0:
            light += lights[k, 3] * cosine
            mirrored = 2 * cosine * nz - lights[k, 2]
            if mirrored > 0:  # to the 18th power
                square = mirrored * mirrored
                eighth = square * square * square * square
                gloss += np.float32(0.1) * lights[k, 3] * eighth * eighth * square
    return dark * light, dark * gloss


@njit(cache=True, fastmath=True, parallel=True)
def _shade(depth, image, lights, skin, background, out):
    """Colour each pixel of out (H, W, 3) uint8 from its 2×2 samples.

    Inside the surface normals are averaged and lit once; where samples differ, at edges, each is lit by itself.
    """
    height, width = out.shape[0], out.shape[1]
    white, none = np.float32(255), np.float32(0)
    for row in prange(height):
        r = 2 * row
        for column in range(width):
            c = 2 * column
            hit, inside = 0, 0
            for sample in range(4):
                y, x = r + sample // 2, c + sample % 2
                if depth[y, x] > NOTHING:
                    hit += 1
                    inside += image[y, x, 2] < 0
            light, gloss, share = none, none, np.float32(hit) * np.float32(0.25)
            if hit == 4 and (inside == 0 or inside == 4):
                nx = image[r, c, 0] + image[r, c + 1, 0] + image[r + 1, c, 0] + image[r + 1, c + 1, 0]
                ny = image[r, c, 1] + image[r, c + 1, 1] + image[r + 1, c, 1] + image[r + 1, c + 1, 1]
                nz = image[r, c, 2] + image[r, c + 1, 2] + image[r + 1, c, 2] + image[r + 1, c + 1, 2]
                light, gloss = _light(nx, ny, nz, lights)
            elif hit:
                for sample in range(4):
                    y, x = r + sample // 2, c + sample % 2
                    if depth[y, x] > NOTHING:
                        one, shine = _light(image[y, x, 0], image[y, x, 1], image[y, x, 2], lights)
                        light += np.float32(0.25) * one
                        gloss += np.float32(0.25) * shine
            for k in range(3):
                colour = skin[k] * light + white * gloss + (np.float32(1) - share) * background[k]
                out[row, column, k] = min(white, colour)


class SoftwareRenderer:
    """Draws frames of one mesh, see `Renderer`."""

    name = "software"

    def __init__(self, faces: np.ndarray, view: View, size: tuple[int, int]):
        self.faces = np.ascontiguousarray(faces, np.int32)
        self.view = view
        self.width, self.height = size
        self.starts = np.empty(BANDS + 1, np.int64)
        self.members = np.empty(BANDS * len(self.faces), np.int32)
        self.depth = np.empty((2 * self.height, 2 * self.width), np.float32)
        self.image = np.empty((2 * self.height, 2 * self.width, 3), np.float32)
        self.out = np.empty((self.height, self.width, 3), np.uint8)

    def draw(self, vertices: np.ndarray) -> np.ndarray:
        """A picture (H, W, 3) uint8 of vertices (V, 3)."""
        seen = np.ascontiguousarray(self.view.to_camera(vertices), np.float32)
        normals = np.empty_like(seen)
        _normals(seen, self.faces, normals)
        points = np.ascontiguousarray(self.view.to_pixels(seen, 2 * self.width, 2 * self.height), np.float32)
        _sort_into_bands(points, self.faces, 2 * self.height, self.starts, self.members)
        _draw(points, normals, self.faces, self.starts, self.members, self.depth, self.image)
        _shade(self.depth, self.image, LIGHTS, SKIN, BACKGROUND, self.out)
        return self.out.copy()

    def close(self) -> None:
        """There is nothing to free."""
