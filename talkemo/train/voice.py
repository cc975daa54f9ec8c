"""The voice model, trained on acted emotion: what a voice expresses, and how strongly.

The network sees windows relative to what the speaker sounds like in other recordings, as far as
these are known; in training, contexts of many kinds are drawn, among them none at all. Windows are
also moved from one speaker's mean towards another's, since no emotion may be known by its speaker.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np
import torch
from torch.nn import functional

from ..audio.voice_rows import LEVEL_AND_PITCH_NUMBERS, WINDOW_NUMBERS
from ..data.voices import FREE_VOICE_FOLDERS, VOICE_FOLDERS, VoiceClip, read_voices
from ..errors import InputError
from ..evaluation.voice import (
    HELD_OUT,
    VoiceAnswers,
    arousal_of,
    false_alarms,
    recall_of,
    recording_answers,
    voice_metrics,
)
from ..expression.emotions import EMOTIONS
from ..networks.voice import SPEAKER_WINDOWS, VoiceNetwork, voice_tensors
from ..weights.registry import ANY_USE_CORPORA
from .loop import Intervals, Loop, Losses, cosine_decay
from .options import TrainOptions
from .run import Run
from .voice_windows import Windows, prepared_windows

FREE_LICENCE = "ODbL 1.0"  # the strictest of the recordings that may be used for any purpose
VOICE_INTERVALS = Intervals(progress=50, log=100, log_last_step=True)
AROUSAL_WEIGHT = 4.0  # of its squared error, in the loss
ABSENT_LOGIT = -20.0  # of emotions that a corpus lacks, in its own loss
MIXED_CONTEXTS, MAX_MIXED_RECORDINGS = 20, 12  # of a speaker, and recordings in one of them
CONTEXTS_OF_EMOTION, MAX_CONTEXT_WINDOWS = 4, 12  # of each emotion of a speaker
MIN_EMOTIONS_OF_SPEAKER = 3  # for the mean of a speaker; otherwise that of the corpus is used
MIN_SCALE = 1e-3  # of the numbers' standard deviations
TEMPERATURES = np.geomspace(0.5, 4, 61)
SURE_CHOICES = np.arange(0.3, 0.91, 0.02)
# Of neutral recordings of corpora that were left out, at most, when `sure` is chosen.
MAX_FALSE_ALARMS = 0.08
LINEAR_STEPS = 300  # of the classifier of level and pitch
DEFAULT_SURE = 0.6  # where there are too few speakers to choose it


@dataclass(frozen=True)
class VoiceConfig:
    """Settings of the voice model's training."""

    corpora: tuple[str, ...] = VOICE_FOLDERS
    free: bool = False  # whether only recordings are used that allow any purpose
    copies: int = 2  # of each recording: as it is, and through other channels
    steps: int = 900
    batch: int = 256
    learning_rate: float = 2e-3  # AdamW, after a warm-up, falling to zero as a cosine
    weight_decay: float = 0.1
    warm_up: int = 90  # steps
    context: float = 0.6  # share of windows whose speaker is known
    same_emotion: float = 0.2  # share of these that are known by this emotion only
    moved: float = 0.5  # share of windows that are moved towards another speaker
    balance: float = 0.5  # exponent of a corpus's size in its share of a batch
    hold_out: int = 5  # every n-th training speaker is held out, to calibrate and measure
    left_out: bool = True  # whether each corpus is left out in turn, for the same
    seed: int = 0


def voice_config(options: TrainOptions, seed: int, large: bool) -> VoiceConfig:
    """Return the settings of `talkemo train voice`."""
    config = replace(VoiceConfig(), seed=seed, free=options.free)
    if options.free:
        config = replace(config, corpora=FREE_VOICE_FOLDERS)
    return options.changed(config, "steps")


def train_voice(run: Run, config: VoiceConfig) -> dict[str, Any]:
    """Train the voice model on a run's corpora of acted emotion.

    Returns
    -------
    dict
        `weights`, the path of `out`/voice.safetensors, and metrics of recordings whose speakers or
        corpora were left out of training.

    Raises
    ------
    InputError
        A corpus is missing or damaged, or has too few speakers.
    """
    clips = [c for c in read_voices(run.data, config.corpora, config.free) if c.split == "train"]
    encoder = run.models().encoder
    windows = prepared_windows(
        run.out / "voice",
        clips,
        encoder,
        copies=config.copies,
        seed=config.seed,
        report=run.report,
    )
    data = VoiceData(clips, windows)
    left_out = left_out_speakers(clips, config)
    answers = {
        name: _answers_without(data, without, name, run, config)
        for name, without in left_out.items()
    }
    temperature = best_temperature(answers)
    calibrated = {name: a.at_temperature(temperature) for name, a in answers.items()}
    sure = least_sure(list(calibrated.values())) if answers else DEFAULT_SURE
    metrics = {name: voice_metrics(a, sure) for name, a in calibrated.items()}
    for name, without in left_out.items():
        metrics[name] |= level_and_pitch_metrics(data, without)
    network = _train(data, np.ones(len(clips), bool), "voice", run, config)
    settings = {
        "encoder": encoder.fingerprint,
        "temperature": temperature,
        "sure": sure,
        "emotions": list(EMOTIONS),
        "left_out": metrics,
        "config": asdict(config),
    }
    if config.free and any(clip.corpus not in ANY_USE_CORPORA for clip in clips):
        run = replace(run, provenance={**run.provenance, "licence": FREE_LICENCE})
    path = run.save("voice", voice_tensors(network), settings)
    return {"weights": str(path), "temperature": temperature, "sure": sure, "left_out": metrics}


def check_voices(run: Run, config: VoiceConfig) -> None:
    """Raise InputError if a run's data have no acted voices."""
    clips = read_voices(run.data, config.corpora, config.free)
    if not any(clip.split == "train" for clip in clips):
        raise InputError(
            f"{run.data}: no acted voices to train on", "is it the folder of the corpora?"
        )


def left_out_speakers(clips: list[VoiceClip], config: VoiceConfig) -> dict[str, set[str]]:
    """Return the speakers that networks for metrics are trained without, by name.

    Every n-th speaker of each corpus is held out to calibrate, and each corpus is left out in turn,
    where other speakers remain.
    """
    by_corpus: dict[str, set[str]] = {}
    for clip in clips:
        by_corpus.setdefault(clip.corpus, set()).add(clip.speaker)
    every = config.hold_out
    result = {
        HELD_OUT: {n for names in by_corpus.values() for n in sorted(names)[every // 2 :: every]}
    }
    result |= by_corpus if config.left_out else {}
    total = sum(map(len, by_corpus.values()))
    return {name: speakers for name, speakers in result.items() if 0 < len(speakers) < total}


class VoiceData:
    """Windows of recordings with their labels, normalised by their own mean and spread."""

    def __init__(self, clips: list[VoiceClip], windows: Windows):
        self.clips, self.windows = clips, windows
        self.emotion = np.array([EMOTIONS.index(clip.emotion) for clip in clips])
        self.arousal = np.array([arousal_of(clip) for clip in clips], np.float32)
        self.corpus = np.array([clip.corpus for clip in clips])
        self.speaker = np.array([clip.speaker for clip in clips])
        self.mean = torch.from_numpy(windows.numbers.mean(0))
        self.scale = torch.from_numpy(windows.numbers.std(0) + MIN_SCALE)


def _answers_without(
    data: VoiceData, speakers: set[str], name: str, run: Run, config: VoiceConfig
) -> VoiceAnswers:
    """Train without some speakers, and return the answers about their recordings."""
    is_out = np.isin(data.speaker, sorted(speakers))
    network = _train(data, ~is_out, f"voice-without-{name}", run, config)
    whole = data.windows.whole & (data.windows.copy == 0)
    windows = data.windows.chosen(np.flatnonzero(whole & is_out[data.windows.clip]))
    clips = [data.clips[k] for k in windows.clip]
    return recording_answers(network, windows.numbers, clips)


def _train(
    data: VoiceData, used: np.ndarray, name: str, run: Run, config: VoiceConfig
) -> VoiceNetwork:
    """Train a network on the recordings of a mask (clips,)."""
    torch.manual_seed(config.seed)
    network = VoiceNetwork(data.windows.numbers.shape[1])
    network.mean, network.scale = data.mean.clone(), data.scale.clone()
    network = network.to(run.torch_device)
    decayed = config.weight_decay
    optimiser = torch.optim.AdamW(network.parameters(), config.learning_rate, weight_decay=decayed)
    loop = Loop(name, run, {"network": network}, {"adam": optimiser}, asdict(config), config.seed)
    batches = VoiceBatches(data, used, network, config)
    network.train()

    def take_step() -> Losses:
        batch = batches.draw(loop.rng)
        codes = network.encode(batch.numbers - batch.share * batch.context)
        logits, arousal = network.judge_each(codes, batch.share)  # each member learns by itself
        logits = logits.masked_fill(~batch.possible, ABSENT_LOGIT)
        emotion = batch.emotion.expand(len(logits), -1)
        entropy = functional.cross_entropy(logits.flatten(0, 1), emotion.flatten())
        error = functional.mse_loss(arousal, batch.arousal.expand_as(arousal))
        loop.descend(entropy + AROUSAL_WEIGHT * error)
        return {"entropy": entropy, "arousal": error}

    loop.train(
        config.steps,
        take_step,
        VOICE_INTERVALS,
        rate_factor=lambda step: (
            min((step + 1) / config.warm_up, 1.0)
            * cosine_decay((step - config.warm_up) / max(config.steps - config.warm_up, 1))
        ),
    )
    return network.eval()


@dataclass(frozen=True, eq=False)
class VoiceBatch:
    """B windows, normalised.

    Attributes
    ----------
    numbers, context : (B, D)
        Windows, and the means of their speakers' other windows.
    share : (B, 1)
        How much of the means is taken off.
    emotion, arousal : (B,)
    possible : (B, 8) bool
        The emotions of each one's corpus.
    """

    numbers: torch.Tensor
    context: torch.Tensor
    share: torch.Tensor
    emotion: torch.Tensor
    arousal: torch.Tensor
    possible: torch.Tensor


class VoiceBatches:
    """Draws batches: corpora by size, their emotions evenly, contexts of their speakers."""

    def __init__(
        self, data: VoiceData, used: np.ndarray, network: VoiceNetwork, config: VoiceConfig
    ):
        self.data, self.config = data, config
        self.device = network.mean.device
        windows = data.windows
        rows = np.flatnonzero(used[windows.clip])
        numbers = torch.from_numpy(windows.numbers).to(self.device)
        self.numbers = network.normalise(numbers)
        self.speakers = Speakers(data, rows, self.numbers, np.random.default_rng(config.seed))
        labels = np.char.add(np.char.add(data.corpus, "/"), data.emotion.astype(str))
        names, of_row = np.unique(labels[windows.clip[rows]], return_inverse=True)
        self.cells = [rows[of_row == k] for k in range(len(names))]
        corpora = np.array([name.partition("/")[0] for name in names])
        sizes = np.array([len(cell) for cell in self.cells], float)
        share = np.array([sizes[corpora == c].sum() ** config.balance for c in corpora])
        share /= np.array([(corpora == c).sum() for c in corpora])
        self.share = share / share.sum()
        emotions = np.array([int(name.partition("/")[2]) for name in names])
        possible = [np.isin(np.arange(len(EMOTIONS)), emotions[corpora == c]) for c in corpora]
        self.possible = torch.from_numpy(np.array(possible)).to(self.device)

    def draw(self, rng: np.random.Generator) -> VoiceBatch:
        """Return a batch."""
        data, config, count = self.data, self.config, self.config.batch
        cells = rng.choice(len(self.cells), count, p=self.share)
        rows = np.array([self.cells[k][int(rng.integers(len(self.cells[k])))] for k in cells])
        known = rng.random(count) < config.context
        same = rng.random(count) < config.same_emotion
        context, share = self.speakers.contexts(rows, known, same, rng)
        moved = self.speakers.moves(rows, rng, config.moved)
        clip = data.windows.clip[rows]
        is_known = torch.from_numpy(known[:, None]).to(self.device)
        return VoiceBatch(
            self.numbers[rows] + moved,
            (context + moved) * is_known,
            share * is_known,
            torch.from_numpy(data.emotion[clip]).to(self.device),
            torch.from_numpy(data.arousal[clip]).to(self.device),
            self.possible[cells],
        )


class Speakers:
    """What speakers sound like in each copy: means of some of their windows, and of all."""

    def __init__(
        self, data: VoiceData, rows: np.ndarray, numbers: torch.Tensor, rng: np.random.Generator
    ):
        windows = data.windows
        self.of_row = np.zeros(len(windows.clip), int)
        self.emotion_of_row = data.emotion[windows.clip]
        names = data.speaker[windows.clip[rows]]
        groups, inverse = np.unique(
            np.char.add(np.char.add(names, "/"), windows.copy[rows].astype(str)),
            return_inverse=True,
        )
        self.of_row[rows] = inverse
        self._contexts: list[torch.Tensor] = []
        self._shares: list[float] = []
        self.mixed: list[list[int]] = []
        self.by_emotion: list[dict[int, list[int]]] = []
        means, corpora = [], []
        for group in range(len(groups)):
            own = rows[inverse == group]
            emotions = self.emotion_of_row[own]
            clips = windows.clip[own]
            self.mixed.append(
                [self._mixed(own, clips, numbers, rng) for _ in range(MIXED_CONTEXTS)]
            )
            self.by_emotion.append(
                {
                    int(e): [
                        self._add(own[emotions == e], numbers, rng)
                        for _ in range(CONTEXTS_OF_EMOTION)
                    ]
                    for e in np.unique(emotions)
                }
            )
            means.append(_mean_of_emotions(numbers, own, emotions))
            corpora.append((str(data.corpus[clips[0]]), int(windows.copy[own[0]])))
        self.context, self.share = torch.stack(self._contexts), torch.tensor(self._shares)[:, None]
        self.share = self.share.to(numbers.device)
        self.means = self._filled(means, corpora, numbers, rows, data)
        names_of_corpora = sorted({corpus for corpus, _ in corpora})
        self.groups = [
            np.array([k for k, (corpus, _) in enumerate(corpora) if corpus == name])
            for name in names_of_corpora
        ]

    def _add(self, rows: np.ndarray, numbers: torch.Tensor, rng: np.random.Generator) -> int:
        """Add the mean of some windows as a context; return its number."""
        count = int(rng.integers(1, MAX_CONTEXT_WINDOWS + 1))
        self._contexts.append(numbers[rng.choice(rows, count)].mean(0))
        self._shares.append(count / (count + SPEAKER_WINDOWS))
        return len(self._contexts) - 1

    def _mixed(
        self, rows: np.ndarray, clips: np.ndarray, numbers: torch.Tensor, rng: np.random.Generator
    ) -> int:
        """Add a context of several recordings; return its number."""
        recordings = np.unique(clips)
        count = min(len(recordings), int(rng.integers(2, MAX_MIXED_RECORDINGS + 1)))
        chosen = rng.choice(recordings, count, replace=False)
        windows = int(rng.integers(count, 3 * count + 1))
        picked = rng.choice(rows[np.isin(clips, chosen)], windows)
        self._contexts.append(numbers[picked].mean(0))
        self._shares.append(windows / (windows + SPEAKER_WINDOWS))
        return len(self._contexts) - 1

    def _filled(
        self,
        means: list[torch.Tensor | None],
        corpora: list[tuple[str, int]],
        numbers: torch.Tensor,
        rows: np.ndarray,
        data: VoiceData,
    ) -> torch.Tensor:
        """Return a mean for each speaker; who acts few emotions gets that of the corpus."""
        windows, result = data.windows, []
        of_corpus: dict[tuple[str, int], torch.Tensor] = {}
        for mean, (corpus, copy) in zip(means, corpora):
            if mean is None and (corpus, copy) not in of_corpus:
                is_own = (data.corpus[windows.clip[rows]] == corpus) & (windows.copy[rows] == copy)
                own = rows[is_own]
                of_corpus[corpus, copy] = _mean_of(numbers, own, self.emotion_of_row[own])
            result.append(of_corpus[corpus, copy] if mean is None else mean)
        return torch.stack(result)

    def contexts(
        self, rows: np.ndarray, known: np.ndarray, same: np.ndarray, rng: np.random.Generator
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Return contexts (B, D) of windows, and how much of each is taken off (B, 1)."""
        numbers = np.zeros(len(rows), int)
        for k in np.flatnonzero(known):
            group = self.of_row[rows[k]]
            choices = self.mixed[group]
            if same[k]:
                choices = self.by_emotion[group][int(self.emotion_of_row[rows[k]])]
            numbers[k] = choices[int(rng.integers(len(choices)))]
        return self.context[numbers], self.share[numbers]

    def moves(self, rows: np.ndarray, rng: np.random.Generator, share: float) -> torch.Tensor:
        """Return changes (B, D) that move a share of windows towards other speakers' means."""
        chosen = [self.groups[int(k)] for k in rng.integers(len(self.groups), size=len(rows))]
        target = np.array([group[int(rng.integers(len(group)))] for group in chosen])
        amount = rng.uniform(0, 1, len(rows)) * (rng.random(len(rows)) < share)
        change = self.means[target] - self.means[self.of_row[rows]]
        return torch.from_numpy(amount.astype(np.float32)[:, None]).to(change.device) * change


def _mean_of(numbers: torch.Tensor, rows: np.ndarray, emotions: np.ndarray) -> torch.Tensor:
    """Return the mean over emotions of the mean of each one's windows."""
    return torch.stack([numbers[rows[emotions == e]].mean(0) for e in np.unique(emotions)]).mean(0)


def _mean_of_emotions(
    numbers: torch.Tensor, rows: np.ndarray, emotions: np.ndarray
) -> torch.Tensor | None:
    if len(np.unique(emotions)) < MIN_EMOTIONS_OF_SPEAKER:
        return None
    return _mean_of(numbers, rows, emotions)


def level_and_pitch_metrics(data: VoiceData, speakers: set[str]) -> dict[str, float]:
    """Return the recall of a linear classifier of level and pitch that never heard some speakers."""
    windows = data.windows
    rows = np.flatnonzero(windows.whole & (windows.copy == 0))
    numbers = torch.from_numpy(windows.numbers[rows, -WINDOW_NUMBERS:][:, :LEVEL_AND_PITCH_NUMBERS])
    is_out = np.isin(data.speaker[windows.clip[rows]], sorted(speakers))
    emotion = torch.from_numpy(data.emotion[windows.clip[rows]])
    seen = torch.from_numpy(~is_out)
    numbers = (numbers - numbers[seen].mean(0)) / (numbers[seen].std(0) + MIN_SCALE)
    torch.manual_seed(0)
    linear = torch.nn.Linear(LEVEL_AND_PITCH_NUMBERS, len(EMOTIONS))
    count = torch.bincount(emotion[seen], minlength=len(EMOTIONS)).clamp_min(1)
    optimiser = torch.optim.Adam(linear.parameters(), 0.05, weight_decay=1e-3)
    for _ in range(LINEAR_STEPS):
        optimiser.zero_grad()
        loss = functional.cross_entropy(linear(numbers[seen]), emotion[seen], weight=1 / count)
        loss.backward()
        optimiser.step()
    with torch.no_grad():
        logits = linear(numbers[~seen]).numpy()
    clips = [data.clips[k] for k in windows.clip[rows[is_out]]]
    answers = VoiceAnswers.of_clips(clips, logits, logits, np.zeros(len(clips)))
    return {"recall_level_and_pitch": round(recall_of(answers.probabilities, answers), 4)}


def best_temperature(answers: dict[str, VoiceAnswers]) -> float:
    """Return the temperature with the smallest cross entropy; 1 without answers.

    Answers about held-out speakers count as much as those about all corpora that were left out:
    what users record is new, too.
    """
    if not answers:
        return 1.0
    known = [a for name, a in answers.items() if name == HELD_OUT]
    new = [a for name, a in answers.items() if name != HELD_OUT]

    def entropy(temperature: float) -> float:
        groups = [group for group in (known, new) if group]
        of_group = lambda g: np.mean([a.at_temperature(temperature).cross_entropy() for a in g])
        return float(np.mean([of_group(group) for group in groups]))

    entropies = [entropy(float(temperature)) for temperature in TEMPERATURES]
    return round(float(TEMPERATURES[int(np.argmin(entropies))]), 4)


def least_sure(answers: list[VoiceAnswers]) -> float:
    """Return the lowest probability to name an emotion from, with few false alarms everywhere."""

    def alarms(sure: float) -> float:
        return float(np.mean([false_alarms(a, sure) for a in answers]))

    chosen: Callable[[float], bool] = lambda sure: alarms(sure) <= MAX_FALSE_ALARMS
    return round(float(next((s for s in SURE_CHOICES if chosen(s)), SURE_CHOICES[-1])), 3)
