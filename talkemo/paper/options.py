"""Options of the paper's tables and figures."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from ..options import CheckedOptions, option
from . import PAPER_SEEDS

PAPER_PANEL = "The paper, reproduced"


@dataclass(frozen=True)
class PaperOptions(CheckedOptions):
    """How the paper's tables and figures are reproduced."""

    seeds: int | None = option(
        None,
        f"How often table1, table2 and figure7 train each variant. Default: {PAPER_SEEDS}.",
        minimum=1,
        panel=PAPER_PANEL,
    )
    steps: int | None = option(
        None,
        "Steps of each training of table1, table2 and figure7. Default: each one's own.",
        minimum=1,
        panel=PAPER_PANEL,
    )
    trainings: Path | None = option(
        None,
        "table1, table2, figure7: keep the trainings in this folder, so that an interrupted run "
        "goes on. paper keeps them in its own folder.",
        panel=PAPER_PANEL,
    )
    study: Path | None = option(
        None,
        "paper: a study's folder with its participants' answers_*.json, for figure 8.",
        panel=PAPER_PANEL,
    )
