"""Writing a stage back: the USD that a mesh was read from, with what makes it speak.

Everything that was in the file stays. Blend shapes, an animation of their weights, turning joints
and what the face lacks are added.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from ..errors import InputError
from ..files.reading import printable, quiet_stderr, reading_errors
from .animation import Frames, Header, check_blend_shapes
from .gltf_character import LOOK_SHAPES, MIN_EYE_MOTION_M, MIN_MOTION_M
from .head_nodes import BODY_NODE, HEAD_NODE, HeadNodes
from .target_sets import ARKIT_SUFFIX, Residual, TargetSet, target_sets
from .usd_images import StageImages
from .usd_layers import open_stage
from .usd_origin import UsdOrigin
from .usd_parts import define_part
from .usd_reader import UsdMesh, column_matrix, mesh_shapes, stage_meshes
from .usd_rig import StageSkeleton
from .usd_stage import (
    StageFile,
    StageWriter,
    define_blend_shapes,
    floats,
    integers,
    matrix,
)

WRITTEN_BACK = ("a USD that can be written back", "export it again")  # see `reading_errors`
NEW_SKELETON, NEW_ANIMATION = "talkemo_skeleton", "talkemo_animation"


@dataclass(eq=False)
class _Body:
    """A mesh of the stage, and its rows of the joined mesh."""

    mesh: UsdMesh
    rows: slice
    skeleton: str  # path of what moves it; "" without
    is_skinned: bool
    tokens: set[str] = field(default_factory=set)  # of its own blend shapes


class UsdBackWriter(StageWriter):
    """Writes the stage that a mesh was read from, with its animation.

    Parameters
    ----------
    path : Path
    header : Header
    origin : UsdOrigin

    Raises
    ------
    InputError
        The file cannot be read any more, or has changed.
    """

    def __init__(self, path: Path, header: Header, origin: UsdOrigin):
        check_blend_shapes(path, header, bake=False)
        self.header, self.origin = header, origin
        self.head_nodes = HeadNodes(header.turner_of_nodes(bake=False))
        with reading_errors(origin.path, *WRITTEN_BACK):
            self.source: Any = open_stage(origin.path)
            self.bodies = list(self._bodies())
        super().__init__(path)
        self.sets = target_sets(header)
        self.residuals = [Residual(header, shapes) for shapes in self.sets]
        self.weights: dict[str, list[np.ndarray]] = {}
        self.arkit: list[np.ndarray] = []
        self.added = header.added_meshes()

    def _bodies(self) -> Iterator[_Body]:
        """Yield the stage's meshes. Raises InputError if they are others than before."""
        from pxr import UsdSkel

        meshes = stage_meshes(self.origin.path, self.source, self.origin.to_mesh)
        found = [(str(mesh.prim.GetPath()), len(mesh.points), mesh) for mesh in meshes]
        if [item[:2] for item in found] != [(part.path, part.count) for part in self.origin.parts]:
            raise InputError(f"{printable(self.origin.path)}: it has changed", "start again")
        for part, (_, _, mesh) in zip(self.origin.parts, found):
            binding = UsdSkel.BindingAPI(mesh.prim)
            skeleton = binding.GetInheritedSkeleton()
            yield _Body(
                mesh,
                slice(part.first, part.first + part.count),
                str(skeleton.GetPath()) if skeleton else "",
                bool(skeleton and binding.GetJointIndicesPrimvar().HasValue()),
                {name for name, _, _ in mesh_shapes(self.source, mesh)},
            )

    def write(self, frames: Frames) -> None:
        self.head_nodes.write(frames)
        self.arkit.append(frames.arkit)
        for residual, shapes in zip(self.residuals, self.sets):
            weights = np.asarray(shapes.weights(frames), np.float32)
            residual.add(frames, weights)
            self.weights.setdefault(shapes.kind, []).append(weights)

    def finish(self) -> None:
        for residual in self.residuals:
            self.metrics |= residual.metrics
        target = StageFile(self.partial.path)
        try:
            with reading_errors(self.origin.path, *WRITTEN_BACK), quiet_stderr():
                images = StageImages(self.origin.path, self.source, self.image_name)
                target.stage.GetRootLayer().TransferContent(images.layer)
                _Author(self, target.stage, images).author()
            self.save(target, images.contents, [self.origin.path, *images.paths])
        finally:
            target.close()

    def close(self) -> None:
        self.source = None
        self.bodies = []


class _Author:
    """Adds to a copy of the stage what makes it speak."""

    def __init__(self, writer: UsdBackWriter, stage: Any, images: StageImages):
        from pxr import Usd, UsdGeom, UsdSkel

        self.writer, self.header, self.stage = writer, writer.header, stage
        self.bodies, self.head_nodes = writer.bodies, writer.head_nodes
        self.images = images
        self._part_from_instances()
        self.cache = UsdGeom.XformCache()
        self.to_mesh = writer.origin.to_mesh
        self.skeletons = {
            path: self._skeleton(path)
            for path in {body.skeleton for body in self.bodies if body.skeleton}
        }
        self.queries = UsdSkel.Cache()
        for prim in stage.Traverse():
            if prim.IsA(UsdSkel.Root):
                self.queries.Populate(UsdSkel.Root(prim), Usd.PrimDefaultPredicate)
        taken = set().union(*(body.tokens for body in self.bodies))
        self.tokens = {
            shapes.kind: [
                f"{name}{ARKIT_SUFFIX}" if shapes.kind == "arkit" and name in taken else name
                for name in shapes.names
            ]
            for shapes in writer.sets
        }

    def _part_from_instances(self) -> None:
        """Make the meshes prims of their own, where they are those of instances."""
        for body in self.bodies:
            for path in self._path(body).GetPrefixes():
                prim = self.stage.GetPrimAtPath(path)
                if prim.IsInstance():
                    prim.SetInstanceable(False)

    def _path(self, body: _Body) -> Any:
        """The path of a mesh in the copy."""
        from pxr import Sdf

        path = str(body.mesh.prim.GetPath())
        return Sdf.Path(self.images.moved.get(path, path))

    def _skeleton(self, path: str) -> StageSkeleton:
        prim = self.stage.GetPrimAtPath(path)
        return StageSkeleton(prim, self.to_mesh @ self._world(prim))

    def _world(self, prim: Any) -> np.ndarray:
        """The matrix (4, 4) of a prim into the stage."""
        return column_matrix(self.cache.GetLocalToWorldTransform(prim))

    def author(self) -> None:
        """Add everything."""
        times = self._set_times()
        with_eyes = not self._own_shapes_turn_eyes()
        arkit = next((shapes for shapes in self.writer.sets if shapes.kind == "arkit"), None)
        if arkit is not None:
            self._add_shapes(arkit, with_eyes)
        loose = [body for body in self.bodies if not body.is_skinned and self._is_moved(body)]
        main = self._main_skeleton()
        if main is None and (loose or self.writer.added is not None):
            main = self._new_skeleton()
        if main is not None:
            for body in loose:
                self._hang(body, main)
            self._add_parts(main)
        for skeleton in self.skeletons.values():
            self._animate(skeleton, times, with_eyes)

    def _set_times(self) -> np.ndarray:
        """Say how long the animation is; return the time codes (T,) of its frames."""
        header, layer = self.header, self.stage.GetRootLayer()
        if not layer.ListAllTimeSamples():  # nothing else depends on the rate
            self.stage.SetTimeCodesPerSecond(header.fps)
            self.stage.SetFramesPerSecond(header.fps)
        times = np.arange(header.frames) * (self.stage.GetTimeCodesPerSecond() / header.fps)
        self.stage.SetStartTimeCode(0)
        self.stage.SetEndTimeCode(float(times[-1]) if len(times) else 0.0)
        layer.customLayerData = {**layer.customLayerData, "talkemo": json.dumps(header.meta)}
        return np.asarray(times)

    # -------------------------------------------------------------------------------------- shapes

    def _own_shapes_turn_eyes(self) -> bool:
        """Whether shapes of the file's own turn the eyeballs, which joints would turn once more."""
        own = next((shapes for shapes in self.writer.sets if shapes.kind == "own"), None)
        look = [] if own is None else [k for k, n in enumerate(own.names) if "look" in n.lower()]
        if own is None or not look:
            return False
        moved = np.abs(own.targets[look][:, self._eye_rows()]).max(initial=0.0)
        return bool(moved * self.header.unit.metres > MIN_EYE_MOTION_M)

    def _eye_rows(self) -> np.ndarray:
        """The joined mesh's vertices that joints of the eyes move."""
        rows = [np.zeros(0, int)]
        for body in self.bodies:
            if body.is_skinned:
                skeleton = self.skeletons[body.skeleton]
                query = self.queries.GetSkinningQuery(self._prim(body))
                moved = skeleton.moved_by(query, body.mesh, skeleton.rig.eyes)
                rows.append(body.rows.start + np.flatnonzero(moved))
        return np.concatenate(rows)

    def _prim(self, body: _Body) -> Any:
        return self.stage.GetPrimAtPath(self._path(body))

    def _add_shapes(self, arkit: TargetSet, with_eyes: bool) -> None:
        """Add ARKit's shapes to every mesh that they move, behind its own."""
        from pxr import UsdGeom, UsdSkel

        targets = arkit.targets
        if with_eyes and len(self.head_nodes.rotations()[1]):
            targets[np.ix_(np.array(LOOK_SHAPES), self._eye_rows())] = 0
        for body in self.bodies:
            own = targets[:, body.rows]
            if np.abs(own).max(initial=0.0) * self.header.unit.metres <= MIN_MOTION_M:
                continue
            prim = self._prim(body)
            binding = UsdSkel.BindingAPI(prim)
            before = list(binding.GetBlendShapesAttr().Get() or [])
            paths = list(binding.GetBlendShapeTargetsRel().GetTargets())
            inverse = np.linalg.pinv(body.mesh.placement[:3, :3]).T
            moving = [k for k in range(len(own)) if own[k].any()]
            tokens = [self.tokens["arkit"][k] for k in moving]
            define_blend_shapes(
                UsdGeom.Mesh(prim), tokens, tokens, (own[k] @ inverse for k in moving)
            )
            binding.CreateBlendShapesAttr([*before, *tokens])
            added = binding.GetBlendShapeTargetsRel().GetTargets()
            binding.CreateBlendShapeTargetsRel().SetTargets([*paths, *added])

    # ------------------------------------------------------------------------------------ skeletons

    def _is_moved(self, body: _Body) -> bool:
        """Whether a mesh without skin has shapes, or turns with the head."""
        from pxr import UsdSkel

        if UsdSkel.BindingAPI(self._prim(body)).GetBlendShapeTargetsRel().GetTargets():
            return True
        turner = self.head_nodes.turn
        return bool(
            turner is not None
            and self.head_nodes.moves_head
            and turner.share[body.rows].max(initial=0) > 0
        )

    def _main_skeleton(self) -> StageSkeleton | None:
        """The skeleton of the face, or of anything else; None without one."""
        focus = self.header.focus
        ranked = sorted(
            (body for body in self.bodies if body.skeleton),
            key=lambda body: (-int(focus[body.rows].sum()), body.rows.start),
        )
        return self.skeletons[ranked[0].skeleton] if ranked else None

    def _new_skeleton(self) -> StageSkeleton:
        """Add a skeleton with a still body and the head, beside the face.

        So the face is bound where it is, which programs read that ignore how a mesh was bound.
        """
        from pxr import Gf, UsdSkel

        focus = self.header.focus
        face = max(self.bodies, key=lambda body: int(focus[body.rows].sum()))
        root = self._path(face).GetParentPath()
        path = str(root.AppendChild(NEW_SKELETON))
        skeleton = UsdSkel.Skeleton.Define(self.stage, path)
        to_scene = self.to_mesh @ self._world(self.stage.GetPrimAtPath(root))
        turner = self.head_nodes.turn
        pivot = np.zeros(3) if turner is None else np.asarray(turner.pivot, np.float64)
        inverse = np.linalg.inv(to_scene)
        pivot = inverse[:3, :3] @ pivot + inverse[:3, 3]
        matrices = [Gf.Matrix4d(1), Gf.Matrix4d(1).SetTranslate(Gf.Vec3d(*pivot.tolist()))]
        skeleton.CreateJointsAttr([BODY_NODE, f"{BODY_NODE}/{HEAD_NODE}"])
        skeleton.CreateBindTransformsAttr(matrices)
        skeleton.CreateRestTransformsAttr(matrices)
        self.skeletons[path] = StageSkeleton(skeleton.GetPrim(), to_scene)
        return self.skeletons[path]

    def _hang(self, body: _Body, skeleton: StageSkeleton) -> None:
        """Let a skeleton animate a mesh without skin: its shapes, and its place if the head turns."""
        from pxr import UsdSkel

        prim, turner = self._prim(body), self.head_nodes.turn
        self._make_root(prim)
        binding = UsdSkel.BindingAPI.Apply(prim)
        binding.CreateSkeletonRel().SetTargets([skeleton.prim.GetPath()])
        head = skeleton.head
        if turner is None or head is None or not self.head_nodes.moves_head:
            return
        still = skeleton.parents.get(head, head)
        shares = np.asarray(turner.share[body.rows, 0], np.float64)
        if skeleton.prim.GetName() != NEW_SKELETON:  # of a neck that moves, all moves
            shares = np.round(shares)
        place = np.linalg.inv(skeleton.to_scene) @ body.mesh.placement
        binding.CreateGeomBindTransformAttr(matrix(skeleton.place_of(head) @ place))
        joints = np.tile([still, head], len(shares))
        weights = np.stack([1 - shares, shares], axis=1)
        binding.CreateJointIndicesPrimvar(False, 2).Set(integers(joints))
        binding.CreateJointWeightsPrimvar(False, 2).Set(floats(weights.ravel()))

    def _make_root(self, prim: Any) -> None:
        """Make the root prim above a mesh one in which skeletons count, unless there is one."""
        from pxr import UsdSkel

        if not UsdSkel.Root.Find(prim):
            root = self.stage.GetPrimAtPath(prim.GetPath().GetPrefixes()[0])
            root.SetTypeName("SkelRoot")

    def _add_parts(self, skeleton: StageSkeleton) -> None:
        """Add what the mesh lacks, which the head's joint moves."""
        from pxr import UsdGeom, UsdSkel

        added = self.writer.added
        if added is None:
            return
        self._make_root(skeleton.prim)
        parent = skeleton.prim.GetParent()
        if not parent.IsA(UsdGeom.Xformable):  # UsdSkel looks at nothing below it
            parent = UsdSkel.Root.Find(skeleton.prim).GetPrim()
        inverse = np.linalg.inv(self.to_mesh @ self._world(parent))
        points = added.vertices.points @ inverse[:3, :3].T + inverse[:3, 3]
        targets = added.targets() @ inverse[:3, :3].T
        place = np.linalg.inv(skeleton.to_scene) @ np.linalg.inv(inverse)
        for part in added.meshes:
            image = self.writer.part_image(part.texture, self.images.contents)
            mesh = define_part(self.stage, str(parent.GetPath()), part, points[part.rows], image)
            moving = [k for k in range(len(targets)) if targets[k][part.rows].any()]
            names = [self._token_of_part(k) for k in moving]
            define_blend_shapes(mesh, names, names, (targets[k][part.rows] for k in moving))
            binding = UsdSkel.BindingAPI(mesh.GetPrim())
            binding.CreateSkeletonRel().SetTargets([skeleton.prim.GetPath()])
            if skeleton.head is not None:
                bound = skeleton.place_of(skeleton.head) @ place
                binding.CreateGeomBindTransformAttr(matrix(bound))
                binding.CreateJointIndicesPrimvar(True, 1).Set([skeleton.head])
                binding.CreateJointWeightsPrimvar(True, 1).Set([1.0])

    def _token_of_part(self, number: int) -> str:
        """The name of the weights of an added part's shape of ARKit."""
        from ..face.canonical import ARKIT_NAMES

        tokens = self.tokens.get("arkit")
        return tokens[number] if tokens else f"{ARKIT_NAMES[number]}{ARKIT_SUFFIX}"

    # ------------------------------------------------------------------------------------ animation

    def _animate(self, skeleton: StageSkeleton, times: np.ndarray, with_eyes: bool) -> None:
        """Add an animation for each kind of shapes; the skeleton plays the first."""
        from pxr import UsdSkel

        writer = self.writer
        parent = skeleton.prim.GetPath().GetParentPath()
        tracks = skeleton.tracks(self.head_nodes, with_eyes)
        for number, shapes in enumerate(writer.sets):
            wanted = f"{skeleton.prim.GetName()}_{NEW_ANIMATION}" + f"_{shapes.kind}" * bool(number)
            path, count = parent.AppendChild(wanted), 1
            while self.stage.GetPrimAtPath(path):
                count += 1
                path = parent.AppendChild(f"{wanted}_{count}")
            animation = UsdSkel.Animation.Define(self.stage, path)
            names = list(self.tokens[shapes.kind])
            values = np.concatenate(writer.weights[shapes.kind])
            if writer.added is not None and shapes.kind == "own" and "arkit" not in self.tokens:
                names += [self._token_of_part(k) for k in range(writer.arkit[0].shape[1])]
                values = np.concatenate([values, np.concatenate(writer.arkit)], axis=1)
            animation.CreateBlendShapesAttr(names)
            weights = animation.CreateBlendShapeWeightsAttr()
            for time, row in zip(times.tolist(), values):
                weights.Set(floats(row), time)
            skeleton.animate(animation, tracks, times)
            if not number:
                source = UsdSkel.BindingAPI.Apply(skeleton.prim).CreateAnimationSourceRel()
                source.SetTargets([path])
