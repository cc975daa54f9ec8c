"""Stage 2: the speech encoder, taught by a large one to hear and by transcripts to spell.

Sound is prepared once: every utterance as it is and as other voices at other speeds, each with the teacher's features.
Training then hears it in rooms, over lines and with noise, while the teacher heard it clean.

Of what the teacher hears, that counts most which moves lips: a linear map from its features to captured motion says for
every utterance how the lips would move, and the encoder's features have to tell that too. So the hundreds of voices that
nobody filmed teach lips.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from dataclasses import asdict, dataclass
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch.nn import functional

from .. import speech
from ..data import voices
from ..data.facegood import CORPUS as FACEGOOD
from ..data.sound import augment, change_speed, mel_batch, through_codec
from ..data.voices import Utterance
from ..encoder import RATE, SAMPLES, WIDTH, EncoderNetwork, save_encoder
from ..errors import InputError
from ..face import Face, orthonormal_span
from ..files import whole
from .loop import Loop, half_precision
from .talking import Objective, TalkingConfig, held_out, neutral_recordings, opening_rows
from .teacher import WIDTH as TEACHER_WIDTH
from .teacher import Teacher

SPEEDS = ((1.0, 1.0), (0.8, 0.97), (1.03, 1.25))  # of each copy of the sound, from … to
CODECS = 0.4  # share of the utterances of a changed copy that go through a lossy codec
SHORTEST = 0.4  # s
TAPS = 13  # features around a frame that tell its lips
RIDGE = 3.0  # times the number of unknowns, of the linear map from the teacher's features to lips
TAUGHT = 7200  # s of sound that goes with such motion into the talking model's training
HELD_OUT = 8  # every so many'th filmed speaker has no part in that map, for figures on people it has never seen


@dataclass(frozen=True)
class SpeechConfig:
    """Settings of the speech encoder's training."""

    steps: int = 14000
    batch: int = 16  # utterances
    seconds: float = 5.0  # of an utterance at most
    learning_rate: float = 1.5e-3  # AdamW, after a warm-up, falling to zero as a cosine
    warm_up: int = 300  # steps
    spelling: float = 0.05  # weight of the CTC loss
    lips: float = 2.0  # weight of the motion of the lips that the teacher's features tell; 0 needs no captures
    seed: int = 0


def train_speech(
    face: Face,
    data: Path,
    out: Path,
    config: SpeechConfig,
    resume: bool = False,
    max_minutes: float | None = None,
    jobs: int = 1,
    face_path: str | None = None,
    progress: Callable[[str, int, int], None] | None = None,
) -> Path:
    """Train on all sound under `data` but the dev split's; prepared sound is kept in `out`/speech and made where missing.

    What lips do is learnt from the captures in `out`/captures, made where missing. Writes and returns `out`/speech.safetensors.
    """
    # First of all: what is missing is better said before the hours that the sound takes.
    lips = lip_teacher(face, data, out / "captures", face_path, jobs, progress) if config.lips else None
    prepare(data, out / "speech", config.seed, jobs, progress)
    samples, targets, index = load_prepared(out / "speech")
    some = np.concatenate([targets[k][::50].astype(np.float32) for k in range(0, len(targets), 3)])
    middle, spread = torch.from_numpy(some.mean(0)), torch.from_numpy(some.std(0) + 1e-6)

    torch.manual_seed(config.seed)
    network = EncoderNetwork()
    modules: dict[str, torch.nn.Module] = {"network": network, "head": torch.nn.Linear(WIDTH, TEACHER_WIDTH)}
    if lips:
        save_taught(out / "taught.npz", samples, targets, index, lips, face, config.seed)
        modules["lips"] = torch.nn.Conv1d(WIDTH, lips.out_channels, TAPS)
        told = lips(torch.from_numpy(targets[0][: 4 * 60 * 50].astype(np.float32)).T[None])[0]
        usual = told.var(1).sum()
    parameters = [p for module in modules.values() for p in module.parameters()]
    optimiser = torch.optim.AdamW(parameters, config.learning_rate, weight_decay=0.01)
    same = {**asdict(config), "steps": None}
    loop = Loop("speech", out, modules, {"adam": optimiser}, resume, max_minutes, same)
    rng = np.random.default_rng(config.seed + loop.step)
    weight = np.minimum(index["count"], config.seconds * 50)
    weight = weight / weight.sum()
    sums, summed = torch.zeros(3), 0
    while loop.step < config.steps and not loop.out_of_time:
        warm = min(1.0, (loop.step + 1) / config.warm_up)
        optimiser.param_groups[0]["lr"] = config.learning_rate * warm * _cosine(loop.step / config.steps)
        wave, target, known, labels = _batch(samples, targets, index, weight, config, rng)
        mel = mel_batch(augment(wave, rng), rng)
        with half_precision():
            features = network(mel)
            taught = modules["head"](features)
            spelled = network.log_probabilities(features)
            moved = modules["lips"](features.transpose(1, 2)) if lips else None
        error = (taught.float() - (target - middle) / spread).square().mean(2)
        distil = (error * known).sum() / known.sum()
        spell = _ctc(spelled, known, labels)
        speak = torch.zeros(())
        if moved is not None and lips is not None:
            with torch.no_grad(), half_precision():
                told = lips(target.transpose(1, 2)).float()
            inside = known[:, TAPS - 1 :]
            speak = ((moved.float() - told).square().sum(1) * inside).sum() / inside.sum() / usual
        optimiser.zero_grad()
        (distil + config.spelling * spell + config.lips * speak).backward()
        torch.nn.utils.clip_grad_norm_(parameters, 1.0)
        optimiser.step()
        sums, summed = sums + torch.stack([distil, spell, speak]).detach(), summed + 1
        loop.step += 1
        if loop.step % 100 == 0:
            # The first and the last figure are shares of the variance of what the teacher says that are missed.
            loop.log(**{name: float(value) / summed for name, value in zip(("distil", "ctc", "lips"), sums)})
            sums, summed = torch.zeros(3), 0
            if progress:
                progress("speech", loop.step, config.steps)
        if loop.step % 1000 == 0:
            loop.save()
            _save(out, network, config, loop, index)
    loop.save()
    return _save(out, network, config, loop, index)


def lip_teacher(
    face: Face,
    data: Path,
    cache: Path,
    face_path: str | None = None,
    jobs: int = 1,
    progress: Callable[[str, int, int], None] | None = None,
) -> torch.nn.Conv1d:
    """The linear map from the teacher's features (1, 384, T) to the motion that they go with (1, S, T − 12).

    A ridge regression on the neutral recordings of the training split, each scaled to open the mouth about its mean as
    wide as the usual speaker does. Motion is given in coordinates whose squares add up to the talking model's position
    term.
    """
    config = TalkingConfig()
    recordings = neutral_recordings(face, data, cache, config, face_path, jobs, progress)
    recordings = [r for r in recordings if r.split == "train" and r.corpus != FACEGOOD]
    held = held_out(recordings, HELD_OUT)
    recordings = [r for r in recordings if r.name not in held] or recordings
    span, triangle = orthonormal_span(face)
    across = opening_rows(face, span)
    metric = Objective(face, span, config).position.numpy()
    teacher = Teacher(jobs)
    motions = [r.capture.shapes @ triangle for r in recordings]
    spreads = [max(float((motion @ across).std()), 0.1) for motion in motions]
    usual = float(np.median(spreads))
    frames: dict[str, int] = {}
    for r in recordings:
        frames[r.corpus] = frames.get(r.corpus, 0) + len(r.capture.time)
    shares, unknowns = dict(config.shares), TAPS * TEACHER_WIDTH + 1
    gram, right = np.zeros((unknowns, unknowns)), np.zeros((unknowns, len(span)))
    offsets = np.arange(TAPS) - TAPS // 2
    held_rows: list[np.ndarray] = []
    held_right: list[np.ndarray] = []
    for number, (r, motion, spread) in enumerate(zip(recordings, motions, spreads)):
        wave = speech.open_audio(data / r.audio).samples()
        feature = teacher.features(np.pad(wave, (TAPS * SAMPLES, TAPS * SAMPLES)))
        index = np.round(r.capture.time * RATE).astype(int)[:, None] + TAPS + offsets
        rows = feature[index.clip(0, len(feature) - 1)].reshape(len(index), -1)
        rows = np.concatenate([rows, np.ones((len(rows), 1), np.float32)], 1)
        wanted = ((motion - motion.mean(0)) @ metric * (usual / spread)).astype(np.float32)
        # Half the evidence from every recording alike, half as the talking model shares its batches out.
        weight = np.float32((shares[r.corpus] / frames[r.corpus] * sum(frames.values())) ** 0.5)
        held_rows.append(weight**0.5 * rows)
        held_right.append(weight**0.5 * wanted)
        if sum(map(len, held_rows)) > 4000 or r is recordings[-1]:
            block, wanted = np.concatenate(held_rows), np.concatenate(held_right)
            gram, right = gram + block.T @ block, right + block.T @ wanted
            held_rows, held_right = [], []
        if progress:
            progress("lips", number + 1, len(recordings))
    total = gram[-1, -1]
    centre = gram[-1, :-1] / total
    spread = np.sqrt(np.maximum(gram.diagonal()[:-1] / total - centre**2, 1e-6))
    inner = (gram[:-1, :-1] - total * np.outer(centre, centre)) / np.outer(spread, spread)
    outer = (right[:-1] - np.outer(centre, right[-1])) / spread[:, None]
    solved = np.linalg.solve(inner + RIDGE * (unknowns - 1) * np.eye(unknowns - 1), outer) / spread[:, None]
    lips = torch.nn.Conv1d(TEACHER_WIDTH, len(span), TAPS).requires_grad_(False)
    lips.weight.copy_(torch.from_numpy(solved.reshape(TAPS, TEACHER_WIDTH, -1).transpose(2, 1, 0)))
    usual_motion = np.mean([motion.mean(0) for motion in motions], axis=0) @ metric
    lips.bias.copy_(torch.from_numpy(right[-1] / total - centre @ solved + usual_motion))  # type: ignore[union-attr]
    return lips


def save_taught(
    path: Path,
    samples: list[np.ndarray],
    targets: list[np.ndarray],
    index: dict,
    lips: torch.nn.Conv1d,
    face: Face,
    seed: int,
) -> None:
    """Write utterances of all voices with the motion that the teacher's features tell, for the talking model to learn."""
    rng = np.random.default_rng(seed)
    span, _ = orthonormal_span(face)
    back = np.linalg.inv(Objective(face, span, TalkingConfig()).position.numpy())
    order = rng.permutation(len(index["count"]))
    rank: dict[str, int] = {}
    turn = np.zeros(len(order))
    for k in order:  # one utterance of every voice, then a second one of every voice
        voice = f"{index['speaker'][k]} {index['copy'][k]}"
        turn[k] = rank.get(voice, 0)
        rank[voice] = rank.get(voice, 0) + 1
    sound, motion, start, total = [], [], [0], 0
    for k in order[np.argsort(turn[order], kind="stable")]:
        first, count = int(index["start"][k]), int(index["count"][k])
        if total > TAUGHT * RATE or not RATE < count < 30 * RATE:
            continue
        feature = torch.from_numpy(targets[index["shard"][k]][first : first + count].astype(np.float32))
        sound.append(samples[index["shard"][k]][first * SAMPLES : (first + count) * SAMPLES])
        told = lips(feature.T[None])[0].T.numpy() @ back
        motion.append(np.pad(told, ((TAPS // 2, TAPS // 2), (0, 0)), "edge").astype(np.float16))
        start.append(start[-1] + count)
        total += count
    if not sound:
        return  # nothing long enough: the talking model does without
    arrays: dict[str, Any] = {
        "samples": np.concatenate(sound),
        "motion": np.concatenate(motion),
        "start": np.array(start),
    }
    with whole(path) as partial:
        np.savez(partial, face=face.fingerprint, **arrays)


def _save(out: Path, network: EncoderNetwork, config: SpeechConfig, loop: Loop, index: dict) -> Path:
    path = out / "speech.safetensors"
    plain = index["copy"] == 0
    about = {
        "config": asdict(config),
        "steps": loop.step,
        "hours": round(float(index["count"][plain].sum()) / 50 / 3600, 2),
        "hours_with_copies": round(float(index["count"].sum()) / 50 / 3600, 2),
        "voices": len(set(np.array(index["speaker"])[plain])),
    }
    save_encoder(path, network, speech.mel_filters(), about)
    return path


def _cosine(part: float) -> float:
    return 0.5 + 0.5 * float(np.cos(np.pi * min(part, 1.0)))


def _batch(samples, targets, index, weight, config, rng):
    """Sound (N, S), the teacher's features (N, T, 384), which of them are known (N, T), and CTC labels where whole."""
    most = int(config.seconds * 50)
    # Utterances of about one length, so that little is padding.
    first = rng.choice(len(weight), p=weight)
    near = np.abs(np.minimum(index["count"], most) - min(index["count"][first], most)) <= 10
    chosen = rng.choice(np.flatnonzero(near), config.batch)
    counts = np.minimum(index["count"][chosen], most)
    length = int(counts.max())
    wave = torch.zeros(config.batch, length * SAMPLES)
    target = torch.zeros(config.batch, length, TEACHER_WIDTH)
    known = torch.zeros(config.batch, length)
    labels = []
    for row, (number, count) in enumerate(zip(chosen, counts)):
        start = int(rng.integers(0, index["count"][number] - count + 1))
        shard, first = index["shard"][number], index["start"][number] + start
        part = samples[shard][first * SAMPLES : (first + count) * SAMPLES]
        wave[row, : len(part)] = torch.from_numpy(part.astype(np.float32) / 32768)
        target[row, :count] = torch.from_numpy(targets[shard][first : first + count].astype(np.float32))
        known[row, :count] = 1
        complete = count == index["count"][number]
        labels.append(torch.from_numpy(voices.letters(index["text"][number] if complete else "")))
    return wave, target, known, labels


def _ctc(log_probabilities: torch.Tensor, known: torch.Tensor, labels: list[torch.Tensor]) -> torch.Tensor:
    """CTC loss a letter over the rows that have a transcript; zero where none has."""
    rows = [k for k, label in enumerate(labels) if 0 < len(label) < known[k].sum() / 1.2]
    if not rows:
        return log_probabilities.sum() * 0
    lengths = known[rows].sum(1).long()
    wanted = torch.tensor([len(labels[k]) for k in rows])
    spelled = log_probabilities[rows].transpose(0, 1)
    return functional.ctc_loss(spelled, torch.cat([labels[k] for k in rows]), lengths, wanted, zero_infinity=True)


def prepare(
    data: Path, folder: Path, seed: int, jobs: int, progress: Callable[[str, int, int], None] | None = None
) -> None:
    """Write sound (int16, 16 kHz) and the teacher's features (float16, 50 Hz) of all utterances in shards, where missing."""
    utterances = voices.read(data)
    listed = json.dumps([seed, SPEEDS, CODECS, [u.path.relative_to(data).as_posix() for u in utterances]])
    about, known = folder / "about.txt", hashlib.sha256(listed.encode()).hexdigest()
    if about.is_file() and about.read_text("utf-8") != known:
        raise InputError(
            f"{folder}: sound prepared from other data or with another seed", "remove the folder, or choose another -o"
        )
    folder.mkdir(parents=True, exist_ok=True)
    about.write_text(known, "utf-8")
    order = np.random.default_rng(seed).permutation(len(utterances))
    tasks = []
    for copy in range(len(SPEEDS)):
        for number in range(0, len(order), voices.SHARD):
            name = folder / f"{copy}-{number // voices.SHARD:03d}"
            part = [utterances[k] for k in order[number : number + voices.SHARD]]
            tasks.append((name, part, copy, seed + 1000 * copy + number))
    tasks = [task for task in tasks if not task[0].with_suffix(".json").is_file()]
    if not tasks:
        return
    with get_context("spawn").Pool(jobs) as pool:
        for done, _ in enumerate(pool.imap(_prepare_shard, tasks)):
            if progress:
                progress("teacher", done + 1, len(tasks))


_teacher: list[Teacher] = []  # one a process


def _prepare_shard(task: tuple[Path, list[Utterance], int, int]) -> None:
    name, utterances, copy, seed = task
    if not _teacher:
        _teacher.append(Teacher())
    rng = np.random.default_rng(seed)
    sound, features, table, start = [], [], [], 0
    for u in utterances:
        try:
            wave = speech.open_audio(u.path).samples()
        except InputError:
            continue
        wave = change_speed(wave, rng.uniform(*SPEEDS[copy]))
        count = len(wave) // SAMPLES
        if count < SHORTEST * 50:
            continue
        taught = _teacher[0].features(wave)[:count]
        if copy and rng.random() < CODECS:
            wave = through_codec(wave, rng)
        count = len(taught)
        sound.append((wave[: count * SAMPLES].clip(-1, 1) * 32767).astype(np.int16))
        features.append(taught.astype(np.float16))
        table.append({"start": start, "count": count, "text": u.text, "speaker": u.speaker, "copy": copy})
        start += count
    nothing = np.zeros((0, TEACHER_WIDTH), np.float16)
    np.save(name.with_suffix(".samples.npy"), np.concatenate([np.zeros(0, np.int16), *sound]))
    np.save(name.with_suffix(".teacher.npy"), np.concatenate([nothing, *features]))
    with whole(name.with_suffix(".json")) as partial:
        partial.write_text(json.dumps(table), "utf-8")


def load_prepared(folder: Path) -> tuple[list[np.ndarray], list[np.ndarray], dict]:
    """Sound and features of each shard, mapped from disk, and the table of utterances as columns."""
    samples, targets, rows = [], [], []
    for path in sorted(folder.glob("*.json")):
        samples.append(np.load(path.with_suffix(".samples.npy"), mmap_mode="r", allow_pickle=False))
        targets.append(np.load(path.with_suffix(".teacher.npy"), mmap_mode="r", allow_pickle=False))
        rows += [{**row, "shard": len(samples) - 1} for row in json.loads(path.read_text("utf-8"))]
    if not rows:
        raise InputError(f"{folder}: no prepared sound in it")
    index: dict[str, Any] = {key: [row[key] for row in rows] for key in rows[0]}
    for key in ("start", "count", "shard", "copy"):
        index[key] = np.array(index[key])
    return samples, targets, index
