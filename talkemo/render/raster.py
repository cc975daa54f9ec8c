"""The software renderer's compiled part: triangles to samples, samples to colours."""

from __future__ import annotations

import numpy as np

from ..compute.compilation import njit
from .transparency import FAINT_OPACITY, SOLID_OPACITY
from .view import (
    AMBIENT,
    AMBIENT_ABOVE,
    BACKFACE_LIGHT,
    CATCH_SIZE,
    CATCH_STRENGTH,
    CORNEA,
    CORNEA_REACH,
    GLOSS,
)

RASTER_BANDS = 32  # horizontal strips that threads draw
# Pixels that a triangle reaches beyond its edge, so that neighbours leave no gap.
EDGE_OVERLAP_PIXELS = np.float32(1e-3)
EMPTY_DEPTH = np.float32(-1e38)
ALIKE_NORMALS = 0.9  # least length of the mean of a pixel's normals on one surface


@njit(cache=True, fastmath=True)
def vertex_normals_of(vertices, faces, out):
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
def sort_into_bands(points, faces, height, starts, members):
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


@njit(cache=True, fastmath=True, inline="always")
def _steps(points, a, b, c):
    """Return how the barycentric coordinates u, v, w of a triangle change from column to column.

    First 1 / (twice its area), 0 for none; then the steps of u, v and w, and their roots.
    """
    ax, ay = points[a, 0], points[a, 1]
    bx, by = points[b, 0], points[b, 1]
    cx, cy = points[c, 0], points[c, 1]
    area = (bx - ax) * (cy - ay) - (cx - ax) * (by - ay)
    inverse = np.float32(1) / area if area != 0 else np.float32(0)
    u_step, v_step = (by - cy) * inverse, (cy - ay) * inverse
    w_step = -u_step - v_step
    return inverse, u_step, v_step, w_step, _root(u_step), _root(v_step), _root(w_step)


@njit(cache=True, fastmath=True, inline="always")
def _rows(points, a, b, c, top_row, rows):
    """Return first and last row of a triangle, of `rows` from `top_row` on."""
    ay, by, cy = points[a, 1], points[b, 1], points[c, 1]
    top = max(int(np.ceil(min(ay, by, cy))), top_row)
    return top, min(int(np.floor(max(ay, by, cy))), top_row + rows - 1)


@njit(cache=True, fastmath=True, inline="always")
def _span(points, a, b, c, steps, row, width):
    """Return u and v at column 0 of a row, and the first and last column inside a triangle."""
    inverse, u_step, v_step, w_step, u_root, v_root, w_root = steps
    ax, ay = points[a, 0], points[a, 1]
    bx, by = points[b, 0], points[b, 1]
    cx, cy = points[c, 0], points[c, 1]
    y = np.float32(row)
    u_row = (bx * (cy - y) - cx * (by - y)) * inverse
    v_row = (cx * (ay - y) - ax * (cy - y)) * inverse
    low = max(min(ax, bx, cx), np.float32(0))
    high = min(max(ax, bx, cx), np.float32(width - 1))
    low, high = _positive(u_row, u_step, u_root, low, high)
    low, high = _positive(v_row, v_step, v_root, low, high)
    low, high = _positive(np.float32(1) - u_row - v_row, w_step, w_root, low, high)
    return u_row, v_row, int(np.ceil(low)), int(np.floor(high))


@njit(cache=True, fastmath=True)
def _texel(image, column, row):
    """Return row and column of the texel of an image (H, W, …) at a place beyond its edges, too."""
    return min(max(int(row), 0), image.shape[0] - 1), min(max(int(column), 0), image.shape[1] - 1)


@njit(cache=True, fastmath=True)
def draw_band(points, values, faces, members, top_row, cut, depth, image):
    """Draw triangles `members` into a band whose first sample row is `top_row`.

    Parameters
    ----------
    points : (C, 3)
        Column, row and depth of the corners; larger depth is nearer.
    values : (C, 5)
        Normal and texture coordinates of the corners.
    cut : ((H, W) uint8, int)
        Opacity of the texture, and the number of the triangle from which on only what is opaque is
        drawn. These triangles are lit alike from both sides.
    depth, image : (R, W), (R, W, 5)
        Written: depth and interpolated values of each sample.
    """
    rows, width = depth.shape
    opacity, solid = cut
    depth[:] = EMPTY_DEPTH
    for n in range(members.shape[0]):
        f = members[n]
        a, b, c = faces[f, 0], faces[f, 1], faces[f, 2]
        steps = _steps(points, a, b, c)
        if steps[0] == 0:
            continue
        u_step, v_step, w_step = steps[1], steps[2], steps[3]
        top, bottom = _rows(points, a, b, c, top_row, rows)
        za, zb, zc = points[a, 2], points[b, 2], points[c, 2]
        z_step = u_step * za + v_step * zb + w_step * zc
        for row in range(top, bottom + 1):
            u_row, v_row, first, last = _span(points, a, b, c, steps, row, width)
            w_row = np.float32(1) - u_row - v_row
            z_row = u_row * za + v_row * zb + w_row * zc
            for column in range(first, last + 1):
                x = np.float32(column)
                z = z_row + z_step * x
                if z <= depth[row - top_row, column]:
                    continue
                u, v, w = u_row + u_step * x, v_row + v_step * x, w_row + w_step * x
                side = np.float32(1)
                if f >= solid:
                    texel_row, texel_column = _texel(
                        opacity,
                        u * values[a, 3] + v * values[b, 3] + w * values[c, 3],
                        u * values[a, 4] + v * values[b, 4] + w * values[c, 4],
                    )
                    if opacity[texel_row, texel_column] < SOLID_OPACITY:
                        continue
                    if u * values[a, 2] + v * values[b, 2] + w * values[c, 2] < 0:
                        side = np.float32(-1)
                depth[row - top_row, column] = z
                for k in range(3):
                    value = u * values[a, k] + v * values[b, k] + w * values[c, k]
                    image[row - top_row, column, k] = side * value
                for k in range(3, 5):
                    value = u * values[a, k] + v * values[b, k] + w * values[c, k]
                    image[row - top_row, column, k] = value


@njit(cache=True, fastmath=True, inline="always")
def _light(nx, ny, nz, lighting):
    """Return diffuse light (red, green, blue) and gloss of a normal, seen along −z.

    The rows of `lighting` (L + 2, 4) are LIGHTS, then SOFTNESS and 1 / (1 + SOFTNESS). Wrap
    lighting reaches a little around curves, red the farthest, as light does under skin.
    """
    none = np.float32(0)
    scale = np.float32(1) / (np.sqrt(nx * nx + ny * ny + nz * nz) + np.float32(1e-9))
    dark = np.float32(1)
    if nz < 0:  # a back face, seen through the mouth and the eyes
        scale, dark = -scale, np.float32(BACKFACE_LIGHT)
    nx, ny, nz = nx * scale, ny * scale, nz * scale
    count = lighting.shape[0] - 2
    gloss = none
    red = green = blue = np.float32(AMBIENT) + np.float32(AMBIENT_ABOVE) * ny
    for k in range(count):
        strength = lighting[k, 3]
        cosine = nx * lighting[k, 0] + ny * lighting[k, 1] + nz * lighting[k, 2]
        red += strength * max((cosine + lighting[count, 0]) * lighting[count + 1, 0], none)
        green += strength * max((cosine + lighting[count, 1]) * lighting[count + 1, 1], none)
        blue += strength * max((cosine + lighting[count, 2]) * lighting[count + 1, 2], none)
        mirrored = np.float32(2) * cosine * nz - lighting[k, 2]
        if cosine > 0 and mirrored > 0:  # to the power GLOSS_EXPONENT, 18
            square = mirrored * mirrored
            eighth = square * square * square * square
            gloss += np.float32(GLOSS) * strength * eighth * eighth * square
    return dark * red, dark * green, dark * blue, dark * gloss


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
def _draw_veils(corners, members, top_row, depth, skin, lighting, veil):
    """Lay triangles `members`, which come from back to front, over the samples of a band.

    Only what is neither opaque nor entirely transparent of them is laid over. `corners` are their
    points, values and faces. `veil` (R, W, 4) is written: for each sample the light of these
    triangles (RGB), and their opacity from 0 to 1.
    """
    points, values, faces = corners
    texture, opacity, _ = skin
    rows, width = depth.shape
    veil[:] = 0
    for n in range(members.shape[0]):
        f = members[n]
        a, b, c = faces[f, 0], faces[f, 1], faces[f, 2]
        steps = _steps(points, a, b, c)
        if steps[0] == 0:
            continue
        u_step, v_step = steps[1], steps[2]
        top, bottom = _rows(points, a, b, c, top_row, rows)
        for row in range(top, bottom + 1):
            u_row, v_row, first, last = _span(points, a, b, c, steps, row, width)
            for column in range(first, last + 1):
                x = np.float32(column)
                u, v = u_row + u_step * x, v_row + v_step * x
                w = np.float32(1) - u - v
                y = row - top_row
                if u * points[a, 2] + v * points[b, 2] + w * points[c, 2] <= depth[y, column]:
                    continue
                texel_row, texel_column = _texel(
                    opacity,
                    u * values[a, 3] + v * values[b, 3] + w * values[c, 3],
                    u * values[a, 4] + v * values[b, 4] + w * values[c, 4],
                )
                alpha = opacity[texel_row, texel_column]
                if alpha < FAINT_OPACITY or alpha >= SOLID_OPACITY:
                    continue
                nx = u * values[a, 0] + v * values[b, 0] + w * values[c, 0]
                ny = u * values[a, 1] + v * values[b, 1] + w * values[c, 1]
                nz = u * values[a, 2] + v * values[b, 2] + w * values[c, 2]
                side = np.float32(-1) if nz < 0 else np.float32(1)
                light = _light(side * nx, side * ny, side * nz, lighting)
                share = np.float32(alpha) * np.float32(1 / 255)
                for k in range(3):
                    colour = texture[texel_row, texel_column, k] * light[k]
                    colour += np.float32(255) * light[3]
                    veil[y, column, k] += share * (colour - veil[y, column, k])
                veil[y, column, 3] += share * (np.float32(1) - veil[y, column, 3])


@njit(cache=True, fastmath=True, inline="always")
def _count_samples(depth, image, row, column):
    """Return how many of a pixel's 2×2 samples show a surface or its back, and their normals' sum."""
    hit, back = 0, 0
    nx, ny, nz = np.float32(0), np.float32(0), np.float32(0)
    for sample in range(4):
        y, x = 2 * row + sample // 2, 2 * column + sample % 2
        if depth[y, x] > EMPTY_DEPTH:
            hit += 1
            back += image[y, x, 2] < 0
            nx += image[y, x, 0]
            ny += image[y, x, 1]
            nz += image[y, x, 2]
    return hit, back, (nx, ny, nz)


@njit(cache=True, fastmath=True, inline="always")
def _is_inside(hit, back, normal):
    """Return whether a pixel's samples lie on one surface."""
    nx, ny, nz = normal
    alike = nx * nx + ny * ny + nz * nz > np.float32(16 * ALIKE_NORMALS**2)
    return hit == 4 and alike and (back == 0 or back == 4)


@njit(cache=True, fastmath=True, inline="always")
def _shade_inside(image, row, column, normal, texture, eye, lighting, colour):
    """Write the colour of a pixel inside a surface: its samples are added up and lit once."""
    quarter, white = np.float32(0.25), np.float32(255)
    nx, ny, nz = normal
    colour[:] = 0
    for sample in range(4):
        y, x = 2 * row + sample // 2, 2 * column + sample % 2
        texel_row, texel_column = _texel(texture, image[y, x, 3], image[y, x, 4])
        for k in range(3):
            colour[k] += texture[texel_row, texel_column, k]
    light = _light(nx, ny, nz, lighting)
    for k in range(3):
        colour[k] = quarter * colour[k] * light[k] + white * light[3]
    per_radian = eye[2]
    reach = np.float32(CORNEA_REACH) * per_radian
    right = image[2 * row + 1, 2 * column + 1, 3] - eye[0]
    down = image[2 * row + 1, 2 * column + 1, 4] - eye[1]
    if abs(right) < reach and abs(down) < reach:
        shine = _catch_light(nx, ny, nz, right / per_radian, -down / per_radian, eye[3], eye[4])
        for k in range(3):
            colour[k] += shine * (white - colour[k])


@njit(cache=True, fastmath=True, inline="always")
def _shade_edge(depth, image, row, column, texture, lighting, colour):
    """Write the colour of a pixel at an edge: each sample is lit."""
    quarter, white = np.float32(0.25), np.float32(255)
    colour[:] = 0
    for sample in range(4):
        y, x = 2 * row + sample // 2, 2 * column + sample % 2
        if depth[y, x] > EMPTY_DEPTH:
            light = _light(image[y, x, 0], image[y, x, 1], image[y, x, 2], lighting)
            texel_row, texel_column = _texel(texture, image[y, x, 3], image[y, x, 4])
            for k in range(3):
                albedo = texture[texel_row, texel_column, k]
                colour[k] += quarter * (albedo * light[k] + white * light[3])


@njit(cache=True, fastmath=True, inline="always")
def _lay_over(veil, row, column, colour):
    """Lay the veils (R, W, 4) of a pixel's samples over its colour."""
    opacity = np.float32(0)
    for sample in range(4):
        y, x = 2 * row + sample // 2, 2 * column + sample % 2
        opacity += np.float32(0.25) * veil[y, x, 3]
    if opacity > 0:
        for k in range(3):
            colour[k] *= np.float32(1) - opacity
            for sample in range(4):
                y, x = 2 * row + sample // 2, 2 * column + sample % 2
                colour[k] += np.float32(0.25) * veil[y, x, k]


@njit(cache=True, fastmath=True)
def _shade(depth, image, veil, texture, eye, lighting, background, out):
    """Write the colour of each pixel into out (H, W, 3) uint8, from its 2×2 samples.

    `background` (H, 3) is the colour behind each row; `veil` is what `_draw_veils` wrote, or empty.
    """
    colour = np.zeros(3, np.float32)
    for row in range(out.shape[0]):
        for column in range(out.shape[1]):
            hit, back, normal = _count_samples(depth, image, row, column)
            if _is_inside(hit, back, normal):
                _shade_inside(image, row, column, normal, texture, eye, lighting, colour)
            elif hit:
                _shade_edge(depth, image, row, column, texture, lighting, colour)
            else:
                colour[:] = 0
            behind = np.float32(1) - np.float32(hit) * np.float32(0.25)
            for k in range(3):
                colour[k] += behind * background[row, k]
            if veil.shape[0]:
                _lay_over(veil, row, column, colour)
            for k in range(3):
                out[row, column, k] = min(np.float32(255), colour[k])


@njit(cache=True, fastmath=True, nogil=True)
def draw_bands(worker, workers, screen, samples, skin, scene, out):
    """Draw and shade every `workers`-th band into out (H, W, 3) uint8, starting with band `worker`.

    Parameters
    ----------
    screen : tuple
        `points` and `values` of `draw_band`; all triangles that are drawn, the number of opaque
        ones, and `starts` and `members` of `sort_into_bands`; the same three of the veils.
    samples : tuple
        Depth (R, W), values (R, W, 5) and veils (R, W, 4) of a band's samples, which fit into the
        processor's cache.
    skin : tuple
        Texture, its opacity, and an array (5,) of `Appearance.eye` and CATCH_DIRECTION.
    scene : tuple
        `lighting` of `_light`, and the colour (H, 3) behind each row.
    """
    points, values, faces, solid, starts, members, veils, veil_starts, veil_members = screen
    depth, image, veil = samples
    lighting, background = scene
    texture, opacity, eye = skin
    cut = (opacity, solid)
    height = out.shape[0]
    for band in range(worker, RASTER_BANDS, workers):
        first, last = band * height // RASTER_BANDS, (band + 1) * height // RASTER_BANDS
        rows, top = 2 * (last - first), 2 * first
        inside = members[starts[band] : starts[band + 1]]
        behind, picture = background[first:last], out[first:last]
        band_depth, band_image, band_veil = depth[:rows], image[:rows], veil[:0]
        draw_band(points, values, faces, inside, top, cut, band_depth, band_image)
        seen_through = veil_members[veil_starts[band] : veil_starts[band + 1]]
        if len(seen_through):
            band_veil = veil[:rows]
            corners = (points, values, veils)
            _draw_veils(corners, seen_through, top, band_depth, skin, lighting, band_veil)
        _shade(band_depth, band_image, band_veil, texture, eye, lighting, behind, picture)
