"""Reading meshes: texture, groups and materials are kept in the files that are written."""

import imageio.v3 as imageio
import numpy as np
import pygltflib
import pytest
import trimesh

from talkemo import InputError, animate, transfer
from talkemo.formats import mesh_types, obj
from talkemo.formats.mesh import as_mesh, load_mesh
from talkemo.formats.registry import open_animation


@pytest.fixture(scope="module")
def painted(tmp_path_factory, example_face):
    """The example as an OBJ with quads, groups, normals, and a texture that has a seam."""
    folder = tmp_path_factory.mktemp("painted")
    mesh = load_mesh(example_face)
    imageio.imwrite(folder / "skin.png", np.full((8, 8, 3), 200, np.uint8))
    (folder / "head.mtl").write_text(
        "newmtl skin\nKd 1 1 1\nmap_Kd skin.png\nmap_Bump ../../secret.png\n"
    )
    lines = ["# a face", "mtllib head.mtl", "o Head"]
    lines += [f"v {x:.6f} {y:.6f} {z:.6f}" for x, y, z in mesh.vertices]
    uv = (mesh.vertices[:, :2] - mesh.vertices[:, :2].min(0)) / np.ptp(mesh.vertices[:, :2], axis=0)
    lines += (
        [f"vt {u:.5f} {v:.5f}" for u, v in uv]
        + [f"vt {u + 0.001:.5f} {v:.5f}" for u, v in uv]
        + ["vn 0 0 1"]
    )
    count = len(uv)
    quads, triangles = paired(mesh.faces)
    lines += ["g left", "usemtl skin", "s 1"]
    lines += ["f " + " ".join(f"{k + 1}/{k + 1}/1" for k in quad) for quad in quads]
    lines += ["g right"] + [
        "f " + " ".join(f"{k + 1}/{k + 1 + count}/1" for k in t) for t in triangles
    ]
    (folder / "head.obj").write_text("\n".join(lines) + "\n")
    return folder / "head.obj"


def paired(faces):
    """Triangles (F, 3) as some quads, and the triangles that are left."""
    quads, used, sides = [], set(), {}
    for number, (a, b, c) in enumerate(faces[:6000].tolist()):
        for i, j, k in ((a, b, c), (b, c, a), (c, a, b)):
            neighbour = sides.get((j, i))
            if neighbour and neighbour[0] not in used and number not in used:
                used |= {neighbour[0], number}
                quads.append([i, neighbour[1], j, k])
            sides[i, j] = (number, k)
    return quads, [face for number, face in enumerate(faces.tolist()) if number not in used]


def test_an_obj_is_read_with_its_texture(painted, example_face):
    mesh = load_mesh(painted)
    assert mesh.faces.shape == load_mesh(example_face).faces.shape
    assert (
        mesh.attributes.uv_faces.shape == mesh.faces.shape
        and mesh.attributes.texture.startswith(b"\x89PNG")
    )
    # A path out of the mesh's folder is not followed.
    assert sorted(mesh.attributes.companions) == ["head.mtl", "skin.png"]


FACES = {  # the i-th vertex → a line
    "triangles": "f {0} {1} {2}",
    "quads with normals": "f {0}//1 {1}//1 {2}//1 {3}//1",
    "pentagons with texture coordinates": "f {0}/{0} {1}/{1} {2}/{2} {3}/{3} {4}/1 ",
    "all of a corner": "f {0}/{1}/1 {1}/{2}/1 {2}/{3}/2",
    "some of another kind": "f {0} {1} {2}\nf {1}/1 {2}/1 {0}/1",
    "counted backwards": "f -{0} -{1} -{2}",
    "double spaces": "f  {0}  {1} {2}",
}


@pytest.mark.parametrize("form", FACES)
@pytest.mark.parametrize("more", ["", " 0.5 0.25 1", " # a remark"])
def test_obj_lines_are_read_the_same_in_runs_and_one_by_one(form, more, tmp_path, monkeypatch):
    position = lambda k: f"{np.cos(k):.3f} {k * 0.37:.4g} {np.sin(k) * 3:.2e}"
    lines = (
        [f"v {position(k)}{more}" for k in range(1, 61)]
        + [f"vt {k / 60} 0.5 0" for k in range(60)]
        + ["vn 0 0 1"] * 60
    )
    lines += [FACES[form].format(*(k + i for i in range(5))) for k in range(1, 56)] * 2
    lines += [f"v {position(k)}{more}" for k in range(61, 71)] + [
        FACES[form].format(61, 62, 63, 64, 65)
    ] * 30
    (tmp_path / "a.obj").write_text("\n".join(lines))
    as_runs = load_mesh(tmp_path / "a.obj")
    monkeypatch.setattr(obj, "OBJ_BLOCK_CHARACTERS", 1)  # each line is a block of its own
    line_by_line = load_mesh(tmp_path / "a.obj")
    for name in ("vertices", "faces"):
        assert getattr(as_runs, name).tolist() == getattr(line_by_line, name).tolist()
    assert as_runs.vertices.shape == (70, 3) and len(as_runs.faces) >= 140
    ours, theirs = as_runs.attributes, line_by_line.attributes
    assert ours.text == theirs.text
    for name in ("uv", "uv_faces", "colours"):
        first, second = getattr(ours, name), getattr(theirs, name)
        assert (first is None) == (second is None) and (
            first is None or first.tolist() == second.tolist()
        ), name
    assert (ours.colours is not None) == (more == " 0.5 0.25 1")


def test_frames_as_obj_keep_polygons_groups_and_materials(painted, short_speech, tmp_path):
    animate(painted, short_speech, [tmp_path / "frames"], fps=4)
    frame = tmp_path / "frames" / "000003.obj"
    before = [
        line for line in painted.read_text().splitlines() if not line.startswith(("v ", "vn", "#"))
    ]
    after = [line for line in frame.read_text().splitlines() if not line.startswith("v ")]
    assert after == [
        line.replace("/1 ", " ").removesuffix("/1") if line.startswith("f") else line
        for line in before
    ]
    assert {"head.mtl", "skin.png"} <= {path.name for path in frame.parent.iterdir()}
    source, moved = load_mesh(painted), load_mesh(frame)
    np.testing.assert_array_equal(moved.faces, source.faces)
    assert 0.5 < np.abs(moved.vertices - source.vertices).max() < 40
    transfer(tmp_path / "frames", [tmp_path / "happy"], emotion="happy", fps=4)
    again = [
        line
        for line in (tmp_path / "happy" / "000003.obj").read_text().splitlines()
        if not line.startswith("v ")
    ]
    assert again == after


def test_a_glb_contains_the_texture_and_restores_the_vertices(painted, short_speech, tmp_path):
    animate(painted, short_speech, [tmp_path / "a.glb", tmp_path / "a.npz"], fps=8)
    glb = pygltflib.GLTF2().load(str(tmp_path / "a.glb"))
    primitive = glb.meshes[0].primitives[0]
    mesh = load_mesh(painted)
    assert glb.accessors[primitive.attributes.POSITION].count > len(
        mesh.vertices
    )  # split along the seam
    assert glb.accessors[primitive.attributes.TEXCOORD_0].type == "VEC2"
    assert glb.images[0].mimeType == "image/png" and primitive.material == 0
    read = open_animation(tmp_path / "a.glb", 8)
    np.testing.assert_allclose(read.rest, mesh.vertices, atol=1e-4)
    np.testing.assert_array_equal(read.faces, mesh.faces)
    frames, exact = (
        np.concatenate(list(read.chunks())),
        open_animation(tmp_path / "a.npz").vertices(),
    )
    assert np.linalg.norm(frames[: len(exact)] - exact, axis=2).mean() < 0.5


def test_usd_contains_texture_coordinates(painted, short_speech, tmp_path):
    Usd, UsdGeom = pytest.importorskip("pxr.Usd"), pytest.importorskip("pxr.UsdGeom")
    animate(painted, short_speech, [tmp_path / "a.usda"], fps=4)
    stage = Usd.Stage.Open(str(tmp_path / "a.usda"))
    st = UsdGeom.PrimvarsAPI(stage.GetPrimAtPath("/face/mesh")).GetPrimvar("st")
    mesh = load_mesh(painted)
    flat = np.array(st.ComputeFlattened())
    np.testing.assert_allclose(
        flat, mesh.attributes.uv[mesh.attributes.uv_faces.ravel()], atol=1e-5
    )


def test_a_material_file_named_like_a_frame_is_renamed(painted, short_speech, tmp_path):
    folder = tmp_path / "mesh"
    folder.mkdir()
    library = "newmtl skin\nmap_Kd skin.png\nmap_Bump 000002.obj\n"
    for name in ("000000.obj", "materials0.mtl"):
        (folder / name).write_text(library)
    (folder / "000002.obj").write_text("an image, by its name")
    (folder / "skin.png").write_bytes((painted.parent / "skin.png").read_bytes())
    text = painted.read_text().replace(
        "mtllib head.mtl", "mtllib materials0.mtl\nmtllib ./000000.obj"
    )
    (folder / "head.obj").write_text(text)
    animate(folder / "head.obj", short_speech, [tmp_path / "frames"], fps=2)
    names = sorted(path.name for path in (tmp_path / "frames").iterdir())
    assert names == [
        "000000.obj",
        "000001.obj",
        "000002.obj",
        "materials0.mtl",
        "materials1.mtl",
        "skin.png",
    ]
    lines = (tmp_path / "frames" / "000000.obj").read_text().splitlines()
    assert [line for line in lines if line.startswith("mtllib")] == [
        "mtllib materials0.mtl",
        "mtllib materials1.mtl",
    ]
    assert (tmp_path / "frames" / "materials1.mtl").read_text() == library
    vertices = load_mesh(tmp_path / "frames" / "000000.obj").vertices
    np.testing.assert_allclose(vertices, load_mesh(painted).vertices, atol=5)


def test_unreadable_materials_are_left_out(painted, short_speech, tmp_path):
    (tmp_path / "loop.mtl").symlink_to("loop.mtl")
    (tmp_path / "head.obj").write_text(painted.read_text().replace("head.mtl", "loop.mtl"))
    mesh = load_mesh(tmp_path / "head.obj")
    assert (
        mesh.attributes.texture is None
        and mesh.attributes.companions == {}
        and mesh.attributes.uv is not None
    )
    animate(tmp_path / "head.obj", short_speech, [tmp_path / "frames"], fps=2)
    assert all(path.suffix == ".obj" for path in (tmp_path / "frames").iterdir())


def test_malformed_obj_lines_are_named_in_the_error(painted, tmp_path):
    text = painted.read_text()
    for changed in ("mtllib\n" + text, "vt nan inf\n" + text):
        (tmp_path / "a.obj").write_text(changed)
        assert np.isfinite(load_mesh(tmp_path / "a.obj").attributes.uv).all()
    for line in (
        "v 1 2",
        "v a b c",
        "f 1 2 x",
        "vt x y",
        "f 1 2 99999999999999",
        "v 1 2 " + "3" * 300,
    ):
        (tmp_path / "a.obj").write_text(f"{text}{line}\n")
        with pytest.raises(InputError, match=rf"line {len(text.splitlines()) + 1} \('{line[:20]}"):
            load_mesh(tmp_path / "a.obj")


def test_meshes_without_a_surface_are_refused(tmp_path, recwarn):
    rng = np.random.default_rng(0)
    vertices, faces = rng.random((60, 3)), np.arange(600).reshape(200, 3) % 60
    corner = faces[:, [0, 1, 1]]
    for points, triangles, reason in (
        (np.ones((60, 3)), faces, "in one place"),
        (vertices * 1e-12, faces, "in one place"),
        (vertices * [1, 1, 0], faces, "flat"),
        (vertices, corner, "no area"),
        (vertices * 1e13, faces, "coordinates of up to 1e"),
        (vertices * 1e300, faces, "coordinates of up to 1e"),
        (vertices, faces[:50], "too few"),
        (
            np.where(np.arange(60)[:, None] == 7, np.nan, vertices),
            faces,
            "NaN or infinity, 1 of them",
        ),
        (
            np.where(np.arange(60)[:, None] == 7, np.inf, vertices),
            faces,
            "NaN or infinity, 1 of them",
        ),
    ):
        lines = ["v " + " ".join(f"{x:.17g}" for x in row) for row in points]
        lines += ["f " + " ".join(str(k + 1) for k in row) for row in triangles]
        (tmp_path / "a.obj").write_text("\n".join(lines) + "\n")
        with pytest.raises(InputError, match=reason):
            load_mesh(tmp_path / "a.obj")
        with pytest.raises(InputError, match=reason):
            as_mesh((points, triangles))
    assert not recwarn.list


def test_vertex_and_triangle_counts_are_limited(monkeypatch, tmp_path, painted):
    assert mesh_types.MAX_MESH_VERTICES > 5_000_000 and mesh_types.MAX_MESH_TRIANGLES > 10_000_000
    monkeypatch.setattr(mesh_types, "MAX_MESH_VERTICES", 1000)
    with pytest.raises(InputError, match=r"head\.obj: \d+ vertices and \d+ triangles"):
        load_mesh(painted)


def materials_of(folder, library, has_uv=True):
    """A ball whose upper triangles have the material a, the lower ones b."""
    mesh = trimesh.creation.icosphere(2, 100.0)
    (folder / "m.mtl").write_text(library)
    for name, colour in (("a.png", (200, 0, 0)), ("b.png", (0, 0, 200))):
        imageio.imwrite(folder / name, np.full((8, 8, 3), colour, np.uint8))
    lines = ["mtllib m.mtl", *(f"v {x:.6f} {y:.6f} {z:.6f}" for x, y, z in mesh.vertices)]
    lines += ["vt 0.5 0.5"] if has_uv else []
    upper = mesh.vertices[mesh.faces].mean(1)[:, 1] > 0
    for name, rows in (("a", upper), ("b", ~upper)):
        corner = "{0}/1" if has_uv else "{0}"
        faces = [" ".join(corner.format(k + 1) for k in face) for face in mesh.faces[rows]]
        lines += [f"usemtl {name}", *(f"f {face}" for face in faces)]
    (folder / "m.obj").write_text("\n".join(lines))
    return load_mesh(folder / "m.obj")


def colours_of(mesh):
    """Colours of the first and the last triangle."""
    attributes = mesh.attributes
    if attributes.texture is None:
        height = mesh.vertices[:, 1]  # at the border of two materials their colours are mixed
        return attributes.colours[[height.argmax(), height.argmin()]]
    pixels = imageio.imread(attributes.texture)
    height, width = pixels.shape[:2]
    u, v = attributes.uv[attributes.uv_faces[[0, -1], 0]].T
    return pixels[((1 - v) * height).astype(int), (u * width).astype(int)]


@pytest.mark.parametrize(
    ("library", "expected"),
    [
        ("newmtl a\nmap_Kd a.png\nnewmtl b\nKd 1 0 1\nmap_Kd b.png", [(200, 0, 0), (0, 0, 200)]),
        ("newmtl a\nmap_Kd a.png\nnewmtl b\nKd 0 1 0", [(200, 0, 0), (0, 255, 0)]),
        ("newmtl a\nKd 1 0 0\nnewmtl b\nKd 0 1 0", [(255, 0, 0), (0, 255, 0)]),
    ],
)
def test_colours_of_several_materials(tmp_path, library, expected):
    mesh = materials_of(tmp_path, library)
    np.testing.assert_allclose(colours_of(mesh), expected, atol=2)


def test_the_texture_is_one_of_a_material_that_is_used(tmp_path):
    """As of a head that was cut out of a character, with the character's material file."""
    body = "newmtl body\nmap_Kd a.png\n"
    shown = materials_of(tmp_path, f"{body}newmtl a\nmap_Kd b.png\nnewmtl b\nmap_Kd b.png")
    np.testing.assert_allclose(colours_of(shown), [(0, 0, 200)] * 2, atol=2)
    plain = materials_of(tmp_path, f"{body}newmtl a\nKd 1 0 0\nnewmtl b\nKd 0 1 0")
    np.testing.assert_allclose(colours_of(plain), [(255, 0, 0), (0, 255, 0)], atol=2)
    # No material of the mesh is in the file: it was renamed, and its texture is the one there is.
    renamed = materials_of(tmp_path, body)
    np.testing.assert_allclose(colours_of(renamed), [(200, 0, 0)] * 2, atol=2)


def test_names_of_images_have_spaces_and_options_before_them(tmp_path):
    imageio.imwrite(tmp_path / "my face.png", np.full((8, 8, 3), (0, 90, 0), np.uint8))
    library = "newmtl a\nmap_Kd my face.png\nnewmtl b\nmap_Kd -s 1 1 1 -clamp on my face.png"
    mesh = materials_of(tmp_path, library)
    np.testing.assert_allclose(colours_of(mesh), [(0, 90, 0)] * 2, atol=2)
    assert mesh.notes == ()
    missing = materials_of(tmp_path, "newmtl a\nmap_Kd none.png\nnewmtl c\nmap_Kd other.png")
    assert missing.notes == ("none.png: no PNG or JPEG beside the mesh",)


def test_texture_coordinates_of_several_materials_may_be_huge(tmp_path):
    library = "newmtl a\nmap_Kd a.png\nnewmtl b\nmap_Kd b.png"
    materials_of(tmp_path, library)
    content = (tmp_path / "m.obj").read_text().replace("vt 0.5 0.5", "vt 1e300 nan")
    (tmp_path / "m.obj").write_text(content)
    attributes = load_mesh(tmp_path / "m.obj").attributes
    assert np.abs(attributes.uv - 0.5).max() <= 0.5 and len(attributes.texture) < 1e5


def test_materials_that_are_all_of_one_grey_are_no_colours(tmp_path):
    grey = "newmtl a\nKd 0.8 0.8 0.8\nnewmtl b\nKd .8 .8 .8"
    mesh = materials_of(tmp_path, grey)
    assert mesh.attributes.colours is None and mesh.attributes.texture is None
    odd = "newmtl a\nKd red 0 0\nKd 1\nnewmtl b\nmap_Kd none.png\nnewmtl\nKd nan 0 0"
    mesh = materials_of(tmp_path, odd, has_uv=False)
    assert mesh.attributes.colours is None and mesh.attributes.texture is None
