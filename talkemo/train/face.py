"""Stage 1: the canonical face and the bilinear model from the ICT-FaceKit morphable model (MIT, Li et al. 2020)."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import scipy.sparse as sp
from scipy.spatial import cKDTree

from ..errors import InputError
from ..face.canonical import Face, tensors_of_face
from ..geometry.meshes import boundary_loops, closest_points
from . import chart as charts
from .run import Run

# The model's first vertices are the face without ears, neck and scalp: quads with four boundary loops.
FACIAL_SURFACE = 6706
FINEST = 1 / 3  # wanted length of edges at mouth and eyes, relative to edges far from them
FINE_REACH = 25.0  # mm from the openings at which the wanted length is full
HELD_OUT_IDENTITIES = 8  # sampled to measure the model's error

# iBUG 68 points as vertices of ICT-FaceKit, and as points of MediaPipe's mesh (both lists are facts of those models).
LANDMARKS68 = (
    "1225 1888 1052 367 1719 1722 2199 1447 966 3661 4390 3927 3924 2608 3272 4088 3443 268 493 1914 2044 1401 3615 "
    "4240 4114 2734 2509 978 4527 4942 4857 1140 2075 1147 4269 3360 1507 1542 1537 1528 1518 1511 3742 3751 3756 3721 "
    "3725 3732 5708 5695 2081 0 4275 6200 6213 6346 6461 5518 5957 5841 5702 5711 5533 6216 6207 6470 5517 5966"
)
MEDIAPIPE68 = (
    "162 234 93 58 172 136 149 148 152 377 378 365 397 288 323 454 389 71 63 105 66 107 336 296 334 293 301 168 197 5 4 "
    "75 97 2 326 305 33 160 158 133 153 144 362 385 387 263 373 380 61 39 37 0 267 269 291 405 314 17 84 181 78 82 13 "
    "312 308 317 14 87"
)
# Shapes that landmarks on the skin do not show, or that move no skin at all.
LEFT_OUT = ("PupilDilate_L", "PupilDilate_R", "cheekRaiser_L", "cheekRaiser_R")


@dataclass(frozen=True)
class FaceConfig:
    """Settings of the canonical face and its bilinear model."""

    vertices: int = (
        12_500  # wanted on the canonical face; refinement stops at the first pass that reaches it
    )
    identities: int = (
        150  # sampled from the identity space (unit normal coefficients), besides the mean
    )
    vertex_rank: int = 160  # of the Tucker decomposition
    identity_rank: int = 50
    seed: int = 20210  # of the sampled identities


def train_face(run: Run, config: FaceConfig) -> dict[str, Any]:
    """Compute the face, rather than train it; writes `out`/face.safetensors and returns its path and figures.

    Raises InputError where what the face is made from is not there.
    """
    source, points = (
        run.data / "ict_facekit" / "model.npz",
        run.data / "meshes" / "mediapipe_canonical.obj",
    )
    for path in (source, points):
        if not path.is_file():
            raise InputError(f"{path}: no such file", "the face is made from it; fetch it")
    face, figures = build_face(
        source, points, config, lambda done, total: run.report("geodesics", done, total)
    )
    tensors, settings = tensors_of_face(face)
    path = run.save("face", tensors, {**settings, "config": asdict(config)})
    return {
        "weights": str(path),
        "vertices": len(face.mean),
        "chart_stress": face.chart_stress,
        **figures,
    }


def build_face(
    model_path: Path, mediapipe_path: Path, config: FaceConfig, progress: Any = None
) -> tuple[Face, dict[str, float]]:
    """The canonical face of ICT-FaceKit's `model.npz`, and figures of the bilinear model's quality.

    mediapipe_path: MediaPipe's canonical face, an obj. progress: called with the vertices whose geodesics are done, and
    their total. Raises InputError where the model lacks an array.
    """
    try:
        model = np.load(model_path, allow_pickle=False)
        neutral, quads = model["neutral"].astype(np.float64) * 10, model["quads"]  # cm → mm
        identity = model["identity"][:, :FACIAL_SURFACE].astype(np.float32) * 10
        expression = model["expression"][:, :FACIAL_SURFACE].astype(np.float32) * 10
        names = [str(name) for name in model["expression_names"]]
    except (OSError, ValueError, KeyError) as error:
        raise InputError(
            f"{model_path}: not ICT-FaceKit's model as talkemo reads it ({error})",
            "it needs the arrays neutral, identity, expression, expression_names and quads",
        ) from None
    keep = [k for k, name in enumerate(names) if name not in LEFT_OUT]
    names, expression = [names[k] for k in keep], expression[keep]

    # The mean face is symmetric up to a twentieth of a millimetre; make it exactly so.
    neutral = neutral[:FACIAL_SURFACE]
    _, mirror = cKDTree(neutral).query(neutral * [-1, 1, 1])
    neutral = (neutral + neutral[mirror] * [-1, 1, 1]) / 2
    triangles = triangulate(neutral, quads[(quads < FACIAL_SURFACE).all(1)])
    loops = boundary_loops(triangles, len(neutral))
    openings = np.concatenate(sorted(loops, key=len)[:3])  # two eyes and the mouth
    operator, triangles = refine(neutral, triangles, openings, config.vertices)
    mean = (operator @ neutral).astype(np.float32)
    _, mirror = cKDTree(mean).query(mean * [-1, 1, 1])

    identity = np.stack([operator @ mode for mode in identity]).astype(np.float32)
    expression = np.stack([operator @ shape for shape in expression]).astype(np.float32)
    tensor, figures = bilinear_model(mean, identity, expression, config)
    landmarks = np.array([int(i) for i in LANDMARKS68.split()], np.int32)
    chart, chart_stress = charts.make_chart(mean, triangles, mirror, progress)
    tables = charts.make_tables(chart, triangles, examples(tensor, config.seed + 1))
    points, point_vertices, point_weights = place_mediapipe(
        mediapipe_path, mean, triangles, landmarks
    )
    masks, mouth_weight = regions(mean, landmarks, loops)
    face = Face(
        mean=mean,
        faces=triangles.astype(np.int32),
        landmarks68=landmarks,
        mirror=mirror.astype(np.int32),
        regions=masks,
        mouth_weight=mouth_weight,
        **tensor,  # type: ignore[arg-type]
        expression_names=tuple(names),
        chart=chart,
        chart_stress=chart_stress,
        **tables,  # type: ignore[arg-type]
        mesh_points=points,
        mesh_point_vertices=point_vertices,
        mesh_point_weights=point_weights,
    )
    return face, figures


# ---------------------------------------------------------------------------------------------------- triangulation


def triangulate(vertices: np.ndarray, quads: np.ndarray) -> np.ndarray:
    """Triangles (F, 3) of quads (Q, 4), each cut along its shorter diagonal."""
    first = np.linalg.norm(vertices[quads[:, 0]] - vertices[quads[:, 2]], axis=1)
    second = np.linalg.norm(vertices[quads[:, 1]] - vertices[quads[:, 3]], axis=1)
    short = (first <= second)[:, None]
    return np.concatenate(
        [
            np.where(short, quads[:, [0, 1, 2]], quads[:, [0, 1, 3]]),
            np.where(short, quads[:, [0, 2, 3]], quads[:, [1, 2, 3]]),
        ]
    )


def refine(
    vertices: np.ndarray, triangles: np.ndarray, openings: np.ndarray, wanted: int
) -> tuple[Any, np.ndarray]:
    """Split edges that are long for their place until there are `wanted` vertices.

    The wanted length falls to FINEST of itself at the mouth and the eyes. Returns the operator (V', V) that takes the
    old vertices to old and new ones, and the triangles (F', 3). Cuts keep the mirror symmetry.
    """

    def split(limit: float) -> tuple[Any, np.ndarray]:
        operator, faces = sp.identity(len(vertices), format="csr"), triangles
        for _ in range(4):
            points = operator @ vertices
            distance, _ = cKDTree(vertices[openings]).query(points)
            allowed = limit * np.clip(distance / FINE_REACH, FINEST, 1)
            edges, of_face = np.unique(
                np.sort(faces[:, [0, 1, 1, 2, 2, 0]].reshape(-1, 2), axis=1),
                axis=0,
                return_inverse=True,
            )
            of_face = of_face.reshape(-1, 3)
            length = np.linalg.norm(points[edges[:, 0]] - points[edges[:, 1]], axis=1)
            # Rounding: an edge and its mirror image must be judged alike.
            marked = np.round(length / allowed[edges].mean(1), 6) > 1
            if not marked.any():
                break
            new = np.full(len(edges), -1)
            new[marked] = len(points) + np.arange(marked.sum())
            middle = sp.coo_matrix(
                (
                    np.full(2 * marked.sum(), 0.5),
                    (np.repeat(np.arange(marked.sum()), 2), edges[marked].ravel()),
                ),
                (marked.sum(), len(points)),
            )
            operator = sp.vstack([operator, middle @ operator]).tocsr()
            faces = _cut(faces, new[of_face], operator @ vertices)
        return operator, faces

    low, high = 0.5, 20.0
    for _ in range(24):
        limit = (low + high) / 2
        if split(limit)[0].shape[0] >= wanted:
            low = limit
        else:
            high = limit
    return split(low)


def _cut(faces: np.ndarray, middles: np.ndarray, points: np.ndarray) -> np.ndarray:
    """Cut each triangle at the new vertices (F, 3) in the middle of its edges ab, bc, ca; −1 where there is none."""
    result = [faces[(middles < 0).all(1)]]
    count = (middles >= 0).sum(1)
    for turn in range(3):
        a, b, c = np.roll(faces, -turn, 1).T
        ab, bc, ca = np.roll(middles, -turn, 1).T
        one = (count == 1) & (ab >= 0)
        result += [np.stack([a, ab, c], 1)[one], np.stack([ab, b, c], 1)[one]]
        two = (count == 2) & (
            ca < 0
        )  # the corner at b is cut off, the quad left is cut along its shorter diagonal
        first = np.linalg.norm(points[a] - points[bc], axis=1) <= np.linalg.norm(
            points[c] - points[ab], axis=1
        )
        result += [np.stack([ab, b, bc], 1)[two]]
        result += [np.stack([a, ab, bc], 1)[two & first], np.stack([a, bc, c], 1)[two & first]]
        result += [np.stack([a, ab, c], 1)[two & ~first], np.stack([ab, bc, c], 1)[two & ~first]]
    a, b, c = faces[count == 3].T
    ab, bc, ca = middles[count == 3].T
    result += [np.stack(t, 1) for t in ((a, ab, ca), (ab, b, bc), (ca, bc, c), (ab, bc, ca))]
    return np.concatenate(result)


# --------------------------------------------------------------------------------------------------------- regions


def regions(
    mean: np.ndarray, landmarks: np.ndarray, loops: list[np.ndarray]
) -> tuple[dict[str, np.ndarray], np.ndarray]:
    """Masks of lips, mouth, eyelids, upper and lower face, and the per-vertex mouth weight of the talking model."""
    front = mean[:, 2] > mean[landmarks[48:68], 2].min() - 6  # lips, and not what lies behind them
    lips = inside_polygon(mean[:, :2], mean[landmarks[48:60], :2]) & front
    near_lips, _ = cKDTree(mean[lips]).query(mean)
    eyes = np.concatenate([loop for loop in sorted(loops, key=len)[:2]])
    near_eyes, _ = cKDTree(mean[eyes]).query(mean)
    below_eyes = mean[landmarks[[40, 41, 46, 47]], 1].mean() - 12
    upper = mean[:, 1] > below_eyes
    # The lower half: below the line from the nose's wings to the ears.
    lower = mean[:, 1] < mean[landmarks[33], 1]
    masks = {
        "lips": lips,
        "mouth": near_lips < 15,
        "eyelids": near_eyes < 6,
        "upper_face": upper,
        "lower_face": lower,
    }
    return masks, np.exp(-((near_lips / 20) ** 2)).astype(np.float32)


def inside_polygon(points: np.ndarray, polygon: np.ndarray) -> np.ndarray:
    """Which of the points (N, 2) lie inside a closed polygon (P, 2), by the even-odd rule."""
    x, y = points[:, :1], points[:, 1:]
    (ax, ay), (bx, by) = polygon.T, np.roll(polygon, -1, 0).T
    with np.errstate(divide="ignore", invalid="ignore"):
        crosses = ((ay > y) != (by > y)) & (x < (bx - ax) * (y - ay) / (by - ay) + ax)
    return crosses.sum(1) % 2 == 1


def place_mediapipe(
    path: Path, mean: np.ndarray, triangles: np.ndarray, landmarks: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Match the points of MediaPipe's canonical face to the mean face, once.

    A smooth warp takes the landmarks that both models have onto each other, then each point moves to the nearest point
    of the surface. Returns ids (P,), the triangle's vertices (P, 3) and the barycentric weights (P, 3).
    """
    from scipy.interpolate import RBFInterpolator

    lines = path.read_text("utf-8").splitlines()
    source = np.array(
        [[float(v) for v in line.split()[1:4]] for line in lines if line.startswith("v ")]
    )
    named = np.array([int(i) for i in MEDIAPIPE68.split()])
    # The contour of the jaw is not a fixed place on the skin, and would bend the warp.
    named, target = named[17:], mean[landmarks[17:]]
    warp = RBFInterpolator(source[named], target, kernel="thin_plate_spline", smoothing=1e-3)
    warped = warp(source)
    triangle, weights, _ = closest_points(mean, triangles, warped)
    return (
        np.arange(len(source), dtype=np.int32),
        triangles[triangle].astype(np.int32),
        weights.astype(np.float32),
    )


# -------------------------------------------------------------------------------------------------- bilinear model


def local_maps(mean: np.ndarray, others: np.ndarray, radius: float = 12.0) -> np.ndarray:
    """The linear map (N, V, 3, 3) that takes each vertex's surroundings on the mean face to those on N other faces.

    Weighted least squares over the neighbours within `radius` mm, with a pull towards a uniform scaling: a patch of
    skin does not determine the map across the surface.
    """
    pairs = (
        cKDTree(mean)
        .sparse_distance_matrix(cKDTree(mean), radius, output_type="coo_matrix")
        .tocsr()
    )
    pairs.data = np.exp(-((pairs.data / (radius / 2)) ** 2))
    pairs.setdiag(1.0)
    weights = (sp.diags(1 / np.asarray(pairs.sum(1)).ravel()) @ pairs).tocsr().astype(np.float32)

    def covariance(a: np.ndarray, b: np.ndarray) -> np.ndarray:
        product = weights @ (a[:, :, None] * b[:, None, :]).reshape(len(a), 9)
        return product.reshape(-1, 3, 3) - (weights @ a)[:, :, None] * (weights @ b)[:, None, :]

    own = covariance(mean, mean)
    spread = np.trace(own, axis1=1, axis2=2)[:, None, None]
    hold = 0.03 * spread * np.eye(3, dtype=np.float32)
    inverse = np.linalg.inv(own + hold)
    result = np.empty((len(others), len(mean), 3, 3), np.float32)
    for k, other in enumerate(others):
        cross = covariance(other, mean)
        scale = np.trace(cross, axis1=1, axis2=2)[:, None, None] / spread
        result[k] = (cross + scale * hold) @ inverse
    return result


def examples(model: dict[str, np.ndarray], seed: int, count: int = 1200) -> np.ndarray:
    """(N, V, 3) displacements of the model: each expression alone, and random expressions on random identities."""
    rng = np.random.default_rng(seed)
    steps = model["expression_factor"][1:] - model["expression_factor"][0]
    shapes = rng.random((count, len(steps))) * (rng.random((count, len(steps))) < 0.15)
    shapes = np.concatenate([np.eye(len(steps)), shapes])
    identity = (
        model["identity_mean"]
        + rng.standard_normal((len(shapes), len(model["identity_scale"])))
        @ model["identity_scale"].T
    )
    identity[: len(steps)] = model["identity_mean"]
    factor = model["expression_factor"][0] + shapes @ steps
    moving = (
        factor - model["expression_factor"][0] * (np.arange(len(factor)) % 2)[:, None]
    )  # every other one unneutral
    coefficients = np.einsum("rei,ne,ni->nr", model["core"], moving, identity, optimize=True)
    return np.tensordot(coefficients.astype(np.float32), model["basis"], 1)


def bilinear_model(
    mean: np.ndarray, identity: np.ndarray, expression: np.ndarray, config: FaceConfig
) -> tuple[dict[str, np.ndarray], dict[str, float]]:
    """Higher-order SVD of the faces of many identities in every expression: tensors of `Face`, and figures.

    mean (V, 3), identity (N, V, 3) with unit-normal coefficients, expression (S, V, 3). An expression is carried to an
    identity through the local linear map between the two neutral faces, so a wide mouth opens wide.
    """
    rng = np.random.default_rng(config.seed)
    coefficients = rng.standard_normal((config.identities + 1, len(identity))).astype(np.float32)
    coefficients[0] = 0
    held_out = rng.standard_normal((HELD_OUT_IDENTITIES, len(identity))).astype(np.float32)
    people = population(mean, identity, expression, coefficients)
    basis, core, expression_factor, identity_factor = tucker(
        people, config.vertex_rank, config.identity_rank
    )
    del people  # a gigabyte
    model = {
        "basis": basis.reshape(config.vertex_rank, -1, 3),
        "core": core,
        "expression_factor": expression_factor,
        "identity_mean": identity_factor[0],
        "identity_scale": identity_scale(core, expression_factor, identity_factor[1:]),
    }
    truth = population(mean, identity, expression, held_out)
    figures = {
        "identities": float(config.identities),
        "held_out_error_mm": fit_error(truth, basis, core, expression_factor),
    }
    return {name: np.ascontiguousarray(array, np.float32) for name, array in model.items()}, figures


def population(
    mean: np.ndarray, identity: np.ndarray, expression: np.ndarray, z: np.ndarray
) -> np.ndarray:
    """(N, 1 + S, V·3) offsets from the mean face of identities z (N, I), each neutral and in S expressions."""
    shapes = np.concatenate([np.zeros_like(expression[:1]), expression])
    offsets = np.tensordot(z, identity, 1)
    maps = local_maps(mean, mean + offsets)
    moved = np.einsum("nvij,svj->nsvi", maps, shapes, optimize=True)
    moved += offsets[:, None]
    return moved.reshape(len(z), len(shapes), -1)


def tucker(
    tensor: np.ndarray, vertex_rank: int, identity_rank: int
) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Tucker decomposition of a population (N, 1 + S, V·3), truncated to ranks.

    Returns the vertex basis (R, V·3), the core (R, E, I), the expression factor (1 + S, E), E = 1 + S, and the identity
    factor (N, I). The core is what is left of the paper's C_r (V·3, E, I) when the vertex basis is taken out of it.
    """
    by_identity = tensor.reshape(len(tensor), -1)
    identity_factor = np.linalg.eigh(by_identity @ by_identity.T)[1][:, ::-1][:, :identity_rank]
    by_expression = tensor.transpose(1, 0, 2).reshape(tensor.shape[1], -1)
    expression_factor = np.linalg.eigh(by_expression @ by_expression.T)[1][:, ::-1]
    del by_expression  # a copy as large as the population, a gigabyte
    core = np.einsum("nsx,ni->isx", tensor, identity_factor, optimize=True)
    core = np.einsum("isx,se->xei", core, expression_factor, optimize=True)
    flat = core.reshape(len(core), -1)
    values, right = np.linalg.eigh(flat.T @ flat)
    right = right[:, ::-1][:, :vertex_rank]
    scale = np.sqrt(np.maximum(values[::-1][:vertex_rank], 1e-12))
    basis = (flat @ right).T / scale[:, None]
    small = (scale[:, None] * right.T).reshape(vertex_rank, *core.shape[1:])
    return basis, small, expression_factor, identity_factor


def identity_scale(core: np.ndarray, expression_factor: np.ndarray, rows: np.ndarray) -> np.ndarray:
    """(I, I): identity weights of standardised coefficients, from the identity factor's rows (N, I) of a population."""
    spread, axes = np.linalg.eigh((rows - rows.mean(0)).T @ (rows - rows.mean(0)) / len(rows))
    scale = (axes * np.sqrt(np.maximum(spread, 0)))[:, ::-1]
    # Turned so that the coefficients are ordered by how much they move the face.
    neutral_core = np.einsum("rei,e->ri", core, expression_factor[0])
    _left, _amount, turn = np.linalg.svd(neutral_core @ scale, full_matrices=False)
    return scale @ turn.T


def fit_error(
    truth: np.ndarray, basis: np.ndarray, core: np.ndarray, expression_factor: np.ndarray
) -> float:
    """Mean vertex distance, mm, of identities (N, 1 + S, V·3) from the model's, fitted to them by least squares."""
    errors = []
    projected = np.einsum("nsx,rx->nsr", truth, basis, optimize=True)
    design = np.einsum("rei,se->sri", core, expression_factor).reshape(-1, core.shape[2])
    for faces, coordinates in zip(truth, projected):
        w_id, *_ = np.linalg.lstsq(design, coordinates.ravel(), rcond=None)
        shape = np.einsum("rei,se,i->sr", core, expression_factor, w_id, optimize=True) @ basis
        errors.append(np.linalg.norm((shape - faces).reshape(len(faces), -1, 3), axis=2).mean())
    return float(np.mean(errors))
