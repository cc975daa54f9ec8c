"""How well videos are captured: what the fit loses of the tracked landmarks, and its speed.

python benchmarks/video_capture.py VIDEO... [--weights SET] [--json]

residual      mean distance between tracked landmarks and the fitted model's, in px, mm, and per
              cent of the distance between the outer corners of the eyes
lips_touch    of the frames in which the tracked lips touch, the fraction in which the fitted do
jaw ... blink Pearson r of fitted weights with the tracker's own scores, which the fit uses for
              the gaze and, weakly, as a prior
still_mm      mean vertex movement between frames when the video's middle frame is repeated 60
              times with a camera's noise
fps           frames per second: overall, and of reading, tracking and fitting
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

TOUCHING_LIPS_MM = 1.0  # largest distance between the middles of the inner lips
MIDDLE_LIP_PAIRS = 3  # pairs of facing lip landmarks that are averaged
CAMERA_NOISE = 2.0  # standard deviation in grey levels of 255
STILL_FRAMES = 60
COMPARED_CURVES = {
    "jaw": ("jawOpen",),
    "smile": ("mouthSmileLeft", "mouthSmileRight"),
    "brows_up": ("browInnerUp", "browOuterUpLeft", "browOuterUpRight"),
    "brows_down": ("browDownLeft", "browDownRight"),
    "blink": ("eyeBlinkLeft", "eyeBlinkRight"),
}


def main() -> None:
    """Parse the command line and print the metrics."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("videos", nargs="+", type=Path, metavar="VIDEO")
    parser.add_argument("--weights", default=DEFAULT_SET)
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    try:
        face = load_models(options.weights).face
        rows = {path.name: video_metrics(face, path) for path in options.videos}
    except InputError as error:
        sys.exit(f"{error}")
    keys = list(next(iter(rows.values())))
    rows["mean"] = {
        key: round(float(np.nanmean([row[key] for row in rows.values()])), 3) for key in keys
    }
    if options.json:
        print(json.dumps(rows, indent=1))
        return
    print(f"{'':28}" + "".join(f"{key:>12}" for key in keys))
    for name, row in rows.items():
        print(f"{name:28}" + "".join(f"{row[key]:12.3f}" for key in keys))


def video_metrics(face: Face, path: Path) -> dict[str, float]:
    """Capture a video and measure it."""
    tracker = LandmarkTracker()
    started = time.perf_counter()
    with open_video(path) as video:
        images, fps, scale = list(video.frames), video.fps, video.scale
    read = time.perf_counter()
    points, scores, faces = track_landmarks(tracker.follow(images), scale, path)
    if not faces:
        raise InputError(f"{path}: no face found in it", "leave it out")
    tracked = time.perf_counter()
    video_capture = fit_landmarks(face, points, scores, fps)
    fitted = time.perf_counter()
    metrics = {
        **fit_metrics(face, video_capture),
        "still_mm": still_movement(face, tracker, images[len(images) // 2], path, fps),
        "fps": len(images) / (fitted - started),
        "read_fps": len(images) / (read - started),
        "track_fps": len(images) / (tracked - read),
        "fit_fps": len(images) / (fitted - tracked),
    }
    return {key: round(float(value), 3) for key, value in metrics.items()}


def fit_metrics(face: Face, video_capture: VideoCapture) -> dict[str, float]:
    """Residuals, touching lips, and correlations of the fit with the tracker's scores."""
    capture = video_capture.capture
    seen = capture.seen
    corners = video_capture.landmarks[seen][:, EYE_CORNERS]
    eye_distance = np.linalg.norm(corners[:, 0] - corners[:, 1], axis=1)
    metrics = {
        "residual_px": video_capture.residual_px[seen].mean(),
        "residual_mm": capture.residual[seen].mean(),
        "percent_eyes": 100 * (video_capture.residual_px[seen] / eye_distance).mean(),
        "lips_touch": touching_fraction(face, video_capture),
    }
    weights = capture.shapes @ face.arkit_matrix
    for name, curves in COMPARED_CURVES.items():
        fitted = weights[:, [ARKIT_NAMES.index(curve) for curve in curves]].mean(1)[seen]
        score_columns = [SCORE_NAMES.index(curve) for curve in curves]
        predicted = video_capture.scores[:, score_columns].mean(1)[seen]
        if min(fitted.std(), predicted.std()) > 1e-6:
            metrics[name] = np.corrcoef(fitted, predicted)[0, 1]
        else:
            metrics[name] = np.nan
    return metrics


def still_movement(
    face: Face, tracker: LandmarkTracker, image: np.ndarray, path: Path, fps: float
) -> float:
    """Mean vertex movement, mm, between captured frames of a still image with camera noise."""
    rng = np.random.default_rng(0)
    image = image.astype(np.float32)
    noisy = (
        (image + rng.normal(0, CAMERA_NOISE, image.shape)).clip(0, 255).astype(np.uint8)
        for _ in range(STILL_FRAMES)
    )
    points, scores, _ = track_landmarks(tracker.follow(noisy), 1.0, path)
    capture = fit_landmarks(face, points, scores, fps).capture
    vertices = Person(face, capture.identity).vertices(capture.shapes)
    return np.linalg.norm(np.diff(vertices, axis=0), axis=2).mean()


def touching_fraction(face: Face, video_capture: VideoCapture) -> float:
    """Of the frames in which the tracked lips touch, the fraction in which the fitted lips do."""
    capture = video_capture.capture
    upper, lower = np.array(MESH_LIP_PAIRS[:MIDDLE_LIP_PAIRS]).T
    offset = video_capture.landmarks[:, upper] - video_capture.landmarks[:, lower]
    distance = np.linalg.norm(offset, axis=2).mean(1) / capture.scale
    person = Person(face, capture.identity)
    opening = face.lip_opening(person.vertices(capture.shapes) - person.neutral)
    touching = capture.seen & (distance <= TOUCHING_LIPS_MM)
    if not touching.any():
        return float("nan")
    return float((opening[touching] <= TOUCHING_LIPS_MM).mean())


if __name__ == "__main__":
    main()
