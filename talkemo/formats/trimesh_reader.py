"""Meshes that trimesh reads: ply, stl, off, glb and gltf, once the sizes they claim are checked."""

from __future__ import annotations

import base64
import io
import json
import math
import os
import re
import shutil
import struct
import tempfile
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

import numpy as np

from ..files.reading import BYTE_ORDER_MARK, parse_json, printable, read_bytes
from .gltf_reader import (
    ACCESSOR_WIDTHS,
    BINARY_CHUNK,
    COMPONENT_TYPES,
    GLTF_MAGIC,
    JSON_CHUNK,
    MAX_GLTF_JSON_BYTES,
    TRIANGLE_LIST,
    TRIANGLE_STRIP,
    is_added_part,
    read_container,
)
from .mesh_types import (
    MAX_IMAGE_BYTES,
    MAX_MESH_FILE_BYTES,
    MAX_MESH_TRIANGLES,
    MAX_MESH_VERTICES,
    Mesh,
    MeshAttributes,
    as_colours,
    check_counts,
    companion_path,
)

if TYPE_CHECKING:
    import PIL.Image

MAX_PLY_HEADER_BYTES = 1 << 16
MAX_TEXT_MESH_BYTES = 1 << 29  # a ply, stl or off that is text
MIN_PLY_LINE_BYTES = 4  # of an element of a ply that is text
# All line separators of `str.splitlines`.
LINE_ENDS = (
    b"\n",
    b"\r",
    b"\x0b",
    b"\x0c",
    b"\x1c",
    b"\x1d",
    b"\x1e",
    b"\xc2\x85",
    b"\xe2\x80\xa8",
    b"\xe2\x80\xa9",
)
MAX_EMPTY_LINES = 1000  # of a mesh that is text
MAX_MESH_ELEMENTS = 100  # kinds of elements of a ply, solids of an stl
MAX_TEXTURE_PIXELS = 1 << 26  # textures of a mesh together, 8192 x 8192
MAX_SCENE_NODES = 10_000  # of a glb
MAX_SCENE_DEPTH = 200  # levels of nodes of a glb
MAX_SCENE_MESHES = 1000  # of a glb
IMAGE_SIGNATURES = (b"\x89PNG\r\n\x1a\n", b"\xff\xd8\xff", b"RIFF")  # of PNG, JPEG and WebP
NOT_AN_IMAGE = {"mimeType": "image/ktx2"}  # which trimesh leaves out
NO_ACCESSOR = {"componentType": 5121, "count": 0, "type": "SCALAR"}


def read_with_trimesh(path: Path, file: IO[bytes]) -> Mesh:
    """Read an open mesh file with its texture or colours.

    Raises InputError if it is too large, and any exception if it is malformed.
    """
    import trimesh

    kind = path.suffix.lower()[1:]
    file = _without_mark(file)
    resolver = _resolver(path)
    if kind in ("glb", "gltf"):
        file = _plain_gltf(path, file, kind, resolver)
    else:
        if kind == "ply":
            _check_ply(path, file)
        elif kind == "stl":
            _check_stl(path, file)
        else:
            _check_text(file, MAX_MESH_VERTICES + MAX_MESH_TRIANGLES)
        file.seek(0)
    loaded: Any = trimesh.load(file, file_type=kind, resolver=resolver, force="mesh", process=False)
    vertices = np.asarray(loaded.vertices, np.float64)
    faces = np.asarray(getattr(loaded, "faces", []))
    if faces.size and not -1 < faces.min() <= faces.max() < 1 << 31:
        raise ValueError("faces refer to vertices that do not exist")
    faces = faces.astype(np.int32).reshape(-1, 3)
    attributes = _attributes(getattr(loaded, "visual", None), len(vertices), faces)
    return Mesh(vertices, faces, attributes, path.name)


def _without_mark(file: IO[bytes]) -> IO[bytes]:
    """A file without the byte-order mark that it may begin with."""
    mark = BYTE_ORDER_MARK.encode()
    start = file.read(len(mark))
    file.seek(0)
    if start != mark:
        return file
    if os.fstat(file.fileno()).st_size > MAX_TEXT_MESH_BYTES:
        raise ValueError(f"text of more than {MAX_TEXT_MESH_BYTES >> 20} MiB; export it as binary")
    plain = tempfile.TemporaryFile()  # noqa: SIM115 (closed when it is collected)
    file.seek(len(mark))
    shutil.copyfileobj(file, plain)
    plain.seek(0)
    return plain


def _attributes(visual: Any, vertices: int, faces: np.ndarray) -> MeshAttributes | None:
    """The texture or the vertex colours of trimesh's visual of a mesh; None without either."""
    uv = getattr(visual, "uv", None)
    if uv is not None and np.shape(uv) == (vertices, 2):
        material = getattr(visual, "material", None)
        image = getattr(material, "baseColorTexture", None) or getattr(material, "image", None)
        texture = None if image is None else _as_png(image)
        return MeshAttributes(np.nan_to_num(np.asarray(uv, np.float32)), faces, texture)
    if visual is None or not visual.defined or visual.kind != "vertex":
        return None
    values = np.asarray(visual.vertex_colors)[:, :3]
    colours = as_colours(values) if len(values) == vertices else None
    return None if colours is None else MeshAttributes(colours=colours)


def _as_png(image: PIL.Image.Image) -> bytes:
    """An image as the content of a PNG file."""
    _check_pixels([image.size])
    with io.BytesIO() as buffer:
        image.convert("RGB").save(buffer, "PNG")
        return buffer.getvalue()


def _check_pixels(sizes: list[tuple[int, int]]) -> None:
    """Raise ValueError for images that together take too much memory once decoded."""
    if sum(math.prod(size) for size in sizes) > MAX_TEXTURE_PIXELS:
        width, height = max(sizes, key=math.prod)
        raise ValueError(
            f"textures of up to {width} x {height} pixels, of more than {MAX_TEXTURE_PIXELS} "
            "together"
        )


def _resolver(path: Path) -> Any:
    """A trimesh resolver that gives it files only from the mesh's folder or below."""
    from trimesh.resolvers import Resolver

    class FolderResolver(Resolver):
        def __init__(self) -> None:
            self.bytes_left = MAX_MESH_FILE_BYTES  # of all files together
            self.contents: dict[str, bytes] = {}

        def get(self, key: str) -> bytes:
            if key in self.contents:
                return self.contents[key]
            name = key.strip()
            companion = companion_path(path, name, self.bytes_left)
            companion = companion or companion_path(path, name.lstrip("/"), self.bytes_left)
            if companion is None:
                raise ValueError(f"it needs the file {key[:60]}, which is not beside it")
            content = read_bytes(
                companion, "a part of a mesh", "copy all its files together", self.bytes_left
            )
            self.bytes_left -= len(content)
            self.contents[key] = content
            return content

        def keys(self) -> list[str]:
            return []

        def write(self, name: str, data: Any) -> None:
            raise ValueError("nothing is written")

        def namespaced(self, namespace: str) -> Any:
            raise ValueError("there are no namespaces")

    return FolderResolver()


# -------------------------------------------------------------------------------------------------
# ply, stl, off


def _check_ply(path: Path, file: IO[bytes]) -> None:
    """Raise for a ply whose header claims more than is read, or more than the file holds."""
    header, end, _ = file.read(MAX_PLY_HEADER_BYTES).partition(b"end_header")
    lines = [line.split() for line in header.splitlines() if line.strip()]
    if not end or len(lines) < 2:
        raise ValueError("a ply without an end of its header")
    counts = {words[1]: int(words[2]) for words in lines if b"element" in words[0]}
    if len(counts) > MAX_MESH_ELEMENTS or any(count < 0 for count in counts.values()):
        raise ValueError("too many kinds of elements, or a negative number of them")
    total = sum(counts.values())
    vertices = counts.get(b"vertex", 0)
    check_counts(printable(path), vertices, total - vertices)
    if b"ascii" in b" ".join(lines[1]).lower():
        if os.fstat(file.fileno()).st_size < MIN_PLY_LINE_BYTES * total:
            raise ValueError("more elements than there are lines")
        _check_text(file, total + len(lines))


def _check_text(file: IO[bytes], lines: int) -> None:
    """Raise ValueError for a text with many more lines than expected: each takes memory."""
    if os.fstat(file.fileno()).st_size > MAX_TEXT_MESH_BYTES:
        raise ValueError(f"text of more than {MAX_TEXT_MESH_BYTES >> 20} MiB; export it as binary")
    file.seek(0)
    count = 0
    while block := file.read(1 << 20):
        count += sum(block.count(end) for end in LINE_ENDS) - block.count(b"\r\n")
    if count > lines + MAX_EMPTY_LINES:
        raise ValueError("more lines than elements")


def _check_stl(path: Path, file: IO[bytes]) -> None:
    """Raise for an stl of too many triangles or solids."""
    size = os.fstat(file.fileno()).st_size
    triangles = int.from_bytes(file.read(84)[80:], "little")
    if size == 84 + 50 * triangles:  # binary
        check_counts(printable(path), 3 * triangles, triangles)
        return
    _check_text(file, MAX_MESH_VERTICES + MAX_MESH_TRIANGLES)
    file.seek(0)
    if len(re.findall(rb"endsolid", file.read(), re.IGNORECASE)) > MAX_MESH_ELEMENTS:
        raise ValueError(f"more than {MAX_MESH_ELEMENTS} solids")


# -------------------------------------------------------------------------------------------------
# glb, gltf


def _plain_gltf(path: Path, file: IO[bytes], kind: str, resolver: Any) -> IO[bytes]:
    """A glb or gltf reduced to what its surface at rest needs, with all sizes checked."""
    content = file.read(os.fstat(file.fileno()).st_size)
    block = memoryview(b"")
    if kind == "glb":
        tree, block = read_container(content)
    else:
        tree = parse_json(content[: MAX_GLTF_JSON_BYTES + 1])
    extensions = set(tree.get("extensionsUsed", []))
    compressed = {"KHR_draco_mesh_compression", "EXT_meshopt_compression"} & extensions
    if compressed:
        raise ValueError(f"it is compressed by {compressed.pop()}; export it without compression")
    plain = _only(tree, "asset", "buffers", "bufferViews", "scene", "scenes", "textures")
    used: set[int] = set()  # accessors
    plain["meshes"] = [_plain_mesh(mesh, used) for mesh in tree.get("meshes", [])]
    transform = ("matrix", "translation", "rotation", "scale")
    plain["nodes"] = [
        _only(node, "name", *(() if is_added_part(node) else ("mesh",)), "children", *transform)
        for node in tree.get("nodes", [])
    ]
    _check_scene(path, tree, plain, used)
    fields = ("bufferView", "byteOffset", "componentType", "count", "type", "normalized")
    plain["accessors"] = [
        _only(accessor, *fields) if number in used else NO_ACCESSOR
        for number, accessor in enumerate(tree.get("accessors", []))
    ]
    plain["materials"] = [_plain_material(material) for material in tree.get("materials", [])]
    plain["images"] = _plain_images(tree, plain, block, resolver)
    text = json.dumps(plain).encode()
    if kind == "gltf":
        return io.BytesIO(text)
    text += b" " * (-len(text) % 4)
    total = 28 + len(text) + len(block)
    header = struct.pack("<5I", GLTF_MAGIC, 2, total, len(text), JSON_CHUNK)
    return io.BytesIO(b"".join([header, text, struct.pack("<2I", len(block), BINARY_CHUNK), block]))


def _only(values: dict[str, Any], *keys: str) -> dict[str, Any]:
    return {key: values[key] for key in keys if key in values}


def _plain_mesh(mesh: dict[str, Any], used: set[int]) -> dict[str, Any]:
    """A mesh's surfaces with positions, triangles and texture coordinates.

    Adds the accessors of these to `used`.
    """
    primitives = []
    for primitive in mesh["primitives"]:
        is_surface = primitive.get("mode", TRIANGLE_LIST) in (TRIANGLE_LIST, TRIANGLE_STRIP)
        if not is_surface or "POSITION" not in primitive["attributes"]:
            continue
        attributes = _only(primitive["attributes"], "POSITION", "TEXCOORD_0")
        plain = _only(primitive, "indices", "material", "mode")
        used.update(attributes.values(), [plain["indices"]] if "indices" in plain else [])
        primitives.append({**plain, "attributes": attributes})
    return {**_only(mesh, "name"), "primitives": primitives}


def _check_scene(path: Path, tree: dict[str, Any], plain: dict[str, Any], used: set[int]) -> None:
    """Raise for a scene of more nodes, vertices or bytes than are read."""
    counts = _accessor_counts(tree.get("accessors", []), used)
    nodes = plain["nodes"]
    _check_depth(nodes)
    vertices = corners = meshes = 0
    for node in nodes:
        primitives = plain["meshes"][node["mesh"]]["primitives"] if "mesh" in node else []
        meshes += len(primitives)
        for primitive in primitives:
            positions = counts[primitive["attributes"]["POSITION"]]
            vertices += positions
            corners += counts[primitive["indices"]] if "indices" in primitive else positions
    check_counts(printable(path), vertices, corners // 3)
    if meshes > MAX_SCENE_MESHES:
        raise ValueError(f"a scene of {meshes} meshes, more than {MAX_SCENE_MESHES}; join them")


def _accessor_counts(accessors: list[dict[str, Any]], used: set[int]) -> dict[int, int]:
    """The numbers of elements of the used accessors; raise ValueError if they are too large."""
    if not all(isinstance(k, int) and 0 <= k < len(accessors) for k in used):
        raise ValueError("an accessor that does not exist")
    counts = {}
    total = 0
    for k in used:
        component = np.dtype(COMPONENT_TYPES[accessors[k]["componentType"]])
        element_bytes = component.itemsize * ACCESSOR_WIDTHS[accessors[k]["type"]]
        count = accessors[k]["count"]
        if not isinstance(count, int) or count < 0:
            raise ValueError("an accessor of a negative or fractional number of elements")
        counts[k] = count
        total += count * element_bytes
    if total > MAX_MESH_FILE_BYTES:
        raise ValueError("accessors larger than any mesh")
    return counts


def _check_depth(nodes: list[dict[str, Any]]) -> None:
    """Raise ValueError for too many nodes, too many levels of them, or a circle."""
    if len(nodes) > MAX_SCENE_NODES:
        raise ValueError(f"{len(nodes)} nodes, more than {MAX_SCENE_NODES}")
    parents: dict[int, int] = {}
    for number, node in enumerate(nodes):
        for child in node.get("children", []):
            if not isinstance(child, int) or not 0 <= child < len(nodes) or child in parents:
                raise ValueError("nodes that are not a tree")
            parents[child] = number
    for number in range(len(nodes)):
        depth = 0
        while number in parents:
            number, depth = parents[number], depth + 1
            if depth > MAX_SCENE_DEPTH:
                raise ValueError(f"nodes of more than {MAX_SCENE_DEPTH} levels, or in a circle")


def _plain_material(material: dict[str, Any]) -> dict[str, Any]:
    """A material with nothing but its colour."""
    specular = material.get("extensions", {}).get("KHR_materials_pbrSpecularGlossiness", {})
    metallic = material.get("pbrMetallicRoughness", {})
    texture = metallic.get("baseColorTexture") or specular.get("diffuseTexture")
    factor = metallic.get("baseColorFactor") or specular.get("diffuseFactor")
    colour = {"baseColorTexture": texture, "baseColorFactor": factor}
    return {"pbrMetallicRoughness": {key: value for key, value in colour.items() if value}}


def _plain_images(
    tree: dict[str, Any], plain: dict[str, Any], block: memoryview, resolver: Any
) -> list[dict[str, Any]]:
    """The images of the colour textures, if they are small enough; NOT_AN_IMAGE for all others."""
    import PIL.Image

    wanted = set()
    for material in plain["materials"]:
        texture = material["pbrMetallicRoughness"].get("baseColorTexture", {}).get("index")
        if texture is not None:
            entry = tree["textures"][texture]
            webp = entry.get("extensions", {}).get("EXT_texture_webp", {})
            wanted.add(webp.get("source", entry.get("source")))
    images: list[dict[str, Any]] = []
    sizes = []
    for number, image in enumerate(tree.get("images", [])):
        images.append(NOT_AN_IMAGE)
        content = _image_content(tree, image, block, resolver) if number in wanted else b""
        if not content.startswith(IMAGE_SIGNATURES):
            continue
        try:
            with PIL.Image.open(io.BytesIO(content), formats=("PNG", "JPEG", "WEBP")) as opened:
                sizes.append(opened.size)
        except PIL.UnidentifiedImageError:
            continue
        images[-1] = _only(image, "bufferView", "uri", "mimeType")
    _check_pixels(sizes)
    return images


def _image_content(
    tree: dict[str, Any], image: dict[str, Any], block: memoryview, resolver: Any
) -> bytes:
    """The content of an image in the file or beside it, b"" if it is elsewhere."""
    if "bufferView" in image:
        view = tree["bufferViews"][image["bufferView"]]
        start, size = int(view.get("byteOffset", 0)), int(view["byteLength"])
        if not 0 <= size <= MAX_IMAGE_BYTES or start < 0:
            raise ValueError("an image out of range")
        buffer = tree["buffers"][view.get("buffer", 0)]
        content = _uri_content(buffer["uri"], resolver) if "uri" in buffer else block
        return bytes(content[start : start + size])
    return _uri_content(image["uri"], resolver) if "uri" in image else b""


def _uri_content(uri: str, resolver: Any) -> bytes:
    """The content of a URI: a file beside the gltf, or data in base 64."""
    _, marker, text = uri.partition("base64,")
    return base64.b64decode(text) if marker else resolver.get(uri)
