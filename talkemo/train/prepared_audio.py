"""Audio that is prepared once for training: each utterance unchanged, and augmented copies of it.

A copy has another speed and pitch, and may have gone through a lossy codec. Shards of utterances
lie in `out`/speech: N-NNN.samples.npy with the samples and N-NNN.json with a table of utterances.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from ..audio.mel import mel_filters
from ..audio.recording import open_audio
from ..compute.workers import map_tasks
from ..data.audio_augmentation import change_speed, through_codec
from ..data.utterances import (
    PREPARED_SHARD_UTTERANCES,
    UTTERANCE_FOLDERS,
    Utterance,
    read_utterances,
)
from ..errors import InputError
from ..files.artefact import FINGERPRINT_FILE, Artefact, State
from ..files.cache import corpora_digests, digest
from ..files.reading import reading_errors
from ..files.writing import atomic_write
from ..networks.speech_encoder import FEATURE_RATE, SAMPLES_PER_FEATURE
from .batches import loud_level_of_samples
from .run import Run

COPY_SPEED_RANGES = ((1.0, 1.0), (0.8, 0.97), (1.03, 1.25))  # of each copy's speed, original first
CODEC_SHARE = 0.4  # of the utterances of a changed copy go through a lossy codec
MIN_UTTERANCE_S = 0.4
TABLE_PATTERN, SAMPLES_ENDING = "*-*.json", ".samples.npy"  # file names of shards


@dataclass(frozen=True, eq=False)
class PreparedAudio:
    """U utterances in shards, whose samples are mapped from disk."""

    names: list[str]  # of the shards
    samples: list[np.ndarray]  # of each shard: (N,) int16 at 16 kHz
    shard: np.ndarray  # (U,) int, number of an utterance's shard
    start: np.ndarray  # (U,) int, its first feature in the shard
    count: np.ndarray  # (U,) int, its features
    copy: np.ndarray  # (U,) int, 0 for an utterance as it is, else the number of the changed copy
    speed: np.ndarray  # (U,) float, relative to the utterance's file
    text: list[str]
    speaker: list[str]
    file: list[str]

    def utterance(self, number: int) -> np.ndarray:
        """Return the samples (count · 320,) of an utterance."""
        return self.crop(number, 0, int(self.count[number]))

    def crop(self, number: int, skipped: int, count: int) -> np.ndarray:
        """Return the samples (count · 320,) of an utterance after `skipped` features."""
        first = int(self.start[number]) + skipped
        return self.samples[self.shard[number]][
            first * SAMPLES_PER_FEATURE : (first + count) * SAMPLES_PER_FEATURE
        ]


def load_prepared_audio(folder: Path) -> PreparedAudio:
    """Open what `prepare_audio` wrote; raise InputError if it is damaged or has no utterance."""
    names: list[str] = []
    samples, rows = [], []
    for path in sorted(folder.glob(TABLE_PATTERN)):
        with reading_errors(
            path, "a table of prepared audio", "remove it to have this part prepared again"
        ):
            table = json.loads(path.read_text("utf-8"))
            samples_path = path.with_suffix(SAMPLES_ENDING)
            samples.append(np.load(samples_path, mmap_mode="r", allow_pickle=False))
            total = sum(row["count"] for row in table)
            if samples[-1].shape != (total * SAMPLES_PER_FEATURE,):
                raise ValueError("the audio beside it has another length")
            rows += [{**row, "shard": len(names)} for row in table]
            names.append(path.stem)
    if not rows:
        raise InputError(
            f"{folder}: no utterance of the corpora can be used",
            f"they must last {MIN_UTTERANCE_S:g} s and be readable",
        )
    numbers = ("shard", "start", "count", "copy", "speed")
    columns: dict[str, Any] = {key: np.array([row[key] for row in rows]) for key in numbers}
    for key in ("text", "speaker", "file"):
        columns[key] = [str(row[key]) for row in rows]
    return PreparedAudio(names, samples, **columns)


def prepare_audio(run: Run, seed: int) -> None:
    """Write the audio of all utterances to the run's folder; existing shards are kept.

    Raises
    ------
    InputError
        The folder was made from other data or with another seed, and the run keeps stale results.
    """
    folder, utterances = run.prepared_audio, read_utterances(run.data)
    made_from = (
        seed,
        COPY_SPEED_RANGES,
        CODEC_SHARE,
        corpora_digests(run.data, UTTERANCE_FOLDERS),
    )
    prepared = Artefact(folder, digest(*made_from))
    if prepared.state is State.STALE:
        if not run.discard_stale:
            raise InputError(
                f"{folder}: audio prepared from other data or with another seed",
                "remove the folder, or choose another -o",
            )
        for pattern in (FINGERPRINT_FILE, TABLE_PATTERN, f"*-*{SAMPLES_ENDING}"):
            for path in folder.glob(pattern):
                path.unlink()
    if prepared.state is State.MISSING:
        prepared.sign()
    order = np.random.default_rng(seed).permutation(len(utterances))
    tasks = []
    for copy in range(len(COPY_SPEED_RANGES)):
        for first in range(0, len(order), PREPARED_SHARD_UTTERANCES):
            path = folder / f"{copy}-{first // PREPARED_SHARD_UTTERANCES:03d}.json"
            chosen = [utterances[k] for k in order[first : first + PREPARED_SHARD_UTTERANCES]]
            if not path.is_file():
                tasks.append((path, chosen, copy, seed + 1000 * copy + first, run.data))
    if tasks:
        for done, _ in enumerate(map_tasks(_prepare_shard, tasks, run.jobs)):
            run.report("audio", done + 1, len(tasks))


def _prepare_shard(task: tuple[Path, list[Utterance], int, int, Path]) -> None:
    """Write a shard: its samples, and last its table."""
    path, utterances, copy, seed, data = task
    rng, filters = np.random.default_rng(seed), mel_filters()
    samples, table, start = [np.zeros(0, np.int16)], [], 0
    for utterance in utterances:
        try:
            wave = open_audio(utterance.path).samples()
        except InputError:
            continue
        speed = rng.uniform(*COPY_SPEED_RANGES[copy])
        wave = change_speed(wave, speed)
        count = len(wave) // SAMPLES_PER_FEATURE
        if count < MIN_UTTERANCE_S * FEATURE_RATE:
            continue
        if copy and rng.random() < CODEC_SHARE:
            wave = through_codec(wave, rng)
        samples.append((wave[: count * SAMPLES_PER_FEATURE].clip(-1, 1) * 32767).astype(np.int16))
        row = {
            "start": start,
            "count": count,
            "text": utterance.text,
            "speaker": utterance.speaker,
            "copy": copy,
            "speed": speed,
            "file": utterance.path.relative_to(data).as_posix(),
            "level": round(loud_level_of_samples(samples[-1], filters), 4),
        }
        table.append(row)
        start += count
    with atomic_write(path.with_suffix(SAMPLES_ENDING)) as partial:
        np.save(partial, np.concatenate(samples))
    with atomic_write(path) as partial:
        partial.write_text(json.dumps(table), "utf-8")
