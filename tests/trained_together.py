"""What tests/test_together.py starts in one process, or in two: `trained_together.py DATA CAPTURES OUT BATCH`."""

import json
import multiprocessing
import sys
from dataclasses import replace
from pathlib import Path

import torch
from made_up import MadeUpTeacher, made_up_whisper

from talkemo.compute import workers
from talkemo.train import emotion, lips, speech, stages, talking
from talkemo.train.run import Run


def main() -> None:
    data, captures, out, batch = sys.argv[1:]
    torch.set_num_threads(1)
    workers.get_context = lambda _: multiprocessing.get_context(
        "fork"
    )  # they have what is made up here
    talking.NOISE_CLIPS, talking.LOG_EVERY = 3, 1
    speech.LOG_EVERY = lips.CHECK_EVERY = 1
    emotion.LOG_EVERY = 3  # the generator makes a step every third time
    speech.load_teacher, lips.load_teacher = made_up_whisper, MadeUpTeacher
    speech.teacher_files = lips.teacher_files = lambda name: []
    speech.FUTURE = (8,)
    folder = lambda stage: Run(
        Path(data), Path(out) / stage, device="cpu", captures_folder=Path(captures)
    )
    # Dropout draws other masks for other shapes: here there is none.
    some = {"batch": int(batch), "seconds": 0.5, "hold_out": 0, "dropout": 0.0}
    shares = (("ravdess", 0.8), ("noise", 0.2))
    talking.train_talking(folder("talking"), talking.TalkingConfig(**some, steps=4, shares=shares))
    speech.train_speech(folder("speech"), speech.SpeechConfig(batch=int(batch), steps=3))
    teachers = ("tiny.en", "base:1")
    shares = (("ravdess", 1.0),)
    filmed = (Path(data) / "ravdess").resolve().parent  # without speech that would be labelled
    lips.train_lips(
        replace(folder("lips"), data=filmed),
        lips.LipsConfig(**some, teachers=teachers, steps=3, close=False, shares=shares),
    )
    config = emotion.EmotionConfig(
        batch=int(batch), iterations=6, channels=16, blocks=1, classifier_steps=2
    )
    emotion.train_emotion(folder("emotion"), config)
    # Through the record of a stage, twice: the second time there is nothing to do.
    own = talking.TalkingConfig(**some, steps=2, shares=shares)
    stages.STAGES["talking"] = replace(stages.STAGES["talking"], configure=lambda *_: own)
    every = replace(folder("all"), resume=True)
    results = [{"talking": stages.train("talking", every, bring_up_to_date=True)} for _ in range(2)]
    if every.together.is_main:
        (every.out / "results.txt").write_text(json.dumps(results))


if __name__ == "__main__":
    main()
