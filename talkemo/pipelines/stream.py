"""Streaming: the frames of `animate`, computed while the audio is still arriving."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from functools import cached_property
from typing import IO, TYPE_CHECKING, Any

import numpy as np

from ..audio.pipe import AudioStream, open_pipe
from ..audio.prosody import PROSODY_DELAY_S
from ..audio.recording import (
    STANDARD_INPUT,
    Audio,
    audio_of_samples,
    open_audio,
    standard_input,
)
from ..binding import Binding
from ..binding.own_shapes import OwnShapeFit
from ..face.canonical import ARKIT_NAMES
from ..face.motion import Motion, split_times
from ..formats.frame_lines import json_lines, stream_header, vertex_bytes
from ..formats.mesh_types import Mesh
from ..formats.target_names import OWN_CURVES
from ..options import with_keywords
from ..weights.models import Models, load_models
from .acting import ActingPlan, FaceActor, ListeningSource, timeline_notes
from .bind import bind
from .hearing import ListeningEmotion
from .options import PathLike, StreamKeywords, StreamOptions
from .outputs import frame_count
from .own_targets import own_shapes
from .target_checks import check_choice

if TYPE_CHECKING:
    from typing_extensions import Unpack

STREAM_CHUNK_S = 0.04  # s of audio that are encoded, and of frames that are returned, at a time
StreamInput = PathLike | tuple[Iterable[np.ndarray] | np.ndarray, int] | Audio | AudioStream


@dataclass(frozen=True, eq=False)
class Chunk:
    """Consecutive frames of a stream."""

    times: np.ndarray  # (T,) s
    coordinates: np.ndarray  # (T, S) of the canonical face's motion
    arkit: np.ndarray  # (T, 52) float32 in [0, 1], in the order of `Stream.names`
    head: np.ndarray | None  # (T, 3, 3) rotations; None if the head does not move
    gaze: np.ndarray | None  # (T, 2) pitch and yaw in radians; None if the eyes do not move
    binding: Binding  # of the mesh
    speech: np.ndarray | None = None  # (T, S) coordinates of the speech alone
    emotion: np.ndarray | None = None  # (T, S), what the emotion adds to them
    own: np.ndarray | None = None  # (T, K) of the character's own shapes, see `Stream.own_names`

    def __len__(self) -> int:
        return len(self.times)

    @cached_property
    def vertices(self) -> np.ndarray:
        """Vertices (T, N, 3) float32 of the mesh without the head's rotation; made on demand."""
        return self.binding.vertices(self.coordinates)

    @property
    def landmarks68(self) -> np.ndarray:
        """The iBUG landmarks (T, 68, 3) on these vertices."""
        return self.vertices[:, self.binding.landmarks68]


@dataclass(eq=False)
class Stream:
    """What `stream` returns: an iterator over chunks, which runs once."""

    audio: Audio | AudioStream
    fps: float
    performer: FaceActor
    own: OwnShapeFit | None = None  # computes the weights of the character's own shapes
    targets: str = "auto"  # as asked for, one of TARGET_CHOICES
    target_notes: list[str] = field(default_factory=list)  # which shapes are driven
    names = ARKIT_NAMES

    @property
    def own_names(self) -> tuple[str, ...]:
        """Names of the character's own shapes that are driven; () if none are."""
        return () if self.own is None else self.own.names

    @property
    def binding(self) -> Binding:
        """The mesh and its face."""
        return self.performer.binding

    @property
    def notes(self) -> list[str]:
        """What was odd about audio and mesh up to now, and the terms of weights of another set."""
        licences = self.performer.models.licence_notes(
            "talking", "emotion", *(("voice",) if self.heard else ())
        )
        plan, audio = self.performer.plan, self.audio
        known = audio.duration if isinstance(audio, Audio) else audio.seconds
        ended = isinstance(audio, Audio) or audio.ended
        odd = timeline_notes(plan.options, plan.emotions, known if ended else None)
        return [*odd, *audio.notes, *self.binding.mesh.notes, *self.target_notes, *licences]

    @property
    def heard(self) -> dict[str, Any]:
        """The emotion of the voice up to now, if it is read from it, on average; empty if not."""
        emotions = self.performer.plan.emotions
        return emotions.as_json() if isinstance(emotions, ListeningEmotion) else {}

    @property
    def latency(self) -> float:
        """Upper bound in s of a frame's delay after its audio, without the time of computation.

        It consists of the look-ahead of the speech encoder or of the prosody, whichever is longer,
        one chunk of audio and one of frames.
        """
        emotions = self.performer.plan.emotions
        heard_s = emotions.lookahead_s if isinstance(emotions, ListeningSource) else 0.0
        return stream_latency(self.performer.models, self.fps, heard_s)

    @property
    def frames_per_chunk(self) -> int:
        """Frames of a chunk."""
        return chunk_frames(self.fps)

    def __iter__(self) -> Iterator[Chunk]:
        performer = self.performer
        talking, style = performer.models.talking, performer.plan.options.style
        heard = performer.listen(self.audio)
        for motion in talking.stream(heard, self._times(), style, STREAM_CHUNK_S):
            speech = self._within_audio(motion)
            if not len(speech):
                return
            act = performer.perform(speech)
            own = (
                None if self.own is None else self.own.weights_of(act.arkit, act.shown.coordinates)
            )
            yield Chunk(
                speech.times,
                act.shown.coordinates,
                act.arkit,
                act.head,
                act.gaze,
                self.binding,
                act.speech.coordinates,
                act.emotional.coordinates - act.speech.coordinates,
                own,
            )

    def write(self, file: IO[bytes], form: str = "jsonl") -> int:
        """Write frames to a file or a pipe as they come.

        Parameters
        ----------
        file : binary file
            It is flushed after each chunk.
        form : str
            jsonl or vertices, see `formats.frame_lines`.

        Returns
        -------
        int
            Number of frames.
        """
        as_lines = form == "jsonl"
        content = self._names_of_lines() if as_lines else {"vertices": len(self.binding.rest)}
        file.write(stream_header(self.fps, self.latency, content))
        file.flush()
        count = 0
        for chunk in self:
            if as_lines:
                weights = self._weights_of_lines(chunk)
                file.write(json_lines(chunk.times, weights, chunk.head, chunk.gaze))
            else:
                file.write(vertex_bytes(chunk.times, chunk.vertices))
            file.flush()
            count += len(chunk)
        return count

    def _names_of_lines(self) -> dict[str, Any]:
        """Names of the weights in lines of JSON: ARKit's, the character's own, or both."""
        names: dict[str, Any] = {}
        if self.targets != OWN_CURVES:
            names["names"] = list(self.names)
        if self.own is not None:
            names["own_names"] = list(self.own_names)
        return names

    def _weights_of_lines(self, chunk: Chunk) -> dict[str, np.ndarray]:
        """Weights (T, C) of a chunk by their keys in lines of JSON."""
        weights = {} if self.targets == OWN_CURVES else {"arkit": chunk.arkit}
        return weights if chunk.own is None else {**weights, OWN_CURVES: chunk.own}

    def _times(self) -> Iterator[np.ndarray]:
        """Times of all frames, in chunks; endless for audio whose length is not known."""
        size = self.frames_per_chunk
        if isinstance(self.audio, Audio):
            count = frame_count(self.audio.duration, self.fps)
            yield from split_times(np.arange(count) / self.fps, size)
            return
        start = 0
        while True:
            yield np.arange(start, start + size) / self.fps
            start += size

    def _within_audio(self, motion: Motion) -> Motion:
        """The frames of a motion up to the end of the audio."""
        if isinstance(self.audio, Audio) or not self.audio.ended:
            return motion
        first = round(float(motion.times[0]) * self.fps)
        count = max(0, frame_count(self.audio.seconds, self.fps) - first)
        loudness = None if motion.loudness is None else motion.loudness[:count]
        return Motion(motion.times[:count], motion.coordinates[:count], loudness)


def chunk_frames(fps: float) -> int:
    """Return the number of frames that are returned at a time."""
    return max(1, int(STREAM_CHUNK_S * fps))


def stream_latency(models: Models, fps: float, heard_s: float = 0.0) -> float:
    """Return `Stream.latency` of streams with these models and frame rate.

    `heard_s` is the look-ahead of an emotion that is read from the voice.
    """
    lookahead = max(models.talking.lookahead_s, PROSODY_DELAY_S, heard_s)
    return lookahead + STREAM_CHUNK_S + chunk_frames(fps) / fps


def stream(
    mesh: PathLike | Mesh | tuple[np.ndarray, np.ndarray] | Binding,
    audio: StreamInput,
    options: StreamOptions | None = None,
    *,
    models: Models | None = None,
    **keywords: Unpack[StreamKeywords],
) -> Stream:
    """Animate a face while the audio is still arriving; iterate over a few frames at a time.

        for chunk in talkemo.stream("face.obj", (microphone, 16000), emotion="happy"):
            send(chunk.times, chunk.arkit)

    The frames are those that `animate` makes of the same audio. They come `Stream.latency` seconds
    after it, and the time of computation.

    Parameters
    ----------
    mesh
        As in `animate`.
    audio : path, "-", (samples, rate), Audio or AudioStream
        An audio file; "-" for a wav from standard input; `samples`, an array or an iterable of
        arrays (N,) or (N, channels), and their rate in Hz; or what `open_audio` returned.
    options : StreamOptions, optional
        All options in one object.
    models : Models, optional
        What `load_models` returned, instead of `weights` and `device`.
    **keywords
        Fields of StreamOptions, which replace those of `options`: those of `animate` without
        `export`, and `raw`, the rate in Hz of standard input that is 16-bit mono samples without a
        header.

    Raises
    ------
    InputError
        Anything unusable; before the first frame as far as it is known by then.
    """
    options = with_keywords(options or StreamOptions(), keywords)
    plan = ActingPlan.of(options)
    check_choice(options.targets)
    models = models or load_models(options.weights, device=options.device)
    binding = bind(mesh, hint=options.hint, models=models, cache=options.cache)
    own, notes = own_shapes(binding, options.targets, options.shape_map)
    actor = FaceActor(models, binding, plan)
    source = _open(audio, options.raw)
    return Stream(source, options.fps, actor, own, options.targets, notes)


def _open(audio: StreamInput, raw: int | None) -> Audio | AudioStream:
    """Return any audio that `stream` accepts as a recording or a stream."""
    if isinstance(audio, Audio | AudioStream):
        return audio
    if isinstance(audio, tuple):
        samples, rate = audio
        if isinstance(samples, np.ndarray):
            return audio_of_samples(samples, rate)
        return AudioStream(samples, rate)
    if str(audio) == STANDARD_INPUT:
        return open_pipe(standard_input(), raw)
    return open_audio(audio)
