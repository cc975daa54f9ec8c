"""How well captures of corpora hold the mouth's motion: beside the tracks, and beside the scores.

python benchmarks/captures.py DATA CAPTURES [--phones PHONES.json] [--json]

For each corpus with tracks: opening and width of the mouth on the canonical face against those of
the tracked landmarks (Pearson r, a clip's mean, and the ratio of the standard deviations), and each
of the mouth's blend shapes against the tracker's score (r, and the 95th percentiles of both). With
phones (benchmarks/phones.py): the captures' opening, width and protrusion by class of phones.
Captures are made by `talkemo reconstruct DATA/CORPUS... -o CAPTURES`. Clips of the training split.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

import numpy as np

import talkemo
from talkemo.capture.landmark_tracker import SCORE_NAMES
from talkemo.data.captures import FittedRecording, read_captures
from talkemo.data.corpora import CORPORA, Recording, read_corpus
from talkemo.data.phones import read_phones
from talkemo.evaluation.by_phone import MEASURES, lip_distances, lip_measures, lips_by_phone
from talkemo.evaluation.metrics import pearson
from talkemo.face.canonical import ARKIT_NAMES, Face

UPPER_LOWER_LIP, CORNERS = (13, 14), (61, 291)  # MediaPipe's ids
SHAPES = (
    "jawOpen mouthClose mouthPucker mouthFunnel mouthPressLeft mouthRollLower mouthRollUpper "
    "mouthSmileLeft mouthStretchLeft mouthDimpleLeft mouthLowerDownLeft mouthUpperUpLeft "
    "mouthShrugLower mouthShrugUpper mouthFrownLeft"
).split()
MIN_FRAMES = 10


def track_distance(recording: Recording, scale: np.ndarray, ids: tuple[int, int]) -> np.ndarray:
    """Distance (T,) mm in the image between two tracked landmarks; `scale` (T,) is in px per mm."""
    assert recording.mesh_ids is not None
    a, b = (int(np.flatnonzero(recording.mesh_ids == number)[0]) for number in ids)
    return np.linalg.norm(recording.landmarks[:, a] - recording.landmarks[:, b], axis=1) / scale


def compare_corpus(
    pairs: list[tuple[Recording, FittedRecording]], face: Face
) -> dict[str, dict[str, float]]:
    """Compare tracked recordings with their captures; one row per measure or shape."""
    rows: dict[str, list[tuple[float, float, float]]] = {}
    scores: dict[str, list[np.ndarray]] = {name: [] for name in SHAPES}
    weights: dict[str, list[np.ndarray]] = {name: [] for name in SHAPES}
    for recording, fitted in pairs:
        capture, seen = fitted.capture, fitted.capture.seen
        if seen.sum() < MIN_FRAMES:
            continue
        distances = lip_distances(face, capture.motion(face).coordinates)[seen]
        ids = (UPPER_LOWER_LIP, CORNERS)
        tracks = [track_distance(recording, capture.scale, pair)[seen] for pair in ids]
        for name, track, captured in zip(("opening", "width"), tracks, distances.T):
            r = pearson(captured, track)
            rows.setdefault(name, []).append((r, float(captured.std()), float(track.std())))
        if recording.scores is not None:
            arkit = capture.shapes @ face.arkit_matrix
            for name in SHAPES:
                scores[name].append(recording.scores[seen, SCORE_NAMES.index(name)])
                weights[name].append(arkit[seen, ARKIT_NAMES.index(name)])
    table: dict[str, dict[str, float]] = {}
    for name, values in rows.items():
        mean_r, captured_std, track_std = np.mean(values, axis=0).tolist()
        table[name] = {"r": mean_r, "spread": captured_std / track_std}
    for name in SHAPES:
        if scores[name]:
            r_of_clips = [pearson(a, b) for a, b in zip(weights[name], scores[name])]
            captured_p95 = float(np.percentile(np.concatenate(weights[name]), 95))
            score_p95 = float(np.percentile(np.concatenate(scores[name]), 95))
            table[name] = {
                "r": float(np.nanmean(r_of_clips)),
                "captured_p95": captured_p95,
                "score_p95": score_p95,
            }
    return table


def phone_table(
    fitted: list[FittedRecording], phones_file: Path, face: Face
) -> dict[str, Any] | None:
    """The captures' lips by class of phones, None if no recording is in the file."""
    phones = read_phones(phones_file)
    recordings = [f for f in fitted if f.name in phones and not f.rejected]
    if not recordings:
        return None
    return lips_by_phone(
        (
            f.capture.time,
            lip_measures(face, f.capture.motion(face).coordinates),
            phones[f.name],
        )
        for f in recordings
    ).table()


def print_tables(result: dict[str, Any]) -> None:
    """Print what `main` measured."""
    for corpus, tables in result.items():
        print(corpus)
        for name, row in tables["measures"].items():
            print(f"  {name:20}", "  ".join(f"{key} {value:6.2f}" for key, value in row.items()))
        if tables.get("phones"):
            print(f"  {'mm, by phone':20}", "  ".join(f"{name:>14}" for name in MEASURES))
            for name, row in tables["phones"]["classes"].items():
                values = "  ".join(f"{row[measure]:14.2f}" for measure in MEASURES)
                print(f"  {name:20} {values}  ({row['count']})")


def main() -> None:
    """Parse the command line, compare and print."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("data", type=Path)
    parser.add_argument("captures", type=Path)
    parser.add_argument("--phones", type=Path)
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    options = parser.parse_args()
    face = talkemo.load_models().face
    result: dict[str, Any] = {}
    for corpus in CORPORA:
        path = options.captures / f"{corpus}.npz"
        if corpus == "ravdess" or not path.is_file():
            continue
        fitted = [f for f in read_captures(path, face) if f.split == "train"]
        by_name = {f.name: f for f in fitted if not f.rejected}
        tracked = [r for r in read_corpus(corpus, options.data) if r.name in by_name]
        pairs = [(r, by_name[r.name]) for r in tracked]
        result[corpus] = {"measures": compare_corpus(pairs, face)}
        if options.phones:
            result[corpus]["phones"] = phone_table(fitted, options.phones, face)
    if options.json:
        print(json.dumps(result, indent=1))
    else:
        print_tables(result)


if __name__ == "__main__":
    main()
