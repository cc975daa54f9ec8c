"""Motion of the skin: taken from the canonical face where they coincide, else harmonic."""

from __future__ import annotations

import numpy as np
import scipy

from ..face.canonical import Face
from ..geometry.meshes import closest_points, vertex_normals
from ..geometry.rigid import fit_similarity
from .body import Body
from .features import Features
from .followed import FollowedSkin
from .mouth import Mouth, mouth_size
from .mouth_lining import place_lining
from .strain import mend_tears
from .surface import NORMAL_WEIGHT_MM

# Distances of vertices from the fitted canonical face.
ON_SKIN_MM = 3.0  # closer vertices take their motion from it
MOUTH_SKIN_MM = 8.0  # skin in the mouth that is farther off follows the jaw
SKIN_REACH_MM = 48.0  # vertices that are farther off do not move
MIN_FACING_COSINE = 0.2  # between normals, above which skin and canonical face agree
MIN_SKIN_COVERAGE = 0.02  # fraction of the canonical face that a part of the skin lies under
# A part lies over the skin, as hair does, if this fraction of it is this close to other skin.
OVERLAY_FRACTION, OVERLAY_MM = 0.6, 6.0
OVERLAY_VERTICES = 200  # of a part that are compared with the skin
PROPORTION_NODES = 500  # canonical vertices around which proportions are compared
PROPORTION_RADIUS_MM = 30.0


def place_skin(body: Body, mouth: Mouth, features: Features) -> None:
    """Find the skin of a body and assign its motion.

    Parts that are recognised already (`Body.other`) are none.
    """
    face, fitted, points = body.face, body.fitted, body.points
    low, high = fitted.min(0) - SKIN_REACH_MM, fitted.max(0) + SKIN_REACH_MM
    near = np.flatnonzero(((points > low) & (points < high)).all(1))
    normals = vertex_normals(fitted, face.faces)
    triangle, weights, distance = closest_points(
        fitted,
        face.faces,
        points[near],
        vertex_normals=normals,
        point_normals=body.normals[near],
        normal_weight=NORMAL_WEIGHT_MM,
    )
    corners = face.faces[triangle]
    surface_normals = np.einsum("vk,vkc->vc", weights, normals[corners])
    facing = np.einsum("vc,vc->v", surface_normals, body.normals[near]) > MIN_FACING_COSINE
    on_face = (distance < max(ON_SKIN_MM, 1.5 * body.fit.error)) & facing & ~body.other[near]
    body.canonical[near] = corners[np.arange(len(near)), weights.argmax(1)]
    body.skin = _skin_parts(body, near[on_face])

    is_skin = body.skin[near]
    near, distance, on_face = near[is_skin], distance[is_skin], on_face[is_skin]
    weights, corners = weights[is_skin][on_face], corners[is_skin][on_face]
    _take_motion(body, near[on_face], corners, weights)
    still = np.ones(len(points), bool)
    still[near] = distance > SKIN_REACH_MM
    in_mouth = near[~on_face & (distance > MOUTH_SKIN_MM) & mouth.contains(points[near])]
    still[in_mouth] = False
    fixed = still.copy()
    fixed[near] |= on_face
    body.fill_harmonic(~fixed)
    # Cheeks, gums and tongue of a mouth that is connected with the skin.
    place_lining(body, mouth, in_mouth, FollowedSkin(body, features, near[on_face]))
    fixed[in_mouth] = True
    mend_tears(body, fixed, still, in_mouth)
    body.canonical[~body.skin] = -1


def _skin_parts(body: Body, on_face: np.ndarray) -> np.ndarray:
    """Return the vertices (N,) bool of the connected parts that lie under much of the face.

    What lies over the largest of them, as hair and brows do, is no skin. `on_face` are the vertices
    that lie on the canonical face.
    """
    covered = np.unique(np.stack([body.component[on_face], body.canonical[on_face]]), axis=1)
    coverage = np.bincount(covered[0], minlength=body.component_count) / max(covered.shape[1], 1)
    is_skin = coverage >= MIN_SKIN_COVERAGE
    if coverage[is_skin].sum() < 0.5:  # the skin is in many small pieces
        is_skin = coverage > 0
    largest = int(coverage.argmax())
    others = np.flatnonzero(is_skin)
    others = others[others != largest]
    if len(others):
        is_skin[others] = ~_lie_over(body, on_face, others, largest)
    return is_skin[body.component]


def _lie_over(body: Body, on_face: np.ndarray, parts: np.ndarray, skin: int) -> np.ndarray:
    """Return which parts (P,) bool lie over another, instead of continuing it at its rim."""
    faces = body.faces[body.component[body.faces[:, 0]] == skin]
    result = np.zeros(len(parts), bool)
    for k, part in enumerate(parts):
        rows = on_face[body.component[on_face] == part]
        rows = rows[:: max(1, len(rows) // OVERLAY_VERTICES)]
        triangle, weights, distance = closest_points(body.points, faces, body.points[rows])
        on_rim = np.einsum("vk,vk->v", weights, body.rim[faces[triangle]]) > 0.99
        result[k] = ((distance < OVERLAY_MM) & ~on_rim).mean() > OVERLAY_FRACTION
    return result


def _take_motion(body: Body, rows: np.ndarray, corners: np.ndarray, weights: np.ndarray) -> None:
    """Give vertices (R,) the motion of the canonical face, in the proportions of the fitted one.

    They lie in its triangles with corners (R, 3), at barycentric weights (R, 3).
    """
    count, face = len(rows), body.face
    starts = 3 * np.arange(count + 1)
    entries = weights.astype(np.float32).ravel(), corners.ravel(), starts
    interpolation = scipy.sparse.csr_matrix(entries, (count, len(face.mean)))
    maps = local_maps(face, body.fitted).astype(np.float32)
    maps = (interpolation @ maps.reshape(-1, 9)).reshape(-1, 3, 3)
    for k, displacement in enumerate(face.expression_basis):
        moved = interpolation @ displacement.astype(np.float32, copy=False)
        body.targets[k, rows] = np.einsum("mij,mj->mi", maps, moved)


def local_maps(face: Face, fitted: np.ndarray) -> np.ndarray:
    """Return rotation and scale (V, 3, 3) of each vertex's surroundings, canonical to fitted.

    On the lips the scale is that of the mouth's width: a wide mouth opens wide.
    """
    mean = face.mean
    nodes = np.arange(0, len(mean), max(1, len(mean) // PROPORTION_NODES))
    tree = scipy.spatial.cKDTree(mean[nodes])
    rotations, scales = np.empty((len(nodes), 3, 3)), np.empty(len(nodes))
    for k, rows in enumerate(tree.query_ball_point(mean[nodes], PROPORTION_RADIUS_MM)):
        neighbours = nodes[rows]
        scales[k], rotations[k], _ = fit_similarity(mean[neighbours], fitted[neighbours])
    distance, index = tree.query(mean, k=6)
    weight = np.exp(-((distance / 10) ** 2)) + 1e-12
    weight /= weight.sum(1, keepdims=True)
    scale = np.einsum("vk,vk->v", weight, scales[index])
    on_lips = face.mouth_weight
    scale = (1 - on_lips) * scale + on_lips * mouth_size(face, fitted)
    rotation = np.einsum("vk,vkij->vij", weight, rotations[index], optimize=True)
    return scale[:, None, None] * rotation
