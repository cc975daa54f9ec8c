"""Phones and their times: English speech aligned with its transcript by pocketsphinx.

Forced alignment puts the transcript's phones where they fit best, whether they were spoken or not.
Times are multiples of 10 ms; a phone that the speaker omits still gets 30 ms.
"""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np

from ..audio.recording import SAMPLE_RATE, open_audio
from ..audio.samples import MAX_AUDIO_S
from ..compute.workers import map_tasks
from ..errors import InputError, TalkemoError
from ..files.cache import digest
from ..files.json_stream import JsonReader
from ..files.limits import limit
from ..files.reading import open_file, parse_json, printable, read_text, reading_errors
from ..files.writing import atomic_write
from .recordings import read_table
from .utterances import normalise_transcript

BILABIALS = ("P", "B", "M")
LABIODENTALS = ("F", "V")
SILENCE_PHONE = "SIL"
ALIGNER_FRAME_S = 0.01
# A frame with index k starts at k · ALIGNER_FRAME_S plus this: it is computed from a window of
# 25.6 ms and describes the 10 ms in the window's middle.
ALIGNER_FRAME_DELAY_S = 0.0078
# Beams of the search, wider than usual since the words are known.
ALIGNER_BEAM = 1e-100
ALIGNER_WORD_BEAM = 1e-80
ALIGNMENT_SHARD_UTTERANCES = 200  # that one task aligns and writes to one file
MAX_PHONES_BYTES = limit("MAX_PHONES_BYTES", 1 << 28)  # of a file of phones
MAX_PHONES = limit("MAX_PHONES", 5_000_000)  # of a file; a hundred hours of speech
MIN_RECORDING_PHONES = 10  # that each recording counts for; limits their number
PHONE_NAME = re.compile(r"[^\W\d_]\S{0,15}")  # in ARPAbet or another alphabet
ALIGNMENT_VERSION = 1  # shards of another version are not reused


@dataclass(frozen=True, slots=True)
class Phone:
    """A phone with its start and end in s."""

    name: str  # ARPAbet in upper case without stress, or SIL for silence and noise
    start: float
    end: float


@dataclass(frozen=True)
class Word:
    """An aligned word of a transcript, or silence."""

    text: str  # empty for silence
    phones: tuple[Phone, ...]


class Aligner:
    """Pocketsphinx with its own model and dictionary of American English.

    Raises TalkemoError if it is not installed.
    """

    def __init__(self) -> None:
        try:
            from pocketsphinx import Decoder
        except ImportError:
            raise TalkemoError(
                "phones are aligned by pocketsphinx, which is not installed",
                "pip install pocketsphinx",
            ) from None
        # The default, the best path through the lattice, often cannot be aligned to phones.
        self._decoder: Any = Decoder(
            lm=None,
            loglevel="FATAL",
            bestpath=False,
            beam=ALIGNER_BEAM,
            pbeam=ALIGNER_WORD_BEAM,
            wbeam=ALIGNER_WORD_BEAM,
        )

    def phones(self, samples: np.ndarray, text: str) -> list[Phone] | None:
        """Align speech with its transcript.

        Parameters
        ----------
        samples : (N,) float32 at 16 kHz
        text
            The transcript.

        Returns
        -------
        Phones, and silence between them, from the beginning of the speech to its end without gaps.
        None if the text has digits or words that the dictionary lacks, or cannot be aligned.
        """
        words = self.words(samples, text)
        if words is None:
            return None
        phones: list[Phone] = []
        for phone in (phone for word in words for phone in word.phones):
            if phones and phone.name == phones[-1].name == SILENCE_PHONE:
                phones[-1] = Phone(SILENCE_PHONE, phones[-1].start, phone.end)
            else:
                phones.append(phone)
        return phones

    def words(self, samples: np.ndarray, text: str) -> list[Word] | None:
        """The aligned words, and the silence between them; None as in `phones`."""
        spoken = self.dictionary_words(text)
        if not spoken or len(samples) == 0:
            return None
        pcm = (np.clip(samples, -1, 1) * 32767).astype(np.int16).tobytes()
        duration = len(samples) / SAMPLE_RATE
        try:
            self._decoder.set_align_text(" ".join(spoken))
            self._decode(pcm)
            self._decoder.set_alignment()
            self._decode(pcm)
            words = [_word(word, duration) for word in self._decoder.get_alignment()]
        except RuntimeError:
            with suppress(RuntimeError):
                self._decoder.end_utt()
            return None
        # A search that does not reach the end of the text stops before it without an error.
        return words if [word.text for word in words if word.text] == spoken else None

    def dictionary_words(self, text: str) -> list[str] | None:
        """The words of a text as the dictionary spells them.

        None if the text has digits or symbols, which can be read in several ways, or a word that
        the dictionary lacks.
        """
        if re.search(r"[&%$£€@+=#]", text):
            return None
        words = []
        for word in normalise_transcript(re.sub(r"[—–/…]|\.\.+", " ", text)).split():
            bare = word.strip("'")
            if self._decoder.lookup_word(word):
                words.append(word)
            elif bare and self._decoder.lookup_word(bare):
                words.append(bare)
            elif bare:
                return None
        return words or None

    def _decode(self, pcm: bytes) -> None:
        """Decode int16 samples at 16 kHz. Raises RuntimeError if that fails."""
        # Reset the noise estimate, so that results do not depend on the previous utterance.
        self._decoder.reinit_feat()
        self._decoder.start_utt()
        self._decoder.process_raw(pcm, full_utt=True)
        self._decoder.end_utt()


def _word(word: Any, duration: float) -> Word:
    """Convert a word of pocketsphinx's alignment of `duration` s."""
    phones = []
    for phone in word:
        first, last = phone.start, phone.start + phone.duration
        start = first * ALIGNER_FRAME_S + ALIGNER_FRAME_DELAY_S if first else 0.0
        end = last * ALIGNER_FRAME_S + ALIGNER_FRAME_DELAY_S
        name = phone.name if phone.name.isalpha() else SILENCE_PHONE  # noises are +NSN+ etc.
        phones.append(Phone(name, min(start, duration), min(end, duration)))
    text = "" if word.name[0] in "<[+" else re.sub(r"\(\d+\)$", "", word.name)
    return Word(text, tuple(phones))


def bilabial_times(phones: Sequence[Phone]) -> np.ndarray:
    """Start and end (K, 2) in s of each P, B and M."""
    return phone_times(phones, BILABIALS)


def phone_times(phones: Sequence[Phone], names: Sequence[str]) -> np.ndarray:
    """Start and end (K, 2) in s of each phone that has one of the names."""
    times = [(p.start, p.end) for p in phones if p.name in names]
    return np.array(times, np.float64).reshape(-1, 2)


# ----------------------------------------------------------------------------------------- corpus


def align_corpus(
    data: Path, out: Path, jobs: int = 2, progress: Callable[[int, int], None] | None = None
) -> dict[str, int]:
    """Align the utterances of data/speech/transcripts.tsv and write their phones as JSON.

    Finished shards are kept in a folder beside `out` until all are done, so that an interrupted
    alignment resumes. Utterances that cannot be aligned are left out.

    Parameters
    ----------
    data
        The folder of the corpora.
    out
        Written with {file: [[phone, start, end], ...]}, times in s.
    jobs
        Number of processes.
    progress
        Called with the number of shards done, and of all.

    Returns
    -------
    The numbers of `utterances`, of `aligned` ones, and of those that `failed` although the
    dictionary has all their words.

    Raises
    ------
    InputError
        There are no transcripts.
    TalkemoError
        pocketsphinx is not installed.
    """
    rows = _transcripts(data)
    folder = out.with_suffix(".parts")
    folder.mkdir(parents=True, exist_ok=True)
    size = ALIGNMENT_SHARD_UTTERANCES
    shards = [rows[k : k + size] for k in range(0, len(rows), size)]
    paths = [shard_path(out, shard) for shard in shards]
    tasks = [
        (data / "speech", shard, path) for shard, path in zip(shards, paths) if not path.is_file()
    ]
    if tasks:
        Aligner()  # a missing package is reported here, not in a worker process
        aligned = map_tasks(_align_shard, tasks, jobs)
        for done, _ in enumerate(aligned, len(shards) - len(tasks) + 1):
            if progress:
                progress(done, len(shards))
    phones: dict[str, list] = {}
    failed = 0
    for path in paths:
        content = parse_json(read_text(path, "a shard of phones", "remove it", MAX_PHONES_BYTES))
        phones |= content["phones"]
        failed += content["failed"]
    with atomic_write(out) as partial:
        partial.write_text(json.dumps(phones, separators=(",", ":")), "utf-8")
    for path in paths:
        path.unlink(missing_ok=True)
    with suppress(OSError):  # shards of another alignment remain in it
        folder.rmdir()
    return {"utterances": len(rows), "aligned": len(phones), "failed": failed}


def read_phones(path: Path) -> dict[str, list[Phone]]:
    """Read phones that `align_corpus` or a user wrote, as a dict from recordings to their phones.

    Recordings are named by their audio files (`align_corpus`) or by their names (evaluation).

    Raises InputError if the file has another format than {name: [[phone, start, end], ...]}, a
    phone without a name or with impossible times, or too many phones.
    """
    what = "a file of aligned phones"
    hint = "name one that has [phone, start, end] lists by recording, times in s from 0"
    result: dict[str, list[Phone]] = {}
    count = 0
    with reading_errors(path, what, hint), open_file(path, what, hint, MAX_PHONES_BYTES) as file:
        reader = JsonReader(file)
        if reader.peek() != "{":
            raise ValueError("it holds no JSON object")
        for name in reader.names():
            phones = reader.value()
            count += MIN_RECORDING_PHONES + len(phones)
            if count > MAX_PHONES:
                raise ValueError(f"more than {MAX_PHONES} phones")
            result[name] = [_parse_phone(name, phone) for phone in phones]
        reader.end()
    return result


def _parse_phone(recording: str, item: Any) -> Phone:
    """Return a phone of a JSON list. Raises ValueError for an impossible name or time."""
    name, start, end = item if isinstance(item, list) and len(item) == 3 else ("", 0, 0)
    if not isinstance(name, str) or not PHONE_NAME.fullmatch(name):
        raise ValueError(f"{printable(recording, 40)}: {printable(item, 40)} has no phone's name")
    are_numbers = type(start) in (int, float) and type(end) in (int, float)
    if not are_numbers or not 0 <= start <= end <= MAX_AUDIO_S:
        raise ValueError(f"{printable(recording, 40)}: {printable(item, 40)} has impossible times")
    return Phone(sys.intern(name), float(start), float(end))


def _transcripts(data: Path) -> list[tuple[str, str]]:
    """File, relative to data/speech, and text of all utterances. Raises InputError without any."""
    table = data / "speech" / "transcripts.tsv"
    if not table.is_file():
        raise InputError(
            f"{table}: no such table", "phones are aligned with the transcripts of speech/"
        )
    return [(row["file"], row["text"]) for row in read_table(table, ("file", "text"))]


def shard_path(out: Path, rows: list[tuple[str, str]]) -> Path:
    """Where a shard is kept until `out` is written; named by its content and the version."""
    return out.with_suffix(".parts") / f"{digest(ALIGNMENT_VERSION, rows)[:16]}.json"


def phones_to_json(phones: list[Phone]) -> list[list]:
    """Phones as lists of name, start and end in s, rounded to hundredths."""
    return [[phone.name, round(phone.start, 2), round(phone.end, 2)] for phone in phones]


@lru_cache(maxsize=1)
def _process_aligner() -> Aligner:
    """The aligner of this process."""
    return Aligner()


def _align_shard(task: tuple[Path, list[tuple[str, str]], Path]) -> None:
    """Write the phones of a shard's utterances, and how many failed."""
    folder, rows, path = task
    aligner = _process_aligner()
    aligned, failed = {}, 0
    for name, text in rows:
        if aligner.dictionary_words(text) is None:
            continue
        try:
            phones = aligner.phones(open_audio(folder / name).samples(), text)
        except InputError:
            phones = None
        if phones is None:
            failed += 1
        else:
            aligned[name] = phones_to_json(phones)
    with atomic_write(path) as partial:
        partial.write_text(json.dumps({"phones": aligned, "failed": failed}), "utf-8")
