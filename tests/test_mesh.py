"""What a mesh file has beside its surface stays in what is written of it."""

import imageio.v3 as imageio
import numpy as np
import pygltflib
import pytest

from talkemo import animate, transfer
from talkemo.formats.mesh import load_mesh
from talkemo.formats.open import open_animation


@pytest.fixture(scope="module")
def painted(tmp_path_factory, example_face):
    """The example face as an OBJ of quads and triangles with two groups, normals, a texture with a seam, and a picture."""
    folder = tmp_path_factory.mktemp("painted")
    mesh = load_mesh(example_face)
    imageio.imwrite(folder / "skin.png", np.full((8, 8, 3), 200, np.uint8))
    (folder / "head.mtl").write_text("newmtl skin\nKd 1 1 1\nmap_Kd skin.png\nmap_Bump ../../secret.png\n")
    lines = ["# a face", "mtllib head.mtl", "o Head"]
    lines += [f"v {x:.6f} {y:.6f} {z:.6f}" for x, y, z in mesh.vertices]
    uv = (mesh.vertices[:, :2] - mesh.vertices[:, :2].min(0)) / np.ptp(mesh.vertices[:, :2], axis=0)
    lines += [f"vt {u:.5f} {v:.5f}" for u, v in uv] + [f"vt {u + 0.001:.5f} {v:.5f}" for u, v in uv] + ["vn 0 0 1"]
    count = len(uv)
    quads, triangles = paired(mesh.faces)
    lines += ["g left", "usemtl skin", "s 1"]
    lines += ["f " + " ".join(f"{k + 1}/{k + 1}/1" for k in quad) for quad in quads]
    lines += ["g right"] + ["f " + " ".join(f"{k + 1}/{k + 1 + count}/1" for k in t) for t in triangles]
    (folder / "head.obj").write_text("\n".join(lines) + "\n")
    return folder / "head.obj"


def paired(faces):
    """Triangles (F, 3) as some quads, and the triangles that are left."""
    quads, used, sides = [], set(), {}
    for number, (a, b, c) in enumerate(faces[:6000].tolist()):
        for i, j, k in ((a, b, c), (b, c, a), (c, a, b)):
            other = sides.get((j, i))
            if other and other[0] not in used and number not in used:
                used |= {other[0], number}
                quads.append([i, other[1], j, k])
            sides[i, j] = (number, k)
    return quads, [face for number, face in enumerate(faces.tolist()) if number not in used]


def test_the_surface_is_read_with_its_texture(painted, example_face):
    mesh = load_mesh(painted)
    assert mesh.faces.shape == load_mesh(example_face).faces.shape
    assert mesh.appearance.uv_faces.shape == mesh.faces.shape and mesh.appearance.texture.startswith(b"\x89PNG")
    # A path out of the mesh's folder is not followed.
    assert sorted(mesh.appearance.companions) == ["head.mtl", "skin.png"]


def test_frames_as_obj_keep_polygons_groups_and_materials(painted, short_speech, tmp_path):
    animate(painted, short_speech, [tmp_path / "frames"], fps=4)
    frame = tmp_path / "frames" / "000003.obj"
    before = [line for line in painted.read_text().splitlines() if not line.startswith(("v ", "vn", "#"))]
    after = [line for line in frame.read_text().splitlines() if not line.startswith("v ")]
    assert after == [line.replace("/1 ", " ").removesuffix("/1") if line.startswith("f") else line for line in before]
    assert {"head.mtl", "skin.png"} <= {path.name for path in frame.parent.iterdir()}
    source, moved = load_mesh(painted), load_mesh(frame)
    np.testing.assert_array_equal(moved.faces, source.faces)
    assert 0.5 < np.abs(moved.vertices - source.vertices).max() < 40
    transfer(tmp_path / "frames", [tmp_path / "happy"], emotion="happy", fps=4)
    again = [line for line in (tmp_path / "happy" / "000003.obj").read_text().splitlines() if not line.startswith("v ")]
    assert again == after


def test_glb_carries_the_texture_and_still_has_the_vertices(painted, short_speech, tmp_path):
    animate(painted, short_speech, [tmp_path / "a.glb", tmp_path / "a.npz"], fps=8)
    glb = pygltflib.GLTF2().load(str(tmp_path / "a.glb"))
    primitive = glb.meshes[0].primitives[0]
    mesh = load_mesh(painted)
    assert glb.accessors[primitive.attributes.POSITION].count > len(mesh.vertices)  # split along the seam
    assert glb.accessors[primitive.attributes.TEXCOORD_0].type == "VEC2"
    assert glb.images[0].mimeType == "image/png" and primitive.material == 0
    read = open_animation(tmp_path / "a.glb", 8)
    np.testing.assert_allclose(read.rest, mesh.vertices, atol=1e-4)
    np.testing.assert_array_equal(read.faces, mesh.faces)
    frames, exact = np.concatenate(list(read.chunks())), open_animation(tmp_path / "a.npz").vertices()
    assert np.linalg.norm(frames[: len(exact)] - exact, axis=2).mean() < 0.5


def test_usd_carries_texture_coordinates(painted, short_speech, tmp_path):
    Usd, UsdGeom = pytest.importorskip("pxr.Usd"), pytest.importorskip("pxr.UsdGeom")
    animate(painted, short_speech, [tmp_path / "a.usda"], fps=4)
    stage = Usd.Stage.Open(str(tmp_path / "a.usda"))
    st = UsdGeom.PrimvarsAPI(stage.GetPrimAtPath("/face/mesh")).GetPrimvar("st")
    mesh = load_mesh(painted)
    flat = np.array(st.ComputeFlattened())
    np.testing.assert_allclose(flat, mesh.appearance.uv[mesh.appearance.uv_faces.ravel()], atol=1e-5)
