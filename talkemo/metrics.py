"""How far one motion is from another (3D-TalkEmo, section 4.3). Lengths in mm; every figure goes with a mask.

Shapes: predicted and reference vertices or displacements (T, V, 3) of the canonical face at the same times.
"""

from __future__ import annotations

import numpy as np

from .face import Face


def reconstruction_error(predicted: np.ndarray, reference: np.ndarray) -> float:
    """RE: mean distance over frames and vertices, mm."""
    return float(np.linalg.norm(predicted - reference, axis=2).mean())


def velocity_error(predicted: np.ndarray, reference: np.ndarray) -> float:
    """VE: mean distance between the two motions from one frame to the next, mm a frame; needs two frames."""
    return float(np.linalg.norm(np.diff(predicted, axis=0) - np.diff(reference, axis=0), axis=2).mean())


def mouth_opening(displacement: np.ndarray, face: Face) -> np.ndarray:
    """Distance (T,) mm between the middles of the inner lips, iBUG points 63 and 67, of displacements (T, V, 3)."""
    upper, lower = face.landmarks68[[62, 66]]
    return np.linalg.norm(face.mean[upper] + displacement[:, upper] - face.mean[lower] - displacement[:, lower], axis=1)


def mouth_width(displacement: np.ndarray, face: Face) -> np.ndarray:
    """Distance (T,) mm between the corners of the mouth, iBUG points 49 and 55."""
    right, left = face.landmarks68[[48, 54]]
    return np.linalg.norm(face.mean[right] + displacement[:, right] - face.mean[left] - displacement[:, left], axis=1)


def pearson(a: np.ndarray, b: np.ndarray) -> float:
    """Pearson's r of two series (T,); 0 where one of them does not move."""
    if a.std() < 1e-9 or b.std() < 1e-9:
        return 0.0
    return float(np.corrcoef(a, b)[0, 1])
