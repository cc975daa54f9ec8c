"""Shape keys: made of talkemo's displacements, or an object's own, moved by weights."""

from __future__ import annotations

from typing import Any

import numpy as np

from .arkit import own_keys
from .curves import MARK, curves_of, new_action, set_curve
from .objects import basis

MADE_KEYS = "talkemo_keys"  # custom property of the shape keys: the names of those that were made


def make_keys(item: Any, names: list[str], displacements: np.ndarray) -> dict[str, list[str]]:
    """Write displacements (K, N, 3), in the object's axes, as shape keys.

    Keys that the add-on made earlier are written anew. A key of the user's with the same name stays
    as it is, and the new one is called "talkemo NAME".

    Returns
    -------
    dict of str to list of str
        The keys of the object by the names of the shapes.
    """
    if not displacements.any():
        return {}
    if item.data.shape_keys is None:
        item.shape_key_add(name="Basis", from_mix=False)
    keys = item.data.shape_keys
    made = set(keys.get(MADE_KEYS, "").split("\n"))
    rest = basis(item)
    result = {}
    for name, displacement in zip(names, displacements):
        key_name = name if name in made or name not in keys.key_blocks else f"talkemo {name}"
        block = keys.key_blocks.get(key_name)
        if block is None:
            block = item.shape_key_add(name=key_name, from_mix=False)
        block.relative_key = keys.reference_key
        block.slider_min, block.slider_max, block.value = 0.0, 1.0, 0.0
        block.data.foreach_set("co", (rest + displacement).astype(np.float32).ravel())
        result[name] = [block.name]
    keys[MADE_KEYS] = "\n".join(made.union(*result.values()) - {""})
    item.data.update()
    return result


def animate_keys(
    item: Any, keys_of: dict[str, list[str]], names: list[str], frames: np.ndarray,
    weights: np.ndarray, action_name: str,
) -> str:  # fmt: skip
    """Give an object's shape keys an action with weights (T, K) at frames (T,).

    Parameters
    ----------
    item : Object
    keys_of : dict
        The keys to drive by the names of the shapes.
    names, frames, weights
        Of the shapes.
    action_name : str

    Returns
    -------
    str
        The name of the user's action that played before; empty for none.
    """
    keys = item.data.shape_keys
    for key in _keys_of_last_run(item):  # some may not be driven any more
        keys.key_blocks[key].value = 0.0
    replaced = new_action(keys, action_name)
    curves = curves_of(keys)
    for column, name in enumerate(names):
        for key in keys_of.get(name, ()):
            path = keys.key_blocks[key].path_from_id("value")
            set_curve(curves, path, 0, frames, weights[:, column])
    return replaced


def _keys_of_last_run(item: Any) -> list[str]:
    """The keys of an object that an earlier run has made or driven."""
    keys = item.data.shape_keys
    made = [key for key in keys.get(MADE_KEYS, "").split("\n") if key in keys.key_blocks]
    action = keys.animation_data and keys.animation_data.action
    if not action or MARK not in action:
        return made
    return made + [key for found in keys_to_drive(item).values() for key in found]


def keys_with_drivers(item: Any, keys_of: dict[str, list[str]]) -> list[str]:
    """Return those of an object's keys that drivers move, which do not follow an action."""
    keys = item.data.shape_keys
    drivers = keys.animation_data.drivers if keys.animation_data else ()
    driven = {driver.data_path for driver in drivers}
    names = [key for found in keys_of.values() for key in found]
    return [key for key in names if keys.key_blocks[key].path_from_id("value") in driven]


def keys_to_drive(item: Any) -> dict[str, list[str]]:
    """Return an object's own keys with ARKit's names, by these; without those made by the add-on."""
    keys = item.data.shape_keys
    if keys is None:
        return {}
    made = keys.get(MADE_KEYS, "").split("\n")
    return own_keys(block.name for block in keys.key_blocks if block.name not in made)
