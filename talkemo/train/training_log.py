"""The log of a training: means of losses, `STAGE.log.csv`, TensorBoard's files, and a plot."""

from __future__ import annotations

import csv
from functools import cached_property
from pathlib import Path
from typing import Any

import torch

from ..files.writing import atomic_write
from .run import Run

LOG_PANEL_INCHES = (3.2, 2.2)  # width and height of a metric's plot
LOG_PLOT_COLUMNS = 4  # panels in a row


class MeanLosses:
    """The mean of each loss over the steps since it was last read."""

    def __init__(self) -> None:
        self.sums: dict[str, torch.Tensor] = {}
        self.count = 0

    def add(self, losses: dict[str, torch.Tensor]) -> None:
        """Add the losses of a step: scalars on any device, which stay there until they are read."""
        for name, loss in losses.items():
            loss = loss.detach()
            self.sums[name] = self.sums[name] + loss if name in self.sums else loss
        self.count += 1

    def read(self) -> dict[str, float]:
        """Return the means, and reset them."""
        means = {name: float(total) / self.count for name, total in self.sums.items()}
        self.sums, self.count = {}, 0
        return means

    def state(self) -> dict[str, Any]:
        """Return the sums and the count as JSON values, which hold float32 exactly."""
        sums = {name: float(total) for name, total in self.sums.items()}
        return {"sums": sums, "count": self.count}

    def restore(self, state: dict[str, Any], device: torch.device) -> None:
        """Go on from what `state` returned."""
        self.sums = {
            name: torch.tensor(float(total), device=device) for name, total in state["sums"].items()
        }
        self.count = int(state["count"])


class LastLosses(MeanLosses):
    """The last value of each loss."""

    def add(self, losses: dict[str, torch.Tensor]) -> None:
        """Replace the losses that a step computed: scalars on any device."""
        self.sums |= {name: loss.detach() for name, loss in losses.items()}

    def read(self) -> dict[str, float]:
        """Return the values."""
        return {name: float(value) for name, value in self.sums.items()}


class TrainingLog:
    """`STAGE.log.csv` in the run's folder and, if `talkemo[log]` is installed, TensorBoard's."""

    def __init__(self, run: Run, training: str):
        self.path = log_path(run, training)
        self._board_folder = run.out / "tensorboard" / training
        self._first_step = 0

    def append(self, step: int, metrics: dict[str, float]) -> None:
        """Append a row: the step and the metrics."""
        new = not self.path.exists()
        with self.path.open("a", newline="", encoding="utf-8") as file:
            writer = csv.writer(file)
            if new:
                writer.writerow(["step", *metrics])
            writer.writerow([step, *(f"{value:.6g}" for value in metrics.values())])
        self._first_step = self._first_step or step
        if self._board:
            for name, value in metrics.items():
                self._board.add_scalar(name, value, step)

    def truncate(self, step: int) -> None:
        """Remove rows after a step, which will be written again, and incomplete ones."""
        if not self.path.is_file():
            return
        header, *rows = self.path.read_bytes().splitlines(keepends=True) or [b""]
        valid = [row for row in rows if row.endswith(b"\n") and _step_of(row) <= step]
        if not header.endswith(b"\n"):
            self.path.unlink()
        elif len(valid) < len(rows):
            with atomic_write(self.path) as partial:
                partial.write_bytes(header + b"".join(valid))

    @cached_property
    def _board(self) -> Any:
        """A writer of TensorBoard's event files, None if TensorBoard is not installed."""
        try:
            from torch.utils.tensorboard import SummaryWriter
        except ImportError:
            return None
        # Rows that an ended process wrote after its last checkpoint will be written again.
        return SummaryWriter(str(self._board_folder), purge_step=self._first_step)


def log_path(run: Run, training: str) -> Path:
    """Return the log of a training in the run's folder."""
    return run.out / f"{training}.log.csv"


def read_log(path: Path) -> dict[str, list[float]]:
    """Return the columns of a log by name; none if the file is missing."""
    if not path.is_file():
        return {}
    with path.open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    return {name: [float(row[name]) for row in rows] for name in (rows[0] if rows else {})}


def last_row(path: Path) -> dict[str, float]:
    """Return the metrics of a log's last row; none if the file is missing."""
    return {name: column[-1] for name, column in read_log(path).items()}


def plot_logs(run: Run, stage: str, trainings: list[str]) -> Path | None:
    """Plot the logs of a stage's trainings to `STAGE.png`, a panel for each metric.

    Returns None if there is no log or matplotlib is not installed.
    """
    try:
        from matplotlib.figure import Figure
    except ImportError:
        return None
    paths = {training: log_path(run, training) for training in trainings}
    logs = {training: read_log(path) for training, path in paths.items() if path.is_file()}
    columns = [name for log in logs.values() for name in log if name != "step"]
    metrics = list(dict.fromkeys(columns))
    if not metrics:
        return None
    rows = -(-len(metrics) // LOG_PLOT_COLUMNS)
    width, height = LOG_PANEL_INCHES
    figure = Figure(figsize=(width * LOG_PLOT_COLUMNS, height * rows), layout="constrained")
    for number, name in enumerate(metrics):
        axes = figure.add_subplot(rows, LOG_PLOT_COLUMNS, number + 1)
        for training, log in logs.items():
            if name in log:
                axes.plot(log["step"], log[name], label=training)
        axes.set_title(name, fontsize=9)
        axes.tick_params(labelsize=7)
        axes.grid(alpha=0.3)
        if len(logs) > 1:
            axes.legend(fontsize=7)
    path = run.out / f"{stage}.png"
    with atomic_write(path) as partial:
        figure.savefig(partial, format="png", dpi=110)
    return path


def _step_of(row: bytes) -> float:
    """Return the step of a log's row; infinity if the row has no step."""
    number = row.split(b",")[0]
    return int(number) if number.isdigit() else float("inf")
