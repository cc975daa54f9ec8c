"""The canonical face and the bilinear face model V = C_r × w_exp × w_id (3D-TalkEmo, Eq. 1).

The *canonical face* is the mean neutral face: V vertices in millimetres, y up, looking along +z. Expressions displace
these vertices. All displacements that talkemo makes lie in the span of the face's S blend shapes, so that they are
handled as coordinates (S,) in an orthonormal basis of that span, see motion.py.

The model is stored as a Tucker decomposition: the core tensor C_r (V·3, E, I) of the paper is `basis` × `core`, which
is the same tensor at a fiftieth of its size. `mean` is taken off before the decomposition, so float16 is enough.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, fields
from functools import cached_property

import numpy as np

from ..errors import InputError
from ..geometry.numerics import bounded_least_squares

# Apple's 52 blend shapes in Apple's order.
ARKIT_NAMES = (
    "eyeBlinkLeft eyeLookDownLeft eyeLookInLeft eyeLookOutLeft eyeLookUpLeft eyeSquintLeft eyeWideLeft "
    "eyeBlinkRight eyeLookDownRight eyeLookInRight eyeLookOutRight eyeLookUpRight eyeSquintRight eyeWideRight "
    "jawForward jawLeft jawRight jawOpen mouthClose mouthFunnel mouthPucker mouthLeft mouthRight "
    "mouthSmileLeft mouthSmileRight mouthFrownLeft mouthFrownRight mouthDimpleLeft mouthDimpleRight "
    "mouthStretchLeft mouthStretchRight mouthRollLower mouthRollUpper mouthShrugLower mouthShrugUpper "
    "mouthPressLeft mouthPressRight mouthLowerDownLeft mouthLowerDownRight mouthUpperUpLeft mouthUpperUpRight "
    "browDownLeft browDownRight browInnerUp browOuterUpLeft browOuterUpRight cheekPuff cheekSquintLeft "
    "cheekSquintRight noseSneerLeft noseSneerRight tongueOut"
).split()

# iBUG points, counted from 0.
EYE_CENTRES_MM = np.array(
    [[-31.36, 36.07, 80.18], [31.36, 36.07, 80.18]]
)  # mm, in the canonical face, the right one first
INNER_LIPS = (62, 66)  # the middle of the inner upper and of the inner lower lip
MOUTH_CORNERS = (48, 54)  # the face's right corner, its left one
LIP_PAIRS = ((61, 67), (62, 66), (63, 65))  # upper and lower inner lip, facing each other
LIPS = slice(48, 68)
JAW_LINE = slice(0, 17)
RIGHT_EYE, LEFT_EYE = slice(36, 42), slice(42, 48)

# Regions of the canonical face; `Face.regions` maps each name to a mask.
REGIONS = ("lips", "mouth", "eyelids", "upper_face", "lower_face")


@dataclass(frozen=True, eq=False)
class Face:
    """The canonical face with its bilinear model.

    mean: (V, 3) float32 mm, the canonical face
    faces: (F, 3) int32 triangles
    landmarks68: (68,) int32 vertices of the iBUG points
    mirror: (V,) int32, the vertex on the other side
    regions: name → (V,) bool
    mouth_weight: (V,) float32 in [0, 1], one on the lips and falling off around them
    basis: (R, V, 3) float32, vertex factor of the core tensor
    core: (R, E, I) float32
    expression_factor: (1 + S, E) float32, w_exp of the neutral face and of each of the S blend shapes at weight 1
    expression_names: S names, ARKit's with _L and _R
    identity_mean: (I,) float32, w_id of the canonical face
    identity_scale: (I, I) float32, w_id = identity_mean + identity_scale @ z with z ~ N(0, 1)
    chart: (V, 2) float32 mm, the vertices in the plane of the geometry map
    chart_stress: least-squares stress of the chart against the geodesics, relative
    map_*: the tables of the geometry map, see geomap.make_tables
    mesh_points: (P,) ids of MediaPipe's mesh, at mesh_point_vertices (P, 3) with mesh_point_weights (P, 3), barycentric
    """

    mean: np.ndarray
    faces: np.ndarray
    landmarks68: np.ndarray
    mirror: np.ndarray
    regions: dict[str, np.ndarray]
    mouth_weight: np.ndarray
    basis: np.ndarray
    core: np.ndarray
    expression_factor: np.ndarray
    expression_names: tuple[str, ...]
    identity_mean: np.ndarray
    identity_scale: np.ndarray
    chart: np.ndarray
    chart_stress: float
    map_mask: np.ndarray
    map_vertices: np.ndarray
    map_vertex_weights: np.ndarray
    map_pixels: np.ndarray
    map_pixel_weights: np.ndarray
    mesh_points: np.ndarray
    mesh_point_vertices: np.ndarray
    mesh_point_weights: np.ndarray

    @cached_property
    def fingerprint(self) -> str:
        """Identifies this bilinear model: expression and identity weights of one model mean nothing to another."""
        digest = hashlib.sha256()
        for array in (self.mean, self.basis, self.core, self.expression_factor):
            digest.update(np.ascontiguousarray(array).tobytes())
        return digest.hexdigest()[:16]

    def expression_weights(self, shapes: np.ndarray) -> np.ndarray:
        """w_exp (..., E) of blend-shape weights (..., S)."""
        neutral, rest = self.expression_factor[0], self.expression_factor[1:]
        return neutral + np.asarray(shapes, np.float32) @ (rest - neutral)

    def identity_weights(self, z: np.ndarray) -> np.ndarray:
        """w_id (..., I) of standardised identity coefficients z (..., ≤ I), zeros being the canonical face."""
        z = np.asarray(z, np.float32)
        return self.identity_mean + z @ self.identity_scale[:, : z.shape[-1]].T

    def vertices(self, w_exp: np.ndarray, w_id: np.ndarray) -> np.ndarray:
        """Eq. 1: the face (V, 3) mm of expression weights (E,) and identity weights (I,)."""
        coefficients = self.core @ np.asarray(w_id, np.float32) @ np.asarray(w_exp, np.float32)
        return self.mean + np.tensordot(coefficients, self.basis, 1)

    def tensor_at(self, operator: np.ndarray) -> np.ndarray:
        """C_r (P, 3, E, I) at P points, given the operator (P, V) that takes vertices to the points."""
        points = np.einsum("pv,rvc->rpc", operator, self.basis, optimize=True)
        return np.einsum("rpc,rei->pcei", points, self.core, optimize=True)

    @cached_property
    def expression_basis(self) -> np.ndarray:
        """(S, V, 3) float32 mm, displacement of the canonical face by each blend shape at weight 1."""
        steps = self.expression_factor[1:] - self.expression_factor[0]
        coefficients = np.einsum(
            "rei,i,se->sr", self.core, self.identity_mean, steps, optimize=True
        )
        return np.tensordot(coefficients, self.basis, 1).astype(np.float32)

    def displacement(self, shapes: np.ndarray) -> np.ndarray:
        """Displacement (..., V, 3) mm of the canonical face by blend-shape weights (..., S)."""
        return np.tensordot(shapes, self.expression_basis, 1)

    # ---------------------------------------------------------------------------------- the span of the expressions

    @cached_property
    def _shape_products(self) -> np.ndarray:
        """(S, S) inner products of the blend shapes."""
        shapes = self.expression_basis.reshape(len(self.expression_names), -1)
        return shapes @ shapes.T

    @cached_property
    def _orthonormal(self) -> tuple[np.ndarray, np.ndarray]:
        # By Cholesky of the normal matrix: ten times quicker than a QR of the shapes, and exact enough for 53 of them.
        triangle = np.linalg.cholesky(self._shape_products.astype(np.float64))
        return triangle, np.linalg.inv(triangle)

    @property
    def weights_to_coordinates(self) -> np.ndarray:
        """(S, S) float32 mm, lower triangular: the coordinates in the span of each blend shape at weight 1."""
        return self._orthonormal[0].astype(np.float32)

    @property
    def coordinates_to_weights(self) -> np.ndarray:
        """(S, S) float64, lower triangular: the blend-shape weights of a unit, a millimetre, of each coordinate."""
        return self._orthonormal[1]

    @cached_property
    def span(self) -> np.ndarray:
        """(S, V, 3) float32, orthonormal displacements that span the blend shapes: the basis of `motion.Motion`."""
        return self.displacement(self.coordinates_to_weights.astype(np.float32))

    @cached_property
    def unit_jaw_opening(self) -> np.ndarray:
        """(S,) float32 mm: the coordinates of jawOpen at the weight at which it opens the lips by a millimetre."""
        jaw = self.weights_to_coordinates[self.expression_names.index("jawOpen")]
        return jaw / (jaw @ self.lip_opening_gradient)

    @cached_property
    def lip_opening_gradient(self) -> np.ndarray:
        """(S,) float32, mm that a unit of each coordinate in the span opens the lips by, see `lip_opening`."""
        return self.coordinates_to_weights.astype(np.float32) @ self.lip_opening(
            self.expression_basis
        )

    def lip_opening(self, displacement: np.ndarray) -> np.ndarray:
        """Vertical opening (...) in mm between the middles of the inner lips, by displacements (..., V, 3).

        Linear in the displacement, unlike the distance between the two points; 0 for the face at rest.
        """
        upper, lower = self.landmarks68[list(INNER_LIPS)]
        return displacement[..., upper, 1] - displacement[..., lower, 1]

    # ------------------------------------------------------------------------------------------ blend-shape weights

    @cached_property
    def arkit_matrix(self) -> np.ndarray:
        """(S, 52) float32 that takes this model's blend-shape weights to ARKIT_NAMES.

        browInnerUp and cheekPuff are split in two here and averaged there; tongueOut has no shape here and stays 0.
        """
        matrix = np.zeros((len(self.expression_names), len(ARKIT_NAMES)), np.float32)
        for row, name in enumerate(self.expression_names):
            base = name[:-2] if name[-2:] in ("_L", "_R") else name
            sided = base + {"_L": "Left", "_R": "Right"}.get(name[-2:], "")
            if sided in ARKIT_NAMES:
                matrix[row, ARKIT_NAMES.index(sided)] = 1.0
            elif base in ARKIT_NAMES:
                matrix[row, ARKIT_NAMES.index(base)] = 0.5
        return matrix

    def weight_vector(self, amounts: dict[str, float]) -> np.ndarray:
        """Blend-shape weights (S,) float32 of amounts by name; a name without _L or _R stands for both sides."""
        bare = [name[:-2] if name[-2:] in ("_L", "_R") else name for name in self.expression_names]
        return np.array(
            [
                amounts.get(name, amounts.get(b, 0.0))
                for name, b in zip(self.expression_names, bare)
            ],
            np.float32,
        )

    def fit_weights(
        self, coordinates: np.ndarray, iterations: int = 80, gaze: bool = True
    ) -> np.ndarray:
        """Blend-shape weights (T, S) in [0, 1] nearest to coordinates (T, S) in the span: bounded least squares.

        gaze: whether lids may be explained by where the eyes look; eyes that follow such weights would roll
        """
        target = coordinates @ self.weights_to_coordinates.T
        most = np.array(
            [gaze or not name.startswith("eyeLook") for name in self.expression_names], target.dtype
        )
        return bounded_least_squares(self.expression_gram, target, iterations, most)

    @cached_property
    def expression_gram(self) -> np.ndarray:
        """(S, S) normal matrix of the blend shapes, with a small ridge: some shapes are nearly sums of others."""
        gram = self._shape_products
        return gram + 0.02 * np.diag(np.diag(gram))

    # --------------------------------------------------------------------------------------------------- landmarks

    def mediapipe_operator(self, ids: np.ndarray) -> np.ndarray:
        """Operator (P, V) from vertices to points of MediaPipe's mesh. Raises InputError for one without a place."""
        rows = {int(k): i for i, k in enumerate(self.mesh_points)}
        operator = np.zeros((len(ids), len(self.mean)), np.float32)
        for p, k in enumerate(ids):
            if int(k) not in rows:
                raise InputError(
                    f"point {int(k)} of MediaPipe's mesh has no place on the canonical face",
                    "leave irises and other points off the skin out",
                )
            row = rows[int(k)]
            operator[p, self.mesh_point_vertices[row]] = self.mesh_point_weights[row]
        return operator

    def landmark_operator(self) -> np.ndarray:
        """Operator (68, V) from vertices to the iBUG points."""
        operator = np.zeros((len(self.landmarks68), len(self.mean)), np.float32)
        operator[np.arange(len(operator)), self.landmarks68] = 1
        return operator


def face_of_tensors(tensors: dict[str, np.ndarray], settings: dict) -> Face:
    """The face of a weights file's tensors and settings; the inverse of `tensors_of_face`."""
    tensors = dict(tensors)
    tensors["basis"] = tensors["basis"].astype(np.float32)
    regions = dict(zip(REGIONS, tensors.pop("regions").astype(bool)))
    return Face(
        **tensors,
        regions=regions,
        expression_names=tuple(settings["expression_names"]),
        chart_stress=float(settings["chart_stress"]),
    )


def tensors_of_face(face: Face) -> tuple[dict[str, np.ndarray], dict]:
    """What a weights file keeps of a face: tensors, the large factor in float16, and settings."""
    names = [field.name for field in fields(face)]
    tensors = {
        name: value for name in names if isinstance(value := getattr(face, name), np.ndarray)
    }
    tensors["basis"] = face.basis.astype(np.float16)
    tensors["regions"] = np.stack([face.regions[name] for name in REGIONS])
    return tensors, {
        "expression_names": list(face.expression_names),
        "chart_stress": face.chart_stress,
    }
