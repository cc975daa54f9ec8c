"""Table 1 of the paper: the talking model trained with constant and with local weights of the vertices."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np

from ..audio.recording import open_audio
from ..data.captures import FittedRecording, Report
from ..evaluation import metrics
from ..face.canonical import Face
from ..networks.talking import TalkingModel
from ..train import talking
from ..train.batches import neutral_recordings
from ..train.talking import PAPER
from ..weights.models import Models
from . import SEEDS
from .emotion_training import labelled, spread, temporary_run

EVERY_TRAINED = 8  # T is measured on every so many'th training clip
WEIGHTS = (
    ("constant", 0.0),
    ("local", PAPER.mouth),
)  # how much more the lips count than the rest of the face
COLUMNS = ("T-RE", "T-VE", "V-RE", "V-VE")
MASKS = (
    "mouth landmarks",
    "lips",
    "all",
)  # the first is the paper's: iBUG's 20 points around the mouth
MOUTH = slice(48, 68)


def table1(
    data: Path,
    cache: Path,
    models: Models,
    *,
    seeds: int = SEEDS,
    steps: int | None = None,
    corpora: tuple[str, ...] = ("ravdess", "grid_s1"),
    jobs: int = 1,
    progress: Report | None = None,
) -> dict[str, Any]:
    """RE (mm) and VE (mm a frame) of the talking model trained with constant and with local weights.

    Both are the paper's own variant, on neutral samples of ravdess and grid, trained from the same start for the same
    steps, once for each seed. T is measured on training clips, V on the dev split; means over frames. models: gives the
    face and the speech encoder. Captures are read from `cache` and made there where missing, see `load_captures`.
    """
    paper = replace(
        PAPER,
        shares=tuple((name, 1 / len(corpora)) for name in corpora),
        steps=steps or PAPER.steps,
    )
    rows = []
    with TemporaryDirectory() as folder:
        run = temporary_run(Path(folder), data, cache, models, jobs, progress)
        material = talking.gather(run, paper)
        recordings = neutral_recordings(run, list(corpora))
        measured = {
            "T": [r for r in recordings if r.split == "train"][::EVERY_TRAINED],
            "V": [r for r in recordings if r.split == "dev"],
        }
        for name, mouth in WEIGHTS:
            errors = []
            for seed in range(seeds):
                config = replace(paper, mouth=mouth, seed=seed)
                talking.fit(material, labelled(run, f"{name} weights, seed {seed}"), config)
                errors.append(_errors(run.models().talking, data, measured))
            rows += [_row(name, mask, errors) for mask in MASKS]
    return {
        "masks": {
            name: int(np.size(models.face.mean[rows, 0]))
            for name, rows in _masks(models.face).items()
        },
        "clips": {split: len(chosen) for split, chosen in measured.items()},
        "steps": paper.steps,
        "rows": rows,
    }


def _masks(face: Face) -> dict[str, Any]:
    """The vertices of each of MASKS."""
    return dict(zip(MASKS, (face.landmarks68[MOUTH], face.regions["lips"], slice(None))))


def _errors(
    model: TalkingModel, data: Path, measured: dict[str, list[FittedRecording]]
) -> dict[str, float]:
    """RE and VE by split and mask, under names such as `T-RE lips`: means over frames, over steps between frames."""
    masks, found = _masks(model.face), {}
    for split, recordings in measured.items():
        re, ve, frames = dict.fromkeys(MASKS, 0.0), dict.fromkeys(MASKS, 0.0), 0
        for r in recordings:
            predicted = model.motion(open_audio(data / r.audio), r.capture.time).displacement(
                model.face
            )
            reference = r.capture.motion(model.face).displacement(model.face)
            for mask, rows in masks.items():
                p, g = predicted[:, rows], reference[:, rows]
                re[mask] += metrics.reconstruction_error(p, g) * len(g)
                ve[mask] += metrics.velocity_error(p, g) * (len(g) - 1)
            frames += len(reference)
        for mask in MASKS:
            found[f"{split}-RE {mask}"] = re[mask] / frames
            found[f"{split}-VE {mask}"] = ve[mask] / (frames - len(recordings))
    return found


def _row(name: str, mask: str, errors: list[dict[str, float]]) -> dict[str, Any]:
    """A row of the table: mean and standard deviation over the seeds."""
    row: dict[str, Any] = {"weights": name, "mask": mask}
    for column in COLUMNS:
        values = [error[f"{column} {mask}"] for error in errors]
        row[column] = spread(values)
    return row
