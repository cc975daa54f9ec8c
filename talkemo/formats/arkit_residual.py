"""How far ARKit's blend shapes are from the motion that they stand for."""

from __future__ import annotations

import numpy as np

from .animation import Frames, Header

RESIDUAL_STEP_FRAMES = 8  # between frames at which it is measured


class ArkitResidual:
    """Mean distance of the face's vertices from where they should be, in units of the mesh.

    Parameters
    ----------
    header : Header
    targets : (52, N, 3)
        What its `targets` returned.
    """

    def __init__(self, header: Header, targets: np.ndarray):
        self.header, self.targets = header, targets
        self.focus = np.flatnonzero(header.focus)
        self.count = 0
        self._sum, self._distances = 0.0, 0

    def add(self, frames: Frames) -> None:
        """Measure the next frames."""
        rows = slice(-self.count % RESIDUAL_STEP_FRAMES, None, RESIDUAL_STEP_FRAMES)
        self.count += len(frames.vertices)
        if not len(self.focus) or not len(frames.vertices[rows]):
            return
        targets = self.targets[:, self.focus]
        shown = self.header.rest[self.focus] + np.tensordot(frames.arkit[rows], targets, 1)
        if self.header.turned is not None and frames.head is not None:
            pivot = self.header.turned.pivot
            turn = self.header.turned.head(frames.head[rows])
            shown = (shown - pivot) @ turn.transpose(0, 2, 1) + pivot
        distances = np.linalg.norm(frames.vertices[rows][:, self.focus] - shown, axis=2)
        self._sum += float(distances.sum())
        self._distances += distances.size

    @property
    def metrics(self) -> dict[str, float]:
        """The residual by its name in `Writer.metrics`; {} if nothing was measured."""
        if not self._distances:
            return {}
        return {"arkit_residual_mesh_units": self._sum / self._distances}
