"""Kinds of landmarks: where they lie on the canonical face, and how much each counts in a fit."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from ..errors import InputError
from ..face.canonical import JAW_LINE, LIP_PAIRS, MOUTH_CORNERS, Face

MAX_COORDINATE_PX = 1e6  # landmarks farther out are refused
MIN_SPREAD_PX = 1e-2  # frames with a smaller spread are refused: all landmarks in one place
# Least ratio of the landmarks' spreads across and along: below it, they lie on a line.
MIN_SPREAD_RATIO = 1e-3
SPREAD_CHUNK_FRAMES = 1000  # frames checked at a time, which bounds the memory
# Weight of landmarks on the face's outline, which slides over the skin as the head turns.
CONTOUR_WEIGHT = 0.1
# Blend shapes (first parts of names) that landmarks on the skin do not show: gaze and cheek puff.
# Lids that follow the gaze are described by eyeBlink and eyeWide.
UNOBSERVED_SHAPES = ("eyeLook", "cheekPuff", "PupilDilate")
# MediaPipe's face oval.
FACE_OVAL_IDS = frozenset(
    int(landmark)
    for landmark in (
        "10 338 297 332 284 251 389 356 454 323 361 288 397 365 379 378 400 377 "
        "152 148 176 149 150 136 172 58 132 93 234 127 162 21 54 103 67 109"
    ).split()
)
# Upper and lower inner lip, facing each other, as MediaPipe's ids.
MESH_LIP_PAIRS = ((13, 14), (82, 87), (312, 317), (81, 178), (311, 402))
# Corners of the outer and of the inner lips, as MediaPipe's ids and as indices of iBUG's points.
MESH_CORNER_PAIRS = ((61, 291), (78, 308))
IBUG_CORNER_PAIRS = (MOUTH_CORNERS, (60, 64))


@dataclass(frozen=True, eq=False)
class LandmarkSchema:
    """How one kind of landmarks relates to the canonical face of V vertices."""

    rows: np.ndarray  # (P,) the landmarks that are fitted, as rows of a frame's landmarks
    operator: np.ndarray  # (P, V) maps the face's vertices to these landmarks
    weights: np.ndarray  # (P,) weight of each in a fit
    lip_pairs: np.ndarray  # (Q, 2) indices into `rows` of landmarks facing across the mouth
    corner_pairs: np.ndarray  # (W, 2) indices into `rows` of corners of the lips

    @classmethod
    def of(cls, face: Face, mesh_ids: np.ndarray | None) -> LandmarkSchema:
        """Return the schema of the 68 iBUG landmarks, or of landmarks of MediaPipe's mesh.

        Parameters
        ----------
        face : Face
        mesh_ids : (P',) int or None
            Ids on MediaPipe's mesh, None for the 68 iBUG landmarks. Irises are not on the skin and
            are left out.
        """
        if mesh_ids is None:
            weights = np.ones(68)
            weights[JAW_LINE] = CONTOUR_WEIGHT
            pairs = np.array(LIP_PAIRS), np.array(IBUG_CORNER_PAIRS)
            return cls(np.arange(68), face.landmark_operator(), weights, *pairs)
        rows = np.flatnonzero(np.isin(mesh_ids, face.mesh_points))
        ids = [int(landmark) for landmark in mesh_ids[rows]]
        weights = np.array([CONTOUR_WEIGHT if k in FACE_OVAL_IDS else 1.0 for k in ids])
        pairs = (_indices_of(MESH_LIP_PAIRS, ids), _indices_of(MESH_CORNER_PAIRS, ids))
        return cls(rows, face.mediapipe_operator(mesh_ids[rows]), weights, *pairs)


def _indices_of(pairs: tuple[tuple[int, int], ...], ids: list[int]) -> np.ndarray:
    """Return the indices (Q, 2) of those pairs of ids of which both are in a list."""
    found = [(ids.index(a), ids.index(b)) for a, b in pairs if a in ids and b in ids]
    return np.array(found, int).reshape(-1, 2)


def mesh_ids_of(landmarks: np.ndarray) -> np.ndarray | None:
    """Return the ids on MediaPipe's mesh of landmarks (T, P, 2), None for the 68 of iBUG."""
    return None if landmarks.shape[1] == 68 else np.arange(landmarks.shape[1])


def observed_shapes(face: Face) -> np.ndarray:
    """Return the indices of the blend shapes that landmarks show."""
    observed = [not name.startswith(UNOBSERVED_SHAPES) for name in face.expression_names]
    return np.flatnonzero(observed)


def check_spread(recordings: list[np.ndarray], name: str) -> None:
    """Refuse landmarks that cannot be a face: in one place, on a line, or far out.

    Parameters
    ----------
    recordings : list of (T, P, 2) arrays
        Landmarks in pixels. Frames with NaN, where no face was found, are skipped.
    name : str
        The file's name in messages.

    Raises
    ------
    InputError
        With the first frame that is refused.
    """
    for landmarks in recordings:
        for start in range(0, len(landmarks), SPREAD_CHUNK_FRAMES):
            _check_spread_from(start, landmarks[start : start + SPREAD_CHUNK_FRAMES], name)


def _check_spread_from(start: int, landmarks: np.ndarray, name: str) -> None:
    """Refuse landmarks (T, P, 2) as `check_spread`; `start` is the number of their first frame."""
    hint = "landmarks are (T, 68, 2) numbers in pixels, NaN in frames without a face"
    seen = np.flatnonzero(np.isfinite(landmarks).all((1, 2)))
    points = landmarks[seen].astype(np.float64)
    farthest = np.abs(points).max(initial=0.0)
    if farthest > MAX_COORDINATE_PX:
        raise InputError(f"{name}: landmarks of up to {farthest:.0e} px", hint)
    points -= points.mean(1, keepdims=True)
    # The squared spreads across and along.
    across, along = np.linalg.eigvalsh(points.transpose(0, 2, 1) @ points).T
    bad = (along < MIN_SPREAD_PX**2) | (across < MIN_SPREAD_RATIO**2 * along)
    if bad.any():
        frame = start + seen[np.flatnonzero(bad)[0]]
        raise InputError(
            f"{name}: the landmarks of frame {frame} are in one place or on a line", hint
        )
