"""Exported files, checked with independent readers."""

import csv
import inspect
import subprocess
import sys

import imageio.v3 as imageio
import numpy as np
import pytest
import trimesh
from scipy.spatial.transform import Rotation

from talkemo import ExportOptions, InputError, animate, bind, load_models
from talkemo.binding.head_turner import HeadTurner
from talkemo.evaluation.compare import compare
from talkemo.face.canonical import ARKIT_NAMES
from talkemo.formats import animation as animations
from talkemo.formats import registry
from talkemo.formats.animation import Frames
from talkemo.formats.mesh import load_mesh
from talkemo.formats.npz import NpzAnimation
from talkemo.formats.registry import ANIMATION_FORMATS, open_animation
from talkemo.pipelines.acting import bound_header
from talkemo.pipelines.rendering import render

pygltflib = pytest.importorskip(
    "pygltflib", reason="an independent reader of GLB: pip install 'talkemo[test]'"
)


@pytest.fixture(scope="module")
def exported(example_face, short_speech, tmp_path_factory):
    """The example in several formats, at 20 fps."""
    folder = tmp_path_factory.mktemp("exported")
    outputs = [folder / name for name in ("a.npz", "a.glb", "a.csv", "frames")]
    result = animate(example_face, short_speech, outputs, emotion="surprised", fps=20)
    return folder, result


def accessor(document, number):
    """An accessor's values, by pygltflib's view of the file."""
    a = document.accessors[number]
    kind, width = (
        {5126: "<f4", 5125: "<u4"}[a.componentType],
        {"VEC4": 4, "VEC3": 3, "SCALAR": 1}[a.type],
    )
    if a.bufferView is None and a.sparse is None:
        return np.zeros((a.count, width), kind)
    if a.bufferView is not None:
        view = document.bufferViews[a.bufferView]
        block = document.binary_blob()[view.byteOffset : view.byteOffset + view.byteLength]
        return np.frombuffer(block, kind).reshape(a.count, width)
    result = np.zeros((a.count, width), kind)
    parts = []
    for view, form in ((a.sparse.indices.bufferView, "<u4"), (a.sparse.values.bufferView, kind)):
        view = document.bufferViews[view]
        parts.append(
            np.frombuffer(
                document.binary_blob()[view.byteOffset : view.byteOffset + view.byteLength], form
            )
        )
    result[parts[0]] = parts[1].reshape(-1, width)
    return result


MM = 1000  # of a metre, a GLB's unit


def played(path):
    """Rest (V, 3), weights (T, K), targets (K, V, 3), names and times of the one mesh of a GLB.

    Lengths are converted to mm, the example's unit.
    """
    document = pygltflib.GLTF2().load(str(path))
    mesh = document.meshes[0]
    primitive = mesh.primitives[0]
    rest = accessor(document, primitive.attributes.POSITION)
    targets = np.stack(
        [
            accessor(document, t["POSITION"] if isinstance(t, dict) else t.POSITION)
            for t in primitive.targets
        ]
    )
    sampler = document.animations[0].samplers[0]
    times = accessor(document, sampler.input)[:, 0]
    weights = accessor(document, sampler.output).reshape(len(times), -1)
    assert document.animations[0].channels[0].target.path == "weights"
    return MM * rest, weights, MM * targets, mesh.extras["targetNames"], times


def test_a_glb_has_arkits_targets_and_moves_like_the_npz(exported):
    folder, result = exported
    rest, weights, targets, names, times = played(folder / "a.glb")
    animation = NpzAnimation(folder / "a.npz")
    assert names == ARKIT_NAMES and weights.min() >= 0 and weights.max() <= 1
    np.testing.assert_allclose(times, np.arange(len(animation)) / 20, atol=1e-6)
    np.testing.assert_allclose(rest, animation.rest, atol=1e-4)
    drawn = rest + np.tensordot(weights, targets, 1)
    distance = np.linalg.norm(drawn - animation.vertices(), axis=2)
    moved = np.linalg.norm(animation.vertices() - animation.rest, axis=2)
    assert distance.mean() < 0.5 * moved.mean()
    # The reported residual is that of the face's vertices, on every eighth frame.
    focus = animation.focus.astype(bool)
    assert result.metrics["arkit_residual_mesh_units"] == pytest.approx(
        distance[::8][:, focus].mean(), rel=1e-3
    )


def turned(quaternions, points):
    """Points (3,) turned by quaternions x, y, z, w (T, 4)."""
    return Rotation.from_quat(quaternions).apply(points)


def test_a_glb_contains_rotations_of_head_and_eyes(exported):
    folder, _ = exported
    document = pygltflib.GLTF2().load(str(folder / "a.glb"))
    nodes, animation = document.nodes, document.animations[0]
    assert [node.name for node in nodes[:4]] == ["face", "head", "eye_right", "eye_left"]
    # What is added to the mesh comes last: the eyeballs below the nodes that turn them.
    assert document.scenes[0].nodes == [1]
    assert [nodes[node.children[0]].name for node in nodes[2:4]] == [
        "eyeball_right",
        "eyeball_left",
    ]
    eyeballs = nodes[2].children + nodes[3].children
    assert nodes[1].children == [2, 3, 0, *(set(range(4, len(nodes))) - set(eyeballs))]
    # The head moves the face, whose vertices stay where they are at rest.
    np.testing.assert_array_equal(np.add(nodes[0].translation, nodes[1].translation), 0)
    tracks = {
        nodes[c.target.node].name: accessor(document, animation.samplers[c.sampler].output)
        for c in animation.channels
        if c.target.path == "rotation"
    }
    with np.load(folder / "a.npz") as arrays:
        head, face = arrays["head"], arrays["facing"]
        points = arrays["landmarks68"][0]
    ahead = np.array([0.0, 0, 1])
    expected = (face @ head @ face.T) @ ahead
    np.testing.assert_allclose(turned(tracks["head"], ahead), expected, atol=1e-5)
    assert (
        np.abs(expected - ahead).max() > 0.005 and np.abs(tracks["eye_left"][:, :3]).max() > 0.005
    )
    for name, corners in (("eye_right", slice(36, 42)), ("eye_left", slice(42, 48))):
        eye = nodes[[node.name for node in nodes].index(name)]
        position = MM * np.add(nodes[1].translation, eye.translation)
        assert np.linalg.norm(position - points[corners].mean(0)) < 25  # mm behind its lids


def test_a_baked_glb_is_exact(exported, example_face, short_speech, tmp_path):
    animate(
        example_face,
        short_speech,
        [tmp_path / "b.glb"],
        emotion="surprised",
        fps=20,
        export=ExportOptions(bake=True),
    )
    rest, weights, targets, names, _ = played(tmp_path / "b.glb")
    vertices = NpzAnimation(exported[0] / "a.npz").vertices()
    assert len(names) == len(vertices)
    np.testing.assert_allclose(rest + np.tensordot(weights, targets, 1), vertices, atol=1e-3)


def test_an_exported_glb_can_be_read(exported):
    ours = open_animation(exported[0] / "a.glb")
    rest, weights, targets, _, _ = played(exported[0] / "a.glb")
    assert ours.fps == 20 and len(ours) == len(weights)
    np.testing.assert_allclose(
        np.concatenate(list(ours.chunks())), rest + np.tensordot(weights, targets, 1), atol=1e-3
    )


def test_morph_targets_are_sparse_if_few_vertices_move(
    exported, tmp_path, short_speech, example_face
):
    # The face beside a large still plate: most vertices never move.
    mesh = load_mesh(example_face)
    grid = np.stack(
        np.meshgrid(np.linspace(-90, 90, 150), np.linspace(-400, -120, 150), [60.0]), -1
    ).reshape(-1, 3)
    cells = np.arange(150 * 150).reshape(150, 150)
    plate = np.concatenate(
        [np.stack([cells[:-1, :-1], cells[:-1, 1:], cells[1:, 1:]], -1).reshape(-1, 3)] * 1
    ) + len(mesh.vertices)
    bust = trimesh.Trimesh(
        np.vstack([mesh.vertices, grid]), np.vstack([mesh.faces, plate]), process=False
    )
    bust.export(tmp_path / "bust.ply")
    animate(tmp_path / "bust.ply", short_speech, [tmp_path / "b.glb", tmp_path / "b.npz"], fps=10)
    rest, weights, targets, _, _ = played(tmp_path / "b.glb")
    document = pygltflib.GLTF2().load(str(tmp_path / "b.glb"))
    assert any(a.sparse is not None for a in document.accessors)
    assert len(rest) == len(mesh.vertices) + len(grid)
    drawn = rest + np.tensordot(weights, targets, 1)
    np.testing.assert_allclose(
        np.concatenate(list(open_animation(tmp_path / "b.glb").chunks())), drawn, atol=1e-3
    )


@pytest.mark.parametrize("ending", ["usda", "usdc"])
def test_usd_contains_the_same_weights(exported, example_face, short_speech, tmp_path, ending):
    pxr = pytest.importorskip("pxr", reason="talkemo[usd] is not installed")
    from pxr import Usd, UsdGeom, UsdSkel

    assert pxr
    path = tmp_path / f"a.{ending}"
    animate(example_face, short_speech, [path], emotion="surprised", fps=20)
    stage = Usd.Stage.Open(str(path))
    mesh = UsdGeom.Mesh(stage.GetPrimAtPath("/face/mesh"))
    rest, weights, targets, names, _ = played(exported[0] / "a.glb")
    assert stage.GetTimeCodesPerSecond() == 20 and stage.GetEndTimeCode() == len(weights) - 1
    cache = UsdSkel.Cache()
    cache.Populate(UsdSkel.Root(stage.GetPrimAtPath("/face")), Usd.PrimDefaultPredicate)
    query = cache.GetSkelQuery(
        UsdSkel.Skeleton(stage.GetPrimAtPath("/face/skeleton"))
    ).GetAnimQuery()
    assert list(query.GetBlendShapeOrder()) == names
    np.testing.assert_allclose(np.array(query.ComputeBlendShapeWeights(12)), weights[12], atol=1e-6)
    shapes = UsdSkel.BlendShapeQuery(UsdSkel.BindingAPI(mesh.GetPrim()))
    points = mesh.GetPointsAttr().Get()
    sub = shapes.ComputeSubShapeWeights(query.ComputeBlendShapeWeights(12))
    points = np.array(points)
    for weight, k in zip(sub[0], sub[1]):
        points[np.array(shapes.GetBlendShape(k).GetPointIndicesAttr().Get())] += weight * np.array(
            shapes.GetBlendShape(k).GetOffsetsAttr().Get()
        )
    np.testing.assert_allclose(points, rest + np.tensordot(weights[12], targets, 1), atol=1e-3)
    head = UsdGeom.Xformable(stage.GetPrimAtPath("/head"))
    ahead = np.array(head.GetLocalTransformation(12))[2, :3]  # row k is the image of axis k
    with np.load(exported[0] / "a.npz") as arrays:
        face = arrays["facing"]
        np.testing.assert_allclose(ahead, face @ arrays["head"][12] @ face.T @ [0, 0, 1], atol=1e-5)
    assert stage.GetPrimAtPath("/head/eye_left").IsValid()


def test_baked_usd_is_exact(exported, example_face, short_speech, tmp_path):
    pytest.importorskip("pxr", reason="talkemo[usd] is not installed")
    from pxr import Usd, UsdGeom

    animate(
        example_face,
        short_speech,
        [tmp_path / "b.usdc"],
        emotion="surprised",
        fps=20,
        export=ExportOptions(bake=True),
    )
    stage = Usd.Stage.Open(str(tmp_path / "b.usdc"))
    mesh = UsdGeom.Mesh(stage.GetPrimAtPath("/face/mesh"))
    vertices = NpzAnimation(exported[0] / "a.npz").vertices()
    with np.load(exported[0] / "a.npz") as arrays:  # the points are rotated with the head
        vertices[7] = HeadTurner(bind(example_face))(vertices[7], arrays["head"][7])
    np.testing.assert_allclose(np.array(mesh.GetPointsAttr().Get(7)), vertices[7], atol=1e-4)


def test_baked_usd_turns_own_eyeballs(example_face, tmp_path):
    pytest.importorskip("pxr", reason="talkemo[usd] is not installed")
    from pxr import Usd, UsdGeom

    binding = bind(example_face.with_name("face.obj"))
    turner, gaze = HeadTurner(binding), np.array([[0, 0], [0.1, 0.4]])
    header = bound_header(binding, 2, 30.0, {}, turn=turner)
    vertices = np.repeat(binding.rest[None], 2, axis=0)
    still = np.tile(np.eye(3), (2, 1, 1))
    frames = Frames(vertices, vertices[:, binding.landmarks68], np.zeros((2, 52)), still, gaze)
    with registry.open_writer(tmp_path / "b.usdc", header, bake=True) as writer:
        writer.write(frames)
    stage = Usd.Stage.Open(str(tmp_path / "b.usdc"))
    (mesh,) = (p for p in stage.Traverse() if p.IsA(UsdGeom.Mesh) and p.GetName() == "mesh")
    points = UsdGeom.Mesh(mesh).GetPointsAttr()
    expected = turner(vertices[1], still[1], gaze[1])
    assert np.linalg.norm(expected - vertices[1], axis=1).max() > 2  # mm, in the pupils
    np.testing.assert_allclose(np.array(points.Get(1)), expected, atol=1e-3)


def test_arkit_curves_have_live_link_faces_layout(exported):
    folder, _ = exported
    with (folder / "a.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    with np.load(folder / "a.npz") as file:
        arkit = file["arkit"]
    names = list(rows[0])
    assert names[:4] == ["Timecode", "BlendShapeCount", "EyeBlinkLeft", "EyeLookDownLeft"]
    assert (
        names[16:20] == ["JawForward", "JawRight", "JawLeft", "JawOpen"]
        and names[-1] == "RightEyeRoll"
    )
    assert len(names) == 63 and len(rows) == len(arkit)
    jaw = [float(row["JawOpen"]) for row in rows]
    np.testing.assert_allclose(jaw, arkit[:, ARKIT_NAMES.index("jawOpen")], atol=1e-5)
    left = [float(row["JawLeft"]) for row in rows]
    np.testing.assert_allclose(left, arkit[:, ARKIT_NAMES.index("jawLeft")], atol=1e-5)
    assert [rows[k]["Timecode"] for k in (0, 1, 19, 20, 21)] == [
        "00:00:00:00.000",
        "00:00:00:01.000",
        "00:00:00:19.000",
        "00:00:01:00.000",
        "00:00:01:01.000",
    ]


@pytest.mark.parametrize("form", ["obj", "ply"])
def test_a_sequence_equals_the_npz_with_a_file_per_frame(
    example_face, short_speech, tmp_path, form
):
    outputs = [tmp_path / "a.npz", tmp_path / "frames"]
    animate(example_face, short_speech, outputs, fps=4, export=ExportOptions(sequence=form))
    vertices = NpzAnimation(tmp_path / "a.npz").vertices()
    files = sorted((tmp_path / "frames").iterdir())
    assert [file.name for file in files] == [f"{k:06d}.{form}" for k in range(len(vertices))]
    again = trimesh.load(files[-1], process=False, maintain_order=True)
    np.testing.assert_allclose(again.vertices, vertices[-1], atol=1e-4)
    with pytest.raises(InputError, match="not an empty folder"):
        animate(example_face, short_speech, outputs, fps=4)


def test_formats_can_be_compared_and_rendered(exported, tmp_path):
    folder, _ = exported
    result = compare(folder / "a.glb", folder / "a.npz", face=load_models().face)
    re = next(f for f in result["figures"] if f["name"] == "RE" and f["mask"] == "lips")
    assert 0 < re["value"] < 2 and re["unit"] == "mm"
    assert (
        compare(folder / "a.npz", folder / "a.npz", face=load_models().face)["figures"][0]["value"]
        == 0
    )
    for source in ("a.glb", "frames"):
        render(folder / source, tmp_path / "a.png", size=128)
        assert imageio.imread(tmp_path / "a.png").std() > 20


def test_outputs_that_cannot_be_written_are_refused(
    example_face, short_speech, tmp_path, monkeypatch
):
    with pytest.raises(InputError, match="unknown kind of mesh"):
        animate(
            example_face, short_speech, [tmp_path / "frames"], export=ExportOptions(sequence="stl")
        )
    with pytest.raises(InputError, match="no such folder"):
        animate(example_face, short_speech, [tmp_path / "none" / "frames"])
    with pytest.raises(InputError, match="nothing to bake"):
        animate(example_face, short_speech, [tmp_path / "a.npz"], export=ExportOptions(bake=True))
    with pytest.raises(InputError, match="inside another"):
        animate(example_face, short_speech, [tmp_path, tmp_path / "a.npz"])
    monkeypatch.setattr(animations, "MAX_BAKED_BYTES", 1 << 20)
    for ending in ("glb", "usdc"):
        with pytest.raises(InputError, match="too many to bake"):
            animate(
                example_face,
                short_speech,
                [tmp_path / f"a.{ending}"],
                export=ExportOptions(bake=True),
            )
    assert not any(tmp_path.iterdir())


def test_an_npz_of_shapes_moves_like_the_glb(example_face, short_speech, tmp_path):
    outputs = [tmp_path / "a.npz", tmp_path / "a.glb"]
    animate(example_face, short_speech, outputs, fps=10, export=ExportOptions(arrays="shapes"))
    turner = HeadTurner(bind(example_face))
    with np.load(outputs[0]) as arrays:
        assert "vertices" not in arrays
        shown = arrays["rest"] + np.tensordot(arrays["arkit"], arrays["arkit_targets"], 1)
        np.testing.assert_allclose(arrays["head_pivot"], turner.pivot, rtol=1e-6)
        np.testing.assert_array_equal(arrays["head_share"], turner.share[:, 0])
        names = [str(name) for name in arrays["added_names"]]
        parts = {name: arrays[f"added{k}_rest"] for k, name in enumerate(names)}
        assert {"teeth", "tongue", "eyes", "mouth"} <= set(parts)
        assert arrays[f"added{names.index('teeth')}_targets"].shape == (52, *parts["teeth"].shape)
        assert arrays[f"added{names.index('eyes')}_texture"][1:4].tobytes() == b"PNG"
    glb = np.concatenate(list(open_animation(outputs[1]).chunks()))
    np.testing.assert_allclose(shown, glb, atol=1e-3 * np.ptp(glb))
    with pytest.raises(InputError, match="not an animation"):
        open_animation(outputs[0])
    with pytest.raises(InputError, match="no output for the arrays of shapes"):
        animate(example_face, short_speech, outputs[1], export=ExportOptions(arrays="shapes"))


def test_importing_the_registry_loads_no_library():
    code = (
        "import sys, talkemo.formats.registry; "
        "sys.exit(any(name.startswith(('numpy', 'talkemo.render')) for name in sys.modules))"
    )
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0


@pytest.mark.parametrize("entry", ANIMATION_FORMATS, ids=lambda entry: entry.ending or "folder")
def test_registered_readers_and_writers_exist(entry):
    assert entry.about and (entry.reader or entry.writer)
    if entry.reader:
        assert {"fps"} < set(inspect.signature(registry._load(entry.reader)).parameters)
    if entry.writer:
        parameters = list(inspect.signature(registry._load(entry.writer)).parameters)
        assert parameters[1] == "header" and set(parameters[2:]) == set(entry.options)


def test_lists_of_endings():
    assert registry.OUTPUT_ENDINGS == (
        ".mp4",
        ".html",
        ".npz",
        ".glb",
        ".gltf",
        ".vrm",
        ".csv",
        ".json",
        ".usda",
        ".usdc",
        ".usdz",
        ".mdd",
        ".pc2",
        ".vmd",
        ".vrma",
    )
    assert registry.INPUT_ENDINGS == (".npz", ".glb", ".gltf", ".vrm", ".mdd", ".pc2", ".npy")
    assert (*(".glb", ".gltf", ".vrm", ".usda", ".usdc", ".usdz"),) == registry.BAKED_ENDINGS
    assert [entry.ending for entry in ANIMATION_FORMATS if entry.is_video] == [".mp4"]
    text = registry.describe_outputs()
    assert all(ending in text for ending in registry.OUTPUT_ENDINGS) and "no ending" in text
