"""Recordings of acted emotion for the voice: audio, speaker, emotion and how strongly it is acted.

Landmarks are not read. `emotional_speech` is a folder of audio with clips.tsv, whose rows belong to
several corpora; RAVDESS and Java-SED are those of corpora.py.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from ..errors import InputError
from ..expression.emotions import EMOTION_SYNONYMS, EMOTIONS
from ..files.reading import printable
from .corpora import INCOMPLETE_HINT, RAVDESS_DEV_ACTORS
from .custom_corpora import CLIPS_TABLE, find_custom_corpora, read_clips
from .recordings import SPLITS, read_table

VOICE_FOLDERS = ("ravdess", "java_sed", "emotional_speech")  # of the data folder
FREE_VOICE_FOLDERS = ("java_sed", "emotional_speech")  # that hold any of FREE_VOICES
# Corpora whose recordings may be used for any purpose, by the names that clips have.
FREE_VOICES = ("java_sed", "crema_d")
STRONG, WEAK = "strong", "weak"
INTENSITIES = {
    "strong": STRONG,
    "high": STRONG,
    "02": STRONG,
    "normal": WEAK,
    "low": WEAK,
    "01": WEAK,
}


@dataclass(frozen=True)
class VoiceClip:
    """A recording of a voice that acts an emotion."""

    corpus: str
    name: str
    speaker: str
    emotion: str  # of EMOTIONS
    intensity: str  # STRONG, WEAK, or empty where the corpus does not say
    split: str  # of SPLITS
    audio: Path


def present_voices(data: Path) -> tuple[str, ...]:
    """Return the folders of acted voices in the folder `data`, custom ones last."""
    known = tuple(name for name in VOICE_FOLDERS if (data / name).is_dir())
    return known + tuple(corpus.name for corpus in find_custom_corpora(data) if corpus.acted)


def read_voices(data: Path, folders: Iterable[str], free: bool = False) -> list[VoiceClip]:
    """Return the recordings of acted emotion in folders of `data`.

    Parameters
    ----------
    free : bool
        Only those that may be used for any purpose.

    Raises
    ------
    InputError
        A table or a file is missing or damaged.
    """
    custom = {corpus.name: corpus for corpus in find_custom_corpora(data)}
    clips: list[VoiceClip] = []
    for name in folders:
        folder = data / name
        if not folder.is_dir():
            continue
        if name == "ravdess":
            clips += _ravdess(folder)
        elif name in VOICE_FOLDERS:
            clips += _listed(folder)
        elif name in custom:
            rows = read_clips(folder, custom[name])
            clips += [
                VoiceClip(name, c.name, f"{name}_{c.speaker}", c.emotion, "", c.split, c.audio)
                for c in rows
            ]
    allowed = {*FREE_VOICES, *(c.name for c in custom.values() if c.any_use)}
    clips = [clip for clip in clips if not free or clip.corpus in allowed]
    if not clips:
        raise InputError(
            f"{printable(data)}: no recordings of acted emotion",
            f"the folders {', '.join(VOICE_FOLDERS)} have them",
        )
    missing = next((clip.audio for clip in clips if not clip.audio.is_file()), None)
    if missing is not None:
        raise InputError(f"{printable(missing)}: no such file", INCOMPLETE_HINT)
    return clips


def _ravdess(folder: Path) -> Iterator[VoiceClip]:
    """Yield RAVDESS's trials, by the names of its audio files."""
    for path in sorted((folder / "audio").glob("Actor_*/*.flac")):
        fields = path.stem.split("-")
        if len(fields) != 6 or not all(field.isdigit() for field in fields):
            raise InputError(f"{printable(path)}: not the name of a trial", INCOMPLETE_HINT)
        emotion, actor = int(fields[1]) - 1, int(fields[5])
        if not 0 <= emotion < len(EMOTIONS):
            raise InputError(f"{printable(path)}: an unknown emotion", INCOMPLETE_HINT)
        yield VoiceClip(
            "ravdess",
            path.stem,
            f"ravdess_{actor:02d}",
            EMOTIONS[emotion],
            INTENSITIES.get(fields[2], ""),
            "dev" if actor in RAVDESS_DEV_ACTORS else "train",
            path,
        )


def _listed(folder: Path) -> Iterator[VoiceClip]:
    """Yield the rows of a folder's clips.tsv: tracked corpora, and `emotional_speech`."""
    path = folder / CLIPS_TABLE
    for row in read_table(path, ("speaker", "emotion", "split")):
        corpus = row.get("corpus") or folder.name
        emotion = EMOTION_SYNONYMS.get(row["emotion"], row["emotion"])
        if emotion not in EMOTIONS or row["split"] not in SPLITS:
            raise InputError(
                f"{printable(path)}: unknown emotion or split in a row of {printable(row['speaker'])}",
                INCOMPLETE_HINT,
            )
        is_file = "file" in row
        name = row["file"] if is_file else row.get("name", "")
        audio = folder / name if is_file else folder / "audio" / f"{name}.ogg"
        if ".." in Path(name).parts or Path(name).is_absolute():
            raise InputError(f"{printable(path)}: a name that leaves the folder", INCOMPLETE_HINT)
        speaker = row["speaker"]
        yield VoiceClip(
            corpus,
            name,
            speaker if speaker.startswith(corpus) else f"{corpus}_{speaker}",
            emotion,
            INTENSITIES.get(row.get("intensity", ""), ""),
            row["split"],
            audio,
        )
