"""ARKit curves in the csv layout of Live Link Face, for Unreal and MetaHuman."""

from __future__ import annotations

import csv
from pathlib import Path
from typing import IO, Any

import numpy as np

from ..face.canonical import ARKIT_NAMES
from .animation import FileWriter, Frames, Header

# Of these pairs Live Link Face lists right before left, and Apple left before right.
_SWAPPED_NAMES = {
    "jawLeft": "jawRight",
    "jawRight": "jawLeft",
    "mouthLeft": "mouthRight",
    "mouthRight": "mouthLeft",
}
LIVE_LINK_NAMES = tuple(_SWAPPED_NAMES.get(name, name) for name in ARKIT_NAMES)
HEAD_EULER_ORDER = "yxz"  # of yaw, pitch and roll, as scipy names the order
HEAD_EULER_SIGNS = np.array([1, -1, -1])
ROTATION_COLUMNS = tuple(
    f"{name}{angle}"
    for name in ("Head", "LeftEye", "RightEye")
    for angle in ("Yaw", "Pitch", "Roll")
)


def head_angles(rotation: np.ndarray) -> np.ndarray:
    """Return Live Link Face's yaw, pitch and roll (T, 3) in radians of rotations (T, 3, 3)."""
    from scipy.spatial.transform import Rotation

    return Rotation.from_matrix(rotation).as_euler(HEAD_EULER_ORDER) * HEAD_EULER_SIGNS


def head_rotation(angles: np.ndarray) -> np.ndarray:
    """Return the rotations (T, 3, 3) of Live Link Face's angles (T, 3); see `head_angles`."""
    from scipy.spatial.transform import Rotation

    return Rotation.from_euler(HEAD_EULER_ORDER, angles * HEAD_EULER_SIGNS).as_matrix()


class LiveLinkWriter(FileWriter):
    """Writes time code, number of values, 52 weights in [0, 1] and nine angles in radians per row.

    The angles of the eyes are zero: ARKit's weights contain where they look.
    """

    def __init__(self, path: Path, header: Header):
        super().__init__(path)
        self.fps = header.fps
        self.order = [ARKIT_NAMES.index(name) for name in LIVE_LINK_NAMES]
        self.file: IO[str] = self.partial.path.open("w", newline="", encoding="utf-8")
        self.rows: Any = csv.writer(self.file, lineterminator="\n")
        names = [name[0].upper() + name[1:] for name in LIVE_LINK_NAMES]
        self.rows.writerow(["Timecode", "BlendShapeCount", *names, *ROTATION_COLUMNS])
        self.count = 0

    def write(self, frames: Frames) -> None:
        angles = np.zeros((len(frames.arkit), len(ROTATION_COLUMNS)))
        if frames.head is not None:
            angles[:, :3] = head_angles(frames.head)
        angles += 0.0  # turns -0.0 into 0.0
        values = np.column_stack([frames.arkit.clip(0, 1)[:, self.order], angles])
        for row in values:
            texts = [f"{value:.6f}" for value in row]
            self.rows.writerow([self._timecode(), len(texts), *texts])
            self.count += 1

    def _timecode(self) -> str:
        """Hours, minutes, seconds, frames and thousandths of a frame: HH:MM:SS:FF.mmm."""
        seconds = int(self.count / self.fps + 1e-9)
        frames = max(self.count - seconds * self.fps, 0.0)
        whole = int(frames + 1e-6)
        thousandths = max(int(round((frames - whole) * 1000, 3)), 0)
        minutes, second = divmod(seconds, 60)
        return f"{minutes // 60:02d}:{minutes % 60:02d}:{second:02d}:{whole:02d}.{thousandths:03d}"

    def finish(self) -> None:
        self.file.close()

    def close(self) -> None:
        self.file.close()
