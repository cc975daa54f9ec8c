"""Writing a character back: the glTF that a mesh was read from, with what makes it speak.

Everything that was in the file stays: the JSON tree with extensions and extras that nobody knows,
and the bytes of its buffers. Morph targets, turning joints and what the face lacks are added behind,
and an animation in front, since players show the first.
"""

from __future__ import annotations

import copy
from dataclasses import replace
from itertools import chain, count
from pathlib import Path
from typing import Any

import numpy as np

from .. import __version__
from ..errors import InputError
from ..face.canonical import ARKIT_NAMES
from ..files.reading import printable, reading_errors
from .animation import FileWriter, Frames, Header, check_blend_shapes
from .appearance import AddedMesh
from .gltf_append import add_vrm_materials, appended_arrays, check_as_vrm, embed_images
from .gltf_arrays import ExtendedGlb, WithDataFile
from .gltf_file import DRACO, GltfFile
from .gltf_head_tracks import HeadTracks, add_root
from .gltf_joints import Joints
from .gltf_origin import GltfOrigin
from .gltf_parts import GroupWriter, Part, grouped, own_mesh, parts_of
from .gltf_reader import MESH_SPACE
from .gltf_rig import NodeTree, humanoid_bones
from .gltf_scene import ADDED_PART, is_added_part, read_surfaces, world_matrices
from .gltf_shapes import given_names, target_names
from .gltf_surface import surface_attributes, surface_of_part
from .gltf_tree import AnimationTracks, Materials, mesh_space
from .gltf_writer import GlbWriter
from .head_nodes import HeadNodes
from .target_sets import ARKIT_SUFFIX, Residual, target_sets

WRITTEN_BACK = ("a glTF that can be written back", "export it again")  # see `reading_errors`
POINTER = "KHR_animation_pointer"
MIN_MOTION_M = 1e-5  # of a vertex by a morph target; a mesh that moves less gets none
MIN_EYE_MOTION_M = 1e-4  # of an eyeball that a shape of the gaze turns
LOOK_SHAPES = tuple(k for k, name in enumerate(ARKIT_NAMES) if name.startswith("eyeLook"))


def gltf_writer(path: Path, header: Header, bake: bool = False) -> FileWriter:
    """Return the writer of a glb, gltf or vrm: of the mesh's own file, if it is a glTF.

    Raises InputError for a VRM that is not made of one.
    """
    origin, ending = header.origin, path.suffix.lower()
    if isinstance(origin, GltfOrigin) and not bake and origin.is_of(len(header.rest)):
        writer = CharacterGltfWriter if ending == ".gltf" else CharacterWriter
        return writer(path, header, origin)
    if ending == ".vrm":
        raise InputError(
            f"{printable(path)}: a .vrm can only be made of a .vrm" + ", without --bake" * bake,
            "write a .glb instead",
        )
    return (GltfWriter if ending == ".gltf" else GlbWriter)(path, header, bake)


class GltfWriter(WithDataFile, GlbWriter):
    """Writes what `GlbWriter` does as a gltf."""


class CharacterWriter(FileWriter):
    """Writes the glTF that a mesh was read from, with its animation.

    Added are ARKit's 52 shapes as morph targets of every mesh that they move, an animation of the
    weights named after the audio, and rotations of head, neck and eyes: of the skeleton's joints
    if it has them, else as `HeadTracks` does without. Where the mesh's own shapes are driven
    (`Header.own_shapes`), the animation contains their weights; if ARKit's are written as well,
    each kind has an animation of its own.

    What the mesh lacks becomes meshes of their own below the head's node, marked as talkemo's.

    `metrics` contains ARKit's residual, as that of `GlbWriter`.
    """

    def __init__(self, path: Path, header: Header, origin: GltfOrigin):
        check_blend_shapes(path, header, bake=False)
        self.header = header
        self.head_nodes = HeadNodes(header.turner_of_nodes(bake=False))
        self.origin = origin
        with reading_errors(origin.path, *WRITTEN_BACK):
            self.file = origin.open()
            if path.suffix.lower() == ".vrm":
                check_as_vrm(path, self.file, humanoid_bones(self.file.tree))
            self.tree = copy.deepcopy(self.file.tree)
            self.arrays = appended_arrays(self.file, self.tree)
            embed_images(self.file, self.tree, self.arrays, path)
            self.parts = parts_of(origin, read_surfaces(self.file, every_target=False))
            nodes = self.file.tree["nodes"]
            self.nodes = NodeTree(nodes, world_matrices(nodes))
            self.joints = Joints(self.file, self.nodes, self.parts)
            self.rig = self.joints.rig(header.focus, self.head_nodes.turn)
        super().__init__(path)
        self.sets = {shapes.kind: shapes for shapes in target_sets(header)}
        self.residuals = [Residual(header, shapes) for shapes in self.sets.values()]
        self.targets = self.sets["arkit"].targets if "arkit" in self.sets else None
        if self._own_shapes_turn_eyes():
            self.rig = replace(self.rig, eyes=())
        parts = enumerate(self.nodes.nodes)
        self.present = [number for number, node in parts if _is_driven_part(node, self.file)]
        self.added = None if self.present else header.added_meshes()
        self.weights: list[np.ndarray] = []  # of ARKit's shapes
        self.own_weights: list[np.ndarray] = []

    def write(self, frames: Frames) -> None:
        self.head_nodes.write(frames)
        self.weights.append(frames.arkit)
        for residual, shapes in zip(self.residuals, self.sets.values()):
            weights = shapes.weights(frames)
            residual.add(frames, weights)
            if shapes.kind == "own":
                self.own_weights.append(weights)

    def finish(self) -> None:
        for residual in self.residuals:
            self.metrics |= residual.metrics
        with reading_errors(self.file.path, *WRITTEN_BACK):
            self._extend_tree()
        self.arrays.write(self.partial.path, self.tree)

    def _extend_tree(self) -> None:
        """Add everything to the file's tree and arrays."""
        arkit = np.concatenate(self.weights).astype(np.float32)
        moved = self._add_targets()
        for node, before in moved.items():
            self._extend_animations(node, before)
        metres = self.header.unit.metres
        head = HeadTracks(self.tree, self.nodes, self.rig, self.parts, self.head_nodes, metres)
        head.build(self.arrays, self.added is not None)
        columns = np.arange(len(ARKIT_NAMES))
        added = dict.fromkeys(self._added_nodes(head.head), (columns, arkit))
        new = []
        if self.targets is not None:  # first, for `own_animation`
            curves = {node: (first + columns, arkit) for node, first in moved.items()}
            new.append(self._animation("", {**curves, **added}, head))
        if self.own_weights:
            suffix = " own shapes" if self.targets is not None else ""
            new.append(self._animation(suffix, {**self._own_curves(), **added}, head))
        # Players show the first animation.
        self.tree["animations"] = [*new, *self.tree.get("animations", [])]
        self._forget_draco()

    def _own_shapes_turn_eyes(self) -> bool:
        """Whether shapes of the mesh's own turn the eyeballs, which joints would turn once more."""
        own = self.sets.get("own")
        look = [] if own is None else [k for k, n in enumerate(own.names) if "look" in n.lower()]
        if own is None or not look or not self.rig.eyes:
            return False
        moved = np.abs(own.targets[look][:, self.joints.moved_by(self.rig.eyes)]).max(initial=0.0)
        return bool(moved * self.header.unit.metres > MIN_EYE_MOTION_M)

    # ------------------------------------------------------------------------------------- targets

    def _add_targets(self) -> dict[int, int]:
        """Add the targets to all meshes that move.

        Returns the number of the first one of each node.
        """
        if self.targets is None:
            return {}
        if self.rig.eyes and len(self.head_nodes.rotations()[1]):
            # The joints turn the eyeballs, so the shapes of the gaze move the lids only.
            rows, turner = self.joints.moved_by(self.rig.eyes), self.head_nodes.turn
            balls = [vertices for vertices, _ in turner.eyes] if turner is not None else []
            rows = np.intersect1d(rows, np.concatenate([*balls, np.zeros(0, int)]).astype(int))
            self.targets[np.ix_(np.array(LOOK_SHAPES), rows)] = 0
        moves = np.abs(self.targets).max((0, 2)) * self.header.unit.metres > MIN_MOTION_M
        first = {}
        for node in sorted({part.surface.node for part in self.parts}):
            parts = [part for part in self.parts if part.surface.node == node]
            if any(moves[part.rows].any() for part in parts):
                first[node] = self._add_targets_to(node, parts)
        return first

    def _add_targets_to(self, node: int, parts: list[Part]) -> int:
        """Add the targets to the mesh of a node; return the number of its targets before."""
        mesh = own_mesh(self.tree, node)
        primitives = mesh["primitives"]
        before = max(len(primitive.get("targets", [])) for primitive in primitives)
        for group in grouped(parts):
            writer = GroupWriter(self.file, self.arrays, group, primitives)
            writer.write(self.targets, self.header.rest, self.header.faces)
        for primitive in primitives:  # points and lines, which need as many
            targets = primitive.setdefault("targets", [])
            count = self.tree["accessors"][primitive["attributes"]["POSITION"]]["count"]
            missing = before + len(ARKIT_NAMES) - len(targets)
            targets += [{"POSITION": self.arrays.zeros(count)} for _ in range(missing)]
        new = [0.0] * len(ARKIT_NAMES)
        mesh["weights"] = [*(mesh.get("weights") or [0.0] * before), *new]
        if self.tree["nodes"][node].get("weights"):
            self.tree["nodes"][node]["weights"] += new
        self._add_names(node, mesh, before)
        return before

    def _extend_animations(self, node: int, before: int) -> None:
        """Give the file's animations of a node's weights, of `before` targets, zeros for the new."""
        if not before:
            return
        mesh = self.tree["nodes"][node]["mesh"]
        pointers = (f"/nodes/{node}/weights", f"/meshes/{mesh}/weights")
        for animation in self.tree.get("animations", []):
            for channel in animation["channels"]:
                target = channel["target"]
                pointer = target.get("extensions", {}).get(POINTER, {}).get("pointer")
                is_own = target.get("node") == node and target.get("path") == "weights"
                if not is_own and pointer not in pointers:
                    continue
                sampler = dict(animation["samplers"][channel["sampler"]])
                weights = self.file.accessor(sampler["output"]).astype(np.float32)
                if weights.size % before:
                    raise ValueError("an animation has not as many weights as morph targets")
                weights = weights.reshape(-1, before)
                every = np.pad(weights, ((0, 0), (0, len(ARKIT_NAMES))))
                sampler["output"] = self.arrays.add(every.ravel())
                channel["sampler"] = len(animation["samplers"])
                animation["samplers"].append(sampler)

    def _add_names(self, node: int, mesh: dict[str, Any], before: int) -> None:
        """Name the targets after the first `before` of a node's mesh, wherever names are kept."""
        names = given_names(mesh, before)
        if names is None:
            names = target_names(self.file, self.nodes.nodes[node]["mesh"])
        added = [_free_name(name, names) for name in ARKIT_NAMES]
        mesh["extras"] = {**_object(mesh.get("extras")), "targetNames": [*names, *added]}
        for primitive in mesh["primitives"]:
            if _object(primitive.get("extras")).get("targetNames"):
                primitive["extras"]["targetNames"] = [*names, *added]

    def _forget_draco(self) -> None:
        """Drop the extension from the lists if nothing is compressed by it any more."""
        for mesh in self.tree["meshes"]:
            if any(DRACO in item.get("extensions", {}) for item in mesh["primitives"]):
                return
        for name in ("extensionsUsed", "extensionsRequired"):
            kept = [extension for extension in self.tree.get(name, []) if extension != DRACO]
            if len(kept) < len(self.tree.get(name, [])):
                self.tree[name] = kept
                if not kept:
                    del self.tree[name]

    # ----------------------------------------------------------------------------------- animation

    def _added_nodes(self, head: int | None) -> list[int]:
        """Add what the mesh lacks below the head's node, and return its nodes.

        Those of a file that talkemo wrote before are used again.
        """
        added = self.added
        if added is None:
            return self.present
        matrix = np.eye(4) if head is None else self._matrix_of(head)
        inverse = np.linalg.inv(matrix)
        points = added.vertices.points @ inverse[:3, :3].T + inverse[:3, 3]
        targets = added.targets() @ inverse[:3, :3].T
        if np.linalg.det(matrix[:3, :3]) < 0:
            flipped = [replace(part, faces=part.faces[:, ::-1]) for part in added.meshes]
            added = replace(added, meshes=flipped)
        materials = Materials(self.arrays)
        materials.tree = self.tree
        add_vrm_materials(self.tree, [part.name for part in added.meshes])
        result = []
        for part in added.meshes:
            rows = part.rows
            mesh = _part_mesh(self.arrays, part, points[rows], targets[:, rows])
            mesh["primitives"][0]["material"] = materials.add_part(part)
            self.tree["meshes"].append(mesh)
            node = {"name": part.name, "mesh": len(self.tree["meshes"]) - 1}
            self.tree["nodes"].append({**node, "extras": {ADDED_PART: True}})
            result.append(len(self.tree["nodes"]) - 1)
            if head is None:
                add_root(self.tree, result[-1])
            else:
                self.tree["nodes"][head].setdefault("children", []).append(result[-1])
        return result

    def _matrix_of(self, node: int) -> np.ndarray:
        """The matrix (4, 4) of a node into the scene, also of one that was added."""
        if node < len(self.nodes.nodes):
            return np.asarray(self.nodes.matrices[node])
        matrix = np.eye(4)
        matrix[:3, 3] = self.tree["nodes"][node]["translation"]
        return matrix

    def _own_curves(self) -> dict[int, tuple[np.ndarray, np.ndarray]]:
        """The weights of the mesh's own shapes by node: their columns, and values (T, C)."""
        own = self.header.own_shapes
        assert own is not None
        weights = np.concatenate(self.own_weights).astype(np.float32)
        curves = {}
        for number in sorted({part.surface.node for part in self.parts}):
            names = target_names(self.file, self.nodes.nodes[number]["mesh"])
            pairs = [
                (column, own.names.index(name))
                for column, name in enumerate(names)
                if name in own.names
            ]
            if pairs:
                columns, rows = np.array(pairs).T
                curves[number] = columns, weights[:, rows]
        return curves

    def _animation(
        self,
        suffix: str,
        curves: dict[int, tuple[np.ndarray, np.ndarray]],
        head: HeadTracks,
    ) -> dict[str, Any]:
        """An animation of weights, by node as `_own_curves` returns them, and of the head."""
        frames = sum(map(len, self.weights))
        tracks = AnimationTracks(self.arrays, np.arange(frames) / self.header.fps)
        for node, (columns, values) in curves.items():
            weights = np.tile(self._weights_at_rest(node), (frames, 1))
            weights[:, columns] = values
            tracks.add(node, "weights", weights.ravel())
        for node, path, turns in head.tracks:
            tracks.add(node, path, turns)
        self._keep_other_tracks(tracks.animation)
        about = {
            "talkemo": __version__,
            **self.header.meta,
            MESH_SPACE: mesh_space(self.header, np.eye(3)),
        }
        return {"name": self._animation_name(suffix), **tracks.animation, "extras": about}

    def _animation_name(self, suffix: str) -> str:
        """Name an animation after the audio, and after the emotion if the file has that name."""
        meta = self.header.meta
        audio = Path(str(meta.get("audio") or "talkemo")).stem
        spoken = f"{audio} {meta['emotion']}" if meta.get("emotion") else audio
        names = chain((audio, spoken), (f"{spoken} {number}" for number in count(2)))
        taken = [_object(animation).get("name") for animation in self.tree.get("animations", [])]
        return next(name + suffix for name in names if name + suffix not in taken)

    def _keep_other_tracks(self, animation: dict[str, Any]) -> None:
        """Add the tracks of the file's animation that was changed, if any, but for what is new."""
        if self.origin.animation is None:
            return
        before = self.tree["animations"][self.origin.animation]
        new = [channel["target"] for channel in animation["channels"]]
        taken = {(target["node"], target["path"]) for target in new}
        for channel in before["channels"]:
            target = channel["target"]
            if (target.get("node"), target.get("path")) not in taken:
                animation["channels"].append({**channel, "sampler": len(animation["samplers"])})
                animation["samplers"].append(dict(before["samplers"][channel["sampler"]]))

    def _weights_at_rest(self, node: int) -> np.ndarray:
        """The weights (K,) of all targets of a node, as the file gives them."""
        mesh = self.tree["meshes"][self.tree["nodes"][node]["mesh"]]
        count = max(len(primitive.get("targets", [])) for primitive in mesh["primitives"])
        given = self.tree["nodes"][node].get("weights") or mesh.get("weights") or [0.0] * count
        return np.array(given, np.float32)


class CharacterGltfWriter(WithDataFile, CharacterWriter):
    """Writes what `CharacterWriter` does as a gltf."""


def _part_mesh(
    arrays: ExtendedGlb, part: AddedMesh, points: np.ndarray, targets: np.ndarray
) -> dict[str, Any]:
    """The mesh of an added part with points (P, 3) and ARKit's targets (52, P, 3)."""
    surface = surface_of_part(part, points)
    primitive = {
        "attributes": surface_attributes(arrays, surface),
        "indices": arrays.add_triangles(part.faces),
        "targets": [{"POSITION": arrays.add_target(target)} for target in targets],
    }
    names = list(ARKIT_NAMES)
    about = {"weights": [0.0] * len(names), "extras": {"targetNames": names}}
    return {"name": part.name, "primitives": [primitive], **about}


def _free_name(name: str, taken: list[Any]) -> str:
    """A name, or one like it that is not taken."""
    number, free = 1, name
    while free in taken:
        free = f"{name}{ARKIT_SUFFIX}{number if number > 1 else ''}"
        number += 1
    return free


def _object(value: Any) -> dict[str, Any]:
    return value if isinstance(value, dict) else {}


def _is_driven_part(node: dict[str, Any], file: GltfFile) -> bool:
    """Whether a node is a part that talkemo added, with ARKit's targets and no others."""
    if not is_added_part(node) or "mesh" not in node:
        return False
    mesh = file.item("meshes", node["mesh"])
    return _object(mesh.get("extras")).get("targetNames") == list(ARKIT_NAMES)
