"""How much more video of speakers would improve the lips: ridge regression on growing subsets.

python benchmarks/learning_curve.py DATA CAPTURES

The regression from the encoder's features is trained on a quarter, half and all of the training
speakers of talking, arabic_news and java_sed (selected as by `train lips --people`), with each
clip's opening and width standardised. Pearson r per clip, averaged over the clips of held-out
training speakers (every eighth). The encoder was trained on all speakers, so the small subsets are
slightly optimistic. The dev split is not used.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
import torch

from talkemo import load_models
from talkemo.audio.recording import open_audio
from talkemo.data.captures import FittedRecording, load_captures
from talkemo.data.rest_relative import relative_to_rest
from talkemo.evaluation.metrics import mouth_opening, mouth_width, pearson
from talkemo.networks.speech_encoder import FEATURE_RATE, SILENCE_MARGIN_FEATURES
from talkemo.train.batches import held_out_recordings
from talkemo.train.lips import select_speakers

CURVE_CORPORA = ("talking", "arabic_news", "java_sed")
HELD_OUT_SPEAKER_STRIDE = 8  # every eighth speaker is held out
SPEAKER_FRACTIONS = (0.25, 0.5, 1.0)  # of the remaining speakers
CONTEXT_SIDE = 6  # features on either side of a frame's; every second of the 13 is used
CURVE_RIDGE = 10_000.0


def main() -> None:
    """Print a row for each fraction of the speakers."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("data", type=Path)
    parser.add_argument("captures", type=Path)
    options = parser.parse_args()

    torch.set_num_threads(2)
    models = load_models(device="cpu")
    face, encoder = models.face, models.talking.encoder
    captured = load_captures(options.data, options.captures, models, CURVE_CORPORA)
    recordings = [r for r in relative_to_rest(list(captured), face) if r.split == "train"]
    held_out = held_out_recordings(recordings, HELD_OUT_SPEAKER_STRIDE)

    def inputs(r: FittedRecording) -> np.ndarray:
        feature = encoder.features(open_audio(options.data / r.audio))[
            SILENCE_MARGIN_FEATURES:-SILENCE_MARGIN_FEATURES, :-1
        ]
        offsets = np.arange(-CONTEXT_SIDE, CONTEXT_SIDE + 1, 2)
        index = np.round(r.capture.time * FEATURE_RATE).astype(int)[:, None] + offsets
        return feature[index.clip(0, len(feature) - 1)].reshape(len(index), -1).astype(np.float32)

    def targets(r: FittedRecording) -> np.ndarray:
        displacement = r.capture.motion(face).displacement(face)
        return np.column_stack([mouth_opening(displacement, face), mouth_width(displacement, face)])

    test = [(r.corpus, inputs(r), targets(r)) for r in held_out.values()]
    remaining = [r for r in recordings if r.name not in held_out]
    train = {r.name: (inputs(r), targets(r)) for r in remaining}
    for fraction in SPEAKER_FRACTIONS:
        chosen = select_speakers(remaining, fraction)
        correlations = measure([train[r.name] for r in chosen], test)
        speakers = len({r.speaker for r in chosen})
        minutes = sum(np.ptp(r.capture.time) for r in chosen) / 60
        print(
            f"{fraction:4.0%}  {speakers} speakers, {minutes:.0f} min  {correlations}", flush=True
        )


def measure(
    train: list[tuple[np.ndarray, np.ndarray]], test: list[tuple[str, np.ndarray, np.ndarray]]
) -> str:
    """Fit the regression; returns the mean correlations of opening and width by corpus."""
    x = np.concatenate([inputs for inputs, _ in train])
    target = np.concatenate([(y - y.mean(0)) / (y.std(0) + 1e-6) for _, y in train])
    mean, spread = x.mean(0), x.std(0) + 1e-3
    x = (x - mean) / spread
    penalty = CURVE_RIDGE * np.eye(x.shape[1], dtype=np.float32)
    solution = np.linalg.solve(x.T @ x + penalty, x.T @ target)
    scores: dict[str, list[list[float]]] = {}
    for corpus, inputs, truth in test:
        predicted = (inputs - mean) / spread @ solution
        scores.setdefault(corpus, []).append(
            [pearson(predicted[:, k], truth[:, k]) for k in (0, 1)]
        )
    return "  ".join(
        f"{corpus} {' / '.join(f'{value:.3f}' for value in np.mean(values, 0))}"
        for corpus, values in scores.items()
    )


if __name__ == "__main__":
    main()
