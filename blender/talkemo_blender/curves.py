"""Actions and their curves, in all versions of Blender: 4.4 put slots into actions."""

from __future__ import annotations

from typing import Any

import bpy
import numpy as np

LINEAR = 1  # Blender's number of this interpolation
MARK = "talkemo"  # custom property of actions that the add-on made


def new_action(data: Any, name: str) -> str:
    """Give an ID, such as an object, a new action; return the name of the user's that it replaces.

    That one is kept in the file. An action that the add-on made earlier is removed instead.
    """
    replaced = remove_action(data)
    action = bpy.data.actions.new(name)
    action[MARK] = True
    (data.animation_data or data.animation_data_create()).action = action
    return replaced


def remove_action(data: Any) -> str:
    """Take an ID's action away; return its name if it is not one that the add-on made."""
    old = data.animation_data and data.animation_data.action
    if not old:
        return ""
    data.animation_data.action = None
    if MARK not in old:
        old.use_fake_user = True
        return str(old.name)
    if not old.users:
        bpy.data.actions.remove(old)
    return ""


def curves_of(data: Any) -> Any:
    """Return the collection of curves of an ID's action; the action is made if it lacks one."""
    animation = data.animation_data or data.animation_data_create()
    if animation.action is None:
        new_action(data, data.name)
    action = animation.action
    if not hasattr(action, "slots"):
        return action.fcurves
    slot = animation.action_slot
    if slot is None:
        slot = action.slots.new(id_type=data.id_type, name=data.name)
        animation.action_slot = slot
    layer = action.layers[0] if action.layers else action.layers.new("Layer")
    strip = layer.strips[0] if layer.strips else layer.strips.new(type="KEYFRAME")
    return strip.channelbag(slot, ensure=True).fcurves


def set_curve(curves: Any, path: str, index: int, frames: np.ndarray, values: np.ndarray) -> None:
    """Make a curve with a key at each frame; one that is there is replaced."""
    old = curves.find(path, index=index)
    if old is not None:
        curves.remove(old)
    curve = curves.new(path, index=index)
    points = curve.keyframe_points
    points.add(len(frames))
    points.foreach_set("co", np.column_stack([frames, values]).astype(np.float32).ravel())
    points.foreach_set("interpolation", np.full(len(frames), LINEAR, np.int32))
    curve.update()
