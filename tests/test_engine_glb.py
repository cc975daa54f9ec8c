"""GLBs of bare meshes for engines: eyeballs that nodes turn, colours, normals; foreign readers."""

import importlib.util
import json
import os
import shutil
import sys
from dataclasses import replace

import numpy as np
import pygltflib
import pytest
import trimesh
from conftest import ROOT
from gltf_files import glb_of
from scipy.spatial.transform import Rotation

from talkemo import animate
from talkemo.binding.head_turner import Turner
from talkemo.face.canonical import ARKIT_NAMES
from talkemo.formats.animation import Frames, Header
from talkemo.formats.appearance import Appearance
from talkemo.formats.mesh import load_mesh
from talkemo.formats.mesh_types import MeshAttributes
from talkemo.formats.registry import open_animation, open_writer
from talkemo.formats.units import LengthUnit

FRAMES, FPS, MM = 4, 10.0, LengthUnit("mm", 1e-3)
CENTRES = np.array([[-30.0, 35, 70], [30, 35, 70]])  # of the right and the left eyeball
SKIN, BALL = (200, 150, 120), (20, 90, 30)


@pytest.fixture(scope="module")
def head(example_face):
    """Vertices, triangles and the rows of both eyeballs of the example with eyeballs.

    One vertex has no triangle, and one only triangles without area.
    """
    mesh = load_mesh(example_face)
    ball = trimesh.creation.icosphere(1, 12.0)
    vertices, faces, rows = [mesh.vertices], [mesh.faces], []
    for centre in CENTRES:
        first = sum(map(len, vertices))
        rows.append(first + np.arange(len(ball.vertices)))
        vertices.append(ball.vertices + centre)
        faces.append(ball.faces + first)
    count = sum(map(len, vertices))
    vertices.append(np.array([[0.0, 0, 0], [1, 1, 1]]))
    faces.append(np.array([[count, count, 0]]))
    return np.concatenate(vertices), np.concatenate(faces).astype(np.int32), rows


def header_of(head, **settings):
    """The header of frames that turn the whole mesh about the origin, and its eyeballs."""
    vertices, faces, rows = head
    targets = np.zeros((52, len(vertices), 3), np.float32)
    targets[ARKIT_NAMES.index("jawOpen"), :100, 1] = -5
    for k, name in enumerate(ARKIT_NAMES):
        if name.startswith("eyeLook"):
            targets[k, np.concatenate(rows), 0] = 3
    eyes = list(zip(rows, CENTRES))
    turn = Turner(
        np.ones((len(vertices), 1), np.float32), np.array([0.0, -20, 0]), np.eye(3), eyes, CENTRES
    )
    focus = np.ones(len(vertices), bool)
    settings = {"turn": turn, "unit": MM, "targets": lambda: targets, **settings}
    return Header(FRAMES, FPS, faces, vertices, focus, **settings)


def frames_of(head):
    """Frames whose jaw opens while head and eyes turn; the weights of the gaze are set too."""
    weights = np.zeros((FRAMES, 52), np.float32)
    weights[:, ARKIT_NAMES.index("jawOpen")] = np.linspace(0, 0.9, FRAMES)
    weights[:, ARKIT_NAMES.index("eyeLookUpLeft")] = 0.5
    vertices = np.repeat(head[0][None], FRAMES, 0).astype(np.float32)
    vertices[:, :100, 1] -= 5 * np.linspace(0, 0.9, FRAMES, dtype=np.float32)[:, None]
    turned = Rotation.from_euler("yx", np.outer(np.arange(FRAMES), [9, 4]), degrees=True)
    gaze = np.column_stack([np.linspace(0, 0.2, FRAMES), np.linspace(0, -0.3, FRAMES)])
    return Frames(vertices, vertices[:, :68], weights, turned.as_matrix(), gaze)


def written(path, head, bake=False, **settings):
    with open_writer(path, header_of(head, **settings), bake=bake) as writer:
        writer.write(frames_of(head))
    return pygltflib.GLTF2().load(str(path))


def values(document, number):
    """An accessor's values by pygltflib, without sparse ones."""
    accessor = document.accessors[number]
    view = document.bufferViews[accessor.bufferView]
    block = document.binary_blob()[view.byteOffset : view.byteOffset + view.byteLength]
    width = {"SCALAR": 1, "VEC2": 2, "VEC3": 3, "VEC4": 4}[accessor.type]
    return np.frombuffer(block, {5126: "<f4", 5125: "<u4"}[accessor.componentType]).reshape(
        -1, width
    )


def last_place(document, number, points):
    """Points of a node in the last frame, by the rotations and places of the nodes above it."""
    turns = {
        channel.target.node: values(
            document, document.animations[0].samplers[channel.sampler].output
        )
        for channel in document.animations[0].channels
        if channel.target.path == "rotation"
    }
    while number is not None:
        node = document.nodes[number]
        if number in turns:
            points = Rotation.from_quat(turns[number][-1]).apply(points)
        points = points + (node.translation or 0)
        above = [k for k, other in enumerate(document.nodes) if number in (other.children or [])]
        number = above[0] if above else None
    return points


@pytest.mark.parametrize("bake", [False, True])
def test_nodes_turn_the_mesh_s_own_eyeballs(head, tmp_path, bake):
    document = written(tmp_path / "a.glb", head, bake)
    frames, turn = frames_of(head), header_of(head).turn
    expected = turn(frames.vertices[-1], frames.head[-1], frames.gaze[-1]) / 1000
    tracks = {
        c.target.node: c.sampler
        for c in document.animations[0].channels
        if c.target.path == "weights"
    }
    for number, (name, rows) in enumerate(zip(("eyeball_right", "eyeball_left"), head[2])):
        (node,) = (k for k, node in enumerate(document.nodes) if node.name == name)
        primitive = document.meshes[document.nodes[node].mesh].primitives[0]
        points = values(document, primitive.attributes.POSITION)
        np.testing.assert_allclose(points, head[0][rows] / 1000, atol=1e-6)
        np.testing.assert_allclose(last_place(document, node, points), expected[rows], atol=1e-6)
        assert document.nodes[2 + number].children == [node]
        # The shapes of the gaze do not turn them once more, but are there for other animations.
        weights = values(document, document.animations[0].samplers[tracks[node]].output)
        if not bake:
            moved = weights.reshape(FRAMES, 52).any(0)
            assert [ARKIT_NAMES[k] for k in np.flatnonzero(moved)] == ["jawOpen"]
            assert len(primitive.targets) == 52


def test_eyeballs_that_nodes_turn_are_read_as_parts_of_the_mesh(head, tmp_path):
    written(tmp_path / "a.glb", head)
    read = open_animation(tmp_path / "a.glb")
    np.testing.assert_array_equal(read.faces, head[1])
    np.testing.assert_allclose(read.rest, head[0], atol=1e-3)
    assert read.attributes is None  # nothing is hidden
    mesh = load_mesh(tmp_path / "a.glb")
    drawn, wanted = (np.unique(np.sort(f, axis=1), axis=0) for f in (mesh.faces, head[1]))
    np.testing.assert_array_equal(drawn, wanted)


def test_a_head_turns_without_eyes_that_move(head, tmp_path):
    with open_writer(tmp_path / "a.glb", header_of(head)) as writer:
        writer.write(replace(frames_of(head), gaze=None))
    document = pygltflib.GLTF2().load(str(tmp_path / "a.glb"))
    assert [node.name for node in document.nodes] == ["face", "head"]
    assert document.nodes[1].children == [0] and len(document.meshes) == 1


def test_normals_have_length_1(head, tmp_path):
    document = written(tmp_path / "a.glb", head)
    for mesh in document.meshes:
        normals = values(document, mesh.primitives[0].attributes.NORMAL)
        np.testing.assert_allclose(np.linalg.norm(normals, axis=1), 1, atol=1e-4)


def test_a_mesh_without_colours_gets_those_of_a_video(head, tmp_path):
    vertices, faces, rows = head
    texture = np.zeros((8, 40, 3), np.uint8)
    texture[:, :20], texture[:, 20:] = SKIN, BALL
    place = np.tile([5.0, 5.0], (len(vertices), 1))
    place[np.concatenate(rows)] = (30, 5)
    appearance = Appearance(faces, np.arange(len(vertices)), place, texture, len(vertices))
    document = written(tmp_path / "a.glb", head, appearance=lambda fill: appearance)
    face, eye = (document.meshes[k].primitives[0] for k in (0, 1))
    colours = values(document, face.attributes.COLOR_0)
    linear = ((np.array(SKIN) / 255 + 0.055) / 1.055) ** 2.4
    np.testing.assert_allclose(colours[0], linear, atol=1e-3)
    assert {m.name: m.pbrMetallicRoughness.metallicFactor for m in document.materials} == {
        "skin": 0,
        "eyes": 0,
    }
    assert document.materials[eye.material].pbrMetallicRoughness.baseColorTexture is not None
    assert eye.attributes.COLOR_0 is None and values(document, eye.attributes.TEXCOORD_0).max() < 1


def test_vertex_colours_of_the_file_arrive(head, tmp_path):
    colours = np.full((len(head[0]), 3), 255, np.uint8)
    colours[0] = (255, 0, 0)
    document = written(tmp_path / "a.glb", head, attributes=MeshAttributes(colours=colours))
    primitive = document.meshes[0].primitives[0]
    np.testing.assert_array_equal(values(document, primitive.attributes.COLOR_0)[0], [1, 0, 0])


# ---------------------------------------------------------------------------------- foreign readers


@pytest.fixture(scope="module")
def readers():
    """benchmarks/readers.py."""
    source = importlib.util.spec_from_file_location("readers", ROOT / "benchmarks" / "readers.py")
    module = importlib.util.module_from_spec(source)
    sys.modules["readers"] = module  # its dataclasses look for it there
    source.loader.exec_module(module)
    yield module
    del sys.modules["readers"]


@pytest.fixture(scope="module")
def spoken(example_face, silence, tmp_path_factory):
    """A GLB of the example and a VRM animation, with head and eyes that move."""
    folder = tmp_path_factory.mktemp("read")
    outputs = [folder / name for name in ("a.glb", "a.vrma", "a.mdd")]
    animate(example_face, silence, outputs, emotion="happy", fps=FPS)
    return outputs


needs_node = pytest.mark.skipif(
    not os.environ.get("TALKEMO_NODE_MODULES") or shutil.which("node") is None,
    reason="TALKEMO_NODE_MODULES names no folder with gltf-validator and three, or there is no node",
)


@needs_node
def test_the_khronos_validator_finds_nothing(readers, spoken, head, tmp_path):
    written(tmp_path / "own.glb", head)
    written(tmp_path / "baked.glb", head, bake=True)
    files = [*spoken[:2], tmp_path / "own.glb", tmp_path / "baked.glb"]
    for path, verdict in zip(files, readers.validated(files)):
        assert (verdict.errors, verdict.warnings) == (0, 0), (path, verdict.messages[:5])


@needs_node
def test_three_shows_what_was_written(readers, spoken, head, tmp_path):
    written(tmp_path / "baked.glb", head, bake=True)
    frames, turn = frames_of(head), header_of(head).turn
    wanted = [turn(*frame) for frame in zip(frames.vertices, frames.head, frames.gaze)]
    times = np.arange(FRAMES) / FPS
    shown = readers.played_by_three(tmp_path / "baked.glb", times)
    distances = readers.distances_mm(shown, head[0] / 1000, np.stack(wanted) / 1000)
    assert len(distances) > FRAMES * 12000 and distances.max() < 1e-2
    assert "neck, head, 13 expressions, gaze" in readers.vrma_in_three(spoken[1])


def avatar_of(animation, path):
    """Write a VRM 1.0 without a mesh: the skeleton of a VRM animation, with eyes."""
    content = animation.read_bytes()
    length = int.from_bytes(content[12:16], "little")
    tree = json.loads(content[20 : 20 + length])
    extension = tree.pop("extensions")["VRMC_vrm_animation"]
    bones = extension["humanoid"]["humanBones"]
    for name, side in (("leftEye", 0.03), ("rightEye", -0.03)):
        bones[name] = {"node": len(tree["nodes"])}
        head = tree["nodes"][bones["head"]["node"]]
        head.setdefault("children", []).append(bones[name]["node"])
        tree["nodes"].append({"name": name, "translation": [side, 0.06, 0.08]})
    limits = {
        f"rangeMap{way}": {"inputMaxValue": 90, "outputScale": 90}
        for way in ("HorizontalInner", "HorizontalOuter", "VerticalDown", "VerticalUp")
    }
    tree["extensionsUsed"] = ["VRMC_vrm"]
    tree["extensions"] = {
        "VRMC_vrm": {
            "specVersion": "1.0",
            "meta": {"name": "a", "authors": ["b"], "licenseUrl": "https://vrm.dev/licenses/1.0/"},
            "humanoid": {"humanBones": bones},
            "expressions": {"preset": {k: {} for k in extension["expressions"]["preset"]}},
            "lookAt": {"type": "bone", "offsetFromHeadBone": [0, 0.06, 0.08], **limits},
        }
    }
    tree.pop("animations")
    path.write_bytes(glb_of(json.dumps(tree).encode(), content[28 + length :]))


@needs_node
def test_an_avatar_in_three_vrm_shows_the_animation(readers, tmp_path, head, face):
    frames = frames_of(head)
    frames.arkit[:, ARKIT_NAMES.index("eyeBlinkLeft")] = 0.6
    frames.arkit[:, ARKIT_NAMES.index("eyeBlinkRight")] = 0.6
    with open_writer(tmp_path / "a.vrma", header_of(head, canonical=face)) as writer:
        writer.write(frames)
    avatar_of(tmp_path / "a.vrma", tmp_path / "a.vrm")
    last = (FRAMES - 1) / FPS
    shown = readers.played_by_three_vrm(tmp_path / "a.vrm", tmp_path / "a.vrma", last)
    turned = Rotation.from_quat(shown["head"]).as_matrix()
    np.testing.assert_allclose(turned, frames.head[-1], atol=1e-5)
    assert shown["weights"]["blink"] == pytest.approx(0.6, abs=0.05)
    pitch, yaw = np.degrees(frames.gaze[-1])
    np.testing.assert_allclose(shown["gaze"], [yaw, pitch], atol=0.1)


@pytest.mark.skipif(
    os.environ.get("TALKEMO_BLENDER") is None, reason="TALKEMO_BLENDER names no Blender"
)
def test_blender_shows_what_was_written(readers, head, tmp_path):
    written(tmp_path / "baked.glb", head, bake=True)
    frames, turn = frames_of(head), header_of(head).turn
    wanted = [turn(*frame) for frame in zip(frames.vertices, frames.head, frames.gaze)]
    shown = readers.played_by_blender(tmp_path / "baked.glb", np.arange(FRAMES) / FPS)
    distances = readers.distances_mm(shown, head[0] / 1000, np.stack(wanted) / 1000)
    assert len(distances) > FRAMES * 12000 and distances.max() < 1e-2
