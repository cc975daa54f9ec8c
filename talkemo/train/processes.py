"""Training in several processes, on one machine or many: data-parallel, by Hugging Face accelerate.

Every process draws the same batch, which is larger by the number of processes, and computes its
own rows of it. Gradients are summed over the processes, so that losses and gradients equal those of
a single process with the whole batch. `accelerate launch` or `torchrun` starts the processes
(docs/scale.md); with a single process all functions here have no effect.
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
from ..extras import install_command

# Time limit of waiting for the main process, which fits corpora and labels audio alone.
PROCESS_WAIT_LIMIT = timedelta(days=2)


class TrainingProcesses:
    """The processes of a training, as seen by one of them."""

    def __init__(self, state: Any = None):
        """Wrap accelerate's `PartialState`, None for a single process."""
        self._state = state
        self.count = 1 if state is None else int(state.num_processes)
        self.index = 0 if state is None else int(state.process_index)  # of this process
        self.is_main = self.index == 0  # whether this process writes the files

    @property
    def device(self) -> torch.device | None:
        """The device of this process; None for a single process, which may choose."""
        return None if self._state is None else self._state.device

    def wait(self) -> None:
        """Wait until all processes have reached this call."""
        if self._state is not None:
            self._state.wait_for_everyone()

    def own_rows(self, batch: torch.Tensor) -> torch.Tensor:
        """Return this process's rows (N, …) of a batch's tensor (count · N, …)."""
        size = len(batch) // self.count
        return batch[self.index * size : (self.index + 1) * size]

    def all_rows(self, rows: torch.Tensor) -> torch.Tensor:
        """Return the rows (count · N, …) of all processes; gradients flow back to each."""
        if self._state is None:
            return rows
        return _Gathered.apply(rows, self)  # type: ignore[no-any-return]

    def scale_loss(self, loss: torch.Tensor) -> torch.Tensor:
        """Divide a loss by the number of processes, as `sum_gradients` adds their gradients up.

        Parameters
        ----------
        loss : Tensor, scalar
            Either the loss of the whole batch, computed from `all_rows` in each process, or the
            mean loss of this process's own rows.
        """
        return loss / self.count

    def sum_gradients(self, parameters: Iterable[torch.Tensor]) -> None:
        """Replace the gradient of each parameter by the sum over the processes."""
        if self._state is None:
            return
        gradients = [p.grad for p in parameters if p.grad is not None]
        joined = _reduce(torch.cat([gradient.flatten() for gradient in gradients]), "sum")
        for gradient, summed in zip(gradients, joined.split([g.numel() for g in gradients])):
            gradient.copy_(summed.view_as(gradient))

    def mean(self, losses: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
        """Return the mean of each scalar loss over the processes."""
        if self._state is None:
            return losses
        joined = _reduce(torch.stack([loss.detach() for loss in losses.values()]), "mean")
        return dict(zip(losses, joined))

    def any(self, value: bool) -> bool:
        """Return whether a value is true in any process."""
        if self._state is None:
            return value
        return bool(_reduce(torch.tensor(float(value), device=self._state.device), "sum") > 0)

    def copy_from_main(self, module: nn.Module) -> None:
        """Give a module the main process's tensors: initial values differ between machines."""
        if self._state is not None:
            from accelerate.utils import broadcast

            with torch.no_grad():
                for tensor in module.state_dict().values():
                    tensor.copy_(broadcast(tensor.detach().clone()))

    def share_batch_norms(self, network: nn.Module) -> None:
        """Make a network's batch norms use the whole batch; torch's SyncBatchNorm needs GPUs."""
        if self._state is not None:
            for name, child in list(network.named_children()):
                if type(child) is nn.BatchNorm1d:
                    shared = _SharedBatchNorm(self, child.num_features, affine=child.affine)
                    shared.load_state_dict(child.state_dict())
                    setattr(network, name, shared)
                else:
                    self.share_batch_norms(child)


def _reduce(tensor: torch.Tensor, reduction: str) -> torch.Tensor:
    """Return the sum or mean of the processes' tensors."""
    from accelerate.utils import reduce

    return reduce(tensor, reduction)  # type: ignore[no-any-return]


class _Gathered(torch.autograd.Function):
    """The rows of all processes; a row's gradient is the sum of those of all processes."""

    @staticmethod
    def forward(context: Any, rows: torch.Tensor, processes: TrainingProcesses) -> torch.Tensor:
        from accelerate.utils import gather

        context.processes = processes
        return gather(rows.contiguous())  # type: ignore[no-any-return]

    @staticmethod
    def backward(context: Any, gradient: torch.Tensor) -> tuple[torch.Tensor, None]:
        return context.processes.own_rows(_reduce(gradient.contiguous(), "sum")), None


class _SharedBatchNorm(nn.BatchNorm1d):
    """A batch norm (N, D) → (N, D) with the statistics of all processes' rows."""

    def __init__(self, processes: TrainingProcesses, features: int, affine: bool):
        super().__init__(features, affine=affine)
        self.processes = processes

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        if not self.training:
            return super().forward(x)
        return self.processes.own_rows(super().forward(self.processes.all_rows(x)))


@lru_cache(maxsize=1)
def training_processes(device: str) -> TrainingProcesses:
    """Return the processes that `accelerate launch` or `torchrun` started, or a single one.

    Raises
    ------
    TalkemoError
        Several processes were started and accelerate is not installed.
    """
    if int(os.environ.get("WORLD_SIZE", "1")) < 2:
        return TrainingProcesses()
    try:
        from accelerate import PartialState
    except ImportError:
        raise TalkemoError(
            "training in several processes needs accelerate", install_command("parallel")
        ) from None
    cpu = device == "cpu" or not torch.cuda.is_available()
    threads = torch.get_num_threads()
    state = PartialState(cpu=cpu, timeout=PROCESS_WAIT_LIMIT)
    if threads == 1:  # the default of torchrun and accelerate
        threads = max(1, available_cores() // int(os.environ.get("LOCAL_WORLD_SIZE", "1")))
    torch.set_num_threads(threads)
    return TrainingProcesses(state)
