"""Point caches (MDD, PC2), motion for MMD (VMD) and VRM (VRMA), read by their descriptions."""

import json
import struct

import numpy as np
import pytest
from scipy.spatial.transform import Rotation

from talkemo import InputError
from talkemo.binding.head_turner import Turner
from talkemo.evaluation.compare import compare
from talkemo.face.canonical import ARKIT_NAMES
from talkemo.face.motion import Motion
from talkemo.face.viseme_curves import (
    MMD_MOUTH_RECIPES,
    MMD_NAMES,
    VRM_GAZE_SHAPES,
    VRM_MOUTH_RECIPES,
    VRM_NAMES,
)
from talkemo.formats.animation import Frames, Header
from talkemo.formats.mesh import load_mesh
from talkemo.formats.registry import open_animation, open_writer
from talkemo.geometry.rigid import Similarity
from talkemo_cli.app import main

FRAMES, FPS = 12, 24.0


@pytest.fixture(scope="module")
def mesh(example_face):
    return load_mesh(example_face)


@pytest.fixture(scope="module")
def frames(mesh):
    """Frames of the example that move by up to 2 mm, with a head that nods and turns."""
    rng = np.random.default_rng(1)
    vertices = mesh.vertices + rng.random((FRAMES, 1, 1)) * 2 * rng.random(
        (1, *mesh.vertices.shape)
    )
    head = Rotation.from_euler("yx", 0.3 * rng.random((FRAMES, 2))).as_matrix()
    nothing = np.zeros((FRAMES, 52))
    return Frames(vertices.astype(np.float32), np.zeros((FRAMES, 68, 3)), nothing, head)


def header_of(mesh, **settings):
    focus = np.ones(len(mesh.vertices), bool)
    return Header(FRAMES, FPS, mesh.faces, mesh.vertices, focus, **settings)


def written(path, header, frames):
    with open_writer(path, header) as writer:
        writer.write(frames)
    return path.read_bytes()


def points_of(content, offset, kind):
    return np.frombuffer(content, kind, offset=offset).reshape(FRAMES, -1, 3)


def test_point_caches_hold_every_frame(tmp_path, mesh, frames):
    count = len(mesh.vertices)
    mdd = written(tmp_path / "a.mdd", header_of(mesh), frames)
    assert struct.unpack_from(">ii", mdd) == (FRAMES, count)
    np.testing.assert_allclose(np.frombuffer(mdd, ">f4", FRAMES, 8), np.arange(FRAMES) / FPS, 1e-6)
    np.testing.assert_array_equal(points_of(mdd, 8 + 4 * FRAMES, ">f4"), frames.vertices)
    pc2 = written(tmp_path / "a.pc2", header_of(mesh), frames)
    assert struct.unpack_from("<12siiffi", pc2) == (b"POINTCACHE2\0", 1, count, 0, 1, FRAMES)
    np.testing.assert_array_equal(points_of(pc2, 32, "<f4"), frames.vertices)


def test_point_caches_turn_with_the_head(tmp_path, mesh, frames):
    here = Similarity(1.0, np.eye(3), np.zeros(3))
    turn = Turner.of_whole_mesh(here, len(mesh.vertices), np.array([0.0, -20, 0]))
    pc2 = written(tmp_path / "a.pc2", header_of(mesh, turn=turn), frames)
    expected = turn(frames.vertices[5], frames.head[5])
    assert np.abs(expected - frames.vertices[5]).max() > 5
    np.testing.assert_allclose(points_of(pc2, 32, "<f4")[5], expected, atol=1e-3)


def test_point_caches_are_read_again(tmp_path, mesh, frames, example_face, face):
    for name, fps in (("a.mdd", None), ("a.pc2", FPS)):
        written(tmp_path / name, header_of(mesh), frames)
        source = open_animation(tmp_path / name, fps, example_face)
        assert source.fps == pytest.approx(FPS, abs=0.01)
        np.testing.assert_array_equal(np.concatenate(list(source.chunks(5))), frames.vertices)
    done = compare(tmp_path / "a.mdd", tmp_path / "a.pc2", face=face, mesh=example_face, fps=FPS)
    assert done["frames"] == FRAMES and all(m["value"] == 0 for m in done["figures"][:3])
    with pytest.raises(InputError, match=r"a\.mdd has 24 frames per second"):
        open_animation(tmp_path / "a.mdd", 30, example_face)
    with pytest.raises(InputError, match=r"a\.pc2: a point cache has no frame rate"):
        open_animation(tmp_path / "a.pc2", None, example_face)
    with pytest.raises(InputError, match="no triangles"):
        open_animation(tmp_path / "a.mdd")


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("a.mdd", b""),
        ("a.mdd", struct.pack(">ii", 2, 1 << 30) + bytes(99)),
        ("a.mdd", struct.pack(">ii", 1 << 30, 8) + bytes(99)),
        ("a.mdd", struct.pack(">ii", -1, 8) + bytes(99)),
        ("a.mdd", struct.pack(">ii2f", 2, 1, 0, float("nan")) + bytes(99)),
        ("a.mdd", struct.pack(">ii2f", 2, 1, 1, 0) + bytes(99)),
        ("a.pc2", b"POINTCACHE2\0"),
        ("a.pc2", struct.pack("<12siiffi", b"POINTCACHE3\0", 1, 1, 0, 1, 1) + bytes(12)),
        ("a.pc2", struct.pack("<12siiffi", b"POINTCACHE2\0", 1, 9, 0, 1, 1 << 20) + bytes(12)),
        ("a.pc2", struct.pack("<12siiffi", b"POINTCACHE2\0", 1, -9, 0, 1, 1) + bytes(12)),
    ],
)
def test_broken_point_caches_are_refused(tmp_path, mesh, name, content):
    (tmp_path / name).write_bytes(content)
    with pytest.raises(InputError, match="not a point cache"):
        open_animation(tmp_path / name, 24, mesh)


def test_an_impossible_frame_rate_names_the_file(tmp_path, mesh):
    times, count = struct.pack(">2f", 0, 1e9), len(mesh.vertices)
    content = struct.pack(">ii", 2, count) + times + bytes(24 * count)
    (tmp_path / "a.mdd").write_bytes(content)
    with pytest.raises(InputError, match=r"a\.mdd: 1e-09 frames per second"):
        open_animation(tmp_path / "a.mdd", None, mesh)


def read_vmd(content):
    """Bones {name: (frames, positions, quaternions)} and morphs {name: (frames, weights)}."""
    assert content[:30] == b"Vocaloid Motion Data 0002".ljust(30, b"\0")
    offset, tracks = 50, []
    for layout in ("<15sI7f64s", "<15sIf"):
        (count,) = struct.unpack_from("<I", content, offset)
        keys = struct.iter_unpack(layout, content[offset + 4 :][: count * struct.calcsize(layout)])
        offset += 4 + count * struct.calcsize(layout)
        named = {}
        for name, frame, *values in keys:
            named.setdefault(name.rstrip(b"\0").decode("cp932"), []).append((frame, *values))
        tracks.append(named)
    assert content[offset:] == bytes(16)  # no camera, lights, shadows or inverse kinematics
    return tracks


def value_at(track, frame):
    numbers, values = zip(*track)
    return np.interp(frame, numbers, values)


def test_a_vmd_has_the_morphs_at_30_fps(tmp_path, mesh, face):
    level = np.linspace(0, 1, FRAMES)
    weights = np.outer(level, face.weight_vector(MMD_MOUTH_RECIPES["あ"]))
    motion = Motion.from_weights(face, np.arange(FRAMES) / FPS, weights)
    arkit = motion.arkit(face)
    arkit[:, ARKIT_NAMES.index("eyeBlinkLeft")] = 0.8 * level
    head = Rotation.from_euler("y", level[:, None] * 0.4).as_matrix()
    gaze = np.column_stack([0.2 * level, 0 * level])
    nothing = np.zeros_like(motion.coordinates)
    frames = Frames(
        np.zeros((FRAMES, 1, 3)), np.zeros((FRAMES, 68, 3)), arkit, head, gaze,
        speech=motion.coordinates, emotion=nothing,
    )  # fmt: skip
    bones, morphs = read_vmd(written(tmp_path / "a.vmd", header_of(mesh, canonical=face), frames))
    assert set(morphs) == set(MMD_NAMES) and set(bones) == {"頭", "両目"}
    last = int((FRAMES - 1) / FPS * 30)
    assert {track[-1][0] for track in (*bones.values(), *morphs.values())} == {last}
    assert value_at(morphs["あ"], last) > 0.6 and value_at(morphs["あ"], 0) == 0
    blink = 0.8 * last / 30 * FPS / (FRAMES - 1)
    assert value_at(morphs["ウィンク２"], last) == pytest.approx(blink, abs=0.05)
    assert value_at(morphs["まばたき"], last) < 0.05
    assert len(morphs["ｳｨﾝｸ２右"]) == 2  # where nothing changes, only the ends are keys
    alone = Frames(frames.vertices, frames.landmarks68, arkit)  # as of a mesh of unknown motion
    still, unknown = read_vmd(written(tmp_path / "b.vmd", header_of(mesh, canonical=face), alone))
    assert not still and value_at(unknown["あ"], last) > 0.5
    # In MMD's axes (left-handed, looking along -z) a turn to the face's left goes to +x again.
    turned, down = (
        Rotation.from_quat(bones[name][-1][4:8]).apply([0, 0, -1]) for name in ("頭", "両目")
    )
    assert turned[0] == pytest.approx(np.sin(0.4 * last / 30 * FPS / (FRAMES - 1)), abs=1e-3)
    assert down[1] < -0.1


@pytest.mark.parametrize(("name", "lacking"), [("a.vmd", "morphs"), ("a.vrma", "expressions")])
def test_curves_need_a_known_face(tmp_path, mesh, name, lacking):
    with pytest.raises(InputError, match=rf"{name}: no {lacking} are known"):
        open_writer(tmp_path / name, header_of(mesh))


def read_vrma(content):
    """The extension, nodes, and tracks {(node, property): values} of a VRM animation."""
    length = int.from_bytes(content[12:16], "little")
    tree, block = json.loads(content[20 : 20 + length]), content[28 + length :]
    animation = tree["animations"][0]

    def values(number):
        accessor = tree["accessors"][number]
        offset = tree["bufferViews"][accessor["bufferView"]]["byteOffset"]
        width = {"SCALAR": 1, "VEC3": 3, "VEC4": 4}[accessor["type"]]
        array = np.frombuffer(block, "<f4", accessor["count"] * width, offset)
        return array.reshape(-1, width)

    tracks = {}
    for channel in animation["channels"]:
        sampler, target = animation["samplers"][channel["sampler"]], channel["target"]
        assert len(values(sampler["input"])) == len(values(sampler["output"]))
        tracks[target["node"], target["path"]] = values(sampler["output"])
    return tree["extensions"]["VRMC_vrm_animation"], tree["nodes"], tracks


def test_a_vrm_animation_has_presets_head_and_gaze(tmp_path, mesh, face):
    level = np.linspace(0, 1, FRAMES)
    weights = np.outer(level, face.weight_vector(VRM_MOUTH_RECIPES["oh"]))
    motion = Motion.from_weights(face, np.arange(FRAMES) / FPS, weights)
    head = Rotation.from_euler("yx", np.outer(level, [0.4, -0.2])).as_matrix()
    gaze = np.column_stack([0 * level, 0.3 * level])
    frames = Frames(
        np.zeros((FRAMES, 1, 3)), np.zeros((FRAMES, 68, 3)), motion.arkit(face), head, gaze,
        speech=motion.coordinates, emotion=np.zeros_like(motion.coordinates),
    )  # fmt: skip
    header = header_of(mesh, canonical=face)
    extension, nodes, tracks = read_vrma(written(tmp_path / "a.vrma", header, frames))
    bones = {name: bone["node"] for name, bone in extension["humanoid"]["humanBones"].items()}
    limbs = "UpperArm LowerArm Hand UpperLeg LowerLeg Foot".split()
    assert set(bones) == {"hips", "spine", "neck", "head"} | {
        side + limb for side in ("left", "right") for limb in limbs
    }
    presets = {name: entry["node"] for name, entry in extension["expressions"]["preset"].items()}
    # Its bones of the eyes and its expressions of the gaze are not allowed to move.
    assert set(presets) == set(VRM_NAMES) - {"neutral", *VRM_GAZE_SHAPES}
    oh = tracks[presets["oh"], "translation"]
    assert oh[-1, 0] > 0.6 and oh[0, 0] == 0 and not oh[:, 1:].any()
    turned = [Rotation.from_quat(tracks[bones[name], "rotation"]) for name in ("neck", "head")]
    np.testing.assert_allclose((turned[0] * turned[1]).as_matrix(), head, atol=1e-6)
    looks = Rotation.from_quat(tracks[extension["lookAt"]["node"], "rotation"]).apply([0, 0, 1])
    assert looks[-1, 0] == pytest.approx(np.sin(0.3), abs=1e-6)
    assert (
        nodes[bones["leftHand"]]["translation"][0] > 0
        and tracks[bones["head"], "rotation"][0, 3] == 1
    )


def test_the_command_line_writes_them(tmp_path, silence, capsys):
    outputs = [tmp_path / name for name in ("a.mdd", "a.pc2", "a.vmd")]
    options = [word for path in outputs for word in ("-o", str(path))]
    assert main(["animate", "-", str(silence), "--fps", "10", *options]) == 0
    assert struct.unpack_from(">i", outputs[0].read_bytes()) == (10,)
    bones, morphs = read_vmd(outputs[2].read_bytes())
    assert set(morphs) == set(MMD_NAMES) and bones["頭"][-1][0] == 27
    assert main(["render", str(outputs[1]), "-o", str(tmp_path / "a.png")]) == 2
    assert "name its --mesh" in capsys.readouterr().err
