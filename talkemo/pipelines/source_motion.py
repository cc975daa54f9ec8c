"""The motion that the vertices of an animation show."""

from __future__ import annotations

import numpy as np

from ..binding import Binding
from ..binding.cut_frames import uncut
from ..binding.mesh_to_motion import MeshToMotion
from ..face.motion import Motion
from ..formats.animation import Source


class SourceMotion:
    """Finds the motion of the frames of an animation.

    A GLB of talkemo says by which weights of ARKit's shapes its vertices move. Other motion is
    estimated from the vertices; that of few vertices leaves open how the lids between them move.

    Parameters
    ----------
    source : Source
    binding : Binding
        Of the animation's own mesh.
    """

    def __init__(self, source: Source, binding: Binding):
        self._fps, self._face = source.fps, binding.face
        self._arkit: np.ndarray | None = getattr(source, "shown_arkit", None)
        self._to_motion = None if self._arkit is not None else MeshToMotion(uncut(binding))

    def __call__(self, vertices: np.ndarray, first: int) -> tuple[Motion, np.ndarray]:
        """Return the motion of consecutive frames, and the rotation (T, 3, 3) of the mesh's head.

        Parameters
        ----------
        vertices : (T, N, 3)
            Of the mesh without the vertices of a cut.
        first : int
            Number of the first frame.
        """
        frames = slice(first, first + len(vertices))
        times = np.arange(frames.start, frames.stop) / self._fps
        if self._to_motion is not None:
            return self._to_motion.motion_of_mesh(vertices, times)
        assert self._arkit is not None
        weights = self._arkit[frames] @ (self._face.arkit_matrix > 0).T
        still = np.broadcast_to(np.eye(3), (len(times), 3, 3))
        return Motion.from_weights(self._face, times, weights.astype(np.float32)), still
