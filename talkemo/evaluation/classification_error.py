"""CE of an animation: the share of its frames that the discriminator assigns to another emotion."""

from __future__ import annotations

from typing import Any

import numpy as np

from ..binding import Binding
from ..binding.mesh_to_motion import MeshToMotion
from ..errors import InputError
from ..expression.emotions import EMOTIONS, parse_emotion
from ..networks.judges import Discriminator
from .emotion import classify
from .metrics import Metric


class ClassificationError:
    """CE of the frames of a bound mesh, accumulated over chunks (3D-TalkEmo, section 4.3).

    Each frame is fitted by the canonical face's blend shapes, the head's motion removed, and shown
    to the discriminator as a geometry map.

    Parameters
    ----------
    binding : Binding
        Binding of the mesh at rest.
    discriminator : Discriminator
        Judge of the frames; its classes are EMOTIONS.
    emotion : str
        The emotion that every frame should show, one of EMOTIONS.
    """

    def __init__(self, binding: Binding, discriminator: Discriminator, emotion: str):
        self.emotion = emotion
        self._face = binding.face
        self._to_motion = MeshToMotion(binding)
        self._discriminator = discriminator
        self._device = next(discriminator.parameters()).device
        self._counts = np.zeros(len(EMOTIONS), int)  # frames by predicted class

    def add(self, vertices: np.ndarray) -> None:
        """Add consecutive frames (t, N, 3) of the mesh."""
        motion, _ = self._to_motion.motion_of_mesh(
            vertices, np.arange(len(vertices), dtype=np.float64)
        )
        classes = classify(self._discriminator.logits, self._face, motion, self._device)
        self._counts += np.bincount(classes, minlength=len(EMOTIONS))

    def metric(self) -> Metric:
        """CE: the share of frames that the discriminator assigns to another emotion."""
        correct = int(self._counts[EMOTIONS.index(self.emotion)])
        frames = int(self._counts.sum())
        about = f"of {frames} frames that the discriminator does not take for {self.emotion}"
        vertices = len(self._face.mean)
        return Metric("CE", 1 - correct / frames, "share", "canonical face", vertices, about)


def emotion_class(meta: dict[str, Any], emotion: str | None = None) -> str:
    """The discriminator's class for an animation: the emotion of its metadata, or another.

    Raises
    ------
    InputError
        If neither names an emotion, or what they name is not a single emotion of EMOTIONS.
    """
    name = meta.get("emotion") if emotion is None else emotion
    if not isinstance(name, str):
        raise InputError("the animation's metadata name no emotion", "name it with --emotion")
    present = np.flatnonzero(parse_emotion(name))
    if len(present) != 1:
        raise InputError(
            f"'{name}' is not one of the discriminator's classes",
            f"choose from {', '.join(EMOTIONS)}",
        )
    return EMOTIONS[present[0]]
