"""Searches the pose and size of the face in a mesh.

A mesh may stand anywhere, in any unit. Most are aligned with the axes, and nearly all heads are
symmetric. So the rotations to try are the identity, then the others of a cube, then those about the
mesh's own planes of symmetry. For each rotation, starts of several sizes and heights are compared;
the best are refined by iterative closest points (ICP).
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import lru_cache

import numpy as np
import scipy

from ..errors import InputError
from ..face.canonical import Face
from ..geometry.meshes import vertex_normals
from ..geometry.rigid import Similarity, cube_rotations, fit_similarity
from .surface import MATCH_CELL_MM, NORMAL_WEIGHT_MM, Surface

ICP_VERTICES = 600  # canonical vertices that the similarity is fitted with
START_VERTICES = 150  # canonical vertices that starts are compared with
ICP_STARTS = 8  # best starts of all rotations together, which are refined
ICP_ITERATIONS = 30
ICP_MARGIN_MM = 40.0  # around the start's sphere, within which closest points are searched
ICP_MIN_POINTS = 40  # of the mesh in that sphere
MAX_PLACEMENT_ERROR_MM = 9.0  # of placements that are returned
START_DISTANCE_LIMIT_MM = 25.0  # distances are clipped to this when starts are compared
INLIER_QUANTILE = 0.8  # the fifth of the pairs that is farthest apart is ignored
# Height of the face relative to the mesh: from a mask to a whole body.
HEIGHT_RATIOS = 1.0 / 1.18 ** np.arange(15)
SYMMETRY_PLANES = 3  # planes of symmetry that are tried
SYMMETRY_ANGLES = 18  # rotations within each plane


def axis_rotations(up: str | None, forward: str | None) -> list[np.ndarray] | None:
    """Return the rotations of a face with the named axes up and forward, such as `z` and `-y`.

    None if no axis is named. Raises InputError for names and pairs that are not valid.
    """
    if up is None and forward is None:
        return None
    signs = {"": 1, "+": 1, "-": -1}
    axes = {
        f"{sign}{name}": factor * axis
        for name, axis in zip("xyz", np.eye(3))
        for sign, factor in signs.items()
    }
    for name in (up, forward):
        if name is not None and name not in axes:
            raise InputError(f"'{name}' is not an axis", "choose x, y, z, -x, -y or -z")
    rotations = [
        rotation
        for rotation in cube_rotations()
        if (up is None or np.allclose(rotation[:, 1], axes[up]))
        and (forward is None or np.allclose(rotation[:, 2], axes[forward]))
    ]
    if not rotations:
        raise InputError(
            f"a face cannot have {up} up and look along {forward}", "choose two different axes"
        )
    return rotations


def symmetry_rotations(surface: Surface) -> list[np.ndarray]:
    """Return rotations that take the face's plane of symmetry to one of the mesh's."""
    rotations = []
    for normal in [side * normal for normal in _symmetry_normals(surface) for side in (1, -1)]:
        up = np.cross(normal, [1.0, 0, 0] if abs(normal[0]) < 0.7 else [0, 1.0, 0])
        up /= np.linalg.norm(up)
        forward = np.cross(normal, up)
        for angle in 2 * np.pi * np.arange(SYMMETRY_ANGLES) / SYMMETRY_ANGLES:
            turned = np.cos(angle) * up + np.sin(angle) * forward
            rotations.append(np.stack([normal, turned, np.cross(normal, turned)], axis=1))
    return rotations


def _symmetry_normals(surface: Surface) -> list[np.ndarray]:
    """Return unit normals (3,) of the planes that best mirror the mesh onto itself."""
    rng = np.random.default_rng(0)
    points = surface.points[rng.permutation(len(surface.points))[:1500]]
    points = points - points.mean(0)
    limit = 0.3 * np.sqrt(np.square(points).sum(1).mean())
    tree, sample = scipy.spatial.cKDTree(points), points[:250]

    def asymmetry(normals: np.ndarray) -> np.ndarray:
        """Return the mean distance (N,) of mirrored points from the mesh, for normals (N, 3)."""
        heights = np.einsum("pc,nc->np", sample, normals)
        mirrored = sample[None] - 2 * heights[..., None] * normals[:, None]
        distance = tree.query(mirrored.reshape(-1, 3))[0].reshape(len(normals), -1)
        return np.minimum(distance, limit).mean(1)

    directions = _hemisphere(800)
    normals: list[np.ndarray] = []
    for k in np.argsort(asymmetry(directions)):
        if all(abs(directions[k] @ normal) < 0.9 for normal in normals):
            normals.append(directions[k])
        if len(normals) == SYMMETRY_PLANES:
            break
    for plane, normal in enumerate(normals):
        for step in 0.06 / 2.0 ** np.arange(5):
            trials = normal + step * rng.standard_normal((24, 3))
            trials /= np.linalg.norm(trials, axis=1, keepdims=True)
            trials = np.concatenate([normal[None], trials])
            normal = trials[asymmetry(trials).argmin()]
        normals[plane] = normal
    return normals


def _hemisphere(count: int) -> np.ndarray:
    """Return evenly spread points (count, 3) of half the unit sphere, a Fibonacci lattice."""
    k = np.arange(count)
    height, angle = 1 - (k + 0.5) / count, np.pi * (1 + 5**0.5) * k
    radius = np.sqrt(1 - height**2)
    return np.stack([radius * np.cos(angle), radius * np.sin(angle), height], axis=1)


def search_placements(
    face: Face, surface: Surface, rotations: list[np.ndarray], starts: int = ICP_STARTS
) -> list[Similarity]:
    """Return placements of the face that lie close to the mesh, the best first.

    Parameters
    ----------
    face : Face
    surface : Surface
        Of the mesh.
    rotations : list of (3, 3)
        Rotations of the face in the mesh to start from.
    starts : int
        Number of the best starts of all rotations together that are refined by ICP.
    """
    ranked = _ranked_starts(face, surface, rotations)
    refined = [_icp(face, surface, start) for start in ranked[:starts]]
    refined.sort(key=lambda item: item[1])
    return [placement for placement, error in refined if error <= MAX_PLACEMENT_ERROR_MM]


@lru_cache(maxsize=2)
def _template(face: Face) -> tuple[np.ndarray, np.ndarray]:
    """Return about ICP_VERTICES vertices (P, 3) of the canonical face, and their normals."""
    step = max(1, len(face.mean) // ICP_VERTICES)
    normals = vertex_normals(face.mean, face.faces)
    return face.mean[::step].astype(np.float64), normals[::step]


def _ranked_starts(face: Face, surface: Surface, rotations: list[np.ndarray]) -> list[Similarity]:
    """Return all starts, first those where the mesh is close to the face and faces the same way."""
    template, normals = _template(face)
    rows = np.linspace(0, len(template) - 1, START_VERTICES).astype(int)
    template, normals = template[rows], normals[rows]
    surface = surface.coarse
    tree = scipy.spatial.cKDTree(surface.points)
    costs, starts = [], []
    for rotation in rotations:
        for scale, shift in _starts(face, surface.points @ rotation, surface.normals @ rotation):
            start = Similarity(scale, rotation, rotation @ shift)
            distance, index = tree.query(start.to_mesh(template))
            misalignment = 1 - np.einsum("pc,pc->p", surface.normals[index], normals @ rotation.T)
            cost = (
                np.minimum(distance / scale, START_DISTANCE_LIMIT_MM)
                + NORMAL_WEIGHT_MM * misalignment
            )
            costs.append(np.sort(cost)[: int(INLIER_QUANTILE * len(cost))].mean())
            starts.append(start)
    return [starts[k] for k in np.argsort(costs, kind="stable")]


def _starts(
    face: Face, points: np.ndarray, normals: np.ndarray
) -> Iterator[tuple[float, np.ndarray]]:
    """Yield scales and shifts to try if the face of a mesh looks along +z, with y up."""
    low, high = points.min(0), points.max(0)
    extent = high - low
    face_low, face_high = face.mean.min(0), face.mean.max(0)
    face_extent = face_high - face_low
    nose = face.mean[face.landmarks68[30]]
    centre_x = (low[0] + high[0]) / 2
    facing_front = normals[:, 2] > 0.2
    for ratio in HEIGHT_RATIOS:
        scale = ratio * extent[1] / face_extent[1]
        if ratio > 0.5 and not 0.4 < face_extent[0] * scale / extent[0] < 1.6:
            continue
        # Above the face there is at most a scalp with hair; below it there may be a whole body.
        slack = min(extent[1] * (1 - ratio), 0.6 * face_extent[1] * scale)
        middle = points[facing_front & (np.abs(points[:, 0] - centre_x) < 12 * scale)]
        for above in np.linspace(0, slack, 1 if ratio > 0.95 else 4):
            nose_y = high[1] - above - (face_high[1] - nose[1]) * scale
            near = np.abs(middle[:, 1] - nose_y) < 22 * scale
            if near.any():
                tip = np.array([centre_x, nose_y, middle[near, 2].max()])
                yield scale, tip - scale * nose


def _icp(face: Face, surface: Surface, start: Similarity) -> tuple[Similarity, float]:
    """Refine a start by iterative closest points with scale; return it with its error in mm."""
    template, normals = _template(face)
    radius = np.linalg.norm(template - template.mean(0), axis=1).max() + ICP_MARGIN_MM
    centre = start.to_mesh(template.mean(0))
    inside = np.linalg.norm(surface.points - centre, axis=1) < start.scale * radius
    if inside.sum() < ICP_MIN_POINTS:
        return start, np.inf
    near = surface.inside(inside, MATCH_CELL_MM * start.scale)
    points = near.points
    normal_weight = NORMAL_WEIGHT_MM * 2 * start.scale
    tree = scipy.spatial.cKDTree(np.hstack([points, normal_weight * near.normals]))
    placement = best = start
    best_error = np.inf
    for _ in range(ICP_ITERATIONS):
        placed = placement.to_mesh(template)
        placed_normals = normal_weight * normals @ placement.rotation.T
        _, index = tree.query(np.hstack([placed, placed_normals]))
        distance = np.linalg.norm(points[index] - placed, axis=1)
        inliers = distance <= np.quantile(distance, INLIER_QUANTILE)
        error = float(distance[inliers].mean() / placement.scale)
        if error > best_error - 1e-3:
            break
        best, best_error = placement, error
        source = template[inliers]
        scale, rotation, translation = fit_similarity(source, points[index[inliers]])
        # Bounded because a face that shrinks to a point fits anywhere.
        bounded = float(np.clip(scale, 0.6 * start.scale, 1.6 * start.scale))
        translation = translation + (scale - bounded) * rotation @ source.mean(0)
        placement = Similarity(bounded, rotation, translation)
    return best, best_error
