"""A software renderer: z-buffer, interpolated normals, 2×2 supersampling, compiled by numba."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import numpy as np

from ..compute.compilation import njit
from ..compute.devices import available_cores
from ..formats.appearance import Appearance
from .view import (
    AMBIENT,
    AMBIENT_ABOVE,
    BACKFACE_LIGHT,
    CATCH_DIRECTION,
    CATCH_SIZE,
    CATCH_STRENGTH,
    CORNEA,
    CORNEA_REACH,
    GLOSS,
    LIGHTS,
    SOFTNESS,
    View,
    background_rows,
)

RASTER_BANDS = 32  # horizontal strips that threads draw
MAX_RENDER_THREADS = 8  # more would wait for each other
# Pixels that a triangle reaches beyond its edge, so that neighbours leave no gap.
EDGE_OVERLAP_PIXELS = np.float32(1e-3)
EMPTY_DEPTH = np.float32(-1e38)


@njit(cache=True, fastmath=True)
def _normals(vertices, faces, out):
    out[:] = 0
    for f in range(faces.shape[0]):
        a, b, c = faces[f, 0], faces[f, 1], faces[f, 2]
        ux, vx = vertices[b, 0] - vertices[a, 0], vertices[c, 0] - vertices[a, 0]
        uy, vy = vertices[b, 1] - vertices[a, 1], vertices[c, 1] - vertices[a, 1]
        uz, vz = vertices[b, 2] - vertices[a, 2], vertices[c, 2] - vertices[a, 2]
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
    """List the triangles that touch each band: members[starts[b]:starts[b + 1]] for band b.

    Parameters
    ----------
    points : (V, 3)
        Column, row and depth in samples, two rows per image row.
    faces : (F, 3)
    height : int
        Rows of the image.
    starts, members : (RASTER_BANDS + 1,), (RASTER_BANDS · F,)
        Written.
    """
    count = faces.shape[0]
    reach = np.empty((count, 2), np.int8)  # first and last band of each triangle
    sizes = np.zeros(RASTER_BANDS + 1, np.int64)
    for f in range(count):
        a, b, c = points[faces[f, 0], 1], points[faces[f, 1], 1], points[faces[f, 2], 1]
        top, bottom = int(np.ceil(min(a, b, c))), int(np.floor(max(a, b, c)))
        reach[f, 0], reach[f, 1] = 0, -1
        if bottom >= top and bottom >= 0 and top < 2 * height:
            # Band b begins at image row b · height // RASTER_BANDS.
            reach[f, 0] = ((max(top, 0) // 2 + 1) * RASTER_BANDS - 1) // height
            reach[f, 1] = ((min(bottom, 2 * height - 1) // 2 + 1) * RASTER_BANDS - 1) // height
        for band in range(reach[f, 0], reach[f, 1] + 1):
            sizes[band + 1] += 1
    starts[:] = np.cumsum(sizes)
    filled = starts.copy()
    for f in range(count):
        for band in range(reach[f, 0], reach[f, 1] + 1):
            members[filled[band]] = f
            filled[band] += 1


@njit(cache=True, fastmath=True)
def _positive(value, step, root, low, high):
    """Return the interval within low to high in which value + step · x >= 0; root is −1 / step."""
    if step > 0:
        return max(low, value * root - EDGE_OVERLAP_PIXELS), high
    if step < 0:
        return low, min(high, value * root + EDGE_OVERLAP_PIXELS)
    return (low, high) if value >= -EDGE_OVERLAP_PIXELS else (low, low - 1)


@njit(cache=True, fastmath=True)
def _root(step):
    """Return −1 / step, or 0 for a step of 0."""
    return np.float32(-1) / step if step != 0 else np.float32(0)


@njit(cache=True, fastmath=True)
def draw_band(points, values, faces, members, top_row, depth, image):
    """Draw triangles `members` into a band whose first sample row is `top_row`.

    Parameters
    ----------
    points : (C, 3)
        Column, row and depth of the corners; larger depth is nearer.
    values : (C, 5)
        Normal and texture coordinates of the corners.
    depth, image : (R, W), (R, W, 5)
        Written: depth and interpolated values of each sample.
    """
    rows, width = depth.shape
    depth[:] = EMPTY_DEPTH
    for n in range(members.shape[0]):
        f = members[n]
        a, b, c = faces[f, 0], faces[f, 1], faces[f, 2]
        ax, ay = points[a, 0], points[a, 1]
        bx, by = points[b, 0], points[b, 1]
        cx, cy = points[c, 0], points[c, 1]
        area = (bx - ax) * (cy - ay) - (cx - ax) * (by - ay)
        if area == 0:
            continue
        inverse = np.float32(1) / area
        top = max(int(np.ceil(min(ay, by, cy))), top_row)
        bottom = min(int(np.floor(max(ay, by, cy))), top_row + rows - 1)
        left = max(min(ax, bx, cx), np.float32(0))
        right = min(max(ax, bx, cx), np.float32(width - 1))
        # Barycentric coordinates u, v, w are linear in column and row.
        u_step, v_step = (by - cy) * inverse, (cy - ay) * inverse
        w_step = -u_step - v_step
        za, zb, zc = points[a, 2], points[b, 2], points[c, 2]
        u_root, v_root, w_root = _root(u_step), _root(v_step), _root(w_step)
        z_step = u_step * za + v_step * zb + w_step * zc
        for row in range(top, bottom + 1):
            y = np.float32(row)
            u_row = (bx * (cy - y) - cx * (by - y)) * inverse
            v_row = (cx * (ay - y) - ax * (cy - y)) * inverse
            w_row = np.float32(1) - u_row - v_row
            low, high = _positive(u_row, u_step, u_root, left, right)
            low, high = _positive(v_row, v_step, v_root, low, high)
            low, high = _positive(w_row, w_step, w_root, low, high)
            z_row = u_row * za + v_row * zb + w_row * zc
            for column in range(int(np.ceil(low)), int(np.floor(high)) + 1):
                x = np.float32(column)
                z = z_row + z_step * x
                if z > depth[row - top_row, column]:
                    depth[row - top_row, column] = z
                    u, v, w = u_row + u_step * x, v_row + v_step * x, w_row + w_step * x
                    for k in range(5):
                        value = u * values[a, k] + v * values[b, k] + w * values[c, k]
                        image[row - top_row, column, k] = value


@njit(cache=True, fastmath=True)
def _light(nx, ny, nz, lights, softness, result):
    """Write diffuse light (RGB) and gloss of a normal, seen along −z, into result (4,).

    Wrap lighting reaches a little around curves, red the farthest, as light does under skin.
    """
    scale = np.float32(1) / (np.sqrt(nx * nx + ny * ny + nz * nz) + np.float32(1e-9))
    dark = np.float32(1)
    if nz < 0:  # a back face, seen through the mouth and the eyes
        scale, dark = -scale, np.float32(BACKFACE_LIGHT)
    nx, ny, nz = nx * scale, ny * scale, nz * scale
    gloss = np.float32(0)
    ambient = np.float32(AMBIENT) + np.float32(AMBIENT_ABOVE) * ny
    result[0] = result[1] = result[2] = ambient
    for k in range(lights.shape[0]):
        cosine = nx * lights[k, 0] + ny * lights[k, 1] + nz * lights[k, 2]
        for colour in range(3):
            wrapped = (cosine + softness[colour]) / (np.float32(1) + softness[colour])
            if wrapped > 0:
                result[colour] += lights[k, 3] * wrapped
        if cosine > 0:
            mirrored = 2 * cosine * nz - lights[k, 2]
            if mirrored > 0:  # to the power GLOSS_EXPONENT, 18
                square = mirrored * mirrored
                eighth = square * square * square * square
                gloss += np.float32(GLOSS) * lights[k, 3] * eighth * eighth * square
    for colour in range(3):
        result[colour] *= dark
    result[3] = dark * gloss


@njit(cache=True, fastmath=True)
def _catch_light(nx, ny, nz, x, y, catch_x, catch_y):
    """Return the share of white that an eye reflects, see `view.catch_light`.

    x, y is the offset from the middle of the iris, to the right and up, in radians; catch_x and
    catch_y are x and y of the normal of the cornea where it mirrors the light.
    """
    if nz <= 0 or x * x + y * y > np.float32(CORNEA_REACH**2):
        return np.float32(0)
    scale = np.float32(1) / np.sqrt(nx * nx + ny * ny + nz * nz)
    mirror_x = nx * scale + np.float32(CORNEA) * x - catch_x
    mirror_y = ny * scale + np.float32(CORNEA) * y - catch_y
    distance = np.sqrt(mirror_x * mirror_x + mirror_y * mirror_y)
    share = np.float32(1.5) - distance * np.float32(1 / CATCH_SIZE)
    return np.float32(CATCH_STRENGTH) * min(max(share, np.float32(0)), np.float32(1))


@njit(cache=True, fastmath=True)
def _shade(depth, image, texture, eye, lights, softness, background, out):
    """Write the colour of each pixel into out (H, W, 3) uint8, from its 2×2 samples.

    Inside a surface the samples' normals are added up and lit once; at edges each sample is lit.
    `background` (H, 3) is the colour behind each row; `eye` (5,) is
    `Appearance.eye` and CATCH_DIRECTION.
    """
    eye_column, eye_row, per_radian = eye[0], eye[1], eye[2]
    reach = np.float32(CORNEA_REACH) * per_radian
    height, width = out.shape[0], out.shape[1]
    white, quarter = np.float32(255), np.float32(0.25)
    most_row, most_column = texture.shape[0] - 1, texture.shape[1] - 1
    light = np.zeros(4, np.float32)
    albedo, colour = np.zeros(3, np.float32), np.zeros(3, np.float32)
    for row in range(height):
        r = 2 * row
        for column in range(width):
            c = 2 * column
            hit, back = 0, 0
            albedo[:] = 0
            for sample in range(4):
                y, x = r + sample // 2, c + sample % 2
                if depth[y, x] > EMPTY_DEPTH:
                    hit += 1
                    back += image[y, x, 2] < 0
            share = np.float32(hit) * quarter
            colour[:] = 0
            if hit == 4 and (back == 0 or back == 4):
                r1, c1 = r + 1, c + 1
                nx = image[r, c, 0] + image[r, c1, 0] + image[r1, c, 0] + image[r1, c1, 0]
                ny = image[r, c, 1] + image[r, c1, 1] + image[r1, c, 1] + image[r1, c1, 1]
                nz = image[r, c, 2] + image[r, c1, 2] + image[r1, c, 2] + image[r1, c1, 2]
                for sample in range(4):
                    y, x = r + sample // 2, c + sample % 2
                    at_row = min(max(int(image[y, x, 4]), 0), most_row)
                    at_column = min(max(int(image[y, x, 3]), 0), most_column)
                    for k in range(3):
                        albedo[k] += texture[at_row, at_column, k]
                _light(nx, ny, nz, lights, softness, light)
                for k in range(3):
                    colour[k] = quarter * albedo[k] * light[k] + white * light[3]
                x, y = image[r1, c1, 3] - eye_column, image[r1, c1, 4] - eye_row
                if abs(x) < reach and abs(y) < reach:
                    shine = _catch_light(
                        nx, ny, nz, x / per_radian, -y / per_radian, eye[3], eye[4]
                    )
                    for k in range(3):
                        colour[k] += shine * (white - colour[k])
            elif hit:
                for sample in range(4):
                    y, x = r + sample // 2, c + sample % 2
                    if depth[y, x] > EMPTY_DEPTH:
                        _light(
                            image[y, x, 0], image[y, x, 1], image[y, x, 2], lights, softness, light
                        )
                        at_row = min(max(int(image[y, x, 4]), 0), most_row)
                        at_column = min(max(int(image[y, x, 3]), 0), most_column)
                        for k in range(3):
                            colour[k] += quarter * (
                                texture[at_row, at_column, k] * light[k] + white * light[3]
                            )
            for k in range(3):
                out[row, column, k] = min(
                    white, colour[k] + (np.float32(1) - share) * background[row, k]
                )


@njit(cache=True, fastmath=True, nogil=True)
def _draw_bands(
    worker,
    workers,
    points,
    values,
    faces,
    starts,
    members,
    depth,
    image,
    texture,
    eye,
    lights,
    softness,
    background,
    out,
):
    """Draw and shade every `workers`-th band into out (H, W, 3) uint8, starting with band `worker`.

    The samples of a band, depth (R, W) and image (R, W, 5), fit into the processor's cache.
    """
    height = out.shape[0]
    for band in range(worker, RASTER_BANDS, workers):
        first, last = band * height // RASTER_BANDS, (band + 1) * height // RASTER_BANDS
        rows = 2 * (last - first)
        band_members = members[starts[band] : starts[band + 1]]
        draw_band(points, values, faces, band_members, 2 * first, depth[:rows], image[:rows])
        _shade(
            depth[:rows],
            image[:rows],
            texture,
            eye,
            lights,
            softness,
            background[first:last],
            out[first:last],
        )


class SoftwareRenderer:
    """Draws frames of one mesh, see `Renderer`; `size` is (W, H). Threads share the bands."""

    name = "software"

    def __init__(self, appearance: Appearance, view: View, size: tuple[int, int]):
        self.appearance, self.view = appearance, view
        self.faces = np.ascontiguousarray(appearance.faces, np.int32)
        # Triangles of vertices instead of corners, for normals.
        self.surface = np.ascontiguousarray(appearance.vertex[appearance.faces], np.int32)
        self.width, self.height = size
        self.starts = np.empty(RASTER_BANDS + 1, np.int64)
        self.members = np.empty(RASTER_BANDS * len(self.faces), np.int32)
        self.out = np.empty((self.height, self.width, 3), np.uint8)
        self.eye = np.array([*(appearance.eye or (0, 0, 0)), *CATCH_DIRECTION], np.float32)
        self.values = np.empty((len(appearance.vertex), 5), np.float32)
        self.background = background_rows(self.height)
        self.threads = min(available_cores(), MAX_RENDER_THREADS)
        self.pool = ThreadPoolExecutor(self.threads - 1) if self.threads > 1 else None
        rows = 2 * (self.height // RASTER_BANDS + 1)
        self.depths = np.empty((self.threads, rows, 2 * self.width), np.float32)
        self.images = np.empty((self.threads, rows, 2 * self.width, 5), np.float32)

    def draw(self, vertices: np.ndarray) -> np.ndarray:
        """Return an image (H, W, 3) uint8 of vertices (N, 3)."""
        appearance = self.appearance
        seen = np.ascontiguousarray(self.view.to_camera(appearance.points(vertices)), np.float32)
        normals = np.empty_like(seen)
        _normals(seen, self.surface, normals)
        self.values[:, :3] = normals[appearance.vertex]
        self.values[:, 3:] = appearance.places()
        points = self.view.to_pixels(seen, 2 * self.width, 2 * self.height).astype(np.float32)
        points = np.ascontiguousarray(points[appearance.vertex])
        _sort_into_bands(points, self.faces, self.height, self.starts, self.members)
        shared = (points, self.values, self.faces, self.starts, self.members)
        colours = (appearance.texture, self.eye, LIGHTS, SOFTNESS, self.background, self.out)
        work = [
            (k, self.threads, *shared, self.depths[k], self.images[k], *colours)
            for k in range(self.threads)
        ]
        futures = []
        if self.pool:
            futures = [self.pool.submit(_draw_bands, *arguments) for arguments in work[1:]]
        _draw_bands(*work[0])
        for future in futures:
            future.result()
        return self.out.copy()

    def close(self) -> None:
        """End the threads."""
        if self.pool:
            self.pool.shutdown()
