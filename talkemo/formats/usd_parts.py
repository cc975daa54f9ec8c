"""What a mesh lacks, such as teeth, as meshes of a stage."""

from __future__ import annotations

from typing import Any

import numpy as np

from .appearance import AddedMesh
from .usd_materials import define_textured
from .usd_stage import ADDED_PART, define_coordinates, define_triangles, vectors


def define_part(
    stage: Any, parent: str, part: AddedMesh, points: np.ndarray, image: str | None = None
) -> Any:
    """Return a new mesh of a part with points (P, 3), below a prim, with its material.

    `image` is the name of the file of its texture, if there is one.
    """
    from pxr import UsdGeom, UsdShade

    path = f"{parent}/{part.name}"
    number = 1
    while stage.GetPrimAtPath(path):
        number += 1
        path = f"{parent}/{part.name}_{number}"
    mesh = UsdGeom.Mesh.Define(stage, path)
    mesh.CreatePointsAttr(vectors(points))
    mesh.CreateExtentAttr(UsdGeom.PointBased.ComputeExtent(mesh.GetPointsAttr().Get()))
    define_triangles(mesh, part.faces)
    mesh.CreateDoubleSidedAttr(True)
    mesh.GetPrim().SetCustomDataByKey(ADDED_PART, True)
    if part.uv is not None:
        define_coordinates(mesh, part.uv)
    material = f"{parent}/materials/{mesh.GetPrim().GetName()}"
    if image is None:
        _define_material(stage, material, mesh, part)
    else:
        shown = define_textured(stage, material, image, part.roughness)
        UsdShade.MaterialBindingAPI.Apply(mesh.GetPrim()).Bind(shown)
    return mesh


def _define_material(stage: Any, path: str, mesh: Any, part: AddedMesh) -> None:
    """Give an added mesh its colours: of a material, or of each point where it has a texture.

    So no images are needed beside the file.
    """
    from pxr import Gf, Sdf, UsdGeom, UsdShade

    material = UsdShade.Material.Define(stage, path)
    shader = UsdShade.Shader.Define(stage, f"{path}/surface")
    shader.CreateIdAttr("UsdPreviewSurface")
    colour = shader.CreateInput("diffuseColor", Sdf.ValueTypeNames.Color3f)
    shader.CreateInput("roughness", Sdf.ValueTypeNames.Float).Set(part.roughness)
    material.CreateSurfaceOutput().ConnectToSource(shader.ConnectableAPI(), "surface")
    UsdShade.MaterialBindingAPI.Apply(mesh.GetPrim()).Bind(material)
    if part.point_colours is None:
        colour.Set(Gf.Vec3f(*part.linear_colour))
        mesh.CreateDisplayColorAttr([Gf.Vec3f(*part.linear_colour)])
        return
    reader = UsdShade.Shader.Define(stage, f"{path}/colours")
    reader.CreateIdAttr("UsdPrimvarReader_float3")
    reader.CreateInput("varname", Sdf.ValueTypeNames.String).Set("displayColor")
    colour.ConnectToSource(reader.ConnectableAPI(), "result")
    shown = mesh.CreateDisplayColorPrimvar(UsdGeom.Tokens.vertex)
    shown.Set(vectors((part.point_colours / 255) ** 2.2))
