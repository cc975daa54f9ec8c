"""Oculus's 15 visemes, VRM's expressions and MMD's morphs, fitted to motion of the canonical face.

Each curve has a recipe of ARKit shapes, its pose at weight 1. For each frame, non-negative weights
of the poses are fitted to the vertices of the canonical face, those of visemes to the vertices
around the mouth. A penalty on the weights' sum keeps them sparse. A ridge makes the solution unique
and a continuous function of the motion, so that the curves are as smooth as the motion.

Recipes follow the reference images of Oculus's visemes and the definitions of VRM 1.0. MMD has no
standard: the morphs are those that most of its models have, named as Hatsune Miku's first one. Open
vowels open the mouth as the talking model does. The tongue is not shown, so the consonants that it
makes (TH, DD, kk, nn) differ only slightly, in the lips and jaw.
"""

from __future__ import annotations

from functools import cached_property

import numpy as np

from ..geometry.numerics import bounded_least_squares
from .canonical import ARKIT_NAMES, Face

# Poses at weight 1; a name without Left or Right stands for both sides.
OCULUS_RECIPES: dict[str, dict[str, float]] = {
    "PP": {"jawOpen": 0.12, "mouthClose": 0.12, "mouthPucker": 0.12, "mouthPress": 0.25},
    "FF": {"jawOpen": 0.08, "mouthRollLower": 0.45, "mouthUpperUp": 0.15, "mouthClose": 0.05},
    "TH": {"jawOpen": 0.12, "mouthUpperUp": 0.4, "mouthShrugUpper": 0.35, "mouthRollUpper": 0.1},
    "DD": {"jawOpen": 0.08, "mouthLowerDown": 0.4, "mouthRollUpper": 0.3},
    "kk": {"jawOpen": 0.4, "mouthShrugLower": 0.5},
    "CH": {"mouthFunnel": 0.6, "mouthLowerDown": 0.25, "mouthUpperUp": 0.2},
    "SS": {"mouthStretch": 0.4, "mouthUpperUp": 0.35, "mouthLowerDown": 0.2, "noseSneer": 0.2},
    "nn": {"jawOpen": 0.12, "mouthLowerDown": 0.1, "mouthDimple": 0.4},
    "RR": {"mouthFunnel": 0.3, "mouthPucker": 0.2, "mouthShrugUpper": 0.3, "jawOpen": 0.12},
    "aa": {
        "jawOpen": 0.45,
        "mouthLowerDown": 0.45,
        "mouthUpperUp": 0.28,
        "noseSneer": 0.3,
        "mouthStretch": 0.1,
    },
    "E": {"jawOpen": 0.25, "mouthStretch": 0.55, "mouthLowerDown": 0.5, "mouthUpperUp": 0.2},
    "ih": {"jawOpen": 0.15, "mouthSmile": 0.35, "mouthLowerDown": 0.3, "mouthUpperUp": 0.25},
    "oh": {"jawOpen": 0.4, "mouthPucker": 0.45, "mouthFunnel": 0.2, "mouthLowerDown": 0.15},
    "ou": {"mouthPucker": 0.6, "jawOpen": 0.12, "mouthFrown": 0.15},
}
VRM_MOUTH_RECIPES = {
    "aa": OCULUS_RECIPES["aa"],
    "ih": {"jawOpen": 0.08, "mouthStretch": 0.4, "mouthUpperUp": 0.35, "mouthLowerDown": 0.2},
    "ou": OCULUS_RECIPES["ou"],
    "ee": {"jawOpen": 0.2, "mouthStretch": 0.45, "mouthSmile": 0.2, "mouthLowerDown": 0.4},
    "oh": OCULUS_RECIPES["oh"],
}
VRM_EMOTION_RECIPES: dict[str, dict[str, float]] = {
    "happy": {"mouthSmile": 0.9, "mouthDimple": 0.25, "cheekSquint": 0.7, "eyeSquint": 0.4},
    "angry": {"browDown": 1.0, "noseSneer": 0.3, "mouthPress": 0.5, "mouthShrugLower": 0.3},
    "sad": {"browInnerUp": 0.9, "mouthFrown": 0.9, "mouthShrugLower": 0.6},
    "relaxed": {"mouthSmile": 0.3, "browOuterUp": 0.1},
    "surprised": {"browInnerUp": 0.9, "browOuterUp": 0.9, "eyeWide": 0.8},
}
# VRM's expressions that are the mean of the ARKit weights of these shapes.
VRM_GAZE_SHAPES = {
    "lookUp": ("eyeLookUpLeft", "eyeLookUpRight"),
    "lookDown": ("eyeLookDownLeft", "eyeLookDownRight"),
    "lookLeft": ("eyeLookOutLeft", "eyeLookInRight"),
    "lookRight": ("eyeLookInLeft", "eyeLookOutRight"),
}
VRM_BLINKS = ("blink", "blinkLeft", "blinkRight")
# MMD's vowels, and the corners of the mouth (a grin; corners down).
MMD_MOUTH_RECIPES = dict(zip("あいうえお", VRM_MOUTH_RECIPES.values()))
MMD_EMOTION_RECIPES = {
    "にやり": {"mouthSmile": 0.9, "mouthDimple": 0.25},
    "口角下げ": {"mouthFrown": 0.9, "mouthShrugLower": 0.3},
}
# MMD's blinks (both eyes, left, right), eyes wide open, and brows: worried, up, angry.
MMD_UPPER_FACE = ("まばたき", "ウィンク２", "ｳｨﾝｸ２右", "びっくり", "困る", "上", "怒り")
OCULUS_NAMES = ("sil", *OCULUS_RECIPES)
VRM_NAMES = (
    "neutral",
    *VRM_EMOTION_RECIPES,
    *VRM_MOUTH_RECIPES,
    *VRM_BLINKS,
    *VRM_GAZE_SHAPES,
)
MMD_NAMES = (*MMD_MOUTH_RECIPES, *MMD_EMOTION_RECIPES, *MMD_UPPER_FACE)
CURVE_NAMES = {
    "arkit": tuple(ARKIT_NAMES),
    "oculus": OCULUS_NAMES,
    "vrm": VRM_NAMES,
    "mmd": MMD_NAMES,
}
# Poses of speech and of emotions of each kind. Oculus has none of emotions, so VRM's explain what
# is no speech in motion of unknown origin.
MOUTH_RECIPES = {"oculus": OCULUS_RECIPES, "vrm": VRM_MOUTH_RECIPES, "mmd": MMD_MOUTH_RECIPES}
EMOTION_RECIPES = {"vrm": VRM_EMOTION_RECIPES, "mmd": MMD_EMOTION_RECIPES}

RIDGE = 0.005  # penalty on the squared displacement of each pose, relative to the fit's error
SPARSITY = 0.04  # penalty on the sum of the poses' displacements, relative to the median pose
# Factor on SPARSITY for consonants that the tongue makes. Without it, a slightly open mouth would
# be shown as TH, with the tongue out.
TONGUE_PENALTY = {"TH": 2.0, "DD": 1.5, "kk": 1.5, "nn": 1.5}
VISEME_FIT_ITERATIONS = 600


class CurveFit:
    """Computes curves of one kind from motion of the canonical face.

    Parameters
    ----------
    face : Face
        The canonical face.
    kind : str
        A key of CURVE_NAMES.
    """

    def __init__(self, face: Face, kind: str):
        self.face, self.kind, self.names = face, kind, CURVE_NAMES[kind]

    def __call__(
        self,
        arkit: np.ndarray,
        speech: np.ndarray | None = None,
        emotion: np.ndarray | None = None,
    ) -> np.ndarray:
        """Return the curves (T, C) in [0, 1].

        Parameters
        ----------
        arkit : (T, 52)
            ARKit weights. With oculus, vrm and mmd they give blinks, gaze and MMD's brows, and the
            mouth and the emotion if `speech` is unknown.
        speech, emotion : (T, S), optional
            Coordinates of the speech alone, and what the emotion adds to them. With them, a smile
            is not mistaken for a vowel.
        """
        arkit = np.asarray(arkit, np.float64).clip(0, 1)
        if self.kind == "arkit":
            return arkit
        if speech is None or emotion is None:
            motion = arkit @ self._arkit_coordinates
            weights = self._mouth_and_emotions.fit(motion)[:, : len(self._mouth_recipes)]
            emotion = motion - weights @ self._mouth.poses  # a vowel is no smile
        else:
            weights = self._mouth.fit(speech)
        mouth = _at_most_one(weights)
        if self.kind == "oculus":
            return np.column_stack([(1 - mouth.sum(1)).clip(0), mouth])
        emotions = _at_most_one(self._emotions.fit(emotion))
        if self.kind == "mmd":
            return np.column_stack([mouth, emotions, *_mmd_upper_face(arkit)])
        neutral = (1 - mouth.sum(1) - emotions.sum(1)).clip(0, 1)
        return np.column_stack([neutral, emotions, mouth, *_blinks_and_gaze(arkit)])

    @property
    def _mouth_recipes(self) -> dict[str, dict[str, float]]:
        return MOUTH_RECIPES[self.kind]

    @cached_property
    def _arkit_coordinates(self) -> np.ndarray:
        """(52, S), coordinates of each of ARKit's shapes."""
        return (self.face.arkit_matrix > 0).T @ self.face.weights_to_coordinates.astype(np.float64)

    @cached_property
    def _mouth(self) -> _Poses:
        """The poses of speech, fitted to the vertices around the mouth."""
        return self._poses(self._mouth_recipes, self._mouth_metric)

    @cached_property
    def _mouth_and_emotions(self) -> _Poses:
        """The poses of speech and of emotions, for motion in which both are mixed."""
        emotions = {f"emotion {name}": recipe for name, recipe in VRM_EMOTION_RECIPES.items()}
        return self._poses(self._mouth_recipes | emotions, self._mouth_metric)

    @cached_property
    def _mouth_metric(self) -> np.ndarray:
        """(S, S), inner products of the coordinates' displacements around the mouth."""
        moved = self.face.mouth_weight > 0
        span = self.face.span[:, moved] * np.sqrt(self.face.mouth_weight[moved])[:, None]
        span = span.reshape(len(span), -1).astype(np.float64)
        return np.asarray(span @ span.T)

    @cached_property
    def _emotions(self) -> _Poses:
        """The poses of emotions, fitted to all vertices."""
        return self._poses(EMOTION_RECIPES[self.kind], np.eye(len(self.face.span)))

    def _poses(self, recipes: dict[str, dict[str, float]], metric: np.ndarray) -> _Poses:
        weights = np.stack([recipe_weights(recipe) for recipe in recipes.values()])
        penalty = np.array([TONGUE_PENALTY.get(name, 1.0) for name in recipes])
        return _Poses(weights @ self._arkit_coordinates, metric, penalty)


class _Poses:
    """Poses (P, S) whose weights are fitted to motion, with a metric (S, S) of coordinates.

    `penalty` (P,) multiplies SPARSITY.
    """

    def __init__(self, poses: np.ndarray, metric: np.ndarray, penalty: np.ndarray):
        self.poses = poses
        self.size = np.sqrt(np.einsum("ps,st,pt->p", poses, metric, poses))
        # Poses are scaled to the same size: a small one, such as pressed lips, counts as much.
        scaled = poses / self.size[:, None]
        self.to_target = metric @ scaled.T
        self.penalty = SPARSITY * np.median(self.size) * penalty
        self.gram = scaled @ self.to_target + RIDGE * np.eye(len(poses))

    def fit(self, coordinates: np.ndarray) -> np.ndarray:
        """Return the weights (T, P) in [0, 1] of the poses for coordinates (T, S)."""
        target = coordinates @ self.to_target - self.penalty
        fitted = bounded_least_squares(self.gram, target, VISEME_FIT_ITERATIONS, upper=self.size)
        return np.asarray(fitted / self.size).clip(0, 1)


def _blinks_and_gaze(arkit: np.ndarray) -> list[np.ndarray]:
    """Return VRM's curves of blinks and gaze, (T,) each, of ARKit weights (T, 52)."""
    return [*_blinks(arkit), *(_mean(arkit, *shapes) for shapes in VRM_GAZE_SHAPES.values())]


def _mmd_upper_face(arkit: np.ndarray) -> list[np.ndarray]:
    """Return the curves of MMD_UPPER_FACE, (T,) each, of ARKit weights (T, 52)."""
    wide, outer, down = (
        _mean(arkit, f"{shape}Left", f"{shape}Right")
        for shape in ("eyeWide", "browOuterUp", "browDown")
    )
    worried = (_mean(arkit, "browInnerUp") - outer).clip(0)  # brows that are up as a whole are not
    return [*_blinks(arkit), wide, worried, outer, down]


def _blinks(arkit: np.ndarray) -> list[np.ndarray]:
    """Return how far both eyes are closed, and how far the left and the right one beyond that."""
    left, right = (_mean(arkit, f"eyeBlink{side}") for side in ("Left", "Right"))
    both = np.minimum(left, right)  # the curves of one side add to it
    return [both, left - both, right - both]


def _mean(arkit: np.ndarray, *shapes: str) -> np.ndarray:
    """Return the mean weight (T,) of shapes."""
    return arkit[:, [ARKIT_NAMES.index(shape) for shape in shapes]].mean(1)


def recipe_weights(recipe: dict[str, float]) -> np.ndarray:
    """Return the ARKit weights (52,) of a recipe."""
    return np.array([recipe.get(name, recipe.get(_base(name), 0.0)) for name in ARKIT_NAMES])


def _base(name: str) -> str:
    return name.removesuffix("Left").removesuffix("Right")


def _at_most_one(weights: np.ndarray) -> np.ndarray:
    """Scale weights (T, C) down in frames where their sum is above 1."""
    return np.asarray(weights / np.maximum(weights.sum(1, keepdims=True), 1))
