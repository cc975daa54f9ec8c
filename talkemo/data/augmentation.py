"""Augmentation of emotions (3D-TalkEmo, section 3.1 and Figure 3): an animator's brows and grins on captured faces.

Landmarks show little of a frown, and actors show it in few frames. So many people of the bilinear model have a calm
face and, set by hand, raised brows, lowered brows and a grin. For a captured face, the person with the nearest calm
face is found, and the displacement from calm to emotional is added: over the upper face for surprise and anger, over
the lower face for happiness.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import numpy as np

from ..face import Face
from ..geometry import boundary_loops, smoothstep

PEOPLE = 120  # of the bilinear model, with an animator's faces
PEOPLE_MODES = 30  # identity coefficients in which they differ
# What an animator sets: the part of the face that is used, and weights of blend shapes, on both sides. An angry glare
# lowers the brows and keeps the lids open.
EXPRESSIONS: dict[str, tuple[str, dict[str, float]]] = {
    "surprised": ("upper", {"browInnerUp": 1.1, "browOuterUp": 1.1, "eyeWide": 0.8}),
    "angry": ("upper", {"browDown": 0.75, "eyeWide": 0.5}),
    "happy": ("lower", {"mouthSmile": 1.0, "mouthDimple": 0.3, "cheekSquint": 0.6}),
}
# mm in the chart, from the inner boundaries of the eyes (upper part) and of the mouth (lower part): up to the first
# distance the weight is 1, from the second on 0.
UPPER, LOWER = (30.0, 75.0), (25.0, 60.0)


@dataclass(frozen=True, eq=False)
class Candidates:
    """Calm people with the displacement to each emotional face.

    features: (N, 68, 3) mm, the iBUG points of the calm faces
    displacement: emotion → (N, V, 3) mm, weighted by the part of the face
    """

    features: np.ndarray
    displacement: dict[str, np.ndarray]

    def nearest(self, features: np.ndarray) -> int:
        """The candidate whose calm face has its feature points nearest to (68, 3) mm, up to a translation."""
        centred = features - features.mean(0)
        own = self.features - self.features.mean(1, keepdims=True)
        return int(np.square(own - centred).sum((1, 2)).argmin())


def part_weights(face: Face) -> dict[str, np.ndarray]:
    """Weights (V,) in [0, 1] of the upper and the lower face, by the distance from the boundaries of eyes and mouth."""
    from scipy.spatial import cKDTree

    eyes, mouth = inner_boundaries(face)
    to_mouth, to_eyes = cKDTree(face.chart[mouth]).query(face.chart)[0], cKDTree(face.chart[eyes]).query(face.chart)[0]
    # Brows must not move lips, nor a grin lids: near the mouth the upper part fades, near the eyes the lower part.
    upper, lower = (
        _fall(to_eyes, *UPPER) * (1 - _fall(to_mouth, 5.0, 40.0)),
        _fall(to_mouth, *LOWER) * (1 - _fall(to_eyes, 5.0, 20.0)),
    )
    return {"upper": upper.astype(np.float32), "lower": lower.astype(np.float32)}


def _fall(distance: np.ndarray, full: float, none: float) -> np.ndarray:
    return smoothstep((none - distance) / (none - full))


def inner_boundaries(face: Face) -> tuple[np.ndarray, np.ndarray]:
    """Vertices of the boundary loops of both eyes, and of the mouth."""
    loops = boundary_loops(face.faces, len(face.mean))
    # The outer rim is the widest loop, the mouth the lowest of the others.
    loops.sort(key=lambda loop: -np.ptp(face.mean[loop], axis=0).sum())
    inner = sorted(loops[1:4], key=lambda loop: face.mean[loop, 1].mean())
    return np.concatenate(inner[1:]), inner[0]


@lru_cache(maxsize=1)
def candidates(face: Face, people: int = PEOPLE, seed: int = 0) -> Candidates:
    """People of the bilinear model, the first its mean, with their calm and emotional faces."""
    rng = np.random.default_rng(seed)
    z = rng.standard_normal((people, PEOPLE_MODES)) * (np.arange(people) > 0)[:, None]
    who = face.identity_weights(z)
    calm = face.expression_weights(np.zeros(len(face.expression_names)))
    core = np.einsum("rei,pi->pre", face.core, who, optimize=True)  # each person's own expression model
    flat = face.basis.reshape(len(face.basis), -1)
    points = face.basis[:, face.landmarks68].reshape(len(face.basis), -1)
    features = face.mean[face.landmarks68] + ((core @ calm) @ points).reshape(people, -1, 3)
    parts = part_weights(face)
    displacement = {}
    for emotion, (part, amounts) in EXPRESSIONS.items():
        step = face.expression_weights(face.shape_vector(amounts)) - calm
        moved = ((core @ step) @ flat).reshape(people, -1, 3)
        displacement[emotion] = (moved * parts[part][None, :, None]).astype(np.float32)
    return Candidates(features, displacement)


def calm_features(face: Face, identity: np.ndarray) -> np.ndarray:
    """The iBUG points (68, 3) mm of the calm face of a person with standardised identity coefficients (I,)."""
    calm = face.expression_weights(np.zeros(len(face.expression_names)))
    return face.vertices(calm, face.identity_weights(identity))[face.landmarks68]


def augment(
    face: Face, displacement: np.ndarray, emotion: str, features: np.ndarray | None = None, weight: float = 1.0
) -> np.ndarray:
    """Displacements (T, V, 3) mm of a face with an animator's emotion added.

    emotion: angry, surprised or happy; any other leaves the face as it is
    features: (68, 3) mm, the iBUG points of the person's calm face; the canonical face's if None
    weight: the animator's, times the displacement of the nearest calm face
    """
    if emotion not in EXPRESSIONS:
        return displacement
    known = candidates(face)
    own = face.mean[face.landmarks68] if features is None else features
    return displacement + np.float32(weight) * known.displacement[emotion][known.nearest(own)]
