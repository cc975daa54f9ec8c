"""Any mesh ↔ the canonical face.

The canonical face is laid over the mesh (registration.py). Skin that it lies on takes its motion from there, in the
proportions of the mesh: a wide mouth opens wide. Between that skin and what is still, inside the mouth and behind the
rim of the face, motion is harmonic over the mesh's own edges. A vertex that would part from most of its neighbours, as
when one lip is taken for the other, is set free and follows them. Other parts are told by where they are: eyeballs and
upper teeth stay, lower teeth and tongue follow the jaw, lashes and brows the skin, hair and clothes nothing.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field
from functools import cached_property, lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import scipy.sparse as sp
from scipy.sparse.linalg import splu
from scipy.spatial import cKDTree
from scipy.spatial.transform import Rotation

from .errors import InputError
from .face import ARKIT_NAMES, Face, mesh_edges, orthonormal_span, smoothstep, vertex_normals
from .files import read_npz, whole
from .mesh import Mesh
from .registration import NORMAL_WEIGHT, Fit, Placement, locate, refine, similarity, surface_of, turns_towards

ON_SKIN = 3.0  # mm off the canonical surface up to which a vertex takes its motion from there
LARGEST_LANDMARKS = 1 << 20  # bytes
INSIDE = 8.0  # mm off it behind which skin belongs to the inside of the mouth
REACH = 48.0  # mm off it where nothing moves any more
TOUCH = 2.5  # mm between a part and the skin that it is attached to
STRAIN, MOST = 1.5, 1.2  # times the canonical face's usual and largest strain: where an edge is torn, and its limit
SKIN_SHARE = 0.02  # of the canonical face that a part must lie under to be skin
EYE_REACH, EYE_SIZE = 14.0, 45.0  # mm from the eye's centre, and across
INVISIBLE = 2e-3  # mm
AROUND = 8.0  # mm around the canonical face that belong to it in a picture
AT_A_TIME = 50_000  # points whose nearest triangles are compared at a time
GAZE = 25.0  # degrees that an eye turns for a gaze at weight 1
# Motion of the lower teeth at weight 1, from ICT-FaceKit: rotation in degrees about the axes and shift in mm.
JAW = {
    "jawOpen": ((25.33, 0.0, 0.0), (0.0, 7.11, 4.21)),
    "jawForward": ((0.0, 0.0, 0.0), (0.0, -1.70, 8.88)),
    "jawLeft": ((0.0, 1.89, 0.05), (3.80, -0.59, 0.64)),
    "jawRight": ((0.0, -1.89, -0.05), (-3.80, -0.59, 0.64)),
}
EYES = np.array([[-31.36, 36.07, 80.18], [31.36, 36.07, 80.18]])  # mm, centres in the canonical face
EYE_POINTS = (slice(36, 42), slice(42, 48))  # of the iBUG points, right eye first


@dataclass(frozen=True, eq=False)
class Binding:
    """How a mesh follows the canonical face.

    mesh: the user's mesh; face: the canonical one
    moving: (M,) int, its vertices that can move; shapes: (S, M, 3) float32, what each blend shape at weight 1 moves them
    by, in the mesh's unit and orientation
    canonical: (M,) int, the nearest canonical vertex of skin, -1 for vertices of other parts
    landmarks68: (68,) int, vertices of the mesh nearest to the iBUG points
    placement: of the canonical face in the mesh
    error: median distance in canonical mm between the bilinear model's face and the mesh
    relief: how far the mesh's relief is a face's, up to 1
    parts: vertices of the mesh by what they were taken for
    eyes: for each eye that was found its vertices and its centre
    """

    mesh: Mesh
    face: Face
    moving: np.ndarray
    shapes: np.ndarray
    canonical: np.ndarray
    landmarks68: np.ndarray
    placement: Placement
    error: float
    relief: float
    parts: dict[str, int] = field(default_factory=dict)
    eyes: tuple[tuple[np.ndarray, np.ndarray], ...] = ()

    @property
    def scale(self) -> float:
        """Mesh units per canonical mm."""
        return self.placement.scale

    @cached_property
    def _start(self) -> np.ndarray:
        return self.mesh.vertices.astype(np.float32)

    @cached_property
    def _span(self) -> tuple[np.ndarray, np.ndarray]:
        """Orthonormal directions (S, V·3) of the canonical face, and what each moves the mesh by (S, M·3)."""
        span, triangle = orthonormal_span(self.face)
        exact = np.linalg.inv(triangle.astype(np.float64))
        # Many combinations of shapes move the skin alike. Jaw and tongue follow the plainest of them.
        basis = self.face.expression_basis.reshape(len(span), -1)
        plain = (span @ basis.T) @ np.linalg.inv(self.face.expression_gram.astype(np.float64))
        result = np.empty_like(self.shapes)
        for to_shapes, rows in ((exact, self.canonical >= 0), (plain, self.canonical < 0)):
            result[:, rows] = np.tensordot(to_shapes, self.shapes[:, rows], 1)
        return span, result.reshape(len(span), -1)

    def apply(self, displacement: np.ndarray) -> np.ndarray:
        """Vertices (T, N, 3) float32 of the mesh for canonical displacements (T, V, 3) mm."""
        span, moved = self._span
        coordinates = displacement.reshape(len(displacement), -1) @ span.T
        result = np.repeat(self._start[None], len(displacement), axis=0)
        result[:, self.moving] += (coordinates @ moved).reshape(len(displacement), -1, 3)
        return result

    def arkit_targets(self) -> np.ndarray:
        """(52, N, 3) float32, what ARKit's shapes at weight 1 move the mesh's vertices by; a gaze turns the eyeballs."""
        targets = np.zeros((len(ARKIT_NAMES), *self._start.shape), np.float32)
        moved = np.tensordot((self.face.arkit_matrix > 0).T.astype(np.float32), self.shapes, 1)
        moved[np.abs(moved).max(2) < INVISIBLE * self.scale] = 0  # so that a file need not hold it
        targets[:, self.moving] = moved
        for side, (vertices, centre) in zip(("Right", "Left"), self.eyes):
            if not len(vertices):
                continue
            inwards = 1.0 if side == "Right" else -1.0
            for gaze, turn in {
                "Down": (GAZE, 0.0), "Up": (-GAZE, 0.0), "In": (0.0, inwards * GAZE), "Out": (0.0, -inwards * GAZE)
            }.items():  # fmt: skip
                own = Rotation.from_euler("xy", turn, degrees=True).as_matrix()
                matrix = self.placement.rotation @ own @ self.placement.rotation.T
                arm = self.mesh.vertices[vertices] - centre
                targets[ARKIT_NAMES.index(f"eyeLook{gaze}{side}"), vertices] = arm @ matrix.T - arm
        return targets

    def lip_opening(self) -> float:
        """How far jawOpen opens the lips beside the canonical face's, both relative to the width of the mouth."""
        face = self.face
        jaw = face.expression_basis[face.expression_names.index("jawOpen")][None]
        rest = self.placement.to_canonical(self.mesh.vertices[self.landmarks68])
        own = self.placement.to_canonical(self.apply(jaw)[0, self.landmarks68]) - rest
        right, left = face.landmarks68[[48, 54]]
        canonical = face.lip_opening(jaw[0]) / np.linalg.norm(face.mean[left] - face.mean[right])
        return float((own[62, 1] - own[66, 1]) / np.linalg.norm(rest[54] - rest[48]) / canonical)

    @cached_property
    def focus(self) -> np.ndarray:
        """(N,) bool, the vertices where the face is: what a camera should look at."""
        points, mean = self.placement.to_canonical(self.mesh.vertices), self.face.mean
        return ((points > mean.min(0) - AROUND) & (points < mean.max(0) + AROUND)).all(1)

    def region(self, name: str) -> np.ndarray:
        """Vertices of the mesh in a region of the canonical face."""
        return self.moving[(self.canonical >= 0) & self.face.regions[name][self.canonical]]


@dataclass(frozen=True)
class Placing:
    """What a user says of where a mesh has its face, if it is not found by itself.

    binding: a file of `save_binding`, instead of all others
    up, forward: the mesh's axes that point up and where the face looks, such as z and -y
    landmarks: a file with a line a point: the iBUG number from 1 to 68, then a vertex counted from 0, or x y z
    """

    binding: str | Path | None = None
    up: str | None = None
    forward: str | None = None
    landmarks: str | Path | None = None


ANYWHERE = Placing()


def bind_placed(face: Face, mesh: Mesh, placing: Placing) -> Binding:
    """Bind a mesh as its user says, see `Placing`. Raises InputError for a file that is wrong, or where no face is found."""
    if placing.binding is not None:
        if placing.up or placing.forward or placing.landmarks:
            raise InputError("a --binding knows where the face is", "leave --up, --forward and --landmarks out")
        return load_binding(placing.binding, face, mesh)
    landmarks = None if placing.landmarks is None else read_landmarks(placing.landmarks, mesh)
    return bind(face, mesh, turns_towards(placing.up, placing.forward), landmarks)


def read_landmarks(path: str | Path, mesh: Mesh) -> np.ndarray:
    """(68, 3) places of the iBUG points of a mesh from a file, NaN for those not in it; see `Placing`."""
    path = Path(path)
    if not path.is_file():
        raise InputError(f"{path}: no such file of landmarks")
    if path.stat().st_size > LARGEST_LANDMARKS:
        raise InputError(f"{path}: too large for landmarks")
    places = np.full((68, 3), np.nan)
    for number, line in enumerate(path.read_text("utf-8", errors="replace").splitlines(), 1):
        fields = line.split("#")[0].replace(",", " ").split()
        if not fields:
            continue
        try:
            point, numbers = int(fields[0]), [float(x) for x in fields[1:]]
            if not 1 <= point <= 68 or len(numbers) not in (1, 3) or not np.isfinite(numbers).all():
                raise ValueError
            if len(numbers) == 1:
                if not 0 <= int(fields[1]) < len(mesh.vertices):
                    raise ValueError
                numbers = mesh.vertices[int(fields[1])].tolist()
        except ValueError:
            raise InputError(
                f"{path}: line {number} ('{line.strip()[:40]}') is no landmark",
                f"'point vertex' or 'point x y z', points 1 to 68, vertices 0 to {len(mesh.vertices) - 1}",
            ) from None
        places[point - 1] = numbers
    return places


def bind(face: Face, mesh: Mesh, turns: list[np.ndarray] | None = None, landmarks: np.ndarray | None = None) -> Binding:
    """Bind a mesh with a face, in any unit and orientation. Raises InputError where no face is found.

    turns, landmarks: see `registration.locate`, which says where the face is if it is not found by itself
    """
    first, faces, welded = weld(mesh)
    vertices = mesh.vertices[first]
    # Which side is out: a face bulges, and so does what it belongs to.
    corners = vertices[faces]
    outwards = np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0])
    if np.einsum("fc,fc->", corners.mean(1) - np.median(vertices[faces.ravel()], axis=0), outwards) < 0:
        faces = faces[:, ::-1]
    fit = locate(face, surface_of(vertices, faces), turns, landmarks)
    fitted = refine(face, fit)
    body = _Body(face, fit, fitted, vertices, faces)
    body.place_skin()
    parts = body.place_parts()

    moving = np.flatnonzero(np.abs(body.shapes).max((0, 2)) > 1e-6)
    if not len(moving):
        raise InputError("no skin found in the mesh where its face should be")
    of_mesh = np.flatnonzero(np.isin(welded, moving))
    rows = welded[of_mesh]
    placement = fit.placement
    shapes = placement.scale * body.shapes[:, rows] @ placement.rotation.T.astype(np.float32)
    counts = {name: int(np.isin(welded, found).sum()) for name, found in parts.items()}
    eyes = tuple((np.flatnonzero(np.isin(welded, found)), placement.to_mesh(centre)) for found, centre in body.eyes)
    # With normals: on closed lips the nearest vertex alone could be the other lip's.
    points, normals = body.points, body.normals
    tree = cKDTree(np.hstack([points, NORMAL_WEIGHT * normals])[body.skin])
    own = np.hstack([fitted, NORMAL_WEIGHT * vertex_normals(fitted, face.faces)])[face.landmarks68]
    nearest = np.flatnonzero(body.skin)[tree.query(own)[1]]
    return Binding(
        mesh, face, of_mesh, shapes.astype(np.float32), body.canonical[rows], first[nearest], placement,
        fit.error, fit.relief, counts, eyes,
    )  # fmt: skip


def weld(mesh: Mesh) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """For each welded vertex (W,) the first of the mesh that it stands for, the faces (F, 3) of welded ones, and for each
    vertex (N,) of the mesh its welded one: those at one place that belong together.

    Where lips touch, vertices of the upper and of the lower one may lie at one place; their normals tell them apart.
    """
    size = np.ptp(mesh.vertices, axis=0).max()
    key = np.round(mesh.vertices / (1e-6 * size)).astype(np.int64)
    _, first, welded = np.unique(key, axis=0, return_index=True, return_inverse=True)
    welded = welded.reshape(-1)
    normals = vertex_normals(mesh.vertices, mesh.faces)
    away = np.einsum("vc,vc->v", normals, normals[first[welded]]) < -0.3
    _, first, welded = np.unique(2 * welded + away, return_index=True, return_inverse=True)
    faces = welded[mesh.faces]
    real = (faces[:, 0] != faces[:, 1]) & (faces[:, 1] != faces[:, 2]) & (faces[:, 2] != faces[:, 0])
    return first, faces[real], welded


class _Body:
    """A welded mesh in canonical millimetres, whose vertices are given their motion one part after the other."""

    def __init__(self, face: Face, fit: Fit, fitted: np.ndarray, vertices: np.ndarray, faces: np.ndarray):
        self.face, self.fit, self.fitted, self.faces = face, fit, fitted, faces
        self.points = fit.placement.to_canonical(vertices)
        self.normals = vertex_normals(self.points, faces)
        count = len(vertices)
        self.shapes = np.zeros((len(face.expression_names), count, 3), np.float32)
        self.canonical = np.full(count, -1)
        self.skin = np.zeros(count, bool)
        self.eyes: list[tuple[np.ndarray, np.ndarray]] = []
        edges, times = mesh_edges(faces)
        self.edges = edges
        self.rim = np.zeros(count, bool)  # on an edge that only one triangle has
        self.rim[edges[times == 1].ravel()] = True
        length = np.linalg.norm(self.points[edges[:, 0]] - self.points[edges[:, 1]], axis=1)
        pull = 1 / np.maximum(length, 0.05)
        graph = sp.csr_matrix((pull, edges.T), (count, count))
        self.graph = graph + graph.T
        self.number, self.label = sp.csgraph.connected_components(self.graph, directed=False)

    def place_skin(self) -> None:
        """Give the skin its motion: the canonical surface's where it lies on it, harmonic between that and stillness."""
        face, fitted, points = self.face, self.fitted, self.points
        reach = fitted.min(0) - REACH, fitted.max(0) + REACH
        near = np.flatnonzero(((points > reach[0]) & (points < reach[1])).all(1))
        fitted_normals = vertex_normals(fitted, face.faces)
        triangle, weights, distance = closest_points(
            fitted, face.faces, fitted_normals, points[near], self.normals[near]
        )
        corners = face.faces[triangle]
        facing = np.einsum("vc,vc->v", np.einsum("vk,vkc->vc", weights, fitted_normals[corners]), self.normals[near])
        on = (distance < max(ON_SKIN, 1.5 * self.fit.error)) & (facing > 0.2)
        # Skin is what lies under a good deal of the canonical face.
        self.canonical[near] = corners[np.arange(len(near)), weights.argmax(1)]
        covered = np.unique(np.stack([self.label[near[on]], self.canonical[near[on]]]), axis=1)
        area = np.bincount(covered[0], minlength=self.number) / max(covered.shape[1], 1)
        is_skin = area >= SKIN_SHARE
        if area[is_skin].sum() < 0.5:  # many small pieces
            is_skin = area > 0
        self.skin = is_skin[self.label]
        ours = self.skin[near]
        near, corners, weights, distance, on = near[ours], corners[ours], weights[ours], distance[ours], on[ours]

        maps = _local_maps(face, fitted)
        at = np.einsum("mk,mkij->mij", weights[on], maps[corners[on]])
        for k, shape in enumerate(face.expression_basis):
            moved = np.einsum("mk,mkc->mc", weights[on], shape[corners[on]])
            self.shapes[k, near[on]] = np.einsum("mij,mj->mi", at, moved)
        far = np.ones(len(points), bool)
        far[near] = distance > REACH
        mouth = near[~on & (distance > INSIDE) & self._in_mouth(points[near])]
        far[mouth] = False
        if len(mouth):  # cheeks and tongue of a mouth that is one with the skin
            self.shapes[:, mouth] = self._jaw_share(mouth)[:, None] * _jaw(face, fitted)(points[mouth])
        fixed = far.copy()
        fixed[near] |= on
        fixed[mouth] = True
        self.fill(~fixed)
        usual, most = _strains(face)
        own = self.edges[self.skin[self.edges].all(1)]
        degree = np.bincount(own.ravel(), minlength=len(points))
        for _ in range(4):
            # Who parts from most neighbours was taken for the wrong lip or lid. Where a mesh has no slit between the
            # lips, what joins them is torn too, but each is at one with its own lip: that has to stretch.
            lone = np.bincount(own[self.torn(own, usual)].ravel(), minlength=len(points)) > 0.5 * degree
            lone &= fixed & ~far
            if not lone.any():
                break
            fixed &= ~lone
            self.fill(~fixed)
        self.relax(own, most)
        self.canonical[~self.skin] = -1

    def torn(self, edges: np.ndarray, limits: np.ndarray) -> np.ndarray:
        """Which edges a shape strains more than the canonical face is strained anywhere by that shape."""
        a, b = edges.T
        length = np.linalg.norm(self.points[a] - self.points[b], axis=1)
        result = np.zeros(len(edges), bool)
        for shape, limit in zip(self.shapes, limits):
            result |= np.linalg.norm(shape[a] - shape[b], axis=1) > limit * np.maximum(length, 0.3)
        return result

    def relax(self, edges: np.ndarray, limits: np.ndarray, rounds: int = 60) -> None:
        """Take from edges what strain is beyond the limits, half from either end: folds of lids, corners of the mouth."""
        a, b = edges.T
        length = np.maximum(np.linalg.norm(self.points[a] - self.points[b], axis=1), 0.01)
        for shape, limit in zip(self.shapes, limits):
            over = np.linalg.norm(shape[a] - shape[b], axis=1) > limit * length
            if not over.any():
                continue
            around = np.zeros(len(self.points), bool)
            around[edges[over].ravel()] = True
            for _ in range(3):
                around[edges[around[edges].any(1)].ravel()] = True
            chosen = around[edges].all(1)
            i, j = edges[chosen].T
            number, most = np.unique(np.concatenate([i, j]), return_inverse=True), limit * length[chosen]
            rows, (i, j) = number[0], number[1].reshape(2, -1)
            local = shape[rows]
            for _ in range(rounds):
                apart = local[i] - local[j]
                size = np.linalg.norm(apart, axis=1)
                excess = np.maximum(size - most, 0)
                if not excess.any():
                    break
                step = (0.5 * excess / np.maximum(size, 1e-9))[:, None] * apart
                hits = np.bincount(i, excess > 0, len(rows)) + np.bincount(j, excess > 0, len(rows))
                change = np.stack(
                    [np.bincount(j, step[:, c], len(rows)) - np.bincount(i, step[:, c], len(rows)) for c in range(3)], 1
                )
                local = local + change / np.maximum(hits, 1)[:, None] * np.where(hits > 1, 1.4, 1.0)[:, None]
            shape[rows] = local

    def fill(self, free: np.ndarray) -> None:
        """Motion of free vertices (N,) bool from those beside them that are not: harmonic over the edges."""
        reached = self._reached(free)
        self.shapes[:, free & ~reached] = 0
        rows = np.flatnonzero(free & reached)
        if not len(rows):
            return
        part = self.graph[rows]
        laplacian = sp.diags(np.asarray(part.sum(1))[:, 0] + 1e-9) - part[:, rows]
        boundary = np.unique(part.indices)
        boundary = boundary[~free[boundary]]
        values = self.shapes[:, boundary].transpose(1, 0, 2).reshape(len(boundary), -1)
        outer = part[:, boundary]
        solved = splu(laplacian.tocsc()).solve(np.asarray(outer @ values, np.float64))
        self.shapes[:, rows] = solved.reshape(len(rows), -1, 3).transpose(1, 0, 2)

    def _reached(self, free: np.ndarray) -> np.ndarray:
        """Free vertices that a chain of free ones leads to a vertex that is not free."""
        rows = np.flatnonzero(free)
        result = np.zeros(len(free), bool)
        if not len(rows):
            return result
        part = self.graph[rows]
        number, label = sp.csgraph.connected_components(part[:, rows], directed=False)
        outside = np.asarray(part @ (~free).astype(float)) > 0
        touches = np.zeros(number, bool)
        touches[label[outside]] = True
        result[rows] = touches[label]
        return result

    def place_parts(self) -> dict[str, np.ndarray]:
        """Give the other parts theirs; returns vertices by what they were taken for."""
        face, fitted, points = self.face, self.fitted, self.points
        found: dict[str, list[np.ndarray]] = {"skin": [np.flatnonzero(self.skin)]}
        jaw, eyes = _jaw(face, fitted), _eye_centres(face, fitted)
        eye_parts: list[list[np.ndarray]] = [[], []]
        skin = np.flatnonzero(self.skin)
        tree = cKDTree(points[skin])
        surface = cKDTree(fitted)
        order = np.argsort(self.label, kind="stable")
        bounds = np.searchsorted(self.label[order], np.arange(self.number + 1))
        low, high = fitted.min(0) - 20, fitted.max(0) + 20
        for k in range(self.number):
            rows = order[bounds[k] : bounds[k + 1]]
            if self.skin[rows[0]] or len(rows) < 3:
                continue
            own = points[rows]
            extent = np.ptp(own, axis=0)
            middle = (own.min(0) + own.max(0)) / 2
            if not ((middle > low) & (middle < high)).all():
                continue
            eye = np.linalg.norm(eyes - middle, axis=1)
            touching = tree.query(own, distance_upper_bound=TOUCH)[0] < TOUCH
            rim = self.rim[rows]
            attached = rim.any() and touching[rim].mean() > 0.3
            away = surface.query(own)[0]
            if (
                eye.min() < EYE_REACH
                and extent.max() < EYE_SIZE
                and not (attached and extent.min() < 0.5 * extent.max())
            ):
                eye_parts[int(eye.argmin())].append(rows)
                found.setdefault("eyes", []).append(rows)
            elif self._in_mouth(middle[None])[0] and own[:, 2].max() < self.mouth[1, 2] + 1:
                # Upper teeth belong to the skull, lower ones and the tongue to the jaw.
                line = self.mouth[0, 1]
                above = float((own[:, 1] > line).mean())
                both = extent[0] > 0.6 * np.ptp(self.mouth[:, 0]) and extent[1] > 18 and 0.25 < above < 0.75
                share = self._jaw_share(rows) if both else np.float64(middle[1] < line + 2)
                self.shapes[:, rows] = (np.reshape(share, (-1, 1)) * jaw(own)).astype(np.float32)
                if attached:  # the inside of a mouth, with its tongue perhaps, that hangs on the lips
                    self._attach(rows, own, touching, tree, skin, 8.0)
                found.setdefault("jaw" if np.mean(share) > 0.5 else "upper_teeth", []).append(rows)
            elif (
                touching.any() and (attached or away.max() < 12) and np.quantile(away, 0.7) < 25 and extent.max() < 110
            ):
                # Lashes, brows, a beard; or what lies behind the skin and hangs on its rim: sockets, the inside of a mouth.
                self._attach(rows, own, touching, tree, skin)
                found.setdefault("on_skin", []).append(rows)
            else:
                found.setdefault("still", []).append(rows)
        self.eyes = [
            (np.concatenate(rows) if rows else np.zeros(0, int), _centre(points[rows[0]]) if rows else centre)
            for rows, centre in zip(eye_parts, eyes)
        ]
        return {name: np.concatenate(rows) for name, rows in found.items()}

    @cached_property
    def mouth(self) -> np.ndarray:
        """(2, 3) mm: the right corner's x, the height of the line between the lips and any depth; the left corner's x,
        again the height, and the depth of what is foremost of the lips."""
        lips = self.fitted[self.face.landmarks68[48:68]]
        line = lips[[0, 6, 14, 18], 1].mean()
        return np.array([[lips[:, 0].min(), line, 0.0], [lips[:, 0].max(), line, lips[:, 2].max()]])

    @cached_property
    def _outline(self) -> cKDTree:
        """The fitted face as seen from the front."""
        return cKDTree(self.fitted[:, :2])

    def _in_mouth(self, places: np.ndarray) -> np.ndarray:
        """Which places (P, 3) mm lie where teeth and tongue are: behind the lips, between nose and chin."""
        (right, line, _), (left, _, front) = self.mouth
        beside = np.abs(places[:, 0] - (right + left) / 2) < 0.7 * (left - right)
        high = (places[:, 1] > line - 30) & (places[:, 1] < line + 25)
        deep = places[:, 2] > front - 110
        result = beside & high & deep
        if result.any():
            _, nearest = self._outline.query(places[result][:, :2], k=12)
            result[result] = places[result][:, 2] < np.median(self.fitted[nearest, 2], axis=1) - 2
        return result

    def _jaw_share(self, rows: np.ndarray) -> np.ndarray:
        """(R,) in [0, 1], how far each vertex in the mouth belongs to the lower jaw: by its height beside the lips' line,
        and by where it faces, for a tongue that fills the mouth lies under a palate that looks down."""
        line = self.mouth[0, 1]
        height = self.points[rows, 1] - 8 * self.normals[rows, 1]
        share = smoothstep((line + 4 - height) / 8)
        around = self.graph[rows][:, rows]
        around = sp.diags(1 / np.maximum(np.asarray(around.sum(1))[:, 0], 1e-9)) @ around
        for _ in range(8):
            share = 0.5 * share + 0.5 * (around @ share)
        return share

    def _attach(
        self,
        rows: np.ndarray,
        own: np.ndarray,
        touching: np.ndarray,
        tree: Any,
        skin: np.ndarray,
        between: float = np.inf,
    ) -> None:
        """Let a part follow the skin that it touches; its vertices up to `between` mm off go along harmonically."""
        distance, near = tree.query(own[touching], k=min(4, len(skin)))
        weight = 1 / (distance + 0.05) ** 2
        weight /= weight.sum(1, keepdims=True)
        self.shapes[:, rows[touching]] = np.einsum("mk,smkc->smc", weight, self.shapes[:, skin[near]])
        free = np.zeros(len(self.points), bool)
        free[rows[~touching & (tree.query(own)[0] < between)]] = True
        self.fill(free)


def _eye_centres(face: Face, fitted: np.ndarray) -> np.ndarray:
    """(2, 3) mm, where the eyeballs of a fitted face should be, the right one first."""
    lids = [face.landmarks68[points] for points in EYE_POINTS]
    return EYES + np.stack([fitted[lid].mean(0) - face.mean[lid].mean(0) for lid in lids])


def _centre(points: np.ndarray) -> np.ndarray:
    """The centre of the sphere nearest to points (P, 3)."""
    middle = points.mean(0)
    p = points - middle
    solution = np.linalg.lstsq(np.column_stack([2 * p, np.ones(len(p))]), np.square(p).sum(1), rcond=None)[0]
    return middle + (solution[:3] if np.linalg.norm(solution[:3]) < 30 else 0)


def _jaw(face: Face, fitted: np.ndarray) -> Any:
    """A function from places (P, 3) mm of a jaw to what each shape moves them by, (S, P, 3)."""
    chin = face.landmarks68[[4, 6, 8, 10, 12, 57]]
    size = _mouth_size(face, fitted)
    shift = fitted[chin].mean(0) - size * face.mean[chin].mean(0)
    names = face.expression_names

    def moved(places: np.ndarray) -> np.ndarray:
        result = np.zeros((len(names), *places.shape))
        at = (places - shift) / size
        for name, (turn, step) in JAW.items():
            matrix = Rotation.from_rotvec(np.radians(turn)).as_matrix()
            result[names.index(name)] = size * (at @ matrix.T + step - at)
        return result

    return moved


@lru_cache(maxsize=2)
def _strains(face: Face) -> tuple[np.ndarray, np.ndarray]:
    """(S,) each: strain of an edge beyond which a blend shape tears it, and beyond which no edge is to go. Both come from
    the canonical face's own edges, of which few are strained most, in the corners of the mouth."""
    a, b = mesh_edges(face.faces)[0].T
    length = np.linalg.norm(face.mean[a] - face.mean[b], axis=1)
    strain = np.stack([np.linalg.norm(s[a] - s[b], axis=1) / length for s in face.expression_basis])
    return STRAIN * np.quantile(strain, 0.999, axis=1) + 0.1, MOST * strain.max(1) + 0.05


def save_binding(path: str | Path, binding: Binding) -> None:
    """Write a binding to an npz, to be used again with the same mesh."""
    eyes: dict[str, Any] = {f"eye{k}": vertices for k, (vertices, _) in enumerate(binding.eyes)}
    with whole(path) as partial:
        np.savez_compressed(
            partial, mesh=_fingerprint(binding.mesh), face=binding.face.fingerprint, moving=binding.moving.astype(np.int32),
            shapes=binding.shapes, canonical=binding.canonical.astype(np.int32), landmarks68=binding.landmarks68,
            scale=binding.placement.scale, rotation=binding.placement.rotation, translation=binding.placement.translation,
            error=binding.error, relief=binding.relief, part_names=list(binding.parts), part_counts=list(binding.parts.values()),
            eye_centres=np.array([centre for _, centre in binding.eyes]).reshape(-1, 3), **eyes,
        )  # fmt: skip


def load_binding(path: str | Path, face: Face, mesh: Mesh) -> Binding:
    """A binding of this mesh that was saved. Raises InputError for a file that is none, or another mesh's."""
    data = read_npz(path, "a binding")
    count = len(mesh.vertices)
    try:
        if str(data["mesh"]) != _fingerprint(mesh):
            raise InputError(f"{path} belongs to another mesh", "bind this one: talkemo bind MESH -o FILE.npz")
        if str(data["face"]) != face.fingerprint:
            raise InputError(f"{path} was made with another face model", "bind the mesh again")
        moving, shapes, canonical = data["moving"], data["shapes"], data["canonical"]
        landmarks, eyes = data["landmarks68"], [data[f"eye{k}"] for k in range(len(data["eye_centres"]))]
        placement = Placement(float(data["scale"]), data["rotation"], data["translation"])
        right = (
            shapes.shape == (len(face.expression_names), len(moving), 3)
            and canonical.shape == moving.shape == (len(moving),)
            and landmarks.shape == (68,)
            and placement.rotation.shape == (3, 3)
            and placement.translation.shape == (3,)
            and all(n.dtype.kind == "i" for n in (moving, canonical, landmarks, *eyes))
            and all(n.min() >= 0 and n.max() < count for n in (moving, landmarks, *eyes) if n.size)
            and canonical.min() >= -1 and canonical.max() < len(face.mean)
            and shapes.dtype == np.float32 and np.isfinite(shapes).all()
        )  # fmt: skip
        if not right:
            raise ValueError("arrays that do not belong together")
        parts = dict(zip(map(str, data["part_names"]), map(int, data["part_counts"])))
        return Binding(
            mesh, face, moving, shapes, canonical, landmarks, placement, float(data["error"]), float(data["relief"]),
            parts, tuple(zip(eyes, data["eye_centres"])),
        )  # fmt: skip
    except (KeyError, ValueError, TypeError, AttributeError, IndexError) as error:
        raise InputError(f"{path}: not a binding ({error})") from None


def _fingerprint(mesh: Mesh) -> str:
    digest = hashlib.sha256(np.ascontiguousarray(mesh.vertices, "<f8").tobytes())
    digest.update(np.ascontiguousarray(mesh.faces, "<i4").tobytes())
    return digest.hexdigest()[:32]


def _local_maps(face: Face, fitted: np.ndarray, controls: int = 500, reach: float = 30.0) -> np.ndarray:
    """(V, 3, 3), turns with a scale from each vertex's surroundings on the canonical face to those on the fitted one.

    On the lips the scale is that of the mouth's width: a wide mouth opens wide.
    """
    mean = face.mean
    some = np.arange(0, len(mean), max(1, len(mean) // controls))
    near = cKDTree(mean[some]).query_ball_point(mean[some], reach)
    maps, sizes = np.empty((len(some), 3, 3)), np.empty(len(some))
    for k, rows in enumerate(near):
        sizes[k], maps[k], _ = similarity(mean[some[rows]], fitted[some[rows]])
    distance, index = cKDTree(mean[some]).query(mean, k=6)
    weight = np.exp(-((distance / 10) ** 2)) + 1e-12
    weight /= weight.sum(1, keepdims=True)
    size = np.einsum("vk,vk->v", weight, sizes[index])
    share = face.mouth_weight
    size = (1 - share) * size + share * _mouth_size(face, fitted)
    return size[:, None, None] * np.einsum("vk,vkij->vij", weight, maps[index], optimize=True)


def _mouth_size(face: Face, fitted: np.ndarray) -> float:
    """The width of the mouth beside the canonical one's."""
    right, left = face.landmarks68[[48, 54]]
    return float(np.linalg.norm(fitted[right] - fitted[left]) / np.linalg.norm(face.mean[right] - face.mean[left]))


def closest_points(
    vertices: np.ndarray,
    faces: np.ndarray,
    normals: np.ndarray,
    points: np.ndarray,
    point_normals: np.ndarray | None,
    candidates: int = 6,
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """For points (P, 3) the nearest place of a triangle mesh: triangle (P,), barycentric (P, 3) and distance (P,).

    Where `point_normals` (P, 3) are given, places whose normals point the same way are preferred. The search looks at
    the triangles around the nearest `candidates` triangle centres.
    """
    centres = vertices[faces].mean(1)
    keys, queries = centres, points
    if point_normals is not None:
        face_normals = normals[faces].mean(1)
        face_normals /= np.maximum(np.linalg.norm(face_normals, axis=1, keepdims=True), 1e-12)
        keys = np.hstack([centres, NORMAL_WEIGHT * face_normals])
        queries = np.hstack([points, NORMAL_WEIGHT * point_normals])
    tree = cKDTree(keys)
    found: list[tuple[np.ndarray, np.ndarray, np.ndarray]] = []
    for start in range(0, max(len(points), 1), AT_A_TIME):
        part = slice(start, start + AT_A_TIME)
        _, near = tree.query(queries[part], k=candidates)
        flat = near.ravel()
        weights, distance = closest_on_triangles(np.repeat(points[part], candidates, 0), vertices[faces[flat]])
        cost = distance
        if point_normals is not None:
            bend = np.linalg.norm(face_normals[flat] - np.repeat(point_normals[part], candidates, 0), axis=1)
            cost = np.hypot(distance, NORMAL_WEIGHT * bend)
        best = np.arange(len(near)) * candidates + cost.reshape(-1, candidates).argmin(1)
        found.append((flat[best], weights[best], distance[best]))
    triangle, weights, distance = (np.concatenate(parts) for parts in zip(*found))
    return triangle, weights, distance


def closest_on_triangles(points: np.ndarray, corners: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Barycentric weights (N, 3) and distance (N,) of the place of triangle n (N, 3, 3) nearest to point n (N, 3)."""
    a, b, c = corners[:, 0], corners[:, 1], corners[:, 2]
    ab, ac, ap = b - a, c - a, points - a
    d00, d01, d11 = (np.einsum("nc,nc->n", *pair) for pair in ((ab, ab), (ab, ac), (ac, ac)))
    d20, d21 = np.einsum("nc,nc->n", ap, ab), np.einsum("nc,nc->n", ap, ac)
    determinant = np.maximum(d00 * d11 - d01**2, 1e-12)
    v, w = (d11 * d20 - d01 * d21) / determinant, (d00 * d21 - d01 * d20) / determinant
    weights = np.stack([1 - v - w, v, w], axis=1)
    best = np.where((weights >= 0).all(1), 0.0, np.inf)
    for i, j in ((0, 1), (1, 2), (2, 0)):
        edge = corners[:, j] - corners[:, i]
        t = np.einsum("nc,nc->n", points - corners[:, i], edge) / np.maximum(np.einsum("nc,nc->n", edge, edge), 1e-12)
        t = np.clip(t, 0, 1)
        distance = np.linalg.norm(points - corners[:, i] - t[:, None] * edge, axis=1)
        nearer = distance < best
        best = np.where(nearer, distance, best)
        on_edge = np.zeros_like(weights)
        on_edge[:, i], on_edge[:, j] = 1 - t, t
        weights = np.where(nearer[:, None], on_edge, weights)
    distance = np.linalg.norm(points - np.einsum("nk,nkc->nc", weights, corners), axis=1)
    return weights, distance
