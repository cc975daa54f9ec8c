"""What every training shares: checkpoints that it is resumed from exactly, a log of losses, a limit in minutes."""

from __future__ import annotations

import csv
import json
import signal
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors import SafetensorError, safe_open

from ..errors import InputError
from ..files.writing import atomic_write
from ..weights.files import save_weights
from .run import Run

BFLOAT16_CAPABILITY = (
    8,
    0,
)  # CUDA compute capability from which on a GPU multiplies bfloat16 matrices itself
FIRST_CHECKPOINT = 20.0  # s of work before the first checkpoint that a process writes
CHECKPOINT_EVERY = 60.0  # s from a checkpoint to the next
CHECKPOINT_SHARE = (
    0.05  # of the time that writing checkpoints takes, at most; slow disks get fewer of them
)
LONGEST_LAST_CHECKPOINT = 5.0  # s that a process which was asked to end may still take to write one
# Signals that ask a process to end; Windows has no SIGHUP.
ENDING = tuple(
    getattr(signal, name) for name in ("SIGTERM", "SIGINT", "SIGHUP") if hasattr(signal, name)
)


def cosine(part: float) -> float:
    """By how much a learning rate has fallen after a part of a training, from 1 to 0."""
    return 0.5 + 0.5 * float(np.cos(np.pi * min(part, 1.0)))


def half_precision(device: torch.device) -> torch.autocast:
    """A context in which matrices are multiplied in bfloat16, where the device has units for that."""
    if device.type == "cuda":
        enabled = torch.cuda.get_device_capability(device) >= BFLOAT16_CAPABILITY
    else:
        enabled = getattr(torch.cpu, "_is_amx_tile_supported", lambda: False)()
    return torch.autocast(device.type, torch.bfloat16, enabled=bool(enabled))


# ------------------------------------------------------------------------------------------------------------- figures


class Means:
    """Means of losses over the steps since they were last read."""

    def __init__(self) -> None:
        self.sums: dict[str, torch.Tensor] = {}
        self.count = 0

    def add(self, losses: dict[str, torch.Tensor]) -> None:
        """Add the losses of a step, scalars on any device. They stay there until they are read."""
        for name, loss in losses.items():
            self.sums[name] = (
                self.sums[name] + loss.detach() if name in self.sums else loss.detach()
            )
        self.count += 1

    def read(self) -> dict[str, float]:
        """The means, from which on counting begins anew."""
        means = {name: float(total) / self.count for name, total in self.sums.items()}
        self.sums, self.count = {}, 0
        return means

    def state(self) -> dict[str, Any]:
        """What has been added so far, as JSON values that hold float32 exactly."""
        return {
            "sums": {name: float(total) for name, total in self.sums.items()},
            "count": self.count,
        }

    def restore(self, state: dict[str, Any], device: torch.device) -> None:
        """Go on from a state."""
        self.sums = {
            name: torch.tensor(float(total), device=device) for name, total in state["sums"].items()
        }
        self.count = int(state["count"])


class Latest(Means):
    """The last value of each loss."""

    def add(self, losses: dict[str, torch.Tensor]) -> None:
        """Keep the losses of a step, scalars on any device, in the place of earlier ones of their names."""
        self.sums |= {name: loss.detach() for name, loss in losses.items()}

    def read(self) -> dict[str, float]:
        """The values."""
        return {name: float(value) for name, value in self.sums.items()}


# --------------------------------------------------------------------------------------------------------- checkpoints


class Schedule:
    """When it is time to write what has been done: soon at first, then once a minute, and never for long."""

    def __init__(self) -> None:
        self.seconds = 0.0  # that writing took last
        self._next = time.monotonic() + FIRST_CHECKPOINT

    @property
    def due(self) -> bool:
        """Whether it is time."""
        return time.monotonic() >= self._next

    @contextmanager
    def writing(self) -> Iterator[None]:
        """Measure how long the block takes, and set the next time."""
        start = time.monotonic()
        yield
        self.seconds = time.monotonic() - start
        self._next = start + max(CHECKPOINT_EVERY, self.seconds / CHECKPOINT_SHARE)


class WaitingSignals:
    """A context in which SIGTERM, SIGINT and SIGHUP wait until they are let act; a second one does not wait.

    Elsewhere than in the main thread, where Python does not allow that, they do as always.
    """

    def __init__(self) -> None:
        self._before: dict[int, Any] = {}
        self._waiting: list[int] = []

    @property
    def waiting(self) -> bool:
        """Whether the process was asked to end."""
        return bool(self._waiting)

    def act(self) -> None:
        """Let the signal do what it does without this context: raise SystemExit or KeyboardInterrupt, or end all."""
        self._put_back()
        if not self._waiting:  # another process that trains along was asked
            raise SystemExit(128 + signal.SIGTERM)
        number = self._waiting[-1]
        self._waiting.clear()
        signal.raise_signal(number)

    def __enter__(self) -> None:
        if threading.current_thread() is not threading.main_thread():
            return
        for number in ENDING:
            handler = signal.getsignal(number)
            # Signals that are ignored, as by nohup, stay so; handlers that are not Python's could not be put back.
            if handler not in (signal.SIG_IGN, None):
                self._before[number] = handler
                signal.signal(number, self._note)

    def __exit__(self, *error: object) -> None:
        self._put_back()
        if self._waiting:
            self.act()

    def _note(self, number: int, frame: Any) -> None:
        self._waiting.append(number)
        if len(self._waiting) > 1:
            self.act()

    def _put_back(self) -> None:
        while self._before:
            signal.signal(*self._before.popitem())


class Loop:
    """Counts steps, writes `STAGE.log.csv` and `STAGE.checkpoint.safetensors` into the run's folder.

    A checkpoint holds all that decides how a training goes on: modules, optimisers, figures that are not yet logged,
    and the states of the random generators. A training that ends anywhere and is resumed gives what one in one piece
    gives, to the bit on one thread; several threads, and GPUs, may add numbers in another order.

    modules: name → torch module; optimisers: name → Adam. Both are restored where the run resumes a checkpoint.
    config: settings that a training must be resumed with
    rng: draws what is random in the training, besides torch's own generators; restored, too
    figures: what is logged, see `Means`
    """

    def __init__(
        self,
        stage: str,
        run: Run,
        modules: dict[str, torch.nn.Module],
        optimisers: dict[str, torch.optim.Optimizer],
        config: dict[str, Any],
        rng: np.random.Generator,
        figures: Means | None = None,
    ):
        self.stage, self.run = stage, run
        self.path, self.log_path = checkpoint_path(run, stage), log_path(run, stage)
        self.modules, self.optimisers, self.rng, self.figures = (
            modules,
            optimisers,
            rng,
            figures or Means(),
        )
        self.device, self.together = run.torch_device, run.together
        self.config = json.loads(
            json.dumps({**config, "start": run.start_digest(stage), "origin": run.origin})
        )
        self.deadline = time.monotonic() + 60 * run.max_minutes if run.max_minutes else float("inf")
        self.step = 0
        self._schedule = Schedule()
        self._signals = WaitingSignals()
        run.out.mkdir(parents=True, exist_ok=True)
        if (
            run.resume
            and self.path.is_file()
            and not (run.redo and _origin_of(self.path) != run.origin)
        ):
            self._restore()
            if self.together.is_main:
                self._cut_log()
        elif self.together.is_main:
            self.discard()
        self.together.wait()  # before the main process writes a checkpoint
        for module in modules.values():
            self.together.be_as_the_main_one(module)

    @property
    def out_of_time(self) -> bool:
        """Whether the limit in minutes has been reached."""
        return self.run.max_minutes is not None and self.together.any(
            time.monotonic() > self.deadline
        )

    def whole_steps(self) -> WaitingSignals:
        """A context in which signals that ask the process to end wait for `end_step`."""
        return self._signals

    def end_step(self) -> None:
        """Write the checkpoint if that is due, and let a signal that waited for the end of the step act now."""
        if self.together.any(self._signals.waiting):
            if self._schedule.seconds < LONGEST_LAST_CHECKPOINT:
                self.save()
            self.together.wait()
            self._signals.act()
        if self._schedule.due:
            self.save()

    def log(self, more: dict[str, float] | None = None) -> None:
        """Append the figures, and more of them, to the log, step first, and to TensorBoard's where that is installed."""
        figures = {**self.figures.read(), **(more or {})}
        if not self.together.is_main:
            return
        new = not self.log_path.exists()
        with self.log_path.open("a", newline="", encoding="utf-8") as file:
            writer = csv.writer(file)
            if new:
                writer.writerow(["step", *figures])
            writer.writerow([self.step, *(f"{value:.6g}" for value in figures.values())])
        if self._board:
            for name, value in figures.items():
                self._board.add_scalar(name, value, self.step)

    @cached_property
    def _board(self) -> Any:
        """A writer of TensorBoard's event files, None where `talkemo[log]` is not installed."""
        try:
            from torch.utils.tensorboard import SummaryWriter
        except ImportError:
            return None
        # What an ended process wrote after its last checkpoint is written again.
        return SummaryWriter(str(self.run.out / "tensorboard" / self.stage), purge_step=self.step)

    def save(self) -> None:
        """Write the checkpoint; of several processes, the main one does, and all go on from it."""
        if not self.together.is_main:
            return
        with self._schedule.writing():
            tensors = {
                f"random/{name}": state.numpy()
                for name, state in _random_states(self.device).items()
            }
            for name, module in self.modules.items():
                for key, tensor in module.state_dict().items():
                    tensors[f"{name}/{key}"] = tensor.detach().cpu().numpy()
            for name, optimiser in self.optimisers.items():
                for index, state in optimiser.state_dict()["state"].items():
                    for key, tensor in state.items():
                        tensors[f"{name}/{index}/{key}"] = (
                            torch.as_tensor(tensor).detach().cpu().numpy()
                        )
            settings = {
                "step": self.step,
                "config": self.config,
                "figures": self.figures.state(),
                "random": self.rng.bit_generator.state,
            }
            save_weights(self.path, "checkpoint", tensors, settings)

    def discard(self) -> None:
        """Remove the checkpoint and the log: of an earlier training, or because they have served."""
        self.path.unlink(missing_ok=True)
        self.log_path.unlink(missing_ok=True)

    def _restore(self) -> None:
        try:
            with safe_open(self.path, "pt") as file:
                settings = json.loads(file.metadata()["talkemo"])
                tensors: dict[str, Any] = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
            if "random" not in settings:
                raise ValueError("it was written by an older talkemo")
            if settings.get("config") != self.config:
                raise InputError(
                    f"{self.path}: this training was begun with other settings",
                    "resume with the options it was begun with, or start anew in another folder",
                )
            for name, module in self.modules.items():
                module.load_state_dict(_under(name, tensors))
            for name, optimiser in self.optimisers.items():
                state: dict[int, dict[str, Any]] = {}
                for key, tensor in _under(name, tensors).items():
                    index, field = key.split("/")
                    # Files have no arrays without dimensions, which the counts of steps are.
                    state.setdefault(int(index), {})[field] = (
                        tensor.reshape(()) if field == "step" else tensor
                    )
                optimiser.load_state_dict(
                    {"state": state, "param_groups": optimiser.state_dict()["param_groups"]}
                )
            self.step = int(settings["step"])
            self.figures.restore(settings["figures"], self.device)
            self.rng.bit_generator.state = settings["random"]
            _restore_random_states(_under("random", tensors), self.device)
        except InputError:
            raise
        except (
            SafetensorError,
            OSError,
            LookupError,
            TypeError,
            ValueError,
            AttributeError,
            ArithmeticError,
            RuntimeError,
        ) as error:
            reason = (str(error) or type(error).__name__).splitlines()[0]
            raise InputError(
                f"{self.path}: cannot resume from this checkpoint ({reason})",
                "start anew without --resume, or in another folder",
            ) from None

    def _cut_log(self) -> None:
        """Drop rows of the log that are of steps after the checkpoint's, which will be made again, or not whole."""
        if not self.log_path.is_file():
            return
        header, *rows = self.log_path.read_bytes().splitlines(keepends=True) or [b""]
        kept = [row for row in rows if row.endswith(b"\n") and _step_of(row) <= self.step]
        if not header.endswith(b"\n"):
            self.log_path.unlink()
        elif len(kept) < len(rows):
            with atomic_write(self.log_path) as partial:
                partial.write_bytes(header + b"".join(kept))


def checkpoint_path(run: Run, stage: str) -> Path:
    """The checkpoint of a stage's training in the run's folder."""
    return run.out / f"{stage}.checkpoint.safetensors"


def log_path(run: Run, stage: str) -> Path:
    """The log of a stage's training in the run's folder."""
    return run.out / f"{stage}.log.csv"


def read_log(path: Path) -> dict[str, list[float]]:
    """The columns of a log by their names; none where there is no log."""
    if not path.is_file():
        return {}
    with path.open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    return {name: [float(row[name]) for row in rows] for name in (rows[0] if rows else {})}


def last_row(path: Path) -> dict[str, float]:
    """The figures of a log's last row; none where there is no log."""
    return {name: column[-1] for name, column in read_log(path).items()}


def steps_done(run: Run, stage: str) -> int:
    """The steps of a stage's checkpoint, 0 where there is none."""
    path = checkpoint_path(run, stage)
    if not path.is_file():
        return 0
    with safe_open(path, "pt") as file:
        return int(json.loads(file.metadata()["talkemo"])["step"])


def _origin_of(path: Path) -> str:
    """The origin of a checkpoint, empty where it cannot be read: restoring it says why."""
    try:
        with safe_open(path, "pt") as file:
            return str(json.loads(file.metadata()["talkemo"])["config"].get("origin", ""))
    except (SafetensorError, OSError, LookupError, TypeError, ValueError, AttributeError):
        return ""


def _under(name: str, tensors: dict[str, Any]) -> dict[str, Any]:
    """The tensors whose names begin with `name`/, without that."""
    return {
        key[len(name) + 1 :]: tensor
        for key, tensor in tensors.items()
        if key.startswith(f"{name}/")
    }


def _step_of(row: bytes) -> float:
    """The step of a row of the log; infinity where it is none."""
    number = row.split(b",")[0]
    return int(number) if number.isdigit() else float("inf")


def _random_states(device: torch.device) -> dict[str, torch.Tensor]:
    """The states of torch's generators, bytes: the CPU's, and the GPU's where networks are trained on one."""
    states = {"cpu": torch.get_rng_state()}
    if device.type == "cuda":
        states["cuda"] = torch.cuda.get_rng_state(device)
    return states


def _restore_random_states(states: dict[str, torch.Tensor], device: torch.device) -> None:
    torch.set_rng_state(states["cpu"])
    # A training that changes from the CPU to a GPU goes on with that generator's own seed.
    if device.type == "cuda" and "cuda" in states:
        torch.cuda.set_rng_state(states["cuda"], device)
