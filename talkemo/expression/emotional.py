"""Speech with emotions as it is shown: that of the network, with awake lids and the jaw of speech."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from ..face.canonical import Face
from ..face.motion import Motion
from .sad_lids import awake
from .speaking_jaw import jaw_of_speech

if TYPE_CHECKING:
    from ..networks.protocols import EmotionTransfer


def with_emotion(
    model: EmotionTransfer,
    speech: Motion,
    amounts: np.ndarray,
    face: Face,
    from_neutral: bool = True,
) -> Motion:
    """Return a motion of speech with amounts (T or 1, 8) of emotions; see `EmotionTransfer`."""
    shown = awake(model.transfer(speech, amounts, from_neutral), amounts, face)
    return jaw_of_speech(shown, speech, face)
