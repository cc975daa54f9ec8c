"""Stage 3: the teachers of motion. They label hours of speech that nobody filmed with the motion of the lips.

A teacher is Whisper's encoder, or its lowest layers, with a head: too large to ship, and better than what ships. It is
trained along on filmed speech or left as it is. Several are averaged: on speakers that none has seen, their mean is
better than each. The talking model then learns from their labels besides the recordings. Where the phones of
an utterance are known, its labels are made to close the lips for p, b and m.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn
from torch.nn import functional

from ..data.audio_augmentation import augment
from ..data.phones import align_corpus, bilabial_times, read_phones
from ..face.canonical import Face
from ..files.cache import corpus_digest
from ..files.writing import atomic_write
from ..geometry.numerics import smoothstep
from ..networks.speech_encoder import FEATURE_RATE
from .batches import (
    CROP_CONTEXT_FEATURES,
    LABELS_ENDING,
    Clip,
    ClipBatch,
    ClipSampler,
    captured_clips,
    even_out,
    make_clip_batch,
    split_recordings,
)
from .loop import Loop, cosine, half_precision
from .objective import Objective, position_matrix
from .run import Run
from .speech import load_prepared, prepare
from .talking import (
    TalkingConfig,
    free_shares,
    mean_correlations,
    some_targets,
    start_decoder_at_components,
)
from .teacher import WHISPER_WIDTHS, encode_in_batches, load_teacher, teacher_files, whisper_log_mel
from .together import Together

HIDDEN, COMPONENTS = 256, 50  # width of a head, and components of the motion that it gives
DILATIONS = (1, 2, 1)  # features, of a head's blocks
GRADIENT_LIMIT = 50.0  # norm of the gradient above which it is scaled down
LOG_EVERY, CHECK_EVERY = 100, 400  # steps
CLOSES_FOR = 0.03  # s around the middle of a p, b or m in which the lips are together at least
EASES_FOR = 0.05  # s before and after that, in which they close and open


@dataclass(frozen=True)
class LipsConfig:
    """Settings of the motion teachers' training."""

    # One member for each: an encoder of Whisper's, trained along; or its lowest layers, as `base:4`, left as they are.
    teachers: tuple[str, ...] = ("tiny.en", "base:4")
    shares: tuple[tuple[str, float], ...] = TalkingConfig().shares  # of the corpora in a batch
    steps: int = 1100
    batch: int = 8  # crops
    seconds: float = 3.0  # of a crop
    learning_rate: float = 1e-3  # AdamW, of the head; falls as a cosine
    encoder_rate: float = 1e-4  # the same for Whisper's encoder
    dropout: float = 0.2
    hold_out: int = 8  # every so many'th training speaker is kept for the log's figures
    people: float = 1.0  # share of the speakers that are trained on: less, for a learning curve
    close: bool = (
        True  # whether the labels of utterances with a transcript close the lips for p, b and m
    )
    seed: int = 0


# Of the few people whose recordings are free an encoder that is trained along learns the voices.
FREE_TEACHERS = ("base:4",)
# Where a GPU is present. After 800 steps a teacher knows the people that it sees better, and others no better.
LARGE = LipsConfig(
    teachers=("tiny.en", "base", "tiny.en:3", "base:4"), steps=800, batch=32, seconds=4.0
)


def lips_config(seed: int, options: dict[str, Any]) -> LipsConfig:
    """The settings of `talkemo train lips` with its options, see `stages.train`."""
    config = replace(LARGE if options.get("large") else LipsConfig(), seed=seed)
    if options.get("free"):
        config = replace(config, shares=free_shares(config.shares), teachers=FREE_TEACHERS)
    if options.get("steps") is not None:
        config = replace(config, steps=options["steps"])
    if options.get("hold_out") is not None:
        config = replace(config, hold_out=options["hold_out"])
    if options.get("people") is not None:
        config = replace(config, people=options["people"])
    return config


def train_lips(run: Run, config: LipsConfig) -> dict[str, float]:
    """Train the teachers of motion and label sound that nobody filmed; returns held-out figures.

    Labels of the sound that the speech stage prepared, or that is prepared here, are written to `out`/lips, a file a
    shard: (N, S) float16 coordinates at 50 Hz. Where data/speech is missing, nothing is labelled.
    """
    face = run.models().face
    # What is missing is reported before the hours that training takes.
    for teacher in config.teachers:
        teacher_files(name_and_layers(teacher)[0])
    labelled = (run.data / "speech").is_dir()
    if labelled:
        run.alone(lambda: prepare_labels(run, config))
    clips, checked = gather(run, config)
    members = [train_member(clips, checked, run, config, k) for k in range(len(config.teachers))]
    figures = check_together(members, checked, face)
    if labelled:
        run.alone(lambda: label(members, run, face, config))
    return figures


def gather(run: Run, config: LipsConfig) -> tuple[list[Clip], list[Clip]]:
    """Filmed speech of the training split, and what of it is held out."""
    from ..audio.mel import mel_filters

    face, filters = run.models().face, mel_filters()
    recordings, held = split_recordings(run, config.shares, config.hold_out)
    recordings = some_people(recordings, config.people)
    styles = sorted({r.speaker for r in recordings})
    clips = even_out(captured_clips(run, recordings, face, filters, styles), face)
    return clips, captured_clips(run, held, face, filters, styles)


def some_people(recordings: list[Any], share: float) -> list[Any]:
    """The recordings of a share of each corpus's speakers; of a corpus with one speaker, a share of the clips."""
    if share >= 1:
        return recordings
    chosen = []
    for corpus in sorted({r.corpus for r in recordings}):
        own = [r for r in recordings if r.corpus == corpus]
        speakers = sorted({r.speaker for r in own})
        if len(speakers) == 1:
            chosen += [own[k] for k in np.unique((np.arange(len(own) * share) / share).astype(int))]
        else:
            kept = {speakers[int(k / share)] for k in range(max(1, round(len(speakers) * share)))}
            chosen += [r for r in own if r.speaker in kept]
    return chosen


# ------------------------------------------------------------------------------------------------------------ training


class Block(nn.Module):
    """x + a network of three taps, one hidden layer wide twice the width; (N, T, W) → (N, T, W)."""

    def __init__(self, width: int, dilation: int):
        super().__init__()
        self.norm = nn.LayerNorm(width)
        self.taps = nn.Conv1d(width, 2 * width, 3, padding=dilation, dilation=dilation)
        self.out = nn.Linear(2 * width, width)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        taps = self.taps(self.norm(x).transpose(1, 2)).transpose(1, 2)
        return x + self.out(functional.gelu(taps))  # type: ignore[no-any-return]


def name_and_layers(teacher: str) -> tuple[str, int | None]:
    """The encoder of Whisper's that a teacher is made of, and how many of its layers, None for all of them."""
    name, _, layers = teacher.partition(":")
    return name, int(layers) if layers else None


class MotionTeacher(nn.Module):
    """Whisper's encoder with a head: sound (N, S) → coordinates (N, S // 320, C) of motion at 50 Hz.

    teacher: one of `LipsConfig.teachers`; of lowest layers only the head is trained, on standardised features
    """

    def __init__(self, teacher: str, coordinates: int, dropout: float):
        super().__init__()
        name, layers = name_and_layers(teacher)
        self.encoder = load_teacher(name, layers)
        self.frozen = layers is not None
        if self.frozen:
            self.encoder.requires_grad_(False)
            self.encoder.norm = nn.Identity()  # type: ignore[assignment]
        self.standard = (
            nn.BatchNorm1d(WHISPER_WIDTHS[name], affine=False) if self.frozen else nn.Identity()
        )
        self.entry = nn.Sequential(nn.Dropout(dropout), nn.Linear(WHISPER_WIDTHS[name], HIDDEN))
        self.blocks = nn.ModuleList([Block(HIDDEN, dilation) for dilation in DILATIONS])
        self.exit = nn.Sequential(
            nn.LayerNorm(HIDDEN), nn.Dropout(dropout), nn.Linear(HIDDEN, COMPONENTS)
        )
        self.decoder = nn.Linear(COMPONENTS, coordinates)

    def forward(self, wave: torch.Tensor) -> torch.Tensor:
        rows = whisper_log_mel(wave)
        with half_precision(wave.device):
            x = self.encoder(rows)
            x = self.entry(self.standard(x.flatten(0, 1)).unflatten(0, x.shape[:2]))
            for block in self.blocks:
                x = block(x)
            code = self.exit(x).float()
        return self.decoder(code)


def train_member(
    clips: list[Clip], checked: list[Clip], run: Run, config: LipsConfig, number: int
) -> MotionTeacher:
    """Train one of the teachers."""
    face, device = run.models().face, run.torch_device
    talking = TalkingConfig()
    torch.manual_seed(config.seed + number)
    network = MotionTeacher(config.teachers[number], len(face.span), config.dropout)
    start_decoder_at_components(network.decoder, some_targets(clips))
    run.together.share_statistics(network)
    network = network.to(device)
    whisper = [p for p in network.encoder.parameters() if p.requires_grad]
    head = [p for name, p in network.named_parameters() if not name.startswith("encoder.")]
    rates = (config.learning_rate, config.encoder_rate)
    groups = [{"params": p, "lr": rate} for p, rate in zip((head, whisper), rates) if p]
    optimiser = torch.optim.AdamW(groups, weight_decay=0.01)
    rng = np.random.default_rng(config.seed + number)
    settings = {**asdict(config), "member": number}
    loop = Loop(f"lips-{number}", run, {"network": network}, {"adam": optimiser}, settings, rng)
    objective = Objective(face, talking.mouth, talking.gap, talking.closure, device)
    sampler = ClipSampler(clips, replace(config, batch=config.batch * run.together.count))
    with loop.whole_steps():
        while loop.step < config.steps and not loop.out_of_time:
            fall = min(1.0, (loop.step + 1) / 100) * cosine(loop.step / config.steps)
            for group, rate in zip(optimiser.param_groups, rates):
                group["lr"] = rate * fall
            network.train()
            batch = make_clip_batch(
                sampler.draw(loop.rng), config.seconds, 1, 1.0, loop.rng, device
            )
            position, velocity = objective(
                at_frames(network, batch, run.together), batch.target, batch.inside, batch.mean
            )
            optimiser.zero_grad()
            run.together.share(position + talking.velocity * velocity).backward()
            run.together.add_up(head + whisper)
            torch.nn.utils.clip_grad_norm_(head + whisper, GRADIENT_LIMIT)
            optimiser.step()
            loop.figures.add({"position_mm2": position, "velocity_mm2": velocity})
            loop.step += 1
            if loop.step % CHECK_EVERY == 0:
                loop.log(check_together([network], checked, face))
            if loop.step % LOG_EVERY == 0:
                run.report(f"lips {number + 1}", loop.step, config.steps)
            loop.end_step()
    loop.save()
    return network.eval()


def at_frames(network: MotionTeacher, batch: ClipBatch, together: Together) -> torch.Tensor:
    """Coordinates (N, T, C) at a batch's frames, by linear interpolation between features."""
    assert batch.wave is not None
    found = together.whole(network(together.part(augment(batch.wave))))
    place = (batch.times * FEATURE_RATE + CROP_CONTEXT_FEATURES).clamp(0, found.shape[1] - 1.001)
    low = place.floor().long()
    index = low[..., None].expand(-1, -1, found.shape[2])
    return found.gather(1, index).lerp(found.gather(1, index + 1), (place - low)[..., None].float())


def check_together(members: list[MotionTeacher], clips: list[Clip], face: Face) -> dict[str, float]:
    """Pearson r of the mouth's opening and width in the mean of the members, the mean over the clips of each corpus."""
    found = predict(members, [clip.samples for clip in clips])
    return mean_correlations(
        clips, (at_times(motion, clip.time) for clip, motion in zip(clips, found)), face
    )


def at_times(motion: np.ndarray, times: np.ndarray) -> np.ndarray:
    """A motion (N, C) at 50 Hz at other times (T,) s, by linear interpolation."""
    at = np.arange(len(motion)) / FEATURE_RATE
    return np.stack([np.interp(times, at, column) for column in motion.T], 1)


def predict(members: list[MotionTeacher], sounds: list[np.ndarray]) -> Iterator[np.ndarray]:
    """The mean of the members' motion, (N // 320, C) float32 at 50 Hz, for each sound (N,) int16."""
    found = []
    for member in members:
        member.eval()
        found.append(encode_in_batches(member, sounds, next(member.parameters()).device))
    return (np.mean(parts, axis=0) for parts in zip(*found))


# -------------------------------------------------------------------------------------------------------------- labels


def prepare_labels(run: Run, config: LipsConfig) -> None:
    """Prepare the sound that is labelled, align its phones, and remove the labels of other teachers.

    Sound that the speech stage has prepared is taken as it is. Raises TalkemoError where what aligns is not installed.
    """
    if not (run.prepared / "about.txt").is_file() or run.redo:
        prepare(run, config.seed)
    if config.close:
        align_utterances(run)
    about = run.labels / "about.txt"
    if not (run.resume and about.is_file() and about.read_text("utf-8") == run.origin):
        for path in run.labels.glob(f"*{LABELS_ENDING}"):
            path.unlink()
        run.labels.mkdir(parents=True, exist_ok=True)
        with atomic_write(about) as partial:
            partial.write_text(run.origin, "utf-8")


def align_utterances(run: Run) -> Path | None:
    """The file of the phones of data/speech, aligned where that is not done; None where there are no transcripts."""
    speech = run.data / "speech"
    if not (speech / "transcripts.tsv").is_file():
        return None
    path = run.out / f"phones-{corpus_digest(speech)[:12]}.json"
    if not path.is_file():
        align_corpus(
            run.data, path, run.jobs, lambda done, total: run.report("phones", done, total)
        )
    return path


def label(members: list[MotionTeacher], run: Run, face: Face, config: LipsConfig) -> None:
    """Write the motion of all sound that nobody filmed to the folder of labels; shards that are there are kept."""
    prepared = load_prepared(run.prepared)
    aligned = align_utterances(run) if config.close else None
    known = known_closures(aligned) if aligned else {}
    closing = closing_direction(face)
    for number, name in enumerate(prepared.names):
        path = run.labels / f"{name}{LABELS_ENDING}"
        rows = np.flatnonzero(prepared.shard == number)
        if not path.is_file():
            sounds = [prepared.whole(int(k)) for k in rows]
            labelled = []
            for k, motion in zip(rows, predict(members, sounds)):
                spoken = known.get(prepared.file[k])
                if spoken is not None:
                    motion = close_lips(
                        motion, spoken / prepared.speed[k], face.opening_row, closing
                    )
                labelled.append(motion.astype(np.float16))
            with atomic_write(path) as partial:
                np.save(partial, np.concatenate(labelled))
        run.report("labels", number + 1, len(prepared.names))


def known_closures(path: Path) -> dict[str, np.ndarray]:
    """The middles (K,) s of the p, b and m of utterances by file, of what `phones.align_corpus` wrote."""
    return {
        f"speech/{file}": bilabial_times(phones).mean(1)
        for file, phones in read_phones(path).items()
    }


def closing_direction(face: Face) -> np.ndarray:
    """(C,) coordinates that close the lips by a millimetre and move the rest of the face as little as can be."""
    position = position_matrix(face, TalkingConfig().mouth, 0.0).astype(np.float64)
    towards = np.linalg.solve(position @ position.T, face.opening_row.astype(np.float64))
    return (towards / (towards @ face.opening_row)).astype(np.float32)


def close_lips(
    motion: np.ndarray, spoken: np.ndarray, opening_row: np.ndarray, closing: np.ndarray
) -> np.ndarray:
    """A motion (T, C) at 50 Hz whose lips are together at the times (K,) s, wherever they are nearly so."""
    opening = np.maximum(motion @ opening_row, 0)
    time = np.arange(len(motion)) / FEATURE_RATE
    distance = np.abs(time[:, None] - spoken).min(1, initial=np.inf)
    share = smoothstep(1 - (distance - CLOSES_FOR) / EASES_FOR)
    return motion - (share * opening)[:, None] * closing
