"""Teeth, tongue, mouth socket and eyes for a mesh that lacks them, fitted to its lips and lids.

The parts come from the canonical face, see `face.anatomy`. They are scaled to the width of the
mouth. The mouth socket begins at the edge of the mesh's own lips, so there is no gap between them,
and follows it. A strip leads from the edge of each lid to the eyeball. Upper teeth stand with the
skull; lower teeth and tongue go with the jaw. All of it is linear in the coordinates of a motion.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property, lru_cache
from itertools import pairwise

import numpy as np

from ..face.anatomy import MATERIALS, Anatomy
from ..face.bite import Bite
from ..face.canonical import ARKIT_NAMES, LIP_PAIRS, MOUTH_CORNERS
from ..geometry.numerics import smoothstep
from .binding import Binding, gaze_targets
from .fill_eyes import Eyeball, fitted_eyeballs, lid_strip
from .fill_fit import MouthPlace, pushed_behind_skin
from .mouth import bite_gradient, jaw_displacement
from .mouth_edge import edges_of_openings, lid_edge, mouth_edge

PART_NAMES = (*MATERIALS, "mouth", "eyelids", "eyes")
INNER_LIP_POINTS = sorted(
    point for pair in LIP_PAIRS for point in pair
)  # iBUG points between which the lips meet
SIZE_LIMITS = (0.3, 3.0)  # of a mouth, relative to the canonical one
EDGE_REACH_MM = 16.0  # depth over which the socket changes from the mesh's lips to its own shape
# A mask may end before a mouth does: parts deeper than SQUEEZED_MM behind the lips are squeezed until
# they lie REAR_MARGIN_MM before the rear end of the mesh, as found up to REAR_HEIGHT_MM from the lips.
SQUEEZED_MM, REAR_MARGIN_MM, REAR_HEIGHT_MM, MIN_SQUEEZE = 35.0, 5.0, 25.0, 0.2
# iBUG points that show how far jaw shapes move the lower lip and chin, and limits of their gain.
JAW_GAIN_POINTS, JAW_GAIN_LIMITS = [8, 57, 66], (0.5, 2.0)


@dataclass(frozen=True, eq=False)
class Fill:
    """Parts that are added to a bound mesh, A points in its own space.

    Attributes
    ----------
    binding : Binding
    points : (A, 3) float64
        At rest.
    faces : dict of str to (F, 3)
        Triangles of each part that is added, by its name in PART_NAMES.
    depth : (A,)
        Distance behind the lips in canonical mm; 0 for eyes and their lids.
    shapes : (S, A, 3) float32
        Displacement by each blend shape at weight 1, without what `edge_share` adds.
    edge : (K,)
        Vertices of the mesh around the openings of mouth and eyes.
    edge_rows : (K,)
        The points that lie on them.
    edge_share : (A, K)
        Fractions of the edge's displacement that each point follows.
    eyeballs : list of Eyeball
        Right and left; empty if the mesh has its own eyes.
    size : float
        Of the mouth, relative to the canonical one.
    """

    binding: Binding
    points: np.ndarray
    faces: dict[str, np.ndarray]
    depth: np.ndarray
    shapes: np.ndarray
    edge: np.ndarray
    edge_rows: np.ndarray
    edge_share: np.ndarray
    eyeballs: list[Eyeball]
    size: float

    @cached_property
    def basis(self) -> np.ndarray:
        """(S, A, 3) float32, displacement by 1 mm of each coordinate of a motion, without `bite`."""
        weights = self.binding.regularised_weights.astype(np.float32)
        edge = _rows_of(self.binding, self.edge, self.binding.matrix)
        return np.tensordot(weights, self.shapes, 1) + _spread(self.edge_share, edge)

    @property
    def bite(self) -> Bite:
        """How lower teeth, tongue and the floor of the mouth stay below the closed bite."""
        opened = self.shapes[self.binding.face.expression_names.index("jawOpen")]
        rows = np.flatnonzero(opened.any(1))
        return Bite(bite_gradient(self.binding.face), rows, opened[rows])

    def gaze_directions(self) -> np.ndarray:
        """Return the directions (E, 3) of the eyeballs' points from their centres, at rest.

        In the space of the canonical face, which looks along +z.
        """
        balls = [self.points[ball.rows] - ball.centre for ball in self.eyeballs]
        return np.concatenate(balls or [np.zeros((0, 3))]) @ self.binding.placement.rotation

    def arkit_targets(self) -> np.ndarray:
        """Return the displacement (52, A, 3) float32 by ARKit's shapes at weight 1."""
        binding = self.binding
        edge = _rows_of(binding, self.edge, binding.targets)
        moved = self.shapes + _spread(self.edge_share, edge)
        targets = np.tensordot((binding.face.arkit_matrix > 0).T.astype(np.float32), moved, 1)
        for name, eyeball in zip(("Right", "Left"), self.eyeballs):
            points = self.points[eyeball.rows]
            for shape, target in gaze_targets(name, points - eyeball.centre, binding).items():
                targets[ARKIT_NAMES.index(shape), eyeball.rows] = target
        return targets


def _rows_of(binding: Binding, vertices: np.ndarray, values: np.ndarray) -> np.ndarray:
    """Return the values (S, K, 3) of vertices (K,), out of those (S, M, 3) of moving ones."""
    values = values.reshape(len(values), len(binding.moving), 3)
    place = np.searchsorted(binding.moving, vertices).clip(0, len(binding.moving) - 1)
    result = values[:, place]
    result[:, binding.moving[place] != vertices] = 0
    return result


def _spread(share: np.ndarray, values: np.ndarray) -> np.ndarray:
    """Return displacements (S, A, 3) by shares (A, K) of those (S, K, 3) of an edge."""
    return np.matmul(share.astype(np.float32), values.astype(np.float32))


@lru_cache(
    maxsize=2
)  # of the mesh and of the one that is cut: images and files of meshes need both
def fill_of(binding: Binding, anatomy: Anatomy | None) -> Fill:
    """Return the parts that a bound mesh lacks; without an anatomy only eyes."""
    return _Fitting(binding, anatomy).result()


class _Fitting:
    """Collects parts in canonical mm, fitted to a bound mesh."""

    def __init__(self, binding: Binding, anatomy: Anatomy | None):
        self.binding, self.anatomy = binding, anatomy
        self.rest = binding.placement.to_canonical(binding.mesh.vertices)
        self.openings = edges_of_openings(binding, self.rest)
        mean, landmarks = binding.face.mean.astype(np.float64), self.rest[binding.landmarks68]
        canonical = mean[binding.face.landmarks68]
        right, left = list(MOUTH_CORNERS)
        width, canonical_width = (
            np.linalg.norm(points[right] - points[left]) for points in (landmarks, canonical)
        )
        self.size = float(np.clip(width / canonical_width, *SIZE_LIMITS))
        self.lips = landmarks[INNER_LIP_POINTS].mean(0)
        self.shift = self.lips - self.size * canonical[INNER_LIP_POINTS].mean(0)
        self.points: list[np.ndarray] = []
        self.shapes: list[np.ndarray] = []
        self.faces: dict[str, np.ndarray] = {}
        # Vertices of each edge, the points that lie on them, and the points that follow with shares.
        self.edges: list[tuple[np.ndarray, slice, slice, np.ndarray]] = []

    def result(self) -> Fill:
        """Return the fitted parts."""
        if self.anatomy is not None:
            edge = mouth_edge(self.openings, self.binding, self.rest)
            if len(edge) and not self.binding.parts.get("mouth_lining"):
                self._add_socket(self.anatomy, edge)
            if not self.binding.has_teeth:
                self._add_rigid_parts(self.anatomy)
        eyeballs = self._add_eyes()
        points = np.concatenate(self.points or [np.zeros((0, 3))])
        shapes = np.concatenate(
            self.shapes or [np.zeros((len(self.binding.targets), 0, 3), np.float32)], axis=1
        )
        edge, edge_rows, share = self._all_edges(len(points))
        depth = np.maximum(self.lips[2] - points[:, 2], 0) / self.size
        for name in ("eyes", "eyelids"):
            depth[self.faces.get(name, np.zeros(0, int))] = 0
        placement = self.binding.placement
        return Fill(
            binding=self.binding,
            points=placement.to_mesh(points),
            faces=self.faces,
            depth=depth,
            shapes=placement.scale * shapes @ placement.rotation.T.astype(np.float32),
            edge=edge,
            edge_rows=edge_rows,
            edge_share=share,
            eyeballs=[
                Eyeball(eyeball.rows, placement.to_mesh(eyeball.centre), eyeball.radius)
                for eyeball in eyeballs
            ],
            size=self.size,
        )

    def _add(self, name: str, points: np.ndarray, faces: np.ndarray, shapes: np.ndarray) -> slice:
        """Add points (P, 3), triangles and displacements (S, P, 3) of a part; return its rows."""
        first = sum(map(len, self.points))
        self.points.append(points)
        self.shapes.append(shapes.astype(np.float32))
        self.faces[name] = np.concatenate([self.faces.get(name, faces[:0]), faces + first])
        return slice(first, first + len(points))

    def _all_edges(self, count: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Return `edge`, `edge_rows` and `edge_share` of a `Fill` with a number of points."""
        none = [np.zeros(0, int)]
        edge = np.concatenate([vertices for vertices, *_ in self.edges] or none)
        indices = np.arange(count)
        rows = np.concatenate([indices[on_edge] for _, on_edge, *_ in self.edges] or none)
        share, first = np.zeros((count, len(edge))), 0
        for vertices, _, following, fractions in self.edges:
            share[following, first : first + len(vertices)] = fractions
            first += len(vertices)
        return edge, rows, share

    # ----------------------------------------------------------------------------------- the mouth

    def _placed(self, anatomy: Anatomy, points: np.ndarray) -> np.ndarray:
        """Return canonical points (..., 3) of the mouth behind the mesh's lips."""
        points, socket = (
            self.size * array.astype(np.float64) + self.shift for array in (points, anatomy.socket)
        )
        start = self.lips[2] - SQUEEZED_MM * self.size
        room, depth = start - self._rear(), start - socket[..., 2].min()
        if room < depth:
            deep = np.minimum(points[..., 2] - start, 0)
            points[..., 2] -= (1 - max(room / depth, MIN_SQUEEZE)) * deep
        return points

    def _rear(self) -> float:
        """Return the least z of parts of the mouth, so that nothing is seen beside the mesh."""
        height = np.abs(self.rest[:, 1] - self.lips[1]) < REAR_HEIGHT_MM * self.size
        right = self.rest[:, 0] < self.lips[0]
        ends = [self.rest[height & side, 2].min(initial=np.inf) for side in (right, ~right)]
        return float(max(ends)) + REAR_MARGIN_MM if np.isfinite(ends).all() else -np.inf

    @cached_property
    def _jaw_gain(self) -> float:
        """How far jawOpen moves the mesh's chin and lower lip, relative to the canonical ones."""
        binding, face = self.binding, self.binding.face
        jaw = face.expression_names.index("jawOpen")
        wanted = self.size * face.expression_basis[jaw][face.landmarks68[JAW_GAIN_POINTS]]
        vertices = binding.landmarks68[JAW_GAIN_POINTS]
        moved = _rows_of(binding, vertices, binding.targets[jaw : jaw + 1])[0]
        moved = moved @ binding.placement.rotation / binding.scale
        gain = float((moved * wanted).sum() / max(float((wanted**2).sum()), 1e-9))
        return float(np.clip(gain, *JAW_GAIN_LIMITS))

    def _add_rigid_parts(self, anatomy: Anatomy) -> None:
        """Add teeth, gums and tongue."""
        names = self.binding.face.expression_names
        points = self._placed(anatomy, anatomy.points)
        moved = jaw_displacement(names, (points - self.shift) / self.size, self._jaw_gain)
        shapes = self.size * anatomy.jaw[:, None] * moved
        mouth = MouthPlace(self.lips, self.size)
        points = pushed_behind_skin(self.binding, self.rest, points, shapes, mouth)
        faces = anatomy.faces.astype(np.int64)
        for number, name in enumerate(MATERIALS):
            rows = np.flatnonzero(anatomy.material == number)
            chosen = faces[anatomy.material[faces[:, 0]] == number]
            self._add(name, points[rows], np.searchsorted(rows, chosen), shapes[:, rows])

    def _add_socket(self, anatomy: Anatomy, edge: np.ndarray) -> None:
        """Add the mouth socket, whose first points are the edge (K,) of the mesh's lips."""
        grid = self._placed(anatomy, anatomy.socket)
        offsets = self.size * anatomy.socket_offsets.astype(np.float32)
        rings, columns, _ = grid.shape
        edge_points = self.rest[edge]
        to_columns = _interpolation(_around(edge_points), _around(grid[0]))
        steps = np.linalg.norm(np.diff(anatomy.socket, axis=0), axis=2).mean(1)
        depth = np.cumsum(np.append(0.0, steps))
        follow = 1 - smoothstep(depth / EDGE_REACH_MM)  # (R,), 1 at the lips
        moved = to_columns @ edge_points - grid[0]
        inner = (grid + follow[:, None, None] * moved)[1:].reshape(-1, 3)
        shapes = (offsets - follow[:, None, None] * offsets[:, :1])[:, 1:]
        shapes = shapes.reshape(len(offsets), -1, 3)
        throat, last = inner[-columns:].mean(0), shapes[:, -columns:].mean(1)
        count = len(edge)
        still = np.zeros((len(offsets), count, 3))
        share = (follow[1:, None, None] * to_columns).reshape(-1, count)
        share = np.concatenate([np.eye(count), share, np.zeros((1, count))])
        rows = self._add(
            "mouth",
            np.concatenate([edge_points, inner, throat[None]]),
            _socket_triangles(_around(edge_points), _around(grid[0]), rings - 1),
            np.concatenate([still, shapes, last[:, None]], axis=1),
        )
        on_edge = slice(rows.start, rows.start + count)
        self.edges.append((edge, on_edge, rows, share))

    # ------------------------------------------------------------------------------------ the eyes

    def _add_eyes(self) -> list[Eyeball]:
        """Add eyeballs and the strips of lids before them if the mesh lacks one of them."""
        if all(len(rows) for rows, _ in self.binding.eyes[:2]):
            return []
        result = []
        for side, eyeball in enumerate(fitted_eyeballs(self.binding, self.rest)):
            self._add_lids(lid_edge(self.openings, self.binding, self.rest, side), eyeball)
            points, faces = eyeball.sphere()
            still = np.zeros((len(self.binding.targets), *points.shape))
            rows = self._add("eyes", points, faces, still)
            result.append(Eyeball(rows, eyeball.centre, eyeball.radius))
        return result

    def _add_lids(self, edge: np.ndarray, eyeball: Eyeball) -> None:
        """Add a strip from the edge (K,) of lids into the eyeball behind them; none without edge."""
        count = len(edge)
        if not count:
            return
        points, faces = lid_strip(self.rest[edge], eyeball)
        still = np.zeros((len(self.binding.targets), *points.shape))
        rows = self._add("eyelids", points, faces, still)
        share = np.concatenate([np.eye(count), np.eye(count)])
        self.edges.append((edge, slice(rows.start, rows.start + count), rows, share))


def _around(points: np.ndarray) -> np.ndarray:
    """Return where points (K, 3) of an ordered edge lie around the mouth, (K,) in [0, 2).

    The edge begins at the right corner: 0 there, 1 at the left corner, the upper lip between. Along
    each lip it grows with the length.
    """
    length = np.linalg.norm(np.roll(points, -1, axis=0) - points, axis=1)
    along = np.append(0.0, np.cumsum(length))
    left = int(points[:, 0].argmax())
    upper = along[: left + 1] / max(along[left], 1e-9)
    lower = 1 + (along[left:-1] - along[left]) / max(along[-1] - along[left], 1e-9)
    return np.append(upper[:-1], lower)


def _interpolation(source: np.ndarray, wanted: np.ndarray) -> np.ndarray:
    """Return the weights (C, K) that interpolate values at `source` (K,) at `wanted` (C,)."""
    after = np.searchsorted(source, wanted, side="right")
    low, high = source[after - 1], np.append(source, 2.0)[after]
    weight = (wanted - low) / np.maximum(high - low, 1e-9)
    result = np.zeros((len(wanted), len(source)))
    rows = np.arange(len(wanted))
    result[rows, after - 1] += 1 - weight
    result[rows, after % len(source)] += weight
    return result


def _socket_triangles(edge: np.ndarray, column: np.ndarray, rings: int) -> np.ndarray:
    """Return triangles of a socket, seen from within the mouth.

    Its points are those of the edge, at `edge` (K,) around the mouth, `rings` times those of the
    columns, at `column` (C,), and the middle of the throat.
    """
    count, columns = len(edge), len(column)
    faces, i, j = [], 0, 0
    while i < count or j < columns:  # a strip between edge and first ring
        if j == columns or (i < count and np.append(edge, 2)[i + 1] <= np.append(column, 2)[j + 1]):
            faces.append((i, (i + 1) % count, count + j % columns))
            i += 1
        else:
            faces.append((i % count, count + (j + 1) % columns, count + j))
            j += 1
    first = np.arange(columns)
    after = (first + 1) % columns
    for ring, inner in pairwise(count + columns * np.arange(rings)):
        faces += np.column_stack([ring + first, ring + after, inner + first]).tolist()
        faces += np.column_stack([ring + after, inner + after, inner + first]).tolist()
    last = count + columns * (rings - 1)
    throat = np.full(columns, last + columns)
    faces += np.column_stack([last + first, last + after, throat]).tolist()
    return np.array(faces)[:, ::-1]
