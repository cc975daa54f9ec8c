"""The head's rotation: on a bone of the character's armature, or on an empty that turns the mesh."""

from __future__ import annotations

import re
from typing import Any

import bpy
import numpy as np
from mathutils import Euler, Matrix, Quaternion, Vector

from .curves import curves_of, new_action, remove_action, set_curve
from .exchange import Animation, in_axes, nearest_rotation, quaternions, split_rows

GROUP = "talkemo head"  # of the vertices that follow the head; also the name of the modifier
# The canonical face, which looks along +z with y up, in a world where faces look along -y, z up.
BLENDER_FACING = np.array([[1.0, 0, 0], [0, 0, -1], [0, 1, 0]])
MIN_SHARE = 1e-4  # of the head's rotation; vertices below it stay still


def armature_of(item: Any) -> Any:
    """Return the armature that moves an object, by a modifier or as a parent; None without one."""
    for modifier in item.modifiers:
        if modifier.type == "ARMATURE" and modifier.object is not None:
            return modifier.object
    parent = item.parent
    while parent is not None and parent.type != "ARMATURE":
        parent = parent.parent
    return parent


def find_head_bone(names: list[str]) -> str:
    """Return the name of a head's bone: one whose last word is head, the shortest; else nothing."""
    words = {name: re.split(r"[^a-z0-9]+", name.lower()) for name in names}
    heads = [name for name in names if words[name][-1] == "head"]
    return min(heads, key=lambda name: (len(name), name), default="")


def head_bone(item: Any) -> tuple[Any, str]:
    """Return an object's armature and the name of its head's bone; the name is empty without one."""
    armature = armature_of(item)
    names = [] if armature is None else [bone.name for bone in armature.data.bones]
    return armature, find_head_bone(names)


def turn_bone(
    armature: Any, name: str, animation: Animation, frames: np.ndarray, from_mesh: bool
) -> str:
    """Rotate a bone with the head; return a remark for the user, empty if all went well.

    `from_mesh`: whether the animation knows where the face looks in the world. Without it the face
    is taken to look along the armature's -y.
    """
    assert animation.head is not None
    bone = armature.pose.bones[name]
    if from_mesh:
        axes = nearest_rotation(armature.matrix_world).T @ animation.facing
    else:
        axes = BLENDER_FACING
    at_rest = np.array(bone.bone.matrix_local, float)[:3, :3]
    rotations = in_axes(in_axes(animation.head, axes), at_rest.T)
    mode = bone.rotation_mode
    path = bone.path_from_id("rotation_quaternion" if mode == "QUATERNION" else "rotation_euler")
    curves = curves_of(armature)
    made = armature.get(GROUP, "")
    if made != path and any(curves.find(path, index=index) for index in range(4)):
        return f"The bone {name} has rotations of its own already: the head stays as it is"
    if mode == "AXIS_ANGLE":
        return f"The bone {name} rotates by axis and angle: choose quaternions or Euler angles"
    values = quaternions(rotations)
    if mode != "QUATERNION":
        values = _euler_angles(values, mode)
    for index, column in enumerate(values.T):
        set_curve(curves, path, index, frames, column)
    armature[GROUP] = path
    return ""


def _euler_angles(values: np.ndarray, order: str) -> np.ndarray:
    """Euler angles (T, 3) of quaternions (T, 4), without jumps."""
    result, last = [], Euler((0.0, 0.0, 0.0), order)
    for value in values.tolist():
        last = Quaternion(value).to_euler(order, last)
        result.append(tuple(last))
    return np.array(result).reshape(-1, 3)


def turn_by_empty(
    objects: list[Any],
    matrices: list[np.ndarray],
    animation: Animation,
    frames: np.ndarray,
    action_name: str,
) -> Any:
    """Make an empty at the neck whose rotation turns the objects; return it.

    `matrices`: the objects' transforms (4, 4) for which the animation was made.

    Each object gets a vertex group with its share of the rotation, and a hook modifier before its
    others. The empty is a child of the first object, so it goes where that goes.
    """
    assert animation.head is not None
    parent = objects[0]
    empty = bpy.data.objects.new(f"{parent.name} head", None)
    for collection in parent.users_collection:
        collection.objects.link(empty)
    empty.empty_display_type = "ARROWS"
    empty.empty_display_size = float(np.ptp(_world_corners(objects), axis=0).max()) / 4
    empty.parent = parent
    empty.matrix_parent_inverse = Matrix(matrices[0]).inverted()
    empty.location = animation.pivot
    empty.rotation_mode = "QUATERNION"
    new_action(empty, action_name)
    curves = curves_of(empty)
    for index, column in enumerate(quaternions(in_axes(animation.head, animation.facing)).T):
        set_curve(curves, "rotation_quaternion", index, frames, column)
    counts = [len(item.data.vertices) for item in objects]
    for item, matrix, share in zip(objects, matrices, split_rows(animation.share, counts)):
        follow_empty(item, empty, matrix, share)
    return empty


def follow_bone(item: Any, armature: Any, name: str) -> None:
    """Let a whole object follow a bone."""
    item.vertex_groups.new(name=name).add(range(len(item.data.vertices)), 1.0, "REPLACE")
    item.modifiers.new(GROUP, "ARMATURE").object = armature


def _world_corners(objects: list[Any]) -> np.ndarray:
    """Corners (8 · objects, 3) of the objects' boxes, in the world."""
    corners = [item.matrix_world @ Vector(c) for item in objects for c in item.bound_box]
    return np.array([tuple(corner) for corner in corners])


def follow_empty(item: Any, empty: Any, matrix: np.ndarray, share: np.ndarray) -> None:
    """Let an object's vertices follow an empty by their share (N,) of its motion.

    `matrix`: the object's transform (4, 4) for which the empty was placed.
    """
    if share.max(initial=0) < MIN_SHARE:
        return
    group = item.vertex_groups.new(name=GROUP)
    whole = np.flatnonzero(share >= 1 - MIN_SHARE)
    group.add(whole.tolist(), 1.0, "REPLACE")
    for vertex in np.flatnonzero((share >= MIN_SHARE) & (share < 1 - MIN_SHARE)).tolist():
        group.add([vertex], float(share[vertex]), "REPLACE")
    hook = item.modifiers.new(GROUP, "HOOK")
    hook.object = empty
    hook.vertex_group = group.name
    hook.falloff_type = "NONE"
    hook.matrix_inverse = Matrix.Translation(-empty.location) @ Matrix(matrix)
    while item.modifiers.find(hook.name) > 0:
        _move_up(item, hook)


def _move_up(item: Any, modifier: Any) -> None:
    """Put a modifier one place earlier."""
    position = item.modifiers.find(modifier.name)
    item.modifiers.move(position, position - 1)


def remove_empty(objects: list[Any]) -> None:
    """Take away the empty, modifiers and vertex groups of an earlier run."""
    for item in objects:
        hook = item.modifiers.get(GROUP)
        if hook is not None and hook.type == "HOOK":
            empty = hook.object
            item.modifiers.remove(hook)
            if empty is not None and not _hooked_to(empty):
                remove_action(empty)
                bpy.data.objects.remove(empty)
        group = item.vertex_groups.get(GROUP)
        if group is not None:
            item.vertex_groups.remove(group)


def _hooked_to(empty: Any) -> list[Any]:
    """Objects that still follow an empty."""
    return [
        item
        for item in bpy.data.objects
        if (hook := item.modifiers.get(GROUP)) is not None and hook.object == empty
    ]
