"""Augmentation of emotions: hand-set expressions on captures (3D-TalkEmo, section 3.1, Figure 3).

Landmarks show little of a frown, and actors show most emotions in few frames. So many identities
of the bilinear model get a calm face and one for each emotion, set by hand. For a captured face the
identity with the nearest calm face is found, and its displacement from calm to emotional is added,
with the animator's weights for the upper and the lower face.

The expressions are the prototypes of EMFACS: the action units (AU) that Friesen and Ekman (1983,
"EMFACS-7: Emotional Facial Action Coding System") list for each emotion, as blend-shape weights.
Each weight varies from identity to identity and between the sides of a face.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import numpy as np

from ..face.canonical import Face
from ..geometry.meshes import boundary_loops
from ..geometry.numerics import smoothstep

CANDIDATE_IDENTITIES = 120  # identities with hand-set expressions
CANDIDATE_IDENTITY_MODES = 30  # identity coefficients in which they differ
# Blend-shape weights on both sides, for the upper and the lower face. Some are above 1, because the
# blend shapes are means over people who do not all frown hard. The lower face of emotions that do
# not open the mouth keeps closed lips closed. EMFACS has no calm: awake eyes and a faint smile.
EMFACS_EXPRESSIONS: dict[str, dict[str, dict[str, float]]] = {
    "calm": {  # a faint AU 12, lids open (AU 5A)
        "upper": {"eyeWide": 0.25, "browOuterUp": 0.12, "cheekSquint": 0.1},
        "lower": {"mouthSmile": 0.12, "mouthDimple": 0.1},
    },
    "happy": {  # AU 6 + 12
        "upper": {"cheekSquint": 0.9, "eyeSquint": 0.5, "browOuterUp": 0.2},
        "lower": {"mouthSmile": 0.7, "mouthDimple": 0.25, "cheekSquint": 0.6},
    },
    "sad": {  # AU 1 + 4 + 15 + 17, lids lower (AU 43)
        "upper": {"browInnerUp": 1.15, "browDown": 0.5, "eyeBlink": 0.25, "eyeSquint": 0.2},
        "lower": {"mouthFrown": 1.2, "mouthShrugLower": 0.5, "jawOpen": 0.1},
    },
    "angry": {  # AU 4 + 7 + 17 + 23 + 24; AU 9 and 2 make browDown's straight brows slope inwards
        "upper": {"browDown": 1.8, "noseSneer": 0.9, "browOuterUp": 0.45, "eyeSquint": 0.5},
        "lower": {
            "mouthPress": 0.6,
            "mouthShrugLower": 0.5,
            "mouthRollLower": 0.35,
            "mouthRollUpper": 0.3,
            "mouthFrown": 0.15,
            "mouthPucker": 0.12,
            "jawOpen": 0.165,
        },
    },
    "fearful": {  # AU 1 + 2 + 4 + 5 + 7 + 20 + 26
        "upper": {"browInnerUp": 1.2, "browOuterUp": 0.4, "browDown": 0.75, "eyeWide": 1.1},
        "lower": {"mouthStretch": 1.0, "jawOpen": 0.12, "mouthLowerDown": 0.2},
    },
    "disgust": {  # AU 9 + 15 + 16
        "upper": {"noseSneer": 1.0, "browDown": 0.4, "eyeSquint": 0.6, "eyeBlink": 0.1},
        "lower": {
            "noseSneer": 0.9,
            "mouthUpperUp": 0.4,
            "mouthFrown": 0.6,
            "mouthShrugLower": 0.5,
        },
    },
    "surprised": {  # AU 1 + 2 + 5 + 26
        "upper": {"browInnerUp": 1.1, "browOuterUp": 1.1, "eyeWide": 1.0},
        "lower": {"jawOpen": 0.35, "mouthFunnel": 0.1},
    },
}
WEIGHT_VARIATION = 0.2  # standard deviation of a weight's factor between identities
WEIGHT_ASYMMETRY = 0.12  # the same between the two sides of a face
# Distances in mm on the chart: up to the first a region's weight is 1, from the second on 0.
UPPER_FADE_MM = (30.0, 75.0)  # from the inner boundaries of the eyes
LOWER_FADE_MM = (25.0, 60.0)  # from the inner boundary of the mouth
MOUTH_CLEARANCE_MM = (5.0, 40.0)  # over which the upper region fades out near the mouth
EYE_CLEARANCE_MM = (5.0, 20.0)  # over which the lower region fades out near the eyes


@dataclass(frozen=True, eq=False)
class Candidates:
    """Calm faces of N identities, and the displacement to each emotional face."""

    features: np.ndarray  # (N, 68, 3) mm, the iBUG landmarks of the calm faces
    displacement: dict[str, np.ndarray]  # emotion → (N, V, 3) mm

    def nearest(self, features: np.ndarray) -> int:
        """The candidate with the calm landmarks nearest to (68, 3) mm, up to a translation."""
        centred = features - features.mean(0)
        candidates = self.features - self.features.mean(1, keepdims=True)
        return int(np.square(candidates - centred).sum((1, 2)).argmin())


def part_weights(face: Face) -> dict[str, np.ndarray]:
    """Weights (V,) float32 in [0, 1] of the upper and the lower face.

    They fall with the distance on the chart from the boundaries of the eyes and the mouth.
    """
    from scipy.spatial import cKDTree

    eyes, mouth = inner_boundaries(face)
    to_mouth, _ = cKDTree(face.chart[mouth]).query(face.chart)
    to_eyes, _ = cKDTree(face.chart[eyes]).query(face.chart)
    # Brows must not move the lips, nor a grin the lids.
    upper = _fade(to_eyes, *UPPER_FADE_MM) * (1 - _fade(to_mouth, *MOUTH_CLEARANCE_MM))
    lower = _fade(to_mouth, *LOWER_FADE_MM) * (1 - _fade(to_eyes, *EYE_CLEARANCE_MM))
    return {"upper": upper.astype(np.float32), "lower": lower.astype(np.float32)}


def _fade(distance: np.ndarray, start: float, end: float) -> np.ndarray:
    """1 up to `start`, 0 from `end` on."""
    return smoothstep((end - distance) / (end - start))


def inner_boundaries(face: Face) -> tuple[np.ndarray, np.ndarray]:
    """Vertices of the boundary loops of both eyes, and of the mouth."""
    loops = boundary_loops(face.faces, len(face.mean))
    # The outer rim is the widest loop, the mouth the lowest of the others.
    loops.sort(key=lambda loop: -np.ptp(face.mean[loop], axis=0).sum())
    inner = sorted(loops[1:4], key=lambda loop: face.mean[loop, 1].mean())
    return np.concatenate(inner[1:]), inner[0]


@lru_cache(maxsize=1)
def candidates(face: Face, people: int = CANDIDATE_IDENTITIES, seed: int = 0) -> Candidates:
    """Sample identities, the first being the mean, with their calm and emotional faces."""
    rng = np.random.default_rng(seed)
    coefficients = rng.standard_normal((people, CANDIDATE_IDENTITY_MODES))
    identity = face.identity_weights(coefficients * (np.arange(people) > 0)[:, None])
    calm = face.expression_weights(np.zeros(len(face.expression_names)))
    # The expression model of each identity.
    core = np.einsum("rei,pi->pre", face.core, identity, optimize=True)
    basis = face.basis.reshape(len(face.basis), -1)
    landmark_basis = face.basis[:, face.landmarks68].reshape(len(face.basis), -1)
    landmarks = face.mean[face.landmarks68] + ((core @ calm) @ landmark_basis).reshape(
        people, -1, 3
    )
    regions = part_weights(face)
    displacement = {}
    for emotion, expression in EMFACS_EXPRESSIONS.items():
        displacement[emotion] = np.zeros((people, *face.mean.shape), np.float32)
        for region, amounts in expression.items():
            weights = people_amounts(face, amounts, people, rng)
            steps = np.stack([face.expression_weights(row) - calm for row in weights])  # (P, E)
            offset = (np.einsum("pre,pe->pr", core, steps) @ basis).reshape(people, -1, 3)
            displacement[emotion] += (offset * regions[region][None, :, None]).astype(np.float32)
    return Candidates(landmarks, displacement)


def people_amounts(
    face: Face, amounts: dict[str, float], people: int, rng: np.random.Generator
) -> np.ndarray:
    """Blend-shape weights (people, S) float32 of an expression, varied for all but the first."""
    names = face.expression_names
    without_side = [name[:-2] if name.endswith(("_L", "_R")) else name for name in names]
    variation = {
        name: 1 + WEIGHT_VARIATION * rng.standard_normal(people)
        for name in dict.fromkeys(without_side)
    }
    asymmetry = WEIGHT_ASYMMETRY * rng.standard_normal((people, len(names)))
    factor = np.stack([variation[name] for name in without_side], 1) + asymmetry
    factor[0] = 1
    return (face.weight_vector(amounts) * factor.clip(0.4, 1.6)).astype(np.float32)


def calm_features(face: Face, identity: np.ndarray) -> np.ndarray:
    """iBUG landmarks (68, 3) mm of the calm face of standardised identity coefficients (I,)."""
    calm = face.expression_weights(np.zeros(len(face.expression_names)))
    return face.vertices(calm, face.identity_weights(identity))[face.landmarks68]


def add_expression(
    face: Face,
    displacement: np.ndarray,
    emotion: str,
    features: np.ndarray | None = None,
    weight: float = 1.0,
) -> np.ndarray:
    """Add the hand-set expression of an emotion to a face.

    Parameters
    ----------
    displacement : (T, V, 3) mm
    emotion
        neutral returns the displacement unchanged.
    features : (68, 3) mm
        iBUG landmarks of the person's calm face; by default the canonical face's.
    weight
        Of the expression of the nearest candidate.

    Returns
    -------
    (T, V, 3) mm
    """
    if emotion not in EMFACS_EXPRESSIONS:
        return displacement
    samples = candidates(face)
    landmarks = face.mean[face.landmarks68] if features is None else features
    nearest = samples.displacement[emotion][samples.nearest(landmarks)]
    return displacement + np.float32(weight) * nearest
