"""glTF in the forms that people have, read as viewers show them: one surface in all of them."""

import base64
import io
import json
import sys

import fuzzing
import numpy as np
import pytest
from gltf_files import (
    FACES,
    PIXEL,
    POINTS,
    SIDE,
    UV,
    Gltf,
    character,
    compressed,
    glb_of,
    stream,
)
from PIL import Image
from scipy.spatial.transform import Rotation

from talkemo import InputError
from talkemo.formats import gltf_file, mesh_types
from talkemo.formats.gltf_compression import decode_meshopt
from talkemo.formats.gltf_scene import is_added_part
from talkemo.formats.groups import kind_of_names
from talkemo.formats.mesh import load_mesh
from talkemo.formats.registry import open_animation
from talkemo.formats.texture_atlas import to_linear, to_srgb

MIRRORED = POINTS * np.float32([-1, 1, 1])
DOWN = np.where(POINTS[:, 1:2] < 0, [0.0, -0.5, 0], 0.0).astype(np.float32)  # opens a mouth
QUARTER = Rotation.from_euler("x", 90, degrees=True)


def matrix(linear=None, shift=(0, 0, 0)):
    result = np.eye(4)
    result[:3, :3], result[:3, 3] = np.eye(3) if linear is None else linear, shift
    return result


# ---------------------------------------------------------------------------------------- surfaces


def plain(g):
    return POINTS


def quantised(g):
    """Unsigned integers, with a stride, that the node's transform makes coordinates of."""
    whole = np.zeros((len(POINTS), 4), np.uint16)
    whole[:, :3] = np.round((POINTS + 1) * 16000)
    view = g.view(whole, byteStride=8)
    number = g.add(whole[:, :3], bufferView=view)
    g.primitive["attributes"]["POSITION"] = number
    g.node.update(scale=[1 / 16000] * 3, translation=[-1, -1, -1])
    g.require("KHR_mesh_quantization")
    return POINTS


def normalised(kind):
    def build(g):
        full = np.iinfo(kind).max
        g.primitive["attributes"]["POSITION"] = g.add(
            np.round(POINTS * full).astype(kind), normalized=True
        )
        g.require("KHR_mesh_quantization")
        return np.round(POINTS * full) / full

    return build


def interleaved(g):
    view = g.view(np.column_stack([POINTS, UV]).astype(np.float32), byteStride=20)
    attributes = g.primitive["attributes"]
    attributes["POSITION"] = g.add(POINTS, bufferView=view)
    attributes["TEXCOORD_0"] = g.add(UV, bufferView=view, byteOffset=12)
    return POINTS


def sparse(with_base):
    def build(g):
        rows = np.flatnonzero(POINTS.any(1)) if not with_base else np.arange(0, len(POINTS), 3)
        base = POINTS.copy()
        base[rows] += 5
        changes = {
            "count": len(rows),
            "indices": {"bufferView": g.view(rows.astype(np.uint16)), "componentType": 5123},
            "values": {"bufferView": g.view(POINTS[rows])},
        }
        number = g.add(base, sparse=changes)
        if not with_base:
            del g.accessors[number]["bufferView"]
        g.primitive["attributes"]["POSITION"] = number
        return POINTS

    return build


def mirrored(g):
    """As a program writes it: triangles face outwards before the node mirrors them."""
    g.primitive["attributes"]["POSITION"] = g.add(MIRRORED)
    g.primitive["attributes"]["NORMAL"] = g.add(MIRRORED)
    g.primitive["indices"] = g.add(FACES[:, ::-1].ravel())
    g.node["scale"] = [-1, 1, 1]
    return POINTS


def mirrored_and_turned(g):
    """Triangles that were turned already face inwards in a viewer, and outwards here."""
    g.primitive["attributes"]["POSITION"] = g.add(MIRRORED)
    g.node["scale"] = [-1, 1, 1]
    return POINTS


def nested(g):
    """Translation, rotation and scale, below a matrix."""
    turn = QUARTER.as_quat().tolist()
    parent = matrix(2 * QUARTER.as_matrix(), [0, 5, 0])
    g.tree["nodes"] = [
        {"matrix": parent.T.ravel().tolist(), "children": [1]},
        {"mesh": 0, "translation": [1, 2, 3], "rotation": turn, "scale": [1, 2, 1]},
    ]
    child = matrix(QUARTER.as_matrix() * [1, 2, 1], [1, 2, 3])
    return POINTS @ (parent @ child)[:3, :3].T + (parent @ child)[:3, 3]


def skin_that_overrides_its_node(g):
    g.node.update(rotation=QUARTER.as_quat().tolist(), scale=[3, 1, 1])
    g.tree["nodes"].append({"name": "Head"})
    g.tree["scenes"][0]["nodes"] = [0, 1]
    g.skin([1], [np.eye(4)])
    return POINTS


def skin_in_another_pose(g):
    """The joint, which is not in the scene's list, turns the surface about its place."""
    g.tree["nodes"] += [{"translation": [0, 1, 0], "children": [2]}]
    g.tree["nodes"] += [{"rotation": QUARTER.as_quat().tolist()}]
    g.skin([2], [matrix(shift=[0, -1, 0])])
    return (POINTS - [0, 1, 0]) @ QUARTER.as_matrix().T + [0, 1, 0]


def skin_of_two_joints(g):
    """Half of each vertex follows a joint that moves by 2; weights are fractions of 255."""
    g.tree["nodes"] += [{}, {"translation": [0, 2, 0]}]
    numbers = np.tile(np.uint8([1, 0, 0, 0]), (len(POINTS), 1))
    weights = np.tile(np.uint8([127, 127, 0, 0]), (len(POINTS), 1))
    g.skin([1, 2], [np.eye(4)] * 2, numbers, weights)
    g.accessors[g.primitive["attributes"]["WEIGHTS_0"]]["normalized"] = True
    return POINTS + np.array([0, 1, 0])


def skin_that_scales(g):
    """A surface of fractions that the inverse bind matrix brings to its size, as gltfpack does."""
    g.primitive["attributes"]["POSITION"] = g.add((POINTS + 1) / 4)
    g.tree["nodes"].append({})
    g.skin([1], [matrix(4 * np.eye(3), [-1, -1, -1])])
    return POINTS


def skin_without_weights_somewhere(g):
    """A vertex of no joint follows the first, as in viewers."""
    g.tree["nodes"].append({"translation": [0, 0, 3]})
    none = np.zeros((len(POINTS), 4))
    g.skin([1], [np.eye(4)], none.astype(np.uint8), none)
    return POINTS + np.array([0, 0, 3])


def default_weights(g):
    g.morph(DOWN, DOWN * 3, weights=[1.0, 0.0])
    return POINTS + DOWN


def weights_without_targets(g):
    g.tree["meshes"][0]["weights"] = [1.0, 0.0]
    return POINTS


def weights_of_the_node(g):
    g.morph(DOWN, DOWN * 3, weights=[1.0, 0.0])
    g.node.update(weights=[0.0, 0.5], scale=[2, 2, 2])
    return 2 * (POINTS + 1.5 * DOWN)


def without_scene(g):
    del g.tree["scene"], g.tree["scenes"]
    return POINTS


def second_scene(g):
    g.tree["scenes"].insert(0, {"nodes": [1]})
    g.tree["nodes"].append({"mesh": 0, "translation": [9, 9, 9]})
    g.tree["scene"] = 1
    return POINTS


def camera_added_and_invisible_part(g):
    g.tree["cameras"] = [{"type": "perspective"}]
    part = {"mesh": 0, "extras": {"added_part": True}}
    invisible = {"mesh": 0, "extensions": {"KHR_node_visibility": {"visible": False}}}
    g.tree["nodes"] += [{"camera": 0}, part, invisible]
    g.tree["scenes"][0]["nodes"] = [0, 1, 2, 3]
    assert is_added_part(part) and not is_added_part({"extras": 3})
    return POINTS


def strip(g):
    """Rows of triangles, joined by triangles without area."""
    row = np.arange(SIDE)
    corners: list[int] = []
    for first in range(0, (SIDE - 1) * SIDE, SIDE):
        pairs = np.stack([first + SIDE + row, first + row], axis=1).ravel().tolist()
        corners += ([corners[-1], pairs[0]] if corners else []) + pairs
    g.primitive.update(mode=5, indices=g.add(np.uint16(corners)))
    return POINTS


def fans(g):
    """A fan of two triangles for each square."""
    square = FACES[: len(FACES) // 2, 0]
    corners = square[:, None] + np.array([0, 1, SIDE + 1, SIDE])
    first = dict(g.primitive, mode=6)
    g.tree["meshes"][0]["primitives"] = [
        {**first, "indices": g.add(np.uint32(four))} for four in corners
    ]
    return np.tile(POINTS, (len(square), 1))


def without_indices(g):
    del g.primitive["indices"]
    corners = POINTS[FACES.ravel()]
    g.primitive["attributes"]["POSITION"] = g.add(corners)
    return corners


def known_extensions(g):
    g.require("KHR_materials_unlit", "KHR_texture_basisu", "VRM", "VRMC_vrm", "KHR_lights_punctual")
    return POINTS


SURFACES = {
    build.__name__: build
    for build in (
        plain, quantised, interleaved, mirrored, mirrored_and_turned, nested, without_scene,
        second_scene, camera_added_and_invisible_part, strip, fans, without_indices, known_extensions,
        skin_that_overrides_its_node, skin_in_another_pose, skin_of_two_joints, skin_that_scales,
        skin_without_weights_somewhere, default_weights, weights_of_the_node,
        weights_without_targets,
    )
}  # fmt: skip
SURFACES |= {f"normalised {kind}": normalised(kind) for kind in ("i1", "i2")}
SURFACES |= {"sparse": sparse(True), "sparse without a base": sparse(False)}


def normals(vertices, faces):
    a, b, c = np.moveaxis(vertices[faces], 1, 0)
    return np.cross(b - a, c - a)


@pytest.mark.parametrize("name", SURFACES)
def test_a_surface_lies_where_a_viewer_shows_it(tmp_path, name):
    g = Gltf()
    expected = SURFACES[name](g)
    mesh = load_mesh(g.write(tmp_path / "a.glb"))
    np.testing.assert_allclose(mesh.vertices, expected, atol=1e-5)
    assert len(mesh.faces) == len(FACES) and not mesh.notes
    # Every triangle is there, and none is inside out.
    like_faces = (
        normals(expected, FACES) if len(expected) == len(POINTS) else normals(POINTS, FACES)
    )
    areas = np.sort(normals(mesh.vertices, mesh.faces), axis=0)
    np.testing.assert_allclose(areas, np.sort(like_faces, axis=0), atol=1e-4)


@pytest.mark.parametrize("name", ["a.vrm", "a.gltf", "beside.gltf", "named.gltf"])
def test_containers(tmp_path, name):
    uri = {"beside.gltf": "data.bin", "named.gltf": "the data.bin"}.get(name)
    path = Gltf().write(tmp_path / name, uri)
    if uri == "the data.bin":
        path.write_text(path.read_text("utf-8").replace("the data", "the%20data"), "utf-8")
    np.testing.assert_array_equal(load_mesh(path).vertices, POINTS)


def test_one_mesh_on_two_nodes(tmp_path):
    g = Gltf()
    g.tree["nodes"].append({"mesh": 0, "translation": [3, 0, 0]})
    g.tree["scenes"][0]["nodes"] = [1, 0]
    mesh = load_mesh(g.write(tmp_path / "a.glb"))
    np.testing.assert_array_equal(
        mesh.vertices, np.concatenate([POINTS, POINTS + np.array([3, 0, 0])])
    )
    np.testing.assert_array_equal(mesh.faces, np.concatenate([FACES, FACES + len(POINTS)]))


@pytest.mark.parametrize("name", ["a.glb", "a.gltf", "a.vrm"])
def test_an_animation_is_placed_like_the_mesh(tmp_path, name):
    """Morph targets of a skinned, quantised surface, with data beside the file."""
    g = Gltf((POINTS + 1) / 4)
    whole = np.round(DOWN * 127).astype(np.int8)
    target = g.add(np.column_stack([whole, whole[:, :1]]), normalized=True)
    g.accessors[target] |= {"type": "VEC3"}
    g.views[g.accessors[target]["bufferView"]]["byteStride"] = 4
    g.primitive["targets"] = [{"POSITION": target}]
    g.tree["nodes"].append({})
    g.skin([1], [matrix(4 * np.eye(3), [-1, -1, -1])])
    g.animate([0.0, 0.5, 1.0], [[0.0], [1.0], [0.5]])
    path = g.write(tmp_path / name, "a.bin" if name == "a.gltf" else None)
    animation = open_animation(path, 2)
    frames = np.concatenate(list(animation.chunks()))
    shown = np.array([0, 1, 0.5])[:, None, None] * (4 / 127 * whole)
    np.testing.assert_allclose(frames, POINTS + shown, atol=1e-5)
    np.testing.assert_allclose(animation.rest, load_mesh(path).vertices, atol=1e-6)
    np.testing.assert_array_equal(animation.faces, load_mesh(path).faces)


# ----------------------------------------------------------------------------------------- colours


def image(pixels, form="PNG", **options):
    with io.BytesIO() as buffer:
        Image.fromarray(np.uint8(pixels)).save(buffer, form, **options)
        return buffer.getvalue()


def shown_at(mesh, faces):
    """Colours (F, 3) of the middles of triangles, in the mesh's texture or vertex colours."""
    attributes = mesh.attributes
    if attributes.texture is None:
        return attributes.colours[mesh.faces[faces]].astype(float).mean(1)
    pixels = np.asarray(Image.open(io.BytesIO(attributes.texture)).convert("RGB")).astype(float)
    u, v = attributes.uv[attributes.uv_faces[faces]].mean(1).T
    height, width = pixels.shape[:2]
    column = (u % 1 * width).astype(int).clip(0, width - 1)
    row = ((1 - v) % 1 * height).astype(int).clip(0, height - 1)
    return pixels[row, column]


QUARTERS = np.zeros((64, 64, 3))  # red, green below it, blue to the right of red, grey
QUARTERS[:32, :32], QUARTERS[32:, :32] = (200, 40, 40), (40, 200, 40)
QUARTERS[:32, 32:], QUARTERS[32:, 32:] = (40, 40, 200), (128, 128, 128)
SKIN, GREEN = np.array([200, 60, 60]), np.array([0.1, 0.6, 0.1])
TRIANGLES = np.arange(0, len(FACES), 5)


def quarter_of(uv):
    """The colours of QUARTERS at (N, 2), v pointing down."""
    row, column = (uv[:, 1] % 1 * 64).astype(int), (uv[:, 0] % 1 * 64).astype(int)
    return QUARTERS[row, column]


MIDDLES = UV[FACES[TRIANGLES]].mean(1)  # of triangles, in the texture


def factor(g):
    g.tree["materials"] = [{"pbrMetallicRoughness": {"baseColorFactor": [*GREEN, 1]}}]
    g.primitive["material"] = 0
    return to_srgb(GREEN)


def vertex_colours(g):
    g.primitive["attributes"]["COLOR_0"] = g.add(np.tile([0.1, 0.1, 0.8], (len(POINTS), 1)))
    return to_srgb(np.array([0.1, 0.1, 0.8]))


def bytes_times_factor(g):
    factor(g)
    values = np.tile(np.uint8([51, 255, 51, 255]), (len(POINTS), 1))
    g.primitive["attributes"]["COLOR_0"] = g.add(values, normalized=True)
    return to_srgb(GREEN * [0.2, 1, 0.2])


def specular_glossiness(g):
    name = "KHR_materials_pbrSpecularGlossiness"
    g.tree["materials"] = [{"extensions": {name: {"diffuseFactor": [*GREEN, 1]}}}]
    g.primitive["material"] = 0
    return to_srgb(GREEN)


def texture(g):
    g.texture(image(QUARTERS))
    return quarter_of(MIDDLES)


def second_coordinates(g):
    g.texture(image(QUARTERS), texCoord=1)
    g.primitive["attributes"]["TEXCOORD_1"] = g.add(UV[:, ::-1])
    return quarter_of(MIDDLES[:, ::-1])


def webp(g):
    g.texture(image(QUARTERS, "WEBP", lossless=True), "image/webp", "EXT_texture_webp")
    g.require("EXT_texture_webp")
    return quarter_of(MIDDLES)


def transformed_texture(g):
    transform = {"offset": [0.0, 0.5], "scale": [0.5, 0.5], "rotation": np.pi / 2}
    g.texture(image(QUARTERS), extensions={"KHR_texture_transform": transform})
    # Turned clockwise where v points down: the image's top becomes its right side.
    u, v = (MIDDLES * 0.5).T
    return quarter_of(np.column_stack([v, 0.5 - u]))


def tinted_texture(g):
    colour = g.texture(image(QUARTERS))["pbrMetallicRoughness"]
    colour["baseColorFactor"] = [*GREEN, 1]
    return to_srgb(to_linear(quarter_of(MIDDLES)) * GREEN)


def texture_times_vertex_colours(g):
    g.texture(image(np.full((32, 32, 3), SKIN)))
    share = UV[:, :1] * 0.5 + 0.5
    g.primitive["attributes"]["COLOR_0"] = g.add(np.tile(share, (1, 3)).astype(np.float32))
    return to_srgb(to_linear(SKIN) * (MIDDLES[:, :1] * 0.5 + 0.5))


def clamped_texture(g):
    g.texture(image(QUARTERS))
    g.tree["samplers"] = [{"wrapS": 33071, "wrapT": 33648}]
    g.tree["textures"][0]["sampler"] = 0
    g.primitive["attributes"]["TEXCOORD_0"] = g.add(UV * 1.5)
    u, v = (MIDDLES * 1.5).T
    return quarter_of(np.column_stack([u.clip(0, 0.999), np.where(v < 1, v, 2 - v)]))


def tiled_texture(g):
    """Each of many repetitions."""
    colour = g.texture(image(QUARTERS))["pbrMetallicRoughness"]
    colour["baseColorFactor"] = [*GREEN, 1]
    g.primitive["attributes"]["TEXCOORD_0"] = g.add(UV * 12 - 3)
    return to_srgb(to_linear(quarter_of(MIDDLES * 12 - 3)) * GREEN)


COLOURS = {
    build.__name__: build
    for build in (
        factor, vertex_colours, bytes_times_factor, specular_glossiness, texture, webp,
        second_coordinates, transformed_texture, tinted_texture, texture_times_vertex_colours,
        clamped_texture, tiled_texture,
    )
}  # fmt: skip


@pytest.mark.parametrize("name", COLOURS)
def test_colours_are_those_of_a_viewer(tmp_path, name):
    g = Gltf()
    expected = COLOURS[name](g)
    mesh = load_mesh(g.write(tmp_path / "a.glb"))
    assert not mesh.notes
    off = np.abs(shown_at(mesh, TRIANGLES) - expected).max(1)
    assert np.median(off) <= 2 and (off < 30).mean() > 0.85  # others lie where colours meet


def test_a_mesh_without_colours_has_none(tmp_path):
    """It is painted; so is one whose material is white."""
    g = Gltf()
    assert load_mesh(g.write(tmp_path / "a.glb")).attributes is None
    g.tree["materials"] = [{"pbrMetallicRoughness": {"baseColorFactor": [1, 1, 1, 1]}}]
    g.primitive["material"] = 0
    g.primitive["attributes"]["COLOR_0"] = g.add(np.ones((len(POINTS), 4)))
    assert load_mesh(g.write(tmp_path / "a.glb")).attributes is None


def test_an_image_that_is_used_as_it_is_stays_so(tmp_path):
    g = Gltf()
    content = image(QUARTERS, "JPEG")
    g.texture(content, "image/jpeg")
    attributes = load_mesh(g.write(tmp_path / "a.glb")).attributes
    assert attributes.texture == content and len(attributes.uv) == len(POINTS)


def test_several_materials_share_one_texture(tmp_path):
    """Two images, one of them twice, a plain colour, and colours of vertices."""
    g = Gltf()
    g.texture(image(QUARTERS))
    first = dict(g.primitive)
    parts = [first, {**first, "material": 1}, {**first, "material": 2}, {**first, "material": 0}]
    g.tree["materials"] += [{}, {"pbrMetallicRoughness": {"baseColorFactor": [*GREEN, 1]}}]
    g.tree["materials"][1]["pbrMetallicRoughness"] = {"baseColorTexture": {"index": 1}}
    g.tree["images"].append({"bufferView": g.view(image(np.full((8, 8, 3), SKIN)))})
    g.tree["textures"].append({"source": 1})
    colours = g.add(np.tile([0.1, 0.1, 0.8], (len(POINTS), 1)))
    parts.append({"attributes": {**first["attributes"], "COLOR_0": colours}})
    parts[-1]["indices"] = first["indices"]
    g.tree["meshes"][0]["primitives"] = parts
    mesh = load_mesh(g.write(tmp_path / "a.glb"))
    expected = [quarter_of(MIDDLES), SKIN, to_srgb(GREEN), quarter_of(MIDDLES)]
    expected.append(to_srgb(np.array([0.1, 0.1, 0.8])))
    for number, colour in enumerate(expected):
        off = np.abs(shown_at(mesh, TRIANGLES + number * len(FACES)) - colour).max(1)
        assert np.median(off) <= 2 and (off < 30).mean() > 0.85
    assert mesh.attributes.uv.min() >= 0 and mesh.attributes.uv.max() <= 1


def test_textures_that_cannot_be_read_are_told(tmp_path):
    g = Gltf()
    g.texture(b"\xabKTX 20\xbb" + bytes(80), "image/ktx2", "KHR_texture_basisu")
    g.require("KHR_texture_basisu")
    mesh = load_mesh(g.write(tmp_path / "a.glb"))
    assert mesh.notes == ("textures in KTX2 (Basis Universal) are left out",)
    assert mesh.attributes.texture is None and mesh.attributes.uv is not None
    g.tree["textures"][0]["source"] = 1  # for programs that do not know the extension
    g.tree["images"].append({"bufferView": g.view(image(QUARTERS)), "mimeType": "image/png"})
    mesh = load_mesh(g.write(tmp_path / "a.glb"))
    assert not mesh.notes and mesh.attributes.texture == image(QUARTERS)
    g.tree["textures"][0]["source"] = 0
    assert load_mesh(g.write(tmp_path / "a.glb")).notes == (
        "textures in another form than PNG, JPEG or WebP are left out",
    )
    broken = Gltf()
    broken.texture(image(np.random.default_rng(0).integers(0, 255, (64, 64, 3)))[:3000])
    assert load_mesh(broken.write(tmp_path / "a.glb")).notes == (
        "textures that are damaged are left out",
    )


# ------------------------------------------------------------------------------------- compression

FEW = POINTS[::9]
DIRECTIONS = FEW / np.linalg.norm(FEW, axis=1, keepdims=True)


def test_streams_of_meshoptimizer():
    attributes = decode_meshopt(stream("attributes"), len(POINTS), 12, "ATTRIBUTES")
    assert attributes == POINTS.tobytes()
    indices = decode_meshopt(stream("indices"), FACES[::7].size, 4, "INDICES")
    assert indices == np.ascontiguousarray(FACES[::7]).tobytes()
    triangles = decode_meshopt(stream("triangles"), FACES.size, 2, "TRIANGLES")
    rolled = np.frombuffer(triangles, np.uint16).reshape(-1, 3)  # each may begin elsewhere
    assert {frozenset(t) for t in rolled.tolist()} == {frozenset(t) for t in FACES.tolist()}
    np.testing.assert_allclose(
        np.sort(normals(POINTS, rolled), axis=0), np.sort(normals(POINTS, FACES), axis=0)
    )
    scattered = np.frombuffer(decode_meshopt(stream("scattered"), 90, 4, "TRIANGLES"), np.uint32)
    expected = np.random.default_rng(0).integers(0, 60000, 90).reshape(-1, 3)
    assert {frozenset(t) for t in scattered.reshape(-1, 3).tolist()} == {
        frozenset(t) for t in expected.tolist()
    }


def test_filters_of_meshoptimizer():
    def filtered(name, stride, kind):
        content = decode_meshopt(stream(name), len(FEW), stride, "ATTRIBUTES", name.upper())
        return np.frombuffer(content, kind).reshape(len(FEW), -1)

    np.testing.assert_allclose(filtered("exponential", 12, "<f4"), FEW, atol=2e-3)
    octahedral = filtered("octahedral", 8, "<i2")[:, :3] / 32767
    np.testing.assert_allclose(octahedral, DIRECTIONS, atol=2e-3)
    turn = np.column_stack([DIRECTIONS * np.sin(0.3), np.full(len(FEW), np.cos(0.3))])
    np.testing.assert_allclose(filtered("quaternion", 8, "<i2") / 32767, turn, atol=2e-4)


def test_a_file_that_meshoptimizer_compressed(tmp_path):
    mesh = load_mesh(compressed().write(tmp_path / "a.glb"))
    np.testing.assert_array_equal(mesh.vertices, POINTS)
    np.testing.assert_allclose(
        np.sort(normals(mesh.vertices, mesh.faces), axis=0), np.sort(normals(POINTS, FACES), axis=0)
    )


def test_mutated_streams_are_refused_or_read():
    rng = np.random.default_rng(3)
    kinds = {
        "attributes": (len(POINTS), 12, "ATTRIBUTES"),
        "triangles": (FACES.size, 4, "TRIANGLES"),
        "indices": (FACES[::7].size, 4, "INDICES"),
        "scattered": (90, 4, "TRIANGLES"),
    }
    for name, (count, stride, mode) in kinds.items():
        for _ in range(150):
            content = bytearray(stream(name))
            for at in rng.integers(0, len(content), rng.integers(1, 5)):
                content[at] = rng.integers(0, 256)
            cut = len(content) if rng.random() < 0.5 else rng.integers(0, len(content))
            try:
                decoded = decode_meshopt(bytes(content[:cut]), count, stride, mode)
            except ValueError as error:
                assert "compressed" in str(error)
            else:
                assert len(decoded) == count * stride


def draco(points=POINTS, faces=FACES, **options):
    module = pytest.importorskip("DracoPy", reason="pip install 'talkemo[compressed]'")
    content = module.encode(
        points,
        faces,
        quantization_bits=16,
        generic_attributes={7: UV.astype(np.float32)},
        **options,
    )
    g = Gltf()
    about = {"POSITION": 1, "TEXCOORD_0": 7}
    decoded = module.decode(content)
    about["POSITION"] = next(a["unique_id"] for a in decoded.attributes if a["attribute_type"] == 0)
    g.primitive["attributes"]["TEXCOORD_0"] = g.add(UV)
    view = g.view(content)
    extension = {"bufferView": view, "attributes": about}
    g.primitive["extensions"] = {"KHR_draco_mesh_compression": extension}
    for accessor in g.accessors:  # their data are in the stream
        del accessor["bufferView"]
    g.require("KHR_draco_mesh_compression")
    return g


@pytest.mark.parametrize("preserve_order", [False, True])
def test_a_mesh_that_draco_compressed(tmp_path, preserve_order):
    g = draco(preserve_order=preserve_order)
    mesh = load_mesh(g.write(tmp_path / "a.glb"))
    assert len(mesh.vertices) == len(POINTS) and len(mesh.faces) == len(FACES)
    column, row = np.round((mesh.vertices[:, :2] + 0.75) * 8).astype(int).T
    assert len(set(row * SIDE + column)) == len(POINTS)
    np.testing.assert_allclose(mesh.vertices, POINTS[row * SIDE + column], atol=1e-4)
    uv = mesh.attributes.uv * [1, -1] + [0, 1]
    np.testing.assert_allclose(uv, (mesh.vertices[:, :2] + 0.75) / 1.5, atol=1e-3)


def test_what_draco_claims_is_checked(tmp_path):
    g = draco()
    for accessor in g.accessors:
        accessor["count"] = 12
    with pytest.raises(InputError, match="larger than the file says"):
        load_mesh(g.write(tmp_path / "a.glb"))


def test_draco_is_an_extra(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "DracoPy", None)
    g = Gltf()
    about = {"bufferView": 0, "attributes": {"POSITION": 0}}
    g.primitive["extensions"] = {"KHR_draco_mesh_compression": about}
    g.require("KHR_draco_mesh_compression")
    with pytest.raises(InputError, match="compressed by Draco, which needs DracoPy") as caught:
        load_mesh(g.write(tmp_path / "a.glb"))
    assert caught.value.hint.startswith("pip install ") and "compressed" in caught.value.hint


# ---------------------------------------------------------------------------------------- refusals


def nan_in_a_skin(g):
    g.tree["nodes"].append({})
    g.skin([1], [np.full((4, 4), np.nan)])


def nan_in_weights(g):
    g.tree["nodes"].append({})
    numbers = np.zeros((len(POINTS), 4), np.uint8)
    g.skin([1], [np.eye(4)], numbers, np.full((len(POINTS), 4), np.nan))


def unknown_joints(g):
    g.tree["nodes"].append({})
    numbers = np.full((len(POINTS), 4), 7, np.uint8)
    g.skin([1], [np.eye(4)], numbers, np.ones((len(POINTS), 4)))


def missing_joint(g):
    g.skin([8], [np.eye(4)])


def too_few_matrices(g):
    g.tree["nodes"] += [{}, {}]
    g.skin([1, 2], [np.eye(4)])


def long_view(g):
    g.views[0]["byteLength"] = 10**6


def long_accessor(g):
    g.accessors[0]["count"] = 10**4


def huge_unused_view(g):
    g.views.append({"buffer": 0, "byteOffset": 0, "byteLength": 1 << 40})


def huge_unused_buffer(g):
    g.tree["buffers"] = [{"byteLength": 10**9, "uri": "data:;base64,AAAA"}]


def far_unused_accessor(g):
    number = g.add(POINTS)
    g.accessors[number]["byteOffset"] = 10**7


def unused_sparse(g):
    number = g.add(POINTS)
    rows = {"bufferView": g.view(np.uint32([0])), "componentType": 5125, "byteOffset": 9999}
    values = {"bufferView": g.view(POINTS[:1])}
    g.accessors[number]["sparse"] = {"count": 1, "indices": rows, "values": values}


def unused_image(g):
    g.tree["images"] = [{"bufferView": 99, "mimeType": "image/png"}]


def negative_offset(g):
    g.views[0]["byteOffset"] = -4


def overlapping(g):
    g.views[0]["byteStride"] = 4


def huge_count(g):
    number = g.add(POINTS)
    g.accessors[number]["count"] = 1 << 40
    del g.accessors[number]["bufferView"]
    g.primitive["attributes"]["POSITION"] = number


def sparse_beyond(g):
    rows = {"bufferView": g.view(np.uint32([10**6])), "componentType": 5125}
    values = {"bufferView": g.view(POINTS[:1])}
    g.accessors[0]["sparse"] = {"count": 1, "indices": rows, "values": values}


def circle(g):
    g.tree["nodes"] = [{"children": [1]}, {"children": [2]}, {"mesh": 0, "children": [1]}]


def own_child(g):
    g.node["children"] = [0]


def missing_node(g):
    g.tree["scenes"][0]["nodes"] = [5]


def missing_scene(g):
    g.tree["scene"] = 3


def unknown_extension(g):
    g.require("EXT_mesh_gpu_instancing", "KHR_mesh_quantization")


def another_version(g):
    g.tree["asset"]["version"] = "1.0"


def out_of_the_folder(g):
    g.tree["buffers"] = [{"uri": "../a.bin", "byteLength": 4}]


def missing_bin(g):
    g.tree["buffers"] = [{"uri": "part 2.bin", "byteLength": 4}]


def points_only(g):
    g.primitive["mode"] = 0


def wrong_weights(g):
    g.morph(DOWN, weights=[1.0, 2.0])


def nan_positions(g):
    g.primitive["attributes"]["POSITION"] = g.add(np.full_like(POINTS, np.nan))


def index_beyond(g):
    g.primitive["indices"] = g.add(np.full(FACES.size, 999, np.uint16))


def no_rotation(g):
    g.node["rotation"] = [0, 0, 0, 0]


def no_colour(g):
    g.tree["materials"] = [{"pbrMetallicRoughness": {"baseColorFactor": [1]}}]
    g.primitive["material"] = 0


REFUSED = {
    nan_in_a_skin: "skin whose matrices contain NaN",
    nan_in_weights: "skin whose weights contain NaN",
    unknown_joints: "joints that do not exist",
    missing_joint: "has no nodes 8",
    too_few_matrices: "fewer matrices than joints",
    long_view: "buffer 0 is shorter than the data in it",
    long_accessor: "reaches beyond its data",
    negative_offset: "a negative length",
    huge_unused_view: "buffer 0 is shorter than the data in it",
    huge_unused_buffer: "buffer 1 claims 1000000000 bytes and has 3",
    far_unused_accessor: "reaches beyond its data",
    unused_sparse: "reaches beyond its data",
    unused_image: "it has no bufferViews 99",
    overlapping: "elements of an accessor overlap",
    huge_count: "more vertices|vertices and .* triangles|larger than any mesh",
    sparse_beyond: "out of bounds",
    circle: "not a tree",
    own_child: "in a circle",
    missing_node: "has no nodes 5",
    missing_scene: "has no scenes 3",
    unknown_extension: "it needs EXT_mesh_gpu_instancing, which is not supported",
    another_version: r"glTF of version 1\.0",
    out_of_the_folder: r"it needs the file \.\./a\.bin, which is not beside it",
    missing_bin: r"it needs the file part 2\.bin, which is not beside it",
    points_only: "no mesh of triangles",
    wrong_weights: "not as many as morph targets",
    nan_positions: "positions are out of range",
    index_beyond: "triangles are out of range",
    no_rotation: "no quaternion",
    no_colour: "colour of a material",
}


@pytest.mark.parametrize("change", REFUSED, ids=lambda change: change.__name__)
def test_a_broken_file_is_refused(tmp_path, change):
    (tmp_path / "a.bin").write_bytes(bytes(99))
    (tmp_path / "below").mkdir()
    g = Gltf()
    g.morph(DOWN, weights=[0.0])
    g.animate([0.0, 1.0], [[0.0], [1.0]])
    change(g)
    path = g.write(tmp_path / "below" / "a.glb")
    readers = [load_mesh] if change is no_colour else [load_mesh, open_animation]
    for read in readers:
        with pytest.raises(InputError, match=REFUSED[change]) as caught:
            read(path)
        assert "\n" not in caught.value.message and caught.value.hint
        assert caught.value.message.startswith(str(path))


@pytest.mark.parametrize(
    ("names", "kind"),
    [
        (("Wolf3D_Teeth", None, "Armature"), "teeth"),
        (("N00_000_00_EyeIris_00_EYE (Instance)", "Face", "Face"), "eyes"),
        ((None, "EyeLeft", "x"), "eyes"),
        (("Std_Eyelash", "CC_Base_Body", None), "lashes"),
        (("N00_000_00_FaceBrow_00_FACE", None, None), "brows"),
        (("skin", None, "CC_Base_Tongue"), "tongue"),
        (("Std_Eye_Occlusion_L", "CC_Base_EyeOcclusion", None), ""),
        (("eye_glasses", None, None), ""),
        (("Head_Teeth_Tongue", "Body", 3), ""),
        (("Eyewear", "Reyes", "Keyes"), ""),
        (("x" * 10**6, None, ["eyes"]), ""),
    ],
)
def test_names_of_parts(names, kind):
    assert kind_of_names(*names) == kind


def test_names_of_a_file_are_a_hint(tmp_path):
    g = Gltf()
    assert load_mesh(g.write(tmp_path / "a.glb")).attributes is None
    g.tree["meshes"] += [dict(g.tree["meshes"][0]), {}]
    g.tree["meshes"][1]["name"] = "CC_Base_Teeth"
    primitive = {**g.primitive, "material": 0}
    g.tree["meshes"][2] = {"primitives": [primitive], "name": "Hat"}
    g.tree["materials"] = [{"name": "Eyelashes"}]
    g.tree["nodes"] = [{"mesh": k} for k in range(3)]
    g.tree["scenes"][0]["nodes"] = [0, 1, 2]
    mesh = load_mesh(g.write(tmp_path / "a.glb"))
    count = len(POINTS)
    assert mesh.attributes.named.tolist() == [""] * count + ["teeth"] * count + ["lashes"] * count
    assert mesh.attributes.groups is None
    g.tree["nodes"][1:] = []
    g.tree["scenes"][0]["nodes"] = [0]
    g.tree["meshes"][0]["name"] = "Teeth"  # the whole mesh
    assert load_mesh(g.write(tmp_path / "a.glb")).attributes is None


@pytest.mark.parametrize("huge", [10**6, 1 << 40, 1 << 70])
def test_every_length_is_checked(tmp_path, huge):
    """Whether something uses the part or not."""
    source = Gltf()
    source.texture(base64.b64decode(PIXEL))
    source.add(POINTS)  # of nothing
    source.view(bytes(12))
    load_mesh(source.write(tmp_path / "a.glb"))
    places = [
        (kind, number, name)
        for kind in ("buffers", "bufferViews", "accessors")
        for number, item in enumerate(source.whole()[kind])
        for name in ("byteLength", "byteOffset", "count")
        if name in item or (kind, name) == ("accessors", "byteOffset")
    ]
    assert len(places) > 20
    for kind, number, name in places:
        tree = json.loads(json.dumps(source.whole()))
        tree[kind][number][name] = huge
        (tmp_path / "a.glb").write_bytes(glb_of(json.dumps(tree).encode(), source.block))
        with pytest.raises(InputError, match=r"shorter|beyond|larger|claims"):
            load_mesh(tmp_path / "a.glb")


def test_a_file_that_is_cut(tmp_path):
    path = Gltf().write(tmp_path / "a.glb")
    path.write_bytes(path.read_bytes()[:-99])
    with pytest.raises(InputError, match=r"it is cut: \d+ of \d+ bytes are there"):
        load_mesh(path)


def test_data_that_are_cut(tmp_path):
    content = bytearray(Gltf().glb()[:-40])
    content[8:12] = len(content).to_bytes(4, "little")  # the header agrees, the chunk does not
    (tmp_path / "a.glb").write_bytes(content)
    with pytest.raises(InputError, match=r"its data are cut: \d+ of \d+ bytes"):
        load_mesh(tmp_path / "a.glb")


def test_vertices_are_counted_before_they_are_read(tmp_path, monkeypatch):
    path = Gltf().write(tmp_path / "a.glb")
    monkeypatch.setattr(mesh_types, "MAX_MESH_VERTICES", 100)
    with pytest.raises(InputError, match=f"{len(POINTS)} vertices") as caught:
        load_mesh(path)
    assert "export the head alone" in caught.value.hint
    assert gltf_file.KNOWN_EXTENSIONS.isdisjoint({"EXT_mesh_gpu_instancing"})


def test_mutated_forms(tmp_path):
    """Skins, morph targets, colours and compressed data, with bytes and values changed."""
    forms = [compressed(), character(), Gltf()]
    default_weights(forms[2])
    bytes_times_factor(forms[2])
    strip(forms[2])
    contents = [g.glb() for g in forms]
    dice = fuzzing.random.Random(5)
    path = tmp_path / "b.glb"
    with fuzzing.limited(400 << 20):
        for number in range(90):
            path.write_bytes(fuzzing.mutate(contents[number % 3], dice))
            try:
                load_mesh(path)
            except InputError as error:
                assert "\n" not in error.message and "more memory" not in error.message
