"""The turns of head and eyes in a glTF that talkemo made, as an animation has them."""

from __future__ import annotations

from typing import Any

import numpy as np

from ..geometry.rigid import gaze_of
from .gltf_file import GltfFile
from .gltf_tracks import tracks_at
from .head_nodes import EYE_NODES, HEAD_NODE


def head_and_gaze(
    file: GltfFile, animation: dict[str, Any], times: np.ndarray, axes: np.ndarray
) -> tuple[np.ndarray | None, np.ndarray | None]:
    """Return what an animation's nodes of head and eyes show at times (T,).

    Parameters
    ----------
    axes : (3, 3)
        Rotation of the canonical face in the file.

    Returns
    -------
    head : (T, 3, 3) float32 or None
        Rotations in the axes of the canonical face, as in `Frames.head`; None for a still head.
    gaze : (T, 2) or None
        Pitch and yaw of the eyes, as in `Frames.gaze`; None for eyes that do not turn.
    """
    from scipy.spatial.transform import Rotation

    turns = [c for c in animation["channels"] if c["target"].get("path") == "rotation"]
    tracks = tracks_at(file, {**animation, "channels": turns}, times)
    numbers = {node.get("name"): number for number, node in enumerate(file.tree["nodes"])}
    found: list[np.ndarray | None] = []
    for name in (HEAD_NODE, EYE_NODES[0]):
        values = tracks.get((numbers.get(name, -1), "rotation"))
        if values is None or not np.linalg.norm(values, axis=1).all():
            found.append(None)
            continue
        rotation = Rotation.from_quat(values).as_matrix()
        found.append(np.asarray(axes.T @ rotation @ axes, np.float32))
    head, eye = found
    return head, None if eye is None else gaze_of(eye)
