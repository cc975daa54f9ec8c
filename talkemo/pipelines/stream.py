"""Frames as the sound comes: the same as `animate` makes of the whole of it, a fixed time after the sound."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import IO

import numpy as np

from ..audio.pipe import AudioStream, open_pipe
from ..audio.recording import STANDARD_INPUT, Audio, audio_of_samples, open_audio
from ..binding import Binding, FaceHint
from ..expression.emotions import Timeline
from ..face.canonical import ARKIT_NAMES
from ..face.motion import Motion, in_parts
from ..formats.frame_lines import json_lines, stream_header, vertex_bytes
from ..formats.mesh_types import Mesh
from ..weights.models import Models, load_models
from ..weights.registry import DEFAULT_SET
from .bind import bind
from .outputs import PathLike, check_fps, frame_count
from .performance import ActingSettings, Performer

PIECE = 0.04  # s of sound that are encoded, and of frames that come, at a time


@dataclass(frozen=True, eq=False)
class Chunk:
    """Consecutive frames of a stream.

    times: (T,) s; coordinates: (T, S) of the canonical face's motion
    arkit: (T, 52) float32 in [0, 1], in the order of `Stream.names`
    head: (T, 3, 3), the head's rotation; gaze: (T, 2), pitch and yaw of the eyes in radians; None where they do not move
    binding: of the mesh
    """

    times: np.ndarray
    coordinates: np.ndarray
    arkit: np.ndarray
    head: np.ndarray | None
    gaze: np.ndarray | None
    binding: Binding

    def __len__(self) -> int:
        return len(self.times)

    @cached_property
    def vertices(self) -> np.ndarray:
        """Vertices (T, N, 3) float32 of the mesh, whose head stays; made when they are first asked for."""
        return self.binding.vertices(self.coordinates)

    @property
    def landmarks68(self) -> np.ndarray:
        """The iBUG points (T, 68, 3) on it."""
        return self.vertices[:, self.binding.landmarks68]


@dataclass(eq=False)
class Stream:
    """What `stream` returns: an iterator over chunks, once.

    fps: frames a second; binding: of the mesh; performer: what makes its frames
    """

    sound: Audio | AudioStream
    fps: float
    performer: Performer
    names = ARKIT_NAMES

    @property
    def binding(self) -> Binding:
        """The mesh and its face."""
        return self.performer.binding

    @property
    def latency(self) -> float:
        """How long a frame comes after its sound at most, s, besides the time that computing takes.

        Features of speech depend on what is said next, and sound and frames come in pieces.
        """
        return self.performer.models.talking.ahead + PIECE + self.frames_at_a_time / self.fps

    @property
    def frames_at_a_time(self) -> int:
        """The frames of a chunk."""
        return max(1, int(PIECE * self.fps))

    def __iter__(self) -> Iterator[Chunk]:
        talking, style = self.performer.models.talking, self.performer.manner.style
        for motion in talking.stream(self.sound, self._times(), style, PIECE):
            part = self._heard(motion)
            if not len(part):
                return
            _, shown = self.performer.shown(part)
            head, gaze, arkit = self.performer.turns(shown)
            yield Chunk(shown.times, shown.coordinates, arkit, head, gaze, self.binding)

    def write(self, file: IO[bytes], form: str = "jsonl") -> int:
        """Write the frames to a file or a pipe as they come; returns how many there were.

        form: jsonl or vertices, see `formats.frame_lines`
        """
        lines = form == "jsonl"
        shown = {"names": list(self.names)} if lines else {"vertices": len(self.binding.rest)}
        file.write(stream_header(self.fps, self.latency, shown))
        file.flush()
        count = 0
        for chunk in self:
            turned = (chunk.arkit, chunk.head, chunk.gaze)
            file.write(
                json_lines(chunk.times, *turned)
                if lines
                else vertex_bytes(chunk.times, chunk.vertices)
            )
            file.flush()
            count += len(chunk)
        return count

    def _times(self) -> Iterator[np.ndarray]:
        """The times of all frames, in parts; without an end as long as the sound has none."""
        size = self.frames_at_a_time
        if isinstance(self.sound, Audio):
            yield from in_parts(
                np.arange(frame_count(self.sound.duration, self.fps)) / self.fps, size
            )
            return
        start = 0
        while True:
            yield np.arange(start, start + size) / self.fps
            start += size

    def _heard(self, motion: Motion) -> Motion:
        """What of a motion is not after the end of the sound."""
        if isinstance(self.sound, Audio) or not self.sound.ended:
            return motion
        first = round(float(motion.times[0]) * self.fps)
        count = max(0, frame_count(self.sound.seconds, self.fps) - first)
        loudness = None if motion.loudness is None else motion.loudness[:count]
        return Motion(motion.times[:count], motion.coordinates[:count], loudness)


def stream(
    mesh: PathLike | Mesh | tuple[np.ndarray, np.ndarray] | Binding,
    audio: PathLike | tuple[Iterable[np.ndarray] | np.ndarray, int] | Audio | AudioStream,
    *,
    emotion: str = "neutral",
    intensity: float = 1.0,
    timeline: PathLike | Timeline | None = None,
    style: str | None = None,
    seed: int = 0,
    blink: str | float = "auto",
    head: str = "auto",
    gaze: str = "auto",
    fps: float = 60.0,
    raw: int | None = None,
    hint: FaceHint | None = None,
    weights: PathLike = DEFAULT_SET,
    device: str = "auto",
    models: Models | None = None,
    cache: bool = True,
) -> Stream:
    """Make a face speak sound as it comes: an iterator over a few frames at a time, see `Chunk`.

        for chunk in talkemo.stream("face.obj", (microphone, 16000), emotion="happy"):
            send(chunk.times, chunk.arkit)

    The frames are those that `animate` makes of the same sound, `Stream.latency` seconds after it and less time than a
    computer needs for them.

    audio: a sound file; "-" for a wav that comes by standard input; (samples, rate in Hz), where samples are an array, or
        an iterable of arrays (N,) or (N, channels) that come one after the other; or what `open_audio` returned
    raw: samples a second of standard input that comes as 16-bit mono samples without a header
    mesh and all others: see `animate`
    Raises InputError for anything unusable, before the first frame as far as that is known by then.
    """
    manner = ActingSettings.of(emotion, intensity, timeline, style, seed, blink, head, gaze)
    check_fps(fps)
    models = models or load_models(weights, device=device)
    binding = (
        mesh
        if isinstance(mesh, Binding)
        else bind(mesh, hint=hint or FaceHint(), models=models, cache=cache)
    )
    models.talking.style(style)
    performer = Performer(models, binding, manner)
    return Stream(sound_of(audio, raw), fps, performer)


def sound_of(
    audio: PathLike | tuple[Iterable[np.ndarray] | np.ndarray, int] | Audio | AudioStream,
    raw: int | None,
) -> Audio | AudioStream:
    """What `stream` takes for sound, as a recording or as sound that comes."""
    if isinstance(audio, Audio | AudioStream):
        return audio
    if isinstance(audio, tuple):
        samples, rate = audio
        return (
            audio_of_samples(samples, rate)
            if isinstance(samples, np.ndarray)
            else AudioStream(samples, rate)
        )
    if str(audio) != STANDARD_INPUT:
        return open_audio(audio)
    return open_pipe(sys.stdin.buffer, raw)
