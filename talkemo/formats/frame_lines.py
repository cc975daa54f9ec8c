"""Frames as they come, for another program to read from a pipe: JSON lines, or vertices as bytes.

Both begin with a line of JSON that says what follows: `fps`, `latency` in s, and `names` of the 52 weights, or the number
of `vertices`. Then a frame is a line

    {"time": 0.01667, "arkit": [52 numbers from 0 to 1], "head": [yaw, pitch, roll], "gaze": [pitch, yaw]}

with angles in radians, the head's as Live Link Face has them, and without head and gaze where they do not move; or

    float64 time in s, float32 x y z of each vertex, little-endian, in the mesh's own order, unit and position
"""

from __future__ import annotations

import json
from typing import Any

import numpy as np

from .. import __version__
from .live_link import head_angles

DECIMALS = 5


def first_line(fps: float, latency: float, shown: dict[str, Any]) -> bytes:
    """What comes before the first frame."""
    return _line({"talkemo": __version__, "fps": fps, "latency": round(latency, 3), **shown})


def json_lines(
    times: np.ndarray, arkit: np.ndarray, head: np.ndarray | None, gaze: np.ndarray | None
) -> bytes:
    """Frames as JSON lines: times (T,), ARKit weights (T, 52), head rotations (T, 3, 3), gaze (T, 2)."""
    parts = {"arkit": arkit, "head": None if head is None else head_angles(head), "gaze": gaze}
    moving = {
        name: np.round(part, DECIMALS).astype(float)
        for name, part in parts.items()
        if part is not None
    }
    lines = []
    for k, time in enumerate(np.round(times, DECIMALS).tolist()):
        lines.append(
            _line(
                {
                    "time": time,
                    **{name: part[k].round(DECIMALS).tolist() for name, part in moving.items()},
                }
            )
        )
    return b"".join(lines)


def vertex_bytes(times: np.ndarray, vertices: np.ndarray) -> bytes:
    """Frames as times (T,) and vertices (T, N, 3)."""
    frames = zip(np.asarray(times, "<f8"), np.asarray(vertices, "<f4"))
    return b"".join(time.tobytes() + points.tobytes() for time, points in frames)


def _line(value: dict[str, Any]) -> bytes:
    return json.dumps(value, separators=(",", ":")).encode() + b"\n"
