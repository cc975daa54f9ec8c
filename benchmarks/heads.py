"""How people's heads move while they speak, beside the motion that talkemo makes.

python benchmarks/heads.py DATA [--split dev] [--json]

DATA/talking has heads' rotations and sound of people who speak freely. For them, for `heads.HeadMotion` and for a head that
turns at their mean speed, there and back: standard deviation of pitch, yaw and roll in octave bands, speed in degrees a
second, Pearson r of speed with loudness, both over 0.6 s, and how much faster heads are in the loudest quarter than in the
quietest. Medians over clips. `--split train` is what HeadMotion's spectrum was read from.
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

RATE = 25  # Hz
SHORTEST = 6.0  # s of a clip
LOUD = 40.0  # dB under the loudest from which on there is sound
WINDOW = 0.6  # s


def main() -> None:
    """Parse the command line and print the figures."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("data", type=Path)
    parser.add_argument("--split", default="dev", choices=("train", "dev"))
    parser.add_argument("--json", action="store_true")
    arguments = parser.parse_args()
    clips = list(people(arguments.data, arguments.split))
    made = [
        (HeadMotion(k).angles(np.arange(len(turns)) / RATE), loudness)
        for k, (turns, loudness) in enumerate(clips)
    ]
    speed = float(np.median([figures(*clip)["speed"] for clip in clips]))
    steady = [(to_and_fro(len(turns), speed), loudness) for turns, loudness in clips]
    rows = {
        name: middle(some)
        for name, some in {"people": clips, "HeadMotion": made, "mean speed": steady}.items()
    }
    if arguments.json:
        print(json.dumps({"clips": len(clips), "split": arguments.split, **rows}, indent=1))
        return
    print(f"{len(clips)} clips of the {arguments.split} split")
    for name, row in rows.items():
        print(name, {key: np.round(value, 2).tolist() for key, value in row.items()})


def people(data: Path, split: str) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Pitch, yaw and roll (T, 3) in radians around their means, and loudness (T,) in [0, 1], of each clip."""
    folder = data / "talking"
    with (folder / "clips.tsv").open(encoding="utf-8", newline="") as file:
        chosen = {
            row["name"]
            for row in csv.DictReader(file, delimiter="\t")
            if (row["split"] == "dev") == (split == "dev")
        }
    with np.load(folder / "tracks.npz", allow_pickle=False) as tracks:
        names, starts, times, pose = (tracks[key] for key in ("clips", "start", "time", "pose"))
    for name, first, last in zip(names, starts[:-1], starts[1:]):
        time, turns = times[first:last].astype(np.float64), pose[first:last, :3].astype(np.float64)
        seen = np.isfinite(turns).all(1)
        time, turns = time[seen], turns[seen]
        if str(name) not in chosen or len(time) < 2 or time[-1] - time[0] < SHORTEST:
            continue
        at = np.arange(time[0], time[-1], 1 / RATE)
        angles = np.column_stack([np.interp(at, time, turns[:, k]) for k in range(3)])
        samples = open_audio(folder / "audio" / f"{name}.ogg").samples()
        power = uniform_filter1d(samples**2, SAMPLE_RATE // 10)[
            np.clip((at * SAMPLE_RATE).astype(int), 0, len(samples) - 1)
        ]
        level = 10 * np.log10(power + 1e-12)
        yield (
            angles - angles.mean(0),
            np.clip((level - np.percentile(level, 95) + LOUD) / LOUD, 0, 1),
        )


def to_and_fro(count: int, speed: float) -> np.ndarray:
    """A yaw (T, 3) at a constant speed in degrees a second, 4 degrees to either side."""
    way = np.arange(count) / RATE * np.radians(speed)
    reach = np.radians(8)
    return np.column_stack(
        [
            np.zeros(count),
            np.abs((way + reach / 2) % (2 * reach) - reach) - reach / 2,
            np.zeros(count),
        ]
    )


def figures(turns: np.ndarray, loudness: np.ndarray) -> dict[str, Any]:
    """The figures of one clip."""
    window = round(WINDOW * RATE)
    speed = np.linalg.norm(
        np.gradient(gaussian_filter1d(turns, 1.5, axis=0), 1 / RATE, axis=0), axis=1
    )
    slow, loud = uniform_filter1d(speed, window), uniform_filter1d(loudness, window)
    frequency, power = welch(turns, RATE, nperseg=min(len(turns), 256), axis=0)
    bands = [
        np.sqrt(power[(frequency >= a) & (frequency < b)].sum(0) * frequency[1])
        for a, b in pairwise(HEAD_MOTION_BANDS_HZ)
    ]
    quiet, high = loud <= np.percentile(loud, 25), loud >= np.percentile(loud, 75)
    still = slow.std() < 1e-9
    return {
        "bands": np.degrees(bands[1:]).round(3).tolist(),
        "deviation": np.degrees(turns.std(0)).tolist(),
        "speed": float(np.degrees(speed.mean())),
        "r": 0.0 if still else float(np.corrcoef(slow, loud)[0, 1]),
        "loud_to_quiet": float(slow[high].mean() / slow[quiet].mean()),
    }


def middle(clips: list[tuple[np.ndarray, np.ndarray]]) -> dict[str, Any]:
    """Medians over clips."""
    found = [figures(*clip) for clip in clips]
    return {key: np.median([one[key] for one in found], axis=0).tolist() for key in found[0]}


if __name__ == "__main__":
    main()
