"""The emotion of a voice: `hear_emotion` for a recording, and an emotion that listens to a stream."""

from __future__ import annotations

import csv
import json
from collections import deque
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from ..audio.recording import Audio, AudioSource, load_audio
from ..errors import InputError
from ..expression.emotion_names import EMOTIONS
from ..expression.emotions import TIMELINE_COLUMNS
from ..expression.heard import (
    EASE_S,
    SMOOTHING_READINGS,
    UNHEARD,
    FollowedVoice,
    HeardEmotion,
    certainty_of,
    faded,
)
from ..files.writing import atomic_write
from ..options import with_keywords
from ..weights.models import Models, load_models
from .options import HearKeywords, HearOptions, PathLike

if TYPE_CHECKING:
    from typing_extensions import Unpack

    from ..networks.voice import SpeakerMean, VoiceListener, VoiceModel

TIMELINE_ENDINGS = (".json", ".csv", ".txt")
MIN_CERTAINTY = 0.9  # of what was heard, on average, below which a report says so
HEARD_COLUMNS = (*TIMELINE_COLUMNS, "heard", "probability", "likeliest", "arousal")
VoiceInput = PathLike | tuple[np.ndarray, int] | Audio


@dataclass(frozen=True)
class AutoEmotion:
    """Stands for the emotion of a voice that has not been heard yet. An `EmotionSource`."""

    intensity: float
    voice: VoiceInput | None = None  # another recording of the speaker

    @property
    def shown(self) -> np.ndarray:
        """Any emotion may occur, (8,) bool."""
        return np.ones(len(EMOTIONS), bool)

    def amounts(self, times: np.ndarray) -> np.ndarray:
        """Amounts (T, 8) of no emotion."""
        return np.zeros((len(times), len(EMOTIONS)), np.float32)

    def of_recording(self, audio: AudioSource, duration: float, models: Models) -> HeardEmotion:
        """Return the emotion that is heard in a recording."""
        model = models.voice
        return HeardEmotion.of(model.read(audio, speaker_of(model, self.voice)), duration)

    def listening(self, models: Models) -> ListeningEmotion:
        """Return an emotion that follows audio as it comes."""
        model = models.voice
        return ListeningEmotion(model, self.intensity, speaker_of(model, self.voice))


def speaker_of(model: VoiceModel, voice: VoiceInput | None) -> SpeakerMean | None:
    """Return what a speaker sounds like in another recording; None without one.

    Raises InputError for a recording without speech.
    """
    if voice is None:
        return None
    from ..networks.voice import SpeakerMean

    recording = load_audio(voice)
    codes, spoken, _ = model.heard_codes(recording)
    if not spoken.any():
        raise InputError(
            f"{recording.name}: no speech in it", "name a recording of the speaker with --voice"
        )
    return SpeakerMean.of(codes[spoken])


class ListeningEmotion:
    """The emotion of a voice that is still speaking, from the audio up to each time.

    Parameters
    ----------
    model : VoiceModel
    intensity : float
        Factor of all amounts.
    speaker : SpeakerMean, optional
        Of other recordings; by default the mean of what was heard so far is used in part.
    """

    def __init__(self, model: VoiceModel, intensity: float, speaker: SpeakerMean | None = None):
        self.model, self.intensity, self.speaker = model, intensity, speaker
        self.lookahead_s = model.lookahead_s
        self._listener: VoiceListener | None = None
        self._begin()

    def _begin(self, time: float = 0.0) -> None:
        """Forget what was heard; time is now, in s."""
        from ..networks.voice import VOICE_CODE_WIDTH

        self.following = FollowedVoice(self.model.sure)
        self._codes: Any = iter(())
        self._voiced_s: deque[float] = deque(maxlen=SMOOTHING_READINGS[-1])  # of the last hops
        self._certainty = 0.0  # sum over the windows with speech
        self._heard = 0  # windows so far
        self._sum, self._count = np.zeros(VOICE_CODE_WIDTH), 0  # of codes with speech
        self._now, self._time = self.following.target, time
        self._readings = np.zeros(len(EMOTIONS) + 1)  # sum of probabilities and arousal

    @property
    def shown(self) -> np.ndarray:
        """Any emotion may occur, (8,) bool."""
        return np.ones(len(EMOTIONS), bool)

    def listen(self, audio: AudioSource) -> AudioSource:
        """Return the same audio for the talking model; begin again with it."""
        from ..networks.voice import VoiceListener

        self._begin()
        self._listener = listener = VoiceListener(self.model, audio)
        self._codes = listener.codes()
        return listener

    def pause(self) -> None:
        """Hear nothing until `resume`; the audio is passed on."""
        if self._listener is not None:
            self._listener.pause()

    def resume(self, time: float) -> None:
        """Begin again with the audio that comes from now on; `time` is that of the next frame, s."""
        self._begin(time)
        if self._listener is not None:
            self._listener.resume()
            self._codes = self._listener.codes()

    def as_json(self) -> dict[str, Any]:
        """Return what was heard so far, on average over the speech, as JSON values."""
        if not self._count:
            return {}
        mean = self._readings / self._count
        likeliest = int(mean[:-1].argmax())
        return {
            "likeliest": EMOTIONS[likeliest],
            "probability": round(float(mean[likeliest]), 3),
            "arousal": round(float(mean[-1]), 3),
            "probabilities": dict(zip(EMOTIONS, np.round(mean[:-1], 3).tolist())),
            "certainty": round(self._certainty / self._count, 3),
        }

    def amounts(self, times: np.ndarray) -> np.ndarray:
        """Return the amounts (T, 8) at the next times (T,) s."""
        result = np.empty((len(times), len(EMOTIONS)))
        for k, time in enumerate(times):
            self._hear_until(float(time))
            share = 1 - np.exp(-max(float(time) - self._time, 0.0) / EASE_S)
            self._now = self._now + share * (self.following.target - self._now)
            self._time, result[k] = float(time), self._now
        return (self.intensity * result).astype(np.float32)

    def _hear_until(self, time: float) -> None:
        """Take the windows that end at a time or before it."""
        from ..networks.speech_encoder import FEATURE_RATE
        from ..networks.voice import VOICE_HOP_FEATURES, SpeakerMean, own_mean_share

        hop = VOICE_HOP_FEATURES / FEATURE_RATE
        start = 0.0 if self._listener is None else self._listener.start_s
        while start + self._heard * hop <= time:
            self._heard += 1
            code = next(self._codes, None)
            if self._listener is not None:
                self._voiced_s.append(self._listener.voiced_s)
            if code is None:  # no speech, or the end
                self.following.rest(hop)
                continue
            self._sum += code
            self._count += 1
            speaker = self.speaker
            if speaker is None:
                share = own_mean_share(self._count * hop)
                speaker = SpeakerMean((self._sum / self._count).astype(np.float32), share)
            probabilities, arousal = self.model.judge(code[None], speaker)
            certainty = float(certainty_of(sum(self._voiced_s)))
            self._certainty += certainty
            self._readings += np.append(faded(probabilities[0], certainty, UNHEARD), arousal[0])
            self.following.hear(probabilities[0], float(arousal[0]), hop, certainty)


def hear_emotion(
    audio: VoiceInput,
    options: HearOptions | None = None,
    *,
    models: Models | None = None,
    **keywords: Unpack[HearKeywords],
) -> HeardEmotion:
    """Return the emotion that is heard in a recording, as it changes.

        heard = talkemo.hear_emotion("speech.wav")
        talkemo.animate("face.obj", "speech.wav", "talk.mp4", timeline=heard.timeline)

    Parameters
    ----------
    audio : path, (samples, rate) or Audio
        As in `animate`.
    options : HearOptions, optional
        All options in one object.
    models : Models, optional
        What `load_models` returned, instead of `weights` and `device`.
    **keywords
        Fields of HearOptions: `voice`, another recording of the speaker; `weights`, `device`.

    Raises
    ------
    InputError
        The audio is unusable, or the set of weights has no voice model.
    """
    options = with_keywords(options or HearOptions(), keywords)
    recording = load_audio(audio)
    models = models or load_models(options.weights, device=options.device)
    return AutoEmotion(1.0, options.voice).of_recording(recording, recording.duration, models)


def heard_fact(content: dict[str, Any]) -> str:
    """Return what was heard, the `as_json` of an emotion, in words."""
    certainty, voiced_s = content.get("certainty", 1.0), content.get("voiced_s")
    if voiced_s is not None and not certainty:
        few = f"only {voiced_s:.1f} s of a voice" if voiced_s else "no voice"
        return f"heard in the voice: {few}, too short to tell an emotion; the face stays neutral"
    average = (
        f"on average most likely {content['likeliest']} ({100 * content['probability']:.0f} %), "
        f"arousal {content['arousal']:.2f}"
    )
    shown = ", ".join(dict.fromkeys(span["heard"] for span in content.get("spans", ())))
    average = f"{shown}; {average}" if shown else average
    if certainty < MIN_CERTAINTY:
        average += "; too short to tell for sure, so it fades to neutral"
    return f"heard in the voice: {average}"


def write_timeline(heard: HeardEmotion, audio: Audio, path: Path) -> None:
    """Write what was heard as a timeline that `Timeline.read` reads: .json, .csv or .txt."""
    rows = [span.as_json() for span in heard.spans]
    with atomic_write(path) as partial:
        if path.suffix.lower() == ".json":
            content = {"audio": audio.name, **heard.as_json()}
            partial.write_text(json.dumps(content, indent=1) + "\n", "utf-8")
        elif path.suffix.lower() == ".csv":
            with partial.open("w", newline="", encoding="utf-8") as file:
                writer = csv.DictWriter(file, [*HEARD_COLUMNS], lineterminator="\n")
                writer.writeheader()
                writer.writerows(rows)
        else:
            partial.write_text("".join(map(_text_line, rows)), "utf-8")


def _text_line(row: dict[str, Any]) -> str:
    if row["heard"] == row["likeliest"]:
        heard = f"{row['heard']} {100 * row['probability']:.0f} %"
    else:
        heard = f"not sure, likeliest {row['likeliest']}"
    heard += f", arousal {row['arousal']:.2f}"
    columns = f"{row['start']:.2f} {row['end']:.2f} {row['emotion']} {row['intensity']:g}"
    return f"{columns}  # {heard}\n"
