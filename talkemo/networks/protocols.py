"""Interfaces of the speech encoder, the talking model and the emotion model.

A model of another architecture that implements one of them can replace talkemo's own.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    import numpy as np

    from ..audio.recording import Audio, AudioSource
    from ..face.motion import Motion

DEFAULT_STYLE = "default"  # the speaking style of no particular speaker


class FeatureEncoder(Protocol):
    """Turns audio into speech features at FEATURE_RATE for a talking model."""

    width: int  # D, the number of values of a feature

    @property
    def lookahead_features(self) -> int:
        """How many features after it a feature depends on."""

    @property
    def fingerprint(self) -> str:
        """Identifies the features: a talking model needs those that it was trained on."""

    def stream(self, audio: AudioSource, chunk_s: float = ...) -> Iterator[np.ndarray]:
        """Yield consecutive features with their loudness, (n, D + 1) float32, as audio arrives.

        Row k is centred on (k − SILENCE_MARGIN_FEATURES) / FEATURE_RATE s. The last column is the
        loudness: 1 for loud audio, 0 at 80 dB below. `chunk_s`, the seconds of audio that are
        encoded at a time, does not change the result.
        """

    def features(self, audio: Audio) -> np.ndarray:
        """Return the rows of `stream` for a whole recording."""


class SpeechToMotion(Protocol):
    """Turns audio into motion of the canonical face."""

    styles: list[str]  # names of the speakers whose style can be chosen
    settings: dict[str, Any]  # of the training, as the weights file has them

    @property
    def lookahead_s(self) -> float:
        """How many seconds of audio after it a frame depends on."""

    def style(self, name: str | None) -> int | None:
        """Return the index of a style, or None for the default. Raises InputError if unknown."""

    def motion(self, audio: Audio, times: np.ndarray, style: str | None = None) -> Motion:
        """Return the motion of a recording at ascending times (T,) s."""

    def stream(
        self,
        audio: AudioSource,
        parts: Iterable[np.ndarray],
        style: str | None = None,
        chunk_s: float = ...,
    ) -> Iterator[Motion]:
        """Yield the motion at consecutive parts of ascending times, each (T,) s.

        A part is yielded as soon as the audio that it depends on has arrived. Neither the division
        into parts nor `chunk_s`, the seconds of audio encoded at a time, change the result.
        """


class EmotionTransfer(Protocol):
    """Adds emotions to motion of the canonical face."""

    settings: dict[str, Any]  # of the training, as the weights file has them

    def transfer(self, motion: Motion, amounts: np.ndarray, from_neutral: bool = True) -> Motion:
        """Return the motion with emotions.

        Parameters
        ----------
        amounts : (8,) or (T, 8)
            Amount of each of EMOTIONS for the whole motion, or per frame; 1 is a full emotion.
        from_neutral : bool
            Whether the motion shows no emotion yet. If so, an amount of neutral changes nothing;
            otherwise it removes the motion's emotion.
        """
