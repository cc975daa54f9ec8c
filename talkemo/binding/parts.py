"""Parts of a mesh other than skin: recognises each by its position, and assigns its motion."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

import numpy as np
from scipy.spatial import cKDTree

from ..face.canonical import EYE_CENTRES_MM, LEFT_EYE, RIGHT_EYE, Face
from .body import Body
from .mouth import Mouth

TOUCH_MM = 2.5  # vertices closer to the skin touch it
# A part is attached to the skin if at least this fraction of its rim touches the skin.
ATTACHED_RIM_FRACTION = 0.3
PART_MARGIN_MM = 20.0  # around the fitted face's box; parts outside stay still
MIN_PART_VERTICES = 3  # smaller parts stay still
EYE_OFFSET_MM = 14.0  # largest distance of an eye's middle from the expected centre
EYE_EXTENT_MM = 45.0  # largest extent of an eye
SPHERE_OFFSET_MM = 30.0  # largest distance of an eyeball's centre from the mean of its vertices
# A part with upper and lower teeth: least width, relative to the mouth's, and least height.
BOTH_JAWS_WIDTH, BOTH_JAWS_HEIGHT_MM = 0.6, 18.0
# Vertices of a mouth's inside that is attached to the lips follow the lips within this distance.
MOUTH_LINING_MM = 8.0
# Lashes, brows, a beard and parts attached behind the skin follow it. Limits of such a part: the
# distance of all its vertices from the fitted face (not checked if its rim is attached), the
# distance of 70 % of them, and the part's extent.
NEAR_SKIN_MM, MOSTLY_NEAR_SKIN_MM, ATTACHMENT_EXTENT_MM = 12.0, 25.0, 110.0


@dataclass
class Parts:
    """Vertices of the recognised parts of a body, by kind."""

    by_kind: dict[str, list[np.ndarray]] = field(default_factory=dict)  # vertices of each part
    eyes: list[tuple[np.ndarray, np.ndarray]] = field(default_factory=list)  # vertices, centre (3,)

    def add(self, kind: str, rows: np.ndarray) -> None:
        """Add the vertices of a part."""
        self.by_kind.setdefault(kind, []).append(rows)

    def vertices(self) -> dict[str, np.ndarray]:
        """Return all vertices (P,) of each kind."""
        return {kind: np.concatenate(rows) for kind, rows in self.by_kind.items()}


@dataclass(frozen=True, eq=False)
class _Piece:
    """A connected part that is not skin, and how it touches the skin."""

    rows: np.ndarray  # (P,), its vertices
    points: np.ndarray  # (P, 3) mm
    middle: np.ndarray  # (3,), of its bounding box
    extent: np.ndarray  # (3,), of its bounding box
    touching: np.ndarray  # (P,) bool
    attached: bool  # its rim lies on the skin


class _Skin:
    """The skin's vertices of a body, with a search tree."""

    def __init__(self, body: Body):
        self.rows = np.flatnonzero(body.skin)
        self.tree = cKDTree(body.points[self.rows])


def place_parts(body: Body, mouth: Mouth) -> Parts:
    """Recognise the parts of a body other than skin, and assign their motion."""
    skin, fitted_tree = _Skin(body), cKDTree(body.fitted)
    centres = eye_centres(body.face, body.fitted)
    eyes: list[list[_Piece]] = [[], []]
    result = Parts()
    result.add("skin", skin.rows)
    for piece in _parts_near_face(body, skin):
        to_eyes = np.linalg.norm(centres - piece.middle, axis=1)
        if _is_eye(piece, to_eyes):
            eyes[int(to_eyes.argmin())].append(piece)
            kind = "eyes"
        elif mouth.contains(piece.middle[None])[0] and piece.points[:, 2].max() < mouth.front + 1:
            kind = _place_in_mouth(body, mouth, piece, skin)
        elif _follows_skin(piece, fitted_tree.query(piece.points)[0]):
            _attach(body, piece, skin)
            kind = "on_skin"
        else:
            kind = "still"
        result.add(kind, piece.rows)
    for eye, centre in zip(eyes, centres):
        if eye:
            rows = np.concatenate([piece.rows for piece in eye])
            result.eyes.append((rows, _sphere_centre(eye[0].points)))
        else:
            result.eyes.append((np.zeros(0, int), centre))
    return result


def _parts_near_face(body: Body, skin: _Skin) -> Iterator[_Piece]:
    """Yield the connected parts that are not skin and lie around the face."""
    low, high = body.fitted.min(0) - PART_MARGIN_MM, body.fitted.max(0) + PART_MARGIN_MM
    order = np.argsort(body.component, kind="stable")
    starts = np.searchsorted(body.component[order], np.arange(1, body.component_count))
    for rows in np.split(order, starts):
        if body.skin[rows[0]] or len(rows) < MIN_PART_VERTICES:
            continue
        points, rim = body.points[rows], body.rim[rows]
        middle = (points.min(0) + points.max(0)) / 2
        if not ((middle > low) & (middle < high)).all():
            continue
        touching = skin.tree.query(points, distance_upper_bound=TOUCH_MM)[0] < TOUCH_MM
        attached = bool(rim.any() and touching[rim].mean() > ATTACHED_RIM_FRACTION)
        yield _Piece(rows, points, middle, np.ptp(points, axis=0), touching, attached)


def _is_eye(piece: _Piece, to_eyes: np.ndarray) -> bool:
    """Return whether a part is an eyeball or in one; flat attached parts are lashes.

    `to_eyes` (2,) is the distance of its middle from the eyes.
    """
    extent = piece.extent
    lash = piece.attached and extent.min() < 0.5 * extent.max()
    return bool(to_eyes.min() < EYE_OFFSET_MM and extent.max() < EYE_EXTENT_MM and not lash)


def _place_in_mouth(body: Body, mouth: Mouth, piece: _Piece, skin: _Skin) -> str:
    """Attach teeth, gums and tongue to the jaw or the skull; return their kind."""
    width, height, _ = piece.extent
    above_line = float((piece.points[:, 1] > mouth.line).mean())
    both_jaws = (
        width > BOTH_JAWS_WIDTH * mouth.width
        and height > BOTH_JAWS_HEIGHT_MM
        and 0.25 < above_line < 0.75
    )
    if both_jaws:
        share = mouth.jaw_share(body, piece.rows)
    else:
        share = np.full(len(piece.rows), float(piece.middle[1] < mouth.line + 2))
    moved = share[:, None] * mouth.jaw_motion(piece.points)
    body.targets[:, piece.rows] = moved.astype(np.float32)
    if piece.attached:  # the inside of a mouth, perhaps with its tongue, that continues the lips
        _attach(body, piece, skin, MOUTH_LINING_MM)
    return "jaw" if share.mean() > 0.5 else "upper_teeth"


def _follows_skin(piece: _Piece, to_fitted: np.ndarray) -> bool:
    """Return whether a part is lashes, brows, a beard, or attached behind the skin like a socket.

    `to_fitted` (P,) mm is the distance of its vertices from the fitted face.
    """
    near = piece.attached or to_fitted.max() < NEAR_SKIN_MM
    mostly_near = np.quantile(to_fitted, 0.7) < MOSTLY_NEAR_SKIN_MM
    small = piece.extent.max() < ATTACHMENT_EXTENT_MM
    return bool(piece.touching.any() and near and mostly_near and small)


def _attach(body: Body, piece: _Piece, skin: _Skin, reach_mm: float = np.inf) -> None:
    """Let a part follow the skin that it touches; vertices within reach of it move harmonically."""
    rows, touching = piece.rows, piece.touching
    distance, near = skin.tree.query(piece.points[touching], k=min(4, len(skin.rows)))
    weight = 1 / (distance + 0.05) ** 2
    weight /= weight.sum(1, keepdims=True)
    skin_targets = body.targets[:, skin.rows[near]]
    body.targets[:, rows[touching]] = np.einsum("mk,smkc->smc", weight, skin_targets)
    free = np.zeros(len(body.points), bool)
    free[rows[~touching & (skin.tree.query(piece.points)[0] < reach_mm)]] = True
    body.fill_harmonic(free)


def eye_centres(face: Face, fitted: np.ndarray) -> np.ndarray:
    """Return the expected eyeball centres (2, 3) mm of a fitted face (V, 3), right first."""
    lids = [face.landmarks68[points] for points in (RIGHT_EYE, LEFT_EYE)]
    return EYE_CENTRES_MM + np.stack([fitted[lid].mean(0) - face.mean[lid].mean(0) for lid in lids])


def _sphere_centre(points: np.ndarray) -> np.ndarray:
    """Return the centre (3,) of the least-squares sphere through points (P, 3)."""
    middle = points.mean(0)
    p = points - middle
    design = np.column_stack([2 * p, np.ones(len(p))])
    offset = np.linalg.lstsq(design, np.square(p).sum(1), rcond=None)[0][:3]
    return middle + offset if np.linalg.norm(offset) < SPHERE_OFFSET_MM else middle
