"""Timelines of emotions, and emotion transfer on animations of other tools."""

import json
import struct

import numpy as np
import pytest
from gltf_characters import avatar
from gltf_poses import opened

from talkemo import (
    EMOTIONS,
    ExportOptions,
    InputError,
    Motion,
    Timeline,
    animate,
    load_models,
    transfer,
)
from talkemo.binding.mesh_to_motion import MeshToMotion
from talkemo.data import emotion_augmentation
from talkemo.expression.emotions import one_hot
from talkemo.face.lip_measures import lip_gap_gradients, unit_side_openings
from talkemo.formats.mesh import load_mesh
from talkemo.formats.npz import NpzAnimation
from talkemo.formats.obj import save_obj
from talkemo.formats.registry import open_animation
from talkemo.geometry.rigid import rigid_motion
from talkemo.pipelines.named_audio import audio_of, missing_audio

HAPPY, ANGRY = EMOTIONS.index("happy"), EMOTIONS.index("angry")


def turned(degrees: float) -> np.ndarray:
    a = np.radians(degrees)
    return np.array([[np.cos(a), 0, np.sin(a)], [0, 1, 0], [-np.sin(a), 0, np.cos(a)]])


@pytest.fixture(scope="module")
def mesh(example_face):
    return load_mesh(example_face)


@pytest.fixture(scope="module")
def foreign(face, mesh, bound):
    """An animation (24, V, 3) as of another tool: a jaw opens and closes on a rotating head."""
    jaw = (
        bound.vertices(face.weight_vector({"jawOpen": 1.0})[None] @ face.weights_to_coordinates)[0]
        - mesh.vertices
    )
    opening = 0.5 - 0.5 * np.cos(np.arange(24) / 24 * 4 * np.pi)
    centre = mesh.vertices.mean(0)
    frames = [
        (mesh.vertices + amount * jaw - centre) @ turned(8 * np.sin(k / 6)).T
        + centre
        + [0.3 * k, 0, 0]
        for k, amount in enumerate(opening)
    ]
    return np.stack(frames).astype(np.float32)


@pytest.fixture
def foreign_npz(foreign, mesh, tmp_path):
    path = tmp_path / "foreign.npz"
    np.savez(path, vertices=foreign, faces=mesh.faces, fps=24.0)
    return path


def write_glb(
    path, rest, faces, targets, times, weights, interpolation="LINEAR", parts=1, index="<u4"
):
    """Write a GLB of one mesh with morph targets (K, V, 3) and weights (T, K) at times (T,) s.

    The mesh contains the same primitive `parts` times.
    """
    arrays = [
        np.asarray(rest, "<f4"),
        np.asarray(faces, index).ravel(),
        *np.asarray(targets, "<f4"),
    ]
    arrays += [np.asarray(times, "<f4"), np.asarray(weights, "<f4").ravel()]
    views, accessors, block = [], [], b""
    for a in arrays:
        views.append({"buffer": 0, "byteOffset": len(block), "byteLength": a.nbytes})
        kind = "VEC3" if a.ndim == 2 else "SCALAR"
        accessors.append(
            {
                "bufferView": len(views) - 1,
                "componentType": {"<f4": 5126, "<u4": 5125, "<u2": 5123}[a.dtype.str],
            }
            | {"count": len(a), "type": kind}
        )
        block += a.tobytes() + bytes(-a.nbytes % 4)
    count = len(targets)
    primitive = {
        "attributes": {"POSITION": 0},
        "indices": 1,
        "targets": [{"POSITION": 2 + k} for k in range(count)],
    }
    sampler = {"input": 2 + count, "output": 3 + count, "interpolation": interpolation}
    tree = {
        "asset": {"version": "2.0"},
        "scene": 0,
        "scenes": [{"nodes": [0]}],
        "nodes": [{"mesh": 0, "translation": [0, 5, 0], "scale": [2, 2, 2]}],
        "meshes": [{"primitives": [primitive] * parts}],
        "animations": [
            {
                "channels": [{"sampler": 0, "target": {"node": 0, "path": "weights"}}],
                "samplers": [sampler],
            }
        ],
        "accessors": accessors,
        "bufferViews": views,
        "buffers": [{"byteLength": len(block)}],
    }
    text = json.dumps(tree).encode()
    text += b" " * (-len(text) % 4)
    content = (
        struct.pack("<2I", len(text), 0x4E4F534A)
        + text
        + struct.pack("<2I", len(block), 0x004E4942)
        + block
    )
    path.write_bytes(struct.pack("<3I", 0x46546C67, 2, 12 + len(content)) + content)


@pytest.mark.parametrize(
    "facing_in", ["as a field", "in meta", "as a field that is no rotation", "nowhere"]
)
def test_facing_of_an_npz(foreign, mesh, tmp_path, facing_in):
    turn = turned(30)
    more = {
        "as a field": {"facing": turn, "meta": "{}"},
        "in meta": {"meta": json.dumps({"facing": turn.tolist()})},  # as 0.1.0 wrote it
        "as a field that is no rotation": {"facing": 2 * turn},
        "nowhere": {},
    }[facing_in]
    np.savez(tmp_path / "a.npz", vertices=foreign[:2], faces=mesh.faces, fps=24.0, **more)
    facing = NpzAnimation(tmp_path / "a.npz").facing
    if facing_in in ("as a field", "in meta"):
        np.testing.assert_allclose(facing, turn, atol=1e-6)
    else:
        assert facing is None


@pytest.fixture
def foreign_glb(face, mesh, bound, tmp_path):
    jaw = (
        bound.vertices(face.weight_vector({"jawOpen": 1.0})[None] @ face.weights_to_coordinates)[0]
        - mesh.vertices
    )
    path = tmp_path / "foreign.glb"
    write_glb(path, mesh.vertices, mesh.faces, [jaw], [0.0, 0.5, 1.0], [[0.0], [1.0], [0.0]])
    return path


def test_a_timeline_changes_smoothly(tmp_path):
    path = tmp_path / "t.txt"
    path.write_text(
        "# start end emotion intensity\n0 1 happy\n1 2 anger 0.5  # a turn\n\n"
        "3 4 happy:0.5,angry:0.5\n"
    )
    timeline = Timeline.read(path)
    times = np.arange(0, 5, 0.01)
    amounts = timeline.amounts(times)
    assert (
        amounts[0, HAPPY] == 1
        and amounts[50, HAPPY] == 1
        and amounts[150, ANGRY] == pytest.approx(0.5)
    )
    assert (
        amounts[100, HAPPY] == pytest.approx(0.5, abs=0.01)
        and not amounts[250].any()
        and not amounts[-1].any()
    )
    assert amounts[350, [HAPPY, ANGRY]].tolist() == [0.5, 0.5]
    assert np.abs(np.diff(amounts, axis=0)).max() < 0.05
    assert amounts.sum(1).max() <= 1 + 1e-6
    assert (Timeline.constant("happy", 0.3).amounts(times)[:, HAPPY] == np.float32(0.3)).all()


@pytest.mark.parametrize(
    "text, message",
    [
        ("0 1\n", "line 1"),
        ("0 1 happy\n2 1 sad\n", "line 2"),
        ("0 x happy\n", "must be numbers"),
        ("0 1 cheeky\n", "unknown emotion 'cheeky'"),
        ("0 1 happy 3\n", "intensity 3"),
        ("nan 1 happy\n", "begin at 0"),
        ("# nothing\n", "no line"),
    ],
)
def test_a_malformed_timeline_is_refused(tmp_path, text, message):
    path = tmp_path / "t.txt"
    path.write_text(text)
    with pytest.raises(InputError, match=message):
        Timeline.read(path)


def test_mesh_to_motion_inverts_a_binding(face, bound):
    rng = np.random.default_rng(0)
    names = ("jawOpen", "mouthSmile_L", "mouthSmile_R", "browDown_L")
    shapes = np.zeros((6, len(face.expression_names)), np.float32)
    shapes[:, [face.expression_names.index(name) for name in names]] = rng.random((6, 4))
    vertices = (
        bound.vertices(shapes @ face.weights_to_coordinates) @ turned(15).T.astype(np.float32) + 7
    )
    found, rotation = MeshToMotion(bound).motion_of_mesh(vertices, np.arange(6) / 30)
    assert np.abs(rotation - turned(15)).max() < 0.01
    error = np.linalg.norm(found.displacement(face) - face.displacement(shapes), axis=2)
    assert error.mean() < 0.25


def test_rigid_motion_is_found():
    rng = np.random.default_rng(0)
    source = rng.standard_normal((1, 20, 3))
    rotation, shift = rigid_motion(source, source @ turned(30).T + [1, 2, 3])
    np.testing.assert_allclose(rotation[0], turned(30), atol=1e-9)
    np.testing.assert_allclose(shift[0], [1, 2, 3], atol=1e-9)


def test_transfer_to_another_tools_animation(mesh, bound, foreign, foreign_npz, tmp_path):
    out = tmp_path / "happy.npz"
    transfer(foreign_npz, [out], emotion="happy")
    after = NpzAnimation(out)
    changed = after.vertices() - foreign
    corners, lips = bound.landmarks68[[48, 54]], bound.landmarks68[[62, 66]]
    assert changed[:, corners, 1].mean() > 0.5  # mm; the example face is in mm
    gap = lambda v: np.linalg.norm(v[:, lips[0]] - v[:, lips[1]], axis=1)
    assert np.corrcoef(gap(after.vertices()), gap(foreign))[0, 1] > 0.95
    still = np.ones(len(mesh.vertices), bool)
    still[bound.moving] = False
    assert not still.any() or np.abs(changed[:, still]).max() == 0
    assert after.meta["source"] == "foreign.npz" and after.meta["emotion"] == "happy"


def test_intensity_zero_and_unnamed_times_change_nothing(foreign, foreign_npz, tmp_path):
    transfer(foreign_npz, [tmp_path / "zero.npz"], emotion="happy", intensity=0.0)
    assert np.array_equal(NpzAnimation(tmp_path / "zero.npz").vertices(), foreign)
    (tmp_path / "t.txt").write_text("0.7 1.0 angry\n")
    transfer(foreign_npz, [tmp_path / "late.npz"], timeline=tmp_path / "t.txt")
    late = NpzAnimation(tmp_path / "late.npz").vertices()
    assert np.array_equal(late[:12], foreign[:12]) and not np.array_equal(late[20:], foreign[20:])


def test_neutral_removes_an_emotion(example_face, short_speech, tmp_path):
    animate(example_face, short_speech, [tmp_path / "n.npz"], fps=30)
    animate(example_face, short_speech, [tmp_path / "h.npz"], emotion="happy", fps=30)
    transfer(tmp_path / "h.npz", [tmp_path / "back.npz"], emotion="neutral")
    neutral, happy, back = (
        NpzAnimation(tmp_path / f"{k}.npz").vertices() for k in ("n", "h", "back")
    )
    off = lambda v: np.linalg.norm(v - neutral, axis=2).mean()
    assert off(back) < 0.8 * off(happy)


def test_a_glb_is_read(foreign_glb, mesh):
    animation = open_animation(foreign_glb, fps=20)
    assert len(animation) == 21 and animation.shape == (21, len(mesh.vertices), 3)
    vertices = np.concatenate(list(animation.chunks(7)))
    np.testing.assert_allclose(vertices[0], mesh.vertices * 2 + [0, 5, 0], atol=1e-3)
    moved = np.linalg.norm(vertices - vertices[0], axis=2).max(1)
    assert moved[5] == pytest.approx(moved[10] / 2, rel=1e-3) and moved[20] == pytest.approx(
        0, abs=1e-4
    )


def test_the_parts_of_a_glb_keep_their_triangles(mesh, tmp_path):
    count = len(mesh.vertices)
    path = tmp_path / "parts.glb"
    write_glb(
        path,
        mesh.vertices,
        mesh.faces,
        [np.ones_like(mesh.vertices)],
        [0, 1],
        [[0], [1]],
        parts=7,
        index="<u2",
    )
    animation = open_animation(path, 10)
    assert animation.shape[1] == 7 * count > 65535
    for k in range(7):
        part = slice(k * len(mesh.faces), (k + 1) * len(mesh.faces))
        np.testing.assert_array_equal(animation.faces[part], mesh.faces + k * count)


@pytest.mark.parametrize("fps", [24, 25, 30000 / 1001, 30, 60])
def test_the_frame_rate_of_a_long_glb_is_exact(mesh, tmp_path, fps):
    times = np.arange(4000) / fps
    path = tmp_path / "long.glb"
    write_glb(
        path, mesh.vertices, mesh.faces, [np.ones_like(mesh.vertices)], times, np.zeros((4000, 1))
    )
    animation = open_animation(path)
    assert animation.fps == pytest.approx(fps, abs=1e-6) and len(animation) == 4000


def test_audio_beside_an_animation_is_not_overwritten(foreign, mesh, short_speech, tmp_path):
    (tmp_path / "talk.mp4").write_bytes(short_speech.read_bytes())
    np.savez(
        tmp_path / "talk.npz",
        vertices=foreign,
        faces=mesh.faces,
        fps=24.0,
        meta=json.dumps({"audio": "talk.mp4"}),
    )
    with pytest.raises(InputError, match="would be overwritten"):
        transfer(tmp_path / "talk.npz", [tmp_path / "talk.mp4"], emotion="happy")
    np.savez(tmp_path / "list.npz", vertices=foreign, faces=mesh.faces, fps=24.0, meta="[1]")
    assert open_animation(tmp_path / "list.npz").meta == {}


def test_a_baked_head_that_turns_is_exact(foreign, foreign_npz, tmp_path):
    transfer(
        foreign_npz,
        [tmp_path / "b.glb", tmp_path / "b.npz"],
        emotion="happy",
        export=ExportOptions(bake=True),
    )
    baked = np.concatenate(list(open_animation(tmp_path / "b.glb").chunks()))
    np.testing.assert_allclose(baked, NpzAnimation(tmp_path / "b.npz").vertices(), atol=2e-3)


def test_a_glb_is_transferred(foreign_glb, tmp_path):
    result = transfer(foreign_glb, [tmp_path / "a.npz"], emotion="surprised", fps=15)
    assert result.frames == 16
    before = np.concatenate(list(open_animation(foreign_glb, 15).chunks()))
    assert np.linalg.norm(NpzAnimation(tmp_path / "a.npz").vertices() - before, axis=2).mean() > 0.2


def test_a_folder_of_meshes_is_transferred(foreign, mesh, tmp_path):
    folder = tmp_path / "frames"
    folder.mkdir()
    for k in (0, 3, 10):
        save_obj(folder / f"f{k}.obj", foreign[k], mesh.faces)
    result = transfer(folder, [tmp_path / "a.npz"], emotion="angry", fps=12)
    assert (result.frames, result.fps) == (3, 12)
    order = np.concatenate(list(open_animation(folder).chunks()))
    np.testing.assert_allclose(order, foreign[[0, 3, 10]], atol=1e-4)


@pytest.mark.parametrize("cut", [6, 15, 40, 300, 5000, -40])
def test_a_broken_glb_is_refused(foreign_glb, cut):
    content = foreign_glb.read_bytes()
    foreign_glb.write_bytes(content[:cut])
    with pytest.raises(InputError, match=r"foreign\.glb"):
        open_animation(foreign_glb)


@pytest.mark.parametrize(
    "old, new",
    [
        (b'"count": 3,', b'"count":-3,'),
        (b'"count": 3,', b'"count":9e9'),
        (b'"byteOffset": 0,', b'"byteOffset":-4,'),
        (b'"nodes": [0]', b'"nodes": [7]'),
        (b'"mesh": 0', b'"mesh": 4'),
        (b'"path": "weights"', b'"path": "scale"  '),
        (b'"POSITION": 2', b'"POSITION": 1'),
    ],
)
def test_an_inconsistent_glb_is_refused(foreign_glb, old, new):
    content = foreign_glb.read_bytes()
    assert old in content
    foreign_glb.write_bytes(content.replace(old, new.ljust(len(old)), 1))
    with pytest.raises(InputError, match=r"foreign\.glb"):
        list(open_animation(foreign_glb).chunks())


def test_unusable_animations_are_refused(foreign_npz, example_face, tmp_path):
    with pytest.raises(InputError, match="a mesh, not an animation"):
        transfer(example_face, [tmp_path / "a.npz"], emotion="happy")
    with pytest.raises(InputError, match="its own frame rate"):
        transfer(foreign_npz, [tmp_path / "a.npz"], emotion="happy", fps=10)
    (tmp_path / "empty").mkdir()
    with pytest.raises(InputError, match="no meshes"):
        transfer(tmp_path / "empty", [tmp_path / "a.npz"], emotion="happy")
    with pytest.raises(InputError, match="would be overwritten"):
        transfer(foreign_npz, [foreign_npz], emotion="happy")
    assert not (tmp_path / "a.npz").exists()


@pytest.mark.parametrize("emotion", EMOTIONS[1:])
def test_an_emotion_grows_in_proportion_to_its_intensity(face, emotion):
    model = load_models().emotion
    rest = Motion(np.zeros(1), np.zeros((1, len(face.span)), np.float32))
    moved = lambda amount: model.transfer(rest, amount * one_hot(emotion)).coordinates[0]
    full = moved(1.0)
    assert np.linalg.norm(full) / len(face.mean) ** 0.5 > 0.5  # mm, all over the face
    along = [
        float(moved(amount) @ full / (full @ full))
        for amount in (0.05, 0.1, 0.25, 0.5, 0.75, 1.0, 1.25, 1.5)
    ]
    assert along == pytest.approx([0.05, 0.1, 0.25, 0.5, 0.75, 1.0, 1.25, 1.5], abs=0.03)


@pytest.mark.parametrize("emotion", EMOTIONS[1:])
def test_closed_lips_stay_closed_in_the_middle_and_beside_it(face, emotion):
    model = load_models().emotion
    rest = Motion(np.zeros(1), np.zeros((1, len(face.span)), np.float32))
    for amount in (1.0, 1.5):
        gaps = model.transfer(rest, amount * one_hot(emotion)).coordinates @ lip_gap_gradients(face)
        assert np.abs(gaps).max() < 0.1  # mm


def test_one_side_of_the_lips_opens_alone(face):
    right, left = unit_side_openings(face) @ lip_gap_gradients(face)
    np.testing.assert_allclose([right, left], [[1, 0, 0], [0, 0, 1]], atol=1e-3)
    moved = np.linalg.norm(np.tensordot(unit_side_openings(face), face.span, 1), axis=2)
    assert moved.max() < 2  # mm


def test_augmentation_draws_every_emotion(face):
    still = np.zeros((1, len(face.mean), 3), np.float32)
    drawn = {
        name: emotion_augmentation.add_expression(face, still, name)[0]
        for name in emotion_augmentation.EMFACS_EXPRESSIONS
    }
    assert set(drawn) == set(EMOTIONS) - {"neutral"}
    brows, inner, corners = (
        face.landmarks68[17:27],
        face.landmarks68[[21, 22]],
        face.landmarks68[[48, 54]],
    )
    height = lambda name, points: drawn[name][points, 1].mean()
    assert height("happy", corners) > 2 and np.abs(drawn["happy"][brows]).max() < 2
    assert height("angry", brows) < -2 and height("surprised", brows) > 5
    assert height("sad", inner) > 1 and height("sad", corners) < -1
    assert height("fearful", inner) > 1 and height("disgust", brows) < 0
    assert 0.2 < height("calm", corners) < height("happy", corners)
    assert emotion_augmentation.add_expression(face, still, "neutral") is still
    half = emotion_augmentation.add_expression(face, still, "happy", weight=0.5)[0]
    np.testing.assert_allclose(half, drawn["happy"] / 2, atol=1e-6)


def test_emotions_differ_in_brows_lids_and_lips(face):
    still = np.zeros((1, len(face.mean), 3), np.float32)
    points = {
        name: emotion_augmentation.add_expression(face, still, name)[0, face.landmarks68]
        for name in emotion_augmentation.EMFACS_EXPRESSIONS
    }
    brow_distance = {name: p[22, 0] - p[21, 0] for name, p in points.items()}
    lid_opening = {
        name: p[[37, 38, 43, 44], 1].mean() - p[[40, 41, 46, 47], 1].mean()
        for name, p in points.items()
    }
    lip_gaps = {name: p[61:64, 1] - p[[67, 66, 65], 1] for name, p in points.items()}
    # Anger draws the brows together and down, most on the inside, and narrows the lids.
    assert brow_distance["angry"] < -4 and points["angry"][[21, 22], 1].max() < -4
    assert points["angry"][[17, 26], 1].min() > points["angry"][[21, 22], 1].max() + 3
    assert lid_opening["angry"] < -2 and lid_opening["calm"] > 0
    # Fear draws raised brows together, surprise does not.
    assert brow_distance["fearful"] < -1 < brow_distance["surprised"]
    assert min(lid_opening["fearful"], lid_opening["surprised"]) > 2
    # Lips that are closed stay closed in emotions that do not open them.
    for name in ("calm", "happy", "sad", "angry"):
        assert np.abs(lip_gaps[name]).max() < 0.8, name


def test_emotions_vary_from_person_to_person(face):
    amounts = emotion_augmentation.people_amounts(
        face, {"mouthSmile": 0.9}, 50, np.random.default_rng(0)
    )
    smile = [face.expression_names.index(f"mouthSmile_{side}") for side in "LR"]
    assert amounts[0, smile] == pytest.approx(0.9)
    assert (
        amounts[1:, smile].std() > 0.1
        and np.abs(amounts[1:, smile[0]] - amounts[1:, smile[1]]).mean() > 0.05
    )
    assert (np.delete(amounts, smile, 1) == 0).all()


def test_the_nearest_calm_face_is_its_own(face):
    known = emotion_augmentation.candidates(face)
    for k in (0, 5, 17):
        assert known.nearest(known.features[k] + [3, -2, 1]) == k


def test_weights_of_the_face_parts_fall_off_smoothly(face):
    for weight in emotion_augmentation.part_weights(face).values():
        assert weight.min() == 0 and weight.max() == pytest.approx(1, abs=0.01)
        edges = face.faces[:, [0, 1, 1, 2, 2, 0]].reshape(-1, 2)
        assert np.abs(np.diff(weight[edges], axis=1)).max() < 0.35


@pytest.mark.parametrize("emotion", EMOTIONS[1:])
def test_the_upper_face_is_as_expressive_as_the_pose(face, emotion):
    still = np.zeros((1, len(face.mean), 3), np.float32)
    upper = emotion_augmentation.part_weights(face)["upper"][:, None]
    pose = upper * emotion_augmentation.add_expression(face, still, emotion)[0]
    rest = Motion(np.zeros(1), np.zeros((1, len(face.span)), np.float32))
    moved = load_models().emotion.transfer(rest, one_hot(emotion)).displacement(face)[0]
    assert (upper * moved * pose).sum() > 0.95 * (pose * pose).sum()


# --------------------------------------------------------------------------------------- characters


@pytest.fixture(scope="module")
def character(mesh, tmp_path_factory):
    """The mesh as a file with a skeleton, materials and a hat."""
    path = tmp_path_factory.mktemp("avatar") / "avatar.glb"
    return avatar(mesh.vertices / 1000, mesh.faces).write(path)


@pytest.fixture(scope="module")
def spoken(character, short_speech, tmp_path_factory):
    """What animate writes of the character: a glb and an npz."""
    folder = tmp_path_factory.mktemp("spoken")
    outputs = [folder / "a.glb", folder / "a.npz"]
    export = ExportOptions(fill="off")
    animate(character, short_speech, outputs, fps=6, gaze="off", export=export)
    return outputs


def channels(animation, tree):
    """What an animation moves: names of nodes, and properties."""
    targets = (channel["target"] for channel in animation["channels"])
    return {(tree["nodes"][t["node"]].get("name"), t["path"]) for t in targets}


@pytest.mark.parametrize("how", ["neutral", "onto", "itself"])
def test_the_whole_character_comes_back(spoken, character, tmp_path, how):
    glb, npz = spoken
    given = {"neutral": {"neutral": character}, "onto": {"onto": character}, "itself": {}}[how]
    options = ExportOptions(targets="arkit", fill="off")
    transfer(
        glb if how == "itself" else npz,
        [tmp_path / "b.glb"],
        emotion="happy",
        export=options,
        **given,
    )
    source, expected, back = (opened(p).tree for p in (character, glb, tmp_path / "b.glb"))
    for kind in ("nodes", "materials", "skins"):
        assert back[kind] == source[kind]
    assert [mesh.get("name") for mesh in back["meshes"]] == [
        mesh.get("name") for mesh in source["meshes"]
    ]
    assert len(back["animations"]) == len(expected["animations"]) + (how == "itself")
    moved = channels(back["animations"][0], back)
    named = [animation["name"] for animation in back["animations"]]
    assert named == (["short happy", "short"] if how == "itself" else ["short"])
    assert {("Face", "weights"), ("Head", "rotation"), ("Neck", "rotation")} <= moved
    assert moved == channels(expected["animations"][0], expected)


def test_a_glb_names_its_audio_and_its_emotion(spoken, short_speech, tmp_path):
    glb = tmp_path / "a.glb"
    glb.write_bytes(spoken[0].read_bytes())
    source = open_animation(glb)
    assert {k: source.meta[k] for k in ("audio", "emotion")} == {
        "audio": short_speech.name,
        "emotion": "neutral",
    }
    assert audio_of(source, None) is None and "does not lie beside" in missing_audio(source)
    (tmp_path / short_speech.name).write_bytes(short_speech.read_bytes())
    assert audio_of(source, None).duration == pytest.approx(1.5, abs=0.01)
    for name in ("a" * 5000, "\ud800.wav", "..", "\0"):  # longer than a file's name, or none
        source.meta["audio"] = name
        assert audio_of(source, None) is None and missing_audio(source)


def test_another_face_performs_as_its_own(spoken, character, tmp_path):
    """Put onto the mesh that it was made of, a performance is the same again."""
    _, npz = spoken
    transfer(npz, [tmp_path / "b.npz"], onto=character, timeline=Timeline.unchanged())
    before, after = NpzAnimation(npz), NpzAnimation(tmp_path / "b.npz")
    np.testing.assert_allclose(after.vertices(), before.vertices(), atol=5e-4)  # 0.5 mm
    np.testing.assert_array_equal(after.head, before.head)
    assert (
        after.meta.get("emotion") == before.meta.get("emotion")
        and after.meta["mesh"] == "avatar.glb"
    )
    assert "timeline" not in after.meta


def test_the_heads_rotation_stays(spoken, tmp_path):
    _, npz = spoken
    transfer(npz, [tmp_path / "b.npz"], emotion="sad")
    np.testing.assert_array_equal(NpzAnimation(tmp_path / "b.npz").head, NpzAnimation(npz).head)


def test_a_rotation_that_vertices_contain_is_not_written_twice(spoken, tmp_path):
    _, npz = spoken
    before = NpzAnimation(npz)
    vertices, pivot = before.vertices(), before.rest.mean(0)
    turned_head = np.stack([turned(6 * k) for k in range(len(before))]).astype(np.float32)
    frames = (vertices - pivot) @ turned_head.transpose(0, 2, 1) + pivot
    np.savez(
        tmp_path / "t.npz",
        vertices=frames.astype(np.float32),
        faces=before.faces,
        rest=before.rest,
        fps=6.0,
        head=turned_head,
    )
    transfer(tmp_path / "t.npz", [tmp_path / "u.npz"], emotion="sad")
    assert NpzAnimation(tmp_path / "u.npz").head is None


def test_an_npz_of_other_triangles_is_not_the_files(spoken, character, mesh, tmp_path):
    _, npz = spoken
    with np.load(npz) as file:
        arrays = dict(file)
    np.savez(tmp_path / "c.npz", **{**arrays, "faces": arrays["faces"][::-1]})
    transfer(tmp_path / "c.npz", [tmp_path / "b.glb"], emotion="happy", neutral=character)
    assert "Hat" not in {node.get("name") for node in opened(tmp_path / "b.glb").tree["nodes"]}
