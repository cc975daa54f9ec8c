"""The primitives of a glTF that get morph targets: displacements in their own space, new vertices.

Vertices are added to a primitive where lips of one skin are cut; they get the attributes of the
vertices between which they lie.
"""

from __future__ import annotations

import copy
import json
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from .gltf_arrays import ExtendedGlb
from .gltf_file import DRACO, GltfFile
from .gltf_origin import GltfOrigin
from .gltf_scene import TRIANGLE_LIST, Surface

MIN_DETERMINANT = 1e-12  # of a placement, relative to its size; a flatter one cannot be inverted


@dataclass(eq=False)
class Part:
    """A primitive of a node, with the vertices that were added to it.

    Attributes
    ----------
    surface : Surface
    primitive : int
        Number within the mesh.
    rows : (V + A,)
        The mesh's vertices that are those of the primitive, and the A added ones.
    between : (A, 2)
        The primitive's vertices between which each added one lies.
    fraction : (A,)
    """

    surface: Surface
    primitive: int
    rows: np.ndarray
    between: np.ndarray
    fraction: np.ndarray

    @property
    def own(self) -> int:
        """The number of the primitive's vertices in the file."""
        return len(self.surface.points)


def parts_of(origin: GltfOrigin, surfaces: list[Surface]) -> list[Part]:
    """Return the primitives of a mesh that was read from a file, in the order of its vertices."""
    between = np.zeros((0, 2), int) if origin.between is None else origin.between
    fraction = np.zeros(0) if origin.fraction is None else origin.fraction
    count = origin.count
    result = []
    for part, surface in zip(origin.parts, surfaces):
        own = part.first + np.arange(part.count)
        inside = (between[:, 0] >= part.first) & (between[:, 0] < part.first + part.count)
        rows = np.concatenate([own, count + np.flatnonzero(inside)])
        result.append(
            Part(surface, part.primitive, rows, between[inside] - part.first, fraction[inside])
        )
    return result


@dataclass(eq=False)
class PartGroup:
    """Primitives of one mesh that have the same vertices, as VRM's parts of a face have.

    What is written for their vertices is written once.
    """

    parts: list[Part]
    starts: list[int] = field(default_factory=list)  # of each part's added vertices

    def __post_init__(self) -> None:
        self.own = self.parts[0].own
        self.surface = self.parts[0].surface
        counts = [len(part.between) for part in self.parts]
        self.starts = (self.own + np.cumsum([0, *counts[:-1]])).tolist()
        self.between = np.concatenate([part.between for part in self.parts])
        self.fraction = np.concatenate([part.fraction for part in self.parts])
        self.rows = self._rows()

    def _rows(self) -> np.ndarray:
        """The mesh's vertices (V + A,) that the group's are: those of the part that uses them."""
        own = self.parts[0].rows[: self.own].copy()
        for part in self.parts[1:]:
            used = np.unique(part.surface.faces)
            own[used] = part.rows[used]
        return np.concatenate([own, *(part.rows[part.own :] for part in self.parts)])

    @property
    def nearest(self) -> np.ndarray:
        """The vertex (A,) that is nearest to each added one."""
        return np.where(self.fraction < 0.5, self.between[:, 0], self.between[:, 1])

    def mixed(self, values: np.ndarray) -> np.ndarray:
        """Return values (V, width) with those of added vertices (V + A, width), float32."""
        first, second = (values[column].astype(np.float64) for column in self.between.T)
        share = self.fraction[:, None]
        added = (1 - share) * first + share * second
        return np.concatenate([values, added]).astype(np.float32)

    def to_local(self) -> np.ndarray:
        """Return the matrices from the scene into the primitive: (3, 3), or (V + A, 3, 3)."""
        linear = self.surface.placement[..., :3]
        if linear.ndim == 3 and len(self.between):
            linear = np.concatenate([linear, linear[self.nearest]])
        size = np.abs(linear).max(axis=(-2, -1))
        is_regular = np.abs(np.linalg.det(linear)) > MIN_DETERMINANT * np.maximum(size, 1e-30) ** 3
        safe = np.where(is_regular[..., None, None], linear, np.eye(3))
        return np.asarray(np.linalg.inv(safe) * is_regular[..., None, None])

    def added_positions(self, rest: np.ndarray, to_local: np.ndarray) -> np.ndarray:
        """Return the positions (A, 3) of added vertices in the primitive, targets at 0.

        `rest` (N, 3) is the mesh in the scene.
        """
        surface, nearest = self.surface, self.nearest
        at = rest[self.rows[self.own :]].astype(np.float64)
        if surface.weights.any():
            shift = surface.at_rest - surface.points
            at -= self.mixed(shift)[self.own :]
        placement = surface.placement
        if placement.ndim == 3:
            return np.einsum("vij,vj->vi", to_local[self.own :], at - placement[nearest][..., 3])
        return np.asarray((at - placement[:, 3]) @ to_local.T)


def grouped(parts: list[Part]) -> list[PartGroup]:
    """Return the primitives of one node's mesh by the vertices that they share."""
    groups: dict[str, list[Part]] = {}
    for number, part in enumerate(parts):
        primitive = part.surface.primitive
        key = json.dumps([primitive["attributes"], primitive.get("targets", [])], sort_keys=True)
        if DRACO in primitive.get("extensions", {}):
            key = str(number)
        groups.setdefault(key, []).append(part)
    return [PartGroup(members) for members in groups.values()]


def local_displacement(displacement: np.ndarray, to_local: np.ndarray) -> np.ndarray:
    """Return displacements (V, 3) of the scene in a primitive's space; see `PartGroup.to_local`."""
    if to_local.ndim == 2:
        return np.asarray(displacement @ to_local.T)
    return np.einsum("vij,vj->vi", to_local, displacement)


def own_mesh(tree: dict[str, Any], node: int) -> dict[str, Any]:
    """Return the mesh of a node that no other node has: a copy of it, if several have it."""
    meshes, number = tree["meshes"], tree["nodes"][node]["mesh"]
    if sum(other.get("mesh") == number for other in tree["nodes"]) > 1:
        meshes.append(copy.deepcopy(meshes[number]))
        number = tree["nodes"][node]["mesh"] = len(meshes) - 1
    mesh: dict[str, Any] = meshes[number]
    return mesh


class GroupWriter:
    """Writes what changes in the primitives of a group.

    Parameters
    ----------
    file : GltfFile
    arrays : ExtendedGlb
    group : PartGroup
    primitives : list of dict
        Those of the mesh that is written.
    """

    def __init__(
        self,
        file: GltfFile,
        arrays: ExtendedGlb,
        group: PartGroup,
        primitives: list[dict[str, Any]],
    ):
        self.file, self.arrays, self.group = file, arrays, group
        self.primitives = [primitives[part.primitive] for part in group.parts]
        self.source = group.surface.primitive
        self.to_local = group.to_local()

    def write(self, targets: np.ndarray | None, rest: np.ndarray, faces: np.ndarray) -> None:
        """Add targets (K, N, 3) of the mesh in the scene, and the vertices that were added.

        `rest` (N, 3) and `faces` are those of the whole mesh.
        """
        compressed = DRACO in self.source.get("extensions", {})
        if compressed or len(self.group.between):
            self._write_vertices(rest)
            for part, primitive, start in zip(self.group.parts, self.primitives, self.group.starts):
                if compressed or len(part.between):
                    self._write_triangles(part, primitive, start, faces)
        if targets is not None:
            self._add_targets(targets)

    def _add_targets(self, targets: np.ndarray) -> None:
        """Append the targets, with as many kinds of displacements as the primitive's own have."""
        kinds = {kind for target in self.source.get("targets", []) for kind in target}
        rows = self.group.rows
        still = {kind: self.arrays.zeros(len(rows)) for kind in kinds & {"NORMAL", "TANGENT"}}
        added = []
        for target in targets:
            moved = target[rows]
            number = self.arrays.zeros(len(rows))
            if moved.any():
                local = local_displacement(moved.astype(np.float64), self.to_local)
                number = self.arrays.add_target(local)
            added.append({"POSITION": number, **still})
        for primitive in self.primitives:
            primitive["targets"] = [*primitive.get("targets", []), *map(dict, added)]

    def _write_vertices(self, rest: np.ndarray) -> None:
        """Write the attributes and the targets of all vertices again, with those of added ones."""
        attributes = {name: self._attribute(name, rest) for name in self.source["attributes"]}
        targets = [
            {kind: self._target(kind, number) for kind, number in target.items()}
            for target in self.source.get("targets", [])
        ]
        for primitive in self.primitives:
            primitive["attributes"] = dict(attributes)
            if targets:
                primitive["targets"] = [dict(target) for target in targets]
            extensions = primitive.get("extensions", {})
            extensions.pop(DRACO, None)
            if not extensions:
                primitive.pop("extensions", None)

    def _attribute(self, name: str, rest: np.ndarray) -> int:
        """The accessor of an attribute with the values of added vertices."""
        group = self.group
        values = self.file.attribute(self.source, name)
        assert values is not None
        if len(values) != group.own:
            raise ValueError(f"{name} of another number than vertices")
        if name.startswith("JOINTS_"):
            joints = np.concatenate([values, values[group.nearest]])
            return self.arrays.add_joints(joints)
        if name.startswith("WEIGHTS_"):
            weights = np.concatenate([values, values[group.nearest]])
            return self.arrays.add_vertices(weights.astype(np.float32))
        if name == "POSITION":
            added = group.added_positions(rest, self.to_local)
            points = np.concatenate([values, added]).astype(np.float32)
            return self.arrays.add_vertices(points, bounds=True)
        is_flat = values.ndim == 1
        mixed = group.mixed(values[:, None] if is_flat else values)
        if name in ("NORMAL", "TANGENT"):
            mixed = _of_length_1(mixed, values, group)
        return self.arrays.add_vertices(mixed[:, 0] if is_flat else mixed)

    def _target(self, kind: str, number: int) -> int:
        """The accessor of displacements with those of added vertices."""
        if not len(self.group.between):
            return number
        values = self.file.accessor(number)
        if len(values) != self.group.own:
            raise ValueError("a morph target and its mesh have different numbers of vertices")
        mixed = self.group.mixed(values)
        return self.arrays.add_target(mixed) if mixed.shape[1] == 3 else self.arrays.add(mixed)

    def _write_triangles(
        self, part: Part, primitive: dict[str, Any], start: int, faces: np.ndarray
    ) -> None:
        """Write a part's triangles, in the order of corners that the file has."""
        if len(part.between):
            number = np.full(max(int(faces.max(initial=0)), int(part.rows.max())) + 1, -1)
            number[part.rows[: part.own]] = np.arange(part.own)
            number[part.rows[part.own :]] = start + np.arange(len(part.between))
            local = number[faces]
            local = local[(local >= 0).all(1)]
        else:
            local = part.surface.faces
        local = local[:, ::-1] if part.surface.turned else local
        primitive["indices"] = self.arrays.add_triangles(local)
        primitive["mode"] = TRIANGLE_LIST


def _of_length_1(mixed: np.ndarray, values: np.ndarray, group: PartGroup) -> np.ndarray:
    """Normals or tangents (V + A, 3 or 4) whose added ones have length 1, and a sign that exists."""
    added = mixed[group.own :].copy()
    nearest = values[group.nearest]
    length = np.linalg.norm(added[:, :3], axis=1)
    usable = length > 1e-3
    added[usable, :3] /= length[usable, None]
    added[~usable] = nearest[~usable]
    added[:, 3:] = nearest[:, 3:]
    return np.concatenate([mixed[: group.own], added]).astype(np.float32)
