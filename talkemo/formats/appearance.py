"""How a mesh is drawn: a textured surface, and vertices that are drawn but not part of the mesh."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from ..face.bite import Bite
    from .animation import Frames


class AddedVertices:
    """Vertices that are drawn with a mesh and move with it, such as eyeballs and teeth.

    This base class adds none; a subclass computes the added vertices of a frame when it is called.

    Attributes
    ----------
    points : (A, 3)
        The added vertices at rest.
    balls : list of (slice, (3,))
        The rows in `points` and the centre of each added eyeball.
    gaze : (2,), optional
        Pitch and yaw of the added eyeballs in radians relative to the head; None for ahead.
    shade : (A,), optional
        Rows of the texture by which the points of the last frame are drawn darker.
    own_shade : (N,), optional
        The same for the mesh's own vertices, where they are teeth or the inside of the mouth.
    bite : Bite, optional
        How the added vertices are kept below the closed bite.
    """

    def __init__(self) -> None:
        self.points = np.zeros((0, 3), np.float32)
        self.balls: list[tuple[slice, np.ndarray]] = []
        self.gaze: np.ndarray | None = None
        self.shade: np.ndarray | None = None
        self.own_shade: np.ndarray | None = None
        self.bite: Bite | None = None

    def __call__(self, vertices: np.ndarray) -> np.ndarray:
        """Return the added vertices (A, 3) for a frame of the mesh (N, 3)."""
        return self.points

    def linear(self, vertices: np.ndarray) -> np.ndarray:
        """Return the same without `bite`: linear in the vertices while the head does not turn."""
        return self(vertices)


@dataclass(frozen=True, eq=False)
class AddedMesh:
    """An added part for a file of meshes, such as teeth.

    Attributes
    ----------
    name : str
    rows : (P,)
        Its points among all added vertices.
    faces : (F, 3)
        Triangles of these points.
    colour : (3,)
        RGB from 0 to 255; white where there is a texture.
    roughness : float
        Of its surface, from 0 to 1.
    uv : (P, 2), optional
        Texture coordinates, v pointing up.
    texture : bytes, optional
        A PNG.
    point_colours : (P, 3), optional
        RGB of each point, from 0 to 255, where there is a texture.
    """

    name: str
    rows: np.ndarray
    faces: np.ndarray
    colour: np.ndarray
    roughness: float
    uv: np.ndarray | None = None
    texture: bytes | None = None
    point_colours: np.ndarray | None = None

    @property
    def linear_colour(self) -> list[float]:
        """RGB from 0 to 1, linear in light, as glTF and USD expect."""
        return (np.asarray(self.colour) / 255).clip(0, 1).__pow__(2.2).round(4).tolist()


@dataclass(frozen=True, eq=False)
class AddedMeshes:
    """All parts that are added to a mesh, for a file of meshes.

    Attributes
    ----------
    vertices : AddedVertices
        The added vertices of a frame.
    targets : callable
        Returns their displacements (52, A, 3) by ARKit's blend shapes at weight 1.
    meshes : list of AddedMesh
    """

    vertices: AddedVertices
    targets: Callable[[], np.ndarray]
    meshes: list[AddedMesh]

    def frames(self, frames: Frames) -> np.ndarray:
        """Return the added vertices (T, A, 3) of frames, in the pose of their vertices."""
        result = []
        for k, vertices in enumerate(frames.vertices):
            self.vertices.gaze = frames.gaze_of(k)
            result.append(self.vertices(vertices))
        return np.asarray(np.stack(result), np.float32)


@dataclass(frozen=True, eq=False)
class Appearance:
    """The triangles that are drawn of a mesh of N vertices, and their texture.

    Corners are vertices with texture coordinates; a vertex on a texture seam has several corners.

    Attributes
    ----------
    faces : (F, 3)
        Triangles, as indices of corners.
    vertex : (C,)
        Index of each corner's vertex; indices from N on are added vertices.
    place : (C, 2)
        Column and row of each corner in the texture, in pixels, at rest; see `places`.
    texture : (H, W, 3) uint8
    vertices : int
        N, the number of vertices of the mesh.
    added : AddedVertices
    mouth : (M,)
        The corners of the mesh's own teeth and mouth, which are darker between closed lips.
    eye : (float, float, float), optional
        Column and row of the middle of a painted iris in the texture, and pixels per radian around
        it: there the light is reflected. None if no eyes are painted.
    opacity : (H, W) uint8, optional
        Of the texture; None where all of it is opaque.
    """

    faces: np.ndarray
    vertex: np.ndarray
    place: np.ndarray
    texture: np.ndarray
    vertices: int
    added: AddedVertices = field(default_factory=AddedVertices)
    mouth: np.ndarray = field(default_factory=lambda: np.zeros(0, int))
    eye: tuple[float, float, float] | None = None
    opacity: np.ndarray | None = None

    def look_at(self, gaze: np.ndarray | None) -> None:
        """Turn the added eyeballs to pitch and yaw (2,) in radians; None for ahead."""
        self.added.gaze = gaze

    @property
    def drawn(self) -> np.ndarray:
        """Indices of the mesh's vertices that are drawn."""
        return np.unique(self.vertex[self.vertex < self.vertices])

    @property
    def added_count(self) -> int:
        """Number of added vertices."""
        return len(self.added.points)

    @property
    def balls(self) -> list[tuple[np.ndarray, np.ndarray]]:
        """Vertex indices and centre of each added eyeball."""
        rows = self.vertices + np.arange(self.added_count)
        return [(rows[ball], centre) for ball, centre in self.added.balls]

    def points(self, vertices: np.ndarray) -> np.ndarray:
        """Return the vertices (N, 3) of a frame and the added ones, (N + A, 3) float32."""
        return np.concatenate([vertices, self.added(vertices)]).astype(np.float32)

    def places(self) -> np.ndarray:
        """Return `place` (C, 2) with the shade of the frame that `points` was last called for."""
        shade, own_shade = self.added.shade, self.added.own_shade
        place = self.place
        if shade is not None and len(shade):
            corners = np.flatnonzero(self.vertex >= self.vertices)
            place = place.copy()
            place[corners, 1] += shade[self.vertex[corners] - self.vertices]
        if own_shade is not None and len(self.mouth):
            place = place.copy()
            place[self.mouth, 1] += own_shade[self.vertex[self.mouth]]
        return place
