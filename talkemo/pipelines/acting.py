"""From the motion of speech to frames of a face that shows an emotion, blinks and moves its head.

Shared by `animate`, `stream` and `live`.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from .. import __version__
from ..binding import Binding
from ..binding.head_turner import HeadTurner
from ..expression.articulation import articulated
from ..expression.blinking import Blinking, blink_rate
from ..expression.emotions import EMOTIONS, Timeline, one_hot
from ..expression.head_motion import Gaze, HeadMotion, weights_with_gaze
from ..expression.lip_contact import LipContact
from ..expression.liveliness import Liveliness
from ..face.motion import Motion
from ..formats.animation import Frames, Header, MeshTurner
from ..formats.units import AUTO_UNIT, unit_of_mesh
from ..weights.models import Models
from .options import ActingOptions, EmotionOptions
from .outputs import check_mode

# A page stores the effect of each of these emotions, so that its viewer can mix them.
PAGE_EMOTIONS = tuple(name for name in EMOTIONS if name != "neutral")


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

    @classmethod
    def of(cls, options: ActingOptions) -> ActingPlan:
        """Check the options and read the timeline. Raises InputError for an unknown value."""
        return cls(
            options,
            timeline_of(options),
            blink_rate(options.blink),
            check_mode(options.head, "head motion"),
            check_mode(options.gaze, "gaze"),
        )

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
        }


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


def emotion_meta(options: EmotionOptions) -> dict[str, Any]:
    """Return the metadata of an animation about its emotion."""
    timeline = options.timeline
    if timeline is None:
        return {"emotion": options.emotion, "intensity": options.intensity}
    name = "timeline" if isinstance(timeline, Timeline) else Path(timeline).name
    return {"timeline": name, "intensity": options.intensity}


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
        face, seed = models.face, plan.options.seed
        self.models, self.binding, self.plan = models, binding, plan
        self.lip_contact = LipContact(face, binding.lip_gap)
        self.liveliness = Liveliness(face, seed)
        self.blinking = Blinking(face, plan.blinks_per_minute, seed)
        self.head_motion, self.eye_motion = HeadMotion(seed), Gaze(seed)
        self.page_liveliness = {name: Liveliness(face, seed) for name in page_emotions}

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

    def articulated(self, speech: Motion) -> Motion:
        """Return the motion of speech as widely as the options ask for; its closed lips meet."""
        speech = articulated(speech, self.plan.options.articulation, self.models.face)
        return self.lip_contact(speech, speech)

    def expressive(self, speech: Motion) -> tuple[Motion, Motion]:
        """Return the motion of speech with its emotion, and the same with blinks."""
        motion = speech
        if self.emotional:
            wanted = self.plan.emotions.amounts(motion.times)
            amounts = self.liveliness.amounts(motion, wanted)
            motion = self.models.emotion.transfer(motion, amounts)
            motion = self.lip_contact(self.liveliness.drift(motion, amounts), speech)
        return motion, self.blinking.add(motion)

    def head_and_eyes(
        self, motion: Motion
    ) -> tuple[np.ndarray | None, np.ndarray | None, np.ndarray]:
        """Return head rotations, gaze and ARKit weights of a motion.

        Returns
        -------
        head : (T, 3, 3) or None
            None if the head does not move.
        gaze : (T, 2) or None
            Pitch and yaw in radians; None if the eyes do not move.
        arkit : (T, 52)
            Weights in [0, 1].
        """
        plan = self.plan
        head = self.head_motion.rotations(motion.times) if plan.head_moves else None
        gaze = self.eye_motion.angles(motion.times, head) if plan.eyes_move else None
        arkit = motion.arkit(self.binding.face)
        return head, gaze, arkit if gaze is None else weights_with_gaze(arkit, gaze)

    def __call__(self, speech: Motion) -> tuple[Motion, Frames]:
        """Return the next motion of speech with emotion and blinks, and its frames."""
        speech = self.articulated(speech)
        motion, blinking = self.expressive(speech)
        head, gaze, arkit = self.head_and_eyes(blinking)
        vertices = self.binding.shown.vertices(blinking.coordinates)
        landmarks = vertices[:, self.binding.landmarks68]
        frames = Frames(
            vertices,
            landmarks,
            arkit,
            head,
            gaze,
            blinking.coordinates,
            speech=speech.coordinates,
            emotion=motion.coordinates - speech.coordinates,
        )
        if self.page_liveliness:
            frames = self._with_page_emotions(frames, speech, motion, blinking)
        return blinking, frames

    def _with_page_emotions(
        self, frames: Frames, speech: Motion, motion: Motion, blinking: Motion
    ) -> Frames:
        """Add the offsets of each emotion.

        For a constant emotion, store the neutral coordinates, so that the viewer can add the
        emotion itself.
        """
        moods = {}
        for name, liveliness in self.page_liveliness.items():
            amounts = liveliness.amounts(speech, one_hot(name)[None])
            emotional = self.lip_contact(self.models.emotion.transfer(speech, amounts), speech)
            moods[name] = emotional.coordinates - speech.coordinates
        base = speech if self.plan.options.timeline is None else motion
        coordinates = base.coordinates + blinking.coordinates - motion.coordinates
        return replace(frames, coordinates=coordinates, moods=moods)


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
        own = bound_header(replace(binding, cut=None), frames, fps, meta, own_turn, unit)
        return replace(bound_header(binding.shown, frames, fps, meta, turn, unit), own=own)
    from ..render.appearance import appearance_of

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
        appearance=lambda: appearance_of(binding),
        basis=binding.basis,
        turn=turn,
        unit=length_unit,
        canonical=binding.face,
    )
