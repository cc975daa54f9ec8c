"""The closed bite: what goes with the jaw never rises above where it is at rest.

A motion may close the jaw beyond the bite: that of an animation from elsewhere, or that of a face
whose lips an emotion presses together. The skin follows it, but lower teeth would rise before the
upper ones and the tongue into the palate. They stop where the teeth meet.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True, eq=False)
class Bite:
    """How P vertices that go with the jaw are kept from rising above the closed bite.

    Attributes
    ----------
    gradient : (3, S) float32
        How far the jaw is open by 1 mm of each coordinate, see `binding.mouth.bite_gradient`.
    rows : (P,) int
        The vertices.
    opened : (P, 3) float32
        Their displacement by jawOpen at weight 1, as far as they go with the jaw.
    """

    gradient: np.ndarray
    rows: np.ndarray
    opened: np.ndarray

    def of(self, moving: np.ndarray) -> Bite:
        """Return the same for an array of the vertices `moving` (M,), ascending."""
        return Bite(self.gradient, np.searchsorted(moving, self.rows), self.opened)

    def lacking(self, coordinates: np.ndarray) -> np.ndarray:
        """Return the weight (T,) of jawOpen that coordinates (T, S) lack to a closed bite, ≥ 0."""
        return np.maximum(-(coordinates @ self.gradient.T).min(-1), 0)

    def keep(self, vertices: np.ndarray, coordinates: np.ndarray) -> None:
        """Lower the vertices (T, N, 3) of frames whose coordinates (T, S) raise them, in place."""
        lacking = self.lacking(coordinates)
        frames = np.flatnonzero(lacking)
        if len(frames) and len(self.rows):
            vertices[np.ix_(frames, self.rows)] += lacking[frames, None, None] * self.opened
