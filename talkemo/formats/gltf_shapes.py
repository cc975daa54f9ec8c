"""The blend shapes that a glTF or VRM contains, by name, as displacements of its mesh.

Morph targets of one name on several primitives and meshes are one shape: a smile moves skin, brows
and teeth. A VRM's expressions are mixes of morph targets.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np

from ..errors import InputError
from ..files.reading import printable, read_bytes, reading_errors
from .gltf_file import MAX_GLB_BYTES, GltfFile, as_object
from .gltf_scene import MAX_MORPH_WEIGHT, placed_targets
from .mesh_types import MAX_MORPH_TARGETS, MeshShape

MAX_SHAPE_NAME_CHARACTERS = 256
MAX_EXPRESSIONS = 1000  # of a VRM
MAX_BINDS = 1000  # morph targets of an expression
BYTES_PER_ROW = 16  # of a vertex that a shape moves: its number and displacement
VRM_0_FULL_WEIGHT = 100.0  # of a morph target in VRM 0; it is 1 in VRM 1
# VRM 0's presets whose names VRM 1 changed.
VRM_0_PRESETS = {
    "a": "aa",
    "i": "ih",
    "u": "ou",
    "e": "ee",
    "o": "oh",
    "joy": "happy",
    "sorrow": "sad",
    "fun": "relaxed",
    "blink_l": "blinkLeft",
    "blink_r": "blinkRight",
    "lookup": "lookUp",
    "lookdown": "lookDown",
    "lookleft": "lookLeft",
    "lookright": "lookRight",
}
PlacedTarget = tuple[int, int, int, np.ndarray]  # see `gltf_scene.placed_targets`


def load_gltf_shapes(path: Path, vertices: int) -> tuple[MeshShape, ...]:
    """Return the blend shapes of a file whose mesh has so many vertices.

    Raises
    ------
    InputError
        The file cannot be read, or is no longer the same.
    """
    what, hint = "blend shapes that can be read", "export it again, or use --targets arkit"
    content = read_bytes(path, what, hint, MAX_GLB_BYTES)
    with reading_errors(path, what, hint):
        file = GltfFile(path, content)
        shapes = named_shapes(file, placed_targets(file), vertices)
    return shapes


def has_targets(file: GltfFile) -> bool:
    """Return whether any mesh of a file has morph targets."""
    return any(
        primitive.get("targets")
        for mesh in file.tree.get("meshes", [])
        for primitive in mesh.get("primitives", [])
    )


def named_shapes(
    file: GltfFile, targets: Iterable[PlacedTarget], vertices: int
) -> tuple[MeshShape, ...]:
    """Return a file's morph targets by name, then its VRM expressions.

    Parameters
    ----------
    file : GltfFile
    targets : iterable
        What `placed_targets` yields.
    vertices : int
        Of all surfaces.

    Raises
    ------
    ValueError
        If something in the file is out of range.
    """
    names = TargetNames(file)
    at_rest: dict[str, float] = {}
    pieces: dict[str, list[tuple[np.ndarray, np.ndarray]]] = {}
    total = 0
    for node, target, first, displacement in targets:
        name = names.of(node, target)
        moved = np.flatnonzero(displacement.any(1))
        total += len(moved)
        if first + len(displacement) > vertices:
            raise InputError(f"{printable(file.path)}: it has changed", "start again")
        if total * BYTES_PER_ROW > file.max_bytes or len(pieces) > MAX_MORPH_TARGETS:
            raise ValueError("more morph targets than any face has")
        values = displacement[moved]
        pieces.setdefault(name, []).append(((moved + first).astype(np.int32), values))
        at_rest[name] = max(at_rest.get(name, 0.0), names.weight_at_rest(node, target))
    shapes = [
        MeshShape(
            name,
            vertices,
            np.concatenate([rows for rows, _ in parts]),
            np.concatenate([values for _, values in parts]),
            at_rest[name],
        )
        for name, parts in pieces.items()
    ]
    return (*shapes, *_expressions(file, names, {shape.name: shape for shape in shapes}))


def target_names(file: GltfFile, number: int) -> list[str]:
    """Return a name for each target of a mesh: given ones, else of accessors or by numbers."""
    mesh = file.item("meshes", number)
    targets = max((primitive.get("targets", []) for primitive in mesh["primitives"]), key=len)
    names = given_names(mesh, len(targets))
    if names is None:
        names = [_accessor_name(file, target) for target in targets]
    label = str(mesh.get("name") or f"mesh{number}")
    result: list[str] = []
    for k, name in enumerate(names):
        text = free = str(name or f"{label}.{k}")
        number = k
        while free in result:
            free, number = f"{text}.{number}", number + 1
        result.append(free)
    return result


def given_names(mesh: dict[str, Any], count: int) -> list[Any] | None:
    """Return the names that a mesh or one of its primitives gives `count` targets, if any does."""
    for owner in (mesh, *mesh["primitives"]):
        extras = owner.get("extras")
        names = extras.get("targetNames") if isinstance(extras, dict) else None
        if isinstance(names, list) and len(names) == count:
            return names
    return None


def _accessor_name(file: GltfFile, target: dict[str, Any]) -> str | None:
    if "POSITION" not in target:
        return None
    name = file.item("accessors", target["POSITION"]).get("name")
    return name if isinstance(name, str) else None


class TargetNames:
    """Names of the morph targets of a file's meshes, as `Mesh.shapes` has them, and weights.

    A target without a name is called as its mesh, with its number; a name that comes twice in a mesh
    gets the number too.
    """

    def __init__(self, file: GltfFile):
        self.file = file
        self._names: dict[int, list[str]] = {}  # of each mesh that was asked for

    def of(self, node: int, target: int) -> str:
        """Return the name of a morph target of a node's mesh."""
        return self.of_mesh(self.file.item("nodes", node)["mesh"], target)

    def of_mesh(self, mesh: Any, target: Any) -> str:
        """Return the name of a morph target; raise ValueError if there is none of this number."""
        if mesh not in self._names:
            self._names[mesh] = self._read(mesh)
        names = self._names[mesh]
        if not isinstance(target, int) or not 0 <= target < len(names):
            raise ValueError(f"it has no morph target {printable(target, 20)}")
        return names[target]

    def weight_at_rest(self, node: int, target: int) -> float:
        """Return the weight that the file gives a morph target of a node."""
        item = self.file.item("nodes", node)
        mesh = self.file.item("meshes", item["mesh"])
        weights = item.get("weights") or mesh.get("weights") or []
        weight = float(weights[target]) if target < len(weights) else 0.0
        if not abs(weight) <= MAX_MORPH_WEIGHT:
            raise ValueError("weights out of range")
        return weight

    def _read(self, mesh: int) -> list[str]:
        """Names of a mesh's morph targets."""
        result = target_names(self.file, mesh)
        if any(len(name) > MAX_SHAPE_NAME_CHARACTERS for name in result):
            raise ValueError("a morph target with a name longer than any")
        return result


# ---------------------------------------------------------------------------------- VRM expressions


def _expressions(
    file: GltfFile, names: TargetNames, shapes: dict[str, MeshShape]
) -> Iterator[MeshShape]:
    """Yield the expressions of a VRM that morph targets show, without names that targets have."""
    extensions = as_object(file.tree.get("extensions", {}), "its extensions")
    if "VRMC_vrm" in extensions:
        vrm = as_object(extensions["VRMC_vrm"], "its VRMC_vrm")
        found = _vrm_1_expressions(file, vrm, names)
    elif "VRM" in extensions:
        found = _vrm_0_expressions(as_object(extensions["VRM"], "its VRM"), names)
    else:
        return
    total = 0
    for number, (name, mix) in enumerate(found):
        if number >= MAX_EXPRESSIONS or len(mix) > MAX_BINDS:
            raise ValueError("more expressions than any face has")
        if len(name) > MAX_SHAPE_NAME_CHARACTERS:
            raise ValueError("an expression with a name longer than any")
        mix = {part: weight for part, weight in mix.items() if part in shapes and weight > 0}
        if mix and name not in shapes:
            shape = _mixed(name, mix, shapes)
            total += len(shape.rows)
            if total * BYTES_PER_ROW > file.max_bytes:
                raise ValueError("more expressions than any face has")
            yield shape


def _vrm_1_expressions(
    file: GltfFile, vrm: dict[str, Any], names: TargetNames
) -> Iterator[tuple[str, dict[str, float]]]:
    """Yield name and weights of morph targets of each expression of a VRM 1."""
    expressions = vrm.get("expressions") or {}
    for group in ("preset", "custom"):
        for name, expression in (expressions.get(group) or {}).items():
            mix: dict[str, float] = {}
            for bind in expression.get("morphTargetBinds") or []:
                mesh = file.item("nodes", bind["node"])["mesh"]
                _add(mix, names.of_mesh(mesh, bind["index"]), bind.get("weight", 1.0))
            yield str(name), mix


def _vrm_0_expressions(
    vrm: dict[str, Any], names: TargetNames
) -> Iterator[tuple[str, dict[str, float]]]:
    """Yield name and weights of morph targets of each group of a VRM 0, by VRM 1's names."""
    master = as_object(vrm.get("blendShapeMaster") or {}, "its blendShapeMaster")
    for group in master.get("blendShapeGroups") or []:
        preset = str(group.get("presetName") or "unknown").lower()
        name = str(group.get("name") or preset) if preset == "unknown" else preset
        mix: dict[str, float] = {}
        for bind in group.get("binds") or []:
            weight = float(bind.get("weight", VRM_0_FULL_WEIGHT)) / VRM_0_FULL_WEIGHT
            _add(mix, names.of_mesh(bind["mesh"], bind["index"]), weight)
        yield VRM_0_PRESETS.get(name, name), mix


def _add(mix: dict[str, float], name: str, weight: Any) -> None:
    """Add a morph target to a mix, with the largest of its weights."""
    if not 0 <= float(weight) <= MAX_MORPH_WEIGHT:
        raise ValueError("an expression with a weight out of range")
    mix[name] = max(mix.get(name, 0.0), float(weight))


def _mixed(name: str, mix: dict[str, float], shapes: dict[str, MeshShape]) -> MeshShape:
    """The shape of a mix of others."""
    count = next(iter(shapes.values())).count
    total = np.zeros((count, 3), np.float32)
    for part, weight in mix.items():
        total[shapes[part].rows] += np.float32(weight) * shapes[part].values
    rows = np.flatnonzero(total.any(1)).astype(np.int32)
    return MeshShape(name, count, rows, total[rows], mix=tuple(mix.items()))
