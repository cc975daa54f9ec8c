"""Table 1 of the paper: the talking model trained with constant and with local vertex weights."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np

from ..audio.recording import open_audio
from ..data.captures import FittedRecording, StepProgress
from ..evaluation import metrics
from ..face.canonical import LIPS, Face
from ..networks.speech_encoder import FEATURE_RATE, SILENCE_MARGIN_FEATURES
from ..networks.talking import TalkingModel
from ..train import talking
from ..train.batches import neutral_recordings
from ..train.run import Run
from ..train.talking import PAPER_TALKING_CONFIG, TalkingConfig
from ..weights.models import Models
from . import PAPER_SEEDS
from .decoders import DECODERS, WEIGHTINGS, read_model, training_maker
from .training import Trainings, mean_and_spread, trainings_folder

T_CLIP_STRIDE = 8  # T (errors on training data) is measured on every n-th training clip
PAPER_EPOCHS = 100
FRAMES_A_STEP = 64  # the paper's batch
STYLES_OF_STRANGERS = 5  # styles that a speaker who was not trained on is predicted with
TABLE1_COLUMNS = ("T-RE", "T-VE", "V-RE", "V-VE")
TABLE1_MASKS = (metrics.PAPER_MASK, "lips", "all")


def table1(
    data: Path,
    cache: Path,
    models: Models,
    *,
    seeds: int = PAPER_SEEDS,
    steps: int | None = None,
    trainings: Path | None = None,
    corpora: tuple[str, ...] = ("ravdess", "grid_s1"),
    jobs: int = 1,
    progress: StepProgress | None = None,
) -> dict[str, Any]:
    """RE (mm) and VE (mm a frame) of the talking model by its decoder and its vertex weights.

    Each is the paper's variant of the model (see `decoders`), trained on the neutral recordings of
    ravdess and grid from the same start for the same steps, once for each seed. Speakers
    have their style, as in VOCA: the one-hot of a training speaker. People who were not trained on
    are predicted with several of these styles, and the errors are averaged.

    Parameters
    ----------
    data, cache, jobs, progress
        As in `load_captures`.
    seeds : int
        Trainings of each variant.
    steps : int, optional
        Steps of each training. Default: PAPER_EPOCHS epochs of FRAMES_A_STEP frames.
    trainings : Path, optional
        Folder that keeps the trainings, so that an interrupted run goes on. Default: none are kept.
    corpora : tuple of str
        The corpora that are trained on, in equal shares.

    Returns
    -------
    dict
        `rows`, for each decoder, weighting and mask: T on training clips and V on the dev split,
        means over frames, with mean and standard deviation over seeds. Columns that end in `still`
        are relative to the error of a face that does not move. `masks` and `clips`: their sizes.
    """
    shares = tuple((name, 1 / len(corpora)) for name in corpora)
    paper = replace(PAPER_TALKING_CONFIG, shares=shares)
    with trainings_folder(trainings) as folder:
        kept = Trainings(folder / "table1", data, cache, models, jobs, progress)
        material = talking.gather_training_data(kept.run("data"), paper)
        frames = sum(len(clip.time) for clip in material.clips)
        paper = replace(paper, steps=steps or round(PAPER_EPOCHS * frames / FRAMES_A_STEP))
        measured = _measured_recordings(kept.run("data"), corpora)
        errors = {
            variant: [
                _errors(_trained(material, kept, paper, variant, seed, seeds), data, measured)
                for seed in range(seeds)
            ]
            for variant in product(DECODERS, WEIGHTINGS)
        }
    return {
        "masks": {name: len(models.face.mean[v]) for name, v in _masks(models.face).items()},
        "clips": {split: len(recordings) for split, recordings in measured.items()},
        "training": {"recordings": len(material.clips), "frames": frames},
        "steps": paper.steps,
        "epochs": paper.steps * FRAMES_A_STEP / frames,
        "rows": [
            _row(*variant, mask, of_seeds)
            for variant, of_seeds in errors.items()
            for mask in TABLE1_MASKS
        ],
    }


def _measured_recordings(run: Run, corpora: tuple[str, ...]) -> dict[str, list[FittedRecording]]:
    """The neutral recordings that errors are measured on, by split."""
    recordings = neutral_recordings(run, list(corpora))
    return {
        "T": [r for r in recordings if r.split == "train"][::T_CLIP_STRIDE],
        "V": [r for r in recordings if r.split == "dev"],
    }


def _trained(
    material: talking.TalkingData,
    trainings: Trainings,
    config: TalkingConfig,
    variant: tuple[str, str],
    seed: int,
    seeds: int,
) -> TalkingModel:
    """Train a decoder with a weighting and one of several seeds, or go on with its training."""
    run = trainings.seeded(", ".join(variant), seed, seeds)
    maker = training_maker(*variant)
    return read_model(talking.train_on_data(material, run, replace(config, seed=seed), maker), run)


def _masks(face: Face) -> dict[str, Any]:
    """The vertices of each of TABLE1_MASKS, as an index."""
    return dict(zip(TABLE1_MASKS, (face.landmarks68[LIPS], face.regions["lips"], slice(None))))


def _errors(
    model: TalkingModel, data: Path, measured: dict[str, list[FittedRecording]]
) -> dict[str, float]:
    """RE and VE by split and mask, such as `T-RE lips`: means over frames, and over their steps.

    `T-RE lips still` is the same of a face that does not move.
    """
    face, errors = model.face, {}
    for split, recordings in measured.items():
        sums: dict[str, float] = {}
        frames = 0
        for r in recordings:
            reference = r.capture.motion(face).displacement(face)
            still = np.zeros_like(reference[:1]).repeat(len(reference), axis=0)
            predictions = list(_predictions(model, data, r))
            for suffix, of_kind in (("", predictions), (" still", [still])):
                for column, error in _summed_errors(face, of_kind, reference).items():
                    name = f"{split}-{column}{suffix}"
                    sums[name] = sums.get(name, 0.0) + error
            frames += len(reference)
        for name, total in sums.items():
            errors[name] = total / (frames if "-RE " in name else frames - len(recordings))
    return errors


def _summed_errors(
    face: Face, predictions: list[np.ndarray], reference: np.ndarray
) -> dict[str, float]:
    """RE and VE by mask, summed over frames and their steps; means over predictions."""
    sums: dict[str, float] = {}
    for mask, vertices in _masks(face).items():
        target, steps = reference[:, vertices], len(reference) - 1
        shown = [predicted[:, vertices] for predicted in predictions]
        re = [metrics.reconstruction_error(p, target) for p in shown]
        ve = [metrics.velocity_error(p, target) for p in shown]
        sums[f"RE {mask}"] = float(np.mean(re)) * len(reference)
        sums[f"VE {mask}"] = float(np.mean(ve)) * steps
    return sums


def _predictions(model: TalkingModel, data: Path, r: FittedRecording) -> Iterator[np.ndarray]:
    """Yield displacements (T, V, 3) mm of a recording by its speaker's style, or by some styles."""
    face = model.face
    count = len(model.styles)
    if r.speaker in model.styles:
        styles = [model.styles.index(r.speaker)]
    else:
        styles = list(range(0, count, -(-count // STYLES_OF_STRANGERS)))
    features = np.concatenate(list(model.encoder.stream(open_audio(data / r.audio))))
    times = r.capture.time + SILENCE_MARGIN_FEATURES / FEATURE_RATE
    for style in styles:
        output, _ = model.predict(features, times, style)
        if output.shape[1] == len(face.span):
            output = output @ face.span.reshape(len(face.span), -1)
        yield output.reshape(len(times), -1, 3)


def _row(decoder: str, weighting: str, mask: str, errors: list[dict[str, float]]) -> dict[str, Any]:
    """A row of the table, of the errors of each seed."""
    columns: dict[str, Any] = {}
    for column in TABLE1_COLUMNS:
        of_seeds = [error[f"{column} {mask}"] for error in errors]
        columns[column] = mean_and_spread(of_seeds)
        still = errors[0][f"{column} {mask} still"]
        columns[f"{column} still"] = float(np.mean(of_seeds)) / still
    return {"decoder": decoder, "weights": weighting, "mask": mask, **columns}
