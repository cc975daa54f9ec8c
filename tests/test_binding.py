"""Binding: any mesh with a face follows the canonical face; files and cache of bindings."""

import os
import subprocess
import sys
from dataclasses import replace

import numpy as np
import pytest
import trimesh
from scipy.spatial.transform import Rotation
from waiting import HANG_S

from talkemo import InputError, Motion
from talkemo.binding import FaceHint, bind_mesh, bind_with_hint, load_binding, save_binding
from talkemo.binding.body import weld
from talkemo.binding.cache import BindingCache
from talkemo.binding.fill import fill_of
from talkemo.binding.placement_search import axis_rotations
from talkemo.face.canonical import ARKIT_NAMES
from talkemo.formats.groups import vertex_groups
from talkemo.formats.mesh import load_mesh
from talkemo.formats.mesh_types import Mesh, MeshAttributes
from talkemo.formats.obj import save_obj
from talkemo.geometry.meshes import closest_on_triangles, vertex_normals


@pytest.fixture(scope="module")
def mesh(example_face):
    return load_mesh(example_face)


@pytest.fixture(scope="module")
def jaw(face):
    """Coordinates (1, S) of a mouth half open."""
    return face.weight_vector({"jawOpen": 0.5})[None] @ face.weights_to_coordinates


def lip_gap(binding, vertices):
    """Distance (T,) of the middles of the inner lips in frames (T, N, 3)."""
    upper, lower = binding.landmarks68[[62, 66]]
    return np.linalg.norm(vertices[:, upper] - vertices[:, lower], axis=1)


def test_closest_point_on_a_triangle():
    corners = np.array([[[0, 0, 0], [1, 0, 0], [0, 1, 0]]] * 3, float)
    weights, distance = closest_on_triangles(
        np.array([[0.2, 0.2, 2], [2, 0, 0], [-1, -1, 0]]), corners
    )
    np.testing.assert_allclose(distance, [2, 1, 2**0.5])
    np.testing.assert_allclose(weights, [[0.6, 0.2, 0.2], [0, 1, 0], [1, 0, 0]], atol=1e-9)


def test_example_face_opens_its_mouth(face, mesh, bound, jaw):
    binding = bound
    assert binding.error < 1.5
    rest, opened = binding.vertices(np.zeros_like(jaw)), binding.vertices(jaw)
    np.testing.assert_allclose(rest[0], mesh.vertices, atol=1e-4)
    lips = face.mean + face.displacement(face.weight_vector({"jawOpen": 0.5}))
    expected = np.linalg.norm(np.diff(lips[face.landmarks68[[62, 66]]], axis=0))
    assert lip_gap(binding, opened)[0] == pytest.approx(expected, rel=0.25)


@pytest.mark.parametrize("scale,shift,tilt", [(0.001, [0, 1.6, 0.1], 0), (12.0, [300, -80, 44], 8)])
def test_unit_position_and_small_tilt_do_not_matter(face, mesh, bound, jaw, scale, shift, tilt):
    turn = Rotation.from_euler("xyz", [tilt, -tilt, tilt / 2], degrees=True).as_matrix()
    moved = Mesh(scale * mesh.vertices @ turn.T + shift, mesh.faces)
    first, second = bound, bind_mesh(face, moved)
    a = first.vertices(jaw)[0] - mesh.vertices
    b = (second.vertices(jaw)[0] - moved.vertices) @ turn / scale
    assert np.linalg.norm(a - b, axis=1).mean() < 0.5


def test_finer_triangulation_moves_alike(face, mesh, bound, jaw):
    fine = trimesh.Trimesh(mesh.vertices, mesh.faces, process=False).subdivide()
    finer = Mesh(np.array(fine.vertices), np.array(fine.faces, np.int32))
    a, b = bound.vertices(jaw)[0], bind_mesh(face, finer).vertices(jaw)[0]
    # Subdivision keeps the old vertices in front.
    assert np.linalg.norm(a - b[: len(a)], axis=1).mean() < 0.5


@pytest.mark.parametrize("closed", [True, False])
def test_back_of_a_head_stays_still(face, mesh, jaw, closed):
    """A ball far behind the face does not move, whether it is closed or has a hole."""
    ball = trimesh.creation.icosphere(3, radius=60.0)
    ball.apply_translation(mesh.vertices.mean(0) - [0, 0, 190])
    if not closed:
        ball.update_faces(np.arange(len(ball.faces)) > 20)
    both = Mesh(
        np.concatenate([mesh.vertices, ball.vertices]),
        np.concatenate([mesh.faces, np.array(ball.faces) + len(mesh.vertices)]).astype(np.int32),
    )
    moved = bind_mesh(face, both).vertices(jaw)[0]
    np.testing.assert_allclose(
        moved[len(mesh.vertices) :], both.vertices[len(mesh.vertices) :], atol=1e-3
    )


# -------------------------------------------------------------------------- pose of the face


def turned(mesh, seed):
    """A mesh with random rotation, scale and shift, and these."""
    rng = np.random.default_rng(seed)
    turn, scale = Rotation.random(random_state=seed).as_matrix(), 10 ** rng.uniform(-3, 3)
    shift = 500 * scale * rng.standard_normal(3)
    return Mesh(scale * mesh.vertices @ turn.T + shift, mesh.faces), turn, scale, shift


@pytest.mark.parametrize("seed", [1, 2])
def test_orientation_does_not_matter(face, mesh, bound, jaw, seed):
    moved, turn, scale, shift = turned(mesh, seed)
    first, second = bound, bind_mesh(face, moved)
    assert second.error < 1.2 and second.scale == pytest.approx(scale * first.scale, rel=0.02)
    a = first.vertices(jaw)[0]
    b = (second.vertices(jaw)[0] - shift) @ turn / scale
    assert np.linalg.norm(a - b, axis=1).mean() < 0.5
    assert second.lip_opening_ratio() == pytest.approx(1, abs=0.15)


def test_face_is_found_by_axes_or_landmarks(face, mesh, jaw, tmp_path):
    z_up = Mesh(mesh.vertices[:, [0, 2, 1]] * [1, -1, 1], mesh.faces)  # looking along -y
    binding = bind_mesh(face, z_up, up="z", forward="-y")
    np.testing.assert_allclose(binding.placement.rotation[:, 1], [0, 0, 1], atol=0.1)
    path = tmp_path / "points.txt"
    rows = [
        f"{p + 1} {' '.join(map(str, z_up.vertices[face.landmarks68[p]]))}"
        for p in (8, 30, 36, 45, 48, 54)
    ]
    path.write_text(
        "# chin, nose, eyes, mouth\n" + "\n".join(rows) + f"\n63 {binding.landmarks68[62]}"
    )
    by_landmarks = bind_with_hint(face, z_up, FaceHint(landmarks=path))
    difference = by_landmarks.vertices(jaw)[0] - binding.vertices(jaw)[0]
    assert np.linalg.norm(difference, axis=1).mean() < 0.5


@pytest.mark.parametrize("up,forward", [("up", None), ("z", "z"), ("x", "-x")])
def test_invalid_axes_are_refused(up, forward):
    with pytest.raises(InputError, match=r"axis|cannot"):
        axis_rotations(up, forward)


@pytest.mark.parametrize(
    "text", ["1 2 3", "0 1", "69 1", "3 99999999", "5 nan 0 0", "one 2", "1 4\n2 5"]
)
def test_invalid_landmarks_are_refused(face, mesh, tmp_path, text):
    (tmp_path / "points.txt").write_text(text)
    with pytest.raises(InputError):
        bind_with_hint(face, mesh, FaceHint(landmarks=tmp_path / "points.txt"))


def lump():
    ball = trimesh.creation.icosphere(4)
    x, y, z = ball.vertices.T
    return trimesh.Trimesh(
        ball.vertices
        * (1 + 0.15 * np.sin(3 * x + 1) * np.cos(4 * y) + 0.05 * np.sin(9 * z))[:, None],
        ball.faces,
    )


def chair():
    box, at = trimesh.creation.box, trimesh.transformations.translation_matrix
    legs = [
        box([0.1, 1, 0.1], transform=at([x, -0.5, z])) for x in (-0.45, 0.45) for z in (-0.45, 0.45)
    ]
    parts = [box([1, 0.1, 1]), box([1, 1, 0.1], transform=at([0, 0.5, -0.5])), *legs]
    return trimesh.util.concatenate(parts).subdivide().subdivide()


@pytest.mark.parametrize("thing", [lump, chair])  # a ball is refused in test_cli.py
def test_meshes_without_a_face_are_refused(face, thing):
    shape = thing()
    with pytest.raises(InputError, match="no face"):
        bind_mesh(face, Mesh(np.array(shape.vertices, float), np.array(shape.faces, np.int32)))


# ------------------------------------------------------------------------------------ motion


@pytest.fixture(scope="module")
def poses(face):
    amounts = [
        {"jawOpen": 0.7},
        {"jawOpen": 0.5, "mouthFunnel": 0.6},
        {"mouthSmile": 1.0, "jawOpen": 0.2},
        {"eyeBlink": 1.0},
        {"mouthPucker": 0.8},
        {"mouthUpperUp": 0.8, "mouthLowerDown": 0.8},
    ]
    return np.stack([face.weight_vector(a) for a in amounts]) @ face.weights_to_coordinates


def stretch(vertices, moved, faces):
    """Largest ratio (T,) of the length of an edge to its length at rest, in each frame."""
    a, b = np.unique(np.sort(faces[:, [0, 1, 1, 2, 2, 0]].reshape(-1, 2), axis=1), axis=0).T
    length = np.linalg.norm(vertices[a] - vertices[b], axis=1)
    stretched = np.linalg.norm(moved[:, a] - moved[:, b], axis=2)
    return np.max(stretched[:, length > 0] / length[length > 0], axis=1)


def other_identity(face, mesh):
    """A random identity of the bilinear model, in the canonical topology."""
    z = np.random.default_rng(4).standard_normal(30)
    return Mesh(
        face.vertices(face.expression_factor[0], face.identity_weights(z)).astype(float), face.faces
    )


def unwelded(face, mesh):
    return Mesh(
        mesh.vertices[mesh.faces].reshape(-1, 3),
        np.arange(mesh.faces.size, dtype=np.int32).reshape(-1, 3),
    )


def inside_out(face, mesh):
    return Mesh(mesh.vertices, mesh.faces[:, ::-1].copy())


def thick(face, mesh):
    """A mask with an inner side, five millimetres behind the outer one."""
    back = mesh.vertices - 5 * vertex_normals(mesh.vertices, mesh.faces)
    faces = np.concatenate([mesh.faces, mesh.faces[:, ::-1] + len(back)])
    return Mesh(np.concatenate([mesh.vertices, back]), faces)


@pytest.mark.parametrize("make", [other_identity, unwelded, inside_out, thick])
def test_lips_open_and_nothing_tears(face, mesh, poses, make):
    variant = make(face, mesh)
    binding = bind_mesh(face, variant)
    assert binding.lip_opening_ratio() == pytest.approx(1, abs=0.15)
    stretched = stretch(variant.vertices, binding.vertices(poses), variant.faces)
    canonical = stretch(
        face.mean, face.mean + Motion(np.arange(len(poses)), poses).displacement(face), face.faces
    )
    assert (stretched < 2 * canonical).all()


@pytest.fixture(scope="module")
def head(face, mesh):
    """The bound example face with eyeballs, teeth, a lash and hair; and the vertices of each."""
    at = trimesh.transformations.translation_matrix
    balls = [
        trimesh.creation.icosphere(3, 12).apply_translation([x, 36, 80]) for x in (-31.4, 31.4)
    ]
    teeth = [
        trimesh.creation.box([40, 14, 20], transform=at([0, y, 92])).subdivide() for y in (-24, -44)
    ]
    lid = mesh.vertices[np.linalg.norm(mesh.vertices - [-31, 41, 97], axis=1).argmin()]
    lash = trimesh.creation.box([6, 0.6, 5], transform=at(np.add(lid, [0, 0, 2.6]))).subdivide()
    hair = trimesh.creation.icosphere(4, 105).apply_translation([0, 60, 20])
    hair.update_faces((hair.triangles_center[:, 1] > 105) | (hair.triangles_center[:, 2] < 0))
    hair.remove_unreferenced_vertices()
    count = len(mesh.vertices)
    vertices, faces, rows = [mesh.vertices], [mesh.faces], {"skin": slice(0, count)}
    names = ("right_eye", "left_eye", "upper_teeth", "lower_teeth", "lash", "hair")
    for name, shape in zip(names, (*balls, *teeth, lash, hair)):
        vertices.append(np.array(shape.vertices))
        faces.append(np.array(shape.faces) + count)
        rows[name] = slice(count, count + len(shape.vertices))
        count += len(shape.vertices)
    whole = Mesh(np.concatenate(vertices), np.concatenate(faces).astype(np.int32))
    return bind_mesh(face, whole), rows


def test_parts_move_as_they_should(head, poses):
    binding, rows = head
    mesh = binding.mesh
    moved = np.linalg.norm(binding.vertices(poses) - mesh.vertices, axis=2)
    for name in ("right_eye", "left_eye", "upper_teeth", "hair"):
        assert moved[:, rows[name]].max() < 1e-3, name
    teeth = moved[0, rows["lower_teeth"]]
    lip = moved[0, binding.landmarks68[66]]
    assert 0.5 * lip < teeth.min() and teeth.max() < 1.5 * lip
    blink = moved[3]
    to_lash = mesh.vertices[rows["skin"]] - mesh.vertices[rows["lash"]].mean(0)
    lid = blink[np.linalg.norm(to_lash, axis=1).argmin()]
    assert lid > 1 and blink[rows["lash"]].min() > 0.3 * lid


def test_a_head_with_eyes_and_teeth_gets_no_others(head, face):
    assert set(fill_of(head[0], face.anatomy).faces) <= {"mouth"}


def test_a_gaze_turns_the_eyeball_in_its_socket(head):
    binding, rows = head
    targets = binding.arkit_targets()
    rest = binding.mesh.vertices[rows["left_eye"]]
    moved = rest + targets[ARKIT_NAMES.index("eyeLookUpLeft"), rows["left_eye"]]
    np.testing.assert_allclose(np.linalg.norm(moved - [31.4, 36, 80], axis=1), 12, atol=0.3)
    front = rest[:, 2].argmax()
    assert moved[front, 1] - rest[front, 1] > 3
    assert not targets[ARKIT_NAMES.index("eyeLookUpLeft"), rows["right_eye"]].any()
    out = targets[ARKIT_NAMES.index("eyeLookOutLeft"), rows["left_eye"]][front, 0]
    assert out > 3  # the person's left is +x


# ------------------------------------------------------------------------------------- files


def test_saved_binding_is_the_same(face, mesh, bound, jaw, tmp_path):
    save_binding(tmp_path / "face.binding.npz", bound)
    again = load_binding(tmp_path / "face.binding.npz", face, mesh)
    np.testing.assert_array_equal(again.vertices(jaw), bound.vertices(jaw))
    assert again.parts == bound.parts and again.error == bound.error
    with pytest.raises(InputError, match="another mesh"):
        load_binding(tmp_path / "face.binding.npz", face, Mesh(mesh.vertices + 1, mesh.faces))


@pytest.mark.parametrize(
    "change",
    [
        {"moving": np.arange(3)},
        {"landmarks68": np.full(68, 10**9)},
        {"shapes": np.zeros((2, 2, 3), np.float32)},
        {"rotation": np.zeros(3)},
        {"rotation": np.full((3, 3), np.nan)},
        {"scale": 0.0},
        {"canonical": None},
        {"eye_centres": np.full((2, 3), np.nan)},
        {"eye0": np.zeros((2, 2), np.int64)},
        {"error": np.nan},
        {"relief": 2.0},
        {"translation": np.full(3, 1e9)},
        {"moving": None},
        {"part_counts": np.array([-1])},
        {"part_names": np.array(["x" * 65])},
    ],
)
def test_damaged_bindings_are_refused(face, mesh, bound, tmp_path, change):
    path = tmp_path / "face.binding.npz"
    save_binding(path, bound, compressed=False)
    data = dict(np.load(path)) | change
    np.savez(path, **{name: array for name, array in data.items() if array is not None})
    with pytest.raises(InputError, match="not a binding"):
        load_binding(path, face, mesh)


def test_huge_displacements_are_refused(face, mesh, bound, tmp_path):
    path = tmp_path / "face.binding.npz"
    save_binding(path, replace(bound, targets=bound.targets * np.float32(1e30)), compressed=False)
    with pytest.raises(InputError, match="shapes contains NaN or values out of range"):
        load_binding(path, face, mesh)


def test_cached_binding_is_used(face, mesh, tmp_path, monkeypatch):
    cache = BindingCache(tmp_path)
    first = bind_with_hint(face, mesh, cache=cache)
    monkeypatch.setattr(
        "talkemo.binding.bind_face.bind_mesh", lambda *_, **__: pytest.fail("bound again")
    )
    again = bind_with_hint(face, mesh, cache=cache)
    np.testing.assert_array_equal(again.matrix, first.matrix)
    assert again.eyes[0][0].tolist() == first.eyes[0][0].tolist() and again.parts == first.parts
    # Another mesh or other axes have another binding.
    assert cache.name(face, mesh) != cache.name(face, Mesh(mesh.vertices + 1, mesh.faces))
    assert cache.name(face, mesh) != cache.name(face, mesh, up="z")
    # So has one whose file calls some of its vertices something else, and only such a one.
    groups = vertex_groups(mesh.attributes, len(mesh.vertices))
    same = replace(mesh, attributes=MeshAttributes(groups=groups))
    assert cache.name(face, mesh) == cache.name(face, same)
    groups[:10] = "hidden"
    assert cache.name(face, mesh) != cache.name(face, same)


def test_damaged_cache_counts_as_empty(face, mesh, bound, tmp_path):
    cache = BindingCache(tmp_path)
    name = cache.name(face, mesh)
    cache.put(name, bound)
    (path,) = cache.folder.iterdir()
    path.write_bytes(path.read_bytes()[:1000])
    assert cache.get(name, face, mesh) is None and not path.exists()
    blocked = BindingCache(tmp_path / "file")
    (tmp_path / "file").write_text("in the way")
    blocked.put(name, bound)
    assert blocked.get(name, face, mesh) is None


def test_cache_removes_the_least_recently_used(face, mesh, bound, tmp_path):
    cache = BindingCache(tmp_path)
    cache.put("a" * 40, bound)
    size = next(cache.folder.iterdir()).stat().st_size
    cache = BindingCache(tmp_path, max_bytes=int(2.5 * size))
    for age, name in enumerate(("a", "b", "c")):
        cache.put(name * 40, bound)
        os.utime(cache.folder / f"{name * 40}.binding.npz", (1000 + age, 1000 + age))
    assert cache.get("b" * 40, face, mesh) is not None  # which is a use
    cache.put("d" * 40, bound)
    assert sorted(path.name[0] for path in cache.folder.iterdir()) == ["b", "d"]


def test_cache_removes_only_its_own_files(face, mesh, bound, tmp_path):
    cache = BindingCache(tmp_path, max_bytes=1)
    cache.put("a" * 40, bound)
    folder = cache.folder
    others = ("mine.binding.npz", "B" * 40 + ".binding.npz", "a" * 40 + ".npz")
    for name in others:
        (folder / name).write_text("mine")
        os.utime(folder / name, (1, 1))
    link = "c" * 40 + ".binding.npz"
    (folder / link).symlink_to("mine.binding.npz")
    assert cache.get("c" * 40, face, mesh) is None
    cache.put("d" * 40, bound)
    own = "d" * 40 + ".binding.npz"
    assert {path.name for path in folder.iterdir()} == {*others, link, own}
    assert all((folder / name).read_text() == "mine" for name in others)


def test_processes_can_share_a_cache(example_face, tmp_path):
    script = f"import talkemo; talkemo.bind({str(example_face)!r})"
    environment = {**os.environ, "TALKEMO_CACHE": str(tmp_path)}
    running = [subprocess.Popen([sys.executable, "-c", script], env=environment) for _ in range(2)]
    assert [process.wait(HANG_S) for process in running] == [0, 0]
    (path,) = (tmp_path / "bindings").iterdir()  # one file, and no partial one
    assert path.name.endswith(".binding.npz")


@pytest.mark.parametrize(
    "content,message",
    [
        ("v 0 0 0\nv 1 0 0\nv 0 1 0\n", "without faces"),
        ("v 0 0 0\nv 1 0 0\nv 0 1 1\nf 1 2 3\n", "too few"),
        ("v 0 0 nan\nv 1 0 0\nv 0 1 1\nf 1 2 3\n", "NaN or infinity"),
        ("v 0 0 0\nf 1 2 9\n", "do not exist"),
        ("v 0 0\nf 1 1 1\n", "line 1"),
        ("", "not a readable mesh, it is empty"),
    ],
)
def test_unusable_meshes_are_refused(tmp_path, content, message):
    path = tmp_path / "bad.obj"
    path.write_text(content)
    with pytest.raises(InputError, match=message):
        load_mesh(path)


def test_polygons_are_triangulated_in_order(tmp_path, mesh):
    path = tmp_path / "quad.obj"
    # Texture coordinates and normals in the face entries, a pentagon, negative indices.
    lines = [f"v {x} {y} {z}" for x, y, z in mesh.vertices] + ["vt 0 0", "vn 0 0 1"]
    lines += [f"f {a}/1/1 {b}/1/1 {c}/1/1" for a, b, c in mesh.faces[:200] + 1] + [
        "f 1 2 3 4 5",
        "f -1 -2 -3",
    ]
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


def grid(columns, rows, z=0.0):
    """A flat mesh of squares, and its vertices' numbers (columns, rows)."""
    across, up = np.meshgrid(np.arange(columns), np.arange(rows), indexing="ij")
    points = np.stack([across, up, np.full(across.shape, z)], 2).reshape(-1, 3).astype(float)
    number = np.arange(columns * rows).reshape(columns, rows)
    corners = [number[:-1, :-1], number[1:, :-1], number[1:, 1:], number[:-1, 1:]]
    a, b, c, d = (corner.ravel() for corner in corners)
    return points, np.concatenate([np.stack([a, b, c], 1), np.stack([a, c, d], 1)])


def test_what_touches_the_middle_of_the_skin_is_not_joined_with_it():
    """Rims join at seams; lashes and tear lines that touch the skin stay parts of their own."""
    skin, faces = grid(9, 5)
    beside = skin + np.array([8, 0, 0])  # at its right rim
    fringe, strip = grid(4, 2)
    fringe = fringe[:, [0, 2, 1]] + [2, 2, 0]  # stands on its middle
    tear = fringe * [1, 1, -1]  # begins where the fringe does
    points = np.concatenate([skin, beside, fringe, tear])
    count = len(skin)
    parts = [faces, faces + count, strip + 2 * count, strip + 2 * count + len(fringe)]
    welded = weld(Mesh(points, np.concatenate(parts).astype(np.int32)))
    rows = [welded.merged[part].ravel() for part in parts]
    joined = [len(np.intersect1d(rows[i], rows[j])) for i, j in ((0, 1), (0, 2), (0, 3), (2, 3))]
    assert joined == [5, 0, 0, 0] and len(welded.first) == len(points) - 5
    of_cut = weld(Mesh(points, np.concatenate(parts).astype(np.int32)), np.zeros(len(points), bool))
    np.testing.assert_array_equal(of_cut.merged, welded.merged)


def test_a_lash_of_two_islands_is_one_part():
    """At a seam of the texture, its vertices are joined also where it stands on the skin."""
    skin, faces = grid(9, 5)
    fringe, strip = grid(3, 2)
    fringe = fringe[:, [0, 2, 1]] + [2, 2, 0]
    points = np.concatenate([skin, fringe, fringe + np.array([2, 0, 0])])
    parts = [faces, strip + len(skin), strip + len(skin) + len(fringe)]
    welded = weld(Mesh(points, np.concatenate(parts).astype(np.int32)))
    rows = [welded.merged[part].ravel() for part in parts]
    joined = [len(np.intersect1d(rows[i], rows[j])) for i, j in ((0, 1), (0, 2), (1, 2))]
    assert joined == [0, 0, 2]
