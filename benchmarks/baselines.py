"""What simple things reach where talkemo's models are measured: one run, two tables.

python benchmarks/baselines.py DATA CAPTURES RUN [--steps N] [NAME=SET ...]

Lips, on the dev split as `talkemo evaluate --data DATA` does: Pearson r of the mouth's opening and width, RE in mm on 2,004
vertices of the lips, means over clips.

still        a face that does not move
mean         the mean shape of the training recordings
loudness     coordinates that are linear in how loud the sound is
neighbour    the motion of the training frame whose log-mel window is the nearest
ridge        linear regression from log-mel windows
paper        the paper's own talking model: local weights, neutral ravdess and grid alone, the bundled speech encoder
VOCA         paper, with constant weights in the place of local ones
log-mel      paper, with log-mel bands in the place of the speech encoder
default      the bundled set
NAME=SET     talking models of other sets of weights, such as free=free

Emotions, on neutral frames of ravdess's dev actors: the share that a classifier of real faces recognises (of four classes), the
correlation of the mouth's opening with before, and how far vertices are moved in mm.

mean         what the training actors' mean shape with an emotion differs by from their neutral one
PointNet     a PointNet as the generator
unaugmented  the geometry map's generator, trained on the actors alone
map          the same with the animator's augmentation, after as many iterations
default      the bundled set

Trainings are kept in RUN, and gone on with.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from scipy.spatial import cKDTree

from talkemo import EMOTIONS, Models, Motion, load_models
from talkemo.audio.recording import Audio, open_audio
from talkemo.data import facegood
from talkemo.data.captures import load_captures
from talkemo.data.corpora import CORPORA
from talkemo.data.rest_relative import acted_frames, relative_to_rest
from talkemo.evaluation.emotion import frames_motion, recognition_rate, recordings_of
from talkemo.evaluation.lips import evaluate_lips
from talkemo.evaluation.metrics import mouth_opening, pearson
from talkemo.expression.emotions import PAPER_EMOTIONS, one_hot
from talkemo.face.canonical import Face
from talkemo.networks.speech_encoder import FEATURE_RATE, SILENCE_MARGIN_FEATURES, log_mel_encoder
from talkemo.paper.figure7 import FIGURE7_NEUTRAL_STRIDE, emotion_displacement, trained_pointnet
from talkemo.paper.training import emotion_config, of_paper_emotions
from talkemo.paper.variants import trained_talking, variant_run
from talkemo.train import emotion

SIDE = 6  # features to either side of a frame, every second of them
COMPONENTS = 48  # of a window, in which neighbours are sought
FRAMES = 60_000  # of training, at most
RIDGE = 300.0
SMOOTH = 4  # features, 80 ms, over which loudness is averaged


@dataclass
class Baseline:
    """Stands in for a set of weights: its talking model is a function from windows and loudness to coordinates."""

    models: Models
    predict: Callable[[np.ndarray, np.ndarray], np.ndarray]

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
        return Motion(times, self.predict(*heard(audio, times)).astype(np.float32))


encoder = log_mel_encoder()


def heard(audio: Audio, times: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Log-mel windows (T, 7 · 160) and loudness (T,) at times (T,)."""
    feature = encoder.features(audio)[SILENCE_MARGIN_FEATURES:]
    index = np.round(times * FEATURE_RATE).astype(int)
    around = (index[:, None] + np.arange(-SIDE, SIDE + 1, 2)).clip(0, len(feature) - 1)
    loud = np.convolve(feature[:, -1], np.ones(SMOOTH) / SMOOTH, "same")
    return feature[around, :-1].reshape(len(times), -1), loud[index.clip(0, len(loud) - 1)]


def linear(x: np.ndarray, y: np.ndarray, ridge: float) -> Callable[[np.ndarray], np.ndarray]:
    """Ridge regression from standardised x (T, F) to y (T, S)."""
    middle, spread, mean = x.mean(0), x.std(0) + 1e-3, y.mean(0)
    z = (x - middle) / spread
    weights = np.linalg.solve(z.T @ z + ridge * np.eye(z.shape[1]), z.T @ (y - mean))
    return lambda found: ((found - middle) / spread) @ weights + mean


def lips_table(
    data: Path, cache: Path, run: Path, models: Models, sets: dict[str, str], steps: int | None
) -> None:
    """Print the first table."""
    face = models.face
    present = tuple(corpus for corpus in CORPORA if (data / corpus).is_dir())
    recordings = relative_to_rest(list(load_captures(data, cache, models, present)), face)
    if (data / facegood.CORPUS).is_dir():
        recordings += facegood.read_facegood(data, face)
    trained = [r for r in recordings if r.emotion in ("neutral", "calm") and r.split == "train"]
    np.random.default_rng(0).shuffle(trained)  # type: ignore[arg-type]
    x, loud, y, count = [], [], [], 0
    for r in trained:
        window, loudness = heard(open_audio(data / r.audio), r.capture.time)
        x.append(window)
        loud.append(loudness)
        y.append(r.capture.motion(face).coordinates)
        count += len(loudness)
        if count > FRAMES:
            break
    windows, levels, wanted = np.concatenate(x), np.concatenate(loud)[:, None], np.concatenate(y)
    of_loudness, of_windows = linear(levels, wanted, 0.0), linear(windows, wanted, RIDGE)
    middle = windows.mean(0)
    _, basis = np.linalg.eigh(np.cov((windows - middle).T))
    axes = basis[:, -COMPONENTS:]
    tree = cKDTree((windows - middle) @ axes)

    def neighbour(found: np.ndarray, _: np.ndarray) -> np.ndarray:
        return wanted[tree.query((found - middle) @ axes, workers=2)[1]]

    rows: dict[str, dict[str, Any]] = {
        "loudness": evaluate_lips(
            data, cache, as_models(models, lambda _, level: of_loudness(level[:, None]))
        ),
        "neighbour": evaluate_lips(data, cache, as_models(models, neighbour)),
        "ridge": evaluate_lips(data, cache, as_models(models, lambda found, _: of_windows(found))),
    }
    of_paper: dict[str, dict[str, Any]] = {
        "paper": {},
        "VOCA": {"mouth": 0.0},
        "log-mel": {"features": "log-mel"},
    }
    for name, changes in of_paper.items():
        training = variant_run(run, name, data, cache, models, progress=told)
        trained_talking(training, steps, **changes)
        rows[name] = evaluate_lips(data, cache, training.models())
    for name, where in sets.items():
        rows[name] = evaluate_lips(data, cache, load_models(where, device="cpu"))
    corpora = [row["corpus"] for row in rows["default"]["corpora"]]
    print(f"{len(trained)} recordings, {len(windows)} frames; r opening / r width, RE mm")
    print("| | " + " | ".join(corpora) + " |")
    print("|---" * (len(corpora) + 1) + "|")
    for name, column in (("still", "re_still_mm"), ("mean", "re_mean_motion_mm")):
        print(
            f"| {name} | "
            + " | ".join(f"{row[column]:.2f}" for row in rows["default"]["corpora"])
            + " |"
        )
    for name, result in rows.items():
        cells = (
            f"{row['r_opening']:.2f} / {row['r_width']:.2f}, {row['re_mm']:.2f}"
            for row in result["corpora"]
        )
        print(f"| {name} | " + " | ".join(cells) + " |")


def emotions_table(data: Path, cache: Path, run: Path, models: Models, steps: int | None) -> None:
    """Print the second table."""
    face, usual = models.face, emotion_config(steps)
    start = lambda name: variant_run(run, name, data, cache, models, progress=told)
    every = emotion.training_frames(start("map"), ("ravdess",))
    frames = of_paper_emotions(every)
    dev = recordings_of(data, cache, models)
    before = frames_motion(
        face,
        acted_frames([r for r in dev if r.emotion == "neutral"]).shapes[::FIGURE7_NEUTRAL_STRIDE],
    )
    shown = before.displacement(face)
    mean_of = lambda name: frames.shapes[frames.emotion == EMOTIONS.index(name)].mean(0)
    emotion.train_stargan(face, frames, start("map"), usual)
    emotion.train_stargan(face, frames, start("unaugmented"), replace(usual, augmentation=0.0))
    points = trained_pointnet(face, frames, start("pointnet"), usual)
    transferred = lambda model, name: model.transfer(before, one_hot(name)).displacement(face)
    generators: dict[str, Callable[[str], np.ndarray]] = {
        "mean": lambda name: shown + face.displacement(mean_of(name) - mean_of("neutral")),
        "PointNet": lambda name: shown + emotion_displacement(face, points, shown, name),
        "unaugmented": lambda name: transferred(start("unaugmented").models().emotion, name),
        "map": lambda name: transferred(start("map").models().emotion, name),
        "default": lambda name: transferred(models.emotion, name),
    }
    classifier, classes = models.classifier("four")
    print(
        f"\n{len(shown)} frames, {usual.iterations} iterations; recognised, r of the opening, moved mm"
    )
    print("| | " + " | ".join(PAPER_EMOTIONS[1:]) + " |")
    print("|---" * len(PAPER_EMOTIONS) + "|")
    for generator, generate in generators.items():
        cells = []
        for name in PAPER_EMOTIONS[1:]:
            after = generate(name)
            r = pearson(mouth_opening(shown, face), mouth_opening(after, face))
            found = recognition_rate(classifier, classes, face, after, name)
            cells.append(
                f"{found:.2f}, {r:.2f}, {np.linalg.norm(after - shown, axis=2).mean():.1f}"
            )
        print(f"| {generator} | " + " | ".join(cells) + " |")


def told(what: str, done: int, total: int) -> None:
    """Say on stderr how far a training is."""
    print(f"\r{what} {done} of {total} ", end="", file=sys.stderr, flush=True)


def main() -> None:
    """Print the tables."""
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
    lips_table(options.data, options.captures, options.run, models, sets, options.steps)
    emotions_table(options.data, options.captures, options.run, models, options.steps)


def as_models(models: Models, predict: Callable[[np.ndarray, np.ndarray], np.ndarray]) -> Any:
    """A baseline in the place of a set of weights."""
    return Baseline(models, predict)


if __name__ == "__main__":
    main()
