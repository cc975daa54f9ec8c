"""Readers of landmarks and curves: OpenFace, dlib and iBUG, MediaPipe, Live Link Face."""

from __future__ import annotations

import csv
import io
import re
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from ..errors import InputError
from ..face.canonical import ARKIT_NAMES
from ..files.arrays import read_npy, read_npz
from ..files.reading import parse_json, read_bytes, reading_errors
from ..formats.live_link import LIVE_LINK_NAMES
from .landmarks import check_spread

LANDMARK_ENDINGS = (".npy", ".npz", ".csv", ".json")
LANDMARK_FILE = "a file of landmarks"
LANDMARK_HINT = (
    "give 68 points or MediaPipe's 478 a frame (npy, npz, csv, json), OpenFace's csv or Live Link "
    "Face's"
)
MAX_LANDMARK_TEXT_BYTES = 1 << 28  # larger csv and json files are refused
MAX_LANDMARK_ROWS = 1_000_000  # longer csv files are refused
MESH_SIZES = (468, 478)  # landmarks of MediaPipe's mesh, without and with irises
# MediaPipe's landmarks whose coordinates all stay below this are fractions of the image's sides.
MAX_NORMALISED_COORDINATE = 4.0
TIMECODE = re.compile(r"(\d+):(\d+):(\d+):(\d+)(?:\.(\d+))?")
DEFAULT_CURVE_FPS = 60.0  # of curves whose time codes do not state a frame rate
HEAD_ANGLE_COLUMNS = ("HeadYaw", "HeadPitch", "HeadRoll")


@dataclass(frozen=True, eq=False)
class LandmarkFile:
    """Landmarks of one person."""

    # Each (T, P, 2) px, y down, NaN in frames without a face; 68 of iBUG or MediaPipe's mesh.
    recordings: list[np.ndarray]
    fps: float | None = None  # None if the file does not say


@dataclass(frozen=True, eq=False)
class Curves:
    """Animation curves of one person."""

    arkit: np.ndarray  # (T, 52) blend-shape weights in [0, 1], as ARKIT_NAMES
    head: np.ndarray  # (T, 3) yaw, pitch and roll in radians
    fps: float


def read_landmark_file(
    path: Path, image_size: tuple[int, int] | None = None
) -> LandmarkFile | Curves:
    """Read landmarks or curves.

    Parameters
    ----------
    path : Path
        A file with one of LANDMARK_ENDINGS.
    image_size : (int, int), optional
        Width and height in pixels, for landmarks that are fractions of them, as MediaPipe's are.

    Raises
    ------
    InputError
        For a file that is neither.
    """
    ending = path.suffix.lower()
    if ending == ".npy":
        arrays = [read_npy(path, LANDMARK_FILE, LANDMARK_HINT)]
    elif ending == ".npz":
        arrays = list(read_npz(path, LANDMARK_FILE).values())
    else:
        with reading_errors(path, LANDMARK_FILE, LANDMARK_HINT):
            content = read_bytes(path, LANDMARK_FILE, LANDMARK_HINT, MAX_LANDMARK_TEXT_BYTES)
            text = content.decode("utf-8-sig")
            parsed = _parse_json(text) if ending == ".json" else _parse_csv(text)
        if not isinstance(parsed, np.ndarray):
            return parsed
        arrays = [parsed]
    return LandmarkFile([as_landmarks(array, path.name, image_size) for array in arrays])


def as_landmarks(
    array: np.ndarray, name: str, image_size: tuple[int, int] | None = None
) -> np.ndarray:
    """Return landmarks (T, P, 2) float32 px from (T, P, 2), (T, P, 3) or (T, P·2).

    `name` is for messages; `image_size` is as in `read_landmark_file`. Raises InputError for
    other arrays.
    """
    if array.dtype.kind not in "iuf":
        raise InputError(f"{name}: its arrays do not hold numbers", LANDMARK_HINT)
    if array.ndim == 2 and array.shape[1] == 136:
        array = array.reshape(len(array), 68, 2)
    count, dimensions = array.shape[1:] if array.ndim == 3 else (0, 0)
    is_ibug = count == 68 and dimensions == 2
    is_mesh = count in MESH_SIZES and dimensions in (2, 3)
    if not (is_ibug or is_mesh) or not len(array):
        raise InputError(f"{name}: its array is {array.shape}", LANDMARK_HINT)
    # Values that become infinity or NaN mark frames without a face.
    with np.errstate(over="ignore", invalid="ignore"):
        pixels = array[..., :2].astype(np.float32)
    if is_mesh and image_size is not None:
        return pixels * np.array(image_size, np.float32)
    largest = np.abs(pixels).max(initial=0, where=np.isfinite(pixels))
    if is_mesh and np.isfinite(pixels).any() and largest < MAX_NORMALISED_COORDINATE:
        raise InputError(
            f"{name}: its points are fractions of the image's sides, not pixels",
            "give the image's size: --image-size 1280x720",
        )
    return pixels


def check_recordings(recordings: list[np.ndarray], name: str) -> None:
    """Raise InputError unless recordings are landmarks of a face, all of one kind."""
    if not recordings or len({landmarks.shape[1] for landmarks in recordings}) > 1:
        shapes = [landmarks.shape for landmarks in recordings][:3]
        raise InputError(f"{name}: its arrays are {shapes}", LANDMARK_HINT)
    if not all(np.isfinite(landmarks).all((1, 2)).any() for landmarks in recordings):
        raise InputError(f"{name}: a recording in which no frame has a face", "leave it out")
    check_spread(recordings, name)


def _parse_json(text: str) -> np.ndarray:
    """Return the landmarks (T, P, 2 or 3) of MediaPipe's results, NaN in frames without a face.

    They are a list of frames, each a list of points with x and y. Frames may also be results with
    `faceLandmarks` or `face_landmarks`, a list of faces; the first one is taken.
    """
    value = parse_json(text)
    frames = value if isinstance(value, list) else value["frames"]
    points: list[np.ndarray | None] = []
    for frame in frames:
        if isinstance(frame, dict):
            faces = frame.get("faceLandmarks", frame.get("face_landmarks", frame.get("landmarks")))
            frame = faces[0] if faces and isinstance(faces[0], list) else faces
        if not frame:
            points.append(None)
        elif isinstance(frame[0], dict):
            points.append(np.array([[float(p["x"]), float(p["y"])] for p in frame]))
        else:
            points.append(np.array(frame, float)[:, :2])
    shapes = {array.shape for array in points if array is not None}
    if len(shapes) != 1:
        raise ValueError(f"{len(shapes)} kinds of frames")
    missing = np.full(shapes.pop(), np.nan)
    return np.stack([missing if array is None else array for array in points])


def _parse_csv(text: str) -> LandmarkFile | Curves | np.ndarray:
    """Parse OpenFace's csv, Live Link Face's, or rows of 68 points, x and y in turns."""
    rows = [row for row in csv.reader(io.StringIO(text)) if row]
    if not 0 < len(rows) <= MAX_LANDMARK_ROWS:
        raise ValueError(f"{len(rows)} rows")
    names = [name.strip() for name in rows[0]]
    if "x_0" in names and "y_67" in names:
        return _parse_openface(names, rows[1:])
    if "BlendShapeCount" in names:
        return _parse_live_link(names, rows[1:])
    return np.array(rows if _is_number(names[-1]) else rows[1:], float)


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True


def _columns(names: list[str], rows: list[list[str]], wanted: list[str]) -> np.ndarray:
    """Return the wanted columns as numbers, (rows, columns)."""
    indices = [names.index(name) for name in wanted]
    return np.array([[float(row[index]) for index in indices] for row in rows])


def _parse_openface(names: list[str], rows: list[list[str]]) -> LandmarkFile:
    """Parse the first face in OpenFace 2's columns.

    They are frame, timestamp in s, success, x_0 … x_67 and y_0 … y_67 in pixels.
    """
    if "face_id" in names:
        column = names.index("face_id")
        rows = [row for row in rows if float(row[column]) == float(rows[0][column])]
    coordinates = [f"{axis}_{k}" for k in range(68) for axis in "xy"]
    landmarks = _columns(names, rows, coordinates).reshape(-1, 68, 2)
    if "success" in names:
        landmarks[_columns(names, rows, ["success"])[:, 0] < 0.5] = np.nan
    fps = None
    if "timestamp" in names and len(rows) > 1:
        steps = np.diff(_columns(names, rows, ["timestamp"])[:, 0])
        if (steps > 0).any():
            fps = float(np.round(1 / np.median(steps[steps > 0]), 3))
    return LandmarkFile([landmarks.astype(np.float32)], fps)


def _parse_live_link(names: list[str], rows: list[list[str]]) -> Curves:
    """Parse Live Link Face's columns: time code, count, 52 weights, and rotations in radians."""
    columns = [name[0].upper() + name[1:] for name in LIVE_LINK_NAMES]
    arkit = np.zeros((len(rows), len(ARKIT_NAMES)))
    arkit[:, [ARKIT_NAMES.index(name) for name in LIVE_LINK_NAMES]] = _columns(names, rows, columns)
    head = np.zeros((len(rows), 3))
    if all(name in names for name in HEAD_ANGLE_COLUMNS):
        head = _columns(names, rows, list(HEAD_ANGLE_COLUMNS))
    if not (np.isfinite(arkit).all() and np.isfinite(head).all()):
        raise ValueError("it contains NaN or infinity")
    return Curves(arkit.clip(0, 1), head, _timecode_fps([row[0] for row in rows]))


def _timecode_fps(codes: list[str]) -> float:
    """Return the frame rate of time codes HH:MM:SS:FF.mmm, DEFAULT_CURVE_FPS if they lack one."""
    matches = [TIMECODE.fullmatch(code.strip()) for code in codes]
    seconds = [3600 * int(m[1]) + 60 * int(m[2]) + int(m[3]) for m in matches if m]
    if len(seconds) < len(codes) or len(seconds) < 2 or seconds[-1] <= seconds[0]:
        return DEFAULT_CURVE_FPS
    starts = np.flatnonzero(np.diff(seconds)) + 1  # frames at which a second begins
    if len(starts) < 2:
        return DEFAULT_CURVE_FPS
    elapsed = seconds[starts[-1]] - seconds[starts[0]]
    return float(np.round((starts[-1] - starts[0]) / elapsed))
