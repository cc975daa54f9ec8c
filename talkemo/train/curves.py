"""A picture of a training's log: `out`/STAGE.png, a panel for each figure over the steps."""

from __future__ import annotations

from pathlib import Path

from ..files.writing import atomic_write
from .loop import log_path, read_log
from .run import Run

PANEL = (3.2, 2.2)  # inches
COLUMNS = 4


def draw(run: Run, stage: str, trainings: list[str]) -> Path | None:
    """Draw the logs of a stage's trainings, one line each; None where there are none, or no matplotlib to draw with."""
    try:
        from matplotlib.figure import Figure
    except ImportError:
        return None
    logs = {
        name: read_log(log_path(run, name)) for name in trainings if log_path(run, name).is_file()
    }
    names = list(
        dict.fromkeys(name for columns in logs.values() for name in columns if name != "step")
    )
    if not names:
        return None
    rows = -(-len(names) // COLUMNS)
    figure = Figure(figsize=(PANEL[0] * COLUMNS, PANEL[1] * rows), layout="constrained")
    for number, name in enumerate(names):
        axes = figure.add_subplot(rows, COLUMNS, number + 1)
        for training, columns in logs.items():
            if name in columns:
                axes.plot(columns["step"], columns[name], label=training)
        axes.set_title(name, fontsize=9)
        axes.tick_params(labelsize=7)
        axes.grid(alpha=0.3)
        if len(logs) > 1:
            axes.legend(fontsize=7)
    path = run.out / f"{stage}.png"
    with atomic_write(path) as partial:
        figure.savefig(partial, format="png", dpi=110)
    return path
