"""The edges of a bound mesh's mouth and lids, and triangles that close its mouth or eyes."""

from __future__ import annotations

import numpy as np

from ..face.canonical import LEFT_EYE, RIGHT_EYE
from ..geometry.plane import inside_polygon
from .binding import Binding
from .body import weld
from .lid_sheet import sheet_between_lids

# Triangles between the lips whose edges jawOpen stretches by more than this factor close the mouth,
# and are not drawn.
MEMBRANE_STRETCH = 2.5
EYE_DEPTH_MM = 14.6  # distance from the lids within which triangles can close an eye
MIN_EDGE_VERTICES = 6
# Limits of an edge around an eye, in widths of the eye: least width, and how far it may reach beyond
# the landmarks of the lids.
MIN_LID_EDGE_WIDTH, LID_EDGE_BEYOND = 0.6, 0.3
# Limits of an edge around the mouth, in widths of the mouth: least width, and how far it may reach
# beyond the lips sideways, up and down, and backwards.
MIN_EDGE_WIDTH, EDGE_BESIDE, EDGE_BEYOND, EDGE_BEHIND = 0.3, 0.25, 0.35, 1.0
MIN_OPENING_MM = 4.0  # by which jawOpen must move upper and lower edge apart
# An edge closer than this to another part has its own mouth behind it; where there are teeth, which
# may lie close to the lips, that part has to touch it.
LINED_MM, TOUCHING_MM = 2.5, 0.3
LINED_FRACTION = 0.5  # of an edge's vertices


def membranes(binding: Binding, rest: np.ndarray) -> np.ndarray:
    """Return which triangles (F,) of a bound mesh close the mouth, or the eyes of a mask.

    `rest` (N, 3) are the mesh's vertices in canonical mm.
    """
    faces, landmarks = binding.mesh.faces, rest[binding.landmarks68]
    jaw = binding.face.expression_names.index("jawOpen")
    opened = binding.vertices(binding.face.weights_to_coordinates[[jaw]])[0]
    before, after = (
        np.linalg.norm(v[faces] - v[np.roll(faces, 1, axis=1)], axis=2)
        for v in (binding.rest, opened)
    )
    stretched = (after > MEMBRANE_STRETCH * before).any(1)
    centres = rest[faces].mean(1)
    inside = stretched & inside_polygon(centres[:, :2], landmarks[60:68, :2])
    result = _whole_opening(faces, inside)
    contours = binding.lid_contours if binding.lid_contours is not None else (None, None)
    for lids, (rows, _), contour in zip((RIGHT_EYE, LEFT_EYE), binding.eyes, contours):
        if contour is not None and contour.any():
            skin = np.zeros(len(rest), bool)
            skin[binding.moving[binding.canonical >= 0]] = True
            of_skin = skin[faces].all(1)
            result[of_skin] |= sheet_between_lids(rest, faces[of_skin], contour)
        elif not len(rows):
            depth = np.abs(centres[:, 2] - landmarks[lids, 2].mean())
            opening = inside_polygon(centres[:, :2], landmarks[lids, :2])
            result |= _whole_opening(faces, (depth < EYE_DEPTH_MM) & opening)
    return result


def _whole_opening(faces: np.ndarray, inside: np.ndarray) -> np.ndarray:
    """Return which triangles (F,) close an opening, of which those `inside` (F,) certainly do.

    The landmarks' polygon is coarser than the edge of lips or lids. A triangle that spans the edge
    beside it has no vertex of its own.
    """
    used = np.zeros(int(faces.max(initial=0)) + 1, bool)
    used[faces[inside]] = True
    return np.asarray(used[faces].all(1))


def edges_of_openings(binding: Binding, rest: np.ndarray) -> list[np.ndarray]:
    """Return the vertices (K,) of each closed boundary of a bound mesh, in their order.

    Mouth and eyes count as open. `rest` (N, 3) are the mesh's vertices in canonical mm.
    """
    welded = weld(binding.mesh)
    kept = ~membranes(binding, rest)
    faces = welded.merged[binding.mesh.faces[kept]]
    faces = faces[(faces != np.roll(faces, 1, axis=1)).all(1)]
    loops = (welded.first[loop] for loop in _ordered_loops(faces))
    return [loop for loop in loops if len(loop) >= MIN_EDGE_VERTICES]


def lid_edge(
    openings: list[np.ndarray], binding: Binding, rest: np.ndarray, side: int
) -> np.ndarray:
    """Return that of the boundaries which is the edge of the lids; empty if none is.

    `side` is 0 for the right eye, 1 for the left one.
    """
    lids = rest[binding.landmarks68[[RIGHT_EYE, LEFT_EYE][side]]]
    width = float(np.ptp(lids[:, 0]))
    low, high = lids.min(0) - LID_EDGE_BEYOND * width, lids.max(0) + LID_EDGE_BEYOND * width
    found = [
        edge
        for edge in openings
        if ((rest[edge] > low) & (rest[edge] < high)).all()
        and np.ptp(rest[edge, 0]) > MIN_LID_EDGE_WIDTH * width
    ]
    return max(found, key=lambda edge: np.ptp(rest[edge, 0]), default=np.zeros(0, int))


def mouth_edge(openings: list[np.ndarray], binding: Binding, rest: np.ndarray) -> np.ndarray:
    """Return that of the boundaries which is the edge of the mouth; empty if none is.

    It begins at the right corner and runs along the upper lip, then back along the lower one.
    """
    edges = [edge for edge in openings if _is_mouth(edge, binding, rest)]
    if not edges:
        return np.zeros(0, int)
    edge = max(edges, key=lambda edge: np.ptp(rest[edge, 0]))
    if _is_lined(edge, binding, rest):
        return np.zeros(0, int)
    return _from_right_corner(edge, rest)


def _ordered_loops(faces: np.ndarray) -> list[np.ndarray]:
    """Return the vertices of each closed boundary of triangles (F, 3), in their order."""
    start, end = faces.ravel(), np.roll(faces, -1, axis=1).ravel()
    count = int(faces.max(initial=0)) + 1
    key, reverse = start * count + end, end * count + start
    border = ~np.isin(key, reverse)
    after = dict(zip(start[border].tolist(), end[border].tolist()))
    loops = []
    while after:
        first, vertex = after.popitem()
        loop = [first]
        while vertex in after:
            loop.append(vertex)
            vertex = after.pop(vertex)
        if vertex == first:
            loops.append(np.array(loop))
    return loops


def _is_mouth(edge: np.ndarray, binding: Binding, rest: np.ndarray) -> bool:
    """Return whether a boundary lies on the skin between the lips, and the jaw opens it."""
    on_skin = np.isin(edge, binding.moving[binding.canonical >= 0])
    lips, points = rest[binding.landmarks68[48:68]], rest[edge]
    width = float(np.ptp(lips[:, 0]))
    beyond = width * np.array([EDGE_BESIDE, EDGE_BEYOND, EDGE_BEHIND])
    low, high = lips.min(0) - beyond, lips.max(0) + beyond
    inside = ((points > low) & (points < high)).all(1)
    if on_skin.mean() < 0.5 or not inside.all() or np.ptp(points[:, 0]) < MIN_EDGE_WIDTH * width:
        return False
    jaw = binding.face.expression_names.index("jawOpen")
    place = np.searchsorted(binding.moving, edge).clip(0, len(binding.moving) - 1)
    moved = binding.targets[jaw, place] @ binding.placement.rotation[:, 1] / binding.scale
    moved = np.where(binding.moving[place] == edge, moved, 0)
    return float(np.ptp(moved)) > MIN_OPENING_MM


def _is_lined(edge: np.ndarray, binding: Binding, rest: np.ndarray) -> bool:
    """Return whether a mesh has its own mouth behind an edge: another part that begins there."""
    if binding.parts.get("mouth_lining"):
        return True
    reach = TOUCHING_MM if binding.has_teeth else LINED_MM
    parts = binding.moving[binding.canonical < 0]
    if not len(parts):
        return False
    points, others = rest[edge], rest[parts]
    near = ((others > points.min(0) - reach) & (others < points.max(0) + reach)).all(1)
    others = others[near]
    if not len(others):
        return False
    distance = np.linalg.norm(points[:, None] - others, axis=2).min(1)
    return float((distance < reach).mean()) > LINED_FRACTION


def _from_right_corner(edge: np.ndarray, rest: np.ndarray) -> np.ndarray:
    """Return an edge rotated and turned so that it begins as `mouth_edge` says."""
    edge = np.roll(edge, -int(rest[edge, 0].argmin()))
    left = int(rest[edge, 0].argmax())
    if rest[edge[: left + 1], 1].mean() < rest[edge[left:], 1].mean():
        edge = np.roll(edge[::-1], 1)
    return edge
