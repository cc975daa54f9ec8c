"""A character's own blend shapes: read, known by name or by a map, and driven."""

import csv
import io
import json
import re
from dataclasses import replace

import imageio.v3 as imageio
import numpy as np
import pytest
from conftest import random_weights
from gltf_files import FACES, POINTS, Gltf, character, vrm_0_character, with_shapes

from talkemo import ExportOptions, InputError, animate, stream, transfer
from talkemo.binding import FaceHint, save_binding
from talkemo.binding.own_shapes import MIN_MOUTH_SHOWN, OwnShapeFit, find_shapes
from talkemo.expression.emotional import with_emotion
from talkemo.expression.emotions import EMOTIONS, one_hot
from talkemo.expression.frown import FROWN_GAIN, frowning_face, frowning_header
from talkemo.face.canonical import ARKIT_NAMES
from talkemo.face.motion import Motion
from talkemo.face.shape_names import counterparts, meaning_of
from talkemo.face.viseme_curves import VRM_EMOTION_RECIPES, VRM_MOUTH_RECIPES, recipe_weights
from talkemo.formats.animation import FROWN_META, Frames
from talkemo.formats.gltf_file import GltfFile
from talkemo.formats.gltf_tree import mesh_space
from talkemo.formats.mesh import load_mesh
from talkemo.formats.mesh_types import MeshShape
from talkemo.formats.registry import open_animation
from talkemo.formats.shape_map import map_template, read_shape_map
from talkemo.formats.target_sets import target_sets
from talkemo.pipelines.acting import bound_header
from talkemo.pipelines.bind import describe_shapes
from talkemo.pipelines.own_targets import own_shapes
from talkemo_cli.app import main
from talkemo_cli.bind import _shape_facts


def words_of(name):
    """The words of one of ARKit's names."""
    return re.findall("[A-Z]?[a-z]+", name)


SPELLINGS = {
    "as Apple does": lambda name: name,
    "lower case": str.lower,
    "upper case first": lambda name: name[0].upper() + name[1:],
    "underscores": lambda name: "_".join(words_of(name)).lower(),
    "numbered": lambda name: "A25_" + "_".join(word.capitalize() for word in words_of(name)),
    "short sides": lambda name: name.replace("Left", "_L").replace("Right", "_R"),
    "of MetaHuman": lambda name: (
        "CTRL_expressions_" + name.replace("Left", "L").replace("Right", "R")
    ),
    "of a mesh": lambda name: f"Wolf3D_Head.{name}",
}


@pytest.mark.parametrize("spelling", SPELLINGS)
def test_arkit_s_shapes_are_known_in_any_spelling(spelling):
    for name in ARKIT_NAMES:
        meaning = meaning_of(SPELLINGS[spelling](name))
        assert meaning is not None and meaning.recipe == {name: 1.0}, name


@pytest.mark.parametrize(
    ("name", "standard", "shows"),
    [
        ("CTRL_expressions_mouthCornerPullL", "MetaHuman", {"mouthSmileLeft": 1}),
        ("CTRL_expressions_mouthFunnelUR", "MetaHuman", {"mouthFunnel": 0.25}),
        ("CTRL_expressions_eyeLookLeftR", "ARKit", {"eyeLookInRight": 1}),
        ("Eye_L_Look_R", "ARKit", {"eyeLookInLeft": 1}),
        ("Mouth_Pucker_Up_L", "Character Creator", {"mouthPucker": 0.25}),
        ("Mouth_L", "ARKit", {"mouthLeft": 1}),
        ("browInnerUp_L", "ARKit", {"browInnerUp": 0.5}),
        ("LipSuckLowerRight", "Unified Expressions", {"mouthRollLower": 0.5}),
        ("mouthOpen", "other names", {"jawOpen": 1}),
        ("mouthSmile", "ARKit", {"mouthSmileLeft": 1, "mouthSmileRight": 1}),
        ("eyesClosed", "other names", {"eyeBlinkLeft": 1, "eyeBlinkRight": 1}),
        ("Fcl_EYE_Close_L", "VRoid", {"eyeBlinkLeft": 1}),
        ("Fcl_BRW_Angry", "VRoid", {"browDownLeft": 1, "browDownRight": 1}),
        ("M_F00_000_Fcl_EYE_Spread", "VRoid", {"eyeWideLeft": 1, "eyeWideRight": 1}),
        ("まばたき", "MMD", {"eyeBlinkLeft": 1, "eyeBlinkRight": 1}),
        ("viseme_sil", "Oculus visemes", {}),
    ],
)
def test_names_of_other_standards(name, standard, shows):
    meaning = meaning_of(name)
    assert (meaning.standard, meaning.recipe) == (standard, shows)


@pytest.mark.parametrize(
    "names",
    [
        "viseme_aa vrc.v_aa Fcl_MTH_A blendShape1.AA_VI_10_aa A aa あ V_Open viseme_1".split(),
        "viseme_PP AA_VI_01_PP V_Explosive Explosive viseme_21".split(),
        "viseme_U Fcl_MTH_U ou U う viseme_7".split(),
    ],
)
def test_one_mouth_of_many_names(names):
    recipes = [meaning_of(name).recipe for name in names]
    assert recipes[0] and all(recipe == recipes[0] for recipe in recipes)


@pytest.mark.parametrize("name", "tail skirt_wind breast_size B PP viseme_22 123 _ L Fcl_".split())
def test_other_names_are_not_known(name):
    assert meaning_of(name) is None


# ------------------------------------------------------------------------------------------ reading


def written(g, path):
    path.write_bytes(g.glb())
    return path


def test_shapes_of_one_name_are_one_shape_and_lie_where_the_mesh_does(tmp_path):
    """Two primitives and a second, turned mesh have a smile; one of them has another shape."""
    g = Gltf()
    g.morph(POINTS * 0.1, POINTS * 0.2)
    g.tree["meshes"][0]["extras"] = {"targetNames": ["smile", "belly"]}
    lashes = {"attributes": {"POSITION": g.add(POINTS)}, "indices": g.primitive["indices"]}
    lashes["targets"] = [{"POSITION": g.add(POINTS * 0.5)}]
    g.tree["meshes"].append({"primitives": [lashes], "extras": {"targetNames": ["smile"]}})
    quarter = [0, 0, np.sqrt(0.5), np.sqrt(0.5)]
    g.tree["nodes"].append({"mesh": 1, "rotation": quarter, "translation": [9, 0, 0]})
    g.tree["scenes"][0]["nodes"].append(1)
    mesh = load_mesh(written(g, tmp_path / "a.glb"))
    smile, belly = mesh.shapes
    assert (smile.name, belly.name) == ("smile", "belly")
    count = len(POINTS)
    assert smile.displacement.shape == mesh.vertices.shape
    np.testing.assert_allclose(smile.displacement[:count], POINTS * 0.1, atol=1e-6)
    turned = POINTS[:, [1, 0, 2]] * [-0.5, 0.5, 0.5]
    np.testing.assert_allclose(smile.displacement[count:], turned, atol=1e-6)
    assert not belly.displacement[count:].any()


def test_unnamed_and_repeated_targets_have_names_of_their_own(tmp_path):
    g = Gltf()
    g.morph(POINTS * 0.1, POINTS * 0.2, POINTS * 0.3)
    g.tree["meshes"][0]["name"] = "Body"
    g.accessors[g.primitive["targets"][1]["POSITION"]]["name"] = "frown"
    names = [shape.name for shape in load_mesh(written(g, tmp_path / "a.glb")).shapes]
    assert names == ["Body.0", "frown", "Body.2"]
    g.tree["meshes"][0]["extras"] = {"targetNames": ["x", "x", "y"]}
    names = [shape.name for shape in load_mesh(written(g, tmp_path / "b.glb")).shapes]
    assert names == ["x", "x.1", "y"]


def test_expressions_of_vrm_are_mixes(tmp_path):
    shapes = {s.name: s for s in load_mesh(written(vrm_0_character(), tmp_path / "a.vrm")).shapes}
    assert list(shapes) == ["jawOpen", "Fcl_MTH_U", "aa", "Grin"]
    assert shapes["jawOpen"].at_rest == 1.0 and shapes["Grin"].at_rest == 0.0
    assert shapes["Grin"].mix == (("jawOpen", 1.0), ("Fcl_MTH_U", 0.5))
    np.testing.assert_allclose(
        shapes["Grin"].displacement,
        shapes["jawOpen"].displacement + 0.5 * shapes["Fcl_MTH_U"].displacement,
        atol=1e-7,
    )
    found = find_shapes(list(shapes.values()))
    assert "driven themselves" in found.left_out["aa"]


def bind_to_nothing(g):
    g.tree["extensions"]["VRM"]["blendShapeMaster"]["blendShapeGroups"][0]["binds"] = [
        {"mesh": 0, "index": 7, "weight": 100}
    ]


def negative_weight(g):
    groups = g.tree["extensions"]["VRM"]["blendShapeMaster"]["blendShapeGroups"]
    groups[0]["binds"][0]["weight"] = -1


def short_target(g):
    g.primitive["targets"][0]["POSITION"] = g.add(POINTS[:5])
    g.tree["meshes"][0]["weights"] = [0.0, 0.0]


def huge_target(g):
    g.primitive["targets"][1]["POSITION"] = g.add(POINTS * np.float32(1e30))


def long_name(g):
    g.tree["meshes"][0]["extras"]["targetNames"] = ["x" * 300, "y"]


@pytest.mark.parametrize(
    "change", [bind_to_nothing, negative_weight, short_target, huge_target, long_name]
)
def test_broken_shapes_are_refused_when_they_are_read(tmp_path, change):
    g = vrm_0_character()
    change(g)
    mesh = load_mesh(written(g, tmp_path / "a.vrm"))
    with pytest.raises(InputError, match=r"a\.vrm: not blend shapes that can be read"):
        _ = mesh.shapes


def test_a_file_that_changed_meanwhile_is_refused(tmp_path):
    path = written(character(), tmp_path / "a.glb")
    mesh = load_mesh(path)
    g = Gltf(np.concatenate([POINTS, POINTS + 3]), FACES)
    g.morph(np.zeros((2 * len(POINTS), 3)))
    written(g, path)
    with pytest.raises(InputError, match="changed"):
        _ = mesh.shapes


# ---------------------------------------------------------------------------------------- the fit


def odd_name(number, name):
    """One of ARKit's names, in one of the spellings."""
    return list(SPELLINGS.values())[number % len(SPELLINGS)](name)


@pytest.fixture(scope="module")
def characters(bound, tmp_path_factory):
    """Files of the example face with shapes of its own: ARKit's, a VRM's, and a few others."""
    folder = tmp_path_factory.mktemp("characters")
    vertices, faces, targets = bound.mesh.vertices, bound.mesh.faces, bound.arkit_targets()
    arkit = {odd_name(k, name): targets[k] for k, name in enumerate(ARKIT_NAMES)}
    arkit["Belt_Tight"] = np.where(vertices[:, 1:2] < vertices[:, 1].mean(), 1.0, 0.0) * np.ones(3)
    recipes = {**VRM_MOUTH_RECIPES, "happy": VRM_EMOTION_RECIPES["happy"], "blink": {"eyeBlink": 1}}
    poses = {name: np.tensordot(recipe_weights(r), targets, 1) for name, r in recipes.items()}
    vrm = {f"Face.{k:02d}": 2 * pose for k, pose in enumerate(poses.values())}
    presets = {name: {raw: 0.5} for name, raw in zip(poses, vrm)}
    jaw = {"Gap": targets[ARKIT_NAMES.index("jawOpen")] * 1.4}
    return {
        "arkit": written(with_shapes(vertices, faces, arkit), folder / "arkit.glb"),
        "vrm": written(with_shapes(vertices, faces, vrm, presets), folder / "vrm.vrm"),
        "jaw": written(with_shapes(vertices, faces, jaw), folder / "jaw.glb"),
        "folder": folder,
    }


def character_of(bound, path):
    """The example's binding of a file with the same mesh."""
    mesh = load_mesh(path)
    np.testing.assert_allclose(mesh.vertices, bound.mesh.vertices, atol=1e-4)
    return replace(bound, mesh=mesh)


@pytest.fixture(scope="module")
def own(bound, characters):
    """What drives the shapes of each character that are known by their names."""
    fits = {}
    for kind in ("arkit", "vrm"):
        character = character_of(bound, characters[kind])
        fits[kind] = OwnShapeFit(character, find_shapes(character.mesh.shapes))
    return fits


def frames_of(bound, weights):
    """Frames of weights (T, S) of the model's blend shapes."""
    coordinates = weights @ bound.face.weights_to_coordinates
    vertices = bound.vertices(coordinates.astype(np.float32))
    arkit = weights @ bound.face.arkit_matrix
    return Frames(vertices, vertices[:, bound.landmarks68], arkit, coordinates=coordinates)


def test_known_weights_are_found(bound, own):
    """Shapes that are ARKit's own get ARKit's weights, by the coordinates or by the vertices."""
    rng = np.random.default_rng(1)
    weights = np.zeros((30, 52))
    shown = [k for k, name in enumerate(ARKIT_NAMES) if name != "tongueOut"]
    weights[:, shown] = rng.random((30, 51)) * (rng.random((30, 51)) < 0.2)
    combine = bound.face.arkit_matrix > 0
    frames = frames_of(bound, (weights @ combine.T).clip(0, 1))
    order = [odd_name(k, ARKIT_NAMES[k]) for k in shown]
    assert list(own["arkit"].names) == order
    for given in (frames, replace(frames, coordinates=None)):
        assert np.abs(own["arkit"].weights(given) - weights[:, shown]).max() < 0.04


def opening(bound, vertices):
    """Opening of the lips (T,) in canonical mm."""
    upper, lower = (vertices[:, bound.landmarks68[k]] for k in (62, 66))
    return (upper - lower) @ bound.placement.rotation[:, 1] / bound.scale


def test_the_mouth_opens_as_through_the_binding(bound, own, face):
    frames = frames_of(bound, 0.6 * random_weights(face, np.random.default_rng(4), 60))
    fit = own["arkit"]
    shown = bound.rest + np.tensordot(fit.weights(frames), fit.targets(), 1)
    expected, found = opening(bound, frames.vertices), opening(bound, shown)
    assert np.corrcoef(expected, found)[0, 1] > 0.998
    assert np.polyfit(expected, found, 1)[0] > 0.97
    assert all(fit.mouth_shown > MIN_MOUTH_SHOWN and fit.is_enough for fit in own.values())


def test_names_decide_between_shapes_that_look_alike(bound, own, face):
    """A smile is shown by the shape that is called so, and few others."""
    weights = face.weight_vector({"mouthSmile": 0.8})[None]
    fit = own["vrm"]
    found = dict(zip(fit.names, fit.weights(frames_of(bound, weights))[0]))
    smile = found.pop("Face.05")
    assert smile > 0.3 > 3 * max(found.values())


def test_chunks_do_not_matter(bound, own, face):
    frames = frames_of(bound, random_weights(face, np.random.default_rng(5), 9))
    whole = own["vrm"].weights(frames)
    parts = [
        own["vrm"].weights_of(frames.arkit[k : k + 4], frames.coordinates[k : k + 4])
        for k in (0, 4, 8)
    ]
    np.testing.assert_allclose(np.concatenate(parts), whole, atol=1e-5)


def test_a_characters_own_frown_is_driven_by_the_persons(bound, own, face):
    """A mesh without shapes frowns deeper than a person who was filmed, a character need not."""
    weights = 0.5 * random_weights(face, np.random.default_rng(6), 5)
    frames = frames_of(bound, weights)
    deep = weights.astype(np.float32) @ frowning_face(face).weights_to_coordinates
    header = bound_header(bound, 5, 25.0, {})
    (targets,), plain = target_sets(header), replace(header, own_shapes=own["arkit"])
    frowning = frowning_header(plain)
    shown = frowning.own_shapes.weights(replace(frames, coordinates=deep))
    np.testing.assert_allclose(shown, own["arkit"].weights(frames), atol=1e-4)
    assert frowning.own_shapes.names == own["arkit"].names
    down = ARKIT_NAMES.index("browDownLeft")
    np.testing.assert_allclose(frowning.targets()[down], FROWN_GAIN * targets.targets[down])
    # So a file is read back as deep as it plays.
    meta = {FROWN_META: FROWN_GAIN}
    spaces = [mesh_space(replace(h, meta=meta), np.eye(3)) for h in (header, plain)]
    assert [FROWN_META in space for space in spaces] == [True, False]


def shape(name, vertices, rows, at_rest=0.0, mix=()):
    values = np.ones((len(rows), 3), np.float32)
    return MeshShape(name, vertices, np.array(rows, np.int32), values, at_rest, mix)


def test_a_vrm_s_shapes_without_names_are_driven_by_its_presets():
    """Raw shapes that only a VRM's expressions explain get their weights, doubled here."""
    raw = [shape("Face.0", 9, [1, 2]), shape("Face.1", 9, [3])]
    mixes = [
        shape("aa", 9, [1, 2], mix=(("Face.0", 0.5),)),
        shape("blinkLeft", 9, [3], mix=(("Face.1", 1.0),)),
        shape("Party", 9, [1, 2, 3], mix=(("Face.0", 0.5), ("Face.1", 1.0))),
    ]
    found = find_shapes([*raw, *mixes])
    assert [driven.shape.name for driven in found.driven] == ["aa", "blinkLeft"]
    assert found.standards == {"VRM": 2} and found.left_out == {"Party": "unknown name"}


def test_what_repeats_other_shapes_is_left_out():
    names = ["mouthOpen", "jawOpen", "mouthSmile", "mouthSmile_L", "mouthSmile_R", "viseme_aa"]
    mouth = [name for name in ARKIT_NAMES if name.startswith("mouth") and "Smile" not in name]
    found = find_shapes([shape(name, 9, [k]) for k, name in enumerate([*names, *mouth, "Hat"])])
    driven = [driven.shape.name for driven in found.driven]
    assert driven == ["jawOpen", "mouthSmile_L", "mouthSmile_R", *mouth]
    assert found.left_out["Hat"] == "unknown name"
    assert "same" in found.left_out["mouthOpen"] and "same" in found.left_out["viseme_aa"]
    names = ["viseme_aa", "A", "Fcl_ALL_Joy"]
    few = find_shapes([shape(name, 9, [k]) for k, name in enumerate(names)])
    assert [driven.shape.name for driven in few.driven] == [
        "viseme_aa",
        "Fcl_ALL_Joy",
    ] and "eyeBlinkLeft" in few.missing
    assert counterparts(["jawOpen", "Hat"]) == {"jawOpen"}


def test_brows_of_emotions_are_driven_if_no_other_shapes_move_them():
    mouth = [name for name in ARKIT_NAMES if name.startswith(("mouth", "jaw"))]
    brows = ["Fcl_BRW_Angry", "Fcl_BRW_Sorrow"]
    found = find_shapes([shape(name, 9, [k]) for k, name in enumerate([*mouth, *brows])])
    assert {driven.shape.name for driven in found.driven} == {*mouth, *brows}
    every = find_shapes([shape(name, 9, [k]) for k, name in enumerate([*ARKIT_NAMES, *brows])])
    assert {driven.shape.name for driven in every.driven} == set(ARKIT_NAMES)


def test_shapes_of_other_things_are_left_out(bound):
    """Clothes that are called as a mouth, and shapes that move nothing."""
    body = np.flatnonzero(~bound.focus)[:50]
    count = len(bound.rest)
    if not len(body):  # the example is all face
        bound = replace(bound, mesh=replace(bound.mesh, vertices=bound.mesh.vertices.copy()))
        bound.mesh.vertices[:40] += 1e3
        body = np.arange(40)
    shapes = (shape("jawOpen", count, body), shape("mouthSmile", count, []))
    mesh = replace(bound.mesh, load_shapes=lambda: shapes)
    fit = OwnShapeFit(replace(bound, mesh=mesh), find_shapes(shapes))
    assert fit.names == () and not fit.is_enough
    assert fit.found.left_out == {
        "jawOpen": "does not move the face",
        "mouthSmile": "moves nothing",
    }


def test_weights_at_rest_are_kept(bound):
    """A mesh at rest with a shape at 0.3 has it at 0.3, and at most at 1."""
    jaw = bound.arkit_targets()[ARKIT_NAMES.index("jawOpen")]
    rows = np.flatnonzero(jaw.any(1)).astype(np.int32)
    shapes = (MeshShape("jawOpen", len(jaw), rows, jaw[rows], at_rest=0.3),)
    mesh = replace(bound.mesh, load_shapes=lambda: shapes)
    fit = OwnShapeFit(replace(bound, mesh=mesh), find_shapes(shapes))
    opened = bound.face.weight_vector({"jawOpen": 1.0})
    weights = fit.weights(frames_of(bound, np.stack([0 * opened, 0.4 * opened, opened])))[:, 0]
    np.testing.assert_allclose(weights, [0.3, 0.7, 1.0], atol=0.02)


def test_a_smile_that_is_the_only_emotion_stands_for_no_other(bound, models):
    """A VRM with vowels and happy does not smile when it is sad or afraid."""
    recipes = {**VRM_MOUTH_RECIPES, "happy": VRM_EMOTION_RECIPES["happy"]}
    targets = np.stack([recipe_weights(recipe) for recipe in recipes.values()])
    targets = np.tensordot(targets.astype(np.float32), bound.arkit_targets(), 1)
    every = np.arange(targets.shape[1], dtype=np.int32)
    shapes = tuple(MeshShape(name, len(every), every, t) for name, t in zip(recipes, targets))
    mesh = replace(bound.mesh, load_shapes=lambda: shapes)
    fit = OwnShapeFit(replace(bound, mesh=mesh), find_shapes(shapes))
    still = Motion(np.zeros(1), np.zeros((1, len(models.face.span)), np.float32))
    smiles = {}
    for emotion in EMOTIONS[1:]:
        motion = with_emotion(models.emotion, still, one_hot(emotion)[None], models.face)
        arkit = motion.arkit(models.face)
        smiles[emotion] = fit.weights_of(arkit, motion.coordinates)[0, fit.names.index("happy")]
    assert smiles["happy"] > 0.6
    assert max(smiles[name] for name in ("sad", "angry", "fearful", "surprised")) < 0.2, smiles


# ------------------------------------------------------------------------------------------ maps


MAP_SHAPES = [shape(name, 3, [0]) for name in ("Open", "a=b", "Tail", "Smile_L", "mouthClose")]


def map_file(folder, text):
    path = folder / "a.map"
    path.write_text(text, "utf-8")
    return path


def test_a_map_says_what_shapes_show(tmp_path):
    text = '# mine\n\nOpen = jawOpen * 0.7 + mouthSmile\n"a=b" = aa  # a sound\nTail =\n'
    named = read_shape_map(map_file(tmp_path, "\ufeff" + text), MAP_SHAPES)
    assert named["Open"].recipe == {"jawOpen": 0.7, "mouthSmileLeft": 1, "mouthSmileRight": 1}
    assert named["a=b"].recipe == meaning_of("viseme_aa").recipe and named["Tail"] is None
    found = find_shapes(MAP_SHAPES, named)
    assert [driven.shape.name for driven in found.driven] == ["Open", "a=b", "mouthClose"]
    assert found.left_out["Tail"] == "left out by the map"


def test_a_template_reads_as_what_is_known(tmp_path):
    known = [shape(name, 3, [0]) for name in ("jawOpen", "mouthOpen", "x #1", "viseme_ou", "Skirt")]
    text = map_template(known, find_shapes(known).left_out)
    named = read_shape_map(map_file(tmp_path, text), known)
    assert {name: m and m.recipe for name, m in named.items()} == {
        "jawOpen": {"jawOpen": 1.0},
        "x #1": None,
        "viseme_ou": meaning_of("viseme_ou").recipe,
        "Skirt": None,
    }
    assert "# mouthOpen = jawOpen" in text


@pytest.mark.parametrize(
    ("line", "message", "hint"),
    [
        ("Opn = jawOpen", "no shape 'Opn'", "did you mean Open"),
        ("Open = jawOpne", "talkemo has no shape 'jawOpne'", "did you mean jawOpen"),
        ("Open = Zzzzqq", "no shape 'Zzzzqq'", "--map-template"),
        ("Open jawOpen", "line 2: not a line", "write a line"),
        ("Open = jawOpen * x", "'x' is not a factor", "above 0"),
        ("Open = jawOpen * nan", "'nan' is not a factor", "above 0"),
        ("Open = jawOpen * -1", "'-1' is not a factor", "above 0"),
        ("Open = jawOpen *", "'' is not a factor", "above 0"),
        ("Open = jawOpen +", "no shape ''", "--map-template"),
        ("= jawOpen", "line 2: not a line", "write a line"),
        ('"Open = jawOpen', "quotes", "write a line"),
        ("Open = jawOpen\nOpen = aa", "'Open' is there twice", "keep one"),
    ],
)
def test_a_wrong_map_is_refused_in_a_line(tmp_path, line, message, hint):
    with pytest.raises(InputError) as refused:
        read_shape_map(map_file(tmp_path, f"# shapes\n{line}\n"), MAP_SHAPES)
    assert message in refused.value.message and hint in refused.value.hint
    assert refused.value.message.startswith(str(tmp_path / "a.map")[:20])


# --------------------------------------------------------------------------------------- pipelines


@pytest.fixture(scope="module")
def performed(bound, characters, short_speech, models):
    """The VRM-like character speaks into several files."""
    folder = characters["folder"]
    outputs = [folder / name for name in ("a.npz", "a.glb", "a.csv", "a.json")]
    export = ExportOptions(curves="own")
    character = character_of(bound, characters["vrm"])
    result = animate(
        character, short_speech, outputs, emotion="happy", fps=20, export=export, models=models
    )
    return folder, result


def tree_of(path):
    return GltfFile(path, path.read_bytes()).tree


def test_files_have_the_own_shapes_and_say_how_exact_they_are(performed):
    folder, result = performed
    names = [f"Face.{k:02d}" for k in range(7)]
    kept, *added = (mesh["extras"]["targetNames"] for mesh in tree_of(folder / "a.glb")["meshes"])
    assert set(names) <= set(kept) and not set(ARKIT_NAMES) & set(kept)  # the file, as it was
    assert all(of_part == list(ARKIT_NAMES) for of_part in added)  # mouth, teeth, eyes
    exact, driven = (open_animation(folder / name) for name in ("a.npz", "a.glb"))
    distance = np.linalg.norm(next(exact.chunks(99)) - next(driven.chunks(99)), axis=2)
    residual = result.metrics["own_residual_mesh_units"]
    assert 0 < residual < 2.5 and abs(distance.mean() - residual) < 0.3
    assert "arkit_residual_mesh_units" not in result.metrics
    assert any("own blend shapes are driven: VRM 7 (aa, " in note for note in result.notes)


def test_speech_opens_the_mouth_smoothly_through_five_vowels(performed, bound):
    folder, _ = performed
    exact, driven = (open_animation(folder / name) for name in ("a.npz", "a.glb"))
    expected, found = (opening(bound, next(source.chunks(99))) for source in (exact, driven))
    assert np.corrcoef(expected, found)[0, 1] > 0.95
    assert 0.8 < np.polyfit(expected, found, 1)[0] < 1.1
    roughness = [np.abs(np.diff(values, 2)).mean() for values in (expected, found)]
    assert roughness[1] < 1.2 * roughness[0]


def test_curves_have_a_column_for_each_own_shape(performed):
    folder, result = performed
    rows = list(csv.DictReader((folder / "a.csv").open()))
    about = json.loads((folder / "a.json").read_text())
    assert about["names"] == [f"Face.{k:02d}" for k in range(7)] and about["curves"] == "own"
    assert len(rows) == len(about["frames"]) == result.frames
    table = np.array([[float(row[name]) for name in about["names"]] for row in rows])
    np.testing.assert_allclose(table, [frame["weights"] for frame in about["frames"]], atol=1e-5)
    assert table.min() >= 0 and 0.2 < table.max() <= 1


def test_both_kinds_of_targets_have_an_animation_each(bound, characters, tmp_path, silence, models):
    export = ExportOptions(targets="both")
    character, path = character_of(bound, characters["arkit"]), tmp_path / "a.glb"
    result = animate(character, silence, path, fps=10, export=export, models=models)
    tree = tree_of(path)
    names = tree["meshes"][0]["extras"]["targetNames"]
    assert len(names) == 53 + 52 == len(set(names)) and "jawOpen" in names
    assert "eyeBlinkLeft_arkit" in names[53:]  # its own has that name already
    second, first = tree["animations"]
    assert first["name"] == f"{second['name']} own shapes"
    file = GltfFile(path, path.read_bytes())
    weights = []
    for animation in (first, second):
        channels = {
            channel["target"]["node"]: channel
            for channel in animation["channels"]
            if channel["target"]["path"] == "weights"
        }
        node = next(k for k, node in enumerate(tree["nodes"]) if node.get("mesh") == 0)
        output = animation["samplers"][channels[node]["sampler"]]["output"]
        weights.append(file.accessor(output).reshape(-1, len(names)))
    assert weights[0][:, :53].any() and not weights[0][:, 53:].any()
    assert weights[1][:, 53:].any() and not weights[1][:, :53].any()
    assert {"own_residual_mesh_units", "arkit_residual_mesh_units"} <= set(result.metrics)


def test_a_file_keeps_the_weights_of_the_mesh_at_rest(bound, tmp_path, silence, models):
    """A mesh whose mouth is a little open at rest is written so, and comes back so."""
    jaw = bound.arkit_targets()[ARKIT_NAMES.index("jawOpen")]
    g = with_shapes(bound.mesh.vertices, bound.mesh.faces, {"jawOpen": jaw})
    g.tree["meshes"][0]["weights"] = [0.1]
    read = load_mesh(written(g, tmp_path / "a.glb"))
    character = replace(bound, mesh=read)
    export = ExportOptions(targets="own")
    animate(character, silence, tmp_path / "b.glb", fps=5, export=export, models=models)
    assert tree_of(tmp_path / "b.glb")["meshes"][0]["weights"] == pytest.approx([0.1])
    rest = open_animation(tmp_path / "b.glb").rest  # all weights at 0
    np.testing.assert_allclose(rest + 0.1 * jaw, read.vertices, atol=1e-3)


def test_usd_has_the_own_shapes(bound, characters, tmp_path, silence, models):
    usd = pytest.importorskip("pxr.UsdSkel", reason="pip install 'talkemo[usd]'")
    from pxr import Usd

    character, path = character_of(bound, characters["vrm"]), tmp_path / "a.usda"
    result = animate(character, silence, path, fps=10, models=models)
    stage = Usd.Stage.Open(str(path))
    binding = usd.BindingAPI(stage.GetPrimAtPath("/face/mesh"))
    names = [f"Face.{k:02d}" for k in range(7)]
    assert list(binding.GetBlendShapesAttr().Get()) == names
    motion = usd.Animation(stage.GetPrimAtPath("/face/animation"))
    assert list(motion.GetBlendShapesAttr().Get())[:7] == names  # then those of added parts
    assert result.metrics["own_residual_mesh_units"] > 0


def test_auto_leaves_shapes_alone_that_show_too_little(
    bound, characters, tmp_path, silence, models, face
):
    """Only a map says what `Gap` is, and a jaw alone is used only if it is asked for."""
    character = character_of(bound, characters["jaw"])
    path = tmp_path / "a.glb"
    animate(character, silence, path, fps=10, models=models)
    assert tree_of(path)["meshes"][0]["extras"]["targetNames"] == ["Gap", *ARKIT_NAMES]
    with pytest.raises(InputError, match="none of its 1 blend shapes is known"):
        animate(character, silence, path, export=ExportOptions(targets="own"), models=models)
    export = ExportOptions(shape_map=map_file(tmp_path, "Gap = jawOpen * 1.4"))
    animate(character, silence, path, fps=10, export=export, models=models)
    assert tree_of(path)["meshes"][0]["extras"]["targetNames"] == ["Gap"]
    about = describe_shapes(character, export.shape_map)["shapes"]
    assert not about["enough"] and about["driven"] == ["Gap"] and len(about["missing"]) == 51


def test_a_map_without_names_is_refused_and_an_unused_one_is_told(
    bound, characters, tmp_path, silence, models
):
    character, path = character_of(bound, characters["jaw"]), tmp_path / "a.glb"
    empty = ExportOptions(shape_map=map_file(tmp_path, "Gap ="))
    with pytest.raises(InputError, match="no line names what a shape shows"):
        animate(character, silence, path, export=empty, models=models)
    export = ExportOptions(targets="arkit", shape_map=map_file(tmp_path, "Gap = jawOpen"))
    result = animate(character, silence, path, fps=10, export=export, models=models)
    assert any("the map is not used" in note for note in result.notes)


@pytest.mark.parametrize("targets", ["auto", "own"])
def test_a_stream_has_the_own_weights(bound, characters, short_speech, models, targets):
    character = character_of(bound, characters["vrm"])
    source = stream(character, short_speech, fps=20, models=models, targets=targets)
    file = io.BytesIO()
    assert source.write(file) > 10
    head, *lines = map(json.loads, file.getvalue().splitlines())
    assert head["own_names"] == [f"Face.{k:02d}" for k in range(7)]
    assert all(len(line["own"]) == 7 for line in lines)
    assert ("names" in head) == ("arkit" in lines[0]) == (targets == "auto")


def test_transfer_drives_the_shapes_of_an_animated_file(
    bound, characters, tmp_path, silence, models
):
    """What `animate` made with the character's shapes is changed with them, in the same file."""
    saved, first, path = (tmp_path / name for name in ("b.npz", "a.glb", "sad.glb"))
    save_binding(saved, bound)
    animate(character_of(bound, characters["arkit"]), silence, first, fps=5, models=models)
    result = transfer(first, path, emotion="sad", hint=FaceHint(binding=saved), models=models)
    names = tree_of(first)["meshes"][0]["extras"]["targetNames"]
    kept = tree_of(path)
    assert kept["meshes"][0]["extras"]["targetNames"] == names  # the whole file, once more animated
    assert len(kept["animations"]) == len(tree_of(first)["animations"]) + 1
    assert result.metrics["own_residual_mesh_units"] > 0


# ------------------------------------------------------------------------------------ command line


def test_the_command_line_prints_a_map_and_lists_the_shapes(bound, characters, tmp_path, capsys):
    assert main(["bind", str(characters["arkit"]), "--map-template"]) == 0
    text = capsys.readouterr().out
    named = read_shape_map(map_file(tmp_path, text), load_mesh(characters["arkit"]).shapes)
    assert len(named) == 53 and named["Belt_Tight"] is None
    image = tmp_path / "a.png"
    assert main(["bind", str(characters["vrm"]), "--json", "-o", str(image)]) == 0
    shapes = json.loads(capsys.readouterr().out)["shapes"]
    assert shapes["found"] == 14 and len(shapes["driven"]) == 7 and shapes["enough"]
    assert imageio.imread(image).shape[:2] == (3 * 360, 6 * 360)
    assert set(shapes["driven"]) == set(shapes["expressions"])
    told = list(_shape_facts(shapes))
    assert any(line.startswith("expressions of the VRM: aa, ") for line in told)
    assert any(line.startswith("driven: aa, ") for line in told)
    assert not any("Face.0" in line for line in told)  # a morph target's number tells nobody
    about = describe_shapes(character_of(bound, characters["arkit"]))["shapes"]
    told = list(_shape_facts(about))
    assert told[0].startswith("own blend shapes: 53, known by their names: ARKit 4")
    assert "not driven, unknown name: Belt_Tight" in told
    assert "ARKit shapes without a counterpart: tongueOut" in told


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["-o", "a.glb", "--targets", "own"], "mask.obj has no blend shapes of its own"),
        (["-o", "a.glb", "--targets", "mine"], "unknown targets 'mine'"),
        (["-o", "a.npz", "--targets", "own"], "no output for --targets own"),
        (["-o", "a.npz", "--map", "x.map"], "no output for --map"),
        (["-o", "a.glb", "--map", "x.map"], "mask.obj has no blend shapes of its own"),
        (["-o", "a.csv", "--curves", "own"], "mask.obj has no blend shapes of its own"),
        (["-o", "a.csv", "--curves", "own", "--targets", "arkit"], "leave one out"),
        (["--stream", "--targets", "own"], "mask.obj has no blend shapes of its own"),
        (["--stream", "--targets", "mine"], "unknown targets 'mine'"),
    ],
)
def test_what_cannot_be_driven_is_refused(
    example_face, silence, tmp_path, capsys, monkeypatch, arguments, message
):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "x.map").write_text("Open = jawOpen\n")
    assert main(["animate", str(example_face), str(silence), *arguments]) == 2
    told = capsys.readouterr().err
    assert message in told and len(told.splitlines()) == 2
    assert sorted(path.name for path in tmp_path.iterdir()) == ["x.map"]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--to", "ws://:0/own"], "mask.obj has no blend shapes of its own"),
        (["--to", "ws://:0", "--map", "x.map"], "--map is for the character's own shapes"),
        (["--map", "x.map"], "--map is for sending frames"),
    ],
)
def test_live_refuses_shapes_that_do_not_exist(
    example_face, silence, tmp_path, capsys, monkeypatch, arguments, message
):
    monkeypatch.chdir(tmp_path)
    audio = [str(silence)] if "--to" in arguments else []
    assert main(["live", str(example_face), *audio, *arguments]) == 2
    assert message in capsys.readouterr().err


def test_shapes_without_brows_are_said_to_hardly_show_emotions(bound, characters):
    for kind, targets, said in (
        ("vrm", "own", True),
        ("vrm", "both", False),
        ("arkit", "own", False),
    ):
        _, notes = own_shapes(character_of(bound, characters[kind]), targets, None)
        assert any("moves the brows" in note for note in notes) == said


def test_a_template_of_a_mesh_without_shapes(example_face, capsys):
    assert main(["bind", str(example_face), "--map-template"]) == 2
    assert "has no blend shapes of its own" in capsys.readouterr().err
    assert main(["bind", str(example_face), "--map-template", "-o", "a.npz"]) == 2
