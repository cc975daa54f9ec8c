"""Metrics of the voice model: recall of emotions, arousal, calibration, and false alarms.

An answer is about a whole recording. It is given twice: knowing nothing of the speaker, and relative
to other recordings of the speaker.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from ..audio.recording import load_audio
from ..data.captures import StepProgress
from ..data.voices import STRONG, WEAK, VoiceClip, present_voices, read_voices
from ..expression.emotions import EMOTIONS, NEUTRAL_INDEX
from ..expression.heard import USUAL_AROUSAL
from ..networks.voice import SPEAKER_WINDOWS, VoiceNetwork, speech_of, voice_vector
from ..weights.models import Models

CONTEXT_RECORDINGS = 8  # of the speaker, that an answer is relative to
RELIABILITY_BINS = 10
FOUR = ("neutral", "happy", "sad", "angry")  # classes that most corpora have; calm is neutral
CALM_INDEX = EMOTIONS.index("calm")
HELD_OUT = "held-out"  # name of the training speakers that calibrate a model
# Added to the usual arousal of an emotion, but for neutral and calm.
AROUSAL_OF_INTENSITY = {STRONG: 0.15, WEAK: -0.12, "": 0.0}
# Emotions whose confusion is not plainly wrong: neighbours in valence and arousal.
NEIGHBOURS = (
    {"neutral", "calm"},
    {"calm", "sad"},
    {"sad", "fearful"},
    {"fearful", "surprised"},
    {"happy", "surprised"},
    {"angry", "disgust"},
)


def arousal_of(clip: VoiceClip) -> float:
    """Return the arousal that a recording is taken to have, from 0 to about 1."""
    emotion = EMOTIONS.index(clip.emotion)
    change = 0.0 if emotion in (NEUTRAL_INDEX, CALM_INDEX) else AROUSAL_OF_INTENSITY[clip.intensity]
    return USUAL_AROUSAL[emotion] + change


@dataclass(frozen=True, eq=False)
class VoiceAnswers:
    """Answers about N recordings.

    Attributes
    ----------
    logits, speaker_logits : (N, 8)
        Without and with other recordings of the speaker.
    arousal : (N,)
        Predicted, without them.
    emotion : (N,) int
        In EMOTIONS.
    true_arousal : (N,)
    corpus : (N,) of str
    temperature : float
    """

    logits: np.ndarray
    speaker_logits: np.ndarray
    arousal: np.ndarray
    emotion: np.ndarray
    true_arousal: np.ndarray
    corpus: np.ndarray
    temperature: float = 1.0

    def at_temperature(self, temperature: float) -> VoiceAnswers:
        """Return the answers with calibrated probabilities."""
        return replace(self, temperature=temperature)

    @classmethod
    def of_clips(
        cls,
        clips: Sequence[VoiceClip],
        logits: np.ndarray,
        speaker_logits: np.ndarray,
        arousal: np.ndarray,
    ) -> VoiceAnswers:
        """Return answers beside what the recordings act."""
        return cls(
            logits,
            speaker_logits,
            arousal,
            np.array([EMOTIONS.index(clip.emotion) for clip in clips]),
            np.array([arousal_of(clip) for clip in clips]),
            np.array([clip.corpus for clip in clips]),
        )

    def chosen(self, mask: np.ndarray) -> VoiceAnswers:
        """Return the answers of a mask (N,)."""
        return VoiceAnswers(
            self.logits[mask],
            self.speaker_logits[mask],
            self.arousal[mask],
            self.emotion[mask],
            self.true_arousal[mask],
            self.corpus[mask],
            self.temperature,
        )

    @property
    def probabilities(self) -> np.ndarray:
        """Probabilities (N, 8), knowing nothing of the speaker."""
        return _softmax(self.logits / self.temperature)

    @property
    def with_speaker(self) -> np.ndarray:
        """Probabilities (N, 8), relative to other recordings of the speaker."""
        return _softmax(self.speaker_logits / self.temperature)

    def cross_entropy(self) -> float:
        """Return the mean negative log-probability of the emotions that are acted."""
        chosen = self.probabilities[np.arange(len(self.emotion)), self.emotion]
        return float(-np.log(np.maximum(chosen, 1e-9)).mean())

    def arousal_r(self) -> float:
        """Return Pearson's r of predicted and true arousal."""
        if len(self.arousal) < 2 or not self.arousal.std() or not self.true_arousal.std():
            return 0.0
        return float(np.corrcoef(self.arousal, self.true_arousal)[0, 1])


def _softmax(logits: np.ndarray) -> np.ndarray:
    exponentials = np.exp(logits - logits.max(1, keepdims=True))
    return exponentials / exponentials.sum(1, keepdims=True)


def recording_answers(
    network: VoiceNetwork, numbers: np.ndarray, clips: Sequence[VoiceClip]
) -> VoiceAnswers:
    """Return a network's answers about recordings; `numbers` (N, D) are of their whole speech."""
    speakers = np.array([clip.speaker for clip in clips])
    with torch.inference_mode():
        device = network.mean.device
        codes = network.encode(network.normalise(torch.from_numpy(numbers).to(device)))
        none = torch.zeros(len(codes), 1, device=device)
        logits, predicted = network.judge(codes, torch.zeros_like(codes), none)
        context, share = _contexts(codes, speakers)
        relative, _ = network.judge(codes, context, share)
    heard = (logits.cpu().numpy(), relative.cpu().numpy(), predicted.cpu().numpy())
    return VoiceAnswers.of_clips(clips, *heard)


def _contexts(codes: torch.Tensor, speakers: np.ndarray) -> tuple[torch.Tensor, torch.Tensor]:
    """Return the mean of other recordings of each one's speaker, and its share."""
    rng, context = np.random.default_rng(0), torch.zeros_like(codes)
    share = torch.zeros(len(codes), 1, device=codes.device)
    for number, speaker in enumerate(speakers):
        others = np.flatnonzero((speakers == speaker) & (np.arange(len(speakers)) != number))
        others = rng.permutation(others)[:CONTEXT_RECORDINGS]
        if len(others):
            context[number] = codes[others].mean(0)
            share[number] = len(others) / (len(others) + SPEAKER_WINDOWS)
    return context, share


def recall_of(probabilities: np.ndarray, answers: VoiceAnswers) -> float:
    """Return the unweighted recall among the emotions of each corpus, averaged over corpora."""
    recalls = []
    for corpus in np.unique(answers.corpus):
        own = answers.corpus == corpus
        acted = np.unique(answers.emotion[own])
        answer = acted[probabilities[own][:, acted].argmax(1)]
        recalls.append(np.mean([(answer[answers.emotion[own] == e] == e).mean() for e in acted]))
    return float(np.mean(recalls)) if recalls else 0.0


def recall_of_four(probabilities: np.ndarray, answers: VoiceAnswers) -> float:
    """Return the unweighted recall of neutral or calm, happy, sad and angry, as `recall_of`."""
    four = [EMOTIONS.index(name) for name in FOUR]
    merged = np.where(answers.emotion == CALM_INDEX, NEUTRAL_INDEX, answers.emotion)
    joined = probabilities.copy()
    joined[:, NEUTRAL_INDEX] += joined[:, CALM_INDEX]
    joined[:, [k for k in range(len(EMOTIONS)) if k not in four]] = 0
    chosen = np.isin(merged, four)
    part = replace(answers, emotion=merged[chosen], corpus=answers.corpus[chosen])
    return recall_of(joined[chosen], part)


def named(probabilities: np.ndarray, sure: float) -> np.ndarray:
    """Return the emotion (N,) that is named: the likeliest if it is sure, else neutral."""
    return np.where(probabilities.max(1) >= sure, probabilities.argmax(1), NEUTRAL_INDEX)


def false_alarms(answers: VoiceAnswers, sure: float) -> float:
    """Return the share of neutral recordings that are given an emotion other than calm."""
    neutral = answers.emotion == NEUTRAL_INDEX
    if not neutral.any():
        return 0.0
    given = named(answers.probabilities[neutral], sure)
    return float(np.mean((given != NEUTRAL_INDEX) & (given != CALM_INDEX)))


def plainly_wrong(probabilities: np.ndarray, answers: VoiceAnswers, sure: float) -> float:
    """Return the share of recordings that are given an emotion neither acted nor a neighbour.

    What is read as neutral counts only if nothing is wrong with it: it is never plainly wrong.
    """
    given = named(probabilities, sure)
    wrong = [
        EMOTIONS[g] != "neutral" and g != e and {EMOTIONS[g], EMOTIONS[e]} not in NEIGHBOURS
        for g, e in zip(given, answers.emotion)
    ]
    return float(np.mean(wrong)) if wrong else 0.0


def reliability(probabilities: np.ndarray, answers: VoiceAnswers) -> dict[str, Any]:
    """Return the expected calibration error and, by bins of probability, how often it is right."""
    top, right = probabilities.max(1), probabilities.argmax(1) == answers.emotion
    bins = np.minimum((top * RELIABILITY_BINS).astype(int), RELIABILITY_BINS - 1)
    rows, error = [], 0.0
    for k in np.unique(bins):
        own = bins == k
        rows.append(
            {
                "probability": round(float(top[own].mean()), 4),
                "right": round(float(right[own].mean()), 4),
                "recordings": int(own.sum()),
            }
        )
        error += own.mean() * abs(top[own].mean() - right[own].mean())
    return {"ece": round(float(error), 4), "bins": rows}


def confusion(probabilities: np.ndarray, answers: VoiceAnswers) -> list[list[int]]:
    """Return how many recordings of each emotion (rows) are heard as each emotion (columns)."""
    table = np.zeros((len(EMOTIONS), len(EMOTIONS)), int)
    np.add.at(table, (answers.emotion, probabilities.argmax(1)), 1)
    return [[int(count) for count in row] for row in table]


def voice_metrics(answers: VoiceAnswers, sure: float) -> dict[str, Any]:
    """Return the metrics of answers: recalls, beside chance, arousal, calibration and errors."""
    alone, known = answers.probabilities, answers.with_speaker
    corpora = [np.unique(answers.emotion[answers.corpus == c]) for c in np.unique(answers.corpus)]
    numbers = {
        "recall": recall_of(alone, answers),
        "recall_known_speaker": recall_of(known, answers),
        "chance": float(np.mean([1 / len(acted) for acted in corpora])) if corpora else 0.0,
        "recall_four": recall_of_four(alone, answers),
        "recall_four_known_speaker": recall_of_four(known, answers),
        "arousal_r": answers.arousal_r(),
        "false_alarms": false_alarms(answers, sure),
        "plainly_wrong": plainly_wrong(alone, answers, sure),
        "plainly_wrong_known_speaker": plainly_wrong(known, answers, sure),
        "named": float(np.mean(alone.max(1) >= sure)),
        "ece": reliability(alone, answers)["ece"],
    }
    rounded = {name: round(value, 4) for name, value in numbers.items()}
    return {"recordings": len(answers.emotion), **rounded}


def evaluate_voice(
    data: Path, models: Models, *, split: str = "dev", progress: StepProgress | None = None
) -> dict[str, Any] | None:
    """Measure the voice model on the recordings of acted emotion of a split; None without any.

    Returns
    -------
    dict
        `corpora`, a row of `voice_metrics` for each and for all; `left_out`, the same of speakers
        and corpora that the training left out, as the weights file has them, and the mean of these
        corpora; `reliability` and `confusion`, see these functions.
    """
    folders = present_voices(data)
    clips = [clip for clip in read_voices(data, folders) if clip.split == split] if folders else []
    if not clips:
        return None
    model = models.voice
    numbers, heard = [], []
    for number, clip in enumerate(clips):
        speech = speech_of(load_audio(clip.audio).samples(), model.encoder)
        if speech is not None:
            numbers.append(voice_vector(*speech))
            heard.append(clip)
        if progress:
            progress("voices", number + 1, len(clips))
    if not heard:
        return None
    answers = recording_answers(model.network, np.array(numbers, np.float32), heard)
    answers = answers.at_temperature(model.temperature)
    rows = [{"corpus": "all", **voice_metrics(answers, model.sure)}]
    for corpus in np.unique(answers.corpus):
        own = answers.chosen(answers.corpus == corpus)
        rows.append({"corpus": str(corpus), **voice_metrics(own, model.sure)})
    left_out = model.settings.get("left_out", {})
    return {
        "split": split,
        "sure": model.sure,
        "corpora": rows,
        "left_out": _left_out_rows(left_out),
        "reliability": reliability(answers.probabilities, answers),
        "confusion": {
            "emotions": list(EMOTIONS),
            "counts": confusion(answers.probabilities, answers),
        },
    }


def _left_out_rows(metrics: dict[str, dict[str, float]]) -> list[dict[str, Any]]:
    """Return the rows of what a training left out, and the mean of the corpora."""
    corpora = [row for name, row in metrics.items() if name != HELD_OUT]
    rows: list[dict[str, Any]] = [{"corpus": name, **row} for name, row in metrics.items()]
    if len(corpora) > 1:
        columns = [name for name in corpora[0] if name != "recordings"]
        means = {name: round(float(np.mean([row[name] for row in corpora])), 4) for name in columns}
        recordings = sum(int(row["recordings"]) for row in corpora)
        rows.append({"corpus": "mean of the corpora", "recordings": recordings, **means})
    return rows
