"""The blend shapes that a file of an animation contains: ARKit's 52, the mesh's own, or both."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from ..face.canonical import ARKIT_NAMES
from .animation import Frames, Header

RESIDUAL_STEP_FRAMES = 8  # between frames at which the residual of blend shapes is measured
ARKIT_SUFFIX = "_arkit"  # of ARKit's shapes whose names the mesh's own have


@dataclass(frozen=True, eq=False)
class TargetSet:
    """Blend shapes that together show the frames of an animation.

    Attributes
    ----------
    kind : str
        arkit or own.
    names : tuple of str
    targets : (K, N, 3)
        Displacements of the mesh at weight 1.
    recipes : (K, 52)
        ARKit's shapes that each shows at weight 1.
    at_rest : (K,)
        Weights in the mesh at rest.
    weights : callable
        From frames to weights (T, K).
    """

    kind: str
    names: tuple[str, ...]
    targets: np.ndarray
    recipes: np.ndarray
    at_rest: np.ndarray
    weights: Callable[[Frames], np.ndarray]


def target_sets(header: Header) -> list[TargetSet]:
    """Return the sets of blend shapes of a header: first the mesh's own, then ARKit's."""
    sets = []
    own, taken = header.own_shapes, set()
    if own is not None:
        taken = set(own.names)
        sets.append(
            TargetSet("own", own.names, own.targets(), own.recipes, own.at_rest, own.weights)
        )
    if header.targets is not None:
        names = tuple(f"{name}{ARKIT_SUFFIX}" if name in taken else name for name in ARKIT_NAMES)
        count = len(names)
        sets.append(
            TargetSet(
                "arkit",
                names,
                header.targets(),
                np.eye(count),
                np.zeros(count),
                lambda frames: frames.arkit,
            )
        )
    return sets


def points_without_weights(header: Header, sets: list[TargetSet]) -> np.ndarray:
    """Return the mesh (N, 3) of a header with the weights of all shapes at 0."""
    points = header.rest
    for shapes in sets:
        if shapes.at_rest.any():
            points = points - np.tensordot(shapes.at_rest.astype(np.float32), shapes.targets, 1)
    return points


class Residual:
    """Mean distance of the face's vertices from where they should be, in the mesh's unit.

    Parameters
    ----------
    header : Header
    shapes : TargetSet
        The blend shapes by which the frames are shown.
    """

    def __init__(self, header: Header, shapes: TargetSet):
        self.header, self.shapes = header, shapes
        self.focus = np.flatnonzero(header.focus)
        self._targets = shapes.targets[:, self.focus]
        self._count, self._sum, self._distances = 0, 0.0, 0

    def add(self, frames: Frames, weights: np.ndarray) -> None:
        """Measure every RESIDUAL_STEP_FRAMES-th of the frames, which have weights (T, K)."""
        header = self.header
        rows = slice(-self._count % RESIDUAL_STEP_FRAMES, None, RESIDUAL_STEP_FRAMES)
        self._count += len(frames.vertices)
        if not len(self.focus) or not len(frames.vertices[rows]):
            return
        above_rest = weights[rows] - self.shapes.at_rest.astype(weights.dtype)
        shown = header.rest[self.focus] + np.tensordot(above_rest, self._targets, 1)
        turned = header.turned
        if turned is not None and turned.turns_head and frames.head is not None:
            pivot, turn = turned.pivot, turned.head(frames.head[rows])
            shown = (shown - pivot) @ turn.transpose(0, 2, 1) + pivot
        distances = np.linalg.norm(frames.vertices[rows][:, self.focus] - shown, axis=2)
        self._sum += float(distances.sum())
        self._distances += distances.size

    @property
    def metrics(self) -> dict[str, float]:
        """The residual by its name in a writer's metrics; {} if nothing was measured."""
        if not self._distances:
            return {}
        return {f"{self.shapes.kind}_residual_mesh_units": self._sum / self._distances}
