"""From the motion of speech to frames of a face that shows an emotion, blinks and moves its head.

Shared by `animate`, `stream` and `live`.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol, runtime_checkable

import numpy as np

from .. import __version__
from ..audio.prosody import Prosody, Voice
from ..audio.recording import Audio, AudioSource
from ..binding import Binding
from ..binding.head_turner import HeadTurner
from ..errors import InputError
from ..expression.articulation import articulated
from ..expression.blinking import Blinking, blink_rate, weights_with_blinks
from ..expression.brows import Brows
from ..expression.emotion_names import AUTO_EMOTION
from ..expression.emotional import with_emotion
from ..expression.emotions import EMOTIONS, NEUTRAL_INDEX, Timeline, check_intensity, one_hot
from ..expression.head_motion import Gaze, HeadMotion, lids_of_gaze, weights_with_gaze
from ..expression.heard import HeardEmotion
from ..expression.laughter import Laughter
from ..expression.lip_contact import LipContact
from ..expression.lip_parting import LipParting
from ..expression.liveliness import NAMED_AMOUNTS, Liveliness, liveliness_amount
from ..expression.mouth_sides import MouthSides
from ..face.motion import Motion
from ..files.reading import printable
from ..formats.animation import Frames, Header, MeshTurner
from ..formats.units import AUTO_UNIT, unit_of_mesh
from ..weights.models import Models
from .hearing import AutoEmotion
from .options import ActingOptions, EmotionOptions
from .outputs import check_mode

if TYPE_CHECKING:
    from ..formats.appearance import AddedMeshes, Appearance

# A page stores the effect of each of these emotions, so that its viewer can mix them.
PAGE_EMOTIONS = tuple(name for name in EMOTIONS if name != "neutral")


@runtime_checkable
class ListeningSource(Protocol):
    """Emotions that are read from the audio, as it comes."""

    lookahead_s: float  # audio after a time that its amounts depend on

    def listen(self, audio: AudioSource) -> AudioSource:
        """Return the same audio for the talking model."""


class EmotionSource(Protocol):
    """Emotions over time: a Timeline, or an emotion that changes while the face speaks."""

    @property
    def shown(self) -> np.ndarray:
        """Which emotions occur, (8,) bool."""

    def amounts(self, times: np.ndarray) -> np.ndarray:
        """Amount of each emotion (T, 8) at times (T,) s."""


@dataclass(frozen=True)
class ActingPlan:
    """Acting options after their checks, with the timeline read."""

    options: ActingOptions
    emotions: EmotionSource
    blinks_per_minute: float
    head_moves: bool
    eyes_move: bool
    liveliness: float  # of brows, lids, mouth and gestures, 0 to 1

    @classmethod
    def of(cls, options: ActingOptions) -> ActingPlan:
        """Check the options and read the timeline. Raises InputError for an unknown value."""
        return cls(
            options,
            emotions_of(options),
            blink_rate(options.blink),
            check_mode(options.head, "head motion"),
            check_mode(options.gaze, "gaze"),
            liveliness_amount(options.liveliness),
        )

    @property
    def face_lives(self) -> bool:
        """Whether the face moves by itself and with the voice."""
        return self.liveliness > 0

    def hearing(self, audio: Audio, models: Models) -> tuple[ActingPlan, HeardEmotion | None]:
        """Return the plan with the emotion that is heard in a recording, if it is to be heard."""
        if not isinstance(self.emotions, AutoEmotion):
            return self, None
        heard = self.emotions.of_recording(audio, audio.duration, models)
        return replace(self, emotions=heard.timeline.scaled(self.options.intensity)), heard

    @property
    def is_constant(self) -> bool:
        """Whether one emotion is shown throughout."""
        return self.options.timeline is None and not is_auto(self.options)

    @property
    def meta(self) -> dict[str, Any]:
        """Metadata of an animation about its acting."""
        options = self.options
        return {
            **emotion_meta(options),
            "style": options.style or "default",
            "articulation": options.articulation,
            "seed": options.seed,
            "blinks_a_minute": self.blinks_per_minute,
            "head": options.head,
            "gaze": options.gaze,
            "liveliness": NAMED_AMOUNTS.get(self.liveliness, self.liveliness),
        }


def is_auto(options: EmotionOptions) -> bool:
    """Return whether the emotion is to be read from the voice."""
    return options.timeline is None and options.emotion.strip().lower() == AUTO_EMOTION


def emotions_of(options: EmotionOptions) -> Timeline | AutoEmotion:
    """Return what `timeline_of` does, or what stands for the emotion of a voice.

    Raises InputError as `timeline_of`, and for a recording of the speaker without a use.
    """
    if is_auto(options):
        check_intensity(options.intensity)
        return AutoEmotion(options.intensity, options.voice)
    if options.voice is not None:
        raise InputError(
            f"a recording of the voice without the emotion {AUTO_EMOTION}",
            f"choose --emotion {AUTO_EMOTION}, or leave --voice out",
        )
    return timeline_of(options)


def timeline_of(options: EmotionOptions) -> Timeline:
    """Return the timeline of the options, or their one emotion throughout, at their intensity.

    Raises
    ------
    InputError
        The emotion, the intensity or the timeline file is unusable.
    """
    timeline = options.timeline
    if timeline is None:
        return Timeline.constant(options.emotion, options.intensity)
    if not isinstance(timeline, Timeline):
        timeline = Timeline.read(timeline)
    return timeline.scaled(options.intensity)


def timeline_notes(
    options: EmotionOptions,
    emotions: EmotionSource,
    duration: float | None,
    what: str = "the audio",
) -> list[str]:
    """Return what is odd about the spans of a timeline that the user gave, see `Timeline.notes`.

    `emotions` are the options' after their checks.
    """
    if options.timeline is None or not isinstance(emotions, Timeline):
        return []
    is_file = isinstance(options.timeline, str | Path)
    name = printable(options.timeline) if is_file else "the timeline"
    return [f"{name}: {note}" for note in emotions.notes(duration, what)]


def emotion_meta(options: EmotionOptions) -> dict[str, Any]:
    """Return the metadata of an animation about its emotion."""
    timeline = options.timeline
    if timeline is None:
        return {"emotion": options.emotion, "intensity": options.intensity}
    name = "timeline" if isinstance(timeline, Timeline) else Path(timeline).name
    return {"timeline": name, "intensity": options.intensity}


@dataclass(frozen=True, eq=False)
class Performance:
    """What a face shows at T times.

    Attributes
    ----------
    speech : Motion
        Of the speech alone.
    emotional : Motion
        The same with its emotion.
    shown : Motion
        The same with brows and lids.
    head : (T, 3, 3) or None
        Rotations of the head; None if it does not move.
    gaze : (T, 2) or None
        Pitch and yaw of the eyes in radians; None if they do not move.
    arkit : (T, 52)
        Weights in [0, 1] of all that.
    """

    speech: Motion
    emotional: Motion
    shown: Motion
    head: np.ndarray | None
    gaze: np.ndarray | None
    arkit: np.ndarray


class FaceActor:
    """Turns the motion of speech into frames of a bound mesh, one chunk after the other.

    Parameters
    ----------
    models : Models
        The networks and the canonical face.
    binding : Binding
        The mesh.
    plan : ActingPlan
        How the face acts.
    page_emotions : iterable of str
        Emotions whose effect on the motion the frames carry as well, see `Frames.moods`.

    Raises
    ------
    InputError
        The speaking style is unknown.
    """

    def __init__(
        self,
        models: Models,
        binding: Binding,
        plan: ActingPlan,
        page_emotions: Iterable[str] = (),
    ):
        models.talking.style(plan.options.style)
        if isinstance(plan.emotions, AutoEmotion):
            plan = replace(plan, emotions=plan.emotions.listening(models))
        face, seed = models.face, plan.options.seed
        self.models, self.binding, self.plan = models, binding, plan
        self.lip_contact = LipContact(face, binding.lip_gap)
        amount = plan.liveliness
        self.liveliness = Liveliness(face, seed, amount)
        self.blinking = Blinking(face, plan.blinks_per_minute, seed)
        self.head_motion, self.eye_motion = HeadMotion(seed, amount), Gaze(seed)
        self.brows, self.mouth_sides = Brows(face, seed, amount), MouthSides(face, seed, amount)
        self.laughter, self.lip_parting = (
            Laughter(face, seed, amount),
            LipParting(face, seed, amount),
        )
        self.prosody: Prosody | None = None
        self.page_liveliness = {name: Liveliness(face, seed, amount) for name in page_emotions}

    @property
    def emotional(self) -> bool:
        """Whether any emotion but neutral occurs."""
        return bool(self.plan.emotions.shown[1:].any())

    @property
    def meta(self) -> dict[str, Any]:
        """Metadata of an animation, without its audio."""
        weights = {"set": self.models.name, "talking": self.models.talking.settings.get("steps")}
        if self.emotional:
            weights["emotion"] = self.models.emotion.settings.get("iterations")
        return {
            "talkemo": __version__,
            "mesh": self.binding.mesh.name,
            **self.plan.meta,
            "weights": weights,
        }

    def listen(self, audio: AudioSource) -> AudioSource:
        """Return the same audio for the talking model; the face reacts to the voice in it."""
        if isinstance(self.plan.emotions, ListeningSource):
            audio = self.plan.emotions.listen(audio)
        self.prosody = Prosody(audio)
        return self.prosody

    def perform(self, speech: Motion) -> Performance:
        """Return what the face shows while it says the next motion of speech."""
        plan, face, times = self.plan, self.models.face, speech.times
        voice = Voice.unknown(times) if self.prosody is None else self.prosody.until(times)
        speech = self._lively_speech(articulated(speech, plan.options.articulation, face), voice)
        speech = self.lip_contact(speech, speech)
        emotional, amounts = self._emotional(speech, voice)
        head = self.head_motion.rotations(times, voice) if plan.head_moves else None
        gaze = self.eye_motion.angles(times, head, voice) if plan.eyes_move else None
        lively, lids = emotional, np.float32(0)
        if plan.face_lives:
            lively = self._with_gestures(emotional, voice, np.minimum(amounts.sum(1), 1))
            lids = lids if gaze is None else plan.liveliness * lids_of_gaze(face, gaze)
        shown = self.blinking.add(replace(lively, coordinates=lively.coordinates + lids), voice)
        # The weights of the gaze contain its lids.
        arkit = replace(shown, coordinates=shown.coordinates - lids).arkit(face)
        if gaze is not None:
            arkit = weights_with_gaze(arkit, gaze)
        arkit = weights_with_blinks(arkit, shown, face)
        return Performance(speech, emotional, shown, head, gaze, arkit)

    def _lively_speech(self, speech: Motion, voice: Voice) -> Motion:
        """Return speech that leaves brows and lids alone, and whose sides differ."""
        if not self.plan.face_lives:
            return speech
        return self.mouth_sides.add(self.brows.without_learned(speech), voice)

    def _with_gestures(self, motion: Motion, voice: Voice, emotion: np.ndarray) -> Motion:
        """Return a motion with brows that live, and with what the voice does between its words.

        `emotion` (T,) is the strength of the emotion, 0 to 1.
        """
        motion = self.brows.add(motion, voice, emotion)
        motion = self.laughter.add(motion, voice, emotion)
        return self.lip_parting.add(motion, voice)

    def _emotional(self, speech: Motion, voice: Voice) -> tuple[Motion, np.ndarray]:
        """Return a motion of speech with its emotion, and the amounts (T, 8) of the emotions."""
        amounts = np.array(self.plan.emotions.amounts(speech.times))
        amounts[:, NEUTRAL_INDEX] = 0
        if not self.emotional:
            return speech, amounts
        if self.plan.face_lives:
            self.liveliness.hear(voice)
            amounts = self.liveliness.amounts(speech, amounts)
        motion = self._transferred(speech, amounts)
        if self.plan.face_lives:
            motion = self.liveliness.drift(motion, amounts)
        return self.lip_contact(motion, speech), amounts

    def _transferred(self, speech: Motion, amounts: np.ndarray) -> Motion:
        """Return a motion of speech with amounts (T or 1, 8) of emotions."""
        return with_emotion(self.models.emotion, speech, amounts, self.models.face)

    def __call__(self, speech: Motion) -> tuple[Motion, Frames]:
        """Return the next motion of speech with emotion and blinks, and its frames."""
        shown = self.perform(speech)
        vertices = self.binding.shown.vertices(shown.shown.coordinates)
        frames = Frames(
            vertices,
            vertices[:, self.binding.landmarks68],
            shown.arkit,
            shown.head,
            shown.gaze,
            shown.shown.coordinates,
            speech=shown.speech.coordinates,
            emotion=shown.emotional.coordinates - shown.speech.coordinates,
        )
        if self.page_liveliness:
            frames = self._with_page_emotions(frames, shown)
        return shown.shown, frames

    def _with_page_emotions(self, frames: Frames, performance: Performance) -> Frames:
        """Add the offsets of each emotion.

        For a constant emotion, store the neutral coordinates, so that the viewer can add the
        emotion itself.
        """
        speech, emotional, moods = performance.speech, performance.emotional, {}
        for name, liveliness in self.page_liveliness.items():
            amounts = one_hot(name)[None]
            if self.plan.face_lives:
                amounts = liveliness.amounts(speech, amounts)
            with_emotion = self.lip_contact(self._transferred(speech, amounts), speech)
            moods[name] = with_emotion.coordinates - speech.coordinates
        base = speech if self.plan.is_constant else emotional
        added = performance.shown.coordinates - emotional.coordinates
        return replace(frames, coordinates=base.coordinates + added, moods=moods)


ONE_SKIN = "lips_are_one_skin"  # in the metadata of a mesh whose lips other outputs cut


def bound_header(
    binding: Binding,
    frames: int,
    fps: float,
    meta: dict[str, Any],
    turn: MeshTurner | None = None,
    unit: str = AUTO_UNIT,
) -> Header:
    """Return the header of an animation of a bound mesh.

    `turn` rotates head and eyes of the mesh that is drawn, `binding.shown`; `unit` is one of
    UNIT_CHOICES, see `unit_of_mesh`.
    """
    if binding.cut is not None:
        own_turn = None if turn is None else HeadTurner(binding)
        uncut, closed = replace(binding, cut=None), {**meta, ONE_SKIN: True}
        own = bound_header(uncut, frames, fps, closed, own_turn, unit)
        own = replace(own, added=lambda: _added_meshes(uncut, mouth=False))
        return replace(bound_header(binding.shown, frames, fps, meta, turn, unit), own=own)
    mesh, length_unit = binding.mesh, unit_of_mesh(unit, binding.scale)
    return Header(
        frames=frames,
        fps=fps,
        faces=mesh.faces,
        rest=binding.rest,
        focus=binding.focus,
        facing=binding.placement.rotation.round(6),
        meta={**meta, "unit": length_unit.name},
        targets=binding.arkit_targets,
        attributes=mesh.attributes,
        appearance=lambda fill: _appearance(binding, fill),
        added=lambda: _added_meshes(binding),
        basis=binding.basis,
        bite=lambda: binding.bite,
        turn=turn,
        unit=length_unit,
        canonical=binding.face,
        origin=mesh.origin,
    )


# What draws is loaded when it is used: an npz does not need the libraries that compile it.


def _appearance(binding: Binding, fill: bool) -> Appearance:
    from ..render.appearance import appearance_of

    return appearance_of(binding, fill)


def _added_meshes(binding: Binding, mouth: bool = True) -> AddedMeshes:
    from ..render.added_parts import added_meshes, without_mouth

    added = added_meshes(binding)
    return added if mouth else without_mouth(added)
