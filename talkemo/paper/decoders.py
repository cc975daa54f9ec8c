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
        inside = inside[..., None]
        error = (output - target @ self.span) * inside
        squared = (error * self.root).square().sum()
        change = (error[:, 1:] - error[:, :-1]) * (inside[:, 1:] * inside[:, :-1])
        total = inside.sum()
        return squared / total, change.square().sum() / self.vertices / total


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
