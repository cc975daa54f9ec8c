"""The materials of an OBJ: the files that it names, and the colours of its triangles.

One texture that colours everything stays as it is. Several, or a texture beside plain colours, are
put together into one image. Plain colours alone become those of the vertices.
"""

from __future__ import annotations

import io
import math
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from ..errors import InputError
from ..files.reading import quiet_libraries, read_bytes, read_text
from .mesh_types import MAX_IMAGE_BYTES, MeshAttributes, companion_path, image_type
from .texture_atlas import (
    ATLAS_PIXELS,
    REPEAT,
    Tile,
    as_png,
    check_pixels,
    join_tiles,
    palette_tile,
    unrolled,
)

if TYPE_CHECKING:
    import PIL.Image

MAX_MATERIAL_FILE_BYTES = 1 << 24
MAX_COMPANIONS = 1000  # material files and images of an OBJ that are kept
MAX_MATERIALS = 4096
MAX_IMAGES_PIXELS = 1 << 28  # of all textures of a mesh that are put together
IMAGE_KEYWORDS = ("map_", "bump", "norm", "disp", "refl")  # of a material file, by their beginning
PLAIN_COLOUR = np.full(3, 204, np.uint8)  # of a material that names none, Kd 0.8
MAX_TEXTURE_COORDINATE = 1e6
MIN_COLOUR_RANGE = 8  # of a colour's channels, or of several colours; less of it is plain grey


@dataclass(frozen=True, eq=False)
class Material:
    """What colours a triangle."""

    colour: np.ndarray | None = None  # (3,) uint8, Kd
    image: str | None = None  # name of a file, map_Kd


@dataclass(eq=False)
class MaterialFiles:
    """What the material files of an OBJ contain.

    Attributes
    ----------
    companions : dict of str to Path
        The files and the images that they name, by the name that is used.
    materials : dict of str to Material
    texture : bytes, optional
        Content of the first PNG or JPEG that colours a material.
    texture_name : str, optional
    """

    companions: dict[str, Path]
    materials: dict[str, Material]
    texture: bytes | None = None
    texture_name: str | None = None

    def image(self, name: str) -> bytes | None:
        """Return the content of an image among the companions; None if it cannot be read."""
        if name == self.texture_name:
            return self.texture
        return _image_content(self.companions[name])


def read_materials(path: Path, libraries: list[str]) -> MaterialFiles:
    """Return what the material files contain that an OBJ names.

    Only files in the OBJ's folder are used. Unreadable ones are left out: the mesh works without
    its materials.
    """
    files = MaterialFiles({}, {})
    for name in libraries[:MAX_COMPANIONS]:
        library = companion_path(path, name, MAX_MATERIAL_FILE_BYTES)
        if library is None:
            continue
        try:
            text = read_text(library, "a material file", "export it again", MAX_MATERIAL_FILE_BYTES)
        except InputError:
            continue
        files.companions[name] = library
        _read_library(path, text, files)
    return files


def _read_library(path: Path, text: str, files: MaterialFiles) -> None:
    """Add the materials and images of a material file."""
    name: str | None = None
    for line in text.splitlines():
        words = line.split()
        keyword = words[0].lower() if len(words) > 1 else ""
        if keyword == "newmtl":
            name = line.split(maxsplit=1)[1].strip()
            if len(files.materials) < MAX_MATERIALS:
                files.materials.setdefault(name, Material())
        elif keyword == "kd" and name in files.materials:
            colour = _colour(words[1:4])
            files.materials[name] = replace(files.materials[name], colour=colour)
        elif keyword.startswith(IMAGE_KEYWORDS):
            image = companion_path(path, words[-1], MAX_IMAGE_BYTES)
            if image is None or len(files.companions) >= MAX_COMPANIONS:
                continue
            files.companions[words[-1]] = image
            if keyword != "map_kd":
                continue
            if files.texture is None:
                files.texture, files.texture_name = _image_content(image), words[-1]
            if name in files.materials:
                files.materials[name] = replace(files.materials[name], image=words[-1])


def _colour(words: list[str]) -> np.ndarray | None:
    """The colour (3,) uint8 of three words, as numbers in [0, 1]; None if they are none."""
    try:
        values = np.array([float(word) for word in words])
    except ValueError:
        return None
    if values.shape != (3,) or not np.isfinite(values).all():
        return None
    return np.round(255 * values.clip(0, 1)).astype(np.uint8)


def _image_content(path: Path) -> bytes | None:
    """The content of a PNG or JPEG file, None for anything else."""
    try:
        content = read_bytes(path, "an image", "export it again", MAX_IMAGE_BYTES)
    except InputError:
        return None
    return content if image_type(content) else None


# -------------------------------------------------------------------------------------- the colours


def with_colours(
    attributes: MeshAttributes,
    files: MaterialFiles,
    faces: np.ndarray,
    count: int,
    names: list[str],
    numbers: np.ndarray,
) -> MeshAttributes:
    """Return the attributes of an OBJ with the colours of its materials.

    Parameters
    ----------
    attributes : MeshAttributes
        With texture coordinates.
    files : MaterialFiles
    faces : (F, 3)
    count : int
        Number of vertices.
    names : list of str
        Of the materials that are used.
    numbers : (F,)
        Index in `names` of each triangle's material, -1 for none.
    """
    used = np.unique(numbers)
    materials = {
        int(k): files.materials.get(names[k], Material()) if k >= 0 else Material() for k in used
    }
    images = {} if attributes.uv is None else _images(files, materials)
    if len(images) > 1 or (images and any(m.image not in images for m in materials.values())):
        return _joined(attributes, materials, images, faces, numbers)
    texture = files.image(next(iter(images))) if images else files.texture
    if texture is not None or attributes.colours is not None:
        return replace(attributes, texture=texture)
    colours = _triangle_colours(materials, numbers)
    if colours is None:
        return attributes
    corners = faces.ravel()
    sums = [np.bincount(corners, np.repeat(channel, 3), count) for channel in colours.T]
    shares = np.maximum(np.bincount(corners, minlength=count), 1)
    mean = np.stack(sums, axis=1) / shares[:, None]
    return replace(attributes, colours=np.round(mean).astype(np.uint8))


def _triangle_colours(materials: dict[int, Material], numbers: np.ndarray) -> np.ndarray | None:
    """The colours (F, 3) uint8 of triangles; None if all are the same grey, as by default."""
    palette = np.stack([_plain(material) for material in materials.values()]).astype(int)
    if np.ptp(palette, axis=0).max() < MIN_COLOUR_RANGE and np.ptp(palette, axis=1).max() < (
        MIN_COLOUR_RANGE
    ):
        return None
    return palette[np.searchsorted(list(materials), numbers)].astype(np.uint8)


def _plain(material: Material) -> np.ndarray:
    return PLAIN_COLOUR if material.colour is None else material.colour


def _images(files: MaterialFiles, materials: dict[int, Material]) -> dict[str, PIL.Image.Image]:
    """The images of materials by their names, without those that cannot be read.

    Those that together would take too much memory once decoded are left out.
    """
    import PIL.Image

    names = sorted({m.image for m in materials.values() if m.image is not None})
    images: dict[str, PIL.Image.Image] = {}
    pixels = 0
    for name in names:
        content = files.image(name)
        if content is None:
            continue
        try:
            with quiet_libraries():
                image = PIL.Image.open(io.BytesIO(content), formats=["PNG", "JPEG"])
                check_pixels(image.size)
                pixels += math.prod(image.size)
                if pixels > MAX_IMAGES_PIXELS:
                    break
                image.draft("RGB", (ATLAS_PIXELS, ATLAS_PIXELS))
                image.thumbnail((ATLAS_PIXELS, ATLAS_PIXELS))
                images[name] = image.convert("RGB")
        except (OSError, ValueError, SyntaxError, PIL.Image.DecompressionBombError):
            continue
    return images


def _joined(
    attributes: MeshAttributes,
    materials: dict[int, Material],
    images: dict[str, PIL.Image.Image],
    faces: np.ndarray,
    numbers: np.ndarray,
) -> MeshAttributes:
    """Attributes with one texture of several images and plain colours."""
    assert attributes.uv is not None and attributes.uv_faces is not None
    names = list(images)
    position = np.searchsorted(list(materials), numbers)  # of each triangle's material
    image_number = np.array(
        [names.index(m.image) if m.image in images else -1 for m in materials.values()]
    )[position]
    tiles: dict[str, Tile] = {}
    placed: list[tuple[str, np.ndarray, np.ndarray, np.ndarray]] = []
    rows = np.flatnonzero(image_number < 0)
    if len(rows):
        colours = np.stack([_plain(material) for material in materials.values()])
        tiles["plain"], (swatches,) = palette_tile([colours])
        placed.append(("plain", rows, swatches, np.repeat(position[rows, None], 3, axis=1)))
    upside_down = attributes.uv * [1, -1] + [0, 1]
    upside_down = upside_down.clip(-MAX_TEXTURE_COORDINATE, MAX_TEXTURE_COORDINATE)
    for number, (name, image) in enumerate(images.items()):
        rows = np.flatnonzero(image_number == number)
        used, corners = np.unique(attributes.uv_faces[rows], return_inverse=True)
        uv, corners = unrolled(upside_down[used], corners.reshape(-1, 3), (REPEAT, REPEAT))
        tiles[f"image {name}"] = tile = Tile(image)
        tile.cover(uv)
        placed.append((f"image {name}", rows, uv, corners))
    texture, placements = join_tiles(tiles)
    coordinates: list[np.ndarray] = []
    triangles = np.zeros((len(faces), 3), np.int32)
    first = 0
    for key, rows, uv, corners in placed:
        scale, shift = placements[key]
        coordinates.append((uv * scale + shift) * [1, -1] + [0, 1])
        triangles[rows] = corners + first
        first += len(uv)
    return replace(
        attributes,
        uv=np.concatenate(coordinates).astype(np.float32),
        uv_faces=triangles,
        texture=as_png(texture),
    )
