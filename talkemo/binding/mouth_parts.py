"""Recognises what lies in a mouth by its shape: rows of teeth, tongue, both jaws, its lining."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import scipy

from .features import Features
from .mouth import Mouth
from .pieces import Piece

# Box of a mouth's inside: half its width in widths of the mouth, below and above the line of the
# lips, and depth behind the face's foremost surface.
INSIDE_HALF_WIDTH, INSIDE_BELOW_MM, INSIDE_ABOVE_MM = 0.8, 38.0, 28.0
INSIDE_DEPTH_MM = (1.0, 110.0)
# Fraction of a part's vertices that lie in it; of one whose name says that it belongs there.
MIN_INSIDE, MIN_NAMED_INSIDE = 0.8, 0.5
# The lining of a mouth begins at the lips: distance of its rim from them, and the fraction of the
# directions around the mouth in which there is such a rim.
RIM_TO_LIPS_MM, RIM_SECTORS, MIN_RIM_SECTORS = 5.0, 12, 0.6
# A row of teeth that is one plate faces forwards and has no depth in the middle of the mouth.
PLATE_FACING, PLATE_DEPTH_MM = 0.5, 10.0
CENTRAL_WIDTH = 0.25  # half width of the middle of the mouth, in widths of the mouth
# A tongue is deep and narrow, and lies no farther above the line of the lips.
TONGUE_DEPTH_MM, TONGUE_WIDTH, TONGUE_ABOVE_MM = 12.0, 0.75, 6.0
# A part with upper and lower teeth: least width, relative to the mouth's, and least height.
BOTH_JAWS_WIDTH, BOTH_JAWS_HEIGHT_MM, BOTH_JAWS_SHARE = 0.6, 18.0, 0.2
CUT_RANGE_MM = 5.0  # around the line of the lips, where upper and lower teeth may meet
CUT_STEP_MM, CUT_PENALTY = 0.5, 0.02  # step of the search; cost of a mm from the line


@dataclass(frozen=True, eq=False)
class MouthPiece:
    """A part in the mouth: `lining`, `upper_teeth`, `jaw` or `both_jaws`."""

    piece: Piece
    kind: str


def parts_in_mouth(
    pieces: list[Piece], features: Features, mouth: Mouth
) -> tuple[list[MouthPiece], float]:
    """Return those of the pieces that lie in the mouth, and the height in mm between the jaws."""
    inside = [piece for piece in pieces if _is_inside(piece, features, mouth)]
    linings = [_is_lining(piece, features, mouth) for piece in inside]
    others = [piece for piece, lining in zip(inside, linings) if not lining]
    cut = _jaw_cut([piece.points[:, 1] for piece in others], mouth.line)
    parts = [
        MouthPiece(piece, "lining" if lining else _kind_in_mouth(piece, mouth, cut))
        for piece, lining in zip(inside, linings)
    ]
    return parts, cut


def _is_inside(piece: Piece, features: Features, mouth: Mouth) -> bool:
    """Whether a part lies behind the lips."""
    middle_x = (mouth.right + mouth.left) / 2
    half_width = INSIDE_HALF_WIDTH * mouth.width
    if abs(piece.middle[0] - middle_x) > half_width or piece.extent[0] > 2.2 * half_width:
        return False
    x, y = piece.points[:, 0], piece.points[:, 1] - mouth.line
    inside = np.abs(x - middle_x) < half_width
    inside &= (y > -INSIDE_BELOW_MM) & (y < INSIDE_ABOVE_MM)
    least = MIN_NAMED_INSIDE if piece.named in ("teeth", "tongue") else MIN_INSIDE
    if inside.mean() < least:
        return False
    depth = features.depth(piece.points)
    inside &= (depth > INSIDE_DEPTH_MM[0]) & (depth < INSIDE_DEPTH_MM[1])
    return bool(inside.mean() > least)


def _central_depth(piece: Piece, mouth: Mouth) -> float:
    """Return the depth of a part in the middle of the mouth, mm."""
    middle_x = (mouth.right + mouth.left) / 2
    central = np.abs(piece.points[:, 0] - middle_x) < CENTRAL_WIDTH * mouth.width
    return float(np.ptp(piece.points[central, 2])) if central.any() else float(piece.extent[2]) / 2


def _is_lining(piece: Piece, features: Features, mouth: Mouth) -> bool:
    """Whether a part is the inside of a mouth: its rim lies around both lips."""
    rim = piece.points[piece.rim]
    if not len(rim):
        return False
    face = features.face
    lips = features.fitted[face.regions["lips"]]
    near = scipy.spatial.cKDTree(lips).query(rim)[0] < max(RIM_TO_LIPS_MM, 2 * piece.body.fit.error)
    x = rim[near, 0] - (mouth.right + mouth.left) / 2
    y = rim[near, 1] - features.lip_height(rim[near, 0])
    sector = np.floor((np.arctan2(3 * y, x) / (2 * np.pi) % 1) * RIM_SECTORS)
    if len(np.unique(sector)) < MIN_RIM_SECTORS * RIM_SECTORS:
        return False
    shallow = _central_depth(piece, mouth) < PLATE_DEPTH_MM
    return not (shallow and piece.facing_front() > PLATE_FACING)


def _jaw_cut(heights: list[np.ndarray], line: float) -> float:
    """Return the height in mm that divides upper from lower teeth.

    It cuts through as few parts as possible, and lies near the line of the lips. `heights` has the
    heights (P,) of the vertices of each part.
    """
    cuts = line + np.arange(-CUT_RANGE_MM, CUT_RANGE_MM + 0.1, CUT_STEP_MM)
    cost = CUT_PENALTY * np.abs(cuts - line)
    for y in heights:
        above = (y > cuts[:, None]).mean(1)
        cost += np.minimum(above, 1 - above)
    return float(cuts[cost.argmin()])


def _kind_in_mouth(piece: Piece, mouth: Mouth, cut: float) -> str:
    """Return whether a part goes with the skull, with the jaw, or has a part of each."""
    width, height, _ = piece.extent
    above = float((piece.points[:, 1] > cut).mean())
    # Gums are of that kind, too; those of the upper jaw lie above.
    is_named = "tongue" in (piece.kind, piece.named)
    if (is_named and above <= 0.5) or _is_tongue(piece, mouth, cut):
        return "jaw"
    spans = BOTH_JAWS_SHARE < above < 1 - BOTH_JAWS_SHARE
    if spans and width > BOTH_JAWS_WIDTH * mouth.width and height > BOTH_JAWS_HEIGHT_MM:
        return "both_jaws"
    return "upper_teeth" if above > 0.5 else "jaw"


def _is_tongue(piece: Piece, mouth: Mouth, cut: float) -> bool:
    """Whether a part is deep in the middle, narrower than the mouth, and not the palate."""
    deep = _central_depth(piece, mouth) > TONGUE_DEPTH_MM
    narrow = piece.extent[0] < TONGUE_WIDTH * mouth.width
    lying = piece.extent[1] < piece.extent[2]
    return bool(deep and narrow and lying and piece.middle[1] < cut + TONGUE_ABOVE_MM)
