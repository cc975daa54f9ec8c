"""Opening what `render` and `transfer` change: animation files, and fitted clips of videos."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from ..capture.fitted_clips import is_fitted_clip
from ..capture.sources import ClipSource
from ..errors import InputError
from ..formats.animation import Source, frames_per_chunk
from ..formats.registry import open_animation
from ..weights.models import Models
from .options import PathLike

if TYPE_CHECKING:
    from ..formats.mesh_types import Mesh, MeshAttributes


class ClipAnimation:
    """A `Source` of the person's own face in a fitted clip (clips/*.npz of a folder of videos).

    Raises InputError for a file that is not one, or one of another face model.
    """

    def __init__(self, path: Path, models: Models):
        from .reconstruct import Person

        performance = ClipSource(path).fit(models)
        self.path, self.fps = path, performance.fps
        self.person = Person(models.face, performance.capture.identity)
        self.weights = performance.capture.shapes
        self.faces = models.face.faces
        self.shape: tuple[int, ...] = (len(self.weights), *self.person.neutral.shape)
        self.rest: np.ndarray | None = self.person.neutral
        self.focus: np.ndarray | None = np.ones(self.shape[1], bool)
        self.facing: np.ndarray | None = np.eye(3)
        self.meta: dict[str, Any] = {}
        self.attributes: MeshAttributes | None = None

    def __len__(self) -> int:
        return self.shape[0]

    def chunks(self, frames: int = 64) -> Iterator[np.ndarray]:
        """Yield the vertices of consecutive frames, (≤ frames, V, 3) float32."""
        frames = frames_per_chunk(frames, self.shape[1])
        for start in range(0, len(self), frames):
            yield self.person.vertices(self.weights[start : start + frames])


def open_source(
    path: PathLike,
    fps: float | None,
    models: Callable[[], Models],
    mesh: PathLike | Mesh | None = None,
    neutral: PathLike | Mesh | None = None,
) -> Source:
    """Open an npz, a GLB, a .npy of vertices, a folder of meshes, or a fitted clip.

    Parameters
    ----------
    path : path
    fps, mesh, neutral : optional
        As in `open_animation`; a fitted clip has a frame rate and triangles of its own.
    models : callable
        Returns the models; called for a fitted clip only.
    """
    if not is_fitted_clip(path):
        return open_animation(path, fps, mesh, neutral)
    if mesh is not None:
        raise InputError(f"{path} has triangles of its own", "leave --mesh out")
    if fps is not None:
        raise InputError(f"{path} has its own frame rate", "leave --fps out")
    return ClipAnimation(Path(path), models())
