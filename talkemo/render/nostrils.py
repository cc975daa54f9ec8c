"""How dark the nostrils of a mesh are: neither renderer casts shadows, so they would be lit."""

from __future__ import annotations

import numpy as np
import scipy

from ..formats.texture_atlas import patch_coordinates, vertex_colour_texture
from ..geometry.meshes import mesh_edges, vertex_normals
from ..geometry.numerics import smoothstep
from .depth import foremost_depth
from .raster import EMPTY_DEPTH

# Degrees to the side and upwards, from where the nose is looked at.
YAWS, PITCHES = (-60, -30, 0, 30, 60), (-50, -30, -10, 10, 30, 50)
IMAGE_SIDE = 120  # samples
AROUND_NOSE_MM = 30.0  # what may hide a nostril
BEHIND_MM = 1.0  # so far behind the foremost surface a vertex is hidden
DARK_SHARE, LIT_SHARE = 0.45, 0.85  # shares of directions from which a vertex is seen
# Box of the nostrils around the landmarks of the nose.
BESIDE_MM, BELOW_MM, BEHIND_NOSE_MM = 2.0, 5.0, 30.0
LEAST_LIGHT = 0.04  # in a nostril of a texture
FULL_LIGHT = 0.85  # light among a vertex and its neighbours that counts as all
DARKENED_LIGHT = 0.9  # texels with less light count as darkened
MAX_SHARED = 0.002  # share of other triangles whose texels may darken
SMOOTHING_MM, SMOOTHING_ROUNDS = 1.5, 3  # length of the edges that light is smoothed along
FACING = 0.1  # least cosine between a vertex's normal and the direction it is looked at from


def nostril_light(points: np.ndarray, faces: np.ndarray, landmarks: np.ndarray) -> np.ndarray:
    """Return the share of light (N,), from 0 to 1, that reaches each vertex; 1 beside the nostrils.

    Parameters
    ----------
    points : (N, 3)
        The mesh at rest in canonical mm.
    faces : (F, 3)
    landmarks : (68, 3)
        iBUG landmarks.
    """
    light = np.ones(len(points))
    wings, base = landmarks[[31, 35]], landmarks[33]
    low = np.array([wings[:, 0].min() - BESIDE_MM, base[1] - BELOW_MM, base[2] - BEHIND_NOSE_MM])
    high = np.array([wings[:, 0].max() + BESIDE_MM, landmarks[30, 1], landmarks[30, 2]])
    around = faces[_within(points, low - AROUND_NOSE_MM, high + AROUND_NOSE_MM)[faces].all(1)]
    inside = np.intersect1d(np.flatnonzero(_within(points, low, high)), around)
    if not len(inside):
        return light
    rows, local = np.unique(around, return_inverse=True)
    triangles = local.reshape(-1, 3)
    share = _seen_share(points[rows], triangles)
    share = smoothstep((share - DARK_SHARE) / (LIT_SHARE - DARK_SHARE))
    share = _smoothed(share, points[rows], triangles)
    light[inside] = np.minimum(share[np.searchsorted(rows, inside)] / FULL_LIGHT, 1)
    return light


def _smoothed(light: np.ndarray, points: np.ndarray, faces: np.ndarray) -> np.ndarray:
    """Return the light of vertices (N,) averaged with that of close neighbours, without streaks."""
    edges, _ = mesh_edges(faces)
    length = np.linalg.norm(points[edges[:, 0]] - points[edges[:, 1]], axis=1)
    graph = scipy.sparse.csr_matrix(
        (np.exp(-((length / SMOOTHING_MM) ** 2)), edges.T), (len(light),) * 2
    )
    graph = graph + graph.T
    weight = 1 + np.asarray(graph.sum(1))[:, 0]
    for _ in range(SMOOTHING_ROUNDS):
        light = (light + graph @ light) / weight
    return light


def darkened_texture(
    texture: np.ndarray, texels: np.ndarray, light: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Return the texture of a mesh with dark nostrils, and its texels.

    Where other triangles show the same texels, as those of a palette, the nostrils get texels of
    their own below the others.

    Parameters
    ----------
    texture : (H, W, C) uint8
        RGB, or RGB and opacity.
    texels : (F, 3, 2)
        Column and row of each triangle's corners.
    light : (F, 3)
        Share of light at the corners, see `nostril_light`.
    """
    dark = np.asarray((light < 1).any(1))
    if not dark.any():
        return texture, texels
    light = np.maximum(light, LEAST_LIGHT)
    map_of_light = np.ones(texture.shape[:2], np.float32)
    for corners, values in zip(texels[dark], light[dark]):
        _draw_light(map_of_light, corners, values)
    if (_at(map_of_light, texels[~dark].mean(1)) < DARKENED_LIGHT).mean() > MAX_SHARED:
        return _with_patches(texture, texels, light, dark)
    result = texture.copy()
    result[..., :3] = np.round(texture[..., :3] * map_of_light[..., None])
    return result, texels


def _at(image: np.ndarray, texels: np.ndarray) -> np.ndarray:
    """Return the values of an image (H, W, ...) at texels (..., 2)."""
    limits = np.array(image.shape[1::-1]) - 1
    column, row = np.moveaxis(texels.astype(int).clip(0, limits), -1, 0)
    return np.asarray(image[row, column])


def _with_patches(
    texture: np.ndarray, texels: np.ndarray, light: np.ndarray, dark: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Return what `darkened_texture` does, with a patch for each dark triangle (F,) bool."""
    colours = _at(texture, texels[dark]).astype(np.float32)
    colours[..., :3] *= light[dark][..., None]
    patches = vertex_colour_texture(colours)
    height, width = texture.shape[:2]
    size = (height + len(patches), max(width, patches.shape[1]), texture.shape[2])
    result = np.full(size, 255, np.uint8)
    result[:height, :width] = texture
    result[height:, : patches.shape[1]] = patches
    moved = texels.copy()
    moved[dark] = patch_coordinates(len(colours)) + np.array([0, height])
    return result, moved


def _draw_light(map_of_light: np.ndarray, corners: np.ndarray, values: np.ndarray) -> None:
    """Lower a map of light (H, W) to values (3,) interpolated in a triangle of texels (3, 2)."""
    height, width = map_of_light.shape
    low = np.maximum(np.floor(corners.min(0)).astype(int), 0)
    high = np.minimum(np.ceil(corners.max(0)).astype(int) + 1, [width, height])
    edges = np.column_stack([corners[1] - corners[0], corners[2] - corners[0]])
    if (high <= low).any():
        return
    if abs(np.linalg.det(edges)) < 1e-6:  # the triangle has one colour
        map_of_light[low[1], low[0]] = min(map_of_light[low[1], low[0]], values.min())
        return
    column, row = np.meshgrid(np.arange(low[0], high[0]), np.arange(low[1], high[1]))
    offset = np.stack([column, row], -1) + 0.5 - corners[0]
    share = offset @ np.linalg.inv(edges).T
    weights = np.concatenate([1 - share.sum(-1, keepdims=True), share], -1)
    # Texels beside the triangle are read, too, where it is interpolated.
    reach = np.linalg.norm(np.linalg.inv(edges), axis=1).max()
    inside = weights.min(-1) > -reach
    part = map_of_light[low[1] : high[1], low[0] : high[0]]
    drawn = weights.clip(0, 1) @ values / weights.clip(0, 1).sum(-1)
    part[inside] = np.minimum(part, drawn)[inside]


def _within(points: np.ndarray, low: np.ndarray, high: np.ndarray) -> np.ndarray:
    """Return which points (N,) lie in a box."""
    return np.asarray(((points > low) & (points < high)).all(1))


def _seen_share(points: np.ndarray, faces: np.ndarray) -> np.ndarray:
    """Return of the directions that each vertex (N,) faces the share from which it is seen."""
    normals = vertex_normals(points, faces)
    centred = points - (points.min(0) + points.max(0)) / 2
    scale = 0.48 * IMAGE_SIDE / np.linalg.norm(centred, axis=1).max()
    seen, faced = np.zeros(len(points)), np.zeros(len(points))
    for yaw in YAWS:
        for pitch in PITCHES:
            turn = scipy.spatial.transform.Rotation.from_euler(
                "xy", [pitch, -yaw], degrees=True
            ).as_matrix()
            turned = centred @ turn.T
            screen = turned * [scale, -scale, 1] + [IMAGE_SIDE / 2, IMAGE_SIDE / 2, 0]
            column, row = screen[:, :2].round().astype(int).T
            foremost = foremost_depth(screen, faces, IMAGE_SIDE)[row, column]
            visible = (turned[:, 2] > foremost - BEHIND_MM) | (foremost <= EMPTY_DEPTH)
            facing = (normals @ turn.T)[:, 2] > FACING
            seen += visible & facing
            faced += facing
    return np.where(faced > 0, seen / np.maximum(faced, 1), 0)
