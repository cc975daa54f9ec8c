"""How added teeth, tongue, mouth and eyes follow the frames of a mesh."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from ..binding.binding import Binding
from ..binding.fill import Fill, fill_of
from ..face.bite import Bite
from ..face.canonical import LIP_PAIRS
from ..face.openings import face_lips
from ..formats.appearance import AddedMesh, AddedMeshes, AddedVertices
from ..geometry.numerics import smoothstep
from ..geometry.rigid import eye_rotation
from .textures import (
    CLOSED_MOUTH_ROWS,
    PART_BANDS,
    SWATCH_PIXELS,
    eye_image,
    eye_texels,
    png_of,
)

MAX_ANCHORS = 420  # vertices of the face from which the motion of a frame is read
DARK_GAP_MM, LIT_GAP_MM = 0.6, 4.5  # distances, of a canonical mouth, with least and full light
PART_ROUGHNESS = {
    "teeth": 0.35,
    "gums": 0.45,
    "tongue": 0.5,
    "mouth": 0.6,
    "eyelids": 0.6,
    "eyes": 0.15,
}
MOUTH_PARTS = ("mouth", "teeth", "gums", "tongue")
ANCHOR_RIDGE = 1e-6  # relative, of the least squares over anchors
BELOW_CHIN_MM = 20.0  # vertices farther below may not follow the head's rotation


class FollowingVertices(AddedVertices):
    """Added vertices that move as the mesh's face does, wherever the head turns.

    A frame's head pose and motion coordinates are linear in the vertices of the face (anchors), and
    the added vertices are linear in the coordinates. This is exact for frames of the binding; the
    edges of mouth and lids are those of the mesh in any frame.

    Parameters
    ----------
    fill : Fill
        The added parts.
    own_mouth : (M,) int, optional
        The mesh's own vertices that are teeth or the inside of the mouth.
    """

    def __init__(self, fill: Fill, own_mouth: np.ndarray | None = None):
        super().__init__()
        binding = fill.binding
        self.points = fill.points.astype(np.float32)
        self.balls = [(eyeball.rows, eyeball.centre) for eyeball in fill.eyeballs]
        self.axes, self.edge, self.edge_rows = (
            binding.placement.rotation,
            fill.edge,
            fill.edge_rows,
        )
        basis = fill.basis
        self.matrix = basis.reshape(len(basis), -1)
        self.bite = fill.bite
        self.anchors = _anchors(binding)
        self.pose, self.coordinates = _readers(binding, self.anchors)
        self.rest = binding.rest[self.anchors].astype(np.float64)
        self.frame_at_rest = _frame(self.pose @ self.rest)
        self.occlusion = Occlusion.of(fill)
        self.own_mouth = np.zeros(0, int) if own_mouth is None else own_mouth
        mouth = binding.rest[self.own_mouth].astype(np.float64)
        self.own_occlusion = Occlusion.at(binding, mouth, fill.size)

    def __call__(self, vertices: np.ndarray) -> np.ndarray:
        """Return the added vertices (A, 3) for a frame of the mesh (N, 3)."""
        return self._following(vertices, self.bite)

    def linear(self, vertices: np.ndarray) -> np.ndarray:
        """See `AddedVertices.linear`."""
        return self._following(vertices, None)

    def _following(self, vertices: np.ndarray, bite: Bite | None) -> np.ndarray:
        anchors = vertices[self.anchors].astype(np.float64)
        control = self.pose @ anchors
        rotation = _frame(control) @ self.frame_at_rest.T
        if len(self.own_mouth):
            self.own_shade = np.zeros(len(vertices))
            self.own_shade[self.own_mouth] = self.own_occlusion.shade(vertices, rotation)
        if not len(self.points):
            return self.points
        shift = control[0] - rotation @ (self.pose[0] @ self.rest)
        displacement = (anchors - shift) @ rotation - self.rest
        coordinates = (self.coordinates @ displacement.ravel()).astype(np.float32)
        points = self.points + (coordinates @ self.matrix).reshape(-1, 3)
        if bite is not None:
            bite.keep(points[None], coordinates[None])
        if self.gaze is not None and self.balls:
            turned = eye_rotation(self.gaze, self.axes)
            for rows, centre in self.balls:
                points[rows] = (points[rows] - centre) @ turned.T + centre
        points = points @ rotation.T + shift
        points[self.edge_rows] = vertices[self.edge]
        self.shade = self.occlusion.shade(vertices, rotation)
        return points


def added_meshes(binding: Binding) -> AddedMeshes:
    """Return what a bound mesh lacks as meshes with plain materials; the eyes have a texture."""
    fill = fill_of(binding, binding.face.anatomy)
    meshes = []
    for name, faces in fill.faces.items():
        rows, local = np.unique(faces, return_inverse=True)
        part = AddedMesh(
            name=name,
            rows=rows,
            faces=local.reshape(-1, 3),
            colour=PART_BANDS.get(name, np.full(3, 255.0)),
            roughness=PART_ROUGHNESS[name],
        )
        if name == "eyes":
            texels, image = eye_texels(fill.gaze_directions()), eye_image()
            column, row = texels.astype(int).clip(0, SWATCH_PIXELS - 1).T
            part = replace(
                part,
                uv=(texels + 0.5) / SWATCH_PIXELS * [1, -1] + [0, 1],
                texture=png_of(image),
                point_colours=image[row, column],
            )
        meshes.append(part)
    return AddedMeshes(FollowingVertices(fill), fill.arkit_targets, meshes)


def without_mouth(added: AddedMeshes) -> AddedMeshes:
    """Return added meshes without those in the mouth, for lips that do not part."""
    return replace(added, meshes=[part for part in added.meshes if part.name not in MOUTH_PARTS])


@dataclass(frozen=True, eq=False)
class Occlusion:
    """How the mouth darkens where the lips are close to each other.

    Attributes
    ----------
    upper, lower : (3,) int
        The mesh's vertices of LIP_PAIRS.
    up : (3,)
        Direction from the lower to the upper lip at rest. Only along it lips are open: one may slide
        over the other, as in disgust, and none looks in.
    closed : (3,)
        Heights in mesh units of the upper of each pair of vertices above the lower one where the
        lips meet; they may lie beside the edges of the lips.
    gaps : (2,)
        Openings in mesh units with least and full light.
    share : (A, 3) float32
        How far each added point is darkened by each pair; 0 for eyes.
    rows : float
        Rows of the texture that a point is darkened by at most.
    """

    upper: np.ndarray
    lower: np.ndarray
    up: np.ndarray
    closed: np.ndarray
    gaps: np.ndarray
    share: np.ndarray
    rows: float

    @classmethod
    def of(cls, fill: Fill) -> Occlusion:
        """Return the occlusion of a fill's parts."""
        occlusion = cls.at(fill.binding, fill.points, fill.size)
        for name in ("eyes", "eyelids"):
            occlusion.share[fill.faces.get(name, np.zeros(0, int))] = 0
        return occlusion

    @classmethod
    def at(cls, binding: Binding, points: np.ndarray, size: float) -> Occlusion:
        """Return the occlusion at points (A, 3) in a mouth of a size, 1 for the canonical one."""
        upper, lower = binding.landmarks68[np.array(LIP_PAIRS)].T
        beside = binding.placement.to_canonical(points)[:, 0]
        pairs = binding.placement.to_canonical(binding.rest[upper].astype(np.float64))[:, 0]
        order = np.argsort(pairs)
        share = np.zeros((len(points), len(pairs)), np.float32)
        for column in range(len(pairs)):
            unit = (np.arange(len(pairs)) == column).astype(float)
            share[:, column] = np.interp(beside, pairs[order], unit[order])
        up = binding.placement.rotation[:, 1]
        at_rest = (binding.rest[upper] - binding.rest[lower]).astype(np.float64) @ up
        closed = at_rest - binding.scale * size * _gaps_at_rest(binding)
        gaps = binding.scale * size * np.array([DARK_GAP_MM, LIT_GAP_MM])
        return cls(upper, lower, up, closed, gaps, share, CLOSED_MOUTH_ROWS)

    def shade(self, vertices: np.ndarray, rotation: np.ndarray) -> np.ndarray:
        """Return the rows (A,) by which the added points of a frame (N, 3) are darkened.

        `rotation` (3, 3) is the head's, from rest.
        """
        gap = (vertices[self.upper] - vertices[self.lower]) @ (rotation @ self.up) - self.closed
        low, high = self.gaps
        return np.asarray(self.share @ (self.rows * (1 - smoothstep((gap - low) / (high - low)))))


def _gaps_at_rest(binding: Binding) -> np.ndarray:
    """Return the height (3,) of the mouth at rest at LIP_PAIRS, in mm of the canonical mouth."""
    face = binding.face
    lips = face_lips(face)
    gap = lips.gap(face.mean) if binding.lip_gap is None else binding.lip_gap
    columns = (lips.upper.of(face.mean) + lips.lower.of(face.mean))[:, 0] / 2
    beside = face.mean[face.landmarks68[np.array(LIP_PAIRS)]][..., 0].mean(1)
    return np.interp(beside, columns, gap)


def _anchors(binding: Binding) -> np.ndarray:
    """Return vertices of the face that follow the head's rotation, at most MAX_ANCHORS."""
    skin = binding.moving[binding.canonical >= 0]
    chin = binding.placement.to_canonical(binding.rest[binding.landmarks68[8]])[1]
    height = binding.placement.to_canonical(binding.rest[skin].astype(np.float64))[:, 1]
    skin = skin[height > chin - BELOW_CHIN_MM]
    chosen = np.linspace(0, len(skin) - 1, min(MAX_ANCHORS, len(skin))).round().astype(int)
    return np.unique(np.concatenate([skin[chosen], binding.landmarks68]))


def _readers(binding: Binding, anchors: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the matrices that read pose and coordinates from anchors (K, 3) of a frame.

    Returns
    -------
    pose : (4, K)
        Its product with the anchors is a point and the ends of three axes. It does not change with
        the expression, and turns with the head: each row's weights add up to 1, cancel each
        coordinate's displacement, and keep affine maps.
    coordinates : (S, 3·K)
        Its product with the displacement of the anchors, without the head's pose.
    """
    rest = binding.rest[anchors].astype(np.float64)
    middle, size = rest.mean(0), float(np.ptp(rest, axis=0).max())
    place = np.searchsorted(binding.moving, anchors).clip(0, len(binding.moving) - 1)
    basis = binding.matrix.reshape(len(binding.targets), -1, 3)[:, place].astype(np.float64)
    basis[:, binding.moving[place] != anchors] = 0
    moved = basis.transpose(0, 2, 1).reshape(-1, len(anchors))  # (3·S, K)
    affine = np.vstack([np.ones(len(anchors)), ((rest - middle) / size).T])  # (4, K)
    constraints = np.vstack([affine, moved / max(float(np.abs(moved).max()), 1e-12)])
    wanted = np.zeros((len(constraints), 4))
    wanted[0] = 1
    wanted[1:4, 1:] = np.eye(3) @ binding.placement.rotation / 2
    pose = _least_squares(constraints, wanted).T
    pose /= pose.sum(1, keepdims=True)
    flat = basis.reshape(len(basis), -1)
    coordinates = _least_squares(flat.T, np.eye(flat.shape[1]))
    return pose, coordinates


def _least_squares(matrix: np.ndarray, target: np.ndarray) -> np.ndarray:
    """Return the x with the least norm that minimises |matrix · x - target|, with a small ridge."""
    rows, columns = matrix.shape
    if rows < columns:
        gram = matrix @ matrix.T
        gram += ANCHOR_RIDGE * np.trace(gram) / rows * np.eye(rows)
        return np.asarray(matrix.T @ np.linalg.solve(gram, target))
    gram = matrix.T @ matrix
    gram += ANCHOR_RIDGE * np.trace(gram) / columns * np.eye(columns)
    return np.asarray(np.linalg.solve(gram, matrix.T @ target))


def _frame(control: np.ndarray) -> np.ndarray:
    """Return the rotation (3, 3) whose columns point from a point to the ends of axes (4, 3)."""
    left, _, right = np.linalg.svd((control[1:] - control[0]).T)
    return np.asarray(left @ np.diag([1, 1, np.linalg.det(left @ right)]) @ right)
