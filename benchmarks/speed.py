"""Times the main job as whole processes, and the networks alone. Medians of five runs after one to warm up.

python benchmarks/speed.py
"""

import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import soundfile

from talkemo import speech
from talkemo.emotion import BATCH, load_emotion, parse_emotion
from talkemo.face import load_face
from talkemo.talking import load_talking

RUNS = 5
examples = Path(__file__).parent.parent / "examples"


def median(run) -> float:
    run()
    seconds = []
    for _ in range(RUNS):
        start = time.perf_counter()
        run()
        seconds.append(time.perf_counter() - start)
    return statistics.median(seconds)


def command(*arguments) -> None:
    subprocess.run([sys.executable, "-m", "talkemo_cli", *map(str, arguments)], check=True, capture_output=True)


with tempfile.TemporaryDirectory() as folder:
    samples, rate = soundfile.read(examples / "speech.wav")
    sound, out = Path(folder) / "ten.wav", Path(folder)
    soundfile.write(sound, np.resize(samples, 10 * rate), rate)
    main = ("animate", examples / "face.obj", sound, "--emotion", "happy", "-q")
    print(f"talkemo --help: {median(lambda: command('--help')):.2f} s")
    print(f"animate, 10 s at 60 fps, npz: {median(lambda: command(*main, '-o', out / 'a.npz')):.2f} s")
    film = lambda: command(*main, "-o", out / "a.npz", "-o", out / "a.mp4")
    print(f"animate, 10 s at 60 fps, npz and 512² 30 fps mp4: {median(film):.2f} s")

audio = speech.open_audio(examples / "speech.wav")
face = load_face()
talking, emotion = load_talking(face), load_emotion(face)
ear = talking.encoder
seconds = median(lambda: ear.features(audio))
print(f"speech encoder: {audio.duration / seconds:.0f} × real time, mel bands and reading included")
feature = ear.features(audio)
ear.stream = lambda *_: iter([feature])  # the talking model alone, its features at hand
seconds = median(lambda: list(talking.coordinates(audio, np.arange(480) / 60)))
print(f"talking model at 60 fps: {8 / seconds:.0f} × real time, {480 / seconds:.0f} frames/s")
seconds = median(lambda: list(talking.stream(audio, np.arange(480) / 60)))
print(f"the same to {len(face.mean)} vertices: {8 / seconds:.0f} × real time")
maps = np.random.default_rng(0).standard_normal((4 * BATCH, 3, 128, 128)).astype(np.float32)
label = np.tile(parse_emotion("happy"), (BATCH, 1))
seconds = median(lambda: [emotion.transfer_maps(maps[k : k + BATCH], label) for k in range(0, len(maps), BATCH)])
print(f"generator: {len(maps) / seconds:.0f} maps/s in batches of {BATCH}")
