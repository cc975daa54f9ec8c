"""Training data of the talking model and the motion teachers: clips, and batches of crops."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Protocol

import numpy as np
import torch

from ..audio import loudness
from ..audio.mel import FFT_SAMPLES, log_mel
from ..audio.recording import SAMPLE_RATE, Audio, open_audio
from ..data import corpora, facegood
from ..data.captures import FittedRecording, bring_up_to_date, load_captures
from ..data.rest_relative import relative_to_rest
from ..data.synthetic_audio import music, noise
from ..errors import InputError
from ..face.canonical import Face
from ..files.reading import reading_errors
from ..networks.speech_encoder import (
    FEATURE_RATE,
    SAMPLES_PER_FEATURE,
    SILENCE_MARGIN_FEATURES,
    SpeechEncoder,
)
from .run import Run

CROP_CONTEXT_FEATURES = 36  # encoded on either side of a crop's features
NOISE_CORPUS = "noise"  # synthetic noise and music, on which the face rests
PSEUDO_LABELLED = "pseudo_labelled"  # audio without video; the lips stage predicted its motion
LABELS_ENDING = ".motion.npy"  # of a file of pseudo-labels
# Corpora whose emotional recordings are used too, with the mean of each crop ignored: an emotion
# shifts the mouth almost constantly.
EMOTIONAL_CORPORA = ("java_sed",)
UNLABELLED_END_FEATURES = 6  # without motion, at either end of a pseudo-labelled utterance
MIN_LABELLED_FEATURES = 40  # of a pseudo-labelled utterance; shorter ones are skipped
NOISE_CLIPS = 80
NOISE_CLIP_S = 10.0
MAX_HELD_OUT_CLIPS = 40  # of a corpus
MIN_OPENING_SPREAD_MM = 0.1  # lower bound of the standard deviation of a speaker's mouth opening
# Upper bound of the factor that normalises a speaker's motion; the lower bound is its inverse.
MAX_SPEAKER_SCALE = 2.5
# Weight of the mean error of a captured crop, which includes the error of the expression at rest.
CAPTURED_MEAN_WEIGHT = 0.25


Shares = tuple[tuple[str, float], ...]  # of the corpora in a batch


class BatchSettings(Protocol):
    """The settings of a training that `ClipSampler` reads."""

    @property
    def shares(self) -> Shares: ...
    @property
    def batch(self) -> int: ...
    @property
    def seconds(self) -> float: ...


@dataclass(frozen=True, eq=False)
class TrainingClip:
    """A recording with its motion, ready for training."""

    samples: np.ndarray  # (N,) int16, at 16 kHz
    level: float  # log10 power that counts as loud, see `loudness.loud_level`
    time: np.ndarray  # (T,) s
    target: np.ndarray  # (T, S) coordinates
    style: int  # index of the speaker's style, −1 for none
    corpus: str
    mean: float  # weight of a crop's mean error, relative to the error of its variation
    # (T', D + 1) features and loudness; None if the encoder computes them in training.
    feature: np.ndarray | None = None

    @property
    def audio(self) -> Audio:
        """The clip's samples as a recording."""
        samples = self.samples.astype(np.float32) / 32768
        peak = float(np.abs(samples).max(initial=0.0))
        return Audio(None, len(samples) / SAMPLE_RATE, peak, samples)


# ------------------------------------------------------------------------------------- recordings


def captured_recordings(run: Run, names: tuple[str, ...]) -> Iterator[FittedRecording]:
    """The accepted recordings of corpora, which are fitted first where necessary."""
    models = run.models()
    run.on_main_process(
        lambda: [
            bring_up_to_date(c, run.data, run.captures, models, run.jobs, run.report) for c in names
        ]
    )
    return load_captures(run.data, run.captures, models, names)


def filmed_corpora(names: Iterable[str]) -> list[str]:
    """Those of a batch's corpora whose people were filmed, so that they are fitted."""
    not_filmed = (NOISE_CORPUS, PSEUDO_LABELLED, facegood.CORPUS)
    return [name for name in names if name not in not_filmed]


def neutral_recordings(run: Run, names: list[str]) -> list[FittedRecording]:
    """Neutral recordings of corpora, of both splits, relative to each speaker's rest.

    Of EMOTIONAL_CORPORA all recordings are included. Raises InputError if no corpus exists.
    """
    filmed = filmed_corpora(names)
    present = corpora.require_corpora(run.data, filmed) if filmed else ()
    face = run.models().face
    recordings = [
        r
        for r in relative_to_rest(list(captured_recordings(run, present)), face)
        if r.emotion in ("neutral", "calm") or r.corpus in EMOTIONAL_CORPORA
    ]
    if facegood.CORPUS in names and (run.data / facegood.CORPUS).is_dir():
        recordings += facegood.read_facegood(run.data, face)
    return recordings


def held_out_recordings(
    recordings: list[FittedRecording], stride: int
) -> dict[str, FittedRecording]:
    """Recordings, by name, that are held out of training to measure it.

    Those of every `stride`-th speaker, or every `stride`-th clip of a corpus with one speaker; none
    if `stride` is 0.
    """
    if not stride:
        return {}
    chosen = {}
    for corpus in {r.corpus for r in recordings} - {facegood.CORPUS}:
        of_corpus = [r for r in recordings if r.corpus == corpus]
        speakers = sorted({r.speaker for r in of_corpus})
        if len(speakers) == 1:
            chosen.update({r.name: r for r in of_corpus[::stride][:MAX_HELD_OUT_CLIPS]})
        else:
            chosen.update(
                {r.name: r for r in of_corpus if r.speaker in speakers[stride // 2 :: stride]}
            )
    return chosen


def split_recordings(
    run: Run, shares: Shares, stride: int
) -> tuple[list[FittedRecording], list[FittedRecording]]:
    """The training split of a batch's corpora: recordings to train on, and held-out ones."""
    names = [name for name, _ in shares]
    recordings = [r for r in neutral_recordings(run, names) if r.split == "train"]
    held_out = held_out_recordings(recordings, stride)
    training = [r for r in recordings if r.name not in held_out]
    return training, limit_per_corpus([*held_out.values()])


def limit_per_corpus(recordings: list[FittedRecording]) -> list[FittedRecording]:
    """At most MAX_HELD_OUT_CLIPS recordings of each corpus, evenly spaced."""
    chosen = []
    for corpus in sorted({r.corpus for r in recordings}):
        of_corpus = [r for r in recordings if r.corpus == corpus]
        chosen += of_corpus[:: -(-len(of_corpus) // MAX_HELD_OUT_CLIPS)]
    return chosen


# ------------------------------------------------------------------------------------------ clips


def make_clip(
    r: FittedRecording, data: Path, face: Face, filters: np.ndarray, styles: list[str]
) -> TrainingClip:
    """Read a recording's audio; frames at the ends of clips cut from running speech are dropped."""
    audio = open_audio(data / r.audio)
    samples = (audio.samples().clip(-1, 1) * 32767).astype(np.int16)
    level = loudness.loud_level(audio, filters)
    style = styles.index(r.speaker) if r.speaker in styles else -1
    frames = corpora.with_context(r.corpus, r.capture.time, audio.duration)
    target = r.capture.motion(face).coordinates[frames]
    mean = CAPTURED_MEAN_WEIGHT if r.emotion in ("neutral", "calm") else 0.0
    return TrainingClip(samples, level, r.capture.time[frames], target, style, r.corpus, mean)


def captured_clips(
    run: Run, recordings: list[FittedRecording], face: Face, filters: np.ndarray, styles: list[str]
) -> list[TrainingClip]:
    """The recordings with their audio; reports progress."""
    clips = []
    for number, r in enumerate(recordings):
        clips.append(make_clip(r, run.data, face, filters, styles))
        run.report("audio", number + 1, len(recordings))
    return clips


def with_features(clip: TrainingClip, encoder: SpeechEncoder) -> TrainingClip:
    """The clip with an encoder's features, for trainings that do not change the encoder."""
    return replace(clip, feature=encoder.features(clip.audio))


def even_out(clips: list[TrainingClip], face: Face, share: float = 1.0) -> list[TrainingClip]:
    """Scale each speaker's motion towards the median speaker's mouth opening, within limits.

    With a `share` of 1 all speakers open their mouths alike, with 0.5 they keep half of their
    difference in the logarithm. Closed lips stay closed, because motion is relative to the
    expression at rest.
    """
    openings: dict[tuple[str, int], list[np.ndarray]] = {}
    for clip in clips:
        openings.setdefault((clip.corpus, clip.style), []).append(
            clip.target @ face.lip_opening_gradient
        )
    spread = {
        speaker: max(float(np.concatenate(of_clips).std()), MIN_OPENING_SPREAD_MM)
        for speaker, of_clips in openings.items()
    }
    median = float(np.median(list(spread.values())))
    factor = {
        speaker: float(np.clip(median / value, 1 / MAX_SPEAKER_SCALE, MAX_SPEAKER_SCALE)) ** share
        for speaker, value in spread.items()
    }
    return [replace(c, target=c.target * np.float32(factor[c.corpus, c.style])) for c in clips]


def noise_clip(filters: np.ndarray, coordinates: int, rng: np.random.Generator) -> TrainingClip:
    """Noise, music or silence with the expression at rest; `coordinates` is the span's size."""
    count = int(NOISE_CLIP_S * SAMPLE_RATE)
    audio = (noise if rng.random() < 0.5 else music)(count, rng)
    audio = audio * 10 ** rng.uniform(-3, -0.1) * (rng.random() < 0.85)
    samples = (audio * 32767).astype(np.int16)
    time = np.arange(0.2, NOISE_CLIP_S - 0.2, 1 / 30)
    target = np.zeros((len(time), coordinates), np.float32)
    level = loud_level_of_samples(samples, filters)
    return TrainingClip(samples, level, time, target, -1, NOISE_CORPUS, 1.0)


def loud_level_of_samples(samples: np.ndarray, filters: np.ndarray) -> float:
    """Log10 power that counts as loud in samples (N,) int16, see `loudness.loud_level`."""
    padded = np.pad(samples.astype(np.float32) / 32768, FFT_SAMPLES // 2)
    return loudness.reference_level(log_mel(padded, filters).max(1))


def pseudo_labelled_clips(prepared: Path, labels: Path, face: Face) -> list[TrainingClip]:
    """The prepared utterances that have pseudo-labels, with that motion.

    Parameters
    ----------
    prepared
        Folder of audio that the speech stage prepared.
    labels
        Folder of motion that the lips stage predicted.

    Raises
    ------
    InputError
        Labels and audio differ in length, or a file is damaged.
    """
    clips = []
    for path in sorted(labels.glob(f"*{LABELS_ENDING}")):
        name = path.name.removesuffix(LABELS_ENDING)
        with reading_errors(path, "pseudo-labels", "remove the folder to compute them again"):
            motion = np.load(path, mmap_mode="r", allow_pickle=False)
            table = json.loads((prepared / f"{name}.json").read_text("utf-8"))
            samples = np.load(prepared / f"{name}.samples.npy", mmap_mode="r", allow_pickle=False)
            if motion.shape != (len(samples) // SAMPLES_PER_FEATURE, len(face.span)):
                raise InputError(
                    f"{path}: pseudo-labels and audio differ in length", "remove the folder"
                )
            for row in table:
                first, count = int(row["start"]), int(row["count"])
                if count < MIN_LABELLED_FEATURES:
                    continue
                labelled = np.arange(UNLABELLED_END_FEATURES, count - UNLABELLED_END_FEATURES)
                clips.append(
                    TrainingClip(
                        samples=samples[
                            first * SAMPLES_PER_FEATURE : (first + count) * SAMPLES_PER_FEATURE
                        ],
                        level=float(row["level"]),
                        time=labelled / FEATURE_RATE,
                        target=motion[first + labelled[0] : first + labelled[-1] + 1],
                        style=-1,
                        corpus=PSEUDO_LABELLED,
                        mean=1.0,
                    )
                )
    return clips


# ---------------------------------------------------------------------------------------- batches


@dataclass(frozen=True, eq=False)
class ClipBatch:
    """Crops of several clips, padded to a common length, on the network's device."""

    # Either audio (N, S) of L + 2·CROP_CONTEXT_FEATURES features, or features (N, L, D).
    wave: torch.Tensor | None
    feature: torch.Tensor | None
    levels: torch.Tensor  # (N,), see `TrainingClip.level`
    times: torch.Tensor  # (N, T) s after the first of the L features
    inside: torch.Tensor  # (N, T), 1 for frames, 0 for padding
    target: torch.Tensor  # (N, T, S) coordinates
    mean: torch.Tensor  # (N,), see `TrainingClip.mean`
    style: torch.Tensor  # (N, K), one-hot or zeros


class ClipSampler:
    """Draws clips: a corpus by its share, then one of its clips in proportion to its length."""

    def __init__(self, clips: list[TrainingClip], settings: BatchSettings):
        self.clips, self.settings = clips, settings
        names = [name for name, _ in settings.shares]
        by_corpus: dict[str, list[int]] = {name: [] for name in names}
        for number, clip in enumerate(clips):
            by_corpus[clip.corpus].append(number)
        self.by_corpus = [np.array(by_corpus[name]) for name in names]
        shares = np.array([share if len(by_corpus[name]) else 0 for name, share in settings.shares])
        self.shares = shares / shares.sum()
        lengths = np.array([len(c.time) for c in clips], float)
        self.total_lengths = [
            np.cumsum(lengths[numbers]) if len(numbers) else np.zeros(0)
            for numbers in self.by_corpus
        ]

    def draw(self, rng: np.random.Generator) -> list[TrainingClip]:
        """The clips of a batch."""
        chosen = []
        for corpus in rng.choice(len(self.shares), self.settings.batch, p=self.shares):
            lengths = self.total_lengths[corpus]
            number = np.searchsorted(lengths, rng.random() * lengths[-1], "right")
            chosen.append(self.clips[self.by_corpus[corpus][number]])
        return chosen


def make_clip_batch(
    clips: list[TrainingClip],
    seconds: float,
    styles: int,
    style_dropout: float,
    rng: np.random.Generator,
    device: torch.device,
) -> ClipBatch:
    """Crop each clip and stack the crops.

    Parameters
    ----------
    clips
        Either all with features, or all without.
    seconds
        Length of a crop.
    styles
        Number of styles.
    style_dropout
        Fraction of the crops that are used without their style.
    """
    crops = [_crop(clip, seconds, rng) for clip in clips]
    length = int(seconds * FEATURE_RATE) + 2 * SILENCE_MARGIN_FEATURES
    shape = (len(crops), max(len(crop.frames) for crop in crops))
    times, inside = np.zeros(shape), np.zeros(shape, np.float32)
    target = np.zeros((*shape, clips[0].target.shape[1]), np.float32)
    style = np.zeros((len(crops), styles), np.float32)
    for row, crop in enumerate(crops):
        clip, count = crop.clip, len(crop.frames)
        times[row, :count] = clip.time[crop.frames] - crop.first / FEATURE_RATE
        inside[row, :count] = 1
        target[row, :count] = clip.target[crop.frames]
        if clip.style >= 0 and rng.random() >= style_dropout:
            style[row, clip.style] = 1
    wave = feature = None
    if clips[0].feature is None:
        samples = np.stack([_crop_samples(crop, length) for crop in crops])
        wave = torch.from_numpy(samples).to(device).float() / 32768
    else:
        features = np.stack([_crop_features(crop, length) for crop in crops])
        feature = torch.from_numpy(features).to(device)
    levels = np.array([clip.level for clip in clips], np.float32)
    mean = np.array([clip.mean for clip in clips], np.float32)
    on_device = [
        torch.from_numpy(array).to(device) for array in (levels, times, inside, target, mean, style)
    ]
    return ClipBatch(wave, feature, *on_device)


@dataclass(frozen=True, eq=False)
class _Crop:
    """A section of a clip."""

    clip: TrainingClip
    frames: np.ndarray  # (T,) their indices
    first: int  # index of its first feature, 0 at the clip's start


def _crop(clip: TrainingClip, seconds: float, rng: np.random.Generator) -> _Crop:
    """Return a random section of a clip.

    Its features extend SILENCE_MARGIN_FEATURES beyond its frames at either end.
    """
    latest = max(clip.time[0], clip.time[-1] - seconds)
    begin = rng.uniform(clip.time[0] - 1e-6, latest + 1e-6)
    first, last = np.searchsorted(clip.time, (begin, begin + seconds))
    return _Crop(
        clip, np.arange(first, last), int(np.floor(begin * FEATURE_RATE)) - SILENCE_MARGIN_FEATURES
    )


def _crop_samples(crop: _Crop, length: int) -> np.ndarray:
    """The int16 samples of `length` features of a crop and their context, padded with silence."""
    start = (crop.first - CROP_CONTEXT_FEATURES) * SAMPLES_PER_FEATURE
    stop = (crop.first + length + CROP_CONTEXT_FEATURES) * SAMPLES_PER_FEATURE
    samples = crop.clip.samples[max(start, 0) : max(stop, 0)]
    before = max(0, -start)
    return np.pad(samples, (before, max(0, stop - start - before - len(samples))))


def _crop_features(crop: _Crop, length: int) -> np.ndarray:
    """Features (length, D) of a crop of a clip that has features."""
    feature = crop.clip.feature
    assert feature is not None
    # Row k of a clip's features is at (k − SILENCE_MARGIN_FEATURES) / 50 s.
    index = np.arange(
        crop.first + SILENCE_MARGIN_FEATURES, crop.first + SILENCE_MARGIN_FEATURES + length
    )
    return feature[index.clip(0, len(feature) - 1), :-1]
