"""The binding of a mesh: a linear map from the coordinates of a motion to the mesh's vertices."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cached_property

import numpy as np

from ..deprecated import keep_old_names
from ..face.bite import Bite
from ..face.canonical import ARKIT_GAZE_DEG, ARKIT_NAMES, INNER_LIPS, MOUTH_CORNERS, Face
from ..formats.mesh_types import Mesh
from ..geometry.rigid import Similarity, eye_rotation
from .mouth import bite_gradient

MIN_ARKIT_MOTION_MM = 2e-3  # smaller motion is left out of ARKit targets, which keeps files small
LINING_MOTION_MM = 1.0  # by shapes of the lips, from which a vertex is not the jaw's at all
FOCUS_MARGIN_MM = 8.0  # around the canonical face's box; vertices inside are in a camera's focus
DENSE_MATRIX_FRACTION = 0.5  # of moving vertices; above it a dense product is faster


@dataclass(frozen=True, eq=False)
class Binding:
    """How a mesh follows the motion of the canonical face.

    N is the number of the mesh's vertices, M of those that can move, S of blend shapes. Made by
    `talkemo.bind`; `vertices(motion.coordinates)` animates the mesh.

    Attributes
    ----------
    mesh : Mesh
        The user's mesh, whose vertices (N, 3) keep their order, unit and orientation.
    face : Face
        The canonical face.
    moving : (M,) int
        The vertices that can move, ascending.
    targets : (S, M, 3) float32
        Displacement of the moving vertices by each blend shape at weight 1, in the mesh's unit and
        orientation.
    canonical : (M,) int
        Nearest canonical vertex of each moving vertex of the skin, -1 for other parts.
    landmarks68 : (68,) int
        The mesh's vertices closest to the iBUG landmarks.
    placement : Similarity
        Map from the canonical face to the mesh.
    error : float
        Median distance between the bilinear model's fit and the mesh, in canonical mm.
    relief : float
        Correlation, up to 1, of the mesh's relief with the canonical face's.
    parts : dict
        Number of the vertices of each recognised part, such as skin, eyes, jaw.
    eyes : tuple of (vertices, centre)
        Vertices (E,) int and centre (3,) of the right and of the left eyeball, in the mesh's unit.
    lip_gap : (J,) float32 mm, optional
        Height of the mouth at rest in the columns of `face_lips`; None for the canonical face's.
    lid_contours : (2, P, 3) float64 mm, optional
        Edges of the right and the left lids in the space of the canonical face, where skin closes
        an eye (see lid_sheet.py); 0 where an eye is open or has a ball.
    cut : LipCut, optional
        The cut between the lips of a mesh whose lips are one skin.
    other_faces : int, optional
        How many other faces the mesh has, which do not move; None if they were not looked for.
    """

    mesh: Mesh
    face: Face
    moving: np.ndarray
    targets: np.ndarray
    canonical: np.ndarray
    landmarks68: np.ndarray
    placement: Similarity
    error: float
    relief: float
    parts: dict[str, int] = field(default_factory=dict)
    eyes: tuple[tuple[np.ndarray, np.ndarray], ...] = ()
    lip_gap: np.ndarray | None = None
    lid_contours: np.ndarray | None = None
    cut: LipCut | None = None
    other_faces: int | None = None

    @property
    def shown(self) -> Binding:
        """The binding of the mesh that is drawn: cut between its lips, if they are one skin.

        Its first N vertices are the mesh's own.
        """
        return self if self.cut is None else self.cut.binding

    @property
    def scale(self) -> float:
        """Mesh units per canonical mm."""
        return self.placement.scale

    @cached_property
    def rest(self) -> np.ndarray:
        """(N, 3) float32, vertices of the mesh at rest."""
        return self.mesh.vertices.astype(np.float32)

    @cached_property
    def matrix(self) -> np.ndarray:
        """(S, M·3) float32, displacement of the moving vertices by 1 mm of each coordinate."""
        return self._by_coordinates(self.targets, self.canonical >= 0).reshape(
            len(self.targets), -1
        )

    def _by_coordinates(self, targets: np.ndarray, skin: np.ndarray) -> np.ndarray:
        """Return the displacement (S, P, 3) float32 by 1 mm of each coordinate, of some vertices.

        `targets` (S, P, 3) are theirs; `skin` (P,) bool tells which of them are skin.
        """
        to_weights = self.face.coordinates_to_weights
        result = np.empty_like(targets)
        result[:, skin] = np.tensordot(to_weights.astype(np.float32), targets[:, skin], 1)
        if not skin.all():
            # Many combinations of weights move the skin alike, but not jaw and tongue. Those use
            # the regularised combination.
            weights = self.regularised_weights.astype(np.float32)
            result[:, ~skin] = np.tensordot(weights, targets[:, ~skin], 1)
        return result

    @property
    def regularised_weights(self) -> np.ndarray:
        """(S, S) float64, regularised blend-shape weights of 1 mm of each coordinate."""
        return self.face.regularised_weights

    @property
    def has_teeth(self) -> bool:
        """Whether the mesh has its own teeth."""
        return bool(self.parts.get("upper_teeth") or self.parts.get("jaw"))

    @cached_property
    def _dense_matrix(self) -> np.ndarray:
        """(S, N·3) float32, `matrix` with zeros for vertices that do not move."""
        result = np.zeros((len(self.targets), *self.rest.shape), np.float32)
        result[:, self.moving] = self.matrix.reshape(self.targets.shape)
        return result.reshape(len(result), -1)

    @cached_property
    def bite(self) -> Bite:
        """How the mesh's own lower teeth and tongue are kept from rising above the closed bite.

        They are what the jaw's shapes alone move; a lining of the mouth follows the lips as well.
        """
        names, other = self.face.expression_names, self.canonical < 0
        jaw = [name.startswith("jaw") for name in names]
        by_lips = np.linalg.norm(self.targets[~np.array(jaw)][:, other], axis=2).max(0)
        share = np.maximum(1 - by_lips / (LINING_MOTION_MM * self.scale), 0)
        opened = share[:, None] * self.targets[names.index("jawOpen"), other]
        rigid = opened.any(1)
        rows = self.moving[other][rigid]
        return Bite(bite_gradient(self.face), rows, opened[rigid].astype(np.float32))

    def basis(self) -> np.ndarray:
        """Return the displacement (S, N, 3) float32 of all vertices by 1 mm of each coordinate.

        Without what `bite` adds.
        """
        return self._dense_matrix.reshape(len(self.targets), -1, 3)

    def displacement(self, coordinates: np.ndarray) -> np.ndarray:
        """Return the displacement (T, M, 3) float32 of the moving vertices.

        Parameters
        ----------
        coordinates : (T, S) float32
            Of a motion; the result is in the mesh's unit.
        """
        result = (coordinates @ self.matrix).reshape(len(coordinates), -1, 3)
        self.bite.of(self.moving).keep(result, coordinates)
        return result

    def vertices(self, coordinates: np.ndarray) -> np.ndarray:
        """Return the vertices (T, N, 3) float32 of the mesh for a motion's coordinates (T, S)."""
        if len(self.moving) > DENSE_MATRIX_FRACTION * len(self.rest):
            result = (coordinates @ self._dense_matrix).reshape(len(coordinates), -1, 3)
            result += self.rest
            self.bite.keep(result, coordinates)
            return result
        result = np.repeat(self.rest[None], len(coordinates), axis=0)
        result[:, self.moving] += self.displacement(coordinates)
        return result

    def arkit_targets(self) -> np.ndarray:
        """Return the displacement (52, N, 3) float32 of all vertices by ARKit's shapes at weight 1.

        Gaze shapes also rotate the eyeballs.
        """
        moved = np.tensordot((self.face.arkit_matrix > 0).T.astype(np.float32), self.targets, 1)
        moved[np.abs(moved).max(2) < MIN_ARKIT_MOTION_MM * self.scale] = 0
        targets = np.zeros((len(ARKIT_NAMES), *self.rest.shape), np.float32)
        targets[:, self.moving] = moved
        for side, (vertices, centre) in zip(("Right", "Left"), self.eyes):
            from_centre = self.mesh.vertices[vertices] - centre
            for name, target in gaze_targets(side, from_centre, self).items():
                targets[ARKIT_NAMES.index(name), vertices] = target
        return targets

    def lip_opening_ratio(self) -> float:
        """Return how far jawOpen opens the lips compared with the canonical face.

        Both openings are measured relative to the width of the mouth.
        """
        face = self.face
        jaw = face.expression_names.index("jawOpen")
        # Only the landmarks: the matrix of a mesh with many vertices takes seconds.
        place = np.searchsorted(self.moving, self.landmarks68).clip(0, len(self.moving) - 1)
        moved = self._by_coordinates(self.targets[:, place], self.canonical[place] >= 0)
        opened = np.tensordot(face.weights_to_coordinates[jaw].astype(np.float32), moved, 1)
        opened[self.moving[place] != self.landmarks68] = 0
        rest = self.placement.to_canonical(self.mesh.vertices[self.landmarks68])
        upper, lower = (opened @ self.placement.rotation / self.scale)[list(INNER_LIPS), 1]
        right, left = rest[list(MOUTH_CORNERS)]
        face_right, face_left = face.mean[face.landmarks68[list(MOUTH_CORNERS)]]
        face_opening = face.lip_opening(face.expression_basis[jaw])
        face_ratio = face_opening / np.linalg.norm(face_left - face_right)
        return float((upper - lower) / np.linalg.norm(left - right) / face_ratio)

    @cached_property
    def focus(self) -> np.ndarray:
        """(N,) bool, vertices of and around the face: what a camera should frame."""
        points, mean = self.placement.to_canonical(self.mesh.vertices), self.face.mean
        low, high = mean.min(0) - FOCUS_MARGIN_MM, mean.max(0) + FOCUS_MARGIN_MM
        return ((points > low) & (points < high)).all(1)

    def region(self, name: str) -> np.ndarray:
        """Return the vertices of the mesh in a region of the face, one of `canonical.REGIONS`."""
        return self.moving[(self.canonical >= 0) & self.face.regions[name][self.canonical]]


@dataclass(frozen=True, eq=False)
class LipCut:
    """A cut between the lips of a mesh of N vertices, see `lip_cut.cut_lips`.

    Attributes
    ----------
    binding : Binding
        Of the cut mesh.
    line : (3, C)
        Where the lips touch: x, y and z in canonical mm, see `lip_line.LipLine`.
    skin : (N,) bool
        The vertices whose triangles may be cut.
    """

    binding: Binding
    line: np.ndarray
    skin: np.ndarray


def gaze_targets(side: str, from_centre: np.ndarray, binding: Binding) -> dict[str, np.ndarray]:
    """Return the displacements (P, 3) of points of an eyeball by ARKit's gaze shapes, by name.

    `side` is Right or Left; `from_centre` (P, 3) are the points relative to the eye's centre, in
    the mesh's unit and orientation.
    """
    inwards = 1 if side == "Right" else -1
    gazes = {"Down": (1, 0), "Up": (-1, 0), "In": (0, inwards), "Out": (0, -inwards)}
    result = {}
    for direction, pitch_yaw in gazes.items():
        gaze = np.radians(ARKIT_GAZE_DEG * np.array(pitch_yaw))
        rotation = eye_rotation(gaze, binding.placement.rotation)
        result[f"eyeLook{direction}{side}"] = from_centre @ rotation.T - from_centre
    return result


keep_old_names(Binding, {"shapes": "targets"})
