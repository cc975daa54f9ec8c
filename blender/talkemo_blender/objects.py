"""The selected objects: what is wrong with them, and their meshes as talkemo reads them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import bpy
import numpy as np

from .arkit import own_keys
from .exchange import Part

# Beginnings of vertex groups of MakeHuman's helper geometry, which talkemo leaves out.
HELPER_GROUPS = ("helper", "joint-", "jointcubes")
HALF_MODIFIERS = {"MIRROR"}  # of meshes that are no whole face without them
PART_MARK = "talkemo_part"  # custom property of objects that the add-on adds: whose part it is
MIN_GROUP_WEIGHT = 0.5  # from which on a vertex belongs to a group


def selected_meshes(context: Any) -> list[Any]:
    """Return the selected mesh objects, the active one first; without parts that were added."""
    active = context.view_layer.objects.active
    meshes = [
        item for item in context.selected_objects if item.type == "MESH" and PART_MARK not in item
    ]
    return sorted(meshes, key=lambda item: (item != active, item.name))


def problem_of_objects(objects: Sequence[Any], own: bool) -> str:
    """Return in words why objects cannot be animated; empty if they can.

    `own`: whether their own ARKit keys are to be driven, instead of new ones made.
    """
    if not objects:
        return "Select the face, and its eyes and teeth if they are objects of their own"
    for item in objects:
        if item.mode == "EDIT":
            return f"{item.name} is being edited: press Tab first"
        if item.data.library is not None or item.data.override_library is not None:
            return f"{item.name} is linked from another file: make it local first"
        keys = item.data.shape_keys
        if keys is not None and not keys.use_relative:
            return f"The shape keys of {item.name} are absolute: make them relative first"
    meshes = [item.data for item in objects]
    shared = next((item for item in objects if meshes.count(item.data) > 1), None)
    if shared is not None and not own:
        return f"{shared.name} shares its mesh with another object: make it single-user first"
    if not own and not any(len(mesh.polygons) for mesh in meshes):
        return "The selected objects have no polygons"
    if own and not any(own_keys(key_names(item)) for item in objects):
        return "The selected objects have no shape keys with ARKit's names, such as jawOpen"
    return ""


def key_names(item: Any) -> list[str]:
    """Return the names of an object's shape keys, without the basis."""
    keys = item.data.shape_keys
    if keys is None:
        return []
    return [block.name for block in keys.key_blocks if block != keys.reference_key]


def half_face(objects: Sequence[Any]) -> str:
    """Return a remark on modifiers that complete a face and are left out; empty without one."""
    names = [
        item.name for item in objects if any(mod.type in HALF_MODIFIERS for mod in item.modifiers)
    ]
    return f"{names[0]} has a mirror modifier: apply it first" if names else ""


def basis(item: Any) -> np.ndarray:
    """Return an object's vertices (N, 3) at rest, in its own axes: without keys and modifiers."""
    mesh = item.data
    points = mesh.vertices if mesh.shape_keys is None else mesh.shape_keys.reference_key.data
    values = np.empty(3 * len(points), np.float32)
    points.foreach_get("co", values)
    return values.reshape(-1, 3)


def part_of(item: Any, several: bool) -> Part:
    """Return an object's mesh in the world; `several`: whether its name says what it is."""
    mesh, matrix = item.data, np.array(item.matrix_world, float)
    vertices = basis(item).astype(float) @ matrix[:3, :3].T + matrix[:3, 3]
    sizes = np.empty(len(mesh.polygons), np.int32)
    corners = np.empty(len(mesh.loops), np.int32)
    mesh.polygons.foreach_get("loop_total", sizes)
    mesh.loops.foreach_get("vertex_index", corners)
    groups = _polygon_groups(item, corners, sizes, several)
    return Part(vertices, corners, sizes, groups, bool(np.linalg.det(matrix[:3, :3]) < 0))


def _polygon_groups(
    item: Any, corners: np.ndarray, sizes: np.ndarray, several: bool
) -> Sequence[str]:
    """A name for each polygon: the object's, its material's, or that of a hidden helper."""
    mesh = item.data
    names = [item.name if several else ""] * len(sizes)
    if len(mesh.materials) > 1:
        of_material = np.empty(len(sizes), np.int32)
        mesh.polygons.foreach_get("material_index", of_material)
        titles = [material.name if material else "" for material in mesh.materials]
        numbers = of_material.clip(0, len(titles) - 1).tolist()
        names = [f"{name} {titles[number]}" for name, number in zip(names, numbers)]
    helpers = {
        group.index: group.name
        for group in item.vertex_groups
        if group.name.lower().startswith(HELPER_GROUPS)
    }
    if helpers and len(sizes):
        of_vertex = _helper_of_vertices(mesh, helpers)
        starts = np.cumsum(sizes) - sizes
        first = of_vertex[corners[starts]]
        for polygon in np.flatnonzero(first >= 0).tolist():
            names[polygon] = helpers[int(first[polygon])]
    return names


def _helper_of_vertices(mesh: Any, helpers: dict[int, str]) -> np.ndarray:
    """Number (N,) of the helper group that each vertex belongs to, -1 for none."""
    result = np.full(len(mesh.vertices), -1)
    for vertex in mesh.vertices:
        for member in vertex.groups:
            if member.group in helpers and member.weight >= MIN_GROUP_WEIGHT:
                result[vertex.index] = member.group
    return result


def find_object(name: str) -> Any:
    """Return an object by its name; None if it is gone."""
    return bpy.data.objects.get(name)
