"""Finds the face of a mesh: the canonical face laid over it, first rigidly, then by identity, then freely.

A mesh may stand anywhere, in any unit. Most are drawn along the axes, and nearly all heads are symmetric: the rotations
that are tried are the identity, then the others of a cube, then those about the mesh's own plane of symmetry. Each is
matched by iterative closest points from starts of several sizes; the best is fitted with the identities and expressions
of the bilinear model, and the rest with a smooth displacement. Whether it is a face at all is judged by its relief,
which a sphere lacks.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import lru_cache
from itertools import permutations, product

import numpy as np
from scipy.spatial import cKDTree
from scipy.spatial.transform import Rotation

from ..errors import InputError
from ..face.canonical import Face
from ..geometry.meshes import vertex_normals
from ..geometry.rigid import Similarity, fit_similarity

NORMAL_WEIGHT = 8.0  # mm; opposite normals count like twice this distance, which keeps upper and lower lip apart
SURFACE_POINTS = (
    20_000  # points of a coarse mesh, beside its vertices, that closest points are searched among
)
SAMPLES = 600  # canonical vertices that the similarity is fitted with
ROUGH_SAMPLES = 150  # with which starts are compared
SHARES = 1.0 / 1.18 ** np.arange(
    15
)  # of the mesh's height that the face may have: from a mask to a body
IDENTITY_MODES = 30
# Blend shapes that a mesh at rest may show: some are modelled with an open mouth or closed eyes.
AT_REST = (
    "jawOpen",
    "mouthClose",
    "mouthSmile",
    "mouthFunnel",
    "mouthPucker",
    "eyeBlink",
    "eyeWide",
    "browInnerUp",
)
STIFFNESS = 0.3  # penalty (mm² a point) on a squared identity coefficient
LANDMARK_SHARE = 0.3  # weight of named landmarks relative to the surface
EXPRESSION_STIFFNESS = 2.0  # penalty (mm² a point) on a squared blend-shape weight
RELIEF = 14.0  # mm around a point within which its normal is compared with the others
# Score of a fit: the correlation of its relief minus a tenth of its error in mm. Faces of any kind score 0.4 and more,
# a body without a head, a chair, a sphere or a lump 0.1 and less.
LEAST_SCORE, SURE_SCORE = 0.33, 0.5  # of a face; with which nothing else is tried
GOOD_FIT = 1.2  # mm of error under which no other pose is tried
OPEN = 0.6  # initial jawOpen weight that is tried for a mouth that stands open
TILT = 12.0  # degrees by which the other poses are tilted
WORST_FIT = 9.0  # mm, error of a placement beyond which it is not fitted
UPRIGHT_STARTS = 3  # of an upright mesh, tried before all others
KEPT_STARTS = 8  # of all rotations together, that are refined by iterative closest points
LARGEST_ROUGH_DISTANCE = 25.0  # mm, beyond which distance makes a start no worse


@dataclass(frozen=True, eq=False)
class Surface:
    """The points of a mesh that are fitted: (N, 3) with unit normals (N, 3)."""

    points: np.ndarray
    normals: np.ndarray


@dataclass(frozen=True, eq=False)
class Fit:
    """The canonical face laid over a mesh.

    placement: of the canonical face in the mesh; fitted: (V, 3) canonical mm, the bilinear model's nearest face
    error: median distance in canonical mm between model and mesh; relief: correlation in [-1, 1]; near: the part of the
        mesh that it lies on
    """

    placement: Similarity
    fitted: np.ndarray
    error: float
    relief: float
    near: _Near

    @property
    def score(self) -> float:
        """How much like a face it is, see LEAST_SCORE."""
        return self.relief - self.error / 10


def surface_of(vertices: np.ndarray, faces: np.ndarray) -> Surface:
    """The vertices that triangles use, with their normals, and random points of the triangles of a coarse mesh."""
    normals = vertex_normals(vertices, faces)
    used = np.unique(faces)
    corners = vertices[faces]
    cross = np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0])
    double = np.linalg.norm(cross, axis=1)
    used = used[np.linalg.norm(normals[used], axis=1) > 0.5]
    points, directions = vertices[used], normals[used]
    if len(points) < SURFACE_POINTS:  # a coarse mesh has too few vertices for closest points
        rng = np.random.default_rng(0)
        chosen = np.searchsorted(
            np.cumsum(double), (np.arange(SURFACE_POINTS) + 0.5) / SURFACE_POINTS * double.sum()
        )
        chosen = chosen[chosen < len(faces)]
        u = rng.random((len(chosen), 2))
        u[u.sum(1) > 1] = 1 - u[u.sum(1) > 1]
        c = corners[chosen]
        extra = c[:, 0] + u[:, :1] * (c[:, 1] - c[:, 0]) + u[:, 1:] * (c[:, 2] - c[:, 0])
        points = np.concatenate([points, extra])
        directions = np.concatenate(
            [directions, cross[chosen] / np.maximum(double[chosen, None], 1e-300)]
        )
    return Surface(points, directions)


def cube_turns() -> list[np.ndarray]:
    """The 24 rotations that take axes to axes: the identity first, then z up and looking along -y, as Blender has it."""
    turns = []
    for order in permutations(range(3)):
        for signs in product((1, -1), repeat=3):
            matrix = np.zeros((3, 3))
            matrix[range(3), order] = signs
            if np.linalg.det(matrix) > 0:
                turns.append(matrix)
    z_up = np.array([[1.0, 0, 0], [0, 0, -1], [0, 1, 0]])
    key = lambda r: (not np.array_equal(r, np.eye(3)), not np.array_equal(r, z_up), -np.trace(r))
    return sorted(turns, key=key)


def symmetry_turns(surface: Surface, angles: int = 18) -> list[np.ndarray]:
    """Rotations with the mesh's plane of symmetry as that of the face, turned within it by equal steps."""
    turns = []
    for normal in [side * normal for normal in _symmetry_normals(surface) for side in (1, -1)]:
        up = np.cross(normal, [1.0, 0, 0] if abs(normal[0]) < 0.7 else [0, 1.0, 0])
        up /= np.linalg.norm(up)
        forward = np.cross(normal, up)
        for angle in 2 * np.pi * np.arange(angles) / angles:
            u = np.cos(angle) * up + np.sin(angle) * forward
            turns.append(np.stack([normal, u, np.cross(normal, u)], axis=1))
    return turns


def _symmetry_normals(surface: Surface, planes: int = 3) -> list[np.ndarray]:
    """Unit normals (3,) of the planes through its middle in which a mesh is most like its mirror image."""
    rng = np.random.default_rng(0)
    points = surface.points[rng.permutation(len(surface.points))[:1500]]
    points = points - points.mean(0)
    spread = np.sqrt(np.square(points).sum(1).mean())
    tree = cKDTree(points)
    some = points[:250]

    def cost(normals: np.ndarray) -> np.ndarray:
        """Mean distance of mirrored points from the mesh, for each of several normals (N, 3)."""
        mirrored = (
            some[None] - 2 * np.einsum("pc,nc->np", some, normals)[..., None] * normals[:, None]
        )
        return np.minimum(
            tree.query(mirrored.reshape(-1, 3))[0].reshape(len(normals), -1), 0.3 * spread
        ).mean(1)

    k = np.arange(800)
    height, turn = (
        1 - (k + 0.5) / 800,
        np.pi * (1 + 5**0.5) * k,
    )  # Fibonacci's points on half a sphere
    flat = np.sqrt(1 - height**2)
    directions = np.stack([flat * np.cos(turn), flat * np.sin(turn), height], axis=1)
    found: list[np.ndarray] = []
    for n in np.argsort(cost(directions)):
        if all(abs(directions[n] @ other) < 0.9 for other in found):
            found.append(directions[n])
        if len(found) == planes:
            break
    refined = []
    for normal in found:
        step = 0.06
        for _ in range(5):
            around = normal + step * rng.standard_normal((24, 3))
            around = np.concatenate(
                [normal[None], around / np.linalg.norm(around, axis=1, keepdims=True)]
            )
            normal = around[cost(around).argmin()]
            step /= 2
        refined.append(normal)
    return refined


@lru_cache(maxsize=2)
def _template(face: Face) -> tuple[np.ndarray, np.ndarray]:
    """Some of the canonical face's vertices (P, 3) and their normals (P, 3)."""
    normals = vertex_normals(face.mean, face.faces)
    step = max(1, len(face.mean) // SAMPLES)
    return face.mean[::step].astype(np.float64), normals[::step]


def locate(
    face: Face,
    surface: Surface,
    turns: list[np.ndarray] | None = None,
    landmarks: np.ndarray | None = None,
) -> Fit:
    """Find the face of a mesh and fit the bilinear model to it. Raises InputError where there is none.

    turns: rotations of which one brings the canonical face nearly there; None to try them all
    landmarks: (68, 3) places of the iBUG points in the mesh, NaN for unknown ones; then nothing is searched
    """
    if landmarks is not None:
        return fit_face(face, surface, _from_landmarks(face, landmarks), landmarks)
    if turns is not None:
        stages: list[Callable[[], list[np.ndarray]]] = [lambda: turns]
    else:
        upright = _upright_fit(face, surface)
        if upright is not None:
            return _polished(face, surface, upright)
        stages = [
            lambda: cube_turns()[:1],
            lambda: cube_turns()[1:],
            lambda: symmetry_turns(surface),
        ]
    best: Fit | None = None
    for stage in stages:
        for placement, error in _tried(face, surface, stage()):
            if error > WORST_FIT:
                break
            fit = fit_face(face, surface, placement)
            if best is None or fit.score > best.score:
                best = fit
            if fit.score > SURE_SCORE:
                return _polished(face, surface, fit)
    if best is not None and best.score > LEAST_SCORE:
        return _polished(face, surface, best)
    likeness = (
        ""
        if best is None
        else f" (the likeliest place is {best.error:.0f} mm off, its relief {best.relief:.2f})"
    )
    raise InputError(
        f"no face found in the mesh{likeness}",
        "if there is one, say where: --up and --forward, such as z and -y, or --landmarks",
    )


def _upright_fit(face: Face, surface: Surface) -> Fit | None:
    """The fit to a mesh that stands upright and looks along +z, as most do, from its likeliest starts; None if not sure."""
    for placement, error in _tried(face, surface, cube_turns()[:1], UPRIGHT_STARTS):
        if error < WORST_FIT:
            fit = fit_face(face, surface, placement)
            if fit.score > SURE_SCORE:
                return fit
    return None


def _polished(face: Face, surface: Surface, fit: Fit) -> Fit:
    """The best of a fit and of fits from poses around it: iterative closest points may stop in a local minimum."""
    middle = face.mean.mean(0)
    tilts = [
        Rotation.from_rotvec(sign * np.radians(TILT) * axis).as_matrix()
        for axis in np.eye(3)
        for sign in (1, -1)
    ]
    for _ in range(3):
        if fit.error < GOOD_FIT:
            break
        around = [
            fit_face(face, surface, fit.placement.after(1.0, t, middle - t @ middle)) for t in tilts
        ]
        best = max(around, key=lambda other: other.score)
        if best.score < fit.score + 0.01:
            break
        fit = best
    opened = fit_face(face, surface, fit.placement, mouth=OPEN)
    return opened if opened.score > fit.score + 0.01 else fit


def _from_landmarks(face: Face, landmarks: np.ndarray) -> Similarity:
    """The placement that named landmarks (68, 3) give, NaN for unknown ones."""
    known = np.isfinite(landmarks).all(1)
    source, target = face.mean[face.landmarks68[known]], landmarks[known]
    if (
        known.sum() < 4
        or np.linalg.svd(target - target.mean(0))[1][1] < 1e-3 * np.ptp(target, axis=0).max()
    ):
        raise InputError(
            "too few landmarks",
            "name at least four that do not lie on a line, such as eyes, nose and mouth",
        )
    return Similarity(*fit_similarity(source, target))


def _tried(
    face: Face, surface: Surface, turns: list[np.ndarray], kept: int = KEPT_STARTS
) -> Iterator[tuple[Similarity, float]]:
    """Placements found from the `kept` likeliest starts of all rotations, with their errors in mm, the best first."""
    starts = _starts_by_cost(face, surface, turns)[:kept]
    found = [_icp(face, surface, scale, turn, shift) for scale, turn, shift in starts]
    yield from sorted(found, key=lambda item: item[1])


def _starts_by_cost(
    face: Face, surface: Surface, turns: list[np.ndarray]
) -> list[tuple[float, np.ndarray, np.ndarray]]:
    """Scale, rotation and shift of all starts, those first at which the mesh is near and faces the same way."""
    source, source_normals = _template(face)
    rows = np.linspace(0, len(source) - 1, ROUGH_SAMPLES).astype(int)
    rough, rough_normals = source[rows], source_normals[rows]
    tree = cKDTree(surface.points)
    starts: list[tuple[float, float, np.ndarray, np.ndarray]] = []
    for turn in turns:
        for scale, shift in _starts(face, surface.points @ turn, surface.normals @ turn):
            translation = turn @ shift
            placed = scale * rough @ turn.T + translation
            distance, index = tree.query(placed)
            away = 1 - np.einsum("pc,pc->p", surface.normals[index], rough_normals @ turn.T)
            cost = np.minimum(distance / scale, LARGEST_ROUGH_DISTANCE) + NORMAL_WEIGHT * away
            starts.append(
                (float(np.sort(cost)[: int(0.8 * len(cost))].mean()), scale, turn, translation)
            )
    return [start[1:] for start in sorted(starts, key=lambda start: start[0])]


def _starts(
    face: Face, points: np.ndarray, normals: np.ndarray
) -> Iterator[tuple[float, np.ndarray]]:
    """Scales and shifts to try for a mesh turned so that its face may look along +z with y up."""
    low, high = points.min(0), points.max(0)
    extent = high - low
    face_low, face_high = face.mean.min(0), face.mean.max(0)
    face_extent = face_high - face_low
    nose = face.mean[face.landmarks68[30]]
    centre_x = (low[0] + high[0]) / 2
    ahead = normals[:, 2] > 0.2
    for share in SHARES:
        scale = share * extent[1] / face_extent[1]
        if share > 0.5 and not 0.4 < face_extent[0] * scale / extent[0] < 1.6:
            continue
        # Above the face there is at most a scalp with hair; below it there may be a whole body.
        slack = min(extent[1] * (1 - share), 0.6 * face_extent[1] * scale)
        column = ahead & (np.abs(points[:, 0] - centre_x) < 12 * scale)
        inside = points[column]
        for top in np.linspace(0, slack, 1 if share > 0.95 else 4):
            nose_y = high[1] - top - (face_high[1] - nose[1]) * scale
            near = np.abs(inside[:, 1] - nose_y) < 22 * scale
            if near.any():
                yield scale, np.array([centre_x, nose_y, inside[near, 2].max()]) - scale * nose


def _icp(
    face: Face,
    surface: Surface,
    scale: float,
    rotation: np.ndarray,
    translation: np.ndarray,
    iterations: int = 30,
) -> tuple[Similarity, float]:
    """Iterative closest points with scale; the worst fifth of the pairs is left out. The error is in mm."""
    source, source_normals = _template(face)
    start = scale
    centre = scale * source.mean(0) @ rotation.T + translation
    reach = scale * (np.linalg.norm(source - source.mean(0), axis=1).max() + 40)
    inside = np.linalg.norm(surface.points - centre, axis=1) < reach
    worst = Similarity(scale, rotation, translation), np.inf
    if inside.sum() < 40:
        return worst
    target, target_normals = surface.points[inside], surface.normals[inside]
    weight = NORMAL_WEIGHT * 2 * start
    tree = cKDTree(np.hstack([target, weight * target_normals]))
    best, error = worst
    for _ in range(iterations):
        placed = scale * source @ rotation.T + translation
        _, index = tree.query(np.hstack([placed, weight * source_normals @ rotation.T]))
        distance = np.linalg.norm(target[index] - placed, axis=1)
        keep = distance <= np.quantile(distance, 0.8)
        now = float(distance[keep].mean() / scale)
        if now > error - 1e-3:
            break
        best, error = Similarity(float(scale), rotation, translation), now
        x, y = source[keep], target[index[keep]]
        scale, rotation, translation = fit_similarity(x, y)
        # A face that shrinks to a point fits anywhere.
        bounded = float(np.clip(scale, 0.6 * start, 1.6 * start))
        translation = translation + (scale - bounded) * rotation @ x.mean(0)
        scale = bounded
    return best, error


def fit_face(
    face: Face,
    surface: Surface,
    placement: Similarity,
    landmarks: np.ndarray | None = None,
    mouth: float = 0.0,
) -> Fit:
    """Fit identity, expression at rest and the rest of the pose of the bilinear model; `refine` does what is left.

    landmarks: (68, 3) places of the iBUG points in the mesh, NaN for unknown ones
    mouth: initial jawOpen weight; fitting cannot open a closed mouth, nor close an open one
    """
    modes, stiffness, base, at_rest = _models(face)
    first = len(modes) - len(at_rest)
    rows = np.arange(0, len(base), 5)
    coefficients = np.zeros(len(modes), np.float32)
    coefficients[first + [face.expression_names[k] for k in at_rest].index("jawOpen")] = mouth
    near = _Near(face, surface, placement)
    for turn in range(12):
        fitted = base + np.tensordot(coefficients, modes, 1)
        index, distance = near.matches(placement, fitted, rows)
        reach = max(3.0, 10.0 * 0.8**turn)
        weight = 1 / (1 + (distance / reach) ** 2) ** 2
        at, y = rows, placement.to_canonical(near.points[index])
        if landmarks is not None:
            known = np.isfinite(landmarks).all(1)
            at = np.concatenate([rows, face.landmarks68[known]])
            y = np.concatenate([y, placement.to_canonical(landmarks[known])])
            weight = np.concatenate(
                [weight, np.full(known.sum(), LANDMARK_SHARE * len(rows) / known.sum())]
            )
        x = fitted[at]
        # The pose, by small turns and shifts and a change of size, goes along with the shape.
        turns = [np.cross(axis, x) for axis in np.eye(3)]
        rigid = np.stack([*turns, *np.broadcast_to(np.eye(3)[:, None], (3, *x.shape)), x])
        design = np.concatenate([modes[:, at], rigid.astype(np.float32)]).reshape(
            len(modes) + 7, -1
        )
        weighted = design * np.repeat(weight, 3).astype(np.float32)
        gram = (weighted @ design.T).astype(np.float64)
        gram[np.arange(len(modes)), np.arange(len(modes))] += stiffness * weight.sum()
        gap = y - x + np.tensordot(coefficients, modes[:, at], 1)
        solution = np.linalg.solve(gram, weighted @ gap.ravel())
        coefficients = solution[: len(modes)].astype(np.float32)
        coefficients[first:] = np.clip(coefficients[first:], 0, 1)
        shape = base[at] + np.tensordot(coefficients, modes[:, at], 1)
        scale, rotation, shift = fit_similarity(shape, y, weight)
        placement = placement.after(scale, rotation, shift)
    fitted = base + np.tensordot(coefficients, modes, 1)
    error = float(np.median(near.matches(placement, fitted, rows)[1]))
    relief = _relief(face, fitted, near, placement)
    return Fit(placement, fitted, error, relief, near)


@lru_cache(maxsize=2)
def _models(face: Face) -> tuple[np.ndarray, np.ndarray, np.ndarray, list[int]]:
    """Fitting modes (Z, V, 3), their regularisation (Z,), base shape (V, 3), and indices of the AT_REST shapes."""
    neutral = np.einsum("rei,e->ri", face.core, face.expression_factor[0])
    identities = np.tensordot((neutral @ face.identity_scale[:, :IDENTITY_MODES]).T, face.basis, 1)
    at_rest = [k for k, name in enumerate(face.expression_names) if name.split("_")[0] in AT_REST]
    # Ten per cent longer and flatter: modelled heads vary more than people do.
    longer, flatter = 0.1 * (face.mean - face.mean.mean(0)) * np.eye(3)[[1, 2]][:, None]
    modes = np.concatenate([identities, [longer, flatter], face.expression_basis[at_rest]]).astype(
        np.float32
    )
    stiffness = np.repeat([STIFFNESS, EXPRESSION_STIFFNESS], [len(identities) + 2, len(at_rest)])
    return (
        modes,
        stiffness,
        face.mean + np.tensordot(neutral @ face.identity_mean, face.basis, 1),
        at_rest,
    )


class _Near:
    """The part of a mesh around a placement, with a search tree in which opposite normals are far apart."""

    def __init__(self, face: Face, surface: Surface, placement: Similarity, reach: float = 30.0):
        points = placement.to_canonical(surface.points)
        inside = ((points > face.mean.min(0) - reach) & (points < face.mean.max(0) + reach)).all(1)
        self.faces = face.faces
        self.points, self.normals = surface.points[inside], surface.normals[inside]
        self.weight = NORMAL_WEIGHT * placement.scale
        self.tree = cKDTree(np.hstack([self.points, self.weight * self.normals]))

    def matches(
        self, placement: Similarity, fitted: np.ndarray, rows: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray]:
        """For vertices `rows` of a fitted face the points that are nearest and face the same way, and distances in mm."""
        normals = vertex_normals(fitted, self.faces)[rows] @ placement.rotation.T
        places = placement.to_mesh(fitted[rows])
        _, index = self.tree.query(np.hstack([places, self.weight * normals]))
        return index, np.linalg.norm(self.points[index] - places, axis=1) / placement.scale


@lru_cache(maxsize=2)
def _relief_frame(face: Face) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Vertices in the middle of the face, for each its neighbours within RELIEF mm, itself where there are fewer, and how
    its normal differs from theirs."""
    middle = face.mean[face.landmarks68[17:]].mean(0)
    rows = np.flatnonzero(np.linalg.norm(face.mean - middle, axis=1) < 75)
    rows = rows[:: max(1, len(rows) // 1500)]
    tree = cKDTree(face.mean[rows])
    distance, near = tree.query(face.mean[rows], k=min(160, len(rows)), distance_upper_bound=RELIEF)
    around = np.where(np.isfinite(distance), near, np.arange(len(rows))[:, None])
    own = vertex_normals(face.mean, face.faces)[rows]
    return rows, around, own - own[around].mean(1)


def _relief(face: Face, fitted: np.ndarray, near: _Near, placement: Similarity) -> float:
    """Correlation between mesh and canonical face of how normals differ from those around them; a sphere has no relief."""
    rows, around, a = _relief_frame(face)
    index, _ = near.matches(placement, fitted, rows)
    met = near.normals[index] @ placement.rotation
    b = met - met[around].mean(1)
    return float((a * b).sum() / max(np.linalg.norm(a) * np.linalg.norm(b), 1e-9))


def refine(face: Face, fit: Fit, rounds: int = 4) -> np.ndarray:
    """The fitted face (V, 3) moved onto the mesh by a displacement that is smooth over the face's chart, where the lips
    are apart and do not pull at each other."""
    spread, bending = _controls(face)
    rows = np.arange(0, len(fit.fitted), 2)
    part = spread[rows]
    result = fit.fitted
    for k in range(rounds):
        index, distance = fit.near.matches(fit.placement, result, rows)
        weight = 1 / (1 + (distance / 4) ** 2) ** 2
        normals = vertex_normals(result, face.faces)[rows]
        # Closest points determine the motion along the normal well, along the skin hardly.
        gap = fit.placement.to_canonical(fit.near.points[index]) - result[rows]
        along = np.einsum("vc,vc->v", gap, normals)[:, None] * normals
        target = (result - fit.fitted)[rows] + 0.7 * along + 0.3 * gap
        left = (part.T @ part.multiply(weight[:, None])).toarray() + 30.0 * 0.4**k * bending
        moved = np.linalg.solve(
            left + 1e-6 * np.eye(len(left)), part.T @ (weight[:, None] * target)
        )
        result = fit.fitted + spread @ moved
    return result


@lru_cache(maxsize=2)
def _controls(face: Face, count: int = 900):
    """Sparse (V, C) that spreads the displacement of C vertices over the chart, and their bending energy (C, C)."""
    import scipy.sparse as sp

    # There are more of them where the face has more vertices, around mouth and eyes.
    some = np.linspace(0, len(face.mean) - 1, count).astype(int)
    where = face.chart[some]
    distance, near = cKDTree(where).query(face.chart, k=5)
    weight = np.exp(-((distance / np.maximum(distance[:, 2:3], 1e-6)) ** 2))
    weight /= weight.sum(1, keepdims=True)
    at = np.repeat(np.arange(len(face.mean)), 5), near.ravel()
    spread = sp.csr_matrix((weight.ravel(), at), (len(face.mean), count))
    distance, near = cKDTree(where).query(where, k=9)
    weight = 1 / np.maximum(distance[:, 1:], 2.0)
    graph = sp.csr_matrix(
        (weight.ravel(), (np.repeat(np.arange(count), 8), near[:, 1:].ravel())), (count, count)
    )
    graph = (graph + graph.T) / 2
    laplacian = sp.diags(np.asarray(graph.sum(1))[:, 0]) - graph
    return spread, laplacian.toarray()


def axis_rotations(up: str | None, forward: str | None) -> list[np.ndarray] | None:
    """Rotations that bring the canonical face upright and forward along the axes named, such as `z` and `-y`."""
    if up is None and forward is None:
        return None
    axes = {name: axis for name, axis in zip("xyz", np.eye(3))}
    axes |= {f"-{name}": -axis for name, axis in list(axes.items())} | {
        f"+{name}": axis for name, axis in axes.items()
    }
    for name in (up, forward):
        if name is not None and name not in axes:
            raise InputError(f"'{name}' is not an axis", "choose x, y, z, -x, -y or -z")
    turns = [
        turn
        for turn in cube_turns()
        if (up is None or np.allclose(turn[:, 1], axes[up]))
        and (forward is None or np.allclose(turn[:, 2], axes[forward]))
    ]
    if not turns:
        raise InputError(
            f"a face cannot have {up} up and look along {forward}", "choose two different axes"
        )
    return turns
