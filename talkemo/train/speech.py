"""Stage 2: distil Whisper's encoder into a streaming one, with CTC on transcripts.

The encoder starts as the lowest layers of Whisper tiny.en, whose attention spans half a minute of
audio. It learns to predict the same features from nearby audio; the CTC loss also trains it to
spell transcripts. The encoder's input is augmented with rooms, telephone lines and noise, while the
teacher gets the clean audio. All audio is licensed for any use, and so is the encoder.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass, replace
from pathlib import Path

import numpy as np
import torch
from torch.nn import functional

from ..audio.mel import MEL_BANDS, mel_filters
from ..data import utterances
from ..data.audio_augmentation import augment, mel_batch
from ..networks.building import load_tensors
from ..networks.speech_encoder import (
    ATTENTION_FUTURE_FEATURES,
    ATTENTION_PAST_FEATURES,
    FEATURE_RATE,
    FEATURE_WIDTH,
    SAMPLES_PER_FEATURE,
    EncoderNetwork,
    encoder_tensors,
)
from ..weights.files import check_compatible
from .loop import Intervals, Loop, Losses, cosine_decay, half_precision
from .options import TrainOptions
from .prepared_audio import PreparedAudio, load_prepared_audio, prepare_audio
from .run import Run, StartWeights
from .teacher import (
    WhisperEncoder,
    WhisperFeatures,
    load_teacher,
    positional_encoding,
    teacher_files,
)

SPEECH_TEACHER = "tiny.en"
SPEECH_GRADIENT_NORM = 1.0  # above which the gradient is scaled down
SPEECH_INTERVALS = Intervals(progress=5, log=100, weights=1000)
MIN_FEATURES_PER_LETTER = 1.2  # denser transcripts are left out of the CTC loss

# Whisper's log-mel rows are talkemo's times a scale plus an offset, for audio as loud as most of
# Whisper's training audio.
WHISPER_MEL_SCALE, WHISPER_MEL_OFFSET = 2.0, -0.75
START_POSITION = 100  # Whisper's embedding of this position starts the learnt one


@dataclass(frozen=True)
class SpeechConfig:
    """Settings of the speech encoder's training."""

    steps: int = 1500
    batch: int = 8  # utterances
    seconds: float = 5.0  # of an utterance, at most
    learning_rate: float = 3e-4  # AdamW, after a warm-up, falling to zero as a cosine
    new_rate: float = 1e-2  # of what Whisper lacks: biases for distances, and letters
    warm_up: int = 50  # steps
    spelling: float = 0.02  # weight of the CTC loss
    seed: int = 0


SPEECH_GPU_CONFIG = SpeechConfig(steps=6000, batch=32)


def speech_config(options: TrainOptions, seed: int, large: bool) -> SpeechConfig:
    """Return the settings of `talkemo train speech`; `large` is for a GPU."""
    config = SPEECH_GPU_CONFIG if large else SpeechConfig()
    return options.changed(replace(config, seed=seed), "steps")


def train_speech(run: Run, config: SpeechConfig) -> Path:
    """Train the speech encoder on all audio that may be used for any purpose.

    Audio is prepared in `out`/speech where that is missing.

    Returns
    -------
    Path
        `out`/speech.safetensors.

    Raises
    ------
    InputError
        The start weights do not fit, or there is no audio.
    TalkemoError
        The teacher is not installed.
    """
    # Report missing or unsuitable inputs before the hours that preparing audio takes.
    read_start_weights(run)
    teacher_files(SPEECH_TEACHER)
    run.on_main_process(lambda: prepare_audio(run, config.seed))
    distillation = Distillation(load_prepared_audio(run.prepared_audio), run, config)
    distillation.loop.train(
        config.steps,
        distillation.step,
        SPEECH_INTERVALS,
        rate_factor=distillation.rate_factor,
        save_weights=distillation.save,
    )
    return distillation.save()


def read_start_weights(run: Run) -> StartWeights | None:
    """Return the weights that a run starts from, None for Whisper's; raise if they do not fit."""
    start = run.start_weights("speech")
    if start:
        with check_compatible(start.path, "speech"):
            trained = {
                "width": FEATURE_WIDTH,
                "past": ATTENTION_PAST_FEATURES,
                "future": list(ATTENTION_FUTURE_FEATURES),
            }
            settings = {name: (start.settings[name], value) for name, value in trained.items()}
            start.check(bands=(len(start.tensors["filters"]), MEL_BANDS), **settings)
    return start


# -------------------------------------------------------------------------------- distillation


@dataclass(frozen=True, eq=False)
class SpeechBatch:
    """N utterances or crops of them."""

    wave: torch.Tensor  # (N, T · 320) float32 at 16 kHz
    inside: torch.Tensor  # (N, T) 1 for features of the utterance, 0 for padding
    labels: list[torch.Tensor]  # CTC labels (L,); none for crops and without a transcript


class Distillation:
    """The speech encoder in training, its teacher and its optimiser."""

    def __init__(self, prepared: PreparedAudio, run: Run, config: SpeechConfig):
        self.prepared, self.run, self.config = prepared, run, config
        self.device, self.processes = run.torch_device, run.processes
        start = read_start_weights(run)
        torch.manual_seed(config.seed)
        whisper = load_teacher(SPEECH_TEACHER, len(ATTENTION_FUTURE_FEATURES))
        network = EncoderNetwork(future=ATTENTION_FUTURE_FEATURES)
        if start:
            with check_compatible(start.path, "speech"):
                tensors = {name: a for name, a in start.tensors.items() if name != "filters"}
                load_tensors(network, tensors)
        else:
            start_as_whisper(network, whisper)
        self.teacher = WhisperFeatures(whisper).to(self.device).eval()
        self.network = network.to(self.device)
        new: list[torch.nn.Parameter] = []
        from_whisper: list[torch.nn.Parameter] = []
        for name, parameter in self.network.named_parameters():
            is_new = name.endswith("near") or name.startswith("symbols.")
            (new if is_new else from_whisper).append(parameter)
        groups = [
            {"params": from_whisper, "lr": config.learning_rate},
            {"params": new, "lr": config.new_rate, "weight_decay": 0.0},
        ]
        optimisers = {"adam": torch.optim.AdamW(groups, weight_decay=0.01)}
        settings = {**asdict(config), "steps": None}
        self.loop = Loop(
            "speech", run, {"network": self.network}, optimisers, settings, config.seed
        )
        seconds = np.minimum(prepared.count, config.seconds * FEATURE_RATE)
        self.probability = seconds / seconds.sum()  # (U,) of drawing each utterance

    def rate_factor(self, step: int) -> float:
        """Return the factor of the learning rates in a step."""
        warm_up = min(1.0, (step + 1) / self.config.warm_up)
        return warm_up * cosine_decay(step / self.config.steps)

    def step(self) -> Losses:
        """Take a step on a new batch; return the losses."""
        losses = self._losses(self._draw_batch())
        self.loop.descend(
            losses["distil"] + self.config.spelling * losses["ctc"],
            max_norm=SPEECH_GRADIENT_NORM,
            parameters=self.network.parameters(),
        )
        return losses

    def _losses(self, batch: SpeechBatch) -> Losses:
        """Return the loss of distillation, relative to the target's variance, and that of CTC."""
        own_rows, all_rows = self.processes.own_rows, self.processes.all_rows
        with torch.no_grad():
            target = self.teacher(own_rows(batch.wave))
        # Voices are mixed, so every process needs the audio of the whole batch.
        mel = own_rows(mel_batch(augment(batch.wave), vary=True))
        with half_precision(self.device):
            features = self.network(mel)
            log_probabilities = all_rows(self.network.log_probabilities(features))
        error = all_rows((features.float() - target).square().mean(2))
        return {
            "distil": (error * batch.inside).sum() / batch.inside.sum(),
            "ctc": ctc_loss(log_probabilities, batch.inside, batch.labels),
        }

    def _draw_batch(self) -> SpeechBatch:
        """Draw utterances of similar length, so that little is padding; long ones are cropped."""
        prepared, rng = self.prepared, self.loop.rng
        size = self.config.batch * self.processes.count
        longest = int(self.config.seconds * FEATURE_RATE)
        first = rng.choice(len(self.probability), p=self.probability)
        lengths = np.minimum(prepared.count, longest)
        is_similar = np.abs(lengths - min(prepared.count[first], longest)) <= 10
        chosen = rng.choice(np.flatnonzero(is_similar), size)
        counts = lengths[chosen]
        wave = np.zeros((size, int(counts.max()) * SAMPLES_PER_FEATURE), np.int16)
        inside = np.zeros((size, int(counts.max())), np.float32)
        labels = []
        for row, (number, count) in enumerate(zip(chosen, counts)):
            skipped = int(rng.integers(0, prepared.count[number] - count + 1))
            samples = prepared.crop(number, skipped, count)
            wave[row, : len(samples)] = samples
            inside[row, :count] = 1
            is_complete = count == prepared.count[number]
            letters = utterances.ctc_labels(prepared.text[number] if is_complete else "")
            labels.append(torch.from_numpy(letters).to(self.device))
        return SpeechBatch(
            torch.from_numpy(wave).to(self.device).float() / 32768,
            torch.from_numpy(inside).to(self.device),
            labels,
        )

    def save(self) -> Path:
        """Write the encoder's weights as they are; return the file."""
        tensors, dimensions = encoder_tensors(self.network, mel_filters())
        prepared = self.prepared
        original = prepared.copy == 0
        settings = {
            "config": asdict(self.config),
            "steps": self.loop.step,
            "hours": _hours(prepared.count[original]),
            "hours_with_copies": _hours(prepared.count),
            "voices": len(set(np.array(prepared.speaker)[original])),
        }
        return self.run.save("speech", tensors, {**settings, **dimensions})


def _hours(features: np.ndarray) -> float:
    return round(float(features.sum()) / FEATURE_RATE / 3600, 2)


def start_as_whisper(network: EncoderNetwork, whisper: WhisperEncoder) -> None:
    """Initialise an encoder with Whisper's lowest layers.

    Whisper's log-mel rows are talkemo's times WHISPER_MEL_SCALE plus WHISPER_MEL_OFFSET; this map
    is merged into the first convolution.
    """
    state = network.state_dict()
    for name, tensor in whisper.state_dict().items():
        for layer in ("queries_keys_values", "attended"):
            name = name.replace(f".{layer}.", f".attention.{layer}.")
        state[name] = tensor
    weight = state["first.weight"]
    state["first.bias"] = state["first.bias"] + WHISPER_MEL_OFFSET * weight.sum((1, 2))
    state["first.weight"] = WHISPER_MEL_SCALE * weight
    # Attention is relative, so all features get the same absolute position.
    state["place"] = positional_encoding(START_POSITION + 1, whisper.width, weight.device)[-1]
    network.load_state_dict(state)


def ctc_loss(
    log_probabilities: torch.Tensor, inside: torch.Tensor, labels: list[torch.Tensor]
) -> torch.Tensor:
    """Return the CTC loss per letter over the rows with a transcript; 0 if there is none.

    Parameters
    ----------
    log_probabilities : (N, T, symbols)
    inside : (N, T)
        1 for features of the utterance, 0 for padding.
    labels : list of (L,) int
    """
    lengths = inside.sum(1).cpu().long()
    rows = []
    for k, label in enumerate(labels):
        if 0 < len(label) < float(lengths[k]) / MIN_FEATURES_PER_LETTER:
            rows.append(k)
    if not rows:
        return log_probabilities.sum() * 0
    # CTC takes lengths from the CPU.
    letters = torch.tensor([len(labels[k]) for k in rows], device="cpu")
    return functional.ctc_loss(
        log_probabilities[rows].transpose(0, 1),
        torch.cat([labels[k] for k in rows]),
        lengths[rows],
        letters,
        zero_infinity=True,
    )
