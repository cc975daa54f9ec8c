"""The connected parts of a body, by which eyes, teeth and others are recognised."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np

from ..geometry.meshes import area_vectors
from .body import Body

PART_MARGIN_MM = 20.0  # around the fitted face's box; parts outside stay still
MIN_NAMED = 0.9  # share of a part's vertices that have its name
NAMED_SLACK = 1.7  # factor of the limits of a part's place and size, if its name says what it is
MIN_PART_VERTICES = 3  # smaller parts stay still


@dataclass(frozen=True, eq=False)
class Piece:
    """A connected part of a body with P vertices."""

    body: Body
    rows: np.ndarray  # (P,), its vertices
    faces: np.ndarray  # (F,), its triangles

    @cached_property
    def points(self) -> np.ndarray:
        """(P, 3) canonical mm."""
        return self.body.points[self.rows]

    @cached_property
    def extent(self) -> np.ndarray:
        """(3,), sides of its bounding box."""
        return np.asarray(np.ptp(self.points, axis=0))

    @cached_property
    def middle(self) -> np.ndarray:
        """(3,), middle of its bounding box."""
        return np.asarray((self.points.min(0) + self.points.max(0)) / 2)

    @cached_property
    def rim(self) -> np.ndarray:
        """(P,) bool, vertices on its boundary."""
        return self.body.rim[self.rows]

    @cached_property
    def kind(self) -> str:
        """What the groups of the file call most of its vertices, see `groups.GROUP_KINDS`."""
        if self.body.groups is None:
            return "skin"
        kinds, counts = np.unique(self.body.groups[self.rows], return_counts=True)
        return str(kinds[counts.argmax()])

    @cached_property
    def named(self) -> str:
        """What the names in the file call nearly all of its vertices; empty if they do not."""
        if self.body.named is None:
            return ""
        kinds, counts = np.unique(self.body.named[self.rows], return_counts=True)
        return str(kinds[counts.argmax()]) if counts.max() > MIN_NAMED * len(self.rows) else ""

    def slack(self, *kinds: str) -> float:
        """Return by how much limits are wider for a part that is named as one of these kinds."""
        return NAMED_SLACK if self.named in kinds else 1.0

    def facing_front(self) -> float:
        """Return the fraction of its area that faces forwards or backwards."""
        areas = np.abs(area_vectors(self.body.points, self.body.faces[self.faces]))
        size = np.linalg.norm(areas, axis=1)
        return float(size[areas[:, 2] > 0.7 * size].sum() / max(size.sum(), 1e-9))


def pieces_near_face(body: Body) -> list[Piece]:
    """Return the connected parts of a body around its face."""
    low, high = body.fitted.min(0) - PART_MARGIN_MM, body.fitted.max(0) + PART_MARGIN_MM
    numbers = np.arange(body.component_count)
    order = np.argsort(body.component, kind="stable")
    starts = np.searchsorted(body.component[order], numbers)
    counts = np.diff(np.append(starts, len(order)))
    lowest = np.minimum.reduceat(body.points[order], starts)
    highest = np.maximum.reduceat(body.points[order], starts)
    middle = (lowest + highest) / 2
    near = ((middle > low) & (middle < high)).all(1) & (counts >= MIN_PART_VERTICES)
    component_of_face = body.component[body.faces[:, 0]]
    face_order = np.argsort(component_of_face, kind="stable")
    face_starts = np.searchsorted(component_of_face[face_order], np.append(numbers, len(numbers)))
    return [
        Piece(
            body,
            order[starts[k] : starts[k] + counts[k]],
            face_order[face_starts[k] : face_starts[k + 1]],
        )
        for k in np.flatnonzero(near)
    ]
