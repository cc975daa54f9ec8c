"""Registration of the canonical face with a mesh: rigid, then by identity, then non-rigid.

`locate` tries the poses of placement_search.py and those that a second opinion sees (sighting.py), fits
the bilinear model from each (`fit_face`) and keeps the best fit, if it looks like a face
(likeness.py). `refine_fit` moves the fitted face onto the mesh by
a smooth displacement.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import lru_cache

import numpy as np
import scipy

from ..errors import InputError
from ..face.canonical import Face
from ..geometry.meshes import vertex_normals
from ..geometry.rigid import Similarity, cube_rotations, fit_similarity
from .likeness import Likeness, likeness
from .placement_search import ICP_STARTS, search_placements, symmetry_rotations
from .sighting import (
    MAX_DISAGREEMENT_MM,
    Look,
    OpinionUnavailable,
    Sighting,
    agrees,
    disagreement_mm,
    front_of,
    landmarks_of,
    placement_of,
    viewpoints,
)
from .surface import ClosestPoints, Surface

# Decisions of the search. A fit's score is the correlation of its relief minus a tenth of its error
# in mm; it compares fits of one mesh. Whether there is a face at all, likeness.py decides.
SURE_FIT_SCORE = 0.5  # of a fit that ends the search, if it is surely a face
MIN_SCORE_GAIN = 0.01  # minimum improvement with which another fit replaces the present one
GOOD_FIT_ERROR_MM = 1.2  # with a smaller error no tilted poses are tried
TILT_DEG = 12.0  # rotation of the tilted poses
TILT_ROUNDS = 3
MAX_SEEN_FITS = 3  # placements by a second opinion that are fitted
UPRIGHT_STARTS = 3  # starts of the unrotated mesh, which are tried before all others
OPEN_MOUTH_WEIGHT = 0.6  # initial jawOpen weight that is tried for meshes with an open mouth
# Fit of the bilinear model. Penalties are in mm² a point on a squared coefficient.
FIT_IDENTITY_MODES = 30
IDENTITY_STIFFNESS = 0.3
EXPRESSION_STIFFNESS = 2.0
LANDMARK_WEIGHT = 0.3  # of all named landmarks, relative to the surface
REGISTRATION_ITERATIONS = 12
# Blend shapes that a mesh at rest may show: some are modelled with an open mouth or closed eyes.
REST_SHAPES = (
    "jawOpen mouthClose mouthSmile mouthFunnel mouthPucker eyeBlink eyeWide browInnerUp"
).split()
# Non-rigid registration.
DEFORMATION_NODES = 900  # canonical vertices whose displacements are interpolated
DEFORMATION_ROUNDS = 4
BENDING_STIFFNESS, BENDING_DECAY = 30.0, 0.4  # penalty of the first round; factor a round


@dataclass(frozen=True, eq=False)
class Fit:
    """The bilinear model fitted to a mesh."""

    placement: Similarity  # of the canonical face in the mesh
    fitted: np.ndarray  # (V, 3) canonical mm, the model's closest face
    error: float  # median distance between model and mesh in canonical mm
    likeness: Likeness  # how much the mesh looks like it
    closest: ClosestPoints  # search on the part of the mesh around the face

    @property
    def score(self) -> float:
        """How well the face fits, compared with other fits to the same mesh."""
        return self.likeness.relief - self.error / 10

    @property
    def is_sure(self) -> bool:
        """Whether no other fit and no second opinion is needed."""
        return self.score > SURE_FIT_SCORE and self.likeness.is_sure

    def seen_in(self, face: Face, sighting: Sighting | None) -> Fit:
        """Return the fit with a second opinion; None for one that sees no face."""
        seen = sighting is not None and agrees(face, self.placement, self.fitted, sighting)
        return replace(self, likeness=replace(self.likeness, seen=seen))


def locate(
    face: Face,
    surface: Surface,
    rotations: list[np.ndarray] | None = None,
    landmarks: np.ndarray | None = None,
    look: Look | None = None,
) -> Fit:
    """Find the face of a mesh and fit the bilinear model to it.

    Parameters
    ----------
    face : Face
    surface : Surface
        Of the mesh.
    rotations : list of (3, 3), optional
        Approximate rotations of the face in the mesh to try; by default all are searched.
    landmarks : (68, 3), optional
        iBUG landmarks in the mesh, NaN for unknown ones, see `check_landmark_hint`; with them
        nothing is searched.
    look : Look, optional
        A second opinion on this mesh, which is asked unless the first fits are surely a face.

    Raises
    ------
    InputError
        If no face is found.
    """
    if landmarks is not None:
        known = np.isfinite(landmarks).all(1)
        source = face.mean[face.landmarks68[known]]
        placement = Similarity(*fit_similarity(source, landmarks[known]))
        return fit_face(face, surface, placement, landmarks)
    try:
        return _searched_fit(face, surface, rotations, look)
    except OpinionUnavailable:
        return _searched_fit(face, surface, rotations, None)


def _searched_fit(
    face: Face, surface: Surface, rotations: list[np.ndarray] | None, look: Look | None
) -> Fit:
    """Search the face of a mesh, see `locate`."""
    best: Fit | None = None
    for placement, sighting in _candidates(face, surface, rotations, look):
        fit = _fit_candidate(face, surface, placement, sighting)
        if best is None or fit.likeness.rank > best.likeness.rank:
            best = fit
        if fit.is_sure or (fit.likeness.seen and fit.likeness.is_face):
            break
    if best is None:
        raise _no_face("no part of it is like one")
    if look is not None and not best.is_sure and best.likeness.seen is None:
        best = best.seen_in(face, look(front_of(face, best.placement)))
    if not best.likeness.is_face:
        raise _no_face(f"the place most like one {best.likeness.doubt}")
    return _polish(face, surface, best)


def _fit_candidate(
    face: Face, surface: Surface, placement: Similarity, sighting: Sighting | None
) -> Fit:
    """Return the fit from a placement, the better of two if it is from a sighting.

    On a cartoon the closest points alone may drift away from where eyes and mouth are seen.
    """
    fit = fit_face(face, surface, placement)
    if sighting is None:
        return fit
    held = fit_face(face, surface, placement, landmarks_of(face, sighting))
    fits = [fit.seen_in(face, sighting), held.seen_in(face, sighting)]
    return max(fits, key=lambda fit: fit.likeness.rank)


def _no_face(reason: str) -> InputError:
    """Return the error for a mesh without a face."""
    return InputError(
        f"no face found in the mesh: {reason}",
        "if there is one, say where: --up and --forward, such as z and -y, or --landmarks",
    )


Candidate = tuple[Similarity, Sighting | None]  # a placement to fit, and the sighting it is from


def _candidates(
    face: Face, surface: Surface, rotations: list[np.ndarray] | None, look: Look | None
) -> Iterator[Candidate]:
    """Yield placements to fit; each stage of the search runs only if the previous ones failed."""
    if rotations is not None:
        yield from _searched(face, surface, rotations)
        yield from _seen(face, surface, rotations, look)
        return
    cube = cube_rotations()
    yield from _searched(face, surface, cube[:1], UPRIGHT_STARTS)
    yield from _seen(face, surface, cube, look)
    yield from _searched(face, surface, cube[:1])
    yield from _searched(face, surface, cube[1:])
    yield from _searched(face, surface, symmetry_rotations(surface))


def _searched(
    face: Face, surface: Surface, rotations: list[np.ndarray], starts: int = ICP_STARTS
) -> Iterator[Candidate]:
    """Yield the placements that the search by shape finds."""
    for placement in search_placements(face, surface, rotations, starts):
        yield placement, None


def _seen(
    face: Face, surface: Surface, rotations: list[np.ndarray], look: Look | None
) -> Iterator[Candidate]:
    """Yield the likeliest placements of faces that a second opinion sees."""
    if look is None:
        return
    found = []
    for viewpoint in viewpoints(surface, rotations):
        sighting = look(viewpoint)
        placement = None if sighting is None else placement_of(face, sighting)
        if sighting is not None and placement is not None:
            misfit = disagreement_mm(face, placement, face.mean, sighting)
            found.append((misfit, placement, sighting))
    found.sort(key=lambda item: item[0])
    for misfit, placement, sighting in found[:MAX_SEEN_FITS]:
        if misfit < MAX_DISAGREEMENT_MM:
            yield placement, sighting


def _polish(face: Face, surface: Surface, fit: Fit) -> Fit:
    """Return the best of a fit, of fits from tilted poses, and of one with an open mouth.

    Closest points may end in a local minimum.
    """
    middle = face.mean.mean(0)
    tilts = [
        scipy.spatial.transform.Rotation.from_rotvec(sign * np.radians(TILT_DEG) * axis).as_matrix()
        for axis in np.eye(3)
        for sign in (1, -1)
    ]
    for _ in range(TILT_ROUNDS):
        if fit.error < GOOD_FIT_ERROR_MM:
            break
        poses = [fit.placement.compose(1.0, tilt, middle - tilt @ middle) for tilt in tilts]
        tilted = max((fit_face(face, surface, pose) for pose in poses), key=lambda f: f.score)
        if tilted.score < fit.score + MIN_SCORE_GAIN:
            break
        fit = tilted
    opened = fit_face(face, surface, fit.placement, jaw_open=OPEN_MOUTH_WEIGHT)
    return opened if opened.score > fit.score + MIN_SCORE_GAIN else fit


# -------------------------------------------------------------------- fit of the bilinear model


def fit_face(
    face: Face,
    surface: Surface,
    placement: Similarity,
    landmarks: np.ndarray | None = None,
    jaw_open: float = 0.0,
) -> Fit:
    """Fit identity, expression at rest and pose of the bilinear model to a mesh.

    Each iteration matches closest points, and solves for shape and a small change of pose together.

    Parameters
    ----------
    face : Face
    surface : Surface
        Of the mesh.
    placement : Similarity
        Initial placement of the face.
    landmarks : (68, 3), optional
        iBUG landmarks in the mesh, NaN for unknown ones.
    jaw_open : float
        Initial jawOpen weight: fitting cannot open a closed mouth, nor close an open one.
    """
    model = _shape_model(face)
    coefficients = np.zeros(len(model.modes), np.float32)
    coefficients[model.jaw_open] = jaw_open
    rows = np.arange(0, len(model.base), 5)
    closest = ClosestPoints(face, surface, placement)
    for iteration in range(REGISTRATION_ITERATIONS):
        fitted = model.vertices(coefficients)
        index, distance = closest.match(placement, fitted, rows)
        weight = _robust_weight(distance, max(3.0, 10.0 * 0.8**iteration))
        vertices, target = rows, placement.to_canonical(closest.points[index])
        if landmarks is not None:
            known = np.isfinite(landmarks).all(1)
            vertices = np.concatenate([rows, face.landmarks68[known]])
            target = np.concatenate([target, placement.to_canonical(landmarks[known])])
            landmark_weight = LANDMARK_WEIGHT * len(rows) / known.sum()
            weight = np.concatenate([weight, np.full(known.sum(), landmark_weight)])
        gap = target - fitted[vertices]
        coefficients = _solve_shape(model, coefficients, vertices, fitted[vertices], gap, weight)
        shape = model.vertices(coefficients, vertices)
        placement = placement.compose(*fit_similarity(shape, target, weight))
    fitted = model.vertices(coefficients)
    error = float(np.median(closest.match(placement, fitted, rows)[1]))
    scores = likeness(face, fitted, closest, placement, surface)
    return Fit(placement, fitted, error, scores, closest)


def _robust_weight(distance: np.ndarray, width: float) -> np.ndarray:
    """Return Geman and McClure's weights of correspondences by their distance in mm."""
    return 1 / (1 + (distance / width) ** 2) ** 2


@dataclass(frozen=True, eq=False)
class _ShapeModel:
    """Vertices as base + coefficients · modes: identities first, then expressions at rest."""

    base: np.ndarray  # (V, 3) canonical mm
    modes: np.ndarray  # (Z, V, 3)
    stiffness: np.ndarray  # (Z,), penalty on each squared coefficient
    expressions: slice  # the modes that are expressions, with weights in [0, 1]
    jaw_open: int  # the mode of jawOpen

    def vertices(
        self, coefficients: np.ndarray, rows: slice | np.ndarray = slice(None)
    ) -> np.ndarray:
        """Return the vertices (V, 3), or those in `rows`, for coefficients (Z,)."""
        return self.base[rows] + np.tensordot(coefficients, self.modes[:, rows], 1)


@lru_cache(maxsize=2)
def _shape_model(face: Face) -> _ShapeModel:
    """Return the identities of the bilinear model with the REST_SHAPES."""
    neutral = np.einsum("rei,e->ri", face.core, face.expression_factor[0])
    scale = face.identity_scale[:, :FIT_IDENTITY_MODES]
    identities = np.tensordot((neutral @ scale).T, face.basis, 1)
    # Two more modes scale height and depth by 10 %: modelled heads vary more than real ones.
    taller, deeper = 0.1 * (face.mean - face.mean.mean(0)) * np.eye(3)[[1, 2]][:, None]
    names = face.expression_names
    at_rest = [k for k, name in enumerate(names) if name.split("_")[0] in REST_SHAPES]
    expressions = face.expression_basis[at_rest]
    first = len(identities) + 2
    return _ShapeModel(
        base=face.mean + np.tensordot(neutral @ face.identity_mean, face.basis, 1),
        modes=np.concatenate([identities, [taller, deeper], expressions]).astype(np.float32),
        stiffness=np.repeat([IDENTITY_STIFFNESS, EXPRESSION_STIFFNESS], [first, len(at_rest)]),
        expressions=slice(first, None),
        jaw_open=first + at_rest.index(names.index("jawOpen")),
    )


def _solve_shape(
    model: _ShapeModel,
    coefficients: np.ndarray,
    vertices: np.ndarray,
    points: np.ndarray,
    gap: np.ndarray,
    weight: np.ndarray,
) -> np.ndarray:
    """Solve for coefficients (Z,) that close the gap (P, 3) from points (P, 3) to their matches.

    Regularised least squares from the present coefficients. The pose, linearised as small
    rotations, shifts and a change of size, is an unknown too, but only the coefficients are used.
    """
    count, modes = len(model.modes), model.modes[:, vertices]
    rotations = [np.cross(axis, points) for axis in np.eye(3)]
    shifts = np.broadcast_to(np.eye(3)[:, None], (3, *points.shape))
    pose = np.stack([*rotations, *shifts, points]).astype(np.float32)
    design = np.concatenate([modes, pose]).reshape(count + 7, -1)
    weighted = design * np.repeat(weight, 3).astype(np.float32)
    gram = (weighted @ design.T).astype(np.float64)
    gram[np.arange(count), np.arange(count)] += model.stiffness * weight.sum()
    residual = gap + np.tensordot(coefficients, modes, 1)
    result = np.linalg.solve(gram, weighted @ residual.ravel())[:count].astype(np.float32)
    result[model.expressions] = np.clip(result[model.expressions], 0, 1)
    return result


# -------------------------------------------------------------------- non-rigid registration


def refine_fit(face: Face, fit: Fit) -> np.ndarray:
    """Move the fitted face onto the mesh by a displacement that is smooth over the face's chart.

    In the chart the lips are apart, so they do not pull at each other.

    Returns
    -------
    (V, 3), the registered face in canonical mm.
    """
    interpolation, bending = _deformation_basis(face)
    rows = np.arange(0, len(fit.fitted), 2)
    sampled = interpolation[rows]
    registered = fit.fitted
    for iteration in range(DEFORMATION_ROUNDS):
        index, distance = fit.closest.match(fit.placement, registered, rows)
        weight = _robust_weight(distance, 4.0)[:, None]
        normals = vertex_normals(registered, face.faces)[rows]
        # Closest points determine displacements along the normal well, along the surface hardly.
        gap = fit.placement.to_canonical(fit.closest.points[index]) - registered[rows]
        along_normal = np.einsum("vc,vc->v", gap, normals)[:, None] * normals
        target = (registered - fit.fitted)[rows] + 0.7 * along_normal + 0.3 * gap
        stiffness = BENDING_STIFFNESS * BENDING_DECAY**iteration
        gram = (sampled.T @ sampled.multiply(weight)).toarray() + stiffness * bending
        nodes = np.linalg.solve(gram + 1e-6 * np.eye(len(gram)), sampled.T @ (weight * target))
        registered = fit.fitted + interpolation @ nodes
    return registered


@lru_cache(maxsize=2)
def _deformation_basis(face: Face) -> tuple[scipy.sparse.csr_matrix, np.ndarray]:
    """Return the interpolation (V, C) from nodes to vertices, and the nodes' bending energy (C, C).

    Nodes are dense where the face's vertices are, around mouth and eyes. The energy is the graph
    Laplacian of their nearest neighbours in the chart.
    """
    count, size = DEFORMATION_NODES, len(face.mean)
    nodes = face.chart[np.linspace(0, size - 1, count).astype(int)]
    tree = scipy.spatial.cKDTree(nodes)
    distance, near = tree.query(face.chart, k=5)
    weight = np.exp(-((distance / np.maximum(distance[:, 2:3], 1e-6)) ** 2))
    weight /= weight.sum(1, keepdims=True)
    entries = np.repeat(np.arange(size), 5), near.ravel()
    interpolation = scipy.sparse.csr_matrix((weight.ravel(), entries), (size, count))
    distance, near = tree.query(nodes, k=9)
    weight = 1 / np.maximum(distance[:, 1:], 2.0)
    entries = np.repeat(np.arange(count), 8), near[:, 1:].ravel()
    graph = scipy.sparse.csr_matrix((weight.ravel(), entries), (count, count))
    graph = (graph + graph.T) / 2
    laplacian = scipy.sparse.diags(np.asarray(graph.sum(1))[:, 0]) - graph
    return interpolation, laplacian.toarray()
