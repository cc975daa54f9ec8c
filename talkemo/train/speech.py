"""Stage 2: the speech encoder. It distils the encoder of Whisper tiny.en, and spells transcripts by a CTC loss.

Sound is prepared once: every utterance as it is, and copies of it with other voices at other speeds, each with the
teacher's features. In training the encoder gets the sound in rooms, over lines and with noise, while the teacher had it
clean.

Of the teacher's features, what moves lips counts most. A linear map from them to captured motion labels every utterance
with the motion of its lips, and the encoder's features have to predict that too. So hundreds of voices without video
help to train lips.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch.nn import functional

from .. import audio as sound
from ..data import voices
from ..data.captures import Fitted
from ..data.facegood import CORPUS as FACEGOOD
from ..data.kept import digest, read_kept, write_kept
from ..data.sound import augment, change_speed, mel_batch, through_codec
from ..data.voices import Utterance
from ..data.workers import worker_pool
from ..errors import InputError
from ..face import Face
from ..files import atomic_write, readable
from ..networks.building import load_tensors
from ..networks.speech_encoder import DILATIONS, FEATURE_RATE, SAMPLES, WIDTH, EncoderNetwork, encoder_tensors
from ..weights import check_compatible
from .loop import Loop, Schedule, half_precision
from .objective import position_matrix
from .run import Run, StartWeights
from .talking import PSEUDO_LABELLED, TalkingConfig, held_out, neutral_recordings
from .teacher import WIDTH as TEACHER_WIDTH
from .teacher import Teacher

SPEEDS = ((1.0, 1.0), (0.8, 0.97), (1.03, 1.25))  # of each copy of the sound, from … to
CODECS = 0.4  # share of the utterances of a changed copy that go through a lossy codec
SHORTEST = 0.4  # s, of an utterance
TAPS = 13  # features around a frame that its lips are predicted from
RIDGE = 3.0  # times the number of unknowns, of the linear map from the teacher's features to lips
BLOCK_ROWS = 4000  # frames that the regression takes at a time
SMALLEST_SPREAD = 0.1  # mm, lower bound of a recording's standard deviation of the mouth opening
HELD_OUT = 8  # every so many'th filmed speaker has no part in that map, for figures on people it has never seen
PSEUDO_LABELLED_SECONDS = 7200.0  # of sound that is pseudo-labelled for the talking model's training
LONGEST_PSEUDO_LABELLED = 30.0  # s, of an utterance
LETTER_FEATURES = 1.2  # least features to a letter of a transcript that CTC is asked to spell
USUAL_SECONDS = 240.0  # of the sound that the variance of predicted motion is measured on
GRADIENT_LIMIT = 1.0  # norm of the gradient above which it is scaled down
LOG_EVERY, SAVE_EVERY = 100, 1000  # steps


@dataclass(frozen=True)
class SpeechConfig:
    """Settings of the speech encoder's training."""

    steps: int = 14000
    batch: int = 16  # utterances
    seconds: float = 5.0  # of an utterance at most
    learning_rate: float = 1.5e-3  # AdamW, after a warm-up, falling to zero as a cosine
    warm_up: int = 300  # steps
    spelling: float = 0.05  # weight of the CTC loss
    lips: float = 2.0  # weight of the motion of the lips that the teacher's features predict; 0 needs no captures
    shares: tuple[tuple[str, float], ...] = TalkingConfig().shares  # of the corpora that this prediction is fitted to
    seed: int = 0


def speech_config(seed: int, options: dict[str, Any]) -> SpeechConfig:
    """The settings of `talkemo train speech` with its options, see `run.train`."""
    config = SpeechConfig(seed=seed)
    return config if options.get("steps") is None else replace(config, steps=options["steps"])


def train_speech(run: Run, config: SpeechConfig) -> Path:
    """Train on all sound of a run's corpora but the dev split's; writes and returns `out`/speech.safetensors.

    Prepared sound is kept in `out`/speech and made where missing. With lips, `out`/pseudo_labelled.npz is written for
    the talking model's training.
    """
    # What is missing or does not fit is reported before the hours that preparing the sound takes.
    read_start(run)
    face = run.models().face
    lips = lip_map(run, config) if config.lips else None
    prepare(run, config.seed)
    prepared = load_prepared(run.out / "speech")
    if lips:
        save_pseudo_labelled(run.out / f"{PSEUDO_LABELLED}.npz", prepared, lips, face, config.seed)
    training = Distillation(prepared, lips, run, config)
    loop = training.loop
    with loop.whole_steps():
        while loop.step < config.steps and not loop.out_of_time:
            loop.figures.add(training.step(loop.rng))
            loop.step += 1
            if loop.step % LOG_EVERY == 0:
                loop.log()
                run.report("speech", loop.step, config.steps)
            if loop.step % SAVE_EVERY == 0:
                training.save()
            loop.end_step()
    loop.save()
    return training.save()


def read_start(run: Run) -> StartWeights | None:
    """The encoder's weights that a run starts from, None for random ones. Raises InputError where they do not fit."""
    start = run.start_weights("speech")
    if start:
        with check_compatible(start.path, "speech"):
            start.check(
                bands=(len(start.tensors["filters"]), sound.MELS),
                width=(start.settings["width"], WIDTH),
                dilations=(list(start.settings["dilations"]), list(DILATIONS)),
            )
    return start


# -------------------------------------------------------------------------------------------------------- distillation


@dataclass(frozen=True, eq=False)
class Batch:
    """Utterances or parts of them.

    wave: (N, S), sound; target: (N, T, 384), the teacher's features; known: (N, T), 1 where there are any, else 0
    labels: N rows of CTC labels (L,), empty for parts and for utterances without a transcript
    """

    wave: torch.Tensor
    target: torch.Tensor
    known: torch.Tensor
    labels: list[torch.Tensor]


class Distillation:
    """The encoder with its heads for the teacher's features and for lips, their optimiser and checkpoints."""

    def __init__(self, prepared: PreparedSound, lips: torch.nn.Conv1d | None, run: Run, config: SpeechConfig):
        self.prepared, self.run, self.config = prepared, run, config
        self.device = run.torch_device
        some = np.concatenate([part[:: int(FEATURE_RATE)].astype(np.float32) for part in prepared.features[::3]])
        self.middle = torch.from_numpy(some.mean(0)).to(self.device)
        self.spread = torch.from_numpy(some.std(0) + 1e-6).to(self.device)
        start = read_start(run)
        torch.manual_seed(config.seed)
        network = EncoderNetwork()
        modules: dict[str, torch.nn.Module] = {"network": network, "head": torch.nn.Linear(WIDTH, TEACHER_WIDTH)}
        if start:
            with check_compatible(start.path, "speech"):
                load_tensors(network, {name: array for name, array in start.tensors.items() if name != "filters"})
        if lips:
            modules["lips"] = torch.nn.Conv1d(WIDTH, lips.out_channels, TAPS)
        self.network = network
        self.modules = {name: module.to(self.device) for name, module in modules.items()}
        self.lips = lips.to(self.device) if lips else None
        self.usual = self._usual_motion()
        self.parameters = [p for module in modules.values() for p in module.parameters()]
        self.optimiser = torch.optim.AdamW(self.parameters, config.learning_rate, weight_decay=0.01)
        settings = {**asdict(config), "steps": None}
        rng = np.random.default_rng(config.seed)
        self.loop = Loop("speech", run, self.modules, {"adam": self.optimiser}, settings, rng)
        weight = np.minimum(prepared.count, config.seconds * FEATURE_RATE)
        self.weight = weight / weight.sum()  # (U,) probability of each utterance

    def _usual_motion(self) -> torch.Tensor:
        """The variance of the lips' predicted motion, in mm²; 1 without such a prediction."""
        if self.lips is None:
            return torch.ones((), device=self.device)
        features = self.prepared.features[0][: int(USUAL_SECONDS * FEATURE_RATE)].astype(np.float32)
        return self.lips(torch.from_numpy(features).to(self.device).T[None])[0].var(1).sum()

    def step(self, rng: np.random.Generator) -> dict[str, torch.Tensor]:
        """One step of the optimiser; returns the losses, distil and lips relative to the variance of the target."""
        config, loop = self.config, self.loop
        warm = min(1.0, (loop.step + 1) / config.warm_up)
        self.optimiser.param_groups[0]["lr"] = config.learning_rate * warm * _cosine(loop.step / config.steps)
        losses = self._losses(make_batch(self.prepared, self.weight, config, rng, self.device), rng)
        self.optimiser.zero_grad()
        (losses["distil"] + config.spelling * losses["ctc"] + config.lips * losses["lips"]).backward()
        torch.nn.utils.clip_grad_norm_(self.parameters, GRADIENT_LIMIT)
        self.optimiser.step()
        return losses

    def _losses(self, batch: Batch, rng: np.random.Generator) -> dict[str, torch.Tensor]:
        mel = mel_batch(augment(batch.wave, rng), rng)
        with half_precision(self.device):
            features = self.network(mel)
            predicted = self.modules["head"](features)
            spelled = self.network.log_probabilities(features)
        error = (predicted.float() - (batch.target - self.middle) / self.spread).square().mean(2)
        return {
            "distil": (error * batch.known).sum() / batch.known.sum(),
            "ctc": ctc_loss(spelled, batch.known, batch.labels),
            "lips": self._lip_loss(features, batch),
        }

    def _lip_loss(self, features: torch.Tensor, batch: Batch) -> torch.Tensor:
        if self.lips is None:
            return torch.zeros((), device=self.device)
        with half_precision(self.device):
            moved = self.modules["lips"](features.transpose(1, 2))
            with torch.no_grad():
                wanted = self.lips(batch.target.transpose(1, 2)).float()
        inside = batch.known[:, TAPS - 1 :]
        return ((moved.float() - wanted).square().sum(1) * inside).sum() / inside.sum() / self.usual

    def save(self) -> Path:
        """Write the encoder's weights as they are."""
        tensors, dimensions = encoder_tensors(self.network, sound.mel_filters())
        prepared, plain = self.prepared, self.prepared.copy == 0
        hours = lambda features: round(float(features.sum()) / FEATURE_RATE / 3600, 2)
        settings = {
            "config": asdict(self.config),
            "steps": self.loop.step,
            "hours": hours(prepared.count[plain]),
            "hours_with_copies": hours(prepared.count),
            "voices": len(set(np.array(prepared.speaker)[plain])),
        }
        return self.run.save("speech", tensors, {**settings, **dimensions})


def make_batch(
    prepared: PreparedSound, weight: np.ndarray, config: SpeechConfig, rng: np.random.Generator, device: torch.device
) -> Batch:
    """A batch of utterances, drawn with probabilities (U,); of long ones a part."""
    most = int(config.seconds * FEATURE_RATE)
    # Utterances of about one length, so that little is padding.
    first = rng.choice(len(weight), p=weight)
    near = np.abs(np.minimum(prepared.count, most) - min(prepared.count[first], most)) <= 10
    chosen = rng.choice(np.flatnonzero(near), config.batch)
    counts = np.minimum(prepared.count[chosen], most)
    length = int(counts.max())
    wave = np.zeros((config.batch, length * SAMPLES), np.float32)
    target = np.zeros((config.batch, length, TEACHER_WIDTH), np.float32)
    known = np.zeros((config.batch, length), np.float32)
    labels = []
    for row, (number, count) in enumerate(zip(chosen, counts)):
        skipped = int(rng.integers(0, prepared.count[number] - count + 1))
        samples, features = prepared.part(number, skipped, count)
        wave[row, : len(samples)] = samples.astype(np.float32) / 32768
        target[row, :count] = features
        known[row, :count] = 1
        complete = count == prepared.count[number]
        letters = voices.letters(prepared.text[number] if complete else "")
        labels.append(torch.from_numpy(letters).to(device))
    waves, targets, inside = (torch.from_numpy(array).to(device) for array in (wave, target, known))
    return Batch(waves, targets, inside, labels)


def ctc_loss(log_probabilities: torch.Tensor, known: torch.Tensor, labels: list[torch.Tensor]) -> torch.Tensor:
    """CTC loss a letter over the rows that have a transcript; zero where none has."""
    lengths = known.sum(1).cpu().long()
    rows = [k for k, label in enumerate(labels) if 0 < len(label) < float(lengths[k]) / LETTER_FEATURES]
    if not rows:
        return log_probabilities.sum() * 0
    letters = torch.tensor([len(labels[k]) for k in rows], device="cpu")  # CTC takes lengths from the CPU
    spelled = log_probabilities[rows].transpose(0, 1)
    wanted = torch.cat([labels[k] for k in rows])
    return functional.ctc_loss(spelled, wanted, lengths[rows], letters, zero_infinity=True)


def _cosine(part: float) -> float:
    return 0.5 + 0.5 * float(np.cos(np.pi * min(part, 1.0)))


# ------------------------------------------------------------------------------- from the teacher's features to lips


def lip_map(run: Run, config: SpeechConfig) -> torch.nn.Conv1d:
    """The linear map, on the CPU, from the teacher's features (1, 384, T) to the motion they go with (1, S, T − 12).

    A ridge regression on the neutral recordings of the training split, each scaled to open the mouth about its mean as
    wide as the usual speaker does. Motion is given in coordinates whose squares add up to the talking model's position
    term, see `objective.position_matrix`.

    The regression and then the map are kept in `out`/speech/lips.npz, where a run that resumes goes on.
    """
    face, talking = run.models().face, TalkingConfig(shares=config.shares)
    recordings = filmed_recordings(run, talking)
    position = position_matrix(face, talking.mouth, talking.gap)
    motions = [r.capture.motion(face).coordinates for r in recordings]
    spreads = [max(float((motion @ face.opening_row).std()), SMALLEST_SPREAD) for motion in motions]
    usual = float(np.median(spreads))
    wanted = [
        ((motion - motion.mean(0)) @ position * (usual / spread)).astype(np.float32)
        for motion, spread in zip(motions, spreads)
    ]
    weights = _weights(recordings, talking)
    path = run.out / "speech" / "lips.npz"
    origin = digest(
        RIDGE, weights, *(part for r, motion in zip(recordings, wanted) for part in (r.audio, r.capture.time, motion))
    )
    if not run.resume:
        path.unlink(missing_ok=True)
    solved = read_kept(path, origin)
    if "matrix" not in solved:
        regression = RidgeRegression(TAPS * TEACHER_WIDTH, len(face.span))
        _regress(regression, run, recordings, wanted, weights, path, origin)
        matrix, constant = regression.solve()
        solved = {"matrix": matrix, "constant": constant}
        write_kept(path, origin, solved)
    matrix, constant = solved["matrix"], solved["constant"]
    resting = np.mean([motion.mean(0) for motion in motions], axis=0) @ position
    lips = torch.nn.Conv1d(TEACHER_WIDTH, len(face.span), TAPS).requires_grad_(False)
    lips.weight.copy_(torch.from_numpy(matrix.reshape(TAPS, TEACHER_WIDTH, -1).transpose(2, 1, 0)))
    lips.bias.copy_(torch.from_numpy(constant + resting))  # type: ignore[union-attr]
    return lips


def _weights(recordings: list[Fitted], config: TalkingConfig) -> list[np.float32]:
    """How much each frame of each recording counts."""
    frames: dict[str, int] = {}
    for r in recordings:
        frames[r.corpus] = frames.get(r.corpus, 0) + len(r.capture.time)
    shares, total = dict(config.shares), sum(frames.values())
    # The square root lies between weighing every frame alike and weighing it by its corpus's share of a batch.
    return [np.float32((shares[r.corpus] / frames[r.corpus] * total) ** 0.5) for r in recordings]


def _regress(
    regression: RidgeRegression,
    run: Run,
    recordings: list[Fitted],
    wanted: list[np.ndarray],
    weights: list[np.float32],
    path: Path,
    origin: str,
) -> None:
    """Add recordings with the motion that they go with, (T, S) each; goes on from the file, and keeps it up to date."""
    kept, done = read_kept(path, origin), 0
    if kept:
        done = int(kept.pop("recordings"))
        regression.restore(kept)
    if done == len(recordings):
        return
    teacher, schedule = Teacher(run.jobs), Schedule()
    for number in range(done, len(recordings)):
        regression.add(_teacher_rows(run, recordings[number], teacher), wanted[number], weights[number])
        run.report("lips", number + 1, len(recordings))
        if schedule.due:
            with schedule.writing():
                write_kept(path, origin, {"recordings": number + 1, **regression.arrays()})


def filmed_recordings(run: Run, config: TalkingConfig) -> list[Fitted]:
    """Neutral recordings of filmed people, of the training split without the held-out speakers."""
    recordings = [r for r in neutral_recordings(run, config) if r.split == "train" and r.corpus != FACEGOOD]
    held = held_out(recordings, HELD_OUT)
    return [r for r in recordings if r.name not in held] or recordings


def _teacher_rows(run: Run, r: Fitted, teacher: Teacher) -> np.ndarray:
    """The teacher's features around each frame of a recording, (T, TAPS · 384) float32."""
    wave = sound.open_audio(run.data / r.audio).samples()
    feature = teacher.features(np.pad(wave, (TAPS * SAMPLES, TAPS * SAMPLES)))
    offsets = np.arange(TAPS) - TAPS // 2
    index = np.round(r.capture.time * FEATURE_RATE).astype(int)[:, None] + TAPS + offsets
    return feature[index.clip(0, len(feature) - 1)].reshape(len(index), -1)


class RidgeRegression:
    """Weighted ridge regression with an intercept, on standardised inputs that come in blocks."""

    def __init__(self, inputs: int, outputs: int):
        self.gram, self.right = np.zeros((inputs + 1, inputs + 1)), np.zeros((inputs + 1, outputs))
        self._rows: list[np.ndarray] = []
        self._wanted: list[np.ndarray] = []

    def add(self, rows: np.ndarray, wanted: np.ndarray, weight: np.float32) -> None:
        """Add inputs (T, inputs) and outputs (T, outputs), float32, which all count by one weight."""
        rows = np.concatenate([rows, np.ones((len(rows), 1), np.float32)], 1)
        self._rows.append(weight**0.5 * rows)
        self._wanted.append(weight**0.5 * wanted)
        if sum(map(len, self._rows)) > BLOCK_ROWS:
            self._accumulate()

    def arrays(self) -> dict[str, np.ndarray]:
        """All that has been added, to be kept in a file."""
        pending = {"rows": self._rows, "wanted": self._wanted}
        joined = {name: np.concatenate(parts) for name, parts in pending.items() if parts}
        return {"gram": self.gram, "right": self.right, **joined}

    def restore(self, arrays: dict[str, np.ndarray]) -> None:
        """Go on from such arrays."""
        self.gram, self.right = arrays["gram"], arrays["right"]
        self._rows = [arrays["rows"]] if "rows" in arrays else []
        self._wanted = [arrays["wanted"]] if "wanted" in arrays else []

    def _accumulate(self) -> None:
        if self._rows:
            block = np.concatenate(self._rows)
            self.gram += block.T @ block
            self.right += block.T @ np.concatenate(self._wanted)
            self._rows, self._wanted = [], []

    def solve(self) -> tuple[np.ndarray, np.ndarray]:
        """The matrix (inputs, outputs) and the constant (outputs,) of the solution."""
        self._accumulate()
        gram, right, inputs = self.gram, self.right, len(self.gram) - 1
        total = gram[-1, -1]
        centre = gram[-1, :-1] / total
        spread = np.sqrt(np.maximum(gram.diagonal()[:-1] / total - centre**2, 1e-6))
        inner = (gram[:-1, :-1] - total * np.outer(centre, centre)) / np.outer(spread, spread)
        outer = (right[:-1] - np.outer(centre, right[-1])) / spread[:, None]
        matrix = np.linalg.solve(inner + RIDGE * inputs * np.eye(inputs), outer) / spread[:, None]
        return matrix, right[-1] / total - centre @ matrix


def save_pseudo_labelled(path: Path, prepared: PreparedSound, lips: torch.nn.Conv1d, face: Face, seed: int) -> None:
    """Write utterances of all voices with the motion that the teacher's features predict, for the talking model.

    samples: (N,) int16; motion: (N / 320, S) float16, coordinates; start: (U + 1,) first row of each utterance's motion
    """
    talking = TalkingConfig()
    back = np.linalg.inv(position_matrix(face, talking.mouth, talking.gap))
    samples, motion, start = [], [], [0]
    for k in _voices_by_turns(prepared, np.random.default_rng(seed)):
        count = int(prepared.count[k])
        wanted = start[-1] <= PSEUDO_LABELLED_SECONDS * FEATURE_RATE
        if not wanted or not FEATURE_RATE < count < LONGEST_PSEUDO_LABELLED * FEATURE_RATE:
            continue
        own, features = prepared.part(k, 0, count)
        predicted = lips(torch.from_numpy(features.astype(np.float32)).T[None])[0].T.numpy() @ back
        samples.append(own)
        motion.append(np.pad(predicted, ((TAPS // 2, TAPS // 2), (0, 0)), "edge").astype(np.float16))
        start.append(start[-1] + count)
    if not samples:
        return  # no utterance is long enough: the talking model does without
    arrays: dict[str, Any] = {
        "samples": np.concatenate(samples),
        "motion": np.concatenate(motion),
        "start": np.array(start),
    }
    with atomic_write(path) as partial:
        np.savez(partial, face=np.array(face.fingerprint), **arrays)


def _voices_by_turns(prepared: PreparedSound, rng: np.random.Generator) -> np.ndarray:
    """All utterances in random order: first one of every voice, then a second one of every voice, and so on."""
    order = rng.permutation(len(prepared.count))
    rank: dict[str, int] = {}
    turn = np.zeros(len(order))
    for k in order:
        voice = f"{prepared.speaker[k]} {prepared.copy[k]}"
        turn[k] = rank.get(voice, 0)
        rank[voice] = rank.get(voice, 0) + 1
    return order[np.argsort(turn[order], kind="stable")]


# ---------------------------------------------------------------------------------------------------- prepared sound


@dataclass(frozen=True, eq=False)
class PreparedSound:
    """Utterances with the teacher's features, mapped from disk in shards.

    samples: per shard (N,) int16, at 16 kHz; features: per shard (N / 320, 384) float16, at 50 Hz
    shard, start, count: (U,) where each utterance is, in features of its shard; copy: (U,) 0 as it is, else changed
    text, speaker: U strings
    """

    samples: list[np.ndarray]
    features: list[np.ndarray]
    shard: np.ndarray
    start: np.ndarray
    count: np.ndarray
    copy: np.ndarray
    text: list[str]
    speaker: list[str]

    def part(self, number: int, skipped: int, count: int) -> tuple[np.ndarray, np.ndarray]:
        """Samples (count · 320,) and features (count, 384) of an utterance, without its first `skipped` features."""
        shard, first = self.shard[number], int(self.start[number]) + skipped
        samples = self.samples[shard][first * SAMPLES : (first + count) * SAMPLES]
        return samples, self.features[shard][first : first + count]


def load_prepared(folder: Path) -> PreparedSound:
    """What `prepare` wrote to a folder. Raises InputError where it has no utterance, or its files are damaged."""
    samples, features, rows = [], [], []
    for path in sorted(folder.glob("*.json")):
        with readable(path, "a table of prepared sound", "remove it to have this part prepared again"):
            table = json.loads(path.read_text("utf-8"))
            samples.append(np.load(path.with_suffix(".samples.npy"), mmap_mode="r", allow_pickle=False))
            features.append(np.load(path.with_suffix(".teacher.npy"), mmap_mode="r", allow_pickle=False))
            total = sum(row["count"] for row in table)
            if (samples[-1].shape, features[-1].shape) != ((total * SAMPLES,), (total, TEACHER_WIDTH)):
                raise ValueError("the sound and the features beside it do not have its length")
            rows += [{**row, "shard": len(samples) - 1} for row in table]
    if not rows:
        raise InputError(
            f"{folder}: no utterance of the corpora can be used", f"they must last {SHORTEST:g} s and be readable"
        )
    numbers = {key: np.array([row[key] for row in rows]) for key in ("shard", "start", "count", "copy")}
    return PreparedSound(
        samples, features, **numbers, text=[row["text"] for row in rows], speaker=[row["speaker"] for row in rows]
    )


def prepare(run: Run, seed: int) -> None:
    """Write sound (int16, 16 kHz) and the teacher's features (float16, 50 Hz) of all utterances to `out`/speech.

    Shards that are there are kept. Raises InputError where the folder was made from other data or with another seed.
    """
    folder, utterances = run.out / "speech", voices.read(run.data)
    listed = json.dumps([seed, SPEEDS, CODECS, [u.path.relative_to(run.data).as_posix() for u in utterances]])
    about, known = folder / "about.txt", hashlib.sha256(listed.encode()).hexdigest()
    if about.is_file() and about.read_text("utf-8") != known:
        raise InputError(
            f"{folder}: sound prepared from other data or with another seed", "remove the folder, or choose another -o"
        )
    folder.mkdir(parents=True, exist_ok=True)
    if not about.is_file():
        with atomic_write(about) as partial:
            partial.write_text(known, "utf-8")
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
    with worker_pool(run.jobs) as pool:
        for done, _ in enumerate(pool.map(_prepare_shard, tasks)):
            run.report("teacher", done + 1, len(tasks))


_teacher: list[Teacher] = []  # one a process


def _prepare_shard(task: tuple[Path, list[Utterance], int, int]) -> None:
    """Write a shard: its sound, the teacher's features, and a table of its utterances last."""
    name, utterances, copy, seed = task
    if not _teacher:
        _teacher.append(Teacher())
    rng = np.random.default_rng(seed)
    samples, features, table, start = [], [], [], 0
    for u in utterances:
        try:
            wave = sound.open_audio(u.path).samples()
        except InputError:
            continue
        wave = change_speed(wave, rng.uniform(*SPEEDS[copy]))
        count = len(wave) // SAMPLES
        if count < SHORTEST * FEATURE_RATE:
            continue
        own = _teacher[0].features(wave)[:count]
        if copy and rng.random() < CODECS:
            wave = through_codec(wave, rng)
        count = len(own)
        samples.append((wave[: count * SAMPLES].clip(-1, 1) * 32767).astype(np.int16))
        features.append(own.astype(np.float16))
        table.append({"start": start, "count": count, "text": u.text, "speaker": u.speaker, "copy": copy})
        start += count
    nothing = np.zeros((0, TEACHER_WIDTH), np.float16)
    with atomic_write(name.with_suffix(".samples.npy")) as partial:
        np.save(partial, np.concatenate([np.zeros(0, np.int16), *samples]))
    with atomic_write(name.with_suffix(".teacher.npy")) as partial:
        np.save(partial, np.concatenate([nothing, *features]))
    with atomic_write(name.with_suffix(".json")) as partial:
        partial.write_text(json.dumps(table), "utf-8")
