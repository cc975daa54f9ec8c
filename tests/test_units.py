"""Unit, axes, head and hidden parts of exported files, as other programs read them."""

import json
import struct
from dataclasses import replace

import numpy as np
import pygltflib
import pytest
from scipy.spatial.transform import Rotation
from test_exports import accessor

from talkemo import ExportOptions, FaceHint, InputError, transfer
from talkemo.binding import load_binding, save_binding
from talkemo.binding.head_turner import HeadTurner
from talkemo.face.canonical import ARKIT_NAMES
from talkemo.formats.animation import Frames
from talkemo.formats.gltf_file import GLTF_MAGIC, read_container
from talkemo.formats.gltf_reader import MESH_SPACE
from talkemo.formats.gltf_scene import ADDED_PART
from talkemo.formats.groups import vertex_groups
from talkemo.formats.mesh import load_mesh
from talkemo.formats.mesh_types import Mesh, MeshAttributes
from talkemo.formats.npz import NpzAnimation
from talkemo.formats.registry import open_animation, open_writer
from talkemo.formats.units import HUMAN_FACE_WIDTH_MM, METRES_PER_UNIT, unit_of_mesh
from talkemo.geometry.rigid import Similarity, cube_rotations, nearest_cube_rotation
from talkemo.pipelines.acting import bound_header
from talkemo.pipelines.outputs import output_paths
from talkemo.render.appearance import appearance_of
from talkemo_cli.app import main

FPS, FRAMES = 10.0, 4
Z_UP = np.array([[1.0, 0, 0], [0, 0, -1], [0, 1, 0]])  # y up to z up, +z forward to -y
X_UP = np.array([[0.0, 1, 0], [0, 0, 1], [1, 0, 0]])


def moved(binding, scale, rotation=None):
    """A binding of the same mesh, scaled and rotated."""
    turn = np.eye(3) if rotation is None else rotation
    placement = binding.placement
    return replace(
        binding,
        mesh=replace(binding.mesh, vertices=scale * binding.mesh.vertices @ turn.T),
        targets=(scale * binding.targets @ turn.T).astype(np.float32),
        placement=Similarity(
            scale * placement.scale, turn @ placement.rotation, scale * turn @ placement.translation
        ),
        eyes=tuple((rows, scale * turn @ centre) for rows, centre in binding.eyes),
    )


def written(binding, paths, unit="auto", bake=False):
    """Write frames of an opening jaw on a turning head; return the frames."""
    weights = np.zeros((FRAMES, 52), np.float32)
    weights[:, ARKIT_NAMES.index("jawOpen")] = np.linspace(0, 0.9, FRAMES)
    vertices = binding.rest + np.tensordot(weights, binding.arkit_targets(), 1).astype(np.float32)
    head = Rotation.from_euler("yxz", np.outer(np.arange(FRAMES), [9, 4, 2]), degrees=True)
    gaze = np.full((FRAMES, 2), 0.1)
    landmarks = vertices[:, binding.landmarks68]
    frames = Frames(vertices, landmarks, weights, head.as_matrix(), gaze)
    header = bound_header(binding, FRAMES, FPS, {"emotion": "calm"}, HeadTurner(binding), unit)
    for path in paths:
        with open_writer(path, header, bake=bake) as writer:
            writer.write(frames)
    return frames


def as_shown(binding, frames):
    """The vertices (T, N, 3) of frames, rotated with the head as in a video."""
    turner = HeadTurner(binding)
    return np.stack([turner(v, head) for v, head in zip(frames.vertices, frames.head)])


@pytest.fixture(scope="module")
def bust(bound):
    """The example with a rim of vertices 60 to 300 mm below its chin, which turn less or not."""
    mesh = bound.mesh
    low = mesh.vertices[:, 1].min()
    depths = np.linspace(60, 300, 40)
    points = np.stack([np.linspace(-80, 80, 40), low - depths, np.full(40, 20.0)], axis=1)
    first = len(mesh.vertices)
    triangles = first + np.arange(38)[:, None] + np.arange(3)
    faces = np.concatenate([mesh.faces, triangles]).astype(np.int32)
    return replace(bound, mesh=Mesh(np.concatenate([mesh.vertices, points]), faces, None, "bust"))


# --------------------------------------------------------------------------------------- the unit


@pytest.mark.parametrize("unit", ["mm", "cm", "dm", "m"])
@pytest.mark.parametrize("size", [0.4, 1.0, 2.5])
def test_the_unit_is_guessed_by_the_size_of_the_face(unit, size):
    guess = unit_of_mesh("auto", size * 1e-3 / METRES_PER_UNIT[unit])
    assert guess.name == unit and guess.guessed
    assert guess.face_width_mm == pytest.approx(size * HUMAN_FACE_WIDTH_MM)
    assert ("a guess" in str(guess)) == (size != 1.0) and unit in str(guess)


def test_a_named_unit_is_not_guessed(face):
    unit = unit_of_mesh("in", 1 / 25.4)
    assert unit.metres == 0.0254 and not unit.guessed
    assert unit.face_width_mm == pytest.approx(HUMAN_FACE_WIDTH_MM)
    assert pytest.approx(np.ptp(face.mean[:, 0]), abs=0.05) == HUMAN_FACE_WIDTH_MM
    with pytest.raises(InputError, match="unknown unit 'mile'"):
        output_paths(None, ExportOptions(unit="mile"), [])


@pytest.mark.parametrize("scale", [1e-7, 1e6])
def test_a_face_of_an_unknown_unit_becomes_as_large_as_a_humans(scale):
    unit = unit_of_mesh("auto", scale)
    assert unit.name == "unknown" and unit.metres * scale == pytest.approx(1e-3)
    assert "--unit" in str(unit)


# ------------------------------------------------------------------------------------------- files


@pytest.mark.parametrize(
    "scale, rotation", [(1, None), (0.1, None), (0.001, None), (1, Z_UP), (0.01, X_UP)]
)
def test_a_glb_is_in_metres_with_y_up_and_read_as_the_mesh(bound, tmp_path, scale, rotation):
    binding = moved(bound, scale, rotation)
    frames = written(binding, [tmp_path / "a.glb", tmp_path / "a.npz"])
    document = pygltflib.GLTF2().load(str(tmp_path / "a.glb"))
    position = accessor(document, document.meshes[0].primitives[0].attributes.POSITION)
    np.testing.assert_allclose(position, bound.rest / 1000, atol=1e-6)
    read, exact = open_animation(tmp_path / "a.glb"), NpzAnimation(tmp_path / "a.npz")
    size = 200 * scale
    np.testing.assert_allclose(read.rest, exact.rest, atol=1e-6 * size)
    np.testing.assert_array_equal(read.faces, exact.faces)
    np.testing.assert_allclose(next(read.chunks()), frames.vertices, atol=1e-5 * size)
    np.testing.assert_allclose(read.facing, exact.facing)
    assert read.meta["unit"] == exact.meta["unit"]
    # Another program's mesh is the surface in the file.
    np.testing.assert_allclose(load_mesh(tmp_path / "a.glb").vertices, position, atol=1e-6)


@pytest.mark.parametrize(
    "scale, rotation, metres, axis, matrix",
    [
        (0.1, None, 0.01, "Y", np.eye(3)),
        (1, Z_UP, 0.001, "Z", np.eye(3)),
        (0.001, X_UP, 1.0, "Y", X_UP),
    ],
)
def test_usd_names_unit_and_up_axis(bound, tmp_path, scale, rotation, metres, axis, matrix):
    pytest.importorskip("pxr", reason="talkemo[usd] is not installed")
    from pxr import Usd, UsdGeom

    binding = moved(bound, scale, rotation)
    written(binding, [tmp_path / "a.usdc"])
    stage = Usd.Stage.Open(str(tmp_path / "a.usdc"))
    assert UsdGeom.GetStageMetersPerUnit(stage) == pytest.approx(metres)
    assert UsdGeom.GetStageUpAxis(stage) == axis
    points = np.array(UsdGeom.Mesh(stage.GetPrimAtPath("/face/mesh")).GetPointsAttr().Get())
    np.testing.assert_allclose(points, binding.rest @ matrix, atol=1e-6 * 200 * scale)


def test_the_named_unit_is_written_and_kept_by_transfer(bound, models, tmp_path):
    save_binding(tmp_path / "b.binding.npz", bound)
    hint = FaceHint(binding=tmp_path / "b.binding.npz")  # fits both files
    written(bound, [tmp_path / "a.npz", tmp_path / "a.glb"], unit="cm")
    for name in ("a.npz", "a.glb"):
        outputs = [tmp_path / f"{name}.glb"]
        result = transfer(tmp_path / name, outputs, models=models, hint=hint, emotion="sad")
        assert result.unit.name == "cm" and not result.unit.guessed
        again = open_animation(tmp_path / f"{name}.glb")
        np.testing.assert_allclose(again.rest, bound.rest, atol=1e-4)
    surface = load_mesh(tmp_path / "a.npz.glb")
    np.testing.assert_allclose(surface.vertices, bound.rest / 100, atol=1e-5)


def test_the_command_line_reports_the_unit(bound, tmp_path, capsys):
    written(bound, [tmp_path / "a.npz"])
    animation, output = str(tmp_path / "a.npz"), str(tmp_path / "b.glb")
    command = ["transfer", animation, "--emotion", "sad", "--unit", "m", "-o", output]
    assert main(command) == 0
    assert "unit of the mesh: m (the face is 1.49e+05 mm wide)" in capsys.readouterr().err
    assert main([*command, "--json"]) == 0
    data = json.loads(capsys.readouterr().out)
    assert data["unit"] == "m" and not data["unit_guessed"] and data["face_width_mm"] > 1e5
    assert main([*command[:-4], "--unit", "mile", "-o", output]) == 2


def changed_extras(path, change):
    """Change talkemo's extras in a GLB."""
    tree, block = read_container(path.read_bytes())
    change(tree["asset"]["extras"][MESH_SPACE])
    text = json.dumps(tree).encode()
    text += b" " * (-len(text) % 4)
    head = struct.pack("<5I", GLTF_MAGIC, 2, 28 + len(text) + len(block), len(text), 0x4E4F534A)
    path.write_bytes(b"".join([head, text, struct.pack("<2I", len(block), 0x004E4942), block]))


@pytest.mark.parametrize(
    "change",
    [
        {"to_file": [[1e-30, 0, 0], [0, 1e-30, 0], [0, 0, 1e-30]]},
        {"to_file": [[1, 0, 0], [0, 1, 0], [0, 0, -1]]},
        {"to_file": [[1, 0, 0], [5, 1, 0], [0, 0, 1]]},
        {"to_file": [[None] * 3] * 3},
        {"to_file": [[1e300] * 3] * 3},
        {"to_file": 7},
        {"to_file": None},
    ],
)
def test_a_damaged_mesh_space_is_refused(bound, tmp_path, change):
    written(bound, [tmp_path / "a.glb"])
    changed_extras(tmp_path / "a.glb", lambda space: space.update(change))
    with pytest.raises(InputError, match=r"a\.glb"):
        open_animation(tmp_path / "a.glb")


def test_cube_rotations_are_found_again():
    tilt = Rotation.from_euler("xyz", [20, -15, 10], degrees=True).as_matrix()
    for rotation in cube_rotations():
        np.testing.assert_array_equal(nearest_cube_rotation(rotation @ tilt), rotation)


# ---------------------------------------------------------------------------------------- the head


def rotations_of(document):
    """The tracks of rotations (T, 4) of a GLB by the node's name."""
    animation = document.animations[0]
    return {
        document.nodes[channel.target.node].name: Rotation.from_quat(
            accessor(document, animation.samplers[channel.sampler].output)
        )
        for channel in animation.channels
        if channel.target.path == "rotation"
    }


@pytest.mark.parametrize("bake", [False, True])
def test_a_head_moves_in_a_glb_as_in_a_video(bound, tmp_path, bake):
    binding = moved(bound, 0.1, Z_UP)
    frames = written(binding, [tmp_path / "a.glb"], bake=bake)
    document = pygltflib.GLTF2().load(str(tmp_path / "a.glb"))
    face, head = document.nodes[:2]
    assert (face.name, head.name) == ("face", "head") and 0 in head.children
    local = next(open_animation(tmp_path / "a.glb").chunks()) @ Z_UP / 100
    turn = rotations_of(document)["head"].as_matrix()
    local = (local + face.translation) @ turn.transpose(0, 2, 1) + head.translation
    np.testing.assert_allclose(local, as_shown(binding, frames) @ Z_UP / 100, atol=1e-6)


def test_a_bust_is_a_skin_whose_shoulders_stay(bust, tmp_path):
    frames = written(bust, [tmp_path / "a.glb"])
    document = pygltflib.GLTF2().load(str(tmp_path / "a.glb"))
    skin, attributes = document.skins[0], document.meshes[0].primitives[0].attributes
    body, head = (document.nodes[k] for k in skin.joints)
    assert (body.name, head.name) == ("body", "head") and skin.joints[1] in body.children
    assert document.scenes[0].nodes == [0, skin.joints[0]] and document.nodes[0].skin == 0
    view = document.bufferViews[document.accessors[attributes.JOINTS_0].bufferView]
    joints = np.frombuffer(
        document.binary_blob()[view.byteOffset : view.byteOffset + view.byteLength], np.uint8
    ).reshape(-1, 4)
    weights = accessor(document, attributes.WEIGHTS_0)
    np.testing.assert_allclose(weights.sum(1), 1, atol=1e-6)
    assert joints.max() == 1 and not joints[weights == 0].any()
    share = np.where(joints == 1, weights, 0).sum(1)[:, None]
    view = document.bufferViews[document.accessors[skin.inverseBindMatrices].bufferView]
    inverse = np.frombuffer(document.binary_blob()[view.byteOffset :][:128], "<f4")
    inverse = inverse.reshape(2, 4, 4)
    at_rest = next(open_animation(tmp_path / "a.glb").chunks()) / 1000
    np.testing.assert_array_equal(inverse[0], np.eye(4))
    from_pivot = at_rest + inverse[1, 3, :3]
    turn = rotations_of(document)["head"].as_matrix().transpose(0, 2, 1)
    drawn = (1 - share) * at_rest + share * (from_pivot @ turn + head.translation)
    expected = as_shown(bust, frames) / 1000
    np.testing.assert_allclose(drawn, expected, atol=1e-6)
    np.testing.assert_array_equal(expected[:, -1], np.tile(expected[0, -1], (FRAMES, 1)))
    assert np.abs(expected[-1, 0] - expected[0, 0]).max() > 0.01


@pytest.mark.parametrize("mesh", ["bound", "bust"])
def test_usd_moves_the_head_as_a_video(mesh, request, tmp_path):
    pytest.importorskip("pxr", reason="talkemo[usd] is not installed")
    from pxr import Usd, UsdGeom, UsdSkel, Vt

    binding = request.getfixturevalue(mesh)
    frames = written(binding, [tmp_path / "a.usdc"])
    stage = Usd.Stage.Open(str(tmp_path / "a.usdc"))
    cache, root = UsdSkel.Cache(), UsdSkel.Root(stage.GetPrimAtPath("/face"))
    cache.Populate(root, Usd.PrimDefaultPredicate)
    skeleton = cache.GetSkelQuery(UsdSkel.Skeleton(stage.GetPrimAtPath("/face/skeleton")))
    skinning = cache.GetSkinningQuery(stage.GetPrimAtPath("/face/mesh"))
    assert skinning.HasJointInfluences() and skinning.HasBlendShapes()
    points = Vt.Vec3fArray.FromNumpy(np.ascontiguousarray(frames.vertices[-1]))
    assert skinning.ComputeSkinnedPoints(
        skeleton.ComputeSkinningTransforms(FRAMES - 1), points, FRAMES - 1
    )
    np.testing.assert_allclose(np.array(points), as_shown(binding, frames)[-1], atol=1e-3)
    assert UsdGeom.Xform(stage.GetPrimAtPath("/head"))


def test_a_head_that_does_not_turn_has_no_tracks(bust, tmp_path):
    header = bound_header(bust, 1, FPS, {}, HeadTurner(bust))
    with open_writer(tmp_path / "a.glb", header) as writer:
        vertices = bust.rest[None]
        writer.write(Frames(vertices, vertices[:, bust.landmarks68], np.zeros((1, 52), np.float32)))
    document = pygltflib.GLTF2().load(str(tmp_path / "a.glb"))
    own = [node.name for node in document.nodes if not (node.extras or {}).get(ADDED_PART)]
    assert own == ["face"] and not document.skins


# ------------------------------------------------------------------------------------ hidden groups


@pytest.fixture(scope="module")
def with_helpers(bound):
    """The example, of which the last 200 triangles belong to a helper and 100 to teeth."""
    faces = bound.mesh.faces
    groups = np.full(len(bound.mesh.vertices), "skin", "<U6")
    groups[faces[-300:-200]] = "teeth"
    groups[faces[-200:]] = "hidden"
    mesh = replace(bound.mesh, attributes=MeshAttributes(groups=groups))
    visible = ~(groups[faces] == "hidden").any(1)
    assert 0 < (~visible).sum() < 1000
    return replace(bound, mesh=mesh), groups, visible


def test_an_npz_carries_what_is_hidden(with_helpers, tmp_path):
    binding, groups, visible = with_helpers
    written(binding, [tmp_path / "a.npz"])
    read = NpzAnimation(tmp_path / "a.npz")
    np.testing.assert_array_equal(vertex_groups(read.attributes, len(groups)), groups)
    mesh = Mesh(read.rest, read.faces, read.attributes)
    drawn = appearance_of(replace(binding, mesh=mesh), fill=False)
    assert len(drawn.faces) == visible.sum()
    arrays = dict(np.load(tmp_path / "a.npz"))
    for wrong in (arrays["groups"] + np.uint8(9), arrays["groups"][1:], arrays["rest"][:, 0]):
        np.savez(tmp_path / "b.npz", **{**arrays, "groups": wrong})
        with pytest.raises(InputError, match=r"b\.npz"):
            NpzAnimation(tmp_path / "b.npz")


def test_hidden_triangles_are_left_out_of_exports(with_helpers, tmp_path):
    binding, _, visible = with_helpers
    written(binding, [tmp_path / "a.glb", tmp_path / "objs"])
    seen = binding.mesh.faces[visible]
    document = pygltflib.GLTF2().load(str(tmp_path / "a.glb"))
    indices = accessor(document, document.meshes[0].primitives[0].indices)
    shown = set(map(tuple, indices.reshape(-1, 3).tolist()))
    # Sheets over the eyes and the mouth are left out, too.
    assert 0.95 * len(seen) < len(shown) and shown <= set(map(tuple, seen.tolist()))
    np.testing.assert_array_equal(load_mesh(tmp_path / "objs" / "000000.obj").faces, seen)
    # talkemo itself reads the whole mesh, and hides the same again.
    read = open_animation(tmp_path / "a.glb")
    np.testing.assert_array_equal(read.faces, binding.mesh.faces)
    hidden = vertex_groups(read.attributes, len(read.rest)) == "hidden"
    assert not (~hidden[read.faces].any(1) & ~visible).any()


def test_hidden_triangles_are_left_out_of_usd(with_helpers, tmp_path):
    pytest.importorskip("pxr", reason="talkemo[usd] is not installed")
    from pxr import Usd, UsdGeom

    binding, _, visible = with_helpers
    written(binding, [tmp_path / "a.usdc"])
    stage = Usd.Stage.Open(str(tmp_path / "a.usdc"))
    mesh = UsdGeom.Mesh(stage.GetPrimAtPath("/face/mesh"))
    indices = np.array(mesh.GetFaceVertexIndicesAttr().Get()).reshape(-1, 3)
    np.testing.assert_array_equal(indices, binding.mesh.faces[visible])


# ------------------------------------------------------------------------------------- the binding


@pytest.mark.parametrize("ending", ["npz", "glb"])
def test_a_binding_fits_the_animations_of_its_mesh(bound, face, tmp_path, ending):
    binding = moved(bound, 0.1, Z_UP)  # float64 vertices, which the files round
    save_binding(tmp_path / "b.npz", binding)
    written(binding, [tmp_path / f"a.{ending}"])
    read = open_animation(tmp_path / f"a.{ending}")
    again = load_binding(tmp_path / "b.npz", face, Mesh(np.asarray(read.rest), read.faces))
    np.testing.assert_array_equal(again.targets, binding.targets)
    shifted = np.asarray(read.rest) + 0.01
    with pytest.raises(InputError, match="another mesh"):
        load_binding(tmp_path / "b.npz", face, Mesh(shifted, read.faces))
    with pytest.raises(InputError, match="another mesh"):
        load_binding(tmp_path / "b.npz", face, Mesh(np.asarray(read.rest), read.faces[1:]))


def test_a_binding_of_an_older_version_fits_its_mesh(bound, face, tmp_path):
    save_binding(tmp_path / "b.npz", bound)
    arrays = dict(np.load(tmp_path / "b.npz"))
    del arrays["mesh_vertices"], arrays["mesh_faces"]
    np.savez(tmp_path / "old.npz", **arrays)
    load_binding(tmp_path / "old.npz", face, bound.mesh)
    rounded = replace(bound.mesh, vertices=bound.mesh.vertices + 1e-9)
    with pytest.raises(InputError, match="another mesh"):
        load_binding(tmp_path / "old.npz", face, rounded)
