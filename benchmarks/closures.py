"""Do lips meet in p, b and m? Recall and precision on people speaking freely, with every emotion.

python benchmarks/closures.py DATA CAPTURES PHONES.json [--corpus talking] [--split dev] [--weights SET] [--all-emotions]

PHONES has the phones of recordings by name, {name: [[phone, start, end], ...]}, as talkemo.data.phones aligns them with a
transcript. The captured lips are measured beside the model's: what trackers see of closures, and what people leave out.
"""

import argparse
import json
from pathlib import Path

import numpy as np

from talkemo import load_models
from talkemo.audio.recording import open_audio
from talkemo.data.captures import load_captures
from talkemo.data.phones import Phone
from talkemo.data.rest_relative import relative_to_rest
from talkemo.evaluation.closures import Closures, count_closures
from talkemo.expression.emotions import EMOTIONS, one_hot

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
aligned = json.loads(options.phones.read_text("utf-8"))
recordings = relative_to_rest(
    list(load_captures(options.data, options.captures, models, (options.corpus,))), face
)
recordings = [r for r in recordings if r.split == options.split and r.name in aligned]
emotions = EMOTIONS if options.all_emotions else ("neutral",)
total = dict.fromkeys(("captured", *emotions), Closures())
for r in recordings:
    phones = [Phone(*phone) for phone in aligned[r.name]]
    reference = r.capture.motion(face).coordinates @ face.lip_opening_gradient
    total["captured"] += count_closures(r.capture.time, reference, phones)
    audio = open_audio(options.data / r.audio)
    motion = models.talking.motion(audio, np.arange(int(audio.duration * 60)) / 60)
    for emotion in emotions:
        shown = (
            motion if emotion == "neutral" else models.emotion.transfer(motion, one_hot(emotion))
        )
        total[emotion] += count_closures(shown.times, shown.lip_opening(face), phones)
print(f"{len(recordings)} recordings of {options.corpus}, {options.split}")
print(f"{'':10} {'p b m':>6} {'recall':>7} {'closures':>9} {'precision':>10} {'at p b m':>9}")
for name, counts in total.items():
    strict = counts.at_bilabials / max(counts.total_closures, 1)
    print(
        f"{name:10} {counts.bilabials:6} {counts.recall:7.2f} {counts.total_closures:9}"
        f" {counts.precision:10.2f} {strict:9.2f}"
    )
