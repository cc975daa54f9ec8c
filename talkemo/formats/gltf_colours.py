"""The colours of a glTF scene, as a viewer shows them without light.

The colour of a surface is the product of its texture, the colours of its vertices and its
material's factor (glTF 2.0, sections 3.9.2 and 3.7.2.1); textures are in sRGB, the others are
linear. One texture that is used as it is stays as it is. Several are put together into one image.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import numpy as np

from ..files.reading import printable
from .gltf_file import GltfFile
from .gltf_scene import Surface
from .materials import BLEND, MASK, OPAQUE, Paint, decoded_images, join_materials
from .mesh_types import MeshAttributes, image_type
from .texture_atlas import MAX_TEXTURE_COORDINATE, REPEAT, as_png, to_srgb

if TYPE_CHECKING:
    import PIL.Image

SPECULAR_GLOSSINESS = "KHR_materials_pbrSpecularGlossiness"
TRANSMISSION = "KHR_materials_transmission"
WEBP = "EXT_texture_webp"
KINDS_OF_IMAGES = {  # that are not read, by the extension that names them
    "KHR_texture_basisu": "KTX2 (Basis Universal)",
    "EXT_texture_avif": "AVIF",
    "MSFT_texture_dds": "DDS",
}


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
    if not images and all(paint.is_opaque for paint in paints):
        return _without_textures(surfaces, paints)
    if not _is_simple(paints):
        parts = [surface.faces for surface in surfaces]
        return join_materials(parts, paints, {k: pixels for k, (_, pixels) in images.items()})
    uv, faces = _joined_uv(surfaces, paints)
    content, pixels = next(iter(images.values()))
    return MeshAttributes(uv, faces, content if image_type(content) else as_png(pixels))


def _without_textures(surfaces: list[Surface], paints: list[Paint]) -> MeshAttributes | None:
    """Attributes of opaque surfaces none of which has a texture that can be read."""
    has_uv = any(paint.uv is not None for paint in paints)
    uv, faces = _joined_uv(surfaces, paints) if has_uv else (None, None)
    colours = None
    if not all(paint.is_plain for paint in paints):
        # A mesh of pure white has no colours: it is painted, as one without materials.
        linear = [p.point_colours(len(s.points))[:, :3] for s, p in zip(surfaces, paints)]
        colours = to_srgb(np.concatenate(linear))
    return MeshAttributes(uv, faces, colours=colours) if has_uv or colours is not None else None


def _joined_uv(surfaces: list[Surface], paints: list[Paint]) -> tuple[np.ndarray, np.ndarray]:
    """Texture coordinates (V, 2) of all vertices, v pointing up, and the triangles (F, 3)."""
    uv, faces, count = [], [], 0
    for surface, paint in zip(surfaces, paints):
        vertices = len(surface.points)
        uv.append(np.zeros((vertices, 2)) if paint.uv is None else paint.uv * [1, -1] + [0, 1])
        faces.append(surface.faces + count)
        count += vertices
    return np.concatenate(uv).astype(np.float32), np.concatenate(faces).astype(np.int32)


def _is_simple(paints: list[Paint]) -> bool:
    """Whether one image colours all surfaces, without anything else."""
    if len({paint.image for paint in paints}) > 1 or not all(p.is_plain for p in paints):
        return False
    return all(
        paint.wrap == (REPEAT, REPEAT) or (np.abs(paint.uv - 0.5) <= 0.5).all()
        for paint in paints
        if paint.uv is not None
    )


# --------------------------------------------------------------------------------------- materials


def _paint(file: GltfFile, surface: Surface) -> Paint:
    """What colours a surface, by its material."""
    primitive = surface.primitive
    material = file.item("materials", primitive["material"]) if "material" in primitive else {}
    extensions = material.get("extensions", {})
    specular = extensions.get(SPECULAR_GLOSSINESS)
    if specular is None:
        metallic = material.get("pbrMetallicRoughness", {})
        factor, texture = metallic.get("baseColorFactor"), metallic.get("baseColorTexture")
    else:
        factor, texture = specular.get("diffuseFactor"), specular.get("diffuseTexture")
    linear = np.ones(4) if factor is None else np.array(factor, np.float64)
    if linear.shape not in ((3,), (4,)) or not np.isfinite(linear).all():
        raise ValueError("the colour of a material is none")
    linear = np.append(linear, 1.0)[:4].clip(0, 1)
    mode, cutoff = material.get("alphaMode", OPAQUE), float(material.get("alphaCutoff", 0.5))
    transmission = float(extensions.get(TRANSMISSION, {}).get("transmissionFactor", 0.0))
    if 0 < transmission <= 1:  # a cornea, or glasses
        linear[3] *= 1 - transmission * (mode == OPAQUE)
        mode = BLEND
    image, wrap = (None, (REPEAT, REPEAT)) if texture is None else image_of(file, texture)
    uv = texture_coordinates(file, primitive, texture or {}, len(surface.points))
    return Paint(
        linear,
        linear_vertex_colours(file, primitive, len(surface.points)),
        None if uv is None else image,
        uv,
        wrap,
        mode if mode in (MASK, BLEND) else OPAQUE,
        cutoff,
    )


def linear_vertex_colours(
    file: GltfFile, primitive: dict[str, Any], count: int
) -> np.ndarray | None:
    """Return the linear RGB and alpha (V, 4) of a primitive's vertices; None if absent."""
    values = file.attribute(primitive, "COLOR_0")
    if values is None:
        return None
    if values.ndim != 2 or values.shape[0] != count or values.shape[1] not in (3, 4):
        raise ValueError("vertex colours of another number than vertices")
    full = 1 if values.dtype.kind == "f" else np.iinfo(values.dtype).max
    colours = np.nan_to_num(values.astype(np.float64) / full).clip(0, 1)
    return np.column_stack([colours, np.ones((count, 4 - colours.shape[1]))])


def texture_coordinates(
    file: GltfFile, primitive: dict[str, Any], texture: dict[str, Any], count: int
) -> np.ndarray | None:
    """Return texture coordinates (V, 2), v pointing down, of a reference to a texture.

    KHR_texture_transform is applied. None if the primitive has none.
    """
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


def image_of(file: GltfFile, texture: dict[str, Any]) -> tuple[int | None, tuple[int, int]]:
    """Return the number of a texture's image, None if it cannot be read, and its two wrap modes."""
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
    """The content and the pixels of images by number, without those that cannot be read."""
    contents = {number: file.image(number) for number in sorted(numbers)}
    images = decoded_images(contents, lambda sentence: _note(file, sentence))
    return {number: (contents[number], image) for number, image in images.items()}
