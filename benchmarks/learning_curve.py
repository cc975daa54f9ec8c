"""How much more filmed people would help the lips: ridge regression from the encoder's features, on ever more speakers.

python benchmarks/learning_curve.py DATA CAPTURES

Trained on a quarter, half and all of the training speakers of talking, arabic_news and java_sed (by `train lips --people`'s
choice), every clip's opening and width in units of its own spread. Pearson r a clip, mean over the clips of training speakers
that are left out (every eighth). The features are those of the talking model's own encoder, which was trained along on all
of these speakers, so that what a share lacks is motion, not features; the dev split takes no part.
"""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import torch

from talkemo import load_models
from talkemo.audio.recording import open_audio
from talkemo.data.captures import FittedRecording, load_captures
from talkemo.data.motion import from_rest
from talkemo.evaluation.metrics import mouth_opening, mouth_width, pearson
from talkemo.networks.speech_encoder import FEATURE_RATE, MARGIN
from talkemo.train.batches import held_out_recordings
from talkemo.train.lips import some_people

CORPORA = ("talking", "arabic_news", "java_sed")
HELD_OUT = 8  # every so many'th speaker
SHARES = (0.25, 0.5, 1.0)  # of the others
SIDE = 6  # features to either side of a frame, 13 in all
RIDGE = 10_000.0


def main() -> None:
    """Print a row for each share of the speakers."""
    torch.set_num_threads(2)
    data, cache = Path(sys.argv[1]), Path(sys.argv[2])
    models = load_models(device="cpu")
    face, encoder = models.face, models.talking.encoder
    recordings = [
        r
        for r in from_rest(list(load_captures(data, cache, models, CORPORA)), face)
        if r.split == "train"
    ]
    out = held_out_recordings(recordings, HELD_OUT)
    held, others = list(out.values()), [r for r in recordings if r.name not in out]

    def rows(r: FittedRecording) -> np.ndarray:
        feature = encoder.features(open_audio(data / r.audio))[MARGIN:-MARGIN, :-1]
        index = np.round(r.capture.time * FEATURE_RATE).astype(int)[:, None] + np.arange(
            -SIDE, SIDE + 1, 2
        )
        return feature[index.clip(0, len(feature) - 1)].reshape(len(index), -1).astype(np.float32)

    def wanted(r: FittedRecording) -> np.ndarray:
        moved = r.capture.motion(face).displacement(face)
        return np.column_stack([mouth_opening(moved, face), mouth_width(moved, face)])

    tested = [(r.corpus, rows(r), wanted(r)) for r in held]
    known = {r.name: (rows(r), wanted(r)) for r in others}
    for share in SHARES:
        chosen = some_people(others, share)
        x = np.concatenate([known[r.name][0] for r in chosen])
        target = np.concatenate(
            [(y - y.mean(0)) / (y.std(0) + 1e-6) for _, y in (known[r.name] for r in chosen)]
        )
        middle, spread = x.mean(0), x.std(0) + 1e-3
        x = (x - middle) / spread
        solution = np.linalg.solve(
            x.T @ x + RIDGE * np.eye(x.shape[1], dtype=np.float32), x.T @ target
        )
        scores: dict[str, list[list[float]]] = {}
        for corpus, features, truth in tested:
            found = (features - middle) / spread @ solution
            scores.setdefault(corpus, []).append(
                [pearson(found[:, k], truth[:, k]) for k in (0, 1)]
            )
        speakers, minutes = (
            {r.speaker for r in chosen},
            sum(np.ptp(r.capture.time) for r in chosen) / 60,
        )
        figures = "  ".join(
            f"{corpus} {' / '.join(f'{v:.3f}' for v in np.mean(s, 0))}"
            for corpus, s in scores.items()
        )
        print(f"{share:4.0%}  {len(speakers)} speakers, {minutes:.0f} min  {figures}", flush=True)


if __name__ == "__main__":
    main()
