"""Utterances for the speech encoder: audio under licences that permit any use, training splits."""

from __future__ import annotations

import re
import unicodedata
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from ..errors import InputError
from ..weights.registry import ANY_USE_CORPORA
from . import corpora
from .facegood import DEV_TAKES
from .recordings import read_table

MAX_TRANSCRIPTS_BYTES = 1 << 28  # of a table
FREE_CORPORA = ("java_sed",)  # corpora of recordings licensed for any use; facegood is, too
UTTERANCE_FOLDERS = ANY_USE_CORPORA  # of the data folder, that are read
# Matches the licence of a row of speech/ that forbids some uses, however it is written.
RESTRICTED = re.compile(
    r"(?<![a-z])(by)?nc(?![a-z])|non[\s_-]?commercial|(research|academic)[\s\w]*only", re.IGNORECASE
)
CTC_LETTERS = "abcdefghijklmnopqrstuvwxyz' "  # CTC's labels 1 … 28; 0 is the blank
PREPARED_SHARD_UTTERANCES = 100  # in a file of prepared audio


@dataclass(frozen=True)
class Utterance:
    """An audio file of speech."""

    path: Path
    text: str  # normalised transcript, empty if there is none
    speaker: str


def read_utterances(data: Path) -> list[Utterance]:
    """All training audio in the folder `data`: training splits, facegood and speech/.

    Raises
    ------
    InputError
        There is none, or the table of speech/ lacks a column.
    """
    utterances = []
    for corpus in FREE_CORPORA:
        if (data / corpus).is_dir():
            recordings = corpora.read_corpus(corpus, data)
            utterances += [
                Utterance(r.audio, "", r.speaker) for r in recordings if r.split == "train"
            ]
    takes = sorted((data / "facegood" / "audio").glob("*.ogg"))
    utterances += [Utterance(path, "", "facegood") for path in takes if path.stem not in DEV_TAKES]
    utterances += _transcribed_utterances(data / "speech")
    utterances = [u for u in utterances if u.path.is_file()]
    if not utterances:
        raise InputError(
            f"{data}: no speech in it",
            "the speech encoder is trained on the audio of corpora and of speech/",
        )
    return utterances


def _transcribed_utterances(folder: Path) -> list[Utterance]:
    """The utterances of transcripts.tsv whose licence does not restrict their use."""
    table = folder / "transcripts.tsv"
    if not table.is_file():
        return []
    return [
        Utterance(
            path=folder / row["file"],
            text=normalise_transcript(row["text"]),
            speaker=f"{row['set']}_{row['speaker']}",
        )
        for row in read_table(table, ("file", "set", "speaker", "text"))
        if not RESTRICTED.search(row.get("licence") or "")
    ]


def normalise_transcript(text: str) -> str:
    """A transcript in CTC_LETTERS; empty if it cannot be spelt in them.

    Digits can be read in several ways, other alphabets have other letters.
    """
    text = unicodedata.normalize("NFKD", re.sub("[’‘`´]", "'", text.lower()))
    if re.search(r"\d", text):
        return ""
    letters = [c for c in text if not unicodedata.combining(c)]
    if any(c.isalpha() and c not in CTC_LETTERS for c in letters):
        return ""
    return " ".join("".join(c if c in CTC_LETTERS else " " for c in letters).split())


def ctc_labels(text: str) -> np.ndarray:
    """CTC labels (L,) int64, 1 … 28, of a normalised transcript."""
    return np.array([CTC_LETTERS.index(c) + 1 for c in text], np.int64)
