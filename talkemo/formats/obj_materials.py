"""The materials of an OBJ: the files that it names, and the texture of its surfaces.

Sources: Wavefront's MTL: `Kd`, `d`, `map_Kd` and `map_d` of `newmtl`. `Tr` is not read: programs
write it with both meanings.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np

from ..errors import InputError
from ..files.reading import printable, read_bytes, read_text
from .materials import BLEND, OPAQUE, Paint, decoded_images, join_materials
from .mesh_types import MAX_IMAGE_BYTES, MeshAttributes, companion_path, image_type
from .texture_atlas import MAX_TEXTURE_COORDINATE, to_linear

MAX_MATERIAL_FILE_BYTES = 1 << 24
MAX_COMPANIONS = 1000  # material files and images of an OBJ that are kept
MAX_OPTION_WORDS = 32  # before the name of an image
MIN_COLOUR_RANGE = 8  # of a colour's channels, or of several colours; less of it is plain grey
IMAGE_KEYWORDS = ("map_", "bump", "norm", "disp", "refl")  # of a material file, by their beginning


@dataclass(eq=False)
class _Material:
    """A material of a file."""

    name: str = ""
    colour: np.ndarray = field(default_factory=lambda: np.ones(3))  # as shown, in [0, 1]
    opacity: float = 1.0
    image: Path | None = None
    opacity_image: Path | None = None


class ObjMaterials:
    """The material files and images that an OBJ names.

    Only files in the OBJ's folder are used. Unreadable ones are left out: the mesh works without
    its materials.

    Attributes
    ----------
    companions : dict of str to Path
        The files by the names that the OBJ and its material files use.
    missing : dict of str to str
        Images of surfaces that cannot be used, as a material's name and what the file calls them.
    """

    def __init__(self, path: Path, libraries: list[str]):
        self.path = path
        self.companions: dict[str, Path] = {}
        self.missing: dict[str, str] = {}
        self.materials: dict[str, _Material] = {}
        for name in libraries[:MAX_COMPANIONS]:
            library = companion_path(path, name, MAX_MATERIAL_FILE_BYTES)
            if library is None:
                continue
            try:
                limit = MAX_MATERIAL_FILE_BYTES
                text = read_text(library, "a material file", "export it again", limit)
            except InputError:
                continue
            self.companions[name] = library
            self._read(text)

    def _read(self, text: str) -> None:
        """Read a material file."""
        material = _Material()
        for line in text.splitlines():
            words = line.split()
            if len(words) < 2:
                continue
            keyword = words[0].lower()
            if keyword == "newmtl":
                name = line.split(maxsplit=1)[1].strip()
                material = self.materials.setdefault(name, _Material(name))
            elif keyword == "kd":
                colour = _numbers(words[1:4])
                material.colour = colour if len(colour) == 3 else material.colour
            elif keyword == "d":
                opacity = _numbers(words[-1:])
                material.opacity = float(opacity[0]) if len(opacity) else 1.0
            elif keyword.startswith(IMAGE_KEYWORDS):
                self._add_image(material, keyword, line.split(maxsplit=1)[1].strip())

    def _add_image(self, material: _Material, keyword: str, text: str) -> None:
        """Keep an image that a material names, at the end of a text that may begin with options."""
        if len(self.companions) >= MAX_COMPANIONS:
            return
        name, image = self._found(text)
        if image is not None:
            self.companions[name] = image
        if keyword == "map_kd":
            self.materials.setdefault(material.name, material)  # also one before any `newmtl`
            material.image = image
            self.missing.pop(material.name, None)
            if image is None or _image_content(image) is None:
                material.image = None
                self.missing[material.name] = name
        elif keyword == "map_d":
            material.opacity_image = image

    def _found(self, text: str) -> tuple[str, Path | None]:
        """Return the longest end of a text that names a file, and the file; names have spaces."""
        name = text
        for _ in range(MAX_OPTION_WORDS):
            image = companion_path(self.path, name, MAX_IMAGE_BYTES)
            rest = name.split(maxsplit=1)[1:]
            if image is not None or not rest:
                return name, image
            (name,) = rest
        return text.split()[-1], None

    def texture(self, count: int, starts: list[tuple[int, str]]) -> bytes | None:
        """Return the first texture, a PNG or JPEG, of `count` triangles. `starts` as in `joined`."""
        image = self._first_image(count, starts)
        return None if image is None else _image_content(image)

    def _first_image(self, count: int, starts: list[tuple[int, str]]) -> Path | None:
        """Return the first image of the materials that triangles use.

        Of all materials if the triangles name none that there is.
        """
        materials = list(self.materials.values())
        if any(name in self.materials for _, name in starts):
            materials, _ = self._of_triangles(count, starts)
        images = (material.image for material in materials if material.image is not None)
        return next(images, None)

    def notes(self, count: int, starts: list[tuple[int, str]]) -> tuple[str, ...]:
        """Return a sentence for each image that `count` triangles lack. `starts` as in `joined`."""
        used = {material.name for material in self._of_triangles(count, starts)[0]}
        lacking = dict.fromkeys(self.missing[name] for name in self.missing if name in used)
        return tuple(f"{printable(name)}: no PNG or JPEG beside the mesh" for name in lacking)

    def joined(
        self, uv: np.ndarray, uv_faces: np.ndarray, starts: list[tuple[int, str]]
    ) -> MeshAttributes | None:
        """Return one texture for surfaces of several materials, or of one with opacity.

        None if the first texture is all there is.

        Parameters
        ----------
        uv, uv_faces : (U, 2), (F, 3)
            Of the OBJ's triangles, v pointing up.
        starts : list of (int, str)
            The first triangle and the name of each material that is used.
        """
        materials, number = self._of_triangles(len(uv_faces), starts)
        if self._first_image(len(uv_faces), starts) is None or not _needs_joining(materials):
            return None
        try:
            images = self._images(materials)
            paints = [_paint(material, uv, images) for material in materials]
            faces = [uv_faces[number == k] for k in range(len(materials))]
            joined = join_materials(faces, paints, images)
        except ValueError:  # images that are too large
            return None
        assert joined.uv_faces is not None
        in_order = np.empty_like(joined.uv_faces)
        in_order[np.argsort(number, kind="stable")] = joined.uv_faces
        return replace(joined, uv_faces=in_order)

    def vertex_colours(
        self, faces: np.ndarray, count: int, starts: list[tuple[int, str]]
    ) -> np.ndarray | None:
        """Return the mean colours (`count`, 3) uint8 of the materials at vertices.

        None if there is a texture, or if all triangles (F, 3) are of the same grey, as by default.
        """
        if not len(faces) or self._first_image(len(faces), starts) is not None:
            return None
        materials, number = self._of_triangles(len(faces), starts)
        palette = np.round(255 * np.stack([m.colour for m in materials]).clip(0, 1))
        differs = np.ptp(palette, axis=0).max() >= MIN_COLOUR_RANGE
        is_grey = not differs and np.ptp(palette, axis=1).max() < MIN_COLOUR_RANGE
        if is_grey:
            return None
        corners = faces.clip(0, max(count - 1, 0)).ravel()  # `check_mesh` refuses others
        channels = palette[number].T
        sums = [np.bincount(corners, np.repeat(channel, 3), count) for channel in channels]
        uses = np.maximum(np.bincount(corners, minlength=count), 1)
        return np.round(np.stack(sums, axis=1) / uses[:, None]).astype(np.uint8)

    def _of_triangles(
        self, count: int, starts: list[tuple[int, str]]
    ) -> tuple[list[_Material], np.ndarray]:
        """Return the materials that `count` triangles use, and the number of each one's."""
        materials = [_Material(), *self.materials.values()]
        place = {name: number for number, name in enumerate(self.materials, 1)}
        firsts = [0, *(first for first, _ in starts)]
        chosen = np.array([0, *(place.get(name, 0) for _, name in starts)])
        number = chosen[np.searchsorted(firsts, np.arange(count), side="right") - 1]
        used, number = np.unique(number, return_inverse=True)
        return [materials[k] for k in used], number

    def _images(self, materials: list[_Material]) -> dict:
        """Return the decoded images of materials, with what their opacity images say."""
        paths = {path for m in materials for path in (m.image, m.opacity_image) if path is not None}
        contents = {path: _image_content(path) for path in sorted(paths)}
        decoded = decoded_images({k: content for k, content in contents.items() if content})
        images = {}
        for material in materials:
            image, opacity = decoded.get(material.image), decoded.get(material.opacity_image)
            if image is None:
                continue
            if opacity is None:
                image = image.convert("RGB")
            else:
                plane = opacity.getchannel("A") if opacity.mode == "RGBA" else opacity.convert("L")
                image = image.convert("RGBA")
                image.putalpha(plane.resize(image.size))
            images[_image_key(material)] = image
        return images


def _needs_joining(materials: list[_Material]) -> bool:
    """Whether the materials of triangles differ, or are not opaque."""
    if len({_image_key(material) for material in materials}) > 1:
        return True
    return any(not _is_opaque(material) for material in materials)


def _is_opaque(material: _Material) -> bool:
    """Whether a material hides what is behind it; an opacity of 0 is taken for a mistake."""
    return material.opacity_image is None and not 0 < material.opacity < 1


def _image_key(material: _Material) -> tuple[Path | None, Path | None]:
    return material.image, material.opacity_image


def _paint(material: _Material, uv: np.ndarray, images: dict) -> Paint:
    """Return how a material colours triangles with texture coordinates (U, 2), v pointing up."""
    key = _image_key(material)
    has_image = key in images
    # Beside a texture, the colour is what a program leaves there, and not meant to tint.
    colour = np.ones(3) if has_image else to_linear(np.round(255 * material.colour.clip(0, 1)))
    opaque = _is_opaque(material)
    opacity = material.opacity if 0 < material.opacity < 1 else 1.0
    return Paint(
        np.append(colour, opacity),
        image=key if has_image else None,
        uv=uv.clip(-MAX_TEXTURE_COORDINATE, MAX_TEXTURE_COORDINATE) * [1, -1] + [0, 1],
        mode=OPAQUE if opaque else BLEND,
    )


def _numbers(words: list[str]) -> np.ndarray:
    """Return the numbers that words are; none if one of them is no finite number."""
    try:
        values = np.array([float(word) for word in words])
    except ValueError:
        return np.zeros(0)
    return values if np.isfinite(values).all() else np.zeros(0)


def _image_content(path: Path) -> bytes | None:
    """The content of a PNG or JPEG file, None for anything else."""
    try:
        content = read_bytes(path, "an image", "export it again", MAX_IMAGE_BYTES)
    except InputError:
        return None
    return content if image_type(content) else None
