"""How well speech features predict lips: ridge regression from 13 of them to the mouth opening.

python benchmarks/features.py DATA CAPTURES [--teacher]

Pearson r per clip, averaged over clips of training speakers that are held out of the regression
(every eighth of talking's, every eighth clip of grid_s1's, at most forty). The encoder was trained
on their audio, but not on their motion. The dev split is not used, since features are chosen here.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
import torch

from talkemo import load_models
from talkemo.audio.loudness import normalised_rows
from talkemo.audio.recording import Audio, open_audio
from talkemo.data.captures import FittedRecording, load_captures
from talkemo.data.rest_relative import relative_to_rest
from talkemo.evaluation.metrics import mouth_opening, pearson
from talkemo.face.canonical import Face
from talkemo.networks.speech_encoder import FEATURE_RATE, EncoderNetwork, SpeechEncoder
from talkemo.train.batches import held_out_recordings

HELD_OUT_STRIDE = 8  # every eighth speaker is held out
WINDOW_SIDE = 6  # features on either side of a frame's, 13 in all
RIDGE_PENALTY = 30.0  # per feature
GRID_STRIDE = 3  # every third clip of grid_s1 is used for training
GRID_WEIGHT = 0.5  # of a frame of grid_s1, relative to one of talking


def main() -> None:
    """Print a row for each kind of features."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("data", type=Path)
    parser.add_argument("captures", type=Path)
    parser.add_argument("--teacher", action="store_true", help="measure Whisper's features, too")
    options = parser.parse_args()

    models = load_models(device="cpu")
    face = models.face
    captured = load_captures(options.data, options.captures, models, ("talking", "grid_s1"))
    recordings = [r for r in relative_to_rest(list(captured), face) if r.split == "train"]
    held_out = held_out_recordings(recordings, HELD_OUT_STRIDE)
    test = list(held_out.values())
    remaining = [r for r in recordings if r.name not in held_out]
    train = [r for r in remaining if r.corpus == "talking"]
    train += [r for r in remaining if r.corpus == "grid_s1"][::GRID_STRIDE]

    teacher = load_whisper() if options.teacher else None
    inputs: dict[str, tuple[list[np.ndarray], list[np.ndarray]]] = {}
    for number, group in enumerate((train, test)):
        for r in group:
            audio = open_audio(options.data / r.audio)
            for name, feature in features_by_name(audio, models.encoder, teacher).items():
                windows = windows_at(feature, r.capture.time)
                inputs.setdefault(name, ([], []))[number].append(windows)
    for name, (train_windows, test_windows) in inputs.items():
        print_row(name, face, train, train_windows, test, test_windows)


def load_whisper() -> torch.nn.Module:
    """Whisper's features, the teacher of the speech encoder."""
    from talkemo.train.teacher import WhisperFeatures, load_teacher

    return WhisperFeatures(load_teacher("tiny.en", layers=3))


def features_by_name(
    audio: Audio, encoder: SpeechEncoder, teacher: torch.nn.Module | None
) -> dict[str, np.ndarray]:
    """Each kind of features (T, D) of a recording at 50 Hz."""
    network = encoder.network
    assert isinstance(network, EncoderNetwork)
    rows = np.concatenate(list(normalised_rows(audio, encoder.filters)))
    rows = rows[: len(rows) // 2 * 2]
    features = {"log-mel": rows.reshape(len(rows) // 2, -1)}
    with torch.inference_mode():
        x = torch.from_numpy(rows)[None]
        for number, layer in enumerate(network.streamed_layers()):
            x = layer.compute(x, 0, 0)
            if number and number % 2 == 0:  # two stages a layer, after the convolutions
                features[f"block {number // 2}"] = x[0].numpy()
        features["last, normalised"] = x[0].numpy()
        features["characters"] = network.log_probabilities(x)[0].numpy()
    if teacher:
        from talkemo.train.teacher import encode_in_batches

        samples = (audio.samples().clip(-1, 1) * 32767).astype(np.int16)
        features["teacher"] = encode_in_batches(teacher, [samples], torch.device("cpu"))[0]
    return features


def windows_at(feature: np.ndarray, time: np.ndarray) -> np.ndarray:
    """The features (T, 13·D) around each time (T,) s."""
    offsets = np.arange(-WINDOW_SIDE, WINDOW_SIDE + 1)
    index = np.round(time * FEATURE_RATE).astype(int)[:, None] + offsets
    return feature[index.clip(0, len(feature) - 1)].reshape(len(time), -1).astype(np.float32)


def print_row(
    name: str,
    face: Face,
    train: list[FittedRecording],
    train_windows: list[np.ndarray],
    test: list[FittedRecording],
    test_windows: list[np.ndarray],
) -> None:
    """Fit the regression on one kind of features and print its mean correlation by corpus."""

    def opening(r: FittedRecording) -> np.ndarray:
        return mouth_opening(r.capture.motion(face).displacement(face), face)

    # Each clip's opening is standardised.
    target = np.concatenate([(o - o.mean()) / o.std() for o in map(opening, train)])
    weight = np.concatenate(
        [np.full(len(r.capture.time), 1.0 if r.corpus == "talking" else GRID_WEIGHT) for r in train]
    )
    x = np.concatenate(train_windows)
    mean, spread = x.mean(0), x.std(0) + 1e-3
    x = (x - mean) / spread
    gram = (x * weight[:, None]).T @ x
    gram += RIDGE_PENALTY * x.shape[1] * np.eye(x.shape[1], dtype=np.float32)
    solution = np.linalg.solve(gram, (x * weight[:, None]).T @ target)
    scores: dict[str, list[float]] = {}
    for r, windows in zip(test, test_windows):
        predicted = (windows - mean) / spread @ solution
        scores.setdefault(r.corpus, []).append(pearson(predicted, opening(r)))
    means = " ".join(f"{corpus} {np.mean(values):.3f}" for corpus, values in scores.items())
    print(f"{name:18} {means} ({x.shape[1] // (2 * WINDOW_SIDE + 1)}-d)")


if __name__ == "__main__":
    main()
