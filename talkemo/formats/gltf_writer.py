"""Writing GLB files with morph targets (glTF 2.0), which Blender, Unity and Unreal open."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from .. import __version__
from ..face.canonical import ARKIT_NAMES
from .animation import FileWriter, Frames, Header, check_blend_shapes
from .gltf_builder import GlbBuilder
from .gltf_paint import Paint, paint_of
from .gltf_reader import ALL_TRIANGLES, MESH_SPACE, OWN_HIDDEN, OWN_TRIANGLES, OWN_VERTICES
from .gltf_scene import PART_TRIANGLES
from .gltf_surface import (
    Surface,
    skin_attributes,
    surface_attributes,
    surface_of_mesh,
    surface_of_part,
)
from .gltf_tree import EYE_ROUGHNESS, SKIN_ROUGHNESS, Materials, SceneTree, mesh_space
from .groups import vertex_groups, visible_triangles
from .head_nodes import EYE_NODES, MIN_RIGID_SHARE, HeadNodes
from .target_sets import Residual, points_without_weights, target_sets
from .texture_atlas import as_png

EYEBALLS = dict(zip(EYE_NODES, ("eyeball_right", "eyeball_left")))
GAZE_COLUMNS = [k for k, name in enumerate(ARKIT_NAMES) if name.startswith("eyeLook")]
ADDED_EYES = "eyes"  # name of the added part of both eyeballs


class GlbWriter(FileWriter):
    """Writes a GLB with ARKit's 52 shapes as morph targets and their weights as an animation.

    If the header has the mesh's own shapes, these are written instead, or in front of ARKit's with
    an animation for each of the two. `metrics` then contains the residual of each: the mean
    distance of the face's vertices from where they should be, in units of the mesh. If `bake`, each
    frame is a morph target of its own, and the animation is exact.

    Vertices are converted to metres, with y up and the face along +z. Rotations of head and eyes
    are stored as nodes; that of the head moves the mesh, see `head_nodes`. If the eyes move,
    eyeballs are meshes of their own below their nodes. They have the same morph targets, but no
    weights of gaze, so that nothing turns them twice.

    What the mesh lacks (`Header.added_meshes`) becomes meshes of their own, with the same morph
    targets and weights. Their nodes are marked, so that talkemo does not take them for the user's.
    """

    def __init__(self, path: Path, header: Header, bake: bool = False):
        check_blend_shapes(path, header, bake)
        super().__init__(path)
        self.header, self.bake = header, bake
        self.head_nodes = HeadNodes(
            header.turner_of_nodes(bake), header.upright, header.unit.metres
        )
        self.to_file = header.unit.metres * header.upright  # (3, 3), vertices @ to_file
        self.sets = [] if bake else target_sets(header)
        self.residuals = [Residual(header, shapes) for shapes in self.sets]
        self.added = header.added_meshes()
        self.baked: list[np.ndarray] = []
        self.baked_added: list[np.ndarray] = []
        self.weights: list[list[np.ndarray]] = [[] for _ in self.sets]

    def write(self, frames: Frames) -> None:
        self.head_nodes.write(frames)
        if self.bake:
            self.baked.append(frames.vertices - self.header.rest)
            if self.added is not None:
                if self.head_nodes.moves_eyes:  # nodes turn the eyeballs
                    frames = replace(frames, gaze=None)
                self.baked_added.append(self.added.frames(frames) - self.added.vertices.points)
            return
        for shapes, residual, chunks in zip(self.sets, self.residuals, self.weights):
            weights = shapes.weights(frames)
            residual.add(frames, weights)
            chunks.append(weights)

    def finish(self) -> None:
        if self.bake:
            targets = np.concatenate(self.baked)
            animations = {"baked": np.eye(len(targets), dtype=np.float32)}
            names = [f"frame{k:05d}" for k in range(len(targets))]
        else:
            targets = np.concatenate([shapes.targets for shapes in self.sets])
            animations = self._animations()
            names = [name for shapes in self.sets for name in shapes.names]
            for residual in self.residuals:
                self.metrics |= residual.metrics
        added_eyes = self._added_eyeballs()
        own_eyes = self._own_eyeballs()
        self.head_nodes.centres = {
            name: ball.centre for name, ball in (own_eyes | added_eyes).items()
        }
        frames = len(next(iter(animations.values())))
        file = _File(self.to_file, names, self._at_rest(names), np.arange(frames) / self.header.fps)
        file.scene.add_face(animations)
        file.scene.add_head(self.head_nodes)
        if self.head_nodes.moves_eyes and not self.bake:
            file.eye_sampler = file.scene.add_weights(
                {kind: self._without_gaze(weights) for kind, weights in animations.items()}
            )
        self._add_face(file, targets, own_eyes)
        self._add_added_meshes(file, added_eyes)
        meta = self.header.meta
        extras = {**meta, MESH_SPACE: mesh_space(self.header, self.to_file)}
        file.write(self.partial.path, extras, str(meta.get("emotion", "talkemo")))

    def _animations(self) -> dict[str, np.ndarray]:
        """The weights (T, K) of all targets for each kind; those of the other kind are at rest."""
        at_rest = np.concatenate([shapes.at_rest for shapes in self.sets]).astype(np.float32)
        result, first = {}, 0
        for shapes, chunks in zip(self.sets, self.weights):
            weights = np.concatenate(chunks).astype(np.float32)
            every = np.tile(at_rest, (len(weights), 1))
            every[:, first : first + len(shapes.names)] = weights
            result[shapes.kind] = every
            first += len(shapes.names)
        return result

    def _without_gaze(self, weights: np.ndarray) -> np.ndarray:
        """Weights (T, K) whose shapes that turn the eyes are at rest."""
        recipes = np.concatenate([shapes.recipes for shapes in self.sets])
        at_rest = np.concatenate([shapes.at_rest for shapes in self.sets])
        turns = recipes[:, GAZE_COLUMNS].any(1)
        return np.where(turns, at_rest, weights).astype(np.float32)

    def _at_rest(self, names: list[str]) -> list[float]:
        """The weights of all targets in the mesh at rest."""
        if self.bake:
            return [0.0] * len(names)
        return [float(weight) for shapes in self.sets for weight in shapes.at_rest]

    # -------------------------------------------------------------------------------------- meshes

    def _own_eyeballs(self) -> dict[str, _Eyeball]:
        """The mesh's own eyeballs that nodes turn, by the name of the node."""
        turn, balls = self.head_nodes.turn, {}
        if turn is None or not self.head_nodes.moves_eyes:
            return {}
        for rows, centre in turn.eyes:
            if turn.share[rows].min() >= MIN_RIGID_SHARE:
                balls[self.head_nodes.eye_node(centre)] = _Eyeball(rows, np.asarray(centre))
        return balls

    def _added_eyeballs(self) -> dict[str, _Eyeball]:
        """The added eyeballs that nodes turn, by the name of the node."""
        if self.added is None or not self.head_nodes.moves_eyes:
            return {}
        every = np.arange(len(self.added.vertices.points))
        return {
            self.head_nodes.eye_node(centre): _Eyeball(every[rows], np.asarray(centre))
            for rows, centre in self.added.vertices.balls
        }

    def _add_face(self, file: _File, targets: np.ndarray, eyeballs: dict[str, _Eyeball]) -> None:
        """Add the mesh with morph targets (K, N, 3), and its own eyeballs."""
        header = self.header
        rest = (points_without_weights(header, self.sets) @ self.to_file).astype(np.float32)
        paint = paint_of(header)
        surface = surface_of_mesh(header, rest, paint)
        visible = visible_triangles(header.faces, header.attributes, len(rest))
        if paint is not None:
            visible &= paint.drawn
        shown = visible.copy()
        for ball in eyeballs.values():
            shown &= ~ball.has(header.faces)
        material = self._skin_material(file, surface, paint)
        primitive = file.primitive(surface, shown, targets, material)
        if surface.uv:
            numbers = file.glb.add_vertices(surface.origin.astype(np.float32))
            primitive["attributes"]["_VERTEX"] = numbers
        if self.head_nodes.moves_head and self.head_nodes.shares is not None:
            shares = self.head_nodes.shares[surface.origin]
            primitive["attributes"] |= skin_attributes(file.glb, shares)
        extras: dict[str, int] = {}
        if not shown.all():
            # Other programs draw the triangles above only, and the eyeballs below.
            extras[ALL_TRIANGLES] = file.glb.add_triangles(surface.faces)
        if header.own is not None:
            extras |= _own_mesh(file, header.own)
        if (shown != visible).any():
            parts = file.glb.add_triangles(surface.faces[visible & ~shown])
            extras[PART_TRIANGLES] = parts
        if extras:
            primitive["extras"] = extras
        file.add_mesh("face", primitive)
        for eye, ball in eyeballs.items():
            triangles = visible & ball.has(header.faces)
            if not triangles.any():
                continue
            part = surface.part(triangles)
            image = None if paint is None else paint.image_of(triangles)
            number = material
            if image is not None:
                uv = np.zeros((len(part.points), 2), np.float32)
                uv[part.faces] = image[0]
                part = replace(part, uv=(uv,), colours=None)
                number = file.materials.add_textured("eyes", image[1], EYE_ROUGHNESS)
            self._add_eyeball(file, eye, part, targets, number)

    def _add_eyeball(
        self, file: _File, eye: str, ball: Surface, targets: np.ndarray, material: int
    ) -> None:
        """Add an eyeball below the node `eye`."""
        mesh = file.add_mesh(EYEBALLS[eye], file.primitive(ball, None, targets, material))
        file.scene.add_part(EYEBALLS[eye], mesh, eye, file.eye_sampler)

    def _skin_material(self, file: _File, surface: Surface, paint: Paint | None) -> int:
        """Return the number of a new material for the mesh."""
        attributes = self.header.attributes
        if attributes is not None and attributes.texture is not None and attributes.uv is not None:
            cut = attributes.has_opacity
            return file.materials.add_textured(
                "skin", attributes.texture, SKIN_ROUGHNESS, is_cut=cut
            )
        if paint is not None and paint.texture is not None and surface.colours is None:
            content, last = as_png(paint.texture), len(surface.uv) - 1
            return file.materials.add_textured("skin", content, SKIN_ROUGHNESS, last)
        return file.materials.add_plain_skin(surface.colours is not None)

    def _add_added_meshes(self, file: _File, eyeballs: dict[str, _Eyeball]) -> None:
        """Add the meshes of added parts, with morph targets of the same names as the face's."""
        if self.added is None:
            return
        if self.bake:
            targets = np.concatenate(self.baked_added)
        else:
            recipes = np.concatenate([shapes.recipes for shapes in self.sets])
            targets = np.tensordot(recipes.astype(np.float32), self.added.targets(), 1)
        points = self.added.vertices.points @ self.to_file
        for part in self.added.meshes:
            surface = surface_of_part(part, points[part.rows])
            material = file.materials.add_part(part)
            if part.name == ADDED_EYES and eyeballs:
                for eye, ball in eyeballs.items():
                    half = surface.part(ball.has(part.rows[part.faces]))
                    self._add_eyeball(file, eye, half, targets, material)
                continue
            mesh = file.add_mesh(part.name, file.primitive(surface, None, targets, material))
            file.scene.add_part(part.name, mesh)


def _own_mesh(file: _File, own: Header) -> dict[str, int]:
    """Extras by which talkemo reads a mesh again whose lips the file cuts."""
    count = len(own.rest)
    extras = {OWN_TRIANGLES: file.glb.add_triangles(own.faces), OWN_VERTICES: count}
    hidden = np.flatnonzero(vertex_groups(own.attributes, count) == "hidden")
    if len(hidden):
        extras[OWN_HIDDEN] = file.glb.add(hidden.astype(np.uint32))
    return extras


@dataclass(frozen=True, eq=False)
class _Eyeball:
    """An eyeball that a node turns."""

    rows: np.ndarray  # (E,), its vertices
    centre: np.ndarray  # (3,)

    def has(self, faces: np.ndarray) -> np.ndarray:
        """Return which triangles (F, 3) are its own, (F,) bool."""
        return np.asarray(np.isin(faces, self.rows).all(1))


class _File:
    """The parts of a file while they are collected.

    Parameters
    ----------
    to_file : (3, 3)
        Turns displacements of the mesh into those of the file.
    names : list of str
        Of the morph targets.
    at_rest : list of float
        Their weights in the mesh at rest.
    times : (T,)
        Of the frames in s.
    """

    def __init__(
        self, to_file: np.ndarray, names: list[str], at_rest: list[float], times: np.ndarray
    ):
        self.to_file, self.names, self.at_rest = to_file, names, at_rest
        self.glb = GlbBuilder()
        self.materials, self.scene = Materials(self.glb), SceneTree(self.glb, times)
        self.meshes: list[dict[str, Any]] = []
        self.eye_sampler = 0  # of the weights of eyeballs that nodes turn

    def primitive(
        self,
        surface: Surface,
        shown: np.ndarray | None,
        targets: np.ndarray,
        material: int,
    ) -> dict[str, Any]:
        """Return a primitive that shows some triangles (F,) bool, or all of a surface.

        `targets` (K, ·, 3) are the displacements that `surface.origin` refers to.
        """
        faces = surface.faces if shown is None else surface.faces[shown]
        return {
            "attributes": surface_attributes(self.glb, surface),
            "indices": self.glb.add_triangles(faces),
            "material": material,
            "targets": [
                {"POSITION": self.glb.add_target(target[surface.origin] @ self.to_file)}
                for target in targets
            ],
        }

    def add_mesh(self, name: str, primitive: dict[str, Any]) -> int:
        """Return the number of a new mesh of a primitive."""
        mesh = {
            "name": name,
            "primitives": [primitive],
            "weights": self.at_rest,
            "extras": {"targetNames": self.names},
        }
        self.meshes.append(mesh)
        return len(self.meshes) - 1

    def write(self, path: Path, extras: dict[str, Any], animation: str) -> None:
        """Write the file, with its extras and the name of its animation."""
        scene = self.scene
        asset = {"version": "2.0", "generator": f"talkemo {__version__}", "extras": extras}
        tree = {
            **self.materials.tree,
            "asset": asset,
            "scene": 0,
            "scenes": [{"nodes": scene.roots}],
            "nodes": scene.nodes,
            "meshes": self.meshes,
            **({"skins": scene.skins} if scene.skins else {}),
            "animations": scene.animations(animation),
        }
        self.glb.write(path, tree)
