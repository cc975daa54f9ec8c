"""Keeps added teeth and tongue behind the lips and cheeks of a mesh, at rest and in motion."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from ..geometry.meshes import area_vectors
from .binding import Binding
from .mouth_edge import membranes

# Blend-shape weights at which added parts must stay behind the skin.
TESTED_POSES: tuple[dict[str, float], ...] = (
    {},
    {"mouthSmile": 1.0},
    {"mouthSmile": 1.0, "jawOpen": 0.5, "mouthUpperUp": 0.5, "mouthLowerDown": 0.5},
    {
        "mouthSmile": 0.9,
        "mouthUpperUp": 0.5,
        "mouthLowerDown": 0.35,
        "mouthDimple": 0.45,
        "mouthStretch": 0.4,
        "mouthRollLower": 0.4,
        "jawOpen": 0.36,
    },
    {"mouthFunnel": 1.0},
    {"mouthPucker": 1.0},
    {"mouthPress": 1.0, "mouthRollLower": 0.6, "mouthRollUpper": 0.6},
    {"mouthStretch": 1.0, "mouthFrown": 0.5},
    {"jawOpen": 0.9},
    {"jawOpen": 0.6, "mouthClose": 0.5},
    {"mouthLeft": 0.8},
    {"mouthRight": 0.8},
)
CENTRE_MM = 50.0  # behind the lips, from which the skin is seen in all directions
SKIN_THICKNESS_MM = 2.0  # least distance between an added point and the outer skin
CELL_DEG = 3.0  # of the directions that are compared
SAMPLE_MM = 2.5  # distance of samples on the skin
MAX_SAMPLES_A_SIDE, MAX_SKIN_TRIANGLES = 8, 6000
# Box of the skin around the lips' middle: beside, below, above and behind.
BESIDE_MM, BELOW_MM, ABOVE_MM, BEHIND_MM = 55.0, 60.0, 35.0, 60.0
FORWARD_COSINE = 0.75  # between a direction and forwards, up to which parts are pushed back
MAX_PUSH_MM, MIN_WIDTH = 12.0, 0.7  # how far parts are pushed back, and how much they are narrowed
PUSHES = 3


def pushed_behind_skin(
    binding: Binding, rest: np.ndarray, points: np.ndarray, shapes: np.ndarray, mouth: MouthPlace
) -> np.ndarray:
    """Return points (P, 3) of rigid parts, moved back and narrowed so that none reaches the skin.

    Parameters
    ----------
    binding : Binding
    rest : (N, 3)
        The mesh at rest in canonical mm, as are all other lengths here.
    points : (P, 3)
    shapes : (S, P, 3)
        Displacement of the points by each blend shape.
    mouth : MouthPlace
    """
    skin = _OuterSkin(binding, rest, mouth)
    size, middle = mouth.size, mouth.lips[0]
    result = points
    weights = np.stack([binding.face.weight_vector(pose) for pose in TESTED_POSES])
    # Frames give the jaw other weights than a file of blend shapes does.
    in_frames = weights @ binding.face.weights_to_coordinates @ binding.regularised_weights
    moved = [np.tensordot(one, shapes, 1) for one in (weights, in_frames)]  # (poses, P, 3) each
    for _ in range(PUSHES):
        back, narrow = np.max([skin.excess(result + one) for one in moved], axis=0).tolist()
        if max(back, narrow) <= 0:
            break
        pushed = min(float(points[:, 2].max() - result[:, 2].max()) + back, MAX_PUSH_MM * size)
        half = float(np.abs(result[:, 0] - middle).max())
        width = max(1 - narrow / half, MIN_WIDTH) if half > 0 else 1.0
        result = np.column_stack(
            [middle + width * (result[:, 0] - middle), result[:, 1], points[:, 2] - pushed]
        )
    return result


@dataclass(frozen=True, eq=False)
class MouthPlace:
    """Where the mouth is: the middle (3,) of where the lips meet, and its size."""

    lips: np.ndarray
    size: float  # relative to the canonical mouth


class _OuterSkin:
    """The lower face in the tested poses, seen from behind the teeth in all directions."""

    def __init__(self, binding: Binding, rest: np.ndarray, mouth: MouthPlace):
        lips, size = mouth.lips, mouth.size
        self.size, self.centre = size, lips - np.array([0, 0, CENTRE_MM * size])
        low = lips - size * np.array([BESIDE_MM, BELOW_MM, BEHIND_MM])
        high = lips + size * np.array([BESIDE_MM, ABOVE_MM, BEHIND_MM])
        skin = np.zeros(len(rest), bool)
        skin[binding.moving[binding.canonical >= 0]] = True
        skin &= ((rest > low) & (rest < high)).all(1)
        faces = binding.mesh.faces[skin[binding.mesh.faces].all(1) & ~membranes(binding, rest)]
        self.faces = _facing_away(rest, faces[:: len(faces) // MAX_SKIN_TRIANGLES + 1], self.centre)
        weights = np.stack([binding.face.weight_vector(pose) for pose in TESTED_POSES])
        frames = binding.vertices(weights @ binding.face.weights_to_coordinates)
        self.radius = [
            self._radii(binding.placement.to_canonical(frame.astype(np.float64)))
            for frame in frames
        ]

    def _radii(self, vertices: np.ndarray) -> np.ndarray:
        """Return the distance of the outermost skin in each cell of directions; inf if none."""
        corners = vertices[self.faces]
        if not len(corners):
            return np.full(_cells(), np.inf)
        edge = np.linalg.norm(corners - np.roll(corners, 1, axis=1), axis=2).max(1)
        steps = int(np.clip(np.ceil(np.median(edge) / SAMPLE_MM), 1, MAX_SAMPLES_A_SIDE))
        i, j = np.triu_indices(steps + 1)
        weights = np.column_stack([i, j - i, steps - j]) / steps
        samples = np.einsum("wk,fkc->fwc", weights, corners).reshape(-1, 3)
        cell, radius = self._polar(samples)
        result = np.full(_cells(), -np.inf)
        np.maximum.at(result, cell, radius)
        return np.where(np.isfinite(result), result, np.inf)

    def _polar(self, points: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Return the cell of directions (P,) that points lie in, and their distance (P,)."""
        offset = points - self.centre
        radius = np.linalg.norm(offset, axis=1)
        unit = offset / np.maximum(radius, 1e-9)[:, None]
        azimuth = np.degrees(np.arctan2(unit[:, 0], unit[:, 2])) + 180
        height = np.degrees(np.arcsin(np.clip(unit[:, 1], -1, 1))) + 90
        rows = int(180 / CELL_DEG) + 1
        cell = (azimuth // CELL_DEG).astype(int) * rows + (height // CELL_DEG).astype(int)
        return cell, radius

    def excess(self, poses: np.ndarray) -> tuple[float, float]:
        """Return by how many mm points (poses, P, 3) are too far forwards, and too far sideways."""
        back = narrow = 0.0
        for points, radius in zip(poses, self.radius):
            cell, distance = self._polar(points)
            excess = distance + SKIN_THICKNESS_MM * self.size - radius[cell]
            unit = (points - self.centre) / np.maximum(distance, 1e-9)[:, None]
            ahead = unit[:, 2] > FORWARD_COSINE
            back = max(back, float((excess[ahead] / unit[ahead, 2]).max(initial=0)))
            aside = ~ahead & (np.abs(unit[:, 0]) > 0.5)
            narrow = max(narrow, float((excess[aside] / np.abs(unit[aside, 0])).max(initial=0)))
        return back, narrow


def _facing_away(rest: np.ndarray, faces: np.ndarray, centre: np.ndarray) -> np.ndarray:
    """Return the triangles (F, 3) of a skin that face away from a point (3,) behind it.

    Others line the lips or the mesh's own mouth.
    """
    outwards = np.einsum("fc,fc->f", rest[faces].mean(1) - centre, area_vectors(rest, faces))
    if outwards.sum() < 0:
        outwards = -outwards
    return faces[outwards > 0]


def _cells() -> int:
    return (int(360 / CELL_DEG) + 1) * (int(180 / CELL_DEG) + 1)
