"""Frames of a live stream for another program to read: lines of JSON, or vertices as bytes.

Both begin with a line of JSON that describes the stream: `fps`, `latency` in s, and `names` of the
52 weights, or the number of `vertices`. Each frame is then either a line

    {"time": 0.01667, "arkit": [52 numbers], "head": [yaw, pitch, roll], "gaze": [pitch, yaw]}

with angles in radians, those of the head as in Live Link Face, without head and gaze if they do not
move. Where a character's own blend shapes are driven, the first line has their `own_names`, and each
frame their weights as `own`. Or it is bytes

    float64 time in s, float32 x y z of each vertex, little-endian, in the mesh's order and unit
"""

from __future__ import annotations

import json
from typing import Any

import numpy as np

from .. import __version__
from .live_link import head_angles

FRAME_DECIMALS = 5  # of the numbers in lines of JSON


def stream_header(fps: float, latency: float, shown: dict[str, Any]) -> bytes:
    """Return the line before the first frame; `shown` holds its further values."""
    return _line({"talkemo": __version__, "fps": fps, "latency": round(latency, 3), **shown})


def json_lines(
    times: np.ndarray,
    weights: dict[str, np.ndarray],
    head: np.ndarray | None,
    gaze: np.ndarray | None,
) -> bytes:
    """Return frames as lines of JSON.

    Parameters
    ----------
    times : (T,)
        In s.
    weights : dict of str to (T, C)
        Weights of the curves that the stream's header names, by their kind, which is their key.
    head : (T, 3, 3), optional
        Rotations of the head.
    gaze : (T, 2), optional
        Pitch and yaw in radians.
    """
    columns = {"time": times, **weights}
    if head is not None:
        columns["head"] = head_angles(head)
    if gaze is not None:
        columns["gaze"] = gaze
    lists = {
        # Rounded in their own precision first, and again because float32 has no exact decimals.
        name: np.round(values, FRAME_DECIMALS).astype(float).round(FRAME_DECIMALS).tolist()
        for name, values in columns.items()
    }
    frames = [{name: values[k] for name, values in lists.items()} for k in range(len(times))]
    return b"".join(_line(frame) for frame in frames)


def vertex_bytes(times: np.ndarray, vertices: np.ndarray) -> bytes:
    """Return frames as times (T,) and vertices (T, N, 3) in bytes."""
    frames = zip(np.asarray(times, "<f8"), np.asarray(vertices, "<f4"))
    return b"".join(time.tobytes() + frame.tobytes() for time, frame in frames)


def _line(value: dict[str, Any]) -> bytes:
    return json.dumps(value, separators=(",", ":")).encode() + b"\n"
