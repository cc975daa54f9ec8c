"""Landmark tracking: MediaPipe's Face Landmarker bundle, run on LiteRT (package ai-edge-litert).

The bundle (.task) is a zip of three networks: BlazeFace's short-range detector (128 × 128 pixels →
896 boxes with six key points), the face mesh (an upright crop of 256 × 256 pixels → 478 landmarks
and the likelihood of a face), and a network from 146 of the landmarks to 52 scores. They are
combined as MediaPipe does for video: the detector's box gives a crop, the landmarks in it a better
crop, and the landmarks in that one are the result; they also give the crop of the next frame, as
long as it contains a face. Neither a display nor OpenGL is needed.
"""

from __future__ import annotations

import tempfile
import zipfile
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from ..errors import InputError, TalkemoError
from ..extras import install_command
from ..files.reading import quiet_stderr
from .landmarker_bundle import LANDMARKER_FILE, find_landmarker

# Names of the scores, in the order of the network's output: ARKit's blend shapes.
SCORE_NAMES = (
    "_neutral browDownLeft browDownRight browInnerUp browOuterUpLeft browOuterUpRight cheekPuff "
    "cheekSquintLeft cheekSquintRight eyeBlinkLeft eyeBlinkRight eyeLookDownLeft eyeLookDownRight "
    "eyeLookInLeft eyeLookInRight eyeLookOutLeft eyeLookOutRight eyeLookUpLeft eyeLookUpRight "
    "eyeSquintLeft eyeSquintRight eyeWideLeft eyeWideRight jawForward jawLeft jawOpen jawRight "
    "mouthClose mouthDimpleLeft mouthDimpleRight mouthFrownLeft mouthFrownRight mouthFunnel "
    "mouthLeft mouthLowerDownLeft mouthLowerDownRight mouthPressLeft mouthPressRight mouthPucker "
    "mouthRight mouthRollLower mouthRollUpper mouthShrugLower mouthShrugUpper mouthSmileLeft "
    "mouthSmileRight mouthStretchLeft mouthStretchRight mouthUpperUpLeft mouthUpperUpRight "
    "noseSneerLeft noseSneerRight"
).split()

# Ids of the landmarks from which the scores are computed.
SCORED_POINTS = np.array(
    (
        "0 1 4 5 6 7 8 10 13 14 17 21 33 37 39 40 46 52 53 54 55 58 61 63 65 66 67 70 78 80 81 "
        "82 84 87 88 91 93 95 103 105 107 109 127 132 133 136 144 145 146 148 149 150 152 153 "
        "154 155 157 158 159 160 161 162 163 168 172 173 176 178 181 185 191 195 197 234 246 "
        "249 251 263 267 269 270 276 282 283 284 285 288 291 293 295 296 297 300 308 310 311 "
        "312 314 317 318 321 323 324 332 334 336 338 356 361 362 365 373 374 375 377 378 379 "
        "380 381 382 384 385 386 387 388 389 390 397 398 400 402 405 409 415 454 466 468 469 "
        "470 471 472 473 474 475 476 477"
    ).split(),
    int,
)
MESH_LANDMARKS = 478  # landmarks of a face
MAX_NETWORK_BYTES = 1 << 25  # larger files in the bundle are refused
EYE_CORNERS = (33, 263)  # ids of the outer corners; the one on the image's left first
DETECTOR_SIDE_PX, MESH_SIDE_PX = 128, 256  # input sizes of the networks
ANCHOR_GRIDS = ((8, 2), (16, 6))  # px between the detector's anchors, and anchors per position
CROP_MARGIN = 1.5  # side of a crop relative to the face's box
MIN_FACE_SCORE = 0.5  # detections and crops with lower scores contain no face
LOST_FACE_FRAMES = 30  # a face lost for longer is searched in the whole image again
MIN_SAME_FACE_IOU = 0.3  # detections that overlap more are one face


@dataclass(frozen=True)
class Crop:
    """A square region of an image."""

    centre: np.ndarray  # column and row, px
    side: float  # px
    angle: float  # rotation in radians, clockwise

    def to_image(self, points: np.ndarray) -> np.ndarray:
        """Map points (..., 2), as fractions of the crop's sides, to the image's pixels."""
        c, s = np.cos(self.angle), np.sin(self.angle)
        return self.centre + self.side * ((points - 0.5) @ np.array([[c, s], [-s, c]]))

    def cut(self, image: np.ndarray, size: int) -> np.ndarray:
        """Sample the crop as (size, size, 3) float32, bilinearly, black outside the image.

        `image` is (H, W, 3).
        """
        steps = (np.arange(size) + 0.5) / size
        pixels = self.to_image(np.stack(np.meshgrid(steps, steps), axis=2)) - 0.5
        pixels = pixels.astype(np.float32)
        low = np.floor(pixels).astype(np.int32)
        fraction = pixels - low
        result = np.zeros((size, size, 3), np.float32)
        height, width = image.shape[:2]
        for down in (0, 1):
            for right in (0, 1):
                column, row = low[..., 0] + right, low[..., 1] + down
                weight = np.abs(1 - right - fraction[..., 0]) * np.abs(1 - down - fraction[..., 1])
                weight[(column < 0) | (row < 0) | (column >= width) | (row >= height)] = 0
                colours = image[row.clip(0, height - 1), column.clip(0, width - 1)]
                result += weight[..., None] * colours
        return result


@dataclass(frozen=True)
class TrackedLandmarks:
    """One face in one frame."""

    landmarks: np.ndarray  # (478, 3): column, row and depth, px
    scores: np.ndarray  # (52,) in [0, 1], as SCORE_NAMES
    face_count: int = 1  # faces in the frame in which this one was detected


class LandmarkTrackerProtocol(Protocol):
    """The interface of landmark trackers for `capture_video`; `LandmarkTracker` implements it."""

    def follow(
        self, frames: Iterable[np.ndarray], face_number: int
    ) -> Iterator[TrackedLandmarks | None]:
        """Yield the landmarks of the same face in every frame, None where it is not found.

        Parameters
        ----------
        frames : iterable of (H, W, 3) uint8
            Consecutive frames of a video.
        face_number : int
            Number of the face to track: 1 for the largest in the first frame with that many faces.
        """
        ...


class LandmarkTracker:
    """MediaPipe's Face Landmarker: finds a face in frames and scores its expression.

    Parameters
    ----------
    path : str or Path, optional
        The Face Landmarker bundle; by default that of `find_landmarker`.

    Raises
    ------
    TalkemoError
        If the bundle or LiteRT is not installed.
    InputError
        If the file is not the bundle.
    """

    def __init__(self, path: str | Path | None = None):
        try:
            from ai_edge_litert.interpreter import Interpreter
        except ImportError:
            raise TalkemoError(
                "videos need a face detector: no ai-edge-litert", install_command("video")
            ) from None
        path = find_landmarker() if path is None else Path(path)
        networks: list[Any] = []
        try:
            with (
                zipfile.ZipFile(path) as bundle,
                tempfile.TemporaryDirectory() as folder,
                quiet_stderr(),
            ):
                for name in ("face_detector", "face_landmarks_detector", "face_blendshapes"):
                    if bundle.getinfo(f"{name}.tflite").file_size > MAX_NETWORK_BYTES:
                        raise ValueError(f"its {name} is too large")
                    file = bundle.extract(f"{name}.tflite", folder)
                    networks.append(Interpreter(model_path=file, num_threads=1))
                    networks[-1].allocate_tensors()
        except (OSError, zipfile.BadZipFile, KeyError, ValueError, RuntimeError) as error:
            raise InputError(
                f"{path}: not MediaPipe's Face Landmarker ({error})",
                f"it is called {LANDMARKER_FILE}",
            ) from None
        self.detector, self.mesh, self.scorer = networks
        self.anchors = _anchors()

    def follow(
        self, frames: Iterable[np.ndarray], face_number: int = 1
    ) -> Iterator[TrackedLandmarks | None]:
        """Yield the landmarks of the same face in every frame, see `LandmarkTrackerProtocol`."""
        crop: Crop | None = None  # in the last frame, if the face was found there
        # Last crop of the face, if there are others that it could be confused with.
        last_crop: Crop | None = None
        lost_frames = 0
        last_frame: np.ndarray | None = None
        face: TrackedLandmarks | None = None
        for frame in frames:
            if frame is last_frame:  # repeated until the video's next frame
                yield face
                continue
            last_frame = frame
            face = None if crop is None else self._track_in(frame, crop)
            if face is None:
                crops = self.detect(frame)
                if last_crop is not None and lost_frames < LOST_FACE_FRAMES:
                    crops = [c for c in crops if _is_near(c, last_crop)][:1]
                elif len(crops) < face_number:
                    crops = []
                else:
                    crops.insert(0, crops.pop(face_number - 1))
                face = self._track_first(frame, crops)
            if face is None:
                crop, lost_frames = None, lost_frames + 1
            else:
                crop, lost_frames = crop_of_landmarks(face.landmarks), 0
                if last_crop is not None or face.face_count > 1:
                    last_crop = crop
            yield face

    def track(self, image: np.ndarray) -> TrackedLandmarks | None:
        """Return the landmarks of the largest face in an image (H, W, 3), None if there is none."""
        return self._track_first(image, self.detect(image))

    def _track_first(self, image: np.ndarray, crops: list[Crop]) -> TrackedLandmarks | None:
        """Return the face in the first of the detector's crops, refined by its own landmarks."""
        if not crops:
            return None
        landmarks, _ = self.find_landmarks(image, crops[0])
        face = self._track_in(image, crop_of_landmarks(landmarks))
        return None if face is None else replace(face, face_count=len(crops))

    def _track_in(self, image: np.ndarray, crop: Crop) -> TrackedLandmarks | None:
        landmarks, presence = self.find_landmarks(image, crop)
        if presence <= MIN_FACE_SCORE:
            return None
        return TrackedLandmarks(landmarks, self.score(landmarks))

    def detect(self, image: np.ndarray) -> list[Crop]:
        """Return crops around the faces in an image (H, W, 3), the largest first, eyes level."""
        height, width = image.shape[:2]
        whole = Crop(np.array([width / 2, height / 2]), max(width, height), 0.0)
        detector_input = whole.cut(image, DETECTOR_SIDE_PX) / 127.5 - 1
        boxes, scores = _run(self.detector, detector_input, "regressors", "classificators")
        scores = _sigmoid(scores[0, :, 0])
        # Each box has 8 rows: its centre, its size, and six key points.
        boxes = boxes[0].reshape(-1, 8, 2) / DETECTOR_SIDE_PX
        boxes[:, [0, *range(2, 8)]] += self.anchors[:, None]
        likely = scores >= MIN_FACE_SCORE
        crops = []
        while likely.any():
            best = int(np.where(likely, scores, 0).argmax())
            same = likely & (_overlaps(boxes, boxes[best]) > MIN_SAME_FACE_IOU)
            same[best] = True
            box = np.average(boxes[same], axis=0, weights=scores[same])
            centre, right_eye, left_eye = whole.to_image(box[[0, 2, 3]])
            side = CROP_MARGIN * whole.side * float(box[1].max())
            crops.append(Crop(centre, side, _angle(right_eye, left_eye)))
            likely &= ~same
        return sorted(crops, key=lambda crop: -crop.side)

    def find_landmarks(self, image: np.ndarray, crop: Crop) -> tuple[np.ndarray, float]:
        """Return the landmarks (478, 3) px of the face in a crop, and how likely there is one."""
        mesh_input = crop.cut(image, MESH_SIDE_PX) / 255
        points, presence = _run(self.mesh, mesh_input, "Identity", "Identity_1")
        points = points.reshape(-1, 3) / MESH_SIDE_PX
        landmarks = np.column_stack([crop.to_image(points[:, :2]), points[:, 2] * crop.side])
        return landmarks, float(_sigmoid(presence.ravel()[0]))

    def score(self, landmarks: np.ndarray) -> np.ndarray:
        """Return the scores (52,) in [0, 1] of landmarks (478, 2 or more) px."""
        return _run(self.scorer, landmarks[SCORED_POINTS, :2])[0].ravel()


def crop_of_landmarks(landmarks: np.ndarray) -> Crop:
    """Return the crop around landmarks (478, 2 or more), rotated so that the eyes are level."""
    low, high = landmarks[:, :2].min(0), landmarks[:, :2].max(0)
    right, left = landmarks[EYE_CORNERS, :2]
    return Crop((low + high) / 2, CROP_MARGIN * float((high - low).max()), _angle(right, left))


def _run(network: Any, values: np.ndarray, *names: str) -> list[np.ndarray]:
    """Return a network's outputs of these names, or all, for one input without batch axis."""
    network.set_tensor(network.get_input_details()[0]["index"], values[None].astype(np.float32))
    network.invoke()
    outputs = {output["name"]: output["index"] for output in network.get_output_details()}
    return [network.get_tensor(outputs[name]) for name in names or outputs]


def _anchors() -> np.ndarray:
    """Return the origins (896, 2) of the detector's boxes, as fractions of the image's sides."""
    grids = []
    for stride, count in ANCHOR_GRIDS:
        steps = (np.arange(DETECTOR_SIDE_PX // stride) + 0.5) * stride / DETECTOR_SIDE_PX
        grid = np.stack(np.meshgrid(steps, steps), axis=2)
        grids.append(grid.reshape(-1, 2).repeat(count, axis=0))
    return np.concatenate(grids)


def _overlaps(boxes: np.ndarray, box: np.ndarray) -> np.ndarray:
    """Return the intersection over union (D,) of boxes (D, 8, 2) and one box (8, 2)."""
    low = np.maximum(boxes[:, 0] - boxes[:, 1] / 2, box[0] - box[1] / 2)
    high = np.minimum(boxes[:, 0] + boxes[:, 1] / 2, box[0] + box[1] / 2)
    intersection = np.maximum(high - low, 0).prod(1)
    return intersection / (boxes[:, 1].prod(1) + box[1].prod() - intersection)


def _is_near(crop: Crop, before: Crop) -> bool:
    """Whether two crops may show the same face a moment apart."""
    distance = float(np.linalg.norm(crop.centre - before.centre))
    return distance < before.side / 2 and 0.5 < crop.side / before.side < 2


def _angle(right: np.ndarray, left: np.ndarray) -> float:
    """Return the angle from level, in radians clockwise, of the line through two points (2,)."""
    return float(np.arctan2(left[1] - right[1], left[0] - right[0]))


def _sigmoid(x: Any) -> Any:
    return 1 / (1 + np.exp(-np.clip(x, -80, 80)))
