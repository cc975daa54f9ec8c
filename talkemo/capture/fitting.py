"""Fitting the bilinear model to landmarks (3D-TalkEmo, Eq. 2): E = Σ‖x_i − SOP(R, T, s, V)‖², pose and shape in turns.

The shape is the identity w_id, one for all recordings of a person and fitted to the first frames of each, and in every
frame the expression w_exp, given by blend-shape weights in [0, 1], in which w_exp is linear. Points that fit badly
count less (Geman-McClure weights), and the expression is smooth over time. Besides the points, the gaps between facing
points of the lips are fitted, relative to the person's own closed mouth.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, fields

import numpy as np

from ..errors import InputError
from ..face.canonical import Face
from ..face.motion import Motion
from ..geometry.numerics import accelerated_projection
from . import camera
from .landmarks import seen_shapes

FIRST_FRAMES = 24  # of each recording, among which those that the identity is fitted to are chosen
IDENTITY_MODES = 30  # standardised identity coefficients that are fitted
ROBUST_MM = 4.0  # distance at which a point counts a quarter
SHAPE_PRIOR = 0.04  # penalty (mm² a point) on a squared weight
# The same on a weight's distance from what a tracker's scores tell, see `expected`: points show the mouth well, and what
# brows and lids do is small beside how the head nods.
TOLD_PRIOR = {
    "brow": 24.0,
    "eyeBlink": 6.0,
    "eyeWide": 6.0,
    "eyeSquint": 1.0,
    "jawOpen": 1.0,
    "mouthSmile": 1.0,
    "mouth": 0.1,
    "jaw": 0.1,
    "": 0.5,
}
SPARSITY = (
    0.05  # penalty (mm² a point) on a weight: keeps opposite shapes from cancelling each other
)
RESTING_PRIOR = 3.0  # penalty (mm² a point) on a squared weight, added while the identity is fitted
IDENTITY_PRIOR = 0.15  # penalty (mm² a point) on a squared standardised identity coefficient
WIDEST_CLOSED = (
    2.5  # mm, upper bound of the closed-mouth gap, for speakers who never close their lips
)
# A tracker measures 0.8 mm between lips that meet for a b at 25 pictures a second (the median over GRID's aligned
# words; in its silences it is 0.15 mm). So gaps g become g³ / (g² + TOUCH²), which is about 0 well below TOUCH.
TOUCH = 1.5  # mm
LEAST_LEVER = (
    8.0  # mm, lower bound of jawOpen's opening in the picture, for heads that are bowed deeply
)
MIDDLE_PAIRS = 3  # the first of the pairs, in the middle of the mouth, on which the gap is measured
SOLVER_STEPS = 100  # projected gradient steps for the blend-shape weights of fixed poses
CLOSED_PERCENTILE = 4  # of a person's gaps: at some b, m or p everybody's lips are together


@dataclass(frozen=True)
class Stiffness:
    """How a fit weighs what it sees.

    smoothness: penalty (mm² a point) on the squared second difference of a weight over frames
    pair_weight: of the gap between two facing lip points, relative to a point: nobody sees that the whole mouth is a
        millimetre off, but lips that meet must meet
    closed_weight: how many times as much a gap counts where the lips touch
    """

    smoothness: float = 4.0
    pair_weight: float = 6.0
    closed_weight: float = 1.0


# For points of MediaPipe's mesh found in a film by ourselves, which tremble less than the landmarks of corpora.
STEADY = Stiffness(smoothness=2.0, pair_weight=10.0, closed_weight=17.0)


@dataclass(frozen=True, eq=False)
class Capture:
    """A fitted recording.

    shapes: (T, S) float32 blend-shape weights in [0, 1], in the order of Face.expression_names
    rotation: (T, 3, 3) float32; scale: (T,) px/mm; translation: (T, 2) px
    residual: (T,) float32 mm, mean distance of the weighted points from the model's
    identity: (I,) float32 standardised identity coefficients of the person
    time: (T,) float64 s
    seen: (T,) bool, frames in which a face was found; the others are interpolated
    gap: (T,) float32, between the lips, from 0 (closed) to 1 (as open as by jawOpen at weight 1); NaN where unknown
    """

    shapes: np.ndarray
    rotation: np.ndarray
    scale: np.ndarray
    translation: np.ndarray
    residual: np.ndarray
    identity: np.ndarray
    time: np.ndarray
    seen: np.ndarray
    gap: np.ndarray

    def motion(self, face: Face) -> Motion:
        """The recording's motion on the canonical face."""
        return Motion.from_weights(face, self.time, self.shapes)


# The fields of a capture that have a row a frame.
PER_FRAME = tuple(f.name for f in fields(Capture) if f.name != "identity")


@contextmanager
def no_face_as_error() -> Iterator[None]:
    """Raise InputError where landmarks in the block are in one place or far out, so that no pose can be computed."""
    try:
        with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
            yield
    except np.linalg.LinAlgError:
        raise _no_face() from None


def _no_face() -> InputError:
    return InputError(
        "landmarks that no face fits, such as all in one place",
        "leave such frames out, or set them NaN",
    )


class Fitter:
    """Fits one person's recordings. Its methods raise InputError for landmarks that no face fits.

    operator: (P, V), takes the face's vertices to the landmarks; weights: (P,), how much each landmark counts
    offset: (P, 3) mm, mean distance of this kind of landmarks from their vertices, zeros if None
    pairs: (Q, 2), rows of landmarks that face each other across the mouth, none if None
    stiffness: how the fit weighs what it sees; lens: of a perspective camera
    """

    def __init__(
        self,
        face: Face,
        operator: np.ndarray,
        weights: np.ndarray,
        offset: np.ndarray | None = None,
        pairs: np.ndarray | None = None,
        stiffness: Stiffness = Stiffness(),
        lens: camera.Lens | None = None,
    ):
        self.face = face
        self.lens = lens
        self.stiffness = stiffness
        self.weights = (weights / weights.max()).astype(np.float32)
        self.mean = (operator @ face.mean).astype(np.float32)
        if offset is not None:
            self.mean = self.mean + offset.astype(np.float32)
        pairs = np.zeros((0, 2), int) if pairs is None else pairs
        self.pairs = pairs
        self.across = np.zeros(
            (len(pairs), len(weights)), np.float32
        )  # takes points to the gaps between them
        self.across[np.arange(len(pairs)), pairs[:, 0]] = 1
        self.across[np.arange(len(pairs)), pairs[:, 1]] = -1
        self.closed: np.ndarray | None = (
            None  # (Q, 3) mm, the gaps of the closed mouth; see `learn_closed_mouth`
        )
        tensor = face.tensor_at(operator)  # (P, 3, E, I)
        self.tensor = np.einsum(
            "pcei,se->pcsi", tensor, face.expression_factor, optimize=True
        )  # neutral first
        self.tensor[:, :, 1:] -= self.tensor[:, :, :1]
        self.free = seen_shapes(face)
        # The identity is fitted to frames in which a person may blink, and is otherwise at rest.
        rest = np.array(
            [RESTING_PRIOR if not n.startswith("eyeBlink") else 0 for n in face.expression_names]
        )
        self.resting_prior = SHAPE_PRIOR + rest[self.free]
        self.shape_prior = np.full(len(self.free), SHAPE_PRIOR)
        told = lambda name: next(
            penalty for part, penalty in TOLD_PRIOR.items() if name.startswith(part)
        )
        self.told_prior = np.array([told(face.expression_names[k]) for k in self.free])

    def shape_basis(self, z: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """The identity's neutral landmarks (P, 3) and its blend shapes there (S, P, 3)."""
        at = self.tensor @ self.face.identity_weights(z)
        return self.mean + at[:, :, 0], np.ascontiguousarray(at[:, :, 1:].transpose(2, 0, 1))

    @no_face_as_error()
    def fit_person(
        self, recordings: list[np.ndarray], rounds: int = 5
    ) -> tuple[np.ndarray, np.ndarray]:
        """Identity coefficients (IDENTITY_MODES,) from the first frames of recordings, each (T, P, 2) px.

        Second, the median distance (P, 3) mm, in the plane of the face, of the landmarks from the model's; its mean
        over many people is a Fitter's `offset`. Expressions are strongly penalised, so that they do not explain what
        the identity should.
        """
        pixels = np.concatenate(
            [_first_frames(recording, self.across) for recording in recordings]
        ).astype(np.float32)
        z = np.zeros(IDENTITY_MODES, np.float32)
        for _ in range(rounds):
            shapes, pose, points, robust, _, flat = self._fit_frames(
                pixels, z, 2, 0.0, self.resting_prior
            )
            rotation, scale, translation = pose
            # The identity for fixed pose and expression: linear least squares with a Gaussian prior.
            full = np.concatenate([np.ones((len(shapes), 1), np.float32), shapes], axis=1)
            direction = (
                self.tensor @ self.face.identity_scale[:, :IDENTITY_MODES]
            )  # (P, 3, 1 + S, Z)
            design = np.einsum("ts,pcsz->tpcz", full, direction, optimize=True)
            design = np.einsum("trc,tpcz->tprz", camera.rows(rotation), design, optimize=True)
            residual = (flat - camera.project(points, rotation, scale, translation)) / scale[
                :, None, None
            ]
            residual = residual + design @ z
            rows = design.reshape(-1, len(z))
            w = np.repeat(robust.ravel(), 2)
            normal = (rows * w[:, None]).T @ rows
            right = rows.T @ (w * residual.ravel())
            # Frames of one person are much alike: the prior grows with their number instead of drowning in it.
            z = np.linalg.solve(
                normal + IDENTITY_PRIOR * robust.sum() / 10 * np.eye(len(z)), right
            ).astype(np.float32)
        plane = (
            (flat - camera.project(points, *pose))
            / pose[1][:, None, None]
            * np.array([1, -1], np.float32)
        )
        rest = np.einsum("tpr,trc->tpc", plane, rotation[:, :2])
        if not np.isfinite(z).all():
            raise _no_face()
        return z, np.median(rest, axis=0)

    def learn_closed_mouth(self, recordings: list[np.ndarray], identity: np.ndarray) -> None:
        """Measure the gaps of a person's closed mouth in recordings, each (T, P, 2) px, for later fits."""
        gaps = []
        for pixels in recordings:
            pixels = pixels[np.isfinite(pixels).all((1, 2))].astype(np.float32)
            if len(pixels):
                _, (rotation, scale, _), *_, flat = self._fit_frames(
                    pixels, identity, 2, self.stiffness.smoothness, self.shape_prior
                )
                across = np.einsum("qp,tpr->tqr", self.across, flat) / scale[:, None, None]
                gaps.append(
                    np.einsum(
                        "tqr,trc->tqc", across * np.array([1, -1], np.float32), rotation[:, :2]
                    )
                )
        neutral, _ = self.shape_basis(identity)
        closed = self.across @ neutral
        measured = np.percentile(np.concatenate(gaps)[..., 1], CLOSED_PERCENTILE, axis=0)
        closed[:, 1] = np.minimum(measured, WIDEST_CLOSED)
        self.closed = closed

    @no_face_as_error()
    def fit(
        self,
        pixels: np.ndarray,
        time: np.ndarray,
        identity: np.ndarray,
        rounds: int = 4,
        expected: np.ndarray | None = None,
    ) -> Capture:
        """The capture of landmarks (T, P, 2) px, NaN where no face was found, at `time` (T,) s.

        expected: (T, S) blend-shape weights that are likely, NaN where nothing is known of them, None for no such thing
        Raises ValueError where no frame has a face.
        """
        seen = np.isfinite(pixels).all((1, 2))
        if not seen.any():
            raise ValueError("no frame has a face")
        filled = np.array(pixels, np.float32, order="C")
        if not seen.all():
            known = np.flatnonzero(seen)
            flat = filled.reshape(len(filled), -1)
            for column in range(flat.shape[1]):
                flat[:, column] = np.interp(np.arange(len(flat)), known, flat[known, column])
        shapes, (rotation, scale, translation), _, _, residual, flat = self._fit_frames(
            filled,
            identity,
            rounds,
            self.stiffness.smoothness,
            self.shape_prior,
            np.where(seen, 1.0, 1e-3).astype(np.float32),
            None if expected is None else expected[:, self.free],
        )
        if not all(np.isfinite(array).all() for array in (shapes, rotation, scale, translation)):
            raise _no_face()
        gap = self._gap(flat, (rotation, scale, translation), identity)
        return Capture(
            shapes.astype(np.float32),
            rotation.astype(np.float32),
            scale.astype(np.float32),
            translation.astype(np.float32),
            residual.astype(np.float32),
            identity.astype(np.float32),
            np.asarray(time, np.float64),
            seen,
            gap.astype(np.float32),
        )

    def _gap(self, pixels, pose, identity):
        """The gap (T,) between the lips, relative to what jawOpen opens this person's at weight 1."""
        if self.closed is None:
            return np.full(len(pixels), np.nan, np.float32)
        rotation, scale, _ = pose
        _, basis = self.shape_basis(identity)
        middle = self.across[:MIDDLE_PAIRS]
        row = camera.rows(rotation)[:, 1]
        seen = np.einsum("qp,tp->tq", middle, pixels[..., 1]) / scale[:, None]
        # The picture's y axis points down: open gaps are negative there.
        gap = np.einsum("tc,qc->tq", row, self.closed[:MIDDLE_PAIRS]) - seen
        lever = -(row @ (middle @ basis[self.face.expression_names.index("jawOpen")]).T)
        gap = np.maximum(gap.mean(1), 0)
        return gap**3 / (gap**2 + TOUCH**2) / np.maximum(lever.mean(1), LEAST_LEVER)

    def _fit_frames(self, pixels, z, rounds, smooth, prior, frame_weights=None, expected=None):
        neutral, basis = self.shape_basis(z)
        shapes = np.zeros((len(pixels), len(basis)), np.float32)
        base = np.tile(self.weights, (len(pixels), 1))
        if frame_weights is not None:
            base = base * frame_weights[:, None]
        robust, points = base, np.broadcast_to(neutral, (len(pixels), *neutral.shape))
        flat = pixels
        for _ in range(rounds):
            pose = camera.estimate_pose(points, flat, robust)
            if self.lens is not None:
                flat = self.lens.flat(pixels, points, *pose[:2])
                pose = camera.estimate_pose(points, flat, robust)
            shapes = self._solve_shapes(
                flat, pose, neutral, basis, robust, shapes, smooth, prior, expected
            )
            points = neutral + np.tensordot(shapes, basis, 1)
            distance = (
                np.linalg.norm(flat - camera.project(points, *pose), axis=2) / pose[1][:, None]
            )
            robust = base / (1 + (distance / ROBUST_MM) ** 2) ** 2
        return (
            shapes,
            pose,
            points,
            robust,
            (distance * self.weights).sum(1) / self.weights.sum(),
            flat,
        )

    def _solve_shapes(
        self, pixels, pose, neutral, basis, robust, start, smooth, prior, expected=None
    ):
        """Blend-shape weights (T, S) in [0, 1] for a fixed pose.

        Least squares in mm with a ridge and a penalty on second differences over time, by projected accelerated
        gradient, all frames together.
        """
        rotation, scale, _ = pose
        count, free = len(pixels), self.free
        design = camera.rows(rotation) @ basis[free].reshape(-1, 3).T  # (T, 2, S·P)
        design = (
            design.reshape(count, 2, len(free), -1)
            .transpose(0, 2, 1, 3)
            .reshape(count, len(free), -1)
        )
        wanted = (
            pixels - camera.project(np.broadcast_to(neutral, (count, *neutral.shape)), *pose)
        ) / scale[:, None, None]
        wanted = wanted.transpose(0, 2, 1).reshape(count, -1)
        if self.closed is not None:
            gap = (pixels.transpose(0, 2, 1) @ self.across.T) / scale[:, None, None]
            flip = np.array([1, -1], np.float32)[:, None]
            gap -= np.einsum("trc,qc->trq", rotation[:, :2], self.closed) * flip
            pair_design = design.reshape(count, len(free), 2, -1) @ self.across.T
            apart = np.linalg.norm(gap, axis=1)
            closed = np.float32(1) / (1 + (apart / np.float32(TOUCH)) ** 4)
            counts = self.stiffness.pair_weight * (1 + (self.stiffness.closed_weight - 1) * closed)
            pair_weight = counts.astype(np.float32) * robust[:, self.pairs].min(2)
            design = np.concatenate([design, pair_design.reshape(count, len(free), -1)], 2)
            wanted = np.concatenate([wanted, gap.reshape(count, -1)], 1)
            each = np.concatenate([np.tile(robust, (1, 2)), np.tile(pair_weight, (1, 2))], 1)
        else:
            each = np.tile(robust, (1, 2))
        wanted = wanted[..., None]
        # A mean over points: 68 and 150 landmarks weigh alike against the prior. Frames without a face hardly count.
        trust = np.minimum(robust.sum(1) / self.weights.sum() * 20, 1) / np.maximum(
            robust.sum(1), 1e-6
        )
        weighted = design * (each * trust[:, None])[:, None]
        gram = weighted @ design.transpose(0, 2, 1) + np.diag(prior).astype(np.float32)
        target = (weighted @ wanted)[..., 0] - SPARSITY
        if expected is not None:
            told = np.where(np.isnan(expected), 0, self.told_prior).astype(np.float32)
            gram[:, np.arange(len(free)), np.arange(len(free))] += told
            target += told * np.nan_to_num(expected)
        # The largest row sum bounds the largest eigenvalue.
        step = np.float32(1 / (np.abs(gram).sum(2).max() + 16 * smooth))

        def slope(y: np.ndarray) -> np.ndarray:
            result = (gram @ y[..., None])[..., 0] - target
            if smooth and count > 2:
                second = np.diff(y, 2, axis=0) * np.float32(smooth)
                result[:-2] += second
                result[1:-1] -= 2 * second
                result[2:] += second
            return result

        shapes = np.zeros_like(start)
        shapes[:, free] = accelerated_projection(slope, start[:, free], step, SOLVER_STEPS)
        return shapes


def _first_frames(pixels: np.ndarray, across: np.ndarray) -> np.ndarray:
    """Of a recording's first frames with a face, the FIRST_FRAMES / 3 with the closest lips: mouths at rest are closed.

    across: (Q, P), takes points to the gaps between lips; where there are none, the least tall faces are taken
    """
    first = pixels[np.isfinite(pixels).all((1, 2))][
        : FIRST_FRAMES if len(pixels) < 200 else 6 * FIRST_FRAMES
    ]
    height = (
        np.linalg.norm(across @ first, axis=2).mean(1)
        if len(across)
        else np.ptp(first[..., 1], axis=1)
    )
    order = np.argsort(height / np.maximum(np.ptp(first[..., 0], axis=1), 1))
    return first[order[: FIRST_FRAMES // 3]]
