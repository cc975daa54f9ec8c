"""Delay of streamed frames: `talkemo animate FACE - --stream`, fed at the pace of the recording.

    python benchmarks/stream.py FACE AUDIO [--emotion happy]

Prints the seconds from the moment at which a frame's own audio was spoken to the moment at which
the frame can be read, and the frame rate when all audio is available at once.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import threading
import time
from typing import IO

import numpy as np

from talkemo.audio.recording import SAMPLE_RATE, open_audio

CHUNK_SAMPLES = 160  # 10 ms, sent at a time
LEADING_SILENCE_S = 2.0  # during which the program starts; not measured


def run(
    face: str, samples: np.ndarray, emotion: str, paced: bool
) -> tuple[list[float], list[float], float]:
    """Stream a recording.

    Parameters
    ----------
    samples : (N,) int16, little endian, at 16 kHz
    paced
        Send the samples at the pace of the recording, not at once.

    Returns
    -------
    Times of the frames, times at which they arrived, and the time at which the last one had
    arrived; all in s from the beginning of the audio.
    """
    command = [sys.executable, "-m", "talkemo_cli", "animate", face, "-", "--stream", "-q"]
    command += ["--raw", str(SAMPLE_RATE), "--emotion", emotion]
    arrivals, times = [], []
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        pipe, lines = process.stdin, process.stdout
        assert pipe is not None and lines is not None
        pipe.write(np.zeros(int(LEADING_SILENCE_S * SAMPLE_RATE), "<i2").tobytes())
        pipe.flush()
        lines.readline()  # the header
        lines.readline()  # the first frame: the program has started
        started = time.perf_counter() - LEADING_SILENCE_S
        clock = started + LEADING_SILENCE_S if paced else None
        threading.Thread(target=send, args=(pipe, samples, clock), daemon=True).start()
        for line in lines:
            arrivals.append(time.perf_counter() - started)
            times.append(json.loads(line)["time"])
    return times, arrivals, time.perf_counter() - started


def send(pipe: IO[bytes], samples: np.ndarray, clock: float | None) -> None:
    """Write the samples in chunks, each when it has been spoken if speech begins at `clock`."""
    for start in range(0, len(samples), CHUNK_SAMPLES):
        if clock is not None:
            spoken = clock + (start + CHUNK_SAMPLES) / SAMPLE_RATE
            time.sleep(max(0.0, spoken - time.perf_counter()))
        pipe.write(samples[start : start + CHUNK_SAMPLES].tobytes())
        pipe.flush()
    pipe.close()


def main() -> None:
    """Parse the command line and print the delays."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("face")
    parser.add_argument("audio")
    parser.add_argument("--emotion", default="happy")
    options = parser.parse_args()
    audio = open_audio(options.audio)
    samples = (audio.samples().clip(-1, 1) * 32767).astype("<i2")
    times, arrivals, _ = run(options.face, samples, options.emotion, paced=True)
    first, last = LEADING_SILENCE_S + 0.5, LEADING_SILENCE_S - 1.0 + audio.duration
    delay = np.array([b - a for a, b in zip(times, arrivals) if first < a < last])
    print(
        f"s from audio to frame: mean {delay.mean():.3f}, 95 % {np.percentile(delay, 95):.3f},"
        f" worst {delay.max():.3f}"
    )
    times, _, seconds = run(options.face, samples, options.emotion, paced=False)
    rate = len(times) / (seconds - LEADING_SILENCE_S)
    print(f"all audio at once: {rate:.0f} frames a second")


if __name__ == "__main__":
    main()
