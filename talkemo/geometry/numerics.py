"""Geometry that several parts share: triangle meshes, closest points, rigid fits, bounded least squares. Plain arrays in and out."""

from __future__ import annotations

import numpy as np


def smoothstep(x: np.ndarray) -> np.ndarray:
    """Hermite interpolation from 0 (x ≤ 0) to 1 (x ≥ 1) with zero slope at both ends."""
    x = np.clip(x, 0, 1)
    return x * x * (3 - 2 * x)


def bounded_least_squares(
    gram: np.ndarray, target: np.ndarray, iterations: int, most: np.ndarray | float = 1.0
) -> np.ndarray:
    """argmin over 0 ≤ x ≤ most of x·gram·x / 2 − target·x, for right-hand sides (T, S), by projected FISTA.

    gram: (S, S), positive definite; most: upper bounds, a number or (S,). Beck and Teboulle 2009.
    """
    step = 1.0 / np.linalg.norm(gram, 2)
    return accelerated_projection(
        lambda y: y @ gram - target, np.zeros_like(target), step, iterations, most
    )


def accelerated_projection(
    slope, start: np.ndarray, step: float, iterations: int, most: np.ndarray | float = 1.0
):
    """Minimise a convex function over 0 ≤ x ≤ most by projected gradient steps with Nesterov's momentum (FISTA).

    slope: the function's gradient, of an array like `start` at which the search begins; step: 1 / its largest curvature
    """
    x = start
    y, momentum = x, 1.0
    for _ in range(iterations):
        new = np.clip(y - step * slope(y), 0.0, most)
        following = (1 + np.sqrt(1 + 4 * momentum**2)) / 2
        y = new + y.dtype.type((momentum - 1) / following) * (new - x)
        x, momentum = new, following
    return x
