"""Meshes that trimesh reads: ply, stl, off, glb and gltf. What a file claims is added up before trimesh believes it."""

from __future__ import annotations

import base64
import io
import json
import math
import os
import re
import struct
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

import numpy as np

from ..files.reading import parse_json, printable, read_bytes
from .gltf_reader import BINARY_CHUNK, JSON_CHUNK, LARGEST_JSON, MAGIC, TYPES, WIDTHS, container
from .mesh_types import (
    LARGEST_FILE,
    LARGEST_PICTURE,
    MOST_FACES,
    MOST_VERTICES,
    MeshAttributes,
    as_colours,
    beside,
    check_counts,
)

if TYPE_CHECKING:
    import PIL.Image

LARGEST_HEADER = 1 << 16  # bytes of a ply's header
LARGEST_TEXT = 1 << 29  # bytes of a ply, stl or off that is text
SHORTEST_ELEMENT = 4  # bytes of a line of a ply that is text
# What ends a line for Python.
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
MOST_ELEMENTS = 100  # kinds of elements of a ply, solids of an stl
MOST_PIXELS = 1 << 26  # of the textures of a mesh together, 8192 x 8192
MOST_NODES = 10_000  # of a glb's scene
DEEPEST_NODE = 200  # nodes of a glb within each other
MOST_PARTS = 1000  # meshes of a glb's scene
PICTURES = (b"\x89PNG\r\n\x1a\n", b"\xff\xd8\xff", b"RIFF")  # how PNG, JPEG and WebP begin
TRIANGLES, STRIP = 4, 5  # glTF's modes of a primitive that are surfaces


def read_with_trimesh(
    path: Path, file: IO[bytes]
) -> tuple[np.ndarray, np.ndarray, MeshAttributes | None]:
    """Positions (V, 3), triangles (F, 3) and texture of a mesh's file, which is open.

    Raises InputError for one that is too large, and anything at all for one that is broken.
    """
    import trimesh

    kind = path.suffix.lower()[1:]
    resolver = _resolver(path)
    if kind in ("glb", "gltf"):
        file = _plain_gltf(path, file, kind, resolver)
    else:
        if kind == "ply":
            _check_ply(path, file)
        elif kind == "stl":
            _check_stl(path, file)
        else:
            _check_text(file, MOST_VERTICES + MOST_FACES)
        file.seek(0)
    loaded: Any = trimesh.load(file, file_type=kind, resolver=resolver, force="mesh", process=False)
    vertices = np.asarray(loaded.vertices, np.float64)
    faces = np.asarray(getattr(loaded, "faces", []))
    if faces.size and not -1 < faces.min() <= faces.max() < 1 << 31:
        raise ValueError("faces name vertices that are not there")
    faces = faces.astype(np.int32).reshape(-1, 3)
    visual = getattr(loaded, "visual", None)
    uv = getattr(visual, "uv", None)
    if uv is None or np.shape(uv) != (len(vertices), 2):
        colours = np.zeros((0, 3))
        if visual is not None and visual.defined and visual.kind == "vertex":
            colours = np.asarray(visual.vertex_colors)[:, :3]
        found = as_colours(colours) if len(colours) == len(vertices) else None
        return vertices, faces, None if found is None else MeshAttributes(colours=found)
    material = getattr(loaded.visual, "material", None)
    picture = getattr(material, "baseColorTexture", None) or getattr(material, "image", None)
    texture = None if picture is None else _as_png(picture)
    return (
        vertices,
        faces,
        MeshAttributes(np.nan_to_num(np.asarray(uv, np.float32)), faces, texture),
    )


def _as_png(picture: PIL.Image.Image) -> bytes:
    """A picture as the content of a PNG file."""
    _check_pixels([picture.size])
    with io.BytesIO() as buffer:
        picture.convert("RGB").save(buffer, "PNG")
        return buffer.getvalue()


def _check_pixels(sizes: list[tuple[int, int]]) -> None:
    """Raise ValueError for pictures that together take too much memory once they are decoded."""
    if sum(math.prod(size) for size in sizes) > MOST_PIXELS:
        width, height = max(sizes, key=math.prod)
        raise ValueError(
            f"textures of up to {width} x {height} pixels, of more than {MOST_PIXELS} together"
        )


def _resolver(path: Path) -> Any:
    """What gives trimesh the files that a mesh names: only those in its own folder or below."""
    from trimesh.resolvers import Resolver

    class Beside(Resolver):
        def __init__(self) -> None:
            self.left = LARGEST_FILE  # bytes that may still be read
            self.contents: dict[str, bytes] = {}

        def get(self, key: str) -> bytes:
            if key in self.contents:
                return self.contents[key]
            found = beside(path, key.strip(), self.left) or beside(
                path, key.strip().lstrip("/"), self.left
            )
            if found is None:
                raise ValueError(f"it needs the file {key[:60]}, which is not beside it")
            content = read_bytes(
                found, "a part of a mesh", "copy all its files together", self.left
            )
            self.left -= len(content)
            self.contents[key] = content
            return content

        def keys(self) -> list[str]:
            return []

        def write(self, name: str, data: Any) -> None:
            raise ValueError("nothing is written")

        def namespaced(self, namespace: str) -> Any:
            raise ValueError("there are no namespaces")

    return Beside()


# -------------------------------------------------------------------------------------------------------- ply, stl, off


def _check_ply(path: Path, file: IO[bytes]) -> None:
    """Refuse a ply whose header claims more than is read, or more than there is."""
    header, end, _ = file.read(LARGEST_HEADER).partition(b"end_header")
    lines = [line.split() for line in header.splitlines() if line.strip()]
    if not end or len(lines) < 2:
        raise ValueError("a ply without an end of its header")
    counts = {words[1]: int(words[2]) for words in lines if b"element" in words[0]}
    if len(counts) > MOST_ELEMENTS or any(count < 0 for count in counts.values()):
        raise ValueError("elements that no ply has")
    total = sum(counts.values())
    check_counts(printable(path), counts.get(b"vertex", 0), total - counts.get(b"vertex", 0))
    if b"ascii" in b" ".join(lines[1]).lower():
        if os.fstat(file.fileno()).st_size < SHORTEST_ELEMENT * total:
            raise ValueError("more elements than there are lines")
        _check_text(file, total + len(lines))


def _check_text(file: IO[bytes], lines: int) -> None:
    """Refuse a text with more lines than it should have, beside a few empty ones: each takes memory."""
    if os.fstat(file.fileno()).st_size > LARGEST_TEXT:
        raise ValueError(f"text of more than {LARGEST_TEXT >> 20} MiB; export it as binary")
    file.seek(0)
    there = 0
    while block := file.read(1 << 20):
        there += sum(block.count(end) for end in LINE_ENDS) - block.count(b"\r\n")
    if there > lines + 1000:
        raise ValueError("more lines than elements")


def _check_stl(path: Path, file: IO[bytes]) -> None:
    """Refuse an stl of too many triangles or solids."""
    size = os.fstat(file.fileno()).st_size
    triangles = int.from_bytes(file.read(84)[80:], "little")
    if size == 84 + 50 * triangles:
        check_counts(printable(path), 3 * triangles, triangles)
        return
    _check_text(file, MOST_VERTICES + MOST_FACES)
    file.seek(0)
    if len(re.findall(rb"endsolid", file.read(), re.IGNORECASE)) > MOST_ELEMENTS:
        raise ValueError(f"more than {MOST_ELEMENTS} solids")


# ----------------------------------------------------------------------------------------------------------- glb, gltf


def _plain_gltf(path: Path, file: IO[bytes], kind: str, resolver: Any) -> IO[bytes]:
    """A glb or gltf with nothing but what its surface at rest is made of, its sizes checked."""
    content = file.read(os.fstat(file.fileno()).st_size)
    tree, block = (
        container(content)
        if kind == "glb"
        else (parse_json(content[: LARGEST_JSON + 1]), memoryview(b""))
    )
    compressed = {"KHR_draco_mesh_compression", "EXT_meshopt_compression"} & set(
        tree.get("extensionsUsed", [])
    )
    if compressed:
        raise ValueError(f"it is compressed by {compressed.pop()}; export it without compression")
    plain = {
        key: tree[key]
        for key in ("asset", "buffers", "bufferViews", "scene", "scenes", "textures")
        if key in tree
    }
    used: set[int] = set()
    plain["meshes"] = [_plain_mesh(mesh, used) for mesh in tree.get("meshes", [])]
    keep = ("name", "mesh", "children", "matrix", "translation", "rotation", "scale")
    plain["nodes"] = [
        {key: node[key] for key in keep if key in node} for node in tree.get("nodes", [])
    ]
    _check_claims(path, tree, plain, used)
    none = {"componentType": 5121, "count": 0, "type": "SCALAR"}
    keys = ("bufferView", "byteOffset", "componentType", "count", "type", "normalized")
    accessors = enumerate(tree.get("accessors", []))
    plain["accessors"] = [
        {key: a[key] for key in keys if key in a} if k in used else none for k, a in accessors
    ]
    plain["materials"] = [_plain_material(material) for material in tree.get("materials", [])]
    plain["images"] = _plain_images(tree, plain, block, resolver)
    text = json.dumps(plain).encode()
    if kind == "gltf":
        return io.BytesIO(text)
    text += b" " * (-len(text) % 4)
    head = struct.pack("<5I", MAGIC, 2, 28 + len(text) + len(block), len(text), JSON_CHUNK)
    return io.BytesIO(b"".join([head, text, struct.pack("<2I", len(block), BINARY_CHUNK), block]))


def _plain_mesh(mesh: dict[str, Any], used: set[int]) -> dict[str, Any]:
    """A mesh with its surfaces' positions, triangles and texture coordinates; adds to the accessors that are used."""
    primitives = []
    for primitive in mesh["primitives"]:
        if (
            primitive.get("mode", TRIANGLES) not in (TRIANGLES, STRIP)
            or "POSITION" not in primitive["attributes"]
        ):
            continue
        attributes = {
            n: k for n, k in primitive["attributes"].items() if n in ("POSITION", "TEXCOORD_0")
        }
        plain = {key: primitive[key] for key in ("indices", "material", "mode") if key in primitive}
        used.update(attributes.values(), [plain["indices"]] if "indices" in plain else [])
        primitives.append({**plain, "attributes": attributes})
    return {**({"name": mesh["name"]} if "name" in mesh else {}), "primitives": primitives}


def _check_claims(path: Path, tree: dict[str, Any], plain: dict[str, Any], used: set[int]) -> None:
    """Refuse a scene of more nodes, vertices or bytes than are read."""
    accessors, nodes = tree.get("accessors", []), plain["nodes"]
    if not all(isinstance(k, int) and 0 <= k < len(accessors) for k in used):
        raise ValueError("an accessor that is not there")
    counts = {}
    for k in used:
        count = accessors[k]["count"]
        size = (
            np.dtype(TYPES[accessors[k]["componentType"]]).itemsize * WIDTHS[accessors[k]["type"]]
        )
        if not isinstance(count, int) or count < 0 or count * size > LARGEST_FILE:
            raise ValueError("an accessor larger than any mesh")
        counts[k] = count, count * size
    if sum(size for _, size in counts.values()) > LARGEST_FILE:
        raise ValueError("accessors larger than any mesh")
    _check_depth(nodes)
    vertices = corners = parts = 0
    for node in nodes:
        primitives = plain["meshes"][node["mesh"]]["primitives"] if "mesh" in node else []
        parts += len(primitives)
        for primitive in primitives:
            own = counts[primitive["attributes"]["POSITION"]][0]
            vertices += own
            corners += counts[primitive["indices"]][0] if "indices" in primitive else own
    check_counts(printable(path), vertices, corners // 3)
    if parts > MOST_PARTS:
        raise ValueError(f"a scene of {parts} meshes, more than {MOST_PARTS}; join them")


def _check_depth(nodes: list[dict[str, Any]]) -> None:
    """Refuse too many nodes, and those that are deep within each other or in a circle."""
    if len(nodes) > MOST_NODES:
        raise ValueError(f"{len(nodes)} nodes, more than {MOST_NODES}")
    parents: dict[int, int] = {}
    for number, node in enumerate(nodes):
        for child in node.get("children", []):
            if not isinstance(child, int) or not 0 <= child < len(nodes) or child in parents:
                raise ValueError("nodes that are not a tree")
            parents[child] = number
    for number in range(len(nodes)):
        at, depth = number, 0
        while at in parents:
            at, depth = parents[at], depth + 1
            if depth > DEEPEST_NODE:
                raise ValueError(f"nodes of more than {DEEPEST_NODE} levels, or in a circle")


def _plain_material(material: dict[str, Any]) -> dict[str, Any]:
    """A material with nothing but its colour."""
    old = material.get("extensions", {}).get("KHR_materials_pbrSpecularGlossiness", {})
    new = material.get("pbrMetallicRoughness", {})
    texture = new.get("baseColorTexture") or old.get("diffuseTexture")
    factor = new.get("baseColorFactor") or old.get("diffuseFactor")
    colour = {"baseColorTexture": texture} if texture else {}
    return {"pbrMetallicRoughness": colour | ({"baseColorFactor": factor} if factor else {})}


def _plain_images(
    tree: dict[str, Any], plain: dict[str, Any], block: memoryview, resolver: Any
) -> list[dict[str, Any]]:
    """The images of colours, of a size that may be decoded; nothing in the place of others."""
    import PIL.Image

    wanted = set()
    for material in plain["materials"]:
        texture = material["pbrMetallicRoughness"].get("baseColorTexture", {}).get("index")
        if texture is not None:
            about = tree["textures"][texture]
            wanted.add(
                about.get("extensions", {})
                .get("EXT_texture_webp", {})
                .get("source", about.get("source"))
            )
    images: list[dict[str, Any]] = []
    sizes = []
    for number, image in enumerate(tree.get("images", [])):
        images.append({"mimeType": "image/ktx2"})  # which trimesh leaves out
        content = _image_content(tree, image, block, resolver) if number in wanted else b""
        if not content.startswith(PICTURES):
            continue
        try:
            with PIL.Image.open(io.BytesIO(content), formats=("PNG", "JPEG", "WEBP")) as picture:
                sizes.append(picture.size)
        except PIL.UnidentifiedImageError:
            continue
        images[-1] = {key: image[key] for key in ("bufferView", "uri", "mimeType") if key in image}
    _check_pixels(sizes)
    return images


def _image_content(
    tree: dict[str, Any], image: dict[str, Any], block: memoryview, resolver: Any
) -> bytes:
    """The content of an image's file, none where it is somewhere else than in a glb or beside a gltf."""
    if "bufferView" in image:
        view = tree["bufferViews"][image["bufferView"]]
        start, size = int(view.get("byteOffset", 0)), int(view["byteLength"])
        if not 0 <= size <= LARGEST_PICTURE or start < 0:
            raise ValueError("a picture out of range")
        buffer = tree["buffers"][view.get("buffer", 0)]
        content = _uri_content(buffer["uri"], resolver) if "uri" in buffer else block
        return bytes(content[start : start + size])
    return _uri_content(image["uri"], resolver) if "uri" in image else b""


def _uri_content(uri: str, resolver: Any) -> bytes:
    """What a gltf's URI names: a file beside it, or itself in base 64."""
    _, found, text = uri.partition("base64,")
    return base64.b64decode(text) if found else resolver.get(uri)
