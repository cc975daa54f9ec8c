"""What colours the triangles of a USD's mesh: its materials, textures and displayed colours."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from .materials import BLEND, MASK, OPAQUE, Paint
from .texture_atlas import MAX_TEXTURE_COORDINATE, REPEAT
from .usd_materials import CLAMP, MIRROR

WRAPS = {"repeat": REPEAT, "mirror": MIRROR}  # all others end at the edge
MAX_SHADERS = 8  # between a surface and what it shows
INTERPOLATIONS = ("constant", "uniform", "vertex", "varying", "faceVarying")


@dataclass(eq=False)
class SurfaceColours:
    """What colours some triangles of a mesh.

    Attributes
    ----------
    prim : Usd.Prim
        The mesh.
    triangles : (F,)
        Their numbers in the mesh.
    faces : (F, 3)
        Of the points of the paint.
    paint : Paint
    """

    prim: Any
    triangles: np.ndarray
    faces: np.ndarray
    paint: Paint


def surface_colours(
    prim: Any, faces: np.ndarray, corners: np.ndarray, polygon: np.ndarray
) -> list[SurfaceColours]:
    """Return what colours a mesh's triangles; see `UsdMesh`. All of them are in one result.

    Raises ValueError for values that do not fit the mesh.
    """
    from pxr import UsdShade

    binding = UsdShade.MaterialBindingAPI(prim)
    left = np.ones(len(faces), bool)
    result = []
    for subset in binding.GetMaterialBindSubsets():
        indices = np.array(subset.GetIndicesAttr().Get() or [], np.int64)
        chosen = np.isin(polygon, indices) & left
        left &= ~chosen
        material, _ = UsdShade.MaterialBindingAPI(subset.GetPrim()).ComputeBoundMaterial()
        result.append((np.flatnonzero(chosen), material))
    material, _ = binding.ComputeBoundMaterial()
    result.append((np.flatnonzero(left), material))
    return [
        _colours(prim, rows, shown, faces, corners, polygon) for rows, shown in result if len(rows)
    ]


def _colours(
    prim: Any,
    rows: np.ndarray,
    material: Any,
    faces: np.ndarray,
    corners: np.ndarray,
    polygon: np.ndarray,
) -> SurfaceColours:
    """The colours of some triangles that show a material."""
    from pxr import UsdGeom

    surface = material.ComputeSurfaceSource()[0] if material else None
    look = _Look(surface) if surface else _Look(None)
    places = faces[rows], corners[rows], polygon[rows]
    primvars = UsdGeom.PrimvarsAPI(prim)
    uv = colours = None
    if look.image is not None:
        uv = _values(primvars, look.coordinates, places, 2)
    if look.shows_points or surface is None:
        colours = _values(primvars, "displayColor", places, 3)
    points = np.arange(3 * len(rows)).reshape(-1, 3)
    if uv is not None:
        uv = (uv * look.scale + look.shift) * [1, -1] + [0, 1]
        uv = np.nan_to_num(uv).clip(-MAX_TEXTURE_COORDINATE, MAX_TEXTURE_COORDINATE)
    if colours is not None:
        colours = np.nan_to_num(colours).clip(0, 1)
        colours = np.column_stack([colours, np.ones(len(colours))])
        look.factor[:3] = 1
    image = None if uv is None else look.image
    paint = Paint(look.factor, colours, image, uv, look.wrap, look.mode, look.cutoff)
    return SurfaceColours(prim, rows, points, paint)


def _values(
    primvars: Any, name: str, places: tuple[np.ndarray, np.ndarray, np.ndarray], width: int
) -> np.ndarray | None:
    """The values (3F, width) of a primvar at the corners of triangles; None if there are none."""
    primvar = primvars.FindPrimvarWithInheritance(name)
    flat = primvar.ComputeFlattened() if primvar and primvar.HasValue() else None
    if flat is None:
        return None
    values = np.array(flat, np.float64)
    kind = primvar.GetInterpolation()
    if values.ndim != 2 or values.shape[1] != width or kind not in INTERPOLATIONS:
        return None
    faces, corners, polygon = places
    rows = {
        "constant": np.zeros(faces.size, int),
        "uniform": np.repeat(polygon, 3),
        "faceVarying": corners.ravel(),
    }.get(kind, faces.ravel())
    if not len(values) or rows.max(initial=0) >= len(values):
        raise ValueError(f"{name} of another number than it needs")
    return np.asarray(values[rows])


class _Look:
    """What a UsdPreviewSurface shows; white for anything else.

    Attributes
    ----------
    factor : (4,)
    image : str or None
        The resolved path of its colours' image.
    coordinates : str
        Primvar of its texture coordinates.
    scale, shift : (2,)
        What is done to these.
    wrap : (int, int)
    mode, cutoff
        See `Paint`.
    shows_points : bool
        Whether the colours are those of the points.
    """

    def __init__(self, surface: Any):
        self.factor = np.ones(4)
        self.image: str | None = None
        self.coordinates, self.scale, self.shift = "st", np.ones(2), np.zeros(2)
        self.wrap, self.mode, self.cutoff = (REPEAT, REPEAT), OPAQUE, 0.5
        self.shows_points = False
        if surface is None or surface.GetIdAttr().Get() != "UsdPreviewSurface":
            self.shows_points = surface is not None
            return
        self._read_colour(surface)
        self._read_opacity(surface)

    def _read_colour(self, surface: Any) -> None:
        value, shader = _input(surface, "diffuseColor")
        if shader is None:
            default = (0.18, 0.18, 0.18) if value is None else tuple(value)
            self.factor[:3] = np.nan_to_num(np.array(default, np.float64)).clip(0, 1)
            return
        kind = shader.GetIdAttr().Get()
        if kind == "UsdUVTexture":
            self._read_texture(shader)
        elif str(kind).startswith("UsdPrimvarReader"):
            self.shows_points = True

    def _read_texture(self, shader: Any) -> None:
        value, _ = _input(shader, "file")
        if value is not None:
            self.image = value.resolvedPath or value.path or None
        scale, _ = _input(shader, "scale")
        if scale is not None:
            self.factor = np.nan_to_num(np.array(scale, np.float64)).clip(0, 1)
        wraps = (_input(shader, f"wrap{axis}")[0] for axis in "ST")
        # Without a mode a texture's own counts, which images do not have.
        self.wrap = tuple(  # type: ignore[assignment]
            REPEAT if mode in (None, "useMetadata") else WRAPS.get(mode, CLAMP) for mode in wraps
        )
        _, reader = _input(shader, "st")
        if reader is not None and reader.GetIdAttr().Get() == "UsdTransform2d":
            for name, values in (("scale", self.scale), ("translation", self.shift)):
                given, _ = _input(reader, name)
                if given is not None:
                    values[:] = np.array(given, np.float64)
            _, reader = _input(reader, "in")
        if reader is not None:
            name, _ = _input(reader, "varname")
            self.coordinates = str(name) if name else self.coordinates

    def _read_opacity(self, surface: Any) -> None:
        value, shader = _input(surface, "opacity")
        threshold, _ = _input(surface, "opacityThreshold")
        if value is not None and shader is None:
            self.factor[3] = float(np.nan_to_num(value).clip(0, 1))
        is_seen_through = self.factor[3] < 1 or shader is not None
        if threshold is not None and threshold > 0:
            self.mode, self.cutoff = MASK, float(threshold)
        elif is_seen_through:
            self.mode = BLEND


def _input(shader: Any, name: str) -> tuple[Any, Any]:
    """The value of an input, and the shader that it is connected to; None where there is none."""
    from pxr import UsdShade

    current = shader.GetInput(name)
    for _ in range(MAX_SHADERS):
        if not current:
            return None, None
        source = current.GetConnectedSource() if current.HasConnectedSource() else None
        if not source:
            return current.Get(), None
        owner, output, kind = source
        prim = owner.GetPrim()
        if prim.IsA(UsdShade.Shader):
            return None, UsdShade.Shader(prim)
        current = (owner.GetInput if kind == UsdShade.AttributeType.Input else owner.GetOutput)(
            output
        )
    return None, None
