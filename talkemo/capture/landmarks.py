"""Kinds of landmarks: where they lie on the canonical face, how much each counts in a fit, which shapes they show."""

from __future__ import annotations

import numpy as np

from ..errors import InputError
from ..face.canonical import JAW_LINE, LIP_PAIRS, Face

LARGEST_PIXEL = 1e6  # px, of a landmark
SMALLEST_FACE = 1e-2  # px, spread of the landmarks of a frame
FLATTEST_FACE = 1e-3  # of the spread along the longer axis, across it: less is a line
CONTOUR_WEIGHT = (
    0.1  # of a landmark on the face's outline, which slides over the skin as the head turns
)
# First parts of the names of blend shapes that landmarks on the skin do not show: gaze (the lids follow eyeBlink and
# eyeWide) and puffed cheeks.
UNSEEN = ("eyeLook", "cheekPuff", "PupilDilate")
# MediaPipe's face oval.
OVAL = frozenset(
    map(
        int,
        "10 338 297 332 284 251 389 356 454 323 361 288 397 365 379 378 400 377 152 148 176 149 150 136 172 58 132 93 234 "
        "127 162 21 54 103 67 109".split(),
    )
)

# Upper and lower inner lip, facing each other, as MediaPipe's ids.
MESH_LIP_PAIRS = ((13, 14), (82, 87), (312, 317), (81, 178), (311, 402))


def seen_shapes(face: Face) -> np.ndarray:
    """Indices of the blend shapes that landmarks show."""
    return np.flatnonzero([not name.startswith(UNSEEN) for name in face.expression_names])


def lip_pairs(points: np.ndarray | None) -> np.ndarray:
    """Rows (Q, 2) of landmarks that face each other across the mouth.

    points: ids (P,) of MediaPipe's mesh, or None for the 68 iBUG points
    """
    if points is None:
        return np.array(LIP_PAIRS)
    rows = {int(k): i for i, k in enumerate(points)}
    return np.array(
        [(rows[a], rows[b]) for a, b in MESH_LIP_PAIRS if a in rows and b in rows], int
    ).reshape(-1, 2)


def schema(face: Face, points: np.ndarray | None) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """How to fit a kind of landmarks: those to keep (P',), the operator (P', V) and the weights (P',).

    points: ids of MediaPipe's mesh, or None for the 68 iBUG points. Irises are not on the skin and are left out.
    """
    if points is None:
        weights = np.ones(68)
        weights[JAW_LINE] = CONTOUR_WEIGHT
        return np.arange(68), face.landmark_operator(), weights
    keep = np.flatnonzero(np.isin(points, face.mesh_points))
    weights = np.array([CONTOUR_WEIGHT if int(points[k]) in OVAL else 1.0 for k in keep])
    return keep, face.mediapipe_operator(points[keep]), weights


def check_spread(recordings: list[np.ndarray], name: str) -> None:
    """Raise InputError for landmarks, each (T, P, 2) px, of which a frame's are in one place, on a line or far out.

    Frames with NaN are left alone: no face was found there. name: of the file, in messages
    """
    hint = "landmarks are (T, 68, 2) numbers in pixels, NaN in frames without a face"
    for start, pixels in (
        (k, whole[k : k + 1000]) for whole in recordings for k in range(0, len(whole), 1000)
    ):
        seen = np.flatnonzero(np.isfinite(pixels).all((1, 2)))
        points = pixels[seen].astype(np.float64)
        if np.abs(points).max(initial=0.0) > LARGEST_PIXEL:
            raise InputError(f"{name}: landmarks of up to {np.abs(points).max():.0e} px", hint)
        points -= points.mean(1, keepdims=True)
        values = np.linalg.eigvalsh(
            points.transpose(0, 2, 1) @ points
        )  # of the squared spreads, ascending
        bad = (values[:, 1] < SMALLEST_FACE**2) | (values[:, 0] < FLATTEST_FACE**2 * values[:, 1])
        if bad.any():
            frame = start + seen[np.flatnonzero(bad)[0]]
            raise InputError(
                f"{name}: the landmarks of frame {frame} are in one place or on a line", hint
            )
