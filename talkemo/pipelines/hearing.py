"""The emotion of a voice: `hear_emotion` for a recording, and an emotion that listens to a stream."""

from __future__ import annotations

import csv
import json
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from ..audio.recording import Audio, AudioSource, load_audio
from ..errors import InputError
from ..expression.emotion_names import EMOTIONS
from ..expression.emotions import TIMELINE_COLUMNS
from ..expression.heard import EASE_S, FollowedVoice, HeardEmotion
from ..files.writing import atomic_write
from ..options import with_keywords
from ..weights.models import Models, load_models
from .options import HearKeywords, HearOptions, PathLike

if TYPE_CHECKING:
    from typing_extensions import Unpack

    from ..networks.voice import SpeakerMean, VoiceModel

TIMELINE_ENDINGS = (".json", ".csv", ".txt")
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
    codes, spoken = model.heard_codes(recording)
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
        self._begin()

    def _begin(self) -> None:
        from ..networks.voice import VOICE_CODE_WIDTH

        self.following = FollowedVoice(self.model.sure)
        self._codes: Any = iter(())
        self._heard = 0  # windows so far
        self._sum, self._count = np.zeros(VOICE_CODE_WIDTH), 0  # of codes with speech
        self._now, self._time = self.following.target, 0.0
        self._readings = np.zeros(len(EMOTIONS) + 1)  # sum of probabilities and arousal

    @property
    def shown(self) -> np.ndarray:
        """Any emotion may occur, (8,) bool."""
        return np.ones(len(EMOTIONS), bool)

    def listen(self, audio: AudioSource) -> AudioSource:
        """Return the same audio for the talking model; begin again with it."""
        from ..networks.voice import VoiceListener

        self._begin()
        listener = VoiceListener(self.model, audio)
        self._codes = listener.codes()
        return listener

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
        while self._heard * hop <= time:
            self._heard += 1
            code = next(self._codes, None)
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
            self._readings += np.append(probabilities[0], arousal[0])
            self.following.hear(probabilities[0], float(arousal[0]), hop)


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
    average = (
        f"on average most likely {content['likeliest']} ({100 * content['probability']:.0f} %), "
        f"arousal {content['arousal']:.2f}"
    )
    shown = ", ".join(dict.fromkeys(span["heard"] for span in content.get("spans", ())))
    return f"heard in the voice: {shown}; {average}" if shown else f"heard in the voice: {average}"


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
