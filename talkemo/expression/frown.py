"""Frowns of performances on meshes.

The brows of a fitted performance are as low as the person's: of 14 people who frown, the tracked
brows are 0.2 mm higher than the model's on average, and at most 1.5 mm off. On a mesh the same frown
looks calm, perhaps as it lacks the furrows between the brows: a tracker scores a browDown of 1 as 0.02
to 0.34 on a drawn head. A mesh that shows somebody's performance therefore lowers its brows FROWN_GAIN
times as far. Weights stay as they were: a character's own shapes and the rigs of others have frowns of
their own.
"""

from __future__ import annotations

from dataclasses import replace
from functools import lru_cache
from typing import TYPE_CHECKING

import numpy as np

from ..face.canonical import ARKIT_NAMES, Face

if TYPE_CHECKING:
    from ..formats.animation import Frames, Header, OwnShapes

# Chosen among 1, 2, 2.5 and 3 with 14 people of training splits who frown. What a tracker scores on
# three heads is on average 0.67, 0.87 and (high brows at rest) 0.14 of its score in the video; 0.16,
# 0.35 and 0.03 without the gain (`benchmarks/own_expression.py --frowns DATA --onto MESH`). With 3 it
# is 0.85, 1.03 and 0.25, but people whose brows are low at rest look worried.
FROWN_GAIN = 2.5
FROWN = "browDown"  # first part of the names of its blend shapes


@lru_cache(maxsize=2)
def frowning_face(face: Face) -> Face:
    """Return a face whose browDown lowers the brows FROWN_GAIN times as far.

    Its blend shapes have the same span, so coordinates of a motion mean the same.
    """
    factor = face.expression_factor.copy()
    rows = [1 + k for k, name in enumerate(face.expression_names) if name.startswith(FROWN)]
    factor[rows] = factor[0] + FROWN_GAIN * (factor[rows] - factor[0])
    return replace(face, expression_factor=factor)


def frowning_header(header: Header) -> Header:
    """Return the header of a bound mesh whose ARKit targets are those of `frowning_face`."""
    face, own, targets, shapes = header.canonical, header.own, header.targets, header.own_shapes
    assert face is not None

    def frowning_targets() -> np.ndarray:
        assert targets is not None
        result = targets()
        result[[name.startswith(FROWN) for name in ARKIT_NAMES]] *= FROWN_GAIN
        return result

    return replace(
        header,
        targets=None if targets is None else frowning_targets,
        canonical=frowning_face(face),
        own=None if own is None else frowning_header(own),
        own_shapes=None if shapes is None else OwnFrowns(shapes, _added_by_weights(face)),
    )


class OwnFrowns:
    """A character's own shapes in a performance, see `OwnShapes`.

    They show frowns by themselves, so they are fitted to brows as low as the person's. `added`
    (52, S) is what ARKit's shapes at weight 1 add to these in mm.
    """

    def __init__(self, shapes: OwnShapes, added: np.ndarray):
        self.shapes, self.added = shapes, added
        self.names, self.at_rest, self.recipes = shapes.names, shapes.at_rest, shapes.recipes

    def weights(self, frames: Frames) -> np.ndarray:
        """Return the shapes' weights (T, len(names)) that show frames best."""
        if frames.coordinates is not None:
            plain = frames.coordinates - frames.arkit @ self.added
            frames = replace(frames, coordinates=plain)
        return self.shapes.weights(frames)

    def targets(self) -> np.ndarray:
        """Return the displacements (K, N, 3) of the mesh's own vertices at weight 1."""
        return self.shapes.targets()


def _added_by_weights(face: Face) -> np.ndarray:
    """Return what ARKit's shapes at weight 1 move by `frowning_face` and not by the face, (52, S)."""
    added = frowning_face(face).weights_to_coordinates - face.weights_to_coordinates
    return np.asarray((face.arkit_matrix > 0).T @ added, np.float32)
