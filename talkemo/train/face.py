"""Stage 1: the canonical face and its bilinear model, from ICT-FaceKit (MIT, Li et al. 2020)."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import scipy.sparse as sp
from scipy.spatial import cKDTree

from ..data.captures import StepProgress
from ..errors import InputError
from ..face.anatomy import tensors_of_anatomy
from ..face.canonical import Face, tensors_of_face
from ..geometry.meshes import boundary_loops, closest_points
from ..geometry.plane import inside_polygon
from . import map_chart as charts
from .anatomy import build_anatomy
from .run import Run

# ICT-FaceKit's first vertices: the face without ears, neck and scalp, in quads with four boundary
# loops.
FACIAL_VERTICES = 6706
FINE_EDGE_RATIO = 1 / 3  # maximum edge length at mouth and eyes, relative to that far from them
FINE_EDGE_REACH_MM = 25.0  # distance from the openings at which edges may have their full length
LENGTH_SEARCH_STEPS = 24  # of bisection
LENGTH_SEARCH_RANGE_MM = (0.5, 20.0)  # of the maximum edge length
HELD_OUT_IDENTITIES = 8  # sampled to measure the model's error

# The iBUG 68 points as vertices of ICT-FaceKit and as points of MediaPipe's mesh.
ICT_LANDMARKS68 = (
    "1225 1888 1052 367 1719 1722 2199 1447 966 3661 4390 3927 3924 2608 3272 4088 3443 "
    "268 493 1914 2044 1401 3615 4240 4114 2734 2509 978 4527 4942 4857 1140 2075 1147 4269 3360 "
    "1507 1542 1537 1528 1518 1511 3742 3751 3756 3721 3725 3732 "
    "5708 5695 2081 0 4275 6200 6213 6346 6461 5518 5957 5841 "
    "5702 5711 5533 6216 6207 6470 5517 5966"
)
MEDIAPIPE_LANDMARKS68 = (
    "162 234 93 58 172 136 149 148 152 377 378 365 397 288 323 454 389 "
    "71 63 105 66 107 336 296 334 293 301 168 197 5 4 75 97 2 326 305 "
    "33 160 158 133 153 144 362 385 387 263 373 380 "
    "61 39 37 0 267 269 291 405 314 17 84 181 78 82 13 312 308 317 14 87"
)
JAW_LANDMARKS = 17  # the first of the 68: the contour of the jaw
# Expressions that landmarks on the skin do not show, or that move no skin.
UNUSED_EXPRESSIONS = ("PupilDilate_L", "PupilDilate_R", "cheekRaiser_L", "cheekRaiser_R")


@dataclass(frozen=True)
class FaceConfig:
    """Settings of the canonical face and its bilinear model."""

    vertices: int = 12_500  # minimum of the canonical face; refinement stops once it is reached
    identities: int = 150  # sampled with unit normal coefficients, besides the mean
    vertex_rank: int = 160  # of the Tucker decomposition
    identity_rank: int = 50
    seed: int = 20210  # of the sampled identities


@dataclass(frozen=True)
class IctModel:
    """The facial surface of ICT-FaceKit, in mm."""

    neutral: np.ndarray  # (V, 3) float64
    quads: np.ndarray  # (Q, 4)
    identity: np.ndarray  # (I, V, 3) float32 displacements
    expression: np.ndarray  # (S, V, 3) float32 displacements
    expression_names: list[str]


def train_face(run: Run, config: FaceConfig) -> dict[str, Any]:
    """Compute the face and its anatomy, write both files, and return the face's path and metrics.

    Raises
    ------
    InputError
        ICT-FaceKit's model or MediaPipe's canonical face is missing.
    """
    model_path, mediapipe_path = source_files(run.data)
    face, metrics = build_face(model_path, mediapipe_path, config, _report_within_time(run))
    tensors, settings = tensors_of_face(face)
    anatomy = build_anatomy(model_path, face.expression_names)
    path = run.save("face", tensors, {**settings, "config": asdict(config)})
    run.save("anatomy", tensors_of_anatomy(anatomy), {})
    return {
        "weights": str(path),
        "vertices": len(face.mean),
        "chart_stress": face.chart_stress,
        **metrics,
    }


def _report_within_time(run: Run) -> StepProgress:
    """Return a function that reports progress, and raises InputError once the time is up."""
    deadline = float("inf")
    if run.max_minutes is not None:
        deadline = time.monotonic() + 60 * run.max_minutes

    def report(step: str, done: int, total: int) -> None:
        run.report(step, done, total)
        if time.monotonic() > deadline:
            raise InputError(
                f"the face is not complete after {run.max_minutes:g} minutes, and part of a face "
                "is of no use",
                "raise --max-minutes, or leave it out; nothing was written",
            )

    return report


def _no_report(step: str, done: int, total: int) -> None:
    pass


def source_files(data: Path) -> tuple[Path, Path]:
    """Return ICT-FaceKit's model and MediaPipe's face. Raises InputError if one is missing."""
    paths = (
        data / "ict_facekit" / "model.npz",
        data / "meshes" / "mediapipe_canonical.obj",
    )
    for path in paths:
        if not path.is_file():
            raise InputError(
                f"{path}: no such file",
                "the face is computed from it; docs/data.md says where it is published",
            )
    return paths


def build_face(
    model_path: Path,
    mediapipe_path: Path,
    config: FaceConfig,
    progress: StepProgress = _no_report,
) -> tuple[Face, dict[str, float]]:
    """Build the canonical face from ICT-FaceKit's model.npz and MediaPipe's canonical face, an obj.

    `progress` is called with the name of a step, the parts of it that are done and their total.
    Returns the face, and metrics of its bilinear model. Raises InputError if the model lacks an
    array.
    """
    model = read_ict_model(model_path)
    neutral = symmetric(model.neutral)
    triangles = triangulate(neutral, model.quads)
    loops = boundary_loops(triangles, len(neutral))
    openings = np.concatenate(sorted(loops, key=len)[:3])  # two eyes and the mouth
    operator, triangles = refine_mesh(
        neutral, triangles, openings, config.vertices, partial(progress, "mesh")
    )
    mean = (operator @ neutral).astype(np.float32)
    _, mirror = cKDTree(mean).query(mean * [-1, 1, 1])

    identity = np.stack([operator @ mode for mode in model.identity]).astype(np.float32)
    expression = np.stack([operator @ shape for shape in model.expression]).astype(np.float32)
    tensors, metrics = bilinear_model(mean, identity, expression, config, progress)
    landmarks = np.array([int(i) for i in ICT_LANDMARKS68.split()], np.int32)
    chart, chart_stress = charts.make_chart(mean, triangles, mirror, progress)
    tables = charts.make_tables(
        chart, triangles, random_faces(tensors, config.seed + 1), partial(progress, "map")
    )
    points, point_vertices, point_weights = match_mediapipe(
        mediapipe_path, mean, triangles, landmarks
    )
    masks, mouth_weight = region_masks(mean, landmarks, loops)
    face = Face(
        mean=mean,
        faces=triangles.astype(np.int32),
        landmarks68=landmarks,
        mirror=mirror.astype(np.int32),
        regions=masks,
        mouth_weight=mouth_weight,
        **tensors,  # type: ignore[arg-type]
        expression_names=tuple(model.expression_names),
        chart=chart,
        chart_stress=chart_stress,
        **tables,  # type: ignore[arg-type]
        mesh_points=points,
        mesh_point_vertices=point_vertices,
        mesh_point_weights=point_weights,
    )
    return face, metrics


def read_ict_model(path: Path) -> IctModel:
    """Read ICT-FaceKit's model.npz. Raises InputError if an array is missing."""
    try:
        arrays = np.load(path, allow_pickle=False)
        neutral, quads = arrays["neutral"].astype(np.float64) * 10, arrays["quads"]  # cm → mm
        identity = arrays["identity"][:, :FACIAL_VERTICES].astype(np.float32) * 10
        expression = arrays["expression"][:, :FACIAL_VERTICES].astype(np.float32) * 10
        names = [str(name) for name in arrays["expression_names"]]
    except (OSError, ValueError, KeyError) as error:
        raise InputError(
            f"{path}: cannot be read as ICT-FaceKit's model ({error})",
            "it needs the arrays neutral, identity, expression, expression_names and quads",
        ) from None
    used = [k for k, name in enumerate(names) if name not in UNUSED_EXPRESSIONS]
    return IctModel(
        neutral=neutral[:FACIAL_VERTICES],
        quads=quads[(quads < FACIAL_VERTICES).all(1)],
        identity=identity,
        expression=expression[used],
        expression_names=[names[k] for k in used],
    )


def symmetric(vertices: np.ndarray) -> np.ndarray:
    """Vertices (V, 3) of a face that is symmetric up to 0.05 mm, made exactly symmetric."""
    _, mirror = cKDTree(vertices).query(vertices * [-1, 1, 1])
    return (vertices + vertices[mirror] * [-1, 1, 1]) / 2


# ---------------------------------------------------------------------------------- triangulation


def triangulate(vertices: np.ndarray, quads: np.ndarray) -> np.ndarray:
    """Triangles (2·Q, 3) of quads (Q, 4), each cut along its shorter diagonal."""
    first = np.linalg.norm(vertices[quads[:, 0]] - vertices[quads[:, 2]], axis=1)
    second = np.linalg.norm(vertices[quads[:, 1]] - vertices[quads[:, 3]], axis=1)
    first_is_shorter = (first <= second)[:, None]
    return np.concatenate(
        [
            np.where(first_is_shorter, quads[:, [0, 1, 2]], quads[:, [0, 1, 3]]),
            np.where(first_is_shorter, quads[:, [0, 2, 3]], quads[:, [1, 2, 3]]),
        ]
    )


def refine_mesh(
    vertices: np.ndarray,
    triangles: np.ndarray,
    openings: np.ndarray,
    min_vertices: int,
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> tuple[Any, np.ndarray]:
    """Split long edges until there are at least `min_vertices` vertices.

    The longest edge allowed is found by bisection; near the mouth and the eyes it is smaller by
    FINE_EDGE_RATIO. Splitting preserves the mirror symmetry.

    Parameters
    ----------
    vertices : (V, 3) float64
    triangles : (F, 3) int
    openings : (K,) int
        Boundary vertices of the mouth and the eyes.

    Returns
    -------
    operator : (V', V) sparse
        Maps the old vertices to old and new ones.
    triangles : (F', 3) int
    """
    low, high = LENGTH_SEARCH_RANGE_MM
    for step in range(LENGTH_SEARCH_STEPS):
        progress(step, LENGTH_SEARCH_STEPS)
        middle = (low + high) / 2
        operator, _ = split_long_edges(vertices, triangles, openings, middle)
        if operator.shape[0] >= min_vertices:
            low = middle
        else:
            high = middle
    return split_long_edges(vertices, triangles, openings, low)


def split_long_edges(
    vertices: np.ndarray, triangles: np.ndarray, openings: np.ndarray, max_length: float
) -> tuple[Any, np.ndarray]:
    """Halve, four times at most, edges longer than `max_length` mm; see `refine_mesh`."""
    operator, faces = sp.identity(len(vertices), format="csr"), triangles
    opening_tree = cKDTree(vertices[openings])
    for _ in range(4):
        points = operator @ vertices
        distance, _ = opening_tree.query(points)
        allowed = max_length * np.clip(distance / FINE_EDGE_REACH_MM, FINE_EDGE_RATIO, 1)
        edges, edge_of_corner = np.unique(
            np.sort(faces[:, [0, 1, 1, 2, 2, 0]].reshape(-1, 2), axis=1),
            axis=0,
            return_inverse=True,
        )
        length = np.linalg.norm(points[edges[:, 0]] - points[edges[:, 1]], axis=1)
        # Rounded, so that an edge and its mirror image are treated alike.
        too_long = np.round(length / allowed[edges].mean(1), 6) > 1
        count = too_long.sum()
        if not count:
            break
        new_vertex = np.full(len(edges), -1)
        new_vertex[too_long] = len(points) + np.arange(count)
        midpoints = sp.coo_matrix(
            (np.full(2 * count, 0.5), (np.repeat(np.arange(count), 2), edges[too_long].ravel())),
            (count, len(points)),
        )
        operator = sp.vstack([operator, midpoints @ operator]).tocsr()
        faces = _cut(faces, new_vertex[edge_of_corner.reshape(-1, 3)], operator @ vertices)
    return operator, faces


def _cut(faces: np.ndarray, midpoints: np.ndarray, points: np.ndarray) -> np.ndarray:
    """Cut triangles at the new vertices (F, 3) on their edges ab, bc, ca; −1 for uncut edges."""
    result = [faces[(midpoints < 0).all(1)]]
    count = (midpoints >= 0).sum(1)
    for turn in range(3):
        a, b, c = np.roll(faces, -turn, 1).T
        ab, bc, ca = np.roll(midpoints, -turn, 1).T
        one_cut = (count == 1) & (ab >= 0)
        result += [np.stack([a, ab, c], 1)[one_cut], np.stack([ab, b, c], 1)[one_cut]]
        # Two cuts: the corner at b is cut off, the remaining quad along its shorter diagonal.
        two_cuts = (count == 2) & (ca < 0)
        first_diagonal = np.linalg.norm(points[a] - points[bc], axis=1)
        is_shorter = first_diagonal <= np.linalg.norm(points[c] - points[ab], axis=1)
        at_first, at_second = two_cuts & is_shorter, two_cuts & ~is_shorter
        result += [np.stack([ab, b, bc], 1)[two_cuts]]
        result += [np.stack([a, ab, bc], 1)[at_first], np.stack([a, bc, c], 1)[at_first]]
        result += [np.stack([a, ab, c], 1)[at_second], np.stack([ab, bc, c], 1)[at_second]]
    a, b, c = faces[count == 3].T
    ab, bc, ca = midpoints[count == 3].T
    result += [np.stack(t, 1) for t in ((a, ab, ca), (ab, b, bc), (ca, bc, c), (ab, bc, ca))]
    return np.concatenate(result)


# ---------------------------------------------------------------------------------------- regions


def region_masks(
    mean: np.ndarray, landmarks: np.ndarray, loops: list[np.ndarray]
) -> tuple[dict[str, np.ndarray], np.ndarray]:
    """Masks (V,) of lips, mouth, eyelids, upper and lower face, and the mouth weight (V,)."""
    in_front = (
        mean[:, 2] > mean[landmarks[48:68], 2].min() - 6
    )  # excludes what lies behind the lips
    lips = inside_polygon(mean[:, :2], mean[landmarks[48:60], :2]) & in_front
    to_lips, _ = cKDTree(mean[lips]).query(mean)
    eyes = np.concatenate(sorted(loops, key=len)[:2])
    to_eyes, _ = cKDTree(mean[eyes]).query(mean)
    below_eyes = mean[landmarks[[40, 41, 46, 47]], 1].mean() - 12
    masks = {
        "lips": lips,
        "mouth": to_lips < 15,
        "eyelids": to_eyes < 6,
        "upper_face": mean[:, 1] > below_eyes,
        "lower_face": mean[:, 1] < mean[landmarks[33], 1],  # below the base of the nose
    }
    return masks, np.exp(-((to_lips / 20) ** 2)).astype(np.float32)


def match_mediapipe(
    path: Path, mean: np.ndarray, triangles: np.ndarray, landmarks: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Match the points of MediaPipe's canonical face to the mean face.

    A thin-plate spline aligns the landmarks that both models have; each point then moves to the
    closest point on the surface.

    Returns
    -------
    ids : (P,) int32
    vertices : (P, 3) int32
        The triangle on which each point lies.
    weights : (P, 3) float32
        Its barycentric coordinates there.
    """
    from scipy.interpolate import RBFInterpolator

    lines = path.read_text("utf-8").splitlines()
    source = np.array(
        [[float(v) for v in line.split()[1:4]] for line in lines if line.startswith("v ")]
    )
    # The contour of the jaw is not a fixed place on the skin and would distort the warp.
    names = np.array([int(i) for i in MEDIAPIPE_LANDMARKS68.split()])[JAW_LANDMARKS:]
    target = mean[landmarks[JAW_LANDMARKS:]]
    warp = RBFInterpolator(source[names], target, kernel="thin_plate_spline", smoothing=1e-3)
    triangle, weights, _ = closest_points(mean, triangles, warp(source))
    return (
        np.arange(len(source), dtype=np.int32),
        triangles[triangle].astype(np.int32),
        weights.astype(np.float32),
    )


# --------------------------------------------------------------------------------- bilinear model


def local_linear_maps(
    mean: np.ndarray,
    targets: np.ndarray,
    progress: Callable[[int, int], None] = lambda done, total: None,
    radius: float = 12.0,
) -> np.ndarray:
    """Linear maps from the neighbourhood of each vertex of the mean face to that on other faces.

    Weighted least squares over the neighbours within `radius` mm, regularised towards uniform
    scaling: a patch of skin does not determine the map across the surface.

    Parameters
    ----------
    mean : (V, 3) float32
    targets : (N, V, 3) float32

    Returns
    -------
    (N, V, 3, 3) float32
    """
    tree = cKDTree(mean)
    pairs = tree.sparse_distance_matrix(cKDTree(mean), radius, output_type="coo_matrix").tocsr()
    pairs.data = np.exp(-((pairs.data / (radius / 2)) ** 2))
    pairs.setdiag(1.0)
    weights = (sp.diags(1 / np.asarray(pairs.sum(1)).ravel()) @ pairs).tocsr().astype(np.float32)

    def covariance(a: np.ndarray, b: np.ndarray) -> np.ndarray:
        product = weights @ (a[:, :, None] * b[:, None, :]).reshape(len(a), 9)
        return product.reshape(-1, 3, 3) - (weights @ a)[:, :, None] * (weights @ b)[:, None, :]

    source = covariance(mean, mean)
    spread = np.trace(source, axis1=1, axis2=2)[:, None, None]
    ridge = 0.03 * spread * np.eye(3, dtype=np.float32)
    inverse = np.linalg.inv(source + ridge)
    result = np.empty((len(targets), len(mean), 3, 3), np.float32)
    for k, target in enumerate(targets):
        progress(k, len(targets))
        cross = covariance(target, mean)
        scale = np.trace(cross, axis1=1, axis2=2)[:, None, None] / spread
        result[k] = (cross + scale * ridge) @ inverse
    return result


def random_faces(model: dict[str, np.ndarray], seed: int, count: int = 1200) -> np.ndarray:
    """(N, V, 3) displacements: each expression alone, then random ones on random identities."""
    rng = np.random.default_rng(seed)
    neutral = model["expression_factor"][0]
    steps = model["expression_factor"][1:] - neutral
    weights = rng.random((count, len(steps))) * (rng.random((count, len(steps))) < 0.15)
    weights = np.concatenate([np.eye(len(steps)), weights])
    coefficients = rng.standard_normal((len(weights), len(model["identity_scale"])))
    identity = model["identity_mean"] + coefficients @ model["identity_scale"].T
    identity[: len(steps)] = model["identity_mean"]
    factor = neutral + weights @ steps
    # Every other face is its expression's displacement alone, without the neutral face.
    factor = factor - neutral * (np.arange(len(factor)) % 2)[:, None]
    coordinates = np.einsum("rei,ne,ni->nr", model["core"], factor, identity, optimize=True)
    return np.tensordot(coordinates.astype(np.float32), model["basis"], 1)


def bilinear_model(
    mean: np.ndarray,
    identity: np.ndarray,
    expression: np.ndarray,
    config: FaceConfig,
    progress: StepProgress = _no_report,
) -> tuple[dict[str, np.ndarray], dict[str, float]]:
    """Higher-order SVD of sampled identities, each in every expression.

    Parameters
    ----------
    mean : (V, 3) float32
    identity : (I, V, 3) float32
        Displacements for unit normal coefficients.
    expression : (S, V, 3) float32

    Returns
    -------
    The bilinear tensors of `Face` by field name, and metrics of the model.
    """
    rng = np.random.default_rng(config.seed)
    coefficients = rng.standard_normal((config.identities + 1, len(identity))).astype(np.float32)
    coefficients[0] = 0
    held_out = rng.standard_normal((HELD_OUT_IDENTITIES, len(identity))).astype(np.float32)
    offsets = population(mean, identity, expression, coefficients, partial(progress, "identities"))
    basis, core, expression_factor, identity_factor = tucker(
        offsets, config.vertex_rank, config.identity_rank, partial(progress, "bilinear model")
    )
    del offsets  # a gigabyte
    model = {
        "basis": basis.reshape(config.vertex_rank, -1, 3),
        "core": core,
        "expression_factor": expression_factor,
        "identity_mean": identity_factor[0],
        "identity_scale": identity_scale(core, expression_factor, identity_factor[1:]),
    }
    held_out_offsets = population(mean, identity, expression, held_out)
    metrics = {
        "identities": float(config.identities),
        "held_out_error_mm": fit_error(held_out_offsets, basis, core, expression_factor),
    }
    return {name: np.ascontiguousarray(array, np.float32) for name, array in model.items()}, metrics


def population(
    mean: np.ndarray,
    identity: np.ndarray,
    expression: np.ndarray,
    coefficients: np.ndarray,
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> np.ndarray:
    """(N, 1 + S, V·3) offsets from the mean of identities (N, I), neutral and in S expressions.

    Expressions are carried to an identity by the local linear maps between the two neutral faces,
    so that a wide mouth opens wide.
    """
    shapes = np.concatenate([np.zeros_like(expression[:1]), expression])
    offsets = np.tensordot(coefficients, identity, 1)
    maps = local_linear_maps(mean, mean + offsets, progress)
    result = np.einsum("nvij,svj->nsvi", maps, shapes, optimize=True)
    result += offsets[:, None]
    return result.reshape(len(coefficients), len(shapes), -1)


def tucker(
    tensor: np.ndarray,
    vertex_rank: int,
    identity_rank: int,
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Tucker decomposition of a population (N, E, V·3), truncated to ranks; E = 1 + S.

    The paper's C_r (V·3, E, I) is the product of the vertex basis and this core.

    Returns
    -------
    basis : (R, V·3)
    core : (R, E, I)
    expression_factor : (E, E)
    identity_factor : (N, I)
    """
    progress(0, 4)
    by_identity = tensor.reshape(len(tensor), -1)
    identity_factor = np.linalg.eigh(by_identity @ by_identity.T)[1][:, ::-1][:, :identity_rank]
    progress(1, 4)
    by_expression = tensor.transpose(1, 0, 2).reshape(tensor.shape[1], -1)
    expression_factor = np.linalg.eigh(by_expression @ by_expression.T)[1][:, ::-1]
    del by_expression  # a copy as large as the population, a gigabyte
    progress(2, 4)
    core = np.einsum("nsx,ni->isx", tensor, identity_factor, optimize=True)
    core = np.einsum("isx,se->xei", core, expression_factor, optimize=True)
    progress(3, 4)
    flat = core.reshape(len(core), -1)
    values, right = np.linalg.eigh(flat.T @ flat)
    right = right[:, ::-1][:, :vertex_rank]
    scale = np.sqrt(np.maximum(values[::-1][:vertex_rank], 1e-12))
    basis = (flat @ right).T / scale[:, None]
    core = (scale[:, None] * right.T).reshape(vertex_rank, *core.shape[1:])
    return basis, core, expression_factor, identity_factor


def identity_scale(core: np.ndarray, expression_factor: np.ndarray, rows: np.ndarray) -> np.ndarray:
    """Matrix (I, I) from standardised coefficients to identity weights, given a population's.

    rows : (N, I), the identity factor of the population.
    """
    spread, axes = np.linalg.eigh((rows - rows.mean(0)).T @ (rows - rows.mean(0)) / len(rows))
    scale = (axes * np.sqrt(np.maximum(spread, 0)))[:, ::-1]
    # Rotated so that coefficients are ordered by how much they move the face.
    neutral_core = np.einsum("rei,e->ri", core, expression_factor[0])
    _, _, rotation = np.linalg.svd(neutral_core @ scale, full_matrices=False)
    return scale @ rotation.T


def fit_error(
    truth: np.ndarray, basis: np.ndarray, core: np.ndarray, expression_factor: np.ndarray
) -> float:
    """Mean vertex distance, mm, between identities (N, 1 + S, V·3) and their least-squares fits."""
    errors = []
    projected = np.einsum("nsx,rx->nsr", truth, basis, optimize=True)
    design = np.einsum("rei,se->sri", core, expression_factor).reshape(-1, core.shape[2])
    for faces, coordinates in zip(truth, projected):
        w_id, *_ = np.linalg.lstsq(design, coordinates.ravel(), rcond=None)
        fit = np.einsum("rei,se,i->sr", core, expression_factor, w_id, optimize=True) @ basis
        errors.append(np.linalg.norm((fit - faces).reshape(len(faces), -1, 3), axis=2).mean())
    return float(np.mean(errors))
