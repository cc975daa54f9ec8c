"""ARKit curves as Live Link Face records them, for Unreal and MetaHuman."""

from __future__ import annotations

import csv
from pathlib import Path
from typing import IO, Any

from ..face import ARKIT_NAMES
from .animation import FileWriter, Frames, Header

# Live Link Face has right before left where a shape points to a side, and Apple left before right.
_SWAPPED = {"jawLeft": "jawRight", "jawRight": "jawLeft", "mouthLeft": "mouthRight", "mouthRight": "mouthLeft"}
LIVE_LINK_NAMES = tuple(_SWAPPED.get(name, name) for name in ARKIT_NAMES)
ROTATIONS = tuple(f"{part}{axis}" for part in ("Head", "LeftEye", "RightEye") for axis in ("Yaw", "Pitch", "Roll"))


class LiveLinkWriter(FileWriter):
    """ARKit curves as a csv in Live Link Face's layout: time code, 61, 52 weights in [0, 1], nine rotations (none here)."""

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
        for weights in frames.arkit.clip(0, 1):
            values = [f"{weights[k]:.6f}" for k in self.order]
            self.rows.writerow(
                [self._timecode(), len(values) + len(ROTATIONS), *values, *["0.000000"] * len(ROTATIONS)]
            )
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
