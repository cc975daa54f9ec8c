"""Networks from the tensors of weights files."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

import numpy as np
import torch
from torch import nn

Network = TypeVar("Network", bound=nn.Module)


def build_network(make: Callable[[], Network], tensors: dict[str, np.ndarray]) -> Network:
    """Return the network that `make` creates, in float32, with tensors of a weights file.

    The network is created without drawing random weights.
    """
    with torch.device("meta"):
        network = make()
    network.load_state_dict(_to_tensors(tensors), assign=True)
    return network


def load_tensors(network: nn.Module, tensors: dict[str, np.ndarray], partial: bool = False) -> None:
    """Copy tensors of a weights file into a network.

    With `partial`, the file may lack tensors of the network, which keep their values. Raises
    KeyError or RuntimeError for tensors that do not fit the network.
    """
    mismatch = network.load_state_dict(_to_tensors(tensors), strict=not partial)
    if mismatch.unexpected_keys:
        raise KeyError(f"no tensor {mismatch.unexpected_keys[0]} in the network")


def float16_tensors(network: nn.Module) -> dict[str, np.ndarray]:
    """Return all tensors of a network in float16, for a weights file."""
    return {
        name: tensor.detach().cpu().numpy().astype(np.float16)
        for name, tensor in network.state_dict().items()
    }


def to_tensor(array: np.ndarray) -> torch.Tensor:
    """Return an array as a tensor: floats in float32, other types unchanged."""
    return torch.from_numpy(
        np.ascontiguousarray(array.astype(np.float32) if array.dtype.kind == "f" else array)
    )


def _to_tensors(arrays: dict[str, np.ndarray]) -> dict[str, torch.Tensor]:
    return {name: to_tensor(array) for name, array in arrays.items()}
