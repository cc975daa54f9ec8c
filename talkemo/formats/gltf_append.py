"""The bytes of a glTF that exists, before those that are appended to them."""

from __future__ import annotations

import os
from pathlib import Path, PurePosixPath
from typing import Any

from ..errors import InputError
from ..files.reading import printable
from .gltf_arrays import ExtendedGlb
from .gltf_file import MESHOPT, GltfFile
from .mesh_types import image_type

MAX_DATA_URI_CHARACTERS = 1 << 16  # of an image that stays in the JSON text
IMAGE_TYPES_BY_ENDING = {
    ".png": "image/png",
    ".jpg": "image/jpeg",
    ".jpeg": "image/jpeg",
    ".webp": "image/webp",
    ".ktx2": "image/ktx2",
    ".avif": "image/avif",
    ".dds": "image/vnd-ms.dds",
}


def appended_arrays(file: GltfFile, tree: dict[str, Any]) -> ExtendedGlb:
    """Return the arrays of a file, to which others can be added.

    All buffers with content become the first one, in their order; `tree`, a copy of the file's, is
    changed accordingly. Raises ValueError for a buffer that is shorter than it says.
    """
    contents: list[bytes] = []
    places: dict[int, tuple[int, int]] = {}  # new number of each buffer, and where it begins
    first: dict[str, Any] = {}
    others: list[dict[str, Any]] = []
    size = 0
    for number, (buffer, content) in enumerate(zip(tree.get("buffers", []), file.buffers)):
        if content is None:
            others.append(buffer)
            places[number] = len(others), 0
            continue
        length = int(buffer["byteLength"])
        if not 0 <= length <= len(content):
            raise ValueError(f"buffer {number} is shorter than it says")
        first = first or {name: value for name, value in buffer.items() if name != "uri"}
        places[number] = 0, size
        padding = bytes(-length % 4)
        contents += [bytes(content[:length]), padding]
        size += length + len(padding)
    for view in tree.setdefault("bufferViews", []):
        for reference in (view, view.get("extensions", {}).get(MESHOPT)):
            if reference is not None:
                _move(reference, *places[reference["buffer"]])
    accessors = tree.setdefault("accessors", [])
    return ExtendedGlb(accessors, tree["bufferViews"], contents, [first, *others])


def _move(reference: dict[str, Any], buffer: int, start: int) -> None:
    """Let a reference to bytes of a buffer point to those of another one."""
    reference["buffer"] = buffer
    if start:
        reference["byteOffset"] = reference.get("byteOffset", 0) + start


def embed_images(file: GltfFile, tree: dict[str, Any], arrays: ExtendedGlb, path: Path) -> None:
    """Put the images that lie beside a file, or are long, into the arrays.

    A gltf in the same folder keeps their names. Images that are not there, or whose type is
    unknown, stay as they are.
    """
    same_folder = os.path.realpath(path.parent) == os.path.realpath(file.path.parent)
    if same_folder and path.suffix.lower() == ".gltf":
        return
    for image in tree.get("images", []):
        uri = image.get("uri")
        is_long = isinstance(uri, str) and len(uri) > MAX_DATA_URI_CHARACTERS
        if not isinstance(uri, str) or (uri.startswith("data:") and not is_long):
            continue
        try:
            content = file.uri_content(uri)
        except InputError:
            continue
        ending = "" if uri.startswith("data:") else PurePosixPath(uri).suffix.lower()
        mime = image.get("mimeType") or image_type(content) or IMAGE_TYPES_BY_ENDING.get(ending)
        if mime is None:
            continue
        del image["uri"]
        image |= {"bufferView": arrays.add_bytes(content), "mimeType": mime}


def check_as_vrm(path: Path, file: GltfFile, bones: dict[str, Any]) -> None:
    """Raise InputError unless a file can be written as a VRM: it is one, with a humanoid."""
    extensions = file.tree.get("extensions", {})
    if "VRM" not in extensions and "VRMC_vrm" not in extensions:
        raise InputError(
            f"{printable(path)}: {printable(file.path.name)} is no VRM", "write a .glb instead"
        )
    if not bones:
        raise InputError(
            f"{printable(file.path)}: a VRM without humanoid", "export it again, or write a .glb"
        )


def add_vrm_materials(tree: dict[str, Any], names: list[str]) -> None:
    """Describe materials that will be added to a VRM 0, which describes each one once more."""
    vrm = tree.get("extensions", {}).get("VRM")
    if not isinstance(vrm, dict) or not isinstance(vrm.get("materialProperties"), list):
        return
    missing = len(tree.get("materials", [])) - len(vrm["materialProperties"])
    fields = ("floatProperties", "vectorProperties", "textureProperties", "keywordMap", "tagMap")
    empty: dict[str, Any] = {field: {} for field in fields}
    if missing == 0:
        vrm["materialProperties"] += [
            {"name": name, "shader": "VRM_USE_GLTFSHADER", "renderQueue": 2000, **empty}
            for name in names
        ]
