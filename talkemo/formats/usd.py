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
from .head_nodes import HEAD_NODE, HeadNodes


class UsdWriter(FileWriter):
    """Writes ARKit's 52 shapes as UsdSkel blend shapes with animated weights.

    If `bake`, the points of each frame are stored instead. Rotations of head and eyes are stored as
    the transform `/head`, with the eyes below it; it does not move the mesh.
    """

    def __init__(self, path: Path, header: Header, bake: bool = False):
        try:
            from pxr import Usd
        except ImportError:
            raise TalkemoError("USD is not installed", install_command("usd")) from None
        check_blend_shapes(path, header, bake)
        super().__init__(path)
        self.header, self.bake, self.count = header, bake, 0
        self.head_nodes = HeadNodes(header.turn)
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
        UsdGeom.SetStageUpAxis(stage, UsdGeom.Tokens.y)
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
        mesh.CreatePointsAttr(_vectors(header.rest))
        corners = np.full(len(header.faces), 3, np.int32)
        mesh.CreateFaceVertexCountsAttr(Vt.IntArray.FromNumpy(corners))
        mesh.CreateFaceVertexIndicesAttr(
            Vt.IntArray.FromNumpy(header.faces.astype(np.int32).ravel())
        )
        mesh.CreateSubdivisionSchemeAttr(UsdGeom.Tokens.none)
        attributes = header.attributes
        if attributes and attributes.uv is not None and attributes.uv_faces is not None:
            kind = Sdf.ValueTypeNames.TexCoord2fArray
            st = UsdGeom.PrimvarsAPI(mesh).CreatePrimvar("st", kind, UsdGeom.Tokens.faceVarying)
            st.Set(Vt.Vec2fArray.FromNumpy(np.ascontiguousarray(attributes.uv)))
            st.SetIndices(Vt.IntArray.FromNumpy(attributes.uv_faces.ravel()))
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
            shape.CreateOffsetsAttr(_vectors(target[moving]))
            shape.CreatePointIndicesAttr(Vt.IntArray.FromNumpy(moving))
            paths.append(Sdf.Path(f"/face/mesh/{name}"))
        binding.CreateBlendShapesAttr(list(ARKIT_NAMES))
        binding.CreateBlendShapeTargetsRel().SetTargets(paths)
        # Only the animation of a skeleton plays blend shapes, so there is one with a still joint.
        skeleton = UsdSkel.Skeleton.Define(self.stage, "/face/skeleton")
        skeleton.CreateJointsAttr(["root"])
        skeleton.CreateBindTransformsAttr([Gf.Matrix4d(1)])
        skeleton.CreateRestTransformsAttr([Gf.Matrix4d(1)])
        animation = UsdSkel.Animation.Define(self.stage, "/face/animation")
        animation.CreateBlendShapesAttr(list(ARKIT_NAMES))
        self.weights = animation.CreateBlendShapeWeightsAttr()
        source = UsdSkel.BindingAPI.Apply(skeleton.GetPrim()).CreateAnimationSourceRel()
        source.SetTargets([animation.GetPath()])
        binding.CreateSkeletonRel().SetTargets([skeleton.GetPath()])

    def write(self, frames: Frames) -> None:
        from pxr import Vt

        self.head_nodes.write(frames)
        for vertices, weights in zip(frames.vertices, frames.arkit):
            if self.bake:
                self.points.Set(_vectors(vertices), self.count)
            else:
                values = np.ascontiguousarray(weights, np.float32)
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

    def finish(self) -> None:
        from pxr import Tf

        self._write_head_nodes()
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
