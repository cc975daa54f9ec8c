"""Networks from the tensors of weights files."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

import numpy as np
import torch
from torch import nn

Network = TypeVar("Network", bound=nn.Module)


def build_network(make: Callable[[], Network], tensors: dict[str, np.ndarray]) -> Network:
    """The network that `make` makes, with tensors in the place of random weights, which are never drawn; float32."""
    with torch.device("meta"):
        network = make()
    network.load_state_dict(
        {name: to_tensor(array) for name, array in tensors.items()}, assign=True
    )
    return network


def load_tensors(network: nn.Module, tensors: dict[str, np.ndarray], some: bool = False) -> None:
    """Give a network that is there the tensors of a weights file; some: whether they may be a part of its own.

    Raises KeyError for a tensor that the network does not have.
    """
    found = network.load_state_dict(
        {name: to_tensor(array) for name, array in tensors.items()}, strict=not some
    )
    if found.unexpected_keys:
        raise KeyError(f"no tensor {found.unexpected_keys[0]} in the network")


def to_tensor(array: np.ndarray) -> torch.Tensor:
    """A tensor in float32, or of the array's own type where that holds whole numbers."""
    return torch.from_numpy(
        np.ascontiguousarray(array.astype(np.float32) if array.dtype.kind == "f" else array)
    )
