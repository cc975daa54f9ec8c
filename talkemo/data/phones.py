"""When which phone is spoken: English speech aligned with its transcript by pocketsphinx, for training and evaluation.

An alignment is forced: it puts the transcript's phones where they fit best, whether they were spoken or not. Its times
are multiples of 10 ms, and of a phone that a speaker swallows it keeps 30 ms.
"""

from __future__ import annotations

import csv
import json
import re
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from ..audio.recording import SAMPLE_RATE, open_audio
from ..compute.workers import worker_pool
from ..errors import InputError, TalkemoError
from ..files.cache import digest
from ..files.reading import parse_json, read_json_object, reading_errors
from ..files.writing import atomic_write
from .voices import spelling

BILABIALS = ("P", "B", "M")
LABIODENTALS = ("F", "V")
SILENCE = "SIL"
FRAME = 0.01  # s, of the aligner's frames
# s after the time of its number that a frame begins: it is measured over the 25.6 ms from there on, and stands for the
# 10 ms around their middle.
FRAME_DELAY = 0.0078
BEAM, WORD_BEAM = 1e-100, 1e-80  # of the search; wider than is usual, since the words are known
SHARD = 200  # utterances that are kept together while a corpus is aligned
LARGEST = 1 << 28  # bytes of a file of phones; of 10 hours of speech it has 10 million
VERSION = 1  # of the alignment, so that parts of another one are not used


@dataclass(frozen=True)
class Phone:
    """A phone, ARPAbet in upper case without stress, or SIL for silence and noise, from `start` to `end` in s."""

    name: str
    start: float
    end: float


@dataclass(frozen=True)
class Word:
    """A word of a transcript as it is aligned; its text is empty where nobody speaks."""

    text: str
    phones: tuple[Phone, ...]


class Aligner:
    """Pocketsphinx with its own model and dictionary of American English. Raises TalkemoError where it is missing."""

    def __init__(self) -> None:
        try:
            from pocketsphinx import Decoder
        except ImportError:
            raise TalkemoError(
                "phones are aligned by pocketsphinx, which is not installed",
                "pip install pocketsphinx",
            ) from None
        # The best path through the lattice, which is searched for otherwise, often cannot be aligned to phones.
        self._decoder: Any = Decoder(
            lm=None, loglevel="FATAL", bestpath=False, beam=BEAM, pbeam=WORD_BEAM, wbeam=WORD_BEAM
        )

    def phones(self, samples: np.ndarray, text: str) -> list[Phone] | None:
        """The phones of speech, without gaps from its beginning to its end, silence among them.

        samples: (N,) float32 at 16 kHz; text: what is said
        None where the text has digits or words that the dictionary lacks, or cannot be aligned.
        """
        words = self.words(samples, text)
        if words is None:
            return None
        found: list[Phone] = []
        for phone in (phone for word in words for phone in word.phones):
            if found and phone.name == found[-1].name == SILENCE:
                found[-1] = Phone(SILENCE, found[-1].start, phone.end)
            else:
                found.append(phone)
        return found

    def words(self, samples: np.ndarray, text: str) -> list[Word] | None:
        """The words of speech with their phones, and the silence between them; None as in `phones`."""
        spoken = self.spelled(text)
        if not spoken or len(samples) == 0:
            return None
        pcm = (np.clip(samples, -1, 1) * 32767).astype(np.int16).tobytes()
        try:
            self._decoder.set_align_text(" ".join(spoken))
            self._decode(pcm)
            self._decoder.set_alignment()
            self._decode(pcm)
            words = [
                _word(word, len(samples) / SAMPLE_RATE) for word in self._decoder.get_alignment()
            ]
        except RuntimeError:
            with suppress(RuntimeError):
                self._decoder.end_utt()
            return None
        # A search that does not reach the text's end ends somewhere before it, and says nothing.
        return words if [word.text for word in words if word.text] == spoken else None

    def spelled(self, text: str) -> list[str] | None:
        """The words of a text as the dictionary has them; None where it lacks one, and for digits and symbols."""
        if re.search(r"[&%$£€@+=#]", text):  # they are spoken, in one way or another
            return None
        words = []
        for word in spelling(re.sub(r"[—–/…]|\.\.+", " ", text)).split():
            known = next(
                (w for w in (word, word.strip("'")) if w and self._decoder.lookup_word(w)), None
            )
            if known is None:
                if word.strip("'"):
                    return None
                continue  # a quotation mark on its own
            words.append(known)
        return words or None

    def _decode(self, pcm: bytes) -> None:
        """One pass over the sound, int16 at 16 kHz. Raises RuntimeError where it fails."""
        self._decoder.reinit_feat()  # forgets the noise of the sound before, so that results do not depend on order
        self._decoder.start_utt()
        self._decoder.process_raw(pcm, full_utt=True)
        self._decoder.end_utt()


def _word(word: Any, duration: float) -> Word:
    """A word of pocketsphinx's alignment. duration: of the sound, in s"""
    phones = []
    for phone in word:
        first, last = phone.start, phone.start + phone.duration
        start = first * FRAME + FRAME_DELAY if first else 0.0
        phones.append(
            Phone(
                phone.name if phone.name.isalpha() else SILENCE,  # noises are +NSN+ and the like
                min(start, duration),
                min(last * FRAME + FRAME_DELAY, duration),
            )
        )
    text = "" if word.name[0] in "<[+" else re.sub(r"\(\d+\)$", "", word.name)
    return Word(text, tuple(phones))


def bilabial_times(phones: list[Phone]) -> np.ndarray:
    """Start and end (K, 2) in s of each P, B and M."""
    return np.array([(p.start, p.end) for p in phones if p.name in BILABIALS], np.float64).reshape(
        -1, 2
    )


def align_corpus(
    data: Path, out: Path, jobs: int = 2, progress: Callable[[int, int], None] | None = None
) -> dict[str, int]:
    """Align the utterances of data/speech/transcripts.tsv; write {file: [[phone, start, end], …]} to `out`, a JSON.

    Times are in s. Utterances that cannot be aligned are left out. What is done is kept in a folder beside `out`
    until all is done, and taken from there after an interruption. Returns how many utterances there are, how many of
    them are aligned, and how many could not be although the dictionary has all their words.
    Raises InputError where there are no transcripts, TalkemoError where pocketsphinx is missing.

    progress: is told of shards, done and all
    """
    rows = _transcripts(data)
    folder = out.with_suffix(".parts")
    folder.mkdir(parents=True, exist_ok=True)
    shards = [rows[k : k + SHARD] for k in range(0, len(rows), SHARD)]
    parts = [part_path(out, shard) for shard in shards]
    tasks = [
        (data / "speech", shard, part) for shard, part in zip(shards, parts) if not part.is_file()
    ]
    if tasks:
        Aligner()  # raises what is missing here, not in a process of the pool
        with worker_pool(jobs) as pool:
            for done, _ in enumerate(pool.map(_align_shard, tasks), len(shards) - len(tasks) + 1):
                if progress:
                    progress(done, len(shards))
    found: dict[str, list] = {}
    failed = 0
    for part in parts:
        content = parse_json(part.read_text("utf-8"))
        found |= content["phones"]
        failed += content["failed"]
    with atomic_write(out) as partial:
        partial.write_text(json.dumps(found, separators=(",", ":")), "utf-8")
    for part in parts:
        part.unlink(missing_ok=True)
    with suppress(OSError):  # parts of another alignment are in it
        folder.rmdir()
    return {"utterances": len(rows), "aligned": len(found), "failed": failed}


def read_phones(path: Path) -> dict[str, list[Phone]]:
    """The phones of recordings by name or file, of a JSON as `align_corpus` writes it, {name: [[phone, start, end], …]}.

    Raises InputError where the file is something else.
    """
    what, hint = (
        "a file of aligned phones",
        "name one that has [phone, start, end] lists by recording",
    )
    found = read_json_object(path, what, hint, LARGEST)
    with reading_errors(path, what, hint):
        return {
            str(name): [Phone(str(phone), float(start), float(end)) for phone, start, end in phones]
            for name, phones in found.items()
        }


def _transcripts(data: Path) -> list[tuple[str, str]]:
    """File, relative to data/speech, and text of all utterances. Raises InputError where there are none."""
    table = data / "speech" / "transcripts.tsv"
    if not table.is_file():
        raise InputError(
            f"{table}: no such table", "phones are aligned with the transcripts of speech/"
        )
    with table.open(encoding="utf-8", newline="") as file:
        rows = csv.DictReader(file, delimiter="\t", quoting=csv.QUOTE_NONE)
        if not {"file", "text"} <= set(rows.fieldnames or []):
            raise InputError(f"{table}: has no columns file and text", "separate columns by tabs")
        return [(row["file"], row["text"]) for row in rows]


def part_path(out: Path, rows: list[tuple[str, str]]) -> Path:
    """Where a shard is kept until `out` is written; its name is a digest of what is aligned, and how."""
    return out.with_suffix(".parts") / f"{digest(VERSION, rows)[:16]}.json"


def rounded(phones: list[Phone]) -> list[list]:
    """Phones as they are written to JSON: name, start and end in s, in hundredths."""
    return [[phone.name, round(phone.start, 2), round(phone.end, 2)] for phone in phones]


_aligner: list[Aligner] = []  # one a process


def _align_shard(task: tuple[Path, list[tuple[str, str]], Path]) -> None:
    """Write the part of a shard: the phones of its utterances, and how many of them failed."""
    folder, rows, part = task
    if not _aligner:
        _aligner.append(Aligner())
    found, failed = {}, 0
    for name, text in rows:
        if _aligner[0].spelled(text) is None:
            continue
        try:
            phones = _aligner[0].phones(open_audio(folder / name).samples(), text)
        except InputError:
            phones = None
        if phones is None:
            failed += 1
        else:
            found[name] = rounded(phones)
    with atomic_write(part) as partial:
        partial.write_text(json.dumps({"phones": found, "failed": failed}), "utf-8")
