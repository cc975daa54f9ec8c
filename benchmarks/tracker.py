"""A face tracker that nobody here trained: MediaPipe's Face Landmarker bundle, run on LiteRT (package ai-edge-litert).

The bundle (.task) is a zip of three networks: BlazeFace's short-range detector (128×128 pixels → 896 boxes with six key
points), the mesh of the face (an upright crop of 256×256 pixels → 478 points and how sure it is of a face), and the one
from 146 of the points to 52 scores. They are put together as MediaPipe does in a video: the detector's box gives a
crop, the points in it a better one, and the points in that are kept.
"""

from __future__ import annotations

import tempfile
import zipfile
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from scipy.ndimage import map_coordinates

# The scores, in the order of the network's output: ARKit's names.
SCORES = (
    "_neutral browDownLeft browDownRight browInnerUp browOuterUpLeft browOuterUpRight cheekPuff cheekSquintLeft "
    "cheekSquintRight eyeBlinkLeft eyeBlinkRight eyeLookDownLeft eyeLookDownRight eyeLookInLeft eyeLookInRight "
    "eyeLookOutLeft eyeLookOutRight eyeLookUpLeft eyeLookUpRight eyeSquintLeft eyeSquintRight eyeWideLeft eyeWideRight "
    "jawForward jawLeft jawOpen jawRight mouthClose mouthDimpleLeft mouthDimpleRight mouthFrownLeft mouthFrownRight "
    "mouthFunnel mouthLeft mouthLowerDownLeft mouthLowerDownRight mouthPressLeft mouthPressRight mouthPucker "
    "mouthRight mouthRollLower mouthRollUpper mouthShrugLower mouthShrugUpper mouthSmileLeft mouthSmileRight "
    "mouthStretchLeft mouthStretchRight mouthUpperUpLeft mouthUpperUpRight noseSneerLeft noseSneerRight"
).split()

# The points that the scores are made from, of the mesh's 478.
SCORED_POINTS = np.array(
    [
        *(0, 1, 4, 5, 6, 7, 8, 10, 13, 14, 17, 21, 33, 37, 39, 40, 46, 52, 53, 54, 55, 58, 61, 63, 65, 66, 67, 70, 78),
        *(80, 81, 82, 84, 87, 88, 91, 93, 95, 103, 105, 107, 109, 127, 132, 133, 136, 144, 145, 146, 148, 149, 150),
        *(152, 153, 154, 155, 157, 158, 159, 160, 161, 162, 163, 168, 172, 173, 176, 178, 181, 185, 191, 195, 197),
        *(234, 246, 249, 251, 263, 267, 269, 270, 276, 282, 283, 284, 285, 288, 291, 293, 295, 296, 297, 300, 308),
        *(310, 311, 312, 314, 317, 318, 321, 323, 324, 332, 334, 336, 338, 356, 361, 362, 365, 373, 374, 375, 377),
        *(378, 379, 380, 381, 382, 384, 385, 386, 387, 388, 389, 390, 397, 398, 400, 402, 405, 409, 415, 454, 466),
        *(468, 469, 470, 471, 472, 473, 474, 475, 476, 477),
    ]
)
EYE_CORNERS = (33, 263)  # points of the mesh, the outer corners: the one on the left of the picture first
DETECTOR_SIZE, MESH_SIZE = 128, 256  # pixels on a side of what the networks see
ANCHOR_GRIDS = ((8, 2), (16, 6))  # pixels between anchors, and how many lie in each place
MARGIN = 1.5  # side of a crop in sides of the box around the face
FOUND = 0.5  # least score of a detection, and of a face in a crop
OVERLAP = 0.3  # intersection over union from which detections are of one face


@dataclass(frozen=True)
class Crop:
    """A square of a picture: its centre (column, row), its side in pixels, and its turn in radians, clockwise."""

    centre: np.ndarray
    side: float
    angle: float

    def to_picture(self, points: np.ndarray) -> np.ndarray:
        """Points (..., 2) in shares of the square's sides, as columns and rows of the picture, pixels."""
        c, s = np.cos(self.angle), np.sin(self.angle)
        return self.centre + self.side * ((points - 0.5) @ np.array([[c, s], [-s, c]]))

    def cut(self, picture: np.ndarray, size: int) -> np.ndarray:
        """The square (size, size, 3) float32 of a picture (H, W, 3), bilinear, black outside the picture."""
        steps = (np.arange(size) + 0.5) / size
        columns, rows = np.moveaxis(self.to_picture(np.stack(np.meshgrid(steps, steps), axis=2)) - 0.5, 2, 0)
        channels = [map_coordinates(picture[..., k].astype(np.float32), [rows, columns], order=1) for k in range(3)]
        return np.stack(channels, axis=2)


@dataclass(frozen=True)
class Tracked:
    """What a picture shows: points (478, 3) in pixels, depth on their scale; scores (52,) and presence in [0, 1]."""

    points: np.ndarray
    scores: np.ndarray
    presence: float


class Tracker:
    """Finds one face in a picture and scores its expression; path: of the Face Landmarker bundle."""

    def __init__(self, path: str | Path):
        from ai_edge_litert.interpreter import Interpreter

        networks = []
        with zipfile.ZipFile(path) as bundle, tempfile.TemporaryDirectory() as folder:
            for name in ("face_detector", "face_landmarks_detector", "face_blendshapes"):
                file = bundle.extract(f"{name}.tflite", folder)
                networks.append(Interpreter(model_path=file, num_threads=1))
                networks[-1].allocate_tensors()
        self.detector, self.mesh, self.scorer = networks
        self.anchors = _anchors()

    def track(self, picture: np.ndarray) -> Tracked | None:
        """The face in a picture (H, W, 3) uint8, None if there is none."""
        crop = self.detect(picture)
        if crop is None:
            return None
        points, _ = self.find_points(picture, crop)
        points, presence = self.find_points(picture, crop_of_points(points))
        return Tracked(points, self.score(points), presence) if presence > FOUND else None

    def detect(self, picture: np.ndarray) -> Crop | None:
        """The crop around the face that the detector is surest of, turned so that the eyes are level."""
        height, width = picture.shape[:2]
        whole = Crop(np.array([width / 2, height / 2]), max(width, height), 0.0)
        boxes, scores = _run(
            self.detector, whole.cut(picture, DETECTOR_SIZE) / 127.5 - 1, "regressors", "classificators"
        )
        scores = _sigmoid(scores[0, :, 0])
        places = boxes[0].reshape(-1, 8, 2) / DETECTOR_SIZE  # middle, size, and six key points
        places[:, [0, *range(2, 8)]] += self.anchors[:, None]
        best = int(scores.argmax())
        if scores[best] < FOUND:
            return None
        same = (scores >= FOUND) & (_overlaps(places, places[best]) > OVERLAP)
        place = np.average(places[same], axis=0, weights=scores[same])
        middle, right_eye, left_eye = whole.to_picture(place[[0, 2, 3]])
        return Crop(middle, MARGIN * whole.side * float(place[1].max()), _angle(right_eye, left_eye))

    def find_points(self, picture: np.ndarray, crop: Crop) -> tuple[np.ndarray, float]:
        """The mesh (478, 3) in pixels of the face in a crop, and how likely there is one."""
        points, presence = _run(self.mesh, crop.cut(picture, MESH_SIZE) / 255, "Identity", "Identity_1")
        points = points.reshape(-1, 3) / MESH_SIZE
        placed = np.column_stack([crop.to_picture(points[:, :2]), points[:, 2] * crop.side])
        return placed, float(_sigmoid(presence.ravel()[0]))

    def score(self, points: np.ndarray) -> np.ndarray:
        """Scores (52,) in [0, 1] of a mesh (478, 2 or more) in pixels."""
        return _run(self.scorer, points[SCORED_POINTS, :2])[0].ravel()


def crop_of_points(points: np.ndarray) -> Crop:
    """The crop of a mesh (478, 2 or more): around its upright bounding box, turned so that the eyes are level."""
    low, high = points[:, :2].min(0), points[:, :2].max(0)
    right, left = points[EYE_CORNERS, :2]
    return Crop((low + high) / 2, MARGIN * float((high - low).max()), _angle(right, left))


def _run(network, values: np.ndarray, *names: str) -> list[np.ndarray]:
    """The outputs of a network by their names, or all, for one input without its batch axis."""
    network.set_tensor(network.get_input_details()[0]["index"], values[None].astype(np.float32))
    network.invoke()
    outputs = {output["name"]: output["index"] for output in network.get_output_details()}
    return [network.get_tensor(outputs[name]) for name in names or outputs]


def _anchors() -> np.ndarray:
    """(896, 2): where the detector's boxes are relative to, column and row in shares of the picture."""
    grids = []
    for stride, count in ANCHOR_GRIDS:
        steps = (np.arange(DETECTOR_SIZE // stride) + 0.5) * stride / DETECTOR_SIZE
        grids.append(np.stack(np.meshgrid(steps, steps), axis=2).reshape(-1, 2).repeat(count, axis=0))
    return np.concatenate(grids)


def _overlaps(places: np.ndarray, one: np.ndarray) -> np.ndarray:
    """Intersection over union (D,) of boxes and one box; places: (D, 8, 2), the first two rows middle and size."""
    low = np.maximum(places[:, 0] - places[:, 1] / 2, one[0] - one[1] / 2)
    high = np.minimum(places[:, 0] + places[:, 1] / 2, one[0] + one[1] / 2)
    shared = np.maximum(high - low, 0).prod(1)
    return shared / (places[:, 1].prod(1) + one[1].prod() - shared)


def _angle(right: np.ndarray, left: np.ndarray) -> float:
    """Radians, clockwise, by which the line through two points (2,) in a picture is turned from level."""
    return float(np.arctan2(left[1] - right[1], left[0] - right[0]))


def _sigmoid(x):
    return 1 / (1 + np.exp(-np.clip(x, -80, 80)))
