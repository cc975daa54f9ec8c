"""What lips do, as linear measures of a motion's coordinates: opening, width, protrusion, shapes.

Each measure is a gradient (S,): its value is `coordinates @ gradient`, 0 at rest.
"""

from __future__ import annotations

import numpy as np

from .canonical import INNER_LIPS, LIPS, MOUTH_CORNERS, Face

# iBUG indices of the middles of the outer upper and lower lip.
OUTER_LIPS = (51, 57)
# Blend shapes that people recognise on lips, both sides together.
LIP_SHAPES = (
    "mouthPucker mouthFunnel mouthPress mouthRollUpper mouthRollLower mouthShrugUpper "
    "mouthShrugLower mouthUpperUp mouthLowerDown mouthStretch mouthSmile"
).split()


def distance_gradients(face: Face) -> dict[str, np.ndarray]:
    """Return the gradients (S,) float32 mm of the mouth's measures by 1 mm of each coordinate.

    `opening` is the vertical distance of the inner lips, `width` the horizontal one of the corners,
    `protrusion` how far the middles of both outer lips are in front of the corners.
    """
    span = face.span[:, face.landmarks68]  # (S, 68, 3)
    upper, lower = INNER_LIPS
    right, left = MOUTH_CORNERS
    corners = span[:, [right, left], 2].mean(1)
    return {
        "opening": span[:, upper, 1] - span[:, lower, 1],
        "width": span[:, left, 0] - span[:, right, 0],
        "protrusion": span[:, list(OUTER_LIPS), 2].mean(1) - corners,
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
