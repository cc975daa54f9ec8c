"""What other tools open: GLB and USD with blend shapes, ARKit curves as Live Link Face writes them, sequences of meshes."""

from __future__ import annotations

import csv
import json
import shutil
import struct
from pathlib import Path
from typing import IO, Any

import numpy as np

from . import __version__
from .animation import Chunk, Header, Writer
from .errors import InputError, TalkemoError
from .face import ARKIT_NAMES, vertex_normals
from .gltf import BINARY_CHUNK, JSON_CHUNK, MAGIC, MOST_TARGETS
from .mesh import Look, obj_text, picture_type, save_obj, save_ply

FLOAT, UNSIGNED = 5126, 5125  # glTF's component types
LARGEST_BAKED = 1 << 31  # bytes
SPARSE = 0.7  # share of the vertices that move under which a morph target lists them one by one
RESIDUAL_EVERY = 8  # frames

# Live Link Face has right before left where a shape points to a side, and Apple left before right.
_SWAPPED = {"jawLeft": "jawRight", "jawRight": "jawLeft", "mouthLeft": "mouthRight", "mouthRight": "mouthLeft"}
LIVE_LINK_NAMES = tuple(_SWAPPED.get(name, name) for name in ARKIT_NAMES)
ROTATIONS = tuple(f"{part}{axis}" for part in ("Head", "LeftEye", "RightEye") for axis in ("Yaw", "Pitch", "Roll"))


class GlbWriter(Writer):
    """A GLB of the mesh with ARKit's 52 shapes as morph targets and their weights as an animation.

    With `bake` every frame is a morph target of its own instead, and the animation is exact. `figures` then tells the
    residual of the 52: the mean distance of the moving vertices from where they should be, in units of the mesh.
    """

    def __init__(self, path: Path, header: Header, bake: bool = False):
        super().__init__(path)
        self.header, self.bake = header, bake
        self.moving = np.flatnonzero(header.focus)
        _check_writable(path, header, bake)
        self.targets = None if bake or header.targets is None else header.targets()
        self.frames: list[np.ndarray] = []
        self.weights: list[np.ndarray] = []
        self.distance, self.measured, self.count = 0.0, 0, 0

    def write(self, chunk: Chunk) -> None:
        if self.bake:
            self.frames.append(chunk.vertices - self.header.rest)
            return
        assert self.targets is not None
        self.weights.append(chunk.arkit)
        some = slice(-self.count % RESIDUAL_EVERY, None, RESIDUAL_EVERY)
        self.count += len(chunk.vertices)
        if len(self.moving) and len(chunk.vertices[some]):
            targets = self.targets[:, self.moving]
            drawn = self.header.rest[self.moving] + np.tensordot(chunk.arkit[some], targets, 1)
            off = np.linalg.norm(chunk.vertices[some][:, self.moving] - drawn, axis=2)
            self.distance, self.measured = self.distance + float(off.sum()), self.measured + off.size

    def finish(self) -> None:
        header = self.header
        glb = _Glb()
        rest = header.rest.astype(np.float32)
        # A vertex on a seam of the texture has several texture coordinates, and is written once for each.
        origin, faces, uv = _split_at_seams(header.faces, header.look)
        attributes = {
            "POSITION": glb.add(rest[origin], bounds=True),
            "NORMAL": glb.add(vertex_normals(rest, header.faces).astype(np.float32)[origin]),
        }
        if uv is not None:
            attributes |= {"TEXCOORD_0": glb.add(uv), "_VERTEX": glb.add(origin.astype(np.float32))}
        primitive: dict[str, Any] = {
            "attributes": attributes,
            "indices": glb.add(faces.astype(np.uint32).ravel(), target=34963),
        }
        if self.bake:
            targets = np.concatenate(self.frames)
            weights = np.eye(len(targets), dtype=np.float32)
            names = [f"frame{k:05d}" for k in range(len(targets))]
        else:
            assert self.targets is not None
            targets, weights, names = self.targets, np.concatenate(self.weights).astype(np.float32), list(ARKIT_NAMES)
            if self.measured:
                self.figures["arkit_residual_mesh_units"] = self.distance / self.measured
        # A head that turns moves more than its face.
        primitive["targets"] = [{"POSITION": glb.add_target(target[origin])} for target in targets]
        times = (np.arange(len(weights)) / header.fps).astype(np.float32)
        sampler = {"input": glb.add(times, bounds=True), "output": glb.add(weights.ravel()), "interpolation": "LINEAR"}
        mesh = {
            "name": "face",
            "primitives": [primitive],
            "weights": [0.0] * len(names),
            "extras": {"targetNames": names},
        }
        texture = header.look.texture if header.look and uv is not None else None
        materials: dict[str, Any] = {}
        if texture is not None:
            image = {"bufferView": glb.add_bytes(texture), "mimeType": picture_type(texture)}
            skin = {"baseColorTexture": {"index": 0}, "metallicFactor": 0.0, "roughnessFactor": 0.8}
            materials = {"images": [image], "textures": [{"source": 0}], "materials": [{"pbrMetallicRoughness": skin}]}
            primitive["material"] = 0
        glb.write(
            self.partial,
            {
                **materials,
                "asset": {"version": "2.0", "generator": f"talkemo {__version__}", "extras": header.meta},
                "scene": 0,
                "scenes": [{"nodes": [0]}],
                "nodes": [{"name": "face", "mesh": 0}],
                "meshes": [mesh],
                "animations": [
                    {
                        "name": str(header.meta.get("emotion", "talkemo")),
                        "channels": [{"sampler": 0, "target": {"node": 0, "path": "weights"}}],
                        "samplers": [sampler],
                    }
                ],
            },
        )


def _split_at_seams(faces: np.ndarray, look: Look | None) -> tuple[np.ndarray, np.ndarray, np.ndarray | None]:
    """For each vertex to be written the mesh's own, the faces (F, 3) of those, and their texture coordinates, v down."""
    if look is None or look.uv is None or look.uv_faces is None:
        return np.arange(int(faces.max()) + 1), faces, None
    pairs = np.stack([faces.ravel(), look.uv_faces.ravel()], axis=1).astype(np.int64)
    unused = np.setdiff1d(np.arange(int(faces.max()) + 1), faces)
    pairs = np.concatenate([pairs, np.stack([unused, np.zeros_like(unused)], axis=1)])
    found, number = np.unique(pairs, axis=0, return_inverse=True)
    uv = look.uv[found[:, 1]] * np.array([1, -1], np.float32) + np.array([0, 1], np.float32)
    return found[:, 0], number.reshape(-1)[: faces.size].reshape(-1, 3), uv


def _check_writable(path: Path, header: Header, bake: bool) -> None:
    """Raise InputError where there are no shapes to write, or too much to bake: each frame is kept until the last."""
    if not bake:
        if header.targets is None:
            raise InputError(f"{path}: no ARKit shapes are known for this mesh", "write it with --bake")
        return
    if header.frames > MOST_TARGETS or header.frames * len(header.rest) * 12 + header.frames**2 * 4 > LARGEST_BAKED:
        raise InputError(
            f"{path}: {header.frames} frames of {len(header.rest)} vertices are too many to bake",
            "fewer --fps, a shorter animation, or leave --bake out",
        )


class _Glb:
    """Arrays on their way into the one block of bytes of a GLB."""

    def __init__(self) -> None:
        self.views: list[dict[str, Any]] = []
        self.accessors: list[dict[str, Any]] = []
        self.blocks: list[bytes] = []
        self.size = 0

    def _view(self, array: np.ndarray, target: int | None = None) -> int:
        block = np.ascontiguousarray(array).tobytes()
        view = {"buffer": 0, "byteOffset": self.size, "byteLength": len(block)}
        self.views.append(view if target is None else {**view, "target": target})
        block += bytes(-len(block) % 4)
        self.blocks.append(block)
        self.size += len(block)
        return len(self.views) - 1

    def add(self, array: np.ndarray, bounds: bool = False, target: int | None = None) -> int:
        """The accessor of an array (N, 3), (N, 2) or (N,), float32 or uint32."""
        kind: dict[str, Any] = {"componentType": UNSIGNED if array.dtype.kind == "u" else FLOAT, "count": len(array)}
        kind["type"] = f"VEC{array.shape[1]}" if array.ndim == 2 else "SCALAR"
        self.accessors.append({"bufferView": self._view(array, target), **kind, **(_bounds(array) if bounds else {})})
        return len(self.accessors) - 1

    def add_bytes(self, content: bytes) -> int:
        """The view of a file's content."""
        return self._view(np.frombuffer(content, np.uint8))

    def add_target(self, target: np.ndarray) -> int:
        """The accessor of a displacement (V, 3), sparse where few vertices move."""
        target = target.astype(np.float32)
        about = {"componentType": FLOAT, "count": len(target), "type": "VEC3", **_bounds(target)}
        moving = np.flatnonzero(target.any(1))
        if not len(moving):  # an accessor without data is zero
            self.accessors.append(about)
        elif len(moving) > SPARSE * len(target):
            self.accessors.append({"bufferView": self._view(target), **about})
        else:
            sparse = {
                "count": len(moving),
                "indices": {"bufferView": self._view(moving.astype(np.uint32)), "componentType": UNSIGNED},
                "values": {"bufferView": self._view(target[moving])},
            }
            self.accessors.append({**about, "sparse": sparse})
        return len(self.accessors) - 1

    def write(self, path: Path, tree: dict[str, Any]) -> None:
        tree |= {"accessors": self.accessors, "bufferViews": self.views, "buffers": [{"byteLength": self.size}]}
        text = json.dumps(tree).encode()
        text += b" " * (-len(text) % 4)
        with path.open("wb") as file:
            file.write(struct.pack("<3I", MAGIC, 2, 28 + len(text) + self.size))
            file.write(struct.pack("<2I", len(text), JSON_CHUNK) + text)
            file.write(struct.pack("<2I", self.size, BINARY_CHUNK))
            for block in self.blocks:
                file.write(block)


def _bounds(array: np.ndarray) -> dict[str, list[float]]:
    flat = array if array.ndim == 2 else array[:, None]
    return {"min": flat.min(0).tolist(), "max": flat.max(0).tolist()}


class UsdWriter(Writer):
    """USD with ARKit's 52 shapes as UsdSkel blend shapes and their weights over time; with `bake`, points over time."""

    def __init__(self, path: Path, header: Header, bake: bool = False):
        super().__init__(path)
        try:
            from pxr import Usd
        except ImportError:
            raise TalkemoError("USD is not installed", "pip install 'talkemo[usd]'") from None
        _check_writable(path, header, bake)
        self.header, self.bake, self.count = header, bake, 0
        self.partial.unlink(missing_ok=True)
        self.stage: Any = Usd.Stage.CreateNew(str(self.partial))
        try:
            self._define()
        except BaseException:
            self._discard()
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
        mesh.CreateFaceVertexCountsAttr(Vt.IntArray.FromNumpy(np.full(len(header.faces), 3, np.int32)))
        mesh.CreateFaceVertexIndicesAttr(Vt.IntArray.FromNumpy(header.faces.astype(np.int32).ravel()))
        mesh.CreateSubdivisionSchemeAttr(UsdGeom.Tokens.none)
        if header.look is not None and header.look.uv is not None and header.look.uv_faces is not None:
            kind = Sdf.ValueTypeNames.TexCoord2fArray
            st = UsdGeom.PrimvarsAPI(mesh).CreatePrimvar("st", kind, UsdGeom.Tokens.faceVarying)
            st.Set(Vt.Vec2fArray.FromNumpy(np.ascontiguousarray(header.look.uv)))
            st.SetIndices(Vt.IntArray.FromNumpy(header.look.uv_faces.ravel()))
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
            shape.CreateOffsetsAttr(Vt.Vec3fArray.FromNumpy(np.ascontiguousarray(target[moving], np.float32)))
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
        UsdSkel.BindingAPI.Apply(skeleton.GetPrim()).CreateAnimationSourceRel().SetTargets([animation.GetPath()])
        binding.CreateSkeletonRel().SetTargets([skeleton.GetPath()])

    def write(self, chunk: Chunk) -> None:
        from pxr import Vt

        for vertices, weights in zip(chunk.vertices, chunk.arkit):
            if self.bake:
                self.points.Set(Vt.Vec3fArray.FromNumpy(np.ascontiguousarray(vertices, np.float32)), self.count)
            else:
                self.weights.Set(Vt.FloatArray.FromNumpy(np.ascontiguousarray(weights, np.float32)), self.count)
            self.count += 1

    def finish(self) -> None:
        self.stage.GetRootLayer().Save()
        self.abort()

    def abort(self) -> None:
        self.stage = self.points = self.weights = None  # the library writes on until it is let go


class LiveLinkWriter(Writer):
    """ARKit curves as a csv in Live Link Face's layout: time code, 61, 52 weights in [0, 1], nine rotations (none here)."""

    def __init__(self, path: Path, header: Header):
        super().__init__(path)
        self.fps = header.fps
        self.order = [ARKIT_NAMES.index(name) for name in LIVE_LINK_NAMES]
        self.file: IO[str] = self.partial.open("w", newline="", encoding="utf-8")
        self.rows: Any = csv.writer(self.file, lineterminator="\n")
        names = [name[0].upper() + name[1:] for name in LIVE_LINK_NAMES]
        self.rows.writerow(["Timecode", "BlendShapeCount", *names, *ROTATIONS])
        self.count = 0

    def write(self, chunk: Chunk) -> None:
        for weights in chunk.arkit.clip(0, 1):
            values = [f"{weights[k]:.6f}" for k in self.order]
            self.rows.writerow(
                [self._timecode(), len(values) + len(ROTATIONS), *values, *["0.000000"] * len(ROTATIONS)]
            )
            self.count += 1

    def _timecode(self) -> str:
        """Hours, minutes, seconds, frames and thousandths of a frame: HH:MM:SS:FF.mmm."""
        seconds = int(self.count / self.fps + 1e-9)
        frame = max(self.count - seconds * self.fps, 0.0)
        whole = int(frame + 1e-6)
        part = int(round((frame - whole) * 1000, 3))
        return f"{seconds // 3600:02d}:{seconds // 60 % 60:02d}:{seconds % 60:02d}:{whole:02d}.{max(part, 0):03d}"

    def finish(self) -> None:
        self.file.close()

    def abort(self) -> None:
        self.file.close()


class SequenceWriter(Writer):
    """A folder of meshes, one a frame: 000000.obj, 000001.obj, … or ply. It must not be there yet, or be empty.

    Frames of a mesh that was an OBJ are that OBJ with other positions: polygons, groups and materials stay.
    """

    def __init__(self, path: Path, header: Header, form: str = "obj"):
        super().__init__(path)
        if path.exists() and (not path.is_dir() or any(path.iterdir())):
            raise InputError(
                f"{path} is there already, and not an empty folder", "choose another name for the sequence"
            )
        self.form, self.faces, self.count = form, header.faces, 0
        self.look = header.look if header.look and header.look.text else None
        shutil.rmtree(self.partial, ignore_errors=True)
        self.partial.mkdir()

    def write(self, chunk: Chunk) -> None:
        for vertices in chunk.vertices:
            path = self.partial / f"{self.count:06d}.{self.form}"
            if self.form == "ply":
                save_ply(path, vertices, self.faces)
            elif self.look:
                path.write_text(obj_text(self.look, vertices), "utf-8")
            else:
                save_obj(path, vertices, self.faces)
            self.count += 1

    def finish(self) -> None:
        if self.look and self.form == "obj":
            for name, source in self.look.companions.items():
                place = (self.partial / name.replace("\\", "/")).resolve()
                if place.is_relative_to(self.partial.resolve()):
                    place.parent.mkdir(parents=True, exist_ok=True)
                    shutil.copyfile(source, place)
        if self.path.is_dir():
            self.path.rmdir()

    def _discard(self) -> None:
        shutil.rmtree(self.partial, ignore_errors=True)
