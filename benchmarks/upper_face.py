"""How the upper face, the mouth's sides and the head of speakers live, beside talkemo's.

python benchmarks/upper_face.py DATA [CAPTURES] [--split dev] [--weights SET] [--json]

DATA/talking is filmed spontaneous speech; CAPTURES, a folder, holds its captures, which are made
where they are missing. talkemo speaks the same recordings, neutral, happy, and neutral with
`--liveliness off`. The table has medians over clips, but for the last rows, which take all clips:

brow mm              standard deviation of the brow landmarks' height
inner brow ~ jaw     Pearson r of browInnerUp and jawOpen; of people the tracker's scores
brow ~ loudness      Pearson r of the brows' height and loudness, smoothed over 0.2 s
corners              Pearson r of the height of the mouth's corners, and of their distance outwards
blinks               a minute; the time for which lids are at least half closed
head                 standard deviation of pitch, yaw and roll; speed; speed in pauses to that in speech
nod at stress        how much lower the head is at a stress than 0.3 s before and after
nods near stresses   share of the stresses with a nod within 0.15 s, relative to chance
first blink          median and quartiles over the clips
alike                mean |r| of the head's yaw in two clips

The constants of talkemo/expression were set with `--split train`.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np
from heads import loudness_at
from scipy.ndimage import gaussian_filter1d, median_filter
from scipy.signal import find_peaks

from talkemo import AnimateOptions, Models, bind, load_models
from talkemo.audio.prosody import Prosody, Voice
from talkemo.audio.recording import open_audio
from talkemo.binding import Binding
from talkemo.capture.landmark_tracker import SCORE_NAMES
from talkemo.data.capture_cache import cached_captures_folder
from talkemo.data.captures import FittedRecording, load_captures, read_captures
from talkemo.data.corpora import read_corpus
from talkemo.face.canonical import ARKIT_NAMES, MOUTH_CORNERS, Face
from talkemo.face.motion import split_times
from talkemo.geometry.rigid import rotation_matrices
from talkemo.pipelines.acting import ActingPlan, FaceActor

CORPUS = "talking"
MESH = Path(__file__).parents[1] / "examples" / "mask.obj"
RATE_HZ = 25
MIN_CLIP_S = 6.0
BROWS = slice(17, 27)  # iBUG landmarks
BLINK_WINDOW_S, MIN_BLINK_SCORE = 2.0, 0.25  # lids are open at the median of the window
HALF_BLINK = 0.5  # of the height of a blink
PAUSE_ACTIVITY, SPEECH_ACTIVITY = 0.2, 0.6
MIN_PAUSE_S = 0.8  # of all pauses of a clip, for its speed in pauses
NOD_S, NEAR_S, MIN_NOD_DEG = 0.3, 0.15, 0.5
CURVES = (
    *("jawOpen", "browInnerUp", "eyeBlinkLeft", "eyeBlinkRight"),
    *("mouthSmileLeft", "mouthSmileRight", "eyeSquintLeft", "eyeSquintRight"),
)
ACTS = {
    "neutral": AnimateOptions(),
    "happy": AnimateOptions(emotion="happy"),
    "liveliness off": AnimateOptions(liveliness="off"),
}


@dataclass(frozen=True, eq=False)
class Clip:
    """A face that speaks, at RATE_HZ."""

    landmarks: np.ndarray  # (T, 68, 3) mm, displacements on the canonical face
    curves: dict[str, np.ndarray]  # name of CURVES → (T,)
    head: np.ndarray  # (T, 3) degrees, pitch, yaw and roll
    loudness: np.ndarray  # (T,)
    voice: Voice
    start: float  # s


def main() -> None:
    """Parse the command line, measure people and talkemo, and print the table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("data", type=Path)
    parser.add_argument("captures", type=Path, nargs="?")
    parser.add_argument("--split", default="dev", choices=("train", "dev"))
    parser.add_argument("--weights", default="default")
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    models = load_models(options.weights, device="cpu")
    binding = bind(MESH, models=models)
    clips: dict[str, list[Clip]] = {name: [] for name in ("people", *ACTS)}
    for person, recording in filmed_clips(options.data, options.captures, models, options.split):
        clips["people"].append(person)
        for name, acting in ACTS.items():
            path = options.data / recording.audio
            clips[name].append(acted_clip(models, binding, acting, path, person))
    table = {name: measured(of_column) for name, of_column in clips.items()}
    if options.json:
        print(
            json.dumps({"split": options.split, "clips": len(clips["people"]), **table}, indent=1)
        )
        return
    print(f"{len(clips['people'])} clips of the {options.split} split\n")
    print("| | " + " | ".join(table) + " |\n" + "|---" * (1 + len(table)) + "|")
    for row in table["people"]:
        print(f"| {row} | " + " | ".join(str(column[row]) for column in table.values()) + " |")


def filmed_clips(
    data: Path,
    folder: Path | None,
    models: Models,
    split: str,
    corpus: str = CORPUS,
    min_clip_s: float = MIN_CLIP_S,
) -> Iterator[tuple[Clip, FittedRecording]]:
    """Yield the people of a corpus' split."""
    if folder is None:
        folder = cached_captures_folder(data, models.face)
        fitted = list(load_captures(data, folder, models, (corpus,)))
    else:
        fitted = read_captures(folder / f"{corpus}.npz", models.face)
    scores = {r.name: r.scores for r in read_corpus(corpus, data)}
    with np.load(data / corpus / "tracks.npz", allow_pickle=False) as tracks:
        names, starts, time, pose = (tracks[key] for key in ("clips", "start", "time", "pose"))
    frames = {str(n): slice(a, b) for n, a, b in zip(names, starts[:-1], starts[1:])}
    for recording in fitted:
        if recording.rejected or (recording.split == "dev") != (split == "dev"):
            continue
        rows, tracked = frames[recording.name], scores[recording.name]
        assert tracked is not None
        seen = np.isfinite(pose[rows, :3]).all(1) & np.isfinite(tracked).all(1)
        moments = time[rows][seen].astype(float)
        audio = open_audio(data / recording.audio)
        first, last = max(moments[0], 0.0), min(moments[-1], audio.duration)
        if last - first < min_clip_s:
            continue
        times = np.arange(first, last, 1 / RATE_HZ)
        curves = {
            name: np.interp(times, moments, tracked[seen, SCORE_NAMES.index(name)])
            for name in CURVES
        }
        motion = recording.capture.motion(models.face)
        landmarks = resampled(times, motion.times, motion.coordinates) @ of_landmarks(models.face)
        head = np.degrees(resampled(times, moments, pose[rows, :3][seen].astype(float)))
        prosody = Prosody(audio)
        voice = prosody.until(times)
        loudness = loudness_at(audio.samples(), times)
        yield (
            Clip(landmarks.reshape(len(times), 68, 3), curves, head, loudness, voice, first),
            recording,
        )


def acted_clip(
    models: Models, binding: Binding, acting: AnimateOptions, audio: Path, person: Clip
) -> Clip:
    """Return what talkemo makes of a person's recording."""
    actor = FaceActor(models, binding, ActingPlan.of(acting))
    recording = open_audio(audio)
    count = len(person.loudness)
    # From the beginning of the audio, as `animate` does.
    before = round(person.start * RATE_HZ)
    times = np.arange(before + count) / RATE_HZ
    speech = models.talking.stream(actor.listen(recording), split_times(times))
    acts = [actor.perform(motion) for motion in speech]
    shown = np.concatenate([act.shown.coordinates for act in acts])[before:]
    arkit = np.concatenate([act.arkit for act in acts])[before:]
    head = np.concatenate([act.head for act in acts if act.head is not None])[before:]
    landmarks = (shown @ of_landmarks(models.face)).reshape(count, 68, 3)
    curves = {name: arkit[:, ARKIT_NAMES.index(name)] for name in CURVES}
    angles = np.degrees(angles_of(head))
    return Clip(landmarks, curves, angles, person.loudness, person.voice, person.start)


def of_landmarks(face: Face) -> np.ndarray:
    """Matrix (S, 68·3) from coordinates to displacements of the landmarks in mm."""
    return face.span[:, face.landmarks68].reshape(len(face.span), -1)


def resampled(times: np.ndarray, known: np.ndarray, values: np.ndarray) -> np.ndarray:
    """Values (T', D) at `known` times, interpolated at times (T,)."""
    return np.column_stack([np.interp(times, known, column) for column in values.T])


def angles_of(head: np.ndarray) -> np.ndarray:
    """Pitch, yaw and roll (T, 3) of rotations (T, 3, 3), inverse to `rotation_matrices`."""
    pitch = np.arctan2(head[:, 2, 1], head[:, 2, 2])
    yaw, roll = -np.arcsin(head[:, 2, 0]), np.arctan2(head[:, 1, 0], head[:, 0, 0])
    angles = np.column_stack([pitch, yaw, roll])
    assert np.allclose(rotation_matrices(*angles.T), head, atol=1e-4)
    return angles


def measured(clips: list[Clip]) -> dict[str, str]:
    """The rows of the table for some clips."""
    of_clips = [clip_metrics(clip) for clip in clips]
    median = {key: np.nanmedian([row[key] for row in of_clips], axis=0) for key in of_clips[0]}
    pitch, yaw, roll = median["head"]
    first = np.nanpercentile([row["first blink"] for row in of_clips], (25, 50, 75))
    near, by_chance = np.sum([nods_near_stresses(clip) for clip in clips], 0)
    yaws = [clip.head[: round(MIN_CLIP_S * RATE_HZ), 1] for clip in clips]
    alike = np.mean([abs(correlation(a, b)) for a, b in combinations(yaws, 2)])
    return {
        "brows, mm": f"{median['brow']:.2f}",
        "inner brow ~ jaw, r": f"{median['brow jaw']:.2f}",
        "brow ~ loudness, r": f"{median['brow loudness']:.2f}",
        "corners' height, r": f"{median['corner y']:.3f}",
        "corners outwards, r": f"{median['corner x']:.3f}",
        "blinks a minute": f"{median['blinks']:.0f}",
        "half closed, s": f"{median['half closed']:.2f}",
        "first blink, s": "{1:.1f} ({0:.1f} to {2:.1f})".format(*first),
        "head, degrees": f"{pitch:.1f}, {yaw:.1f}, {roll:.1f}",
        "head, degrees a second": f"{median['speed']:.1f}",
        "speed in pauses to speech": f"{median['pause speed']:.2f}",
        "nod at stress, degrees": f"{median['nod']:.2f}",
        "nods near stresses, to chance": f"{near / by_chance:.2f}",
        "heads alike, |r|": f"{alike:.2f}",
    }


def clip_metrics(clip: Clip) -> dict[str, Any]:
    """The metrics of one clip."""
    brows = clip.landmarks[:, BROWS, 1]
    corners = clip.landmarks[:, MOUTH_CORNERS]
    blinks, half_closed = blinks_of(clip)
    velocity = np.gradient(gaussian_filter1d(clip.head, 1.5, axis=0), 1 / RATE_HZ, axis=0)
    speed = np.linalg.norm(velocity, axis=1)
    pause = clip.voice.activity < PAUSE_ACTIVITY
    speech = clip.voice.activity > SPEECH_ACTIVITY
    has_pauses = pause.sum() > MIN_PAUSE_S * RATE_HZ and speech.any()
    loudness = gaussian_filter1d(clip.loudness, 0.2 * RATE_HZ)
    return {
        "brow": brows.std(0).mean(),
        "brow jaw": correlation(clip.curves["browInnerUp"], clip.curves["jawOpen"]),
        "brow loudness": correlation(brows.mean(1), loudness),
        "corner x": correlation(-corners[:, 0, 0], corners[:, 1, 0]),
        "corner y": correlation(corners[:, 0, 1], corners[:, 1, 1]),
        "blinks": 60 * RATE_HZ * len(blinks) / len(speed),
        "half closed": np.median(half_closed) if len(blinks) else np.nan,
        "first blink": blinks[0] if len(blinks) else np.nan,
        "head": clip.head.std(0),
        "speed": speed.mean(),
        "pause speed": speed[pause].mean() / speed[speech].mean() if has_pauses else np.nan,
        "nod": nod_at_stresses(clip),
    }


def correlation(first: np.ndarray, second: np.ndarray) -> float:
    """Pearson r of two series (T,); NaN where one is constant."""
    if min(first.std(), second.std()) < 1e-9:
        return float("nan")
    return float(np.corrcoef(first, second)[0, 1])


def blinks_of(clip: Clip) -> tuple[np.ndarray, np.ndarray]:
    """When blinks begin, and how long lids are half closed, in s."""
    lids = (clip.curves["eyeBlinkLeft"] + clip.curves["eyeBlinkRight"]) / 2
    closure = lids - median_filter(lids, round(BLINK_WINDOW_S * RATE_HZ))
    fine = np.interp(np.arange(0, len(closure), 0.1), np.arange(len(closure)), closure)
    peaks, _ = find_peaks(fine, height=MIN_BLINK_SCORE, distance=3 * RATE_HZ)
    half = [np.flatnonzero(fine[:p] < HALF_BLINK * fine[p])[-1:] for p in peaks]
    after = [p + np.flatnonzero(fine[p:] < HALF_BLINK * fine[p])[:1] for p in peaks]
    both = [(a[0], b[0]) for a, b in zip(half, after) if len(a) and len(b)]
    times = np.array(both, float).reshape(-1, 2) / 10 / RATE_HZ
    return times[:, 0], times[:, 1] - times[:, 0]


def stress_frames(clip: Clip) -> np.ndarray:
    """Frames of the stresses that have NOD_S of motion before and after them."""
    frames = [(e.time - clip.start) * RATE_HZ for e in clip.voice.events if e.kind == "stress"]
    rounded, margin = np.round(frames).astype(int), round(NOD_S * RATE_HZ)
    return rounded[(rounded >= margin) & (rounded < len(clip.head) - margin)]


def nod_at_stresses(clip: Clip) -> float:
    """How many degrees the head is lower at stresses than NOD_S before and after, on average."""
    frames, margin = stress_frames(clip), round(NOD_S * RATE_HZ)
    if not len(frames):
        return float("nan")
    pitch = gaussian_filter1d(clip.head[:, 0], 1.5)
    around = (pitch[frames - margin] + pitch[frames + margin]) / 2
    return float((pitch[frames] - around).mean())


def nods_near_stresses(clip: Clip) -> tuple[float, float]:
    """How many stresses have a nod near them, and how many would have one by chance."""
    pitch = gaussian_filter1d(clip.head[:, 0], 1.5)
    nods, _ = find_peaks(pitch, prominence=MIN_NOD_DEG)
    near = np.zeros(len(pitch), bool)
    for k in range(-round(NEAR_S * RATE_HZ), round(NEAR_S * RATE_HZ) + 1):
        near[np.clip(nods + k, 0, len(near) - 1)] = True
    frames = stress_frames(clip)
    return float(near[frames].sum()), float(near.mean() * len(frames))


if __name__ == "__main__":
    main()
