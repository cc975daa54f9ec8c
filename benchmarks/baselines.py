"""Simple baselines and the paper's models beside talkemo's: one run, two tables.

python benchmarks/baselines.py DATA CAPTURES RUN [--steps N] [NAME=SET ...]

Lips, on the dev split as `talkemo evaluate --data DATA` does: Pearson r of the mouth's opening and
width, RE in mm on 2,004 vertices of the lips, averaged over clips.

still        a face that does not move
mean         the mean shape of the training recordings
loudness     coordinates that are linear in the loudness of the audio
neighbour    the motion of the training frame with the nearest log-mel window
ridge        linear regression from log-mel windows
paper        the paper's talking model: local weights, neutral ravdess and grid alone, the bundled
             speech encoder
VOCA         paper, with constant instead of local weights
Karras       Karras et al. 2017, trained on the acted and neutral recordings of ravdess and grid
log-mel      paper, with log-mel bands instead of the speech encoder
default      the bundled set
NAME=SET     talking models of other sets of weights, such as free=free

Emotions, on neutral frames of ravdess's dev actors: the fraction that a classifier of real faces
recognises (of four classes), the correlation of the mouth's opening with before, and the mean
movement of the vertices in mm.

mean         difference between the training actors' mean shape with an emotion and neutral
PointNet     a PointNet as the generator
unaugmented  the geometry map's generator, trained on the actors alone
map          the same with the animator's augmentation, after as many iterations
default      the bundled set

Trainings are kept in RUN and resumed.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
from scipy.spatial import cKDTree

from talkemo import EMOTIONS, Models, Motion, load_models
from talkemo.audio.recording import Audio, open_audio
from talkemo.data import facegood
from talkemo.data.captures import FittedRecording, load_captures
from talkemo.data.corpora import CORPORA
from talkemo.data.rest_relative import acted_frames, relative_to_rest
from talkemo.evaluation.emotion import frames_motion, recognition_rate, recordings_of
from talkemo.evaluation.lips import evaluate_lips
from talkemo.evaluation.metrics import mouth_opening, pearson
from talkemo.expression.emotions import PAPER_EMOTIONS, one_hot
from talkemo.face.canonical import Face
from talkemo.networks.speech_encoder import FEATURE_RATE, SILENCE_MARGIN_FEATURES, log_mel_encoder
from talkemo.paper.figure7 import FIGURE7_NEUTRAL_STRIDE, trained_generator
from talkemo.paper.karras import KarrasConfig, train_karras
from talkemo.paper.training import Trainings, of_paper_emotions, paper_emotion_config
from talkemo.paper.variants import trained_talking
from talkemo.train import emotion

LOG_MEL_SIDE = 6  # features on either side of a frame's; every second of the 13 is used
NEIGHBOUR_COMPONENTS = 48  # principal components of a window in which neighbours are searched
MAX_TRAINING_FRAMES = 60_000
WINDOW_RIDGE = 300.0
LOUDNESS_FEATURES = 4  # 80 ms, over which loudness is averaged

# A baseline's prediction: windows (T, 7·160) and loudness (T,) → coordinates (T, S).
Predictor = Callable[[np.ndarray, np.ndarray], np.ndarray]


@dataclass
class Baseline:
    """Stands in for a set of weights whose talking model is a predictor."""

    models: Models
    predict: Predictor

    @property
    def face(self) -> Face:
        """The face of the bundled set."""
        return self.models.face

    @property
    def talking(self) -> Baseline:
        """Itself."""
        return self

    def motion(self, audio: Audio, times: np.ndarray) -> Motion:
        """The motion of a recording."""
        windows, loudness = audio_inputs(audio, times)
        return Motion(times, self.predict(windows, loudness).astype(np.float32))


encoder = log_mel_encoder()


def audio_inputs(audio: Audio, times: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Log-mel windows (T, 7·160) and loudness (T,) at times (T,) s."""
    feature = encoder.features(audio)[SILENCE_MARGIN_FEATURES:]
    index = np.round(times * FEATURE_RATE).astype(int)
    window = index[:, None] + np.arange(-LOG_MEL_SIDE, LOG_MEL_SIDE + 1, 2)
    smoothing = np.ones(LOUDNESS_FEATURES) / LOUDNESS_FEATURES
    loudness = np.convolve(feature[:, -1], smoothing, "same")
    windows = feature[window.clip(0, len(feature) - 1), :-1].reshape(len(times), -1)
    return windows, loudness[index.clip(0, len(loudness) - 1)]


def ridge_regression(
    x: np.ndarray, y: np.ndarray, penalty: float
) -> Callable[[np.ndarray], np.ndarray]:
    """Linear function from standardised inputs (T, F) to outputs (T, S), fitted to x and y."""
    mean, spread, output_mean = x.mean(0), x.std(0) + 1e-3, y.mean(0)
    z = (x - mean) / spread
    weights = np.linalg.solve(z.T @ z + penalty * np.eye(z.shape[1]), z.T @ (y - output_mean))
    return lambda inputs: ((inputs - mean) / spread) @ weights + output_mean


def training_recordings(data: Path, captures: Path, models: Models) -> list[FittedRecording]:
    """Neutral recordings of the training split of all corpora, shuffled."""
    face = models.face
    present = tuple(corpus for corpus in CORPORA if (data / corpus).is_dir())
    recordings = relative_to_rest(list(load_captures(data, captures, models, present)), face)
    if (data / facegood.CORPUS).is_dir():
        recordings += facegood.read_facegood(data, face)
    neutral = [r for r in recordings if r.emotion in ("neutral", "calm") and r.split == "train"]
    np.random.default_rng(0).shuffle(neutral)  # type: ignore[arg-type]
    return neutral


def fit_predictors(
    data: Path, recordings: list[FittedRecording], face: Face
) -> tuple[dict[str, Predictor], int]:
    """The loudness, neighbour and ridge baselines, and the number of frames they are fitted to."""
    inputs, levels, outputs, count = [], [], [], 0
    for r in recordings:
        window, loudness = audio_inputs(open_audio(data / r.audio), r.capture.time)
        inputs.append(window)
        levels.append(loudness)
        outputs.append(r.capture.motion(face).coordinates)
        count += len(loudness)
        if count > MAX_TRAINING_FRAMES:
            break
    windows, coordinates = np.concatenate(inputs), np.concatenate(outputs)
    from_loudness = ridge_regression(np.concatenate(levels)[:, None], coordinates, 0.0)
    from_windows = ridge_regression(windows, coordinates, WINDOW_RIDGE)
    mean = windows.mean(0)
    _, eigenvectors = np.linalg.eigh(np.cov((windows - mean).T))
    axes = eigenvectors[:, -NEIGHBOUR_COMPONENTS:]
    tree = cKDTree((windows - mean) @ axes)
    predictors: dict[str, Predictor] = {
        "loudness": lambda _, loudness: from_loudness(loudness[:, None]),
        "neighbour": lambda window, _: coordinates[
            tree.query((window - mean) @ axes, workers=2)[1]
        ],
        "ridge": lambda window, _: from_windows(window),
    }
    return predictors, len(windows)


def lips_table(options: argparse.Namespace, models: Models, sets: dict[str, str]) -> None:
    """Print the first table."""
    data, captures = options.data, options.captures
    recordings = training_recordings(data, captures, models)
    predictors, frames = fit_predictors(data, recordings, models.face)
    rows: dict[str, dict[str, Any]] = {}
    for name, predict in predictors.items():
        baseline: Any = Baseline(models, predict)
        rows[name] = evaluate_lips(data, captures, baseline)
    paper_variants: dict[str, dict[str, Any]] = {
        "paper": {},
        "VOCA": {"mouth": 0.0},
        "log-mel": {"features": "log-mel"},
    }
    trainings = Trainings(options.run, data, captures, models, progress=report)
    for name, changes in paper_variants.items():
        run = trainings.run(name)
        trained_talking(run, options.steps, **changes)
        rows[name] = evaluate_lips(data, captures, run.models())
    karras = train_karras(
        trainings.run("karras"), KarrasConfig(steps=options.steps or KarrasConfig.steps)
    )
    rival: Any = SimpleNamespace(face=models.face, talking=karras)
    rows["Karras"] = evaluate_lips(data, captures, rival)
    for name, weights in sets.items():
        rows[name] = evaluate_lips(data, captures, load_models(weights, device="cpu"))

    default = rows["default"]["corpora"]
    print(f"{len(recordings)} recordings, {frames} frames; r opening / r width, RE mm")
    print_header([row["corpus"] for row in default])
    for name, column in (("still", "re_still_mm"), ("mean", "re_mean_motion_mm")):
        print_row(name, [f"{row[column]:.2f}" for row in default])
    for name, result in rows.items():
        cells = [
            f"{row['r_opening']:.2f} / {row['r_width']:.2f}, {row['re_mm']:.2f}"
            for row in result["corpora"]
        ]
        print_row(name, cells)


def emotions_table(options: argparse.Namespace, models: Models) -> None:
    """Print the second table."""
    face, config = models.face, paper_emotion_config(options.steps)
    run = Trainings(options.run, options.data, options.captures, models, progress=report).run
    frames = of_paper_emotions(emotion.training_frames(run("map"), ("ravdess",)))
    dev = recordings_of(options.data, options.captures, models)
    neutral_frames = acted_frames([r for r in dev if r.emotion == "neutral"]).shapes
    before = frames_motion(face, neutral_frames[::FIGURE7_NEUTRAL_STRIDE])
    displacement = before.displacement(face)
    emotion.train_stargan(face, frames, run("map"), config)
    emotion.train_stargan(face, frames, run("unaugmented"), replace(config, augmentation=0.0))
    pointnet = trained_generator("PointNet, raw", face, frames, run("pointnet"), config)

    def mean_shape(name: str) -> np.ndarray:
        return frames.shapes[frames.emotion == EMOTIONS.index(name)].mean(0)

    def transferred(model: Any, name: str) -> np.ndarray:
        return model.transfer(before, one_hot(name)).displacement(face)

    def mean_difference(name: str) -> np.ndarray:
        return displacement + face.displacement(mean_shape(name) - mean_shape("neutral"))

    generators: dict[str, Callable[[str], np.ndarray]] = {
        "mean": mean_difference,
        "PointNet": lambda name: displacement + pointnet.change(displacement, name),
        "unaugmented": lambda name: transferred(run("unaugmented").models().emotion, name),
        "map": lambda name: transferred(run("map").models().emotion, name),
        "default": lambda name: transferred(models.emotion, name),
    }
    classifier, classes = models.classifier("four")
    print(
        f"\n{len(displacement)} frames, {config.iterations} iterations;"
        " recognised, r of the opening, movement mm"
    )
    print_header(list(PAPER_EMOTIONS[1:]))
    for generator, generate in generators.items():
        cells = []
        for name in PAPER_EMOTIONS[1:]:
            after = generate(name)
            r = pearson(mouth_opening(displacement, face), mouth_opening(after, face))
            rate = recognition_rate(classifier, classes, face, after, name)
            movement = np.linalg.norm(after - displacement, axis=2).mean()
            cells.append(f"{rate:.2f}, {r:.2f}, {movement:.1f}")
        print_row(generator, cells)


def print_header(columns: list[str]) -> None:
    """The first two lines of a Markdown table."""
    print_row("", columns)
    print("|---" * (len(columns) + 1) + "|")


def print_row(name: str, cells: list[str]) -> None:
    """A line of a Markdown table."""
    print(f"| {name} | " + " | ".join(cells) + " |")


def report(what: str, done: int, total: int) -> None:
    """Print the progress of a training on stderr."""
    print(f"\r{what} {done} of {total} ", end="", file=sys.stderr, flush=True)


def main() -> None:
    """Parse the command line and print the tables."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("data", type=Path)
    parser.add_argument("captures", type=Path)
    parser.add_argument("run", type=Path)
    parser.add_argument("sets", nargs="*", metavar="NAME=SET")
    parser.add_argument("--steps", type=int, help="of each training")
    options = parser.parse_intermixed_args()
    sets = {"default": "default", **dict(pair.split("=", 1) for pair in options.sets)}
    models = load_models(device="cpu")
    lips_table(options, models, sets)
    emotions_table(options, models)


if __name__ == "__main__":
    main()
