"""Readers of landmarks and curves: OpenFace, dlib and iBUG, MediaPipe, Live Link Face."""

from __future__ import annotations

import csv
import io
import math
import os
import re
from array import array
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import IO, Any

import numpy as np

from ..errors import InputError
from ..face.canonical import ARKIT_NAMES
from ..files.arrays import max_loaded_bytes, read_npy, read_npz
from ..files.json_stream import JsonReader
from ..files.limits import limit
from ..files.reading import format_bytes, open_file, printable, reading_errors
from ..formats.live_link import LIVE_LINK_NAMES
from .landmarks import check_spread

LANDMARK_ENDINGS = (".npy", ".npz", ".csv", ".json")
LANDMARK_FILE = "a file of landmarks"
ANIMATION_ARRAYS = {"vertices", "faces", "fps"}  # of an npz that `animate` writes
LANDMARK_HINT = (
    "give 68 points or MediaPipe's 478 a frame (npy, npz, csv, json), OpenFace's csv or Live Link "
    "Face's"
)
MAX_LANDMARK_TEXT_BYTES = limit("MAX_LANDMARK_TEXT_BYTES", 1 << 30)  # of a csv or json
MAX_LANDMARK_BYTES = limit("MAX_LANDMARK_BYTES", 1 << 30)  # in memory; an hour of meshes at 60 fps
MAX_LANDMARK_ROWS = limit("MAX_LANDMARK_ROWS", 1_000_000)  # longer csv files are refused
MAX_LANDMARK_LINE = 1 << 20  # characters of a line of a csv
MESH_SIZES = (468, 478)  # landmarks of MediaPipe's mesh, without and with irises
POINT_COUNTS = (68, *MESH_SIZES)
# MediaPipe's landmarks whose coordinates all stay below this are fractions of the image's sides.
MAX_NORMALISED_COORDINATE = 4.0
TIMECODE = re.compile(r"(\d{1,6}):(\d{1,6}):(\d{1,6}):\d+(?:\.\d+)?")
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
        named = read_npz(path, LANDMARK_FILE)
        if named.keys() >= ANIMATION_ARRAYS:
            raise InputError(
                f"{printable(path)}: an animation of talkemo, not landmarks or curves",
                "talkemo transfer changes its emotion, talkemo render draws it",
            )
        arrays = list(named.values())
    else:
        with (
            reading_errors(path, LANDMARK_FILE, LANDMARK_HINT),
            open_file(path, LANDMARK_FILE, LANDMARK_HINT, MAX_LANDMARK_TEXT_BYTES) as file,
        ):
            content = _read_json(file) if ending == ".json" else _read_csv(file)
        if isinstance(content, Curves):
            return content
        recordings = [as_landmarks(array, path.name, image_size) for array in content.recordings]
        return LandmarkFile(recordings, content.fps)
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
        pixels = array[..., :2].astype(np.float32, copy=False)
    if is_mesh and image_size is not None:
        return pixels * np.array(image_size, np.float32)
    finite = np.isfinite(pixels)
    largest = max(pixels.max(initial=0, where=finite), -pixels.min(initial=0, where=finite))
    if is_mesh and finite.any() and largest < MAX_NORMALISED_COORDINATE:
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


class _Frames:
    """Collects landmarks in one array, up to the memory that a file of `file_bytes` may take."""

    def __init__(self, file_bytes: int):
        self._max_bytes = min(MAX_LANDMARK_BYTES, max_loaded_bytes(file_bytes))
        self._values = array("f")
        self._points = 0  # per frame; 0 until the first frame with a face
        self._missing_first = 0  # frames before the first one with a face

    def add(self, landmarks: np.ndarray | None) -> None:
        """Add a frame's landmarks (P, 2), None for one without a face. Raises ValueError."""
        if landmarks is None:
            if not self._points:
                self._missing_first += 1
                self._check(self._missing_first * 2 * min(POINT_COUNTS))
                return
            landmarks = np.full((self._points, 2), np.nan)
        elif not self._points:
            self._points = len(landmarks)
            if self._points not in POINT_COUNTS:
                raise ValueError(f"frames of {self._points} points")
            self._check(self._missing_first * landmarks.size)
            self._values.extend([math.nan] * (self._missing_first * landmarks.size))
        if landmarks.shape != (self._points, 2):
            raise ValueError(f"frames of {self._points} and of {len(landmarks)} points")
        self._check(len(self._values) + landmarks.size)
        self._values.frombytes(np.ascontiguousarray(landmarks, np.float32).tobytes())

    def _check(self, values: int) -> None:
        if 4 * values > self._max_bytes:
            raise ValueError(f"its landmarks take more than {format_bytes(self._max_bytes)}")

    def landmarks(self) -> np.ndarray:
        """Return the landmarks (T, P, 2) float32, NaN in frames without a face."""
        if not self._points:
            raise ValueError("no frame has a face")
        return np.frombuffer(self._values, np.float32).reshape(-1, self._points, 2)


def _read_json(file: IO[bytes]) -> LandmarkFile:
    """Read MediaPipe's results, frame by frame.

    They are a list of frames, each a list of points with x and y. Frames may also be results with
    `faceLandmarks` or `face_landmarks`, a list of faces; the first one is taken.
    """
    frames = _Frames(os.fstat(file.fileno()).st_size)
    reader = JsonReader(file)
    if reader.peek() == "[":
        for frame in reader.items():
            frames.add(_json_frame(frame))
    else:
        for name in reader.names():
            if name != "frames":
                reader.value()  # settings, which are not needed
                continue
            for frame in reader.items():
                frames.add(_json_frame(frame))
    reader.end()
    return LandmarkFile([frames.landmarks()])


def _json_frame(frame: Any) -> np.ndarray | None:
    """Return the landmarks (P, 2) of a frame of MediaPipe's results, None without a face."""
    if isinstance(frame, dict):
        faces = frame.get("faceLandmarks", frame.get("face_landmarks", frame.get("landmarks")))
        frame = faces[0] if faces and isinstance(faces[0], list) else faces
    if not frame:
        return None
    if isinstance(frame[0], dict):
        return np.array([[float(point["x"]), float(point["y"])] for point in frame])
    return np.array(frame, float)[:, :2]


def _read_csv(file: IO[bytes]) -> LandmarkFile | Curves:
    """Read OpenFace's csv, Live Link Face's, or rows of 68 points, x and y alternating."""
    file_bytes = os.fstat(file.fileno()).st_size
    rows = _csv_rows(file)
    first = next(rows, None)
    if first is None:
        raise ValueError("0 rows")
    names = [name.strip() for name in first]
    if "x_0" in names and "y_67" in names:
        return _read_openface(names, rows, file_bytes)
    if "BlendShapeCount" in names:
        return _read_live_link(names, rows)
    frames = _Frames(file_bytes)
    for row in chain([first], rows) if _is_number(names[-1]) else rows:
        if len(row) != 136:
            raise ValueError(f"rows of {len(row)} numbers")
        frames.add(np.array(list(map(float, row))).reshape(-1, 2))
    return LandmarkFile([frames.landmarks()])


def _csv_rows(file: IO[bytes]) -> Iterator[list[str]]:
    """Yield the rows of a csv that are not empty, a line each. Raises ValueError for too many."""
    text = io.TextIOWrapper(file, "utf-8-sig")
    for _ in range(MAX_LANDMARK_ROWS):
        line = text.readline(MAX_LANDMARK_LINE + 1)
        if not line:
            return
        if len(line) > MAX_LANDMARK_LINE:
            raise ValueError(f"a line of more than {MAX_LANDMARK_LINE} characters")
        row = next(csv.reader([line]), [])
        if row:
            yield row
    raise ValueError(f"more than {MAX_LANDMARK_ROWS} rows")


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True


def _read_openface(names: list[str], rows: Iterator[list[str]], file_bytes: int) -> LandmarkFile:
    """Read the first face in OpenFace 2's columns.

    They are frame, timestamp in s, success, x_0 … x_67 and y_0 … y_67 in pixels.
    """
    columns = [names.index(f"{axis}_{k}") for k in range(68) for axis in "xy"]
    face_column = names.index("face_id") if "face_id" in names else None
    success_column = names.index("success") if "success" in names else None
    time_column = names.index("timestamp") if "timestamp" in names else None
    frames, times, first_face = _Frames(file_bytes), array("d"), None
    for row in rows:
        if face_column is not None:
            face = float(row[face_column])
            first_face = face if first_face is None else first_face
            if face != first_face:
                continue
        landmarks = np.array([float(row[column]) for column in columns]).reshape(-1, 2)
        if success_column is not None and float(row[success_column]) < 0.5:
            landmarks[:] = np.nan
        frames.add(landmarks)
        if time_column is not None:
            times.append(float(row[time_column]))
    return LandmarkFile([frames.landmarks()], _fps_of_times(np.array(times)))


def _fps_of_times(times: np.ndarray) -> float | None:
    """Return the frame rate of the median step of times (T,) in s; None if it has none."""
    steps = np.diff(times)
    steps = steps[(steps > 0) & np.isfinite(steps)]
    fps = float(np.round(1 / np.median(steps), 3)) if len(steps) else None
    return fps if fps and math.isfinite(fps) else None


def _read_live_link(names: list[str], rows: Iterator[list[str]]) -> Curves:
    """Read Live Link Face's columns: time code, count, 52 weights, and rotations in radians."""
    wanted = [name[0].upper() + name[1:] for name in LIVE_LINK_NAMES]
    has_head = all(name in names for name in HEAD_ANGLE_COLUMNS)
    wanted += HEAD_ANGLE_COLUMNS if has_head else ()
    columns = [names.index(name) for name in wanted]
    values, seconds = array("d"), array("q")  # seconds of the time codes, -1 for none
    for row in rows:
        values.extend([float(row[column]) for column in columns])
        code = TIMECODE.fullmatch(row[0].strip())
        seconds.append(3600 * int(code[1]) + 60 * int(code[2]) + int(code[3]) if code else -1)
    curves = np.frombuffer(values).reshape(-1, len(columns)) if values else np.zeros((0, 55))
    if not len(curves):
        raise ValueError("it has no rows")
    if not np.isfinite(curves).all():
        raise ValueError("it contains NaN or infinity")
    arkit = np.zeros((len(curves), len(ARKIT_NAMES)))
    arkit[:, [ARKIT_NAMES.index(name) for name in LIVE_LINK_NAMES]] = curves[:, : len(ARKIT_NAMES)]
    head = curves[:, len(ARKIT_NAMES) :] if has_head else np.zeros((len(curves), 3))
    return Curves(arkit.clip(0, 1), head, _timecode_fps(np.array(seconds)))


def _timecode_fps(seconds: np.ndarray) -> float:
    """Return the frame rate from the whole seconds (T,) of time codes HH:MM:SS:FF.mmm.

    Returns DEFAULT_CURVE_FPS if a time code is missing (-1), or the seconds do not increase.
    """
    steps = np.diff(seconds)
    starts = np.flatnonzero(steps) + 1  # frames at which a second begins
    if (seconds < 0).any() or (steps < 0).any() or len(starts) < 2:
        return DEFAULT_CURVE_FPS
    elapsed = seconds[starts[-1]] - seconds[starts[0]]
    return max(float(np.round((starts[-1] - starts[0]) / elapsed)), 1.0)
