"""Animation curves: ARKit, Oculus, VRM or the mesh's own shapes, as csv or JSON."""

from __future__ import annotations

import csv
import json
from pathlib import Path
from typing import IO, Any

import numpy as np

from .. import __version__
from ..errors import InputError
from ..face.viseme_curves import CurveFit
from .animation import FileWriter, Frames, Header
from .live_link import LiveLinkWriter, head_angles
from .target_names import OWN_CURVES
from .target_sets import Residual, target_sets

CURVE_DECIMALS = 5
HEAD_ANGLES = ("HeadYaw", "HeadPitch", "HeadRoll")  # as in Live Link Face, in radians


def csv_writer(path: Path, header: Header, curves: str = "arkit") -> FileWriter:
    """Return the writer of a csv: Live Link Face's columns for arkit, else a column per curve."""
    if curves == "arkit":
        return LiveLinkWriter(path, header)
    return CsvCurveWriter(path, header, curves)


class _CurveWriter(FileWriter):
    """Base class: computes the rows, which a subclass writes."""

    file: IO[str]

    def __init__(self, path: Path, header: Header, curves: str):
        self.own = header.own_shapes if curves == OWN_CURVES else None
        if header.canonical is None or (curves == OWN_CURVES and self.own is None):
            raise InputError(
                f"{path}: no curves are known for this mesh", "write another kind of file"
            )
        self.residual: Residual | None = None
        if self.own is not None:
            self.names = list(self.own.names)
            own_set = next(shapes for shapes in target_sets(header) if shapes.kind == "own")
            self.residual = Residual(header, own_set)
        else:
            self.fit = CurveFit(header.canonical, curves)
            self.names = list(self.fit.names)
        self.fps, self.count = header.fps, 0
        super().__init__(path)
        self.file = self.partial.path.open("w", newline="", encoding="utf-8")

    def curves(self, frames: Frames) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Return times (T,) in s, curves (T, C) and the head's angles (T, 3) of the next frames."""
        values = self._weights(frames)
        times = (self.count + np.arange(len(values))) / self.fps
        self.count += len(values)
        angles = np.zeros((len(values), 3))
        if frames.head is not None:
            angles = head_angles(frames.head)
        rounded = (array.round(CURVE_DECIMALS) + 0.0 for array in (times, values, angles))
        first, second, third = rounded  # adding 0 turned -0.0 into 0.0
        return first, second, third

    def _weights(self, frames: Frames) -> np.ndarray:
        """The curves (T, C) of frames; the residual of the mesh's own shapes is measured."""
        if self.own is None or self.residual is None:
            return self.fit(frames.arkit, frames.speech, frames.emotion)
        weights = self.own.weights(frames)
        self.residual.add(frames, weights)
        return weights.astype(np.float64)

    def complete(self) -> None:
        super().complete()
        if self.residual is not None:
            self.metrics |= self.residual.metrics

    def close(self) -> None:
        self.file.close()


class CsvCurveWriter(_CurveWriter):
    """Writes a row a frame: Time in s, the curves in [0, 1], and the head's angles in radians."""

    def __init__(self, path: Path, header: Header, curves: str):
        super().__init__(path, header, curves)
        self.rows: Any = csv.writer(self.file, lineterminator="\n")
        self.rows.writerow(["Time", *self.names, *HEAD_ANGLES])

    def write(self, frames: Frames) -> None:
        for row in np.column_stack(self.curves(frames)):
            self.rows.writerow([f"{value:.{CURVE_DECIMALS}f}" for value in row])

    def finish(self) -> None:
        self.file.close()


class JsonCurveWriter(_CurveWriter):
    """Writes one JSON object whose `frames` have the order of `names`.

    `curves` is the kind, `fps` the frame rate; each frame has `time` in s, `weights` in [0, 1], and
    `head`, yaw, pitch and roll in radians as in Live Link Face.
    """

    def __init__(self, path: Path, header: Header, curves: str = "arkit"):
        super().__init__(path, header, curves)
        about = {
            "talkemo": __version__,
            "curves": curves,
            "fps": header.fps,
            "names": self.names,
            "meta": header.meta,
        }
        self.file.write(f'{json.dumps(about)[:-1]}, "frames": [')
        self.separator = "\n"

    def write(self, frames: Frames) -> None:
        for time, weights, head in zip(*self.curves(frames)):
            frame = {"time": float(time), "weights": weights.tolist(), "head": head.tolist()}
            self.file.write(self.separator + json.dumps(frame))
            self.separator = ",\n"

    def finish(self) -> None:
        self.file.write("\n]}\n")
        self.file.close()
