"""How well films are captured: what the fit loses of what the face tracker sees, and how fast it is.

python benchmarks/films.py FILM... [--weights SET] [--json]

For each film: the mean distance of the tracked points from the fitted model's, in pixels, mm and per cent of the distance
between the outer corners of the eyes; of the frames in which the tracked lips touch, the share in which the fitted ones
do; Pearson r of the fitted jaw, smile and brows with the tracker's own scores, which the fit looks at for the gaze and,
weakly, as a prior; frames a second of reading, tracking and fitting. `still` is the mean distance, in mm, by which
vertices tremble from frame to frame where the film's middle frame is shown 60 times with a camera's noise.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from pathlib import Path

import numpy as np

from talkemo import InputError, load_models
from talkemo.capture.landmark_tracker import EYE_CORNERS, SCORE_NAMES, LandmarkTracker
from talkemo.capture.landmarks import MESH_LIP_PAIRS
from talkemo.capture.video_capture import VideoCapture, fit_landmarks, track_landmarks
from talkemo.face.canonical import ARKIT_NAMES, Face
from talkemo.pipelines.reconstruct import Person
from talkemo.video.reader import open_video
from talkemo.weights.registry import DEFAULT_SET

TOUCHING = 1.0  # mm between the middles of the inner lips
MIDDLE_PAIRS = 3  # of facing points of the lips
NOISE = 2.0  # standard deviation of a camera's noise, in grey levels of 255
STILL_FRAMES = 60
COMPARED = {
    "jaw": ("jawOpen",),
    "smile": ("mouthSmileLeft", "mouthSmileRight"),
    "brows_up": ("browInnerUp", "browOuterUpLeft", "browOuterUpRight"),
    "brows_down": ("browDownLeft", "browDownRight"),
    "blink": ("eyeBlinkLeft", "eyeBlinkRight"),
}


def main() -> None:
    """Parse the command line and print the figures."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("films", nargs="+", type=Path)
    parser.add_argument("--weights", default=DEFAULT_SET)
    parser.add_argument("--json", action="store_true")
    arguments = parser.parse_args()
    try:
        face = load_models(arguments.weights).face
        rows = {film.name: figures(face, film) for film in arguments.films}
    except InputError as error:
        sys.exit(f"{error}")
    rows["mean"] = {
        key: round(float(np.nanmean([row[key] for row in rows.values()])), 3)
        for key in next(iter(rows.values()))
    }
    if arguments.json:
        print(json.dumps(rows, indent=1))
        return
    print(f"{'':28}" + "".join(f"{key:>12}" for key in rows["mean"]))
    for name, row in rows.items():
        print(f"{name:28}" + "".join(f"{row[key]:12.3f}" for key in row))


def figures(face: Face, path: Path) -> dict[str, float]:
    """The figures of a film."""
    tracker = LandmarkTracker()
    started = time.perf_counter()
    with open_video(path) as film:
        pictures, fps, scale = list(film.frames), film.fps, film.scale
    read = time.perf_counter()
    points, scores, faces = track_landmarks(tracker.follow(pictures), scale, path)
    if not faces:
        raise InputError(f"{path}: no face found in it", "leave it out")
    tracked = time.perf_counter()
    captured = fit_landmarks(face, points, scores, fps)
    fitted = time.perf_counter()
    seen = captured.capture.seen
    eyes = np.linalg.norm(
        np.subtract(*captured.landmarks[seen][:, EYE_CORNERS].transpose(1, 0, 2)), axis=1
    )
    result = {
        "residual_px": captured.residual_px[seen].mean(),
        "residual_mm": captured.capture.residual[seen].mean(),
        "percent_eyes": 100 * (captured.residual_px[seen] / eyes).mean(),
        "lips_touch": share_touching(face, captured),
    }
    weights = captured.capture.shapes @ face.arkit_matrix
    for name, parts in COMPARED.items():
        fitted_part = weights[:, [ARKIT_NAMES.index(part) for part in parts]].mean(1)[seen]
        told = captured.scores[:, [SCORE_NAMES.index(part) for part in parts]].mean(1)[seen]
        result[name] = (
            np.corrcoef(fitted_part, told)[0, 1]
            if min(fitted_part.std(), told.std()) > 1e-6
            else np.nan
        )
    rng = np.random.default_rng(0)
    middle = pictures[len(pictures) // 2].astype(np.float32)
    noisy = (
        (middle + rng.normal(0, NOISE, middle.shape)).clip(0, 255).astype(np.uint8)
        for _ in range(STILL_FRAMES)
    )
    still = fit_landmarks(face, *track_landmarks(tracker.follow(noisy), 1.0, path)[:2], fps)
    vertices = Person(face, still.capture.identity).vertices(still.capture.shapes)
    result["still_mm"] = np.linalg.norm(np.diff(vertices, axis=0), axis=2).mean()
    frames = len(pictures)
    result |= {
        "fps": frames / (fitted - started),
        "read_fps": frames / (read - started),
        "track_fps": frames / (tracked - read),
        "fit_fps": frames / (fitted - tracked),
    }
    return {key: round(float(value), 3) for key, value in result.items()}


def share_touching(face: Face, film: VideoCapture) -> float:
    """Of the frames in which the tracked lips touch, the share in which the fitted ones do; NaN where none does."""
    capture = film.capture
    pairs = np.array(MESH_LIP_PAIRS[:MIDDLE_PAIRS])
    between = (
        np.linalg.norm(
            film.landmarks[:, pairs[:, 0]] - film.landmarks[:, pairs[:, 1]], axis=2
        ).mean(1)
        / capture.scale
    )
    vertices = Person(face, capture.identity).vertices(capture.shapes)
    opening = face.lip_opening(vertices - Person(face, capture.identity).neutral)
    touch = capture.seen & (between <= TOUCHING)
    return float((opening[touch] <= TOUCHING).mean()) if touch.any() else float("nan")


if __name__ == "__main__":
    main()
