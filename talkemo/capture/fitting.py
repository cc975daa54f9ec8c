"""Fitting of the bilinear face model to landmarks (3D-TalkEmo, Eq. 2).

E = Σ‖x_i − SOP(R, T, s, V)‖² is minimised over pose and shape in turns. The shape is the identity
w_id, one for all recordings of a person, fitted to the first frames of each, and for every frame
the expression w_exp, which is linear in blend-shape weights in [0, 1]. Landmarks that fit badly
get lower weights (Geman-McClure), and the expression is smooth over time. The gaps between facing
landmarks of the lips are fitted as well, relative to the person's closed mouth, and so is the width
of the mouth. Where a tracker scores the expression, its scores are a prior of the weights: they see
rounded, pressed and rolled lips, which landmarks in a frontal image hardly show.

Identity and pose are those of the bilinear model. The blend shapes that are added to the person's
neutral face are those of the mean face, so that a weight moves the canonical face by as many mm as
the person's: those of a fitted identity open the mouth by 5 to 30 % less.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, fields

import numpy as np

from ..errors import InputError
from ..face.canonical import Face
from ..face.motion import Motion
from ..geometry.numerics import accelerated_projection
from .camera import Lens, Pose, estimate_pose, image_axes, project
from .landmarks import LandmarkSchema, observed_shapes
from .pair_equations import difference_equations, differences, flat_rows

FIRST_FRAMES = 24  # a recording's first frames, from which the identity's frames are chosen
LONG_RECORDING_FRAMES = 200  # in recordings of this length or more, 6 × FIRST_FRAMES are used
FITTED_IDENTITY_MODES = 30  # number of standardised identity coefficients that are fitted
ROBUST_DISTANCE_MM = 4.0  # residual at which the weight of a landmark is a quarter
SHAPE_PRIOR = 0.04  # penalty (mm² a landmark) on a squared weight
RESTING_PRIOR = 3.0  # the same, added while the identity is fitted
STILL_FACTOR = 1000.0  # on RESTING_PRIOR, where a person is known to be at rest
# Penalty (mm² a landmark) on a weight: keeps opposite shapes from cancelling each other.
SPARSITY_PRIOR = 0.05
# Penalty (mm² a landmark) on the deviation from the tracker's predicted weights, by the first part
# of a shape's name: landmarks determine opening, width and corners of the mouth well, but which
# shape rounds, presses or rolls the lips hardly, and brow and lid motion is small compared with head
# motion.
SCORE_PRIORS = {
    "brow": 24.0,
    "eyeBlink": 6.0,
    "eyeWide": 6.0,
    "eyeSquint": 1.0,
    "jawOpen": 1.0,
    "mouthSmile": 1.0,
    "mouthFunnel": 8.0,
    "mouthPucker": 6.0,
    "mouthPress": 6.0,
    "mouthRoll": 6.0,
    "mouthShrug": 6.0,
    "mouthDimple": 6.0,
    "mouthStretch": 6.0,
    "mouthFrown": 6.0,
    "mouthLowerDown": 4.0,
    "mouthUpperUp": 4.0,
    "mouthClose": 4.0,
    "mouth": 1.0,
    "jaw": 1.0,
    "cheek": 1.0,
    "": 0.5,
}
# The same for videos of users: a result keeps the amount of an expression that the tracker sees,
# where the landmarks would give a part of it to the identity.
VIDEO_SCORE_PRIORS = {**SCORE_PRIORS, "eyeSquint": 24.0, "mouthSmile": 30.0, "mouthFrown": 30.0}
# Penalty (mm² a landmark) on a squared standardised identity coefficient.
IDENTITY_PRIOR = 0.15
# Upper bound (mm) of the closed-mouth gap, for speakers who never close their lips.
MAX_CLOSED_GAP_MM = 2.5
# Trackers measure 0.8 mm between lips that meet for a b at 25 frames per second (median over GRID's
# aligned words; 0.15 mm in its silences). So a gap g becomes g³ / (g² + LIP_TOUCH_MM²), which is
# about 0 well below LIP_TOUCH_MM.
LIP_TOUCH_MM = 1.5
MIN_JAW_LEVER_MM = 8.0  # lower bound of jawOpen's opening in the image, for strongly bowed heads
MIDDLE_LIP_PAIRS = 3  # the first pairs, in the middle of the mouth, which measure the gap
CLOSED_GAP_PERCENTILE = 4  # of a person's gaps: everybody closes the lips at some b, m or p
SOLVER_STEPS = 100  # projected gradient steps for the blend-shape weights of fixed poses
UNSEEN_FRAME_WEIGHT = 1e-3  # weight of frames without a face, whose landmarks are interpolated


@dataclass(frozen=True)
class FitSettings:
    """Weights of a fit's terms."""

    smoothness: float = 4.0  # penalty (mm² a landmark) on a weight's squared second difference
    # Weight of a gap between facing lip landmarks, relative to a landmark: a mouth that is
    # shifted by a millimetre goes unnoticed, but not a gap between lips that should meet.
    pair_weight: float = 6.0
    # Weight of the distance between the corners of the mouth, relative to a landmark: the priors
    # would take a quarter of its motion.
    width_weight: float = 20.0
    closed_weight: float = 1.0  # factor on a gap's weight where the lips touch
    # Whether each weight takes gradient steps of its own size, with which weak terms converge beside
    # strong ones.
    own_steps: bool = False
    # See SCORE_PRIORS; the first part of a name that fits counts.
    score_priors: Mapping[str, float] = field(default_factory=lambda: SCORE_PRIORS)


# Landmarks that our own tracker finds in videos jitter less than those of corpora.
VIDEO_FIT_SETTINGS = FitSettings(
    smoothness=2.0,
    pair_weight=10.0,
    closed_weight=80.0,
    own_steps=True,
    score_priors=VIDEO_SCORE_PRIORS,
)


@dataclass(frozen=True, eq=False)
class Capture:
    """A fitted recording of T frames: the person's identity, expression and pose."""

    shapes: np.ndarray  # (T, S) float32 blend-shape weights in [0, 1], as Face.expression_names
    rotation: np.ndarray  # (T, 3, 3) float32
    scale: np.ndarray  # (T,) float32, px per mm
    translation: np.ndarray  # (T, 2) float32, px
    residual: np.ndarray  # (T,) float32 mm, weighted mean distance of landmarks from the model's
    identity: np.ndarray  # (I,) float32 standardised identity coefficients
    time: np.ndarray  # (T,) float64 s
    seen: np.ndarray  # (T,) bool, False where no face was found and the frame is interpolated
    gap: np.ndarray  # (T,) float32 between the lips: 0 closed, 1 as jawOpen at 1; NaN unknown

    @classmethod
    def from_weights(
        cls,
        shapes: np.ndarray,
        time: np.ndarray,
        identity_modes: int,
        rotation: np.ndarray | None = None,
    ) -> Capture:
        """Return a capture of the mean person from known weights (T, S) at `time` (T,) s.

        `rotation` (T, 3, 3) is the head's, by default none; `identity_modes` is the number of
        identity coefficients, which are all zero.
        """
        count = len(shapes)
        if rotation is None:
            rotation = np.tile(np.eye(3), (count, 1, 1))
        return cls(
            shapes=shapes.astype(np.float32),
            rotation=rotation.astype(np.float32),
            scale=np.ones(count, np.float32),
            translation=np.zeros((count, 2), np.float32),
            residual=np.zeros(count, np.float32),
            identity=np.zeros(identity_modes, np.float32),
            time=time,
            seen=np.ones(count, bool),
            gap=np.full(count, np.nan, np.float32),
        )

    def motion(self, face: Face) -> Motion:
        """Return the recording's motion on the canonical face."""
        return Motion.from_weights(face, self.time, self.shapes)


# The fields of a capture that have a row per frame.
FRAME_FIELDS = tuple(f.name for f in fields(Capture) if f.name != "identity")


@dataclass(frozen=True, eq=False)
class Regularisation:
    """Penalties of a fit of the F observed blend shapes."""

    prior: np.ndarray  # (F,) penalty (mm² a landmark) on squared weights
    smoothness: float  # see FitSettings
    expected: np.ndarray | None = None  # (T, F) predicted weights, NaN where there is none
    # (F,) penalty (mm² a landmark) on the deviation from them; None for the settings' priors.
    expected_prior: np.ndarray | None = None


@dataclass(frozen=True, eq=False)
class FrameFit:
    """Pose and expression fitted to T frames of P landmarks for a fixed identity."""

    shapes: np.ndarray  # (T, S) blend-shape weights
    pose: Pose
    points: np.ndarray  # (T, P, 3) mm, the model's landmarks
    robust: np.ndarray  # (T, P) weights of the landmarks
    residual: np.ndarray  # (T,) mm
    pixels: np.ndarray  # (T, P, 2) the fitted landmarks as scaled orthography shows them

    def offsets_px(self) -> np.ndarray:
        """Return the offset (T, P, 2) px of the landmarks from the model's."""
        return self.pixels - project(self.points, *self.pose)


@contextmanager
def refuse_unfittable() -> Iterator[None]:
    """Raise InputError if landmarks in the block are in one place or too far out for a pose."""
    try:
        with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
            yield
    except np.linalg.LinAlgError:
        raise _unfittable() from None


def _unfittable() -> InputError:
    return InputError(
        "no face fits these landmarks, for instance because all are in one place",
        "leave such frames out, or set them to NaN",
    )


class Fitter:
    """Fits one person's recordings of one kind of landmarks.

    Parameters
    ----------
    face : Face
    schema : LandmarkSchema
        The kind of landmarks, P of them.
    offset : (P, 3), optional
        Mean distance in mm of this kind of landmarks from their vertices.
    settings : FitSettings
    lens : Lens, optional
        A perspective camera; scaled orthography if None.

    Raises
    ------
    InputError
        From its methods, for landmarks that no face fits.
    """

    def __init__(
        self,
        face: Face,
        schema: LandmarkSchema,
        offset: np.ndarray | None = None,
        settings: FitSettings = FitSettings(),
        lens: Lens | None = None,
    ):
        self.face, self.settings, self.lens = face, settings, lens
        self.weights = (schema.weights / schema.weights.max()).astype(np.float32)
        self.mean = (schema.operator @ face.mean).astype(np.float32)
        if offset is not None:
            self.mean = self.mean + offset.astype(np.float32)
        self.pairs, self.corners = schema.lip_pairs, schema.corner_pairs
        # Maps landmarks to the gaps between facing pairs, (Q, P).
        self.gap_operator = differences(self.pairs, len(self.weights))
        # Maps landmarks to the widths of outer and inner lips, (W, P).
        self.width_operator = differences(self.corners, len(self.weights))
        # Gaps of the closed mouth, (Q, 3) mm, None until `learn_closed_mouth` has measured them.
        self.closed_gaps: np.ndarray | None = None
        tensor = face.tensor_at(schema.operator)  # (P, 3, E, I)
        # (P, 3, 1 + S, I): the neutral face, and what each blend shape adds to it.
        self.tensor = np.einsum("pcei,se->pcsi", tensor, face.expression_factor, optimize=True)
        self.tensor[:, :, 1:] -= self.tensor[:, :, :1]
        self.observed = observed_shapes(face)
        names = [face.expression_names[k] for k in self.observed]
        # The identity is fitted to frames in which a person may blink, and is otherwise at rest.
        resting = [0 if name.startswith("eyeBlink") else RESTING_PRIOR for name in names]
        self.resting_prior = np.array(resting)
        self.shape_prior = np.full(len(names), SHAPE_PRIOR)
        self.score_prior = np.array([_first_that_fits(settings.score_priors, n) for n in names])
        mean_person = self.tensor[:, :, 1:] @ face.identity_mean  # (P, 3, S)
        # (S, P, 3) mm, the blend shapes of the mean face at the landmarks.
        self.blend_shapes = np.ascontiguousarray(mean_person.transpose(2, 0, 1))

    def neutral_landmarks(self, identity: np.ndarray) -> np.ndarray:
        """Return the landmarks (P, 3) mm of an identity's neutral face."""
        return self.mean + self.tensor[:, :, 0] @ self.face.identity_weights(identity)

    @refuse_unfittable()
    def fit_person(
        self, recordings: list[np.ndarray], rounds: int = 5
    ) -> tuple[np.ndarray, np.ndarray]:
        """Fit the identity to the first frames of a person's recordings.

        Expressions are strongly penalised, so that they do not explain what the identity should.

        Parameters
        ----------
        recordings : list of (T, P, 2) arrays
            Landmarks in pixels.

        Returns
        -------
        identity : (FITTED_IDENTITY_MODES,) float32
            Standardised identity coefficients.
        offset : (P, 3)
            Median distance in mm, in the plane of the face, of the landmarks from the model's. Its
            mean over many people is a Fitter's `offset`.
        """
        chosen = [_first_frames(landmarks, self.gap_operator) for landmarks in recordings]
        return self.fit_identity(np.concatenate(chosen), rounds=rounds)

    @refuse_unfittable()
    def fit_identity(
        self,
        landmarks: np.ndarray,
        expected: np.ndarray | None = None,
        rounds: int = 5,
        resting: bool = False,
    ) -> tuple[np.ndarray, np.ndarray]:
        """Fit the identity to frames of a person.

        Parameters
        ----------
        landmarks : (K, P, 2)
            In pixels, all of them finite.
        expected : (K, S), optional
            Weights of the expressions of these frames, NaN where unknown; by default those of a
            face at rest. Deviations from them are strongly penalised.
        resting : bool
            Whether it is known that the person is at rest in these frames, but for blinks.

        Returns
        -------
        identity, offset
            As `fit_person`.
        """
        pixels = landmarks.astype(np.float32)
        factor = STILL_FACTOR if resting else 1
        regularisation = Regularisation(self.shape_prior + factor * self.resting_prior, 0.0)
        if expected is not None:
            known = np.nan_to_num(expected[:, self.observed])
            prior = np.maximum(self.score_prior, self.resting_prior)
            regularisation = Regularisation(self.shape_prior, 0.0, known, prior)
        identity = np.zeros(FITTED_IDENTITY_MODES, np.float32)
        for _ in range(rounds):
            fit = self._fit_frames(pixels, identity, 2, regularisation)
            identity = self._fit_identity(fit, identity)
        if not np.isfinite(identity).all():
            raise _unfittable()
        flip = np.array([1, -1], np.float32)  # the image's y axis points down
        in_image = fit.offsets_px() / fit.pose.scale[:, None, None] * flip
        offset = np.einsum("tpr,trc->tpc", in_image, fit.pose.rotation[:, :2])
        return identity, np.median(offset, axis=0)

    def _fit_identity(self, fit: FrameFit, identity: np.ndarray) -> np.ndarray:
        """Solve for the identity (I,) with pose and expression fixed: Gaussian prior, linear."""
        ones = np.ones((len(fit.shapes), 1), np.float32)
        factors = np.concatenate([ones, fit.shapes], axis=1)
        modes = self.tensor @ self.face.identity_scale[:, : len(identity)]  # (P, 3, 1 + S, I)
        design = np.einsum("ts,pcsz->tpcz", factors, modes, optimize=True)
        axes = image_axes(fit.pose.rotation)
        design = np.einsum("trc,tpcz->tprz", axes, design, optimize=True)
        residual = fit.offsets_px() / fit.pose.scale[:, None, None] + design @ identity
        rows = design.reshape(-1, len(identity))
        weights = np.repeat(fit.robust.ravel(), 2)
        normal = (rows * weights[:, None]).T @ rows
        right = rows.T @ (weights * residual.ravel())
        # Frames of one person are strongly correlated, so the prior grows with their number.
        prior = IDENTITY_PRIOR * fit.robust.sum() / 10 * np.eye(len(identity))
        return np.linalg.solve(normal + prior, right).astype(np.float32)

    def learn_closed_mouth(self, recordings: list[np.ndarray], identity: np.ndarray) -> None:
        """Measure the gaps of a person's closed mouth for later fits, see `fit_person`."""
        regularisation = Regularisation(self.shape_prior, self.settings.smoothness)
        flip = np.array([1, -1], np.float32)  # the image's y axis points down
        gaps = []
        for landmarks in recordings:
            pixels = landmarks[np.isfinite(landmarks).all((1, 2))].astype(np.float32)
            if len(pixels):
                fit = self._fit_frames(pixels, identity, 2, regularisation)
                in_image = np.einsum("qp,tpr->tqr", self.gap_operator, fit.pixels)
                in_image = in_image / fit.pose.scale[:, None, None] * flip
                gaps.append(np.einsum("tqr,trc->tqc", in_image, fit.pose.rotation[:, :2]))
        closed = self.gap_operator @ self.neutral_landmarks(identity)
        measured = np.percentile(np.concatenate(gaps)[..., 1], CLOSED_GAP_PERCENTILE, axis=0)
        closed[:, 1] = np.minimum(measured, MAX_CLOSED_GAP_MM)
        self.closed_gaps = closed

    @refuse_unfittable()
    def fit(
        self,
        landmarks: np.ndarray,
        time: np.ndarray,
        identity: np.ndarray,
        rounds: int = 4,
        expected: np.ndarray | None = None,
    ) -> Capture:
        """Fit a recording.

        Parameters
        ----------
        landmarks : (T, P, 2)
            In pixels, NaN where no face was found.
        time : (T,)
            In s.
        identity : (I,)
            The person's standardised identity coefficients.
        expected : (T, S), optional
            Predicted blend-shape weights, NaN where there is no prediction.

        Raises
        ------
        ValueError
            If no frame has a face.
        """
        seen = np.isfinite(landmarks).all((1, 2))
        if not seen.any():
            raise ValueError("no frame has a face")
        fit = self._fit_frames(
            _interpolated(landmarks, seen),
            identity,
            rounds,
            Regularisation(
                self.shape_prior,
                self.settings.smoothness,
                None if expected is None else expected[:, self.observed],
            ),
            np.where(seen, 1.0, UNSEEN_FRAME_WEIGHT).astype(np.float32),
        )
        if not all(np.isfinite(array).all() for array in (fit.shapes, *fit.pose)):
            raise _unfittable()
        return Capture(
            fit.shapes.astype(np.float32),
            *fit.pose,
            fit.residual.astype(np.float32),
            identity.astype(np.float32),
            np.asarray(time, np.float64),
            seen,
            self._relative_gap(fit).astype(np.float32),
        )

    def _relative_gap(self, fit: FrameFit) -> np.ndarray:
        """Return the gap (T,) between the lips, relative to jawOpen at weight 1."""
        if self.closed_gaps is None:
            return np.full(len(fit.pixels), np.nan, np.float32)
        middle = self.gap_operator[:MIDDLE_LIP_PAIRS]
        down = image_axes(fit.pose.rotation)[:, 1]  # (T, 3): open gaps are negative along it
        measured = np.einsum("qp,tp->tq", middle, fit.pixels[..., 1]) / fit.pose.scale[:, None]
        gap = np.einsum("tc,qc->tq", down, self.closed_gaps[:MIDDLE_LIP_PAIRS]) - measured
        jaw_open = self.blend_shapes[self.face.expression_names.index("jawOpen")]
        lever = -(down @ (middle @ jaw_open).T).mean(1)
        gap = np.maximum(gap.mean(1), 0)
        return gap**3 / (gap**2 + LIP_TOUCH_MM**2) / np.maximum(lever, MIN_JAW_LEVER_MM)

    def _fit_frames(
        self,
        pixels: np.ndarray,
        identity: np.ndarray,
        rounds: int,
        regularisation: Regularisation,
        frame_weights: np.ndarray | None = None,
    ) -> FrameFit:
        """Fit pose and expression in turns to landmarks (T, P, 2), with weights (T,) of frames."""
        neutral = self.neutral_landmarks(identity)
        shapes = np.zeros((len(pixels), len(self.blend_shapes)), np.float32)
        weights = np.tile(self.weights, (len(pixels), 1))
        if frame_weights is not None:
            weights = weights * frame_weights[:, None]
        robust, points = weights, np.broadcast_to(neutral, (len(pixels), *neutral.shape))
        flat = pixels
        for _ in range(rounds):
            pose = estimate_pose(points, flat, robust)
            if self.lens is not None:
                flat = self.lens.to_orthographic(pixels, points, pose.rotation, pose.scale)
                pose = estimate_pose(points, flat, robust)
            equations = [self._landmark_equations(flat, pose, robust, neutral)]
            landmark_design = equations[0][0]
            if self.closed_gaps is not None:
                lips = self._lip_equations(flat, pose, robust, landmark_design, self.closed_gaps)
                widths = self._width_equations(flat, pose, robust, landmark_design, neutral)
                equations += [lips, widths]
            designs, targets, weights_of_rows = zip(*equations)
            design = np.concatenate(designs, 2)
            target = np.concatenate(targets, 1)
            row_weights = np.concatenate(weights_of_rows, 1)
            # A mean over landmarks, so the effect of priors does not depend on their number. Frames
            # without a face hardly count.
            total = robust.sum(1)
            trust = np.minimum(total / self.weights.sum() * 20, 1) / np.maximum(total, 1e-6)
            row_weights = row_weights * trust[:, None]
            shapes = self._solve_shapes(design, target, row_weights, shapes, regularisation)
            points = neutral + np.tensordot(shapes, self.blend_shapes, 1)
            distance = np.linalg.norm(flat - project(points, *pose), axis=2) / pose.scale[:, None]
            robust = weights / (1 + (distance / ROBUST_DISTANCE_MM) ** 2) ** 2
        residual = (distance * self.weights).sum(1) / self.weights.sum()
        return FrameFit(shapes, pose, points, robust, residual, flat)

    def _landmark_equations(
        self, pixels: np.ndarray, pose: Pose, robust: np.ndarray, neutral: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Return design (T, F, 2·P), target (T, 2·P) mm and weights (T, 2·P) of the landmarks."""
        count, shape_count = len(pixels), len(self.observed)
        shapes = self.blend_shapes[self.observed].reshape(-1, 3)  # (F·P, 3)
        design = image_axes(pose.rotation) @ shapes.T  # (T, 2, F·P)
        design = design.reshape(count, 2, shape_count, -1).transpose(0, 2, 1, 3)
        at_rest = project(np.broadcast_to(neutral, (count, *neutral.shape)), *pose)
        target = (pixels - at_rest) / pose.scale[:, None, None]
        return (
            design.reshape(count, shape_count, -1),
            target.transpose(0, 2, 1).reshape(count, -1),
            np.tile(robust, (1, 2)),
        )

    def _lip_equations(
        self,
        pixels: np.ndarray,
        pose: Pose,
        robust: np.ndarray,
        landmark_design: np.ndarray,
        closed_gaps: np.ndarray,
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Return design (T, F, 2·Q), target (T, 2·Q) mm and weights (T, 2·Q) of the lips' gaps."""
        design, gaps = difference_equations(
            self.gap_operator, closed_gaps, pixels, pose, landmark_design
        )
        apart = np.linalg.norm(gaps, axis=1)
        closed = np.float32(1) / (1 + (apart / np.float32(LIP_TOUCH_MM)) ** 4)
        factor = self.settings.pair_weight * (1 + (self.settings.closed_weight - 1) * closed)
        weights = factor.astype(np.float32) * robust[:, self.pairs].min(2)
        return (*flat_rows(design, gaps), np.tile(weights, (1, 2)))

    def _width_equations(
        self,
        pixels: np.ndarray,
        pose: Pose,
        robust: np.ndarray,
        landmark_design: np.ndarray,
        neutral: np.ndarray,
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Return design (T, F, 2·W), target (T, 2·W) mm and weights (T, 2·W) of mouth widths."""
        design, widths = difference_equations(
            self.width_operator, self.width_operator @ neutral, pixels, pose, landmark_design
        )
        weights = np.float32(self.settings.width_weight) * robust[:, self.corners].min(2)
        return (*flat_rows(design, widths), np.tile(weights, (1, 2)))

    def _solve_shapes(
        self,
        design: np.ndarray,
        target: np.ndarray,
        row_weights: np.ndarray,
        start: np.ndarray,
        regularisation: Regularisation,
    ) -> np.ndarray:
        """Solve R equations per frame for blend-shape weights (T, S) in [0, 1].

        Weighted least squares over all frames together, with a ridge and a penalty on second
        differences over time, by projected accelerated gradient from `start`. `design` is
        (T, F, R), `target` and `row_weights` are (T, R).
        """
        count, shape_count, _ = design.shape
        smoothness = regularisation.smoothness
        weighted = design * row_weights[:, None]
        gram = weighted @ design.transpose(0, 2, 1) + np.diag(regularisation.prior).astype(
            np.float32
        )
        right = (weighted @ target[..., None])[..., 0] - SPARSITY_PRIOR
        if regularisation.expected is not None:
            unknown = np.isnan(regularisation.expected)
            penalty = regularisation.expected_prior
            penalty = self.score_prior if penalty is None else penalty
            prior = np.where(unknown, 0, penalty).astype(np.float32)
            diagonal = np.arange(shape_count)
            gram[:, diagonal, diagonal] += prior
            right += prior * np.nan_to_num(regularisation.expected)
        # The largest row sum bounds the largest eigenvalue; each row's own sum bounds its curvature.
        curvature = np.abs(gram).sum(2) + 16 * smoothness
        if not self.settings.own_steps:
            curvature = curvature.max(keepdims=True)
        step = (1 / curvature).astype(np.float32)

        def gradient(shapes: np.ndarray) -> np.ndarray:
            result = (gram @ shapes[..., None])[..., 0] - right
            if smoothness and count > 2:
                second = np.diff(shapes, 2, axis=0) * np.float32(smoothness)
                result[:-2] += second
                result[1:-1] -= 2 * second
                result[2:] += second
            return result

        shapes = np.zeros_like(start)
        shapes[:, self.observed] = accelerated_projection(
            gradient, start[:, self.observed], step, SOLVER_STEPS
        )
        return shapes


def _first_that_fits(priors: Mapping[str, float], name: str) -> float:
    """Return the penalty of the first part of a blend shape's name that is among `priors`."""
    return next(prior for start, prior in priors.items() if name.startswith(start))


def _interpolated(landmarks: np.ndarray, seen: np.ndarray) -> np.ndarray:
    """Return landmarks (T, P, 2) float32 with frames that are not `seen` (T,) interpolated."""
    result = np.array(landmarks, np.float32, order="C")
    if not seen.all():
        known = np.flatnonzero(seen)
        columns = result.reshape(len(result), -1)
        for column in range(columns.shape[1]):
            columns[:, column] = np.interp(np.arange(len(result)), known, columns[known, column])
    return result


def _first_frames(landmarks: np.ndarray, gap_operator: np.ndarray) -> np.ndarray:
    """Return the FIRST_FRAMES / 3 of a recording's first frames whose mouths are closest to closed.

    `landmarks` are (T, P, 2); `gap_operator` (Q, P) maps them to gaps between the lips. Without lip
    pairs, the frames with the lowest faces are taken.
    """
    count = FIRST_FRAMES if len(landmarks) < LONG_RECORDING_FRAMES else 6 * FIRST_FRAMES
    first = landmarks[np.isfinite(landmarks).all((1, 2))][:count]
    if len(gap_operator):
        height = np.linalg.norm(gap_operator @ first, axis=2).mean(1)
    else:
        height = np.ptp(first[..., 1], axis=1)
    order = np.argsort(height / np.maximum(np.ptp(first[..., 0], axis=1), 1))
    return first[order[: FIRST_FRAMES // 3]]
