"""Frames of an animation that was read, as videos show them: cut lips, and head and eyes turned."""

from __future__ import annotations

import numpy as np

from ..binding import Binding
from ..binding.cut_frames import CutFrames, uncut
from ..binding.head_turner import HeadTurner
from ..binding.mesh_to_motion import MeshToMotion
from ..expression.head_motion import gaze_from_weights
from ..formats.animation import Source

HEAD_META = "head"  # auto, or off for a head that stays still
FILMED_META = ("film", "landmarks")  # of a captured performance: its own eyeballs are turned
FRAMES_OF_HEAD_TEST = 64


class Pose:
    """How head and eyes of an animation turn.

    Attributes
    ----------
    head : (T, 3, 3) or None
        Rotations of the head that the vertices do not contain, as in `Frames.head`.
    gaze : (T, 2) or None
        Where the eyes look, as in `Frames.gaze`.
    """

    def __init__(self, source: Source, binding: Binding):
        weights: np.ndarray | None = getattr(source, "arkit", None)
        gaze: np.ndarray | None = getattr(source, "gaze", None)
        if weights is not None:
            gaze = gaze_from_weights(weights)
        self.head = _head_beside_vertices(source, binding)
        self.gaze = gaze if gaze is not None and gaze.any() else None
        self._has_turned_eyes = any(name in source.meta for name in FILMED_META)

    def turner(self, binding: Binding) -> HeadTurner | None:
        """Return what turns the vertices of the animation's own mesh; None if they stay."""
        if self.head is None and (self.gaze is None or self._has_turned_eyes):
            return None
        turner = HeadTurner(binding.shown)
        if self._has_turned_eyes:
            turner.eyes = []
        return turner


def _head_beside_vertices(source: Source, binding: Binding) -> np.ndarray | None:
    """The rotations of the head that a file stores, unless its vertices are rotated already."""
    head: np.ndarray | None = getattr(source, "head", None)
    if head is None or source.meta.get(HEAD_META) == "off":
        return None
    vertices = next(source.chunks(FRAMES_OF_HEAD_TEST))
    _, rotation = MeshToMotion(uncut(binding)).motion_of_mesh(vertices, np.zeros(len(vertices)))
    found = canonical_rotation(binding, rotation)
    still = np.abs(found - np.eye(3)).mean()
    return None if np.abs(found - head[: len(found)]).mean() < still else head


def canonical_rotation(binding: Binding, rotation: np.ndarray) -> np.ndarray:
    """Return rotations (T, 3, 3) of a mesh's head in the axes of the canonical face."""
    axes = binding.placement.rotation
    return np.asarray(axes.T @ rotation @ axes)


class ShownFrames:
    """Makes of an animation's vertices (N, 3) those that are drawn."""

    def __init__(self, source: Source, binding: Binding):
        self._pose, self._last = Pose(source, binding), len(source) - 1
        self._turner = self._pose.turner(binding)
        self._cut: tuple[CutFrames, MeshToMotion] | None = None
        if binding.cut is not None:
            self._cut = CutFrames(binding), MeshToMotion(uncut(binding))

    def __call__(self, vertices: np.ndarray, number: int) -> tuple[np.ndarray, np.ndarray | None]:
        """Return vertices (N + A, 3) of a frame of the animation, and its gaze (2,)."""
        number, pose = min(number, self._last), self._pose
        if self._cut is not None:
            cut_frames, to_motion = self._cut
            motion, _ = to_motion.motion_of_mesh(vertices[None], np.zeros(1))
            (vertices,) = cut_frames.complete(vertices[None], motion.coordinates)
        gaze = None if pose.gaze is None else pose.gaze[number]
        if self._turner is not None:
            head = np.eye(3) if pose.head is None else pose.head[number]
            vertices = self._turner(vertices, head, gaze)
        return vertices, gaze
