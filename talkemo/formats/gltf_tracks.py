"""The tracks of a glTF's animation at given times, and which nodes they move."""

from __future__ import annotations

from typing import Any

import numpy as np

from .gltf_file import GltfFile

TRACK_WIDTHS = {"translation": 3, "rotation": 4, "scale": 3}
Tracks = dict[tuple[int, str], np.ndarray]  # values (T, width) by node and property


def tracks_at(file: GltfFile, animation: dict[str, Any], times: np.ndarray) -> Tracks:
    """Return what an animation gives nodes at times (T,): weights, translations, rotations, scales.

    Splines are read at their keys and continued linearly between them. Raises ValueError, or what
    `GltfFile` raises, for a malformed animation.
    """
    tracks: Tracks = {}
    for channel in animation["channels"]:
        target = channel["target"]
        node, path = target.get("node"), target.get("path")
        if node is None or (path != "weights" and path not in TRACK_WIDTHS):
            continue
        keys, values, is_held = _keys(file, animation["samplers"][channel["sampler"]])
        if values.shape[1] != TRACK_WIDTHS.get(path, values.shape[1]):
            raise ValueError(f"a track of {path} with {values.shape[1]} numbers")
        if is_held:
            last = np.searchsorted(keys, times, "right") - 1
            tracks[node, path] = values[last.clip(0)]
        elif path == "rotation":
            tracks[node, path] = _turned(keys, values, times)
        else:
            columns = [np.interp(times, keys, column) for column in values.T]
            tracks[node, path] = np.stack(columns, axis=1)
    return tracks


def _keys(file: GltfFile, sampler: dict[str, Any]) -> tuple[np.ndarray, np.ndarray, bool]:
    """Times (K,) and values (K, width) of a sampler, and whether a value holds until the next."""
    kind = sampler.get("interpolation", "LINEAR")
    times = file.accessor(sampler["input"]).astype(np.float64)
    values = file.accessor(sampler["output"]).astype(np.float64)
    values = values.reshape(len(times), 3 if kind == "CUBICSPLINE" else 1, -1)
    values = values[:, values.shape[1] // 2]  # without the tangents of a spline
    if not len(times) or (np.diff(times) <= 0).any() or not np.isfinite(values).all():
        raise ValueError("an animation whose keys do not ascend, or are no numbers")
    return times, values, kind == "STEP"


def _turned(keys: np.ndarray, values: np.ndarray, times: np.ndarray) -> np.ndarray:
    """Quaternions (K, 4) at times (K,), interpolated at others; (T, 4)."""
    from scipy.spatial.transform import Rotation, Slerp

    if len(keys) == 1:
        return np.repeat(values, len(times), axis=0)
    turns = Slerp(keys, Rotation.from_quat(values))(times.clip(keys[0], keys[-1]))
    return np.asarray(turns.as_quat(canonical=True))
