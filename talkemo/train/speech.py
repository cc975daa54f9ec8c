"""Stage 2: the speech encoder. It begins as the lowest layers of Whisper tiny.en and learns to do with what is near.

It distils these layers, whose attention is to half a minute of sound, and spells transcripts by CTC. Sound is prepared
once: every utterance as it is, and copies of it with other voices at other speeds. In training the encoder gets the
sound in rooms, over lines and with noise, while its teacher has it clean. All of the sound may be used for any purpose,
so that the encoder may, too.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch.nn import functional

from ..audio.mel import MELS, mel_filters
from ..audio.recording import open_audio
from ..compute.workers import worker_pool
from ..data import utterances as voices
from ..data.audio_augmentation import augment, change_speed, mel_batch, through_codec
from ..data.utterances import Utterance
from ..errors import InputError
from ..files.cache import corpus_digest, digest
from ..files.reading import reading_errors
from ..files.writing import atomic_write
from ..networks.building import load_tensors
from ..networks.speech_encoder import (
    FEATURE_RATE,
    FUTURE,
    PAST,
    SAMPLES,
    WIDTH,
    EncoderNetwork,
    encoder_tensors,
)
from ..weights.files import check_compatible
from .batches import loud_level_of_samples
from .loop import Loop, cosine, half_precision
from .run import Run, StartWeights
from .teacher import (
    WhisperEncoder,
    WhisperFeatures,
    load_teacher,
    positional_encoding,
    teacher_files,
)

SPEEDS = ((1.0, 1.0), (0.8, 0.97), (1.03, 1.25))  # of each copy of the sound, from … to
CODECS = 0.4  # share of the utterances of a changed copy that go through a lossy codec
SHORTEST = 0.4  # s, of an utterance
LETTER_FEATURES = 1.2  # least features to a letter of a transcript that CTC is asked to spell
GRADIENT_LIMIT = 1.0  # norm of the gradient above which it is scaled down
LOG_EVERY, SAVE_EVERY = 100, 1000  # steps


# Whisper's log-mel rows are these times ours, plus that, for sound as loud as most of what it was trained on.
WHISPER_SCALE, WHISPER_OFFSET = 2.0, -0.75
SOME_PLACE = 100  # whose code of Whisper's is the first guess for all places
TEACHER = "tiny.en"


@dataclass(frozen=True)
class SpeechConfig:
    """Settings of the speech encoder's training."""

    steps: int = 1500
    batch: int = 8  # utterances
    seconds: float = 5.0  # of an utterance at most
    learning_rate: float = 3e-4  # AdamW, after a warm-up, falling to zero as a cosine
    new_rate: float = (
        1e-2  # the same for what Whisper does not have: biases for distances, and letters
    )
    warm_up: int = 50  # steps
    spelling: float = 0.02  # weight of the CTC loss
    seed: int = 0


LARGE = SpeechConfig(steps=6000, batch=32)  # where a GPU is present


def speech_config(seed: int, options: dict[str, Any]) -> SpeechConfig:
    """The settings of `talkemo train speech` with its options, see `run.train`."""
    config = replace(LARGE if options.get("large") else SpeechConfig(), seed=seed)
    return config if options.get("steps") is None else replace(config, steps=options["steps"])


def train_speech(run: Run, config: SpeechConfig) -> Path:
    """Train on all sound that may be used for any purpose; writes and returns `out`/speech.safetensors.

    Prepared sound is kept in `out`/speech and made where missing.
    """
    # What is missing or does not fit is reported before the hours that preparing the sound takes.
    read_start(run)
    teacher_files(TEACHER)
    run.alone(lambda: prepare(run, config.seed))
    training = Distillation(load_prepared(run.prepared), run, config)
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
            wanted = {"width": WIDTH, "past": PAST, "future": list(FUTURE)}
            found = {name: (start.settings[name], value) for name, value in wanted.items()}
            start.check(bands=(len(start.tensors["filters"]), MELS), **found)
    return start


# -------------------------------------------------------------------------------------------------------- distillation


@dataclass(frozen=True, eq=False)
class Batch:
    """Utterances or parts of them.

    wave: (N, S), sound; known: (N, T), 1 where there is any, else 0
    labels: N rows of CTC labels (L,), empty for parts and for utterances without a transcript
    """

    wave: torch.Tensor
    known: torch.Tensor
    labels: list[torch.Tensor]


class Distillation:
    """The encoder, its teacher, its optimiser and checkpoints."""

    def __init__(self, prepared: PreparedSound, run: Run, config: SpeechConfig):
        self.prepared, self.run, self.config = prepared, run, config
        self.device, self.together = run.torch_device, run.together
        start = read_start(run)
        torch.manual_seed(config.seed)
        whisper = load_teacher(TEACHER, len(FUTURE))
        network = EncoderNetwork(future=FUTURE)
        if start:
            with check_compatible(start.path, "speech"):
                load_tensors(
                    network,
                    {name: array for name, array in start.tensors.items() if name != "filters"},
                )
        else:
            begin_as_whisper(network, whisper)
        self.teacher = WhisperFeatures(whisper).to(self.device).eval()
        self.network = network.to(self.device)
        is_new = lambda name: name.endswith("near") or name.startswith("symbols.")
        new = [tensor for name, tensor in self.network.named_parameters() if is_new(name)]
        old = [tensor for name, tensor in self.network.named_parameters() if not is_new(name)]
        self.rates = config.learning_rate, config.new_rate
        groups = [
            {"params": old, "lr": self.rates[0]},
            {"params": new, "lr": self.rates[1], "weight_decay": 0.0},
        ]
        self.optimiser = torch.optim.AdamW(groups, weight_decay=0.01)
        settings = {**asdict(config), "steps": None}
        rng = np.random.default_rng(config.seed)
        self.loop = Loop(
            "speech", run, {"network": self.network}, {"adam": self.optimiser}, settings, rng
        )
        weight = np.minimum(prepared.count, config.seconds * FEATURE_RATE)
        self.weight = weight / weight.sum()  # (U,) probability of each utterance

    def step(self, rng: np.random.Generator) -> dict[str, torch.Tensor]:
        """One step of the optimiser; returns the losses, distil relative to the variance of the target."""
        config, loop = self.config, self.loop
        fall = min(1.0, (loop.step + 1) / config.warm_up) * cosine(loop.step / config.steps)
        for group, rate in zip(self.optimiser.param_groups, self.rates):
            group["lr"] = rate * fall
        count = config.batch * self.together.count
        losses = self._losses(
            make_batch(self.prepared, self.weight, count, config.seconds, rng, self.device)
        )
        self.optimiser.zero_grad()
        self.together.share(losses["distil"] + config.spelling * losses["ctc"]).backward()
        self.together.add_up(self.network.parameters())
        torch.nn.utils.clip_grad_norm_(self.network.parameters(), GRADIENT_LIMIT)
        self.optimiser.step()
        return losses

    def _losses(self, batch: Batch) -> dict[str, torch.Tensor]:
        part, whole = self.together.part, self.together.whole
        with torch.no_grad():
            target = self.teacher(part(batch.wave))
        # Voices are mixed, so that every process needs the sound of all of the batch.
        mel = part(mel_batch(augment(batch.wave), vary=True))
        with half_precision(self.device):
            features = self.network(mel)
            spelled = whole(self.network.log_probabilities(features))
        error = whole((features.float() - target).square().mean(2))
        return {
            "distil": (error * batch.known).sum() / batch.known.sum(),
            "ctc": ctc_loss(spelled, batch.known, batch.labels),
        }

    def save(self) -> Path:
        """Write the encoder's weights as they are."""
        tensors, dimensions = encoder_tensors(self.network, mel_filters())
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


def begin_as_whisper(network: EncoderNetwork, whisper: WhisperEncoder) -> None:
    """Give an encoder the weights of Whisper's lowest layers, for log-mel rows as ours are."""
    own = network.state_dict()
    for name, tensor in whisper.state_dict().items():
        for part in ("queries_keys_values", "attended"):
            name = name.replace(f".{part}.", f".attention.{part}.")
        own[name] = tensor
    weight = own["first.weight"]
    own["first.bias"] = own["first.bias"] + WHISPER_OFFSET * weight.sum((1, 2))
    own["first.weight"] = WHISPER_SCALE * weight
    own["place"] = positional_encoding(SOME_PLACE + 1, whisper.width, weight.device)[-1]
    network.load_state_dict(own)


def make_batch(
    prepared: PreparedSound,
    weight: np.ndarray,
    size: int,
    seconds: float,
    rng: np.random.Generator,
    device: torch.device,
) -> Batch:
    """A batch of so many utterances, drawn with probabilities (U,); of long ones a part of some seconds."""
    most = int(seconds * FEATURE_RATE)
    # Utterances of about one length, so that little is padding.
    first = rng.choice(len(weight), p=weight)
    near = np.abs(np.minimum(prepared.count, most) - min(prepared.count[first], most)) <= 10
    chosen = rng.choice(np.flatnonzero(near), size)
    counts = np.minimum(prepared.count[chosen], most)
    length = int(counts.max())
    wave = np.zeros((size, length * SAMPLES), np.int16)
    known = np.zeros((size, length), np.float32)
    labels = []
    for row, (number, count) in enumerate(zip(chosen, counts)):
        skipped = int(rng.integers(0, prepared.count[number] - count + 1))
        samples = prepared.part(number, skipped, count)
        wave[row, : len(samples)] = samples
        known[row, :count] = 1
        complete = count == prepared.count[number]
        letters = voices.ctc_labels(prepared.text[number] if complete else "")
        labels.append(torch.from_numpy(letters).to(device))
    waves, inside = (torch.from_numpy(array).to(device) for array in (wave, known))
    return Batch(waves.float() / 32768, inside, labels)


def ctc_loss(
    log_probabilities: torch.Tensor, known: torch.Tensor, labels: list[torch.Tensor]
) -> torch.Tensor:
    """CTC loss a letter over the rows that have a transcript; zero where none has."""
    lengths = known.sum(1).cpu().long()
    rows = [
        k for k, label in enumerate(labels) if 0 < len(label) < float(lengths[k]) / LETTER_FEATURES
    ]
    if not rows:
        return log_probabilities.sum() * 0
    letters = torch.tensor(
        [len(labels[k]) for k in rows], device="cpu"
    )  # CTC takes lengths from the CPU
    spelled = log_probabilities[rows].transpose(0, 1)
    wanted = torch.cat([labels[k] for k in rows])
    return functional.ctc_loss(spelled, wanted, lengths[rows], letters, zero_infinity=True)


# ---------------------------------------------------------------------------------------------------- prepared sound


@dataclass(frozen=True, eq=False)
class PreparedSound:
    """Utterances, mapped from disk in shards.

    names: of the shards; samples: per shard (N,) int16, at 16 kHz
    shard, start, count: (U,) where each utterance is, in features of its shard; copy: (U,) 0 as it is, else changed
    speed: (U,) how many times as fast as its file; text, speaker, file: U strings
    """

    names: list[str]
    samples: list[np.ndarray]
    shard: np.ndarray
    start: np.ndarray
    count: np.ndarray
    copy: np.ndarray
    speed: np.ndarray
    text: list[str]
    speaker: list[str]
    file: list[str]

    def whole(self, number: int) -> np.ndarray:
        """Samples of an utterance."""
        return self.part(number, 0, int(self.count[number]))

    def part(self, number: int, skipped: int, count: int) -> np.ndarray:
        """Samples (count · 320,) of an utterance without its first `skipped` features."""
        first = int(self.start[number]) + skipped
        return self.samples[self.shard[number]][first * SAMPLES : (first + count) * SAMPLES]


def load_prepared(folder: Path) -> PreparedSound:
    """What `prepare` wrote to a folder. Raises InputError where it has no utterance, or its files are damaged."""
    names: list[str] = []
    samples, rows = [], []
    for path in sorted(folder.glob("*-*.json")):
        with reading_errors(
            path, "a table of prepared sound", "remove it to have this part prepared again"
        ):
            table = json.loads(path.read_text("utf-8"))
            samples.append(
                np.load(path.with_suffix(".samples.npy"), mmap_mode="r", allow_pickle=False)
            )
            total = sum(row["count"] for row in table)
            if samples[-1].shape != (total * SAMPLES,):
                raise ValueError("the sound beside it does not have its length")
            rows += [{**row, "shard": len(names)} for row in table]
            names.append(path.stem)
    if not rows:
        raise InputError(
            f"{folder}: no utterance of the corpora can be used",
            f"they must last {SHORTEST:g} s and be readable",
        )
    numbers = {
        key: np.array([row[key] for row in rows])
        for key in ("shard", "start", "count", "copy", "speed")
    }
    text, speaker, file = ([str(row[key]) for row in rows] for key in ("text", "speaker", "file"))
    return PreparedSound(names, samples, text=text, speaker=speaker, file=file, **numbers)


def prepare(run: Run, seed: int) -> None:
    """Write the sound of all utterances, int16 at 16 kHz, to `out`/speech. Shards that are there are kept.

    Raises InputError where the folder was made from other data or with another seed, and the run does not redo such.
    """
    folder, utterances = run.prepared, voices.read_utterances(run.data)
    of_corpora = [
        corpus_digest(run.data / name)
        for name in voices.UTTERANCE_FOLDERS
        if (run.data / name).is_dir()
    ]
    about, known = folder / "about.txt", digest(seed, SPEEDS, CODECS, of_corpora)
    if about.is_file() and about.read_text("utf-8") != known:
        if not run.redo:
            raise InputError(
                f"{folder}: sound prepared from other data or with another seed",
                "remove the folder, or choose another -o",
            )
        for path in (about, *folder.glob("*-*.json"), *folder.glob("*-*.samples.npy")):
            path.unlink()
    folder.mkdir(parents=True, exist_ok=True)
    if not about.is_file():
        with atomic_write(about) as partial:
            partial.write_text(known, "utf-8")
    order = np.random.default_rng(seed).permutation(len(utterances))
    tasks = []
    for copy in range(len(SPEEDS)):
        for number in range(0, len(order), voices.PREPARED_SHARD_UTTERANCES):
            name = folder / f"{copy}-{number // voices.PREPARED_SHARD_UTTERANCES:03d}"
            part = [
                utterances[k] for k in order[number : number + voices.PREPARED_SHARD_UTTERANCES]
            ]
            tasks.append((name, part, copy, seed + 1000 * copy + number, run.data))
    tasks = [task for task in tasks if not task[0].with_suffix(".json").is_file()]
    if not tasks:
        return
    with worker_pool(run.jobs) as pool:
        for done, _ in enumerate(pool.map(_prepare_shard, tasks)):
            run.report("sound", done + 1, len(tasks))


def _prepare_shard(task: tuple[Path, list[Utterance], int, int, Path]) -> None:
    """Write a shard: its sound, and a table of its utterances last."""
    name, utterances, copy, seed, data = task
    rng, filters = np.random.default_rng(seed), mel_filters()
    samples, table, start = [], [], 0
    for u in utterances:
        try:
            wave = open_audio(u.path).samples()
        except InputError:
            continue
        speed = rng.uniform(*SPEEDS[copy])
        wave = change_speed(wave, speed)
        count = len(wave) // SAMPLES
        if count < SHORTEST * FEATURE_RATE:
            continue
        if copy and rng.random() < CODECS:
            wave = through_codec(wave, rng)
        samples.append((wave[: count * SAMPLES].clip(-1, 1) * 32767).astype(np.int16))
        row = {
            "start": start,
            "count": count,
            "text": u.text,
            "speaker": u.speaker,
            "copy": copy,
            "speed": speed,
        }
        level = loud_level_of_samples(samples[-1], filters)
        table.append({**row, "file": u.path.relative_to(data).as_posix(), "level": round(level, 4)})
        start += count
    with atomic_write(name.with_suffix(".samples.npy")) as partial:
        np.save(partial, np.concatenate([np.zeros(0, np.int16), *samples]))
    with atomic_write(name.with_suffix(".json")) as partial:
        partial.write_text(json.dumps(table), "utf-8")
