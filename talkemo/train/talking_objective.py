"""The talking model's objective: distances between predicted and captured motion over the face.

A weighted sum of squared distances over the vertices is a quadratic form of the motion's
coordinates, with the weighted Gram matrix of the face's span. Its Cholesky root turns the sum into
a squared norm, at the cost of one small matrix product. What lips do is small beside what the jaw
does, so opening, width, protrusion and the lips' own blend shapes count once more, each in units of
its own spread in speech.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch

from ..face.canonical import LIP_PAIRS, MOUTH_CORNERS, Face
from ..face.lip_measures import distance_gradients, shape_gradients

# Output and target of a batch of crops, which frames are inside, and the weights of the crops' mean
# errors → position and velocity term, see `Objective`.
TalkingObjective = Callable[
    [torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor], tuple[torch.Tensor, torch.Tensor]
]
CLOSED_TARGET_MM = 1.5  # lips count as closed up to this opening above their distance at rest


def weighted_gram(face: Face, weight: np.ndarray) -> np.ndarray:
    """(S, S) float64 products of the span's displacements, summed with vertex weights (V,)."""
    span = face.span.reshape(len(face.span), -1)
    return ((span * np.repeat(weight, 3).astype(np.float32)) @ span.T).astype(np.float64)


def norm_matrix(gram: np.ndarray) -> np.ndarray:
    """(S, S) float32 matrix M with ‖x @ M‖² = x·gram·x, for a positive definite gram."""
    return np.linalg.cholesky(gram + 1e-9 * np.eye(len(gram))).astype(np.float32)


def position_matrix(face: Face, mouth: float, gap: float) -> np.ndarray:
    """Matrix of the position term: ‖x @ M‖² is its value in mm² for an error x of the coordinates.

    Parameters
    ----------
    mouth
        Additional weight of the lips relative to the rest of the face; with 0 all vertices count
        equally.
    gap
        Weight of the distances between the lips and of the mouth's width.

    Returns
    -------
    (S, S) float32
    """
    weight = 1 + mouth * face.mouth_weight
    gram = weighted_gram(face, weight / weight.sum())
    if gap:
        for a, b in (*LIP_PAIRS, MOUTH_CORNERS):
            between = face.span[:, face.landmarks68[a]] - face.span[:, face.landmarks68[b]]
            gram += gap / 4 * between @ between.T
    return norm_matrix(gram)


def measure_matrix(
    face: Face, targets: np.ndarray, distances: float, shapes: float
) -> np.ndarray | None:
    """Return the matrix (S, M) of the lips' measures, None if both weights are 0.

    ‖x @ matrix‖² of an error x is the weighted sum of the measures' squared errors in units of
    their standard deviation.

    Parameters
    ----------
    face : Face
    targets : (N, S)
        Coordinates of frames of speech, which show the measures' spread.
    distances, shapes : float
        Weights in mm² of opening, width and protrusion, and of all the lips' blend shapes together.
    """
    columns = []
    of_shapes = shape_gradients(face)
    weighted = [(distance_gradients(face), distances), (of_shapes, shapes / len(of_shapes))]
    for gradients, weight in weighted:
        for gradient in gradients.values():
            spread = float((targets @ gradient).std())
            if weight and spread > 0:
                columns.append(np.sqrt(weight) / spread * gradient)
    return np.stack(columns, 1).astype(np.float32) if columns else None


class Objective:
    """Position and velocity terms, in mm², of predicted coordinates.

    Parameters
    ----------
    mouth, gap
        See `position_matrix`.
    closure
        Weight of the lip opening where the target's lips are closed: a b needs its lips to meet.
    measures : (S, M), optional
        See `measure_matrix`.
    """

    def __init__(
        self,
        face: Face,
        mouth: float,
        gap: float,
        closure: float,
        device: torch.device | str = "cpu",
        measures: np.ndarray | None = None,
    ) -> None:
        vertices = len(face.mean)
        velocity = norm_matrix(weighted_gram(face, np.full(vertices, 1 / vertices)))
        self.closure = closure
        position = position_matrix(face, mouth, gap)
        if measures is not None:
            position = np.concatenate([position, measures], axis=1)
        self.position = torch.from_numpy(position).to(device)
        self.velocity = torch.from_numpy(velocity).to(device)
        self.opening = torch.from_numpy(face.lip_opening_gradient).to(device)

    def __call__(
        self, output: torch.Tensor, target: torch.Tensor, inside: torch.Tensor, mean: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Compute the two terms for a batch of crops.

        Parameters
        ----------
        output, target : (N, T, S)
        inside : (N, T)
            1 for frames, 0 for padding.
        mean : (N,)
            Weight of a crop's mean error relative to that of its variation; with 1 the position
            term is a mean of squares.
        """
        inside = inside[..., None]
        frames, total = inside.sum(1), inside.sum()
        error = (output - target) * inside
        level = error.sum(1) / frames.clamp_min(1)
        variation = (error - level[:, None]) * inside
        squared = (variation @ self.position).square().sum()
        squared = squared + ((level @ self.position).square().sum(1) * mean * frames[:, 0]).sum()
        if self.closure:
            closed = (target @ self.opening < CLOSED_TARGET_MM).float() * inside[..., 0]
            closed = closed * (mean > 0)[:, None]
            squared = squared + self.closure * ((error @ self.opening).square() * closed).sum()
        both_inside = inside[:, 1:] * inside[:, :-1]
        change = (error[:, 1:] - error[:, :-1]) @ self.velocity
        change = change.square().sum(2, keepdim=True) * both_inside
        return squared / total, change.sum() / total
