"""Writing a character as USD: the whole glTF that a mesh was read from, with what makes it speak.

The character is written as a glTF first, by `CharacterWriter`, and that is converted: every mesh
with its materials, the skeleton, blend shapes, and the animation that was added. All points and
displacements are in the scene's space, where the joints at rest put them, so the skeleton's bind
pose is its pose at rest. If a skin was bound in another pose, they stay in the space of its meshes.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from ..files.reading import reading_errors
from ..geometry.rigid import nearest_rotation
from .animation import FileWriter, Header
from .gltf_character import WRITTEN_BACK, CharacterWriter
from .gltf_colours import texture_coordinates
from .gltf_file import GltfFile
from .gltf_origin import GltfOrigin
from .gltf_rig import NodeTree, as_own_rotation
from .gltf_scene import (
    Surface,
    influences,
    is_added_part,
    read_surfaces,
    skin_matrices,
    world_matrices,
)
from .gltf_shapes import target_names
from .gltf_tracks import Tracks, tracks_at
from .usd import ANIMATION, SKELETON, UsdWriter
from .usd_back import UsdBackWriter
from .usd_materials import COLOURS_OF_POINTS, UsdMaterials
from .usd_origin import UsdOrigin
from .usd_stage import (
    ADDED_PART,
    ROOT,
    FreeNames,
    StageFile,
    StageWriter,
    check_usd,
    define_blend_shapes,
    define_coordinates,
    define_root,
    define_triangles,
    floats,
    halves,
    integers,
    matrix,
    quaternions,
    vectors,
)

MATERIALS = f"{ROOT}/materials"
SAME_POSE = 1e-4  # difference of matrices, relative to their size, that are the same
MIN_VOLUME = 1e-30  # determinant of a matrix that can be inverted
STILL = 1e-9  # a joint's property that changes less has no keys
OTHER_KIND = "_arkit"  # of the second animation, if the mesh's own shapes and ARKit's are driven


def usd_writer(path: Path, header: Header, bake: bool = False) -> FileWriter:
    """Return the writer of a USD: of the mesh's own file, if it is a glTF or USD."""
    check_usd()
    origin = header.origin
    if isinstance(origin, GltfOrigin) and not bake and origin.is_of(len(header.rest)):
        return UsdCharacterWriter(path, header, origin)
    if isinstance(origin, UsdOrigin) and not bake and origin.is_of(len(header.rest)):
        return UsdBackWriter(path, header, origin)
    return UsdWriter(path, header, bake)


class UsdCharacterWriter(StageWriter, CharacterWriter):
    """Writes the glTF that a mesh was read from as a usda, usdc or usdz, with its animation."""

    def __init__(self, path: Path, header: Header, origin: GltfOrigin):
        super().__init__(path, header, origin)
        self._before = len(self.file.tree.get("animations", []))

    def finish(self) -> None:
        super().finish()  # a GLB at the place of the USD
        content = self.partial.path.read_bytes()
        self.partial.path.write_bytes(b"")
        target = StageFile(self.partial.path)
        try:
            with reading_errors(self.file.path, *WRITTEN_BACK):
                file = GltfFile(self.path.with_suffix(".glb"), content)
                scene = _Scene(target.stage, file, self.header, self._before, self.image_name)
                scene.build()
            images = scene.materials.images
            del scene
            self.save(target, images, [self.file.path, *self.origin.companion_paths])
        finally:
            target.close()


class _Scene:
    """Converts a glTF to the prims of a stage.

    Parameters
    ----------
    stage : Usd.Stage
    file : GltfFile
    header : Header
        Of the animation.
    before : int
        Number of animations that are the character's own, which are the last; others are written.
    named : callable
        Returns the name of an image's file, from its number and ending.
    """

    def __init__(
        self,
        stage: Any,
        file: GltfFile,
        header: Header,
        before: int,
        named: Callable[[int, str], str],
    ):
        self.stage, self.file, self.header = stage, file, header
        nodes = file.tree["nodes"]
        self.nodes = NodeTree(nodes, world_matrices(nodes))
        self.surfaces = read_surfaces(file, every_target=True, with_added=True)
        times = np.arange(header.frames) / header.fps
        animations = file.tree.get("animations", [])
        animations = animations[: len(animations) - before][::-1]  # that of its own shapes first
        self.tracks = [tracks_at(file, animation, times) for animation in animations]
        self.skeleton = _Joints(self)
        self.materials = UsdMaterials(stage, MATERIALS, file, named)
        self.courses = [_Courses(header.frames) for _ in self.tracks]
        self.names = FreeNames()
        for taken in (SKELETON, ANIMATION, f"{ANIMATION}{OTHER_KIND}", MATERIALS):
            self.names.name(taken.rpartition("/")[2])

    def build(self) -> None:
        """Define everything."""
        from pxr import UsdSkel

        define_root(self.stage, self.header, UsdSkel.Root)
        self.skeleton.define()
        for node in sorted({surface.node for surface in self.surfaces}):
            self._define_mesh(node, [s for s in self.surfaces if s.node == node])
        for number, (tracks, courses) in enumerate(zip(self.tracks, self.courses)):
            path = ANIMATION + OTHER_KIND * number
            define_animation(self.stage, path, self.skeleton, tracks, courses)

    def _define_mesh(self, number: int, surfaces: list[Surface]) -> None:
        """Define the mesh of a node, with a subset of triangles for each of its primitives."""
        from pxr import UsdGeom

        node, file = self.nodes.nodes[number], self.file
        name = node.get("name") or file.item("meshes", node["mesh"]).get("name")
        path = f"{ROOT}/{self.names.name(name, default='mesh')}"
        mesh = UsdGeom.Mesh.Define(self.stage, path)
        if isinstance(name, str) and name != mesh.GetPrim().GetName():
            mesh.GetPrim().SetDisplayName(name)
        if is_added_part(node):
            mesh.GetPrim().SetCustomDataByKey(ADDED_PART, True)
        is_animated = any((number, "weights") in tracks for tracks in self.tracks)
        shown = [self.skeleton.in_space(surface) for surface in surfaces]
        points = np.concatenate([s.points if is_animated else s.at_rest for s in shown])
        starts = np.cumsum([0, *(len(surface.points) for surface in surfaces)])
        define_triangles(mesh, np.concatenate([s.faces + k for s, k in zip(surfaces, starts)]))
        mesh.CreatePointsAttr(vectors(points))
        mesh.CreateExtentAttr(UsdGeom.PointBased.ComputeExtent(mesh.GetPointsAttr().Get()))
        primitives = [surface.primitive for surface in surfaces]
        mesh.CreateDoubleSidedAttr(any(map(self.materials.is_double_sided, primitives)))
        self._define_attributes(mesh, shown)
        self._bind_materials(mesh, surfaces)
        self.skeleton.bind(mesh, number, surfaces)
        if is_animated:
            self._define_shapes(mesh, number, shown)

    def _define_attributes(self, mesh: Any, surfaces: list[Surface]) -> None:
        """Define normals, texture coordinates and colours of the points."""
        from pxr import UsdGeom

        normals = [_normals(self.file, surface) for surface in surfaces]
        if all(part is not None for part in normals):
            mesh.CreateNormalsAttr(vectors(np.concatenate(normals)))  # type: ignore[arg-type]
            mesh.SetNormalsInterpolation(UsdGeom.Tokens.vertex)
        self._define_texture_coordinates(mesh, surfaces)
        colours = [self.materials.colours_of_points(s.primitive, len(s.points)) for s in surfaces]
        joined = _joined(colours, surfaces, np.ones(4))
        if joined is not None:
            shown = mesh.CreateDisplayColorPrimvar(UsdGeom.Tokens.vertex)
            assert shown.GetPrimvarName() == COLOURS_OF_POINTS
            shown.Set(vectors(joined[:, :3]))

    def _define_texture_coordinates(self, mesh: Any, surfaces: list[Surface]) -> None:
        """Define each set of texture coordinates that a material of the mesh uses."""
        used = [{}, *(r for s in surfaces for r in self.materials.references(s.primitive))]
        for name, reference in {self.materials.sets.name(r): r for r in used}.items():
            parts = [
                texture_coordinates(self.file, s.primitive, reference, len(s.points))
                for s in surfaces
            ]
            joined = _joined(parts, surfaces, np.array([0.0, 1.0]))
            if joined is not None:
                define_coordinates(mesh, joined * [1, -1] + [0, 1], name)  # v points up in USD

    def _bind_materials(self, mesh: Any, surfaces: list[Surface]) -> None:
        from pxr import UsdGeom, UsdShade

        if len(surfaces) == 1:
            self.materials.bind(mesh.GetPrim(), surfaces[0].primitive)
            return
        binding = UsdShade.MaterialBindingAPI.Apply(mesh.GetPrim())
        first = 0
        for number, surface in enumerate(surfaces):
            rows = integers(np.arange(first, first + len(surface.faces)))
            first += len(surface.faces)
            subset = binding.CreateMaterialBindSubset(f"part{number}", rows)
            self.materials.bind(subset.GetPrim(), surface.primitive)
        binding.SetMaterialBindSubsetsFamilyType(UsdGeom.Tokens.partition)

    def _define_shapes(self, mesh: Any, number: int, surfaces: list[Surface]) -> None:
        """Define the morph targets that move anything, and collect the courses of their weights."""
        names = target_names(self.file, self.nodes.nodes[number]["mesh"])
        at_rest = next(s.weights for s in surfaces if len(s.weights) == len(names))
        moving = [
            k
            for k in range(len(names))
            if any(len(s.shapes) and s.shapes[k].any() for s in surfaces)
        ]
        label = mesh.GetPrim().GetName()
        tokens: dict[int, str] = {}
        for tracks, courses in zip(self.tracks, self.courses):
            weights = tracks.get((number, "weights"))
            for k in moving:
                course = at_rest[k] if weights is None else weights[:, k]
                tokens[k] = courses.add(tokens.get(k, names[k]), label, course)
        define_blend_shapes(
            mesh,
            [names[k] for k in moving],
            [tokens[k] for k in moving],
            (np.concatenate([_shape(s, k) for s in surfaces]) for k in moving),
        )


def _shape(surface: Surface, number: int) -> np.ndarray:
    """A morph target (V, 3) of a surface; zeros if it has none of this number."""
    if number < len(surface.shapes):
        return np.asarray(surface.shapes[number])
    return np.zeros_like(surface.points)


def _joined(
    parts: list[np.ndarray | None], surfaces: list[Surface], missing: np.ndarray
) -> np.ndarray | None:
    """Join an attribute of surfaces' points; `missing` where one has none, None if none has any."""
    if all(part is None for part in parts):
        return None
    rows = [
        np.tile(missing, (len(surface.points), 1)) if part is None else part
        for part, surface in zip(parts, surfaces)
    ]
    return np.concatenate(rows)


def _normals(file: GltfFile, surface: Surface) -> np.ndarray | None:
    """The normals (V, 3) of a surface in the scene; None if it has none."""
    normals = file.attribute(surface.primitive, "NORMAL")
    if normals is None or normals.shape != surface.points.shape:
        return None
    linear = surface.placement[..., :3]
    cofactors = np.stack(
        [np.cross(linear[..., (k + 1) % 3, :], linear[..., (k + 2) % 3, :]) for k in range(3)], -2
    )
    turned = np.einsum("...ij,...j->...i", cofactors, normals.astype(np.float64))
    turned *= np.sign(np.linalg.det(linear))[..., None]
    length = np.linalg.norm(turned, axis=1, keepdims=True)
    return np.divide(turned, length, out=np.zeros_like(turned), where=length > 0)


# ---------------------------------------------------------------------------------------- skeleton


class _Joints:
    """The joints of the skeleton: those of all skins, nodes that turn, and the nodes above them.

    Every mesh hangs on one: without a skin, on the nearest node above it that is a joint.
    """

    def __init__(self, scene: _Scene):
        self.stage, self.file, self.nodes = scene.stage, scene.file, scene.nodes
        found = {int(joint) for skin in self.file.tree.get("skins", []) for joint in skin["joints"]}
        found |= {node for tracks in scene.tracks for node, path in tracks if path != "weights"}
        rigid = {surface.node for surface in scene.surfaces if surface.placement.ndim == 2}
        found |= {[node, *self.nodes.above(node)][-1] for node in rigid}
        found |= {above for node in set(found) for above in self.nodes.above(node)}
        self.order = sorted(found, key=lambda node: (len(self.nodes.above(node)), node))
        self.number = {node: k for k, node in enumerate(self.order)}
        self.paths: dict[int, str] = {}
        names = FreeNames()
        for node in self.order:
            parent = self.paths.get(self.nodes.parents.get(node, -1), "")
            name = names.name(self.nodes.nodes[node].get("name"), parent, f"node{node}")
            self.paths[node] = f"{parent}/{name}" if parent else name
        self.poses = self._poses(scene.surfaces)

    def _poses(self, surfaces: list[Surface]) -> dict[int, np.ndarray]:
        """The matrices (4, 4) from skinned meshes into the scene by joint, if these differ.

        {} if each skin has one, so that its meshes are placed as they are at rest. The same for
        skins that do not agree on a joint, since a skeleton has one bind pose.
        """
        poses: dict[int, np.ndarray] = {}
        are_same = True
        skinned = [surface for surface in surfaces if surface.placement.ndim == 3]
        for number in sorted({self.nodes.nodes[surface.node]["skin"] for surface in skinned}):
            joints, of_skin = skin_matrices(self.file, number, self.nodes.matrices)
            size = np.abs(of_skin).max()
            are_same = are_same and np.abs(of_skin - of_skin[0]).max() <= SAME_POSE * size
            for joint, pose in zip(joints, of_skin):
                known = poses.setdefault(joint, pose)
                if np.abs(pose - known).max() > SAME_POSE * size:
                    return {}
        mixed = {s.node for s in skinned} & {s.node for s in surfaces if s.placement.ndim == 2}
        flat = any(abs(np.linalg.det(pose)) < MIN_VOLUME for pose in poses.values())
        return {} if are_same or mixed or flat else poses

    def in_space(self, surface: Surface) -> Surface:
        """Return a surface with points and shapes in the space of its mesh's points in the USD."""
        if not self.poses or surface.placement.ndim == 2:
            return surface
        points = self.file.attribute(surface.primitive, "POSITION")
        assert points is not None
        shapes = np.zeros_like(surface.shapes)
        for shape, target in zip(shapes, surface.primitive.get("targets", [])):
            if "POSITION" in target:
                shape[:] = self.file.accessor(target["POSITION"])
        still = np.eye(4)[:3]
        return replace(surface, points=points.astype(np.float64), shapes=shapes, placement=still)

    def _bind(self, node: int) -> np.ndarray:
        """The matrix (4, 4) of a joint in the pose in which meshes were bound to it."""
        frame = self.frame(node)
        return np.linalg.inv(self.poses[node]) @ frame if node in self.poses else frame

    def define(self) -> None:
        """Define the skeleton, which plays the first animation."""
        from pxr import UsdSkel

        skeleton = UsdSkel.Skeleton.Define(self.stage, SKELETON)
        skeleton.CreateJointsAttr([self.paths[node] for node in self.order])
        skeleton.CreateBindTransformsAttr([matrix(self._bind(node)) for node in self.order])
        skeleton.CreateRestTransformsAttr([matrix(self._local(node)) for node in self.order])
        source = UsdSkel.BindingAPI.Apply(skeleton.GetPrim()).CreateAnimationSourceRel()
        source.SetTargets([ANIMATION])

    def frame(self, node: int | None) -> np.ndarray:
        """Return the matrix (4, 4) of a joint at rest into the scene, without scale.

        A skeleton's animation stores scales in half precision, which would move points.
        """
        if node is None:
            return np.eye(4)
        result: np.ndarray = self.nodes.matrices[node].copy()
        result[:3, :3] = nearest_rotation(result[:3, :3])[0]
        return result

    def _local(self, node: int) -> np.ndarray:
        """The same into the joint above it."""
        parent = self.frame(self.nodes.parents.get(node))
        return np.asarray(np.linalg.inv(parent) @ self.frame(node))

    def local_at(self, node: int, tracks: Tracks) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Return translations (T, 3), quaternions (T, 4), scales (T, 3) of a joint that moves."""
        from scipy.spatial.transform import Rotation

        parent = self.nodes.parent_matrix(node)
        before, after = np.linalg.pinv(self.nodes.matrices[node]), self.frame(node)
        above = np.linalg.inv(self.frame(self.nodes.parents.get(node)))
        own = _matrices(self.nodes.nodes[node], node, tracks)
        local = above @ parent @ own @ before @ after
        turns = nearest_rotation(local[:, :3, :3])[0]
        scales = np.einsum("tji,tji->ti", turns, local[:, :3, :3])
        turned = Rotation.from_matrix(turns).as_quat(canonical=True)
        return local[:, :3, 3], turned, scales

    def bind(self, mesh: Any, number: int, surfaces: list[Surface]) -> None:
        """Let the joints move the points of a node's mesh."""
        from pxr import UsdGeom, UsdSkel

        binding = UsdSkel.BindingAPI.Apply(mesh.GetPrim())
        binding.CreateSkeletonRel().SetTargets([SKELETON])
        above = (number, *self.nodes.above(number))
        nearest = next((self.number[n] for n in above if n in self.number), 0)
        parts = [self._influences(surface, nearest) for surface in surfaces]
        is_rigid = all(surface.placement.ndim == 2 for surface in surfaces)
        place, joint = np.eye(4), self.order[nearest]
        if is_rigid and joint in self.poses:
            place = self._bind(joint) @ np.linalg.inv(self.frame(joint))
        binding.CreateGeomBindTransformAttr(matrix(place))
        if is_rigid:
            binding.CreateJointIndicesPrimvar(True, 1).Set(integers(parts[0][0][0]))
            binding.CreateJointWeightsPrimvar(True, 1).Set(floats(parts[0][1][0]))
            return
        width = max(part.shape[1] for part, _ in parts)
        joints, shares = (
            np.concatenate([np.pad(p, ((0, 0), (0, width - p.shape[1]))) for p in columns])
            for columns in zip(*parts)
        )
        binding.CreateJointIndicesPrimvar(False, width).Set(integers(joints.ravel()))
        binding.CreateJointWeightsPrimvar(False, width).Set(floats(shares.ravel()))
        binding.GetJointIndicesPrimvar().SetInterpolation(UsdGeom.Tokens.vertex)
        binding.GetJointWeightsPrimvar().SetInterpolation(UsdGeom.Tokens.vertex)

    def _influences(self, surface: Surface, nearest: int) -> tuple[np.ndarray, np.ndarray]:
        """Joints and shares (V, J) of a surface's points; `nearest` moves one without a skin."""
        count = len(surface.points)
        if surface.placement.ndim == 2:
            return np.full((count, 1), nearest), np.ones((count, 1))
        skin = self.file.item("skins", self.nodes.nodes[surface.node]["skin"])
        of_skin = np.array([self.number[joint] for joint in skin["joints"]])
        numbers, shares = influences(self.file, surface.primitive, count)
        shares[~(shares.sum(1) > 0), 0] = 1
        joints = of_skin[np.where(shares > 0, numbers, 0)]
        return joints * (shares > 0), shares / shares.sum(1, keepdims=True)


# --------------------------------------------------------------------------------------- animation


@dataclass(eq=False)
class _Courses:
    """Weights over time by the names that an animation gives them."""

    frames: int

    def __post_init__(self) -> None:
        self.values: dict[str, np.ndarray] = {}

    def add(self, name: str, mesh: str, course: Any) -> str:
        """Add a course (T,), or one constant, of a mesh's shape; return its name.

        Meshes whose shapes of one name have the same course share it.
        """
        values = np.broadcast_to(np.asarray(course, np.float32), (self.frames,))
        for token in (name, f"{name}_{mesh}"):
            known = self.values.setdefault(token, values)
            if np.array_equal(known, values):
                return token
        number = 2
        while f"{token}_{number}" in self.values:
            number += 1
        self.values[f"{token}_{number}"] = values
        return f"{token}_{number}"


def define_animation(
    stage: Any, path: str, skeleton: _Joints, tracks: Tracks, courses: _Courses
) -> None:
    """Define an animation of joints and of blend shapes' weights, with a key a frame."""
    from pxr import UsdSkel

    animation = UsdSkel.Animation.Define(stage, path)
    joints = [
        node
        for node in skeleton.order
        if any((node, kind) in tracks for kind in ("translation", "rotation", "scale"))
    ]
    names = list(courses.values)
    animation.CreateBlendShapesAttr(names)
    if names:
        weights = animation.CreateBlendShapeWeightsAttr()
        for frame, values in enumerate(np.stack(list(courses.values.values()), axis=1)):
            weights.Set(floats(values), frame)
    if not joints:
        return
    animation.CreateJointsAttr([skeleton.paths[node] for node in joints])
    moved = [skeleton.local_at(node, tracks) for node in joints]
    makers = ("Translations", vectors), ("Rotations", quaternions), ("Scales", halves)
    for (name, make), columns in zip(makers, zip(*moved)):
        attribute = getattr(animation, f"Create{name}Attr")()
        values = np.stack(columns, axis=1)  # (T, J, width)
        if np.abs(values - values[0]).max() < STILL:
            attribute.Set(make(values[0]))
            continue
        for frame, rows in enumerate(values):
            attribute.Set(make(rows), frame)


def _matrices(node: dict[str, Any], number: int, tracks: Tracks) -> np.ndarray:
    """The matrices (T, 4, 4) of a node that tracks move, into its parent."""
    from scipy.spatial.transform import Rotation

    own = dict(node)
    if not as_own_rotation(own):
        raise ValueError("a joint that shears")
    rest = {"translation": [0.0] * 3, "rotation": [0.0, 0.0, 0.0, 1.0], "scale": [1.0] * 3}
    rest |= {kind: own[kind] for kind in rest if kind in own}
    values = {kind: tracks.get((number, kind), np.array([rest[kind]])) for kind in rest}
    count = max(map(len, values.values()))
    result = np.tile(np.eye(4), (count, 1, 1))
    turns = Rotation.from_quat(values["rotation"]).as_matrix()
    result[:, :3, :3] = turns * values["scale"][:, None, :]
    result[:, :3, 3] = values["translation"]
    return result
