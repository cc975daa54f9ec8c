"""ARKit curves as Live Link Face records them, for Unreal and MetaHuman."""

from __future__ import annotations

import csv
from pathlib import Path
from typing import IO, Any

import numpy as np

from ..face.canonical import ARKIT_NAMES
from .animation import FileWriter, Frames, Header

# Live Link Face has right before left where a shape points to a side, and Apple left before right.
_SWAPPED = {
    "jawLeft": "jawRight",
    "jawRight": "jawLeft",
    "mouthLeft": "mouthRight",
    "mouthRight": "mouthLeft",
}
LIVE_LINK_NAMES = tuple(_SWAPPED.get(name, name) for name in ARKIT_NAMES)
EULER, SIGNS = "yxz", np.array([1, -1, -1])  # of a head's yaw, pitch and roll
ROTATIONS = tuple(
    f"{part}{axis}" for part in ("Head", "LeftEye", "RightEye") for axis in ("Yaw", "Pitch", "Roll")
)


def head_angles(rotation: np.ndarray) -> np.ndarray:
    """Yaw, pitch and roll (T, 3) in radians, as Live Link Face has them, of a head's rotations (T, 3, 3)."""
    from scipy.spatial.transform import Rotation

    return Rotation.from_matrix(rotation).as_euler(EULER) * SIGNS


def head_rotation(angles: np.ndarray) -> np.ndarray:
    """The inverse of `head_angles`: (T, 3, 3)."""
    from scipy.spatial.transform import Rotation

    return Rotation.from_euler(EULER, angles * SIGNS).as_matrix()


class LiveLinkWriter(FileWriter):
    """ARKit curves as a csv in Live Link Face's layout: time code, 61, 52 weights in [0, 1], nine rotations in radians.

    Eyes have none: their shapes say where they look.
    """

    def __init__(self, path: Path, header: Header):
        super().__init__(path)
        self.fps = header.fps
        self.order = [ARKIT_NAMES.index(name) for name in LIVE_LINK_NAMES]
        self.file: IO[str] = self.partial.path.open("w", newline="", encoding="utf-8")
        self.rows: Any = csv.writer(self.file, lineterminator="\n")
        names = [name[0].upper() + name[1:] for name in LIVE_LINK_NAMES]
        self.rows.writerow(["Timecode", "BlendShapeCount", *names, *ROTATIONS])
        self.count = 0

    def write(self, frames: Frames) -> None:
        turns = np.zeros((len(frames.arkit), len(ROTATIONS)))
        if frames.head is not None:
            turns[:, :3] = head_angles(frames.head)
        for weights, turn in zip(frames.arkit.clip(0, 1), turns):
            values = [f"{value:.6f}" for value in (*weights[self.order], *(turn + 0.0))]
            self.rows.writerow([self._timecode(), len(values), *values])
            self.count += 1

    def _timecode(self) -> str:
        """Hours, minutes, seconds, frames and thousandths of a frame: HH:MM:SS:FF.mmm."""
        seconds = int(self.count / self.fps + 1e-9)
        frame = max(self.count - seconds * self.fps, 0.0)
        whole = int(frame + 1e-6)
        part = int(round((frame - whole) * 1000, 3))
        return f"{seconds // 3600:02d}:{seconds // 60 % 60:02d}:{seconds % 60:02d}:{whole:02d}.{max(part, 0):03d}"

    def finish(self) -> None:
        self.file.close()

    def close(self) -> None:
        self.file.close()
