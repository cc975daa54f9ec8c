"""The whole glTF back: what was in the file, with targets, an animation and turning joints."""

import base64
import copy
import json
from dataclasses import replace

import numpy as np
import pytest
import test_gltf
from gltf_characters import Character
from gltf_files import FACES, PIXEL, POINTS, Gltf, compressed
from gltf_poses import joined, opened, shown, world_matrix
from scipy.spatial.transform import Rotation

from talkemo import InputError, animate
from talkemo.binding.head_turner import Turner
from talkemo.face.canonical import ARKIT_NAMES
from talkemo.files.writing import all_or_none
from talkemo.formats.animation import Frames, Header
from talkemo.formats.appearance import AddedMesh, AddedMeshes, AddedVertices
from talkemo.formats.gltf_rig import part_of_joint
from talkemo.formats.mesh import load_mesh
from talkemo.formats.registry import open_animation, open_writer

COUNT = 4  # frames
QUARTER = Rotation.from_euler("x", 90, degrees=True)


def displacements(points):
    """Displacements (52, N, 3) of ARKit's shapes, the same wherever a vertex has a twin."""
    k = np.arange(len(ARKIT_NAMES))[:, None, None]
    moved = 0.05 * np.sin(3 * points + k) * (k % 3 == 0)
    moved[:, points[:, 1] > 0.6] = 0
    return moved.astype(np.float32)


def header_of(mesh, **more):
    rest = mesh.vertices.astype(np.float32)
    about = {
        "targets": lambda: displacements(rest),
        "origin": mesh.origin,
        "meta": {"audio": "hello there.wav", "emotion": "happy"},
        "attributes": mesh.attributes,
        **more,
    }
    return Header(COUNT, 10.0, mesh.faces, rest, np.ones(len(rest), bool), **about)


def frames_of(header, **more):
    arkit = np.random.default_rng(1).random((COUNT, len(ARKIT_NAMES)))
    vertices = header.rest + np.tensordot(arkit, displacements(header.rest), 1)
    return Frames(vertices, np.zeros((COUNT, 68, 3)), arkit, **more)


def written(path, header, frames, **options):
    with open_writer(path, header, **options) as writer:
        writer.write(frames)
    return writer


def back(g, folder, ending="glb", header=None, **frames):
    """Write a file and get it back; return both paths, the header and the frames."""
    source = g.write(folder / f"a.{ending}")
    made = header_of(load_mesh(source), **(header or {}))
    shown_frames = frames_of(made, **frames)
    written(folder / f"b.{ending}", made, shown_frames)
    return source, folder / f"b.{ending}", made, shown_frames


SURFACES = {k: v for k, v in test_gltf.SURFACES.items() if k not in ("weights_without_targets",)}


@pytest.mark.parametrize("name", SURFACES)
def test_a_surface_moves_as_the_mesh_does(tmp_path, name):
    g = Gltf()
    SURFACES[name](g)
    _, path, _, frames = back(g, tmp_path)
    animation = open_animation(path)
    rest = load_mesh(path).vertices
    for k, (own, expected) in enumerate(
        zip(np.concatenate(list(animation.chunks())), frames.vertices, strict=True)
    ):
        poses = shown(path, k)
        if name not in ("second_scene", "camera_added_and_invisible_part"):  # others are not shown
            used = np.unique(load_mesh(path).faces)
            np.testing.assert_allclose(joined(poses)[used], expected[used], atol=1e-5)
            np.testing.assert_allclose(own[used], expected[used], atol=1e-5)
    np.testing.assert_allclose(rest, load_mesh(tmp_path / "a.glb").vertices, atol=1e-6)
    assert animation.fps == 10 and animation.meta["unit"] == "m"


# ------------------------------------------------------------------------------------ a round trip


def turner_of(header, pivot=(0.0, 0, 0), **more):
    share = np.ones((len(header.rest), 1), np.float32)
    return Turner(share, np.array(pivot), np.eye(3), (), np.zeros((2, 3)), **more)


def added_parts(header):
    """A triangle that is added to the head, and moves with jawOpen."""
    vertices = AddedVertices()
    vertices.points = np.float32([[0, 0, 0.5], [0.1, 0, 0.5], [0, 0.1, 0.5]])
    moved = np.zeros((len(ARKIT_NAMES), 3, 3), np.float32)
    moved[ARKIT_NAMES.index("jawOpen"), :, 1] = -0.1
    part = AddedMesh("teeth", np.arange(3), np.array([[0, 1, 2]]), np.full(3, 255.0), 0.3)
    return AddedMeshes(vertices, lambda: moved, [part])


HEAD = Rotation.from_euler("yx", [[0, 0], [20, 0], [20, 10], [-15, 5]], degrees=True).as_matrix()
GAZE = np.radians([[0.0, 0], [5, 10], [0, -10], [3, 3]])


def without_added(tree, source):
    """A tree that was written, without what may be added to a source's."""
    tree = copy.deepcopy(tree)
    for name in ("accessors", "bufferViews", "nodes", "meshes", "materials"):
        if name in tree:
            tree[name] = tree[name][: len(source.get(name, []))]
            tree[name] = tree[name] or None
    for mesh, before in zip(tree["meshes"], source["meshes"]):
        count = [len(item.get("targets", [])) for item in before["primitives"]]
        for primitive, number in zip(mesh["primitives"], count):
            if "targets" in primitive:
                primitive["targets"] = primitive["targets"][:number]
            if not number:
                primitive.pop("targets", None)
        if "weights" in mesh:
            assert not any(mesh["weights"][count[0] :])
            mesh["weights"] = mesh["weights"][: count[0]]
            if not mesh["weights"]:
                del mesh["weights"]
        if "targetNames" in mesh.get("extras", {}):
            names = mesh["extras"]["targetNames"]
            assert len(names) == count[0] + len(ARKIT_NAMES)
            mesh["extras"]["targetNames"] = names[: count[0]]
            if not count[0]:
                del mesh["extras"]["targetNames"]
        if mesh.get("extras") == {}:
            del mesh["extras"]
    tree["animations"] = tree["animations"][-len(source["animations"]) :]
    for animation, before in zip(tree["animations"], source["animations"]):
        for channel, other in zip(animation["channels"], before["channels"]):
            channel["sampler"] = other["sampler"]
        animation["samplers"] = animation["samplers"][: len(before["samplers"])]
    for node, before in zip(tree["nodes"], source["nodes"]):
        if "children" in before:
            node["children"] = node["children"][: len(before["children"])]
    del tree["buffers"][0]["byteLength"]
    return {key: value for key, value in tree.items() if value is not None}


@pytest.mark.parametrize("ending", ["glb", "gltf", "vrm"])
def test_a_character_comes_back_whole(tmp_path, ending):
    g = Character()
    g.tree["nodes"][5]["extras"] = {"kept": 1}
    header = {"added": lambda: added_parts(None), "turn": turner_of(header_of(plain_mesh(g)))}
    source, path, _, _ = back(g, tmp_path, ending, header, head=HEAD, gaze=GAZE)
    before, after = opened(source), opened(path)
    del before.tree["buffers"][0]["byteLength"]
    before.tree["buffers"][0].pop("uri", None)
    after.tree["buffers"][0].pop("uri", None)
    assert without_added(after.tree, before.tree) == before.tree
    # Names that the file has are not given twice; its targets have normals in none of ours.
    names = after.tree["meshes"][0]["extras"]["targetNames"]
    assert len(set(names)) == 54 and names[:2] == ["smile", "jawOpen"]
    for number in range(len(before.tree["accessors"])):
        one, other = before.accessor(number), after.accessor(number)
        assert one.dtype == other.dtype and one.tobytes() == other.tobytes()
    assert bytes(after.buffers[0][: len(before.buffers[0])]) == bytes(before.buffers[0])
    for image in range(2):
        assert after.image(image) == before.image(image)
    assert [a["name"] for a in after.tree["animations"]] == ["hello there", "Idle"]
    idle = after.tree["animations"][-1]  # has a weight for each target
    sampler = idle["samplers"][idle["channels"][0]["sampler"]]
    weights = after.accessor(sampler["output"]).reshape(2, -1)
    np.testing.assert_array_equal(weights[:, :2], [[0, 0], [1, 0.5]])
    assert weights.shape == (2, 54) and not weights[:, 2:].any()
    teeth = after.tree["nodes"][-1]
    assert (
        teeth["name"] == "teeth"
        and len(after.tree["nodes"]) - 1 in after.tree["nodes"][5]["children"]
    )
    assert not list(tmp_path.glob(".talkemo*"))
    assert (tmp_path / "b.bin").exists() == (ending == "gltf")


def plain_mesh(g):
    import tempfile
    from pathlib import Path

    with tempfile.TemporaryDirectory() as folder:
        return load_mesh(g.write(Path(folder) / "a.glb"))


# ------------------------------------------------------------------------------------ head and eyes


def turned(points, turn, pivot):
    return (points - pivot) @ turn.T + pivot


@pytest.mark.parametrize("neck", [True, False])
def test_the_head_turns_about_its_joint(tmp_path, neck):
    g = Character(neck)
    header = {"turn": turner_of(header_of(plain_mesh(g))), "added": lambda: added_parts(None)}
    _, path, _, frames = back(g, tmp_path, header=header, head=HEAD)
    nodes = g.tree["nodes"]
    head, lower = world_matrix(nodes, 5)[:3, 3], world_matrix(nodes, 4)[:3, 3]
    face = POINTS[:, 1] >= -0.5  # follows the head alone
    for k, turn in enumerate(HEAD):
        pivot = head
        if neck:  # half of the turn is the neck's, which takes the head's joint along
            half = Rotation.from_rotvec(Rotation.from_matrix(turn).as_rotvec() / 2).as_matrix()
            pivot = turned(head, half, lower)
        expected = (frames.vertices[k] - head) @ turn.T + pivot
        poses = shown(path, k)
        np.testing.assert_allclose(
            poses[0, 0].points[face], expected[: len(POINTS)][face], atol=1e-5
        )
        # Eyes, the hat below the joint, and what was added follow as well.
        np.testing.assert_allclose(
            joined({1: poses[1, 0]}), expected[len(POINTS) : 2 * len(POINTS)], atol=1e-5
        )
        np.testing.assert_allclose(poses[8, 0].points, expected[2 * len(POINTS) :], atol=1e-5)
        added = added_parts(None)
        at = added.vertices.points + np.tensordot(frames.arkit[k], added.targets(), 1)
        np.testing.assert_allclose(poses[9, 0].points, (at - head) @ turn.T + pivot, atol=1e-5)


def test_eyes_turn_once(tmp_path):
    """The joints turn the eyeballs, and the shapes of the gaze leave them alone."""
    g = Character()
    mesh = plain_mesh(g)
    rows = len(POINTS) + np.arange(len(POINTS))
    middle = np.array([0.0, 0, 1])
    turner = turner_of(header_of(mesh))
    turner.eyes = [(rows, middle)]
    _, path, made, frames = back(g, tmp_path, header={"turn": turner}, gaze=GAZE)
    look = [k for k, name in enumerate(ARKIT_NAMES) if name.startswith("eyeLook")]
    targets = displacements(made.rest)
    assert np.abs(targets[look][:, rows]).max() > 0.01
    targets[np.ix_(look, rows)] = 0
    eyes = turner.eye_rotations(GAZE)
    for k, turn in enumerate(eyes):
        expected = made.rest + np.tensordot(frames.arkit[k], targets, 1)
        poses = shown(path, k)
        np.testing.assert_allclose(poses[0, 0].points, expected[: len(POINTS)], atol=1e-5)
        for node, side in ((6, POINTS[:, 0] > 0), (7, POINTS[:, 0] <= 0)):
            centre = world_matrix(g.tree["nodes"], node)[:3, 3]
            np.testing.assert_allclose(
                poses[1, 0].points[side], turned(expected[rows][side], turn, centre), atol=1e-5
            )


@pytest.mark.parametrize("scale", [2, -2])
def test_without_a_skeleton_nodes_turn(tmp_path, scale):
    g = Gltf()
    g.tree["nodes"] = [
        {"children": [1], "translation": [0, 2, 0], "scale": [scale, 2, 2]},
        {"mesh": 0, "rotation": QUARTER.as_quat().tolist()},
    ]
    pivot = np.array([0.0, 1.5, 0.1])
    mesh = plain_mesh(g)
    header = {"turn": turner_of(header_of(mesh), pivot), "added": lambda: added_parts(None)}
    _, path, _, frames = back(g, tmp_path, header=header, head=HEAD, gaze=GAZE)
    for k, turn in enumerate(HEAD):
        poses = shown(path, k)
        expected = turned(frames.vertices[k], turn, pivot)
        np.testing.assert_allclose(poses[1, 0].points, expected, atol=1e-5)
        added = added_parts(None)
        at = added.vertices.points + np.tensordot(frames.arkit[k], added.targets(), 1)
        np.testing.assert_allclose(
            joined({0: poses[max(poses)]}), turned(at, turn, pivot), atol=1e-5
        )
    names = [node.get("name") for node in opened(path).tree["nodes"]]
    assert names == [None, None, "head", "teeth"]


def test_a_neck_without_a_skeleton_gets_a_skin(tmp_path):
    g = Gltf()
    g.node["translation"] = [0, 2, 0]
    mesh = plain_mesh(g)
    turner = turner_of(header_of(mesh), (0.0, 1.5, 0))
    turner.share = (POINTS[:, 1:2] + 0.75).astype(np.float32) / 1.5
    _, path, _, frames = back(g, tmp_path, header={"turn": turner}, head=HEAD)
    for k, turn in enumerate(HEAD):
        expected = turner(frames.vertices[k], turn)
        np.testing.assert_allclose(shown(path, k)[0, 0].points, expected, atol=1e-5)


def test_a_joint_far_from_the_head_moves_as_well(tmp_path):
    """Where a skeleton lies elsewhere than its mesh, the head still turns about its neck."""
    g = Gltf()
    g.tree["nodes"] += [{"name": "mixamorig:Head"}]
    g.skin([1], [np.eye(4)])
    pivot = np.array([0.0, -0.9, 0])
    header = {"turn": turner_of(header_of(plain_mesh(g)), pivot)}
    _, path, _, frames = back(g, tmp_path, header=header, head=HEAD)
    for k, turn in enumerate(HEAD):
        expected = turned(frames.vertices[k], turn, pivot)
        np.testing.assert_allclose(shown(path, k)[0, 0].points, expected, atol=1e-5)


def test_a_joint_with_a_matrix_turns(tmp_path):
    g = Gltf()
    place = np.eye(4)
    place[:3, :3] = 2 * QUARTER.as_matrix()
    g.tree["nodes"] += [{"name": "head.x", "matrix": place.T.ravel().tolist()}]
    g.skin([1], [np.linalg.inv(place)])
    header = {"turn": turner_of(header_of(plain_mesh(g)))}
    _, path, _, frames = back(g, tmp_path, header=header, head=HEAD)
    for k, turn in enumerate(HEAD):
        np.testing.assert_allclose(
            shown(path, k)[0, 0].points, frames.vertices[k] @ turn.T, atol=1e-5
        )


def test_a_head_is_found_by_what_it_moves(tmp_path):
    g = Gltf()
    g.tree["nodes"] += [{"name": "bone_3"}, {"name": "bone_7"}]
    numbers = np.zeros((len(POINTS), 4), np.uint8)
    numbers[:, 0] = POINTS[:, 1] >= -0.5
    g.skin([1, 2], [np.eye(4)] * 2, numbers, np.tile([1.0, 0, 0, 0], (len(POINTS), 1)))
    turner = turner_of(header_of(plain_mesh(g)))
    turner.share = np.float32(POINTS[:, 1:2] >= -0.5)
    _, path, _, frames = back(g, tmp_path, header={"turn": turner}, head=HEAD)
    turned_points = turner(frames.vertices[2], HEAD[2])
    np.testing.assert_allclose(shown(path, 2)[0, 0].points, turned_points, atol=1e-5)


def test_every_skeleton_turns(tmp_path):
    """Hair and clothes of some avatars have skeletons of their own, of the same names."""
    g = Character()
    count = len(g.tree["nodes"])
    place = [0.2, 0.1, 0]
    hair = dict(g.tree["meshes"][1]["primitives"][0]["attributes"])
    hair["JOINTS_0"] = g.add(np.zeros((len(POINTS), 4), np.uint8))
    g.tree["meshes"].append({"primitives": [{"attributes": hair, "indices": g.add(FACES.ravel())}]})
    g.tree["nodes"] += [{"name": "Head.001", "translation": place}, {"mesh": 3, "skin": 1}]
    inverse = np.eye(4, dtype=np.float32)
    inverse[3, :3] = np.negative(place)
    g.tree["skins"].append(
        {"joints": [count], "inverseBindMatrices": g.add(inverse.reshape(1, 16))}
    )
    g.tree["scenes"][0]["nodes"] += [count, count + 1]
    del g.tree["extensions"]["VRM"]
    header = {"turn": turner_of(header_of(plain_mesh(g)))}
    _, path, _, frames = back(g, tmp_path, header=header, head=HEAD)
    for k, turn in enumerate(HEAD):
        expected = turned(frames.vertices[k][-len(POINTS) :], turn, np.array(place))
        np.testing.assert_allclose(shown(path, k)[count + 1, 0].points, expected, atol=1e-5)
    tracks = opened(path).tree["animations"][0]["channels"]
    assert [c["target"]["node"] for c in tracks if c["target"]["path"] == "rotation"] == [4, 5, 9]


@pytest.mark.parametrize(
    ("names", "part"),
    [
        ("Head mixamorig:Head mixamorigHead head.x J_Bip_C_Head CC_Base_Head Bip01_Head DEF-head 頭", "head"),
        ("Neck mixamorig1:Neck neck_01 Bip001|Neck Rig:neck.x 首", "neck"),
        ("LeftEye eye.L J_Adj_R_FaceEye CC_Base_L_Eye lEye eyeball_r FACIAL_L_Eye 左目", "eye"),
        ("HeadTop_End Head_end headIK EyeLid_L Wolf3D_Head Eyes Ahead NeckTwist LeftHand", None),
    ],
)  # fmt: skip
def test_names_of_joints(names, part):
    assert {name: part_of_joint(name) for name in names.split()} == dict.fromkeys(
        names.split(), part
    )


# ------------------------------------------------------------------------------------- other inputs


class OwnShapes:
    """Drives the character's jawOpen, as ARKit's is."""

    names = ("jawOpen",)
    recipes = np.eye(len(ARKIT_NAMES))[[ARKIT_NAMES.index("jawOpen")]]
    at_rest = np.zeros(1)

    def __init__(self, mesh):
        self.count = len(mesh.vertices)

    def targets(self):
        return np.zeros((1, self.count, 3), np.float32)

    def weights(self, frames):
        return frames.arkit[:, [ARKIT_NAMES.index("jawOpen")]]


@pytest.mark.parametrize("both", [True, False])
def test_own_shapes_are_driven(tmp_path, both):
    g = Character()
    header = {"own_shapes": OwnShapes(plain_mesh(g))}
    if not both:
        header["targets"] = None
    source, path, _, frames = back(g, tmp_path, header=header)
    before, after = opened(source), opened(path)
    names = [animation["name"] for animation in after.tree["animations"]]
    own = names.index("hello there own shapes" if both else "hello there")
    assert names == ["hello there", *(["hello there own shapes"] * both), "Idle"]
    (channel,) = after.tree["animations"][own]["channels"]
    sampler = after.tree["animations"][own]["samplers"][channel["sampler"]]
    weights = after.accessor(sampler["output"]).reshape(COUNT, -1)
    jaw = frames.arkit[:, ARKIT_NAMES.index("jawOpen")]
    np.testing.assert_allclose(weights[:, 1], jaw, atol=1e-6)
    assert (weights[:, 0] == 0.25).all() and not weights[:, 2:].any()
    assert weights.shape[1] == 2 + both * len(ARKIT_NAMES)
    if not both:
        assert after.tree["meshes"] == before.tree["meshes"]
    assert len(open_animation(path)) == COUNT


def test_pointers_to_weights_get_zeros(tmp_path):
    g = Character()
    channel = g.tree["animations"][0]["channels"][0]
    pointer = {"pointer": "/meshes/0/weights"}
    channel["target"] = {"path": "pointer", "extensions": {"KHR_animation_pointer": pointer}}
    _, path, _, _ = back(g, tmp_path)
    after = opened(path)
    idle = after.tree["animations"][-1]
    sampler = idle["samplers"][idle["channels"][0]["sampler"]]
    assert after.accessor(sampler["output"]).size == 2 * (2 + len(ARKIT_NAMES))


@pytest.mark.parametrize("moves_eyes", [True, False])
def test_eye_joints_do_not_turn_what_own_shapes_turn(tmp_path, moves_eyes):
    g = Character()
    shapes = OwnShapes(plain_mesh(g))
    shapes.names = ("eyeLookUpLeft",)
    targets = np.zeros((1, shapes.count, 3), np.float32)
    targets[:, len(POINTS) : 2 * len(POINTS)] = 0.01 * moves_eyes  # those of the eyes
    shapes.targets = lambda: targets
    header = {"own_shapes": shapes, "turn": turner_of(header_of(plain_mesh(g))), "targets": None}
    _, path, _, _ = back(g, tmp_path, header=header, gaze=GAZE)
    turning = {c["target"]["node"] for c in opened(path).tree["animations"][0]["channels"]}
    assert turning == (set() if moves_eyes else {6, 7})


def test_our_animation_is_read_among_others(tmp_path):
    _, path, _, frames = back(Character(), tmp_path)
    animation = open_animation(path)
    assert len(animation) == COUNT and animation.fps == 10
    vertices = np.concatenate(list(animation.chunks()))
    np.testing.assert_allclose(vertices, frames.vertices, atol=1e-5)


def test_the_animation_has_the_colours_of_the_file(tmp_path):
    """`render` draws the file as it is, as `animate` draws its source."""
    g = Gltf()
    SURFACES[next(iter(SURFACES))](g)
    g.tree["materials"] = [{"pbrMetallicRoughness": {"baseColorFactor": [0, 1, 0, 1]}}]
    for mesh in g.tree["meshes"]:
        for primitive in mesh["primitives"]:
            primitive["material"] = 0
    source, path, _, _ = back(g, tmp_path)
    colours = [reader.attributes.colours for reader in (load_mesh(source), open_animation(path))]
    assert colours[0].any()
    np.testing.assert_array_equal(*colours)


def test_speaking_twice(tmp_path):
    """A second sound adds another animation; what was added to the head is used again."""
    g = Character()
    header = {"added": lambda: added_parts(None)}
    _, path, _, _ = back(g, tmp_path, header=header)
    mesh = load_mesh(path)
    assert len(mesh.vertices) == 3 * len(POINTS)  # what was added is no part of the mesh
    again = header_of(mesh, **header)
    frames = frames_of(again)
    written(tmp_path / "c.glb", again, frames)
    after = opened(tmp_path / "c.glb")
    assert [node.get("name") for node in after.tree["nodes"]].count("teeth") == 1
    names = after.tree["meshes"][0]["extras"]["targetNames"]
    assert len(set(names)) == len(names) == 2 + 2 * len(ARKIT_NAMES)
    named = [animation["name"] for animation in after.tree["animations"]]
    assert len(set(named)) == len(named) > 1
    vertices = np.concatenate(list(open_animation(tmp_path / "c.glb").chunks()))
    np.testing.assert_allclose(vertices, frames.vertices, atol=1e-5)
    added = added_parts(None)
    at = added.vertices.points + np.tensordot(frames.arkit[1], added.targets(), 1)
    np.testing.assert_allclose(shown(tmp_path / "c.glb", 1)[9, 0].points, at, atol=1e-5)


def test_a_file_of_talkemo_is_made_anew(tmp_path):
    mesh = load_mesh(Gltf().write(tmp_path / "a.glb"))
    header = header_of(mesh, origin=None)
    written(tmp_path / "b.glb", header, frames_of(header))
    again = header_of(load_mesh(tmp_path / "b.glb"))
    written(tmp_path / "c.glb", again, frames_of(again))
    assert len(opened(tmp_path / "c.glb").tree["animations"]) == 1


def test_one_mesh_of_two_nodes_is_copied(tmp_path):
    """Each of two eyes gets displacements in its own space."""
    g = Gltf()
    turn = QUARTER.as_quat().tolist()
    g.tree["nodes"] += [{"mesh": 0, "translation": [3, 0, 0], "rotation": turn}]
    g.tree["scenes"][0]["nodes"] = [0, 1]
    _, path, _, frames = back(g, tmp_path)
    np.testing.assert_allclose(joined(shown(path, 1)), frames.vertices[1], atol=1e-5)
    nodes = opened(path).tree["nodes"]
    assert [node["mesh"] for node in nodes] == [1, 0]


def test_parts_that_share_vertices_go_on_sharing(tmp_path):
    """As VRM's: several materials, one list of vertices; lines need as many targets."""
    g = Gltf()
    first = dict(g.primitive, indices=g.add(FACES[:100].ravel()))
    second = dict(g.primitive, indices=g.add(FACES[100:].ravel()))
    line = dict(g.primitive, indices=g.add(np.uint32([0, 1])), mode=1)
    g.tree["meshes"][0]["primitives"] = [first, second, line]
    _, path, _, frames = back(g, tmp_path)
    primitives = opened(path).tree["meshes"][0]["primitives"]
    assert primitives[0]["targets"] == primitives[1]["targets"]
    assert [len(primitive["targets"]) for primitive in primitives] == [len(ARKIT_NAMES)] * 3
    vertices = np.concatenate(list(open_animation(path).chunks()))
    np.testing.assert_allclose(vertices, frames.vertices, atol=1e-5)


def test_a_mesh_that_stays_still_is_left_alone(tmp_path):
    g = Gltf()
    far = {
        "attributes": {"POSITION": g.add(POINTS + np.float32([0, 2, 0]))},
        "indices": g.add(FACES.ravel()),
    }
    g.tree["meshes"].append({"primitives": [far]})
    g.tree["nodes"].append({"mesh": 1})
    g.tree["scenes"][0]["nodes"] = [0, 1]
    _, path, _, _ = back(g, tmp_path)
    assert opened(path).tree["meshes"][1] == {"primitives": [far]}


def test_draco_goes_where_targets_come(tmp_path):
    g = test_gltf.draco()
    _, path, _, frames = back(g, tmp_path)
    after = opened(path)
    assert "extensionsUsed" not in after.tree and "extensionsRequired" not in after.tree
    primitive = after.tree["meshes"][0]["primitives"][0]
    assert "extensions" not in primitive
    np.testing.assert_allclose(joined(shown(path, 1)), frames.vertices[1], atol=1e-5)
    assert "min" in after.tree["accessors"][primitive["attributes"]["POSITION"]]


def test_meshopt_stays(tmp_path):
    source, path, _, frames = back(compressed(), tmp_path)
    before, after = opened(source), opened(path)
    assert after.tree["extensionsRequired"] == before.tree["extensionsRequired"]
    np.testing.assert_allclose(joined(shown(path, 1)), frames.vertices[1], atol=1e-5)
    fallback = after.tree["buffers"][after.tree["bufferViews"][0]["buffer"]]
    assert fallback == before.tree["buffers"][1]


@pytest.mark.parametrize("target", ["glb", "gltf", "other folder"])
def test_images_beside_the_file(tmp_path, target):
    g = Gltf()
    content = base64.b64decode(PIXEL)
    (tmp_path / "skin.png").write_bytes(content)
    images = [{"uri": "skin.png", "name": "skin"}, {"uri": "lost.ktx2"}, {"uri": "../skin.png"}]
    g.tree |= {"images": images, "textures": [{"source": 0}]}
    colour = {"baseColorTexture": {"index": 0}}
    g.tree["materials"] = [{"pbrMetallicRoughness": colour}]
    g.primitive["material"] = 0
    g.primitive["attributes"]["TEXCOORD_0"] = g.add(test_gltf.UV)
    mesh = load_mesh(g.write(tmp_path / "a.gltf", "a.bin"))
    folder = tmp_path / "other" if target == "other folder" else tmp_path
    folder.mkdir(exist_ok=True)
    path = folder / ("b.glb" if target == "glb" else "b.gltf")
    header = header_of(mesh)
    written(path, header, frames_of(header))
    after = opened(path)
    assert after.image(0) == content and after.tree["images"][0]["name"] == "skin"
    assert after.tree["images"][1:] == images[1:]
    assert ("uri" in after.tree["images"][0]) == (target == "gltf")
    assert load_mesh(path).attributes.texture == content


def test_several_buffers_become_one(tmp_path):
    g = Gltf()
    extra = POINTS.tobytes() + b"x"
    data = "data:application/octet-stream;base64," + base64.b64encode(extra).decode()
    g.tree["buffers"] = [{"byteLength": len(extra), "uri": data}]
    view = {"buffer": 1, "byteOffset": 0, "byteLength": len(extra) - 1}
    g.views.append(view)
    g.primitive["attributes"]["POSITION"] = g.add(POINTS, bufferView=len(g.views) - 1)
    _, path, _, frames = back(g, tmp_path)
    assert len(opened(path).tree["buffers"]) == 1
    np.testing.assert_allclose(joined(shown(path, 2)), frames.vertices[2], atol=1e-5)


def test_other_faces_become_gltf_but_no_vrm(tmp_path):
    mesh = load_mesh(Gltf().write(tmp_path / "a.glb"))
    header = header_of(mesh, origin=None)
    frames = frames_of(header)
    for bake in (False, True):
        written(tmp_path / "b.gltf", header, frames, bake=bake)
        vertices = np.concatenate(list(open_animation(tmp_path / "b.gltf").chunks()))
        np.testing.assert_allclose(vertices, frames.vertices, atol=1e-5)
        assert json.loads((tmp_path / "b.gltf").read_text())["buffers"][0]["uri"] == "b.bin"
        with pytest.raises(InputError, match=r"can only be made of a \.vrm"):
            open_writer(tmp_path / "b.vrm", header, bake=bake)
    with pytest.raises(InputError, match=r"a\.glb is no VRM"):
        open_writer(tmp_path / "b.vrm", header_of(mesh))
    g = Character()
    del g.tree["extensions"]["VRM"]["humanoid"]
    mesh = load_mesh(g.write(tmp_path / "c.vrm"))
    with pytest.raises(InputError, match=r"c\.vrm: a VRM without humanoid"):
        open_writer(tmp_path / "b.vrm", header_of(mesh))
    header = header_of(mesh)
    written(tmp_path / "d.glb", header, frames_of(header))
    assert not list(tmp_path.glob(".talkemo*")) and not (tmp_path / "b.vrm").exists()


def test_what_cannot_be_written_back_is_refused_before_the_work(tmp_path):
    g = Gltf()
    tree = g.whole()
    del tree["buffers"][0]["byteLength"]
    from gltf_files import glb_of

    (tmp_path / "a.glb").write_bytes(glb_of(json.dumps(tree).encode(), g.block))
    mesh = load_mesh(tmp_path / "a.glb")
    with pytest.raises(InputError, match=r"a\.glb: not a glTF that can be written back"):
        open_writer(tmp_path / "b.glb", header_of(mesh))
    assert not list(tmp_path.glob(".talkemo*"))


def test_a_gltf_that_fails_leaves_nothing(tmp_path):
    mesh = load_mesh(Gltf().write(tmp_path / "a.glb"))
    (tmp_path / "b.bin").write_bytes(b"before")
    with pytest.raises(RuntimeError), open_writer(tmp_path / "b.gltf", header_of(mesh)):
        raise RuntimeError
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.glb", "b.bin"]
    assert (tmp_path / "b.bin").read_bytes() == b"before"


def test_a_bin_appears_with_the_other_outputs_only(tmp_path):
    mesh = load_mesh(Gltf().write(tmp_path / "a.glb"))
    header = header_of(mesh)
    with pytest.raises(RuntimeError), all_or_none([tmp_path / "b.gltf", tmp_path / "c.npz"]):
        written(tmp_path / "b.gltf", header, frames_of(header))
        raise RuntimeError
    assert [path.name for path in tmp_path.iterdir()] == ["a.glb"]
    with all_or_none([tmp_path / "b.gltf"]):
        written(tmp_path / "b.gltf", header, frames_of(header))
        assert not (tmp_path / "b.bin").exists()
    assert load_mesh(tmp_path / "b.gltf").vertices.shape == mesh.vertices.shape


def test_a_joint_without_volume_is_no_head(tmp_path):
    g = Character()
    g.tree["nodes"][5]["scale"] = [0, 0, 0]
    header = {"turn": turner_of(header_of(plain_mesh(g))), "added": lambda: added_parts(None)}
    _, path, _, _ = back(g, tmp_path, header=header, head=HEAD)
    tree = opened(path).tree
    assert all(c["target"]["path"] == "weights" for c in tree["animations"][0]["channels"])
    assert len(tree["nodes"]) - 1 in tree["scenes"][0]["nodes"]


def test_lips_that_were_cut(tmp_path):
    """Vertices are added to the primitive that was cut, with attributes and shapes between."""
    g = Character()
    mesh = load_mesh(g.write(tmp_path / "a.glb"))
    pairs = np.array([[5, 6], [20, 21], [40, 41]])
    fraction = np.array([0.25, 0.5, 0.75])
    places = mesh.vertices[pairs[:, 0]] + [0.01, 0, 0]
    count = len(mesh.vertices)
    extra = np.array([[5, count, 20], [count, count + 1, count + 2]], np.int32)
    cut = replace(
        mesh,
        vertices=np.concatenate([mesh.vertices, places]),
        faces=np.concatenate([mesh.faces, extra]),
        origin=mesh.origin.with_cut(pairs, fraction),
    )
    header = header_of(cut, turn=turner_of(header_of(cut)))
    frames = frames_of(header, head=HEAD)
    written(tmp_path / "b.glb", header, frames)
    before, after = opened(tmp_path / "a.glb"), opened(tmp_path / "b.glb")
    source, primitive = (f.tree["meshes"][0]["primitives"][0] for f in (before, after))
    own = len(POINTS)
    for name in source["attributes"]:
        one, other = before.attribute(source, name), after.attribute(primitive, name)
        np.testing.assert_array_equal(other[:own], one)
        assert len(other) == own + 3
    uv = before.attribute(source, "TEXCOORD_0")
    between = (1 - fraction[:, None]) * uv[pairs[:, 0]] + fraction[:, None] * uv[pairs[:, 1]]
    np.testing.assert_allclose(after.attribute(primitive, "TEXCOORD_0")[own:], between, atol=1e-6)
    corners = after.indices(primitive).reshape(-1, 3)
    np.testing.assert_array_equal(corners[: len(FACES)], FACES)
    np.testing.assert_array_equal(corners[len(FACES) :], [[5, own, 20], [own, own + 1, own + 2]])
    assert (
        after.tree["meshes"][1]["primitives"][0]["indices"]
        == before.tree["meshes"][1]["primitives"][0]["indices"]
    )
    poses = shown(tmp_path / "b.glb", 0)  # the head does not turn yet
    expected = np.concatenate([frames.vertices[0][:own], frames.vertices[0][count:]])
    np.testing.assert_allclose(poses[0, 0].points, expected, atol=1e-5)


def test_a_bin_of_the_input_is_not_overwritten(tmp_path):
    mesh = load_mesh(Gltf().write(tmp_path / "a.gltf", "b.bin"))
    with pytest.raises(InputError, match=r"b\.bin is an input"):
        open_writer(tmp_path / "b.gltf", header_of(mesh))
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.gltf", "b.bin"]


def test_a_vrm_0_describes_added_materials(tmp_path):
    g = Character()
    g.tree["extensions"]["VRM"]["materialProperties"] = [{"name": "skin"}]
    _, path, _, _ = back(g, tmp_path, "vrm", {"added": lambda: added_parts(None)})
    described = opened(path).tree["extensions"]["VRM"]["materialProperties"]
    assert [item["name"] for item in described] == ["skin", "teeth"]


def test_animate_gives_the_file_back(bound, short_speech, tmp_path):
    """A skinned mask with a head's joint: posed, it is the npz with its head turned."""
    vertices = bound.mesh.vertices.astype(np.float32)
    g = Gltf(vertices, bound.mesh.faces)
    place = np.eye(4)
    place[:3, 3] = [0.0, -40, -30]
    g.tree["nodes"] += [{"name": "Head", "translation": place[:3, 3].tolist()}]
    g.skin([1], [np.linalg.inv(place)])
    mesh = load_mesh(g.write(tmp_path / "a.glb"))
    outputs = [tmp_path / "b.glb", tmp_path / "b.npz"]
    result = animate(replace(bound, mesh=mesh), short_speech, outputs, fps=5)
    with np.load(outputs[1]) as arrays:
        head, facing, frames = arrays["head"], arrays["facing"], arrays["vertices"]
    animation = open_animation(outputs[0])
    own = np.concatenate(list(animation.chunks()))
    residual = np.linalg.norm(own - frames, axis=2)
    focus = bound.focus
    assert result.metrics["arkit_residual_mesh_units"] == pytest.approx(
        residual[::8][:, focus].mean(), rel=1e-3
    )
    for k in (0, len(head) - 1):
        turn = facing @ head[k] @ facing.T
        expected = turned(own[k], turn, place[:3, 3])
        np.testing.assert_allclose(shown(outputs[0], k)[0, 0].points, expected, atol=1e-3)
    assert np.abs(head[-1] - np.eye(3)).max() > 1e-3
    tree = opened(outputs[0]).tree
    assert tree["animations"][0]["name"] == short_speech.stem
    assert {"mouth", "teeth"} <= {tree["nodes"][k]["name"] for k in tree["nodes"][1]["children"]}


def test_a_vrm_of_another_face_is_refused_early(tmp_path, example_face, short_speech):
    with pytest.raises(InputError, match=r"b\.vrm: a \.vrm can only be made of a \.vrm"):
        animate(example_face, short_speech, tmp_path / "b.vrm", weights=tmp_path / "none")
