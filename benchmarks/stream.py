"""How long after its sound a frame comes: `talkemo animate FACE - --stream`, given a recording at the pace it was spoken.

    python benchmarks/stream.py FACE SOUND [--emotion happy] [--format jsonl]

Prints the seconds from the moment at which a frame's own sound was spoken to the moment at which the frame could be read,
and how fast frames come when the sound is there at once.
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

PIECE = 160  # samples, 10 ms, that are sent at a time
SILENCE = 2.0  # s before the sound, in which the program starts; not counted


def run(
    face: str, samples: np.ndarray, options: list[str], paced: bool
) -> tuple[list[float], list[float], float]:
    """The times of frames and when they came, both from the beginning of the sound, s; and when the last one came."""
    command = [
        sys.executable,
        "-m",
        "talkemo_cli",
        "animate",
        face,
        "-",
        "--stream",
        "--raw",
        str(SAMPLE_RATE),
    ]
    came, times, began = [], [], 0.0
    with subprocess.Popen(
        [*command, *options, "-q"], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as process:
        pipe, lines = process.stdin, process.stdout
        assert pipe is not None and lines is not None
        pipe.write(np.zeros(int(SILENCE * SAMPLE_RATE), "<i2").tobytes())
        pipe.flush()
        lines.readline()
        lines.readline()  # it is there once it has made a frame
        began = time.perf_counter() - SILENCE

        def send(pipe: IO[bytes] = pipe) -> None:
            for start in range(0, len(samples), PIECE):
                if paced:
                    time.sleep(
                        max(
                            0.0,
                            began + SILENCE + (start + PIECE) / SAMPLE_RATE - time.perf_counter(),
                        )
                    )
                pipe.write(samples[start : start + PIECE].tobytes())
                pipe.flush()
            pipe.close()

        threading.Thread(target=send, daemon=True).start()
        for line in lines:
            came.append(time.perf_counter() - began)
            times.append(json.loads(line)["time"])
    return times, came, time.perf_counter() - began


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("face")
    parser.add_argument("sound")
    parser.add_argument("--emotion", default="happy")
    arguments = parser.parse_args()
    sound = open_audio(arguments.sound)
    samples = (sound.samples().clip(-1, 1) * 32767).astype("<i2")
    options = ["--emotion", arguments.emotion]
    times, came, _ = run(arguments.face, samples, options, paced=True)
    late = np.array(
        [b - a for a, b in zip(times, came) if SILENCE + 0.5 < a < SILENCE - 1.0 + sound.duration]
    )
    figures = {"mean": late.mean(), "95 %": np.percentile(late, 95), "worst": late.max()}
    print(
        "s from sound to frame:",
        ", ".join(f"{name} {value:.3f}" for name, value in figures.items()),
    )
    times, came, seconds = run(arguments.face, samples, options, paced=False)
    print(f"sound that is there at once: {len(times) / (seconds - SILENCE):.0f} frames a second")


if __name__ == "__main__":
    main()
