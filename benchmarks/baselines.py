"""What simple things reach where the talking model is measured: one run, one table.

python benchmarks/baselines.py DATA CAPTURES [NAME=SET ...]

still        a face that does not move
mean         the mean shape of the training recordings
loudness     coordinates that are linear in how loud the sound is
neighbour    the motion of the training frame whose log-mel window is the nearest
ridge        linear regression from log-mel windows
NAME=SET     talking models of sets of weights, such as constant=run/ after `talkemo train talking --constant-weights`;
             default is always there

All learn from the same neutral recordings of the training split and are measured on the dev split as `talkemo evaluate --suite
dev` does: Pearson r of the mouth's opening and width, RE in mm on 2,004 vertices of the lips, means over clips.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from scipy.spatial import cKDTree

from talkemo import Motion, load_models
from talkemo.audio import Audio, open_audio
from talkemo.data import facegood
from talkemo.data.captures import load_captures
from talkemo.data.corpora import CORPORA
from talkemo.data.motion import from_rest
from talkemo.evaluation.lips import evaluate_lips
from talkemo.face import Face
from talkemo.networks.speech_encoder import FEATURE_RATE, MARGIN, log_mel_encoder

SIDE = 6  # features to either side of a frame, every second of them
COMPONENTS = 48  # of a window, in which neighbours are sought
FRAMES = 60_000  # of training, at most
RIDGE = 300.0
SMOOTH = 4  # features, 80 ms, over which loudness is averaged


@dataclass
class Baseline:
    """Stands in for a set of weights: its talking model is a function from windows and loudness to coordinates."""

    face: Face
    predict: Callable[[np.ndarray, np.ndarray], np.ndarray]

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
    feature = encoder.features(audio)[MARGIN:]
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


def main() -> None:
    """Print the table."""
    torch.set_num_threads(2)
    data, cache = Path(sys.argv[1]), Path(sys.argv[2])
    sets = {"default": "default", **dict(argument.split("=", 1) for argument in sys.argv[3:])}
    models = load_models(device="cpu")
    face = models.face
    present = tuple(corpus for corpus in CORPORA if (data / corpus).is_dir())
    recordings = from_rest(list(load_captures(data, cache, models, present)), face)
    if (data / facegood.CORPUS).is_dir():
        recordings += facegood.read(data, face)
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
        "loudness": evaluate_lips(data, cache, as_models(face, lambda _, level: of_loudness(level[:, None]))),
        "neighbour": evaluate_lips(data, cache, as_models(face, neighbour)),
        "ridge": evaluate_lips(data, cache, as_models(face, lambda found, _: of_windows(found))),
        **{name: evaluate_lips(data, cache, load_models(where, device="cpu")) for name, where in sets.items()},
    }
    corpora = [row["corpus"] for row in rows["default"]["corpora"]]
    print(f"{len(trained)} recordings, {len(windows)} frames; r opening / r width, RE mm")
    print("| | " + " | ".join(corpora) + " |")
    print("|---" * (len(corpora) + 1) + "|")
    for name, column in (("still", "re_still_mm"), ("mean", "re_mean_motion_mm")):
        print(f"| {name} | " + " | ".join(f"{row[column]:.2f}" for row in rows["default"]["corpora"]) + " |")
    for name, result in rows.items():
        cells = (f"{row['r_opening']:.2f} / {row['r_width']:.2f}, {row['re_mm']:.2f}" for row in result["corpora"])
        print(f"| {name} | " + " | ".join(cells) + " |")


def as_models(face: Face, predict: Callable[[np.ndarray, np.ndarray], np.ndarray]) -> Any:
    """A baseline in the place of a set of weights."""
    return Baseline(face, predict)


if __name__ == "__main__":
    main()
