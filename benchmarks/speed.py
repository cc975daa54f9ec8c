"""Speed of the main job: whole processes in units of `python -c "import torch"`, and the networks.

python benchmarks/speed.py [--runs 5] [--long] [--device cpu]

Seconds depend on the machine and its load; ratios within one run hardly do. Whole processes run in
turn, with the unit between them; medians are printed. --long also animates 10 and 30 minutes of
speech and prints the memory.
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

import talkemo_cli  # noqa: F401  sets the threads of numpy and torch as for the command
from talkemo import Models, Motion, load_models
from talkemo.audio.recording import Audio, open_audio
from talkemo.expression.emotions import parse_emotion

EXAMPLES = Path(__file__).parent.parent / "examples"
SPEECH_SECONDS, ANIMATION_FPS = 10.0, 60  # of the main job
TRANSFER_FRAMES = 4096  # of the timed emotion transfer
TALKEMO = [sys.executable, "-m", "talkemo_cli"]
UNIT_COMMAND = [sys.executable, "-c", "import torch"]


@dataclass(frozen=True)
class Process:
    """A whole process that is timed."""

    name: str
    command: list[str]
    budget: float  # largest acceptable time, in units
    prepare: Callable[[], None] = lambda: None


@dataclass(frozen=True)
class Work:
    """Work of the networks that is timed."""

    name: str
    run: Callable[[], object]
    amount: float  # s of speech, or frames
    unit: str = "× real time"
    min_speed: int | None = None  # smallest acceptable amount per second of processor time


def run(command: list[str]) -> float:
    """Seconds that a process takes."""
    start = time.perf_counter()
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    return time.perf_counter() - start


def peak_memory(command: list[str]) -> float:
    """Peak memory, MB, of a process, from /proc: rusage of a child includes its parent's."""
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    peak = 0
    while process.poll() is None:
        try:
            for line in Path(f"/proc/{process.pid}/status").read_text().splitlines():
                if line.startswith("VmHWM"):
                    peak = max(peak, int(line.split()[1]))
        except OSError:
            pass
        time.sleep(0.05)
    return peak / 1024


def write_speech(seconds: float, path: Path) -> Path:
    """Repeat the example speech up to a duration, write it to `path`, and return that."""
    samples, rate = soundfile.read(EXAMPLES / "speech.wav")
    soundfile.write(path, np.resize(samples, round(seconds * rate)), rate)
    return path


def animate_command(audio: Path, device: str, *options: str) -> list[str]:
    """`talkemo animate` on the example mask, happy."""
    face = str(EXAMPLES / "mask.obj")
    command = [*TALKEMO, "animate", face, str(audio), "--emotion", "happy", "-q"]
    return [*command, "--device", device, *options]


def processes(folder: Path, device: str) -> list[Process]:
    """The commands that are timed."""
    audio = write_speech(SPEECH_SECONDS, folder / "ten.wav")
    npz, mp4 = ["-o", str(folder / "a.npz")], ["-o", str(folder / "a.mp4")]
    to_npz = animate_command(audio, device, *npz)

    def clear_cache() -> None:
        shutil.rmtree(folder / "cache", ignore_errors=True)

    return [
        Process("talkemo --help", [*TALKEMO, "--help"], 0.2),
        Process("animate, first time, npz", to_npz, 3.5, clear_cache),
        Process("animate, cached binding, npz", to_npz, 2.2),
        Process("animate, cached binding, npz and 512² 30 fps mp4", [*to_npz, *mp4], 5.0),
    ]


def time_processes(folder: Path, runs: int, device: str) -> None:
    """Print the table of whole processes."""
    timed = processes(folder, device)
    seconds: dict[str, list[float]] = {process.name: [] for process in timed}
    units = []
    for number in range(runs + 1):
        unit_seconds = run(UNIT_COMMAND)
        for process in timed:
            process.prepare()
            seconds[process.name].append(run(process.command))
        if number == 0:  # the first run warms up
            for values in seconds.values():
                values.clear()
        else:
            units.append(unit_seconds)
    unit = statistics.median(units)
    print(
        f"{SPEECH_SECONDS:.0f} s of speech at {ANIMATION_FPS} fps, whole processes; "
        f'a unit is `python -c "import torch"`, {unit:.2f} s here'
    )
    print(f"{'':52}{'s':>7}{'units':>7}{'at most':>9}{'× real time':>13}")
    for process in timed:
        median = statistics.median(seconds[process.name])
        real_time = f"{SPEECH_SECONDS / median:.1f}" if "animate" in process.name else ""
        columns = f"{median:7.2f}{median / unit:7.2f}{process.budget:9.1f}{real_time:>13}"
        print(f"{process.name:52}{columns}")


def processor_seconds(work: Callable[[], object], runs: int) -> tuple[float, float]:
    """Medians of the processor time and the wall-clock time of some work, after one warm-up."""
    work()
    processor_times, clock_times = [], []
    for _ in range(runs):
        processor, clock = time.process_time(), time.perf_counter()
        work()
        processor_times.append(time.process_time() - processor)
        clock_times.append(time.perf_counter() - clock)
    return statistics.median(processor_times), statistics.median(clock_times)


def network_work(audio: Audio, models: Models) -> list[Work]:
    """The work of the networks that is timed."""
    talking, emotion = models.talking, models.emotion
    times = np.arange(int(SPEECH_SECONDS * ANIMATION_FPS)) / ANIMATION_FPS
    happy = parse_emotion("happy")
    feature = talking.encoder.features(audio)
    motion = talking.motion(audio, times)
    shape = (TRANSFER_FRAMES, motion.coordinates.shape[1])
    long_motion = Motion(
        np.arange(TRANSFER_FRAMES) / ANIMATION_FPS, np.resize(motion.coordinates, shape)
    )

    class ComputedEncoder:
        """An encoder whose features are computed already."""

        width = talking.encoder.width
        stream = staticmethod(lambda *_: iter([feature]))

    def talk_only() -> None:
        encoder, talking.encoder = talking.encoder, ComputedEncoder()  # type: ignore[assignment]
        talking.motion(audio, times)
        talking.encoder = encoder

    def talk_and_transfer() -> None:
        emotion.transfer(talking.motion(audio, times), happy)

    return [
        Work(
            "speech encoder", lambda: talking.encoder.features(audio), SPEECH_SECONDS, min_speed=100
        ),
        Work("talking model", talk_only, SPEECH_SECONDS),
        Work("emotion transfer", lambda: emotion.transfer(motion, happy), SPEECH_SECONDS),
        Work("all networks with emotion", talk_and_transfer, SPEECH_SECONDS, min_speed=12),
        Work(
            f"emotion transfer, {TRANSFER_FRAMES:,} frames",
            lambda: emotion.transfer(long_motion, happy),
            TRANSFER_FRAMES,
            "frames a second",
            min_speed=2000,
        ),
    ]


def time_networks(folder: Path, runs: int, device: str) -> None:
    """Print the table of networks."""
    models = load_models(device=device)
    print(f"\nNetworks on {models.device}, mel bands included")
    print(
        f"{'':34}{'processor s':>12}{'clock s':>9}{'by processor':>14}{'by clock':>10}"
        f"{'at least':>10}"
    )
    for work in network_work(open_audio(folder / "ten.wav"), models):
        processor, clock = processor_seconds(work.run, runs)
        min_speed = "" if work.min_speed is None else str(work.min_speed)
        print(
            f"{work.name:34}{processor:12.3f}{clock:9.3f}{work.amount / processor:14.0f}"
            f"{work.amount / clock:10.0f}{min_speed:>10}  {work.unit}"
        )


def measure_memory(folder: Path, device: str) -> None:
    """Print the time and the peak memory for long recordings."""
    print("\nLong speech to npz at 30 fps, happy")
    output = str(folder / "long.npz")
    for minutes in (10, 30):
        audio = write_speech(60 * minutes, folder / "long.wav")
        start = time.perf_counter()
        memory = peak_memory(animate_command(audio, device, "--fps", "30", "-o", output))
        seconds = time.perf_counter() - start
        print(
            f"{minutes:3} min: {seconds:6.1f} s, {60 * minutes / seconds:4.0f} × real time,"
            f" {memory:5.0f} MB at most"
        )


def main() -> None:
    """Parse the command line and print the tables."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--runs", type=int, default=5)
    parser.add_argument("--long", action="store_true", help="measure long recordings, too")
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
