"""USD as an input: meshes in metres with y up, and the stage back with what makes it speak."""

import base64
import json
import zipfile
from dataclasses import replace

import numpy as np
import pytest
from gltf_files import FACES, PIXEL, POINTS, UV, Gltf
from scipy.spatial.transform import Rotation
from test_gltf_back import COUNT, GAZE, HEAD, added_parts, frames_of, header_of, turner_of, written

from talkemo import ExportOptions, InputError, animate
from talkemo.binding.head_turner import HeadTurner
from talkemo.formats.mesh import load_mesh
from talkemo.formats.npz import NpzAnimation
from talkemo.pipelines.outputs import _has_own_mesh

pytest.importorskip("pxr", reason="talkemo[usd] is not installed")

from pxr import Gf, Sdf, Usd, UsdGeom, UsdShade, UsdSkel, UsdUtils
from usd_stages import (
    Z_UP,
    add_coordinates,
    add_material,
    add_mesh,
    baked,
    bind,
    complaints,
    new_stage,
    shifted,
    skeleton_of,
    two_levels,
)

from talkemo.formats import usd_layers
from talkemo.formats.usd_stage import integers

# ------------------------------------------------------------------------------------------ meshes


@pytest.mark.parametrize(
    ("up", "metres", "ending"), [("Y", 1.0, "usda"), ("Z", 0.01, "usdc"), ("Z", 1.0, "usd")]
)
def test_a_mesh_is_in_metres_with_y_up(tmp_path, up, metres, ending):
    stage = new_stage(tmp_path / f"a.{ending}", up, metres)
    points = POINTS @ Z_UP if up == "Z" else POINTS
    UsdGeom.Xform.Get(stage, "/Actor").AddScaleOp().Set((2, 2, 2))
    add_mesh(stage, points=points / metres / 2)
    stage.Save()
    mesh = load_mesh(tmp_path / f"a.{ending}")
    np.testing.assert_allclose(mesh.vertices, POINTS, atol=1e-6)
    np.testing.assert_array_equal(mesh.faces, FACES)


def test_polygons_holes_and_orientation(tmp_path):
    first, second = FACES[: len(FACES) // 2], FACES[len(FACES) // 2 :]
    quads = np.column_stack([first, second[:, 2]]).astype(np.int32)  # of two triangles each
    stage = new_stage(tmp_path / "a.usda")
    mesh = add_mesh(stage, faces=quads[:, ::-1])
    mesh.CreateOrientationAttr("leftHanded")
    mesh.CreateHoleIndicesAttr([0])
    stage.Save()
    faces = load_mesh(tmp_path / "a.usda").faces
    assert len(faces) == 2 * len(quads) - 2
    a, b, c = POINTS[faces].transpose(1, 0, 2)
    assert (np.cross(b - a, c - a)[:, 2] > 0).all()  # outwards
    np.testing.assert_array_equal(np.unique(faces), np.unique(quads[1:]))


def test_several_meshes_are_one(tmp_path):
    stage = new_stage(tmp_path / "a.usda")
    add_mesh(stage, "/Actor/skin")
    UsdGeom.Xformable(add_mesh(stage, "/Actor/teeth_upper")).AddTranslateOp().Set((0, 5, 0))
    UsdGeom.Imageable(add_mesh(stage, "/Actor/hidden")).CreateVisibilityAttr("invisible")
    UsdGeom.Imageable(add_mesh(stage, "/Actor/proxy")).CreatePurposeAttr("proxy")
    UsdGeom.Cube.Define(stage, "/Actor/box")
    stage.Save()
    mesh = load_mesh(tmp_path / "a.usda")
    np.testing.assert_allclose(mesh.vertices, np.concatenate([POINTS, shifted(0, 5, 0)]))
    assert mesh.attributes.groups.tolist() == ["skin"] * len(POINTS) + ["teeth"] * len(POINTS)
    assert [part.path for part in mesh.origin.parts] == ["/Actor/skin", "/Actor/teeth_upper"]


def test_a_skinned_mesh_is_in_its_bind_pose(tmp_path):
    stage = new_stage(tmp_path / "a.usda")
    UsdSkel.Root.Define(stage, "/Actor")
    UsdGeom.Xform.Get(stage, "/Actor").AddTranslateOp().Set((1, 0, 0))
    skeleton = UsdSkel.Skeleton.Define(stage, "/Actor/Skeleton")
    skeleton.CreateJointsAttr(["Head"])
    skeleton.CreateBindTransformsAttr([Gf.Matrix4d(1)])
    skeleton.CreateRestTransformsAttr([Gf.Matrix4d(1).SetTranslate((0, 9, 0))])
    mesh = add_mesh(stage)
    UsdGeom.Xformable(mesh).AddTranslateOp().Set((0, 0, 7))  # which a skin overrides
    binding = UsdSkel.BindingAPI.Apply(mesh.GetPrim())
    binding.CreateSkeletonRel().SetTargets(["/Actor/Skeleton"])
    binding.CreateGeomBindTransformAttr(Gf.Matrix4d(1).SetTranslate((0, 0, 2)))
    binding.CreateJointIndicesPrimvar(True, 1).Set([0])
    binding.CreateJointWeightsPrimvar(True, 1).Set([1.0])
    stage.Save()
    np.testing.assert_allclose(load_mesh(tmp_path / "a.usda").vertices, shifted(1, 0, 2))


@pytest.mark.parametrize("indexed", [True, False])
def test_a_texture_of_corners(tmp_path, indexed):
    (tmp_path / "maps").mkdir()
    (tmp_path / "maps" / "skin.png").write_bytes(base64.b64decode(PIXEL))
    stage = new_stage(tmp_path / "a.usda")
    mesh = add_mesh(stage)
    add_coordinates(mesh, indexed)
    bind(mesh.GetPrim(), add_material(stage, "Skin", image="./maps/skin.png"))
    stage.Save()
    attributes = load_mesh(tmp_path / "a.usda").attributes
    assert attributes.texture == base64.b64decode(PIXEL)
    np.testing.assert_allclose(attributes.uv[attributes.uv_faces], UV[FACES], atol=1e-6)


def test_subsets_of_triangles_have_their_colours(tmp_path):
    stage = new_stage(tmp_path / "a.usda")
    mesh = add_mesh(stage)
    red, blue = add_material(stage, "A", (1, 0, 0)), add_material(stage, "B", (0, 0, 1))
    bind(mesh.GetPrim(), blue)
    subset = UsdShade.MaterialBindingAPI(mesh.GetPrim()).CreateMaterialBindSubset(
        "red", integers(np.arange(len(FACES) // 2))
    )
    bind(subset.GetPrim(), red)
    stage.Save()
    colours = load_mesh(tmp_path / "a.usda").attributes.colours
    assert {tuple(row) for row in colours.tolist()} == {(255, 0, 0), (0, 0, 255)}
    bind(mesh.GetPrim(), add_material(stage, "C", (0, 0, 1), opacity=0.5))
    stage.Save()
    assert load_mesh(tmp_path / "a.usda").attributes.has_opacity


def test_displayed_colours(tmp_path):
    stage = new_stage(tmp_path / "a.usda")
    add_mesh(stage).CreateDisplayColorAttr([Gf.Vec3f(0, 1, 0)])
    stage.Save()
    assert (load_mesh(tmp_path / "a.usda").attributes.colours == [0, 255, 0]).all()


def test_a_reference_in_the_folder_is_followed(tmp_path):
    (tmp_path / "parts").mkdir()
    stage = new_stage(tmp_path / "parts" / "face.usda")
    add_mesh(stage)
    stage.Save()
    stage = new_stage(tmp_path / "a.usda")
    for name in ("/Actor/One", "/Actor/Two"):
        prim = UsdGeom.Xform.Define(stage, name).GetPrim()
        prim.GetReferences().AddReference("./parts/face.usda")
        prim.SetInstanceable(True)
    stage.Save()
    assert len(load_mesh(tmp_path / "a.usda").vertices) == 2 * len(POINTS)


def test_what_talkemo_added_is_no_part_of_the_mesh(tmp_path):
    mesh = load_mesh(Gltf().write(tmp_path / "a.glb"))
    header = header_of(mesh, added=lambda: added_parts(None))
    written(tmp_path / "b.usda", header, frames_of(header))
    np.testing.assert_allclose(load_mesh(tmp_path / "b.usda").vertices, mesh.vertices)


# ---------------------------------------------------------------------------------------- the stage


MAKERS = {"transforms": two_levels, "skeleton": skeleton_of}


def back(tmp_path, kind, ending="usda", **frames):
    """Write a stage, and what makes it speak; return the header, the frames and the result."""
    (tmp_path / "skin.png").write_bytes(base64.b64decode(PIXEL))
    stage = new_stage(tmp_path / "a.usda", "Z", 0.01)
    MAKERS[kind](stage)
    bind(stage.GetPrimAtPath("/Actor"), add_material(stage, "Skin", image="./skin.png"))
    UsdGeom.Camera.Define(stage, "/Actor/Camera")
    stage.GetPrimAtPath("/Actor").SetCustomDataByKey("kept", 7)
    stage.Save()
    mesh = load_mesh(tmp_path / "a.usda")
    header = header_of(mesh)
    header = header_of(mesh, turn=turner_of(header), added=lambda: added_parts(None))
    shown = frames_of(header, **frames)
    path = tmp_path / "out" / f"b.{ending}"
    path.parent.mkdir(exist_ok=True)
    written(path, header, shown)
    return header, shown, path


@pytest.mark.parametrize("ending", ["usda", "usdc", "usdz"])
@pytest.mark.parametrize("kind", MAKERS)
def test_the_stage_comes_back(tmp_path, kind, ending):
    _, _, path = back(tmp_path, kind, ending, head=HEAD, gaze=GAZE)
    assert complaints(path) == []
    before, after = Usd.Stage.Open(str(tmp_path / "a.usda")), Usd.Stage.Open(str(path))
    for prim in before.Traverse():
        other = after.GetPrimAtPath(prim.GetPath())
        assert other and set(prim.GetPropertyNames()) <= set(other.GetPropertyNames())
        for attribute in prim.GetAttributes():
            value = other.GetAttribute(attribute.GetName()).Get()
            if attribute.GetTypeName() != Sdf.ValueTypeNames.Asset and (
                attribute.GetName() != "skel:blendShapes"
            ):
                assert value == attribute.Get() or np.array_equal(value, attribute.Get())
    root = after.GetDefaultPrim()
    assert root.GetCustomDataByKey("kept") == 7 and root.GetTypeName() == "SkelRoot"
    image = UsdShade.Shader.Get(after, "/Actor/Looks/Skin/texture").GetInput("file").Get()
    assert image.resolvedPath and image.resolvedPath != str(tmp_path / "skin.png")
    assert json.loads(after.GetRootLayer().customLayerData["talkemo"])["emotion"] == "happy"
    assert after.GetTimeCodesPerSecond() == 10 and after.GetEndTimeCode() == COUNT - 1


@pytest.mark.parametrize("kind", MAKERS)
@pytest.mark.parametrize("head", [HEAD, None])
def test_the_stages_points_are_those_of_the_frames(tmp_path, kind, head):
    header, frames, path = back(tmp_path, kind, head=head)
    points = baked(path, COUNT)
    matrix = header.origin.to_mesh[:3, :3].T
    names = [part.path.rpartition("/")[2] for part in header.origin.parts]
    got = np.concatenate([points[name] @ matrix for name in names], axis=1)
    neck = np.array([0, -0.6, 0])
    for k in range(COUNT):
        expected = frames.vertices[k]
        if head is not None and kind == "transforms":
            expected = header.turn(expected, head[k])
        elif head is not None:  # half of the turn is the neck's
            half = Rotation.from_rotvec(Rotation.from_matrix(head[k]).as_rotvec() / 2).as_matrix()
            joint = half @ [0, 0.1, 0] + neck
            expected = (expected - neck - [0, 0.1, 0]) @ head[k].T + joint
        np.testing.assert_allclose(got[k], expected, atol=1e-4)
    added = points["teeth"] @ matrix
    assert np.isfinite(added).all() and (head is None or np.ptp(added, axis=0).max() > 0)


def test_a_mesh_that_is_a_root_prim_speaks(tmp_path):
    stage = new_stage(tmp_path / "a.usda")
    mesh = add_mesh(stage, "/Face")
    stage.RemovePrim("/Actor")
    stage.SetDefaultPrim(mesh.GetPrim())
    stage.Save()
    read = load_mesh(tmp_path / "a.usda")
    header = header_of(read)
    frames = frames_of(header)
    written(tmp_path / "b.usda", header, frames)
    assert complaints(tmp_path / "b.usda") == []
    np.testing.assert_allclose(
        baked(tmp_path / "b.usda", COUNT)["Face"], frames.vertices, atol=1e-5
    )
    assert Usd.Stage.Open(str(tmp_path / "b.usda")).GetDefaultPrim().GetPath() == "/Root"


def test_instances_of_another_file_speak(tmp_path):
    stage = new_stage(tmp_path / "face.usda")
    add_mesh(stage)
    stage.Save()
    stage = new_stage(tmp_path / "a.usda")
    for k, name in enumerate(("/Actor/One", "/Actor/Two")):
        prim = UsdGeom.Xform.Define(stage, name)
        prim.AddTranslateOp().Set((3 * k, 0, 0))
        prim.GetPrim().GetReferences().AddReference("./face.usda")
        prim.GetPrim().SetInstanceable(True)
    stage.Save()
    header = header_of(load_mesh(tmp_path / "a.usda"))
    frames = frames_of(header)
    (tmp_path / "out").mkdir()
    written(tmp_path / "out" / "b.usda", header, frames)
    stage = Usd.Stage.Open(str(tmp_path / "out" / "b.usda"))
    for name in ("One", "Two"):
        prim = stage.GetPrimAtPath(f"/Actor/{name}/Face")
        assert prim.IsA(UsdGeom.Mesh) and not prim.IsInstanceProxy()
        assert UsdSkel.BindingAPI(prim).GetBlendShapesAttr().Get()


def test_own_shapes_keep_their_names(tmp_path):
    _, _, path = back(tmp_path, "skeleton")
    stage = Usd.Stage.Open(str(path))
    names = list(UsdSkel.BindingAPI(stage.GetPrimAtPath("/Actor/Face")).GetBlendShapesAttr().Get())
    assert (names[0] == "jawOpen" and "jawOpen_arkit" in names) or "jawOpen" not in names[1:]
    shape = load_mesh(tmp_path / "a.usda").shapes
    assert [item.name for item in shape] == ["jawOpen"]
    np.testing.assert_allclose(shape[0].values, [[0, -0.05, 0]], atol=1e-7)
    assert shape[0].rows.tolist() == [3]


def test_a_package_is_read_and_comes_back(tmp_path):
    (tmp_path / "skin.png").write_bytes(base64.b64decode(PIXEL))
    stage = new_stage(tmp_path / "a.usda")
    mesh = add_mesh(stage)
    add_coordinates(mesh)
    bind(mesh.GetPrim(), add_material(stage, "Skin", image="./skin.png"))
    stage.Save()
    del mesh, stage
    assert UsdUtils.CreateNewUsdzPackage(str(tmp_path / "a.usda"), str(tmp_path / "a.usdz"))
    read = load_mesh(tmp_path / "a.usdz")
    assert read.attributes.texture == base64.b64decode(PIXEL)
    header = header_of(read)
    written(tmp_path / "b.usdz", header, frames_of(header))
    assert complaints(tmp_path / "b.usdz") == []
    assert load_mesh(tmp_path / "b.usdz").attributes.texture == read.attributes.texture


def test_a_face_from_usd_speaks(bound, short_speech, tmp_path):
    """The example face: the npz has the file's own vertices, and the stage moves as they do."""
    stage = new_stage(tmp_path / "mask.usda", "Z")
    add_mesh(stage, points=bound.mesh.vertices @ Z_UP, faces=bound.mesh.faces)
    stage.Save()
    mesh = load_mesh(tmp_path / "mask.usda")
    np.testing.assert_allclose(mesh.vertices, bound.mesh.vertices, atol=1e-4)
    outputs = [tmp_path / "a.npz", tmp_path / "a.usdc"]
    options = {"fps": 4, "gaze": "off", "export": ExportOptions(fill="off")}
    result = animate(replace(bound, mesh=mesh), short_speech, outputs, **options)
    animation, turner = NpzAnimation(tmp_path / "a.npz"), HeadTurner(bound)
    frames = animation.vertices()
    expected = np.stack([turner(own, turn) for own, turn in zip(frames, animation.head)])
    points = baked(tmp_path / "a.usdc", len(frames))["Face"] @ Z_UP.T
    residual = result.metrics["arkit_residual_mesh_units"]
    errors = np.linalg.norm(points - expected, axis=2)[:, bound.focus]
    assert errors.mean() < 1.5 * residual < 0.5  # mm
    assert complaints(tmp_path / "a.usdc") == []


def test_a_stage_that_comes_back_is_not_cut(tmp_path):
    stage = new_stage(tmp_path / "a.usda")
    add_mesh(stage)
    stage.Save()
    own = header_of(load_mesh(tmp_path / "a.usda"))
    cut = replace(own, own=own, origin=None)
    for name, baked_, expected in (("b.usdc", False, True), ("b.usdc", True, False)):
        assert _has_own_mesh(tmp_path / name, cut, ExportOptions(bake=baked_)) == expected
    assert not _has_own_mesh(tmp_path / "b.glb", cut, ExportOptions())


# ---------------------------------------------------------------------------------------- bad files


def refused(path, words):
    with pytest.raises(InputError) as error:
        load_mesh(path)
    assert words in str(error.value), error.value
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("arc", ["reference", "payload", "sublayer", "variant"])
@pytest.mark.parametrize(
    "where", ["../secret.usda", "/etc/passwd", "gone.usda", "https://a.b/c.usd"]
)
def test_no_layer_outside_the_folder_is_opened(tmp_path, arc, where):
    (tmp_path / "in").mkdir()
    secret = new_stage(tmp_path / "secret.usda")
    add_mesh(secret)
    secret.Save()
    stage = new_stage(tmp_path / "in" / "a.usda")
    prim = stage.GetDefaultPrim()
    if arc == "reference":
        prim.GetReferences().AddReference(where)
    elif arc == "payload":
        prim.GetPayloads().AddPayload(where)
    elif arc == "sublayer":
        stage.GetRootLayer().subLayerPaths.append(where)
    else:
        variants = prim.GetVariantSets().AddVariantSet("look")
        variants.AddVariant("one")
        variants.SetVariantSelection("one")
        with variants.GetVariantEditContext():
            prim.GetReferences().AddReference(where)
    stage.Save()
    refused(tmp_path / "in" / "a.usda", "which is not beside it")


def test_no_image_outside_the_folder_is_read(tmp_path):
    (tmp_path / "in").mkdir()
    (tmp_path / "secret.png").write_bytes(base64.b64decode(PIXEL))
    stage = new_stage(tmp_path / "in" / "a.usda")
    mesh = add_mesh(stage)
    add_coordinates(mesh)
    bind(mesh.GetPrim(), add_material(stage, "Skin", image="../secret.png"))
    stage.Save()
    read = load_mesh(tmp_path / "in" / "a.usda")
    assert read.attributes is None or read.attributes.texture is None
    assert any("secret.png" in note for note in read.notes)
    header = header_of(read)
    (tmp_path / "out").mkdir()
    written(tmp_path / "out" / "b.usdz", header, frames_of(header))
    with zipfile.ZipFile(tmp_path / "out" / "b.usdz") as package:
        assert package.namelist() == ["model.usdc"]


def test_a_stage_that_multiplies_is_refused(tmp_path):
    stage = new_stage(tmp_path / "a.usda")
    add_mesh(stage, "/Level0/Face")
    for level in range(1, 9):
        for number in range(10):
            prim = stage.DefinePrim(f"/Level{level}/Part{number}")
            prim.GetReferences().AddInternalReference(f"/Level{level - 1}")
        if level == 2:  # what follows is as text: to open it here would take long
            break
    stage.Save()
    text = (tmp_path / "a.usda").read_text()
    for level in range(3, 9):
        parts = "".join(
            f'    def "Part{k}" (\n        prepend references = </Level{level - 1}>\n    )\n'
            "    {\n    }\n"
            for k in range(10)
        )
        text += f'\ndef "Level{level}"\n{{\n{parts}}}\n'
    (tmp_path / "b.usda").write_text(text)
    refused(tmp_path / "b.usda", f"more than {usd_layers.MAX_STAGE_PRIMS} prims")


BAD = {
    "points": lambda m: m.CreatePointsAttr([Gf.Vec3f(float("nan"), 0, 0)] * len(POINTS)),
    "indices": lambda m: m.CreateFaceVertexIndicesAttr(integers(FACES.ravel() + 999)),
    "counts": lambda m: m.CreateFaceVertexCountsAttr([3] * (len(FACES) + 1)),
    "negative": lambda m: m.CreateFaceVertexCountsAttr([-3, 6] + [3] * (len(FACES) - 1)),
    "transform": lambda m: UsdGeom.Xformable(m).AddTranslateOp().Set((float("inf"), 0, 0)),
    "unit": lambda m: UsdGeom.SetStageMetersPerUnit(m.GetPrim().GetStage(), 0.0),
}


@pytest.mark.parametrize("name", BAD)
def test_a_malformed_mesh_is_refused(tmp_path, name):
    stage = new_stage(tmp_path / "a.usda")
    BAD[name](add_mesh(stage))
    stage.Save()
    refused(tmp_path / "a.usda", "not a readable mesh")


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("a.usda", b""),
        ("a.usda", b"#usda 1.0\n("),
        ("a.usd", b"#usda 1.0\ndef {"),
        ("a.usdc", b"PXR-USDC" + bytes(200)),
        ("a.usdz", b"PK\3\4" + bytes(50)),
    ],
)
def test_anything_else_is_refused(tmp_path, name, content):
    (tmp_path / name).write_bytes(content)
    refused(tmp_path / name, "not a readable mesh")


def test_a_stage_without_a_mesh(tmp_path):
    new_stage(tmp_path / "empty.usda").Save()
    refused(tmp_path / "empty.usda", "no mesh in it")


def test_a_binary_layer_that_ends_the_process(tmp_path):
    """What makes USD's reader end the process is refused by what another process reports."""
    stage = new_stage(tmp_path / "a.usdc")
    add_mesh(stage)
    stage.Save()
    probe = usd_layers.PROBE.replace("from pxr", "import os; os.abort()\nfrom pxr")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(usd_layers, "PROBE", probe)
        refused(tmp_path / "a.usdc", "USD cannot read it")


def test_a_file_that_changed_meanwhile(tmp_path):
    stage = new_stage(tmp_path / "a.usda")
    add_mesh(stage)
    stage.Save()
    header = header_of(load_mesh(tmp_path / "a.usda"))
    stage.RemovePrim("/Actor/Face")
    add_mesh(stage, "/Actor/Other")
    stage.Save()
    with pytest.raises(InputError, match="it has changed"):
        written(tmp_path / "b.usda", header, frames_of(header))
