"""Metrics of a predicted motion against a reference (3D-TalkEmo, section 4.3, and the field's own).

The functions take predicted and reference vertices or displacements (T, V, 3) in mm at the same
times, already cut to a mask. `Comparison` computes all metrics of two animations of any length,
each with its unit, its mask and the mask's size, which are needed to reproduce it.
"""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass

import numpy as np

from ..face.canonical import INNER_LIPS, MOUTH_CORNERS, Face

CLOSURE_GAP_MM = 1.0  # lips count as closed up to this gap beyond their gap at rest
STILL_MOUTH_STD_MM = 1e-6  # a reference's mouth moves if its opening's standard deviation is larger
CONSTANT_SERIES_STD = 1e-9  # the correlation with a series of smaller standard deviation is 0
REGION_MASKS = ("lips", "face", "upper_face")  # masks that LVE, EVE, MVE and FDD are defined on
PAPER_MASK = "mouth landmarks"  # the mask of the paper's RE and VE: iBUG's 20 points of the mouth
MOUTH_LANDMARKS = 2  # landmarks that define the mouth's opening, and its width


def reconstruction_error(predicted: np.ndarray, reference: np.ndarray) -> float:
    """RE: mean distance over frames and vertices, mm."""
    return float(np.linalg.norm(predicted - reference, axis=2).mean())


def velocity_error(predicted: np.ndarray, reference: np.ndarray) -> float:
    """VE: mean distance between the frame-to-frame steps of both motions, mm a frame; T ≥ 2."""
    steps = np.diff(predicted, axis=0) - np.diff(reference, axis=0)
    return float(np.linalg.norm(steps, axis=2).mean())


def lip_vertex_error(predicted: np.ndarray, reference: np.ndarray) -> float:
    """LVE: mean over frames of a lip vertex's largest distance, mm (EVE: of eyes and forehead).

    As the papers define it (Richard et al. 2021, MeshTalk). Their code averages the squares, see
    `lip_vertex_error_sq`.
    """
    return float(np.linalg.norm(predicted - reference, axis=2).max(1).mean())


def lip_vertex_error_sq(predicted: np.ndarray, reference: np.ndarray) -> float:
    """LVE as most published code computes it: mean of the largest squared distance, mm²."""
    return float(np.square(predicted - reference).sum(2).max(1).mean())


def dynamics_deviation(predicted: np.ndarray, reference: np.ndarray, neutral: np.ndarray) -> float:
    """FDD: mean over upper-face vertices of std_t ‖g − m‖² − std_t ‖p − m‖², mm².

    g is the reference, p the prediction, and m the face at rest, `neutral` (V, 3). FDD is signed
    (Xing et al. 2023, CodeTalker): positive where the prediction moves less than the reference.
    """
    reference_std = np.square(reference - neutral).sum(2).std(0)
    predicted_std = np.square(predicted - neutral).sum(2).std(0)
    return float((reference_std - predicted_std).mean())


def mouth_opening(displacement: np.ndarray, face: Face) -> np.ndarray:
    """Distance (T,) mm between the middles of the inner lips, iBUG points 63 and 67."""
    return _landmark_distance(displacement, face, INNER_LIPS)


def mouth_width(displacement: np.ndarray, face: Face) -> np.ndarray:
    """Distance (T,) mm between the corners of the mouth, iBUG points 49 and 55."""
    return _landmark_distance(displacement, face, MOUTH_CORNERS)


def _landmark_distance(displacement: np.ndarray, face: Face, pair: tuple[int, int]) -> np.ndarray:
    """Distance (T,) mm of two landmarks under displacements (T, V, 3) mm of the canonical face."""
    first, second = face.landmarks68[list(pair)]
    rest = face.mean[first] - face.mean[second]
    return np.linalg.norm(rest + displacement[:, first] - displacement[:, second], axis=1)


def pearson(a: np.ndarray, b: np.ndarray) -> float:
    """Pearson's r of two series (T,); 0 if one of them is constant."""
    if a.std() < CONSTANT_SERIES_STD or b.std() < CONSTANT_SERIES_STD:
        return 0.0
    return float(np.corrcoef(a, b)[0, 1])


def runs_of(mask: np.ndarray) -> list[slice]:
    """The runs of consecutive frames in which a mask (T,) holds."""
    edges = np.flatnonzero(np.diff(np.concatenate([[False], mask, [False]]).astype(np.int8)))
    return [slice(start, end) for start, end in edges.reshape(-1, 2)]


@dataclass(frozen=True)
class Metric:
    """One metric of a comparison, with unit and mask."""

    name: str
    value: float
    unit: str
    mask: str
    vertices: int  # in the mask
    about: str  # definition in a few words, for tables


class Comparison:
    """All metrics of a predicted and a reference motion, accumulated over chunks of frames.

    Frames are not stored, so that memory does not limit the length of the animations.

    Parameters
    ----------
    neutral : (V, 3)
        The mesh at rest, in its own unit.
    masks : dict of str to (M,) int
        Vertex indices. RE and VE are computed for `all`, `lips` and every mask that is not one of
        REGION_MASKS; the other metrics for those of REGION_MASKS that are present.
    mouth : (4,) int, optional
        Vertices of the middles of the inner lips (upper, lower) and of the mouth's corners. Without
        it the metrics of the mouth are left out.
    scale, unit : float, str
        Millimetres per unit of the mesh, and the name of the resulting unit of length.
    up : (3,), optional
        The face's upward direction in the mesh, along which lips meet. Without it closures are left
        out.

    Attributes
    ----------
    frames : int
        Number of frames so far.
    vertex_distance_sum : (V,)
        Sum over frames of each vertex's distance.
    frame_distances : dict of str to list of (t,)
        By mask, the mean distance of each frame, an array a chunk.
    gaps : list of (t, 2)
        Gap of the inner lips along `up`, predicted and reference, an array a chunk.
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
        self.neutral = neutral * scale
        self.masks, self.mouth, self.scale, self.unit, self.up = masks, mouth, scale, unit, up
        self.frames = 0
        self.vertex_distance_sum = np.zeros(len(neutral))
        self.frame_distances: dict[str, list[np.ndarray]] = defaultdict(list)
        self.gaps: list[np.ndarray] = []
        self._last: tuple[np.ndarray, np.ndarray] | None = None  # last frame of each, (1, V, 3) mm
        # Sums over frames, by mask.
        self._distance: dict[str, float] = defaultdict(float)  # mean distance
        self._step_distance: dict[str, float] = defaultdict(float)  # mean distance of the steps
        self._max_distance: dict[str, float] = defaultdict(float)
        self._max_distance_sq: dict[str, float] = defaultdict(float)
        # Of ‖· − m‖², m at rest: (predicted or reference, sum or sum of squares, vertex).
        self._moments = np.zeros((2, 2, len(masks.get("upper_face", ()))))
        self._mouth_lengths: list[np.ndarray] = []  # (t, 4): predicted opening, width, reference's

    def add(self, predicted: np.ndarray, reference: np.ndarray) -> None:
        """Add consecutive frames (t, V, 3) of both motions, in the mesh's own unit."""
        p, g = predicted.astype(np.float64) * self.scale, reference.astype(np.float64) * self.scale
        last_p, last_g = self._last or (p[:0], g[:0])
        predicted_steps = np.diff(np.concatenate([last_p, p]), axis=0)
        reference_steps = np.diff(np.concatenate([last_g, g]), axis=0)
        step_distance = np.linalg.norm(predicted_steps - reference_steps, axis=2)
        distance = np.linalg.norm(p - g, axis=2)
        self.vertex_distance_sum += distance.sum(0)
        for name, mask in self.masks.items():
            frame_distance, max_distance = distance[:, mask].mean(1), distance[:, mask].max(1)
            self.frame_distances[name].append(frame_distance)
            self._distance[name] += float(frame_distance.sum())
            self._step_distance[name] += float(step_distance[:, mask].mean(1).sum())
            self._max_distance[name] += float(max_distance.sum())
            self._max_distance_sq[name] += float(np.square(max_distance).sum())
        if "upper_face" in self.masks:
            upper = self.masks["upper_face"]
            for row, motion in enumerate((p, g)):
                square = np.square(motion[:, upper] - self.neutral[upper]).sum(2)
                self._moments[row] += square.sum(0), np.square(square).sum(0)
        if self.mouth is not None:
            pairs = self.mouth.reshape(2, 2)
            lengths = [np.linalg.norm(m[:, a] - m[:, b], axis=1) for m in (p, g) for a, b in pairs]
            self._mouth_lengths.append(np.stack(lengths, 1))
            if self.up is not None:
                upper_lip, lower_lip = self.mouth[:2]
                gaps = [
                    (motion[:, upper_lip] - motion[:, lower_lip]) @ self.up for motion in (p, g)
                ]
                self.gaps.append(np.stack(gaps, 1))
        self.frames += len(p)
        self._last = p[-1:], g[-1:]

    def metrics(self) -> list[Metric]:
        """The metrics of the frames so far, at least two."""
        metrics = []
        for mask in ("all", "lips", *(m for m in self.masks if m not in ("all", *REGION_MASKS))):
            if mask in self.masks:
                error = self._distance[mask] / self.frames
                metrics.append(self._metric("RE", error, self.unit, mask, "mean distance"))
                error = self._step_distance[mask] / (self.frames - 1)
                about = "mean distance of the steps"
                metrics.append(self._metric("VE", error, f"{self.unit} a frame", mask, about))
        return metrics + self._region_metrics() + self._mouth_metrics() + self._closure_metrics()

    def _metric(self, name: str, value: float, unit: str, mask: str, about: str) -> Metric:
        return Metric(name, float(value), unit, mask, len(self.masks[mask]), about)

    def _region_metrics(self) -> list[Metric]:
        """LVE, EVE, MVE and FDD, as far as their regions are known."""
        unit, frames, metrics = self.unit, self.frames, []
        if "lips" in self.masks:
            lve, lve_sq = self._max_distance["lips"], self._max_distance_sq["lips"]
            about = "mean over frames of the largest distance"
            metrics.append(self._metric("LVE", lve / frames, unit, "lips", about))
            about = "mean of the largest squared distance"
            metrics.append(self._metric("LVE²", lve_sq / frames, f"{unit}²", "lips", about))
        if "upper_face" in self.masks:
            eve = self._max_distance["upper_face"] / frames
            about = "as LVE, eyes and forehead"
            metrics.append(self._metric("EVE", eve, unit, "upper_face", about))
        if "face" in self.masks:
            mve = self._distance["face"] / frames
            metrics.append(self._metric("MVE", mve, unit, "face", "mean distance"))
        if "upper_face" in self.masks:
            mean, square = self._moments[:, 0] / frames, self._moments[:, 1] / frames
            predicted_std, reference_std = np.sqrt(np.maximum(square - mean**2, 0))
            fdd = float((reference_std - predicted_std).mean())
            about = "spread of ‖·‖² over time, reference minus predicted"
            metrics.append(self._metric("FDD", fdd, f"{unit}²", "upper_face", about))
            about = "its absolute value"
            metrics.append(self._metric("|FDD|", abs(fdd), f"{unit}²", "upper_face", about))
        return metrics

    def _mouth_metrics(self) -> list[Metric]:
        """Correlations of the mouth's opening and width, and the amplitude of the opening."""
        if self.mouth is None:
            return []
        opening, width, true_opening, true_width = self.mouth_lengths.T
        reference_std = float(true_opening.std())
        moves = reference_std > STILL_MOUTH_STD_MM
        rows = (
            ("r opening", pearson(opening, true_opening), "mouth opening", "Pearson correlation"),
            ("r width", pearson(width, true_width), "mouth width", "Pearson correlation"),
            (
                "amplitude",
                float(opening.std()) / reference_std if moves else 0.0,
                "mouth opening",
                "spread relative to the reference's, 0 if that is still",
            ),
        )
        return [
            Metric(name, value, "", mask, MOUTH_LANDMARKS, about)
            for name, value, mask, about in rows
        ]

    @property
    def mouth_lengths(self) -> np.ndarray:
        """Opening and width (T, 4) of the predicted mouth and of the reference's; needs `mouth`."""
        return np.concatenate(self._mouth_lengths)

    @property
    def gap_at_rest(self) -> float:
        """Gap of the inner lips along `up` in the mesh at rest; needs `mouth` and `up`."""
        assert self.mouth is not None and self.up is not None
        upper_lip, lower_lip = self.neutral[self.mouth[:2]]
        return float((upper_lip - lower_lip) @ self.up)

    def _closure_metrics(self) -> list[Metric]:
        """Shares of the closures, within a frame, that both motions have.

        Recall is of the reference's closures, precision of the predicted ones; one without closures
        is left out.
        """
        if self.mouth is None or self.up is None:
            return []
        closed = np.concatenate(self.gaps) <= self.gap_at_rest + CLOSURE_GAP_MM
        predicted, reference = closed.T
        metrics = []
        for name, source, closures, compared in (
            ("recall", "the reference's", reference, predicted),
            ("precision", "the predicted", predicted, reference),
        ):
            runs = runs_of(closures)
            near_closure = np.convolve(compared, np.ones(3), "same") > 0
            if runs:
                share = float(np.mean([near_closure[run].any() for run in runs]))
                about = f"of {source} {len(runs)} closures, found in both"
                metrics.append(
                    Metric(f"closure {name}", share, "", "mouth opening", MOUTH_LANDMARKS, about)
                )
        return metrics
