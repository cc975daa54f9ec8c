"""Sound without motion, for the speech encoder: every recording of the corpora and of the speech sets, dev split left out."""

from __future__ import annotations

import csv
import re
import unicodedata
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from ..errors import InputError
from . import corpora

LETTERS = "abcdefghijklmnopqrstuvwxyz' "  # what CTC spells with; the blank comes first, so D = 29 as DeepSpeech's
SHARD = 100  # utterances in a file of prepared sound


@dataclass(frozen=True)
class Utterance:
    """A sound file, what is said in it where that is known, and who speaks."""

    path: Path
    text: str
    speaker: str


def read(data: Path) -> list[Utterance]:
    """All sound under the folder `data` that may be trained on: tracked corpora, facegood, and speech/transcripts.tsv.

    Raises InputError where there is none.
    """
    found = []
    for corpus in corpora.CORPORA:
        if (data / corpus).is_dir():
            for r in corpora.read(corpus, data):
                if r.split == "train":
                    found.append(Utterance(r.audio, "", r.speaker))
    found += [Utterance(path, "", "facegood") for path in sorted((data / "facegood" / "audio").glob("*.ogg"))]
    table = data / "speech" / "transcripts.tsv"
    if table.is_file():
        with table.open(encoding="utf-8", newline="") as file:
            rows = csv.DictReader(file, delimiter="\t", quoting=csv.QUOTE_NONE)
            if not {"file", "set", "speaker", "text"} <= set(rows.fieldnames or []):
                raise InputError(f"{table}: has no columns file, set, speaker and text")
            for row in rows:
                path = data / "speech" / row["file"]
                found.append(Utterance(path, spelling(row["text"]), f"{row['set']}_{row['speaker']}"))
    found = [u for u in found if u.path.is_file()]
    if not found:
        raise InputError(f"{data}: no speech in it", "the speech encoder learns from the corpora's and speech/'s sound")
    return found


def spelling(text: str) -> str:
    """A transcript in the letters that CTC knows; empty where it holds digits, which are read in many ways."""
    text = unicodedata.normalize("NFKD", text.lower()).replace("’", "'").replace("-", " ")
    if re.search(r"\d", text):
        return ""
    return " ".join("".join(c for c in text if c in LETTERS).split())


def letters(text: str) -> np.ndarray:
    """A spelling as CTC labels (L,), 1 … 28."""
    return np.array([LETTERS.index(c) + 1 for c in text], np.int64)
