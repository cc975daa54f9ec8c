"""One texture made of several: parts of images, tinted and side by side."""

from __future__ import annotations

import io
import math
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    import PIL.Image

MAX_TEXTURE_PIXELS = 1 << 26  # of a texture, 8192 x 8192
REPEAT, CLAMP, MIRROR = 10497, 33071, 33648  # how a texture continues, in glTF's and OpenGL's codes
ATLAS_PIXELS = 2048  # side of the joined texture
MARGIN_PIXELS = 2  # around a tile, so that its neighbour does not shine through
PACKED_PIXELS = ATLAS_PIXELS + 16 * MARGIN_PIXELS  # with the margins of tiles side by side
MAX_TEXTURE_COORDINATE = 1e6  # larger ones of a mesh are limited to this
MAX_REPEATS = 2.0  # of an image in a tile; beyond it each triangle is moved into the image
SCALE_STEP = 0.9  # by which tiles shrink until they fit
MIN_RANKED_SCALE = 0.2  # of tiles of a high rank, before others are shrunk
MAX_PALETTE = 4096  # colours of a tile
SWATCH_PIXELS = 4  # side of one colour in a palette
MAX_PATCH_PIXELS = 4  # side of a triangle's patch in a texture made of vertex colours
TINT_PIXELS = 256  # longer side of an image of vertex colours


def to_srgb(linear: np.ndarray) -> np.ndarray:
    """Return linear colours in [0, 1] as sRGB, uint8 (IEC 61966-2-1)."""
    low, high = 12.92 * linear, 1.055 * np.maximum(linear, 0.0031308) ** (1 / 2.4) - 0.055
    return np.round(255 * np.where(linear <= 0.0031308, low, high).clip(0, 1)).astype(np.uint8)


def to_linear(srgb: np.ndarray) -> np.ndarray:
    """Return sRGB colours, uint8, as linear ones in [0, 1]."""
    values = np.asarray(srgb) / 255
    return np.where(values <= 0.04045, values / 12.92, ((values + 0.055) / 1.055) ** 2.4)


def as_png(image: PIL.Image.Image | np.ndarray) -> bytes:
    """Return an image as the content of a PNG file; only an array (H, W, 4) keeps its alpha."""
    import PIL.Image

    is_array = isinstance(image, np.ndarray)
    pixels = PIL.Image.fromarray(image) if isinstance(image, np.ndarray) else image
    check_pixels(pixels.size)
    if not is_array or pixels.mode != "RGBA":
        pixels = pixels.convert("RGB")
    with io.BytesIO() as buffer:
        pixels.save(buffer, "PNG", compress_level=3)
        return buffer.getvalue()


def check_pixels(size: tuple[int, int]) -> None:
    """Raise ValueError for an image of so many pixels that it takes too much memory."""
    if math.prod(size) > MAX_TEXTURE_PIXELS:
        width, height = size
        raise ValueError(
            f"a texture of {width} x {height} pixels, of more than {MAX_TEXTURE_PIXELS}"
        )


@dataclass(eq=False)
class Tile:
    """A part of an image, which may continue beyond its edges.

    Attributes
    ----------
    image : PIL.Image.Image
        RGB or RGBA.
    wrap : (int, int)
        How it continues to the sides and above and below: REPEAT, CLAMP or MIRROR.
    factor : (4,)
        Linear RGB and alpha that it is multiplied with.
    colours : ((P, 2), (P, 4)), optional
        Texture coordinates, linear RGB and alpha of points, which tint the image between them.
    opacity : callable, optional
        Returns the opacity for the product's alpha, uint8; the alpha itself if None.
    is_exact : bool
        Whether it must not be scaled.
    rank : int
        The tiles of the highest rank are shrunk first where there is no room for all.
    low, high : (2,)
        Range of the texture coordinates that are used, v pointing down.
    """

    image: PIL.Image.Image
    wrap: tuple[int, int] = (REPEAT, REPEAT)
    factor: np.ndarray = field(default_factory=lambda: np.ones(4))
    colours: tuple[np.ndarray, np.ndarray] | None = None
    opacity: Callable[[np.ndarray], np.ndarray] | None = None
    is_exact: bool = False
    rank: int = 0
    low: np.ndarray = field(default_factory=lambda: np.full(2, np.inf))
    high: np.ndarray = field(default_factory=lambda: np.full(2, -np.inf))

    def cover(self, uv: np.ndarray) -> None:
        """Extend the range to texture coordinates (N, 2)."""
        if len(uv):
            self.low = np.minimum(self.low, uv.min(0))
            self.high = np.maximum(self.high, uv.max(0))

    def scaled_size(self, scale: float) -> np.ndarray:
        """Return width and height of the scaled image in pixels."""
        factor = 1.0 if self.is_exact else scale
        return np.maximum(np.round(np.array(self.image.size) * factor), 1).astype(int)

    def pixel_range(self, scale: float) -> tuple[np.ndarray, np.ndarray]:
        """Return first and last + 1 column and row of the tile in the scaled image."""
        if not (self.low <= self.high).all():
            return np.zeros(2, int), np.ones(2, int)
        size = self.scaled_size(scale)
        first, last = np.floor(self.low * size), np.ceil(self.high * size)
        return (first - MARGIN_PIXELS).astype(int), (last + MARGIN_PIXELS).astype(int)

    def draw(self, scale: float) -> np.ndarray:
        """Return the pixels (H, W, 4) uint8 of the tile, RGB and opacity."""
        size, (first, last) = self.scaled_size(scale), self.pixel_range(scale)
        pixels = self._scaled_pixels(size)
        columns, rows = (
            _wrapped(np.arange(first[k], last[k]), int(size[k]), self.wrap[k]) for k in range(2)
        )
        pixels = pixels[rows][:, columns]
        tint = self._tint(first / size, last / size, (len(columns), len(rows)))
        if tint is not None:
            alpha = np.round(pixels[..., 3] * tint[..., 3]).astype(np.uint8)
            colours = to_srgb(to_linear(pixels[..., :3]) * tint[..., :3])
            pixels = np.concatenate([colours, alpha[..., None]], axis=-1)
        if self.opacity is not None:
            pixels[..., 3] = self.opacity(pixels[..., 3])
        return pixels

    def _scaled_pixels(self, size: np.ndarray) -> np.ndarray:
        """The image (H, W, 4) uint8 in a size, transparent pixels with the colours around them."""
        if self.image.size == tuple(size.tolist()):
            return np.array(self.image.convert("RGBA"))
        # Alpha is scaled apart: hair must not darken where colours are hidden behind it.
        planes = [self.image.convert("RGB")]
        if self.image.mode == "RGBA":
            planes.append(self.image.getchannel("A"))
        scaled = [np.asarray(plane.resize(tuple(size.tolist()))) for plane in planes]
        if len(scaled) == 1:
            scaled.append(np.full(scaled[0].shape[:2], 255, np.uint8))
        return np.dstack(scaled)

    def _tint(self, low: np.ndarray, high: np.ndarray, size: tuple[int, int]) -> np.ndarray | None:
        """The linear (4,) or (H, W, 4) that the tile is multiplied with; None for opaque white."""
        if self.colours is None:
            return None if (self.factor == 1).all() else self.factor
        import PIL.Image
        from scipy.interpolate import LinearNDInterpolator, NearestNDInterpolator
        from scipy.spatial import QhullError

        uv, colours = self.colours
        extent = np.maximum(high - low, 1e-9)
        points = (uv - low) / extent
        width, height = (np.array(size) * min(1, TINT_PIXELS / max(size))).astype(int) + 1
        u, v = np.meshgrid((np.arange(width) + 0.5) / width, (np.arange(height) + 0.5) / height)
        values = NearestNDInterpolator(points, colours)(u, v)
        try:
            between = LinearNDInterpolator(points, colours)(u, v)
            values = np.where(np.isfinite(between), between, values)
        except QhullError:  # the points are on one line
            pass
        planes = [
            np.asarray(PIL.Image.fromarray(plane.astype(np.float32)).resize(size))
            for plane in np.moveaxis(values, -1, 0)
        ]
        return np.asarray(np.stack(planes, -1).clip(0, 1) * self.factor)


def _wrapped(numbers: np.ndarray, size: int, wrap: int) -> np.ndarray:
    """The columns or rows in an image that stand for those beyond its edges."""
    if wrap == CLAMP:
        return numbers.clip(0, size - 1)
    if wrap == MIRROR:
        folded = numbers % (2 * size)
        return np.where(folded < size, folded, 2 * size - 1 - folded)
    return numbers % size


def unrolled(
    uv: np.ndarray, faces: np.ndarray, wrap: tuple[int, int]
) -> tuple[np.ndarray, np.ndarray]:
    """Bring texture coordinates of an image that is repeated often into few repetitions.

    Parameters
    ----------
    uv : (V, 2)
    faces : (F, 3)
    wrap : (int, int)

    Returns
    -------
    uv : (V or 3F, 2)
    faces : (F, 3)
        Triangles of these.
    """
    used = uv[faces.reshape(-1)]
    if not len(used) or (np.ptp(used, axis=0) <= MAX_REPEATS).all():
        return uv, faces
    corners = used.reshape(-1, 3, 2)
    period = np.array([2 if mode == MIRROR else 1 for mode in wrap])
    shift = np.floor(corners.mean(1, keepdims=True) / period) * period
    corners = corners - np.where(np.array(wrap) == CLAMP, 0, shift)
    half = MAX_REPEATS / 2
    corners = corners.clip(0.5 - half, 0.5 + half)
    return corners.reshape(-1, 2), np.arange(3 * len(faces)).reshape(-1, 3)


def palette_tile(colours: list[np.ndarray]) -> tuple[Tile, list[np.ndarray]]:
    """Return a tile with a swatch for each of some colours.

    Parameters
    ----------
    colours : list of (N, 4) uint8
        RGB and opacity.

    Returns
    -------
    tile : Tile
    uv : list of (N, 2)
        Texture coordinates of the swatches.
    """
    import PIL.Image

    every = np.concatenate(colours)
    step = 1  # of colours that are told apart
    palette, number = np.unique(every, axis=0, return_inverse=True)
    while len(palette) > MAX_PALETTE:
        step *= 2
        coarse = every.copy()
        coarse[:, :3] = every[:, :3] // step * step + step // 2
        palette, number = np.unique(coarse, axis=0, return_inverse=True)
    across = max(math.ceil(math.sqrt(len(palette))), 1)
    swatches = np.full((across * across, 4), 255, np.uint8)
    swatches[: len(palette)] = palette
    image = swatches.reshape(across, across, 4).repeat(SWATCH_PIXELS, 0).repeat(SWATCH_PIXELS, 1)
    number = number.reshape(-1)
    uv = (np.column_stack([number % across, number // across]) + 0.5) / across
    tile = Tile(PIL.Image.fromarray(image), is_exact=True)
    tile.cover(uv)
    return tile, np.split(uv, np.cumsum([len(rows) for rows in colours])[:-1])


def patch_size(triangles: int) -> int:
    """Return the side of each triangle's patch in pixels; below 2 for too many triangles."""
    across = int(np.ceil(np.sqrt(max(triangles, 1))))
    return min(MAX_PATCH_PIXELS, ATLAS_PIXELS // across)


def vertex_colour_texture(colours: np.ndarray) -> np.ndarray:
    """Return a texture (H, W, C) uint8 with a patch per triangle that blends vertex colours.

    `colours` (F, 3, C) are those of each triangle's corners, up to 255.
    """
    triangles, _, channels = colours.shape
    size, across = patch_size(triangles), int(np.ceil(np.sqrt(triangles)))
    x, y = np.meshgrid(np.linspace(0, 1, size), np.linspace(0, 1, size))
    barycentric = np.stack([1 - x - y, x, y], -1)  # extrapolated beyond the triangle
    patches = np.full((across * across, size, size, channels), 255, np.uint8)
    blended = np.einsum("yxk,fkc->fyxc", barycentric, colours.astype(np.float32))
    patches[:triangles] = blended.clip(0, 255)
    grid = patches.reshape(across, across, size, size, channels).swapaxes(1, 2)
    return grid.reshape(across * size, across * size, channels)


def patch_coordinates(triangles: int) -> np.ndarray:
    """Return column and row (F, 3, 2) of each triangle's corners in `vertex_colour_texture`."""
    size, across = patch_size(triangles), int(np.ceil(np.sqrt(triangles)))
    number = np.arange(triangles)
    origin = size * np.column_stack([number % across, number // across])
    return origin[:, None] + (size - 1) * np.array([[0.0, 0], [1, 0], [0, 1]])


def patch_tile(colours: np.ndarray) -> tuple[Tile, np.ndarray]:
    """Return a tile of triangles with colours (F, 3, 4) uint8 of their corners, and uv (F, 3, 2)."""
    import PIL.Image

    pixels = vertex_colour_texture(colours)
    tile = Tile(PIL.Image.fromarray(pixels), is_exact=True)
    uv = (patch_coordinates(len(colours)) + 0.5) / len(pixels)
    tile.cover(uv.reshape(-1, 2))
    return tile, uv


@dataclass(frozen=True, eq=False)
class Placement:
    """Where a tile lies in a joined texture.

    Attributes
    ----------
    tile : Tile
    factor, shift : (2,)
        From the tile's texture coordinates to those of the texture.
    scale : float
        Of the tile's image.
    """

    tile: Tile
    factor: np.ndarray
    shift: np.ndarray
    scale: float

    def coordinates(self, uv: np.ndarray) -> np.ndarray:
        """Return texture coordinates (N, 2) of the tile as those of the texture."""
        return np.asarray(uv * self.factor + self.shift)

    def tile_coordinates(self, uv: np.ndarray) -> np.ndarray:
        """Return texture coordinates (..., 2) of the texture as those of the tile."""
        return np.asarray((uv - self.shift) / self.factor)

    def covers(self, uv: np.ndarray) -> np.ndarray:
        """Return which texture coordinates (N, 2) of the texture lie in the tile."""
        inside, reach = self.tile_coordinates(uv), 1e-6
        within = (inside >= self.tile.low - reach) & (inside <= self.tile.high + reach)
        return np.asarray(within.all(1))


def join_tiles(tiles: dict[Any, Tile]) -> tuple[np.ndarray, dict[Any, Placement]]:
    """Draw tiles side by side into one image.

    Returns
    -------
    image : (H, W, 3 or 4) uint8
        RGB, and opacity if any of it is not opaque.
    placements : dict to Placement
    """
    every = list(tiles.values())
    places, scales = _room(every)
    ranges = [tile.pixel_range(scale) for tile, scale in zip(every, scales)]
    extent = np.max([place + last - first for place, (first, last) in zip(places, ranges)], axis=0)
    image = np.zeros((extent[1], extent[0], 4), np.uint8)
    image[..., 3] = 255
    placements = {}
    for (key, tile), place, scale, (first, last) in zip(tiles.items(), places, scales, ranges):
        rows, columns = (slice(place[k], place[k] + last[k] - first[k]) for k in (1, 0))
        image[rows, columns] = tile.draw(scale)
        factor, shift = tile.scaled_size(scale) / extent, (place - first) / extent
        placements[key] = Placement(tile, factor, shift, scale)
    return image if (image[..., 3] < 255).any() else image[..., :3], placements


def _room(tiles: list[Tile]) -> tuple[list[np.ndarray], list[float]]:
    """The first column and row of each tile, and its scale, so that all fit."""
    by_rank = {tile.rank: 1.0 for tile in tiles}

    def packed() -> list[np.ndarray] | None:
        return _packed(tiles, [by_rank[tile.rank] for tile in tiles])

    for rank in sorted(by_rank, reverse=True)[:-1]:
        while (places := packed()) is None and by_rank[rank] > MIN_RANKED_SCALE:
            by_rank[rank] *= SCALE_STEP
    while (places := packed()) is None:
        by_rank = {rank: scale * SCALE_STEP for rank, scale in by_rank.items()}
    return places, [by_rank[tile.rank] for tile in tiles]


def _packed(tiles: list[Tile], scales: list[float]) -> list[np.ndarray] | None:
    """The first column and row of each tile, in shelves; None if they do not fit."""
    ranges = [tile.pixel_range(scale) for tile, scale in zip(tiles, scales)]
    sizes = [last - first for first, last in ranges]
    places: list[np.ndarray] = [np.zeros(2, int)] * len(tiles)
    column = row = shelf = 0
    for number in sorted(range(len(tiles)), key=lambda k: -int(sizes[k][1])):
        width, height = sizes[number].tolist()
        if column + width > PACKED_PIXELS:
            column, row, shelf = 0, row + shelf, 0
        if width > PACKED_PIXELS or row + height > PACKED_PIXELS:
            return None
        places[number] = np.array([column, row])
        column, shelf = column + width, max(shelf, height)
    return places
