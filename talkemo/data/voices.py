"""Sound for the speech encoder: all that may be used for any purpose, commerce included, without the dev split."""

from __future__ import annotations

import csv
import re
import unicodedata
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from ..errors import InputError
from . import corpora
from .facegood import DEV_TAKES

FREE_CORPORA = (
    "java_sed",
)  # corpora of recordings that may be used for any purpose; facegood may, too
FOLDERS = (*FREE_CORPORA, "facegood", "speech")  # of the data folder, that `read_corpus` looks into
RESTRICTED = re.compile(
    r"\bNC\b", re.IGNORECASE
)  # in the licence of a speech set's row: not for commerce
LETTERS = "abcdefghijklmnopqrstuvwxyz' "  # CTC's labels 1 … 28; 0 is the blank
SHARD = 100  # utterances in a file of prepared sound


@dataclass(frozen=True)
class Utterance:
    """A sound file. text: its transcript, empty where there is none."""

    path: Path
    text: str
    speaker: str


def read(data: Path) -> list[Utterance]:
    """All sound under the folder `data` to train on: the training splits, facegood, and speech/transcripts.tsv.

    Raises InputError where there is none.
    """
    found = []
    for corpus in FREE_CORPORA:
        if (data / corpus).is_dir():
            for r in corpora.read_corpus(corpus, data):
                if r.split == "train":
                    found.append(Utterance(r.audio, "", r.speaker))
    takes = sorted((data / "facegood" / "audio").glob("*.ogg"))
    found += [Utterance(path, "", "facegood") for path in takes if path.stem not in DEV_TAKES]
    table = data / "speech" / "transcripts.tsv"
    if table.is_file():
        with table.open(encoding="utf-8", newline="") as file:
            rows = csv.DictReader(file, delimiter="\t", quoting=csv.QUOTE_NONE)
            if not {"file", "set", "speaker", "text"} <= set(rows.fieldnames or []):
                raise InputError(
                    f"{table}: has no columns file, set, speaker and text",
                    "separate columns by tabs",
                )
            for row in rows:
                if RESTRICTED.search(row.get("licence") or ""):
                    continue
                path = data / "speech" / row["file"]
                found.append(
                    Utterance(path, spelling(row["text"]), f"{row['set']}_{row['speaker']}")
                )
    found = [u for u in found if u.path.is_file()]
    if not found:
        raise InputError(
            f"{data}: no speech in it",
            "the speech encoder is trained on the sound of corpora and of speech/",
        )
    return found


def spelling(text: str) -> str:
    """A transcript in LETTERS; empty where it has digits, which can be read in several ways."""
    text = unicodedata.normalize("NFKD", text.lower()).replace("’", "'").replace("-", " ")
    if re.search(r"\d", text):
        return ""
    return " ".join("".join(c for c in text if c in LETTERS).split())


def letters(text: str) -> np.ndarray:
    """CTC labels (L,), 1 … 28, of a spelling."""
    return np.array([LETTERS.index(c) + 1 for c in text], np.int64)
