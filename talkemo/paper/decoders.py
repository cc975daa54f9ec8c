"""Decoders and vertex weights of the talking model that table 1 compares.

Decoders:

vertices      50 components to the displacements of all vertices, started at the first principal
              components of the training motion, as in VOCA and the paper
blend shapes  50 components to coordinates of the face's blend shapes, as in the bundled model

Weights of the position term:

constant           each vertex counts equally
local              the mouth's vertices count more, the others as before
local, normalised  the same, divided by the weights' mean, so that the term keeps its size
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from ..face.canonical import Face
from ..networks.building import to_tensor
from ..networks.talking import TalkingModel, TalkingNetwork
from ..train.run import Run
from ..train.talking import TalkingConfig, TalkingData, TalkingTraining
from ..train.talking_objective import Objective, TalkingObjective
from ..weights.files import load_weights

BLEND_SHAPES, VERTICES = DECODERS = ("blend shapes", "vertices")
CONSTANT, LOCAL, NORMALISED = WEIGHTINGS = ("constant", "local", "local, normalised")
VERTEX_COLUMNS = 2048  # coordinates of vertices whose errors are computed together


def training_maker(
    decoder: str, weighting: str
) -> Callable[[TalkingData, Run, TalkingConfig], TalkingTraining]:
    """Return what makes a training with one of DECODERS and one of WEIGHTINGS."""
    return partial(DecoderTraining, decoder, weighting)


def vertex_weights(face: Face, weighting: str, mouth: float) -> np.ndarray:
    """Return the weight (V,) of each vertex, whose sum is 1 if all count equally.

    `mouth` is the additional weight of the lips.
    """
    weight = 1 + (0.0 if weighting == CONSTANT else mouth) * face.mouth_weight
    return np.asarray(weight / (weight.sum() if weighting == NORMALISED else len(weight)))


class DecoderTraining(TalkingTraining):
    """The talking network in training, with a decoder and a weighting."""

    def __init__(
        self, decoder: str, weighting: str, data: TalkingData, run: Run, config: TalkingConfig
    ):
        self.decoder, self.weighting = decoder, weighting
        self.variant = f"{decoder}; {weighting}"
        super().__init__(data, run, config)

    def new_network(self, targets: torch.Tensor) -> TalkingNetwork:
        network = super().new_network(targets)
        if self.decoder == VERTICES:
            start = network.decoder
            # The span is orthonormal, so the components of coordinates are those of the vertices.
            span = torch.from_numpy(self.data.face.span.reshape(len(self.data.face.span), -1))
            network.decoder = nn.Linear(start.in_features, span.shape[1])
            with torch.no_grad():
                network.decoder.weight.copy_(span.T @ start.weight)
                network.decoder.bias.copy_(start.bias @ span)
        return network

    def new_objective(self) -> TalkingObjective:
        face, config = self.data.face, self.config
        weight = vertex_weights(face, self.weighting, config.mouth)
        if self.decoder == VERTICES:
            return VertexObjective(face, weight, self.device)
        mouth = 0.0 if self.weighting == CONSTANT else config.mouth
        objective = Objective(face, mouth, 0.0, 0.0, self.device)
        objective.position = objective.position * float(np.sqrt(weight.sum()))
        return objective


class VertexObjective:
    """Position and velocity terms, in mm², of predicted displacements (N, T, 3·V).

    The mean error of a crop counts like its variation.
    """

    def __init__(self, face: Face, weight: np.ndarray, device: torch.device | str = "cpu"):
        self.span = torch.from_numpy(face.span.reshape(len(face.span), -1)).to(device)
        root = np.repeat(np.sqrt(weight), 3).astype(np.float32)
        self.root = torch.from_numpy(root).to(device)
        self.vertices = len(weight)

    def __call__(
        self, output: torch.Tensor, target: torch.Tensor, inside: torch.Tensor, mean: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Compute the two terms, see `Objective`; targets are coordinates (N, T, S)."""
        squared, change = _Squares.apply(output, target, inside, self.span, self.root)
        total = inside.sum()
        return squared / total, change / self.vertices / total


class _Squares(torch.autograd.Function):
    """Sums of squares of a prediction's weighted errors, and of the errors' steps.

    The plain expressions pass many times over arrays that no cache of a CPU holds. This goes over
    VERTEX_COLUMNS at a time, and a training's step takes half as long.
    """

    @staticmethod
    def forward(
        ctx: Any,
        output: torch.Tensor,
        target: torch.Tensor,
        inside: torch.Tensor,
        span: torch.Tensor,
        root: torch.Tensor,
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Compute both from predictions (N, T, 3·V) and coordinates (N, T, S).

        `inside` (N, T) is 1 for frames that count, else 0; `root` (3·V,) weighs the errors.
        """
        both = inside[:, 1:, None] * inside[:, :-1, None]
        errors = torch.empty_like(output)
        squared, change = output.new_zeros(()), output.new_zeros(())
        for columns in _column_slices(output):
            error = (output[..., columns] - target @ span[:, columns]) * inside[..., None]
            errors[..., columns] = error
            step = ((error[:, 1:] - error[:, :-1]) * both).flatten()
            weighted = (error * root[columns]).flatten()
            change += step.dot(step)
            squared += weighted.dot(weighted)
        ctx.save_for_backward(errors, inside, both, root)
        return squared, change

    @staticmethod
    def backward(ctx: Any, *gradients: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
        """Compute the gradient of the predictions; the other arguments have none."""
        errors, inside, both, root = ctx.saved_tensors
        of_squared = 2 * gradients[0] * root.square()
        of_change = 2 * gradients[1] * both
        result = torch.empty_like(errors)
        for columns in _column_slices(errors):
            error = errors[..., columns]
            step = (error[:, 1:] - error[:, :-1]) * of_change
            gradient = error * of_squared[columns]
            gradient[:, 1:] += step
            gradient[:, :-1] -= step
            result[..., columns] = gradient * inside[..., None]
        return result, None, None, None, None


def _column_slices(output: torch.Tensor) -> list[slice]:
    return [
        slice(start, start + VERTEX_COLUMNS) for start in range(0, output.shape[-1], VERTEX_COLUMNS)
    ]


def read_model(path: Path, run: Run) -> TalkingModel:
    """Read a talking model with any decoder, as a training has written it."""
    tensors, settings = load_weights(path, "talking")
    models = run.models()
    encoder = models.encoder
    outputs = len(tensors["decoder.weight"])
    network = TalkingNetwork(encoder.width, len(settings["styles"]), outputs)
    state = {name: to_tensor(tensor) for name, tensor in tensors.items()}
    state["normalise.num_batches_tracked"] = torch.zeros((), dtype=torch.int64)
    network.load_state_dict(state)
    return TalkingModel(network, encoder, models.face, settings, models.device)
