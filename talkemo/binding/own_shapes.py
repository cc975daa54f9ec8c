"""A character's own blend shapes, driven by the motion of its face.

Which shapes can be used is known by their names (face/shape_names.py) or by the user's map. Their
weights are those that show each frame best in the least-squares sense: between 0 and 1, few at a
time, and a continuous function of the motion, so that they are as smooth as the motion is. Where
several mixes look alike, the one is taken that the names mean. Eyes that look around have the
weights of ARKit's shapes.

For each frame with weights `a` of ARKit's shapes and displacement `d` of the mesh,

    minimise |d - D w|² + NAME_PRIOR · Σ_j e_j (a_j - (R w)_j)² + SPARSITY · Σ_k s_k w_k

where D are the shapes' displacements, R their recipes, e_j the squared size of ARKit's shape j on
this mesh, and s_k the squared size of shape k. An emotion's weight is at most what the face shows of
its leading part. Beside the vertices, d and D contain the openings of lips and lids, which are what
is seen first: lips that should touch, eyes that should close. As d is linear in the motion's
coordinates, only products of small matrices are computed per frame.
"""

from __future__ import annotations

from collections.abc import Callable, Container, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property

import numpy as np

from ..face.canonical import ARKIT_NAMES, LIP_PAIRS
from ..face.shape_names import ShapeMeaning, meaning_of
from ..face.viseme_curves import OCULUS_RECIPES, recipe_weights
from ..formats.animation import Frames
from ..formats.mesh_types import MeshShape
from ..geometry.meshes import vertex_areas
from ..geometry.numerics import bounded_least_squares
from .binding import Binding

NAME_PRIOR = 0.1  # how much the names count beside the vertices
OPENING_FACTOR = 0.1  # how much each opening of lips and lids counts beside all vertices
SPARSITY = 0.001  # how much lower a weight is than without it, if no other shape is alike
RIDGE = 1e-4  # relative to each shape's squared size; makes the weights unique
FIT_ITERATIONS = 200
# How much larger an emotion's weight may be than the parts of its recipe show that are at least this
# fraction of the largest: happy is a smile, whatever the eyes do.
EMOTION_ROOM, LEADING = 1.5, 0.9
# Columns of ARKit's weights, the left corner of the mouth first.
SMILES, FROWNS = (
    [k for k, name in enumerate(ARKIT_NAMES) if name.startswith(start)]
    for start in ("mouthSmile", "mouthFrown")
)
MOUTH_FACTOR = 4.0  # how much more a vertex of the lips counts than one of the cheeks
INNER_PART_FACTOR = 0.2  # how much less one of teeth, tongue and lashes does
MIN_FACE_SHARE = 0.5  # of a shape's squared displacement that lies on the face
MIN_SIZE_RATIO = 1e-3  # size on the face, relative to the largest; smaller ones move eyes or tongue
FULLY_SHOWN = 1.001  # weight of one of ARKit's shapes, above which another one is not needed
SPEECH_PARTS = ("mouth", "jaw", "tongue")  # beginnings of ARKit's shapes
MIN_MOUTH_SHAPES = 12  # of ARKit's, with which visemes and emotions are not needed
# Facing landmarks, upper and lower, whose distance are the openings of lips and lids.
OPENINGS = (*LIP_PAIRS, (37, 41), (38, 40), (43, 47), (44, 46))
# `--targets auto` uses the character's shapes if they show at least this share of the squared
# motion of the mouth in the poses of speech.
MIN_MOUTH_SHOWN = 0.75


@dataclass(frozen=True, eq=False)
class DrivenShape:
    """A shape that is driven, and what it means."""

    shape: MeshShape
    meaning: ShapeMeaning

    @property
    def arkit(self) -> np.ndarray:
        """(52,), its recipe."""
        return np.array([self.meaning.recipe.get(name, 0.0) for name in ARKIT_NAMES])

    @property
    def is_single(self) -> bool:
        """Whether it moves a part of the face, and not all that a sound or an emotion moves."""
        return self.meaning.kind in ("single", "gaze")


@dataclass(frozen=True, eq=False)
class FoundShapes:
    """The blend shapes of a mesh, by what is done with them.

    Attributes
    ----------
    driven : list of DrivenShape
    left_out : dict of str to str
        Why each of the others is not driven.
    """

    driven: list[DrivenShape]
    left_out: dict[str, str] = field(default_factory=dict)

    @property
    def standards(self) -> dict[str, int]:
        """How many of the driven shapes have names of each standard."""
        counts: dict[str, int] = {}
        for driven in self.driven:
            standard = driven.meaning.standard
            counts[standard] = counts.get(standard, 0) + 1
        return dict(sorted(counts.items(), key=lambda item: -item[1]))

    @property
    def expressions(self) -> list[str]:
        """Names of the driven shapes that are expressions of a VRM, such as happy or aa."""
        return [driven.shape.name for driven in self.driven if driven.shape.mix]

    @property
    def missing(self) -> list[str]:
        """Which of ARKit's shapes none of the driven ones shows."""
        shown = {name for driven in self.driven for name in driven.meaning.recipe}
        return [name for name in ARKIT_NAMES if name not in shown]


def find_shapes(
    shapes: Sequence[MeshShape], named: Mapping[str, ShapeMeaning | None] | None = None
) -> FoundShapes:
    """Choose which shapes of a mesh are driven.

    Parameters
    ----------
    shapes : sequence of MeshShape
        `Mesh.shapes`.
    named : mapping, optional
        Meanings by the user's map, None for a shape that is not to be driven; the others are known
        by their names.
    """
    named = named or {}
    left_out, known = {}, []
    for shape in shapes:
        meaning = named[shape.name] if shape.name in named else meaning_of(shape.name)
        if meaning is not None and shape.mix:
            meaning = replace(meaning, standard="VRM")
        if meaning is not None and meaning.recipe:
            known.append(DrivenShape(shape, meaning))
        elif shape.name in named:
            left_out[shape.name] = "left out by the map"
        elif meaning is not None:
            left_out[shape.name] = "shows a face at rest"
        else:
            left_out[shape.name] = "unknown name"
    known.sort(key=lambda driven: (driven.shape.name not in named, *_rank(driven)))
    chosen = _Choice(known, named).of(left_out)
    order = {shape.name: k for k, shape in enumerate(shapes)}
    chosen.sort(key=lambda driven: order[driven.shape.name])
    for part in (part for driven in chosen for part, _ in driven.shape.mix):
        left_out.pop(part, None)
    return FoundShapes(chosen, left_out)


def _rank(driven: DrivenShape) -> tuple[bool, bool, int]:
    """Key by which shapes are chosen: single ones first, then ARKit's, then those of one side."""
    meaning = driven.meaning
    return (
        not driven.is_single,
        meaning.standard != "ARKit",
        len(meaning.recipe),
    )


class _Choice:
    """Shapes that are driven, chosen one after the other.

    Parameters
    ----------
    known : sequence of DrivenShape
        All that could be, the ones that are preferred first.
    named : container of str
        Names of shapes that the user's map has; they are always chosen.
    """

    def __init__(self, known: Sequence[DrivenShape], named: Container[str]):
        self.known, self.named = known, named
        self.known_names = {driven.shape.name for driven in known}
        self.chosen: list[DrivenShape] = []
        self.shown: dict[str, float] = {}  # how much of ARKit's shapes single ones show

    def of(self, left_out: dict[str, str]) -> list[DrivenShape]:
        """Return the shapes without those that others show already, which `left_out` gets."""
        for driven in self.known:
            reasons = _REASONS[driven.is_single] if driven.shape.name not in self.named else ()
            reason = next((text for text, applies in reasons if applies(self, driven)), None)
            if reason is not None:
                left_out[driven.shape.name] = reason
                continue
            self.chosen.append(driven)
            if driven.is_single:
                self.shown |= self.shown_with(driven)
        return self.chosen

    def shown_with(self, driven: DrivenShape) -> dict[str, float]:
        """Return how much of a single shape's parts is shown with it."""
        recipe = driven.meaning.recipe
        return {part: self.shown.get(part, 0.0) + weight for part, weight in recipe.items()}

    def mix_is_driven(self, driven: DrivenShape) -> bool:
        """Whether it is a mix of shapes that are all known themselves."""
        mix = driven.shape.mix
        return bool(mix) and all(part in self.known_names for part, _ in mix)

    def is_shown(self, driven: DrivenShape) -> bool:
        """Whether single shapes show one of its parts already."""
        return max(self.shown_with(driven).values()) > FULLY_SHOWN

    def has_same_recipe(self, driven: DrivenShape) -> bool:
        """Whether a chosen shape means the same."""
        return any(driven.meaning.recipe == other.meaning.recipe for other in self.chosen)

    def covers_mouth(self, driven: DrivenShape) -> bool:
        """Whether shapes of single muscles are enough for speech, and show all else of it."""
        others = {part for part in driven.meaning.recipe if not part.startswith(SPEECH_PARTS)}
        if driven.meaning.kind != "viseme" and not self.shown.keys() >= others:
            return False
        mouth = [name for name in self.shown if name.startswith(("mouth", "jaw"))]
        return "jawOpen" in self.shown and len(mouth) >= MIN_MOUTH_SHAPES

    def has_parts(self, driven: DrivenShape) -> bool:
        """Whether others show parts of the same emotion, as VRoid's of mouth, brows and eyes."""
        recipe = driven.meaning.recipe.items()
        if driven.meaning.kind != "emotion":
            return False
        others = [o.meaning.recipe.items() for o in self.known if o.meaning.kind == "emotion"]
        return any(other < recipe for other in others)


_Reasons = tuple[tuple[str, Callable[[_Choice, DrivenShape], bool]], ...]
# Why a shape is left out: the first reason that applies. By whether it is a single one.
_REASONS: dict[bool, _Reasons] = {
    True: (
        ("its shapes are driven themselves", _Choice.mix_is_driven),
        ("others show the same", _Choice.is_shown),
    ),
    False: (
        ("its shapes are driven themselves", _Choice.mix_is_driven),
        ("others show the same", _Choice.has_same_recipe),
        ("shapes of single muscles show the same", _Choice.covers_mouth),
        ("its parts are driven themselves", _Choice.has_parts),
    ),
}


class OwnShapeFit:
    """Computes the weights of a mesh's own shapes; see `formats.animation.OwnShapes`.

    Parameters
    ----------
    binding : Binding
        Of the mesh as its file has it, without a cut.
    found : FoundShapes
        What `find_shapes` returned. Shapes that do not move the face are left out.

    Attributes
    ----------
    names : tuple of str
        Of the shapes whose weights are computed, as the file spells them.
    at_rest : (K,)
        Their weights in the mesh at rest.
    recipes : (K, 52)
        ARKit's shapes that each shows at weight 1.
    found : FoundShapes
        The driven shapes, and why the others are not driven.
    """

    def __init__(self, binding: Binding, found: FoundShapes):
        self.binding = binding
        self.found = _of_face(binding, found)
        self._driven = self.found.driven
        self._gather_outputs()
        moving = np.setdiff1d(binding.moving, np.concatenate([[], *_eyeballs(binding)]))
        self._rows = moving.astype(np.int64)
        self._shapes = _on_rows([d.shape for d in self._driven], self._rows)  # (K, R, 3)
        self._weight = self._vertex_weights()
        self._recipes = np.array([d.arkit for d in self._driven]).reshape(-1, len(ARKIT_NAMES))
        self._prepare()

    def _gather_outputs(self) -> None:
        """Set which shapes of the file have weights: the driven ones, and parts of driven mixes."""
        every = {shape.name: shape for shape in self.binding.mesh.shapes}
        mixes = [dict(d.shape.mix) or {d.shape.name: 1.0} for d in self._driven]
        used = {name for mix in mixes for name in mix}
        self.names = tuple(name for name in every if name in used)
        self._outputs = [every[name] for name in self.names]
        self.at_rest = np.array([shape.at_rest for shape in self._outputs])
        self._to_outputs = np.array(
            [[mix.get(name, 0.0) for name in self.names] for mix in mixes]
        ).reshape(len(mixes), len(self.names))
        arkit = np.array([d.arkit for d in self._driven]).reshape(-1, len(ARKIT_NAMES))
        share = self._to_outputs / np.maximum(self._to_outputs.sum(1, keepdims=True), 1e-9)
        self.recipes: np.ndarray = share.T @ arkit

    def targets(self) -> np.ndarray:
        """Return the displacements (K, N, 3) float32 of the mesh by the shapes at weight 1."""
        return np.stack([shape.displacement for shape in self._outputs])

    def weights(self, frames: Frames) -> np.ndarray:
        """Return the shapes' weights (T, K) float32 that show frames best."""
        if frames.coordinates is not None and not frames.moods:
            return self.weights_of(frames.arkit, frames.coordinates)
        # The coordinates lack the emotion.
        step = frames.vertices[:, self._rows] - self.binding.rest[self._rows]
        moved = self._features(step) @ self._own_features.T
        return self._expanded(self._solve(moved, frames.arkit))

    def weights_of(self, arkit: np.ndarray, coordinates: np.ndarray) -> np.ndarray:
        """Return the weights (T, K) float32 of frames by ARKit weights (T, 52) and coordinates."""
        moved = np.asarray(coordinates, np.float64) @ self._motion_products
        return self._expanded(self._solve(moved, arkit))

    @cached_property
    def mouth_residual_mm(self) -> float:
        """Mean distance of the mouth's vertices from where they should be, in poses of speech."""
        return self._mouth_test[0]

    @cached_property
    def mouth_shown(self) -> float:
        """Share of the squared motion of the mouth that the shapes show in poses of speech."""
        return self._mouth_test[1]

    @property
    def is_enough(self) -> bool:
        """Whether the shapes show the motion of the mouth well enough for `--targets auto`."""
        return bool(self.names) and self.mouth_shown >= MIN_MOUTH_SHOWN

    # ------------------------------------------------------------------------------- the fit

    def _vertex_weights(self) -> np.ndarray:
        """How much each row counts (R,): by its area, and more around the mouth."""
        binding, face = self.binding, self.binding.face
        area = vertex_areas(binding.rest, binding.mesh.faces)[self._rows]
        canonical = np.full(len(binding.rest), -1)
        canonical[binding.moving] = binding.canonical
        canonical = canonical[self._rows]
        factor = 1 + MOUTH_FACTOR * face.mouth_weight[canonical]
        return area * np.where(canonical >= 0, factor, INNER_PART_FACTOR)

    def _features(self, displacement: np.ndarray) -> np.ndarray:
        """What is compared of displacements (T, R, 3): (T, 3R + P), vertices and P openings."""
        binding, rows = self.binding, self._rows
        scaled = displacement * np.sqrt(self._weight, dtype=np.float32)[:, None]
        vertices = binding.landmarks68[np.array(OPENINGS)]  # (P, 2)
        place = np.searchsorted(rows, vertices).clip(max=len(rows) - 1)
        moved = displacement[:, place] @ binding.placement.rotation[:, 1].astype(np.float32)
        moved = moved * (rows[place] == vertices)
        factor = np.float32(np.sqrt(OPENING_FACTOR * self._weight.sum()))
        opening = factor * (moved[..., 0] - moved[..., 1])
        return np.concatenate([scaled.reshape(len(scaled), 3 * len(rows)), opening], 1)

    def _prepare(self) -> None:
        """Compute the products of shapes and motion that do not change from frame to frame."""
        binding = self.binding
        self._own_features = self._features(self._shapes)
        column = np.searchsorted(binding.moving, self._rows)
        motion = binding.matrix.reshape(len(binding.targets), -1, 3)[:, column]
        self._motion_products = self._features(motion) @ self._own_features.T  # (S, K)
        self._gram = (self._own_features @ self._own_features.T).astype(np.float64)
        combine = (binding.face.arkit_matrix > 0).astype(np.float64)
        targets = self._features(binding.targets[:, column])
        energy = np.einsum("sj,st,tj->j", combine, targets @ targets.T, combine)  # (52,)
        self._prior = NAME_PRIOR * self._recipes * energy  # (K, 52)
        size = np.sqrt(np.maximum(np.diag(self._gram), 0))
        is_gaze = np.array([d.meaning.kind == "gaze" for d in self._driven], bool)
        self._fixed = is_gaze | (size < MIN_SIZE_RATIO * size.max(initial=0))
        free = np.flatnonzero(~self._fixed)
        normal = self._gram[np.ix_(free, free)] + self._prior[free] @ self._recipes[free].T
        normal += RIDGE * np.diag(np.diag(normal))
        self._scale = np.sqrt(np.diag(normal))
        self._normal = normal / np.outer(self._scale, self._scale)
        self._free = free
        self._is_emotion = np.array([d.meaning.kind == "emotion" for d in self._driven], bool)
        largest = self._recipes.max(1, keepdims=True, initial=1e-9)
        leading = self._recipes * (self._recipes >= LEADING * largest)
        self._leading = leading / np.maximum((leading**2).sum(1, keepdims=True), 1e-9)  # (K, 52)

    def _solve(self, moved: np.ndarray, arkit: np.ndarray) -> np.ndarray:
        """Weights (T, K') of the driven shapes, from products (T, K') and ARKit's weights."""
        arkit = np.asarray(arkit, np.float64).clip(0, 1)
        free, fixed = self._free, np.flatnonzero(self._fixed)
        weights = np.zeros((len(arkit), len(self._driven)))
        recipes = self._recipes[fixed]
        size = np.maximum((recipes**2).sum(1), 1e-9)
        weights[:, fixed] = (arkit @ recipes.T / size).clip(0, 1)
        if len(free):
            target = moved[:, free] - weights[:, fixed] @ self._gram[np.ix_(fixed, free)]
            target = target + arkit @ self._prior[free].T
            target = target / self._scale - SPARSITY * self._scale
            upper = self._scale * self._most(arkit)[:, free]
            fitted = bounded_least_squares(self._normal, target, FIT_ITERATIONS, upper)
            weights[:, free] = fitted / self._scale
        return weights

    def _most(self, arkit: np.ndarray) -> np.ndarray:
        """The largest weights (T, K') of the driven shapes: an emotion's, as far as it is shown.

        Otherwise a smile that is the only emotion of a character would narrow the eyes of others.
        """
        net = arkit.copy()  # a mouth that is stretched smiles and frowns at once
        net[:, SMILES] -= arkit[:, FROWNS]
        net[:, FROWNS] -= arkit[:, SMILES]
        shown = EMOTION_ROOM * (net.clip(0) @ self._leading.T)
        return np.where(self._is_emotion, shown.clip(0, 1), 1.0)

    def _expanded(self, weights: np.ndarray) -> np.ndarray:
        """Weights (T, K) of the file's shapes by those of the driven ones, with those at rest."""
        most = np.maximum(1, self._to_outputs.max(0, initial=1))
        return (weights @ self._to_outputs + self.at_rest).clip(0, most).astype(np.float32)

    @cached_property
    def _mouth_test(self) -> tuple[float, float]:
        """Mean distance in mm, and share of the squared motion that is shown, in test poses."""
        binding, face = self.binding, self.binding.face
        arkit = np.stack([recipe_weights(recipe) for recipe in OCULUS_RECIPES.values()])
        shapes = arkit @ (face.arkit_matrix > 0).T
        coordinates = shapes @ face.weights_to_coordinates
        weights = self._solve(coordinates @ self._motion_products, arkit)
        mouth = np.isin(self._rows, binding.region("mouth"))
        column = np.searchsorted(binding.moving, self._rows[mouth])
        moved = np.tensordot(
            coordinates, binding.matrix.reshape(len(face.span), -1, 3)[:, column], 1
        )
        left = moved - np.tensordot(weights, self._shapes[:, mouth], 1)
        distance = np.linalg.norm(left, axis=2).mean() / binding.scale
        return float(distance), float(1 - (left**2).sum() / max((moved**2).sum(), 1e-30))


def _of_face(binding: Binding, found: FoundShapes) -> FoundShapes:
    """The shapes without those that move other things than the face, such as clothes."""
    on_face = binding.focus
    driven, left_out = [], dict(found.left_out)
    for candidate in found.driven:
        shape = candidate.shape
        squares = (shape.values.astype(np.float64) ** 2).sum(1)
        if not squares.sum() > 0:
            left_out[shape.name] = "moves nothing"
        elif squares[on_face[shape.rows]].sum() < MIN_FACE_SHARE * squares.sum():
            left_out[shape.name] = "does not move the face"
        else:
            driven.append(candidate)
    return FoundShapes(driven, left_out)


def _eyeballs(binding: Binding) -> list[np.ndarray]:
    return [vertices for vertices, _ in binding.eyes]


def _on_rows(shapes: Sequence[MeshShape], rows: np.ndarray) -> np.ndarray:
    """The displacements (K, R, 3) float32 of rows (R,), ascending, by shapes."""
    result = np.zeros((len(shapes), len(rows), 3), np.float32)
    for k, shape in enumerate(shapes):
        place = np.searchsorted(rows, shape.rows).clip(max=max(len(rows) - 1, 0))
        inside = rows[place] == shape.rows if len(rows) else np.zeros(len(place), bool)
        result[k, place[inside]] = shape.values[inside]
    return result
