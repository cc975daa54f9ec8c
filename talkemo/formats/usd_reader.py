"""Reading the meshes of a USD stage as one mesh, in metres with y up.

Points are those of the file, in its order, where its transforms put them. Skinned meshes are in the
pose in which they were bound.
"""

from __future__ import annotations

import zipfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from ..files.reading import printable, read_bytes, reading_errors
from .gltf_scene import MAX_MORPH_WEIGHT, MAX_SCENE_MESHES, within
from .gltf_shapes import BYTES_PER_ROW, MAX_SHAPE_NAME_CHARACTERS
from .groups import GROUP_KINDS, group_kind
from .materials import decoded_images, join_materials
from .mesh_types import (
    MAX_COORDINATE,
    MAX_IMAGE_BYTES,
    MAX_MESH_FILE_BYTES,
    MAX_MORPH_TARGETS,
    Mesh,
    MeshAttributes,
    MeshShape,
    check_counts,
    companion_path,
    image_type,
)
from .texture_atlas import as_png, to_srgb
from .usd_layers import open_stage
from .usd_origin import UsdOrigin, UsdPart
from .usd_paint import SurfaceColours, surface_colours
from .usd_stage import ADDED_PART, check_usd

if TYPE_CHECKING:
    import PIL.Image

MAX_CORNERS_PER_POLYGON = 100_000
Z_UP = np.array([[1.0, 0, 0], [0, 0, 1], [0, -1, 0]])  # turns z up to y up


@dataclass(eq=False)
class UsdMesh:
    """One mesh of a stage.

    Attributes
    ----------
    prim : Usd.Prim
    points : (V, 3) float64
        In the joined mesh's space.
    faces : (F, 3) int32
    corners : (F, 3)
        Of which corner of the file's polygons each one is.
    polygon : (F,)
        The polygon that each triangle is of.
    placement : (4, 4)
        From the prim's points into the joined mesh.
    """

    prim: Any
    points: np.ndarray
    faces: np.ndarray
    corners: np.ndarray
    polygon: np.ndarray
    placement: np.ndarray


def read_usd(path: Path) -> Mesh:
    """Return the meshes of a usd, usda, usdc or usdz as one.

    Raises InputError if it needs what is not there, TalkemoError without usd-core, and any
    exception if it is malformed.
    """
    check_usd()
    stage = open_stage(path)
    to_mesh = stage_matrix(stage)
    meshes = list(stage_meshes(path, stage, to_mesh))
    if not meshes:
        raise ValueError("no mesh in it")
    parts, starts = [], np.cumsum([0, *(len(mesh.points) for mesh in meshes)])
    for mesh, first in zip(meshes, starts):
        parts.append(UsdPart(str(mesh.prim.GetPath()), int(first), len(mesh.points)))
    vertices = np.concatenate([mesh.points for mesh in meshes])
    faces = np.concatenate([mesh.faces + first for mesh, first in zip(meshes, starts)])
    notes: list[str] = []
    attributes = _Colours(path, meshes, notes.append).attributes()
    groups = np.concatenate(
        [np.full(len(m.points), group_kind(m.prim.GetName().lower())) for m in meshes]
    )
    if (groups != GROUP_KINDS[0]).any():
        attributes = attributes or MeshAttributes()
        attributes = MeshAttributes(**{**vars(attributes), "groups": groups})
    load_shapes = None
    if any(mesh.prim.HasRelationship("skel:blendShapeTargets") for mesh in meshes):
        load_shapes = partial(load_usd_shapes, path, len(vertices))
    return Mesh(
        vertices,
        faces.astype(np.int32),
        attributes,
        path.name,
        tuple(notes),
        UsdOrigin(path, tuple(parts), to_mesh),
        load_shapes,
    )


def stage_matrix(stage: Any) -> np.ndarray:
    """Return the matrix (4, 4) from a stage's space into metres with y up."""
    from pxr import UsdGeom

    metres = float(UsdGeom.GetStageMetersPerUnit(stage))
    if not 1e-9 < metres < 1e9:
        raise ValueError("a unit that is none")
    result = np.eye(4)
    result[:3, :3] = metres * (Z_UP if UsdGeom.GetStageUpAxis(stage) == "Z" else np.eye(3))
    return result


def stage_meshes(path: Path, stage: Any, to_mesh: np.ndarray) -> Iterator[UsdMesh]:
    """Yield the meshes of a stage that are drawn. Raises ValueError for what is out of range."""
    from pxr import Usd, UsdGeom

    cache = UsdGeom.XformCache(Usd.TimeCode.Default())
    vertices = corners = count = 0
    for prim in Usd.PrimRange.Stage(stage, Usd.TraverseInstanceProxies()):
        if not prim.IsA(UsdGeom.Mesh) or prim.GetCustomDataByKey(ADDED_PART):
            continue
        if not _is_drawn(prim):
            continue
        geometry = UsdGeom.Mesh(prim)
        points = _at_rest(geometry.GetPointsAttr())
        indices = _at_rest(geometry.GetFaceVertexIndicesAttr())
        if points is None or indices is None or not len(points):
            continue
        count += 1
        vertices, corners = vertices + len(points), corners + len(indices)
        check_counts(printable(path), vertices, max(corners - 2, 0) // 3)
        if count > MAX_SCENE_MESHES:
            raise ValueError(f"more than {MAX_SCENE_MESHES} meshes; join them")
        placement = to_mesh @ _placement(prim, cache)
        yield _mesh(geometry, points.astype(np.float64), indices.astype(np.int64), placement)


def _is_drawn(prim: Any) -> bool:
    """Whether a prim is visible, and not a stand-in or a guide."""
    from pxr import UsdGeom

    image = UsdGeom.Imageable(prim)
    purpose = image.ComputePurpose()
    return bool(image.ComputeVisibility() != "invisible" and purpose in ("default", "render"))


def _at_rest(attribute: Any) -> np.ndarray | None:
    """The value of an attribute that is an array: its default, else that of its first key."""
    from pxr import Usd

    value = attribute.Get()
    if value is None:
        value = attribute.Get(Usd.TimeCode.EarliestTime())
    return None if value is None else np.array(value)


def _placement(prim: Any, cache: Any) -> np.ndarray:
    """The matrix (4, 4) of a mesh into the stage: its own, or that of its skeleton."""
    from pxr import UsdSkel

    binding = UsdSkel.BindingAPI(prim)
    skeleton = binding.GetInheritedSkeleton()
    if skeleton and binding.GetJointIndicesPrimvar().HasValue():
        geometry = binding.GetGeomBindTransformAttr().Get()
        place = column_matrix(cache.GetLocalToWorldTransform(skeleton.GetPrim()))
        return place @ (np.eye(4) if geometry is None else column_matrix(geometry))
    return column_matrix(cache.GetLocalToWorldTransform(prim))


def column_matrix(value: Any) -> np.ndarray:
    """Return a matrix of USD, which multiplies rows, as one that multiplies columns."""
    matrix = np.array(value, np.float64).T
    if not within(matrix, MAX_COORDINATE):
        raise ValueError("a transform out of range")
    return matrix


def _mesh(geometry: Any, points: np.ndarray, indices: np.ndarray, placement: np.ndarray) -> UsdMesh:
    """A mesh with its polygons as fans of triangles."""
    from pxr import UsdGeom

    if points.ndim != 2 or points.shape[1] != 3 or not within(points, MAX_COORDINATE):
        raise ValueError("points out of range")
    counts = _at_rest(geometry.GetFaceVertexCountsAttr())
    if counts is None or (counts < 0).any() or int(counts.sum()) != len(indices):
        raise ValueError("polygons of other sizes than they say")
    if len(indices) and (indices.min() < 0 or indices.max() >= len(points)):
        raise ValueError("polygons of points that do not exist")
    if counts.max(initial=0) > MAX_CORNERS_PER_POLYGON:
        raise ValueError("a polygon of more corners than any")
    holes = _at_rest(geometry.GetHoleIndicesAttr())
    corners, polygon = fans(counts, np.zeros(0, int) if holes is None else holes)
    turned = geometry.GetOrientationAttr().Get() == UsdGeom.Tokens.leftHanded
    if turned != (np.linalg.det(placement[:3, :3]) < 0):
        corners = corners[:, ::-1]
    placed = points @ placement[:3, :3].T + placement[:3, 3]
    if not within(placed, MAX_COORDINATE):
        raise ValueError("points out of range")
    faces = indices[corners].astype(np.int32)
    return UsdMesh(geometry.GetPrim(), placed, faces, corners, polygon, placement)


def fans(counts: np.ndarray, holes: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the corners (F, 3) of triangles that polygons of so many corners (P,) consist of.

    Also the polygon (F,) of each; those in `holes` have none.
    """
    counts = counts.astype(np.int64)
    triangles = np.maximum(counts - 2, 0)
    triangles[holes[(holes >= 0) & (holes < len(counts))]] = 0
    polygon = np.repeat(np.arange(len(counts)), triangles)
    first = (np.cumsum(counts) - counts)[polygon]
    step = np.arange(len(polygon)) - np.repeat(np.cumsum(triangles) - triangles, triangles)
    return np.stack([first, first + step + 1, first + step + 2], axis=1), polygon


# ------------------------------------------------------------------------------------------ colours


class _Colours:
    """The colours of all meshes, as one texture or as those of points.

    `note` is called with a sentence about what is left out.
    """

    def __init__(self, path: Path, meshes: list[UsdMesh], note: Callable[[str], None]):
        self.path, self.meshes, self.note = path, meshes, note
        self.bytes_left = MAX_MESH_FILE_BYTES
        self.contents: dict[str, bytes] = {}
        self.parts: list[SurfaceColours] = []
        for mesh in meshes:
            self.parts += surface_colours(mesh.prim, mesh.faces, mesh.corners, mesh.polygon)

    def attributes(self) -> MeshAttributes | None:
        """Return texture, texture coordinates and colours; None without any."""
        images = self._images()
        paints = [part.paint for part in self.parts]
        if not images and all(paint.is_opaque for paint in paints):
            return self._without_textures()
        order = np.argsort(np.concatenate(self._rows()), kind="stable")
        is_plain = (p.is_plain and p.image is not None and p.uv is not None for p in paints)
        if len(images) == 1 and all(is_plain):
            (name, pixels), content = next(iter(images.items())), self.contents
            texture = content[name] if image_type(content[name]) else as_png(pixels)
            uv, faces = self._joined_uv()
            return MeshAttributes(uv, faces[order], texture)
        joined = join_materials([part.faces for part in self.parts], paints, images)
        assert joined.uv_faces is not None
        return MeshAttributes(**{**vars(joined), "uv_faces": joined.uv_faces[order]})

    def _images(self) -> dict[Any, PIL.Image.Image]:
        """Read the parts' images by name; parts lose those that cannot be read."""
        for name in {part.paint.image for part in self.parts if part.paint.image is not None}:
            self._load(name)
        images = decoded_images(self.contents, self.note)
        for part in self.parts:
            if part.paint.image not in images:
                part.paint.image = None
        return images

    def _rows(self) -> list[np.ndarray]:
        """The joined mesh's triangles of each part."""
        rows, first = [], 0
        for mesh in self.meshes:
            own = [part for part in self.parts if part.prim == mesh.prim]
            rows += [first + part.triangles for part in own]
            first += len(mesh.faces)
        return rows

    def _joined_uv(self) -> tuple[np.ndarray, np.ndarray]:
        """Texture coordinates, v up, and the triangles of all parts."""
        uv, faces, count = [], [], 0
        for part in self.parts:
            assert part.paint.uv is not None
            uv.append(part.paint.uv * [1, -1] + [0, 1])
            faces.append(part.faces + count)
            count += len(part.paint.uv)
        return np.concatenate(uv).astype(np.float32), np.concatenate(faces).astype(np.int32)

    def _without_textures(self) -> MeshAttributes | None:
        """The colours of vertices, if any is not white."""
        if all(part.paint.is_plain for part in self.parts):
            return None
        colours = []
        for mesh in self.meshes:
            own = np.full((len(mesh.points), 3), 255, np.uint8)
            for part in self.parts:
                if part.prim == mesh.prim:
                    points = part.paint.point_colours(part.faces.size)
                    own[mesh.faces[part.triangles].ravel()] = to_srgb(points[:, :3])
            colours.append(own)
        return MeshAttributes(colours=np.concatenate(colours))

    def _load(self, name: str) -> None:
        """Read an image, in the package or in the folder of the file or below."""
        try:
            content = self._content(name)
        except (KeyError, OSError):
            content = None
        if content is None:
            file = printable(Path(name.rstrip("]")).name, 60)
            self.note(f"the texture {file} is not beside the file and is left out")
        else:
            self.contents[name] = content
            self.bytes_left -= len(content)

    def _content(self, name: str) -> bytes | None:
        limit = min(self.bytes_left, MAX_IMAGE_BYTES)
        package, bracket, inner = name.partition("[")
        file = companion_path(self.path, package, MAX_MESH_FILE_BYTES if bracket else limit)
        if file is None:
            return None
        if not bracket:
            return read_bytes(file, "an image", "copy all its files together", limit)
        return package_entry(file, inner.rstrip("]"), limit)


def package_entry(package: Path, name: str, max_bytes: int) -> bytes | None:
    """Return a file of a usdz; None if it has none of this name, or a larger one."""
    with zipfile.ZipFile(package) as archive:
        try:
            entry = archive.getinfo(name)
        except KeyError:
            return None
        return archive.read(entry) if entry.file_size <= max_bytes else None


# ------------------------------------------------------------------------------------------- shapes


def load_usd_shapes(path: Path, vertices: int) -> tuple[MeshShape, ...]:
    """Return the blend shapes of a stage whose mesh has so many vertices, by name.

    Raises InputError if the file cannot be read.
    """
    what, hint = "blend shapes that can be read", "export it again, or use --targets arkit"
    with reading_errors(path, what, hint):
        stage = open_stage(path)
        pieces: dict[str, list[tuple[np.ndarray, np.ndarray]]] = {}
        first = total = 0
        for mesh in stage_meshes(path, stage, stage_matrix(stage)):
            for name, rows, values in mesh_shapes(stage, mesh):
                pieces.setdefault(name, []).append((rows + first, values))
                total += len(rows)
                if total * BYTES_PER_ROW > MAX_MESH_FILE_BYTES or len(pieces) > MAX_MORPH_TARGETS:
                    raise ValueError("more blend shapes than any face has")
            first += len(mesh.points)
        if first != vertices:
            raise ValueError("it has changed")
    return tuple(
        MeshShape(
            name,
            vertices,
            np.concatenate([rows for rows, _ in parts]).astype(np.int32),
            np.concatenate([values for _, values in parts]),
        )
        for name, parts in pieces.items()
    )


@dataclass(eq=False)
class _Names:
    """Blend shapes of a mesh: what the animation calls them, and where they are."""

    tokens: list[str] = field(default_factory=list)
    targets: list[Any] = field(default_factory=list)


def mesh_shapes(stage: Any, mesh: UsdMesh) -> Iterator[tuple[str, np.ndarray, np.ndarray]]:
    """Yield name, points (R,) and displacements (R, 3) float32 of a mesh's blend shapes."""
    from pxr import UsdSkel

    binding = UsdSkel.BindingAPI(mesh.prim)
    names = _Names(
        list(binding.GetBlendShapesAttr().Get() or []),
        list(binding.GetBlendShapeTargetsRel().GetTargets()),
    )
    count = len(mesh.points)
    for name, target in zip(names.tokens, names.targets):
        shape = UsdSkel.BlendShape(stage.GetPrimAtPath(target))
        offsets = _at_rest(shape.GetOffsetsAttr()) if shape else None
        if offsets is None or not len(offsets):
            continue
        if len(name) > MAX_SHAPE_NAME_CHARACTERS:
            raise ValueError("a blend shape with a name longer than any")
        rows = _at_rest(shape.GetPointIndicesAttr())
        rows = np.arange(count) if rows is None or not len(rows) else rows.astype(np.int64)
        if len(rows) != len(offsets) or rows.min() < 0 or rows.max() >= count:
            raise ValueError("a blend shape of points that do not exist")
        if len(np.unique(rows)) != len(rows) or not within(offsets, MAX_MORPH_WEIGHT):
            raise ValueError("a blend shape out of range")
        values = (offsets.astype(np.float64) @ mesh.placement[:3, :3].T).astype(np.float32)
        order = np.argsort(rows)
        yield name, rows[order], values[order]
