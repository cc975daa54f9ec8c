"""The materials of a glTF as UsdPreviewSurface, with the textures that it can show."""

from __future__ import annotations

import io
import json
from collections.abc import Callable
from typing import Any

import numpy as np

from .gltf_colours import SPECULAR_GLOSSINESS, image_of, linear_vertex_colours
from .gltf_file import GltfFile
from .gltf_tree import SKIN_ROUGHNESS
from .materials import BLEND, MASK, OPAQUE, decoded_images
from .mesh_types import image_type
from .texture_atlas import REPEAT
from .usd_stage import IMAGE_ENDINGS, FreeNames

CLAMP, MIRROR = 33071, 33648  # glTF's numbers of wrap modes
WRAP_MODES = {REPEAT: "repeat", CLAMP: "clamp", MIRROR: "mirror"}
NORMAL_SCALE, NORMAL_BIAS = (2.0, 2.0, 2.0, 1.0), (-1.0, -1.0, -1.0, 0.0)  # from 0…1 to -1…1
WHITE = (1.0, 1.0, 1.0, 1.0)
COLOURS_OF_POINTS = "displayColor"  # primvar of a mesh


class CoordinateSets:
    """Names of the texture coordinates of meshes: each reference to a texture names one.

    A reference with a transform has coordinates of its own, to which it is applied.
    """

    def __init__(self) -> None:
        self._names = {_coordinate_key({}): "st"}

    def name(self, reference: dict[str, Any]) -> str:
        """Return the primvar of a reference."""
        return self._names.setdefault(_coordinate_key(reference), f"st{len(self._names)}")


def _coordinate_key(reference: dict[str, Any]) -> str:
    transform = reference.get("extensions", {}).get("KHR_texture_transform", {})
    number = transform.get("texCoord", reference.get("texCoord", 0))
    return json.dumps([number, {k: v for k, v in transform.items() if k != "texCoord"}])


class UsdMaterials:
    """Defines the materials of a file below a scope when they are first used.

    Parameters
    ----------
    stage : Usd.Stage
    scope : str
        Path of the materials.
    file : GltfFile
    named : callable
        Returns the name of an image's file, from its number and ending.

    Attributes
    ----------
    images : dict of str to bytes
        What textures show, by the names of their files.
    sets : CoordinateSets
    """

    def __init__(self, stage: Any, scope: str, file: GltfFile, named: Callable[[int, str], str]):
        self.stage, self.scope, self.file, self._named = stage, scope, file, named
        self.images: dict[str, bytes] = {}
        self.sets = CoordinateSets()
        self._names = FreeNames()
        self._defined: dict[tuple[int, bool], Any] = {}
        self._image_names: dict[int, str | None] = {}

    def bind(self, prim: Any, primitive: dict[str, Any]) -> None:
        """Give a mesh, or a subset of its triangles, the material of a primitive."""
        from pxr import UsdShade

        if "material" not in primitive:
            return
        key = primitive["material"], "COLOR_0" in primitive["attributes"]
        if key not in self._defined:
            self._defined[key] = self._define(*key)
        UsdShade.MaterialBindingAPI.Apply(prim).Bind(self._defined[key])

    def references(self, primitive: dict[str, Any]) -> list[dict[str, Any]]:
        """Return the references to textures of a primitive's material."""
        if "material" not in primitive:
            return []
        material = self.file.item("materials", primitive["material"])
        surface = _base(material)
        found = [surface["texture"], surface["metallic"].get("metallicRoughnessTexture")]
        found += [material.get(f"{name}Texture") for name in ("normal", "occlusion", "emissive")]
        return [reference for reference in found if reference is not None]

    def is_double_sided(self, primitive: dict[str, Any]) -> bool:
        """Return whether a primitive is seen from both sides."""
        if "material" not in primitive:
            return False
        return bool(self.file.item("materials", primitive["material"]).get("doubleSided"))

    # ----------------------------------------------------------------------------------- materials

    def _define(self, number: int, has_colours: bool) -> Any:
        """Define a material; `has_colours` tells whether its points have colours of their own."""
        from pxr import UsdShade

        source = self.file.item("materials", number)
        name = self._names.name(source.get("name"), default=f"material{number}")
        path = f"{self.scope}/{name}"
        material = UsdShade.Material.Define(self.stage, path)
        shader = UsdShade.Shader.Define(self.stage, f"{path}/surface")
        shader.CreateIdAttr("UsdPreviewSurface")
        material.CreateSurfaceOutput().ConnectToSource(shader.ConnectableAPI(), "surface")
        maker = _Inputs(self, path, shader)
        maker.colour(source, has_colours)
        maker.metallic(source)
        maker.others(source)
        return material

    def image(self, reference: dict[str, Any]) -> tuple[str | None, tuple[int, int]]:
        """Return the name of the file that a reference shows, None for none, and wrap modes."""
        number, wrap = image_of(self.file, reference)
        if number is None:
            return None, wrap
        if number not in self._image_names:
            self._image_names[number] = self._add_image(number)
        return self._image_names[number], wrap

    def colours_of_points(self, primitive: dict[str, Any], count: int) -> np.ndarray | None:
        """Return linear RGB and alpha (count, 4) of a primitive's vertices; None if they have none.

        They are multiplied with the material's colour, as glTF does and USD does not.
        """
        colours = linear_vertex_colours(self.file, primitive, count)
        if colours is None or "material" not in primitive:
            return colours
        return colours * _base(self.file.item("materials", primitive["material"]))["factor"]

    def _add_image(self, number: int) -> str | None:
        """Keep a PNG or JPEG, and make a PNG of anything else that can be read."""
        content = self.file.image(number)
        if image_type(content) is None:
            pixels = decoded_images({number: content})
            if number not in pixels:
                return None
            stream = io.BytesIO()
            pixels[number].save(stream, "PNG")
            content = stream.getvalue()
        name = self._named(number, IMAGE_ENDINGS[str(image_type(content))])
        self.images[name] = content
        return name


def _base(material: dict[str, Any]) -> dict[str, Any]:
    """The colour of a material: factor (4 numbers) and texture; and its metallic fields."""
    metallic = material.get("pbrMetallicRoughness", {})
    specular = material.get("extensions", {}).get(SPECULAR_GLOSSINESS)
    if specular is not None:
        factor, texture = specular.get("diffuseFactor"), specular.get("diffuseTexture")
        glossiness = float(specular.get("glossinessFactor", 1.0))
        metallic = {"metallicFactor": 0.0, "roughnessFactor": 1 - glossiness}
    else:
        factor, texture = metallic.get("baseColorFactor"), metallic.get("baseColorTexture")
    factor = np.append(np.array(WHITE if factor is None else factor, np.float64), 1.0)[:4]
    return {"factor": factor.clip(0, 1).tolist(), "texture": texture, "metallic": metallic}


class _Inputs:
    """The inputs of one material's surface."""

    def __init__(self, owner: UsdMaterials, path: str, shader: Any):
        self.owner, self.path, self.shader = owner, path, shader

    def colour(self, source: dict[str, Any], has_colours: bool) -> None:
        """Set colour and opacity."""
        surface = _base(source)
        factor, mode = surface["factor"], source.get("alphaMode", OPAQUE)
        texture = self._texture("colour", surface["texture"], factor, space="sRGB")
        if texture is not None:
            self._connect("diffuseColor", "Color3f", texture, "rgb")
        elif has_colours:
            self._connect("diffuseColor", "Color3f", self._point_colours(), "result")
        else:
            self._set("diffuseColor", "Color3f", tuple(factor[:3]))
        if mode not in (MASK, BLEND):
            return
        if texture is not None:
            self._connect("opacity", "Float", texture, "a")
        else:
            self._set("opacity", "Float", factor[3])
        if mode == MASK:
            self._set("opacityThreshold", "Float", float(source.get("alphaCutoff", 0.5)))

    def metallic(self, source: dict[str, Any]) -> None:
        """Set how metallic and how rough it is."""
        fields = _base(source)["metallic"]
        metallic = float(fields.get("metallicFactor", 1.0))
        roughness = float(fields.get("roughnessFactor", 1.0))
        scale = (1.0, roughness, metallic, 1.0)
        texture = self._texture("metallic", fields.get("metallicRoughnessTexture"), scale)
        if texture is not None:
            self._connect("metallic", "Float", texture, "b")
            self._connect("roughness", "Float", texture, "g")
        else:
            self._set("metallic", "Float", metallic)
            self._set("roughness", "Float", roughness)

    def others(self, source: dict[str, Any]) -> None:
        """Set normals, occlusion and light of its own."""
        normal = self._texture("normal", source.get("normalTexture"), NORMAL_SCALE, NORMAL_BIAS)
        if normal is not None:
            self._connect("normal", "Normal3f", normal, "rgb")
        occlusion = self._texture("occlusion", source.get("occlusionTexture"))
        if occlusion is not None:
            self._connect("occlusion", "Float", occlusion, "r")
        glow = np.array(source.get("emissiveFactor", (0.0, 0.0, 0.0)), np.float64)
        strength = source.get("extensions", {}).get("KHR_materials_emissive_strength", {})
        glow = glow * float(strength.get("emissiveStrength", 1.0))
        if not glow.any():
            return
        scale = (*glow.tolist(), 1.0)
        texture = self._texture("emissive", source.get("emissiveTexture"), scale, space="sRGB")
        if texture is not None:
            self._connect("emissiveColor", "Color3f", texture, "rgb")
        else:
            self._set("emissiveColor", "Color3f", tuple(glow.tolist()))

    def _set(self, name: str, kind: str, value: Any) -> None:
        from pxr import Gf, Sdf

        value = Gf.Vec3f(*value) if isinstance(value, tuple) else value
        self.shader.CreateInput(name, getattr(Sdf.ValueTypeNames, kind)).Set(value)

    def _connect(self, name: str, kind: str, source: Any, output: str) -> None:
        from pxr import Sdf

        value = self.shader.CreateInput(name, getattr(Sdf.ValueTypeNames, kind))
        value.ConnectToSource(source.ConnectableAPI(), output)

    def _point_colours(self) -> Any:
        """The shader that reads the colours of points."""
        return self._reader("colours", "UsdPrimvarReader_float3", COLOURS_OF_POINTS)

    def _reader(self, name: str, kind: str, primvar: str) -> Any:
        from pxr import Sdf, UsdShade

        reader = UsdShade.Shader.Define(self.owner.stage, f"{self.path}/{name}")
        reader.CreateIdAttr(kind)
        reader.CreateInput("varname", Sdf.ValueTypeNames.String).Set(primvar)
        return reader

    def _texture(
        self,
        name: str,
        reference: dict[str, Any] | None,
        scale: Any = WHITE,
        bias: Any = (0.0, 0.0, 0.0, 0.0),
        space: str = "raw",
    ) -> Any:
        """The shader that shows a texture; None without one that can be read."""
        from pxr import Gf, Sdf, UsdShade

        image, wrap = (None, ()) if reference is None else self.owner.image(reference)
        if image is None or reference is None:
            return None
        primvar = self.owner.sets.name(reference)
        coordinates = self._reader(primvar, "UsdPrimvarReader_float2", primvar)
        texture = UsdShade.Shader.Define(self.owner.stage, f"{self.path}/{name}")
        texture.CreateIdAttr("UsdUVTexture")
        kinds = Sdf.ValueTypeNames
        texture.CreateInput("file", kinds.Asset).Set(Sdf.AssetPath(f"./{image}"))
        texture.CreateInput("st", kinds.Float2).ConnectToSource(
            coordinates.ConnectableAPI(), "result"
        )
        for axis, mode in zip("ST", wrap):
            texture.CreateInput(f"wrap{axis}", kinds.Token).Set(WRAP_MODES.get(mode, "repeat"))
        texture.CreateInput("scale", kinds.Float4).Set(Gf.Vec4f(*scale))
        texture.CreateInput("bias", kinds.Float4).Set(Gf.Vec4f(*bias))
        texture.CreateInput("sourceColorSpace", kinds.Token).Set(space)
        return texture


def define_textured(stage: Any, path: str, image: str, roughness: float = SKIN_ROUGHNESS) -> Any:
    """Return a new material whose colour is that of an image's file, by the coordinates `st`."""
    from pxr import Sdf, UsdShade

    kinds = Sdf.ValueTypeNames
    material = UsdShade.Material.Define(stage, path)
    surface, texture, reader = (
        UsdShade.Shader.Define(stage, f"{path}/{name}") for name in ("surface", "colour", "st")
    )
    for shader, kind in (
        (surface, "UsdPreviewSurface"),
        (texture, "UsdUVTexture"),
        (reader, "UsdPrimvarReader_float2"),
    ):
        shader.CreateIdAttr(kind)
    reader.CreateInput("varname", kinds.String).Set("st")
    texture.CreateInput("file", kinds.Asset).Set(Sdf.AssetPath(f"./{image}"))
    texture.CreateInput("sourceColorSpace", kinds.Token).Set("sRGB")
    texture.CreateInput("st", kinds.Float2).ConnectToSource(reader.ConnectableAPI(), "result")
    for axis in "ST":
        texture.CreateInput(f"wrap{axis}", kinds.Token).Set(WRAP_MODES[REPEAT])
    colour = surface.CreateInput("diffuseColor", kinds.Color3f)
    colour.ConnectToSource(texture.ConnectableAPI(), "rgb")
    surface.CreateInput("roughness", kinds.Float).Set(roughness)
    material.CreateSurfaceOutput().ConnectToSource(surface.ConnectableAPI(), "surface")
    return material
