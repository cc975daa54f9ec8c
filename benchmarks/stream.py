"""Delay of streamed frames: `talkemo animate FACE - --stream`, fed at the pace of the recording.

    python benchmarks/stream.py FACE AUDIO [--emotion happy] [--to vmc|livelink|ws]

Prints the seconds from the moment at which a frame's own audio was spoken to the moment at which
the frame can be read, and the frame rate when all audio is available at once. With --to, what a
receiver of `talkemo live FACE - --to PROTOCOL://` on this machine sees: the delay, the frame rate,
the steps between frames, and frames that are lost or out of order.
"""

from __future__ import annotations

import argparse
import json
import socket
import struct
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from typing import IO

import numpy as np

from talkemo.audio.recording import SAMPLE_RATE, open_audio

CHUNK_SAMPLES = 160  # 10 ms, sent at a time
LEADING_SILENCE_S = 2.0  # during which the program starts; not measured
PROTOCOLS = ("vmc", "livelink", "ws")
VMC_TIME = b"/VMC/Ext/T\0\0,f\0\0"  # before the float of a frame's time
SETTLING_S = 2.0  # of frames that are not measured: their pace settles
QUIET_S = 1.0  # without frames after which a receiver has them all


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


def receive(
    face: str, samples: np.ndarray, emotion: str, protocol: str
) -> tuple[np.ndarray, np.ndarray]:
    """Send a recording at its own pace to a receiver of a protocol.

    Returns
    -------
    Times of the frames in the order of their arrival, and their arrivals; in s from the beginning
    of the audio.
    """
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as receiver:
        receiver.bind(("127.0.0.1", 0))
        port = receiver.getsockname()[1]
        command = [sys.executable, "-m", "talkemo_cli", "live", face, "-", "-q"]
        command += ["--raw", str(SAMPLE_RATE), "--emotion", emotion]
        command += ["--to", f"{protocol}://127.0.0.1:{port}"]
        with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
            pipe, lines = process.stdin, process.stdout
            assert pipe is not None and lines is not None
            lines.readline()  # the address: the program has started
            started = time.perf_counter()
            threading.Thread(target=send, args=(pipe, samples, started), daemon=True).start()
            times = messages(port) if protocol == "ws" else packets(receiver, process)
            found = [(frame, time.perf_counter() - started) for frame in times]
    return np.array([frame for frame, _ in found]), np.array([arrival for _, arrival in found])


def messages(port: int) -> Iterator[float]:
    """Yield the times of the frames that a WebSocket server sends, as they arrive."""
    from websockets.exceptions import ConnectionClosed
    from websockets.sync.client import connect

    with connect(f"ws://127.0.0.1:{port}") as client:
        client.recv()  # the header
        try:
            while True:
                yield json.loads(client.recv())["time"]
        except ConnectionClosed:
            return


def packets(receiver: socket.socket, process: subprocess.Popen[bytes]) -> Iterator[float]:
    """Yield the times of the frames in packets of Live Link or VMC, as they arrive."""
    receiver.settimeout(QUIET_S)
    while True:
        try:
            packet = receiver.recv(1 << 16)
        except TimeoutError:
            if process.poll() is not None:
                return
            continue
        if packet[0] == 6:  # Live Link: 17 bytes and 61 floats at the end
            frame, part, numerator, denominator = struct.unpack(">ifii", packet[-261:-245])
            yield (frame + part) * denominator / numerator
        elif VMC_TIME in packet:  # the first packet of a frame
            place = packet.index(VMC_TIME) + len(VMC_TIME)
            yield struct.unpack_from(">f", packet, place)[0]


def print_received(times: np.ndarray, arrivals: np.ndarray) -> None:
    """Print what a receiver saw."""
    measured = times > SETTLING_S
    delay, steps = (arrivals - times)[measured], 1000 * np.diff(arrivals[measured])
    print(
        f"s from audio to frame: mean {delay.mean():.3f}, 95 % {np.percentile(delay, 95):.3f},"
        f" worst {delay.max():.3f}"
    )
    rate = (len(delay) - 1) / np.ptp(arrivals[measured])
    print(
        f"{rate:.2f} frames a second, ms between frames: 5 % {np.percentile(steps, 5):.1f}, median"
        f" {np.median(steps):.1f}, 95 % {np.percentile(steps, 95):.1f}"
    )
    expected = round(float(times.max() / np.median(np.diff(np.sort(times))))) + 1
    print(f"lost {expected - len(times)} of {expected}, out of order {(np.diff(times) <= 0).sum()}")


def main() -> None:
    """Parse the command line and print the delays."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("face")
    parser.add_argument("audio")
    parser.add_argument("--emotion", default="happy")
    parser.add_argument("--to", choices=PROTOCOLS, help="measure what a receiver sees")
    options = parser.parse_args()
    audio = open_audio(options.audio)
    samples = (audio.samples().clip(-1, 1) * 32767).astype("<i2")
    if options.to:
        print_received(*receive(options.face, samples, options.emotion, options.to))
        return
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
