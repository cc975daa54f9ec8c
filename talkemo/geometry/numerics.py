"""Smooth interpolation and least squares with bounds."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np


def smoothstep(x: np.ndarray) -> np.ndarray:
    """Interpolate from 0 (x ≤ 0) to 1 (x ≥ 1) with zero slope at both ends (cubic Hermite)."""
    x = np.clip(x, 0, 1)
    return x * x * (3 - 2 * x)


def bounded_least_squares(
    gram: np.ndarray, target: np.ndarray, iterations: int, upper: np.ndarray | float = 1.0
) -> np.ndarray:
    """Minimise x · gram · x / 2 - target · x over 0 ≤ x ≤ upper by projected FISTA.

    Parameters
    ----------
    gram : (S, S)
        Positive definite normal matrix.
    target : (T, S)
        Right-hand sides; each row is a problem of its own, and so is each row of the result.
    iterations : int
    upper : float, (S,) or (T, S)
    """
    step = 1.0 / np.linalg.norm(gram, 2)
    return accelerated_projection(
        lambda x: x @ gram - target, np.zeros_like(target), step, iterations, upper
    )


def accelerated_projection(
    gradient: Callable[[np.ndarray], np.ndarray],
    start: np.ndarray,
    step: float | np.ndarray,
    iterations: int,
    upper: np.ndarray | float = 1.0,
) -> np.ndarray:
    """Minimise a convex function over 0 ≤ x ≤ upper by FISTA (Beck and Teboulle 2009).

    Parameters
    ----------
    gradient : callable
        The function's gradient at an array like `start`.
    start : array
        Where the search begins.
    step : float or array that broadcasts to `start`
        1 / the largest curvature of the function, or a bound of it for each element whose diagonal
        matrix bounds the Hessian.
    iterations : int
    upper : float or array that broadcasts to `start`
    """
    x = y = start
    momentum = 1.0
    for _ in range(iterations):
        previous, x = x, np.clip(y - step * gradient(y), 0.0, upper)
        next_momentum = (1 + np.sqrt(1 + 4 * momentum**2)) / 2
        y = x + y.dtype.type((momentum - 1) / next_momentum) * (x - previous)
        momentum = next_momentum
    return x
