"""What the talking model and its teachers are trained on: recordings with motion, and the batches drawn from them."""

from __future__ import annotations

import json
from collections.abc import Iterator
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

CONTEXT = 36  # features of sound before and after a crop's features that are encoded along
NOISE = "noise"  # the corpus of sound without speech, made up here
PSEUDO_LABELLED = "pseudo_labelled"  # the corpus of sound without video, with motion that the lips stage predicted
LABELS = ".motion.npy"  # at the end of the name of a file of such motion
# Corpora whose acted emotion is used too, without its mean: what an emotion does to the mouth hardly changes in a crop.
ACTED = ("java_sed",)
UNLABELLED_ENDS = (
    6  # features at either end of a pseudo-labelled utterance whose motion is not known
)
SHORTEST_LABELLED = 40  # features of a pseudo-labelled utterance at least
NOISE_CLIPS = 40
NOISE_SECONDS = 10.0  # of each
MOST_HELD_OUT = 40  # clips of a corpus
SMALLEST_SPREAD = 0.1  # mm, lower bound of a speaker's standard deviation of the mouth opening
MOST_SCALED = 2.5  # limits of the factor that brings a speaker's motion to the usual size
LEVEL = 0.25  # weight of the mean of a captured crop, which also has the error of the speaker's rest in it


Shares = tuple[tuple[str, float], ...]  # of the corpora in a batch


class Settings(Protocol):
    """What a training's settings say of its material."""

    @property
    def shares(self) -> Shares: ...
    @property
    def batch(self) -> int: ...
    @property
    def seconds(self) -> float: ...


@dataclass(frozen=True, eq=False)
class Clip:
    """A recording ready to be trained on."""

    samples: np.ndarray  # (N,) int16, at 16 kHz
    level: float  # of loud, see audio.loud_level
    time: np.ndarray  # (T,) s
    target: np.ndarray  # (T, S) coordinates
    style: int  # −1 for none
    corpus: str
    mean: float  # how much the mean of a crop's error counts, 1 being as much as its course
    feature: np.ndarray | None = None  # (T', D + 1) where features are not computed while training

    @property
    def audio(self) -> Audio:
        """The clip's sound as a recording."""
        held = self.samples.astype(np.float32) / 32768
        return Audio(None, len(held) / SAMPLE_RATE, float(np.abs(held).max(initial=0.0)), held)


def captured_recordings(run: Run, names: tuple[str, ...]) -> Iterator[FittedRecording]:
    """The recordings of corpora that are not rejected. Corpora that are not fitted yet are fitted first."""
    models = run.models()
    run.on_main_process(
        lambda: [
            bring_up_to_date(c, run.data, run.captures, models, run.jobs, run.report) for c in names
        ]
    )
    return load_captures(run.data, run.captures, models, names)


def neutral_recordings(run: Run, names: list[str]) -> list[FittedRecording]:
    """Recordings of speech of corpora, both splits, from each person's rest: neutral ones, and all of ACTED."""
    filmed = [name for name in names if name not in (NOISE, PSEUDO_LABELLED, facegood.CORPUS)]
    captured = tuple(name for name in filmed if (run.data / name).is_dir())
    if filmed and not captured:
        raise InputError(
            f"{run.data}: none of the corpora {', '.join(filmed)}",
            "is it the folder of the corpora?",
        )
    face = run.models().face
    found = [
        r
        for r in relative_to_rest(list(captured_recordings(run, captured)), face)
        if r.emotion in ("neutral", "calm") or r.corpus in ACTED
    ]
    if facegood.CORPUS in names and (run.data / facegood.CORPUS).is_dir():
        found += facegood.read_facegood(run.data, face)
    return found


def held_out(recordings: list[FittedRecording], every: int) -> dict[str, FittedRecording]:
    """Recordings to measure while training, by name, none of them of the dev split.

    Those of every so many'th training speaker, and of a corpus with one speaker every so many'th clip.
    """
    if not every:
        return {}
    chosen = {}
    for corpus in {r.corpus for r in recordings} - {facegood.CORPUS}:
        of_corpus = [r for r in recordings if r.corpus == corpus]
        speakers = sorted({r.speaker for r in of_corpus})
        if len(speakers) == 1:
            chosen.update({r.name: r for r in of_corpus[::every][:MOST_HELD_OUT]})
        else:
            chosen.update(
                {r.name: r for r in of_corpus if r.speaker in speakers[every // 2 :: every]}
            )
    return chosen


def trained_and_held(
    run: Run, shares: Shares, every: int
) -> tuple[list[FittedRecording], list[FittedRecording]]:
    """The training split's recordings of the corpora of a batch, and what of them is measured instead, see `held_out`."""
    recordings = [
        r for r in neutral_recordings(run, [name for name, _ in shares]) if r.split == "train"
    ]
    held = held_out(recordings, every)
    return [r for r in recordings if r.name not in held], few_of_each([*held.values()])


def few_of_each(recordings: list[FittedRecording]) -> list[FittedRecording]:
    """At most MOST_HELD_OUT recordings of each corpus, evenly chosen."""
    chosen = []
    for corpus in sorted({r.corpus for r in recordings}):
        of_corpus = [r for r in recordings if r.corpus == corpus]
        chosen += of_corpus[:: -(-len(of_corpus) // MOST_HELD_OUT)]
    return chosen


def make_clip(
    r: FittedRecording, data: Path, face: Face, filters: np.ndarray, styles: list[str]
) -> Clip:
    """Read a recording's sound. Frames at the ends of clips that are cut out of running speech are left out."""
    audio = open_audio(data / r.audio)
    samples = (audio.samples().clip(-1, 1) * 32767).astype(np.int16)
    level = loudness.loud_level(audio, filters)
    style = styles.index(r.speaker) if r.speaker in styles else -1
    kept = corpora.with_context(r.corpus, r.capture.time, audio.duration)
    target = r.capture.motion(face).coordinates[kept]
    mean = LEVEL if r.emotion in ("neutral", "calm") else 0.0
    return Clip(samples, level, r.capture.time[kept], target, style, r.corpus, mean)


def filmed_clips(
    run: Run, recordings: list[FittedRecording], face: Face, filters: np.ndarray, styles: list[str]
) -> list[Clip]:
    """Recordings with their sound."""
    clips = []
    for number, r in enumerate(recordings):
        clips.append(make_clip(r, run.data, face, filters, styles))
        run.report("sound", number + 1, len(recordings))
    return clips


def with_features(clip: Clip, encoder: SpeechEncoder) -> Clip:
    """The clip with an encoder's features, where they stay the same in training."""
    return replace(clip, feature=encoder.features(clip.audio))


def even_out(clips: list[Clip], face: Face) -> list[Clip]:
    """Bring each speaker's motion to the usual size, within limits: people open their mouths differently wide.

    Closed lips stay closed, because motion is measured from rest.
    """
    of_speaker: dict[tuple[str, int], list[np.ndarray]] = {}
    for clip in clips:
        of_speaker.setdefault((clip.corpus, clip.style), []).append(
            clip.target @ face.lip_opening_gradient
        )
    spread = {
        who: max(float(np.concatenate(found).std()), SMALLEST_SPREAD)
        for who, found in of_speaker.items()
    }
    usual = float(np.median(list(spread.values())))
    factor = {
        who: float(np.clip(usual / own, 1 / MOST_SCALED, MOST_SCALED))
        for who, own in spread.items()
    }
    return [replace(c, target=c.target * np.float32(factor[c.corpus, c.style])) for c in clips]


def noise_clip(filters: np.ndarray, coordinates: int, rng: np.random.Generator) -> Clip:
    """Noise or silence, in which a face of `coordinates` rests."""
    count = int(NOISE_SECONDS * SAMPLE_RATE)
    spectrum = np.fft.rfft(rng.standard_normal(count)) * np.arange(
        1, count // 2 + 2
    ) ** -rng.uniform(0, 1)
    noise = np.fft.irfft(spectrum, count)
    if rng.random() < 0.5:  # gusts and clatter
        swell = np.interp(np.arange(count), np.linspace(0, count, 40), rng.uniform(0, 1, 40))
        noise = noise * swell**2
    noise = noise / np.abs(noise).max() * 10 ** rng.uniform(-3, -0.1) * (rng.random() < 0.85)
    samples = (noise * 32767).astype(np.int16)
    time = np.arange(0.2, NOISE_SECONDS - 0.2, 1 / 30)
    rest = np.zeros((len(time), coordinates), np.float32)
    return Clip(samples, own_level(samples, filters), time, rest, -1, NOISE, 1.0)


def own_level(samples: np.ndarray, filters: np.ndarray) -> float:
    """What counts as loud in samples (N,) int16, see `loudness.loud_level`."""
    padded = np.pad(samples.astype(np.float32) / 32768, FFT_SAMPLES // 2)
    return loudness.reference_level(log_mel(padded, filters).max(1))


def pseudo_labelled_clips(prepared: Path, labels: Path, face: Face) -> list[Clip]:
    """The prepared utterances of a folder with the motion that the lips stage labelled them with."""
    clips = []
    for path in sorted(labels.glob(f"*{LABELS}")):
        name = path.name.removesuffix(LABELS)
        with reading_errors(path, "labels of sound", "remove the folder to have them made anew"):
            motion = np.load(path, mmap_mode="r", allow_pickle=False)
            table = json.loads((prepared / f"{name}.json").read_text("utf-8"))
            samples = np.load(prepared / f"{name}.samples.npy", mmap_mode="r", allow_pickle=False)
            if motion.shape != (len(samples) // SAMPLES_PER_FEATURE, len(face.span)):
                raise InputError(
                    f"{path}: its labels do not have the length of the sound", "remove the folder"
                )
            for row in table:
                first, count = int(row["start"]), int(row["count"])
                if count < SHORTEST_LABELLED:
                    continue
                time = np.arange(UNLABELLED_ENDS, count - UNLABELLED_ENDS) / FEATURE_RATE
                target = motion[first + UNLABELLED_ENDS : first + count - UNLABELLED_ENDS]
                own = samples[first * SAMPLES_PER_FEATURE : (first + count) * SAMPLES_PER_FEATURE]
                clips.append(Clip(own, float(row["level"]), time, target, -1, PSEUDO_LABELLED, 1.0))
    return clips


# ------------------------------------------------------------------------------------------------------------- batches


@dataclass(frozen=True, eq=False)
class Batch:
    """Crops of several clips, on the device of the network. Crops with fewer than T frames are padded.

    wave: (N, S) sound of L + 2·CONTEXT features, or feature: (N, L, D), where these are not computed in training
    levels: (N,) what counts as loud
    times: (N, T) s after the first of the L features; inside: (N, T) 1 for frames, 0 for padding
    target: (N, T, S) coordinates; mean: (N,) see `Clip.mean`; style: (N, K) one-hot or zeros
    """

    wave: torch.Tensor | None
    feature: torch.Tensor | None
    levels: torch.Tensor
    times: torch.Tensor
    inside: torch.Tensor
    target: torch.Tensor
    mean: torch.Tensor
    style: torch.Tensor


class ClipSampler:
    """Draws clips: a corpus by its share, then one of its clips by its length."""

    def __init__(self, clips: list[Clip], settings: Settings):
        self.clips, self.settings = clips, settings
        names = [name for name, _ in settings.shares]
        by_corpus: dict[str, list[int]] = {name: [] for name in names}
        for number, clip in enumerate(clips):
            by_corpus[clip.corpus].append(number)
        self.by_corpus = [np.array(by_corpus[name]) for name in names]
        shares = np.array([share if len(by_corpus[name]) else 0 for name, share in settings.shares])
        self.shares = shares / shares.sum()
        lengths = np.array([len(c.time) for c in clips], float)
        self.heaps = [
            np.cumsum(lengths[inside]) if len(inside) else np.zeros(0) for inside in self.by_corpus
        ]

    def draw(self, rng: np.random.Generator) -> list[Clip]:
        """The clips of a batch."""
        chosen = []
        for corpus in rng.choice(len(self.shares), self.settings.batch, p=self.shares):
            heap = self.heaps[corpus]
            chosen.append(
                self.by_corpus[corpus][np.searchsorted(heap, rng.random() * heap[-1], "right")]
            )
        return [self.clips[k] for k in chosen]


def make_batch(
    clips: list[Clip],
    seconds: float,
    styles: int,
    style_dropout: float,
    rng: np.random.Generator,
    device: torch.device,
) -> Batch:
    """A crop of each clip. style_dropout: share of the crops that are shown without their style."""
    crops = [_crop(clip, seconds, rng) for clip in clips]
    length = int(seconds * FEATURE_RATE) + 2 * SILENCE_MARGIN_FEATURES
    most = max(len(crop.frames) for crop in crops)
    coordinates = clips[0].target.shape[1]
    times, inside = np.zeros((len(crops), most)), np.zeros((len(crops), most), np.float32)
    target, style = (
        np.zeros((len(crops), most, coordinates), np.float32),
        np.zeros((len(crops), styles), np.float32),
    )
    for row, crop in enumerate(crops):
        clip, count = crop.clip, len(crop.frames)
        times[row, :count] = clip.time[crop.frames] - crop.first / FEATURE_RATE
        inside[row, :count] = 1
        target[row, :count] = clip.target[crop.frames]
        if clip.style >= 0 and rng.random() >= style_dropout:
            style[row, clip.style] = 1
    wave = feature = None
    if clips[0].feature is None:
        wave = (
            torch.from_numpy(np.stack([_crop_sound(crop, length) for crop in crops]))
            .to(device)
            .float()
            / 32768
        )
    else:
        feature = torch.from_numpy(np.stack([_crop_features(crop, length) for crop in crops])).to(
            device
        )
    levels = np.array([clip.level for clip in clips], np.float32)
    mean = np.array([clip.mean for clip in clips], np.float32)
    on_device = [
        torch.from_numpy(array).to(device) for array in (levels, times, inside, target, mean, style)
    ]
    return Batch(wave, feature, *on_device)


@dataclass(frozen=True, eq=False)
class _Crop:
    """A part of a clip. frames: (T,) their indices; first: index of its first feature, 0 at the clip's start."""

    clip: Clip
    frames: np.ndarray
    first: int


def _crop(clip: Clip, seconds: float, rng: np.random.Generator) -> _Crop:
    """A random part of a clip, SILENCE_MARGIN_FEATURES features longer at either end than its frames."""
    latest = max(clip.time[0], clip.time[-1] - seconds)
    begin = rng.uniform(clip.time[0] - 1e-6, latest + 1e-6)
    first, last = np.searchsorted(clip.time, (begin, begin + seconds))
    return _Crop(
        clip, np.arange(first, last), int(np.floor(begin * FEATURE_RATE)) - SILENCE_MARGIN_FEATURES
    )


def _crop_sound(crop: _Crop, length: int) -> np.ndarray:
    """The samples, int16, of `length` features of a crop and their context; silence beyond the clip."""
    start, stop = (
        (crop.first - CONTEXT) * SAMPLES_PER_FEATURE,
        (crop.first + length + CONTEXT) * SAMPLES_PER_FEATURE,
    )
    part = crop.clip.samples[max(start, 0) : max(stop, 0)]
    before = max(0, -start)
    return np.pad(part, (before, max(0, stop - start - before - len(part))))


def _crop_features(crop: _Crop, length: int) -> np.ndarray:
    """Features (length, D) of a crop, from the clip's own."""
    feature = crop.clip.feature
    assert feature is not None
    # Row k of a clip's features is at (k − SILENCE_MARGIN_FEATURES) / 50 s.
    index = np.arange(
        crop.first + SILENCE_MARGIN_FEATURES, crop.first + SILENCE_MARGIN_FEATURES + length
    )
    return feature[index.clip(0, len(feature) - 1), :-1]
