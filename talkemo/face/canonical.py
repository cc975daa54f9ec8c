"""The canonical face and its bilinear model V = C_r × w_exp × w_id (3D-TalkEmo, Eq. 1).

The canonical face is the mean neutral face: V vertices in millimetres, y up, looking along +z.
Expressions displace its vertices. All displacements lie in the span of the face's S blend shapes,
so they are handled as coordinates (S,) in an orthonormal basis of that span, see motion.py.

The model is stored as a Tucker decomposition: the paper's core tensor C_r (V·3, E, I) is `basis` ×
`core`, at a fiftieth of the size. `mean` is subtracted first, so that float16 is precise enough.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import dataclass, fields
from functools import cached_property
from typing import Any

import numpy as np

from ..deprecated import keep_old_names
from ..errors import InputError
from ..geometry.numerics import bounded_least_squares
from .anatomy import Anatomy

# Apple's 52 blend shapes in Apple's order.
ARKIT_NAMES = (
    "eyeBlinkLeft eyeLookDownLeft eyeLookInLeft eyeLookOutLeft eyeLookUpLeft eyeSquintLeft "
    "eyeWideLeft eyeBlinkRight eyeLookDownRight eyeLookInRight eyeLookOutRight eyeLookUpRight "
    "eyeSquintRight eyeWideRight jawForward jawLeft jawRight jawOpen mouthClose mouthFunnel "
    "mouthPucker mouthLeft mouthRight mouthSmileLeft mouthSmileRight mouthFrownLeft "
    "mouthFrownRight mouthDimpleLeft mouthDimpleRight mouthStretchLeft mouthStretchRight "
    "mouthRollLower mouthRollUpper mouthShrugLower mouthShrugUpper mouthPressLeft mouthPressRight "
    "mouthLowerDownLeft mouthLowerDownRight mouthUpperUpLeft mouthUpperUpRight browDownLeft "
    "browDownRight browInnerUp browOuterUpLeft browOuterUpRight cheekPuff cheekSquintLeft "
    "cheekSquintRight noseSneerLeft noseSneerRight tongueOut"
).split()
ARKIT_GAZE_DEG = 25.0  # rotation of an eye at weight 1 of a gaze (eyeLookUpLeft and so on)

# iBUG landmarks, counted from 0. Right and left are the face's own.
JAW_LINE = slice(0, 17)
RIGHT_EYE, LEFT_EYE = slice(36, 42), slice(42, 48)
BROWS = (slice(17, 22), slice(22, 27))  # right and left
LIPS = slice(48, 68)
INNER_LIPS = (62, 66)  # middle of the inner upper and of the inner lower lip
MOUTH_CORNERS = (48, 54)  # right and left corner
LIP_PAIRS = ((61, 67), (62, 66), (63, 65))  # facing points of the upper and lower inner lip

# Centres of the eyeballs on the canonical face, the right one first.
EYE_CENTRES_MM = np.array([[-31.36, 36.07, 80.18], [31.36, 36.07, 80.18]])
EYEBALL_RADIUS_MM = 14.6

# Regions of the canonical face; `Face.regions` maps each name to a mask.
REGIONS = ("lips", "mouth", "eyelids", "upper_face", "lower_face")


@dataclass(frozen=True, eq=False)
class Face:
    """The canonical face with its bilinear model. Arrays are stored in the weights by these names.

    V vertices, F triangles, S blend shapes, E and I expression and identity weights, R factors.
    """

    mean: np.ndarray  # (V, 3) float32 mm, the canonical face
    faces: np.ndarray  # (F, 3) int32 triangles
    landmarks68: np.ndarray  # (68,) int32, vertices of the iBUG landmarks
    mirror: np.ndarray  # (V,) int32, the corresponding vertex on the other side
    regions: dict[str, np.ndarray]  # name in REGIONS → (V,) bool
    mouth_weight: np.ndarray  # (V,) float32, 1 on the lips, falling to 0 around them
    basis: np.ndarray  # (R, V, 3) float32, vertex factor of the core tensor
    core: np.ndarray  # (R, E, I) float32
    expression_factor: np.ndarray  # (1 + S, E) float32, w_exp of neutral and of each blend shape
    expression_names: tuple[str, ...]  # S names of blend shapes, ARKit's with _L and _R
    identity_mean: np.ndarray  # (I,) float32, w_id of the canonical face
    identity_scale: np.ndarray  # (I, I) float32, w_id = mean + scale @ z with z ~ N(0, 1)
    chart: np.ndarray  # (V, 2) float32 mm, vertices in the plane of the geometry map
    chart_stress: float  # relative least-squares stress of the chart against the geodesics
    map_mask: np.ndarray  # (128, 128), pixels of the geometry map that show the face
    map_vertices: np.ndarray  # (M, 3), vertices that each of the M pixels interpolates
    map_vertex_weights: np.ndarray  # (M, 3)
    map_pixels: np.ndarray  # (V, K), pixels of the mask that each vertex is interpolated from
    map_pixel_weights: np.ndarray  # (V, K)
    mesh_points: np.ndarray  # (P,), ids of MediaPipe's mesh points
    mesh_point_vertices: np.ndarray  # (P, 3), triangle that each of them lies in
    mesh_point_weights: np.ndarray  # (P, 3), barycentric coordinates in it
    # Loads what lies behind the lips, from a weights file of its own; None if there is none.
    load_anatomy: Callable[[], Anatomy | None] | None = None

    @cached_property
    def fingerprint(self) -> str:
        """Hash of the bilinear model: weights made for one model are meaningless for another."""
        digest = hashlib.sha256()
        for array in (self.mean, self.basis, self.core, self.expression_factor):
            digest.update(np.ascontiguousarray(array).tobytes())
        return digest.hexdigest()[:16]

    @cached_property
    def anatomy(self) -> Anatomy | None:
        """Teeth, tongue and mouth socket; None if the face was loaded without them."""
        return None if self.load_anatomy is None else self.load_anatomy()

    # ---------------------------------------------------------------------- bilinear model

    def expression_weights(self, weights: np.ndarray) -> np.ndarray:
        """Return w_exp (..., E), see Eq. 1, for blend-shape weights (..., S)."""
        neutral, blendshapes = self.expression_factor[0], self.expression_factor[1:]
        return neutral + np.asarray(weights, np.float32) @ (blendshapes - neutral)

    def identity_weights(self, z: np.ndarray) -> np.ndarray:
        """Return w_id (..., I), see Eq. 1, for identity z-scores (..., ≤ I); 0 is the mean face."""
        z = np.asarray(z, np.float32)
        return self.identity_mean + z @ self.identity_scale[:, : z.shape[-1]].T

    def vertices(self, w_exp: np.ndarray, w_id: np.ndarray) -> np.ndarray:
        """Evaluate Eq. 1: the face (V, 3) mm of expression (E,) and identity weights (I,)."""
        coefficients = self.core @ np.asarray(w_id, np.float32) @ np.asarray(w_exp, np.float32)
        return self.mean + np.tensordot(coefficients, self.basis, 1)

    def tensor_at(self, operator: np.ndarray) -> np.ndarray:
        """Return C_r (P, 3, E, I) at P points, given the operator (P, V) from vertices to them."""
        points = np.einsum("pv,rvc->rpc", operator, self.basis, optimize=True)
        return np.einsum("rpc,rei->pcei", points, self.core, optimize=True)

    @cached_property
    def expression_basis(self) -> np.ndarray:
        """(S, V, 3) float32 mm, displacement of the face by each blend shape at weight 1."""
        steps = self.expression_factor[1:] - self.expression_factor[0]
        coefficients = np.einsum(
            "rei,i,se->sr", self.core, self.identity_mean, steps, optimize=True
        )
        return np.tensordot(coefficients, self.basis, 1).astype(np.float32)

    def displacement(self, weights: np.ndarray) -> np.ndarray:
        """Return displacements (..., V, 3) mm by blend-shape weights (..., S)."""
        return np.tensordot(weights, self.expression_basis, 1)

    # ---------------------------------------------------- coordinates in the blend shapes' span

    @cached_property
    def _gram(self) -> np.ndarray:
        """(S, S) inner products of the blend shapes."""
        blendshapes = self.expression_basis.reshape(len(self.expression_names), -1)
        return blendshapes @ blendshapes.T

    @cached_property
    def _cholesky(self) -> np.ndarray:
        """(S, S) lower triangular; ten times faster than a QR decomposition, and exact enough."""
        return np.linalg.cholesky(self._gram.astype(np.float64))

    @cached_property
    def weights_to_coordinates(self) -> np.ndarray:
        """(S, S) float32 mm, coordinates of each blend shape at weight 1."""
        return self._cholesky.astype(np.float32)

    @cached_property
    def coordinates_to_weights(self) -> np.ndarray:
        """(S, S) float64, blend-shape weights of 1 mm of each coordinate."""
        return np.linalg.inv(self._cholesky)

    @cached_property
    def span(self) -> np.ndarray:
        """(S, V, 3) float32, orthonormal basis of the blend shapes' span, see `Motion`."""
        return self.displacement(self.coordinates_to_weights.astype(np.float32))

    def lip_opening(self, displacement: np.ndarray) -> np.ndarray:
        """Return the vertical opening (...) mm of the inner lips by displacements (..., V, 3).

        It is 0 for the expression at rest, and linear in the displacement, which the distance
        between the two points is not.
        """
        upper, lower = self.landmarks68[list(INNER_LIPS)]
        return displacement[..., upper, 1] - displacement[..., lower, 1]

    @cached_property
    def lip_opening_gradient(self) -> np.ndarray:
        """(S,) float32, mm that 1 mm of each coordinate opens the lips by, see `lip_opening`."""
        openings = self.lip_opening(self.expression_basis)
        return self.coordinates_to_weights.astype(np.float32) @ openings

    @cached_property
    def unit_jaw_opening(self) -> np.ndarray:
        """(S,) float32 mm, coordinates of jawOpen at the weight that opens the lips by 1 mm."""
        jaw = self.weights_to_coordinates[self.expression_names.index("jawOpen")]
        return jaw / (jaw @ self.lip_opening_gradient)

    # ---------------------------------------------------------------------- blend-shape weights

    @cached_property
    def arkit_matrix(self) -> np.ndarray:
        """(S, 52) float32, from this model's blend-shape weights to ARKit's, in Apple's order.

        The sides of browInnerUp and cheekPuff are averaged; tongueOut, which the model lacks, is 0.
        """
        matrix = np.zeros((len(self.expression_names), len(ARKIT_NAMES)), np.float32)
        for row, name in enumerate(self.expression_names):
            base = _without_side(name)
            sided = base + {"_L": "Left", "_R": "Right"}.get(name[-2:], "")
            if sided in ARKIT_NAMES:
                matrix[row, ARKIT_NAMES.index(sided)] = 1.0
            elif base in ARKIT_NAMES:
                matrix[row, ARKIT_NAMES.index(base)] = 0.5
        return matrix

    def weight_vector(self, weights: dict[str, float]) -> np.ndarray:
        """Return weights by name as (S,) float32; names without _L or _R set both sides."""
        names = self.expression_names
        values = [weights.get(name, weights.get(_without_side(name), 0.0)) for name in names]
        return np.array(values, np.float32)

    def fit_weights(
        self,
        coordinates: np.ndarray,
        iterations: int = 80,
        gaze: bool = True,
        kept: np.ndarray | None = None,
        most: float = 1.0,
    ) -> np.ndarray:
        """Fit blend-shape weights in [0, `most`] to coordinates by least squares.

        Parameters
        ----------
        coordinates : (T, S)
        iterations : int
        gaze : bool
            Whether gaze shapes may explain the motion of lids. If not, their weights are 0:
            eyeballs that follow such weights would roll.
        kept : (S, K), optional
            Measures of each blend shape, such as the opening of the lips, in which the weights are
            to equal the coordinates: an error in them counts as much as one of the whole face.
        most : float

        Returns
        -------
        (T, S)
        """
        target = coordinates @ self.weights_to_coordinates.T
        allowed = [gaze or not name.startswith("eyeLook") for name in self.expression_names]
        upper, gram = most * np.array(allowed, target.dtype), self.regularised_gram
        if kept is not None:
            gram = gram + kept @ kept.T
            target = target + coordinates @ (self.coordinates_to_weights @ kept @ kept.T)
        return bounded_least_squares(gram, target, iterations, upper)

    @cached_property
    def regularised_gram(self) -> np.ndarray:
        """(S, S) normal matrix of the blend shapes with a ridge: some nearly depend on others."""
        return self._gram + 0.02 * np.diag(np.diag(self._gram))

    @cached_property
    def regularised_weights(self) -> np.ndarray:
        """(S, S) float64, regularised blend-shape weights of 1 mm of each coordinate."""
        gram = self.regularised_gram.astype(np.float64)
        return np.linalg.inv(self.coordinates_to_weights).T @ np.linalg.inv(gram)

    # ---------------------------------------------------------------------- landmarks

    def mediapipe_operator(self, ids: np.ndarray) -> np.ndarray:
        """Return the operator (P, V) from vertices to points (P,) of MediaPipe's mesh.

        Raises InputError for a point that the canonical face lacks, such as an iris.
        """
        rows = {int(point): row for row, point in enumerate(self.mesh_points)}
        operator = np.zeros((len(ids), len(self.mean)), np.float32)
        for p, point in enumerate(map(int, ids)):
            if point not in rows:
                raise InputError(
                    f"point {point} of MediaPipe's mesh is not on the canonical face",
                    "leave out irises and other points that are not on the skin",
                )
            row = rows[point]
            operator[p, self.mesh_point_vertices[row]] = self.mesh_point_weights[row]
        return operator

    def landmark_operator(self) -> np.ndarray:
        """Return the operator (68, V) from vertices to the iBUG landmarks."""
        operator = np.zeros((len(self.landmarks68), len(self.mean)), np.float32)
        operator[np.arange(len(operator)), self.landmarks68] = 1
        return operator


def _without_side(name: str) -> str:
    """Return a blend shape's name without _L or _R."""
    return name.removesuffix("_L").removesuffix("_R")


def face_of_tensors(tensors: dict[str, np.ndarray], settings: dict) -> Face:
    """Make a face from the tensors and settings of a weights file; inverts `tensors_of_face`."""
    arrays: dict[str, Any] = dict(tensors)
    arrays["basis"] = tensors["basis"].astype(np.float32)
    regions = dict(zip(REGIONS, arrays.pop("regions").astype(bool)))
    return Face(
        **arrays,
        regions=regions,
        expression_names=tuple(settings["expression_names"]),
        chart_stress=float(settings["chart_stress"]),
    )


def tensors_of_face(face: Face) -> tuple[dict[str, np.ndarray], dict]:
    """Return the tensors and settings of a face for a weights file, the large factor in float16."""
    values = {field.name: getattr(face, field.name) for field in fields(face)}
    tensors = {name: value for name, value in values.items() if isinstance(value, np.ndarray)}
    tensors["basis"] = face.basis.astype(np.float16)
    tensors["regions"] = np.stack([face.regions[name] for name in REGIONS])
    return tensors, {
        "expression_names": list(face.expression_names),
        "chart_stress": face.chart_stress,
    }


keep_old_names(
    Face,
    {
        "fit_shapes": "fit_weights",
        "opening_row": "lip_opening_gradient",
        "shape_coordinates": "weights_to_coordinates",
        "shape_vector": "weight_vector",
    },
)
