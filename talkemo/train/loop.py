"""The training loop of all stages: steps, gradients, learning rates, checkpoints and signals."""

from __future__ import annotations

import json
import signal
import threading
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from ..errors import InputError
from ..files.artefact import Artefact, State
from .checkpoint import (
    CheckpointTimer,
    Networks,
    Optimisers,
    checkpoint_errors,
    checkpoint_fingerprint,
    checkpoint_path,
    read_checkpoint,
    restore_checkpoint,
    write_checkpoint,
)
from .run import Run
from .training_log import MeanLosses, TrainingLog

BFLOAT16_CUDA_CAPABILITY = (8, 0)  # GPUs from this on multiply bfloat16 matrices natively
MAX_FINAL_CHECKPOINT_S = 5.0  # time limit of the checkpoint of a process that is terminated
# Signals that ask a process to end; Windows has no SIGHUP.
TERMINATION_SIGNALS = tuple(
    getattr(signal, name) for name in ("SIGTERM", "SIGINT", "SIGHUP") if hasattr(signal, name)
)

Losses = dict[str, torch.Tensor]  # scalars by name


def cosine_decay(progress: float) -> float:
    """Return a learning rate's factor, from 1 at progress 0 to 0 at progress 1 and beyond."""
    return 0.5 + 0.5 * float(np.cos(np.pi * min(progress, 1.0)))


def half_precision(device: torch.device) -> torch.autocast:
    """Return a context that multiplies matrices in bfloat16 if the device has units for it."""
    if device.type == "cuda":
        enabled = torch.cuda.get_device_capability(device) >= BFLOAT16_CUDA_CAPABILITY
    else:
        units = ("_is_amx_tile_supported", "_is_avx512_bf16_supported")
        enabled = any(getattr(torch.cpu, name, lambda: False)() for name in units)
    return torch.autocast(device.type, torch.bfloat16, enabled=bool(enabled))


class WaitingSignals:
    """A context that delays SIGTERM, SIGINT and SIGHUP until `act`; a second one acts at once.

    Python allows this in the main thread only; in other threads signals act as usual.
    """

    def __init__(self) -> None:
        self._handlers: dict[int, Any] = {}
        self._waiting: list[int] = []

    @property
    def waiting(self) -> bool:
        """Whether the process was asked to end."""
        return bool(self._waiting)

    def act(self) -> None:
        """Act on the delayed signal: raise SystemExit or KeyboardInterrupt, or end the process."""
        self._restore_handlers()
        if not self._waiting:  # another process of the training was asked to end
            raise SystemExit(128 + signal.SIGTERM)
        number = self._waiting[-1]
        self._waiting.clear()
        signal.raise_signal(number)

    def __enter__(self) -> None:
        if threading.current_thread() is not threading.main_thread():
            return
        for number in TERMINATION_SIGNALS:
            handler = signal.getsignal(number)
            # Ignored signals (nohup) stay ignored; handlers set from C cannot be restored.
            if handler not in (signal.SIG_IGN, None):
                self._handlers[number] = handler
                signal.signal(number, self._defer)

    def __exit__(self, *error: object) -> None:
        self._restore_handlers()
        if self._waiting:
            self.act()

    def _defer(self, number: int, frame: Any) -> None:
        self._waiting.append(number)
        if len(self._waiting) > 1:
            self.act()

    def _restore_handlers(self) -> None:
        while self._handlers:
            signal.signal(*self._handlers.popitem())


@dataclass(frozen=True)
class Intervals:
    """Numbers of steps between a loop's reports, log rows and weights files; 0 for never."""

    progress: int  # reports to the user
    log: int = 0  # rows of the log
    weights: int = 0  # files of weights, besides the last one
    log_last_step: bool = False  # whether the last step has a row in any case


class Loop:
    """A training that counts steps, logs losses and can be resumed.

    Networks and optimisers start as they are, or as in the checkpoint if the run resumes one.
    """

    def __init__(
        self,
        name: str,
        run: Run,
        networks: Networks,
        optimisers: Optimisers,
        settings: dict[str, Any],
        seed: int,
        losses: MeanLosses | None = None,
    ):
        """Prepare a training, or restore it.

        Parameters
        ----------
        name : str
            Name of the training in the names of its files: that of the stage or one of its parts.
        run : Run
            Where it reads and writes, and whether it resumes.
        networks, optimisers : dict of str
            What a checkpoint holds, by name.
        settings : dict
            JSON values that a checkpoint must have been made with.
        seed : int
            Of `rng`, which draws batches; torch's generators have their own state.
        losses : MeanLosses, optional
            What the log shows of the losses, by default their means.

        Raises
        ------
        InputError
            The checkpoint is damaged or was made with other settings.
        """
        self.name, self.run, self.step = name, run, 0
        self.networks, self.optimisers = networks, optimisers
        self.rng = np.random.default_rng(seed)
        self.losses = losses or MeanLosses()
        self.device, self.processes = run.torch_device, run.processes
        started_with = {"start": run.start_digest(name), "origin": run.fingerprint}
        self.settings = json.loads(json.dumps({**settings, **started_with}))
        self.deadline = time.monotonic() + 60 * run.max_minutes if run.max_minutes else float("inf")
        self.path, self.log = checkpoint_path(run, name), TrainingLog(run, name)
        self._rates = {
            name: [group["lr"] for group in optimiser.param_groups]
            for name, optimiser in optimisers.items()
        }
        self._timer = CheckpointTimer()
        self._signals = WaitingSignals()
        run.out.mkdir(parents=True, exist_ok=True)
        if run.resume and self._has_checkpoint():
            self._restore()
        elif self.processes.is_main:
            self.path.unlink(missing_ok=True)
            self.log.path.unlink(missing_ok=True)
        self.processes.wait()  # before the main process writes a checkpoint
        for network in networks.values():
            self.processes.copy_from_main(network)

    def train(
        self,
        steps: int,
        take_step: Callable[[], Losses],
        intervals: Intervals,
        *,
        rate_factor: Callable[[int], float] | None = None,
        measure: Callable[[], dict[str, float]] | None = None,
        save_weights: Callable[[], object] | None = None,
        label: str = "",
    ) -> None:
        """Take the remaining steps, and write a last checkpoint.

        Parameters
        ----------
        steps : int
            Number of steps to end at, those of the checkpoint included.
        take_step : callable
            Takes a step (see `descend`) and returns its losses.
        intervals : Intervals
            When to log, to report progress and to save weights.
        rate_factor : callable, optional
            Gives the factor of the learning rates from the steps done; they are constant if None.
        measure : callable, optional
            Returns further metrics for a row of the log.
        save_weights : callable, optional
            Writes the weights as they are.
        label : str
            Name of the training in reports of progress, by default that of its files.
        """
        self.run.report(label or self.name, self.step, steps)
        with self._signals:
            while self.step < steps and not self._out_of_time():
                if rate_factor:
                    self._set_rates(rate_factor(self.step))
                self.losses.add(take_step())
                self.step += 1
                is_last = intervals.log_last_step and self.step == steps
                if is_last or self._is_time(intervals.log):
                    self.log_row(measure() if measure else {})
                if self._is_time(intervals.progress):
                    self.run.report(label or self.name, self.step, steps)
                if save_weights and self._is_time(intervals.weights):
                    save_weights()
                self.end_step()
        self.save()

    def descend(
        self,
        loss: torch.Tensor,
        optimiser: str = "adam",
        *,
        max_norm: float | None = None,
        parameters: Iterable[torch.Tensor] | None = None,
    ) -> None:
        """Take a step of an optimiser down the gradient of a loss, summed over the processes.

        Parameters
        ----------
        loss : Tensor, scalar
            See `TrainingProcesses.scale_loss`.
        optimiser : str
            Name of the optimiser.
        max_norm : float, optional
            Norm above which the gradient is scaled down.
        parameters : iterable of Tensor, optional
            The optimiser's parameters in the order in which their norm is summed, by default that
            of its groups.
        """
        chosen = self.optimisers[optimiser]
        if parameters is None:
            parameters = [p for group in chosen.param_groups for p in group["params"]]
        parameters = list(parameters)
        chosen.zero_grad()
        self.processes.scale_loss(loss).backward()
        self.processes.sum_gradients(parameters)
        if max_norm is not None:
            torch.nn.utils.clip_grad_norm_(parameters, max_norm)
        chosen.step()

    def log_row(self, metrics: dict[str, float]) -> None:
        """Append the losses since the last row, and further metrics, to the log."""
        metrics = {**self.losses.read(), **metrics}
        if self.processes.is_main:
            self.log.append(self.step, metrics)

    def end_step(self) -> None:
        """Write a checkpoint if it is due, and act on a signal that came during the step."""
        if self.processes.any(self._signals.waiting):
            if self._timer.seconds < MAX_FINAL_CHECKPOINT_S:
                self.save()
            self.processes.wait()
            self._signals.act()
        if self._timer.due:
            self.save()

    def save(self) -> None:
        """Write the checkpoint; of several processes, the main one does, and all resume from it."""
        if not self.processes.is_main:
            return
        header = {
            "step": self.step,
            "config": self.settings,
            "figures": self.losses.state(),
            "random": self.rng.bit_generator.state,
        }
        with self._timer.writing():
            write_checkpoint(self.path, self.networks, self.optimisers, self.device, header)

    def _has_checkpoint(self) -> bool:
        """Return whether there is a checkpoint; a stale one is refused later, or discarded here."""
        checkpoint = Artefact(self.path, self.run.fingerprint, checkpoint_fingerprint)
        if self.run.discard_stale:
            return checkpoint.state is State.UP_TO_DATE
        return self.path.is_file()

    def _restore(self) -> None:
        with checkpoint_errors(self.path):
            tensors, header = read_checkpoint(self.path)
            if header.get("config") != self.settings:
                raise InputError(
                    f"{self.path}: this training was started with other settings",
                    "resume with the same options, or start again in another folder",
                )
            restore_checkpoint(tensors, self.networks, self.optimisers, self.device)
            self.step = int(header["step"])
            self.losses.restore(header["figures"], self.device)
            self.rng.bit_generator.state = header["random"]
        if self.processes.is_main:
            self.log.truncate(self.step)

    def _set_rates(self, factor: float) -> None:
        for name, rates in self._rates.items():
            for group, rate in zip(self.optimisers[name].param_groups, rates):
                group["lr"] = rate * factor

    def _is_time(self, interval: int) -> bool:
        return interval > 0 and self.step % interval == 0

    def _out_of_time(self) -> bool:
        limited = self.run.max_minutes is not None
        return limited and self.processes.any(time.monotonic() > self.deadline)
