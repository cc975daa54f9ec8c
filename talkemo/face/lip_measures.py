"""What lips do, as linear measures of a motion's coordinates: opening, width, protrusion, shapes.

Each measure is a gradient (S,): its value is `coordinates @ gradient`, 0 at rest.
"""

from __future__ import annotations

import numpy as np

from .canonical import INNER_LIPS, LIPS, MOUTH_CORNERS, Face

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


def lip_contour(face: Face, coordinates: np.ndarray) -> np.ndarray:
    """Return the 20 iBUG points (T, 20, 3) mm of the lips for coordinates (T, S)."""
    vertices = face.landmarks68[LIPS]
    return face.mean[vertices] + np.tensordot(coordinates, face.span[:, vertices], 1)
