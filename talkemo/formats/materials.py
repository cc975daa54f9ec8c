"""What colours the triangles of a mesh's materials, and the texture that joins them."""

from __future__ import annotations

import io
import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from .mesh_types import MeshAttributes
from .texture_atlas import (
    ATLAS_PIXELS,
    REPEAT,
    Tile,
    as_png,
    check_pixels,
    join_tiles,
    palette_tile,
    patch_size,
    patch_tile,
    to_srgb,
    unrolled,
)

if TYPE_CHECKING:
    import PIL.Image

MAX_IMAGES_PIXELS = 1 << 28  # of all colour textures of a file, 16 of 4096 x 4096
READABLE_IMAGES = ("PNG", "JPEG", "WEBP")
OPAQUE, MASK, BLEND = "OPAQUE", "MASK", "BLEND"  # how a material uses alpha, in glTF's words


@dataclass(eq=False)
class Paint:
    """What colours triangles: an image times the colours of their points times a factor.

    Attributes
    ----------
    factor : (4,)
        Linear RGB and alpha.
    colours : (P, 4), optional
        Linear RGB and alpha of the points.
    image : hashable, optional
        The image's name among those of a file.
    uv : (P, 2), optional
        Texture coordinates of the points, v pointing down.
    wrap : (int, int)
        How the image continues beyond its edges.
    mode : str
        OPAQUE: alpha does not count. MASK: what has less alpha than `cutoff` is not drawn, and the
        rest is opaque. BLEND: alpha is the opacity.
    cutoff : float
    """

    factor: np.ndarray
    colours: np.ndarray | None = None
    image: Any = None
    uv: np.ndarray | None = None
    wrap: tuple[int, int] = (REPEAT, REPEAT)
    mode: str = OPAQUE
    cutoff: float = 0.5

    def __post_init__(self) -> None:
        if self.is_opaque:
            self.factor = np.append(self.factor[:3], 1.0)
            if self.colours is not None:
                self.colours = np.column_stack([self.colours[:, :3], np.ones(len(self.colours))])
        if self.colours is not None and (self.colours == 1).all():
            self.colours = None

    @property
    def is_opaque(self) -> bool:
        """Whether alpha does not count."""
        return self.mode == OPAQUE

    @property
    def is_plain(self) -> bool:
        """Whether nothing but the RGB of the image colours the points."""
        return self.is_opaque and self.colours is None and bool((self.factor == 1).all())

    def point_colours(self, count: int) -> np.ndarray:
        """Return the linear RGB and alpha (P, 4) of the points without the image."""
        colours = np.ones((count, 4)) if self.colours is None else self.colours
        return np.asarray(colours * self.factor)

    def opacity(self, alpha: np.ndarray) -> np.ndarray:
        """Return alpha, uint8, as opacity."""
        if self.mode == MASK:
            return np.where(alpha >= 255 * self.cutoff, 255, 0).astype(np.uint8)
        return alpha


def join_materials(
    faces: list[np.ndarray], paints: list[Paint], images: dict[Any, PIL.Image.Image]
) -> MeshAttributes:
    """Return one texture for surfaces with materials; those that are coloured alike share a part.

    Parameters
    ----------
    faces : list of (F, 3)
        Triangles of each surface, of the points of its paint. The result has them all, in order.
    paints : list of Paint
    images : dict
    """
    plain = [_point_colours(part, paint) for part, paint in zip(faces, paints)]
    palette, swatches = palette_tile(
        [np.zeros((0, 4), np.uint8) if c is None or c.ndim == 3 else c for c in plain]
    )
    tiles: dict[Any, Tile] = {"palette": palette}
    placed: list[tuple[Any, np.ndarray, np.ndarray]] = []
    for number, (part, paint, colours) in enumerate(zip(faces, paints, plain)):
        if colours is not None and colours.ndim == 3:
            tiles[number], uv = patch_tile(colours)
            placed.append((number, uv.reshape(-1, 2), np.arange(3 * len(part)).reshape(-1, 3)))
            continue
        if colours is not None or paint.uv is None:
            row = np.arange(len(part))
            placed.append(("palette", swatches[number], np.stack([row] * 3, axis=1)))
            continue
        used, own = np.unique(part, return_inverse=True)
        uv, triangles = unrolled(paint.uv[used], own.reshape(-1, 3), paint.wrap)
        tint = None if paint.colours is None else (paint.uv[used], paint.colours[used])
        key = (
            *(paint.image, paint.wrap, tuple(paint.factor), paint.mode, paint.cutoff),
            None if tint is None else number,
        )
        if key not in tiles:
            image = images[paint.image]
            image = image.convert("RGB") if paint.is_opaque else image
            tiles[key] = Tile(image, paint.wrap, paint.factor, tint, paint.opacity)
        tiles[key].cover(uv[np.unique(triangles)])
        placed.append((key, uv, triangles))
    texture, placements = join_tiles(tiles)
    coordinates, corners, count = [], [], 0
    for key, uv, triangles in placed:
        coordinates.append(placements[key].coordinates(uv) * [1, -1] + [0, 1])
        corners.append(triangles + count)
        count += len(uv)
    return MeshAttributes(
        np.concatenate(coordinates).astype(np.float32),
        np.concatenate(corners).astype(np.int32),
        as_png(texture),
        has_opacity=texture.shape[2] == 4,
        tiles=tuple(placements.values()),
    )


def _point_colours(faces: np.ndarray, paint: Paint) -> np.ndarray | None:
    """Return RGB and opacity, uint8, of triangles (F, 4) without an image; None with one.

    Those of their corners (F, 3, 4) if these differ.
    """
    if paint.image is not None and paint.uv is not None:
        return None
    colours = paint.point_colours(int(faces.max(initial=-1)) + 1)[faces]
    if paint.colours is None or patch_size(len(faces)) < 2:
        colours = colours.mean(1)
    alpha = np.round(255 * colours[..., 3:]).astype(np.uint8)
    return np.concatenate([to_srgb(colours[..., :3]), paint.opacity(alpha)], axis=-1)


def decoded_images(
    contents: dict[Any, bytes], note: Callable[[str], None] = lambda sentence: None
) -> dict[Any, PIL.Image.Image]:
    """Return the pixels of images, RGB or RGBA, without those that cannot be read.

    `note` is called with a sentence about these. Raises ValueError for images that together take
    too much memory once decoded.
    """
    import PIL.Image

    opened: dict[Any, PIL.Image.Image] = {}
    for name, content in contents.items():
        try:
            opened[name] = PIL.Image.open(io.BytesIO(content), formats=READABLE_IMAGES)
        except (OSError, SyntaxError):
            note("textures in another form than PNG, JPEG or WebP are left out")
    sizes = [image.size for image in opened.values()]
    for size in sizes:
        check_pixels(size)
    if sum(map(math.prod, sizes)) > MAX_IMAGES_PIXELS:
        raise ValueError(f"textures of more than {MAX_IMAGES_PIXELS} pixels together")
    images = {}
    for name, image in opened.items():
        try:
            if len(opened) > 1:  # only parts of the joined texture will show them
                image.draft("RGB", (ATLAS_PIXELS, ATLAS_PIXELS))
                image.thumbnail((ATLAS_PIXELS, ATLAS_PIXELS))
            has_alpha = "A" in image.getbands() or "transparency" in image.info
            images[name] = image.convert("RGBA" if has_alpha else "RGB")
        except (OSError, ValueError, SyntaxError):
            note("textures that are damaged are left out")
    return images
