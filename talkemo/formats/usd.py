"""USD with UsdSkel blend shapes, for Omniverse, Houdini, Maya and Unreal; needs the extra `talkemo[usd]`."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np

from ..errors import TalkemoError
from ..face.canonical import ARKIT_NAMES
from .animation import FileWriter, Frames, Header
from .baking import check_writable
from .tracks import HEAD, Tracks


class UsdWriter(FileWriter):
    """USD with ARKit's 52 shapes as UsdSkel blend shapes and their weights over time; with `bake`, points over time.

    How head and eyes turn is written as `/head`, with the eyes in it, which moves nothing by itself.
    """

    def __init__(self, path: Path, header: Header, bake: bool = False):
        try:
            from pxr import Usd
        except ImportError:
            raise TalkemoError("USD is not installed", "pip install 'talkemo[usd]'") from None
        check_writable(path, header, bake)
        super().__init__(path)
        self.header, self.bake, self.count = header, bake, 0
        self.tracks = Tracks(header.turn)
        self.stage: Any = Usd.Stage.CreateNew(str(self.partial.path))
        try:
            self._define()
        except BaseException:
            self.close()
            self.partial.discard()
            raise

    def _define(self) -> None:
        from pxr import Gf, Sdf, UsdGeom, UsdSkel, Vt

        header, stage = self.header, self.stage
        UsdGeom.SetStageUpAxis(stage, UsdGeom.Tokens.y)
        stage.SetTimeCodesPerSecond(header.fps)
        stage.SetFramesPerSecond(header.fps)
        stage.SetStartTimeCode(0)
        stage.SetEndTimeCode(max(header.frames - 1, 0))
        stage.GetRootLayer().customLayerData = {"talkemo": json.dumps(header.meta)}
        root = UsdSkel.Root.Define(stage, "/face")
        stage.SetDefaultPrim(root.GetPrim())
        mesh = UsdGeom.Mesh.Define(stage, "/face/mesh")
        rest = np.ascontiguousarray(header.rest, np.float32)
        mesh.CreatePointsAttr(Vt.Vec3fArray.FromNumpy(rest))
        mesh.CreateFaceVertexCountsAttr(
            Vt.IntArray.FromNumpy(np.full(len(header.faces), 3, np.int32))
        )
        mesh.CreateFaceVertexIndicesAttr(
            Vt.IntArray.FromNumpy(header.faces.astype(np.int32).ravel())
        )
        mesh.CreateSubdivisionSchemeAttr(UsdGeom.Tokens.none)
        if (
            header.attributes is not None
            and header.attributes.uv is not None
            and header.attributes.uv_faces is not None
        ):
            kind = Sdf.ValueTypeNames.TexCoord2fArray
            st = UsdGeom.PrimvarsAPI(mesh).CreatePrimvar("st", kind, UsdGeom.Tokens.faceVarying)
            st.Set(Vt.Vec2fArray.FromNumpy(np.ascontiguousarray(header.attributes.uv)))
            st.SetIndices(Vt.IntArray.FromNumpy(header.attributes.uv_faces.ravel()))
        self.points = mesh.GetPointsAttr()
        if self.bake:
            return
        assert header.targets is not None
        targets = header.targets()
        moving = np.flatnonzero(targets.any((0, 2))).astype(np.int32)
        binding = UsdSkel.BindingAPI.Apply(mesh.GetPrim())
        paths = []
        for name, target in zip(ARKIT_NAMES, targets):
            shape = UsdSkel.BlendShape.Define(stage, f"/face/mesh/{name}")
            shape.CreateOffsetsAttr(
                Vt.Vec3fArray.FromNumpy(np.ascontiguousarray(target[moving], np.float32))
            )
            shape.CreatePointIndicesAttr(Vt.IntArray.FromNumpy(moving))
            paths.append(Sdf.Path(f"/face/mesh/{name}"))
        binding.CreateBlendShapesAttr(list(ARKIT_NAMES))
        binding.CreateBlendShapeTargetsRel().SetTargets(paths)
        # Blend shapes are played by a skeleton's animation, so there is one with a joint that stands still.
        skeleton = UsdSkel.Skeleton.Define(stage, "/face/skeleton")
        skeleton.CreateJointsAttr(["root"])
        skeleton.CreateBindTransformsAttr([Gf.Matrix4d(1)])
        skeleton.CreateRestTransformsAttr([Gf.Matrix4d(1)])
        animation = UsdSkel.Animation.Define(stage, "/face/animation")
        animation.CreateBlendShapesAttr(list(ARKIT_NAMES))
        self.weights = animation.CreateBlendShapeWeightsAttr()
        UsdSkel.BindingAPI.Apply(skeleton.GetPrim()).CreateAnimationSourceRel().SetTargets(
            [animation.GetPath()]
        )
        binding.CreateSkeletonRel().SetTargets([skeleton.GetPath()])

    def write(self, frames: Frames) -> None:
        from pxr import Vt

        self.tracks.write(frames)
        for vertices, weights in zip(frames.vertices, frames.arkit):
            if self.bake:
                self.points.Set(
                    Vt.Vec3fArray.FromNumpy(np.ascontiguousarray(vertices, np.float32)), self.count
                )
            else:
                self.weights.Set(
                    Vt.FloatArray.FromNumpy(np.ascontiguousarray(weights, np.float32)), self.count
                )
            self.count += 1

    def _write_tracks(self) -> None:
        from pxr import Gf, UsdGeom

        places = self.tracks.places
        for name, quaternions in self.tracks.quaternions().items():
            under = name != HEAD
            part = UsdGeom.Xform.Define(self.stage, f"/{HEAD}/{name}" if under else f"/{HEAD}")
            part.AddTranslateOp().Set(Gf.Vec3d(*(places[name] - under * places[HEAD]).tolist()))
            turn = part.AddOrientOp()
            for frame, (x, y, z, w) in enumerate(quaternions.tolist()):
                turn.Set(Gf.Quatf(w, x, y, z), frame)

    def finish(self) -> None:
        from pxr import Tf

        self._write_tracks()
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
        self.stage = self.points = self.weights = None  # the library writes on until it is let go
