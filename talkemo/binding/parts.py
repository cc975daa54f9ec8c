"""Skin and other parts of a mesh: recognises each by its shape and place, and assigns its motion."""

from __future__ import annotations

from dataclasses import dataclass, field, replace

import numpy as np
import scipy

from .body import Body
from .eyeballs import Ball, find_eyeballs, joined_eyeballs, turns_with
from .features import Features
from .followed import FollowedSkin
from .lids import fit_lids
from .lip_cut import Seam
from .lip_seam import place_seam
from .mouth import Mouth
from .mouth_lining import place_lining
from .mouth_parts import MouthPiece, parts_in_mouth
from .pieces import Piece, pieces_near_face
from .skin import place_skin

# Eyes that are no balls: largest distance of the middle from the expected centre, and extent.
EYE_OFFSET_MM, EYE_EXTENT_MM = 14.0, 45.0
LASH_FLATNESS = 0.5  # smallest extent by largest, below which an attached part is a lash
TOUCH_MM = 2.5  # vertices closer to the skin touch it
ROOT_MM = 1.0  # vertices of a part this much farther from the skin than the nearest are its root
# Stiffness mm of following the skin at a distance of 1 mm, beside the edges' inverse lengths; it
# falls with the square of the distance, of which the minimum counts as none.
HANGING_STIFFNESS_MM, MIN_HANGING_MM = 2.0, 0.3
# A part is attached to the skin if at least this fraction of its rim touches the skin.
ATTACHED_RIM_FRACTION = 0.3
# Vertices of both jaws that are attached to the lips follow the lips within this distance.
MOUTH_LINING_MM = 8.0
# Lashes, brows, a beard and parts attached behind the skin follow it. Limits of such a part: the
# distance of all its vertices from the fitted face (not checked if its rim is attached), the
# distance of 70 % of them, and the part's extent.
NEAR_SKIN_MM, MOSTLY_NEAR_SKIN_MM, ATTACHMENT_EXTENT_MM = 12.0, 25.0, 110.0
LASH_REACH_MM = 14.0  # largest distance of a lash's vertices from the edges of the lids
# Box of a brow: below and above the landmarks' line, and how far it may float over the skin.
BROW_BELOW_MM, BROW_ABOVE_MM, BROW_FLOATS_MM = 12.0, 16.0, 14.0
BROW_HEIGHT_MM, BROW_SLOPE = 12.0, 0.8  # a higher part is a brow if its height by its width is less
# What begins this far above the brows is hair; strands, higher than wide, already from the second.
HAIR_ABOVE_BROWS_MM, STRAND_ABOVE_BROWS_MM = 22.0, 6.0
FLAT_MM, LENS_WIDTH_MM = 14.0, 24.0  # largest depth and least width of a lens
BOTH_LIDS = 0.35  # fraction of a part's roots that are at either lid, if it lies along both
CORNEA_QUANTILE, MAX_CORNEA = 0.99, 1.15  # of an eyeball's points, and of its radius
NAMES_IN_MOUTH = {"lining": "mouth_lining", "both_jaws": "jaw"}  # in `Parts`, of kinds in the mouth
BEARD_FLOATS_MM, BEARD_EXTENT_MM = 16.0, 190.0  # distance of half a beard, and its extent


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


def place_body(body: Body, seam: Seam | None = None) -> Parts:
    """Recognise skin, eyes, teeth and other parts of a body, and assign the motion of all.

    `seam` is that of lips which were cut apart.
    """
    mouth, features = Mouth(body.face, body.fitted), Features(body.face, body.fitted)
    pieces, eyes = _pieces_and_eyes(body, features)
    others = [piece for piece in pieces if piece not in eyes.pieces]
    in_mouth, cut = parts_in_mouth(others, features, mouth)
    taken = {*eyes.pieces, *(part.piece for part in in_mouth)}
    for piece in pieces:
        body.other[piece.rows] = piece in taken or piece.kind == "hidden"
    place_skin(body, mouth, features)
    if seam is not None:
        place_seam(body, seam)
    fit_lids(body, features, eyes.balls_with_corneas())
    skin = FollowedSkin(body, features, np.flatnonzero(body.skin))
    result = Parts()
    result.add("skin", skin.rows)
    for part in in_mouth:
        _place_in_mouth(body, mouth, part, cut, skin)
        name = NAMES_IN_MOUTH.get(part.kind, part.kind)
        result.add("hidden" if part.piece.kind == "hidden" else name, part.piece.rows)
    for piece in pieces:
        if piece not in taken and not body.skin[piece.rows[0]]:
            kind = _place_on_skin(body, piece, skin, eyes)
            if kind is not None:
                result.add(kind, piece.rows)
    for piece in eyes.pieces:
        result.add("eyes", piece.rows)
    result.eyes = eyes.rows_and_centres()
    return result


def _place_on_skin(body: Body, piece: Piece, skin: FollowedSkin, eyes: _Eyes) -> str | None:
    """Let a piece that is neither skin nor in the mouth follow the skin or stay; return which.

    None if it is added to the eyes.
    """
    touch = _Touch(piece, skin)
    if not eyes.balls and piece.kind != "hidden" and eyes.add_other(piece, touch):
        return None
    if not _follows_skin(piece, touch, skin.features):
        return "still"
    _hang(body, piece, touch, skin)
    return "on_skin"


def _pieces_and_eyes(body: Body, features: Features) -> tuple[list[Piece], _Eyes]:
    """Return the pieces near the face, and the eyes among them.

    Eyeballs that are joined with other parts become pieces of their own.
    """
    pieces = pieces_near_face(body)
    eyes = _Eyes(features, _shown(pieces))
    if len(eyes.balls) < 2:
        joined = [rows for rows in joined_eyeballs(body, features) if len(rows)]
        if len(joined) + len(eyes.balls) >= 2:
            for rows in joined:
                body.separate(rows)
            pieces = pieces_near_face(body)
            eyes = _Eyes(features, _shown(pieces))
    return pieces, eyes


def _shown(pieces: list[Piece]) -> list[Piece]:
    """Return the pieces that are drawn."""
    return [piece for piece in pieces if piece.kind != "hidden"]


# ------------------------------------------------------------------------------------------- eyes


class _Eyes:
    """The pieces of the right and of the left eye, and their centres."""

    def __init__(self, features: Features, pieces: list[Piece]):
        self.centres = list(features.eye_centres)
        reach = 3 * EYE_OFFSET_MM
        near = [
            piece
            for piece in pieces
            if np.linalg.norm(features.eye_centres - piece.middle, axis=1).min() < reach
        ]
        found = find_eyeballs(features, [piece.points for piece in near])
        self.balls_by_side = found
        self.balls = [ball for ball in found if ball is not None]
        self.sides: list[list[Piece]] = [[], []]
        self.features = features
        for side, ball in enumerate(found):
            if ball is None:
                continue
            self.centres[side] = ball.centre
            self.sides[side] = [
                piece
                for k, piece in enumerate(near)
                if k == ball.part or turns_with(ball, piece.points)
            ]

    def balls_with_corneas(self) -> list[Ball | None]:
        """Return the balls by side, as large as their corneas are far from their centres."""
        result: list[Ball | None] = []
        for ball, pieces in zip(self.balls_by_side, self.sides):
            if ball is not None:
                from_centre = np.concatenate([piece.points for piece in pieces]) - ball.centre
                front = np.linalg.norm(from_centre[from_centre[:, 2] > 0], axis=1)
                radius = np.quantile(front, CORNEA_QUANTILE) if len(front) else ball.radius
                radius = np.clip(radius, ball.radius, MAX_CORNEA * ball.radius)
                ball = replace(ball, radius=float(radius))
            result.append(ball)
        return result

    @property
    def pieces(self) -> list[Piece]:
        """Pieces of both eyes."""
        return self.sides[0] + self.sides[1]

    def add_other(self, piece: Piece, touch: _Touch) -> bool:
        """Add a piece of an eye that is no ball, such as an iris on a plate; return whether it is.

        Flat attached parts are lashes.
        """
        to_eyes = np.linalg.norm(self.features.eye_centres - piece.middle, axis=1)
        if piece.named in ("lashes", "brows"):
            return False
        slack = piece.slack("eyes")
        lash = touch.attached and piece.extent.min() < LASH_FLATNESS * piece.extent.max()
        near = to_eyes.min() < slack * EYE_OFFSET_MM
        is_eye = near and piece.extent.max() < slack * EYE_EXTENT_MM
        is_eye &= not (_is_lens(piece, self.features) if slack > 1 else lash)
        if is_eye:
            self.sides[int(to_eyes.argmin())].append(piece)
        return bool(is_eye)

    def rows_and_centres(self) -> list[tuple[np.ndarray, np.ndarray]]:
        """Return the vertices and the centre (3,) of the right and of the left eye."""
        none = [np.zeros(0, int)]
        return [
            (np.concatenate([piece.rows for piece in side] or none), centre)
            for side, centre in zip(self.sides, self.centres)
        ]


# ------------------------------------------------------------------------------------------ mouth


def _place_in_mouth(
    body: Body, mouth: Mouth, part: MouthPiece, cut: float, skin: FollowedSkin
) -> None:
    """Attach teeth, gums or a tongue to jaw or skull, or a lining to the lips.

    `cut` is the height that divides the jaws.
    """
    piece, rows = part.piece, part.piece.rows
    if part.kind == "lining":
        touch = _Touch(piece, skin)
        _attach(body, piece, touch.touching, skin, 0.0)
        place_lining(body, mouth, rows[~touch.touching], skin)
    elif part.kind == "both_jaws":
        share = mouth.jaw_share(body, rows, cut)
        body.targets[:, rows] = share[:, None] * mouth.jaw_motion(piece.points)
        touch = _Touch(piece, skin)
        if touch.attached:
            _attach(body, piece, touch.touching, skin, MOUTH_LINING_MM)
    elif part.kind == "jaw":
        body.targets[:, rows] = mouth.jaw_motion(piece.points)


# ------------------------------------------------------------------------------ what hangs on skin


class _Touch:
    """Where a piece touches the skin.

    Attributes
    ----------
    distance : (P,)
        Of its vertices from the skin, mm.
    touching, root : (P,) bool
        Vertices that touch it, and those that are nearest to it, touching it or not.
    attached : bool
        Whether its rim lies on the skin.
    """

    def __init__(self, piece: Piece, skin: FollowedSkin):
        self.distance = skin.tree.query(piece.points)[0]
        self.touching = self.distance < TOUCH_MM
        rim = piece.rim
        self.attached = bool(rim.any() and self.touching[rim].mean() > ATTACHED_RIM_FRACTION)
        self.root = self.distance < self.distance.min() + ROOT_MM


def _follows_skin(piece: Piece, touch: _Touch, features: Features) -> bool:
    """Return whether a part hangs on skin that moves: lashes, brows, a beard, a socket.

    Hair and glasses do not: they stay with the skull.
    """
    points, extent = piece.points, piece.extent
    to_fitted = features.tree.query(points)[0]
    if _is_at_lids(piece, features):
        return True
    above_brows = points[:, 1] - features.brow_height(points[:, 0])
    if _is_brow(above_brows, to_fitted, extent, piece.slack("brows")):
        return True
    is_strand = extent[1] > extent[0] and above_brows.max() > STRAND_ABOVE_BROWS_MM
    is_hair = is_strand or above_brows.max() > HAIR_ABOVE_BROWS_MM
    if is_hair or _is_lens(piece, features):
        return False
    if _is_beard(piece, to_fitted, features):
        return True
    near = touch.attached or to_fitted.max() < NEAR_SKIN_MM
    mostly_near = np.quantile(to_fitted, 0.7) < MOSTLY_NEAR_SKIN_MM
    return bool(
        touch.touching.any() and near and mostly_near and extent.max() < ATTACHMENT_EXTENT_MM
    )


def _is_brow(
    above_brows: np.ndarray, to_fitted: np.ndarray, extent: np.ndarray, slack: float
) -> bool:
    """Whether a part lies along the brows: heights (P,) above them, distances (P,) from the skin.

    Hair that hangs over a brow is higher than wide. `slack` is the factor of the limits.
    """
    above, below = slack * BROW_ABOVE_MM, slack * BROW_BELOW_MM
    along = above_brows.min() > -below and above_brows.max() < above
    lying = extent[1] < max(slack * BROW_HEIGHT_MM, BROW_SLOPE * extent[0])
    return bool(along and lying and to_fitted.max() < slack * BROW_FLOATS_MM)


def _is_lens(piece: Piece, features: Features) -> bool:
    """Whether a part is a plate before an eye, as the lens of glasses or their frame."""
    lids = np.stack([lids.mean(0) for lids in features.lids])
    before = piece.points[:, 2].mean() > lids[:, 2].max()
    low, high = piece.points.min(0), piece.points.max(0)
    covers = ((lids > low) & (lids < high))[:, :2].all(1).any()
    return bool(before and covers and piece.extent[2] < FLAT_MM and piece.extent[0] > LENS_WIDTH_MM)


def _is_beard(piece: Piece, to_fitted: np.ndarray, features: Features) -> bool:
    """Whether a part lies around mouth and chin, mostly below the eyes."""
    low, high = piece.points[:, 1].min(), piece.points[:, 1].max()
    nearest = features.tree.query(piece.points)[1]
    on_lower_face = features.face.regions["lower_face"][nearest].mean() > 0.6
    across = low < features.lip_line[:, 1].max() + 20 and high > features.chin
    near = np.median(to_fitted) < BEARD_FLOATS_MM and piece.extent.max() < BEARD_EXTENT_MM
    return bool(on_lower_face and across and near and high < features.eye_line)


def _is_at_lids(piece: Piece, features: Features) -> bool:
    """Whether all points of a part are close to the edges of the lids, as a lash's are."""
    points, reach = piece.points, piece.slack("lashes") * LASH_REACH_MM
    reached = lambda chosen: features.distance_to_lids(chosen).max() < reach
    return bool(reached(points[:1]) and reached(points))  # most parts are far from the lids


def _hang(body: Body, piece: Piece, touch: _Touch, skin: FollowedSkin) -> None:
    """Let a part follow the skin where it is near it; the rest of it moves along smoothly.

    A lash follows the lid that it grows on, also where it touches the other one. What lies along both
    lids, as a tear line does, follows the closer one.
    """
    points = piece.points
    if _is_at_lids(piece, skin.features):
        roots = points[touch.root]
        above = skin.features.above_eyes(roots)
        if BOTH_LIDS < (above > 0).mean() < 1 - BOTH_LIDS:
            is_upper = above[scipy.spatial.cKDTree(roots).query(points)[1]] > 0
        else:
            is_upper = np.full(len(points), above.mean() > 0)
        motion, distance = skin.motion_of_lids(points, is_upper)
    else:
        motion, distance = skin.motion_of_lips(points)
    stiffness = HANGING_STIFFNESS_MM / (distance**2 + MIN_HANGING_MM**2)
    body.fill_smoothly(piece.rows, motion, stiffness)


def _attach(
    body: Body, piece: Piece, root: np.ndarray, skin: FollowedSkin, reach_mm: float = np.inf
) -> None:
    """Let vertices `root` (P,) bool of a part follow the skin nearest to them.

    Its other vertices within reach of the skin move harmonically.
    """
    rows = piece.rows
    distance, near = skin.tree.query(piece.points[root], k=min(4, len(skin.rows)))
    distance, near = distance.reshape(int(root.sum()), -1), near.reshape(int(root.sum()), -1)
    weight = 1 / (distance + 0.05) ** 2
    weight /= weight.sum(1, keepdims=True)
    skin_targets = body.targets[:, skin.rows[near]]
    body.targets[:, rows[root]] = np.einsum("mk,smkc->smc", weight, skin_targets)
    free = np.zeros(len(body.points), bool)
    free[rows[~root & (skin.tree.query(piece.points)[0] < reach_mm)]] = True
    body.fill_harmonic(free)
