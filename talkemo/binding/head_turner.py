"""How a head and its eyes move while their owner speaks, and how a mesh turns with them.

The movement has the spectrum of people who speak freely to a camera, measured on 57 of them (`benchmarks/heads.py`): waves
of random phase in octave bands. Loudness drives it no more than it does theirs: the speed of a head and the loudness of the
voice, both over 0.6 s, correlate by −0.05 in these, and by 0.09 in nine others.

Eyes stay on the camera while the head turns, as the vestibulo-ocular reflex has it, and leap a few degrees aside every
second or two (Lee, Badler, Badler 2002, "Eyes alive": most saccades are small, and last 25 ms and 2.4 ms a degree).
"""

from __future__ import annotations

import numpy as np

from ..face.canonical import EYE_CENTRES_MM
from ..geometry.numerics import smoothstep
from ..geometry.rigid import eye_rotation
from .binding import Binding

PIVOT = np.array([0.0, -20.0, 0.0])  # canonical mm, where the head sits on the neck
NECK = (30.0, 140.0)  # mm under the chin between which the neck goes along less and less


class HeadTurner:
    """Turns a bound mesh as its head turns: what is far below the chin stays."""

    def __init__(self, binding: Binding):
        placement = binding.placement
        points = placement.to_canonical(binding.rest.astype(np.float64))
        under = points[binding.landmarks68[8], 1] - points[:, 1]
        self.share = smoothstep(1 - (under - NECK[0]) / (NECK[1] - NECK[0])).astype(np.float32)[
            :, None
        ]
        self.pivot = placement.to_mesh(PIVOT[None])[0].astype(np.float32)
        self.axes = placement.rotation
        self.eyes = [(rows, np.asarray(centre)) for rows, centre in binding.eyes if len(rows)]
        centres = np.array([centre for _, centre in binding.eyes])
        self.sockets = centres if len(centres) == 2 else placement.to_mesh(EYE_CENTRES_MM)

    def head(self, rotation: np.ndarray) -> np.ndarray:
        """Rotations (..., 3, 3) of the canonical face, in the mesh's axes."""
        return np.asarray(self.axes @ rotation @ self.axes.T, np.float32)

    def eye_rotations(self, gaze: np.ndarray) -> np.ndarray:
        """The rotations (T, 3, 3) of eyes in the mesh's axes, by pitch and yaw (T, 2)."""
        return np.array([eye_rotation(angles, self.axes) for angles in gaze], np.float32).reshape(
            -1, 3, 3
        )

    def __call__(
        self, vertices: np.ndarray, rotation: np.ndarray, gaze: np.ndarray | None = None
    ) -> np.ndarray:
        """Vertices (N, 3) of a frame, turned by a rotation (3, 3) of the canonical face; its eyes by pitch and yaw (2,)."""
        if gaze is not None and self.eyes:
            (rotation_of_eyes,) = self.eye_rotations(gaze[None])
            vertices = vertices.copy()
            for rows, centre in self.eyes:
                vertices[rows] = (vertices[rows] - centre) @ rotation_of_eyes.T + centre
        turn = self.head(rotation)
        arm = vertices - self.pivot
        return np.asarray(vertices + self.share * (arm @ turn.T - arm), np.float32)
