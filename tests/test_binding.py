import numpy as np
import pytest
import trimesh
from scipy.spatial.transform import Rotation

from talkemo import InputError
from talkemo.binding import bind, closest_on_triangles
from talkemo.mesh import Mesh, load_mesh, save_obj


@pytest.fixture(scope="module")
def mesh(example_face):
    return load_mesh(example_face)


@pytest.fixture(scope="module")
def jaw(face):
    return face.expression_basis[face.expression_names.index("jawOpen")][None] * 0.5


def opening(binding, vertices):
    upper, lower = binding.landmarks68[[62, 66]]
    return np.linalg.norm(vertices[:, upper] - vertices[:, lower], axis=1)


def test_closest_place_of_a_triangle():
    corners = np.array([[[0, 0, 0], [1, 0, 0], [0, 1, 0]]] * 3, float)
    weights, distance = closest_on_triangles(np.array([[0.2, 0.2, 2], [2, 0, 0], [-1, -1, 0]]), corners)
    np.testing.assert_allclose(distance, [2, 1, 2**0.5])
    np.testing.assert_allclose(weights, [[0.6, 0.2, 0.2], [0, 1, 0], [1, 0, 0]], atol=1e-9)


def test_example_face_opens_its_mouth(face, mesh, jaw):
    binding = bind(face, mesh)
    assert binding.error < 1.5
    rest, open_ = binding.apply(np.zeros_like(jaw)), binding.apply(jaw)
    np.testing.assert_allclose(rest[0], mesh.vertices, atol=1e-4)
    wanted = np.linalg.norm(np.diff(face.mean[face.landmarks68[[62, 66]]] + jaw[0, face.landmarks68[[62, 66]]], axis=0))
    assert opening(binding, open_)[0] == pytest.approx(wanted, rel=0.25)


@pytest.mark.parametrize("scale,shift,tilt", [(0.001, [0, 1.6, 0.1], 0), (12.0, [300, -80, 44], 8)])
def test_unit_place_and_small_tilt_do_not_matter(face, mesh, jaw, scale, shift, tilt):
    turn = Rotation.from_euler("xyz", [tilt, -tilt, tilt / 2], degrees=True).as_matrix()
    moved = Mesh(scale * mesh.vertices @ turn.T + shift, mesh.faces)
    first, second = bind(face, mesh), bind(face, moved)
    a = first.apply(jaw)[0] - mesh.vertices
    b = (second.apply(jaw)[0] - moved.vertices) @ turn / scale
    assert np.linalg.norm(a - b, axis=1).mean() < 0.5


def test_another_triangulation_moves_alike(face, mesh, jaw):
    fine = trimesh.Trimesh(mesh.vertices, mesh.faces, process=False).subdivide()
    finer = Mesh(np.array(fine.vertices), np.array(fine.faces, np.int32))
    a, b = bind(face, mesh).apply(jaw)[0], bind(face, finer).apply(jaw)[0]
    # Subdivision keeps the old vertices in front.
    assert np.linalg.norm(a - b[: len(a)], axis=1).mean() < 0.5


@pytest.mark.parametrize("closed", [True, False])
def test_back_of_a_head_stays(face, mesh, jaw, closed):
    """Neither a closed ball far behind the face moves, nor one with a hole in it."""
    ball = trimesh.creation.icosphere(3, radius=60.0)
    ball.apply_translation(mesh.vertices.mean(0) - [0, 0, 190])
    if not closed:
        ball.update_faces(np.arange(len(ball.faces)) > 20)
    both = Mesh(
        np.concatenate([mesh.vertices, ball.vertices]),
        np.concatenate([mesh.faces, np.array(ball.faces) + len(mesh.vertices)]).astype(np.int32),
    )
    moved = bind(face, both).apply(jaw)[0]
    np.testing.assert_allclose(moved[len(mesh.vertices) :], both.vertices[len(mesh.vertices) :], atol=1e-3)


@pytest.mark.parametrize(
    "content,message",
    [
        ("v 0 0 0\nv 1 0 0\nv 0 1 0\n", "without faces"),
        ("v 0 0 0\nv 1 0 0\nv 0 1 1\nf 1 2 3\n", "too few"),
        ("v 0 0 nan\nv 1 0 0\nv 0 1 1\nf 1 2 3\n", "no numbers"),
        ("v 0 0 0\nf 1 2 9\n", "not there"),
        ("v 0 0\nf 1 1 1\n", "line 1"),
        ("", "without vertices"),
    ],
)
def test_unusable_meshes(tmp_path, content, message):
    path = tmp_path / "bad.obj"
    path.write_text(content)
    with pytest.raises(InputError, match=message):
        load_mesh(path)


def test_polygons_are_cut_and_order_is_kept(tmp_path, mesh):
    path = tmp_path / "quad.obj"
    # Texture coordinates and normals in the face entries, a pentagon, negative indices.
    lines = [f"v {x} {y} {z}" for x, y, z in mesh.vertices] + ["vt 0 0", "vn 0 0 1"]
    lines += [f"f {a}/1/1 {b}/1/1 {c}/1/1" for a, b, c in mesh.faces[:200] + 1] + ["f 1 2 3 4 5", "f -1 -2 -3"]
    path.write_text("\n".join(lines))
    read = load_mesh(path)
    np.testing.assert_allclose(read.vertices, mesh.vertices)
    assert len(read.faces) == 200 + 3 + 1
    assert read.faces[-1].tolist() == [len(mesh.vertices) - k for k in (1, 2, 3)]


def test_save_obj_round_trip(tmp_path, mesh):
    save_obj(tmp_path / "a.obj", mesh.vertices, mesh.faces)
    again = load_mesh(tmp_path / "a.obj")
    np.testing.assert_allclose(again.vertices, mesh.vertices, atol=1e-4)
    np.testing.assert_array_equal(again.faces, mesh.faces)


def test_other_formats(tmp_path, mesh):
    for ending in ("ply", "glb", "stl", "off"):
        trimesh.Trimesh(mesh.vertices, mesh.faces, process=False).export(tmp_path / f"a.{ending}")
        assert len(load_mesh(tmp_path / f"a.{ending}").faces) == len(mesh.faces)
