"""USD with UsdSkel blend shapes, for Omniverse, Houdini, Maya and Unreal; needs `talkemo[usd]`."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from .animation import Frames, Header, check_blend_shapes
from .appearance import AddedMesh
from .groups import visible_triangles
from .head_nodes import BODY_NODE, HEAD_NODE, HeadNodes
from .mesh_types import image_type
from .target_sets import Residual, points_without_weights, target_sets
from .usd_materials import define_textured
from .usd_parts import define_part
from .usd_stage import (
    IMAGE_ENDINGS,
    ROOT,
    StageFile,
    StageWriter,
    define_blend_shapes,
    define_root,
    define_triangles,
    floats,
    integers,
    vectors,
)

# Joints of the skeleton; a joint's path contains the joints above it.
SKELETON = f"{ROOT}/skeleton"
JOINTS = [BODY_NODE, f"{BODY_NODE}/{HEAD_NODE}"]
ANIMATION = f"{ROOT}/animation"  # the one that the skeleton plays


class UsdWriter(StageWriter):
    """Writes ARKit's 52 shapes as UsdSkel blend shapes with animated weights, or the mesh's own.

    If both are written, the skeleton plays the mesh's own, and `/face/animation_arkit` lies beside.

    If `bake`, the points of each frame are stored instead, rotated with the head. Otherwise the
    head is a joint of the skeleton. Rotations of head and eyes are also stored as the transform
    `/head`, with the eyes below it, for objects that should follow them.

    The mesh keeps its unit, which `metersPerUnit` names, and its axes if y or z is up. USD knows no
    other axis; a mesh with another one is rotated so that y is up.

    What the mesh lacks (`Header.added_meshes`) becomes meshes beside it, which move with it.
    """

    def __init__(self, path: Path, header: Header, bake: bool = False):
        from pxr import UsdSkel

        check_blend_shapes(path, header, bake)
        super().__init__(path)
        self.header, self.bake, self.count = header, bake, 0
        self.up_axis = "Z" if header.upright[2, 1] > 0.5 else "Y"
        upright = np.eye(3) if self.up_axis == "Z" or header.upright[1, 1] > 0.5 else header.upright
        self.upright: np.ndarray = upright  # (3, 3), vertices @ upright
        self.visible = visible_triangles(header.faces, header.attributes, len(header.rest))
        self.head_nodes = HeadNodes(header.turner_of_nodes(bake), upright)
        self.sets = [] if bake else target_sets(header)
        self.names = [name for shapes in self.sets for name in shapes.names]
        self.residuals = [Residual(header, shapes) for shapes in self.sets]
        self.weights: list[Any] = []  # attribute of the weights of each set
        self.added = header.added_meshes()
        self.added_points: list[Any] = []  # attribute of each added mesh
        self.images: dict[str, bytes] = {}  # by the names of their files
        self.file = StageFile(self.partial.path)
        self.stage: Any = self.file.stage
        try:
            define_root(self.stage, header, UsdSkel.Root, self.up_axis)
            mesh = self._define_mesh()
            self.points = mesh.GetPointsAttr()
            if self.sets:
                self._define_animation()
                self._define_blend_shapes(mesh, np.concatenate([s.targets for s in self.sets]))
            if self.added is not None:
                targets = self._targets_of_parts()
                for part in self.added.meshes:
                    self._define_part(part, targets)
        except BaseException:
            self.close()
            self.partial.discard()
            raise

    def _define_mesh(self) -> Any:
        """Define the mesh at rest, with its texture coordinates."""
        from pxr import Sdf, UsdGeom, Vt

        header = self.header
        mesh = UsdGeom.Mesh.Define(self.stage, f"{ROOT}/mesh")
        mesh.CreatePointsAttr(vectors(points_without_weights(header, self.sets) @ self.upright))
        define_triangles(mesh, header.faces[self.visible])
        attributes = header.attributes
        if attributes and attributes.uv is not None and attributes.uv_faces is not None:
            kind = Sdf.ValueTypeNames.TexCoord2fArray
            st = UsdGeom.PrimvarsAPI(mesh).CreatePrimvar("st", kind, UsdGeom.Tokens.faceVarying)
            st.Set(Vt.Vec2fArray.FromNumpy(np.ascontiguousarray(attributes.uv)))
            st.SetIndices(integers(attributes.uv_faces[self.visible].ravel()))
            if attributes.texture is not None:
                self._define_texture(mesh, attributes.texture)
        return mesh

    def _define_texture(self, mesh: Any, content: bytes) -> None:
        """Give the mesh a material that shows its texture, a PNG or JPEG."""
        from pxr import UsdShade

        name = self.image_name(0, IMAGE_ENDINGS[str(image_type(content))])
        self.images[name] = content
        material = define_textured(self.stage, f"{ROOT}/materials/skin", name)
        UsdShade.MaterialBindingAPI.Apply(mesh.GetPrim()).Bind(material)

    def _define_part(self, part: AddedMesh, targets: np.ndarray | None) -> None:
        """Define an added mesh with a plain material, and its blend shapes unless they are None."""
        assert self.added is not None
        points = self.added.vertices.points[part.rows] @ self.upright
        image = self.part_image(part.texture, self.images)
        mesh = define_part(self.stage, ROOT, part, points, image)
        self.added_points.append(mesh.GetPointsAttr())
        if targets is not None:
            self._define_blend_shapes(mesh, targets[:, part.rows])

    def _define_blend_shapes(self, mesh: Any, targets: np.ndarray) -> None:
        """Define the shapes of a mesh, the displacements (K, V, 3) of its points."""
        from pxr import UsdSkel

        upright = (target @ self.upright for target in targets)
        define_blend_shapes(mesh, self.names, self.names, upright)
        UsdSkel.BindingAPI(mesh.GetPrim()).CreateSkeletonRel().SetTargets([SKELETON])

    def _define_animation(self) -> None:
        """Define the animation of the weights of ARKit's shapes.

        USD animates blend shapes only as part of a skeleton's animation.
        """
        from pxr import Gf, UsdSkel

        skeleton = UsdSkel.Skeleton.Define(self.stage, SKELETON)
        pivot = self.head_nodes.positions.get(HEAD_NODE, np.zeros(3))
        joints = [Gf.Matrix4d(1), Gf.Matrix4d(1).SetTranslate(Gf.Vec3d(*pivot.tolist()))]
        skeleton.CreateJointsAttr(JOINTS)
        skeleton.CreateBindTransformsAttr(joints)
        skeleton.CreateRestTransformsAttr(joints)
        for shapes in self.sets:
            path = ANIMATION if shapes is self.sets[0] else f"{ANIMATION}_{shapes.kind}"
            animation = UsdSkel.Animation.Define(self.stage, path)
            animation.CreateBlendShapesAttr(list(shapes.names))
            self.weights.append(animation.CreateBlendShapeWeightsAttr())
        source = UsdSkel.BindingAPI.Apply(skeleton.GetPrim()).CreateAnimationSourceRel()
        source.SetTargets([ANIMATION])

    def _targets_of_parts(self) -> np.ndarray | None:
        """Displacements (K, A, 3) of the added vertices by all shapes; None without shapes."""
        if not self.sets or self.added is None:
            return None
        recipes = np.concatenate([shapes.recipes for shapes in self.sets])
        return np.tensordot(recipes.astype(np.float32), self.added.targets(), 1)

    def write(self, frames: Frames) -> None:
        self.head_nodes.write(frames)
        courses = [np.asarray(shapes.weights(frames), np.float32) for shapes in self.sets]
        for residual, weights in zip(self.residuals, courses):
            residual.add(frames, weights)
        for k in range(len(frames.vertices)):
            if self.bake:
                vertices = frames.turned(k, self.header.turn)
                self.points.Set(vectors(vertices @ self.upright), self.count)
                self._write_parts(vertices, None if frames.gaze is None else frames.gaze[k])
            for attribute, weights in zip(self.weights, courses):
                attribute.Set(floats(weights[k]), self.count)
            self.count += 1

    def _write_parts(self, vertices: np.ndarray, gaze: np.ndarray | None) -> None:
        """Write the points of the added meshes for a frame of the mesh (N, 3)."""
        if self.added is None:
            return
        self.added.vertices.gaze = gaze
        points = self.added.vertices(vertices) @ self.upright
        for part, attribute in zip(self.added.meshes, self.added_points):
            attribute.Set(vectors(points[part.rows]), self.count)

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
        from pxr import Gf, UsdSkel

        nodes = self.head_nodes
        count = len(self.header.rest)
        shares = np.ones(count, np.float32) if nodes.shares is None else nodes.shares
        self._share_joints("mesh", shares)
        for part in self.added.meshes if self.added is not None else ():
            self._share_joints(part.name, np.ones(len(part.rows), np.float32))
        animation = UsdSkel.Animation(self.stage.GetPrimAtPath(ANIMATION))
        animation.CreateJointsAttr(JOINTS[1:])
        animation.CreateTranslationsAttr([Gf.Vec3f(*nodes.positions[HEAD_NODE].tolist())])
        animation.CreateScalesAttr([Gf.Vec3h(1, 1, 1)])
        rotations = animation.CreateRotationsAttr()
        for frame, (x, y, z, w) in enumerate(nodes.quaternions()[HEAD_NODE].tolist()):
            rotations.Set([Gf.Quatf(w, x, y, z)], frame)

    def _share_joints(self, name: str, shares: np.ndarray) -> None:
        """Let the points of a mesh follow the joint of the head by shares (V,)."""
        from pxr import UsdSkel

        binding = UsdSkel.BindingAPI(self.stage.GetPrimAtPath(f"{ROOT}/{name}"))
        joints = np.tile(np.arange(2, dtype=np.int32), len(shares))
        weights = np.stack([1 - shares, shares], axis=1).astype(np.float32)
        binding.CreateJointIndicesPrimvar(False, 2).Set(integers(joints))
        binding.CreateJointWeightsPrimvar(False, 2).Set(floats(weights.ravel()))

    def finish(self) -> None:
        for residual in self.residuals:
            self.metrics |= residual.metrics
        self._write_head_nodes()
        if self.head_nodes.moves_head and not self.bake:
            self._let_head_move_mesh()
        self.save(self.file, self.images)
        self.close()

    def close(self) -> None:
        self.stage = self.points = None
        self.weights = []  # USD writes until these are released
        self.added_points = []
        self.file.close()
