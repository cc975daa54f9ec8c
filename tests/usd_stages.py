"""What usd-core shows of a stage: its validators' verdict, and the points of meshes over time."""

import numpy as np


def complaints(path):
    """Errors and warnings of all validators that usd-core has."""
    from pxr import Usd, UsdValidation

    registry = UsdValidation.ValidationRegistry()
    validators = registry.GetOrLoadAllValidators()
    assert len(validators) > 10
    stage = Usd.Stage.Open(str(path))
    found = UsdValidation.ValidationContext(validators).Validate(stage)
    return [error.GetMessage() for error in found]


def meshes_of(stage):
    from pxr import UsdGeom

    return [UsdGeom.Mesh(prim) for prim in stage.Traverse() if prim.IsA(UsdGeom.Mesh)]


def baked(path, frames):
    """The points of each mesh at each of so many frames, in the stage's space, by its name."""
    from pxr import Gf, Usd, UsdGeom, UsdSkel

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
