"""The whole character as USD, read by usd-core: meshes, materials, skeleton, shapes, motion."""

import base64
import zipfile
from types import SimpleNamespace

import numpy as np
import pytest
import test_gltf
from gltf_characters import Character
from gltf_files import FACES, PIXEL, POINTS, Gltf, character, compressed
from gltf_poses import opened, shown
from test_gltf_back import (
    COUNT,
    GAZE,
    HEAD,
    added_parts,
    displacements,
    frames_of,
    header_of,
    turner_of,
    written,
)

from talkemo.formats.mesh import load_mesh

pxr = pytest.importorskip("pxr", reason="talkemo[usd] is not installed")

from usd_stages import baked, complaints, meshes_of  # noqa: E402


def both(g, folder, ending="usda", head=True, **more):
    """Write a character as a glb and as a USD; return their paths."""
    mesh = load_mesh(g.write(folder / "a.glb"))
    made = header_of(mesh, **more)
    if head:
        made = header_of(mesh, turn=turner_of(made), added=lambda: added_parts(made), **more)
    frames = frames_of(made, **({"head": HEAD, "gaze": GAZE} if head else {}))
    paths = folder / "b.glb", folder / f"b.{ending}"
    for path in paths:
        written(path, made, frames)
    return paths


def assert_same_points(glb, usd):
    """The points of every mesh at every frame are those of the glTF, by independent readers."""
    points = baked(usd, COUNT)
    tree = opened(glb).tree
    below = {child for node in tree["nodes"] for child in node.get("children", [])}
    roots = set(range(len(tree["nodes"]))) - below
    visible = set(tree["scenes"][0]["nodes"]) if "scenes" in tree else roots
    for _ in tree["nodes"]:
        visible |= {c for node in visible for c in tree["nodes"][node].get("children", [])}
    for frame in range(COUNT):
        poses: dict[int, list] = {}
        for (node, _), pose in sorted(shown(glb, frame).items()):
            if node in visible:
                poses.setdefault(node, []).append(pose.points)
        expected = [np.concatenate(parts) for parts in poses.values()]
        assert len(expected) == len(points)
        for own, part in zip(points.values(), expected):
            np.testing.assert_allclose(own[frame], part, atol=1e-5)


def test_colours_of_points_are_multiplied_with_the_materials(tmp_path):
    g = Gltf()
    g.primitive["attributes"]["COLOR_0"] = g.add(np.full((len(POINTS), 3), 0.5))
    g.tree["materials"] = [{"pbrMetallicRoughness": {"baseColorFactor": [1, 0.25, 0, 1]}}]
    g.primitive["material"] = 0
    _, usd = both(g, tmp_path)
    stage = pxr.Usd.Stage.Open(str(usd))
    shown = [mesh.GetDisplayColorAttr().Get() for mesh in meshes_of(stage)]
    colours = [np.array(values) for values in shown if values]
    np.testing.assert_allclose(colours[0], np.tile([0.5, 0.125, 0], (len(POINTS), 1)), atol=1e-6)


# Those that differ in how they are placed or moved; the others are read by the same code.
SURFACES = [
    name
    for name in test_gltf.SURFACES
    if any(word in name for word in ("skin", "quantised", "mirror", "nodes", "weights", "without"))
    and name != "weights_without_targets"
]


@pytest.mark.parametrize("name", SURFACES)
def test_a_surface_moves_as_in_the_glb(tmp_path, name):
    g = Gltf()
    test_gltf.SURFACES[name](g)
    assert_same_points(*both(g, tmp_path))


def test_a_head_that_is_still(tmp_path):
    assert_same_points(*both(Character(), tmp_path, head=False))


@pytest.mark.parametrize("ending", ["usda", "usdc", "usdz"])
@pytest.mark.parametrize("make", [Character, character, compressed])
def test_a_character_moves_as_in_the_glb(tmp_path, make, ending):
    glb, usd = both(make(), tmp_path, ending)
    assert_same_points(glb, usd)
    assert complaints(usd) == []


def test_everything_of_the_character_is_there(tmp_path):
    from pxr import Usd, UsdGeom, UsdShade, UsdSkel

    g = Character()
    _, usd = both(g, tmp_path)
    stage = Usd.Stage.Open(str(usd))
    assert UsdGeom.GetStageUpAxis(stage) == "Y" and UsdGeom.GetStageMetersPerUnit(stage) == 1
    assert stage.GetTimeCodesPerSecond() == 10 and stage.GetEndTimeCode() == COUNT - 1
    meshes = {mesh.GetPrim().GetName(): mesh for mesh in meshes_of(stage)}
    assert list(meshes) == ["face", "eyes", "hat", "teeth"]
    face, hat = meshes["face"], meshes["hat"]
    assert len(face.GetPointsAttr().Get()) == len(POINTS)
    assert len(face.GetFaceVertexIndicesAttr().Get()) == FACES.size
    assert len(face.GetNormalsAttr().Get()) == len(POINTS) and face.GetDoubleSidedAttr().Get()
    skeleton = UsdSkel.Skeleton(stage.GetPrimAtPath("/face/skeleton"))
    joints = list(skeleton.GetJointsAttr().Get())
    assert joints[-1] == "root/Hips/Neck/Head/Eye_R" and len(joints) == 6
    binding = UsdSkel.BindingAPI(hat.GetPrim())  # the hat hangs on the head's joint
    assert list(binding.GetJointIndicesPrimvar().Get()) == [joints.index("root/Hips/Neck/Head")]
    material, _ = UsdShade.MaterialBindingAPI(face.GetPrim()).ComputeBoundMaterial()
    surface = material.ComputeSurfaceSource()[0]
    assert surface.GetIdAttr().Get() == "UsdPreviewSurface"
    for name in ("diffuseColor", "normal", "opacity"):
        source, _, _ = surface.GetInput(name).GetConnectedSource()
        image = UsdShade.Shader(source.GetPrim()).GetInput("file").Get()
        assert image.resolvedPath == str(tmp_path / "b_0.png") or name == "normal"
    shapes = list(UsdSkel.BindingAPI(face.GetPrim()).GetBlendShapesAttr().Get())
    assert {"smile", "jawOpen", "eyeBlinkLeft"} <= set(shapes)
    animation = UsdSkel.Animation(stage.GetPrimAtPath("/face/animation"))
    assert [path.rpartition("/")[2] for path in animation.GetJointsAttr().Get()] == [
        "Neck",
        "Head",
        "Eye_L",
        "Eye_R",
    ]


def test_materials_are_those_of_the_file(tmp_path):
    from pxr import Usd, UsdGeom, UsdShade

    g = Gltf()
    g.texture(
        base64.b64decode(PIXEL),
        extensions={"KHR_texture_transform": {"scale": [0.5, 0.5], "offset": [0.1, 0.2]}},
    )
    g.tree["materials"][0] |= {"alphaMode": "MASK", "alphaCutoff": 0.4, "name": "Haut é"}
    plain = {
        "baseColorFactor": [0.2, 0.4, 0.6, 1.0],
        "metallicFactor": 0.25,
        "roughnessFactor": 0.5,
    }
    g.tree["materials"].append({"pbrMetallicRoughness": plain, "emissiveFactor": [0.0, 0.5, 0.0]})
    second = {**g.primitive, "material": 1}
    g.tree["meshes"][0]["primitives"].append(second)
    _, usd = both(g, tmp_path, "usda")
    assert complaints(usd) == []
    stage = Usd.Stage.Open(str(usd))
    mesh = next(mesh for mesh in meshes_of(stage) if len(mesh.GetPointsAttr().Get()) > 3)
    subsets = UsdShade.MaterialBindingAPI(mesh.GetPrim()).GetMaterialBindSubsets()
    assert [len(subset.GetIndicesAttr().Get()) for subset in subsets] == [len(FACES)] * 2
    surfaces = [
        UsdShade.MaterialBindingAPI(subset.GetPrim())
        .ComputeBoundMaterial()[0]
        .ComputeSurfaceSource()[0]
        for subset in subsets
    ]
    assert surfaces[0].GetInput("opacityThreshold").Get() == pytest.approx(0.4)
    values = {name: surfaces[1].GetInput(name).Get() for name in ("metallic", "roughness")}
    assert values == {"metallic": 0.25, "roughness": 0.5}
    np.testing.assert_allclose(surfaces[1].GetInput("diffuseColor").Get(), (0.2, 0.4, 0.6))
    np.testing.assert_allclose(surfaces[1].GetInput("emissiveColor").Get(), (0, 0.5, 0))
    st = np.array(UsdGeom.PrimvarsAPI(mesh).GetPrimvar("st1").Get())
    uv = load_mesh(tmp_path / "a.glb").attributes.uv  # as viewers of glTF show it, v up
    assert len(st) == 2 * len(POINTS) and uv is not None


def test_a_package_holds_its_textures(tmp_path):
    g = Gltf()
    g.texture(base64.b64decode(PIXEL))
    _, usd = both(g, tmp_path, "usdz")
    with zipfile.ZipFile(usd) as package:
        assert package.namelist() == ["model.usdc", "image_0.png"]
        assert package.read("image_0.png") == base64.b64decode(PIXEL)
    assert not (tmp_path / "b_0.png").exists()


def test_both_kinds_of_shapes_have_an_animation(tmp_path):
    from pxr import Usd, UsdSkel

    own = SimpleNamespace(
        names=("smile", "jawOpen"),
        at_rest=np.array([0.25, 0.0]),
        recipes=np.zeros((2, 52)),
        weights=lambda frames: np.tile([0.5, 0.75], (len(frames.vertices), 1)),
        targets=lambda: np.zeros((2, 4 * len(POINTS), 3), np.float32),
    )
    g = Character()
    count = len(load_mesh(g.write(tmp_path / "a.glb")).vertices)
    own.targets = lambda: displacements(np.ones((count, 3)))[:2]
    _, usd = both(g, tmp_path, own_shapes=own)
    stage = Usd.Stage.Open(str(usd))
    first, second = (
        UsdSkel.Animation(stage.GetPrimAtPath(f"/face/{name}"))
        for name in ("animation", "animation_arkit")
    )
    weights = dict(zip(first.GetBlendShapesAttr().Get(), first.GetBlendShapeWeightsAttr().Get(1)))
    assert (weights["smile"], weights["jawOpen"]) == (0.5, 0.75)
    assert len(second.GetBlendShapesAttr().Get()) > 20
    assert list(second.GetJointsAttr().Get()) == list(first.GetJointsAttr().Get())
