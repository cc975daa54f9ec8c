"""Windows of acted recordings, as the voice model sees them: numbers of each, made once for a run.

A recording gives its whole speech, and random windows of one to two seconds. Changed copies of all
recordings (other microphones, rooms, noise; see data/voice_channels.py) are added.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from ..audio.recording import load_audio
from ..data.voice_channels import Channel
from ..data.voices import VoiceClip
from ..files.arrays import read_npz
from ..files.artefact import Artefact, State
from ..files.cache import digest
from ..files.writing import atomic_write
from ..networks.speech_encoder import SpeechEncoder
from ..networks.voice import VOICE_LAYERS, speech_of, voice_vector

WINDOWS_OF_CLIP = 4  # random ones, besides the whole speech
WINDOW_RANGE_FEATURES = (50, 110)  # of random windows
WINDOWS_VERSION = 1  # part of the fingerprint: raise it when the numbers of a window change


@dataclass(frozen=True, eq=False)
class Windows:
    """N windows of recordings.

    Attributes
    ----------
    numbers : (N, D) float32
        See `networks.voice.voice_vector`.
    clip : (N,) int
        Number of the recording.
    copy : (N,) int
        0 for the recording as it is.
    whole : (N,) bool
        Whether the window is the whole speech of the recording.
    """

    numbers: np.ndarray
    clip: np.ndarray
    copy: np.ndarray
    whole: np.ndarray

    def chosen(self, mask: np.ndarray) -> Windows:
        """Return the windows of a mask (N,) or of indices."""
        return Windows(self.numbers[mask], self.clip[mask], self.copy[mask], self.whole[mask])


def recording_windows(
    samples: np.ndarray, encoder: SpeechEncoder, rng: np.random.Generator
) -> Iterator[np.ndarray]:
    """Yield the numbers (D,) of a recording's whole speech and of random windows.

    Nothing is yielded for a recording with too little sound. `encoder` has the lowest layers.
    """
    speech = speech_of(samples, encoder)
    if speech is None:
        return
    features, frames = speech
    yield voice_vector(features, frames)
    for _ in range(WINDOWS_OF_CLIP):
        count = min(len(features), int(rng.integers(*WINDOW_RANGE_FEATURES)))
        start = int(rng.integers(0, len(features) - count + 1))
        yield voice_vector(features[start : start + count], frames[start : start + count])


def prepared_windows(
    folder: Path,
    clips: Sequence[VoiceClip],
    encoder: SpeechEncoder,
    *,
    copies: int,
    seed: int,
    report: Callable[[str, int, int], None],
) -> Windows:
    """Return the windows of clips and of changed copies, from files in a folder or made there.

    Parameters
    ----------
    encoder : SpeechEncoder
        All its layers.
    copies : int
        Number of copies, the unchanged one included.
    report : callable
        Called with the name of the task, recordings done and their total.
    """
    lowest = encoder.lowest(VOICE_LAYERS)
    parts = []
    for copy in range(copies):
        names = [(clip.corpus, clip.name, clip.audio.stat().st_size) for clip in clips]
        made_from = digest(WINDOWS_VERSION, encoder.fingerprint, copy, seed, names)
        artefact = Artefact(folder / f"copy{copy}.npz", made_from)
        if artefact.state is not State.UP_TO_DATE:
            label = f"voices, copy {copy + 1} of {copies}"
            progress = lambda done, label=label: report(label, done, len(clips))
            windows = _windows_of_copy(clips, lowest, copy, seed, progress)
            folder.mkdir(parents=True, exist_ok=True)
            with atomic_write(artefact.path) as partial, partial.open("wb") as file:
                np.savez(file, numbers=windows.numbers, clip=windows.clip, whole=windows.whole)
            artefact.sign()
        names_in_file = ("numbers", "clip", "whole")
        arrays = read_npz(artefact.path, "windows of voices", *names_in_file)
        numbers, clip, whole = (arrays[name] for name in names_in_file)
        parts.append((numbers, clip, np.full(len(clip), copy), whole))
    return Windows(*(np.concatenate(columns) for columns in zip(*parts)))


def _windows_of_copy(
    clips: Sequence[VoiceClip],
    encoder: SpeechEncoder,
    copy: int,
    seed: int,
    progress: Callable[[int], None],
) -> Windows:
    """Return the windows of one copy of clips."""
    rng = np.random.default_rng([seed, copy])
    channels: dict[str, Channel] = {}
    numbers, clip_numbers, whole = [], [], []
    for number, clip in enumerate(clips):
        samples = load_audio(clip.audio).samples()
        if copy:
            channel = channels.setdefault(clip.speaker, Channel(clip.speaker, copy, seed))
            samples = channel(samples)
        for k, vector in enumerate(recording_windows(samples, encoder, rng)):
            numbers.append(vector)
            clip_numbers.append(number)
            whole.append(k == 0)
        progress(number + 1)
    table = np.array(numbers, np.float32)
    count = len(table)
    return Windows(table, np.array(clip_numbers), np.full(count, copy), np.array(whole, bool))
