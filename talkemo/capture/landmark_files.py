"""Files of landmarks and of weights from elsewhere: OpenFace, dlib and iBUG, MediaPipe, Live Link Face."""

from __future__ import annotations

import csv
import io
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from ..errors import InputError
from ..face.canonical import ARKIT_NAMES
from ..files.arrays import read_npy, read_npz
from ..files.reading import open_file, parse_json, reading_errors
from ..formats.live_link import LIVE_LINK_NAMES

ENDINGS = (".npy", ".npz", ".csv", ".json")
WHAT = "a file of landmarks"
HINT = "give 68 points or MediaPipe's 478 a frame (npy, npz, csv, json), OpenFace's csv or Live Link Face's"
LARGEST_TEXT = 1 << 28  # bytes of a csv or json
MOST_FRAMES = 1_000_000
MESH = (468, 478)  # points of MediaPipe's mesh, without and with irises
NORMALISED = (
    4.0  # largest absolute coordinate of points that are given in shares of a picture's sides
)
TIME_CODE = re.compile(r"(\d+):(\d+):(\d+):(\d+)(?:\.(\d+))?")
HEAD = ("HeadYaw", "HeadPitch", "HeadRoll")


@dataclass(frozen=True, eq=False)
class LandmarkFile:
    """What a file holds.

    recordings: (T, P, 2) px each, y down, NaN in frames without a face; of 68 iBUG points or MediaPipe's mesh
    fps: frames a second, None where the file does not say
    """

    recordings: list[np.ndarray]
    fps: float | None = None


@dataclass(frozen=True, eq=False)
class Curves:
    """Weights of a recording: arkit (T, 52) in [0, 1]; head (T, 3) yaw, pitch, roll in radians; frames a second."""

    arkit: np.ndarray
    head: np.ndarray
    fps: float


def read_landmark_file(path: Path, picture: tuple[int, int] | None = None) -> LandmarkFile | Curves:
    """The landmarks, or the weights, of a file.

    picture: width and height in pixels, for points that are given in shares of them, as MediaPipe does
    Raises InputError for a file that is neither.
    """
    ending = path.suffix.lower()
    if ending == ".npy":
        return LandmarkFile([as_points(read_npy(path, WHAT, HINT), path.name, picture)])
    if ending == ".csv":
        return _read_csv(path, picture)
    if ending == ".json":
        with reading_errors(path, WHAT, HINT):
            frames = _json_frames(parse_json(_text(path)))
        return LandmarkFile([as_points(frames, path.name, picture)])
    arrays = read_npz(path, WHAT)
    return LandmarkFile([as_points(array, path.name, picture) for array in arrays.values()])


def as_points(array: np.ndarray, name: str, picture: tuple[int, int] | None = None) -> np.ndarray:
    """Landmarks (T, P, 2) float32 px, from (T, P, 2), (T, P, 3) or (T, P·2). Raises InputError where they are none."""
    if array.dtype.kind not in "iuf":
        raise InputError(f"{name}: its arrays do not hold numbers", HINT)
    if array.ndim == 2 and array.shape[1] == 136:
        array = array.reshape(len(array), 68, 2)
    points = array.shape[1] if array.ndim == 3 else 0
    if not (
        (points == 68 and array.shape[2] == 2) or (points in MESH and array.shape[2] in (2, 3))
    ) or not len(array):
        raise InputError(f"{name}: its array is {array.shape}", HINT)
    with np.errstate(
        over="ignore", invalid="ignore"
    ):  # what becomes infinity or NaN is no frame with a face
        pixels = array[..., :2].astype(np.float32)
    if points in MESH:
        known = pixels[np.isfinite(pixels)]
        if picture is not None:
            pixels = pixels * np.array(picture, np.float32)
        elif len(known) and np.abs(known).max() < NORMALISED:
            raise InputError(
                f"{name}: its points are shares of a picture's sides, not pixels",
                "say how large it is: --picture 1280x720",
            )
    return pixels


def _text(path: Path) -> str:
    """The content of a text file."""
    with open_file(path, WHAT, HINT) as file:
        content = file.read(LARGEST_TEXT + 1)
    if len(content) > LARGEST_TEXT:
        raise ValueError(f"it is larger than {LARGEST_TEXT >> 20} MiB")
    return content.decode("utf-8-sig")


def _json_frames(value: Any) -> np.ndarray:
    """Points (T, P, 3) of MediaPipe's results as JSON: a list of frames, each a list of points with x and y.

    Frames may be results with `faceLandmarks` or `face_landmarks`, a list of faces of which the first is taken. Frames
    without a face are NaN.
    """
    frames = value if isinstance(value, list) else value["frames"]
    found: list[np.ndarray | None] = []
    for frame in frames:
        if isinstance(frame, dict):
            faces = frame.get("faceLandmarks", frame.get("face_landmarks", frame.get("landmarks")))
            frame = faces[0] if faces and isinstance(faces[0], list) else faces
        if not frame:
            found.append(None)
        elif isinstance(frame[0], dict):
            found.append(np.array([[float(p["x"]), float(p["y"])] for p in frame]))
        else:
            found.append(np.array(frame, float)[:, :2])
    shapes = {one.shape for one in found if one is not None}
    if len(shapes) != 1:
        raise ValueError(f"{len(shapes)} kinds of frames")
    nothing = np.full(shapes.pop(), np.nan)
    return np.stack([nothing if one is None else one for one in found])


def _read_csv(path: Path, picture: tuple[int, int] | None) -> LandmarkFile | Curves:
    """A csv of OpenFace's, of Live Link Face's, or of 68 points a row, x and y in turns."""
    with reading_errors(path, WHAT, HINT):
        rows = [row for row in csv.reader(io.StringIO(_text(path))) if row]
        if not 0 < len(rows) <= MOST_FRAMES:
            raise ValueError(f"{len(rows)} rows")
        names = [name.strip() for name in rows[0]]
        if "x_0" in names and "y_67" in names:
            return _openface(names, rows[1:])
        if "BlendShapeCount" in names:
            return _live_link(names, rows[1:])
        rows = rows[1:] if not _is_number(names[-1]) else rows
        points = np.array(rows, float)
    return LandmarkFile([as_points(points, path.name, picture)])


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True


def _openface(names: list[str], rows: list[list[str]]) -> LandmarkFile:
    """OpenFace 2's columns: frame, timestamp in s, success, x_0 … x_67, y_0 … y_67 in pixels, of the first face."""
    if "face_id" in names:
        rows = [
            row
            for row in rows
            if float(row[names.index("face_id")]) == float(rows[0][names.index("face_id")])
        ]
    columns = [[names.index(f"{axis}_{k}") for axis in "xy"] for k in range(68)]
    points = np.array([[[float(row[c]) for c in pair] for pair in columns] for row in rows])
    if "success" in names:
        points[[float(row[names.index("success")]) < 0.5 for row in rows]] = np.nan
    fps = None
    if "timestamp" in names and len(rows) > 1:
        steps = np.diff([float(row[names.index("timestamp")]) for row in rows])
        fps = float(np.round(1 / np.median(steps[steps > 0]), 3)) if (steps > 0).any() else None
    return LandmarkFile([points.astype(np.float32)], fps)


def _live_link(names: list[str], rows: list[list[str]]) -> Curves:
    """Live Link Face's columns: time code, count, 52 weights, and rotations in radians."""
    places = [names.index(name[0].upper() + name[1:]) for name in LIVE_LINK_NAMES]
    found = np.array([[float(row[place]) for place in places] for row in rows])
    arkit = np.zeros((len(rows), len(ARKIT_NAMES)))
    arkit[:, [ARKIT_NAMES.index(name) for name in LIVE_LINK_NAMES]] = found
    head = np.zeros((len(rows), 3))
    if all(name in names for name in HEAD):
        head = np.array([[float(row[names.index(name)]) for name in HEAD] for row in rows])
    if not (np.isfinite(arkit).all() and np.isfinite(head).all()):
        raise ValueError("it contains NaN or infinity")
    return Curves(arkit.clip(0, 1), head, _rate([row[0] for row in rows]))


def _rate(codes: list[str]) -> float:
    """Frames a second of time codes HH:MM:SS:FF.mmm; 60 where they do not say."""
    places = [match.groups() for code in codes if (match := TIME_CODE.fullmatch(code.strip()))]
    seconds = [3600 * int(h) + 60 * int(m) + int(s) for h, m, s, *_ in places]
    if len(places) < len(codes) or len(seconds) < 2 or seconds[-1] <= seconds[0]:
        return 60.0
    count = [k for k, s in enumerate(seconds) if k and s != seconds[k - 1]]  # where a second begins
    return (
        float(np.round((count[-1] - count[0]) / (seconds[count[-1]] - seconds[count[0]])))
        if len(count) > 1
        else 60.0
    )


def points_of(recording: np.ndarray) -> np.ndarray | None:
    """Ids of MediaPipe's mesh that a recording (T, P, 2) has, None for the 68 iBUG points."""
    return None if recording.shape[1] == 68 else np.arange(recording.shape[1])
