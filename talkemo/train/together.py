"""Training in several processes, on one machine or many: data-parallel, by Hugging Face accelerate.

Every process draws the same batch, as many times as large as there are processes, computes its own rows of it, and they
add up their gradients: the losses are those of one process with so large a batch. accelerate or torchrun start the
processes (`docs/scale.md`); where neither did, there is one, and nothing here does anything.
"""

from __future__ import annotations

import os
from collections.abc import Iterable
from datetime import timedelta
from functools import lru_cache
from typing import Any

import torch
from torch import nn

from ..compute.devices import available_cores
from ..errors import TalkemoError

PATIENCE = timedelta(
    days=2
)  # that processes wait for the main one, which fits corpora and labels sound alone


class Together:
    """The processes that train together, as one of them sees them.

    count: how many they are; index: this one's; is_main: whether it is the one that writes files
    """

    def __init__(self, state: Any = None):
        self._state = state
        self.count = 1 if state is None else int(state.num_processes)
        self.index = 0 if state is None else int(state.process_index)
        self.is_main = self.index == 0

    @property
    def device(self) -> torch.device | None:
        """The device of this process; None where there is only one, which may choose."""
        return None if self._state is None else self._state.device

    def wait(self) -> None:
        """Wait until all are here."""
        if self._state is not None:
            self._state.wait_for_everyone()

    def part(self, rows: torch.Tensor) -> torch.Tensor:
        """This process's rows of a batch's tensor (count · N, …), (N, …)."""
        own = len(rows) // self.count
        return rows[self.index * own : (self.index + 1) * own]

    def whole(self, own: torch.Tensor) -> torch.Tensor:
        """The rows (count · N, …) of all processes' tensors (N, …). Gradients find their way back to each."""
        return own if self._state is None else _Gathered.apply(own, self)  # type: ignore[no-any-return]

    def share(self, loss: torch.Tensor) -> torch.Tensor:
        """What a process computes gradients of, so that those of all add up to the loss's.

        loss: of the whole batch, from tensors that went through `whole`; or the mean of this process's own rows
        """
        return loss / self.count

    def add_up(self, parameters: Iterable[torch.Tensor]) -> None:
        """Give parameters the sum of all processes' gradients."""
        if self._state is None:
            return
        from accelerate.utils import reduce

        gradients = [p.grad for p in parameters if p.grad is not None]
        joined = reduce(torch.cat([gradient.flatten() for gradient in gradients]), "sum")
        for gradient, summed in zip(gradients, joined.split([g.numel() for g in gradients])):
            gradient.copy_(summed.view_as(gradient))

    def mean(self, losses: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
        """The means of all processes' losses, scalars."""
        if self._state is None:
            return losses
        from accelerate.utils import reduce

        joined = reduce(torch.stack([loss.detach() for loss in losses.values()]), "mean")
        return dict(zip(losses, joined))

    def any(self, value: bool) -> bool:
        """Whether it is true in any of the processes."""
        if self._state is None:
            return value
        from accelerate.utils import reduce

        return bool(reduce(torch.tensor(float(value), device=self._state.device), "sum") > 0)

    def be_as_the_main_one(self, module: nn.Module) -> None:
        """Give a module the main process's tensors: machines of two kinds may not begin with the same to the bit."""
        if self._state is not None:
            from accelerate.utils import broadcast

            with torch.no_grad():
                for tensor in module.state_dict().values():
                    tensor.copy_(broadcast(tensor.detach().clone()))

    def share_statistics(self, network: nn.Module) -> None:
        """Let a network's batch norms be of the whole batch. torch's own SyncBatchNorm needs GPUs."""
        if self._state is not None:
            for name, child in list(network.named_children()):
                if type(child) is nn.BatchNorm1d:
                    shared = _SharedBatchNorm(self, child.num_features, affine=child.affine)
                    shared.load_state_dict(child.state_dict())
                    setattr(network, name, shared)
                else:
                    self.share_statistics(child)


class _Gathered(torch.autograd.Function):
    """The rows of all processes; the gradient of one's rows is the sum of what all processes find for them."""

    @staticmethod
    def forward(context: Any, own: torch.Tensor, together: Together) -> torch.Tensor:
        from accelerate.utils import gather

        context.together = together
        return gather(own.contiguous())  # type: ignore[no-any-return]

    @staticmethod
    def backward(context: Any, gradient: torch.Tensor) -> tuple[torch.Tensor, None]:
        from accelerate.utils import reduce

        return context.together.part(reduce(gradient.contiguous(), "sum")), None


class _SharedBatchNorm(nn.BatchNorm1d):
    """A batch norm (N, D) → (N, D) by the statistics of all processes' rows."""

    def __init__(self, together: Together, features: int, affine: bool):
        super().__init__(features, affine=affine)
        self.together = together

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        if not self.training:
            return super().forward(x)
        return self.together.part(super().forward(self.together.whole(x)))


@lru_cache(maxsize=1)
def together(device: str) -> Together:
    """The processes that were started to train together; one where none were.

    device: cpu, cuda or auto. Raises TalkemoError where accelerate is not installed.
    """
    if int(os.environ.get("WORLD_SIZE", "1")) < 2:
        return Together()
    try:
        from accelerate import PartialState
    except ImportError:
        raise TalkemoError(
            "training in several processes needs accelerate", "pip install 'talkemo[parallel]'"
        ) from None
    cpu = device == "cpu" or not torch.cuda.is_available()
    threads = torch.get_num_threads()
    state = PartialState(cpu=cpu, timeout=PATIENCE)
    if threads == 1:  # which torchrun and accelerate choose where nobody did
        threads = max(1, available_cores() // int(os.environ.get("LOCAL_WORLD_SIZE", "1")))
    torch.set_num_threads(threads)
    return Together(state)
