"""The voice model: audio to the emotion and the arousal of a voice.

It looks at windows of up to two seconds: mean and spread of the speech encoder's features, and
numbers of level, pitch and spectrum. What a speaker's voice is like on average says more about the
speaker, the language and the microphone than about an emotion. Where it is known, the network
therefore sees the difference from it, in part or as a whole.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any, cast

import numpy as np
import torch
from torch import nn
from torch.nn import functional

from ..audio.mel import FFT_SAMPLES
from ..audio.recording import SAMPLE_RATE, Audio, AudioSource
from ..audio.voice_rows import (
    FRAME_WIDTH,
    MIN_VOICE_FRAMES,
    WINDOW_NUMBERS,
    VoiceRows,
    frames_of,
    has_pitch,
    has_voice,
    is_speech,
    window_numbers,
)
from ..expression.emotion_names import EMOTIONS
from ..expression.heard import VoiceReadings
from .building import build_network
from .speech_encoder import FEATURE_RATE, SILENCE_MARGIN_FEATURES, SpeechEncoder

VOICE_LAYERS = 2  # of the speech encoder's attention layers: they tell emotions better than three
VOICE_HOP_FEATURES = 10  # 0.2 s from one window to the next
VOICE_WINDOW_FEATURES = 100  # 2 s
MIN_SPEECH_FEATURES = 15  # 0.3 s of speech, which a window needs
VOICE_MEMBERS = 3  # networks whose answers are averaged: voices never heard need it
MEMBER_CODE_WIDTH, MEMBER_HIDDEN_WIDTH = 48, 64
VOICE_CODE_WIDTH = VOICE_MEMBERS * MEMBER_CODE_WIDTH  # of the code of a window
VOICE_DROPOUT, VOICE_INPUT_DROPOUT = 0.3, 0.2
MAX_NUMBER = 5.0  # standard deviations from the mean, of a network's input
LISTEN_CHUNK_S = 0.08  # of audio that is encoded at a time
# How much of a speaker's mean is taken off: n windows give n / (n + SPEAKER_WINDOWS).
SPEAKER_WINDOWS = 4.0
# The mean of the recording itself may hold one emotion throughout, so less of it is taken off, and
# none of its first seconds.
OWN_MEAN_START_S, OWN_MEAN_HALF_S, MAX_OWN_MEAN = 6.0, 20.0, 0.7


class VoiceMember(nn.Module):
    """One of the networks in a VoiceNetwork: its code of a window → logits and arousal."""

    def __init__(self, inputs: int):
        super().__init__()
        self.code = nn.Linear(inputs, MEMBER_CODE_WIDTH)
        self.hidden = nn.Linear(MEMBER_CODE_WIDTH + 1, MEMBER_HIDDEN_WIDTH)
        self.out = nn.Linear(MEMBER_HIDDEN_WIDTH, len(EMOTIONS) + 1)
        self.input_dropout = nn.Dropout(VOICE_INPUT_DROPOUT)
        self.dropout = nn.Dropout(VOICE_DROPOUT)

    def encode(self, normalised: torch.Tensor) -> torch.Tensor:
        """Return codes (N, MEMBER_CODE_WIDTH), which are linear."""
        return functional.linear(self.input_dropout(normalised), self.code.weight)

    def judge(self, code: torch.Tensor, share: torch.Tensor) -> torch.Tensor:
        """Return the logits and the arousal (N, 9) of codes relative to their speakers."""
        code = self.dropout(functional.gelu(code + self.code.bias))
        hidden = functional.gelu(self.hidden(torch.cat([code, share], 1)))
        return torch.as_tensor(self.out(self.dropout(hidden)))


class VoiceNetwork(nn.Module):
    """Numbers of a window, relative to the speaker's mean → logits of EMOTIONS and arousal."""

    mean: torch.Tensor  # (D,) of the numbers of windows in training
    scale: torch.Tensor  # (D,) their standard deviations

    def __init__(self, inputs: int):
        super().__init__()
        self.register_buffer("mean", torch.zeros(inputs))
        self.register_buffer("scale", torch.ones(inputs))
        self.members = nn.ModuleList(VoiceMember(inputs) for _ in range(VOICE_MEMBERS))

    def each(self) -> Iterator[VoiceMember]:
        """Yield the networks."""
        yield from cast(Iterable[VoiceMember], self.members)

    def normalise(self, numbers: torch.Tensor) -> torch.Tensor:
        """Return numbers (N, D) in standard deviations of the training's."""
        return ((numbers - self.mean) / self.scale).clamp(-MAX_NUMBER, MAX_NUMBER)

    def encode(self, normalised: torch.Tensor) -> torch.Tensor:
        """Return codes (N, W); they are linear, so a mean of codes is that of their windows."""
        return torch.cat([member.encode(normalised) for member in self.each()], 1)

    def judge(
        self, codes: torch.Tensor, speaker: torch.Tensor, share: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Return logits (N, 8) and arousal (N,), the means of the members' answers.

        Parameters
        ----------
        codes, speaker : (N, W)
            Of windows, and the means of their speakers.
        share : (N, 1)
            How much of the mean is taken off, 0 to 1.
        """
        logits, arousal = self.judge_each(codes - share * speaker, share)
        return logits.mean(0), arousal.mean(0)

    def judge_each(
        self, relative: torch.Tensor, share: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Return each member's logits (M, N, 8) and arousal (M, N) of relative codes (N, W)."""
        codes = relative.split(MEMBER_CODE_WIDTH, 1)
        answers = [member.judge(code, share) for member, code in zip(self.each(), codes)]
        both = torch.stack(answers)
        return both[..., :-1], both[..., -1]


@dataclass(frozen=True, eq=False)
class SpeakerMean:
    """Mean code (W,) of a speaker's windows, and how much of it is taken off, 0 to 1."""

    code: np.ndarray
    share: float

    @classmethod
    def of(cls, codes: np.ndarray) -> SpeakerMean:
        """Return the mean of codes (n, W) at hops, of other recordings of a speaker."""
        windows = len(codes) * VOICE_HOP_FEATURES / VOICE_WINDOW_FEATURES
        return cls(codes.mean(0), windows / (windows + SPEAKER_WINDOWS))


def own_mean_share(seconds: float) -> float:
    """Return how much of a recording's own mean is taken off after some seconds of speech."""
    excess = max(seconds - OWN_MEAN_START_S, 0.0)
    return min(excess / (excess + OWN_MEAN_HALF_S), MAX_OWN_MEAN)


def own_mean(codes: np.ndarray) -> SpeakerMean:
    """Return what of a recording's own mean is taken off; codes (n, W) at hops."""
    share = own_mean_share(len(codes) * VOICE_HOP_FEATURES / FEATURE_RATE)
    if not share:
        return SpeakerMean(np.zeros(VOICE_CODE_WIDTH, np.float32), 0.0)
    return SpeakerMean(codes.mean(0), share)


def voice_vector(features: np.ndarray, frames: np.ndarray) -> np.ndarray:
    """Return the numbers (2·D + WINDOW_NUMBERS,) of a window.

    Parameters
    ----------
    features : (n, D)
        Of the speech encoder's lowest layers.
    frames : (n, FRAME_WIDTH)
        Of `VoiceRows` at the same times.
    """
    spoken = features[is_speech(frames)]
    return np.concatenate([spoken.mean(0), spoken.std(0), window_numbers(frames)])


def speech_of(samples: np.ndarray, encoder: SpeechEncoder) -> tuple[np.ndarray, np.ndarray] | None:
    """Return features (n, D) and frames (n, FRAME_WIDTH) from the first to the last speech.

    None for a recording with too little sound. `encoder` has the lowest layers.
    """
    peak = float(np.abs(samples).max(initial=0))
    audio = Audio(None, len(samples) / SAMPLE_RATE, peak, samples)
    features = encoder.features(audio)[SILENCE_MARGIN_FEATURES:-SILENCE_MARGIN_FEATURES, :-1]
    frames = frames_of(samples, encoder.filters, len(features))
    if len(features) < MIN_SPEECH_FEATURES:
        return None
    spoken = np.flatnonzero(is_speech(frames))
    part = slice(int(spoken[0]), int(spoken[-1]) + 1)
    if part.stop - part.start < MIN_SPEECH_FEATURES:
        return None
    return features[part], frames[part]


def has_speech(frames: np.ndarray) -> bool:
    """Return whether there is speech enough in a window's frames (n, FRAME_WIDTH)."""
    return int(has_pitch(frames).sum()) >= MIN_SPEECH_FEATURES


class VoiceModel:
    """A trained voice network with the lowest layers of its speech encoder."""

    def __init__(
        self,
        network: VoiceNetwork,
        encoder: SpeechEncoder,
        settings: dict[str, Any],
        device: torch.device | str = "cpu",
    ):
        self.device = torch.device(device)
        self.network = network.eval().to(self.device)
        self.encoder = encoder
        self.settings = settings
        self.temperature = float(settings.get("temperature", 1.0))
        self.sure = float(settings.get("sure", 0.5))

    @property
    def lookahead_s(self) -> float:
        """How many seconds of audio after it a window depends on."""
        return self.encoder.lookahead_features / FEATURE_RATE + (
            FFT_SAMPLES / 2 / SAMPLE_RATE + LISTEN_CHUNK_S
        )

    def codes(self, vectors: np.ndarray) -> np.ndarray:
        """Return the codes (N, W) of windows' numbers (N, D)."""
        with torch.inference_mode():
            numbers = torch.from_numpy(np.asarray(vectors, np.float32)).to(self.device)
            return self.network.encode(self.network.normalise(numbers)).cpu().numpy()

    def judge(self, codes: np.ndarray, speaker: SpeakerMean) -> tuple[np.ndarray, np.ndarray]:
        """Return probabilities (N, 8), calibrated, and arousal (N,) in [0, 1] of codes (N, W)."""
        with torch.inference_mode():
            code = torch.from_numpy(np.asarray(codes, np.float32)).to(self.device)
            mean = torch.from_numpy(np.asarray(speaker.code, np.float32)).to(self.device)
            share = torch.full((len(code), 1), speaker.share, device=self.device)
            logits, arousal = self.network.judge(code, mean.expand_as(code), share)
            probabilities = torch.softmax(logits / self.temperature, 1).cpu().numpy()
        return probabilities, np.clip(arousal.cpu().numpy(), 0, 1)

    def heard_codes(self, audio: AudioSource) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Return codes (R, W) of windows centred on 0, 0.2, 0.4 … s, and which have speech (R,).

        The third is for how many seconds there is a voice from each time to the next (R,).
        """
        listener = VoiceListener(self, audio, half=VOICE_WINDOW_FEATURES // 2)
        heard = [(code, listener.voiced_s) for code in listener.codes()]
        hop_s = VOICE_HOP_FEATURES / FEATURE_RATE
        heard = heard[: max(1, math.ceil(listener.heard_s / hop_s))]
        spoken = np.array([code is not None for code, _ in heard], bool)
        none = np.zeros(VOICE_CODE_WIDTH, np.float32)
        codes = np.array([none if code is None else code for code, _ in heard])
        return codes, spoken, np.array([voiced_s for _, voiced_s in heard])

    def read(self, audio: AudioSource, speaker: SpeakerMean | None = None) -> VoiceReadings:
        """Return what is heard in a recording, every 0.2 s.

        Parameters
        ----------
        audio : AudioSource
        speaker : SpeakerMean, optional
            Of other recordings of the speaker; by default the recording's own mean is used in part.
        """
        codes, spoken, voiced_s = self.heard_codes(audio)
        if speaker is None:
            speaker = own_mean(codes[spoken])
        probabilities, arousal = self.judge(codes, speaker)
        times = np.arange(len(codes)) * VOICE_HOP_FEATURES / FEATURE_RATE
        return VoiceReadings(times, probabilities, arousal, spoken, self.sure, voiced_s)


class VoiceListener:
    """Passes audio on, and encodes the windows of what passes. An `AudioSource`.

    Parameters
    ----------
    model : VoiceModel
    audio : AudioSource
        Its chunks are read once, by `chunks` and, where that has not read enough, by `codes`.
    half : int
        Features of a window after its time; the others are before it.
    """

    def __init__(self, model: VoiceModel, audio: AudioSource, half: int = 0):
        self.peak, self.model, self._after = audio.peak, model, half
        self._source = audio.chunks()
        self._passed: deque[np.ndarray] = deque()  # read here, but not yet passed on
        self._read_samples = 0
        self.resume()

    def resume(self) -> None:
        """Begin to encode with the audio that is read from now on; `codes` counts from there."""
        self.hears, self.start_s = True, self._read_samples / SAMPLE_RATE
        self._unencoded: deque[np.ndarray] = deque()
        self._rows = VoiceRows(self.model.encoder.filters)
        self._encoded = self.model.encoder.stream(_Unencoded(self), LISTEN_CHUNK_S)
        self._features = np.zeros((0, self.model.encoder.width), np.float32)
        self._frames = np.zeros((0, FRAME_WIDTH), np.float32)
        self._first = -SILENCE_MARGIN_FEATURES  # number of the first of the features
        self._first_frame, self._ended = 0, False
        self.voiced_s = 0.0  # of the hop at the time of the last window, or of the one before

    def pause(self) -> None:
        """Only pass the audio on, until `resume`."""
        self.hears = False
        self._unencoded.clear()

    @property
    def heard_s(self) -> float:
        """Seconds of audio that were read since the beginning, or since `resume`."""
        return self._read_samples / SAMPLE_RATE - self.start_s

    def chunks(self) -> Iterator[np.ndarray]:
        """Yield the chunks of the audio."""
        while self._passed or self._read():
            yield self._passed.popleft()

    def codes(self) -> Iterator[np.ndarray | None]:
        """Yield the code of the window at each hop, None without speech, up to the audio's end."""
        number = 0
        while True:
            centre = number * VOICE_HOP_FEATURES
            stop = centre + self._after
            while self._first + len(self._features) < stop and self._encode():
                pass
            if self._ended and centre / FEATURE_RATE > self.heard_s:
                return
            start = max(stop - VOICE_WINDOW_FEATURES, 0)
            self.voiced_s = self._voiced_s(centre + min(self._after, VOICE_HOP_FEATURES))
            yield self._code(start, max(stop, start))
            self._forget(start)
            number += 1

    def _code(self, start: int, stop: int) -> np.ndarray | None:
        """Return the code of the window from one feature to before another."""
        features = self._features[max(start - self._first, 0) : max(stop - self._first, 0)]
        frames = self._frames[start - self._first_frame :][: len(features)]
        if not has_speech(frames):
            return None
        return self.model.codes(voice_vector(features[: len(frames)], frames)[None])[0]

    def _voiced_s(self, end: int) -> float:
        """Return for how many seconds there is a voice in the hop that ends before a frame.

        It is counted a little earlier, so that what follows is known.
        """
        margin = MIN_VOICE_FRAMES - 1
        known = max(end - VOICE_HOP_FEATURES - 2 * margin, 0)
        first, stop = (max(k - margin, 0) - known for k in (end - VOICE_HOP_FEATURES, end))
        frames = self._frames[known - self._first_frame : max(end - self._first_frame, 0)]
        return float(has_voice(frames)[first:stop].sum()) / FEATURE_RATE if len(frames) else 0.0

    def _forget(self, start: int) -> None:
        """Remove what no later window contains."""
        if start > self._first:
            self._features = self._features[start - self._first :]
            self._first = start
        self._frames = self._frames[start - self._first_frame :]
        self._first_frame = start

    def _encode(self) -> bool:
        """Encode the next features. Returns whether there were any."""
        more = next(self._encoded, None)
        if more is None:
            self._ended = True
            return False
        self._features = np.concatenate([self._features, more[:, :-1]])
        return True

    def _read(self) -> bool:
        """Read the next chunk. Returns whether there was one."""
        chunk = next(self._source, None)
        if chunk is None:
            return False
        self._passed.append(chunk)
        self._read_samples += len(chunk)
        if not self.hears:
            return True
        self._unencoded.append(chunk)
        self._frames = np.concatenate([self._frames, self._rows.add(chunk)])
        return True


class _Unencoded:
    """The audio of a listener that is not yet encoded. An `AudioSource`."""

    def __init__(self, listener: VoiceListener):
        self.peak, self._listener = listener.peak, listener

    def chunks(self) -> Iterator[np.ndarray]:
        """Yield the chunks of the audio."""
        listener = self._listener
        while listener._unencoded or listener._read():
            yield listener._unencoded.popleft()


def voice_tensors(network: VoiceNetwork) -> dict[str, np.ndarray]:
    """Return a network's tensors for a weights file: float16, but mean and scale in float32."""
    tensors = {}
    for name, tensor in network.state_dict().items():
        array = tensor.detach().cpu().numpy()
        tensors[name] = array if name in ("mean", "scale") else array.astype(np.float16)
    return tensors


def build_voice(
    tensors: dict[str, np.ndarray],
    settings: dict[str, Any],
    encoder: SpeechEncoder,
    device: torch.device | str = "cpu",
) -> VoiceModel:
    """Return the voice model of a weights file's tensors and settings."""
    inputs = 2 * encoder.width + WINDOW_NUMBERS
    network = build_network(lambda: VoiceNetwork(inputs), tensors)
    return VoiceModel(network, encoder.lowest(VOICE_LAYERS), settings, device)
