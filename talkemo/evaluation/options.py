"""Options of `talkemo evaluate`: of each of its uses, and of the corpora that two uses share."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from ..options import CheckedOptions, option

PAIR_PANEL = "PRED and REF"
CORPORA_PANEL = "The models, on corpora"


@dataclass(frozen=True)
class PairOptions:
    """How two animations are compared."""

    neutral: Path | None = option(
        None,
        "The mesh at rest. Default: the reference's own, or its first frame.",
        panel=PAIR_PANEL,
    )
    mesh: Path | None = option(
        None,
        "The mesh whose vertices a .npy, .mdd or .pc2 has. Default: that of --neutral, or of the other animation.",
        panel=PAIR_PANEL,
    )
    fps: float | None = option(
        None,
        "Frames per second of a .npy, a .pc2 or a folder of meshes. Default: that of the other animation.",
        panel=PAIR_PANEL,
    )
    mask: Path | None = option(
        None, "A text file of vertex numbers; RE and VE over them are added.", panel=PAIR_PANEL
    )
    emotion: str | None = option(
        None,
        "The emotion that PRED should show, for CE. Default: that of its metadata.",
        panel=PAIR_PANEL,
    )


@dataclass(frozen=True)
class CorpusOptions(CheckedOptions):
    """The corpora that models are measured on."""

    data: Path | None = option(None, "The folder of the corpora.", panel=CORPORA_PANEL)
    captures: Path | None = option(
        None,
        "A folder of captures, see `talkemo reconstruct`. Missing captures are made in it. By "
        "default a folder in the cache.",
        panel=CORPORA_PANEL,
    )
    jobs: int = option(2, "Processes that fit the corpora.", minimum=1, panel=CORPORA_PANEL)


@dataclass(frozen=True)
class SplitOptions:
    """How the models are measured on a split of the corpora."""

    split: str | None = option(
        None,
        "dev: the split to measure: dev (default), train, or test if a corpus has one.",
        panel=CORPORA_PANEL,
    )
    against: str | None = option(
        None, "dev: a second set of weights, whose lips are measured too.", panel=CORPORA_PANEL
    )
