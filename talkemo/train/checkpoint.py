"""Checkpoints of a training: `STAGE.checkpoint.safetensors` in the run's folder.

A checkpoint holds the whole state of a training: networks, optimisers, random generators, and
losses that are not logged yet. A resumed training gives the same weights as an uninterrupted one,
bit for bit on one thread. accelerate's own checkpoints are not used: they are pickles, which are
not safe to load.
"""

from __future__ import annotations

import json
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open

from ..errors import InputError
from ..weights.files import save_weights
from .run import Run

FIRST_CHECKPOINT_S = 20.0  # s of work before the first checkpoint of a process
CHECKPOINT_INTERVAL_S = 60.0  # s from a checkpoint to the next, at least
MAX_CHECKPOINT_SHARE = 0.05  # of the time spent on checkpoints; slow disks get fewer of them

Networks = Mapping[str, torch.nn.Module]
Optimisers = Mapping[str, torch.optim.Optimizer]


class CheckpointTimer:
    """Decides when a checkpoint is due: soon at first, then each minute, less often if slow."""

    def __init__(self) -> None:
        self.seconds = 0.0  # duration of the last checkpoint
        self._next = time.monotonic() + FIRST_CHECKPOINT_S

    @property
    def due(self) -> bool:
        """Whether a checkpoint is due."""
        return time.monotonic() >= self._next

    @contextmanager
    def writing(self) -> Iterator[None]:
        """Measure how long the block takes, and set the time of the next checkpoint."""
        start = time.monotonic()
        yield
        self.seconds = time.monotonic() - start
        self._next = start + max(CHECKPOINT_INTERVAL_S, self.seconds / MAX_CHECKPOINT_SHARE)


def checkpoint_path(run: Run, training: str) -> Path:
    """Return the checkpoint file of a training in the run's folder."""
    return run.out / f"{training}.checkpoint.safetensors"


def steps_done(run: Run, training: str) -> int:
    """Return the steps of a training's checkpoint, 0 without one."""
    path = checkpoint_path(run, training)
    return int(_read_header(path)["step"]) if path.is_file() else 0


def checkpoint_fingerprint(path: Path) -> str:
    """Return the `Run.fingerprint` of a checkpoint's training, empty if it is damaged."""
    try:
        return str(_read_header(path)["config"].get("origin", ""))
    except (SafetensorError, OSError, LookupError, TypeError, ValueError, AttributeError):
        return ""


def _read_header(path: Path) -> dict[str, Any]:
    with safe_open(path, "pt") as file:
        return json.loads(file.metadata()["talkemo"])  # type: ignore[no-any-return]


def write_checkpoint(
    path: Path,
    networks: Networks,
    optimisers: Optimisers,
    device: torch.device,
    header: dict[str, Any],
) -> None:
    """Write a checkpoint; names of networks and optimisers begin the names of their tensors.

    `header` holds JSON values: step, config, figures (losses that are not logged yet), random.
    """
    tensors = {f"random/{name}": state.numpy() for name, state in _random_states(device).items()}
    for name, network in networks.items():
        for key, tensor in network.state_dict().items():
            tensors[f"{name}/{key}"] = tensor.detach().cpu().numpy()
    for name, optimiser in optimisers.items():
        for index, state in optimiser.state_dict()["state"].items():
            for key, value in state.items():
                tensors[f"{name}/{index}/{key}"] = torch.as_tensor(value).detach().cpu().numpy()
    save_weights(path, "checkpoint", tensors, header)


def read_checkpoint(path: Path) -> tuple[dict[str, torch.Tensor], dict[str, Any]]:
    """Return a checkpoint's tensors and header; to be called in `checkpoint_errors`."""
    with safe_open(path, "pt") as file:
        header = json.loads(file.metadata()["talkemo"])
        tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    if "random" not in header:
        raise ValueError("it was written by an older talkemo")
    return tensors, header


def restore_checkpoint(
    tensors: dict[str, torch.Tensor],
    networks: Networks,
    optimisers: Optimisers,
    device: torch.device,
) -> None:
    """Give networks, optimisers and torch's random generators the state of a checkpoint."""
    for name, network in networks.items():
        network.load_state_dict(_tensors_under(name, tensors))
    for name, optimiser in optimisers.items():
        state: dict[int, dict[str, Any]] = {}
        for key, tensor in _tensors_under(name, tensors).items():
            index, field = key.split("/")
            # Step counts are 0-d tensors, stored with one dimension.
            value = tensor.reshape(()) if field == "step" else tensor
            state.setdefault(int(index), {})[field] = value
        groups = optimiser.state_dict()["param_groups"]
        optimiser.load_state_dict({"state": state, "param_groups": groups})
    random = _tensors_under("random", tensors)
    torch.set_rng_state(random["cpu"])
    # A training that moves from the CPU to a GPU begins with that generator's default seed.
    if device.type == "cuda" and "cuda" in random:
        torch.cuda.set_rng_state(random["cuda"], device)


@contextmanager
def checkpoint_errors(path: Path) -> Iterator[None]:
    """Turn what a damaged checkpoint raises into an InputError."""
    try:
        yield
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
            f"{path}: cannot resume from this checkpoint ({reason})",
            "start again without --resume, or in another folder",
        ) from None


def _tensors_under(name: str, tensors: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """Return the tensors whose names begin with NAME/, without that prefix."""
    prefix = f"{name}/"
    return {
        key.removeprefix(prefix): tensor
        for key, tensor in tensors.items()
        if key.startswith(prefix)
    }


def _random_states(device: torch.device) -> dict[str, torch.Tensor]:
    """Return the states (bytes) of torch's generators: the CPU's, and that of a GPU if used."""
    states = {"cpu": torch.get_rng_state()}
    if device.type == "cuda":
        states["cuda"] = torch.cuda.get_rng_state(device)
    return states
