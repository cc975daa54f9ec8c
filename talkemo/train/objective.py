"""The talking model's objective: distances between predicted and captured motion over all vertices of the face.

A weighted sum of squared distances over the vertices is a quadratic form of a motion's coordinates. Its matrix is the
weighted Gram matrix of the face's span; with the matrix's Cholesky root the sum becomes a squared norm, at the cost of
one small matrix product.
"""

from __future__ import annotations

import numpy as np
import torch

from ..face.canonical import LIP_PAIRS, MOUTH_CORNERS, Face

CLOSED_LIPS = 1.5  # mm: lips count as closed up to this opening above their distance at rest


def weighted_gram(face: Face, weight: np.ndarray) -> np.ndarray:
    """(S, S) float64: the products of the span's displacements, summed over vertices that count by weight (V,)."""
    span = face.span.reshape(len(face.span), -1)
    return ((span * np.repeat(weight, 3).astype(np.float32)) @ span.T).astype(np.float64)


def norm_matrix(gram: np.ndarray) -> np.ndarray:
    """(S, S) float32 matrix M with ‖x @ M‖² = x·gram·x, for a positive definite gram."""
    return np.linalg.cholesky(gram + 1e-9 * np.eye(len(gram))).astype(np.float32)


def position_matrix(face: Face, mouth: float, gap: float) -> np.ndarray:
    """(S, S) float32 matrix M: ‖x @ M‖² is the position term, in mm², of an error x of the coordinates.

    mouth: how much more the lips count than the rest of the face; 0 lets all vertices count alike
    gap: weight of the gaps between the lips and of the mouth's width
    """
    weight = 1 + mouth * face.mouth_weight
    gram = weighted_gram(face, weight / weight.sum())
    if gap:
        for a, b in (*LIP_PAIRS, MOUTH_CORNERS):
            between = face.span[:, face.landmarks68[a]] - face.span[:, face.landmarks68[b]]
            gram += gap / 4 * between @ between.T
    return norm_matrix(gram)


class Objective:
    """Position and velocity terms, in mm², of predicted coordinates.

    mouth, gap: see `position_matrix`
    closure: weight of the opening of lips that are closed in the target: a b whose lips do not meet is not a b
    """

    def __init__(
        self,
        face: Face,
        mouth: float,
        gap: float,
        closure: float,
        device: torch.device | str = "cpu",
    ) -> None:
        vertices = len(face.mean)
        self.closure = closure
        self.position = torch.from_numpy(position_matrix(face, mouth, gap)).to(device)
        self.velocity = torch.from_numpy(
            norm_matrix(weighted_gram(face, np.full(vertices, 1 / vertices)))
        ).to(device)
        self.opening = torch.from_numpy(face.lip_opening_gradient).to(device)

    def __call__(
        self, output: torch.Tensor, target: torch.Tensor, inside: torch.Tensor, mean: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """The two terms of the coordinates of crops (N, T, S), given the target (N, T, S).

        inside: (N, T), 1 for frames and 0 for padding; mean: (N,), how much the mean of a crop's error counts, 1 being
        as much as its course: then the position term is a mean of squares
        """
        inside = inside[..., None]
        frames, total = inside.sum(1), inside.sum()
        error = (output - target) * inside
        level = error.sum(1) / frames.clamp_min(1)
        course = (error - level[:, None]) * inside
        squared = (course @ self.position).square().sum()
        squared = squared + ((level @ self.position).square().sum(1) * mean * frames[:, 0]).sum()
        if self.closure:
            closed = (
                (target @ self.opening < CLOSED_LIPS).float() * inside[..., 0] * (mean > 0)[:, None]
            )
            squared = squared + self.closure * ((error @ self.opening).square() * closed).sum()
        following = inside[:, 1:] * inside[:, :-1]
        change = ((error[:, 1:] - error[:, :-1]) @ self.velocity).square().sum(
            2, keepdim=True
        ) * following
        return squared / total, change.sum() / total
