"""How speakers' heads move, beside the motion that talkemo makes.

python benchmarks/heads.py DATA [--split dev] [--json]

DATA/talking has head rotations and audio of spontaneous speech. They are compared with
`HeadMotion` and with a head that turns to and fro at the speakers' mean speed:

bands          standard deviation of pitch, yaw and roll in octave bands, degrees
deviation      the same over all frequencies
speed          degrees per second
r              Pearson r of speed with loudness, both averaged over 0.6 s
loud_to_quiet  speed in the loudest quarter relative to the quietest

Medians over clips. HeadMotion's spectrum was measured with `--split train`.
"""

from __future__ import annotations

import argparse
import csv
import json
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
from scipy.ndimage import gaussian_filter1d, uniform_filter1d
from scipy.signal import welch

from talkemo.audio.recording import SAMPLE_RATE, open_audio
from talkemo.expression.head_motion import HEAD_MOTION_BANDS_HZ, HeadMotion

HEAD_RATE_HZ = 25
MIN_CLIP_S = 6.0
LOUDNESS_RANGE_DB = 40.0  # below the 95th percentile of the level; quieter counts as silence
LOUDNESS_WINDOW_S = 0.6
TURN_RANGE_DEGREES = 8  # of the head that turns to and fro

HeadClip = tuple[np.ndarray, np.ndarray]  # angles (T, 3) in radians and loudness (T,) in [0, 1]


def main() -> None:
    """Parse the command line and print the metrics."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("data", type=Path)
    parser.add_argument("--split", default="dev", choices=("train", "dev"))
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    clips = list(recorded_clips(options.data, options.split))
    synthetic, constant_speed = [], []
    speed = float(np.median([head_metrics(*clip)["speed"] for clip in clips]))
    for number, (angles, loudness) in enumerate(clips):
        times = np.arange(len(angles)) / HEAD_RATE_HZ
        synthetic.append((HeadMotion(number).angles(times), loudness))
        constant_speed.append((to_and_fro(len(angles), speed), loudness))
    rows = {
        "people": median_metrics(clips),
        "HeadMotion": median_metrics(synthetic),
        "mean speed": median_metrics(constant_speed),
    }
    if options.json:
        print(json.dumps({"clips": len(clips), "split": options.split, **rows}, indent=1))
        return
    print(f"{len(clips)} clips of the {options.split} split")
    for name, row in rows.items():
        print(name, {key: np.round(value, 2).tolist() for key, value in row.items()})


def recorded_clips(data: Path, split: str) -> Iterator[HeadClip]:
    """Pitch, yaw and roll relative to their means, and loudness, of each clip of talking."""
    folder = data / "talking"
    with (folder / "clips.tsv").open(encoding="utf-8", newline="") as file:
        names_of_split = {
            row["name"]
            for row in csv.DictReader(file, delimiter="\t")
            if (row["split"] == "dev") == (split == "dev")
        }
    with np.load(folder / "tracks.npz", allow_pickle=False) as tracks:
        names, starts, times, pose = (tracks[key] for key in ("clips", "start", "time", "pose"))
    for name, first, last in zip(names, starts[:-1], starts[1:]):
        time, angles = times[first:last].astype(np.float64), pose[first:last, :3].astype(np.float64)
        seen = np.isfinite(angles).all(1)
        time, angles = time[seen], angles[seen]
        if str(name) not in names_of_split or len(time) < 2 or time[-1] - time[0] < MIN_CLIP_S:
            continue
        uniform_time = np.arange(time[0], time[-1], 1 / HEAD_RATE_HZ)
        angles = np.column_stack([np.interp(uniform_time, time, angles[:, k]) for k in range(3)])
        samples = open_audio(folder / "audio" / f"{name}.ogg").samples()
        yield angles - angles.mean(0), loudness_at(samples, uniform_time)


def loudness_at(samples: np.ndarray, time: np.ndarray) -> np.ndarray:
    """Loudness (T,) in [0, 1] of samples at 16 kHz at times (T,) s."""
    index = np.clip((time * SAMPLE_RATE).astype(int), 0, len(samples) - 1)
    power = uniform_filter1d(samples**2, SAMPLE_RATE // 10)[index]
    level = 10 * np.log10(power + 1e-12)
    level = level - np.percentile(level, 95) + LOUDNESS_RANGE_DB
    return np.clip(level / LOUDNESS_RANGE_DB, 0, 1)


def to_and_fro(count: int, speed: float) -> np.ndarray:
    """Angles (T, 3) of a head that turns at `speed` degrees per second, 4 degrees to each side."""
    path = np.arange(count) / HEAD_RATE_HZ * np.radians(speed)
    size = np.radians(TURN_RANGE_DEGREES)
    yaw = np.abs((path + size / 2) % (2 * size) - size) - size / 2
    return np.column_stack([np.zeros(count), yaw, np.zeros(count)])


def head_metrics(angles: np.ndarray, loudness: np.ndarray) -> dict[str, Any]:
    """The metrics of one clip."""
    window = round(LOUDNESS_WINDOW_S * HEAD_RATE_HZ)
    velocity = np.gradient(gaussian_filter1d(angles, 1.5, axis=0), 1 / HEAD_RATE_HZ, axis=0)
    speed = np.linalg.norm(velocity, axis=1)
    mean_speed, mean_loudness = (uniform_filter1d(x, window) for x in (speed, loudness))
    frequency, power = welch(angles, HEAD_RATE_HZ, nperseg=min(len(angles), 256), axis=0)
    bands = [
        np.sqrt(power[(frequency >= low) & (frequency < high)].sum(0) * frequency[1])
        for low, high in pairwise(HEAD_MOTION_BANDS_HZ)
    ]
    quiet = mean_loudness <= np.percentile(mean_loudness, 25)
    loud = mean_loudness >= np.percentile(mean_loudness, 75)
    still = mean_speed.std() < 1e-9
    return {
        "bands": np.degrees(bands[1:]).round(3).tolist(),
        "deviation": np.degrees(angles.std(0)).tolist(),
        "speed": float(np.degrees(speed.mean())),
        "r": 0.0 if still else float(np.corrcoef(mean_speed, mean_loudness)[0, 1]),
        "loud_to_quiet": float(mean_speed[loud].mean() / mean_speed[quiet].mean()),
    }


def median_metrics(clips: list[HeadClip]) -> dict[str, Any]:
    """Medians over clips."""
    metrics = [head_metrics(*clip) for clip in clips]
    return {key: np.median([row[key] for row in metrics], axis=0).tolist() for key in metrics[0]}


if __name__ == "__main__":
    main()
