"""What lips do, as linear measures of a motion's coordinates: opening, width, protrusion, shapes.

Each measure is a gradient (S,): its value is `coordinates @ gradient`, 0 at rest.
"""

from __future__ import annotations

import numpy as np

from .canonical import INNER_LIPS, LIP_PAIRS, LIPS, MOUTH_CORNERS, Face

UPPER_LIP = 51  # iBUG index of the middle of the outer upper lip
# Blend shapes that people recognise on lips, both sides together.
LIP_SHAPES = (
    "mouthPucker mouthFunnel mouthPress mouthRollUpper mouthRollLower mouthShrugUpper "
    "mouthShrugLower mouthUpperUp mouthLowerDown mouthStretch mouthSmile"
).split()


def distance_gradients(face: Face) -> dict[str, np.ndarray]:
    """Return the gradients (S,) float32 mm of the mouth's measures by 1 mm of each coordinate.

    `opening` is the vertical distance of the inner lips, `width` the horizontal one of the corners,
    `protrusion` how far the middle of the upper lip is in front of its place at rest. The lower lip
    and the corners do not show it: they go back and forth with the jaw and with a smile.
    """
    span = face.span[:, face.landmarks68]  # (S, 68, 3)
    upper, lower = INNER_LIPS
    right, left = MOUTH_CORNERS
    return {
        "opening": span[:, upper, 1] - span[:, lower, 1],
        "width": span[:, left, 0] - span[:, right, 0],
        "protrusion": span[:, UPPER_LIP, 2],
    }


def shape_gradients(face: Face) -> dict[str, np.ndarray]:
    """Return the gradients (S,) float32 of LIP_SHAPES: blend-shape weight by 1 mm."""
    gradients = {}
    for name in LIP_SHAPES:
        sides = [k for k, full in enumerate(face.expression_names) if full.startswith(name)]
        gradients[name] = face.coordinates_to_weights[:, sides].mean(1).astype(np.float32)
    return gradients


def lip_gap_gradients(face: Face) -> np.ndarray:
    """Return the gradients (S, 3) of the inner lips' opening, mm: right, in the middle, left."""
    span = face.span[:, face.landmarks68, 1]
    upper, lower = np.transpose(LIP_PAIRS)
    return span[:, upper] - span[:, lower]


def unit_side_openings(face: Face) -> np.ndarray:
    """Return coordinates (2, S) float32 mm that open the lips by 1 mm on the right or on the left.

    The middle and the other side stay as they are.
    """
    return unit_lip_gaps(face, ("jaw", "mouth"))[[0, 2]]


def unit_lip_gaps(face: Face, prefixes: tuple[str, ...] = ("mouth",)) -> np.ndarray:
    """Return coordinates (3, S) float32 mm that open the lips by 1 mm: right, in the middle, left.

    The other two places stay as they are. Of all combinations of the blend shapes whose names begin
    so it is the one that moves the face least.
    """
    rows = [k for k, name in enumerate(face.expression_names) if name.startswith(prefixes)]
    to_mm = face.weights_to_coordinates[rows].astype(np.float64)
    gaps = to_mm @ lip_gap_gradients(face)  # (shapes, 3) mm by each shape at weight 1
    solved = np.linalg.solve(face.regularised_gram[np.ix_(rows, rows)].astype(np.float64), gaps)
    weights = np.linalg.solve(gaps.T @ solved, solved.T)
    return (weights @ to_mm).astype(np.float32)


def without_opening(face: Face) -> np.ndarray:
    """Return the matrix (S, S) that takes the opening of jaw and lips out of coordinates.

    The jaw stays where it is, and lips close what lips have opened: if the jaw did, the lower teeth
    would rise.
    """
    size, jaw = len(face.span), face.expression_names.index("jawOpen")
    still = np.eye(size) - np.outer(
        face.coordinates_to_weights[:, jaw], face.weights_to_coordinates[jaw]
    )
    closed = np.eye(size) - lip_gap_gradients(face) @ unit_lip_gaps(face)
    return (still @ closed).astype(np.float32)


def lip_contour(face: Face, coordinates: np.ndarray) -> np.ndarray:
    """Return the 20 iBUG points (T, 20, 3) mm of the lips for coordinates (T, S)."""
    vertices = face.landmarks68[LIPS]
    return face.mean[vertices] + np.tensordot(coordinates, face.span[:, vertices], 1)
