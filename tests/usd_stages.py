"""Stages for tests, and what usd-core shows of one: its validators' verdict, points over time."""

import base64
import itertools

import numpy as np
from gltf_files import FACES, PIXEL, POINTS, UV
from pxr import Gf, Sdf, Usd, UsdGeom, UsdShade, UsdSkel

from talkemo.formats.usd_stage import integers, vectors


def complaints(path):
    """Errors and warnings of all validators that usd-core has."""
    from pxr import UsdValidation

    registry = UsdValidation.ValidationRegistry()
    validators = registry.GetOrLoadAllValidators()
    assert len(validators) > 10
    stage = Usd.Stage.Open(str(path))
    found = UsdValidation.ValidationContext(validators).Validate(stage)
    return [error.GetMessage() for error in found]


def meshes_of(stage):
    return [UsdGeom.Mesh(prim) for prim in stage.Traverse() if prim.IsA(UsdGeom.Mesh)]


def baked(path, frames):
    """The points of each mesh at each of so many frames, in the stage's space, by its name."""
    stage = Usd.Stage.Open(str(path))
    for prim in list(stage.Traverse()):
        if prim.IsA(UsdSkel.Root):
            assert UsdSkel.BakeSkinning(UsdSkel.Root(prim), Gf.Interval.GetFullInterval())
    result = {}
    for mesh in meshes_of(stage):
        poses = []
        for frame in range(frames):
            place = np.array(UsdGeom.XformCache(frame).GetLocalToWorldTransform(mesh.GetPrim()))
            poses.append(np.array(mesh.GetPointsAttr().Get(frame)) @ place[:3, :3] + place[3, :3])
        result[mesh.GetPrim().GetName()] = np.stack(poses)
    return result


Z_UP = np.array([[1.0, 0, 0], [0, 0, 1], [0, -1, 0]])  # points @ Z_UP, from y up


def shifted(*step):
    return POINTS + np.array(step)


def new_stage(path, up="Y", metres=1.0):
    stage = Usd.Stage.CreateNew(str(path))
    UsdGeom.SetStageUpAxis(stage, up)
    UsdGeom.SetStageMetersPerUnit(stage, metres)
    root = UsdGeom.Xform.Define(stage, "/Actor")
    stage.SetDefaultPrim(root.GetPrim())
    return stage


def add_mesh(stage, path="/Actor/Face", points=POINTS, faces=FACES):
    mesh = UsdGeom.Mesh.Define(stage, path)
    mesh.CreatePointsAttr(vectors(points))
    mesh.CreateFaceVertexCountsAttr([faces.shape[1]] * len(faces))
    mesh.CreateFaceVertexIndicesAttr(integers(faces.ravel()))
    mesh.CreateSubdivisionSchemeAttr("none")
    return mesh


def add_material(stage, name, colour=None, image=None, **inputs):
    material = UsdShade.Material.Define(stage, f"/Actor/Looks/{name}")
    surface = UsdShade.Shader.Define(stage, f"/Actor/Looks/{name}/surface")
    surface.CreateIdAttr("UsdPreviewSurface")
    material.CreateSurfaceOutput().ConnectToSource(surface.ConnectableAPI(), "surface")
    kinds = Sdf.ValueTypeNames
    diffuse = surface.CreateInput("diffuseColor", kinds.Color3f)
    if colour is not None:
        diffuse.Set(Gf.Vec3f(*colour))
    for key, value in inputs.items():
        surface.CreateInput(key, kinds.Float).Set(value)
    if image is not None:
        texture = UsdShade.Shader.Define(stage, f"/Actor/Looks/{name}/texture")
        texture.CreateIdAttr("UsdUVTexture")
        texture.CreateInput("file", kinds.Asset).Set(Sdf.AssetPath(image))
        diffuse.ConnectToSource(texture.ConnectableAPI(), "rgb")
    return material


def bind(prim, material):
    UsdShade.MaterialBindingAPI.Apply(prim).Bind(material)


def add_coordinates(mesh, indexed=False):
    """Coordinates of each corner, as most programs write them."""
    kind = Sdf.ValueTypeNames.TexCoord2fArray
    st = UsdGeom.PrimvarsAPI(mesh).CreatePrimvar("st", kind, "faceVarying")
    if indexed:
        st.Set([Gf.Vec2f(*row) for row in UV.tolist()])
        st.SetIndices(integers(FACES.ravel()))
    else:
        st.Set([Gf.Vec2f(*row) for row in UV[FACES.ravel()].tolist()])


def two_levels(stage):
    """A face below two transforms, and a second mesh, in cm with z up."""
    UsdGeom.Xform.Get(stage, "/Actor").AddTranslateOp().Set((0, 0, 160))
    group = UsdGeom.Xform.Define(stage, "/Actor/Geo")
    group.AddRotateYOp().Set(20)
    group.AddScaleOp().Set((2, 2, 2))
    add_mesh(stage, "/Actor/Geo/Face", POINTS @ Z_UP * 50)
    add_mesh(stage, "/Actor/Geo/Hat", shifted(0, 1, 0) @ Z_UP * 50)


def skeleton_of(stage):
    """A skeleton whose head moves the face, with blend shapes and a material of the file's own."""
    UsdSkel.Root.Define(stage, "/Actor")
    skeleton = UsdSkel.Skeleton.Define(stage, "/Actor/Rig/Skeleton")
    skeleton.CreateJointsAttr(["Hips", "Hips/Neck", "Hips/Neck/Head"])
    places = [(0, 0, -90), (0, 0, -60), (0, 0, -50)]
    world = [Gf.Matrix4d(1).SetTranslate(Gf.Vec3d(*place)) for place in places]
    skeleton.CreateBindTransformsAttr(world)
    local = [world[0], *(b * a.GetInverse() for a, b in itertools.pairwise(world))]
    skeleton.CreateRestTransformsAttr(local)
    mesh = add_mesh(stage, points=POINTS @ Z_UP * 100)
    binding = UsdSkel.BindingAPI.Apply(mesh.GetPrim())
    binding.CreateSkeletonRel().SetTargets(["/Actor/Rig/Skeleton"])
    binding.CreateJointIndicesPrimvar(True, 1).Set([2])
    binding.CreateJointWeightsPrimvar(True, 1).Set([1.0])
    shape = UsdSkel.BlendShape.Define(stage, "/Actor/Face/jawOpen")
    shape.CreateOffsetsAttr([Gf.Vec3f(0, 0, -5)])
    shape.CreatePointIndicesAttr([3])
    binding.CreateBlendShapesAttr(["jawOpen"])
    binding.CreateBlendShapeTargetsRel().SetTargets([shape.GetPath()])


def character_of(path):
    """Write a small stage with a skeleton, a blend shape, a texture and two levels of transforms."""
    (path.parent / "skin.png").write_bytes(base64.b64decode(PIXEL))
    stage = new_stage(path, "Z", 0.01)
    skeleton_of(stage)
    mesh = UsdGeom.Mesh(stage.GetPrimAtPath("/Actor/Face"))
    add_coordinates(mesh)
    bind(mesh.GetPrim(), add_material(stage, "Skin", image="./skin.png"))
    UsdGeom.Xformable(add_mesh(stage, "/Actor/Hat")).AddTranslateOp().Set((0, 0, 50))
    stage.Save()
    return path
