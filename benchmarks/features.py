"""What the lips gain from each kind of speech features: ridge regression from 13 of them to the opening of the mouth.

python benchmarks/features.py DATA CAPTURES [--teacher]

Pearson r a clip, mean over the clips of training speakers that are left out of the regression (every eighth of talking's,
every eighth clip of grid_s1's, forty at most). The encoder was trained on their sound, but not on their motion. The dev
split takes no part: the choice of features is made here.
"""

import sys
from pathlib import Path

import numpy as np
import torch

from talkemo import load_models
from talkemo.audio.loudness import normalised_rows
from talkemo.audio.recording import open_audio
from talkemo.data.captures import load_captures
from talkemo.data.motion import from_rest
from talkemo.evaluation.metrics import mouth_opening, pearson
from talkemo.networks.speech_encoder import FEATURE_RATE, EncoderNetwork
from talkemo.train.batches import held_out_recordings

HELD_OUT = 8  # every so many'th speaker
SIDE = 6  # features to either side, 13 in all
RIDGE = 30.0
data, cache = Path(sys.argv[1]), Path(sys.argv[2])
models = load_models(device="cpu")
face, encoder = models.face, models.encoder
network = encoder.network
assert isinstance(network, EncoderNetwork)
recordings = from_rest(list(load_captures(data, cache, models, ("talking", "grid_s1"))), face)
recordings = [r for r in recordings if r.split == "train"]
out = held_out_recordings(recordings, HELD_OUT)
held = list(out.values())
trained = [r for r in recordings if r.name not in out]
trained = [r for r in trained if r.corpus == "talking"] + [
    r for r in trained if r.corpus == "grid_s1"
][::3]

teacher = None
if "--teacher" in sys.argv:
    from talkemo.train.teacher import WhisperFeatures, encode_in_batches, load_teacher

    teacher = WhisperFeatures(load_teacher("tiny.en", layers=3))


def features(r, network=network):
    """Every kind of features of a recording at 50 Hz, by name."""
    recording = open_audio(data / r.audio)
    rows = np.concatenate(list(normalised_rows(recording, encoder.filters)))
    rows = rows[: len(rows) // 2 * 2]
    with torch.inference_mode():
        x, found = torch.from_numpy(rows)[None], {"log-mel": rows.reshape(len(rows) // 2, -1)}
        for number, stage in enumerate(network.stages()):
            x = stage.compute(x, 0, 0)
            if number and number % 2 == 0:  # two stages a layer, after the convolutions
                found[f"block {number // 2}"] = x[0].numpy()
        last = x
        found["last, normalised"] = last[0].numpy()
        found["characters"] = network.log_probabilities(last)[0].numpy()
    if teacher:
        samples = (recording.samples().clip(-1, 1) * 32767).astype(np.int16)
        found["teacher"] = encode_in_batches(teacher, [samples], torch.device("cpu"))[0]
    return found


def rows_of(feature, time):
    index = np.round(time * FEATURE_RATE).astype(int)[:, None] + np.arange(-SIDE, SIDE + 1)
    return feature[index.clip(0, len(feature) - 1)].reshape(len(time), -1).astype(np.float32)


def wanted(r):
    return mouth_opening(r.capture.motion(face).displacement(face), face)


gathered: dict[str, list[list]] = {}
for group, chosen in enumerate((trained, held)):
    for r in chosen:
        for name, feature in features(r).items():
            gathered.setdefault(name, [[], []])[group].append(rows_of(feature, r.capture.time))
# Each speaker's opening in units of that speaker's own spread.
target = np.concatenate([(o - o.mean()) / o.std() for o in map(wanted, trained)])
weight = np.concatenate(
    [np.full(len(r.capture.time), 1.0 if r.corpus == "talking" else 0.5) for r in trained]
)
for name, (train, test) in gathered.items():
    x = np.concatenate(train)
    middle, spread = x.mean(0), x.std(0) + 1e-3
    x = (x - middle) / spread
    gram = (x * weight[:, None]).T @ x + RIDGE * x.shape[1] * np.eye(x.shape[1], dtype=np.float32)
    solution = np.linalg.solve(gram, (x * weight[:, None]).T @ target)
    scores: dict[str, list[float]] = {}
    for r, rows in zip(held, test):
        scores.setdefault(r.corpus, []).append(
            pearson((rows - middle) / spread @ solution, wanted(r))
        )
    print(
        f"{name:18}",
        *(f"{corpus} {np.mean(s):.3f}" for corpus, s in scores.items()),
        f"({x.shape[1] // 13}-d)",
    )
