"""Recall and precision of lip closures at p, b and m, on spontaneous speech, with every emotion.

python benchmarks/closures.py DATA CAPTURES PHONES.json [--corpus talking] [--split dev]
    [--weights SET] [--all-emotions]

PHONES has the phones of recordings by name, {name: [[phone, start, end], ...]}, as written by
benchmarks/phones.py. The captured lips are measured beside the predicted ones: trackers miss some
closures, and speakers omit some.
"""

import argparse
from pathlib import Path

import numpy as np

from talkemo import load_models
from talkemo.audio.recording import open_audio
from talkemo.data.captures import load_captures
from talkemo.data.phones import read_phones
from talkemo.data.rest_relative import relative_to_rest
from talkemo.evaluation.closures import Closures, count_closures
from talkemo.expression.emotions import EMOTIONS, one_hot


def main() -> None:
    """Parse the command line, measure the closures and print a table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("data", type=Path)
    parser.add_argument("captures", type=Path)
    parser.add_argument("phones", type=Path)
    parser.add_argument("--corpus", default="talking")
    parser.add_argument("--split", default="dev", choices=("dev", "train"))
    parser.add_argument("--weights", default="default")
    parser.add_argument("--all-emotions", action="store_true")
    options = parser.parse_args()

    models = load_models(options.weights, device="cpu")
    face = models.face
    phones = read_phones(options.phones)
    captured = load_captures(options.data, options.captures, models, (options.corpus,))
    recordings = [
        r
        for r in relative_to_rest(list(captured), face)
        if r.split == options.split and r.name in phones
    ]
    emotions = EMOTIONS if options.all_emotions else ("neutral",)
    total = dict.fromkeys(("captured", *emotions), Closures())
    for r in recordings:
        opening = r.capture.motion(face).coordinates @ face.lip_opening_gradient
        total["captured"] += count_closures(r.capture.time, opening, phones[r.name])
        audio = open_audio(options.data / r.audio)
        neutral = models.talking.motion(audio, np.arange(int(audio.duration * 60)) / 60)
        for emotion in emotions:
            motion = neutral
            if emotion != "neutral":
                motion = models.emotion.transfer(neutral, one_hot(emotion))
            total[emotion] += count_closures(motion.times, motion.lip_opening(face), phones[r.name])
    print(f"{len(recordings)} recordings of {options.corpus}, {options.split}")
    print(f"{'':10} {'p b m':>6} {'recall':>7} {'closures':>9} {'precision':>10} {'at p b m':>9}")
    for name, counts in total.items():
        at_bilabials = counts.at_bilabials / max(counts.total_closures, 1)
        print(
            f"{name:10} {counts.bilabials:6} {counts.recall:7.2f} {counts.total_closures:9}"
            f" {counts.precision:10.2f} {at_bilabials:9.2f}"
        )


if __name__ == "__main__":
    main()
