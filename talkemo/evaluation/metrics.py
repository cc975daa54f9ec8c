"""How far one motion is from another (3D-TalkEmo, section 4.3, and the field's own metrics).

Every metric comes with its unit, its mask and the mask's size; without these nobody can reproduce it. The functions take
predicted and reference vertices or displacements (T, V, 3) in mm at the same times, already cut to a mask. `Comparison`
computes all metrics of a pair of animations of any length, part by part.
"""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass

import numpy as np

from ..face.canonical import INNER_LIPS, MOUTH_CORNERS, Face

TOGETHER = 1.0  # mm beyond their distance at rest up to which lips count as together
STILL = 1e-6  # mm, standard deviation up to which a reference's mouth does not move
CONSTANT = 1e-9  # standard deviation below which a series is constant and correlates with nothing
REGION_MASKS = (
    "lips",
    "face",
    "upper_face",
)  # masks of `Comparison` that the field's metrics are defined on


def reconstruction_error(predicted: np.ndarray, reference: np.ndarray) -> float:
    """RE: mean distance over frames and vertices, mm."""
    return float(np.linalg.norm(predicted - reference, axis=2).mean())


def velocity_error(predicted: np.ndarray, reference: np.ndarray) -> float:
    """VE: mean distance between the two motions from one frame to the next, mm a frame; needs two frames."""
    return float(
        np.linalg.norm(np.diff(predicted, axis=0) - np.diff(reference, axis=0), axis=2).mean()
    )


def lip_vertex_error(predicted: np.ndarray, reference: np.ndarray) -> float:
    """LVE: mean over frames of the largest distance of a lip vertex, mm. EVE is the same over eyes and forehead.

    As the papers define it (Richard et al. 2021, MeshTalk); their code averages the squares, see `lip_vertex_error_sq`.
    """
    return float(np.linalg.norm(predicted - reference, axis=2).max(1).mean())


def lip_vertex_error_sq(predicted: np.ndarray, reference: np.ndarray) -> float:
    """LVE as most published code computes it: mean over frames of the largest squared distance, mm²."""
    return float(np.square(predicted - reference).sum(2).max(1).mean())


def dynamics_deviation(predicted: np.ndarray, reference: np.ndarray, neutral: np.ndarray) -> float:
    """FDD: mean over upper-face vertices of std_t ‖g − m‖² − std_t ‖p − m‖², mm²; neutral m (V, 3).

    Signed (Xing et al. 2023, CodeTalker): above zero where the prediction moves less than the reference.
    """
    spread = lambda motion: np.square(motion - neutral).sum(2).std(0)
    return float((spread(reference) - spread(predicted)).mean())


def mouth_opening(displacement: np.ndarray, face: Face) -> np.ndarray:
    """Distance (T,) mm between the middles of the inner lips, iBUG points 63 and 67, of displacements (T, V, 3)."""
    return _landmark_distance(displacement, face, INNER_LIPS)


def mouth_width(displacement: np.ndarray, face: Face) -> np.ndarray:
    """Distance (T,) mm between the corners of the mouth, iBUG points 49 and 55, of displacements (T, V, 3)."""
    return _landmark_distance(displacement, face, MOUTH_CORNERS)


def _landmark_distance(displacement: np.ndarray, face: Face, pair: tuple[int, int]) -> np.ndarray:
    first, second = face.landmarks68[list(pair)]
    rest = face.mean[first] - face.mean[second]
    return np.linalg.norm(rest + displacement[:, first] - displacement[:, second], axis=1)


def pearson(a: np.ndarray, b: np.ndarray) -> float:
    """Pearson's r of two series (T,); 0 where one of them does not move."""
    if a.std() < CONSTANT or b.std() < CONSTANT:
        return 0.0
    return float(np.corrcoef(a, b)[0, 1])


@dataclass(frozen=True)
class Metric:
    """One metric of a comparison with what is needed to reproduce it."""

    name: str
    value: float
    unit: str
    mask: str
    vertices: int  # in the mask
    about: str


class Comparison:
    """All metrics of a predicted and a reference motion. Frames are added part by part and not kept.

    neutral: (V, 3) the mesh at rest, in its own unit
    masks: name → vertex indices. The field's metrics are given for those of `lips`, `face` and `upper_face` that are
        there, RE and VE for `all`, `lips` and masks of any other name
    mouth: vertex indices of the middles of the inner lips (above, below) and of the mouth's corners, or None
    scale: mm to a unit of the mesh; unit: what lengths are called then
    up: (3,), the face's own upward direction in the mesh, along which lips meet; closures are left out without it
    where: (V,) sum over frames of each vertex's distance; course: of the distance of each frame, by mask
    """

    def __init__(
        self,
        neutral: np.ndarray,
        masks: dict[str, np.ndarray],
        mouth: np.ndarray | None = None,
        scale: float = 1.0,
        unit: str = "mm",
        up: np.ndarray | None = None,
    ):
        self.up = up
        self.gaps: list[
            np.ndarray
        ] = []  # (T, 2): of the middles of the inner lips along `up`, predicted and reference
        self.neutral = neutral * scale
        self.masks, self.mouth, self.scale, self.unit = masks, mouth, scale, unit
        self.frames = 0
        self.last: tuple[np.ndarray, np.ndarray] | None = (
            None  # frame of either motion, (1, V, 3) mm
        )
        # Sums over frames, by mask: of the mean distance, the mean distance of the steps, the largest distance and its
        # square.
        self.distance: dict[str, float] = defaultdict(float)
        self.step_distance: dict[str, float] = defaultdict(float)
        self.largest: dict[str, float] = defaultdict(float)
        self.largest_sq: dict[str, float] = defaultdict(float)
        upper = masks.get("upper_face", np.zeros(0, int))
        self.moments = np.zeros(
            (2, 2, len(upper))
        )  # of ‖· − m‖² for predicted and reference: sums and sums of squares
        self.where = np.zeros(len(neutral))
        self.course: dict[str, list[np.ndarray]] = defaultdict(list)
        self.lengths: list[
            np.ndarray
        ] = []  # (T, 4): opening and width of the predicted mouth, then of the reference's

    def add(self, predicted: np.ndarray, reference: np.ndarray) -> None:
        """Add consecutive frames (T, V, 3) in the mesh's own unit."""
        p, g = predicted.astype(np.float64) * self.scale, reference.astype(np.float64) * self.scale
        last_p, last_g = self.last or (p[:0], g[:0])
        steps = np.diff(np.concatenate([last_p, p]), axis=0) - np.diff(
            np.concatenate([last_g, g]), axis=0
        )
        step_distance, distance = np.linalg.norm(steps, axis=2), np.linalg.norm(p - g, axis=2)
        self.where += distance.sum(0)
        for name, mask in self.masks.items():
            self.course[name].append(distance[:, mask].mean(1))
            largest = distance[:, mask].max(1)
            self.distance[name] += float(distance[:, mask].mean(1).sum())
            self.step_distance[name] += float(step_distance[:, mask].mean(1).sum())
            self.largest[name] += float(largest.sum())
            self.largest_sq[name] += float(np.square(largest).sum())
        if "upper_face" in self.masks:
            upper = self.masks["upper_face"]
            for row, motion in enumerate((p, g)):
                square = np.square(motion[:, upper] - self.neutral[upper]).sum(2)
                self.moments[row] += square.sum(0), np.square(square).sum(0)
        if self.mouth is not None:
            pairs = self.mouth.reshape(2, 2)
            lengths = [np.linalg.norm(m[:, a] - m[:, b], axis=1) for m in (p, g) for a, b in pairs]
            self.lengths.append(np.stack(lengths, 1))
            if self.up is not None:
                above, below = self.mouth[:2]
                self.gaps.append(
                    np.stack([(m[:, above] - m[:, below]) @ self.up for m in (p, g)], 1)
                )
        self.frames += len(p)
        self.last = p[-1:], g[-1:]

    def metrics(self) -> list[Metric]:
        """The metrics of the frames so far; needs two frames."""
        unit, frames, found = self.unit, self.frames, []

        def put(name: str, value: float, unit: str, mask: str, about: str) -> None:
            found.append(Metric(name, float(value), unit, mask, len(self.masks[mask]), about))

        for mask in ("all", "lips", *(m for m in self.masks if m not in ("all", *REGION_MASKS))):
            if mask in self.masks:
                put("RE", self.distance[mask] / frames, unit, mask, "mean distance")
                put(
                    "VE",
                    self.step_distance[mask] / (frames - 1),
                    f"{unit} a frame",
                    mask,
                    "mean distance of the steps",
                )
        if "lips" in self.masks:
            put(
                "LVE",
                self.largest["lips"] / frames,
                unit,
                "lips",
                "mean over frames of the largest distance",
            )
            put(
                "LVE²",
                self.largest_sq["lips"] / frames,
                f"{unit}²",
                "lips",
                "mean of the largest squared distance",
            )
        if "upper_face" in self.masks:
            put(
                "EVE",
                self.largest["upper_face"] / frames,
                unit,
                "upper_face",
                "as LVE, eyes and forehead",
            )
        if "face" in self.masks:
            put("MVE", self.distance["face"] / frames, unit, "face", "mean distance")
        if "upper_face" in self.masks:
            mean, square = self.moments[:, 0] / frames, self.moments[:, 1] / frames
            spread = np.sqrt(np.maximum(square - mean**2, 0))
            fdd = float((spread[1] - spread[0]).mean())
            put(
                "FDD",
                fdd,
                f"{unit}²",
                "upper_face",
                "spread of ‖·‖² over time, reference less predicted",
            )
            put("|FDD|", abs(fdd), f"{unit}²", "upper_face", "its absolute value")
        return found + self._mouth_metrics()

    def _mouth_metrics(self) -> list[Metric]:
        """Correlations of the mouth's opening and width, and the amplitude of the opening."""
        if self.mouth is None:
            return []
        opening, width, true_opening, true_width = np.concatenate(self.lengths).T
        moves = float(true_opening.std())
        amplitude = float(opening.std()) / moves if moves > STILL else 0.0
        points = 2  # landmarks of either distance
        spread = "spread relative to the reference's, 0 if that is still"
        return [
            Metric(
                "r opening",
                pearson(opening, true_opening),
                "",
                "mouth opening",
                points,
                "Pearson correlation",
            ),
            Metric(
                "r width",
                pearson(width, true_width),
                "",
                "mouth width",
                points,
                "Pearson correlation",
            ),
            Metric("amplitude", amplitude, "", "mouth opening", points, spread),
            *self._closure_metrics(),
        ]

    @property
    def gap_at_rest(self) -> float:
        """How far the middles of the inner lips are apart along `up` in the mesh at rest; needs `mouth` and `up`."""
        assert self.mouth is not None and self.up is not None
        above, below = self.neutral[self.mouth[:2]]
        return float((above - below) @ self.up)

    def _closure_metrics(self) -> list[Metric]:
        """Whether the lips meet where the reference's do (recall), and nowhere else (precision); none without closures."""
        if self.mouth is None or self.up is None:
            return []
        gap, true_gap = np.concatenate(self.gaps).T
        most, found = self.gap_at_rest + TOGETHER, []
        for name, own, other in (("recall", true_gap, gap), ("precision", gap, true_gap)):
            runs = runs_of(own <= most)
            beside = np.convolve(other <= most, np.ones(3), "same") > 0  # within a frame
            if runs:
                share = float(np.mean([beside[run].any() for run in runs]))
                whose = "reference's" if name == "recall" else "predicted"
                found.append(
                    Metric(
                        f"closure {name}",
                        share,
                        "",
                        "mouth opening",
                        2,
                        f"of {len(runs)} {whose} closures, in both",
                    )
                )
        return found


def runs_of(mask: np.ndarray) -> list[slice]:
    """The runs of frames in which a mask (T,) holds."""
    edges = np.flatnonzero(np.diff(np.concatenate([[False], mask, [False]]).astype(np.int8)))
    return [slice(start, end) for start, end in zip(edges[::2], edges[1::2])]
