"""A second opinion on where a face is: what a landmark tracker sees in images of the mesh.

binding/ draws nothing and knows no tracker. It names viewpoints; whoever binds a mesh may pass a
`SecondOpinion` that looks from there. What it sees starts the registration, and agrees with a fit
or not.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

import numpy as np

from ..face.canonical import JAW_LINE, Face
from ..geometry.rigid import Similarity, fit_similarity

if TYPE_CHECKING:
    from .surface import Surface

FACE_MARGIN = 0.75  # half of what a view of a face shows, relative to the height of the face
MESH_MARGIN = 0.58  # half of what a view of a mesh shows, relative to its longer side
# Shares of the height of a mesh, from its top, that views show: all, a bust's or a doll's head, a
# person's head. A tracker finds no face that is much smaller than its image.
TOP_SHARES = (1.0, 0.45, 0.17)
MAX_DISAGREEMENT_MM = 9.0  # median, of a sighting that shows the fitted face
SAME_LANDMARK_MM = 3.0  # between an iBUG landmark and the point of MediaPipe's that stands for it
MIN_SEEN_POINTS = 30  # of a sighting that determines a placement
ROBUST_ROUNDS, ROBUST_WIDTH_MM = 4, 10.0  # of the placement: points beyond count little


@dataclass(frozen=True, eq=False)
class Viewpoint:
    """Where to look at a mesh from: the front of a face that may be there."""

    facing: np.ndarray  # (3, 3), its columns are the face's left, up and forward in the mesh
    centre: np.ndarray  # (3,), the point in the middle of the image, in the mesh
    half: float  # half of the height that the image shows, in the mesh's unit


@dataclass(frozen=True, eq=False)
class Sighting:
    """A face in an image of a mesh."""

    ids: np.ndarray  # (P,), points of MediaPipe's mesh, see `Face.mediapipe_operator`
    points: np.ndarray  # (P, 3), where they lie on the mesh; NaN where it has no surface


Look = Callable[[Viewpoint], Sighting | None]  # what is seen of one mesh from a viewpoint


class OpinionUnavailable(Exception):
    """Who is asked cannot look at all, which is no opinion on the mesh."""


class SecondOpinion(Protocol):
    """Looks at meshes and finds faces, as a person or a landmark tracker does.

    If it turns out that it cannot look, a `Look` raises OpinionUnavailable, and `failure` says why.
    """

    name: str  # with its version; bindings that were found with another are not reused
    failure: str | None

    def of(self, vertices: np.ndarray, faces: np.ndarray) -> Look:
        """Return what looks at a mesh of vertices (V, 3) and triangles (F, 3)."""
        ...


def front_of(face: Face, placement: Similarity) -> Viewpoint:
    """Return the viewpoint in front of a placed face."""
    low, high = face.mean.min(0), face.mean.max(0)
    half = FACE_MARGIN * placement.scale * float(high[1] - low[1])
    return Viewpoint(placement.rotation, placement.to_mesh((low + high) / 2), half)


def viewpoints(surface: Surface, rotations: list[np.ndarray]) -> Iterator[Viewpoint]:
    """Yield viewpoints that show a mesh and its upper parts, if its face has these rotations."""
    for rotation in rotations:
        points = surface.coarse.points @ rotation
        low, high = points.min(0), points.max(0)
        size = high - low
        for share in TOP_SHARES:
            height = share * size[1]
            top = points[points[:, 1] >= high[1] - height]
            centre = (top.min(0) + top.max(0)) / 2 if share == 1 else np.median(top, 0)
            centre[1] = high[1] - height / 2
            longer = max(size[:2]) if share == 1 else height
            yield Viewpoint(rotation, rotation @ centre, MESH_MARGIN * float(longer))


def placement_of(face: Face, sighting: Sighting) -> Similarity | None:
    """Return the placement of the face that a sighting shows; None if too few points lie on it."""
    operator, target = _on_both(face, sighting)
    if len(target) < MIN_SEEN_POINTS:
        return None
    source, weight = operator @ face.mean, np.ones(len(target))
    for _ in range(ROBUST_ROUNDS):
        placement = Similarity(*fit_similarity(source, target, weight))
        distance = np.linalg.norm(placement.to_canonical(target) - source, axis=1)
        weight = 1 / (1 + (distance / ROBUST_WIDTH_MM) ** 2) ** 2
    return placement


def disagreement_mm(
    face: Face, placement: Similarity, fitted: np.ndarray, sighting: Sighting
) -> float:
    """Return the median distance in canonical mm of a sighting from a placed face (V, 3)."""
    operator, points = _on_both(face, sighting)
    if not len(points):
        return np.inf
    distance = np.linalg.norm(operator @ fitted - placement.to_canonical(points), axis=1)
    return float(np.median(distance))


def agrees(face: Face, placement: Similarity, fitted: np.ndarray, sighting: Sighting) -> bool:
    """Whether a sighting shows a placed face (V, 3)."""
    return disagreement_mm(face, placement, fitted, sighting) < MAX_DISAGREEMENT_MM


def landmarks_of(face: Face, sighting: Sighting) -> np.ndarray:
    """Return the iBUG landmarks (68, 3) of a mesh where they are seen, NaN for the others.

    The outline is left out, since its landmarks slide over the skin as a head turns.
    """
    operator, points = _on_both(face, sighting)
    landmarks = np.full((68, 3), np.nan)
    seen = operator @ face.mean
    for number in range(JAW_LINE.stop, 68):
        distance = np.linalg.norm(seen - face.mean[face.landmarks68[number]], axis=1)
        if len(distance) and distance.min() < SAME_LANDMARK_MM:
            landmarks[number] = points[distance.argmin()]
    return landmarks


def _on_both(face: Face, sighting: Sighting) -> tuple[np.ndarray, np.ndarray]:
    """Return the operator (Q, V) to points of the canonical face, and the same of the mesh (Q, 3).

    Points that either lacks are left out.
    """
    known = np.isfinite(sighting.points).all(1) & np.isin(sighting.ids, face.mesh_points)
    return face.mediapipe_operator(sighting.ids[known]), sighting.points[known]
