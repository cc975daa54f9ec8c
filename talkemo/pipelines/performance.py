"""What animate, stream and live share: from the motion of speech to frames of a face that shows an emotion and is alive."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from .. import __version__
from ..binding import Binding
from ..expression.blinking import Blinking, blink_rate
from ..expression.emotions import EMOTIONS, Timeline, one_hot
from ..expression.head_motion import Gaze, HeadMotion, weights_with_gaze
from ..expression.liveliness import Liveliness
from ..face.motion import Motion
from ..formats.animation import Frames, Header
from ..weights.models import Models
from .outputs import PathLike, check_mode

# A page has every emotion, for its viewer to mix.
MOODS = tuple(name for name in EMOTIONS if name != "neutral")


@dataclass(frozen=True)
class ActingSettings:
    """How a face speaks. course: of its emotions; style: None for the default; blinks: a minute; meta: of an animation"""

    course: Timeline
    style: str | None
    seed: int
    blinks: float
    head: bool
    gaze: bool
    meta: dict[str, Any]

    @classmethod
    def of(
        cls,
        emotion: str,
        intensity: float,
        timeline: PathLike | Timeline | None,
        style: str | None,
        seed: int,
        blink: str | float,
        head: str,
        gaze: str,
    ) -> ActingSettings:
        """From the options of `animate`. Raises InputError for anything unknown."""
        course, rate = make_timeline(emotion, intensity, timeline), blink_rate(blink)
        meta = {
            **emotion_meta(emotion, intensity, timeline),
            "style": style or "default",
            "seed": seed,
            "blinks_a_minute": rate,
            "head": head,
            "gaze": gaze,
        }
        moves, looks = check_mode(head, "head motion"), check_mode(gaze, "gaze")
        return cls(course, style, seed, rate, moves, looks, meta)


def make_timeline(emotion: str, intensity: float, timeline: PathLike | Timeline | None) -> Timeline:
    """A timeline, or one emotion throughout, scaled by an intensity."""
    if timeline is None:
        return Timeline.constant(emotion, intensity)
    return (timeline if isinstance(timeline, Timeline) else Timeline.read(timeline)).scaled(
        intensity
    )


def emotion_meta(
    emotion: str, intensity: float, timeline: PathLike | Timeline | None
) -> dict[str, Any]:
    """What an animation's metadata says of its emotion."""
    if timeline is None:
        return {"emotion": emotion, "intensity": intensity}
    return {
        "timeline": Path(timeline).name if isinstance(timeline, str | Path) else "timeline",
        "intensity": intensity,
    }


def weights_meta(models: Models, emotional: bool) -> dict[str, Any]:
    """What an animation's metadata says of its weights."""
    meta = {"set": models.name, "talking": models.talking.settings.get("steps")}
    return {**meta, "emotion": models.emotion.settings.get("iterations")} if emotional else meta


class Performer:
    """Makes frames of a bound mesh from the motion of speech, part by part.

    moods: emotions whose change of the motion the frames have besides, see `Frames.moods`
    """

    def __init__(
        self, models: Models, binding: Binding, manner: ActingSettings, moods: Iterable[str] = ()
    ):
        face, seed = models.face, manner.seed
        self.binding, self.manner = binding, manner
        self.models = models
        self.life, self.blinking = Liveliness(face, seed), Blinking(face, manner.blinks, seed)
        self.turning, self.looking = HeadMotion(seed), Gaze(seed)
        self.lives = {name: Liveliness(face, seed) for name in moods}

    @property
    def emotional(self) -> bool:
        """Whether any emotion but neutral is shown."""
        return bool(self.manner.course.shown[1:].any())

    @property
    def meta(self) -> dict[str, Any]:
        """Metadata of an animation, but for its sound."""
        weights = weights_meta(self.models, self.emotional)
        return {
            "talkemo": __version__,
            "mesh": self.binding.mesh.name,
            **self.manner.meta,
            "weights": weights,
        }

    def shown(self, plain: Motion) -> tuple[Motion, Motion]:
        """The next motion of speech with its emotion, and that with blinks."""
        motion = plain
        if self.emotional:
            amounts = self.life.amounts(motion, self.manner.course.amounts(motion.times))
            motion = self.life.drift(self.models.emotion.transfer(motion, amounts), amounts)
        return motion, self.blinking.add(motion)

    def turns(self, motion: Motion) -> tuple[np.ndarray | None, np.ndarray | None, np.ndarray]:
        """Of a motion that is shown the rotations of its head, its gaze and its ARKit weights, see `Frames`."""
        head = self.turning.rotations(motion.times) if self.manner.head else None
        gaze = self.looking.angles(motion.times, head) if self.manner.gaze else None
        arkit = motion.arkit(self.binding.face)
        return head, gaze, arkit if gaze is None else weights_with_gaze(arkit, gaze)

    def __call__(self, plain: Motion) -> tuple[Motion, Frames]:
        """The next motion of speech, as it is shown, and its frames."""
        motion, shown = self.shown(plain)
        head, gaze, arkit = self.turns(shown)
        vertices = self.binding.vertices(shown.coordinates)
        frames = Frames(
            vertices, vertices[:, self.binding.landmarks68], arkit, head, gaze, shown.coordinates
        )
        return shown, self._with_moods(frames, plain, motion, shown) if self.lives else frames

    def _with_moods(self, frames: Frames, plain: Motion, motion: Motion, shown: Motion) -> Frames:
        """Frames whose coordinates are those without an emotion, as long as one is asked for and not a timeline."""
        transfer = self.models.emotion.transfer
        moods = {
            name: transfer(plain, alive.amounts(plain, one_hot(name)[None])).coordinates
            - plain.coordinates
            for name, alive in self.lives.items()
        }
        own = motion if "timeline" in self.manner.meta else plain
        return replace(
            frames,
            coordinates=own.coordinates + shown.coordinates - motion.coordinates,
            moods=moods,
        )


def bound_header(binding: Binding, frames: int, fps: float, meta: dict[str, Any]) -> Header:
    """The header of an animation of a bound mesh."""
    from ..render.appearance import appearance_of

    mesh = binding.mesh
    return Header(
        frames=frames,
        fps=fps,
        faces=mesh.faces,
        rest=binding.rest,
        focus=binding.focus,
        facing=binding.placement.rotation.round(6),
        meta=meta,
        targets=binding.arkit_targets,
        attributes=mesh.attributes,
        appearance=lambda: appearance_of(binding),
        basis=binding.basis,
    )


def bound_frames(binding: Binding, motion: Motion, vertices: np.ndarray) -> Frames:
    """Frames of a bound mesh whose vertices (T, N, 3) show a motion."""
    landmarks, arkit = vertices[:, binding.landmarks68], motion.arkit(binding.face)
    return Frames(vertices, landmarks, arkit, coordinates=motion.coordinates)
