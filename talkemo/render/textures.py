"""Textures: images of an eyeball, teeth and throat, and the textures of a mesh's own file."""

from __future__ import annotations

import io
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from ..files.reading import quiet_libraries
from ..formats.mesh_types import MeshAttributes
from ..formats.texture_atlas import Tile, join_tiles
from .skin import BLUSH_COLOUR, LIP_COLOUR
from .view import SKIN

if TYPE_CHECKING:
    import PIL.Image

SWATCH_PIXELS = 192  # side of the images of an eyeball and of added parts
MAX_TEXTURE_SIDE_PIXELS = 2048
MAX_DRAWN_TEXTURE_PIXELS = 1 << 26  # of the texture that a mesh's file holds
# RGB.
TEETH_COLOUR = np.array([232.0, 225, 210])
TONGUE_COLOUR, GUM_COLOUR = np.array([[176.0, 92, 88], [168, 96, 92]])
MOUTH_PARTS_COLOUR = np.array([206.0, 176, 164])  # of what may be teeth, gums or tongue
EYELID_COLOUR = np.array([196.0, 142, 128])  # of their edges, and of the corners of the eyes
PART_BANDS = {  # colours of added parts at the lips, and of nostrils at their rim
    "teeth": TEETH_COLOUR,
    "gums": GUM_COLOUR,
    "tongue": TONGUE_COLOUR,
    "mouth": 0.75 * LIP_COLOUR,
    "eyelids": EYELID_COLOUR,
    "inside": MOUTH_PARTS_COLOUR,
    "nostrils": 0.88 * SKIN + 0.12 * BLUSH_COLOUR,
}
BAND_COLUMNS = [k * SWATCH_PIXELS // len(PART_BANDS) for k in range(len(PART_BANDS))]
# Canonical mm behind the lips: up to where parts are fully lit, over which light falls to 1/e, and
# of the darkest row.
LIT_DEPTH_MM, DARKENING_MM, MAX_DEPTH_MM = 9.0, 24.0, 130.0
MAX_POINT_DEPTH_MM = 80.0  # a closed mouth is darkened by the rest
CLOSED_MOUTH_ROWS = (MAX_DEPTH_MM - MAX_POINT_DEPTH_MM) / MAX_DEPTH_MM * SWATCH_PIXELS
SCLERA_COLOUR, IRIS_COLOUR = np.array([[238.0, 234, 230], [92, 108, 112]])
LIMBUS_COLOUR, PUPIL_COLOUR = np.array([[44.0, 52, 58], [14, 12, 12]])
EYE_IMAGE_REACH = 0.98  # share of the image's half side at which the back of the ball lies
EYE_PIXELS_PER_RADIAN = EYE_IMAGE_REACH * SWATCH_PIXELS / 2 / np.pi
# Canonical mm.
EYEBALL_RADIUS_MM, IRIS_RADIUS_MM, PUPIL_RADIUS_MM = 14.6, 6.4, 2.7


def eye_image() -> np.ndarray:
    """Return an eyeball (S, S, 3) uint8, unrolled: ahead in the middle, behind at the rim.

    The renderers add the reflection of the key light, see `view.catch_light`.
    """
    steps = (np.arange(SWATCH_PIXELS) + 0.5) / SWATCH_PIXELS * 2 - 1
    x, y = np.meshgrid(steps, steps)
    distance_mm = EYEBALL_RADIUS_MM * (np.hypot(x, y) / EYE_IMAGE_REACH * np.pi)
    image = np.tile(SCLERA_COLOUR, (SWATCH_PIXELS, SWATCH_PIXELS, 1))
    image *= (1 - 0.35 * np.clip((distance_mm - 8) / 12, 0, 1))[..., None]  # shadow of the lids
    for radius, edge, colour in (
        (IRIS_RADIUS_MM, 0.7, LIMBUS_COLOUR),
        (IRIS_RADIUS_MM - 0.8, 0.9, IRIS_COLOUR),
        (PUPIL_RADIUS_MM, 0.5, PUPIL_COLOUR),
    ):
        opacity = np.clip((radius - distance_mm) / edge + 0.5, 0, 1)[..., None]
        image += opacity * (colour - image)
    return image.clip(0, 255).astype(np.uint8)


def eye_texels(directions: np.ndarray) -> np.ndarray:
    """Return column and row (P, 2) in `eye_image` for directions (P, 3) from an eye's centre."""
    unit = directions / np.maximum(np.linalg.norm(directions, axis=1, keepdims=True), 1e-9)
    angle = np.arccos(np.clip(unit[:, 2], -1, 1)) / np.pi  # 0 ahead, 1 behind
    flat = unit[:, :2] / np.maximum(np.linalg.norm(unit[:, :2], axis=1, keepdims=True), 1e-9)
    return (SWATCH_PIXELS / 2) * (1 + EYE_IMAGE_REACH * angle[:, None] * flat * [1, -1])


def parts_image() -> np.ndarray:
    """Return the colours of added parts (S, S, 3) uint8: a band for each, darker downwards.

    Little light reaches the back of a mouth.
    """
    depth_mm = (np.arange(SWATCH_PIXELS) + 0.5) / SWATCH_PIXELS * MAX_DEPTH_MM
    light = np.exp(-np.maximum(depth_mm - LIT_DEPTH_MM, 0) / DARKENING_MM)[:, None, None]
    image = np.zeros((SWATCH_PIXELS, SWATCH_PIXELS, 3))
    for first, colour in zip(BAND_COLUMNS, PART_BANDS.values()):
        image[:, first : first + SWATCH_PIXELS // len(PART_BANDS)] = light * colour
    return image.round().astype(np.uint8)


def part_texels(name: str, depth_mm: np.ndarray) -> np.ndarray:
    """Return column and row (P, 2) in `parts_image` for points of a part, at depths (P,)."""
    band = list(PART_BANDS).index(name)
    column = np.full(len(depth_mm), BAND_COLUMNS[band] + SWATCH_PIXELS / len(PART_BANDS) / 2)
    row = np.clip(depth_mm, 0, MAX_POINT_DEPTH_MM) / MAX_DEPTH_MM * (SWATCH_PIXELS - 2) + 0.5
    return np.column_stack([column, row])


def shaded_texels(name: str, light: np.ndarray) -> np.ndarray:
    """Return column and row (P, 2) in `parts_image` for points of a part that get a share of light.

    `light` (P,) is 1 for full light.
    """
    return part_texels(name, LIT_DEPTH_MM - DARKENING_MM * np.log(np.clip(light, 1e-3, 1)))


def png_of(image: np.ndarray) -> bytes:
    """Return an image (H, W, 3 or 4) uint8 as a PNG."""
    from PIL import Image

    file = io.BytesIO()
    Image.fromarray(image).save(file, "PNG", optimize=True)
    return file.getvalue()


def mesh_texture(
    attributes: MeshAttributes, ranks: np.ndarray
) -> tuple[np.ndarray, np.ndarray] | None:
    """Return the texture that a mesh's file holds, in a size for drawing.

    Where it is too large, the triangles of low rank keep their resolution.

    Parameters
    ----------
    attributes : MeshAttributes
    ranks : (F,) int
        Of the triangles.

    Returns
    -------
    texture : (H, W, 3 or 4) uint8
        With opacity if it is not opaque.
    texels : (F, 3, 2)
        Column and row of each triangle's corners.
    None if the texture cannot be used.
    """
    if attributes.uv is None or attributes.uv_faces is None:
        return None
    image = _texture_image(attributes)
    if image is None:
        return None
    uv = attributes.uv[attributes.uv_faces].astype(np.float64) * [1, -1] + [0, 1]
    uv -= np.floor(uv.mean(1, keepdims=True))  # tiled textures repeat
    sizes = [placement.scale for placement in attributes.tiles]
    if not sizes and max(image.size) > MAX_TEXTURE_SIDE_PIXELS:
        return _rearranged([Tile(image)], np.zeros(len(uv), int), uv, ranks)
    if min(sizes, default=1.0) < 1:
        middles = uv.mean(1)
        number = np.stack([place.covers(middles) for place in attributes.tiles]).argmax(0)
        for k, place in enumerate(attributes.tiles):
            uv[number == k] = place.tile_coordinates(uv[number == k])
        return _rearranged([place.tile for place in attributes.tiles], number, uv, ranks)
    return np.asarray(image), np.clip(uv * image.size, 0, np.array(image.size) - 1)


def _texture_image(attributes: MeshAttributes) -> PIL.Image.Image | None:
    """Return the decoded texture of a mesh's file, RGB or RGBA; None if it cannot be used."""
    from PIL import Image, UnidentifiedImageError

    if attributes.texture is None:
        return None
    try:
        with (
            quiet_libraries(),
            Image.open(io.BytesIO(attributes.texture), formats=["JPEG", "PNG"]) as image,
        ):
            if image.width * image.height > MAX_DRAWN_TEXTURE_PIXELS:
                return None
            return image.convert("RGBA" if attributes.has_opacity else "RGB")
    except (OSError, ValueError, SyntaxError, UnidentifiedImageError, Image.DecompressionBombError):
        return None


def _rearranged(
    tiles: list[Tile], number: np.ndarray, uv: np.ndarray, ranks: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Return what `mesh_texture` does, of tiles, each triangle's tile (F,) and its uv (F, 3, 2)."""
    parts = {}
    for key in np.unique(np.column_stack([number, ranks]), axis=0):
        rows = (number == key[0]) & (ranks == key[1])
        none = np.full(2, np.inf)
        tile = replace(tiles[key[0]], rank=int(key[1]), low=none, high=-none)
        tile.cover(uv[rows].reshape(-1, 2))
        parts[tuple(key.tolist())] = tile, rows
    texture, placements = join_tiles({key: tile for key, (tile, _) in parts.items()})
    texels = np.empty_like(uv)
    for key, (_, rows) in parts.items():
        texels[rows] = placements[key].coordinates(uv[rows]) * texture.shape[1::-1]
    return texture, texels
