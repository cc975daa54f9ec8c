"""Stage 3: teachers of lip motion, which label speech that has no video.

A teacher is one of Whisper's encoders with a head: either the whole encoder, fine-tuned on captured
speech, or its frozen lowest layers; or DH_live's network, frozen, with a head. The labels are the
mean of several teachers, which is better on unseen speakers than each of them. The talking model
learns from captures and labels; the teachers themselves are too large to ship. If the phones of an
utterance are known, its labels show the lips of p, b, m, f and v (see `phone_labels`).
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import numpy as np
import torch
from torch import nn
from torch.nn import functional

from ..audio.mel import mel_filters
from ..data.audio_augmentation import augment
from ..data.captures import FittedRecording
from ..data.phones import align_corpus
from ..face.canonical import Face
from ..files.artefact import Artefact, State, read_fingerprint
from ..files.cache import corpus_digest
from ..files.writing import atomic_write
from ..networks.speech_encoder import FEATURE_RATE
from .batches import (
    CROP_CONTEXT_FEATURES,
    LABELS_ENDING,
    ClipBatch,
    ClipSampler,
    TrainingClip,
    captured_clips,
    even_out,
    make_clip_batch,
    split_recordings,
)
from .dh_live import DH_LIVE_PATH, DH_LIVE_WIDTH, DhLive
from .loop import Intervals, Loop, Losses, cosine_decay, half_precision
from .options import TrainOptions
from .phone_labels import PhoneLabels, read_utterance_phones
from .prepared_audio import PreparedAudio, load_prepared_audio, prepare_audio
from .processes import TrainingProcesses
from .run import Run
from .talking import (
    TalkingConfig,
    free_shares,
    mean_correlations,
    sample_targets,
    start_decoder_at_components,
)
from .talking_objective import Objective, measure_matrix
from .teacher import WHISPER_WIDTHS, encode_in_batches, load_teacher, teacher_files, whisper_log_mel

DH_LIVE = "dh_live"  # the name of a teacher
TEACHER_HEAD_WIDTH = 256
TEACHER_COMPONENTS = 50  # of motion, before the decoder
TEACHER_DILATIONS = (1, 2, 1)  # features, of the head's blocks
TEACHER_WARM_UP_STEPS = 100
TEACHER_GRADIENT_NORM = 50.0  # above which the gradient is scaled down
LIPS_INTERVALS = Intervals(progress=5, log=400)
# Labelled audio, more than twice as much as the talking model draws from it on CPU cores; on a GPU
# all of it is labelled.
LABELLED_HOURS = 12.0


@dataclass(frozen=True)
class LipsConfig:
    """Settings of the motion teachers' training."""

    # Each is one of Whisper's encoders, fine-tuned, or its lowest layers (`base:4`), frozen; or
    # DH_live's network, which is left out if its weights are not among the data.
    teachers: tuple[str, ...] = ("tiny.en", "base:4", DH_LIVE)
    shares: tuple[tuple[str, float], ...] = TalkingConfig().shares  # of the corpora in a batch
    steps: int = 1100
    batch: int = 8  # crops
    seconds: float = 3.0  # of a crop
    learning_rate: float = 1e-3  # AdamW, of the head; falls as a cosine
    encoder_rate: float = 1e-4  # the same for Whisper's encoder
    dropout: float = 0.2
    hold_out: int = 8  # every n-th training speaker is held out, for the metrics in the log
    people: float = 1.0  # share of the speakers to train on, for a learning curve
    close: bool = True  # whether labels show the lips of p, b, m, f and v in transcripts
    seed: int = 0


# An encoder trained on the few speakers whose recordings are free would overfit to their voices.
FREE_TEACHERS = ("base:4", DH_LIVE)
# After more than 800 steps a teacher improves on its training speakers only.
LIPS_GPU_CONFIG = LipsConfig(
    teachers=("tiny.en", "base", "tiny.en:3", "base:4", DH_LIVE), steps=800, batch=32, seconds=4.0
)


def lips_config(options: TrainOptions, seed: int, large: bool) -> LipsConfig:
    """Return the settings of `talkemo train lips`; `large` is for a GPU."""
    config = replace(LIPS_GPU_CONFIG if large else LipsConfig(), seed=seed)
    if options.free:
        config = replace(config, shares=free_shares(config.shares), teachers=FREE_TEACHERS)
    return options.changed(config, "steps", "hold_out", "people")


def train_lips(run: Run, config: LipsConfig) -> dict[str, float]:
    """Train the teachers, and label the audio that the speech stage prepared.

    Labels are written to `out`/lips, a file a shard: coordinates (N, S) float16 at 50 Hz. Audio
    that is not prepared yet is prepared here; without data/speech nothing is labelled.

    Returns
    -------
    dict of float
        Pearson r of mouth opening and width of held-out speakers, by corpus.

    Raises
    ------
    TalkemoError
        A teacher, or what aligns phones, is not installed.
    """
    face = run.models().face
    config = with_present_teachers(run, config)
    has_speech = (run.data / "speech").is_dir()
    if has_speech:
        run.on_main_process(lambda: prepare_labels(run, config))
    clips, held_out = gather_clips(run, config)
    teachers = [train_teacher(clips, held_out, run, config, k) for k in range(len(config.teachers))]
    metrics = correlations_of_teachers(teachers, held_out, face)
    if has_speech:
        run.on_main_process(lambda: write_labels(teachers, run, face, config))
    return metrics


def with_present_teachers(run: Run, config: LipsConfig) -> LipsConfig:
    """Return the config without DH_live if its weights are not among the run's data.

    Missing packages and damaged files are reported before the hours that training takes. Raises
    TalkemoError for a missing package, InputError for damaged weights.
    """
    dh_live = run.data / DH_LIVE_PATH
    teachers = tuple(name for name in config.teachers if name != DH_LIVE or dh_live.is_file())
    for name in teachers:
        if name == DH_LIVE:
            DhLive(dh_live)
        else:
            teacher_files(_name_and_layers(name)[0])
    if teachers != config.teachers and run.notice:
        run.notice(f"without the teacher {DH_LIVE}: no {dh_live}")
    return replace(config, teachers=teachers)


def gather_clips(run: Run, config: LipsConfig) -> tuple[list[TrainingClip], list[TrainingClip]]:
    """Return the training split's captured speech, and that of held-out speakers."""
    face, filters = run.models().face, mel_filters()
    recordings, held_out = split_recordings(run, config.shares, config.hold_out)
    recordings = select_speakers(recordings, config.people)
    styles = sorted({r.speaker for r in recordings})
    clips = even_out(captured_clips(run, recordings, face, filters, styles), face)
    return clips, captured_clips(run, held_out, face, filters, styles)


def select_speakers(recordings: list[FittedRecording], share: float) -> list[FittedRecording]:
    """Return the recordings of a share of each corpus's speakers; of a single one's clips."""
    if share >= 1:
        return recordings
    chosen: list[FittedRecording] = []
    for corpus in sorted({r.corpus for r in recordings}):
        of_corpus = [r for r in recordings if r.corpus == corpus]
        speakers = sorted({r.speaker for r in of_corpus})
        if len(speakers) == 1:
            numbers = np.unique((np.arange(len(of_corpus) * share) / share).astype(int))
            chosen += [of_corpus[k] for k in numbers]
        else:
            count = max(1, round(len(speakers) * share))
            selected = {speakers[int(k / share)] for k in range(count)}
            chosen += [r for r in of_corpus if r.speaker in selected]
    return chosen


# ------------------------------------------------------------------------------------ training


class WhisperRows(nn.Module):
    """Audio (N, S) at 16 kHz → features (N, S // 320, W) of one of Whisper's encoders."""

    def __init__(self, whisper: nn.Module):
        super().__init__()
        self.whisper = whisper

    def forward(self, wave: torch.Tensor) -> torch.Tensor:
        return self.whisper(whisper_log_mel(wave))


class TeacherBlock(nn.Module):
    """x + a network of three taps with one hidden layer of width 2 W; (N, T, W) → (N, T, W)."""

    def __init__(self, width: int, dilation: int):
        super().__init__()
        self.norm = nn.LayerNorm(width)
        self.taps = nn.Conv1d(width, 2 * width, 3, padding=dilation, dilation=dilation)
        self.out = nn.Linear(2 * width, width)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        taps = self.taps(self.norm(x).transpose(1, 2)).transpose(1, 2)
        return x + self.out(functional.gelu(taps))  # type: ignore[no-any-return]


def _name_and_layers(teacher: str) -> tuple[str, int | None]:
    """Return the name of Whisper's encoder and the number of its layers, None for all of them."""
    name, _, layers = teacher.partition(":")
    return name, int(layers) if layers else None


class MotionTeacher(nn.Module):
    """An encoder with a head: audio (N, S) → coordinates (N, S // 320, C) at 50 Hz.

    Of Whisper's lowest layers (see `LipsConfig.teachers`) and of DH_live's network, whose weights
    are in the folder `data`, only the head is trained, on standardised features.
    """

    def __init__(self, teacher: str, coordinates: int, dropout: float, data: Path):
        super().__init__()
        name, layers = _name_and_layers(teacher)
        self.encoder: nn.Module
        if name == DH_LIVE:
            self.encoder, features = DhLive(data / DH_LIVE_PATH), DH_LIVE_WIDTH
        else:
            whisper, features = load_teacher(name, layers), WHISPER_WIDTHS[name]
            if layers is not None:
                whisper.requires_grad_(False)
                whisper.norm = nn.Identity()  # type: ignore[assignment]
            self.encoder = WhisperRows(whisper)
        frozen = name == DH_LIVE or layers is not None
        self.standard = nn.BatchNorm1d(features, affine=False) if frozen else nn.Identity()
        width = TEACHER_HEAD_WIDTH
        self.entry = nn.Sequential(nn.Dropout(dropout), nn.Linear(features, width))
        self.blocks = nn.ModuleList([TeacherBlock(width, d) for d in TEACHER_DILATIONS])
        self.exit = nn.Sequential(
            nn.LayerNorm(width), nn.Dropout(dropout), nn.Linear(width, TEACHER_COMPONENTS)
        )
        self.decoder = nn.Linear(TEACHER_COMPONENTS, coordinates)

    def forward(self, wave: torch.Tensor) -> torch.Tensor:
        with half_precision(wave.device):
            x = self.encoder(wave)
            x = self.entry(self.standard(x.flatten(0, 1)).unflatten(0, x.shape[:2]))
            for block in self.blocks:
                x = block(x)
            code = self.exit(x).float()
        return self.decoder(code)


def train_teacher(
    clips: list[TrainingClip],
    held_out: list[TrainingClip],
    run: Run,
    config: LipsConfig,
    number: int,
) -> MotionTeacher:
    """Train the teacher of a number in the config; return it in evaluation mode."""
    face, device, processes = run.models().face, run.torch_device, run.processes
    terms = TalkingConfig()
    torch.manual_seed(config.seed + number)
    network = MotionTeacher(config.teachers[number], len(face.span), config.dropout, run.data)
    targets = sample_targets(clips)
    start_decoder_at_components(network.decoder, targets)
    processes.share_batch_norms(network)
    network = network.to(device)
    encoder = [p for p in network.encoder.parameters() if p.requires_grad]
    head = [p for name, p in network.named_parameters() if not name.startswith("encoder.")]
    groups = [{"params": head, "lr": config.learning_rate}]
    if encoder:
        groups.append({"params": encoder, "lr": config.encoder_rate})
    optimisers = {"adam": torch.optim.AdamW(groups, weight_decay=0.01)}
    settings = {**asdict(config), "member": number}
    seed = config.seed + number
    loop = Loop(f"lips-{number}", run, {"network": network}, optimisers, settings, seed)
    measures = measure_matrix(face, targets.numpy(), terms.distances, terms.shapes)
    objective = Objective(face, terms.mouth, terms.gap, terms.closure, device, measures)
    sampler = ClipSampler(clips, replace(config, batch=config.batch * processes.count))

    def take_step() -> Losses:
        network.train()
        batch = make_clip_batch(sampler.draw(loop.rng), config.seconds, 1, 1.0, loop.rng, device)
        output = at_frames(network, batch, processes)
        position, velocity = objective(output, batch.target, batch.inside, batch.mean)
        loop.descend(position + terms.velocity * velocity, max_norm=TEACHER_GRADIENT_NORM)
        return {"position_mm2": position, "velocity_mm2": velocity}

    def rate_factor(step: int) -> float:
        return min(1.0, (step + 1) / TEACHER_WARM_UP_STEPS) * cosine_decay(step / config.steps)

    loop.train(
        config.steps,
        take_step,
        LIPS_INTERVALS,
        rate_factor=rate_factor,
        measure=lambda: correlations_of_teachers([network], held_out, face),
        label=f"lips {number + 1}",
    )
    return network.eval()


def at_frames(
    network: MotionTeacher, batch: ClipBatch, processes: TrainingProcesses
) -> torch.Tensor:
    """Return coordinates (N, T, C) at a batch's frames, interpolated linearly between features."""
    assert batch.wave is not None
    motion = processes.all_rows(network(processes.own_rows(augment(batch.wave))))
    position = (batch.times * FEATURE_RATE + CROP_CONTEXT_FEATURES).clamp(
        0, motion.shape[1] - 1.001
    )
    low = position.floor().long()
    index = low[..., None].expand(-1, -1, motion.shape[2])
    fraction = (position - low)[..., None].float()
    return motion.gather(1, index).lerp(motion.gather(1, index + 1), fraction)


def correlations_of_teachers(
    teachers: list[MotionTeacher], clips: list[TrainingClip], face: Face
) -> dict[str, float]:
    """Return the mean Pearson r of mouth opening and width of each corpus's clips.

    The prediction is the mean of the teachers.
    """
    motions = predict(teachers, [clip.samples for clip in clips])
    at_frame_times = (resample(motion, clip.time) for clip, motion in zip(clips, motions))
    return mean_correlations(clips, at_frame_times, face)


def resample(motion: np.ndarray, times: np.ndarray) -> np.ndarray:
    """Interpolate a motion (N, C) at 50 Hz linearly at times (T,) in s."""
    feature_times = np.arange(len(motion)) / FEATURE_RATE
    return np.stack([np.interp(times, feature_times, column) for column in motion.T], 1)


def predict(teachers: list[MotionTeacher], waves: list[np.ndarray]) -> Iterator[np.ndarray]:
    """Yield the mean of several teachers' motion, (N // 320, C) float32 at 50 Hz.

    `waves` are samples (N,) int16 at 16 kHz.
    """
    by_teacher = []
    for teacher in teachers:
        teacher.eval()
        by_teacher.append(encode_in_batches(teacher, waves, next(teacher.parameters()).device))
    for number in range(len(waves)):
        yield np.mean([motions[number] for motions in by_teacher], axis=0)


# -------------------------------------------------------------------------------------- labels


def prepare_labels(run: Run, config: LipsConfig) -> None:
    """Prepare the audio to be labelled, align its phones, and remove stale labels."""
    if run.discard_stale or read_fingerprint(run.prepared_audio) is None:
        prepare_audio(run, config.seed)
    if config.close:
        align_utterances(run)
    labels = Artefact(run.pseudo_labels, run.fingerprint)
    if not (run.resume and labels.state is State.UP_TO_DATE):
        for path in labels.path.glob(f"*{LABELS_ENDING}"):
            path.unlink()
        labels.sign()


def align_utterances(run: Run) -> Path | None:
    """Align the phones of data/speech unless done; return their file, None without transcripts."""
    speech = run.data / "speech"
    if not (speech / "transcripts.tsv").is_file():
        return None
    path = run.out / f"phones-{corpus_digest(speech)[:12]}.json"
    if not path.is_file():

        def report(done: int, total: int) -> None:
            run.report("phones", done, total)

        align_corpus(run.data, path, run.jobs, report)
    return path


def write_labels(teachers: list[MotionTeacher], run: Run, face: Face, config: LipsConfig) -> None:
    """Write the predicted motion of prepared audio; existing shards are kept."""
    prepared = load_prepared_audio(run.prepared_audio)
    path_of_phones = align_utterances(run) if config.close else None
    phones = read_utterance_phones(path_of_phones) if path_of_phones else {}
    labels_of_phones = PhoneLabels(face)
    chosen = shards_to_label(prepared, run)
    for done, shard in enumerate(chosen, 1):
        name = prepared.names[shard]
        path = run.pseudo_labels / f"{name}{LABELS_ENDING}"
        if not path.is_file():
            numbers = [int(k) for k in np.flatnonzero(prepared.shard == shard)]
            motions = predict(teachers, [prepared.utterance(k) for k in numbers])
            labels = []
            for k, motion in zip(numbers, motions):
                spoken = phones.get(prepared.file[k], [])
                motion = labels_of_phones.corrected(motion, spoken, prepared.speed[k])
                labels.append(motion.astype(np.float16))
            with atomic_write(path) as partial:
                np.save(partial, np.concatenate(labels))
        run.report("labels", done, len(chosen))


def shards_to_label(prepared: PreparedAudio, run: Run) -> list[int]:
    """Return the numbers of the shards of prepared audio to label, evenly chosen."""
    count = len(prepared.names)
    if run.torch_device.type != "cuda":
        hours = float(prepared.count.sum()) / FEATURE_RATE / 3600
        count = min(count, math.ceil(count * LABELLED_HOURS / max(hours, LABELLED_HOURS)))
    return [int(k) for k in np.arange(count) * len(prepared.names) // max(count, 1)]
