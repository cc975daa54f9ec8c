"""USD with UsdSkel blend shapes, for Omniverse, Houdini, Maya and Unreal; needs `talkemo[usd]`."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np

from ..errors import TalkemoError
from ..extras import install_command
from ..face.canonical import ARKIT_NAMES
from .animation import FileWriter, Frames, Header, check_blend_shapes
from .groups import visible_triangles
from .head_nodes import BODY_NODE, HEAD_NODE, HeadNodes

# Joints of the skeleton; a joint's path contains the joints above it.
JOINTS = [BODY_NODE, f"{BODY_NODE}/{HEAD_NODE}"]


class UsdWriter(FileWriter):
    """Writes ARKit's 52 shapes as UsdSkel blend shapes with animated weights.

    If `bake`, the points of each frame are stored instead, rotated with the head. Otherwise the
    head is a joint of the skeleton. Rotations of head and eyes are also stored as the transform
    `/head`, with the eyes below it, for objects that should follow them.

    The mesh keeps its unit, which `metersPerUnit` names, and its axes if y or z is up. USD knows no
    other axis; a mesh with another one is rotated so that y is up.
    """

    def __init__(self, path: Path, header: Header, bake: bool = False):
        try:
            from pxr import Usd
        except ImportError:
            raise TalkemoError("USD is not installed", install_command("usd")) from None
        check_blend_shapes(path, header, bake)
        super().__init__(path)
        self.header, self.bake, self.count = header, bake, 0
        self.up_axis = "Z" if header.upright[2, 1] > 0.5 else "Y"
        upright = np.eye(3) if self.up_axis == "Z" or header.upright[1, 1] > 0.5 else header.upright
        self.upright: np.ndarray = upright  # (3, 3), vertices @ upright
        self.visible = visible_triangles(header.faces, header.attributes, len(header.rest))
        self.head_nodes = HeadNodes(header.turner_of_nodes(bake), upright)
        self.stage: Any = Usd.Stage.CreateNew(str(self.partial.path))
        try:
            self._define_stage()
            mesh = self._define_mesh()
            self.points = mesh.GetPointsAttr()
            if not bake:
                self._define_blend_shapes(mesh)
        except BaseException:
            self.close()
            self.partial.discard()
            raise

    def _define_stage(self) -> None:
        from pxr import UsdGeom, UsdSkel

        header, stage = self.header, self.stage
        UsdGeom.SetStageUpAxis(stage, self.up_axis)
        UsdGeom.SetStageMetersPerUnit(stage, header.unit.metres)
        stage.SetTimeCodesPerSecond(header.fps)
        stage.SetFramesPerSecond(header.fps)
        stage.SetStartTimeCode(0)
        stage.SetEndTimeCode(max(header.frames - 1, 0))
        stage.GetRootLayer().customLayerData = {"talkemo": json.dumps(header.meta)}
        root = UsdSkel.Root.Define(stage, "/face")
        stage.SetDefaultPrim(root.GetPrim())

    def _define_mesh(self) -> Any:
        """Define the mesh at rest, with its texture coordinates."""
        from pxr import Sdf, UsdGeom, Vt

        header = self.header
        mesh = UsdGeom.Mesh.Define(self.stage, "/face/mesh")
        mesh.CreatePointsAttr(_vectors(header.rest @ self.upright))
        faces = header.faces[self.visible]
        corners = np.full(len(faces), 3, np.int32)
        mesh.CreateFaceVertexCountsAttr(Vt.IntArray.FromNumpy(corners))
        mesh.CreateFaceVertexIndicesAttr(Vt.IntArray.FromNumpy(faces.astype(np.int32).ravel()))
        mesh.CreateSubdivisionSchemeAttr(UsdGeom.Tokens.none)
        attributes = header.attributes
        if attributes and attributes.uv is not None and attributes.uv_faces is not None:
            kind = Sdf.ValueTypeNames.TexCoord2fArray
            st = UsdGeom.PrimvarsAPI(mesh).CreatePrimvar("st", kind, UsdGeom.Tokens.faceVarying)
            st.Set(Vt.Vec2fArray.FromNumpy(np.ascontiguousarray(attributes.uv)))
            st.SetIndices(Vt.IntArray.FromNumpy(attributes.uv_faces[self.visible].ravel()))
        return mesh

    def _define_blend_shapes(self, mesh: Any) -> None:
        """Define ARKit's shapes and the animation of their weights."""
        from pxr import Gf, Sdf, UsdSkel, Vt

        assert self.header.targets is not None
        targets = self.header.targets()
        moving = np.flatnonzero(targets.any((0, 2))).astype(np.int32)
        binding = UsdSkel.BindingAPI.Apply(mesh.GetPrim())
        paths = []
        for name, target in zip(ARKIT_NAMES, targets):
            shape = UsdSkel.BlendShape.Define(self.stage, f"/face/mesh/{name}")
            shape.CreateOffsetsAttr(_vectors(target[moving] @ self.upright))
            shape.CreatePointIndicesAttr(Vt.IntArray.FromNumpy(moving))
            paths.append(Sdf.Path(f"/face/mesh/{name}"))
        binding.CreateBlendShapesAttr(list(ARKIT_NAMES))
        binding.CreateBlendShapeTargetsRel().SetTargets(paths)
        # USD animates blend shapes only as part of a skeleton's animation.
        skeleton = UsdSkel.Skeleton.Define(self.stage, "/face/skeleton")
        pivot = self.head_nodes.positions.get(HEAD_NODE, np.zeros(3))
        joints = [Gf.Matrix4d(1), Gf.Matrix4d(1).SetTranslate(Gf.Vec3d(*pivot.tolist()))]
        skeleton.CreateJointsAttr(JOINTS)
        skeleton.CreateBindTransformsAttr(joints)
        skeleton.CreateRestTransformsAttr(joints)
        animation = UsdSkel.Animation.Define(self.stage, "/face/animation")
        animation.CreateBlendShapesAttr(list(ARKIT_NAMES))
        self.weights = animation.CreateBlendShapeWeightsAttr()
        source = UsdSkel.BindingAPI.Apply(skeleton.GetPrim()).CreateAnimationSourceRel()
        source.SetTargets([animation.GetPath()])
        binding.CreateSkeletonRel().SetTargets([skeleton.GetPath()])

    def write(self, frames: Frames) -> None:
        from pxr import Vt

        self.head_nodes.write(frames)
        for k, vertices in enumerate(frames.vertices):
            if self.bake:
                if frames.head is not None and self.header.turn is not None:
                    vertices = self.header.turn(vertices, frames.head[k])
                self.points.Set(_vectors(vertices @ self.upright), self.count)
            else:
                values = np.ascontiguousarray(frames.arkit[k], np.float32)
                self.weights.Set(Vt.FloatArray.FromNumpy(values), self.count)
            self.count += 1

    def _write_head_nodes(self) -> None:
        from pxr import Gf, UsdGeom

        positions = self.head_nodes.positions
        for name, quaternions in self.head_nodes.quaternions().items():
            path = f"/{HEAD_NODE}" if name == HEAD_NODE else f"/{HEAD_NODE}/{name}"
            node = UsdGeom.Xform.Define(self.stage, path)
            node.AddTranslateOp().Set(Gf.Vec3d(*positions[name].tolist()))
            rotation = node.AddOrientOp()
            for frame, (x, y, z, w) in enumerate(quaternions.tolist()):
                rotation.Set(Gf.Quatf(w, x, y, z), frame)

    def _let_head_move_mesh(self) -> None:
        """Animate the joint of the head, and let each vertex follow it by its share."""
        from pxr import Gf, UsdSkel, Vt

        nodes = self.head_nodes
        count = len(self.header.rest)
        shares = np.ones(count, np.float32) if nodes.shares is None else nodes.shares
        binding = UsdSkel.BindingAPI(self.stage.GetPrimAtPath("/face/mesh"))
        joints = np.tile(np.arange(2, dtype=np.int32), count)
        weights = np.stack([1 - shares, shares], axis=1).astype(np.float32)
        binding.CreateJointIndicesPrimvar(False, 2).Set(Vt.IntArray.FromNumpy(joints))
        binding.CreateJointWeightsPrimvar(False, 2).Set(Vt.FloatArray.FromNumpy(weights.ravel()))
        animation = UsdSkel.Animation(self.stage.GetPrimAtPath("/face/animation"))
        animation.CreateJointsAttr(JOINTS[1:])
        animation.CreateTranslationsAttr([Gf.Vec3f(*nodes.positions[HEAD_NODE].tolist())])
        animation.CreateScalesAttr([Gf.Vec3h(1, 1, 1)])
        rotations = animation.CreateRotationsAttr()
        for frame, (x, y, z, w) in enumerate(nodes.quaternions()[HEAD_NODE].tolist()):
            rotations.Set([Gf.Quatf(w, x, y, z)], frame)

    def finish(self) -> None:
        from pxr import Tf

        self._write_head_nodes()
        if self.head_nodes.moves_head and not self.bake:
            self._let_head_move_mesh()
        try:
            saved = self.stage.GetRootLayer().Save()
        except Tf.ErrorException:
            saved = False
        if not saved:
            raise TalkemoError(
                f"{self.path}: USD cannot write this file", "is there space left on the disk?"
            )
        self.close()

    def close(self) -> None:
        self.stage = self.points = self.weights = None  # USD writes until these are released


def _vectors(values: np.ndarray) -> Any:
    """USD's array of vectors (N, 3)."""
    from pxr import Vt

    return Vt.Vec3fArray.FromNumpy(np.ascontiguousarray(values, np.float32))
