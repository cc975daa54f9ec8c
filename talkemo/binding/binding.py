"""A binding: how a mesh follows the canonical face, as one matrix from a motion's coordinates to vertices."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cached_property

import numpy as np

from ..face.canonical import ARKIT_NAMES, INNER_LIPS, MOUTH_CORNERS, Face
from ..formats.mesh_types import Mesh
from ..geometry.rigid import Similarity, eye_rotation

INVISIBLE = 2e-3  # mm of motion that ARKit targets leave out
AROUND = 8.0  # mm around the canonical face that belong to it in a picture
GAZE = 25.0  # degrees that an eye turns for a gaze at weight 1
DENSE = 0.5  # share of moving vertices from which all vertices are multiplied at once, which is quicker than scattering


@dataclass(frozen=True, eq=False)
class Binding:
    """How a mesh of N vertices follows the canonical face.

    mesh: the user's mesh; face: the canonical one
    moving: (M,) int, its vertices that can move; shapes: (S, M, 3) float32, what each blend shape at weight 1 moves them
        by, in the mesh's unit and orientation
    canonical: (M,) int, the nearest canonical vertex of skin, -1 for vertices of other parts
    landmarks68: (68,) int, vertices of the mesh nearest to the iBUG points
    placement: the similarity from the canonical face to the mesh
    error: median distance in canonical mm between the bilinear model's face and the mesh
    relief: how much the mesh's relief is like a face's, up to 1
    parts: number of the mesh's vertices by what they were recognised as
    eyes: for each eye, the right one first, its vertices and its centre
    """

    mesh: Mesh
    face: Face
    moving: np.ndarray
    shapes: np.ndarray
    canonical: np.ndarray
    landmarks68: np.ndarray
    placement: Similarity
    error: float
    relief: float
    parts: dict[str, int] = field(default_factory=dict)
    eyes: tuple[tuple[np.ndarray, np.ndarray], ...] = ()

    @property
    def scale(self) -> float:
        """Mesh units per canonical mm."""
        return self.placement.scale

    @cached_property
    def rest(self) -> np.ndarray:
        """(N, 3) float32, the mesh without motion."""
        return self.mesh.vertices.astype(np.float32)

    @cached_property
    def matrix(self) -> np.ndarray:
        """(S, M·3) float32, what a unit of each of a motion's coordinates moves the moving vertices by."""
        skin = self.canonical >= 0
        to_shapes = self.face.coordinates_to_weights
        result = np.empty_like(self.shapes)
        result[:, skin] = np.tensordot(to_shapes.astype(np.float32), self.shapes[:, skin], 1)
        if not skin.all():
            # Many combinations of shapes move the skin alike. Jaw and tongue follow the plainest of them.
            plain = np.linalg.inv(to_shapes).T @ np.linalg.inv(
                self.face.expression_gram.astype(np.float64)
            )
            result[:, ~skin] = np.tensordot(plain.astype(np.float32), self.shapes[:, ~skin], 1)
        return result.reshape(len(result), -1)

    @cached_property
    def _dense_matrix(self) -> np.ndarray:
        """(S, N·3) float32, `matrix` with zeros for vertices that do not move."""
        result = np.zeros((len(self.shapes), *self.rest.shape), np.float32)
        result[:, self.moving] = self.matrix.reshape(self.shapes.shape)
        return result.reshape(len(result), -1)

    def basis(self) -> np.ndarray:
        """(S, N, 3) float32, what a unit of each of a motion's coordinates moves each of the mesh's vertices by."""
        return self._dense_matrix.reshape(len(self.shapes), -1, 3)

    def displacement(self, coordinates: np.ndarray) -> np.ndarray:
        """What a motion's coordinates (T, S) move the moving vertices by, (T, M, 3) float32 in the mesh's unit."""
        return (coordinates @ self.matrix).reshape(len(coordinates), -1, 3)

    def vertices(self, coordinates: np.ndarray) -> np.ndarray:
        """Vertices (T, N, 3) float32 of the mesh for a motion's coordinates (T, S)."""
        if len(self.moving) > DENSE * len(self.rest):
            result = (coordinates @ self._dense_matrix).reshape(len(coordinates), -1, 3)
            result += self.rest
            return result
        result = np.repeat(self.rest[None], len(coordinates), axis=0)
        result[:, self.moving] += self.displacement(coordinates)
        return result

    def arkit_targets(self) -> np.ndarray:
        """(52, N, 3) float32, what ARKit's shapes at weight 1 move the mesh's vertices by; a gaze turns the eyeballs."""
        targets = np.zeros((len(ARKIT_NAMES), *self.rest.shape), np.float32)
        moved = np.tensordot((self.face.arkit_matrix > 0).T.astype(np.float32), self.shapes, 1)
        moved[np.abs(moved).max(2) < INVISIBLE * self.scale] = 0  # so that a file need not hold it
        targets[:, self.moving] = moved
        for side, (vertices, centre) in zip(("Right", "Left"), self.eyes):
            inwards = 1.0 if side == "Right" else -1.0
            turns = {
                "Down": (1.0, 0.0),
                "Up": (-1.0, 0.0),
                "In": (0.0, inwards),
                "Out": (0.0, -inwards),
            }
            for gaze, (pitch, yaw) in turns.items():
                if len(vertices):
                    row = ARKIT_NAMES.index(f"eyeLook{gaze}{side}")
                    targets[row, vertices] = self._eye_motion(
                        vertices, centre, pitch * GAZE, yaw * GAZE
                    )
        return targets

    def _eye_motion(
        self, vertices: np.ndarray, centre: np.ndarray, pitch: float, yaw: float
    ) -> np.ndarray:
        """What turning an eye about its centre by degrees of pitch or yaw moves its vertices by, (E, 3)."""
        rotation = eye_rotation(np.radians((pitch, yaw)), self.placement.rotation)
        arm = self.mesh.vertices[vertices] - centre
        return arm @ rotation.T - arm

    def lip_opening_ratio(self) -> float:
        """How far jawOpen opens the lips, beside the canonical face's, both relative to the width of the mouth."""
        face = self.face
        jaw = face.expression_names.index("jawOpen")
        rest = self.placement.to_canonical(self.mesh.vertices[self.landmarks68])
        opened = self.vertices(face.weights_to_coordinates[jaw][None])[0, self.landmarks68]
        upper, lower = INNER_LIPS
        own = (self.placement.to_canonical(opened) - rest)[[upper, lower], 1]
        right, left = MOUTH_CORNERS
        ends = face.mean[face.landmarks68[[right, left]]]
        canonical = face.lip_opening(face.expression_basis[jaw]) / np.linalg.norm(ends[1] - ends[0])
        return float((own[0] - own[1]) / np.linalg.norm(rest[left] - rest[right]) / canonical)

    @cached_property
    def focus(self) -> np.ndarray:
        """(N,) bool, the vertices where the face is: what a camera should look at."""
        points, mean = self.placement.to_canonical(self.mesh.vertices), self.face.mean
        return ((points > mean.min(0) - AROUND) & (points < mean.max(0) + AROUND)).all(1)

    def region(self, name: str) -> np.ndarray:
        """Indices of the mesh's vertices in a region of the canonical face, one of `face.REGIONS`."""
        return self.moving[(self.canonical >= 0) & self.face.regions[name][self.canonical]]
