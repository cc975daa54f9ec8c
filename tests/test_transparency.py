"""Opacity of textures: what is read of files, and what is seen through in each renderer."""

import base64
import io
import json
import os
import re
import subprocess
import sys

import numpy as np
import pytest
from browser import browser_command, drawing_options, needs_browser
from gltf_files import FACES, POINTS, UV, Gltf
from PIL import Image
from waiting import HANG_S

import talkemo
from talkemo import render
from talkemo.formats.appearance import Appearance
from talkemo.formats.mesh import load_mesh
from talkemo.formats.texture_atlas import to_srgb
from talkemo.pipelines.options import ExportOptions
from talkemo.render.appearance import appearance_of
from talkemo.render.software import SoftwareRenderer
from talkemo.render.textures import mesh_texture
from talkemo.render.transparency import draw_order
from talkemo.render.view import View, background_rows, frame_view

MIDDLES = UV[FACES].mean(1)  # of triangles, v pointing down


def png(pixels):
    with io.BytesIO() as buffer:
        Image.fromarray(np.uint8(pixels)).save(buffer, "PNG")
        return buffer.getvalue()


def rgba_at(mesh, faces=slice(None)):
    """RGB and alpha (F, 4) of the middles of triangles in a mesh's texture."""
    attributes = mesh.attributes
    pixels = np.asarray(Image.open(io.BytesIO(attributes.texture)).convert("RGBA")).astype(int)
    u, v = attributes.uv[attributes.uv_faces[faces]].mean(1).T
    height, width = pixels.shape[:2]
    return pixels[((1 - v) * height).astype(int), (u * width).astype(int)]


HALVES = np.full((32, 32, 4), (200, 40, 40, 255))  # its left is seen through
HALVES[:, :16, 3] = 100
LEFT = MIDDLES[:, 0] < 0.5
INSIDE = np.abs(MIDDLES[:, 0] - 0.5) > 0.1


@pytest.mark.parametrize(
    ("material", "left", "right"),
    [
        ({}, 255, 255),
        ({"alphaMode": "OPAQUE"}, 255, 255),
        ({"alphaMode": "BLEND"}, 100, 255),
        ({"alphaMode": "MASK"}, 0, 255),
        ({"alphaMode": "MASK", "alphaCutoff": 0.3}, 255, 255),
        ({"alphaMode": "BLEND", "factor": 0.5}, 50, 128),
        ({"extensions": {"KHR_materials_transmission": {"transmissionFactor": 0.8}}}, 20, 51),
    ],
)
def test_alpha_counts_as_the_material_says(tmp_path, material, left, right):
    g = Gltf()
    entry = g.texture(png(HALVES))
    material = dict(material)
    alpha = material.pop("factor", None)
    if alpha is not None:
        entry["pbrMetallicRoughness"]["baseColorFactor"] = [1, 1, 1, alpha]
    entry.update(material)
    mesh = load_mesh(g.write(tmp_path / "a.glb"))
    assert mesh.attributes.has_opacity == (min(left, right) < 255)
    if not mesh.attributes.has_opacity:
        return
    shown = rgba_at(mesh)
    expected = np.where(LEFT, left, right)
    assert np.abs(shown[INSIDE, 3] - expected[INSIDE]).max() <= 1
    assert np.abs(shown[INSIDE, :3] - [200, 40, 40]).max() <= 2  # under clear texels, too


def test_colours_of_vertices_have_alpha_and_need_no_texture(tmp_path):
    g = Gltf()
    g.primitive["attributes"]["COLOR_0"] = g.add(np.tile([0.2, 0.5, 1.0, 0.5], (len(POINTS), 1)))
    assert not load_mesh(g.write(tmp_path / "a.glb")).attributes.has_opacity
    g.tree["materials"] = [{"alphaMode": "BLEND"}]
    g.primitive["material"] = 0
    mesh = load_mesh(g.write(tmp_path / "a.glb"))
    assert mesh.attributes.has_opacity and (np.abs(rgba_at(mesh)[:, 3] - 128) <= 1).all()


def test_colours_of_vertices_are_smooth_beside_a_texture(tmp_path):
    g = Gltf()
    first = dict(g.primitive)
    g.texture(png(np.full((16, 16, 3), (200, 40, 40))))
    shades = np.column_stack([UV[:, 0], UV[:, 0], UV[:, 0]]).astype(np.float32)
    colours = {**first["attributes"], "COLOR_0": g.add(shades)}
    g.tree["meshes"][0]["primitives"].append({**first, "attributes": colours})
    attributes = load_mesh(g.write(tmp_path / "a.glb")).attributes
    pixels = np.asarray(Image.open(io.BytesIO(attributes.texture)))
    corners = attributes.uv[attributes.uv_faces[len(FACES) :]] * [1, -1] + [0, 1]
    column, row = np.moveaxis((corners * pixels.shape[1::-1]).astype(int), -1, 0)
    assert not attributes.has_opacity
    assert np.abs(pixels[row, column].astype(int) - to_srgb(shades)[FACES]).max() <= 1
    assert np.abs(rgba_at(load_mesh(tmp_path / "a.glb"), slice(len(FACES)))[:, 0] - 200).max() <= 1


def obj_with_materials(folder, library):
    """The surface as an OBJ: its left half is of material `a`, then `b`."""
    order = np.argsort(~LEFT, kind="stable")
    lines = ["mtllib m.mtl", *(f"v {x} {y} {z}" for x, y, z in POINTS)]
    lines += [f"vt {u} {1 - v}" for u, v in UV]
    for name, faces in (("a", FACES[order[: LEFT.sum()]]), ("b", FACES[order[LEFT.sum() :]])):
        lines.append(f"usemtl {name}")
        lines += [" ".join(["f", *(f"{k + 1}/{k + 1}" for k in face)]) for face in faces]
    (folder / "a.obj").write_text("\n".join(lines))
    (folder / "m.mtl").write_text(library)
    (folder / "red.png").write_bytes(png(np.full((64, 64, 3), (200, 40, 40))))
    (folder / "blue.png").write_bytes(png(np.full((16, 16, 3), (40, 40, 200))))
    (folder / "grey.png").write_bytes(png(np.full((8, 8), 64)))
    return load_mesh(folder / "a.obj"), slice(LEFT.sum()), slice(LEFT.sum(), None)


def test_an_obj_shows_all_its_materials(tmp_path):
    mesh, a, b = obj_with_materials(
        tmp_path, "newmtl a\nmap_Kd red.png\nnewmtl b\nmap_Kd blue.png\n"
    )
    assert not mesh.attributes.has_opacity and set(mesh.attributes.companions) == {
        "m.mtl",
        "red.png",
        "blue.png",
    }
    assert np.abs(rgba_at(mesh, a)[:, :3] - [200, 40, 40]).max() <= 1
    assert np.abs(rgba_at(mesh, b)[:, :3] - [40, 40, 200]).max() <= 1
    mesh, a, b = obj_with_materials(tmp_path, "newmtl a\nmap_Kd red.png\nnewmtl b\nKd 0 1 0\n")
    assert np.abs(rgba_at(mesh, b)[:, :3] - [0, 255, 0]).max() <= 1
    content = (tmp_path / "red.png").read_bytes()
    mesh, *_ = obj_with_materials(
        tmp_path, "newmtl a\nmap_Kd red.png\nnewmtl b\nmap_Kd red.png\nKd 0.8 0.8 0.8\n"
    )
    assert mesh.attributes.texture == content  # as it is


def test_an_obj_s_opacity_is_that_of_its_materials(tmp_path):
    mesh, a, b = obj_with_materials(
        tmp_path, "newmtl a\nmap_Kd red.png\nmap_d grey.png\nnewmtl b\nmap_Kd red.png\nd 0.5\n"
    )
    assert mesh.attributes.has_opacity
    assert np.abs(rgba_at(mesh, a)[:, 3] - 64).max() <= 1
    assert np.abs(rgba_at(mesh, b)[:, 3] - 128).max() <= 1
    for opaque in ("d 1", "d 0", "Tr 1", "d none", "map_d missing.png"):
        library = f"newmtl a\nmap_Kd red.png\n{opaque}\nnewmtl b\nmap_Kd red.png\n"
        assert not obj_with_materials(tmp_path, library)[0].attributes.has_opacity


# --------------------------------------------------------------------------------------- drawing

SIZE = 64
GREEN, BLUE = (30, 220, 30), (30, 30, 220)


def cards(*layers):
    """An appearance of squares over the whole view: pairs of depth and texture (8, 8, 4)."""
    texture = np.concatenate([np.uint8(pixels) for _, pixels in layers], axis=1)
    square = np.array([[-1, 1], [1, 1], [-1, -1], [1, -1]]) * 2.0
    points = np.concatenate([np.column_stack([square, np.full(4, z)]) for z, _ in layers])
    texels = [[1, 1], [6, 1], [1, 6], [6, 6]]
    place = np.concatenate([np.add(texels, [8 * k, 0]) for k in range(len(layers))])
    faces = np.concatenate([np.add([[0, 2, 1], [1, 2, 3]], 4 * k) for k in range(len(layers))])
    return points, Appearance(
        faces.astype(np.int32),
        np.arange(len(points)),
        place.astype(np.float32),
        np.ascontiguousarray(texture[..., :3]),
        len(points),
        opacity=np.ascontiguousarray(texture[..., 3]),
    )


def card(colour, left=255, right=255):
    """A texture (8, 8, 4) with an opacity for each of its halves."""
    pixels = np.full((8, 8, 4), (*colour, left))
    pixels[:, 4:, 3] = right
    return pixels


VIEW = View(np.zeros(3), 1.0, 7.0, 0.0, np.eye(3))


def drawn(*layers):
    """The colours in the middle of the left and the right half."""
    points, appearance = cards(*layers)
    renderer = SoftwareRenderer(appearance, VIEW, (SIZE, SIZE))
    image = renderer.draw(points).astype(float)
    renderer.close()
    return image[SIZE // 2, SIZE // 4], image[SIZE // 2, 3 * SIZE // 4]


def test_behind_a_hole_lies_what_is_behind_it():
    behind = drawn((0, card(BLUE)))
    before = drawn((0, card(GREEN)))
    left, right = drawn((0, card(BLUE)), (0.1, card(GREEN, 0, 255)))
    assert np.abs(left - behind[0]).max() <= 2 and np.abs(right - before[1]).max() <= 4
    left, right = drawn((0.1, card(GREEN, 0, 0)))
    assert (left == background_rows(SIZE)[SIZE // 2].astype(int)).all() and (left == right).all()


def test_veils_are_blended_from_back_to_front():
    far, middle, near = (0, card(BLUE)), (0.1, card(GREEN, 128, 255)), (0.2, card(BLUE, 64, 64))
    alone = [drawn((z, pixels[..., :3].tolist() and card(pixels[0, 0, :3]))) for z, pixels in (
        far, middle, near)]  # fmt: skip
    expected = alone[0][0] + 128 / 255 * (alone[1][0] - alone[0][0])
    expected += 64 / 255 * (alone[2][0] - expected)
    for order in ((far, middle, near), (near, middle, far), (middle, near, far)):
        left, right = drawn(*order)
        assert np.abs(left - expected).max() <= 4
        over_green = alone[1][1] + 64 / 255 * (alone[2][1] - alone[1][1])
        assert np.abs(right - over_green).max() <= 4
    # What lies behind something opaque is not seen.
    assert np.abs(drawn((0.3, card(BLUE)), near)[0] - drawn((0.3, card(BLUE)))[0]).max() <= 1


def test_cards_are_lit_alike_from_both_sides():
    points, appearance = cards((0, card(GREEN, 200, 0)), (0, card(GREEN, 255, 0)))
    for first, last in ((0, 2), (2, 4)):
        images = []
        for turned in (1, -1):
            faces = appearance.faces[first:last, ::turned]
            one = Appearance(
                np.ascontiguousarray(faces),
                *(appearance.vertex, appearance.place, appearance.texture, len(points)),
                opacity=appearance.opacity,
            )
            renderer = SoftwareRenderer(one, VIEW, (SIZE, SIZE))
            images.append(renderer.draw(points)[SIZE // 2, SIZE // 4].astype(int))
            renderer.close()
        assert np.abs(images[0] - images[1]).max() <= 1


def test_triangles_are_drawn_in_order_of_their_opacity():
    layers = [(0, card(GREEN, 0, 0)), (0, card(GREEN, 0, 255)), (0, card(GREEN))]
    layers.append((0, card(GREEN, 99, 255)))
    _, appearance = cards(*layers)
    order = draw_order(appearance)
    numbers = order.faces[:, 0] // 4
    assert set(numbers[: order.solid]) == {2} and set(numbers[order.solid : order.cut]) == {1}
    assert set(numbers[order.cut :]) == {3} and len(numbers) == 6


def test_gl_sees_through_what_the_software_renderer_does(tmp_path):
    platform = render.gl_library()
    if platform is None:
        pytest.skip("neither EGL nor OSMesa on this machine")
    script = (
        "import sys, numpy as np\n"
        f"sys.path.insert(0, {os.path.dirname(__file__)!r})\n"
        "import test_transparency as t\n"
        "from talkemo.render.gl import GLRenderer\n"
        "layers = [(0.2, t.card(t.BLUE, 64, 64)), (0, t.card(t.BLUE)), (.1, t.card(t.GREEN, 128, 0))]\n"
        f"both = [t.cards(*layers), t.cards(layers[0])]\n"
        f"images = [GLRenderer(a, t.VIEW, (64, 64), {platform!r}).draw(p) for p, a in both]\n"
        "np.save(sys.argv[1], images)\n"
    )
    path = tmp_path / "gl.npy"
    done = subprocess.run(
        [sys.executable, "-c", script, str(path)], capture_output=True, text=True, timeout=HANG_S
    )
    assert done.returncode == 0, done.stderr
    three, one = np.load(path).astype(float)
    layers = [(0.2, card(BLUE, 64, 64)), (0, card(BLUE)), (0.1, card(GREEN, 128, 0))]
    for image, expected in ((three, drawn(*layers)), (one, drawn(layers[0]))):
        for column, colour in zip((SIZE // 4, 3 * SIZE // 4), expected):
            assert np.abs(image[SIZE // 2, column] - colour).max() <= 6


# -------------------------------------------------------------------------------------- on a head


def head_with_a_card(path, example_face, skin, body=0):
    """Write the example face, textured, with a card before its forehead; and textures of a body."""
    mesh = load_mesh(example_face)
    low, high = mesh.vertices.min(0), mesh.vertices.max(0)
    uv = ((mesh.vertices - low) / (high - low))[:, :2] * [1, -1] + [0, 1]
    g = Gltf(mesh.vertices.astype(np.float32), mesh.faces)
    g.primitive["attributes"]["TEXCOORD_0"] = g.add(uv.astype(np.float32))
    g.texture(skin)
    primitives = g.tree["meshes"][0]["primitives"]
    width, height, depth = high - low

    def add(content, corners, **material):
        g.tree["images"].append({"bufferView": g.view(content), "mimeType": "image/png"})
        g.tree["textures"].append({"source": len(g.tree["images"]) - 1})
        colour = {"baseColorTexture": {"index": len(g.tree["textures"]) - 1}}
        g.tree["materials"].append({"pbrMetallicRoughness": colour, **material})
        square = np.array([[0, 0], [1, 0], [0, 1], [1, 1]], np.float32)
        attributes = {"POSITION": g.add(np.float32(corners)), "TEXCOORD_0": g.add(square)}
        faces = g.add(np.array([0, 2, 1, 1, 2, 3], np.uint32))
        number = len(g.tree["materials"]) - 1
        primitives.append({"attributes": attributes, "indices": faces, "material": number})

    left, right = low[0] + 0.3 * width, low[0] + 0.7 * width
    top, bottom, z = high[1] - 0.05 * height, high[1] - 0.2 * height, high[2] + 0.2 * depth
    square = [[left, top, z], [right, top, z], [left, bottom, z], [right, bottom, z]]
    add(png(card(GREEN, 0, 255)), square, alphaMode="MASK")
    for k in range(body):
        content = png(np.random.default_rng(k).integers(0, 255, (512, 512, 3)))
        y = low[1] - (2 + k) * height
        add(content, [[left, y, 0], [right, y, 0], [left, y - height, 0], [right, y - height, 0]])
    return g.write(path)


@pytest.fixture(scope="module")
def carded(tmp_path_factory, example_face):
    path = tmp_path_factory.mktemp("card") / "head.glb"
    return head_with_a_card(path, example_face, png(np.full((64, 64, 3), (210, 150, 120))))


def test_skin_is_seen_through_a_card(carded, models):
    binding = talkemo.bind(carded, models=models).shown
    appearance = appearance_of(binding)
    assert appearance.opacity is not None and len(draw_order(appearance).faces) > 1000
    camera = frame_view(binding.rest, binding.focus, "front", binding.placement.rotation)
    renderer = SoftwareRenderer(appearance, camera, (256, 256))
    image = renderer.draw(binding.rest).astype(int)
    renderer.close()
    corners = camera.to_pixels(camera.to_camera(binding.rest[-4:]), 256, 256)[:, :2]
    for share, is_green in ((0.25, False), (0.75, True)):
        column, row = (corners[0] + share * (corners[1] - corners[0])).astype(int)
        row = int(corners[[0, 2], 1].mean())
        red, green, _ = image[row, column]
        assert (green > 2 * red) == is_green


@pytest.fixture(scope="module")
def written(carded, tmp_path_factory, models, short_speech):
    """A page and a GLB of the head."""
    page = tmp_path_factory.mktemp("page") / "a.html"
    options = {"head": "off", "fps": 5, "models": models}
    talkemo.animate(carded, short_speech, [page, page.with_suffix(".glb")], **options)
    return page


def test_a_glb_cuts_out_what_is_transparent(written, carded, tmp_path, models, short_speech):
    baked = tmp_path / "a.glb"
    export = ExportOptions(bake=True)
    talkemo.animate(carded, short_speech, baked, fps=5, export=export, models=models)
    assert _materials(baked)[0]["alphaMode"] == "MASK"
    kept = _materials(written.with_suffix(".glb"))  # the file, as it was
    assert "MASK" in {material.get("alphaMode") for material in kept}


def _materials(path):
    content = path.read_bytes()
    length = int.from_bytes(content[12:16], "little")
    return json.loads(content[20 : 20 + length])["materials"]


@needs_browser
def test_a_page_shows_skin_through_a_card(written, tmp_path):
    found = re.search(r'type="application/json">(.*?)</script>', written.read_text(), re.DOTALL)
    data = json.loads(found[1])
    skin = Image.open(io.BytesIO(base64.b64decode(data["skin"].partition(",")[2])))
    assert skin.mode == "RGBA" and data["opaque"][0] < len(base64.b64decode(data["faces"])) // 12
    command = browser_command(
        tmp_path / "profile",
        *drawing_options(500, 460),
        "--virtual-time-budget=1500",
        f"--screenshot={tmp_path / 'a.png'}",
        f"{written.as_uri()}#t=0&neutral",
    )
    subprocess.run(command, capture_output=True, timeout=HANG_S, check=True)
    image = np.array(Image.open(tmp_path / "a.png").convert("RGB")).astype(int)
    green = image[..., 1] > 2 * image[..., 0]
    rows, columns = np.nonzero(green)
    top, bottom, left, right = rows.min(), rows.max(), columns.min(), columns.max()
    assert green[top : bottom + 1, left : right + 1].mean() > 0.95
    beside = image[top + 3 : bottom - 3, 2 * left - right + 8 : left - 8]
    assert (beside[..., 0] > beside[..., 2] + 20).mean() > 0.9  # skin, under the clear half


def test_the_face_keeps_its_resolution_beside_other_textures(
    tmp_path, example_face, models, monkeypatch
):
    from talkemo.formats import texture_atlas

    monkeypatch.setattr(texture_atlas, "PACKED_PIXELS", 720)
    skin = np.random.default_rng(0).integers(100, 200, (512, 512, 3))
    path = head_with_a_card(tmp_path / "a.glb", example_face, png(skin), body=5)
    mesh = load_mesh(path)
    assert min(placement.scale for placement in mesh.attributes.tiles) < 0.6
    faces = len(load_mesh(example_face).faces)
    ranks = np.full(len(mesh.faces), 2)
    sizes = []
    for face_rank in (2, 0):
        ranks[:faces] = face_rank
        texture, texels = mesh_texture(mesh.attributes, ranks)
        assert max(texture.shape[:2]) <= 720
        assert (texels >= 0).all() and (texels <= texture.shape[1::-1]).all()
        sizes.append(np.ptp(texels[:faces].reshape(-1, 2), axis=0).max())
    assert sizes[0] < 0.6 * 512 and sizes[1] > 0.98 * 512
    column, row = texels[:faces].mean(1).astype(int).T  # of the last texture
    shown = texture[row, column, :3].astype(int)
    own = load_mesh(example_face).vertices[mesh.faces[:faces]].mean(1)
    low, high = (f(load_mesh(example_face).vertices[:, :2], axis=0) for f in (np.min, np.max))
    place = ((own[:, :2] - low) / (high - low) * [1, -1] + [0, 1]) * 512
    expected = skin[place[:, 1].astype(int).clip(0, 511), place[:, 0].astype(int).clip(0, 511)]
    assert np.median(np.abs(shown - expected).max(1)) <= 1
