"""The trainings that tests/test_together.py starts, in one process or two.

Arguments: DATA CAPTURES OUT BATCH.
"""

import json
import multiprocessing
import sys
from dataclasses import replace
from pathlib import Path

import torch
from made_up import MadeUpTeacher, made_up_whisper

from talkemo.compute import workers
from talkemo.train import emotion, lips, speech, stages, talking
from talkemo.train.loop import Intervals
from talkemo.train.run import Run


def main() -> None:
    data, captures, out, batch = sys.argv[1:]
    torch.set_num_threads(1)
    # In bfloat16 the shape of a batch decides how sums are rounded.
    torch.cpu._is_amx_tile_supported = torch.cpu._is_avx512_bf16_supported = lambda: False
    # Forked workers inherit the stand-ins that are set here.
    workers.get_context = lambda _: multiprocessing.get_context("fork")
    talking.NOISE_CLIPS = 3
    every_step = Intervals(progress=0, log=1)
    talking.TALKING_INTERVALS = speech.SPEECH_INTERVALS = lips.LIPS_INTERVALS = every_step
    # The generator takes a step every third time.
    emotion.EMOTION_INTERVALS = Intervals(progress=0, log=3)
    speech.load_teacher, lips.load_teacher = made_up_whisper, MadeUpTeacher
    speech.teacher_files = lips.teacher_files = lambda name: []
    speech.ATTENTION_FUTURE_FEATURES = (8,)

    def run(name: str) -> Run:
        return Run(Path(data), Path(out) / name, device="cpu", captures_folder=Path(captures))

    # No dropout: its random masks depend on the shape of the batch.
    common = {"batch": int(batch), "seconds": 0.5, "hold_out": 0, "dropout": 0.0}
    shares = (("ravdess", 0.8), ("noise", 0.2))
    for name, steps in (("first_step", 1), ("talking", 4)):
        config = talking.TalkingConfig(**common, steps=steps, shares=shares)
        talking.train_talking(run(name), config)
    speech.train_speech(run("speech"), speech.SpeechConfig(batch=int(batch), steps=3))
    teachers = ("tiny.en", "base:1")
    shares = (("ravdess", 1.0),)
    captured = (Path(data) / "ravdess").resolve().parent  # a folder without speech to label
    lips.train_lips(
        replace(run("lips"), data=captured),
        lips.LipsConfig(**common, teachers=teachers, steps=3, close=False, shares=shares),
    )
    config = emotion.EmotionConfig(
        batch=int(batch), iterations=6, channels=16, blocks=1, classifier_steps=2
    )
    emotion.train_emotion(run("emotion"), config)
    # Train a stage with its record, twice: the second time it is up to date.
    small = talking.TalkingConfig(**common, steps=2, shares=shares)
    stage = replace(stages.TRAINING_STAGES["talking"], configure=lambda *_: small)
    stages.TRAINING_STAGES["talking"] = stage
    recorded = replace(run("all"), resume=True)
    results = [
        {"talking": stages.train("talking", recorded, bring_up_to_date=True)} for _ in range(2)
    ]
    if recorded.processes.is_main:
        (recorded.out / "results.txt").write_text(json.dumps(results))


if __name__ == "__main__":
    main()
