"""What every training shares: checkpoints that can be resumed, a log of losses, a limit in minutes."""

from __future__ import annotations

import csv
import json
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors import SafetensorError, safe_open

from ..errors import InputError
from ..weights import save_weights
from .run import Run

BFLOAT16_CAPABILITY = (8, 0)  # CUDA compute capability from which on a GPU multiplies bfloat16 matrices itself


def half_precision(device: torch.device) -> torch.autocast:
    """A context in which matrices are multiplied in bfloat16, where the device has units for that."""
    if device.type == "cuda":
        enabled = torch.cuda.get_device_capability(device) >= BFLOAT16_CAPABILITY
    else:
        enabled = getattr(torch.cpu, "_is_amx_tile_supported", lambda: False)()
    return torch.autocast(device.type, torch.bfloat16, enabled=bool(enabled))


class Means:
    """Means of losses over the steps since they were last read."""

    def __init__(self) -> None:
        self.sums: dict[str, torch.Tensor] = {}
        self.count = 0

    def add(self, losses: dict[str, torch.Tensor]) -> None:
        """Add the losses of a step, scalars on any device. They stay there until they are read."""
        for name, loss in losses.items():
            self.sums[name] = self.sums[name] + loss.detach() if name in self.sums else loss.detach()
        self.count += 1

    def read(self) -> dict[str, float]:
        """The means, from which on counting begins anew."""
        means = {name: float(total) / self.count for name, total in self.sums.items()}
        self.sums, self.count = {}, 0
        return means


class Loop:
    """Counts steps, writes `STAGE.log.csv` and `STAGE.checkpoint.safetensors` into the run's folder.

    modules: name → torch module; optimisers: name → Adam. Both are restored where the run resumes a checkpoint.
    config: settings that a training must be resumed with
    """

    def __init__(
        self,
        stage: str,
        run: Run,
        modules: dict[str, torch.nn.Module],
        optimisers: dict[str, torch.optim.Optimizer],
        config: dict[str, Any],
    ):
        self.path = run.out / f"{stage}.checkpoint.safetensors"
        self.log_path = run.out / f"{stage}.log.csv"
        self.modules, self.optimisers = modules, optimisers
        self.config = json.loads(json.dumps({**config, "start": run.start_digest(stage)}))
        self.deadline = time.monotonic() + 60 * run.max_minutes if run.max_minutes else float("inf")
        self.step = 0
        self.minutes = 0.0
        self._since = time.monotonic()
        run.out.mkdir(parents=True, exist_ok=True)
        if run.resume and self.path.is_file():
            self._restore()
        else:
            self.log_path.unlink(missing_ok=True)
        self.board = _tensorboard(run.out / "tensorboard" / stage)

    @property
    def out_of_time(self) -> bool:
        """Whether the limit in minutes has been reached."""
        return time.monotonic() > self.deadline

    def log(self, figures: dict[str, float]) -> None:
        """Append a line of figures to the log, step first, and to TensorBoard's where that is installed."""
        new = not self.log_path.exists()
        with self.log_path.open("a", newline="", encoding="utf-8") as file:
            writer = csv.writer(file)
            if new:
                writer.writerow(["step", *figures])
            writer.writerow([self.step, *(f"{value:.6g}" for value in figures.values())])
        if self.board:
            for name, value in figures.items():
                self.board.add_scalar(name, value, self.step)

    def save(self) -> None:
        """Write the checkpoint."""
        tensors: dict[str, np.ndarray] = {}
        for name, module in self.modules.items():
            for key, tensor in module.state_dict().items():
                tensors[f"{name}/{key}"] = tensor.detach().cpu().numpy()
        for name, optimiser in self.optimisers.items():
            for index, state in optimiser.state_dict()["state"].items():
                for key, tensor in state.items():
                    tensors[f"{name}/{index}/{key}"] = torch.as_tensor(tensor).detach().cpu().numpy()
        self.minutes += (time.monotonic() - self._since) / 60
        self._since = time.monotonic()
        settings = {"step": self.step, "minutes": self.minutes, "config": self.config}
        save_weights(self.path, "checkpoint", tensors, settings)

    def _restore(self) -> None:
        try:
            with safe_open(self.path, "pt") as file:
                settings = json.loads(file.metadata()["talkemo"])
                tensors: dict[str, Any] = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
            if settings.get("config", {}) != self.config:
                raise InputError(
                    f"{self.path}: this training was begun with other settings",
                    "resume with the options it was begun with, or start anew in another folder",
                )
            for name, module in self.modules.items():
                prefix = f"{name}/"
                module.load_state_dict({k[len(prefix) :]: t for k, t in tensors.items() if k.startswith(prefix)})
            for name, optimiser in self.optimisers.items():
                state: dict[int, dict[str, Any]] = {}
                for key, tensor in tensors.items():
                    if key.startswith(f"{name}/"):
                        _, index, field = key.split("/")
                        state.setdefault(int(index), {})[field] = tensor
                optimiser.load_state_dict({"state": state, "param_groups": optimiser.state_dict()["param_groups"]})
            self.step, self.minutes = int(settings["step"]), float(settings["minutes"])
        except InputError:
            raise
        except (SafetensorError, OSError, KeyError, TypeError, ValueError, RuntimeError) as error:
            reason = (str(error) or type(error).__name__).splitlines()[0]
            raise InputError(
                f"{self.path}: cannot resume from this checkpoint ({reason})",
                "start anew without --resume, or in another folder",
            ) from None


def _tensorboard(folder: Path) -> Any:
    """A writer of TensorBoard's event files, None where `talkemo[log]` is not installed."""
    try:
        from torch.utils.tensorboard import SummaryWriter
    except ImportError:
        return None
    return SummaryWriter(str(folder))
