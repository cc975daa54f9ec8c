"""Motion of lips that were cut apart: each edge takes that of the canonical face's lip."""

from __future__ import annotations

import numpy as np

from ..face.openings import CORNER_MARGIN, EdgePoints, face_lips, lip_sides
from .body import Body
from .lip_cut import Seam
from .skin import local_maps

SEAM_REACH_MM = 10.0  # skin around the seam whose side of it is known
FREE_MM = 2.5  # skin whose motion is interpolated between the seam's and that of skin farther off


def place_seam(body: Body, seam: Seam) -> None:
    """Assign the motion of the lips of a body that were cut apart."""
    upper, lower = seam.upper, seam.lower
    lining_rows = np.concatenate([seam.upper_lining.T.ravel(), seam.lower_lining.T.ravel()])
    rows_per_edge = seam.upper_lining.shape[1]
    lining_edge = np.concatenate([np.tile(upper, rows_per_edge), np.tile(lower, rows_per_edge)])

    position = seam.line.position(body.points[upper])
    ends = upper == lower
    upper_motion, lower_motion = _edge_motions(body, position, position[ends])
    body.targets[:, upper], body.targets[:, lower] = upper_motion, lower_motion
    mean = (upper_motion[:, ends] + lower_motion[:, ends]) / 2
    body.targets[:, upper[ends]] = mean

    on_seam = np.zeros(len(body.points), bool)
    on_seam[upper] = on_seam[lower] = True
    inside = np.zeros(len(body.points), bool)
    inside[lining_rows] = True
    free = _near_seam(body, seam, inside) & ~on_seam
    body.fill_harmonic(free & ~inside)
    body.targets[:, lining_rows] = body.targets[:, lining_edge]


def _near_seam(body: Body, seam: Seam, inside: np.ndarray) -> np.ndarray:
    """Return the skin (N,) bool that is close to the seam or was matched to the other lip."""
    from scipy.spatial import cKDTree

    distance = cKDTree(body.points[seam.upper]).query(body.points)[0]
    near = body.skin & ~inside & (distance < SEAM_REACH_MM)
    is_upper, is_lower = lip_sides(body.face)
    above = seam.line.height(body.points) >= 0
    canonical = body.canonical
    matched_wrongly = np.where(above, is_lower[canonical], is_upper[canonical])
    along = seam.line.position(body.points)
    between_corners = (along > 0) & (along < 1)
    return near & ((distance < FREE_MM) | (matched_wrongly & between_corners))


def _edge_motions(
    body: Body, position: np.ndarray, ends: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Return the motion (S, P, 3) of the upper and the lower lip's edge at positions (P,).

    Towards the ends of the cut, at positions (E,), the two become the same.
    """
    lips = face_lips(body.face)
    maps = local_maps(body.face, body.fitted)
    upper, lower = (
        _interpolated(_mapped(body, maps, edge), lips.position, position)
        for edge in (lips.upper, lips.lower)
    )
    mean = (upper + lower) / 2
    to_end = np.abs(position[:, None] - np.append(ends, [0, 1])).min(1)
    apart = np.clip(to_end / CORNER_MARGIN, 0, 1)[:, None]
    return mean + apart * (upper - mean), mean + apart * (lower - mean)


def _mapped(body: Body, maps: np.ndarray, edge: EdgePoints) -> np.ndarray:
    """Return the motion (S, J, 3) of a canonical edge in the proportions of the fitted face."""
    moved = edge.of(body.face.expression_basis)
    at_points = maps[edge.vertices].mean(1)
    return np.einsum("jab,sjb->sja", at_points, moved)


def _interpolated(values: np.ndarray, known: np.ndarray, position: np.ndarray) -> np.ndarray:
    """Interpolate values (S, J, 3) at known positions (J,) linearly at others (P,)."""
    place = np.interp(position, known, np.arange(len(known)))
    column = np.minimum(place.astype(int), len(known) - 2)
    share = (place - column)[:, None]
    return np.asarray((1 - share) * values[:, column] + share * values[:, column + 1])
