"""Table 1 of the paper: the talking model trained with constant and with local vertex weights."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from ..audio.recording import open_audio
from ..data.captures import FittedRecording, StepProgress
from ..evaluation import metrics
from ..face.canonical import LIPS, Face
from ..networks.talking import TalkingModel
from ..train import talking
from ..train.batches import neutral_recordings
from ..train.talking import PAPER_TALKING_CONFIG
from ..weights.models import Models
from . import PAPER_SEEDS
from .training import mean_and_spread, training_run, with_label

T_CLIP_STRIDE = 8  # T (errors on training data) is measured on every n-th training clip
# Additional weight of the lips in the loss of each variant.
MOUTH_WEIGHTS = {"constant": 0.0, "local": PAPER_TALKING_CONFIG.mouth}
TABLE1_COLUMNS = ("T-RE", "T-VE", "V-RE", "V-VE")
TABLE1_MASKS = (metrics.PAPER_MASK, "lips", "all")


def table1(
    data: Path,
    cache: Path,
    models: Models,
    *,
    seeds: int = PAPER_SEEDS,
    steps: int | None = None,
    corpora: tuple[str, ...] = ("ravdess", "grid_s1"),
    jobs: int = 1,
    progress: StepProgress | None = None,
) -> dict[str, Any]:
    """RE (mm) and VE (mm a frame) of the talking model trained with constant and local weights.

    Both are the paper's variant of the model, trained on the neutral recordings of ravdess and
    grid from the same start for the same steps, once for each seed.

    Parameters
    ----------
    data, cache, jobs, progress
        As in `load_captures`.
    seeds : int
        Trainings of each variant.
    steps : int, optional
        Steps of each training. Default: as PAPER_TALKING_CONFIG.
    corpora : tuple of str
        The corpora that are trained on, in equal shares.

    Returns
    -------
    dict
        `rows`, for each weighting and mask: T on training clips and V on the dev split, means over
        frames, with mean and standard deviation over seeds; `masks` and `clips`, their sizes.
    """
    shares = tuple((name, 1 / len(corpora)) for name in corpora)
    paper = replace(PAPER_TALKING_CONFIG, shares=shares, steps=steps or PAPER_TALKING_CONFIG.steps)
    rows = []
    with TemporaryDirectory() as folder:
        run = training_run(Path(folder), data, cache, models, jobs, progress)
        material = talking.gather_training_data(run, paper)
        recordings = neutral_recordings(run, list(corpora))
        measured = {
            "T": [r for r in recordings if r.split == "train"][::T_CLIP_STRIDE],
            "V": [r for r in recordings if r.split == "dev"],
        }
        for name, mouth in MOUTH_WEIGHTS.items():
            errors = []
            for seed in range(seeds):
                config = replace(paper, mouth=mouth, seed=seed)
                labelled_run = with_label(run, f"{name} weights, seed {seed}")
                talking.train_on_data(material, labelled_run, config)
                errors.append(_errors(run.models().talking, data, measured))
            rows += [_row(name, mask, errors) for mask in TABLE1_MASKS]
    masks = _masks(models.face)
    return {
        "masks": {name: len(models.face.mean[vertices]) for name, vertices in masks.items()},
        "clips": {split: len(recordings) for split, recordings in measured.items()},
        "steps": paper.steps,
        "rows": rows,
    }


def _masks(face: Face) -> dict[str, Any]:
    """The vertices of each of TABLE1_MASKS, as an index."""
    return dict(zip(TABLE1_MASKS, (face.landmarks68[LIPS], face.regions["lips"], slice(None))))


def _errors(
    model: TalkingModel, data: Path, measured: dict[str, list[FittedRecording]]
) -> dict[str, float]:
    """RE and VE by split and mask, such as `T-RE lips`: means over frames, and over their steps."""
    face, errors = model.face, {}
    for split, recordings in measured.items():
        re, ve, frames = dict.fromkeys(TABLE1_MASKS, 0.0), dict.fromkeys(TABLE1_MASKS, 0.0), 0
        for r in recordings:
            motion = model.motion(open_audio(data / r.audio), r.capture.time)
            predicted = motion.displacement(face)
            reference = r.capture.motion(face).displacement(face)
            for mask, vertices in _masks(face).items():
                p, g = predicted[:, vertices], reference[:, vertices]
                re[mask] += metrics.reconstruction_error(p, g) * len(g)
                ve[mask] += metrics.velocity_error(p, g) * (len(g) - 1)
            frames += len(reference)
        for mask in TABLE1_MASKS:
            errors[f"{split}-RE {mask}"] = re[mask] / frames
            errors[f"{split}-VE {mask}"] = ve[mask] / (frames - len(recordings))
    return errors


def _row(name: str, mask: str, errors: list[dict[str, float]]) -> dict[str, Any]:
    """A row of the table, of the errors of each seed."""
    columns = {
        column: mean_and_spread([error[f"{column} {mask}"] for error in errors])
        for column in TABLE1_COLUMNS
    }
    return {"weights": name, "mask": mask, **columns}
