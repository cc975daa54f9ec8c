"""Stage 1: the canonical face and the bilinear model from the ICT-FaceKit morphable model (MIT, Li et al. 2020)."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import scipy.sparse as sp
from scipy.spatial import cKDTree

from .. import geomap
from ..errors import InputError
from ..face import Face, mesh_edges, vertex_normals

FACIAL_SURFACE = (
    6706  # the model's first vertices: the face without ears, neck and scalp, quads with four boundary loops
)
VERTICES = 12_500  # wanted on the canonical face; refinement stops at the first pass that reaches it
IDENTITIES = 150  # sampled from the identity space (unit normal coefficients), besides the mean
RANK_VERTEX, RANK_IDENTITY = 160, 50
SEED = 20210  # of the sampled identities

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
# Shapes that landmarks on the skin cannot tell, or that move no skin at all.
LEFT_OUT = ("PupilDilate_L", "PupilDilate_R", "cheekRaiser_L", "cheekRaiser_R")


def build_face(model_path: Path, mediapipe_path: Path, progress: Any = None) -> tuple[Face, dict[str, float]]:
    """The canonical face of ICT-FaceKit's `model.npz`, and figures that say how good the bilinear model is.

    Raises InputError where the file lacks the arrays neutral, identity, expression, expression_names or quads.
    """
    try:
        model = np.load(model_path, allow_pickle=False)
        neutral, quads = model["neutral"].astype(np.float64) * 10, model["quads"]  # cm → mm
        identity = model["identity"][:, :FACIAL_SURFACE].astype(np.float32) * 10
        expression = model["expression"][:, :FACIAL_SURFACE].astype(np.float32) * 10
        names = [str(name) for name in model["expression_names"]]
    except (OSError, ValueError, KeyError) as error:
        raise InputError(f"{model_path}: not the expected morphable model ({error})") from None
    keep = [k for k, name in enumerate(names) if name not in LEFT_OUT]
    names, expression = [names[k] for k in keep], expression[keep]

    # The mean face is symmetric up to a twentieth of a millimetre; make it exactly so.
    neutral = neutral[:FACIAL_SURFACE]
    _, mirror = cKDTree(neutral).query(neutral * [-1, 1, 1])
    neutral = (neutral + neutral[mirror] * [-1, 1, 1]) / 2
    triangles = triangulate(neutral, quads[(quads < FACIAL_SURFACE).all(1)])
    loops = boundary_loops(triangles, len(neutral))
    openings = np.concatenate(sorted(loops, key=len)[:3])  # two eyes and the mouth
    operator, triangles = refine(neutral, triangles, openings, VERTICES)
    mean = (operator @ neutral).astype(np.float32)
    _, mirror = cKDTree(mean).query(mean * [-1, 1, 1])

    identity = np.stack([operator @ mode for mode in identity]).astype(np.float32)
    expression = np.stack([operator @ shape for shape in expression]).astype(np.float32)
    tensor, figures = bilinear_model(mean, identity, expression)
    landmarks = np.array([int(i) for i in LANDMARKS68.split()], np.int32)
    chart, chart_stress = geomap.make_chart(mean, triangles, mirror, progress)
    tables = geomap.make_tables(chart, triangles, examples(tensor))
    points, point_vertices, point_weights = place_mediapipe(mediapipe_path, mean, triangles, landmarks)
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


def boundary_loops(triangles: np.ndarray, count: int) -> list[np.ndarray]:
    """Vertices of each boundary loop of a triangle mesh with `count` vertices."""
    unique, times = mesh_edges(triangles)
    border = unique[times == 1]
    graph = sp.coo_matrix((np.ones(len(border)), border.T), (count, count))
    number, label = sp.csgraph.connected_components(graph, directed=False)
    sizes = np.bincount(label, minlength=number)
    return [np.flatnonzero(label == k) for k in np.flatnonzero(sizes > 1)]


def refine(vertices: np.ndarray, triangles: np.ndarray, openings: np.ndarray, wanted: int) -> tuple[Any, np.ndarray]:
    """Split edges that are long for their place until there are `wanted` vertices.

    The wanted length is a third around the mouth and the eyes of what it is elsewhere. Returns the operator
    (V', V) that takes the old vertices to old and new ones, and the triangles (F', 3). Cuts keep the mirror symmetry.
    """

    def split(limit: float) -> tuple[Any, np.ndarray]:
        operator, faces = sp.identity(len(vertices), format="csr"), triangles
        for _ in range(4):
            points = operator @ vertices
            distance, _ = cKDTree(vertices[openings]).query(points)
            allowed = limit * np.clip(distance / 25, 1 / 3, 1)
            edges, of_face = np.unique(
                np.sort(faces[:, [0, 1, 1, 2, 2, 0]].reshape(-1, 2), axis=1), axis=0, return_inverse=True
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
        two = (count == 2) & (ca < 0)  # the corner at b is cut off, the quad left is cut along its shorter diagonal
        first = np.linalg.norm(points[a] - points[bc], axis=1) <= np.linalg.norm(points[c] - points[ab], axis=1)
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

    A smooth warp takes the 68 points that both models name onto each other, then each point moves to the nearest place
    of the surface. Returns ids (P,), the triangle's vertices (P, 3) and the barycentric weights (P, 3).
    """
    from scipy.interpolate import RBFInterpolator

    from ..binding import closest_points

    lines = path.read_text("utf-8").splitlines()
    source = np.array([[float(v) for v in line.split()[1:4]] for line in lines if line.startswith("v ")])
    named = np.array([int(i) for i in MEDIAPIPE68.split()])
    # The jaw's contour is no fixed place on the skin: it would bend the warp.
    named, target = named[17:], mean[landmarks[17:]]
    warp = RBFInterpolator(source[named], target, kernel="thin_plate_spline", smoothing=1e-3)
    warped = warp(source)
    normals = vertex_normals(mean, triangles)
    triangle, weights, _ = closest_points(mean, triangles, normals, warped, None)
    return (
        np.arange(len(source), dtype=np.int32),
        triangles[triangle].astype(np.int32),
        weights.astype(np.float32),
    )


# -------------------------------------------------------------------------------------------------- bilinear model


def local_maps(mean: np.ndarray, others: np.ndarray, radius: float = 12.0) -> np.ndarray:
    """The linear map (N, V, 3, 3) that takes each vertex's surroundings on the mean face to those on N other faces.

    Weighted least squares over the neighbours within `radius` mm, held towards a uniform scaling across the surface,
    where a patch of skin says nothing.
    """
    pairs = cKDTree(mean).sparse_distance_matrix(cKDTree(mean), radius, output_type="coo_matrix").tocsr()
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


def examples(model: dict[str, np.ndarray], count: int = 1200) -> np.ndarray:
    """(N, V, 3) displacements of the model: each expression alone, and random expressions on random identities."""
    rng = np.random.default_rng(SEED + 1)
    steps = model["expression_factor"][1:] - model["expression_factor"][0]
    shapes = rng.random((count, len(steps))) * (rng.random((count, len(steps))) < 0.15)
    shapes = np.concatenate([np.eye(len(steps)), shapes])
    identity = model["identity_mean"] + rng.standard_normal((len(shapes), RANK_IDENTITY)) @ model["identity_scale"].T
    identity[: len(steps)] = model["identity_mean"]
    factor = model["expression_factor"][0] + shapes @ steps
    moving = factor - model["expression_factor"][0] * (np.arange(len(factor)) % 2)[:, None]  # every other one unneutral
    coefficients = np.einsum("rei,ne,ni->nr", model["core"], moving, identity, optimize=True)
    return np.tensordot(coefficients.astype(np.float32), model["basis"], 1)


def bilinear_model(
    mean: np.ndarray, identity: np.ndarray, expression: np.ndarray
) -> tuple[dict[str, np.ndarray], dict[str, float]]:
    """Higher-order SVD of the faces of many identities in every expression.

    mean (V, 3), identity (N, V, 3) with unit-normal coefficients, expression (S, V, 3). An expression is carried to an
    identity through the local linear map between the two neutral faces, so a wide mouth opens wide.
    """
    rng = np.random.default_rng(SEED)
    coefficients = rng.standard_normal((IDENTITIES + 1, len(identity))).astype(np.float32)
    coefficients[0] = 0
    held_out = rng.standard_normal((8, len(identity))).astype(np.float32)
    shapes = np.concatenate([np.zeros_like(expression[:1]), expression])

    def population(z: np.ndarray) -> np.ndarray:
        """(N, 1 + S, V·3) offsets from the mean face."""
        offsets = np.tensordot(z, identity, 1)
        maps = local_maps(mean, mean + offsets)
        moved = np.einsum("nvij,svj->nsvi", maps, shapes, optimize=True)
        moved += offsets[:, None]
        return moved.reshape(len(z), len(shapes), -1)

    tensor = population(coefficients)
    tensor_flat = tensor.reshape(len(tensor), -1)
    identity_factor = np.linalg.eigh(tensor_flat @ tensor_flat.T)[1][:, ::-1][:, :RANK_IDENTITY]
    by_expression = tensor.transpose(1, 0, 2).reshape(len(shapes), -1)
    expression_factor = np.linalg.eigh(by_expression @ by_expression.T)[1][:, ::-1]
    del by_expression
    core = np.einsum("nsx,ni->isx", tensor, identity_factor, optimize=True)
    core = np.einsum("isx,se->xei", core, expression_factor, optimize=True)  # C_r as the paper has it
    del tensor, tensor_flat
    flat = core.reshape(len(core), -1)
    values, right = np.linalg.eigh(flat.T @ flat)
    right = right[:, ::-1][:, :RANK_VERTEX]
    scale = np.sqrt(np.maximum(values[::-1][:RANK_VERTEX], 1e-12))
    basis = (flat @ right).T / scale[:, None]
    small = (scale[:, None] * right.T).reshape(RANK_VERTEX, *core.shape[1:])

    rows = identity_factor[1:]
    centre = identity_factor[0]
    spread, axes = np.linalg.eigh((rows - rows.mean(0)).T @ (rows - rows.mean(0)) / len(rows))
    # Order the standardised coefficients by how much they move the face.
    identity_scale = (axes * np.sqrt(np.maximum(spread, 0)))[:, ::-1]
    neutral_core = np.einsum("rei,e->ri", small, expression_factor[0])
    _left, _amount, turn = np.linalg.svd(neutral_core @ identity_scale, full_matrices=False)
    identity_scale = identity_scale @ turn.T

    # How well identities that were not in the tensor are met, in a least-squares fit of both factors.
    truth = population(held_out)
    truth_small = np.einsum("nsx,rx->nsr", truth, basis, optimize=True)
    errors = []
    for n in range(len(truth)):
        design = np.einsum("rei,se->sri", small, expression_factor).reshape(-1, RANK_IDENTITY)
        w_id, *_ = np.linalg.lstsq(design, truth_small[n].ravel(), rcond=None)
        shape = np.einsum("rei,se,i->sr", small, expression_factor, w_id, optimize=True) @ basis
        errors.append(np.linalg.norm((shape - truth[n]).reshape(len(shapes), -1, 3), axis=2).mean())
    figures = {"identities": float(IDENTITIES), "held_out_error_mm": float(np.mean(errors))}
    model = {
        "basis": basis.reshape(RANK_VERTEX, -1, 3),
        "core": small,
        "expression_factor": expression_factor,
        "identity_mean": centre,
        "identity_scale": identity_scale,
    }
    return {name: np.ascontiguousarray(array, np.float32) for name, array in model.items()}, figures
