"""How far one motion is from another (3D-TalkEmo, section 4.3, and the field's own metrics).

Every figure goes out with its unit, its mask and the mask's size: a number without them cannot be reproduced. The
functions take predicted and reference vertices or displacements (T, V, 3) at the same times, already cut to a mask;
lengths come in and go out in mm. `Comparison` gives all figures of a pair of animations of any length, part by part.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from .face import Face


def reconstruction_error(predicted: np.ndarray, reference: np.ndarray) -> float:
    """RE: mean distance over frames and vertices, mm."""
    return float(np.linalg.norm(predicted - reference, axis=2).mean())


def velocity_error(predicted: np.ndarray, reference: np.ndarray) -> float:
    """VE: mean distance between the two motions from one frame to the next, mm a frame; needs two frames."""
    return float(np.linalg.norm(np.diff(predicted, axis=0) - np.diff(reference, axis=0), axis=2).mean())


def mouth_opening(displacement: np.ndarray, face: Face) -> np.ndarray:
    """Distance (T,) mm between the middles of the inner lips, iBUG points 63 and 67, of displacements (T, V, 3)."""
    upper, lower = face.landmarks68[[62, 66]]
    return np.linalg.norm(face.mean[upper] + displacement[:, upper] - face.mean[lower] - displacement[:, lower], axis=1)


def mouth_width(displacement: np.ndarray, face: Face) -> np.ndarray:
    """Distance (T,) mm between the corners of the mouth, iBUG points 49 and 55."""
    right, left = face.landmarks68[[48, 54]]
    return np.linalg.norm(face.mean[right] + displacement[:, right] - face.mean[left] - displacement[:, left], axis=1)


def pearson(a: np.ndarray, b: np.ndarray) -> float:
    """Pearson's r of two series (T,); 0 where one of them does not move."""
    if a.std() < 1e-9 or b.std() < 1e-9:
        return 0.0
    return float(np.corrcoef(a, b)[0, 1])


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


@dataclass(frozen=True)
class Figure:
    """One figure of a comparison with all that is needed to reproduce it."""

    name: str
    value: float
    unit: str
    mask: str
    vertices: int  # in the mask
    about: str


class Comparison:
    """All figures of a predicted and a reference motion, added part by part, so that length costs no memory.

    neutral: (V, 3) the mesh at rest, in its own unit; masks: name → vertex numbers, of which `all`, and for a face
    `face`, `lips` and `upper_face`; mouth: vertex numbers of the middles of the inner lips (above, below) and of the
    corners, or None; scale: mm to a unit of the mesh, and `unit` what lengths are then called.
    """

    def __init__(
        self,
        neutral: np.ndarray,
        masks: dict[str, np.ndarray],
        mouth: np.ndarray | None = None,
        scale: float = 1.0,
        unit: str = "mm",
    ):
        self.neutral = neutral * scale
        self.masks, self.mouth, self.scale, self.unit = masks, mouth, scale, unit
        self.frames = 0
        self.last: tuple[np.ndarray, np.ndarray] | None = None
        self.sums: dict[str, float] = {}
        upper = masks.get("upper_face", np.zeros(0, int))
        self.moments = np.zeros((2, 2, len(upper)))  # of ‖· − m‖² for predicted and reference: sums and sums of squares
        self.lengths: list[np.ndarray] = []  # (T, 4): opening and width of both

    def add(self, predicted: np.ndarray, reference: np.ndarray) -> None:
        """Add consecutive frames (T, V, 3) in the mesh's own unit."""
        p, g = predicted.astype(np.float64) * self.scale, reference.astype(np.float64) * self.scale
        if self.last is not None:
            p_before, g_before = np.concatenate([self.last[0], p]), np.concatenate([self.last[1], g])
        else:
            p_before, g_before = p, g
        change = np.linalg.norm(np.diff(p_before, axis=0) - np.diff(g_before, axis=0), axis=2)
        distance = np.linalg.norm(p - g, axis=2)
        for name, mask in self.masks.items():
            self._sum(f"re {name}", distance[:, mask].mean(1).sum())
            self._sum(f"ve {name}", change[:, mask].mean(1).sum())
            largest = distance[:, mask].max(1)
            self._sum(f"max {name}", largest.sum())
            self._sum(f"max_sq {name}", np.square(largest).sum())
        if "upper_face" in self.masks:
            upper = self.masks["upper_face"]
            for row, motion in enumerate((p, g)):
                square = np.square(motion[:, upper] - self.neutral[upper]).sum(2)
                self.moments[row] += square.sum(0), np.square(square).sum(0)
        if self.mouth is not None:
            pairs = self.mouth.reshape(2, 2)
            self.lengths.append(
                np.stack([np.linalg.norm(m[:, a] - m[:, b], axis=1) for m in (p, g) for a, b in pairs], 1)
            )
        self.frames += len(p)
        self.last = p[-1:], g[-1:]

    def _sum(self, name: str, value: float) -> None:
        self.sums[name] = self.sums.get(name, 0.0) + float(value)

    def figures(self) -> list[Figure]:
        """The figures so far; needs two frames."""
        unit, found = self.unit, []

        def put(name: str, value: float, unit: str, mask: str, about: str) -> None:
            found.append(Figure(name, float(value), unit, mask, len(self.masks[mask]), about))

        count, steps = self.frames, self.frames - 1
        for mask in ("all", "lips", *(m for m in self.masks if m not in ("all", "lips", "face", "upper_face"))):
            if mask in self.masks:
                put("RE", self.sums[f"re {mask}"] / count, unit, mask, "mean distance")
                put("VE", self.sums[f"ve {mask}"] / steps, f"{unit} a frame", mask, "mean distance of the steps")
        if "lips" in self.masks:
            put("LVE", self.sums["max lips"] / count, unit, "lips", "mean over frames of the largest distance")
            put("LVE²", self.sums["max_sq lips"] / count, f"{unit}²", "lips", "mean of the largest squared distance")
        if "upper_face" in self.masks:
            put("EVE", self.sums["max upper_face"] / count, unit, "upper_face", "as LVE, eyes and forehead")
        if "face" in self.masks:
            put("MVE", self.sums["re face"] / count, unit, "face", "mean distance")
        if "upper_face" in self.masks:
            mean, square = self.moments[:, 0] / count, self.moments[:, 1] / count
            spread = np.sqrt(np.maximum(square - mean**2, 0))
            fdd = float((spread[1] - spread[0]).mean())
            about = "spread of ‖·‖² over time, reference less predicted"
            put("FDD", fdd, f"{unit}²", "upper_face", about)
            put("|FDD|", abs(fdd), f"{unit}²", "upper_face", "its absolute value")
        if self.mouth is not None:
            opening, width, true_opening, true_width = np.concatenate(self.lengths).T
            points = len(self.mouth) // 2
            for name, p, g in (("opening", opening, true_opening), ("width", width, true_width)):
                found.append(Figure(f"r {name}", pearson(p, g), "", f"mouth {name}", points, "Pearson correlation"))
            moves = float(true_opening.std())
            ratio = float(opening.std()) / moves if moves > 1e-6 else 0.0
            found.append(
                Figure(
                    "amplitude",
                    ratio,
                    "",
                    "mouth opening",
                    points,
                    "spread relative to the reference's, 0 if that is still",
                )
            )
        return found
