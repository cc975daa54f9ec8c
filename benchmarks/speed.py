"""Prints how fast the main job is: whole processes in units of `python -c "import torch"`, networks in × real time.

python benchmarks/speed.py [--runs 5] [--long] [--device cpu]

Seconds depend on the machine and on what else it does; ratios within one run hardly do. Whole processes are run in turn,
the unit between them, and medians are given. --long animates half an hour of speech besides, for its memory.
"""

from __future__ import annotations

import argparse
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import soundfile

import talkemo_cli  # noqa: F401  before numpy and torch: it sets what their threads do, as for the command
from talkemo import Motion, load_models
from talkemo.audio.recording import open_audio
from talkemo.expression.emotions import parse_emotion

EXAMPLES = Path(__file__).parent.parent / "examples"
SECONDS, FPS = 10.0, 60  # of the main job
UNIT = [sys.executable, "-c", "import torch"]


@dataclass(frozen=True)
class Process:
    """A whole process: what it is called, its command, and the most units that it should take."""

    name: str
    command: list[str]
    budget: float | None
    prepare: Callable[[], None] = lambda: None


def run(command: list[str]) -> float:
    """Seconds that a process takes."""
    start = time.perf_counter()
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    return time.perf_counter() - start


def largest_memory(command: list[str]) -> float:
    """MB that a process takes at most, by /proc: what the system tells of an ended child includes its parent's."""
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    largest = 0
    while process.poll() is None:
        try:
            lines = Path(f"/proc/{process.pid}/status").read_text().splitlines()
            largest = max(
                largest, *(int(line.split()[1]) for line in lines if line.startswith("VmHWM")), 0
            )
        except OSError:
            pass
        time.sleep(0.05)
    return largest / 1024


def repeated(samples: np.ndarray, rate: int, seconds: float, path: Path) -> Path:
    """The example's sound again and again."""
    soundfile.write(path, np.resize(samples, round(seconds * rate)), rate)
    return path


def processes(folder: Path, device: str) -> list[Process]:
    """The commands that are timed."""
    samples, rate = soundfile.read(EXAMPLES / "speech.wav")
    sound = repeated(samples, rate, SECONDS, folder / "ten.wav")
    talkemo = [sys.executable, "-m", "talkemo_cli"]
    main = [
        *talkemo,
        "animate",
        str(EXAMPLES / "face.obj"),
        str(sound),
        "--emotion",
        "happy",
        "-q",
        "--device",
        device,
    ]
    npz, mp4 = ["-o", str(folder / "a.npz")], ["-o", str(folder / "a.mp4")]
    forget = lambda: shutil.rmtree(folder / "cache", ignore_errors=True)
    return [
        Process("talkemo --help", [*talkemo, "--help"], 0.2),
        Process("animate, first time, npz", [*main, *npz], 3.5, forget),
        Process("animate, face remembered, npz", [*main, *npz], 2.2),
        Process("animate, face remembered, npz and 512² 30 fps mp4", [*main, *npz, *mp4], 5.0),
    ]


def time_processes(folder: Path, runs: int, device: str) -> None:
    """Print the table of whole processes."""
    timed = processes(folder, device)
    taken: dict[str, list[float]] = {process.name: [] for process in timed}
    units = []
    for turn in range(runs + 1):
        unit = run(UNIT)
        found = {}
        for process in timed:
            process.prepare()
            found[process.name] = run(process.command)
        if turn:  # the first turn warms up
            units.append(unit)
            for name, seconds in found.items():
                taken[name].append(seconds)
    unit = statistics.median(units)
    print(
        f'{SECONDS:.0f} s of speech at {FPS} fps, whole processes; a unit is `python -c "import torch"`, {unit:.2f} s here'
    )
    print(f"{'':52}{'s':>7}{'units':>7}{'at most':>9}{'× real time':>13}")
    for process in timed:
        seconds = statistics.median(taken[process.name])
        real_time = f"{SECONDS / seconds:.1f}" if "animate" in process.name else ""
        print(
            f"{process.name:52}{seconds:7.2f}{seconds / unit:7.2f}{process.budget:9.1f}{real_time:>13}"
        )


def processor_seconds(work: Callable[[], object], runs: int) -> tuple[float, float]:
    """Medians of the processor's and of the clock's seconds that some work takes, after one run to warm up."""
    work()
    spent = []
    for _ in range(runs):
        processor, clock = time.process_time(), time.perf_counter()
        work()
        spent.append((time.process_time() - processor, time.perf_counter() - clock))
    return tuple(statistics.median(column) for column in zip(*spent))  # type: ignore[return-value]


def time_networks(folder: Path, runs: int, device: str) -> None:
    """Print how fast the networks are by themselves."""
    audio = open_audio(folder / "ten.wav")
    models = load_models(device=device)
    talking, emotion = models.talking, models.emotion
    times, happy = np.arange(int(SECONDS * FPS)) / FPS, parse_emotion("happy")
    feature = talking.encoder.features(audio)
    motion = talking.motion(audio, times)
    many = Motion(
        np.arange(4096) / FPS, np.resize(motion.coordinates, (4096, motion.coordinates.shape[1]))
    )

    class Encoded:
        """An encoder that has done its work."""

        width = talking.encoder.width
        stream = staticmethod(lambda *_: iter([feature]))

    def talk_only() -> None:
        encoder, talking.encoder = talking.encoder, Encoded()  # type: ignore[assignment]
        talking.motion(audio, times)
        talking.encoder = encoder

    rows = {
        "speech encoder": (lambda: talking.encoder.features(audio), 100, "× real time"),
        "talking model": (talk_only, None, "× real time"),
        "emotion transfer": (lambda: emotion.transfer(motion, happy), None, "× real time"),
        "all networks with emotion": (
            lambda: emotion.transfer(talking.motion(audio, times), happy),
            12,
            "× real time",
        ),
        "emotion transfer, 4,096 frames": (
            lambda: emotion.transfer(many, happy),
            2000,
            "frames a second",
        ),
    }
    print(f"\nNetworks on {models.device}, mel bands included")
    print(
        f"{'':34}{'processor s':>12}{'clock s':>9}{'by processor':>14}{'by clock':>10}{'at least':>10}"
    )
    for name, (work, budget, unit) in rows.items():
        processor, clock = processor_seconds(work, runs)  # type: ignore[arg-type]
        amount = SECONDS if unit == "× real time" else 4096
        wanted = "" if budget is None else str(budget)
        print(
            f"{name:34}{processor:12.3f}{clock:9.3f}{amount / processor:14.0f}{amount / clock:10.0f}{wanted:>10}  {unit}"
        )


def measure_memory(folder: Path, device: str) -> None:
    """Print the memory and the time of long recordings."""
    samples, rate = soundfile.read(EXAMPLES / "speech.wav")
    print("\nLong speech to npz at 30 fps, happy")
    for minutes in (10, 30):
        sound = repeated(samples, rate, 60 * minutes, folder / "long.wav")
        command = [
            sys.executable,
            "-m",
            "talkemo_cli",
            "animate",
            str(EXAMPLES / "face.obj"),
            str(sound),
            "-q",
        ]
        options = [
            "--emotion",
            "happy",
            "--fps",
            "30",
            "--device",
            device,
            "-o",
            str(folder / "long.npz"),
        ]
        start = time.perf_counter()
        memory = largest_memory([*command, *options])
        seconds = time.perf_counter() - start
        print(
            f"{minutes:3} min: {seconds:6.1f} s, {60 * minutes / seconds:4.0f} × real time, {memory:5.0f} MB at most"
        )


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--runs", type=int, default=5)
    parser.add_argument("--long", action="store_true")
    parser.add_argument("--device", default="auto", choices=("auto", "cpu", "cuda"))
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        os.environ["TALKEMO_CACHE"] = str(folder / "cache")
        time_processes(folder, options.runs, options.device)
        time_networks(folder, options.runs, options.device)
        if options.long:
            measure_memory(folder, options.device)


if __name__ == "__main__":
    main()
