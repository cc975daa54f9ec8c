"""What a face tracker sees of the lips of an animated head, by phone, beside people's.

python benchmarks/seen_lips.py DATA PHONES.json --tracker face_landmarker.task [--head FACE.obj]
    [--weights SET] [--corpus grid_s1] [--split dev] [--every 4] [--json]

A head speaks recordings of a tracked corpus. It is drawn as a portrait in the middle of each phone
and scored by MediaPipe's Face Landmarker, which scored the corpus's videos too. The table has the
mean scores of each class of phones: people's in the videos | the head's. The tracker knows neither
our captures nor our networks; the networks learned from its scores of other recordings.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

import numpy as np
from seen import Head, load_head, track_frames

import talkemo
from talkemo import Models
from talkemo.audio.recording import open_audio
from talkemo.capture.landmark_tracker import SCORE_NAMES, LandmarkTracker
from talkemo.data.corpora import Recording, read_corpus
from talkemo.data.phones import Phone, read_phones
from talkemo.evaluation.by_phone import PHONE_CLASSES
from talkemo.evaluation.closures import MAX_PHONE_S
from talkemo.weights.names import DEFAULT_SET

SHAPES = ("jawOpen", "mouthPucker", "mouthFunnel", "mouthPressLeft", "mouthRollLower")
COLUMNS = [SCORE_NAMES.index(name) for name in SHAPES]
MIN_PHONES = 5  # of a class, for its row


def spoken_frames(
    recording: Recording, phones: list[Phone]
) -> tuple[list[str], np.ndarray, np.ndarray]:
    """Classes of a recording's phones, their middles (K,) in s, and the nearest frames (K,)."""
    of_class = {phone: name for name, group in PHONE_CLASSES.items() for phone in group}
    kept = [p for p in phones if p.name in of_class and p.end - p.start <= MAX_PHONE_S]
    times = np.array([(p.start + p.end) / 2 for p in kept])
    inside = (times >= recording.time[0]) & (times <= recording.time[-1])
    names = [of_class[p.name] for p, is_inside in zip(kept, inside) if is_inside]
    times = times[inside]
    return names, times, np.abs(recording.time[:, None] - times).argmin(0)


def scores_by_class(
    recordings: list[Recording],
    phones: dict[str, list[Phone]],
    head: Head,
    models: Models,
    options: argparse.Namespace,
) -> dict[str, np.ndarray]:
    """Scores (N, 2, 5) of the phones of each class: people's and the head's, as SHAPES."""
    tracker = LandmarkTracker(options.tracker)
    rows: dict[str, list[np.ndarray]] = {name: [] for name in PHONE_CLASSES}
    for recording in recordings:
        names, times, frames = spoken_frames(recording, phones[recording.name])
        if not names:
            continue
        order = np.argsort(times)
        audio = open_audio(recording.audio)
        motion = models.talking.motion(audio, times[order])
        seen = track_frames(head, head.binding.vertices(motion.coordinates), tracker)
        assert recording.scores is not None
        for k, scores in zip(order, seen):
            pair = np.stack([recording.scores[frames[k], COLUMNS], scores[COLUMNS]])
            if np.isfinite(pair).all():
                rows[names[k]].append(pair)
    return {name: np.array(pairs) for name, pairs in rows.items() if len(pairs) >= MIN_PHONES}


def main() -> None:
    """Parse the command line, measure and print."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("data", type=Path)
    parser.add_argument("phones", type=Path)
    parser.add_argument("--tracker", type=Path, required=True)
    parser.add_argument("--head", type=Path, default=Path("examples/face.obj"))
    parser.add_argument("--weights", default=DEFAULT_SET)
    parser.add_argument("--corpus", default="grid_s1")
    parser.add_argument("--split", default="dev", choices=("train", "dev"))
    parser.add_argument("--every", type=int, default=1, help="use every n-th recording")
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    options = parser.parse_args()
    models = talkemo.load_models(options.weights)
    head = load_head(options.head, models, Path())
    phones = read_phones(options.phones)
    recordings = [
        r
        for r in read_corpus(options.corpus, options.data)
        if r.split == options.split and r.name in phones and r.scores is not None
    ][:: options.every]
    result: dict[str, dict[str, Any]] = {
        name: {
            "count": len(pairs),
            **{
                shape: {"people": round(people, 3), "head": round(ours, 3)}
                for shape, people, ours in zip(SHAPES, *pairs.mean(0).tolist())
            },
        }
        for name, pairs in scores_by_class(recordings, phones, head, models, options).items()
    }
    if options.json:
        print(json.dumps(result))
        return
    print(f"{'people | head':14}", "  ".join(f"{shape:>15}" for shape in SHAPES))
    for name, row in result.items():
        values = (f"{row[s]['people']:6.2f} | {row[s]['head']:4.2f}  " for s in SHAPES)
        print(f"{name:14}", "  ".join(f"{value:>15}" for value in values), f"({row['count']})")


if __name__ == "__main__":
    main()
