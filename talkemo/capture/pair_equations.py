"""Equations of differences between landmarks: gaps between the lips, and widths of the mouth."""

from __future__ import annotations

import numpy as np

from .camera import Pose


def differences(pairs: np.ndarray, landmark_count: int) -> np.ndarray:
    """Return the operator (Q, P) that maps landmarks to the differences of pairs (Q, 2)."""
    operator = np.zeros((len(pairs), landmark_count), np.float32)
    operator[np.arange(len(pairs)), pairs[:, 0]] = 1
    operator[np.arange(len(pairs)), pairs[:, 1]] = -1
    return operator


def difference_equations(
    operator: np.ndarray,
    at_rest: np.ndarray,
    pixels: np.ndarray,
    pose: Pose,
    landmark_design: np.ndarray,
) -> tuple[np.ndarray, np.ndarray]:
    """Return the equations of differences between landmarks, relative to those at rest.

    Parameters
    ----------
    operator : (Q, P)
        Maps landmarks to the differences.
    at_rest : (Q, 3)
        In mm.
    pixels : (T, P, 2)
    pose : Pose
    landmark_design : (T, F, 2·P)
        Of the landmark equations.

    Returns
    -------
    design : (T, F, 2, Q)
    target : (T, 2, Q)
        In mm.
    """
    count, shape_count = landmark_design.shape[:2]
    flip = np.array([1, -1], np.float32)[:, None]  # the image's y axis points down
    target = (pixels.transpose(0, 2, 1) @ operator.T) / pose.scale[:, None, None]
    target -= np.einsum("trc,qc->trq", pose.rotation[:, :2], at_rest) * flip
    return landmark_design.reshape(count, shape_count, 2, -1) @ operator.T, target


def flat_rows(design: np.ndarray, target: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return a design (T, F, 2·Q) and a target (T, 2·Q) of equations in two image axes."""
    return design.reshape(*design.shape[:2], -1), target.reshape(len(target), -1)
