"""The colours of a glTF scene, as a viewer shows them without light.

The colour of a surface is the product of its texture, the colours of its vertices and its
material's factor (glTF 2.0, sections 3.9.2 and 3.7.2.1); textures are in sRGB, the others are
linear. One texture that is used as it is stays as it is. Several are put together into one image.
"""

from __future__ import annotations

import io
import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from ..files.reading import printable
from .gltf_file import GltfFile
from .gltf_scene import Surface
from .mesh_types import MeshAttributes, image_type
from .texture_atlas import (
    ATLAS_PIXELS,
    REPEAT,
    Tile,
    as_png,
    check_pixels,
    join_tiles,
    palette_tile,
    to_srgb,
    unrolled,
)

if TYPE_CHECKING:
    import PIL.Image

MAX_TEXTURE_COORDINATE = 1e6
MAX_IMAGES_PIXELS = 1 << 28  # of all colour textures of a file, 16 of 4096 x 4096
SPECULAR_GLOSSINESS = "KHR_materials_pbrSpecularGlossiness"
WEBP = "EXT_texture_webp"
KINDS_OF_IMAGES = {  # that are not read, by the extension that names them
    "KHR_texture_basisu": "KTX2 (Basis Universal)",
    "EXT_texture_avif": "AVIF",
    "MSFT_texture_dds": "DDS",
}
READABLE_IMAGES = ("PNG", "JPEG", "WEBP")


@dataclass(eq=False)
class _Paint:
    """What colours a surface."""

    factor: np.ndarray  # (3,), linear
    colours: np.ndarray | None  # of its vertices (V, 3), linear
    image: int | None
    uv: np.ndarray | None  # (V, 2), v pointing down, for the image if there is one
    wrap: tuple[int, int]  # how the image continues beyond its edges, of its sampler

    @property
    def is_plain(self) -> bool:
        """Whether nothing but the image colours the surface."""
        return self.colours is None and bool((self.factor == 1).all())


def read_colours(file: GltfFile, surfaces: list[Surface]) -> MeshAttributes | None:
    """Return texture, texture coordinates and vertex colours of surfaces; None without any.

    Vertices and triangles are counted through all surfaces. What cannot be read is left out and
    noted in `file.notes`.
    """
    paints = [_paint(file, surface) for surface in surfaces]
    images = _images(file, {paint.image for paint in paints if paint.image is not None})
    for paint in paints:
        if paint.image not in images:
            paint.image = None
    if not images:
        return _without_textures(surfaces, paints)
    if not _is_simple(paints):
        return _atlas(surfaces, paints, {k: pixels for k, (_, pixels) in images.items()})
    uv, faces = _joined_uv(surfaces, paints)
    content, pixels = next(iter(images.values()))
    return MeshAttributes(uv, faces, content if image_type(content) else as_png(pixels))


def _without_textures(surfaces: list[Surface], paints: list[_Paint]) -> MeshAttributes | None:
    """Attributes of surfaces none of which has a texture that can be read."""
    has_uv = any(paint.uv is not None for paint in paints)
    uv, faces = _joined_uv(surfaces, paints) if has_uv else (None, None)
    colours = None
    if not all(paint.is_plain for paint in paints):
        # A mesh of pure white has no colours: it is painted, as one without materials.
        linear = np.concatenate([_vertex_colours(s, p) for s, p in zip(surfaces, paints)])
        colours = to_srgb(linear)
    return MeshAttributes(uv, faces, colours=colours) if has_uv or colours is not None else None


def _vertex_colours(surface: Surface, paint: _Paint) -> np.ndarray:
    """Linear colours (V, 3) of a surface without its texture."""
    colours = np.ones((len(surface.points), 3)) if paint.colours is None else paint.colours
    return np.asarray(colours * paint.factor)


def _joined_uv(surfaces: list[Surface], paints: list[_Paint]) -> tuple[np.ndarray, np.ndarray]:
    """Texture coordinates (V, 2) of all vertices, v pointing up, and the triangles (F, 3)."""
    uv, faces, count = [], [], 0
    for surface, paint in zip(surfaces, paints):
        vertices = len(surface.points)
        uv.append(np.zeros((vertices, 2)) if paint.uv is None else paint.uv * [1, -1] + [0, 1])
        faces.append(surface.faces + count)
        count += vertices
    return np.concatenate(uv).astype(np.float32), np.concatenate(faces).astype(np.int32)


def _is_simple(paints: list[_Paint]) -> bool:
    """Whether one image colours all surfaces, without anything else."""
    if len({paint.image for paint in paints}) > 1 or not all(p.is_plain for p in paints):
        return False
    return all(
        paint.wrap == (REPEAT, REPEAT) or (np.abs(paint.uv - 0.5) <= 0.5).all()
        for paint in paints
        if paint.uv is not None
    )


def _atlas(
    surfaces: list[Surface], paints: list[_Paint], images: dict[int, PIL.Image.Image]
) -> MeshAttributes:
    """Attributes with one texture for all surfaces; those that are coloured alike share a tile."""
    palette, swatches = palette_tile(
        [
            to_srgb(_vertex_colours(surface, paint)[surface.faces].mean(1))
            if paint.image is None
            else np.zeros((0, 3), np.uint8)
            for surface, paint in zip(surfaces, paints)
        ]
    )
    tiles: dict[Any, Tile] = {"palette": palette}
    placed: list[tuple[Any, np.ndarray, np.ndarray]] = []
    for number, (surface, paint) in enumerate(zip(surfaces, paints)):
        if paint.image is None or paint.uv is None:
            row = np.arange(len(surface.faces))
            placed.append(("palette", swatches[number], np.stack([row] * 3, axis=1)))
            continue
        uv, faces = unrolled(paint.uv, surface.faces, paint.wrap)
        tint = None if paint.colours is None else (paint.uv, paint.colours)
        key = (paint.image, tuple(paint.factor), paint.wrap, None if tint is None else number)
        tile = tiles.setdefault(key, Tile(images[paint.image], paint.wrap, paint.factor, tint))
        tile.cover(uv)
        placed.append((key, uv, faces))
    texture, placements = join_tiles(tiles)
    coordinates, triangles, count = [], [], 0
    for key, uv, faces in placed:
        scale, shift = placements[key]
        coordinates.append((uv * scale + shift) * [1, -1] + [0, 1])
        triangles.append(faces + count)
        count += len(uv)
    return MeshAttributes(
        np.concatenate(coordinates).astype(np.float32),
        np.concatenate(triangles).astype(np.int32),
        as_png(texture),
    )


# --------------------------------------------------------------------------------------- materials


def _paint(file: GltfFile, surface: Surface) -> _Paint:
    """What colours a surface, by its material."""
    primitive = surface.primitive
    material = file.item("materials", primitive["material"]) if "material" in primitive else {}
    specular = material.get("extensions", {}).get(SPECULAR_GLOSSINESS)
    if specular is None:
        metallic = material.get("pbrMetallicRoughness", {})
        factor, texture = metallic.get("baseColorFactor"), metallic.get("baseColorTexture")
    else:
        factor, texture = specular.get("diffuseFactor"), specular.get("diffuseTexture")
    linear = np.ones(3) if factor is None else np.array(factor, np.float64)[:3]
    if linear.shape != (3,) or not np.isfinite(linear).all():
        raise ValueError("the colour of a material is none")
    image, wrap = (None, (REPEAT, REPEAT)) if texture is None else _image_of(file, texture)
    uv = _coordinates(file, primitive, texture or {}, len(surface.points))
    return _Paint(
        linear.clip(0, 1),
        _linear_vertex_colours(file, primitive, len(surface.points)),
        None if uv is None else image,
        uv,
        wrap,
    )


def _linear_vertex_colours(
    file: GltfFile, primitive: dict[str, Any], count: int
) -> np.ndarray | None:
    """The linear colours (V, 3) of a primitive's vertices; None if they are white or absent."""
    values = file.attribute(primitive, "COLOR_0")
    if values is None:
        return None
    if values.ndim != 2 or values.shape[0] != count or values.shape[1] not in (3, 4):
        raise ValueError("vertex colours of another number than vertices")
    full = 1 if values.dtype.kind == "f" else np.iinfo(values.dtype).max
    colours = np.nan_to_num(values[:, :3].astype(np.float64) / full).clip(0, 1)
    return None if (colours == 1).all() else colours


def _coordinates(
    file: GltfFile, primitive: dict[str, Any], texture: dict[str, Any], count: int
) -> np.ndarray | None:
    """Texture coordinates (V, 2), v pointing down, after KHR_texture_transform; None if absent."""
    transform = texture.get("extensions", {}).get("KHR_texture_transform", {})
    number = transform.get("texCoord", texture.get("texCoord", 0))
    uv = file.attribute(primitive, f"TEXCOORD_{number}")
    if uv is None:
        return None
    if uv.shape != (count, 2):
        raise ValueError("texture coordinates of another number than vertices")
    angle = float(transform.get("rotation", 0.0))
    scale, shift = (
        np.array(transform.get(name, value), np.float64)
        for name, value in (("scale", (1, 1)), ("offset", (0, 0)))
    )
    # The texture turns clockwise, where v points down.
    turn = np.array([[math.cos(angle), -math.sin(angle)], [math.sin(angle), math.cos(angle)]])
    uv = (uv.astype(np.float64) * scale) @ turn + shift
    return np.nan_to_num(uv).clip(-MAX_TEXTURE_COORDINATE, MAX_TEXTURE_COORDINATE)


def _image_of(file: GltfFile, texture: dict[str, Any]) -> tuple[int | None, tuple[int, int]]:
    """The number of a texture's image, None if it cannot be read, and how it is continued."""
    entry = file.item("textures", texture["index"])
    sampler = file.item("samplers", entry["sampler"]) if "sampler" in entry else {}
    wrap = (int(sampler.get("wrapS", REPEAT)), int(sampler.get("wrapT", REPEAT)))
    extensions = entry.get("extensions", {})
    image = extensions.get(WEBP, {}).get("source", entry.get("source"))
    if image is None:
        kinds = ", ".join(KINDS_OF_IMAGES.get(name, printable(name, 40)) for name in extensions)
        _note(file, f"textures in {kinds or 'no image'} are left out")
    return image, wrap


def _note(file: GltfFile, sentence: str) -> None:
    if sentence not in file.notes:
        file.notes.append(sentence)


def _images(file: GltfFile, numbers: set[int]) -> dict[int, tuple[bytes, PIL.Image.Image]]:
    """The content and the pixels of images by number, without those that cannot be read.

    Raises ValueError for images that together take too much memory once decoded.
    """
    import PIL.Image

    opened: dict[int, tuple[bytes, PIL.Image.Image]] = {}
    for number in sorted(numbers):
        content = file.image(number)
        try:
            opened[number] = content, PIL.Image.open(io.BytesIO(content), formats=READABLE_IMAGES)
        except (OSError, SyntaxError):
            _note(file, "textures in another form than PNG, JPEG or WebP are left out")
    sizes = [image.size for _, image in opened.values()]
    for size in sizes:
        check_pixels(size)
    if sum(map(math.prod, sizes)) > MAX_IMAGES_PIXELS:
        raise ValueError(f"textures of more than {MAX_IMAGES_PIXELS} pixels together")
    images = {}
    for number, (content, image) in opened.items():
        try:
            if len(opened) > 1:  # only parts of the joined texture will show them
                image.draft("RGB", (ATLAS_PIXELS, ATLAS_PIXELS))
                image.thumbnail((ATLAS_PIXELS, ATLAS_PIXELS))
            images[number] = content, image.convert("RGB")
        except (OSError, ValueError, SyntaxError):
            _note(file, "textures that are damaged are left out")
    return images
